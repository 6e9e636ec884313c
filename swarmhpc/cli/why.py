"""`swarmhpc why`: why a job, or the jobs of a cluster, stand where they stand."""

from __future__ import annotations

import contextlib
import json as encoder
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmhpc.cli import output
from swarmhpc.cli.waiting import Json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from swarmhpc.context import Context
    from swarmhpc.jobs.explain import Reason

_UNKNOWN = ("token-refused", "access-point-down")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(why)


def why(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job like 12.0, or a cluster like 12.")],
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also what adds to the answer, and evidence.")
    ] = False,
    json: Json = False,
) -> None:
    """Say why a job, or the jobs of a cluster, wait, run, are held or have ended, and what helps.

    Exit code 1 where nobody could tell: the access point does not answer, or does not accept the token.
    """
    from swarmhpc.jobs import why as wing
    from swarmhpc.pool import Pool

    pool = Pool(context.obj)
    reasons = wing.why(pool.connection, job, swarm=lambda: _swarm(pool.context))
    if json:
        output.as_json([as_data(r) for r in reasons])
    else:
        for reason in reasons:
            if reason.main or verbose:
                output.show(lines(reason, verbose=verbose))
        _more(job, reasons, verbose=verbose)
    if reasons[0].code in _UNKNOWN:
        raise typer.Exit(1)


def as_data(r: Reason) -> dict[str, Any]:
    """A reason for --json."""
    return {**asdict(r), "hint": r.hint or None, "evidence": dict(r.evidence)}


def lines(r: Reason, *, verbose: bool) -> list[str]:
    """A reason as people read it: who, what, code; then what to type. A hold's words can be anything: no control
    characters reach the terminal."""
    from swarmhpc.cli.findings import printable

    who = r.id if r.count == 1 else f"{r.count} jobs such as {r.id}"
    also = "" if r.main else "also: "
    found = [f"{who}: {also}{r.message}   ({r.code})"]
    found += [f"  next: {r.hint}"] if r.hint else []
    if verbose:
        found += [f"  {name}: {_shown(value)}" for name, value in r.evidence.items() if value not in (None, "", [], {})]
    return [printable(line) for line in found]


def _shown(value: object) -> str:
    return value if isinstance(value, str) else encoder.dumps(value)


def _more(job: str, reasons: Sequence[Reason], *, verbose: bool) -> None:
    more = sum(not r.main for r in reasons)
    if more and not verbose:
        output.say(f"{more} more {'reason adds' if more == 1 else 'reasons add'} to it: swarmhpc why {job} --verbose")


def _swarm(context: Context) -> Mapping[str, tuple[str, ...]]:
    """Why executors can't be started, in Swarm's words, by class; only a manager of the Swarm can tell."""
    from swarmhpc.cluster import fleet as fleets
    from swarmhpc.cluster import status
    from swarmhpc.errors import SwarmHpcError

    with contextlib.suppress(SwarmHpcError), fleets.opened(context.managers) as fleet:
        engine = fleet.manager(context.pool)
        if engine is not None:
            return {c.name: c.trouble for c in status.observe(engine, context).classes if c.trouble}
    return {}
