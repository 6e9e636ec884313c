"""How things look: data on stdout (tables or JSON), everything else on stderr, progress where there is a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from swarmhpc.errors import SwarmHpcError

err = Console(stderr=True, highlight=False, soft_wrap=True)
# A pipe gets whole lines, however wide.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 2000)


def say(text: str) -> None:
    """A line for the person, on stderr."""
    err.print(escape(text))


def data(text: str) -> None:
    """A line of data, on stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def as_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout; columns named in `right` are numbers."""
    t = Table(box=None, pad_edge=False, header_style="bold" if out.is_terminal else "")
    texts = [[str(cell) for cell in row] for row in rows]
    for i, c in enumerate(columns):
        # On a narrow terminal the last column wraps; what comes before stays whole.
        widest = max([len(c), *(len(row[i]) for row in texts)])
        last = i == len(columns) - 1
        t.add_column(c, justify="right" if c in right else "left", no_wrap=not last, min_width=None if last else widest)
    for row in texts:
        t.add_row(*(escape(cell) for cell in row))
    out.print(t, soft_wrap=False)


def failure(error: SwarmHpcError) -> None:
    """An error as people see it: what happened, then what to type."""
    err.print(f"[red]error:[/red] {escape(error.message)}" if err.is_terminal else f"error: {escape(error.message)}")
    if error.hint:
        err.print(f"  next: {escape(error.hint)}")


def since(seconds: float) -> str:
    """`[  3.2 s]`."""
    return f"[{seconds:5.1f} s]"


class Phases:
    """Progress of long work: a live line while a phase runs (terminals only), one line when it is done."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._phase = ""
        self._status: Any = None

    def start(self, phase: str) -> None:
        """A phase begins."""
        self._phase = phase
        if err.is_terminal:
            self._status = err.status(f"{phase} …", spinner="line")
            self._status.start()

    def detail(self, text: str) -> None:
        """Replaces the live line, or the live lines; nothing where there is no terminal."""
        if self._status is not None:
            width = max(20, err.width - len(self._phase) - 16)
            lines = [line if len(line) <= width else line[: width - 1] + "…" for line in text.splitlines() or [""]]
            if len(lines) > 1:  # one line a machine
                lines = ["", *(f"  {line}" for line in lines)]
            shown = escape("\n".join(lines))
            self._status.update(f"{self._phase} {since(time.monotonic() - self._began).strip('[]')}  {shown}")

    def done(self, text: str) -> None:
        """The phase has ended well."""
        self.stop()
        say(f"{since(time.monotonic() - self._began)} {self._phase:<10} {text}")

    def notice(self, text: str) -> None:
        """Something to know, once."""
        say(f"note: {text}")

    def stop(self) -> None:
        """Takes the live line off the screen."""
        if self._status is not None:
            self._status.stop()
            self._status = None


@contextlib.contextmanager
def phases() -> Iterator[Phases]:
    """Phases whose live line is gone when the block ends, however it ends."""
    shown = Phases()
    try:
        yield shown
    finally:
        shown.stop()


@contextlib.contextmanager
def interruptible(what: str, hint: str) -> Iterator[None]:
    """Ctrl-C inside says how things stand and what to type, and ends with code 1."""
    try:
        yield
    except KeyboardInterrupt as e:
        raise SwarmHpcError(f"interrupted: {what}", hint=hint) from e
