"""Queue and classes as the policy wants them: HTCondor's own judgement of which job would match which class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cluster.render import ClassPlan
from swarmhpc.errors import PoolError
from swarmhpc.scaling import demand
from swarmhpc.scaling.demand import Matcher, class_state
from swarmhpc.scaling.policy import ClassState, Free, JobGroup
from tests.unit.fake_swarm import NO_ROOM, PLAN, FakeCondor, FakeSwarm, job_ad

BIG = replace(PLAN, name="big", cpus=8, memory_mib=16384)
GPU = replace(PLAN, name="gpu", gpus=2)
LICENCE = replace(PLAN, name="licence", resources=(("licence", 3),))


# -- a class -------------------------------------------------------------------------------------------------------


def state_of(swarm: FakeSwarm, *extra: Slot, name: str = "executors") -> ClassState:
    view = swarm.view(name)
    assert view.plan is not None
    return class_state(view, view.plan, [*swarm.slots([n for n, _ in view.plan.counted]), *extra])


def test_a_class_that_nobody_runs_yet_has_what_its_plan_says() -> None:
    plan = replace(GPU, minimum=1, maximum=7, step=3, idle_s=40, starting_max=2, resources=(("licence", 1),))
    assert state_of(FakeSwarm(plans=[plan]), name="gpu") == ClassState(
        name="gpu",
        cpus=2,
        memory_mib=1024,
        resources={"gpus": 2, "licence": 1},
        replicas=0,
        minimum=1,
        maximum=7,
        step=3,
        idle_s=40,
        starting_max=2,
        starting=0,
    )


def test_what_jobs_have_left_of_each_executor_is_free() -> None:
    swarm = FakeSwarm()
    swarm.fill("aaa", busy=[1])
    swarm.clock.now += 30
    found = state_of(swarm)
    assert sorted(found.free, key=lambda f: f.cpus) == [Free(1, 896, {}), Free(2, 1024, {}), Free(2, 1024, {})]
    assert found.idle_for_s == (30, 30)
    assert (found.replicas, found.starting, found.draining) == (3, 0, 0)


def test_gpus_and_others_of_the_class_are_counted() -> None:
    swarm = FakeSwarm(plans=[GPU])
    swarm.put(1, "a", name="gpu")
    assert state_of(swarm, name="gpu").free == (Free(2, 1024, {"gpus": 2}),)


def test_a_claim_whose_job_has_not_begun_is_still_that_jobs_place() -> None:
    swarm = FakeSwarm()
    task = swarm.put(1, "a")
    claimed = Slot("slot1_1", "h", "executors", "n", task.id, 1, 128, False, "Claimed", "Idle", "", 2, 1024, 0)
    ((free,),) = [state_of(swarm, claimed).free]
    assert (free.cpus, free.memory_mib) == (3, 1152)
    assert state_of(swarm, replace(claimed, activity="Busy")).free == (Free(2, 1024, {}),)


def test_slots_of_other_classes_and_of_those_that_leave_are_not_free() -> None:
    swarm = FakeSwarm(plans=[PLAN, BIG])
    swarm.put(1, "a", name="big")
    swarm.put(1, "a")
    swarm.put(2, "a", "running", "remove", "7.0")
    found = state_of(swarm)
    assert found.free == (Free(2, 1024, {}),)
    assert (found.replicas, found.starting, found.draining) == (1, 0, 1)


def test_replicas_that_the_collector_does_not_know_are_starting_also_those_that_swarm_has_not_made_yet() -> None:
    swarm = FakeSwarm()
    swarm.fill("a")
    swarm.put(2, "a", "assigned")
    swarm.put(3, "a", registered=False)
    swarm.of().replicas = 5
    swarm.of().due = swarm.clock.now + 10
    found = state_of(swarm)
    assert (found.replicas, found.starting, found.unplaced, found.unplaceable) == (5, 4, 0, "")


def test_those_that_find_no_node_are_told_with_swarms_words() -> None:
    swarm = FakeSwarm()
    swarm.fill("a")
    swarm.room = {"node-a": 1}
    swarm.put(2)
    swarm.put(3)
    found = state_of(swarm)
    assert (found.starting, found.unplaced, found.unplaceable) == (2, 2, NO_ROOM)


def test_more_executors_than_replicas_is_no_negative_number() -> None:
    swarm = FakeSwarm()
    swarm.fill("aa")
    swarm.of().replicas = 1
    swarm.of().due = swarm.clock.now + 10
    assert state_of(swarm).starting == 0


# -- which job matches which class ---------------------------------------------------------------------------------


def groups(
    *jobs: Any, plans: tuple[ClassPlan, ...] = (PLAN, BIG, GPU, LICENCE), alive: bool = False, **ad: Any
) -> list[JobGroup]:
    """The groups of these jobs. `alive`: each class has an idle executor, whose ClassAd is changed by `ad`."""
    swarm = FakeSwarm(plans=plans)
    if alive:
        for p in plans:
            swarm.put(1, "a", name=p.name)
    condor = FakeCondor(swarm, *jobs)
    condor.executor_ad = ad
    return Matcher().groups(condor.pool, swarm.views())


def matches(job: Any, *, alive: bool = False, plans: tuple[ClassPlan, ...] = (PLAN, BIG, GPU, LICENCE)) -> set[str]:
    ((group),) = groups(job, plans=plans, alive=alive)
    return set(group.matches)


ALL = {"executors", "big", "gpu", "licence"}


@pytest.mark.parametrize("alive", [False, True], ids=["never had an executor", "has executors"])
@pytest.mark.parametrize("docker", [False, True], ids=["vanilla", "docker"])
@pytest.mark.parametrize(
    ("job", "classes"),
    [
        pytest.param({}, ALL, id="small"),
        pytest.param({"memory": "1024"}, ALL, id="all of the memory"),
        pytest.param({"memory": "1025"}, {"big"}, id="more memory"),
        pytest.param(
            {"memory": "ifThenElse(MemoryUsage =!= undefined, MemoryUsage, 2000)"}, {"big"}, id="an expression"
        ),
        pytest.param({"memory": "20000"}, set(), id="more memory than any"),
        pytest.param({"cpus": 2}, ALL, id="all CPUs"),
        pytest.param({"cpus": 3}, {"big"}, id="more CPUs"),
        pytest.param({"gpus": 1}, {"gpu"}, id="a GPU"),
        pytest.param({"gpus": 3}, set(), id="more GPUs than any"),
        pytest.param({"Requestlicence": 2}, {"licence"}, id="a resource of ours"),
        pytest.param({"requirements": 'SwarmHpcClass == "big"'}, {"big"}, id="a class by name"),
        pytest.param({"requirements": 'TARGET.SwarmHpcClass =!= "big"'}, ALL - {"big"}, id="any class but one"),
        pytest.param({"requirements": "TARGET.Memory > 4096"}, {"big"}, id="memory in requirements"),
        pytest.param(
            {"requirements": "TotalCpus >= 8 && TotalMemory >= 8000"}, {"big"}, id="the executor's whole size"
        ),
        pytest.param({"requirements": "TARGET.TotalSlotCpus == 8"}, {"big"}, id="the slot's whole size"),
        pytest.param({"requirements": 'Machine == "elsewhere"'}, set(), id="a machine that is not"),
        pytest.param({"requirements": 'OpSys == "WINDOWS"'}, set(), id="another system"),
        pytest.param({"requirements": "HasSomethingElse"}, set(), id="what nobody has"),
        pytest.param({"requirements": "HasDocker"}, ALL, id="docker in requirements"),
        pytest.param({"requirements": "false"}, set(), id="nothing at all"),
        pytest.param({"urls": "https"}, ALL, id="a file over https"),
        pytest.param({"urls": "osdf"}, set(), id="a file over what no plugin knows"),
        pytest.param({"disk": "5000000"}, ALL, id="5 GB of disk"),
    ],
)
def test_a_job_matches_the_classes_on_whose_executors_it_could_run(
    job: Mapping[str, Any], classes: set[str], docker: bool, alive: bool
) -> None:
    # The policy looks at sizes itself; a living executor of a GPU class must not lend its GPUs to another class.
    assert matches(job_ad(docker=docker, **job), alive=alive) == classes


def test_what_a_living_executor_says_counts_for_its_class() -> None:
    assert [g.matches for g in groups(job_ad(docker=True), alive=True, HasDocker=False)] == [frozenset()]
    wants = job_ad(requirements='TARGET.Site == "attic"')
    assert [set(g.matches) for g in groups(wants, alive=True, Site="attic")] == [ALL]
    assert [set(g.matches) for g in groups(wants)] == [set()]


def test_an_executor_that_takes_no_jobs_of_somebody_matches_none_of_theirs() -> None:
    bob, alice = groups(job_ad(1, owner="bob"), job_ad(2), alive=True, plans=(PLAN,), Start=False)
    assert (bob.matches, alice.matches) == (frozenset(), frozenset())


def test_a_class_that_has_no_executor_yet_takes_anothers_word_with_its_own_sizes() -> None:
    swarm = FakeSwarm(plans=(PLAN, BIG))
    swarm.put(1, "a")
    condor = FakeCondor(swarm, job_ad(1, requirements='Site == "attic"', memory="5000"))
    condor.executor_ad = {"Site": "attic"}
    ((group),) = Matcher().groups(condor.pool, swarm.views())
    assert group.matches == {"big"}


def test_what_executors_said_is_remembered_after_they_have_left() -> None:
    swarm = FakeSwarm()
    swarm.put(1, "a")
    condor = FakeCondor(swarm, job_ad(requirements='Site == "attic"'))
    condor.executor_ad = {"Site": "attic"}
    matcher = Matcher()
    matcher.groups(condor.pool, swarm.views())
    swarm.task_list.clear()
    swarm.of().replicas = 0
    ((group),) = matcher.groups(condor.pool, swarm.views())
    assert group.matches == {"executors"}
    assert condor.asked.count("slot_ad") == 1


def test_a_busy_executor_stands_for_an_empty_one_of_its_class() -> None:
    swarm = FakeSwarm()
    swarm.put(1, "a", "running", "running", "1.0", "1.1")
    ((group),) = Matcher().groups(FakeCondor(swarm, job_ad(cpus=2, memory="1024")).pool, swarm.views())
    assert group.matches == {"executors"}


def test_the_disk_that_jobs_take_of_a_busy_executor_is_free_on_an_empty_one() -> None:
    swarm = FakeSwarm()
    swarm.put(1, "a", "running", "running", "1.0")
    condor = FakeCondor(swarm, job_ad(disk="5000000"))
    condor.executor_ad = {"Disk": 1000}
    ((group),) = Matcher().groups(condor.pool, swarm.views())
    assert group.matches == {"executors"}


def test_a_class_without_gpus_has_none_whoever_it_is_modelled_on() -> None:
    swarm = FakeSwarm(plans=(GPU, PLAN))
    swarm.put(1, "a", name="gpu")
    condor = FakeCondor(swarm, job_ad(gpus=1))
    condor.executor_ad = {"GPUs": 2, "TotalSlotGPUs": 2}
    ((group),) = Matcher().groups(condor.pool, swarm.views())
    assert group.matches == {"gpu"}


# -- groups --------------------------------------------------------------------------------------------------------


def test_equal_jobs_are_one_group_that_knows_what_each_asks_for() -> None:
    jobs = [job_ad(7, p, cpus=2, memory="300", gpus=1, Requestlicence=1) for p in range(5)]
    ((group),) = groups(*jobs)
    assert group == JobGroup(
        owner="alice",
        count=5,
        cpus=2,
        memory_mib=300,
        resources={"gpus": 1, "licence": 1},
        matches=frozenset(),
        example="7.0",
        waiting_s=1000,
    )


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"owner": "bob"}, id="owner"),
        pytest.param({"memory": "129"}, id="memory"),
        pytest.param({"cpus": 2}, id="CPUs"),
        pytest.param({"disk": "50"}, id="disk"),
        pytest.param({"gpus": 1}, id="GPUs"),
        pytest.param({"requirements": "true"}, id="requirements"),
    ],
)
def test_jobs_that_differ_are_not_one_group(other: dict[str, Any]) -> None:
    assert [g.count for g in groups(job_ad(7, 0), job_ad(7, 1, **other), job_ad(7, 2))] == [2, 1]


def test_a_resource_that_no_class_has_is_not_counted_but_keeps_the_job_from_matching() -> None:
    ((group),) = groups(job_ad(Requestlaser=1))
    assert (group.resources, group.matches) == ({}, frozenset())


def test_the_oldest_of_a_group_tells_how_long_it_waits() -> None:
    jobs = [job_ad(7, p, EnteredCurrentStatus=1_700_000_000 + s) for p, s in enumerate((900, 400, 990))]
    assert [g.waiting_s for g in groups(*jobs)] == [600]


def test_requests_that_are_no_numbers_do_not_end_the_round() -> None:
    for none in ("undefined", "error", "true", '"much"'):
        ((group),) = groups(job_ad(memory=none), plans=(PLAN,))
        assert group.memory_mib == 0
    ((group),) = groups(job_ad(memory="1.5 * 100"), plans=(PLAN,))
    assert (group.memory_mib, group.matches) == (150, frozenset({"executors"}))


@pytest.mark.parametrize("attributes", [{"JobStatus": 2}, {"JobStatus": 5}, {"JobUniverse": 7}, {"JobUniverse": 12}])
def test_only_idle_jobs_that_an_executor_runs_count(attributes: dict[str, Any]) -> None:
    assert groups(job_ad(1, **attributes)) == []


def test_an_empty_queue_is_one_question() -> None:
    swarm = FakeSwarm()
    swarm.put(1, "a")
    condor = FakeCondor(swarm)
    assert Matcher().groups(condor.pool, swarm.views()) == []
    assert condor.asked == ["job_ads"]


def test_a_job_that_began_between_the_two_questions_is_left_out() -> None:
    swarm = FakeSwarm()
    condor = FakeCondor(swarm, job_ad(1), job_ad(2))
    ask = condor.job_ads

    def gone(constraint: str, attributes: Any = (), *, most: int = -1) -> list[Any]:
        found = ask(constraint, attributes, most=most)
        return found if attributes else [a for a in found if a["ClusterId"] != 1]

    condor.job_ads = gone  # type: ignore[method-assign]
    assert [g.example for g in Matcher().groups(condor.pool, swarm.views())] == ["2.0"]


def test_a_queue_without_end_is_read_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "MOST_JOBS", 3)
    assert [g.count for g in groups(*(job_ad(7, p) for p in range(9)))] == [3]


def test_classes_without_a_plan_match_nothing() -> None:
    swarm = FakeSwarm()
    views = {name: replace(v, plan=None) for name, v in swarm.views().items()}
    ((group),) = Matcher().groups(FakeCondor(swarm, job_ad()).pool, views)
    assert group.matches == frozenset()


def test_a_silent_access_point_is_told() -> None:
    condor = FakeCondor(FakeSwarm(), job_ad())
    condor.troubles["job_ads"] = PoolError("no answer")
    with pytest.raises(PoolError, match="no answer"):
        Matcher().groups(condor.pool, condor.swarm.views())
