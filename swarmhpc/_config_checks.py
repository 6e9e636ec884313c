"""What single fields of the cluster file may hold.

Each check takes what YAML gave and returns the field's value, or raises `WantedError`.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, Final

from swarmhpc.units import format_mib, mib, parse_duration_s, parse_size_bytes

AUTO: Final = "auto"
DEFAULT_CLASS: Final = "executors"
RESERVED_CLASS_NAMES: Final = ("central-manager", "access-point", "janitor", "autoscaler")
DEFAULT_REPLICAS: Final = 2
MAX_REPLICAS: Final = 200
MAX_CLASS_CPUS: Final = 16384  # replicas × cpus of one class; a guard against slips, not a measured limit


class WantedError(ValueError):
    """What a field wanted; what was seen is added by the caller, who knows how it was written."""

    def __init__(self, wanted: str, hint: str = "") -> None:
        super().__init__(wanted)
        self.hint = hint


Check = Callable[[object], Any]
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
# HTCondor's own resources of a slot, and Swarm's name for GPUs.
_OWN_RESOURCES: Final = ("cpus", "disk", "gpu", "gpus", "memory", "swap")
_RESOURCE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
# Directories that hold others' things: something inside is fine, the directory itself is not.
SHARED_BY_ALL: Final = ("/tmp", "/var", "/var/cache", "/var/lib", "/var/log", "/var/tmp")
SHARED_ON_HOST: Final = (*SHARED_BY_ALL, "/home", "/media", "/mnt", "/opt", "/srv", "/usr/local")
# Whoever can reach these rules the machine (the engine's socket is in /run), also from above, as in `source: /var`.
_NEVER_SOURCES: Final = ("/dev", "/proc", "/run", "/sys", "/var/run", "/var/lib/docker")


def inside(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or in it."""
    return PurePosixPath(path).is_relative_to(folder)


def overlap(one: str, other: str) -> bool:
    """Whether one of two folders is the other or in it."""
    return inside(one, other) or inside(other, one)


def whole(low: int, high: int, *, auto: bool = False) -> Check:
    """A whole number from `low` to `high`; `auto`: also that word, which gives None."""

    def check(value: object) -> int | None:
        if auto and value == AUTO:
            return None
        if type(value) is int and low <= value <= high:
            return value
        hint = f"write {value}, without quotes" if isinstance(value, str) and value.isdecimal() else ""
        raise WantedError(f"{'auto or ' if auto else ''}a whole number from {low} to {high}", hint)

    return check


def or_none(check: Check) -> Check:
    """What `check` takes, or nothing said."""
    return lambda value: None if value is None else check(value)


def resource_name(value: object) -> str:
    """The name of a resource that is counted, one that HTCondor does not know by itself."""
    if not isinstance(value, str) or not _RESOURCE.fullmatch(value):
        raise WantedError("a resource's name: at most 64 letters, digits and _ that begin with a letter")
    if value.lower() in _OWN_RESOURCES:
        hint = "write gpus: 1 beside resources" if value.lower().startswith("gpu") else ""
        raise WantedError("another name: HTCondor or Swarm has a resource of this one", hint)
    return value


def port(value: object) -> int:
    """A TCP port that is not one of the Swarm's own."""
    number: int = whole(1, 65535)(value)
    if number in _SWARM_PORTS:
        raise WantedError(f"another port than that of {_SWARM_PORTS[number]}")
    return number


def flag(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise WantedError("true or false")
    return value


def one_of(*words: str) -> Check:
    """One of `words`."""

    def check(value: object) -> object:
        if value in words:
            return value
        close = difflib.get_close_matches(str(value), words, n=1)
        raise WantedError(f"one of {', '.join(words)}", f"did you mean {close[0]}?" if close else "")

    return check


def version(value: object) -> object:
    """The version of the file's shape."""
    if type(value) is not int or value != 1:
        raise WantedError("1, the only version of this file so far")
    return value


def name(value: object) -> str:
    """A name that can be that of a stack, a service, a host and a domain."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    hint = "write it in quotes if it is meant as a name" if isinstance(value, bool) else ""
    raise WantedError("a name of at most 31 letters a-z, digits and inner hyphens that begins with a letter", hint)


def class_name(value: object) -> str:
    """A name that is none of the pool's own services'."""
    wanted = name(value)
    if wanted in RESERVED_CLASS_NAMES:
        raise WantedError("another class name: the pool's own service is called so", f"for instance {wanted}-jobs")
    return wanted


def size_mib(value: object, *, auto: bool = False) -> int | None:
    """A size in MiB; `auto`: also that word, which gives None."""
    if auto and value == AUTO:
        return None
    wanted = f"{'auto or ' if auto else ''}a size with its unit, such as 512MiB or 4GiB"
    text = str(value).strip()
    if type(value) is int or re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise WantedError(wanted, f"write {text}MiB or {text}GiB, whichever is meant")
    try:
        size = mib(parse_size_bytes(value, plain_unit_bytes=1))  # type: ignore[arg-type]  # it checks the type
    except ValueError as error:
        guess = re.match(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt])", text, re.ASCII | re.IGNORECASE)
        raise WantedError(wanted, f"write {guess[1]}{guess[2].upper()}iB" if guess else "") from error
    if not _MIN_MEMORY_MIB <= size <= _MAX_MEMORY_MIB:
        raise WantedError(f"a size from {_MIN_MEMORY_MIB}MiB to {size_text(_MAX_MEMORY_MIB)}")
    return size


def duration_s(value: object) -> int:
    """A duration in seconds."""
    try:
        seconds = parse_duration_s(value)  # type: ignore[arg-type]  # it checks the type
    except ValueError as error:
        raise WantedError("a duration such as 90s, 10m, 2h or 1d") from error
    if not 1 <= seconds <= 365 * 86400:
        raise WantedError("a duration from 1s to 365d")
    return seconds


def subnet(value: object) -> str:
    """A private IPv4 subnet that Docker does not use already."""
    try:
        network = ipaddress.IPv4Network(value if isinstance(value, str) else "", strict=False)
    except ValueError as error:
        raise WantedError("a private IPv4 subnet such as 10.73.0.0/16") from error
    if not any(network.subnet_of(block) for block in _PRIVATE):
        raise WantedError("a subnet inside 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")
    if not 16 <= network.prefixlen <= 24:
        raise WantedError("a subnet from /16 (65,534 addresses) to /24 (254 addresses)")
    if str(network.network_address) != str(value).partition("/")[0]:
        raise WantedError("a subnet that begins at its first address", f"write {network}")
    for taken, owner in _TAKEN_SUBNETS.items():
        if network.overlaps(ipaddress.IPv4Network(taken)):
            raise WantedError(f"a subnet that does not overlap {taken} ({owner})", "for instance 10.73.0.0/16")
    return str(network)


def address(value: object) -> str | None:
    """An IPv4 address that one machine can have; None: not said."""
    if value is None:
        return None
    try:
        ip = ipaddress.IPv4Address(value if isinstance(value, str) else "")
    except ValueError as error:
        raise WantedError("the IPv4 address of this machine, such as 192.168.1.10") from error
    if ip.is_unspecified or ip.is_multicast or ip.is_reserved:
        raise WantedError("an IPv4 address that one machine can have")
    return str(ip)


def image_name(value: object) -> str | None:
    """The reference of an image; None: not said."""
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > 255 or not _IMAGE.fullmatch(value):
        raise WantedError("an image such as registry.example.org/pool:1 or debian:forky-slim")
    return value


def path(value: object) -> str:
    """An absolute path."""
    if not isinstance(value, str) or len(value) > 255 or not _PATH.fullmatch(value) or re.search(r"/\.\.?(/|$)", value):
        raise WantedError(
            "an absolute path of at most 255 letters, digits and . _ + @ - / without '..' and without / at its end"
        )
    return value


def own_path(shared: tuple[str, ...]) -> Check:
    """A path that hides or fills nothing of the system's: a mount point, or the executors' scratch directory."""

    def check(value: object) -> str:
        own = path(value)
        system = own.split("/")[1] in _SYSTEM and not inside(own, "/usr/local")
        if system or own in shared or any(inside(own, never) for never in _NEVER_SOURCES):
            raise WantedError("a directory of its own, outside the system's")
        return own

    return check


def source(value: object) -> str:
    """A directory that a job may see: nothing that would let it rule the machine."""
    seen = path(value)
    for never in _NEVER_SOURCES:
        if overlap(seen, never):
            raise WantedError(f"a directory apart from {never}, through which a job could rule the machine")
    return seen


def size_text(size_mib: int) -> str:
    """``512MiB``, ``1.5GiB``."""
    return format_mib(size_mib).replace(" ", "")


def or_empty(value: object) -> object:
    """A section whose keys are all commented out is null in YAML: it means its defaults."""
    return {} if value is None else value


def classes(value: object) -> object:
    """The executor classes; nothing said means one with its defaults."""
    if value == {}:
        raise WantedError("at least one class", "remove the key for the default class; replicas: 0 is allowed")
    return {DEFAULT_CLASS: {}} if value is None else value
