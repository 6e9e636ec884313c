"""`swarmhpc scale`: what is asked for, what is said of it, and what a Swarm in memory makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmhpc import state
from swarmhpc.adapters.docker import Service
from swarmhpc.cluster.render import ClassPlan, RenderFacts, render
from swarmhpc.config import Cluster, ExecutorClass
from swarmhpc.errors import CommandError, EngineError, PoolUnreachableError, UsageError, WaitTimeoutError
from swarmhpc.scaling import scale as module
from swarmhpc.scaling.scale import (
    MAX_REPLICAS,
    STARTING_PER_NODE,
    ScaleError,
    apply,
    autoscaler_is_on,
    decide,
    describe,
    grow,
    heal,
    lower,
    parse,
    wait_gone,
)
from swarmhpc.scaling.view import ClassView
from tests.unit.fake_swarm import NO_ROOM, PLAN, POOL, FakeSwarm, Told

BIG = replace(PLAN, name="big", maximum=4)
RESTRICTED = replace(PLAN, placement=(("rack", "one"),), spread="rack", max_per_node=5)


def class_view(name: str = "executors", replicas: int = 3, plan: ClassPlan | None = PLAN) -> ClassView:
    service = Service(f"s-{name}", f"lab_{name}", {state.LABEL_CLASS: name}, replicas, "i", "{}")
    return ClassView(name, service, plan, (), ())


VIEWS = {"executors": class_view(), "big": class_view("big", 1, BIG), "old": class_view("old", 2, None)}


# -- what is asked for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wants"),
    [
        (["executors=5"], {"executors": 5}),
        (["executors=+2"], {"executors": 5}),
        (["executors=-2"], {"executors": 1}),
        (["executors=-3"], {"executors": 0}),
        (["executors=0"], {"executors": 0}),
        (["executors=007"], {"executors": 7}),
        (["executors=200"], {"executors": MAX_REPLICAS}),
        (["big=4", "executors=1"], {"big": 4, "executors": 1}),
        (["big=+3"], {"big": 4}),
        (["old=+1"], {"old": 3}),  # deployed before classes had a plan: no max is known
        ([], {}),
    ],
)
def test_numbers_may_be_absolute_or_a_difference(words: list[str], wants: dict[str, int]) -> None:
    assert parse(words, VIEWS) == wants


WANTED = "wanted CLASS=NUMBER, CLASS=+NUMBER or CLASS=-NUMBER"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        *(
            (w, f"saw {w!r}, {WANTED}")
            for w in ("", "5", "executors", "executors=", "=5", "executors=x", "executors=1.5")
        ),
        *((w, f"saw {w!r}, {WANTED}") for w in ("executors=+-2", "executors = 2", "executors=--2", "executors=5\n")),
        *((w, f"saw {w!r}, {WANTED}") for w in ("Executors=2", "executors=1234567890", "executors=٣", "-executors=1")),
        ("gpu=1", "there is no class 'gpu'; the pool has big, executors, old"),
        ("executors=-4", "executors=-4: executors has 3 executors, that would leave -1; wanted 0 or more"),
        ("executors=201", "executors=201: saw 201 executors, wanted at most 200 in a class"),
        ("executors=+198", "executors=+198: saw 201 executors, wanted at most 200 in a class"),
        (
            "big=+4",
            "big=+4: 5 executors are above the class's max of 4 (executors.big.max in swarmhpc.yaml; swarmhpc up "
            "applies another)",
        ),
    ],
)
def test_a_bad_word_is_told_with_what_was_wanted(word: str, said: str) -> None:
    with pytest.raises(UsageError) as e:
        parse([word], VIEWS)
    assert e.value.message == said
    assert "swarmhpc scale executors=5" in e.value.hint


def test_all_bad_words_are_told_at_once() -> None:
    with pytest.raises(UsageError) as e:
        parse(["gpu=1", "executors", "big=9", "executors=-9", "executors=2", "old=2", "old=2"], VIEWS)
    told = e.value.message.split("; ")
    starts = ("there is no class 'gpu'", "the pool has", "saw 'executors'", "big=9: 9", "swarmhpc up", "executors=-9: ")
    assert [part for part in told if not part.startswith(starts)] == [
        "wanted 0 or more",
        "class executors is named twice",
        "class old is named twice",
    ]
    assert all(any(part.startswith(s) for part in told) for s in starts)


def test_a_pool_without_classes_says_so() -> None:
    with pytest.raises(UsageError, match="there is no class 'executors'; the pool has none"):
        parse(["executors=1"], {})


# -- what is to be done, and how it reads --------------------------------------------------------------------------


def test_classes_that_get_smaller_come_first_and_those_that_have_their_size_not_at_all() -> None:
    swarm = FakeSwarm(plans=[PLAN, BIG, replace(PLAN, name="same")])
    swarm.fill("aa")
    swarm.fill("aa", name="big")
    swarm.fill("a", name="same")
    changes = decide(swarm.views(), {"executors": 3, "same": 1, "big": 1})
    assert [(c.name, c.target, c.down is None) for c in changes] == [("big", 1, False), ("executors", 3, True)]


def test_a_class_that_was_asked_for_enough_but_has_not_got_it_is_waited_for() -> None:
    swarm = FakeSwarm()
    swarm.fill("a")
    swarm.put(2, "a", registered=False)
    ((change),) = decide(swarm.views(), {"executors": 2})
    assert (change.target, change.down) == (2, None)


def test_a_class_with_fewer_tasks_than_replicas_loses_only_those_that_are_too_many() -> None:
    swarm = FakeSwarm()
    swarm.fill("aa", busy=[1, 2])
    swarm.of().replicas = 5
    swarm.of().due = swarm.clock.now + 60  # Swarm has not begun to make the others
    ((change),) = decide(swarm.views(), {"executors": 3})
    assert change.down is not None
    assert (change.down.count, change.down.free, change.down.draining) == (0, (), ())


def test_growing_reads_as_one_line() -> None:
    swarm = FakeSwarm()
    swarm.fill("a")
    ((change),) = decide(swarm.views(), {"executors": 4})
    assert describe(change) == ["scale executors from 1 to 4"]


def test_shrinking_names_everyone_who_goes_and_why() -> None:
    swarm = FakeSwarm("ab")
    tasks = swarm.fill("aab", busy=[1])
    swarm.room = {"node-a": 2, "node-b": 1}
    swarm.put(4)
    ((change),) = decide(swarm.views(), {"executors": 0})
    names = [f"executors-{t.slot}-{t.id[:6]}" for t in [*tasks, swarm.task_list[3]]]
    assert describe(change) == [
        "scale executors from 4 to 0",
        f"  {names[3]} goes at once: not running, has no node (pending)",
        f"  {names[1]} on host-a goes at once: idle, no job",
        f"  {names[2]} on host-b goes at once: idle, no job",
        f"  {names[0]} on host-a finishes its jobs and leaves: runs 1 job for 1m",
    ]


def test_where_swarm_chooses_among_equals_nobody_is_promised_anything() -> None:
    swarm = FakeSwarm("abcdefghijklm")
    swarm.fill("abcdefghijklm", busy=range(1, 14))
    ((change),) = decide(swarm.views(), {"executors": 11})
    lines = describe(change)
    assert lines[-1] == "  2 of these 13; Swarm chooses among equals"
    assert len(lines) == 15
    assert all("may finish its jobs and leave: runs 1 job for 1m; Swarm takes 2 of 13 alike" in x for x in lines[1:-1])


# -- who goes: a Swarm in memory -----------------------------------------------------------------------------------

KINDS = ["busy"] * 3 + ["idle"] * 3 + ["unregistered", "starting", "no node"]


@st.composite
def lowerings(draw: st.DrawFn) -> tuple[FakeSwarm, int]:
    """A class of executors on up to four nodes, and a size that it is to get."""
    swarm = FakeSwarm(
        "abcd", plans=[draw(st.sampled_from([PLAN, RESTRICTED]))], random=Random(draw(st.integers(0, 99)))
    )
    most = 4 * (5 if swarm.of().placement.get("MaxReplicas") else 6)
    places = draw(st.permutations("abcd" * (most // 4)))
    for slot, node in enumerate(places[: draw(st.integers(1, most))], 1):
        match draw(st.sampled_from(KINDS)):
            case "busy":
                swarm.put(slot, node, "running", "running", *["1.0", "1.1"][: draw(st.integers(1, 2))])
            case "idle":
                swarm.put(slot, node)
            case "unregistered":
                swarm.put(slot, node, registered=False)
            case "starting":
                swarm.put(slot, node, "assigned", starts=draw(st.booleans()))
            case _:
                swarm.put(slot)
    # What has no node gets none as long as all others are there.
    swarm.room = {n.id: sum(t.node_id == n.id for t in swarm.task_list) for n in swarm.node_list}
    return swarm, draw(st.integers(0, swarm.of().replicas))


def lowered(swarm: FakeSwarm, target: int) -> frozenset[str]:
    with swarm.clock.of(module):
        return lower(swarm.hands, swarm.view(), target, lambda _: None)


def free_that_stay_and_busy_that_go(swarm: FakeSwarm, before: set[str]) -> tuple[set[str], set[str]]:
    """Of those that ran before."""
    stay = {t.id for t in swarm.updatable()}
    return {i for i in stay & before if not swarm.jobs.get(i)}, {i for i in before - stay if swarm.jobs.get(i)}


@settings(deadline=None, max_examples=250)
@given(lowerings())
def test_no_busy_executor_goes_while_an_idle_one_stays(case: tuple[FakeSwarm, int]) -> None:
    swarm, target = case
    before = {t.id for t in swarm.task_list}
    ran = {t.id for t in swarm.task_list if t.state == "running"}
    usual = swarm.of().placement

    taken = lowered(swarm, target)

    assert swarm.of().replicas == target
    assert len({t.slot for t in swarm.updatable()}) == target
    assert swarm.of().placement == usual
    assert taken == before - {t.id for t in swarm.updatable()}
    idle_stay, busy_go = free_that_stay_and_busy_that_go(swarm, ran)
    assert not (idle_stay and busy_go), f"{idle_stay} stay, {busy_go} go"
    # Nobody's job is ended, not even later.
    swarm.settle(30)
    assert {t.id for t in swarm.task_list if t.state == "running"} >= {i for i in ran if swarm.jobs.get(i)}
    assert (swarm.of().replicas, swarm.of().placement) == (target, usual)


@settings(deadline=None, max_examples=100)
@given(
    lowerings(),
    st.sampled_from(["retire", "service_change", "tasks", "nodes"]),
    st.integers(1, 3),
    st.sampled_from([EngineError("update out of sequence"), CommandError("no way in"), KeyboardInterrupt()]),
)
def test_whatever_fails_in_the_middle_the_placement_is_given_back(
    case: tuple[FakeSwarm, int], method: str, call: int, trouble: BaseException
) -> None:
    swarm, target = case
    usual, asked_for = swarm.of().placement, swarm.of().replicas
    view = swarm.view()
    swarm.troubles[method, swarm.calls_of(method) + call] = trouble
    # Where the very call that gives it back fails there is `heal`.
    last = method == "service_change" and call == 3
    with swarm.clock.of(module):
        try:
            lower(swarm.hands, view, target, lambda _: None)
        except type(trouble):
            assert swarm.of().replicas in (asked_for, target)
        else:
            assert swarm.of().replicas == target
        if last:
            heal(swarm.engine, swarm.view())
    assert swarm.of().placement == usual
    swarm.settle(30)
    assert len({t.slot for t in swarm.updatable()}) == swarm.of().replicas


def test_where_swarms_own_order_takes_the_idle_ones_replicas_are_simply_lowered() -> None:
    swarm = FakeSwarm("ab")
    tasks = swarm.fill("aab", busy=[1, 3])
    assert lowered(swarm, 2) == {tasks[1].id}
    assert [c for c in swarm.calls if c[0] != "retire"] == [("executors", 2, None)]


def test_those_whom_swarm_has_chosen_are_told_at_once_to_take_no_new_jobs() -> None:
    swarm = FakeSwarm()
    tasks = swarm.fill("aa", busy=[1, 2])
    assert lowered(swarm, 1) == {tasks[1].id}
    assert swarm.calls[-1] == ("retire", f"executors-2-{tasks[1].id[:6]}")
    swarm.settle(60)
    assert tasks[1].state == "running", "it finishes its job"
    swarm.jobs.clear()
    swarm.settle(5)
    assert [t.slot for t in swarm.task_list] == [1]


def test_an_idle_executor_that_swarm_would_keep_leaves_first_while_its_place_is_closed() -> None:
    swarm = FakeSwarm("ab", plans=[RESTRICTED])
    tasks = swarm.fill("aab", busy=[1, 2])
    usual = swarm.of().placement
    assert lowered(swarm, 2) == {tasks[2].id}
    closed, told, given_back, *_ = swarm.calls
    frozen = {**usual, "MaxReplicas": 1, "Constraints": ["node.labels.rack == one", "node.id != node-b"]}
    assert closed == ("executors", None, frozen)
    assert told == ("retire", f"executors-3-{tasks[2].id[:6]}")
    assert given_back == ("executors", 2, usual)


def test_a_node_that_keeps_one_is_not_shut_to_it() -> None:
    swarm = FakeSwarm("ab")
    # Slot 3 of node a is the idle one; Swarm alone would take the highest of node b.
    tasks = swarm.fill("aabbb", busy=[1, 3, 4, 5])
    assert lowered(swarm, 4) == {tasks[1].id}
    _, placement = swarm.calls[0][1:]
    assert (placement["Constraints"], placement["MaxReplicas"]) == ([], 1)


def test_one_that_is_not_heard_is_told_again() -> None:
    swarm = FakeSwarm("a")
    tasks = swarm.fill("aa", busy=[2])
    swarm.deaf = 3
    said: list[str] = []
    with swarm.clock.of(module):
        assert lower(swarm.hands, swarm.view(), 1, said.append) == {tasks[0].id}
    assert [c[0] for c in swarm.calls].count("retire") == 4
    assert "1 idle executors leave" in said


def test_one_that_got_a_job_at_the_last_moment_finishes_it_and_the_size_is_reached_all_the_same() -> None:
    swarm = FakeSwarm("a")
    tasks = swarm.fill("aaa", busy=[2, 3])
    view = swarm.view()
    swarm.jobs[tasks[0].id] = ["9.0"]
    started = swarm.clock.now
    with swarm.clock.of(module):
        taken = lower(swarm.hands, view, 2, lambda _: None)
    assert taken == {tasks[2].id}, "Swarm's own choice"
    assert 30 <= swarm.clock.now - started < 35
    assert {t.id for t in swarm.task_list if t.state == "running"} == {t.id for t in tasks}
    assert swarm.of().placement == {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]}


def test_a_choice_that_nobody_foresaw_is_told() -> None:
    swarm = FakeSwarm("a")
    tasks = swarm.fill("aa", busy=[1])
    view = swarm.view()
    said: list[str] = []
    swarm.task_list[1].state, swarm.task_list[0].state = "running", "starting"  # the picture is out of date
    with swarm.clock.of(module):
        lower(swarm.hands, view, 1, said.append)
    assert said == [f"Swarm chose executors-1-{tasks[0].id[:6]} instead; their jobs finish first"]


# -- the placement -------------------------------------------------------------------------------------------------


def test_the_placement_that_is_given_back_is_that_of_the_stack() -> None:
    plan = replace(PLAN, replicas=1, placement=(("rack", "one"), ("disk", "fast")), spread="rack", max_per_node=3)
    cluster = Cluster(executors=(ExecutorClass("executors", 1, placement=plan.placement),))
    facts = RenderFacts("vip", "192.0.2.1", "i", (plan,), "k", "t")
    deployed = yaml.safe_load(render(cluster, facts).stack)["services"]["executors"]["deploy"]["placement"]
    swarm = FakeSwarm(plans=[plan])
    swarm.of().placement = {"Constraints": ["node.id != x"], "MaxReplicas": 1, "Platforms": [{"OS": "linux"}]}
    heal(swarm.engine, swarm.view())
    assert swarm.of().placement == {
        "Platforms": [{"OS": "linux"}],
        "Constraints": deployed["constraints"],
        "Preferences": [{"Spread": {"SpreadDescriptor": deployed["preferences"][0]["spread"]}}],
        "MaxReplicas": deployed["max_replicas_per_node"],
    }


def test_a_placement_that_nobody_closed_is_left_alone() -> None:
    swarm = FakeSwarm(plans=[RESTRICTED])
    swarm.fill("a")
    heal(swarm.engine, swarm.view())
    assert swarm.calls == []


@pytest.mark.parametrize("nodes", ["a", "ab", "abc"])
def test_what_a_killed_command_left_closed_is_found_and_opened(nodes: str) -> None:
    swarm = FakeSwarm(nodes, plans=[replace(PLAN, max_per_node=None)])
    swarm.fill(nodes[0] * 3, busy=[2, 3])
    usual = swarm.of().placement
    for call in (2, 3):  # neither the second change nor the one that gives back comes about
        swarm.troubles["service_change", call] = SystemExit()
    with swarm.clock.of(module), pytest.raises(SystemExit):
        lower(swarm.hands, swarm.view(), 2, lambda _: None)
    assert swarm.of().placement != usual
    heal(swarm.engine, swarm.view())
    assert swarm.of().placement == usual


# -- growing -------------------------------------------------------------------------------------------------------


def grown(swarm: FakeSwarm, target: int, timeout_s: float = 300) -> Told:
    progress = Told()
    with swarm.clock.of(module):
        grow(swarm.hands, "executors", target, progress, timeout_s=timeout_s)
    return progress


def test_growing_ends_when_every_executor_is_registered() -> None:
    swarm = FakeSwarm("ab")
    progress = grown(swarm, 5)
    assert sum(e.registered for e in swarm.view().executors) == 5
    assert swarm.calls == [("executors", 5, None)]
    assert progress.ends == ["executors: 5 executors registered"]
    assert progress.details[0] == "0 of 5 registered, 0 running"
    assert "0 of 5 registered, 5 running" in progress.details


def test_a_class_that_has_its_size_is_not_touched() -> None:
    swarm = FakeSwarm()
    swarm.fill("aa")
    assert grown(swarm, 2).ends == ["executors: 2 executors registered"]
    assert swarm.calls == []


@pytest.mark.parametrize(("nodes", "at_once"), [("a", STARTING_PER_NODE), ("abc", 3 * STARTING_PER_NODE)])
def test_no_more_executors_start_at_once_than_the_nodes_bear(nodes: str, at_once: int) -> None:
    swarm = FakeSwarm(nodes)
    starting: list[int] = []
    raise_to = swarm.scale

    def scale(service_id: str, replicas: int) -> None:
        starting.append(replicas - sum(e.registered for e in swarm.view().executors))
        raise_to(service_id, replicas)

    swarm.scale = scale  # type: ignore[method-assign]
    grown(swarm, 70)
    assert max(starting) == at_once
    sizes = [c[1] for c in swarm.calls]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 70
    assert len(swarm.updatable()) == 70


def test_nodes_that_are_down_or_drained_start_none() -> None:
    swarm = FakeSwarm("abc")
    swarm.node_list[1] = replace(swarm.node_list[1], state="down")
    swarm.node_list[2] = replace(swarm.node_list[2], availability="drain")
    grown(swarm, 30)
    assert swarm.calls[0] == ("executors", STARTING_PER_NODE, None)


def test_what_finds_no_node_is_taken_back_with_swarms_words() -> None:
    swarm = FakeSwarm("a")
    swarm.room = {"node-a": 3}
    swarm.fill("a")
    started = swarm.clock.now
    with pytest.raises(ScaleError) as e:
        grown(swarm, 5)
    assert e.value.message == f"executors: 3 of 5 executors run; Swarm says: {NO_ROOM}; the class keeps 3"
    assert "max_per_node" in e.value.hint
    assert swarm.of().replicas == 3
    assert sorted((t.state, t.slot) for t in swarm.updatable()) == [("running", n) for n in (1, 2, 3)]
    assert 8 < swarm.clock.now - started < 20


def test_swarms_words_are_shown_while_there_is_hope() -> None:
    swarm = FakeSwarm("a")
    swarm.room = {"node-a": 1}
    swarm.clock.after(7, lambda: swarm.room.clear())
    progress = grown(swarm, 2)
    assert f"1 of 2 registered, 1 running; Swarm says: {NO_ROOM}" in progress.details
    assert progress.ends == ["executors: 2 executors registered"]


def test_one_that_finds_a_node_late_is_not_given_up_while_it_starts() -> None:
    swarm = FakeSwarm("a")
    swarm.room = {"node-a": 1}
    swarm.start_s = 5
    swarm.register_s = 20  # runs long before it registers
    swarm.clock.after(18, lambda: swarm.room.clear())
    grown(swarm, 2)


def test_executors_that_end_again_and_again_are_given_up() -> None:
    swarm = FakeSwarm("a")
    swarm.fill("a")
    swarm.fails = "task: non-zero exit (1)"
    with pytest.raises(ScaleError) as e:
        grown(swarm, 3)
    assert e.value.message == "executors: 1 of 3 executors run; Swarm says: task: non-zero exit (1); the class keeps 1"
    assert swarm.of().replicas == 1


def test_the_time_is_limited() -> None:
    swarm = FakeSwarm("a")
    swarm.register_s = 1000
    started = swarm.clock.now
    with pytest.raises(WaitTimeoutError) as e:
        grown(swarm, 2, timeout_s=20)
    assert e.value.message == "executors: after 20 s 0 of 2 registered, 2 running"
    assert "goes on" in e.value.hint
    assert 20 <= swarm.clock.now - started < 21
    assert swarm.of().replicas == 2, "what has been asked for stays"


def test_somebody_else_who_asks_for_more_meanwhile_is_not_fought() -> None:
    swarm = FakeSwarm("a")
    swarm.clock.after(1, lambda: swarm.scale("s-executors", 7))
    with pytest.raises(ScaleError, match=r"executors: somebody else asks for 7 executors now; wanted 3"):
        grown(swarm, 3)
    assert swarm.of().replicas == 7


def test_a_silent_collector_ends_growing_before_anything_is_changed() -> None:
    swarm = FakeSwarm("a")
    swarm.silent = True
    with pytest.raises(PoolUnreachableError):
        grown(swarm, 3)
    assert swarm.calls == []


# -- all of it -----------------------------------------------------------------------------------------------------


def applied(swarm: FakeSwarm, progress: Told | None = None, **wants: int) -> dict[str, frozenset[str]]:
    with swarm.clock.of(module):
        return apply(swarm.hands, decide(swarm.views(), wants), progress or Told(), timeout_s=60)


def test_classes_get_their_sizes_and_those_that_finish_jobs_are_named() -> None:
    swarm = FakeSwarm("ab", plans=[PLAN, BIG])
    tasks = swarm.fill("abab", busy=[1, 2])
    swarm.fill("a", name="big")
    progress = Told()
    assert applied(swarm, progress, executors=1, big=2) == {"executors": {tasks[1].id}}
    assert progress.ends == [
        "executors: 1 executors; 2 have left, 1 finish their jobs first",
        "big: 2 executors registered",
    ]
    assert {s.labels[state.LABEL_CLASS]: s.replicas for s in swarm.service_list} == {"executors": 1, "big": 2}


def test_what_left_is_gone_from_swarm_and_collector_at_the_end() -> None:
    swarm = FakeSwarm("a")
    swarm.fill("aaa")
    progress = Told()
    assert applied(swarm, progress, executors=0) == {"executors": frozenset()}
    assert progress.ends == ["executors: 0 executors; 3 have left"]
    assert (swarm.task_list, swarm.slots()) == ([], [])


def test_one_class_that_fails_does_not_keep_the_others_from_their_size() -> None:
    swarm = FakeSwarm("a", plans=[PLAN, BIG, replace(PLAN, name="third")])
    swarm.fill("aa")
    swarm.fill("a", name="third")
    swarm.room = {"node-a": 2}
    with pytest.raises(ScaleError) as e:
        applied(swarm, executors=1, big=2, third=2)
    assert re.fullmatch(
        r"big: 0 of 2 executors run; .*; the class keeps 0; third: 1 of 2 executors run; .*; the class keeps 1",
        e.value.message,
    ) or e.value.message.startswith("big: 1 of 2"), e.value.message
    assert e.value.hint.count("swarmhpc status shows") == 1, "a hint that several have is told once"
    assert swarm.of().replicas == 1


def test_a_class_that_somebody_made_smaller_meanwhile_is_left_to_them() -> None:
    swarm = FakeSwarm("a")
    swarm.fill("aaa")
    changes = decide(swarm.views(), {"executors": 2})
    swarm.scale("s-executors", 1)
    swarm.settle()
    with swarm.clock.of(module), pytest.raises(ScaleError, match="executors: somebody else asks for 1 executors now"):
        apply(swarm.hands, changes, Told(), timeout_s=60)
    assert swarm.of().replicas == 1


def test_who_goes_is_decided_on_how_things_stand_when_it_is_done() -> None:
    swarm = FakeSwarm("a")
    tasks = swarm.fill("aaa", busy=[1, 2])
    changes = decide(swarm.views(), {"executors": 2})
    swarm.jobs = {tasks[1].id: ["1.0"], tasks[2].id: ["2.0"]}
    with swarm.clock.of(module):
        assert apply(swarm.hands, changes, Told(), timeout_s=60) == {"executors": frozenset()}
    assert {t.id for t in swarm.updatable()} == {tasks[1].id, tasks[2].id}


def test_a_placement_left_closed_is_opened_before_a_class_grows() -> None:
    swarm = FakeSwarm("ab", plans=[RESTRICTED])
    usual = swarm.of().placement
    swarm.of().placement = {**usual, "Constraints": [*usual["Constraints"], "node.id != node-b"], "MaxReplicas": 1}
    applied(swarm, executors=4)
    assert swarm.of().placement == usual
    assert len(swarm.updatable()) == 4


def test_waiting_for_those_that_leave_ends_with_the_time_given() -> None:
    swarm = FakeSwarm("a")
    tasks = swarm.fill("aa", busy=[2])
    swarm.scale("s-executors", 0)
    progress = Told()
    with swarm.clock.of(module):
        assert wait_gone(swarm.hands, "executors", [t.id for t in tasks], progress, timeout_s=10) == [tasks[1].id]
        assert progress.details[-1] == "executors: 1 of 2 still leave"
        swarm.clock.after(3600, swarm.jobs.clear)
        assert wait_gone(swarm.hands, "executors", [t.id for t in tasks], progress, timeout_s=None) == []


def test_a_job_that_the_collector_was_not_told_of_yet_is_the_queues_word() -> None:
    swarm = FakeSwarm("a")
    tasks = swarm.fill("aa", busy=[2])
    swarm.untold = {tasks[1].id}
    assert [bool(e.jobs) for e in swarm.view().executors] == [False, False]
    assert [e.jobs for e in swarm.hands.look()["executors"].executors] == [(), ("1.0",)]
    swarm.queue_away = True
    assert [e.jobs for e in swarm.hands.look()["executors"].executors] == [(), ()]


def test_one_whose_job_began_as_it_was_told_to_leave_is_not_waited_for_as_an_idle_one() -> None:
    swarm = FakeSwarm("a")
    tasks = swarm.fill("aa", busy=[2])
    swarm.untold = {tasks[1].id}
    swarm.scale("s-executors", 0)
    swarm.clock.after(1, swarm.untold.clear)
    started = swarm.clock.now
    with swarm.clock.of(module):
        ids = [t.id for t in tasks]
        assert wait_gone(swarm.hands, "executors", ids, Told(), timeout_s=60, idle_only=True) == [tasks[1].id]
    assert 1 <= swarm.clock.now - started < 10


def test_one_that_has_ended_is_waited_for_until_the_collector_has_forgotten_it() -> None:
    swarm = FakeSwarm("a")
    swarm.fill("a")
    known = swarm.slots()
    swarm.scale("s-executors", 0)
    swarm.settle(5)
    assert swarm.task_list == []
    swarm.clock.after(10, known.clear)
    started, task = swarm.clock.now, known[0].task
    with swarm.clock.of(module):
        hands = replace(swarm.hands, slots=lambda: known)
        assert wait_gone(hands, "executors", [task], Told(), timeout_s=60) == []
    assert 10 <= swarm.clock.now - started < 11


@pytest.mark.parametrize(
    ("change", "on"),
    [
        pytest.param(lambda s: setattr(s, "replicas", 1), True, id="on"),
        pytest.param(lambda s: setattr(s, "replicas", 0), False, id="off"),
        pytest.param(lambda s: s.labels.pop(state.LABEL_ROLE), False, id="none"),
    ],
)
def test_whether_the_autoscaler_runs(change: Callable[[object], None], on: bool) -> None:
    swarm = FakeSwarm()
    swarm.add_autoscaler(1)
    change(swarm.service_list[-1])
    assert autoscaler_is_on(swarm.engine, POOL) is on
