"""What the cluster file may say about machines: single fields, then machines against each other and the rest.

Like `_config_checks` and `_config_rules`, of which it is a part: plain data, problems go to the `Tree`.
"""

import difflib
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from swarmhpc import _config_checks as checks
from swarmhpc._config_checks import WantedError
from swarmhpc._config_yaml import Loc, Tree

MAX_MANAGERS: Final = 7  # Docker's "Administer and maintain a swarm of Docker Engines" advises no more
OWN_LABELS: Final = "swarmhpc."
MACHINE_KEYS: Final = ("address", "role", "ssh", "labels")
_DNS_NAME: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_FILE: Final = re.compile(r"(~[A-Za-z0-9._-]*)?(/[A-Za-z0-9._+@-]+)+")
# What a placement constraint takes: swarmkit's manager/constraint/constraint.go. It has no / in keys.
_LABEL_KEY: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9._/-]{1,64}")


@dataclass(frozen=True)
class Ssh:
    """How this machine reaches another one. Paths are as written: ``~`` is not expanded.

    `key` None: the agent's keys, or ssh's own defaults. `known_hosts` None: ssh's own file.
    """

    user: str = "root"
    port: int = 22
    key: str | None = None
    known_hosts: str | None = None


@dataclass(frozen=True)
class Machine:
    """A lab machine, which becomes a node of the Swarm.

    `address`: the IPv4 address or DNS name by which ssh and the other machines reach it. `labels`: sorted pairs of
    name and value; the node gets them.
    """

    name: str
    address: str
    role: Literal["manager", "worker"] = "worker"
    ssh: Ssh = field(default_factory=Ssh)
    labels: tuple[tuple[str, str], ...] = ()


def machine_name(value: object) -> str:
    """A name for a machine, also one with dots, as in n1.lab.example.org."""
    if not isinstance(value, str) or len(value) > 63 or not _DNS_NAME.fullmatch(value):
        raise WantedError("a machine's name: at most 63 letters, digits, inner hyphens and dots", _hyphens(value))
    if value in MACHINE_KEYS:
        raise WantedError("the machine's name before its keys", f"for instance n1: {{{value}: …}}")
    return value


def host(value: object) -> str:
    """An IPv4 address or a DNS name, as ssh takes it."""
    text = value if isinstance(value, str) else ""
    wanted = "the IPv4 address or DNS name of the machine"
    if _is_ipv6(text):
        raise WantedError("an IPv4 address or a DNS name, not an IPv6 address", "write the machine's IPv4 address")
    user, at, rest = text.rpartition("@")
    if at:
        raise WantedError(wanted, f"write {rest}, and ssh: {{user: {user}}} beside it")
    if mark := re.fullmatch(r"([^:]*):([0-9]+)", text):
        raise WantedError(wanted, f"write {mark[1]}, and ssh: {{port: {mark[2]}}} beside it")
    if re.fullmatch(r"([0-9.]*\.)?[0-9]+", text):
        try:
            return str(checks.address(text))
        except WantedError as error:
            raise WantedError(str(error).replace("this machine", "the machine")) from error
    if not _DNS_NAME.fullmatch(text):
        raise WantedError(wanted)
    return text


def _hyphens(value: object) -> str:
    name = value.replace("_", "-") if isinstance(value, str) else ""
    return f"for instance {name}" if name != value and _DNS_NAME.fullmatch(name) else ""


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def keys_of_machine(value: object) -> object:
    """A machine in its long form; ``n1: 10.0.0.11`` is short for its address, ``n1:`` for its name as address."""
    if value is None:
        return {}
    return value if isinstance(value, dict | list) else {"address": host(value)}


def ssh_user(value: object) -> str:
    """An account that ssh can be told to use."""
    if not isinstance(value, str) or not _USER.fullmatch(value):
        raise WantedError("the name of an account, such as root or admin")
    return value


def ssh_file(value: object) -> str | None:
    """A path that does not depend on where a command is run; None: not said."""
    if value is None:
        return None
    text = value if isinstance(value, str) else ""
    if len(text) > 255 or not _FILE.fullmatch(text):
        hint = f"for instance ~/.ssh/{text}" if re.fullmatch(r"[A-Za-z0-9._-]+", text) else ""
        raise WantedError("a path that begins with / or ~/, of letters, digits and . _ + @ - /", hint)
    return text


def ssh_key(value: object) -> str | None:
    """The path of a private key; None: the agent, or ssh's own defaults."""
    text = ssh_file(value)
    if text is not None and text.endswith(".pub"):
        raise WantedError("the path of the private key", f"write {text.removesuffix('.pub')}")
    return text


def queue_machine(value: object) -> str | None:
    """A machine's name; None: not said."""
    return None if value is None else machine_name(value)


def queue_path(value: object) -> str | None:
    """A directory of the queue's own; None: not said."""
    return None if value is None else str(checks.own_path(checks.SHARED_ON_HOST)(value))


def label_key(value: object) -> str:
    """The name of a node label, usable in a placement constraint."""
    if not isinstance(value, str) or not _LABEL_KEY.fullmatch(value):
        raise WantedError("a label's name: at most 64 letters, digits and . _ -")
    if value.lower().startswith(OWN_LABELS):
        raise WantedError(f"another name: labels that begin with {OWN_LABELS} are swarmhpc's own")
    return value


def label_value(value: object) -> str:
    """The value of a node label, usable in a placement constraint. A number is its text."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not _LABEL_VALUE.fullmatch(text):
        hint = f"write '{str(value).lower()}', with the quotes" if isinstance(value, bool) else ""
        raise WantedError("a label's value: at most 64 letters, digits and . _ - /", hint)
    return text


def check_machines(tree: Tree, good: dict[Loc, Any], subnet: str | None) -> None:
    """Adds what is wrong between machines, and between them and the rest of the file.

    `good`: the scalars that are right by themselves. `subnet`: the overlay's; None: it is wrong.
    """
    if tree.is_bad(("machines",)):
        return
    names = [str(loc[1]) for loc in tree.keys if loc[0] == "machines" and len(loc) == 2]
    _check_names_and_addresses(tree, good, names, subnet)
    _check_managers(tree, good, names)
    _check_queue(tree, good, names)
    _check_placement(tree, good, names)
    if names and ("address",) in good:
        message = f"wanted no address of the cluster's own beside machines, saw {good['address',]}"
        tree.add(("address",), message, "remove it: each machine has its address, and clients use any of them")


def _check_names_and_addresses(tree: Tree, good: dict[Loc, Any], names: list[str], subnet: str | None) -> None:
    first_of_name: dict[str, Loc] = {}
    first_of_address: dict[str, Loc] = {}
    for name in names:
        loc: Loc = ("machines", name)
        first = first_of_name.setdefault(name.lower(), loc)
        if first != loc:
            message = f"wanted a name of its own, saw {name} beside {first[1]} on line {tree.keys[first][0]}"
            tree.add(loc, message, "upper and lower case make no difference", at_key=True)
            continue
        at = next((at for at in (loc, (*loc, "address")) if tree.scalars.get(at) is not None), loc)
        if tree.is_bad((*loc, "address")):
            continue
        by_name = at not in good
        address = str(good.get(at, name))
        if by_name:
            try:
                machine_name(name)
            except WantedError:
                continue  # reported already
            try:
                host(name)
            except WantedError:
                tree.add(
                    loc, f"wanted an address, since {name} itself is none", f"as in {name}: 192.168.1.11", at_key=True
                )
                continue
        problem = _wrong_address(address, len(names), subnet)
        if problem:
            tree.add(at, f"wanted {problem}, saw {address}", at_key=by_name)
        elif (other := first_of_address.setdefault(address.lower(), loc)) != loc:
            message = f"wanted an address of its own, saw {address}, that of {other[1]} on line {tree.keys[other][0]}"
            tree.add(at, message, "keep one of the two machines", at_key=by_name)


def _wrong_address(address: str, machines: int, subnet: str | None) -> str:
    """What was wanted instead, or nothing."""
    try:
        ip = ipaddress.IPv4Address(address)
    except ValueError:
        loopback = address.lower() == "localhost"
    else:
        if subnet and ip in ipaddress.IPv4Network(subnet):
            return f"an address outside the overlay's subnet {subnet}"
        loopback = ip.is_loopback
    return "an address that the other machines reach too" if loopback and machines > 1 else ""


def _check_managers(tree: Tree, good: dict[Loc, Any], names: list[str]) -> None:
    roles: dict[Loc, object] = {
        loc: value for loc, value in good.items() if loc[0] == "machines" and loc[2:] == ("role",)
    }
    # A short form may be wrong, but it has no role.
    wrong = any(tree.is_bad(("machines", n, "role")) and ("machines", n) not in tree.scalars for n in names)
    if not names or not roles or wrong:  # without any role the first machine is the manager
        return
    managers = [loc for loc, role in roles.items() if role == "manager"]
    many = len(managers)
    if not managers:
        hint = "write role: manager for one machine, or for three"
        tree.add(("machines",), "wanted one or three managers, saw none", hint, at_key=True)
    elif many > MAX_MANAGERS:
        message = f"wanted at most {MAX_MANAGERS} managers, saw {many}"
        tree.add(managers[-1], message, "three managers survive the loss of one; the others can be workers")
    elif many % 2 == 0:
        message = f"wanted an odd number of managers, saw {many}"
        hint = f"{many} survive no more losses than {many - 1}: make it {many - 1} or {many + 1}"
        tree.add(managers[-1], message, hint)


def _check_queue(tree: Tree, good: dict[Loc, Any], names: list[str]) -> None:
    machine, path = good.get(("queue", "machine")), good.get(("queue", "path"))
    if machine is not None and path is not None:
        message = f"wanted either machine or path, saw both: {machine} and {path}"
        tree.add(("queue", "path"), message, "a path on a shared filesystem needs no machine")
    if machine is not None and machine not in names:
        close = difflib.get_close_matches(str(machine).lower(), [name.lower() for name in names], n=1)
        meant = next((name for name in names if name.lower() in close), "")
        hint = f"did you mean {meant}?" if meant else "list it under machines:, or remove this line"
        tree.add(("queue", "machine"), f"wanted the name of one of the machines, saw {machine}", hint)


def _check_placement(tree: Tree, good: dict[Loc, Any], names: list[str]) -> None:
    # Swarm compares the values, not the keys, without regard to case (swarmkit, as above).
    labels: dict[str, dict[str, str]] = {name: {} for name in names}
    wanted: dict[str, dict[str, str]] = {}
    for loc, value in good.items():
        if loc[0] == "machines" and len(loc) == 4 and loc[2] == "labels":
            labels[str(loc[1])][str(loc[3])] = str(value).lower()
        elif loc[0] == "executors" and len(loc) == 4 and loc[2] == "placement":
            wanted.setdefault(str(loc[1]), {})[str(loc[3])] = str(value).lower()
    unknown = [loc for loc in tree.bad if loc[:1] == ("machines",) and loc[2:3] in ((), ("labels",))]
    if any(len(loc) > 2 or loc not in tree.scalars for loc in unknown):  # a short form has no labels
        return
    _check_spread(tree, good, labels)
    for name, placement in wanted.items():
        whole: Loc = ("executors", name, "placement")
        if any(bad[:3] == whole for bad in tree.bad):
            continue
        if not names:
            hint = "list the machines with their labels under machines:, or remove the placement"
            tree.add(whole, "wanted machines whose labels it can name, saw no machines", hint)
            continue
        if any(placement.items() <= has.items() for has in labels.values()):
            continue
        alone = [key for key, value in placement.items() if all(has.get(key) != value for has in labels.values())]
        for key in alone:
            values = sorted({has[key] for has in labels.values() if key in has})
            there = (
                f"machines have {', '.join(f'{key}: {value}' for value in values)}"
                if values
                else f"no machine has {key}"
            )
            message = f"wanted a label that a machine has, saw {key}: {good[*whole, key]}"
            tree.add((*whole, key), message, there)
        if not alone:
            message = "wanted labels that one machine has all of, saw no such machine"
            tree.add(whole, message, "label a machine so, or remove a label here")


def _check_spread(tree: Tree, good: dict[Loc, Any], labels: dict[str, dict[str, str]]) -> None:
    """Swarm would take a label that no node has for one value that all have, and say nothing."""
    there = sorted({key for has in labels.values() for key in has})
    for loc, value in good.items():
        if loc[0] != "executors" or loc[2:] != ("spread",) or value in there:
            continue
        if not labels:
            hint = "list the machines with their labels under machines:, or remove the spread"
            tree.add(loc, "wanted machines over whose label it can spread, saw no machines", hint)
            continue
        hint = f"machines have {', '.join(there)}" if there else "no machine has a label"
        tree.add(loc, f"wanted the name of a label that a machine has, saw {value}", hint)
