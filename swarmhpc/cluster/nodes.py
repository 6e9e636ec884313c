"""Nodes one by one: who there is, and what drain, activate, add and remove would do (pure, after `observe`).

Carrying it out is `leaving`'s; adding is `up`'s, with one more machine in the cluster file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from swarmhpc import config, state
from swarmhpc import context as contexts
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.docker import Engine, Node, Service, Task
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cluster import file_edits
from swarmhpc.cluster.file_edits import refuse
from swarmhpc.cluster.fleet import Fleet, each, require_manager, stored_cluster
from swarmhpc.config import Cluster
from swarmhpc.errors import SwarmHpcError, UsageError

NO_NODE = "no node"

Answer = Literal["node", "left", "silent"]
"""A machine's engine is that node of the Swarm; it answers but is not (any more); it does not answer."""


@dataclass(frozen=True)
class Row:
    """A machine of the cluster file, a node of the Swarm, or both. A machine that is no node has no `id`.

    `name` is the machine's, or Swarm's host name of a node that swarmhpc did not bring. `labels`: the user's. `jobs`:
    running on it; None where nobody could tell.
    """

    name: str
    id: str = ""
    hostname: str = ""
    address: str = ""
    role: str = ""
    is_leader: bool = False
    state: str = NO_NODE
    availability: str = ""
    cpus: int | None = None
    memory_mib: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    executors: int | None = None
    draining: int | None = None
    jobs: int | None = None
    engine_version: str = ""
    in_file: bool = True
    holds_queue: bool = False

    @property
    def runs(self) -> bool:
        """Takes tasks."""
        return self.state == "ready" and self.availability == "active"


@dataclass(frozen=True)
class Situation:
    """The Swarm's nodes at one moment. `cluster`: the file that the Swarm remembers.

    `queue_is_pinned`: the access point runs only on the node with the queue's label. `queue_is_volume`: its content
    must be copied when it moves.
    """

    pool: str
    cluster: Cluster
    rows: tuple[Row, ...]
    queue_is_pinned: bool = True
    queue_is_volume: bool = True


@dataclass(frozen=True)
class LeavePlan:
    """What draining or removing does. `steps` read well after "will"; none: nothing to do.

    `move`: where the queue leaves and where it goes. `lost`: its content can't be copied, the node is gone.
    `remaining`: the cluster file to be applied afterwards; None where nothing of it changes.
    """

    steps: tuple[str, ...]
    targets: tuple[Row, ...]
    move: tuple[Row, Row] | None = None
    lost: bool = False
    remaining: Cluster | None = None
    notices: tuple[str, ...] = ()


# -- looking --------------------------------------------------------------------------------------------------------


def observe(fleet: Fleet, file: Cluster | None, pool: str | None) -> tuple[Engine, Situation]:
    """A manager's engine, and the nodes as it knows them. `file`: the cluster file that counts here.

    Raises NoPoolError or EngineUnreachableError where no manager answers.
    """
    manager, owner = require_manager(fleet, pool)
    stored = stored_cluster(manager) or file or Cluster(name=owner)
    services = manager.services(owner)
    rows = table(
        stored,
        file or stored,
        manager.nodes(),
        services=services,
        tasks=manager.tasks(),
        slots=slots(owner),
    )
    vip = any(manager.endpoint_mode(s.id) == "vip" for s in services[:1])
    is_volume = stored.queue.path is None
    return manager, Situation(owner, stored, rows, queue_is_pinned=is_volume or not vip, queue_is_volume=is_volume)


def slots(pool: str) -> list[Slot] | None:
    """Every slot that the collector knows, asked as this machine's person; None where it does not answer."""
    try:
        return Pool(contexts.load(pool)).slots()
    except SwarmHpcError:
        return None


def answers(fleet: Fleet, rows: Iterable[Row]) -> dict[str, Answer]:
    """Who of these answers, and as what; by name."""
    of_name = {r.name: r for r in rows if r.name in fleet.remotes}

    def ask(name: str) -> Answer:
        facts = fleet.engine(name).facts()
        return "node" if facts.swarm_state != "inactive" and facts.node_id == of_name[name].id else "left"

    found = each(of_name, ask)
    return {n: "silent" if isinstance(a, SwarmHpcError) else a for n, a in found.items()}


# -- deciding (pure) ------------------------------------------------------------------------------------------------


def table(
    stored: Cluster,
    file: Cluster,
    nodes: Sequence[Node],
    *,
    services: Sequence[Service],
    tasks: Sequence[Task],
    slots: Sequence[Slot] | None,
) -> tuple[Row, ...]:
    """Machines in the order of the file, then the other nodes."""
    executor_services = {s.id for s in services if s.labels.get(state.LABEL_ROLE) == state.EXECUTOR}
    node_of_task = {t.id: t.node_id for t in tasks}
    executors = Counter(t.node_id for t in tasks if t.is_up and t.service_id in executor_services)
    # A class that was taken out of the file has no service any more while its last executors finish.
    daemons = {s.id for s in services} - executor_services
    draining = Counter(t.node_id for t in tasks if t.is_leaving and t.service_id not in daemons)
    jobs = Counter(node_of_task.get(s.task, "") for s in slots or () if s.job_id and not s.partitionable)

    def row(node: Node, name: str) -> Row:
        return Row(
            name=name,
            id=node.id,
            hostname=node.name,
            address=node.address,
            role=node.role,
            is_leader=node.manager_status == "leader",
            state=node.state,
            availability=node.availability,
            cpus=node.cpus,
            memory_mib=node.memory_mib,
            labels=tuple(sorted((k, v) for k, v in node.labels.items() if not k.startswith("swarmhpc."))),
            executors=executors[node.id],
            draining=draining[node.id],
            jobs=None if slots is None else jobs[node.id],
            engine_version=node.engine_version,
            in_file=not file.machines or name in {m.name for m in file.machines},
            holds_queue=node.labels.get(state.LABEL_QUEUE_NODE) == stored.name,
        )

    of_machine = {n.labels[state.LABEL_MACHINE]: n for n in nodes if state.LABEL_MACHINE in n.labels}
    machines = {m.name: m for m in (*file.machines, *stored.machines)}
    rows = []
    for name in machines:
        if name in of_machine:
            rows.append(row(of_machine[name], name))
        else:
            m = next((m for m in file.machines if m.name == name), None)
            known = m or machines[name]
            rows.append(Row(name, address=known.address, role=known.role, labels=known.labels, in_file=m is not None))
    shown = {r.id for r in rows}
    rows += [row(n, n.labels.get(state.LABEL_MACHINE, n.name)) for n in nodes if n.id not in shown]
    return tuple(rows)


def find(rows: Sequence[Row], names: Iterable[str]) -> tuple[Row, ...]:
    """The rows that are meant, each once. A name is the machine's, the Swarm's host name, or a node id.

    Raises UsageError that lists every unknown name, and those there are.
    """
    found: dict[tuple[str, str], Row] = {}
    problems: list[UsageError] = []
    for name in names:
        matches = [r for r in rows if r.name == name] or [r for r in rows if name in (r.hostname, r.id)]
        if len(matches) == 1:
            found[matches[0].id, matches[0].name] = matches[0]
        elif matches:
            ids = ", ".join(r.id for r in matches)
            problems.append(UsageError(f"{len(matches)} nodes are called {name}: {ids}", hint="name the id"))
        else:
            known = ", ".join(r.name for r in rows)
            problems.append(UsageError(f"no node is called {name}; there are {known}", hint="swarmhpc node list"))
    refuse(problems)
    return tuple(found.values())


def decide_drain(
    s: Situation, names: Sequence[str], *, queue_to: str | None = None, stop_pool: bool = False
) -> LeavePlan:
    """What draining these nodes takes. `stop_pool`: also where that leaves the pool without its access point, or
    without any node. Raises UsageError."""
    targets = find(s.rows, names)
    problems = _not_joined(targets)
    move = _move(s, targets, queue_to, problems)
    going = [r for r in targets if r.id and r.availability != "drain"]
    if not stop_pool:
        problems += [_would_stop(s, r, "drain") for r in going if r.holds_queue and s.queue_is_pinned and not move]
        problems += _last_place(s, going, "activate another one first: swarmhpc node activate NAME; or --stop-pool")
    refuse(problems)
    steps = _move_steps(s, move, lost=False) + [_drain_step(r) for r in going]
    drained = [r for r in targets if r not in going and (r.executors or r.draining)]
    steps += [f"wait for {_executors(r)} on {r.name}, which is drained already" for r in drained]
    return LeavePlan(tuple(steps), targets, move)


def decide_remove(
    s: Situation,
    names: Sequence[str],
    answering: Mapping[str, Answer],
    *,
    queue_to: str | None = None,
    force: bool = False,
) -> LeavePlan:
    """What removing these nodes takes. `force`: they are gone for good. Raises UsageError."""
    targets = find(s.rows, names)
    nodes = [r for r in targets if r.id]
    problems: list[UsageError] = []
    managers = [r for r in s.rows if r.role == "manager" and r.id]
    if any(r in nodes for r in managers) and not any(r not in nodes for r in managers):
        word = "the last manager" if len(managers) == 1 else "all managers"
        problems.append(
            UsageError(
                f"{', '.join(r.name for r in managers)}: {word} of the Swarm, which ends without",
                hint="give another machine role: manager in swarmhpc.yaml, then swarmhpc up; to end the pool: down",
            )
        )
    else:
        problems += _last_place(s, nodes, "activate or add another node first; to end the pool: swarmhpc down")
    for r in nodes:
        if problem := _wrong_answer(r, answering.get(r.name, "silent"), force=force):
            problems.append(problem)
    move = _move(s, targets, queue_to, problems)
    problems += [
        _would_stop(s, r, "remove --force" if force else "remove")
        for r in nodes
        if r.holds_queue and s.queue_is_pinned and not move
    ]
    refuse(problems)
    lost = move is not None and answering.get(move[0].name) != "node"
    steps = _move_steps(s, move, lost=lost)
    steps += [_drain_step(r) for r in nodes if r.availability != "drain" and answering.get(r.name) == "node"]
    for r in nodes:
        steps += [f"demote manager {r.name}"] if r.role == "manager" else []
        if answering.get(r.name) == "node":
            steps.append(f"make {r.name} leave the Swarm, and remove what the pool left on it (not its images)")
        else:
            steps.append(f"take {r.name}, which has gone, off the Swarm's list")
    # A machine that was installed anew has two nodes, one of them dead: the name goes with the last of them.
    gone = {r.name for r in targets} - {r.name for r in s.rows if r not in targets}
    remaining, demoted = file_edits.without(s.cluster, gone, move and move[1].name)
    notices = []
    if remaining != s.cluster:
        config.parse(config.dump(remaining), file="the cluster file without " + ", ".join(r.name for r in targets))
        listed = {m.name for m in s.cluster.machines}
        if out := [r.name for r in targets if r.name in listed & gone]:
            steps.append(f"take {', '.join(out)} out of the cluster file that the Swarm remembers")
    if demoted:
        steps.append(f"demote manager {demoted}")
        count = len(remaining.managers)
        notices.append(
            f"{count + 1} managers survive no more losses than {count}, so {demoted} becomes a worker; "
            f"{'losing ' + remaining.managers[0].name + ' now stops the Swarm. ' if count == 1 else ''}"
            "Write role: worker for it in your swarmhpc.yaml; or make it a manager again, and add another one: "
            "swarmhpc node add HOST --role manager"
        )
    troubled = [m for m in managers if m not in nodes and m.state != "ready"]
    notices += [f"manager {m.name} is {m.state}: mend or remove it too" for m in troubled]
    changed = remaining if lost or remaining != s.cluster else None
    return LeavePlan(tuple(steps), targets, move, lost, changed, tuple(notices))


def decide_activate(s: Situation, names: Sequence[str]) -> tuple[Row, ...]:
    """The nodes of these that are not active. Raises UsageError."""
    targets = find(s.rows, names)
    refuse(_not_joined(targets))
    return tuple(r for r in targets if r.availability != "active")


# -- parts ----------------------------------------------------------------------------------------------------------


def _move(
    s: Situation, targets: Sequence[Row], queue_to: str | None, problems: list[UsageError]
) -> tuple[Row, Row] | None:
    """Where the queue leaves and where it goes; adds what is wrong with it."""
    if queue_to is None or not s.queue_is_pinned:
        return None
    to = find(s.rows, [queue_to])[0]
    holders = [r for r in targets if r.holds_queue]
    if not holders and to.holds_queue:
        return None  # it has moved already
    if not holders:
        at = ", ".join(r.name for r in s.rows if r.holds_queue) or "no node"
        names = ", ".join(r.name for r in targets)
        problems.append(UsageError(f"--queue-to: the queue is on {at}, not on {names}", hint="leave out --queue-to"))
    elif to in targets or not to.runs:
        why = "is to leave itself" if to in targets else f"is {to.availability or NO_NODE} and {to.state}"
        problems.append(UsageError(f"--queue-to: {to.name} {why}", hint="name a node that is ready and active"))
    else:
        return holders[0], to
    return None


def _not_joined(targets: Sequence[Row]) -> list[UsageError]:
    return [
        UsageError(f"machine {r.name} is no node yet", hint="swarmhpc up makes it one") for r in targets if not r.id
    ]


def _would_stop(s: Situation, r: Row, verb: str) -> UsageError:
    what = "the queue is a volume of this node" if s.queue_is_volume else "without VIPs clients look for it here"
    would = "draining it stops the access point" if verb == "drain" else "removing it would end the queue"
    ends = {
        "drain": "moves the queue first; --stop-pool drains it all the same",
        "remove": "moves the queue first",
        "remove --force": "lets it begin anew on another node: the jobs in it are lost",
    }
    return UsageError(
        f"node {r.name} holds the queue ({what}): {would}; nobody could submit, and running jobs start again later",
        hint=f"swarmhpc node {verb} {r.name} --queue-to NAME {ends[verb]}",
    )


def _last_place(s: Situation, going: Sequence[Row], hint: str) -> list[UsageError]:
    """That no node would be left that takes tasks: no place for the central manager, nor for jobs."""
    if not any(r.runs for r in going) or any(r.runs for r in s.rows if r not in going):
        return []
    names = ", ".join(r.name for r in going)
    return [UsageError(f"{names}: no active node would be left for the central manager and the executors", hint=hint)]


def _wrong_answer(r: Row, answer: Answer, *, force: bool) -> UsageError | None:
    if force and (r.state == "ready" or answer == "node"):
        seen = "its engine answers" if answer == "node" else "the Swarm says it is ready"
        return UsageError(
            f"node {r.name}: --force is for a machine that is gone for good, and {seen}",
            hint=f"swarmhpc node remove {r.name}   (without --force: its jobs finish first)",
        )
    if force or answer != "silent":
        return None
    if r.state == "ready":
        return UsageError(
            f"node {r.name} ({r.address}) is ready, but its engine can't be reached from here over ssh",
            hint=f"mend that: swarmhpc doctor; or on the machine: docker swarm leave; then remove {r.name} --force",
        )
    return UsageError(
        f"node {r.name} ({r.address}) gives no answer (the Swarm says {r.state})",
        hint=f"start it again; if it is gone for good: swarmhpc node remove {r.name} --force",
    )


def _move_steps(s: Situation, move: tuple[Row, Row] | None, *, lost: bool) -> list[str]:
    if move is None:
        return []
    old, new = move[0].name, move[1].name
    if lost:
        return [f"let the queue begin anew on {new}, with what volume {s.pool}_queue holds there: {old}'s is lost"]
    if not s.queue_is_volume:
        return [f"let the access point move from {old} to {new}"]
    return [f"move the queue from {old} to {new}: stop the access point, copy volume {s.pool}_queue, start it there"]


def _drain_step(r: Row) -> str:
    if not r.executors and not r.draining:
        return f"drain {r.name}: no executor runs there"
    return f"drain {r.name}: {_executors(r)} there take no new jobs, and leave when those they have are finished"


def _executors(r: Row) -> str:
    count = (r.executors or 0) + (r.draining or 0)
    return f"{count} executor{'' if count == 1 else 's'}"
