"""Waiting for jobs and fetching their results, on a queue that plays a recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.job_ads import STATUS, Job
from swarmhpc.errors import AuthenticationError, PoolError, PoolUnreachableError, WaitTimeoutError
from swarmhpc.jobs import watch

JOB = Job(7, 0, "me", "completed", 1, 1, 1, 0, None, "", 0, "small", "host", "", "", "/bin/true", "")
NUMBER = {name: number for number, name in STATUS.items()}
Answer = list[Job] | Exception


def ad(job: Job) -> dict[str, Any]:
    """As the schedd has it."""
    values: dict[str, Any] = {
        "ClusterId": job.cluster,
        "ProcId": job.process,
        "Owner": job.owner,
        "JobStatus": NUMBER[job.status],
        "QDate": job.submitted_at,
        "Cmd": job.command,
        "TotalSubmitProcs": job.process + 1 + job.unmade,
    }
    if job.unmade:
        values["JobMaterializeNextProcId"] = job.process + 1
    if job.exit_code is not None:
        values["ExitCode"] = job.exit_code
    if job.hold_reason:
        values |= {"HoldReason": job.hold_reason, "HoldReasonCode": job.hold_code}
    return values


class Recording:
    """Answers each look with the next list of jobs, the last one for ever."""

    def __init__(self, *answers: Answer, history: Sequence[Job] = ()) -> None:
        self.answers = list(answers)
        self.past = [{**ad(j), "LastJobStatus": 4 if j.status == "completed" else 2} for j in history]
        self.now: list[Job] = [] if isinstance(answers[0], Exception) else answers[0]
        self.looks = 0

    def counted(self, constraint: str, _attributes: Sequence[str]) -> list[tuple[dict[str, Any], int]]:
        if "CompletionDate" in constraint:
            return []
        self.looks += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        self.now = answer
        return [(ad(j), 1) for j in answer]

    def jobs(self, _constraint: str) -> list[Job]:
        return self.now

    def job_ads(self, _constraint: str, _attributes: Sequence[str]) -> list[dict[str, Any]]:
        return [ad(j) for j in self.now]

    def history_ads(self, constraint: str, _attributes: Sequence[str], *, most: int = -1) -> list[dict[str, Any]]:
        ids = re.findall(r"ClusterId == (\d+) && ProcId >= (\d+) && ProcId <= (\d+)", constraint)
        found = [
            a
            for a in self.past
            if not ids or any(a["ClusterId"] == int(c) and int(p) <= a["ProcId"] <= int(q) for c, p, q in ids)
        ]
        return found if most < 0 else found[:most]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes by itself, so that nobody waits for it."""
    clock = [0.0]
    monkeypatch.setattr("swarmhpc.jobs.watch.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("swarmhpc.jobs.watch.time.sleep", lambda s: clock.__setitem__(0, clock[0] + s))


def wait(*answers: Answer, history: Sequence[Job] = (), **options: Any) -> watch.Outcome:
    pool = cast(Pool, Recording(*answers, history=history))
    return watch.until_done(pool, "true", on_change=lambda _: None, **options)


def test_jobs_that_are_made_late_are_waited_for() -> None:
    first, second = replace(JOB, unmade=1), replace(JOB, process=1, status="idle", exit_code=None)
    outcome = wait([first], [JOB, second], [JOB, replace(second, status="completed", exit_code=0)])
    assert [(j.id, j.status) for j in outcome.jobs] == [("7.0", "completed"), ("7.1", "completed")]


def test_a_cluster_that_makes_no_more_because_jobs_are_held_is_not_waited_for() -> None:
    held = replace(JOB, process=1, status="held", exit_code=None, hold_reason="x", hold_code=34, unmade=3)
    outcome = wait([replace(JOB, unmade=3), held], keep_going=True)
    assert [j.id for j in outcome.failed] == ["7.1"]


def test_giving_up_while_jobs_are_still_to_be_made_says_so() -> None:
    with pytest.raises(WaitTimeoutError, match="more are still to be made"):
        wait([replace(JOB, unmade=3)], timeout_s=0)


def test_giving_up_names_a_job_that_goes_on() -> None:
    with pytest.raises(WaitTimeoutError, match=r"1 of 2 jobs have not finished, such as 7\.1"):
        wait([JOB, replace(JOB, process=1, status="running", exit_code=None)], timeout_s=5)


BAD = [
    replace(JOB, process=1, exit_code=3),
    replace(JOB, process=1, status="held", exit_code=None, hold_reason="out of memory", hold_code=34),
]


@pytest.mark.parametrize("bad", BAD, ids=["failed", "held"])
def test_the_first_bad_end_ends_the_wait_and_tells_who_goes_on(bad: Job) -> None:
    busy = replace(JOB, status="running", exit_code=None)
    outcome = wait([busy, replace(busy, process=1)], [busy, bad])
    assert [j.id for j in outcome.failed] == ["7.1"]
    assert [j.id for j in outcome.unfinished] == ["7.0"]


@pytest.mark.parametrize("bad", BAD, ids=["failed", "held"])
def test_keep_going_waits_for_the_others(bad: Job) -> None:
    busy = replace(JOB, status="running", exit_code=None)
    outcome = wait([busy, bad], [busy, bad], [JOB, bad], keep_going=True)
    assert [j.id for j in outcome.failed] == ["7.1"]
    assert outcome.unfinished == []


def test_any_end_ends_with_the_first_that_has_ended() -> None:
    busy = replace(JOB, status="running", exit_code=None)
    outcome = wait([busy, replace(busy, process=1)], [JOB, replace(busy, process=1)], any_end=True)
    assert [j.id for j in outcome.unfinished] == ["7.1"]
    assert outcome.failed == []


def test_a_job_that_is_removed_ends_the_wait_with_its_reason() -> None:
    busy = replace(JOB, status="running", exit_code=None)
    removed = replace(busy, process=1, status="removed")
    outcome = wait([busy, replace(busy, process=1)], [replace(busy)], history=[removed])
    assert outcome.gone == ("7.1",)
    assert [j.id for j in outcome.unfinished] == ["7.0"]


def test_a_job_that_somebody_fetched_meanwhile_has_succeeded() -> None:
    busy = replace(JOB, status="running", exit_code=None)
    # Fetched: removed from the queue, having been completed.
    outcome = wait([busy, replace(busy, process=1)], [busy], [JOB], history=[replace(JOB, process=1)])
    assert (outcome.gone, outcome.failed) == ((), [])
    assert [(j.id, j.status) for j in outcome.jobs] == [("7.0", "completed"), ("7.1", "completed")]


def test_jobs_that_had_left_before_are_told_as_what_they_were() -> None:
    past = [replace(JOB, exit_code=9), replace(JOB, process=1, status="removed", exit_code=None)]
    outcome = wait([], history=past, past=True)
    assert [j.id for j in outcome.failed] == ["7.0"]
    assert outcome.gone == ("7.1",)


def test_a_job_that_left_without_a_trace_is_gone() -> None:
    busy = replace(JOB, status="running", exit_code=None)
    assert wait([busy], []).gone == ("7.0",)


def test_a_pool_that_does_not_answer_for_a_while_is_waited_for() -> None:
    busy = replace(JOB, status="running", exit_code=None)
    outcome = wait([busy], *[PoolUnreachableError("no answer")] * 100, [JOB])
    assert [j.status for j in outcome.jobs] == ["completed"]


def test_a_pool_that_stays_silent_is_given_up_in_the_end() -> None:
    busy = replace(JOB, status="running", exit_code=None)
    with pytest.raises(PoolUnreachableError):
        wait([busy], PoolUnreachableError("no answer"))


def test_a_token_that_expires_meanwhile_ends_the_wait_and_says_that_the_jobs_go_on() -> None:
    busy = replace(JOB, status="running", exit_code=None)
    with pytest.raises(AuthenticationError, match="expired") as seen:
        wait([busy], AuthenticationError("the token expired", hint="ask for a new one"))
    assert seen.value.hint == "the jobs go on; ask for a new one"


def refused() -> AuthenticationError:
    error = AuthenticationError("does not accept the token")
    error.__cause__ = RuntimeError("what the bindings said")
    return error


def test_an_access_point_that_comes_back_may_refuse_the_token_for_a_moment_but_not_for_ever() -> None:
    busy = replace(JOB, status="running", exit_code=None)
    assert [j.status for j in wait([busy], *[refused()] * 10, [JOB]).jobs] == ["completed"]
    with pytest.raises(AuthenticationError, match="does not accept"):
        wait([busy], refused())


def test_only_changes_are_told() -> None:
    busy = replace(JOB, status="running", exit_code=None)
    told: list[watch.Outcome] = []
    pool = Recording([busy], *[[busy]] * 20, [JOB])
    watch.until_done(cast(Pool, pool), "true", on_change=told.append)
    assert [(o.clusters[0].running, o.clusters[0].done) for o in told] == [(1, 0), (0, 1)]
    assert pool.looks == 22


# -- fetching ---------------------------------------------------------------------------------------------------------


class Disk:
    """A pool whose results fit, except those of some jobs."""

    def __init__(self, *bad: str) -> None:
        self.bad = set(bad)
        self.removed: list[str] = []
        self.tried = 0

    def retrieve(self, ids: Sequence[str]) -> None:
        self.tried += 1
        if self.bad & set(ids):
            raise PoolError("no space left")

    def remove(self, ids: Sequence[str], _reason: str) -> int:
        self.removed += ids
        return len(ids)


def test_what_is_fetched_leaves_the_queue_and_what_has_not_finished_stays() -> None:
    disk = Disk()
    jobs = [JOB, replace(JOB, process=1, status="running"), replace(JOB, process=2, exit_code=4)]
    assert [j.id for j in watch.fetch(cast(Pool, disk), jobs)] == ["7.0", "7.2"] == disk.removed


def test_one_job_whose_results_can_not_be_written_does_not_keep_the_others() -> None:
    disk = Disk("7.333")
    jobs = [replace(JOB, process=i) for i in range(1000)]
    with pytest.raises(PoolError, match="999 of 1000 jobs are fetched") as seen:
        watch.fetch(cast(Pool, disk), jobs)
    assert set(disk.removed) == {j.id for j in jobs} - {"7.333"}
    assert "nothing is lost" in seen.value.hint


def test_a_full_disk_is_not_tried_a_thousand_times_and_nothing_leaves_the_queue() -> None:
    jobs = [replace(JOB, process=i) for i in range(1000)]
    disk = Disk(*(j.id for j in jobs))
    with pytest.raises(PoolError, match="0 of 1000"):
        watch.fetch(cast(Pool, disk), jobs)
    assert disk.removed == []
    assert disk.tried < 20


def test_progress_is_told_as_it_is_made() -> None:
    told: list[tuple[int, int]] = []
    watch.fetch(
        cast(Pool, Disk()),
        [replace(JOB, process=i) for i in range(450)],
        on_progress=lambda n, of: told.append((n, of)),
    )
    assert told[-1] == (450, 450)
    assert len(told) > 1
