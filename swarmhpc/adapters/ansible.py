"""Ansible: the playbooks of ansible/ on many machines at once, with one live line and one result a machine.

`ansible-playbook` runs as a program of this Python's own environment (`python -m ansible`, ansible-core 2.18 and
2.19), with the settings of ansible/ansible.cfg and nobody else's. A callback plugin of ours writes events as JSON
lines; ansible-runner would be the library for that, but it takes over this process's signal handlers, runs Ansible on
a terminal where ssh can ask, and brings three packages.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from swarmhpc import state
from swarmhpc.errors import SwarmHpcError

if TYPE_CHECKING:
    import subprocess

VARIABLES: Final = frozenset(
    {"execute_dir", "pool_ports", "swarm_peers", "encrypted", "time_service", "apt_options", "purge"}
)
"""What `variables` of `run` may hold; ansible/README.md has their meaning (there with `swarmhpc_` before the name)."""


@dataclass(frozen=True)
class Target:
    """A machine and how to reach it. `user` empty: whoever ssh's own configuration says. `key`: path of a private key,
    None for the agent's and ssh's defaults. `local`: this very machine, without ssh. `manager`: its port 2377 opens."""

    name: str
    address: str
    user: str = "root"
    port: int = 22
    key: str | None = None
    local: bool = False
    manager: bool = True


@dataclass(frozen=True)
class HostResult:
    """How it went on one machine. `changed`: tasks that changed something (in check mode: 1 if something would be).
    `message`: empty, or what failed, in the machine's own words, with a hint. `findings`: what a person should know.
    `plan`: what was to be done when the machine was looked at."""

    name: str
    ok: bool
    changed: int = 0
    message: str = ""
    kind: Literal["ok", "failed", "unreachable"] = "ok"
    findings: tuple[str, ...] = ()
    plan: tuple[str, ...] = ()


def version(variables: Mapping[str, object], *, manager: bool) -> str:
    """Twelve hex digits that change when the playbooks or what they are told do. A machine's record holds the one it
    was prepared with."""
    top = state.assets("ansible")
    digest = hashlib.sha256()
    for path in sorted(top.rglob("*")):
        if path.suffix in {".py", ".yml"} and "__pycache__" not in path.parts:
            digest.update(path.relative_to(top).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    told = {key: value for key, value in variables.items() if key not in {"apt_options", "purge"}}
    told["manager"] = manager
    digest.update(json.dumps(told, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def run(
    playbook: Literal["prepare", "undo"],
    targets: Sequence[Target],
    *,
    variables: Mapping[str, object],
    check: bool = False,
    known_hosts: str | None = None,
    on_host: Callable[[str, str], None],
) -> dict[str, HostResult]:
    """Runs a playbook on all targets at once; one result a target, by name, in their order.

    `on_host(name, text)` is called with the task that begins on a machine. A machine's failure stops only that
    machine and is never an exception. Host keys: those of new machines are accepted into `known_hosts` (a file; the
    user's own where None), a changed one is refused. Raises SwarmHpcError when Ansible itself can't run, ValueError
    for an unknown variable. An interruption ends Ansible; the next run goes on from there.
    """
    import subprocess

    if unknown := set(variables) - VARIABLES:
        raise ValueError(f"unknown variables for the playbooks: {sorted(unknown)}; known: {sorted(VARIABLES)}")
    if not targets:
        return {}
    if not all(t.local for t in targets) and not shutil.which("ssh"):
        raise SwarmHpcError(
            "ssh: no such program on this machine; it is wanted to reach the others",
            hint="apt-get install openssh-client   (RHEL family: dnf install openssh-clients)",
        )
    top = state.assets("ansible")
    # A short path: ssh's control sockets live in it, and a socket's path has at most 107 bytes (unix(7)).
    with tempfile.TemporaryDirectory(prefix="swarmhpc-", dir="/tmp") as folder:  # made 0700
        private = Path(folder)
        (private / "hosts.yml").write_text(inventory(targets, variables, known_hosts=known_hosts), encoding="utf-8")
        argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(private / "hosts.yml")]
        argv += [*(["--check"] if check else []), str(top / f"{playbook}.yml")]
        events = Events(targets, on_host)
        with (private / "stderr").open("w+b") as complaints:
            # A session of its own: no terminal that ssh could ask on, and Ctrl-C reaches us first.
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=environment(os.environ, private, top),
                cwd=top,
                start_new_session=True,
            )
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    events.take(line.decode(errors="replace"))
                process.wait()
            finally:
                _end(process)
                _close_connections(private / "cp")
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip()
    results = events.results()
    silent = [t.name for t in targets if t.name not in results]
    if silent:
        said = "\n".join([*events.noise, said]).strip()[-2000:] or "nothing"
        missing = "No module named ansible" in said
        raise SwarmHpcError(
            f"Ansible ended with code {process.returncode} and says nothing of {', '.join(silent)}: {said}",
            hint=f"{sys.executable} -m pip install ansible-core" if missing else "",
        )
    return results


# ------------------------------------------------------------------------------------------------ what Ansible is given


def environment(mine: Mapping[str, str], private: Path, top: Path) -> dict[str, str]:
    """This process's environment without anybody's Ansible settings, and with ours."""
    kept = {key: value for key, value in mine.items() if not key.startswith("ANSIBLE_")}
    return {
        **kept,
        "ANSIBLE_CONFIG": str(top / "ansible.cfg"),
        "ANSIBLE_HOME": str(private),
        "ANSIBLE_LOCAL_TEMP": str(private / "tmp"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private / "cp"),
        "ANSIBLE_STDOUT_CALLBACK": "swarmhpc_events",
        "ANSIBLE_NOCOLOR": "1",
        # Ansible refuses to start without a UTF-8 locale.
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def inventory(targets: Iterable[Target], variables: Mapping[str, object], *, known_hosts: str | None) -> str:
    """The inventory as YAML. Every text in it is marked `!unsafe`: what people typed is never a template."""
    import yaml

    class Literally(str):
        """A text that Ansible takes as it is."""

        __slots__ = ()

    class Dumper(yaml.SafeDumper):
        """Writes such texts."""

    Dumper.add_representer(Literally, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))

    def literally(value: object) -> object:
        if isinstance(value, str):
            return Literally(value)
        if isinstance(value, list | tuple | set | frozenset):
            return [literally(item) for item in value]
        return value

    hosts: dict[str, dict[str, object]] = {}
    for t in targets:
        become = os.geteuid() != 0 if t.local else t.user != "root"
        host: dict[str, object] = {"swarmhpc_manager": t.manager, "ansible_become": become}
        host["swarmhpc_version"] = version(variables, manager=t.manager)
        if t.local:
            host |= {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        else:
            host |= {"ansible_host": t.address, "ansible_port": t.port}
            # Naming it spares the round trip that looks for it.
            host |= {"ansible_python_interpreter": "/usr/bin/python3"}
            host |= {"ansible_user": t.user} if t.user else {}
            host |= {"ansible_ssh_private_key_file": t.key} if t.key else {}
        hosts[t.name] = {key: literally(value) for key, value in host.items()}
    shared = {f"swarmhpc_{key}": literally(value) for key, value in variables.items()}
    if known_hosts:
        shared["ansible_ssh_common_args"] = Literally(f"-o UserKnownHostsFile={shlex.quote(known_hosts)}")
    return yaml.dump({"all": {"vars": shared, "hosts": hosts}}, Dumper=Dumper, allow_unicode=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends Ansible and its workers, if they still run; what they began on the machines ends there by itself."""
    import subprocess

    for sign in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
    if process.stdout:
        process.stdout.close()


def _close_connections(folder: Path) -> None:
    """Ends the ssh connections that Ansible left open for its next task."""
    import subprocess

    for control in folder.glob("*") if folder.is_dir() else ():
        argv = ["ssh", "-o", f"ControlPath={control}", "-O", "exit", "gone"]
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)


# ------------------------------------------------------------------------------------------------ what Ansible says


class Events:
    """Collects the events of ansible/callback_plugins/swarmhpc_events.py into one result a host."""

    def __init__(self, targets: Iterable[Target], on_host: Callable[[str, str], None]) -> None:
        self._targets = {t.name: t for t in targets}
        self._on_host = on_host
        self._changed: dict[str, int] = {}
        self._failed: dict[str, tuple[Literal["failed", "unreachable"], str]] = {}
        self._findings: dict[str, list[str]] = {}
        self._plan: dict[str, tuple[str, ...]] = {}
        self.noise: list[str] = []

    def take(self, line: str) -> None:
        """One line of Ansible's standard output; what is no event is kept as noise."""
        try:
            event = json.loads(line)
            kind, name, task = event["event"], event["host"], event["task"]
        except (ValueError, TypeError, KeyError):
            self.noise.append(line.rstrip())
            return
        if kind == "start":
            self._on_host(name, task)
            return
        self._changed[name] = self._changed.get(name, 0) + bool(event["changed"])
        report = event.get("report") or {}
        if "plan" in report:
            # The machine was looked at, from the beginning: what it said before is out of date.
            self._plan.setdefault(name, tuple(report["plan"]))
            self._findings[name] = []
        self._findings.setdefault(name, []).extend(report.get("findings", ()))
        if kind == "unreachable":
            self._failed[name] = ("unreachable", explain(self._targets[name], task, event["result"]))
        elif kind == "failed":
            self._failed[name] = ("failed", explain(self._targets[name], task, event["result"]))

    def results(self) -> dict[str, HostResult]:
        """The targets that were heard of, in their order."""
        found = {}
        for name in self._targets:
            if name not in self._changed:
                continue
            kind: Literal["ok", "failed", "unreachable"]
            kind, message = self._failed.get(name, ("ok", ""))
            found[name] = HostResult(
                name,
                kind == "ok",
                self._changed[name],
                message,
                kind,
                tuple(dict.fromkeys(self._findings.get(name, ()))),
                self._plan.get(name, ()),
            )
        return found


_APT_SOURCES: Final = "see that its apt sources name main (Ubuntu: universe), and that apt-get update works there"
# What a machine, ssh, sudo or apt says, and what to do about it. The first that fits counts.
_HINTS: Final = (
    ("Host key verification failed", "its host key is not the known one. If it was installed anew: {forget}"),
    ("Permission denied (", "give {user} a key that this machine accepts: ssh-copy-id{port} {login}"),
    ("Could not resolve hostname", "correct the address, or let the name resolve here"),
    ("Connection refused", "nothing listens on port {port_number}: start sshd there, or name its port"),
    ("No route to host", "see that it is on and that its address is right: ping {address}"),
    ("timed out", "see that it is on and that no firewall drops ssh: ping {address}"),
    ("a password is required", "{sudoers}"),
    ("Missing sudo password", "{sudoers}"),
    ("not in the sudoers file", "{sudoers}"),
    ("may not run sudo", "{sudoers}"),
    ("a terminal is required", "{sudoers}"),
    ("sudo: not found", "install sudo there and allow {user} to use it, or name root as the user"),
    ("python3: not found", "install python3 there"),
    ("python3: No such file", "install python3 there"),
    ("is expired", "mend its clock or mirror; to accept it: SWARMHPC_APT_OPTIONS=Acquire::Check-Valid-Until=false"),
    ("is not valid yet", "set its clock (timedatectl)"),
    ("Temporary failure resolving", "see that apt-get update works there (DNS? a proxy?)"),
    ("Failed to fetch", "see that apt-get update works there (network? DNS? a proxy?)"),
    ("Unable to locate package", _APT_SOURCES),
    ("no installation candidate", _APT_SOURCES),
    ("dpkg was interrupted", "there: dpkg --configure -a"),
    ("No space left on device", "make room on its disk"),
)


def explain(target: Target, task: str, result: Mapping[str, str]) -> str:
    """One paragraph for a person: machine, task, what it said, what to do."""
    where = f"{target.name} ({'this machine' if target.local else target.address})"
    user = target.user or "you"
    login = f"{target.user}@{target.address}" if target.user else target.address
    said = _own_words(result)
    port = "" if target.port == 22 else f" -p {target.port}"
    known = target.address if target.port == 22 else f"'[{target.address}]:{target.port}'"
    words = {
        "user": user,
        "login": login,
        "address": target.address,
        "port": port,
        "port_number": str(target.port),
        "forget": f"ssh-keygen -R {known}",
        "sudoers": f"let {user} use sudo without a password (in /etc/sudoers.d/swarmhpc: "
        f"{user} ALL=(ALL) NOPASSWD: ALL), or name root as the user",
    }
    everything = "\n".join(result.values())
    if by_ssh := re.search(r"ssh-keygen -f .*", everything):  # it knows which file the old key is in
        words["forget"] = by_ssh.group().strip()
    hint = next((hint.format(**words) for mark, hint in _HINTS if mark.lower() in everything.lower()), "")
    if not target.local and re.search(r"(via|over) ssh: ", result.get("msg", "")):
        task = f"ssh as {target.user}" if target.user else "ssh"
    message = f"{where}: {task}: {said.rstrip('.')}"
    return f"{message}; hint: {hint}" if hint else message


_FRAME = re.compile(
    r"^(Task failed: |Action failed: |Failed to connect to the host via ssh: |Data could not be .* over ssh: )+"
)
_EMPTY_WORDS = re.compile(r"^(non-zero return code|Module result deserialization failed|MODULE FAILURE)", re.IGNORECASE)


def _own_words(result: Mapping[str, str]) -> str:
    """What the machine itself printed, as one line of at most 600 characters; Ansible's words where it said nothing."""
    message = _FRAME.sub("", result.get("msg", ""))
    if message.startswith("Missing sudo password"):
        return "sudo wants a password, or does not know this user"
    candidates = [message] if message and not _EMPTY_WORDS.match(message) else []
    candidates += [result.get(key, "") for key in ("module_stderr", "stderr", "module_stdout", "stdout", "reason")]
    candidates.append(message)
    text = next((c for c in candidates if c.strip()), "nothing was said")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any("REMOTE HOST IDENTIFICATION HAS CHANGED" in line for line in lines):
        lines = [line for line in lines if line.startswith(("Host key", "Offending"))]
    joined = " ".join(line for line in lines if not line.startswith("Warning: Permanently added"))
    return joined if len(joined) <= 600 else f"… {joined[-600:]}"
