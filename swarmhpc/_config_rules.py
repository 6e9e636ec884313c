"""What the cluster file may say: checks of single fields, then of fields against each other.

Takes and gives plain data, so that config can import this module. pydantic is imported by the function that needs it.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable
from functools import cache
from pathlib import PurePosixPath
from typing import Annotated, Any, Final

from swarmhpc._config_yaml import Loc, Tree
from swarmhpc.units import format_mib, mib, parse_duration_s, parse_size_bytes

AUTO: Final = "auto"
DEFAULT_CLASS: Final = "executors"
RESERVED_CLASS_NAMES: Final = ("central-manager", "access-point", "janitor")
MAX_CLASS_CPUS: Final = 16384  # replicas × cpus of one class; a guard against slips, not a measured limit


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
        if value in words:
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
        raise _WantedError(f"a size from {_MIN_MEMORY_MIB}MiB to {size_text(_MAX_MEMORY_MIB)}")
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
            raise _WantedError(f"a subnet that does not overlap {taken} ({owner})", "for instance 10.73.0.0/16")
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


def size_text(size_mib: int) -> str:
    """``512MiB``, ``1.5GiB``."""
    return format_mib(size_mib).replace(" ", "")


def _or_empty(value: object) -> object:
    """A section whose keys are all commented out is null in YAML: it means its defaults."""
    return {} if value is None else value


def _classes(value: object) -> object:
    if value == {}:
        raise _WantedError("at least one class", "remove the key for the default class; replicas: 0 is allowed")
    return {DEFAULT_CLASS: {}} if value is None else value


@cache
def _schema() -> tuple[Callable[[object], dict[str, Any]], dict[str, tuple[str, ...]]]:
    """What checks plain data (raising pydantic's ValidationError), and the keys of each section.

    The fields are called as in config's dataclasses, which have the defaults: a key that the file leaves out is left
    out of the result too.
    """
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

    left_out: Any = None  # never seen: only keys that are set are taken

    class Section(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    class ClassKeys(Section):
        replicas: Annotated[int, BeforeValidator(_whole(0, 200))] = left_out
        cpus: Annotated[int | None, BeforeValidator(_whole(1, 1024, auto=True))] = left_out
        memory_mib: Annotated[int | None, BeforeValidator(lambda v: _size_mib(v, auto=True))] = Field(
            default=left_out, alias="memory"
        )

    class PortsKeys(Section):
        central_manager: Annotated[int, BeforeValidator(_port)] = left_out
        access_point: Annotated[int, BeforeValidator(_port)] = left_out

    class VolumeKeys(Section):
        source: Annotated[str, BeforeValidator(_source)]
        target: Annotated[str, BeforeValidator(_own_path(_SHARED_BY_ALL))]
        read_only: Annotated[bool, BeforeValidator(_flag)] = left_out

    class JobsKeys(Section):
        allow_host_network: Annotated[bool, BeforeValidator(_flag)] = left_out
        volumes: Annotated[list[VolumeKeys], BeforeValidator(lambda v: [] if v is None else v)] = left_out
        pids_limit: Annotated[int, BeforeValidator(_whole(1, 4194304))] = left_out  # Linux' PID_MAX_LIMIT
        default_memory_mib: Annotated[int, BeforeValidator(_size_mib)] = Field(default=left_out, alias="default_memory")

    class ImageKeys(Section):
        name: Annotated[str | None, BeforeValidator(_image_name)] = left_out
        base: Annotated[str | None, BeforeValidator(_image_name)] = left_out

    class FileKeys(Section):
        version: Annotated[int, BeforeValidator(_version)] = left_out
        name: Annotated[str, BeforeValidator(_name)] = left_out
        networking: Annotated[str, BeforeValidator(_one_of("auto", "vip", "dnsrr"))] = left_out
        subnet: Annotated[str, BeforeValidator(_subnet)] = left_out
        address: Annotated[str | None, BeforeValidator(_address)] = left_out
        ports: Annotated[PortsKeys, BeforeValidator(_or_empty)] = left_out
        executors: Annotated[
            dict[Annotated[str, BeforeValidator(_class_name)], Annotated[ClassKeys, BeforeValidator(_or_empty)]],
            BeforeValidator(_classes),
        ] = left_out
        jobs: Annotated[JobsKeys, BeforeValidator(_or_empty)] = left_out
        image: Annotated[ImageKeys, BeforeValidator(_or_empty)] = left_out
        drain_timeout_s: Annotated[int, BeforeValidator(_duration_s)] = Field(default=left_out, alias="drain_timeout")
        execute_dir: Annotated[str, BeforeValidator(_own_path(_SHARED_ON_HOST))] = left_out

    def fields(data: object) -> dict[str, Any]:
        return FileKeys.model_validate(data).model_dump(exclude_unset=True, exclude={"version"})

    sections: dict[str, type[BaseModel]] = {
        "": FileKeys,
        "executors: NAME": ClassKeys,
        "ports": PortsKeys,
        "jobs": JobsKeys,
        "jobs: volumes": VolumeKeys,
        "image": ImageKeys,
    }
    return fields, {
        name: tuple(info.alias or key for key, info in model.model_fields.items()) for name, model in sections.items()
    }


def _section_of(loc: Loc) -> str:
    """The name in `_schema` of the section that holds the key at `loc`."""
    if loc[0] == "executors" and len(loc) > 2:
        return "executors: NAME"
    if loc[:2] == ("jobs", "volumes") and len(loc) > 2:
        return "jobs: volumes"
    return str(loc[0]) if len(loc) > 1 else ""


def _unknown_key_hint(loc: Loc, sections: dict[str, tuple[str, ...]]) -> str:
    key, here = str(loc[-1]), sections[_section_of(loc)]
    if close := difflib.get_close_matches(key.lower().replace("-", "_"), here, n=1):
        return f"did you mean {close[0]}?"
    if homes := [section or "the top level" for section, keys in sections.items() if key in keys]:
        return f"{key} belongs under {' or '.join(homes)}"
    return f"known keys here: {', '.join(here)}"


def check_fields(data: dict[str, object], tree: Tree) -> dict[str, Any]:
    """The fields that the file sets, as config's dataclasses call them; all wrong ones go to `tree.problems`."""
    from pydantic import ValidationError

    fields, sections = _schema()
    try:
        return fields(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            loc: Loc = detail["loc"]
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
    return {}


def check_conflicts(tree: Tree, defaults: dict[str, Any]) -> None:
    """Adds what is wrong between fields that are right by themselves; fields that are wrong already are left out.

    `defaults`: a file with every key at its default, as plain data.
    """
    good = {loc: value for loc, value in tree.scalars.items() if value is not None and not tree.is_bad(loc)}

    def get(loc: Loc, default: object) -> Any:
        return None if tree.is_bad(loc) else good.get(loc, default)

    ports = {key: get(("ports", key), default) for key, default in defaults["ports"].items()}
    if ports["central_manager"] is not None and ports["central_manager"] == ports["access_point"]:
        given = "access_point" if ("ports", "access_point") in good else "central_manager"
        other = "central_manager" if given == "access_point" else "access_point"
        tree.add(("ports", given), f"wanted two different ports, saw {ports[given]} for {other} too")

    subnet, address = get(("subnet",), defaults["subnet"]), get(("address",), None)
    if subnet and address and ipaddress.IPv4Address(address) in ipaddress.IPv4Network(subnet):
        tree.add(("address",), f"wanted an address outside the overlay's subnet {subnet}, saw {address}")

    execute_dir = get(("execute_dir",), defaults["execute_dir"])
    targets: dict[object, Loc] = {}
    for loc, value in good.items():
        if loc[:2] != ("jobs", "volumes") or loc[-1] not in ("source", "target"):
            continue
        if execute_dir and (_inside(str(value), execute_dir) or _inside(execute_dir, str(value))):
            tree.add(loc, f"wanted a path apart from execute_dir {execute_dir}, saw {value}")
        elif loc[-1] == "target" and (first := targets.setdefault(value, loc)) != loc:
            tree.add(loc, f"wanted a target of its own, saw {value}, as on line {tree.places[first][0]}")

    default_memory = get(("jobs", "default_memory"), defaults["jobs"]["default_memory"])
    for loc, value in good.items():
        if loc[0] != "executors" or value == AUTO:
            continue
        if loc[-1] == "cpus":
            replicas = get((*loc[:-1], "replicas"), defaults["executors"][DEFAULT_CLASS]["replicas"])
            if replicas is not None and replicas * value > MAX_CLASS_CPUS:
                tree.add(loc, f"wanted at most {MAX_CLASS_CPUS} CPUs in a class, saw {replicas} replicas of {value}")
        if loc[-1] == "memory" and default_memory:
            job_mib, class_mib = _size_mib(default_memory), _size_mib(value)
            if job_mib and class_mib and class_mib < job_mib:
                message = f"wanted at least jobs.default_memory ({default_memory}), saw {value}"
                tree.add(loc, message, "a job that names no memory would never start on this class")
