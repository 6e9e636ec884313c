"""Which jobs a selection means, judged by HTCondor's own ClassAd language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from swarmhpc import states
from swarmhpc.adapters import expressions
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.job_ads import job_of
from swarmhpc.errors import PoolError, UsageError
from swarmhpc.jobs import select
from swarmhpc.jobs.select import Selection


def matches(selection: Selection, job: dict[str, Any], person: str = "me") -> bool:
    ad = expressions._ad()
    for name, value in {"ClusterId": 12, "ProcId": 3, "Owner": "me", "JobStatus": 1, "JobUniverse": 5, **job}.items():
        ad[name] = value
    tree = expressions._language().ExprTree(select.expression(selection, person))
    return tree.eval(ad) is True


@pytest.mark.parametrize(
    ("selection", "job", "meant"),
    [
        (Selection(), {}, True),
        (Selection(), {"Owner": "other"}, False),
        (Selection(everyone=True), {"Owner": "other"}, True),
        (Selection(("12",)), {}, True),
        (Selection(("12.3",)), {}, True),
        (Selection(("12.4",)), {}, False),
        (Selection(("11", "12.3")), {}, True),
        (Selection(("12",)), {"Owner": "other"}, False),
        (Selection(name="night"), {"JobBatchName": "night"}, True),
        (Selection(name="night"), {"JobBatchName": "nightly"}, False),
        (Selection(name="night*"), {"JobBatchName": "nightly"}, True),
        (Selection(name="night"), {}, False),
        (Selection(name="B"), {"DAGNodeName": "B"}, True),
        (Selection(name='a"b\\'), {"JobBatchName": 'a"b\\'}, True),
        (Selection(constraint="RequestMemory > 100"), {"RequestMemory": 128}, True),
        (Selection(constraint="RequestMemory > 100"), {"RequestMemory": 64}, False),
        (Selection(constraint="RequestMemory > 100 || true"), {"Owner": "other"}, False),
        (Selection(states=("RUNNABLE", "held")), {"JobStatus": 5, "HoldReasonCode": 34}, True),
        (Selection(("12",), states=("RUNNABLE",)), {"JobStatus": 2}, False),
    ],
)
def test_a_selection_means_these_jobs_and_no_others(selection: Selection, job: dict[str, Any], meant: bool) -> None:
    assert matches(selection, job) is meant


ADS = [
    {"JobStatus": 1},
    {"JobStatus": 2, "JobCurrentStartDate": 10, "JobCurrentStartExecutingDate": 5},
    {"JobStatus": 2, "JobCurrentStartDate": 10, "JobCurrentStartExecutingDate": 10},
    {"JobStatus": 2},
    {"JobStatus": 2, "JobUniverse": 7, "JobCurrentStartDate": 10},
    {"JobStatus": 3},
    {"JobStatus": 4, "ExitCode": 0},
    {"JobStatus": 4, "ExitCode": 1},
    {"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 9},
    {"JobStatus": 4, "ExitBySignal": False, "ExitCode": 0},
    {"JobStatus": 5, "HoldReasonCode": 16},
    {"JobStatus": 5, "HoldReasonCode": 1},
    {"JobStatus": 5, "HoldReasonCode": 15},
    {"JobStatus": 5, "HoldReasonCode": 34},
    {"JobStatus": 6},
    {"JobStatus": 7},
]


@pytest.mark.parametrize("job", ADS, ids=str)
def test_the_expression_of_a_state_means_exactly_the_jobs_that_are_shown_in_it(job: dict[str, Any]) -> None:
    state = job_of({"ClusterId": 12, "ProcId": 3, "JobUniverse": 5, **job}).state
    assert [s for s in states.STATES if matches(Selection(states=(s,)), job)] == [state]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("true) || (true", "nothing that is open"),
        ("(true", "is not closed"),
        ("1 +", "no ClassAd expression"),
        ('Owner == "x', "does not end"),
        ("true // and so on", "comment"),
        ("   ", "no ClassAd expression"),
        ("x == " + "(" * 3000 + "1" + ")" * 3000, "at most 4096"),
        ("a = 1", "no ClassAd expression"),
    ],
)
def test_an_expression_that_is_none_or_would_reach_beyond_its_person_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        select.expression(Selection(constraint=text), "me")


@pytest.mark.parametrize("job", ["x", "", "12.", ".3", "-1", "12.3.4", "1e3", "٣", "9" * 30, "12 || true"])
def test_what_is_no_id_is_refused(job: str) -> None:
    with pytest.raises(UsageError, match="is no job"):
        select.of_id(job)


def test_a_state_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"SUCCEEDED.*HELD"):
        select.expression(Selection(states=("DONE",)), "me")


def test_many_jobs_in_a_row_are_one_short_expression() -> None:
    text = select.of_jobs([(7, i) for i in range(10_000)] + [(9, 4), (7, 10_001)])
    assert text.count("ClusterId") == 3
    assert len(text) < 300
    assert select.of_jobs([]) == "false"


class Queue:
    """One queue and its history, by id and owner."""

    person = "me"

    def __init__(self, here: dict[str, str], gone: dict[str, str]) -> None:
        self.here, self.gone = here, gone

    def _of(self, jobs: dict[str, str], constraint: str) -> list[dict[str, Any]]:
        found = []
        for job, owner in jobs.items():
            cluster, _, process = job.partition(".")
            whole, single = f"(ClusterId == {cluster})", f"(ClusterId == {cluster} && ProcId == {process})"
            if whole in constraint or single in constraint:
                found.append({"ClusterId": int(cluster), "ProcId": int(process), "Owner": owner, "JobCount": 1})
        return found

    def counted(self, constraint: str, _attributes: Sequence[str]) -> list[tuple[dict[str, Any], int]]:
        return [(a, 1) for a in self._of(self.here, constraint)]

    def job_ads(self, constraint: str, _attributes: Sequence[str]) -> list[dict[str, Any]]:
        return self._of(self.here, constraint)

    def history_ads(self, constraint: str, _attributes: Sequence[str], *, most: int) -> list[dict[str, Any]]:
        return [{**a, "RemoveReason": "its results were fetched"} for a in self._of(self.gone, constraint)][:most]


QUEUE = cast(Pool, Queue({"1.0": "me", "2.0": "other", "3.7": "me"}, {"4.0": "me", "5.0": "other"}))


@pytest.mark.parametrize("ids", [("1",), ("1.0", "3"), ("3.7",), ()])
def test_ones_own_jobs_in_the_queue_are_taken(ids: tuple[str, ...]) -> None:
    assert select.constraint_of(QUEUE, Selection(ids)).startswith('Owner == "me"')


@pytest.mark.parametrize("job", ["2", "2.0", "5", "5.0"])
@pytest.mark.parametrize("gone_too", [False, True])
def test_another_persons_job_is_refused_with_the_name_of_its_owner(job: str, gone_too: bool) -> None:
    with pytest.raises(UsageError, match=f"job {job} belongs to other, not to me"):
        select.constraint_of(QUEUE, Selection((job,)), gone_too=gone_too)


@pytest.mark.parametrize(("job", "words"), [("4", "any more .its results were fetched"), ("9", "not in its history")])
def test_a_job_that_has_gone_is_told_as_what_became_of_it(job: str, words: str) -> None:
    with pytest.raises(PoolError, match=words):
        select.constraint_of(QUEUE, Selection((job,)))


def test_a_job_that_has_gone_can_be_asked_for_where_the_history_has_it() -> None:
    assert "ClusterId == 4" in select.constraint_of(QUEUE, Selection(("4",)), gone_too=True)
    with pytest.raises(PoolError):
        select.constraint_of(QUEUE, Selection(("9",)), gone_too=True)


def test_others_jobs_can_be_looked_at_where_everybodys_are_asked_for() -> None:
    assert "Owner" not in select.constraint_of(QUEUE, Selection(("2",), everyone=True))
