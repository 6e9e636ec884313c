"""The only place that starts other programs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swarmhpc.errors import CommandError, WaitTimeoutError

if TYPE_CHECKING:
    import subprocess


@dataclass(frozen=True)
class Completed:
    """What a program left: both streams as text (undecodable bytes replaced)."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def found(program: str) -> bool:
    """Whether `program` is on the PATH."""
    return shutil.which(program) is not None


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
) -> Completed:
    """Runs `argv` without a shell; `stdin` is all it gets to read.

    Raises CommandError when the program is missing or (with `check`) ends with another code than 0, WaitTimeoutError
    after `timeout_s` seconds. Never put a secret into `argv`: every user of the machine can read it.
    """
    import subprocess

    try:
        done = subprocess.run(
            list(argv),
            input=stdin.encode(),
            capture_output=True,
            timeout=timeout_s,
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError as e:
        raise CommandError(
            f"{argv[0]}: no such program on this machine",
            hint=f"apt-get install the package that has {argv[0]}",
        ) from e
    except subprocess.TimeoutExpired as e:
        raise WaitTimeoutError(f"{' '.join(argv[:3])} did not end within {timeout_s:.0f} s") from e
    result = Completed(
        tuple(argv),
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
    )
    if check and result.returncode != 0:
        said = (result.stderr.strip() or result.stdout.strip() or "nothing")[-2000:]
        raise CommandError(
            f"{' '.join(argv[:3])} ended with code {result.returncode}: {said}",
            returncode=result.returncode,
            output=result.stdout + result.stderr,
        )
    return result


def start(argv: Sequence[str], *, stdio: int) -> subprocess.Popen[bytes]:
    """Starts `argv` with the open file `stdio` as its standard input and output; says nothing, is not waited for."""
    import subprocess

    return subprocess.Popen(list(argv), stdin=stdio, stdout=stdio, stderr=subprocess.DEVNULL)
