#!/usr/bin/env python3
"""Executors come and go: `swarmhpc scale` beside plain `docker service scale`, and what many idle ones cost.

`--what times`: 2→5 until registered, beside `docker service scale` until it says converged; idle 5→2 until gone from
engine and collector, beside the same; `--what sixty`: 2→60; `--what idle`: memory and CPU of an idle executor in pools
of 10, 50, 100 and 200; `--what grow`: from the submission of 50 jobs to an empty pool until the first runs, and until
the autoscaler's wanted size is registered. Needs an idle pool on one machine, whose class may be oversold.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc import state
from swarmhpc.cluster.render import read_plan
from swarmhpc.errors import UsageError, WaitTimeoutError

CLASS = "executors"
FILE = """\
executors:
  executors: {replicas: 2, cpus: 1, memory: 256MiB, reserve: false, max: 200, idle: 10m}"""
_SIZES = (10, 50, 100, 200)
_WATCH_S = 20
_JOBS = 50
_JOB = "executable = /bin/sleep\ntransfer_executable = false\narguments = 60\nrequest_memory = 200\nqueue {count}\n"


class Bench:
    """The pool under test."""

    def __init__(self, pool_name: str | None) -> None:
        self.engine, self.ctx, self.pool = common.connect(pool_name)
        common.require_idle(self.pool)
        self.service = next(
            (s for s in self.engine.services(self.ctx.pool) if s.labels.get(state.LABEL_CLASS) == CLASS), None
        )
        plan = read_plan(self.service.labels[state.LABEL_PLAN]) if self.service else None
        if self.service is None or plan is None or plan.reserve or (plan.maximum or 200) < 200:
            raise UsageError(
                f"pool {self.ctx.pool} needs a class {CLASS} of which 200 may run on this machine",
                hint=f"write swarmhpc.yaml, then swarmhpc up:\n{FILE}",
            )

    def registered(self) -> int:
        """Executors in the collector."""
        return len({s.executor for s in self.pool.slots()})

    def containers(self) -> int:
        """Executors that run on the engine."""
        assert self.service is not None
        return len(self.engine.containers(f"com.docker.swarm.service.id={self.service.id}", everything=False))

    def ours(self, count: int) -> None:
        """`swarmhpc scale`, as a person types it."""
        common.swarmhpc("scale", f"{CLASS}={count}")

    def plain(self, count: int) -> None:
        """`docker service scale`, until it says converged."""
        common.docker("service", "scale", f"{self.ctx.pool}_{CLASS}={count}", timeout_s=600)

    def settle(self, count: int) -> None:
        """Exactly so many, and quiet."""
        self.ours(count)
        self.until(lambda: self.registered() == self.containers() == count)
        time.sleep(3)  # the machine comes to rest; nothing is waited for

    def until(self, condition: Callable[[], bool], timeout_s: float = 300) -> float:
        """When it became true (time.perf_counter()). Raises WaitTimeoutError."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise WaitTimeoutError(f"after {timeout_s:.0f} s the pool is not as the benchmark wants it")
            time.sleep(0.05)
        return time.perf_counter()


def times(bench: Bench, runs: int) -> list[dict[str, common.Cell]]:
    """Up 2→5 and down 5→2, ours and plain in turn."""
    found: dict[str, list[float]] = {}

    def note(what: str, seconds: float) -> None:
        found.setdefault(what, []).append(seconds)
        common.say(f"{what}: {seconds:.1f} s")

    for _ in range(runs):
        for who, scale in (("swarmhpc scale", bench.ours), ("docker service scale", bench.plain)):
            bench.settle(2)
            note(f"2→5, {who}", common.timed(partial(scale, 5)))
            bench.settle(5)
            start = time.perf_counter()
            scale(2)
            gone = bench.until(lambda: bench.containers() == 2 and bench.registered() == 2)
            note(f"5→2 idle, {who}", gone - start)
    return [{"what": what, "median_s": common.median(seconds), "runs": len(seconds)} for what, seconds in found.items()]


def sixty(bench: Bench) -> list[dict[str, common.Cell]]:
    """2→60 until registered."""
    bench.settle(2)
    took_s = common.timed(lambda: bench.ours(60))
    bench.settle(2)
    return [{"what": "2→60, swarmhpc scale", "median_s": took_s, "runs": 1}]


def idle(bench: Bench, sizes: Sequence[int]) -> list[dict[str, common.Cell]]:
    """What an idle executor takes as the pool grows."""
    from benchmarks import memory

    rows: list[dict[str, common.Cell]] = []
    for size in sizes:
        bench.settle(size)
        report = memory.measure(_WATCH_S, bench.ctx.pool)
        of = {str(r["container"]): r for r in report.rows}
        manager = next(r for name, r in of.items() if "central-manager" in name)
        whole, one = of["the whole pool"], of["one executor (median)"]
        rows.append(
            {
                "executors": size,
                "one_executor_mib": one["memory_mib"],
                "one_executor_cpu_percent": one["cpu_percent"],
                "central_manager_mib": manager["memory_mib"],
                "central_manager_cpu_percent": manager["cpu_percent"],
                "pool_mib": whole["memory_mib"],
                "pool_cpu_percent": whole["cpu_percent"],
            }
        )
        common.say(str(rows[-1]))
    bench.settle(2)
    return rows


def grow(bench: Bench) -> list[dict[str, common.Cell]]:
    """Jobs come to an empty pool with the autoscaler on."""
    bench.settle(0)
    common.swarmhpc("autoscale", "on")
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "fifty.sub"
            file.write_text(_JOB.format(count=_JOBS))
            common.swarmhpc("submit", str(file))
            start = time.perf_counter()
            first = bench.until(lambda: any(j.status == "running" for j in bench.pool.jobs()))
            wanted = bench.until(lambda: bench.registered() >= _JOBS)
            ended = bench.until(lambda: all(j.status == "completed" for j in bench.pool.jobs()))
            jobs = bench.pool.jobs()
        return [
            {"what": "50 jobs submitted to an empty pool: first one runs", "seconds": first - start},
            {"what": "50 executors registered", "seconds": wanted - start},
            {"what": "all 50 jobs (60 s each) completed", "seconds": ended - start},
            {"what": "jobs that were begun more than once", "seconds": sum(j.attempts > 1 for j in jobs)},
        ]
    finally:
        common.swarmhpc("autoscale", "off")
        bench.pool.remove("true", "the benchmark has ended")
        bench.settle(2)


def measure(what: str, runs: int, pool_name: str | None, sizes: Sequence[int]) -> common.Report:
    """One report of what was asked for."""
    bench = Bench(pool_name)
    parts: dict[str, Callable[[], list[dict[str, common.Cell]]]] = {
        "times": lambda: times(bench, runs),
        "sixty": lambda: sixty(bench),
        "idle": lambda: idle(bench, sizes),
        "grow": lambda: grow(bench),
    }
    return common.Report(f"scale {what}", parts[what](), {"machine": common.machine(bench.engine)})


def _main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--what", choices=("times", "sixty", "idle", "grow"), default="times", help="what to measure")
    parser.add_argument("--runs", type=common.count, default=3, help="of `times`; the median counts (3)")
    parser.add_argument("--sizes", type=common.count, nargs="+", default=_SIZES, help="of `idle` (10 50 100 200)")
    parser.add_argument("--pool", help="which pool, where this machine knows several")
    args = parser.parse_args()
    common.main(lambda: measure(args.what, args.runs, args.pool, args.sizes), as_json=args.json)


if __name__ == "__main__":
    _main()
