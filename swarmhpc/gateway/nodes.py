"""The agents on the nodes, as the gateway sees them: each keeps a connection, over which it is asked for what a job on
its node writes, or for a shell there. It answers on a connection of its own, with the secret that the question had."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from swarmhpc import wire
from swarmhpc.errors import PoolError
from swarmhpc.gateway.caller import Caller
from swarmhpc.gateway.server import verb

WITHIN_S: Final = 3.0
"""How long an agent may take to answer."""
PING_EVERY_S: Final = 10.0
_log = logging.getLogger("swarmhpc.gateway")
_agents: dict[Caller, str] = {}
_asked: dict[str, asyncio.Future[Answer]] = {}


@dataclass(frozen=True)
class Answer:
    """An agent's connection, and what it said first: `found`, and else `reason`."""

    values: dict[str, Any]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    done: asyncio.Event


@verb("node", duplex=True)
async def node(caller: Caller) -> None:
    """An agent's connection. It lives as long as the agent."""
    name = str(caller.values.get("node", ""))[:200]
    _agents[caller] = name
    _log.info("node %s: its agent is here (%d in all)", name, len(_agents))
    gone = asyncio.ensure_future(caller.gone())
    try:
        while not gone.done():
            await asyncio.wait((gone,), timeout=PING_EVERY_S)
            await caller.frame(wire.ALIVE)
    finally:
        gone.cancel()
        del _agents[caller]
        _log.info("node %s: its agent has gone", name)


@verb("answer", duplex=True)
async def answer(caller: Caller) -> None:
    """An agent's answer to a question. The one who asked reads and writes this connection until they are done."""
    number = str(caller.values.get("id", ""))
    # Every question is compared, in constant time each: the number is what proves that this is an agent.
    waiting = [f for key, f in _asked.items() if hmac.compare_digest(key.encode(), number.encode())]
    if not waiting or waiting[0].done():
        raise PoolError("nobody waits for this answer any more")
    done = asyncio.Event()
    waiting[0].set_result(Answer(dict(caller.values), caller.reader, caller.writer, done))
    await done.wait()
    caller.ended = True


@contextlib.asynccontextmanager
async def ask(question: dict[str, Any]) -> AsyncIterator[Answer | None]:
    """Asks all agents; gives the answer of the one on whose node the executor `question["task"]` is, or None."""
    number = secrets.token_hex(32)
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    _asked[number] = future
    payload = json.dumps({**question, "id": number}).encode()
    found: Answer | None = None
    try:
        for agent in tuple(_agents):
            with contextlib.suppress(OSError, TimeoutError, KeyError):
                await asyncio.wait_for(agent.frame(wire.DATA, payload), 1)
        with contextlib.suppress(TimeoutError):
            found = await asyncio.wait_for(future, WITHIN_S)
        yield found
    finally:
        del _asked[number]
        if future.done() and not future.cancelled():
            future.result().done.set()
