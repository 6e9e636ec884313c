"""One command in an image as a job: from words on a command line to a job in the queue, and to its end.

The description goes through our own translator, so classes, sizes, images and files are judged as those of a file are.
Command and environment do not: they are handed over as ClassAd strings (HTCondor 25 manual, Job ClassAd Attributes:
Cmd, Arguments, Environment), because no value of a submit description can hold a line break.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarmhpc.errors import UsageError
from swarmhpc.jobs import submit
from swarmhpc.jobs.attached import Attached, Progress, Result, Stop

if TYPE_CHECKING:
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.jobs.resources import Limits
    from swarmhpc.jobs.translate import Translation

__all__ = [
    "Attached",
    "Output",
    "Progress",
    "Request",
    "Result",
    "Stop",
    "attach",
    "output_of",
    "retried",
    "run",
    "start",
    "translation",
]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNSAYABLE: Final = re.compile(r"[\x00-\x1f\x7f]")  # in a submit description
_CUTS: Final = re.compile(r"[,;=\s\\\"]")  # in a list of files or of remaps
_BREAKS: Final = re.compile(r"(\\*\n)|(?<=\$)(?=\w*[(\[])", re.ASCII)


@dataclass(frozen=True)
class Output:
    """`path`: relative to the job's working directory; `local`: absolute, here."""

    path: str
    local: str


@dataclass(frozen=True)
class Request:
    """What to run. `outputs`: PATH or PATH=LOCAL, as `output_of` reads them. `lines`: further submit commands."""

    image: str
    command: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    cpus: int | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    class_name: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    lines: tuple[str, ...] = ()


def run(
    pool: Pool,
    request: Request,
    *,
    limits: Limits,
    stdout: Callable[[bytes], object] | None = None,
    stderr: Callable[[bytes], object] | None = None,
) -> Result:
    """Runs one command and waits for its end: `swarmhpc.Pool.run`. Where it ends in any way, also by an exception such
    as KeyboardInterrupt, the job leaves the queue.

    Raises UsageError, DescriptionError, PoolError.
    """
    cwd = Path.cwd()
    job = start(pool, translation(request, cwd=cwd, limits=limits))
    kept: tuple[bytearray, bytearray] = bytearray(), bytearray()
    attached = attach(pool, job, request, cwd=cwd, stdout=stdout or kept[0].extend, stderr=stderr or kept[1].extend)
    try:
        result = attached.follow()
    except BaseException:
        attached.abandon()
        raise
    return replace(result, output=bytes(kept[0]), error=bytes(kept[1]))


def retried(reasons: Sequence[str]) -> Sequence[str]:
    """What may be tried again here. Raises UsageError for a timeout: HTCondor holds such a job and releases it a while
    later, and `run` takes a job that is held for one that has ended."""
    if any(word.strip().lower() == "timeout" for text in reasons for word in text.split(",")):
        raise UsageError(
            "--retry-on timeout: a run ends at its timeout",
            hint="swarmhpc submit FILE --timeout 2h --retry-on timeout; or a longer --timeout",
        )
    return reasons


def start(pool: Pool, translated: Translation) -> str:
    """Puts the job into the queue; its id."""
    (submitted,) = submit.submit(pool, translated)
    return f"{submitted.cluster}.0"


def attach(
    pool: Pool,
    job: str,
    request: Request,
    *,
    cwd: Path,
    stdout: Callable[[bytes], object],
    stderr: Callable[[bytes], object],
    stop: Stop | None = None,
) -> Attached:
    """The job's streams and its end, here."""
    remaps = tuple((Path(o.path).name, o.local) for o in (output_of(text, cwd) for text in request.outputs))
    return Attached(pool, job, stdout=stdout, stderr=stderr, outputs=remaps, stop=stop)


def output_of(text: str, cwd: Path) -> Output:
    """`PATH` or `PATH=LOCAL`. Without LOCAL, or where LOCAL is a directory, the file keeps its own name.

    Raises UsageError.
    """
    path, equals, local = text.partition("=")
    path = path.rstrip("/")
    if path in ("", ".") or path.startswith("/") or ".." in path.split("/"):
        raise UsageError(
            f"--output {text}: wanted a path below the job's working directory, such as result.txt",
            hint="let the command write, or copy, its results there",
        )
    name = Path(path).name
    target = cwd / local if equals else cwd / name
    if equals and (not local or local.endswith("/") or target.is_dir()):
        target /= name
    target = target.parent.resolve() / target.name
    for part in (path, str(target)):
        _sayable_path(f"--output {text}", part)
    if not target.parent.is_dir():
        raise UsageError(f"--output {text}: there is no directory {target.parent} here", hint=f"mkdir {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise UsageError(
            f"--output {text}: you can't write into {target.parent}", hint="name another place: PATH=LOCAL"
        )
    return Output(path, str(target))


def translation(request: Request, *, cwd: Path, limits: Limits) -> Translation:
    """The job as this pool is given it. Raises UsageError, or DescriptionError with all that is wrong."""
    lines = _lines(request, cwd, limits)
    text = "".join(f"{name} = {value}\n" for name, value in lines.items()) + "queue\n"
    translated = submit.prepare(Path("run"), text=text, cwd=cwd, limits=limits, append=request.lines)
    (cluster,) = translated.clusters
    forced = {}
    if request.command:
        forced["MY.Cmd"] = _expression("the command", request.command[0])
        forced["MY.Arguments"] = _expression("the command", _words(request.command[1:]))
    if request.environment:
        forced["MY.Environment"] = _expression(
            "the environment", _words(f"{n}={v}" for n, v in request.environment.items())
        )
    return replace(translated, clusters=(replace(cluster, common={**cluster.common, **forced}),))


def _lines(request: Request, cwd: Path, limits: Limits) -> dict[str, str]:
    lines = {"universe": "docker", "docker_image": _value("the image", request.image)}
    if request.command:
        if not request.command[0]:
            raise UsageError("the command is empty", hint="swarmhpc run debian -- true")
        # HTCondor wants one; the ClassAd string replaces it.
        lines |= {"executable": "/bin/true", "transfer_executable": "false"}
    for name in request.environment:
        if not _NAME.fullmatch(name):
            raise UsageError(f"--env {name!r} is no name of a variable", hint="--env NAME=VALUE, or --env NAME")
    if request.class_name:
        known = sorted(c.name for c in limits.classes)
        if known and request.class_name not in known:
            raise UsageError(
                f"--class {request.class_name}: this pool has {', '.join(known)}", hint=f"--class {known[0]}"
            )
        lines["requirements"] = f'SwarmHpcClass == "{_value("--class", request.class_name)}"'
    asked = {"request_cpus": request.cpus, "request_memory": request.memory_mib, "request_gpus": request.gpus}
    lines |= {name: str(number) for name, number in asked.items() if number is not None}
    if request.name:
        lines["batch_name"] = _value("--name", request.name)
    if request.inputs:
        lines["transfer_input_files"] = ", ".join(_inputs(request.inputs))
    outputs = [output_of(text, cwd) for text in request.outputs]
    # "" says none (a bare one counts as not given): else all that the job leaves behind would come back.
    lines["transfer_output_files"] = ", ".join(o.path for o in outputs) or '""'
    _once([o.local for o in outputs], "--output", "would come back as")
    _once([Path(o.path).name for o in outputs], "--output", "is the last part of two paths:")
    moved = [f"{Path(o.path).name}={o.local}" for o in outputs if o.local != str(cwd / Path(o.path).name)]
    if moved:
        lines["transfer_output_remaps"] = f'"{";".join(moved)}"'
    # For who detaches and fetches later.
    lines |= {"output": "run.$(Cluster).out", "error": "run.$(Cluster).err"}
    return lines


def _inputs(paths: Sequence[str]) -> list[str]:
    """A directory travels as one, with a slash behind it or not."""
    paths = [path if set(path) == {"/"} else path.rstrip("/") for path in paths]
    for path in paths:
        _sayable_path(f"--input {path}", path)
        if not path or path == "/":
            raise UsageError(f"--input {path!r}: wanted a file or directory", hint="--input data.csv")
    _once([Path(path).name for path in paths], "--input", "would be the name of two inputs in the job:")
    return [path.replace("$", "$(DOLLAR)") for path in paths]


def _once(names: Sequence[str], option: str, words: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{option}: {words} {twice[0]}, twice", hint="rename one")


def _value(what: str, text: str) -> str:
    """A text as the value of a submit command."""
    if not text.strip() or _UNSAYABLE.search(text) or text.endswith("\\") or '"' in text:
        raise UsageError(f"{what} is {text!r}; wanted a name", hint="swarmhpc run --help")
    return text.replace("$", "$(DOLLAR)")


def _sayable_path(what: str, path: str) -> None:
    if _UNSAYABLE.search(path) or _CUTS.search(path):
        raise UsageError(
            f"{what}: HTCondor can't send a path with blanks or any of , ; = \\ \" in it",
            hint="rename it, or put it into a directory and send that",
        )


def _words(words: Iterable[str]) -> str:
    """HTCondor's new syntax, raw (25 manual, condor_submit, arguments): each word in single quotes."""
    return " ".join("'" + word.replace("'", "''") + "'" for word in words)


def _expression(what: str, text: str) -> str:
    """A ClassAd expression for this text, in submit language.

    The old ClassAd syntax, which submit and queue use, has no escape but ``\\"`` (25.14, src/classad/lexer.cpp,
    tokenizeStringOld), and a line break would end the entry in the queue's log: it is what formatTime makes of ``%n``.
    A ``$`` stands in another string than the bracket behind it, so that there is no macro in it, for the submit
    language nor, as ``$$(``, for the match.
    """
    if "\r" in text:
        message = f"{what} has a carriage return in it, which HTCondor's queue can't hold"
        raise UsageError(message, hint="put a script with such line ends into a file, and send that with --input")
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise UsageError(f"{what} is no UTF-8", hint="put it into a file, and send that with --input") from e
    parts = [p for p in _BREAKS.split(text) if p]
    if len(parts) < 2 and "\n" not in text:
        return _literal(text)
    return "strcat(" + ", ".join(f'formatTime(0, "{p[:-1]}%n")' if p[-1] == "\n" else _literal(p) for p in parts) + ")"


def _literal(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def ignored_input(descriptor: int) -> bool:
    """Whether somebody feeds this standard input: a pipe or a file with something in it. A job has none."""
    try:
        seen = os.fstat(descriptor)
    except OSError:
        return False
    return stat.S_ISFIFO(seen.st_mode) or (stat.S_ISREG(seen.st_mode) and seen.st_size > 0)


def environment_of(words: Sequence[str], here: Mapping[str, str]) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME` with its value from `here`. Raises UsageError."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            if name not in here:
                raise UsageError(f"--env {name}: it is not set here", hint=f"--env {name}=VALUE")
            value = here[name]
        found[name] = value
    return found
