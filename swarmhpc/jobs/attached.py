"""A job whose output appears here while it runs: its streams, its end, its results, and what Ctrl-C does to it."""

from __future__ import annotations

import contextlib
import queue
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from swarmhpc.errors import PoolError, PoolUnreachableError, SwarmHpcError
from swarmhpc.states import BY_REQUEST

if TYPE_CHECKING:
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.adapters.job_ads import Job

_PATIENCE_S: Final = 120.0  # with an access point that does not answer
_UNKNOWN_S: Final = 15.0  # with one that refuses us
_LAST_WORDS_S: Final = 5.0  # of a job that was removed
_MISSING_OUTPUT: Final = 12  # HoldReasonCode (25 manual): its output could not be sent
_MISSING: Final = re.compile(r"reading from file \S*?/scratch/(.+?): \(errno 2\)")


@dataclass(frozen=True)
class Result:
    """How a job ended. `output` and `error`: what it printed, where nobody else was given it."""

    id: str
    status: Literal["completed", "held", "removed", "detached"]
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""  # HTCondor's words where it was held or removed
    hold_code: int = 0
    missing: tuple[str, ...] = ()  # outputs that it did not make
    host: str = ""
    silent: bool = False  # nothing came on its standard error
    output: bytes = b""
    error: bytes = b""

    @property
    def code(self) -> int:
        """As a shell has it: the command's own, 128+n for signal n, 1 where it did not come to its end."""
        if self.signal is not None:
            return 128 + self.signal
        if self.exit_code is None:
            return 1
        return self.exit_code or int(self.status != "completed")


class Progress(NamedTuple):
    """Where the job stands. `waited_s`: since it was submitted; `has_spoken`: in this attempt."""

    state: str
    waited_s: float
    has_spoken: bool
    attempt: int


class Stop:
    """Asks an attached job to stop: once removes it, twice leaves it. May be called from a signal handler."""

    def __init__(self) -> None:
        self.count = 0
        self.wake: queue.SimpleQueue[None] = queue.SimpleQueue()  # the only thing here that a handler may use

    def __call__(self) -> None:
        """Once more."""
        self.count += 1
        self.wake.put(None)


def _printed(
    pool: Pool, job: str, stream: Literal["output", "error"], *, follow: bool, on_again: Callable[[], None]
) -> Iterator[bytes]:
    from swarmhpc.adapters.gateway import Gateway

    return Gateway(pool).logs(job, stream=stream, follow=follow, on_again=on_again)


class _Stream(threading.Thread):
    """Copies one stream of the job until its end."""

    def __init__(self, attached: Attached, name: Literal["output", "error"], write: Callable[[bytes], object]) -> None:
        super().__init__(daemon=True)
        self._attached, self._stream, self._write = attached, name, write
        self.failure: SwarmHpcError | OSError | None = None
        self._count = 0  # bytes of this attempt of the job that were copied
        self._skip = 0  # of those that come next: they were copied before

    @property
    def has_spoken(self) -> bool:
        """Whether anything came from this attempt of the job."""
        return self._count > 0

    def run(self) -> None:
        """Follows it."""
        try:
            self._copy(follow=True)
        finally:
            self._attached.stop.wake.put(None)

    def rest(self) -> None:
        """What is missing of the output of a job that has ended, where following it failed (as of a held job)."""
        if not self.is_alive() and isinstance(self.failure, SwarmHpcError):
            self.failure = None
            self._copy(follow=False)

    def add(self, whole: bytes) -> None:
        """What is missing of all that was printed."""
        rest, self._count = whole[self._count :], max(self._count, len(whole))
        if rest and not self.is_alive():
            self._write(rest)

    def _again(self) -> None:
        self._count = self._skip = 0

    def _copy(self, *, follow: bool) -> None:
        self._skip = self._count
        pool, job = self._attached.pool, self._attached.job
        try:
            for chunk in _printed(pool, job, self._stream, follow=follow, on_again=self._again):
                rest = chunk[self._skip :]
                self._skip = max(0, self._skip - len(chunk))
                if rest:
                    self._count += len(rest)
                    self._write(rest)
        except (SwarmHpcError, OSError) as e:
            self.failure = e


class Attached:
    """One job that is in the queue. `outputs`: (name in its sandbox, absolute path here) of files that come back."""

    def __init__(
        self,
        pool: Pool,
        job: str,
        *,
        stdout: Callable[[bytes], object],
        stderr: Callable[[bytes], object],
        outputs: tuple[tuple[str, str], ...] = (),
        stop: Stop | None = None,
    ) -> None:
        self.pool, self.job, self.outputs = pool, job, outputs
        self.stop = stop or Stop()
        self._streams = (_Stream(self, "output", stdout), _Stream(self, "error", stderr))
        self._removal = ""  # why we removed it

    def follow(self, on_progress: Callable[[Progress], object] = lambda _: None) -> Result:
        """Copies what the job prints, until it has ended; brings its outputs and takes it off the queue.

        Raises PoolUnreachableError when the access point does not answer for two minutes, SwarmHpcError where the
        output can't be had or written, PoolError where files can't be brought: each time the job is still in the
        queue, or its results are.
        """
        for stream in self._streams:
            stream.start()
        job = self._until_end(on_progress)
        if job is None:
            self._drain(_LAST_WORDS_S)
            return Result(self.job, "removed", reason=self._removal or self._last_words())
        if self.stop.count > 1:
            return self._detached()
        self._drain(_LAST_WORDS_S if self._removal else None)
        if self._removal and job.status != "completed":
            return Result(self.job, "removed", reason=self._removal)
        self._check_streams(job)
        return self._ended(job)

    def abandon(self) -> None:
        """Takes the job off the queue, if that can be done."""
        with contextlib.suppress(SwarmHpcError):
            self._remove("whoever waited for it was interrupted")

    # -- the end ----------------------------------------------------------------------------------------------------

    def _until_end(self, on_progress: Callable[[Progress], object]) -> Job | None:
        """The job as it ended or, where we detached, was last seen; None where it has left the queue."""
        began, silent_since = time.monotonic(), None
        job: Job | None = None
        while self.stop.count < 2:
            now = time.monotonic()
            try:
                self._obey()
                found = self.pool.jobs(self._constraint)
                silent_since = None
            except PoolError as e:
                # An access point that begins to answer again may at first not know anybody.
                patience_s = _PATIENCE_S if isinstance(e, PoolUnreachableError) else _UNKNOWN_S
                silent_since = silent_since or now
                if now - silent_since > patience_s:
                    e.hint = (
                        f"job {self.job} goes on without us: swarmhpc logs {self.job} --follow; before that: {e.hint}"
                    )
                    raise
                self._pause(1.0)
                continue
            if not found:
                return None
            (job,) = found
            if job.status in ("completed", "held"):
                return job
            has_spoken = any(s.has_spoken for s in self._streams)
            on_progress(Progress(job.state, now - began, has_spoken, job.attempts))
            self._pause(min(0.05 + (now - began) / 40, 1.0))
        return job or self._unseen()

    def _unseen(self) -> Job:
        """Left before it was looked at."""
        from swarmhpc.adapters.job_ads import job_of

        cluster, _, process = self.job.partition(".")
        return job_of({"ClusterId": int(cluster), "ProcId": int(process)})

    def _obey(self) -> None:
        """Removes the job where somebody asked for that, or where nobody reads what it prints."""
        if self._removal:
            return
        unread = any(isinstance(s.failure, BrokenPipeError) for s in self._streams)
        if self.stop.count or unread:
            self._remove("nobody read its output any more" if unread else "interrupted in swarmhpc run")
            self._removal = "interrupted" if not unread else "nobody reads its output any more"
            return
        for stream in self._streams:
            if isinstance(stream.failure, OSError):
                raise self._unwritten(stream.failure)

    def _pause(self, duration_s: float) -> None:
        """Waits, but not longer than until a stream ends or somebody asks to stop."""
        with contextlib.suppress(queue.Empty):
            self.stop.wake.get(timeout=duration_s)

    def _drain(self, longest_s: float | None) -> None:
        """Waits until all that was printed has been copied."""
        count, end = self.stop.count, time.monotonic() + (longest_s or 3600.0)
        while any(s.is_alive() for s in self._streams) and self.stop.count == count and time.monotonic() < end:
            self._pause(0.2)

    def _check_streams(self, job: Job) -> None:
        for stream in self._streams:
            stream.rest()
            if isinstance(stream.failure, OSError):
                raise self._unwritten(stream.failure)
            if job.status == "completed" and (stream.is_alive() or stream.failure is not None):
                how = f"ended with code {job.exit_code}" if job.exit_signal is None else "ended by a signal"
                why = f": {stream.failure.message}" if stream.failure is not None else ""
                raise SwarmHpcError(
                    f"job {self.job} {how}, but not all of its output could be read{why}",
                    hint=f"it is kept: swarmhpc logs {self.job}; with its files: swarmhpc fetch {self.job}",
                )

    def _unwritten(self, failure: OSError) -> SwarmHpcError:
        return SwarmHpcError(
            f"what job {self.job} prints can't be written here: {failure.strerror or failure}",
            hint=f"the job goes on: swarmhpc logs {self.job} --follow; to end it: swarmhpc rm {self.job}",
        )

    def _ended(self, job: Job) -> Result:
        completed = job.status == "completed"
        exit_code, missing = job.exit_code, ()
        if not completed and job.hold_code in BY_REQUEST:  # it may go on: swarmhpc release
            return Result(self.job, "held", reason=job.hold_reason, hold_code=job.hold_code, host=job.host)
        if self.outputs:
            (ad,) = self.pool.job_ads(self._constraint, ["ExitCode", "Out", "Err"])
            if not completed and job.hold_code == _MISSING_OUTPUT:
                exit_code, missing = ad.get("ExitCode"), tuple(_MISSING.findall(job.hold_reason))
            if completed or missing:
                self._bring([str(ad.get("Out")), str(ad.get("Err"))], completed=completed)
        self._remove("swarmhpc run showed its output" if completed else "its swarmhpc run has ended")
        silent = not self._streams[1].has_spoken
        status: Literal["completed", "held"] = "completed" if completed else "held"
        return Result(
            self.job, status, exit_code, job.exit_signal, job.hold_reason, job.hold_code, missing, job.host, silent
        )

    def _bring(self, printed: Sequence[str], *, completed: bool) -> None:
        """Brings the outputs, and what a held job printed last. What a completed one printed is here already."""
        with tempfile.TemporaryDirectory(prefix="swarmhpc-") as folder:
            places = ["/dev/null", "/dev/null"] if completed else [f"{folder}/out", f"{folder}/err"]
            remaps = [f"{name}={place}" for name, place in (*zip(printed, places, strict=True), *self.outputs)]
            self.pool.set_attribute([self.job], "SUBMIT_TransferOutputRemaps", '"' + ";".join(remaps) + '"')
            try:
                self.pool.retrieve([self.job])
            except PoolError as e:
                # An output that was not made ends the transfer with an error, after the others have come.
                if completed or isinstance(e, PoolUnreachableError):
                    e.hint = f"nothing is lost, the files are in the queue; make room, then: swarmhpc fetch {self.job}"
                    raise
            for stream, place in zip(self._streams, map(Path, places), strict=True):
                if not completed and place.is_file():
                    stream.add(place.read_bytes())

    def _detached(self) -> Result:
        return Result(self.job, "detached", reason=self._removal)

    def _last_words(self) -> str:
        with contextlib.suppress(PoolError):
            for ad in self.pool.history_ads(self._constraint, ["RemoveReason"], most=1):
                return str(ad.get("RemoveReason", ""))
        return ""

    def _remove(self, reason: str) -> None:
        self.pool.remove(self._constraint, reason)

    @property
    def _constraint(self) -> str:
        cluster, _, process = self.job.partition(".")
        return f"ClusterId == {cluster} && ProcId == {process}"
