"""Machines and the Swarm they form: what has to be done to each (pure: `judge`), and doing it (`Bringing`)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from swarmhpc import state
from swarmhpc.adapters import machine as here
from swarmhpc.adapters.docker import EngineFacts, Node
from swarmhpc.adapters.remote import MachineFacts
from swarmhpc.cluster import plan
from swarmhpc.cluster.fleet import Fleet, each
from swarmhpc.cluster.plan import Step
from swarmhpc.config import Cluster, Machine
from swarmhpc.errors import EngineError, EngineUnreachableError, MachineError, SwarmHpcError, UsageError

SWARM_PORTS = (2377, 7946)


@dataclass(frozen=True)
class Seen:
    """One machine as it answered. `error`: why nothing can be done with it now.

    `engine` is None where no engine answers: the machine has to be prepared. `swarm_pool`: the pool of the Swarm that
    this engine manages, None also for a worker's. `address` is what the machine advertises to the others (IPv4).
    """

    machine: Machine
    address: str = ""
    facts: MachineFacts | None = None
    engine: EngineFacts | None = None
    swarm_pool: str | None = None
    has_image: bool = False
    has_queue: bool = False
    """Whether this machine has a volume with the pool's queue, perhaps from before a `down`."""
    is_prepared: bool = True
    error: SwarmHpcError | None = None


@dataclass(frozen=True)
class Decision:
    """What has to be done to the machines. Names are machines'; nodes go by their id.

    `troubled`: machines that nothing is done with, and why; the others go on without them.
    """

    steps: tuple[Step, ...]
    prepare: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    first: str = ""
    """The machine that makes the Swarm; empty where there is one."""
    join: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    troubled: Mapping[str, SwarmHpcError] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()
    """Nodes of the Swarm that the cluster file does not name: left alone."""


_LOCAL_FILESYSTEMS = {"ext2/ext3", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "overlayfs", "tmpfs", "ramfs"}
"""As `stat -f -c %T` calls them (coreutils 9.1, stat.c, human_fstype): no two machines see the same files there."""


# -- looking --------------------------------------------------------------------------------------------------------


def look(fleet: Fleet, cluster: Cluster, *, image: str, recipe: Mapping[str, str]) -> dict[str, Seen]:
    """Asks every machine, all at once. `recipe`: what a machine's preparation must be to count, by its role."""
    by_name = {m.name: m for m in fleet.machines}

    def one(name: str) -> Seen:
        machine, remote = by_name[name], fleet.remotes[name]
        if fleet.alone:
            seen = _look_engine(Seen(machine), fleet, cluster, image)
            known = seen.engine.node_address if seen.engine is not None else ""
            return replace(seen, address=cluster.address or known or here.default_address())
        try:
            facts = remote.facts(cluster.queue.path or "")
            address = _advertised(machine, facts)
        except SwarmHpcError as e:
            return Seen(machine, error=e)
        seen = Seen(
            machine, address, facts, is_prepared=not cluster.prepare or f'"{recipe[machine.role]}"' in facts.prepared
        )
        if not facts.engine_version:
            return seen
        try:
            return _look_engine(seen, fleet, cluster, image)
        except SwarmHpcError as e:
            return replace(seen, error=e)

    found = each(by_name, one)
    for seen in found.values():
        if isinstance(seen, SwarmHpcError):  # only the lone machine's engine comes to that
            raise seen
    return {name: s for name, s in found.items() if isinstance(s, Seen)}


def _look_engine(seen: Seen, fleet: Fleet, cluster: Cluster, image: str) -> Seen:
    engine = fleet.engine(seen.machine.name)
    facts = engine.facts()
    has_queue = state.queue_volume(cluster.name) in engine.volumes(cluster.name)
    seen = replace(seen, engine=facts, has_image=engine.image(image) is not None, has_queue=has_queue)
    if facts.swarm_state != "active" or not facts.is_manager:
        return seen
    try:
        return replace(seen, swarm_pool=engine.swarm_cluster())
    except SwarmHpcError as e:  # managers without a majority
        return replace(seen, error=e)


def _advertised(machine: Machine, facts: MachineFacts) -> str:
    """The machine's address as the other nodes reach it. Raises MachineError where the machine does not have it."""
    ip = here.ipv4(machine.address)
    if ip is None:
        raise MachineError(
            f"machine {machine.name}: the name {machine.address} has no IPv4 address here",
            hint="give an address: in swarmhpc.yaml",
        )
    if ip in facts.addresses and not ipaddress.ip_address(ip).is_loopback:
        return ip
    own = ", ".join(a for a in facts.addresses if not ipaddress.ip_address(a).is_loopback)
    raise MachineError(
        f"machine {machine.name}: {machine.address} is {ip} here, but the machine itself has {own or 'no address'}",
        hint="the nodes must reach each other by the address in swarmhpc.yaml, without translation (NAT)",
    )


# -- deciding (pure) ------------------------------------------------------------------------------------------------


def judge(
    cluster: Cluster,
    seen: Mapping[str, Seen],
    nodes: Sequence[Node],
    *,
    image: str,
    networking: str | None = None,
    old: Cluster | None = None,
) -> Decision:
    """What every machine needs. `nodes`: those of the pool's Swarm, none where it does not exist yet.

    `networking`: of the running pool. `old`: the file it was made from. Raises where nothing can go on: the first
    manager gives no answer while there is no Swarm, or the queue would have to move.
    """
    alone = not cluster.machines
    by_id = {n.id: n for n in nodes}
    # A manager that has just started knows no leader yet; where the Swarm knows it, it is a node like any other.
    ours = {name for name, s in seen.items() if s.engine is not None and s.engine.node_id in by_id}
    errors = {n: (None if n in ours else s.error) or _unfit(cluster, s, by_id, networking) for n, s in seen.items()}
    troubled = {name: e for name, e in errors.items() if e is not None}
    troubled |= _twins(seen, troubled)
    good = {name: s for name, s in seen.items() if name not in troubled}
    prepare = tuple(n for n, s in good.items() if not alone and (s.engine is None or not s.is_prepared))
    images = tuple(n for n, s in good.items() if not s.has_image)
    steps = [Step("machines", f"prepare machine {n}: {_why(good[n])}") for n in prepare]
    verb = "get" if cluster.image.name else "build" if alone else "bring"
    steps += [Step("image", f"{verb} image {image}" + ("" if alone else f" for machine {n}")) for n in images]

    node_of = nodes_of(seen, nodes)
    queue = queue_machine(cluster, seen, nodes)
    first = "" if nodes else _first(cluster, seen, troubled)
    if not alone and queue in troubled and queue not in node_of:
        e = troubled[queue]
        raise MachineError(f"{e.message}; it is to hold the queue, so the pool can't start without it", hint=e.hint)
    if first:
        at = good[first].address
        steps.append(Step("swarm", f"make a Swarm of {'this machine' if alone else first}, advertised at {at}"))
    join = tuple(n for n in good if n not in node_of and n != first)
    wanted_role = {m.name: m.role for m in cluster.machines}
    steps += [Step("swarm", f"join {n} ({good[n].address}) as {wanted_role[n]}") for n in join]
    roles = {n.id: wanted_role[m] for m, n in node_of.items() if m in wanted_role and n.role != wanted_role[m]}
    for node_id, role in roles.items():
        verb = "promote" if role == "manager" else "demote"
        steps.append(Step("swarm", f"{verb} {_called(by_id[node_id])} to {role}"))
    labels = {}
    for name, node in node_of.items():
        now = wanted_labels(cluster, old, name, node.labels, queue=queue)
        if name in seen and now != dict(node.labels):
            labels[node.id] = now
            queue_only = now.get(state.LABEL_QUEUE_NODE) != node.labels.get(state.LABEL_QUEUE_NODE)
            what = f"mark {name} as the home of the queue" if queue_only else f"label node {name}"
            steps.append(Step("swarm", what))
    listed = {node_of[m].id for m in node_of if m in seen}
    unlisted = () if alone else tuple(_called(n) for n in nodes if n.id not in listed)
    return Decision(tuple(steps), prepare, images, first, join, roles, labels, troubled, unlisted)


def nodes_of(seen: Mapping[str, Seen], nodes: Sequence[Node]) -> dict[str, Node]:
    """Which node each machine is: its engine knows best; of a machine that is silent, its node's label tells.

    A machine that was installed anew is no node, though a dead one still has its name.
    """
    by_id = {n.id: n for n in nodes}
    by_engine = {name: by_id[s.engine.node_id] for name, s in seen.items() if s.engine and s.engine.node_id in by_id}
    taken = {n.id for n in by_engine.values()}
    by_label = {
        n.labels[state.LABEL_MACHINE]: n for n in nodes if state.LABEL_MACHINE in n.labels and n.id not in taken
    }
    answered = {name for name, s in seen.items() if s.engine is not None}
    return {name: n for name, n in by_label.items() if name not in answered} | by_engine


def queue_machine(cluster: Cluster, seen: Mapping[str, Seen], nodes: Sequence[Node]) -> str:
    """The machine that holds the queue: the file's, else where it is already (or was left by `down`), else the first
    manager.

    Raises UsageError where the file moves it.
    """
    node_of = nodes_of(seen, nodes)
    holder = next((n for n in nodes if n.labels.get(state.LABEL_QUEUE_NODE) == cluster.name), None)
    at = None if holder is None else next((m for m, n in node_of.items() if n.id == holder.id), _called(holder))
    wanted = cluster.queue.machine
    if at is not None and wanted is not None and wanted != at:
        raise UsageError(
            f"queue.machine: the queue is on {at}, the file says {wanted}; a queue does not move by itself",
            hint=f"queue: {{machine: {at}}} keeps it; swarmhpc node remove {at} --queue-to {wanted} moves it",
        )
    left = [name for name, s in seen.items() if s.has_queue] if holder is None else []
    if wanted is not None and left and wanted not in left and cluster.queue.path is None:
        raise UsageError(
            f"queue.machine: the file says {wanted}, but the pool's queue was left on {left[0]} when it went down",
            hint=f"queue: {{machine: {left[0]}}} finds its jobs again; ssh {left[0]} docker volume rm "
            f"{state.queue_volume(cluster.name)} deletes them",
        )
    managers = [m.name for m in cluster.machines if m.role == "manager"]
    return wanted or at or next(iter([*left, *managers, *seen]), "")


def wanted_labels(
    cluster: Cluster, old: Cluster | None, name: str, now: Mapping[str, str], *, queue: str
) -> dict[str, str]:
    """All labels a node should have. Those that somebody else gave it stay; what the old file gave it goes."""
    before = {k for m in (old.machines if old else ()) if m.name == name for k, _ in m.labels}
    labels = {k: v for k, v in now.items() if k not in before and not k.startswith("swarmhpc.")}
    labels |= {k: v for m in cluster.machines if m.name == name for k, v in m.labels}
    if cluster.machines:
        labels[state.LABEL_MACHINE] = name
    if queue == name:
        labels[state.LABEL_QUEUE_NODE] = cluster.name
    return labels


def _why(seen: Seen) -> str:
    if seen.engine is None:
        installed = seen.facts is not None and seen.facts.engine_installed
        return "its engine gives no answer" if installed else "it has no Docker engine"
    return "swarmhpc has not prepared it yet" if seen.facts and not seen.facts.prepared else "its preparation is old"


def _called(node: Node) -> str:
    return node.labels.get(state.LABEL_MACHINE, node.name)


def _first(cluster: Cluster, seen: Mapping[str, Seen], troubled: Mapping[str, SwarmHpcError]) -> str:
    """The machine that makes the Swarm: the first manager of the file, and no other, or two Swarms could grow.

    Raises MachineError where it can't, or where machines of the file are in a Swarm that may be this pool's.
    """
    if not cluster.machines:
        return next(iter(seen))
    managing = [n for n, s in seen.items() if s.engine is not None and s.engine.is_manager and s.swarm_pool is None]
    lost = [n for n in managing if seen[n].error is not None]
    ours = [n for n, s in seen.items() if s.swarm_pool == cluster.name]
    if lost or ours:
        lost += ours
        raise MachineError(
            f"{', '.join(lost)}: a Swarm without a leader (more than half of its managers must answer); "
            "another one is not made beside it",
            hint="start the other managers, then: swarmhpc up",
        )
    name = next(m.name for m in cluster.machines if m.role == "manager")
    if name in troubled:
        e = troubled[name]
        raise MachineError(f"{e.message}; it is the first manager, so there is no Swarm to join yet", hint=e.hint)
    return name


def _twins(seen: Mapping[str, Seen], troubled: Mapping[str, SwarmHpcError]) -> dict[str, SwarmHpcError]:
    """Machines that are another one of the file by a second name or address."""
    found: dict[str, SwarmHpcError] = {}
    by_address: dict[str, str] = {}
    for name, s in seen.items():
        if not s.address or name in troubled:
            continue
        other = by_address.setdefault(s.address, name)
        if other != name:
            found[name] = MachineError(
                f"machine {name} is the same as {other}: both are {s.address}", hint="name it once under machines:"
            )
    return found


def without_queue_path(cluster: Cluster, s: Seen) -> MachineError | None:
    """Why the access point could not find its queue on this machine, where the file puts it into a shared directory."""
    path, name = cluster.queue.path, s.machine.name
    if path is None or s.facts is None:
        return None
    mend = f"mount the shared filesystem on {name}, so that {path} is the same directory on every machine"
    if not s.facts.shared:
        return MachineError(f"machine {name}: queue.path: there is no directory {path}", hint=mend)
    if s.facts.shared in _LOCAL_FILESYSTEMS and len(cluster.machines) > 1:
        said = f"{path} is on its own disk ({s.facts.shared}), wanted a shared filesystem"
        return MachineError(f"machine {name}: queue.path: {said}", hint=mend)
    return None


def _unfit(cluster: Cluster, s: Seen, nodes: Mapping[str, Node], networking: str | None) -> SwarmHpcError | None:
    """Why a machine that answers can't become a node. Nothing is known against the only one: `plan.check_machine`."""
    name = s.machine.name
    engine, facts = s.engine, s.facts
    if facts is None or not cluster.machines:
        return None
    if (trouble := without_queue_path(cluster, s)) is not None:
        return trouble
    is_node = engine is not None and engine.node_id in nodes and bool(engine.node_id)
    if engine is None and not cluster.prepare:
        return EngineUnreachableError(
            f"machine {name}: no Docker engine answers, and the cluster file says prepare: false",
            hint=f"install and start one on {name}, or prepare: true; ansible/README.md has the checklist",
        )
    if engine is not None and not is_node:
        if engine.swarm_state == "active":
            other = f"of pool {s.swarm_pool!r}" if s.swarm_pool else "that this pool does not know"
            return EngineError(
                f"machine {name} is in another Swarm, {other}; it is left alone",
                hint=f"use another machine; or, if nobody needs that Swarm: ssh {name} docker swarm leave --force",
            )
        if engine.swarm_state != "inactive":
            return EngineError(
                f"machine {name}: its Swarm is in state {engine.swarm_state!r}; wanted: none",
                hint=f"ssh {name} docker info; then docker swarm leave --force",
            )
    if not is_node:
        wanted = (*SWARM_PORTS, *cluster.ports.keys)
        if taken := [p for p in wanted if p in facts.listens]:
            return MachineError(
                f"machine {name}: port {taken[0]} is taken by another program",
                hint=f"see who has it: ssh {name} ss -ltnp 'sport = :{taken[0]}'",
            )
        for route, subnet in facts.routes.items():
            if plan.overlap(cluster.subnet, subnet):
                return MachineError(
                    f"machine {name}: the pool's subnet {cluster.subnet} overlaps its own network {subnet} ({route})",
                    hint="choose another subnet: in swarmhpc.yaml",
                )
        if networking == "vip" and not facts.ipvs:
            return MachineError(
                f"machine {name}: its kernel has no IPVS, and this pool uses virtual IPs",
                hint=f"ssh {name} modprobe ip_vs; a pool without them: networking: dnsrr",
            )
    return None
