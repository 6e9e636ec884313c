"""Where the operands of the outermost `&&` of a ClassAd expression stand. Pure, one pass over the text.

It knows strings, comments, parentheses and what binds less than `&&`, nothing else of the language: whether the text is
an expression at all is for HTCondor's own parser to say. Strings are those of submit descriptions, where a backslash
stands for itself except before a quote (25.14, src/classad/lexer.cpp, tokenizeStringOld).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

LONGEST: Final = 32_768
"""Characters of the longest expression that is looked at (as adapters.expressions.LONGEST)."""


@dataclass(frozen=True)
class Term:
    """One operand of the outermost `&&` in the person's own words; `offset`: where it begins in the expression."""

    text: str
    offset: int


_TOKEN: Final = re.compile(
    r"""(?P<blank>\s+|/\*.*?\*/|//[^\n]*)
    |(?P<text>"[^"]*+(?:(?<=\\)"[^"]*+)*+(?<!\\)"|'[^']*+(?:(?<=\\)'[^']*+)*+(?<!\\)')
    |(?P<unclosed>["']|/\*)
    |(?P<open>[(\[{])|(?P<close>[)\]}])
    |(?P<and>&&)
    |(?P<word>=\?=|\?\s*:)  # not the operator below
    |(?P<looser>\|\||\?)  # binds less than &&
    |(?P<other>[^\s"'()\[\]{}?&|=/]++|.)""",
    re.VERBOSE | re.DOTALL,
)
_CLOSES: Final = {")": "(", "]": "[", "}": "{"}


@dataclass
class Group:
    """What stands between two parentheses, or the whole: operands of `&&`, unless something binds less than that."""

    opener: str
    start: int
    offset: int = 0  # of the parenthesis itself
    end: int = 0
    whole: bool = False
    operands: list[_Operand] = field(default_factory=list)


@dataclass
class _Operand:
    start: int
    end: int = 0
    tokens: int = 0
    group: Group | None = None  # set when it is nothing but this


class UnbalancedError(Exception):
    """Quotes, comments or parentheses don't end, at `offset`."""

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.offset = offset


def structure(expression: str) -> tuple[str, Group]:
    """The expression with blanks for its comments, and its structure. Raises UnbalancedError."""
    clean: list[str] = []
    top = Group("", 0, operands=[_Operand(0)])
    stack = [top]
    for token in _TOKEN.finditer(expression):
        kind, at = token.lastgroup, token.start()
        group, operand = stack[-1], stack[-1].operands[-1]
        clean.append(" " * (token.end() - at) if kind == "blank" else token[0])
        if kind == "unclosed":
            what = {"/*": "a comment", "'": "a name in single quotes", '"': "a text in quotes"}[token[0]]
            raise UnbalancedError(f"{what} begins here and does not end", at)
        if kind == "blank":
            if token[0].startswith("//") and token.end() == len(expression):
                raise UnbalancedError("// makes a comment of the rest, and of what HTCondor adds to requirements", at)
            continue
        if kind == "open":
            stack.append(Group(token[0], token.end(), at, operands=[_Operand(token.end())]))
        elif kind == "close":
            if group.opener != _CLOSES[token[0]]:
                raise UnbalancedError(f"nothing that is open ends with this {token[0]}", at)
            operand.end = group.end = at
            stack.pop()
            outer = stack[-1].operands[-1]
            outer.tokens += 1
            outer.group = group if group.opener == "(" else None
        elif kind == "and":
            operand.end = at
            group.operands.append(_Operand(token.end()))
        else:
            operand.tokens += 1
            group.whole |= kind == "looser"
    if len(stack) > 1:
        raise UnbalancedError(f"this {stack[-1].opener} is not closed", stack[-1].offset)
    top.end = top.operands[-1].end = len(expression)
    return "".join(clean), top


def pieces(clean: str, top: Group) -> tuple[Term, ...]:
    """The terms of what `structure` has read; an empty text where one side of `&&` is missing."""
    found: list[Term] = []

    def add(start: int, end: int) -> None:
        text = clean[start:end]
        found.append(Term(text.strip(), start + len(text) - len(text.lstrip())))

    waiting: list[Group | _Operand] = [top]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Group):
            if part.whole:
                add(part.start, part.end)
            else:
                waiting.extend(reversed(part.operands))
        elif part.group is not None and part.tokens == 1 and not part.group.whole:
            waiting.append(part.group)
        else:
            add(part.start, part.end)
    return tuple(found)


def terms(expression: str) -> tuple[Term, ...]:
    """The operands of the outermost `&&`, through parentheses around several of them. Joined with `&&` they mean what
    the whole means. Text that is no expression is one term; blanks are none."""
    try:
        found = pieces(*structure(expression)) if len(expression) <= LONGEST else ()
    except UnbalancedError:
        found = ()
    text = expression.strip()
    return found if all(t.text for t in found) and found else (Term(text, expression.index(text)),) if text else ()


def adapted(expression: str, drop: Collection[Term]) -> str:
    """The expression without these of its terms; "" when none is left, itself when none is dropped."""
    if not drop:
        return expression
    return " && ".join(t.text for t in terms(expression) if t not in drop)
