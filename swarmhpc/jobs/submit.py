"""From a submit description on this machine to jobs in the pool's queue."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from swarmhpc.adapters import expressions
from swarmhpc.adapters.condor import Pool
from swarmhpc.errors import PoolError, UsageError
from swarmhpc.jobs.description import parse
from swarmhpc.jobs.findings import Finding
from swarmhpc.jobs.machine import sources
from swarmhpc.jobs.requirements import SlotAd
from swarmhpc.jobs.resources import ClassSize, Limits
from swarmhpc.jobs.rule import SubmitSide
from swarmhpc.jobs.translate import Cluster, Translation, flat_text, translate, variable

_MAX_BYTES: Final = 64 * 2**20
_COUNTED: Final = 100_000  # entries of a directory, after which counting ends


class DescriptionError(UsageError):
    """A submit description with mistakes; `findings` has all of them, which the message only counts."""

    def __init__(self, file: str, findings: Sequence[Finding]) -> None:
        errors = sum(f.severity == "error" for f in findings)
        super().__init__(f"{file}: {errors} {'mistakes' if errors > 1 else 'mistake'}", hint=f"swarmhpc check {file}")
        self.findings = tuple(findings)


@dataclass(frozen=True)
class Submitted:
    """A cluster in the queue."""

    cluster: int
    jobs: int


def read(path: Path) -> str:
    """The text of a submit description. Raises UsageError where it can't be read as text."""
    try:
        data = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else None
    except FileNotFoundError as e:
        raise UsageError(f"{path}: there is no such file", hint="swarmhpc submit examples/hosts.sub") from e
    except IsADirectoryError as e:
        raise UsageError(f"{path}: is a folder; wanted a submit description", hint=f"ls {path}/*.sub") from e
    except OSError as e:
        raise UsageError(f"{path}: can't be read ({e.strerror})", hint=f"ls -l {path}") from e
    if data is None:
        raise UsageError(f"{path}: is larger than {_MAX_BYTES // 2**20} MiB; wanted a submit description")
    return decoded(data)


def decoded(data: bytes) -> str:
    """The text of a submit description. What is no UTF-8 is reported by the parser, at its place."""
    return data.decode(errors="surrogateescape")


def submit_side(cwd: Path) -> SubmitSide:
    """This machine's files, as the translation asks about them."""
    return SubmitSide(PurePosixPath(cwd), PurePosixPath(Path.home()), os.path.exists, directory_size, _parses)


def _parses(text: str) -> bool:
    return len(text) > expressions.LONGEST or expressions.ClassAds().parses(text)


def directory_size(path: PurePosixPath) -> tuple[int, int] | None:
    """(files, bytes) below a directory; None for anything else. After 100,000 entries it stops counting."""
    if not Path(path).is_dir():
        return None
    files = size_bytes = seen = 0
    for folder, folders, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                size_bytes += (Path(folder) / name).lstat().st_size
                files += 1
        seen += len(names) + len(folders)
        if seen > _COUNTED:
            break
    return files, size_bytes


NO_POOL = Limits(classes=(), allow_host_network=True)
"""Leaves out what only a pool can judge."""


def prepare(
    path: Path,
    *,
    cwd: Path,
    limits: Limits,
    text: str | None = None,
    overrides: Sequence[str] = (),
    append: Sequence[str] = (),
    adapt: bool = False,
    allow_commands: bool = False,
) -> Translation:
    """Parses and translates the file `path`, or `text` that is called so. Contacts nobody. Raises DescriptionError with
    every mistake."""
    machine = sources(path, cwd, run=allow_commands)
    text = read(path) if text is None else text
    description = parse(text, file=str(path), sources=machine, overrides=overrides, append=append)
    translation = translate(description, limits=limits, side=submit_side(cwd), adapt=adapt)
    if any(f.severity == "error" for f in translation.findings):
        raise DescriptionError(str(path), translation.findings)
    return translation


def limits_of(pool: Pool) -> Limits:
    """The pool's classes and slots, also of classes of which no executor runs just now. Host networking is the access
    point's to refuse. Raises PoolError."""
    sizes = {name: ClassSize(name, cpus, memory_mib, gpus=gpus) for name, cpus, memory_mib, gpus in pool.classes()}
    if not sizes:  # a central manager that has just begun
        for s in pool.slots():
            if s.partitionable and s.class_name:
                sizes[s.class_name] = ClassSize(s.class_name, s.total_cpus, s.total_memory_mib)
    slots = [SlotAd(class_name, text) for class_name, text in pool.slot_texts()]
    like = slots[0].text if slots else None
    for size in sizes.values():
        if not any(slot.class_name == size.name for slot in slots):
            counted = {"GPUs": size.gpus} if size.gpus else {}
            text, unknown = expressions.model_slot(
                like, pool=pool.pool, class_name=size.name, cpus=size.cpus, memory_mib=size.memory_mib, counted=counted
            )
            slots.append(SlotAd(size.name, text, unknown))
    return Limits(tuple(sizes.values()), allow_host_network=True, slots=tuple(slots), classads=expressions.ClassAds())


def submit(pool: Pool, translation: Translation) -> tuple[Submitted, ...]:
    """Puts the jobs into the queue: all of them or none. Rows are made one after the other, never all at once.

    The first and the last column of the item rows are quoted strings: the bindings (25.14.1) take a row that begins
    with `#` or `)` for the end of the items, and one that ends with a backslash for a continued line.

    Where nothing has to travel from here (the command is in the image, no inputs) the jobs go straight into the
    queue. Spooling would hold them for the second that the schedd sleeps after every transfer (25.14, schedd.cpp,
    spoolJobFilesWorkerThread); their results come back the same way.
    """
    done: list[Submitted] = []
    try:
        for cluster in translation.clusters:
            if cluster.travels:
                names = ("swarmhpc_out", *map(variable, cluster.varying), "swarmhpc_err")
                rows = _spooled_rows(cluster)
                number = pool.submit(flat_text(cluster) + _PATHS, names=names, rows=rows, spool=True)
            else:
                names, rows = _direct_names(cluster), _direct_rows(cluster)
                number = pool.submit(_direct(cluster), names=names, rows=rows, spool=False)
            done.append(Submitted(number, cluster.count))
    except BaseException:
        for earlier in done:
            with contextlib.suppress(PoolError):
                pool.remove(f"ClusterId == {earlier.cluster}", "the rest of the description could not be submitted")
        raise
    return tuple(done)


_PATHS = "MY.SwarmHpcOutput = $(swarmhpc_out)\nMY.SwarmHpcError = $(swarmhpc_err)\n"
_FILE_COMMANDS = ("output", "error", "log", "transfer_output_remaps", "initialdir", "leave_in_queue")


def _spooled_rows(cluster: Cluster) -> Iterator[Sequence[str]]:
    for row, files in cluster.rows():
        yield quoted(files.output or ""), *row, quoted(files.error or "")


def _writes(cluster: Cluster, name: str) -> bool:
    return name in cluster.varying or cluster.common.get(name, "/dev/null") not in ("", "/dev/null")


def _direct(cluster: Cluster) -> str:
    """The flat text plus what the schedd would write into the ad of a spooled job (seen in 25.14; tested)."""
    now = int(time.time())
    lines = [f"{name} = {value}" for name, value in cluster.common.items() if name not in _FILE_COMMANDS]
    lines += [f"{name} = $({variable(name)})" for name in cluster.varying if name not in _FILE_COMMANDS]
    lines += [
        # The spool directory as HTCondor names it (25.14, src/condor_utils/spooled_job_files.cpp).
        "swarmhpc_c = $(ClusterId) % 10000",
        "swarmhpc_p = $(ProcId) % 10000",
        'MY.Iwd = "/var/spool/condor/$INT(swarmhpc_c)/$INT(swarmhpc_p)/cluster$(ClusterId).proc$(ProcId).subproc0"',
        f"MY.StageInStart = {now}",
        f"MY.StageInFinish = {now - 1}",
        f"MY.SUBMIT_Iwd = {quoted(cluster.common['initialdir'])}",
        "MY.SUBMIT_TransferOutputRemaps = $(swarmhpc_remaps)",
        # What `condor_submit -spool` sets: stay until fetched, ten days at most.
        "leave_in_queue = JobStatus == 4 && (time() - (CompletionDate ?: time())) < 864000"
        " && (StageOutFinish ?: 0) < EnteredCurrentStatus",
    ]
    if _writes(cluster, "output"):
        lines.append("output = _condor_stdout")
    if _writes(cluster, "error"):
        lines.append("error = _condor_stderr")
    if _writes(cluster, "log"):
        lines += ["MY.UserLog = $(swarmhpc_log)", "MY.SUBMIT_UserLog = $(swarmhpc_submit_log)"]
    asked = [n for n in (cluster.max_materialize, cluster.max_idle) if n is not None]
    if asked:
        lines.append(f"max_idle = {max(1, min(asked))}")  # and no max_materialize: see translate.py, _limit
    return "\n".join(lines) + "\n" + _PATHS


def _direct_names(cluster: Cluster) -> tuple[str, ...]:
    log = ("swarmhpc_log", "swarmhpc_submit_log") if _writes(cluster, "log") else ()
    kept = (variable(n) for n in cluster.varying if n not in _FILE_COMMANDS)
    return ("swarmhpc_remaps", *kept, "swarmhpc_out", *log, "swarmhpc_err")


def _direct_rows(cluster: Cluster) -> Iterator[Sequence[str]]:
    kept = [i for i, name in enumerate(cluster.varying) if name not in _FILE_COMMANDS]
    has_log = _writes(cluster, "log")
    for row, files in cluster.rows():
        remaps = [f"_condor_stdout={files.output}"] if files.output else []
        remaps += [f"_condor_stderr={files.error}"] if files.error else []
        values = [quoted(";".join(remaps)), *[row[i] for i in kept], quoted(files.output or "")]
        if has_log:
            log = files.log
            values += [quoted(PurePosixPath(log).name), quoted(log)] if log else ["undefined", "undefined"]
        values.append(quoted(files.error or ""))
        yield values


def quoted(text: str) -> str:
    """A ClassAd string literal in submit language: $(Cluster) is HTCondor's to fill in, any other `$` stays one."""
    kept = re.sub(r"\$(?!\((?:Cluster|DOLLAR)\))(?=[A-Za-z0-9_]*\()", "$(DOLLAR)", text)
    escaped = kept.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped + '"'
