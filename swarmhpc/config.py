"""The cluster file, ``swarmhpc.yaml``: read strictly, every problem reported at once with its line.

Reading goes text → YAML nodes with their places (`_config_yaml`) → field checks by pydantic, then conflicts between
fields (`_config_rules`) → `Cluster`. yaml and pydantic are imported by the functions that need them, so that importing
this module stays cheap.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from swarmhpc import _config_events as hooks
from swarmhpc import _config_fairness as fair
from swarmhpc._config_checks import (
    AUTO,
    DEFAULT_CLASS,
    DEFAULT_REPLICAS,
    MAX_CLASS_CPUS,
    MAX_REPLICAS,
    RESERVED_CLASS_NAMES,
    size_text,
)
from swarmhpc._config_events import OnEvent
from swarmhpc._config_fairness import Fairness
from swarmhpc._config_machines import Machine, Ssh
from swarmhpc._config_rules import check_conflicts, check_fields
from swarmhpc._config_yaml import Problem, Tree, place_of
from swarmhpc.errors import UsageError
from swarmhpc.units import format_duration_s

__all__ = [
    "AUTO",
    "DEFAULT_CLASS",
    "FILE_NAME",
    "MAX_CLASS_CPUS",
    "MAX_FILE_BYTES",
    "MAX_REPLICAS",
    "RESERVED_CLASS_NAMES",
    "Cluster",
    "ConfigError",
    "ExecutorClass",
    "Fairness",
    "Image",
    "JobPolicy",
    "Machine",
    "OnEvent",
    "Ports",
    "Problem",
    "Queue",
    "Ssh",
    "Volume",
    "dump",
    "find_file",
    "load",
    "parse",
    "to_mapping",
]

FILE_NAME: Final = "swarmhpc.yaml"
MAX_FILE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True)
class ExecutorClass:
    """One replicated service of equal executors. `cpus`, `memory_mib` None: auto, an equal share of the node's.

    `placement`: labels that a node must have, all of them, as sorted pairs of name and value. `spread`: the label over
    whose values executors are dealt out evenly. `gpus`, `resources`: what each executor has beside CPUs and memory, the
    latter as sorted pairs of name and count. `minimum` and `maximum` bound the number of executors; `maximum` None:
    the autoscaler leaves the class alone. `step`: executors more in one decision of the autoscaler; `starting_max`:
    executors that may be starting at once; `idle_s`: an executor leaves after so long without a job. `scratch`: the
    path of this class's scratch directories, None: the cluster's `execute_dir`. `reserve`: whether Swarm sets aside
    what the executors advertise.
    """

    name: str
    replicas: int = DEFAULT_REPLICAS
    cpus: int | None = None
    memory_mib: int | None = None
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

    @property
    def most(self) -> int:
        """Executors of the class at its largest, as far as the file says."""
        return max(self.replicas, self.maximum or 0)

    def bounded(self, replicas: int) -> int:
        """The number of executors nearest to `replicas` that the class may have."""
        return max(self.minimum, min(replicas, MAX_REPLICAS if self.maximum is None else self.maximum))


@dataclass(frozen=True)
class Queue:
    """Where the access point keeps the queue.

    `machine`: the one whose volume holds it; None: the first manager. `path`: an absolute directory on a filesystem
    that all machines share; the access point may then move. At most one of the two is set. `history_mib`: how much of
    the jobs that have left it is kept there.
    """

    machine: str | None = None
    path: str | None = None
    history_mib: int = 512


@dataclass(frozen=True)
class Ports:
    """The TCP ports that clients and executors reach from outside the overlay network."""

    central_manager: int = 9618
    access_point: int = 9619
    gateway: int = 9620

    @property
    def keys(self) -> dict[int, str]:
        """Each port's key in the cluster file."""
        return {port: key for key, port in dataclasses.asdict(self).items()}


@dataclass(frozen=True)
class Volume:
    """A directory of every node that each job container sees at `target`. Absolute paths."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class JobPolicy:
    """What job containers may have, and what they get when the submit description does not say."""

    allow_host_network: bool = False
    volumes: tuple[Volume, ...] = ()
    pids_limit: int = 4096
    default_memory_mib: int = 128


@dataclass(frozen=True)
class Image:
    """The pool's image; `name` None: built here. `base` None: the registry's Debian, or a bootstrapped one."""

    name: str | None = None
    base: str | None = None


@dataclass(frozen=True)
class Cluster:
    """A whole cluster file with its defaults filled in. `address` None: that of the default route.

    `parse` sorts `executors` by name: the order of the classes means nothing, so it must not make clusters differ.
    `machines` are in the order of the file; none: the pool is on this machine alone. `encrypted`: whether the overlay
    network encrypts what executors and daemons send each other. `prepare`: whether Ansible readies the machines.
    `autoscale`: whether classes with a maximum grow and shrink with the queue. `on_event`: None: nobody is told.
    """

    name: str = "swarmhpc"
    networking: Literal["auto", "vip", "dnsrr"] = "auto"
    subnet: str = "10.73.0.0/16"
    address: str | None = None
    ports: Ports = field(default_factory=Ports)
    executors: tuple[ExecutorClass, ...] = (ExecutorClass(DEFAULT_CLASS),)
    autoscale: bool = False
    jobs: JobPolicy = field(default_factory=JobPolicy)
    image: Image = field(default_factory=Image)
    drain_timeout_s: int = 86400
    execute_dir: str = "/var/lib/swarmhpc/execute"
    machines: tuple[Machine, ...] = ()
    queue: Queue = field(default_factory=Queue)
    fairness: Fairness = field(default_factory=Fairness)
    on_event: OnEvent | None = None
    encrypted: bool = False
    prepare: bool = True

    @property
    def managers(self) -> tuple[Machine, ...]:
        """The machines that manage the Swarm, in the order of the file."""
        return tuple(machine for machine in self.machines if machine.role == "manager")

    @property
    def execute_roots(self) -> tuple[str, ...]:
        """The directories of a node that hold executors' scratch directories: `execute_dir`, then those of classes."""
        scratch = {c.scratch for c in self.executors if c.scratch is not None} - {self.execute_dir}
        return (self.execute_dir, *sorted(scratch))

    def class_named(self, name: str) -> ExecutorClass:
        """The class called `name`. Raises UsageError that lists the classes there are."""
        for executor_class in self.executors:
            if executor_class.name == name:
                return executor_class
        names = ", ".join(c.name for c in self.executors)
        raise UsageError(
            f"cluster {self.name} has no executor class {name!r}; it has {names}", hint=f"name one of: {names}"
        )


class ConfigError(UsageError):
    """A cluster file that cannot be used. `problems` holds all of them, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.column)))
        lines = [f"{p}\n    {p.hint}" if p.hint else str(p) for p in self.problems]
        super().__init__("\n".join(lines), hint="correct the cluster file; docs/configuration.md lists every key")


def find_file(cwd: Path) -> Path | None:
    """``swarmhpc.yaml`` in `cwd`, or None. A broken link is returned, so that `load` can say what is wrong with it.

    Raises UsageError where only ``swarmhpc.yml`` is there: the defaults would be used in silence.
    """
    path = cwd / FILE_NAME
    if path.exists() or path.is_symlink():
        return path
    other = path.with_suffix(".yml")
    if other.exists() or other.is_symlink():
        raise UsageError(f"{other}: the cluster file must be called {FILE_NAME}", hint=f"mv {other.name} {FILE_NAME}")
    return None


def load(path: Path | None) -> Cluster:
    """The cluster that the file describes; None gives the defaults. Raises ConfigError."""
    if path is None:
        return Cluster()
    file = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        problem = Problem(file, 0, 0, "", f"wanted a readable cluster file, saw: {error.strerror}")
        raise ConfigError([problem]) from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([Problem(file, 0, 0, "", f"wanted at most {MAX_FILE_BYTES} bytes (1 MiB), saw more")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = place_of(content[: error.start].decode("utf-8-sig"))
        problem = Problem(file, line, column, "", f"wanted UTF-8 text, saw the byte 0x{content[error.start]:02x}")
        raise ConfigError([problem]) from error
    return parse(text, file=file)


def parse(text: str, *, file: str) -> Cluster:
    """The cluster that `text` describes; `file` is how messages call it. Raises ConfigError."""
    tree = Tree(file)
    data = tree.read(text)
    fields: dict[str, Any] = {}
    if data is not None:
        fields = check_fields(data, tree)
        check_conflicts(tree, to_mapping(Cluster()))
    if tree.problems:
        raise ConfigError(tree.problems)
    return _cluster(fields)


def _cluster(fields: dict[str, Any]) -> Cluster:
    """The dataclasses from checked fields. What is left out has their defaults."""
    fields["machines"] = _machines(fields.get("machines", {}), fields.pop("ssh", {}))
    if "executors" in fields:
        fields["executors"] = tuple(_class(name, keys) for name, keys in sorted(fields["executors"].items()))
    if "jobs" in fields:
        volumes = tuple(Volume(**keys) for keys in fields["jobs"].pop("volumes", ()))
        fields["jobs"] = JobPolicy(volumes=volumes, **fields["jobs"])
    if fields.get("on_event"):
        fields["on_event"] = OnEvent(**fields["on_event"])
    if "fairness" in fields:
        fields["fairness"] = fair.from_fields(fields["fairness"])
    sections = {"ports": Ports, "image": Image, "queue": Queue}
    return Cluster(**{key: sections[key](**value) if key in sections else value for key, value in fields.items()})


def _class(name: str, keys: dict[str, Any]) -> ExecutorClass:
    """A class from checked fields. The default number of executors gives way to what the file says of min and max."""
    pairs = {key: _pairs(keys.get(key, {})) for key in ("placement", "resources")}
    found = ExecutorClass(name, **{**keys, **pairs})
    return found if "replicas" in keys else dataclasses.replace(found, replicas=found.bounded(found.replicas))


def _machines(fields: dict[str, dict[str, Any]], ssh: dict[str, Any]) -> tuple[Machine, ...]:
    """The machines from checked fields; `ssh` is what holds for all of them. Without any role the first manages."""
    roles = any("role" in keys for keys in fields.values())
    return tuple(
        Machine(
            name,
            keys.get("address", name),
            keys.get("role", "worker" if roles or index else "manager"),
            Ssh(**{**ssh, **keys.get("ssh", {})}),
            _pairs(keys.get("labels", {})),
        )
        for index, (name, keys) in enumerate(fields.items())
    )


def _pairs(named: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(named.items()))


def to_mapping(cluster: Cluster) -> dict[str, Any]:
    """Plain data in the shape of the file: every key, in the documented order, one spelling for each value."""
    classes = {
        c.name: {
            "replicas": c.replicas,
            "cpus": AUTO if c.cpus is None else c.cpus,
            "memory": AUTO if c.memory_mib is None else size_text(c.memory_mib),
            "gpus": c.gpus,
            "resources": dict(c.resources),
            "placement": dict(c.placement),
            "spread": c.spread,
            "max_per_node": c.max_per_node,
            "scratch": c.scratch,
            "reserve": c.reserve,
            "min": c.minimum,
            "max": c.maximum,
            "step": c.step,
            "idle": format_duration_s(c.idle_s),
            "starting": c.starting_max,
        }
        for c in sorted(cluster.executors, key=lambda c: c.name)
    }
    return {
        "version": 1,
        "name": cluster.name,
        "machines": {
            m.name: {
                "address": m.address,
                "role": m.role,
                "ssh": dataclasses.asdict(m.ssh),
                "labels": dict(m.labels),
            }
            for m in cluster.machines
        },
        "prepare": cluster.prepare,
        "queue": {
            "machine": cluster.queue.machine,
            "path": cluster.queue.path,
            "history": size_text(cluster.queue.history_mib),
        },
        "fairness": fair.to_mapping(cluster.fairness),
        "on_event": hooks.to_mapping(cluster.on_event),
        "networking": cluster.networking,
        "subnet": cluster.subnet,
        "encrypted": cluster.encrypted,
        "address": cluster.address,
        "ports": dataclasses.asdict(cluster.ports),
        "executors": classes,
        "autoscale": cluster.autoscale,
        "jobs": {
            "allow_host_network": cluster.jobs.allow_host_network,
            "volumes": [dataclasses.asdict(volume) for volume in cluster.jobs.volumes],
            "pids_limit": cluster.jobs.pids_limit,
            "default_memory": size_text(cluster.jobs.default_memory_mib),
        },
        "image": dataclasses.asdict(cluster.image),
        "drain_timeout": format_duration_s(cluster.drain_timeout_s),
        "execute_dir": cluster.execute_dir,
    }


def dump(cluster: Cluster) -> str:
    """Canonical YAML: equal clusters give equal text, in whatever order their classes are.

    ``parse(dump(c), file=...) == c`` for every `c` whose classes are sorted by name, as `parse` gives them.
    """
    import yaml

    return yaml.safe_dump(to_mapping(cluster), sort_keys=False)
