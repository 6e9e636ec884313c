"""HTCondor's own clients against the pool, as on a person's machine that has HTCondor and never heard of swarmhpc: a
container on the plain docker bridge with the package's configuration, an unprivileged account, and one token of ours
where HTCondor looks for tokens."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.command_line import Cli, until
from tests.engine.conftest import POOL, as_person, containers_of, docker

HOME = "/home/visitor"
QUEUE = f"access-point@{POOL}"
COUNT = "#!/bin/sh\nseq $1\ncat data.txt\necho job $2\n"
JOBS = """\
universe = docker
docker_image = debian
executable = count.sh
arguments = 2 $(Process)
transfer_input_files = data.txt
output = out.$(Process)
error = err.$(Process)
log = log.$(Process)
request_cpus = 1
request_memory = 64MB
request_disk = 10MB
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
queue 2
"""
SLEEP = """\
executable = /bin/sleep
transfer_executable = false
arguments = 600
request_memory = 32MB
request_disk = 1MB
queue
"""


@dataclass(frozen=True)
class Client:
    """A machine with HTCondor's tools. `pool`: the two options that name the pool."""

    container: str
    pool: str
    queue: str
    person: Cli

    def run(self, command: str, *, check: bool = True, stdin: str = "") -> str:
        """A command line in the person's folder there; {pool} and {queue} in it are options."""
        words = ["docker", "exec", "-i", "-u", "visitor", "-w", f"{HOME}/jobs", self.container, "sh", "-c"]
        line = command.format(pool=self.pool, queue=self.queue)
        done = subprocess.run([*words, line], input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def write(self, name: str, text: str) -> None:
        """A file there."""
        self.run(f"cat > {name}", stdin=text)

    def submit(self, description: str) -> str:
        """The cluster."""
        said = self.run(f"condor_submit {self.pool} -remote {QUEUE} -spool {description}")
        return said.rpartition("submitted to cluster ")[2].partition(".")[0]

    def states(self, cluster: str) -> set[str]:
        return set(self.run(f"condor_q {{queue}} {cluster} -af JobStatus").split())


@pytest.fixture(scope="module")
def client(pool: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    person = as_person(pool, "visitor", tmp_path_factory.mktemp("visitor"))
    address = json.loads((person.config_home / "swarmhpc" / POOL / "context.json").read_text())["address"]
    image = docker("inspect", "-f", "{{.Config.Image}}", containers_of("access-point")[0])
    made = docker("run", "-d", "--init", "--network", "bridge", "--entrypoint", "sleep", image, "900")
    named = f"-pool {address}"
    visitor = Client(made, named, f"{named} -name {QUEUE}", person)
    try:
        docker("exec", made, "useradd", "--home-dir", HOME, "--create-home", "visitor")
        docker("exec", "-u", "visitor", made, "mkdir", "-p", f"{HOME}/jobs", f"{HOME}/.condor/tokens.d")
        token = (person.cwd / "my.token").read_text()
        visitor.run(f"umask 077; cat > {HOME}/.condor/tokens.d/{POOL}", stdin=token)
        for name, text in (("jobs.sub", JOBS), ("sleep.sub", SLEEP), ("count.sh", COUNT), ("data.txt", "hello\n")):
            visitor.write(name, text)
        visitor.run("chmod +x count.sh")
        yield visitor
        visitor.run("condor_rm {queue} -all", check=False)
    finally:
        docker("rm", "-f", made)


def test_jobs_travel_from_condor_submit_to_condor_transfer_data(client: Client) -> None:
    cluster = client.submit("jobs.sub")
    until(lambda: client.states(cluster) == {"4"}, timeout_s=60, what="both jobs completed")
    client.run(f"condor_transfer_data {{queue}} {cluster}")
    for number in (0, 1):
        assert client.run(f"cat out.{number} err.{number}") == f"1\n2\nhello\njob {number}\n"
        assert client.run(f"grep -c 'Job terminated' log.{number}").strip() == "1"
    client.run(f"condor_rm {{queue}} {cluster}")
    # The access point writes its history when it has taken the jobs off the queue.
    until(
        lambda: (
            client.run(f"condor_history {{queue}} {cluster} -limit 2 -af ClusterId ExitCode") == f"{cluster} 0\n" * 2
        ),
        timeout_s=20,
        what="both jobs in the history",
    )
    assert client.states(cluster) == set()


def test_a_running_job_is_held_released_edited_and_removed(client: Client) -> None:
    cluster = client.submit("sleep.sub")
    attempts = f"condor_q {{queue}} {cluster} -af JobStatus NumJobStarts"
    until(lambda: client.run(attempts).split() == ["2", "1"], timeout_s=60, what="the job runs")
    client.run(f"condor_hold {{queue}} {cluster}")
    until(lambda: client.states(cluster) == {"5"}, timeout_s=20, what="the job is held")
    client.run(f"condor_qedit {{queue}} {cluster} RequestMemory 48")
    client.run(f"condor_release {{queue}} {cluster}")
    until(lambda: client.run(attempts).split() == ["2", "2"], timeout_s=60, what="the job runs again")
    assert client.run(f"condor_q {{queue}} {cluster} -af RequestMemory").strip() == "48"
    client.run(f"condor_rm {{queue}} {cluster}")
    until(lambda: client.states(cluster) == set(), timeout_s=20, what="the job has left the queue")


def test_swarmhpc_and_the_plain_client_see_the_same_jobs(client: Client) -> None:
    cluster = client.submit("jobs.sub")
    client.person.ok("wait", cluster)
    listed = client.run(f"condor_q {{queue}} {cluster} -af:j Owner").split()
    assert listed == [f"{cluster}.0", "visitor", f"{cluster}.1", "visitor"]
    client.person.ok("rm", cluster)
    assert client.states(cluster) == set()


def test_an_address_in_the_persons_own_configuration_makes_all_options_needless(client: Client) -> None:
    address = client.pool.removeprefix("-pool ")
    client.run(f"printf 'CONDOR_HOST = {address}\\nSCHEDD_HOST = {QUEUE}\\n' > {HOME}/.condor/user_config")
    try:
        said = client.run("condor_submit -spool sleep.sub")
        cluster = said.rpartition("submitted to cluster ")[2].partition(".")[0]
        assert cluster in client.run("condor_q -af ClusterId").split()
        assert "executors" in client.run("condor_status -af Machine")
        client.run(f"condor_rm {cluster}")
    finally:
        client.run(f"rm {HOME}/.condor/user_config")


def test_without_the_token_nothing_is_told(client: Client) -> None:
    token = f"{HOME}/.condor/tokens.d/{POOL}"
    client.run(f"mv {token} {HOME}/kept")
    try:
        for command in (
            "condor_status {pool}",
            "condor_q {queue}",
            f"condor_submit {{pool}} -remote {QUEUE} -spool sleep.sub",
        ):
            said = client.run(command + " && echo IT WORKED", check=False)
            assert "IT WORKED" not in said
            assert "AUTHENTICATE:1003" in said or "Can't find address of schedd" in said or "contact" in said
    finally:
        client.run(f"mv {HOME}/kept {token}")
