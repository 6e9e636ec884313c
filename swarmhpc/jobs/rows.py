"""Lists and tables of a queue statement, as HTCondor 25.14 takes them apart. Pure data.

Source: ``SubmitForeachArgs::split_item``, ``SubmitTableOpts::assign`` and ``load_schema`` of
``src/condor_utils/submit_utils.cpp``, ``getline_implementation`` of ``config.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

BLANKS: Final = " \t\n\v\f\r"  # C's isspace; str.strip() would take the unit separator, too
UNIT_SEPARATOR: Final = "\x1f"
_TRIMMED: Final = " \t"
_BETWEEN: Final = re.compile(r"[, \t\r\n]+")
_FIELD_END: Final = re.compile(r"[, \t][ \t]*+")
_ANY_SEPARATOR: Final = re.compile(r"[, \t]")
_BLANK_BEFORE_COMMA: Final = re.compile(r"[^\s,][ \t]++,")
_BLANK_ALONE: Final = re.compile(r"[^\s,][ \t]")
_OPTION: Final = re.compile(r"\s*+(\w++)\s*+=\s*+(.*)", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z0-9_./]++")

T = TypeVar("T")


def tokens(text: str) -> list[str]:
    """The words of a list: commas and blanks stand between them, and no quotes."""
    words = (word.strip(BLANKS) for word in _BETWEEN.split(text))
    return [word for word in words if word]


def _joined(lines: Iterator[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """Logical lines of stripped physical ones: a backslash at the end goes on with the next line.

    A continuation that begins with # is no comment line: HTCondor keeps its last character.
    """
    for line, where in lines:
        text = line
        if text.endswith("\\"):
            text = text[:-1]
            if not line.startswith("#"):
                parts = [text]
                for more, _ in lines:
                    piece = more[-1:] if more.startswith("#") else more
                    parts.append(piece.removesuffix("\\"))
                    if not piece.endswith("\\"):
                        break
                text = "".join(parts)
        yield text, where


def file_rows(text: str) -> list[str]:
    """The rows of a file. Comments and empty lines are rows like any other."""
    lines = text.split("\n")
    last = lines.pop()
    rows = [line.strip(BLANKS) for line in lines]
    if last:
        rows.append(last)
    return [row for row, _ in _joined((row, None) for row in rows)] if "\\" in text else rows


@dataclass(frozen=True)
class Splitting:
    """How a row becomes fields. The default is that of every queue statement without ``table``.

    `separator` is the one character between fields; empty: a comma or blanks. `trims`: blanks around a field go.
    `is_plain`: a unit separator in a row takes the place of all other separators.
    """

    separator: str = ""
    trims: bool = True
    is_plain: bool = True

    def fields(self, row: str, columns: int) -> list[str]:
        """At most `columns` fields of a row; the last one takes the rest. An empty row has none."""
        if self.trims:
            row = row.strip(_TRIMMED)
        if not row:
            return []
        if columns == 1:
            return [row]
        separator = self.separator
        if self.is_plain and UNIT_SEPARATOR in row:
            separator = UNIT_SEPARATOR
        if separator:
            parts = row.split(separator, columns - 1)
            return [part.strip(_TRIMMED) for part in parts] if self.trims else parts
        return (_FIELD_END if self.trims else _ANY_SEPARATOR).split(row, columns - 1)


PLAIN: Final = Splitting()


@dataclass(frozen=True)
class Table:
    """What stands in ``table(…)``: the header row (-1: none), the rows to skip after it, and the splitting."""

    header_row: int = 0
    skip_rows: int = 0
    splitting: Splitting = Splitting(",", is_plain=False)

    def without_header(self, rows: list[str]) -> list[str]:
        """The rows less header and skipped ones. HTCondor skips only below a header that is not the first row."""
        if not 0 <= self.header_row < len(rows):
            return rows
        rows = rows[: self.header_row] + rows[self.header_row + 1 :]
        return rows[self.header_row - 1 + max(0, self.skip_rows) :] if self.header_row else rows

    def header(self, rows: list[str]) -> tuple[str, ...]:
        """The names in the header row; empty without one."""
        if not 0 <= self.header_row < len(rows):
            return ()
        return tuple(self.splitting.fields(rows[self.header_row], len(rows[self.header_row]) + 1))


def is_name(text: str) -> bool:
    """Whether HTCondor takes `text` for the name of a macro."""
    return _NAME.fullmatch(text) is not None


def table_options(text: str, number: Callable[[str], int | None]) -> tuple[Table, list[str]]:
    """What ``table(text)`` asks for, and the options that HTCondor does not know or understand (it is silent)."""
    table, unknown = Table(), []
    for option in (part.strip(BLANKS) for part in text.split(",")):
        word, match = option.lower(), _OPTION.fullmatch(option)
        if not word:
            continue
        if word == "standard":
            table = Table(header_row=-1, splitting=PLAIN)
            continue
        if word == "csv":
            table = Table(header_row=-1)
            continue
        changed = _with_option(table, match[1].lower(), match[2], number) if match else None
        if changed is None:
            unknown.append(option)
        table = changed or table
    return table, unknown


def _with_option(table: Table, key: str, value: str, number: Callable[[str], int | None]) -> Table | None:
    splitting = table.splitting
    if key in {"header", "skip"}:
        count = -1 if (key, value.lower()) == ("header", "none") else number(value)
        if count is None:
            return None
        table = replace(table, header_row=count) if key == "header" else replace(table, skip_rows=count)
        plain = splitting.is_plain and (table.header_row, table.skip_rows) == (-1, 0)
        return replace(table, splitting=replace(splitting, is_plain=plain))
    if key == "trim" and value.lower() in {"true", "false"}:
        return replace(table, splitting=replace(splitting, trims=value.lower() == "true", is_plain=False))
    if key == "comma_sep" and value.lower() in {"true", "false"}:
        separator = "," if value.lower() == "true" else ""
        return replace(table, splitting=replace(splitting, separator=separator, is_plain=False))
    if key == "sep" and value:
        return replace(table, splitting=replace(splitting, separator=value[0], is_plain=False))
    return None


def odd_rows(
    rows: Sequence[str], columns: int, splitting: Splitting, is_file: bool
) -> dict[str, tuple[int, list[str]]]:
    """The first row of each kind that people rarely mean, as code -> (index, its fields)."""
    found: dict[str, tuple[int, list[str]]] = {}
    fields = splitting.fields
    for index, row in enumerate(rows):
        values = fields(row, columns)
        if not values:
            found.setdefault("row-empty", (index, values))
        elif is_file and row[0] == "#":
            found.setdefault("row-comment", (index, values))
        elif len(values) < columns:
            found.setdefault("row-fields", (index, values))
        elif columns > 1 and "," in values[-1] and splitting.is_plain:
            ahead = row[: len(row) - len(values[-1]) + 1]
            if _BLANK_BEFORE_COMMA.search(ahead):
                found.setdefault("blank-before-comma", (index, values))
            elif "," in ahead[:-1] and not _BLANK_ALONE.search(ahead):
                found.setdefault("row-surplus", (index, values))
    return found
