"""Watching jobs to their end, fetching what they left, removing them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.job_ads import Job
from swarmhpc.errors import PoolError, PoolUnreachableError, WaitTimeoutError


@dataclass(frozen=True)
class Outcome:
    """Where the watched jobs stand; `jobs` as last seen, `gone` left the queue under our eyes."""

    jobs: tuple[Job, ...]
    gone: tuple[str, ...]

    @property
    def failed(self) -> list[Job]:
        """Completed with another code than 0 or by a signal, held, or removed."""
        return [
            j for j in self.jobs if j.status in ("held", "removed") or (j.status == "completed" and j.exit_code != 0)
        ]


def until_done(
    pool: Pool, constraint: str, *, on_change: Callable[[Outcome], None], timeout_s: float | None = None
) -> Outcome:
    """Waits until every job, also one that is made late, has completed, is held, or has left the queue.

    A pool that does not answer for a while (the access point restarts) is waited for, two minutes long.
    """
    start = time.monotonic()
    last: dict[str, Job] = {}
    shown: object = None
    silent_since: float | None = None
    while True:
        try:
            now = {j.id: j for j in pool.jobs(constraint)}
            silent_since = None
        except PoolUnreachableError:
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > 120:
                raise
            time.sleep(1)
            continue
        gone = tuple(i for i, j in last.items() if i not in now and j.status != "completed")
        last = {**last, **now}
        outcome = Outcome(tuple(sorted(last.values(), key=lambda j: (j.cluster, j.process))), gone)
        state = sorted((i, j.status) for i, j in last.items())
        if state != shown:
            shown = state
            on_change(outcome)
        ended = all(j.status in ("completed", "held") or i not in now for i, j in last.items())
        if ended and not _more_to_come(now.values()):
            return outcome
        waited = time.monotonic() - start
        if timeout_s is not None and waited > timeout_s:
            busy = [j.id for j in now.values() if j.status not in ("completed", "held")]
            such = f", such as {busy[0]}" if busy else "; more are still to be made"
            raise WaitTimeoutError(
                f"after {timeout_s:.0f} s {len(busy)} of {len(last)} jobs have not finished{such}",
                hint="they go on in the pool; swarmhpc q shows them, swarmhpc wait waits again",
            )
        # A short job is worth looking for often; the thousandth look at a long one is not.
        time.sleep(min(0.05 + waited / 40, 1.0))


def _more_to_come(jobs: Collection[Job]) -> bool:
    """Whether the access point is about to make more jobs of a cluster. Held ones may be what it waits for."""
    held = {j.cluster for j in jobs if j.status == "held"}
    return any(j.unmade and j.cluster not in held for j in jobs)


def fetch(pool: Pool, jobs: Sequence[Job]) -> list[Job]:
    """Brings outputs and logs of completed jobs to where their submit description names them, then removes the jobs.

    When anything can't be written the jobs stay in the queue, whole; fetch again.
    """
    done = [j for j in jobs if j.status == "completed"]
    for start in range(0, len(done), 500):
        part = done[start : start + 500]
        try:
            pool.retrieve([j.id for j in part])
        except PoolError as e:
            clusters = " ".join(sorted({str(j.cluster) for j in part}))
            e.hint = f"nothing is lost, the results are still in the queue; make room, then: swarmhpc fetch {clusters}"
            raise
        pool.remove(" || ".join(_same(j) for j in part), "its results were fetched")
    return done


def _same(job: Job) -> str:
    return f"(ClusterId == {job.cluster} && ProcId == {job.process})"
