"""The README's first command from a fresh clone, before the session's own pool exists."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from tests.command_line import TOP
from tests.engine.conftest import docker


def _run(clone: Path, home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=clone,
        env={**os.environ, "XDG_CONFIG_HOME": str(home), "SUDO_USER": "starter"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


def test_quickstart_takes_a_fresh_clone_to_ten_outputs_and_does_nothing_twice(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(TOP), str(clone)], check=True)
    home = tmp_path / "home"
    command = str(clone / ".venv/bin/swarmhpc")
    try:
        first = _run(clone, home, "./quickstart")
        assert first.returncode == 0, first.stdout + first.stderr
        assert "how to undo it" in first.stdout
        names = {(clone / "quickstart-results" / f"out.{i}").read_text().split()[-2] for i in range(10)}
        assert len(names) == 10 and all(name in first.stdout for name in names)

        containers = docker("ps", "-q", "--no-trunc")
        packages = (clone / ".venv").stat().st_mtime_ns
        began = time.monotonic()
        second = _run(clone, home, "./quickstart")
        assert second.returncode == 0, second.stdout + second.stderr
        assert time.monotonic() - began < 60
        assert "nothing to do" in second.stderr + second.stdout
        assert docker("ps", "-q", "--no-trunc") == containers
        assert (clone / ".venv").stat().st_mtime_ns == packages
        again = {(clone / "quickstart-results" / f"out.{i}").read_text().split()[-2] for i in range(10)}
        assert not names & again

        status = json.loads(_run(clone, home, command, "status", "--json").stdout)
        assert status["pool"] == "swarmhpc" and status["classes"][0]["registered"] == 2
    finally:
        down = _run(clone, home, command, "down", "--now")
    assert down.returncode == 0, down.stderr
    docker("volume", "rm", "swarmhpc_queue", "swarmhpc_accounting")
