"""The pool as a whole: up, status, down, and what they do when something is in the way."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

import yaml

from tests.command_line import Cli, until
from tests.engine.conftest import CLUSTER_FILE, POOL, containers_of, docker

SLEEP = "universe = docker\ndocker_image = debian\nexecutable = /bin/sh\noutput = out\n"


def test_a_second_up_finds_nothing_to_do(pool: Cli) -> None:
    before = docker("ps", "-q", "--no-trunc")
    again = pool.ok("up")
    assert "nothing to do" in again.err
    assert pool.ok("up", "--dry-run").out == ""
    assert docker("ps", "-q", "--no-trunc") == before


def test_up_without_the_file_remembers_the_clusters_own(pool: Cli, tmp_path: Path) -> None:
    elsewhere = Cli(tmp_path, pool.config_home)
    assert "nothing to do" in elsewhere.ok("up").err


def test_status_has_what_scripts_rely_on(pool: Cli) -> None:
    s = pool.ok("status", "--json").json
    assert s["pool"] == POOL
    assert s["networking"] in ("vip", "dnsrr")
    assert s["central_manager"]["state"] == s["access_point"]["state"] == "running"
    (c,) = s["classes"]
    assert (c["name"], c["replicas"], c["running"], c["registered"]) == ("executors", 2, 2, 2)
    assert c["busy"] == 0 and c["draining"] == 0
    assert len(s["nodes"]) == 1
    assert set(s["jobs"]) == {"idle", "running", "held", "completed"}
    table = pool.ok("status").out
    assert "executors" in table and "slot1@executors-1" in table


def test_networking_is_what_the_kernel_can_do(pool: Cli) -> None:
    from swarmhpc.adapters import machine

    assert pool.ok("status", "--json").json["networking"] == ("vip" if machine.has_ipvs() else "dnsrr")


def test_doctor_finds_no_problem_in_a_healthy_pool(pool: Cli) -> None:
    checks = {c["name"]: c for c in pool.ok("doctor", "--json").json}
    assert all(c["status"] != "problem" for c in checks.values()), checks


def test_render_prints_the_stack_that_runs(pool: Cli) -> None:
    text = pool.ok("render").out
    stack = yaml.safe_load(text.split("# ---- common.conf ----")[0])
    assert set(stack["services"]) == {"central-manager", "access-point", "janitor", "autoscaler", "executors"}
    assert "NEGOTIATOR_INTERVAL" in text


def test_a_changed_file_changes_only_what_it_names(pool: Cli) -> None:
    file = pool.cwd / "swarmhpc.yaml"
    manager, queue, old = (containers_of(r) for r in ("central-manager", "access-point", "executors"))
    try:
        file.write_text(CLUSTER_FILE + "jobs: {pids_limit: 2048}\n")
        plan = pool.ok("up", "--dry-run").out
        assert plan.splitlines() == [
            "will update service executors: its section of the stack changed",
            "will store the cluster file in the Swarm",
        ]
        pool.ok("up")
        assert containers_of("central-manager") == manager and containers_of("access-point") == queue
        assert not set(containers_of("executors")) & set(old)
    finally:
        file.write_text(CLUSTER_FILE)
        pool.ok("up")


def test_the_cluster_file_may_allow_host_networking_and_volumes(pool: Cli, person: Cli) -> None:
    file = pool.cwd / "swarmhpc.yaml"
    shared = Path("/srv/swarmhpc-test")
    shared.mkdir()
    (shared / "reference").write_text("shared data\n")
    volume = "{source: /srv/swarmhpc-test, target: /data}"
    try:
        file.write_text(CLUSTER_FILE + f"jobs: {{allow_host_network: true, volumes: [{volume}]}}\n")
        pool.ok("up")
        script = "hostname; cat /data/reference; touch /data/new || echo read-only"
        (job,) = person.results(SLEEP + f"docker_network_type = host\narguments = \"-c '{script}'\"\nqueue\n")
        assert job["exit_code"] == 0
        assert (person.cwd / "out").read_text().splitlines() == [socket.gethostname(), "shared data", "read-only"]
    finally:
        file.write_text(CLUSTER_FILE)
        shutil.rmtree(shared)
        pool.ok("up")


def test_a_wrong_submit_file_is_told_with_its_place_and_nothing_is_submitted(pool: Cli, person: Cli) -> None:
    missing = person.run("submit", "none.sub")
    assert missing.code == 2 and "none.sub: there is no such file" in missing.err
    folder = person.run("submit", ".")
    assert folder.code == 2 and "is a folder" in folder.err
    (person.cwd / "junk.sub").write_bytes(b"executable = \xff\xfe\nqueue\n")
    assert person.run("submit", "junk.sub").code == 2
    wrong = person.submit(SLEEP + "arguements = x\ntransfer_input_files = nowhere.txt\nqueue\n")
    assert wrong.code == 2
    assert "job.sub:5:1" in wrong.err and "arguments" in wrong.err and "nowhere.txt" in wrong.err
    marker = person.cwd / "ran"
    command = person.submit(
        f"include command : touch {marker}\nexecutable = /bin/true\nqueue a from touch {marker} |\n"
    )
    assert command.code == 2 and not marker.exists()
    assert person.ok("q", "--json").json == []


def test_a_wrong_cluster_file_is_told_whole_and_changes_nothing(pool: Cli, tmp_path: Path) -> None:
    (tmp_path / "swarmhpc.yaml").write_text("nme: x\nports: {access_point: 70000}\njobs: {default_memory: 5 gigs}\n")
    done = Cli(tmp_path, pool.config_home).run("up")
    assert done.code == 2
    assert [f"swarmhpc.yaml:{n}" in done.err for n in (1, 2, 3)] == [True] * 3


def test_the_subnet_of_a_running_pool_stays(pool: Cli, tmp_path: Path) -> None:
    (tmp_path / "swarmhpc.yaml").write_text(CLUSTER_FILE + "subnet: 10.99.0.0/16\n")
    done = Cli(tmp_path, pool.config_home).run("up")
    assert done.code == 2 and "subnet" in done.err and "swarmhpc down" in done.err


def test_another_pools_file_is_refused_here(pool: Cli, tmp_path: Path) -> None:
    (tmp_path / "swarmhpc.yaml").write_text("name: other\n")
    for verb in ("up", "up --dry-run"):
        done = Cli(tmp_path, pool.config_home).run(*verb.split())
        assert done.code == 1 and POOL in done.err


def test_no_engine_is_one_clear_sentence(tmp_path: Path) -> None:
    cli = Cli(tmp_path, tmp_path, {"DOCKER_HOST": f"unix://{tmp_path}/no.sock"})
    for verb in (["up"], ["down"], ["images", "list"], ["render"], ["token", "list"]):
        done = cli.run(*verb)
        assert done.code == 1
        assert "no Docker engine answers" in done.err and "next:" in done.err
    assert cli.run("doctor").code == 1


def test_images_travel_in_one_file_and_a_full_disk_leaves_none_half_written(pool: Cli, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=True)
    try:
        failed = pool.run("images", "save", small / "pool.tar")
        assert failed.code == 1 and "can't be written" in failed.err and not list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)
    file = tmp_path / "pool.tar"
    pool.ok("images", "save", file)
    loaded = pool.ok("images", "load", file)
    assert "swarmhpc/pool:" in loaded.err and "debian:latest" in loaded.err
    junk = tmp_path / "junk.tar"
    junk.write_bytes(b"not a tar")
    assert pool.run("images", "load", junk).code == 1
    assert pool.run("images", "load", tmp_path / "none").code == 2


def test_down_lets_jobs_finish_keeps_the_queue_and_up_brings_it_back(pool: Cli, person: Cli) -> None:
    running = str(
        person.submit(SLEEP + "arguments = \"-c 'sleep 10; echo finished'\"\nqueue\n", "--json").json["clusters"][0][
            "cluster"
        ]
    )
    until(lambda: person.ok("q", "--json").json[0]["status"] == "running", timeout_s=30, what="job running")

    first = pool.start("down")
    until(
        # "1/0": wanted are none, and the one with the job still runs. "0/0" lasts for an instant only.
        lambda: re.search(r"_executors \d+/0", docker("service", "ls", "--format", "{{.Name}} {{.Replicas}}")),
        timeout_s=30,
        what="scaled to 0",
    )
    interrupted = pool.interrupt(first)
    assert interrupted.code == 1 and "swarmhpc down goes on" in interrupted.err

    done = pool.ok("down")
    assert f"{POOL}_queue" in done.err
    assert docker("info", "-f", "{{.Swarm.LocalNodeState}}") == "inactive"
    assert docker("ps", "-aq", "--filter", f"label=swarmhpc.cluster={POOL}") == ""
    volumes = docker("volume", "ls", "-q", "--filter", f"label=swarmhpc.cluster={POOL}").split()
    assert sorted(volumes) == [f"{POOL}_accounting", f"{POOL}_queue"]
    assert "docker_gwbridge" not in docker("network", "ls")
    assert not Path("/var/lib/swarmhpc/execute").exists()
    assert not (pool.config_home / "swarmhpc" / POOL).exists()
    assert "nothing to do" in pool.ok("down").err

    _interrupted_up_goes_on(pool)
    (job,) = person.ok("q", "--json").json
    assert (job["id"], job["status"], job["attempts"]) == (f"{running}.0", "completed", 1)
    person.ok("fetch", running)
    assert (person.cwd / "out").read_text() == "finished\n"


def _interrupted_up_goes_on(pool: Cli) -> None:
    started = pool.start("up")
    until(lambda: docker("service", "ls", "-q", check=False), timeout_s=60, what="first service")
    said = pool.interrupt(started)
    assert said.code == 1 and "swarmhpc up goes on" in said.err
    pool.ok("up")


def test_down_now_sends_running_jobs_back_to_the_queue(pool: Cli, person: Cli) -> None:
    cluster = str(
        person.submit(SLEEP + "arguments = \"-c 'sleep 300'\"\nqueue\n", "--json").json["clusters"][0]["cluster"]
    )
    until(lambda: person.ok("q", "--json").json[0]["status"] == "running", timeout_s=30, what="job running")
    pool.ok("down", "--now", timeout_s=90)
    assert docker("ps", "-aq", "--filter", "label=swarmhpc.task") == ""
    pool.ok("up")
    (job,) = person.ok("q", "--json").json
    assert job["id"] == f"{cluster}.0" and job["status"] in ("idle", "running")
    person.ok("rm", cluster)


def test_what_is_in_the_way_of_up_is_named_and_left_alone(pool: Cli) -> None:
    """A port that is taken, then a Swarm of somebody else; afterwards `up` works again."""
    pool.ok("down", "--now")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 9619))
        taken.listen()
        done = pool.run("up")
        assert done.code == 1 and re.search(r"port 9619 .* taken .* ss -ltnp", done.err)
    assert docker("info", "-f", "{{.Swarm.LocalNodeState}}") == "inactive"

    file = pool.cwd / "swarmhpc.yaml"
    file.write_text(CLUSTER_FILE + "image: {name: 'localhost:1/nobody:1'}\n")
    done = pool.run("up")
    assert done.code == 1 and "up failed in phase image" in done.err and "the engine says" in done.err
    file.write_text(CLUSTER_FILE)
    pool.ok("down")

    docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        for verb in ("up", "down"):
            done = pool.run(verb)
            assert done.code == 1 and "did not make" in done.err
        assert docker("info", "-f", "{{.Swarm.LocalNodeState}}") == "active"
    finally:
        docker("swarm", "leave", "--force")
    pool.ok("up")
