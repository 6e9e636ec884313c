#!/usr/bin/env python3
"""`swarmhpc q` beside HTCondor's own `condor_q` inside the access point, on 10,000 queued jobs; CPU of q, wait, why.

The jobs are held, so that nothing runs meanwhile; they are removed at the end. `wall_s` of condor_q is measured inside
the container, without the time that `docker exec` takes. `cpu_s` of swarmhpc is user and system time on this side.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc.adapters import command
from swarmhpc.adapters.docker import Engine
from swarmhpc.errors import CommandError, PoolError

_TEXT = "executable = /bin/true\nrequest_memory = 32M\nbatch_name = queue-benchmark\nhold = true\n"
CONDOR_Q = "condor_q -allusers, in the access point"

Figures = tuple[float, float | None]
"""Wall clock and CPU, in seconds."""


def measure(jobs: int, few: int, runs: int, pool_name: str | None) -> common.Report:
    """All rows, `runs` times, one after the other and in turn."""
    engine, ctx, pool = common.connect(pool_name)
    common.require_idle(pool)
    container = _access_point(engine, ctx.pool)
    clusters: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="swarmhpc-benchmark-") as name:
            many = _submit(Path(name), jobs)
            clusters.append(many)
            rows: dict[str, Callable[[], Figures]] = {
                CONDOR_Q: lambda: (_inside(container, "condor_q -allusers"), None),
                "swarmhpc q --all": lambda: _ours("q", "--all"),
                "swarmhpc q --all --jobs": lambda: _ours("q", "--all", "--jobs"),
            }
            found = _measured(rows, runs, f"{jobs} jobs")
            thousand = _submit(Path(name), few)
            clusters.append(thousand)
            some: dict[str, Callable[[], Figures]] = {
                f"swarmhpc q {few} jobs": lambda: _ours("q", thousand),
                f"swarmhpc wait {few} jobs": lambda: _ours("wait", thousand),
                f"swarmhpc why {few} jobs": lambda: _ours("why", thousand),
            }
            found |= _measured(some, runs, f"{few} of {jobs + few} jobs")
    finally:
        for cluster in clusters:
            pool.remove(f"ClusterId == {cluster}", "its benchmark is over")
    base = common.median([wall for wall, _ in found[CONDOR_Q]])
    return common.Report(
        "listing",
        [
            {
                "what": what,
                "wall_s": common.median([wall for wall, _ in figures]),
                "of_condor_q": common.median([wall for wall, _ in figures]) / base if what in rows else None,
                "cpu_s": common.median([cpu for _, cpu in figures if cpu is not None]) if what != CONDOR_Q else None,
            }
            for what, figures in found.items()
        ],
        {"jobs": jobs, "runs": runs, "machine": common.machine(engine)},
    )


def _measured(rows: dict[str, Callable[[], Figures]], runs: int, told: str) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {what: [] for what in rows}
    for number in range(runs):
        for what in list(rows) if number % 2 == 0 else list(reversed(rows)):
            found[what].append(rows[what]())
            common.say(f"run {number + 1} of {runs}, {told}: {what}: {found[what][-1][0]:.2f} s")
    return found


def _submit(folder: Path, jobs: int) -> str:
    file = folder / "jobs.sub"
    file.write_text(f"{_TEXT}queue {jobs}\n")
    return common.submitted(folder, file.name)


def _ours(*arguments: str) -> Figures:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    try:
        common.swarmhpc(*arguments)
    except CommandError as e:
        if e.returncode != 1 or "held" not in e.output:  # wait: the jobs are held, which it is to say
            raise
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _inside(container: str, line: str) -> float:
    script = f"TIMEFORMAT=%R; time {line} > /dev/null"
    done = command.run(["docker", "exec", container, "bash", "-c", script], timeout_s=60)
    return float(done.stderr.split()[-1])


def _access_point(engine: Engine, pool: str) -> str:
    del engine  # the one that `docker` talks to as well
    found = common.docker("ps", "-q", "--filter", f"label=com.docker.swarm.service.name={pool}_access-point").split()
    if len(found) != 1:
        raise PoolError(f"{len(found)} containers are the access point of {pool}; wanted one", hint="swarmhpc status")
    return found[0]


def _main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=common.count, default=10_000, help="jobs in the queue (10,000)")
    parser.add_argument(
        "--few", type=common.count, default=1_000, help="jobs of the cluster that is waited for (1,000)"
    )
    parser.add_argument("--runs", type=common.count, default=5, help="runs of each row; the median counts (5)")
    parser.add_argument("--pool", help="which pool, where this machine knows several")
    args = parser.parse_args()
    common.main(lambda: measure(args.jobs, args.few, args.runs, args.pool), as_json=args.json)


if __name__ == "__main__":
    _main()
