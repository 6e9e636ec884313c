"""Who may have how much of the pool, and how much of it is in use now."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from swarmhpc import _config_fairness as fair
from swarmhpc._config_fairness import DEFAULT_PRIORITY_FACTOR, Fairness, Person
from swarmhpc.adapters.condor import Pool
from swarmhpc.errors import PoolError

_RUNNING: Final = "(JobStatus == 2 || JobStatus == 6 || JobStatus == 7) && JobUniverse != 7"
_OF_JOBS: Final = ["Owner", "AcctGroup", "RequestCpus", "CpusProvisioned", "ConcurrencyLimits"]


@dataclass(frozen=True)
class PersonQuota:
    """`priority`: HTCondor's effective priority, a smaller one is served first; None before their first job. None for
    `max_jobs`, `max_cpus`: no limit."""

    name: str
    group: str | None
    priority_factor: float
    priority: float | None
    jobs_running: int
    max_jobs: int | None
    cpus_in_use: int
    max_cpus: int | None
    jobs_waiting: int


@dataclass(frozen=True)
class GroupQuota:
    """`cpus_allowed`: its part of the pool as it is now; None before the first negotiation."""

    name: str
    share_percent: int | None
    cpus_allowed: float | None
    surplus: bool
    jobs_running: int
    cpus_in_use: int


@dataclass(frozen=True)
class LimitQuota:
    """A kind of job of which only so many may run at a time."""

    name: str
    in_use: float
    allowed: int


@dataclass(frozen=True)
class Quota:
    """All of it, each sorted by name."""

    people: tuple[PersonQuota, ...]
    groups: tuple[GroupQuota, ...]
    limits: tuple[LimitQuota, ...]


def rules(pool: Pool) -> Fairness:
    """The section `fairness` of the cluster file, as the last `up` gave it to the pool. Raises PoolError."""
    ads = pool.daemon_ads("Collector", attributes=["SwarmHpcFairness"])
    text = next((str(a["SwarmHpcFairness"]) for a in ads if "SwarmHpcFairness" in a), "")
    try:
        return fair.from_mapping(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise PoolError(
            "the pool does not tell its rules of fairness yet", hint="on the pool's manager: swarmhpc up"
        ) from e


def quota(pool: Pool) -> Quota:
    """What is in use and what is allowed. Raises PoolError."""
    told = rules(pool)
    accounts = pool.daemon_ads("Accounting", attributes=["Name", "Priority", "PriorityFactor", "EffectiveQuota"])
    submitters = pool.daemon_ads("Submitter", attributes=["Name", "IdleJobs"])
    return sums(told, running(pool.job_ads(_RUNNING, _OF_JOBS)), accounts, submitters)


@dataclass(frozen=True)
class Running:
    """A job that runs: what it counts for. `limits`: name and how much of it."""

    owner: str
    group: str
    cpus: int
    limits: tuple[tuple[str, float], ...] = ()


def running(ads: Iterable[Any]) -> list[Running]:
    """What ClassAds of running jobs count for."""
    found = []
    for a in ads:
        asked, limits = (a.eval(name) if name in a else None for name in ("RequestCpus", "ConcurrencyLimits"))
        cpus: Any = a.get("CpusProvisioned", asked)
        text = limits if isinstance(limits, str) else ""
        found.append(
            Running(
                str(a["Owner"]),
                str(a.get("AcctGroup") or ""),
                int(cpus) if type(cpus) in (int, float) else 0,  # the bindings' "undefined" is a number too
                tuple(_limit(word) for word in text.replace(",", " ").split()),
            )
        )
    return found


def _limit(word: str) -> tuple[str, float]:
    """As HTCondor reads it (25.14, ParseConcurrencyLimit): `name:2`; what is no number above 0 counts one."""
    name, _, count = word.partition(":")
    try:
        amount = float(count or 1)
    except ValueError:
        amount = 1.0
    return name.lower(), amount if amount > 0 else 1.0


def sums(
    told: Fairness,
    jobs: Iterable[Running],
    accounts: Iterable[Mapping[str, Any]],
    submitters: Iterable[Mapping[str, Any]],
) -> Quota:
    """The rules, with what is in use. `accounts`, `submitters`: ClassAds of the negotiator and of the queue."""
    count, cpus = Counter[str](), Counter[str]()
    group_count, group_cpus = Counter[str](), Counter[str]()
    limits: dict[str, float] = {}
    for job in jobs:
        count[job.owner] += 1
        cpus[job.owner] += job.cpus
        if job.group:
            group_count[job.group] += 1
            group_cpus[job.group] += job.cpus
        for name, amount in job.limits:
            limits[name] = limits.get(name, 0.0) + amount
    listed = {p.name: p for p in told.people}
    of_group = {g.name for g in told.groups}
    # Names are GROUP.NAME@POOL or NAME@POOL, and a name may have dots of its own. Those of groups have no @.
    by_account = {str(a["Name"]).partition("@")[0]: a for a in accounts}
    waiting = Counter[str]()
    for a in submitters:
        waiting[_person(str(a["Name"]).partition("@")[0], of_group)] += int(a.get("IdleJobs", 0))
    known = {_person(account, of_group) for account, a in by_account.items() if "@" in str(a["Name"])}
    people = []
    for name in sorted(listed.keys() | known | count.keys() | {n for n in waiting if waiting[n]}):
        p = listed.get(name, Person(name))
        account = by_account.get(p.account, {})
        people.append(
            PersonQuota(
                name,
                p.group,
                p.priority_factor if name in listed else float(account.get("PriorityFactor", DEFAULT_PRIORITY_FACTOR)),
                float(account["Priority"]) if "Priority" in account else None,
                count[name],
                p.max_jobs,
                cpus[name],
                p.max_cpus,
                waiting[name],
            )
        )
    groups = [
        GroupQuota(
            g.name,
            g.share_percent,
            _quota(by_account.get(g.name, {}), g.cpus),
            g.surplus,
            group_count[g.name],
            group_cpus[g.name],
        )
        for g in told.groups
    ]
    return Quota(
        tuple(people), tuple(groups), tuple(LimitQuota(n, limits.get(n, 0.0), most) for n, most in told.limits)
    )


def _person(account: str, groups: set[str]) -> str:
    group, dot, name = account.partition(".")
    return name if dot and group in groups else account


def _quota(account: Mapping[str, Any], cpus: int | None) -> float | None:
    found = account.get("EffectiveQuota", cpus)
    return None if found is None else float(found)
