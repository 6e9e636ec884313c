"""What a job asks for beside what the pool has: quantities, classes and docker image names. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from swarmhpc.jobs.findings import short
from swarmhpc.jobs.requirements import ClassAds, SlotAd
from swarmhpc.units import format_mib, mib, parse_size_bytes

_KIB: Final = 1024
_MIB: Final = 1024 * 1024
# Docker's own grammar: github.com/distribution/reference, reference.go.
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*+"
_IMAGE: Final = re.compile(
    rf"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{{1,5}})?/)?{_PATH_PART}(?:/{_PATH_PART})*+"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_LONGEST_IMAGE: Final = 512  # characters; docker's limit for a name is 255, then come tag and digest
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_EXPRESSION: Final = re.compile(r"[A-Za-z_]\w*+\s*+\(|[*/<>?]|\b(MY|TARGET)\.|\$\$|[\w)]\s++[+-]\s++[\w(]")


@dataclass(frozen=True)
class ClassSize:
    """The size of one executor of a class. `disk_kib` None: not known. `others`: custom resources, lower case."""

    name: str
    cpus: int
    memory_mib: int
    disk_kib: int | None = None
    gpus: int = 0
    others: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What the pool can run, and what a job gets that does not say.

    With `slots` and `classads` requirements are evaluated; `adapt`: what can never match is dropped from them.
    """

    classes: tuple[ClassSize, ...]
    allow_host_network: bool = False
    default_cpus: int = 1
    default_memory_mib: int = 128
    default_disk_kib: int | None = None  # None: HTCondor's own rule, the size of the inputs
    slots: tuple[SlotAd, ...] = field(default=(), repr=False)
    classads: ClassAds | None = field(default=None, repr=False)
    adapt: bool = False

    @property
    def largest_memory_mib(self) -> int:
        """The most memory that an executor of any class has; 0 where no class is known."""
        return max((c.memory_mib for c in self.classes), default=0)


@dataclass(frozen=True)
class Request:
    """How one request command is read and written. `read` gives CPUs, MiB or KiB and raises ValueError."""

    wanted: str
    example: str
    unit: str
    read: Callable[[str], int]
    show: Callable[[int], str]
    size: Callable[[ClassSize], int | None]


def _cpus(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(text)
    return int(text)


# Plain numbers are MiB of memory and KiB of disk: manual, condor_submit, request_memory and request_disk.
REQUESTS: Final[Mapping[str, Request]] = {
    "request_cpus": Request("1 or more", "2", "", _cpus, lambda n: f"{n} CPU{'' if n == 1 else 's'}", lambda c: c.cpus),
    "request_memory": Request(
        "a size such as 512M or 2GB",
        "2GB",
        " MiB",
        lambda t: mib(parse_size_bytes(t, plain_unit_bytes=_MIB)),
        format_mib,
        lambda c: c.memory_mib,
    ),
    "request_disk": Request(
        "a size such as 500M or 2GB",
        "2GB",
        " KiB",
        lambda t: -(-parse_size_bytes(t, plain_unit_bytes=_KIB) // _KIB),
        lambda n: format_mib(-(-n // _KIB)),
        lambda c: c.disk_kib,
    ),
}


def is_expression(text: str) -> bool:
    """True for what HTCondor has to evaluate, such as ``MY.Size * 2``; a stray ``GB`` is no expression."""
    return _EXPRESSION.search(text) is not None and "#" not in text


def too_large(asked: Mapping[str, int], classes: tuple[ClassSize, ...]) -> list[tuple[str, str, str]]:
    """(command, message, hint) for each part of `asked` that no executor can ever give; empty when one fits."""

    def holds(size: ClassSize, name: str) -> bool:
        limit = REQUESTS[name].size(size)
        return limit is None or asked[name] <= limit

    if not classes or any(all(holds(c, n) for n in asked) for c in classes):
        return []
    problems = []
    alone = [name for name in asked if not any(holds(c, name) for c in classes)]
    for name in alone or ["request_memory" if "request_memory" in asked else next(iter(asked))]:
        names = [name] if alone else list(asked)
        largest = max(classes, key=lambda c: REQUESTS[name].size(c) or 0)
        wants = ", ".join(REQUESTS[n].show(asked[n]) for n in names)
        has = ", ".join(REQUESTS[n].show(REQUESTS[n].size(largest) or 0) for n in names)
        message = f"the job asks for {wants}; no executor has that, the largest class {largest.name} has {has}"
        hint = f"ask for less, or give class {largest.name} more in swarmhpc.yaml and run swarmhpc up"
        problems.append((name, message, hint))
    return problems


def image_problem(name: str) -> tuple[str, str, str] | None:
    """(code, message, hint) when `name`, without ``docker://``, is no docker image; else None."""
    if re.search(r"\.(sif|simg|img|sqfs)$", name) or name.startswith(("/", "./", "../")) or name.endswith("/"):
        message = f"{short(name)} is an Apptainer image or an unpacked one; executors run docker images only"
        return "image-form", message, "name the docker image that it was made from: docker_image = name:tag"
    if scheme := _SCHEME.match(name):
        message = f"images from {short(scheme[0])[1:-1]} cannot be run here; executors run docker images only"
        return "image-form", message, "push it to a docker registry and write docker_image = registry/name:tag"
    if len(name) > _LONGEST_IMAGE or not _IMAGE.fullmatch(name):
        lower = len(name) <= _LONGEST_IMAGE and _IMAGE.fullmatch(name.lower())
        return (
            "image-name",
            f"{short(name)} is no name of a docker image",
            ("names are lower case" if lower else "write it like debian:12"),
        )
    return None
