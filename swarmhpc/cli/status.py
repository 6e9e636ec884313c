"""`swarmhpc status`: how the pool stands, once or again and again."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmhpc.cli import output, watching
from swarmhpc.cli.cluster import Json
from swarmhpc.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster.fleet import Fleet
    from swarmhpc.cluster.status import ClassStatus, Status, Unserved
    from swarmhpc.context import Context

MOST_UNSERVED = 10


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(status)


def status(
    context: typer.Context,
    json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh in place until Ctrl-C.")] = False,
    interval_s: Annotated[
        float | None, typer.Option("--interval", help="With --watch: seconds between two looks (else 2).")
    ] = None,
) -> None:
    """Show how the pool stands: daemons, classes, jobs that get no executor, slots."""
    from swarmhpc import context as contexts
    from swarmhpc.cluster import fleet as fleets

    if watch and json:
        raise UsageError(
            "--watch fills a screen, --json prints one document: wanted one of them", hint=watching.loop("status")
        )
    watching.check("status", watch=watch, interval_s=interval_s)
    ctx = contexts.load(context.obj)
    with fleets.opened(ctx.managers) as fleet:
        if watch:
            watching.watch(lambda: _look(fleet, ctx), frame, _print, interval_s or watching.INTERVAL_S)
            return
        s = _look(fleet, ctx)
    if json:
        output.as_json(as_data(s))
    else:
        _print(s)
    if (s.central_manager, s.access_point) != ("running", "running"):
        raise typer.Exit(1)


def _look(fleet: Fleet, ctx: Context) -> Status:
    from swarmhpc.cluster import status as wing
    from swarmhpc.errors import EngineError, SwarmHpcError

    engine: Engine | None = None
    with contextlib.suppress(SwarmHpcError):  # a person's own machine needs no engine
        engine = fleet.manager(ctx.pool)
    names = [m.name for m in fleet.machines]
    if engine is None:
        fleet.forget(names)  # it may answer at the next look
    try:
        return wing.observe(engine, ctx)
    except EngineError:
        fleet.forget(names)
        raise


def _print(s: Status) -> None:
    output.show([*head(s), *classes(s), *slots(s)])
    for trouble in s.trouble:
        output.say(f"trouble: {trouble}")


# -- what it looks like -----------------------------------------------------------------------------------------------


def frame(s: Status) -> list[output.Part]:
    """One refresh: what may be cut off at the lower end of a small window comes last."""
    troubles: list[output.Part] = [f"trouble: {t}" for t in s.trouble]
    return [*head(s), *classes(s), *troubles, *slots(s)]


def head(s: Status) -> list[output.Part]:
    """The pool, its daemons, its jobs."""
    return [
        f"pool {s.pool} at {s.address}" + (f", networking {s.networking}" if s.networking else ""),
        f"central manager {s.central_manager}, access point {s.access_point}",
        "jobs: " + ", ".join(f"{_known(n)} {name}" for name, n in s.jobs.items()),
        "",
    ]


def classes(s: Status) -> list[output.Part]:
    """The table of classes, and what is to be said of them: why replicas are not up, and what the autoscaler says."""
    numbers = ("REPLICAS", "RUNNING", "REGISTERED", "BUSY", "IDLE", "DRAINING")
    rows = [[c.name, c.replicas, c.running, c.registered, c.busy, c.idle, c.draining] for c in s.classes]
    parts: list[output.Part] = [
        output.grid(["CLASS", *numbers], [[_known(v) for v in row] for row in rows], right=numbers)
    ]
    parts += [_trouble(c) for c in s.classes if c.trouble]
    if s.autoscaler != "unknown":
        silent = s.autoscaler == "on" and all(c.wanted is None for c in s.classes)
        parts.append(f"autoscaler: {s.autoscaler}" + (", but it says nothing" if silent else ""))
    parts += [f"  {c.name}: {c.wanted} wanted: {c.reason}" for c in s.classes if c.wanted is not None]
    return parts + unserved(s.unserved)


def unserved(groups: Sequence[Unserved]) -> list[output.Part]:
    """Jobs that get no executor, one line for each group."""
    lines: list[output.Part] = [
        f"{f'job {u.job}' if u.count == 1 else f'{u.count} jobs such as {u.job}'}: {u.kind}: {u.reason}"
        for u in groups[:MOST_UNSERVED]
    ]
    more = len(groups) - MOST_UNSERVED
    return lines + ([f"and {more} more such groups of jobs; --json shows all"] if more > 0 else [])


def slots(s: Status) -> list[output.Part]:
    """The table of slots, after an empty line; nothing where there are none."""
    from swarmhpc.units import format_duration_s, format_mib

    rows = []
    for x in s.slots:
        size = (x.cpus, format_mib(x.memory_mib))
        word = f"{x.state} (draining)" if s.draining and x.task in s.draining else x.state
        age = format_duration_s(x.activity_age_s)
        rows.append([x.name.partition(".")[0], x.node, word, x.activity, *size, x.job_id or "-", age])
    columns = ["SLOT", "NODE", "STATE", "ACTIVITY", "CPUS", "MEMORY", "JOB", "SINCE"]
    spare = ("ACTIVITY", "MEMORY", "CPUS", "SINCE", "NODE")
    return ["", output.grid(columns, rows, right=("CPUS", "MEMORY"), spare=spare)] if rows else []


def _trouble(c: ClassStatus) -> str:
    missing = max(1, (c.replicas or 0) - (c.running or 0))
    are = "is" if missing == 1 else "are"
    return f"{c.name}: {missing} of {c.replicas} {are} not up; Swarm says: {'; '.join(c.trouble)}"


def _known(value: object) -> object:
    return "?" if value is None else value


def as_data(s: Status) -> dict[str, Any]:
    """The document of --json."""
    return {
        "pool": s.pool,
        "address": s.address,
        "networking": s.networking,
        "central_manager": {"state": s.central_manager},
        "access_point": {"state": s.access_point},
        "autoscaler": {"state": s.autoscaler},
        "classes": [asdict(c) for c in s.classes],
        "unserved": [asdict(u) for u in s.unserved],
        "nodes": [asdict(n) for n in s.nodes],
        "jobs": s.jobs,
        "slots": [{**asdict(x), "draining": None if s.draining is None else x.task in s.draining} for x in s.slots],
        "trouble": [*s.trouble, *(f"{s.pool}_{c.name}: {words}" for c in s.classes for words in c.trouble)],
    }
