"""Programs that run beside an event loop: the gateway's and its agents'."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Final

PIPE: Final = asyncio.subprocess.PIPE
NOTHING: Final = asyncio.subprocess.DEVNULL
Process = asyncio.subprocess.Process


async def start(
    argv: Sequence[str],
    *,
    stdin: int = NOTHING,
    stdout: int = NOTHING,
    stderr: int = NOTHING,
    account: tuple[int, int] | None = None,
    env: Mapping[str, str] | None = None,
) -> Process:
    """Starts `argv` without a shell; `account`: uid and gid that it runs as, with no further group. Secrets never go
    into `argv`. Raises OSError."""
    return await asyncio.create_subprocess_exec(
        *argv,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={**os.environ, **env} if env else None,
        user=None if account is None else account[0],
        group=None if account is None else account[1],
        extra_groups=None if account is None else (),
    )


async def output(argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and what a program printed (both streams). Raises OSError, and TimeoutError after `timeout_s`."""
    process = await start(argv, stdout=PIPE, stderr=asyncio.subprocess.STDOUT, env=env)
    try:
        said, _ = await asyncio.wait_for(process.communicate(), timeout_s)
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    return process.returncode or 0, said.decode(errors="replace")
