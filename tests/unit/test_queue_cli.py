"""The queue commands without a pool: wrong usage, asking before many jobs are touched, the quick way of a bare `q`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from swarmhpc import context as contexts
from swarmhpc.adapters import condor
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.job_ads import Job
from swarmhpc.cli import main, queue_table, selecting, waiting
from swarmhpc.cli.app import run
from swarmhpc.errors import JobFailedError, PoolError, SwarmHpcError
from swarmhpc.jobs.overview import Overview
from swarmhpc.jobs.select import Selection
from swarmhpc.jobs.watch import Outcome


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["q", "--since", "2h"], "--since goes with --history"),
        (["q", "--watch", "--json"], "--json prints one document"),
        (["q", "--watch", "--history"], "--history does not change"),
        (["q", "--interval", "3"], "--interval goes with --watch"),
        (["q", "--watch"], "not a terminal"),
        (["q", "--watch", "--interval", "0.1"], "wanted 0.5 seconds or more"),
        (["q", "--clusters", "--jobs"], "wanted without --jobs"),
        (["q", "--limit", "0"], "greater than or equal to 1"),
        (["hold"], "no job is named"),
        (["rm", "12", "--all-mine"], "--all-mine goes without ids"),
        (["wait", "12", "--any-end", "--keep-going"], "wanted one of them"),
        (["edit", "12"], "nothing is to be changed"),
        (["edit", "--memory", "1G"], "no job is named"),
    ],
)
def test_wrong_usage_is_told_before_any_pool_is_asked(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(arguments) == 2
    assert words in capsys.readouterr().err


class Counted:
    """Has so many jobs."""

    person = "me"

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def counted(self, _constraint: str, _attributes: list[str]) -> list[tuple[dict[str, Any], int]]:
        return [({"ClusterId": 7, "JobStatus": 1, "Owner": "me"}, self.jobs)]


@pytest.mark.parametrize(
    ("jobs", "terminal", "yes", "asked"),
    [(101, True, False, True), (100, True, False, False), (101, False, False, False), (101, True, True, False)],
)
def test_a_person_is_asked_before_more_than_a_hundred_jobs_are_touched(
    monkeypatch: pytest.MonkeyPatch, jobs: int, terminal: bool, yes: bool, asked: bool
) -> None:
    questions: list[str] = []

    def confirm(question: str, **_: object) -> bool:
        questions.append(question)
        return True

    monkeypatch.setattr(typer, "confirm", confirm)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal)
    _, counts = selecting.meant(cast(Pool, Counted(jobs)), Selection(), "rm", yes=yes, dry_run=False)
    assert counts == {"idle": jobs}
    assert questions == (["rm 101 jobs of 1 cluster?"] if asked else [])


def test_no_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(SwarmHpcError, match="nothing is changed"):
        selecting.meant(cast(Pool, Counted(500)), Selection(), "rm", yes=False, dry_run=False)


def test_a_dry_run_says_which_jobs_are_meant(capsys: pytest.CaptureFixture[str]) -> None:
    selecting.meant(cast(Pool, Counted(500)), Selection(), "hold", yes=False, dry_run=True)
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("7: 500 jobs\n", "would hold 500 jobs (500 idle); nothing is changed\n")


# -- the end of a wait ------------------------------------------------------------------------------------------------

JOB = Job(7, 0, "me", "completed", 1, 1, 1, 3, None, "", 0, "small", "host", "", "", "/bin/true", "")


def test_a_failure_among_jobs_that_go_on_says_how_to_wait_for_them() -> None:
    busy = Job(7, 1, "me", "running", 1, 1, 1, None, None, "", 0, "small", "host", "", "", "/bin/true", "")
    with pytest.raises(JobFailedError, match="1 of 2 jobs did not succeed; 1 goes on") as seen:
        waiting._complain(Outcome((JOB, busy), ()), "7", fetched=False)
    assert seen.value.hint == "swarmhpc logs 7.0 --error; for the others: swarmhpc wait 7 --keep-going"


def test_the_line_of_a_cluster_says_what_there_is_of_it_and_no_more() -> None:
    c = Overview(7, "me", "night", 0, idle=3, running=2, done=5, total=10, rate_per_s=0.5)
    assert waiting.line(c) == "7 night: 3 idle, 2 running, 5 done; 30/min; 10s left"


# -- the quick way ----------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A person with a context, and a pool that says two lines."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SWARMHPC_POOL", raising=False)
    contexts.save(
        contexts.Context(pool="p", address="a", central_manager_port=1, access_point_port=2, person="me"), "x"
    )
    monkeypatch.setattr(condor, "Pool", lambda context: context)
    monkeypatch.setattr(queue_table, "look", lambda _pool, person, *, everyone: ["HEAD", f"{person} {everyone}"])
    return tmp_path


@pytest.mark.parametrize(("arguments", "everyone"), [(["q"], False), (["q", "--all"], True), (["q", "-a"], True)])
def test_a_bare_q_is_answered_at_once(
    quick: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    everyone: bool,
) -> None:
    monkeypatch.setattr(sys, "argv", ["swarmhpc", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert (ended.value.code, capsys.readouterr().out) == (0, f"HEAD\nme {everyone}\n")


def test_what_the_quick_way_cannot_say_is_left_to_the_whole_command(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_table, "look", lambda *_, **__: ["HEAD"])
    assert main._queue(everyone=False) is None

    def broken(*_: object, **__: object) -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr(queue_table, "look", broken)
    assert main._queue(everyone=False) is None


def test_an_error_on_the_quick_way_ends_as_everywhere(
    quick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(*_: object, **__: object) -> list[str]:
        raise PoolError("does not answer", hint="swarmhpc status")

    monkeypatch.setattr(queue_table, "look", silent)
    assert main._queue(everyone=False) == 1
    assert capsys.readouterr().err == "error: does not answer\n  next: swarmhpc status\n"
