"""The command that writes a first cluster file: init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swarmhpc.cli import output
from swarmhpc.errors import SwarmHpcError, UsageError


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(init)


def init(
    hosts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="HOST",
            help="Name, IPv4 address, USER@HOST or a range such as 'node[01-16]'. None: this machine alone.",
            show_default=False,
        ),
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Account on the machines; else root.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Private key; else the agent's or ssh's own.")] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port of ssh; else 22.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="File to write; else ./swarmhpc.yaml.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the file; write nothing.")] = False,
) -> None:
    """Write a commented swarmhpc.yaml from the names of machines."""
    from swarmhpc import config
    from swarmhpc.cluster import init_file

    if not hosts and (user, key, port) != (None, None, None):
        raise UsageError("--user, --key and --port are about HOSTs, and none is named", hint="swarmhpc init HOST…")
    text = init_file.file_text(
        init_file.read_hosts(hosts or []), user=user, port=port, key=key and independent_of_here(key)
    )
    path = file or Path(config.FILE_NAME)
    try:
        config.parse(text, file=str(path))
    except config.ConfigError as e:  # each HOST is right by itself, but not with the others
        message = "\n".join(f"{problem.key_path}: {problem.message}" for problem in e.problems)
        raise UsageError(message, hint="name other HOSTs") from e
    if dry_run:
        output.data(text)
        return
    try:
        with path.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as e:
        raise SwarmHpcError(f"{path} is there already", hint="keep it, or add --force to overwrite it") from e
    except OSError as e:
        raise SwarmHpcError(f"cannot write {path}: {e.strerror}", hint="name another file with -f") from e
    output.data(str(path))
    output.say(f"Next: look through it, then swarmhpc up{f' -f {path}' if file else ''}")


def independent_of_here(key: str) -> str:
    """The path of a key that is right in every directory: below ``~`` as written, else absolute."""
    if key.startswith("~"):
        return key
    path = Path.cwd() / key
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
