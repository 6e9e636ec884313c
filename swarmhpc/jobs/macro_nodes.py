"""What `macros` makes of a text: literal pieces, live variables, functions left for each job, and other texts;
and which names HTCondor itself defines. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from swarmhpc.jobs.macro_text import CLUSTER_MARK, Work

FIXED_LIVE: Final = ("process", "procid", "step", "row", "itemindex", "item")
NUMBERS: Final = frozenset(FIXED_LIVE) - {"item"}
CLUSTER: Final = frozenset({"cluster", "clusterid"})
# SubmitMacroDefaults of submit_utils.cpp; the others come from the machine (Sources.facts).
DEFAULTS: Final[Mapping[str, str]] = {
    "jobid": "$(ClusterId).$(ProcId)",
    "joblistid": "$(ClusterId)",
    "request_cpus": "$(RequestCPUs)",
    "request_memory": "$(RequestMemory)",
    "vm_vcpus": "$(Request_CPUs)",
    "vm_memory": "$(Request_Memory)",
    "taskid": "0",
    "node": "",
}
UNKNOWN: Final[Mapping[str, str]] = dict.fromkeys(CLUSTER, CLUSTER_MARK)
# What $(Process) and the like are while the file is read, before the first queue statement.
READING: Final[Mapping[str, str]] = {**dict.fromkeys(NUMBERS, "0"), **dict.fromkeys(CLUSTER, "1")}


class StepByStepError(Exception):
    """This text has to be expanded step by step."""


class NotYetError(Exception):
    """A live variable, or chance, was asked for before there are jobs."""


@dataclass(frozen=True)
class Live:
    """A variable of the job, and what stands for it where it is empty."""

    name: str
    default: Node | None


@dataclass(frozen=True)
class Call:
    """A function that needs the job, or chance."""

    function: str
    body: str


@dataclass(frozen=True, eq=False)
class Node:
    """A text and what it is put together from. `step_by_step`: only macro_text.replace_all can expand it."""

    text: str
    parts: tuple[Part, ...] = ()
    size: int = 0
    uses: frozenset[str] = frozenset()
    is_random: bool = False
    has_dollar: bool = False
    depth: int = 0  # functions inside each other that are left for render
    step_by_step: bool = False

    @property
    def is_constant(self) -> bool:
        """Is it the same for all jobs?"""
        return not self.uses and not self.is_random


Part = str | Live | Call | Node


def joined(parts: Iterable[Part]) -> Iterator[Part]:
    """`parts` with neighbouring texts made one."""
    for is_text, group in groupby(parts, key=lambda part: isinstance(part, str)):
        if is_text:
            yield "".join(part for part in group if isinstance(part, str))
        else:
            yield from group


def flat(parts: Iterable[Part], work: Work) -> Iterator[str | Live | Call]:
    """`parts` with those of each node in its place."""
    stack = list(reversed(tuple(parts)))
    while stack:
        part = stack.pop()
        work.spend(5)
        if isinstance(part, Node):
            work.spend(60)
            stack.extend(reversed(part.parts))
        else:
            yield part
