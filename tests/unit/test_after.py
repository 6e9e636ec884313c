"""`submit --after`: what is waited for, what is refused at once, and the DAG that is made of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from swarmhpc.errors import PoolError, SwarmHpcError, UsageError
from swarmhpc.jobs import after
from swarmhpc.jobs import submit as wing
from swarmhpc.jobs.translate import Translation

SUB = "universe = docker\ndocker_image = debian:12\nexecutable = /bin/sh\nrequest_memory = 64M\n"


class Pool:
    """A queue, its history, and what was put into it: the DAG's description and all that was sent."""

    def __init__(self, here: list[dict[str, Any]] | None = None, gone: list[dict[str, Any]] | None = None) -> None:
        self.here, self.gone = here or [], gone or []
        self.text = ""
        self.sent: dict[str, str] = {}
        self.rows: list[list[str]] = []

    def _those(self, ads: list[dict[str, Any]], constraint: str) -> list[dict[str, Any]]:
        process = re.search(r"ProcId == (\d+)", constraint)
        cluster = re.search(r"ClusterId == (\d+)", constraint)
        assert cluster is not None
        return [
            a for a in ads
            if a["ClusterId"] == int(cluster[1]) and (process is None or a["ProcId"] == int(process[1]))
        ]  # fmt: skip

    def job_ads(self, constraint: str, _attributes: Sequence[str]) -> list[dict[str, Any]]:
        return self._those(self.here, constraint)

    def history_ads(self, constraint: str, _attributes: Sequence[str]) -> list[dict[str, Any]]:
        return self._those(self.gone, constraint)

    def submit(self, text: str, *, names: Sequence[str], rows: Iterable[Sequence[str]], spool: bool) -> int:
        self.text, self.rows = text, [list(r) for r in rows]
        folder = re.search(r"transfer_input_files = (.*)/\n", text)
        if folder is not None and "universe = scheduler" in text:
            for path in Path(folder[1]).rglob("*"):
                if path.is_file():
                    self.sent[str(path.relative_to(folder[1]))] = path.read_text()
        assert spool == ("universe = scheduler" in text)
        assert names
        return 40


def ad(process: int, status: int, code: int | None = None, total: int = 3, **more: Any) -> dict[str, Any]:
    found = {"ClusterId": 12, "ProcId": process, "JobStatus": status, "TotalSubmitProcs": total, **more}
    return found if code is None else found | {"ExitCode": code, "ExitBySignal": False}


FETCHED = {"LastJobStatus": 4, "CompletionDate": 9}


def three(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Translation:
    monkeypatch.chdir(folder)
    (folder / "b.sub").write_text(SUB + "arguments = $(Process)\noutput = out.$(Process)\nqueue 3\n")
    return wing.prepare(folder / "b.sub", cwd=folder, limits=wing.NO_POOL)


def submit(pool: Pool, translation: Translation, **options: Any) -> int:
    done = after.submit(pool, translation, **options)  # type: ignore[arg-type]
    assert [(d.cluster, d.jobs) for d in done] == [(40, 3)]
    return done[0].cluster


def test_jobs_that_wait_for_a_cluster_are_one_node_with_a_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool([ad(0, 2), ad(1, 4, 0), ad(2, 1)])
    submit(pool, three(tmp_path, monkeypatch), after=["12"])
    dag = pool.sent["dag/after.dag"].split("\n")
    assert [line.split()[:2] for line in dag if line.startswith("JOB ")] == [["JOB", "jobs"]]
    assert sum("\x1f" in line for line in dag) == 3
    assert any(re.fullmatch(r"SCRIPT DEFER 75 1 PRE jobs (\.\./)+dag/gate jobs", line) for line in dag)
    plan = json.loads(pool.sent["dag/plan.json"])
    assert plan["after"] == {"on": "success", "gates": {"jobs": ["12"]}}
    assert plan["cwd"] == str(tmp_path)
    assert 'MY.SwarmHpcDagNodes = "jobs"' in pool.text


def test_each_job_is_a_node_with_a_gate_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool([ad(1, 4, 5), ad(2, 1)], [ad(0, 3, 0, **FETCHED)])
    submit(pool, three(tmp_path, monkeypatch), after=["12"], each=True)
    plan = json.loads(pool.sent["dag/plan.json"])
    assert plan["after"]["gates"] == {"job0": ["12.0"], "job1": ["12.1"], "job2": ["12.2"]}
    assert plan["nodes"] == ["job0", "job1", "job2"]


def test_one_after_the_other_is_a_chain_and_only_the_first_waits_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool([ad(0, 2, total=1)])
    submit(pool, three(tmp_path, monkeypatch), after=["12.0"], sequential=True, on="any")
    dag = pool.sent["dag/after.dag"]
    assert re.findall(r"^PARENT .*", dag, re.MULTILINE) == ["PARENT job0 CHILD job1", "PARENT job1 CHILD job2"]
    assert len(re.findall(r"^SCRIPT .*PRE", dag, re.MULTILINE)) == 1
    assert len(re.findall(r"^SCRIPT POST", dag, re.MULTILINE)) == 3  # goes on after a failure
    assert "SwarmHpcDagEdges = " in pool.text and '"0>1;1>2"' in pool.text


@pytest.mark.parametrize(
    ("here", "gone", "on"),
    [
        ([ad(n, 4, 0) for n in range(3)], [], "success"),
        ([], [ad(n, 3, 0, **FETCHED) for n in range(3)], "success"),
        ([ad(0, 4, 1), ad(1, 4, 0)], [ad(2, 3)], "failure"),
        ([ad(0, 4, 1), ad(1, 4, 0)], [ad(2, 3)], "any"),
    ],
)
def test_what_is_over_already_is_not_waited_for(
    here: list[Any], gone: list[Any], on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(here, gone)
    submit(pool, three(tmp_path, monkeypatch), after=["12"], on=on)
    assert "universe = docker" in pool.text and len(pool.rows) == 3


@pytest.mark.parametrize(
    ("here", "gone", "options", "words"),
    [
        ([ad(0, 4, 3), ad(1, 2), ad(2, 1)], [], {}, "job 12.0 ended with code 3"),
        ([ad(0, 2), ad(1, 2)], [ad(2, 3)], {}, "job 12.2 was removed"),
        ([ad(0, 4, ExitBySignal=True, ExitSignal=9, total=1)], [], {}, "job 12.0 ended by signal 9"),
        ([ad(n, 4, 0) for n in range(3)], [], {"on": "failure"}, "nothing to do"),
        ([ad(0, 2, total=2), ad(1, 2, total=2)], [], {"each": True}, "3 jobs are to wait for 2 jobs of 12"),
    ],
)
def test_what_can_never_begin_is_refused(
    here: list[Any],
    gone: list[Any],
    options: dict[str, Any],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(here, gone)
    with pytest.raises(UsageError, match=re.escape(words)):
        after.submit(pool, three(tmp_path, monkeypatch), after=["12"], **options)  # type: ignore[arg-type]
    assert not pool.text


def test_a_job_that_nobody_knows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PoolError, match="12 is neither in the queue nor in its history"):
        after.submit(Pool(), three(tmp_path, monkeypatch), after=["12"])  # type: ignore[arg-type]


def test_jobs_that_are_made_late_are_waited_for() -> None:
    found = after.parents(Pool([ad(0, 4, 0, total=3)]), ["12"])  # type: ignore[arg-type]
    assert [(p.id, p.ended) for p in found] == [("12.0", True), ("12.1", False), ("12.2", False)]


@pytest.mark.parametrize(
    "options",
    [
        {"each": True},
        {"after": ["12"], "each": True, "sequential": True},
        {"on": "failure"},
        {"sequential": True, "on": "failure"},
        {"after": ["12"], "on": "sometimes"},
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SwarmHpcError) as caught:
        after.check(**{"after": [], "each": False, "sequential": False, "on": "success", **options})
    assert caught.value.hint
