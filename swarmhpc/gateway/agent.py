"""The agent: on every node, in the janitor's container, which sees the scratch directories of all executors there and
the node's engine. It asks the queue's daemon where the gateway is, connects, and answers its questions.

What jobs can write to is read with care: this process is root. A file of a job's is opened only below a directory that
belongs to that job's account, never through a link, and only if it is a plain file of that account.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import socket
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarmhpc import wire
from swarmhpc.adapters import processes
from swarmhpc.errors import PoolError, PoolUnreachableError, SwarmHpcError

TOKEN: Final = Path("/etc/condor/tokens.d/pool")
AGAIN_S: Final = 1.0
POLL_S: Final = 0.2
ALIVE_EVERY_S: Final = 10.0
SILENT_S: Final = 35.0
"""The gateway says something every ten seconds."""
FILES: Final = frozenset(("_condor_stdout", "_condor_stderr"))
FIRST_UID, RANGE = 20_000, 1024  # of job accounts: images/pool/entrypoint
_GATEWAY = re.compile(r"^(\d+) sha256:([0-9a-f]{64})$", re.MULTILINE)
_TASK = re.compile(r"^[a-z0-9]{25}$")
_ID = re.compile(r"^(ClusterId|ProcId|JobCurrentStartDate)\s*=\s*(\d+)\s*$", re.MULTILINE)
_log = logging.getLogger("swarmhpc.agent")


@dataclass(frozen=True)
class Place:
    """Where a job runs on this node: its scratch directory, open, and the account that it runs as."""

    task: str
    job: str
    scratch: Path
    uid: int
    gid: int


async def run() -> None:
    """Serves the gateway until the process ends."""
    said = ""
    while True:
        try:
            await _serve()
        except (SwarmHpcError, OSError, TimeoutError, EOFError, ValueError) as e:
            words = f"{type(e).__name__}: {e}" if not isinstance(e, SwarmHpcError) else e.message
            if words != said:
                said = words
                _log.warning("the gateway can't be reached: %s", words)
        await asyncio.sleep(AGAIN_S)


async def _serve() -> None:
    where = await _gateway()
    reader, writer = await _connect(where)
    try:
        node = os.environ.get("SWARMHPC_NODE", "")
        token = TOKEN.read_text().strip()
        await _request(reader, writer, {"verb": "node", "token": token, "node": node})
        _log.info("connected to the gateway")
        work: set[asyncio.Task[None]] = set()
        while True:
            kind, length = wire.header(await asyncio.wait_for(reader.readexactly(wire.HEADER), SILENT_S))
            payload = await asyncio.wait_for(reader.readexactly(length), SILENT_S)
            if kind == wire.DATA:
                task = asyncio.create_task(_answer(where, wire.values(payload)))
                work.add(task)
                task.add_done_callback(work.discard)
            elif kind == wire.END:
                raise PoolError(str(wire.values(payload).get("error", "the gateway ended the connection")))
    finally:
        writer.close()


async def _gateway() -> tuple[str, int, str]:
    """Host, port and certificate of the gateway: asked of the queue's daemon with this node's token, so that no other
    can take its place."""
    host, port = os.environ["SWARMHPC_ACCESS_POINT"].split(":")
    try:
        address = socket.gethostbyname(host)
    except OSError as e:
        raise PoolUnreachableError("the access point has no address: it does not run") from e
    code, said = await processes.output(
        ["condor_config_val", "-schedd", "-address", f"<{address}:{port}?sock=schedd>", "SWARMHPC_GATEWAY"],
        timeout_s=20,
    )
    found = _GATEWAY.search(said)
    if code != 0 or found is None:
        raise PoolUnreachableError(f"the queue does not say where the gateway is: {' '.join(said.split())[-300:]}")
    return address, int(found[1]), found[2]


async def _connect(where: tuple[str, int, str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port, fingerprint = where
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # its fingerprint is compared below
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=tls, limit=wire.LONGEST_LINE), 10)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    if hashlib.sha256(shown).hexdigest() != fingerprint:
        writer.close()
        raise PoolUnreachableError("the gateway has another certificate than the queue says (it may be starting)")
    return reader, writer


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, values: dict[str, Any]) -> None:
    writer.write(wire.line({"version": wire.VERSION, **values}))
    await writer.drain()
    answer = wire.values(await asyncio.wait_for(reader.readline(), 30))
    if not answer.get("ok"):
        raise PoolError(str(answer.get("error", "the gateway refused")))


async def _answer(where: tuple[str, int, str], question: Mapping[str, Any]) -> None:
    """Answers where the executor is on this node; else leaves it to the others."""
    task = str(question.get("task", ""))
    folder = next((root / task for root in roots() if (root / task).is_dir()), None) if _TASK.match(task) else None
    if folder is None:
        return
    slot, attempt = int(question.get("slot") or 0), int(question.get("attempt") or 0)
    place = find(folder, str(question.get("job")), slot, attempt)
    writer = None
    try:
        reader, writer = await _connect(where)
        said = {"verb": "answer", "id": question["id"], "found": place is not None}
        await _request(reader, writer, said)
        if place is not None and question.get("what") == "logs":
            await follow(place, question, writer)
        elif place is not None and question.get("what") == "shell":
            from swarmhpc.gateway import rooms

            await rooms.serve(place, question, reader, writer)
    except (SwarmHpcError, OSError, TimeoutError, EOFError, ValueError) as e:
        _log.info("job %s: %s: %s", question.get("job"), type(e).__name__, e)
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 10)


def roots() -> tuple[Path, ...]:
    """The directories that hold the executors' scratch directories."""
    return tuple(Path(root) for root in os.environ.get("SWARMHPC_EXECUTE_ROOTS", "").split())


def find(folder: Path, job: str, slot: int, attempt: int) -> Place | None:
    """The place of a job's attempt below its executor's directory. It is found by the account of its slot, which no job
    can choose; the ad in its scratch directory must agree (a job may change that, so it is not enough by itself). The
    directory of an attempt before may still be there when the queue tells of the next."""
    for scratch in folder.glob("dir_*/scratch"):
        with contextlib.suppress(OSError):
            seen = scratch.lstat()
            if not stat.S_ISDIR(seen.st_mode) or seen.st_uid < FIRST_UID or (seen.st_uid - FIRST_UID) % RANGE != slot:
                continue
            place = Place(folder.name, job, scratch, seen.st_uid, seen.st_gid)
            descriptor = opened(place, ".job.ad")
            if descriptor is None:
                continue
            with os.fdopen(descriptor, "rb") as file:
                found = dict(_ID.findall(file.read(1_000_000).decode(errors="replace")))
            is_attempt = not attempt or found.get("JobCurrentStartDate") == str(attempt)
            if is_attempt and f"{found.get('ClusterId')}.{found.get('ProcId')}" == job:
                return place
    return None


def opened(place: Place, name: str) -> int | None:
    """A descriptor of a file right in the scratch directory; None where it is not there, or is anything but a plain
    file of the job's account."""
    try:
        folder = os.open(place.scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    finally:
        os.close(folder)
    seen = os.fstat(file)
    if not stat.S_ISREG(seen.st_mode) or seen.st_uid != place.uid or seen.st_nlink != 1:
        os.close(file)
        return None
    return file


async def follow(place: Place, question: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
    """Sends a file of a job's from a byte on; with `follow` until the job has ended and HTCondor has removed it."""
    name = str(question.get("file"))
    file = opened(place, name) if name in FILES else None
    if file is not None:
        try:
            os.lseek(file, int(question.get("from") or 0), os.SEEK_SET)
            quiet_s = 0.0
            while True:
                # Asked before reading: what is written until it goes is read afterwards.
                goes = os.fstat(file).st_nlink == 0 or not question.get("follow")
                while data := os.read(file, wire.LONGEST_FRAME):
                    writer.write(wire.frame(wire.DATA, data))
                    await writer.drain()
                    quiet_s = 0.0
                if goes:
                    break
                await asyncio.sleep(POLL_S)
                quiet_s += POLL_S
                if quiet_s >= ALIVE_EVERY_S:
                    quiet_s = 0.0
                    writer.write(wire.frame(wire.ALIVE))
                    await writer.drain()
        finally:
            os.close(file)
    writer.write(wire.frame(wire.END, json.dumps({}).encode()))
    await writer.drain()
