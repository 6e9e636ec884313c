"""The autoscaler's policy: named cases, properties, and whole days in a simulated pool with a virtual clock."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.autoscale import binned, draw
from swarmhpc.errors import UsageError
from swarmhpc.scaling.policy import ClassState, Decision, Free, JobGroup, Unserved, decide
from tests.unit.pool_model import (
    DAY_CLASSES,
    NO_NODE,
    Job,
    Model,
    Outcome,
    Sample,
    SimClass,
    burst,
    mixed_day,
    read_queue,
)

QUEUES = sorted((Path(__file__).parent / "queues").glob("*.json"))
SMALL = ClassState("executors", 2, 2048, {}, 0, 0, 10, 5, 300, 10, 0)
BIG = ClassState("executors-big", 8, 16384, {}, 0, 0, 4, 5, 300, 10, 0)
GPU = ClassState("gpu", 1, 2048, {"gpus": 1}, 0, 0, 4, 5, 300, 10, 0)
IDLE = Free(2, 2048)
FULL = Free(0, 0)


def registered(c: ClassState, *free: Free, idle_for_s: Sequence[int] = (), **changes: object) -> ClassState:
    """So many executors of the class in the collector, with so much left."""
    return replace(c, replicas=len(free), free=free, idle_for_s=tuple(idle_for_s), **changes)  # type: ignore[arg-type]


def waiting(
    count: int = 1, cpus: int = 1, memory_mib: int = 128, matches: str = "executors", **more: object
) -> JobGroup:
    group = JobGroup("alice", count, cpus, memory_mib, {}, frozenset(matches.split()), "7.0")
    return replace(group, **more)  # type: ignore[arg-type]


def one(c: ClassState, *jobs: JobGroup) -> tuple[int, str]:
    """The only class's decision: replicas and reason."""
    ((decision,), _) = decide([c], jobs)
    return decision.replicas, decision.reason


# -- growing ------------------------------------------------------------------------------------------------------


def test_jobs_in_front_of_an_empty_pool_ask_for_executors_that_they_fill() -> None:
    assert one(SMALL, waiting(6)) == (3, "6 idle jobs, such as 7.0, need 3 executors more")
    assert one(SMALL, waiting(1)) == (1, "idle job 7.0 needs 1 executor more")


def test_no_more_than_a_step_is_asked_for_at_once() -> None:
    replicas, reason = one(replace(SMALL, maximum=40), waiting(50))
    assert replicas == 5
    assert reason == "50 idle jobs, such as 7.0, need 25 executors more; 5 now, as many as one step allows"


def test_no_more_start_at_once_than_allowed() -> None:
    starting = replace(SMALL, replicas=8, starting=8, maximum=40)
    replicas, reason = one(starting, waiting(60))
    assert replicas == 10
    assert reason.endswith("; 2 now: 8 are starting, of at most 10 at once")
    assert one(replace(starting, replicas=10, starting=10), waiting(60))[0] == 10


def test_executors_that_are_starting_are_not_asked_for_twice() -> None:
    replicas, reason = one(replace(SMALL, replicas=3, starting=3), waiting(6))
    assert (replicas, reason) == (3, "3 executors starting, for 6 idle jobs")


def test_room_on_busy_executors_is_used_before_new_ones_are_asked_for() -> None:
    assert one(registered(SMALL, Free(1, 1024), FULL), waiting(1))[0] == 2
    assert one(registered(SMALL, Free(1, 1024), FULL), waiting(2))[0] == 3


def test_large_jobs_are_laid_in_first_so_that_small_ones_fill_the_gaps() -> None:
    jobs = [waiting(2, cpus=1, example="1.0"), waiting(2, cpus=3, example="2.0"), waiting(1, cpus=4, example="3.0")]
    assert one(replace(SMALL, cpus=4, memory_mib=8192), *jobs)[0] == 3


def test_different_jobs_share_an_executor_as_far_as_each_thing_it_has_goes() -> None:
    def two(**each: object) -> list[JobGroup]:
        return [waiting(example="1.0", **each), waiting(example="2.0", waiting_s=5, **each)]  # type: ignore[arg-type]

    assert one(SMALL, *two(memory_mib=1024))[0] == 1
    assert one(SMALL, *two(memory_mib=1025))[0] == 2
    one_gpu, two_gpus = (replace(SMALL, resources={"gpus": n}) for n in (1, 2))
    assert one(two_gpus, *two(resources={"gpus": 1}))[0] == 1
    assert one(one_gpu, *two(resources={"gpus": 1}))[0] == 2


def test_memory_counts_as_htcondor_gives_it_in_pieces_of_128_mib() -> None:
    c = replace(SMALL, cpus=8, memory_mib=300)
    # 128 + 128, and the 44 MiB left are too few.
    assert one(c, waiting(2, memory_mib=100))[0] == 1
    assert one(c, waiting(3, memory_mib=100))[0] == 2
    # Where the whole piece does not fit, the bare request does.
    assert one(c, waiting(2, memory_mib=150))[0] == 2
    assert one(replace(c, memory_mib=100), waiting(1, memory_mib=100))[0] == 1


def test_the_smallest_class_that_matches_grows() -> None:
    decisions, _ = decide([BIG, SMALL], [waiting(2, matches="executors executors-big")])
    assert [(d.class_name, d.replicas) for d in decisions] == [("executors-big", 0), ("executors", 1)]


def test_when_the_smallest_is_at_its_maximum_the_next_one_grows() -> None:
    full = registered(replace(SMALL, maximum=1), FULL)
    decisions, unserved = decide([full, BIG], [waiting(9, matches="executors executors-big")])
    assert [d.replicas for d in decisions] == [1, 2]
    assert unserved == ()


def test_gpu_jobs_grow_the_gpu_class_only_and_plain_jobs_another_although_it_is_larger() -> None:
    both = [SMALL, GPU]
    gpu, _ = decide(both, [waiting(2, resources={"gpus": 1}, matches="gpu")])
    assert [d.replicas for d in gpu] == [0, 2]
    plain, _ = decide(both, [waiting(2, matches="executors gpu")])
    assert [d.replicas for d in plain] == [1, 0]


def test_one_executor_of_several_gpus_serves_several_jobs() -> None:
    c = replace(GPU, cpus=8, resources={"gpus": 4})
    assert one(c, waiting(6, resources={"gpus": 1}, matches="gpu"))[0] == 2


def test_a_class_without_a_maximum_takes_jobs_but_gets_no_decision() -> None:
    fixed = registered(replace(BIG, maximum=None), Free(4, 8192))
    decisions, unserved = decide([fixed, SMALL], [waiting(4, matches="executors executors-big")])
    assert [(d.class_name, d.replicas) for d in decisions] == [("executors", 0)]
    assert unserved == ()


def test_below_its_minimum_a_class_is_raised_as_fast_as_executors_may_start() -> None:
    assert one(replace(SMALL, minimum=7)) == (7, "0 replicas below the minimum of 7")
    replicas, reason = one(replace(SMALL, minimum=30, maximum=40))
    assert (replicas, reason) == (
        10,
        "0 replicas below the minimum of 30; 10 now: 0 are starting, of at most 10 at once",
    )


# -- what can't be served -----------------------------------------------------------------------------------------


def served_not(classes: Sequence[ClassState], *jobs: JobGroup) -> tuple[list[int], Unserved]:
    decisions, (unserved,) = decide(classes, jobs)
    return [d.replicas for d in decisions], unserved


def test_a_job_larger_than_any_class_is_told_and_changes_nothing() -> None:
    replicas, told = served_not([SMALL, BIG], waiting(3, cpus=64, matches=""))
    assert replicas == [0, 0]
    assert told == Unserved(
        "7.0",
        3,
        "asks for 64 CPUs, 128 MiB; executors has 2 CPUs, 2 GiB; executors-big has 8 CPUs, 16 GiB",
        "larger than any class",
    )
    # Also where the caller's ClassAds said that it would match: no number of executors would hold it.
    assert served_not([SMALL], waiting(3, cpus=64)) == (
        [0],
        replace(told, reason=told.reason.partition("; executors-b")[0]),
    )


def test_a_job_whose_requirements_match_nothing_is_told_with_the_reason() -> None:
    job = waiting(matches="", why_not={"executors": "Arch is X86_64, the job wants AARCH64"})
    replicas, told = served_not([SMALL], job)
    assert (replicas, told.kind) == ([0], "no class matches")
    assert told.reason == "asks for 1 CPU, 128 MiB; executors: Arch is X86_64, the job wants AARCH64"


def test_what_a_class_at_its_maximum_can_not_take_is_told() -> None:
    c = registered(replace(SMALL, maximum=2), FULL, FULL)
    replicas, told = served_not([c], waiting(5))
    assert (replicas, told.count, told.kind) == ([2], 5, "class at its maximum")
    assert one(c, waiting(5)) == (2, "5 idle jobs, such as 7.0, wait: at the maximum of 2")


def test_what_only_a_class_without_a_maximum_could_take_is_told() -> None:
    decisions, (told,) = decide([registered(replace(SMALL, maximum=None), FULL)], [waiting(5)])
    assert (decisions, told.kind) == ((), "not autoscaled")


def test_a_class_without_a_node_does_not_grow_and_keeps_one_replica_that_asks() -> None:
    c = replace(SMALL, replicas=5, starting=3, unplaced=3, free=(FULL, FULL), unplaceable=NO_NODE)
    replicas, told = served_not([c], waiting(8))
    assert (replicas, told.kind, told.count) == ([3], "no node has room", 8)
    assert NO_NODE in told.reason
    assert NO_NODE in one(c, waiting(8))[1]
    at_rest = replace(c, replicas=3, starting=1, unplaced=1)
    assert one(at_rest, waiting(8))[0] == 3
    # Nobody waits any more: it is given back. The minimum stays.
    assert one(at_rest)[0] == 2
    assert one(replace(at_rest, minimum=3))[0] == 3


def test_a_class_without_a_node_leaves_its_jobs_to_the_next_one_that_matches() -> None:
    stuck = replace(SMALL, replicas=1, starting=1, unplaced=1, unplaceable=NO_NODE)
    decisions, unserved = decide([stuck, BIG], [waiting(8, matches="executors executors-big")])
    assert ([d.replicas for d in decisions], unserved) == ([1, 1], ())
    # And once those executors are on their way, it asks for nothing.
    decisions, _ = decide(
        [stuck, replace(BIG, replicas=1, starting=1)], [waiting(8, matches="executors executors-big")]
    )
    assert [d.replicas for d in decisions] == [0, 1]


# -- leaving ------------------------------------------------------------------------------------------------------


def test_all_executors_that_were_idle_long_enough_leave_whatever_the_step() -> None:
    c = registered(SMALL, *[IDLE] * 8, FULL, idle_for_s=[300, 300, 301, 400, 500, 600, 299, 0])
    assert one(c) == (3, "6 executors had no job for 5m or longer")


def test_none_leaves_below_the_minimum() -> None:
    c = registered(replace(SMALL, minimum=2), IDLE, IDLE, IDLE, idle_for_s=[900, 900, 900])
    assert one(c)[0] == 2
    at_minimum = registered(replace(SMALL, minimum=2), IDLE, IDLE, idle_for_s=[900, 900])
    assert one(at_minimum) == (2, "2 executors without a job, but 2 is the minimum")


def test_an_executor_that_a_waiting_job_is_about_to_take_stays() -> None:
    c = registered(SMALL, IDLE, IDLE, IDLE, idle_for_s=[900, 900, 900])
    assert one(c, waiting(1, cpus=2))[0] == 1
    assert one(c, waiting(3, cpus=2)) == (3, "3 of 3 executors without a job about to take one that waits")


def test_a_waiting_job_that_a_busy_executor_has_room_for_keeps_no_idle_one() -> None:
    c = registered(SMALL, IDLE, Free(1, 1024), idle_for_s=[900])
    assert one(c, waiting(1))[0] == 1
    assert one(c, waiting(2))[0] == 2


def test_none_leaves_while_jobs_wait_that_the_class_can_not_take() -> None:
    smaller_than_the_class_is_now = registered(replace(SMALL, maximum=1), Free(1, 1024), idle_for_s=[900])
    assert one(smaller_than_the_class_is_now, waiting(1, cpus=2))[0] == 1


def test_none_leaves_while_others_are_starting() -> None:
    c = replace(registered(SMALL, IDLE, idle_for_s=[900]), replicas=3, starting=2)
    assert one(c)[0] == 3


def test_above_its_maximum_a_class_is_lowered_even_with_jobs_waiting() -> None:
    c = registered(replace(SMALL, maximum=2), *[FULL] * 4)
    assert one(c, waiting(9)) == (2, "4 replicas above the maximum of 2")
    assert one(replace(SMALL, minimum=5, maximum=3))[0] == 3


# -- properties ---------------------------------------------------------------------------------------------------

NAMES = ["a", "b", "c"]


@st.composite
def class_states(draw: st.DrawFn, name: str) -> ClassState:
    cpus, memory_mib = draw(st.integers(1, 8)), draw(st.integers(100, 4000))
    resources = draw(st.sampled_from([{}, {"gpus": 1}, {"gpus": 2, "licence": 1}]))
    busy = draw(st.lists(st.builds(Free, st.integers(0, cpus), st.integers(0, memory_mib)), max_size=3))
    idle_for_s = draw(st.lists(st.integers(0, 600), max_size=3))
    free = [*busy, *[Free(cpus, memory_mib, resources)] * len(idle_for_s)]
    starting = draw(st.integers(0, 4))
    unplaced = draw(st.integers(0, starting))
    return ClassState(
        name,
        cpus,
        memory_mib,
        resources,
        replicas=len(free) + starting,
        minimum=draw(st.integers(0, 3)),
        maximum=draw(st.one_of(st.none(), st.integers(3, 12))),
        step=draw(st.integers(1, 5)),
        idle_s=300,
        starting_max=draw(st.integers(1, 10)),
        starting=starting,
        unplaceable=NO_NODE if unplaced else "",
        free=tuple(free),
        idle_for_s=tuple(idle_for_s),
        unplaced=unplaced,
    )


POOLS = st.tuples(*(class_states(n) for n in NAMES))
GROUPS = st.lists(
    st.builds(
        JobGroup,
        owner=st.just("alice"),
        count=st.integers(1, 30),
        cpus=st.integers(0, 10),
        memory_mib=st.integers(0, 5000),
        resources=st.sampled_from([{}, {}, {"gpus": 1}, {"licence": 1}]),
        matches=st.frozensets(st.sampled_from(NAMES)),
        example=st.integers(1, 10**6).map(lambda n: f"{n}.0"),
        waiting_s=st.integers(0, 1000),
    ),
    max_size=6,
    unique_by=lambda g: g.example,
)


@given(POOLS, GROUPS, st.randoms(use_true_random=False))
def test_every_decision_keeps_to_the_limits_and_says_why(
    classes: tuple[ClassState, ...], jobs: list[JobGroup], chance: st.DataObject
) -> None:
    decisions, unserved = decide(classes, jobs)
    by_name = {c.name: c for c in classes}
    assert [d.class_name for d in decisions] == [c.name for c in classes if c.maximum is not None]
    for d in decisions:
        c = by_name[d.class_name]
        assert c.maximum is not None
        assert d.reason
        more = d.replicas - c.replicas
        if more > 0:
            assert d.replicas <= c.maximum
            assert more <= c.step or d.replicas <= c.minimum
            assert c.starting + more <= c.starting_max
            assert not c.unplaceable or d.replicas <= c.minimum
        if more < 0:
            idle = sum(1 for s in c.idle_for_s if s >= c.idle_s) if c.starting == c.unplaced else 0
            assert d.replicas == c.maximum or -more <= idle + c.unplaced
            assert d.replicas >= min(c.minimum, c.maximum)
    counts = {g.example: g.count for g in jobs}
    assert all(u.reason and 0 < u.count <= counts[u.example] for u in unserved)


@given(POOLS, GROUPS, st.data())
def test_the_order_of_jobs_and_classes_does_not_matter(
    classes: tuple[ClassState, ...], jobs: list[JobGroup], data: st.DataObject
) -> None:
    decisions, unserved = decide(classes, jobs)
    other = decide(data.draw(st.permutations(classes)), data.draw(st.permutations(jobs)))
    assert set(other[0]) == set(decisions)
    assert {(u.example, u.count, u.kind) for u in other[1]} == {(u.example, u.count, u.kind) for u in unserved}


def moved_on(classes: Sequence[ClassState], decisions: Sequence[Decision]) -> list[ClassState]:
    """After the decisions: all that got a node are registered and empty, no job has begun, time stands still."""
    wanted = {d.class_name: d.replicas for d in decisions}
    after = []
    for c in classes:
        change = wanted.get(c.name, c.replicas) - c.replicas
        placed = c.starting - c.unplaced + max(change, 0)
        gone = max(-change, 0)
        unplaced = max(c.unplaced - gone, 0)
        free = [*c.free, *[Free(c.cpus, c.memory_mib, c.resources)] * placed]
        idle = [*c.idle_for_s, *[0] * placed]
        for _ in range(max(gone - c.unplaced, 0)):  # Swarm takes those without a node first, then idle ones
            if idle:
                idle.remove(max(idle))
                free.remove(Free(c.cpus, c.memory_mib, c.resources))
            else:
                free.pop(0)
        after.append(
            replace(
                c,
                replicas=c.replicas + change,
                starting=unplaced,
                unplaced=unplaced,
                unplaceable=NO_NODE if unplaced else "",
                free=tuple(free),
                idle_for_s=tuple(idle),
            )
        )
    return after


@given(POOLS, GROUPS)
def test_it_comes_to_rest_with_room_for_every_job_that_it_does_not_report(
    classes: tuple[ClassState, ...], jobs: list[JobGroup]
) -> None:
    now: Sequence[ClassState] = classes
    for _ in range(60):
        decisions, unserved = decide(now, jobs)
        after = moved_on(now, decisions)
        if after == list(now):
            break
        now = after
    else:
        pytest.fail("still changing after 60 rounds")
    left = {u.example: u.count for u in unserved}
    served = [replace(g, count=g.count - left.get(g.example, 0)) for g in jobs]
    free = [f for c in now for f in c.free]
    assert sum(g.count * g.cpus for g in served) <= sum(f.cpus for f in free)
    assert sum(g.count * g.memory_mib for g in served) <= sum(f.memory_mib for f in free)
    gpus = sum(g.count * g.resources.get("gpus", 0) for g in served)
    assert gpus <= sum(f.resources.get("gpus", 0) for f in free)


@given(count=st.integers(0, 80), each=st.integers(1, 4), free=st.integers(0, 12), starting=st.integers(0, 10))
def test_equal_jobs_get_exactly_as_many_executors_as_hold_them(count: int, each: int, free: int, starting: int) -> None:
    c = replace(
        SMALL,
        cpus=4,
        memory_mib=64000,
        maximum=500,
        step=500,
        starting_max=500,
        starting=starting,
        replicas=starting + 1,
        free=(Free(free, 64000),),
    )
    left = max(count - free // each - starting * (4 // each), 0)
    assert one(c, waiting(count, cpus=each))[0] == c.replicas + -(-left // (4 // each))


# -- in a pool with a virtual clock -------------------------------------------------------------------------------


def assert_sound(outcome: Outcome, classes: Sequence[SimClass]) -> None:
    """Nothing evicted, no flap, every class always within its limits, and no faster than it may."""
    assert (outcome.evicted, outcome.flaps) == (0, 0)
    for s in outcome.samples:
        for c in classes:
            assert c.minimum <= s.wanted[c.name] <= (c.maximum or s.wanted[c.name])
            assert s.wanted[c.name] - s.registered[c.name] <= c.starting_max
    for before, after in pairwise(outcome.samples):
        assert all(after.wanted[c.name] - before.wanted[c.name] <= c.step for c in classes)


def test_a_burst_of_50_jobs_on_an_empty_pool_gets_50_executors_by_steps_and_gives_them_back() -> None:
    c = SimClass("executors", 1, 1024, maximum=60)
    outcome = Model([c], burst(50), poll_s=5, start_s=8).run(1000)
    assert_sound(outcome, [c])
    assert (outcome.completed, outcome.starts) == (50, 50)
    # 10 polls of 5 s with 5 each; the first one at 0 s, each carried out after 1 s.
    assert next(s.at_s for s in outcome.samples if s.wanted["executors"] == 50) == 46
    assert outcome.waits_s[0] == 1 + 8 + 1  # apply, start, negotiate
    assert outcome.samples[-1].wanted == {"executors": 0}
    assert max(s.wanted["executors"] for s in outcome.samples) == 50


@pytest.mark.parametrize("every_s", [7, 40, 200])
def test_a_steady_trickle_settles_at_one_size(every_s: int) -> None:
    c = SimClass("executors", 2, 2048)
    jobs = [Job(t, 1, 128, 30) for t in range(0, 7200, every_s)]
    outcome = Model([c], jobs).run(7200)
    assert_sound(outcome, [c])
    later = {s.wanted["executors"] for s in outcome.samples if s.at_s > 600}
    assert len(later) == 1
    assert outcome.waits_s[-1] <= 1


@pytest.mark.parametrize("after_s", range(325, 350))
def test_a_job_that_comes_just_as_an_executor_leaves_costs_one_start_at_most(after_s: int) -> None:
    c = SimClass("executors", 1, 1024)
    outcome = Model([c], [*burst(1, duration_s=20), Job(after_s, 1, 128, 20)]).run(2000)
    assert_sound(outcome, [c])
    assert outcome.completed == 2
    assert outcome.starts <= 2


def test_a_day_of_mixed_load_loses_nothing() -> None:
    jobs = mixed_day(seed=7)
    assert len(jobs) > 4000
    outcome = Model(DAY_CLASSES, jobs, poll_s=10).run(100_000)
    assert_sound(outcome, DAY_CLASSES)
    assert outcome.completed == len(jobs)
    assert outcome.samples[-1].wanted == {"executors": 0, "executors-big": 0}
    assert outcome.unserved_at_end == ()


def test_a_pool_that_lowers_its_maximum_drains_what_is_busy() -> None:
    c = SimClass("executors", 1, 1024, maximum=10)
    lower = {100: replace(c, maximum=3)}
    jobs = burst(30, duration_s=120)
    outcome = Model([c], jobs, changes=lower).run(4000)
    assert (outcome.evicted, outcome.completed) == (0, 30)
    assert outcome.told_busy == 7
    # The same pool without draining: the model does see what is evicted.
    plain = Model([c], jobs, changes=lower, drains=False).run(4000)
    assert (plain.evicted, plain.completed) == (7, 30)


def test_flaps_are_counted_where_a_policy_flaps() -> None:
    def restless(classes: Sequence[ClassState], _: Sequence[JobGroup]) -> tuple[tuple[Decision, ...], tuple[()]]:
        return tuple(Decision(c.name, 1 - min(c.replicas, 1), "to and fro") for c in classes), ()

    assert Model([SimClass("executors", 1, 1024)], [], decide=restless).run(100).flaps > 5


def test_two_classes_share_one_queue() -> None:
    jobs = [*burst(3, cpus=6, memory_mib=8192), *burst(12, cpus=1), *burst(1, at_s=30, cpus=2, memory_mib=4096)]
    outcome = Model(DAY_CLASSES, jobs).run(2000)
    assert_sound(outcome, DAY_CLASSES)
    assert outcome.completed == len(jobs)
    most = {c.name: max(s.wanted[c.name] for s in outcome.samples) for c in DAY_CLASSES}
    # Beside their 6 CPUs the big executors have 2 for small jobs; the other 6 small jobs fill 3 small executors. The
    # last job comes while all are busy.
    assert most == {"executors": 4, "executors-big": 3}


def test_jobs_larger_than_any_class_start_nothing() -> None:
    outcome = Model(DAY_CLASSES, burst(3, cpus=9)).run(600)
    assert (outcome.starts, outcome.completed) == (0, 0)
    assert set(outcome.unserved.values()) == {"larger than any class"}


def test_nodes_without_room_leave_one_replica_asking_until_they_have() -> None:
    c = SimClass("executors", 1, 1024, maximum=10, nodes_hold=3)
    jobs = burst(12, duration_s=200)
    outcome = Model([c], jobs, changes={400: replace(c, nodes_hold=6)}).run(3000)
    assert (outcome.completed, outcome.evicted, outcome.flaps) == (12, 0, 0)
    assert set(outcome.unserved.values()) == {"no node has room"}
    assert {s.wanted["executors"] for s in outcome.samples if 50 < s.at_s < 400} == {4}
    assert max(s.registered["executors"] for s in outcome.samples if s.at_s > 400) == 6
    assert outcome.samples[-1].wanted == {"executors": 0}


def test_a_controller_that_starts_anew_only_delays_leaving() -> None:
    c = SimClass("executors", 1, 1024)
    jobs = burst(8, duration_s=60)
    usual = Model([c], jobs).run(2000)
    anew = Model([c], jobs, restarts_s=[250]).run(2000)
    assert_sound(anew, [c])
    assert (anew.completed, anew.starts, anew.waits_s) == (usual.completed, usual.starts, usual.waits_s)

    def gone_s(outcome: Outcome) -> int:
        return min(s.at_s for s in outcome.samples if s.at_s > 100 and s.registered["executors"] == 0)

    assert gone_s(usual) < gone_s(anew) <= 250 + c.idle_s + 2 * 5 + 1


def test_without_a_controller_the_pool_goes_on_as_it_is() -> None:
    c = SimClass("executors", 1, 1024)
    jobs = [*burst(4), *burst(4, at_s=500)]
    outcome = Model([c], jobs, down_s=(60, 1200)).run(3000)
    assert_sound(outcome, [c])
    assert outcome.completed == 8
    assert {s.wanted["executors"] for s in outcome.samples if 60 < s.at_s < 1200} == {4}
    assert outcome.samples[-1].wanted == {"executors": 0}


@pytest.mark.parametrize("path", QUEUES, ids=lambda p: p.stem)
def test_every_job_of_a_kept_queue_completes(path: Path) -> None:
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["kind"] in ("synthetic", "recorded")
    assert kept["columns"] == ["arrival_s", "cpus", "memory_mib", "duration_s"]
    jobs = read_queue(path)
    outcome = Model(DAY_CLASSES, jobs).run(max(j.arrival_s + j.duration_s for j in jobs) + 7200)
    assert_sound(outcome, DAY_CLASSES)
    assert outcome.completed == len(jobs)


@settings(max_examples=50, deadline=None)
@given(
    jobs=st.lists(
        st.builds(Job, st.integers(0, 400), st.integers(1, 4), st.integers(1, 2000), st.integers(1, 120)), max_size=20
    ),
    poll_s=st.integers(1, 15),
    start_s=st.integers(1, 30),
    apply_s=st.integers(0, 3),
    minimum=st.integers(0, 2),
    restarts_s=st.lists(st.integers(0, 600), max_size=2),
)
def test_whatever_comes_every_job_completes_and_nothing_is_evicted(
    jobs: list[Job], poll_s: int, start_s: int, apply_s: int, minimum: int, restarts_s: list[int]
) -> None:
    classes = [
        SimClass("executors", 2, 1024, minimum, 4, 2, 60, 3, replicas=minimum),
        SimClass("executors-big", 4, 2048, 0, 3, 2, 60, 3),
    ]
    model = Model(classes, jobs, poll_s=poll_s, start_s=start_s, apply_s=apply_s, restarts_s=restarts_s)
    outcome = model.run(2500)
    assert_sound(outcome, classes)
    assert outcome.completed == len(jobs)
    assert outcome.samples[-1].wanted == {"executors": minimum, "executors-big": 0}


# -- the benchmark that draws it ----------------------------------------------------------------------------------


def test_a_curve_shows_the_most_in_each_bin_and_holds_its_value_between_changes() -> None:
    changes = [(0, 1), (3, 7), (4, 2), (20, 0)]
    samples = [Sample(at_s, idle_jobs, 0, {}, {}, 0) for at_s, idle_jobs in changes]
    assert binned(samples, lambda s: s.idle_jobs, 5, 30) == [7, 2, 2, 2, 0, 0]


def test_without_matplotlib_drawing_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="matplotlib") as e:
        draw([], tmp_path / "x.svg")
    assert "pip install" in e.value.hint
