"""Reads HTCondor submit descriptions: text in, data and findings out. No I/O of its own; nothing is ever executed.

What the text may ask of the machine (files, listings, commands) comes in as `Sources`. reader.py takes the statements
one by one; here the whole is looked at. docs/submit-language.md lists where we differ from HTCondor 25.14.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmhpc.jobs.assignments import APPENDED
from swarmhpc.jobs.commands import canonical, likeliest
from swarmhpc.jobs.findings import Finding, Findings, Place, Value, short
from swarmhpc.jobs.macro_findings import MacroUses
from swarmhpc.jobs.macros import FIXED_LIVE, Macros
from swarmhpc.jobs.queue import MAX_JOBS, Queue
from swarmhpc.jobs.reader import Reader
from swarmhpc.jobs.snapshots import Commands
from swarmhpc.jobs.sources import NOTHING, Sources
from swarmhpc.jobs.wrong_files import wrong_file

__all__ = ["MAX_JOBS", "Description", "Finding", "Place", "Statement", "Value", "parse"]

_FOREACH: Final = re.compile(r"(?:^|[\s,])(in|from|matching)(?![^\s(\[])", re.IGNORECASE)
_HINTS_AT_MOST: Final = 30  # looking for the likeliest command is slow
_CHECKS_AT_MOST: Final = 100_000  # values whose macros are looked at, over all queue statements


@dataclass(frozen=True)
class Statement:
    """One queue statement, and what was set when it was reached.

    `commands` maps each name in lower case, macros of the file's own included, to its raw value; `attributes` maps
    names given as ``+Name`` or ``MY.Name``, in the file's spelling and without the prefix (looked up in any case).
    """

    commands: Mapping[str, Value] = field(repr=False)
    attributes: Mapping[str, Value] = field(repr=False)
    queue: Queue
    place: Place
    macros: Macros = field(repr=False, compare=False)


@dataclass(frozen=True)
class Description:
    """What a submit description says, uninterpreted: its queue statements that make jobs, and what is wrong."""

    file: str
    statements: tuple[Statement, ...]
    findings: tuple[Finding, ...]

    @property
    def jobs(self) -> int:
        """How many jobs all queue statements make."""
        return sum(s.queue.jobs for s in self.statements)

    @property
    def has_errors(self) -> bool:
        """True when this must not be submitted."""
        return any(f.severity == "error" for f in self.findings)


def parse(
    text: str,
    *,
    file: str,
    sources: Sources = NOTHING,
    overrides: Sequence[str] = (),
    append: Sequence[str] = (),
) -> Description:
    """Read a whole submit description. Never raises; what is wrong is in `findings`. `file` names it in places.

    `overrides` are words NAME=VALUE, set before the file is read, so that the file may replace them; `append` are
    lines read before each queue statement, or a queue statement for a file that has none. Both as in condor_submit.
    """
    text = text.removeprefix("\ufeff")
    findings = Findings()
    mistake = wrong_file(text, file)
    if mistake is not None:
        findings.add(mistake.place, mistake.severity, mistake.code, mistake.message, mistake.hint)
        return Description(file, (), findings.sorted(file))
    reader = Reader(file, sources, findings)
    reader.override(overrides)
    reader.read(text, append)
    _check_queues(reader, findings)
    _check_macros(reader, findings)
    _check_names(reader, findings)
    statements = tuple(
        Statement(r.commands, r.attributes, r.queue, r.place, r.macros) for r in reader.reached if r.queue is not None
    )
    return Description(file, statements, findings.sorted(file))


def _check_queues(reader: Reader, findings: Findings) -> None:
    reached = reader.reached
    if not reached:
        if not findings.errors or findings.is_full():
            message = "the file has no queue statement, so it describes no jobs"
            findings.add(reader.end, "error", "no-queue", message, "add: queue")
        return
    if not reader.jobs and not findings.errors:
        message = "the queue statements make no jobs, because their lists are empty"
        findings.add(reached[-1].place, "error", "no-jobs", message)
    if len(reached) > 1:
        message = (
            f"this is queue statement 2 of {len(reached)}; all are read, and $(Process) goes on. condor_submit 25.14 "
            "refuses more than one unless SUBMIT_PREVENT_MULTI_QUEUE=false"
        )
        findings.add(reached[1].place, "note", "several-queues", message)
    if reader.after is not None and reader.after.file != APPENDED:
        message = "this follows the last queue statement, so no job gets it"
        findings.add(reader.after, "warning", "after-last-queue", message, "move it above queue, or add a queue")


def _check_macros(reader: Reader, findings: Findings) -> None:
    left = _CHECKS_AT_MOST
    for reached in reader.reached:
        left -= len(reached.commands) + len(reached.attributes)
        if findings.is_full() or (left < 0 and reached is not reader.reached[0]):
            return
        loop = _loop_variables(reached.value) if reached.queue is None else frozenset()
        uses = MacroUses(findings, reached.commands, reached.macros, loop)
        uses.look_at_job(reached.queue)
        uses.check("queue", reached.value)
        for key, value in reached.commands.items():
            if "$" in value.text and canonical(key) is not None:
                uses.check(key, value)
        for attribute, value in reached.attributes.items():
            uses.check("+" + attribute, value)


def _loop_variables(value: Value) -> frozenset[str]:
    """Names that a queue statement that could not be read would give a value for each row. Lower case."""
    match = _FOREACH.search(value.text)
    return frozenset(re.findall(r"[\w.]+", value.text[: match.start()].lower())) if match else frozenset()


def _check_names(reader: Reader, findings: Findings) -> None:
    commands: Collection[str] = reader.reached[-1].commands if reader.reached else Commands(reader.set.history)
    hints = 0
    for key in commands:
        if canonical(key) is not None or key in reader.set.referenced or key in FIXED_LIVE:
            continue
        place = reader.set.places.get(key)
        if place is None or key in ("cluster", "clusterid"):
            continue
        hints += 1
        close = likeliest(key) if hints <= _HINTS_AT_MOST else ""
        name = short(reader.set.history.spelling(key))[1:-1]
        hint = f"did you mean {close}?" if close else f"remove it; for a job attribute write +{name}"
        message = f"{name} is no submit command, and no value uses $({name})"
        findings.add(place, "warning", "unknown-command", message, hint)
