"""`swarmhpc doctor`: what could keep a pool from working on this machine, each with the command that mends it.

Here the machine, the engine and its Swarm are asked; nothing is changed. `findings.judge` says what the answers mean.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from swarmhpc import context, state, tokens
from swarmhpc.adapters import command, machine
from swarmhpc.adapters.docker import Container, Engine, EngineFacts, Image, Node
from swarmhpc.cluster import images, up
from swarmhpc.cluster.findings import SWARM_PORTS, Check, judge
from swarmhpc.config import Cluster
from swarmhpc.errors import SwarmHpcError

__all__ = ["Access", "Check", "Facts", "examine", "judge", "observe"]


@dataclass(frozen=True)
class Access:
    """This person's context and token for the pool; `error` where there is none that can be read. Times: epoch."""

    exists: bool
    error: str = ""
    person: str = ""
    issued_at: int = 0
    expires_at: int | None = None
    token_mode: int = 0o600
    token_file: str = ""


@dataclass(frozen=True)
class Facts:
    """What `observe` found. None: could not be asked; `engine_error` or `swarm_error` (message, hint) says why."""

    now_s: float
    docker_command: bool = True
    engine_is_local: bool = True
    engine: EngineFacts | None = None
    engine_error: tuple[str, str] = ("", "")
    swarm_cluster: str | None = None
    swarm_error: tuple[str, str] = ("", "")
    nodes: tuple[Node, ...] = ()
    pool_runs: bool | None = None
    task_errors: tuple[str, ...] = ()
    ipvs: bool = True
    ports_taken: tuple[int, ...] = ()
    subnets: Mapping[str, tuple[str, ...]] | None = None
    """Networks of the engine and routes of the machine that are not this pool's, with their subnets."""
    engine_disk_mib: int | None = None
    job_disk_mib: int | None = None
    image: str = ""
    image_is_here: bool = False
    base_is_here: bool = False
    image_made_s: float = 0.0
    jobs: tuple[Container, ...] = ()
    live_tasks: frozenset[str] = frozenset()
    containers: tuple[Container, ...] = ()
    """The pool's containers on this engine that are not jobs."""
    volumes: tuple[str, ...] = ()
    network_is_left: bool = False
    access: Access = Access(exists=False)


def examine(engine: Engine | None, cluster: Cluster, *, error: SwarmHpcError | None = None) -> list[Check]:
    """Every check, always in the same order. `engine` None: no connection, and `error` says why.

    Never raises SwarmHpcError: an engine that gives no answer is a finding.
    """
    return judge(observe(engine, cluster, error=error), cluster)


def observe(engine: Engine | None, cluster: Cluster, *, error: SwarmHpcError | None = None) -> Facts:
    """Asks this machine, then the engine, then its Swarm; goes on when one of them gives no answer."""
    local = machine.engine_is_local()
    facts = Facts(
        now_s=time.time(),
        docker_command=command.found("docker"),
        engine_is_local=local,
        ipvs=machine.has_ipvs() if local else True,
        ports_taken=tuple(p for p in _ports(cluster) if machine.port_taken(p)) if local else (),
        job_disk_mib=_free_mib(cluster.execute_dir) if local else None,
        image=images.reference(cluster),
        access=access(cluster.name),
    )
    if engine is None:
        said = error or SwarmHpcError("no Docker engine was asked", hint="swarmhpc doctor")
        return replace(facts, engine_error=(said.message, said.hint))
    try:
        facts = _ask_engine(facts, engine, cluster, local=local)
    except SwarmHpcError as e:
        return replace(facts, engine=None, engine_error=(e.message, e.hint))
    try:
        return _ask_swarm(facts, engine, cluster)
    except SwarmHpcError as e:
        return replace(facts, pool_runs=None, swarm_error=(e.message, e.hint))


def _ask_engine(facts: Facts, engine: Engine, cluster: Cluster, *, local: bool) -> Facts:
    info = engine.facts()
    image = engine.image(facts.image)
    networks = engine.network_subnets()
    own = f"{cluster.name}_pool"
    routes = {f"route {name}": (subnet,) for name, subnet in machine.routes().items()} if local else {}
    # Jobs are listed before the living, so a job whose executor has just come is never taken for an orphan.
    jobs = engine.containers(state.LABEL_TASK)
    living = engine.containers("com.docker.swarm.task.id", everything=False)
    ours = [
        *engine.containers(f"com.docker.stack.namespace={cluster.name}"),
        *engine.containers(f"{state.LABEL_CLUSTER}={cluster.name}"),
    ]
    return replace(
        facts,
        engine=info,
        image_is_here=image is not None,
        image_made_s=_seconds(image),
        base_is_here=engine.image(cluster.image.base or state.BASE_IMAGE) is not None,
        subnets={**{f"network {n}": tuple(s) for n, s in networks.items() if n != own}, **routes},
        network_is_left=own in networks,
        engine_disk_mib=_free_mib(info.root_dir) if local else None,
        jobs=tuple(jobs),
        live_tasks=frozenset(c.labels["com.docker.swarm.task.id"] for c in living),
        containers=tuple({c.id: c for c in ours if state.LABEL_TASK not in c.labels}.values()),
        volumes=tuple(engine.volumes(cluster.name)),
    )


def _ask_swarm(facts: Facts, engine: Engine, cluster: Cluster) -> Facts:
    if facts.engine is None or facts.engine.swarm_state == "inactive":
        return replace(facts, pool_runs=False)
    if facts.engine.swarm_state != "active" or not facts.engine.is_manager:
        return facts
    owner = engine.swarm_cluster()
    if owner != cluster.name:
        return replace(facts, swarm_cluster=owner, pool_runs=False)
    facts = replace(facts, swarm_cluster=owner)
    return replace(
        facts,
        nodes=tuple(engine.nodes()),
        pool_runs=bool(engine.services(cluster.name)),
        task_errors=tuple(up.task_errors(engine, cluster.name)),
    )


def access(pool: str) -> Access:
    """What this machine keeps of the pool for this person."""
    exists = (context.home() / pool / "context.json").is_file()
    try:
        known = context.load(pool)
        token = tokens.read_claims(known.token_file.read_text())
        mode = known.token_file.stat().st_mode & 0o777
    except SwarmHpcError as e:
        return Access(exists, error=e.message)
    except (OSError, ValueError) as e:
        return Access(exists, error=f"the token of pool {pool} can't be read: {e}")
    return Access(exists, "", known.person, token.issued_at, token.expires_at, mode, str(known.token_file))


def _ports(cluster: Cluster) -> tuple[int, ...]:
    return (*cluster.ports.keys, *SWARM_PORTS)


def _free_mib(path: str) -> int | None:
    try:
        return machine.free_disk_mib(path)
    except OSError:
        return None


def _seconds(image: Image | None) -> float:
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.fromisoformat(image.created).timestamp() if image else 0.0
    return 0.0
