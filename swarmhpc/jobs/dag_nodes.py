"""The nodes of a DAG: which waits for which, and how they stand, as the DAG's own job in the queue tells it. Pure.

So a person who has only a token sees also nodes that are not submitted yet. What is in the job's ad:
`SwarmHpcDagNodes`: names, joined by a blank. `SwarmHpcDagEdges`: "0-2>3;3>4,5", numbers of parents and children in
that list. `SwarmHpcDagStates`: a digit a node, DAGMan's own (25.14 manual, "Node Status File": NodeStatus).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any, Final

from swarmhpc import states
from swarmhpc.jobs.dag_model import Dag, Other
from swarmhpc.jobs.findings import Findings, Place

DAG_ATTRIBUTES: Final = (
    "SwarmHpcDagNodes", "SwarmHpcDagEdges", "SwarmHpcDagStates", "SwarmHpcDagFailed", "SwarmHpcDagWaits",
    "DAG_NodesTotal", "DAG_NodesDone", "DAG_NodesFailed", "DAG_NodesQueued", "DAG_Status",
)  # fmt: skip
"""What to ask for about a job with universe 7. `SwarmHpcDagFailed`: a line for each node that failed, and why;
`SwarmHpcDagWaits`: what it waits for outside of it (submit --after)."""

DONE: Final = "5"
_STATES: Final = {
    "0": states.PENDING,  # waits for its parents
    "1": states.PENDING,  # about to be submitted
    "2": states.PENDING,  # its PRE script runs, or says "not yet"
    "3": states.RUNNABLE,  # submitted: its job knows better
    "4": states.RUNNING,  # its POST script runs
    "5": states.SUCCEEDED,
    "6": states.FAILED,
    "7": states.FAILED,  # never: a parent failed
}
_MOST: Final = 2_000_000  # characters of an attribute; beyond, the graph is not told


@dataclass(frozen=True)
class DagNode:
    """A node as `q` shows it. `state`: of its job, where that is in the queue, as far as the caller gave it."""

    name: str
    state: str
    parents: tuple[str, ...]


def nodes(ad: Mapping[str, Any], jobs: Mapping[str, str] | None = None) -> tuple[DagNode, ...]:
    """The nodes that a DAG job's ad tells of; none for another job. `jobs`: states of its nodes' jobs, by node."""
    names = str(ad.get("SwarmHpcDagNodes", "")).split()
    letters = str(ad.get("SwarmHpcDagStates", "")).ljust(len(names), "0")
    parents: list[list[str]] = [[] for _ in names]
    for group in filter(None, str(ad.get("SwarmHpcDagEdges", "")).split(";")):
        before, _, after = group.partition(">")
        above = [names[i] for i in _numbers(before)]
        for i in _numbers(after):
            parents[i] += above
    known = jobs or {}
    return tuple(
        DagNode(name, known.get(name, "") if letter == "3" and name in known else _STATES.get(letter, ""), tuple(above))
        for name, letter, above in zip(names, letters, parents, strict=False)
    )


def progress(ad: Mapping[str, Any]) -> tuple[int, int, int]:
    """(done, failed, all) nodes of a DAG job, as DAGMan last told; all 0 where it has not begun."""
    total = int(ad.get("DAG_NodesTotal") or len(str(ad.get("SwarmHpcDagNodes", "")).split()))
    return int(ad.get("DAG_NodesDone") or 0), int(ad.get("DAG_NodesFailed") or 0), total


@dataclass(frozen=True)
class Graph:
    """All nodes, those of splices too (`SPLICE+NODE`), and who waits for whom: groups of (parents, children)."""

    names: tuple[str, ...]
    groups: tuple[tuple[tuple[str, ...], tuple[str, ...], Place], ...]

    def parents(self) -> dict[str, set[str]]:
        """The parents of each node."""
        found: dict[str, set[str]] = {name: set() for name in self.names}
        for before, after, _ in self.groups:
            for child in after:
                found[child].update(before)
        return found

    def attributes(self) -> dict[str, str]:
        """Name and text of what goes into the DAG job's ad."""
        number = {name: i for i, name in enumerate(self.names)}
        edges = ";".join(
            _ranges(number[n] for n in before) + ">" + _ranges(number[n] for n in after)
            for before, after, _ in self.groups
        )
        told = {"SwarmHpcDagNodes": " ".join(self.names), "SwarmHpcDagEdges": edges}
        return told if sum(map(len, told.values())) <= _MOST else {}


def graph(dag: Dag, findings: Findings | None = None) -> Graph:
    """The whole graph. A circle in it is an error among `findings`, with the nodes that are in it."""
    names: list[str] = []
    groups: list[tuple[tuple[str, ...], tuple[str, ...], Place]] = []
    _collect(dag, "", names, groups)
    whole = Graph(tuple(names), tuple(groups))
    if findings is not None:
        parents = whole.parents()
        try:
            TopologicalSorter(parents).prepare()
        except CycleError as e:
            # graphlib gives each node with the next one that waits for it, the first one again at the end.
            circle: Sequence[str] = e.args[1]
            pairs = set(pairwise(circle))
            place = next(
                (p for before, after, p in reversed(groups) if any(b in before and a in after for b, a in pairs)),
                Place(dag.file, 1, 1),
            )
            message = f"these nodes wait for each other in a circle: {' → '.join(circle)}"
            findings.add(place, "error", "dag-cycle", message, "take one of the arrows out")
    return whole


def _collect(
    dag: Dag, prefix: str, names: list[str], groups: list[tuple[tuple[str, ...], tuple[str, ...], Place]]
) -> None:
    ends: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}  # a splice's first and last nodes
    for splice in dag.splices.values():
        inner_names: list[str] = []
        inner_groups: list[tuple[tuple[str, ...], tuple[str, ...], Place]] = []
        _collect(splice.dag, f"{prefix}{splice.name}+", inner_names, inner_groups)
        waiting = {n for _, after, _ in inner_groups for n in after}
        waited_for = {n for before, _, _ in inner_groups for n in before}
        ends[splice.name] = (
            tuple(n for n in inner_names if n not in waiting),
            tuple(n for n in inner_names if n not in waited_for),
        )
        names += inner_names
        groups += inner_groups
    names += [prefix + name for name in dag.nodes]

    def some(words: Iterable[str], which: int) -> tuple[str, ...]:
        found: list[str] = []
        for word in words:
            found += ends[word][which] if word in ends else [prefix + word] if word in dag.nodes else []
        return tuple(found)

    for before, after, place in dag.edges:
        groups.append((some(before, 1), some(after, 0), place))
    for command in dag.commands:
        if isinstance(command, Other) and command.keyword == "CONNECT":
            first, second = command.text.split()[1:3]
            if first in dag.splices and second in dag.splices:
                out, into = _pins(dag.splices[first].dag, "PIN_OUT"), _pins(dag.splices[second].dag, "PIN_IN")
                for pin in out.keys() & into.keys():
                    groups.append(
                        (tuple(f"{prefix}{first}+{n}" for n in out[pin]),
                         tuple(f"{prefix}{second}+{n}" for n in into[pin]), command.place)
                    )  # fmt: skip


def _pins(dag: Dag, keyword: str) -> dict[str, list[str]]:
    pins: dict[str, list[str]] = {}
    for command in dag.commands:
        if isinstance(command, Other) and command.keyword == keyword:
            _, node, pin = command.text.split()[:3]
            if node in dag.nodes:
                pins.setdefault(pin, []).append(node)
    return pins


def _ranges(numbers: Iterable[int]) -> str:
    """ "0-2,7" for 0, 1, 2, 7."""
    said: list[list[int]] = []
    for n in sorted(set(numbers)):
        if said and n == said[-1][1] + 1:
            said[-1][1] = n
        else:
            said.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in said)


def _numbers(ranges: str) -> Iterator[int]:
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
