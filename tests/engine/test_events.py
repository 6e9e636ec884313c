"""Events of a real pool: each change of state once, in its order, to the right people, also over a restart."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Cli, until
from tests.engine.conftest import as_person, containers_of, docker

TRUE = (
    "universe = docker\ndocker_image = debian\nexecutable = /bin/true\ntransfer_executable = false\n"
    'request_memory = 64M\ntransfer_output_files = ""\noutput = o\nerror = e\n'
)
WHOLE_LIFE = ["SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]

pytestmark = pytest.mark.timeout(300)
Event = dict[str, Any]


class Follower:
    """`swarmhpc events --follow` and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[Event] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def states(self, job: str) -> list[str]:
        return [e["state"] for e in list(self.events) if e["id"] == job]

    def wait(self, job: str, state: str, timeout_s: float = 90) -> None:
        until(lambda: state in self.states(job), timeout_s=timeout_s, what=f"{job} {state}: {self.states(job)}")


@contextmanager
def following(somebody: Cli, *arguments: str) -> Iterator[Follower]:
    """Follows; begins when the gateway has taken the request: an earlier event is there already."""
    process = somebody.start("events", "--follow", "--since", "1d", *arguments)
    follower = Follower(process)
    try:
        # Executors that appeared when the pool was made, or jobs of before; without any, the first of the test.
        yield follower
    finally:
        process.terminate()
        process.wait(30)


def submitted(somebody: Cli, text: str) -> str:
    """The only job of a description."""
    done = somebody.submit(text, "--json")
    assert done.code == 0, done.err
    return f"{done.json['clusters'][0]['cluster']}.0"


def kept(somebody: Cli, *arguments: str) -> list[Event]:
    """What is kept, read back."""
    return [json.loads(line) for line in somebody.ok("events", *arguments).out.splitlines()]


def test_a_jobs_whole_life_is_told_once_and_in_its_order(person: Cli) -> None:
    with following(person) as follower:
        (person.cwd / "in.txt").write_text("x")
        job = submitted(person, f"{TRUE}transfer_input_files = in.txt\nqueue\n")
        follower.wait(job, "SUCCEEDED")
        person.ok("fetch", job.partition(".")[0])
        other = submitted(person, f"{TRUE}queue\n")
        follower.wait(other, "SUCCEEDED")
    assert follower.states(job) == WHOLE_LIFE
    mine = [e for e in follower.events if e["id"] == job]
    assert [e["previous"] for e in mine] == [None, *WHOLE_LIFE[:-1]]
    numbers = [e["seq"] for e in follower.events]
    assert numbers == sorted(set(numbers))
    last = mine[-1]
    assert (last["kind"], last["status"], last["exit_code"], last["class"]) == ("job", "completed", 0, "executors")
    assert last["host"].startswith("executors-")
    assert mine[0]["host"] is None
    assert [e["seq"] for e in kept(person, "--job", job)] == [e["seq"] for e in mine]


def test_holding_releasing_and_removing_are_told_with_their_reasons(person: Cli) -> None:
    job = submitted(person, f"{TRUE}hold = true\nqueue\n")
    with following(person, "--job", job) as follower:
        follower.wait(job, "PENDING")
        person.ok("release", job)
        follower.wait(job, "SUCCEEDED")
        held = submitted(person, f"{TRUE}hold = true\nqueue\n")
        person.ok("rm", held)
    assert follower.states(job)[:2] == ["PENDING", "RUNNABLE"]
    assert "release" in next(e["reason"] for e in follower.events if e["state"] == "RUNNABLE")
    assert {e["id"] for e in follower.events} == {job}
    told = until(lambda: [e for e in kept(person, "--job", held) if e["status"] == "removed"], timeout_s=10, what="rm")
    assert (told[0]["previous"], told[0]["state"]) == ("PENDING", "FAILED")
    assert "rm" in told[0]["reason"]


def test_another_person_is_told_of_it_only_when_asking_for_all(person: Cli, pool: Cli, tmp_path: Path) -> None:
    job = submitted(person, f"{TRUE}queue\n")
    until(lambda: [e for e in kept(person, "--job", job) if e["state"] == "SUCCEEDED"], timeout_s=90, what="the job")
    folder = tmp_path / "stranger"
    folder.mkdir()
    stranger = as_person(pool, "stranger", folder)
    assert job not in {e["id"] for e in kept(stranger)}
    assert kept(stranger, "--job", job) == []
    assert [e["state"] for e in kept(stranger, "--all", "--job", job)] == WHOLE_LIFE[1:]


def test_a_restart_of_the_gateway_loses_nothing_and_repeats_nothing(person: Cli) -> None:
    before = submitted(person, f"{TRUE}queue\n")
    with following(person) as follower:
        follower.wait(before, "SUCCEEDED")
        kill_gateway()
        during = submitted(person, f"{TRUE}queue\n")
        follower.wait(during, "SUCCEEDED", timeout_s=120)
    assert follower.states(during) == WHOLE_LIFE[1:]
    numbers = [e["seq"] for e in follower.events]
    assert numbers == sorted(set(numbers))
    # Exactly what is kept, as far as it goes.
    assert [e["seq"] for e in kept(person, "--since", "1d") if e["seq"] <= numbers[-1]] == numbers


def kill_gateway() -> None:
    """As a crash does; condor_master starts it again."""
    (container,) = containers_of("access-point")
    code = (
        "import os, pathlib, signal\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
        "    if p.read_bytes().split(b'\\0')[:3][1:] == [b'-m', b'swarmhpc.gateway']:\n"
        "        os.kill(int(p.parent.name), signal.SIGKILL)\n"
        "        print(p.parent.name)\n"
    )
    assert docker("exec", container, "python3", "-c", code).split(), "no gateway was running"


def test_the_hook_gets_a_failed_job_as_an_account_that_reads_no_secret(person: Cli) -> None:
    job = submitted(person, f"{TRUE.replace('/bin/true', '/bin/false')}queue\n")
    (container,) = containers_of("access-point")

    def told() -> str:
        text = docker("exec", container, "cat", "/tmp/hook.told", check=False)
        return text if f'"id": "{job}"' in text else ""

    lines = until(told, timeout_s=90, what="the hook's file").splitlines()
    at = next(i for i, line in enumerate(lines) if f'"id": "{job}"' in line)
    event = json.loads(lines[at])
    assert (event["state"], event["exit_code"], event["previous"]) == ("FAILED", 1, "RUNNING")
    assert lines[at - 1] == "6100"
    assert all("Permission denied" in line for line in lines[at + 1 : at + 3])
    assert "SECRET" not in lines


def test_executors_that_come_and_go_are_told(person: Cli, pool: Cli) -> None:
    count = len({s["executor"] for s in pool.ok("status", "--json").json["slots"]})
    with following(person) as follower:

        def told(state: str) -> set[str]:
            return {e["id"] for e in list(follower.events) if e["kind"] == "executor" and e["state"] == state}

        there, gone = told("appeared"), told("left")
        pool.ok("scale", f"executors={count + 1}")
        new = until(lambda: told("appeared") - there, timeout_s=30, what="the new executor's event")
        pool.ok("scale", f"executors={count}")
        until(lambda: told("left") - gone, timeout_s=30, what="the leaving executor's event")
        event = next(e for e in follower.events if e["id"] in new and e["state"] == "appeared")
    assert (event["class"], event["previous"]) == ("executors", None)
    assert event["node"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--job", "x"], "is no job"), (["--job", "12.x"], "is no job"), (["--since", "soon"], "is no time")],
)
def test_what_makes_no_sense_is_refused_with_words(person: Cli, arguments: list[str], words: str) -> None:
    done = person.run("events", *arguments)
    assert done.code == 2
    assert words in done.err


def test_ctrl_c_is_how_following_ends(person: Cli) -> None:
    process = person.start("events", "--follow", "--all", "--since", "1d")
    assert process.stdout is not None
    process.stdout.readline()
    done = person.interrupt(process)
    assert (done.code, done.err) == (0, "")
