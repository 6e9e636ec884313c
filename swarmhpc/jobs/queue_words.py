"""The words of a queue statement: count, variables, keyword, slice and list. Pure.

Semantics are those of ``SubmitForeachArgs::parse_queue_args`` (``src/condor_utils/submit_utils.cpp``, HTCondor 25.14).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from swarmhpc.jobs.findings import Severity, short
from swarmhpc.jobs.rows import BLANKS, Table, table_options, tokens

FILES: Final = "files"
DIRECTORIES: Final = "dirs"
_KEYWORD: Final = re.compile(r"(?<![^\s(])(in|from|matching)(?=[\s(])", re.IGNORECASE | re.ASCII)
_WORD: Final = re.compile(r"[^\s(]++(?=[\s(])", re.ASCII)
_BLANK: Final = re.compile(r"\s*+", re.ASCII)
# Read backwards from the keyword: digits belong to a name only behind a letter.
_VARIABLES_BACKWARDS: Final = re.compile(r"(?:[\s,_.A-Za-z]|[0-9]++(?=[A-Za-z]))*+", re.ASCII)
_SLICE_NUMBER: Final = r"((?:\s*+[+-]?[0-9]++)?)"
_SLICE: Final = re.compile(rf"\[{_SLICE_NUMBER}(?:(:){_SLICE_NUMBER}(?::{_SLICE_NUMBER})?)?\]", re.ASCII)
INTEGER: Final = re.compile(r"\s*+[+-]?[0-9]++\s*+", re.ASCII)
_BRACES: Final = re.compile(r"""[()\[\]]|'(?:[^'\\]|\\['\\]?)*+'?|"(?:[^"\\]|\\["\\]?)*+"?""")
_DEEPEST: Final = 25


@dataclass(frozen=True)
class Problem:
    """A finding about some words of the statement; the place is known to who has the file."""

    severity: Severity
    code: str
    message: str
    hint: str
    at: str


@dataclass(frozen=True)
class Slice:
    """Which rows are taken: as Python has it, but with a step of 1 or more."""

    start: int | None = None
    end: int | None = None
    step: int = 1


@dataclass
class Words:
    """The words of a statement, as far as they say by themselves what is meant."""

    keyword: str = ""
    wanted: str = ""  # matching: files, dirs, any
    variables: tuple[str, ...] = ()
    count: str = ""
    slice: Slice = Slice()
    table: Table | None = None
    items: list[str] = field(default_factory=list)  # those on the line itself
    goes_on: bool = False  # the list goes on in the lines that follow
    path: str = ""  # a file, or a command with |
    problems: list[Problem] = field(default_factory=list)

    def problem(self, severity: Severity, code: str, message: str, hint: str, at: str) -> None:
        """Notes what is wrong with the words `at` of the statement."""
        self.problems.append(Problem(severity, code, message, hint, at))


def words_of(text: str) -> Words:
    """Takes what stands after the word queue apart; macros are expanded already."""
    text = text.lstrip(BLANKS)
    found = _KEYWORD.search(text)
    if found is None:
        return Words(count=text)
    said = Words(keyword=found[1].lower())
    rest = _qualifiers(said, text, _BLANK.match(text, found.end()).end())  # type: ignore[union-attr]
    is_list = len(rest) > 1 and rest[0] == "(" and rest[-1] == ")"
    rest = rest[1:-1] if is_list else rest
    if rest.startswith("("):
        said.goes_on, rest = True, rest[1:]
    rest = rest.lstrip(BLANKS)
    if said.keyword != "from":
        said.items = tokens(rest)
    elif said.goes_on:
        said.items = [rest] if rest else []
    elif is_list:
        said.items = [rest]
    else:
        said.path = rest.strip(BLANKS)
    before = text[: found.start()].rstrip(BLANKS)
    length = len(_VARIABLES_BACKWARDS.match(before[::-1])[0])  # type: ignore[index]
    said.variables = tuple(tokens(before[len(before) - length :])) or ("Item",)
    said.count = before[: len(before) - length]
    return said


def _qualifiers(said: Words, text: str, at: int) -> str:
    """Reads what may stand between the keyword and the list, and gives the list."""
    while word := _WORD.match(text, at):
        name, end = word[0].lower(), word.end()
        if word[0].startswith("["):
            found = _SLICE.match(text, at)
            if found is None:
                hint = "write [start:stop] or [start:stop:step], with whole numbers"
                said.problem("error", "queue-syntax", f"{short(word[0])} is no slice", hint, word[0])
                break
            said.slice, end = _slice(said, found), found.end()
        elif name in {FILES, DIRECTORIES, "any", "table"}:
            allowed = "from" if name == "table" else "matching"
            if said.keyword != allowed or said.wanted:
                seen = f"{said.keyword} {said.wanted}".strip()
                hint = f"leave {name} out" if said.wanted else f"{name} goes with {allowed}"
                said.problem("error", "queue-syntax", f"{name} can't follow {seen}", hint, word[0])
                break
            if name == "table":
                said.table, end = _table(said, text, end)
            else:
                said.wanted = name
        else:
            break
        at = _BLANK.match(text, end).end()  # type: ignore[union-attr]
    return text[at:]


def _slice(said: Words, found: re.Match[str]) -> Slice:
    start, colon, end, step = (found[1], found[2], found[3] or "", found[4] or "")
    if start and not colon:
        message = f"{found[0]} means every row from there on, not one row"
        said.problem("note", "slice-to-the-end", message, f"write [{start}:] to say so", found[0])
    told = Slice(whole(start), whole(end), 1 if whole(step) is None else whole(step) or 0)
    if told.step < 1:
        message = f"the step of {found[0]} is less than 1; HTCondor stops with an assertion on it"
        said.problem("error", "slice-out-of-range", message, "use a step of 1 or more", found[0])
    return told


def _table(said: Words, text: str, at: int) -> tuple[Table, int]:
    if not text.startswith("(", at):
        return Table(), at
    end = _closing(text, at)
    if end < 0:
        message = "the parenthesis after table is never closed"
        said.problem("error", "queue-syntax", message, "write table(csv) FILE", "table")
        return Table(), len(text)
    table, unknown = table_options(text[at + 1 : end], whole)
    for option in unknown:
        hint = "known are csv, standard, header=N, skip=N, trim=, sep=, comma_sep="
        message = f"table has no option {short(option)}; HTCondor ignores it"
        said.problem("warning", "table-option", message, hint, option)
    return table, end + 1


def whole(text: str) -> int | None:
    """The whole number in `text`, or None; beyond 64 bits the nearest that fits, as strtoll has it."""
    digits = text.strip(BLANKS)
    if not INTEGER.fullmatch(digits):
        return None
    limit = 2**63 - 1
    if len(digits) > 30:
        digits = digits.lstrip("+-0")[:30] or "0"
        return -limit if text.strip(BLANKS).startswith("-") else min(limit, int(digits))
    return max(-limit, min(limit, int(digits)))


def _closing(text: str, at: int) -> int:
    """The place of the parenthesis that closes the one at `at`, or -1. Quoted text does not count."""
    stack: list[str] = []
    for found in _BRACES.finditer(text, at):
        mark = found[0]
        if mark in "([":
            stack.append(")" if mark == "(" else "]")
            if len(stack) > _DEEPEST + 1:
                return -1
        elif stack and mark == stack[-1]:
            stack.pop()
            if not stack:
                return found.start()
    return -1
