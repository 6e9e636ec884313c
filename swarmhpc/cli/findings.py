"""How findings about a submit description are shown: the sentence, the line it is about with a caret, the hint.

Files, and with them all that is shown here, come from anywhere: nothing that steers a terminal gets through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from swarmhpc.jobs.findings import Finding, Place

_COLOURS: Final = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_INDENT: Final = "    "
_TAB: Final = "    "
_WIDTH: Final = 120  # of an excerpt where no terminal says how wide it is


class Texts:
    """The texts that were read for a description, so that a finding is shown with the line it was made from."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._lines: dict[str, list[str]] = {}

    def remember(self, file: str, text: str) -> str:
        """Keeps a text by the name that places give it, and returns it."""
        self._texts.setdefault(file, text)
        return text

    def recording(self, read: Callable[[str], str]) -> Callable[[str], str]:
        """`read`, with its texts remembered."""
        return lambda path: self.remember(path, read(path))

    def line(self, place: Place) -> str | None:
        """The physical line of a place; None where its text was not read, or has no such line."""
        if place.file not in self._texts:
            return None
        if place.file not in self._lines:
            # Only "\n" ends a line for HTCondor: str.splitlines would count others too.
            self._lines[place.file] = self._texts[place.file].split("\n")
        lines = self._lines[place.file]
        return lines[place.line - 1].removesuffix("\r") if 0 < place.line <= len(lines) else None


def show(findings: Iterable[Finding], texts: Texts, console: Console) -> None:
    """Prints findings as they come: `file:line:column: severity: message [code]`, line, caret, hint."""
    width = (console.width if console.is_terminal else _WIDTH) - len(_INDENT)
    for finding in findings:
        console.print(_shown(finding, texts.line(finding.place), max(20, width)), soft_wrap=True)


def summary(file: str, jobs: int, findings: Sequence[Finding]) -> str:
    """`job.sub: 3 jobs, 1 error, 2 warnings`."""
    counts = Counter(f.severity for f in findings)
    parts = [counted(counts[s], s) for s in _COLOURS if counts[s]]  # type: ignore[index]
    return f"{printable(file)}: " + ", ".join([counted(jobs, "job"), *(parts or ["no findings"])])


def counted(count: int, word: str) -> str:
    """`1 job`, `3 jobs`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def as_data(finding: Finding, file: str) -> dict[str, Any]:
    """A finding for JSON. `file` is in it only when that is not the description itself."""
    place = finding.place
    elsewhere = {"file": place.file} if place.file != file else {}
    return elsewhere | {
        "line": place.line,
        "column": place.column,
        "severity": finding.severity,
        "code": finding.code,
        "message": finding.message,
        "hint": finding.hint,
    }


def printable(text: str) -> str:
    """`text` on one line, without control characters, marks of writing direction and broken Unicode."""
    return text if text.isprintable() else "".join(map(_shown_character, text))


def _shown_character(character: str) -> str:
    if character.isprintable():
        return character
    return _TAB if character == "\t" else "�"


def _shown(finding: Finding, line: str | None, width: int) -> Text:
    colour = _COLOURS[finding.severity]
    text = Text(f"{printable(str(finding.place))}: ")
    text.append(f"{finding.severity}:", colour)
    text.append(f" {printable(finding.message)} [{finding.code}]")
    if line is not None and line.strip():
        excerpt, before = cut(line, finding.place.column, width)
        text.append(f"\n{_INDENT}{excerpt}\n{_INDENT}{' ' * before}")
        text.append("^", colour)
    for hint in finding.hint.split("\n") if finding.hint else ():
        text.append(f"\n{_INDENT}{printable(hint)}")
    return text


def cut(line: str, column: int, width: int) -> tuple[str, int]:
    """The part of `line` around `column` (from 1, in characters) that fits into `width` cells of a terminal, and how
    many cells stand before that column in it. What is left out is `…`.
    """
    caret = min(max(column - 1, 0), len(line))
    # A line may have megabytes: no more of it is looked at than could be shown.
    first, last = max(0, caret - width), min(len(line), caret + width)
    shown = [_shown_character(c) for c in line[first:last]]
    cells = [cell_len(s) for s in shown]
    caret -= first
    begin, end, room = caret, caret, width - 2  # two cells for two `…`
    if first == 0 and last == len(line) and sum(cells) <= width:
        begin, end = 0, len(shown)
    else:
        while begin > 0 and room - cells[begin - 1] >= width // 3:
            begin -= 1
            room -= cells[begin]
        while end < len(shown) and room >= cells[end]:
            room -= cells[end]
            end += 1
        while begin > 0 and room >= cells[begin - 1]:
            begin -= 1
            room -= cells[begin]
    left = "…" if first + begin > 0 else ""
    right = "…" if first + end < len(line) else ""
    return left + "".join(shown[begin:end]) + right, len(left) + sum(cells[begin:caret])
