"""How long work tells what it does. The wings call it; the command line decides how it looks."""

from __future__ import annotations

from typing import Protocol


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


class Quiet:
    """Says nothing."""

    def start(self, phase: str) -> None:
        """Nothing."""

    def detail(self, text: str) -> None:
        """Nothing."""

    def done(self, text: str) -> None:
        """Nothing."""

    def notice(self, text: str) -> None:
        """Nothing."""
