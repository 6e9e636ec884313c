"""images/pool/dagman: what it brings back, what it tells, and what it answers to nodes that wait for other clusters."""

from __future__ import annotations

import os
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.command_line import TOP


@pytest.fixture
def dagman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module, in an empty sandbox."""
    for name in ("dag", "tree"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDOR_ID", "7.0")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("dagman", str(TOP / "images" / "pool" / "dagman"))
    spec = spec_from_loader("dagman", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


class Queue:
    """A schedd with some jobs in its queue and some in its history."""

    def __init__(self, here: list[dict[str, Any]], gone: list[dict[str, Any]] | None = None) -> None:
        self.here, self.gone, self.histories = here, gone or [], 0
        self.edits: dict[tuple[str, str], str] = {}

    def Schedd(self) -> Queue:  # noqa: N802 - htcondor2's name
        return self

    def query(self, _constraint: str, _attributes: list[str]) -> list[dict[str, Any]]:
        return self.here

    def history(self, _constraint: str, _attributes: list[str]) -> list[dict[str, Any]]:
        self.histories += 1
        return self.gone

    def edit(self, job: str, name: str, value: str) -> None:
        self.edits[job, name] = value


def job(process: int, status: int, code: int | None = None, total: int = 2, **more: Any) -> dict[str, Any]:
    ad = {"ClusterId": 12, "ProcId": process, "JobStatus": status, "TotalSubmitProcs": total, **more}
    return ad if code is None else ad | {"ExitCode": code, "ExitBySignal": False}


def answer(dagman: ModuleType, queue: Queue, on: str, ids: list[str], rounds: int = 1) -> tuple[str, str, str]:
    """(word, why, what it waits for) after some rounds."""
    sys.modules["htcondor2"] = queue  # type: ignore[assignment]
    try:
        watcher = dagman.Watcher({"on": on, "gates": {"n": ids}})
        teller = SimpleNamespace(waits="", refused={})
        for _ in range(rounds):
            if watcher.open:
                watcher.round(teller)
    finally:
        del sys.modules["htcondor2"]
    path = dagman.path("n")
    word, why = path.read_text().split("\n")[:2] if path.exists() else ("", "")
    return word, why, teller.waits


FETCHED = {"LastJobStatus": 4, "CompletionDate": 5}


@pytest.mark.parametrize(
    ("on", "here", "gone", "word", "why"),
    [
        ("success", [job(0, 4, 0), job(1, 2)], [], "", ""),
        ("success", [job(0, 4, 0), job(1, 4, 0)], [], "go", ""),
        ("success", [job(0, 4, 3), job(1, 2)], [], "no", "did not run: job 12.0 ended with code 3"),
        ("success", [job(1, 4, 0)], [job(0, 3, 0, **FETCHED)], "go", ""),
        ("success", [job(1, 4, 0)], [job(0, 3)], "no", "did not run: job 12.0 was removed"),
        ("success", [], [job(0, 3, 0, **FETCHED), job(1, 3, 0, **FETCHED)], "go", ""),
        ("success", [job(0, 5), job(1, 4, 0)], [], "", ""),
        ("failure", [job(0, 4, 0), job(1, 4, 0)], [], "skip", ""),
        ("failure", [job(0, 4, 1), job(1, 2)], [], "", ""),
        ("failure", [job(0, 4, 1), job(1, 4, 0)], [], "go", ""),
        ("any", [job(0, 4, 1)], [job(1, 3)], "go", ""),
        ("any", [job(0, 4, 1), job(1, 1)], [], "", ""),
    ],
)
def test_a_cluster_is_answered_for_once_it_is_decided(
    dagman: ModuleType, on: str, here: list[dict[str, Any]], gone: list[dict[str, Any]], word: str, why: str
) -> None:
    assert answer(dagman, Queue(here, gone), on, ["12"])[:2] == (word, why)


def test_one_job_does_not_wait_for_its_neighbours(dagman: ModuleType) -> None:
    assert answer(dagman, Queue([job(0, 4, 0), job(1, 2)]), "success", ["12.0"])[0] == "go"


def test_what_is_waited_for_is_told(dagman: ModuleType) -> None:
    assert answer(dagman, Queue([job(0, 4, 0), job(1, 2)]), "success", ["12"])[2] == "12 (1 of 2 not finished)"


def test_jobs_that_are_not_made_yet_are_waited_for(dagman: ModuleType) -> None:
    assert answer(dagman, Queue([job(0, 4, 0, total=10)]), "success", ["12"], rounds=5)[0] == ""


def test_a_job_that_just_left_the_queue_is_looked_for_again_before_it_is_given_up(dagman: ModuleType) -> None:
    queue = Queue([])
    assert answer(dagman, queue, "success", ["12.0"], rounds=2)[0] == ""
    word, why, _ = answer(dagman, queue, "success", ["12.0"], rounds=4)
    assert (word, why) == ("no", "did not run: job 12.0 is neither in the queue nor in its history")


def test_the_history_is_not_read_again_and_again(dagman: ModuleType) -> None:
    queue = Queue([job(1, 2)], [job(0, 3, 0, **FETCHED)])
    answer(dagman, queue, "any", ["12"], rounds=20)
    assert queue.histories <= 3


def test_new_and_changed_files_come_back_and_nothing_else(dagman: ModuleType, tmp_path: Path) -> None:
    home = tmp_path / "tree" / "home" / "a"
    home.mkdir(parents=True)
    for name in ("same", "changed", "old"):
        (home / name).write_text("before")
    before = dagman.remembered()
    (home / "changed").write_text("behind")
    os.utime(home / "changed", ns=(1, 1))
    (home / "new").mkdir()
    (home / "new" / "one").write_text("1")
    (home / "x.dag.lock").write_text("")
    assert dagman.remembered() == before  # also after a restart it is the first look that counts
    dagman.collect(before)
    dagman.collect(before)  # ended in the middle and began again
    out = tmp_path / "out"
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
        "home/a/changed", "home/a/new/one",
    ]  # fmt: skip


STATUS = """[
  Type = "DagStatus";
  DagStatus = 3;
]
[
  Type = "NodeStatus";
  Node = "A";
  NodeStatus = 5; /* "STATUS_DONE" */
  StatusDetails = "";
]
[
  Type = "NodeStatus";
  Node = "S+B";
  NodeStatus = 6; /* "STATUS_ERROR" */
  StatusDetails = "Job proc (9.0.0) failed with status 3";
]
"""


def test_the_ad_is_told_how_nodes_stand_and_why_they_failed_once(dagman: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "status").write_text(STATUS)
    queue = Queue([])
    sys.modules["htcondor2"] = queue  # type: ignore[assignment]
    try:
        teller = dagman.Teller(tmp_path / "status", ["A", "S+B", "C"])
        teller.tell(last=True)
        assert queue.edits == {
            ("7.0", "SwarmHpcDagStates"): '"560"',
            ("7.0", "SwarmHpcDagFailed"): '"S+B: Job proc (9.0.0) failed with status 3"',
        }
        queue.edits.clear()
        teller.tell(last=True)
        assert not queue.edits
    finally:
        del sys.modules["htcondor2"]


def test_a_busy_schedd_is_told_later(dagman: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("busy")

    sys.modules["htcondor2"] = SimpleNamespace(Schedd=lambda: SimpleNamespace(edit=refuse))  # type: ignore[assignment]
    try:
        teller = dagman.Teller(tmp_path / "none", ["A"])
        teller.tell(last=True)
    finally:
        del sys.modules["htcondor2"]
    assert not teller.told
    assert "busy" in capsys.readouterr().err
