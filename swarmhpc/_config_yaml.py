"""YAML with places: what the cluster file holds, where it holds it, and what is wrong with it as YAML.

yaml is imported by the functions that need it: importing this module stays cheap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

Loc = tuple[str | int, ...]
"""Keys and list indexes that lead to a value."""
Place = tuple[int, int]
"""Line and column, from 1."""
_MAX_DEPTH: Final = 16
_REFUSED: Final = {
    "!alias": ("a YAML alias (*name) is not accepted here", "write the value out"),
    "!tag": ("a YAML tag (!name) is not accepted here", "remove the tag"),
}
_ANCHORED: Final = "!anchor "  # put before the tag of a node that has an anchor
_ANCHOR_REFUSED: Final = ("a YAML anchor (&name) is not accepted here", "remove the anchor")


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a cluster file. Line and column count from 1; 0 means the file as a whole."""

    file: str
    line: int
    column: int
    key_path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}{' ' if self.key_path else ''}{self.key_path}: {self.message}"


def place_of(before: str) -> Place:
    """Line and column of what follows `before`."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _key_path(loc: Loc) -> str:
    """``jobs.volumes[0].target``; keys that could spoil a line of output are quoted and cut."""
    parts = [f"[{p}]" if isinstance(p, int) else f".{p if _plain(p) else ascii(p[:60])}" for p in loc]
    return "".join(parts).removeprefix(".")


def _plain(text: str) -> bool:
    return len(text) <= 60 and text.isprintable()


class Tree:
    """What a YAML text holds, where it holds it, and what is wrong with it so far."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.keys: dict[Loc, Place] = {}
        self.places: dict[Loc, Place] = {}
        self.shown: dict[Loc, str] = {}  # values as written, for messages
        self.scalars: dict[Loc, object] = {}
        self.bad: set[Loc] = set()

    def add(self, loc: Loc, message: str, hint: str = "", *, at_key: bool = False) -> None:
        """Reports a problem with the value at `loc` (with its key alone: `at_key`), or at its nearest parent."""
        parents = (loc[:n] for n in range(len(loc), -1, -1))
        maps = (self.keys, self.places) if at_key else (self.places, self.keys)
        place = next((places[parent] for parent in parents for places in maps if parent in places), (1, 1))
        if not at_key:
            self.bad.add(loc)
        self.problems.append(Problem(self.file, *place, _key_path(loc), message, hint))

    def is_bad(self, loc: Loc) -> bool:
        """Whether a problem was reported at `loc` or at something that holds it."""
        return any(loc[:n] in self.bad for n in range(len(loc) + 1))

    def read(self, text: str) -> dict[str, object] | None:
        """Plain data under its keys: dict, list, str, int, bool, None. None: `problems` say why there is none."""
        import yaml

        try:
            node = _composer(text).get_single_node()
        except yaml.reader.ReaderError as error:
            place = place_of(text[: error.position])
            message = f"wanted printable text, saw the character U+{error.character:04X}"
            self.problems.append(Problem(self.file, *place, "", message))
            return None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            context = f" ({error.context})" if error.context else ""
            hint = "indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
            self.problems.append(Problem(self.file, *place, "", f"not YAML: {error.problem}{context}", hint))
            return None
        data = None if node is None else self._walk(node, ())
        if isinstance(data, dict):
            return data
        if self.problems:
            return None
        if data is None:  # nothing, or comments only
            return {}
        self.add((), f"wanted keys with values, saw {self.shown[()]}", "begin with a key, such as name: swarmhpc")
        return None

    def _walk(self, node: Any, loc: Loc) -> object:
        import yaml

        self.places[loc] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if node.tag in _REFUSED:
            self.add(loc, *_REFUSED[node.tag])
            return None
        if node.tag.startswith(_ANCHORED):  # its content is there all the same, and may be wrong too
            node.tag = node.tag.removeprefix(_ANCHORED)
            self.problems.append(Problem(self.file, *self.places[loc], _key_path(loc), *_ANCHOR_REFUSED))
        if isinstance(node, yaml.MappingNode):
            self.shown[loc] = "keys with values"
            return {key: self._walk(value, (*loc, key)) for key, value in self._members(node, loc)}
        if isinstance(node, yaml.SequenceNode):
            self.shown[loc] = "a list"
            return [self._walk(item, (*loc, index)) for index, item in enumerate(node.value)]
        value, self.shown[loc] = _scalar(node)
        self.scalars[loc] = value
        return value

    def _members(self, node: Any, loc: Loc) -> Iterator[tuple[str, Any]]:
        import yaml

        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key_node.tag.startswith(_ANCHORED):
                self.problems.append(Problem(self.file, *place, _key_path(loc), *_ANCHOR_REFUSED))
            if key_node.tag in _REFUSED or not isinstance(key_node, yaml.ScalarNode):
                message, hint = _REFUSED.get(key_node.tag, ("wanted a plain word as key", ""))
                self.problems.append(Problem(self.file, *place, _key_path(loc), message, hint))
                continue
            child = (*loc, key_node.value)
            if child in self.keys:
                message = f"this key is already on line {self.keys[child][0]}"
                self.problems.append(Problem(self.file, *place, _key_path(child), message, "keep one"))
                continue
            self.keys[child] = place
            yield key_node.value, value_node


def _composer(text: str) -> Any:
    """A YAML reader that marks aliases, anchors and tags instead of following them."""
    import yaml

    class Composer(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            if isinstance(event, yaml.AliasEvent):
                alias: Any = self.get_event()  # type: ignore[no-untyped-call]
                return yaml.ScalarNode("!alias", alias.anchor, alias.start_mark, alias.end_mark)
            if self.depth >= _MAX_DEPTH:
                message = f"nested more than {_MAX_DEPTH} levels deep"
                raise yaml.composer.ComposerError(None, None, message, event.start_mark)
            tagged, anchored = event.tag is not None, event.anchor is not None
            event.anchor = None
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            if node is not None and (tagged or anchored):
                node.tag = "!tag" if tagged else _ANCHORED + node.tag
            return node

    return Composer(text)


def _scalar(node: Any) -> tuple[object, str]:
    """The value, and how to show it. Numbers in other than plain decimal stay text: 010 and 1:30 are traps."""
    raw = node.value if len(node.value) <= 60 else node.value[:60] + "…"
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind == "null":
        return None, "nothing"
    if kind == "bool":
        value = node.value.lower() in ("yes", "true", "on")
        meaning = str(value).lower()
        return value, raw if node.value == meaning else f"{raw}, which YAML reads as {meaning}"
    if kind == "int" and re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", node.value):
        return int(node.value), raw
    return node.value, raw if node.style is None and raw.isprintable() else f"the text {raw!r}"
