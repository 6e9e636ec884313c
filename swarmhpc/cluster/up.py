"""`swarmhpc up`: observe, plan, apply, wait until the pool is usable."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from swarmhpc import config, context, state, tokens
from swarmhpc.adapters import command, machine, stack
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.docker import Engine, EngineFacts
from swarmhpc.cluster import images, people, plan
from swarmhpc.cluster.progress import Progress
from swarmhpc.cluster.render import ClassPlan, Rendered, RenderFacts, render, size_classes
from swarmhpc.config import Cluster
from swarmhpc.errors import AuthenticationError, EngineError, PoolError, SwarmHpcError, WaitTimeoutError
from swarmhpc.tokens import EXECUTOR_SCOPES, PERSON_SCOPES

_SIGNING_KEY = "signing-key"
_EXECUTOR_TOKEN = "executor-token"
_CLUSTER_FILE = "cluster-file"


@dataclass(frozen=True)
class Prepared:
    """Everything `apply` needs: the plan and what it was made from."""

    cluster: Cluster
    facts: EngineFacts
    seen: plan.Observed
    image: str
    rendered: Rendered
    classes: tuple[ClassPlan, ...]
    networking: str
    address: str
    steps: tuple[plan.Step, ...]


def stored_cluster(engine: Engine) -> Cluster | None:
    """The cluster file that the Swarm remembers, if this engine is a manager of a Swarm of ours."""
    facts = engine.facts()
    if facts.swarm_state != "active" or not facts.is_manager:
        return None
    name = engine.swarm_cluster()
    if name is None:
        return None
    for s in engine.configs(name):
        if s.labels.get(state.LABEL_KIND) == _CLUSTER_FILE:
            return config.parse(s.data.decode(), file=f"swarm config {s.name}")
    return None


def prepare(engine: Engine, cluster: Cluster) -> Prepared:
    """Observes and plans. Changes nothing; raises what preflight refuses."""
    facts = engine.facts()
    if not command.found("docker"):
        raise EngineError(
            "the docker command is missing on this machine", hint="apt-get install docker-cli   (or run ./quickstart)"
        )
    ours = facts.swarm_state == "active" and facts.is_manager
    swarm_cluster = engine.swarm_cluster() if ours else None
    mine = swarm_cluster == cluster.name
    secrets = {s.labels.get(state.LABEL_KIND) for s in engine.secrets(cluster.name)} if mine else set()
    image = images.reference(cluster)
    address = cluster.address or (facts.node_address if mine else "") or machine.default_address()
    services = {}
    if mine:
        prefix = f"{cluster.name}_"
        for s in engine.services(cluster.name):
            spec = s.labels.get(state.LABEL_SPEC, "")
            services[s.name.removeprefix(prefix)] = plan.RunningService(spec, s.replicas)
    local = machine.engine_is_local()
    ports = (cluster.ports.central_manager, cluster.ports.access_point)
    networks = {n: tuple(s) for n, s in engine.network_subnets().items() if n != f"{cluster.name}_pool"}
    known = {s for subnets in networks.values() for s in subnets}
    routes = {f"route {n}": (s,) for n, s in machine.routes().items() if s not in known} if local else {}
    seen = plan.Observed(
        swarm_state=facts.swarm_state,
        is_manager=facts.is_manager,
        swarm_cluster=swarm_cluster,
        queue_node_labelled=mine and any(n.labels.get(state.LABEL_QUEUE_NODE) == cluster.name for n in engine.nodes()),
        ipvs=machine.has_ipvs(),
        address=address,
        image_present=engine.image(image) is not None,
        stored=stored_cluster(engine) if mine else None,
        has_signing_key=_SIGNING_KEY in secrets,
        has_executor_token=_EXECUTOR_TOKEN in secrets,
        services=services,
        context_ready=mine and _context_ready(cluster, address),
        ports_taken=tuple(p for p in ports if local and machine.port_taken(p)),
        subnets={**networks, **routes},
    )
    plan.check(cluster, seen)
    mode = plan.networking(cluster, ipvs=seen.ipvs)
    classes = size_classes(cluster, node_cpus=facts.cpus, node_memory_mib=facts.memory_mib)
    rendered = render(
        cluster,
        RenderFacts(
            networking=mode,
            address=address,
            image=image,
            classes=classes,
            signing_key=f"{cluster.name}_{_SIGNING_KEY}",
            executor_token=f"{cluster.name}_{_EXECUTOR_TOKEN}",
            revoked=people.revocation_expression(engine, cluster.name) if mine else "",
        ),
    )
    wanted = {
        name: plan.WantedService(
            section["deploy"]["labels"][state.LABEL_SPEC],
            None if section["deploy"].get("mode") == "global" else section["deploy"]["replicas"],
        )
        for name, section in rendered.services.items()
    }
    steps = plan.decide(cluster, seen, wanted, image=image)
    return Prepared(cluster, facts, seen, image, rendered, classes, mode, address, steps)


def apply(engine: Engine, p: Prepared, progress: Progress, *, timeout_s: float) -> context.Context:
    """Makes the changes, phase by phase, then waits until the pool is usable. Running it again goes on from there."""
    phases = {s.phase for s in p.steps}
    name = p.cluster.name
    if p.networking == "dnsrr" and p.cluster.networking == "auto" and not p.seen.services:
        progress.notice(
            f"this kernel has no IPVS, so there are no virtual IPs and no routing mesh: services find each other by "
            f"DNS, and the pool answers at {p.address} only (swarmhpc doctor explains)"
        )
    with _phase("swarm", progress):
        if "swarm" in phases:
            _swarm(engine, p)
        progress.done(f"manager {p.address}, networking {p.networking}")
    with _phase("image", progress):
        images.ensure(engine, p.cluster, on_line=progress.detail)
        progress.done(p.image)
    with _phase("secrets", progress):
        fresh = _secrets(engine, p.cluster) if "secrets" in phases else None
        progress.done("signing key and executors' token are Swarm secrets")
    with _phase("stack", progress):
        if "stack" in phases:
            _stack(engine, p, progress)
        progress.done(f"{len(p.rendered.services)} services")
    with _phase("pool", progress):
        ctx = context.Context(
            name, p.address, p.cluster.ports.central_manager, p.cluster.ports.access_point, machine.person()
        )
        _daemons(engine, p, progress, timeout_s=timeout_s)
        if not _context_ready(p.cluster, p.address) or fresh is not None:
            _give_access(engine, ctx, fresh)
        wait_usable(engine, p, ctx, progress, timeout_s=timeout_s)
    return ctx


@contextlib.contextmanager
def _phase(name: str, progress: Progress) -> Iterator[None]:
    progress.start(name)
    try:
        yield
    except SwarmHpcError as e:
        raise plan.failed(name, e) from e


def _context_ready(cluster: Cluster, address: str) -> bool:
    try:
        known = context.load(cluster.name)
        token = tokens.read_claims(known.token_file.read_text())
    except (SwarmHpcError, OSError, ValueError):
        return False
    same = (known.address, known.central_manager_port, known.access_point_port) == (
        address,
        cluster.ports.central_manager,
        cluster.ports.access_point,
    )
    return same and (token.expires_at is None or token.expires_at > time.time())


def _swarm(engine: Engine, p: Prepared) -> None:
    if p.seen.swarm_state == "inactive":
        engine.swarm_init(address=p.address, cluster=p.cluster.name)
    if not p.seen.queue_node_labelled:
        engine.label_queue_node(engine.facts().node_id, p.cluster.name)


def _secrets(engine: Engine, cluster: Cluster) -> bytes | None:
    """Makes key and executors' token. The token first: where the key exists, the token does. Returns the fresh key
    (it is forgotten when `apply` ends)."""
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
    return key


def _stack(engine: Engine, p: Prepared, progress: Progress) -> None:
    pool = p.cluster.name
    # A bind's source must exist on the node before a task starts there, or the task is rejected for ever.
    engine.run_once(p.image, ["true"], cluster=pool, binds={p.cluster.execute_dir: "/execute"})
    progress.detail("docker stack deploy")
    stack.deploy(pool, p.rendered.stack, p.rendered.configs)
    text = config.dump(p.cluster)
    wanted = f"{pool}_cluster-{state.short_hash(text)}"
    in_use = set(p.rendered.stack.split())
    stored = engine.configs(pool)
    if wanted not in {s.name for s in stored}:
        labels = {state.LABEL_CLUSTER: pool, state.LABEL_KIND: _CLUSTER_FILE}
        engine.config_create(wanted, text.encode(), labels)
    for s in stored:
        kind = s.labels.get(state.LABEL_KIND)
        old_file = kind == _CLUSTER_FILE and s.name != wanted
        old_config = kind is None and s.name not in in_use
        if old_file or old_config:
            # A task that is still leaving keeps its old configuration; a later `up` removes it.
            with contextlib.suppress(EngineError):
                engine.config_remove(s.id)


def _give_access(engine: Engine, ctx: context.Context, fresh: bytes | None) -> None:
    """A token for the person at this machine, signed here while the fresh key is at hand, else by the pool."""
    if fresh is None:
        context.save(ctx, people.create(engine, ctx.pool, ctx.person, lifetime_s=None).text)
        return
    account = people.daemon_container(engine, ctx.pool, state.ACCESS_POINT)
    engine.execute(account.id, ["/usr/local/lib/swarmhpc/add-user", ctx.person])
    token = tokens.mint(
        fresh, pool=ctx.pool, identity=f"{ctx.person}@{ctx.pool}", scopes=PERSON_SCOPES, now=int(time.time())
    )
    people.remember(engine, ctx.pool, ctx.person, token)
    context.save(ctx, token.text)


def _daemons(engine: Engine, p: Prepared, progress: Progress, *, timeout_s: float) -> None:
    """Waits until central manager and access point run with the wanted settings and listen."""
    ports = {
        state.CENTRAL_MANAGER: p.cluster.ports.central_manager,
        state.ACCESS_POINT: p.cluster.ports.access_point,
    }

    def look() -> str:
        services = {s.labels.get(state.LABEL_ROLE): s for s in engine.services(p.cluster.name)}
        waiting = []
        for role, port in ports.items():
            service = services[role]
            fresh = [t for t in engine.tasks(service.id) if t.is_up and t.container_spec == service.container_spec]
            if not fresh or not machine.port_answers(p.address, port):
                waiting.append(f"{role} does not listen at {p.address}:{port} yet")
        return "; ".join(waiting)

    _wait(engine, p, look, progress, timeout_s=timeout_s)


def wait_usable(engine: Engine, p: Prepared, ctx: context.Context, progress: Progress, *, timeout_s: float) -> None:
    """Waits until the collector answers, the access point accepts this person, and every executor is registered.

    An executor that finishes jobs before it restarts with new settings is not waited for.
    """
    pool = Pool(ctx)
    want = {c.name: c.replicas for c in p.classes}
    accepted = False
    refused_since: float | None = None
    leaving = 0

    def look() -> str:
        nonlocal accepted, leaving, refused_since
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
            if time.monotonic() - refused_since > 10:
                _give_access(engine, ctx, None)
                refused_since = None
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


def refresh(engine: Engine, progress: Progress, *, timeout_s: float) -> None:
    """Applies the stored cluster file again (after a revocation)."""
    cluster = stored_cluster(engine)
    if cluster is None:
        raise PoolError("the Swarm has no cluster file of a pool", hint="swarmhpc up")
    p = prepare(engine, cluster)
    apply(engine, p, progress, timeout_s=timeout_s)
