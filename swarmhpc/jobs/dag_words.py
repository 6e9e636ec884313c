"""The lines and words of a DAG file, with their places. Pure.

As HTCondor 25.14 reads them (src/condor_utils/dag_parser.cpp: DagParser::getnextline, DagLexer).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from swarmhpc.jobs.findings import Place, Value

_BLANK: Final = " \t\r"
_QUOTES: Final = "\"'"


class DagError(Exception):
    """What is wrong with a command, and where."""

    def __init__(self, place: Place, message: str, hint: str = "", code: str = "dag-syntax") -> None:
        super().__init__(message)
        self.place, self.message, self.hint, self.code = place, message, hint, code


@dataclass(frozen=True)
class Word:
    """One word. `text` is without its quotes, which `raw` still has."""

    text: str
    raw: str
    place: Place

    def is_keyword(self, keyword: str) -> bool:
        """Whether it is this keyword: in any case, and - for _."""
        return self.raw.upper().replace("-", "_") == keyword


class Words:
    """The words of one command, from left to right."""

    def __init__(self, line: Value) -> None:
        self._line = line
        self._at = 0

    @property
    def place(self) -> Place:
        """Where reading has come to."""
        return self._line.at(min(self._at, max(0, len(self._line.text) - 1)))

    def next(self) -> Word | None:
        """The next word; None at the end. Raises DagError for a quote that is never closed."""
        text, at = self._line.text, self._skipped()
        if at == len(text):
            return None
        begin, quote = at, ""
        inner: list[str] = []
        raw: list[str] = []
        while at < len(text):
            character = text[at]
            if quote and character == "\\" and at + 1 < len(text):
                at += 1
                inner.append(text[at])
                raw.append(text[at])
            elif quote and character == quote:
                quote = ""
                raw.append(character)
            elif quote:
                inner.append(character)
                raw.append(character)
            elif character in _BLANK:
                break
            elif character in _QUOTES:
                quote, quoted_at = character, at
                raw.append(character)
            else:
                inner.append(character)
                raw.append(character)
            at += 1
        self._at = at
        if quote:
            raise DagError(self._line.at(quoted_at), f"this {quote} is never closed", f"write the second {quote}")
        return Word("".join(inner), "".join(raw), self._line.at(begin))

    def wanted(self, what: str) -> Word:
        """The next word. Raises DagError where there is none."""
        word = self.next()
        if word is None:
            raise DagError(self.place, f"here the line ends; wanted {what}")
        return word

    def number(self, what: str, *, least: int | None = None, most: int | None = None) -> int:
        """The next word as a whole number. Raises DagError."""
        word = self.wanted(what)
        try:
            number = int(word.raw)
        except ValueError:
            raise DagError(word.place, f"{what} is {word.raw!r}; wanted a whole number") from None
        if (least is not None and number < least) or (most is not None and number > most):
            bounds = f"at least {least}" if most is None else f"{least} to {most}"
            raise DagError(word.place, f"{what} is {number}; wanted {bounds}")
        return number

    def end(self) -> None:
        """Raises DagError where more words follow."""
        word = self.next()
        if word is not None:
            raise DagError(word.place, f"{word.raw!r} has no place here", "remove it")

    def rest(self) -> Value:
        """All that follows, as it is written."""
        at = self._at = self._skipped()
        value = self._line.part(at)
        self._at = len(self._line.text)
        return Value(value.text.rstrip(), value.place, value.segments)

    def peek(self) -> Word | None:
        """The next word, which stays the next one."""
        at = self._at
        try:
            return self.next()
        finally:
            self._at = at

    def pair(self) -> tuple[Word, str] | None:
        """The next KEY=VALUE, where blanks may stand around the `=`; None at the end. Raises DagError."""
        text, at = self._line.text, self._skipped()
        if at == len(text):
            return None
        begin = at
        while at < len(text) and text[at] not in _BLANK and text[at] != "=":
            if text[at] in _QUOTES:
                raise DagError(self._line.at(at), "a name of VARS has no quotes", 'write: VARS NODE name="value"')
            at += 1
        key = text[begin:at]
        place = self._line.at(begin)
        self._at = at
        at = self._skipped()
        if not key or at == len(text) or text[at] != "=":
            raise DagError(place, f"{key or '='!r} is no NAME=VALUE", 'write: VARS NODE name="value"')
        self._at = at + 1
        word = self.next()
        if word is None or word.raw[0] == "=":
            raise DagError(place, f"{key} has no value", f'write: {key}="value"')
        value = word.raw[1:-1] if word.raw[0] in _QUOTES else word.raw
        return Word(key, key, place), value

    def _skipped(self) -> int:
        text, at = self._line.text, self._at
        while at < len(text) and text[at] in _BLANK:
            at += 1
        return at


class DagLines:
    """The commands of a DAG file: comments and empty lines left out, continued lines joined."""

    def __init__(self, text: str, file: str) -> None:
        self._lines = text.removeprefix("\ufeff").split("\n")
        self._file = file
        self._next = 0

    @property
    def end(self) -> Place:
        """The last line."""
        return Place(self._file, max(1, len(self._lines) - (self._lines[-1] == "")), 1)

    def __iter__(self) -> Iterator[Value]:
        while True:
            text, segments = "", []
            more = False
            while self._next < len(self._lines):
                line = self._lines[self._next]
                stripped = line.strip()
                place = Place(self._file, self._next + 1, len(line) - len(line.lstrip()) + 1)
                self._next += 1
                if _is_skipped(stripped):
                    continue
                if more or text:
                    text += " "
                more = stripped.endswith("\\")
                segments.append((len(text), place))
                text += stripped.removesuffix("\\")
                if not more:
                    break
            if not segments:
                return
            yield Value(text, segments[0][1], tuple(segments[1:]))

    def until(self, end: str) -> tuple[str, Value] | None:
        """The lines up to one that begins with `end`, at the same line numbers as in the file, and what follows `end`;
        None where there is no such line."""
        body = [""] * self._next
        for number in range(self._next, len(self._lines)):
            line = self._lines[number]
            stripped = line.strip()
            if stripped == end or stripped.startswith(end + " "):
                self._next = number + 1
                place = Place(self._file, number + 1, line.index(end) + len(end) + 1)
                return "\n".join(body) + "\n", Value(stripped.removeprefix(end), place)
            body.append("" if _is_skipped(stripped) else line)
        self._next = len(self._lines)  # nothing below can be told apart from the block
        return None


def _is_skipped(stripped: str) -> bool:
    return not stripped or stripped[0] == "#" or stripped.startswith("//")
