"""`swarmhpc check` and `swarmhpc translate`, and the way that `submit` shares with them: a description is read once,
its findings are shown, and it is judged with a pool or without one."""

from __future__ import annotations

import io
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from swarmhpc.cli import findings as shown
from swarmhpc.cli import output
from swarmhpc.errors import NoPoolError, PoolError, UsageError

if TYPE_CHECKING:
    from swarmhpc.context import Context
    from swarmhpc.jobs.description import Description
    from swarmhpc.jobs.findings import Finding
    from swarmhpc.jobs.resources import Limits
    from swarmhpc.jobs.translate import Cluster, Line, Translation

STANDARD_INPUT: Final = "-"
_OVERRIDE: Final = re.compile(r"[A-Za-z_+][\w.+-]*\s*=")
_PATIENCE_S: Final = 2.0  # for each address of a pool


def _two_dashes(lines: list[str] | None) -> list[str] | None:
    """condor_submit has long options with one dash; here -append is -a with the line `ppend`."""
    if lines and "ppend" in lines:
        raise UsageError("-append is written --append here, or -a", hint="--append LINE")
    return lines


Files = Annotated[
    list[str],
    typer.Argument(
        help="Submit descriptions (- is standard input), and NAME=VALUE for macros and commands.", metavar="FILE"
    ),
]
OneFile = Annotated[str, typer.Argument(help="A submit description (- is standard input).", metavar="FILE")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Macros and commands, set before the file is read.", metavar="NAME=VALUE"),
]
Append = Annotated[
    list[str] | None,
    typer.Option(
        "--append",
        "-a",
        metavar="LINE",
        help="A line to add before the queue statement; repeatable.",
        callback=_two_dashes,
    ),
]
AllowCommands = Annotated[
    bool,
    typer.Option("--allow-commands", help="Run the commands that the description asks for; each is shown first."),
]
Adapt = Annotated[
    bool,
    typer.Option("--adapt", help="Drop the terms of requirements that can never match in this pool; lists each."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(check)
    app.command()(translate)


@dataclass(frozen=True)
class Given:
    """A description as it was read, and the texts that its findings point into."""

    file: str
    description: Description
    texts: shown.Texts


# -- the commands ----------------------------------------------------------------------------------------------------


def check(
    context: typer.Context,
    words: Files,
    append: Append = None,
    allow_commands: AllowCommands = False,
    no_pool: Annotated[bool, typer.Option("--no-pool", help="Do not ask the pool.")] = False,
    json: Json = False,
) -> None:
    """Show all that is wrong in submit descriptions, or worth knowing. Exit code 1 when one has an error."""
    _encode_anything()
    files, overrides = split(words)
    # Every file before the first word about one: a name that is misspelt is wrong usage, whatever the others have.
    texts = {file: read_text(file) for file in files}
    limits = None if no_pool else _limits_if_it_answers(context.obj)
    documents, summaries, failed = [], [], False
    for file, text in texts.items():
        found, jobs, said = _judged(file, text, overrides, append or (), limits, allow_commands=allow_commands)
        failed = failed or has_errors(found)
        if json:
            documents.append({"file": file, "jobs": jobs, "findings": [shown.as_data(f, file) for f in found]})
        else:
            shown.show(found, said, output.out)
        summaries.append(shown.summary(file, jobs, found))
    if json:
        output.as_json(documents)
    else:
        sys.stdout.flush()  # the findings stand before the summary, also where both go into one file
        for line in summaries:
            output.say(line)
    if failed:
        raise typer.Exit(1)


def translate(
    context: typer.Context,
    file: OneFile,
    overrides: Overrides = None,
    append: Append = None,
    allow_commands: AllowCommands = False,
    adapt: Adapt = False,
    job: Annotated[
        int | None, typer.Option("--job", metavar="N", min=0, help="Show the values of this job, counted from 0.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what would be submitted, line by line, where each comes from and why it changed."""
    _encode_anything()
    given = read_one([file, *(overrides or ())], append, allow_commands=allow_commands)
    file = given.file
    # What can never match depends on the pool's executors; all else that is shown does not.
    result = judge(given, _limits_if_it_answers(context.obj) if adapt else None, adapt=adapt)
    found = result.findings
    chosen = None if has_errors(found) else _chosen(result, job, file)
    if json:
        output.as_json(
            {
                "file": file,
                "jobs": given.description.jobs,
                "clusters": list(as_data(result, chosen)),
                "findings": [shown.as_data(f, file) for f in found],
            }
        )
    else:
        # What was changed stands beside each line.
        shown.show(worth_telling(found, notes=False), given.texts, output.err)
    refuse_errors(found, file)
    if not json:
        print_flat(result, chosen)


# -- what submit shares ----------------------------------------------------------------------------------------------


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files and NAME=VALUE words, in any order; each file once. Raises UsageError where there is no file."""
    overrides = [w for w in words if _OVERRIDE.match(w)]
    files = list(dict.fromkeys(w for w in words if not _OVERRIDE.match(w)))
    if not files:
        raise UsageError(
            f"{overrides[0]} sets a name, and no submit description is named", hint=f"FILE {overrides[0]}; a file: ./…"
        )
    return files, overrides


def read_text(file: str) -> str:
    """The text of a submit description; `-` is standard input. Raises UsageError."""
    from swarmhpc.jobs import submit as wing

    return wing.decoded(sys.stdin.buffer.read()) if file == STANDARD_INPUT else wing.read(Path(file))


def read(file: str, text: str, *, overrides: Sequence[str], append: Sequence[str], allow_commands: bool) -> Given:
    """Reads a description, once: with `allow_commands`, this is when they run. Raises UsageError."""
    from swarmhpc.jobs.assignments import APPENDED, COMMAND_LINE
    from swarmhpc.jobs.description import parse
    from swarmhpc.jobs.machine import sources

    texts = shown.Texts()
    texts.remember(file, text)
    texts.remember(COMMAND_LINE, "\n".join(overrides))
    texts.remember(APPENDED, "\n".join(append))
    machine = sources(Path(file), Path.cwd(), run=allow_commands)
    machine = replace(machine, read=texts.recording(machine.read), run=_announced(machine.run))
    return Given(file, parse(text, file=file, sources=machine, overrides=overrides, append=append), texts)


def read_one(words: Sequence[str], append: Sequence[str] | None, *, allow_commands: bool) -> Given:
    """Reads the one description among `words`; the others are NAME=VALUE. Raises UsageError."""
    files, overrides = split(words)
    if len(files) > 1:
        raise UsageError(
            f"wanted one submit description, saw {len(files)}: {', '.join(files)}", hint="swarmhpc check takes several"
        )
    return read(files[0], read_text(files[0]), overrides=overrides, append=append or (), allow_commands=allow_commands)


def judge(given: Given, limits: Limits | None, *, adapt: bool = False) -> Translation:
    """What this pool makes of a description; without `limits`, what any pool of swarmhpc would."""
    from swarmhpc.jobs import submit as wing
    from swarmhpc.jobs.translate import translate as translated

    return translated(given.description, limits=limits, side=wing.submit_side(Path.cwd()), adapt=adapt)


def worth_telling(findings: Iterable[Finding], *, notes: bool) -> list[Finding]:
    """What is shown where the findings are not what was asked for. Without `notes`, of them only what was dropped."""
    # A default that was filled in is no news.
    return [
        f
        for f in findings
        if f.severity != "note" or f.code == "adapted" or (notes and not f.code.startswith("default-"))
    ]


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether one of them is an error."""
    return any(f.severity == "error" for f in findings)


def refuse_errors(findings: Sequence[Finding], file: str) -> None:
    """Raises UsageError where one of them, already shown, is an error."""
    count = sum(f.severity == "error" for f in findings)
    if count:
        raise UsageError(
            f"{shown.printable(file)}: {shown.counted(count, 'mistake')}; nothing is submitted",
            hint=f"mend the file, then: swarmhpc check {shown.printable(file)}",
        )


def print_flat(translation: Translation, job: tuple[int, int] | None = None) -> None:
    """The flat description, a file of the submit language again: each line below a comment that says where it came
    from. `job`: of this one only, as (cluster, row)."""
    from swarmhpc.jobs.translate import variable

    several = len(translation.clusters) > 1
    for number, cluster in enumerate(translation.clusters):
        if job is not None and job[0] != number:
            continue
        if several:
            _print_comment(f"cluster {number + 1} of {len(translation.clusters)}")
        for line, value in _lines(translation, number, job):
            varies = job is None and line.name in cluster.varying
            _print_comment(_origin(line))
            output.data(f"{line.name} = $({variable(line.name)})" if varies else f"{line.name} = {value}")
        if job is not None or not cluster.varying:
            output.data(f"queue {1 if job else cluster.count}")
            continue
        # As they are submitted: fields are split at the unit separator, and a first and a last one guard the others
        # from what a row may not begin or end with (jobs/submit.py).
        names = ["swarmhpc_first", *(variable(name) for name in cluster.varying), "swarmhpc_last"]
        output.data(f"queue {','.join(names)} from (")
        for values, _files in cluster.rows():
            output.data("\x1f".join(["x", *values, "x"]))
        output.data(")")


def as_data(translation: Translation, job: tuple[int, int] | None = None) -> Iterator[dict[str, Any]]:
    """The clusters for JSON. `job`: of this one only, as (cluster, row)."""
    for number, cluster in enumerate(translation.clusters):
        if job is not None and job[0] != number:
            continue
        commands = [
            {
                "name": line.name,
                "value": value,
                "varies": line.name in cluster.varying,
                "file": line.place.file if line.place else None,
                "line": line.place.line if line.place else None,
                "column": line.place.column if line.place else None,
                "why": line.why,
            }
            for line, value in _lines(translation, number, job)
        ]
        yield {"jobs": cluster.count, "commands": commands}


# -- helpers ---------------------------------------------------------------------------------------------------------


def _judged(
    file: str,
    text: str,
    overrides: Sequence[str],
    append: Sequence[str],
    limits: Limits | None,
    *,
    allow_commands: bool,
) -> tuple[Sequence[Finding], int, shown.Texts]:
    """Findings about a description, or a DAG and its nodes' descriptions; its jobs, or nodes; the texts."""
    from swarmhpc.jobs import dag

    if dag.is_dag(file):
        texts = shown.Texts()
        flow = dag.read(
            Path(file), cwd=Path.cwd(), limits=limits, overrides=overrides, append=append,
            allow_commands=allow_commands, remember=texts.remember,
        )  # fmt: skip
        return flow.findings, len(flow.graph.names), texts
    given = read(file, text, overrides=overrides, append=append, allow_commands=allow_commands)
    return judge(given, limits).findings, given.description.jobs, given.texts


def _encode_anything() -> None:
    """Lines of a file are data that stdout may have no letters for; an escape is better than an end."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _announced(run: Callable[[str], str] | None) -> Callable[[str], str] | None:
    if run is None:
        return None
    allowed = run

    def announced(command: str) -> str:
        output.say(f"runs: {shown.printable(command)}")
        return allowed(command)

    return announced


def _limits_if_it_answers(name: str | None) -> Limits | None:
    """What the pool can take; None where no pool is known here. One that does not answer is a warning."""
    from swarmhpc import context as contexts

    try:
        context = contexts.load(name)
    except NoPoolError as e:
        if name is not None or any(contexts.home().glob("*/context.json")):
            output.say(f"warning: {e.message}; checked without a pool")
        return None
    try:
        return _limits(context)
    except PoolError as e:
        output.say(f"warning: {e.message}; checked without the pool")
        return None


def _limits(context: Context) -> Limits:
    from swarmhpc.adapters import machine

    # Asked first: the bindings would wait for 10 s and more, and take a while to load.
    port, addresses = context.central_manager_port, (context.address, *context.others)
    if not any(machine.port_answers(a, port, timeout_s=_PATIENCE_S) for a in addresses):
        raise PoolError(f"pool {context.pool} does not answer at {', '.join(addresses)} (port {port})")
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.jobs import submit as wing

    return wing.limits_of(Pool(context, patience_s=3))


def _chosen(translation: Translation, job: int | None, file: str) -> tuple[int, int] | None:
    """Cluster and row of the job that is the `job`-th of the file. Raises UsageError where there is none."""
    if job is None:
        return None
    rest = job
    for number, cluster in enumerate(translation.clusters):
        if rest < cluster.count:
            return number, rest
        rest -= cluster.count
    jobs = sum(c.count for c in translation.clusters)
    raise UsageError(f"--job: saw {job}, but {file} has {shown.counted(jobs, 'job')}", hint=f"--job {jobs - 1}")


def _lines(translation: Translation, number: int, job: tuple[int, int] | None) -> Iterator[tuple[Line, str]]:
    """The lines of a cluster with their values: those of the first job, or of `job`."""
    values = _row(translation.clusters[number], job[1]) if job is not None else {}
    for line in translation.lines:
        # An empty value in a row: this job does not have the command.
        if line.cluster == number and values.get(line.name) != "":
            yield line, values.get(line.name, line.value)


def _row(cluster: Cluster, row: int) -> Mapping[str, str]:
    values, _files = next(itertools.islice(cluster.rows(), row, None))
    return dict(zip(cluster.varying, values, strict=True))


def _origin(line: Line) -> str:
    if line.place is None:
        return f"default: {line.why}" if line.why else "default"
    where = f"{line.place.file}:{line.place.line}"
    return f"{where}: {line.why}" if line.why else where


def _print_comment(comment: str) -> None:
    if not output.out.is_terminal:
        output.data(f"# {shown.printable(comment)}")
        return
    from rich.text import Text

    output.out.print(Text(f"# {shown.printable(comment)}", "dim"), soft_wrap=True)
