"""`swarmhpc submit`: a submit description, or a DAG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from swarmhpc.cli import check, findings, output, retrying
from swarmhpc.cli.waiting import Json, finish
from swarmhpc.errors import SwarmHpcError, UsageError

if TYPE_CHECKING:
    from swarmhpc.jobs.after import On
    from swarmhpc.jobs.dag import Workflow
    from swarmhpc.jobs.findings import Finding
    from swarmhpc.jobs.resources import Limits
    from swarmhpc.jobs.translate import Translation
    from swarmhpc.pool import Pool, Submission

File = Annotated[
    str, typer.Argument(help="A submit description (- is standard input), or a DAG: FILE.dag.", metavar="FILE")
]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(submit)


def submit(
    context: typer.Context,
    file: File,
    overrides: check.Overrides = None,
    append: check.Append = None,
    allow_commands: check.AllowCommands = False,
    adapt: check.Adapt = False,
    pin: Annotated[
        bool, typer.Option("--pin", help="Ask the registry once what each image's tag is now: one image for all jobs.")
    ] = False,
    after: Annotated[
        list[str] | None,
        typer.Option("--after", metavar="JOB", help="Begin when this cluster or job has ended; repeatable."),
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="With --after: the first job waits for the first one, and so on.")
    ] = False,
    sequential: Annotated[bool, typer.Option("--sequential", help="Each job waits for the one before it.")] = False,
    on: Annotated[
        str, typer.Option("--on", metavar="HOW", help="What the jobs wait for: success, failure, any (end).")
    ] = "success",
    retries: retrying.Retries = 0,
    retry_on: retrying.RetryOn = None,
    retry_memory: retrying.RetryMemory = "",
    retry_memory_max: retrying.RetryMemoryMax = "",
    timeout: retrying.Timeout = "",
    lease: retrying.Lease = "",
    rescue: Annotated[
        bool, typer.Option("--rescue/--no-rescue", help="A DAG that failed: go on where it failed, or begin anew.")
    ] = True,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the jobs and fetch their results.")] = False,
    json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be submitted; submit nothing.")] = False,
    timeout_s: Annotated[
        float | None,
        typer.Option("--wait-timeout", help="With --wait: give up waiting after so many seconds (jobs go on)."),
    ] = None,
) -> None:
    """Submit the jobs of an HTCondor submit description, or the nodes of a DAG file."""
    from swarmhpc.jobs import after as dependent
    from swarmhpc.jobs import dag
    from swarmhpc.jobs import retries as again

    waits = list(after or ())
    dependent.check(after=waits, each=each, sequential=sequential, on=on)
    files, words = check.split([file, *(overrides or ())])
    is_dag = dag.is_dag(files[0])
    if is_dag and len(files) > 1:
        raise UsageError(
            f"wanted one DAG, saw {len(files)} files: {', '.join(files)}", hint="SPLICE or SUBDAG EXTERNAL"
        )
    pool, limits, trouble = _reached(context.obj)
    lines = again.lines(
        retries=retries, retry_on=retry_on or (), retry_memory=retry_memory, retry_memory_max=retry_memory_max,
        timeout=timeout, lease=lease,
        largest_memory_mib=limits.largest_memory_mib if limits else 0,
    )  # fmt: skip
    appended = [*(append or ()), *lines]
    said = [*files, *words]
    ready = (
        _dag(said, appended, limits, allow_commands=allow_commands, adapt=adapt, pin=pin, rescue=rescue, json=json)
        if is_dag
        else _description(said, appended, limits, allow_commands=allow_commands, adapt=adapt, pin=pin, json=json)
    )
    if trouble is not None or pool is None:
        raise trouble or AssertionError("no pool and no trouble")
    if dry_run:
        _print(ready)
        return
    done = pool.submit(ready, after=waits, each=each, sequential=sequential, on=cast("On", on), rescue=rescue)
    what = findings.counted(done.jobs, "node") if is_dag else findings.counted(done.jobs, "job")
    kind = ("DAG" if is_dag else "cluster") + ("s" if len(done.ids) > 1 else "")
    told, ids = f"{what} submitted as {kind} {', '.join(done.ids)}", list(done.ids)
    if not wait:
        if json:
            output.as_json({"clusters": [{"cluster": c, "jobs": n} for c, n in zip(done.clusters, _counts(ready, done),
                                                                                     strict=True)]})  # fmt: skip
        else:
            output.data(told)
            output.say(f"next: swarmhpc wait {' '.join(ids)} && swarmhpc fetch {' '.join(ids)}")
        return
    output.say(told)
    finish(pool.connection, ids, [f"ClusterId == {i}" for i in ids], get=True, json=json, timeout_s=timeout_s)


def _reached(name: str | None) -> tuple[Pool | None, Limits | None, SwarmHpcError | None]:
    """The pool and its limits. What is wrong with it is raised later: mistakes in the file are told in any case."""
    from swarmhpc.pool import Pool

    try:
        pool = Pool(name)
        return pool, pool.limits(), None
    except SwarmHpcError as e:
        return None, None, e


def _counts(ready: Translation | Workflow, done: Submission) -> list[int]:
    """Jobs of each cluster that was submitted."""
    from swarmhpc.jobs.translate import Translation

    if isinstance(ready, Translation) and len(ready.clusters) == len(done.clusters):
        return [c.count for c in ready.clusters]
    return [done.jobs]


def _print(ready: Translation | Workflow) -> None:
    from swarmhpc.jobs.translate import Translation

    if isinstance(ready, Translation):
        check.print_flat(ready)
        return
    for name, text in ready.box.texts.items():
        output.data(f"# {name}\n{text}")


def _description(
    words: Sequence[str],
    append: Sequence[str],
    limits: Limits | None,
    *,
    allow_commands: bool,
    adapt: bool,
    pin: bool,
    json: bool,
) -> Translation:
    from swarmhpc.jobs import images

    given = check.read_one(words, list(append), allow_commands=allow_commands)
    translation = check.judge(given, limits, adapt=adapt)
    _show(translation.findings, given.texts, given.file, json=json)
    if limits is None:
        return translation
    translation, pinned = images.pinned(translation, _digest, asked=pin)
    findings.show(pinned, given.texts, output.err)
    return translation


def _dag(
    words: Sequence[str],
    append: Sequence[str],
    limits: Limits | None,
    *,
    allow_commands: bool,
    adapt: bool,
    pin: bool,
    rescue: bool,
    json: bool,
) -> Workflow:
    from swarmhpc.jobs import dag, images

    file, *overrides = words
    texts = findings.Texts()
    pins: list[Finding] = []

    def pinned(translation: Translation) -> Translation:
        translation, found = images.pinned(translation, _digest, asked=pin and limits is not None)
        pins.extend(found)
        return translation

    workflow = dag.read(
        Path(file), cwd=Path.cwd(), limits=limits, overrides=overrides, append=append, adapt=adapt,
        allow_commands=allow_commands, resume=rescue, remember=texts.remember, pin=pinned,
    )  # fmt: skip
    _show(workflow.findings, texts, file, json=json)
    findings.show(pins, texts, output.err)
    if workflow.rescue:
        output.say(
            f"goes on from {workflow.rescue}: {workflow.done} of {len(workflow.graph.names)} nodes are done;"
            " --no-rescue begins anew"
        )
    return workflow


@cache
def _resolver() -> Callable[[str], str]:
    """Asks registries. Made where an image is to be pinned: loading what it needs takes a while."""
    from swarmhpc.adapters import registry

    return registry.resolver()


def _digest(image: str) -> str:
    return _resolver()(image)


def _show(found: Sequence[Finding], texts: findings.Texts, file: str, *, json: bool) -> None:
    """Findings on stderr. Raises UsageError where one is an error."""
    findings.show(check.worth_telling(found, notes=not json), texts, output.err)
    check.refuse_errors(found, file)
