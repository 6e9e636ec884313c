#!/usr/bin/env python3
"""The autoscaler's policy on a simulated pool: a burst and a day of mixed load, beside a pool always at its maximum.

    python -m benchmarks.autoscale [--output docs/images/autoscale.svg]

Simulated with a virtual clock (tests/unit/pool_model.py): no engine, no pool, the same figures on every machine. With
--output it draws the curves, which needs matplotlib (`pip install 'swarmhpc[benchmarks]'`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc.errors import UsageError
from tests.unit.pool_model import DAY_CLASSES, Job, Model, Outcome, Sample, SimClass, burst, mixed_day

_BLUE, _ORANGE, _GREY = "#1f6fb4", "#d9730d", "#8a8a8a"


@dataclass(frozen=True)
class Scenario:
    """A queue and the classes that serve it; watched for `window_s`."""

    name: str
    classes: tuple[SimClass, ...]
    jobs: tuple[Job, ...]
    window_s: int
    unit: str
    unit_s: int
    bin_s: int


def scenarios(seed: int) -> tuple[Scenario, ...]:
    """50 jobs at once on an empty pool, and a day."""
    small = SimClass("executors", 1, 2048, maximum=50)
    return (
        Scenario("burst", (small,), tuple(burst(50, at_s=2, duration_s=120)), 600, "seconds", unit_s=1, bin_s=1),
        Scenario("day", DAY_CLASSES, tuple(mixed_day(seed)), 25 * 3600, "hours", unit_s=3600, bin_s=300),
    )


def measure(seed: int, poll_s: int, start_s: int, output: Path | None) -> common.Report:
    """Both scenarios, autoscaled and with as many executors as the classes may have."""
    rows, drawn = [], []
    for s in scenarios(seed):
        outcome = Model(s.classes, s.jobs, poll_s=poll_s, start_s=start_s).run(s.window_s)
        drawn.append((s, outcome))
        # They are there from the beginning: not autoscaled, and no time to start in.
        fixed = [replace(c, maximum=None, replicas=c.maximum or 0) for c in s.classes]
        rows.append(_row(s, "autoscaled", outcome))
        rows.append(_row(s, "always at maximum", Model(fixed, s.jobs, poll_s=poll_s, start_s=0).run(s.window_s)))
    if output is not None:
        draw(drawn, output)
        common.say(f"drawn: {output}")
    notes: dict[str, common.Cell | Mapping[str, common.Cell]] = {
        "simulated": "no pool was measured",
        "model": {"poll_s": poll_s, "start_s": start_s, "seed": seed},
        "burst_first_job_runs_after_s": min(drawn[0][1].waits_s),
        "burst_wanted_size_reached_after_s": _reached_s(*drawn[0]),
    }
    return common.Report("autoscale", rows, notes)


def _row(s: Scenario, pool: str, outcome: Outcome) -> dict[str, common.Cell]:
    waits = [float(w) for w in outcome.waits_s]
    return {
        "load": s.name,
        "pool": pool,
        "jobs": len(s.jobs),
        "completed": outcome.completed,
        "wait_median_s": common.median(waits),
        "wait_95th_s": common.percentile(waits, 95),
        "wait_max_s": max(waits),
        "executor_hours": outcome.executor_s / 3600,
        "starts": outcome.starts,
        "evicted": outcome.evicted,
        "flaps": outcome.flaps,
    }


def _reached_s(s: Scenario, outcome: Outcome) -> int:
    """Seconds from the arrival of the first job until the classes want as many executors as they ever do."""
    most = max(_wanted(sample) for sample in outcome.samples)
    return next(p.at_s for p in outcome.samples if _wanted(p) == most) - s.jobs[0].arrival_s


def _wanted(sample: Sample) -> int:
    return sum(sample.wanted.values())


def _registered(sample: Sample) -> int:
    return sum(sample.registered.values())


# -- the picture --------------------------------------------------------------------------------------------------


def binned(samples: Sequence[Sample], value: Callable[[Sample], int], bin_s: int, end_s: int) -> list[int]:
    """The most in each bin of the time from 0 to `end_s`. Samples are changes: a value holds until the next one."""
    most: list[int] = []
    last, i = 0, 0
    for begin in range(0, end_s, bin_s):
        highest = last
        while i < len(samples) and samples[i].at_s < begin + bin_s:
            last = value(samples[i])
            # What a bin begins with counts only if it holds for a moment.
            highest = last if samples[i].at_s == begin else max(highest, last)
            i += 1
        most.append(highest)
    return most


def draw(drawn: Sequence[tuple[Scenario, Outcome]], output: Path) -> None:
    """An SVG: for each scenario jobs above executors, over time. Raises UsageError without matplotlib."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as e:
        raise UsageError("drawing needs matplotlib", hint="pip install 'swarmhpc[benchmarks]'") from e
    # The same picture from the same figures: no random ids, no date.
    mpl.rcParams.update({"svg.hashsalt": "swarmhpc", "font.size": 10, "axes.spines.top": False})
    mpl.rcParams["axes.spines.right"] = False
    figure = Figure(figsize=(11, 5.6), layout="constrained", facecolor="white")
    axes = figure.subplots(2, len(drawn), sharex="col", squeeze=False)
    for column, (s, outcome) in enumerate(drawn):
        times = [t / s.unit_s for t in range(0, s.window_s, s.bin_s)]
        jobs, executors = axes[0][column], axes[1][column]

        def line(value: Callable[[Sample], int], s: Scenario = s, outcome: Outcome = outcome) -> list[int]:
            return binned(outcome.samples, value, s.bin_s, s.window_s)

        jobs.step(times, line(lambda p: p.idle_jobs), where="post", color=_ORANGE, label="idle jobs", lw=1.4)
        jobs.step(times, line(lambda p: p.running_jobs), where="post", color=_BLUE, label="running jobs", lw=1.4)
        registered = line(_registered)
        executors.fill_between(times, registered, step="post", color=_BLUE, alpha=0.25, lw=0, label="registered")
        executors.step(times, line(_wanted), where="post", color=_ORANGE, label="wanted", lw=1.4)
        maximum = sum(c.maximum or 0 for c in s.classes)
        executors.axhline(maximum, color=_GREY, ls="--", lw=1, label="maximum")
        jobs.set_title(_title(s), loc="left", fontsize=11)
        executors.set_xlabel(s.unit)
        for axis, what in ((jobs, "jobs"), (executors, "executors")):
            axis.set_ylabel(what)
            axis.set_ylim(0, 1.25 * axis.get_ylim()[1])  # room for the legend
            axis.set_xlim(0, s.window_s / s.unit_s)
            axis.grid(alpha=0.25)
            axis.legend(frameon=False, loc="upper left", ncols=3)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, format="svg", metadata={"Date": None, "Creator": None})


def _title(s: Scenario) -> str:
    each = f", most in each {s.bin_s // 60} minutes" if s.bin_s > 60 else ""
    return f"{s.name}: {len(s.jobs)} jobs (simulated{each})"


def _main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--seed", type=int, default=7, help="of the simulated day (7)")
    parser.add_argument("--poll", type=common.count, default=5, metavar="S", help="between two decisions (5)")
    parser.add_argument("--start", type=common.count, default=8, metavar="S", help="an executor takes to register (8)")
    parser.add_argument("--output", type=Path, help="draw the curves into this SVG file")
    args = parser.parse_args()
    common.main(lambda: measure(args.seed, args.poll, args.start, args.output), as_json=args.json)


if __name__ == "__main__":
    _main()
