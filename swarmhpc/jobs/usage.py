"""What jobs have used: sums over the history and the queue."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from swarmhpc.adapters.condor import Pool
from swarmhpc.errors import UsageError
from swarmhpc.jobs.history import moment

By = Literal["person", "group", "class", "day"]
KINDS: Final[tuple[By, ...]] = ("person", "group", "class", "day")
_MIB_PER_GIB: Final = 1024
_S_PER_HOUR: Final = 3600
_ATTRIBUTES: Final = [
    "Owner", "AcctGroup", "MachineAttrSwarmHpcClass0", "JobStatus", "LastJobStatus", "ExitCode", "ExitBySignal",
    "CompletionDate", "EnteredCurrentStatus", "ShadowBday", "ServerTime", "RequestCpus", "CpusProvisioned",
    "RequestMemory", "MemoryProvisioned", "MemoryUsage", "ResidentSetSize", "RemoteWallClockTime",
    "CumulativeSlotTime", "RemoteUserCpu", "RemoteSysCpu", "CumulativeRemoteUserCpu", "CumulativeRemoteSysCpu",
]  # fmt: skip
_JOBS: Final = "JobUniverse != 7"  # the manager of a DAG runs in the access point and takes nothing of the executors
# A container is measured every half minute, not at its end (25.14, docker_proc.cpp): a short job may show nothing.
_MEASURED_S: Final = 60
_ACTIVE: Final = (2, 6, 7)


@dataclass(frozen=True)
class Record:
    """What one job has used so far. `ended_at`: seconds since the epoch, None while it is in the queue unfinished.

    `core_s`: CPUs held, in seconds. `memory_mib_s`: memory held. `used_mib_s`: of that, the most it used at a time,
    as if all the time. `cpu_used_s`, `used_mib_s` None: nobody measured it. All attempts count, also lost ones.
    """

    person: str
    group: str
    class_name: str
    ended_at: int | None
    failed: bool
    running: bool
    core_s: float
    cpu_used_s: float | None
    memory_mib_s: float
    used_mib_s: float | None


@dataclass(frozen=True)
class Usage:
    """A sum. `name`: the person, group ("" for nobody's), class ("" where it never ran) or day (2026-11-22).

    `jobs`: those that ended; `failed`: of these; `running`: those that run now, whose use so far is counted too.
    """

    name: str
    jobs: int
    failed: int
    running: int
    core_s: float
    measured_core_s: float
    cpu_used_s: float
    memory_mib_s: float
    measured_mib_s: float
    used_mib_s: float

    @property
    def core_hours(self) -> float:
        """CPUs held, in hours."""
        return self.core_s / _S_PER_HOUR

    @property
    def memory_gib_hours(self) -> float:
        """Memory held, in GiB times hours."""
        return self.memory_mib_s / _MIB_PER_GIB / _S_PER_HOUR

    @property
    def cpu_efficiency(self) -> float | None:
        """CPU time used of that held, 0 to about 1; None where nothing was measured."""
        return self.cpu_used_s / self.measured_core_s if self.measured_core_s else None

    @property
    def memory_efficiency(self) -> float | None:
        """Memory used of that held; None where nothing was measured."""
        return self.used_mib_s / self.measured_mib_s if self.measured_mib_s else None


def usage(pool: Pool, *, since: str = "7d", by: By = "person") -> list[Usage]:
    """What everybody's jobs have used that ended since then, and those that run. Raises UsageError, PoolError.

    `since`: "7d", "2h" or an ISO time; only as far back as the history is kept (`queue.history`).
    """
    if by not in KINDS:
        raise UsageError(f"by {by!r}: wanted one of {', '.join(KINDS)}", hint="swarmhpc usage --by person")
    start = moment(since)
    # The history is in the order in which jobs left the queue; fetching a job is when it leaves.
    gone = pool.history_ads(_JOBS, _ATTRIBUTES, until=f"(EnteredCurrentStatus ?: 0) < {start}")
    there = pool.job_ads(f"{_JOBS} && ((RemoteWallClockTime ?: 0) > 0 || JobStatus == 2)", _ATTRIBUTES)
    records = [record(a, left=True) for a in gone] + [record(a) for a in there]
    return sums((r for r in records if r.ended_at is None or r.ended_at >= start), by=by, now=time.time())


def record(ad: Any, *, left: bool = False) -> Record:
    """What the ClassAd of a job says. `left`: it is out of the queue."""
    status = int(ad.get("JobStatus", 0))
    finished = status == 4 or (left and status == 3 and int(ad.get("LastJobStatus", 0)) == 4)
    # HTCondor adds up a run when it has ended.
    active = status in _ACTIVE and not left
    now, began = _number(ad, "ServerTime"), _number(ad, "ShadowBday")
    run_s = max(0.0, now - began) if active and began and now else 0.0
    cpus = _number(ad, "CpusProvisioned") or _number(ad, "RequestCpus")
    memory_mib = _number(ad, "MemoryProvisioned") or _number(ad, "RequestMemory")
    wall_s = _number(ad, "RemoteWallClockTime") + run_s
    core_s = (_number(ad, "CumulativeSlotTime") or _number(ad, "RemoteWallClockTime") * cpus) + run_s * cpus
    cpu_s = _number(ad, "CumulativeRemoteUserCpu") + _number(ad, "CumulativeRemoteSysCpu")
    last_s = _number(ad, "RemoteUserCpu") + _number(ad, "RemoteSysCpu")
    used_s = cpu_s + last_s if active else max(cpu_s, last_s)
    used_mib = _number(ad, "MemoryUsage") or _number(ad, "ResidentSetSize") / 1024
    succeeded = finished and not ad.get("ExitBySignal") and int(ad.get("ExitCode", 0)) == 0
    ended = _number(ad, "CompletionDate") if finished else _number(ad, "EnteredCurrentStatus")
    return Record(
        str(ad.get("Owner", "")),
        str(ad.get("AcctGroup") or ""),
        str(ad.get("MachineAttrSwarmHpcClass0") or ""),
        int(ended) if finished or left or status == 3 else None,
        (finished or left) and not succeeded,
        active,
        core_s,
        None if not used_s and wall_s < _MEASURED_S else used_s,
        wall_s * memory_mib,
        wall_s * used_mib if used_mib else None,
    )


def sums(records: Iterable[Record], *, by: By, now: float) -> list[Usage]:
    """One sum for each person, group, class or day (of this machine's time zone), by name. What has not ended belongs
    to the day of `now`, seconds since the epoch."""
    groups: dict[str, list[Record]] = {}
    for r in records:
        groups.setdefault(_name(r, by, now), []).append(r)
    return [_sum(name, found) for name, found in sorted(groups.items())]


def _name(r: Record, by: By, now: float) -> str:
    if by == "day":
        return time.strftime("%Y-%m-%d", time.localtime(now if r.ended_at is None else r.ended_at))
    return {"person": r.person, "group": r.group, "class": r.class_name}[by]


def _sum(name: str, records: list[Record]) -> Usage:
    measured = [r for r in records if r.used_mib_s is not None]
    timed = [r for r in records if r.cpu_used_s is not None]
    return Usage(
        name,
        jobs=sum(r.ended_at is not None for r in records),
        failed=sum(r.failed for r in records),
        running=sum(r.running for r in records),
        core_s=sum(r.core_s for r in records),
        measured_core_s=sum(r.core_s for r in timed),
        cpu_used_s=sum(r.cpu_used_s or 0.0 for r in timed),
        memory_mib_s=sum(r.memory_mib_s for r in records),
        measured_mib_s=sum(r.memory_mib_s for r in measured),
        used_mib_s=sum(r.used_mib_s or 0.0 for r in measured),
    )


def _number(ad: Mapping[str, Any], name: str) -> float:
    """A number that may be written as an expression; 0 where it is none."""
    value = ad.get(name, 0)
    if not isinstance(value, int | float):
        value = ad.eval(name) if hasattr(ad, "eval") else 0
    # The bindings' "undefined" is a number too, an IntEnum.
    return float(value) if type(value) in (int, float) else 0.0
