"""Cuts the text of a submit description into logical lines: continued lines joined, comments left out. Pure.

Rules are those of ``getline_implementation`` in HTCondor 25.14 (``src/condor_utils/config.cpp``), but for a comment
that ends a continued line, of which HTCondor adds the last character to the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from swarmhpc.jobs.findings import Findings, Place, Value

BLANK: Final = " \t\r\v\f"


@dataclass(frozen=True)
class Line:
    """A logical line: physical lines joined at their backslashes, without the blanks around each."""

    text: str
    segments: tuple[tuple[int, Place], ...]

    @property
    def place(self) -> Place:
        """Where the line begins."""
        return self.segments[0][1]

    def after(self, offset: int) -> Line:
        """The line without its first `offset` characters and the blanks that follow them."""
        value = self.value_from(offset)
        return Line(value.text, ((0, value.place), *value.segments))

    def value_from(self, offset: int) -> Value:
        """What follows `offset`, without blanks around it."""
        while offset < len(self.text) and self.text[offset] in BLANK:
            offset += 1
        end = len(self.text.rstrip(BLANK))
        return Value(self.text, self.place, self.segments).part(offset, max(offset, end))


class Lines:
    """The lines of one text. Iterating gives logical lines; `following` gives the lines of an inline list.

    Both move on in the same text, so that the one goes on where the other stopped.
    """

    def __init__(self, text: str, file: str, findings: Findings) -> None:
        self._physical = text.split("\n")
        self._next = 0
        self._file = file
        self._findings = findings
        self.end = Place(file, 1, 1)  # where the last line that was read begins

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        while True:
            line = self._logical()
            if line.text and not line.text.startswith("#"):
                return line

    def following(self) -> Iterator[tuple[str, Place]]:
        """The next lines with their places, also empty ones and comments; continued lines are joined."""
        for line in iter(self._logical_or_none, None):
            yield line.text.rstrip(BLANK), line.place

    def _logical_or_none(self) -> Line | None:
        try:
            return self._logical()
        except StopIteration:
            return None

    def _logical(self) -> Line:
        pieces: list[str] = []
        segments: list[tuple[int, Place]] = []
        size = 0
        while self._next < len(self._physical):
            physical = self._physical[self._next]
            self._next += 1
            piece = physical.strip(BLANK)
            place = Place(self._file, self._next, len(physical) - len(physical.lstrip(BLANK)) + 1 if piece else 1)
            goes_on = piece.endswith("\\")
            if piece.startswith("#"):
                if not segments:
                    return Line(piece, ((0, place),))
                if goes_on:
                    continue
                message = (
                    "this comment ends the continued line above it; HTCondor would add the comment's last character"
                )
                hint = "move the comment above the whole command, or end it with a backslash to go on"
                self._findings.add(place, "warning", "comment-in-continuation", message, hint)
                break
            if goes_on:
                piece = piece[:-1]
            if segments and segments[-1][0] == size:
                segments.pop()  # nothing stood on that line
            segments.append((size, place))
            pieces.append(piece)
            size += len(piece)
            if not goes_on:
                break
        if not segments:
            raise StopIteration
        if size:
            self.end = segments[0][1]
        return Line("".join(pieces), tuple(segments))
