"""Changing what waiting or held jobs ask for, by the rules that `submit` has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.job_ads import STATUS
from swarmhpc.errors import UsageError
from swarmhpc.jobs import submit
from swarmhpc.jobs.requirement_terms import terms
from swarmhpc.jobs.requirements import judge
from swarmhpc.jobs.resources import REQUESTS, Limits, too_large
from swarmhpc.jobs.select import checked, of_jobs, quoted

_SIZES: Final = {
    "cpus": ("RequestCpus", "request_cpus"),
    "memory": ("RequestMemory", "request_memory"),
    "disk": ("RequestDisk", "request_disk"),
}
KEYS: Final = (*_SIZES, "gpus", "priority", "requirements", "class_name")
_MOST: Final = 2**31 - 1

_OWN_TERM: Final = re.compile(
    r"\(*\s*(TARGET\.(Arch|OpSys|HasDocker\w*|HasContainer|HasFileTransfer\w*|HasTransferInputRemaps|FileSystemDomain"
    r"|UidDomain|HasPerFileEncryption|Memory|Disk|Cpus|GPUs)\b|versionGE\(split\(TARGET\.CondorVersion\))"
)
"""Terms that HTCondor adds to everybody's requirements (25.14, submit_utils.cpp, SetRequirements)."""
_CLASS_TERM: Final = re.compile(r"\(*\s*(TARGET\.)?SwarmHpcClass\s*(==|=\?=)\s*\"[^\"]*\"\s*\)*", re.IGNORECASE)


WAITING: Final = "(JobStatus == 1 || JobStatus == 5)"


@dataclass(frozen=True)
class _Alike:
    """Jobs that ask for the same."""

    cpus: int
    memory_mib: int
    requirements: str
    ids: tuple[tuple[int, int], ...]


def edit(pool: Pool, constraint: str, changes: Mapping[str, str]) -> int:
    """Changes jobs in the queue that satisfy an expression of ours; how many. `changes`: KEYS and their values as
    people write them ("2", "2GiB"). Raises UsageError, and then nothing is changed: a value that is none, more than any
    executor has, requirements that none can meet, a job that has begun or ended."""
    if unknown := changes.keys() - set(KEYS):
        raise UsageError(f"{min(unknown)!r} can't be edited; wanted one of {', '.join(KEYS)}")
    if not changes:
        raise UsageError("nothing is to be changed", hint="swarmhpc edit 12 --memory 2GiB")
    new = {command: _size(key, changes[key]) for key, (_, command) in _SIZES.items() if key in changes}
    plain = {_SIZES[key][0]: new[command] for key, (_, command) in _SIZES.items() if command in new}
    if "gpus" in changes:
        plain["RequestGPUs"] = _number("gpus", changes["gpus"], least=0)
    if "priority" in changes:
        plain["JobPrio"] = _number("priority", changes["priority"], least=-_MOST)
    wanted = checked(changes["requirements"]) if "requirements" in changes else None
    groups = _waiting(pool, constraint)
    if not groups:
        return 0
    class_name = changes.get("class_name")
    if plain.keys() - {"JobPrio"} or wanted is not None or class_name is not None:
        limits = submit.limits_of(pool)
        _require_room(limits, groups, new, plain.get("RequestGPUs", 0))
        _require_meetable(limits, wanted, class_name)
    count = 0
    for name, number in plain.items():
        count = pool.set_attribute(f"({constraint}) && {WAITING}", name, str(number))
    if wanted is not None or class_name is not None:
        count = 0
        for group in groups:
            text = requirements(group.requirements, wanted, class_name)
            count += pool.set_attribute(f"{of_jobs(group.ids)} && ({constraint}) && {WAITING}", "Requirements", text)
    return count


def requirements(before: str, wanted: str | None, class_name: str | None) -> str:
    """A job's Requirements with other wishes of its person (None: as they were) and another class (None: as it was);
    what HTCondor adds to everybody's stays."""
    texts = [t.text for t in terms(before)]
    ours = [t for t in texts if _OWN_TERM.match(t)]
    theirs = [t for t in texts if not _OWN_TERM.match(t)] if wanted is None else [wanted]
    if class_name is not None:
        theirs = [t for t in theirs if not _CLASS_TERM.fullmatch(t)]
        theirs.append(f"TARGET.SwarmHpcClass == {quoted(class_name)}")
    return " && ".join(f"({t})" for t in (*theirs, *ours)) or "true"


def _waiting(pool: Pool, constraint: str) -> list[_Alike]:
    """The jobs in groups. Raises UsageError where one does not wait."""
    attributes = ["ClusterId", "ProcId", "JobStatus", "RequestCpus", "RequestMemory", "Requirements"]
    groups: dict[tuple[int, int, str], list[tuple[int, int]]] = {}
    for ad in pool.job_ads(constraint, attributes):
        cluster, process, status = int(ad["ClusterId"]), int(ad["ProcId"]), int(ad["JobStatus"])
        if status not in (1, 5):
            word = STATUS.get(status, "unknown")
            raise UsageError(
                f"job {cluster}.{process} is {word}; only jobs that wait or are held can be edited",
                hint=f"swarmhpc hold {cluster}.{process} stops it; then edit and release it"
                if word == "running"
                else "choose others: --state RUNNABLE",
            )
        numbers = [ad.eval(n) for n in ("RequestCpus", "RequestMemory")]
        cpus, memory = (int(n) if type(n) in (int, float) else 0 for n in numbers)
        groups.setdefault((cpus, memory, str(ad.lookup("Requirements"))), []).append((cluster, process))
    return [_Alike(cpus, memory, text, tuple(ids)) for (cpus, memory, text), ids in groups.items()]


def _require_room(limits: Limits, groups: list[_Alike], new: Mapping[str, int], gpus: int) -> None:
    """Raises UsageError where no class has as much as a job would ask for."""
    classes = tuple(c for c in limits.classes if c.gpus >= gpus)
    if limits.classes and not classes:
        most = max(c.gpus for c in limits.classes)
        raise UsageError(f"--gpus {gpus}: an executor of this pool has at most {most}", hint="ask for less")
    for group in groups:
        asked = {"request_cpus": group.cpus, "request_memory": group.memory_mib, **new}
        for _name, message, hint in too_large(asked, classes):
            raise UsageError(message, hint=hint)


def _require_meetable(limits: Limits, wanted: str | None, class_name: str | None) -> None:
    known = [c.name for c in limits.classes]
    if class_name is not None and known and class_name not in known:
        raise UsageError(f"--class {class_name}: this pool has {', '.join(known)}", hint=f"--class {known[0]}")
    if wanted is not None and limits.classads is not None:
        for verdict in judge(wanted, job={}, slots=limits.slots, classads=limits.classads).verdicts:
            if verdict.judged and not verdict.classes:
                raise UsageError(
                    f"--requirements: no executor can meet {verdict.term.text}: {verdict.why or verdict.seen}",
                    hint="swarmhpc why tells what each executor has",
                )


def _size(key: str, text: str) -> int:
    request = REQUESTS[_SIZES[key][1]]
    try:
        number = request.read(text.strip())
    except ValueError:
        number = 0
    if not 1 <= number <= _MOST:
        raise UsageError(f"--{key} {text}: wanted {request.wanted}", hint=f"swarmhpc edit 12 --{key} {request.example}")
    return number


def _number(key: str, text: str, *, least: int) -> int:
    if not re.fullmatch("[+-]?[0-9]{1,10}", text.strip()) or not least <= int(text) <= _MOST:
        more = " of 0 or more" if least == 0 else ""
        raise UsageError(f"--{key} {text}: wanted a number{more}", hint=f"swarmhpc edit 12 --{key} 1")
    return int(text)
