"""A pool with a virtual clock: jobs arrive, executors start, run jobs and leave, and a controller decides their number.

The autoscaler's policy is driven by it in tests, and benchmarks/autoscale.py draws what comes out. It is a model, no
measurement. As in the real pool

- an executor takes `start_s` from getting a node until it is registered; replicas beyond what the nodes hold are
  pending, with Swarm's words;
- the negotiator matches in the order of arrival and takes the executor with the fewest CPUs left, then the least memory
  (NEGOTIATOR_PRE_JOB_RANK's default, HTCondor 25 param_info.in), never one that leaves;
- lowering replicas takes those without a node first, then starting ones, then idle ones (scaling/victims.py), then busy
  ones, which finish their jobs and leave; what was decided happens `apply_s` after it was observed;
- the controller knows how long an executor is idle only from its own looks at the pool, `poll_s` apart; it carries out
  what it decided before it looks again.

With `drains=False` a busy executor that is told to leave drops its jobs, as plain Swarm does: so evictions can be
counted at all.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from swarmhpc.scaling import policy
from swarmhpc.scaling.policy import ClassState, Decision, Free, JobGroup, Unserved

Decide = Callable[[Sequence[ClassState], Sequence[JobGroup]], tuple[tuple[Decision, ...], tuple[Unserved, ...]]]
NO_NODE = "no suitable node (insufficient resources on 2 nodes)"
NEGOTIATION_S = 1


@dataclass(frozen=True)
class Job:
    """One job of the simulated queue; it arrives `arrival_s` after the beginning."""

    arrival_s: int
    cpus: int
    memory_mib: int
    duration_s: int
    resources: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SimClass:
    """A class of the simulated pool. `nodes_hold`: so many executors fit on the nodes; None for any number."""

    name: str
    cpus: int
    memory_mib: int
    minimum: int = 0
    maximum: int | None = 10
    step: int = 5
    idle_s: int = 300
    starting_max: int = 10
    replicas: int = 0
    resources: Mapping[str, int] = field(default_factory=dict)
    nodes_hold: int | None = None


@dataclass(frozen=True)
class Sample:
    """The pool at one moment. `wanted` and `registered` by class."""

    at_s: int
    idle_jobs: int
    running_jobs: int
    wanted: Mapping[str, int]
    registered: Mapping[str, int]
    draining: int


@dataclass(frozen=True)
class Outcome:
    """What came of it. `waits_s`: from each job's arrival to its (last) start, in order of arrival."""

    samples: tuple[Sample, ...]
    waits_s: tuple[int, ...]
    completed: int
    evicted: int
    """How often a running job was put back into the queue."""
    told_busy: int
    """How many busy executors were told to leave (and drained, if they drain)."""
    flaps: int
    """How often a class grew within half its `idle_s` after it had shrunk, although no job had come in between."""
    starts: int
    """Executors that began to start."""
    executor_s: int
    """Seconds of executors, from getting a node to having left."""
    unserved: Mapping[str, policy.Kind]
    """The last kind said of each job that ever was reported (by its id)."""
    unserved_at_end: tuple[Unserved, ...]
    ended_s: int


class _Executor:
    """One task of a class. States: pending (no node), starting, registered, draining, gone."""

    def __init__(self, number: int, of: SimClass) -> None:
        self.number, self.of = number, of
        self.state = "pending"
        self.placed_s = 0
        self.cpus, self.memory_mib, self.resources = of.cpus, of.memory_mib, dict(of.resources)
        self.jobs: dict[int, int] = {}  # job's number: MiB it was given

    def holds(self, job: Job) -> bool:
        enough = self.cpus >= job.cpus and self.memory_mib >= job.memory_mib
        return enough and all(self.resources.get(n, 0) >= a for n, a in job.resources.items())

    def begin(self, number: int, job: Job) -> None:
        quantum = policy.MEMORY_QUANTUM_MIB
        self.jobs[number] = min(math.ceil(job.memory_mib / quantum) * quantum, self.memory_mib)
        self._use(job, -1, self.jobs[number])

    def end(self, number: int, job: Job) -> None:
        self._use(job, +1, self.jobs.pop(number))

    def _use(self, job: Job, sign: int, memory_mib: int) -> None:
        self.cpus += sign * job.cpus
        self.memory_mib += sign * memory_mib
        for name, amount in job.resources.items():
            self.resources[name] = self.resources.get(name, 0) + sign * amount


class Model:
    """Run once. `restarts_s`: when a new controller takes over, with idle timers of its own; `down_s`: (from, to) in
    which there is none; `changes`: at a moment, another cluster file (a class in the place of its namesake)."""

    def __init__(
        self,
        classes: Sequence[SimClass],
        jobs: Sequence[Job],
        *,
        decide: Decide = policy.decide,
        poll_s: int = 5,
        start_s: int = 8,
        apply_s: int = 1,
        drains: bool = True,
        restarts_s: Sequence[int] = (),
        down_s: tuple[int, int] = (0, 0),
        changes: Mapping[int, SimClass] | None = None,
    ) -> None:
        self.classes = {c.name: c for c in classes}
        self.jobs = sorted(jobs, key=lambda j: j.arrival_s)
        self.decide, self.poll_s, self.start_s, self.apply_s, self.drains = decide, poll_s, start_s, apply_s, drains
        self.down_s = down_s
        self.now = 0
        self.executors: list[_Executor] = []
        self.wanted = dict.fromkeys(self.classes, 0)
        self.idle: dict[int, None] = {}  # numbers of waiting jobs, in the order of arrival
        self.running: dict[int, _Executor] = {}
        self.idle_since: dict[int, int] = {}  # executor's number: as the controller saw it
        self._numbers, self._order = itertools.count(1), itertools.count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._negotiation_due = False
        self._samples: list[Sample] = []
        self._waits: dict[int, int] = {}
        self._starts_of: Counter[int] = Counter()  # job's number: how often it was started
        self._completed = self._evicted = self._told_busy = self._flaps = self._starts = self._executor_s = 0
        self._shrunk_s: dict[str, int] = {}
        self._last_arrival_s = -1
        self._reported: dict[str, policy.Kind] = {}
        self._unserved: tuple[Unserved, ...] = ()
        for number, job in enumerate(self.jobs):
            self._at(job.arrival_s, partial(self._arrive, number))
        for moment in restarts_s:
            self._at(moment, self.idle_since.clear)
        for moment, changed in (changes or {}).items():
            self._at(moment, partial(self._change, changed))
        for c in classes:
            self._resize(c.name, c.replicas)
        self._at(0, self._poll)

    def run(self, until_s: int) -> Outcome:
        """Up to and with `until_s`."""
        while self._events and self._events[0][0] <= until_s:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
            if not self._events or self._events[0][0] > self.now:
                self._sample()
        self.now = until_s
        for executor in self.executors:
            if executor.state != "pending":
                self._executor_s += self.now - executor.placed_s
        return Outcome(
            tuple(self._samples),
            tuple(self._waits[n] for n in sorted(self._waits)),
            self._completed,
            self._evicted,
            self._told_busy,
            self._flaps,
            self._starts,
            self._executor_s,
            self._reported,
            self._unserved,
            until_s,
        )

    def _at(self, moment: int, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), happen))

    # -- the queue

    def _arrive(self, number: int) -> None:
        self.idle[number] = None
        self._last_arrival_s = self.now
        self._negotiate_soon()

    def _negotiate_soon(self) -> None:
        if not self._negotiation_due:
            self._negotiation_due = True
            self._at(self.now + NEGOTIATION_S, self._negotiate)

    def _negotiate(self) -> None:
        self._negotiation_due = False
        there = [e for e in self.executors if e.state == "registered"]
        refused = set()
        for number in list(self.idle):
            job = self.jobs[number]
            if (kind := _kind(job)) in refused:
                continue
            fitting = [e for e in there if e.holds(job)]
            if not fitting:
                refused.add(kind)
                continue
            executor = min(fitting, key=lambda e: (e.cpus, e.memory_mib, e.number))
            del self.idle[number]
            executor.begin(number, job)
            self.running[number] = executor
            self._waits[number] = self.now - job.arrival_s
            self._starts_of[number] += 1
            start = self._starts_of[number]
            self._at(self.now + job.duration_s, partial(self._finish, number, start))

    def _finish(self, number: int, start: int) -> None:
        if number not in self.running or start != self._starts_of[number]:
            return  # this start of the job was evicted
        executor = self.running.pop(number)
        executor.end(number, self.jobs[number])
        self._completed += 1
        if executor.state == "draining" and not executor.jobs:
            self._leave(executor)
        self._negotiate_soon()

    # -- the Swarm

    def _change(self, changed: SimClass) -> None:
        self.classes[changed.name] = changed
        self._place()

    def _resize(self, name: str, replicas: int) -> None:
        have = [e for e in self.executors if e.of.name == name and e.state != "draining"]
        self.wanted[name] = replicas
        for _ in range(replicas - len(have)):
            self.executors.append(_Executor(next(self._numbers), self.classes[name]))
        order = {"pending": 0, "starting": 1, "registered": 2}
        have.sort(key=lambda e: (order[e.state], bool(e.jobs), self.idle_since.get(e.number, self.now), -e.number))
        for executor in have[: max(len(have) - replicas, 0)]:
            self._tell_to_leave(executor)
        self._place()

    def _tell_to_leave(self, executor: _Executor) -> None:
        if not executor.jobs:
            self._leave(executor)
            return
        self._told_busy += 1
        if self.drains:
            executor.state = "draining"
            return
        for number in executor.jobs:
            del self.running[number]
            self.idle[number] = None
        self.idle = dict.fromkeys(sorted(self.idle))
        self._evicted += len(executor.jobs)
        self._leave(executor)
        self._negotiate_soon()

    def _leave(self, executor: _Executor) -> None:
        if executor.state != "pending":
            self._executor_s += self.now - executor.placed_s
        executor.state = "gone"
        self.executors.remove(executor)
        self._place()

    def _place(self) -> None:
        for executor in [e for e in self.executors if e.state == "pending"]:
            held = sum(1 for e in self.executors if e.of.name == executor.of.name and e.state != "pending")
            nodes_hold = self.classes[executor.of.name].nodes_hold
            if nodes_hold is None or held < nodes_hold:
                executor.state, executor.placed_s = "starting", self.now
                self._starts += 1
                self._at(self.now + self.start_s, partial(self._register, executor))

    def _register(self, executor: _Executor) -> None:
        if executor.state == "starting":
            executor.state = "registered"
            self._negotiate_soon()

    # -- the controller

    def _poll(self) -> None:
        next_s = self.now + max(self.poll_s, self.apply_s)
        if self.down_s[0] <= self.now < self.down_s[1]:
            self.idle_since.clear()
            self._at(next_s, self._poll)
            return
        decisions, self._unserved = self.decide([self._observe(c) for c in self.classes.values()], self._groups())
        self._reported |= {u.example: u.kind for u in self._unserved}
        self._at(self.now + self.apply_s, partial(self._apply, decisions, self.now))
        self._at(next_s, self._poll)

    def _apply(self, decisions: Sequence[Decision], observed_s: int) -> None:
        for d in decisions:
            before = self.wanted[d.class_name]
            if d.replicas < before:
                self._shrunk_s[d.class_name] = observed_s
            shrunk_s = self._shrunk_s.get(d.class_name)
            if d.replicas > before and shrunk_s is not None:
                soon = observed_s - shrunk_s < self.classes[d.class_name].idle_s / 2
                self._flaps += soon and self._last_arrival_s < shrunk_s
            if d.replicas != before:
                self._resize(d.class_name, d.replicas)

    def _observe(self, c: SimClass) -> ClassState:
        ours = [e for e in self.executors if e.of.name == c.name]
        registered = [e for e in ours if e.state == "registered"]
        pending = sum(1 for e in ours if e.state == "pending")
        idle = {e.number for e in registered if not e.jobs}
        for e in ours:
            if e.number not in idle:
                self.idle_since.pop(e.number, None)
        return ClassState(
            name=c.name,
            cpus=c.cpus,
            memory_mib=c.memory_mib,
            resources=c.resources,
            replicas=self.wanted[c.name],
            minimum=c.minimum,
            maximum=c.maximum,
            step=c.step,
            idle_s=c.idle_s,
            starting_max=c.starting_max,
            starting=self.wanted[c.name] - len(registered),
            unplaceable=NO_NODE if pending else "",
            free=tuple(Free(e.cpus, e.memory_mib, dict(e.resources)) for e in registered),
            idle_for_s=tuple(self.now - self.idle_since.setdefault(n, self.now) for n in sorted(idle)),
            draining=sum(1 for e in ours if e.state == "draining"),
            unplaced=pending,
        )

    def _groups(self) -> list[JobGroup]:
        numbers: dict[tuple[object, ...], list[int]] = {}
        for number in self.idle:
            numbers.setdefault(_kind(self.jobs[number]), []).append(number)
        return [
            group(
                self.jobs[of_kind[0]],
                self.classes.values(),
                count=len(of_kind),
                example=f"{of_kind[0]}.0",
                waiting_s=self.now - self.jobs[of_kind[0]].arrival_s,
            )
            for of_kind in numbers.values()
        ]

    def _sample(self) -> None:
        states = Counter((e.of.name, e.state) for e in self.executors)
        sample = Sample(
            self.now,
            len(self.idle),
            len(self.running),
            dict(self.wanted),
            {n: states[n, "registered"] for n in self.classes},
            sum(states[n, "draining"] for n in self.classes),
        )
        if not self._samples or replace(self._samples[-1], at_s=self.now) != sample:
            self._samples.append(sample)


def group(
    job: Job, classes: Iterable[SimClass], *, count: int = 1, example: str = "1.0", waiting_s: int = 0
) -> JobGroup:
    """Jobs like this one, as the policy sees them; a class matches where its empty executor holds the job."""
    matches = frozenset(c.name for c in classes if _Executor(0, c).holds(job))
    return JobGroup("alice", count, job.cpus, job.memory_mib, job.resources, matches, example, waiting_s=waiting_s)


def _kind(job: Job) -> tuple[object, ...]:
    return job.cpus, job.memory_mib, tuple(sorted(job.resources.items()))


# -- queues -------------------------------------------------------------------------------------------------------


def read_queue(path: Path) -> list[Job]:
    """A queue from tests/unit/queues/: `jobs` has a row for each one, `columns` says what is in it: as in `Job`.

    `kind` is "synthetic" (and `made` says how) or "recorded" (and `made` says where and when).
    """
    return [Job(*row) for row in json.loads(path.read_text(encoding="utf-8"))["jobs"]]


def burst(count: int, *, at_s: int = 0, cpus: int = 1, memory_mib: int = 512, duration_s: int = 60) -> list[Job]:
    """Equal jobs that arrive at once."""
    return [Job(at_s, cpus, memory_mib, duration_s)] * count


def mixed_day(seed: int, submissions: int = 500) -> list[Job]:
    """A day as a small institute may have it: submissions of 1 to 40 like jobs, most of them between 8 and 20 o'clock.

    Run times are spread log-normally around two minutes; most jobs want one CPU, one submission in twenty wants 4.
    """
    chance = random.Random(seed)
    jobs = []
    for _ in range(submissions):
        at_s = int(min(max(chance.gauss(14, 3), 0), 23.9) * 3600) if chance.random() < 0.8 else chance.randrange(86400)
        cpus = chance.choices([1, 2, 4], [70, 25, 5])[0]
        memory_mib = cpus * chance.choice([128, 200, 512, 1000, 1900])
        median_s = chance.lognormvariate(math.log(120), 0.9)
        for _ in range(min(int(chance.expovariate(1 / 8)) + 1, 40)):
            duration_s = int(min(max(median_s * chance.uniform(0.7, 1.3), 5), 3600))
            jobs.append(Job(at_s, cpus, memory_mib, duration_s))
    return jobs


DAY_CLASSES = (
    SimClass("executors", 2, 4096, maximum=20),
    SimClass("executors-big", 8, 16384, maximum=4),
)
"""The two classes that the simulated day runs on."""
