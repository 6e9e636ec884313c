"""Cluster file and facts in, stack and HTCondor configuration out. Pure but for reading the shipped templates."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from swarmhpc import state
from swarmhpc.config import Cluster, ExecutorClass

if TYPE_CHECKING:
    from jinja2 import Environment

_CONFIGS = ("common", "central-manager", "access-point", "executor")


@dataclass(frozen=True)
class ClassPlan:
    """A class of executors with its size decided."""

    name: str
    replicas: int
    cpus: int
    memory_mib: int
    placement: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class RenderFacts:
    """What the templates need beyond the cluster file."""

    networking: Literal["vip", "dnsrr"]
    address: str
    image: str
    classes: tuple[ClassPlan, ...]
    signing_key: str
    """Name of the Swarm secret."""
    executor_token: str
    """Name of the Swarm secret."""
    revoked: str = ""
    """SEC_TOKEN_REVOCATION_EXPR, or nothing."""


@dataclass(frozen=True)
class Rendered:
    """`stack` is YAML for `docker stack deploy`; its configs are files of `configs` (file name to text)."""

    stack: str
    configs: dict[str, str]
    services: dict[str, dict[str, Any]]
    """Short service name to its section."""


@dataclass(frozen=True)
class NodeSize:
    """What one node has, and its labels."""

    cpus: int
    memory_mib: int
    labels: Mapping[str, str] = field(default_factory=dict)


def size_classes(cluster: Cluster, nodes: Sequence[NodeSize]) -> tuple[ClassPlan, ...]:
    """Fills in `cpus: auto` and `memory: auto`: an equal share of what fixed classes leave, on the smallest node that
    the class may run on. Swarm spreads a class's replicas evenly, so a node gets its share of them, rounded up.

    A quarter of the memory, at least 512 MiB, stays with the machine, the central manager and the access point. An
    auto class gets 128 MiB at least, also where the file asks for more than the machine has.
    """

    def on_node(c: ExecutorClass, node: NodeSize) -> int:
        """Executors of a class on this node."""
        fitting = [n for n in nodes if all(_same(n.labels.get(k), v) for k, v in c.placement)]
        return -(-c.replicas // len(fitting)) if node in fitting else 0

    def share(node: NodeSize) -> tuple[int, int]:
        """CPUs and MiB for one auto executor on this node."""
        free_mib = node.memory_mib - max(512, node.memory_mib // 4)
        free_mib -= sum(on_node(o, node) * o.memory_mib for o in cluster.executors if o.memory_mib is not None)
        free_cpus = node.cpus - sum(on_node(o, node) * o.cpus for o in cluster.executors if o.cpus is not None)
        cpu_takers = sum(on_node(o, node) for o in cluster.executors if o.cpus is None)
        memory_takers = sum(on_node(o, node) for o in cluster.executors if o.memory_mib is None)
        return free_cpus // max(1, cpu_takers), free_mib // max(1, memory_takers)

    plans = []
    for c in cluster.executors:
        shares = [share(n) for n in nodes if on_node(c, n)] or [share(n) for n in nodes]
        cpus, memory_mib = min(s[0] for s in shares), min(s[1] for s in shares)
        plans.append(
            ClassPlan(
                name=c.name,
                replicas=c.replicas,
                cpus=c.cpus if c.cpus is not None else max(1, cpus),
                memory_mib=c.memory_mib if c.memory_mib is not None else max(128, memory_mib // 128 * 128),
                placement=c.placement,
            )
        )
    return tuple(plans)


def _same(label: str | None, wanted: str) -> bool:
    """Swarm compares the values of constraints without regard to case (swarmkit manager/constraint, v2)."""
    return label is not None and label.casefold() == wanted.casefold()


def interface_pattern(subnet: str) -> str:
    """HTCondor's NETWORK_INTERFACE for addresses of this subnet: whole octets, then a star.

    HTCondor 25 manual, NETWORK_INTERFACE: "may be an IP address, an interface name, or a pattern with *".
    """
    network = ipaddress.ip_network(subnet)
    octets = str(network.network_address).split(".")[: network.prefixlen // 8]
    return ".".join([*octets, "*"])


def render(cluster: Cluster, facts: RenderFacts) -> Rendered:
    """Renders everything `docker stack deploy` needs.

    An undefined variable in a template is an error (jinja2.UndefinedError), never an empty string.
    """
    environment = _environment()
    volumes = [
        {"name": f"VOLUME{i}", "spec": f"{v.source}:{v.target}" + (":ro" if v.read_only else "")}
        for i, v in enumerate(cluster.jobs.volumes)
    ]
    executors = sum(c.replicas for c in facts.classes)
    values: dict[str, Any] = {
        "pool": cluster.name,
        "ports": cluster.ports,
        "subnet": cluster.subnet,
        "interface": interface_pattern(cluster.subnet),
        "address": facts.address,
        "networking": facts.networking,
        "port_mode": "ingress" if facts.networking == "vip" else "host",
        "image": facts.image,
        "classes": facts.classes,
        "secrets": {"signing_key": facts.signing_key, "executor_token": facts.executor_token},
        "revoked": facts.revoked,
        "encrypted": cluster.encrypted,
        "queue_path": cluster.queue.path,
        "managers": len(cluster.managers),
        "execute_dir": cluster.execute_dir,
        "drain_timeout_s": cluster.drain_timeout_s,
        "pids_limit": cluster.jobs.pids_limit,
        "allow_host_network": cluster.jobs.allow_host_network,
        "docker_volumes": volumes,
        "lease_s": state.SHARED_QUEUE_LEASE_S if cluster.queue.path else state.JOB_LEASE_S,
        "keepalive_s": state.JOB_LEASE_S - 25,
        "negotiator_interval_s": 1 if executors <= 20 else 5,
    }
    configs: dict[str, str] = {}
    entries = []
    for key in _CONFIGS:
        text = environment.get_template(f"condor/{key}.conf.j2").render(values)
        file = f"{key}.conf"
        configs[file] = text
        name = f"{cluster.name}_{key}-{state.short_hash(text)}"
        entries.append({"key": key, "name": name, "file": f"./{file}"})
    text = environment.get_template("pool.yml.j2").render(values, configs=entries)
    return _with_spec_labels(text, configs)


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(state.assets("stacks")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def _with_spec_labels(text: str, configs: dict[str, str]) -> Rendered:
    """Labels each service with a hash of its section, so that a later `up` sees what changed without guessing."""
    import yaml

    stack = yaml.safe_load(text)
    stack = {key: value for key, value in stack.items() if not key.startswith("x-")}
    names = {key: value["name"] for key, value in stack["configs"].items()}
    services: dict[str, dict[str, Any]] = stack["services"]
    for service in services.values():
        # Replicas are compared with the running service itself: `swarmhpc scale` changes them.
        section = {**service, "deploy": {k: v for k, v in service["deploy"].items() if k != "replicas"}}
        mounted = [names[c["source"]] for c in service.get("configs", ())]
        service["deploy"]["labels"][state.LABEL_SPEC] = state.short_hash(
            yaml.safe_dump(section),
            *mounted,
            yaml.safe_dump(stack["networks"]),
            yaml.safe_dump(stack["secrets"]),
        )
    header = "\n".join(line for line in text.splitlines()[:1]) + "\n"
    return Rendered(header + yaml.safe_dump(stack, sort_keys=False, width=120), configs, services)
