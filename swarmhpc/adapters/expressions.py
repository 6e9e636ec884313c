"""ClassAd expressions of a job against the ads of slots, as the negotiator would evaluate them.

Traps of the bindings (25.14.1) that shape this file:
- An attribute without a scope is looked for in the slot as well ("old" ClassAd semantics, src/classad/matchClassad.cpp)
  only after `import htcondor2`, which reads HTCondor's configuration; with classad2 alone it stays undefined.
- `ExprTree(text)` reads strings in the new syntax, where a backslash escapes. Submit descriptions have the old one,
  where it stands for itself except before a quote (src/classad/lexer.cpp, tokenizeStringOld). `parseOne(…, Old)` reads
  that, but stops without a word where an expression ends: hence the parentheses around each text.
- A chain of some 100,000 operators ends the process (stack overflow): hence LONGEST.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

LONGEST: Final = 32_768
"""Characters of the longest expression that is evaluated."""
_MOST_UNFOLDED: Final = 1 << 20
"""Characters of an attribute of the job with every attribute it refers to in its place: evaluation takes that long."""

_LONGEST_RECORD: Final = 200
"""Characters of an expression that may hold a record: one whose attributes use each other doubles at each of them."""

Outcome = Literal["true", "false", "undefined", "error"]

OF_IMAGE: Final[Mapping[str, Any]] = {
    "MyType": "Machine", "TargetType": "Job", "Arch": "X86_64", "OpSys": "LINUX", "OpSysName": "Debian",
    "HasDocker": True, "HasDockerURL": True, "HasContainer": True, "HasFileTransfer": True, "HasReconnect": True,
    "HasJobDeferral": True, "HasTDP": True, "HasVM": False, "HasTransferInputRemaps": True, "HasIOProxy": True,
    "HasPerFileEncryption": True, "HasSelfCheckpointTransfers": True, "HasStartDaemonAd": True, "HasOsUser": True,
    "HasFileTransferPluginMethods": "data,dav,davs,file,ftp,http,https,s3,gs", "Start": True,
    "PartitionableSlot": True, "SlotType": "Partitionable", "State": "Unclaimed", "Activity": "Idle",
    "Requirements": True,
    "CondorVersion": "$CondorVersion: 25.14.1 $",  # Requirements of every job read it (submit_utils.cpp)
}  # fmt: skip
"""What the slots of an executor of our image say of themselves on any machine (seen with 25.14.1)."""

_OF_MACHINE: Final = (
    "utsname*", "microarch", "cpu*", "has_sse*", "has_ssse3", "has_avx*", "detected*", "totalmemory", "totalcpus",
    "hasrotationalscratch", "hasusernamespaces", "dockernetworks", "offlineuniverses", "hasencryptexecutedirectory",
    "cgroupenforced",
)  # fmt: skip
"""Attributes of the machine: nobody knows them of a class without executors. Lower case; `*` at the end stands for any
rest. Properties of GPUs are not among them: our executors advertise no more of a GPU than that it is there
(images/pool/entrypoint, MACHINE_RESOURCE_GPUs)."""
_OF_RELEASE: Final = (
    *("opsysver", "opsysandver", "opsysmajorver", "opsyslongname", "opsysshortname", "opsyslegacy"),
    *("condorplatform", "condorversion"),
)
"""Attributes of the image's release: any executor of the pool tells them for all."""


@dataclass(frozen=True)
class Evaluated:
    """One expression; `parses` false: it is none, or too large to evaluate. `outcomes`: one a slot.

    `references`: names it uses itself, with `TARGET.` as written. `reached`: all names that these lead to, through
    attributes of job and slots. `unfit`: those of the job's attributes among them that could not be evaluated (too
    large, or referring to each other in a circle).
    """

    parses: bool
    outcomes: tuple[Outcome, ...] = ()
    references: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()


class ClassAds:
    """The ClassAd language with HTCondor's semantics. Slots are texts of whole ads, as the bindings print them."""

    def parses(self, text: str) -> bool:
        """Whether condor_submit would take the text for one expression."""
        return _parsed(text) is not None

    def evaluate(self, texts: Sequence[str], job: Mapping[str, str], slots: Sequence[str]) -> list[Evaluated]:
        """Each text as Requirements of a job that has these attributes (name -> expression in the submit
        language's syntax), against each slot as it is when nothing runs on it."""
        unfit = _unfit(job)
        mine = _ad()
        for name, text in job.items():
            tree = _parsed(text) if name.lower() not in unfit else None
            if tree is not None:
                mine[name] = tree
        ads = [_empty_slot(s) for s in slots]
        return [_evaluated(t, mine, ads, unfit) for t in texts]

    def values(self, name: str, slots: Sequence[str]) -> tuple[str | None, ...]:
        """What each slot says of an attribute, as an expression; None: it has no such attribute."""
        ads = [_empty_slot(s) for s in slots]
        return tuple(_shown(ad, name) if name in ad else None for ad in ads)


def _shown(ad: Any, name: str) -> str:
    value = ad.eval(name)
    return repr(value) if type(value) is float else str(ad.lookup(name))  # not 1.000000000000000E+00


def ad_text(values: Mapping[str, Any]) -> str:
    """An ad of plain values as a slot's text."""
    ad = _ad()
    for name, value in values.items():
        ad[name] = value
    return str(ad)


def model_slot(
    like: str | None, *, pool: str, class_name: str, cpus: int, memory_mib: int, counted: Mapping[str, int]
) -> tuple[str, tuple[str, ...]]:
    """The slot that a class without executors would have, and names of what is not known of it (SlotAd.unknown).

    `like`: the slot of another class, if the pool has any. `counted`: GPUs and others by name.
    """
    ad = _new(like) if like is not None else _new(ad_text({**OF_IMAGE, "UidDomain": pool}))
    if "gpus" not in {name.lower() for name in counted}:
        for name in [n for n in ad if "gpus" in n.lower()]:
            del ad[name]
    machine = f"{class_name}-1-000000.{pool}"  # as stacks/pool.yml.j2 names executors
    total = {"Cpus": cpus, "Memory": memory_mib, **counted}
    ours = {"SwarmHpcClass": class_name, "Machine": machine, "FileSystemDomain": machine, "Name": f"slot1@{machine}"}
    for name, value in {**ours, **total, **{f"TotalSlot{n}": v for n, v in total.items()}}.items():
        ad[name] = value
    return str(ad), (*_OF_MACHINE, *(_OF_RELEASE if like is None else ()))


def _language() -> Any:
    """classad2, with the semantics of a pool."""
    os.environ["CONDOR_CONFIG"] = "ONLY_ENV"  # a condor_config on this machine speaks of another pool
    import classad2
    import htcondor2  # noqa: F401  # sets the semantics (top of this file)

    return classad2


def _ad() -> Any:
    return _language().ClassAd()


def _new(text: str) -> Any:
    return _language().ClassAd(text)


@lru_cache(maxsize=4096)
def _empty_slot(text: str) -> Any:
    """A slot's ad with all that its executor has: a partitionable slot shows only what is left."""
    ad = _new(text)
    for name in [n for n in ad if n.lower().startswith("totalslot") and n.lower() not in ("totalslots", "totalslotid")]:
        ad[name[len("TotalSlot") :]] = ad.lookup(name)
    return ad


def _parsed(text: str) -> Any | None:
    """The expression of one text in the syntax of submit descriptions; None: it is none."""
    if len(text) > LONGEST:
        return None
    language = _language()
    line = re.sub(r"[\r\n\0]", " ", text)
    try:
        ad = language.parseOne(f"E = ({line})\n", language.ParserType.Old)
    except (language.ClassAdException, ValueError):
        return None
    return ad.lookup("E") if "E" in ad else None


def _evaluated(text: str, job: Any, slots: Sequence[Any], unfit: frozenset[str]) -> Evaluated:
    tree = _parsed(text)
    if tree is None or _is_large_record(text):
        return Evaluated(parses=False)
    references = tuple(sorted(_references(tree), key=lambda r: text.lower().find(plain_name(r).lower())))
    reached = _reached(references, job, slots)
    return Evaluated(
        parses=True,
        outcomes=tuple(_outcome(tree, job, slot) for slot in slots),
        references=references,
        reached=reached,
        unfit=tuple(name for name in reached if name.lower() in unfit),
    )


def _outcome(tree: Any, job: Any, slot: Any) -> Outcome:
    language = _language()
    try:
        value = tree.eval(job, slot)
    except language.ClassAdException:
        return "error"
    if isinstance(value, language.Value):  # an IntEnum: before the numbers
        return "undefined" if value == language.Value.Undefined else "error"
    if isinstance(value, bool | int | float):
        return "true" if value else "false"
    return "error"  # a text or a list is neither true nor false


def _references(tree: Any) -> tuple[str, ...]:
    """Names of attributes, scope `MY.` already gone. None of an expression that is too deep to evaluate."""
    try:
        return tuple(dict.fromkeys(name for name in _ad().externalRefs(tree) if name))
    except ValueError:
        return ()


def plain_name(reference: str) -> str:
    """`Arch` of `TARGET.Arch`."""
    head, dot, rest = reference.partition(".")
    return (rest if dot and head.lower() in ("target", "other", "my") else reference).partition(".")[0]


def _reached(references: Iterable[str], job: Any, slots: Sequence[Any]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    waiting = [plain_name(r) for r in references][::-1]
    while waiting:
        name = waiting.pop()
        if name.lower() in found:
            continue
        found[name.lower()] = name
        for ad in (job, next((s for s in slots if name in s), job)):
            if name in ad:
                waiting.extend(plain_name(r) for r in _references(ad.lookup(name)))
    return tuple(found.values())


_NAME = re.compile(r"[A-Za-z_]\w*")


def _unfit(job: Mapping[str, str]) -> frozenset[str]:
    """Attributes, in lower case, that would take for ever to evaluate: HTCondor evaluates an attribute again at each
    reference, so that thirty small ones can hold it up for hours."""
    texts = {name.lower(): text for name, text in job.items()}
    # Names inside strings count too: eval("A").
    uses = {name: [w for w in map(str.lower, _NAME.findall(t[:LONGEST])) if w in texts] for name, t in texts.items()}
    size: dict[str, int] = {}
    for start in texts:
        open_: list[str] = [start]
        path: set[str] = set()
        while open_:
            name = open_[-1]
            if name in size:
                open_.pop()
            elif name in path:  # all that it uses is known, or leads back to it
                parts = [size.get(u, _MOST_UNFOLDED + 1) for u in uses[name]]
                size[name] = min(len(texts[name]) + sum(parts), _MOST_UNFOLDED + 1)
                path.discard(name)
                open_.pop()
            else:
                path.add(name)
                open_.extend(u for u in dict.fromkeys(uses[name]) if u not in size and u not in path)
    large = {n for n, t in texts.items() if len(t) > LONGEST or _is_large_record(t)}
    return frozenset(n for n, s in size.items() if s > _MOST_UNFOLDED or n in large)


def _is_large_record(text: str) -> bool:
    return "[" in text and len(text) > _LONGEST_RECORD
