"""What commands about jobs share: the pool, the words for jobs, waiting for their end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmhpc.cli import output
from swarmhpc.errors import JobFailedError

if TYPE_CHECKING:
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.adapters.job_ads import Job
    from swarmhpc.jobs.overview import Overview
    from swarmhpc.jobs.watch import Outcome

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Give up waiting after so many seconds (jobs go on).")]


def connect(context: typer.Context) -> tuple[Pool, str]:
    """The pool, and who I am in it."""
    from swarmhpc.pool import Pool

    pool = Pool(context.obj)
    return pool.connection, pool.person


def finish(
    pool: Pool,
    ids: Sequence[str],
    constraints: Sequence[str],
    *,
    get: bool,
    json: bool,
    timeout_s: float | None,
    keep_going: bool | None = None,
    any_end: bool = False,
    past: bool = False,
) -> None:
    """Waits, fetches when asked, prints, and fails when a job did. `keep_going`: as jobs/watch.py has it; None: where
    results are to be fetched, since those who want them want them all."""
    from swarmhpc.jobs import watch

    names = " ".join(ids)
    hint = f"the jobs go on: swarmhpc wait {names}, swarmhpc fetch {names}; or end them: swarmhpc rm {names}"
    began = time.monotonic()

    with output.interruptible("no longer waiting", hint), output.phases() as progress:
        progress.start("jobs")
        constraint = " || ".join(f"({c})" for c in constraints)
        outcome = watch.until_done(
            pool,
            constraint,
            on_change=lambda o: progress.detail("\n".join(line(c) for c in o.clusters)),
            timeout_s=timeout_s,
            keep_going=get if keep_going is None else keep_going,
            any_end=any_end,
            past=past,
        )
        fetched = 0
        if get:
            progress.detail("fetching results")
            fetched = len(
                watch.fetch(pool, outcome.jobs, on_progress=lambda n, of: progress.detail(f"fetched {n} of {of}"))
            )
        progress.done(
            f"{summary(outcome)} after {time.monotonic() - began:.1f} s" + (", results fetched" if fetched else "")
        )
    if json:
        clusters = sorted({j.cluster for j in outcome.jobs})
        output.as_json(
            {
                "clusters": [
                    {"cluster": c, "jobs": [result(j) for j in outcome.jobs if j.cluster == c]} for c in clusters
                ]
            }
        )
    _complain(outcome, names, fetched=get)


def line(c: Overview) -> str:
    """A cluster while it is waited for."""
    from swarmhpc.cli.queue_table import rate, shortened
    from swarmhpc.units import format_duration_s

    waiting = c.idle + c.uploading + c.unmade
    counts = [(waiting, "idle"), (c.running, "running"), (c.done, "done"), (c.failed, "failed"), (c.held, "held")]
    parts = [", ".join(f"{n} {word}" for n, word in counts if n)]
    if c.is_dag:
        parts = [f"{c.done} of {c.total} nodes done" + (f", {c.failed} failed" if c.failed else "")]
    if c.rate_per_s is not None:
        parts.append(rate(c.rate_per_s))
    if c.left_s is not None:
        parts.append(f"{format_duration_s(c.left_s)} left")
    return f"{c.cluster} {shortened(c.name, 20)}: {'; '.join(p for p in parts if p)}"


def summary(outcome: Outcome) -> str:
    """`3 completed, 1 held, 2 removed`."""
    gone = set(outcome.gone)
    counts = Counter(j.status for j in outcome.jobs if j.id not in gone)
    words = [f"{n} {s}" for s, n in sorted(counts.items())]
    return ", ".join(words + ([f"{len(gone)} removed"] if gone else [])) or "no jobs"


def _complain(outcome: Outcome, names: str, *, fetched: bool) -> None:
    failed = outcome.failed
    if not failed and not outcome.gone:
        return
    removed = {j.id: j.remove_reason for j in outcome.jobs if j.id in set(outcome.gone)}
    lines = [f"{j.id}: {_why(j)}" for j in failed[:5]]
    lines += [f"{i}: was removed from the queue{_because(removed.get(i, ''))}" for i in outcome.gone[:5]]
    total = len(failed) + len(outcome.gone)
    more = f" (and {total - len(lines)} more)" if total > len(lines) else ""
    rest = len(outcome.unfinished)
    so_far = f"; {rest} {'goes' if rest == 1 else 'go'} on" if rest else ""
    raise JobFailedError(
        f"{total} of {len(outcome.jobs)} jobs did not succeed{more}{so_far}\n  " + "\n  ".join(lines),
        hint=_next(outcome, names, fetched=fetched),
    )


def _next(outcome: Outcome, names: str, *, fetched: bool) -> str:
    rest = f"; for the others: swarmhpc wait {names} --keep-going" if outcome.unfinished else ""
    failed = outcome.failed
    held = next((j for j in failed if j.status == "held"), None)
    if held is not None:
        return f"swarmhpc why {held.id}; mend it and swarmhpc release {held.id}, or swarmhpc rm {names}{rest}"
    if failed and failed[0].dag_failed:
        got = "" if fetched else f"swarmhpc fetch {failed[0].cluster}; "
        return f"{got}its files tell more; mended and submitted again, it goes on where it failed{rest}"
    if not failed:
        return f"swarmhpc q --history {names}{rest}" if outcome.jobs else "swarmhpc q"
    return ("read the jobs' error files" if fetched else f"swarmhpc logs {failed[0].id} --error") + rest


def _because(reason: str) -> str:
    return f": {reason.rstrip('.')}" if reason else ""


def _why(j: Job) -> str:
    if j.status == "held":
        return f"held: {j.hold_reason} (code {j.hold_code})"
    if j.dag_failed:
        return f"ended with code {j.exit_code}: {j.dag_failed}"
    if j.exit_signal is not None:
        return f"ended by signal {j.exit_signal}"
    if j.exit_code in (126, 127):
        return f"ended with code {j.exit_code}: its command {j.command} was not found or can't be run" + (
            f" in image {j.image}" if j.image else ""
        )
    return f"ended with code {j.exit_code}"


def result(j: Job) -> dict[str, Any]:
    """How a job ended, for JSON."""
    return {
        "id": j.id,
        "status": j.status,
        "exit_code": j.exit_code,
        "exit_signal": j.exit_signal,
        "host": j.host or None,
        "output": j.output or None,
        "error": j.error or None,
        "hold_reason": j.hold_reason or None,
    }


def jobs_word(count: int) -> str:
    """`job` or `jobs`."""
    return "job" if count == 1 else "jobs"
