"""What a machine lacks to be a node, and what an earlier run changed on it. Plain functions that touch nothing.

Travels to the machine beside library/swarmhpc_machine.py and runs there with its own python3, 3.8 or newer.
`s` is what `seen` of that module found, `want` are its options. Tests: tests/unit/test_ansible.py.
"""

from __future__ import annotations

import ipaddress

RECORD_FOLDER = "/etc/swarmhpc"
RECORD = RECORD_FOLDER + "/prepared.json"
MODULES_FILE = "/etc/modules-load.d/swarmhpc.conf"
MODULES = ("overlay", "br_netfilter", "vxlan", "ip_vs", "ip_vs_rr", "nf_conntrack")
SUPPORTED = "Debian, Ubuntu, Fedora, Rocky Linux, AlmaLinux and what is made from them, with systemd"
TIME_UNITS = ("chrony", "chronyd", "ntp", "ntpd", "ntpsec", "openntpd", "systemd-timesyncd")


def os_release(text):
    """os-release(5) as a mapping."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def is_address(text):
    """Whether a firewall rule can name it as a source."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def openings(want):
    """What must be open: (port or None, protocol, address or `any`). Swarm's ports are for its nodes only."""
    peers = want["swarm_peers"] or ["any"]
    swarm = [*([(2377, "tcp")] if want["manager"] else []), (7946, "tcp"), (7946, "udp"), (4789, "udp")]
    if want["encrypted"]:
        swarm.append((None, "esp"))
    return [
        *((port, protocol, peer) for port, protocol in swarm for peer in peers),
        *((port, "tcp", "any") for port in want["pool_ports"]),
    ]


def opening_text(opening):
    """`2377/tcp from any`: how an opening is recorded and told."""
    port, protocol, source = opening
    return "{} from {}".format(f"{port}/{protocol}" if port else protocol, source)


def opening_rule(firewall, opening):
    """The rule as the firewall itself prints it (ufw 0.36.2 `ufw show added`, firewalld 2.3 `--list-rich-rules`)."""
    port, protocol, source = opening
    if firewall == "firewalld":
        family = "" if source == "any" else f'family="{_family(source)}" source address="{source}" '
        what = f'port port="{port}" protocol="{protocol}"' if port else f'protocol value="{protocol}"'
        return f"rule {family}{what} accept"
    if source == "any":
        return f"ufw allow {port}/{protocol}" if port else "ufw allow to any proto " + protocol
    where = f"to any port {port} proto {protocol}" if port else "proto " + protocol
    return f"ufw allow from {source} {where}"


def _family(address):
    return f"ipv{ipaddress.ip_network(address, strict=False).version}"


def opening_commands(firewall, openings, *, close):
    """The commands that open (or close) them, now and for ever."""
    rules = [opening_rule(firewall, opening) for opening in openings]
    if firewall == "firewalld" and rules:
        option = "--remove-rich-rule=" if close else "--add-rich-rule="
        options = [option + rule for rule in rules]
        return [["firewall-cmd", *options], ["firewall-cmd", "--permanent", *options]]
    return [["ufw", "delete", *rule.split()[1:]] if close else [*rule.split(), "comment", "swarmhpc"] for rule in rules]


def parse_opening(text):
    """The inverse of `opening_text`."""
    what, _, source = text.partition(" from ")
    port, _, protocol = what.rpartition("/")
    return (int(port) if port else None, protocol, source)


def family(release):
    """`apt` or `dnf` where we know how to install, else empty."""
    names = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if names & {"debian", "ubuntu"}:
        return "apt"
    return "dnf" if names & {"fedora", "rhel", "centos", "rocky", "almalinux"} else ""


def refusal(s):
    """Why this machine can't be prepared; empty when it can."""
    name = s["os"].get("PRETTY_NAME") or s["os"].get("ID") or "a system without /etc/os-release"
    if not family(s["os"]):
        return f"this is {name}; supported are {SUPPORTED}"
    if not s["systemd"]:
        return f"this is {name} without systemd as its init; supported are {SUPPORTED}"
    if not s["root"]:
        return "root is wanted and this is not root"
    return ""


def wanted_packages(s, want):
    """Packages to ask for (docker-cli is added where apt has it), and why there is none."""
    apt = family(s["os"]) == "apt"
    packages = []
    if not s["engine"] and "dockerd" not in s["commands"]:
        if apt:
            packages += ["docker.io"]
            if s["apparmor"] and "apparmor_parser" not in s["commands"]:
                packages += ["apparmor"]  # with AppArmor on no container starts without it; only recommended
            if not s["certificates"]:
                packages += ["ca-certificates"]  # only recommended as well; registries need them
        elif s["os"].get("ID") == "fedora":
            packages += ["moby-engine"]
        else:
            return [], (
                "{} has no Docker engine among its packages; wanted: a running one. Install Docker's own (package "
                "docker-ce, docs.docker.com/engine/install/rhel) and run this again".format(
                    s["os"].get("PRETTY_NAME") or s["os"].get("ID")
                )
            )
    elif apt and "docker" not in s["commands"]:
        packages += ["docker-cli"]
    if "iptables" not in s["commands"]:
        packages += ["iptables" if apt else "iptables-nft"]
    if want["time_service"] and not any(s["units"].get(unit, [""])[0] == "active" for unit in TIME_UNITS):
        packages += ["chrony"]
    return packages, ""


def findings(s, *, engine_coming):
    """What a person should know, and what stops nothing."""
    found = []
    if s["modules"]["ip_vs"] == "missing":
        found.append("no IPVS in this kernel: no virtual IPs and no routing mesh; the pool falls back to DNS")
    missing = [name for name in ("overlay", "vxlan") if s["modules"][name] == "missing"]
    if missing:
        found.append("the kernel has no module {}: overlay networks may not work".format(" and ".join(missing)))
    active = [unit for unit in TIME_UNITS if s["units"].get(unit, [""])[0] == "active"]
    if not active:
        found.append("no time service is active (chrony, systemd-timesyncd, ntp): the clock may drift")
    elif not s["synchronised"]:
        found.append(f"clock is not synchronised, although {active[0]} is active")
    if s["engine"] and not engine_coming and s["ip_forward"] == "0":
        found.append("net.ipv4.ip_forward is 0 although the engine sets it at its start: something resets it")
    if s["selinux"]:
        found.append("SELinux enforces: not tested; jobs may be refused their scratch directory")
    return found


def modules_file(s):
    """Only modules that this kernel has: systemd-modules-load fails on others."""
    names = [name for name in MODULES if s["modules"][name] != "missing"]
    return "# Written by swarmhpc (ansible/), for overlay networks and IPVS; removed by its undo.\n" + "".join(
        name + "\n" for name in names
    )


def engine_is_ours(our_packages):
    """Whether we installed the engine."""
    return bool({"docker.io", "moby-engine"} & set(our_packages))


def lacks(s, want):
    """What is to be done on this machine, and what the record of it will be."""
    refuse = refusal(s)
    packages, no_engine = ([], "") if refuse else wanted_packages(s, want)
    refuse = refuse or no_engine
    directory = want["execute_dir"]
    if not refuse and s["folders"].get(directory) == "not a directory":
        refuse = f"{directory} is wanted as a directory and is something else"
    if refuse:
        return {"refuse": refuse, "any": False, "plan": [], "findings": []}

    old = s["record"]
    docker = s["units"].get("docker", ["inactive", ""])
    # An engine that answers without a unit called docker (snap, rootless …) is somebody's own affair.
    start = not s["engine"] or ("docker" in s["units"] and docker[1] == "disabled")
    file_text = modules_file(s)
    load = [name for name in MODULES if s["modules"][name] == "loadable"]
    folders = sorted(path for path, mode in s["folders"].items() if mode is None)
    wrong_mode = s["folders"].get(directory) not in (None, "0755") and directory in old.get("folders", [])

    firewall = s["firewall"]
    recorded = [o["opening"] for o in old.get("openings", []) if o["firewall"] == firewall]
    wanted_now = openings(want) if firewall else []
    opened = [o for o in wanted_now if opening_rule(firewall, o) not in s["openings"]]
    texts = {opening_text(o) for o in wanted_now}
    closed = [parse_opening(t) for t in recorded if t not in texts] if firewall else []
    kept = [o for o in old.get("openings", []) if o["firewall"] != firewall or o["opening"] in texts]
    fresh = [{"firewall": firewall, "opening": opening_text(o)} for o in opened]

    plan = []
    if packages:
        plan.append("install {}".format(", ".join(packages)))
    if start:
        plan.append("start and enable docker.service")
    if load:
        plan.append("load the kernel modules {}".format(", ".join(load)))
    if file_text != s["modules_file"]:
        plan.append(f"write {MODULES_FILE}")
    plan += [f"open {opening_text(o)} in {firewall}" for o in opened]
    plan += [f"close {opening_text(o)} in {firewall}" for o in closed]
    if folders or wrong_mode:
        plan.append(f"make the directory {directory}")
    if plan or old.get("version") != want["version"]:
        plan.append(f"write {RECORD}")

    asked_for = sorted({*old.get("packages_asked_for", []), *packages})
    ours = engine_is_ours(asked_for)
    record = {
        "packages_asked_for": asked_for,
        "packages": old.get("packages", []),
        "made_docker_group": bool(old.get("made_docker_group") or (ours and not s["has_docker_group"])),
        # How the engine's unit was before, where the engine is not ours: what undo goes back to.
        "engine_unit_was": None if ours else old.get("engine_unit_was") or (docker if start else None),
        "openings": kept + [o for o in fresh if o not in kept],
        "folders": sorted({*old.get("folders", []), *folders}),
    }
    return {
        "refuse": "",
        "any": bool(plan),
        "plan": plan,
        "findings": findings(s, engine_coming=start),
        "family": family(s["os"]),
        "packages": packages,
        "start": start,
        "load": load,
        "modules_file": file_text,
        "folders": folders or ([directory] if wrong_mode else []),
        "firewall_commands": [
            *opening_commands(firewall, opened, close=False),
            *opening_commands(firewall, closed, close=True),
        ],
        "record": record,
    }


def leftovers(s, want):
    """What undo has to take away: what the record says, and nothing else."""
    record = s["record"]
    if not s["root"]:
        return {"refuse": "root is wanted and this is not root", "any": False, "plan": [], "findings": []}
    if not record:
        found = [f"nothing to undo: there is no {RECORD}"]
        return {"refuse": "", "any": False, "plan": [], "findings": found}
    ours = engine_is_ours(record.get("packages", []))
    was = record.get("engine_unit_was")
    refuse = ""
    if s["swarm"] not in ("inactive", ""):
        refuse = "it is still in a Swarm (its state there: {}); wanted: out of it".format(s["swarm"])
    elif s["containers"] and (ours or (was and was[0] != "active")):
        refuse = "{} containers run on the engine that undo would stop; wanted: none".format(s["containers"])
    if refuse:
        return {"refuse": refuse, "any": False, "plan": [], "findings": []}

    firewall = s["firewall"]
    mine = [o["opening"] for o in record.get("openings", []) if o["firewall"] == firewall]
    asleep = sorted({o["firewall"] for o in record.get("openings", []) if o["firewall"] != firewall})
    found = [f"openings made in {name} stay: {name} does not run now" for name in asleep]
    if ours:
        found.append("the engine's packet filter rules last until the machine restarts")
        if not want["purge"]:
            found.append("/var/lib/docker and /var/lib/containerd stay, with images and volumes; purge deletes them")
    folders = sorted(record.get("folders", []), reverse=True)
    found += [f"{path} stays: something is mounted there" for path in folders if s["mounts"].get(path)]
    # The innermost folder holds what jobs left; one above it may hold other people's things.
    folders = [path for path in folders if not s["mounts"].get(path)]
    trees = [path for path in folders if not any(other.startswith(path + "/") for other in record["folders"])]
    packages = record.get("packages", [])
    plan = [f"close {opening} in {firewall}" for opening in mine]
    plan += ["remove the packages {}".format(", ".join(packages))] if packages else []
    plan += [f"remove {path}" for path in (*folders, MODULES_FILE, RECORD_FOLDER)]
    return {
        "refuse": "",
        "any": True,
        "plan": plan,
        "findings": found,
        "family": family(s["os"]),
        "packages": packages,
        "engine_is_ours": ours,
        "remove_docker_group": bool(record.get("made_docker_group")),
        "disable": bool(was) and was[1] == "disabled",
        "stop": bool(was) and was[0] != "active",
        "firewall_commands": opening_commands(firewall, [parse_opening(o) for o in mine], close=True),
        "trees": trees,
        "empty_folders": [path for path in folders if path not in trees],
    }
