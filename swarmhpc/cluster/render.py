"""Cluster file and facts in, stack and HTCondor configuration out. Pure but for reading the shipped templates."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from swarmhpc import _config_events as hooks
from swarmhpc import _config_fairness as fair
from swarmhpc import state
from swarmhpc.config import Cluster, ExecutorClass
from swarmhpc.errors import EngineError
from swarmhpc.units import BYTES_PER_MIB

if TYPE_CHECKING:
    from jinja2 import Environment

_SHARED = (
    "__init__.py", "errors.py", "units.py", "state.py", "states.py", "tokens.py", "context.py", "config.py",
    "_config_*.py", "adapters/__init__.py", "adapters/condor.py", "adapters/job_ads.py", "adapters/machine.py",
    "adapters/command.py", "adapters/slot_ads.py",
)  # fmt: skip
_PROGRAMS = {
    "autoscaler": (
        *_SHARED, "adapters/docker.py", "adapters/expressions.py", "cluster/__init__.py", "cluster/plan.py",
        "cluster/progress.py", "cluster/render.py", "scaling/*.py",
    ),
    "gateway": (*_SHARED, "wire.py", "adapters/hook.py", "adapters/processes.py", "gateway/*.py"),
}  # fmt: skip
"""What `scaling` and `gateway` import, here and in what they import: two, since a Swarm config holds 500 kB (engine
20.10)."""
_CONFIGS = ("common", "central-manager", "access-point", "autoscaler", "executor")


@dataclass(frozen=True)
class ClassPlan:
    """A class of executors with its size decided; the rest is `config.ExecutorClass`.

    `replicas`: what this `up` asks for. Afterwards the service itself has the number; that in its label is history.
    `cpus`, `memory_mib`: what each executor advertises. `reserved_cpus`: what Swarm sets aside of a node's CPUs for
    each, less than 1 where the node has fewer CPUs than executors; as much memory as is advertised, and the resources.
    With `reserve` false nothing is set aside.
    """

    name: str
    replicas: int
    cpus: int
    memory_mib: int
    placement: tuple[tuple[str, str], ...] = ()
    gpus: int = 0
    resources: tuple[tuple[str, int], ...] = ()
    spread: str | None = None
    max_per_node: int | None = None
    minimum: int = 0
    maximum: int | None = None
    step: int = 10
    idle_s: int = 300
    starting_max: int = 10
    scratch: str | None = None
    reserve: bool = True
    reserved_cpus: float = 0.0

    @property
    def counted(self) -> tuple[tuple[str, int], ...]:
        """GPUs and other resources of each executor, as HTCondor calls them, those that it has."""
        return ((("gpus", self.gpus),) if self.gpus else ()) + self.resources

    @property
    def generic_resources(self) -> tuple[tuple[str, int], ...]:
        """The same, as Swarm and the engine's ``node-generic-resources`` call them."""
        return tuple(("gpu" if name == "gpus" else name, count) for name, count in self.counted)


@dataclass(frozen=True)
class RenderFacts:
    """What the templates need beyond the cluster file."""

    networking: Literal["vip", "dnsrr"]
    address: str
    image: str
    classes: tuple[ClassPlan, ...]
    """`replicas`: those to ask for now."""
    signing_key: str
    """Name of the Swarm secret."""
    executor_token: str
    """Name of the Swarm secret."""
    autoscalers: int = 0
    """Replicas of the autoscaler: 1 when it is on."""
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
    the class may run on, with as many executors as the class may have by its file (never as many as run just now).

    A quarter of the memory, at least 512 MiB, stays with the machine, the central manager and the access point. An
    auto class gets one CPU and 128 MiB at least, also where the machine has less: of CPUs it reserves its share only,
    of memory all, so that where there is less Swarm starts as many as fit. `replicas` are those of the file.
    """
    on_node = {c.name: _dealt(c, nodes) for c in cluster.executors}

    def share(i: int) -> tuple[Fraction, int]:
        """CPUs and MiB for one auto executor on this node."""
        node = nodes[i]
        free_mib = node.memory_mib - max(512, node.memory_mib // 4)
        free_mib -= sum(on_node[o.name][i] * o.memory_mib for o in cluster.executors if o.memory_mib is not None)
        free_cpus = node.cpus - sum(on_node[o.name][i] * o.cpus for o in cluster.executors if o.cpus is not None)
        cpu_takers = sum(on_node[o.name][i] for o in cluster.executors if o.cpus is None)
        memory_takers = sum(on_node[o.name][i] for o in cluster.executors if o.memory_mib is None)
        return Fraction(max(0, free_cpus), max(1, cpu_takers)), free_mib // max(1, memory_takers)

    plans = []
    for c in cluster.executors:
        shares = [share(i) for i in range(len(nodes)) if on_node[c.name][i]] or [share(i) for i in range(len(nodes))]
        cpus, memory_mib = min(s[0] for s in shares), min(s[1] for s in shares)
        of_file = {f.name: getattr(c, f.name) for f in fields(ExecutorClass)}
        sizes = {
            "cpus": c.cpus if c.cpus is not None else max(1, int(cpus)),
            "memory_mib": c.memory_mib if c.memory_mib is not None else max(128, memory_mib // 128 * 128),
        }
        plan = ClassPlan(**{**of_file, **sizes})
        # Rounded down: the sum of all shares must fit.
        reserved = int(cpus * 100) / 100 if c.cpus is None and cpus < 1 else float(plan.cpus)
        plans.append(replace(plan, reserved_cpus=reserved if c.reserve else 0.0))
    return tuple(plans)


def _dealt(c: ExecutorClass, nodes: Sequence[NodeSize]) -> list[int]:
    """The most executors of a class that each node gets when Swarm has started all that the class may have.

    Swarm gives every value of the label `spread` the same number and, within one, every node the same; what one has no
    room for goes to the others (swarmkit, manager/scheduler: scheduleNTasksOnSubtree).
    """
    room = [_room(c, node) for node in nodes]
    groups: dict[str | None, list[int]] = {}
    for i, node in enumerate(nodes):
        if room[i]:
            groups.setdefault(node.labels.get(c.spread) if c.spread else None, []).append(i)
    result = [0] * len(nodes)
    of_group = _evenly(c.most, [sum(room[i] for i in group) for group in groups.values()])
    for group, count in zip(groups.values(), of_group, strict=True):
        for i, share in zip(group, _evenly(count, [room[i] for i in group]), strict=True):
            result[i] = share
    return result


def _evenly(count: int, room: Sequence[int]) -> list[int]:
    """The most that each takes when `count` are dealt evenly among those that have room."""
    level = next((n for n in range(count) if sum(min(n, r) for r in room) >= count), count)
    return [min(level, r) for r in room]


def _room(c: ExecutorClass, node: NodeSize) -> int:
    """Executors of the class that fit on this node when nothing else runs there. Auto sizes fit always."""
    if not all(_same(node.labels.get(key), value) for key, value in c.placement):
        return 0
    bounds = [c.most, c.max_per_node]
    if c.reserve:
        bounds.append(None if c.cpus is None else node.cpus // c.cpus)
        bounds.append(None if c.memory_mib is None else node.memory_mib // c.memory_mib)
    return min(b for b in bounds if b is not None)


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


def plan_label(plan: ClassPlan) -> str:
    """The text of the label `swarmhpc.plan`: compact JSON, the same for the same plan."""
    return json.dumps(asdict(plan), sort_keys=True, separators=(",", ":"))


def read_plan(label: str) -> ClassPlan:
    """The plan in a service's label `swarmhpc.plan`, of which a later or earlier version may have had other keys.

    `replicas` is what the last `up` asked for: ask the service itself for the number of now. Raises EngineError.
    """
    known = {f.name for f in fields(ClassPlan)}
    try:
        found = {key: value for key, value in json.loads(label).items() if key in known}
        pairs = {key: tuple((str(k), v) for k, v in found.get(key, ())) for key in ("placement", "resources")}
        return ClassPlan(**{**found, **pairs})
    except (ValueError, TypeError, AttributeError) as e:
        raise EngineError(
            f"a service's label {state.LABEL_PLAN} holds no class of executors: {label[:60]!r}", hint="swarmhpc up"
        ) from e


def render(cluster: Cluster, facts: RenderFacts) -> Rendered:
    """Renders everything `docker stack deploy` needs.

    An undefined variable in a template is an error (jinja2.UndefinedError), never an empty string.
    """
    environment = _environment()
    volumes = [
        {"name": f"VOLUME{i}", "spec": f"{v.source}:{v.target}" + (":ro" if v.read_only else "")}
        for i, v in enumerate(cluster.jobs.volumes)
    ]
    # By the file: a number that `swarmhpc scale` changes would restart the central manager at the next `up`.
    executors = sum(c.most for c in cluster.executors)
    roots = cluster.execute_roots
    plans = {c.name: plan_label(c) for c in facts.classes}
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
        "plans": plans,
        "autoscalers": facts.autoscalers,
        "execute_dir": cluster.execute_dir,
        "execute_roots": roots,
        "drain_timeout_s": cluster.drain_timeout_s,
        "pids_limit": cluster.jobs.pids_limit,
        "allow_host_network": cluster.jobs.allow_host_network,
        "docker_volumes": volumes,
        "fairness": cluster.fairness,
        # With blanks, so that no text of a configuration looks like a template's mark.
        "fairness_json": json.dumps(fair.to_mapping(cluster.fairness)).replace("}", "} "),
        "members": {
            g.name: ", ".join(f'"{p.name}"' for p in cluster.fairness.people if p.group == g.name)
            for g in cluster.fairness.groups
        },
        "has_hook": cluster.on_event is not None,
        "counted": cluster.fairness.counted,
        "history_bytes": cluster.queue.history_mib * BYTES_PER_MIB,
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
    for what in _PROGRAMS:
        key, program = f"{what}-program", _program(what)
        configs[f"{key}.b64"] = program
        name = f"{cluster.name}_{key}-{state.short_hash(program)}"
        entries.append({"key": key, "name": name, "file": f"./{key}.b64"})
    if cluster.on_event is not None:
        text = json.dumps(hooks.to_mapping(cluster.on_event)) + "\n"
        configs["on-event.json"] = text
        name = f"{cluster.name}_on-event-{state.short_hash(text)}"
        entries.append({"key": "on-event", "name": name, "file": "./on-event.json"})
    text = environment.get_template("pool.yml.j2").render(values, configs=entries)
    return _with_spec_labels(text, configs)


def _program(what: str) -> str:
    """The autoscaler's or the gateway's (and its agents') program for Python's zip import, as base64: the modules it
    needs of this package, so that it always is of the same version as the `up` that deployed it.

    Nothing is compressed and no time is kept: the same modules give the same text on every machine.
    """
    package = Path(__file__).parent.parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as program:
        for pattern in _PROGRAMS[what]:
            for path in sorted(package.glob(pattern)):
                name = f"swarmhpc/{path.relative_to(package).as_posix()}"
                program.writestr(zipfile.ZipInfo(name), path.read_bytes())
    return base64.encodebytes(buffer.getvalue()).decode()


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
        if label := service["deploy"]["labels"].get(state.LABEL_PLAN):
            same = plan_label(replace(read_plan(label), replicas=0))
            section["deploy"]["labels"] = {**service["deploy"]["labels"], state.LABEL_PLAN: same}
        mounted = [names[c["source"]] for c in service.get("configs", ())]
        service["deploy"]["labels"][state.LABEL_SPEC] = state.short_hash(
            yaml.safe_dump(section),
            *mounted,
            yaml.safe_dump(stack["networks"]),
            yaml.safe_dump(stack["secrets"]),
        )
    header = "\n".join(line for line in text.splitlines()[:1]) + "\n"
    return Rendered(header + yaml.safe_dump(stack, sort_keys=False, width=120), configs, services)
