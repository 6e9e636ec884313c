"""`swarmhpc up`: observe, plan, apply, wait until the pool is usable."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from swarmhpc import config, context, state, tokens
from swarmhpc.adapters import command, machine, stack
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.docker import Engine
from swarmhpc.cluster import bring, images, members, people, plan
from swarmhpc.cluster.bring import View
from swarmhpc.cluster.fleet import CLUSTER_FILE, Fleet
from swarmhpc.cluster.progress import Progress, phase
from swarmhpc.cluster.render import ClassPlan, NodeSize, Rendered, RenderFacts, render, size_classes
from swarmhpc.config import Cluster
from swarmhpc.errors import AuthenticationError, EngineError, PoolError, SwarmHpcError, WaitTimeoutError
from swarmhpc.tokens import EXECUTOR_SCOPES

_SIGNING_KEY = "signing-key"
_EXECUTOR_TOKEN = "executor-token"


@dataclass(frozen=True)
class Prepared:
    """Everything `apply` needs: the plan and what it was made from."""

    cluster: Cluster
    view: View
    seen: plan.Observed
    image: str
    rendered: Rendered
    classes: tuple[ClassPlan, ...]
    networking: Literal["vip", "dnsrr"]
    context: context.Context
    steps: tuple[plan.Step, ...]


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
    ports = (cluster.ports.central_manager, cluster.ports.access_point)
    networks = {n: tuple(s) for n, s in engine.network_subnets().items() if n != f"{cluster.name}_pool"}
    known = {s for subnets in networks.values() for s in subnets}
    routes = {f"route {n}": (s,) for n, s in machine.routes().items() if s not in known} if local else {}
    plan.check_machine(
        cluster,
        swarm_state=facts.swarm_state,
        is_manager=facts.is_manager,
        swarm_cluster=managed,
        has_services=managed == cluster.name and bool(engine.services(cluster.name)),
        ports_taken=tuple(p for p in ports if local and machine.port_taken(p)),
        subnets={**networks, **routes},
        has_queue_path=not local or cluster.queue.path is None or Path(cluster.queue.path).is_dir(),
    )


def _planned(fleet: Fleet, cluster: Cluster, view: View) -> Prepared:
    manager = view.manager
    secrets = {s.labels.get(state.LABEL_KIND) for s in manager.secrets(cluster.name)} if manager else set()
    image = images.reference(cluster)
    services = {}
    running_mode = None
    if manager is not None:
        prefix = f"{cluster.name}_"
        for s in manager.services(cluster.name):
            spec = s.labels.get(state.LABEL_SPEC, "")
            services[s.name.removeprefix(prefix)] = plan.RunningService(spec, s.replicas)
            running_mode = manager.endpoint_mode(s.id)
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
    classes = size_classes(cluster, _sizes(cluster, view))
    rendered = render(
        cluster,
        RenderFacts(
            networking=mode,
            address=ctx.address,
            image=image,
            classes=classes,
            signing_key=f"{cluster.name}_{_SIGNING_KEY}",
            executor_token=f"{cluster.name}_{_EXECUTOR_TOKEN}",
            revoked=people.revocation_expression(manager, cluster.name) if manager else "",
        ),
    )
    wanted = {
        name: plan.WantedService(
            section["deploy"]["labels"][state.LABEL_SPEC],
            None if section["deploy"].get("mode") == "global" else section["deploy"]["replicas"],
        )
        for name, section in rendered.services.items()
    }
    steps = (*view.decision.steps, *plan.decide(cluster, seen, wanted))
    return Prepared(cluster, view, seen, image, rendered, classes, mode, ctx, steps)


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
    """Makes the changes, phase by phase, then waits until the pool is usable. Running it again goes on from there."""
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
    with phase("secrets", progress):
        if "secrets" in phases:
            _secrets(engine, p.cluster)
        progress.done("signing key and executors' token are Swarm secrets")
    with phase("stack", progress):
        if "stack" in phases:
            _stack(engine, p, progress)
        progress.done(f"{len(p.rendered.services)} services, networking {p.networking}")
    with phase("pool", progress):
        ctx = p.context
        _daemons(engine, p, ctx, progress, timeout_s=timeout_s)
        if "secrets" in phases or not _context_ready(ctx):
            _give_access(fleet, engine, ctx)
        wait_usable(fleet, engine, p, ctx, progress, timeout_s=timeout_s)
    return Result(ctx, brought.troubled)


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


def _stack(engine: Engine, p: Prepared, progress: Progress) -> None:
    pool = p.cluster.name
    progress.detail("docker stack deploy")
    stack.deploy(pool, p.rendered.stack, p.rendered.configs, docker_host=engine.docker_host)
    text = config.dump(p.cluster)
    wanted = f"{pool}_cluster-{state.short_hash(text)}"
    in_use = set(p.rendered.stack.split())
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


def _give_access(fleet: Fleet, engine: Engine, ctx: context.Context) -> None:
    """A token for the person at this machine, signed by the pool."""
    context.save(ctx, people.create(fleet, engine, ctx.pool, ctx.person, lifetime_s=None).text)


def _daemons(engine: Engine, p: Prepared, ctx: context.Context, progress: Progress, *, timeout_s: float) -> None:
    """Waits until central manager and access point run with the wanted settings and listen: with VIPs on every node
    that answers, for Swarm says Running also where the routing mesh does not work (facts)."""
    ports = {
        state.CENTRAL_MANAGER: p.cluster.ports.central_manager,
        state.ACCESS_POINT: p.cluster.ports.access_point,
    }
    ready = [n.address for n in p.view.nodes if n.state == "ready" and not n.address.startswith("0.")]
    addresses = (ready or [ctx.address]) if p.networking == "vip" else [ctx.address]

    def look() -> str:
        services = {s.labels.get(state.LABEL_ROLE): s for s in engine.services(p.cluster.name)}
        waiting = []
        for role, port in ports.items():
            service = services[role]
            if not any(t.is_up and t.container_spec == service.container_spec for t in engine.tasks(service.id)):
                waiting.append(f"{role} does not run yet")
                continue
            silent = [a for a in addresses if not machine.port_answers(a, port)]
            waiting += [f"{role} does not answer at {a}:{port} yet" for a in silent]
        return "; ".join(waiting)

    _wait(engine, p, look, progress, timeout_s=timeout_s)


def wait_usable(
    fleet: Fleet, engine: Engine, p: Prepared, ctx: context.Context, progress: Progress, *, timeout_s: float
) -> None:
    """Waits until the collector answers, the access point accepts this person, and every executor is registered.

    An executor that finishes jobs before it restarts with new settings is not waited for.
    """
    pool = Pool(ctx)
    want = {c.name: c.replicas for c in p.classes}
    accepted = False
    refused_since: float | None = None
    renewed = False
    leaving = 0

    def look() -> str:
        nonlocal accepted, leaving, refused_since, renewed
        try:
            slots = pool.slots()
            if not accepted:
                pool.jobs("false")
                pool.can_write()
                accepted = True
        except AuthenticationError as e:
            # This machine's token belongs to an earlier pool of this name, or was revoked: give a new one. Not at
            # once: a central manager that is just starting looks the same.
            refused_since = refused_since or time.monotonic()
            if not renewed and time.monotonic() - refused_since > 10:
                renewed = True
                _give_access(fleet, engine, ctx)
            return e.message
        except PoolError as e:
            return e.message
        missing = []
        leaving = 0
        busy = {s.task for s in slots if not s.partitionable}
        for service in engine.services(p.cluster.name):
            name = service.labels.get(state.LABEL_CLASS)
            if name not in want:
                continue
            tasks = engine.tasks(service.id)
            old = {t.id for t in tasks if t.is_leaving}
            leaving += len(old & busy)
            registered = {s.executor for s in slots if s.class_name == name and s.task not in old}
            if len(registered) + len(old & busy) < want[name]:
                missing.append(f"{name}: {len(registered)} of {want[name]} executors registered")
        return "; ".join(missing)

    _wait(engine, p, look, progress, timeout_s=timeout_s)
    executors = ", ".join(f"{c.replicas} × {c.name} ({c.cpus} CPU, {c.memory_mib} MiB)" for c in p.classes)
    progress.done(f"usable: {executors}")
    if leaving:
        progress.notice(f"{leaving} executors finish their running jobs before they restart with the new settings")


def _wait(engine: Engine, p: Prepared, look: Callable[[], str], progress: Progress, *, timeout_s: float) -> None:
    """Polls until `look` has nothing to say. Swarm's own task errors are shown as they come."""
    deadline = time.monotonic() + timeout_s
    while waiting := look():
        trouble = task_errors(engine, p.cluster.name)
        said = waiting + "".join(f"; {t}" for t in trouble)
        progress.detail(said)
        if time.monotonic() > deadline:
            raise WaitTimeoutError(
                f"the pool is not usable after {timeout_s:.0f} s: {said}",
                hint="swarmhpc doctor; docker service ps --no-trunc SERVICE; then swarmhpc up",
            )
        time.sleep(0.2)


def task_errors(engine: Engine, pool: str) -> list[str]:
    """What Swarm says of services that have no running task: one line each, in its own words."""
    lines = []
    for service in engine.services(pool):
        tasks = engine.tasks(service.id)
        if service.replicas == 0 or any(t.is_up for t in tasks):
            continue
        errors = [t.error for t in tasks if t.error]
        if errors:
            lines.append(f"{service.name}: {errors[-1]}")
    return lines


def refresh(fleet: Fleet, cluster: Cluster, progress: Progress, *, timeout_s: float) -> None:
    """Applies the stored cluster file again (after a revocation)."""
    apply(fleet, prepare(fleet, cluster), progress, timeout_s=timeout_s)
