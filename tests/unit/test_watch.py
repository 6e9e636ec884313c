"""Waiting for jobs, on a queue that plays a recording."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.job_ads import Job
from swarmhpc.errors import WaitTimeoutError
from swarmhpc.jobs import watch

JOB = Job(7, 0, "me", "completed", 1, 1, 1, 0, None, "", 0, "small", "host", "", "", "/bin/true", "")


class Recording:
    """Answers with one list of jobs after the other, the last one for ever."""

    def __init__(self, *answers: list[Job]) -> None:
        self.answers = list(answers)

    def jobs(self, _constraint: str) -> list[Job]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def wait(*answers: list[Job], timeout_s: float = 20) -> watch.Outcome:
    pool = cast(Pool, Recording(*answers))
    return watch.until_done(pool, "true", on_change=lambda _: None, timeout_s=timeout_s)


def test_jobs_that_are_made_late_are_waited_for() -> None:
    first, second = replace(JOB, unmade=1), replace(JOB, process=1, status="idle")
    outcome = wait([first], [JOB, second], [JOB, replace(second, status="completed")])
    assert [(j.id, j.status) for j in outcome.jobs] == [("7.0", "completed"), ("7.1", "completed")]


def test_a_cluster_that_makes_no_more_because_jobs_are_held_is_not_waited_for() -> None:
    outcome = wait([replace(JOB, unmade=3), replace(JOB, process=1, status="held", unmade=3)])
    assert [j.id for j in outcome.failed] == ["7.1"]


def test_giving_up_while_jobs_are_still_to_be_made_says_so() -> None:
    with pytest.raises(WaitTimeoutError, match="more are still to be made"):
        wait([replace(JOB, unmade=3)], timeout_s=0)
