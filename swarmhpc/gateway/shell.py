"""The verb `shell`: a command in a running job's container, or in its scratch directory where it has none."""

from __future__ import annotations

import asyncio

from swarmhpc import wire
from swarmhpc.errors import PoolError, UsageError
from swarmhpc.gateway import nodes, server
from swarmhpc.gateway.caller import Caller
from swarmhpc.gateway.logs import IN_THE_ACCESS_POINT, RUNNING, SUSPENDED, attempt_of, job_of, slot_of


@server.verb("shell", duplex=True)
async def shell(caller: Caller) -> None:
    """Passes frames both ways between the caller and the agent on the job's node, until either ends."""
    command = caller.values.get("command") or []
    if not isinstance(command, list) or not all(isinstance(word, str) and "\0" not in word for word in command):
        raise UsageError("wanted the command as a list of words")
    ad = await job_of(caller)
    job = f"{ad['ClusterId']}.{ad['ProcId']}"
    if int(ad.get("JobUniverse", 5)) in IN_THE_ACCESS_POINT:
        raise PoolError(f"job {job} runs beside the queue, not on an executor: there is no shell for it")
    if ad["JobStatus"] not in (RUNNING, SUSPENDED):
        raise PoolError(f"job {job} is not running: there is nothing to run a shell in", hint=f"swarmhpc why {job}")
    question = {
        "what": "shell", "task": str(ad.get("MachineAttrSwarmHpcTask0", "")), "slot": slot_of(ad), "job": job,
        "attempt": attempt_of(ad),
        "docker": ad.get("WantDocker") is True, "command": command, "tty": caller.values.get("tty") is True,
        "rows": caller.whole("rows", 24), "columns": caller.whole("columns", 80),
        "term": str(caller.values.get("term") or "dumb")[:40],
    }  # fmt: skip
    async with nodes.ask(question) as answer:
        if answer is None:
            raise PoolError(
                f"no agent answers on the node of job {job}", hint=f"try again; swarmhpc status; swarmhpc logs {job}"
            )
        if not answer.values.get("found"):
            raise PoolError(f"job {job} is still being started on its node", hint="try again in a moment")
        up = asyncio.ensure_future(_pass(caller.reader, answer.writer))
        down = asyncio.ensure_future(_pass(answer.reader, caller.writer))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if down.done():
                caller.ended = True
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(wire.LONGEST_FRAME):
        writer.write(data)
        await writer.drain()
