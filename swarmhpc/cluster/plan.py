"""What `up` would do, as data. Pure: facts in, steps out; printed before anything is done."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from swarmhpc import state
from swarmhpc.config import Cluster
from swarmhpc.errors import EngineError, SwarmHpcError, SwarmOwnershipError, UsageError

ADDRESS_POOLS = ("10.0.0.0/16", "10.201.0.0/16", "172.29.0.0/16", "192.168.224.0/20")
PHASES = ("machines", "image", "swarm", "secrets", "stack", "access")


@dataclass(frozen=True)
class Step:
    """One change. `phase` is one of PHASES; `what` reads well after "will"."""

    phase: str
    what: str


@dataclass(frozen=True)
class RunningService:
    """A service as it is deployed. `replicas` is None for a global service."""

    spec: str
    replicas: int | None


@dataclass(frozen=True)
class Observed:
    """What `up` found of the pool. Service names are short (without the stack's name)."""

    stored: Cluster | None
    has_signing_key: bool
    has_executor_token: bool
    services: Mapping[str, RunningService]
    context_ready: bool


@dataclass(frozen=True)
class WantedService:
    """A service as the rendered stack has it."""

    spec: str
    replicas: int | None


def networking(cluster: Cluster, *, without_ipvs: Sequence[str], running: str | None = None) -> Literal["vip", "dnsrr"]:
    """VIP and routing mesh where every kernel can; else DNS round robin and ports of the node that runs the task.

    `without_ipvs`: machines whose kernel has no IPVS. `running`: what the pool has now; `auto` leaves it (a machine
    that comes without IPVS does not restart the whole pool, it is refused). Raises UsageError where the cluster file
    insists on VIPs that a kernel cannot give.
    """
    if cluster.networking == "dnsrr":
        return "dnsrr"
    if cluster.networking == "auto":
        if running == "dnsrr" or (running is None and without_ipvs):
            return "dnsrr"
        return "vip"
    if without_ipvs:
        where = f"the kernel of {', '.join(without_ipvs)}" if cluster.machines else "this kernel"
        raise UsageError(
            f"networking: vip, but {where} has no IPVS (no /proc/net/ip_vs, module ip_vs can't be loaded)",
            hint="use networking: auto, or load the module: modprobe ip_vs",
        )
    return "vip"


def check_machine(
    cluster: Cluster,
    *,
    swarm_state: str,
    is_manager: bool,
    swarm_cluster: str | None,
    has_services: bool,
    ports_taken: Iterable[int],
    subnets: Mapping[str, Iterable[str]],
    has_queue_path: bool = True,
) -> None:
    """Preflight of the only machine: raises what can't work, before anything is changed (ownership first)."""
    _check_swarm(cluster, swarm_state, is_manager=is_manager, swarm_cluster=swarm_cluster)
    if has_services:
        return
    keys = cluster.ports.keys
    problems = [
        f"port {port} of this machine is taken by another program (wanted for ports.{keys[port]}); "
        f"see who has it: ss -ltnp 'sport = :{port}'"
        for port in ports_taken
    ]
    problems += [
        f"subnet {cluster.subnet} (wanted for the pool's network) overlaps {subnet} of network {name}"
        for name, found in subnets.items()
        for subnet in found
        if overlap(cluster.subnet, subnet)
    ]
    if not has_queue_path:
        problems.append(f"there is no directory {cluster.queue.path} (wanted for queue.path)")
    if problems:
        raise EngineError(
            "preflight: " + "; ".join(problems), hint="free it, or choose others in swarmhpc.yaml, then: swarmhpc up"
        )


def check_change(cluster: Cluster, seen: Observed) -> None:
    """Raises UsageError where the file changes what can't change while the pool is up."""
    if seen.stored is None or not seen.services:
        return
    if seen.stored.machines and not cluster.machines:
        raise UsageError(
            f"machines: the running pool has {len(seen.stored.machines)}, the file names none",
            hint="name them in swarmhpc.yaml; without a file here the Swarm's own is used",
        )
    fixed: dict[str, tuple[object, object]] = {
        "subnet": (seen.stored.subnet, cluster.subnet),
        "execute_dir": (seen.stored.execute_dir, cluster.execute_dir),
        "encrypted": (seen.stored.encrypted, cluster.encrypted),
        "queue.path": (seen.stored.queue.path or "a volume", cluster.queue.path or "a volume"),
    }
    before = {c.name: c.scratch or seen.stored.execute_dir for c in seen.stored.executors}
    for c in cluster.executors:
        if c.name in before:
            fixed[f"executors.{c.name}.scratch"] = before[c.name], c.scratch or cluster.execute_dir
    for key, (old, new) in fixed.items():
        if old != new:
            raise UsageError(
                f"{key}: the running pool has {old}, the file says {new}; this can't change while the pool is up",
                hint="swarmhpc down   (the queue is kept), then swarmhpc up",
            )


def effective_replicas(
    cluster: Cluster, stored: Cluster | None, running: Mapping[str, RunningService]
) -> dict[str, int]:
    """How many executors `up` asks for, by class, and how many autoscalers (`state.AUTOSCALER`: 0 or 1).

    What `swarmhpc scale`, `swarmhpc autoscale` and the autoscaler itself have made of a running service stays, unless
    the file says something else than the `stored` one, that of the last `up`: then the file counts. While the
    autoscaler is on, the number of a class with a maximum is its affair. All numbers are within the file's bounds.
    """

    def now(service: str) -> int | None:
        return running[service].replicas if service in running else None

    on = now(state.AUTOSCALER)
    if on is None or stored is None or stored.autoscale != cluster.autoscale:
        on = int(cluster.autoscale)
    before = {} if stored is None else {c.name: c.replicas for c in stored.executors}
    result = {}
    for c in cluster.executors:
        there = now(c.name)
        stays = before.get(c.name) == c.replicas or (on and c.maximum is not None)
        result[c.name] = c.bounded(there if there is not None and stays else c.replicas)
    return {**result, state.AUTOSCALER: min(on, 1)}


def _check_swarm(cluster: Cluster, swarm_state: str, *, is_manager: bool, swarm_cluster: str | None) -> None:
    if swarm_state == "inactive":
        return
    if swarm_state != "active":
        raise EngineError(
            f"this engine's Swarm is in state {swarm_state!r}; wanted: none, or a working one that swarmhpc made",
            hint="docker info shows why; a locked Swarm: docker swarm unlock",
        )
    if swarm_cluster is None:
        refuse_foreign(is_manager=is_manager)
    elif swarm_cluster != cluster.name:
        refuse_other(swarm_cluster, cluster.name)


def refuse_foreign(*, is_manager: bool) -> NoReturn:
    """Raises SwarmOwnershipError: this Swarm is not ours to touch."""
    if not is_manager:
        raise SwarmOwnershipError(
            "this machine is a worker of a Swarm; swarmhpc works on a manager", hint="run the command on a manager node"
        )
    raise SwarmOwnershipError(
        "this machine is in a Swarm that swarmhpc did not make; it is left alone",
        hint="use another machine; or, if nobody needs that Swarm: docker swarm leave --force",
    )


def refuse_other(owner: str, wanted: str) -> NoReturn:
    """Raises SwarmOwnershipError: this Swarm carries another pool of ours."""
    raise SwarmOwnershipError(
        f"this machine's Swarm carries pool {owner!r}, not {wanted!r}",
        hint=f"name: {owner} in swarmhpc.yaml; or end the other pool first: swarmhpc down --pool {owner}",
    )


def overlap(a: str, b: str) -> bool:
    """Whether two networks share an address (IPv4 only)."""
    one, two = ipaddress.ip_network(a, strict=False), ipaddress.ip_network(b, strict=False)
    return isinstance(one, ipaddress.IPv4Network) and isinstance(two, ipaddress.IPv4Network) and one.overlaps(two)


def address_pool(subnet: str, taken: Iterable[str]) -> str:
    """Where Swarm takes the subnets of its own networks from (`docker swarm init --default-addr-pool`).

    Its default, 10.0.0.0/8, begins with 10.0.0.0/24 for the routing mesh and asks no machine what it uses itself.
    Raises UsageError where everything clashes.
    """
    taken = [subnet, *taken]
    for candidate in ADDRESS_POOLS:
        if not any(overlap(candidate, other) for other in taken):
            return candidate
    raise UsageError(
        f"no address pool for the Swarm: {', '.join(ADDRESS_POOLS)} all overlap networks of the machines or {subnet}",
        hint="make the Swarm by hand with --default-addr-pool, or free one of these networks",
    )


def decide(cluster: Cluster, seen: Observed, wanted: Mapping[str, WantedService]) -> tuple[Step, ...]:
    """Every change `up` has to make to the pool (machines: `members.judge`); empty when it is as the file says."""
    steps: list[Step] = []
    if not seen.has_signing_key or not seen.has_executor_token:
        steps.append(Step("secrets", "make the pool's signing key and the executors' token (Swarm secrets)"))
    for name, service in wanted.items():
        running = seen.services.get(name)
        if running is None:
            count = "on every node" if service.replicas is None else f"with {service.replicas} replicas"
            steps.append(Step("stack", f"create service {name} {count}"))
            continue
        if running.spec != service.spec:
            steps.append(Step("stack", f"update service {name}: its section of the stack changed"))
        if running.replicas != service.replicas:
            steps.append(Step("stack", f"scale service {name} from {running.replicas} to {service.replicas} replicas"))
    steps += [
        Step("stack", f"remove service {name}: running jobs finish first")
        for name in seen.services
        if name not in wanted
    ]
    if seen.stored != cluster:
        steps.append(Step("stack", "store the cluster file in the Swarm"))
    if not seen.context_ready:
        steps.append(Step("access", "give you a token and write this machine's context"))
    return tuple(steps)


def failed(phase: str, error: SwarmHpcError) -> SwarmHpcError:
    """The same error, saying which phase it ended and how to go on."""
    error.message = f"up failed in phase {phase}: {error.message}"
    error.args = (error.message,)
    error.hint = error.hint or "mend it and run swarmhpc up again: it goes on from there"
    return error
