"""What jobs have used, and what people have in use: sums over ClassAds."""

from __future__ import annotations

import time
from typing import Any

import pytest

from swarmhpc._config_fairness import Fairness, Group, Person
from swarmhpc.adapters.condor import classad
from swarmhpc.errors import PoolError, UsageError
from swarmhpc.jobs import quota, usage
from swarmhpc.jobs.usage import Record, record

DONE = {
    "Owner": "alice", "MachineAttrSwarmHpcClass0": "big", "JobStatus": 4, "ExitBySignal": False, "ExitCode": 0,
    "CompletionDate": 5000, "EnteredCurrentStatus": 5000, "RequestCpus": 2, "RequestMemory": 1024, "MemoryUsage": 256,
    "RemoteWallClockTime": 100.0, "CumulativeSlotTime": 200.0, "CumulativeRemoteUserCpu": 90.0,
    "CumulativeRemoteSysCpu": 10.0, "RemoteUserCpu": 90.0, "RemoteSysCpu": 10.0,
}  # fmt: skip


def of(left: bool = False, **changes: object) -> Record:
    return record(classad({k: v for k, v in {**DONE, **changes}.items() if v is not None}), left=left)


def test_a_finished_job_counts_what_it_held_and_what_it_used() -> None:
    assert of() == Record("alice", "", "big", 5000, False, False, 200.0, 100.0, 102400.0, 25600.0)


def test_a_fetched_job_ended_when_it_finished_and_is_no_removed_one() -> None:
    fetched = of(left=True, JobStatus=3, LastJobStatus=4, EnteredCurrentStatus=9000)
    assert (fetched.ended_at, fetched.failed) == (5000, False)


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"ExitCode": 3}, True),
        ({"ExitBySignal": True, "ExitCode": None}, True),
        ({"JobStatus": 3, "LastJobStatus": 2, "CompletionDate": 0}, True),
        ({}, False),
    ],
)
def test_a_job_that_did_not_succeed_counts_as_failed(changes: dict[str, Any], failed: bool) -> None:
    assert of(left=True, **changes).failed is failed


def test_a_removed_job_counts_what_it_held_until_then() -> None:
    gone = of(left=True, JobStatus=3, LastJobStatus=2, CompletionDate=0, EnteredCurrentStatus=7000)
    assert (gone.ended_at, gone.core_s) == (7000, 200.0)


def test_a_running_job_counts_its_lost_attempts_and_what_runs_now() -> None:
    now = of(JobStatus=2, ShadowBday=1000, ServerTime=1010, CompletionDate=0, MemoryUsage=None, RemoteUserCpu=5.0,
             RemoteSysCpu=0.0)  # fmt: skip
    assert (now.ended_at, now.running, now.failed) == (None, True, False)
    assert now.core_s == 200 + 10 * 2
    assert now.cpu_used_s == 100 + 5
    assert now.memory_mib_s == (100 + 10) * 1024
    assert now.used_mib_s is None


def test_numbers_that_are_expressions_are_evaluated_and_nonsense_counts_nothing() -> None:
    ad = classad(
        '[Owner = "a"; JobStatus = 4; RequestCpus = 1 + 1; RequestMemory = MissingOne * 2; RemoteWallClockTime = 10.0;'
        " ResidentSetSize = 4096; MemoryUsage = (ResidentSetSize + 1023) / 1024; CompletionDate = 7; ExitCode = 0]"
    )
    seen = record(ad)
    assert (seen.core_s, seen.memory_mib_s, seen.used_mib_s) == (20.0, 0.0, 40.0)


def job(person: str = "a", **changes: Any) -> Record:
    plain = {"group": "", "class_name": "c", "ended_at": 100, "failed": False, "running": False, "core_s": 3600.0}
    rest = {"cpu_used_s": 1800.0, "memory_mib_s": 1024.0 * 3600, "used_mib_s": 512.0 * 3600}
    return Record(person, **{**plain, **rest, **changes})


def test_sums_are_of_each_person() -> None:
    a, b = usage.sums([job("b"), job("a", failed=True), job("a", ended_at=None, running=True)], by="person", now=0)
    assert (a.name, a.jobs, a.failed, a.running) == ("a", 1, 1, 1)
    assert (b.name, b.jobs, b.core_hours, b.memory_gib_hours) == ("b", 1, 1.0, 1.0)
    assert (b.cpu_efficiency, b.memory_efficiency) == (0.5, 0.5)


def test_jobs_whose_memory_nobody_measured_do_not_count_as_wasting_it() -> None:
    (u,) = usage.sums([job(), job(used_mib_s=None)], by="person", now=0)
    assert u.memory_gib_hours == 2.0 and u.memory_efficiency == 0.5


@pytest.mark.parametrize(("wall_s", "used_s"), [(59.0, None), (60.0, 0.0)])
def test_a_short_job_without_cpu_time_was_not_measured_and_a_long_one_was_idle(
    wall_s: float, used_s: float | None
) -> None:
    none: dict[str, Any] = {
        "CumulativeRemoteUserCpu": 0.0,
        "CumulativeRemoteSysCpu": 0.0,
        "RemoteUserCpu": 0.0,
        "RemoteSysCpu": 0.0,
    }
    assert of(RemoteWallClockTime=wall_s, **none).cpu_used_s == used_s


def test_jobs_whose_cpu_time_nobody_measured_do_not_count_as_wasting_it() -> None:
    (u,) = usage.sums([job(), job(cpu_used_s=None)], by="person", now=0)
    assert u.core_hours == 2.0 and u.cpu_efficiency == 0.5


def test_nothing_held_has_no_efficiency() -> None:
    (u,) = usage.sums([job(core_s=0.0, cpu_used_s=0.0, memory_mib_s=0.0, used_mib_s=None)], by="person", now=0)
    assert u.cpu_efficiency is None and u.memory_efficiency is None


@pytest.mark.parametrize(("by", "names"), [("group", ["", "g"]), ("class", ["big", "c"]), ("person", ["a", "b"])])
def test_sums_can_be_of_other_kinds(by: usage.By, names: list[str]) -> None:
    found = usage.sums([job("b", group="g"), job("a", class_name="big")], by=by, now=0)
    assert [u.name for u in found] == names


def test_a_day_has_what_ended_on_it_and_today_what_runs() -> None:
    noon = time.mktime((2026, 11, 22, 12, 0, 0, 0, 0, -1))
    records = [job(ended_at=int(noon)), job(ended_at=int(noon) - 86400), job(ended_at=None, running=True)]
    found = usage.sums(records, by="day", now=noon + 86400)
    assert [(u.name, u.jobs, u.running) for u in found] == [
        ("2026-11-21", 1, 0), ("2026-11-22", 1, 0), ("2026-11-23", 0, 1),
    ]  # fmt: skip


class OfJobs:
    """A pool as far as usage asks it."""

    def __init__(self, gone: list[dict[str, Any]], there: list[dict[str, Any]]) -> None:
        self.gone, self.there, self.until = gone, there, ""

    def history_ads(self, _constraint: str, _attributes: object, *, until: str) -> list[Any]:
        self.until = until
        return [classad({**DONE, **a}) for a in self.gone]

    def job_ads(self, _constraint: str, _attributes: object) -> list[Any]:
        return [classad({**DONE, **a}) for a in self.there]


def test_only_what_ended_since_then_counts_wherever_it_is() -> None:
    now = int(time.time())
    old, new = {"CompletionDate": now - 9000}, {"CompletionDate": now - 10}
    # Fetched just now, finished long ago; and finished, but not fetched yet.
    fetched = {"JobStatus": 3, "LastJobStatus": 4, "EnteredCurrentStatus": now}
    pool: Any = OfJobs([{**fetched, **old}, {**fetched, **new}], [new, old])
    (u,) = usage.usage(pool, since="1h")
    assert u.jobs == 2
    assert abs(int(pool.until.rpartition(" ")[2]) - (now - 3600)) < 5


@pytest.mark.parametrize(("since", "by"), [("yesterday", "person"), ("1h", "colour")])
def test_nonsense_is_refused(since: str, by: Any) -> None:
    with pytest.raises(UsageError):
        usage.usage(OfJobs([], []), since=since, by=by)  # type: ignore[arg-type]  # as far as it is asked


# ---- quota

RULES = Fairness(
    (Person("al.ice", 500, "phys", max_jobs=3), Person("bob", max_cpus=8)),
    (Group("bio", cpus=4, surplus=False), Group("phys", share_percent=50)),
    (("matlab", 5),),
)


def test_what_runs_is_counted_for_person_group_and_limit() -> None:
    ads = [
        '[Owner = "al.ice"; AcctGroup = "phys"; RequestCpus = 2; ConcurrencyLimits = "matlab:2,swarmhpc_jobs_x"]',
        '[Owner = "al.ice"; AcctGroup = "phys"; RequestCpus = 1; CpusProvisioned = 4]',
        '[Owner = "bob"; RequestCpus = 3; ConcurrencyLimits = strcat("Matlab", ",swarmhpc_cpus_bob:", RequestCpus)]',
        '[Owner = "carol"; RequestCpus = Unknown]',
    ]
    accounts: list[dict[str, Any]] = [
        {"Name": "phys.al.ice@lab", "Priority": 12.5, "PriorityFactor": 500.0},
        {"Name": "dan@lab", "Priority": 9.0, "PriorityFactor": 1000.0},
        {"Name": "phys", "EffectiveQuota": 8.0},
        {"Name": "<none>"},
    ]
    waiting: list[dict[str, Any]] = [
        {"Name": "phys.al.ice@lab", "IdleJobs": 7},
        {"Name": "erin@lab", "IdleJobs": 1},
        {"Name": "f@lab"},
    ]
    found = quota.sums(RULES, quota.running(classad(a) for a in ads), accounts, waiting)
    assert [(p.name, p.group, p.priority_factor, p.priority) for p in found.people] == [
        ("al.ice", "phys", 500, 12.5), ("bob", None, 1000, None), ("carol", None, 1000.0, None),
        ("dan", None, 1000.0, 9.0), ("erin", None, 1000.0, None),
    ]  # fmt: skip
    assert [(p.jobs_running, p.max_jobs, p.cpus_in_use, p.max_cpus, p.jobs_waiting) for p in found.people] == [
        (2, 3, 6, None, 7), (1, None, 3, 8, 0), (1, None, 0, None, 0), (0, None, 0, None, 0), (0, None, 0, None, 1),
    ]  # fmt: skip
    assert [(g.name, g.jobs_running, g.cpus_in_use, g.cpus_allowed) for g in found.groups] == [
        ("bio", 0, 0, 4.0), ("phys", 2, 6, 8.0),
    ]  # fmt: skip
    assert [(limit.name, limit.in_use, limit.allowed) for limit in found.limits] == [("matlab", 3.0, 5)]


class OfRules:
    """A pool whose collector tells `text`."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def daemon_ads(self, _kind: str, attributes: object = ()) -> list[dict[str, str]]:  # noqa: ARG002
        return [{}] if self.text is None else [{"SwarmHpcFairness": self.text}]


@pytest.mark.parametrize("text", [None, "", "{", "{}", "[]", '{"people": 1, "groups": {}, "limits": {}}'])
def test_a_pool_that_does_not_tell_its_rules_is_an_error_with_what_to_do(text: str | None) -> None:
    with pytest.raises(PoolError) as caught:
        quota.rules(OfRules(text))  # type: ignore[arg-type]  # as far as it is asked
    assert "swarmhpc up" in caught.value.hint
