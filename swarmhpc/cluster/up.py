"""`swarmhpc up`: observe, plan, apply, wait until the pool is usable."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from swarmhpc import config, context, state, tokens
from swarmhpc.adapters import command, machine, stack
from swarmhpc.adapters.docker import Engine
from swarmhpc.cluster import bring, images, members, people, plan
from swarmhpc.cluster.bring import View
from swarmhpc.cluster.fleet import CLUSTER_FILE, Fleet, each, failures
from swarmhpc.cluster.progress import Progress, phase
from swarmhpc.cluster.render import ClassPlan, NodeSize, Rendered, RenderFacts, render, size_classes
from swarmhpc.cluster.usable import NoRoomError, give_access, task_errors, wait_daemons, wait_usable
from swarmhpc.config import Cluster
from swarmhpc.errors import EngineError, PoolError, SwarmHpcError
from swarmhpc.scaling import scale
from swarmhpc.scaling.hands import administrator
from swarmhpc.tokens import EXECUTOR_SCOPES

__all__ = ["Prepared", "Result", "apply", "check_alone", "prepare", "refresh", "task_errors"]

_SIGNING_KEY = "signing-key"
_EXECUTOR_TOKEN = "executor-token"


@dataclass(frozen=True)
class Prepared:
    """Everything `apply` needs: the plan and what it was made from."""

    cluster: Cluster
    view: View
    seen: plan.Observed
    facts: RenderFacts
    rendered: Rendered
    context: context.Context
    steps: tuple[plan.Step, ...]

    @property
    def classes(self) -> tuple[ClassPlan, ...]:
        """The classes with their sizes, and as many executors as `up` asks for."""
        return self.facts.classes

    @property
    def networking(self) -> Literal["vip", "dnsrr"]:
        """How services find each other."""
        return self.facts.networking


@dataclass(frozen=True)
class Result:
    """What `up` made. `troubled`: machines that were left out, and why."""

    context: context.Context
    troubled: Mapping[str, SwarmHpcError]


def prepare(fleet: Fleet, cluster: Cluster) -> Prepared:
    """Observes and plans. Changes nothing; raises what preflight refuses."""
    if not command.found("docker"):
        raise EngineError(
            "the docker command is missing on this machine", hint="apt-get install docker-cli   (or run ./quickstart)"
        )
    if fleet.alone:
        check_alone(fleet, cluster)
    return _planned(fleet, cluster, bring.observe(fleet, cluster))


def check_alone(fleet: Fleet, cluster: Cluster) -> None:
    """Refuses what can't work on the only machine, before anything else is asked."""
    engine = fleet.engine(fleet.machines[0].name)
    facts = engine.facts()
    managed = engine.managed_cluster()
    local = machine.engine_is_local()
    networks = {n: tuple(s) for n, s in engine.network_subnets().items() if n != f"{cluster.name}_pool"}
    known = {s for subnets in networks.values() for s in subnets}
    routes = {f"route {n}": (s,) for n, s in machine.routes().items() if s not in known} if local else {}
    plan.check_machine(
        cluster,
        swarm_state=facts.swarm_state,
        is_manager=facts.is_manager,
        swarm_cluster=managed,
        has_services=managed == cluster.name and bool(engine.services(cluster.name)),
        ports_taken=tuple(p for p in cluster.ports.keys if local and machine.port_taken(p)),
        subnets={**networks, **routes},
        has_queue_path=not local or cluster.queue.path is None or Path(cluster.queue.path).is_dir(),
    )


def _planned(fleet: Fleet, cluster: Cluster, view: View) -> Prepared:
    manager = view.manager
    secrets = {s.labels.get(state.LABEL_KIND) for s in manager.secrets(cluster.name)} if manager else set()
    image = images.reference(cluster)
    services = {} if manager is None else _services(manager, cluster.name)
    running_mode = None
    if manager is not None:
        running_mode = next((manager.endpoint_mode(s.id) for s in manager.services(cluster.name)), None)
    mode = plan.networking(cluster, without_ipvs=_without_ipvs(fleet, view), running=running_mode)
    ctx = _context(cluster, view, mode)
    seen = plan.Observed(
        stored=view.old,
        has_signing_key=_SIGNING_KEY in secrets,
        has_executor_token=_EXECUTOR_TOKEN in secrets,
        services=services,
        context_ready=manager is not None and _context_ready(ctx),
    )
    plan.check_change(cluster, seen)
    facts = _with_replicas(
        RenderFacts(
            networking=mode,
            address=ctx.address,
            image=image,
            classes=size_classes(cluster, _sizes(cluster, view)),
            signing_key=f"{cluster.name}_{_SIGNING_KEY}",
            executor_token=f"{cluster.name}_{_EXECUTOR_TOKEN}",
            revoked=people.revocation_expression(manager, cluster.name) if manager else "",
        ),
        plan.effective_replicas(cluster, view.old, services),
    )
    rendered = render(cluster, facts)
    wanted = {
        name: plan.WantedService(
            section["deploy"]["labels"][state.LABEL_SPEC],
            None if section["deploy"].get("mode") == "global" else section["deploy"]["replicas"],
        )
        for name, section in rendered.services.items()
    }
    steps = (*view.decision.steps, *plan.decide(cluster, seen, wanted))
    return Prepared(cluster, view, seen, facts, rendered, ctx, steps)


def _services(manager: Engine, pool: str) -> dict[str, plan.RunningService]:
    """The pool's services by their short names."""
    return {
        s.name.removeprefix(f"{pool}_"): plan.RunningService(s.labels.get(state.LABEL_SPEC, ""), s.replicas)
        for s in manager.services(pool)
    }


def _with_replicas(facts: RenderFacts, replicas: Mapping[str, int]) -> RenderFacts:
    """The same with the numbers to ask for now (`plan.effective_replicas`)."""
    classes = tuple(replace(c, replicas=replicas[c.name]) for c in facts.classes)
    return replace(facts, classes=classes, autoscalers=replicas[state.AUTOSCALER])


def _without_ipvs(fleet: Fleet, view: View) -> tuple[str, ...]:
    """Machines whose kernel has no IPVS, of those that take part."""
    if fleet.alone:
        return () if machine.has_ipvs() else (fleet.machines[0].name,)
    members = {n: s for n, s in view.seen.items() if n not in view.decision.troubled}
    return tuple(n for n, s in members.items() if s.facts is not None and not s.facts.ipvs)


def _addresses(cluster: Cluster, view: View) -> tuple[str, tuple[str, ...]]:
    """Where clients connect: the address of the node with the queue (any in VIP mode), then those of the others."""
    by_machine = {name: n.address for name, n in members.nodes_of(view.seen, view.nodes).items()}
    by_machine |= {name: s.address for name, s in view.seen.items() if s.address and name not in view.decision.troubled}
    queue = members.queue_machine(cluster, view.seen, view.nodes)
    address = by_machine.get(queue) or next(iter(by_machine.values()))
    listed = [by_machine[m.name] for m in cluster.machines if m.name in by_machine]
    return address, tuple(a for a in listed if a != address)


def _sizes(cluster: Cluster, view: View) -> tuple[NodeSize, ...]:
    """Every node's and every coming node's size, also those that do not answer now: up twice must give the same."""
    of_file = {m.name: dict(m.labels) for m in cluster.machines}
    sizes = {}
    for name, s in view.seen.items():
        if s.engine is not None:
            sizes[name] = NodeSize(s.engine.cpus, s.engine.memory_mib, of_file.get(name, {}))
        elif s.facts is not None:
            sizes[name] = NodeSize(s.facts.cpus, s.facts.memory_mib, of_file.get(name, {}))
    for n in view.nodes:
        name = n.labels.get(state.LABEL_MACHINE, "")
        if name in of_file and name not in sizes:
            sizes[name] = NodeSize(n.cpus, n.memory_mib, of_file[name])
    return tuple(sizes.values())


def apply(fleet: Fleet, p: Prepared, progress: Progress, *, timeout_s: float) -> Result:
    """Makes the changes, phase by phase, then waits until the pool is usable. Running it again goes on from there.

    Raises NoRoomError at the end where all is well but that Swarm has no node for some executors.
    """
    if p.networking == "dnsrr" and p.cluster.networking == "auto" and not p.seen.services:
        which = _without_ipvs(fleet, p.view)
        where = "this kernel has" if fleet.alone else f"{', '.join(which)}: the kernel has"
        progress.notice(
            f"{where} no IPVS, so there are no virtual IPs and no routing mesh: services find each other by "
            f"DNS, and the pool answers at {p.context.address} only (swarmhpc doctor explains)"
        )
    brought = bring.bring(fleet, p.cluster, p.view, progress)
    engine = brought.manager
    for node in brought.unlisted:
        progress.notice(f"node {node} is not in the cluster file; it stays. Remove it: swarmhpc node remove {node}")
    if not fleet.alone and p.view.decision.steps:
        # Machines have come and gone since the plan was made.
        p = _planned(fleet, p.cluster, bring.observe(fleet, p.cluster))
    phases = {s.phase for s in p.steps}
    smaller: dict[str, int] = {}
    with phase("secrets", progress):
        if "secrets" in phases:
            _secrets(engine, p.cluster)
        progress.done("signing key and executors' token are Swarm secrets")
    with phase("stack", progress):
        if "stack" in phases:
            _folders(fleet, p, progress)
            p, smaller = _stack(engine, p, progress)
        progress.done(f"{len(p.rendered.services)} services, networking {p.networking}")
    with phase("pool", progress):
        wait_daemons(engine, p, progress, timeout_s=timeout_s)
        if "secrets" in phases or not _context_ready(p.context):
            give_access(fleet, engine, p.context)
        _lower(fleet, engine, p.context, smaller, progress)
        short = wait_usable(fleet, engine, p, progress, timeout_s=timeout_s)
    if short:
        for name, error in brought.troubled.items():
            progress.notice(f"{name} was left out: {error.message}")
        raise NoRoomError(short)
    return Result(p.context, brought.troubled)


def _context(cluster: Cluster, view: View, networking: str) -> context.Context:
    """What this machine keeps. Without the routing mesh only the queue's node answers."""
    address, others = _addresses(cluster, view)
    managers = tuple(m for m in cluster.machines if m.role == "manager")
    return context.Context(
        cluster.name,
        address,
        cluster.ports.central_manager,
        cluster.ports.access_point,
        machine.person(),
        others if networking == "vip" else (),
        managers,
    )


def _context_ready(wanted: context.Context) -> bool:
    """Whether this machine's context leads to the pool with a token that is still good."""
    try:
        known = context.load(wanted.pool)
        token = tokens.read_claims(known.token_file.read_text())
    except (SwarmHpcError, OSError, ValueError):
        return False
    same = replace(known, person=wanted.person) == wanted
    return same and (token.expires_at is None or token.expires_at > time.time())


def _secrets(engine: Engine, cluster: Cluster) -> None:
    """Makes key and executors' token. The token first: where the key exists, the token does."""
    pool = cluster.name
    for s in engine.secrets(pool):
        engine.secret_remove(s.id)
    key = tokens.new_signing_key()
    token = tokens.mint(key, pool=pool, identity=f"condor@{pool}", scopes=EXECUTOR_SCOPES, now=int(time.time()))
    labels = {state.LABEL_CLUSTER: pool}
    engine.secret_create(
        f"{pool}_{_EXECUTOR_TOKEN}", token.text.encode() + b"\n", {**labels, state.LABEL_KIND: _EXECUTOR_TOKEN}
    )
    engine.secret_create(f"{pool}_{_SIGNING_KEY}", key, {**labels, state.LABEL_KIND: _SIGNING_KEY})


def _folders(fleet: Fleet, p: Prepared, progress: Progress) -> None:
    """Makes scratch directories that the last `up` did not have: a bind's source must exist before a task starts."""
    before = (p.cluster.execute_dir,) if p.seen.stored is None else p.seen.stored.execute_roots
    new = [root for root in p.cluster.execute_roots if root not in before]
    if not new:
        return
    binds = {root: f"/execute{i}" for i, root in enumerate(new)}

    def make(name: str) -> None:
        fleet.engine(name).run_once(p.facts.image, ["true"], cluster=p.cluster.name, binds=binds)

    for name, error in failures(each((n for n in p.view.seen if n not in p.view.decision.troubled), make)).items():
        progress.notice(f"{name}: {', '.join(new)} could not be made there: {error.message}")


def _stack(engine: Engine, p: Prepared, progress: Progress) -> tuple[Prepared, dict[str, int]]:
    """Deploys, and stores the cluster file. Gives the plan as it was carried out: images may have taken minutes, in
    which somebody, or the autoscaler, has changed the number of executors. Classes that get smaller keep their number
    for now; they come second."""
    pool = p.cluster.name
    services = _services(engine, pool)
    replicas = plan.effective_replicas(p.cluster, p.seen.stored, services)
    running = {name: services[name].replicas or 0 for name in replicas if name in services}
    smaller = {n: r for n, r in replicas.items() if n != state.AUTOSCALER and running.get(n, 0) > r}
    facts = _with_replicas(p.facts, replicas)
    if facts != p.facts:
        p = replace(p, facts=facts, rendered=render(p.cluster, facts))
    deployed = p.rendered
    if smaller:
        deployed = render(p.cluster, _with_replicas(facts, {**replicas, **{n: running[n] for n in smaller}}))
    progress.detail("docker stack deploy")
    stack.deploy(pool, deployed.stack, deployed.configs, docker_host=engine.docker_host)
    text = config.dump(p.cluster)
    wanted = f"{pool}_cluster-{state.short_hash(text)}"
    in_use = set(deployed.stack.split())
    stored = engine.configs(pool)
    if wanted not in {s.name for s in stored}:
        labels = {state.LABEL_CLUSTER: pool, state.LABEL_KIND: CLUSTER_FILE}
        engine.config_create(wanted, text.encode(), labels)
    for s in stored:
        kind = s.labels.get(state.LABEL_KIND)
        old_file = kind == CLUSTER_FILE and s.name != wanted
        old_config = kind is None and s.name not in in_use
        if old_file or old_config:
            # A task that is still leaving keeps its old configuration; a later `up` removes it.
            with contextlib.suppress(EngineError):
                engine.config_remove(s.id)
    return p, smaller


def _lower(fleet: Fleet, engine: Engine, ctx: context.Context, smaller: Mapping[str, int], progress: Progress) -> None:
    """Takes executors of classes that get smaller: those without jobs first."""
    for name, replicas in smaller.items():
        hands = administrator(fleet, engine, ctx)
        try:
            scale.lower(hands, hands.look()[name], replicas, progress.detail)
        except PoolError as e:  # nobody can say who has a job: each finishes its own all the same
            progress.notice(f"{name}: {e.message}; Swarm chooses who leaves")
            service = next(s for s in engine.services(ctx.pool) if s.labels.get(state.LABEL_CLASS) == name)
            engine.scale(service.id, replicas)


def refresh(fleet: Fleet, cluster: Cluster, progress: Progress, *, timeout_s: float) -> None:
    """Applies the stored cluster file again (after a revocation). Executors without room are told of, no error here."""
    try:
        apply(fleet, prepare(fleet, cluster), progress, timeout_s=timeout_s)
    except NoRoomError as e:
        progress.notice(e.message)
