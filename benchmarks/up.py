#!/usr/bin/env python3
"""`swarmhpc up` from built images to usable, a second `up`, `down`, and `swarmhpc --help`.

Makes a pool of its own, called `benchmark`, otherwise with the defaults of a machine without a cluster file. Its
context lies in a temporary folder, its queue's volume is deleted after each run. Needs root and an engine without
a pool.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc import config
from swarmhpc.adapters.docker import Engine
from swarmhpc.cluster import images
from swarmhpc.errors import EngineError, PoolError, SwarmHpcError, UsageError

POOL = "benchmark"
_HELP_RUNS = 10


def measure(runs: int) -> common.Report:
    """All rows, `runs` times."""
    engine = Engine()
    _require(engine)
    found: dict[str, list[float]] = {
        "swarmhpc up, images built, to usable": [],
        "swarmhpc up again, nothing to do": [],
        "swarmhpc down": [],
        "swarmhpc --help": [],
    }
    up, again, down, help_ = found.values()
    with tempfile.TemporaryDirectory(prefix="swarmhpc-benchmark-") as name:
        folder = Path(name)
        (folder / config.FILE_NAME).write_text(f"name: {POOL}\n")
        env = {"XDG_CONFIG_HOME": str(folder / "config")}
        help_ += [common.timed(lambda: common.swarmhpc("--help", cwd=folder, env=env)) for _ in range(_HELP_RUNS)]
        for number in range(runs):
            try:
                up.append(common.timed(lambda: common.swarmhpc("up", cwd=folder, env=env)))
                again.append(common.timed(lambda: _nothing_to_do(folder, env)))
                down.append(common.timed(lambda: common.swarmhpc("down", cwd=folder, env=env)))
            except BaseException:
                common.say("taking the benchmark's pool down")
                with contextlib.suppress(SwarmHpcError):
                    common.swarmhpc("down", "--now", cwd=folder, env=env)
                raise
            finally:
                for volume in engine.volumes(POOL):
                    with contextlib.suppress(EngineError):
                        engine.volume_remove(volume)
            common.say(f"run {number + 1} of {runs}: up {up[-1]:.1f} s, again {again[-1]:.1f} s, down {down[-1]:.1f} s")
    return common.Report(
        "up",
        [
            {
                "what": what,
                "median_s": common.median(times),
                "fastest_s": min(times),
                "slowest_s": max(times),
                "runs": len(times),
            }
            for what, times in found.items()
        ],
        {"machine": common.machine(engine)},
    )


def _require(engine: Engine) -> None:
    if os.geteuid() != 0:
        raise UsageError("swarmhpc up is measured as root", hint=f"sudo {sys.executable} benchmarks/up.py")
    swarm = engine.facts().swarm_state
    if swarm != "inactive":
        raise PoolError(
            f"this engine is in a Swarm already (state {swarm}); wanted an engine without a pool",
            hint="swarmhpc down   (the queue is kept)",
        )
    if engine.volumes(POOL):
        raise PoolError(f"there is a queue of a pool called {POOL}; it would be deleted", hint="docker volume ls")
    image = images.reference(config.load(None))
    if engine.image(image) is None:
        raise PoolError(f"this engine has no image {image}; building it is not measured", hint="swarmhpc images build")


def _nothing_to_do(folder: Path, env: dict[str, str]) -> None:
    done = common.swarmhpc("up", cwd=folder, env=env)
    if "nothing to do" not in done.stderr:
        raise PoolError(f"the second swarmhpc up found something to do: {done.stderr.strip()}")


def _main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--runs", type=common.count, default=3, help="how often to go up and down (3)")
    args = parser.parse_args()
    common.main(lambda: measure(args.runs), as_json=args.json)


if __name__ == "__main__":
    _main()
