"""Commands about the pool as a whole: up, down, doctor, render."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmhpc.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster.fleet import Fleet
    from swarmhpc.config import Cluster, Machine
    from swarmhpc.errors import SwarmHpcError

File = Annotated[
    Path | None, typer.Option("--file", "-f", help="Cluster file; else ./swarmhpc.yaml, else what the Swarm remembers.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done; change nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (up, down, doctor, render):
        app.command()(command)


def cluster_here(file: Path | None) -> Cluster:
    """The cluster file that counts on this machine: the one named, the one here, its Swarm's, the defaults."""
    from swarmhpc import config
    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster.fleet import stored_cluster

    path = file or config.find_file(Path.cwd())
    return config.load(path) if path is not None else stored_cluster(Engine()) or config.load(None)


@contextlib.contextmanager
def cluster_fleet(file: Path | None, pool: str | None) -> Iterator[tuple[Fleet, Cluster | None]]:
    """The machines that count, and the cluster file: the one named, the one here, the Swarm's, or None.

    A Swarm is found through this machine's engine, or through the managers that `up` wrote into this machine's context.
    """
    from swarmhpc import config
    from swarmhpc import context as contexts
    from swarmhpc.cluster import fleet as fleets
    from swarmhpc.errors import NoPoolError

    path = file or config.find_file(Path.cwd())
    cluster = None if path is None else config.load(path)
    if cluster is not None and (file is not None or pool in (None, cluster.name)):
        with fleets.opened(cluster.machines) as fleet:
            yield fleet, cluster
        return
    managers: tuple[Machine, ...] = ()
    with contextlib.suppress(NoPoolError):
        managers = contexts.load(pool).managers
    with fleets.opened(managers) as first:
        manager = first.manager(pool)
        stored = fleets.stored_cluster(manager) if manager is not None else None
        if stored is None or not stored.machines:
            if managers and manager is None:
                fleets.require_manager(first, pool)
            yield first, stored
            return
    with fleets.opened(stored.machines) as fleet:
        yield fleet, stored


def up(
    context: typer.Context,
    file: File = None,
    dry_run: DryRun = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the pool to be usable.")] = 300,
) -> None:
    """Bring the pool up, or make it what the cluster file says. Twice in a row changes nothing."""
    from swarmhpc import config

    with cluster_fleet(file, context.obj) as (fleet, cluster):
        bring_up(fleet, cluster or config.load(None), dry_run=dry_run, timeout_s=timeout_s)


def bring_up(fleet: Fleet, cluster: Cluster, *, dry_run: bool, timeout_s: float) -> None:
    """Shows the plan and carries it out. Raises MachineError at the end where machines were left out."""
    from swarmhpc.cluster import up as wing

    prepared = wing.prepare(fleet, cluster)
    troubled = prepared.view.decision.troubled
    if dry_run:
        for step in prepared.steps:
            output.data(f"will {step.what}")
        for error in troubled.values():
            output.failure(error)
        if not prepared.steps:
            output.say("nothing to do")
        if troubled:
            raise typer.Exit(1)
        return
    if not prepared.steps and not troubled:
        output.say(f"nothing to do: pool {prepared.cluster.name} is as its cluster file says")
    elif prepared.seen.services or not fleet.alone:
        for step in prepared.steps:
            output.say(f"will {step.what}")
    with (
        output.interruptible(
            "the pool may be half made; nothing is lost", "swarmhpc up goes on; swarmhpc down undoes it"
        ),
        output.phases() as progress,
    ):
        result = wing.apply(fleet, prepared, progress, timeout_s=timeout_s)
    ctx = result.context
    if prepared.steps:
        output.say(f"pool {ctx.pool} is up at {ctx.address}. Next: swarmhpc submit examples/hosts.sub --wait")
    left_out(result.troubled, "the pool works without them. Next: mend what is said, then swarmhpc up goes on")


def left_out(troubled: Mapping[str, SwarmHpcError], what: str) -> None:
    """Every machine that was left out, with its own mend; then exit code 1."""
    if not troubled:
        return
    for error in troubled.values():
        output.failure(error)
    output.say(f"{len(troubled)} of the machines left out ({', '.join(troubled)}): {what}")
    raise typer.Exit(1)


def down(
    context: typer.Context,
    file: File = None,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for running jobs: they go back to the queue.")
    ] = False,
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Delete the queue with all its jobs, the images, and what up installed, too."),
    ] = False,
    dry_run: DryRun = False,
    timeout_s: Annotated[float | None, typer.Option("--timeout", help="Give up waiting after so many seconds.")] = None,
) -> None:
    """Take the pool down. Running jobs finish first; the queue's volume stays."""
    from swarmhpc.cluster import down as wing

    with cluster_fleet(file, context.obj) as (fleet, cluster):
        name = context.obj or (cluster.name if cluster is not None and not fleet.alone else None)
        prepared = wing.prepare(fleet, cluster, now=now, purge=purge, pool_name=name)
        if dry_run:
            for step in prepared.steps:
                output.data(f"will {step}")
            if prepared.steps:
                left_out(prepared.troubled, "they would keep what they have")
        if not prepared.steps:
            where = "on this machine" if fleet.alone else "on these machines"
            output.say(f"nothing to do: there is no pool {where}")
            for kept in prepared.kept:
                output.say(f"kept {kept}; delete it: swarmhpc down --purge")
            left_out(prepared.troubled, "what they have is not known")
        elif not dry_run:
            with (
                output.interruptible(
                    "running jobs go on finishing, no new ones start",
                    "swarmhpc down goes on; swarmhpc up takes it back",
                ),
                output.phases() as progress,
            ):
                troubled = wing.apply(fleet, prepared, progress, now=now, purge=purge, timeout_s=timeout_s)
            left_out(troubled, "they keep what they have; when they answer: swarmhpc down")


def doctor(context: typer.Context, file: File = None, json: Json = False) -> None:
    """Look for what is wrong, here or on all machines; every finding comes with the command that mends it."""
    from swarmhpc import config
    from swarmhpc import context as contexts
    from swarmhpc.cluster import doctor as wing
    from swarmhpc.cluster import fleet as fleets
    from swarmhpc.cluster import lab_doctor
    from swarmhpc.errors import EngineError, NoPoolError

    error: EngineError | None = None
    engine: Engine | None = None
    with contextlib.ExitStack() as stack:
        try:
            fleet, found = stack.enter_context(cluster_fleet(file, context.obj))
            cluster = found or config.Cluster(machines=() if fleet.alone else fleet.machines)
            engine = fleet.engine(fleet.machines[0].name) if fleet.alone else None
        except EngineError as e:
            error = e
            cluster = config.load(file or config.find_file(Path.cwd()))
            if not cluster.machines:  # nobody could tell the cluster file: its managers are known all the same
                with contextlib.suppress(NoPoolError):
                    ctx = contexts.load(context.obj)
                    ports = config.Ports(ctx.central_manager_port, ctx.access_point_port)
                    cluster = config.Cluster(name=ctx.pool, machines=ctx.managers, ports=ports)
            fleet = stack.enter_context(fleets.opened(cluster.machines))
        if fleet.alone:
            checks = wing.examine(engine, cluster, error=error)
        else:
            with output.phases() as progress:
                checks = lab_doctor.examine(fleet, cluster, progress)
    if json:
        output.as_json([asdict(c) for c in checks])
    else:
        columns = ["CHECK", "STATUS", "SEEN"] if fleet.alone else ["CHECK", "STATUS", "MACHINE", "SEEN"]
        rows = [[c.name, c.status, *([] if fleet.alone else [c.machine or "-"]), c.seen] for c in checks]
        output.table(columns, rows)
        for c in checks:
            if c.mend:
                output.data(": ".join(filter(None, (c.status, c.name, c.machine, c.mend))))
    if any(c.status == "problem" for c in checks):
        raise typer.Exit(1)


def render(
    context: typer.Context,
    file: File = None,
    folder: Annotated[Path | None, typer.Option("--output", "-o", help="Write files into this folder instead.")] = None,
) -> None:
    """Print the stack and the HTCondor configuration that `up` would deploy."""
    from swarmhpc import config
    from swarmhpc.cluster import up as wing

    with cluster_fleet(file, context.obj) as (fleet, cluster):
        rendered = wing.prepare(fleet, cluster or config.load(None)).rendered
    files = {"stack.yml": rendered.stack, **rendered.configs}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        output.say(f"wrote {', '.join(files)} to {folder}")
        return
    for name, text in files.items():
        shown = "# a program, base64; --output writes it to a file\n" if name.endswith(".b64") else text
        output.data(f"# ---- {name} ----\n{shown}")
