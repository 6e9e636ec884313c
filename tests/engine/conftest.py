"""A real pool on this machine's engine, driven through the command as a person would.

One pool serves all tests of a session. It has its own name, so a pool that somebody uses on this engine is never
touched: `up` then refuses and the tests fail with its words.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[2]
POOL = "testpool"
CLUSTER_FILE = """\
name: testpool
executors:
  executors: {replicas: 2, cpus: 2, memory: 1GiB}
drain_timeout: 10m
"""


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Cli:
    """`swarmhpc` run in a folder as one person (their own configuration folder)."""

    cwd: Path
    config_home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        return {**os.environ, "XDG_CONFIG_HOME": str(self.config_home), "SUDO_USER": "tester", **self.environment}

    def run(self, *arguments: str | Path, timeout_s: float = 300) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "swarmhpc", *map(str, arguments)],
            cwd=self.cwd,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str | Path, timeout_s: float = 300) -> Ran:
        done = self.run(*arguments, timeout_s=timeout_s)
        assert done.code == 0, f"swarmhpc {' '.join(map(str, arguments))}: {done.code}\n{done.out}\n{done.err}"
        return done

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "swarmhpc", *map(str, arguments)],
            cwd=self.cwd,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def interrupt(self, process: subprocess.Popen[str]) -> Ran:
        """Ctrl-C, then its last words."""
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return Ran(process.returncode, out, err)

    def submit(self, text: str, *arguments: str, name: str = "job.sub") -> Ran:
        (self.cwd / name).write_text(text)
        return self.run("submit", name, *arguments)

    def results(self, text: str, *arguments: str) -> list[dict[str, Any]]:
        """Submits, waits, fetches; the jobs as JSON has them."""
        done = self.submit(text, "--wait", "--json", *arguments)
        assert done.out, done.err
        return [j for c in done.json["clusters"] for j in c["jobs"]]


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def until(condition: Callable[[], Any], *, timeout_s: float, what: str) -> Any:
    """Polls until `condition` is true and returns it; fails with `what` after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)
    return seen


def containers_of(role: str) -> list[str]:
    return docker("ps", "-q", "--no-trunc", "--filter", f"label=com.docker.swarm.service.name={POOL}_{role}").split()


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
    return Cli(cluster_folder, home / "config")


@pytest.fixture(scope="session")
def pool(admin: Cli) -> Iterator[Cli]:
    """A usable pool; taken down, with its queue but not its images, when the session ends."""
    admin.ok("up", timeout_s=1500)
    yield admin
    admin.ok("down", "--now")
    for volume in docker("volume", "ls", "-q", "--filter", f"label=swarmhpc.cluster={POOL}").split():
        docker("volume", "rm", volume)


@pytest.fixture
def person(pool: Cli, tmp_path: Path) -> Iterator[Cli]:
    """Somebody with the pool's context in a fresh folder. The queue is empty afterwards, also when a test failed."""
    somebody = Cli(tmp_path, pool.config_home)
    yield somebody
    for job in json.loads(somebody.run("q", "--json").out or "[]"):
        somebody.run("rm", job["id"])


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
