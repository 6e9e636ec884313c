"""`down` over many machines: who takes part, who is left alone and told of, and in what order nodes leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from swarmhpc import config, state
from swarmhpc.adapters.docker import Engine, EngineFacts, Image, Node, Service, Task
from swarmhpc.adapters.remote import MachineFacts, Remote
from swarmhpc.cluster import down, images
from swarmhpc.cluster.fleet import Fleet
from swarmhpc.cluster.progress import Progress
from swarmhpc.errors import EngineError, EngineUnreachableError, SwarmHpcError, WaitTimeoutError
from tests.unit.samples import ENGINE, Said

CLUSTER = config.parse(
    "name: lab\nmachines:\n  n1: {address: 192.0.2.1}\n  n2: {address: 192.0.2.2}\n  n3: {address: 192.0.2.3}\n",
    file="f",
)


@dataclass(eq=False)
class FakeEngine(Engine):
    """A node, or a machine without a Swarm. `log`: what all engines were told, in order."""

    name: str
    swarm: EngineFacts = ENGINE
    pool: str | None = None
    log: list[str] = field(default_factory=list)
    refuses: bool = False
    docker_host: str | None = None

    def facts(self) -> EngineFacts:
        assert not any(x.endswith(" left") for x in self.log), "a node that is asked after others left may never answer"
        return self.swarm

    def managed_cluster(self) -> str | None:
        if self.swarm.is_manager and self.pool is None:
            raise EngineError("reading the Swarm: the engine says: The swarm does not have a leader.")
        return self.pool

    def nodes(self) -> list[Node]:
        names = ("n1", "n2", "n3")
        return [Node(f"id-{n}", n, "manager", "ready", "active", "", 1, 1, {state.LABEL_MACHINE: n}) for n in names]

    def swarm_leave(self) -> None:
        if self.refuses:
            raise EngineError(f"{self.name}: docker swarm leave: the engine says: no")
        self.log.append(f"{self.name} left")

    def network_remove(self, name: str) -> bool:
        assert name == "docker_gwbridge"
        return True

    def services(self, cluster: str) -> list[object]:  # type: ignore[override]  # none of them is looked at
        assert cluster == "lab"
        return []

    def _nothing(self, *_: str) -> list[object]:
        return []

    volumes = containers = secrets = configs = images = _nothing  # type: ignore[assignment]

    def image(self, name: str) -> None:
        assert name

    def network_subnets(self) -> dict[str, str]:  # type: ignore[override]
        return {}


def node(name: str, role: str, **more: object) -> EngineFacts:
    return replace(ENGINE, swarm_state="active", node_id=f"id-{name}", is_manager=role == "manager", **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMHPC_HOME", str(tmp_path))


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fleet]:
    def made(**engines: Engine | SwarmHpcError) -> Fleet:
        found = Fleet(CLUSTER.machines)

        def engine(name: str) -> Engine:
            answer = engines[name]
            if isinstance(answer, Engine):
                return answer
            raise answer

        monkeypatch.setattr(found, "engine", engine)
        return found

    return made


def plan(fleet: Fleet, *, purge: bool = False) -> down.DownPlan:
    return down.prepare(fleet, CLUSTER, now=False, purge=purge, pool_name="lab")


def facts(*, installed: bool, prepared: str = "") -> MachineFacts:
    none: Iterable[int] = ()
    return MachineFacts(
        "h", "Debian 13", "6.12", True, installed, "", prepared, {}, {}, frozenset(none), "2", 1, 2048, 0.0
    )


def test_workers_leave_first_then_the_other_managers_and_the_one_that_was_talked_to_last(
    fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    f = fleet(
        n1=FakeEngine("n1", node("n1", "manager"), "lab", log),
        n2=FakeEngine("n2", node("n2", "worker"), None, log),
        n3=FakeEngine("n3", node("n3", "manager"), "lab", log),
    )
    monkeypatch.setattr(down, "stored_cluster", lambda _: CLUSTER)
    p = plan(f)
    assert "make n2, n1, n3 leave the Swarm" in p.steps
    said = Said()
    assert down.apply(f, p, said, now=False, purge=False, timeout_s=1) == {}
    assert said.notices == []
    assert log == ["n2 left", "n3 left", "n1 left"]


def test_a_machine_that_can_not_leave_keeps_its_preparation_and_the_others_lose_theirs(
    fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    f = fleet(
        n1=FakeEngine("n1", node("n1", "manager"), "lab"),
        n2=FakeEngine("n2", node("n2", "worker"), refuses=True),
        n3=FakeEngine("n3", node("n3", "worker")),
    )
    monkeypatch.setattr(down, "stored_cluster", lambda _: CLUSTER)
    undone: list[str] = []

    def undo(_fleet: Fleet, names: Iterable[str], _cluster: object, _progress: Progress) -> dict[str, SwarmHpcError]:
        undone.extend(names)
        return {}

    monkeypatch.setattr(down, "_undo", undo)
    said = Said()
    troubled = down.apply(f, plan(f, purge=True), said, now=False, purge=True, timeout_s=1)
    assert list(troubled) == ["n2"]
    assert undone == ["n1", "n3"]
    assert said.ends[-1] == "not n2"
    assert said.notices == []


def test_a_manager_without_a_leader_is_left_alone_and_named_with_what_to_do(fleet: Callable[..., Fleet]) -> None:
    p = plan(fleet(n1=FakeEngine("n1", node("n1", "manager")), n2=FakeEngine("n2"), n3=FakeEngine("n3")), purge=True)
    assert list(p.troubled) == ["n1"]
    assert "machine n1 (192.0.2.1) is in a Swarm" in str(p.troubled["n1"])
    assert "ssh 192.0.2.1 docker swarm leave --force; then: swarmhpc down" in p.troubled["n1"].hint
    assert p.steps == ("undo the preparation of n2", "undo the preparation of n3")
    assert p.cluster == CLUSTER  # the Swarm that remembered it has gone: the file says what to undo


def test_a_node_of_another_swarm_keeps_what_it_has(
    fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    f = fleet(
        n1=FakeEngine("n1", node("n1", "manager"), "lab"),
        n2=FakeEngine("n2", replace(node("n2", "worker"), node_id="else")),
        n3=FakeEngine("n3"),
    )
    monkeypatch.setattr(down, "stored_cluster", lambda _: CLUSTER)
    p = plan(f, purge=True)
    assert (p.managers, p.workers, p.undo, list(p.troubled)) == (("n1",), (), ("n1", "n3"), ["n2"])


def test_machines_without_an_engine_have_nothing_of_a_pool(
    fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = EngineUnreachableError("the Docker engine gives no answer")
    f = fleet(n1=silent, n2=silent, n3=silent)
    answers = {
        "192.0.2.1": facts(installed=False),
        "192.0.2.2": facts(installed=False, prepared="{}"),
        "192.0.2.3": facts(installed=True),
    }
    monkeypatch.setattr(Remote, "facts", lambda self: answers[self.machine.address])
    p = plan(f, purge=True)
    assert list(p.troubled) == ["n3"]  # its engine is down: nobody knows what it has
    assert p.steps == ("undo the preparation of n2",)


def test_leaving_asks_the_swarm_nothing() -> None:
    """docker-py's client.swarm reads the Swarm first, which the last managers can't: they have no leader."""
    asked: list[bool] = []

    class Api:
        def leave_swarm(self, *, force: bool) -> None:
            asked.append(force)

    class Client:
        api = Api()

    engine = Engine.__new__(Engine)
    engine.machine = "n1"
    engine._client = Client()
    engine.swarm_leave()
    assert asked == [True]


def test_a_purge_takes_the_pools_image_also_where_a_registry_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that people built on our base carry its label, too."""
    tags = ("swarmhpc/pool:abc", "debian:latest", "registry.lab:5000/pool:1", "mine:1")
    monkeypatch.setattr(images, "listing", lambda _: [Image("i", tags, 1, "", {})])
    cluster = replace(CLUSTER, image=config.Image(name="registry.lab:5000/pool:1"))
    assert images.own_tags(FakeEngine("n1"), cluster) == list(tags[:3])
    assert images.own_tags(FakeEngine("n1"), CLUSTER) == list(tags[:2])
    assert images.own_tags(FakeEngine("n1"), None) == list(tags[:2])


@dataclass(eq=False)
class DeafExecutor(FakeEngine):
    """A manager on which one executor stays, whatever it is told, until its container is removed."""

    removed: list[str] = field(default_factory=list)

    def services(self, cluster: str) -> list[object]:  # type: ignore[override]
        assert cluster == "lab"
        return [Service("s1", "lab_executors", {state.LABEL_ROLE: state.EXECUTOR}, 0, "", "")]

    def tasks(self, service_id: str | None = None) -> list[Task]:
        assert service_id == "s1"
        return [] if self.removed else [Task("t1", "s1", "id-n1", 1, "running", "shutdown", "", "c1", "")]

    def container_remove(self, container_id: str) -> None:
        self.removed.append(container_id)


def test_now_ends_an_executor_that_does_not_let_go_of_its_jobs(
    fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DeafExecutor("n1", node("n1", "manager"), "lab")
    evicted: list[tuple[str, ...]] = []
    monkeypatch.setattr(down, "stored_cluster", lambda _: CLUSTER)
    monkeypatch.setattr(down, "evict", lambda _fleet, _engine, _pool, *which: evicted.append(which))
    monkeypatch.setattr(down, "_EVICTED_WITHIN_S", 0)
    f = fleet(n1=engine, n2=EngineUnreachableError("n2"), n3=EngineUnreachableError("n3"))
    p = replace(plan(f), manager=engine)
    down._stop_executors(f, p, engine, Said(), now=True, timeout_s=5)
    assert engine.removed == ["c1"]
    assert evicted == [("-all",)]


def test_without_now_no_executor_is_ended(fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = DeafExecutor("n1", node("n1", "manager"), "lab")
    monkeypatch.setattr(down, "stored_cluster", lambda _: CLUSTER)
    monkeypatch.setattr(down, "_EVICTED_WITHIN_S", 0)
    f = fleet(n1=engine, n2=EngineUnreachableError("n2"), n3=EngineUnreachableError("n3"))
    with pytest.raises(WaitTimeoutError):
        down._stop_executors(f, replace(plan(f), manager=engine), engine, Said(), now=False, timeout_s=0.1)
    assert engine.removed == []
