"""The macros of HTCondor's submit language, replaced as far as they are known. Pure; nothing is ever executed.

`Macros.compile` makes a `Template` of a value once, and `Template.render` gives its text for each job. HTCondor itself
replaces the leftmost macro of a text again and again until none is left, so that a macro may be made of the pieces of
others. That is what `macro_text.replace_all` does; where nothing of the kind can happen (nearly always) the pieces of a
value are put together once and for all, which gives the same text.

Differences to HTCondor 25.14: circles, more than `MAX_NESTED` functions in each other, too long values and functions
that make condor_submit stop are errors here; `$ENV` shows only what `Sources.allowed_env` names; see also
functions.file_parts, printf.formatted and adapters.classads.evaluate.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from swarmhpc.jobs import macro_nodes
from swarmhpc.jobs.functions import DIRECTORY, RANDOM, Scope, call, looked_up
from swarmhpc.jobs.macro_nodes import FIXED_LIVE, Call, Live, Node, NotYetError, Part, StepByStepError, flat, joined
from swarmhpc.jobs.macro_text import (
    CLUSTER_MARK,
    DEFERRED_MARK,
    MAX_EXPANDED,
    ExpansionError,
    Reference,
    Work,
    is_unsayable,
    pieces,
    references,
    replace_all,
    replace_dollars,
    replace_self,
    split,
    submit_language,
)
from swarmhpc.jobs.sources import NOTHING, Sources

__all__ = [
    "CLUSTER_MARK",
    "DEFERRED_MARK",
    "DIRECTORY",
    "FIXED_LIVE",
    "MAX_EXPANDED",
    "ExpansionError",
    "Macros",
    "Reference",
    "Template",
    "is_unsayable",
    "looked_up",
    "references",
    "replace_self",
    "split",
    "submit_language",
]

MAX_NESTED: Final = 50  # functions in functions
_INLINE: Final = 200  # characters of a value that are copied to where it is used
_INLINE_PARTS: Final = 8
_RENDER_WORK: Final = 4_000_000  # characters, for one text of one job
_NOTHING_LIVE: Final[Mapping[str, str]] = {}


@dataclass(frozen=True)
class Template:
    """A value as far as it is known before the jobs are.

    `constant` is the text when it is the same for all jobs; `uses` names the live variables it needs, in lower case
    (more of them where a macro's name is made of others). With neither it holds $RANDOM_CHOICE or $RANDOM_INTEGER,
    which are asked anew by each `render`.
    """

    constant: str | None
    uses: frozenset[str]
    _node: Node | None = field(default=None, repr=False, compare=False)
    _parts: tuple[Part, ...] = field(default=(), repr=False, compare=False)
    _macros: Macros | None = field(default=None, repr=False, compare=False)

    def render(self, live: Mapping[str, str]) -> str:
        """The text for one job. `live` maps all live variables, in lower case; one that is missing is empty.

        Raises ExpansionError, for example for $INT of what is no number.
        """
        if self.constant is not None or self._macros is None or self._node is None:
            return self.constant or ""
        return self._macros._text(self._node, self._parts, live, Work(_RENDER_WORK), 0)


_Steps = Generator[str, "Node", "Node"]


class Macros:
    """The definitions of one description, and what they expand to. `definitions` is looked at, never copied.

    `definitions`: lower-case name -> raw text: commands, the file's own macros, and attributes as ``my.name``. `live`:
    variables that differ between the jobs of a queue statement (FIXED_LIVE, and its loop variables). As in HTCondor, a
    definition of Process, ProcId, Step, Row, ItemIndex, Cluster or ClusterId wins over the job's own number, a loop
    variable wins over a definition, and so does Item where there are no other loop variables. `now`: what Process and
    the like are while the file is read, if that is not 0.
    """

    def __init__(
        self,
        definitions: Mapping[str, str],
        *,
        live: Collection[str] = FIXED_LIVE,
        sources: Sources = NOTHING,
        now: Mapping[str, str] = _NOTHING_LIVE,
    ) -> None:
        self._definitions = definitions
        self._live = frozenset(name.lower() for name in live)
        self._item_is_live = self._live <= frozenset(FIXED_LIVE)
        self._sources = sources
        self._now = now
        self._unset: Mapping[str, str] = macro_nodes.UNKNOWN
        self._nodes: dict[str, Node | ExpansionError | None] = {}  # None: being made
        self._work = Work()
        self._running = 0
        self._reader: Macros | None = None

    def with_live(self, live: Collection[str]) -> Macros:
        """The same definitions for a queue statement with these live variables."""
        other = Macros(self._definitions, live=live, sources=self._sources, now=self._now)
        other._work = self._work
        return other

    def is_defined(self, name: str) -> bool:
        """True when the file, or HTCondor for each job, gives this name a value (also an empty one)."""
        lower = name.lower()
        return lower == "dollar" or self._is_live(lower) or self._raw(lower) is not None

    def is_empty(self, name: str) -> bool:
        """True when ``$(name:default)`` takes its default: HTCondor treats undefined and empty alike."""
        lower = name.lower()
        return lower != "dollar" and not self._is_live(lower) and not self._raw(lower)

    def expand(self, text: str) -> str:
        """`text` as it is while the file is read (``if``, ``include``, the count of ``queue``). Raises ExpansionError.

        ``$(Process)`` and its like are then those of the job before, 0 at first; ``$(Cluster)`` is 1.
        """
        if self._reader is None:
            self._reader = Macros(self._definitions, live=(), sources=self._sources)
            self._reader._work = self._work
            self._reader._unset = {**macro_nodes.READING, **self._now}
        return self._reader.compile(text).render(_NOTHING_LIVE)

    def compile(self, text: str) -> Template:
        """`text` with every macro replaced that is known before the jobs are. Raises ExpansionError."""
        if len(text) > MAX_EXPANDED:
            raise ExpansionError("too-large", f"the text has {len(text)} characters; wanted at most {MAX_EXPANDED}")
        if "$" not in text:
            return Template(text, frozenset())
        node = self._make(None, text)
        parts = tuple(joined(flat(node.parts, self._work)))
        if node.is_constant:
            return Template(self._text(node, parts, None, self._work, 0), frozenset())
        return Template(None, node.uses, node, parts, self)

    def _is_live(self, lower: str) -> bool:
        if lower not in self._live:
            return False
        if lower in macro_nodes.NUMBERS or (lower == "item" and not self._item_is_live):
            return lower not in self._definitions
        return True

    def _raw(self, lower: str) -> str | None:
        """The raw text of a macro that is not live."""
        for mapping in (self._definitions, self._unset, self._sources.facts, macro_nodes.DEFAULTS):
            value = mapping.get(lower)
            if value is not None:
                return value
        return None

    def _make(self, name: str | None, text: str) -> Node:
        """The node of `text`, after those of all macros it needs. No recursion, however long the chain."""
        names: list[str | None] = [name]
        stack: list[_Steps] = [self._steps(text)]
        answer: Node | ExpansionError | None = None
        if name is not None:
            self._nodes[name] = None
        while stack:
            try:
                if isinstance(answer, ExpansionError):
                    wanted = stack[-1].throw(answer)
                else:
                    wanted = next(stack[-1]) if answer is None else stack[-1].send(answer)
                answer = self._known(wanted, names)
                if answer is None:
                    self._nodes[wanted] = None
                    names.append(wanted)
                    stack.append(self._steps(self._raw(wanted) or ""))
                continue
            except StopIteration as done:
                answer = done.value
            except ExpansionError as error:
                answer = ExpansionError(error.code, error.message)  # without its traceback, which would grow
            stack.pop()
            finished = names.pop()
            if finished is not None:
                self._nodes[finished] = answer
        assert answer is not None  # something was on the stack
        if isinstance(answer, ExpansionError):
            raise answer
        return answer

    def _known(self, wanted: str, names: list[str | None]) -> Node | ExpansionError | None:
        self._work.spend(20)
        known = self._nodes.get(wanted)
        if known is not None or wanted not in self._nodes:
            return known
        circle = names[names.index(wanted) :] if wanted in names else [wanted]
        shown = [*(str(name) for name in circle[:5]), *(["…"] if len(circle) > 5 else []), wanted]
        return ExpansionError("macro-cycle", f"macros refer to each other in a circle: {' → '.join(shown)}")

    def _steps(self, text: str) -> _Steps:
        """Makes the node of `text`; yields each name whose node it needs, and is sent that."""
        with suppress(StepByStepError):
            return (yield from self._together(text))
        try:
            self._rewritten(text, None, self._work, 0)
        except NotYetError:
            return Node(text, uses=self._live, is_random=True, step_by_step=True)
        return Node(text, step_by_step=True)

    def _together(self, text: str) -> _Steps:
        parts: list[Part] = []
        uses: set[str] = set()
        is_random = has_dollar = False
        depth = size = 0
        split_up = pieces(text, self._work)
        if split_up is None:
            raise StepByStepError
        for piece in split_up:
            node: Node | None = None
            part: Part
            if isinstance(piece, str):
                part, has_dollar = piece, has_dollar or "$(" in piece
            elif piece[0]:
                part, node = yield from self._function(*piece)
            else:
                part, node = yield from self._macro(piece[1])
            size += len(part) if isinstance(part, str) else 1 if node is None else max(1, node.size)
            if node is not None:
                if node.step_by_step:
                    raise StepByStepError
                uses |= node.uses
                is_random, has_dollar = is_random or node.is_random, has_dollar or node.has_dollar
                depth = max(depth, node.depth)
            if isinstance(part, Live):
                uses.add(part.name)
            if size > MAX_EXPANDED:
                raise ExpansionError("too-large", f"the value expands to more than {MAX_EXPANDED} characters")
            if depth > MAX_NESTED:
                raise ExpansionError("too-deep", f"functions are nested more than {MAX_NESTED} deep")
            if isinstance(part, Node) and part.size <= _INLINE and len(part.parts) <= _INLINE_PARTS:
                parts.extend(part.parts)
            else:
                parts.append(part)
        if len(parts) == 1 and isinstance(parts[0], Node):
            return parts[0]
        return Node(text, tuple(joined(parts)), size, frozenset(uses), is_random, has_dollar, depth)

    def _macro(self, body: str) -> Generator[str, Node, tuple[str | Live | Node, Node | None]]:
        name, colon, default = body.partition(":")
        lower = name.lower()
        if self._is_live(lower):
            if not colon:
                return Live(lower, None), None
            node = yield from self._together(default)
            return Live(lower, node), node
        if self._raw(lower):
            node = yield lower
            return node, node
        if not colon:
            return "", None
        node = yield from self._together(default)
        return node, node

    def _function(self, function: str, body: str) -> Generator[str, Node, tuple[str | Call, Node | None]]:
        uses: set[str] = set()
        is_random, depth = function in RANDOM, 0
        for name in looked_up(function, body):
            lower = name.lower()
            if self._is_live(lower):
                uses.add(lower)
            elif self._raw(lower) is not None:
                node = yield lower
                uses |= node.uses
                is_random, depth = is_random or node.is_random, max(depth, node.depth)
        if uses or is_random:
            return Call(function, body), Node("", (), 0, frozenset(uses), is_random, depth=depth + 1)
        try:
            text = call(function, body, self._scope(None, self._work, 0))
        except NotYetError:
            raise StepByStepError from None
        if "$" in text:
            raise StepByStepError
        return text, None

    def _text(
        self,
        node: Node,
        parts: Iterable[Part],
        live: Mapping[str, str] | None,
        work: Work,
        depth: int,
    ) -> str:
        """What `node` is for one job, from its flat `parts`. `live` is None before there are jobs."""
        if node.step_by_step:
            return self._rewritten(node.text, live, work, depth)
        out: list[str] = []
        for part in parts:
            if isinstance(part, str):
                out.append(part)
                continue
            if isinstance(part, Live):
                if live is None:
                    raise NotYetError
                piece = live.get(part.name, "")
                if not piece and part.default is not None:
                    default = part.default
                    piece = self._text(default, flat(default.parts, work), live, work, depth)
            elif isinstance(part, Call):
                piece = call(part.function, part.body, self._scope(live, work, depth))
            else:
                piece = self._text(part, flat(part.parts, work), live, work, depth)
            if "$" in piece:  # more macros, or a part of one
                return self._rewritten(node.text, live, work, depth)
            out.append(piece)
        text = "".join(out)
        return replace_dollars(text, work) if node.has_dollar else text

    def _rewritten(self, text: str, live: Mapping[str, str] | None, work: Work, depth: int) -> str:
        """`text` expanded step by step."""
        scope = self._scope(live, work, depth)

        def replacement(function: str, body: str) -> str:
            if function:
                return call(function, body, scope)
            name, _, default = body.partition(":")
            return self._plain(name.lower(), live) or default

        return replace_dollars(replace_all(text, replacement, work), work)

    def _plain(self, lower: str, live: Mapping[str, str] | None) -> str | None:
        if CLUSTER_MARK in lower or DEFERRED_MARK in lower:
            raise ExpansionError(
                "needs-cluster", "a macro's name holds the cluster's number, which only HTCondor knows"
            )
        if not self._is_live(lower):
            return self._raw(lower)
        if live is None:
            raise NotYetError
        return live.get(lower, "")

    def _scope(self, live: Mapping[str, str] | None, work: Work, depth: int) -> Scope:
        """What a function may ask."""
        if depth > MAX_NESTED:
            raise ExpansionError("too-deep", f"functions are nested more than {MAX_NESTED} deep")

        def value(name: str) -> str | None:
            lower = name.lower()
            raw = self._plain(lower, live)
            if not raw or "$" not in raw:
                return raw
            if self._is_live(lower):
                return self._rewritten(raw, live, work, depth + 1)
            node = self._node(lower, raw)
            return self._text(node, flat(node.parts, work), live, work, depth + 1)

        def expand(text: str) -> str:
            return self._rewritten(text, live, work, depth + 1)

        def no_chance(_choices: int) -> int:
            raise NotYetError

        sources = replace(self._sources, random=no_chance) if live is None else self._sources
        return Scope(value, expand, sources)

    def _node(self, lower: str, raw: str) -> Node:
        known = self._nodes.get(lower)
        if known is None:
            if lower in self._nodes:
                raise ExpansionError("macro-cycle", f"macros refer to each other in a circle: {lower}")
            self._running += 1
            try:
                if self._running > MAX_NESTED:
                    raise ExpansionError("too-deep", f"functions are nested more than {MAX_NESTED} deep")
                known = self._make(lower, raw)
            finally:
                self._running -= 1
        if isinstance(known, ExpansionError):
            raise ExpansionError(known.code, known.message)
        return known
