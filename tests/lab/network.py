"""The lab's wires: one network namespace with a bridge, a tap for each machine, and this host on it as the way out."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NETNS = "swarmhpc-lab"  # also the comment of every iptables rule
BRIDGE = "labbr"
UPLINK = "swarmhpc-lab0"  # this host's end; a name has at most 15 characters
NETWORK = "10.77.0"
HOST_ADDRESS = f"{NETWORK}.254"

MOST_MACHINES = 40

_OWNER = Path("/run/swarmhpc-lab.folder")  # whose lab is up: the addresses are the same for all
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_COMMENT = ("-m", "comment", "--comment", NETNS)
_RULES = (
    ("-t", "nat", "POSTROUTING", "-s", f"{NETWORK}.0/24", "!", "-d", f"{NETWORK}.0/24", *_COMMENT, "-j", "MASQUERADE"),
    # An engine on this host sets the chain's policy to DROP.
    ("-t", "filter", "FORWARD", "-i", UPLINK, *_COMMENT, "-j", "ACCEPT"),
    ("-t", "filter", "FORWARD", "-o", UPLINK, *_COMMENT, "-j", "ACCEPT"),
)


class LabError(Exception):
    """What is wrong with the lab, in words for a person; never a reason to skip."""


@dataclass(frozen=True)
class Machine:
    """A machine of the lab: its number says everything else."""

    name: str
    address: str

    @property
    def number(self) -> int:
        return int(self.name[1:])

    @property
    def tap(self) -> str:
        return f"tap{self.number}"

    @property
    def mac(self) -> str:
        return f"02:77:00:00:00:{self.number:02x}"


def machine(name: str) -> Machine:
    """`n1` is 10.77.0.11. Raises LabError for what is no machine's name."""
    if not (found := re.fullmatch(r"n([1-9]\d?)", name)) or int(found[1]) > MOST_MACHINES:
        raise LabError(f"machine {name!r}: wanted n1 to n{MOST_MACHINES}")
    return Machine(name, f"{NETWORK}.{10 + int(found[1])}")


def machines(names: Sequence[str]) -> list[Machine]:
    return [machine(name) for name in names]


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command of this host. Raises LabError with its words when it fails and `check` is set."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        raise LabError(f"{shlex.join(map(str, command))}: exit code {done.returncode}: {done.stderr.strip()}")
    return done


def _is_there(*words: str) -> bool:
    return run("ip", *words, check=False).returncode == 0


def refuse_foreign(folder: Path) -> None:
    """Raises LabError when the lab of another folder is up."""
    owner = _OWNER.read_text().strip() if _OWNER.exists() else ""
    if owner not in ("", str(folder)) and _is_there("-n", NETNS, "link", "show", BRIDGE):
        raise LabError(
            f"the lab of {owner} is up, and a host can have one only; "
            f"end it with: SWARMHPC_LAB_DIR={owner} python -m tests.lab.machines down"
        )


def raise_network(folder: Path) -> None:
    """Everything but the taps, where it is missing."""
    refuse_foreign(folder)
    if not _is_there("-n", NETNS, "link", "show", BRIDGE):
        remove_network(folder)  # what an earlier run left
        run("ip", "netns", "add", NETNS)
        run("ip", "-n", NETNS, "link", "set", "lo", "up")
        run("ip", "-n", NETNS, "link", "add", BRIDGE, "type", "bridge")
        run("ip", "-n", NETNS, "link", "set", BRIDGE, "up")
    _OWNER.write_text(str(folder))
    if not _is_there("link", "show", UPLINK):
        used = run("ip", "route", "show", "root", f"{NETWORK}.0/24").stdout.strip()
        if used:
            raise LabError(f"this host already uses {NETWORK}.0/24, which the lab needs: {used}")
        run("ip", "link", "add", UPLINK, "type", "veth", "peer", "name", "uplink", "netns", NETNS)
    run("ip", "-n", NETNS, "link", "set", "uplink", "master", BRIDGE, "up")
    run("ip", "address", "replace", f"{HOST_ADDRESS}/24", "dev", UPLINK)
    run("ip", "link", "set", UPLINK, "up")
    if _FORWARDING.read_text().strip() == "0":
        _FORWARDING.write_text("1")
        _forwarding_mark(folder).touch()
    for table in _RULES:
        if run("iptables", "-w", *table[:2], "-C", *table[2:], check=False).returncode:
            run("iptables", "-w", *table[:2], "-I", *table[2:])


def remove_network(folder: Path) -> None:
    """All of it; nothing is said about what is not there."""
    for table in _RULES:
        while run("iptables", "-w", *table[:2], "-D", *table[2:], check=False).returncode == 0:
            pass
    run("ip", "link", "delete", UPLINK, check=False)
    run("ip", "netns", "delete", NETNS, check=False)
    _OWNER.unlink(missing_ok=True)
    if _forwarding_mark(folder).exists():
        _FORWARDING.write_text("0")
        _forwarding_mark(folder).unlink()


def _forwarding_mark(folder: Path) -> Path:
    return folder / "forwarding-was-off"


def plug(tap: str) -> None:
    """On the bridge, made when it is missing."""
    if not _is_there("-n", NETNS, "link", "show", tap):
        run("ip", "-n", NETNS, "tuntap", "add", "dev", tap, "mode", "tap", "vnet_hdr")
    run("ip", "-n", NETNS, "link", "set", tap, "master", BRIDGE, "up")


def unplug(tap: str) -> None:
    """Off the bridge. Setting the tap down instead would be seen inside the machine as a lost carrier."""
    run("ip", "-n", NETNS, "link", "set", tap, "nomaster")
