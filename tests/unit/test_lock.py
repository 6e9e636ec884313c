"""The pool's lock on the number of executors: one holder, a dead one's is taken over, nobody gives another's back."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

import pytest

from swarmhpc import state
from swarmhpc.adapters import machine
from swarmhpc.adapters.docker import Stored
from swarmhpc.errors import EngineError, WaitTimeoutError
from swarmhpc.scaling import lock as module
from swarmhpc.scaling.lock import held
from tests.unit.fake_swarm import POOL, FakeSwarm

NAME = f"{POOL}_scale-lock"


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSwarm]:
    made = FakeSwarm()
    monkeypatch.setenv("USER", "alice")
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr("socket.gethostname", lambda: "desk")
    monkeypatch.setattr(os, "getpid", lambda: 7)
    monkeypatch.setattr(machine, "process_lives", lambda pid: pid == 7)
    monkeypatch.setattr(module, "_watched", {})
    with made.clock.of(module):
        yield made


def hold(
    swarm: FakeSwarm, what: str = "executors=5", *, for_s: float = 60, wait_s: float = 0, said: list[str] | None = None
) -> contextlib.AbstractContextManager[None]:
    say = said.append if said is not None else lambda _: None
    return held(swarm.engine, POOL, what, for_s=for_s, wait_s=wait_s, say=say)


def holders(swarm: FakeSwarm) -> list[str]:
    return [json.loads(c.data)["what"] for c in swarm.config_list]


def theirs(host: str = "bench", pid: int = 99, for_s: float = 60) -> Stored:
    """Somebody else's lock, who may be alive or not."""
    labels = {state.LABEL_CLUSTER: POOL, state.LABEL_KIND: "scale-lock"}
    data = {"who": f"bob on {host}", "what": "executors=9", "for_s": for_s, "host": host, "pid": pid}
    return Stored("theirs", NAME, labels, json.dumps(data).encode())


def test_it_is_a_config_of_the_pool_that_says_who_holds_it_for_what(swarm: FakeSwarm) -> None:
    with hold(swarm):
        ((config),) = swarm.config_list
        assert config.name == NAME
        assert config.labels == {state.LABEL_CLUSTER: POOL, state.LABEL_KIND: "scale-lock"}
        told = json.loads(config.data)
        assert told == {"who": "alice on desk", "what": "executors=5", "for_s": 60, "host": "desk", "pid": 7}
    assert swarm.config_list == []


def test_who_works_through_sudo_goes_by_their_own_name(swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "root")
    monkeypatch.setenv("SUDO_USER", "carol")
    with hold(swarm):
        assert json.loads(swarm.config_list[0].data)["who"] == "carol on desk"


def test_it_is_given_back_also_where_the_work_fails(swarm: FakeSwarm) -> None:
    with pytest.raises(KeyboardInterrupt), hold(swarm):
        raise KeyboardInterrupt
    assert swarm.config_list == []


def test_a_second_hand_is_kept_out_and_told_by_whom(swarm: FakeSwarm) -> None:
    said: list[str] = []
    with hold(swarm):
        with pytest.raises(WaitTimeoutError) as e, hold(swarm, "executors=1", wait_s=5, said=said):
            pytest.fail("both hold it")
        assert holders(swarm) == ["executors=5"], "the first one's stays"
    assert e.value.message == "alice on desk changes the number of executors (executors=5), for 5 s and more now"
    assert f"docker config rm {NAME}" in e.value.hint
    assert set(said) == {"waiting: alice on desk is at it (executors=5)"}


def test_a_second_hand_goes_on_when_the_first_is_done(swarm: FakeSwarm) -> None:
    first = hold(swarm)
    first.__enter__()
    started = swarm.clock.now
    swarm.clock.after(4, lambda: first.__exit__(None, None, None))
    with hold(swarm, "executors=1", wait_s=10):
        assert holders(swarm) == ["executors=1"]
        assert 4 <= swarm.clock.now - started < 5
    assert swarm.config_list == []


def test_that_of_a_process_of_this_machine_that_has_died_is_taken_over_at_once(swarm: FakeSwarm) -> None:
    swarm.config_list = [theirs(host="desk", pid=99)]
    started = swarm.clock.now
    with hold(swarm):
        assert holders(swarm) == ["executors=5"]
        assert swarm.clock.now - started < 1


@pytest.mark.parametrize(("host", "pid"), [("desk", 7), ("bench", 99)])
def test_that_of_a_living_process_or_of_another_machine_is_not(swarm: FakeSwarm, host: str, pid: int) -> None:
    swarm.config_list = [theirs(host, pid)]
    with pytest.raises(WaitTimeoutError), hold(swarm, wait_s=10):
        pytest.fail("nobody knows that it is dead")
    assert [c.id for c in swarm.config_list] == ["theirs"]


def test_a_dead_holders_is_taken_over_also_by_one_who_asks_often_but_never_waits_long(swarm: FakeSwarm) -> None:
    swarm.config_list = [theirs(for_s=60)]  # a command on another machine was killed
    for _ in range(100):  # the autoscaler, for some minutes
        with contextlib.suppress(WaitTimeoutError), hold(swarm, "autoscaler", wait_s=1):
            break
        swarm.clock.sleep(2)
    assert swarm.config_list == []


def test_a_dead_holders_is_taken_over_after_watching_it_for_its_own_time(swarm: FakeSwarm) -> None:
    swarm.config_list = [theirs(for_s=20)]
    started = swarm.clock.now
    with hold(swarm, wait_s=60):
        assert 20 < swarm.clock.now - started < 22
        assert holders(swarm) == ["executors=5"]
    assert swarm.config_list == []


def test_holders_that_follow_each_other_are_not_taken_for_one_dead_one(swarm: FakeSwarm) -> None:
    swarm.config_list = [theirs(for_s=20)]

    def next_one() -> None:
        old = swarm.config_list[0]
        swarm.config_list = [Stored(old.id + "'", old.name, old.labels, old.data)]
        swarm.clock.after(15, next_one)

    swarm.clock.after(15, next_one)
    with pytest.raises(WaitTimeoutError), hold(swarm, wait_s=100):
        pytest.fail("none of them was dead")
    assert swarm.config_list[0].id.startswith("theirs'")


def test_who_was_taken_for_dead_does_not_give_back_the_next_ones(
    swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = hold(swarm, for_s=5)
    slow.__enter__()
    monkeypatch.setattr(os, "getpid", lambda: 8)
    with hold(swarm, for_s=5, wait_s=30):  # the very same words, from a second window
        now = swarm.config_list[0].id
        slow.__exit__(None, None, None)
        assert [c.id for c in swarm.config_list] == [now]
    assert swarm.config_list == []


def test_two_that_find_the_same_dead_holder_do_not_both_get_it(swarm: FakeSwarm) -> None:
    swarm.config_list = [theirs(for_s=5)]
    other = hold(swarm, "the other", for_s=5)
    remove = swarm.config_remove

    def quicker(config_id: str) -> None:
        """Between our look and our act the other one has removed the dead one's and made its own."""
        swarm.config_remove = remove  # type: ignore[method-assign]
        remove(config_id)
        other.__enter__()
        swarm.clock.after(3, lambda: other.__exit__(None, None, None))
        remove(config_id)

    swarm.config_remove = quicker  # type: ignore[method-assign]
    seen: list[str] = []
    with hold(swarm, wait_s=60, said=seen):
        assert holders(swarm) == ["executors=5"]
    assert "waiting: alice on desk is at it (the other)" in seen


def test_a_config_of_another_kind_is_no_lock(swarm: FakeSwarm) -> None:
    file = Stored("f", "lab_cluster-file", {state.LABEL_KIND: "cluster-file"}, b"name: lab")
    swarm.config_list = [file]
    with hold(swarm):
        assert len(swarm.config_list) == 2
    assert swarm.config_list == [file]


def test_an_engine_that_makes_no_configs_is_told_as_it_is(swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(name: str, data: bytes, labels: object) -> None:
        swarm.clock.now += 0.1  # the call takes its time
        raise EngineError("docker config create: the engine says: this node is not a Swarm manager")

    monkeypatch.setattr(swarm, "config_create", refuses)
    started = swarm.clock.now
    with pytest.raises(EngineError, match="not a Swarm manager"), hold(swarm, wait_s=300):
        pytest.fail("nothing is held")
    assert swarm.clock.now - started < 10


def test_an_engine_that_does_not_let_go_does_not_hide_what_the_work_said(swarm: FakeSwarm) -> None:
    swarm.troubles["config_remove", 1] = EngineError("no leader")
    with pytest.raises(ZeroDivisionError), hold(swarm):
        raise ZeroDivisionError
