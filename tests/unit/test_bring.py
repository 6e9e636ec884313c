"""Joining and labelling, against engines that remember what they were told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from swarmhpc import state
from swarmhpc.adapters.docker import Engine, EngineFacts, Node
from swarmhpc.cluster import bring, images, members, plan
from swarmhpc.cluster.bring import View
from swarmhpc.cluster.fleet import Fleet
from swarmhpc.cluster.members import Seen
from swarmhpc.config import Cluster, Machine, Ssh
from swarmhpc.errors import EngineError, EngineUnreachableError, SwarmHpcError
from tests.unit.samples import Said

MACHINES = (
    Machine("n1", "192.0.2.1", "manager"),
    Machine("n2", "192.0.2.2", "manager"),
    Machine("n3", "192.0.2.3", "manager"),
    Machine("n4", "192.0.2.4"),
    Machine("n5", "192.0.2.5", labels=(("disk", "ssd"),)),
)
LAB = Cluster(name="lab", machines=MACHINES)
IDLE = EngineFacts("h", "26", "2", "systemd", "6", 4, 8192, "/", "inactive", "", "", False, ())


class World:
    """The Swarm as all engines see it."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.log: list[str] = []
        self.token = 0


class FakeEngine(Engine):
    def __init__(self, world: World, machine: Machine) -> None:
        self.world, self.machine, self.at, self.docker_host = world, machine.name, machine.address, None
        self.own = IDLE
        self.refuses: SwarmHpcError | None = None

    def facts(self) -> EngineFacts:
        return self.own

    def managed_cluster(self) -> str | None:
        return "lab" if self.own.is_manager else None

    def nodes(self) -> list[Node]:
        return list(self.world.nodes)

    def _enter(self, role: str) -> None:
        manages = role == "manager"
        self.own = replace(IDLE, swarm_state="active", node_id=f"id-{self.machine}", is_manager=manages)
        self.own = replace(self.own, node_address=self.at)
        self.world.nodes.append(Node(f"id-{self.machine}", "host", role, "ready", "active", self.at, 4, 8192, {}))

    def swarm_init(self, *, address: str, cluster: str, address_pool: str) -> None:
        self.world.log.append(f"init {self.machine} {address} {cluster} {address_pool}")
        self._enter("manager")

    def join_token(self, role: str) -> str:
        return f"{role}-{self.world.token}"

    def rotate_join_tokens(self) -> None:
        self.world.token += 1
        self.world.log.append("rotate")

    def swarm_join(self, *, manager: str, token: str, address: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        role, _, number = token.partition("-")
        assert int(number) == self.world.token
        self.world.log.append(f"join {self.machine} {manager} {role} {address}")
        self._enter(role)

    def node_update(
        self,
        node_id: str,
        *,
        labels: Any = None,
        role: str | None = None,
        availability: str | None = None,  # noqa: ARG002
    ) -> None:
        i, node = next((i, n) for i, n in enumerate(self.world.nodes) if n.id == node_id)
        self.world.log.append(f"update {node_id} {role or ''}".strip())
        changed = replace(node, labels=labels) if labels is not None else node
        status = "reachable" if role == "manager" else ""
        self.world.nodes[i] = replace(changed, role=role, manager_status=status) if role is not None else changed

    def image(self, reference: str) -> Any:  # noqa: ARG002
        return None

    def run_once(self, *_: Any, binds: Any, **__: Any) -> str:
        self.world.log.append(f"bind {self.machine} {next(iter(binds))}")
        return ""


class Lab:
    def __init__(self, cluster: Cluster = LAB) -> None:
        self.cluster, self.world = cluster, World()
        self.fleet = Fleet(cluster.machines)
        self.engines = {m.name: FakeEngine(self.world, m) for m in cluster.machines}
        self.silent: set[str] = set()
        self.queue_left_on = ""
        self.progress = Said()

        def engine(name: str) -> Engine:
            if name in self.silent:
                raise EngineUnreachableError(f"the Docker engine of machine {name} gives no answer")
            return self.engines[name]

        self.fleet.engine = engine  # type: ignore[method-assign]

    def view(self, old: Cluster | None = None) -> View:
        seen = {}
        for m in self.cluster.machines:
            engine = self.engines[m.name].own
            error = EngineUnreachableError(f"{m.name} is silent") if m.name in self.silent else None
            pool = "lab" if engine.is_manager else None
            left = m.name == self.queue_left_on
            seen[m.name] = Seen(m, m.address, None, engine, pool, has_image=True, has_queue=left, error=error)
        manager = self.fleet.manager("lab")
        nodes = tuple(self.world.nodes)
        return View(seen, members.judge(self.cluster, seen, nodes, image="i", old=old), manager, nodes, old)

    def bring(self, old: Cluster | None = None) -> bring.Brought:
        return bring.bring(self.fleet, self.cluster, self.view(old), self.progress)

    def labels(self) -> dict[str, dict[str, str]]:
        return {n.id.removeprefix("id-"): dict(n.labels) for n in self.world.nodes}


@pytest.fixture(autouse=True)
def _image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "reference", lambda _: "swarmhpc/pool:abc")


def test_machines_become_a_swarm_managers_one_after_another_and_tokens_are_rotated_afterwards() -> None:
    lab = Lab()
    brought = lab.bring()
    joined = [line for line in lab.world.log if not line.startswith(("bind", "update"))]
    assert joined[:3] == [
        "init n1 192.0.2.1 lab 10.0.0.0/16",
        "join n2 192.0.2.1 manager 192.0.2.2",
        "join n3 192.0.2.1 manager 192.0.2.3",
    ]
    assert sorted(joined[3:5]) == ["join n4 192.0.2.1 worker 192.0.2.4", "join n5 192.0.2.1 worker 192.0.2.5"]
    assert joined[5:] == ["rotate"]
    assert (brought.troubled, brought.manager) == ({}, lab.engines["n1"])
    own = {n: {state.LABEL_MACHINE: n} for n in ("n1", "n2", "n3", "n4", "n5")}
    assert lab.labels() == {
        **own,
        "n1": {**own["n1"], state.LABEL_QUEUE_NODE: "lab"},
        "n5": {**own["n5"], "disk": "ssd"},
    }


def test_the_queue_that_down_left_on_another_machine_is_found_there() -> None:
    lab = Lab()
    lab.queue_left_on = "n4"
    lab.bring()
    assert [n for n, labels in lab.labels().items() if state.LABEL_QUEUE_NODE in labels] == ["n4"]


def test_the_second_time_changes_nothing() -> None:
    lab = Lab()
    lab.bring()
    lab.world.log.clear()
    lab.bring(old=LAB)
    assert [line for line in lab.world.log if not line.startswith("bind")] == []


def test_one_that_can_not_join_is_left_out_the_others_join_and_the_tokens_are_rotated() -> None:
    lab = Lab()
    lab.engines["n2"].refuses = lab.engines["n4"].refuses = EngineError("timeout was reached before node joined")
    brought = lab.bring()
    assert list(brought.troubled) == ["n2", "n4"]
    assert brought.troubled["n4"].message.startswith("machine n4 could not join the Swarm at 192.0.2.1:2377: timeout")
    assert "n4" in brought.troubled["n4"].hint
    assert set(lab.labels()) == {"n1", "n3", "n5"}
    assert "rotate" in lab.world.log
    lab.engines["n2"].refuses = lab.engines["n4"].refuses = None
    assert lab.bring().troubled == {}, "the next up goes on"
    assert set(lab.labels()) == {"n1", "n2", "n3", "n4", "n5"}


def test_a_silent_machine_is_told_of_and_the_rest_becomes_the_pool() -> None:
    lab = Lab()
    lab.silent = {"n3"}
    brought = lab.bring()
    assert list(brought.troubled) == ["n3"]
    assert set(lab.labels()) == {"n1", "n2", "n4", "n5"}


def test_promotion_comes_before_demotion_and_another_manager_speaks_from_then_on() -> None:
    Lab().bring()
    before = Lab()
    before.bring()
    roles = {"n1": "worker", "n4": "manager"}
    after = replace(LAB, machines=tuple(replace(m, role=roles.get(m.name, m.role)) for m in MACHINES))  # type: ignore[arg-type]
    lab = Lab(after)
    lab.world, lab.engines = before.world, before.engines
    lab.world.log.clear()
    brought = lab.bring(old=LAB)
    assert [line for line in lab.world.log if line.startswith("update")] == [
        "update id-n4 manager",
        "update id-n1 worker",
    ]
    assert brought.manager is lab.engines["n2"]


def test_a_failed_first_manager_ends_it_all() -> None:
    view = Lab().view()
    with pytest.raises(EngineError, match="no"):
        bring._stop_without_first(view.decision, {"n1": EngineError("no")})
    bring._stop_without_first(view.decision, {"n2": EngineError("no")})


def test_ansible_gets_each_machine_as_the_file_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    own = Machine("n1", "192.0.2.1", "manager", Ssh("admin", 2222, "~/.ssh/k", "~/hosts"))
    fleet = Fleet((own, MACHINES[3]))
    one, two = bring.target(fleet, "n1"), bring.target(fleet, "n4")
    assert (one.name, one.address, one.user, one.port, one.key) == ("n1", "192.0.2.1", "admin", 2222, "/home/me/.ssh/k")
    assert (one.local, one.manager, two.manager, two.key) == (False, True, False, None)
    assert bring.known_hosts(Cluster(machines=(own,))) == "/home/me/hosts"
    assert bring.known_hosts(LAB) is None


def test_the_swarms_networks_avoid_those_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    view = lab.view()
    from tests.unit.test_members import FACTS

    seen = {n: replace(s, facts=replace(FACTS, routes={"eth0": "10.0.0.0/8"})) for n, s in view.seen.items()}
    bring.bring(lab.fleet, lab.cluster, replace(view, seen=seen), lab.progress)
    assert lab.world.log[0] == f"init n1 192.0.2.1 lab {plan.ADDRESS_POOLS[2]}"


# -- bugs reported to the lead; each mark goes with its mend -----------------------------------------------------------


def test_a_machine_in_another_swarm_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 10**6, 10))
    monkeypatch.setattr("time.monotonic", lambda: float(next(times)))
    monkeypatch.setattr("time.sleep", lambda _: None)
    lab = Lab()
    lab.engines["n4"].own = replace(IDLE, swarm_state="active", node_id="foreign")
    view = lab.view()
    trouble = {"n4": EngineError("machine n4 is in another Swarm")}
    decision = replace(view.decision, troubled=trouble, join=("n2", "n3", "n5"))
    brought = bring.bring(lab.fleet, LAB, replace(view, decision=decision), lab.progress)
    assert list(brought.troubled) == ["n4"]


def test_a_label_that_the_file_drops_goes_also_while_its_machine_is_silent() -> None:
    before = Lab()
    before.bring()
    lab = Lab(replace(LAB, machines=(*MACHINES[:4], replace(MACHINES[4], labels=()))))
    lab.world, lab.engines = before.world, before.engines
    lab.silent = {"n5"}
    lab.bring(old=LAB)
    assert "disk" not in lab.labels()["n5"]


def test_a_prepared_machine_that_joins_again_gets_its_execute_directory() -> None:
    """Or every task that binds it is rejected for ever."""
    lab = Lab()
    lab.bring()
    assert {f"bind {m.name} {LAB.execute_dir}" for m in MACHINES} <= set(lab.world.log)


def test_up_waits_for_the_leader_that_managers_are_about_to_elect(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("time.sleep", lambda _: None)
    found = object()

    class Silent:
        def __init__(self, answers: list[object]) -> None:
            self.answers = answers

        def manager(self, pool: str) -> object:
            assert pool == "lab"
            return self.answers.pop(0) if self.answers else None

    cluster = Cluster(name="lab")
    assert bring._elected(cast(Any, Silent([None, None, found])), cluster) is found
    assert bring._elected(cast(Any, Silent([])), cluster) is None
