"""What a job prints, and a shell beside it: `swarmhpc logs`, `swarmhpc ssh`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from swarmhpc.cli import output
from swarmhpc.errors import UsageError

Id = Annotated[str, typer.Argument(help="A job like 12.0, or a cluster of one job.", metavar="JOB")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(logs)
    app.command(context_settings={"allow_interspersed_args": False})(ssh)


def logs(
    context: typer.Context,
    job: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    error: Annotated[bool, typer.Option("--error", help="Its standard error, not its standard output.")] = False,
    tail: Annotated[int | None, typer.Option(help="Only the last so many lines.", min=0)] = None,
) -> None:
    """Print what a job has printed, also while it runs."""
    from swarmhpc.jobs import logs as wing
    from swarmhpc.pool import Pool

    pool = Pool(context.obj)
    found = wing.find(pool.connection, job)
    hint = f"the job goes on: swarmhpc logs {found.id} --follow; swarmhpc rm {found.id} ends it"
    with output.interruptible("no longer following", hint):
        for data in wing.chunks(pool.gateway, found, stream="error" if error else "output", follow=follow, tail=tail):
            _write(data)


def ssh(
    context: typer.Context,
    job: Id,
    command: Annotated[
        list[str] | None, typer.Argument(help="A command; none: a shell.", metavar="[--] [COMMAND...]")
    ] = None,
) -> None:
    """A shell, or a command, where a job runs: in its container, as the job."""
    from swarmhpc.jobs import logs as wing
    from swarmhpc.pool import Pool

    words = command or []
    words = words[1:] if words[:1] == ["--"] else words
    if not words and not sys.stdin.isatty():
        raise UsageError("a shell needs a terminal, and standard input is none", hint=f"swarmhpc ssh {job} -- COMMAND")
    pool = Pool(context.obj)
    found = wing.find(pool.connection, job)
    code = pool.gateway.shell(found.id, words, stdin=0, stdout=1, stderr=2)
    # Not typer.Exit: 130 means something else to it.
    sys.exit(code)


def _write(data: bytes) -> None:
    # Unbuffered, so that nothing is left to fail when we exit.
    while data:
        data = data[os.write(1, data) :]
