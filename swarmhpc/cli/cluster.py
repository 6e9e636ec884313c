"""Commands about the pool as a whole: up, down, status, doctor, render."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmhpc.cli import output

if TYPE_CHECKING:
    from swarmhpc.adapters.docker import Engine
    from swarmhpc.config import Cluster

File = Annotated[
    Path | None, typer.Option("--file", "-f", help="Cluster file; else ./swarmhpc.yaml, else what the Swarm remembers.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done; change nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (up, down, status, doctor, render):
        app.command()(command)


def choose(engine: Engine, file: Path | None) -> Cluster:
    """The cluster file that counts: the one named, the one here, the Swarm's, the defaults."""
    from swarmhpc import config
    from swarmhpc.cluster import up as wing

    path = file or config.find_file(Path.cwd())
    if path is not None:
        return config.load(path)
    return wing.stored_cluster(engine) or config.load(None)


def up(
    file: File = None,
    dry_run: DryRun = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the pool to be usable.")] = 300,
) -> None:
    """Bring the pool up, or make it what the cluster file says. Twice in a row changes nothing."""
    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster import up as wing

    engine = Engine()
    prepared = wing.prepare(engine, choose(engine, file))
    if dry_run:
        for step in prepared.steps:
            output.data(f"will {step.what}")
        if not prepared.steps:
            output.say("nothing to do")
        return
    if not prepared.steps:
        output.say(f"nothing to do: pool {prepared.cluster.name} is as its cluster file says")
    elif prepared.seen.services:
        for step in prepared.steps:
            output.say(f"will {step.what}")
    with (
        output.interruptible(
            "the pool may be half made; nothing is lost", "swarmhpc up goes on; swarmhpc down undoes it"
        ),
        output.phases() as progress,
    ):
        ctx = wing.apply(engine, prepared, progress, timeout_s=timeout_s)
    if prepared.steps:
        output.say(f"pool {ctx.pool} is up at {ctx.address}. Next: swarmhpc submit examples/hosts.sub --wait")


def down(
    context: typer.Context,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for running jobs: they go back to the queue.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete the queue with all its jobs, and the images, too.")
    ] = False,
    dry_run: DryRun = False,
    timeout_s: Annotated[float | None, typer.Option("--timeout", help="Give up waiting after so many seconds.")] = None,
) -> None:
    """Take the pool down. Running jobs finish first; the queue's volume stays."""
    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster import down as wing

    engine = Engine()
    prepared = wing.prepare(engine, now=now, purge=purge, pool_name=context.obj)
    if dry_run:
        for step in prepared.steps:
            output.data(f"will {step}")
    if not prepared.steps:
        output.say("nothing to do: there is no pool on this machine")
        for kept in prepared.kept:
            output.say(f"kept {kept}; delete it: swarmhpc down --purge")
        return
    if dry_run:
        return
    with (
        output.interruptible(
            "running jobs go on finishing, no new ones start", "swarmhpc down goes on; swarmhpc up takes it back"
        ),
        output.phases() as progress,
    ):
        wing.apply(engine, prepared, progress, now=now, purge=purge, timeout_s=timeout_s)


def status(
    context: typer.Context,
    json: Json = False,
) -> None:
    """Show how the pool stands: daemons, classes, nodes, slots, jobs."""
    from swarmhpc import context as contexts
    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster import status as wing
    from swarmhpc.errors import EngineError
    from swarmhpc.units import format_duration_s, format_mib

    ctx = contexts.load(context.obj)
    engine: Engine | None = None
    with contextlib.suppress(EngineError):  # a person's own machine needs no engine
        local = Engine()
        facts = local.facts()
        if facts.swarm_state == "active" and facts.is_manager and local.swarm_cluster() == ctx.pool:
            engine = local
    s = wing.observe(engine, ctx)
    if json:
        output.as_json(
            {
                "pool": s.pool,
                "address": s.address,
                "networking": s.networking,
                "central_manager": {"state": s.central_manager},
                "access_point": {"state": s.access_point},
                "classes": [asdict(c) for c in s.classes],
                "nodes": [asdict(n) for n in s.nodes],
                "jobs": s.jobs,
                "slots": [asdict(x) for x in s.slots],
                "trouble": list(s.trouble),
            }
        )
    else:
        output.data(f"pool {s.pool} at {s.address}" + (f", networking {s.networking}" if s.networking else ""))
        output.data(f"central manager {s.central_manager}, access point {s.access_point}")
        jobs = ", ".join(f"{n} {name}" for name, n in s.jobs.items())
        output.data(f"jobs: {jobs}\n")
        numbers = ("REPLICAS", "RUNNING", "REGISTERED", "BUSY", "DRAINING")
        classes = [[c.name, c.replicas, c.running, c.registered, c.busy, c.draining] for c in s.classes]
        output.table(["CLASS", *numbers], [["?" if v is None else v for v in c] for c in classes], right=numbers)
        if s.slots:
            output.data("")
            rows = []
            for x in s.slots:
                size = (x.cpus, format_mib(x.memory_mib))
                age = format_duration_s(x.activity_age_s)
                rows.append([x.name.partition(".")[0], x.node, x.state, x.activity, *size, x.job_id or "-", age])
            columns = ["SLOT", "NODE", "STATE", "ACTIVITY", "CPUS", "MEMORY", "JOB", "SINCE"]
            output.table(columns, rows, right=("CPUS", "MEMORY"))
        for trouble in s.trouble:
            output.say(f"trouble: {trouble}")
    if (s.central_manager, s.access_point) != ("running", "running"):
        raise typer.Exit(1)


def doctor(file: File = None, json: Json = False) -> None:
    """Look for what is wrong on this machine; every finding comes with the command that mends it."""
    from swarmhpc import config
    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster import doctor as wing
    from swarmhpc.errors import EngineError

    error: EngineError | None = None
    engine: Engine | None = None
    try:
        engine = Engine()
        cluster = choose(engine, file)
    except EngineError as e:
        error = e
        path = file or config.find_file(Path.cwd())
        cluster = config.load(path)
    checks = wing.examine(engine, cluster, error=error)
    if json:
        output.as_json([asdict(c) for c in checks])
    else:
        output.table(["CHECK", "STATUS", "SEEN"], [[c.name, c.status, c.seen] for c in checks])
        for c in checks:
            if c.mend:
                output.data(f"{c.status}: {c.name}: {c.mend}")
    if any(c.status == "problem" for c in checks):
        raise typer.Exit(1)


def render(
    file: File = None,
    folder: Annotated[Path | None, typer.Option("--output", "-o", help="Write files into this folder instead.")] = None,
) -> None:
    """Print the stack and the HTCondor configuration that `up` would deploy."""
    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster import up as wing

    engine = Engine()
    rendered = wing.prepare(engine, choose(engine, file)).rendered
    files = {"stack.yml": rendered.stack, **rendered.configs}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        output.say(f"wrote {', '.join(files)} to {folder}")
        return
    for name, text in files.items():
        output.data(f"# ---- {name} ----\n{text}")
