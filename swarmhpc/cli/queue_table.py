"""What `swarmhpc q` shows: clusters, jobs, finished jobs; as lines of text and for JSON."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from swarmhpc.units import format_duration_s, format_mib

if TYPE_CHECKING:
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.adapters.job_ads import Job
    from swarmhpc.jobs.dag_nodes import DagNode
    from swarmhpc.jobs.overview import Overview


def lines(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> list[str]:
    """Columns side by side, cut at the width of a terminal. Rich takes six seconds for ten thousand rows."""
    texts = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    to_right = [c in right for c in columns]
    room = os.get_terminal_size().columns if sys.stdout.isatty() else None
    return [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(text, widths, to_right, strict=True)).rstrip()[
            :room
        ]
        for text in texts
    ]


def look(pool: Pool, person: str, *, everyone: bool) -> list[str]:
    """The lines of `swarmhpc q` without any option."""
    from swarmhpc.jobs import overview

    mine = "true" if everyone else f"Owner == {overview.quoted(person)}"
    return clusters(overview.folded(overview.look(pool, mine)), owners=everyone)


def clusters(found: Sequence[Overview], *, owners: bool) -> list[str]:
    """One line a cluster; nodes of a DAG are counted at it. GONE: fetched or removed."""
    counts = ("IDLE", "RUN", "DONE", "FAILED", "HELD", "GONE", "TOTAL")
    columns = ["CLUSTER", *(["OWNER"] if owners else []), "NAME", *counts, "RATE", "LEFT", "SUBMITTED"]
    rows = []
    for c in found:
        total = f"{c.total} nodes" if c.is_dag else c.total
        numbers = (c.idle + c.uploading + c.unmade, c.running, c.done - c.left, c.failed, c.held, c.left, total)
        left = format_duration_s(c.left_s) if c.left_s is not None else "-"
        owner = [c.owner] if owners else []
        rows.append([c.cluster, *owner, shortened(c.name), *numbers, rate(c.rate_per_s), left, clock(c.submitted_at)])
    return lines(columns, rows, right=(*counts, "RATE", "LEFT"))


def jobs(found: Sequence[Job], *, owners: bool) -> list[str]:
    """One line a job in the queue."""
    columns = [
        *("ID", *(("OWNER",) if owners else ()), "NAME", "STATE", "STATUS", "ATTEMPTS", "SUBMITTED", "STARTED"),
        *("RAN", "HOST", "CLASS", "EXIT", "REASON"),
    ]
    rows = [
        [
            *(j.id, *((j.owner,) if owners else ()), shortened(named(j)), j.state, j.status, j.attempts),
            *(clock(j.submitted_at), clock(j.started_at), ran(j), j.host or "-", j.class_name or "-", ended(j)),
            " ".join(j.hold_reason.split()) or "-",
        ]
        for j in found
    ]
    return lines(columns, rows, right=("ATTEMPTS", "RAN"))


def finished(found: Sequence[Job], *, owners: bool) -> list[str]:
    """One line a job that has left the queue: what it took beside what it asked for."""
    columns = [
        *("ID", *(("OWNER",) if owners else ()), "NAME", "STATE", "EXIT", "RAN", "CPUS", "CPU USED"),
        *("MEMORY USED", "OF", "FINISHED", "HOST", "CLASS", "REASON"),
    ]
    rows = []
    for j in found:
        share = efficiency(j)
        rows.append(
            [
                *(j.id, *((j.owner,) if owners else ()), shortened(named(j)), j.state, ended(j), ran(j), j.cpus or "-"),
                "-" if share is None else f"{share:.0%}",
                format_mib(j.memory_used_mib) if j.memory_used_mib else "-",
                format_mib(j.memory_mib) if j.memory_mib else "-",
                clock(j.finished_at or j.status_since),
                *(j.host or "-", j.class_name or "-"),
                # Why it left: what was fetched or ended by itself needs no words.
                " ".join(j.remove_reason.split()) if j.status == "removed" else "-",
            ]
        )
    return lines(columns, rows, right=("RAN", "CPUS", "CPU USED", "MEMORY USED", "OF"))


def nodes(found: Sequence[tuple[DagNode, str]]) -> list[str]:
    """One line a node of a DAG, with the id of its job where that is in the queue."""
    rows = [[n.name, n.state or "-", job or "-", shortened(" ".join(n.parents), 60) or "-"] for n, job in found]
    return lines(["NODE", "STATE", "JOB", "WAITS FOR"], rows)


def nodes_data(found: Sequence[tuple[DagNode, str]]) -> list[dict[str, Any]]:
    """The nodes of a DAG for JSON."""
    return [{"name": n.name, "state": n.state or None, "job": job or None, "parents": [*n.parents]} for n, job in found]


def efficiency(j: Job) -> float | None:
    """CPU time used of CPU time held; None where it did not run long enough to say."""
    held_s = j.run_time_s * j.cpus
    return j.cpu_time_s / held_s if held_s else None


def named(j: Job) -> str:
    """A job's name, or else its command's."""
    return j.name or j.node_name or j.command.rpartition("/")[2] or "-"


def shortened(name: str, most: int = 32) -> str:
    """A name that leaves room for the rest."""
    return name if len(name) <= most else name[: most - 1] + "…"


def rate(per_s: float | None) -> str:
    """`2.1/s`, `14/min`, `3/h`."""
    if per_s is None:
        return "-"
    if per_s >= 1:
        return f"{per_s:.1f}/s"
    return f"{per_s * 60:.0f}/min" if per_s * 60 >= 1 else f"{per_s * 3600:.0f}/h"


def ran(j: Job) -> str:
    """Wall clock of all attempts."""
    return format_duration_s(j.run_time_s) if j.run_time_s or j.started_at else "-"


def ended(j: Job) -> str:
    """Exit code or signal."""
    if j.exit_signal is not None:
        return f"signal {j.exit_signal}"
    return "-" if j.exit_code is None else str(j.exit_code)


def clock(at: int) -> str:
    """A time of this machine's clock."""
    return time.strftime("%m-%d %H:%M:%S", time.localtime(at)) if at else "-"


def job_data(j: Job) -> dict[str, Any]:
    """A job for JSON: `id`, `owner`, `status` (HTCondor's), `state` (ours) and what is known of it."""
    return {
        "id": j.id,
        "cluster": j.cluster,
        "owner": j.owner,
        "name": j.name or None,
        "state": j.state,
        "status": j.status,
        "attempts": j.attempts,
        "submitted_at": j.submitted_at,
        "started_at": j.started_at or None,
        "finished_at": j.finished_at or None,
        "run_time_s": j.run_time_s,
        "cpus": j.cpus or None,
        "memory_mib": j.memory_mib or None,
        "memory_used_mib": j.memory_used_mib or None,
        "disk_kib": j.disk_kib or None,
        "gpus": j.gpus,
        "cpu_time_s": j.cpu_time_s,
        "priority": j.priority,
        "class": j.class_name or None,
        "host": j.host or None,
        "image": j.image or None,
        "group": j.group or None,
        "hold_reason": j.hold_reason or None,
        "hold_code": j.hold_code or None,
        "exit_code": j.exit_code,
        "exit_signal": j.exit_signal,
        "dag": j.dag or None,
        "node": j.node_name or None,
    }


def finished_data(j: Job) -> dict[str, Any]:
    """A job that has left the queue, for JSON."""
    share = efficiency(j)
    return {
        **job_data(j),
        "cpu_efficiency": None if share is None else round(share, 4),
        "remove_reason": (j.remove_reason or None) if j.status == "removed" else None,
    }


def cluster_data(c: Overview) -> dict[str, Any]:
    """A cluster, or a DAG, for JSON."""
    return {
        "cluster": c.cluster,
        "owner": c.owner,
        "name": c.name or None,
        "kind": "dag" if c.is_dag else "jobs",
        "submitted_at": c.submitted_at,
        "idle": c.idle,
        "running": c.running,
        "done": c.done - c.left,
        "failed": c.failed,
        "held": c.held,
        "uploading": c.uploading,
        "not_made_yet": c.unmade,
        "total": c.total,
        "left_queue": c.left,
        "rate_per_s": None if c.rate_per_s is None else round(c.rate_per_s, 4),
        "time_left_s": c.left_s,
    }
