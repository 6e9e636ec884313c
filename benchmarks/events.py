#!/usr/bin/env python3
"""How late `swarmhpc events --follow` tells a change, over 100 changes and more of each kind.

`hold, release`: from before the request to the queue until the line is here: HTCondor's own part is in it. `begins`:
from the first instant of a job's program, by its own clock, until the line RUNNING (the starter tells of it before the
container is up, so the line may come first: below 0). `ends`: from its last instant until the line SUCCEEDED, with all
that HTCondor does between (taking the container away, the outputs' way to the queue).
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc.errors import JobFailedError, SwarmHpcError, WaitTimeoutError
from swarmhpc.pool import Pool, Submission

CHANGES = 120
JOBS = 50
_PROGRAM = "date +%s.%N; sleep 0.3; date +%s.%N"
_JOB = (
    f"universe = docker\ndocker_image = {common.IMAGE}\nexecutable = /bin/sh\ntransfer_executable = false\n"
    f'arguments = "-c \'{_PROGRAM}\'"\nrequest_memory = 64M\noutput = out.$(Process)\ntransfer_output_files = ""\n'
)


class Follower:
    """Follows own jobs' events in a thread; when each came, by job and state."""

    def __init__(self, pool: Pool) -> None:
        self.came: dict[tuple[str, str], float] = {}
        self._ended: SwarmHpcError | None = None
        self._news = threading.Condition()
        threading.Thread(target=self._follow, args=(pool,), daemon=True).start()

    def _follow(self, pool: Pool) -> None:
        try:
            for event in pool.events(follow=True):
                now = time.time()
                with self._news:
                    self.came.setdefault((event.id, event.state), now)
                    self._news.notify_all()
        except SwarmHpcError as e:
            with self._news:
                self._ended = e
                self._news.notify_all()

    def wait(self, true: Callable[[], bool], timeout_s: float = 120) -> None:
        """Until a condition over what came is true. Raises WaitTimeoutError, and what ended the following."""
        with self._news:
            came = self._news.wait_for(lambda: self._ended or true(), timeout_s)
            if self._ended:
                raise self._ended
            if not came:
                raise WaitTimeoutError(f"the events that were waited for did not come within {timeout_s:.0f} s")


def measure(changes: int, jobs: int, pool_name: str | None) -> common.Report:
    """All rows."""
    engine, ctx, connection = common.connect(pool_name)
    common.require_image(engine)
    common.require_idle(connection)
    pool = Pool(ctx.pool)
    pool.connection = connection
    follower = Follower(pool)
    held = _hold_and_release(pool, follower, changes)
    begins, ends = _run(pool, follower, jobs)
    return common.Report(
        "events",
        [
            {
                "what": what,
                "changes": len(delays),
                "median_s": common.median(delays),
                "p99_s": common.percentile(delays, 99),
                "largest_s": max(delays),
            }
            for what, delays in {"hold, release": held, "begins": begins, "ends": ends}.items()
        ],
        {"machine": common.machine(engine)},
    )


def _hold_and_release(pool: Pool, follower: Follower, changes: int) -> list[float]:
    submitted = pool.submit(f"{_JOB}hold = true\nqueue\n")
    job = f"{submitted.clusters[0]}.0"
    delays = []
    try:
        follower.wait(lambda: (job, "PENDING") in follower.came)
        pool.connection.set_attribute([job], "Requirements", "false")  # it must never start
        for number in range(changes):
            # Not in step with anything that looks at intervals.
            time.sleep(random.uniform(0.05, 0.45))
            change, wanted = (pool.release, "RUNNABLE") if number % 2 == 0 else (pool.hold, "PENDING")
            follower.came.pop((job, wanted), None)
            began = time.time()
            change(job)
            follower.wait(partial(follower.came.__contains__, (job, wanted)))
            delays.append(follower.came[job, wanted] - began)
    finally:
        submitted.cancel()
    return delays


def _run(pool: Pool, follower: Follower, jobs: int) -> tuple[list[float], list[float]]:
    with tempfile.TemporaryDirectory(prefix="swarmhpc-benchmark-") as name:
        submitted = pool.submit(f"{_JOB}initialdir = {name}\nqueue {jobs}\n")
        try:
            ids = _finished(submitted, jobs)
            follower.wait(lambda: all((i, "SUCCEEDED") in follower.came for i in ids))
            submitted.fetch()
        except BaseException:
            submitted.cancel()
            raise
        clocks = [[float(x) for x in (Path(name) / f"out.{n}").read_text().split()] for n in range(jobs)]
    begins = [follower.came[i, "RUNNING"] - first for i, (first, _) in zip(ids, clocks, strict=True)]
    return begins, [follower.came[i, "SUCCEEDED"] - last for i, (_, last) in zip(ids, clocks, strict=True)]


def _finished(submitted: Submission, jobs: int) -> list[str]:
    outcome = submitted.wait(timeout_s=600)
    good = [j for j in outcome.jobs if j.exit_code == 0]
    if len(good) != jobs:
        raise JobFailedError(f"{len(good)} of {jobs} jobs ended with 0")
    return [f"{submitted.clusters[0]}.{n}" for n in range(jobs)]


def _main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--changes", type=common.count, default=CHANGES, help=f"holds and releases ({CHANGES})")
    parser.add_argument("--jobs", type=common.count, default=JOBS, help=f"jobs that run ({JOBS})")
    parser.add_argument("--pool", help="which pool, where this machine knows several")
    args = parser.parse_args()
    common.main(lambda: measure(args.changes, args.jobs, args.pool), as_json=args.json)


if __name__ == "__main__":
    _main()
