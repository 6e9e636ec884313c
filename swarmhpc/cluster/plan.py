"""What `up` would do, as data. Pure: facts in, steps out; printed before anything is done."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from swarmhpc import state
from swarmhpc.config import Cluster
from swarmhpc.errors import EngineError, SwarmHpcError, SwarmOwnershipError, UsageError

PHASES = ("swarm", "image", "secrets", "stack", "access")


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
    """What `up` found. Service names are short (without the stack's name)."""

    swarm_state: str
    is_manager: bool
    swarm_cluster: str | None
    queue_node_labelled: bool
    ipvs: bool
    address: str
    image_present: bool
    stored: Cluster | None
    has_signing_key: bool
    has_executor_token: bool
    services: Mapping[str, RunningService]
    context_ready: bool
    ports_taken: tuple[int, ...]
    subnets: Mapping[str, tuple[str, ...]]
    """Networks of the engine that are not this pool's, with their subnets."""


@dataclass(frozen=True)
class WantedService:
    """A service as the rendered stack has it."""

    spec: str
    replicas: int | None


def networking(cluster: Cluster, *, ipvs: bool) -> Literal["vip", "dnsrr"]:
    """VIP and routing mesh where the kernel can; else DNS round robin and ports of the node that runs the task.

    Raises UsageError where the cluster file insists on VIPs that the kernel cannot give.
    """
    if cluster.networking == "dnsrr" or (cluster.networking == "auto" and not ipvs):
        return "dnsrr"
    if not ipvs:
        raise UsageError(
            "networking: vip, but this kernel has no IPVS (no /proc/net/ip_vs, module ip_vs can't be loaded)",
            hint="use networking: auto, or load the module: modprobe ip_vs",
        )
    return "vip"


def check(cluster: Cluster, seen: Observed) -> None:
    """Preflight: refuses what can't work, before anything is changed. Raises the first of: ownership, conflicts."""
    _check_swarm(cluster, seen)
    problems = []
    if not seen.services:
        keys = {cluster.ports.central_manager: "central_manager", cluster.ports.access_point: "access_point"}
        problems += [
            f"port {port} of this machine is taken by another program (wanted for ports.{keys[port]}); "
            f"see who has it: ss -ltnp 'sport = :{port}'"
            for port in seen.ports_taken
        ]
        problems += [
            f"subnet {cluster.subnet} (wanted for the pool's network) overlaps {subnet} of network {name}"
            for name, subnets in seen.subnets.items()
            for subnet in subnets
            if _overlap(cluster.subnet, subnet)
        ]
    if problems:
        raise EngineError(
            "preflight: " + "; ".join(problems), hint="free it, or choose others in swarmhpc.yaml, then: swarmhpc up"
        )
    if seen.stored is not None and seen.services:
        fixed = {
            "subnet": (seen.stored.subnet, cluster.subnet),
            "execute_dir": (seen.stored.execute_dir, cluster.execute_dir),
        }
        for key, (old, new) in fixed.items():
            if old != new:
                raise UsageError(
                    f"{key}: the running pool has {old}, the file says {new}; this can't change while the pool is up",
                    hint="swarmhpc down   (the queue is kept), then swarmhpc up",
                )


def _check_swarm(cluster: Cluster, seen: Observed) -> None:
    if seen.swarm_state == "inactive":
        return
    if seen.swarm_state != "active":
        raise EngineError(
            f"this engine's Swarm is in state {seen.swarm_state!r}; wanted: none, or a working one that swarmhpc made",
            hint="docker info shows why; a locked Swarm: docker swarm unlock",
        )
    if seen.swarm_cluster is None:
        refuse_foreign(is_manager=seen.is_manager)
    elif seen.swarm_cluster != cluster.name:
        refuse_other(seen.swarm_cluster, cluster.name)


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


def _overlap(a: str, b: str) -> bool:
    one, two = ipaddress.ip_network(a, strict=False), ipaddress.ip_network(b, strict=False)
    return isinstance(one, ipaddress.IPv4Network) and isinstance(two, ipaddress.IPv4Network) and one.overlaps(two)


def decide(cluster: Cluster, seen: Observed, wanted: Mapping[str, WantedService], *, image: str) -> tuple[Step, ...]:
    """Every change `up` has to make; empty when the pool is as the file says."""
    steps: list[Step] = []
    if seen.swarm_state == "inactive":
        steps.append(Step("swarm", f"make a Swarm of this machine, advertised at {seen.address}"))
    if not seen.queue_node_labelled:
        steps.append(Step("swarm", f"mark this node as the home of the queue (label {state.LABEL_QUEUE_NODE})"))
    if not seen.image_present:
        steps.append(Step("image", f"{'get' if cluster.image.name else 'build'} image {image}"))
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
