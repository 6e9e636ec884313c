"""Executors come and go on the real pool while jobs run: no job is ever ended by it."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Cli, until
from tests.engine.conftest import CLUSTER_FILE, POOL, containers_of, docker, empty_queue

SERVICE = f"{POOL}_executors"
SLEEP = "executable = /bin/sleep\ntransfer_executable = false\nrequest_cpus = 2\narguments = {seconds}\nqueue {count}\n"
TIGHT = f"  tight: {{replicas: 1, cpus: {os.cpu_count()}, memory: 512MiB}}\n"
GROWING = "  growing: {replicas: 0, cpus: 1, memory: 256MiB, reserve: false, max: 6, idle: 3s}\n"


@pytest.fixture
def scaled(pool: Cli, person: Cli) -> Iterator[Cli]:
    """The pool, whose class has its two executors again afterwards, without jobs in the queue."""
    yield pool
    empty_queue(person)
    pool.ok("scale", "executors=2")


def replicas(service: str = SERVICE) -> int:
    return int(docker("service", "inspect", service, "--format", "{{.Spec.Mode.Replicated.Replicas}}"))


def classes(pool: Cli) -> dict[str, Any]:
    return {c["name"]: c for c in status(pool)["classes"]}


def status(pool: Cli) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pool.run("status", "--json").out)
    return found


def running_jobs(person: Cli) -> list[dict[str, Any]]:
    return [j for j in person.ok("q", "--json").json if j["status"] == "running"]


def submitted(person: Cli, text: str) -> str:
    """The cluster."""
    done = person.submit(text, "--json")
    assert done.code == 0, done.err
    return str(done.json["clusters"][0]["cluster"])


def all_ended(person: Cli, count: int, *, timeout_s: float = 300) -> list[dict[str, Any]]:
    def look() -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = person.ok("q", "--json").json
        return jobs if len(jobs) == count and all(j["status"] == "completed" for j in jobs) else []

    ended: list[dict[str, Any]] = until(look, timeout_s=timeout_s, what=f"{count} jobs completed")
    return ended


def test_forty_jobs_run_once_each_while_the_class_is_scaled_up_and_down(scaled: Cli, person: Cli) -> None:
    chance = random.Random()
    # The whole thing takes six minutes: SWARMHPC_LONG=1.
    shortest, longest = (20, 60) if os.environ.get("SWARMHPC_LONG") else (3, 8)
    scaled.ok("scale", "executors=6")
    image = "universe = docker\ndocker_image = debian\n"
    for i in range(4):
        seconds = chance.randint(shortest, longest)
        text = "executable = /bin/sleep\ntransfer_executable = false\n"
        submitted(person, (image if i % 2 else "") + text + f"arguments = {seconds}\nqueue 10\n")
    sizes = [1, 4, 2, 6]
    chance.shuffle(sizes)
    for i, size in enumerate([*sizes, 3]):
        until(lambda: running_jobs(person), timeout_s=60, what="a job runs")
        if i % 2:
            docker("service", "scale", "-d", f"{SERVICE}={size}")
        else:
            scaled.ok("scale", f"executors={size}")
        assert replicas() == size
    jobs = all_ended(person, 40, timeout_s=800)
    assert {(j["attempts"], j["exit_code"]) for j in jobs} == {(1, 0)}


def test_idle_executors_go_first_and_those_named_beforehand(scaled: Cli, person: Cli) -> None:
    scaled.ok("scale", "executors=5")
    submitted(person, SLEEP.format(seconds=20, count=2))
    until(lambda: len(running_jobs(person)) == 2, timeout_s=60, what="two jobs run")
    busy = {j["host"] for j in running_jobs(person)}
    told = scaled.ok("scale", "executors=2", "--dry-run").out
    named = {line.split()[0] for line in told.splitlines() if "goes at once: idle" in line}
    assert len(named) == 3 and not named & busy
    done = scaled.ok("scale", "executors=2")
    assert "3 have left" in done.err and "draining" not in done.err
    left = {docker("inspect", "-f", "{{.Config.Hostname}}", c) for c in containers_of("executors")}
    assert left == busy
    assert {j["attempts"] for j in all_ended(person, 2)} == {1}


def test_a_busy_executor_drains_and_takes_no_new_job_until_its_own_has_ended(scaled: Cli, person: Cli) -> None:
    submitted(person, SLEEP.format(seconds=20, count=2))
    until(lambda: len(running_jobs(person)) == 2, timeout_s=60, what="two jobs run")
    done = scaled.ok("scale", "executors=1")
    assert "1 finish their jobs first" in done.err and "1 draining" in done.err
    seen = classes(scaled)["executors"]
    assert (seen["replicas"], seen["registered"], seen["draining"]) == (1, 1, 1)
    (leaving,) = {j["host"] for j in running_jobs(person)} - {
        docker("inspect", "-f", "{{.Config.Hostname}}", c) for c in still_wanted()
    }
    there = f'requirements = UtsnameNodename == "{leaving}"\n'
    waiting = submitted(person, there + SLEEP.format(seconds=1, count=1))
    assert person.ok("why", waiting, "--json").json[0]["code"] == "draining"
    person.ok("rm", waiting)
    submitted(person, SLEEP.format(seconds=1, count=3))
    jobs = all_ended(person, 5)
    assert {j["attempts"] for j in jobs} == {1}
    assert [j["host"] for j in jobs].count(leaving) == 1
    until(lambda: len(containers_of("executors")) == 1, timeout_s=30, what="the draining one has left")


def still_wanted() -> list[str]:
    ids = docker("service", "ps", SERVICE, "-q", "--no-trunc", "--filter", "desired-state=running").split()
    return [c for t in ids for c in docker("ps", "-q", "--filter", f"label=com.docker.swarm.task.id={t}").split()]


def test_wait_waits_and_now_sends_the_jobs_back_to_the_queue(scaled: Cli, person: Cli) -> None:
    submitted(person, SLEEP.format(seconds=8, count=2))
    until(lambda: len(running_jobs(person)) == 2, timeout_s=60, what="two jobs run")
    scaled.ok("scale", "executors=1", "--wait")
    assert len(containers_of("executors")) == 1
    assert {j["attempts"] for j in all_ended(person, 2)} == {1}
    submitted(person, SLEEP.format(seconds=600, count=1))
    until(lambda: len(running_jobs(person)) == 1, timeout_s=60, what="the job runs")
    scaled.ok("scale", "executors=0", "--now", timeout_s=60)
    assert containers_of("executors") == []
    until(lambda: person.ok("q", "--json").json[-1]["status"] == "idle", timeout_s=30, what="the job waits again")


def test_at_zero_executors_jobs_wait_and_then_run(scaled: Cli, person: Cli) -> None:
    scaled.ok("scale", "executors=0")
    submitted(person, SLEEP.format(seconds=1, count=3))
    waiting = person.ok("q", "--json").json
    assert {j["status"] for j in waiting} == {"idle"}
    assert person.ok("why", waiting[0]["id"], "--json").json[0]["code"] == "no-executors"
    done = scaled.ok("scale", "executors=+20")
    assert "20 executors registered" in done.err
    assert {j["attempts"] for j in all_ended(person, 3)} == {1}


def test_two_who_scale_at_once_come_one_after_the_other(scaled: Cli) -> None:
    first, second = scaled.start("scale", "executors=6"), scaled.start("scale", "executors=4")
    ends = [p.communicate(timeout=120)[1] for p in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], ends
    assert replicas() in (4, 6) and classes(scaled)["executors"]["registered"] == replicas()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("executers=3", "executers"),
        ("executors=many", "'executors=many'"),
        ("executors=-3", "wanted 0 or more"),
        ("executors=201", "at most 200"),
        ("executors", "wanted CLASS=NUMBER"),
    ],
)
def test_what_makes_no_sense_is_said_and_changes_nothing(pool: Cli, word: str, said: str) -> None:
    done = pool.run("scale", word)
    assert done.code == 2 and said in done.err and replicas() == 2


def test_without_a_collector_nobody_is_sent_away(pool: Cli) -> None:
    docker("service", "scale", "-d", f"{POOL}_central-manager=0")
    try:
        until(lambda: not containers_of("central-manager"), timeout_s=60, what="the central manager has gone")
        done = pool.run("scale", "executors=1")
        assert done.code == 1 and "central manager" in done.err and replicas() == 2
    finally:
        docker("service", "scale", "-d", f"{POOL}_central-manager=1")
        until(
            lambda: classes(pool)["executors"]["registered"] == 2, timeout_s=90, what="both executors registered again"
        )


def test_what_finds_no_room_is_said_in_swarms_words_and_the_rest_stays(pool: Cli, person: Cli) -> None:
    file = pool.cwd / "swarmhpc.yaml"
    try:
        file.write_text(CLUSTER_FILE.replace("executors:\n", "executors:\n" + TIGHT))
        pool.ok("up")
        done = pool.run("scale", "tight=3")
        assert done.code == 1
        assert "insufficient resources" in done.err and "keeps 1" in done.err and "Traceback" not in done.err
        assert replicas(f"{POOL}_tight") == 1
        requirements = 'requirements = SwarmHpcClass == "tight"\n'
        submitted(person, requirements + SLEEP.format(seconds=30, count=1))
        (job,) = until(lambda: running_jobs(person), timeout_s=60, what="a job runs in the class")
        assert job["class"] == "tight"
        waiting = submitted(person, requirements + SLEEP.format(seconds=1, count=1))
        docker("service", "scale", "-d", f"{POOL}_tight=2")
        until(
            lambda: person.ok("why", waiting, "--json").json[0]["code"] == "executors-not-starting",
            timeout_s=30, what="why tells what Swarm says",
        )  # fmt: skip
        person.ok("rm", waiting)
        docker("service", "scale", "-d", f"{POOL}_tight=1")
    finally:
        file.write_text(CLUSTER_FILE)
        plan = pool.ok("up").err
    assert "remove service tight" in plan
    assert {j["attempts"] for j in all_ended(person, 1)} == {1}  # the class was removed while it ran


def test_the_pool_grows_with_its_queue_and_shrinks_again(pool: Cli, person: Cli) -> None:
    file = pool.cwd / "swarmhpc.yaml"
    only = 'requirements = SwarmHpcClass == "growing"\n'
    small = only + "executable = /bin/sleep\ntransfer_executable = false\narguments = 4\nqueue 8\n"
    try:
        file.write_text(CLUSTER_FILE.replace("executors:\n", "executors:\n" + GROWING))
        pool.ok("up")
        assert pool.run("autoscale", "on").code == 0
        submitted(person, small)
        # What no executor ever has is refused by submit; which tasks there are changes with time.
        submitted(person, small.replace('"growing"', '"growing" && SwarmHpcTask == "wings"'))
        until(lambda: classes(pool)["growing"]["replicas"] >= 4, timeout_s=60, what="the class has grown")
        (unserved,) = until(
            lambda: [u for u in status(pool)["unserved"] if u["kind"] == "no class matches"],
            timeout_s=30,
            what="the winged jobs are told",
        )
        assert unserved["count"] == 8
        killed = containers_of("autoscaler")
        docker("kill", *killed)
        until(
            lambda: sum(j["status"] == "completed" for j in person.ok("q", "--json").json) == 8,
            timeout_s=120,
            what="the small jobs completed",
        )
        done = [j for j in person.ok("q", "--json").json if j["status"] == "completed"]
        assert {j["attempts"] for j in done} == {1}
        until(lambda: classes(pool)["growing"]["replicas"] == 0, timeout_s=60, what="the class has shrunk again")
        assert containers_of("autoscaler") not in ([], killed)
        pool.ok("autoscale", "off")
    finally:
        file.write_text(CLUSTER_FILE)
        pool.ok("up")


def test_a_second_up_leaves_the_number_of_executors_as_it_was_scaled(scaled: Cli) -> None:
    scaled.ok("scale", "executors=3")
    assert "nothing to do" in scaled.ok("up").err
    assert replicas() == 3


def test_dry_run_and_nothing_to_do(pool: Cli) -> None:
    before = subprocess.run(["docker", "ps", "-q"], capture_output=True, text=True, check=True).stdout
    assert "will scale executors from 2 to 4" in pool.ok("scale", "executors=4", "--dry-run").out
    assert "nothing to do" in pool.ok("scale", "executors=2").err
    assert subprocess.run(["docker", "ps", "-q"], capture_output=True, text=True, check=True).stdout == before


def test_jobs_survive_a_scale_that_is_interrupted(scaled: Cli, person: Cli, tmp_path: Path) -> None:
    scaled.ok("scale", "executors=4")
    submitted(person, SLEEP.format(seconds=12, count=2))
    until(lambda: len(running_jobs(person)) == 2, timeout_s=60, what="two jobs run")
    process = scaled.start("scale", "executors=1")
    until(lambda: replicas() < 4 or "MaxReplicas" in placement(), timeout_s=30, what="it has begun")
    process.kill()  # nothing of it can clean up
    process.wait()
    again = scaled.ok("scale", "executors=2", "--wait", timeout_s=400)
    assert "executors" in again.err and placement() in ("{}", "null")
    assert {j["attempts"] for j in all_ended(person, 2)} == {1}


def placement() -> str:
    return docker("service", "inspect", SERVICE, "--format", "{{json .Spec.TaskTemplate.Placement}}")
