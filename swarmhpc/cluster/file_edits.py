"""The cluster file with machines more or less (pure): what `node add` and `node remove` store in the Swarm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from swarmhpc import config
from swarmhpc.cluster.init_file import Host
from swarmhpc.config import Cluster, Machine, Ssh
from swarmhpc.errors import UsageError


def with_machines(cluster: Cluster, new: Sequence[Machine]) -> tuple[Cluster, tuple[Machine, ...]]:
    """The cluster file with these machines, and those that were not in it. Checked by the file's own rules.

    Raises UsageError where a machine is in the file as something else, ConfigError for what the rules find.
    """
    if not cluster.machines:
        raise UsageError(
            "the cluster file lists no machines: the pool is on one machine alone, and others can't reach it by a name",
            hint="list them all, also the one that there is: swarmhpc init HOST HOST…; then swarmhpc up",
        )
    problems, added = [], []
    for machine in new:
        there = next((m for m in cluster.machines if m.name == machine.name or m.address == machine.address), None)
        if there is None:
            added.append(machine)
        elif (there.name, there.address) != (machine.name, machine.address):
            seen = f"{there.name} ({there.address})"
            problems.append(
                UsageError(
                    f"machine {machine.name} ({machine.address}): the cluster file has {seen} already",
                    hint=f"add it by another name or address, or use {there.name}",
                )
            )
        elif (there.role, there.ssh, there.labels) != (machine.role, machine.ssh, machine.labels):
            problems.append(
                UsageError(
                    f"machine {machine.name} is in the cluster file already, and not with these options",
                    hint="change it there, then: swarmhpc up",
                )
            )
    refuse(problems)
    larger = replace(cluster, machines=(*cluster.machines, *added))
    config.parse(config.dump(larger), file=f"the cluster file with {', '.join(m.name for m in added) or 'nothing new'}")
    return larger, tuple(added)


def new_machines(
    cluster: Cluster,
    hosts: Sequence[Host],
    *,
    name: str | None,
    address: str | None,
    role: Literal["manager", "worker"] | None,
    labels: Mapping[str, str],
    user: str | None,
    port: int | None,
    key: str | None,
) -> tuple[Machine, ...]:
    """Machines from what was typed; what was not is as the file has it, or as most of its machines have it."""
    if len(hosts) > 1 and (name or address):
        raise UsageError("--name and --address are about one HOST, and several are named", hint="add them one by one")
    usual = usual_ssh(cluster)
    machines = []
    for host in hosts:
        called, at = name or host.name, address or host.address
        there = next((m for m in cluster.machines if (m.name, m.address) == (called, at)), None)
        ssh = there.ssh if there else usual
        ssh = replace(ssh, user=user or host.user or ssh.user, port=port or ssh.port, key=key or ssh.key)
        own_labels = tuple(sorted(labels.items())) or (there.labels if there else ())
        machines.append(Machine(called, at, role or (there.role if there else "worker"), ssh, own_labels))
    return tuple(machines)


def usual_ssh(cluster: Cluster) -> Ssh:
    """How most machines of the file are reached."""
    return Counter(m.ssh for m in cluster.machines).most_common(1)[0][0] if cluster.machines else Ssh()


def file_line(machine: Machine, usual: Ssh) -> str:
    """The line under `machines:` that says the same. `usual`: what holds for all machines of the file."""
    ssh = {k: getattr(machine.ssh, k) for k in ("user", "port", "key", "known_hosts")}
    own = ", ".join(f"{k}: {v}" for k, v in ssh.items() if v != getattr(usual, k))
    keys = [f"address: {machine.address}"] if machine.address != machine.name else []
    keys += ["role: manager"] if machine.role == "manager" else []
    # A value such as 1 or true is text here.
    keys += [f"labels: {{{', '.join(f'{k}: {v!r}' for k, v in machine.labels)}}}"] if machine.labels else []
    keys += [f"ssh: {{{own}}}"] if own else []
    short = keys[0].removeprefix("address: ") if len(keys) == 1 and machine.address != machine.name else None
    return f"  {machine.name}:" if not keys else f"  {machine.name}: {short or '{' + ', '.join(keys) + '}'}"


def without(cluster: Cluster, names: Iterable[str], queue: str | None = None) -> tuple[Cluster, str | None]:
    """The cluster file without these machines, and the manager that becomes a worker where their number would be even,
    which the file's rules refuse. `queue`: the machine that holds the queue from now on."""
    gone = set(names)
    machines = [m for m in cluster.machines if m.name not in gone]
    managers = [m for m in machines if m.role == "manager"]
    demoted = None
    if len(machines) < len(cluster.machines) and managers and len(managers) % 2 == 0:
        at = queue or cluster.queue.machine
        demoted = next(m for m in reversed(managers) if m.name != at)
        machines = [replace(m, role="worker") if m is demoted else m for m in machines]
    smaller = with_queue(replace(cluster, machines=tuple(machines)), queue)
    return smaller, demoted.name if demoted else None


def with_queue(cluster: Cluster, machine: str | None) -> Cluster:
    """The cluster file where it says that the queue is on this machine; one that does not say stays as it is."""
    if machine is None or cluster.queue.machine is None:
        return cluster
    return replace(cluster, queue=replace(cluster.queue, machine=machine))


def refuse(problems: Sequence[UsageError]) -> None:
    """Raises all of them as one, if there are any."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = [f"{p.message}\n    {p.hint}" if p.hint else p.message for p in problems]
        raise UsageError("\n".join(lines), hint="nothing was done; mend these, then the same command again")
