"""The gateway's verb `events`: follows the queue's log and the collector, keeps what happened, tells whoever asks.

Two threads write (jobs, executors); the verb only reads the journal. The log is looked at every 50 ms: a look is two
system calls. The collector is asked every second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from swarmhpc.adapters import machine
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.errors import PoolError, SwarmHpcError
from swarmhpc.gateway import hook, server
from swarmhpc.gateway.caller import Caller
from swarmhpc.gateway.changes import BEGINNING, Executors, Fields, QueueLog, beginning, wanted
from swarmhpc.gateway.journal import Journal, Position

LOG: Final = Path("/var/spool/condor/job_queue.log")
FOLDER: Final = Path("/var/spool/condor/swarmhpc-events")
LOOK_S: Final = 0.05
EXECUTORS_EVERY_S: Final = 1.0
DOUBT_S: Final = 20.0
"""After the collector did not answer: executors need so long to tell it that they are there (UPDATE_INTERVAL is 5 s,
a lost one is followed by the next)."""
QUIET_S: Final = 10.0
"""A follower to whom nothing happens is told the newest number so often: where to go on after a break."""
MOST_IDS: Final = 1000
_READ: Final = 1 << 20
_log = logging.getLogger("swarmhpc.events")
Told = Callable[[list[Fields], Position | None], None]


class Tail:
    """Follows the queue's log through its renewals: once a day and at each start the schedd writes it anew, as whole
    ads, and renames it into place."""

    def __init__(self, path: Path, journal: Journal, told: Told) -> None:
        self._path, self._told, self._memory = path, told, journal.memory
        self._jobs = QueueLog()
        self._file: BinaryIO | None = None
        self._name = ""
        self._offset = 0
        self._half = b""

    def look(self, now: float) -> bool:
        """Reads what is new; whether anything was."""
        if self._file is None:
            return self._open(now)
        read = self._read(now)
        if self._renewed():
            self._read(now)  # what came before the renaming
            known = dict(self._jobs.marks)
            self._file.close()
            self._file = None
            return self._open(now, known)
        return read

    def _renewed(self) -> bool:
        assert self._file is not None
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return there.st_ino != os.fstat(self._file.fileno()).st_ino

    def _open(self, now: float, known: dict[str, tuple[str, str]] | None = None) -> bool:
        """Reads a log's beginning. `known`: where the jobs stood when the log before it ended; None: the gateway has
        just started, and the journal knows."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return False
        first = file.readline()
        if not first.startswith(b"107 ") or not first.endswith(b"\n"):
            file.close()  # being made
            return False
        self._file, self._name = file, "/".join(first.decode().split()[1::2])
        self._offset, self._half = len(first), b""
        self._jobs.restart()
        size, memory = os.fstat(file.fileno()).st_size, self._memory
        if known is not None:
            self._read(now, until=size)
            self._tell(self._jobs.caught_up(known, 0, now))
        elif memory.position and memory.position[0] == self._name and memory.position[1] <= size:
            self._read(now, until=memory.position[1])
            self._jobs.be_live()
        elif memory.seq:
            self._read(now, until=size)
            since = datetime.fromisoformat(memory.time).timestamp()
            self._tell(self._jobs.caught_up(memory.marks, since, now))
        else:
            self._read(now, until=size)
            self._jobs.be_live()
            self._tell([beginning(now)])
        self._read(now)
        return True

    def _read(self, now: float, until: int | None = None) -> bool:
        """Feeds the lines up to the byte `until`, or to the end."""
        assert self._file is not None
        any_read = False
        while True:
            at = self._offset + len(self._half)
            room = _READ if until is None else min(_READ, until - at)
            data = self._file.read(room) if room > 0 else b""
            if not data:
                return any_read
            any_read = True
            *lines, self._half = (self._half + data).split(b"\n")
            for line in lines:
                self._offset += len(line) + 1
                self._tell(self._jobs.feed(line.decode("utf-8", "replace"), now))

    def _tell(self, events: list[Fields]) -> None:
        if events:
            self._told(events, (self._name, self._offset))


class Recorder:
    """Writes the journal, and gives each event to the hook."""

    def __init__(self, journal: Journal, hook_: hook.Hook | None = None) -> None:
        self.journal, self._hook = journal, hook_
        self._lock = threading.Lock()
        self._position = journal.memory.position

    def told(self, events: list[Fields], position: Position | None) -> None:
        """Keeps events. `position` None: they are not out of the queue's log."""
        with self._lock:
            self._position = position or self._position
            numbered = self.journal.append(events, self._position)
        if self._hook is not None:
            for event in numbered:
                if event["kind"] != BEGINNING:
                    self._hook.offer(event)

    def follow_jobs(self, log: Path) -> None:
        """For ever."""
        tail = Tail(log, self.journal, self.told)
        while True:
            try:
                tail.look(time.time())
            except Exception:  # noqa: BLE001 - told in the log; the recorder must go on
                _log.exception("the queue's log could not be followed; trying again")
                time.sleep(5)
                self.journal.reload()
                tail = Tail(log, self.journal, self.told)
            time.sleep(LOOK_S)

    def follow_executors(self, slots: Callable[[], Sequence[Slot]]) -> None:
        """For ever. `slots` raises SwarmHpcError where the collector does not answer."""
        executors, doubt_until, began = Executors(), 0.0, time.monotonic()
        while True:
            try:
                seen = slots()
                trust = time.monotonic() > doubt_until
                if found := list(executors.look(seen, time.time(), trust_absence=trust)):
                    self.told(found, None)
            except SwarmHpcError:
                doubt_until = time.monotonic() + DOUBT_S
            except Exception:  # noqa: BLE001 - told in the log; the recorder must go on
                _log.exception("the executors could not be followed; trying again")
                doubt_until = time.monotonic() + DOUBT_S
            # In step with the clock, so that the time a look takes does not add up.
            time.sleep(EXECUTORS_EVERY_S - (time.monotonic() - began) % EXECUTORS_EVERY_S)


_recorder: Recorder | None = None


def start(log: Path = LOG, folder: Path = FOLDER, slots: Callable[[], Sequence[Slot]] | None = None) -> Recorder:
    """Begins to record, for as long as the process lives."""
    global _recorder
    recorder = Recorder(Journal(folder), hook.from_file())
    threading.Thread(target=recorder.follow_jobs, args=(log,), name="jobs", daemon=True).start()
    look = (slots or _slots,)
    threading.Thread(target=recorder.follow_executors, args=look, name="executors", daemon=True).start()
    _recorder = recorder
    return recorder


def _slots() -> Sequence[Slot]:
    host, _, port = os.environ["SWARMHPC_COLLECTOR"].partition(":")
    # htcondor2 holds Python's lock while it waits: a collector that is gone would stop the whole gateway.
    if not machine.port_answers(host, int(port)):
        raise PoolError(f"the collector does not answer at {host}:{port}")
    return server.pool().slots()


@server.verb("events")
async def events(caller: Caller) -> None:
    """Sends JSON lines; `{"seq": N}` alone says where to go on. The request: `after`, a number of which all younger
    events are wanted, or `since`, seconds since the epoch, or neither (with `follow` from now on, else all that are
    kept); `ids`, jobs and clusters; `everyone`: other people's jobs too; `follow`."""
    if _recorder is None:
        raise PoolError("the gateway records no events", hint="swarmhpc doctor")
    request = Request.of(caller.values, _recorder.journal.last)
    lines = Lines(_recorder.journal, request, caller.person)
    with _recorder.journal.listening() as bell:
        await caller.send(lines.position())  # from here on, also when the connection breaks before the first event
        while True:
            async for part in lines.new():
                await caller.send(part)
            if not request.follow:
                break
            if not await bell.wait(QUIET_S):
                await caller.send(lines.position())
    await caller.send(lines.position())
    await caller.end()


class Request:
    """What a follower asks for, checked."""

    def __init__(self, *, after: int, since: float, ids: Sequence[str], everyone: bool, follow: bool) -> None:
        self.after, self.since, self.ids, self.everyone, self.follow = after, since, ids, everyone, follow

    @classmethod
    def of(cls, values: Any, last: int) -> Request:
        """Out of the request's JSON. Raises PoolError."""
        after, since = values.get("after"), values.get("since")
        ids, follow = values.get("ids", []), values.get("follow", False)
        if not (after is None or (type(after) is int and after >= 0)):
            raise PoolError(f"wanted the number of an event for after, saw {str(after)[:40]}")
        if not (since is None or isinstance(since, int | float)):
            raise PoolError(f"wanted seconds since the epoch for since, saw {str(since)[:40]}")
        if not isinstance(ids, list) or len(ids) > MOST_IDS or not all(isinstance(i, str) for i in ids):
            raise PoolError(f"wanted at most {MOST_IDS} jobs or clusters as text for ids")
        if after is not None and after > last:
            # The queue's volume is another one than the follower knew.
            raise PoolError(f"the newest event has number {last}; there is none after {after}")
        if after is None:
            after = last if follow and since is None else 0
        return cls(
            after=after, since=since or 0.0, ids=ids, everyone=values.get("everyone") is True, follow=follow is True
        )


class Lines:
    """The events of one request as bytes, from where the last ones ended."""

    def __init__(self, journal: Journal, request: Request, person: str) -> None:
        self._journal, self._request, self._person = journal, request, person
        self.seq = request.after

    async def new(self) -> Any:
        """The new ones, in portions."""
        recent = self._journal.recent_after(self.seq)
        if recent is not None:
            if text := self._text(recent):
                yield text
            return
        # Far back: off the disk, which must not keep others waiting.
        older: Iterator[Fields] = self._journal.after(self.seq)
        while portion := await asyncio.to_thread(_portion, older):
            if text := self._text(portion):
                yield text

    def position(self) -> bytes:
        """All up to this number were told."""
        return json.dumps({"seq": self.seq}).encode() + b"\n"

    def _text(self, found: Sequence[Fields]) -> bytes:
        if found:
            self.seq = found[-1]["seq"]
        r = self._request
        return b"".join(
            json.dumps(e).encode() + b"\n"
            for e in found
            if wanted(e, person=self._person, ids=r.ids, everyone=r.everyone)
            and (not r.since or datetime.fromisoformat(e["time"]).timestamp() >= r.since)
        )


def _portion(events: Iterator[Fields], most: int = 500) -> list[Fields]:
    return [e for _, e in zip(range(most), events, strict=False)]
