"""Sizes and durations as people write them, and back. Pure: no I/O, no settings."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

BYTES_PER_MIB: Final = 1024 * 1024

_POWERS: Final = {"k": 1, "m": 2, "g": 3, "t": 4}
# Each pattern can match in one way only, so that long wrong text is refused at once; the runs of digits are bounded
# because Python refuses to convert thousands of them. Blanks around the text are stripped beforehand.
_BLANKS: Final = " \t\r\n"
_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(?: *([kmgt])(?:i?b)?)?", re.ASCII | re.IGNORECASE)
_DURATION: Final = re.compile("".join(rf"(?:([0-9]{{1,12}}) *{letter} *)?" for letter in "dhms"))
_SECONDS_PER: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def parse_size_bytes(text: str | int, *, plain_unit_bytes: int) -> int:
    """Bytes meant by ``512MiB``, ``1 G``, ``1.5GB`` or, in units of `plain_unit_bytes`, a plain number.

    K, M, G and T are powers of 1024 in either case, as in HTCondor's submit descriptions (`parse_int64_bytes` in
    HTCondor's source accepts ``G`` and ``GB``; we accept ``GiB`` too). A fraction of a byte is rounded up.
    Raises ValueError.
    """
    problem = f"wanted a size such as 512MiB or 1.5G, saw {text!r}"
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError(problem)  # noqa: TRY004  callers catch one exception for every wrong size
    if isinstance(text, int):
        if text < 0:
            raise ValueError(problem)
        return text * plain_unit_bytes
    match = _SIZE.fullmatch(text.strip(_BLANKS))
    if match is None:
        raise ValueError(problem)
    number, letter = match.groups()
    unit_bytes = 1024 ** _POWERS[letter.lower()] if letter else plain_unit_bytes
    return _ceil(Fraction(number) * unit_bytes)


def mib(size_bytes: int) -> int:
    """Whole MiB that hold `size_bytes`: rounded up. Raises ValueError for a negative size."""
    if size_bytes < 0:
        raise ValueError(f"wanted a size of 0 bytes or more, saw {size_bytes}")
    return _ceil(Fraction(size_bytes, BYTES_PER_MIB))


def format_mib(size_mib: int) -> str:
    """``512 MiB``, ``1.5 GiB``: always exact, so `parse_size_bytes` gives the same size back."""
    if size_mib < 0:
        raise ValueError(f"wanted a size of 0 MiB or more, saw {size_mib}")
    if size_mib < 1024 or size_mib % 512:  # 512 MiB is the smallest part of a GiB that one decimal can say
        return f"{size_mib} MiB"
    whole, rest = divmod(size_mib, 1024)
    return f"{whole}.5 GiB" if rest else f"{whole} GiB"


def parse_duration_s(text: str | int) -> int:
    """Seconds meant by ``90s``, ``10m``, ``2h``, ``1d``, ``1h30m`` or a plain number of seconds. Raises ValueError."""
    problem = f"wanted a duration such as 90s, 10m, 2h or 1d, saw {text!r}"
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError(problem)  # noqa: TRY004  callers catch one exception for every wrong duration
    if isinstance(text, int):
        if text < 0:
            raise ValueError(problem)
        return text
    if re.fullmatch("[0-9]{1,12}", text.strip(_BLANKS)):
        return int(text)
    match = _DURATION.fullmatch(text.strip(_BLANKS))
    if match is None or not any(match.groups()):
        raise ValueError(problem)
    return sum(int(n) * s for n, s in zip(match.groups("0"), _SECONDS_PER.values(), strict=True))


def format_duration_s(duration_s: int) -> str:
    """``90`` is ``1m30s``, ``86400`` is ``1d``, ``0`` is ``0s``: exact, and `parse_duration_s` reads it back."""
    if duration_s < 0:
        raise ValueError(f"wanted a duration of 0 s or more, saw {duration_s}")
    text, rest = "", duration_s
    for letter, seconds in _SECONDS_PER.items():
        count, rest = divmod(rest, seconds)
        text += f"{count}{letter}" if count else ""
    return text or "0s"


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
