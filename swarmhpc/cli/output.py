"""How things look: data on stdout (tables or JSON), everything else on stderr, progress where there is a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from swarmhpc.errors import SwarmHpcError

err = Console(stderr=True, highlight=False, soft_wrap=True)
# A pipe gets whole lines, however wide.
_WIDE = 2000
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)


def say(text: str) -> None:
    """A line for the person, on stderr."""
    err.print(escape(text))


def data(text: str) -> None:
    """A line of data, on stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def as_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


Part = str | Table
"""A piece of what is shown: lines of text, or a table."""


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout; columns named in `right` are numbers."""
    show([grid(columns, rows, right=right)])


def show(parts: Iterable[Part]) -> None:
    """Data on stdout, one piece below the other."""
    for part in parts:
        if isinstance(part, str):
            data(part)
        else:
            out.print(part, soft_wrap=False)


def grid(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> Table:
    """A table for `show`; columns named in `right` are numbers.

    Where the terminal is too narrow for all, columns named in `spare` are left out, the first one first.
    """
    room = Console().width if sys.stdout.isatty() else _WIDE
    for name in spare:
        widths = [max(len(c), *(len(str(row[i])) for row in rows), 0) for i, c in enumerate(columns)]
        if sum(widths) + 2 * (len(columns) - 1) <= room:
            break
        kept = [i for i, c in enumerate(columns) if c != name]
        columns, rows = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]
    t = Table(box=None, pad_edge=False, header_style="bold" if out.is_terminal else "")
    texts = [[str(cell) for cell in row] for row in rows]
    for i, c in enumerate(columns):
        # On a narrow terminal the last column wraps; what comes before stays whole.
        widest = max([len(c), *(len(row[i]) for row in texts)])
        last = i == len(columns) - 1
        t.add_column(c, justify="right" if c in right else "left", no_wrap=not last, min_width=None if last else widest)
    for row in texts:
        t.add_row(*(escape(cell) for cell in row))
    return t


def has_screen() -> bool:
    """Whether stdout is a terminal that can be drawn on."""
    console = Console()
    return console.is_terminal and not console.is_dumb_terminal


@contextlib.contextmanager
def screen() -> Iterator[Callable[[Sequence[Part]], None]]:
    """A screen of its own, as `top` has it, which the block fills anew each time. The terminal is given back as it was.

    What does not fit is cut off at the lower end, and a line says how much.
    """
    # Not `out`: its soft wrap lets long lines run over.
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:

        def fill(parts: Sequence[Part]) -> None:
            texts = [Text(part) if isinstance(part, str) else part for part in parts]
            live.update(_Fitting(Group(*texts)), refresh=True)

        yield fill


@dataclass(frozen=True)
class _Fitting:
    """As much of something as the window has lines for."""

    whole: Group

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self.whole, options.update(height=None), pad=False)
        room = options.height or console.height
        if len(lines) > room:
            more = f"… {len(lines) - room + 1} more lines; a taller window shows them"
            lines = [*lines[: room - 1], [Segment(more[: options.max_width])]]
        for i, line in enumerate(lines):
            if i:
                yield Segment.line()
            yield from line


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
