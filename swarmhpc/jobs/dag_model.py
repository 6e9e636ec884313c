"""What a DAG file says, uninterpreted. Pure data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from swarmhpc.jobs.findings import Place, Value

ALL: Final = "ALL_NODES"


@dataclass(frozen=True)
class Node:
    """A node. `kind`: JOB, FINAL, SERVICE or SUBDAG. `file`: its description, or DAG; None where that is `inline`, text
    with the line numbers of the DAG file. `folder`: absolute, where its paths start from."""

    kind: str
    name: str
    file: str | None
    inline: str
    folder: str
    directory: str  # as written behind DIR
    is_noop: bool
    is_done: bool
    place: Place


@dataclass(frozen=True)
class Splice:
    """A DAG inside of a DAG."""

    name: str
    dag: Dag
    directory: str
    place: Place


@dataclass(frozen=True)
class Script:
    """`options`: what stands before the node (DEFER …, DEBUG …, PRE). `command`: program and arguments as written."""

    options: str
    when: str
    node: str
    command: Value
    place: Place


@dataclass(frozen=True)
class Variable:
    """One NAME=VALUE of VARS. `append`: read after the description, which then can't replace it."""

    node: str
    name: str
    value: str
    append: bool
    place: Place


@dataclass(frozen=True)
class Other:
    """A command that is handed on as it is."""

    keyword: str
    text: str
    place: Place


Command = Node | Splice | Script | Other


@dataclass
class Dag:
    """A DAG file, its INCLUDEs read into it. `folder`: absolute, where its paths start from."""

    file: str
    folder: str
    commands: list[Command] = field(default_factory=list)
    nodes: dict[str, Node] = field(default_factory=dict)
    splices: dict[str, Splice] = field(default_factory=dict)
    edges: list[tuple[tuple[str, ...], tuple[str, ...], Place]] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    config: str | None = None
    attributes: list[tuple[str, Place]] = field(default_factory=list)
    set_env: list[str] = field(default_factory=list)
    get_env: list[str] = field(default_factory=list)

    def scripts(self, node: str) -> Iterator[Script]:
        """The scripts of one of its own nodes."""
        for c in self.commands:
            if isinstance(c, Script) and c.node in (node, ALL):
                yield c
