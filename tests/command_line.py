"""`swarmhpc` as a person runs it: a folder, a configuration folder of their own, exit code and both streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[1]


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
        # A shell starts what it puts into the background deaf to Ctrl-C, and children inherit that: env(1) undoes it.
        return subprocess.Popen(
            ["env", "--default-signal=INT", sys.executable, "-m", "swarmhpc", *map(str, arguments)],
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


def until(condition: Callable[[], Any], *, timeout_s: float, what: str) -> Any:
    """Polls until `condition` is true and returns it; fails with `what` after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)
    return seen
