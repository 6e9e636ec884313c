"""A class of executors at one moment: what the Swarm knows of its tasks, joined with what the collector knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from swarmhpc import state
from swarmhpc.adapters.docker import Engine, Node, Service, Task
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cluster.render import ClassPlan, read_plan
from swarmhpc.scaling.victims import UPDATABLE, Executor, TaskRow


@dataclass(frozen=True)
class ClassView:
    """One class. `plan` None: deployed before classes had one."""

    name: str
    service: Service
    plan: ClassPlan | None
    tasks: tuple[Task, ...]
    executors: tuple[Executor, ...]
    """One for each task that counts as a replica."""

    @property
    def rows(self) -> tuple[TaskRow, ...]:
        """The table of tasks from which Swarm chooses."""
        return tuple(TaskRow(t.id, t.slot, t.node_id, t.state, t.desired, t.changed_at) for t in self.tasks)

    @property
    def replicas(self) -> int:
        """What the Swarm is asked for."""
        return self.service.replicas or 0

    @property
    def registered(self) -> int:
        """Executors that shall run and are known to the collector."""
        return sum(e.registered for e in self.executors)

    @property
    def leaving(self) -> tuple[Task, ...]:
        """Executors that have been told to leave and still run."""
        return tuple(t for t in self.tasks if t.runs_still and t.desired not in UPDATABLE)

    @property
    def unplaceable(self) -> str:
        """Swarm's words where it finds no node for an executor; empty: none waits for one."""
        return next((t.error for t in self.tasks if t.desired in UPDATABLE and not t.node_id and t.error), "")

    @property
    def trouble(self) -> tuple[str, ...]:
        """Why replicas are not up, in Swarm's own words, most frequent first: of each slot that runs nothing."""
        newest: dict[int, Task] = {}
        for t in self.tasks:  # those whose state changed last come last
            if t.error or t.slot not in newest:
                newest[t.slot] = t
        waiting = {t.slot for t in self.tasks if t.desired in UPDATABLE}
        waiting -= {t.slot for t in self.tasks if t.is_up}
        return tuple(words for words, _ in Counter(newest[s].error for s in waiting if newest[s].error).most_common())


def look(
    engine: Engine,
    pool: str,
    slots: Sequence[Slot],
    nodes: Sequence[Node],
    running: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, ClassView]:
    """Every class of the pool, by name."""
    return join(engine.services(pool), engine.tasks(), slots, nodes, running)


def join(
    services: Sequence[Service],
    tasks: Sequence[Task],
    slots: Sequence[Slot],
    nodes: Sequence[Node],
    running: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, ClassView]:
    """Every class among a pool's services, by name. `tasks`: those of the whole Swarm.

    `running`: what the queue says, a job by the host name of its executor. A startd tells the collector of a new claim
    a second late (25.14, src/condor_startd.V6/ResMgr.cpp, rip_update_needed).
    """
    names = {n.id: n.labels.get(state.LABEL_MACHINE) or n.name for n in nodes}
    classes = [s for s in services if state.LABEL_CLASS in s.labels]
    views = (view(s, [t for t in tasks if t.service_id == s.id], slots, names, running) for s in classes)
    return {v.name: v for v in views}


def view(
    service: Service,
    tasks: Sequence[Task],
    slots: Sequence[Slot],
    nodes: Mapping[str, str],
    running: Mapping[str, str] = MappingProxyType({}),
) -> ClassView:
    """One class from the tasks of its service and all slots of the collector. `nodes`: names by id."""
    class_name = service.labels[state.LABEL_CLASS]
    label = service.labels.get(state.LABEL_PLAN)
    by_task: dict[str, list[Slot]] = {}
    for slot in slots:
        by_task.setdefault(slot.task, []).append(slot)
    return ClassView(
        name=class_name,
        service=service,
        plan=read_plan(label) if label else None,
        tasks=tuple(tasks),
        executors=tuple(
            _executor(t, by_task.get(t.id, ()), nodes.get(t.node_id, ""), running.get(host(class_name, t)))
            for t in tasks
            if t.desired in UPDATABLE
        ),
    )


def _executor(task: Task, slots: Sequence[Slot], node: str, running: str | None) -> Executor:
    claimed = [s for s in slots if s.is_claimed]
    jobs = tuple(s.job_id or "a claim" for s in claimed)
    return Executor(
        slot=task.slot,
        task_id=task.id,
        node_id=task.node_id,
        node=node,
        running=task.state == "running",
        registered=bool(slots),
        jobs=jobs or ((running,) if running else ()),
        youngest_job_s=min((s.activity_age_s for s in claimed), default=0),
    )


def hosts(views: Mapping[str, ClassView], task_ids: Collection[str]) -> list[str]:
    """The host names of these executors, as stacks/pool.yml.j2 gives them."""
    return [host(v.name, t) for v in views.values() for t in v.tasks if t.id in task_ids]


def host(class_name: str, task: Task) -> str:
    """The host name of one executor."""
    return f"{class_name}-{task.slot}-{task.id[:6]}"
