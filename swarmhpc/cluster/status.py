"""How the pool stands, from the Swarm (where this machine is a manager) and from HTCondor."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from swarmhpc import state
from swarmhpc.adapters.condor import Pool, Slot
from swarmhpc.adapters.docker import Engine, Node, Service, Task
from swarmhpc.context import Context
from swarmhpc.errors import AuthenticationError, PoolError


@dataclass(frozen=True)
class ClassStatus:
    """A class of executors. None where only a manager of the Swarm could tell."""

    name: str
    replicas: int | None
    running: int | None
    registered: int
    busy: int
    draining: int | None


@dataclass(frozen=True)
class Status:
    """The whole pool at one moment. Daemon states: `running`, `refused` (not with this token), `starting`,
    `down`, `unreachable`."""

    pool: str
    networking: str
    address: str
    central_manager: str
    access_point: str
    classes: tuple[ClassStatus, ...]
    nodes: tuple[Node, ...]
    jobs: dict[str, int]
    slots: tuple[Slot, ...]
    trouble: tuple[str, ...]


def observe(engine: Engine | None, ctx: Context) -> Status:
    """Asks everybody who knows something; nobody's silence is an error here."""
    pool = Pool(ctx)
    trouble: list[str] = []
    slots: list[Slot] = []
    jobs: Counter[str] = Counter()
    answers = {state.CENTRAL_MANAGER: "running", state.ACCESS_POINT: "running"}
    try:
        slots = pool.slots()
    except PoolError as e:
        answers[state.CENTRAL_MANAGER] = _silent(e)
        trouble.append(e.message)
    try:
        jobs = Counter(j.status for j in pool.jobs())
    except PoolError as e:
        answers[state.ACCESS_POINT] = _silent(e)
        trouble.append(e.message)
    services: dict[str, Service] = {}
    tasks: dict[str, list[Task]] = {}
    nodes: list[Node] = []
    networking = ""
    if engine is not None:
        prefix = f"{ctx.pool}_"
        services = {s.name.removeprefix(prefix): s for s in engine.services(ctx.pool)}
        tasks = {name: engine.tasks(s.id) for name, s in services.items()}
        nodes = engine.nodes()
        networking = engine.endpoint_mode(services[state.ACCESS_POINT].id) if state.ACCESS_POINT in services else ""
        trouble += [
            f"{prefix}{name}: {t.error}" for name, ts in tasks.items() if not _up(ts) for t in ts[-1:] if t.error
        ]

    def daemon(role: str) -> str:
        if answers[role] != "unreachable" or engine is None:
            return answers[role]
        return "starting" if role in services and _up(tasks[role]) else "down"

    return Status(
        pool=ctx.pool,
        networking=networking,
        address=ctx.address,
        central_manager=daemon(state.CENTRAL_MANAGER),
        access_point=daemon(state.ACCESS_POINT),
        classes=_classes(services, tasks, slots),
        nodes=tuple(nodes),
        jobs={k: jobs.get(k, 0) for k in ("idle", "running", "held", "completed")},
        slots=tuple(sorted(slots, key=lambda s: s.name)),
        trouble=tuple(trouble),
    )


def _silent(e: PoolError) -> str:
    return "refused" if isinstance(e, AuthenticationError) else "unreachable"


def _up(tasks: list[Task]) -> bool:
    return any(t.is_up for t in tasks)


def _classes(services: dict[str, Service], tasks: dict[str, list[Task]], slots: list[Slot]) -> tuple[ClassStatus, ...]:
    of_swarm = {s.labels[state.LABEL_CLASS]: name for name, s in services.items() if state.LABEL_CLASS in s.labels}
    names = sorted({*of_swarm, *(s.class_name for s in slots if s.class_name)})
    result = []
    for name in names:
        mine = [s for s in slots if s.class_name == name]
        busy = {s.executor for s in mine if not s.partitionable and s.state == "Claimed"}
        service = services.get(of_swarm.get(name, ""))
        ours = tasks.get(of_swarm.get(name, ""), [])
        running = sum(t.is_up for t in ours)
        draining = sum(t.is_leaving for t in ours)
        result.append(
            ClassStatus(
                name=name,
                replicas=service.replicas if service else None,
                running=running if service else None,
                registered=len({s.executor for s in mine}),
                busy=len(busy),
                draining=draining if service else None,
            )
        )
    return tuple(result)
