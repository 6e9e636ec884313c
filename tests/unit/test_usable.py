"""Waiting for a pool: what is waited for, when the wait is in vain, and Swarm's own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from swarmhpc import state
from swarmhpc.adapters.docker import Engine, Node, Service, Task
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cluster import up, usable
from swarmhpc.cluster.fleet import Fleet
from swarmhpc.cluster.render import ClassPlan
from swarmhpc.cluster.usable import NoRoomError, Shortage, Standing, standing, task_errors
from swarmhpc.config import Cluster
from swarmhpc.context import Context
from swarmhpc.errors import PoolUnreachableError, WaitTimeoutError
from tests.unit.samples import Said

NO_ROOM = "no suitable node (insufficient resources on 1 node)"


def service(name: str = "a", replicas: int | None = 2) -> Service:
    return Service(f"s-{name}", f"swarmhpc_{name}", {state.LABEL_CLASS: name}, replicas, "i", "{}")


def task(id: str, slot: int, now: str = "running", desired: str = "running", error: str = "", **more: Any) -> Task:
    base = Task(id, "s-a", "" if now == "pending" else "n1", slot, now, desired, error, "c", "{}")
    return replace(base, **more)


def unplaced(id: str, slot: int, error: str = NO_ROOM, **more: Any) -> Task:
    return task(id, slot, "pending", error=error, **more)


def slot(of_task: str, *, job: bool = False, of_class: str = "a") -> Slot:
    return Slot("slot1", f"host-{of_task}", of_class, "n1", of_task, 1, 512, not job, "", "", "", 1, 512, 0)


SHORT = Shortage("a", 1, 2, NO_ROOM)


@pytest.mark.parametrize(
    ("tasks", "slots", "found"),
    [
        ([task("t1", 1), task("t2", 2)], [slot("t1"), slot("t2")], Standing((), (), False, 0)),
        # One starts: it is waited for.
        (
            [task("t1", 1), task("t2", 2, "starting")],
            [slot("t1")],
            Standing(("a: 1 of 2 executors registered",), (), False, 0),
        ),
        # One has no room, the other runs.
        (
            [task("t1", 1), unplaced("t2", 2)],
            [slot("t1")],
            Standing(("a: 1 of 2 executors registered",), (SHORT,), True, 0),
        ),
        # One has no room, the other is not registered yet.
        ([task("t1", 1), unplaced("t2", 2)], [], Standing(("a: 0 of 2 executors registered",), (), False, 0)),
        # Another reason to be pending.
        (
            [task("t1", 1), task("t2", 2, "pending")],
            [slot("t1")],
            Standing(("a: 1 of 2 executors registered",), (), False, 0),
        ),
        # Told to leave before it had a node.
        (
            [task("t1", 1), unplaced("t2", 2, desired="shutdown")],
            [slot("t1")],
            Standing(("a: 1 of 2 executors registered",), (), False, 0),
        ),
        # One without a job leaves and makes room in a moment.
        (
            [task("t1", 1), unplaced("t2", 2), task("t3", 3, desired="shutdown")],
            [slot("t1"), slot("t3")],
            Standing(("a: 1 of 2 executors registered",), (SHORT,), False, 0),
        ),
        # It leaves a machine that is gone: nobody will see it end.
        (
            [task("t1", 1), unplaced("t2", 2), task("t3", 3, desired="shutdown", node_id="dead")],
            [slot("t1")],
            Standing(("a: 1 of 2 executors registered",), (SHORT,), True, 0),
        ),
        # One of a class that is no more holds the room until its job has ended.
        (
            [task("t1", 1), unplaced("t2", 2), task("t3", 1, desired="remove", service_id="s-gone")],
            [slot("t1"), slot("t3", of_class="gone"), slot("t3", of_class="gone", job=True)],
            Standing(("a: 1 of 2 executors registered",), (SHORT,), True, 1),
        ),
        # One finishes its job before it restarts with new settings: it counts, and its successor is not missed.
        (
            [task("t1", 1), task("t2", 2, desired="shutdown"), unplaced("t3", 2)],
            [slot("t1"), slot("t2"), slot("t2", job=True)],
            Standing((), (), False, 1),
        ),
        (
            [task("t1", 1, "starting"), task("t2", 2, desired="shutdown"), unplaced("t3", 2, desired="ready")],
            [slot("t2"), slot("t2", job=True)],
            Standing(("a: 0 of 2 executors registered",), (), False, 1),
        ),
    ],
)
def test_how_the_executors_stand(tasks: list[Task], slots: list[Slot], found: Standing) -> None:
    assert standing([service()], tasks, slots, ready={"n1"}) == found


def test_as_long_as_one_class_waits_for_something_else_it_is_not_only_room_that_is_missing() -> None:
    services = [service("a", 1), service("b", 1)]
    tasks = [unplaced("t1", 1), task("t2", 1, "starting", service_id="s-b")]
    now = standing(services, tasks, [], ready={"n1"})
    assert ([s.name for s in now.shortages], now.only_room) == (["a"], False)
    both = standing(services, [tasks[0], unplaced("t2", 1, service_id="s-b")], [], ready={"n1"})
    assert ([s.name for s in both.shortages], both.only_room) == (["a", "b"], True)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (NO_ROOM, "cpus, memory, replicas, reserve"),
        ("no suitable node (max replicas per node limit exceed)", "max_per_node, replicas"),
        ("no suitable node (scheduling constraints not satisfied on 2 nodes)", "placement"),
        ("no suitable node (1 node not available for new tasks)", "replicas"),
    ],
)
def test_a_lack_of_room_names_class_numbers_swarms_words_and_what_to_change(words: str, keys: str) -> None:
    error = NoRoomError([Shortage("big", 1, 3, words)])
    assert error.message == f"big: 1 of 3 executors run; Swarm says: {words}"
    assert f"change {keys} of the class in swarmhpc.yaml" in error.hint
    assert "swarmhpc scale big=1" in error.hint
    assert error.exit_code == 1


# -- Swarm's words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replicas", "tasks", "said"),
    [
        (2, [task("t1", 1), task("t2", 2)], []),
        (0, [task("t1", 1, "failed", "shutdown", "boom")], []),
        # Nothing runs: the last thing that went wrong.
        (
            1,
            [task("t1", 1, "rejected", "shutdown", "old"), task("t2", 1, "rejected", "shutdown", "No such image")],
            ["No such image"],
        ),
        (1, [task("t1", 1, "starting")], []),
        # Some run: what Swarm says of the others, once each.
        (3, [task("t1", 1), unplaced("t2", 2), unplaced("t3", 3)], [f"{NO_ROOM} (2 tasks)"]),
        (
            3,
            [
                task("t1", 1),
                unplaced("t2", 2),
                task("t3", 3, "rejected", "shutdown", "No such image"),
                task("t4", 3, "ready", "ready"),
            ],
            [NO_ROOM, "No such image"],
        ),
        # What once went wrong and is well now is nobody's business, nor what nobody wants any more.
        (1, [task("t1", 1, "failed", "shutdown", "boom"), task("t2", 1)], []),
        (1, [task("t1", 1), task("t2", 2, "failed", "shutdown", "boom")], []),
        # A global service has no slots.
        (
            None,
            [
                task("t1", 0),
                task("t2", 0, "rejected", "shutdown", "no mount", node_id="n2"),
                task("t3", 0, "ready", "ready", node_id="n2"),
            ],
            ["no mount"],
        ),
    ],
)
def test_swarms_words_are_shown_for_what_should_run_and_does_not(
    replicas: int | None, tasks: list[Task], said: list[str]
) -> None:
    fake = FakeEngine([service("a", replicas)], tasks)
    assert task_errors(cast(Engine, fake), "swarmhpc") == [f"swarmhpc_a: {words}" for words in said]


# -- the wait ------------------------------------------------------------------------------------------------------


@dataclass
class FakeEngine:
    """Only what a wait may ask."""

    of_pool: list[Service]
    all_tasks: list[Task]

    def services(self, _: str) -> list[Service]:
        return self.of_pool

    def tasks(self, service_id: str | None = None) -> list[Task]:
        return [t for t in self.all_tasks if service_id in (None, t.service_id)]

    def nodes(self) -> list[Node]:
        return [Node("n1", "n1", "manager", "ready", "active", "192.0.2.1", 2, 4096, {})]


@dataclass
class World:
    """A clock that sleeping moves, and what happens at its times."""

    engine: FakeEngine
    slots: list[Slot]
    now_s: float = 0.0
    later: dict[float, tuple[list[Task], list[Slot]]] = field(default_factory=dict)
    silent_until_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        for at in [at for at in self.later if at <= self.now_s]:
            self.engine.all_tasks, self.slots = self.later.pop(at)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World(FakeEngine([service()], [task("t1", 1), unplaced("t2", 2)]), [slot("t1")])

    class FakePool:
        def __init__(self, ctx: Context) -> None:
            pass

        def slots(self) -> list[Slot]:
            if found.now_s < found.silent_until_s:
                raise PoolUnreachableError("the collector does not answer")
            return found.slots

        def jobs(self, _: str) -> list[Any]:
            return []

        def can_write(self) -> None:
            pass

    monkeypatch.setattr(usable, "Pool", FakePool)
    monkeypatch.setattr(usable, "time", found)
    return found


class Prepared:
    """What a wait needs to know of the plan."""

    cluster = Cluster()
    classes = (ClassPlan("a", 2, 1, 512),)
    context = Context("swarmhpc", "192.0.2.1", 9618, 9619, "alice", (), ())


def wait(world: World, said: Said, timeout_s: float = 300) -> Sequence[Shortage]:
    engine, prepared = cast(Engine, world.engine), cast(up.Prepared, Prepared())
    return usable.wait_usable(Fleet(()), engine, prepared, said, timeout_s=timeout_s)


def test_a_pool_with_all_its_executors_is_usable_at_once(world: World) -> None:
    world.engine.all_tasks, world.slots = [task("t1", 1), task("t2", 2)], [slot("t1"), slot("t2")]
    said = Said()
    assert (wait(world, said), world.now_s) == ((), 0)
    assert said.ends == ["usable: 2 × a (1 CPU, 512 MiB)"]


def test_executors_without_a_node_are_waited_for_ten_seconds_and_not_until_the_end(world: World) -> None:
    said = Said()
    assert wait(world, said) == (SHORT,)
    assert 10 < world.now_s < 11
    assert said.ends == ["usable: 1 of 2 × a (1 CPU, 512 MiB)"]


def test_the_ten_seconds_begin_when_nothing_else_is_missing_and_again_when_it_is(world: World) -> None:
    world.silent_until_s = 30
    world.later[35] = [unplaced("t2", 2), task("t3", 1, "starting")], []
    world.later[60] = [unplaced("t2", 2), task("t3", 1)], [slot("t3")]
    assert wait(world, Said()) == (SHORT,)
    assert 70 < world.now_s < 71


def test_room_that_comes_in_time_is_no_shortage(world: World) -> None:
    world.later[8] = [task("t1", 1), task("t2", 2)], [slot("t1"), slot("t2")]
    assert wait(world, Said()) == ()
    assert 8 <= world.now_s < 9


def test_room_that_leaving_executors_hold_until_their_jobs_end_is_no_error_and_is_told(world: World) -> None:
    world.engine.all_tasks.append(task("t3", 1, desired="remove", service_id="s-gone"))
    world.slots += [slot("t3", of_class="gone"), slot("t3", of_class="gone", job=True)]
    said = Said()
    assert wait(world, said) == ()
    assert 10 < world.now_s < 11
    assert said.notices == [str(SHORT), "1 executors finish their running jobs before they make room for others"]


def test_the_services_own_number_counts_which_somebody_may_have_changed_since_the_plan_was_made(world: World) -> None:
    world.engine.of_pool = [service("a", 1)]
    said = Said()
    assert wait(world, said) == ()
    assert said.ends == ["usable: 1 × a (1 CPU, 512 MiB)"]


def test_a_wait_that_ends_too_late_says_what_was_missing_and_swarms_words(world: World) -> None:
    world.engine.all_tasks = [task("t1", 1), task("t2", 2, "pending", error="No such image: x")]
    with pytest.raises(WaitTimeoutError, match="1 of 2 executors registered; swarmhpc_a: No such image: x"):
        wait(world, Said(), timeout_s=20)


def test_after_a_revocation_executors_without_room_are_told_of_and_are_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise NoRoomError([SHORT])

    monkeypatch.setattr(up, "prepare", lambda *_: None)
    monkeypatch.setattr(up, "apply", fails)
    said = Said()
    up.refresh(Fleet(()), Cluster(), said, timeout_s=1)
    assert said.notices == [str(SHORT)]
