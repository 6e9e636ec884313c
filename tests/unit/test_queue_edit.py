"""What `edit` refuses before anything is changed, and what it writes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from swarmhpc.adapters import expressions
from swarmhpc.adapters.condor import Pool
from swarmhpc.errors import UsageError
from swarmhpc.jobs import edit
from swarmhpc.jobs.requirement_terms import terms

ADDED = (
    '(TARGET.Arch == "X86_64") && (TARGET.OpSys == "LINUX") && (versionGE(split(TARGET.CondorVersion)[1],"25.12.0") || '
    "(TARGET.Disk >= RequestDisk)) && (TARGET.Memory >= RequestMemory) && (TARGET.HasFileTransfer)"
)
"""What condor_submit 25.14 adds (seen in the queue)."""


class Queue:
    """Jobs of one status, and a pool with one class of 2 CPUs and 1 GiB."""

    pool = "p"

    def __init__(self, status: int = 1, requirements: str = ADDED, jobs: int = 2) -> None:
        self.status, self.requirements, self.jobs = status, requirements, jobs
        self.written: dict[str, str] = {}
        self.where: list[str] = []

    def job_ads(self, _constraint: str, _attributes: list[str]) -> list[Any]:
        ads = []
        for i in range(self.jobs):
            ad = expressions._ad()
            values = {"ClusterId": 12, "ProcId": i, "JobStatus": self.status, "RequestCpus": 1, "RequestMemory": 128}
            for name, value in values.items():
                ad[name] = value
            ad["Requirements"] = expressions._parsed(self.requirements)
            ads.append(ad)
        return ads

    def set_attribute(self, jobs: str, name: str, expression: str) -> int:
        self.where.append(jobs)
        self.written[name] = expression
        return self.jobs

    def classes(self) -> list[tuple[str, int, int, int]]:
        return [("executors", 2, 1024, 0)]

    def slot_texts(self) -> list[tuple[str, str]]:
        return []


def changed(queue: Queue, **changes: str) -> dict[str, str]:
    assert edit.edit(cast(Pool, queue), "ClusterId == 12", changes) == queue.jobs
    return queue.written


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({"memory": "1G"}, {"RequestMemory": "1024"}),
        ({"memory": "100.5 MiB"}, {"RequestMemory": "101"}),
        ({"memory": "300"}, {"RequestMemory": "300"}),
        ({"disk": "2MB"}, {"RequestDisk": "2048"}),
        ({"cpus": "2", "priority": "-5"}, {"RequestCpus": "2", "JobPrio": "-5"}),
        ({"gpus": "0"}, {"RequestGPUs": "0"}),
    ],
)
def test_values_are_written_in_htcondors_own_units(changes: dict[str, str], written: dict[str, str]) -> None:
    assert changed(Queue(), **changes) == written


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory": "900G"}, "largest class executors has 1 GiB"),
        ({"cpus": "3"}, "3 CPUs"),
        ({"memory": "lots"}, "wanted a size"),
        ({"memory": "0"}, "wanted a size"),
        ({"cpus": "1.5"}, "wanted 1 or more"),
        ({"cpus": "-1"}, "wanted 1 or more"),
        ({"gpus": "1"}, "at most 0"),
        ({"gpus": "-1"}, "0 or more"),
        ({"priority": "high"}, "wanted a number"),
        ({"priority": "99999999999"}, "wanted a number"),
        ({"class_name": "big"}, "this pool has executors"),
        ({"requirements": "1 +"}, "no ClassAd expression"),
        ({"requirements": "true) || (true"}, "nothing that is open"),
        ({"requirements": ""}, "no ClassAd expression"),
        ({"requirements": 'Arch == "SPARC"'}, "no executor can meet"),
        ({"universe": "docker"}, "can't be edited"),
        ({}, "nothing is to be changed"),
        ({"priority": "5", "cpus": "77"}, "77 CPUs"),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_is_changed(changes: dict[str, str], words: str) -> None:
    queue = Queue()
    with pytest.raises(UsageError, match=words):
        edit.edit(cast(Pool, queue), "true", changes)
    assert queue.written == {}


@pytest.mark.parametrize(("status", "words"), [(2, "is running"), (4, "is completed"), (6, "is transferring")])
def test_a_job_that_has_begun_or_ended_is_not_changed(status: int, words: str) -> None:
    queue = Queue(status)
    with pytest.raises(UsageError, match=words):
        edit.edit(cast(Pool, queue), "true", {"memory": "1G"})
    assert queue.written == {}


def test_a_job_that_begins_in_that_very_moment_is_left_alone_by_the_schedd() -> None:
    queue = Queue(5)
    changed(queue, memory="1G", requirements="Memory > 10")
    assert all(edit.WAITING in where for where in queue.where)


def test_a_class_is_added_to_what_the_job_wanted_before() -> None:
    text = edit.requirements(f"(Memory > 10) && {ADDED}", None, "big")
    assert {"Memory > 10", 'TARGET.SwarmHpcClass == "big"', "TARGET.HasFileTransfer"} <= {t.text for t in terms(text)}


def test_another_class_takes_the_place_of_the_one_before() -> None:
    once = edit.requirements(f'(SwarmHpcClass == "small") && {ADDED}', None, "big")
    twice = edit.requirements(once, None, "huge")
    assert '"small"' not in once and '"big"' not in twice and twice.count("SwarmHpcClass") == 1


def test_other_requirements_take_the_place_of_the_persons_own_and_leave_what_htcondor_added() -> None:
    text = edit.requirements(f"(Memory > 10 || Cpus > 1) && {ADDED}", "Memory > 20", None)
    assert "Memory > 20" in text and "Cpus > 1" not in text
    assert text.count("TARGET.HasFileTransfer") == 1 and "RequestDisk" in text
    assert expressions.ClassAds().parses(text)


def test_requirements_that_bind_less_than_and_stay_together() -> None:
    text = edit.requirements(ADDED, "Memory > 20 || Cpus > 1", "big")
    assert "(Memory > 20 || Cpus > 1) && " in text
