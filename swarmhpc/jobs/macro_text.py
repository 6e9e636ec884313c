"""The text of macros: where they begin and end, and how HTCondor's last look at a value is foreseen. Pure.

What counts as a macro follows ``next_config_macro`` of HTCondor 25.14 (``src/condor_utils/config.cpp``): ``$``, a
function's name or none, ``(``, a body, ``)``. The body of ``$(name)``, ``$(name:default)`` and ``$ENV()`` allows few
characters; that of any other function ends at the first ``)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

# Only HTCondor knows the cluster's number. This character stands for its digits in a value …
CLUSTER_MARK: Final = "\x01"
# … and this one for the `$` of a function of it, which is left for HTCondor.
DEFERRED_MARK: Final = "\x03"
MAX_EXPANDED: Final = 1_000_000  # characters of one value
MAX_REPLACEMENTS: Final = 20_000  # in a text that is expanded step by step
_WORK: Final = 40_000_000  # about the characters that one description may make us read; 1 to 2 s
_SEEN_UP_TO: Final = 2_000  # a longer text is not remembered for finding a circle
_LONGEST_FUNCTION: Final = 20  # letters; $F may have more, of which the later ones change nothing

FUNCTIONS: Final = frozenset(
    "ENV RANDOM_CHOICE RANDOM_INTEGER CHOICE SUBSTR INT REAL STRING EVAL BASENAME DIRNAME".split()  # noqa: SIM905
)
_FILE_FUNCTION: Final = re.compile(r"F[pnxdqabfwuPNXDQABFWU]*+")
PREFIX: Final = re.compile(r"\$\$?[A-Za-z0-9_\x01]*+")
_NAME: Final = re.compile(r"[A-Za-z0-9_./\x01]*+")  # condor_isidchar
_DEFAULT: Final = re.compile(r"[A-Za-z0-9_./\x01$ ,\\:]*+")  # and COLON_DEF_EXTRACHARSET

Kind = Literal["macro", "function", "unclosed", "odd-name", "nested-name", "odd-default"]
Replace = Callable[[str, str], str]  # (function or "", body) -> what stands there instead


class ExpansionError(Exception):
    """A value that cannot be expanded. `code` is one of macro-cycle, too-deep, too-large, bad-function,
    env-not-allowed, needs-cluster."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Work:
    """Counts down what may still be read, so that no text takes long."""

    def __init__(self, left: int = _WORK) -> None:
        self.left = left

    def spend(self, characters: int) -> None:
        """Raises ExpansionError too-large when nothing is left."""
        self.left -= characters + 1
        if self.left < 0:
            raise ExpansionError("too-large", "the macros are too many or too long to be expanded")


@dataclass(frozen=True)
class Reference:
    """One macro at `start` of a text, or something that looks like one (see `kind`).

    `name` is the macro's or the function's; `body` what stands between the parentheses (empty for what is no macro).
    An ``odd-name`` or ``odd-default`` stays as it is written; a ``nested-name`` is looked at again when what is inside
    has been replaced.
    """

    kind: Kind
    name: str
    text: str
    start: int
    default: tuple[str | Reference, ...] | None = None
    body: str = ""


Parts = tuple[str | Reference, ...]


def function_of(prefix: str) -> str | None:
    """The function that ``$…`` before a parenthesis names: "" for a plain macro, None when it begins no macro."""
    name = prefix[1:]
    return name if not name or name in FUNCTIONS or _FILE_FUNCTION.fullmatch(name) else None


def closing(text: str, opening: int, function: str, work: Work) -> tuple[int, int]:
    """(where the body that begins after `opening` is closed, 0), or (-1, the first character it does not allow).

    That second number is the length of `text` when the body runs up to its end, and -1 when there is no more ``)``.
    """
    if function and function != "ENV":
        close = text.find(")", opening)
        work.spend(((close if close >= 0 else len(text)) - opening) >> 4)
        return close, -1
    name = _NAME.match(text, opening + 1)
    end = name.end() if name else opening + 1
    in_default = skipped = False
    while end < len(text):
        if text[end] == ")":
            work.spend(end - opening)
            return end, 0
        if text[end] == ":" and not in_default:
            in_default = True
            end += 1
        elif text[end] == "(" and in_default:
            close = text.find(")", end)
            if close < 0:
                work.spend((len(text) - end) >> 4)
                return -1, (len(text) if skipped else -1)
            skipped = True
            work.spend((close - end) >> 4)
            end = close + 1
        else:
            break
        more = _DEFAULT.match(text, end)
        end = more.end() if more else end
    work.spend(end - opening)
    return -1, end


def split(text: str) -> Parts:
    """`text` as literal pieces and references, in order. A match-time ``$$(x)`` is literal, macros in it are not."""
    if len(text) > MAX_EXPANDED:
        return (text,)
    try:
        return _split(text, 0, Work())
    except ExpansionError:
        return (text,)


def _split(text: str, depth: int, work: Work) -> Parts:
    parts: list[str | Reference] = []
    literal_from = position = 0
    while (match := PREFIX.search(text, position)) is not None:
        start, position = match.span()
        work.spend(10)
        function = function_of(match[0])
        if function is None or text[position : position + 1] != "(":
            continue
        reference, after = _reference(text, start, position, function, depth, work)
        if literal_from < start:
            parts.append(text[literal_from:start])
        parts.append(reference)
        literal_from = position = after
    if literal_from < len(text):
        parts.append(text[literal_from:])
    return tuple(parts)


def _reference(text: str, start: int, opening: int, function: str, depth: int, work: Work) -> tuple[Reference, int]:
    close, bad = closing(text, opening, function, work)
    after = opening + 1
    if close < 0:
        name, rest = function, text[after : min(bad, after + 40)]
        kind: Kind = "unclosed"
        if 0 <= bad < len(text):
            kind = "odd-default" if ":" in rest else "nested-name" if text[bad] == "$" else "odd-name"
            name = function or rest.partition(":")[0]
        return Reference(kind, name, text[start : after if kind != "odd-default" else bad + 1], start), after
    body = text[after:close]
    name, colon, default = body.partition(":")
    parts = None
    if colon and function in ("", "ENV"):
        parts = _split(default, depth + 1, work) if depth < 2 else (default,)
    whole = text[start : close + 1]
    if function:
        return Reference("function", function, whole, start, parts, body), close + 1
    return Reference("macro", name, whole, start, parts, body), close + 1


def references(parts: Parts) -> Iterator[Reference]:
    """Every reference in `parts`, those in defaults too."""
    for part in parts:
        if isinstance(part, Reference):
            yield part
            if part.default:
                yield from references(part.default)


def pieces(text: str, work: Work) -> list[str | tuple[str, str]] | None:
    """Literal texts and (function or "", body) of each macro, if these can be replaced one by one; else None.

    They cannot where what a macro becomes may complete something that begins before it, as in ``$(a$(b))``, or where
    `text` ends in what might go on behind it. ``$(DOLLAR)`` is literal.
    """
    found: list[str | tuple[str, str]] = []
    literal_from = position = 0
    while (match := PREFIX.search(text, position)) is not None:
        start, position = match.span()
        work.spend((position - literal_from) >> 4)
        if position == len(text) or text[position] == "$":
            return None
        function = function_of(match[0])
        if function is None or text[position] != "(":
            continue
        close, bad = closing(text, position, function, work)
        if close < 0:
            if not 0 <= bad < len(text) or "$" in text[position : bad + 1]:
                return None
            position += 1
            continue
        body = text[position + 1 : close]
        position = close
        if is_dollar(function, body):
            continue
        if literal_from < start:
            found.append(text[literal_from:start])
        found.append((function, body))
        literal_from = position = close + 1
    if literal_from < len(text):
        found.append(text[literal_from:])
    return found


def is_dollar(function: str, body: str) -> bool:
    """Is this ``$(DOLLAR)``?"""
    return not function and len(body) == 6 and body.lower() == "dollar"


def replace_all(text: str, replace: Replace, work: Work) -> str:
    """Every macro but ``$(DOLLAR)`` replaced as HTCondor does it: the leftmost first, then looking at all text again.

    So what replaces a macro may be part of the next one. Raises ExpansionError: macro-cycle, too-deep, too-large.
    """
    return _rewrite(text, replace, is_dollar, work)


def replace_dollars(text: str, work: Work) -> str:
    """``$(DOLLAR)`` replaced, as HTCondor does it last. One inside of what is a macro by then stays."""
    if not _DOLLAR.search(text):
        return text
    if not _NOT_SIMPLE.search(text):
        return _DOLLAR.sub("$", text)
    return _rewrite(text, lambda _function, _body: "$", lambda function, body: not is_dollar(function, body), work)


def replace_self(text: str, name: str, old: str) -> str:
    """`text`, the new value of macro `name`, with its references to itself replaced by `old`, its value until now.

    HTCondor does this when it reads an assignment, so that ``a = $(a) more`` appends (``expand_self_macro``; that also
    takes ``$F(a)``, which we leave to the reader: see docs/submit-language.md). Raises ExpansionError.
    """

    def is_other(function: str, body: str) -> bool:
        return bool(function) or body.partition(":")[0].lower() != name.lower()

    return _rewrite(text, lambda _function, body: old or body.partition(":")[2], is_other, Work())


def _rewrite(text: str, replace: Replace, skip: Callable[[str, str], bool], work: Work) -> str:
    position = steps = 0
    failed: list[tuple[int, int]] = []  # what began like a macro, and the character that said no
    seen: set[str] = set()
    while (found := _next(text, position, failed, skip, work)) is not None:
        start, opening, close, function = found
        new = replace(function, text[opening + 1 : close])
        steps += 1
        work.spend((len(text) >> 3) + 4 * len(failed))
        text = text[:start] + new + text[close + 1 :]
        if len(text) > MAX_EXPANDED:
            raise ExpansionError("too-large", f"the value expands to more than {MAX_EXPANDED} characters")
        if steps > MAX_REPLACEMENTS:
            raise ExpansionError("too-deep", f"the value takes more than {MAX_REPLACEMENTS} replacements")
        if len(text) <= _SEEN_UP_TO and "$" in new:
            if text in seen:
                raise ExpansionError("macro-cycle", "macros refer to each other in a circle")
            seen.add(text)
        # HTCondor begins anew at 0. Only what was refused for a character from `start` on can differ now.
        position = next((q for q, bad in failed if bad >= start), start)
        position = min(position, _dollar_before(text, start, work))
        failed = [f for f in failed if f[0] < position]
    return text


def _next(
    text: str, position: int, failed: list[tuple[int, int]], skip: Callable[[str, str], bool], work: Work
) -> tuple[int, int, int, str] | None:
    while (match := PREFIX.search(text, position)) is not None:
        work.spend(10 + ((match.end() - position) >> 4))
        start, opening = match.span()
        function = function_of(match[0])
        if function is None or text[opening : opening + 1] != "(":
            position = opening
            continue
        close, bad = closing(text, opening, function, work)
        if close >= 0 and not skip(function, text[opening + 1 : close]):
            return start, opening, close, function
        if close >= 0:
            position = close
        elif bad < 0:
            return None
        else:
            failed.append((start, bad))
            position = opening + 1
    return None


def _dollar_before(text: str, end: int, work: Work) -> int:
    """Where the ``$`` begins that the word ending at `end` may belong to, else `end`."""
    position = end
    while position > max(0, end - _LONGEST_FUNCTION) and (text[position - 1].isalnum() or text[position - 1] == "_"):
        position -= 1
    if position == 0 or text[position - 1] != "$":
        return end
    while position and text[position - 1] == "$":
        position -= 1
    work.spend(4 * (end - position))
    return position


def is_unsayable(expanded: str) -> bool:
    """True where `submit_language` cannot carry the dollars of a value through HTCondor's expansion unchanged.

    HTCondor 25.14 replaces ``$(DOLLAR)`` last and looks at the result again, so a literal ``$F(`` or ``$(x:`` hides a
    second ``$(DOLLAR)`` behind it (found by comparing with the bindings).
    """
    if "$" not in expanded:
        return False
    # When that happens, HTCondor has put the cluster's number in already.
    text = submit_language(expanded).replace("$(Cluster)", "1")
    return _TOO_MANY.search(expanded) is not None or _HIDING.search(text) is not None


def submit_language(expanded: str) -> str:
    """`expanded` so that HTCondor, which expands once more, ends with the same text.

    A ``$`` that would begin a macro becomes ``$(DOLLAR)``; ``$$(x)`` stays for match time; the cluster's mark becomes
    ``$(Cluster)``, and a function of it is HTCondor's own again.
    """
    if "$" in expanded:
        # A dollar right before a mark would join it to a match-time `$$(Cluster)`.
        expanded = re.sub(r"\$(?=[\x01\x03])", "$(DOLLAR)", expanded)
        expanded = _PREFIX_OR_PAIR.sub(_protect, expanded)
    return expanded.replace(CLUSTER_MARK, "$(Cluster)").replace(DEFERRED_MARK, "$")


_DOLLAR: Final = re.compile(r"\$\(dollar\)", re.IGNORECASE)
# A dollar that is no $(DOLLAR), or a $(DOLLAR) whose dollar might begin something.
_NOT_SIMPLE: Final = re.compile(r"\$(?!\(dollar\))|\$\(dollar\)[A-Za-z0-9_\x01($]", re.IGNORECASE)
_TOO_MANY: Final = re.compile(r"\$\$\$[A-Za-z0-9_]*+\(|\$\$[\x01\x03]")
_HIDING: Final = re.compile(r"\$\(DOLLAR\)(?:[A-Za-z0-9_]++\([^)]*?|\([A-Za-z0-9_./]*+:.*?)\$\(DOLLAR\)", re.DOTALL)
_PREFIX_OR_PAIR: Final = re.compile(r"\$\(DOLLAR\)(?=[\x01\x03])|\$\$?[A-Za-z0-9_]*+\(?")


def _protect(match: re.Match[str]) -> str:
    found = match[0]
    if found == "$(DOLLAR)" or found.startswith("$$") or not found.endswith("("):
        return found
    return "$(DOLLAR)" + found[1:]
