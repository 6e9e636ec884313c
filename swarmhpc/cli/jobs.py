"""`swarmhpc wait` and `swarmhpc fetch`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from swarmhpc.cli import output, selecting
from swarmhpc.cli.queue_table import job_data
from swarmhpc.cli.selecting import AllMine, Constraint, Name, SomeIds, State
from swarmhpc.cli.waiting import Json, Timeout, connect, finish, jobs_word, result
from swarmhpc.errors import JobFailedError, UsageError


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(wait)
    app.command()(fetch)


def wait(
    context: typer.Context,
    ids: SomeIds = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="Wait for the others where a job has failed or is held.")
    ] = False,
    any_end: Annotated[bool, typer.Option("--any-end", help="Wait until any of the jobs has ended.")] = False,
    all_mine: AllMine = False,
    state: State = None,
    name: Name = "",
    constraint: Constraint = "",
    json: Json = False,
    timeout_s: Timeout = None,
) -> None:
    """Wait until jobs have ended. Exit code 1, at once, when one fails, is held or is removed."""
    from swarmhpc.jobs import select

    if keep_going and any_end:
        raise UsageError(
            "--any-end ends at the first, --keep-going at the last: wanted one of them", hint="swarmhpc wait"
        )
    chosen = selecting.selection(ids, all_mine=all_mine, state=state, name=name, constraint=constraint, verb="wait")
    pool, _person = connect(context)
    text = select.constraint_of(pool, chosen, gone_too=True)
    if state or constraint or name or all_mine:
        # Which jobs these are changes while we wait: those that they are now.
        found = pool.job_ads(text, ["ClusterId", "ProcId"])
        text = select.of_jobs((int(a["ClusterId"]), int(a["ProcId"])) for a in found)
        if not found:
            output.say("no such jobs in the queue: nothing to wait for")
    finish(
        *(pool, ids or ["--all-mine"], [text]),
        get=False,
        json=json,
        timeout_s=timeout_s,
        keep_going=keep_going,
        any_end=any_end,
        past=bool(ids),
    )


def fetch(
    context: typer.Context,
    ids: SomeIds = None,
    all_mine: AllMine = False,
    state: State = None,
    name: Name = "",
    constraint: Constraint = "",
    json: Json = False,
) -> None:
    """Fetch outputs and logs of finished jobs to where their submit description names them."""
    from swarmhpc.jobs import select, watch

    chosen = selecting.selection(ids, all_mine=all_mine, state=state, name=name, constraint=constraint, verb="fetch")
    pool, _person = connect(context)
    jobs = select.jobs(pool, chosen)
    again = f"swarmhpc fetch {' '.join(ids) if ids else '--all-mine'}"
    with output.interruptible("what was not fetched is still in the queue", again), output.phases() as progress:
        progress.start("fetching")
        done = watch.fetch(pool, jobs, on_progress=lambda n, total: progress.detail(f"{n} of {total} jobs"))
    fetched = {j.id for j in done}
    rest = [j for j in jobs if j.id not in fetched]
    if json:
        output.as_json({"fetched": [result(j) for j in done], "left": [job_data(j) for j in rest]})
    else:
        output.say(f"fetched {len(done)} {jobs_word(len(done))}")
    if rest and ids:
        counts = ", ".join(f"{n} {s}" for s, n in Counter(j.status for j in rest).items())
        raise JobFailedError(f"not finished yet: {counts}", hint=f"swarmhpc wait {' '.join(ids)}")
