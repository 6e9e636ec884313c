"""Jobs as the queue has them, for all callers at once: who asks while a question is under way shares the next one, and
who waits for a change of a job is woken by the journal of events instead of asking again and again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from swarmhpc.errors import SwarmHpcError

if TYPE_CHECKING:
    from swarmhpc.gateway.journal import Journal

Ad = Mapping[str, Any]
PAUSE_S: Final = 0.05
"""Between two questions to the queue."""
_LISTEN_S: Final = 10.0
ATTRIBUTES: Final = (
    "ClusterId", "ProcId", "Owner", "JobStatus", "JobUniverse", "JobCurrentStartDate", "JobCurrentStartExecutingDate",
    "JobStartDate", "RemoteHost",
    "MachineAttrSwarmHpcTask0", "HoldReason", "HoldReasonCode", "RemoveReason", "Iwd", "Out", "Err", "WantDocker",
    "ExitCode", "ExitBySignal", "ExitSignal", "NumJobCompletions", "StageInFinish", "LeaveJobInQueue",
    "StreamOut", "StreamErr",
)  # fmt: skip


class Board:
    """`ask(constraint)`: ads with ATTRIBUTES; blocks, so it is called in a thread. `journal`: tells of changes."""

    def __init__(self, ask: Callable[[str], Sequence[Ad]], journal: Journal | None = None) -> None:
        self._ask, self._journal = ask, journal
        self._waiting: dict[str, list[asyncio.Event]] = {}
        self._listens: asyncio.Task[None] | None = None
        self._wanted: dict[tuple[int, int], list[asyncio.Future[Ad | None]]] = {}
        self._work: asyncio.Task[None] | None = None
        self._asked_at = 0.0

    async def look(self, cluster: int, process: int) -> Ad | None:
        """The job as it is now; None where it is not in the queue. Raises PoolError."""
        future: asyncio.Future[Ad | None] = asyncio.get_running_loop().create_future()
        self._wanted.setdefault((cluster, process), []).append(future)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._serve())
        return await future

    @contextlib.contextmanager
    def changes(self, cluster: int, process: int) -> Iterator[asyncio.Event]:
        """An event that is set when the job changes its state. It may be set without a reason: look then."""
        change = asyncio.Event()
        waiting = self._waiting.setdefault(f"{cluster}.{process}", [])
        waiting.append(change)
        if self._journal is not None and (self._listens is None or self._listens.done()):
            self._listens = asyncio.create_task(self._listen(self._journal))
        try:
            yield change
        finally:
            waiting.remove(change)
            if not waiting:
                self._waiting.pop(f"{cluster}.{process}", None)

    async def _listen(self, journal: Journal) -> None:
        told = journal.last
        with journal.listening() as bell:
            while self._waiting:
                await bell.wait(_LISTEN_S)
                events = journal.recent_after(told)
                told = journal.last if events is None else max((e["seq"] for e in events), default=told)
                for job in tuple(self._waiting) if events is None else {str(e["id"]) for e in events}:
                    for change in self._waiting.get(job, ()):
                        change.set()

    async def _serve(self) -> None:
        while self._wanted:
            await asyncio.sleep(max(0.0, self._asked_at + PAUSE_S - time.monotonic()))
            wanted, self._wanted = self._wanted, {}
            self._asked_at = time.monotonic()
            try:
                words = " || ".join(f"(ClusterId == {c} && ProcId == {p})" for c, p in wanted)
                ads = await asyncio.to_thread(self._ask, words)
                found = {(int(ad["ClusterId"]), int(ad["ProcId"])): ad for ad in ads}
            except SwarmHpcError as e:
                for futures in wanted.values():
                    for future in futures:
                        if not future.done():
                            future.set_exception(e)
                continue
            for key, futures in wanted.items():
                for future in futures:
                    if not future.done():
                        future.set_result(found.get(key))
