"""What a rule of the translation is: a function of the few commands that it looks at. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from swarmhpc.jobs.findings import Findings, Place, Severity, Value, short
from swarmhpc.jobs.macros import CLUSTER_MARK
from swarmhpc.jobs.quoting import expression_fault
from swarmhpc.jobs.resources import Limits

_BOOLEANS: Final = {"true": True, "yes": True, "t": True, "y": True, "1": True}
_BOOLEANS.update({"false": False, "no": False, "f": False, "n": False, "0": False})
_MARK: Final = re.compile("[\x01-\x08]")  # a file cannot hold these: they stand for what only HTCondor knows


@dataclass(frozen=True)
class SubmitSide:
    """The submitting machine. `exists` and `size` are look-ups, so that nothing here does I/O.

    `size` of a directory: (files, bytes) in all that is below it, as far as it was counted; None for anything else.
    """

    cwd: PurePosixPath
    home: PurePosixPath
    exists: Callable[[PurePosixPath], bool]
    size: Callable[[PurePosixPath], tuple[int, int] | None] = lambda _: None
    parses: Callable[[str], bool] = lambda _: True  # whether a text is a ClassAd expression, as HTCondor reads it


@dataclass(frozen=True)
class World:
    """What is the same for every job of a queue statement. `jobs`: of the whole description."""

    side: SubmitSide
    limits: Limits
    queue: Place
    values: Mapping[str, Value]  # commands by canonical name, attributes as +Name
    jobs: int
    understood: bool  # False: parts of the file are not known, so files that are missing mean nothing
    folders: dict[str, bool] = field(default_factory=dict)  # whether each one that was asked for exists
    fine: set[str] = field(default_factory=set)  # inputs that are plain files about which there is nothing to say


class Entry(NamedTuple):
    """One command as it is submitted. `source`: the command it comes from; `why` is empty where nothing changed."""

    name: str
    text: str
    source: str
    why: str


class Job:
    """What a rule sees of one job, and where it puts what it decides."""

    __slots__ = ("_findings", "entries", "inputs", "path", "texts", "world")

    def __init__(self, texts: Mapping[str, str], world: World, findings: Findings) -> None:
        self.texts = texts
        self.world = world
        self._findings = findings
        self.entries: list[Entry] = []
        self.inputs: tuple[str, ...] = ()
        self.path: str | None = None

    def get(self, name: str) -> str | None:
        """The text of a command for this job; None when the file does not have it."""
        return self.texts.get(name)

    def set(self, name: str, text: str, why: str = "", source: str = "") -> None:
        """Submit command `name` with this text."""
        self.entries.append(Entry(name, text, source or name, why))

    def place(self, name: str, offset: int = 0) -> Place:
        """Where the value of a command stands, or the queue statement. `offset` counts in the job's text."""
        value = self.world.values.get(name)
        if value is None:
            return self.world.queue
        return value.at(offset) if offset and "$" not in value.text else value.place

    def say(self, name: str | Place, severity: Severity, code: str, message: str, hint: str = "") -> None:
        """A finding at the value of command `name`, or at a place."""
        place = name if isinstance(name, Place) else self.place(name)
        self._findings.add(place, severity, code, message, hint)

    def expression(self, name: str, text: str) -> None:
        """Reports what is no ClassAd expression."""
        if fault := expression_fault(text):
            place = self.place(name, fault.offset)
            self.say(place, "error", "unbalanced", f"{name} has {fault.message}", fault.hint)
        elif text and not is_open(text) and "$$" not in text and not self.world.side.parses(text):
            message = f"{name} is {shown(text)}, which is no ClassAd expression; HTCondor refuses the file"
            self.say(name, "error", "bad-expression", message, 'equal is ==, text stands in ", operators are && || !')

    def boolean(self, name: str) -> bool | None:
        """What a switch says; None when it is not given or says nothing that can be read."""
        text = self.texts.get(name)
        if not text:
            return None
        if text.lower() not in _BOOLEANS:
            self.say(name, "error", "no-boolean", f"{name} is {shown(text)}; wanted true or false")
            return None
        return _BOOLEANS[text.lower()]

    @property
    def is_docker(self) -> bool:
        """True when the job runs in an image. The rule has to read `IMAGE`."""
        t = self.texts
        return bool(t.get("docker_image") or t.get("container_image")) or t.get("universe", "").lower() in (
            "docker",
            "container",
        )

    def folder(self) -> str:
        """The absolute initial directory. The rule has to read ``initialdir``."""
        return absolute(self.texts.get("initialdir") or "", str(self.world.side.cwd)).rstrip("/") or "/"

    def is_missing(self, path: str) -> bool:
        """True for an absolute path that is not here. What only match time knows is not missing."""
        if not self.world.understood or "$$" in path:
            return False
        return is_open(path) or not self.world.side.exists(PurePosixPath(path))

    def lacks_folder(self, folder: str) -> bool:
        """As `is_missing`, for a directory that many jobs may name."""
        found = self.world.folders.get(folder)
        if found is None:
            found = self.world.folders[folder] = is_open(folder) or not self.is_missing(folder)
        return not found


@dataclass(frozen=True)
class Rule:
    """`apply` is called once for each different combination of texts of the commands in `reads`."""

    reads: tuple[str, ...]
    apply: Callable[[Job], None]


IMAGE: Final = ("universe", "docker_image", "container_image")


def absolute(path: str, folder: str) -> str:
    """`path` below `folder`, unless it is absolute already."""
    return path if path[:1] == "/" else f"{folder.rstrip('/')}/{path.removeprefix('./')}"


def is_open(text: str) -> bool:
    """True when a part of `text` is HTCondor's to fill in, such as the cluster's number."""
    return _MARK.search(text) is not None


def visible(text: str) -> str:
    """`text` with HTCondor's own ``$(Cluster)`` where only HTCondor knows."""
    return text.replace(CLUSTER_MARK, "$(Cluster)") if CLUSTER_MARK in text else text


def shown(text: str) -> str:
    """`text` quoted for a message."""
    return short(visible(text))
