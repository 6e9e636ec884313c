#!/usr/bin/env python3
"""`swarmhpc run debian -- true` beside `docker run --rm debian true`, both as whole commands, on an idle pool.

They take turns at random moments, so that a slow minute of the machine meets both, and so do `sh -c 'echo …'` and its
first line of output: what somebody who looks at the screen waits for.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc.errors import JobFailedError

PLAIN = f"docker run --rm {common.IMAGE} true"
OURS = f"swarmhpc run {common.IMAGE} -- true"
FIRST_LINE = "first line of swarmhpc run"


def measure(runs: int, seed: int, pool_name: str | None) -> common.Report:
    """A row for each command. `over_docker_s`: median of ours less median of docker's."""
    engine, ctx, pool = common.connect(pool_name)
    common.require_image(engine)
    common.require_idle(pool)
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="swarmhpc-benchmark-") as name:
        folder = Path(name)
        ours = ["--pool", ctx.pool, "run", common.IMAGE, "--"]
        rows: dict[str, Callable[[], float]] = {
            PLAIN: lambda: common.timed(lambda: common.docker("run", "--rm", common.IMAGE, "true")),
            OURS: lambda: common.timed(lambda: common.swarmhpc(*ours, "true", cwd=folder)),
            FIRST_LINE: lambda: _first_line_s([*ours, "sh", "-c", "echo ready; sleep 2"], folder),
        }
        found: dict[str, list[float]] = {what: [] for what in rows}
        for number in range(runs + 1):  # the first round is not counted
            for what, run in rows.items():
                time.sleep(moments.uniform(0, 2))
                took_s = run()
                if number:
                    found[what].append(took_s)
            common.say(f"round {number} of {runs}" if number else "warm-up round done")
    plain_s = common.median(found[PLAIN])
    return common.Report(
        "run",
        [
            {
                "what": what,
                "median_s": common.median(times),
                "p99_s": common.percentile(times, 99),
                "over_docker_s": common.median(times) - plain_s,
            }
            for what, times in found.items()
        ],
        {"seed": seed, "runs": runs, "machine": common.machine(engine)},
    )


def _first_line_s(arguments: list[str], folder: Path) -> float:
    """Seconds until the command's first line is here."""
    start = time.perf_counter()
    argv = [sys.executable, "-m", "swarmhpc", *arguments]
    with subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took_s = time.perf_counter() - start
    if line != "ready\n" or process.returncode != 0:
        raise JobFailedError(f"{FIRST_LINE}: it was {line!r}, and the exit code {process.returncode}")
    return took_s


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument("--runs", type=common.count, default=20, help="how often each is measured")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments")
    parser.add_argument("--pool", help="which pool, where this machine knows several")
    options = parser.parse_args()
    common.main(lambda: measure(options.runs, options.seed, options.pool), as_json=options.json)
