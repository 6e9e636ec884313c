"""The hook of the cluster file (`on_event`): one call an event, one after another, never in the way of the events."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarmhpc.adapters import hook as adapter
from swarmhpc.errors import SwarmHpcError

FILE: Final = Path("/etc/swarmhpc/on-event.json")
"""Where the access point finds its hook (stacks/pool.yml.j2): {"command" or "url": text, "states": [text]}."""
COMMAND_TIMEOUT_S: Final = 30.0
URL_TIMEOUT_S: Final = 10.0
MOST_WAITING: Final = 1000
_SAY_EVERY_S: Final = 60.0
_log = logging.getLogger("swarmhpc.events")


@dataclass
class Counts:
    """What became of events since the start."""

    done: int = 0
    failed: int = 0
    dropped: int = 0


class Hook:
    """Calls `deliver` with each event's JSON, in a thread of its own. At most once: a failed call is not repeated."""

    def __init__(
        self,
        deliver: Callable[[bytes], None],
        states: frozenset[str] = frozenset(),
        *,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """`states`: of which events; none: of all."""
        self.counts = Counts()
        self._deliver, self._states = deliver, states
        self._waiting: queue.Queue[bytes] = queue.Queue(most_waiting)
        self._said: dict[str, float] = {}
        threading.Thread(target=self._run, name="on_event", daemon=True).start()

    def offer(self, event: Mapping[str, Any]) -> None:
        """Takes an event; drops it where too many wait already. Never blocks."""
        if self._states and event["state"] not in self._states:
            return
        try:
            self._waiting.put_nowait(json.dumps(event).encode() + b"\n")
        except queue.Full:
            self.counts.dropped += 1
            self._say("dropped", f"{self._waiting.maxsize} events wait for the hook already")

    def idle(self, timeout_s: float) -> bool:
        """Waits until nothing waits; whether that came true."""
        end = time.monotonic() + timeout_s
        with self._waiting.all_tasks_done:
            while self._waiting.unfinished_tasks and (left := end - time.monotonic()) > 0:
                self._waiting.all_tasks_done.wait(left)
            return not self._waiting.unfinished_tasks

    def _run(self) -> None:
        while True:
            body = self._waiting.get()
            try:
                self._deliver(body)
                self.counts.done += 1
            except SwarmHpcError as e:
                self.counts.failed += 1
                self._say("failed", e.message)
            except Exception as e:  # noqa: BLE001 - the next event must still be delivered
                self.counts.failed += 1
                self._say("failed", type(e).__name__)
            finally:
                self._waiting.task_done()

    def _say(self, kind: str, words: str) -> None:
        """Once a minute: a hook that always fails must not fill the log."""
        now = time.monotonic()
        if now - self._said.get(kind, -_SAY_EVERY_S) >= _SAY_EVERY_S:
            self._said[kind] = now
            c = self.counts
            _log.warning(
                "on_event %s: %s (so far: %d done, %d failed, %d dropped)", kind, words, c.done, c.failed, c.dropped
            )


def from_file(path: Path = FILE) -> Hook | None:
    """The hook that the cluster file asks for; None: it asks for none."""
    if not path.exists():
        return None
    told = json.loads(path.read_text())
    if url := told.get("url"):
        return Hook(lambda body: adapter.post(url, body, timeout_s=URL_TIMEOUT_S), frozenset(told["states"]))
    command = told["command"]
    return Hook(lambda body: adapter.run_command(command, body, timeout_s=COMMAND_TIMEOUT_S), frozenset(told["states"]))
