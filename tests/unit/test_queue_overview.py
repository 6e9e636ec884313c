"""Clusters from counts, and what `q` makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from swarmhpc.adapters.job_ads import Job
from swarmhpc.cli import queue_table
from swarmhpc.errors import UsageError
from swarmhpc.jobs import history
from swarmhpc.jobs.overview import Overview, clusters, counted_of, folded, kind_of, rated

BASE = {"ClusterId": 7, "Owner": "me", "JobUniverse": 5, "TotalSubmitProcs": 10, "QDate": 1000, "Cmd": "/bin/true"}
Counted = list[tuple[dict[str, Any], int]]


def group(status: int, count: int, **more: Any) -> tuple[dict[str, Any], int]:
    return {**BASE, "JobStatus": status, **more}, count


def test_a_cluster_counts_its_jobs_and_those_that_have_left_the_queue_are_done() -> None:
    counted = [
        group(1, 2),
        group(2, 1),
        group(4, 2, ExitCode=0),
        group(4, 1, ExitCode=3),
        group(5, 1, HoldReasonCode=34),
        group(5, 1, HoldReasonCode=16),
    ]
    (c,) = clusters(counted)
    assert (c.idle, c.running, c.done, c.failed, c.held, c.uploading) == (2, 1, 4, 1, 1, 1)
    assert (c.total, c.here, c.left, c.waiting, c.name, c.is_over) == (10, 8, 2, 4, "true", False)


@pytest.mark.parametrize(
    ("counted", "over"),
    [
        ([group(4, 10, ExitCode=0)], True),
        ([group(4, 9, ExitCode=0), group(2, 1)], False),
        ([group(4, 9, ExitCode=0), group(5, 1, HoldReasonCode=1)], True),
        ([group(4, 9, ExitCode=0), group(5, 1, HoldReasonCode=16)], False),
        ([group(4, 4, ExitCode=0, JobMaterializeNextProcId=4)], False),
        ([group(4, 3, ExitCode=0, JobMaterializeNextProcId=4), group(5, 1, JobMaterializeNextProcId=4)], True),
    ],
)
def test_a_cluster_is_over_when_nothing_of_it_changes_by_itself(counted: Counted, over: bool) -> None:
    assert [c.is_over for c in clusters(counted)] == [over]


@pytest.mark.parametrize(
    ("ad", "kind"),
    [
        ({"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 9}, "failed"),
        ({"JobStatus": 4, "ExitCode": 0, "ExitBySignal": False}, "done"),
        ({"JobStatus": 4}, "failed"),
        ({"JobStatus": 6}, "running"),
        ({"JobStatus": 3}, "failed"),
    ],
)
def test_how_a_job_is_counted(ad: dict[str, Any], kind: str) -> None:
    assert kind_of(ad) == kind


def test_a_rate_looks_no_further_back_than_the_submission_and_gives_the_time_left() -> None:
    found = clusters([group(1, 6), group(4, 4, ExitCode=0)])
    (c,) = rated(
        found, [({"ClusterId": 7, "CompletionDate": 1010}, 3), ({"ClusterId": 7, "CompletionDate": 1015}, 1)], now=1020
    )
    assert c.rate_per_s == pytest.approx(0.2)
    assert c.left_s == 30
    (later,) = rated(found, [({"ClusterId": 7, "CompletionDate": 99_990}, 6)], now=100_000)
    assert later.rate_per_s == pytest.approx(0.01)


def test_without_an_end_lately_there_is_no_rate_and_no_time_left() -> None:
    (c,) = rated(clusters([group(1, 10)]), [], now=1020)
    assert (c.rate_per_s, c.left_s) == (None, None)


def test_a_part_of_a_cluster_counts_for_itself() -> None:
    (c,) = clusters([group(1, 2)])
    assert c.done == 8
    part = counted_of(c, 3)
    assert (part.total, part.left, part.done) == (3, 1, 1)


def dag(status: int = 2, **more: Any) -> tuple[dict[str, Any], int]:
    values = {
        "ClusterId": 20,
        "Owner": "me",
        "JobUniverse": 7,
        "TotalSubmitProcs": 1,
        "QDate": 1000,
        "JobStatus": status,
    }
    return {**values, "JobBatchName": "d.dag", "DAG_NodesTotal": 4, "DAG_NodesDone": 1, **more}, 1


def test_a_dag_is_one_line_with_its_nodes_and_the_jobs_that_they_have() -> None:
    node = {**BASE, "ClusterId": 21, "TotalSubmitProcs": 2, "DAGManJobId": 20}
    found = folded(clusters([dag(), ({**node, "JobStatus": 1}, 1), ({**node, "JobStatus": 2}, 1), group(1, 10)]))
    assert [c.cluster for c in found] == [7, 20]
    assert (found[1].idle, found[1].running, found[1].done, found[1].total) == (1, 1, 1, 4)
    assert not found[1].is_over


def test_a_node_whose_dag_is_not_shown_stays_a_line_of_its_own() -> None:
    node = {**BASE, "ClusterId": 21, "DAGManJobId": 20, "JobStatus": 1}
    assert [c.cluster for c in folded(clusters([(node, 10)]))] == [21]


@pytest.mark.parametrize(("status", "more", "failed", "held"), [(4, {"ExitCode": 1}, 1, 0), (5, {}, 0, 1)])
def test_a_dag_that_ended_badly_or_is_held_shows_it_though_no_node_did(
    status: int, more: dict[str, Any], failed: int, held: int
) -> None:
    (c,) = clusters([dag(status, **more)])
    assert (c.failed, c.held, c.is_over) == (failed, held, True)


# -- what is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per_s", "shown"), [(None, "-"), (2.14, "2.1/s"), (0.25, "15/min"), (0.001, "4/h"), (1.0, "1.0/s")]
)
def test_a_rate_is_said_in_a_unit_that_gives_a_number(per_s: float | None, shown: str) -> None:
    assert queue_table.rate(per_s) == shown


def test_a_line_a_cluster() -> None:
    c = Overview(12, "me", "night", 0, idle=2, running=1, done=3, held=1, unmade=4, left=1, total=11, rate_per_s=0.5)
    header, row = queue_table.clusters([c], owners=True)
    assert "  ".join(header.split()) == (
        "CLUSTER  OWNER  NAME  IDLE  RUN  DONE  FAILED  HELD  GONE  TOTAL  RATE  LEFT  SUBMITTED"
    )
    assert row.split() == ["12", "me", "night", "6", "1", "2", "0", "1", "1", "11", "30/min", "14s", "-"]


JOB = Job(7, 1, "me", "completed", 1, 1, 1, 0, None, "", 0, "small", "host", "", "", "/bin/true", "")


def job(**more: Any) -> Job:
    from dataclasses import replace

    return replace(JOB, **more)


def test_a_finished_job_shows_what_it_took_beside_what_it_asked_for() -> None:
    j = job(run_time_s=100, cpus=2, cpu_time_s=150, memory_mib=1024, memory_used_mib=100, state="SUCCEEDED")
    _, row = queue_table.finished([j], owners=False)
    assert "1m40s" in row and "75%" in row and "100 MiB" in row and "1 GiB" in row
    assert queue_table.finished_data(j)["cpu_efficiency"] == 0.75


def test_a_job_that_never_ran_has_no_efficiency() -> None:
    assert queue_table.finished_data(job(run_time_s=0, cpus=1))["cpu_efficiency"] is None


def test_a_reason_of_several_lines_stays_one_line() -> None:
    shown = queue_table.jobs([job(status="held", hold_reason="a\n  b")], owners=False)
    assert len(shown) == 2 and shown[1].endswith("a b")


def test_a_job_in_json_keeps_the_fields_that_it_always_had() -> None:
    fields = {"id", "owner", "status", "attempts", "submitted_at", "started_at", "class", "host", "hold_reason"}
    assert fields | {"exit_code"} <= queue_table.job_data(JOB).keys()


# -- history ----------------------------------------------------------------------------------------------------------


def ad(**more: Any) -> dict[str, Any]:
    return {"ClusterId": 1, "ProcId": 0, "Owner": "me", "JobStatus": 3, **more}


def test_a_job_whose_results_were_fetched_has_finished_and_was_not_removed() -> None:
    assert history.ended(ad(LastJobStatus=4, ExitCode=0)).state == "SUCCEEDED"
    assert history.ended(ad(LastJobStatus=4, ExitCode=2)).exit_code == 2
    assert history.ended(ad(LastJobStatus=2)).status == "removed"


@pytest.mark.parametrize(("text", "at"), [("2h", 92_800), ("90s", 99_910), ("1d", 13_600)])
def test_a_time_ago(text: str, at: int) -> None:
    assert history.moment(text, now=100_000) == at


def test_a_time_of_the_clock_and_what_is_no_time() -> None:
    assert history.moment("2026-11-22T03:00:00+00:00") == 1_795_316_400
    with pytest.raises(UsageError, match="wanted a time ago"):
        history.moment("yesterday")
