#!/usr/bin/env python3
"""Fetching 1,000 small outputs of finished jobs with `swarmhpc fetch`, from the access point to this disk.

The jobs run before that, and how long they take is not measured. Each output is looked at: all there, each once.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc.adapters.condor import Pool

_TEXT = (
    "executable = /bin/sh\narguments = \"-c 'echo $(Process)'\"\noutput = out.$(Process)\nrequest_memory = 32M\n"
    'transfer_output_files = ""\n'
)


def measure(jobs: int, runs: int, pool_name: str | None) -> common.Report:
    """Submits, waits and fetches `runs` times."""
    engine, _ctx, pool = common.connect(pool_name)
    common.require_idle(pool)
    took: list[float] = []
    for number in range(runs):
        with tempfile.TemporaryDirectory(prefix="swarmhpc-benchmark-") as name:
            took.append(_once(pool, Path(name), jobs))
        common.say(f"run {number + 1} of {runs}: {took[-1]:.2f} s")
    middle = common.median(took)
    return common.Report(
        "fetch",
        [{"what": f"swarmhpc fetch, {jobs} outputs", "wall_s": middle, "outputs_per_s": jobs / middle}],
        {"jobs": jobs, "runs": runs, "machine": common.machine(engine)},
    )


def _once(pool: Pool, folder: Path, jobs: int) -> float:
    file = folder / "jobs.sub"
    file.write_text(f"{_TEXT}queue {jobs}\n")
    cluster = common.submitted(folder, file.name)
    try:
        common.swarmhpc("wait", cluster, timeout_s=3600)
        began = time.perf_counter()
        common.swarmhpc("fetch", cluster, cwd=folder, timeout_s=3600)
        took_s = time.perf_counter() - began
    finally:
        pool.remove(f"ClusterId == {cluster}", "its benchmark is over")
    common.require_outputs(folder, "out", jobs)
    return took_s


def _main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=common.count, default=1_000, help="jobs, with an output each (1,000)")
    parser.add_argument("--runs", type=common.count, default=1, help="runs; the median counts (1)")
    parser.add_argument("--pool", help="which pool, where this machine knows several")
    args = parser.parse_args()
    common.main(lambda: measure(args.jobs, args.runs, args.pool), as_json=args.json)


if __name__ == "__main__":
    _main()
