"""`swarmhpc doctor` over several machines: all are asked at once, then each tries its ways to all others.

Nothing is changed. `lab_findings.judge` says what the answers mean.
"""

from __future__ import annotations

import time
from dataclasses import replace

from swarmhpc.adapters import command, machine
from swarmhpc.adapters.docker import Engine
from swarmhpc.cluster import bring, images, lab_probes, lab_ways, members, up
from swarmhpc.cluster.doctor import access
from swarmhpc.cluster.findings import Check
from swarmhpc.cluster.fleet import Fleet, each
from swarmhpc.cluster.lab_facts import LabFacts
from swarmhpc.cluster.lab_findings import judge
from swarmhpc.cluster.lab_probes import Answers, Own
from swarmhpc.cluster.progress import Progress
from swarmhpc.config import Cluster
from swarmhpc.errors import SwarmHpcError


def examine(fleet: Fleet, cluster: Cluster, progress: Progress) -> list[Check]:
    """Every check of a pool over several machines (`fleet.alone` is false).

    Never raises SwarmHpcError: a machine that gives no answer is a finding.
    """
    return judge(observe(fleet, cluster, progress), cluster)


def observe(fleet: Fleet, cluster: Cluster, progress: Progress) -> LabFacts:
    """Asks every machine, the Swarm, and the ways between them; goes on when one of them gives no answer."""
    progress.start("doctor")
    progress.detail(f"asking {len(fleet.machines)} machines")
    image = images.reference(cluster)
    facts = LabFacts(
        now_s=time.time(),
        docker_command=command.found("docker"),
        image=image,
        seen=members.look(fleet, cluster, image=image, recipe=bring.recipe(cluster)),
        access=access(cluster.name),
        local=next((n for n, remote in fleet.remotes.items() if remote.local), ""),
    )
    progress.detail("asking the Swarm")
    facts = _ask_swarm(fleet, facts, cluster)
    progress.detail("asking the machines about time, disks and networks")

    def own(name: str) -> Own:
        s = facts.seen[name]
        return lab_probes.look(
            fleet.remotes[name],
            pool=cluster.name,
            device=s.facts.addresses.get(s.address, "") if s.facts is not None else "",
            engine_folder=s.engine.root_dir if s.engine is not None else "/var/lib/docker",
            jobs_folder=cluster.execute_dir,
            swarm=facts.is_node(name),
        )

    facts = replace(facts, own={n: o for n, o in each(facts.answering, own).items() if isinstance(o, Own)})
    progress.detail("trying the ways between every two machines")

    def probe(name: str) -> Answers:
        tcp = lab_ways.targets(facts, cluster, name)
        return lab_probes.probe(fleet.remotes[name], facts.own[name], tcp, lab_ways.overlay_targets(facts, name))

    answers = {n: a for n, a in each(facts.own, probe).items() if isinstance(a, Answers)}
    return replace(facts, answers=answers, from_here=_from_here(facts, cluster))


def _ask_swarm(fleet: Fleet, facts: LabFacts, cluster: Cluster) -> LabFacts:
    """The Swarm as the first of its managers that answers sees it."""
    managers = [n for n, s in facts.seen.items() if s.engine is not None and s.swarm_pool == cluster.name]
    if not managers:
        return facts
    facts = replace(facts, has_swarm=True)
    try:
        engine: Engine = fleet.engine(managers[0])
        services = engine.services(cluster.name)
        mode = engine.endpoint_mode(services[0].id) if services else None
        return replace(
            facts,
            nodes=tuple(engine.nodes()),
            pool_runs=bool(services),
            networking=None if mode is None else "vip" if mode == "vip" else "dnsrr",
            task_errors=tuple(up.task_errors(engine, cluster.name)),
        )
    except SwarmHpcError as e:
        return replace(facts, swarm_error=(e.message, e.hint))


def _from_here(facts: LabFacts, cluster: Cluster) -> dict[tuple[str, int], bool]:
    """Whether the pool answers to this machine, where that is none of the lab's."""
    if facts.local:
        return {}
    wanted = {
        f"{s.address} {port}": (s.address, port)
        for n, s in facts.answering.items()
        for port in lab_ways.pool_ports(facts, cluster, n)
    }
    found = each(wanted, lambda key: machine.port_answers(*wanted[key]))
    return {wanted[key]: answer is True for key, answer in found.items()}
