"""What doctor's facts mean: each finding with the command that mends it. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from swarmhpc import state
from swarmhpc.cluster import plan
from swarmhpc.config import Cluster
from swarmhpc.errors import SwarmOwnershipError
from swarmhpc.units import format_mib

if TYPE_CHECKING:
    from swarmhpc.adapters.docker import Container, EngineFacts
    from swarmhpc.cluster.doctor import Access, Facts

DISK_WARNING_MIB = 5 * 1024
DISK_PROBLEM_MIB = 1024
_ENGINE_AT_LEAST = (20, 10)  # the oldest engine the pool ran on (facts)
_CLOCK_FLOOR_S = 1767225600  # 2026-01-01: this program is younger, so an earlier clock is wrong
_CLOCK_SLACK_S = 300
SWARM_PORTS = {2377: "Swarm's management", 7946: "Swarm's node discovery"}
_AGAIN = "swarmhpc doctor"


@dataclass(frozen=True)
class Check:
    """One finding. `mend` is the command (or the one change) that mends it; empty when `status` is ok.

    `machine`: the machine, or the pair of them (`n1 → n2`), where a pool has several and this is not about all.
    """

    name: str
    status: Literal["ok", "warning", "problem"]
    seen: str
    mend: str = ""
    machine: str = ""


def judge(facts: Facts, cluster: Cluster) -> list[Check]:
    """What the facts mean: one Check a rule, the same names in the same order whatever was found. Pure."""
    rules: tuple[Callable[[Facts, Cluster], Check], ...] = (
        *(_docker_command, _engine, _cgroups, _ipvs, _swarm, _nodes, _ports_free, _subnet, _engine_disk, _job_disk),
        *(_image, _services, _jobs, _leftovers, _context, _clock),
    )
    return [rule(facts, cluster) for rule in rules]


def ok(name: str, seen: str) -> Check:
    """Nothing to mend."""
    return Check(name, "ok", seen)


def warning(name: str, seen: str, mend: str, machine: str = "") -> Check:
    """The pool works, but not as it should."""
    return Check(name, "warning", seen, mend, machine)


def problem(name: str, seen: str, mend: str, machine: str = "") -> Check:
    """Something can't work."""
    return Check(name, "problem", seen, mend, machine)


def not_checked(name: str, why: str) -> Check:
    """Nobody could look."""
    return warning(name, f"not checked: {why}", f"{_AGAIN}   (again, once that is mended)")


def _no_engine(name: str) -> Check:
    return not_checked(name, "the Docker engine gives no answer")


def _remote(name: str) -> Check:
    return not_checked(name, "DOCKER_HOST names an engine of another machine; run doctor there")


def _unknown_pool(name: str, f: Facts) -> Check:
    """For checks that need to know whether the pool runs, where nobody could say."""
    if f.engine is None:
        return _no_engine(name)
    return not_checked(name, "this machine can't tell whether the pool runs (see the check swarm)")


def _docker_command(f: Facts, _: Cluster) -> Check:
    return docker_command(found=f.docker_command)


def docker_command(*, found: bool) -> Check:
    """Whether this machine has the docker command."""
    if found:
        return ok("docker command", "found")
    seen = "the docker command, which deploys the pool's stack, is missing on this machine"
    return problem("docker command", seen, "apt-get install docker-cli   (or run ./quickstart)")


def _engine(f: Facts, _: Cluster) -> Check:
    if f.engine is None:
        message, hint = f.engine_error
        return problem("engine", message, hint or "systemctl start docker   (or: dockerd &)")
    return engine(f.engine)


def engine(e: EngineFacts) -> Check:
    """One engine: its version, and whether it is open to the network."""
    wanted = ".".join(str(n) for n in _ENGINE_AT_LEAST)
    seen = f"Docker Engine {e.version}, {e.cpus} CPUs, {format_mib(e.memory_mib)}, kernel {e.kernel}"
    found = re.match(r"(\d+)\.(\d+)", e.version)
    if found is None:
        return warning("engine", f"engine version {e.version!r} is no number; wanted {wanted} or later", _AGAIN)
    if (int(found[1]), int(found[2])) < _ENGINE_AT_LEAST:
        return problem("engine", f"{seen}; wanted {wanted} or later", "apt-get install --only-upgrade docker.io")
    if open_api := [w for w in e.warnings if "without encryption" in w]:
        mend = "take the tcp:// host out of /etc/docker/daemon.json or dockerd's options; systemctl restart docker"
        return warning("engine", f"{seen}; it warns: {open_api[0].removeprefix('WARNING: ')}", mend)
    return ok("engine", seen)


# Moby's wording (daemon/info_unix.go); what is lost for a job, and whether jobs can't be trusted to run without it.
_LIMITS = (
    ("No memory limit support", "jobs have no memory limit", True),
    ("No swap limit support", "a job may take swap beyond its memory", False),
    ("No cpu cfs quota support", "the engine refuses every job container's CPU limit", True),
    ("No cpu cfs period support", "the engine refuses every job container's CPU limit", True),
    ("No pids limit support", "jobs have no limit of processes", False),
)


def _cgroups(f: Facts, _: Cluster) -> Check:
    if f.engine is None:
        return _no_engine("cgroups")
    return cgroups(f.engine)


def cgroups(e: EngineFacts) -> Check:
    """Whether the engine can limit what jobs take."""
    seen = f"cgroup v{e.cgroup_version}, driver {e.cgroup_driver or 'unknown'}"
    if e.cgroup_driver == "none":
        mend = "run the engine as root: systemctl start docker"
        return problem("cgroups", f"{seen}: this engine limits nothing (rootless without systemd)", mend)
    warnings = " ".join(e.warnings).lower()
    lost = [(effect, bad) for words, effect, bad in _LIMITS if words.lower() in warnings]
    if lost:
        kind = problem if any(bad for _, bad in lost) else warning
        effects = "; ".join(dict.fromkeys(effect for effect, _ in lost))
        memory_only = all("memory" in effect for effect, _ in lost)
        mend = (
            "add cgroup_enable=memory swapaccount=1 to GRUB_CMDLINE_LINUX in /etc/default/grub; update-grub; reboot"
            if memory_only
            else "boot a kernel with these cgroup controllers; see: docker info --format '{{json .Warnings}}'"
        )
        return kind("cgroups", f"{seen}; this kernel lacks limits: {effects}", mend)
    note = "" if e.cgroup_version == "2" else " (works; v2 is what current distributions boot with)"
    return ok("cgroups", seen + note)


def _ipvs(f: Facts, cluster: Cluster) -> Check:
    if not f.engine_is_local:
        return _remote("ipvs")
    if f.ipvs:
        return ok("ipvs", "this kernel balances virtual IPs: VIPs and the routing mesh work")
    if cluster.networking == "dnsrr":
        return ok("ipvs", "this kernel has no IPVS; the cluster file says networking: dnsrr, which needs none")
    seen = (
        "this kernel has no IPVS: no virtual IPs and no routing mesh. Services find each other by DNS, and the pool "
        "answers only on the node that runs its daemons"
    )
    if cluster.networking == "vip":
        return problem("ipvs", f"{seen}; but the cluster file says networking: vip", "modprobe ip_vs")
    # `auto` leaves a running pool's networking alone (plan.networking).
    then = "then networking: vip in swarmhpc.yaml, and swarmhpc up" if f.pool_runs else "then swarmhpc up"
    return warning("ipvs", seen, f"modprobe ip_vs   ({then})")


def _swarm(f: Facts, cluster: Cluster) -> Check:
    if f.engine is None:
        return _no_engine("swarm")
    e = f.engine
    if f.swarm_error[0]:
        return problem("swarm", f.swarm_error[0], f.swarm_error[1] or "docker node ls")
    if e.swarm_state == "inactive":
        return ok("swarm", "none yet; swarmhpc up makes one")
    if e.swarm_state == "locked":
        return problem("swarm", "this engine's Swarm is locked", "docker swarm unlock")
    if e.swarm_state != "active":
        return problem("swarm", f"this engine's Swarm is in state {e.swarm_state!r}", "systemctl restart docker")
    try:
        if f.swarm_cluster is None:
            plan.refuse_foreign(is_manager=e.is_manager)
        if f.swarm_cluster != cluster.name:
            plan.refuse_other(f.swarm_cluster, cluster.name)
    except SwarmOwnershipError as refusal:
        return problem("swarm", refusal.message, refusal.hint)
    return ok("swarm", f"made by swarmhpc for pool {cluster.name!r}, this node manages it at {e.node_address}")


def _nodes(f: Facts, cluster: Cluster) -> Check:
    if f.engine is None:
        return _no_engine("nodes")
    if f.engine.swarm_state == "inactive":
        return ok("nodes", "no Swarm yet")
    if f.swarm_cluster != cluster.name or f.swarm_error[0]:
        return not_checked("nodes", "this machine is no working manager of this pool's Swarm (see the check swarm)")
    queue = {n.id for n in f.nodes if n.labels.get(state.LABEL_QUEUE_NODE) == cluster.name}
    out = [n for n in f.nodes if (n.state, n.availability) != ("ready", "active")]
    if f.pool_runs and not queue:
        return problem("nodes", "no node is marked as the home of the queue; its service can't start", "swarmhpc up")
    if not out:
        return ok("nodes", f"{len(f.nodes)} ready: {', '.join(n.name for n in f.nodes)}")
    seen = "; ".join(
        f"{n.name}{' (home of the queue)' if n.id in queue else ''} is {n.state}, {n.availability}" for n in out
    )
    mends = [
        f"docker node update --availability active {n.name}"
        if n.state == "ready"
        else f"start machine {n.name} ({n.address})"
        for n in out
    ]
    return Check("nodes", "problem" if queue & {n.id for n in out} else "warning", seen, "; ".join(mends))


def _ports_free(f: Facts, cluster: Cluster) -> Check:
    if not f.engine_is_local:
        return _remote("ports")
    if f.pool_runs is None:
        return _unknown_pool("ports", f)
    wanted = cluster.ports.keys
    keys = ", ".join(str(p) for p in wanted)
    if f.pool_runs:
        return ok("ports", f"{keys}: held by the running pool")
    if f.engine is not None and f.engine.swarm_state == "inactive":
        wanted |= SWARM_PORTS
    taken = [p for p in f.ports_taken if p in wanted]
    if not taken:
        return ok("ports", f"{keys}: free")
    seen = "; ".join(f"port {p} (wanted for {wanted[p]}) is taken by another program" for p in taken)
    which = " or ".join(f"sport = :{p}" for p in taken)
    return problem("ports", seen, f"ss -ltnp '{which}'   (shows who; free it, or choose other ports)")


def _subnet(f: Facts, cluster: Cluster) -> Check:
    if f.subnets is None:
        return _no_engine("subnet")
    others = [(name, s) for name, subnets in f.subnets.items() for s in subnets]
    clashes = [f"{s} of {name}" for name, s in others if plan.overlap(cluster.subnet, s)]
    if not clashes:
        return ok("subnet", f"{cluster.subnet} overlaps nothing of this machine")
    prefix = ipaddress.ip_network(cluster.subnet).prefixlen
    free = free_subnet(prefix, [s for _, s in others])
    mend = f"write subnet: {free} into swarmhpc.yaml; {'swarmhpc down; ' if f.pool_runs else ''}swarmhpc up"
    seen = f"{cluster.subnet}, the pool's network, overlaps {', '.join(clashes)}"
    return Check("subnet", "warning" if f.pool_runs else "problem", seen, mend)


def free_subnet(prefix: int, taken: Sequence[str]) -> str:
    """A network of this size that overlaps none of `taken`, to propose."""
    candidates = (f"10.{n}.0.0/{prefix}" for n in range(73, 250))
    return next((c for c in candidates if not any(plan.overlap(c, t) for t in taken)), "one that is free")


def _engine_disk(f: Facts, _: Cluster) -> Check:
    where = f.engine.root_dir if f.engine else ""
    mend = "docker system df   (what the engine holds); docker image prune"
    return _disk("engine disk", f, f.engine_disk_mib, f"the engine's images and volumes in {where}", mend)


def _job_disk(f: Facts, cluster: Cluster) -> Check:
    mend = f"du -xsh {cluster.execute_dir}/*   (which jobs hold it)"
    return _disk("job disk", f, f.job_disk_mib, f"the jobs in {cluster.execute_dir}", mend)


def _disk(name: str, f: Facts, free_mib: int | None, what: str, mend: str) -> Check:
    if free_mib is None:
        if not f.engine_is_local:
            return _remote(name)
        return _no_engine(name) if f.engine is None else not_checked(name, "this user may not look there")
    return disk(name, free_mib, what, mend)


def disk(name: str, free_mib: int, what: str, mend: str) -> Check:
    """Whether there is room enough for `what`."""
    seen = f"{format_mib(free_mib)} free for {what}"
    if free_mib >= DISK_WARNING_MIB:
        return ok(name, seen)
    kind = problem if free_mib < DISK_PROBLEM_MIB else warning
    return kind(name, f"{seen}; wanted at least {format_mib(DISK_WARNING_MIB)}", mend)


def _image(f: Facts, cluster: Cluster) -> Check:
    if f.engine is None:
        return _no_engine("image")
    base = cluster.image.base or state.BASE_IMAGE
    how = "pull" if cluster.image.name else "build"
    if f.image_is_here:
        needs_base = cluster.image.name is None and not f.base_is_here
        note = f"; its base {base} is not, which only a rebuild needs" if needs_base else ""
        return ok("image", f"{f.image} is here{note}")
    if f.pool_runs:
        mend = f"docker pull {f.image}" if cluster.image.name else "swarmhpc images build && swarmhpc up"
        return problem("image", f"the pool runs, but the engine has no image {f.image}: no task can start", mend)
    note = "" if cluster.image.name else f" (base {base} is {'here' if f.base_is_here else 'not here either'})"
    return ok("image", f"{f.image} is not here yet; swarmhpc up will {how} it{note}")


def _services(f: Facts, cluster: Cluster) -> Check:
    if f.pool_runs is None:
        return _unknown_pool("services", f)
    if f.task_errors:
        first = f.task_errors[0].split(":")[0]
        return problem("services", "; ".join(f.task_errors), f"docker service ps --no-trunc {first}")
    if not f.pool_runs:
        return ok("services", f"pool {cluster.name!r} does not run here; swarmhpc up starts it")
    return ok("services", "every service has a running task, or has said nothing against it")


def _jobs(f: Facts, _: Cluster) -> Check:
    if f.engine is None:
        return _no_engine("job containers")
    orphans = [c for c in f.jobs if c.labels.get(state.LABEL_TASK) not in f.live_tasks]
    if not orphans:
        return ok("job containers", f"{len(f.jobs)} on this machine, each with its executor")
    names = ", ".join(c.name for c in orphans[:5]) + (", …" if len(orphans) > 5 else "")
    seen = f"{len(orphans)} of an executor that is gone: {names}"
    if f.pool_runs:
        seen += "; the pool's janitor removes them within a minute"
    return warning("job containers", seen, _remove(orphans))


def _leftovers(f: Facts, cluster: Cluster) -> Check:
    if f.pool_runs is None:
        return _unknown_pool("leftovers", f)
    if f.pool_runs:
        return ok("leftovers", "the pool runs: what carries its label belongs to it")
    queue = f"{cluster.name}_queue"
    strays = [v for v in f.volumes if v not in (queue, state.accounting_volume(cluster.name))]
    seen, mends = [], []
    if f.containers:
        seen.append(f"{len(f.containers)} containers, such as {f.containers[0].name}")
        mends.append(_remove(f.containers))
    if strays:
        seen.append(f"volumes {', '.join(strays)}")
        mends.append(f"docker volume rm {' '.join(strays)}")
    if f.network_is_left:
        seen.append(f"network {cluster.name}_pool")
        mends.append(f"docker network rm {cluster.name}_pool")
    if seen:
        return warning(
            "leftovers", f"no pool runs, but of {cluster.name!r} there are {'; '.join(seen)}", "; ".join(mends)
        )
    if queue in f.volumes:
        return ok("leftovers", f"only volume {queue}: the queue, kept on purpose (swarmhpc down --purge deletes it)")
    return ok("leftovers", "nothing")


def _remove(containers: Iterable[Container]) -> str:
    return "docker rm -f -v " + " ".join(c.id[:12] for c in containers)


def _context(f: Facts, cluster: Cluster) -> Check:
    return access(f.access, cluster.name, now_s=f.now_s, pool_runs=f.pool_runs)


def access(a: Access, pool: str, *, now_s: float, pool_runs: bool | None) -> Check:
    """This person's token for the pool."""
    if a.error:
        if not a.exists and pool_runs is False:
            return ok("context", "none yet; swarmhpc up gives you a token")
        return Check("context", "problem" if pool_runs or a.exists else "warning", a.error, "swarmhpc up")
    if a.expires_at is not None and a.expires_at <= now_s:
        when = _utc(a.expires_at)
        mend = f"swarmhpc up   (on a manager; elsewhere ask for a new one: swarmhpc token create {a.person})"
        return problem("context", f"the token of {a.person} expired at {when}", mend)
    if a.token_mode & 0o077:
        return problem(
            "context", f"others may read your token (mode {a.token_mode:04o}; wanted 0600)", f"chmod 600 {a.token_file}"
        )
    return ok("context", f"{a.person} at pool {pool!r}, token good")


def _clock(f: Facts, _: Cluster) -> Check:
    known = {
        _CLOCK_FLOOR_S: "this version of swarmhpc",
        f.access.issued_at: "your token",
        f.image_made_s: "the pool's image",
    }
    latest = max(known)
    now = _utc(f.now_s)
    if f.now_s + _CLOCK_SLACK_S < latest:
        seen = f"this machine's clock says {now}, but {known[latest]} is younger than that; tokens need it right"
        return problem("clock", seen, "timedatectl set-ntp true   (where nothing keeps time: date -s '…')")
    return ok("clock", now)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
