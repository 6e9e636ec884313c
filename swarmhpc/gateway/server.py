"""The gateway's server: TLS, who is asking, and then the verb. Runs beside the queue, in the access point's container.

`VERBS` maps a verb to the coroutine that does it for a Caller; modules add theirs with `@verb("name")`. A verb that
reads what its caller sends is `duplex`; any other ends when its caller goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from swarmhpc import context, tokens, wire
from swarmhpc.adapters.condor import Pool
from swarmhpc.errors import AuthenticationError, PoolError, PoolUnreachableError, SwarmHpcError
from swarmhpc.gateway import people
from swarmhpc.gateway.caller import Caller

Verb = Callable[[Caller], Awaitable[None]]
VERBS: Final[dict[str, Verb]] = {}
_DUPLEX: Final[set[str]] = set()
STRANGERS: Final = 256
"""Connections at a time whose bearer is not known yet."""
PINGS: Final = 8
"""Tokens that HTCondor is asked about at a time."""
OF_ONE_PERSON: Final = 500
"""Connections at a time."""
ASK_WITHIN_S: Final = 10.0
CERTIFICATE: Final = people.MEMORY / "gateway.crt"
KEY: Final = people.MEMORY / "gateway.key"
SIGNING_KEY: Final = Path("/etc/condor/passwords.d/POOL")
NODES: Final = "condor"
"""Who the agents on the nodes are: bearers of the executors' token."""
_log = logging.getLogger("swarmhpc.gateway")


def verb(name: str, *, duplex: bool = False) -> Callable[[Verb], Verb]:
    """Makes a coroutine the gateway's verb `name`."""

    def add(function: Verb) -> Verb:
        VERBS[name] = function
        if duplex:
            _DUPLEX.add(name)
        return function

    return add


@functools.cache
def pool() -> Pool:
    """The pool as the gateway itself (reads only). Its methods block: call them in a thread."""
    name = os.environ["SWARMHPC_CLUSTER"]
    host, _, port = os.environ["SWARMHPC_COLLECTOR"].partition(":")
    os.environ["XDG_CONFIG_HOME"] = str(people.MEMORY)
    own = context.Context(
        name, socket.gethostbyname(host), int(port), int(os.environ["SWARMHPC_ACCESS_POINT_PORT"]), "gateway"
    )
    token = tokens.mint(
        SIGNING_KEY.read_bytes(), pool=name, identity=f"condor@{name}", scopes=("READ", "DAEMON"), now=int(time.time())
    )
    context.save(own, token.text)
    return Pool(own, access_point="127.0.0.1")


class Server:
    """Accepts, authenticates, dispatches. `who_is(token, pool, may=…)` as in `people`."""

    def __init__(self, pool_name: str, who_is: Callable[..., Awaitable[str]] = people.who_is) -> None:
        self._pool, self._who_is = pool_name, who_is
        self._strangers = 0
        self._pings = asyncio.Semaphore(PINGS)
        self._connections: Counter[str] = Counter()

    async def serve(self, host: str | None, port: int, certificate: Path, key: Path) -> asyncio.Server:
        """Listens. Raises OSError."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.load_cert_chain(certificate, key)
        return await asyncio.start_server(
            self.connected,
            host,
            port,
            ssl=tls,
            ssl_handshake_timeout=ASK_WITHIN_S,
            ssl_shutdown_timeout=5,
            limit=wire.LONGEST_LINE,
            backlog=256,
        )

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from its first byte to its last."""
        try:
            with contextlib.suppress(OSError, TimeoutError, EOFError):
                await self._connected(reader, writer)
        except Exception:  # noqa: BLE001 (one connection must not end the others)
            _log.exception("a connection failed")
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 10)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._strangers >= STRANGERS:
            await _refuse(writer, PoolUnreachableError("the gateway is busy", hint="try again"))
            return
        self._strangers += 1
        try:
            caller = await asyncio.wait_for(self._introduced(reader, writer), ASK_WITHIN_S + 20)
        except SwarmHpcError as e:
            await _refuse(writer, e)
            return
        finally:
            self._strangers -= 1
        name = str(caller.values["verb"])
        if self._connections[caller.person] >= OF_ONE_PERSON and caller.person not in (NODES, ""):
            await _refuse(writer, PoolError(f"{caller.person} has {OF_ONE_PERSON} connections to the gateway already"))
            return
        self._connections[caller.person] += 1
        try:
            writer.write(wire.line({"ok": True}))
            await writer.drain()
            await self._answer(caller, name)
        except SwarmHpcError as e:
            if not caller.ended:
                await caller.end(error=e.message, hint=e.hint, code=_code(e))
        except (OSError, TimeoutError, EOFError):
            raise
        except Exception as e:
            words = f"the gateway failed at {name}: {type(e).__name__}"
            await caller.end(error=words, hint="tell the pool's administrator: the access point's log says more")
            raise
        finally:
            self._connections[caller.person] -= 1
            if not self._connections[caller.person]:
                del self._connections[caller.person]

    async def _introduced(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Caller:
        """Reads the request and finds out whose it is. Raises SwarmHpcError."""
        try:
            line = await asyncio.wait_for(reader.readline(), ASK_WITHIN_S)
            values = wire.values(line)
        except TimeoutError as e:
            raise PoolError(f"no request came within {ASK_WITHIN_S:.0f} s") from e
        except ValueError as e:  # also a line beyond the limit
            raise PoolError(f"no request: wanted a line of JSON of at most {wire.LONGEST_LINE} bytes") from e
        if values.get("version") != wire.VERSION:
            raise PoolError(
                f"the gateway speaks version {wire.VERSION} of its protocol, not {values.get('version')!r}",
                hint="use the swarmhpc of the version that the pool was brought up with",
            )
        name = values.get("verb")
        if not isinstance(name, str) or name not in VERBS:
            raise PoolError(f"the gateway knows no verb {str(name)[:40]!r}; it knows {', '.join(sorted(VERBS))}")
        token = values.pop("token", None)
        if name in UNNAMED:
            return Caller("", values, reader, writer)
        if not isinstance(token, str):
            raise AuthenticationError("no token came with the request")
        may = "DAEMON" if name in OF_NODES else "WRITE"
        async with self._pings:
            person = await self._who_is(token, self._pool, may=may)
        if (person == NODES) != (name in OF_NODES):
            raise AuthenticationError(f"{person} may not ask for {name}")
        return Caller(person, values, reader, writer)

    async def _answer(self, caller: Caller, name: str) -> None:
        if name in _DUPLEX:
            await VERBS[name](caller)
            return
        work: asyncio.Future[Any] = asyncio.ensure_future(VERBS[name](caller))
        gone = asyncio.ensure_future(caller.gone())
        alive = asyncio.ensure_future(caller.keep_alive())
        try:
            await asyncio.wait((work, gone, alive), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            for task in (work, gone, alive):
                task.cancel()
            await asyncio.gather(work, gone, alive, return_exceptions=True)


OF_NODES: Final = {"node"}
"""Verbs of the agents on the nodes, which nobody else may ask for."""
UNNAMED: Final = {"answer"}
"""Verbs that carry a secret of their own, which the gateway gave to an agent a moment ago."""


async def _refuse(writer: asyncio.StreamWriter, e: SwarmHpcError) -> None:
    writer.write(wire.line({"error": e.message, "hint": e.hint, "code": _code(e)}))
    await asyncio.wait_for(writer.drain(), 10)


def _code(e: SwarmHpcError) -> str:
    if isinstance(e, AuthenticationError):
        return "authentication"
    return "unreachable" if isinstance(e, PoolUnreachableError) else "refused"


async def run() -> None:
    """Serves until the process ends."""
    server = Server(os.environ["SWARMHPC_CLUSTER"])
    # All addresses: people come through the routing mesh or the host's port, agents over the overlay.
    listener = await server.serve(None, int(os.environ["SWARMHPC_GATEWAY_PORT"]), CERTIFICATE, KEY)
    _log.info("listens at port %s", os.environ["SWARMHPC_GATEWAY_PORT"])
    async with listener:
        await listener.serve_forever()
