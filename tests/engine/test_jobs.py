"""Jobs on the real pool: what goes in, what comes back, and what each job may touch."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.command_line import TOP, Cli, until
from tests.engine.conftest import containers_of, docker

HOSTS = (TOP / "examples" / "hosts.sub").read_text()
PLAIN = "executable = /bin/sh\noutput = out\nerror = err\n"
DOCKER = "universe = docker\ndocker_image = debian\n" + PLAIN


def test_the_example_brings_back_ten_hosts_files_of_ten_containers(person: Cli) -> None:
    done = person.submit(HOSTS, "--wait")
    assert done.code == 0, done.err
    outputs = [(person.cwd / f"out.{i}").read_text() for i in range(10)]
    names = {text.split()[-2] for text in outputs}  # the last line: address, host name, alias
    assert len(names) == 10
    assert Path("/etc/hosts").read_text() not in outputs
    assert [(person.cwd / f"err.{i}").read_text() for i in range(10)] == [""] * 10
    assert person.ok("q", "--json").json == []


def test_submit_wait_json_tells_of_each_job_where_it_ran_and_where_its_output_is(person: Cli) -> None:
    jobs = person.results(HOSTS.replace("queue 10", "queue 2"))
    assert [j["exit_code"] for j in jobs] == [0, 0]
    assert [j["status"] for j in jobs] == ["completed"] * 2
    assert [j["output"] for j in jobs] == [str(person.cwd / f"out.{i}") for i in range(2)]
    assert all(j["host"].startswith("executors-") and re.fullmatch(r"\d+\.[01]", j["id"]) for j in jobs)


def test_a_plain_job_takes_inputs_and_returns_what_it_made_where_the_description_says(person: Cli) -> None:
    (person.cwd / "in.txt").write_text("seven\n")
    (person.cwd / "work.sh").write_text("#!/bin/sh\ncat in.txt > made.txt; echo said $1; echo complaint >&2\n")
    (person.cwd / "results").mkdir()
    jobs = person.results(
        "executable = work.sh\narguments = a$(Process)\ntransfer_input_files = in.txt\n"
        "output = results/out.$(Cluster).$(Process)\nerror = results/err.$(Process)\nlog = results/job.log\n"
        'transfer_output_remaps = "made.txt=results/made.$(Process)"\nqueue 2\n'
    )
    cluster = jobs[0]["id"].partition(".")[0]
    for i in range(2):
        assert (person.cwd / f"results/out.{cluster}.{i}").read_text() == f"said a{i}\n"
        assert (person.cwd / f"results/err.{i}").read_text() == "complaint\n"
        assert (person.cwd / f"results/made.{i}").read_text() == "seven\n"
    assert "Job terminated" in (person.cwd / "results/job.log").read_text()
    assert jobs[0]["output"] == str(person.cwd / f"results/out.{cluster}.0")


def test_a_docker_job_without_inputs_returns_new_files_and_its_log(person: Cli) -> None:
    (person.cwd / "sub").mkdir()
    jobs = person.results(
        "universe = docker\ndocker_image = debian\nexecutable = /bin/sh\n"
        "arguments = \"-c 'echo new > made; echo hello'\"\n"
        "initialdir = sub\noutput = out.$(Cluster)\nlog = job.log\nqueue\n"
    )
    cluster = jobs[0]["id"].partition(".")[0]
    assert (person.cwd / "sub" / "made").read_text() == "new\n"
    assert (person.cwd / "sub" / f"out.{cluster}").read_text() == "hello\n"
    assert "Job terminated" in (person.cwd / "sub" / "job.log").read_text()


def test_a_docker_job_returns_new_and_changed_files_and_nothing_else(person: Cli) -> None:
    for name in ("changed.txt", "same.txt"):
        (person.cwd / name).write_text("before")
    untouched = (person.cwd / "same.txt").stat()
    (person.cwd / "make.sh").write_text(
        "#!/bin/sh\nprintf behind > changed.txt; echo 1 > made; echo 2 > .hidden; echo 3 > 'a b'\n"
        "mkdir d; echo 4 > d/inside\n"
    )
    jobs = person.results(
        "docker_image = debian\nexecutable = make.sh\noutput = out\nerror = err\n"
        'transfer_input_files = changed.txt, same.txt\ntransfer_output_remaps = "made=there"\nqueue\n'
    )
    assert jobs[0]["exit_code"] == 0
    found = {p.name for p in person.cwd.iterdir()}
    assert found == {"changed.txt", "same.txt", "there", ".hidden", "a b", "out", "err", "job.sub", "make.sh"}
    assert (person.cwd / "changed.txt").read_text() == "behind"  # as long as before, and changed within the same second
    assert (person.cwd / "same.txt").stat().st_mtime_ns == untouched.st_mtime_ns


def test_jobs_of_one_executor_cannot_look_into_each_others_scratch(person: Cli) -> None:
    look = (
        "sleep 3; for d in /var/lib/swarmhpc/execute/*/dir_*/scratch; do ls $d >/dev/null 2>&1 && echo $d; done; true"
    )
    jobs = person.results(
        PLAIN + f"arguments = \"-c '{look}'\"\noutput = out.$(Process)\nqueue 4\n".replace("$d", "$(DOLLAR)d")
    )
    hosts = [j["host"] for j in jobs]
    assert len(hosts) > len(set(hosts)), "no two jobs shared an executor"
    seen = [(person.cwd / f"out.{i}").read_text().split() for i in range(4)]
    assert [len(s) for s in seen] == [1] * 4 and len({s[0] for s in seen}) == 4


@pytest.mark.parametrize("universe", ["vanilla", "docker"])
def test_a_job_that_fails_says_so_and_still_returns_its_output(person: Cli, universe: str) -> None:
    kind = DOCKER if universe == "docker" else PLAIN
    done = person.submit(kind + "arguments = \"-c 'echo partial; exit 3'\"\nqueue\n", "--wait", "--json")
    assert done.code == 1
    assert "ended with code 3" in done.err
    assert done.json["clusters"][0]["jobs"][0]["exit_code"] == 3
    assert (person.cwd / "out").read_text() == "partial\n"


def test_a_job_container_has_hard_limits_labels_and_no_rights(person: Cli) -> None:
    done = person.submit(DOCKER + "arguments = \"-c 'sleep 600'\"\nrequest_memory = 200M\nqueue\n", "--json")
    cluster = done.json["clusters"][0]["cluster"]
    try:
        found = until(
            lambda: docker("ps", "-q", "--filter", f"label=swarmhpc.job={cluster}.0"),
            timeout_s=30,
            what="job container",
        )
        seen = json.loads(docker("inspect", found))[0]
        limits = seen["HostConfig"]
        assert limits["Memory"] == limits["MemorySwap"] >= 200 * 2**20
        assert limits["NanoCpus"] == 10**9
        assert limits["PidsLimit"] == 4096
        assert limits["CapDrop"] and not limits["Privileged"] and "no-new-privileges" in limits["SecurityOpt"]
        assert seen["Config"]["Labels"]["swarmhpc.cluster"] == "testpool"
        assert int(seen["Config"]["User"].partition(":")[0]) >= 20000
        assert all(m["Source"].startswith("/var/lib/swarmhpc/execute/") for m in seen["Mounts"])
    finally:
        person.ok("rm", str(cluster))
    until(
        lambda: not docker("ps", "-aq", "--filter", f"label=swarmhpc.job={cluster}.0"),
        timeout_s=20,
        what="container gone after rm",
    )


def test_a_docker_job_that_outgrows_its_memory_is_held_with_the_reason(person: Cli) -> None:
    grow = "arguments = \"-c 'x=$(head -c 400m /dev/zero | tr 0 1 | base64); echo $#x'\"".replace("$(", "$(DOLLAR)(")
    done = person.submit(DOCKER + grow + "\nrequest_memory = 64M\nqueue\n", "--wait", "--json")
    assert done.code == 1
    assert "memory" in done.err.lower() and "code 34" in done.err
    cluster = done.json["clusters"][0]["cluster"]
    assert person.ok("q", "--json").json[0]["status"] == "held"
    person.ok("rm", str(cluster))


def test_jobs_reach_neither_the_engine_nor_the_pools_secrets(person: Cli) -> None:
    look = "for f in /var/run/docker.sock /etc/condor/tokens.d/pool /etc/condor/passwords.d/POOL /run/secrets; do "
    look += "test -r $f -o -w $f && echo reachable $f; done; true"
    for kind in (PLAIN, DOCKER):
        person.results(kind + f"arguments = \"-c '{look}'\"\nqueue\n".replace("$f", "$(DOLLAR)f"))
        assert (person.cwd / "out").read_text() == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("docker_image = no-such-image-anywhere:9", "no-such-image-anywhere"),
        ("executable = /bin/no-such-program", "no-such-program"),
    ],
)
def test_what_the_image_cannot_give_is_named(person: Cli, line: str, words: str) -> None:
    done = person.submit(DOCKER + line + "\nqueue\n", "--wait")
    assert done.code == 1
    assert words in done.err and "next:" in done.err
    for job in person.ok("q", "--json").json:
        person.ok("rm", job["id"])


def test_host_networking_is_refused_by_the_pool_with_the_key_that_would_allow_it(person: Cli) -> None:
    done = person.submit(DOCKER + "docker_network_type = host\nqueue\n")
    assert done.code != 0
    assert "jobs.allow_host_network" in done.err
    assert person.ok("q", "--json").json == []


def test_a_request_larger_than_any_executor_is_refused_before_submission(person: Cli) -> None:
    done = person.submit(DOCKER + "request_memory = 900 GB\nqueue\n")
    assert done.code == 2
    assert "job.sub:6" in done.err and "executors" in done.err
    assert person.ok("q", "--json").json == []


def test_ctrl_c_in_submit_wait_leaves_the_jobs_and_fetch_brings_them_later(person: Cli) -> None:
    (person.cwd / "job.sub").write_text(DOCKER + "arguments = \"-c 'sleep 4; echo late'\"\nqueue\n")
    process = person.start("submit", "job.sub", "--wait")
    until(lambda: person.ok("q", "--json").json, timeout_s=30, what="job in the queue")
    said = person.interrupt(process)
    assert said.code == 1
    cluster = re.findall(r"swarmhpc fetch (\d+)", said.err)[0]
    person.ok("wait", cluster, timeout_s=60)
    person.ok("fetch", cluster)
    assert (person.cwd / "out").read_text() == "late\n"


def test_fetching_to_a_full_disk_loses_nothing(person: Cli) -> None:
    full = person.cwd / "small"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(full)], check=True)
    try:
        there = Cli(full, person.config_home)
        done = there.submit(DOCKER + "arguments = \"-c 'head -c 3m /dev/zero'\"\nqueue\n", "--wait", "--json")
        assert done.code == 1, done.err
        (job,) = there.ok("q", "--json").json
        assert job["status"] == "completed"
        again = there.run("fetch", job["id"])
        assert again.code == 1 and "next:" in again.err
        subprocess.run(["mount", "-o", "remount,size=8m", str(full)], check=True)
        there.ok("fetch", job["id"])
        assert (full / "out").stat().st_size == 3 * 2**20
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_forty_jobs_survive_neighbours_that_prune_and_start_all_the_time(pool: Cli, person: Cli) -> None:
    """HTCondor's starting executors prune containers that are created but not started (facts: 0 of 40 finished)."""
    stop = threading.Event()
    executor = containers_of("executors")[0]
    ends: list[tuple[int, str]] = []  # exit code and words of every prune

    def neighbour() -> None:
        prune = [
            "/usr/local/lib/swarmhpc/docker",
            "container",
            "prune",
            "-f",
            "--filter=label=org.htcondorproject=True",
        ]
        while not stop.is_set():
            other = ["-e", "SWARMHPC_TASK=neighbour", "-e", "SWARMHPC_EXECUTE=/nowhere"]
            argv = ["docker", "exec", *other, executor, *prune]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
            ends.append((done.returncode, done.stderr))

    thread = threading.Thread(target=neighbour)
    thread.start()
    try:
        docker("service", "scale", "-d", "testpool_executors=4")
        jobs = person.results(DOCKER + "arguments = \"-c 'echo $(Process)'\"\nrequest_memory = 64M\nqueue 40\n")
    finally:
        stop.set()
        thread.join()
        docker("service", "scale", "-d", "testpool_executors=2")
    assert [j["exit_code"] for j in jobs] == [0] * 40
    # The engine does one prune at a time; a starting executor's own may be under way.
    refused = [said for code, said in ends if code != 0]
    assert all("a prune operation is already running" in said for said in refused), refused
    assert len(ends) - len(refused) >= 5, ends
    until(lambda: len(containers_of("executors")) == 2, timeout_s=60, what="two executors again")


def test_a_killed_executor_leaves_nothing_and_its_job_runs_elsewhere(person: Cli) -> None:
    lease = "job_lease_duration = 30\n"  # the pool's own is two minutes
    done = person.submit(DOCKER + lease + "arguments = \"-c 'sleep 8; echo twice'\"\nqueue\n", "--json")
    cluster = done.json["clusters"][0]["cluster"]
    label = f"label=swarmhpc.job={cluster}.0"
    orphan = until(lambda: docker("ps", "-q", "--no-trunc", "--filter", label), timeout_s=30, what="job container")
    task = docker("inspect", "-f", '{{index .Config.Labels "swarmhpc.task"}}', orphan)
    executor = docker("ps", "-q", "--filter", f"label=com.docker.swarm.task.id={task}")
    pid = int(docker("inspect", "-f", "{{.State.Pid}}", executor))
    os.kill(pid, signal.SIGKILL)

    def why() -> str:
        return str(person.ok("why", f"{cluster}.0", "--json").json[0]["code"])

    until(lambda: why() == "executor-lost", timeout_s=30, what="why knows that its executor has gone")
    until(lambda: orphan not in docker("ps", "-aq", "--no-trunc"), timeout_s=60, what="orphan reaped")
    until(lambda: not Path(f"/var/lib/swarmhpc/execute/{task}").exists(), timeout_s=60, what="scratch removed")
    until(
        lambda: person.ok("q", "--json").json[0]["status"] == "completed", timeout_s=150, what="job finished elsewhere"
    )
    assert person.ok("q", "--json").json[0]["attempts"] >= 2
    person.ok("fetch", str(cluster))
    assert (person.cwd / "out").read_text() == "twice\n"


def test_a_killed_access_point_comes_back_with_its_queue_and_its_running_job(person: Cli) -> None:
    done = person.submit(DOCKER + "arguments = \"-c 'sleep 20; echo once'\"\nqueue\n", "--json")
    cluster = str(done.json["clusters"][0]["cluster"])
    label = f"label=swarmhpc.job={cluster}.0"
    until(lambda: docker("ps", "-q", "--filter", label), timeout_s=30, what="job container")
    docker("kill", containers_of("access-point")[0])
    waited = person.run("wait", cluster, timeout_s=150)
    if waited.code != 0:
        # Between two access points the first question finds nobody; asking again is what the message says.
        assert "does not answer" in waited.err
        until(lambda: person.run("wait", cluster, timeout_s=150).code == 0, timeout_s=150, what="job done")
    (job,) = person.ok("q", "--json").json
    assert job["attempts"] == 1
    person.ok("fetch", cluster)
    assert (person.cwd / "out").read_text() == "once\n"
