"""How the pool stands, from the Swarm (where this machine is a manager) and from HTCondor."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swarmhpc import state
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.docker import Engine, Node, Service, Task
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.context import Context
from swarmhpc.errors import AuthenticationError, PoolError
from swarmhpc.scaling import autoscale, view
from swarmhpc.scaling.view import ClassView

JOB_STATES = ("idle", "running", "held", "completed")


@dataclass(frozen=True)
class ClassStatus:
    """A class of executors. None where only a manager of the Swarm, or a collector that is silent, could tell."""

    name: str
    replicas: int | None
    """What the Swarm is asked for; 0 for a class that is no more in the cluster file."""
    running: int | None
    registered: int | None
    """Executors that shall run and that the collector knows: the `busy` and the `idle` ones."""
    busy: int | None
    """With at least one claimed slot."""
    idle: int | None
    draining: int | None
    """Told to leave, but the container runs still; counted nowhere else."""
    trouble: tuple[str, ...] = ()
    """Why replicas are not up, in Swarm's own words, most frequent first."""
    wanted: int | None = None
    """What the autoscaler wants; None where it says nothing."""
    reason: str | None = None


@dataclass(frozen=True)
class Unserved:
    """Idle jobs that get no executor: `count` alike, one of them by its id."""

    job: str
    count: int
    kind: str
    reason: str


@dataclass(frozen=True)
class Decisions:
    """What the autoscaler has said last."""

    heard_at: int = 0
    """When the collector heard it, in seconds of the collector's own clock; 0: it has said nothing lately."""
    sizes: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """Class: executors wanted, and why."""
    unserved: tuple[Unserved, ...] = ()


@dataclass(frozen=True)
class Status:
    """The whole pool at one moment. Daemon states: `running`, `refused` (not with this token), `starting`,
    `down`, `unreachable`. Autoscaler: `on`, `off`, `unknown`."""

    pool: str
    networking: str
    address: str
    central_manager: str
    access_point: str
    autoscaler: str
    classes: tuple[ClassStatus, ...]
    unserved: tuple[Unserved, ...]
    nodes: tuple[Node, ...]
    jobs: dict[str, int | None]
    """By state; None where the access point does not answer."""
    slots: tuple[Slot, ...]
    draining: frozenset[str] | None
    """Ids of the tasks whose executors drain; None where only a manager of the Swarm could tell."""
    trouble: tuple[str, ...]
    """Of the daemons; that of executors is in their class."""


@dataclass(frozen=True)
class _Swarm:
    """What a manager of the Swarm knows."""

    services: tuple[Service, ...]
    tasks: tuple[Task, ...]
    nodes: tuple[Node, ...]

    def by_role(self, role: str) -> Service | None:
        return next((s for s in self.services if s.labels.get(state.LABEL_ROLE) == role), None)

    def tasks_of(self, service: Service) -> list[Task]:
        return [t for t in self.tasks if t.service_id == service.id]

    def is_up(self, role: str) -> bool:
        service = self.by_role(role)
        return service is not None and any(t.is_up for t in self.tasks_of(service))


def observe(engine: Engine | None, ctx: Context) -> Status:
    """Asks everybody who knows something. A daemon's silence is no error here; raises EngineError."""
    pool = Pool(ctx)
    trouble: list[str] = []
    slots: list[Slot] | None = None
    jobs: Counter[str] | None = None
    answers = {state.CENTRAL_MANAGER: "running", state.ACCESS_POINT: "running"}
    # Slots before tasks: a task that is new in between has no slots yet, and none can be taken for a leftover.
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
    swarm = None
    networking = ""
    if engine is not None:
        swarm = _Swarm(tuple(engine.services(ctx.pool)), tuple(engine.tasks()), tuple(engine.nodes()))
        access_point = swarm.by_role(state.ACCESS_POINT)
        networking = engine.endpoint_mode(access_point.id) if access_point is not None else ""
        trouble += _daemons_trouble(swarm)
    power = "unknown"
    if swarm is not None:
        service = swarm.by_role(state.AUTOSCALER)
        power = "on" if service is not None and service.replicas else "off"
    said = Decisions()
    if slots is not None and power != "off":  # what one that is off has said may be there for some seconds more
        try:
            said = decisions(pool)
        except PoolError as e:
            trouble.append(e.message)
    if swarm is None and said.heard_at:
        power = "on"

    def daemon(role: str) -> str:
        if answers[role] != "unreachable" or swarm is None:
            return answers[role]
        return "starting" if swarm.is_up(role) else "down"

    views = view.join(swarm.services, swarm.tasks, slots or (), swarm.nodes) if swarm is not None else {}
    leaving = None if swarm is None else _leaving(swarm, views, ctx.pool, slots or ())
    return Status(
        pool=ctx.pool,
        networking=networking,
        address=ctx.address,
        central_manager=daemon(state.CENTRAL_MANAGER),
        access_point=daemon(state.ACCESS_POINT),
        autoscaler=power,
        classes=_classes(views, slots, leaving, said.sizes),
        unserved=said.unserved,
        nodes=swarm.nodes if swarm is not None else (),
        jobs={k: None if jobs is None else jobs.get(k, 0) for k in JOB_STATES},
        slots=tuple(sorted(slots or (), key=lambda s: s.name)),
        draining=None if leaving is None else frozenset(leaving),
        trouble=tuple(trouble),
    )


def decisions(pool: Pool) -> Decisions:
    """The autoscaler's last round, as far as the collector still knows it. Raises PoolError."""
    sizes, unserved = autoscale.shown(pool)
    heard_at = max((int(ad.get("LastHeardFrom", 0)) for ad in (*sizes, *unserved)), default=0)

    def is_last(ad: Mapping[str, Any]) -> bool:
        # What was said of jobs that have an executor by now stays until it expires. One round's come within a second.
        return int(ad.get("LastHeardFrom", 0)) >= heard_at - 1

    found = [Unserved(str(a["Job"]), int(a["Count"]), str(a["Kind"]), str(a["Reason"])) for a in unserved if is_last(a)]
    return Decisions(
        heard_at,
        {str(a["SwarmHpcClass"]): (int(a["Wanted"]), str(a["Reason"])) for a in sizes if is_last(a)},
        tuple(sorted(found, key=lambda u: [int(n) for n in u.job.split(".")])),
    )


def _silent(e: PoolError) -> str:
    return "refused" if isinstance(e, AuthenticationError) else "unreachable"


def _daemons_trouble(swarm: _Swarm) -> list[str]:
    """What Swarm says of services without a running task that shall have one."""
    found = []
    for s in swarm.services:
        tasks = swarm.tasks_of(s)
        if state.LABEL_CLASS in s.labels or s.replicas == 0 or any(t.is_up for t in tasks):
            continue
        found += [f"{s.name}: {t.error}" for t in tasks[-1:] if t.error]
    return found


def _leaving(swarm: _Swarm, views: Mapping[str, ClassView], pool: str, slots: Sequence[Slot]) -> dict[str, str]:
    """Executors that drain: task to class, also where the class is no more."""
    ready = {n.id for n in swarm.nodes if n.state == "ready"}
    registered = {s.task: s.class_name for s in slots if s.class_name}
    services = {s.id for s in swarm.services}
    told = {t.id: v.name for v in views.values() for t in v.leaving}
    for t in swarm.tasks:
        if t.service_id not in services and t.runs_still and (name := registered.get(t.id) or _class_of(t, pool)):
            told[t.id] = name
    at = {t.id: t.node_id for t in swarm.tasks}
    # On a machine that is gone nothing finishes, whatever Swarm has seen of it last.
    found = {task: name for task, name in told.items() if at[task] in ready or task in registered}
    return found | {task: name for task, name in registered.items() if task not in at}


def _class_of(task: Task, pool: str) -> str:
    """The class of an executor whose service is gone, from its environment; empty: it is none of the pool's."""
    words = json.loads(task.container_spec or "{}").get("Env") or ()
    env = dict(word.partition("=")[::2] for word in words)
    return env.get("SWARMHPC_CLASS", "") if env.get("SWARMHPC_CLUSTER") == pool else ""


def _classes(
    views: Mapping[str, ClassView],
    slots: Sequence[Slot] | None,
    leaving: Mapping[str, str] | None,
    sizes: Mapping[str, tuple[int, str]],
) -> tuple[ClassStatus, ...]:
    if leaving is None:
        names = sorted({s.class_name for s in slots or () if s.class_name})
        return tuple(_seen_from_afar(n, [s for s in slots or () if s.class_name == n], sizes) for n in names)
    draining = Counter(leaving.values())
    return tuple(
        _class(name, views.get(name), sizes, draining=draining[name], silent=slots is None)
        for name in sorted({*views, *draining})
    )


def _class(
    name: str, v: ClassView | None, sizes: Mapping[str, tuple[int, str]], *, draining: int, silent: bool
) -> ClassStatus:
    registered = v.registered if v is not None else 0
    busy = sum(1 for e in v.executors if e.jobs) if v is not None else 0
    wanted, reason = sizes.get(name, (None, None)) if v is not None else (None, None)
    return ClassStatus(
        name=name,
        replicas=v.replicas if v is not None else 0,
        running=sum(t.is_up for t in v.tasks) if v is not None else 0,
        registered=None if silent else registered,
        busy=None if silent else busy,
        idle=None if silent else registered - busy,
        draining=draining,
        trouble=v.trouble if v is not None else (),
        wanted=wanted,
        reason=reason,
    )


def _seen_from_afar(name: str, slots: Collection[Slot], sizes: Mapping[str, tuple[int, str]]) -> ClassStatus:
    """A class as the collector alone knows it: those that leave are among the registered ones."""
    registered = len({s.executor for s in slots})
    busy = len({s.executor for s in slots if s.is_claimed})
    wanted, reason = sizes.get(name, (None, None))
    return ClassStatus(name, None, None, registered, busy, registered - busy, None, (), wanted, reason)
