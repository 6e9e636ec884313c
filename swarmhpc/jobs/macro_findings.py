"""Says what is wrong with the macros that values use. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from swarmhpc.jobs.assignments import STALE
from swarmhpc.jobs.findings import Findings, Place, Value, short
from swarmhpc.jobs.macro_text import Parts
from swarmhpc.jobs.macros import CLUSTER_MARK, FIXED_LIVE, ExpansionError, Macros, Reference, looked_up, split
from swarmhpc.jobs.queue import Queue


class MacroUses:
    """Follows the values of one queue statement into the macros they use, and reports each place once.

    `loop_variables` are names that the queue statement would define, had it been understood.
    """

    def __init__(
        self,
        findings: Findings,
        commands: Mapping[str, Value],
        expander: Macros,
        loop_variables: frozenset[str],
    ) -> None:
        self._findings = findings
        self._commands = commands
        self._expander = expander
        self._loop_variables = loop_variables
        self._live: Mapping[str, str] = dict.fromkeys(FIXED_LIVE, "0") | {"item": ""}
        self._checked: set[str] = set()

    def look_at_job(self, queue: Queue | None) -> None:
        """Say what values become in the first job of `queue`."""
        if queue is not None:
            self._live = next(queue.lives(0), self._live)

    def check(self, name: str, value: Value) -> None:
        """Report everything wrong with the macros that `value` of command `name` reaches."""
        if "$" not in value.text or self._findings.is_full():
            return
        whole = self._whole(name, value)
        if whole is None:
            return
        waiting = [value]
        while waiting:
            current = waiting.pop()
            for reference in self._needed(split(current.text)):
                if self._findings.is_full():
                    return
                self._one(name, whole, current.at(reference.start), reference)
                for key in _names(reference):
                    definition = self._commands.get(key)
                    if definition is not None and key not in self._checked:
                        self._checked.add(key)
                        waiting.append(definition)

    def _whole(self, name: str, value: Value) -> str | None:
        try:
            template = self._expander.compile(value.text)
            whole = template.constant
            if whole is None:
                whole = template.render({**dict.fromkeys(template.uses, ""), **self._live})
            return whole.replace(CLUSTER_MARK, "$(Cluster)")
        except ExpansionError as error:
            if name != "queue":  # its own error says so
                message = f"{short(name)[1:-1]} cannot be expanded: {error.message}"
                self._findings.add(value.place, "error", error.code, message, "define each macro from plain text")
            return None

    def _needed(self, parts: Parts) -> Iterator[Reference]:
        for part in parts:
            if isinstance(part, str):
                continue
            if part.kind == "macro" and part.default is not None and self._expander.is_empty(part.name):
                if part.name.lower() not in self._loop_variables:
                    yield from self._needed(part.default)
                continue
            yield part

    def _one(self, name: str, whole: str, place: Place, reference: Reference) -> None:
        findings, seen = self._findings, short(reference.text)[1:-1]
        became = f"{short(name)[1:-1]} becomes {short(whole)}"
        key = reference.name.lower()
        if reference.kind == "unclosed":
            message = f"$( has no closing parenthesis, so it stays as it is: {became}"
            findings.add(place, "warning", "unclosed-macro", message, "add the parenthesis; $(DOLLAR)( is a plain $(")
        elif reference.kind == "odd-default":
            message = f"HTCondor does not accept the default in {seen}"
            findings.add(place, "error", "odd-default", message, "define the macro on a line of its own")
        elif reference.kind == "odd-name":
            message = f"$( is followed by no macro name, so it stays as it is: {became}"
            findings.add(place, "warning", "no-macro", message, "write $(DOLLAR)( if that is meant")
        elif reference.kind != "macro":
            return
        elif key not in self._live and (left := self._commands.get(key)) is not None and left.text == STALE:
            message = f"{seen} belongs to the queue statement of line {left.place.line}; after it HTCondor leaves "
            hint = f"set {reference.name} before this queue statement"
            findings.add(place, "warning", "stale-variable", f"{message}{STALE!r} in it: {became}", hint)
        elif not self._expander.is_defined(reference.name) and key not in self._loop_variables:
            message = f"{seen} is not defined and expands to nothing: {became}"
            hint = f"add a line {reference.name} = …, or write $({reference.name}:default)"
            findings.add(place, "warning", "undefined-macro", message, hint)


def _names(reference: Reference) -> tuple[str, ...]:
    """The macros whose values `reference` may take. Lower case."""
    names = looked_up(reference.name, reference.body) if reference.kind == "function" else (reference.name,)
    return tuple(name.strip().lower() for name in names)
