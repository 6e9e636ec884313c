"""How long work tells what it does. The wings call it; the command line decides how it looks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from swarmhpc.cluster import plan
from swarmhpc.errors import SwarmHpcError


class Progress(Protocol):
    """One phase at a time: start, any number of details, then done."""

    def start(self, phase: str) -> None:
        """A phase begins."""

    def detail(self, text: str) -> None:
        """What the phase is doing right now; replaces the last detail."""

    def done(self, text: str) -> None:
        """The phase has ended well; `text` says how things stand."""

    def notice(self, text: str) -> None:
        """Something the person should know, once."""


@contextlib.contextmanager
def phase(name: str, progress: Progress) -> Iterator[None]:
    """A phase of `up`; an error inside says which one it ended."""
    progress.start(name)
    try:
        yield
    except SwarmHpcError as e:
        raise plan.failed(name, e) from e
