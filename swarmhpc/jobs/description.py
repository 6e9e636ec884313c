"""Reads HTCondor submit descriptions: text in, data and findings out. No I/O; nothing in the text is ever executed.

This first parser knows assignments, comments, continuation lines, macros and one plain ``queue [N]``. Every other
construct of the language is an error that names it. Rules are those of ``Parse_macros`` and ``getline_implementation``
in HTCondor 25.14 (``src/condor_utils/config.cpp``); docs/submit-language.md lists where we differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from swarmhpc.jobs import macros
from swarmhpc.jobs.commands import canonical, likeliest
from swarmhpc.jobs.findings import Finding, Findings, Place, Value, not_yet, short
from swarmhpc.jobs.macro_findings import MacroUses
from swarmhpc.jobs.macros import ExpansionError, Macros, for_job
from swarmhpc.jobs.wrong_files import wrong_file

__all__ = ["MAX_JOBS", "Description", "Finding", "Place", "Value", "expand", "expanded", "parse"]

MAX_JOBS: Final = 1_000_000
_BLANK: Final = " \t\r\v\f"
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_ASSIGNMENT: Final = re.compile(r"([^\s=:@]++)\s*+=")
_ATTRIBUTE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*+")
_NAME: Final = re.compile(r"[A-Za-z0-9_./]++")
_BLOCK: Final = re.compile(r"([^\s=@]++)\s*+@=\s*+(\S*+)")
_QUEUE: Final = re.compile(r"queue(?![^\s])", re.IGNORECASE)
_ITERATE: Final = re.compile(r"(iter|itera|iterat|iterate)(?![^\s])", re.IGNORECASE)
_CONDITION: Final = re.compile(r":?(if|elif|else|endif)(?![\w.])", re.IGNORECASE)
_META: Final = re.compile(r"@?(include|use|error|warning)\b[^=:]*+:", re.IGNORECASE)
_FOREACH: Final = re.compile(r"(?:^|[\s,])(in|from|matching)(?![^\s(\[])", re.IGNORECASE)
_TRAILING_COMMENT: Final = re.compile(r"\s#")
_HINTS_AT_MOST: Final = 30  # looking for the likeliest command is slow


@dataclass(frozen=True)
class Description:
    """What a submit description says, uninterpreted. `count` is 0 when there is no usable ``queue`` statement.

    `commands` maps each name in lower case, macros of the user's own included, to its raw value; `attributes` maps
    names given as ``+Name`` or ``MY.Name``, in the user's spelling and without the prefix.
    """

    file: str
    commands: Mapping[str, Value]
    attributes: Mapping[str, Value]
    count: int
    queue: Place
    findings: tuple[Finding, ...]
    macros: Macros = field(repr=False, compare=False)

    @property
    def has_errors(self) -> bool:
        """True when this must not be submitted."""
        return any(f.severity == "error" for f in self.findings)


def expanded(description: Description, value: Value) -> str | None:
    """`value` with its macros replaced, marks of `macros` left in. None when it cannot be (parse has said why)."""
    try:
        return description.macros.expand(value.text).strip(_BLANK)
    except ExpansionError:
        return None


def expand(description: Description, name: str, *, process: int, cluster: str | None = None) -> str | None:
    """The value of command `name`, or of attribute ``+name``, for one job; None when absent or not expandable.

    Without `cluster`, which nobody knows before submission, the text ``$(Cluster)`` stays.
    """
    value = description.attributes.get(name[1:]) if name[:1] == "+" else description.commands.get(name.lower())
    text = None if value is None else expanded(description, value)
    return None if text is None else for_job(text, process=process, cluster=cluster)


def parse(text: str, *, file: str) -> Description:
    """Read a whole submit description. Never raises; what is wrong is in `findings`. `file` names it in places."""
    text = text.removeprefix("\ufeff")
    findings = Findings()
    mistake = wrong_file(text, file)
    if mistake is not None:
        findings.add(mistake.place, mistake.severity, mistake.code, mistake.message, mistake.hint)
        return Description(file, {}, {}, 0, mistake.place, findings.sorted(), Macros({}))
    reader = _Reader(file, findings)
    reader.read(text)
    return reader.finish()


@dataclass(frozen=True)
class _Line:
    """A logical line: physical lines joined at their backslashes."""

    text: str
    segments: tuple[tuple[int, Place], ...]

    def value_from(self, offset: int) -> Value:
        """What follows `offset`, without blanks around it."""
        while offset < len(self.text) and self.text[offset] in _BLANK:
            offset += 1
        whole = Value(self.text, self.segments[0][1], self.segments)
        later = tuple((start - offset, place) for start, place in self.segments if start > offset)
        return Value(self.text[offset:].rstrip(_BLANK), whole.at(offset), later)


def _logical_lines(text: str, file: str, findings: Findings) -> Iterator[_Line]:
    pieces: list[str] = []
    segments: list[tuple[int, Place]] = []
    size = 0
    for number, physical in enumerate(text.split("\n"), start=1):
        stripped = physical.strip(_BLANK)
        column = len(physical) - len(physical.lstrip(_BLANK)) + 1
        if stripped.startswith("#"):
            if pieces and not stripped.endswith("\\"):
                message = (
                    "this comment ends the continued line above it; HTCondor would add the comment's last character"
                )
                hint = "move the comment above the whole command, or end it with a backslash to go on"
                findings.add(Place(file, number, column), "warning", "comment-in-continuation", message, hint)
                yield _Line("".join(pieces), tuple(segments))
                pieces, segments, size = [], [], 0
            continue
        goes_on = stripped.endswith("\\")
        piece = stripped[:-1] if goes_on else stripped
        segments.append((size, Place(file, number, column)))
        pieces.append(piece)
        size += len(piece)
        if not goes_on:
            if size:
                yield _Line("".join(pieces), tuple(segments))
            pieces, segments, size = [], [], 0
    if size:
        yield _Line("".join(pieces), tuple(segments))


class _Reader:
    """Takes logical lines one by one; `finish` looks at the whole."""

    def __init__(self, file: str, findings: Findings) -> None:
        self.file = file
        self.findings = findings
        self.commands: dict[str, Value] = {}
        self.spelling: dict[str, str] = {}
        self.attributes: dict[str, Value] = {}
        self.definitions: dict[str, str] = {}
        self.queue: Value | None = None
        self.queue_place = Place(file, 1, 1)
        self.block_end: str | None = None
        self.block_place = self.queue_place
        self.end = Place(file, 1, 1)

    def read(self, text: str) -> None:
        """Read every line up to the end, or to the first thing after the queue statement."""
        for line in _logical_lines(text, self.file, self.findings):
            self.end = line.segments[0][1]
            if self.queue is not None:
                self._after_queue(line)
                return
            if self.findings.is_full():
                return
            if self.block_end is not None:
                if line.text == "@" + self.block_end:
                    self.block_end = None
                continue
            self._line(line)
        if self.block_end is not None:
            self._error(self.block_place, "unclosed-block", f"the block is never closed by a line @{self.block_end}")

    def _error(self, place: Place, code: str, message: str, hint: str = "") -> None:
        self.findings.add(place, "error", code, message, hint)

    def _not_yet(self, place: Place, construct: str, hint: str = "") -> None:
        not_yet(self.findings, place, construct, hint)

    def _line(self, line: _Line) -> None:
        text, place = line.text, line.segments[0][1]
        if _QUEUE.match(text):
            self.queue, self.queue_place = line.value_from(len("queue")), place
        elif match := _ITERATE.match(text):
            self._not_yet(place, f"{match[1]} (another word for queue)")
            self.queue, self.queue_place = Value("1", place), place
        elif (match := _META.match(text)) is not None:
            self._meta(text, match, place)
        elif (match := _BLOCK.match(text)) is not None:
            self._not_yet(place, f"the block {match[1][:40]} @={match[2][:40]}")
            self.block_end, self.block_place = match[2], place
        elif (match := _ASSIGNMENT.match(text)) is not None:
            self._assignment(match[1], line, match.end())
        elif (match := _CONDITION.match(text)) is not None:
            self._not_yet(place, f"{match[1]} (conditions)", "keep only the lines that apply")
        else:
            self._misfit(text, place)

    def _meta(self, text: str, match: re.Match[str], place: Place) -> None:
        word = match[1].lower()
        rest = text[match.end() :].strip(_BLANK)
        if word == "include" and ("command" in match[0].lower() or rest.endswith("|")):
            message = f"this line would run a command while the file is read: {short(rest)}"
            self._error(place, "would-run-command", message, "run it yourself and paste what it prints")
        else:
            self._not_yet(place, f"{word} :", "paste the included lines here" if word == "include" else "")

    def _misfit(self, text: str, place: Place) -> None:
        if re.match(r"[^\s=+]++\s*+\+[^\s=]?=", text):
            self._not_yet(place, "+= (append to a value)", "write $(name) at the start of the new value")
        elif text.startswith("-") and _ATTRIBUTE.fullmatch(text[1:].split("=")[0].strip(_BLANK)):
            self._not_yet(place, "-Attribute (remove an attribute)")
        else:
            word = text.split(None, 1)[0] if text.split() else text
            hint = "a comment begins with #, a command is written name = value"
            if word == "+":
                hint = "write +Name = value, without a blank after +"
            if canonical(word.lower().rstrip(":")) is not None:
                hint = f"write {word.rstrip(':')} = value"
            self._error(
                place, "not-understood", f"this line is no command, comment or queue statement: {short(text)}", hint
            )

    def _assignment(self, name: str, line: _Line, value_offset: int) -> None:
        place, value = line.segments[0][1], line.value_from(value_offset)
        if len(value.text) > macros.MAX_EXPANDED:
            message = f"{short(name)} has {len(value.text)} characters; wanted at most {macros.MAX_EXPANDED}"
            self._error(value.place, "too-large", message, "put long data into a file and send that")
            value = Value("", value.place)
        if bad := _CONTROL.search(value.text):
            message = f"{short(name)} holds the control character U+{ord(bad[0]):04X}"
            self._error(value.at(bad.start()), "control-character", message, "remove it")
            value = Value(_CONTROL.sub("\ufffd", value.text), value.place, value.segments)
        attribute = name[1:] if name[0] == "+" else name[3:] if name[:3].lower() == "my." else None
        key = name.lower() if attribute is None else "my." + attribute.lower()
        if attribute is not None and not _ATTRIBUTE.fullmatch(attribute):
            self._error(place, "bad-name", f"{short(name)} names no job attribute", "write +Name = expression")
            return
        if "$" in name:
            self._not_yet(place, f"a macro in the name of a command ({short(name)})")
            return
        if attribute is None and (not _NAME.fullmatch(name) or key == "queue"):
            hint = likeliest(name)
            hint = f"did you mean {hint}?" if hint else "names are made of letters, digits and _"
            self._error(place, "bad-name", f"{short(name)} is no name for a command", hint)
            return
        if key in macros.JOB_MACROS:
            self.findings.add(
                place, "warning", "set-by-htcondor", f"HTCondor sets {name} for each job; this line has no effect"
            )
        self._warn_trailing_comment(name, value)
        self._store(name, key, attribute, value, place)

    def _store(self, name: str, key: str, attribute: str | None, value: Value, place: Place) -> None:
        target = self.commands if attribute is None else self.attributes
        stored_name = key if attribute is None else self.spelling.get(key, attribute)
        before = target.get(stored_name)
        own_value = False
        if "$" in value.text:
            # HTCondor replaces a macro's references to itself at once, so that `a = $(a) more` appends.
            substituted = self._without_self(key, value.text)
            own_value = substituted != value.text
            if own_value:
                value = Value(substituted, value.place)
        if before is not None and not own_value:
            message = f"{name} is set twice: this replaces {short(before.text)} of line {before.place.line}"
            self.findings.add(place, "warning", "set-twice", message, f"remove line {before.place.line} or this one")
        if attribute is not None and stored_name != attribute:
            del self.attributes[stored_name]
            stored_name = attribute
        target[stored_name] = value
        self.spelling[key] = name if attribute is None else attribute
        self.definitions[key] = value.text

    def _without_self(self, key: str, text: str) -> str:
        parts = macros.split(text)
        if not any(r.kind == "macro" and r.name.lower() == key for r in macros.references(parts)):
            return text
        old = self.definitions.get(key, "")
        out, size = [], 0
        for part in parts:
            piece = part if isinstance(part, str) else part.text
            if not isinstance(part, str) and part.name.lower() == key:
                default = part.text[part.text.find(":") + 1 : -1] if part.default is not None else ""
                piece = old or default
            size += len(piece)
            out.append(piece)
            if size > macros.MAX_EXPANDED:
                return text  # left as a circle, which is reported
        return "".join(out)

    def _warn_trailing_comment(self, name: str, value: Value) -> None:
        quotes = seen = 0
        for match in _TRAILING_COMMENT.finditer(value.text):
            quotes, seen = quotes + value.text.count('"', seen, match.start()), match.start()
            if quotes % 2 == 0:
                comment = short(value.text[match.start() + 1 :])
                message = f"{short(name)[1:-1]} includes {comment}: a comment needs its own line"
                hint = "move the comment to the line above"
                self.findings.add(value.at(match.start() + 1), "warning", "trailing-comment", message, hint)
                return

    def _after_queue(self, line: _Line) -> None:
        place = line.segments[0][1]
        if self.queue is not None and self.queue.text.rstrip(_BLANK).endswith("("):
            return  # rows of an inline list, which is refused as a whole
        if _QUEUE.match(line.text) or _ASSIGNMENT.match(line.text):
            self._not_yet(
                place, "more commands after the first queue statement", "submit one file for each queue statement"
            )
        else:
            message = f"this text follows the queue statement and would be ignored: {short(line.text)}"
            self._error(place, "after-queue", message, "remove it, or move it above queue")

    def finish(self) -> Description:
        """Check what needs the whole file: names, macros, the count."""
        definitions = MappingProxyType(self.definitions)
        expander = Macros(definitions)
        used = MacroUses(self.findings, self.commands, expander, self._loop_variables())
        count = 0
        if self.queue is None:
            if not self.findings.is_full() and self.block_end is None:
                self._error(
                    self.end, "no-queue", "the file has no queue statement, so it describes no jobs", "add: queue"
                )
        else:
            used.check("queue", self.queue)
            count = self._count(self.queue, expander)
        for key, value in self.commands.items():
            if canonical(key) is not None:
                used.check(self.spelling[key], value)
        for attribute, value in self.attributes.items():
            used.check("+" + attribute, value)
        self._name_unknown_commands()
        return Description(
            file=self.file,
            commands=MappingProxyType(self.commands),
            attributes=MappingProxyType(self.attributes),
            count=count,
            queue=self.queue_place,
            findings=self.findings.sorted(),
            macros=expander,
        )

    def _name_unknown_commands(self) -> None:
        referenced: set[str] = set()
        texts = [v.text for v in (*self.commands.values(), *self.attributes.values())]
        for text in [*texts, self.queue.text if self.queue else ""]:
            referenced.update(r.name.lower() for r in macros.references(macros.split(text)))
        hints = 0
        for key, value in self.commands.items():
            if canonical(key) is not None or key in referenced or key in macros.JOB_MACROS:
                continue
            hints += 1
            close = likeliest(key) if hints <= _HINTS_AT_MOST else ""
            name = self.spelling[key]
            hint = f"did you mean {close}?" if close else f"remove it; for a job attribute write +{name}"
            message = f"{short(name)[1:-1]} is no submit command, and no value uses $({short(name)[1:-1]})"
            self._error(Place(self.file, value.place.line, 1), "unknown-command", message, hint)

    def _loop_variables(self) -> frozenset[str]:
        """Names that the queue statement, though not read yet, gives a value for each row. Lower case."""
        match = _FOREACH.search(self.queue.text) if self.queue else None
        if match is None or self.queue is None:
            return frozenset()
        return frozenset(re.findall(r"[\w.]+", self.queue.text[: match.start()].lower()))

    def _count(self, queue: Value, expander: Macros) -> int:
        text = queue.text
        if match := _FOREACH.search(text):
            place = queue.at(match.start(1))
            if match[1].lower() == "from" and text.endswith("|"):
                message = f"this line would run a command to get its rows: {short(text[match.end() :].strip(_BLANK))}"
                self._error(place, "would-run-command", message, "run it yourself and save what it prints")
            else:
                self._not_yet(place, f"queue … {match[1].lower()}", "use queue N and $(Process)")
            return 0
        try:
            number = for_job(expander.expand(text), process=0).strip(_BLANK) if text else "1"
        except ExpansionError:
            return 0  # reported with the macros
        wanted = f"wanted a whole number from 1 to {MAX_JOBS}"
        if not re.fullmatch(r"[+-]?[0-9]{1,30}", number, re.ASCII):
            seen = short(number) + (f" (from {short(text)})" if number != text else "")
            hint = "move the comment to a line of its own" if "#" in text else "write: queue 10"
            self._error(queue.place, "queue-count", f"queue says {seen}; {wanted}", hint)
        elif not 1 <= int(number) <= MAX_JOBS:
            self._error(
                queue.place, "queue-count", f"queue asks for {short(number)[1:-1]} jobs; {wanted}", "write: queue 10"
            )
        else:
            return int(number)
        return 0
