"""The ``if``, ``elif``, ``else`` and ``endif`` of submit descriptions. Pure.

What a condition may say follows ``Evaluate_config_if`` and ``ConfigIfStack`` in HTCondor 25.14
(``src/condor_utils/config.cpp``): true, false, a number, ``defined NAME``, ``version >= 8.9.1``, each with ``!`` before
it, and after macros were replaced. Comparisons are no conditions there; ``$EVAL(name)`` helps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from swarmhpc.jobs.findings import Place, short
from swarmhpc.jobs.lines import BLANK

HTCONDOR_VERSION: Final = (25, 14, 1)  # what ``version`` compares with
MAX_DEPTH: Final = 63  # one bit each of an unsigned long long
_TRUE: Final = frozenset({"true", "yes", "t"})
_FALSE: Final = frozenset({"false", "no", "f"})
# atof reads the beginning of these; HTCondor lets no other characters through.
_NUMBER: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_KEYWORD: Final = re.compile(r"(version|defined)(?![A-Za-z0-9])", re.IGNORECASE)
_COMPARISON: Final = re.compile(r"(!?)([<=>]=?)[ \t]*[vV]?([0-9]+)\.([0-9]+)(?:\.([0-9]+))?")
_NAME: Final = re.compile(r"(?=[^A-Za-z]*+[A-Za-z])[A-Za-z0-9_./]++")
_LONGEST: Final = 10_000  # characters of a condition


class ConditionError(Exception):
    """A condition that HTCondor would not accept. `message` says why, `hint` what to write."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def evaluate(text: str, *, expand: Callable[[str], str], is_set: Callable[[str], bool]) -> bool:
    """The truth of what stands after ``if``. `is_set` says whether a macro has a value that is not empty.

    Raises ConditionError, and whatever `expand` raises.
    """
    expanded = expand(text) if "$" in text else text
    condition = expanded.strip(BLANK + "\n")
    inverted = condition.startswith("!")
    if inverted:
        condition = condition[1:].lstrip(BLANK + "\n")
    if not condition and "$" in text:
        return inverted  # a macro that expands to nothing is false
    return _truth(condition, is_set) is not inverted


def _truth(condition: str, is_set: Callable[[str], bool]) -> bool:
    lower = condition.lower() if len(condition) < _LONGEST else ""
    if lower in _TRUE or lower in _FALSE:
        return lower in _TRUE
    if lower and _NUMBER.fullmatch(lower):
        return float(lower) != 0
    if keyword := _KEYWORD.match(lower):
        argument = condition[keyword.end() :].strip(BLANK)
        if keyword[1] == "defined":
            return _defined(argument, is_set)
        if condition[keyword.end() : keyword.end() + 1] in (" ", "\t") and argument:
            return _version(argument)
    if not condition:
        raise ConditionError("there is no condition", "write if true, if defined NAME, if $(NAME), if version >= 9.0")
    if _NAME.fullmatch(lower):
        hint = f"write if defined {condition}, or if $({condition})"
        raise ConditionError(f"{short(condition)} is neither true nor false", hint)
    message = f"{short(condition)} is no condition that HTCondor reads: it compares nothing but version"
    raise ConditionError(message, "name the comparison, as in: big = $(n) > 2, and write: if $EVAL(big)")


def _defined(name: str, is_set: Callable[[str], bool]) -> bool:
    lower = name.lower()
    if not name:
        return False
    if _NUMBER.fullmatch(name) or lower in ("true", "false"):
        return True
    if _NAME.fullmatch(name):
        return is_set(name) or lower in _TRUE | _FALSE
    message = f"defined wants the name of a macro, not {short(name)}"
    raise ConditionError(message, "write: if defined NAME")


def _version(comparison: str) -> bool:
    match = _COMPARISON.fullmatch(comparison)
    if match is None or len(match[3]) > 9 or int(match[3]) < 6:  # HTCondor's oldest is 6.0
        message = f"version can't be compared with {short(comparison)}"
        raise ConditionError(message, "write a comparison with two or three numbers: if version >= 8.9.1")
    negated, operator = match[1] == "!", match[2]
    wanted = (int(match[3]), int(match[4][:9]), HTCONDOR_VERSION[2] if match[5] is None else int(match[5][:9]))
    order = (wanted < HTCONDOR_VERSION) - (wanted > HTCONDOR_VERSION)
    holds = (order == 0 and "=" in operator) or (order < 0 and "<" in operator) or (order > 0 and ">" in operator)
    return holds is not negated


@dataclass
class _Frame:
    place: Place
    path: tuple[int, ...]
    outer: bool  # whether the lines around this if are read
    active: bool
    taken: bool  # a branch of this if was read
    seen_else: bool = False
    crossed: bool = False  # a queue statement stood inside


class IfStack:
    """Which lines are read: the ``if`` that are open, the innermost last."""

    def __init__(self, numbers: Iterator[int], base: tuple[int, ...] = ()) -> None:
        """`numbers` name branches: shared by all files of a description. `base` is the path around this file."""
        self._numbers = numbers
        self._base = base
        self._frames: list[_Frame] = []
        self._beyond = 0  # how many more are open than HTCondor allows

    @property
    def is_open(self) -> bool:
        """True inside of an ``if``."""
        return bool(self._frames)

    @property
    def enabled(self) -> bool:
        """True when the line after this one is read."""
        return not self._beyond and (not self._frames or (self._frames[-1].outer and self._frames[-1].active))

    @property
    def path(self) -> tuple[int, ...]:
        """Numbers of the branches around the next line; two lines of different branches are never both read."""
        return self._frames[-1].path if self._frames else self._base

    @property
    def wants_condition(self) -> bool:
        """True when the condition of an ``elif`` matters here."""
        return bool(self._frames) and not self._beyond and self._frames[-1].outer and not self._frames[-1].taken

    def begin(self, place: Place, value: bool) -> bool:
        """Enter an ``if``. False when that is one too many."""
        if len(self._frames) >= MAX_DEPTH:
            self._beyond += 1
            return False
        enabled = self.enabled
        self._frames.append(_Frame(place, self._branch(self.path), enabled, value, value))
        return True

    def turn(self, value: bool, *, last: bool) -> str:
        """Go on to an ``elif`` (`value`: its condition) or an ``else`` (`last`). Gives what is wrong, or nothing."""
        if self._beyond:
            return ""
        if not self._frames:
            return "stands outside of any if"
        frame = self._frames[-1]
        if frame.seen_else:
            return "follows the else of the same if"
        frame.active = not frame.taken and (value or last)
        frame.taken = frame.taken or frame.active
        frame.seen_else = last
        frame.path = self._branch(frame.path[:-1])
        return ""

    def end(self) -> str:
        """Leave the innermost ``if``. Gives what is wrong, or nothing."""
        if self._beyond:
            self._beyond -= 1
            return ""
        if not self._frames:
            return "stands outside of any if"
        self._frames.pop()
        return ""

    def cross(self) -> bool:
        """Note a queue statement. True when it stands inside an ``if``."""
        for frame in self._frames:
            frame.crossed = True
        return bool(self._frames)

    def unclosed(self) -> list[Place]:
        """Where the ``if`` begin that are still open, for which HTCondor would refuse the file."""
        return [frame.place for frame in self._frames if not frame.crossed]

    def _branch(self, outer: tuple[int, ...]) -> tuple[int, ...]:
        return (*outer, next(self._numbers))
