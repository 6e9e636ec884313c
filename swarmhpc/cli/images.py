"""`swarmhpc images`: the pool's image, and carrying it to machines without a network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from swarmhpc.cli import output
from swarmhpc.cli.cluster import File, cluster_here
from swarmhpc.errors import SwarmHpcError, UsageError

app = typer.Typer(help="Build, list, save and load the pool's images.", no_args_is_help=True)


@app.command()
def build(file: File = None) -> None:
    """Build the pool's image here (and its base, where no registry answers)."""
    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster import images

    engine = Engine()
    with (
        output.interruptible("nothing is half made", "swarmhpc images build uses what is done already"),
        output.phases() as p,
    ):
        p.start("image")
        name = images.build(engine, cluster_here(file), on_line=p.detail)
        p.done(name)


@app.command("list")
def listing(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Images that swarmhpc made on this engine."""
    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster import images

    found = images.listing(Engine())
    if json:
        output.as_json([asdict(i) for i in found])
        return
    rows = [[", ".join(i.tags) or "-", i.id.removeprefix("sha256:")[:12], i.size_mib, i.created[:16]] for i in found]
    output.table(["IMAGE", "ID", "MIB", "CREATED"], rows, right=("MIB",))


@app.command()
def save(
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    extra: Annotated[list[str] | None, typer.Option("--with", help="One more image, such as a job's.")] = None,
    file: File = None,
) -> None:
    """Write the pool's images into one file, for machines without a network."""
    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster import images

    engine = Engine()
    cluster = cluster_here(file)
    part = target.with_name(target.name + ".part")
    with output.interruptible(f"{target} was not written", f"swarmhpc images save {target}"), output.phases() as p:
        p.start("save")
        try:
            names = images.save(engine, cluster, extra or [], part)
            part.replace(target)
        except OSError as e:
            raise SwarmHpcError(f"{target}: can't be written ({e.strerror})", hint=f"df -h {target.parent}") from e
        finally:
            part.unlink(missing_ok=True)
        p.done(f"{target} ({target.stat().st_size // 2**20} MiB): {', '.join(names)}")


@app.command()
def load(source: Annotated[Path, typer.Argument(help="A file that `swarmhpc images save` wrote.")]) -> None:
    """Load the pool's images from a file."""
    from swarmhpc.adapters.docker import Engine

    engine = Engine()
    with output.phases() as p:
        p.start("load")
        try:
            with source.open("rb") as stream:
                names = engine.images_load(stream)
        except OSError as e:
            raise UsageError(f"{source}: can't be read ({e.strerror})", hint=f"ls -l {source}") from e
        p.done(", ".join(names))
