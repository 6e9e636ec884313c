"""What `up` does with the Swarm beyond its plan: folders, the numbers of the moment, the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import yaml

from swarmhpc import config, state
from swarmhpc.adapters import stack
from swarmhpc.adapters.docker import Engine, Service, Stored
from swarmhpc.cluster import bring, plan, up
from swarmhpc.cluster.bring import Brought, View
from swarmhpc.cluster.fleet import Fleet
from swarmhpc.cluster.members import Decision, Seen
from swarmhpc.cluster.render import ClassPlan, RenderFacts, read_plan, render
from swarmhpc.cluster.up import Prepared
from swarmhpc.cluster.usable import NoRoomError, Shortage
from swarmhpc.config import Cluster, ExecutorClass, Machine
from swarmhpc.context import Context
from swarmhpc.errors import EngineError, MachineError
from tests.unit.samples import Said

CLUSTER = Cluster(executors=(ExecutorClass("a", 2, 1, 512),))
FACTS = RenderFacts("vip", "192.0.2.1", "swarmhpc/pool:1", (ClassPlan("a", 2, 1, 512),), "key", "token")
TWO = (Machine("n1", "192.0.2.1", "manager"), Machine("n2", "192.0.2.2"))


def prepared(
    cluster: Cluster = CLUSTER, *, stored: Cluster | None = CLUSTER, troubled: tuple[str, ...] = ()
) -> Prepared:
    seen = {m.name: Seen(m) for m in cluster.machines or (Machine("here", "127.0.0.1", "manager"),)}
    decision = Decision((), troubled={n: MachineError(f"{n} is off") for n in troubled})
    return Prepared(
        cluster=cluster,
        view=View(seen, decision, None, (), stored),
        seen=plan.Observed(stored, True, True, {}, True),
        facts=FACTS,
        rendered=render(cluster, FACTS),
        context=Context(cluster.name, "192.0.2.1", 9618, 9619, "alice", (), ()),
        steps=(),
    )


@dataclass
class FakeEngine:
    """Answers what deploying asks; keeps what it was told."""

    replicas: dict[str, int | None] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    broken: bool = False
    docker_host: str | None = None

    def services(self, cluster: str) -> list[Service]:
        return [Service(n, f"{cluster}_{n}", {state.LABEL_SPEC: "x"}, r, "i", "{}") for n, r in self.replicas.items()]

    def configs(self, _: str) -> list[Stored]:
        return []

    def config_create(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        assert labels[state.LABEL_KIND] == "cluster-file", name
        self.kept.append(data.decode())

    def run_once(self, image: str, argv: list[str], *, cluster: str, binds: Mapping[str, str]) -> str:
        assert (image, argv, cluster) == (FACTS.image, ["true"], CLUSTER.name)
        if self.broken:
            raise EngineError("read-only file system")
        self.made += binds
        return ""


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The services of every stack that was deployed."""
    found: list[dict[str, Any]] = []

    def deploy(pool: str, text: str, configs: Mapping[str, str], *, docker_host: str | None) -> None:
        assert (pool, docker_host) == (CLUSTER.name, None)
        assert {c["file"].removeprefix("./") for c in yaml.safe_load(text)["configs"].values()} == set(configs)
        found.append(yaml.safe_load(text)["services"])

    monkeypatch.setattr(stack, "deploy", deploy)
    return found


def test_the_numbers_of_the_moment_are_deployed_and_not_those_from_when_the_plan_was_made(
    deployed: list[dict[str, Any]],
) -> None:
    engine = FakeEngine({"a": 7, "autoscaler": 1, "janitor": None})
    done, _ = up._stack(cast(Engine, engine), prepared(), Said())
    (services,) = deployed
    assert (services["a"]["deploy"]["replicas"], services["autoscaler"]["deploy"]["replicas"]) == (7, 1)
    assert [c.replicas for c in done.classes] == [7]
    assert read_plan(services["a"]["deploy"]["labels"][state.LABEL_PLAN]).replicas == 7
    assert [config.parse(text, file="stored") for text in engine.kept] == [CLUSTER], "the file stays as it is written"


@pytest.mark.parametrize(("running", "at_first", "smaller"), [(1, 2, {}), (2, 2, {}), (7, 7, {"a": 2})])
def test_a_number_that_the_file_changes_counts_and_a_smaller_one_comes_after_the_stack(
    deployed: list[dict[str, Any]], running: int, at_first: int, smaller: dict[str, int]
) -> None:
    stored = replace(CLUSTER, executors=(ExecutorClass("a", 5, 1, 512),))
    done, later = up._stack(cast(Engine, FakeEngine({"a": running})), prepared(stored=stored), Said())
    assert deployed[0]["a"]["deploy"]["replicas"] == at_first
    assert later == smaller and [c.replicas for c in done.classes] == [2]


def fleet_of(engines: dict[str, FakeEngine]) -> Fleet:
    class Fake:
        def engine(self, name: str) -> FakeEngine:
            return engines[name]

    return cast(Fleet, Fake())


def test_scratch_directories_are_made_on_every_machine_before_a_class_needs_them() -> None:
    """Swarm rejects a task whose bind has no source, again and again."""
    cluster = replace(CLUSTER, machines=TWO, executors=(ExecutorClass("a", 2, 1, 512, scratch="/fast"),))
    engines = {"n1": FakeEngine(), "n2": FakeEngine()}
    up._folders(fleet_of(engines), prepared(cluster), Said())
    assert [e.made for e in engines.values()] == [["/fast"], ["/fast"]]
    again = FakeEngine()
    up._folders(fleet_of({"n1": again, "n2": again}), prepared(cluster, stored=cluster), Said())
    assert again.made == [], "they are there"


def test_a_machine_that_can_not_make_one_is_told_of_and_one_that_is_left_out_is_not_asked() -> None:
    cluster = replace(CLUSTER, machines=TWO, executors=(ExecutorClass("a", 2, 1, 512, scratch="/fast"),))
    said = Said()
    up._folders(fleet_of({"n2": FakeEngine(broken=True)}), prepared(cluster, stored=None, troubled=("n1",)), said)
    assert said.notices == ["n2: /fast could not be made there: read-only file system"]


def test_executors_without_room_end_up_with_an_error_after_everything_else_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left_out = {"n3": MachineError("n3 is off")}
    monkeypatch.setattr(bring, "bring", lambda *_: Brought(cast(Engine, FakeEngine()), left_out))
    monkeypatch.setattr(up, "wait_daemons", lambda *_, **__: None)
    monkeypatch.setattr(up, "_context_ready", lambda _: True)
    monkeypatch.setattr(up, "wait_usable", lambda *_, **__: (Shortage("a", 1, 2, "no suitable node"),))
    said = Said()
    with pytest.raises(NoRoomError) as caught:
        up.apply(Fleet(()), prepared(), said, timeout_s=1)
    assert caught.value.message == "a: 1 of 2 executors run; Swarm says: no suitable node", "not that a phase failed"
    assert said.notices == ["n3 was left out: n3 is off"]
