"""The queue and the classes as the autoscaler's policy wants them: which idle jobs would match which class.

Would-match is HTCondor's own judgement: the job's Requirements are evaluated against the ClassAd of an empty executor
of the class, and that one's against the job. The ClassAd is a living executor's, with everything free; before a class
has ever had one, another class's with this one's sizes; before the pool has had any, what every executor of our image
says of itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from swarmhpc.adapters.condor import Pool, classad
from swarmhpc.adapters.expressions import OF_IMAGE
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cluster.render import ClassPlan
from swarmhpc.scaling.policy import ClassState, Free, JobGroup
from swarmhpc.scaling.view import ClassView

MOST_JOBS = 10000
"""So many idle jobs are read; more would not change a decision that is bounded by `step`."""
_MOST_GROUPS = 200
_OF_IMAGE: Mapping[str, Any] = {**OF_IMAGE, "Disk": 2**40, "TotalDisk": 2**40, "VirtualMemory": 2**30}
"""An executor of our image, with room on its disk and memory as if there were no end of it."""


def class_state(view: ClassView, plan: ClassPlan, slots: Sequence[Slot]) -> ClassState:
    """A class for the policy. `slots`: all of the collector, asked with the class's resources."""
    here = {e.task_id: e for e in view.executors if e.registered}
    free: dict[str, Free] = {}
    idle: dict[str, int] = {}
    names = [name for name, _ in plan.counted]
    for s in slots:
        if s.task not in here:
            continue
        # A claim whose job has not begun still is an idle job's place.
        if s.partitionable or s.activity == "Idle":
            known = free.get(s.task, Free(0, 0))
            free[s.task] = Free(
                known.cpus + s.cpus,
                known.memory_mib + s.memory_mib,
                {n: known.resources.get(n, 0) + s.resources.get(n, 0) for n in names},
            )
        if s.partitionable and not here[s.task].jobs:
            idle[s.task] = s.idle_for_s
    return ClassState(
        name=view.name,
        cpus=plan.cpus,
        memory_mib=plan.memory_mib,
        resources=dict(plan.counted),
        replicas=view.replicas,
        minimum=plan.minimum,
        maximum=plan.maximum,
        step=plan.step,
        idle_s=plan.idle_s,
        starting_max=plan.starting_max,
        starting=max(0, view.replicas - len(here)),
        unplaceable=view.unplaceable,
        free=tuple(free.values()),
        idle_for_s=tuple(idle.values()),
        draining=len(view.leaving),
        unplaced=sum(not e.node_id for e in view.executors) if view.unplaceable else 0,
    )


class Matcher:
    """Which idle jobs would match which class. Remembers what executors said of themselves last."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def groups(self, pool: Pool, views: Mapping[str, ClassView]) -> list[JobGroup]:
        """The idle jobs, equal ones together. Raises PoolError."""
        resources = sorted({name for v in views.values() if v.plan for name, _ in v.plan.counted})
        requests = ["RequestCpus", "RequestMemory", "RequestDisk", *(f"Request{r}" for r in resources)]
        jobs = pool.job_ads(
            "JobStatus == 1 && JobUniverse == 5",
            ["ClusterId", "ProcId", "Owner", "QDate", "EnteredCurrentStatus", "ServerTime", "Requirements", *requests],
            most=MOST_JOBS,
        )
        alike: dict[tuple[str, ...], list[Any]] = {}
        for job in jobs:
            key = tuple(str(job.get(a, "")) for a in ("Owner", "ClusterId", "Requirements", *requests))
            alike.setdefault(key, []).append(job)
        chosen = list(alike.values())[:_MOST_GROUPS]
        if not chosen:
            return []
        ids = " || ".join(f"(ClusterId == {g[0]['ClusterId']} && ProcId == {g[0]['ProcId']})" for g in chosen)
        whole = {(int(a["ClusterId"]), int(a["ProcId"])): a for a in pool.job_ads(ids)}
        classes = {name: self._ad(pool, v, resources) for name, v in views.items() if v.plan is not None}
        result = []
        for group in chosen:
            first = (int(group[0]["ClusterId"]), int(group[0]["ProcId"]))
            if (job := whole.get(first)) is not None:  # else it has begun meanwhile
                result.append(_group(job, group, classes, resources))
        return result

    def _ad(self, pool: Pool, view: ClassView, resources: Iterable[str]) -> Any:
        """An empty executor of the class as a ClassAd."""
        plan = view.plan
        assert plan is not None
        living = next((e.task_id for e in view.executors if e.registered), None)
        if living is not None and (view.name not in self._known):
            found = pool.slot_ad(f'PartitionableSlot && SwarmHpcTask == "{living}"')
            if found is not None:
                self._known[view.name] = found
        base = self._known.get(view.name) or next(iter(self._known.values()), None)
        ad = classad(str(base) if base is not None else _OF_IMAGE)
        for name in resources:  # of the class that it was made from
            ad.pop(name, None)
        if "TotalSlotDisk" in ad:
            ad["Disk"] = ad.eval("TotalSlotDisk")
        for name, value in _sizes(view.name, plan).items():
            ad[name] = value
        return ad


def _sizes(class_name: str, plan: ClassPlan) -> dict[str, Any]:
    total = {"Cpus": plan.cpus, "Memory": plan.memory_mib, **dict(plan.counted)}
    return {
        "SwarmHpcClass": class_name,
        **total,
        **{f"TotalSlot{name}": amount for name, amount in total.items()},
        "TotalCpus": plan.cpus,
        "TotalMemory": plan.memory_mib,
        "State": "Unclaimed",
        "Activity": "Idle",
    }


def _group(job: Any, alike: Sequence[Any], classes: Mapping[str, Any], resources: Iterable[str]) -> JobGroup:
    matches = frozenset(name for name, ad in classes.items() if job.symmetricMatch(ad))
    counted = {r: amount for r in resources if (amount := _number(job, f"Request{r}", 0))}
    now = max((int(j.get("ServerTime", 0)) for j in alike), default=0)
    oldest = min(int(j.get("EnteredCurrentStatus") or j.get("QDate", 0)) for j in alike)
    return JobGroup(
        owner=str(job.get("Owner", "")),
        count=len(alike),
        cpus=_number(job, "RequestCpus", 1),
        memory_mib=_number(job, "RequestMemory", 0),
        resources=counted,
        matches=matches,
        example=f"{job['ClusterId']}.{job['ProcId']}",
        waiting_s=max(0, now - oldest),
    )


def _number(job: Any, attribute: str, otherwise: int) -> int:
    """A request that may be an expression."""
    value = job.eval(attribute) if attribute in job else otherwise
    return int(value) if type(value) in (int, float) else otherwise  # undefined and error are integers too (IntEnum)
