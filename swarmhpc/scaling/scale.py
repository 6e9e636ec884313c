"""`swarmhpc scale`: executors of a class come until they are registered, and go without losing a job.

`replicas` of the class's service is the wanted size at every moment. Lowering it never ends a job: an executor that
gets TERM takes no new jobs and leaves when its running ones have ended. What is decided here is who goes first.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarmhpc import state
from swarmhpc.adapters.docker import Engine
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cluster.progress import Progress
from swarmhpc.errors import PoolError, SwarmHpcError, UsageError, WaitTimeoutError
from swarmhpc.scaling import victims
from swarmhpc.scaling.victims import UPDATABLE, DownPlan
from swarmhpc.scaling.view import ClassView, host, look

MAX_REPLICAS = 200
STARTING_PER_NODE = 10
"""So many executors start at once on average: more make each other late, and load engine and collector."""
_STUCK_S = 8
"""An executor that has not begun to run after so long, with an error, is not about to."""
_CLOSED = "node.id != "
_WANT = re.compile(r"([a-z][a-z0-9-]*)=([+-]?)([0-9]{1,9})")

Slots = Callable[[], Sequence[Slot]]
"""Asks the collector. Raises PoolError."""
Running = Callable[[], Mapping[str, str]]
"""Asks the queue: a running job by the host name of its executor. Raises PoolError."""
Retire = Callable[[Sequence[str]], bool]
"""Tells executors, by host name, to take no new jobs and to leave; whether all have been told."""


@dataclass(frozen=True)
class Change:
    """One class on its way to another size. `down` None: it does not get smaller."""

    view: ClassView
    target: int
    down: DownPlan | None

    @property
    def name(self) -> str:
        """The class."""
        return self.view.name


class ScaleError(SwarmHpcError):
    """Some classes did not reach the size that was asked for."""


@dataclass(frozen=True)
class Hands:
    """What this wing acts with: the Swarm's manager, and its way to the collector and to executors."""

    engine: Engine
    pool: str
    slots: Slots
    running: Running
    retire: Retire

    def look(self) -> dict[str, ClassView]:
        """Every class as it is now. Raises PoolError where the collector can't be asked."""
        try:
            running = self.running()
        except PoolError:  # nor can it begin a job then: the collector knows all there are
            running = {}
        return look(self.engine, self.pool, self.slots(), self.engine.nodes(), running)


def parse(words: Sequence[str], views: Mapping[str, ClassView]) -> dict[str, int]:
    """`executors=5`, `executors=+2`, `executors=-2` as replicas by class. Raises UsageError with all problems."""
    known = ", ".join(sorted(views))
    wants: dict[str, int] = {}
    problems = []
    for word in words:
        match = _WANT.fullmatch(word)
        if match is None:
            problems.append(f"saw {word!r}, wanted CLASS=NUMBER, CLASS=+NUMBER or CLASS=-NUMBER")
            continue
        name, sign, digits = match.groups()
        view = views.get(name)
        if view is None:
            problems.append(f"there is no class {name!r}; the pool has {known or 'none'}")
            continue
        if name in wants:
            problems.append(f"class {name} is named twice")
            continue
        target = {"": 0, "+": view.replicas, "-": view.replicas}[sign] + int(digits) * (-1 if sign == "-" else 1)
        maximum = view.plan.maximum if view.plan else None
        if target < 0:
            problems.append(
                f"{word}: {name} has {view.replicas} executors, that would leave {target}; wanted 0 or more"
            )
        elif maximum is not None and target > maximum:
            problems.append(
                f"{word}: {target} executors are above the class's max of {maximum} (executors.{name}.max in "
                "swarmhpc.yaml; swarmhpc up applies another)"
            )
        elif target > MAX_REPLICAS:
            problems.append(f"{word}: saw {target} executors, wanted at most {MAX_REPLICAS} in a class")
        wants[name] = target
    if problems:
        raise UsageError("; ".join(problems), hint="swarmhpc scale executors=5   (or =+2, =-2); swarmhpc status")
    return wants


def decide(views: Mapping[str, ClassView], wants: Mapping[str, int]) -> list[Change]:
    """What has to change, those that get smaller first: they may make room. A class that has its size is left out."""
    changes = []
    for name, target in wants.items():
        view = views[name]
        if target < view.replicas:
            changes.append(Change(view, target, _down(view, target)))
        elif target > view.replicas or view.registered < target:
            changes.append(Change(view, target, None))
    return sorted(changes, key=lambda c: c.down is None)


def _down(view: ClassView, target: int) -> DownPlan:
    count = len({e.slot for e in view.executors}) - target
    return victims.plan_down(view.executors, view.rows, max(0, count))


def describe(change: Change) -> list[str]:
    """The change in words that read well after "will"; executors that leave, one a line, each with its reason."""
    view = change.view
    lines = [f"scale {view.name} from {view.replicas} to {change.target}"]
    if change.down is None:
        return lines
    names = {t.id: host(view.name, t) for t in view.tasks}
    lines += [
        f"  {names[v.task_id]}{f' on {v.node}' if v.node else ''} goes at once: {v.kind}, {v.why}"
        for v in change.down.free
    ]
    may = len(change.down.draining) > change.down.draining_count
    for v in change.down.draining:
        verb = "may finish its jobs and leave" if may else "finishes its jobs and leaves"
        lines.append(f"  {names[v.task_id]} on {v.node} {verb}: {v.why}")
    if may:
        lines.append(f"  {change.down.draining_count} of these {len(change.down.draining)}; Swarm chooses among equals")
    return lines


# -- up -------------------------------------------------------------------------------------------------------------


def grow(hands: Hands, name: str, target: int, progress: Progress, *, timeout_s: float) -> None:
    """Raises the replicas, not more at once than can start well, until every executor is registered.

    Where Swarm has no node for some, the replicas go back to what fits. Raises ScaleError, WaitTimeoutError.
    """
    start = moved_at = time.monotonic()
    best = (-1, -1)
    asked = False
    while True:
        nodes = hands.engine.nodes()
        view = look(hands.engine, hands.pool, hands.slots(), nodes)[name]
        if asked and view.replicas > target:
            raise ScaleError(f"{name}: somebody else asks for {view.replicas} executors now; wanted {target}")
        running = sum(e.running for e in view.executors)
        ready = sum(n.state == "ready" and n.availability == "active" for n in nodes)
        step = min(target, view.registered + STARTING_PER_NODE * max(1, ready))
        if view.replicas < step:
            hands.engine.scale(view.service.id, step)
            asked = True
        if view.registered >= target:
            break
        now = time.monotonic()
        if (running, view.registered) != best:
            best, moved_at = (running, view.registered), now
        said = f"{view.registered} of {target} registered, {running} running"
        trouble = "; ".join(view.trouble)
        progress.detail(said + (f"; Swarm says: {trouble}" if trouble else ""))
        if trouble and now - moved_at > _STUCK_S and view.registered == running:
            _take_back(hands, name, progress)
            raise ScaleError(
                f"{name}: {running} of {target} executors run; Swarm says: {trouble}; the class keeps {running}",
                hint="swarmhpc status shows what there is; or change cpus, memory, placement, max_per_node or reserve "
                "of the class in swarmhpc.yaml, then: swarmhpc up",
            )
        if now - start > timeout_s:
            raise WaitTimeoutError(
                f"{name}: after {timeout_s:.0f} s {said}" + (f"; Swarm says: {trouble}" if trouble else ""),
                hint="swarmhpc status; swarmhpc doctor; the same command again goes on",
            )
        time.sleep(0.25)
    progress.done(f"{name}: {target} executors registered")


def _take_back(hands: Hands, name: str, progress: Progress) -> None:
    """Lowers the replicas to what runs."""
    view = hands.look()[name]
    lower(hands, view, sum(e.running for e in view.executors), progress.detail)


# -- down -----------------------------------------------------------------------------------------------------------


def lower(hands: Hands, view: ClassView, target: int, say: Callable[[str], None]) -> frozenset[str]:
    """Lowers the replicas so that executors without jobs go first; ids of the tasks that are leaving now.

    Returns as soon as Swarm has chosen. Raises EngineError, also where somebody else changes the service just now.
    """
    plan = _down(view, target)
    if plan.retire:
        _retire_first(hands, view, plan.retire, target, say)
    else:
        hands.engine.scale(view.service.id, target)
    before = {t.id: t for t in view.tasks if t.desired in UPDATABLE}
    deadline = time.monotonic() + 10
    while True:
        now = {t.id: t for t in hands.engine.tasks(view.service.id)}
        count = len({t.slot for t in now.values() if t.desired in UPDATABLE})
        if count <= target or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    taken = frozenset(i for i in before if i not in now or now[i].desired not in UPDATABLE)
    # Swarm waits 2 s before it sends TERM: no job shall be matched to them until then.
    still = [host(view.name, now[i]) for i in taken if i in now and now[i].runs_still]
    if still:
        hands.retire(still)
    expected = {v.task_id for v in (*plan.free, *plan.draining)}
    if others := taken - expected:
        names = ", ".join(host(view.name, before[i]) for i in sorted(others))
        say(f"Swarm chose {names} instead; their jobs finish first")
    return taken


def _retire_first(hands: Hands, view: ClassView, slots: Sequence[int], target: int, say: Callable[[str], None]) -> None:
    """Executors in `slots` leave by themselves while nothing may take their places: Swarm removes slots that have no
    node before all others. Then one change lowers the replicas and gives the placement back."""
    engine, service = hands.engine, view.service.id
    going = [t for t in view.tasks if t.desired in UPDATABLE and t.slot in slots]
    staying = {t.node_id for t in view.tasks if t.desired in UPDATABLE and t.slot not in slots}
    usual = _usual_placement(engine, view)
    closed = [f"{_CLOSED}{n.id}" for n in engine.nodes() if n.id not in staying]
    # A change of the placement alone restarts nothing where a node still fits (swarmkit, orchestrator/task.go,
    # IsTaskDirty). With one executor of the class a node at most, nobody who has one can take another.
    frozen = {**usual, "MaxReplicas": 1, "Constraints": [*(usual.get("Constraints") or ()), *closed]}
    done = False
    try:
        engine.service_change(service, placement=frozen)
        told: bool = hands.retire([host(view.name, t) for t in going])
        told_at = time.monotonic()
        deadline = told_at + 30
        while time.monotonic() < deadline:
            placeless = {t.slot for t in engine.tasks(service) if t.desired in UPDATABLE and not t.node_id}
            if not (left := set(slots) - placeless):
                break
            say(f"{len(left)} idle executors leave")
            if not told and time.monotonic() - told_at > 1:
                told = hands.retire([host(view.name, t) for t in going if t.slot in left])
                told_at = time.monotonic()
            time.sleep(0.1)
        engine.service_change(service, replicas=target, placement=usual)
        done = True
    finally:
        if not done:
            engine.service_change(service, placement=usual)


def _usual_placement(engine: Engine, view: ClassView) -> dict[str, Any]:
    """What the cluster file says, also where a command died while it held another placement."""
    placement = engine.placement(view.service.id)
    if view.plan is None:
        return placement
    placement["Constraints"] = [f"node.labels.{k} == {v}" for k, v in view.plan.placement]
    placement["Preferences"] = (
        [{"Spread": {"SpreadDescriptor": f"node.labels.{view.plan.spread}"}}] if view.plan.spread else []
    )
    placement["MaxReplicas"] = view.plan.max_per_node or 0
    return {key: value for key, value in placement.items() if value}


def heal(engine: Engine, view: ClassView) -> None:
    """Gives a class its placement back that an interrupted command has left closed."""
    if is_closed(engine, view):
        engine.service_change(view.service.id, placement=_usual_placement(engine, view))


def is_closed(engine: Engine, view: ClassView) -> bool:
    """Whether a command that works on the class, or one that was interrupted, holds its placement closed."""
    placement = engine.placement(view.service.id)
    # Where every node keeps an executor nothing is closed but this.
    limited = view.plan is not None and placement.get("MaxReplicas", 0) != (view.plan.max_per_node or 0)
    return limited or any(c.startswith(_CLOSED) for c in placement.get("Constraints") or ())


def wait_gone(
    hands: Hands,
    name: str,
    task_ids: Collection[str],
    progress: Progress,
    *,
    timeout_s: float | None,
    idle_only: bool = False,
) -> list[str]:
    """Waits until these tasks have ended and the collector knows them no more; those left when the time is over.

    With `idle_only` not for those that have a job after all: one that began in the moment they were told to leave.
    """
    start = time.monotonic()
    while True:
        slots = hands.slots()
        known, claimed = {s.task for s in slots}, {s.task for s in slots if s.is_claimed}
        running = {t.id for t in hands.engine.tasks() if t.runs_still}
        left = [i for i in task_ids if i in running or i in known]
        if claimed.issuperset(left) and (idle_only or not left):
            return left
        if timeout_s is not None and time.monotonic() - start > timeout_s:
            return left
        progress.detail(f"{name}: {len(left)} of {len(task_ids)} still leave")
        time.sleep(0.2)


def apply(
    hands: Hands,
    changes: Sequence[Change],
    progress: Progress,
    *,
    timeout_s: float,
) -> dict[str, frozenset[str]]:
    """Carries out the changes; by class the tasks that still finish jobs. Raises ScaleError when not all succeeded."""
    draining: dict[str, frozenset[str]] = {}
    failed: list[SwarmHpcError] = []
    for change in changes:
        progress.start(change.name)
        try:
            heal(hands.engine, change.view)
            if change.down is None:
                grow(hands, change.name, change.target, progress, timeout_s=timeout_s)
                continue
            view = hands.look()[change.name]  # things have moved on since the plan was shown
            if change.target > view.replicas:
                raise ScaleError(f"{change.name}: somebody else asks for {view.replicas} executors now")
            busy = {e.task_id for e in view.executors if e.jobs}
            taken = lower(hands, view, change.target, progress.detail)
            left = wait_gone(hands, change.name, taken - busy, progress, timeout_s=60, idle_only=True)
            draining[change.name] = frozenset((taken & busy) | set(left))
            gone = len(taken) - len(draining[change.name])
            still = f", {len(draining[change.name])} finish their jobs first" if draining[change.name] else ""
            progress.done(f"{change.name}: {change.target} executors; {gone} have left{still}")
        except SwarmHpcError as e:
            failed.append(e)
    if failed:
        hints = dict.fromkeys(e.hint for e in failed if e.hint)
        raise ScaleError("; ".join(e.message for e in failed), hint="; ".join(hints))
    return draining


def autoscaler_is_on(engine: Engine, pool: str) -> bool:
    """Whether the autoscaler runs."""
    services = engine.services(pool)
    return any(s.labels.get(state.LABEL_ROLE) == state.AUTOSCALER and s.replicas for s in services)
