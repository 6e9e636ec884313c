"""What is said about a submit description: a place in the file and a sentence about it. Pure data."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Severity = Literal["error", "warning", "note"]
MAX_FINDINGS: Final = 1000  # nobody reads more, and a broken file must not fill the memory


@dataclass(frozen=True, order=True)
class Place:
    """Where something stands. Line and column count from 1; columns count characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Value:
    """The raw text of a value and where it begins. `segments` place each later physical line of it."""

    text: str
    place: Place
    segments: tuple[tuple[int, Place], ...] = field(default=(), repr=False, compare=False)

    def at(self, offset: int) -> Place:
        """The place in the file of the character at `offset` of `text`."""
        before = bisect_right(self.segments, offset, key=_start)
        start, place = self.segments[before - 1] if before else (0, self.place)
        return Place(place.file, place.line, place.column + offset - start)

    def part(self, start: int, end: int | None = None) -> Value:
        """The characters from `start` to `end`, at their places."""
        end = len(self.text) if end is None else end
        if len(self.segments) < 2:
            return Value(self.text[start:end], self.at(start))
        first, last = (bisect_right(self.segments, offset, key=_start) for offset in (start, end - 1))
        later = tuple((offset - start, place) for offset, place in self.segments[first:last])
        return Value(self.text[start:end], self.at(start), later)


def _start(segment: tuple[int, Place]) -> int:
    return segment[0]


def joined(values: Sequence[Value], place: Place, between: str = "") -> Value:
    """`values` one after another as one value that begins at `place`; each keeps its own places."""
    segments: list[tuple[int, Place]] = []
    size = 0
    for value in values:
        segments.append((size, value.place))
        segments.extend((size + start, later) for start, later in value.segments)
        size += len(value.text) + len(between)
    return Value(between.join(v.text for v in values), place, tuple(segments))


@dataclass(frozen=True)
class Finding:
    """One thing to know. `error`: nothing is submitted; `hint` is what to change (may be empty)."""

    place: Place
    severity: Severity
    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.severity} {self.code}: {self.message}"


class Findings:
    """Collects findings up to `MAX_FINDINGS`, each place and code once. Errors are counted even when not kept."""

    def __init__(self, start: Iterable[Finding] = ()) -> None:
        self._kept: list[Finding] = list(start)
        self._seen = {(f.place, f.code) for f in self._kept}
        self.errors = sum(f.severity == "error" for f in self._kept)

    def add(self, place: Place, severity: Severity, code: str, message: str, hint: str = "") -> None:
        """Keep one more finding, unless this place has one with the same code."""
        if (place, code) in self._seen:
            return
        self.errors += severity == "error"
        if self.is_full() and severity != "error":
            return
        if len(self._kept) <= MAX_FINDINGS:
            self._seen.add((place, code))
            if self.is_full():
                code, message = "too-many", f"there are more than {MAX_FINDINGS} findings; the rest is not shown"
                severity, hint = "error", "mend the first ones and look again"
            self._kept.append(Finding(place, severity, code, message, hint))

    def is_full(self) -> bool:
        """True when no further finding is shown."""
        return len(self._kept) >= MAX_FINDINGS

    def sorted(self, first: str = "") -> tuple[Finding, ...]:
        """All kept findings in the order of the file; those about file `first` before the others."""
        return tuple(sorted(self._kept, key=lambda f: (f.place.file != first, f.place)))


def short(text: str, limit: int = 60) -> str:
    """`text` quoted for a message; cut in the middle when it is long, so that a path keeps its name."""
    return repr(text if len(text) <= limit else text[: limit // 3] + "…" + text[1 - limit + limit // 3 :])
