"""A Swarm with one pool in memory, for tests of the scaling wing: no engine, a virtual clock, no method but those used.

Its order of removal is the transcription of swarmkit in test_victims.py. Read in swarmkit (commit 3e72cb64) as well:
a change of the placement replaces tasks that have no node, or one that does not fit any more (orchestrator/task.go
`IsTaskDirty`); `MaxReplicas` counts tasks that shall run (scheduler/filter.go `MaxReplicasFilter`); an ended task that
shall run gets a successor, which waits for its delay in desired state ready (orchestrator/restart).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from random import Random
from types import ModuleType
from typing import Any, cast

import pytest

from swarmhpc import state
from swarmhpc.adapters.condor import Pool, classad
from swarmhpc.adapters.docker import Engine, Node, Service, Stored, Task
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cluster.render import ClassPlan, plan_label, read_plan
from swarmhpc.errors import EngineError, PoolUnreachableError
from swarmhpc.scaling import victims
from swarmhpc.scaling.scale import Hands
from swarmhpc.scaling.view import ClassView, look
from tests.unit.samples import Said
from tests.unit.test_victims import reconcile

POOL = "lab"
NO_ROOM = "no suitable node (insufficient resources)"
CLOSED = "no suitable node (scheduling constraints not satisfied)"
FULL = "no suitable node (max replicas per node limit exceed)"
ENDED = ("complete", "shutdown", "failed")
PLAN = ClassPlan("executors", 0, cpus=2, memory_mib=1024)


class Clock:
    """Stands in for the module `time`. What is to happen at a moment happens while somebody sleeps over it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._later: list[tuple[float, Callable[[], object]]] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0, "would never end"
        until = self.now + seconds
        for moment, act in sorted((x for x in self._later if x[0] <= until), key=lambda x: x[0]):
            self._later.remove((moment, act))
            self.now = max(self.now, moment)
            act()
        self.now = until

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        self._later.append((self.now + seconds, act))

    @contextmanager
    def of(self, *modules: ModuleType) -> Iterator[None]:
        """Is the clock of these modules inside the block."""
        with pytest.MonkeyPatch.context() as patch:
            for module in modules:
                patch.setattr(module, "time", self)
            yield


@dataclass
class Told(Said):
    """Progress that keeps details too."""

    details: list[str] = field(default_factory=list)

    def detail(self, text: str) -> None:
        self.details.append(text)


@dataclass
class _Service:
    id: str
    name: str
    labels: dict[str, str]
    replicas: int
    placement: dict[str, Any]
    due: float = 0.0
    """When Swarm acts on its last change."""
    dirty: bool = False


@dataclass
class _Task:
    id: str
    service_id: str
    slot: int
    node_id: str
    state: str
    desired: str
    since: float
    placement: dict[str, Any]
    """As the service's was when the task was made: Swarm's scheduler reads no other."""
    error: str = ""
    container_id: str = ""
    serial: int = 0
    told_at: float | None = None
    registered: bool | None = None
    """None: comes to it by itself."""
    starts: bool = True
    """False: gets no further than its state."""


class FakeSwarm:
    """The engine of the Swarm's manager, the collector, and the way to executors."""

    react_s = 0.03
    start_s = 2.0
    register_s = 1.5
    leave_s = 0.4
    restart_delay_s = 2.0

    def __init__(self, nodes: str = "a", *, plans: Sequence[ClassPlan] = (PLAN,), random: Random | None = None) -> None:
        self.clock = Clock()
        self.random = random or Random(1)
        self.node_list = [
            Node(f"node-{n}", f"host-{n}", "worker", "ready", "active", "192.0.2.1", 8, 8192, {"rack": "one"})
            for n in nodes
        ]
        self.service_list = [self._service(p) for p in plans]
        self.task_list: list[_Task] = []
        self.jobs: dict[str, list[str]] = {}
        """By task."""
        self.room: dict[str, int] = {}
        """How many executors a node has room for; a node that is not named has room for all."""
        self.fails = ""
        """What every new executor fails with."""
        self.config_list: list[Stored] = []
        self.calls: list[tuple[Any, ...]] = []
        """Every change asked for."""
        self.troubles: dict[tuple[str, int], BaseException] = {}
        """(method, the how-manyth call of it): what it raises instead."""
        self.deaf = 0
        """So many times from now on `retire` reaches nobody."""
        self.silent = False
        """The collector does not answer."""
        self.queue_away = False
        """The access point does not answer."""
        self.untold: set[str] = set()
        """Tasks of whose jobs the collector has not been told yet."""
        self._count: Counter[str] = Counter()
        self._serial = 0

    def _service(self, plan: ClassPlan) -> _Service:
        placement: dict[str, Any] = {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]}
        if plan.placement:
            placement["Constraints"] = [f"node.labels.{k} == {v}" for k, v in plan.placement]
        if plan.spread:
            placement["Preferences"] = [{"Spread": {"SpreadDescriptor": f"node.labels.{plan.spread}"}}]
        if plan.max_per_node:
            placement["MaxReplicas"] = plan.max_per_node
        labels = {state.LABEL_CLUSTER: POOL, state.LABEL_CLASS: plan.name, state.LABEL_PLAN: plan_label(plan)}
        return _Service(f"s-{plan.name}", f"{POOL}_{plan.name}", labels, plan.replicas, placement)

    # -- what a test sets up and looks at -----------------------------------------------------------------------------

    def put(
        self,
        slot: int,
        node: str = "",
        now: str = "running",
        desired: str = "running",
        *jobs: str,
        name: str = "executors",
        registered: bool | None = None,
        starts: bool = True,
        counts: bool = True,
    ) -> _Task:
        """An executor that is there from the start. `counts`: is one of the replicas."""
        at = f"node-{node}" if node else ""
        task = self._new_task(self.of(name), slot, desired, at, "pending" if not node else now)
        task.container_id = f"c-{task.id}" if node and now == "running" else ""
        task.registered = (now == "running") if registered is None else registered
        task.starts = starts
        task.error = "" if node else NO_ROOM
        if jobs:
            self.jobs[task.id] = list(jobs)
        if counts and desired in victims.UPDATABLE:
            self.of(name).replicas += 1
        return task

    def fill(self, nodes: str, busy: Sequence[int] = (), name: str = "executors") -> list[_Task]:
        """Executors that run, slot 1 on the first letter's node, slot 2 on the second's; those in `busy` with a job."""
        return [
            self.put(i, n, "running", "running", *(["1.0"] * (i in busy)), name=name) for i, n in enumerate(nodes, 1)
        ]

    def of(self, name: str = "executors") -> _Service:
        return next(s for s in self.service_list if s.labels.get(state.LABEL_CLASS) == name)

    def views(self) -> dict[str, ClassView]:
        return look(self.engine, POOL, self.slots(), self.nodes())

    def view(self, name: str = "executors") -> ClassView:
        return self.views()[name]

    def settle(self, seconds: float = 1.0) -> None:
        """Lets time pass."""
        for _ in range(int(seconds / 0.05)):
            self.clock.sleep(0.05)
            self._tick()

    def updatable(self, name: str = "executors") -> list[_Task]:
        return [t for t in self.task_list if t.service_id == self.of(name).id and t.desired in victims.UPDATABLE]

    def calls_of(self, method: str) -> int:
        """How often a method has been called so far."""
        return self._count[method]

    def add_autoscaler(self, replicas: int) -> _Service:
        """The service of the autoscaler, without tasks."""
        labels = {state.LABEL_CLUSTER: POOL, state.LABEL_ROLE: state.AUTOSCALER}
        self.service_list.append(_Service("s-autoscaler", f"{POOL}_autoscaler", labels, replicas, {}))
        return self.service_list[-1]

    @property
    def engine(self) -> Engine:
        return cast(Engine, self)

    @property
    def hands(self) -> Hands:
        return Hands(self.engine, POOL, self.slots, self.running, self.retire)

    # -- the engine's methods -----------------------------------------------------------------------------------------

    def nodes(self) -> list[Node]:
        self._asked("nodes")
        return list(self.node_list)

    def services(self, cluster: str) -> list[Service]:
        self._asked("services")
        assert cluster == POOL
        return [Service(s.id, s.name, dict(s.labels), s.replicas, "image", "{}") for s in self.service_list]

    def tasks(self, service_id: str | None = None) -> list[Task]:
        self._asked("tasks")
        found = [t for t in self.task_list if service_id in (None, t.service_id)]
        return [
            Task(
                t.id,
                t.service_id,
                t.node_id,
                t.slot,
                t.state,
                t.desired,
                t.error,
                t.container_id,
                "{}",
                f"{t.serial:09}",
            )
            for t in sorted(found, key=lambda t: t.serial)
        ]

    def scale(self, service_id: str, replicas: int) -> None:
        self._asked("scale")
        self._changed(service_id, replicas, None)

    def placement(self, service_id: str) -> dict[str, Any]:
        self._asked("placement")
        return dict(self._by_id(service_id).placement)

    def service_change(
        self, service_id: str, *, replicas: int | None = None, placement: Mapping[str, Any] | None = None
    ) -> None:
        self._asked("service_change")
        assert (replicas, placement) != (None, None), "changes nothing"
        self._changed(service_id, replicas, placement)

    def configs(self, cluster: str) -> list[Stored]:
        self._asked("configs")
        assert cluster == POOL
        return list(self.config_list)

    def config_create(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        self._asked("config_create")
        if any(c.name == name for c in self.config_list):
            raise EngineError(f"docker config create {name}: the engine says: name conflicts with an existing object")
        self._serial += 1
        self.config_list.append(Stored(f"config{self._serial}", name, dict(labels), data))

    def config_remove(self, config_id: str) -> None:
        self._asked("config_remove")
        if all(c.id != config_id for c in self.config_list):
            raise EngineError(f"docker config rm: the engine says: config {config_id} not found")
        self.config_list = [c for c in self.config_list if c.id != config_id]

    # -- the pool -----------------------------------------------------------------------------------------------------

    def slots(self, resources: Sequence[str] = ()) -> list[Slot]:
        """What the collector knows: executors that leave too, until they have ended."""
        self._asked("slots")
        if self.silent:
            raise PoolUnreachableError("the central manager of pool lab does not answer")
        return [slot for t in self.task_list for slot in self._slots(t, resources)]

    def _slots(self, t: _Task, resources: Sequence[str]) -> Iterator[Slot]:
        up = t.state == "running" and self.clock.now - t.since >= self.register_s
        if not (up if t.registered is None else t.registered and t.state == "running"):
            return
        plan = self._plan(t)
        jobs = self.jobs.get(t.id, [])
        amounts = dict(plan.counted)
        base = Slot(
            name=f"slot1@{self._host(t)}",
            executor=self._host(t),
            class_name=plan.name,
            node=t.node_id.replace("node", "host"),
            task=t.id,
            cpus=plan.cpus - len(jobs),
            memory_mib=plan.memory_mib - 128 * len(jobs),
            partitionable=True,
            state="Unclaimed",
            activity="Idle",
            job_id="",
            total_cpus=plan.cpus,
            total_memory_mib=plan.memory_mib,
            activity_age_s=0,
            resources={r: amounts.get(r, 0) for r in resources},
            idle_for_s=0 if jobs else int(self.clock.now - t.since),
        )
        yield base
        for i, job in enumerate(() if t.id in self.untold else jobs, 1):
            yield replace(
                base, name=f"slot1_{i}@{base.executor}", cpus=1, memory_mib=128, partitionable=False, state="Claimed",
                activity="Busy", job_id=job, activity_age_s=60, resources=dict.fromkeys(resources, 0), idle_for_s=0,
            )  # fmt: skip

    def running(self) -> dict[str, str]:
        """A job of each busy executor, as the queue has it; `queue_away`: it does not answer."""
        if self.queue_away:
            raise PoolUnreachableError("the access point of pool lab does not answer")
        return {self._host(t): self.jobs[t.id][0] for t in self.task_list if self.jobs.get(t.id)}

    def retire(self, hosts: Sequence[str]) -> bool:
        """`condor_off -peaceful -startd`."""
        self._asked("retire")
        self.calls.append(("retire", *hosts))
        by_host = {self._host(t): t for t in self.task_list}
        assert hosts
        assert set(hosts) <= set(by_host), f"nobody is called {set(hosts) - set(by_host)}"
        if self.deaf:
            self.deaf -= 1
            return False
        for h in hosts:
            self._tell(by_host[h])
        return True

    # -- Swarm at work ------------------------------------------------------------------------------------------------

    def _asked(self, method: str) -> None:
        self._tick()
        self._count[method] += 1
        if trouble := self.troubles.get((method, self._count[method])):
            raise trouble

    def _changed(self, service_id: str, replicas: int | None, placement: Mapping[str, Any] | None) -> None:
        s = self._by_id(service_id)
        self.calls.append((s.labels.get(state.LABEL_CLASS, s.name), replicas, placement))
        if replicas is not None:
            assert replicas >= 0
            s.replicas = replicas
        if placement is not None and dict(placement) != s.placement:
            s.placement, s.dirty = dict(placement), True
        s.due = self.clock.now + self.react_s

    def _tick(self) -> None:
        for s in self.service_list:
            if state.LABEL_CLASS in s.labels and self.clock.now >= s.due:
                self._orchestrate(s)
        for t in list(self.task_list):
            self._go_on(t)
        for t in self.task_list:
            if t.desired in victims.UPDATABLE and not t.node_id:
                self._place(t)

    def _orchestrate(self, s: _Service) -> None:
        mine = [t for t in self.task_list if t.service_id == s.id]
        shall = [t for t in mine if t.desired in victims.UPDATABLE]
        slots = {t.slot for t in shall}
        going: set[int] = set()
        if s.replicas < len(slots):
            rows = [victims.TaskRow(t.id, t.slot, t.node_id, t.state, t.desired, "") for t in mine]
            going = reconcile(rows, len(slots) - s.replicas, self.random)
        if s.dirty:
            s.dirty = False
            for t in shall:
                if t.slot not in going and not (t.node_id and self._fits(s.placement, t.node_id)):
                    self._stop(t, "shutdown")
                    self._new_task(s, t.slot, "running")
        for t in shall:
            if t.slot in going:
                self._stop(t, "remove")
        missing = (n for n in range(1, len(slots) + s.replicas + 1) if n not in slots)
        for slot in list(islice(missing, max(0, s.replicas - len(slots)))):
            self._new_task(s, slot, "running")

    def _stop(self, t: _Task, desired: str) -> None:
        t.desired = desired
        if t.state == "running":
            self._tell(t)
        elif t.node_id:
            self._end(t, "shutdown")
        else:
            self.task_list.remove(t)

    def _go_on(self, t: _Task) -> None:
        waited_s = self.clock.now - t.since
        if t.state == "running":
            if t.told_at is not None and not self.jobs.get(t.id) and self.clock.now - t.told_at >= self.leave_s:
                self._end(t, "complete")
        elif t.desired == "ready":
            if waited_s >= self.restart_delay_s:
                t.desired, t.since = "running", self.clock.now
        elif t.state == "assigned" and waited_s >= self.start_s and t.starts:
            if self.fails:
                t.error = self.fails
                self._end(t, "failed")
            else:
                t.container_id = f"c-{t.id}"
                self._turn(t, "running")

    def _end(self, t: _Task, now: str) -> None:
        self._turn(t, now)
        if t.desired == "remove":
            self.task_list.remove(t)
        elif t.desired in victims.UPDATABLE:
            t.desired = "shutdown"
            self._new_task(next(s for s in self.service_list if s.id == t.service_id), t.slot, "ready")

    def _place(self, t: _Task) -> None:
        mine = Counter(
            o.node_id for o in self.task_list if o.service_id == t.service_id and o.desired in victims.UPDATABLE
        )
        here = Counter(o.node_id for o in self.task_list if o.state not in ENDED)
        nodes = [n.id for n in self.node_list if n.state == "ready" and n.availability == "active"]
        fitting = [n for n in nodes if self._fits(t.placement, n)]
        below = [n for n in fitting if mine[n] < (t.placement.get("MaxReplicas") or 1000)]
        free = [n for n in below if here[n] < self.room.get(n, 1000)]
        if not free:
            t.error = NO_ROOM if below else FULL if fitting else CLOSED
            return
        t.node_id, t.error = min(free, key=lambda n: mine[n]), ""
        self._turn(t, "assigned")

    def _fits(self, placement: Mapping[str, Any], node_id: str) -> bool:
        labels = next(n.labels for n in self.node_list if n.id == node_id)
        for constraint in placement.get("Constraints") or ():
            key, operator, value = constraint.split(" ")
            has = node_id if key == "node.id" else labels.get(key.removeprefix("node.labels."), "")
            assert operator in ("==", "!="), constraint
            if (has == value) != (operator == "=="):
                return False
        return True

    def _new_task(self, s: _Service, slot: int, desired: str, node_id: str = "", now: str = "pending") -> _Task:
        task = _Task(f"{self._serial:06}task", s.id, slot, node_id, now, desired, self.clock.now, s.placement)
        self.task_list.append(task)
        self._turn(task, now)
        return task

    def _turn(self, t: _Task, now: str) -> None:
        self._serial += 1
        t.state, t.since, t.serial = now, self.clock.now, self._serial

    def _tell(self, t: _Task) -> None:
        t.told_at = t.told_at if t.told_at is not None else self.clock.now

    def _by_id(self, service_id: str) -> _Service:
        return next(s for s in self.service_list if s.id == service_id)

    def _plan(self, t: _Task) -> ClassPlan:
        return read_plan(self._by_id(t.service_id).labels[state.LABEL_PLAN])

    def _host(self, t: _Task) -> str:
        return f"{self._by_id(t.service_id).labels[state.LABEL_CLASS]}-{t.slot}-{t.id[:6]}"


class FakeCondor:
    """The pool's queue and collector beside a FakeSwarm, with real ClassAds: what the autoscaler asks of them."""

    version = "$CondorVersion: 25.14.1 2026-08-20 BuildID: 1 $"

    def __init__(self, swarm: FakeSwarm, *jobs: Any) -> None:
        # Brings the functions that HTCondor adds to ClassAds, as in the autoscaler's own process.
        import htcondor2  # noqa: F401

        self.swarm = swarm
        self.queue = list(jobs)
        self.shown: dict[tuple[str, str], dict[str, Any]] = {}
        """Generic ads by MyType and Name."""
        self.troubles: dict[str, BaseException] = {}
        """By method: what it raises."""
        self.asked: list[str] = []
        self.executor_ad: dict[str, Any] = {}
        """What the executors' ClassAds have besides or otherwise."""

    @property
    def pool(self) -> Pool:
        return cast(Pool, self)

    @property
    def hands(self) -> Hands:
        return Hands(self.swarm.engine, POOL, self.slots, self.running, self.swarm.retire)

    def _called(self, method: str) -> None:
        self.asked.append(method)
        if trouble := self.troubles.get(method):
            raise trouble

    def slots(self, resources: Sequence[str] = ()) -> list[Slot]:
        self._called("slots")
        return self.swarm.slots(resources)

    def running(self) -> dict[str, str]:
        return self.swarm.running()

    def advertise(self, ads: Sequence[Mapping[str, Any]]) -> None:
        self._called("advertise")
        self.shown.update({(a["MyType"], a["Name"]): dict(classad(a)) for a in ads})

    def generic_ads(self, my_type: str) -> list[dict[str, Any]]:
        self._called("generic_ads")
        return [ad for (found, _), ad in self.shown.items() if found == my_type]

    def job_ads(self, constraint: str, attributes: Sequence[str] = (), *, most: int = -1) -> list[Any]:
        self._called("job_ads")
        found = [j for j in self.queue if _holds(constraint, j)][: None if most < 0 else most]
        now = {"ServerTime": 1_700_000_000 + int(self.swarm.clock.now)}
        if not attributes:
            return [classad(str(j)) for j in found]
        return [_picked(j, attributes, now) for j in found]

    def slot_ad(self, constraint: str) -> Any | None:
        self._called("slot_ad")
        return next((ad for s in self.swarm.slots() if _holds(constraint, ad := self._ad(s))), None)

    def _ad(self, s: Slot) -> Any:
        """As an executor of the image shows itself."""
        import classad2

        ad = classad(
            {
                "MyType": "Machine", "Name": s.name, "Machine": s.executor, "Arch": "X86_64", "OpSys": "LINUX",
                "CondorVersion": self.version, "HasDocker": True, "HasFileTransfer": True, "Start": True,
                "HasFileTransferPluginMethods": "data,file,ftp,http,https", "FileSystemDomain": s.executor,
                "PartitionableSlot": s.partitionable, "State": s.state, "Activity": s.activity, "Cpus": s.cpus,
                "Memory": s.memory_mib, "Disk": 10**7, "TotalDisk": 10**7, "TotalSlotDisk": 10**7,
                "SwarmHpcClass": s.class_name, "SwarmHpcTask": s.task, "SwarmHpcNode": s.node,
                **self.executor_ad,
            }
        )  # fmt: skip
        limits = "MY.Cpus >= TARGET.RequestCpus && MY.Memory >= TARGET.RequestMemory && MY.Disk >= TARGET.RequestDisk"
        ad["WithinResourceLimits"] = classad2.ExprTree(limits)
        ad["Requirements"] = classad2.ExprTree("START && WithinResourceLimits")
        return ad

    # -- jobs at work ---------------------------------------------------------------------------------------------

    def negotiate(self) -> None:
        """Idle jobs begin on executors that have a CPU for them and were not told to leave."""
        for s in self.swarm.slots():
            t = next(t for t in self.swarm.task_list if t.id == s.task)
            if not s.partitionable or t.told_at is not None:
                continue
            for job in [j for j in self.queue if j["JobStatus"] == 1][: s.cpus]:
                job["JobStatus"] = 2
                self.swarm.jobs.setdefault(t.id, []).append(f"{job['ClusterId']}.{job['ProcId']}")

    def finish(self) -> None:
        """All jobs that run end."""
        self.queue = [j for j in self.queue if j["JobStatus"] != 2]
        self.swarm.jobs.clear()


def _holds(constraint: str, ad: Any) -> bool:
    """Whether an ad satisfies an expression, as schedd and collector see it."""
    import classad2

    asked = classad(str(ad))
    asked["FakeConstraint"] = classad2.ExprTree(constraint)
    return asked.eval("FakeConstraint") is True


def _picked(ad: Any, attributes: Sequence[str], now: Mapping[str, Any]) -> Any:
    result = classad(now if "ServerTime" in attributes else {})
    for name in attributes:
        if name in ad:
            result[name] = ad.lookup(name)
    return result


def job_ad(
    cluster: int = 1,
    proc: int = 0,
    requirements: str = "",
    *,
    docker: bool = False,
    memory: str = "128",
    cpus: int = 1,
    disk: str = "DiskUsage",
    gpus: int = 0,
    urls: str = "",
    owner: str = "alice",
    **more: Any,
) -> Any:
    """A job as the access point has it: Requirements as condor_submit makes them of the person's own (HTCondor 25.14,
    src/condor_utils/submit_utils.cpp, `SetRequirements`)."""
    import classad2

    parts = [f"({requirements})"] if requirements else []
    parts.append('(TARGET.Arch == "X86_64")')
    parts.append("TARGET.HasDocker" if docker else '(TARGET.OpSys == "LINUX")')
    parts.append('(versionGE(split(TARGET.CondorVersion)[1], "25.12.0") || (TARGET.Disk >= RequestDisk))')
    parts.append("(TARGET.Memory >= RequestMemory)")
    parts += ["(TARGET.Cpus >= RequestCpus)"] if cpus > 1 else []
    parts += ["(TARGET.GPUs >= RequestGPUs)"] if gpus else []
    parts += [f"(TARGET.{n[7:]} >= {n})" for n in more if n.startswith("Request")]
    methods = f' && stringListIMember("{urls}",TARGET.HasFileTransferPluginMethods)' if urls else ""
    parts.append(f"(TARGET.HasFileTransfer{methods})")
    entered = 1_700_000_000
    ad = classad(
        {
            "MyType": "Job", "ClusterId": cluster, "ProcId": proc, "Owner": owner, "JobStatus": 1, "JobUniverse": 5,
            "QDate": entered, "EnteredCurrentStatus": entered, "RequestCpus": cpus, "DiskUsage": 40, "ImageSize": 40,
            **({"RequestGPUs": gpus} if gpus else {}), **({"WantDocker": True} if docker else {}), **more,
        }
    )  # fmt: skip
    ad["RequestMemory"] = classad2.ExprTree(memory)
    ad["RequestDisk"] = classad2.ExprTree(disk)
    ad["Requirements"] = classad2.ExprTree(" && ".join(parts))
    return ad
