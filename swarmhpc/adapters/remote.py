"""Another machine, over the ssh command that its administrator already uses. One connection a machine is shared.

Only facts and streams; what they mean is decided elsewhere. This machine itself is asked with the same script.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swarmhpc.adapters import command
from swarmhpc.adapters.command import Completed
from swarmhpc.config import Machine
from swarmhpc.errors import MachineError, SwarmHpcError, WaitTimeoutError

if TYPE_CHECKING:
    import subprocess

_CONNECT_TIMEOUT_S = 10
_MARK = "--swarmhpc-facts--"
# What a machine is asked, as root, in one go. `key=value` lines; a key may come more than once.
_FACTS = f"""
echo {_MARK}
echo "hostname=$(hostname)"
( . /etc/os-release 2>/dev/null; echo "os=${{PRETTY_NAME:-unknown}}" )
echo "kernel=$(uname -r)"
[ -e /proc/net/ip_vs ] || modprobe -q ip_vs 2>/dev/null
[ -e /proc/net/ip_vs ] && echo ipvs=yes
command -v dockerd >/dev/null && echo installed=yes
[ -S /var/run/docker.sock ] && docker version --format 'engine={{{{.Server.Version}}}}' 2>/dev/null
[ -r /etc/swarmhpc/prepared.json ] && echo "prepared=$(tr -d '\\n' < /etc/swarmhpc/prepared.json)"
ip -o -4 address show 2>/dev/null | while read -r _ dev _ net _; do echo "address=$net $dev"; done
while read -r dev to _ _ _ _ _ mask _; do [ "$dev" = Iface ] || echo "route=$dev $to $mask"; done < /proc/net/route
for f in /proc/net/tcp /proc/net/tcp6; do
  while read -r _ local _ st _; do [ "$st" = 0A ] && echo "listens=${{local##*:}}"; done < $f
done 2>/dev/null
[ -e /sys/fs/cgroup/cgroup.controllers ] && echo cgroup=2 || echo cgroup=1
[ -n "$shared" ] && [ -d "$shared" ] && echo "shared=$(stat -f -c %T "$shared")"
echo "cpus=$(nproc)"
while read -r key value _; do [ "$key" = MemTotal: ] && echo "memory=$value"; done < /proc/meminfo
echo "clock=$(date +%s.%N)"
"""


@dataclass(frozen=True)
class MachineFacts:
    """One machine as it answered. `clock_skew_s`: its clock minus ours, good to half of the round trip."""

    hostname: str
    os: str
    kernel: str
    ipvs: bool
    engine_installed: bool
    engine_version: str
    """Empty where no engine answers."""
    prepared: str
    """The text of /etc/swarmhpc/prepared.json, or nothing."""
    addresses: Mapping[str, str]
    """IPv4 address to interface."""
    routes: Mapping[str, str]
    """`interface network` to network (CIDR)."""
    listens: frozenset[int]
    """TCP ports."""
    cgroup_version: str
    cpus: int
    memory_mib: int
    clock_skew_s: float
    shared: str = ""
    """The type of the filesystem (stat(1), `%T`) at the path that was asked for; empty: there is no such directory."""


class Remote:
    """One machine. Connects when it is first asked."""

    def __init__(self, machine: Machine, *, local: bool | None = None) -> None:
        """`local` None: found out from the machine's address."""
        self.machine = machine
        self.local = is_here(machine.address) if local is None else local
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        self._server: socket.socket | None = None

    # -- connection -----------------------------------------------------------------------------------------------

    def _scratch(self) -> Path:
        if self._folder is None:
            # /tmp, not $TMPDIR: a socket's path may have 107 bytes at most (unix(7)).
            self._folder = tempfile.TemporaryDirectory(prefix="swarmhpc-ssh-", dir="/tmp")
        return Path(self._folder.name)

    def _ssh(self) -> list[str]:
        """ssh_config(5). The first contact remembers the host key; a changed one is refused."""
        ssh = self.machine.ssh
        options = [
            "BatchMode=yes",
            f"ConnectTimeout={_CONNECT_TIMEOUT_S}",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=3",
            "StrictHostKeyChecking=accept-new",
            "ControlMaster=auto",
            f"ControlPath={self._scratch()}/master",
            "ControlPersist=30",
            "LogLevel=ERROR",
        ]
        if ssh.key is not None:
            options += ["IdentitiesOnly=yes"]
        if ssh.known_hosts is not None:
            options += [f"UserKnownHostsFile={Path(ssh.known_hosts).expanduser()}"]
        argv = ["ssh", "-T", "-p", str(ssh.port), "-l", ssh.user]
        if ssh.key is not None:
            argv += ["-i", str(Path(ssh.key).expanduser())]
        for option in options:
            argv += ["-o", option]
        return [*argv, self.machine.address]

    def _as_root(self, argv: list[str]) -> list[str]:
        if self.local:
            return argv if os.geteuid() == 0 else ["sudo", "-n", *argv]
        remote = shlex.join(argv if self.machine.ssh.user == "root" else ["sudo", "-n", *argv])
        return [*self._ssh(), remote]

    def run(self, script: str, *, timeout_s: float, check: bool = True) -> Completed:
        """Runs a shell script as root there. Raises MachineError: unreachable, refused, no sudo, or (with `check`)
        a script that ends with another code than 0."""
        try:
            done = command.run(self._as_root(["sh", "-s"]), timeout_s=timeout_s, check=False, stdin=script)
        except WaitTimeoutError as e:
            raise MachineError(
                f"machine {self.machine.name} ({self.machine.address}) did not answer within {timeout_s:.0f} s",
                hint=f"ssh {self.machine.ssh.user}@{self.machine.address} and look; swarmhpc doctor",
            ) from e
        if done.returncode != 0 and (check or done.returncode == 255):
            raise self._explained(done)
        return done

    def _explained(self, done: Completed) -> MachineError:
        m = self.machine
        who = f"machine {m.name} ({m.address})"
        said = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["it said nothing"]
        words = said[-1]
        known = m.address if m.ssh.port == 22 else f"'[{m.address}]:{m.ssh.port}'"
        forget = f"ssh-keygen{f' -f {m.ssh.known_hosts}' if m.ssh.known_hosts else ''} -R {known}"
        login = f"ssh -p {m.ssh.port} {m.ssh.user}@{m.address}"
        if not self.local and done.returncode == 255:
            if "ermission denied" in done.stderr:
                key = m.ssh.key or "the agent's keys"
                return MachineError(
                    f"{who}: ssh refuses user {m.ssh.user} with {key}: {words}",
                    hint=f"try it by hand: {login}; ssh-copy-id gives a machine your key; ssh: in swarmhpc.yaml",
                )
            if "HOST IDENTIFICATION HAS CHANGED" in done.stderr or "Host key verification failed" in done.stderr:
                return MachineError(
                    f"{who}: its host key is not the one that was seen before",
                    hint=f"if the machine was installed anew: {forget}; else find out who answers",
                )
            return MachineError(f"{who} can't be reached over ssh: {words}", hint=f"try it by hand: {login}")
        if "sudo" in words:
            return MachineError(
                f"{who}: user {m.ssh.user} may not become root without a password: {words}",
                hint=f"give {m.ssh.user} passwordless sudo there, or use another user: ssh: {{user: …}}",
            )
        return MachineError(f"{who}: a command ended with code {done.returncode}: {words}", hint=f"{login} and look")

    def facts(self, shared: str = "") -> MachineFacts:
        """Asks the machine about itself, and about the directory `shared`. Raises MachineError."""
        import time

        before = time.time()
        done = self.run(f"shared={shlex.quote(shared)}\n{_FACTS}", timeout_s=60)
        after = time.time()
        _, mark, text = done.stdout.partition(_MARK)
        if not mark:
            said = (done.stdout or done.stderr).strip()[:200]
            raise MachineError(
                f"machine {self.machine.name} ({self.machine.address}): wanted its facts, saw: {said!r}",
                hint="a login shell that prints or asks something is in the way",
            )
        return parse_facts(text, ours_s=(before + after) / 2)

    # -- engine ---------------------------------------------------------------------------------------------------

    def docker_host(self) -> str | None:
        """A DOCKER_HOST that reaches this machine's engine for as long as this object lives; None: the default.

        A private socket here; each connection to it becomes `docker system dial-stdio` there (what docker's own ssh
        connections run: docker/cli, cli/connhelper/connhelper.go, v20.10), as root also for a user with sudo.
        """
        if self.local:
            return None
        path = self._scratch() / "docker.sock"
        if self._server is None:
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.bind(str(path))
            server.listen(16)
            self._server = server
            threading.Thread(target=self._relay, args=(server,), daemon=True).start()
        return f"unix://{path}"

    def _relay(self, server: socket.socket) -> None:
        argv = self._as_root(["docker", "system", "dial-stdio"])
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return  # closed
            with connection, contextlib.suppress(OSError):  # no ssh here: the connection closes, and its user is told
                self._children = [c for c in self._children if c.poll() is None]
                self._children.append(command.start(argv, stdio=connection.fileno()))

    def close(self) -> None:
        """Ends the connections."""
        if self._server is not None:
            self._server.shutdown(socket.SHUT_RDWR)  # wakes accept()
            self._server.close()
            self._server = None
        for child in self._children:
            child.terminate()
            child.wait()
        self._children.clear()
        if self._folder is not None:
            if (Path(self._folder.name) / "master").exists():
                with contextlib.suppress(SwarmHpcError):
                    argv = self._ssh()
                    command.run([*argv[:-1], "-O", "exit", argv[-1]], timeout_s=10, check=False)
            self._folder.cleanup()
            self._folder = None


def is_here(address: str) -> bool:
    """Whether `address` (IPv4 or name) belongs to this machine: towards it, it is its own source."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(address, None, socket.AF_INET, socket.SOCK_STREAM)}
    except OSError:
        return False
    for ip in found:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            try:
                s.connect((ip, 9))  # sends nothing; the kernel chooses the address it would send from
            except OSError:
                return False
            if s.getsockname()[0] != ip:
                return False
    return bool(found)


def parse_facts(text: str, *, ours_s: float) -> MachineFacts:
    """The facts script's lines as a dataclass; `ours_s` is this machine's clock at that moment."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and re.fullmatch(r"[a-z]+", key):
            found.setdefault(key, []).append(value.strip())

    def one(key: str) -> str:
        return found.get(key, [""])[0]

    def number(key: str) -> int:
        return int(one(key)) if one(key).isdigit() else 0

    addresses = {}
    for entry in found.get("address", ()):
        net, _, device = entry.partition(" ")
        addresses[net.partition("/")[0]] = device
    routes = {}
    for entry in found.get("route", ()):
        device, to, mask = entry.split()
        prefix = int(mask, 16).bit_count()
        if prefix:  # hexadecimal, little-endian (proc(5), /proc/net/route)
            ip = socket.inet_ntoa(int(to, 16).to_bytes(4, "little"))
            routes[f"{device} {ip}"] = f"{ip}/{prefix}"
    clock = one("clock")
    return MachineFacts(
        hostname=one("hostname"),
        os=one("os"),
        kernel=one("kernel"),
        ipvs=one("ipvs") == "yes",
        engine_installed=one("installed") == "yes",
        engine_version=one("engine"),
        prepared=one("prepared"),
        addresses=addresses,
        routes=routes,
        listens=frozenset(int(p, 16) for p in found.get("listens", ())),
        cgroup_version=one("cgroup"),
        cpus=number("cpus") or 1,
        memory_mib=number("memory") // 1024,
        clock_skew_s=float(clock) - ours_s if re.fullmatch(r"\d+\.\d+", clock) else 0.0,
        shared=one("shared"),
    )
