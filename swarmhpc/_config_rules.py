"""What the cluster file may say: its keys with the check of each, then fields against each other.

Takes and gives plain data, so that config can import this module. pydantic is imported by the function that needs it.
"""

import difflib
import ipaddress
import itertools
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

from swarmhpc import _config_checks as checks
from swarmhpc import _config_events as hooks
from swarmhpc import _config_fairness as fair
from swarmhpc import _config_machines as lab
from swarmhpc._config_yaml import Loc, Tree


@cache
def _schema() -> tuple[Callable[[object], dict[str, Any]], dict[str, tuple[str, ...]]]:
    """What checks plain data (raising pydantic's ValidationError), and the keys of each section.

    The fields are called as in config's dataclasses, which have the defaults: a key that the file leaves out is left
    out of the result too.
    """
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

    left_out: Any = None  # never seen: only keys that are set are taken

    node_labels = dict[Annotated[str, BeforeValidator(lab.label_key)], Annotated[str, BeforeValidator(lab.label_value)]]

    counts = dict[
        Annotated[str, BeforeValidator(checks.resource_name)], Annotated[int, BeforeValidator(checks.whole(1, 1000000))]
    ]

    def some_executors(*, or_none: bool = False) -> BeforeValidator:
        check = checks.whole(1, checks.MAX_REPLICAS)
        return BeforeValidator(checks.or_none(check) if or_none else check)

    class Section(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    class ClassKeys(Section):
        replicas: Annotated[int, BeforeValidator(checks.whole(0, checks.MAX_REPLICAS))] = left_out
        cpus: Annotated[int | None, BeforeValidator(checks.whole(1, 1024, auto=True))] = left_out
        memory_mib: Annotated[int | None, BeforeValidator(lambda v: checks.size_mib(v, auto=True))] = Field(
            default=left_out, alias="memory"
        )
        gpus: Annotated[int, BeforeValidator(checks.whole(0, 1024))] = left_out
        resources: Annotated[counts, BeforeValidator(checks.or_empty)] = left_out
        placement: Annotated[node_labels, BeforeValidator(checks.or_empty)] = left_out
        spread: Annotated[str | None, BeforeValidator(checks.or_none(lab.label_key))] = left_out
        max_per_node: Annotated[int | None, some_executors(or_none=True)] = left_out
        scratch: Annotated[str | None, BeforeValidator(checks.or_none(checks.own_path(checks.SHARED_ON_HOST)))] = (
            left_out
        )
        reserve: Annotated[bool, BeforeValidator(checks.flag)] = left_out
        minimum: Annotated[int, BeforeValidator(checks.whole(0, checks.MAX_REPLICAS))] = Field(
            default=left_out, alias="min"
        )
        maximum: Annotated[int | None, some_executors(or_none=True)] = Field(default=left_out, alias="max")
        step: Annotated[int, some_executors()] = left_out
        idle_s: Annotated[int, BeforeValidator(checks.duration_s)] = Field(default=left_out, alias="idle")
        starting_max: Annotated[int, some_executors()] = Field(default=left_out, alias="starting")

    class SshKeys(Section):
        user: Annotated[str, BeforeValidator(lab.ssh_user)] = left_out
        port: Annotated[int, BeforeValidator(checks.whole(1, 65535))] = left_out
        key: Annotated[str | None, BeforeValidator(lab.ssh_key)] = left_out
        known_hosts: Annotated[str | None, BeforeValidator(lab.ssh_file)] = left_out

    class MachineKeys(Section):
        address: Annotated[str, BeforeValidator(lab.host)] = left_out
        role: Annotated[str, BeforeValidator(checks.one_of("manager", "worker"))] = left_out
        ssh: Annotated[SshKeys, BeforeValidator(checks.or_empty)] = left_out
        labels: Annotated[node_labels, BeforeValidator(checks.or_empty)] = left_out

    class QueueKeys(Section):
        machine: Annotated[str | None, BeforeValidator(lab.queue_machine)] = left_out
        path: Annotated[str | None, BeforeValidator(lab.queue_path)] = left_out
        history_mib: Annotated[int, BeforeValidator(checks.size_mib)] = Field(default=left_out, alias="history")

    class PersonKeys(Section):
        priority_factor: Annotated[int, BeforeValidator(checks.whole(1, 1000000))] = left_out
        group: Annotated[str | None, BeforeValidator(checks.or_none(fair.group_name))] = left_out
        max_jobs: Annotated[int | None, BeforeValidator(checks.or_none(checks.whole(1, 1000000)))] = left_out
        max_cpus: Annotated[int | None, BeforeValidator(checks.or_none(checks.whole(1, 1000000)))] = left_out

    class GroupKeys(Section):
        share_percent: Annotated[int, BeforeValidator(fair.share)] = Field(default=left_out, alias="share")
        cpus: Annotated[int, BeforeValidator(checks.whole(1, 1000000))] = left_out
        surplus: Annotated[bool, BeforeValidator(checks.flag)] = left_out

    class FairnessKeys(Section):
        people: Annotated[
            dict[
                Annotated[str, BeforeValidator(fair.person_name)],
                Annotated[PersonKeys, BeforeValidator(checks.or_empty)],
            ],
            BeforeValidator(checks.or_empty),
        ] = left_out
        groups: Annotated[
            dict[
                Annotated[str, BeforeValidator(fair.group_name)], Annotated[GroupKeys, BeforeValidator(checks.or_empty)]
            ],
            BeforeValidator(checks.or_empty),
        ] = left_out
        limits: Annotated[
            dict[
                Annotated[str, BeforeValidator(fair.limit_name)],
                Annotated[int, BeforeValidator(checks.whole(1, 1000000))],
            ],
            BeforeValidator(checks.or_empty),
        ] = left_out

    class PortsKeys(Section):
        central_manager: Annotated[int, BeforeValidator(checks.port)] = left_out
        access_point: Annotated[int, BeforeValidator(checks.port)] = left_out
        gateway: Annotated[int, BeforeValidator(checks.port)] = left_out

    class VolumeKeys(Section):
        source: Annotated[str, BeforeValidator(checks.source)]
        target: Annotated[str, BeforeValidator(checks.own_path(checks.SHARED_BY_ALL))]
        read_only: Annotated[bool, BeforeValidator(checks.flag)] = left_out

    class JobsKeys(Section):
        allow_host_network: Annotated[bool, BeforeValidator(checks.flag)] = left_out
        volumes: Annotated[list[VolumeKeys], BeforeValidator(lambda v: [] if v is None else v)] = left_out
        pids_limit: Annotated[int, BeforeValidator(checks.whole(1, 4194304))] = left_out  # Linux' PID_MAX_LIMIT
        default_memory_mib: Annotated[int, BeforeValidator(checks.size_mib)] = Field(
            default=left_out, alias="default_memory"
        )

    class ImageKeys(Section):
        name: Annotated[str | None, BeforeValidator(checks.image_name)] = left_out
        base: Annotated[str | None, BeforeValidator(checks.image_name)] = left_out

    class OnEventKeys(Section):
        command: Annotated[str, BeforeValidator(hooks.command)] = left_out
        url: Annotated[str, BeforeValidator(hooks.url)] = left_out
        states: Annotated[tuple[str, ...], BeforeValidator(hooks.states)] = left_out

    class FileKeys(Section):
        version: Annotated[int, BeforeValidator(checks.version)] = left_out
        name: Annotated[str, BeforeValidator(checks.name)] = left_out
        ssh: Annotated[SshKeys, BeforeValidator(checks.or_empty)] = left_out
        machines: Annotated[
            dict[
                Annotated[str, BeforeValidator(lab.machine_name)],
                Annotated[MachineKeys, BeforeValidator(lab.keys_of_machine)],
            ],
            BeforeValidator(checks.or_empty),
        ] = left_out
        prepare: Annotated[bool, BeforeValidator(checks.flag)] = left_out
        queue: Annotated[QueueKeys, BeforeValidator(checks.or_empty)] = left_out
        fairness: Annotated[FairnessKeys, BeforeValidator(checks.or_empty)] = left_out
        on_event: Annotated[OnEventKeys | None, BeforeValidator(hooks.keys_of_hook)] = left_out
        networking: Annotated[str, BeforeValidator(checks.one_of("auto", "vip", "dnsrr"))] = left_out
        subnet: Annotated[str, BeforeValidator(checks.subnet)] = left_out
        encrypted: Annotated[bool, BeforeValidator(checks.flag)] = left_out
        address: Annotated[str | None, BeforeValidator(checks.address)] = left_out
        ports: Annotated[PortsKeys, BeforeValidator(checks.or_empty)] = left_out
        executors: Annotated[
            dict[
                Annotated[str, BeforeValidator(checks.class_name)],
                Annotated[ClassKeys, BeforeValidator(checks.or_empty)],
            ],
            BeforeValidator(checks.classes),
        ] = left_out
        autoscale: Annotated[bool, BeforeValidator(checks.flag)] = left_out
        jobs: Annotated[JobsKeys, BeforeValidator(checks.or_empty)] = left_out
        image: Annotated[ImageKeys, BeforeValidator(checks.or_empty)] = left_out
        drain_timeout_s: Annotated[int, BeforeValidator(checks.duration_s)] = Field(
            default=left_out, alias="drain_timeout"
        )
        execute_dir: Annotated[str, BeforeValidator(checks.own_path(checks.SHARED_ON_HOST))] = left_out

    def fields(data: object) -> dict[str, Any]:
        return FileKeys.model_validate(data).model_dump(exclude_unset=True, exclude={"version"})

    sections: dict[str, type[BaseModel]] = {
        "": FileKeys,
        "ssh": SshKeys,
        "machines: NAME": MachineKeys,
        "queue": QueueKeys,
        "on_event": OnEventKeys,
        "fairness": FairnessKeys,
        "fairness: people: NAME": PersonKeys,
        "fairness: groups: NAME": GroupKeys,
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
    if loc[0] in ("executors", "machines") and len(loc) > 2:
        return "ssh" if loc[2] == "ssh" and len(loc) > 3 else f"{loc[0]}: NAME"
    if loc[0] == "fairness" and len(loc) > 3:
        return f"fairness: {loc[1]}: NAME"
    if loc[:2] == ("jobs", "volumes") and len(loc) > 2:
        return "jobs: volumes"
    return str(loc[0]) if len(loc) > 1 else ""


def _unknown_key_hint(loc: Loc, sections: dict[str, tuple[str, ...]]) -> str:
    key, here = str(loc[-1]), sections[_section_of(loc)]
    if loc[:-1] == () and key in ("hosts", "nodes"):
        return "did you mean machines?"
    if close := difflib.get_close_matches(key.lower().replace("-", "_"), here, n=1):
        return f"did you mean {close[0]}?"
    if homes := [section or "the top level" for section, keys in sections.items() if key in keys]:
        return f"{key} belongs under {' or '.join(homes)}"
    return f"known keys here: {', '.join(here)}"


def _section_hint(loc: Loc, seen: str, sections: dict[str, tuple[str, ...]]) -> str:
    """What to write where something else than keys with values is."""
    if loc == ("machines",):
        return "one line for each machine, as in n1: 192.168.1.11"
    if loc[0] == "executors" and len(loc) == 2 and loc[-1] in sections["executors: NAME"]:
        return f"name the class first, as in {checks.DEFAULT_CLASS}: {{{loc[-1]}: {seen}}}"
    examples = {"labels": "disk: ssd", "placement": "disk: ssd", "resources": "licence: 2", "limits": "matlab: 5"}
    return f"as in {examples[str(loc[-1])]}" if loc[-1] in examples else ""


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
            if isinstance(cause, checks.WantedError):
                tree.add(loc, f"wanted {cause}, saw {seen}", cause.hint, at_key=about_key)
            elif detail["type"] == "extra_forbidden":
                tree.add(loc, "unknown key", _unknown_key_hint(loc, sections), at_key=True)
            elif detail["type"] == "missing":
                tree.add(loc, "this key is missing")
            elif detail["type"] in ("model_type", "dict_type"):
                tree.add(loc, f"wanted keys with values, saw {seen}", _section_hint(loc, seen, sections))
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
    for one, two in itertools.combinations(ports, 2):
        if ports[one] is not None and ports[one] == ports[two]:
            given, other = (two, one) if ("ports", two) in good else (one, two)
            tree.add(("ports", given), f"wanted two different ports, saw {ports[given]} for {other} too")

    subnet, address = get(("subnet",), defaults["subnet"]), get(("address",), None)
    if subnet and address and ipaddress.IPv4Address(address) in ipaddress.IPv4Network(subnet):
        tree.add(("address",), f"wanted an address outside the overlay's subnet {subnet}, saw {address}")

    queue_path = get(("queue", "path"), None)
    lab.check_machines(tree, good, subnet)

    execute_dir = get(("execute_dir",), defaults["execute_dir"])
    if execute_dir and queue_path and checks.overlap(execute_dir, queue_path):
        tree.add(("queue", "path"), f"wanted a path apart from execute_dir {execute_dir}, saw {queue_path}")
    targets: dict[object, Loc] = {}
    for loc, value in good.items():
        if loc[:2] != ("jobs", "volumes") or loc[-1] not in ("source", "target"):
            continue
        if execute_dir and checks.overlap(str(value), execute_dir):
            tree.add(loc, f"wanted a path apart from execute_dir {execute_dir}, saw {value}")
        elif loc[-1] == "source" and queue_path and checks.overlap(str(value), queue_path):
            tree.add(
                loc, f"wanted a path apart from the queue's, {queue_path}, saw {value}", "jobs must not see the queue"
            )
        elif loc[-1] == "target" and (first := targets.setdefault(value, loc)) != loc:
            tree.add(loc, f"wanted a target of its own, saw {value}, as on line {tree.places[first][0]}")

    fair.check_fairness(tree, good)
    _check_classes(tree, good, get, defaults)


def _check_classes(
    tree: Tree, good: dict[Loc, Any], get: Callable[[Loc, object], Any], defaults: dict[str, Any]
) -> None:
    """Adds what is wrong inside each executor class, and between the classes and the rest of the file."""
    names = [str(loc[1]) for loc in tree.keys if loc[0] == "executors" and len(loc) == 2]
    default_memory = get(("jobs", "default_memory"), defaults["jobs"]["default_memory"])
    for name in names:
        at: Loc = ("executors", name)
        _check_counts(tree, good, at, defaults["executors"][checks.DEFAULT_CLASS]["replicas"])
        memory = good.get((*at, "memory"), checks.AUTO)
        if memory != checks.AUTO and default_memory:
            job_mib, class_mib = checks.size_mib(default_memory), checks.size_mib(memory)
            if job_mib and class_mib and class_mib < job_mib:
                message = f"wanted at least jobs.default_memory ({default_memory}), saw {memory}"
                tree.add((*at, "memory"), message, "a job that names no memory would never start on this class")
        first: dict[str, str] = {}
        for resource in (str(loc[3]) for loc in tree.keys if loc[:2] == at and loc[2:3] == ("resources",) and loc[3:]):
            if (other := first.setdefault(resource.lower(), resource)) != resource:
                message = f"wanted a name of its own, saw {resource} beside {other}"
                hint = "to HTCondor, upper and lower case make no difference"
                tree.add((*at, "resources", resource), message, hint, at_key=True)
    _check_scratch(tree, good, names, get(("execute_dir",), defaults["execute_dir"]))
    may_grow = any((*at, "max") in good or tree.is_bad((*at, "max")) for at in (("executors", n) for n in names))
    if good.get(("autoscale",)) is True and not may_grow and not tree.is_bad(("executors",)):
        hint = f"for instance executors: {{{names[0] if names else checks.DEFAULT_CLASS}: {{max: 10}}}}"
        tree.add(("autoscale",), "wanted a class with a max, up to which it may grow, saw none", hint)


def _check_counts(tree: Tree, good: dict[Loc, Any], at: Loc, default_replicas: int) -> None:
    """How many executors of a class there are to be, and with how many CPUs in all."""
    if any(tree.is_bad((*at, key)) for key in ("replicas", "min", "max")):
        return
    replicas, low, high = (good.get((*at, key)) for key in ("replicas", "min", "max"))
    if high is not None and low is not None and low > high:
        tree.add((*at, "min"), f"wanted at most max, {high}, saw {low}")
        return
    if replicas is not None and not (low or 0) <= replicas <= (checks.MAX_REPLICAS if high is None else high):
        wanted = f"at least min, {low}" if high is None else f"from min, {low or 0}, to max, {high}"
        tree.add((*at, "replicas"), f"wanted {wanted}, saw {replicas}")
        return
    cpus = good.get((*at, "cpus"), checks.AUTO)
    most = max(default_replicas if replicas is None else replicas, low or 0, high or 0)
    if cpus != checks.AUTO and most * cpus > checks.MAX_CLASS_CPUS:
        message = f"wanted at most {checks.MAX_CLASS_CPUS} CPUs in a class, saw {most} replicas of {cpus}"
        tree.add((*at, "cpus"), message)


def _check_scratch(tree: Tree, good: dict[Loc, Any], names: list[str], execute_dir: str | None) -> None:
    """Scratch directories may be the same one, but none may hold another: what the janitor finds in one, it removes."""
    roots = {} if execute_dir is None else {execute_dir: "execute_dir"}
    others = {
        str(value): ".".join(map(str, loc)) if loc == ("queue", "path") else f"a volume's {loc[-1]}"
        for loc, value in good.items()
        if loc == ("queue", "path") or (loc[:2] == ("jobs", "volumes") and loc[-1] in ("source", "target"))
    }
    for name in names:
        loc: Loc = ("executors", name, "scratch")
        if loc not in good:
            continue
        scratch = str(good[loc])
        near = {path: what for path, what in roots.items() if path != scratch} | others
        for path, what in near.items():
            if checks.overlap(scratch, path):
                tree.add(loc, f"wanted a path apart from {what}, {path}, saw {scratch}")
                break
        roots.setdefault(scratch, f"the scratch of {name}")
