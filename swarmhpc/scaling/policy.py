"""What size each executor class should have for the jobs that wait. Pure: no clock, no memory, no I/O.

The caller observes (`ClassState`, `JobGroup`), `decide` answers, the caller applies, and only then observes again: on
replicas that it is about to change, the size would swing to and fro. Three rules:

- Jobs that wait are laid into what is there or about to be: room left on registered executors, then executors that are
  starting. Only what finds no place asks for new executors.
- An executor leaves when it has had no job for `idle_s` and no waiting job was laid into it.
- A class for which Swarm finds no node does not grow. While jobs wait for it, one replica stays pending: Swarm places
  it by itself as soon as there is room, and its words stay readable. That is all the memory there is, and it is in the
  Swarm: a new controller decides as the old one did.

Resources are spelled the same on both sides, in jobs and in classes; disk may be passed as one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from swarmhpc.units import format_duration_s, format_mib

MEMORY_QUANTUM_MIB: Final = 128
"""An executor gives a job a multiple of this much memory, or the bare request where only that fits: the defaults of
MODIFY_REQUEST_EXPR_REQUESTMEMORY and MUST_MODIFY_REQUEST_EXPRS (HTCondor 25, src/condor_utils/param_info.in)."""

Kind = Literal[
    "no class matches", "class at its maximum", "no node has room", "larger than any class", "not autoscaled"
]


@dataclass(frozen=True)
class Free:
    """What one registered executor has left for jobs; a resource that is not named is used up.

    What is claimed for a job that has not begun counts as free: that job still is an idle one.
    """

    cpus: int
    memory_mib: int
    resources: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassState:
    """One executor class as observed. Executors that drain are in `draining` only, not in `replicas` or `free`."""

    name: str
    cpus: int
    """Of each executor, as `memory_mib` and `resources` (GPUs and whatever else is counted)."""
    memory_mib: int
    resources: Mapping[str, int]
    replicas: int
    """What the Swarm is asked for now."""
    minimum: int
    maximum: int | None
    """None: not autoscaled, but its executors take jobs."""
    step: int
    """At most so many more in one decision."""
    idle_s: int
    """An executor leaves after so long without a job."""
    starting_max: int
    """At most so many may be starting at once."""
    starting: int
    """Replicas not yet registered in the collector, the unplaced ones among them."""
    unplaceable: str = ""
    """Swarm's words where it finds no node for a replica; empty where it finds one for each."""
    free: tuple[Free, ...] = ()
    """One for each registered executor."""
    idle_for_s: tuple[int, ...] = ()
    """One for each registered executor without a job: since how long, as far as this observer knows."""
    draining: int = 0
    unplaced: int = 0
    """For how many replicas Swarm finds no node."""


@dataclass(frozen=True)
class JobGroup:
    """Idle jobs with the same requirements."""

    owner: str
    count: int
    cpus: int
    """Of each job, as `memory_mib` and `resources`."""
    memory_mib: int
    resources: Mapping[str, int]
    matches: frozenset[str]
    """Classes whose executor, empty, would match: evaluated by HTCondor's own ClassAds."""
    example: str
    """Id of one of the jobs, for messages."""
    why_not: Mapping[str, str] = field(default_factory=dict)
    """Class: why it does not match, in words. May be empty."""
    waiting_s: int = 0
    """How long the oldest of them waits."""


@dataclass(frozen=True)
class Decision:
    """How many replicas an autoscaled class should have now, and why in one sentence."""

    class_name: str
    replicas: int
    reason: str


@dataclass(frozen=True)
class Unserved:
    """Idle jobs for which no executor that is there, is starting or may be started has room."""

    example: str
    count: int
    reason: str
    kind: Kind


def decide(
    classes: Sequence[ClassState], jobs: Sequence[JobGroup]
) -> tuple[tuple[Decision, ...], tuple[Unserved, ...]]:
    """One decision for each autoscaled class, in the order given, and the jobs for which nothing can be done now.

    The same input gives the same answer, in whatever order the jobs come. Applied again and again while nothing else
    changes, it comes to rest.
    """
    pool = _Pool(classes)
    waiting = sorted((g for g in jobs if g.count > 0), key=_largest_first)
    unserved = tuple(_unserved(g, left, classes) for g in waiting if (left := pool.place(g)))
    return tuple(pool.decision(c, c.maximum) for c in classes if c.maximum is not None), unserved


def _largest_first(group: JobGroup) -> tuple[int, int, int, int, str]:
    return (-sum(group.resources.values()), -group.cpus, -group.memory_mib, -group.waiting_s, group.example)


# -- laying jobs into executors -----------------------------------------------------------------------------------


class _Room:
    """What one executor has left while jobs are laid into it."""

    def __init__(self, cpus: int, memory_mib: int, resources: Mapping[str, int]) -> None:
        self.cpus, self.memory_mib, self.resources = cpus, memory_mib, dict(resources)
        self.jobs = 0

    def take(self, group: JobGroup, wanted: int) -> int:
        """Lays at most `wanted` of the group's jobs in; how many."""
        has = [(self.cpus, group.cpus), *((self.resources.get(n, 0), a) for n, a in group.resources.items())]
        taken = min([wanted, *(max(h, 0) // needs for h, needs in has if needs > 0)])
        rounded_mib = -(-group.memory_mib // MEMORY_QUANTUM_MIB) * MEMORY_QUANTUM_MIB
        if rounded_mib:
            by_memory, rest_mib = divmod(max(self.memory_mib, 0), rounded_mib)
            taken = min(taken, by_memory + (rest_mib >= group.memory_mib))
        if taken <= 0:
            return 0
        self.jobs += taken
        self.cpus -= taken * group.cpus
        self.memory_mib = max(self.memory_mib - taken * rounded_mib, 0)
        for name, amount in group.resources.items():
            self.resources[name] = self.resources.get(name, 0) - taken * amount
        return taken


def _empty(c: ClassState) -> _Room:
    return _Room(c.cpus, c.memory_mib, c.resources)


def _holds(c: ClassState, group: JobGroup) -> bool:
    return _empty(c).take(group, 1) == 1


def _candidates(group: JobGroup, classes: Sequence[ClassState]) -> list[ClassState]:
    """Classes that match, best first: those with least of what the job doesn't ask for (GPUs), then the smallest."""

    def rank(c: ClassState) -> tuple[int, int, int, str]:
        spare = sum(amount for name, amount in c.resources.items() if not group.resources.get(name, 0))
        return spare, c.cpus, c.memory_mib, c.name

    return sorted((c for c in classes if c.name in group.matches and _holds(c, group)), key=rank)


@dataclass
class _Demand:
    """Jobs that a class was wanted for, and one of them."""

    count: int = 0
    example: str = ""

    def add(self, group: JobGroup, count: int) -> None:
        if count:
            self.example = self.example or group.example
            self.count += count


_BUSY, _IDLE, _STARTING, _NEW = range(4)


class _Pool:
    """Every executor that is there, is starting or is wanted, as rooms that jobs are laid into."""

    def __init__(self, classes: Sequence[ClassState]) -> None:
        self.classes = classes
        self.rooms: dict[tuple[int, str], list[_Room]] = {}
        self.growth = {c.name: _Demand() for c in classes}  # jobs laid into new executors
        self.missed = {c.name: _Demand() for c in classes}  # jobs that it would have taken but could not grow for
        for c in classes:
            # An executor without a job has all its room, so those with least room are the busy ones.
            free = sorted(c.free, key=lambda f: (f.cpus, f.memory_mib, sum(f.resources.values())))
            rooms = [_Room(f.cpus, f.memory_mib, f.resources) for f in free]
            busy = max(len(rooms) - len(c.idle_for_s), 0)
            self.rooms[_BUSY, c.name], self.rooms[_IDLE, c.name] = rooms[:busy], rooms[busy:]
            self.rooms[_STARTING, c.name] = [_empty(c) for _ in range(_coming(c))]
            self.rooms[_NEW, c.name] = []

    def place(self, group: JobGroup) -> int:
        """Lays a group's jobs in; how many found no place."""
        candidates = _candidates(group, self.classes)
        left = group.count
        for stage in (_BUSY, _IDLE, _STARTING, _NEW):
            for c in candidates:
                for room in self.rooms[stage, c.name]:
                    taken = room.take(group, left)
                    left -= taken
                    if stage == _NEW:
                        self.growth[c.name].add(group, taken)
                    if not left:
                        return 0
        for c in candidates:
            before, new = left, self.rooms[_NEW, c.name]
            while left and _may_grow(c, len(new)):
                new.append(_empty(c))
                left -= new[-1].take(group, left)
            self.growth[c.name].add(group, before - left)
            self.missed[c.name].add(group, left)
        return left

    def decision(self, c: ClassState, maximum: int) -> Decision:
        """What the laying of the jobs means for one autoscaled class."""
        may_start = max(c.starting_max - c.starting, 0)
        needed = len(self.rooms[_NEW, c.name])
        more = min(needed, c.step, may_start)
        minimum = min(c.minimum, maximum)
        if c.replicas + more < minimum:
            more = min(minimum - c.replicas, may_start)
            why = f"{_replicas(c.replicas)} below the minimum of {minimum}"
            return Decision(c.name, c.replicas + more, why + _limit(c, minimum - c.replicas, more))
        if needed:
            growth = self.growth[c.name]
            why = f"{_jobs(growth, 'need')} {_executors(needed)} more"
            return Decision(c.name, c.replicas + more, why + _limit(c, needed, more))
        if c.replicas > maximum:
            return Decision(c.name, maximum, f"{_replicas(c.replicas)} above the maximum of {maximum}")
        return self._kept_or_lowered(c, minimum, maximum)

    def _kept_or_lowered(self, c: ClassState, minimum: int, maximum: int) -> Decision:
        missed = self.missed[c.name]
        # Of the replicas without a node one stays, as the question to Swarm whether there is room by now.
        taken_back = max(c.unplaced - (1 if missed.count else 0), 0)
        taken_back = min(taken_back, c.replicas - minimum)
        leaving, why_stay = (0, "") if missed.count else self._leaving(c, c.replicas - taken_back - minimum)
        parts = []
        if taken_back:
            parts.append(f"no node has room for {taken_back} of {_replicas(c.replicas)} ({_words(c)})")
        if leaving:
            parts.append(f"{_executors(leaving)} had no job for {format_duration_s(c.idle_s)} or longer")
        if missed.count:
            limit = f"no node has room ({_words(c)})" if _is_stuck(c) else f"at the maximum of {maximum}"
            parts.append(f"{_jobs(missed, 'wait')}: {limit}")
        why = "; ".join(parts) or why_stay or "no idle job needs another executor"
        return Decision(c.name, c.replicas - taken_back - leaving, why)

    def _leaving(self, c: ClassState, at_most: int) -> tuple[int, str]:
        """How many idle executors leave, and if none: why."""
        idle, coming = len(c.idle_for_s), _coming(c)
        taken = sum(1 for room in self.rooms[_IDLE, c.name] if room.jobs)
        due = min(sum(1 for s in c.idle_for_s if s >= c.idle_s), idle - taken)
        if coming:
            # Swarm would take these first, and the jobs they were started for with them.
            jobs = sum(room.jobs for room in self.rooms[_STARTING, c.name])
            return 0, f"{_executors(coming)} starting, for {jobs} idle jobs"
        if not idle:
            return 0, ""
        if due > 0:
            return min(due, at_most), f"{_executors(idle)} without a job, but {c.minimum} is the minimum"
        if taken:
            return 0, f"{taken} of {_executors(idle)} without a job about to take one that waits"
        return 0, f"{_executors(idle)} without a job, for less than {format_duration_s(c.idle_s)}"


def _coming(c: ClassState) -> int:
    """Executors that are starting and have a node."""
    return max(c.starting - c.unplaced, 0)


def _may_grow(c: ClassState, new: int) -> bool:
    return c.maximum is not None and c.replicas + new < c.maximum and not _is_stuck(c)


def _is_stuck(c: ClassState) -> bool:
    return bool(c.unplaceable or c.unplaced)


# -- words --------------------------------------------------------------------------------------------------------


def _unserved(group: JobGroup, left: int, classes: Sequence[ClassState]) -> Unserved:
    def told(kind: Kind, reason: str) -> Unserved:
        return Unserved(group.example, left, reason, kind)

    asked = f"asks for {_size(group)}"
    large_enough = [c for c in classes if _holds(c, group)]
    if not large_enough:
        sizes = [f"{c.name} has {_size(c)}" for c in classes]
        return told("larger than any class", "; ".join([asked, *(sizes or ["there is no class"])]))
    candidates = _candidates(group, classes)
    if not candidates:
        # Classes that are too small are no news, unless the caller has words for them.
        words = {c.name: "does not match" for c in large_enough} | dict(group.why_not)
        return told("no class matches", "; ".join([asked, *(f"{n}: {w}" for n, w in sorted(words.items()))]))
    scaled = [(c, c.maximum) for c in candidates if c.maximum is not None]
    if stuck := [c for c, maximum in scaled if _is_stuck(c) and c.replicas <= maximum]:
        return told("no node has room", "; ".join(f"{c.name}: {_words(c)}" for c in stuck))
    if scaled:
        return told("class at its maximum", "; ".join(f"{c.name} has {n} executors at most" for c, n in scaled))
    names = ", ".join(c.name for c in candidates)
    return told("not autoscaled", f"no room on executors of {names}, and no max to grow to")


def _size(of: JobGroup | ClassState) -> str:
    others = [f"{amount} {name}" for name, amount in sorted(of.resources.items()) if amount]
    return ", ".join([f"{of.cpus} CPU{'' if of.cpus == 1 else 's'}", format_mib(of.memory_mib), *others])


def _jobs(demand: _Demand, verb: str) -> str:
    if demand.count == 1:
        return f"idle job {demand.example} {verb}s"
    return f"{demand.count} idle jobs, such as {demand.example}, {verb}"


def _executors(count: int) -> str:
    return "1 executor" if count == 1 else f"{count} executors"


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _words(c: ClassState) -> str:
    return c.unplaceable or "Swarm does not say why"


def _limit(c: ClassState, wanted: int, more: int) -> str:
    """What keeps a class from growing by all that it wants at once; empty for nothing."""
    if more >= wanted:
        return ""
    if c.starting + more >= c.starting_max:
        return f"; {more} now: {c.starting} are starting, of at most {c.starting_max} at once"
    return f"; {more} now, as many as one step allows"
