"""From a DAG file on this machine to a DAG in the pool's queue, every node's description through the translator."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Final

from swarmhpc.adapters.condor import Pool
from swarmhpc.errors import UsageError
from swarmhpc.jobs import dag_box, dag_file, dag_nodes
from swarmhpc.jobs import submit as wing
from swarmhpc.jobs.assignments import APPENDED, COMMAND_LINE
from swarmhpc.jobs.dag_model import ALL, Command, Dag, Node, Other, Script, Splice, Variable
from swarmhpc.jobs.description import parse
from swarmhpc.jobs.findings import Finding, Findings
from swarmhpc.jobs.machine import sources
from swarmhpc.jobs.resources import Limits
from swarmhpc.jobs.translate import Translation, translate

_RESCUE: Final = re.compile(r"\.rescue\d{3}$")
_TOP_ONLY: Final = ("CONFIG", "SET_JOB_ATTR", "ENV")
# Macros that DAGMan gives a node when it submits it (25.14, dagman_submit.cpp, InitVars): a word of ours stands for
# each while we translate, and becomes the macro again.
_RUNTIME: Final = {
    name: f"swarmhpc0{name.lower().replace('_', '0')}0"
    for name in ("RETRY", "DAG_STATUS", "FAILED_COUNT", "DAG_PARENT_NAMES", "DAGManJobId")
}
_BACK: Final = {word: f"$({name})" for name, word in _RUNTIME.items()}
_REMEMBERED: Final = 10_000

Remember = Callable[[str, str], str]
"""Keeps a text that findings point into, by the name of its file, and returns it."""


@dataclass(frozen=True)
class Workflow:
    """A DAG, ready to be sent. With an error among `findings` there is nothing to send."""

    file: str
    graph: dag_nodes.Graph
    box: dag_box.Box = field(repr=False)
    findings: tuple[Finding, ...] = field(repr=False)
    lines: tuple[str, ...] = ()  # for the DAG's own job
    batch_name: str = ""
    rescue: str = ""  # the file that it resumes from
    done: int = 0  # nodes that are done according to that

    @property
    def has_errors(self) -> bool:
        """True when this must not be submitted."""
        return any(f.severity == "error" for f in self.findings)


def is_dag(file: str | Path) -> bool:
    """Whether a file is read as a DAG: by its name."""
    return str(file).lower().endswith((".dag", ".dagman"))


def read(
    path: Path,
    *,
    cwd: Path,
    limits: Limits | None,
    overrides: Sequence[str] = (),
    append: Sequence[str] = (),
    adapt: bool = False,
    allow_commands: bool = False,
    resume: bool = True,
    remember: Remember = lambda _, text: text,
    pin: Callable[[Translation], Translation] = lambda t: t,
) -> Workflow:
    """Reads a DAG file and all that it names, and translates each node. Contacts nobody; mistakes are findings.

    `overrides` and `append` go to every node's description. `pin` is asked about each translation.
    """
    reader = _Reader(cwd, limits, tuple(overrides), tuple(append), adapt, allow_commands, remember, pin)
    return reader.workflow(path, resume=resume)


def submit(
    pool: Pool,
    path: Path,
    *,
    resume: bool = True,
    workflow: Workflow | None = None,
    after: Sequence[str] = (),
    on: str = "success",
) -> tuple[wing.Submitted]:
    """Puts a DAG into the queue; `jobs` of what comes back counts its nodes. Raises DescriptionError.

    `workflow`: what `read` gave, where it was read already. `after`, `on`: the whole of it waits for these jobs.
    """
    if workflow is None:
        workflow = read(path, cwd=Path.cwd(), limits=wing.limits_of(pool), resume=resume)
    if workflow.has_errors:
        raise wing.DescriptionError(str(path), workflow.findings)
    if after:
        workflow.box.plan["after"] = {"on": on, "gates": {"dag": list(after)}}
    log = posixpath.join(str(workflow.box.cwd), f"{workflow.file}.dagman.log")
    cluster = send(pool, workflow.box, workflow.graph, log=log, lines=workflow.lines, batch_name=workflow.batch_name)
    if not resume:
        for old in rescue_files(Path(workflow.file)):
            old.rename(old.with_name(old.name + ".old"))  # as condor_submit_dag -force does
    return (wing.Submitted(cluster, len(workflow.graph.names)),)


def send(
    pool: Pool, box: dag_box.Box, graph: dag_nodes.Graph, *, log: str, lines: Sequence[str] = (), batch_name: str = ""
) -> int:
    """Sends a DAG's files and puts its job into the queue; its cluster. Raises PoolError."""
    box.plan["nodes"] = list(graph.names)
    if batch_name:
        box.plan["batch_name"] = batch_name
    told = [f"MY.{name} = {wing.quoted(text)}" for name, text in graph.attributes().items()]
    with tempfile.TemporaryDirectory(prefix="swarmhpc-dag-") as folder:
        box.write(Path(folder))
        text = box.job(Path(folder), log=log, batch_name=batch_name, lines=[*lines, *told])
        return pool.submit(text, names=["swarmhpc_first"], rows=[["x"]], spool=True)


def rescue_files(path: Path) -> list[Path]:
    """The rescue files of a DAG file, the newest last."""
    found = path.parent.glob(f"{path.name}.rescue[0-9][0-9][0-9]") if path.parent.is_dir() else []
    return sorted(p for p in found if _RESCUE.search(p.name))


class _Reader:
    def __init__(
        self,
        cwd: Path,
        limits: Limits | None,
        overrides: tuple[str, ...],
        append: tuple[str, ...],
        adapt: bool,
        allow_commands: bool,
        remember: Remember,
        pin: Callable[[Translation], Translation],
    ) -> None:
        self.cwd, self.limits, self.overrides, self.append = cwd, limits, overrides, append
        self.adapt, self.allow_commands, self.remember, self.pin = adapt, allow_commands, remember, pin
        self.findings = Findings()
        self.box = dag_box.Box(str(cwd))
        self.known: dict[object, Translation] = {}
        self.texts: dict[str, str] = {}
        self.subdags: set[str] = set()

    def workflow(self, path: Path, *, resume: bool) -> Workflow:
        text = self.remember(str(path), wing.read(path))
        folder = str(self.cwd)
        dag = dag_file.read(text, file=str(path), folder=folder, findings=self.findings, reading=self.file_text)
        graph = dag_nodes.graph(dag, self.findings)
        whole = posixpath.normpath(posixpath.join(folder, str(path)))
        box = self.box
        box.dag = dag_box.inside(whole, folder)
        box.folders.add(posixpath.dirname(whole))
        lines: list[str] = []
        rescued = rescue_files(path) if resume else []
        if not self.findings.errors:
            made = self.dag_text(dag, "", graph.parents())
            own = [c for c in dag.commands if isinstance(c, Other) and c.keyword == "NODE_STATUS_FILE"]
            box.status = own[0].text.split()[1].strip("\"'") if own else dag_box.generated("status", folder)
            if not own:
                made += f"NODE_STATUS_FILE {box.status} 1\n"
            box.texts["tree" + whole] = made
            box.sends.update(posixpath.join(folder, str(p)) for p in rescued)
            lines = self.top(dag)
        done = 0
        if rescued:
            done = sum(line.startswith("DONE ") for line in rescued[-1].read_text(errors="replace").splitlines())
        return Workflow(
            str(path), graph, box, self.findings.sorted(str(path)), tuple(lines), f"{path.name}+$(Cluster)",
            rescued[-1].name if rescued else "", done,
        )  # fmt: skip

    def top(self, dag: Dag) -> list[str]:
        """What is said about the DAG's own job and DAGMan."""
        environment = {n: os.environ[n] for n in dag.get_env if n in os.environ}
        for words in dag.set_env:
            parts = shlex.split(words.replace(";", " ")) if words else []
            environment.update({n: v for n, sign, v in (p.partition("=") for p in parts) if sign})
        self.box.plan["environment"] = environment
        if dag.config is not None:
            self.send(dag.config)
            self.box.plan["config"] = dag.config
        return [f"MY.{line.strip().removeprefix('+').removeprefix('MY.')}" for line, _ in dag.attributes]

    # -- files of this machine --------------------------------------------------------------------------------------

    def file_text(self, path: str) -> str:
        if path not in self.texts:
            self.texts[path] = wing.decoded(Path(path).read_bytes())
            self.remember(self.shown(path), self.texts[path])
        return self.texts[path]

    def shown(self, path: str) -> str:
        relative = posixpath.relpath(path, str(self.cwd))
        return path if relative.startswith("..") else relative

    def send(self, path: str) -> None:
        path = posixpath.normpath(path)
        if Path(path).exists():
            self.box.sends.add(path)

    # -- DAG files as DAGMan reads them in the sandbox --------------------------------------------------------------

    def dag_text(self, dag: Dag, prefix: str, parents: dict[str, set[str]], *, is_sub: bool = False) -> str:
        return "".join(self.command(c, dag, prefix, parents, is_sub=is_sub) for c in dag.commands)

    def command(self, c: Command, dag: Dag, prefix: str, parents: dict[str, set[str]], *, is_sub: bool) -> str:
        if isinstance(c, Node):
            return self.node(c, dag, prefix, parents)
        if isinstance(c, Splice):
            self.box.folders.add(c.dag.folder)
            name = f"splice{sum(t.startswith('dag/splice') for t in self.box.texts)}.dag"
            self.box.texts[f"dag/{name}"] = ""  # keeps the number, also while splices inside of it are written
            self.box.texts[f"dag/{name}"] = self.dag_text(c.dag, f"{prefix}{c.name}+", parents)
            where = f" DIR {_word(_relative(c.directory, dag.folder))}" if c.directory else ""
            return f"SPLICE {c.name} {_word(dag_box.generated(name, c.dag.folder))}{where}\n"
        if isinstance(c, Script):
            return self.script(c, dag)
        if c.keyword in _TOP_ONLY and not is_sub:
            return ""
        if c.keyword == "CONFIG" and dag.config is not None:
            self.send(dag.config)
            return f"CONFIG {_word(dag_box.inside(dag.config, dag.folder))}\n"
        return c.text + "\n"

    def script(self, script: Script, dag: Dag) -> str:
        nodes = [n for n in dag.nodes.values() if script.node in (n.name, ALL)]
        words = script.command.text.split()
        for node in nodes:
            for number, word in enumerate(words):
                path = posixpath.join(node.folder, word)
                if Path(path).is_file() and (number == 0 or posixpath.isabs(word) is False):
                    if number or not _is_of_access_point(path):
                        self.send(path)
                    if number == 0 and not os.access(path, os.X_OK):
                        message = f"{word} is not executable"
                        self.findings.add(script.command.place, "error", "script", message, f"chmod +x {path}")
                elif number == 0 and not _is_of_access_point(path):
                    message = f"script {word}: there is no such file here ({path})"
                    self.findings.add(script.command.place, "error", "no-such-file", message, "check the path")
            if words[0][0] == "/" and not _is_of_access_point(words[0]):
                words[0] = dag_box.inside(words[0], node.folder)
        options = f"{script.options} " if script.options else ""
        rest = script.command.text.split(maxsplit=1)[1:]
        return f"SCRIPT {options}{script.when} {script.node} {' '.join([words[0], *rest])}\n"

    # -- nodes ------------------------------------------------------------------------------------------------------

    def node(self, node: Node, dag: Dag, prefix: str, parents: dict[str, set[str]]) -> str:
        box = self.box
        box.folders.add(node.folder)
        options = [f"DIR {_word(_relative(node.directory, dag.folder))}"] if node.directory else []
        options += ["NOOP"] * node.is_noop + ["DONE"] * node.is_done
        end = " ".join(options)
        if node.kind == "SUBDAG":
            return f"SUBDAG EXTERNAL {node.name} {_word(self.subdag(node, dag))} {end}".rstrip() + "\n"
        if node.is_noop:
            return dag_box.node(node.kind, node.name, "executable = /bin/true\nqueue\n", end)
        is_later = bool(parents.get(prefix + node.name)) or any(s.when == "PRE" for s in dag.scripts(node.name))
        translation = self.translation(node, dag, prefix + node.name, is_later=is_later)
        if translation is None:
            return f"{node.kind} {node.name} {_word(_relative(node.file or '', node.folder))} {end}".rstrip() + "\n"
        if not translation.clusters:
            return ""  # it has an error
        if len(translation.clusters) > 1:
            message = f"node {node.name} has jobs with an image and jobs without one; a node is one cluster"
            self.findings.add(node.place, "error", "several-clusters", message, "make two nodes of it")
            return ""
        cluster = translation.clusters[0]
        if cluster.max_idle is not None or cluster.max_materialize is not None:
            message = f"max_idle and max_materialize of node {node.name} are left out: its jobs are submitted at once"
            self.findings.add(
                node.place, "note", "left-out", message, "MAXJOBS limits nodes, DAGMAN_MAX_JOBS_IDLE jobs"
            )
        box.take(cluster)
        return dag_box.node(node.kind, node.name, dag_box.description(cluster, node.folder, _BACK), end)

    def subdag(self, node: Node, dag: Dag) -> str:
        """Translates the DAG of a SUBDAG; how its file is written in the sandbox."""
        path = posixpath.normpath(posixpath.join(node.folder, node.file or ""))
        name = self.shown(path)
        if not Path(path).exists():
            if any(s.when == "PRE" for s in dag.scripts(node.name)):
                message = f"{node.file} is not here yet: its nodes go to HTCondor as they are"
                self.findings.add(node.place, "warning", "made-later", message)
            else:
                message = f"{node.file}: there is no such file ({path})"
                self.findings.add(node.place, "error", "no-such-file", message, "check the path")
        elif path not in self.subdags:
            self.subdags.add(path)  # also ends a circle, which DAGMan would run for ever
            text = self.file_text(path)
            inner = dag_file.read(
                text, file=name, folder=node.folder, findings=self.findings, reading=self.file_text
            )  # fmt: skip
            graph = dag_nodes.graph(inner, self.findings)
            if not self.findings.errors:
                self.box.texts["tree" + path] = self.dag_text(inner, "", graph.parents(), is_sub=True)
            for rescue in rescue_files(Path(path)):
                self.send(str(rescue))
        return dag_box.inside(path, node.folder)

    def translation(self, node: Node, dag: Dag, name: str, *, is_later: bool) -> Translation | None:
        """None where the description is made later, by the node's PRE script or an earlier node."""
        path = posixpath.join(node.folder, node.file or "")
        if node.file is None:
            text, file = node.inline, dag.file
        else:
            try:
                text, file = self.file_text(path), self.shown(path)
            except OSError as e:
                if isinstance(e, FileNotFoundError) and is_later:
                    message = f"{node.file} is not here yet: it goes to HTCondor as it is"
                    self.findings.add(node.place, "warning", "made-later", message)
                    return None
                message = f"the description {node.file} of node {node.name} can't be read: {e.strerror} ({path})"
                self.findings.add(node.place, "error", "no-such-file", message, "check the path")
                return Translation((), ())
        mine = [v for v in dag.variables if v.node == node.name or v.node.upper() == ALL]
        said = text + "".join(v.value for v in mine)
        given = [f"{n}={w}" for n, w in {**_RUNTIME, "JOB": name}.items() if re.search(rf"\$\({n}\b", said, re.I)]
        given += [f"{_key(v)}={v.value}" for v in mine if not v.append]
        append = [f"{_key(v)} = {v.value}" for v in mine if v.append]
        key = (file, text if node.file is None else "", node.folder, tuple(given), tuple(append), is_later)
        if key not in self.known:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            self.known[key] = self.translated(text, file, node, given, append, mine, is_later=is_later)
        return self.known[key]

    def translated(
        self,
        text: str,
        file: str,
        node: Node,
        given: list[str],
        append: list[str],
        mine: list[Variable],
        *,
        is_later: bool,
    ) -> Translation:
        folder = Path(node.folder)
        machine = sources(Path(file), folder, run=self.allow_commands)
        reading = machine.read
        machine = replace(machine, read=lambda name: self.remember(name, reading(name)))
        description = parse(text, file=file, sources=machine, overrides=[*given, *self.overrides],
                            append=[*append, *self.append])  # fmt: skip
        side = wing.submit_side(folder)
        if is_later:  # what an earlier node or a script makes is not here yet
            side = replace(side, exists=lambda _: True)
        translation = translate(description, limits=self.limits, side=side, adapt=self.adapt)
        for f in map(_readable, translation.findings):
            if f.place.file not in (COMMAND_LINE, APPENDED):
                self.findings.add(f.place, f.severity, f.code, f.message, f.hint)
            elif f.code != "unknown-command" and mine:  # where VARS stands
                self.findings.add(mine[0].place, f.severity, f.code, f.message, f.hint)
            elif f.severity == "error":
                self.findings.add(f.place, f.severity, f.code, f.message, f.hint)
        return self.pin(translation) if translation.clusters else translation


def _readable(finding: Finding) -> Finding:
    message = finding.message
    for word, macro in _BACK.items():
        message = message.replace(word, macro)
    return replace(finding, message=message)


def _key(variable: Variable) -> str:
    return "MY." + variable.name[1:] if variable.name[0] == "+" else variable.name


def _relative(path: str, folder: str) -> str:
    """A path as it is written in the sandbox: relative ones as they are."""
    return dag_box.inside(path, folder) if path[:1] == "/" else path


def _is_of_access_point(path: str) -> bool:
    """A program that the access point has, too."""
    return PurePosixPath(path).is_relative_to("/bin") or PurePosixPath(path).is_relative_to("/usr/bin")


def _word(text: str) -> str:
    """A file's name as one word of a DAG file."""
    if not re.search(r"[\s\"'\\]", text):
        return text
    if "\n" in text:
        raise UsageError(f"{text!r}: a DAG can't name a file with a line break", hint="rename it")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
