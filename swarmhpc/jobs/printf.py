"""One value in a ``printf`` format, as the functions $INT, $REAL and $STRING write it. Pure."""

from __future__ import annotations

import re
from typing import Final

_SPEC: Final = re.compile(r"%([#0 +'-]*+)([0-9]*+)(?:\.([0-9]*+))?([hlLqjzt]*+)(.)", re.DOTALL)
_NUMBER_LIMIT: Final = 55  # characters; HTCondor's buffer for a number
_STRING_LIMIT: Final = 10_000


def formatted(form: str, value: int | float | str) -> str | None:
    """`value` written by a C format with exactly one conversion; None when the format does not fit it.

    Follows ``validatePrintfFormat`` of HTCondor 25.14. ``%a`` and, for other than integers, ``%p`` are refused, and so
    is a width above 10,000. Numbers are cut after 55 characters, as there.
    """
    out: list[str] = []
    position, done = 0, False
    while (at := form.find("%", position)) >= 0:
        out.append(form[position:at])
        spec = _SPEC.match(form, at)
        if spec is None:
            return None
        if spec[5] == "%":
            out.append("%")
        elif done:
            return None
        else:
            piece = _conversion(spec, value)
            if piece is None:
                return None
            out.append(piece)
            done = True
        position = spec.end()
    out.append(form[position:])
    text = "".join(out)
    return (text if isinstance(value, str) else text[:_NUMBER_LIMIT]) if done else None


def _conversion(spec: re.Match[str], value: int | float | str) -> str | None:
    flags, width, precision, length, letter = spec.groups()
    if len(width) > 5 or len(precision or "") > 5 or max(int(width or 0), int(precision or 0)) > _STRING_LIMIT:
        return None
    flags = flags.replace("'", "")  # no thousands in the C locale
    rest = flags + width + ("" if precision is None else "." + (precision or "0"))
    if isinstance(value, str):
        if letter != "s":
            return None
        return str(f"%{rest.replace('0', '', 1) if '0' in flags else rest}s" % value)
    if isinstance(value, float):
        return str(f"%{rest}{letter}" % value) if letter in "eEfFgG" else None
    if letter in ("c", "C"):
        return str(f"%{flags}{width}s" % chr(value % 256))
    if letter == "p":
        return str(f"%{flags}{width}s" % f"{value % 2**64:#x}")
    if letter not in "dioxXu":
        return None
    bits = 8 if length == "hh" else 16 if length == "h" else 64 if length else 32
    number = value % 2**bits
    if letter in "di":
        number -= 2**bits if number >= 2 ** (bits - 1) else 0
        return str(f"%{rest}d" % number)
    if letter == "u":
        return str(f"%{rest.replace('+', '').replace(' ', '')}d" % number)
    text = str(f"%{rest.replace('#', '').replace('+', '').replace(' ', '')}{letter}" % number)
    if "#" not in flags or not number:
        return text
    # Python writes 0o17 where C writes 017; both write 0x.
    return (
        str(f"%{rest.replace('+', '').replace(' ', '')}{letter}" % number) if letter in "xX" else _octal(rest, number)
    )


def _octal(rest: str, number: int) -> str:
    digits = "0" + f"{number:o}"
    width = re.sub(r"[# +]", "", rest).partition(".")[0]
    return str(f"%{width.lstrip('0')}s" % digits) if not width.startswith("0") else digits.zfill(int(width or 0))
