"""`swarmhpc q`, and the commands that change jobs in the queue: hold, release, rm, edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from swarmhpc.cli import output, queue_table, selecting, watching
from swarmhpc.cli.selecting import AllMine, Constraint, DryRun, Name, SomeIds, State, Yes
from swarmhpc.cli.waiting import Json, connect
from swarmhpc.errors import JobFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from swarmhpc.adapters.condor import Pool
    from swarmhpc.adapters.job_ads import Job
    from swarmhpc.jobs.overview import Overview
    from swarmhpc.jobs.select import Selection

MOST_FINISHED = 100


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("q")(queue)
    app.command()(hold)
    app.command()(release)
    app.command()(rm)
    app.command()(edit)


def queue(
    context: typer.Context,
    ids: SomeIds = None,
    everyone: Annotated[bool, typer.Option("--all", "-a", help="Everybody's jobs.")] = False,
    state: State = None,
    name: Name = "",
    constraint: Constraint = "",
    one_each: Annotated[bool, typer.Option("--jobs", help="One line a job.")] = False,
    clusters: Annotated[bool, typer.Option("--clusters", help="One line a cluster, also with ids or --json.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Jobs that have left the queue, the last first.")] = False,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="With --history: no older than 2h, 7d or 2026-11-22.")
    ] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many lines (history: else 100).")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh in place until Ctrl-C.")] = False,
    interval_s: Annotated[
        float | None, typer.Option("--interval", help="With --watch: seconds between two looks (else 2).")
    ] = None,
    json: Json = False,
) -> None:
    """List jobs: a line a cluster, or a line a job where one is named."""
    from swarmhpc.jobs.select import Selection

    _check(json=json, watch=watch, interval_s=interval_s, history=history, since=since)
    if clusters and (one_each or history):
        raise UsageError("--clusters is one line a cluster; wanted without --jobs and --history", hint="swarmhpc q")
    pool, _ = connect(context)
    selection = Selection(tuple(ids or ()), tuple(state or ()), name, constraint, everyone)
    if history:
        _history(pool, selection, since, limit or MOST_FINISHED, json=json)
        return
    by_job = not clusters and (one_each or bool(ids) or json)

    def look() -> list[str]:
        return _jobs_as_text(pool, selection, limit) if by_job else _clusters_as_text(pool, selection, limit)

    if watch:
        watching.watch(look, list, lambda lines: output.data("\n".join(lines)), interval_s or watching.INTERVAL_S)
        return
    if json and by_job:
        output.as_json([_data(pool, j) for j in _jobs(pool, selection)[:limit]])
    elif json:
        output.as_json([queue_table.cluster_data(c) for c in _clusters(pool, selection)[:limit]])
    else:
        shown = look()
        if len(shown) > 1:
            output.data("\n".join(shown))
        else:
            output.say("no such jobs in the queue; those that have left it: swarmhpc q --history")


def hold(
    context: typer.Context,
    ids: SomeIds = None,
    all_mine: AllMine = False,
    state: State = None,
    name: Name = "",
    constraint: Constraint = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Stop jobs and keep them in the queue until they are released."""
    chosen = selecting.selection(ids, all_mine=all_mine, state=state, name=name, constraint=constraint, verb="hold")
    pool, _ = connect(context)
    text, counts = selecting.meant(pool, chosen, "hold", yes=yes, dry_run=dry_run)
    if not dry_run:
        done = pool.hold(text, "held with swarmhpc hold")
        _tell("held", done, counts, json=json, why_not="held already, or finished")


def release(
    context: typer.Context,
    ids: SomeIds = None,
    all_mine: AllMine = False,
    state: State = None,
    name: Name = "",
    constraint: Constraint = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Let held jobs go on."""
    chosen = selecting.selection(ids, all_mine=all_mine, state=state, name=name, constraint=constraint, verb="release")
    pool, _ = connect(context)
    text, counts = selecting.meant(pool, chosen, "release", yes=yes, dry_run=dry_run)
    if not dry_run:
        done = pool.release(f"({text}) && JobStatus == 5", "released with swarmhpc release")
        _tell("released", done, counts, json=json, why_not="not held")


def rm(
    context: typer.Context,
    ids: SomeIds = None,
    all_mine: AllMine = False,
    state: State = None,
    name: Name = "",
    constraint: Constraint = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove jobs from the queue; running ones are stopped."""
    chosen = selecting.selection(ids, all_mine=all_mine, state=state, name=name, constraint=constraint, verb="rm")
    pool, _ = connect(context)
    text, counts = selecting.meant(pool, chosen, "rm", yes=yes, dry_run=dry_run)
    if not dry_run:
        going = counts.get("removed", 0)  # that they are on their way out already is what was wanted
        done = pool.remove(text, "removed with swarmhpc rm")
        _tell("removed", max(done, going), counts, json=json, why_not="being removed already")


def edit(
    context: typer.Context,
    ids: SomeIds = None,
    cpus: Annotated[str | None, typer.Option("--cpus", metavar="N", help="CPUs to ask for.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Memory to ask for.")] = None,
    disk: Annotated[str | None, typer.Option("--disk", metavar="SIZE", help="Disk to ask for.")] = None,
    gpus: Annotated[str | None, typer.Option("--gpus", metavar="N", help="GPUs to ask for.")] = None,
    priority: Annotated[
        str | None, typer.Option("--priority", metavar="N", help="Order among your own jobs; higher goes first.")
    ] = None,
    requirements: Annotated[
        str | None, typer.Option("--requirements", metavar="EXPR", help="Which executors may run it.")
    ] = None,
    class_name: Annotated[str | None, typer.Option("--class", metavar="NAME", help="The class to run in.")] = None,
    all_mine: AllMine = False,
    state: State = None,
    name: Name = "",
    constraint: Constraint = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Change what waiting or held jobs ask for. A held one is then to be released."""
    from swarmhpc.jobs import edit as wing

    asked = {
        "cpus": cpus,
        "memory": memory,
        "disk": disk,
        "gpus": gpus,
        "priority": priority,
        "requirements": requirements,
        "class_name": class_name,
    }
    changes = {key: value for key, value in asked.items() if value is not None}
    if not changes:
        raise UsageError("nothing is to be changed", hint="swarmhpc edit 12 --memory 2GiB")
    chosen = selecting.selection(ids, all_mine=all_mine, state=state, name=name, constraint=constraint, verb="edit")
    pool, _ = connect(context)
    text, counts = selecting.meant(pool, chosen, "edit", yes=yes, dry_run=dry_run)
    if dry_run:
        return
    done = wing.edit(pool, text, changes)
    _tell("edited", done, counts, json=json, why_not="running or finished")
    if counts.get("held") and not json:
        output.say(f"next: swarmhpc release {' '.join(ids) if ids else '--state FAILED'}")


def _tell(did: str, done: int, counts: Mapping[str, int], *, json: bool, why_not: str) -> None:
    total = sum(counts.values())
    if json:
        output.as_json({did: done, "meant": total})
    elif done or not total:
        rest = f"; {total - done} {'is' if total - done == 1 else 'are'} {why_not}" if total > done else ""
        output.say(f"{did} {done} {'job' if done == 1 else 'jobs'}{rest}")
    if total and not done:
        raise JobFailedError(f"{did} nothing: {selecting.told(counts)}: {why_not}", hint="swarmhpc q --jobs")


# -- what q looks at --------------------------------------------------------------------------------------------------


def _jobs(pool: Pool, selection: Selection) -> list[Job]:
    from swarmhpc.jobs import select

    return select.jobs(pool, selection)


def _clusters(pool: Pool, selection: Selection) -> list[Overview]:
    from swarmhpc.jobs import overview, select

    return overview.folded(overview.look(pool, select.constraint_of(pool, selection)))


def _clusters_as_text(pool: Pool, selection: Selection, limit: int | None) -> list[str]:
    found = _clusters(pool, selection)
    return _cut(queue_table.clusters(found[:limit], owners=selection.everyone), len(found), limit)


def _jobs_as_text(pool: Pool, selection: Selection, limit: int | None) -> list[str]:
    found = _jobs(pool, selection)
    lines = queue_table.jobs(found[:limit], owners=selection.everyone)
    if selection.ids:
        from swarmhpc.jobs import overview

        for dag in (j for j in found if j.universe == overview.DAG):
            lines += ["", *queue_table.nodes(overview.graph(pool, dag.cluster))]
    return _cut(lines, len(found), limit)


def _data(pool: Pool, j: Job) -> dict[str, object]:
    from swarmhpc.jobs import overview

    data = queue_table.job_data(j)
    return (
        {**data, "nodes": queue_table.nodes_data(overview.graph(pool, j.cluster))}
        if j.universe == overview.DAG
        else data
    )


def _cut(lines: list[str], total: int, limit: int | None) -> list[str]:
    return [*lines, f"… and {total - limit} more"] if limit is not None and total > limit else lines


def _history(pool: Pool, selection: Selection, since: str, limit: int, *, json: bool) -> None:
    from swarmhpc.jobs.history import history

    found = history(
        pool,
        selection.ids,
        everyone=selection.everyone,
        since=since,
        limit=limit,
        states=selection.states,
        name=selection.name,
        constraint=selection.constraint,
    )
    if json:
        output.as_json([queue_table.finished_data(j) for j in found])
    elif found:
        output.data("\n".join(queue_table.finished(found, owners=selection.everyone)))
    else:
        output.say("no such jobs have left the queue")


def _check(*, json: bool, watch: bool, interval_s: float | None, history: bool, since: str) -> None:
    if watch and (json or history):
        other = "--json prints one document" if json else "--history does not change"
        raise UsageError(f"--watch fills a screen, {other}: wanted one of them", hint=watching.loop("q"))
    if since and not history:
        raise UsageError("--since goes with --history", hint=f"swarmhpc q --history --since {since}")
    watching.check("q", watch=watch, interval_s=interval_s)
