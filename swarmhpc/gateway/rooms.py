"""The agent's part of a shell: a process in the job's container (docker), or in its scratch directory in the executor's
container as the job's account (plain)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import secrets
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from swarmhpc import wire
from swarmhpc.adapters import processes
from swarmhpc.errors import PoolError
from swarmhpc.gateway.agent import Place

MARK: Final = "SWARMHPC_SHELL"
"""An environment variable of every process of a shell, by which they are found when its person goes."""
_SHELL: Final = "command -v bash >/dev/null 2>&1 && exec bash; exec sh"
_LOOK_EVERY_S: Final = 1.0
_ALIVE_EVERY_S: Final = 10.0
_STARTS_WITHIN_S: Final = 15.0
_END = 'for p in /proc/[0-9]*; do grep -qzx "$0" $p/environ 2>/dev/null && kill -KILL ${p#/proc/}; done; true'


async def serve(
    place: Place, question: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Runs the command until it ends, its person goes, or the job ends. The last frame has its exit code."""
    try:
        room = Room(place, question, await _container(place, docker=question.get("docker") is True))
        code = await room.run(reader, writer)
        writer.write(wire.frame(wire.END, {"exit_code": code}))
    except (PoolError, OSError, TimeoutError) as e:
        writer.write(wire.frame(wire.END, {"error": str(e), "hint": "", "code": "refused"}))
    with contextlib.suppress(OSError, TimeoutError):
        await asyncio.wait_for(writer.drain(), 10)


async def _container(place: Place, *, docker: bool) -> str:
    labels = [f"swarmhpc.job={place.job}", f"swarmhpc.task={place.task}"] if docker else []
    labels = labels or [f"com.docker.swarm.task.id={place.task}"]
    filters = [word for label in labels for word in ("--filter", f"label={label}")]
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while True:  # HTCondor says "running" a moment before the container does
        code, said = await processes.output(["docker", "ps", "-q", "--no-trunc", *filters], timeout_s=20)
        found = said.split()
        if code == 0 and len(found) == 1:
            return found[0]
        if time.monotonic() > deadline or not place.scratch.is_dir():
            raise PoolError(f"job {place.job} has no running container yet, or no longer")
        await asyncio.sleep(0.2)


class Room:
    """One command in one container."""

    def __init__(self, place: Place, question: Mapping[str, Any], container: str) -> None:
        self._place, self._container = place, container
        self._tty = question.get("tty") is True
        self._mark = f"{MARK}={secrets.token_hex(16)}"
        self._size = (int(question.get("rows") or 24), int(question.get("columns") or 80))
        words: Sequence[str] = question.get("command") or ("/bin/sh", "-c", self._sized() + _SHELL)
        environment = [self._mark, f"TERM={question.get('term')}"]
        self._account: list[str] = []
        if question.get("docker") is not True:  # the container is the executor's, whose own account is root
            scratch = str(place.scratch)
            self._account = ["--user", f"{place.uid}:{place.gid}"]
            environment += [f"HOME={scratch}", f"_CONDOR_SCRATCH_DIR={scratch}", f"TMPDIR={scratch}"]
        options = [word for e in environment for word in ("--env", e)]
        where = ["--workdir", str(place.scratch)] if self._account else []
        flags = ["--interactive", *(["--tty"] if self._tty else [])]
        self._argv = ["docker", "exec", *flags, *self._account, *where, *options, container, *words]

    def _sized(self) -> str:
        """Before a shell at a terminal: the engine gives a terminal its size only after its process has begun (engines
        with an API below 1.42: `docker exec` there has no ConsoleSize), and whoever is fast sees 0 by 0."""
        rows, columns = map(_bounded, self._size)
        return f"stty rows {rows} cols {columns} 2>/dev/null; " if self._tty else ""

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        """Its exit code; 137 where it was ended because the job or its person went."""
        loop = asyncio.get_running_loop()
        if self._tty:
            master, slave = pty.openpty()
            _resize(master, *self._size)
            # With the terminal as its controlling one, docker hears of a new size (SIGWINCH).
            process = await processes.start(["setsid", "--ctty", *self._argv], stdin=slave, stdout=slave, stderr=slave)
            os.close(slave)
            output = asyncio.StreamReader()
            reading = os.fdopen(master, "rb", 0)
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), reading)
            sources = [(output, wire.DATA)]
            writing = os.fdopen(os.dup(master), "wb", 0)
            transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, writing)
            stdin = asyncio.StreamWriter(transport, protocol, None, loop)
        else:
            master = -1
            pipe = processes.PIPE
            process = await processes.start(self._argv, stdin=pipe, stdout=pipe, stderr=pipe)
            assert process.stdin and process.stdout and process.stderr
            sources = [(process.stdout, wire.DATA), (process.stderr, wire.ERRORS)]
            stdin = process.stdin
        lock = asyncio.Lock()
        outputs = [asyncio.ensure_future(_send(source, kind, writer, lock)) for source, kind in sources]
        others = [
            asyncio.ensure_future(self._take(reader, stdin, master)),
            asyncio.ensure_future(self._watch(writer, lock)),
        ]
        ends = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait((ends, *others), return_when=asyncio.FIRST_COMPLETED)
            if not ends.done():
                await self._end()
                return 137
            await asyncio.wait(outputs, timeout=5)  # what it has written and is not read yet
            return int(process.returncode or 0)
        finally:
            for task in (*outputs, *others, ends):
                task.cancel()
            await asyncio.gather(*outputs, *others, ends, return_exceptions=True)
            if process.returncode is None:
                process.kill()
                await process.wait()
            stdin.close()
            if self._tty:
                reading.close()

    async def _take(self, reader: asyncio.StreamReader, stdin: asyncio.StreamWriter, master: int) -> None:
        """What the person types. Returns when they are gone."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, length = wire.header(await reader.readexactly(wire.HEADER))
                payload = await reader.readexactly(length)
                if kind == wire.INPUT:
                    stdin.write(payload)
                    await stdin.drain()
                elif kind == wire.INPUT_ENDS and not self._tty:
                    stdin.close()
                elif kind == wire.SIZE and self._tty:
                    size = wire.values(payload)
                    _resize(master, int(size.get("rows") or 24), int(size.get("columns") or 80))

    async def _watch(self, writer: asyncio.StreamWriter, lock: asyncio.Lock) -> None:
        """Returns when the job has ended: HTCondor has removed its scratch directory."""
        waited_s = 0.0
        while self._place.scratch.is_dir():
            await asyncio.sleep(_LOOK_EVERY_S)
            waited_s += _LOOK_EVERY_S
            if waited_s >= _ALIVE_EVERY_S:
                waited_s = 0.0
                async with lock:
                    writer.write(wire.frame(wire.ALIVE))
                    await writer.drain()

    async def _end(self) -> None:
        """Ends the shell's processes: the engine leaves them running when `docker exec` goes."""
        argv = ["docker", "exec", *self._account, self._container, "/bin/sh", "-c", _END, self._mark]
        with contextlib.suppress(OSError, TimeoutError):
            await processes.output(argv, timeout_s=10)


async def _send(source: asyncio.StreamReader, kind: bytes, writer: asyncio.StreamWriter, lock: asyncio.Lock) -> None:
    with contextlib.suppress(OSError):  # a terminal whose last process has gone: EIO
        while data := await source.read(wire.LONGEST_FRAME):
            async with lock:
                writer.write(wire.frame(kind, data))
                await writer.drain()


def _resize(master: int, rows: int, columns: int) -> None:
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", _bounded(rows), _bounded(columns), 0, 0))


def _bounded(cells: int) -> int:
    return max(1, min(cells, 1000))
