"""Waiting until what `up` has deployed is usable, with Swarm's own words where it is not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarmhpc import context, state
from swarmhpc.adapters import machine
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.docker import Engine, Service, Task
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cluster import people
from swarmhpc.cluster.fleet import Fleet
from swarmhpc.cluster.progress import Progress
from swarmhpc.errors import AuthenticationError, PoolError, SwarmHpcError, WaitTimeoutError

if TYPE_CHECKING:
    from swarmhpc.cluster.up import Prepared

_NO_ROOM_S = 10
"""Swarm finds a node within a second when there is one; nodes that just join or lose a task need a few."""


@dataclass(frozen=True)
class Shortage:
    """A class of which Swarm can't place all executors. `words`: Swarm's own."""

    name: str
    running: int
    wanted: int
    words: str

    def __str__(self) -> str:
        return f"{self.name}: {self.running} of {self.wanted} executors run; Swarm says: {self.words}"


class NoRoomError(SwarmHpcError):
    """Executors are wanted that Swarm finds no node for; all the rest is there."""

    def __init__(self, shortages: Sequence[Shortage]) -> None:
        self.shortages = tuple(shortages)
        fewer = " ".join(f"{s.name}={s.running}" for s in shortages)
        keys = sorted({key for s in shortages for key in _keys(s.words)})
        super().__init__(
            "; ".join(map(str, shortages)),
            hint=f"the pool works without them. Ask for what fits: swarmhpc scale {fewer}; or change "
            f"{', '.join(keys)} of the class in swarmhpc.yaml, then: swarmhpc up",
        )


def _keys(words: str) -> tuple[str, ...]:
    """The keys of a class that decide what Swarm complains about (swarmkit, manager/scheduler/filter.go, Explain)."""
    found: tuple[str, ...] = ()
    if "insufficient resources" in words:
        found += ("replicas", "cpus", "memory", "reserve")
    if "max replicas per node" in words:
        found += ("replicas", "max_per_node")
    if "constraints not satisfied" in words:
        found += ("placement",)
    return found or ("replicas",)


def unplaced(tasks: Iterable[Task]) -> list[Task]:
    """The tasks that Swarm wants to start and says it has no node for."""
    return [
        t
        for t in tasks
        if t.state == "pending" and t.desired in ("ready", "running") and t.error.startswith("no suitable node")
    ]


def task_errors(engine: Engine, pool: str) -> list[str]:
    """What Swarm says of tasks that should run and do not: one line for each service and error, in its own words."""
    lines = []
    for service in engine.services(pool):
        if service.replicas != 0:
            lines += [f"{service.name}: {said}" for said in _said(engine.tasks(service.id))]
    return lines


def _said(tasks: Sequence[Task]) -> list[str]:
    """The last error of a service without any running task; else those of its places that lack one."""
    if not any(t.is_up for t in tasks):
        return [t.error for t in tasks if t.error][-1:]
    places: dict[object, list[Task]] = {}
    for t in tasks:
        places.setdefault(t.slot or t.node_id, []).append(t)  # tasks of a global service have no slot
    last: Counter[str] = Counter()
    for here in places.values():
        errors = [t.error for t in here if t.error]
        wanted = any(t.desired in ("ready", "running") for t in here)
        if errors and wanted and not any(t.is_up for t in here):
            last[errors[-1]] += 1
    return [said if count == 1 else f"{said} ({count} tasks)" for said, count in last.items()]


def wait_daemons(engine: Engine, p: Prepared, progress: Progress, *, timeout_s: float) -> None:
    """Waits until central manager and access point run with the wanted settings and listen: with VIPs on every node
    that answers, for Swarm says Running also where the routing mesh does not work (facts)."""
    wanted = p.cluster.ports
    ports = {
        state.CENTRAL_MANAGER: (wanted.central_manager,),
        state.ACCESS_POINT: (wanted.access_point, wanted.gateway),
    }
    ready = [n.address for n in p.view.nodes if n.state == "ready" and not n.address.startswith("0.")]
    addresses = (ready or [p.context.address]) if p.networking == "vip" else [p.context.address]

    def look() -> str:
        services = {s.labels.get(state.LABEL_ROLE): s for s in engine.services(p.cluster.name)}
        waiting = []
        for role, listens in ports.items():
            service = services[role]
            if not any(t.is_up and t.container_spec == service.container_spec for t in engine.tasks(service.id)):
                waiting.append(f"{role} does not run yet")
                continue
            silent = [f"{a}:{port}" for port in listens for a in addresses if not machine.port_answers(a, port)]
            waiting += [f"{role} does not answer at {where} yet" for where in silent]
        return "; ".join(waiting)

    _wait(engine, p.cluster.name, look, progress, timeout_s=timeout_s)


@dataclass(frozen=True)
class Standing:
    """The executors of a pool at one moment.

    `missing`: what is still waited for, in words. `shortages`: classes short of executors that Swarm has no node for.
    `only_room`: nothing else is missing, and nobody without a job is about to make room. `leaving`: executors that
    finish their jobs before they go; until then they keep their room.
    """

    missing: tuple[str, ...]
    shortages: tuple[Shortage, ...]
    only_room: bool
    leaving: int


def standing(
    services: Sequence[Service], tasks: Sequence[Task], slots: Sequence[Slot], *, ready: Collection[str]
) -> Standing:
    """Judges the classes whose `services` these are. `tasks` are those of the whole Swarm: also an executor of a class
    that is gone holds its room. `ready`: ids of the nodes that answer; of what leaves another one nobody sees the end.
    """
    missing: list[str] = []
    shortages: list[Shortage] = []
    busy = {s.task for s in slots if not s.partitionable}
    for service in services:
        name, wanted = service.labels[state.LABEL_CLASS], service.replicas or 0
        mine = [t for t in tasks if t.service_id == service.id]
        old = {t.id for t in mine if t.is_leaving}
        registered = {s.executor for s in slots if s.class_name == name and s.task not in old}
        there = len(registered) + len(old & busy)
        if there >= wanted:
            continue
        missing.append(f"{name}: {len(registered)} of {wanted} executors registered")
        # The successor of one that finishes its jobs: its place counts already.
        taken = {t.slot for t in mine if t.id in old & busy}
        waiting = [t for t in unplaced(mine) if t.slot not in taken]
        if there + len(waiting) >= wanted:
            shortages.append(Shortage(name, sum(t.is_up for t in mine), wanted, waiting[-1].error))
    leaving = {t.id for t in tasks if t.is_leaving and t.node_id in ready}
    only_room = bool(missing) and len(missing) == len(shortages) and leaving <= busy
    return Standing(tuple(missing), tuple(shortages), only_room, len(leaving & busy))


def wait_usable(
    fleet: Fleet, engine: Engine, p: Prepared, progress: Progress, *, timeout_s: float
) -> tuple[Shortage, ...]:
    """Waits until the collector answers, the access point accepts this person, and every executor is registered.

    An executor that finishes jobs before it restarts with new settings is not waited for. Where only executors are
    missing that Swarm has had no node for during 10 s, the wait ends, too. Gives the classes that stay short of them,
    but none while others who leave hold the room: then a notice says so.
    """
    pool = Pool(p.context)
    names = {c.name for c in p.classes}
    accepted = renewed = False
    refused_since: float | None = None
    no_room_since: float | None = None
    now = Standing((), (), only_room=False, leaving=0)
    wanted: dict[str, int] = {}

    def look() -> str:
        nonlocal accepted, refused_since, renewed, no_room_since, now, wanted
        since, no_room_since = no_room_since, None
        try:
            slots = pool.slots()
            if not accepted:
                pool.jobs("false")
                pool.can_write()
                accepted = True
        except AuthenticationError as e:
            # This machine's token belongs to an earlier pool of this name, or was revoked: give a new one. Not at
            # once: a central manager that is just starting looks the same.
            refused_since = refused_since or time.monotonic()
            if not renewed and time.monotonic() - refused_since > 10:
                renewed = True
                give_access(fleet, engine, p.context)
            return e.message
        except PoolError as e:
            return e.message
        # The services' own numbers: somebody, or the autoscaler, may change them while we wait.
        services = [s for s in engine.services(p.cluster.name) if s.labels.get(state.LABEL_CLASS) in names]
        wanted = {s.labels[state.LABEL_CLASS]: s.replicas or 0 for s in services}
        ready = {n.id for n in engine.nodes() if n.state == "ready"}
        now = standing(services, engine.tasks(), slots, ready=ready)
        if now.only_room:
            no_room_since = since or time.monotonic()
            if time.monotonic() - no_room_since > _NO_ROOM_S:
                return ""
        return "; ".join(now.missing)

    _wait(engine, p.cluster.name, look, progress, timeout_s=timeout_s)
    short = {s.name: f"{s.running} of " for s in now.shortages}
    executors = (
        f"{short.get(c.name, '')}{wanted.get(c.name, c.replicas)} × {c.name} ({c.cpus} CPU, {c.memory_mib} MiB)"
        for c in p.classes
    )
    progress.done(f"usable: {', '.join(executors)}")
    if not now.leaving:
        return now.shortages
    for shortage in now.shortages:
        progress.notice(str(shortage))
    then = "make room for others" if now.shortages else "restart with the new settings"
    progress.notice(f"{now.leaving} executors finish their running jobs before they {then}")
    return ()


def give_access(fleet: Fleet, engine: Engine, ctx: context.Context) -> None:
    """A token for the person at this machine, signed by the pool."""
    context.save(ctx, people.create(fleet, engine, ctx.pool, ctx.person, lifetime_s=None).text)


def _wait(engine: Engine, pool: str, look: Callable[[], str], progress: Progress, *, timeout_s: float) -> None:
    """Polls until `look` has nothing to say. Swarm's own task errors are shown as they come."""
    deadline = time.monotonic() + timeout_s
    while waiting := look():
        trouble = task_errors(engine, pool)
        said = waiting + "".join(f"; {t}" for t in trouble)
        progress.detail(said)
        if time.monotonic() > deadline:
            raise WaitTimeoutError(
                f"the pool is not usable after {timeout_s:.0f} s: {said}",
                hint="swarmhpc doctor; docker service ps --no-trunc SERVICE; then swarmhpc up",
            )
        time.sleep(0.2)
