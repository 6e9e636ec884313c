"""The virtual lab: several machines on this one, each a User-Mode Linux with systemd, real IPVS and a disk of its own.

    python -m tests.lab.machines up 3 ; python -m tests.lab.machines ssh n1 uname -a ; python -m tests.lab.machines down

One network namespace holds a bridge and a tap for each machine; this host is 10.77.0.254 on it, and the machines reach
the package mirror through the host's address. All that is made is found again from what lies in $SWARMHPC_LAB_DIR
(default /var/cache/swarmhpc-lab), so any later process can go on with the same machines, or remove them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab import image, network
from tests.lab.network import LabError, Machine, machine, machines, run

BOOT_TIMEOUT_S = 240.0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


class Lab:
    """The machines in one folder. Every operation is idempotent; names are `n1`, `n2`, …"""

    def __init__(self, folder: Path | None = None, memory: str = "2G") -> None:
        self.folder = folder or Path(os.environ.get("SWARMHPC_LAB_DIR") or "/var/cache/swarmhpc-lab")
        self.memory = os.environ.get("SWARMHPC_LAB_MEMORY") or memory
        self.key = self.folder / "keys" / "id_ed25519"
        self.known_hosts = self.folder / "known_hosts"
        self.logs = self.folder / "logs"
        self.booted: set[str] = set()  # by this object

    # ---------------------------------------------------------------------------------------------- image and keys

    def build(self) -> image.Image:
        """Kernel and bare disk, made where this recipe's are missing."""
        if problems := image.missing_capabilities():
            raise LabError("the lab cannot run here: " + "; ".join(problems))
        with self._lock("build"):
            return image.ensure(self.folder / "builds", _say)

    def _host_key(self, m: Machine) -> Path:
        """A machine keeps its host key over a reset, so that known_hosts stays right."""
        path = self.folder / "keys" / f"{m.name}_host"
        with self._lock("keys"):
            for each, comment in ((self.key, "swarmhpc-lab"), (path, m.name)):
                if not each.exists():
                    each.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", each)
            known = sorted(self.key.parent.glob("n*_host.pub"))
            lines = [f"{machine(p.name.split('_')[0]).address},{p.name.split('_')[0]} {p.read_text()}" for p in known]
            self.known_hosts.write_text("".join(lines))
        return path

    # -------------------------------------------------------------------------------------------------- the machines

    def boot(self, names: Sequence[str], snapshot: str | None = None) -> None:
        """Start these machines together and wait until ssh answers and systemd has finished; running ones stay.

        A machine without a disk gets a fresh one; with `snapshot`, each that is not running gets that disk.
        """
        built = self.build()
        wanted = machines(names)
        if missing := [m.name for m in wanted if snapshot and not self._snapshot_disk(built, snapshot, m).exists()]:
            raise LabError(f"snapshot {snapshot!r} has no disk of {', '.join(missing)}")
        down = [m for m in wanted if not self.is_running(m.name)]
        self.booted.update(names)
        with self._lock("network"):
            network.raise_network(self.folder)
        memory = image.memory_folder(self.memory, len(down), self.folder)
        started = time.monotonic()
        with ThreadPoolExecutor(len(wanted) or 1) as pool:
            list(pool.map(lambda m: self._start(m, built, snapshot, memory), down))
            states = list(pool.map(lambda m: self._wait_until_up(m, started), wanted))
        for m, state in zip(wanted, states, strict=True):
            _say(f"{m.name} {m.address} {state}")

    def is_running(self, name: str) -> bool:
        return bool(self._group(machine(name)))

    def machine(self, name: str) -> Machine:
        return machine(name)

    def known(self) -> list[Machine]:
        """All that have a disk."""
        return sorted(machines([p.name for p in (self.folder / "machines").glob("n*")]), key=lambda m: m.number)

    def running(self) -> list[Machine]:
        return [m for m in self.known() if self._group(m)]

    def power_off(self, name: str) -> None:
        """As a power cut: no process of it runs another instruction; what it wrote is on its disk."""
        m = machine(name)
        if self._group(m):
            os.killpg(int((self._home(m) / "pid").read_text()), signal.SIGKILL)
        self._wait_until_off(m, 30)

    def shut_down(self, name: str) -> None:
        """As `systemctl poweroff` does; the disk is clean afterwards."""
        if self.is_running(name):
            self.ssh(name, ["systemctl", "poweroff"], check=False)
            self._wait_until_off(machine(name), 120)

    def reset(self, name: str) -> None:
        """Power off and throw the disk away; the next start is a bare machine's first."""
        self.power_off(name)
        if self._home(machine(name)).exists():
            shutil.rmtree(self._home(machine(name)))

    def snapshot(self, label: str, names: Sequence[str]) -> None:
        """Shut these machines down and keep a copy of their disks under `label`; they stay off."""
        if not re.fullmatch(r"[A-Za-z0-9._-]+", label):
            raise LabError(f"snapshot {label!r}: wanted letters, digits, '.', '_' and '-'")
        wanted = machines(names)
        with ThreadPoolExecutor(len(wanted) or 1) as pool:
            list(pool.map(lambda m: self.shut_down(m.name), wanted))
        for m in wanted:
            base = self._home(m) / "base"
            if not base.exists():
                raise LabError(f"{m.name} has no disk to keep: it was never started")
            target = self._snapshot_disk(image.Image(Path(base.read_text()).parent), label, m)
            target.parent.mkdir(parents=True, exist_ok=True)
            run("cp", "--sparse=always", self._home(m) / image.COW, target.with_suffix(".new"))
            target.with_suffix(".new").rename(target)

    def has_snapshot(self, label: str, names: Sequence[str]) -> bool:
        """Whether `boot(names, snapshot=label)` would find all disks, made over today's bare disk."""
        built = self.build()
        return all(self._snapshot_disk(built, label, m).exists() for m in machines(names))

    def drop_snapshot(self, label: str) -> None:
        for folder in (self.folder / "snapshots").glob(f"*/{label}"):
            shutil.rmtree(folder)

    def cut(self, name: str) -> None:
        """Off the network: the tap leaves the bridge; inside, its carrier stays."""
        network.unplug(machine(name).tap)

    def heal(self, name: str) -> None:
        network.plug(machine(name).tap)

    def destroy(self, names: Sequence[str] | None = None) -> None:
        """These machines (None: all) with their disks; with the last one the network goes too.

        Builds, snapshots, keys and logs stay; they are files under `folder` and nothing else.
        """
        network.refuse_foreign(self.folder)
        for name in [m.name for m in self.known()] if names is None else names:
            self.reset(name)
        with self._lock("network"):
            if not self.known():
                network.remove_network(self.folder)
                self._prune()

    # ----------------------------------------------------------------------------------------------- reaching them

    def ssh_options(self) -> list[str]:
        """For ssh, and joined by spaces for pytest-testinfra's `ssh_extra_args`."""
        known = f"UserKnownHostsFile={self.known_hosts}"
        return ["-o", known, "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10",
                "-o", "LogLevel=ERROR"]  # fmt: skip

    def ssh(
        self,
        name: str,
        command: str | Sequence[str],
        *,
        check: bool = True,
        timeout_s: float = 300,
        user: str = "root",
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run an argument list, or a string as a shell script, on a machine.

        Raises LabError when it takes longer than `timeout_s`, or with `check` when the exit code is not 0.
        """
        script = command if isinstance(command, str) else shlex.join(command)
        line = ["ssh", "-i", str(self.key), *self.ssh_options(), f"{user}@{machine(name).address}", "--", script]
        try:
            done = subprocess.run(
                line, capture_output=True, text=True, timeout=timeout_s, check=False,
                **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{name}: `{script}` ran longer than {timeout_s:g} s") from error
        assert isinstance(done, subprocess.CompletedProcess)
        if check and done.returncode:
            raise LabError(f"{name}: `{script}`: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def console(self, name: str) -> Path:
        """What the machine printed since its last start."""
        return self.logs / f"{machine(name).name}.console"

    def collect_logs(self, label: str) -> Path:
        """The consoles, and the journal of every machine that still answers, into a folder of their own."""
        folder = self.logs / re.sub(r"[^\w.-]", "_", label)
        folder.mkdir(parents=True, exist_ok=True)
        for m in self.known():
            with contextlib.suppress(OSError):
                shutil.copy(self.console(m.name), folder)
        for m in self.running():
            with contextlib.suppress(LabError):
                done = self.ssh(m.name, ["journalctl", "-b", "--no-pager", "-o", "short-precise"], timeout_s=60)
                (folder / f"{m.name}.journal").write_text(done.stdout)
        return folder

    # ------------------------------------------------------------------------------------------------------ inside

    def _home(self, m: Machine) -> Path:
        return self.folder / "machines" / m.name

    def _snapshot_disk(self, built: image.Image, label: str, m: Machine) -> Path:
        # A copy-on-write disk is worth nothing without the very disk that it was made over.
        return self.folder / "snapshots" / built.hash / label / f"{m.name}.cow"

    def _prune(self) -> None:
        """Drop what earlier recipes made; only when no machine is left."""
        today = image.recipe_hash(image.host_source())
        for old in [*(self.folder / "builds").glob("*"), *(self.folder / "snapshots").glob("*")]:
            if old.is_dir() and old.name != today:
                shutil.rmtree(old)

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _group(self, m: Machine) -> set[int]:
        """The machine's processes: a main one, its helpers, and one for each address space inside.

        A pid file may outlive its process and the number may have gone to something else, so each one's program is
        looked at: it must be a kernel of this lab.
        """
        try:
            leader = int((self._home(m) / "pid").read_text())
        except (OSError, ValueError):
            return set()
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    # pid (command) state parent group …
                    group = (entry / "stat").read_text().rpartition(")")[2].split()[2]
                    if int(group) == leader and (entry / "exe").readlink().is_relative_to(self.folder / "builds"):
                        found.add(int(entry.name))
        return found

    def _start(self, m: Machine, built: image.Image, snapshot: str | None, memory: Path) -> None:
        home = self._home(m)
        if snapshot:
            shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(home / "uml", ignore_errors=True)  # a killed kernel leaves its socket
        (home / "uml").mkdir(parents=True)
        if snapshot:
            run("cp", "--sparse=always", self._snapshot_disk(built, snapshot, m), home / image.COW)
        # A disk goes on over the one that it was made over, also when the recipe has changed since.
        over = built
        if (home / image.COW).exists() and not snapshot:
            over = image.Image(Path((home / "base").read_text()).parent)
        (home / "base").write_text(str(over.disk))
        image.write_identity(home / image.IDENTITY, m, self._host_key(m), self.key.with_suffix(".pub"))
        self.logs.mkdir(parents=True, exist_ok=True)
        network.plug(m.tap)
        command = over.command(m, home, self.memory)
        # A session of its own, so that it outlives this process and can be killed as a group.
        script = f"echo $$ >{shlex.quote(str(home / 'pid'))}; exec {shlex.join(command)}"
        with self.console(m.name).open("w") as console:
            subprocess.run(
                ["setsid", "--fork", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                env={**os.environ, "TMPDIR": str(memory)}, check=True,
            )  # fmt: skip
        # The shell, then `ip`, then the kernel: only the last is what _group looks for.
        deadline = time.monotonic() + 10
        while not self._group(m) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _wait_until_up(self, m: Machine, started: float) -> str:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while True:
            if not self._group(m):
                self._give_up(m, "its kernel has ended")
            if time.monotonic() > deadline:
                self._give_up(m, f"ssh has not answered within {BOOT_TIMEOUT_S:g} s")
            with contextlib.suppress(OSError), socket.create_connection((m.address, 22), timeout=2) as connection:
                if connection.recv(4) == b"SSH-":
                    break
            time.sleep(0.2)
        at_ssh = time.monotonic() - started
        state = self.ssh(m.name, ["systemctl", "is-system-running", "--wait"], check=False, timeout_s=BOOT_TIMEOUT_S)
        text = state.stdout.strip()
        if text not in ("running", "degraded"):
            self._give_up(m, f"systemd says {text or state.stderr.strip()!r}")
        if text == "degraded":
            failed = self.ssh(m.name, "systemctl --failed --plain --no-legend | cut -d' ' -f1").stdout
            text += ": " + failed.replace("\n", " ")
        return f"{text} (ssh at {at_ssh:.0f} s, systemd done at {time.monotonic() - started:.0f} s)"

    def _wait_until_off(self, m: Machine, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while left := self._group(m):
            if time.monotonic() > deadline:
                raise LabError(
                    f"{m.name} is not off after {timeout_s:g} s; processes {sorted(left)}; {self.console(m.name)}"
                )
            time.sleep(0.1)
        (self._home(m) / "pid").unlink(missing_ok=True)

    def _give_up(self, m: Machine, why: str) -> None:
        console = self.console(m.name)
        last = "\n".join(console.read_text(errors="replace").splitlines()[-15:])
        raise LabError(f"{m.name} did not boot: {why}. Console: {console}, its last lines:\n{last}")


def _names(words: Sequence[str]) -> list[str]:
    """`3` is n1 n2 n3; names are themselves; nothing is three."""
    names = [f"n{i}" for i in range(1, int(words[0]) + 1)] if len(words) == 1 and words[0].isdigit() else list(words)
    return [m.name for m in machines(names or ["n1", "n2", "n3"])]


def _command(lab: Lab, verb: str, words: list[str]) -> int:
    match verb, words:
        case "build", []:
            _say(str(lab.build().folder))
        case "up", _:
            snapshot = words.pop().removeprefix("--from=") if words and words[-1].startswith("--from=") else None
            lab.boot(_names(words), snapshot)
        case "down", _:
            lab.destroy(_names(words) if words else None)
        case "list", []:
            for m in lab.running():
                _say(f"{m.name} {m.address} console: {lab.console(m.name)}")
        case "ssh", [name, *rest]:
            line = ["ssh", "-i", str(lab.key), *lab.ssh_options(), f"root@{machine(name).address}"]
            script = ["--", shlex.join(rest) if len(rest) > 1 else rest[0]] if rest else []
            return subprocess.run([*line, *script], check=False).returncode
        case "start", [_, *_]:
            lab.boot(_names(words))
        case (("kill" | "stop" | "reset" | "cut" | "heal"), [_, *_]):
            operation = {
                "kill": lab.power_off,
                "stop": lab.shut_down,
                "reset": lab.reset,
                "cut": lab.cut,
                "heal": lab.heal,
            }
            for name in _names(words):
                operation[verb](name)
        case "snapshot", [label, *rest]:
            lab.snapshot(label, _names(rest) if rest else [m.name for m in lab.running()])
        case _:
            _say(f"unknown: {verb} {shlex.join(words)}\n{_USAGE}")
            return 2
    return 0


_USAGE = """\
usage: python -m tests.lab.machines VERB …      (as root; names are n1, n2, …; N means n1 to nN)
  build                    kernel and bare disk, if they are missing
  up [N | NAME…] [--from=LABEL]   boot what is not running; with fresh disks, their own, or a snapshot's
  list                     what runs
  ssh NAME [COMMAND…]      a shell, or one command, as root
  stop NAME…               shut down        kill NAME…   power cut        start NAME…   again, as `up` does
  cut NAME…  heal NAME…    off the network, and back
  reset NAME…              power off and drop the disk
  snapshot LABEL [NAME…]   shut down and keep copies of the disks
  down [NAME…]             machines and their disks away; with the last one (or no name) the network too
Consoles: $SWARMHPC_LAB_DIR/logs (default /var/cache/swarmhpc-lab); `rm -r` that folder after `down`: all is gone."""


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        _say(_USAGE)
        return 0 if arguments else 2
    try:
        return _command(Lab(), arguments[0], list(arguments[1:]))
    except LabError as error:
        _say(f"error: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
