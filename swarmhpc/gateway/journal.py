"""The events as they happened, numbered, on the queue's volume: one JSON object a line, the newest also in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from swarmhpc.gateway.changes import Fields, Mark

FILE: Final = "events.jsonl"
OLDER: Final = 3
"""Full files that are kept beside the one that is written: `events.jsonl.1` is the youngest of them."""
MAX_BYTES: Final = 16 * 1024 * 1024
IN_MEMORY: Final = 5000
_log = logging.getLogger("swarmhpc.events")

Position = tuple[str, int]
"""Which log of the queue, and how many bytes of it are told."""


@dataclass(frozen=True)
class Memory:
    """What the journal holds when the gateway starts."""

    seq: int = 0
    position: Position | None = None
    marks: dict[str, Mark] = field(default_factory=dict)
    time: str = ""


class Journal:
    """Written by one thread, read by many followers. Readable by its owner (the gateway's account) only."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._folder, self._max_bytes = folder, max_bytes
        self._recent: deque[Fields] = deque(maxlen=IN_MEMORY)
        self._lock = threading.Lock()
        self._bells: set[Bell] = set()
        self._whole = True  # the last write went through
        self.memory = self._load()
        self._seq = self.memory.seq

    @property
    def last(self) -> int:
        """The number of the newest event; 0: there was none yet."""
        return self._seq

    def append(self, events: Sequence[Fields], position: Position | None) -> list[Fields]:
        """Numbers and keeps events that belong together, wakes the followers; the events with their `seq`.

        A full disk does not stop them: followers get events from memory, only what is kept has a hole then.
        """
        with self._lock:
            numbered = [{"seq": self._seq + i, **e} for i, e in enumerate(events, start=1)]
            self._seq += len(numbered)
            self._recent.extend(numbered)
            bells = list(self._bells)
        try:
            self._write("".join(json.dumps({**e, "at": position}) + "\n" for e in numbered))
            self._whole = True
        except OSError as e:
            if self._whole:
                _log.warning("events can't be kept in %s: %s", self._folder, e.strerror)
            self._whole = False
        for bell in bells:
            bell.ring()
        return numbered

    def after(self, seq: int) -> Iterator[Fields]:
        """The events with a higher number, as far as they are kept, in their order. Reads files for older ones."""
        with self._lock:
            recent = list(self._recent)
        oldest = recent[0]["seq"] if recent else self._seq + 1
        if seq + 1 < oldest:
            for event in self._kept():
                if seq < event["seq"] < oldest:
                    event.pop("at", None)
                    yield event
        yield from (e for e in recent if e["seq"] > seq)

    def recent_after(self, seq: int) -> list[Fields] | None:
        """As `after`, from memory alone; None where that does not reach back so far."""
        with self._lock:
            if seq >= self._seq:
                return []
            if not self._recent or self._recent[0]["seq"] > seq + 1:
                return None
            found = list(itertools.takewhile(lambda e: e["seq"] > seq, reversed(self._recent)))
            return found[::-1]

    def reload(self) -> None:
        """Looks again at what is kept."""
        with self._lock:
            self._recent.clear()
            self.memory = self._load()

    @contextlib.contextmanager
    def listening(self) -> Iterator[Bell]:
        """A bell that rings in this event loop after each `append`."""
        bell = Bell()
        with self._lock:
            self._bells.add(bell)
        try:
            yield bell
        finally:
            with self._lock:
                self._bells.discard(bell)

    def _files(self) -> list[Path]:
        """Oldest first."""
        return [self._folder / f"{FILE}.{i}" for i in range(OLDER, 0, -1)] + [self._folder / FILE]

    def _kept(self) -> Iterator[Fields]:
        for path in self._files():
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                for line in file:
                    # The last line may be half of one: the machine lost power. Whoever wrote it had it not told.
                    with contextlib.suppress(ValueError):
                        yield json.loads(line)

    def _load(self) -> Memory:
        seq, position, time = 0, None, ""
        marks: dict[str, Mark] = {}
        for event in self._kept():
            seq, time = event["seq"], event["time"]
            if event["kind"] == "job":
                marks[event["id"]] = (event["state"], event["status"])
            if at := event.pop("at", None):
                position = (str(at[0]), int(at[1]))
            self._recent.append(event)
        return Memory(seq, position, marks, time)

    def _write(self, text: str) -> None:
        path = self._folder / FILE
        if path.exists() and path.stat().st_size > self._max_bytes:
            for older in range(OLDER, 0, -1):
                source = self._folder / (f"{FILE}.{older - 1}" if older > 1 else FILE)
                if source.exists():
                    source.replace(self._folder / f"{FILE}.{older}")
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            if (size := os.fstat(descriptor).st_size) and os.pread(descriptor, 1, size - 1) != b"\n":
                file.write(b"\n")  # ends the half line of a crash or a full disk
            file.write(text.encode())


class Bell:
    """Wakes one coroutine from other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def ring(self) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout_s: float) -> bool:
        """Whether it rang, now or since the last wait."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return False
        self._event.clear()
        return True
