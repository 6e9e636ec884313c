"""`why`: looks at a job or a cluster, puts together those that stand alike, and asks about each group only once."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.job_ads import JOB_ATTRIBUTES, host_of, is_executing, job_of
from swarmhpc.errors import AuthenticationError, PoolError, PoolUnreachableError, UsageError
from swarmhpc.jobs import dag_nodes, select, submit
from swarmhpc.jobs.explain import explain, ordered
from swarmhpc.jobs.overview import DAG
from swarmhpc.jobs.reasons import Claim, Facts, Person, Reason, Room, Scaling, Subject

_ALIKE: Final = (
    "JobStatus", "JobUniverse", "HoldReasonCode", "HoldReasonSubCode", "ExitBySignal", "ExitCode", "ExitSignal",
    "RequestCpus", "RequestMemory", "RequestDisk", "RequestGPUs", "Requirements", "ConcurrencyLimits", "DockerImage",
    "AccountingGroup",
)  # fmt: skip
"""Jobs with the same of these stand alike, but for what they say in words."""
_KEYS: Final = [
    "ClusterId", "ProcId", "Owner", *_ALIKE, "HoldReason", "JobCurrentStartDate", "JobCurrentStartExecutingDate",
    "LastRejMatchTime", "LastRejMatchReason", "RemoteHost",
]  # fmt: skip
_GONE: Final = [*JOB_ATTRIBUTES, "LastJobStatus"]
_NUMBERS: Final = re.compile(r"\d+")
_MOST_GROUPS: Final = 50
_RUNS: Final = 2

Swarm = Callable[[], Mapping[str, tuple[str, ...]]]
"""Why executors of a class can't be started, in Swarm's words; asked only where that may be the answer."""


def why(pool: Pool, job: str, *, swarm: Swarm | None = None) -> list[Reason]:
    """Reasons for a job (`12.3`) or the jobs of a cluster (`12`), of this person: the most decisive first, each with
    the number of jobs that it is the reason for. `main` ones are answers, the others add to them.

    Raises UsageError for what is no id or another person's, PoolError for a job that never was.
    """
    constraint = select.of_id(job)
    try:
        found = pool.job_ads(constraint, _KEYS)
        if not found:
            return ordered([explain(s) for s in _gone(pool, job, constraint)])
        _own(pool, job, found)
        found += _nodes(pool, found)
        return ordered(_explained(pool, _groups(found, _lost(pool, found)), swarm))
    except AuthenticationError as e:
        return [Reason(job, "token-refused", e.message, e.hint)]
    except PoolUnreachableError as e:
        return [Reason(job, "access-point-down", e.message, e.hint)]


def _own(pool: Pool, job: str, ads: Sequence[Any]) -> None:
    others = sorted({str(a.get("Owner", "")) for a in ads} - {pool.person})
    if others:
        raise UsageError(f"job {job} belongs to {', '.join(others)}, not to {pool.person}", hint="swarmhpc q")


def _lost(pool: Pool, ads: Sequence[Any]) -> frozenset[str]:
    """Executors of running jobs that the collector has forgotten, which it does 15 s after their last word."""
    hosts = {host_of(a) for a in ads if a.get("JobStatus") == _RUNS and a.get("JobUniverse") != DAG}
    if not hosts:
        return frozenset()
    try:
        known = {str(a.get("Machine", "")).partition(".")[0] for a in pool.daemon_ads("Slot", "true", ["Machine"])}
    except PoolError:
        return frozenset()
    return frozenset(hosts - known) if known else frozenset()  # a collector that has just begun knows nobody


def _nodes(pool: Pool, ads: Sequence[Any]) -> list[Any]:
    """Jobs of DAGs among these that wait or are held: what keeps the DAG."""
    dags = [int(a["ClusterId"]) for a in ads if a.get("JobUniverse") == DAG and a.get("JobStatus") == _RUNS]
    mine = " || ".join(f"DAGManJobId == {c}" for c in dags)
    return pool.job_ads(f"({mine}) && (JobStatus == 1 || JobStatus == 5)", _KEYS) if mine else []


def _gone(pool: Pool, job: str, constraint: str) -> list[Subject]:
    ads = pool.history_ads(constraint, _GONE, most=10_000)
    if not ads:
        raise PoolError(f"there is no job {job}, neither in the queue nor among those that ended", hint="swarmhpc q")
    _own(pool, job, ads)
    alike: dict[tuple[str, ...], list[Any]] = {}
    for ad in ads:
        key = (*(str(ad.get(a)) for a in ("ExitCode", "ExitSignal", "JobStatus")), _shape(ad, "RemoveReason"))
        alike.setdefault(key, []).append(ad)
    now = int(time.time())
    return [_subject(min(group, key=_number), len(group), now, gone=True) for group in alike.values()]


class _Group:
    """Jobs that stand alike, by their small ads."""

    def __init__(self, *, is_lost: bool) -> None:
        self.ads: list[Any] = []
        self.is_lost = is_lost
        self.rejected_at = 0
        self.rejection = ""

    def add(self, ad: Any) -> None:
        self.ads.append(ad)
        at = int(ad.get("LastRejMatchTime", 0))
        if at > self.rejected_at:  # the access point notes it at one job of all that are alike
            self.rejected_at, self.rejection = at, str(ad.get("LastRejMatchReason", ""))


def _groups(ads: Sequence[Any], lost: Collection[str]) -> list[_Group]:
    groups: dict[tuple[str, ...], _Group] = {}
    for ad in ads:
        # Not str(value): an expression's is evaluated first.
        key = tuple(str(ad.lookup(name)) if name in ad else "" for name in _ALIKE)
        if key[0] == "5":
            key += (_shape(ad, "HoldReason"),)
        elif key[0] == "2":
            key += (str(is_executing(ad)), str(host_of(ad) in lost))
        groups.setdefault(key, _Group(is_lost=key[-1] == str(True) and key[0] == "2")).add(ad)
    return sorted(groups.values(), key=lambda g: -len(g.ads))[:_MOST_GROUPS]


def _shape(ad: Any, name: str) -> str:
    """A text without what differs from job to job: numbers, executors."""
    return _NUMBERS.sub("#", re.sub(r"\S+@\S+|/\S*/", "@", str(ad.get(name, ""))))


def _number(ad: Any) -> tuple[int, int]:
    return int(ad["ClusterId"]), int(ad["ProcId"])


def _explained(pool: Pool, groups: Sequence[_Group], swarm: Swarm | None) -> list[tuple[Reason, ...]]:
    first = {_number(g.ads[0]): g for g in groups}
    same = " || ".join(f"(ClusterId == {c} && ProcId == {p})" for c, p in first)
    looked: _Look | None = None
    found = []
    for ad in pool.job_ads(same):
        group = first[_number(ad)]
        s = _subject(ad, len(group.ads), int(ad.get("ServerTime", time.time())), group=group)
        facts: Facts | None = None
        if s.status == "idle" and not s.is_dag:
            try:
                looked = looked or _Look(pool)
                facts = looked.facts(s, ad)
            except PoolUnreachableError:
                facts = None
        reasons = explain(s, facts)
        if facts is not None and swarm is not None and reasons[0].code in _ASKS_SWARM:
            assert looked is not None
            looked.troubles = swarm()
            reasons = explain(s, looked.facts(s, ad))
        found.append(reasons)
    return found


_ASKS_SWARM: Final = ("no-executors", "scaling-up", "slots-busy", "draining")


def _subject(ad: Any, count: int, now: int, *, group: _Group | None = None, gone: bool = False) -> Subject:
    job = job_of(ad)
    is_dag = job.universe == DAG
    return Subject(
        id=job.id,
        count=count,
        owner=job.owner,
        status="gone" if gone else job.status,
        state=job.state,
        now=now,
        attributes=_attributes(ad) if job.status == "idle" else {},
        since=_since(ad, job.status),
        cpus=job.cpus or 1,
        memory_mib=job.memory_mib,
        disk_kib=job.disk_kib,
        gpus=job.gpus,
        memory_used_mib=job.memory_used_mib,
        image=job.image,
        command=job.command,
        host=job.host,
        starts=job.attempts,
        exit_code=int(ad["ExitCode"]) if "ExitCode" in ad and not ad.get("ExitBySignal") else None,
        exit_signal=int(ad["ExitSignal"]) if "ExitSignal" in ad and ad.get("ExitBySignal") else None,
        finished_at=job.finished_at,
        run_time_s=job.run_time_s,
        hold_code=job.hold_code,
        hold_subcode=int(ad.get("HoldReasonSubCode", 0)),
        hold_reason=str(ad.get("HoldReason", "")) if job.status in ("held", "transferring") else "",
        remove_reason=job.remove_reason,
        vacate_code=int(ad.get("VacateReasonCode", 0)),
        vacate_reason=str(ad.get("VacateReason", "")),
        rejected_at=group.rejected_at if group else 0,
        rejection=group.rejection if group else "",
        account=str(ad.get("AccountingGroup") or job.owner),
        cool_until=int(ad.get("JobCoolDownExpiration", 0)),
        time_limit_s=_plain_int(ad, "AllowedExecuteDuration") or _plain_int(ad, "AllowedJobDuration"),
        is_lost=group is not None and group.is_lost,
        lease_left_s=int(ad.get("LastJobLeaseRenewal", now)) + _plain_int(ad, "JobLeaseDuration") - now,
        dag_nodes=dag_nodes.progress(ad) if is_dag else (0, 0, 0),
        dag_failed=str(ad.get("SwarmHpcDagFailed", "")),
        dag_waits=str(ad.get("SwarmHpcDagWaits", "")),
    )


def _plain_int(ad: Any, name: str) -> int:
    value = ad.get(name, 0)
    return int(value) if isinstance(value, int | float) else 0


def _since(ad: Any, status: str) -> int:
    if status == "running" and "JobCurrentStartDate" in ad:
        began, runs = int(ad["JobCurrentStartDate"]), int(ad.get("JobCurrentStartExecutingDate", 0))
        return runs if runs >= began else began
    return int(ad.get("EnteredCurrentStatus", 0))


def _attributes(ad: Any) -> dict[str, str]:
    """A job's attributes as expressions in the syntax of submit descriptions."""
    return dict(line.split(" = ", 1) for line in ad.printOld().splitlines() if " = " in line)


class _Look:
    """The pool as a waiting job sees it, looked at once for all groups. Raises PoolError."""

    def __init__(self, pool: Pool) -> None:
        from swarmhpc.cluster import status

        self._pool = pool
        self.troubles: Mapping[str, tuple[str, ...]] = {}
        self._limits = submit.limits_of(pool)
        self._rooms, self._claims = _slots(pool)
        self._said = status.decisions(pool)
        ads = pool.daemon_ads("Any", f"stringListMember(MyType, {_DAEMONS})", _OF_DAEMONS)
        self._fairness = _fairness(ads)
        self._people = _people(ads, self._fairness)
        self._interval_s = max((int(a.get("SwarmHpcNegotiation", 0)) for a in ads), default=0)
        self._negotiated_at = max((int(a.get("LastNegotiationCycleEnd0", 0)) for a in ads), default=0)

    def facts(self, s: Subject, ad: Any) -> Facts:
        """For one group of jobs."""
        cluster = s.id.partition(".")[0] + "."
        unserved = next((u for u in self._said.unserved if u.job.startswith(cluster)), None)
        return Facts(
            limits=self._limits,
            rooms=self._rooms,
            claims=self._claims,
            scaling=Scaling(self._said.sizes, unserved.kind if unserved else "", unserved.reason if unserved else ""),
            people=self._people,
            ahead=self._pool.count(_before(ad)),
            interval_s=self._interval_s,
            negotiated_at=self._negotiated_at,
            limit_most=self._limit_most(s),
            limit_users=self._limit_users(s),
            classes_in_trouble=self.troubles,
        )

    def _limit_most(self, s: Subject) -> int:
        person = self._fairness.get("people", {}).get(s.owner, {})
        for start, key in (("swarmhpc_jobs_", "max_jobs"), ("swarmhpc_cpus_", "max_cpus")):
            if _limit(s).startswith(start):
                return int(person.get(key) or 0)
        return int(self._fairness.get("limits", {}).get(_limit(s)) or 0)

    def _limit_users(self, s: Subject) -> dict[str, int]:
        """Who runs jobs under the limit that has stopped this one."""
        name = _limit(s)
        if not name:
            return {}
        attributes = ["Owner", "ConcurrencyLimits"]
        running = self._pool.job_ads("JobStatus == 2 && ConcurrencyLimits isnt undefined", attributes)
        return Counter(
            str(a["Owner"])
            for a in running
            if name in {w.partition(":")[0].strip().lower() for w in str(a.get("ConcurrencyLimits", "")).split(",")}
        )


def _limit(s: Subject) -> str:
    """The concurrency limit that stopped it; "" for none."""
    found = re.search(r"concurrency limit ([^, ]+).* reached", s.rejection)
    return found[1].lower() if found else ""


_DAEMONS: Final = '"Accounting,Submitter,Negotiator,Collector"'
_OF_DAEMONS: Final = (
    "MyType", "Name", "Priority", "WeightedResourcesUsed", "ConfigQuota", "EffectiveQuota", "SwarmHpcFairness",
    "IsAccountingGroup", "IdleJobs", "SwarmHpcNegotiation", "LastNegotiationCycleEnd0",
)  # fmt: skip


def _before(ad: Any) -> str:
    """The person's own waiting jobs that the access point offers first: priority, then age (25.14, qmgmt, prio_rec)."""
    cluster, process = _number(ad)
    priority = int(ad.get("JobPrio", 0))
    older = f"(ClusterId < {cluster} || (ClusterId == {cluster} && ProcId < {process}))"
    order = f"(JobPrio > {priority} || (JobPrio == {priority} && {older}))"
    return f'JobStatus == 1 && JobUniverse == 5 && Owner == "{ad["Owner"]}" && {order}'


def _slots(pool: Pool) -> tuple[tuple[Room, ...], tuple[Claim, ...]]:
    names = ("Name", "Machine", "SwarmHpcClass", "Cpus", "Memory", "GPUs", "Activity", "Requirements", "Draining",
             "PartitionableSlot", "RemoteOwner", "JobId", "State")  # fmt: skip
    rooms, claims = [], []
    for a in pool.daemon_ads("Slot", "true", names):
        executor = str(a.get("Machine", "")).partition(".")[0]
        if a.get("PartitionableSlot"):
            # One that shuts down or is broken refuses every job (25.14, src/condor_startd.V6/Reqexp.cpp).
            refuses = str(a.lookup("Requirements")).lower() == "false" if "Requirements" in a else False
            leaving = refuses or a.get("Activity") == "Retiring" or bool(a.get("Draining"))
            size = (int(a.get("Cpus", 0)), int(a.get("Memory", 0)), int(a.get("GPUs", 0)))
            rooms.append(Room(executor, str(a.get("SwarmHpcClass", "")), *size, leaving=leaving))
        elif a.get("RemoteOwner"):
            person = str(a["RemoteOwner"]).partition("@")[0]
            size = (int(a.get("Cpus", 0)), int(a.get("Memory", 0)), 0)
            # One that leaves names its job until the starter has gone, which takes up to 30 s (KILLING_TIMEOUT).
            job = "" if a.get("State") == "Preempting" else str(a.get("JobId", ""))
            claims.append(Claim(executor, person, job, *size[:2]))
    return tuple(rooms), tuple(claims)


def _fairness(ads: Sequence[Any]) -> Mapping[str, Any]:
    """The section `fairness` of the cluster file, as the central manager tells it."""
    text = next((str(a["SwarmHpcFairness"]) for a in ads if "SwarmHpcFairness" in a), "")
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _people(ads: Sequence[Any], fairness: Mapping[str, Any]) -> tuple[Person, ...]:
    groups = fairness.get("groups", {})
    idle: Counter[str] = Counter()
    for a in ads:
        if a.get("MyType") == "Submitter":
            idle[str(a.get("Name", "")).partition("@")[0]] += int(a.get("IdleJobs", 0))
    found = []
    for a in ads:
        if a.get("MyType") == "Accounting":
            name = str(a.get("Name", "")).partition("@")[0]
            quota = float(a.get("EffectiveQuota", 0)) or float(a.get("ConfigQuota", 0))
            found.append(
                Person(
                    name,
                    float(a.get("Priority", 0)),
                    float(a.get("WeightedResourcesUsed", 0)),
                    idle[name],
                    quota if a.get("IsAccountingGroup") and quota else None,
                    bool(groups.get(name, {}).get("surplus", True)),
                )
            )
    return tuple(found)
