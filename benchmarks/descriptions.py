#!/usr/bin/env python3
"""`swarmhpc check` and `swarmhpc submit` of many rows beside HTCondor's own condor_submit, in one run.

`check` of 100,000 rows stands beside `condor_submit -dry-run` of the same file inside the access point's container
(both print to nowhere); submitting 10,000 held jobs beside `condor_submit` there, which has no network to cross. The
order alternates from run to run. The jobs are removed again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc import state
from swarmhpc.adapters.condor import Pool
from swarmhpc.errors import PoolError

CHECKED = 100_000
SUBMITTED = 10_000
_JOBS = (
    "executable = /bin/true\ntransfer_executable = false\nrequest_memory = 100M\n"
    "arguments = --name $(name) --seed $(seed) $(Process)\noutput = /dev/null\n"
)
_SMALL = "universe = docker\ndocker_image = debian:13\nexecutable = /bin/true\noutput = out.$(Process)\nqueue 10\n"


def description(rows: int, more: str = "") -> str:
    """So many jobs from a table in the file, two variables a row."""
    table = "".join(f"n{i}, {i * 7}\n" for i in range(rows))
    return f"{_JOBS}{more}queue name, seed from (\n{table})\n"


def measure(runs: int, checked: int, submitted: int, pool_name: str | None) -> common.Report:
    """All rows, `runs` times."""
    engine, ctx, pool = common.connect(pool_name)
    common.require_idle(pool)
    access_point = _container(state.ACCESS_POINT, ctx.pool)
    with tempfile.TemporaryDirectory(prefix="swarmhpc-benchmark-") as name:
        folder = Path(name)
        (folder / "check.sub").write_text(description(checked))
        (folder / "submit.sub").write_text(description(submitted, "hold = true\n"))
        (folder / "small.sub").write_text(_SMALL)
        for file in ("check.sub", "submit.sub"):
            common.docker("cp", str(folder / file), f"{access_point}:/tmp/{file}")

        def theirs(*arguments: str) -> object:
            words = ("sh", "-c", f"cd /tmp && condor_submit {' '.join(arguments)} > /dev/null")
            return common.docker("exec", "-u", ctx.person, access_point, *words, timeout_s=600)

        def ours(*arguments: str) -> object:
            return common.swarmhpc(*arguments, cwd=folder)

        rows: dict[str, tuple[Callable[[], object], int]] = {
            f"swarmhpc check, {checked} rows": (lambda: ours("check", "--no-pool", "check.sub"), 0),
            f"condor_submit -dry-run, {checked} rows": (lambda: theirs("-dry-run", "/dev/null", "check.sub"), 0),
            f"swarmhpc submit, {submitted} jobs": (lambda: ours("submit", "submit.sub"), submitted),
            f"condor_submit in the access point, {submitted} jobs": (lambda: theirs("submit.sub"), submitted),
            "swarmhpc check, ten jobs, cold": (lambda: ours("check", "--no-pool", "small.sub"), 0),
        }
        found: dict[str, list[float]] = {what: [] for what in rows}
        for number in range(runs):
            for what in list(rows) if number % 2 == 0 else list(reversed(rows)):
                run, queued = rows[what]
                found[what].append(common.timed(run))
                _empty(pool, queued)
    return common.Report(
        "descriptions",
        [{"what": what, "median_s": common.median(s), "most_s": max(s), "runs": runs} for what, s in found.items()],
        {"machine": common.machine(engine)},
    )


def _container(role: str, pool: str) -> str:
    found = common.docker("ps", "-q", "-f", f"label=com.docker.swarm.service.name={pool}_{role}").split()
    if not found:
        raise PoolError(f"no container of {pool}_{role} runs on this engine", hint="swarmhpc up")
    return found[0]


def _empty(pool: Pool, wanted: int) -> None:
    """Takes the held jobs out again. Raises PoolError where they are not as many as were submitted."""
    if not wanted:
        return
    removed = pool.remove("JobStatus == 5", "a benchmark's job")
    if removed != wanted:
        raise PoolError(f"{removed} jobs were in the queue; wanted {wanted}", hint="swarmhpc q")


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument("--runs", type=common.count, default=3)
    parser.add_argument("--check", type=common.count, default=CHECKED, help="rows of the file that is checked")
    parser.add_argument("--submit", type=common.count, default=SUBMITTED, help="jobs that are submitted")
    parser.add_argument("--pool", help="the pool's name")
    chosen = parser.parse_args()
    common.main(lambda: measure(chosen.runs, chosen.check, chosen.submit, chosen.pool), as_json=chosen.json)
