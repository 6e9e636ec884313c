"""What is wrong with the quotes of a value: arguments, environments and expressions. Pure; one pass over each text.

Rules: ``ArgList`` and ``split_args`` (``src/condor_utils/condor_arglist.cpp``), ``Env`` (``src/condor_utils/env.cpp``),
HTCondor 25.14.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from swarmhpc.jobs.findings import short

_NEW_SYNTAX: Final = re.compile(r'\s*+"((?:[^"]++|"")*+)("?)\s*+', re.DOTALL)
_SINGLE_QUOTED: Final = re.compile(r"[^']++|'(?:[^']++|'')*+'", re.DOTALL)
_WORD: Final = re.compile(r"(?:[^'\s]++|'(?:[^']++|'')*+')++")
_BARE_QUOTE: Final = re.compile(r'(?<!\\)"')
_TWO_VARIABLES: Final = re.compile(r"\s*+[A-Za-z_]\w*+=[^\s;|]*+\s++[A-Za-z_]\w*+=[^;|]*+")
_EXPRESSION: Final = re.compile(r"\"(?:[^\"\\]++|\\.)*+\"|'(?:[^'\\]++|\\.)*+'|[\"'()\[\]{}]", re.DOTALL)
_CLOSES: Final = {")": "(", "]": "[", "}": "{"}


class Fault(NamedTuple):
    """Something wrong at `offset` of a text. `serious`: HTCondor refuses it too."""

    offset: int
    message: str
    hint: str
    serious: bool = True


def arguments_fault(text: str) -> Fault | None:
    """Why HTCondor would refuse these arguments, in the old syntax or, beginning with ``"``, the new one."""
    if '"' not in text:
        return None  # the old syntax has no other special characters
    if not text.lstrip().startswith('"'):
        bare = _BARE_QUOTE.search(text)
        if bare is None:
            return None
        return Fault(
            bare.start(),
            'a " inside arguments in the old syntax; HTCondor refuses the file',
            'put the whole value in " and double each " in it, or write \\"',
        )
    return _new_syntax_fault(text, "arguments")


def environment_fault(text: str) -> Fault | None:
    """Why HTCondor would refuse this environment, or read it as something else than was meant."""
    if text.lstrip().startswith('"'):
        fault = _new_syntax_fault(text, "environment")
        if fault is not None:
            return fault
        opening = text.index('"') + 1
        for word in _WORD.finditer(text.strip()[1:-1]):
            if (name := word[0].partition("="))[1] == "" and "$$" in word[0]:
                continue  # known at match time
            if not name[1] or not name[0]:
                return Fault(opening + word.start(), f"{short(word[0])} in the environment is no NAME=VALUE",
                             "blanks go inside single quotes: \"A=1 B='two words'\"")  # fmt: skip
        return None
    offset = 0
    for entry in text.split("|" if text[:1] == "|" else ";"):
        start, equals, _ = entry.strip().partition("=")
        if entry.strip() and (not equals or not start) and "$$" not in entry:
            return Fault(offset, f"{short(entry.strip())} in the environment is no NAME=VALUE", "write A=1;B=2")
        offset += len(entry) + 1
    if _TWO_VARIABLES.fullmatch(text):
        seen = text.strip().partition("=")
        message = f"this sets the one variable {short(seen[0])[1:-1]} to {short(seen[2])}"
        return Fault(0, message, 'several variables: put the whole value in "', serious=False)
    return None


def _new_syntax_fault(text: str, what: str) -> Fault | None:
    match = _NEW_SYNTAX.match(text)
    start = text.index('"')
    if match is None or not match[2]:
        message = f'the " that opens the {what} is never closed; HTCondor refuses the file'
        return Fault(start, message, 'end the value with ", and double each " inside')
    if match.end() != len(text):
        message = f'{short(text[match.end() :])} follows the " that closes the {what}; HTCondor refuses the file'
        return Fault(match.end(2) - 1, message, 'double each " inside: ""')
    inside, position = match[1], 0
    while position < len(inside):
        part = _SINGLE_QUOTED.match(inside, position)
        if part is None:
            message = f"a ' in the {what} is never closed; HTCondor refuses the file"
            return Fault(start + 1 + position, message, "double a ' that is meant as one, inside of single quotes")
        position = part.end()
    return None


def expression_fault(text: str) -> Fault | None:
    """The first quote or bracket of a ClassAd expression that has no partner."""
    stack: list[tuple[str, int]] = []
    for match in _EXPRESSION.finditer(text):
        found = match[0]
        if len(found) > 1:
            continue
        if found in "\"'":
            return Fault(match.start(), f"a {found} that is never closed", f"close it with {found}")
        if found in _CLOSES:
            if not stack or stack[-1][0] != _CLOSES[found]:
                return Fault(match.start(), f"a {found} without its {_CLOSES[found]}", "remove it, or add its partner")
            stack.pop()
        else:
            stack.append((found, match.start()))
    if stack:
        found, offset = stack[-1]
        return Fault(offset, f"a {found} that is never closed", "add its partner")
    return None
