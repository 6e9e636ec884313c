#!/usr/bin/env python3
"""Submit to output on disk on an idle pool: ours beside plain `docker run` and beside the package's default settings.

Ours is the path of `swarmhpc submit --wait` in this process (parse, translate, submit, watch, fetch), once more as the
whole command. For the package's defaults the same pool gets back what HTCondor 25.14 has for the timing knobs that
stacks/condor sets, and jobs are spooled as HTCondor's own client does; polling and fetching are the same. Jobs come at
random moments. The knobs are put back at the end, also after Ctrl-C; a benchmark that was killed outright leaves
/etc/condor/config.d/99-benchmark.conf in the pool's containers, and the next run removes it first.
"""

from __future__ import annotations

import contextlib
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc import state
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.docker import Engine
from swarmhpc.errors import EngineError, PoolError, WaitTimeoutError
from swarmhpc.jobs import submit as wing
from swarmhpc.jobs.translate import Limits, flat_text

_TRUE = "executable = /bin/true\noutput = out\nerror = err\nrequest_memory = 100M\n"
_DOCKER = f"universe = docker\ndocker_image = {common.IMAGE}\n{_TRUE}"
# `""` is HTCondor's way to say none: a bare `transfer_output_files =` counts as not given
# (src/condor_utils/submit_utils.cpp, SetTransferFiles).
JOBS = {
    "vanilla true": f"{_TRUE}queue\n",
    "docker true": f"{_DOCKER}queue\n",
    "docker true, no output files": f'{_DOCKER}transfer_output_files = ""\nqueue\n',
}
PLAIN = f"docker run --rm {common.IMAGE} true"
COMMAND = "swarmhpc submit FILE --wait (docker true)"

TIMING_KNOBS = (
    "NEGOTIATOR_INTERVAL",
    "NEGOTIATOR_CYCLE_DELAY",
    "NEGOTIATOR_MIN_INTERVAL",
    "SCHEDD_INTERVAL",
    "SCHEDD_MIN_INTERVAL",
    "UPDATE_INTERVAL",
    "MASTER_UPDATE_INTERVAL",
    # Belongs to the two above: with our 60 s and the package's updates every 300 s the executors would vanish.
    "CLASSAD_LIFETIME",
    "GUIDANCE_KEEP_CALM_AND",
)
_FILE = "/etc/condor/config.d/99-benchmark.conf"
_TIMEOUT_S = 600


def set_in(template: str) -> set[str]:
    """Names of the knobs that a configuration template sets (`NAME = value` lines, names in capitals)."""
    return set(re.findall(r"^([A-Z][A-Z0-9_]*)[ \t]*=", template, re.MULTILINE))


def tuned() -> list[str]:
    """The timing knobs that the shipped templates set."""
    found: set[str] = set()
    for template in sorted((state.assets("stacks") / "condor").glob("*.j2")):
        found |= set_in(template.read_text())
    return [name for name in TIMING_KNOBS if name in found]


def measure(runs: int, runs_default: int, seed: int, pool_name: str | None) -> common.Report:
    """All rows with our settings, then those of the pool with the package's."""
    engine, ctx, pool = common.connect(pool_name)
    common.require_image(engine)
    common.require_idle(pool)
    containers = _daemons(engine, ctx.pool)
    if any(engine.execute(c, ["test", "-e", _FILE])[0] == 0 for c in containers):
        common.say("an earlier run was killed: putting our settings back")
        _put_back(engine, pool, containers)
    moments = random.Random(seed)
    limits = wing.limits_of(pool)
    with tempfile.TemporaryDirectory(prefix="swarmhpc-benchmark-") as name:
        folder = Path(name)
        files = {what: folder / f"{i}.sub" for i, what in enumerate(JOBS)}
        for what, file in files.items():
            file.write_text(JOBS[what])
        whole = ["--pool", ctx.pool, "submit", str(files["docker true"]), "--wait"]
        rows: dict[str, Callable[[], object]] = {PLAIN: lambda: common.docker("run", "--rm", common.IMAGE, "true")}
        rows |= {what: _job(pool, limits, file, spool=False) for what, file in files.items()}
        rows[COMMAND] = lambda: common.swarmhpc(*whole, cwd=folder)
        ours = _rounds("our settings", rows, runs, moments, folder)
        spooled = {what: _job(pool, limits, file, spool=True) for what, file in files.items()}
        with package_defaults(engine, pool, containers) as defaults:
            default = _rounds("package's defaults", spooled, runs_default, moments, folder)
    return common.Report(
        "latency",
        [_row(what, ours[what], default.get(what, [])) for what in rows],
        {
            "seed": seed,
            "runs": runs,
            "runs_default": runs_default,
            "package_defaults": defaults,
            "machine": common.machine(engine),
        },
    )


def _row(what: str, ours: list[float], default: list[float]) -> dict[str, common.Cell]:
    return {
        "what": what,
        "ours_median_s": common.median(ours),
        "ours_p99_s": common.percentile(ours, 99),
        "defaults_median_s": common.median(default) if default else None,
        "defaults_p99_s": common.percentile(default, 99) if default else None,
        "defaults_over_ours": common.median(default) / common.median(ours) if default else None,
    }


def _job(pool: Pool, limits: Limits, file: Path, *, spool: bool) -> Callable[[], object]:
    """From a description to its output on disk. `spool`: as HTCondor's own client submits, else as ours does."""

    def run() -> None:
        translation = wing.prepare(file, cwd=file.parent, limits=limits)
        if spool:
            cluster = pool.submit(flat_text(translation.clusters[0]), names=["Item"], rows=[["0"]], spool=True)
        else:
            (submitted,) = wing.submit(pool, translation)
            cluster = submitted.cluster
        common.finish(pool, cluster, jobs=1, timeout_s=_TIMEOUT_S)

    return run


def _rounds(
    settings: str, rows: Mapping[str, Callable[[], object]], runs: int, moments: random.Random, folder: Path
) -> dict[str, list[float]]:
    """Every row once a round, so that a slow minute of the machine meets all of them. A first round is not counted."""
    found: dict[str, list[float]] = {what: [] for what in rows}
    for number in range(runs + 1):
        for what, run in rows.items():
            (folder / "out").unlink(missing_ok=True)
            time.sleep(moments.uniform(0, 2))
            took_s = common.timed(run)
            if what != PLAIN and not (folder / "out").is_file():
                raise PoolError(f"{what}: the job finished, but its output is not at {folder / 'out'}")
            if number:
                found[what].append(took_s)
        took = ", ".join(f"{times[-1]:.2f}" for times in found.values() if times)
        common.say(f"{settings}: {f'round {number} of {runs}: {took} s' if number else 'warm-up round done'}")
    return found


# -- the package's default settings -------------------------------------------------------------------------------


def _daemons(engine: Engine, pool: str) -> list[str]:
    """Containers that run HTCondor: central manager, then access point, then executors."""
    order = (state.CENTRAL_MANAGER, state.ACCESS_POINT, state.EXECUTOR)
    found = []
    for role in order:
        for service in engine.services(pool):
            if service.labels.get(state.LABEL_ROLE) == role:
                label = f"com.docker.swarm.service.name={service.name}"
                found += [c.id for c in engine.containers(label, everything=False)]
    if len(found) < len(order):
        raise PoolError(f"pool {pool} has {len(found)} running containers; wanted a whole pool", hint="swarmhpc up")
    return found


@contextlib.contextmanager
def package_defaults(engine: Engine, pool: Pool, containers: list[str]) -> Iterator[dict[str, common.Cell]]:
    """The pool with the package's values of the tuned knobs, which it yields; ours again afterwards."""
    defaults: dict[str, common.Cell] = {name: _default(engine, containers[0], name) for name in tuned()}
    # An empty value is as good as none to HTCondor (param()): for a knob that the package does not set.
    text = "".join(f"{name} = {value or ''}\n" for name, value in defaults.items())
    before = _executors(pool)
    try:
        # The collector first: it must keep old news for longer before the others send less of it.
        for container in containers:
            _run(engine, container, "sh", "-c", f'printf %s "$1" > {_FILE}', "sh", text)
            _run(engine, container, "condor_reconfig")
        _wait_for(pool, before)
        yield defaults
    finally:
        _put_back(engine, pool, containers)


def _default(engine: Engine, container: str, name: str) -> str | None:
    """What HTCondor itself has for a knob, without any configuration file; None where it has nothing."""
    argv = ["env", "CONDOR_CONFIG=ONLY_ENV", "condor_config_val", name]
    code, out, err = engine.execute(container, argv)
    if "Not defined" in out + err:
        return None
    if code != 0 or not out.strip():
        raise EngineError(f"{' '.join(argv)} ended with code {code}: {(err or out).strip()}")
    return out.strip()


def _put_back(engine: Engine, pool: Pool, containers: list[str]) -> None:
    """Our settings again, executors first (see above). Every container is tried, whatever another one says."""
    before = _executors(pool)
    failed = []
    for container in reversed(containers):
        try:
            _run(engine, container, "rm", "-f", _FILE)
            _run(engine, container, "condor_reconfig")
        except EngineError as e:
            failed.append(e.message)
    if failed:
        raise EngineError(
            f"the package's settings are still in {len(failed)} containers: {failed[0]}",
            hint=f"docker exec CONTAINER sh -c 'rm -f {_FILE}; condor_reconfig'; or swarmhpc down && swarmhpc up",
        )
    _wait_for(pool, before)


def _executors(pool: Pool) -> set[str]:
    return {s.executor for s in pool.slots()}


def _wait_for(pool: Pool, executors: set[str]) -> None:
    deadline = time.monotonic() + 120
    while missing := executors - _executors(pool):
        if time.monotonic() > deadline:
            raise WaitTimeoutError(
                f"after new settings {len(missing)} executors do not register again, such as {min(missing)}",
                hint="swarmhpc status",
            )
        time.sleep(0.5)


def _run(engine: Engine, container: str, *argv: str) -> None:
    code, out, err = engine.execute(container, argv)
    if code != 0:
        raise EngineError(f"{argv[0]} in container {container[:12]} ended with code {code}: {(err or out).strip()}")


def _main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--runs", type=common.count, default=30, help="runs of each row, our settings (30)")
    parser.add_argument("--runs-default", type=common.count, default=10, help="runs with the package's settings (10)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the random moments (random)")
    parser.add_argument("--pool", help="which pool, where this machine knows several")
    args = parser.parse_args()
    common.main(lambda: measure(args.runs, args.runs_default, args.seed, args.pool), as_json=args.json)


if __name__ == "__main__":
    _main()
