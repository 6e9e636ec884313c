"""What a DAG is sent as: descriptions that DAGMan reads, a plan, and the files it needs, each at its own place.

In the access point the DAG's job has a directory of its own (images/pool/dagman): `tree/` mirrors this machine's
folders as far as the DAG needs them, so that every path, relative or absolute, means there what it means here; `dag/`
holds what was generated. DAGMan and the nodes never leave `tree/`.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from swarmhpc.jobs.submit import quoted
from swarmhpc.jobs.translate import Cluster, variable

COMMAND: Final = "/usr/local/lib/swarmhpc/dagman"
_TREE: Final = "/tree"
_DAG: Final = "/dag"
_LISTS: Final = ("transfer_input_files",)
_PATHS: Final = ("executable", "input", "output", "error", "log")
_LIST_BEGIN: Final = re.compile(r"(^\"?|[,\s])/")
_REMAP_BEGIN: Final = re.compile(r"(=\s*)/")
_REMAPPED: Final = re.compile(r"=\s*([^;\"]+)")
_END: Final = "@SWARMHPC"
# As condor_submit_dag writes it (25.14): DAGMan begins again after a crash or a restart of the access point.
_STAYS_UNTIL: Final = "(ExitSignal =?= 11 || (ExitCode =!= UNDEFINED && ExitCode >= 0 && ExitCode <= 2))"


def inside(path: str, folder: str) -> str:
    """How a path of this machine is written in the sandbox by what runs in `folder`; both absolute here."""
    return posixpath.relpath(_TREE + path, _TREE + folder)


def generated(name: str, folder: str) -> str:
    """How `dag/NAME` is written in the sandbox by what runs in `folder`, absolute here."""
    return posixpath.relpath(f"{_DAG}/{name}", _TREE + folder)


def description(cluster: Cluster, folder: str, runtime: Mapping[str, str]) -> str:
    """An inline description of a node that is a whole cluster; its paths start from `folder`.

    `runtime`: the macro that only DAGMan knows, for each word that stands for one.
    """
    head, items = parts(cluster, folder)
    text = described(head, items)
    for stand_in, macro in runtime.items():
        text = text.replace(stand_in, macro)
    return text


def described(head: str, items: Sequence[str]) -> str:
    """A description from what `parts` gave, of some of its items."""
    return head + "".join(f"{item}\n" for item in items) + ")\n"


def parts(cluster: Cluster, folder: str) -> tuple[str, list[str]]:
    """The head of a description, up to its queue statement, and an item a job."""
    names = [*cluster.varying]
    if "initialdir" in names:  # then where an absolute path leads differs, too
        names += [n for n in (*_PATHS, *_LISTS, "transfer_output_remaps") if n in cluster.common]
    initial = cluster.common.get("initialdir", folder)
    moved = ((n, _moved(n, v, initial, folder, cluster.common)) for n, v in cluster.common.items() if n not in names)
    lines = [f"{n} = {v}" for n, v in moved if (n, v) != ("initialdir", ".")]
    lines += [f"{n} = $({variable(n)})" for n in names]
    lines += ["MY.SwarmHpcOutput = $(swarmhpc_out)", "MY.SwarmHpcError = $(swarmhpc_err)"]
    items = []
    for row, files in cluster.rows():
        values = {**cluster.common, **dict(zip(cluster.varying, row, strict=True))}
        mine = [_moved(n, values[n], values["initialdir"], folder, values) for n in names]
        items.append("\x1f".join([quoted(files.output or ""), *mine, quoted(files.error or "")]))
    columns = ",".join(["swarmhpc_out", *(variable(n) for n in names), "swarmhpc_err"])
    return "\n".join([*lines, f"queue {columns} from (", ""]), items


def _moved(name: str, value: str, initial: str, folder: str, values: Mapping[str, str]) -> str:
    """The value of a command with absolute paths of this machine as those of the sandbox."""
    up = inside("/", initial) + "/"
    if name == "initialdir":
        return inside(value, folder)
    if name in _PATHS and value[:1] == "/" and value != "/dev/null":
        stays = name == "executable" and values.get("transfer_executable", "").lower() == "false"
        return value if stays else up + value[1:]
    if name in _LISTS:
        return _LIST_BEGIN.sub(lambda m: m[1] + up, value)
    if name == "transfer_output_remaps":
        return _REMAP_BEGIN.sub(lambda m: m[1] + up, value)
    return value


def node(keyword: str, name: str, text: str, options: str = "") -> str:
    """The lines of a node with an inline description."""
    return f"{keyword} {name} @={_END[1:]}\n{text}{_END}{' ' + options if options else ''}\n"


@dataclass
class Box:
    """All that is sent for one DAG."""

    cwd: str
    dag: str = ""  # as DAGMan is told, from cwd
    status: str = ""
    texts: dict[str, str] = field(default_factory=dict)  # generated files, by their path in the sandbox
    sends: set[str] = field(default_factory=set)  # files and directories of this machine, absolute
    folders: set[str] = field(default_factory=set)  # that must be there, with what is sent in them
    plan: dict[str, Any] = field(default_factory=dict)

    def take(self, cluster: Cluster) -> None:
        """Everything of this machine that the jobs of a cluster read, and the folders that they write to."""
        folders: set[str] = set()
        for row, files in cluster.rows():
            self.sends.update(posixpath.normpath(p) for p in files.inputs if Path(p).exists())
            folders.update(posixpath.dirname(p) for p in (files.output, files.error, files.log) if p)
            values = {**cluster.common, **dict(zip(cluster.varying, row, strict=True))}
            initial = values.get("initialdir", self.cwd)
            folders.add(initial)
            for target in _REMAPPED.findall(values.get("transfer_output_remaps", "")):
                folders.add(posixpath.dirname(posixpath.join(initial, target.strip())))
        self.folders.update(posixpath.normpath(f) for f in folders if Path(f).is_dir())

    def write(self, folder: Path) -> None:
        """Lays it all out below `folder`. Files of this machine are links: nothing is copied."""
        (folder / "dag").mkdir(parents=True)
        for path in sorted({self.cwd, *self.folders}):
            (folder / "tree" / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for path in sorted(self.sends):
            for one in _files_of(path):
                target = folder / "tree" / one.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.is_symlink() and not target.exists():
                    target.symlink_to(one)
        for name, text in self.texts.items():
            target = folder / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.write_text(text, errors="surrogateescape")
            if text.startswith("#!"):
                target.chmod(0o755)
        plan = {"cwd": self.cwd, "dag": self.dag, "status": self.status, **self.plan}
        (folder / "dag" / "plan.json").write_text(json.dumps(plan))

    def job(self, folder: Path, *, log: str, batch_name: str, lines: Sequence[str]) -> str:
        """The description of the job that is the DAG; `log`: absolute, or empty."""
        return "\n".join(
            [
                "universe = scheduler",
                f"executable = {COMMAND}",
                "transfer_executable = false",
                "getenv = false",
                f"initialdir = {self.cwd}",
                "output = /dev/null",
                "error = /dev/null",
                *([f"log = {log}"] if log else []),
                *([f"batch_name = {batch_name}"] if batch_name else []),
                "remove_kill_sig = SIGUSR1",
                'MY.OtherJobRemoveRequirements = "DAGManJobId =?= $(Cluster)"',
                f"on_exit_remove = {_STAYS_UNTIL}",
                "should_transfer_files = YES",
                "when_to_transfer_output = ON_EXIT",
                f"transfer_input_files = {folder}/",
                "transfer_output_files = out",
                'transfer_output_remaps = "out=/"',
                "notification = never",
                *lines,
                "",
            ]
        )


def _files_of(path: str) -> list[str]:
    if not Path(path).is_dir():
        return [path]
    return [posixpath.join(at, name) for at, _, names in os.walk(path) for name in names]
