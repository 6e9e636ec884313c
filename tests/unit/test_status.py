"""`swarmhpc status`: figures of each class from the Swarm and the collector, what the screen says, and --watch."""

# ruff: noqa: ARG002 - the fakes have the signatures of what they stand for

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from swarmhpc import context, state
from swarmhpc.adapters.docker import Engine, Node, Service, Task
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cli import status as cli
from swarmhpc.cli.app import run
from swarmhpc.cluster import fleet, status
from swarmhpc.cluster.status import ClassStatus, Status, Unserved, observe
from swarmhpc.context import Context
from swarmhpc.errors import AuthenticationError, EngineUnreachableError, PoolUnreachableError, SwarmHpcError
from swarmhpc.scaling import autoscale

CTX = Context("lab", "192.0.2.1", 9618, 9619, "alice")
NO_ROOM = "no suitable node (insufficient resources on 1 node)"


def service(name: str, replicas: int | None = 1, role: str = "") -> Service:
    labels = {state.LABEL_ROLE: role} if role else {state.LABEL_ROLE: state.EXECUTOR, state.LABEL_CLASS: name}
    return Service(f"s-{name}", f"lab_{name}", labels, replicas, "image", "{}")


def task(id: str, slot: int = 1, of: str = "executors", at: str = "n1", **more: Any) -> Task:
    return replace(Task(id, f"s-{of}", at, slot, "running", "running", "", "container", "{}"), **more)


def leaves(id: str, slot: int = 1, **more: Any) -> Task:
    return task(id, slot, **{"desired": "shutdown", **more})


def slot(of: str, job: str = "", of_class: str = "executors", state: str = "") -> Slot:
    """The partitionable slot of a task's executor, or one that is claimed for a job."""
    name = f"slot1{'_1' if job else ''}@{of}.lab"
    word = state or ("Claimed" if job else "Unclaimed")
    return Slot(name, f"host-{of}", of_class, "n1", of, 1, 512, not job, word, "Idle", job, 1, 512, 73)


def node(id: str, word: str = "ready") -> Node:
    return Node(id, id, "worker", word, "active", "192.0.2.9", 4, 8192, {})


@dataclass
class FakeEngine:
    """A manager's engine that may be asked only what is here."""

    of_pool: list[Service]
    of_swarm: list[Task] = field(default_factory=list)
    machines: list[Node] = field(default_factory=lambda: [node("n1")])

    def services(self, pool: str) -> list[Service]:
        assert pool == "lab"
        return self.of_pool

    def tasks(self) -> list[Task]:
        return self.of_swarm

    def nodes(self) -> list[Node]:
        return self.machines

    def endpoint_mode(self, service_id: str) -> str:
        assert service_id == f"s-{state.ACCESS_POINT}"
        return "vip"


@dataclass
class FakePool:
    """The daemons. An error instead of an answer is raised; `ads` None: nobody may ask for them."""

    of_collector: Sequence[Slot] | SwarmHpcError = ()
    of_queue: Sequence[str] | SwarmHpcError = ()
    ads: dict[str, list[dict[str, Any]]] | None = None

    def slots(self) -> Sequence[Slot]:
        if isinstance(self.of_collector, SwarmHpcError):
            raise self.of_collector
        return self.of_collector

    def jobs(self) -> Sequence[Any]:
        if isinstance(self.of_queue, SwarmHpcError):
            raise self.of_queue
        return [type("J", (), {"status": word}) for word in self.of_queue]

    def generic_ads(self, my_type: str) -> list[dict[str, Any]]:
        assert self.ads is not None, "nobody may ask for ads"
        return self.ads.get(my_type, [])


DAEMONS = [service(role, role=role) for role in (state.CENTRAL_MANAGER, state.ACCESS_POINT)]
DAEMON_TASKS = [task(f"t-{role}", of=role) for role in (state.CENTRAL_MANAGER, state.ACCESS_POINT)]


def seen(monkeypatch: pytest.MonkeyPatch, engine: FakeEngine | None, pool: FakePool) -> Status:
    def connect(ctx: Context) -> FakePool:
        assert ctx is CTX
        return pool

    monkeypatch.setattr(status, "Pool", connect)
    return observe(cast("Engine | None", engine), CTX)


def classes(
    monkeypatch: pytest.MonkeyPatch, tasks: list[Task], slots: list[Slot], *services: Service, **more: Any
) -> dict[str, ClassStatus]:
    engine = FakeEngine([*DAEMONS, *services], [*DAEMON_TASKS, *tasks], **more)
    return {c.name: c for c in seen(monkeypatch, engine, FakePool(slots)).classes}


# -- figures ----------------------------------------------------------------------------------------------------------


def test_each_executor_is_busy_idle_draining_or_not_registered_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [
        task("busy", 1),
        task("idle", 2),
        task("new", 3),
        task("pending", 4, at="", state="pending", container_id=""),
        leaves("drains", 5),
        leaves("drained", 6, state="complete"),
        leaves("never-ran", 7, state="pending", container_id=""),
    ]
    slots = [
        *(slot("busy"), slot("busy", "1.0"), slot("busy", "1.1"), slot("idle")),
        *(slot("drains"), slot("drains", "1.2")),
    ]
    (c,) = classes(monkeypatch, tasks, slots, service("executors", 4)).values()
    assert c == ClassStatus("executors", 4, running=3, registered=2, busy=1, idle=1, draining=1)


def test_a_claimed_slot_makes_an_executor_busy_whether_its_job_has_begun_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claimed = replace(slot("t1", "1.0"), job_id="")
    unclaimed = slot("t2", "1.0", state="Unclaimed")
    slots = [slot("t1"), claimed, slot("t2"), unclaimed]
    (c,) = classes(monkeypatch, [task("t1"), task("t2", 2)], slots, service("executors", 2)).values()
    assert (c.registered, c.busy, c.idle) == (2, 1, 1)


def test_classes_are_counted_apart_and_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [task("t1"), task("t2", of="big")]
    slots = [slot("t1"), slot("t2", of_class="big"), slot("t2", "1.0", of_class="big")]
    found = classes(monkeypatch, tasks, slots, service("executors", 3), service("big", 1))
    assert list(found) == ["big", "executors"]
    assert (found["big"].replicas, found["big"].busy, found["big"].idle) == (1, 1, 0)
    assert (found["executors"].replicas, found["executors"].busy, found["executors"].idle) == (3, 0, 1)


def env(**words: str) -> str:
    return json.dumps({"Env": [f"{k}={v}" for k, v in words.items()]})


def test_executors_of_a_class_that_is_no_more_drain_in_a_row_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = env(SWARMHPC_CLUSTER="lab", SWARMHPC_CLASS="old")
    tasks = [
        task("with-job", of="gone", desired="remove"),
        task("without-slot", 2, of="gone", desired="remove", container_spec=ours),
        task("ended", 3, of="gone", desired="remove", state="shutdown", container_spec=ours),
        task("other-pool", 4, of="x", container_spec=env(SWARMHPC_CLUSTER="lab2", SWARMHPC_CLASS="old")),
        task("no-executor", 5, of="y", container_spec=env(SWARMHPC_CLUSTER="lab")),
        task("no-environment", 6, of="z", container_spec=""),
    ]
    slots = [slot("with-job", of_class="old"), slot("with-job", "1.0", of_class="old")]
    slots += [slot("unknown-to-swarm", of_class="older"), slot("unknown-to-swarm", "1.1", of_class="older")]
    found = classes(monkeypatch, tasks, slots, service("executors", 0))
    assert found["old"] == ClassStatus("old", 0, running=0, registered=0, busy=0, idle=0, draining=2)
    assert found["older"] == ClassStatus("older", 0, running=0, registered=0, busy=0, idle=0, draining=1)
    assert set(found) == {"executors", "old", "older"}
    assert found["executors"].draining == 0


def test_a_class_that_was_taken_out_and_put_back_drains_its_old_executors(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [task("old", of="gone", desired="remove"), task("new")]
    (c,) = classes(monkeypatch, tasks, [slot("old"), slot("old", "1.0"), slot("new")], service("executors")).values()
    assert (c.registered, c.busy, c.idle, c.draining) == (1, 0, 1, 1)


@pytest.mark.parametrize(("registered", "draining"), [(False, 0), (True, 1)])
def test_on_a_machine_that_is_gone_nothing_drains_unless_the_collector_still_hears_of_it(
    monkeypatch: pytest.MonkeyPatch, registered: bool, draining: int
) -> None:
    slots = [slot("t1"), slot("t1", "1.0")] if registered else []
    machines = [node("n1"), node("n2", "down")]
    (c,) = classes(monkeypatch, [leaves("t1", at="n2")], slots, service("executors", 0), machines=machines).values()
    assert c.draining == draining


def test_draining_slots_are_known_by_their_task(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine([service("executors")], [task("t1"), leaves("t2")])
    s = seen(monkeypatch, engine, FakePool([slot("t1"), slot("t2"), slot("t3")]))
    assert s.draining == frozenset({"t2", "t3"})


def test_without_the_swarm_the_collector_alone_is_believed_and_draining_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots = [slot("t1"), slot("t1", "1.0"), slot("t2"), slot("t3", of_class="big"), slot("t4", of_class="")]
    s = seen(monkeypatch, None, FakePool(slots, ads={}))
    assert s.classes == (
        ClassStatus("big", None, None, registered=1, busy=0, idle=1, draining=None),
        ClassStatus("executors", None, None, registered=2, busy=1, idle=1, draining=None),
    )
    assert (s.draining, s.autoscaler, s.networking) == (None, "unknown", "")


# -- who is silent ----------------------------------------------------------------------------------------------------


def test_what_only_a_silent_collector_could_tell_is_unknown_and_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine([*DAEMONS, service("executors", 2)], [DAEMON_TASKS[1], task("t1"), leaves("t2")])
    s = seen(monkeypatch, engine, FakePool(PoolUnreachableError("no answer"), ["idle"]))
    assert s.classes == (ClassStatus("executors", 2, running=1, registered=None, busy=None, idle=None, draining=1),)
    assert (s.central_manager, s.access_point, s.trouble) == ("down", "running", ("no answer",))
    assert s.jobs == {"idle": 1, "running": 0, "held": 0, "completed": 0}


def test_jobs_are_unknown_where_the_access_point_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(DAEMONS, DAEMON_TASKS)
    s = seen(monkeypatch, engine, FakePool((), PoolUnreachableError("no answer")))
    assert s.jobs == dict.fromkeys(("idle", "running", "held", "completed"))
    assert (s.central_manager, s.access_point, s.networking) == ("running", "starting", "vip")


def test_a_token_that_is_refused_is_not_a_daemon_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    s = seen(monkeypatch, None, FakePool(AuthenticationError("expired"), AuthenticationError("expired")))
    assert (s.central_manager, s.access_point) == ("refused", "refused")


def test_why_a_replica_is_not_up_is_in_its_class_and_what_ails_a_daemon_is_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: dict[str, Any] = {"state": "failed", "desired": "shutdown"}
    tasks = [
        task("t1"),
        task("t2", 2, at="", state="pending", container_id="", error=NO_ROOM),
        task("t3", of="janitor", error="No such image: x", **ended),
        task("t4", of="autoscaler", error="task: non-zero exit (1)", **ended),
    ]
    services = [
        *(*DAEMONS, service("executors", 2), service("janitor", None, role=state.JANITOR)),
        service("autoscaler", 0, role=state.AUTOSCALER),
    ]
    s = seen(monkeypatch, FakeEngine(services, [*DAEMON_TASKS, *tasks]), FakePool())
    assert s.classes[0].trouble == (NO_ROOM,)
    assert s.trouble == ("lab_janitor: No such image: x",), "an autoscaler that is off has no trouble"


# -- the autoscaler ---------------------------------------------------------------------------------------------------


def decision(name: str, wanted: int, at: int) -> dict[str, Any]:
    return {"SwarmHpcClass": name, "Wanted": wanted, "Reason": f"why {name}", "LastHeardFrom": at}


def no_executor(job: str, at: int) -> dict[str, Any]:
    return {"Job": job, "Count": 2, "Kind": "no class matches", "Reason": f"why {job}", "LastHeardFrom": at}


def with_autoscaler(replicas: int) -> FakeEngine:
    return FakeEngine([*DAEMONS, service("executors"), service("autoscaler", replicas, role=state.AUTOSCALER)])


def test_decisions_of_the_last_round_are_shown_with_their_class_and_older_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ads = {
        autoscale.DECISION: [decision("executors", 4, 1000), decision("no-such-class", 9, 1000)],
        autoscale.UNSERVED: [no_executor("10.0", 1001), no_executor("9.3", 1000), no_executor("8.0", 998)],
    }
    s = seen(monkeypatch, with_autoscaler(1), FakePool(ads=ads))
    assert s.autoscaler == "on"
    assert [(c.name, c.wanted, c.reason) for c in s.classes] == [("executors", 4, "why executors")]
    assert s.unserved == (
        Unserved("9.3", 2, "no class matches", "why 9.3"),
        Unserved("10.0", 2, "no class matches", "why 10.0"),
    )


@pytest.mark.parametrize("engine", [with_autoscaler(0), FakeEngine([service("executors")])], ids=["0", "no service"])
def test_nobody_asks_what_an_autoscaler_that_is_off_has_said(
    monkeypatch: pytest.MonkeyPatch, engine: FakeEngine
) -> None:
    s = seen(monkeypatch, engine, FakePool(ads=None))
    assert (s.autoscaler, s.classes[0].wanted, s.classes[0].reason) == ("off", None, None)


def test_without_the_swarm_an_autoscaler_that_speaks_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ads = {autoscale.DECISION: [decision("executors", 4, 1000)]}
    s = seen(monkeypatch, None, FakePool([slot("t1")], ads=ads))
    assert (s.autoscaler, s.classes[0].wanted) == ("on", 4)


# -- what people and scripts read -------------------------------------------------------------------------------------

SHOWN = Status(
    pool="lab",
    networking="vip",
    address="192.0.2.1",
    central_manager="running",
    access_point="running",
    autoscaler="on",
    classes=(
        ClassStatus("executors", 6, 4, 4, 3, 1, 2, (NO_ROOM, "No such image: x"), 5, "12 idle jobs need more"),
        ClassStatus("executors-big", 1, 1, 1, 0, 1, 0),
    ),
    unserved=(Unserved("3.0", 12, "no class matches", "asks for 2 CPUs"), Unserved("5.1", 1, "larger", "64 CPUs")),
    nodes=(node("n1"),),
    jobs={"idle": 13, "running": 3, "held": 0, "completed": 7},
    slots=(slot("t1", "3.9"), slot("t2", "3.8"), slot("t3")),
    draining=frozenset({"t2"}),
    trouble=("lab_janitor: gone",),
)


@dataclass
class FakeFleet:
    """No manager here; forgets whom it has asked, so that the next look asks again."""

    machines: tuple[Any, ...] = ()
    forgotten: int = 0

    def manager(self, pool: str) -> None:
        assert pool == "lab"

    def forget(self, names: list[str]) -> None:
        self.forgotten += 1


def pool_shows(monkeypatch: pytest.MonkeyPatch, *answers: Status | BaseException) -> FakeFleet:
    """Each look at the pool is the next of these; an exception is raised."""
    it, fake = iter(answers), FakeFleet()

    def look(engine: None, ctx: Context) -> Status:
        answer = next(it)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(context, "load", lambda _: CTX)
    monkeypatch.setattr(fleet, "opened", lambda _: contextlib.nullcontext(fake))
    monkeypatch.setattr(status, "observe", look)
    return fake


def test_the_screen_says_the_figures_then_their_reasons_then_the_slots(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool_shows(monkeypatch, SHOWN)
    assert run(["status"]) == 0
    said = capsys.readouterr()
    assert [line.rstrip() for line in said.out.splitlines()] == [
        "pool lab at 192.0.2.1, networking vip",
        "central manager running, access point running",
        "jobs: 13 idle, 3 running, 0 held, 7 completed",
        "",
        "CLASS          REPLICAS  RUNNING  REGISTERED  BUSY  IDLE  DRAINING",
        "executors             6        4           4     3     1         2",
        "executors-big         1        1           1     0     1         0",
        f"executors: 2 of 6 are not up; Swarm says: {NO_ROOM}; No such image: x",
        "autoscaler: on",
        "  executors: 5 wanted: 12 idle jobs need more",
        "12 jobs such as 3.0: no class matches: asks for 2 CPUs",
        "job 5.1: larger: 64 CPUs",
        "",
        "SLOT        NODE  STATE               ACTIVITY  CPUS   MEMORY  JOB  SINCE",
        "slot1_1@t1  n1    Claimed             Idle         1  512 MiB  3.9  1m13s",
        "slot1_1@t2  n1    Claimed (draining)  Idle         1  512 MiB  3.8  1m13s",
        "slot1@t3    n1    Unclaimed           Idle         1  512 MiB  -    1m13s",
    ]
    assert said.err == "trouble: lab_janitor: gone\n"


def test_what_is_not_known_is_a_question_mark(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    afar = ClassStatus("executors", None, None, 2, 1, 1, None)
    unknown = replace(
        SHOWN, autoscaler="unknown", classes=(afar,), unserved=(), slots=(), draining=None, jobs={"idle": None}
    )
    pool_shows(monkeypatch, unknown)
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    assert "jobs: ? idle" in out
    assert out.splitlines()[-1].split() == ["executors", "?", "?", "2", "1", "1", "?"]


@pytest.mark.parametrize(("word", "line"), [("on", "autoscaler: on, but it says nothing"), ("off", "autoscaler: off")])
def test_an_autoscaler_without_decisions_is_one_line(word: str, line: str) -> None:
    parts = cli.classes(replace(SHOWN, autoscaler=word, classes=SHOWN.classes[1:], unserved=()))
    assert parts[1:] == [line]


def test_of_many_groups_of_jobs_without_executor_the_first_are_shown_and_the_rest_counted() -> None:
    groups = [Unserved(f"{n}.0", 1, "larger", "why") for n in range(13)]
    lines = cli.unserved(groups)
    assert lines[9:] == ["job 9.0: larger: why", "and 3 more such groups of jobs; --json shows all"]
    assert len(cli.unserved(groups[:10])) == 10


def test_json_has_what_scripts_rely_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pool_shows(monkeypatch, SHOWN)
    assert run(["status", "--json"]) == 0
    s = json.loads(capsys.readouterr().out)
    assert s["classes"][0] == {
        "name": "executors",
        **dict(zip(("replicas", "running", "registered", "busy", "idle", "draining"), (6, 4, 4, 3, 1, 2), strict=True)),
        "trouble": [NO_ROOM, "No such image: x"],
        "wanted": 5,
        "reason": "12 idle jobs need more",
    }
    assert (s["classes"][1]["wanted"], s["classes"][1]["reason"], s["classes"][1]["trouble"]) == (None, None, [])
    assert s["autoscaler"] == {"state": "on"}
    assert s["unserved"][1] == {"job": "5.1", "count": 1, "kind": "larger", "reason": "64 CPUs"}
    assert s["central_manager"] == s["access_point"] == {"state": "running"}
    assert [x["draining"] for x in s["slots"]] == [False, True, False]
    assert s["trouble"] == ["lab_janitor: gone", f"lab_executors: {NO_ROOM}", "lab_executors: No such image: x"]
    assert (s["pool"], s["networking"], s["nodes"][0]["name"], s["jobs"]["idle"]) == ("lab", "vip", "n1", 13)


@pytest.mark.parametrize("daemon", ["central_manager", "access_point"])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_daemon_that_does_not_run_makes_the_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], daemon: str, flags: list[str]
) -> None:
    pool_shows(monkeypatch, replace(SHOWN, **{daemon: "starting"}))  # type: ignore[arg-type]
    assert run(["status", *flags]) == 1
    assert "starting" in capsys.readouterr().out


# -- --watch ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--watch"], "stdout is not a terminal"),
        (["--watch", "--json"], "--json prints one document"),
        (["--interval", "5"], "--interval goes with --watch"),
        (["--watch", "--interval", "0"], "saw 0, wanted 0.5 seconds or more"),
        (["--watch", "--interval", "nan"], "saw nan"),
    ],
)
def test_a_watch_that_makes_no_sense_is_refused_before_anybody_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    monkeypatch.setattr(context, "load", lambda _: pytest.fail("asked"))
    assert run(["status", *flags]) == 2
    said = capsys.readouterr()
    assert said.out == "" and words in said.err and "next: " in said.err


@dataclass
class Terminal:
    """A terminal of 80 columns as stdout; `text` is all that was drawn on it."""

    text: str = ""


@contextlib.contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, rows: int) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
    seen, chunks = Terminal(), []

    def read() -> None:
        with contextlib.suppress(OSError):  # a terminal whose other end is closed reads as an error
            while chunk := os.read(ours, 65536):
                chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    try:
        with os.fdopen(theirs, "w") as stdout, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", stdout)
            # rich asks the descriptors 0 to 2 for the size first; those are the test run's.
            patched.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((80, rows)))
            yield seen
    finally:
        reader.join(10)
        os.close(ours)
        seen.text = b"".join(chunks).decode().replace("\r\n", "\n")


ALTERNATE_SCREEN, USUAL_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


def watched(monkeypatch: pytest.MonkeyPatch, rows: int, *answers: Status | BaseException) -> tuple[list[str], str]:
    """What the watch drew, frame by frame, and what it left on the screen; Ctrl-C comes after the answers."""
    pool_shows(monkeypatch, *answers, KeyboardInterrupt())
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert len(slept) <= len(answers), "it looks no more"

    monkeypatch.setattr(time, "sleep", sleep)
    with terminal(monkeypatch, rows) as t:
        code = run(["status", "--watch", "--interval", "7"])
    assert code == 0
    assert slept == [7.0] * len(answers)
    drawn, found, left = t.text.partition(ALTERNATE_SCREEN)[2].partition(USUAL_SCREEN)
    assert found
    return [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", f) for f in drawn.split("\x1b[H")], left


def test_a_watch_draws_each_look_anew_and_leaves_the_last_one_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    later = replace(SHOWN, jobs={"idle": 99}, unserved=())
    frames, left = watched(monkeypatch, 40, SHOWN, later)
    assert "13 idle" in frames[-2] and "99 idle" in frames[-1]
    assert re.match(r"\d\d:\d\d:\d\d, every 7 s until Ctrl-C", frames[-1])
    assert "12 jobs such as 3.0" in frames[-2] and "12 jobs such as 3.0" not in frames[-1]
    assert "trouble: lab_janitor: gone" in frames[-1]
    assert all(len(line) <= 80 for frame in frames for line in frame.splitlines())
    assert "99 idle" in left and "13 idle" not in left and "slot1_1@t2" in left


def test_a_look_that_fails_says_so_above_what_was_seen_before_and_the_watch_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent = EngineUnreachableError("no Docker engine answers")
    frames, left = watched(monkeypatch, 40, silent, SHOWN, silent, replace(SHOWN, jobs={"idle": 99}))
    first, _, third, fourth = frames[-4:]
    assert first.strip() == "no look since the start: no Docker engine answers"
    assert re.match(r"no look since \d\d:\d\d:\d\d: no Docker engine answers", third) and "13 idle" in third
    assert "no look" not in fourth and "99 idle" in fourth
    assert "99 idle" in left


def test_after_a_look_that_failed_managers_are_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = pool_shows(monkeypatch, EngineUnreachableError("no"))
    with pytest.raises(EngineUnreachableError):
        cli._look(cast("Any", fake), CTX)
    assert fake.forgotten == 2, "there was no manager, and the look failed"


def test_in_a_low_window_the_figures_stay_and_slots_are_cut_off_with_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = replace(SHOWN, slots=tuple(slot(f"t{n}") for n in range(30)))
    frames, left = watched(monkeypatch, 20, many)
    lines = [line.rstrip() for line in frames[-1].splitlines()]
    assert len(lines) == 20
    assert any(line.startswith("executors-big") for line in lines)
    shown = sum("slot1@" in line for line in lines)
    assert lines[-1] == f"… {30 - shown} more lines; a taller window shows them" and shown > 0
    assert left.count("slot1@") == 30


def test_in_a_narrow_window_slots_lose_their_least_telling_columns_and_never_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = replace(slot("executors-10-ab12cd", "3100.99"), node="node-with-name-17")
    frames, _ = watched(monkeypatch, 40, replace(SHOWN, slots=(long,), draining=frozenset({long.task})))
    lines = [line.split() for line in frames[-1].splitlines()]
    header = next(line for line in lines if line[:1] == ["SLOT"])
    assert header == ["SLOT", "NODE", "STATE", "JOB"]
    assert ["slot1_1@executors-10-ab12cd", "node-with-name-17", "Claimed", "(draining)", "3100.99"] in lines
