"""The section `fairness` of the cluster file: its data, the checks of its keys, and its keys against each other."""

import re
from dataclasses import dataclass
from typing import Any, Final

from swarmhpc._config_checks import WantedError
from swarmhpc._config_yaml import Loc, Tree

DEFAULT_PRIORITY_FACTOR: Final = 1000  # HTCondor's own: DEFAULT_PRIO_FACTOR
OWN_LIMIT: Final = "swarmhpc_"
"""How the limits of people begin, as HTCondor calls them; no other limit may."""
_PERSON: Final = re.compile(r"[a-z][a-z0-9._-]{0,30}")  # as cluster/people.py
_GROUP: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")  # a dot would make it a group inside of a group
_LIMIT: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SHARE: Final = re.compile(r"([0-9]{1,3}) ?%")


@dataclass(frozen=True)
class Person:
    """Somebody for whom not all is as for the others. None: no limit.

    `priority_factor`: of two people who both wait, one with half the factor gets twice as many executors.
    `max_jobs`, `max_cpus`: of what runs at a time.
    """

    name: str
    priority_factor: int = DEFAULT_PRIORITY_FACTOR
    group: str | None = None
    max_jobs: int | None = None
    max_cpus: int | None = None

    @property
    def account(self) -> str:
        """As whom HTCondor's negotiator knows them, without the pool's name: AccountingGroup."""
        return f"{self.group}.{self.name}" if self.group else self.name

    @property
    def jobs_limit(self) -> str:
        """The concurrency limit that counts their jobs."""
        return f"{OWN_LIMIT}jobs_{_word(self.name)}"

    @property
    def cpus_limit(self) -> str:
        """The concurrency limit that counts their CPUs."""
        return f"{OWN_LIMIT}cpus_{_word(self.name)}"


@dataclass(frozen=True)
class Group:
    """People who have a part of the pool together: `share_percent` of its CPUs, or so many `cpus`. One is set.

    `surplus`: whether they may have more while nobody else wants it.
    """

    name: str
    share_percent: int | None = None
    cpus: int | None = None
    surplus: bool = True


@dataclass(frozen=True)
class Fairness:
    """Who may have how much of the pool. All sorted by name. `limits`: jobs of a kind that may run at a time."""

    people: tuple[Person, ...] = ()
    groups: tuple[Group, ...] = ()
    limits: tuple[tuple[str, int], ...] = ()

    @property
    def counted(self) -> bool:
        """Whether jobs that run are counted against something that may not be exceeded."""
        limited = any(p.max_jobs or p.max_cpus for p in self.people)
        return bool(self.limits) or limited or any(not g.surplus for g in self.groups)


def _word(name: str) -> str:
    """A person's name as letters, digits and _ alone; another one for another person."""
    return re.sub("[^a-z0-9]", lambda m: f"_{ord(m[0]):02x}_", name)


def person_name(value: object) -> str:
    """A name as `swarmhpc token create` takes it."""
    if not isinstance(value, str) or not _PERSON.fullmatch(value):
        raise WantedError("a person's name: at most 31 of a-z, digits and . _ - that begin with a letter")
    return value


def group_name(value: object) -> str:
    """A name that HTCondor can have for an accounting group."""
    if not isinstance(value, str) or not _GROUP.fullmatch(value):
        raise WantedError("a group's name: at most 31 of a-z, digits and _ that begin with a letter")
    return value


def limit_name(value: object) -> str:
    """A name that HTCondor can have for a concurrency limit."""
    if not isinstance(value, str) or not _LIMIT.fullmatch(value):
        raise WantedError("a limit's name: at most 63 of a-z, digits and _ that begin with a letter")
    if value.startswith(OWN_LIMIT) or value in ("detected_cpus", "arc_gahp_command"):
        raise WantedError("another name: HTCondor or swarmhpc has a limit of this one")
    return value


def share(value: object) -> int:
    """Percent of the pool's CPUs."""
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match[1]) <= 100:
        hint = f"write {value}%" if isinstance(value, int) and not isinstance(value, bool) else ""
        raise WantedError("a share from 1% to 100%", hint)
    return int(match[1])


def from_fields(fields: dict[str, Any]) -> Fairness:
    """The section from checked fields."""
    return Fairness(
        tuple(Person(name, **keys) for name, keys in sorted(fields.get("people", {}).items())),
        tuple(Group(name, **keys) for name, keys in sorted(fields.get("groups", {}).items())),
        tuple(sorted(fields.get("limits", {}).items())),
    )


def from_mapping(plain: dict[str, Any]) -> Fairness:
    """The section from what `to_mapping` gave. Raises AttributeError, KeyError, TypeError or ValueError."""
    groups = {
        name: {"cpus": keys.get("cpus"), "share_percent": share(keys["share"]) if "share" in keys else None}
        | {"surplus": keys["surplus"]}
        for name, keys in plain["groups"].items()
    }
    return from_fields({**plain, "groups": groups})


def to_mapping(fairness: Fairness) -> dict[str, Any]:
    """Plain data in the shape of the file."""
    return {
        "people": {
            p.name: {
                "priority_factor": p.priority_factor,
                "group": p.group,
                "max_jobs": p.max_jobs,
                "max_cpus": p.max_cpus,
            }
            for p in fairness.people
        },
        "groups": {
            g.name: {
                **({"cpus": g.cpus} if g.share_percent is None else {"share": f"{g.share_percent}%"}),
                "surplus": g.surplus,
            }
            for g in fairness.groups
        },
        "limits": dict(fairness.limits),
    }


def check_fairness(tree: Tree, good: dict[Loc, Any]) -> None:
    """Adds what is wrong between keys that are right by themselves."""
    groups = [str(loc[2]) for loc in tree.keys if loc[:2] == ("fairness", "groups") and len(loc) == 3]
    total = 0
    for name in groups:
        at: Loc = ("fairness", "groups", name)
        given = [key for key in ("share", "cpus") if (*at, key) in tree.keys]
        if tree.is_bad(at) or any(tree.is_bad((*at, key)) for key in given):
            continue
        if len(given) != 1:
            seen = "both" if given else "neither"
            tree.add(at, f"wanted either share or cpus, saw {seen}", "for instance share: 50%", at_key=True)
        elif given == ["share"]:
            total += share(good[(*at, "share")])
            if total > 100:
                tree.add((*at, "share"), f"wanted shares of at most 100% together, saw {total}% up to here")
    if tree.is_bad(("fairness", "groups")):
        return
    for loc, value in good.items():
        if loc[:2] == ("fairness", "people") and loc[3:] == ("group",) and value not in groups:
            known = f"the groups are {', '.join(groups)}" if groups else "there are no groups"
            tree.add(loc, f"wanted a group of fairness.groups, saw {value}", known)
