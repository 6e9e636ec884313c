#!/usr/bin/env python3
"""50 docker jobs on 4 slots beside `docker run --rm` two at a time on the same engine.

`jobs_per_s` counts from before the submission until the last job has finished, `fetched_jobs_per_s` until all outputs
are on disk. The order of the rows alternates from run to run. Watching polls at most once a second, as the command.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc.adapters.condor import Pool
from swarmhpc.errors import JobFailedError, UsageError
from swarmhpc.jobs import submit as wing
from swarmhpc.jobs.translate import Limits

JOBS = 50
SLOTS = 4
_MEMORY_MIB = 100
_TEXT = (
    f"universe = docker\ndocker_image = {common.IMAGE}\nexecutable = /bin/true\nrequest_memory = {_MEMORY_MIB}M\n"
    "output = out.$(Process)\nerror = err.$(Process)\n"
)
PLAIN = f"docker run --rm {common.IMAGE} true, two at a time"
# `""`: see latency.py.
DESCRIPTIONS = {
    "ours": f"{_TEXT}queue {JOBS}\n",
    "ours, no output files": f'{_TEXT}transfer_output_files = ""\nqueue {JOBS}\n',
}

Seconds = tuple[float, float]
"""Until the last job had finished, and until all outputs were on disk."""


def measure(runs: int, pool_name: str | None) -> common.Report:
    """All rows, `runs` times."""
    engine, _ctx, pool = common.connect(pool_name)
    common.require_image(engine)
    common.require_idle(pool)
    _require_slots(pool)
    limits = wing.limits_of(pool)
    with tempfile.TemporaryDirectory(prefix="swarmhpc-benchmark-") as name:
        rows: dict[str, Callable[[], Seconds]] = {PLAIN: _plain}
        for i, (what, text) in enumerate(DESCRIPTIONS.items()):
            file = Path(name) / str(i) / "jobs.sub"
            file.parent.mkdir()
            file.write_text(text)
            rows[what] = _jobs(pool, limits, file)
        found: dict[str, list[Seconds]] = {what: [] for what in rows}
        for number in range(runs):
            for what in list(rows) if number % 2 == 0 else list(reversed(rows)):
                found[what].append(rows[what]())
                finished_s, fetched_s = found[what][-1]
                common.say(f"run {number + 1} of {runs}: {what}: {finished_s:.1f} s, fetched {fetched_s:.1f} s")
    rate = {what: common.median([JOBS / finished for finished, _ in times]) for what, times in found.items()}
    fetched = {what: common.median([JOBS / done for _, done in times]) for what, times in found.items()}
    return common.Report(
        "throughput",
        [
            {
                "what": what,
                "jobs_per_s": rate[what],
                "of_docker_run": rate[what] / rate[PLAIN],
                "fetched_jobs_per_s": fetched[what],
                "fetched_of_docker_run": fetched[what] / fetched[PLAIN],
            }
            for what in rows
        ],
        {"jobs": JOBS, "slots": SLOTS, "runs": runs, "machine": common.machine(engine)},
    )


def _require_slots(pool: Pool) -> None:
    """A job needs one CPU and its memory; both limit how many run at once."""
    sizes = [s for s in pool.slots() if s.partitionable]
    slots = sum(min(s.total_cpus, s.total_memory_mib // _MEMORY_MIB) for s in sizes)
    if slots != SLOTS:
        raise UsageError(
            f"the pool has room for {slots} jobs at once ({len(sizes)} executors); wanted exactly {SLOTS}",
            hint="write swarmhpc.yaml, then swarmhpc up:\n"
            "executors:\n  executors: {replicas: 2, cpus: 2, memory: 1GiB, reserve: false}",
        )


def _jobs(pool: Pool, limits: Limits, file: Path) -> Callable[[], Seconds]:
    def run() -> Seconds:
        outputs = [file.parent / f"out.{i}" for i in range(JOBS)]
        for output in outputs:
            output.unlink(missing_ok=True)
        start = time.perf_counter()
        translation = wing.prepare(file, cwd=file.parent, limits=limits)
        (submitted,) = wing.submit(pool, translation)
        cluster = submitted.cluster
        finished = common.finish(pool, cluster, jobs=JOBS, timeout_s=600)
        fetched = time.perf_counter()
        missing = [output.name for output in outputs if not output.is_file()]
        if missing:
            raise JobFailedError(f"{len(missing)} of {JOBS} outputs did not come back, such as {missing[0]}")
        return finished - start, fetched - start

    return run


def _plain() -> Seconds:
    with ThreadPoolExecutor(2) as workers:
        took_s = common.timed(
            lambda: list(workers.map(lambda _: common.docker("run", "--rm", common.IMAGE, "true"), range(JOBS)))
        )
    return took_s, took_s


def _main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--runs", type=common.count, default=3, help="runs of each row; the median counts (3)")
    parser.add_argument("--pool", help="which pool, where this machine knows several")
    args = parser.parse_args()
    common.main(lambda: measure(args.runs, args.pool), as_json=args.json)


if __name__ == "__main__":
    _main()
