"""Evaluates small ClassAd expressions, as the submit language uses them. Imports the bindings only when asked."""

from __future__ import annotations

import re
from typing import Any, Final

MAX_LENGTH: Final = 2_000  # characters of an expression
MAX_RECORD: Final = 200  # when it holds a record: one that doubles itself again and again fills any memory

# HTCondor reads what stands in submit descriptions in the old syntax, where a backslash stands for itself; the
# bindings read the new one, where it escapes (src/classad/lexer.cpp, tokenizeStringOld).
_LONE_BACKSLASH: Final = re.compile(r'\\(?!")')

Evaluated = tuple[int | float | bool | str | None, str]


def evaluate(text: str) -> Evaluated | None:
    """The value of a ClassAd expression without attributes, and that value as ``$EVAL`` of HTCondor writes it.

    None when `text` is no expression, or is longer than `MAX_LENGTH`. The value is None for what is neither number,
    truth value nor string: undefined, error, lists and records have a text only. Reals in a list are written shorter
    than by HTCondor 25.14 (``1.0``, there ``1.000000000000000E+00``). Nothing is executed: ClassAd functions only
    compute.
    """
    if not text.strip() or len(text) > (MAX_RECORD if "[" in text else MAX_LENGTH) or "\0" in text:
        return None
    import classad2

    try:
        value: Any = classad2.ExprTree(_LONE_BACKSLASH.sub(r"\\\\", text)).eval()
        if isinstance(value, classad2.Value):  # undefined or error; the bindings make them integers
            return None, value.name.lower()
        if isinstance(value, bool):
            return value, "true" if value else "false"
        if isinstance(value, int | str):
            return value, str(value)
        if isinstance(value, float):
            return value, f"{value:.15E}"
        ad = classad2.ClassAd()
        ad["x"] = value
        return None, str(ad.printOld()).removeprefix("x = ").rstrip("\n")
    except (classad2.ClassAdException, UnicodeError, ValueError, OverflowError, RuntimeError, TypeError):
        return None
