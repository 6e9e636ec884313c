"""Which jobs are meant: ids, clusters, states, a name, a person's own expression."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from swarmhpc import states
from swarmhpc.adapters import expressions
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.job_ads import Job
from swarmhpc.errors import PoolError, UsageError
from swarmhpc.jobs.overview import quoted
from swarmhpc.jobs.requirement_terms import UnbalancedError, structure

__all__ = [
    "Selection",
    "checked",
    "constraint_of",
    "either",
    "expression",
    "jobs",
    "numbers",
    "of_id",
    "of_jobs",
    "quoted",
]

LONGEST: Final = 4096
"""Characters of a person's expression: the schedd evaluates it for each job in the queue."""

_ID: Final = re.compile(r"([0-9]{1,9})(?:[.]([0-9]{1,9}))?")

_EXECUTING: Final = (
    "(JobUniverse == 7 || JobUniverse == 12 || (JobCurrentStartExecutingDate ?: 0) >= (JobCurrentStartDate ?: 1))"
)
_REQUESTED: Final = "(" + " || ".join(f"HoldReasonCode =?= {c}" for c in sorted(states.BY_REQUEST)) + ")"
_WELL: Final = "(ExitBySignal =!= true && ExitCode =?= 0)"
_HELD: Final = "JobStatus == 5"
OF_STATE: Final = {
    states.SUBMITTED: f"{_HELD} && HoldReasonCode =?= {states.SPOOLING}",
    states.PENDING: f"{_HELD} && {_REQUESTED}",
    states.RUNNABLE: "JobStatus == 1",
    states.STARTING: f"JobStatus == 2 && !{_EXECUTING}",
    states.RUNNING: f"(JobStatus == 2 && {_EXECUTING}) || JobStatus == 6 || JobStatus == 7",
    states.SUCCEEDED: f"JobStatus == 4 && {_WELL}",
    states.FAILED: (
        f"(JobStatus == 4 && !{_WELL}) || JobStatus == 3"
        f" || ({_HELD} && HoldReasonCode =!= {states.SPOOLING} && !{_REQUESTED})"
    ),
    "IDLE": "JobStatus == 1",
    "HELD": f"{_HELD} && HoldReasonCode =!= {states.SPOOLING}",
    "COMPLETED": "JobStatus == 4",
}
"""The states (swarmhpc/states.py), and HTCondor's words that people know, as expressions."""


@dataclass(frozen=True)
class Selection:
    """Jobs that fit everything that is given; of one person only unless `everyone`. `ids`: clusters ("12") or jobs
    ("12.3"). `states`: any of them. `name`: the name (batch_name), or a node's in its DAG; `*` stands for any rest.
    `constraint`: a ClassAd expression."""

    ids: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    name: str = ""
    constraint: str = ""
    everyone: bool = False


def expression(selection: Selection, person: str) -> str:
    """The ClassAd expression of a selection. Raises UsageError for what is no id, state or expression."""
    parts = [] if selection.everyone else [f"Owner == {quoted(person)}"]
    if selection.ids:
        parts.append(either(map(of_id, selection.ids)))
    if selection.states:
        parts.append(either(map(_state, selection.states)))
    if selection.name:
        parts.append(_named(selection.name))
    if selection.constraint:
        parts.append(f"({checked(selection.constraint)})")
    return " && ".join(parts) or "true"


def constraint_of(pool: Pool, selection: Selection, *, gone_too: bool = False) -> str:
    """The ClassAd expression of jobs in the queue. Raises UsageError (what is no id, another person's job), PoolError
    (an id that is not in the queue; with `gone_too` only where it is not in the history either)."""
    text = expression(selection, pool.person)
    if selection.ids:
        _require(pool, selection, gone_too=gone_too)
    return text


def jobs(pool: Pool, selection: Selection) -> list[Job]:
    """The jobs in the queue, by id. Raises as `constraint_of`."""
    found = pool.jobs(constraint_of(pool, selection))
    return sorted(found, key=lambda j: (j.cluster, j.process))


def of_id(job: str) -> str:
    """The expression of a job or cluster id. Raises UsageError for what is no id."""
    cluster, process = numbers(job)
    return f"(ClusterId == {cluster}" + (")" if process is None else f" && ProcId == {process})")


def numbers(job: str) -> tuple[int, int | None]:
    """(12, 3) of "12.3", (12, None) of "12". Raises UsageError."""
    found = _ID.fullmatch(job)
    if found is None:
        raise UsageError(f"{job!r} is no job; wanted a cluster like 12 or a job like 12.0", hint="swarmhpc q")
    return int(found[1]), None if found[2] is None else int(found[2])


def of_jobs(ids: Iterable[tuple[int, int]]) -> str:
    """The expression of many jobs, short where they follow each other."""
    runs: list[list[int]] = []
    for cluster, process in sorted(ids):
        if runs and runs[-1][0] == cluster and runs[-1][2] == process - 1:
            runs[-1][2] = process
        else:
            runs.append([cluster, process, process])
    parts = [f"(ClusterId == {c} && ProcId >= {a} && ProcId <= {b})" for c, a, b in runs]
    return either(parts) if parts else "false"


def either(parts: Iterable[str]) -> str:
    """Any of several expressions, safe to be joined with others."""
    return "(" + " || ".join(f"({p})" for p in parts) + ")"


def checked(text: str) -> str:
    """A person's expression as it is, when it is one and short enough. Raises UsageError."""
    hint = "swarmhpc q --constraint 'RequestMemory > 4096'"
    if len(text) > LONGEST:
        raise UsageError(f"the expression has {len(text)} characters; wanted at most {LONGEST}", hint=hint)
    try:
        structure(text)  # HTCondor's parser would not mind what closes our parentheses and opens others
    except UnbalancedError as e:
        raise UsageError(f"{text[:80]!r}: at character {e.offset + 1}: {e.problem}", hint=hint) from e
    line = " ".join(text.splitlines()).strip()
    if not line or not expressions.ClassAds().parses(line):
        raise UsageError(f"{text[:80]!r} is no ClassAd expression", hint=hint)
    return line


def _state(word: str) -> str:
    try:
        return OF_STATE[word.upper()]
    except KeyError:
        known = ", ".join(OF_STATE)
        raise UsageError(
            f"{word!r} is no state of a job; wanted one of {known}", hint="swarmhpc q --state FAILED"
        ) from None


def _named(name: str) -> str:
    head, star, rest = name.partition("*")
    if rest:
        raise UsageError(
            f"--name {name!r}: wanted * at the end only", hint="or --constraint 'regexp(\"a.*b\", JobBatchName)'"
        )
    if star:
        length = len(head)
        parts = [f'(substr(({a} ?: ""), 0, {length}) == {quoted(head)})' for a in ("JobBatchName", "DAGNodeName")]
        return either(parts)
    return either(f'({a} ?: "") == {quoted(name)}' for a in ("JobBatchName", "DAGNodeName"))


def _require(pool: Pool, selection: Selection, *, gone_too: bool) -> None:
    owners: dict[tuple[int, int | None], set[str]] = {}
    whole = [i for i in selection.ids if "." not in i]
    single = [i for i in selection.ids if "." in i]
    if whole:
        for ad, _count in pool.counted(either(map(of_id, whole)), ["Owner", "ClusterId"]):
            owners.setdefault((int(ad["ClusterId"]), None), set()).add(str(ad["Owner"]))
    if single:
        for ad in pool.job_ads(either(map(of_id, single)), ["Owner", "ClusterId", "ProcId"]):
            owners.setdefault((int(ad["ClusterId"]), int(ad["ProcId"])), set()).add(str(ad["Owner"]))
    for job in selection.ids:
        having = owners.get(numbers(job))
        if having is None:
            having = _gone(pool, job, gone_too=gone_too)
        if not selection.everyone and having - {pool.person}:
            _refuse(job, having, pool.person)


def _refuse(job: str, owners: set[str], person: str) -> None:
    raise UsageError(f"job {job} belongs to {', '.join(sorted(owners))}, not to {person}", hint="swarmhpc q")


def _gone(pool: Pool, job: str, *, gone_too: bool) -> set[str]:
    """The owner of a job that has left the queue. Raises PoolError with what became of it."""
    ads = pool.history_ads(of_id(job), ["Owner", "RemoveReason", "LastJobStatus", "JobStatus"], most=1)
    if not ads:
        raise PoolError(f"job {job} is not in the queue and not in its history", hint="swarmhpc q")
    owner = str(ads[0].get("Owner", ""))
    if gone_too or owner != pool.person:
        return {owner}
    reason = str(ads[0].get("RemoveReason", "")).rstrip(".")
    told = f" ({reason})" if reason else ""
    raise PoolError(f"job {job} is not in the queue any more{told}", hint=f"swarmhpc q --history {job}")
