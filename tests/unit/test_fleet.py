"""Many machines at once: every answer counts, and one that fails stops nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest

from swarmhpc import state
from swarmhpc.adapters.docker import Engine, EngineFacts, Node, Service, Task
from swarmhpc.cluster.fleet import Fleet, each, failures, opened, require_manager
from swarmhpc.config import Machine
from swarmhpc.errors import EngineError, EngineUnreachableError, MachineError, NoPoolError, PoolError

MACHINES = (
    Machine("n1", "192.0.2.1", "manager"),
    Machine("n2", "192.0.2.2", "manager"),
    Machine("n3", "192.0.2.3"),
)


class FakeEngine(Engine):
    """An engine that was told what to answer. `pool` None: it manages no Swarm of ours."""

    def __init__(self, pool: str | None = None, *, nodes: Iterable[Node] = (), task_at: str = "") -> None:
        self.docker_host = None
        self.machine = ""
        self.pool = pool
        self._nodes = list(nodes)
        self.task_at = task_at

    def facts(self) -> EngineFacts:
        role = self.pool is not None
        return EngineFacts(
            "h", "26", "2", "systemd", "6", 1, 1, "/", "active" if role else "inactive", "", "", role, ()
        )

    def managed_cluster(self) -> str | None:
        return self.pool

    def nodes(self) -> list[Node]:
        return self._nodes

    def services(self, cluster: str) -> list[Service]:
        labels = {state.LABEL_ROLE: state.ACCESS_POINT}
        return [Service("s1", f"{cluster}_access-point", labels, 1, "i", "{}")]

    def tasks(self, service_id: str | None = None) -> list[Task]:  # noqa: ARG002
        old = Task("t0", "s1", "id-n1", 1, "shutdown", "shutdown", "", "c0", "{}")
        return [old, Task("t1", "s1", self.task_at, 1, "running", "running", "", "c1", "{}"), old]


def fleet_of(monkeypatch: pytest.MonkeyPatch, machines: Iterable[Machine] = MACHINES, **engines: Any) -> Fleet:
    """A fleet whose engines are these; an exception is what asking for one raises."""
    fleet = Fleet(machines)

    def engine(name: str) -> Engine:
        found = engines.get(name) or EngineUnreachableError(f"the Docker engine of machine {name} gives no answer")
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Engine)
        return found

    monkeypatch.setattr(fleet, "engine", engine)
    return fleet


def labelled(name: str) -> Node:
    return Node(f"id-{name}", "host", "worker", "ready", "active", "", 1, 1, {state.LABEL_MACHINE: name})


# -- each --------------------------------------------------------------------------------------------------------------


def test_one_that_fails_is_an_answer_and_the_others_go_on_in_their_order() -> None:
    def work(name: str) -> int:
        if name == "b":
            raise EngineError("b is broken")
        return len(name)

    done = each(["ccc", "b", "aa"], work)
    assert list(done) == ["ccc", "b", "aa"]
    assert (done["ccc"], done["aa"]) == (3, 2)
    assert str(done["b"]) == "b is broken"
    assert failures(done) == {"b": done["b"]}


def test_they_work_at_the_same_time() -> None:
    meeting = threading.Barrier(5, timeout=10)
    assert each("abcde", lambda _: meeting.wait() >= 0) == dict.fromkeys("abcde", True)


def test_more_names_than_work_at_once_are_all_done() -> None:
    names = [f"n{i}" for i in range(100)]
    assert each(names, str.upper) == {n: n.upper() for n in names}


def test_nobody_is_fine() -> None:
    assert each([], len) == {}


def test_a_mistake_in_swarmhpc_is_not_taken_for_an_answer() -> None:
    with pytest.raises(ZeroDivisionError):
        each(["a", "b"], lambda _: 1 // 0)


# -- fleet -------------------------------------------------------------------------------------------------------------


def test_without_machines_it_is_this_machine_alone_without_ssh() -> None:
    fleet = Fleet(())
    [machine] = fleet.machines
    assert (fleet.alone, machine.role, fleet.remotes[machine.name].local) == (True, "manager", True)


def test_the_first_manager_that_answers_for_the_pool_speaks_for_the_swarm(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = FakeEngine("lab")
    assert fleet_of(monkeypatch, n1=FakeEngine(None), n2=lab).manager("lab") is lab
    assert fleet_of(monkeypatch, n2=lab).manager("lab") is lab, "n1 does not answer"
    assert fleet_of(monkeypatch, n1=FakeEngine("other"), n2=lab).manager("lab") is lab
    assert fleet_of(monkeypatch, n1=FakeEngine("other")).manager("lab") is None
    assert fleet_of(monkeypatch, n2=lab).manager() is lab


def test_alone_an_engine_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnreachableError):
        fleet_of(monkeypatch, machines=()).manager()


def test_engines_that_answer_come_with_why_the_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    one = FakeEngine()
    good, bad = fleet_of(monkeypatch, n1=one, n3=MachineError("no")).engines(["n1", "n2", "n3"])
    assert good == {"n1": one}
    assert {n: str(e) for n, e in bad.items()} == {
        "n2": "the Docker engine of machine n2 gives no answer",
        "n3": "no",
    }


def test_without_a_manager_it_is_said_who_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnreachableError, match=r"no manager of pool lab answers; asked: n1, n2$"):
        require_manager(fleet_of(monkeypatch), "lab")


def test_alone_without_a_pool_the_next_command_is_up() -> None:
    fleet = Fleet(())
    fleet._engines[fleet.machines[0].name] = FakeEngine(None)
    with pytest.raises(NoPoolError) as caught:
        require_manager(fleet)
    assert "swarmhpc up" in caught.value.hint


def test_a_daemon_is_asked_on_the_machine_that_runs_it_now(monkeypatch: pytest.MonkeyPatch) -> None:
    there = FakeEngine()
    manager = FakeEngine("lab", nodes=[labelled("n1"), labelled("n3")], task_at="id-n3")
    fleet = fleet_of(monkeypatch, n1=manager, n3=there)
    assert fleet.daemon(manager, "lab", state.ACCESS_POINT) == (there, "c1")
    with pytest.raises(PoolError, match="central-manager of pool lab has no running container"):
        fleet.daemon(manager, "lab", state.CENTRAL_MANAGER)


def test_a_daemon_on_a_node_that_the_file_does_not_name_can_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = FakeEngine("lab", nodes=[labelled("n9")], task_at="id-n9")
    with pytest.raises(MachineError, match="not a machine of the cluster file"):
        fleet_of(monkeypatch, n1=manager).daemon(manager, "lab", state.ACCESS_POINT)


def test_connections_end_with_the_block_also_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    with pytest.raises(EngineError), opened(MACHINES) as fleet:
        for name, remote in fleet.remotes.items():
            monkeypatch.setattr(remote, "close", lambda name=name: closed.append(name))
        raise EngineError("no")
    assert closed == ["n1", "n2", "n3"]


# -- bugs reported to the lead; each mark goes with its mend -----------------------------------------------------------


def test_a_manager_that_the_file_makes_a_worker_still_speaks_for_the_swarm(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = FakeEngine("lab")
    assert fleet_of(monkeypatch, n1=FakeEngine(None), n2=FakeEngine(None), n3=lab).manager("lab") is lab
