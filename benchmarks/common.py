"""What the benchmarks share: statistics, one report as table or JSON, preconditions, running docker and swarmhpc."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarmhpc import context
from swarmhpc.adapters import command
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.docker import Engine
from swarmhpc.context import Context
from swarmhpc.errors import JobFailedError, PoolError, SwarmHpcError, UsageError
from swarmhpc.jobs import watch

Cell = str | int | float | None
IMAGE = "debian"
"""The image that jobs and plain containers run: the example's."""


@dataclass(frozen=True)
class Report:
    """What one run found. Every row has the same columns; units are in the columns' names."""

    name: str
    rows: Sequence[Mapping[str, Cell]]
    notes: Mapping[str, Cell | Mapping[str, Cell]] = field(default_factory=dict)


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank: the smallest value that at least `percent` of all values do not exceed. Never interpolates.

    With fewer than 100 values the 99th is the largest.
    """
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


def table(rows: Sequence[Mapping[str, Cell]]) -> str:
    """Columns side by side under their names; text to the left, numbers to the right, `-` where there is no value."""
    names = list(rows[0])
    lines = [[n.replace("_", " ") for n in names], *([_shown(row[n]) for n in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    left = [all(isinstance(row[n], str) for row in rows) for n in names]
    return "\n".join(
        "  ".join(
            c.ljust(w) if to_left else c.rjust(w) for c, w, to_left in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in lines
    )


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def show(report: Report, *, as_json: bool) -> None:
    """Prints the report: the same names and numbers either way."""
    if as_json:
        print(json.dumps({"benchmark": report.name, **report.notes, "rows": list(report.rows)}, indent=2))
        return
    print(table(report.rows))
    for name, note in report.notes.items():
        said = ", ".join(f"{k} {_shown(v)}" for k, v in note.items()) if isinstance(note, Mapping) else _shown(note)
        print(f"{name.replace('_', ' ')}: {said}")


def say(text: str) -> None:
    """Progress, on standard error: standard output is for the figures."""
    print(text, file=sys.stderr, flush=True)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser


def count(text: str) -> int:
    """A positive number, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"is {number}; wanted 1 or more")
    return number


def main(measure: Callable[[], Report], *, as_json: bool) -> None:
    """Measures, prints, exits. What swarmhpc can explain ends as its message and hint, as in the command itself."""
    # As Ctrl-C, so that a benchmark that is told to end still puts back what it changed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        show(measure(), as_json=as_json)
    except SwarmHpcError as e:
        say(f"error: {e.message}" + (f"\nhint: {e.hint}" if e.hint else ""))
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)


def machine(engine: Engine) -> dict[str, Cell]:
    """What the figures were measured on."""
    facts = engine.facts()
    return {
        "cpus": facts.cpus,
        "memory_mib": facts.memory_mib,
        "kernel": facts.kernel,
        "engine": facts.version,
        "cgroup": f"v{facts.cgroup_version}",
    }


# -- preconditions ------------------------------------------------------------------------------------------------


def connect(pool_name: str | None) -> tuple[Engine, Context, Pool]:
    """The pool on this engine. Raises (with `swarmhpc up` as hint) where there is none, UsageError on several nodes."""
    ctx = context.load(pool_name)
    engine = Engine()
    facts = engine.facts()
    ours = facts.swarm_state == "active" and facts.is_manager and engine.swarm_cluster() == ctx.pool
    if not ours:
        raise PoolError(f"pool {ctx.pool} does not run on this engine", hint="swarmhpc up")
    nodes = len(engine.nodes())
    if nodes != 1:
        raise UsageError(f"pool {ctx.pool} has {nodes} nodes; this benchmark reaches the containers of one engine only")
    pool = Pool(ctx)
    if not pool.slots():
        raise PoolError(f"pool {ctx.pool} has no slots; wanted a usable pool", hint="swarmhpc up")
    return engine, ctx, pool


def require_idle(pool: Pool) -> None:
    """Raises PoolError while jobs are idle or running: they would be measured, too."""
    busy = [j for j in pool.jobs() if j.status in ("idle", "running", "transferring", "suspended")]
    if busy:
        raise PoolError(
            f"the queue has {len(busy)} unfinished jobs, such as {busy[0].id}; wanted an idle pool",
            hint=f"swarmhpc wait {busy[0].cluster}; or swarmhpc rm {busy[0].cluster}",
        )


def require_image(engine: Engine) -> None:
    """Raises PoolError where the jobs' image is missing: a pull would be measured."""
    if engine.image(IMAGE) is None:
        raise PoolError(f"this engine has no image {IMAGE}", hint=f"docker pull {IMAGE}   (or swarmhpc images build)")


# -- things to measure --------------------------------------------------------------------------------------------


def docker(*arguments: str, timeout_s: float = 120) -> str:
    """Runs the docker command; its output. Raises CommandError."""
    return command.run(["docker", *arguments], timeout_s=timeout_s).stdout


def swarmhpc(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout_s: float = 600
) -> command.Completed:
    """Runs the command as a person would: the script beside this Python. Raises CommandError."""
    script = Path(sys.executable).parent / "swarmhpc"
    argv = [str(script)] if os.access(script, os.X_OK) else [sys.executable, "-m", "swarmhpc"]
    return command.run([*argv, *arguments], timeout_s=timeout_s, cwd=cwd, env=env)


def submitted(folder: Path, file: str, *options: str) -> str:
    """Submits a file of `folder` as a person would; the cluster, or the DAG."""
    told = swarmhpc("submit", file, *options, cwd=folder, timeout_s=600).stdout
    found = re.search(r"(?:cluster|DAG) (\d+)", told)
    if found is None:
        raise PoolError(f"submit says {told!r}; wanted the number of a cluster")
    return found[1]


def require_outputs(folder: Path, name: str, jobs: int) -> None:
    """Each job's output is there and is its own: file `NAME.N` has the line N. Raises JobFailedError."""
    files = [folder / f"{name}.{i}" for i in range(jobs)]
    wrong = [f.name for i, f in enumerate(files) if not f.is_file() or f.read_text() != f"{i}\n"]
    if wrong:
        raise JobFailedError(f"{len(wrong)} of {jobs} outputs are missing or wrong, such as {wrong[0]}")


def timed(run: Callable[[], object]) -> float:
    """Seconds that `run` takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def finish(pool: Pool, cluster: int, *, jobs: int, timeout_s: float) -> float:
    """Waits for a cluster and fetches it, as `submit --wait` does; time.perf_counter() when its last job had finished.

    Raises JobFailedError unless all `jobs` exit with 0. Whatever goes wrong, nothing is left in the queue.
    """
    try:
        outcome = watch.until_done(pool, f"ClusterId == {cluster}", on_change=lambda _: None, timeout_s=timeout_s)
        finished = time.perf_counter()
        _require_success(outcome, jobs)
        watch.fetch(pool, outcome.jobs)
    except BaseException:
        with contextlib.suppress(SwarmHpcError):
            pool.remove(f"ClusterId == {cluster}", "its benchmark failed")
        raise
    return finished


def _require_success(outcome: watch.Outcome, jobs: int) -> None:
    good = [j for j in outcome.jobs if j.status == "completed" and j.exit_code == 0]
    if len(good) != jobs:
        bad = [f"{j.id} is {j.status}, exit code {j.exit_code} {j.hold_reason}" for j in outcome.jobs if j not in good]
        raise JobFailedError(
            f"{len(good)} of {jobs} jobs exited with 0: {bad[0] if bad else 'the others left the queue'}",
            hint="swarmhpc status; swarmhpc doctor",
        )
