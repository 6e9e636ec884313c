"""Every verb on jobs that are none, that never were, and that have gone; and a token that ends while it is used."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.command_line import Cli, until
from tests.engine.conftest import as_person, containers_of, docker, empty_queue

NEVER = "99999999"
ECHO = "universe = docker\ndocker_image = debian\nexecutable = /bin/echo\narguments = said\noutput = out\nqueue\n"
SLEEP = "executable = /bin/sleep\narguments = 600\noutput = slept\nrequest_memory = 32MB\nqueue\n"
LATER = "executable = /bin/true\nrequest_memory = 32MB\nqueue\n"

VERBS = {
    "hold": ["hold", "{}"],
    "release": ["release", "{}"],
    "rm": ["rm", "{}"],
    "edit": ["edit", "{}", "--priority", "1"],
    "fetch": ["fetch", "{}"],
    "wait": ["wait", "{}"],
    "logs": ["logs", "{}"],
    "follow": ["logs", "--follow", "{}"],
    "ssh": ["ssh", "{}", "--", "id"],
    "why": ["why", "{}"],
    "q": ["q", "{}"],
    "after": ["submit", "later.sub", "--after", "{}"],
}


def called(verb: str, job: str) -> list[str]:
    return [word.format(job) for word in VERBS[verb]]


@pytest.fixture
def somebody(person: Cli) -> Cli:
    """A person on a machine without Docker."""
    person.environment["DOCKER_HOST"] = "unix:///no/docker/here"
    (person.cwd / "later.sub").write_text(LATER)
    return person


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_id_is_wrong_usage(somebody: Cli, verb: str) -> None:
    for job in ("x", "1.x"):
        ran = somebody.run(*called(verb, job))
        assert (ran.code, ran.out) == (2, "")
        assert job in ran.err and "wanted a" in ran.err and "next: " in ran.err


@pytest.mark.parametrize("verb", VERBS)
def test_a_job_that_never_was_is_named_and_nothing_is_done(somebody: Cli, verb: str) -> None:
    ran = somebody.run(*called(verb, NEVER))
    assert (ran.code, ran.out) == (1, "")
    assert f"job {NEVER}" in ran.err and "next: swarmhpc" in ran.err


GONE = {
    # exit code, words
    "hold": (1, "not in the queue any more"),
    "release": (1, "not in the queue any more"),
    "rm": (1, "not in the queue any more"),
    "edit": (1, "not in the queue any more"),
    "fetch": (1, "not in the queue any more"),
    "logs": (1, "has left the queue"),
    "follow": (1, "has left the queue"),
    "ssh": (1, "has left the queue"),
    "wait": (1, "removed"),
    "why": (0, "removed"),
    "after": (2, "was removed"),
}


def test_a_job_that_was_removed_is_told_as_that(somebody: Cli) -> None:
    cluster = str(somebody.submit(SLEEP, "--json").json["clusters"][0]["cluster"])
    somebody.ok("rm", cluster)
    until(lambda: somebody.run("q", cluster, "--history").out, timeout_s=20, what="the job is in the history")
    for verb, (code, words) in GONE.items():
        ran = somebody.run(*called(verb, cluster))
        assert (verb, ran.code) == (verb, code), f"{ran.out}{ran.err}"
        assert words in ran.out + ran.err, f"{verb}: {ran.out}{ran.err}"
    assert somebody.ok("q", "--json").json == []


def test_a_job_that_was_fetched_is_told_as_finished(somebody: Cli) -> None:
    cluster = str(somebody.submit(ECHO, "--json").json["clusters"][0]["cluster"])
    somebody.ok("wait", cluster)
    somebody.ok("fetch", cluster)
    assert (somebody.cwd / "out").read_text() == "said\n"
    until(lambda: somebody.run("q", cluster, "--history").out, timeout_s=20, what="the job is in the history")
    assert somebody.run("wait", cluster).code == 0
    logs = somebody.run("logs", cluster)
    assert logs.code == 1 and f"written to {somebody.cwd / 'out'}" in logs.err
    assert "ended" in somebody.ok("why", cluster).out
    for verb in ("hold", "release", "rm", "edit", "fetch"):
        ran = somebody.run(*called(verb, cluster))
        assert (verb, ran.code) == (verb, 1) and "results were fetched" in ran.err, ran.err
    (somebody.cwd / "out").unlink()
    after = somebody.run("submit", "later.sub", "--after", cluster, "--wait")
    assert after.code == 0, after.err


def test_following_a_held_job_ends_with_the_reason(somebody: Cli) -> None:
    cluster = str(somebody.submit(SLEEP, "--json", "-a", "hold = true").json["clusters"][0]["cluster"])
    ran = somebody.run("logs", "--follow", cluster)
    assert ran.code == 1 and "is held" in ran.err and "next: swarmhpc why" in ran.err


def test_a_token_that_expires_during_wait_ends_it_with_words_and_the_jobs_go_on(pool: Cli, tmp_path: Path) -> None:
    began = time.monotonic()
    ivan = as_person(pool, "ivan", tmp_path, lifetime="8s")
    submitted = ivan.submit(SLEEP, "--json")
    assert submitted.code == 0, submitted.err
    cluster = submitted.json["clusters"][0]["cluster"]
    queue = containers_of("access-point")[0]
    try:
        waited = ivan.run("wait", str(cluster), timeout_s=60)
        assert time.monotonic() - began > 7, "the token had not expired yet"
        assert waited.code == 1
        assert "expired" in waited.err and "the jobs go on" in waited.err
        assert "swarmhpc token create ivan" in waited.err
        assert docker("exec", queue, "condor_q", str(cluster), "-af", "JobStatus") in ("1", "2")
        # Anew, with a new token, the same jobs are waited for.
        (tmp_path / "again").mkdir()
        renewed = as_person(pool, "ivan", tmp_path / "again")
        assert renewed.ok("q", "--json").json[0]["id"] == f"{cluster}.0"
        empty_queue(renewed)
    finally:
        docker("exec", queue, "condor_rm", str(cluster), check=False)
