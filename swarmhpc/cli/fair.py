"""Who may have how much of the pool, and who has used how much: quota, usage."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from swarmhpc.cli import output
from swarmhpc.cli.waiting import Json
from swarmhpc.errors import UsageError

if TYPE_CHECKING:
    from swarmhpc.jobs.quota import Quota
    from swarmhpc.jobs.usage import Usage


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(quota)
    app.command()(usage)


def quota(context: typer.Context, json: Json = False) -> None:
    """Show what people, groups and limited kinds of jobs have in use, and what they may have."""
    from swarmhpc.pool import Pool

    found = Pool(context.obj).quota()
    if json:
        output.as_json(_as_data(found))
        return
    parts: list[output.Part] = [
        output.grid(
            ["PERSON", "GROUP", "FACTOR", "PRIORITY", "JOBS", "CPUS", "WAITING"],
            [
                [p.name, p.group or "-", f"{p.priority_factor:g}", "-" if p.priority is None else f"{p.priority:.1f}",
                 _of(p.jobs_running, p.max_jobs), _of(p.cpus_in_use, p.max_cpus), p.jobs_waiting]
                for p in found.people
            ],
            right=("FACTOR", "PRIORITY", "JOBS", "CPUS", "WAITING"),
        )
    ]  # fmt: skip
    if found.groups:
        parts += ["", output.grid(
            ["GROUP", "SHARE", "JOBS", "CPUS", "MORE WHILE FREE"],
            [
                [g.name, "-" if g.share_percent is None else f"{g.share_percent}%", g.jobs_running,
                 _of(g.cpus_in_use, g.cpus_allowed), "yes" if g.surplus else "no"]
                for g in found.groups
            ],
            right=("SHARE", "JOBS", "CPUS"),
        )]  # fmt: skip
    if found.limits:
        rows = [[limit.name, _of(limit.in_use, limit.allowed)] for limit in found.limits]
        parts += ["", output.grid(["LIMIT", "IN USE"], rows, right=("IN USE",))]
    output.show(parts)


def _of(used: float, allowed: float | None) -> str:
    return f"{used:g}" if allowed is None else f"{used:g}/{allowed:g}"


def _as_data(found: Quota) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found)


def usage(
    context: typer.Context,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="How far back: 2h, 7d, or a time such as 2026-11-22T03:00.")
    ] = "7d",
    by: Annotated[Literal["person", "group", "class", "day"], typer.Option(help="What to add up by.")] = "person",
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    json: Json = False,
) -> None:
    """Show what jobs have used: core-hours, memory, how many failed, how much of what they held they used."""
    from swarmhpc.pool import Pool

    if csv and json:
        raise UsageError("--csv and --json: wanted one of them", hint="swarmhpc usage --csv")
    found = Pool(context.obj).usage(since, by)
    if json:
        output.as_json([_plain(u, by) for u in found])
    elif csv:
        output.data(_csv([_plain(u, by) for u in found], by))
    else:
        output.table(
            [by.upper(), "JOBS", "FAILED", "RUNNING", "CORE-HOURS", "GIB-HOURS", "CPU USED", "MEMORY USED"],
            [
                [u.name or "-", u.jobs, u.failed, u.running, f"{u.core_hours:.2f}", f"{u.memory_gib_hours:.2f}",
                 _percent(u.cpu_efficiency), _percent(u.memory_efficiency)]
                for u in found
            ],
            right=("JOBS", "FAILED", "RUNNING", "CORE-HOURS", "GIB-HOURS", "CPU USED", "MEMORY USED"),
        )  # fmt: skip


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{part:.0%}"


def _plain(u: Usage, by: str) -> dict[str, Any]:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    return {
        by: u.name or None,
        "jobs": u.jobs,
        "failed": u.failed,
        "running": u.running,
        "core_hours": rounded(u.core_hours),
        "memory_gib_hours": rounded(u.memory_gib_hours),
        "cpu_used_hours": rounded(u.cpu_used_s / 3600),
        "cpu_efficiency": rounded(u.cpu_efficiency),
        "memory_efficiency": rounded(u.memory_efficiency),
    }


def _csv(rows: list[dict[str, Any]], by: str) -> str:
    """With a header, also where there is nothing. Nothing known is an empty field."""
    names = list(rows[0]) if rows else [by]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
