"""Watching jobs to their end, fetching what they left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.job_ads import Job
from swarmhpc.errors import AuthenticationError, PoolError, PoolUnreachableError, WaitTimeoutError
from swarmhpc.jobs import history, overview
from swarmhpc.jobs.overview import Overview
from swarmhpc.jobs.select import OF_STATE, either, of_jobs

PATIENCE_S: Final = 120
"""How long a pool may not answer: its access point restarts."""
REFUSED_S: Final = 15
"""How long it may not accept a token meanwhile."""
_Answer = TypeVar("_Answer")
_AT_A_TIME: Final = 200  # jobs whose results are fetched with one call
_GIVE_UP: Final = 3  # jobs whose results can't be written, after which no more are tried


@dataclass(frozen=True)
class Outcome:
    """Where the watched jobs stand. `clusters`: counts. `jobs`, only when the wait is over: all of them, also those
    that have left the queue, as they were then. `gone`: ids of jobs that were removed before they had finished."""

    jobs: tuple[Job, ...]
    gone: tuple[str, ...]
    clusters: tuple[Overview, ...] = ()

    @property
    def failed(self) -> list[Job]:
        """Completed with another code than 0 or by a signal, or held."""
        return [j for j in self.jobs if j.status == "held" or (j.status == "completed" and j.exit_code != 0)]

    @property
    def unfinished(self) -> list[Job]:
        """Those that may still end by themselves."""
        return [j for j in self.jobs if j.status not in ("held", "completed", "removed", "unknown")]


def until_done(
    pool: Pool,
    constraint: str,
    *,
    on_change: Callable[[Outcome], None],
    timeout_s: float | None = None,
    keep_going: bool = False,
    any_end: bool = False,
    past: bool = False,
) -> Outcome:
    """Waits until every job, also one that is made late, has completed, is held, or has left the queue.

    Returns early where one fails, is held or is removed, unless `keep_going`; with `any_end` where any has ended.
    `past`: also tell of jobs that had left the queue before. `on_change` gets counts only. A pool that does not answer
    for a while is waited for. Raises WaitTimeoutError, PoolError; the jobs go on.
    """
    began = time.monotonic()
    watched = _Watched(pool, constraint, past)
    shown: object = None
    while True:
        clusters = _patiently(watched.look)
        state = [(c.cluster, c.idle, c.running, c.done, c.failed, c.held, c.uploading, c.left) for c in clusters]
        if state != shown:
            shown = state
            on_change(Outcome((), (), tuple(clusters)))
        ended = sum(c.done + c.failed + c.held for c in clusters if c.is_over or not c.is_dag)
        # A node of a DAG that fails is the DAG's to judge: it may go on, and in the end it fails too.
        bad = sum(c.failed + c.held for c in clusters if c.is_over or not c.is_dag)
        over = all(c.is_over for c in clusters)
        if over or (any_end and ended) or (not keep_going and (bad or _patiently(watched.has_trouble))):
            return _patiently(watched.outcome)
        waited = time.monotonic() - began
        if timeout_s is not None and waited > timeout_s:
            raise _too_late(_patiently(watched.outcome), timeout_s)
        # A short job is worth looking for often; the thousandth look at a long one is not.
        time.sleep(min(0.05 + waited / 40, 2.0))


class _Watched:
    """The jobs that are waited for."""

    def __init__(self, pool: Pool, constraint: str, past: bool) -> None:
        self.pool, self.constraint, self.past = pool, constraint, past
        ads = _patiently(lambda: pool.job_ads(constraint, ["ClusterId", "ProcId"]))
        self.first = {(int(a["ClusterId"]), int(a["ProcId"])) for a in ads}
        self.known: dict[int, Overview] = {}
        self.totals: dict[int, int] = {}  # jobs of each cluster that are waited for
        self.left = 0  # how many had left the queue when we last asked what became of them

    def look(self) -> list[Overview]:
        """The clusters as they stand. One that has left the queue is over."""
        now = {c.cluster: c for c in overview.look(self.pool, self.constraint)}
        for number, c in now.items():
            begun = sum(cluster == number for cluster, _ in self.first) if number not in self.totals else 0
            total = self.totals.setdefault(number, max(begun, c.here) + c.unmade)
            now[number] = overview.counted_of(c, max(total, c.here + c.unmade))
        for number, last in self.known.items():
            if number not in now:
                nobody = replace(last, idle=0, running=0, failed=0, held=0, uploading=0, unmade=0, here=0)
                now[number] = replace(nobody, done=last.total, left=last.total, is_over=True)
        self.known = now
        return [now[c] for c in sorted(now)]

    def has_trouble(self) -> bool:
        """Whether a job has been removed since we began, or a DAG's is held. Asks only where it can have come to that:
        more have left the queue, a DAG goes on."""
        if self._held_nodes():
            return True
        left = sum(c.left for c in self.known.values())
        if left == self.left:
            return False
        self.left = left
        return any(j.status == "removed" for j in self._gone(self._ids(self.pool.jobs(self.constraint)), past=False))

    def outcome(self) -> Outcome:
        """All jobs: those in the queue, and in the history those that were."""
        present = self.pool.jobs(self.constraint)
        jobs = [*present, *self._gone(self._ids(present), past=self.past)]
        jobs += [j for j in self._held_nodes() if (j.cluster, j.process) not in self._ids(jobs)]
        jobs.sort(key=lambda j: (j.cluster, j.process))
        lost = [f"{c}.{p}" for c, p in sorted(self.first - self._ids(jobs))]
        return Outcome(tuple(jobs), (*(j.id for j in jobs if j.status == "removed"), *lost), tuple(self.known.values()))

    def _gone(self, present: set[tuple[int, int]], *, past: bool) -> list[Job]:
        missing = self.first - present
        late = sum(c.left for c in self.known.values()) > len(missing)  # made and gone since we began
        if past or late:
            ads = self.pool.history_ads(self.constraint, history.ATTRIBUTES)
        elif missing:
            ads = self.pool.history_ads(of_jobs(missing), history.ATTRIBUTES, most=len(missing))
        else:
            return []
        return [j for j in map(history.ended, ads) if (j.cluster, j.process) not in present]

    def _held_nodes(self) -> list[Job]:
        dags = [f"DAGManJobId == {c.cluster}" for c in self.known.values() if c.is_dag and not c.is_over]
        return self.pool.jobs(f"{either(dags)} && {OF_STATE['HELD']}") if dags else []

    @staticmethod
    def _ids(jobs: Sequence[Job]) -> set[tuple[int, int]]:
        return {(j.cluster, j.process) for j in jobs}


def _patiently(ask: Callable[[], _Answer]) -> _Answer:
    """Asks again and again while nothing answers, PATIENCE_S long."""
    silent_since: float | None = None
    refused_since: float | None = None
    while True:
        try:
            return ask()
        except PoolUnreachableError:
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > PATIENCE_S:
                raise
            time.sleep(1)
        except AuthenticationError as e:
            # An access point that has just come back refuses good tokens for a moment. That a token has expired is
            # seen here, without a cause.
            refused_since = refused_since or time.monotonic()
            if e.__cause__ is not None and time.monotonic() - refused_since < REFUSED_S:
                time.sleep(1)
                continue
            e.hint = f"the jobs go on; {e.hint}"
            raise


def _too_late(outcome: Outcome, timeout_s: float) -> WaitTimeoutError:
    busy = [j.id for j in outcome.unfinished]
    such = f", such as {busy[0]}" if busy else "; more are still to be made"
    return WaitTimeoutError(
        f"after {timeout_s:.0f} s {len(busy)} of {len(outcome.jobs)} jobs have not finished{such}",
        hint="they go on in the pool; swarmhpc q shows them, swarmhpc wait waits again",
    )


def fetch(pool: Pool, jobs: Sequence[Job], *, on_progress: Callable[[int, int], None] | None = None) -> list[Job]:
    """Brings outputs and logs of completed jobs to where their submit description names them, then takes the jobs off
    the queue. Returns these. `on_progress`: how many are done, of how many.

    What can't be written stays in the queue, whole, and so does what comes after a few such jobs; the others are
    fetched before PoolError is raised. Fetch again.
    """
    finished = [j for j in jobs if j.status == "completed"]
    done: list[Job] = []
    failures: list[PoolError] = []
    waiting = [finished[start : start + _AT_A_TIME] for start in range(0, len(finished), _AT_A_TIME)][::-1]
    while waiting and len(failures) < _GIVE_UP:
        part = waiting.pop()
        try:
            pool.retrieve([j.id for j in part])
        except (PoolUnreachableError, AuthenticationError):
            raise
        except PoolError as e:
            if len(part) == 1:
                failures.append(e)
            else:  # one bad job must not keep the others
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
            continue
        pool.remove([j.id for j in part], "its results were fetched")
        done += part
        if on_progress is not None:
            on_progress(len(done), len(finished))
    if failures:
        clusters = " ".join(sorted({str(j.cluster) for j in finished if j not in done}))
        some = f"{len(done)} of {len(finished)} jobs are fetched, the others not: " if len(finished) > 1 else ""
        raise PoolError(
            some + failures[0].message,
            hint=f"nothing is lost, the results are still in the queue; make room, then: swarmhpc fetch {clusters}",
        ) from failures[0]
    return done
