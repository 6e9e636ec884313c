"""The cluster file, ``swarmhpc.yaml``: read strictly, every problem reported at once with its line.

Reading goes text → YAML nodes with their places → field checks (pydantic) → conflicts between fields → `Cluster`.
yaml and pydantic are imported by the functions that need them, so that importing this module stays cheap.
"""

import dataclasses
import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

from swarmhpc.errors import UsageError
from swarmhpc.units import format_duration_s, format_mib, mib, parse_duration_s, parse_size_bytes

AUTO: Final = "auto"
FILE_NAME: Final = "swarmhpc.yaml"
DEFAULT_CLASS: Final = "executors"
RESERVED_CLASS_NAMES: Final = ("central-manager", "access-point", "janitor")
MAX_FILE_BYTES: Final = 1024 * 1024
MAX_CLASS_CPUS: Final = 16384  # replicas × cpus of one class; a guard against slips, not a measured limit


@dataclass(frozen=True)
class ExecutorClass:
    """One replicated service of equal executors. None means auto: an equal share of the node's."""

    name: str
    replicas: int = 2
    cpus: int | None = None
    memory_mib: int | None = None


@dataclass(frozen=True)
class Ports:
    """The two TCP ports that clients and executors reach from outside the overlay network."""

    central_manager: int = 9618
    access_point: int = 9619


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
    """A whole cluster file with its defaults filled in. `address` None: that of the default route."""

    name: str = "swarmhpc"
    networking: Literal["auto", "vip", "dnsrr"] = "auto"
    subnet: str = "10.73.0.0/16"
    address: str | None = None
    ports: Ports = field(default_factory=Ports)
    executors: tuple[ExecutorClass, ...] = (ExecutorClass(DEFAULT_CLASS),)
    jobs: JobPolicy = field(default_factory=JobPolicy)
    image: Image = field(default_factory=Image)
    drain_timeout_s: int = 86400
    execute_dir: str = "/var/lib/swarmhpc/execute"

    def class_named(self, name: str) -> ExecutorClass:
        """The class called `name`. Raises UsageError that lists the classes there are."""
        for executor_class in self.executors:
            if executor_class.name == name:
                return executor_class
        names = ", ".join(c.name for c in self.executors)
        raise UsageError(
            f"cluster {self.name} has no executor class {name!r}; it has {names}", hint=f"name one of: {names}"
        )


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a cluster file. Line and column count from 1; 0 means the file as a whole."""

    file: str
    line: int
    column: int
    key_path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}{' ' if self.key_path else ''}{self.key_path}: {self.message}"


class ConfigError(UsageError):
    """A cluster file that cannot be used. `problems` holds all of them, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.column)))
        lines = [f"{p}\n    {p.hint}" if p.hint else str(p) for p in self.problems]
        super().__init__("\n".join(lines), hint="correct the cluster file; docs/configuration.md lists every key")


def find_file(cwd: Path) -> Path | None:
    """``swarmhpc.yaml`` in `cwd`, or None. A broken link is returned, so that `load` can say what is wrong with it."""
    path = cwd / FILE_NAME
    return path if path.exists() or path.is_symlink() else None


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
        line, column = _place_of(content[: error.start].decode("utf-8-sig"))
        problem = Problem(file, line, column, "", f"wanted UTF-8 text, saw the byte 0x{content[error.start]:02x}")
        raise ConfigError([problem]) from error
    return parse(text, file=file)


def parse(text: str, *, file: str) -> Cluster:
    """The cluster that `text` describes; `file` is how messages call it. Raises ConfigError."""
    tree = _Tree(file)
    data = tree.read(text)
    cluster = None
    if isinstance(data, dict):
        cluster = _check_fields(data, tree)
        _check_conflicts(tree)
    if tree.problems or cluster is None:
        raise ConfigError(tree.problems)
    return cluster


def to_mapping(cluster: Cluster) -> dict[str, Any]:
    """Plain data in the shape of the file: every key, in the documented order, one spelling for each value."""
    classes = {
        c.name: {
            "replicas": c.replicas,
            "cpus": AUTO if c.cpus is None else c.cpus,
            "memory": AUTO if c.memory_mib is None else _size_text(c.memory_mib),
        }
        for c in cluster.executors
    }
    return {
        "version": 1,
        "name": cluster.name,
        "networking": cluster.networking,
        "subnet": cluster.subnet,
        "address": cluster.address,
        "ports": dataclasses.asdict(cluster.ports),
        "executors": classes,
        "jobs": {
            "allow_host_network": cluster.jobs.allow_host_network,
            "volumes": [dataclasses.asdict(volume) for volume in cluster.jobs.volumes],
            "pids_limit": cluster.jobs.pids_limit,
            "default_memory": _size_text(cluster.jobs.default_memory_mib),
        },
        "image": dataclasses.asdict(cluster.image),
        "drain_timeout": format_duration_s(cluster.drain_timeout_s),
        "execute_dir": cluster.execute_dir,
    }


def dump(cluster: Cluster) -> str:
    """Canonical YAML: equal clusters give equal text, and ``parse(dump(c), file=...) == c``."""
    import yaml

    return yaml.safe_dump(to_mapping(cluster), sort_keys=False)


def _size_text(size_mib: int) -> str:
    return format_mib(size_mib).replace(" ", "")


# ---- YAML with places ------------------------------------------------------------------------------------------

_Loc = tuple[str | int, ...]
_Place = tuple[int, int]
_MAX_DEPTH: Final = 16
_REFUSED: Final = {
    "!alias": ("a YAML alias (*name) is not accepted here", "write the value out"),
    "!tag": ("a YAML tag (!name) is not accepted here", "remove the tag"),
}
_ANCHORED: Final = "!anchor "  # put before the tag of a node that has an anchor
_ANCHOR_REFUSED: Final = ("a YAML anchor (&name) is not accepted here", "remove the anchor")


def _place_of(before: str) -> _Place:
    """Line and column of what follows `before`."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _key_path(loc: _Loc) -> str:
    """``jobs.volumes[0].target``; keys that could spoil a line of output are quoted and cut."""
    parts = [f"[{p}]" if isinstance(p, int) else f".{p if _plain(p) else ascii(p[:60])}" for p in loc]
    return "".join(parts).removeprefix(".")


def _plain(text: str) -> bool:
    return len(text) <= 60 and text.isprintable()


class _Tree:
    """What a YAML text holds, where it holds it, and what is wrong with it so far."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.keys: dict[_Loc, _Place] = {}
        self.places: dict[_Loc, _Place] = {}
        self.shown: dict[_Loc, str] = {}  # values as written, for messages
        self.scalars: dict[_Loc, object] = {}
        self.bad: set[_Loc] = set()

    def add(self, loc: _Loc, message: str, hint: str = "", *, at_key: bool = False) -> None:
        """Reports a problem with the value at `loc` (with its key alone: `at_key`), or at its nearest parent."""
        parents = (loc[:n] for n in range(len(loc), -1, -1))
        maps = (self.keys, self.places) if at_key else (self.places, self.keys)
        place = next((places[parent] for parent in parents for places in maps if parent in places), (1, 1))
        if not at_key:
            self.bad.add(loc)
        self.problems.append(Problem(self.file, *place, _key_path(loc), message, hint))

    def is_bad(self, loc: _Loc) -> bool:
        """Whether a problem was reported at `loc` or at something that holds it."""
        return any(loc[:n] in self.bad for n in range(len(loc) + 1))

    def read(self, text: str) -> object:
        """Plain data: dict, list, str, int, bool, None. An empty text is an empty dict."""
        import yaml

        try:
            node = _composer(text).get_single_node()
        except yaml.reader.ReaderError as error:
            place = _place_of(text[: error.position])
            message = f"wanted printable text, saw the character U+{error.character:04X}"
            self.problems.append(Problem(self.file, *place, "", message))
            return None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            context = f" ({error.context})" if error.context else ""
            hint = "indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
            self.problems.append(Problem(self.file, *place, "", f"not YAML: {error.problem}{context}", hint))
            return None
        data = {} if node is None else self._walk(node, ())
        if data is None and not self.problems:
            return {}
        if not isinstance(data, dict) and not self.problems:
            message = f"wanted keys with values, saw {self.shown[()]}"
            self.add((), message, f"begin with a key, such as name: {Cluster.name}")
        return data

    def _walk(self, node: Any, loc: _Loc) -> object:
        import yaml

        self.places[loc] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if node.tag in _REFUSED:
            self.add(loc, *_REFUSED[node.tag])
            return None
        if node.tag.startswith(_ANCHORED):  # its content is there all the same, and may be wrong too
            node.tag = node.tag.removeprefix(_ANCHORED)
            self.problems.append(Problem(self.file, *self.places[loc], _key_path(loc), *_ANCHOR_REFUSED))
        if isinstance(node, yaml.MappingNode):
            self.shown[loc] = "keys with values"
            return {key: self._walk(value, (*loc, key)) for key, value in self._members(node, loc)}
        if isinstance(node, yaml.SequenceNode):
            self.shown[loc] = "a list"
            return [self._walk(item, (*loc, index)) for index, item in enumerate(node.value)]
        value, self.shown[loc] = _scalar(node)
        self.scalars[loc] = value
        return value

    def _members(self, node: Any, loc: _Loc) -> Iterator[tuple[str, Any]]:
        import yaml

        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key_node.tag.startswith(_ANCHORED):
                self.problems.append(Problem(self.file, *place, _key_path(loc), *_ANCHOR_REFUSED))
            if key_node.tag in _REFUSED or not isinstance(key_node, yaml.ScalarNode):
                message, hint = _REFUSED.get(key_node.tag, ("wanted a plain word as key", ""))
                self.problems.append(Problem(self.file, *place, _key_path(loc), message, hint))
                continue
            child = (*loc, key_node.value)
            if child in self.keys:
                message = f"this key is already on line {self.keys[child][0]}"
                self.problems.append(Problem(self.file, *place, _key_path(child), message, "keep one"))
                continue
            self.keys[child] = place
            yield key_node.value, value_node


def _composer(text: str) -> Any:
    """A YAML reader that marks aliases, anchors and tags instead of following them."""
    import yaml

    class Composer(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            if isinstance(event, yaml.AliasEvent):
                alias: Any = self.get_event()  # type: ignore[no-untyped-call]
                return yaml.ScalarNode("!alias", alias.anchor, alias.start_mark, alias.end_mark)
            if self.depth >= _MAX_DEPTH:
                message = f"nested more than {_MAX_DEPTH} levels deep"
                raise yaml.composer.ComposerError(None, None, message, event.start_mark)
            tagged, anchored = event.tag is not None, event.anchor is not None
            event.anchor = None
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            if node is not None and (tagged or anchored):
                node.tag = "!tag" if tagged else _ANCHORED + node.tag
            return node

    return Composer(text)


def _scalar(node: Any) -> tuple[object, str]:
    """The value, and how to show it. Numbers in other than plain decimal stay text: 010 and 1:30 are traps."""
    raw = node.value if len(node.value) <= 60 else node.value[:60] + "…"
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind == "null":
        return None, "nothing"
    if kind == "bool":
        value = node.value.lower() in ("yes", "true", "on")
        meaning = str(value).lower()
        return value, raw if node.value == meaning else f"{raw}, which YAML reads as {meaning}"
    if kind == "int" and re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", node.value):
        return int(node.value), raw
    return node.value, raw if node.style is None and raw.isprintable() else f"the text {raw!r}"


# ---- checks of single fields -----------------------------------------------------------------------------------


class _WantedError(ValueError):
    """What a field wanted; what was seen is added by the caller, who knows how it was written."""

    def __init__(self, wanted: str, hint: str = "") -> None:
        super().__init__(wanted)
        self.hint = hint


_Check = Callable[[object], Any]
_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,29}[a-z0-9])?")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._+@-]+)+")
_IMAGE: Final = re.compile(
    r"([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_PRIVATE: Final = [ipaddress.IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]  # RFC 1918
_TAKEN_SUBNETS: Final = {
    "172.17.0.0/16": "Docker's default bridge",
    "10.0.0.0/24": "the Swarm's ingress network: the first of its default pool, 10.0.0.0/8 in /24",
}
_SWARM_PORTS: Final = {
    2377: "Swarm's management",
    7946: "Swarm's node discovery",
}  # Docker's "Open protocols and ports"
_MIN_MEMORY_MIB: Final = 6  # the engine's own least memory limit of a container
_MAX_MEMORY_MIB: Final = 64 * 1024 * 1024  # 64 TiB: what 46 bits of address can reach
_SYSTEM: Final = {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "root", "run", "sbin", "sys", "usr"}
# Directories that hold others' things: something inside is fine, the directory itself is not.
_SHARED_BY_ALL: Final = ("/tmp", "/var", "/var/cache", "/var/lib", "/var/log", "/var/tmp")
_SHARED_ON_HOST: Final = (*_SHARED_BY_ALL, "/home", "/media", "/mnt", "/opt", "/srv", "/usr/local")
# Whoever can reach these rules the machine (the engine's socket is in /run), also from above, as in `source: /var`.
_NEVER_SOURCES: Final = ("/dev", "/proc", "/run", "/sys", "/var/run", "/var/lib/docker")


def _inside(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)


def _whole(low: int, high: int, *, auto: bool = False) -> _Check:
    def check(value: object) -> int | None:
        if auto and value == AUTO:
            return None
        if type(value) is int and low <= value <= high:
            return value
        hint = f"write {value}, without quotes" if isinstance(value, str) and value.isdecimal() else ""
        raise _WantedError(f"{'auto or ' if auto else ''}a whole number from {low} to {high}", hint)

    return check


def _port(value: object) -> int:
    number: int = _whole(1, 65535)(value)
    if number in _SWARM_PORTS:
        raise _WantedError(f"another port than that of {_SWARM_PORTS[number]}")
    return number


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _WantedError("true or false")
    return value


def _one_of(*words: str) -> _Check:
    def check(value: object) -> object:
        if value in words and isinstance(value, str):
            return value
        close = difflib.get_close_matches(str(value), words, n=1)
        raise _WantedError(f"one of {', '.join(words)}", f"did you mean {close[0]}?" if close else "")

    return check


def _version(value: object) -> object:
    if type(value) is not int or value != 1:
        raise _WantedError("1, the only version of this file so far")
    return value


def _name(value: object) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    hint = "write it in quotes if it is meant as a name" if isinstance(value, bool) else ""
    raise _WantedError("a name of at most 31 letters a-z, digits and inner hyphens that begins with a letter", hint)


def _class_name(value: object) -> str:
    name = _name(value)
    if name in RESERVED_CLASS_NAMES:
        raise _WantedError("another class name: the pool's own service is called so", f"for instance {name}-jobs")
    return name


def _size_mib(value: object, *, auto: bool = False) -> int | None:
    if auto and value == AUTO:
        return None
    wanted = f"{'auto or ' if auto else ''}a size with its unit, such as 512MiB or 4GiB"
    text = str(value).strip()
    if type(value) is int or re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise _WantedError(wanted, f"write {text}MiB or {text}GiB, whichever is meant")
    try:
        size_mib = mib(parse_size_bytes(value, plain_unit_bytes=1))  # type: ignore[arg-type]  # it checks the type
    except ValueError as error:
        guess = re.match(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt])", text, re.ASCII | re.IGNORECASE)
        raise _WantedError(wanted, f"write {guess[1]}{guess[2].upper()}iB" if guess else "") from error
    if not _MIN_MEMORY_MIB <= size_mib <= _MAX_MEMORY_MIB:
        raise _WantedError(f"a size from {_MIN_MEMORY_MIB}MiB to {_size_text(_MAX_MEMORY_MIB)}")
    return size_mib


def _duration_s(value: object) -> int:
    try:
        duration_s = parse_duration_s(value)  # type: ignore[arg-type]  # it checks the type
    except ValueError as error:
        raise _WantedError("a duration such as 90s, 10m, 2h or 1d") from error
    if not 1 <= duration_s <= 365 * 86400:
        raise _WantedError("a duration from 1s to 365d")
    return duration_s


def _subnet(value: object) -> str:
    try:
        network = ipaddress.IPv4Network(value if isinstance(value, str) else "", strict=False)
    except ValueError as error:
        raise _WantedError("a private IPv4 subnet such as 10.73.0.0/16") from error
    if not any(network.subnet_of(block) for block in _PRIVATE):
        raise _WantedError("a subnet inside 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")
    if not 16 <= network.prefixlen <= 24:
        raise _WantedError("a subnet from /16 (65,534 addresses) to /24 (254 addresses)")
    if str(network.network_address) != str(value).partition("/")[0]:
        raise _WantedError("a subnet that begins at its first address", f"write {network}")
    for taken, owner in _TAKEN_SUBNETS.items():
        if network.overlaps(ipaddress.IPv4Network(taken)):
            raise _WantedError(f"a subnet that does not overlap {taken} ({owner})", f"for instance {Cluster.subnet}")
    return str(network)


def _address(value: object) -> str | None:
    if value is None:
        return None
    try:
        address = ipaddress.IPv4Address(value if isinstance(value, str) else "")
    except ValueError as error:
        raise _WantedError("the IPv4 address of this machine, such as 192.168.1.10") from error
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        raise _WantedError("an IPv4 address that one machine can have")
    return str(address)


def _image_name(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > 255 or not _IMAGE.fullmatch(value):
        raise _WantedError("an image such as registry.example.org/pool:1 or debian:forky-slim")
    return value


def _path(value: object) -> str:
    if not isinstance(value, str) or len(value) > 255 or not _PATH.fullmatch(value) or re.search(r"/\.\.?(/|$)", value):
        raise _WantedError(
            "an absolute path of at most 255 letters, digits and . _ + @ - / without '..' and without / at its end"
        )
    return value


def _own_path(shared: tuple[str, ...]) -> _Check:
    """A path that hides or fills nothing of the system's: a mount point, or the executors' scratch directory."""

    def check(value: object) -> str:
        path = _path(value)
        system = path.split("/")[1] in _SYSTEM and not _inside(path, "/usr/local")
        if system or path in shared or any(_inside(path, never) for never in _NEVER_SOURCES):
            raise _WantedError("a directory of its own, outside the system's")
        return path

    return check


def _source(value: object) -> str:
    path = _path(value)
    for never in _NEVER_SOURCES:
        if _inside(path, never) or _inside(never, path):
            raise _WantedError(f"a directory apart from {never}, through which a job could rule the machine")
    return path


def _or_empty(value: object) -> object:
    """A section whose keys are all commented out is null in YAML: it means its defaults."""
    return {} if value is None else value


def _classes(value: object) -> object:
    if value == {}:
        raise _WantedError("at least one class", "remove the key for the default class; replicas: 0 is allowed")
    return {DEFAULT_CLASS: {}} if value is None else value


@cache
def _schema() -> tuple[Callable[[object], Cluster], dict[str, tuple[str, ...]]]:
    """What turns plain data into a Cluster (raising pydantic's ValidationError), and the keys of each section."""
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

    class Section(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    class ClassKeys(Section):
        replicas: Annotated[int, BeforeValidator(_whole(0, 200))] = ExecutorClass.replicas
        cpus: Annotated[int | None, BeforeValidator(_whole(1, 1024, auto=True))] = None
        memory_mib: Annotated[int | None, BeforeValidator(lambda v: _size_mib(v, auto=True))] = Field(
            default=None, alias="memory"
        )

    class PortsKeys(Section):
        central_manager: Annotated[int, BeforeValidator(_port)] = Ports.central_manager
        access_point: Annotated[int, BeforeValidator(_port)] = Ports.access_point

    class VolumeKeys(Section):
        source: Annotated[str, BeforeValidator(_source)]
        target: Annotated[str, BeforeValidator(_own_path(_SHARED_BY_ALL))]
        read_only: Annotated[bool, BeforeValidator(_flag)] = Volume.read_only

    class JobsKeys(Section):
        allow_host_network: Annotated[bool, BeforeValidator(_flag)] = JobPolicy.allow_host_network
        volumes: Annotated[list[VolumeKeys], BeforeValidator(lambda v: [] if v is None else v)] = []  # noqa: RUF012
        pids_limit: Annotated[int, BeforeValidator(_whole(1, 4194304))] = JobPolicy.pids_limit  # Linux' PID_MAX_LIMIT
        default_memory_mib: Annotated[int, BeforeValidator(_size_mib)] = Field(
            default=JobPolicy.default_memory_mib, alias="default_memory"
        )

    class ImageKeys(Section):
        name: Annotated[str | None, BeforeValidator(_image_name)] = None
        base: Annotated[str | None, BeforeValidator(_image_name)] = None

    class FileKeys(Section):
        version: Annotated[int, BeforeValidator(_version)] = 1
        name: Annotated[str, BeforeValidator(_name)] = Cluster.name
        networking: Annotated[Literal["auto", "vip", "dnsrr"], BeforeValidator(_one_of("auto", "vip", "dnsrr"))] = (
            Cluster.networking
        )
        subnet: Annotated[str, BeforeValidator(_subnet)] = Cluster.subnet
        address: Annotated[str | None, BeforeValidator(_address)] = None
        ports: Annotated[PortsKeys, BeforeValidator(_or_empty)] = PortsKeys()
        executors: Annotated[
            dict[Annotated[str, BeforeValidator(_class_name)], Annotated[ClassKeys, BeforeValidator(_or_empty)]],
            BeforeValidator(_classes),
        ] = {DEFAULT_CLASS: ClassKeys()}  # noqa: RUF012
        jobs: Annotated[JobsKeys, BeforeValidator(_or_empty)] = JobsKeys()
        image: Annotated[ImageKeys, BeforeValidator(_or_empty)] = ImageKeys()
        drain_timeout_s: Annotated[int, BeforeValidator(_duration_s)] = Field(
            default=Cluster.drain_timeout_s, alias="drain_timeout"
        )
        execute_dir: Annotated[str, BeforeValidator(_own_path(_SHARED_ON_HOST))] = Cluster.execute_dir

    def cluster(data: object) -> Cluster:
        keys = FileKeys.model_validate(data).model_dump(exclude={"version"})
        volumes = tuple(Volume(**volume) for volume in keys["jobs"].pop("volumes"))
        keys["executors"] = tuple(ExecutorClass(name, **c) for name, c in keys["executors"].items())
        keys["jobs"] = JobPolicy(volumes=volumes, **keys["jobs"])
        keys["ports"], keys["image"] = Ports(**keys["ports"]), Image(**keys["image"])
        return Cluster(**keys)

    sections: dict[str, type[BaseModel]] = {
        "": FileKeys,
        "executors: NAME": ClassKeys,
        "ports": PortsKeys,
        "jobs": JobsKeys,
        "jobs: volumes": VolumeKeys,
        "image": ImageKeys,
    }
    return cluster, {
        name: tuple(info.alias or key for key, info in model.model_fields.items()) for name, model in sections.items()
    }


def _section_of(loc: _Loc) -> str:
    """The name in `_schema` of the section that holds the key at `loc`."""
    if loc[0] == "executors" and len(loc) > 2:
        return "executors: NAME"
    if loc[:2] == ("jobs", "volumes") and len(loc) > 2:
        return "jobs: volumes"
    return str(loc[0]) if len(loc) > 1 else ""


def _unknown_key_hint(loc: _Loc, sections: dict[str, tuple[str, ...]]) -> str:
    key, here = str(loc[-1]), sections[_section_of(loc)]
    if close := difflib.get_close_matches(key.lower().replace("-", "_"), here, n=1):
        return f"did you mean {close[0]}?"
    if homes := [section or "the top level" for section, keys in sections.items() if key in keys]:
        return f"{key} belongs under {' or '.join(homes)}"
    return f"known keys here: {', '.join(here)}"


def _check_fields(data: dict[str, object], tree: _Tree) -> Cluster | None:
    """The cluster, or None after all wrong fields have been added to the tree's problems."""
    from pydantic import ValidationError

    build, sections = _schema()
    try:
        return build(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            loc: _Loc = detail["loc"]
            about_key = loc[-1:] == ("[key]",)
            loc = loc[:-1] if about_key else loc
            about_key = about_key or detail["type"] == "extra_forbidden"
            if tree.is_bad(loc[:-1] if about_key else loc):
                continue
            seen = str(loc[-1]) if about_key else tree.shown.get(loc, "nothing")
            cause = detail.get("ctx", {}).get("error")
            if isinstance(cause, _WantedError):
                tree.add(loc, f"wanted {cause}, saw {seen}", cause.hint, at_key=about_key)
            elif detail["type"] == "extra_forbidden":
                tree.add(loc, "unknown key", _unknown_key_hint(loc, sections), at_key=True)
            elif detail["type"] == "missing":
                tree.add(loc, "this key is missing")
            elif detail["type"] in ("model_type", "dict_type"):
                misplaced = len(loc) == 2 and loc[-1] in sections["executors: NAME"]
                hint = f"name the class first, as in {DEFAULT_CLASS}: {{{loc[-1]}: {seen}}}" if misplaced else ""
                tree.add(loc, f"wanted keys with values, saw {seen}", hint)
            elif detail["type"] == "list_type":
                tree.add(loc, f"wanted a list, saw {seen}", "begin each entry with '- '")
            else:
                tree.add(loc, f"{detail['msg']}, saw {seen}")
    return None


# ---- conflicts between fields ----------------------------------------------------------------------------------


def _check_conflicts(tree: _Tree) -> None:
    """Adds what is wrong between fields that are right by themselves; fields that are wrong already are left out."""
    good = {loc: value for loc, value in tree.scalars.items() if value is not None and not tree.is_bad(loc)}

    def get(loc: _Loc, default: object) -> Any:
        return None if tree.is_bad(loc) else good.get(loc, default)

    defaults = Cluster()
    ports = {key: get(("ports", key), getattr(defaults.ports, key)) for key in ("central_manager", "access_point")}
    if ports["central_manager"] is not None and ports["central_manager"] == ports["access_point"]:
        given = "access_point" if ("ports", "access_point") in good else "central_manager"
        other = "central_manager" if given == "access_point" else "access_point"
        tree.add(("ports", given), f"wanted two different ports, saw {ports[given]} for {other} too")

    subnet, address = get(("subnet",), defaults.subnet), get(("address",), None)
    if subnet and address and ipaddress.IPv4Address(address) in ipaddress.IPv4Network(subnet):
        tree.add(("address",), f"wanted an address outside the overlay's subnet {subnet}, saw {address}")

    execute_dir = get(("execute_dir",), defaults.execute_dir)
    targets: dict[object, _Loc] = {}
    for loc, value in good.items():
        if loc[:2] != ("jobs", "volumes") or loc[-1] not in ("source", "target"):
            continue
        if execute_dir and (_inside(str(value), execute_dir) or _inside(execute_dir, str(value))):
            tree.add(loc, f"wanted a path apart from execute_dir {execute_dir}, saw {value}")
        elif loc[-1] == "target" and (first := targets.setdefault(value, loc)) != loc:
            tree.add(loc, f"wanted a target of its own, saw {value}, as on line {tree.places[first][0]}")

    default_memory = get(("jobs", "default_memory"), _size_text(defaults.jobs.default_memory_mib))
    for loc, value in good.items():
        if loc[0] != "executors" or value == AUTO:
            continue
        if loc[-1] == "cpus":
            replicas = get((*loc[:-1], "replicas"), ExecutorClass.replicas)
            if replicas is not None and replicas * value > MAX_CLASS_CPUS:
                tree.add(loc, f"wanted at most {MAX_CLASS_CPUS} CPUs in a class, saw {replicas} replicas of {value}")
        if loc[-1] == "memory" and default_memory:
            job_mib, class_mib = _size_mib(default_memory), _size_mib(value)
            if job_mib and class_mib and class_mib < job_mib:
                message = f"wanted at least jobs.default_memory ({default_memory}), saw {value}"
                tree.add(loc, message, "a job that names no memory would never start on this class")
