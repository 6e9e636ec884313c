"""Jobs are their owner's: what another person's good token can't do to them, with our command and with HTCondor's
bindings (tests/engine/stranger.py). That everybody may read job ads is HTCondor's way, and stays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command_line import TOP, Cli, until
from tests.engine.conftest import as_person, containers_of, docker, empty_queue
from tests.engine.stranger import QUEUE_LOG, SIGNING_KEY

SECRET = "only paula may read this\n"
READS = "executable = /bin/cat\narguments = secret.dat\ntransfer_input_files = secret.dat\noutput = out\nqueue\n"
SLEEPS = (
    "executable = /bin/sh\narguments = \"-c 'echo running; sleep 600'\"\noutput = out2\nrequest_memory = 32MB\nqueue\n"
)


@dataclass(frozen=True)
class People:
    """paula, her three jobs and a file of hers in the queue's volume; quinn, a stranger to them."""

    paula: Cli
    quinn: Cli
    done: str
    running: str
    held: str
    file: str

    def states(self) -> dict[str, str]:
        """Her jobs' JobStatus, as the access point itself has it."""
        queue = containers_of("access-point")[0]
        words = docker("exec", queue, "condor_q", "-constraint", 'Owner == "paula"', "-af:j", "JobStatus").split()
        return dict(zip(words[::2], words[1::2], strict=True))


@pytest.fixture(scope="module")
def people(pool: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    paula = as_person(pool, "paula", tmp_path_factory.mktemp("paula"))
    quinn = as_person(pool, "quinn", tmp_path_factory.mktemp("quinn"))
    (paula.cwd / "secret.dat").write_text(SECRET)

    def submitted(text: str, *more: str) -> str:
        ran = paula.submit(text, "--json", *more)
        assert ran.code == 0, ran.err
        return f"{ran.json['clusters'][0]['cluster']}.0"

    try:
        done, running, held = submitted(READS), submitted(SLEEPS), submitted(SLEEPS, "-a", "hold = true")
        paula.ok("wait", done)
        queue = containers_of("access-point")[0]
        where = docker(
            "exec",
            queue,
            "find",
            "/var/spool/condor",
            "-path",
            f"*cluster{done.partition('.')[0]}.*",
            "-name",
            "secret.dat",
        )
        made = People(paula, quinn, done, running, held, where)
        until(lambda: made.states()[running] == "2", timeout_s=60, what="paula's job runs")
        yield made
    finally:
        empty_queue(paula)
        empty_queue(quinn)


VERBS = [
    ["hold"],
    ["release"],
    ["rm"],
    ["edit", "--priority", "3"],
    ["fetch"],
    ["wait"],
    ["logs"],
    ["logs", "--error"],
]


@pytest.mark.parametrize("which", ["done", "running", "held"])
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_command_names_the_owner_and_does_nothing(people: People, verb: list[str], which: str) -> None:
    before = people.states()
    job = getattr(people, which)
    refused = people.quinn.run(verb[0], job, *verb[1:])
    assert (refused.code, refused.out) == (2, "")
    assert f"{job} belongs to paula, not to quinn" in refused.err
    assert people.states() == before


def test_nobody_gets_a_shell_in_anothers_job(people: People) -> None:
    refused = people.quinn.run("ssh", people.running, "--", "cat", "secret.dat")
    assert (refused.code, refused.out) == (2, "")
    assert f"{people.running} belongs to paula, not to quinn" in refused.err


@pytest.fixture(scope="module")
def tried(people: People) -> dict[str, str]:
    """What the bindings gave quinn."""
    folder = people.quinn.cwd / "empty"
    folder.mkdir()
    ran = subprocess.run(
        [sys.executable, "-m", "tests.engine.stranger", people.done, people.running, people.held, people.file],
        cwd=folder,
        env={**people.quinn.env(), "PYTHONPATH": str(TOP)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, str] = json.loads(ran.stdout)
    return found


def test_the_queue_takes_no_orders_from_a_stranger(people: People, tried: dict[str, str]) -> None:
    acts = {what: came for what, came in tried.items() if what[0].isupper()}
    assert len(acts) == 16 and set(acts.values()) == {"did: 0"}
    edits = [came for what, came in tried.items() if what.startswith("edit ")]
    assert len(edits) == 4 and all("may not change attributes for jobs they do not own" in came for came in edits)
    # Asked by somebody who never submitted: HTCondor's own access point would crash (images/pool/add-user).
    assert "not authorized" in tried["export"] and "not authorized" in tried["unexport"]
    assert people.states() == {people.done: "4", people.running: "2", people.held: "5"}


def test_a_strangers_fetch_brings_nothing_and_nothing_can_be_slipped_in(tried: dict[str, str]) -> None:
    assert tried["retrieve"] == "did: []"
    assert tried["spool into"].startswith("refused: ")


def test_the_gateway_itself_refuses_a_stranger(tried: dict[str, str]) -> None:
    for verb in ("logs output", "logs error", "shell"):
        assert tried[verb].startswith("refused: ") and "paula" in tried[verb], tried[verb]


def test_a_job_always_belongs_to_the_token(tried: dict[str, str]) -> None:
    assert "is not permitted" in tried["submit as them"]
    given = {tried[f"submit MY.{name}"].partition("@")[0] for name in ("User", "OsUser", "AuthTokenSubject")}
    assert given == {"did: quinn quinn"}
    assert all("immutable" in came for what, came in tried.items() if what.startswith("give away "))
    assert "paula" not in tried["charge them"] and "quinn" in tried["charge them"]
    assert all(tried[verb].startswith("refused: ") for verb in ("addUserRec", "disableUserRec", "removeUserRec"))


def test_a_job_reads_nothing_in_the_access_point_that_its_owner_may_not(people: People, tried: dict[str, str]) -> None:
    for path in (people.file, SIGNING_KEY, QUEUE_LOG):
        assert tried[f"input {path}"].startswith("5: ") and "Permission denied" in tried[f"input {path}"]
        assert tried[f"output {path}"].startswith("refused: ")
    assert SECRET.strip() not in tried["brought"] and "mine" in tried["brought"]


def test_after_all_that_the_owner_has_what_is_hers(people: People, tried: dict[str, str]) -> None:
    assert people.paula.ok("logs", people.running).out == "running\n"
    people.paula.ok("fetch", people.done)
    assert Path(people.paula.cwd / "out").read_text() == SECRET
    people.paula.ok("rm", people.running, people.held)
