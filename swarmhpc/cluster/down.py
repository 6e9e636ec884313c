"""`swarmhpc down`: executors finish their jobs and leave, then everything goes; the queue's volume stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from swarmhpc import context, state
from swarmhpc.adapters import ansible, stack
from swarmhpc.adapters.docker import Engine
from swarmhpc.adapters.remote import MachineFacts
from swarmhpc.cluster import bring, images, plan
from swarmhpc.cluster.fleet import Fleet, each, failures, stored_cluster
from swarmhpc.cluster.progress import Progress
from swarmhpc.config import Cluster
from swarmhpc.errors import EngineError, MachineError, SwarmHpcError, WaitTimeoutError


@dataclass(frozen=True)
class DownPlan:
    """What `down` would remove, as lines that read well after "will".

    `engines`: the machines that take part. `troubled`: those that give no answer, or are in a Swarm that is not this
    pool's; they keep what they have. `managers`, `workers`: the nodes of the pool's Swarm among `engines`. `undo`: the
    machines whose preparation a purge undoes.
    """

    pool: str
    cluster: Cluster | None
    manager: Engine | None
    engines: Mapping[str, Engine]
    troubled: Mapping[str, SwarmHpcError]
    managers: tuple[str, ...]
    workers: tuple[str, ...]
    undo: tuple[str, ...]
    steps: tuple[str, ...]
    kept: tuple[str, ...]


def prepare(fleet: Fleet, file: Cluster | None, *, now: bool, purge: bool, pool_name: str | None) -> DownPlan:
    """Looks at what is there. Refuses a Swarm of somebody else.

    `file`: the cluster file at hand, for what is left where the Swarm, which remembers one, has gone already.
    """
    engines, troubled = fleet.engines(m.name for m in fleet.machines)
    if fleet.alone and troubled:
        raise next(iter(troubled.values()))
    bare, half = _without_engine(fleet, troubled)
    troubled = {name: e for name, e in troubled.items() if name not in bare}
    manager = fleet.manager(pool_name) if not fleet.alone else None
    steps: list[str] = []
    if fleet.alone:
        engine = next(iter(engines.values()))
        facts = engine.facts()
        if facts.swarm_state == "active":
            owner = engine.managed_cluster()
            if owner is None:
                plan.refuse_foreign(is_manager=facts.is_manager)
            if pool_name is not None and owner != pool_name:
                plan.refuse_other(owner, pool_name)
            manager = engine
    managers, workers, strangers = _nodes(fleet, engines, manager)
    engines = {name: e for name, e in engines.items() if name not in strangers}
    troubled |= strangers
    cluster = (stored_cluster(manager) if manager else None) or (None if fleet.alone else file)
    pool = (manager.managed_cluster() if manager else None) or pool_name or "swarmhpc"
    if manager is not None:
        if services := manager.services(pool):
            how = "evict running jobs (they go back to the queue)" if now else "let running jobs finish"
            steps += [f"stop the executors: {how}", f"remove {len(services)} services, their network and configs"]
        steps.append("remove the pool's secrets and configs, and end the Swarm that swarmhpc made")
        if not fleet.alone:
            steps.append(f"make {', '.join(workers + managers)} leave the Swarm")
    kept: list[str] = []
    for name, engine in engines.items():
        where = "" if fleet.alone else f" on {name}"
        for volume in engine.volumes(pool):
            what = "who has used how much" if volume == state.accounting_volume(pool) else "the queue"
            (steps if purge else kept).append(f"{'delete ' if purge else ''}volume {volume} ({what}){where}")
        for tag in images.own_tags(engine, cluster):
            (steps if purge else kept).append(f"{'delete ' if purge else ''}image {tag}{where}")
        if engine.containers(f"{state.LABEL_CLUSTER}={pool}"):
            steps.append(f"remove the containers that are left of it{where}")
    if manager is not None and cluster is not None and cluster.queue.path:
        kept.append(f"the queue in {cluster.queue.path}")
    undo = (*engines, *half) if purge and not fleet.alone else ()
    steps += [f"undo the preparation of {name}" for name in undo]
    if not troubled and (context.home() / pool).exists():
        steps.append("forget this machine's context (its token ends with the pool)")
    return DownPlan(pool, cluster, manager, engines, troubled, managers, workers, undo, tuple(steps), tuple(kept))


def _without_engine(fleet: Fleet, silent: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Machines of `silent` that have no engine at all, so nothing of a pool; and those of them that `up` had begun to
    prepare."""
    facts = {n: f for n, f in each(silent, lambda n: fleet.remotes[n].facts()).items() if isinstance(f, MachineFacts)}
    bare = tuple(n for n, f in facts.items() if not f.engine_installed)
    return bare, tuple(n for n in bare if facts[n].prepared)


def _nodes(
    fleet: Fleet, engines: Mapping[str, Engine], manager: Engine | None
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, SwarmHpcError]]:
    """Machines that are managers and workers of the Swarm that `manager` manages, and those that are in another one."""
    own = {n.id for n in manager.nodes()} if manager is not None else set()
    managers: list[str] = []
    workers: list[str] = []
    troubled: dict[str, SwarmHpcError] = {}
    for name, facts in each(engines, lambda n: engines[n].facts()).items():
        if isinstance(facts, SwarmHpcError):
            troubled[name] = facts
        elif facts.swarm_state == "inactive":
            continue
        elif facts.node_id in own:
            (managers if facts.is_manager else workers).append(name)
        else:
            remote = fleet.remotes[name]
            address = remote.machine.address
            there = "" if remote.local else f"ssh {address} "
            troubled[name] = MachineError(
                f"machine {name} ({address}) is in a Swarm (state {facts.swarm_state}), and no manager among the "
                "machines that answer says that it is this pool's; it is left alone",
                hint="start the other managers, then: swarmhpc down; or, if they are gone for good, give that Swarm "
                f"up: {there}docker swarm leave --force; then: swarmhpc down",
            )
    return tuple(managers), tuple(workers), troubled


def apply(
    fleet: Fleet, p: DownPlan, progress: Progress, *, now: bool, purge: bool, timeout_s: float | None
) -> dict[str, SwarmHpcError]:
    """Removes everything; why some machines kept something. May be interrupted at any point and run again."""
    pool, manager = p.pool, p.manager
    troubled = dict(p.troubled)
    progress.start("executors")
    if manager is not None:
        _stop_executors(fleet, p, manager, progress, now=now, timeout_s=timeout_s)
    progress.done("all have left")
    progress.start("services")
    if manager is not None and manager.services(pool):
        stack.remove(pool, docker_host=manager.docker_host)
    _until(
        lambda: [c.name for e in p.engines.values() for c in e.containers(f"com.docker.stack.namespace={pool}")],
        progress,
        what="containers still stopping",
        timeout_s=120,
    )
    progress.done("removed")
    progress.start("leftovers")
    troubled |= failures(
        each(p.engines, lambda n: clean(p.engines[n], pool, p.cluster, "this machine" if fleet.alone else n, progress))
    )
    if manager is not None:
        _until(
            lambda: [n for n in manager.network_subnets() if n == f"{pool}_pool"],
            progress,
            what="network still in use",
            timeout_s=60,
        )
        for s in manager.secrets(pool):
            manager.secret_remove(s.id)
        for stored in manager.configs(pool):
            manager.config_remove(stored.id)
        troubled |= _leave(p, manager, progress)
    if purge:
        for engine in p.engines.values():
            for volume in engine.volumes(pool):
                engine.volume_remove(volume)
            for tag in images.own_tags(engine, p.cluster):
                engine.image_remove(tag)
        # One that is still in the Swarm keeps its engine.
        undo = [name for name in p.undo if name not in troubled]
        if undo and p.cluster is not None:
            troubled |= _undo(fleet, undo, p.cluster, progress)
    if not troubled:
        context.forget(pool)
    kept = [f"kept {k}" for k in p.kept] + ([f"not {', '.join(troubled)}"] if troubled else [])
    progress.done("; ".join(kept) or "nothing of the pool is left")
    return troubled


def clean(engine: Engine, pool: str, cluster: Cluster | None, where: str, progress: Progress) -> None:
    """Removes what the pool left on one machine (`where`, in words): containers and the execute directory."""
    for c in engine.containers(f"{state.LABEL_CLUSTER}={pool}"):
        engine.container_remove(c.id)
    image = _helper_image(engine, cluster)
    if image is None or cluster is None:
        return
    for root in cluster.execute_roots:
        # The directory was made by the engine (a bind's source) and goes the same way; so does an empty /…/swarmhpc.
        folder = PurePosixPath(root)
        above = str(folder.parent.parent)
        # Nothing but what is named as a Swarm task: somebody may keep other things beside it.
        script = f"""
            cd "/above/{folder.parent.name}/{folder.name}" || exit 0
            find . -maxdepth 1 -regextype posix-extended -regex './([a-z0-9]{{25}}|[.]uids)' -exec rm -rf {{}} + || exit
            cd /above && rmdir "{folder.parent.name}/{folder.name}" 2>/dev/null
            [ "{folder.parent.name}" != swarmhpc ] || rmdir swarmhpc 2>/dev/null
            true"""
        try:
            engine.run_once(image, ["sh", "-c", script], cluster=pool, binds={above: "/above"})
        except EngineError as e:
            progress.notice(f"{folder} is left on {where} ({e.message}); remove it: rm -r {folder}")


def _leave(p: DownPlan, manager: Engine, progress: Progress) -> dict[str, SwarmHpcError]:
    """Everybody leaves: workers, then the other managers, then the one that was talked to, which ends the Swarm.

    Nobody is asked anything in between: a manager that has lost the others answers after 20 s, or never.
    """

    def leave(name: str) -> None:
        p.engines[name].swarm_leave()
        remove_bridge(p.engines[name], progress)

    last = [n for n in p.managers if p.engines[n] is manager]
    troubled: dict[str, SwarmHpcError] = {}
    for names in (p.workers, [n for n in p.managers if n not in last], last):
        troubled |= failures(each(names, leave))
    return troubled


def _undo(fleet: Fleet, names: Iterable[str], cluster: Cluster, progress: Progress) -> dict[str, SwarmHpcError]:
    results = ansible.run(
        "undo",
        [bring.target(fleet, name) for name in names],
        variables={**bring.variables(cluster), "purge": True},
        known_hosts=bring.known_hosts(cluster),
        on_host=lambda name, text: progress.detail(f"{name}: {text}"),
    )
    for name, result in results.items():
        for finding in result.findings:
            progress.notice(f"{name}: {finding}")
    return {
        name: MachineError(
            f"machine {name}: its preparation could not be undone: {r.message}", hint="swarmhpc down --purge"
        )
        for name, r in results.items()
        if not r.ok
    }


_EVICTED_WITHIN_S: Final = 20.0  # seen: 2 to 4 s


def _stop_executors(
    fleet: Fleet, p: DownPlan, engine: Engine, progress: Progress, *, now: bool, timeout_s: float | None
) -> None:
    pool = p.pool
    executors = [s for s in engine.services(pool) if s.labels.get(state.LABEL_ROLE) == state.EXECUTOR]
    for s in executors:
        if s.replicas:
            engine.scale(s.id, 0)
    began = time.monotonic()
    asked = 0.0

    def left() -> list[str]:
        nonlocal asked
        busy = [t for s in executors for t in engine.tasks(s.id) if t.runs_still]
        if busy and now and time.monotonic() - asked > 2:
            # The executors take no new jobs any more (Swarm has sent TERM); what runs goes back to the queue.
            asked = time.monotonic()
            evict(fleet, engine, pool, "-all")
            if asked - began > _EVICTED_WITHIN_S:
                # One that does not hear the queue any more would stay for its whole grace period. Its jobs begin again.
                for e in p.engines.values():
                    for t in busy:
                        e.container_remove(t.container_id)  # nothing where it is another machine's
        return [t.id for t in busy]

    _until(left, progress, what="executors still finishing their jobs", timeout_s=timeout_s)


def _helper_image(engine: Engine, cluster: Cluster | None) -> str | None:
    """An image of the pool to run `rm` in, also where an earlier `down` was interrupted when the services had gone."""
    wanted = [images.reference(cluster)] if cluster is not None else []
    return next((name for name in [*wanted, *images.own_tags(engine, cluster)] if engine.image(name) is not None), None)


def remove_bridge(engine: Engine, progress: Progress) -> None:
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


def evict(fleet: Fleet, manager: Engine, pool: str, *which: str) -> None:
    """Sends running jobs back to the queue; `which`: condor_vacate_job's own words for them."""
    try:
        at, container = fleet.daemon(manager, pool, state.ACCESS_POINT)
        at.execute(container, ["condor_vacate_job", "-fast", *which])
    except SwarmHpcError:
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
