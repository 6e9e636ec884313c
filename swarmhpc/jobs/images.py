"""One image for all jobs of a submission: names that move are resolved once and replaced by what they name now. Pure.

A name with a digest has a price on the executors. HTCondor 25.14 looks for it in `docker images`, which shows no
digests, so it pulls before every job (src/condor_utils/docker-api.cpp, getImageInfos; docker_proc.cpp, StartJob), and
`docker pull NAME@sha256:…` wants the registry even for an image that is there. An image that was built or loaded on
the executors has no digest at all (engine 20.10): with one it is not found, or a stranger's image of that name is
pulled. So nothing is resolved unasked, but where every job pulls anyway (docker_pull_policy = always).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Final

from swarmhpc.errors import SwarmHpcError
from swarmhpc.jobs.findings import Finding, Place, short
from swarmhpc.jobs.translate import Cluster, JobFiles, Line, Translation

IMAGE: Final = "docker_image"
MAX_NAMES: Final = 20  # different names that are looked up; more are left as they are


@dataclass(frozen=True)
class _Pinned(Cluster):
    """A cluster whose jobs differ in their images, some of which are other ones than its parts say."""

    pins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def rows(self) -> Iterator[tuple[tuple[str, ...], JobFiles]]:
        """As the cluster's, with each name replaced by its pinned one."""
        at = self.varying.index(IMAGE)
        for cells, files in super().rows():
            pin = self.pins.get(cells[at])
            yield (cells if pin is None else (*cells[:at], pin, *cells[at + 1 :])), files


def pinned(
    translation: Translation, resolve: Callable[[str], str], *, asked: bool = True
) -> tuple[Translation, tuple[Finding, ...]]:
    """The translation with each image name that has no digest replaced by NAME:TAG@sha256:…, and what was done.

    `resolve` (a registry's `digest`; raises SwarmHpcError) is called once for each different name. What cannot be
    resolved stays as it is, with a note. `asked` False: only clusters all of whose jobs have
    ``docker_pull_policy = always``. The findings are all of them notes (image-pinned, image-not-pinned).
    """
    wanted: dict[str, Place] = {}
    chosen = [asked or c.common.get("docker_pull_policy", "").lower() == "always" for c in translation.clusters]
    for number, cluster in enumerate(translation.clusters):
        if not chosen[number] or not (names := _names(cluster)):
            continue
        place = _place(translation, number)
        for name in names:
            wanted.setdefault(name, place)
    if len(wanted) > MAX_NAMES:
        message = f"none of {len(wanted)} different images is pinned; up to {MAX_NAMES} are looked up"
        return translation, (Finding(next(iter(wanted.values())), "note", "image-not-pinned", message),)
    pins: dict[str, str] = {}
    findings: list[Finding] = []
    for name, place in wanted.items():
        tagged = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        try:
            pins[name] = f"{tagged}@{resolve(name)}"
        except SwarmHpcError as e:
            message = f"{e.message}; {short(name)[1:-1]} stays, and each executor runs the one it has, or finds"
            findings.append(Finding(place, "note", "image-not-pinned", message, e.hint))
        else:
            findings.append(Finding(place, "note", "image-pinned", f"{name} is {pins[name]} for all jobs"))
    if not pins:
        return translation, tuple(findings)
    clusters = tuple(_with(c, pins) if chosen[n] else c for n, c in enumerate(translation.clusters))
    lines = tuple(_line(line, pins) if chosen[line.cluster] else line for line in translation.lines)
    return replace(translation, clusters=clusters, lines=lines), tuple(findings)


def _names(cluster: Cluster) -> list[str]:
    """The different image names without a digest, in order."""
    if IMAGE in cluster.varying:
        at = cluster.varying.index(IMAGE)
        names = dict.fromkeys(cells[at] for cells, _ in cluster.rows())
    else:
        names = dict.fromkeys([cluster.common.get(IMAGE, "")])
    return [n for n in names if n and "@" not in n]


def _place(translation: Translation, number: int) -> Place:
    """Where the image of a cluster is named."""
    places = (line.place for line in translation.lines if line.cluster == number and line.name == IMAGE)
    return next((p for p in places if p is not None), Place("", 1, 1))


def _with(cluster: Cluster, pins: Mapping[str, str]) -> Cluster:
    if IMAGE in cluster.varying:
        return _Pinned(**{f.name: getattr(cluster, f.name) for f in fields(Cluster)}, pins=pins)
    if cluster.common.get(IMAGE) not in pins:
        return cluster
    return replace(cluster, common={**cluster.common, IMAGE: pins[cluster.common[IMAGE]]})


def _line(line: Line, pins: Mapping[str, str]) -> Line:
    if line.name != IMAGE or line.value not in pins:
        return line
    why = "what the name stands for at this moment"
    return replace(line, value=pins[line.value], why=f"{line.why}; {why}" if line.why else why)
