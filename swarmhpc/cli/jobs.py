"""Commands about jobs: submit, q, wait, fetch, rm."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmhpc.cli import check, findings, output
from swarmhpc.errors import JobFailedError, SwarmHpcError

if TYPE_CHECKING:
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.adapters.job_ads import Job
    from swarmhpc.jobs.translate import Translation
    from swarmhpc.jobs.watch import Outcome

Ids = Annotated[list[str], typer.Argument(help="Clusters like 12 or jobs like 12.0.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Give up waiting after so many seconds (jobs go on).")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(submit)
    app.command("q")(queue)
    app.command()(wait)
    app.command()(fetch)
    app.command()(rm)


def _connect(context: typer.Context) -> tuple[Pool, str]:
    from swarmhpc import context as contexts
    from swarmhpc.adapters.condor import Pool

    ctx = contexts.load(context.obj)
    return Pool(ctx), ctx.person


def submit(
    context: typer.Context,
    file: check.OneFile,
    overrides: check.Overrides = None,
    append: check.Append = None,
    allow_commands: check.AllowCommands = False,
    adapt: check.Adapt = False,
    pin: Annotated[
        bool, typer.Option("--pin", help="Ask the registry once what each image's tag is now: one image for all jobs.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the jobs and fetch their results.")] = False,
    json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be submitted; submit nothing.")] = False,
    timeout_s: Timeout = None,
) -> None:
    """Submit the jobs of an HTCondor submit description."""
    from swarmhpc.jobs import images
    from swarmhpc.jobs import submit as wing

    given = check.read_one([file, *(overrides or ())], append, allow_commands=allow_commands)
    try:
        pool, _person = _connect(context)
        limits = wing.limits_of(pool)
    except SwarmHpcError:
        # A mistake in the file is told also where no pool answers.
        _show(given, check.judge(given, None, adapt=adapt), json=json)
        raise
    translation = check.judge(given, limits, adapt=adapt)
    _show(given, translation, json=json)
    translation, pinned = images.pinned(translation, _digest, asked=pin)
    findings.show(pinned, given.texts, output.err)
    if dry_run:
        check.print_flat(translation)
        return
    clusters = wing.submit(pool, translation)
    ids = [str(c.cluster) for c in clusters]
    count = sum(c.jobs for c in clusters)
    told = f"{count} {_jobs(count)} submitted as {'cluster' if len(ids) == 1 else 'clusters'} {', '.join(ids)}"
    if not wait:
        if json:
            output.as_json({"clusters": [{"cluster": c.cluster, "jobs": c.jobs} for c in clusters]})
        else:
            output.data(told)
            output.say(f"next: swarmhpc wait {' '.join(ids)} && swarmhpc fetch {' '.join(ids)}")
        return
    output.say(told)
    _finish(pool, ids, [f"ClusterId == {i}" for i in ids], get=True, json=json, timeout_s=timeout_s)


@cache
def _resolver() -> Callable[[str], str]:
    """Asks registries. Made where an image is to be pinned: loading what it needs takes a while."""
    from swarmhpc.adapters import registry

    return registry.resolver()


def _digest(image: str) -> str:
    return _resolver()(image)


def _show(given: check.Given, translation: Translation, *, json: bool) -> None:
    """Findings on stderr. Raises UsageError where one is an error."""
    found = translation.findings
    findings.show(check.worth_telling(found, notes=not json), given.texts, output.err)
    check.refuse_errors(found, given.file)


def queue(context: typer.Context, json: Json = False) -> None:
    """List the jobs in the queue."""
    pool, _ = _connect(context)
    jobs = sorted(pool.jobs(), key=lambda j: (j.cluster, j.process))
    if json:
        output.as_json([_listed(j) for j in jobs])
        return
    output.table(
        ["ID", "OWNER", "STATUS", "ATTEMPTS", "SUBMITTED", "STARTED", "CLASS", "EXIT", "REASON"],
        [
            [j.id, j.owner, j.status, j.attempts, _clock(j.submitted_at), _clock(j.started_at), j.class_name or "-",
             _exit(j), j.hold_reason or "-"]
            for j in jobs
        ],
        right=("ATTEMPTS",),
    )  # fmt: skip


def wait(context: typer.Context, ids: Ids, json: Json = False, timeout_s: Timeout = None) -> None:
    """Wait until jobs have finished. Exit code 1 when one failed or is held."""
    from swarmhpc.jobs.submit import own

    pool, person = _connect(context)
    constraints = [own(pool, person, i) for i in ids]
    _finish(pool, ids, constraints, get=False, json=json, timeout_s=timeout_s)


def fetch(context: typer.Context, ids: Ids, json: Json = False) -> None:
    """Fetch outputs and logs of finished jobs to where their submit description names them."""
    from swarmhpc.jobs import watch
    from swarmhpc.jobs.submit import own

    pool, person = _connect(context)
    constraint = " || ".join(f"({own(pool, person, i)})" for i in ids)
    jobs = pool.jobs(constraint)
    with output.interruptible("what was not fetched is still in the queue", f"swarmhpc fetch {' '.join(ids)}"):
        done = watch.fetch(pool, jobs)
    rest = [j for j in jobs if j not in done]
    if json:
        output.as_json({"fetched": [_result(j) for j in done], "left": [_listed(j) for j in rest]})
    else:
        output.say(f"fetched {len(done)} {_jobs(len(done))}")
    if rest:
        counts = ", ".join(f"{n} {s}" for s, n in Counter(j.status for j in rest).items())
        raise JobFailedError(f"not finished yet: {counts}", hint=f"swarmhpc wait {' '.join(ids)}")


def rm(context: typer.Context, ids: Ids, json: Json = False) -> None:
    """Remove jobs from the queue; running ones are stopped."""
    from swarmhpc.jobs.submit import own

    pool, person = _connect(context)
    constraints = [own(pool, person, i) for i in ids]
    count = sum(pool.remove(c, "removed with swarmhpc rm") for c in constraints)
    if json:
        output.as_json({"removed": count})
    else:
        output.say(f"removed {count} {_jobs(count)}")


def _finish(
    pool: Pool, ids: Sequence[str], constraints: Sequence[str], *, get: bool, json: bool, timeout_s: float | None
) -> None:
    """Waits, fetches when asked, prints, and fails when a job did."""
    from swarmhpc.jobs import watch

    names = " ".join(ids)
    hint = f"the jobs go on: swarmhpc wait {names}, swarmhpc fetch {names}; or end them: swarmhpc rm {names}"
    began = time.monotonic()

    with output.interruptible("no longer waiting", hint), output.phases() as progress:
        progress.start("jobs")

        def show(outcome: Outcome) -> None:
            counts = Counter(j.status for j in outcome.jobs)
            progress.detail(", ".join(f"{n} {s}" for s, n in sorted(counts.items())))

        constraint = " || ".join(f"({c})" for c in constraints)
        outcome = watch.until_done(pool, constraint, on_change=show, timeout_s=timeout_s)
        fetched = 0
        if get:
            progress.detail("fetching results")
            fetched = len(watch.fetch(pool, outcome.jobs))
        counts = Counter(j.status for j in outcome.jobs if j.id not in outcome.gone)
        done = ", ".join(f"{n} {s}" for s, n in sorted(counts.items()))
        if outcome.gone:
            done += f"{', ' if done else ''}{len(outcome.gone)} removed"
        progress.done(f"{done} after {time.monotonic() - began:.1f} s" + (", results fetched" if fetched else ""))
    if json:
        clusters = sorted({j.cluster for j in outcome.jobs})
        output.as_json(
            {
                "clusters": [
                    {"cluster": c, "jobs": [_result(j) for j in outcome.jobs if j.cluster == c]} for c in clusters
                ]
            }
        )
    _complain(outcome, names)


def _complain(outcome: Outcome, names: str) -> None:
    failed = outcome.failed
    if not failed and not outcome.gone:
        return
    lines = [f"{j.id}: {_why(j)}" for j in failed[:5]] + [f"{i}: was removed from the queue" for i in outcome.gone[:5]]
    total = len(failed) + len(outcome.gone)
    more = f" (and {total - len(lines)} more)" if total > len(lines) else ""
    held = any(j.status == "held" for j in failed)
    raise JobFailedError(
        f"{total} of {len(outcome.jobs)} jobs did not succeed{more}\n  " + "\n  ".join(lines),
        hint=f"mend the submit description, then: swarmhpc rm {names}; held jobs stay in the queue until then"
        if held
        else "read the jobs' error files",
    )


def _why(j: Job) -> str:
    if j.status == "held":
        return f"held: {j.hold_reason} (code {j.hold_code})"
    if j.exit_signal is not None:
        return f"ended by signal {j.exit_signal}"
    if j.exit_code in (126, 127):
        return f"ended with code {j.exit_code}: its command {j.command} was not found or can't be run" + (
            f" in image {j.image}" if j.image else ""
        )
    return f"ended with code {j.exit_code}"


def _listed(j: Job) -> dict[str, Any]:
    return {
        "id": j.id,
        "owner": j.owner,
        "status": j.status,
        "attempts": j.attempts,
        "submitted_at": j.submitted_at,
        "started_at": j.started_at or None,
        "class": j.class_name or None,
        "host": j.host or None,
        "hold_reason": j.hold_reason or None,
        "exit_code": j.exit_code,
    }


def _result(j: Job) -> dict[str, Any]:
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


def _exit(j: Job) -> str:
    if j.exit_signal is not None:
        return f"signal {j.exit_signal}"
    return "-" if j.exit_code is None else str(j.exit_code)


def _clock(at: int) -> str:
    return time.strftime("%m-%d %H:%M:%S", time.localtime(at)) if at else "-"


def _jobs(count: int) -> str:
    return "job" if count == 1 else "jobs"
