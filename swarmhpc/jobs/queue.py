"""The queue statement: how many jobs, and which values each of them gets. Pure: files and commands come from Sources.

Semantics are those of HTCondor 25.14: ``SubmitForeachArgs::parse_queue_args``, ``load_inline_q_foreach_items``,
``load_external_q_foreach_items`` (``src/condor_utils/submit_utils.cpp``), ``submit_expand_globs`` (``submit_glob.cpp``)
and ``SubmitStepFromQArgs`` (``submit_utils.h``); tests/unit/test_queue.py holds what ``condor_submit -dry-run`` made of
each form.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmhpc.jobs.findings import Findings, Place, Severity, Value, short
from swarmhpc.jobs.macros import ExpansionError, Macros
from swarmhpc.jobs.queue_words import DIRECTORIES, FILES, INTEGER, Slice, Words, whole, words_of
from swarmhpc.jobs.rows import BLANKS, PLAIN, Splitting, file_rows, is_name, odd_rows, tokens
from swarmhpc.jobs.sources import SourceError, Sources

__all__ = ["MAX_JOBS", "Queue", "read_queue"]

MAX_JOBS: Final = 1_000_000
_INT_MAX: Final = 2**31 - 1
_MAX_ROWS: Final = 4 * MAX_JOBS  # a slice may pick from more rows than there are jobs


@dataclass(frozen=True)
class Queue:
    """What one queue statement makes: `count` jobs of each row.

    `variables` are the loop variables as written: ("Item",) when none is named, () for plain ``queue N``, which has no
    rows and makes `count` jobs. `rows` are the item lines as they are, after the slice; `first_row` and `row_step` say
    where they stood before it, which is what $(Row) counts.
    """

    count: int
    variables: tuple[str, ...]
    rows: Sequence[str] = field(repr=False)
    place: Place
    first_row: int = 0
    row_step: int = 1
    splitting: Splitting = PLAIN

    @property
    def jobs(self) -> int:
        """How many jobs the statement makes."""
        return self.count * len(self.rows) if self.variables else self.count

    def lives(self, first_process: int) -> Iterator[dict[str, str]]:
        """The live variables of each job in order, in lower case. `first_process` is the first job's $(Process).

        A row with too few fields leaves the others empty; an empty row repeats the fields of the row before it.
        """
        names = [name.lower() for name in self.variables]
        columns, split = len(names), self.splitting.fields
        fields, process, row_number = dict.fromkeys(names, ""), first_process, self.first_row
        padding = [""] * columns
        steps = [str(step) for step in range(self.count)] if columns else ()
        for row in self.rows if columns else ():
            values = split(row, columns)
            if values:
                fields = dict(zip(names, values if len(values) == columns else values + padding, strict=False))
            number = str(row_number)
            for step in steps:
                text = str(process)
                yield {
                    "process": text,
                    "procid": text,
                    "step": step,
                    "row": number,
                    "itemindex": number,
                    "item": "",
                    **fields,
                }
                process += 1
            row_number += self.row_step
        for count in range(0 if columns else self.count):
            text = str(first_process + count)
            yield {
                "process": text,
                "procid": text,
                "step": str(count),
                "row": "0",
                "itemindex": "0",
                "item": "",
            }


def read_queue(
    value: Value,
    macros: Macros,
    sources: Sources,
    findings: Findings,
    following: Iterator[tuple[str, Place]],
    place: Place,
) -> Queue | None:
    """What the statement at `place` makes; `value` is what stands after the word queue. None: findings say why.

    `following` gives the lines after it, joined at their backslashes and stripped of blanks (but not of unit
    separators); a list that goes on takes them up to its closing parenthesis.
    """
    return _Reader(value, macros, sources, findings, place).read(following)


class _Reader:
    def __init__(self, value: Value, macros: Macros, sources: Sources, findings: Findings, place: Place) -> None:
        self.value, self.macros, self.sources, self.findings, self.place = value, macros, sources, findings, place
        self._failed = False
        self.lines, self.columns = array("q"), array("q")  # where each row of an inline table stands
        self.row_file = place.file
        self.rows_name = ""

    def failed(self) -> bool:
        return self._failed

    def error(self, code: str, message: str, hint: str = "", at: Place | None = None) -> None:
        self._failed = True
        self.findings.add(at or self.value.place, "error", code, message, hint)

    def warn(self, code: str, message: str, hint: str = "", at: Place | None = None, as_: Severity = "warning") -> None:
        self.findings.add(at or self.value.place, as_, code, message, hint)

    def at(self, text: str) -> Place:
        """Where `text` stands in the statement; its beginning when a macro brought it in."""
        return self.value.at(max(0, self.value.text.rfind(text)) if text else 0)

    def read(self, following: Iterator[tuple[str, Place]]) -> Queue | None:
        try:
            text = self.macros.expand(self.value.text)
        except ExpansionError as error:
            self.error(error.code, error.message)
            text = self.value.text
        statement = words_of(text)
        for problem in statement.problems:
            self._failed |= problem.severity == "error"
            self.warn(problem.code, problem.message, problem.hint, self.at(problem.at), problem.severity)
        if statement.goes_on:  # also after an error: its lines are no commands
            self.inline(statement, following)
        count = 0 if self.failed() else self.count(statement.count)
        if self.failed():
            return None
        if not statement.keyword:
            return self.counted(Queue(count, (), (), self.place))
        rows = self.rows(statement)
        if self.failed():
            return None
        return self.counted(self.table(statement, rows, count))

    def counted(self, queue: Queue) -> Queue | None:
        if self.failed():
            return None
        if queue.jobs > MAX_JOBS:
            self.error("queue-count", f"queue asks for {queue.jobs} jobs; at most {MAX_JOBS} are allowed")
            return None
        self.check_rows(queue)
        return queue

    def count(self, text: str) -> int:
        text = text.strip(BLANKS)
        if not text:
            return 1
        if INTEGER.fullmatch(text):
            number: int | float | None = whole(text)
        else:
            # The bindings read 0x3 as 0; condor_submit refuses it.
            answer = None if "0x" in text.lower() else self.sources.evaluate(text)
            value = None if answer is None else answer[0]
            number = value if isinstance(value, int | float) and math.isfinite(value) else None
        last = text.lower().rsplit(None, 1)[-1]
        if number is None and last in {"in", "from", "matching"}:
            hint = f"write: queue NAME {last} (one two three)"
            self.error("queue-syntax", f"nothing follows {last}", hint, self.at(text))
        elif number is None:
            hint = "move the comment to a line of its own" if "#" in text else "write: queue 10"
            self.error("queue-count", f"queue says {short(text)}, which is no number of jobs", hint, self.at(text))
        elif not 0 <= int(number) < _INT_MAX:
            seen = short(text)[1:-1]
            self.error("queue-count", f"queue asks for {seen} jobs; 1 to {MAX_JOBS} are allowed", at=self.at(text))
        elif int(number) == 0:
            message = "queue 0 makes one job (of each row), as with condor_submit"
            self.warn("queue-count", message, "remove the queue statement to submit nothing", self.at(text))
        return max(1, int(number or 0))

    # --- where the rows come from

    def inline(self, said: Words, following: Iterator[tuple[str, Place]]) -> None:
        """Reads the lines of a list or table up to the one that begins with a closing parenthesis."""
        self.lines.extend([self.value.place.line] * len(said.items))
        self.columns.extend([self.value.place.column] * len(said.items))
        for line, where in following:
            if line.startswith("#"):
                continue
            if line.startswith(")"):
                rest = line[1:].strip(BLANKS)
                if rest:
                    message = f"{short(rest)} after the closing parenthesis is ignored, as condor_submit does"
                    self.warn("queue-syntax", message, "remove it", where)
                return
            if said.keyword == "from":
                said.items.append(line)
                self.lines.append(where.line)
                self.columns.append(where.column)
                self.row_file = where.file
            else:
                said.items.extend(tokens(line))
        hint = "put ) on a line of its own after the last row"
        self.error("unclosed-table", "the list of this queue statement is never closed", hint, self.at("("))

    def rows(self, said: Words) -> list[str]:
        if said.path:
            return self.from_file(said.path)
        return self.matching(said) if said.keyword == "matching" else said.items

    def from_file(self, path: str) -> list[str]:
        self.rows_name = path
        try:
            text = self.sources.read(path) if "|" not in path else self.from_command(path)
        except SourceError as error:
            hint = "a relative path is looked up in the current directory, not in initialdir"
            if " #" in path:
                hint = "move the comment to a line of its own: HTCondor takes it as part of the file's name"
            elif path[0] in "\"'<":
                hint = "write the bare path: HTCondor takes quotes and < as part of the file's name"
            code = "queue-command-failed" if "|" in path else "queue-file-missing"
            self.error(code, error.message, "" if "|" in path else hint, self.at(path))
            return []
        if text.count("\n") > _MAX_ROWS:
            self.error("queue-count", f"{path} has more than {_MAX_ROWS} rows", "split the file", self.at(path))
            return []
        return file_rows(text)

    def from_command(self, path: str) -> str:
        if not path.endswith("|"):
            hint = "write | as the last character of the line"
            self.error("queue-syntax", f"{short(path)} is a command, but | does not end it", hint, self.at(path))
            return ""
        command = path.rstrip("| ")
        if self.sources.run is None:
            hint = "write its output to a file and use that, or allow commands"
            message = f"this would run {short(command, 200)} and take its output as rows"
            self.error("would-run-command", message, hint, self.at(path))
            return ""
        text = self.sources.run(command)
        message = f"ran {short(command, 200)}: its output is the rows"
        self.warn("command-run", message, "", self.at(path), "note")
        return text

    def matching(self, said: Words) -> list[str]:
        files, directories = self.wanted(said)
        warns_empty, fails_empty = self.flag("warn_empty_matches", True), self.flag("fail_empty_matches", False)
        warns_twice, allows_twice = (
            self.flag("warn_duplicate_matches", True),
            self.flag("allow_duplicate_matches", False),
        )
        rows: dict[str, None] = {}
        in_order: list[str] = []
        twice: list[str] = []
        unmatched: list[str] = []
        for pattern in said.items:
            try:
                paths = self.sources.match(pattern, files, directories)
            except SourceError as error:
                self.error("queue-file-missing", error.message)
                return []
            if not paths:
                unmatched.append(pattern)
            twice.extend(path for path in paths if path in rows)
            rows.update(dict.fromkeys(paths))
            if allows_twice:
                in_order.extend(paths)
        if unmatched and (fails_empty or warns_empty):
            more = f" (and {len(unmatched) - 1} more patterns)" if len(unmatched) > 1 else ""
            hint = "patterns are looked up in the current directory, not in initialdir"
            say = self.error if fails_empty else self.warn
            say("no-match", f"nothing matches {short(unmatched[0])}{more}", hint, self.at(unmatched[0]))
        if twice and warns_twice and not allows_twice:
            message = f"{short(twice[0])} matched already; {len(twice)} path(s) that matched twice are taken once"
            self.warn("duplicate-match", message)
        return in_order if allows_twice else list(rows)

    def wanted(self, said: Words) -> tuple[bool, bool]:
        """Whether files and whether directories are to match: what the statement says, else the command, else both."""
        told = said.wanted or "any"
        setting = self.setting("match_directories").lower()
        meanings = {"never": FILES, "no": FILES, "false": FILES, "only": DIRECTORIES, "yes": "any", "true": "any"}
        if setting and setting not in meanings:
            message = f"submit_match_directories is {short(setting)}"
            self.error("queue-syntax", message, "write never, only or yes")
        elif setting and not said.wanted:
            told = meanings[setting]
        return told != DIRECTORIES, told != FILES

    def setting(self, name: str) -> str:
        for key in (f"submit{name.replace('_', '')}", f"submit_{name}"):
            if self.macros.is_defined(key):
                try:
                    return self.macros.expand(f"$({key})").strip(BLANKS)
                except ExpansionError:
                    return ""  # said where it is defined
        return ""

    def flag(self, name: str, default: bool) -> bool:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(
            self.setting(name).lower(), default
        )

    # --- what the rows make

    def table(self, said: Words, rows: list[str], count: int) -> Queue:
        variables, splitting, length = said.variables, PLAIN, len(rows)
        if said.table is not None:
            splitting = said.table.splitting
            header = said.table.header(rows)
            if said.table.header_row >= len(rows) or not all(map(is_name, header)):
                message = f"row {said.table.header_row} of the table holds no names of variables; it is taken as data"
                self.warn("table-header", message, "rows count from 0; write table(csv) for a table without header")
            else:
                variables = header or said.variables
                rows = said.table.without_header(rows)
                self.lines, self.columns = self.lines[length - len(rows) :], self.columns[length - len(rows) :]
            if said.variables not in {("Item",), variables}:
                instead, told = ", ".join(variables), ", ".join(said.variables)
                message = f"the table's header names the variables: {instead}, not {told}"
                self.warn("table-header", message, "write table(csv) when the first row is data")
        cut, length = said.slice, len(rows)
        start = 0 if cut.start is None else cut.start if cut.start >= 0 else cut.start + length
        end = length if cut.end is None else cut.end if cut.end >= 0 else cut.end + length
        if start < 0:
            self.error("slice-out-of-range", f"the slice begins {-start} rows before the first of {length} rows")
        picked = rows if cut == Slice() else rows[max(0, start) : max(0, end) : max(1, cut.step)]
        if rows and not picked and not self.failed():
            self.warn("slice-out-of-range", f"the slice picks none of {length} rows, so the statement makes no job")
        elif not rows:
            source = f"{self.rows_name} has no rows" if self.rows_name else "the list has no items"
            self.warn("empty-queue", f"{source}, so this queue statement makes no job")
        return Queue(count, variables, picked, self.place, max(0, start), cut.step, splitting)

    def check_rows(self, queue: Queue) -> None:
        """Says once each what is odd in the rows; what is made of them is HTCondor's way."""
        columns, empty = len(queue.variables), "remove the empty line"
        for code, (index, values) in odd_rows(queue.rows, columns, queue.splitting, bool(self.rows_name)).items():
            number, seen = queue.first_row + index * queue.row_step, short(queue.rows[index])
            name = f"row {number} of {self.rows_name}" if self.rows_name else f"row {number}"
            place = self.row_place(number)
            if code == "row-empty":
                self.warn(code, f"{name} is empty; its jobs have the values of the row before", empty, place)
            elif code == "row-comment":
                hint = "remove it, or put the rows into the submit file"
                self.warn(code, f"{name} begins with #, but a file of rows has no comments", hint, place)
            elif code == "row-fields":
                message = f"{name} has {len(values)} of {columns} fields: {seen}; the others are empty"
                self.warn(code, message, f"the variables are {', '.join(queue.variables)}", place)
            elif code == "blank-before-comma":
                message = f"{name}, {seen}, gives {short(' and '.join(map(repr, values)))}: a blank ends a field, too"
                self.warn(code, message, "write the comma right behind the value", place)
            else:
                message = f"{name} has more than {columns} fields: {queue.variables[-1]} is {short(values[-1])}"
                self.warn(code, message, "", place, "note")

    def row_place(self, row: int) -> Place:
        """Where a row of an inline table stands; the statement for rows from elsewhere."""
        if row < len(self.lines):
            return Place(self.row_file, self.lines[row], self.columns[row])
        return self.at(self.rows_name)
