"""`swarmhpc node`: the nodes of the Swarm one by one."""

from __future__ import annotations

import contextlib
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmhpc.cli import output
from swarmhpc.cli.cluster import DryRun, File, Json, bring_up, cluster_fleet, left_out
from swarmhpc.cli.init import independent_of_here
from swarmhpc.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Literal

    from swarmhpc.adapters.docker import Engine
    from swarmhpc.cluster.fleet import Fleet
    from swarmhpc.cluster.nodes import LeavePlan, Row, Situation
    from swarmhpc.config import Cluster, Machine

app = typer.Typer(help="See the nodes; add, drain, activate, remove them.", no_args_is_help=True)

Names = Annotated[
    list[str], typer.Argument(metavar="NAME", help="The machine's name, the Swarm's host name, or a node id.")
]
QueueTo = Annotated[
    str | None,
    typer.Option("--queue-to", metavar="NAME", help="The node that the queue moves to first, with its jobs."),
]
Now = Annotated[bool, typer.Option("--now", help="Do not wait for running jobs: they go back to the queue.")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Give up waiting for jobs after so many seconds.")]


@app.command("list")
def listing(context: typer.Context, file: File = None, json: Json = False) -> None:
    """Every node and every machine of the cluster file, with what runs on it."""
    from swarmhpc.cluster import nodes
    from swarmhpc.units import format_mib

    with cluster_fleet(file, context.obj) as (fleet, cluster):
        _, situation = nodes.observe(fleet, cluster, context.obj)
    rows = situation.rows
    if json:
        output.as_json([{**asdict(r), "labels": dict(r.labels)} for r in rows])
        return

    def known(value: object) -> object:
        return "?" if value is None else value

    lines: list[list[object]] = []
    for r in rows:
        name = r.name if r.hostname in ("", r.name) else f"{r.name} ({r.hostname})"
        role = r.role + (" (leader)" if r.is_leader else "")
        labels = ", ".join(f"{k}={v}" for k, v in r.labels)
        marks = ", ".join(filter(None, ["queue" if r.holds_queue else "", "" if r.in_file else "not in the file"]))
        if not r.id:
            lines.append([name, r.address, role, r.state, *["-"] * 7, labels or "-", marks or "-"])
            continue
        size = (known(r.cpus), "?" if r.memory_mib is None else format_mib(r.memory_mib))
        runs = (known(r.executors), known(r.draining), known(r.jobs))
        version = r.engine_version or "?"
        state = (r.state, r.availability)
        lines.append([name, r.address, role, *state, *size, *runs, version, labels or "-", marks or "-"])
    numbers = ("CPUS", "MEMORY", "EXECUTORS", "DRAINING", "JOBS")
    columns = ["NODE", "ADDRESS", "ROLE", "STATE", "AVAILABILITY", *numbers, "ENGINE", "LABELS", "NOTE"]
    output.table(columns, lines, right=numbers)
    if coming := [r.name for r in rows if not r.id and r.in_file]:
        output.say(f"note: no node yet: {', '.join(coming)}. Next: swarmhpc up")
    if strange := [r.name for r in rows if r.id and not r.in_file]:
        output.say(
            f"note: the cluster file does not name {', '.join(strange)}: list them there, "
            f"or swarmhpc node remove {' '.join(strange)}"
        )


@app.command()
def add(
    context: typer.Context,
    hosts: Annotated[
        list[str], typer.Argument(metavar="HOST", help="Name, IPv4 address, USER@HOST or a range: 'node[01-16]'.")
    ],
    name: Annotated[str | None, typer.Option("--name", help="What to call it; else HOST.")] = None,
    address: Annotated[str | None, typer.Option("--address", help="Where it is reached; else HOST.")] = None,
    role: Annotated[str | None, typer.Option("--role", help="worker (the default) or manager.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="May be given again.")] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Account for ssh; else that of the other machines.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port of ssh; else the others'.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Private key for ssh; else the others'.")] = None,
    file: File = None,
    dry_run: DryRun = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the pool to be usable.")] = 300,
) -> None:
    """Add machines to the pool: what up does, with these machines in the cluster file."""
    from swarmhpc import config
    from swarmhpc.cluster import file_edits
    from swarmhpc.cluster.fleet import opened, require_manager, stored_cluster
    from swarmhpc.cluster.init_file import read_hosts

    wanted = read_hosts(hosts)
    labels = _labels(label or [])
    with cluster_fleet(file, context.obj) as (fleet, cluster):
        manager, pool = require_manager(fleet, context.obj)
        stored = stored_cluster(manager)
    cluster = cluster or stored or config.Cluster(name=pool)
    new = file_edits.new_machines(
        cluster, wanted, name=name, address=address, role=_role(role), labels=labels, user=user, port=port,
        key=key and independent_of_here(key),
    )  # fmt: skip
    larger, added = file_edits.with_machines(cluster, new)
    if there := [m.name for m in new if m not in added]:
        output.say(f"in the cluster file already: {', '.join(there)}")
    path = file or config.find_file(Path.cwd())
    try:
        with opened(larger.machines) as fleet:
            bring_up(fleet, larger, dry_run=dry_run, timeout_s=timeout_s)
            if added and not dry_run:
                _say_nothing_moves(require_manager(fleet, pool)[0], pool)
    finally:
        # Also where a machine was left out: the Swarm's file names it from now on.
        if added and path is not None and not dry_run:
            _say_what_to_write(path, cluster, larger, added)


@app.command()
def drain(
    context: typer.Context,
    names: Names,
    now: Now = False,
    queue_to: QueueTo = None,
    stop_pool: Annotated[
        bool,
        typer.Option("--stop-pool", help="Also where that stops the access point, or leaves no node for the pool."),
    ] = False,
    dry_run: DryRun = False,
    timeout_s: Timeout = None,
) -> None:
    """Let nodes run empty: no new jobs; running ones finish, then their executors leave. Others start elsewhere."""
    from swarmhpc.cluster import leaving, nodes

    with _situation(context.obj) as (fleet, manager, situation, _):
        plan = nodes.decide_drain(situation, names, queue_to=queue_to, stop_pool=stop_pool)
        if not _shown(plan, dry_run, f"nothing to do: {', '.join(r.name for r in plan.targets)}: drained"):
            return
        _move(fleet, manager, situation, plan)
        with output.interruptible(*_drain_stays(plan.targets, "drain")), output.phases() as progress:
            failed = leaving.drain(fleet, manager, situation, plan.targets, progress, now=now, timeout_s=timeout_s)
    left_out(failed, "the others are drained. Next: the same command again")
    output.say(f"Next: swarmhpc node activate {' '.join(r.name for r in plan.targets)} takes it back")


@app.command()
def activate(context: typer.Context, names: Names, dry_run: DryRun = False) -> None:
    """Let drained nodes take tasks again."""
    from swarmhpc.cluster import leaving, nodes

    with _situation(context.obj) as (_, manager, situation, _):
        targets = nodes.decide_activate(situation, names)
        if not targets:
            output.say("nothing to do: active already")
            return
        if dry_run:
            for r in targets:
                output.data(f"will activate {r.name}")
            return
        failed = leaving.activate(manager, targets)
        left_out(failed, "the others are active. Next: the same command again")
        output.say(f"active: {', '.join(r.name for r in targets)}")
        _say_nothing_moves(manager, situation.pool)


@app.command()
def remove(
    context: typer.Context,
    names: Names,
    force: Annotated[
        bool,
        typer.Option("--force", help="The machine is gone for good. With --queue-to: so is the queue it held."),
    ] = False,
    now: Now = False,
    queue_to: QueueTo = None,
    dry_run: DryRun = False,
    timeout_s: Timeout = None,
) -> None:
    """Drain nodes, make them leave the Swarm, and take what the pool left off them."""
    from swarmhpc.cluster import leaving, nodes
    from swarmhpc.cluster.fleet import opened

    with _situation(context.obj) as (fleet, _, situation, path):
        targets = nodes.find(situation.rows, names)
        answering = nodes.answers(fleet, targets)
        plan = nodes.decide_remove(situation, names, answering, queue_to=queue_to, force=force)
        said = [*_lines_to_remove(path, [r.name for r in plan.targets])]
        if not _shown(plan, dry_run, f"nothing to do: {', '.join(r.name for r in targets)}: no node of the Swarm"):
            for line in said:
                output.say(line)
            return
        manager = leaving.manager_besides(fleet, situation, targets)
        _move(fleet, manager, situation, plan)
        alive = [r for r in plan.targets if r.id and answering.get(r.name) == "node"]
        with output.interruptible(*_drain_stays(alive, "remove")), output.phases() as progress:
            failed = (
                leaving.drain(fleet, manager, situation, alive, progress, now=now, timeout_s=timeout_s) if alive else {}
            )
            gone = [r for r in plan.targets if r.name not in failed]
            failed |= leaving.remove(fleet, manager, situation, replace(plan, targets=tuple(gone)), answering, progress)
    for line in said:
        output.say(line)
    left_out(failed, "they are in the cluster file still. Next: the same command again")
    if plan.remaining is not None:
        # The same as `up` with the smaller file: stores it, sizes what is sized by nodes, tells clients where to go.
        with opened(plan.remaining.machines) as rest:
            bring_up(rest, plan.remaining, dry_run=False, timeout_s=300)


# -- parts ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _situation(pool: str | None) -> Iterator[tuple[Fleet, Engine, Situation, Path | None]]:
    """Everybody who may have to be asked, a manager, the nodes, and ./swarmhpc.yaml where it is this pool's."""
    from swarmhpc import config
    from swarmhpc.cluster import leaving, nodes
    from swarmhpc.cluster.fleet import opened

    with cluster_fleet(None, pool) as (first, file):
        manager, situation = nodes.observe(first, file, pool)
        here = config.find_file(Path.cwd())
        path = here if here is not None and config.load(here).name == situation.pool else None
        if first.alone:
            yield first, manager, situation, path
            return
        machines = leaving.machines_to_reach(situation.cluster, first.machines, situation.rows)
    with opened(machines) as fleet:
        yield fleet, leaving.manager_besides(fleet, situation, ()), situation, path


def _shown(plan: LeavePlan, dry_run: bool, nothing: str) -> bool:
    """Prints the plan; whether there is something to carry out."""
    for step in plan.steps:
        (output.data if dry_run else output.say)(f"will {step}")
    for notice in plan.notices:
        output.say(f"note: {notice}")
    if not plan.steps:
        output.say(nothing)
    return bool(plan.steps) and not dry_run


def _move(fleet: Fleet, manager: Engine, situation: Situation, plan: LeavePlan) -> None:
    from swarmhpc.cluster import file_edits, leaving
    from swarmhpc.cluster.fleet import opened

    if plan.move is None:
        return
    old, new = plan.move
    with (
        output.interruptible(
            f"the queue is on {old.name} still, or on both nodes with the access point stopped",
            "the same command again goes on; swarmhpc node list shows where it is",
        ),
        output.phases() as progress,
    ):
        leaving.move_queue(fleet, manager, situation, plan, progress)
    if situation.cluster.queue.machine is not None:
        output.say(f"note: queue: {{machine: {old.name}}} in your swarmhpc.yaml must become {{machine: {new.name}}}")
    if plan.lost:
        return
    # Where clients connect has changed: the daemons and this machine's context must say so before jobs are waited for.
    cluster = file_edits.with_queue(situation.cluster, new.name)
    with contextlib.suppress(typer.Exit), opened(cluster.machines) as all_of_file:
        bring_up(all_of_file, cluster, dry_run=False, timeout_s=300)


def _drain_stays(targets: Sequence[Row], verb: str) -> tuple[str, str]:
    names = " ".join(r.name for r in targets)
    return (
        f"{names or 'the Swarm'}: the drain stays on, running jobs finish, no new ones start there",
        f"swarmhpc node {verb} {names} goes on; swarmhpc node activate {names} takes it back",
    )


def _labels(words: Sequence[str]) -> dict[str, str]:
    wrong = [w for w in words if "=" not in w.strip("=")]
    if wrong:
        raise UsageError(f"--label: wanted KEY=VALUE, saw {', '.join(wrong)}", hint="--label disk=ssd")
    return dict(w.split("=", 1) for w in words)


def _role(word: str | None) -> Literal["manager", "worker"] | None:
    if word == "manager":
        return "manager"
    if word == "worker":
        return "worker"
    if word is None:
        return None
    raise UsageError(f"--role: wanted worker or manager, saw {word}", hint="--role worker")


def _say_what_to_write(path: Path, before: Cluster, larger: Cluster, added: Sequence[Machine]) -> None:
    from swarmhpc.cluster import file_edits

    usual = file_edits.usual_ssh(before)
    output.say(
        f"note: add to {path}, under machines: (the Swarm's copy has it, but {path.name} counts at the next up):"
    )
    for machine in added:
        output.say(file_edits.file_line(machine, usual))
    if any(m.role == "manager" for m in added):
        output.say(f"  and role: manager for each of {', '.join(m.name for m in larger.managers)}")


def _say_nothing_moves(manager: Engine, pool: str) -> None:
    from swarmhpc.cluster import leaving

    commands = "; ".join(leaving.spread_commands(manager, pool))
    output.say(
        "note: Swarm does not move running executors to a node that has room; only new ones start there"
        + (f". To spread all anew (they finish their jobs first), on a manager: {commands}" if commands else "")
    )


def _lines_to_remove(path: Path | None, names: Sequence[str]) -> Iterator[str]:
    """What a person has to take out of the file, with line numbers."""
    from swarmhpc import config

    if path is None:
        return
    listed = {m.name for m in config.load(path).machines}
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    for name in names:
        if name in listed:
            at = [i for i, line in enumerate(lines, 1) if re.match(rf"\s+[\"']?{re.escape(name)}[\"']?\s*:", line)]
            place = f"line {at[0]}: {lines[at[0] - 1].strip()}" if len(at) == 1 else f"{name} under machines:"
            yield f"note: remove {name} from {path} ({place}), or the next swarmhpc up brings it back"
