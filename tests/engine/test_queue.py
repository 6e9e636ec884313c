"""q, wait, fetch, hold, release, rm, edit on the real pool; nobody's but one's own."""

from __future__ import annotations

import json
import re
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarmhpc.errors import PoolError
from tests.command_line import Cli, Ran, until
from tests.engine.conftest import POOL, as_person, containers_of, docker

PLAIN = "executable = /bin/sh\nrequest_memory = 32M\nbatch_name = queue-test\n"
HELD = PLAIN + "arguments = \"-c 'true'\"\nhold = true\n"


def submitted(person: Cli, text: str) -> str:
    done = person.submit(text, "--json")
    assert done.code == 0, done.err
    return str(done.json["clusters"][0]["cluster"])


def seen(person: Cli, *arguments: str) -> Any:
    return person.ok("q", "--json", *arguments).json


def test_q_shows_a_line_a_cluster_and_a_line_a_job_of_one(person: Cli) -> None:
    one, two = submitted(person, HELD + "queue 3\n"), submitted(person, HELD + "queue 2\n")
    lines = person.ok("q").out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[one, "queue-test"], [two, "queue-test"]]
    assert len(person.ok("q", one).out.splitlines()) == 4
    assert len(person.ok("q", "--jobs", "--limit", "4").out.splitlines()) == 6  # and how many more there are
    by_cluster = seen(person, "--clusters")
    assert [(c["cluster"], c["held"], c["total"]) for c in by_cluster] == [(int(one), 3, 3), (int(two), 2, 2)]
    assert {j["id"] for j in seen(person, "--state", "PENDING", one)} == {f"{one}.{i}" for i in range(3)}
    assert seen(person, "--state", "RUNNING") == []
    assert len(seen(person, "--name", "queue-*")) == 5
    assert [j["id"] for j in seen(person, "--constraint", "ProcId == 2")] == [f"{one}.2"]
    everybody = {j["owner"] for j in seen(person, "--all")}
    assert {j["owner"] for j in seen(person)} <= everybody


def test_wait_ends_with_the_first_failure_and_with_the_last_job_where_told_to_go_on(person: Cli) -> None:
    text = (
        PLAIN + "arguments = \"-c 'sleep $INT(seconds); exit $INT(code)'\"\nqueue seconds, code from (\n5, 0\n0, 3\n)\n"
    )
    cluster = submitted(person, text)
    first = person.run("wait", cluster, "--json", timeout_s=150)
    assert first.code == 1
    assert f"{cluster}.1: ended with code 3" in first.err and "1 goes on" in first.err
    assert f"swarmhpc wait {cluster} --keep-going" in first.err
    assert {j["id"]: j["exit_code"] for j in first.json["clusters"][0]["jobs"]} == {
        f"{cluster}.0": None,
        f"{cluster}.1": 3,
    }
    last = person.run("wait", cluster, "--keep-going", "--json", timeout_s=150)
    assert last.code == 1
    assert [j["exit_code"] for j in last.json["clusters"][0]["jobs"]] == [0, 3]
    assert "goes on" not in last.err
    person.ok("wait", f"{cluster}.0")
    assert len(last.err.splitlines()) < 8  # one line of progress, whatever happened


def test_wait_for_any_end_says_which_and_leaves_the_others(person: Cli) -> None:
    text = PLAIN + "arguments = \"-c 'sleep $INT(seconds)'\"\nqueue seconds in (60, 0)\n"
    cluster = submitted(person, text)
    done = person.ok("wait", cluster, "--any-end", "--json", timeout_s=150)
    assert [j["status"] == "completed" for j in done.json["clusters"][0]["jobs"]] == [False, True]


def test_jobs_that_have_gone_are_told_as_what_they_were(person: Cli) -> None:
    cluster = submitted(person, PLAIN + "arguments = \"-c 'exit $(Process)'\"\noutput = o.$(Process)\nqueue 2\n")
    assert person.run("wait", cluster, "--keep-going").code == 1
    person.ok("fetch", cluster)
    again = person.run("wait", cluster, "--json")
    assert again.code == 1 and f"{cluster}.1: ended with code 1" in again.err
    assert [(j["status"], j["exit_code"]) for j in again.json["clusters"][0]["jobs"]] == [
        ("completed", 0),
        ("completed", 1),
    ]
    person.ok("wait", f"{cluster}.0")
    for verb in ("q", "hold", "release", "rm", "fetch"):
        gone = person.run(verb, cluster)
        assert gone.code == 1 and "not in the queue any more (its results were fetched" in gone.err
    finished = seen(person, "--history", cluster)
    assert sorted((j["state"], j["exit_code"]) for j in finished) == [("FAILED", 1), ("SUCCEEDED", 0)]
    assert all(j["memory_mib"] == 32 and j["run_time_s"] >= 0 and j["cpus"] == 1 for j in finished)
    assert [j["id"] for j in seen(person, "--history", "--state", "FAILED", cluster)] == [f"{cluster}.1"]


def test_a_job_that_is_removed_during_wait_ends_it_with_the_reason(person: Cli) -> None:
    cluster = submitted(person, HELD.replace("hold = true", "") + "requirements = ClockMin < 0\nqueue 2\n")
    process = person.start("wait", cluster)
    until(lambda: [j["status"] for j in seen(person, cluster)] == ["idle"] * 2, timeout_s=20, what="jobs idle")
    person.ok("rm", f"{cluster}.1")
    out, err = process.communicate(timeout=150)
    assert process.returncode == 1, (out, err)
    assert f"{cluster}.1: was removed from the queue: removed with swarmhpc rm" in err
    assert "1 goes on" in err


def test_a_token_that_expires_during_wait_ends_it_in_words_and_the_jobs_go_on(pool: Cli, tmp_path: Path) -> None:
    somebody = as_person(pool, "queue-expired", tmp_path, lifetime="12s")
    cluster = submitted(somebody, HELD.replace("hold = true", "") + "requirements = ClockMin < 0\nqueue\n")
    try:
        waited = somebody.run("wait", cluster, timeout_s=150)
        assert waited.code == 1
        assert "expired" in waited.err and "the jobs go on" in waited.err and "token create queue-expired" in waited.err
        queue = docker("exec", containers_of("access-point")[0], "condor_q", cluster, "-af", "JobStatus")
        assert queue == "1"
    finally:
        docker("exec", containers_of("access-point")[0], "condor_rm", cluster)


def test_jobs_are_held_released_and_removed_by_what_they_are(person: Cli) -> None:
    idle = submitted(person, HELD.replace("hold = true", "") + "requirements = ClockMin < 0\nqueue 3\n")
    tried = person.ok("hold", "--all-mine", "--constraint", "ProcId > 0", "--dry-run")
    assert tried.out == f"{idle}: 2 jobs\n" and "nothing is changed" in tried.err
    assert person.ok("hold", "--name", "queue-test", "--constraint", "ProcId > 0", "--json").json == {
        "held": 2,
        "meant": 2,
    }
    held = {j["id"]: j for j in seen(person)}
    assert [held[f"{idle}.{i}"]["state"] for i in range(3)] == ["RUNNABLE", "PENDING", "PENDING"]
    assert "held with swarmhpc hold" in held[f"{idle}.1"]["hold_reason"]
    person.ok("release", f"{idle}.1")
    refused = person.run("release", f"{idle}.0")
    assert refused.code == 1 and "not held" in refused.err
    person.ok("rm", "--state", "PENDING")
    assert {j["id"] for j in seen(person)} == {f"{idle}.0", f"{idle}.1"}
    person.ok("rm", "--all-mine")
    assert seen(person) == []
    assert person.run("rm").code == 2


def test_a_job_that_was_held_for_its_memory_goes_on_with_more(person: Cli) -> None:
    grow = "arguments = \"-c 'x=$(DOLLAR)(head -c 60m /dev/zero | tr 0 1 | base64); echo $(DOLLAR){#x}'\"\n"
    kind = "universe = docker\ndocker_image = debian\nexecutable = /bin/sh\nrequest_memory = 32M\noutput = o\n"
    cluster = submitted(person, kind + grow + "queue\n")
    held = person.run("wait", cluster, timeout_s=150)
    assert held.code == 1 and "code 34" in held.err
    edited = person.ok("edit", cluster, "--memory", "0.6G", "--priority", "7")
    assert f"swarmhpc release {cluster}" in edited.err
    (job,) = seen(person)
    assert (job["memory_mib"], job["priority"]) == (615, 7)
    person.ok("release", cluster)
    person.ok("wait", cluster, timeout_s=150)
    person.ok("fetch", cluster)
    assert int((person.cwd / "o").read_text()) > 60 * 2**20


def test_edit_refuses_what_submit_would_and_what_runs(person: Cli) -> None:
    cluster = submitted(person, HELD + "queue\n")
    for options, words in (
        (("--memory", "900G"), "largest class"),
        (("--cpus", "two"), "wanted 1 or more"),
        (("--class", "nowhere"), "this pool has"),
        (("--requirements", 'Arch == "SPARC"'), "no executor can meet"),
    ):
        refused = person.run("edit", cluster, *options)
        assert refused.code == 2 and words in refused.err
    assert seen(person)[0]["memory_mib"] == 32
    classes = {j["class"] for j in seen(person)}
    assert classes == {None}
    person.ok("edit", cluster, "--class", "executors")
    person.ok("release", cluster)
    person.ok("wait", cluster, timeout_s=150)
    busy = submitted(person, PLAIN + "arguments = \"-c 'sleep 60'\"\nqueue\n")
    until(lambda: seen(person, busy)[0]["status"] == "running", timeout_s=30, what="job runs")
    refused = person.run("edit", busy, "--memory", "64M")
    assert refused.code == 2 and "is running" in refused.err


def raw(person: Cli, patch: pytest.MonkeyPatch) -> Any:
    """The bindings as this person, without our command's own checks."""
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.context import Context

    patch.setenv("XDG_CONFIG_HOME", str(person.config_home))
    text = (person.config_home / "swarmhpc" / POOL / "context.json").read_text()
    return Pool(Context(**json.loads(text)))


def test_the_schedd_itself_refuses_what_is_done_to_another_persons_jobs(person: Cli, pool: Cli, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = as_person(pool, "queue-other", tmp_path / "other")
    held = submitted(person, HELD + "queue\n")
    idle = submitted(person, HELD.replace("hold = true", "") + "requirements = ClockMin < 0\nqueue\n")
    done = submitted(person, PLAIN + "arguments = \"-c 'echo mine'\"\noutput = o\nqueue\n")
    person.ok("wait", done, timeout_s=150)
    before = seen(person)
    for verb in ("hold", "release", "rm", "fetch", "wait"):
        refused = other.run(verb, idle)
        assert refused.code == 2 and "belongs to" in refused.err
    assert other.run("edit", idle, "--priority", "1").code == 2
    with pytest.MonkeyPatch.context() as patch:
        connection = raw(other, patch)
        assert connection.hold(f"ClusterId == {idle}", "not mine") == 0
        assert connection.release(f"ClusterId == {held}", "not mine") == 0
        assert connection.remove([f"{idle}.0"], "not mine") == 0
        attempts: tuple[Callable[[], object], ...] = (
            lambda: connection.set_attribute(f"ClusterId == {idle}", "JobPrio", "9"),
            lambda: connection.set_attribute([f"{idle}.0"], "JobPrio", "9"),
        )
        for attempt in attempts:
            with pytest.raises(PoolError):
                attempt()
        patch.chdir(other.cwd)
        connection.retrieve([f"{done}.0"])  # the schedd sends nothing, without a word
    assert seen(person) == before
    assert not (other.cwd / "o").exists() and not (person.cwd / "o").exists()
    person.ok("fetch", done)
    assert (person.cwd / "o").read_text() == "mine\n"


def test_a_disk_that_fills_while_fetching_loses_no_job_and_the_rest_comes_later(person: Cli) -> None:
    full = person.cwd / "small"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(full)], check=True)
    try:
        there = Cli(full, person.config_home)
        cluster = submitted(
            there, PLAIN + "arguments = \"-c 'head -c 1m /dev/zero'\"\noutput = o.$(Process)\nqueue 4\n"
        )
        there.ok("wait", cluster, timeout_s=150)
        failed = there.run("fetch", cluster)
        assert failed.code == 1 and "nothing is lost" in failed.err
        left = len(seen(there, cluster))
        assert 2 <= left <= 4
        subprocess.run(["mount", "-o", "remount,size=8m", str(full)], check=True)
        there.ok("fetch", cluster)
        assert [(full / f"o.{i}").stat().st_size for i in range(4)] == [2**20] * 4
        assert seen(there) == []
    finally:
        subprocess.run(["umount", str(full)], check=True)


def cpu_s(person: Cli, *arguments: str) -> tuple[Ran, float]:
    """What a command said, and the CPU time that it took on this side."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = person.run(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_thousand_jobs_cost_less_than_a_second_of_cpu_to_look_at_and_to_wait_for(person: Cli) -> None:
    cluster = submitted(person, HELD + "queue 1000\n")
    looked, look_s = cpu_s(person, "q")
    assert re.search(rf"^{cluster} .* 1000 ", looked.out, re.MULTILINE) and look_s < 1
    listed, list_s = cpu_s(person, "q", cluster)
    assert len(listed.out.splitlines()) == 1001 and list_s < 1
    waited, wait_s = cpu_s(person, "wait", cluster)
    assert "1000 of 1000 jobs did not succeed" in waited.err and wait_s < 1
    gone, rm_s = cpu_s(person, "rm", cluster)
    assert "removed 1000 jobs" in gone.err and rm_s < 1
