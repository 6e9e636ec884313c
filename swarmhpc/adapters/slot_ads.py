"""A slot's ClassAd, as far as we read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

SLOT_ATTRIBUTES: Final = (
    *("Name", "Machine", "SwarmHpcClass", "SwarmHpcNode", "SwarmHpcTask", "Cpus", "Memory", "State"),
    *("Activity", "JobId", "PartitionableSlot", "TotalSlotCpus", "TotalSlotMemory", "MyCurrentTime"),
    *("EnteredCurrentActivity", "DaemonStartTime", "NumDynamicSlots", "NumDynamicSlotsTime"),
)


@dataclass(frozen=True)
class Slot:
    """A slot in the collector. `executor` is the executor's host name (unique per Swarm task)."""

    name: str
    executor: str
    class_name: str
    node: str
    task: str
    cpus: int
    memory_mib: int
    partitionable: bool
    state: str
    activity: str
    job_id: str
    total_cpus: int
    total_memory_mib: int
    activity_age_s: int
    resources: Mapping[str, int] = field(default_factory=dict)
    """GPUs and others that were asked for, as far as nothing has claimed them; by lower-case name."""
    idle_for_s: int = 0  # of a partitionable slot: since when no job has been on its executor

    @property
    def is_claimed(self) -> bool:
        """A job runs in it, or is about to."""
        return not self.partitionable and self.state != "Unclaimed"


def slot_of(a: Mapping[str, Any], resources: Sequence[str] = ()) -> Slot:
    """The slot of an ad that was asked for with SLOT_ATTRIBUTES and `resources`."""
    return Slot(
        name=str(a.get("Name", "")),
        executor=str(a.get("Machine", "")).partition(".")[0],
        class_name=str(a.get("SwarmHpcClass", "")),
        node=str(a.get("SwarmHpcNode", "")),
        task=str(a.get("SwarmHpcTask", "")),
        cpus=int(a.get("Cpus", 0)),
        memory_mib=int(a.get("Memory", 0)),
        partitionable=bool(a.get("PartitionableSlot", False)),
        state=str(a.get("State", "")),
        activity=str(a.get("Activity", "")),
        job_id=str(a.get("JobId", "")),
        total_cpus=int(a.get("TotalSlotCpus", 0)),
        total_memory_mib=int(a.get("TotalSlotMemory", 0)),
        activity_age_s=max(0, int(a.get("MyCurrentTime", 0)) - int(a.get("EnteredCurrentActivity", 0))),
        resources={r: int(a.get(r, 0)) for r in resources},
        idle_for_s=_idle_for_s(a),
    )


def _idle_for_s(a: Mapping[str, Any]) -> int:
    if not a.get("PartitionableSlot", False) or int(a.get("NumDynamicSlots", 0)):
        return 0
    since = max(int(a.get("DaemonStartTime", 0)), int(a.get("NumDynamicSlotsTime", 0)))
    return max(0, int(a.get("MyCurrentTime", 0)) - since)
