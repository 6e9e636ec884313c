"""`docker stack`: the one thing of the engine that has no API."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from swarmhpc.adapters import command
from swarmhpc.errors import EngineError

_IGNORED = ("Ignoring unsupported options", "Ignoring deprecated options")


def deploy(name: str, stack: str, files: Mapping[str, str], *, docker_host: str | None = None) -> None:
    """Deploys `stack` (YAML text) with the files it names next to it; removes services it no longer has.

    Images are never resolved: without a registry they are on every node already (facts: Swarm always tries to pull).
    `docker_host`: the engine of a manager; None: the docker command's own default.
    Raises CommandError with docker's own words, EngineError when docker drops an option of the stack silently.
    """
    with tempfile.TemporaryDirectory(prefix="swarmhpc-") as folder:
        for file, text in files.items():
            (Path(folder) / file).write_text(text)
        path = Path(folder) / "stack.yml"
        path.write_text(stack)
        argv = ["docker", "stack", "deploy", "--resolve-image", "never", "--prune", "-c", str(path), name]
        done = command.run(argv, timeout_s=180, cwd=Path(folder), env=_env(docker_host))
    for line in done.stderr.splitlines():
        if line.startswith(_IGNORED):
            raise EngineError(f"docker stack deploy {name}: {line}")


def remove(name: str, *, docker_host: str | None = None) -> None:
    """Removes the stack's services, networks, configs; not its volumes."""
    command.run(["docker", "stack", "rm", name], timeout_s=180, env=_env(docker_host))


def _env(docker_host: str | None) -> dict[str, str]:
    return {} if docker_host is None else {"DOCKER_HOST": docker_host, "DOCKER_CONTEXT": ""}
