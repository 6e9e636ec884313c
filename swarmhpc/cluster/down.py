"""`swarmhpc down`: executors finish their jobs and leave, then everything goes; the queue's volume stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from swarmhpc import context, state
from swarmhpc.adapters import stack
from swarmhpc.adapters.docker import Engine
from swarmhpc.cluster import images, people, plan
from swarmhpc.cluster.progress import Progress
from swarmhpc.cluster.up import stored_cluster
from swarmhpc.config import Cluster
from swarmhpc.errors import EngineError, PoolError, WaitTimeoutError

_FINISHED = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")


@dataclass(frozen=True)
class DownPlan:
    """What `down` would remove, as lines that read well after "will"."""

    pool: str
    cluster: Cluster | None
    steps: tuple[str, ...]
    kept: tuple[str, ...]


def prepare(engine: Engine, *, now: bool, purge: bool, pool_name: str | None) -> DownPlan:
    """Looks at what is there. Refuses a Swarm of somebody else."""
    facts = engine.facts()
    cluster = stored_cluster(engine)
    pool = pool_name or (cluster.name if cluster else None)
    steps: list[str] = []
    if facts.swarm_state == "active":
        owner = engine.swarm_cluster() if facts.is_manager else None
        if owner is None:
            plan.refuse_foreign(is_manager=facts.is_manager)
        if pool is not None and owner != pool:
            plan.refuse_other(str(owner), pool)
        pool = owner
        services = engine.services(str(pool))
        if services:
            how = "evict running jobs (they go back to the queue)" if now else "let running jobs finish"
            steps += [f"stop the executors: {how}", f"remove {len(services)} services, their network and configs"]
        steps.append("remove the pool's secrets and configs, and end the Swarm that swarmhpc made")
    pool = pool or "swarmhpc"
    kept: list[str] = []
    for name in engine.volumes(pool):
        (steps if purge else kept).append(f"{'delete ' if purge else ''}volume {name} (the queue)")
    for tag in images.own_tags(engine):
        (steps if purge else kept).append(f"{'delete ' if purge else ''}image {tag}")
    if engine.containers(f"{state.LABEL_CLUSTER}={pool}"):
        steps.append("remove the containers that are left of it")
    if (context.home() / pool).exists():
        steps.append("forget this machine's context (its token ends with the pool)")
    return DownPlan(pool, cluster, tuple(steps), tuple(kept))


def apply(engine: Engine, p: DownPlan, progress: Progress, *, now: bool, purge: bool, timeout_s: float | None) -> None:
    """Removes everything. May be interrupted at any point and run again; `up` mends it, too."""
    pool = p.pool
    facts = engine.facts()
    swarm = facts.swarm_state == "active"
    progress.start("executors")
    if swarm:
        _stop_executors(engine, pool, progress, now=now, timeout_s=timeout_s)
    progress.done("all have left")
    progress.start("services")
    if swarm and engine.services(pool):
        stack.remove(pool)
    _until(
        lambda: [c.name for c in engine.containers(f"com.docker.stack.namespace={pool}")],
        progress,
        what="containers still stopping",
        timeout_s=120,
    )
    progress.done("removed")
    progress.start("leftovers")
    for c in engine.containers(f"{state.LABEL_CLUSTER}={pool}"):
        engine.container_remove(c.id)
    image = _helper_image(engine, p.cluster)
    if image is not None and p.cluster is not None:
        # The directory was made by the engine (a bind's source) and goes the same way; so does an empty /…/swarmhpc.
        folder = PurePosixPath(p.cluster.execute_dir)
        above = str(folder.parent.parent)
        script = f'rm -rf "/above/{folder.parent.name}/{folder.name}" || exit'
        if folder.parent.name == "swarmhpc":
            script += '; rmdir "/above/swarmhpc" 2>/dev/null || true'
        try:
            engine.run_once(image, ["sh", "-c", script], cluster=pool, binds={above: "/above"})
        except EngineError as e:
            progress.notice(f"{folder} is left on this machine ({e.message}); remove it: rm -r {folder}")
    if swarm:
        _until(
            lambda: [n for n in engine.network_subnets() if n == f"{pool}_pool"],
            progress,
            what="network still in use",
            timeout_s=60,
        )
        for s in engine.secrets(pool):
            engine.secret_remove(s.id)
        for stored in engine.configs(pool):
            engine.config_remove(stored.id)
        engine.swarm_leave()
        _remove_bridge(engine, progress)
    if purge:
        for volume in engine.volumes(pool):
            engine.volume_remove(volume)
        for tag in images.own_tags(engine):
            engine.image_remove(tag)
    context.forget(pool)
    progress.done("; ".join(f"kept {k}" for k in p.kept) if p.kept and not purge else "nothing of the pool is left")


def _stop_executors(engine: Engine, pool: str, progress: Progress, *, now: bool, timeout_s: float | None) -> None:
    executors = [s for s in engine.services(pool) if s.labels.get(state.LABEL_ROLE) == state.EXECUTOR]
    for s in executors:
        if s.replicas:
            engine.scale(s.id, 0)
    asked = 0.0

    def left() -> list[str]:
        nonlocal asked
        busy = [t for s in executors for t in engine.tasks(s.id) if t.container_id and t.state not in _FINISHED]
        if busy and now and time.monotonic() - asked > 2:
            # The executors take no new jobs any more (Swarm has sent TERM); what runs goes back to the queue.
            asked = time.monotonic()
            _evict(engine, pool)
        return [t.id for t in busy]

    _until(left, progress, what="executors still finishing their jobs", timeout_s=timeout_s)


def _helper_image(engine: Engine, cluster: Cluster | None) -> str | None:
    """An image of the pool to run `rm` in, also where an earlier `down` was interrupted when the services had gone."""
    wanted = [images.reference(cluster)] if cluster is not None else []
    return next((name for name in [*wanted, *images.own_tags(engine)] if engine.image(name) is not None), None)


def _remove_bridge(engine: Engine, progress: Progress) -> None:
    """Removes the bridge that a Swarm leaves behind. Its last endpoint (the ingress sandbox's) goes a moment after the
    Swarm, or never where the Swarm lived for seconds only (seen with engine 20.10.24): then it is taken off."""
    deadline = time.monotonic() + 10
    while True:
        try:
            engine.network_remove("docker_gwbridge")
        except EngineError as e:
            if time.monotonic() > deadline:
                progress.notice(f"network docker_gwbridge stays until the engine restarts: {e.message}")
                return
            engine.network_detach_all("docker_gwbridge")
            time.sleep(0.5)
        else:
            return


def _evict(engine: Engine, pool: str) -> None:
    try:
        queue = people.daemon_container(engine, pool, state.ACCESS_POINT)
        engine.execute(queue.id, ["condor_vacate_job", "-fast", "-all"])
    except (PoolError, EngineError):
        return  # no access point: nobody holds a claim that would keep an executor


def _until(left: Callable[[], list[str]], progress: Progress, *, what: str, timeout_s: float | None) -> None:
    start = time.monotonic()
    while names := left():
        progress.detail(f"{len(names)} {what}")
        if timeout_s is not None and time.monotonic() - start > timeout_s:
            raise WaitTimeoutError(
                f"after {timeout_s:.0f} s: {len(names)} {what}, such as {names[0]}",
                hint="swarmhpc down goes on from here; down --now does not wait for jobs; swarmhpc up goes back",
            )
        time.sleep(0.3)
