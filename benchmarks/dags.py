#!/usr/bin/env python3
"""A thousand nodes: a DAG of as many independent nodes, and as many jobs that each wait for one of another cluster.

`submit_s`: the whole command `swarmhpc submit`; `done_s`: from then until all jobs have ended, the thousand that are
waited for as well; `plain_s`: the same number of the same jobs as one plain cluster, so that the rest is what the graph
costs. Each output is looked at: all there, each once.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc.adapters.condor import Pool

_JOB = (
    "executable = /bin/sh\narguments = \"-c 'echo $(n)'\"\noutput = NAME.$(n)\nrequest_memory = 32M\n"
    'transfer_output_files = ""\n'
)


def measure(jobs: int, pool_name: str | None) -> common.Report:
    """One run of each."""
    engine, _ctx, pool = common.connect(pool_name)
    common.require_idle(pool)
    rows: list[dict[str, common.Cell]] = []
    with tempfile.TemporaryDirectory(prefix="swarmhpc-benchmark-") as name:
        folder = Path(name)
        (folder / "rows.txt").write_text("".join(f"{i}\n" for i in range(jobs)))
        for kind in ("plain", "first", "second"):
            (folder / f"{kind}.sub").write_text(_JOB.replace("NAME", kind) + "queue n from rows.txt\n")
        (folder / "node.sub").write_text(_JOB.replace("NAME", "node") + "queue\n")
        (folder / "wide.dag").write_text("".join(f'JOB n{i} node.sub\nVARS n{i} n="{i}"\n' for i in range(jobs)))
        plain_s = _whole(pool, folder, "plain.sub", "plain", jobs)[1]
        for what, file, made in (
            (f"a DAG of {jobs} independent nodes", "wide.dag", "node"),
            (f"{jobs} jobs --after {jobs} --each", "second.sub", "second"),
        ):
            after = [common.submitted(folder, "first.sub")] if made == "second" else []
            options = ["--after", *after, "--each"] if after else []
            submit_s, done_s = _whole(pool, folder, file, made, jobs, *options)
            for cluster in after:
                common.swarmhpc("wait", cluster, cwd=folder, timeout_s=3600)
                common.swarmhpc("fetch", cluster, cwd=folder, timeout_s=3600)
            rows.append({"what": what, "submit_s": submit_s, "done_s": done_s, "plain_s": plain_s})
    return common.Report("dags", rows, {"jobs": jobs, "machine": common.machine(engine)})


def _whole(pool: Pool, folder: Path, file: str, made: str, jobs: int, *options: str) -> tuple[float, float]:
    began = time.perf_counter()
    cluster = common.submitted(folder, file, *options)
    submitted = time.perf_counter()
    try:
        common.swarmhpc("wait", cluster, cwd=folder, timeout_s=3600)
        ended = time.perf_counter()
        common.swarmhpc("fetch", cluster, cwd=folder, timeout_s=3600)
    finally:
        pool.remove(f"ClusterId == {cluster}", "its benchmark is over")
    common.require_outputs(folder, made, jobs)
    common.say(f"{file}: submitted in {submitted - began:.1f} s, done {ended - submitted:.1f} s later")
    return submitted - began, ended - submitted


def _main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=common.count, default=1_000, help="nodes, and jobs that wait for one (1,000)")
    parser.add_argument("--pool", help="which pool, where this machine knows several")
    args = parser.parse_args()
    common.main(lambda: measure(args.jobs, args.pool), as_json=args.json)


if __name__ == "__main__":
    _main()
