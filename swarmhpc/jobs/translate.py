"""From a submit description to what this pool is given: flat commands, item data, files and findings.

Pure: facts about the pool and the submitting machine come in as arguments. What is done with a command is a rule (see
`rule`), a function of the few commands that it looks at. A rule is called once where all these are the same for all
jobs, else once for each different combination of texts. Nothing is dropped without a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from swarmhpc.jobs.commands import canonical
from swarmhpc.jobs.description import Description, Statement
from swarmhpc.jobs.findings import Finding, Findings, Place, Value
from swarmhpc.jobs.parts import JobFiles, Part, nothing
from swarmhpc.jobs.resources import ClassSize, Limits
from swarmhpc.jobs.rule import IMAGE, SubmitSide, World

__all__ = [
    "ClassSize",
    "Cluster",
    "JobFiles",
    "Limits",
    "Line",
    "SubmitSide",
    "Translation",
    "flat_text",
    "translate",
    "variable",
]


@dataclass(frozen=True)
class Line:
    """One line of the flat description as the first job has it: what it comes from, and why it changed (or empty)."""

    name: str
    value: str
    place: Place | None
    why: str
    cluster: int


@dataclass(frozen=True)
class Cluster:
    """Jobs that are submitted together.

    Values are submit language: a literal ``$`` that would begin a macro is ``$(DOLLAR)``, ``$(Cluster)`` is HTCondor's
    to fill in. `common` is the same for all jobs; a row of `rows` has one job's values of the commands in `varying`,
    where an empty value means that this job does not have the command. `travels`: something has to be sent from here.
    """

    common: Mapping[str, str]
    varying: tuple[str, ...]
    count: int
    travels: bool
    max_materialize: int | None = None
    max_idle: int | None = None
    parts: tuple[Part, ...] = field(default=(), repr=False, compare=False)

    def rows(self) -> Iterator[tuple[tuple[str, ...], JobFiles]]:
        """One job after the other; can be asked for again and again."""
        for part in self.parts:
            yield from part.rows(self.varying)


@dataclass(frozen=True)
class Translation:
    """What to submit. With any error among `findings` there are no clusters."""

    clusters: tuple[Cluster, ...]
    findings: tuple[Finding, ...]
    lines: tuple[Line, ...] = ()

    @property
    def jobs(self) -> int:
        """Jobs of all clusters."""
        return sum(c.count for c in self.clusters)


def variable(name: str) -> str:
    """The item variable that carries the value of the varying command, or +Attribute, `name`."""
    return "swarmhpc_my_" + name[1:] if name[0] == "+" else "swarmhpc_" + name


def flat_text(cluster: Cluster) -> str:
    """The text for ``htcondor2.Submit``, without a queue line. A varying command refers to its `variable`."""
    lines = [f"{name} = {value}" for name, value in cluster.common.items()]
    lines += [f"{name} = $({variable(name)})" for name in cluster.varying]
    return "".join(line + "\n" for line in lines)


def translate(description: Description, *, limits: Limits | None, side: SubmitSide, adapt: bool = False) -> Translation:
    """What this pool is given. Never raises; `limits` None leaves out what needs a pool.

    `adapt`: terms of requirements that no executor can ever meet are dropped, each with a note.
    """
    pool = replace(limits or Limits(classes=()), adapt=adapt)
    findings = Findings(description.findings)
    understood = not any(f.code == "would-run-command" for f in description.findings)
    total = description.jobs
    parts: list[Part] = []
    first = 0
    written: set[int] = set()
    for statement in description.statements:
        if not statement.queue.jobs:
            continue
        values = _values(statement)
        world = World(side, pool, statement.place, values, total, understood)
        part = Part(statement, first, world, findings)
        part.survey(findings, written)
        parts.append(part)
        first += statement.queue.jobs
    clusters: list[Cluster] = []
    lines: list[Line] = []
    for number, together in enumerate(_groups(parts, findings)):
        cluster = _cluster(together, findings)
        clusters.append(cluster)
        lines += _lines(together, cluster, number)
    found = findings.sorted(first=description.file)
    return Translation(() if findings.errors else tuple(clusters), found, () if findings.errors else tuple(lines))


def _values(statement: Statement) -> dict[str, Value]:
    """Commands by canonical name, attributes as +Name. HTCondor prefers a command over its other spellings."""
    values: dict[str, Value] = {}
    for key, value in statement.commands.items():
        name = canonical(key)
        if name is not None and (name == key or name not in values):
            values[name] = value
    for variable_name in statement.queue.variables:  # one that is a command gives it its value
        name = canonical(variable_name.lower())
        if name is not None:
            values[name] = Value(f"$({variable_name})", statement.place)
    values.update({"+" + name: value for name, value in statement.attributes.items()})
    return values


def _groups(parts: Iterable[Part], findings: Findings) -> list[list[Part]]:
    """Parts that can be one cluster. Only the universe cannot differ inside of one: HTCondor keeps the first."""
    groups: list[list[Part]] = []
    last: str | None = None
    for part in parts:
        universe = ""
        for entry, differs in part.entries():
            if entry.name == "universe":
                universe = entry.text
                if differs:
                    place = part.world.values[next(n for n in IMAGE if n in part.templates)].place
                    message = "some jobs of this queue statement run in an image and some do not"
                    findings.add(place, "error", "universe", message, "write two queue statements, or two files")
        if last is not None and universe != last:
            message = f"these jobs are a cluster of their own: their universe is {universe}, before it is {last}"
            findings.add(part.world.queue, "note", "several-clusters", message)
        if universe != last:
            groups.append([])
        groups[-1].append(part)
        last = universe
    return groups


def _cluster(parts: Sequence[Part], findings: Findings) -> Cluster:
    texts: dict[str, str] = {}
    varying: dict[str, None] = {}
    for number, part in enumerate(parts):
        mine: dict[str, str] = {}
        for entry, differs in part.entries():
            mine[entry.name] = entry.text
            if differs or (number and texts.get(entry.name, nothing(entry.name)) != entry.text):
                varying[entry.name] = None
        for name in texts.keys() - mine.keys():
            varying[name] = None
        texts = {**texts, **{n: t for n, t in mine.items() if n not in texts}}
    ordered = tuple(n for n in texts if n in varying)
    common = {n: t for n, t in texts.items() if n not in varying}
    travels = any(p.travels for p in parts) or "initialdir" not in common
    asked = [_limit(parts[0], name, travels, findings) for name in ("max_materialize", "max_idle")]
    count = sum(p.queue.jobs for p in parts)
    return Cluster(common, ordered, count, travels, asked[0], asked[1], tuple(parts))


def _limit(part: Part, name: str, travels: bool, findings: Findings) -> int | None:
    """How many jobs HTCondor is to make at a time.

    Only where nothing travels: files are spooled for jobs that exist, and those of a factory do not yet (25.14,
    python-bindings/htcondor2/schedd.cpp, _schedd_submit: a factory hands no job ads to the spooling). max_materialize
    is submitted as max_idle: it counts all jobs in the queue (25.14, qmgmt.cpp, JobMaterializeTimerCallback), and here
    those that have finished stay there until they are fetched, so that no more would ever be made.
    """
    text = part.texts.get(name, "")
    if not text.isdecimal():
        return None
    if travels:
        message = f"{name} is left out: files travel with these jobs, so all of them are put into the queue at once"
        findings.add(part.world.values[name].place, "note", "left-out", message)
        return None
    if name == "max_materialize":
        message = "max_materialize limits the jobs that wait: finished ones stay in the queue until they are fetched"
        findings.add(part.world.values[name].place, "note", "limits-waiting", message)
    return int(text)


def _lines(parts: Sequence[Part], cluster: Cluster, number: int) -> Iterator[Line]:
    done: set[str] = set()
    for part in parts:
        for entry, _ in part.entries():
            if entry.name in done or (not entry.text and entry.name not in part.world.values):
                continue
            done.add(entry.name)
            value = part.world.values.get(entry.source)
            why = entry.why
            if entry.name in cluster.varying:
                why += f"{'; ' if why else ''}differs between the jobs"
            yield Line(entry.name, entry.text, value.place if value else None, why, number)
