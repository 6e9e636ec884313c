"""`swarmhpc scale`: how many executors each class has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from swarmhpc.cli import output
from swarmhpc.cli.cluster import DryRun, File, cluster_fleet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from swarmhpc.cluster.fleet import Fleet
    from swarmhpc.scaling.scale import Hands


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(scale)


def scale(
    context: typer.Context,
    wants: Annotated[
        list[str], typer.Argument(metavar="CLASS=NUMBER", help="executors=5, or executors=+2, or executors=-2.")
    ],
    file: File = None,
    dry_run: DryRun = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until those that leave have finished their jobs.")] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Do not let those that leave finish: their jobs go back to the queue.")
    ] = False,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", help="Seconds to wait for new executors (else 300), with --wait also for jobs."),
    ] = None,
) -> None:
    """Change how many executors classes have. Running jobs are never ended by it."""
    from swarmhpc import context as contexts
    from swarmhpc.cluster import fleet as fleets
    from swarmhpc.scaling import lock
    from swarmhpc.scaling import scale as wing
    from swarmhpc.scaling.hands import administrator

    with cluster_fleet(file, context.obj) as (fleet, _):
        manager, pool = fleets.require_manager(fleet, context.obj)
        hands = administrator(fleet, manager, contexts.load(pool))
        changes = wing.decide(views := hands.look(), wing.parse(wants, views))
        for line in (line for c in changes for line in wing.describe(c)):
            (output.data if dry_run else output.say)(f"will {line}" if not line.startswith(" ") else line)
        if not changes:
            output.say("nothing to do: every class named has its size")
        if dry_run or not changes:
            return
        what = " ".join(f"{c.name}={c.target}" for c in changes)
        with (
            output.interruptible(
                "what has been asked for goes on; executors that leave finish their jobs", "swarmhpc status"
            ),
            output.phases() as progress,
        ):
            progress.start("scale")
            up_s = 300 if timeout_s is None else timeout_s
            with lock.held(manager, pool, what, for_s=up_s * len(changes) + 60, wait_s=up_s, say=progress.detail):
                draining = wing.apply(hands, changes, progress, timeout_s=up_s)
            if wing.autoscaler_is_on(manager, pool):
                progress.notice("the autoscaler is on and may change this again: swarmhpc autoscale off")
            _rest(fleet, hands, draining, progress, wait=wait, now=now, timeout_s=timeout_s)


def _rest(
    fleet: Fleet,
    hands: Hands,
    draining: Mapping[str, frozenset[str]],
    progress: output.Phases,
    *,
    wait: bool,
    now: bool,
    timeout_s: float | None,
) -> None:
    """Those that still finish jobs: says so, or waits, or sends the jobs back."""
    from swarmhpc.cluster import leaving
    from swarmhpc.errors import WaitTimeoutError
    from swarmhpc.scaling import scale as wing
    from swarmhpc.scaling.view import hosts

    for name, tasks in draining.items():
        if not tasks:
            continue
        if now:
            leaving.evict(fleet, hands.engine, hands.pool, hosts(hands.look(), tasks))
        if not wait and not now:
            output.say(f"{name}: {len(tasks)} draining (swarmhpc status shows them; --wait waits)")
            continue
        progress.start(name)
        left = wing.wait_gone(hands, name, tasks, progress, timeout_s=timeout_s)
        if left and timeout_s is not None:
            raise WaitTimeoutError(
                f"{name}: after {timeout_s:.0f} s {len(left)} executors still finish their jobs; they go on",
                hint="swarmhpc status; the same with --now sends their jobs back to the queue",
            )
        progress.done(f"{name}: all that were to leave have left")
