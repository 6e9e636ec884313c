"""One connection to the gateway, after its bearer is known."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from swarmhpc import wire
from swarmhpc.errors import UsageError

PATIENCE_S: Final = 120.0
"""How long a caller may take no byte before it is given up."""
ALIVE_EVERY_S: Final = 15.0


class Caller:
    """A person with a request. `person`: their name, as HTCondor says; `values`: what they asked for."""

    def __init__(
        self,
        person: str,
        values: Mapping[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.person, self.values, self.reader, self.writer = person, values, reader, writer
        self._sends = asyncio.Lock()
        self.ended = False

    def whole(self, name: str, default: int = 0) -> int:
        """A number of the request, from 0 to 2**62. Raises UsageError for anything else."""
        value = self.values.get(name)
        if value is None:
            return default
        if type(value) is int and 0 <= value <= 2**62:
            return value
        raise UsageError(f"wanted a whole number for {name}, saw {str(value)[:40]!r}")

    async def send(self, data: bytes, kind: bytes = wire.DATA) -> None:
        """Data of any length. Waits while the caller reads slowly. Raises OSError or TimeoutError when they have
        gone."""
        async with self._sends:
            for frame in wire.frames(kind, data):
                self.writer.write(frame)
                await asyncio.wait_for(self.writer.drain(), PATIENCE_S)

    async def frame(self, kind: bytes, payload: bytes | dict[str, Any] = b"") -> None:
        """One frame."""
        async with self._sends:
            self.writer.write(wire.frame(kind, payload))
            await asyncio.wait_for(self.writer.drain(), PATIENCE_S)

    async def end(self, **values: Any) -> None:
        """The last frame."""
        self.ended = True
        await self.frame(wire.END, values)

    async def keep_alive(self) -> None:
        """Says that nothing is new, now and then, until cancelled: else the other side takes silence for a break."""
        while True:
            await asyncio.sleep(ALIVE_EVERY_S)
            await self.frame(wire.ALIVE)

    async def gone(self) -> None:
        """Returns when the other side has closed its connection (or says something where nothing is wanted)."""
        await self.reader.read(1)
