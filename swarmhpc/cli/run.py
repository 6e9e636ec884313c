"""`swarmhpc run`: one command in an image, somewhere in the pool, as if it ran here."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from swarmhpc import states
from swarmhpc.cli import findings, output, retrying
from swarmhpc.errors import JobFailedError, SwarmHpcError, UsageError

if TYPE_CHECKING:
    from types import FrameType

    from swarmhpc.jobs.run import Progress, Request, Result, Stop
    from swarmhpc.pool import Pool

_WHY_AFTER_S: Final = 10.0
_WAITING: Final = {
    states.SUBMITTED: "its files are on their way",
    states.PENDING: "waiting",
    states.RUNNABLE: "waiting for a slot",
    states.STARTING: "starting",
    states.RUNNING: "running",
}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    # What stands behind the image belongs to the command.
    app.command(context_settings={"allow_interspersed_args": False})(run)


def run(
    context: typer.Context,
    image: Annotated[str, typer.Argument(help="A docker image, such as debian:12.", metavar="IMAGE")],
    command: Annotated[
        list[str] | None, typer.Argument(help="The command; none: the image's own.", metavar="[--] [COMMAND...]")
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="A file or directory to send along (repeatable).")
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--output", help="PATH or PATH=LOCAL: a file or directory to bring back (repeatable)."),
    ] = None,
    cpus: Annotated[int | None, typer.Option(help="CPUs.", min=1)] = None,
    memory: Annotated[str | None, typer.Option(help="Memory, such as 512M or 4G.")] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs.", min=0)] = None,
    class_name: Annotated[str, typer.Option("--class", help="Run on an executor of this class.")] = "",
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE, or NAME with its value here (repeatable).")
    ] = None,
    name: Annotated[str, typer.Option(help="A name for the job.")] = "",
    retries: retrying.Retries = 0,
    retry_on: retrying.RetryOn = None,
    retry_memory: retrying.RetryMemory = "",
    retry_memory_max: retrying.RetryMemoryMax = "",
    timeout: retrying.Timeout = "",
    lease: retrying.Lease = "",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Don't wait: print the job's id.")] = False,
) -> None:
    """Run one command in an image: its output here as it comes, its exit code as ours.

    Ctrl-C removes the job; a second one leaves it.
    """
    from swarmhpc.jobs import retries as again
    from swarmhpc.jobs import run as wing
    from swarmhpc.jobs import submit
    from swarmhpc.pool import Pool

    words = command or []
    request = wing.Request(
        image=image,
        command=tuple(words[1:] if words[:1] == ["--"] else words),
        inputs=tuple(inputs or ()),
        outputs=tuple(outputs or ()),
        cpus=cpus,
        memory_mib=_memory_mib(memory),
        gpus=gpus,
        class_name=class_name,
        environment=wing.environment_of(env or (), os.environ),
        name=name,
    )
    lines = partial(
        again.lines, retries=retries, retry_on=wing.retried(retry_on or ()), retry_memory=retry_memory,
        retry_memory_max=retry_memory_max, timeout=timeout, lease=lease,
    )  # fmt: skip
    lines()  # what is wrong with them is told before anybody is asked
    pool = Pool(context.obj)
    limits = pool.limits()
    request = replace(request, lines=lines(largest_memory_mib=limits.largest_memory_mib))
    try:
        translated = wing.translation(request, cwd=Path.cwd(), limits=limits)
    except submit.DescriptionError as e:
        # The description was made here: its places mean nothing to anybody.
        first, *_ = (f for f in e.findings if f.severity == "error")
        raise UsageError(first.message, hint=first.hint) from e
    for finding in translated.findings:
        if finding.severity == "warning":
            output.say(f"warning: {findings.printable(finding.message)}")
    if wing.ignored_input(sys.stdin.fileno() if sys.stdin else -1):
        output.say("note: a job has no standard input: what is piped in here is not read; send a file with --input")
    if detach:
        job = wing.start(pool.connection, translated)
        output.data(job)
        output.say(f"next: swarmhpc logs {job} --follow; its files, when it has ended: swarmhpc fetch {job}")
        return
    stop, signals = wing.Stop(), list[int]()
    _obey(stop, signals)
    _attached(pool, wing.start(pool.connection, translated), request, stop, signals)


def _memory_mib(text: str | None) -> int | None:
    from swarmhpc.units import BYTES_PER_MIB, mib, parse_size_bytes

    if text is None:
        return None
    try:
        size = mib(parse_size_bytes(text, plain_unit_bytes=BYTES_PER_MIB))
    except ValueError as e:
        raise UsageError(f"--memory: {e}", hint="--memory 512M") from e
    if not size:
        raise UsageError(f"--memory {text}: wanted more than nothing", hint="--memory 512M")
    return size


def _obey(stop: Stop, signals: list[int]) -> None:
    """Ctrl-C and a polite kill ask to stop. (A hang-up ends us and leaves the job.)"""

    def handler(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _attached(pool: Pool, job: str, request: Request, stop: Stop, signals: list[int]) -> NoReturn:
    from swarmhpc.jobs import run as wing

    line = _StatusLine()
    attached = wing.attach(
        pool.connection, job, request, cwd=Path.cwd(), stdout=line.writer(1), stderr=line.writer(2), stop=stop
    )
    try:
        result = attached.follow(_Told(pool, job, stop, line))
    finally:
        line.clear()
    if result.status in ("removed", "detached") and signals:
        _interrupted(result)
        sys.exit(128 + signals[0])
    _say_how(result, request)
    # Not typer.Exit: 130 means something else to it.
    sys.exit(result.code)


def _interrupted(result: Result) -> None:
    if result.status == "removed":
        output.say(f"job {result.id} was removed")
        return
    asked = "its removal was asked for" if result.reason else "it goes on"
    output.say(f"no longer waiting for job {result.id}: {asked}")
    output.say(f"  next: swarmhpc logs {result.id} --follow; or end it: swarmhpc rm {result.id}")


def _say_how(result: Result, request: Request) -> None:
    """What the exit code alone does not tell."""
    error: SwarmHpcError | None = None
    command = request.command[0] if request.command else ""
    if result.missing:
        names = ", ".join(result.missing)
        ended = f"the command ended with code {result.exit_code} and" if result.exit_code else "the command"
        error = JobFailedError(
            f"{ended} left no {names} behind", hint="--output names what it makes, from where it runs"
        )
    elif result.status == "held" and result.hold_code in states.BY_REQUEST:
        error = JobFailedError(
            f"job {result.id} is held: {result.reason}",
            hint=f"swarmhpc release {result.id} && swarmhpc logs {result.id} --follow",
        )
    elif result.status == "held":
        error = _held(result)
    elif result.status == "removed":
        error = JobFailedError(f"job {result.id} has left the queue: {result.reason or 'somebody removed it'}")
    elif result.exit_code in (126, 127) and result.silent and command:
        can = "was not found" if result.exit_code == 127 else "can't be run"
        error = JobFailedError(f"{command!r} {can} in image {request.image}")
    if error is not None:
        output.failure(error)


def _held(result: Result) -> JobFailedError:
    reason = findings.printable(result.reason)
    hints = {
        34: "give it more: --memory 2G",
        35: "check the image's name, and that the pool's machines reach its registry",
        47: "give it more time: --timeout",
    }
    return JobFailedError(
        f"job {result.id} could not be run to its end, and was removed: {reason} (code {result.hold_code})",
        hint=hints.get(result.hold_code, "docs/why.md"),
    )


class _StatusLine:
    """One line at the bottom of a terminal that gives way to whatever else is printed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = False

    def show(self, text: str) -> None:
        """Replaces it. Nothing where there is no terminal."""
        if self._wanted:
            with self._lock:
                width = max(20, output.err.width - 1)
                _write(2, f"\r\x1b[K{text[:width]}".encode())
                self._shown = True

    def clear(self) -> None:
        """Takes it away."""
        with self._lock:
            self._clear()

    def writer(self, descriptor: int) -> Callable[[bytes], None]:
        """Writes to standard output or standard error."""

        def write(data: bytes) -> None:
            with self._lock:
                self._clear()
                _write(descriptor, data)

        return write

    def _clear(self) -> None:
        if self._shown:
            _write(2, b"\r\x1b[K")
            self._shown = False


def _write(descriptor: int, data: bytes) -> None:
    # Unbuffered, so that nothing is left to fail when we exit.
    while data:
        data = data[os.write(descriptor, data) :]


class _Told:
    """Tells, while the job has printed nothing, what it waits for."""

    def __init__(self, pool: Pool, job: str, stop: Stop, line: _StatusLine) -> None:
        self._pool, self._job, self._stop, self._line = pool, job, stop, line
        self._why_at_s, self._why = _WHY_AFTER_S, ""
        self._removing = False
        self._attempt = 1

    def __call__(self, p: Progress) -> None:
        if self._stop.count and not self._removing:
            self._removing = True
            self._line.clear()
            output.say(f"removing job {self._job}; again, to leave it as it is")
        if p.attempt > self._attempt:
            self._attempt = p.attempt
            self._line.clear()
            output.say(f"job {self._job}: attempt {p.attempt}")
        if self._removing or p.has_spoken:
            return
        if p.state == states.RUNNABLE and p.waited_s > self._why_at_s:
            self._why_at_s *= 2
            self._explain()
        self._line.show(f"job {self._job}: {_WAITING.get(p.state, p.state)}, {p.waited_s:.0f} s")

    def _explain(self) -> None:
        try:
            reasons = self._pool.why(self._job)
        except SwarmHpcError:
            return
        if reasons and reasons[0].message != self._why:
            self._why = reasons[0].message
            self._line.clear()
            output.say(f"job {self._job}: {findings.printable(self._why)}")
