"""Retries and limits of time: options of `submit` and `run` in, lines of a submit description out. Pure.

HTCondor does all of it (25.14, src/condor_utils/submit_utils.cpp, SetJobRetries and SetBuiltInOnEvictCheck;
user_job_policy.cpp): nothing here watches a job. docs/jobs.md, "Retries and limits", says what the options mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Final

from swarmhpc.errors import UsageError
from swarmhpc.units import BYTES_PER_MIB, mib, parse_duration_s, parse_size_bytes

DEFAULT_RETRIES: Final = 3
"""Where an option says on what to try again, and none how often."""
MAX_RETRIES: Final = 1000
WORDS: Final = ("evicted", "memory", "signal", "timeout")
_CODES: Final = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")
_TIMES: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)x")
_SHORTEST_LEASE_S: Final = 20  # below, HTCondor takes 20: condor_submit's manual page, job_lease_duration
_UNSAID_LEASE_S: Final = 2400  # HTCondor's default, which the access point takes for "nothing was said"
_TIMED_OUT: Final = 47  # condor_holdcodes.h, JobExecuteExceeded
_LOST: Final = "NumJobStarts - (NumJobCompletions ?: 0)"  # attempts that the job did not end by itself


def lines(
    *,
    retries: int = 0,
    retry_on: Sequence[str] = (),
    retry_memory: str = "",
    retry_memory_max: str = "",
    timeout: str = "",
    lease: str = "",
    largest_memory_mib: int = 0,
) -> tuple[str, ...]:
    """The lines to append to a description, none where no option is given. Raises UsageError.

    `retries`: attempts after the first; 0: not said. `retry_on`: exit codes ("75", "3-5") and WORDS, also several in
    one text with commas; none: any failure of the job itself. `retry_memory`: "2x" or "+1GiB"; `retry_memory_max`,
    and `largest_memory_mib`, the most that any executor has (0: not known), bound it. `timeout`, `lease`: durations.
    """
    if not 0 <= retries <= MAX_RETRIES:
        raise UsageError(f"retries {retries}: wanted a number from 0 to {MAX_RETRIES}", hint="--retries 3")
    codes, words = _reasons(retry_on)
    asked = bool(retries or retry_on)
    if retry_memory_max and not retry_memory and "memory" not in words:
        raise UsageError(
            f"retry-memory-max {retry_memory_max}: nothing says how memory grows", hint="--retry-memory 2x"
        )
    if "timeout" in words and not timeout:
        raise UsageError("retry-on timeout: there is no timeout", hint="--timeout 2h")
    count = retries or DEFAULT_RETRIES
    found: list[str] = []
    if codes or "signal" in words:
        found += [f"max_retries = {count}", f"retry_until = {_until(codes, signals='signal' in words)}"]
    elif asked and not words:
        found.append(f"max_retries = {count}")
    if retry_memory or "memory" in words:
        top = [_mib("retry-memory-max", retry_memory_max)] if retry_memory_max else []
        top += [largest_memory_mib] if largest_memory_mib else []
        found.append(f"retry_request_memory = {_memory(retry_memory or '2x', count, min(top, default=0))}")
    if "evicted" in words:
        # $(…) is what the description itself has. Such rules are looked at every 10 s: one that has found another slot
        # before is held there, and the attempt that it is in does not count.
        lost = f"{_LOST} - (JobStatus == 2 ? 1 : 0) > {count}"
        found.append(f"periodic_hold = ($(periodic_hold:false)) || ((JobStatus == 1 || JobStatus == 2) && {lost})")
    if timeout:
        found.append(f"allowed_execute_duration = {_seconds('timeout', timeout, 1)}")
    if "timeout" in words:
        release = f"HoldReasonCode =?= {_TIMED_OUT} && {_LOST} <= {count}"
        found.append(f"periodic_release = ($(periodic_release:false)) || ({release})")
    if lease:
        lease_s = _seconds("lease", lease, _SHORTEST_LEASE_S)
        found.append(f"job_lease_duration = {lease_s + (lease_s == _UNSAID_LEASE_S)}")
    return tuple(found)


def _reasons(retry_on: Sequence[str]) -> tuple[list[tuple[int, int]], set[str]]:
    """Exit codes as ranges, and words."""
    codes: list[tuple[int, int]] = []
    words: set[str] = set()
    for token in _tokens(retry_on):
        if token.lower() in WORDS:
            words.add(token.lower())
            continue
        match = _CODES.fullmatch(token)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high <= 255:
            raise UsageError(
                f"retry-on {token[:40]!r}: wanted exit codes from 1 to 255, or {', '.join(WORDS)}",
                hint="--retry-on 75 --retry-on 3-5 --retry-on memory",
            )
        codes.append((low, high))
    return codes, words


def _tokens(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        yield from (t.strip() for t in text.split(","))


def _until(codes: Sequence[tuple[int, int]], *, signals: bool) -> str:
    """When no more attempt is made, beside success: a ClassAd expression that is never undefined."""
    terms = [f"ExitCode =?= {a}" if a == b else f"(ExitCode >= {a} && ExitCode <= {b})" for a, b in codes]
    other = f"!({' || '.join(terms)})" if terms else "true"
    return f"ExitBySignal =?= false && {other}" if signals else f"ExitBySignal =!= false || {other}"


def _memory(text: str, count: int, most_mib: int) -> str:
    """What RequestMemory becomes after running out of it. Unchanged (too often, or at its most), the job is held."""
    if match := _TIMES.fullmatch(text.strip()):
        factor = Fraction(match[1])
        grown = f"int(ceiling(RequestMemory * {match[1]}))"
        wrong = factor <= 1
    else:
        wrong = not text.strip().startswith("+")
        extra_mib = 0 if wrong else _mib("retry-memory", text.strip()[1:])
        grown, wrong = f"RequestMemory + {extra_mib}", wrong or not extra_mib
    if wrong:
        raise UsageError(f"retry-memory {text!r}: wanted a factor above 1 or a size more", hint="2x, 1.5x or +1GiB")
    if most_mib:
        # Never less than before, where the job asks for more than the most already.
        grown = f"max({{RequestMemory, min({{{grown}, {most_mib}}})}})"
    return f"({_LOST} <= {count}) ? {grown} : RequestMemory"


def _mib(option: str, text: str) -> int:
    try:
        return mib(parse_size_bytes(text, plain_unit_bytes=BYTES_PER_MIB))
    except ValueError as e:
        raise UsageError(f"{option} {text!r}: {e}", hint="512MiB, 1.5GiB") from e


def _seconds(option: str, text: str, least: int) -> int:
    try:
        found = parse_duration_s(text)
    except ValueError as e:
        raise UsageError(f"{option} {text!r}: {e}", hint="90s, 10m, 2h, 1h30m") from e
    if found < least:
        raise UsageError(f"{option} {text!r}: wanted {least} s or more", hint="90s, 10m, 2h, 1h30m")
    return found
