"""This machine: kernel, addresses, ports, disk. Only facts; nothing is decided here."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
from pathlib import Path

from swarmhpc.adapters import command


def has_ipvs() -> bool:
    """Whether the kernel can balance virtual IPs, which Swarm's VIPs and routing mesh need.

    Asks the kernel, after loading the module where this user may: Swarm itself says Running either way (facts).
    """
    table = Path("/proc/net/ip_vs")
    if table.exists():
        return True
    if not command.found("modprobe"):
        return False
    root = os.geteuid() == 0
    # Without root the dry run tells whether dockerd, which runs as root, will find the module.
    done = command.run(["modprobe", "-q", *([] if root else ["-n"]), "ip_vs"], timeout_s=20, check=False)
    return table.exists() or (not root and done.returncode == 0)


def default_address() -> str:
    """The address this machine uses towards others (source of the default route); 127.0.0.1 where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): a UDP connect sends nothing
        except OSError:
            return "127.0.0.1"
        return str(s.getsockname()[0])


def ipv4(name: str) -> str | None:
    """The IPv4 address that a name (or an address) stands for here; None where nobody knows it."""
    try:
        return socket.gethostbyname(name)
    except OSError:
        return None


def port_taken(port: int) -> bool:
    """Whether something listens on this TCP port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("0.0.0.0", port))
        except PermissionError:  # below 1024 without root: ask whether somebody answers instead
            return port_answers("127.0.0.1", port)
        except OSError:
            return True
    return False


def port_answers(host: str, port: int, *, timeout_s: float = 2.0) -> bool:
    """Whether a TCP connection to host:port is accepted."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def free_disk_mib(path: str) -> int:
    """Free space of the file system that holds `path`, or the nearest folder above it that exists."""
    folder = Path(path)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free // 2**20


def engine_is_local() -> bool:
    """Whether the docker command talks to an engine of this machine."""
    return os.environ.get("DOCKER_HOST", "unix://").startswith("unix://")


def person() -> str:
    """Who asks: the account behind sudo, or this account. Jobs can't belong to root, so root is `admin`."""
    name = os.environ.get("SUDO_USER") or getpass.getuser()
    return "admin" if name == "root" else name


def routes() -> dict[str, str]:
    """IPv4 networks this machine has routes to, by interface (/proc/net/route; hexadecimal, little-endian)."""
    found: dict[str, str] = {}
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        name, destination, _, _, _, _, _, mask, *_ = line.split()
        prefix = int(mask, 16).bit_count()
        if prefix:
            address = socket.inet_ntoa(int(destination, 16).to_bytes(4, "little"))
            found[f"{name} {address}"] = f"{address}/{prefix}"
    return found


def process_lives(pid: int) -> bool:
    """Whether a process of this machine has this number and has not ended."""
    try:
        # proc(5): "pid (name) state …"; the name may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] not in ("Z", "X")
    except OSError:
        return False
