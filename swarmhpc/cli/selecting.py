"""Options that say which jobs are meant, the same for every command that takes some."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from swarmhpc.cli import output
from swarmhpc.errors import SwarmHpcError, UsageError

if TYPE_CHECKING:
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.jobs.select import Selection

MOST_UNASKED = 100

SomeIds = Annotated[list[str] | None, typer.Argument(help="Clusters like 12 or jobs like 12.0.", metavar="ID")]
AllMine = Annotated[bool, typer.Option("--all-mine", "--all", help="All jobs of mine.")]
State = Annotated[
    list[str] | None,
    typer.Option("--state", metavar="STATE", help="Only jobs in this state, such as FAILED or RUNNABLE; repeatable."),
]
Name = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Only jobs of this name (batch_name); NAME* as well.")
]
Constraint = Annotated[
    str, typer.Option("--constraint", metavar="EXPR", help="Only jobs for which this ClassAd expression is true.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show which jobs are meant; change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, however many jobs are meant.")]


def selection(
    ids: Sequence[str] | None, *, all_mine: bool, state: Sequence[str] | None, name: str, constraint: str, verb: str
) -> Selection:
    """The jobs that are meant, always one's own. Raises UsageError where nothing says which."""
    from swarmhpc.jobs.select import Selection

    if not (ids or all_mine or state or name or constraint):
        raise UsageError("no job is named", hint=f"swarmhpc {verb} 12, swarmhpc {verb} --all-mine --state FAILED")
    if ids and all_mine:
        raise UsageError("--all-mine goes without ids", hint=f"swarmhpc {verb} {' '.join(ids)}")
    return Selection(tuple(ids or ()), states=tuple(state or ()), name=name, constraint=constraint)


def meant(pool: Pool, selection: Selection, verb: str, *, yes: bool, dry_run: bool) -> tuple[str, Mapping[str, int]]:
    """The expression of the jobs that are meant, and how many there are by status. Asks a person before many are
    touched; prints what is meant for `dry_run`. Raises UsageError, PoolError."""
    from swarmhpc.adapters.job_ads import STATUS
    from swarmhpc.jobs.select import constraint_of

    text = constraint_of(pool, selection)
    counts: dict[str, int] = {}
    clusters: dict[int, int] = {}
    for ad, count in pool.counted(text, ["ClusterId", "JobStatus"]):
        word = STATUS.get(int(ad["JobStatus"]), "unknown")
        counts[word] = counts.get(word, 0) + count
        clusters[int(ad["ClusterId"])] = clusters.get(int(ad["ClusterId"]), 0) + count
    total = sum(counts.values())
    if dry_run:
        for cluster, count in sorted(clusters.items()):
            output.data(f"{cluster}: {count} {'job' if count == 1 else 'jobs'}")
        output.say(f"would {verb} {told(counts) if total else 'nothing'}; nothing is changed")
    elif total > MOST_UNASKED and not yes and sys.stdin.isatty():
        question = f"{verb} {total} jobs of {len(clusters)} {'cluster' if len(clusters) == 1 else 'clusters'}?"
        if not typer.confirm(question, err=True):
            raise SwarmHpcError("nothing is changed", hint="--yes does not ask")
    return text, counts


def told(counts: Mapping[str, int]) -> str:
    """`3 jobs (2 idle, 1 held)`."""
    total = sum(counts.values())
    words = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    return f"{total} {'job' if total == 1 else 'jobs'} ({words})"
