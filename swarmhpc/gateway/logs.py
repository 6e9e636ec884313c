"""The verb `logs`: what a job writes to its standard output or error, while it runs and until it is fetched.

While it runs, the agent on its node reads the file in its scratch directory; when it has ended, the file is in its
spool directory, with the same bytes. Both are the same stream, told apart by attempt: a job that begins again (its node
died, a retry) begins its output again too.
"""

from __future__ import annotations

import asyncio
import contextlib
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarmhpc import wire
from swarmhpc.adapters import job_ads, processes
from swarmhpc.errors import PoolError, PoolUnreachableError, UsageError
from swarmhpc.gateway import nodes, server
from swarmhpc.gateway.board import ATTRIBUTES, Ad, Board
from swarmhpc.gateway.caller import Caller

if TYPE_CHECKING:
    from swarmhpc.gateway.journal import Journal

SPOOL: Final = Path("/var/spool/condor")
STREAMS: Final = {"output": ("Out", "_condor_stdout"), "error": ("Err", "_condor_stderr")}
IDLE, RUNNING, REMOVED, COMPLETED, HELD, TRANSFERRING, SUSPENDED = range(1, 8)  # JobStatus, 25 manual
SPOOLING: Final = 16  # HoldReasonCode: input files are on their way
IN_THE_ACCESS_POINT: Final = (7, 12)  # JobUniverse: scheduler, local
AGAIN_S: Final = 0.25
LOOK_AGAIN_S: Final = 5.0
"""How long a change that nobody has told of may stay unseen."""
STARTS_WITHIN_S: Final = 2.0
SILENT_S: Final = 40.0
"""Without a word for so long, an agent's connection is dead: it says something every ten seconds."""


_board: Board | None = None


def start(journal: Journal | None) -> None:
    """Before the first request: `journal` tells of changes of jobs."""
    global _board
    _board = Board(lambda constraint: server.pool().job_ads(constraint, ATTRIBUTES), journal)


def board() -> Board:
    """The one board of this process."""
    if _board is None:
        start(None)
    assert _board is not None
    return _board


async def job_of(caller: Caller) -> Ad:
    """The job that the caller asks for, if it is theirs. Raises PoolError."""
    cluster, process = _numbers(caller.values.get("job"))
    ad = await board().look(cluster, process)
    if ad is None:
        raise PoolError(
            f"job {cluster}.{process} is not in the queue (never was, or was fetched or removed already)",
            hint="swarmhpc q --history",
        )
    if ad.get("Owner") != caller.person:
        raise PoolError(
            f"job {cluster}.{process} belongs to {ad.get('Owner')}, not to {caller.person}", hint="swarmhpc q"
        )
    return ad


def _numbers(job: object) -> tuple[int, int]:
    cluster, _, process = str(job).partition(".")
    if not (cluster.isdecimal() and (process or "0").isdecimal() and len(str(job)) < 20):
        raise UsageError(f"{str(job)[:40]!r} is no job; wanted one like 12.0", hint="swarmhpc q")
    return int(cluster), int(process or 0)


@server.verb("logs")
async def logs(caller: Caller) -> None:
    """Sends a job's output from byte `from` of attempt `attempt` on; with `follow` until the job ends."""
    stream, follow = caller.values.get("stream", "output"), caller.values.get("follow") is True
    if not isinstance(stream, str) or stream not in STREAMS:
        raise UsageError(f"a job has no stream {str(stream)[:40]!r}; wanted output or error")
    attempt, offset = caller.whole("attempt"), caller.whole("from")
    with board().changes(*_numbers(caller.values.get("job"))) as change:
        await _logs(caller, stream, change, follow=follow, attempt=attempt, offset=offset)


async def _logs(caller: Caller, stream: str, change: asyncio.Event, *, follow: bool, attempt: int, offset: int) -> None:
    begun, waited_s, completions = False, 0.0, 0
    while True:
        change.clear()
        ad = await job_of(caller)
        job, status = f"{ad['ClusterId']}.{ad['ProcId']}", int(ad["JobStatus"])
        now, ended_so_far = attempt_of(ad), int(ad.get("NumJobCompletions") or 0)
        _refuse_what_says_nothing(ad, job, stream)
        if begun and ended_so_far > completions and (status == IDLE or (now != attempt and status != COMPLETED)):
            # A retry: the attempt before came to its own end, and what it printed last into the spool directory.
            await _from_spool(caller, ad, stream, offset)
            begun = False
        spooling = status == HELD and ad.get("HoldReasonCode") == SPOOLING
        if status == HELD and not spooling:
            raise PoolError(f"job {job} is held: {ad.get('HoldReason')}", hint=f"swarmhpc why {job}")
        if status == REMOVED:
            raise PoolError(f"job {job} was removed: {ad.get('RemoveReason')}", hint="swarmhpc q --history")
        if status == IDLE or spooling:
            if not follow:
                raise PoolError(f"job {job} has not started", hint=f"swarmhpc why {job}")
            await _wait(change, LOOK_AGAIN_S)
            continue
        if now != attempt or not begun:
            offset = offset if now == attempt else 0
            attempt, begun, completions = now, True, ended_so_far
            await caller.frame(wire.ATTEMPT, {"attempt": attempt, "from": offset})
        ended = status == COMPLETED
        if ended or int(ad.get("JobUniverse", 5)) in IN_THE_ACCESS_POINT:
            offset += await _from_spool(caller, ad, stream, offset)
            ended = ended or not follow
        else:
            count, there = 0, False
            # Before that, what is there was printed by the attempt before (images/pool/outputs).
            if job_ads.is_executing(ad):
                count, there = await _from_node(caller, ad, stream, offset, change, follow=follow)
            offset += count
            waited_s = 0.0 if there else waited_s + AGAIN_S
            # No file yet, or no longer: it is just starting, or its end is just being told.
            ended = not follow and (there or waited_s > STARTS_WITHIN_S)
        if ended:
            break
        await _wait(change, AGAIN_S)
    await caller.end(state=status, exit_code=None if ad.get("ExitBySignal") else ad.get("ExitCode"))


async def _wait(change: asyncio.Event, most_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(change.wait(), most_s)


def _refuse_what_says_nothing(ad: Ad, job: str, stream: str) -> None:
    name = str(ad.get(STREAMS[stream][0], "/dev/null"))
    if name == "/dev/null":
        raise PoolError(
            f"job {job} keeps no standard {stream}: its submit description names no file for it",
            hint=f"{stream} = NAME in the description",
        )


async def _from_spool(caller: Caller, ad: Ad, stream: str, offset: int) -> int:
    """Sends the file in the job's spool directory from `offset` on, read as its owner; how many bytes."""
    folder = Path(str(ad.get("Iwd", "")))
    job = f"{ad['ClusterId']}.{ad['ProcId']}"
    file = folder / str(ad.get(STREAMS[stream][0]))
    if SPOOL not in folder.parents or folder not in file.parents or ".." in file.parts:
        raise PoolError(f"job {job} keeps its output outside of the queue's spool: {file}", hint="swarmhpc fetch")
    try:
        account = pwd.getpwnam(caller.person)
    except KeyError as e:
        raise PoolError(f"{caller.person} has no account at the access point", hint="swarmhpc up") from e
    process = await processes.start(
        ["tail", "-c", f"+{offset + 1}", "--", str(file)],
        stdout=processes.PIPE,
        account=(account.pw_uid, account.pw_gid),
    )
    count = 0
    try:
        while data := await process.stdout.read(wire.LONGEST_FRAME):  # type: ignore[union-attr]
            await caller.send(data)
            count += len(data)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
    return count


async def _from_node(
    caller: Caller, ad: Ad, stream: str, offset: int, change: asyncio.Event, *, follow: bool
) -> tuple[int, bool]:
    """Sends what the job on its node has written from `offset` on, with `follow` until its file goes or the job has
    completed (the rest is in its spool directory then); how many bytes, and whether there was such a file."""
    question = {
        "what": "logs", "task": str(ad.get("MachineAttrSwarmHpcTask0", "")), "slot": slot_of(ad),
        "job": f"{ad['ClusterId']}.{ad['ProcId']}", "attempt": attempt_of(ad), "file": STREAMS[stream][1],
        "from": offset, "follow": follow,
    }  # fmt: skip
    async with nodes.ask(question) as answer:
        if answer is None and not follow:
            raise PoolUnreachableError(f"no agent answers on the node of job {question['job']}", hint="try again")
        if answer is None or not answer.values.get("found"):
            return 0, False
        count = 0
        changed = asyncio.ensure_future(change.wait())
        frame = asyncio.ensure_future(read_frame(answer.reader))
        try:
            while True:
                done, _ = await asyncio.wait((frame, changed), timeout=SILENT_S, return_when=asyncio.FIRST_COMPLETED)
                if frame in done:
                    try:
                        kind, payload = frame.result()
                    except (OSError, EOFError, ValueError):
                        break  # the agent or its node has gone; the queue will tell what becomes of the job
                    if kind == wire.END:
                        break
                    if kind == wire.DATA:
                        await caller.send(payload)
                        count += len(payload)
                    frame = asyncio.ensure_future(read_frame(answer.reader))
                elif changed in done:
                    change.clear()
                    if int((await job_of(caller))["JobStatus"]) == COMPLETED:
                        break
                    changed = asyncio.ensure_future(change.wait())
                else:
                    break  # silence: the node was switched off
        finally:
            for task in (frame, changed):
                task.cancel()
            await asyncio.gather(frame, changed, return_exceptions=True)
        return count, True


async def read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One frame. Raises EOFError where the connection ends, ValueError where it is no frame."""
    kind, length = wire.header(await reader.readexactly(wire.HEADER))
    return kind, await reader.readexactly(length)


def attempt_of(ad: Ad) -> int:
    """When the job's latest attempt was begun, Unix time: what tells it from the others. 0: never."""
    return int(ad.get("JobCurrentStartDate") or ad.get("JobStartDate") or 0)


def slot_of(ad: Ad) -> int:
    """The number of the dynamic slot that runs the job, 2 for `slot1_2@host`; 0 where there is none."""
    number = str(ad.get("RemoteHost", "")).partition("@")[0].rpartition("_")[2]
    return int(number) if number.isdecimal() else 0
