"""`swarmhpc autoscale`: turns the autoscaler on and off, and shows what it decides."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from swarmhpc.cli import output
from swarmhpc.cli.cluster import DryRun, File, Json, cluster_fleet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from swarmhpc.adapters.condor import Pool
    from swarmhpc.adapters.docker import Engine, Service
    from swarmhpc.scaling.view import ClassView

WAIT_S = 60.0
_LOCK_WAIT_S = 100.0
"""Longer than a lock outlives an autoscaler that died with it (scaling/autoscale.py, `one_round`)."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(autoscale)


def autoscale(
    context: typer.Context,
    turn: Annotated[
        Literal["on", "off"] | None, typer.Argument(metavar="on|off", help="Without it: show what is decided.")
    ] = None,
    file: File = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Let classes grow and shrink with the queue, between min and max; or show what is decided and why."""
    from swarmhpc import context as contexts
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.cluster import fleet as fleets
    from swarmhpc.errors import UsageError

    if json and turn is not None:
        raise UsageError(
            f"--json shows, autoscale {turn} changes: wanted one of them", hint="swarmhpc autoscale --json"
        )
    if dry_run and turn is None:
        raise UsageError("--dry-run goes with on or off", hint="swarmhpc autoscale on --dry-run")
    with cluster_fleet(file, context.obj) as (fleet, _):
        manager, pool = fleets.require_manager(fleet, context.obj)
        condor = Pool(contexts.load(pool))
        if turn is None:
            _show(manager, condor, pool, json=json)
        elif turn == "on":
            _on(manager, condor, pool, dry_run=dry_run)
        else:
            _off(manager, pool, dry_run=dry_run)


def _views(engine: Engine, pool: str) -> Mapping[str, ClassView]:
    from swarmhpc.scaling.view import look

    return look(engine, pool, (), engine.nodes())


# -- on and off -------------------------------------------------------------------------------------------------------


def _on(engine: Engine, condor: Pool, pool: str, *, dry_run: bool) -> None:
    from swarmhpc.cluster import status as wing
    from swarmhpc.errors import PoolError, UsageError, WaitTimeoutError
    from swarmhpc.scaling import autoscale as scaling

    views = _views(engine, pool)
    bounds = {n: v.plan for n, v in sorted(views.items()) if v.plan is not None and v.plan.maximum is not None}
    if not bounds:
        keys = " or ".join(f"executors.{name}.max" for name in sorted(views)) or "executors.NAME.max"
        raise UsageError(
            f"no class of pool {pool} has a max, so the autoscaler would have nothing to do; wanted {keys}",
            hint="write it in swarmhpc.yaml, then: swarmhpc up; swarmhpc autoscale on",
        )
    service = scaling.service(engine, pool)
    before = engine.tasks(service.id)
    is_on = bool(service.replicas)
    if is_on and any(t.is_up for t in before):
        output.say("nothing to do: the autoscaler is on")
        return
    ranges = ", ".join(f"{name} {plan.minimum} to {plan.maximum}" for name, plan in bounds.items())
    what = "wait for the autoscaler: it is on and does not run" if is_on else f"turn the autoscaler on: {ranges}"
    if dry_run:
        output.data(f"will {what}")
        return
    output.say(f"will {what}")
    with (
        output.interruptible("the autoscaler may be on by now", "swarmhpc autoscale shows it; swarmhpc autoscale off"),
        output.phases() as progress,
    ):
        progress.start("autoscaler")
        heard_at = wing.decisions(condor).heard_at
        scaling.set_on(engine, pool, on=True)
        known = set() if is_on else {t.id for t in before}
        start = time.monotonic()
        while True:
            tasks = [t for t in engine.tasks(service.id) if t.id not in known]
            running = any(t.is_up for t in tasks)
            silent = ""
            try:
                said = wing.decisions(condor)
            except PoolError as e:
                said, silent = wing.Decisions(), e.message
            if running and said.heard_at > heard_at and said.sizes:
                break
            words = "" if running else next((t.error for t in reversed(tasks) if t.error), "")
            seen = "runs, but has decided nothing yet" if running else "does not run yet"
            seen = "; ".join(filter(None, (seen, f"Swarm says: {words}" if words else "", silent)))
            progress.detail(seen)
            if time.monotonic() - start > WAIT_S:
                raise WaitTimeoutError(
                    f"the autoscaler is on, but after {WAIT_S:.0f} s it {seen}",
                    hint=f"on a manager: docker service logs {pool}_autoscaler; swarmhpc doctor; "
                    "or swarmhpc autoscale off",
                )
            time.sleep(0.3)
        progress.done(
            "; ".join(f"{name}: {wanted} wanted: {why}" for name, (wanted, why) in sorted(said.sizes.items()))
        )
    output.say("the autoscaler is on. Next: swarmhpc status --watch")


def _off(engine: Engine, pool: str, *, dry_run: bool) -> None:
    from swarmhpc.errors import WaitTimeoutError
    from swarmhpc.scaling import autoscale as scaling
    from swarmhpc.scaling import lock

    service = scaling.service(engine, pool)
    if not service.replicas and not any(t.runs_still for t in engine.tasks(service.id)):
        output.say("nothing to do: the autoscaler is off")
        return
    if dry_run:
        output.data("will turn the autoscaler off; every class keeps the executors it has")
        return
    with (
        output.interruptible("the autoscaler may be on still", "swarmhpc autoscale shows it"),
        output.phases() as progress,
    ):
        progress.start("autoscaler")
        # With the lock in our hand it is not in the middle of a change.
        with lock.held(engine, pool, "autoscale off", for_s=WAIT_S + 30, wait_s=_LOCK_WAIT_S, say=progress.detail):
            scaling.set_on(engine, pool, on=False)
            start = time.monotonic()
            while any(t.runs_still for t in engine.tasks(service.id)):
                progress.detail("ends")
                if time.monotonic() - start > WAIT_S:
                    raise WaitTimeoutError(
                        f"the autoscaler is off, but after {WAIT_S:.0f} s its container still runs",
                        hint="swarmhpc doctor; swarmhpc autoscale off goes on",
                    )
                time.sleep(0.2)
        progress.done("off; every class keeps the executors it has")


# -- what it decides --------------------------------------------------------------------------------------------------


def _show(engine: Engine, condor: Pool, pool: str, *, json: bool) -> None:
    from swarmhpc.cli.status import unserved
    from swarmhpc.cluster import status as wing
    from swarmhpc.scaling import autoscale as scaling

    service = scaling.service(engine, pool)
    is_on = bool(service.replicas)
    said = wing.decisions(condor) if is_on else wing.Decisions()
    rows: list[dict[str, Any]] = []
    for name, view in sorted(_views(engine, pool).items()):
        wanted, reason = said.sizes.get(name, (None, None))
        low, high = (view.plan.minimum, view.plan.maximum) if view.plan is not None else (None, None)
        rows.append(
            {"name": name, "min": low, "max": high, "replicas": view.replicas, "wanted": wanted, "reason": reason}
        )
    if json:
        output.as_json(
            {
                "autoscaler": {"state": "on" if is_on else "off"},
                "classes": rows,
                "unserved": [asdict(u) for u in said.unserved],
            }
        )
        return
    numbers = ("MIN", "MAX", "REPLICAS", "WANTED")
    cells = [[*(_dash(v) for v in list(r.values())[:-1]), r["reason"] or _why_not(r, is_on=is_on)] for r in rows]
    output.show(
        [
            f"autoscaler: {'on' if is_on else 'off'}{_silence(engine, service) if is_on and not said.heard_at else ''}",
            output.grid(["CLASS", *numbers, "REASON"], cells, right=numbers),
            *unserved(said.unserved),
        ]
    )


def _silence(engine: Engine, service: Service) -> str:
    """Why one that is on says nothing."""
    tasks = engine.tasks(service.id)
    if any(t.is_up for t in tasks):
        return f", but it says nothing (on a manager: docker service logs {service.name})"
    words = next((t.error for t in reversed(tasks) if t.error), "")
    return ", but it does not run" + (f"; Swarm says: {words}" if words else "")


def _why_not(row: Mapping[str, Any], *, is_on: bool) -> str:
    if row["max"] is None:
        return f"no max: its size stays (executors.{row['name']}.max)"
    return "-" if is_on else "off: its size stays"


def _dash(value: object) -> object:
    return "-" if value is None else value
