"""Carries out what `nodes` decided: drain, activate, move the queue, remove. Each can be interrupted and run again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from swarmhpc import state
from swarmhpc.adapters.docker import Engine, Service, Task
from swarmhpc.cluster import bring, down, file_edits, nodes
from swarmhpc.cluster.fleet import Fleet, each, failures
from swarmhpc.cluster.nodes import Answer, LeavePlan, Row, Situation
from swarmhpc.cluster.progress import Progress
from swarmhpc.config import Cluster, Machine
from swarmhpc.errors import EngineError, EngineUnreachableError, SwarmHpcError, WaitTimeoutError
from swarmhpc.scaling.view import host

# Everything of a volume that must be the same after a copy: how many, how many bytes, and a digest over names, kinds,
# modes, owners, link targets and contents.
_CONTENTS = """
cd /volume || exit
count=$(find . -mindepth 1 -printf x | wc -c)
bytes=$(find . -type f -printf '%s\\n' | awk '{ s += $1 } END { printf "%.0f", s }')
digest=$( { find . -mindepth 1 -printf '%y %m %U %G %p %l\\n'; find . -type f -exec sha256sum {} +; } |
  LC_ALL=C sort | sha256sum | cut -c1-64)
echo "$count $bytes $digest"
"""


@dataclass(frozen=True)
class Contents:
    """What a volume holds: equal for equal trees."""

    count: int
    bytes: int
    digest: str


def machines_to_reach(cluster: Cluster, known: Iterable[Machine], rows: Iterable[Row]) -> tuple[Machine, ...]:
    """Every machine that may have to be asked: as the file in hand says, else as the Swarm's file says; a node that
    neither names, at the address that the Swarm knows and with the ssh settings of the others."""
    found = {m.name: m for m in (*cluster.machines, *known)}
    usual = file_edits.usual_ssh(cluster)
    for r in rows:
        if r.name not in found:
            found[r.name] = Machine(r.name, r.address, "manager" if r.role == "manager" else "worker", usual, r.labels)
    return tuple(found.values())


def manager_besides(fleet: Fleet, s: Situation, targets: Collection[Row]) -> Engine:
    """A manager that is none of `targets`. Raises EngineUnreachableError."""
    going = {r.id for r in targets}
    asked = []
    for m in fleet.machines:
        row = next((r for r in s.rows if r.name == m.name), None)
        if row is None or row.role != "manager" or row.id in going:
            continue
        asked.append(m.name)
        with contextlib.suppress(SwarmHpcError):
            engine = fleet.engine(m.name)
            if engine.managed_cluster() == s.pool:
                return engine
    raise EngineUnreachableError(
        f"no other manager of pool {s.pool} answers; asked: {', '.join(asked) or 'nobody'}",
        hint="swarmhpc node list; a manager that is not leaving must be reachable over ssh from here",
    )


def activate(manager: Engine, targets: Sequence[Row]) -> dict[str, SwarmHpcError]:
    """Takes tasks again."""
    return failures(each([r.name for r in targets], _setting(manager, targets, "active")))


def spread_commands(manager: Engine, pool: str) -> tuple[str, ...]:
    """What starts the executors of every class anew, wherever there is most room; jobs finish first."""
    services = [s for s in manager.services(pool) if s.labels.get(state.LABEL_ROLE) == state.EXECUTOR]
    return tuple(f"docker service update --force --detach {s.name}" for s in services)


# -- drain ----------------------------------------------------------------------------------------------------------


def drain(
    fleet: Fleet,
    manager: Engine,
    s: Situation,
    targets: Sequence[Row],
    progress: Progress,
    *,
    now: bool,
    timeout_s: float | None,
) -> dict[str, SwarmHpcError]:
    """Sets the nodes to drain and waits until no task runs on them. Executors get TERM and finish their jobs first.

    `now`: their jobs go back to the queue instead. Raises WaitTimeoutError; the drain stays on.
    """
    progress.start("drain")
    failed = failures(each([r.name for r in targets], _setting(manager, targets, "drain")))
    waited_for = {}
    for r in targets:
        if r.state == "ready":
            waited_for[r.id] = r.name
        else:
            progress.notice(f"node {r.name} is {r.state}: nobody can see when its tasks end")
    asked_at = looked_at = 0.0
    jobs: Mapping[str, int] | None = None
    start = time.monotonic()
    while left := _running(manager, waited_for):
        services = manager.services(s.pool)
        if now and time.monotonic() - asked_at > 2:
            asked_at = time.monotonic()
            evict(fleet, manager, s.pool, executor_hosts(left, services))
        if not looked_at or time.monotonic() - looked_at > 5:
            looked_at = time.monotonic()
            jobs = _jobs(s.pool, left)
        said = still_there(left, waited_for, services, jobs)
        progress.detail(said)
        if timeout_s is not None and time.monotonic() - start > timeout_s:
            names = " ".join(waited_for.values())
            raise WaitTimeoutError(
                f"after {timeout_s:.0f} s: {said}; the drain stays on",
                hint=f"swarmhpc node drain {names} goes on waiting; with --now jobs go back to the queue; "
                f"swarmhpc node activate {names} takes it back",
            )
        time.sleep(0.5)
    done = ", ".join(r.name for r in targets if r.name not in failed)
    progress.done(f"nothing runs on {done} any more" if done else "nothing drained")
    return failed


def _setting(manager: Engine, targets: Sequence[Row], availability: str) -> Callable[[str], None]:
    of_name = {r.name: r for r in targets}

    def change(name: str) -> None:
        if of_name[name].availability != availability:
            manager.node_update(of_name[name].id, availability=availability)

    return change


def _running(manager: Engine, node_ids: Mapping[str, str]) -> list[Task]:
    return [t for t in manager.tasks() if t.node_id in node_ids and t.runs_still]


def _jobs(pool: str, tasks: Sequence[Task]) -> Mapping[str, int] | None:
    """Jobs by node id; None where the collector does not answer."""
    found = nodes.slots(pool)
    if found is None:
        return None
    of_task = {t.id: t.node_id for t in tasks}
    counts = dict.fromkeys(of_task.values(), 0)
    for slot in found:
        if slot.job_id and not slot.partitionable and slot.task in of_task:
            counts[of_task[slot.task]] += 1
    return counts


def still_there(
    tasks: Sequence[Task], names: Mapping[str, str], services: Sequence[Service], jobs: Mapping[str, int] | None
) -> str:
    """`n2: 2 executors finish 3 jobs; n3: 1 other task stops`. `names`: by node id."""
    others = {s.id for s in services if s.labels.get(state.LABEL_ROLE) != state.EXECUTOR}
    parts = []
    for node_id, name in names.items():
        here = [t for t in tasks if t.node_id == node_id]
        executors = sum(t.service_id not in others for t in here)
        if executors:
            count = "their jobs" if jobs is None else _many(jobs.get(node_id, 0), "job")
            parts.append(f"{name}: {_many(executors, 'executor')} to finish {count}")
        elif here:
            parts.append(f"{name}: {_many(len(here), 'other task')} to stop")
    return "; ".join(parts)


def executor_hosts(tasks: Sequence[Task], services: Sequence[Service]) -> list[str]:
    """The host names of these executors, as stacks/pool.yml.j2 gives them."""
    classes = {s.id: s.labels[state.LABEL_CLASS] for s in services if state.LABEL_CLASS in s.labels}
    return [host(classes[t.service_id], t) for t in tasks if t.service_id in classes]


def evict(fleet: Fleet, manager: Engine, pool: str, hosts: Sequence[str]) -> None:
    """Sends the jobs on these executors back to the queue; no access point, or no job there: nothing to do."""
    if not hosts:
        return
    # RemoteHost is slot1_1@HOST. A host name holds no letter that means something in an expression.
    constraint = f'regexp("@({"|".join(hosts)})([.]|$)", RemoteHost) =?= true'
    down.evict(fleet, manager, pool, "-constraint", constraint)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


# -- the queue moves ------------------------------------------------------------------------------------------------


def move_queue(fleet: Fleet, manager: Engine, s: Situation, p: LeavePlan, progress: Progress) -> None:
    """The access point stops, its volume is copied and compared, then it starts on the new node.

    Until the copy is proven equal nothing changes at the old place, and the access point goes back there. From then on
    both nodes carry the label for a moment, with the access point stopped: the same command again, or `up`, goes on.
    """
    if p.move is None:
        return
    old, new = p.move
    progress.start("queue")
    service = next((x for x in manager.services(s.pool) if x.labels.get(state.LABEL_ROLE) == state.ACCESS_POINT), None)
    if service is None:
        raise EngineError(f"pool {s.pool} has no access point service", hint="swarmhpc up; then the same command again")
    volume = state.queue_volume(s.pool)
    copies = s.queue_is_volume and not p.lost
    if copies and service.replicas:
        _check_room(fleet, s, new, volume, service.image)
    try:
        if not p.lost:
            manager.scale(service.id, 0)
            progress.detail("the access point stops")
            bring.wait(
                lambda: [t.id for t in manager.tasks(service.id) if t.runs_still],
                "the access point stops",
                timeout_s=120,
            )
        if copies:
            _copy(fleet, s, p.move, volume, service.image, progress)
    except BaseException:
        manager.scale(service.id, 1)
        raise
    _label(manager, new, s.pool, add=True)
    _label(manager, old, s.pool, add=False)
    manager.scale(service.id, 1)
    progress.detail(f"the access point starts on {new.name}")
    bring.wait(
        lambda: (
            []
            if any(t.is_up and t.node_id == new.id for t in manager.tasks(service.id))
            else f"it does not run on {new.name} yet"
        ),
        "the access point starts",
        timeout_s=180,
    )
    if copies:
        # The access point runs on the copy: another one elsewhere is a trap for the next move.
        try:
            fleet.engine(old.name).volume_remove(volume)
        except SwarmHpcError as e:
            progress.notice(f"the old copy, volume {volume}, is left on {old.name}: {e.message}")
    progress.done(f"it is on {new.name}")


def _label(manager: Engine, row: Row, pool: str, *, add: bool) -> None:
    labels = dict(next(n.labels for n in manager.nodes() if n.id == row.id))
    labels.pop(state.LABEL_QUEUE_NODE, None)
    manager.node_update(row.id, labels={**labels, state.LABEL_QUEUE_NODE: pool} if add else labels)


def _check_room(fleet: Fleet, s: Situation, new: Row, volume: str, image: str) -> None:
    engine = fleet.engine(new.name)
    if volume in engine.volumes(s.pool) and contents(engine, s.pool, image, volume).count:
        raise _not_empty(new, volume)


def _not_empty(new: Row, volume: str) -> EngineError:
    return EngineError(
        f"node {new.name} has a volume {volume} already, and it is not empty: an older queue, with jobs perhaps",
        hint=f"if nobody needs it: ssh {new.address} docker volume rm {volume}; or move to another node",
    )


def _copy(fleet: Fleet, s: Situation, move: tuple[Row, Row], volume: str, image: str, progress: Progress) -> None:
    """Copies the volume and proves the copy equal. One that fails is removed again."""
    old, new = move
    source, target = fleet.engine(old.name), fleet.engine(new.name)
    if volume not in source.volumes(s.pool):
        return  # no access point ever ran
    wanted = contents(source, s.pool, image, volume)
    if volume in target.volumes(s.pool) and (there := contents(target, s.pool, image, volume)).count:
        if there == wanted:
            return  # copied already, then interrupted
        raise _not_empty(new, volume)
    size = f"{wanted.count} files and folders, {wanted.bytes / 2**20:.1f} MiB"
    progress.detail(f"copying the queue from {old.name} to {new.name}: {size}")
    target.volume_create(volume, {state.LABEL_CLUSTER: s.pool})
    try:
        with source.volume_reader(volume, image, cluster=s.pool) as chunks:
            target.volume_fill(volume, image, chunks, cluster=s.pool)
        progress.detail("comparing the copy")
        _require_equal(contents(target, s.pool, image, volume), wanted, f"volume {volume} on {new.name}")
    except BaseException:
        with contextlib.suppress(SwarmHpcError):
            target.volume_remove(volume)
        raise


def _require_equal(got: Contents, wanted: Contents, what: str) -> None:
    if got != wanted:
        raise EngineError(
            f"{what} is not equal to what was copied: {got.count} files and folders, {got.bytes} bytes; "
            f"wanted {wanted.count} and {wanted.bytes}; the queue stays where it was",
            hint="is the disk full there? Then the same command again",
        )


def contents(engine: Engine, pool: str, image: str, volume: str) -> Contents:
    """What the volume holds. Raises EngineError."""
    out = engine.run_once(image, ["sh", "-c", _CONTENTS], cluster=pool, binds={volume: "/volume"})
    words = out.split()
    if len(words) != 3:
        raise EngineError(f"volume {volume} could not be read; saw {out.strip()[:200]!r}", hint="swarmhpc doctor")
    return Contents(int(words[0]), int(words[1]), words[2])


# -- remove ---------------------------------------------------------------------------------------------------------


def remove(
    fleet: Fleet,
    manager: Engine,
    s: Situation,
    p: LeavePlan,
    answering: Mapping[str, Answer],
    progress: Progress,
) -> dict[str, SwarmHpcError]:
    """Takes the (drained) nodes out of the Swarm, one after another, and the pool's leftovers off them.

    Returns why some are not out yet.
    """
    progress.start("leave")
    failed: dict[str, SwarmHpcError] = {}
    for r in p.targets:
        progress.detail(f"{r.name} leaves")
        try:
            _leave(fleet, manager, s, r, answering.get(r.name), progress)
        except SwarmHpcError as e:
            failed[r.name] = e
    out = [r.name for r in p.targets if r.name not in failed]
    progress.done(f"{', '.join(out)}: no node any more" if out else "nobody left")
    return failed


def _leave(fleet: Fleet, manager: Engine, s: Situation, r: Row, answer: Answer | None, progress: Progress) -> None:
    if r.id:
        if r.role == "manager":
            manager.node_update(r.id, role="worker")
        if answer == "node":
            engine = fleet.engine(r.name)
            # A manager that leaves before it has been demoted still counts for the quorum.
            bring.wait(
                lambda: "it is a manager still" if engine.facts().is_manager else "", f"demote {r.name}", timeout_s=60
            )
            engine.swarm_leave()
        # It has left, or is gone for good: Swarm itself takes 15 s and more to notice.
        manager.node_remove(r.id, force=True)
    if answer not in ("node", "left"):
        return
    engine = fleet.engine(r.name)
    if engine.facts().swarm_state != "inactive":
        return  # it has joined somebody else's
    down.clean(engine, s.pool, s.cluster, r.name, progress)
    down.remove_bridge(engine, progress)
    for volume in engine.volumes(s.pool):
        if volume == state.accounting_volume(s.pool):
            # What a central manager that once ran here remembers of use: the one elsewhere has its own since then.
            engine.volume_remove(volume)
            continue
        progress.notice(f"volume {volume} is left on {r.name}: docker volume rm {volume} deletes it there")
