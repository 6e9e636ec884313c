#!/usr/bin/env python3
"""Memory and idle CPU of every container of an idle pool.

`memory_mib` is the cgroup's usage without the page cache that the kernel can drop (inactive_file), as `docker stats`
shows it; `with_cache_mib` is all of it. `cpu_percent` is of one core, over `--seconds`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from swarmhpc import state
from swarmhpc.adapters.docker import Engine
from swarmhpc.errors import EngineError, PoolError

_MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """One look at a container: bytes, nanoseconds of CPU since its start, and when (time.perf_counter())."""

    used: int
    with_cache: int
    cpu_ns: int
    at: float


def used(memory_stats: Mapping[str, Any]) -> int:
    """Bytes in use without droppable cache. Shape: `memory_stats` of the engine's GET /containers/ID/stats.

    cgroup v1 counts a container's children in `total_inactive_file`; v2 has `inactive_file` only (docker's CLI,
    cli/command/container/stats_helpers.go, calculateMemUsageUnixNoCache).
    """
    usage = int(memory_stats["usage"])
    details = memory_stats.get("stats", {})
    cache = int(details.get("total_inactive_file", details.get("inactive_file", 0)))
    return usage - cache if cache < usage else usage


def measure(seconds: float, pool_name: str | None) -> common.Report:
    """One row a container, then one executor and the whole pool."""
    engine, ctx, pool = common.connect(pool_name)
    common.require_idle(pool)
    containers, executors = _containers(engine, ctx.pool)
    # Any: the stubs leave most of the low-level API untyped.
    client: Any = docker.from_env()
    before = {name: _sample(client, name, container) for name, container in containers.items()}
    common.say(f"watching {len(containers)} containers for {seconds:.0f} s")
    time.sleep(seconds)
    after = {name: _sample(client, name, container) for name, container in containers.items()}
    common.require_idle(pool)
    rows = [_row(name, before[name], after[name]) for name in containers]
    names = ("memory_mib", "with_cache_mib", "cpu_percent")
    columns = {n: {str(row["container"]): float(row[n] or 0) for row in rows} for n in names}
    one: dict[str, common.Cell] = {n: common.median([columns[n][e] for e in executors]) for n in names}
    total: dict[str, common.Cell] = {n: sum(columns[n].values()) for n in names}
    return common.Report(
        "memory",
        [*rows, {"container": "one executor (median)", **one}, {"container": "the whole pool", **total}],
        {"seconds": seconds, "executors": len(executors), "machine": common.machine(engine)},
    )


def _containers(engine: Engine, pool: str) -> tuple[dict[str, str], list[str]]:
    """Every running container of the pool, name to id; and the names of the executors among them."""
    found: dict[str, str] = {}
    executors = []
    for service in engine.services(pool):
        label = f"com.docker.swarm.service.name={service.name}"
        for container in engine.containers(label, everything=False):
            # Swarm's names end in the task's id: needed only where two tasks of one slot overlap.
            short = container.name.rpartition(".")[0]
            name = container.name if short in found else short
            found[name] = container.id
            if service.labels.get(state.LABEL_ROLE) == state.EXECUTOR:
                executors.append(name)
    if not executors:
        raise PoolError(f"pool {pool} has no running executor on this engine", hint="swarmhpc up")
    return found, executors


def _sample(client: Any, name: str, container: str) -> Sample:
    try:
        # one_shot: without a second sample a second later.
        stats = client.api.stats(container, stream=False, one_shot=True)
    except docker.errors.DockerException as e:
        raise EngineError(f"container {name}: the engine gives no figures: {e}", hint="swarmhpc status") from e
    memory = stats.get("memory_stats") or {}
    if "usage" not in memory:
        raise EngineError(
            f"container {name}: the engine reports no memory; wanted a kernel with the memory cgroup",
            hint="docker info",
        )
    return Sample(
        used(memory), int(memory["usage"]), int(stats["cpu_stats"]["cpu_usage"]["total_usage"]), time.perf_counter()
    )


def _row(name: str, before: Sample, after: Sample) -> dict[str, common.Cell]:
    return {
        "container": name,
        "memory_mib": after.used / _MIB,
        "with_cache_mib": after.with_cache / _MIB,
        "cpu_percent": (after.cpu_ns - before.cpu_ns) / 1e9 / (after.at - before.at) * 100,
    }


def _main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--seconds", type=common.count, default=20, help="how long to watch the CPU (20)")
    parser.add_argument("--pool", help="which pool, where this machine knows several")
    args = parser.parse_args()
    common.main(lambda: measure(args.seconds, args.pool), as_json=args.json)


if __name__ == "__main__":
    _main()
