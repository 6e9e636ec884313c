"""Reads the lines of a submit description, one statement after another, as ``Parse_macros`` of HTCondor 25.14 does.

(``src/condor_utils/config.cpp``; for queue statements ``submit_utils.cpp`` and ``submit.cpp``.) Pure: files and
commands are asked for through `Sources`. description.py looks at the whole afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from swarmhpc.jobs.assignments import APPENDED, COMMAND_LINE, Assignments, Moment
from swarmhpc.jobs.conditions import MAX_DEPTH, ConditionError, IfStack, evaluate
from swarmhpc.jobs.findings import Findings, Place, Value, joined, short
from swarmhpc.jobs.lines import BLANK, Line, Lines
from swarmhpc.jobs.macros import FIXED_LIVE, ExpansionError, Macros
from swarmhpc.jobs.queue import MAX_JOBS, Queue, read_queue
from swarmhpc.jobs.snapshots import Attributes, Commands, Definitions
from swarmhpc.jobs.sources import SourceError, Sources
from swarmhpc.jobs.wrong_files import line_hint

MAX_QUEUES: Final = 10_000  # queue statements of one description
MAX_INCLUDES: Final = 20  # files inside files, counting the first: CONFIG_MAX_NESTING_DEPTH
_MAX_INCLUDED: Final = 1000  # files and commands that are read, all together
_B: Final = r"[ \t\r\v\f\n]"
_QUEUE: Final = re.compile(rf"(?:queue|iter(?:a|at|ate)?)(?={_B}|\Z)", re.IGNORECASE)
_CONDITION: Final = re.compile(rf"(if|elif|else|endif)(?={_B}|\Z)", re.IGNORECASE)
_COLON_IF: Final = re.compile(rf":if(?={_B}|\Z)")
_FIRST_WORD: Final = re.compile(r"[^ \t\r\v\f\n=:]*+")
_OPERATOR: Final = re.compile(r"[=:]|@=|\+(?:([,;|&*])\1?)?=")
_INCLUDE: Final = re.compile(
    r"(?:(ifexists?)(?:[ \t]+|\Z))?(?:(output|command)(?:[ \t]+into[ \t]+([^ \t]+).*)?)?", re.DOTALL
)
_STRICT: Final = {  # SubmitStrictTemplates in submit_utils.cpp
    "SubmitWarnEmptyMatches": ("true", "true", "false"),
    "SubmitFailEmptyMatches": ("true", "true", "false"),
    "SubmitWarnDuplicateMatches": ("true", "true", "false"),
    "SubmitFailEmptyFields": ("true", "false", "false"),
    "SubmitWarnEmptyFields": ("true", "true", "false"),
}


@dataclass(frozen=True)
class Reached:
    """A queue statement and what was set there. `queue` is None when it makes no jobs; findings say why."""

    commands: Commands
    attributes: Attributes
    macros: Macros
    value: Value
    place: Place
    queue: Queue | None


class Reader:
    """Takes statements one by one. `reached` holds the queue statements, `set` every value."""

    def __init__(self, file: str, sources: Sources, findings: Findings) -> None:
        self.set = Assignments(findings, lambda text: self._macros().expand(text))
        self.reached: list[Reached] = []
        self.after: Place | None = None  # the first statement after the last queue
        self.end = Place(file, 1, 1)
        self.jobs = 0
        self._file = file
        self._sources = sources
        self._findings = findings
        self._append: Sequence[str] = ()
        self._numbers = count(1)
        self._stack = IfStack(self._numbers)
        self._open_files = [file]
        self._included = 0
        self._now: dict[str, str] = {}  # live variables of the last job so far
        self._expander: tuple[int, Macros] | None = None
        self._stopped = False

    def override(self, words: Sequence[str]) -> None:
        """Set what NAME=VALUE words of the command line say. The file may replace it, as in condor_submit."""
        for number, word in enumerate(words, start=1):
            place = Place(COMMAND_LINE, number, 1)
            name, equals, _ = word.partition("=")
            if not equals:
                self._error(place, "bad-name", f"{short(word)} is not NAME=VALUE")
                continue
            line = Line(word, ((0, place),))
            self._assign(name.strip(BLANK), line.value_from(len(name) + 1), place, "=")

    def read(self, text: str, append: Sequence[str]) -> None:
        """Read the whole file; `append` are lines that are read again before each queue statement."""
        lines = Lines(text, self._file, self._findings)
        self._append = ["\n" * before + line for before, line in enumerate(append) if not _is_queue(line)]
        self._statements(lines)
        self.end = lines.end
        for before, line in enumerate(append):
            if _is_queue(line) and not self._stopped:
                self._appended_queue(Lines("\n" * before + line, APPENDED, self._findings))
        if not self.reached and not self._findings.errors and self.set.has_commands():
            # condor_submit makes one job of a file without a queue statement since SUBMIT_FROM_TABLE (25.x).
            message = "the file has no queue statement; like condor_submit 25.14 this makes one job of it"
            self._findings.add(self.end, "warning", "no-queue", message, "add: queue")
            self._queue(Line("queue", ((0, self.end),)), len("queue"), Lines("", self._file, self._findings))

    def _appended_queue(self, lines: Lines) -> None:
        line = next(lines)
        match = _QUEUE.match(line.text)
        if self.reached:
            message = "there is a queue statement already, so this one has no place"
            self._error(line.place, "queue-conflict", message, "leave one of them out")
        elif match is not None:
            self._queue(line, match.end(), lines)

    # --- lines ---

    def _statements(self, lines: Lines) -> None:
        """Read one text to its end; every text has its own ``if``, as in HTCondor."""
        outer, self._stack = self._stack, IfStack(self._numbers, self._stack.path)
        for line in lines:
            if self._findings.is_full():
                self._error(line.place, "too-many", "")
                self._stopped = True
            if self._stopped:
                break
            self._line(line, lines)
        else:
            for place in self._stack.unclosed():
                self._error(place, "unclosed-if", "this if is never closed", "add a line endif")
        self._stack = outer

    def _line(self, line: Line, lines: Lines) -> None:
        text, start = line.text, 0
        if text[0] == ":" and (self._stack.is_open or _COLON_IF.match(text)):
            start = 1  # hides the line from very old versions
        if (match := _CONDITION.match(text, start)) is not None:
            self._condition(match[1].lower(), line, match.end(), Value(text, line.place, line.segments).at(start))
            return
        if not self._stack.enabled:
            return
        if start:
            line = line.after(start)
            text = line.text
        word = _FIRST_WORD.match(text)
        name = word[0] if word else ""
        position = len(name)
        while position < len(text) and text[position] in BLANK:
            position += 1
        operator = _OPERATOR.match(text, position)
        colon = text.find(":", position) if name.lower().removeprefix("@") in _META else -1
        if colon >= 0 and "=" not in text[position:colon]:
            self._meta(name.lower().removeprefix("@"), text[position:colon].strip(BLANK), line, colon + 1)
        elif operator is None or operator[0] == ":" or name.lower() == "queue":
            if (match := _QUEUE.match(text)) is not None:
                self._queue(line, match.end(), lines)
            else:
                self._misfit(text, line.place)
        else:
            self._assignment(name, operator[0], line, operator.end(), lines)

    def _error(self, place: Place, code: str, message: str, hint: str = "") -> None:
        self._findings.add(place, "error", code, message, hint)

    def _misfit(self, text: str, place: Place) -> None:
        message = f"this line is no command, comment or queue statement: {short(text)}"
        self._error(place, "not-understood", message, line_hint(text))

    # --- conditions ---

    def _condition(self, word: str, line: Line, offset: int, place: Place) -> None:
        stack, value, wrong = self._stack, line.value_from(offset), ""
        if word == "if":
            if not stack.begin(place, stack.enabled and self._truth(value)):
                message = f"if is nested more than {MAX_DEPTH} deep"
                self._error(place, "if-too-deep", message, "use fewer levels")
                self._stopped = True
        elif word == "elif":
            wrong = stack.turn(stack.wants_condition and self._truth(value), last=False)
        elif word == "else":
            if re.match(r"if\b", value.text, re.IGNORECASE):
                message = "HTCondor reads this as else, whatever the condition says"
                self._findings.add(place, "warning", "else-if", message, "write elif")
            wrong = stack.turn(False, last=True)
        else:
            wrong = stack.end()
        if wrong:
            self._error(place, "else-without-if", f"this {word} {wrong}", "remove it, or add the if it belongs to")

    def _truth(self, value: Value) -> bool:
        self.set.refer(value.text)
        if match := re.match(r"!?\s*defined\s+([A-Za-z0-9_./]+)", value.text, re.IGNORECASE):
            self.set.referenced.add(match[1].lower())
        try:
            return evaluate(value.text, expand=self._macros().expand, is_set=self._is_set)
        except ConditionError as error:
            self._error(value.place, "bad-condition", error.message, error.hint)
        except ExpansionError as error:
            self._error(value.place, error.code, f"the condition can't be expanded: {error.message}")
        return True

    def _is_set(self, name: str) -> bool:
        value = self.set.history.get(name.lower())
        if value is not None:
            return bool(value.text)
        try:
            return self._macros().expand(f"$({name})") != ""
        except ExpansionError:
            return True

    # --- include, use, error, warning ---

    def _meta(self, word: str, options: str, line: Line, offset: int) -> None:
        value = line.value_from(offset)
        self._note_after(line.place)
        if word == "include":
            self._include(options, value, line.place)
        elif word == "use":
            self._use(options, value, line.place)
        else:
            said = short(self._expanded(value) or value.text, 200)
            if word == "warning":
                self._findings.add(line.place, "warning", "warning-statement", f"the file warns: {said}")
            else:
                self._error(line.place, "error-statement", f"the file says that it must not be used: {said}")
                self._stopped = True

    def _use(self, category: str, value: Value, place: Place) -> None:
        template = value.text.upper()
        if category.upper() == "STRICT" and template in ("HARSH", "TRUE", "FALSE"):
            for name, texts in _STRICT.items():
                text = texts[("HARSH", "TRUE", "FALSE").index(template)]
                self.set.set_quietly(name, Value(text, value.place))
            return
        message = f"use {short(category)[1:-1]} : {short(value.text)[1:-1]} names a template of an access point"
        self._error(place, "unknown-template", message, "paste what the template holds")

    def _include(self, options: str, value: Value, place: Place) -> None:
        match = _INCLUDE.fullmatch(options)
        if match is None or not value.text:
            message = f"include does not read {short(options)}" if match is None else "include names no file"
            self._error(place, "not-understood", message, "write: include : FILE")
            return
        name = self._expanded(value)
        into = None if match[3] is None else self._expanded(Value(match[3], place))
        if name is None:
            return
        if name in self._open_files and not match[2]:
            files = " → ".join([*self._open_files[self._open_files.index(name) :], name])
            self._error(place, "include-cycle", f"files include each other in a circle: {files}")
            return
        command = name.rstrip("| ") if match[2] or name.endswith("|") else None
        try:
            made = self._text(into) if into else None
            if into and made is not None:
                self._enter(into, made, place)
            elif command is None:
                self._enter(name, self._sources.read(name), place)
            elif self._sources.run is None:
                message = f"this line would run a command while the file is read: {short(command, 200)}"
                hint = "allow commands, or run it yourself and paste what it prints"
                self._error(place, "would-run-command", message, hint)
            else:
                text = self._sources.run(command)
                message = f"ran, and its output was read here: {short(command, 200)}"
                self._findings.add(place, "note", "command-run", message)
                self._enter(f"<output of {command[:60]}>", text, place)
        except SourceError as error:
            if match[1]:
                self._findings.add(place, "note", "include-skipped", f"nothing is included: {error.message}")
            else:
                hint = "make the file, or write include ifexist : if it may be missing"
                self._error(value.place, "include-missing", f"nothing to include: {error.message}", hint)

    def _text(self, file: str) -> str | None:
        try:
            return self._sources.read(file)
        except SourceError:
            return None  # the command would make it

    def _enter(self, name: str, text: str, place: Place) -> None:
        self._included += 1
        if len(self._open_files) >= MAX_INCLUDES or self._included > _MAX_INCLUDED:
            message = f"files are included more than {MAX_INCLUDES - 1} deep"
            if self._included > _MAX_INCLUDED:
                message = f"more than {_MAX_INCLUDED} files are included"
            self._error(place, "include-too-deep", message)
            self._stopped = True
            return
        self._open_files.append(name)
        self._statements(Lines(text.removeprefix("\ufeff"), name, self._findings))
        self._open_files.pop()

    # --- values ---

    def _assignment(self, name: str, operator: str, line: Line, offset: int, lines: Lines) -> None:
        place, value = line.place, line.value_from(offset)
        self._note_after(place)
        if "$" in name:
            self.set.refer(name)
            expanded = self._expanded(Value(name, place))
            if expanded is None:
                return
            name = expanded
        if operator == "@=":
            block = self._block(name, value, lines, place)
            if block is None:
                return
            value = block
        self._assign(name, value, place, operator)

    def _assign(self, name: str, value: Value, place: Place, operator: str) -> None:
        self.set.assign(name, value, place, operator, Moment(len(self.reached), self._stack.path))

    def _block(self, name: str, tag: Value, lines: Lines, place: Place) -> Value | None:
        """The lines up to ``@tag``, joined by line ends."""
        parts: list[Value] = []
        for line in lines:
            if line.text.rstrip(BLANK) == "@" + tag.text:
                return joined(parts, parts[0].place, "\n") if parts else Value("", place)
            parts.append(Value(line.text, line.place, line.segments))
        message = f"the block {short(name)[1:-1]} is never closed by a line @{short(tag.text)[1:-1]}"
        self._error(place, "unclosed-block", message)
        return None

    def _macros(self) -> Macros:
        version = self.set.history.version
        if self._expander is None or self._expander[0] != version:
            new = Macros(Definitions(self.set.history), sources=self._sources, now=self._now)
            if self._expander is not None:
                new._work = self._expander[1]._work  # one budget for the whole file
            self._expander = (version, new)
        return self._expander[1]

    def _expanded(self, value: Value) -> str | None:
        self.set.refer(value.text)
        try:
            return self._macros().expand(value.text).strip(BLANK)
        except ExpansionError as error:
            self._error(value.place, error.code, f"{short(value.text)} can't be expanded: {error.message}")
            return None

    # --- queue ---

    def _note_after(self, place: Place) -> None:
        if self.reached and self.after is None:
            self.after = place

    def _queue(self, line: Line, offset: int, lines: Lines) -> None:
        place, value = line.place, line.value_from(offset)
        if len(self._open_files) > 1:
            message = "HTCondor does not allow queue in an included file"
            self._error(place, "queue-in-include", message, "move it to the file that includes this one")
        if len(self.reached) >= MAX_QUEUES:
            self._error(place, "too-many-queues", f"there are more than {MAX_QUEUES} queue statements")
            self._stopped = True
            return
        if self._stack.cross():
            message = "condor_submit stops at the endif after a queue statement; swarmhpc reads on"
            self._findings.add(place, "warning", "queue-in-if", message, "set macros inside if, and queue after it")
        self._append_lines()
        self.set.refer(value.text)
        expander, errors = self._macros(), self._findings.errors
        queue = read_queue(value, expander, self._sources, self._findings, lines.following(), place)
        if queue is not None and self.jobs + queue.jobs > MAX_JOBS:
            message = f"the queue statements ask for more than {MAX_JOBS} jobs"
            self._error(place, "queue-count", message, "submit them in parts")
            queue = None
        if queue is None and self._findings.errors == errors:
            self._error(value.place, "queue-count", "this queue statement makes no jobs")
        variables = () if queue is None else queue.variables
        live = {*FIXED_LIVE, *(v.lower() for v in variables)}
        commands, attributes = Commands(self.set.history), Attributes(self.set.history)
        self.reached.append(Reached(commands, attributes, expander.with_live(live), value, place, queue))
        self.after = None
        if queue is not None and queue.jobs:
            self.jobs += queue.jobs
            process = str(self.jobs - 1)
            row = str(queue.first_row + queue.row_step * max(0, len(queue.rows) - 1))
            step = str(queue.count - 1)
            self._now = {"process": process, "procid": process, "step": step, "row": row, "itemindex": row}
            self._expander = (-1, expander)
            for variable in variables:
                if variable.lower() not in FIXED_LIVE:
                    self.set.leave_stale(variable, place)

    def _append_lines(self) -> None:
        appended, self._append = self._append, ()
        for text in appended:
            self._statements(Lines(text, APPENDED, self._findings))
        self._append = appended


_META: Final = frozenset({"include", "use", "error", "warning"})


def _is_queue(line: str) -> bool:
    return _QUEUE.match(line.strip(BLANK)) is not None
