"""From a submit description on this machine to jobs in the pool's queue."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from swarmhpc.adapters.condor import Pool
from swarmhpc.errors import PoolError, UsageError
from swarmhpc.jobs.description import parse
from swarmhpc.jobs.findings import Finding
from swarmhpc.jobs.translate import ClassSize, JobFiles, Limits, SubmitSide, Translation, flat_text, translate, variable

_MAX_BYTES = 64 * 2**20


class DescriptionError(UsageError):
    """A submit description with mistakes; `findings` has all of them."""

    def __init__(self, file: str, findings: Sequence[Finding]) -> None:
        errors = [f for f in findings if f.severity == "error"]
        lines = [line(f) for f in errors]
        super().__init__(f"{file}: {len(errors)} {'mistakes' if len(errors) > 1 else 'mistake'}\n" + "\n".join(lines))
        self.findings = tuple(findings)


@dataclass(frozen=True)
class Submitted:
    """A cluster in the queue."""

    cluster: int
    jobs: int
    files: tuple[JobFiles, ...]


def line(f: Finding) -> str:
    """A finding as `file:line:column: severity: message [code]`, with its hint on a line of its own."""
    hint = f"\n    {f.hint}" if f.hint else ""
    return f"{f.place.file}:{f.place.line}:{f.place.column}: {f.severity}: {f.message} [{f.code}]{hint}"


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
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        where = data[: e.start].count(b"\n") + 1
        raise UsageError(f"{path}:{where}: is not UTF-8 text; wanted a submit description", hint=f"file {path}") from e


NO_POOL = Limits(classes=(), allow_host_network=True)
"""Leaves out what only a pool can judge."""


def prepare(path: Path, *, cwd: Path, limits: Limits) -> Translation:
    """Parses and translates. Contacts nobody. Raises DescriptionError with every mistake."""
    description = parse(read(path), file=str(path))
    side = SubmitSide(PurePosixPath(cwd), PurePosixPath(Path.home()), lambda p: Path(p).exists())
    translation = translate(description, limits=limits, side=side)
    if any(f.severity == "error" for f in translation.findings):
        raise DescriptionError(str(path), translation.findings)
    return translation


def limits_of(pool: Pool) -> Limits:
    """The pool's classes, also those of which no executor runs just now. Host networking is the access point's to
    refuse. Raises PoolError."""
    sizes = {name: ClassSize(name, cpus, memory_mib, gpus=gpus) for name, cpus, memory_mib, gpus in pool.classes()}
    if not sizes:  # a central manager that has just begun
        for s in pool.slots():
            if s.partitionable and s.class_name:
                sizes[s.class_name] = ClassSize(s.class_name, s.total_cpus, s.total_memory_mib)
    return Limits(classes=tuple(sizes.values()), allow_host_network=True)


def submit(pool: Pool, translation: Translation) -> Submitted:
    """Puts the jobs into the queue: all of them or none.

    The first and the last column of the item rows are quoted strings: the bindings (25.14.1) take a row that begins
    with `#` or `)` for the end of the items, and one that ends with a backslash for a continued line.

    Where nothing has to travel from here (the command is in the image, no inputs) the jobs go straight into the
    queue. Spooling would hold them for the second that the schedd sleeps after every transfer (25.14, schedd.cpp,
    spoolJobFilesWorkerThread); their results come back the same way.
    """
    if _nothing_travels(translation):
        cluster = pool.submit(_direct(translation), count=1, rows=_direct_rows(translation), spool=False)
    else:
        rows = [
            {
                "swarmhpc_out": _quoted(files.output or ""),
                **{variable(n): v for n, v in zip(translation.varying, row, strict=True)},
                "swarmhpc_err": _quoted(files.error or ""),
            }
            for row, files in zip(translation.rows, translation.jobs, strict=True)
        ]
        cluster = pool.submit(flat_text(translation) + _PATHS, count=1, rows=rows, spool=True)
    return Submitted(cluster, len(translation.jobs), translation.jobs)


_PATHS = "MY.SwarmHpcOutput = $(swarmhpc_out)\nMY.SwarmHpcError = $(swarmhpc_err)\n"
_FILE_COMMANDS = ("output", "error", "log", "transfer_output_remaps", "initialdir", "leave_in_queue")


def _nothing_travels(t: Translation) -> bool:
    plain = all(
        not files.inputs and not any(c in (path or "") for c in ";=\\\n" for path in (files.output, files.error))
        for files in t.jobs
    )
    remaps = "transfer_output_remaps" in t.common or "transfer_output_remaps" in t.varying
    carries = t.common.get("transfer_executable", "true").lower() != "false" and "executable" in {*t.common, *t.varying}
    same_folder = "initialdir" in t.common
    return plain and not remaps and not carries and same_folder


def _direct(t: Translation) -> str:
    """The flat text plus what the schedd would write into the ad of a spooled job (seen in 25.14; tested)."""
    common = {k: v for k, v in t.common.items() if k not in _FILE_COMMANDS}
    varying = [(n, i) for i, n in enumerate(t.varying) if n not in _FILE_COMMANDS]
    kept = Translation(
        common, tuple(n for n, _ in varying), tuple(tuple(r[i] for _, i in varying) for r in t.rows), t.jobs, ()
    )
    now = int(time.time())
    lines = [
        flat_text(kept).rstrip("\n"),
        # The spool directory as HTCondor names it (25.14, src/condor_utils/spooled_job_files.cpp).
        "swarmhpc_c = $(ClusterId) % 10000",
        "swarmhpc_p = $(ProcId) % 10000",
        'MY.Iwd = "/var/spool/condor/$INT(swarmhpc_c)/$INT(swarmhpc_p)/cluster$(ClusterId).proc$(ProcId).subproc0"',
        f"MY.StageInStart = {now}",
        f"MY.StageInFinish = {now - 1}",
        f"MY.SUBMIT_Iwd = {_quoted(t.common['initialdir'])}",
        "MY.SUBMIT_TransferOutputRemaps = $(swarmhpc_remaps)",
        # What `condor_submit -spool` sets: stay until fetched, ten days at most.
        "leave_in_queue = JobStatus == 4 && (time() - (CompletionDate ?: time())) < 864000"
        " && (StageOutFinish ?: 0) < EnteredCurrentStatus",
    ]
    if any(files.output for files in t.jobs):
        lines.append("output = _condor_stdout")
    if any(files.error for files in t.jobs):
        lines.append("error = _condor_stderr")
    if any(files.log for files in t.jobs):
        lines += ["MY.UserLog = $(swarmhpc_log)", "MY.SUBMIT_UserLog = $(swarmhpc_submit_log)"]
    return "\n".join(lines) + "\n" + _PATHS


def _direct_rows(t: Translation) -> list[Mapping[str, str]]:
    rows: list[Mapping[str, str]] = []
    for row, files in zip(t.rows, t.jobs, strict=True):
        remaps = [f"_condor_stdout={files.output}"] if files.output else []
        remaps += [f"_condor_stderr={files.error}"] if files.error else []
        values = {"swarmhpc_remaps": _quoted(";".join(remaps))}
        values.update({variable(n): v for n, v in zip(t.varying, row, strict=True) if n not in _FILE_COMMANDS})
        values["swarmhpc_out"] = _quoted(files.output or "")
        values["swarmhpc_err"] = _quoted(files.error or "")
        if files.log:
            values["swarmhpc_log"] = _quoted(PurePosixPath(files.log).name)
            values["swarmhpc_submit_log"] = _quoted(files.log)
        rows.append(values)
    return rows


def _quoted(text: str) -> str:
    """A ClassAd string literal in submit language: $(Cluster) is HTCondor's to fill in, any other `$` stays one."""
    kept = re.sub(r"\$(?!\((?:Cluster|DOLLAR)\))(?=[A-Za-z0-9_]*\()", "$(DOLLAR)", text)
    escaped = kept.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped + '"'


def own(pool: Pool, person: str, job: str) -> str:
    """A constraint for a job or cluster id of this person. Raises UsageError for what is no id."""
    cluster, dot, process = job.partition(".")
    if not cluster.isdigit() or (dot and not process.isdigit()):
        raise UsageError(f"{job!r} is no job; wanted a cluster like 12 or a job like 12.0", hint="swarmhpc q")
    constraint = f"ClusterId == {int(cluster)}" + (f" && ProcId == {int(process)}" if dot else "")
    found = pool.jobs(constraint)
    if not found:
        raise PoolError(
            f"job {job} is not in the queue (never was, or was fetched or removed already)", hint="swarmhpc q"
        )
    others = {j.owner for j in found} - {person}
    if others:
        raise UsageError(f"job {job} belongs to {', '.join(sorted(others))}, not to {person}", hint="swarmhpc q")
    return constraint
