"""One class at one moment: Swarm's tasks joined with the collector's slots."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from swarmhpc import state
from swarmhpc.adapters.docker import Service, Task
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cluster.render import ClassPlan, plan_label
from swarmhpc.errors import EngineError
from swarmhpc.scaling.victims import Executor, TaskRow
from swarmhpc.scaling.view import ClassView, host, hosts, look, view
from tests.unit.fake_swarm import NO_ROOM, PLAN, POOL, FakeSwarm

NODES = {"n1": "desk", "n2": "bench"}
FAILED = "task: non-zero exit (1)"


def service(replicas: int | None = 2, plan: ClassPlan | None = PLAN) -> Service:
    labels = {state.LABEL_CLASS: "executors"} | ({state.LABEL_PLAN: plan_label(plan)} if plan else {})
    return Service("s1", "lab_executors", labels, replicas, "i", "{}")


def task(id: str, slot: int, now: str = "running", desired: str = "running", node: str = "n1", **more: Any) -> Task:
    started = now in ("running", "complete", "failed")
    base = Task(id, "s1", node, slot, now, desired, "", f"c-{id}" if started else "", "{}", "2025-01-01T00:00:00Z")
    return replace(base, **more)


def slot(of_task: str, job: str = "", *, age_s: int = 0, **more: Any) -> Slot:
    base = Slot(
        "slot1", "h", "executors", "desk", of_task, 1, 512, not job, "Claimed" if job else "Unclaimed",
        "Busy" if job else "Idle", job, 2, 1024, age_s,
    )  # fmt: skip
    return replace(base, **more)


def seen(*tasks: Task, slots: tuple[Slot, ...] = ()) -> ClassView:
    return view(service(), tasks, slots, NODES)


# -- executors -----------------------------------------------------------------------------------------------------


def test_an_executor_has_the_jobs_of_its_own_slots_and_the_age_of_the_youngest() -> None:
    slots = (slot("t1"), slot("t1", "3.0", age_s=90), slot("t1", "3.1", age_s=20), slot("t2", "4.0", age_s=5))
    assert seen(task("t1", 1), slots=slots).executors == (
        Executor(1, "t1", "n1", "desk", running=True, registered=True, jobs=("3.0", "3.1"), youngest_job_s=20),
    )


def test_an_idle_executor_has_no_jobs() -> None:
    assert seen(task("t1", 1, node="n2"), slots=(slot("t1"),)).executors == (
        Executor(1, "t1", "n2", "bench", running=True, registered=True, jobs=(), youngest_job_s=0),
    )


def test_one_that_the_collector_does_not_know_yet_is_not_registered() -> None:
    found = seen(task("t1", 1), task("t2", 2, "starting"), slots=(slot("elsewhere"),))
    assert [(e.running, e.registered) for e in found.executors] == [(True, False), (False, False)]
    assert found.registered == 0


def test_a_claim_without_a_job_yet_counts_as_one() -> None:
    claimed = slot("t1", partitionable=False, state="Claimed", activity="Idle", activity_age_s=3)
    ((executor),) = seen(task("t1", 1), slots=(slot("t1"), claimed)).executors
    assert (executor.jobs, executor.youngest_job_s) == (("a claim",), 3)


@pytest.mark.parametrize("now", ["Owner", "Matched", "Preempting"])
def test_a_slot_that_is_not_free_is_taken_whatever_htcondor_calls_it(now: str) -> None:
    ((executor),) = seen(task("t1", 1), slots=(slot("t1", partitionable=False, state=now),)).executors
    assert executor.jobs


@pytest.mark.parametrize("now", ["Claimed", "Drained", "Unclaimed"])
def test_a_partitionable_slot_is_nobodys_job(now: str) -> None:
    ((executor),) = seen(task("t1", 1), slots=(slot("t1", state=now),)).executors
    assert executor.jobs == ()


def test_one_without_a_node_or_on_an_unknown_node_has_no_name_of_one() -> None:
    found = seen(task("t1", 1, "pending", node=""), task("t2", 2, node="gone"))
    assert [(e.node_id, e.node) for e in found.executors] == [("", ""), ("gone", "")]


def test_only_tasks_that_shall_run_are_executors_of_the_class_but_all_are_in_the_table() -> None:
    tasks = (
        task("t1", 1),
        task("t2", 2, desired="remove"),
        task("t3", 3, "failed", "shutdown"),
        task("t4", 3, "ready", "ready"),
        task("t5", 4, "complete", "running"),  # will be started again
    )
    found = seen(*tasks, slots=(slot("t1"), slot("t2", "7.0")))
    assert [e.task_id for e in found.executors] == ["t1", "t4", "t5"]
    assert found.registered == 1, "one that leaves is not counted"
    assert found.rows[1] == TaskRow("t2", 2, "n1", "running", "remove", "2025-01-01T00:00:00Z")
    assert [r.id for r in found.rows] == [t.id for t in tasks]


# -- those that leave ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "leaves"),
    [
        (task("t", 1), False),
        (task("t", 1, desired="remove"), True),
        (task("t", 1, desired="shutdown"), True),
        (task("t", 1, "starting", "shutdown", container_id="c"), True),
        (task("t", 1, "starting", "shutdown"), False),  # it never had a container
        (task("t", 1, "complete", "shutdown"), False),
        (task("t", 1, "failed", "remove"), False),
        (task("t", 1, "orphaned", "remove", container_id="c"), False),  # its node is gone for good
    ],
)
def test_one_leaves_from_being_told_until_its_container_has_ended(one: Task, leaves: bool) -> None:
    assert seen(one).leaving == ((one,) if leaves else ())


# -- Swarm's words -------------------------------------------------------------------------------------------------


def test_words_about_a_missing_node_count_only_while_somebody_waits_for_one() -> None:
    waiting = task("t1", 1, "pending", node="", error=NO_ROOM)
    assert seen(waiting).unplaceable == NO_ROOM
    assert seen(replace(waiting, desired="shutdown")).unplaceable == ""
    assert seen(replace(waiting, node_id="n1", state="assigned")).unplaceable == ""
    assert seen(task("t1", 1, "failed", error=FAILED), replace(waiting, error="")).unplaceable == ""


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        pytest.param([task("t1", 1)], (), id="all is well"),
        pytest.param([task("t1", 1, "pending", node="", error=NO_ROOM)], (NO_ROOM,), id="no node"),
        pytest.param(
            [task("t1", 1, "failed", "shutdown", error=FAILED), task("t2", 1, "ready", "ready")],
            (FAILED,),
            id="it waits to be started again: why the last one ended",
        ),
        pytest.param(
            [task("t1", 1, "failed", "shutdown", error=FAILED), task("t2", 1)], (), id="its successor runs: history"
        ),
        pytest.param(
            [task("t1", 1, "failed", "shutdown", error=FAILED), task("t2", 1, "pending", node="", error=NO_ROOM)],
            (NO_ROOM,),
            id="the newest words of a slot",
        ),
        pytest.param(
            [
                task("t1", 1, "pending", node="", error=NO_ROOM),
                task("t2", 2, "failed", "shutdown", error=FAILED),
                task("t3", 2, "starting"),
                task("t4", 3, "pending", node="", error=NO_ROOM),
            ],
            (NO_ROOM, FAILED),
            id="most frequent first, each once",
        ),
        pytest.param(
            [task("t1", 1, "failed", "shutdown", error=FAILED)], (), id="nobody is wanted in that slot any more"
        ),
        pytest.param([task("t1", 1, "starting")], (), id="starting, without words"),
        pytest.param([task("t1", 1, desired="remove", error="x"), task("t2", 1, "starting")], ("x",), id="a successor"),
    ],
)
def test_trouble_is_what_swarm_says_of_slots_that_run_nothing(tasks: list[Task], said: tuple[str, ...]) -> None:
    assert seen(*tasks).trouble == said


# -- the class -----------------------------------------------------------------------------------------------------


def test_a_class_has_the_plan_of_its_label_and_the_replicas_of_its_service() -> None:
    plan = replace(PLAN, replicas=9, maximum=12, resources=(("licence", 2),))
    found = view(service(4, plan), [], [], {})
    assert (found.name, found.plan, found.replicas) == ("executors", plan, 4)


def test_a_class_deployed_before_there_were_plans_has_none() -> None:
    found = view(service(None, None), [], [], {})
    assert (found.plan, found.replicas) == (None, 0)


def test_a_broken_plan_says_what_to_do() -> None:
    broken = replace(service(), labels={state.LABEL_CLASS: "executors", state.LABEL_PLAN: "{"})
    with pytest.raises(EngineError, match=r"swarmhpc\.plan") as e:
        view(broken, [], [], {})
    assert e.value.hint == "swarmhpc up"


def test_a_look_finds_every_class_with_its_own_tasks_and_nothing_else() -> None:
    swarm = FakeSwarm("ab", plans=[PLAN, replace(PLAN, name="big")])
    swarm.fill("ab")
    swarm.fill("b", name="big")
    swarm.add_autoscaler(1)
    swarm.node_list[1] = replace(swarm.node_list[1], labels={state.LABEL_MACHINE: "bench"})
    found = look(swarm.engine, POOL, swarm.slots(), swarm.nodes())
    assert {name: [e.node for e in v.executors] for name, v in found.items()} == {
        "executors": ["host-a", "bench"],  # as the cluster file calls the machine, else the node's own name
        "big": ["bench"],
    }
    assert [v.registered for v in found.values()] == [2, 1]


# -- host names ----------------------------------------------------------------------------------------------------


def test_executors_go_by_the_host_names_of_the_stack() -> None:
    template = (state.assets("stacks") / "pool.yml.j2").read_text()
    ((given),) = re.findall(r"hostname: '(\{\{ c\.name \}\}.*)'", template)
    for part, value in {
        "{{ c.name }}": "executors",
        "{% raw %}": "",
        "{% endraw %}": "",
        "{{.Task.Slot}}": "7",
        '{{printf "%.6s" .Task.ID}}': "abcdef",
    }.items():
        assert part in given
        given = given.replace(part, value)
    one = task("abcdefghijkl", 7)
    assert host("executors", one) == given


def test_host_names_of_tasks_of_any_class_are_found_also_of_those_that_leave() -> None:
    first = seen(task("aaaaaaaa", 1), task("bbbbbbbb", 2, desired="remove"))
    second = replace(seen(task("cccccccc", 1)), name="big")
    views = {"executors": first, "big": second}
    assert hosts(views, {"bbbbbbbb", "cccccccc", "unknown"}) == ["executors-2-bbbbbb", "big-1-cccccc"]
    assert hosts(views, []) == []
