"""The functions of the submit language: ``$INT(n,%03d)``, ``$Fnx(file)``, ``$CHOICE(i,a,b)`` … Pure.

Semantics are those of ``evaluate_macro_func`` in HTCondor 25.14 (``src/condor_utils/config.cpp``). What makes
condor_submit stop there is an ExpansionError ``bad-function`` here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from swarmhpc.jobs.macro_text import CLUSTER_MARK, DEFERRED_MARK, ExpansionError
from swarmhpc.jobs.printf import formatted
from swarmhpc.jobs.sources import Sources

DIRECTORY: Final = "$cwd"  # in Sources.facts: the current directory, for $Ff; no macro can have this name
INITIAL_DIRECTORY: Final = ("initialdir", "iwd", "initial_dir", "job_iwd")
RANDOM: Final = frozenset({"RANDOM_CHOICE", "RANDOM_INTEGER"})
_BLANK: Final = " \t\n\r\v\f"
_LONG: Final = re.compile(r"[ \t\n\r\v\f]*([+-]?[0-9]++)[ \t\n\r\v\f]*+")
_REAL: Final = re.compile(r"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?|[+-]?(?:inf(?:inity)?|nan)", re.I)
_HEXADECIMAL: Final = re.compile(r"[+-]?0x[0-9a-fA-F]{1,200}", re.I)
_INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1


@dataclass(frozen=True)
class Scope:
    """What a function may ask of the macros around it.

    `value(name)` is the macro's text, all expanded; None when it is undefined. `expand` does so for a text.
    """

    value: Callable[[str], str | None]
    expand: Callable[[str], str]
    sources: Sources

    def argument(self, text: str) -> str:
        """The value of the macro `text`, or `text` itself, expanded."""
        value = self.value(text)
        if value is None:
            return self.expand(text) if "$" in text else text
        return value

    def directory(self) -> str:
        """The job's initial directory; "" when it is not known."""
        named = next((found for name in INITIAL_DIRECTORY if (found := self.value(name))), "")
        here = self.sources.facts.get(DIRECTORY, "")
        return named if not here or named.startswith("/") else f"{here.rstrip('/')}/{named}" if named else here


def looked_up(function: str, body: str) -> tuple[str, ...]:
    """What a function takes for names of macros (some may be plain text: they are names only if they are defined)."""
    if function in ("INT", "REAL", "STRING"):
        return (body.partition(",")[0],)
    if function == "SUBSTR":
        return tuple(body.split(",", 2))
    if function == "BASENAME":
        return (_without_suffix(body)[0],)
    if function == "CHOICE":
        items = [item.strip(_BLANK) for item in body.split(",")]
        return tuple(items) if len(items) == 2 else (items[0],)
    if function == "RANDOM_CHOICE":
        entries = _entries(body, ",")
        return tuple(entries) if len(entries) == 1 else ()
    if function[0] == "F" and "f" in function[1:].lower():
        return body, *INITIAL_DIRECTORY
    return () if function in ("ENV", "RANDOM_INTEGER") else (body,)


def call(function: str, body: str, scope: Scope) -> str:
    """What ``$function(body)`` becomes. Raises ExpansionError: bad-function, env-not-allowed, needs-cluster …"""
    if function == "ENV":
        return _environment(body, scope.sources)
    if function == "RANDOM_CHOICE":
        return _random_choice(body, scope)
    if function == "RANDOM_INTEGER":
        return _random_integer(body, scope)
    if function == "CHOICE":
        return _choice(body, scope)
    if function == "SUBSTR":
        return _substring(body, scope)
    if function in ("INT", "REAL", "STRING"):
        return _formatted(function, body, scope)
    if function == "EVAL":
        return _evaluated(body, scope)
    return _file(function, body, scope)


def _bad(function: str, body: str, why: str) -> ExpansionError:
    shown = body if len(body) <= 60 else body[:57] + "…"
    return ExpansionError("bad-function", f"${function}({shown}): {why}")


def _environment(body: str, sources: Sources) -> str:
    name, colon, default = body.partition(":")
    if name not in sources.allowed_env:
        message = f"$ENV({name}): the environment variable {name!r} is not among those that a description may read"
        raise ExpansionError("env-not-allowed", message)
    value = sources.environment.get(name)
    return value if value is not None else default if colon else "UNDEFINED"


def _entries(text: str, separators: str) -> list[str]:
    return [entry.strip(_BLANK) for entry in re.split(f"[{separators}]", text) if entry.strip(_BLANK)]


def _random_choice(body: str, scope: Scope) -> str:
    entries = _entries(body, ",")
    if len(entries) == 1 and (value := scope.value(entries[0])) is not None:
        entries = _entries(value, ", \t\r\n")
    if not entries:
        raise _bad("RANDOM_CHOICE", body, "there is nothing to choose from")
    return entries[scope.sources.random(len(entries))]


def _random_integer(body: str, scope: Scope) -> str:
    numbers: list[int] = []
    for entry in _entries(body, ",")[:3]:
        match = re.match(r"[+-]?[0-9]+", entry)
        if match is None or len(match[0]) > 20:
            raise _bad("RANDOM_INTEGER", body, f"{entry!r} is no number (macros are not replaced in there)")
        numbers.append(int(match[0]))
    low, high, step = (*numbers, 1)[:3] if len(numbers) >= 2 else (1, 0, 1)
    if step < 1 or low > high:
        raise _bad("RANDOM_INTEGER", body, "wanted the smallest and the largest number, and a step of 1 or more")
    return str(low + scope.sources.random((step + high - low) // step) * step)


def _integer(text: str, scope: Scope) -> int | None:
    """``string_is_long_param``: a number, or an expression whose value is one."""
    if (match := _LONG.fullmatch(text)) is not None:
        digits = match[1]
        return max(-_LONG_MAX - 1, min(int(digits), _LONG_MAX)) if len(digits) < 40 else _LONG_MAX
    value = _value(text, scope)
    if isinstance(value, str) or value is None or value != value or abs(value) > _LONG_MAX:
        return None
    return int(value)


def _real(text: str, scope: Scope) -> float | None:
    if _REAL.fullmatch(text.strip(_BLANK)):
        return float(text)
    if _HEXADECIMAL.fullmatch(text.strip(_BLANK)):
        return float(int(text, 16))
    value = _value(text, scope)
    return None if isinstance(value, str) or value is None else float(value)


def _value(expression: str, scope: Scope) -> int | float | str | None:
    answer = scope.sources.evaluate(expression)
    return None if answer is None else answer[0]


def _deferred(function: str, body: str, first: str, rest: str) -> str:
    """The function as HTCondor's own text: its first argument is the cluster's number."""
    if first == CLUSTER_MARK and not re.search(r"[$()\x01\x03]", rest):
        return f"{DEFERRED_MARK}{function}(Cluster{rest})"
    why = "the cluster's number is known to HTCondor only; $(Cluster) alone can be the first argument"
    raise ExpansionError("needs-cluster", f"${function}({body[:60]}): {why}")


def _waits(text: str) -> bool:
    return CLUSTER_MARK in text or DEFERRED_MARK in text


def _choice(body: str, scope: Scope) -> str:
    index_text, comma, rest = body.partition(",")
    index_text = scope.argument(index_text.strip(_BLANK))
    if not comma:
        raise _bad("CHOICE", body, "there is no list to choose from")
    items = rest
    if "," not in rest:
        named = scope.value(rest.strip(_BLANK))
        if named is None:
            raise _bad("CHOICE", body, f"there is no macro {rest.strip(_BLANK)[:60]!r} with a list")
        items = named
    if _waits(index_text):
        return _deferred("CHOICE", body, index_text, "," + items if "," in items else "$")
    index = _integer(index_text, scope)
    if index is None or not 0 <= index < _INT_MAX:
        raise _bad("CHOICE", body, f"{index_text[:60]!r} is no index; wanted a number from 0")
    chosen = items.split(",")
    if index >= len(chosen):
        raise _bad("CHOICE", body, f"there is no item {index}; the last of the {len(chosen)} is {len(chosen) - 1}")
    return chosen[index].strip(_BLANK)


def _substring(body: str, scope: Scope) -> str:
    name, comma, rest = body.partition(",")
    if not comma:
        raise _bad("SUBSTR", body, "wanted a macro's name, and where to start")
    bounds = []
    for what, argument in zip(("start", "length"), rest.split(",", 1), strict=False):
        number = _integer(text := scope.argument(argument), scope)
        if number is None or not -_INT_MAX - 1 <= number <= _INT_MAX:
            raise _bad("SUBSTR", body, f"{text[:60]!r} is no number for the {what}")
        bounds.append(number)
    value = scope.value(name) or ""
    if _waits(value):
        return _deferred("SUBSTR", body, value, "," + ",".join(map(str, bounds)))
    start = bounds[0] if bounds[0] >= 0 else max(0, len(value) + bounds[0])
    value = value[start:]
    length = bounds[1] if len(bounds) > 1 else len(value)
    return value[: length if length >= 0 else max(0, len(value) + length)]


def _formatted(function: str, body: str, scope: Scope) -> str:
    name, comma, form = body.partition(",")
    text = scope.argument(name)
    if _waits(text) and function != "STRING":
        return _deferred(function, body, text, comma + form)
    value: int | float | str | None = text
    if function == "INT":
        value = _integer(text, scope)
    elif function == "REAL":
        value = _real(text, scope)
    elif not _waits(text):
        known = _value(text, scope) if '"' in text or "(" in text else None
        value = known if isinstance(known, str) else text
    elif comma or '"' in text:
        return _deferred(function, body, text, comma + form)
    if value is None:
        wanted = "integer" if function == "INT" else "real number"
        raise _bad(function, body, f"{text[:60]!r} is no {wanted}, or {name[:60]!r} no macro (no blanks around it)")
    if not comma:
        return f"{value:.16G}" if isinstance(value, float) else str(value)
    done = formatted(form, value)
    if done is None:
        raise _bad(function, body, f"{form[:60]!r} is no format for this")
    return done + ".0" if function == "REAL" and "." not in done else done


def _evaluated(body: str, scope: Scope) -> str:
    text = scope.argument(body)
    if _waits(text):
        return text if text == CLUSTER_MARK else _deferred("EVAL", body, text, "")
    answer = scope.sources.evaluate(text)
    if answer is not None:
        return answer[1]
    raise _bad("EVAL", body, f"{text[:60]!r} is no expression")


def _without_suffix(body: str) -> tuple[str, str]:
    name, comma, suffix = body.rpartition(",")
    return (name, suffix.lstrip(_BLANK)) if comma else (body, "")


def _file(function: str, body: str, scope: Scope) -> str:
    suffix = ""
    if function == "BASENAME":
        body, suffix = _without_suffix(body)
    value = scope.argument(body)
    if DEFERRED_MARK in value:
        raise ExpansionError("needs-cluster", f"${function}({body[:60]}): it is known to HTCondor only")
    letters = {"BASENAME": "nx", "DIRNAME": "p"}.get(function, function[1:].lower())
    return file_parts(value, letters, scope.directory() if "f" in letters else "", suffix)


def file_parts(path: str, letters: str, directory: str = "", suffix: str = "") -> str:
    """What ``$F`` with `letters` (lower case) makes of a path.

    p: directory; d: its last name (dd: two); n: name without extension; x: extension with its dot; b: without the last
    ``/`` or that dot; q: in double quotes; a with q: in single ones; f: absolute, from `directory`; u, w: all slashes
    ``/`` or ``\\``. `suffix` ends the name instead of the extension. More d than there are directories give them all
    (HTCondor 25.14 reads beside its buffer then).
    """
    quote = "" if "q" not in letters else "'" if "a" in letters else '"'
    if len(path) > 1 and path[0] == path[-1] and path[0] in "\"'":
        path = path[1:-1]
    slash = next(({"w": "\\", "u": "/"}[c] for c in reversed(letters) if c in "wu"), "")
    if "f" in letters and directory and not path.startswith("/"):
        if len(path) > 2 and path[0] == "." and path[1] in "/" + slash:
            path = path[2:]
        path = directory.removesuffix(slash or "/").removesuffix("/") + (slash or "/") + _bare(path, quote)
    if slash:
        path = path.replace("\\" if slash == "/" else "/", slash)
    text = quote + _bare(path, quote) + quote
    start, end = _span(text, letters, suffix)
    if not quote:
        return text[start:end]
    # HTCondor puts the quotes back that it cut off, in place; so a bare name's $Fqp and $Fqx are one quote only.
    room = [*text, "", ""]
    if room[start] != quote:
        start -= 1
        room[start] = quote
    if end > 1 and room[end - 1] == quote:
        end -= 1
    room[end] = quote
    return "".join(room[start : end + 1])


def _bare(path: str, quote: str) -> str:
    first = path[:1]
    if first and first in ('"', quote):
        return path[1:].removesuffix(first)
    return path


def _span(text: str, letters: str, suffix: str) -> tuple[int, int]:
    """From where to where `text` is kept."""
    end, name = len(text), text.rfind("/") + 1
    dot = text.rfind(".", name + 1)
    extension = end if dot < 0 else dot
    wanted = {letter for letter in letters if letter in "xnpd"}
    bare = "b" in letters
    if suffix and end - len(suffix) >= name and text.lower().endswith(suffix.lower()):
        extension = end - len(suffix)
        wanted.discard("x")
    if not name and wanted & {"x", "n"}:
        wanted -= {"p", "d"}
    directory_end = name - 1 if bare and name else name
    if wanted == {"x"}:
        return extension + (bare and extension < end), end
    if wanted <= {"x", "n"} and wanted:
        return name, end if "x" in wanted else extension
    if "d" not in wanted:
        return 0, directory_end if wanted == {"p"} else extension if wanted == {"p", "n"} else end
    if not name:
        return 1, 1
    starts = [m.end() for m in re.finditer(r"[/\\]", text)]
    if text.startswith("\\\\"):
        starts = [2, *(s for s in starts if s > 2)]
    kept = starts[: len(starts) - letters.count("d")] if letters.count("d") < len(starts) else []
    stop = end if "x" in wanted else extension if "n" in wanted else directory_end
    return (kept[-1] if kept else 0), stop
