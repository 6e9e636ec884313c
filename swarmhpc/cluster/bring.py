"""Machines become nodes: prepared by Ansible, given the images, joined, labelled. What is done already stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swarmhpc.adapters import ansible, machine
from swarmhpc.adapters.docker import Engine, Node
from swarmhpc.cluster import images, members, plan
from swarmhpc.cluster.fleet import Fleet, each, failures, stored_cluster
from swarmhpc.cluster.members import Decision, Seen
from swarmhpc.cluster.progress import Progress, phase
from swarmhpc.config import Cluster
from swarmhpc.errors import EngineError, MachineError, SwarmHpcError, WaitTimeoutError


@dataclass(frozen=True)
class View:
    """All machines at one moment, what they need, and the manager's view of the Swarm (if there is one)."""

    seen: Mapping[str, Seen]
    decision: Decision
    manager: Engine | None
    nodes: tuple[Node, ...]
    old: Cluster | None


@dataclass(frozen=True)
class Brought:
    """`manager` answers for the Swarm. `troubled`: machines that were left out, and why."""

    manager: Engine
    troubled: Mapping[str, SwarmHpcError] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()


def observe(fleet: Fleet, cluster: Cluster) -> View:
    """Asks every machine and the Swarm; decides. Changes nothing."""
    image = images.reference(cluster)
    seen = members.look(fleet, cluster, image=image, recipe=recipe(cluster))
    manager = fleet.manager(cluster.name)
    if manager is None and any(
        s.engine is not None and s.engine.is_manager and s.error is not None for s in seen.values()
    ):
        manager = _elected(fleet, cluster)
    nodes = tuple(manager.nodes()) if manager else ()
    old = stored_cluster(manager) if manager else None
    networking = None
    if manager is not None:
        running = manager.services(cluster.name)
        networking = manager.endpoint_mode(running[0].id) if running else None
    decision = members.judge(cluster, seen, nodes, image=image, networking=networking, old=old)
    return View(seen, decision, manager, nodes, old)


def _elected(fleet: Fleet, cluster: Cluster) -> Engine | None:
    """A manager once there is a leader; None after a minute. A manager that comes back makes the others elect anew:
    10 to 60 s in the virtual lab."""
    deadline = time.monotonic() + 60
    while (manager := fleet.manager(cluster.name)) is None and time.monotonic() < deadline:
        time.sleep(1)
    return manager


def bring(fleet: Fleet, cluster: Cluster, view: View, progress: Progress) -> Brought:
    """Makes nodes of the machines. A machine that fails is left out and told of; the others go on.

    Raises where nothing can go on: the first manager fails while there is no Swarm.
    """
    troubled: dict[str, SwarmHpcError] = {}
    if not fleet.alone:
        with phase("machines", progress):
            if view.decision.prepare:
                troubled |= _prepare(fleet, cluster, view, progress)
                fleet.forget(view.decision.prepare)
                view = observe(fleet, cluster)
                # Ansible's own words say more than "no engine answers".
                late = {n: MachineError(f"machine {n} is still not ready") for n in view.decision.prepare}
                troubled = {**late, **view.decision.troubled, **troubled}
            else:
                troubled |= view.decision.troubled
            _stop_without_first(view.decision, troubled)
            good = [n for n in view.seen if n not in troubled]
            progress.done(f"{len(good)} of {len(view.seen)} are ready")
    with phase("image", progress):
        if view.decision.images:
            troubled |= _images(fleet, cluster, view, troubled, progress)
            _stop_without_first(view.decision, troubled)
        progress.done(images.reference(cluster))
    with phase("swarm", progress):
        manager = view.manager
        if view.decision.first:
            first = view.seen[view.decision.first]
            manager = fleet.engine(view.decision.first)
            routes = [r for s in view.seen.values() if s.facts for r in s.facts.routes.values()]
            routes += machine.routes().values() if fleet.alone else ()
            pool = plan.address_pool(cluster.subnet, routes)
            manager.swarm_init(address=first.address, cluster=cluster.name, address_pool=pool)
        if manager is None:  # decide() names a first machine wherever there is no Swarm
            raise EngineError(f"no manager of pool {cluster.name} answers", hint="swarmhpc doctor")
        troubled |= _join(fleet, cluster, view, manager, troubled, progress)
        _shape(fleet, cluster, manager, view, troubled)
        nodes = manager.nodes()
        managers = sum(n.role == "manager" for n in nodes)
        progress.done(f"{len(nodes)} nodes, {managers} of them managers" if len(nodes) > 1 else "one node")
    # The engine that was talked to may have been demoted.
    return Brought(fleet.manager(cluster.name) or manager, troubled, view.decision.unlisted)


def _stop_without_first(decision: Decision, troubled: Mapping[str, SwarmHpcError]) -> None:
    if decision.first in troubled:
        raise troubled[decision.first]


def _prepare(fleet: Fleet, cluster: Cluster, view: View, progress: Progress) -> dict[str, SwarmHpcError]:
    targets = [target(fleet, n) for n in view.decision.prepare]
    lines: dict[str, str] = {t.name: "" for t in targets}

    def on_host(name: str, text: str) -> None:
        lines[name] = text
        progress.detail("\n".join(f"{n}: {said}" for n, said in lines.items()))

    results = ansible.run(
        "prepare", targets, variables=variables(cluster), known_hosts=known_hosts(cluster), on_host=on_host
    )
    failed: dict[str, SwarmHpcError] = {}
    for name, result in results.items():
        for finding in result.findings:
            progress.notice(f"{name}: {finding}")
        if not result.ok:
            failed[name] = MachineError(
                f"machine {name} could not be prepared: {result.message}", hint="mend it, then: swarmhpc up"
            )
    return failed


def target(fleet: Fleet, name: str) -> ansible.Target:
    """A machine as Ansible reaches it."""
    remote = fleet.remotes[name]
    m = remote.machine
    key = None if m.ssh.key is None else str(Path(m.ssh.key).expanduser())
    return ansible.Target(name, m.address, m.ssh.user, m.ssh.port, key, remote.local, m.role == "manager")


def known_hosts(cluster: Cluster) -> str | None:
    """The file with the machines' host keys, where the cluster file names one."""
    named = next((m.ssh.known_hosts for m in cluster.machines if m.ssh.known_hosts), None)
    return None if named is None else str(Path(named).expanduser())


def recipe(cluster: Cluster) -> dict[str, str]:
    """What a machine's preparation must be to count, by its role."""
    told = variables(cluster)
    return {role: ansible.version(told, manager=role == "manager") for role in ("manager", "worker")}


def variables(cluster: Cluster) -> dict[str, object]:
    """What the playbooks need to know of the pool."""
    return {
        "swarm_peers": sorted({ip for m in cluster.machines if (ip := machine.ipv4(m.address))}),
        "pool_ports": list(cluster.ports.keys),
        "execute_dir": cluster.execute_dir,
        "encrypted": cluster.encrypted,
        "apt_options": " ".join(images.apt_options()),
    }


def _images(
    fleet: Fleet, cluster: Cluster, view: View, troubled: Mapping[str, SwarmHpcError], progress: Progress
) -> dict[str, SwarmHpcError]:
    targets, failed = fleet.engines(n for n in view.decision.images if n not in troubled)
    if fleet.alone:
        for engine in targets.values():
            images.ensure(engine, cluster, on_line=progress.detail)
        return failed
    holders, _ = fleet.engines(n for n, s in view.seen.items() if s.has_image and n not in troubled)
    return failed | images.distribute(cluster, targets, holders=list(holders.values()), on_line=progress.detail)


def _join(
    fleet: Fleet,
    cluster: Cluster,
    view: View,
    manager: Engine,
    troubled: Mapping[str, SwarmHpcError],
    progress: Progress,
) -> dict[str, SwarmHpcError]:
    image = images.reference(cluster)
    roots = {root: f"/execute{i}" for i, root in enumerate(cluster.execute_roots)}

    def ready(name: str) -> Engine:
        engine = fleet.engine(name)
        # A bind's source must exist before a task starts there, or the task is rejected for ever; `down` removes it.
        engine.run_once(image, ["true"], cluster=cluster.name, binds=roots)
        return engine

    failed: dict[str, SwarmHpcError] = {}
    if view.decision.first:
        ready(view.decision.first)
    names = [n for n in view.decision.join if n not in troubled]
    if not names:
        return failed
    at = manager.facts().node_address
    roles = {n: view.seen[n].machine.role for n in names}
    tokens = {role: manager.join_token(role) for role in set(roles.values())}

    def join(name: str) -> None:
        progress.detail(f"{name} joins as {roles[name]}")
        engine = ready(name)
        try:
            engine.swarm_join(manager=at, token=tokens[roles[name]], address=view.seen[name].address)
        except EngineError as e:
            raise EngineError(
                f"machine {name} could not join the Swarm at {at}:2377: {e.message}",
                hint=f"is the way open? ssh {name} 'exec 3<>/dev/tcp/{at}/2377' (bash); swarmhpc doctor; swarmhpc up",
            ) from e

    try:
        # Managers one after another: each changes the quorum. Workers all at once.
        for name in (n for n in names if roles[n] == "manager"):
            failed |= failures(each([name], join))
        failed |= failures(each([n for n in names if roles[n] == "worker"], join))
    finally:
        manager.rotate_join_tokens()
    return failed


def _shape(fleet: Fleet, cluster: Cluster, manager: Engine, view: View, troubled: Mapping[str, SwarmHpcError]) -> None:
    """Roles and labels as the file has them. Promotes before it demotes."""
    by_name = {m.name: m for m in fleet.machines}

    def seen(name: str) -> Seen:
        # A queue that was left by `down` stays where it is.
        return Seen(by_name[name], engine=fleet.engine(name).facts(), has_queue=view.seen[name].has_queue)

    answers = each([n for n in by_name if n not in troubled], seen)
    found = {n: s for n, s in answers.items() if isinstance(s, Seen)}
    ids = {s.engine.node_id for s in found.values() if s.engine and s.engine.node_id}
    wait(lambda: ids - {n.id for n in manager.nodes()}, "nodes join", timeout_s=60)
    # Machines that are silent now may be nodes all the same: the manager can label them.
    everybody = {n: found.get(n) or Seen(m, error=troubled.get(n)) for n, m in by_name.items()}
    nodes = manager.nodes()
    d = members.judge(cluster, everybody, nodes, image="", old=view.old)
    for node_id, labels in d.labels.items():
        manager.node_update(node_id, labels=labels)
    for node_id in (i for i, role in d.roles.items() if role == "manager"):
        manager.node_update(node_id, role="manager")
    promoted = {i for i, role in d.roles.items() if role == "manager"}
    wait(
        lambda: promoted - {n.id for n in manager.nodes() if n.manager_status in ("leader", "reachable")},
        "managers",
        timeout_s=60,
    )
    own = manager.facts().node_id
    # The one that is talked to goes last.
    for node_id in sorted((i for i, role in d.roles.items() if role == "worker"), key=lambda i: i == own):
        manager.node_update(node_id, role="worker")


def wait(left: Callable[[], object], what: str, *, timeout_s: float) -> None:
    """Polls until `left` has nothing to say. Raises WaitTimeoutError."""
    deadline = time.monotonic() + timeout_s
    while rest := left():
        if time.monotonic() > deadline:
            raise WaitTimeoutError(f"after {timeout_s:.0f} s still waiting: {what}: {rest}", hint="swarmhpc doctor")
        time.sleep(0.3)
