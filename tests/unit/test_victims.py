"""Who leaves: Swarm's order of removal against a transcription of swarmkit, and the plans made with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmhpc.scaling.victims import (
    DownPlan,
    Executor,
    Removal,
    TaskRow,
    Victim,
    plan_down,
    removal,
    surplus,
    unexpected,
)

TABLES = Path(__file__).parent / "task_tables"
WHEN = "2025-01-01T00:00:00Z"
STATES = (
    *("new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running"),
    *("complete", "shutdown", "failed", "rejected", "remove", "orphaned"),
)


def row(slot: int, node_id: str = "", state: str = "running", desired: str = "running", task_id: str = "") -> TaskRow:
    return TaskRow(task_id or f"t{slot}", slot, node_id, state, desired, WHEN)


def spread(nodes: str) -> list[TaskRow]:
    """Running tasks, slot 1 on the first letter's node, slot 2 on the second's."""
    return [row(slot, node) for slot, node in enumerate(nodes, 1)]


def executor(task: TaskRow, *jobs: str, registered: bool = True, youngest_job_s: int = 60) -> Executor:
    return Executor(
        slot=task.slot,
        task_id=task.id,
        node_id=task.node_id,
        node=f"node-{task.node_id}" if task.node_id else "",
        running=task.state == "running",
        registered=registered,
        jobs=jobs,
        youngest_job_s=youngest_job_s if jobs else 0,
    )


def pool(tasks: Sequence[TaskRow], busy: Sequence[int] = ()) -> list[Executor]:
    return [executor(task, *(["1.0"] if task.slot in busy else [])) for task in tasks]


def slots_of(victims: Sequence[Victim]) -> list[int]:
    return [victim.slot for victim in victims]


# -- the oracle: swarmkit, replicated/services.go and slot.go, line by line -------------------------------------------


def go_insertion_sort(items: list[Any], less: Callable[[Any, Any], bool]) -> None:
    for i in range(1, len(items)):
        j = i
        while j > 0 and less(items[j], items[j - 1]):
            items[j], items[j - 1] = items[j - 1], items[j]
            j -= 1


def reconcile(
    tasks: Sequence[TaskRow], count: int, random: Random, late: Callable[[int], bool] | None = None
) -> set[int]:
    """Slots whose tasks are set to remove when replicas are lowered by `count`.

    Go walks maps in random order, and sorts more than 12 items in no order that could be relied on where they are
    equal: then `random` settles ties, and slots for which `late` holds go first among their equals.
    """
    running_slots: dict[int, list[TaskRow]] = {}
    for slot in {t.slot for t in tasks}:
        updatable = [t for t in tasks if t.slot == slot and STATES.index(t.desired) <= STATES.index("running")]
        if updatable:
            running_slots[slot] = updatable
    slots = list(running_slots.values())
    random.shuffle(slots)

    def by_running_state(i: list[TaskRow], j: list[TaskRow]) -> bool:
        i_running = any(t.state == "running" for t in i)
        j_running = any(t.state == "running" for t in j)
        if i_running and not j_running:
            return True
        if not i_running and j_running:
            return False
        return i[0].slot < j[0].slot

    def by_index(i: tuple[list[TaskRow], int], j: tuple[list[TaskRow], int]) -> bool:
        if i[1] < 0 and j[1] >= 0:
            return False
        if j[1] < 0 and i[1] >= 0:
            return True
        return i[1] < j[1]

    go_insertion_sort(slots, by_running_state)
    slots_by_node: dict[str, int] = {}
    with_indices = []
    for rows in slots:
        if len(rows) == 1 and rows[0].node_id != "":
            slots_by_node[rows[0].node_id] = slots_by_node.get(rows[0].node_id, 0) + 1
            with_indices.append((rows, slots_by_node[rows[0].node_id]))
        else:
            with_indices.append((rows, -1))
    if len(with_indices) > 12:
        random.shuffle(with_indices)
        if late is not None:
            with_indices.sort(key=lambda item: late(item[0][0].slot))
    go_insertion_sort(with_indices, by_index)
    return {rows[0].slot for rows, _ in with_indices[len(with_indices) - count :]}


def told_to_leave(tasks: Sequence[TaskRow], retire: Sequence[int]) -> list[TaskRow]:
    """The exact way up to its last step: these have exited, and their replacements can be placed nowhere."""
    result = []
    for task in tasks:
        leaves = task.slot in retire and STATES.index(task.desired) <= STATES.index("running")
        result.append(replace(task, state="complete", desired="shutdown") if leaves else task)
        if leaves:
            result.append(row(task.slot, "", "pending", "ready", f"{task.id}-next"))
    return result


def lowered(tasks: Sequence[TaskRow], taken: set[int]) -> list[TaskRow]:
    """The table after Swarm has told these slots to leave, and forgotten those of them that had no container."""
    result = []
    for task in tasks:
        if task.slot not in taken or STATES.index(task.desired) > STATES.index("running"):
            result.append(task)
        elif STATES.index(task.state) >= STATES.index("assigned"):
            result.append(replace(task, desired="remove"))
    return result


def fits(outcome: Removal, taken: set[int]) -> bool:
    return outcome.certain <= taken <= outcome.certain | outcome.tied and len(taken - outcome.certain) == (
        outcome.tied_count
    )


# -- random tables ----------------------------------------------------------------------------------------------------


@st.composite
def slot_rows(draw: st.DrawFn, slot: int, with_doubles: bool) -> list[TaskRow]:
    node = draw(st.sampled_from("abcd"))
    kinds = ["running"] * 6 + ["starting", "restarting", "no node", "draining", "refilled", "dead"]
    kind = draw(st.sampled_from(kinds + (["double"] if with_doubles else [])))
    old = row(slot, draw(st.sampled_from("abcd")), "running", "remove", f"old{slot}")
    match kind:
        case "running":
            return [row(slot, node)]
        case "starting":
            return [row(slot, node, draw(st.sampled_from(STATES[3:8])))]
        case "restarting":  # the new task waits for its delay: it has a node already
            return [replace(old, state="failed", desired="shutdown"), row(slot, node, "ready", "ready")]
        case "no node":
            return [row(slot, "", "pending", draw(st.sampled_from(["running", "ready"])))]
        case "draining":
            return [old]
        case "refilled":
            return [old, row(slot, node)]
        case "dead":
            return [replace(old, state="complete", desired="shutdown")]
    return [row(slot, node), row(slot, draw(st.sampled_from(["a", "b", ""])), "pending", "ready", f"next{slot}")]


@st.composite
def tables(draw: st.DrawFn, with_doubles: bool = True) -> list[TaskRow]:
    # Half of them above 12 slots, where Swarm's ties are open.
    size = draw(st.one_of(st.integers(0, 10), st.integers(14, 22)))
    return [task for slot in range(1, size + 1) for task in draw(slot_rows(slot, with_doubles))]


def updatable_slots(tasks: Sequence[TaskRow]) -> set[int]:
    return {task.slot for task in tasks if STATES.index(task.desired) <= STATES.index("running")}


@st.composite
def lowerings(draw: st.DrawFn) -> tuple[list[TaskRow], int, Random]:
    tasks = draw(tables())
    return tasks, draw(st.integers(0, len(updatable_slots(tasks)))), draw(st.integers(0, 9999).map(Random))


@st.composite
def pools(draw: st.DrawFn, with_doubles: bool) -> tuple[list[Executor], list[TaskRow], int, Random]:
    tasks = draw(tables(with_doubles))
    executors = []
    for task in tasks:
        if STATES.index(task.desired) <= STATES.index("running") and not task.id.startswith("next"):
            up = task.state == "running"
            jobs = ["1.0", "1.1"][: draw(st.integers(0, 2))] if up else []
            registered = up and (bool(jobs) or draw(st.booleans()))
            executors.append(
                executor(task, *jobs, registered=registered, youngest_job_s=draw(st.integers(0, 9999)) if jobs else 0)
            )
    count = draw(st.integers(0, len(executors)))
    return draw(st.permutations(executors)), tasks, count, draw(st.integers(0, 9999).map(Random))


# -- Swarm's order of removal -----------------------------------------------------------------------------------------


SCALE_DOWN = [  # swarmkit replicated_test.go, TestReplicatedScaleDown
    row(1, "1", "starting"),
    *(row(slot, node) for slot, node in [(2, "2"), (3, "2"), (4, "3"), (5, "3"), (6, "3")]),
    row(7, "", "new"),
]


@pytest.mark.parametrize(
    ("tasks", "count", "certain"),
    [
        pytest.param(spread("aaa"), 1, {3}, id="single node: highest slot"),
        pytest.param(spread("aaa"), 3, {1, 2, 3}, id="all of them"),
        pytest.param(spread("aaa"), 0, set(), id="none"),
        pytest.param([], 0, set(), id="no tasks"),
        pytest.param(SCALE_DOWN, 1, {7}, id="swarmkit's test, 7 to 6: without a node"),
        pytest.param(SCALE_DOWN[:6], 2, {5, 6}, id="swarmkit's test, 6 to 4: node with most"),
        pytest.param(SCALE_DOWN[:4], 2, {1, 3}, id="swarmkit's test, 4 to 2: not running among equals"),
        pytest.param([row(1, "a", "starting"), row(2, "a")], 1, {1}, id="one node: not running before the higher slot"),
        pytest.param(
            [row(1, "a"), row(2, "a", "complete"), *(row(slot, "b") for slot in (3, 4, 5))],
            1,
            {5},
            id="A has 1 running and 1 complete, B 3 running: the third of B",
        ),
        pytest.param(
            [row(1, "a"), row(2, "a", "complete", "shutdown"), *(row(slot, "b") for slot in (3, 4, 5))],
            4,
            {1, 3, 4, 5},
            id="a slot that shall not run is no replica",
        ),
        pytest.param(
            [row(1, "", "pending"), *spread("aaaaa")[1:]], 1, {1}, id="without a node before the node with most"
        ),
        pytest.param(
            [row(1, "a"), row(1, "b", "ready", "ready", "t1b"), *spread("aaaa")[1:]],
            1,
            {1},
            id="two updatable tasks in a slot: before all others",
        ),
        pytest.param(
            [row(1, "a", "running", "shutdown", "t1a"), row(1, "a"), *spread("aaaa")[1:]],
            1,
            {4},
            id="a leaving and an updatable task in a slot: as any other",
        ),
        pytest.param(
            [row(1, "a", "failed", "shutdown", "t1a"), row(1, "a", "ready", "ready"), row(2, "a"), row(3, "b")],
            1,
            {1},
            id="restarting, desired ready: not running, keeps its node",
        ),
        pytest.param(
            [row(1, "", "pending"), row(2, "", "pending"), row(3, "a")],
            1,
            {2},
            id="without a node among themselves: highest slot",
        ),
        pytest.param(
            [row(1, "", "pending"), row(2, "a"), row(2, "a", "pending", "running", "t2b"), row(3, "a")],
            1,
            {1},
            id="goes first twice: the one that does not run",
        ),
        pytest.param(spread("abcabcabcabc"), 1, {12}, id="12 slots: ties go by slot"),
        pytest.param(spread("abcd" * 4), 4, {13, 14, 15, 16}, id="16 slots: a whole rank is no tie"),
    ],
)
def test_swarm_takes_these_slots(tasks: list[TaskRow], count: int, certain: set[int]) -> None:
    assert removal(tasks, count) == Removal(frozenset(certain), frozenset(), 0)


@pytest.mark.parametrize(
    ("tasks", "count", "outcome"),
    [
        (spread("abcd" * 4), 1, ((), (13, 14, 15, 16), 1)),
        (spread("abcd" * 4), 6, ((13, 14, 15, 16), (9, 10, 11, 12), 2)),
        ([*spread("a" * 12), row(13, "", "pending"), row(14, "", "pending")], 1, ((), (13, 14), 1)),
        ([*spread("a" * 12), row(13, "", "pending"), row(14, "", "pending")], 3, ((12, 13, 14), (), 0)),
        # One running, one not: of one rank, so above 12 slots nothing is said about them.
        ([*spread("aaaaaaaaaaab"), row(13, "b", "starting")], 11, ((3, 4, 5, 6, 7, 8, 9, 10, 11), (2, 13), 2)),
    ],
)
def test_above_12_slots_nobody_can_tell_which_of_one_rank_go(
    tasks: list[TaskRow], count: int, outcome: tuple[tuple[int, ...], tuple[int, ...], int]
) -> None:
    certain, tied, tied_count = outcome
    if tied_count == len(tied):
        certain, tied, tied_count = certain + tied, (), 0
    assert removal(tasks, count) == Removal(frozenset(certain), frozenset(tied), tied_count)


@settings(deadline=None, max_examples=300)
@given(lowerings())
def test_what_swarmkit_removes_is_always_within_what_is_said(case: tuple[list[TaskRow], int, Random]) -> None:
    tasks, count, random = case
    outcome = removal(tasks, count)
    for _ in range(3):
        assert fits(outcome, reconcile(tasks, count, random))


@settings(deadline=None, max_examples=150)
@given(lowerings())
def test_each_slot_that_is_called_tied_can_go_and_can_stay(case: tuple[list[TaskRow], int, Random]) -> None:
    tasks, count, random = case
    outcome = removal(tasks, count)
    assert len(outcome.certain) + outcome.tied_count == count
    for slot in outcome.tied:
        assert slot in reconcile(tasks, count, random, late=lambda s, this=slot: s == this)  # type: ignore[misc]
        assert slot not in reconcile(tasks, count, random, late=lambda s, this=slot: s != this)  # type: ignore[misc]


def recorded() -> list[Any]:
    """Each case of `task_tables/*.json`: {"before": [TaskRow…], "count": n, "taken": [slots]} and, if it was not
    recorded from a Swarm, "source"."""
    return [
        pytest.param(case, id=f"{path.stem}-{number}")
        for path in sorted(TABLES.glob("*.json"))
        for number, case in enumerate(json.loads(path.read_text(encoding="utf-8")), 1)
    ]


@pytest.mark.parametrize("case", recorded())
def test_what_a_swarm_was_seen_to_take_is_within_what_is_said(case: dict[str, Any]) -> None:
    before = [TaskRow(**task) for task in case["before"]]
    outcome, taken = removal(before, case["count"]), set(case["taken"])
    assert fits(outcome, taken), f"Swarm took {sorted(taken)}, said was {outcome}"


# -- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [-1, 4])
def test_a_count_that_cannot_be_is_refused(count: int) -> None:
    tasks = [*spread("abc"), row(4, "a", "running", "remove")]
    with pytest.raises(ValueError, match=f"3 slots by 0 to 3, saw {count}"):
        plan_down(pool(tasks), tasks, count)
    with pytest.raises(ValueError, match=f"saw {count}"):
        removal(tasks, count)


def test_a_replica_that_nobody_knows_is_refused_rather_than_taken_for_idle() -> None:
    tasks = spread("abc")
    with pytest.raises(ValueError, match=r"saw none for \[2\]"):
        plan_down(pool([tasks[0], tasks[2]]), tasks, 1)


def test_lowering_by_none_does_nothing() -> None:
    tasks = spread("abc")
    assert plan_down(pool(tasks, [1]), tasks, 0) == DownPlan(0, True, (), (), (), 0)


def test_lowering_is_enough_where_swarm_takes_idle_ones_by_itself() -> None:
    tasks = spread("aaa")
    plan = plan_down(pool(tasks, [1]), tasks, 2)
    assert (plan.direct, plan.retire, slots_of(plan.free), plan.draining) == (True, (), [3, 2], ())
    assert plan.free[0] == Victim(3, "t3", "node-a", "idle", "no job")


def test_an_idle_one_that_swarm_would_pass_over_is_told_to_leave() -> None:
    tasks = spread("aaa")
    plan = plan_down(pool(tasks, [2, 3]), tasks, 1)
    assert (plan.direct, plan.retire, slots_of(plan.free), plan.draining_count) == (False, (1,), [1], 0)


def test_busy_ones_follow_in_swarms_order_after_all_idle_ones() -> None:
    tasks = spread("aaabb")
    executors = [
        executor(tasks[0]),
        executor(tasks[1], "1.0", youngest_job_s=10),
        executor(tasks[2], "2.0", "2.1", youngest_job_s=90),
        executor(tasks[3], "3.0", youngest_job_s=500),
        executor(tasks[4], "4.0", youngest_job_s=600),
    ]
    plan = plan_down(executors, tasks, 3)
    # Without slot 1 both nodes have two: their second ones go, though slot 4 has run longer than slot 3.
    assert (plan.direct, plan.retire, slots_of(plan.free)) == (False, (1,), [1])
    assert [(v.slot, v.kind, v.why) for v in plan.draining] == [
        (5, "busy", "runs 1 job for 10m"),
        (3, "busy", "runs 2 jobs, the last one for 1m30s"),
    ]
    assert (plan.draining_count, plan.free_kept) == (2, ())


def test_all_busy_is_lowering_and_draining() -> None:
    tasks = spread("ab")
    plan = plan_down(pool(tasks, [1, 2]), tasks, 1)
    assert (plan.direct, plan.free, slots_of(plan.draining), plan.draining_count) == (True, (), [2], 1)


def test_one_without_a_node_goes_by_itself_and_counts_in_the_exact_way() -> None:
    tasks = [*spread("aaa"), row(4, "", "pending")]
    plan = plan_down(pool(tasks, [2, 3]), tasks, 2)
    assert (plan.direct, plan.retire, slots_of(plan.free)) == (False, (1,), [4, 1])
    assert plan.free[0] == Victim(4, "t4", "", "not running", "has no node (pending)")


def test_idle_ones_leave_unregistered_first_then_where_most_are_then_by_slot() -> None:
    tasks = spread("aaabbcabc")  # four on a, three on b, two on c
    executors = pool(tasks, [7, 8, 9])  # the last ones of each node
    executors[5] = replace(executors[5], registered=False)
    plan = plan_down(executors, tasks, 6)
    # Slot 6 is not registered. Then a has most (4), then a and b have 3: the highest slot, and so on.
    assert plan.retire == (6, 3, 5, 2, 4, 1)
    assert slots_of(plan.free) == list(plan.retire)
    assert plan.free[0].why == "not in the collector yet, no job"
    assert plan_down(executors, tasks, 2).retire == (6, 3)


def test_a_starting_one_cannot_be_told_and_is_named_where_it_stays_though_a_busy_one_goes() -> None:
    tasks = [*spread("aaa"), row(4, "b", "preparing")]
    plan = plan_down(pool(tasks, [1, 2, 3]), tasks, 1)
    assert (plan.direct, plan.retire, slots_of(plan.draining), plan.free_kept) == (False, (), [3], (4,))
    idle = plan_down(pool(tasks, [2, 3]), tasks, 1)  # an idle one can be told: nobody drains
    assert (idle.direct, idle.retire, idle.draining, idle.free_kept) == (False, (1,), (), ())


def test_a_starting_one_counts_where_swarm_takes_it() -> None:
    tasks = [*spread("ab"), row(3, "b", "preparing")]
    plan = plan_down(pool(tasks, [1, 2]), tasks, 1)
    assert (plan.direct, slots_of(plan.free)) == (True, [3])
    assert plan.free[0].why == "does not run yet (preparing)"


def test_a_tie_among_idle_ones_only_is_left_to_swarm_and_told() -> None:
    tasks = spread("abcd" * 4)
    plan = plan_down(pool(tasks, range(1, 13)), tasks, 2)
    assert (plan.direct, plan.retire, slots_of(plan.free)) == (True, (), [16, 15, 14, 13])
    assert plan.count - plan.draining_count == 2
    assert {v.why for v in plan.free} == {"no job; Swarm takes 2 of 4 alike"}


def test_a_tie_between_idle_and_busy_ones_is_not_left_to_swarm() -> None:
    tasks = spread("abcd" * 4)
    plan = plan_down(pool(tasks, range(1, 16)), tasks, 1)  # only slot 16 is idle, as good as 13, 14 and 15
    assert (plan.direct, plan.retire, slots_of(plan.free)) == (False, (16,), [16])


def test_a_tie_among_busy_ones_is_told() -> None:
    tasks = spread("abcd" * 4)
    plan = plan_down(pool(tasks, range(1, 17)), tasks, 3)
    assert (plan.direct, plan.draining_count, slots_of(plan.draining)) == (True, 3, [16, 15, 14, 13])
    assert {v.why for v in plan.draining} == {"runs 1 job for 1m; Swarm takes 3 of 4 alike"}


def test_executors_that_are_leaving_already_are_passed_over() -> None:
    tasks = [*spread("aa"), row(3, "a", "running", "remove")]
    plan = plan_down(pool(tasks), tasks, 1)
    assert slots_of(plan.free) == [2]


def test_a_slot_with_two_tasks_is_busy_when_one_of_them_is() -> None:
    tasks = [*spread("aa"), row(2, "a", "pending", "ready", "next")]
    for executors in (pool(tasks[:2], [2]), [executor(tasks[1], "1.0"), executor(tasks[2]), executor(tasks[0])]):
        plan = plan_down(executors, tasks, 1)
        assert plan.retire == (1,), "slot 2 would be the first to go"
        assert (slots_of(plan.free), plan.draining) == ([1], ())


def test_slots_with_two_tasks_go_by_themselves_and_are_not_told() -> None:
    twice = row(2, "a", "pending", "ready", "next")
    tasks = [*spread("aab"), twice]
    plan = plan_down(pool(tasks[:3], [3]), tasks, 2)  # slot 2 by itself, then Swarm would take slot 3
    assert (plan.direct, plan.retire, slots_of(plan.free)) == (False, (1,), [2, 1])


def test_of_two_slots_with_two_tasks_the_busy_one_goes_last_when_another_idle_one_is_told() -> None:
    tasks = [*spread("aaa"), row(1, "a", "pending", "ready", "n1"), row(2, "a", "pending", "ready", "n2")]
    plan = plan_down(pool(tasks[:3], [2]), tasks, 1)  # Swarm would take slot 2
    assert (plan.direct, plan.retire, slots_of(plan.free), plan.draining) == (False, (3,), [3], ())


def test_those_that_do_not_run_leave_without_a_node_first_then_the_highest_slot() -> None:
    tasks = [row(1, "", "pending"), row(2, "", "pending"), row(3, "a"), row(4, "a", "starting"), row(5, "b", "ready")]
    assert slots_of(plan_down(pool(tasks), tasks, 5).free) == [2, 1, 5, 4, 3]


def simulate(plan: DownPlan, tasks: list[TaskRow], random: Random, late: Callable[[int], bool]) -> set[int]:
    return reconcile(told_to_leave(tasks, plan.retire), plan.count, random, late)


@settings(deadline=None, max_examples=200)
@given(pools(with_doubles=False))
def test_no_busy_one_goes_while_one_stays_that_could_be_made_to_go(
    case: tuple[list[Executor], list[TaskRow], int, Random],
) -> None:
    executors, tasks, count, random = case
    plan = plan_down(executors, tasks, count)
    by_slot = {e.slot: e for e in executors}
    busy = {e.slot for e in executors if e.jobs}
    free = set(by_slot) - busy
    assert all(not by_slot[slot].jobs and by_slot[slot].running for slot in plan.retire)
    taken = simulate(plan, tasks, random, late=lambda slot: slot in busy)  # as bad as ties can end
    assert len(taken & busy) == plan.draining_count
    assert set(plan.retire) <= taken
    if taken & busy:
        assert free - taken <= set(plan.free_kept)
        assert all(by_slot[slot].node_id and not by_slot[slot].running for slot in plan.free_kept)
    # What plain lowering takes at worst is never better.
    assert len(reconcile(tasks, count, random, late=lambda slot: slot in busy) & busy) >= plan.draining_count


@settings(deadline=None, max_examples=200)
@given(pools(with_doubles=True))
def test_what_happens_is_within_the_plan_whatever_ties_do(
    case: tuple[list[Executor], list[TaskRow], int, Random],
) -> None:
    executors, tasks, count, random = case
    plan = plan_down(executors, tasks, count)
    busy = {e.slot for e in executors if e.jobs}
    free, draining = set(slots_of(plan.free)), set(slots_of(plan.draining))
    assert draining <= busy
    assert not free & busy
    assert set(plan.retire) <= free
    assert len(set(plan.retire)) == len(plan.retire) <= count
    worst = simulate(plan, tasks, random, late=lambda slot: slot in busy)
    best = simulate(plan, tasks, random, late=lambda slot: slot not in busy)
    for taken in (worst, best, simulate(plan, tasks, random, late=lambda _: False)):
        assert taken <= free | draining
        assert unexpected(plan, frozenset(taken)) == frozenset()
        assert len(taken & busy) <= plan.draining_count
    assert len(worst & busy) == plan.draining_count
    if plan.draining_count:
        idle = {e.slot for e in executors if not e.jobs}
        stay = {slot for slot in idle if slot not in simulate(plan, tasks, random, late=lambda s, this=slot: s != this)}  # type: ignore[misc]
        assert set(plan.free_kept) == stay


@settings(deadline=None, max_examples=200)
@given(pools(with_doubles=True))
def test_lowering_is_called_enough_exactly_when_it_is(
    case: tuple[list[Executor], list[TaskRow], int, Random],
) -> None:
    executors, tasks, count, random = case
    plan = plan_down(executors, tasks, count)
    free = {e.slot for e in executors if not e.jobs}
    worst = reconcile(tasks, count, random, late=lambda slot: slot not in free)
    assert plan.direct == (len(worst & free) == min(count, len(free)))
    if plan.direct:
        assert (plan.retire, plan.free_kept) == ((), ())


# -- the check afterwards ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(pools(with_doubles=True))
def test_the_removed_slots_are_seen_in_the_table_afterwards(
    case: tuple[list[Executor], list[TaskRow], int, Random],
) -> None:
    executors, tasks, count, random = case
    plan = plan_down(executors, tasks, count)
    taken = simulate(plan, tasks, random, late=lambda _: False)
    between = told_to_leave(tasks, plan.retire)
    assert surplus(tasks, between) == frozenset(), "told to leave, not yet removed"
    assert surplus(tasks, lowered(between, taken)) == taken


@pytest.mark.parametrize(
    ("after", "gone"),
    [
        pytest.param([row(1, "a"), row(2, "a", "running", "remove")], {2}, id="drains"),
        pytest.param([row(1, "a"), row(2, "a", "complete", "shutdown")], {2}, id="shut down, not replaced"),
        pytest.param([row(1, "a")], {2}, id="vanished"),
        pytest.param([row(1, "a"), row(2, "a", "ready", "ready", "new")], set(), id="vanished and replaced"),
        pytest.param(
            [row(1, "a"), row(2, "a", "failed", "shutdown"), row(2, "a", "ready", "ready", "new")],
            set(),
            id="restarted",
        ),
        pytest.param(
            [row(1, "a"), row(2, "a", "running", "remove"), row(2, "b", task_id="new")],
            {2},
            id="drains, scaled up again",
        ),
        pytest.param([row(1, "a"), row(2, "a"), row(3, "a")], set(), id="scaled up"),
    ],
)
def test_a_restart_is_no_removal(after: list[TaskRow], gone: set[int]) -> None:
    before = [row(1, "a"), row(2, "a"), row(9, "a", "running", "remove")]
    assert surplus(before, after) == gone


def test_a_slot_that_the_plan_kept_is_unexpected() -> None:
    tasks = spread("aaab")
    plan = plan_down(pool(tasks, [2, 3, 4]), tasks, 2)
    assert (slots_of(plan.free), slots_of(plan.draining)) == ([1], [3])
    assert unexpected(plan, frozenset({1, 3})) == frozenset()
    assert unexpected(plan, frozenset({1})) == frozenset(), "half way"
    assert unexpected(plan, frozenset({1, 4})) == {4}
    assert unexpected(plan, frozenset({3})) == {3}, "a busy one before the idle one"
    assert unexpected(plan, frozenset({3, 4})) == {3, 4}
