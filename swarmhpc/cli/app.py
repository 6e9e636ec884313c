"""The `swarmhpc` command: global options, the commands of the other modules, and the way errors end."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from swarmhpc import __version__
from swarmhpc.cli import (
    autoscale,
    check,
    cluster,
    events,
    fair,
    images,
    init,
    jobs,
    logs,
    nodes,
    output,
    queue,
    scale,
    status,
    submit,
    tokens,
    why,
)
from swarmhpc.cli import run as run_command
from swarmhpc.errors import SwarmHpcError

app = typer.Typer(
    name="swarmhpc",
    help="A room of Linux machines as one batch-computing pool: HTCondor in a Docker Swarm.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
init.register(app)
cluster.register(app)
status.register(app)
scale.register(app)
autoscale.register(app)
check.register(app)
submit.register(app)
queue.register(app)
jobs.register(app)
run_command.register(app)
logs.register(app)
why.register(app)
events.register(app)
fair.register(app)
app.command()(tokens.login)
app.add_typer(nodes.app, name="node")
app.add_typer(tokens.app, name="token")
app.add_typer(images.app, name="images")

_debug = False


def _version(wanted: bool) -> None:
    if wanted:
        output.data(f"swarmhpc {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    pool: Annotated[
        str | None, typer.Option(help="Which pool, where this machine knows several.", envvar="SWARMHPC_POOL")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Global options; they stand before the command."""
    global _debug
    _debug = debug
    context.obj = pool


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 wrong usage."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command; every error ends as a message and a code, never as a traceback (unless --debug)."""
    global _debug
    _debug = False
    try:
        code = app(args=arguments, prog_name="swarmhpc", standalone_mode=False)
    except SwarmHpcError as e:
        if _debug:
            output.err.print_exception()
        output.failure(e)
        return e.exit_code
    except typer.Abort:
        output.say("interrupted")
        return 1
    except typer.TyperException as e:
        # Wrong usage: unknown command or option, a missing argument. typer's own kinds print their usage line.
        if hasattr(e, "show"):
            e.show(sys.stderr)
            return int(getattr(e, "exit_code", 2))
        output.failure(SwarmHpcError(str(e), hint="swarmhpc --help"))
        return 2
    except BrokenPipeError:
        # Somebody piped into head: not an error, and nothing more can be printed.
        sys.stderr.close()
        return 1
    except Exception as e:  # noqa: BLE001 - the last line of defence: a bug must still end in words
        if _debug:
            output.err.print_exception()
        output.failure(
            SwarmHpcError(
                f"this is a mistake in swarmhpc: {type(e).__name__}: {e}",
                hint="run it again with --debug for the traceback, and report it: swarmhpc --debug "
                + " ".join(arguments[:1]),
            )
        )
        return 1
    if code == 130:  # typer's own word for Ctrl-C where no command had something better to say
        output.say("interrupted")
        return 1
    return int(code) if isinstance(code, int) else 0
