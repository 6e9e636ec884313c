"""Gives names their values as a submit description is read, and says what is odd about it. Pure.

As ``insert_macro`` and ``expand_self_macro`` of HTCondor 25.14 do (``src/condor_utils/config.cpp``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from swarmhpc.jobs import macros
from swarmhpc.jobs.commands import canonical, likeliest
from swarmhpc.jobs.findings import Findings, Place, Value, joined, short
from swarmhpc.jobs.snapshots import ATTRIBUTE, History

COMMAND_LINE: Final = "<command line>"  # stands for a file in places
APPENDED: Final = "<append>"
STALE: Final = "<Queue_item>"  # what HTCondor leaves in a loop variable after its queue statement
_MAX_GROWTH: Final = 500_000_000  # characters that values may take over from earlier ones, all together
_SEGMENT_COST: Final = 100  # copying one place costs as much as so many characters
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_ATTRIBUTE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*+")
_NAME: Final = re.compile(r"[A-Za-z0-9_./]++")
_TRAILING_COMMENT: Final = re.compile(r"\s#")
_WORDS: Final = re.compile(r"[A-Za-z0-9_./]+")
_SET_BY_HTCONDOR: Final = frozenset({*macros.FIXED_LIVE, "cluster", "clusterid"} - {"item"})


@dataclass(frozen=True)
class Moment:
    """How far reading had come: queue statements so far, and the branches of ``if`` that are open."""

    queues: int
    path: tuple[int, ...]


@dataclass(frozen=True)
class _Set:
    """Where and when a name got its value last."""

    place: Place
    moment: Moment


def _is_twice(last: _Set, this: _Set) -> bool:
    """True when a value is replaced that nothing can have used: same file, no queue between, never another branch."""
    path = this.moment.path
    return (
        last.place.file == this.place.file != APPENDED
        and last.moment.queues == this.moment.queues
        and last.moment.path[: len(path)] == path
    )


class Assignments:
    """Every value of a description, and where it was set last. `referenced` are the names that any text uses."""

    def __init__(self, findings: Findings, expand: Callable[[str], str]) -> None:
        """`expand` replaces macros by what is set now."""
        self._expand = expand
        self.history = History()
        self.places: dict[str, Place] = {}
        self.referenced: set[str] = set()
        self._last: dict[str, _Set] = {}
        self._findings = findings
        self._growth = 0

    def _error(self, place: Place, code: str, message: str, hint: str = "") -> None:
        self._findings.add(place, "error", code, message, hint)

    def refer(self, text: str) -> None:
        """Remember the macros that `text` uses, those of functions too."""
        if "$" in text:
            self._refer(macros.split(text))

    def _refer(self, parts: Sequence[str | macros.Reference]) -> None:
        for reference in macros.references(tuple(parts)):
            self.referenced.add(reference.name.lower())
            self.referenced.update(_WORDS.findall(reference.body.lower()))

    def has_commands(self) -> bool:
        """True when some command that HTCondor knows was set."""
        return any(canonical(key) is not None for key in self.history.keys(self.history.version, attributes=False))

    def set_quietly(self, name: str, value: Value) -> None:
        """Give `name` a value that nobody wrote, and that nobody needs to use."""
        self.history.set(name.lower(), name, value)
        self.referenced.add(name.lower())
        self._last.pop(name.lower(), None)

    def leave_stale(self, variable: str, place: Place) -> None:
        """Note that the loop over `variable` has ended: HTCondor leaves a marker in it."""
        self.set_quietly(variable, Value(STALE, place))

    def assign(self, name: str, value: Value, place: Place, operator: str, now: Moment) -> None:
        """Set `name`, as written at `place`; `operator` is ``=``, ``@=`` or a form of ``+=``."""
        value = self._checked(name, value)
        signed = name[:1] in ("+", "-")
        attribute = name[1:] if signed else name[3:] if name[:3].lower() == ATTRIBUTE else None
        if attribute is not None and (not _ATTRIBUTE.fullmatch(attribute) or (signed and operator != "=")):
            hint = "write MY.Name for this" if signed and operator != "=" else "write +Name = expression"
            self._error(place, "bad-name", f"{short(name)} names no job attribute", hint)
            return
        if attribute is None and not _NAME.fullmatch(name):
            close = likeliest(name)
            hint = f"did you mean {close}?" if close else "names are made of letters, digits and _"
            if name.endswith(("+", "@")):
                hint = f"write a blank: {name[:-1][:40]} {name[-1]}= …"
            self._error(place, "bad-name", f"{short(name)} is no name for a command", hint)
            return
        if name[:1] == "-":
            value = Value("", value.place)
        key = name.lower() if attribute is None else ATTRIBUTE + attribute.lower()
        if key in _SET_BY_HTCONDOR:
            message = f"HTCondor gives each job its own {name}; this line replaces that, for $({name}) in all jobs"
            self._findings.add(place, "warning", "set-by-htcondor", message)
        if operator != "@=":
            self._warn_trailing_comment(name, value)
        self._store(name, key, attribute or name, value, _Set(place, now), operator)

    def _checked(self, name: str, value: Value) -> Value:
        if len(value.text) > macros.MAX_EXPANDED:
            message = f"{short(name)} has {len(value.text)} characters; wanted at most {macros.MAX_EXPANDED}"
            self._error(value.place, "too-large", message, "put long data into a file and send that")
            return Value("", value.place)
        if bad := _CONTROL.search(value.text):
            message = f"{short(name)} holds the control character U+{ord(bad[0]):04X}"
            self._error(value.at(bad.start()), "control-character", message, "remove it")
            return Value(_CONTROL.sub("\ufffd", value.text), value.place, value.segments)
        return value

    def _store(self, name: str, key: str, spelling: str, value: Value, this: _Set, operator: str) -> None:
        before = self.history.get(key)
        parts = macros.split(value.text) if "$" in value.text else ()
        self._refer(parts)
        # HTCondor replaces a macro's references to itself at once, so that `a = $(a) more` appends.
        pieces = self._without_self(key, value, parts, before)
        builds = pieces is not None
        pieces = [value] if pieces is None else pieces
        if operator.startswith("+"):
            builds = True
            if before is not None and before.text:
                separator = operator[1:-1] if len(operator) < 4 else f" {operator[1:-1]} "
                pieces = [Value(before.text + (separator or " "), before.place, before.segments), *pieces]
        if builds:
            self._growth += sum(len(p.text) + _SEGMENT_COST * (1 + len(p.segments)) for p in pieces)
            if sum(len(p.text) for p in pieces) > macros.MAX_EXPANDED or self._growth > _MAX_GROWTH:
                message = f"{short(name)[1:-1]} grows beyond all bounds"
                self._error(this.place, "too-large", message, "build it in fewer steps")
                return
            value = joined(pieces, value.place)
        self._compare(name, before, self._last.get(key), this, builds=builds)
        self._last[key] = this
        self.places[key] = this.place
        self.history.set(key, spelling, value)

    def _compare(self, name: str, before: Value | None, last: _Set | None, this: _Set, *, builds: bool) -> None:
        if before is None or last is None or builds:
            return
        if _is_twice(last, this):
            message = f"{name} is set twice: this replaces {short(before.text)} of line {last.place.line}"
            hint = f"remove line {last.place.line} or this one"
            self._findings.add(this.place, "warning", "set-twice", message, hint)
        elif last.place.file == COMMAND_LINE:
            message = f"this replaces {name}={short(before.text)[1:-1]} of the command line"
            hint = f"write {name} = $({name}:default) to let the command line win, or use --append"
            self._findings.add(this.place, "warning", "override-replaced", message, hint)

    def _without_self(
        self, key: str, value: Value, parts: Sequence[str | macros.Reference], before: Value | None
    ) -> list[Value] | None:
        """`value`, made of `parts`, in pieces, its references to `key` replaced; None when it has none."""
        if not any(key in part.text.lower() for part in parts if not isinstance(part, str)):
            return None
        pieces: list[Value] = []
        size, own, start = 0, False, 0
        for part in parts:
            text = part if isinstance(part, str) else part.text
            piece = value.part(start, start + len(text))
            if not isinstance(part, str) and key in text.lower():
                new = self._own(key, part, piece, before)
                own = own or new is not None
                piece = piece if new is None else new
            size += len(piece.text) + _SEGMENT_COST * len(piece.segments)
            if own and size > _MAX_GROWTH:
                break
            pieces.append(piece)
            start += len(text)
        return pieces if own else None

    def _own(self, key: str, part: macros.Reference, piece: Value, before: Value | None) -> Value | None:
        """What replaces `part`, which may refer to `key`; None: it does not."""
        if part.kind == "macro" and part.name.lower() == key:
            if before is not None and before.text:
                return before
            return (
                Value("", piece.place)
                if part.default is None
                else piece.part(part.text.find(":") + 1, len(piece.text) - 1)
            )
        try:
            if part.kind == "function" and part.name.startswith("F") and part.body.lower() == key:
                return Value(self._expand(part.text), piece.place)
            replaced = macros.replace_self(part.text, key, before.text if before else "")
        except macros.ExpansionError:
            return None  # said where the value is used
        return None if replaced == part.text else Value(replaced, piece.place)

    def _warn_trailing_comment(self, name: str, value: Value) -> None:
        quotes = seen = 0
        for match in _TRAILING_COMMENT.finditer(value.text):
            quotes, seen = quotes + value.text.count('"', seen, match.start()), match.start()
            if quotes % 2 == 0:
                comment = short(value.text[match.start() + 1 :])
                message = f"{short(name)[1:-1]} includes {comment}: a comment needs its own line"
                hint = "move the comment to the line above"
                self._findings.add(value.at(match.start() + 1), "warning", "trailing-comment", message, hint)
                return
