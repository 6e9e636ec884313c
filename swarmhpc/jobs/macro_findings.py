"""Says what is wrong with the macros that values use. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from swarmhpc.jobs import macros
from swarmhpc.jobs.findings import Findings, Place, Value, not_yet, short
from swarmhpc.jobs.macros import ExpansionError, Macros, for_job


class MacroUses:
    """Follows values into the macros they use, and reports what cannot be replaced, each place once."""

    def __init__(
        self, findings: Findings, commands: Mapping[str, Value], expander: Macros, loop_variables: frozenset[str]
    ) -> None:
        self._findings = findings
        self._commands = commands
        self._expander = expander
        self._loop_variables = loop_variables
        self._checked: set[str] = set()

    def check(self, name: str, value: Value) -> None:
        """Report everything wrong with the macros that `value` of command `name` reaches."""
        if "$" not in value.text or self._findings.is_full():
            return
        try:
            whole = for_job(self._expander.expand(value.text), process=0)
        except ExpansionError as error:
            message = f"{short(name)[1:-1]} cannot be expanded: {error.message}"
            self._findings.add(value.place, "error", error.code, message, "define each macro from plain text")
            return
        waiting = [value]
        while waiting:
            current = waiting.pop()
            for reference in self._needed(macros.split(current.text)):
                if self._findings.is_full():
                    return
                self._one(name, whole, current.at(reference.start), reference)
                key = reference.name.lower()
                definition = self._commands.get(key)
                if definition is not None and key not in self._checked:
                    self._checked.add(key)
                    waiting.append(definition)

    def _needed(self, parts: macros.Parts) -> Iterator[macros.Reference]:
        for part in parts:
            if isinstance(part, str):
                continue
            if part.kind == "macro" and part.default is not None and self._expander.is_empty(part.name):
                yield from self._needed(part.default)
                continue
            yield part

    def _one(self, name: str, whole: str, place: Place, reference: macros.Reference) -> None:
        findings, seen = self._findings, short(reference.text)[1:-1]
        became = f"{short(name)[1:-1]} becomes {short(whole)}"
        if reference.kind == "function":
            not_yet(self._findings, place, f"the function {seen.split('(')[0]}()")
        elif reference.kind == "unclosed":
            findings.add(
                place, "error", "unclosed-macro", "$( has no closing parenthesis", "write $(DOLLAR)( for a plain $("
            )
        elif reference.kind == "nested-name":
            not_yet(self._findings, place, f"a macro in the name of a macro ({seen})")
        elif reference.kind == "odd-default":
            message = f"HTCondor does not accept the default in {seen}"
            findings.add(place, "error", "odd-default", message, "define the macro on a line of its own")
        elif reference.kind == "odd-name":
            message = f"$( is followed by no macro name, so it stays as it is: {became}"
            findings.add(place, "warning", "no-macro", message, "write $(DOLLAR)( if that is meant")
        elif not self._expander.is_defined(reference.name) and reference.name.lower() not in self._loop_variables:
            if reference.name.lower() in macros.OUTSIDE_MACROS:
                not_yet(self._findings, place, f"the macro {seen}")
            else:
                message = f"{seen} is not defined and expands to nothing: {became}"
                hint = f"add a line {reference.name} = …, or write $({reference.name}:default)"
                findings.add(place, "warning", "undefined-macro", message, hint)
