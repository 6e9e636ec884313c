"""`swarmhpc autoscale`: on, off, and what it shows, over a strict fake Swarm that moves on while the command waits."""

# ruff: noqa: ARG002 - the fakes have the signatures of what they stand for

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pytest

from swarmhpc import context, state
from swarmhpc.adapters import condor
from swarmhpc.adapters.docker import Node, Service, Stored, Task
from swarmhpc.cli import autoscale as cli
from swarmhpc.cli.app import run
from swarmhpc.cluster import fleet
from swarmhpc.cluster.render import ClassPlan
from swarmhpc.errors import EngineError, PoolUnreachableError
from swarmhpc.scaling import autoscale

DOES = dict[float, Callable[[], None]]


def executors(name: str, replicas: int, maximum: int | None, minimum: int = 0) -> Service:
    plan = ClassPlan(name, replicas, 1, 512, minimum=minimum, maximum=maximum)
    labels = {state.LABEL_ROLE: state.EXECUTOR, state.LABEL_CLASS: name, state.LABEL_PLAN: json.dumps(asdict(plan))}
    return Service(f"s-{name}", f"lab_{name}", labels, replicas, "image", "{}")


def autoscaler(replicas: int) -> Service:
    return Service("s-a", "lab_autoscaler", {state.LABEL_ROLE: state.AUTOSCALER}, replicas, "image", "{}")


def task(id: str, now: str = "running", desired: str = "running", error: str = "") -> Task:
    return Task(id, "s-a", "n1", 1, now, desired, error, "container", "{}")


def decision(name: str, wanted: int, at: int) -> dict[str, Any]:
    return {"SwarmHpcClass": name, "Wanted": wanted, "Reason": f"why {name}", "LastHeardFrom": at}


@dataclass
class World:
    """One pool. What happens by itself is in `later`, by the seconds that have passed."""

    services_: list[Service]
    tasks_: list[Task] = field(default_factory=list)
    sizes: list[dict[str, Any]] = field(default_factory=list)
    unserved: list[dict[str, Any]] = field(default_factory=list)
    silent: bool = False
    now: float = 0.0
    later: DOES = field(default_factory=dict)
    did: list[str] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)

    # the engine

    def services(self, pool: str) -> list[Service]:
        assert pool == "lab"
        return self.services_

    def nodes(self) -> list[Node]:
        return [Node("n1", "n1", "manager", "ready", "active", "192.0.2.1", 4, 8192, {})]

    def tasks(self, service_id: str | None = None) -> list[Task]:
        assert service_id in (None, "s-a")
        return self.tasks_

    def scale(self, service_id: str, replicas: int) -> None:
        assert service_id == "s-a"
        assert bool(self.stored) == (replicas == 0), "the lock is for turning it off"
        self.did.append(f"replicas {replicas}")
        self.services_ = [replace(s, replicas=replicas) if s.id == "s-a" else s for s in self.services_]

    def config_create(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        if self.stored:
            raise EngineError(f"{name} exists")
        self.stored.append(Stored(name, name, labels, data))
        self.did.append("lock")

    def configs(self, pool: str) -> list[Stored]:
        return self.stored

    def config_remove(self, config_id: str) -> None:
        self.stored = [s for s in self.stored if s.id != config_id]
        self.did.append("unlock")

    # the collector

    def generic_ads(self, my_type: str) -> list[dict[str, Any]]:
        if self.silent:
            raise PoolUnreachableError("the collector does not answer")
        return {autoscale.DECISION: self.sizes, autoscale.UNSERVED: self.unserved}[my_type]

    # the clock

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at in sorted(at for at in self.later if at <= self.now):
            self.later.pop(at)()


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Callable[[World], World]:
    def _enter(world: World) -> World:
        monkeypatch.setattr(cli, "cluster_fleet", lambda *_: contextlib.nullcontext((None, None)))
        monkeypatch.setattr(fleet, "require_manager", lambda *_: (world, "lab"))
        monkeypatch.setattr(context, "load", lambda _: None)
        monkeypatch.setattr(condor, "Pool", lambda _: world)
        monkeypatch.setattr(time, "sleep", world.sleep)
        monkeypatch.setattr(time, "monotonic", lambda: world.now)
        return world

    return _enter


Enter = Callable[[World], World]
Caps = pytest.CaptureFixture[str]


# -- on ---------------------------------------------------------------------------------------------------------------


def test_on_waits_until_it_runs_and_its_own_first_decision_shows(enter: Enter, capsys: Caps) -> None:
    w = World([executors("executors", 2, 10), executors("big", 1, None), autoscaler(0)])
    w.tasks_ = [task("earlier", "failed", "shutdown", error="an old story")]
    w.sizes = [decision("executors", 9, 500)]  # of the one before, not expired yet
    w.later = {
        3: lambda: w.tasks_.append(task("new")),
        6: lambda: w.sizes.append(decision("executors", 4, 520)),
    }
    enter(w)
    assert run(["autoscale", "on"]) == 0
    said = capsys.readouterr()
    assert 6 <= w.now < 7
    assert w.did == ["replicas 1"]
    assert "will turn the autoscaler on: executors 0 to 10\n" in said.err
    assert "executors: 4 wanted: why executors" in said.err


def test_on_is_told_in_swarms_words_why_it_does_not_run(enter: Enter, capsys: Caps) -> None:
    w = World([executors("executors", 2, 10), autoscaler(0)], [task("earlier", "failed", "shutdown", "an old story")])
    w.later = {3: lambda: w.tasks_.append(task("new", "rejected", "shutdown", "No such image: x"))}
    enter(w)
    assert run(["autoscale", "on"]) == 1
    assert 60 <= w.now < 61
    said = capsys.readouterr().err
    assert "after 60 s it does not run yet; Swarm says: No such image: x" in said and "swarmhpc autoscale off" in said


def test_what_ended_an_earlier_autoscaler_is_not_told_as_the_reason(enter: Enter, capsys: Caps) -> None:
    earlier = task("earlier", "failed", "shutdown", "an old story")
    enter(World([executors("executors", 2, 10), autoscaler(0)], [earlier]))
    assert run(["autoscale", "on"]) == 1
    assert "after 60 s it does not run yet\n" in capsys.readouterr().err


def test_a_collector_that_is_silent_for_a_moment_does_not_end_the_wait(enter: Enter, capsys: Caps) -> None:
    w = World([executors("executors", 2, 10), autoscaler(0)])

    def silent() -> None:
        w.silent, w.tasks_ = True, [task("new")]

    def speaks() -> None:
        w.silent, w.sizes = False, [decision("executors", 4, 520)]

    w.later = {1: silent, 5: speaks}
    enter(w)
    assert run(["autoscale", "on"]) == 0
    assert 5 <= w.now < 6


def test_on_refuses_where_the_collector_cannot_be_asked_and_changes_nothing(enter: Enter, capsys: Caps) -> None:
    w = enter(World([executors("executors", 2, 10), autoscaler(0)], silent=True))
    assert run(["autoscale", "on"]) == 1
    assert w.did == []
    assert "the collector does not answer" in capsys.readouterr().err


def test_on_without_a_class_that_has_a_max_names_the_key_to_write(enter: Enter, capsys: Caps) -> None:
    w = enter(World([executors("executors", 2, None), executors("big", 1, None), autoscaler(0)]))
    assert run(["autoscale", "on"]) == 2
    said = capsys.readouterr().err
    assert "executors.big.max or executors.executors.max" in said and "swarmhpc up" in said
    assert w.did == []


@pytest.mark.parametrize(("word", "replicas", "tasks"), [("on", 1, [task("t")]), ("off", 0, [])])
def test_the_same_twice_is_nothing_to_do(
    enter: Enter, capsys: Caps, word: str, replicas: int, tasks: list[Task]
) -> None:
    w = enter(World([executors("executors", 2, 10), autoscaler(replicas)], tasks))
    assert run(["autoscale", word]) == 0
    assert capsys.readouterr() == ("", f"nothing to do: the autoscaler is {word}\n")
    assert w.did == []


def test_on_waits_for_one_that_is_on_and_does_not_run(enter: Enter, capsys: Caps) -> None:
    w = World([executors("executors", 2, 10), autoscaler(1)], [task("t", "preparing", error="No such image: x")])

    def runs() -> None:
        w.tasks_, w.sizes = [task("t")], [decision("executors", 4, 520)]

    w.later = {2: runs}
    enter(w)
    assert run(["autoscale", "on"]) == 0
    assert w.did == [] and "it is on and does not run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "replicas", "says"), [("on", 0, "executors 1 to 10"), ("off", 1, "keeps the executors")]
)
def test_a_dry_run_says_what_it_would_do_and_does_nothing(
    enter: Enter, capsys: Caps, word: str, replicas: int, says: str
) -> None:
    w = enter(World([executors("executors", 2, 10, minimum=1), autoscaler(replicas)]))
    assert run(["autoscale", word, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"will turn the autoscaler {word}") and says in said.out and said.err == ""
    assert w.did == [] and w.now == 0


# -- off --------------------------------------------------------------------------------------------------------------


def test_off_takes_the_lock_first_and_waits_until_it_has_ended(enter: Enter, capsys: Caps) -> None:
    w = World([executors("executors", 2, 10), autoscaler(1)], [task("t")])
    theirs = {"who": "somebody on cm", "what": "autoscaler", "for_s": 90, "host": "elsewhere", "pid": 1}
    w.stored = [Stored("x", "x", {state.LABEL_KIND: "scale-lock"}, json.dumps(theirs).encode())]
    w.later = {
        2: lambda: w.stored.clear(),
        5: lambda: setattr(w, "tasks_", [task("t", "shutdown", "shutdown")]),
    }
    enter(w)
    assert run(["autoscale", "off"]) == 0
    assert 5 <= w.now < 6
    assert w.did == ["lock", "replicas 0", "unlock"]
    assert "every class keeps the executors it has" in capsys.readouterr().err


def test_off_says_so_when_its_container_does_not_end_and_gives_the_lock_back(enter: Enter, capsys: Caps) -> None:
    w = enter(World([executors("executors", 2, 10), autoscaler(1)], [task("t", desired="shutdown")]))
    assert run(["autoscale", "off"]) == 1
    assert "after 60 s its container still runs" in capsys.readouterr().err
    assert w.did == ["lock", "replicas 0", "unlock"]


def test_off_again_goes_on_while_its_container_still_runs(enter: Enter, capsys: Caps) -> None:
    w = World([executors("executors", 2, 10), autoscaler(0)], [task("t", desired="shutdown")])
    w.later = {1: lambda: w.tasks_.clear()}
    enter(w)
    assert run(["autoscale", "off"]) == 0
    assert "replicas 0" not in w.did


@pytest.mark.parametrize("words", [["on"], ["off"], []])
def test_a_pool_from_before_there_was_an_autoscaler_needs_an_up(enter: Enter, capsys: Caps, words: list[str]) -> None:
    enter(World([executors("executors", 2, 10)]))
    assert run(["autoscale", *words]) == 1
    assert "pool lab has no autoscaler service\n  next: swarmhpc up\n" in capsys.readouterr().err


# -- what it shows ----------------------------------------------------------------------------------------------------

ALL = [executors("executors", 2, 10, minimum=1), executors("big", 3, None)]
NO_EXECUTOR = {"Job": "3.0", "Count": 12, "Kind": "no class matches", "Reason": "why", "LastHeardFrom": 500}


def test_it_shows_bounds_sizes_and_reasons_and_who_gets_no_executor(enter: Enter, capsys: Caps) -> None:
    enter(World([*ALL, autoscaler(1)], [task("t")], [decision("executors", 4, 500)], [NO_EXECUTOR]))
    assert run(["autoscale"]) == 0
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
        "autoscaler: on",
        "CLASS MIN MAX REPLICAS WANTED REASON",
        "big 0 - 3 - no max: its size stays (executors.big.max)",
        "executors 1 10 2 4 why executors",
        "12 jobs such as 3.0: no class matches: why",
    ]


def test_its_json_has_the_same(enter: Enter, capsys: Caps) -> None:
    enter(World([*ALL, autoscaler(1)], [task("t")], [decision("executors", 4, 500)], [NO_EXECUTOR]))
    assert run(["autoscale", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "autoscaler": {"state": "on"},
        "classes": [
            {"name": "big", "min": 0, "max": None, "replicas": 3, "wanted": None, "reason": None},
            {"name": "executors", "min": 1, "max": 10, "replicas": 2, "wanted": 4, "reason": "why executors"},
        ],
        "unserved": [{"job": "3.0", "count": 12, "kind": "no class matches", "reason": "why"}],
    }


def test_what_it_said_before_it_was_turned_off_is_not_shown(enter: Enter, capsys: Caps) -> None:
    enter(World([*ALL, autoscaler(0)], [], [decision("executors", 4, 500)], [NO_EXECUTOR]))
    assert run(["autoscale"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("autoscaler: off\n") and "3.0" not in out and "why" not in out
    assert "off: its size stays" in out


@pytest.mark.parametrize(
    ("tasks", "line"),
    [
        ([task("t")], "autoscaler: on, but it says nothing (on a manager: docker service logs lab_autoscaler)"),
        ([], "autoscaler: on, but it does not run"),
        (
            [task("t", "rejected", "shutdown", "No such image: x")],
            "autoscaler: on, but it does not run; Swarm says: No such image: x",
        ),
    ],
)
def test_one_that_is_on_and_silent_is_told_with_the_reason(
    enter: Enter, capsys: Caps, tasks: list[Task], line: str
) -> None:
    enter(World([*ALL, autoscaler(1)], tasks))
    assert run(["autoscale"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sideways"], "'on', 'off'"),
        (["on", "--json"], "--json shows"),
        (["--dry-run"], "--dry-run goes with on or off"),
    ],
)
def test_wrong_usage_ends_with_2(enter: Enter, capsys: Caps, words: list[str], says: str) -> None:
    w = enter(World([*ALL, autoscaler(0)]))
    assert run(["autoscale", *words]) == 2
    assert says in capsys.readouterr().err and w.did == []
