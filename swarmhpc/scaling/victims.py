"""Who leaves when a class gets smaller. Pure: tables in, a plan out.

Swarm alone chooses which slots of a replicated service go when `replicas` is lowered. Its order is read from swarmkit
(manager/orchestrator/replicated/services.go `reconcile`, slot.go; restart/restart.go `UpdatableTasksInSlot`; commit
3e72cb64) and modelled by `removal`. `plan_down` uses it to find out whether plain lowering takes executors without
jobs before any with jobs (`direct`), or whether chosen ones must be told to leave first (the *exact way*): their
replacements find no node, and Swarm removes slots without a node before all others.

An executor that is *starting* (it has a node but does not run yet) is free: it has no job. But there is no HTCondor in
it that could be told to leave, and it keeps its place in Swarm's order. So in the exact way it goes only where Swarm's
own order takes it; where it stays although a busy one goes it is named in `DownPlan.free_kept`. The same holds for a
slot with two tasks of which one has jobs: Swarm takes it before all others, whatever is planned.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from swarmhpc.units import format_duration_s

UPDATABLE: Final = frozenset(
    {"new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running"}
)
"""Desired states up to running (swarmkit api/types.proto `TaskState`): such a task counts as a replica. A slot without
one counts only where its task shall not be restarted, which restart policy `any` rules out."""
STABLE_UP_TO: Final = 12
"""So many slots Go's sort.Sort leaves in order where they are equal (insertion sort, Go 1.19 and later). Engines built
with an older Go keep the order of 6 only: there a tie among 7 to 12 slots may end otherwise than said here."""


@dataclass(frozen=True)
class TaskRow:
    """One task of the class's service as the Swarm lists it. `state` and `desired` are Swarm's own words."""

    id: str
    slot: int
    node_id: str
    """Empty while Swarm has found no node."""
    state: str
    desired: str
    changed_at: str
    """When its state changed last: ISO timestamp."""


@dataclass(frozen=True)
class Executor:
    """A slot of the service with what the collector knows of its task."""

    slot: int
    task_id: str
    node_id: str
    node: str
    """Name for people; empty when not placed."""
    running: bool
    """In Swarm's state running."""
    registered: bool
    """Seen in the collector."""
    jobs: tuple[str, ...]
    """Ids of the jobs claimed on it now."""
    youngest_job_s: int
    """Since when its most recent job runs; 0 without jobs."""


@dataclass(frozen=True)
class Removal:
    """What Swarm takes when replicas are lowered: `certain`, and `tied_count` of `tied`, nobody can tell which."""

    certain: frozenset[int]
    """Slots."""
    tied: frozenset[int]
    """Slots that are equal in Swarm's order: more than go."""
    tied_count: int


@dataclass(frozen=True)
class Victim:
    """An executor that leaves or may leave."""

    slot: int
    task_id: str
    node: str
    """Name for people; empty when not placed."""
    kind: Literal["not running", "idle", "busy"]
    why: str
    """Short words for a person."""


@dataclass(frozen=True)
class DownPlan:
    """How a class gets smaller by `count`; `count - draining_count` of them go at once."""

    count: int
    direct: bool
    """Lowering replicas is enough: no busy one goes while a free one stays, however Swarm settles its ties. Where this
    is false and `retire` is empty nothing better than lowering can be done now (see `free_kept`)."""
    retire: tuple[int, ...]
    """Exact way: slots of idle running executors that are told to leave, in order of preference. Empty when direct."""
    free: tuple[Victim, ...]
    """Those without jobs that go at once, in order of preference. Where `why` speaks of a tie: those that may go."""
    draining: tuple[Victim, ...]
    """Busy ones that Swarm takes after them, longest running first. Where `why` speaks of a tie: those that may go."""
    draining_count: int
    """How many busy ones finish their jobs and leave; at most so many where busy and free ones are tied."""
    free_kept: tuple[int, ...] = ()
    """Slots without jobs that stay or may stay although a busy one goes: nothing can make Swarm take them now. Planned
    again once they run, they go first."""


def removal(tasks: Sequence[TaskRow], count: int) -> Removal:
    """The slots that Swarm removes when replicas are lowered by `count` from the number of updatable slots.

    Swarm sorts the slots, running ones first, then by number; counts each as the 1st, 2nd, … of its node; and removes
    the highest counts first. A slot without a node, or with two updatable tasks, goes before all others. Raises
    ValueError when `count` is below 0 or above the number of updatable slots.
    """
    slots = _updatable(tasks)
    if not 0 <= count <= len(slots):
        raise ValueError(f"wanted to lower {len(slots)} slots by 0 to {len(slots)}, saw {count}")
    ranks = _ranks(slots)
    order = sorted(ranks, key=ranks.__getitem__)  # stable, and `ranks` is in the order of the first sort
    going = order[len(order) - count :]
    if not going or len(order) <= STABLE_UP_TO:
        return Removal(frozenset(going), frozenset(), 0)
    edge = ranks[going[0]]
    equal = frozenset(slot for slot in order if ranks[slot] == edge)
    certain = frozenset(slot for slot in going if ranks[slot] > edge)
    if equal <= set(going):
        return Removal(certain | equal, frozenset(), 0)
    return Removal(certain, equal, count - len(certain))


def plan_down(executors: Sequence[Executor], tasks: Sequence[TaskRow], count: int) -> DownPlan:
    """Who leaves, and how, when the class gets smaller by `count`: those without jobs first.

    `tasks` is the table of the class's service and `executors` has every updatable slot in it (others are passed over;
    of several for one slot the one with most jobs counts). Order of preference: not running, running but not
    registered, idle; among idle ones those on the node with most executors of the class, then the highest slot. Which
    busy ones go is Swarm's choice. Raises ValueError when `count` is below 0 or above the number of updatable slots,
    or an updatable slot is missing in `executors`.
    """
    outcome = removal(tasks, count)
    slots = _updatable(tasks)
    by_slot = {e.slot: e for e in sorted(executors, key=lambda e: (len(e.jobs), e.running)) if e.slot in slots}
    if missing := sorted(set(slots) - set(by_slot)):
        raise ValueError(f"wanted an executor for each updatable slot, saw none for {missing}")
    free = _by_preference(by_slot.values())
    busy = sorted((e for e in by_slot.values() if e.jobs), key=lambda e: (-e.youngest_job_s, -e.slot))
    busy_slots = {e.slot for e in busy}

    direct = count - _most_busy(outcome, busy_slots) == min(count, len(free))
    retire: tuple[int, ...] = ()
    if not direct:
        retire = _to_retire(free, busy_slots, slots, count)
        outcome = removal(_after_leaving(tasks, retire), count)

    may_go = outcome.certain | outcome.tied
    draining_count = _most_busy(outcome, busy_slots)
    return DownPlan(
        count=count,
        direct=direct,
        retire=retire,
        free=tuple(_victim(e, slots, outcome) for e in free if e.slot in may_go),
        draining=tuple(_victim(e, slots, outcome) for e in busy if e.slot in may_go),
        draining_count=draining_count,
        free_kept=tuple(e.slot for e in free if e.slot not in outcome.certain) if draining_count else (),
    )


def surplus(before: Sequence[TaskRow], after: Sequence[TaskRow]) -> frozenset[int]:
    """Slots that counted as replicas in `before` and that Swarm has removed since: for the check afterwards.

    A restart (the task's desired state is shutdown, a new task is in its slot) is not a removal. Desired state remove
    is one even where the slot has a new task since (somebody scaled up again): only lowering replicas sets it
    (swarmkit replicated/services.go `setTasksDesiredState`).
    """
    was, still = _updatable(before), _updatable(after)
    ids = {task.id for rows in was.values() for task in rows}
    told = {task.slot for task in after if task.id in ids and task.desired == "remove"}
    return frozenset((was.keys() - still.keys()) | told)


def unexpected(plan: DownPlan, taken: frozenset[int]) -> frozenset[int]:
    """Slots in `taken` (see `surplus`) that the plan kept; and busy ones taken while one stays that should go first.

    Empty while Swarm did as planned, also half way. More slots than `plan.count` mean that somebody else scaled too;
    which ones those are cannot be told where the plan speaks of a tie.
    """
    free = frozenset(victim.slot for victim in plan.free)
    draining = frozenset(victim.slot for victim in plan.draining)
    all_free_go = len(free) == plan.count - plan.draining_count
    too_early = taken & draining if all_free_go and free - taken else frozenset()
    return (taken - free - draining) | too_early


def _updatable(tasks: Iterable[TaskRow]) -> dict[int, list[TaskRow]]:
    """The updatable tasks of each slot that has any."""
    slots: defaultdict[int, list[TaskRow]] = defaultdict(list)
    for task in tasks:
        if task.desired in UPDATABLE:
            slots[task.slot].append(task)
    return dict(slots)


def _ranks(slots: Mapping[int, list[TaskRow]]) -> dict[int, float]:
    """The how-manyth of its node each slot is, in the order of Swarm's first sort. Infinity: goes before all others
    (swarmkit writes -1 and sorts that last)."""
    ranks: dict[int, float] = {}
    on_node: Counter[str] = Counter()
    for slot in sorted(slots, key=lambda s: (all(task.state != "running" for task in slots[s]), s)):
        if not _has_rank(slots[slot]):
            ranks[slot] = math.inf
            continue
        node_id = slots[slot][0].node_id
        on_node[node_id] += 1
        ranks[slot] = on_node[node_id]
    return ranks


def _has_rank(rows: list[TaskRow]) -> bool:
    return len(rows) == 1 and bool(rows[0].node_id)


def _most_busy(outcome: Removal, busy: Collection[int]) -> int:
    """How many busy slots go at worst."""
    return len(outcome.certain.intersection(busy)) + min(outcome.tied_count, len(outcome.tied.intersection(busy)))


def _by_preference(everyone: Collection[Executor]) -> list[Executor]:
    """Those without jobs: whoever should go first comes first."""
    on_node = Counter(e.node_id for e in everyone if e.node_id)
    free = [e for e in everyone if not e.jobs]
    result = sorted((e for e in free if not e.running), key=lambda e: (bool(e.node_id), -e.slot))
    for registered in (False, True):
        idle = [e for e in free if e.running and e.registered == registered]
        while idle:
            chosen = max(idle, key=lambda e: (on_node[e.node_id], e.slot))
            idle.remove(chosen)
            on_node[chosen.node_id] -= 1
            result.append(chosen)
    return result


def _to_retire(
    free: Sequence[Executor], busy: Collection[int], slots: Mapping[int, list[TaskRow]], count: int
) -> tuple[int, ...]:
    """As many idle running executors as `count` has room for beside the free slots that go before them anyway."""
    ahead = [e.slot for e in free if not _has_rank(slots[e.slot])]
    if any(not _has_rank(slots[slot]) for slot in busy):
        # A busy slot with two tasks is ahead too, and Swarm takes it before a free one with a running task.
        ahead = [slot for slot in ahead if all(task.state != "running" for task in slots[slot])]
    can_be_told = [e.slot for e in free if e.running and _has_rank(slots[e.slot])]
    return tuple(can_be_told[: max(0, count - len(ahead))])


def _after_leaving(tasks: Sequence[TaskRow], retired: Collection[int]) -> list[TaskRow]:
    """The table once these have left and their replacements find no node."""
    return [
        replace(task, node_id="", state="pending", desired="ready")
        if task.slot in retired and task.desired in UPDATABLE
        else task
        for task in tasks
    ]


def _victim(executor: Executor, slots: Mapping[int, list[TaskRow]], outcome: Removal) -> Victim:
    kind: Literal["not running", "idle", "busy"]
    if executor.jobs:
        jobs = "1 job" if len(executor.jobs) == 1 else f"{len(executor.jobs)} jobs, the last one"
        kind, why = "busy", f"runs {jobs} for {format_duration_s(executor.youngest_job_s)}"
    elif not executor.running:
        states = "/".join(sorted({task.state for task in slots[executor.slot]}))
        kind, why = "not running", f"{'does not run yet' if executor.node_id else 'has no node'} ({states})"
    else:
        kind, why = "idle", "no job" if executor.registered else "not in the collector yet, no job"
    if executor.slot in outcome.tied:
        why += f"; Swarm takes {outcome.tied_count} of {len(outcome.tied)} alike"
    return Victim(executor.slot, executor.task_id, executor.node, kind, why)
