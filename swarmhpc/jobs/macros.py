"""The macros of HTCondor's submit language: find them in a value, replace them. Pure; nothing is ever executed.

What counts as a macro follows ``next_config_macro`` in HTCondor 25.14 (``src/condor_utils/config.cpp``), where a scan
looks for ``$`` or ``$$``, letters and an opening parenthesis. An expanded value may hold two marks, so that one
expansion serves all jobs: `CLUSTER_MARK`, which only the access point can fill in, and `PROCESS_MARK`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

CLUSTER_MARK: Final = "\x01"
PROCESS_MARK: Final = "\x02"
MAX_EXPANDED: Final = 1_000_000  # characters of one value; HTCondor's own limits are lower in practice
MAX_DEPTH: Final = 100  # macros inside macros
_BUDGET: Final = 20_000_000  # characters that one description may expand to, all values together

# Set by HTCondor for each job; what the file says about them is replaced (SubmitHash::set_live_submit_variable).
JOB_MACROS: Final[Mapping[str, str]] = {
    "cluster": CLUSTER_MARK,
    "clusterid": CLUSTER_MARK,
    "process": PROCESS_MARK,
    "procid": PROCESS_MARK,
    "step": PROCESS_MARK,  # with one plain `queue N` the step is the process
    "row": "0",
    "itemindex": "0",
}
# Known to HTCondor from the clock or from the submitting machine, which a pure parser cannot see.
OUTSIDE_MACROS: Final = frozenset(
    "submit_time year month day submit_file arch opsys opsysver opsysmajorver opsysandver spool".split()  # noqa: SIM905
)
_FUNCTIONS: Final = frozenset(
    "ENV RANDOM_CHOICE RANDOM_INTEGER CHOICE SUBSTR INT REAL STRING EVAL BASENAME DIRNAME".split()  # noqa: SIM905
)
_FILE_FUNCTION: Final = re.compile(r"F[pnxdqabfwuPNXDQABFWU]*")
_DOLLARS: Final = re.compile(r"\$\$?[A-Za-z0-9_]*+")
_NAME: Final = re.compile(r"[A-Za-z0-9_./]*+")  # condor_isidchar
_DEFAULT_CHARACTERS: Final = re.compile(r"[A-Za-z0-9_./$ ,\\:()]*")  # HTCondor leaves others unexpanded

Kind = Literal["macro", "function", "unclosed", "odd-name", "nested-name", "odd-default"]


@dataclass(frozen=True)
class Reference:
    """One ``$(name)`` or ``$(name:default)`` at `start`, or something that looks like it (see `kind`)."""

    kind: Kind
    name: str
    text: str
    start: int
    default: tuple[str | Reference, ...] | None = None


Parts = tuple[str | Reference, ...]


class ExpansionError(Exception):
    """A value that cannot be expanded: a cycle, or too large. `code` names which."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def split(text: str) -> Parts:
    """`text` as literal pieces and references, in order. A match-time ``$$(x)`` is literal, macros in it are not."""
    if "$" not in text:
        return (text,) if text else ()
    closing: dict[int, int] = {}
    deep: set[int] = set()  # opening parentheses with more than one level inside
    _match_parentheses(text, closing, deep)
    return _split(text, 0, len(text), closing, deep)


def _match_parentheses(text: str, closing: dict[int, int], deep: set[int]) -> None:
    stack: list[tuple[int, int]] = []  # (position, levels inside)
    for match in re.finditer(r"[()]", text):
        if match[0] == "(":
            stack.append((match.start(), 0))
        elif stack:
            position, levels = stack.pop()
            closing[position] = match.start()
            if levels > 1:
                deep.add(position)
            if stack:
                outer, outer_levels = stack[-1]
                stack[-1] = (outer, max(outer_levels, levels + 1))


def _split(text: str, start: int, end: int, closing: dict[int, int], deep: set[int]) -> Parts:
    parts: list[str | Reference] = []
    literal_from = position = start
    while (match := _DOLLARS.search(text, position, end)) is not None:
        position = match.end()
        if position >= end or text[position] != "(" or match[0].startswith("$$"):
            continue
        reference, after = _reference(text, match.start(), position, closing, deep)
        if reference is None:
            continue
        if literal_from < match.start():
            parts.append(text[literal_from : match.start()])
        parts.append(reference)
        literal_from = position = after
    if literal_from < end:
        parts.append(text[literal_from:end])
    return tuple(parts)


def _reference(
    text: str, start: int, opening: int, closing: dict[int, int], deep: set[int]
) -> tuple[Reference | None, int]:
    """The reference whose ``$`` is at `start` and ``(`` at `opening`, and where the text goes on."""
    function = text[start + 1 : opening]
    close = closing.get(opening)
    here = text[start : min(start + 40, len(text) if close is None else close + 1)]
    if function:
        if function in _FUNCTIONS or _FILE_FUNCTION.fullmatch(function):
            return Reference("function", function, here, start), opening + 1
        return None, opening
    if close is None:
        return Reference("unclosed", "", "$(", start), opening + 1
    name_match = _NAME.match(text, opening + 1, close)
    stop = name_match.end() if name_match else opening + 1
    name = text[opening + 1 : stop]
    if stop == close:
        return Reference("macro", name, text[start : close + 1], start), close + 1
    if text[stop] == "$":
        return Reference("nested-name", name, here, start), close + 1
    if text[stop] != ":":
        return Reference("odd-name", name, "$(", start), opening + 1
    if opening in deep or not _DEFAULT_CHARACTERS.fullmatch(text, stop + 1, close):
        return Reference("odd-default", name, here, start), close + 1
    # At most one level of parentheses is inside, so this recursion ends at once.
    default = _split(text, stop + 1, close, closing, deep)
    return Reference("macro", name, text[start : close + 1], start, default), close + 1


def references(parts: Parts) -> Iterator[Reference]:
    """Every reference in `parts`, those in defaults too."""
    for part in parts:
        if isinstance(part, Reference):
            yield part
            if part.default:
                yield from references(part.default)


class Macros:
    """The definitions of one description and what they expand to. Each is expanded once."""

    def __init__(self, definitions: Mapping[str, str]) -> None:
        self._definitions = definitions
        self._known: dict[str, str] = {}
        self._active: list[str] = []
        self._spent = 0

    def is_empty(self, name: str) -> bool:
        """True when ``$(name:default)`` takes its default: HTCondor treats undefined and empty alike."""
        lower = name.lower()
        return lower != "dollar" and lower not in JOB_MACROS and not self._definitions.get(lower)

    def is_defined(self, name: str) -> bool:
        """True when the file, or HTCondor for each job, gives this name a value (also an empty one)."""
        lower = name.lower()
        return lower in ("dollar", "item") or lower in JOB_MACROS or lower in self._definitions

    def expand(self, text: str) -> str:
        """`text` with every macro replaced. May hold the two marks. Raises ExpansionError."""
        if len(self._active) > MAX_DEPTH:
            raise ExpansionError("too-deep", f"macros are nested more than {MAX_DEPTH} deep")
        out, size = [], 0
        for part in split(text):
            piece = part if isinstance(part, str) else self._replacement(part)
            size += len(piece)
            self._spent += len(piece)
            if size > MAX_EXPANDED:
                raise ExpansionError("too-large", f"the value expands to more than {MAX_EXPANDED} characters")
            if self._spent > _BUDGET:
                raise ExpansionError("too-large", f"the macros expand to more than {_BUDGET} characters altogether")
            out.append(piece)
        return "".join(out)

    def _replacement(self, reference: Reference) -> str:
        if reference.kind != "macro":
            return reference.text
        if self.is_empty(reference.name):
            return "".join(p if isinstance(p, str) else self._replacement(p) for p in reference.default or ())
        return self.value(reference.name)

    def value(self, name: str) -> str:
        """What ``$(name)`` becomes; nothing when undefined. Raises ExpansionError."""
        lower = name.lower()
        if lower == "dollar":
            return "$"
        if lower in JOB_MACROS:
            return JOB_MACROS[lower]
        if lower not in self._known:
            if lower in self._active:
                cycle = " → ".join([*self._active[self._active.index(lower) :][:5], lower])
                raise ExpansionError("macro-cycle", f"macros refer to each other in a circle: {cycle}")
            self._active.append(lower)
            try:
                self._known[lower] = self.expand(self._definitions.get(lower, ""))
            finally:
                self._active.pop()
        return self._known[lower]


def for_job(expanded: str, *, process: int, cluster: str | None = None) -> str:
    """`expanded` as job `process` sees it. Without `cluster`, HTCondor's own ``$(Cluster)`` stands in its place."""
    return expanded.replace(PROCESS_MARK, str(process)).replace(CLUSTER_MARK, cluster or "$(Cluster)")


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
    ``$(Cluster)``. `PROCESS_MARK` stays.
    """
    if "$" in expanded:
        # A dollar right before the mark would join it to a match-time `$$(Cluster)`.
        expanded = re.sub(r"\$(?=\x01)", "$(DOLLAR)", expanded)
        expanded = _PREFIX_OR_PAIR.sub(_protect, expanded)
    return expanded.replace(CLUSTER_MARK, "$(Cluster)")


_TOO_MANY: Final = re.compile(r"\$\$\$[A-Za-z0-9_\x02]*+\(|\$\$\x01")
_HIDING: Final = re.compile(r"\$\(DOLLAR\)(?:[A-Za-z0-9_]++\([^)]*?|\([A-Za-z0-9_./]*+:.*?)\$\(DOLLAR\)", re.DOTALL)
_PREFIX_OR_PAIR: Final = re.compile(r"\$\(DOLLAR\)(?=\x01)|\$\$?[A-Za-z0-9_]*+\(?")


def _protect(match: re.Match[str]) -> str:
    found = match[0]
    if found == "$(DOLLAR)" or found.startswith("$$") or not found.endswith("("):
        return found
    return "$(DOLLAR)" + found[1:]
