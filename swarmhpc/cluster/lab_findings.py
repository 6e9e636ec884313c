"""What doctor's facts about several machines mean, all but the network between them (`lab_ways`). Pure."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from swarmhpc import state
from swarmhpc.cluster import findings, lab_ways, members
from swarmhpc.cluster.findings import Check, ok, problem, warning
from swarmhpc.cluster.lab_facts import HERE, LabFacts, called
from swarmhpc.config import Cluster
from swarmhpc.units import format_mib

# A token ends when the clock of the daemon that reads it says so, without any slack (HTCondor 25.14.0,
# src/condor_io/condor_auth_passwd.cpp, analyze_token); ages of ads and jobs are differences of two machines' clocks.
SKEW_WARNING_S = 2.0
SKEW_PROBLEM_S = 60.0


def judge(facts: LabFacts, cluster: Cluster) -> list[Check]:
    """What the facts mean, always in the same order: one line for what is well everywhere, else one a trouble."""
    rules: tuple[Callable[[LabFacts, Cluster], list[Check]], ...] = (
        *(_docker_command, _machines, _preparation, _engines, _cgroups, _ipvs, _swarm, _nodes, _ports_free),
        *(lab_ways.connections, lab_ways.overlay, lab_ways.subnet),
        *(_disk, _queue_path, _time_sync, _clock, _image, _services, _context),
    )
    if not facts.answering:
        return [
            *_docker_command(facts, cluster),
            *_machines(facts, cluster),
            findings.not_checked("all else", "no machine answers"),
            *_context(facts, cluster),
        ]
    return [check for rule in rules for check in rule(facts, cluster)]


def _docker_command(f: LabFacts, _: Cluster) -> list[Check]:
    return [findings.docker_command(found=f.docker_command)]


def _machines(f: LabFacts, _: Cluster) -> list[Check]:
    bad = [
        problem("machines", s.error.message, s.error.hint or f"try it by hand: {f.on(n, 'true')}", n)
        for n, s in f.seen.items()
        if s.facts is None and s.error is not None
    ]
    return bad or [ok("machines", f"{len(f.seen)} answer over ssh: {called(f.seen)}")]


def _preparation(f: LabFacts, cluster: Cluster) -> list[Check]:
    name = "preparation"
    if not cluster.prepare:
        return [ok(name, "prepare: false: your own tools do it")]
    late = [n for n, s in f.answering.items() if not s.is_prepared]
    if not late:
        return [ok(name, f"as this version of swarmhpc does it: {called(f.answering)}")]
    if not f.pool_runs:
        return [ok(name, f"still to do on {called(late)}; swarmhpc up does it")]
    result = []
    for n in late:
        facts = f.answering[n].facts
        why = "another version of swarmhpc prepared it" if facts and facts.prepared else "not prepared by swarmhpc"
        result.append(warning(name, why, "swarmhpc up", n))
    return result


def _engines(f: LabFacts, cluster: Cluster) -> list[Check]:
    name = "engine"
    bad: list[Check] = []
    versions: dict[str, str] = {}
    to_come = []
    for n, s in f.answering.items():
        if s.engine is not None:
            check = findings.engine(s.engine)
            if check.status != "problem":
                versions[n] = s.engine.version
            if check.status != "ok":
                bad.append(replace(check, machine=n, mend=f"on {n}: {check.mend}"))
            continue
        if s.error is not None:
            if "leader" in s.error.message:
                continue  # the check swarm tells of it
            bad.append(problem(name, s.error.message, s.error.hint or f.on(n, "systemctl status docker"), n))
        elif s.facts is not None and s.facts.engine_installed:
            start = f.on(n, "systemctl start docker")
            bad.append(problem(name, "a Docker engine is installed but none answers", start, n))
        elif cluster.prepare:
            to_come.append(n)
        else:
            mend = (
                f"install and start one on {n}; ansible/README.md has the checklist. Or prepare: true in swarmhpc.yaml"
            )
            bad.append(problem(name, "no Docker engine, and the cluster file says prepare: false", mend, n))
    numbers = {n: v.partition(".")[0] for n, v in versions.items()}
    count = Counter(numbers.values())
    if len(count) > 1:
        # The one most machines have; among equals the later.
        usual = max(count, key=lambda v: (count[v], int(v) if v.isdigit() else 0))
        for n in (n for n, v in numbers.items() if v != usual):
            facts = f.answering[n].facts
            upgrade = "apt-get install --only-upgrade docker.io"
            if facts is not None and not re.search("Debian|Ubuntu", facts.os):
                upgrade = "dnf upgrade moby-engine docker-ce"
            seen = f"Docker Engine {versions[n]}, where {count[usual]} of {len(versions)} have {usual}.x"
            bad.append(warning(name, seen, f"the same everywhere: {f.on(n, upgrade)}", n))
    if bad:
        return bad
    coming = f"; none yet on {called(to_come)}: swarmhpc up installs it" if to_come else ""
    if not versions:
        return [ok(name, coming.removeprefix("; ") or "nobody to ask")]
    return [ok(name, f"Docker Engine {', '.join(sorted(set(versions.values())))} on {called(versions)}{coming}")]


def _cgroups(f: LabFacts, _: Cluster) -> list[Check]:
    checks = {n: findings.cgroups(s.engine) for n, s in f.answering.items() if s.engine is not None}
    bad = [
        replace(check, machine=n, mend=f"on {n}: {check.mend}") for n, check in checks.items() if check.status != "ok"
    ]
    if bad:
        return bad
    by_version: dict[str, list[str]] = {}
    for n, s in f.answering.items():
        if s.facts is not None:
            version = s.engine.cgroup_version if s.engine is not None else s.facts.cgroup_version
            by_version.setdefault(version, []).append(n)
    seen = "; ".join(f"cgroup v{v} on {called(names)}" for v, names in sorted(by_version.items(), reverse=True))
    return [ok("cgroups", seen + (" (both work)" if len(by_version) > 1 else ""))]


def _ipvs(f: LabFacts, cluster: Cluster) -> list[Check]:
    without = [n for n, s in f.answering.items() if s.facts is not None and not s.facts.ipvs]
    if not without:
        still = "; the running pool does without virtual IPs" if f.networking == "dnsrr" else ""
        return [ok("ipvs", f"every kernel balances virtual IPs{still}")]
    if cluster.networking == "dnsrr":
        return [ok("ipvs", f"none on {called(without)}; networking: dnsrr needs none")]
    result = []
    for n in without:
        load = f.on(n, "modprobe ip_vs")
        if "vip" in (cluster.networking, f.networking):
            who = "the cluster file says networking: vip" if cluster.networking == "vip" else "this pool uses them"
            result.append(problem("ipvs", f"its kernel has no IPVS, so no virtual IPs there, but {who}", load, n))
        else:
            then = "then networking: vip in swarmhpc.yaml, and swarmhpc up" if f.pool_runs else "then swarmhpc up"
            seen = (
                "its kernel has no IPVS, so the whole pool does without virtual IPs and routing mesh: it answers "
                "only on the node that runs its daemons"
            )
            result.append(warning("ipvs", seen, f"{load}   ({then})", n))
    return result


def _swarm(f: LabFacts, cluster: Cluster) -> list[Check]:
    name = "swarm"
    if f.swarm_error[0]:
        return [problem(name, f.swarm_error[0], f.swarm_error[1] or "docker node ls, on a manager")]
    bad: list[Check] = []
    silent = [n for n, s in f.seen.items() if s.machine.role == "manager" and s.engine is None]
    for n, s in f.answering.items():
        if s.engine is None:
            if s.error is not None and "leader" in s.error.message:
                who = f"start {called(m for m in silent if m != n)}; " if len(silent) > 1 else ""
                mend = f"{who}more than half of the managers must answer each other; see the check connections"
                bad.append(problem(name, s.error.message, mend, n))
            continue
        e = s.engine
        if e.swarm_state == "inactive":
            if f.has_swarm:
                bad.append(warning(name, "not a node of the pool's Swarm yet", "swarmhpc up", n))
        elif e.swarm_state == "locked":
            bad.append(problem(name, "its Swarm is locked", f.on(n, "docker swarm unlock"), n))
        elif e.swarm_state != "active":
            seen = f"its Swarm is in state {e.swarm_state!r}"
            bad.append(problem(name, seen, f.on(n, "systemctl restart docker"), n))
        elif e.node_id not in f.node_ids:
            if silent and not f.has_swarm and not e.is_manager:
                seen = f"not checked: a node of a Swarm, but {called(silent)} can't be asked whether it is this pool's"
                bad.append(warning(name, seen, "mend the managers, then swarmhpc doctor", n))
                continue
            other = f"of pool {s.swarm_pool!r}" if s.swarm_pool else "that this pool does not know"
            mend = f"use another machine; or, if nobody needs that Swarm: {f.on(n, 'docker swarm leave --force')}"
            bad.append(problem(name, f"in another Swarm, {other}", mend, n))
    if bad:
        return bad
    if f.swarm_unknown:
        return [findings.not_checked(name, f.swarm_unknown)]
    if not f.has_swarm:
        return [ok(name, "none yet; swarmhpc up makes one")]
    managers = sum(n.role == "manager" for n in f.nodes)
    return [ok(name, f"made by swarmhpc for pool {cluster.name!r}: {len(f.nodes)} nodes, {managers} of them managers")]


def _nodes(f: LabFacts, cluster: Cluster) -> list[Check]:
    name = "nodes"
    if f.swarm_unknown:
        return [findings.not_checked(name, f.swarm_unknown)]
    if not f.has_swarm:
        return [ok(name, "no Swarm yet")]
    bad = []
    homes = {n.id for n in f.nodes if n.labels.get(state.LABEL_QUEUE_NODE) == cluster.name}
    if f.pool_runs and not homes:
        bad.append(problem(name, "no node is marked as the home of the queue; its service can't start", "swarmhpc up"))
    for node in f.nodes:
        who = node.labels.get(state.LABEL_MACHINE, node.name)
        seen = f"{node.state}, {node.availability}" + (", home of the queue" if node.id in homes else "")
        if node.state != "ready":
            mend = f"start machine {who} ({node.address}) and its engine"
        elif node.availability != "active":
            mend = f"swarmhpc node activate {who}"
        elif who not in f.seen:
            mend = f"add it to machines: in swarmhpc.yaml; or swarmhpc node remove {who}"
            bad.append(warning(name, f"{seen}; the cluster file does not name it", mend, who))
            continue
        else:
            continue
        bad.append(Check(name, "problem" if node.id in homes else "warning", seen, mend, who))
    return bad or [ok(name, f"{len(f.nodes)} ready")]


def _ports_free(f: LabFacts, cluster: Cluster) -> list[Check]:
    wanted = {port: f"ports.{key}" for port, key in cluster.ports.keys.items()} | findings.SWARM_PORTS
    bad = []
    for n, s in f.answering.items():
        if s.facts is None or s.error is not None or (s.engine is not None and s.engine.swarm_state == "active"):
            continue
        taken = [p for p in wanted if p in s.facts.listens]
        if taken:
            seen = "; ".join(f"port {p} (wanted for {wanted[p]}) is taken by another program" for p in taken)
            which = " or ".join(f"sport = :{p}" for p in taken)
            bad.append(problem("ports", seen, f.on(n, f"ss -ltnp '{which}'") + "   (shows who)", n))
    keys = ", ".join(str(p) for p in wanted)
    return bad or [ok("ports", f"{keys}: free, or the pool's own")]


def _disk(f: LabFacts, cluster: Cluster) -> list[Check]:
    bad, free = [], []
    for n, own in f.own.items():
        engine = f.seen[n].engine
        where = engine.root_dir if engine is not None else "/var/lib/docker"
        clean = f.on(n, "docker system df") + "   (what the engine holds; docker image prune)"
        held = f.on(n, f"du -xsh {cluster.execute_dir}") + "   (what jobs hold)"
        for mib, what, mend in (
            (own.engine_disk_mib, f"the engine's images and volumes in {where}", clean),
            (own.job_disk_mib, f"the jobs in {cluster.execute_dir}", held),
        ):
            if mib is not None:
                check = findings.disk("disk", mib, what, mend)
                bad += [replace(check, machine=n)] if check.status != "ok" else []
                free.append(mib)
    if bad or not free:
        return bad or [findings.not_checked("disk", "no machine could say")]
    return [ok("disk", f"at least {format_mib(min(free))} free on each of {called(f.own)}")]


def _queue_path(f: LabFacts, cluster: Cluster) -> list[Check]:
    if cluster.queue.path is None:
        return []
    troubles = {n: members.without_queue_path(cluster, s) for n, s in f.answering.items()}
    bad = [problem("queue", e.message, e.hint, n) for n, e in troubles.items() if e is not None]
    kinds = " and ".join(sorted({s.facts.shared for s in f.answering.values() if s.facts is not None}))
    return bad or [ok("queue", f"{cluster.queue.path} is there ({kinds}) on {called(f.answering)}")]


def _time_sync(f: LabFacts, _: Cluster) -> list[Check]:
    if not f.own:
        return [findings.not_checked("time sync", "no machine could say")]
    bad = []
    for n, own in f.own.items():
        if not own.keeps_time:
            facts = f.seen[n].facts
            install = "apt-get install" if facts is None or re.search("Debian|Ubuntu", facts.os) else "dnf install"
            mend = f.on(n, f"{install} chrony")
            bad.append(warning("time sync", "no time service runs: its clock may drift", mend, n))
        elif own.is_synchronised is False:
            mend = f.on(n, "timedatectl timesync-status") + "   (with chrony: chronyc sources)"
            bad.append(warning("time sync", "a time service runs, but the clock is not synchronised", mend, n))
    return bad or [ok("time sync", f"a time service runs on {called(f.own)}")]


def _clock(f: LabFacts, _: Cluster) -> list[Check]:
    skews = {n: (own.clock_skew_s, own.clock_error_s) for n, own in f.own.items()}
    if not skews:
        return [findings.not_checked("clock", "no machine could say")]
    if not f.local:
        skews[HERE] = (0.0, 0.0)  # it makes the people's tokens; and of two clocks nobody can say which is wrong
    median = statistics.median(s for s, _ in skews.values())
    bad = []
    for n, (skew, error) in skews.items():
        off = skew - median
        if abs(off) - error <= SKEW_WARNING_S:
            continue
        status: Literal["warning", "problem"] = "problem" if abs(off) - error > SKEW_PROBLEM_S else "warning"
        seen = f"its clock is {abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} the median of {len(skews)}"
        seen += ": tokens end, and jobs and machines seem to age, at the wrong time"
        keep = "timedatectl set-ntp true"
        bad.append(Check("clock", status, seen, keep if n == HERE else f.on(n, keep), n))
    widest = max(abs(s - median) + e for s, e in skews.values())
    return bad or [ok("clock", f"{len(skews)} clocks agree to {widest:.1f} s")]


def _image(f: LabFacts, _: Cluster) -> list[Check]:
    engines = {n: s for n, s in f.answering.items() if s.engine is not None}
    late = [n for n, s in engines.items() if not s.has_image]
    if not late and engines:
        return [ok("image", f"{f.image} is on {called(engines)}")]
    if not f.pool_runs:
        return [ok("image", f"{f.image} is not on {called(late) or 'any machine'} yet; swarmhpc up brings it")]
    return [problem("image", f"no image {f.image}: no task can start there", "swarmhpc up", n) for n in late]


def _services(f: LabFacts, cluster: Cluster) -> list[Check]:
    name = "services"
    if f.swarm_unknown:
        return [findings.not_checked(name, f.swarm_unknown)]
    if f.task_errors:
        first = f.task_errors[0].split(":")[0]
        return [problem(name, "; ".join(f.task_errors), f"docker service ps --no-trunc {first}, on a manager")]
    if not f.pool_runs:
        return [ok(name, f"pool {cluster.name!r} does not run; swarmhpc up starts it")]
    return [ok(name, "every service has a running task, or has said nothing against it")]


def _context(f: LabFacts, cluster: Cluster) -> list[Check]:
    return [findings.access(f.access, cluster.name, now_s=f.now_s, pool_runs=f.pool_runs)]
