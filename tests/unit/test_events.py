"""Events: what the queue's log and the collector say becomes numbered lines; none is lost and none comes twice."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from swarmhpc import wire
from swarmhpc.adapters import hook as adapter
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.errors import AuthenticationError, PoolError, PoolUnreachableError, SwarmHpcError, UsageError
from swarmhpc.gateway import events as gateway_events
from swarmhpc.gateway import hook
from swarmhpc.gateway.changes import Executors, Fields, QueueLog, moment, wanted
from swarmhpc.gateway.events import Lines, Recorder, Request, Tail
from swarmhpc.gateway.journal import Journal
from swarmhpc.jobs import events

T = 1_795_317_000  # 2026-11-22T03:10:00Z
HEADER = f"107 1 CreationTimestamp {T - 500}"

# -- the queue's log, as HTCondor 25.14.1 writes it ---------------------------------------------------------------


def transaction(*lines: str) -> list[str]:
    return ["105 ", *lines, "106 "]


def submitted(job: str = "7.0", owner: str = "bob", *, status: int = 5, at: int = T) -> list[str]:
    cluster, _, process = job.partition(".")
    spooling = [f'103 0{cluster}.-1 HoldReason "Spooling input data files"', f"103 0{cluster}.-1 HoldReasonCode 16"]
    return transaction(
        f"101 0{cluster}.-1 Job Machine",
        f'103 0{cluster}.-1 Owner "{owner}"',
        f"103 0{cluster}.-1 ClusterId {cluster}",
        f"103 0{cluster}.-1 QDate {at}",
        f"103 0{cluster}.-1 EnteredCurrentStatus {at}",
        f'103 0{cluster}.-1 Requirements (TARGET.Arch == "X86_64")',
        *(spooling if status == 5 else []),
        f"101 {job} Job Machine",
        f"103 {job} ProcId {process}",
        f"103 {job} JobStatus {status}",
    )


def spooled(job: str = "7.0", at: int = T + 1) -> list[str]:
    return transaction(
        f'103 {job} ReleaseReason "Data files spooled"',
        f"103 {job} JobStatus 1",
        f"103 {job} HoldReasonCode undefined",
        f"103 {job} EnteredCurrentStatus {at}",
    )


def has_slot(job: str = "7.0", at: int = T + 2, host: str = "executors-1-abc123") -> list[str]:
    """Two transactions: the status first, where and when only in the second."""
    return [
        *transaction(f"103 {job} LastJobStatus 1", f"103 {job} JobStatus 2", f"103 {job} EnteredCurrentStatus {at}"),
        f'103 {job} ClaimId "<10.73.0.5:9618>#1#2#..."',
        *transaction(
            f'103 {job} RemoteHost "slot1_1@{host}.testpool"',
            f'103 {job} MachineAttrSwarmHpcClass0 "executors"',
            f"103 {job} ShadowBday {at}",
            f"103 {job} JobCurrentStartDate {at}",
            f"103 {job} NumShadowStarts 1",
        ),
    ]


def begins(job: str = "7.0", at: int = T + 3) -> list[str]:
    return transaction(f"103 {job} JobCurrentStartExecutingDate {at}")


def ends(job: str = "7.0", at: int = T + 5, code: int = 0) -> list[str]:
    return [
        *transaction(f"103 {job} ExitBySignal false", f"103 {job} ExitCode {code}"),
        *transaction(f"103 {job} LastJobStatus 2", f"103 {job} JobStatus 4", f"103 {job} EnteredCurrentStatus {at}"),
    ]


def removed(job: str = "7.0", at: int = T + 6, why: str = "via condor_rm (by user bob)") -> list[str]:
    return transaction(
        f"103 {job} JobStatus 3", f'103 {job} RemoveReason "{why}"', f"103 {job} EnteredCurrentStatus {at}"
    )


def leaves_queue(job: str = "7.0") -> list[str]:
    return transaction(f"102 {job}", f"102 0{job.partition('.')[0]}.-1")


def live(now: float = T + 3600.0) -> QueueLog:
    log = QueueLog()
    log.feed(HEADER, now)
    log.be_live()
    return log


def told(lines: Sequence[str], log: QueueLog | None = None, now: float = T + 3600.0) -> list[Fields]:
    log = log or live()
    return [event for line in lines for event in log.feed(line, now)]


def states(events: Sequence[Fields]) -> list[tuple[str | None, str]]:
    return [(e["previous"], e["state"]) for e in events]


def test_a_job_goes_from_submitted_to_succeeded_and_each_step_is_told_once() -> None:
    assert states(told([*submitted(), *spooled(), *has_slot(), *begins(), *ends(), *leaves_queue()])) == [
        (None, "SUBMITTED"),
        ("SUBMITTED", "RUNNABLE"),
        ("RUNNABLE", "STARTING"),
        ("STARTING", "RUNNING"),
        ("RUNNING", "SUCCEEDED"),
    ]


def test_an_event_of_a_job_says_who_where_and_how_it_ended() -> None:
    last = told([*submitted(), *spooled(), *has_slot(), *begins(), *ends(code=3)])[-1]
    assert last == {
        "time": "2026-11-22T03:10:05.000Z",
        "kind": "job",
        "id": "7.0",
        "owner": "bob",
        "state": "FAILED",
        "previous": "RUNNING",
        "status": "completed",
        "name": None,
        "dag_node": None,
        "host": "executors-1-abc123",
        "class": "executors",
        "attempt": 1,
        "exit_code": 3,
        "exit_signal": None,
        "hold_code": None,
        "reason": None,
    }


def test_a_job_that_has_a_slot_is_told_with_its_host_and_not_before_that_is_known() -> None:
    log = live()
    told([*submitted(status=1)], log)
    lines = has_slot()
    assert told(lines[:5], log) == []
    assert [(e["state"], e["host"]) for e in told(lines[5:], log)] == [("STARTING", "executors-1-abc123")]


def test_a_second_attempt_in_the_same_second_is_not_running_before_it_is() -> None:
    log = live()
    told([*submitted(status=1), *has_slot(at=T + 2), *begins(at=T + 2)], log)
    evicted = transaction("103 7.0 JobStatus 1", f"103 7.0 EnteredCurrentStatus {T + 4}", "104 7.0 ShadowBday")
    assert states(told(evicted, log)) == [("RUNNING", "RUNNABLE")]
    assert states(told(has_slot(at=T + 5), log)) == [("RUNNABLE", "STARTING")]


def test_a_held_job_has_failed_with_the_reason_and_its_removal_is_told_too() -> None:
    log = live()
    told([*submitted(status=1), *has_slot(), *begins()], log)
    held = transaction(
        '103 7.0 HoldReason "Job has gone over cgroup memory limit of 128 megabytes. \\"Peak\\" usage: 130"',
        "103 7.0 HoldReasonCode 34",
        "103 7.0 JobStatus 5",
        f"103 7.0 EnteredCurrentStatus {T + 4}",
    )
    event = told(held, log)[0]
    assert (event["state"], event["status"], event["hold_code"]) == ("FAILED", "held", 34)
    assert event["reason"] == 'Job has gone over cgroup memory limit of 128 megabytes. "Peak" usage: 130'
    after = told(removed(), log)[0]
    assert (after["previous"], after["state"], after["status"]) == ("FAILED", "FAILED", "removed")
    assert after["reason"] == "via condor_rm (by user bob)"


def test_a_job_that_its_person_holds_waits_and_a_release_says_why() -> None:
    log = live()
    told(submitted(status=1), log)
    held = transaction('103 7.0 HoldReason "via condor_hold"', "103 7.0 HoldReasonCode 1", "103 7.0 JobStatus 5")
    assert states(told(held, log)) == [("RUNNABLE", "PENDING")]
    released = transaction("103 7.0 JobStatus 1", '103 7.0 ReleaseReason "via condor_release"', "104 7.0 HoldReason")
    event = told(released, log)[0]
    assert (event["previous"], event["state"], event["reason"]) == ("PENDING", "RUNNABLE", "via condor_release")


def test_fetching_a_finished_job_removes_it_and_is_no_event() -> None:
    log = live()
    told([*submitted(status=1), *has_slot(), *begins(), *ends()], log)
    assert told([*removed(why="its results were fetched"), *leaves_queue()], log) == []


def test_a_job_that_ends_and_leaves_in_one_transaction_is_still_told() -> None:
    log = live()
    told([*submitted(status=1), *has_slot(), *begins()], log)
    lines = transaction("103 7.0 ExitCode 0", "103 7.0 ExitBySignal false", "103 7.0 JobStatus 4", "102 7.0")
    assert states(told(lines, log)) == [("RUNNING", "SUCCEEDED")]


def test_a_dags_own_job_runs_from_its_start_on() -> None:
    log = live()
    told(submitted(status=1), log)
    told(transaction("103 07.-1 JobUniverse 7"), log)
    assert states(told(has_slot(), log)) == [("RUNNABLE", "RUNNING")]


def test_all_jobs_of_a_transaction_are_told_in_the_order_of_the_log() -> None:
    log = live()
    for job in ("7.0", "8.0", "9.0"):
        told(submitted(job, status=1), log)
    lines = transaction(*(f"103 {job} JobStatus 3" for job in ("9.0", "7.0", "8.0")))
    assert [e["id"] for e in told(lines, log)] == ["9.0", "7.0", "8.0"]


def test_attributes_that_change_no_state_are_no_events() -> None:
    log = live()
    told([*submitted(status=1), *has_slot(), *begins()], log)
    assert (
        told(transaction("103 7.0 MemoryUsage ((ResidentSetSize + 1023) / 1024)", "103 7.0 NumJobStarts 1"), log) == []
    )


def test_a_time_of_just_now_has_the_clocks_milliseconds_and_an_older_one_htcondors_second() -> None:
    assert moment(T, T + 0.25) == "2026-11-22T03:10:00.250Z"
    assert moment(T, T + 3600.25) == "2026-11-22T03:10:00.000Z"


def test_a_renewed_log_tells_only_what_has_changed_since() -> None:
    log = QueueLog()
    for line in [HEADER, *submitted("7.0"), *submitted("8.0"), *submitted("9.0")]:
        log.feed(line, T + 60.0)
    known = {"7.0": ("SUBMITTED", "transferring"), "8.0": ("RUNNABLE", "idle")}
    found = log.caught_up(known, since=T - 1, now=T + 60.0)
    assert [(e["id"], e["previous"], e["state"]) for e in found] == [
        ("8.0", "RUNNABLE", "SUBMITTED"),
        ("9.0", None, "SUBMITTED"),
    ]


def test_a_job_whose_events_are_forgotten_is_not_told_again_as_new() -> None:
    log = QueueLog()
    for line in [HEADER, *submitted("7.0", at=T)]:
        log.feed(line, T + 90_000.0)
    assert log.caught_up({}, since=T + 80_000, now=T + 90_000.0) == []
    assert states(told(spooled(at=T + 90_000), log)) == [("SUBMITTED", "RUNNABLE")]


# -- executors ----------------------------------------------------------------------------------------------------

SLOT = Slot(
    name="slot1@a", executor="a", class_name="executors", node="n1", task="t", cpus=2, memory_mib=1024,
    partitionable=True, state="Unclaimed", activity="Idle", job_id="", total_cpus=2, total_memory_mib=1024,
    activity_age_s=0,
)  # fmt: skip


def executor(name: str, activity: str = "Idle") -> Slot:
    return replace(SLOT, name=f"slot1@{name}", executor=name, activity=activity)


def looks(*slots: Sequence[Slot], trust: bool = True) -> list[tuple[str, str | None, str]]:
    executors = Executors()
    found: list[tuple[str, str | None, str]] = []
    for seen in slots:
        new = executors.look(seen, float(T), trust_absence=trust)
        found += [(e["id"], e["previous"], e["state"]) for e in new]
    return found


def test_executors_that_are_there_at_the_start_are_no_events_and_newcomers_are() -> None:
    assert looks([executor("a")], [executor("a"), executor("b")]) == [("b", None, "appeared")]


def test_an_executor_that_finishes_its_jobs_only_is_draining_and_then_has_left() -> None:
    draining = [executor("a"), executor("a", "Retiring")]
    assert looks([executor("a")], draining, draining, [executor("a")], [], []) == [
        ("a", "appeared", "draining"),
        ("a", "draining", "left"),
    ]


def test_one_look_that_misses_an_executor_is_not_its_leaving() -> None:
    assert looks([executor("a")], [], [executor("a")], [], [executor("a")]) == []


def test_an_empty_collector_that_has_just_come_back_makes_nobody_leave() -> None:
    assert looks([executor("a")], [], [], [], trust=False) == []


# -- who is told --------------------------------------------------------------------------------------------------

JOB: Fields = {"kind": "job", "id": "12.3", "owner": "bob", "state": "RUNNING", "status": "running"}
EXECUTOR: Fields = {"kind": "executor", "id": "a", "state": "left"}


@pytest.mark.parametrize(
    ("event", "person", "ids", "everyone", "told"),
    [
        (JOB, "bob", [], False, True),
        (JOB, "eve", [], False, False),
        (JOB, "eve", [], True, True),
        (JOB, "bob", ["12"], False, True),
        (JOB, "bob", ["12.3"], False, True),
        (JOB, "bob", ["12.30", "1", "2.3"], False, False),
        (JOB, "eve", ["12.3"], False, False),
        (EXECUTOR, "eve", [], False, True),
        (EXECUTOR, "eve", ["a"], True, False),
    ],
)
def test_a_follower_is_told_of_own_jobs_and_executors_unless_asked_otherwise(
    event: Fields, person: str, ids: list[str], everyone: bool, told: bool
) -> None:
    assert wanted(event, person=person, ids=ids, everyone=everyone) is told


# -- journal ------------------------------------------------------------------------------------------------------


def fields(number: int, *, owner: str = "bob", at: str = "2026-11-22T03:10:00.000Z") -> Fields:
    return {"time": at, "kind": "job", "id": f"{number}.0", "owner": owner, "state": "RUNNABLE", "status": "idle"}


def numbers(events: Iterator[Fields] | Sequence[Fields]) -> list[int]:
    return [e["seq"] for e in events]


def test_events_are_numbered_without_a_hole_also_over_a_restart_of_the_gateway(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j")
    first.append([fields(1), fields(2)], ("1/1", 10))
    second = Journal(tmp_path / "j")
    second.append([fields(3)], ("1/1", 20))
    assert numbers(second.after(0)) == [1, 2, 3]
    assert [e["id"] for e in second.after(1)] == ["2.0", "3.0"]
    assert Journal(tmp_path / "j").memory.position == ("1/1", 20)


def test_nobody_else_on_the_access_point_can_read_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append([fields(1)], None)
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o700
    assert [p.stat().st_mode & 0o777 for p in (tmp_path / "j").iterdir()] == [0o600]


def test_full_files_are_kept_up_to_a_number_and_events_stay_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", max_bytes=2000)
    for i in range(1, 101):
        journal.append([fields(i)], ("1/1", i))
    again = Journal(tmp_path / "j")
    kept = numbers(again.after(0))
    assert kept == list(range(kept[0], 101))
    assert 20 < len(kept) < 100
    assert len(list((tmp_path / "j").iterdir())) == 4


def test_half_a_line_of_a_crash_harms_neither_reading_nor_the_next_event(tmp_path: Path) -> None:
    Journal(tmp_path / "j").append([fields(1)], ("1/1", 10))
    with (tmp_path / "j" / "events.jsonl").open("a") as file:
        file.write('{"seq": 2, "time": "2026-')
    journal = Journal(tmp_path / "j")
    journal.append([fields(2)], ("1/1", 20))
    assert numbers(Journal(tmp_path / "j").after(0)) == [1, 2]


def test_a_disk_that_takes_nothing_does_not_keep_events_from_followers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    journal = Journal(tmp_path / "j")
    monkeypatch.setattr(journal, "_write", full)
    journal.append([fields(1)], None)
    assert numbers(journal.recent_after(0) or []) == [1]


# -- following the log's file -------------------------------------------------------------------------------------


class Schedd:
    """A queue's log on disk, and the gateway that follows it."""

    def __init__(self, folder: Path) -> None:
        self.log, self.folder = folder / "job_queue.log", folder / "journal"
        self.renewals = 0
        self.gateway_starts()

    def write(self, lines: Sequence[str]) -> None:
        with self.log.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def renews(self, lines: Sequence[str]) -> None:
        """The ads of now, as whole ads outside of transactions, under another sequence number."""
        self.renewals += 1
        new = self.log.with_suffix(".tmp")
        plain = [line for line in lines if line[:3] not in ("105", "106")]
        new.write_text("".join(f"{line}\n" for line in [f"107 {1 + self.renewals} CreationTimestamp {T}", *plain]))
        new.replace(self.log)

    def gateway_starts(self) -> None:
        self.journal = Journal(self.folder)
        self.recorder = Recorder(self.journal)
        self.tail = Tail(self.log, self.journal, self.recorder.told)

    def look(self, now: float = T + 10.0) -> None:
        self.tail.look(now)

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(e["id"], e["state"]) for e in self.journal.after(0) if e["kind"] == "job"]


@pytest.fixture
def schedd(tmp_path: Path) -> Schedd:
    made = Schedd(tmp_path)
    made.write([HEADER])
    made.look()
    return made


WHOLE = [*submitted(), *spooled(), *has_slot(), *begins(), *ends()]
ALL_STATES = [("7.0", s) for s in ("SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED")]


def test_a_gateway_that_comes_after_jobs_tells_only_what_happens_from_then_on(tmp_path: Path) -> None:
    schedd = Schedd(tmp_path)
    schedd.write([HEADER, *submitted()])
    schedd.look()
    schedd.write(spooled())
    schedd.look()
    assert schedd.told == [("7.0", "RUNNABLE")]


def test_lines_that_are_written_in_pieces_are_read_as_wholes(schedd: Schedd) -> None:
    text = "".join(f"{line}\n" for line in WHOLE)
    for start in range(0, len(text), 37):
        with schedd.log.open("a") as file:
            file.write(text[start : start + 37])
        schedd.look()
    assert schedd.told == ALL_STATES


@pytest.mark.parametrize("seen", range(len(WHOLE) + 1))
def test_a_restart_of_the_gateway_at_any_line_neither_loses_nor_repeats(schedd: Schedd, seen: int) -> None:
    schedd.write(WHOLE[:seen])
    schedd.look()
    schedd.write(WHOLE[seen:])
    schedd.gateway_starts()
    schedd.look()
    assert schedd.told == ALL_STATES


@pytest.mark.parametrize("seen", range(0, len(WHOLE), 3))
def test_a_renewal_of_the_log_neither_loses_nor_repeats(schedd: Schedd, seen: int) -> None:
    schedd.write(WHOLE[:seen])
    schedd.look()
    schedd.write(WHOLE[seen:])
    schedd.renews(WHOLE)
    schedd.look()
    assert schedd.told == ALL_STATES


def test_a_renewal_while_the_gateway_was_away_tells_where_the_jobs_stand_now(schedd: Schedd) -> None:
    schedd.write([*submitted(), *submitted("8.0")])
    schedd.look()
    schedd.renews([*WHOLE, *submitted("8.0"), *submitted("9.0", at=T + 5)])
    schedd.gateway_starts()
    schedd.look()
    assert schedd.told == [("7.0", "SUBMITTED"), ("8.0", "SUBMITTED"), ("7.0", "SUCCEEDED"), ("9.0", "SUBMITTED")]


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    schedd = Schedd(tmp_path)
    assert schedd.tail.look(float(T)) is False
    schedd.write([HEADER])
    schedd.look()
    schedd.write(submitted())
    schedd.look()
    assert schedd.told == [("7.0", "SUBMITTED")]


# -- the verb -----------------------------------------------------------------------------------------------------


def lines_of(journal: Journal, person: str = "bob", **values: Any) -> list[dict[str, Any]]:
    async def read() -> bytes:
        lines = Lines(journal, Request.of(values, journal.last), person)
        return b"".join([part async for part in lines.new()]) + lines.position()

    return [json.loads(line) for line in asyncio.run(read()).splitlines()]


def test_what_a_follower_missed_is_read_back_from_its_number_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append([fields(1), fields(2, owner="eve"), fields(3)], None)
    assert [(e["seq"], e.get("id")) for e in lines_of(journal, after=1)] == [(3, "3.0"), (3, None)]


def test_events_that_memory_no_longer_has_come_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmhpc.gateway.journal.IN_MEMORY", 5)
    journal = Journal(tmp_path / "j")
    for i in range(1, 1301):
        journal.append([fields(i)], ("1/1", i))
    assert [e["seq"] for e in lines_of(journal, after=0)] == [*range(1, 1301), 1300]
    assert all("at" not in e for e in lines_of(journal, after=0))


def test_since_leaves_out_what_happened_before(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append([fields(1), fields(2, at="2026-11-22T03:10:05.500Z")], None)
    assert [e.get("id") for e in lines_of(journal, since=T + 5)] == ["2.0", None]


@pytest.mark.parametrize(
    "values",
    [
        {"after": -1},
        {"after": "1"},
        {"after": True},
        {"since": "yesterday"},
        {"ids": "12"},
        {"ids": [12]},
        {"after": 99},
    ],
)
def test_a_request_of_the_wrong_shape_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(PoolError, match=r"wanted|there is none after 99"):
        Request.of(values, last=7)


def test_a_follower_without_a_number_begins_now() -> None:
    assert Request.of({"follow": True}, last=7).after == 7
    assert Request.of({}, last=7).after == 0


def test_a_bell_wakes_a_follower_from_another_thread(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")

    async def follow() -> bool:
        with journal.listening() as bell:
            threading.Thread(target=journal.append, args=([fields(1)], None)).start()
            return await bell.wait(10)

    assert asyncio.run(follow()) is True


class Listener:
    """A caller of the verb: keeps what is sent, and goes when it has seen enough."""

    def __init__(self, person: str, values: dict[str, Any]) -> None:
        self.person, self.values = person, values
        self.sent: list[dict[str, Any]] = []
        self.ended = False

    async def send(self, data: bytes) -> None:
        self.sent += [json.loads(line) for line in data.splitlines()]

    async def end(self) -> None:
        self.ended = True


def test_a_follower_gets_its_place_first_and_then_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(Journal(tmp_path / "j"))
    recorder.told([fields(1)], ("1/1", 10))
    monkeypatch.setattr(gateway_events, "_recorder", recorder)
    caller = Listener("bob", {"follow": True})

    async def follow() -> None:
        work = asyncio.ensure_future(gateway_events.events(caller))  # type: ignore[arg-type] # all that it uses
        while not caller.sent:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(recorder.told, [fields(2), fields(3, owner="eve")], ("1/1", 20))
        while len(caller.sent) < 2:
            await asyncio.sleep(0.001)
        work.cancel()

    asyncio.run(asyncio.wait_for(follow(), 10))
    assert [(e["seq"], e.get("id")) for e in caller.sent] == [(1, None), (2, "2.0")]


def test_a_follower_to_whom_nothing_happens_is_told_the_newest_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(Journal(tmp_path / "j"))
    monkeypatch.setattr(gateway_events, "_recorder", recorder)
    monkeypatch.setattr(gateway_events, "QUIET_S", 0.05)
    caller = Listener("bob", {"follow": True})

    async def follow() -> None:
        work = asyncio.ensure_future(gateway_events.events(caller))  # type: ignore[arg-type]
        while not caller.sent:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(recorder.told, [fields(1, owner="eve")], ("1/1", 10))
        while caller.sent[-1]["seq"] < 1:
            await asyncio.sleep(0.001)
        work.cancel()

    asyncio.run(asyncio.wait_for(follow(), 10))
    assert caller.sent[-1] == {"seq": 1}


def test_without_following_what_is_kept_is_sent_and_the_answer_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(Journal(tmp_path / "j"))
    recorder.told([fields(1)], ("1/1", 10))
    monkeypatch.setattr(gateway_events, "_recorder", recorder)
    caller = Listener("bob", {})
    asyncio.run(gateway_events.events(caller))  # type: ignore[arg-type]
    assert [e.get("id") for e in caller.sent if "id" in e] == ["1.0"]
    assert caller.ended


# -- a person's side ----------------------------------------------------------------------------------------------


Script = Sequence[bytes | Exception | None]


class FakeGateway:
    """A gateway whose connections break as told. Each script: chunks of bytes, then None (the end) or an error."""

    def __init__(self, *scripts: Sequence[bytes | Exception | None]) -> None:
        self.scripts = list(scripts)
        self.asked: list[dict[str, Any]] = []

    def request(self, verb: str, **values: Any) -> FakeGateway:
        assert verb == "events"
        self.asked.append(values)
        script = self.scripts.pop(0)
        if isinstance(script[0], Exception):
            raise script[0]
        self._script = script
        return self

    def __enter__(self) -> FakeGateway:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        for part in self._script:
            if part is None:
                return
            if isinstance(part, Exception):
                raise part
            yield wire.DATA, part


def line(number: int) -> bytes:
    return json.dumps({"seq": number, **fields(number)}).encode() + b"\n"


BROKEN = PoolUnreachableError("the connection to the gateway broke")


def seen(gateway: FakeGateway, **values: Any) -> list[int]:
    return [e.seq for e in events.events(gateway, **values)]  # type: ignore[arg-type] # all that it uses


def test_a_follower_goes_on_after_a_break_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    first: Script = [b'{"seq": 4}\n', line(5), line(7)[:20], BROKEN]
    gateway = FakeGateway(first, [BROKEN], [line(7), b'{"seq": 9}\n', BROKEN], [line(12), None])
    assert seen(gateway, follow=True) == [5, 7, 12]
    assert [a.get("after") for a in gateway.asked] == [None, 5, 5, 9]


def test_an_access_point_that_refuses_while_it_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    refused = AuthenticationError("the access point does not accept the token")
    gateway = FakeGateway([line(5), BROKEN], [refused], [PoolError("Failed to start command")], [line(6), None])
    assert seen(gateway, follow=True) == [5, 6]


def test_a_refusal_out_of_the_blue_ends_the_following() -> None:
    with pytest.raises(PoolError, match="no more"):
        seen(FakeGateway([line(5), PoolError("no more")]), follow=True)


def test_lines_that_come_in_pieces_are_whole_events() -> None:
    data = line(1) + line(2)
    assert seen(FakeGateway([data[:9], data[9:-1], data[-1:], None])) == [1, 2]


def test_a_silent_access_point_is_given_up_in_the_end() -> None:
    gateway = FakeGateway([b'{"seq": 1}\n', BROKEN], *([BROKEN] for _ in range(9)))
    with pytest.raises(PoolUnreachableError):
        seen(gateway, follow=True, patience_s=0)


@pytest.mark.parametrize("follow", [True, False])
def test_a_gateway_that_is_not_there_at_first_is_told_at_once(follow: bool) -> None:
    with pytest.raises(PoolUnreachableError):
        seen(FakeGateway([BROKEN]), follow=follow)


@pytest.mark.parametrize(
    ("text", "wanted_s"),
    [("10m", T - 600), ("1h30m", T - 5400), ("2026-11-22T03:10:00Z", T), ("2026-11-22 04:10:00+01:00", T)],
)
def test_a_time_is_so_long_ago_or_a_date(text: str, wanted_s: float) -> None:
    assert events.since_s(text, now=float(T)) == wanted_s


@pytest.mark.parametrize("text", ["soon", "", "2026-13-01", "-5m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        events.since_s(text, now=float(T))


@pytest.mark.parametrize("job", ["x", "0", "12.", "12.0.1", "12.0 || true", ""])
def test_what_is_no_job_is_refused_before_anybody_is_asked(job: str) -> None:
    with pytest.raises(UsageError, match="is no job"):
        seen(FakeGateway(), ids=[job])


# -- the hook -----------------------------------------------------------------------------------------------------


def test_a_hook_gets_each_event_of_its_states_as_a_line_of_json(tmp_path: Path) -> None:
    got: list[bytes] = []
    made = hook.Hook(got.append, frozenset({"FAILED"}))
    for state in ("RUNNING", "FAILED", "SUCCEEDED"):
        made.offer({**fields(1), "state": state})
    assert made.idle(10)
    assert [json.loads(body)["state"] for body in got] == ["FAILED"]


def test_a_hook_that_fails_or_hangs_delays_no_event_and_is_counted() -> None:
    go = threading.Event()

    def deliver(_: bytes) -> None:
        go.wait(30)
        raise SwarmHpcError("no")

    made = hook.Hook(deliver, most_waiting=3)
    before = time.monotonic()
    for i in range(100):
        made.offer(fields(i))
    assert time.monotonic() - before < 5
    go.set()
    assert made.idle(10)
    counts = made.counts
    assert (counts.done, counts.failed + counts.dropped) == (0, 100)
    assert 3 <= counts.failed <= 4


def run(text: str, body: bytes = b"{}\n", *, timeout_s: float = 10) -> None:
    adapter.run_command(text, body, timeout_s=timeout_s, prefix=())


def test_a_command_gets_the_event_on_its_standard_input_and_little_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    run(f"cat > {tmp_path}/event; env > {tmp_path}/env", b'{"id": "1.0"}\n')
    assert (tmp_path / "event").read_text() == '{"id": "1.0"}\n'
    assert "SECRET" not in (tmp_path / "env").read_text()


def test_a_commands_text_is_nobodys_argument(tmp_path: Path) -> None:
    run(f"tr '\\0' ' ' < /proc/$$/cmdline > {tmp_path}/seen # s3cret")
    assert "s3cret" not in (tmp_path / "seen").read_text()


def test_a_command_that_reads_nothing_is_no_failure() -> None:
    run("exit 0", b"x" * 30_000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo no such channel >&2; exit 3", "code 3: no such channel"),
        ("/no/such/program", "code 127"),
        ("head -c 100000 /dev/zero | tr '\\0' y >&2; exit 1", "code 1: y"),
    ],
)
def test_a_command_that_fails_is_told_with_the_end_of_what_it_said(text: str, words: str) -> None:
    with pytest.raises(SwarmHpcError, match=words) as e:
        run(text)
    assert len(e.value.message) < 500


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    with pytest.raises(SwarmHpcError, match="still running after"):
        run(f"sleep 600 & echo $! > {tmp_path}/pid; wait", timeout_s=0.5)
    pid = int((tmp_path / "pid").read_text())
    assert gone(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


def gone(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change accounts")
def test_a_command_runs_as_an_account_that_may_do_nothing() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        adapter.run_command(f"cat /proc/self/status > {folder}/status", b"{}", timeout_s=10)
        status = dict(line.split(":", 1) for line in (Path(folder) / "status").read_text().splitlines())
    assert status["Uid"].split() == ["6100"] * 4
    assert status["NoNewPrivs"].strip() == "1"
    assert {status[c].strip() for c in ("CapPrm", "CapEff", "CapBnd")} == {"0" * 16}


@pytest.fixture
def web() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An HTTP server: its address, and what it was sent. The path's last word is how it answers."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))))
            code = int(self.path.rpartition("/")[2].partition("?")[0])
            self.send_response(code)
            if code == 302:
                self.send_header("Location", "/elsewhere/200")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            return None

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_url_gets_the_event_as_json(web: tuple[str, list[tuple[str, bytes]]]) -> None:
    address, got = web
    adapter.post(f"{address}/200", b'{"id": "1.0"}\n', timeout_s=10)
    assert got == [("application/json", b'{"id": "1.0"}\n')]


@pytest.mark.parametrize("code", [302, 404, 500])
def test_a_url_that_answers_otherwise_is_a_failure_without_its_secret(
    web: tuple[str, list[tuple[str, bytes]]], code: int
) -> None:
    address, got = web
    with pytest.raises(SwarmHpcError, match=f"answered {code}") as e:
        adapter.post(f"{address}/hooks/s3cret/{code}?token=s3cret", b"{}", timeout_s=10)
    assert "s3cret" not in e.value.message
    assert len(got) == 1


def test_a_url_that_nobody_answers_is_a_failure_without_its_secret() -> None:
    with pytest.raises(SwarmHpcError, match=r"http://127\.0\.0\.1:9 can't be reached") as e:
        adapter.post("http://me:s3cret@127.0.0.1:9/s3cret", b"{}", timeout_s=10)
    assert "s3cret" not in f"{e.value.message} {e.value.hint}"


def test_the_access_point_finds_its_hook_in_the_file_that_up_gives_it(
    tmp_path: Path, web: tuple[str, list[tuple[str, bytes]]]
) -> None:
    address, got = web
    file = tmp_path / "on-event.json"
    assert hook.from_file(file) is None
    file.write_text(json.dumps({"url": f"{address}/200", "states": ["FAILED"]}))
    made = hook.from_file(file)
    assert made is not None
    made.offer({**fields(1), "state": "FAILED"})
    made.offer({**fields(2), "state": "RUNNING"})
    assert made.idle(10)
    assert [json.loads(body)["id"] for _, body in got] == ["1.0"]
