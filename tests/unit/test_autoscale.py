"""The autoscaler's rounds: what it sees, does and shows; beside a Swarm and a queue in memory."""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmhpc import state
from swarmhpc.adapters import command
from swarmhpc.adapters.docker import Stored
from swarmhpc.errors import CommandError, EngineError, PoolError, PoolUnreachableError
from swarmhpc.scaling import autoscale as module
from swarmhpc.scaling import lock, scale
from swarmhpc.scaling.autoscale import change, one_round, run, set_on, shown
from swarmhpc.scaling.demand import Matcher
from tests.unit.fake_swarm import NO_ROOM, PLAN, POOL, Clock, FakeCondor, FakeSwarm, job_ad

AUTO = replace(PLAN, maximum=6, idle_s=60)


def pool(nodes: str = "ab", *jobs: Any, plan: Any = AUTO, more: Sequence[Any] = ()) -> FakeCondor:
    return FakeCondor(FakeSwarm(nodes, plans=[plan, *more]), *jobs)


def rounds(condor: FakeCondor, matcher: Matcher | None = None, count: int = 1) -> dict[str, str]:
    matcher = matcher or Matcher()
    said: dict[str, str] = {}
    with condor.swarm.clock.of(scale, lock):
        for _ in range(count):
            said = one_round(condor.hands, condor.pool, matcher)
            condor.swarm.settle(2)
    return said


def decisions(condor: FakeCondor) -> dict[str, int]:
    return {d["SwarmHpcClass"]: d["Wanted"] for d in shown(condor.pool)[0]}


# -- a round -------------------------------------------------------------------------------------------------------


def test_waiting_jobs_get_executors_and_everybody_can_read_why() -> None:
    condor = pool("a", *(job_ad(7, p) for p in range(5)))
    assert rounds(condor) == {"executors": "3 wanted: 5 idle jobs, such as 7.0, need 3 executors more"}
    assert condor.swarm.calls == [("executors", 3, None)]
    decided, unserved = shown(condor.pool)
    assert decided == [
        {
            "MyType": "SwarmHpcDecision",
            "Name": "executors@lab",
            "SwarmHpcClass": "executors",
            "Wanted": 3,
            "Reason": "5 idle jobs, such as 7.0, need 3 executors more",
        }
    ]
    assert unserved == []


def test_the_same_queue_asks_for_nothing_twice() -> None:
    condor = pool("a", *(job_ad(7, p) for p in range(5)))
    rounds(condor, count=5)
    assert condor.swarm.calls == [("executors", 3, None)]


def test_jobs_that_get_no_executor_are_shown_with_the_reason() -> None:
    condor = pool("a", job_ad(7, 0, memory="9000"), job_ad(7, 1, memory="9000"), job_ad(8, requirements="false"))
    rounds(condor)
    found = {ad["Job"]: (ad["Name"], ad["Count"], ad["Kind"]) for ad in shown(condor.pool)[1]}
    assert found == {
        "7.0": ("7.0@lab", 2, "larger than any class"),
        "8.0": ("8.0@lab", 1, "no class matches"),
    }
    assert condor.swarm.calls == []


def test_gpus_are_asked_of_the_collector_by_name_and_only_the_class_with_them_grows() -> None:
    gpu = replace(AUTO, name="gpu", gpus=1)
    condor = pool("a", job_ad(7, gpus=1), more=[gpu])
    assert rounds(condor) == {
        "executors": "0 wanted: no idle job needs another executor",
        "gpu": "1 wanted: idle job 7.0 needs 1 executor more",
    }


def test_gpus_that_an_executor_has_left_serve_the_next_job() -> None:
    condor = pool("a", job_ad(7, gpus=1), plan=replace(AUTO, gpus=1))
    condor.swarm.fill("a")
    rounds(condor)
    assert condor.swarm.calls == []


def test_a_class_without_max_is_left_alone_but_takes_jobs() -> None:
    condor = pool("a", job_ad(7), plan=PLAN)
    condor.swarm.fill("a")
    assert rounds(condor) == {}
    assert (condor.swarm.calls, shown(condor.pool)) == ([], ([], []))


def test_a_class_deployed_before_there_were_plans_is_left_alone() -> None:
    condor = pool("a", job_ad(7))
    del condor.swarm.of().labels[state.LABEL_PLAN]
    assert rounds(condor) == {}
    assert condor.swarm.calls == []


# -- only idle ones leave ------------------------------------------------------------------------------------------


def test_executors_without_a_job_for_long_enough_leave_and_no_others() -> None:
    condor = pool("ab")
    swarm = condor.swarm
    tasks = swarm.fill("abab", busy=[3, 4])
    swarm.clock.now += 50
    rounds(condor)
    assert swarm.calls == [], "not long enough"
    swarm.clock.now += 20
    rounds(condor)
    assert {t.id for t in swarm.task_list if t.state == "running"} == {tasks[2].id, tasks[3].id}
    assert swarm.of().replicas == 2
    assert swarm.of().placement == {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]}
    assert swarm.config_list == [], "the lock has been given back"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=1, max_size=18),
    st.integers(0, 3),
    st.integers(0, 99),
)
def test_whoever_has_a_job_stays_whatever_the_table_looks_like(
    executors: list[tuple[str, bool]], minimum: int, seed: int
) -> None:
    swarm = FakeSwarm("abcd", plans=[replace(AUTO, minimum=minimum, maximum=20)], random=Random(seed))
    busy = [i for i, (_, is_busy) in enumerate(executors, 1) if is_busy]
    tasks = swarm.fill("".join(node for node, _ in executors), busy=busy)
    swarm.clock.now += 100
    condor = FakeCondor(swarm)
    rounds(condor, count=3)
    assert {t.slot for t in tasks if t.id in {u.id for u in swarm.updatable()}} >= set(busy)
    assert swarm.of().replicas == len(swarm.updatable()) == max(minimum, len(busy))
    assert "MaxReplicas" not in swarm.of().placement


def test_a_job_that_begins_between_look_and_act_keeps_its_executor() -> None:
    condor = pool("a")
    swarm = condor.swarm
    tasks = swarm.fill("aa")
    swarm.clock.now += 100
    view = swarm.view()
    swarm.jobs = {t.id: ["9.0"] for t in tasks}
    with swarm.clock.of(scale):
        change(condor.hands, view, 0)
    assert swarm.of().replicas == 2


def test_a_size_that_somebody_else_changed_between_look_and_act_is_not_lowered() -> None:
    condor = pool("a")
    swarm = condor.swarm
    swarm.fill("aaa")
    view = swarm.view()
    swarm.scale("s-executors", 5)
    with swarm.clock.of(scale):
        change(condor.hands, view, 1)
    assert swarm.of().replicas == 5


def test_a_size_that_somebody_else_raised_between_look_and_act_is_not_lowered_by_growing() -> None:
    condor = pool("a")
    swarm = condor.swarm
    swarm.fill("aaa")
    view = swarm.view()
    swarm.scale("s-executors", 10)
    with swarm.clock.of(scale):
        change(condor.hands, view, 4)
    assert swarm.of().replicas == 10


def test_a_class_above_its_maximum_loses_only_executors_without_jobs() -> None:
    condor = pool("a", plan=replace(AUTO, maximum=1))
    swarm = condor.swarm
    tasks = swarm.fill("aaaa", busy=[2, 3])
    rounds(condor)
    assert {t.id for t in swarm.updatable()} == {tasks[1].id, tasks[2].id}
    assert swarm.of().replicas == 2


# -- what changes nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", ["slots", "job_ads", "slot_ad", "advertise"])
def test_a_part_of_the_pool_that_is_silent_changes_nothing(silent: str) -> None:
    condor = pool("ab", job_ad(7, memory="1024", cpus=2), more=[replace(AUTO, name="idle")])
    condor.swarm.fill("a", busy=[1])
    condor.swarm.fill("abab", name="idle")
    condor.swarm.clock.now += 1000
    condor.troubles[silent] = PoolUnreachableError(f"{silent}: no answer")
    with pytest.raises(PoolUnreachableError, match=silent):
        rounds(condor)
    assert condor.swarm.calls == []
    del condor.troubles[silent]
    rounds(condor)
    assert [s.replicas for s in condor.swarm.service_list] == [1, 1], "else it would have: one stays for 7.0"


def test_an_empty_collector_makes_nobody_leave() -> None:
    condor = pool("ab")
    condor.swarm.fill("abab", busy=[1])
    condor.swarm.clock.now += 1000
    for t in condor.swarm.task_list:
        t.registered = False  # the central manager has just come back
    rounds(condor)
    assert condor.swarm.calls == []


def test_while_somebody_else_scales_the_autoscaler_only_says_what_it_would_do(caplog: pytest.LogCaptureFixture) -> None:
    condor = pool("a", job_ad(7))
    data = {"who": "bob on bench", "what": "executors=9", "for_s": 60, "host": "bench", "pid": 9}
    labels = {state.LABEL_CLUSTER: POOL, state.LABEL_KIND: "scale-lock"}
    condor.swarm.config_list = [Stored("theirs", "lab_scale-lock", labels, json.dumps(data).encode())]
    with caplog.at_level(logging.INFO, logger="swarmhpc.autoscaler"):
        rounds(condor)
    assert condor.swarm.calls == []
    assert decisions(condor) == {"executors": 1}
    assert "bob on bench" in caplog.text
    condor.swarm.config_list = []
    rounds(condor)
    assert condor.swarm.of().replicas == 1


def test_the_lock_is_taken_only_where_something_changes() -> None:
    condor = pool("a")
    condor.swarm.fill("a", busy=[1])
    rounds(condor)
    assert condor.swarm.calls_of("config_create") == 0


def test_the_lock_is_given_back_where_the_engine_refuses() -> None:
    condor = pool("a", job_ad(7))
    condor.swarm.troubles["scale", 1] = EngineError("update out of sequence")
    with pytest.raises(EngineError):
        rounds(condor)
    assert condor.swarm.config_list == []


# -- no room -------------------------------------------------------------------------------------------------------


def test_where_no_node_has_room_one_question_stays_open_and_swarms_words_are_shown() -> None:
    condor = pool("a", *(job_ad(7, p, cpus=2, memory="1024") for p in range(5)))
    condor.swarm.room = {"node-a": 2}
    rounds(condor, count=8)
    assert condor.swarm.of().replicas == 3
    ((unserved),) = shown(condor.pool)[1][-1:]
    assert (unserved["Kind"], unserved["Reason"]) == ("no node has room", f"executors: {NO_ROOM}")
    condor.swarm.room.clear()
    rounds(condor, count=4)
    assert condor.swarm.of().replicas == 5


@pytest.mark.parametrize(
    "jobs",
    [
        pytest.param(0, id="nobody waits"),
        pytest.param(3, id="jobs wait"),
    ],
)
def test_a_placement_that_a_killed_command_left_closed_is_opened(jobs: int) -> None:
    condor = pool("ab", *(job_ad(7, p, cpus=2, memory="1024") for p in range(jobs)))
    swarm = condor.swarm
    swarm.fill("a", busy=[1])
    usual = swarm.of().placement
    swarm.service_change(
        "s-executors", replicas=2, placement={**usual, "MaxReplicas": 1, "Constraints": ["node.id != node-b"]}
    )
    swarm.settle(1)
    assert swarm.view().unplaceable
    rounds(condor, count=5)
    assert swarm.of().placement == usual


def test_a_class_that_grows_first_gets_its_placement_back() -> None:
    condor = pool("a", job_ad(7, cpus=2))
    condor.swarm.fill("a", busy=[1])
    usual = condor.swarm.of().placement
    condor.swarm.of().placement = {**usual, "MaxReplicas": 1}  # of one node that keeps an executor nothing is closed
    rounds(condor)
    assert condor.swarm.of().placement == usual
    assert [t.node_id for t in condor.swarm.updatable()] == ["node-a", "node-a"]


# -- a while of it -------------------------------------------------------------------------------------------------


def test_a_burst_is_served_and_the_pool_is_empty_again_afterwards() -> None:
    condor = pool("abc", *(job_ad(7, p) for p in range(11)))
    swarm, matcher = condor.swarm, Matcher()
    sizes = []
    for turn in range(80):
        rounds(condor, matcher)
        condor.negotiate()
        sizes.append(swarm.of().replicas)
        assert all(t.told_at is None for t in swarm.task_list if t.id in swarm.jobs), f"turn {turn}: told with a job"
        if turn == 25:
            assert sum(map(len, swarm.jobs.values())) == 11, "all run at once"
            condor.finish()
    assert max(sizes) == 6
    assert (sizes[-1], swarm.task_list, condor.queue) == (0, [], [])
    peak = sizes.index(6)
    assert sizes[:peak] == sorted(sizes[:peak])
    assert sizes[peak:] == sorted(sizes[peak:], reverse=True), "it does not swing"


# -- on and off ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runs", "on", "changed"), [(0, True, True), (1, True, False), (1, False, True), (0, False, False)]
)
def test_it_is_switched_on_and_off_by_its_service(runs: int, on: bool, changed: bool) -> None:
    swarm = FakeSwarm()
    service = swarm.add_autoscaler(runs)
    assert set_on(swarm.engine, POOL, on=on) is changed
    assert service.replicas == int(on)
    assert len(swarm.calls) == int(changed)


def test_a_pool_without_an_autoscaler_says_what_brings_one() -> None:
    with pytest.raises(EngineError, match="pool lab has no autoscaler service") as e:
        set_on(FakeSwarm().engine, POOL, on=True)
    assert e.value.hint == "swarmhpc up"


def test_where_none_is_at_work_nothing_is_shown() -> None:
    assert shown(pool().pool) == ([], [])


# -- its process ---------------------------------------------------------------------------------------------------


class EnoughError(Exception):
    """Ends the endless."""


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[Any]], list[float]]]:
    """Runs the process through these rounds; how long it slept after each."""
    monkeypatch.setenv("SWARMHPC_CLUSTER", POOL)

    def through(answers: list[Any]) -> list[float]:
        left, slept, clock = list(answers), [], Clock()

        def one(hands: object, condor: object, matcher: object) -> dict[str, str]:
            answer = left.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            clock.now += 0.5
            assert isinstance(answer, dict)
            return answer

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if not left:
                raise EnoughError

        monkeypatch.setattr(clock, "sleep", sleep)
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(module, "_hands", lambda name: (name, name))
        monkeypatch.setattr(module, "one_round", one)
        with pytest.raises(EnoughError):
            run()
        return slept

    yield through


def test_only_changes_are_logged_and_rounds_keep_their_pace(
    turns: Callable[[list[Any]], list[float]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="swarmhpc.autoscaler"):
        slept = turns([{"a": "1 wanted"}, {"a": "1 wanted"}, {"a": "2 wanted"}])
    assert [r.message for r in caplog.records] == ["a: 1 wanted", "a: 2 wanted"]
    assert slept == [module.ROUND_S - 0.5] * 3


def test_a_round_that_fails_is_logged_and_tried_again(
    turns: Callable[[list[Any]], list[float]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="swarmhpc.autoscaler"):
        turns([PoolError("no answer"), EngineError("no leader"), {"a": "1 wanted"}])
    assert [r.message for r in caplog.records] == ["no answer", "no leader", "a: 1 wanted"]


@pytest.mark.parametrize("fails", [False, True])
def test_executors_are_told_by_the_images_own_tool_and_a_failure_is_no_end(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    ran: list[tuple[list[str], Any]] = []

    def fake(argv: list[str], *, timeout_s: float, env: dict[str, str]) -> None:
        ran.append((argv, env))
        if fails:
            raise CommandError("condor_off failed")

    monkeypatch.setattr(command, "run", fake)
    assert module._retire(["executors-1-abcdef", "executors-2-abcdef"]) is not fails
    (((program, *hosts), env),) = ran
    assert program == "/usr/local/lib/swarmhpc/retire"
    assert (state.assets("images") / "pool" / "retire").is_file(), "the image has no such program"
    assert hosts == ["executors-1-abcdef", "executors-2-abcdef"]
    assert env == {"CONDOR_CONFIG": "/etc/condor/condor_config"}


def test_inside_its_container_it_mints_itself_a_narrow_token_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "POOL"
    key.write_bytes(b"secret key")
    addresses = {"central-manager": "10.9.0.2", "access-point": "10.9.0.3"}
    made: list[tuple[Any, str]] = []

    def condor(ctx: Any, *, access_point: str) -> FakeCondor:
        made.append((ctx, access_point))
        return FakeCondor(FakeSwarm())

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SWARMHPC_CENTRAL_MANAGER_PORT", "9618")
    monkeypatch.setenv("SWARMHPC_ACCESS_POINT_PORT", "9619")
    monkeypatch.setattr(module, "SIGNING_KEY", key)
    monkeypatch.setattr("socket.gethostbyname", addresses.__getitem__)
    monkeypatch.setattr(module, "Pool", condor)
    monkeypatch.setattr(module, "Engine", lambda: FakeSwarm().engine)
    hands, _ = module._hands(POOL)
    ((ctx, access_point),) = made
    assert (ctx.address, ctx.central_manager_port, ctx.access_point_port, access_point) == (
        *("10.9.0.2", 9618, 9619),
        "10.9.0.3",
    )
    assert hands.pool == POOL
    payload = ctx.token_file.read_text().split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (claims["sub"], claims["iss"], claims["scope"]) == ("condor@lab", "lab", "condor:/READ condor:/DAEMON")
    assert ctx.token_file.stat().st_mode & 0o777 == 0o600
    first = ctx.token_file.read_text()
    os.utime(ctx.token_file, (1, 1))
    module._hands(POOL)
    assert ctx.token_file.read_text() == first
    assert ctx.token_file.stat().st_mtime == 1, "not made again each round"


def test_before_the_central_manager_runs_it_has_no_hands_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setenv("SWARMHPC_CENTRAL_MANAGER_PORT", "9618")
    monkeypatch.setenv("SWARMHPC_ACCESS_POINT_PORT", "9619")
    monkeypatch.setattr("socket.gethostbyname", unknown)
    with pytest.raises(EngineError, match="does not run"):
        module._hands(POOL)
