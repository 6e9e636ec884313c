"""The command `events`."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(events)


def events(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    job: Annotated[
        list[str] | None, typer.Option("--job", help="Only of this cluster like 12 or job like 12.0; repeatable.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Other people's jobs, too.")] = False,
    since: Annotated[
        str, typer.Option(help="From this time on: 10m, 2h, or a date with time. Default: all that are kept; -f: now.")
    ] = "",
) -> None:
    """Print what happened to jobs and executors: a line of JSON for each change of state (docs/jobs.md)."""
    from swarmhpc.pool import Pool

    found = Pool(context.obj).events(follow=follow, since=since, ids=job or (), everyone=everyone)
    # Ctrl-C is how following ends.
    with contextlib.suppress(KeyboardInterrupt) if follow else contextlib.nullcontext():
        for event in found:
            sys.stdout.write(json.dumps(event.json) + "\n")
            sys.stdout.flush()
