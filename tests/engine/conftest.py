"""A real pool on this machine's engine, driven through the command as a person would.

One pool serves all tests of a session. It has its own name, so a pool that somebody uses on this engine is never
touched: `up` then refuses and the tests fail with its words.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import Cli

POOL = "testpool"
CLUSTER_FILE = """\
name: testpool
executors:
  executors: {replicas: 2, cpus: 2, memory: 1GiB, reserve: false}
drain_timeout: 10m
fairness:
  people:
    favoured: {priority_factor: 500}
    grouped: {group: testers}
  groups:
    testers: {share: 25%}
on_event:  # test_events.py
  command: >-
    { id -u; cat; cat /etc/condor/passwords.d/POOL /var/spool/condor/job_queue.log && echo SECRET; }
    >> /tmp/hook.told 2>&1; true
  states: [FAILED]
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fresh start wants a machine without a Swarm: before all that share the pool."""
    items.sort(key=lambda item: item.path.name != "test_fresh_start.py")


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def containers_of(role: str) -> list[str]:
    return docker("ps", "-q", "--no-trunc", "--filter", f"label=com.docker.swarm.service.name={POOL}_{role}").split()


STANDING = os.environ.get("SWARMHPC_TEST_POOL")
"""A folder with a pool that stands already (its swarmhpc.yaml, and config/ with the administrator's context): the tests
use it as it is and leave it standing. For working on a test; CI makes its own. $SWARMHPC_TEST_PERSON: the person that
the tests are in it, so that several people can run tests at a time."""


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def cluster_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "swarmhpc.yaml").write_text(CLUSTER_FILE)
    return folder


@pytest.fixture(scope="session")
def admin(cluster_folder: Path, home: Path) -> Cli:
    """The administrator, in the folder with the cluster file."""
    if STANDING:
        return Cli(Path(STANDING), Path(STANDING) / "config")
    return Cli(cluster_folder, home / "config")


@pytest.fixture(scope="session")
def pool(admin: Cli) -> Iterator[Cli]:
    """A usable pool; taken down, with its queue but not its images, when the session ends."""
    if STANDING:
        yield admin
        return
    admin.ok("up", timeout_s=1500)
    yield admin
    admin.ok("down", "--now")
    for volume in docker("volume", "ls", "-q", "--filter", f"label=swarmhpc.cluster={POOL}").split():
        docker("volume", "rm", volume)


@pytest.fixture
def person(pool: Cli, tmp_path: Path) -> Iterator[Cli]:
    """Somebody with the pool's context in a fresh folder. Their queue is empty afterwards, also when a test failed."""
    config_home = pool.config_home
    if STANDING:
        config_home = Path(STANDING) / os.environ["SWARMHPC_TEST_PERSON"] / "config"
    somebody = Cli(tmp_path, config_home)
    yield somebody
    empty_queue(somebody)


def name_of(somebody: Cli) -> str:
    """As the pool knows them."""
    context = json.loads((somebody.config_home / "swarmhpc" / POOL / "context.json").read_text())
    return str(context["person"])


def empty_queue(somebody: Cli) -> None:
    name = name_of(somebody)
    jobs = json.loads(somebody.run("q", "--json").out or "[]")
    clusters = {job["id"].partition(".")[0] for job in jobs if job["owner"] == name}
    if clusters:
        somebody.run("rm", *sorted(clusters))


def as_person(pool: Cli, name: str, folder: Path, *, lifetime: str | None = None) -> Cli:
    """A second person on their own machine: a token from the administrator, then `swarmhpc login`."""
    work = folder / "work"
    work.mkdir()
    options = ["--lifetime", lifetime] if lifetime else []
    pool.ok("token", "create", name, "-o", work / "my.token", *options)
    address = json.loads((pool.config_home / "swarmhpc" / POOL / "context.json").read_text())["address"]
    person = Cli(work, folder / "config")
    person.ok("login", address, "--token-file", "my.token")
    return person
