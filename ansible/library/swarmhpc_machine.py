#!/usr/bin/python3
"""Looks at a machine and says what it lacks (or, for undo, what we changed on it). Changes nothing.

One look instead of a task for each question: a machine that lacks nothing is done after one round trip. `seen` asks
the machine; module_utils/swarmhpc_decide.py decides. Runs on the machine with its own python3, 3.8 or newer.
"""

from __future__ import annotations

import ctypes
import grp
import json
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.swarmhpc_decide import (
    MODULES,
    MODULES_FILE,
    RECORD,
    TIME_UNITS,
    is_address,
    lacks,
    leftovers,
    os_release,
)

UNITS = ("docker", "firewalld", *TIME_UNITS)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised to a reliable server


def run(*argv):
    """Exit code and output of a program; (127, "") where there is none."""
    env = {**os.environ, "LC_ALL": "C", "PATH": PATH}
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=env, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 127, ""
    return done.returncode, done.stdout.decode(errors="replace")


def text_of(path):
    """The file's text; empty where it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def ask_engine(path):
    """The engine's answer to GET `path` on its socket: head and body; two empty texts where nothing answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(20)
            s.connect("/var/run/docker.sock")
            s.sendall(b"GET " + path.encode() + b" HTTP/1.0\r\nHost: docker\r\n\r\n")
            answer = b"".join(iter(lambda: s.recv(65536), b"")).decode(errors="replace")
    except OSError:
        return "", ""
    head, _, body = answer.partition("\r\n\r\n")
    return head, body


def engine_version():
    """From the header `Server: Docker/26.1.5 (linux)` of the ping, which costs a tenth of /version."""
    head, _ = ask_engine("/_ping")
    servers = [line.split("/", 1)[1].split()[0] for line in head.splitlines() if line.startswith("Server: Docker/")]
    return servers[0] if servers else ("unknown" if " 200 " in head else "")


def engine_info():
    """{} where nothing answers. Docker's API, `GET /info`."""
    try:
        return json.loads(ask_engine("/info")[1])
    except ValueError:
        return {}


def units():
    """{unit: (load state, active state, enabled state)} of the units we care for."""
    _, out = run("systemctl", "show", "-p", "Id,LoadState,ActiveState,UnitFileState", *UNITS)
    found = {}
    for block in out.split("\n\n"):
        unit = os_release(block)
        if unit.get("LoadState") == "loaded":
            name = unit["Id"][: -len(".service")] if unit["Id"].endswith(".service") else unit["Id"]
            found[name] = [unit.get("ActiveState", ""), unit.get("UnitFileState", "")]
    return found


def module_state(name):
    """`loaded` (or built in), `loadable`, or `missing`."""
    if Path("/sys/module", name).is_dir() or (name == "ip_vs" and Path("/proc/net/ip_vs").exists()):
        return "loaded"
    if run("modprobe", "-n", "-q", name)[0] != 0:
        return "missing"
    # `modprobe -n` is content with a module that is built in as well, and that one has no file to load.
    return "loadable" if ".ko" in run("modprobe", "--show-depends", name)[1] else "loaded"


def mode_of(path):
    """Permission bits as `0755`; `not a directory`; None where there is nothing."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return format(stat.S_IMODE(status.st_mode), "04o") if stat.S_ISDIR(status.st_mode) else "not a directory"


def clock_is_synchronised():
    """What the kernel says (adjtimex(2) with modes = 0 only reads; struct timex has 208 bytes on 64-bit Linux)."""
    return ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024)) != TIME_ERROR


def openings_there(firewall):
    """The running firewall's rules, each in its own words."""
    if firewall == "ufw":
        return [line.split(" comment ")[0].strip() for line in run("ufw", "show", "added")[1].splitlines()]
    if firewall == "firewalld":
        now = run("firewall-cmd", "--list-rich-rules")[1].splitlines()
        later = run("firewall-cmd", "--permanent", "--list-rich-rules")[1].splitlines()
        return sorted({line.strip() for line in now} & {line.strip() for line in later})
    return []


def running_firewall(seen_units):
    """`firewalld`, `ufw` or empty. ufw's unit says nothing: `ufw enable` does not start it, `ufw disable` not stop."""
    if seen_units.get("firewalld", [""])[0] == "active":
        return "firewalld"
    enabled = os_release(text_of("/etc/ufw/ufw.conf")).get("ENABLED", "").lower() == "yes"
    return "ufw" if enabled and run("ufw", "status")[1].startswith("Status: active") else ""


def seen(execute_dir, *, undo):
    """Everything that `lacks` and `leftovers` decide on."""
    try:
        record = json.loads(text_of(RECORD) or "{}")
    except ValueError:
        record = {}
    directory = Path(execute_dir)
    folders = {str(path): mode_of(path) for path in (directory, *directory.parents) if path.name}
    commands = ("dockerd", "docker", "iptables", "apt-get", "dnf", "apparmor_parser")
    there = units()
    firewall = running_firewall(there)
    info = engine_info() if undo else {}
    return {
        "os": os_release(text_of("/etc/os-release")),
        "systemd": Path("/run/systemd/system").is_dir(),
        "root": os.geteuid() == 0,
        "commands": [name for name in commands if shutil.which(name, path=PATH)],
        "engine": engine_version(),
        "swarm": (info.get("Swarm") or {}).get("LocalNodeState", "inactive"),
        "containers": info.get("ContainersRunning", 0),
        "units": there,
        "modules": {name: module_state(name) for name in MODULES},
        "modules_file": text_of(MODULES_FILE),
        "firewall": firewall,
        "openings": openings_there(firewall),
        "folders": folders,
        "mounts": {path: os.path.ismount(path) for path in record.get("folders", [])},
        "synchronised": clock_is_synchronised(),
        "ip_forward": text_of("/proc/sys/net/ipv4/ip_forward").strip(),
        "apparmor": text_of("/sys/module/apparmor/parameters/enabled").startswith("Y"),
        "selinux": text_of("/sys/fs/selinux/enforce").strip() == "1",
        "certificates": any(Path(path).exists() for path in CERTIFICATES),
        "has_docker_group": any(group.gr_name == "docker" for group in grp.getgrall()),
        "record": record,
    }


def main():
    """Options in, what was seen and what is to be done out."""
    module = AnsibleModule(
        argument_spec={
            "undo": {"type": "bool", "default": False},
            "purge": {"type": "bool", "default": False},
            "execute_dir": {"type": "path", "required": True},
            "pool_ports": {"type": "list", "elements": "int", "default": []},
            "swarm_peers": {"type": "list", "elements": "str", "default": []},
            "manager": {"type": "bool", "default": True},
            "encrypted": {"type": "bool", "default": False},
            "time_service": {"type": "bool", "default": False},
            "version": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    want = module.params
    for peer in want["swarm_peers"]:
        if not is_address(peer):
            module.fail_json(msg=f"swarmhpc_swarm_peers: {peer!r} is not an IP address or network")
    s = seen(want["execute_dir"], undo=want["undo"])
    todo = leftovers(s, want) if want["undo"] else lacks(s, want)
    report = {"findings": todo["findings"], "plan": todo["plan"]}
    if todo["refuse"]:
        module.fail_json(msg=todo["refuse"], seen=s)
    module.exit_json(changed=False, seen=s, todo=todo, swarmhpc_report=report)


if __name__ == "__main__":
    main()
