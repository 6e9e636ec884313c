"""`--watch`: what goes with it, and the same look again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from swarmhpc.cli import output
from swarmhpc.errors import SwarmHpcError, UsageError

INTERVAL_S: Final = 2.0
MIN_INTERVAL_S: Final = 0.5
T = TypeVar("T")


def loop(command: str) -> str:
    """What a script does instead."""
    return f"in a script: while true; do swarmhpc {command} --json; sleep 2; done"


def check(command: str, *, watch: bool, interval_s: float | None) -> None:
    """Raises UsageError where `--interval` makes no sense, or there is no screen to fill."""
    if interval_s is not None and not watch:
        raise UsageError("--interval goes with --watch", hint=f"swarmhpc {command} --watch --interval 5")
    if interval_s is not None and not interval_s >= MIN_INTERVAL_S:
        raise UsageError(
            f"--interval: saw {interval_s:g}, wanted {MIN_INTERVAL_S} seconds or more",
            hint=f"swarmhpc {command} --watch --interval 1",
        )
    if watch and not output.has_screen():
        raise UsageError(
            "--watch refreshes a screen in place, and stdout is not a terminal",
            hint=f"{loop(command)}; over ssh: ssh -t HOST swarmhpc {command} --watch",
        )


def watch(
    look: Callable[[], T], frame: Callable[[T], Sequence[output.Part]], leave: Callable[[T], None], interval_s: float
) -> None:
    """Looks until Ctrl-C; then `leave` prints what was seen last. A look that fails changes only one line."""
    last: T | None = None
    seen_at = ""
    try:
        with output.screen() as show:
            show(["looking …"])
            while True:
                failed: list[output.Part] = []
                try:
                    last = look()
                    seen_at = time.strftime("%H:%M:%S")
                except SwarmHpcError as e:
                    failed = [f"no look since {seen_at or 'the start'}: {e.message}", ""]
                head = f"{seen_at}, every {interval_s:g} s until Ctrl-C"
                show([*failed, *((head, *frame(last)) if last is not None else ())])
                time.sleep(interval_s)
    except KeyboardInterrupt:
        if last is not None:
            leave(last)
