"""The machines of a cluster and the engines on them: who answers, and where a manager of the pool's Swarm is."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from swarmhpc import config, state
from swarmhpc.adapters.docker import Engine
from swarmhpc.adapters.remote import Remote
from swarmhpc.config import Cluster, Machine
from swarmhpc.errors import EngineUnreachableError, MachineError, NoPoolError, PoolError, SwarmHpcError

_AT_ONCE = 16
CLUSTER_FILE = "cluster-file"
"""swarmhpc.kind of the Swarm config that holds the cluster file."""

T = TypeVar("T")


def each(names: Iterable[str], work: Callable[[str], T]) -> dict[str, T | SwarmHpcError]:
    """`work` for every name, several at once. One that fails is an answer like any other; the rest go on."""
    names = list(names)
    done: dict[str, T | SwarmHpcError] = {}
    if not names:
        return done
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(names))) as threads:
        futures = {threads.submit(work, name): name for name in names}
        for future in as_completed(futures):
            try:
                done[futures[future]] = future.result()
            except SwarmHpcError as e:
                done[futures[future]] = e
    return {name: done[name] for name in names}


class Fleet:
    """The machines that a cluster file names; where it names none, this machine with its own engine."""

    def __init__(self, machines: Iterable[Machine]) -> None:
        """Connects to nobody yet."""
        self.machines = tuple(machines)
        self.alone = not self.machines
        if self.alone:
            self.machines = (Machine(name=socket.gethostname(), address="127.0.0.1", role="manager"),)
        self.remotes = {m.name: Remote(m, local=True if self.alone else None) for m in self.machines}
        self._engines: dict[str, Engine] = {}
        self._silent: dict[str, SwarmHpcError] = {}

    def engine(self, name: str) -> Engine:
        """The engine of a machine. Raises EngineUnreachableError or MachineError."""
        if name not in self._engines:
            if name in self._silent:
                raise self._silent[name]
            try:
                self._engines[name] = self._connected(name)
            except SwarmHpcError as e:
                self._silent[name] = e
                raise
        return self._engines[name]

    def _connected(self, name: str) -> Engine:
        if self.alone:
            return Engine()
        # The machine of a lab that this is: its own engine, whatever DOCKER_HOST says.
        return Engine(self.remotes[name].docker_host() or "unix:///var/run/docker.sock", machine=name)

    def forget(self, names: Iterable[str]) -> None:
        """Drops what is known of these machines' engines: they may have changed under us."""
        for name in names:
            self._engines.pop(name, None)
            self._silent.pop(name, None)

    def engines(self, names: Iterable[str]) -> tuple[dict[str, Engine], dict[str, SwarmHpcError]]:
        """Engines that answer, and why the others do not."""
        found = each(names, self.engine)
        good = {n: e for n, e in found.items() if isinstance(e, Engine)}
        return good, {n: e for n, e in found.items() if isinstance(e, SwarmHpcError)}

    def manager(self, pool: str | None = None) -> Engine | None:
        """The first engine that answers and manages a Swarm of ours (of this `pool`, if named) that has a leader.

        Raises what the only machine's engine says where the cluster has no others.
        """
        # Also those that are to be workers: the file may have changed, and a second Swarm must never be made.
        for m in sorted(self.machines, key=lambda m: m.role != "manager"):
            try:
                engine = self.engine(m.name)
                owner = engine.managed_cluster()
            except SwarmHpcError:
                if self.alone:
                    raise
                continue
            if owner is not None and pool in (None, owner):
                return engine
        return None

    def engine_of_node(self, manager: Engine, node_id: str) -> Engine:
        """The engine that is this node of the Swarm. Raises MachineError where no machine of the file is it."""
        if self.alone:
            return self.engine(self.machines[0].name)
        node = next((n for n in manager.nodes() if n.id == node_id), None)
        name = node.labels.get(state.LABEL_MACHINE, "") if node is not None else ""
        if name in self.remotes:
            return self.engine(name)
        raise MachineError(
            f"node {node.name if node else node_id} is not a machine of the cluster file, so it can't be asked",
            hint="add it to machines: in swarmhpc.yaml, or run the command there",
        )

    def daemon(self, manager: Engine, pool: str, role: str) -> tuple[Engine, str]:
        """The engine and the container id of the running central manager or access point. Raises PoolError."""
        for service in manager.services(pool):
            if service.labels.get(state.LABEL_ROLE) != role:
                continue
            for task in reversed(manager.tasks(service.id)):
                if task.is_up and task.container_id:
                    return self.engine_of_node(manager, task.node_id), task.container_id
        raise PoolError(
            f"the {role} of pool {pool} has no running container",
            hint="swarmhpc status; swarmhpc up mends what is missing",
        )

    def close(self) -> None:
        """Ends all connections."""
        for remote in self.remotes.values():
            remote.close()


@contextlib.contextmanager
def opened(machines: Iterable[Machine]) -> Iterator[Fleet]:
    """A Fleet whose connections end with the block."""
    fleet = Fleet(machines)
    try:
        yield fleet
    finally:
        fleet.close()


def stored_cluster(engine: Engine) -> Cluster | None:
    """The cluster file that the Swarm remembers, if this engine is a manager of a Swarm of ours."""
    pool = engine.managed_cluster()
    if pool is None:
        return None
    for s in engine.configs(pool):
        if s.labels.get(state.LABEL_KIND) == CLUSTER_FILE:
            return config.parse(s.data.decode(), file=f"swarm config {s.name}")
    return None


def require_manager(fleet: Fleet, pool: str | None = None) -> tuple[Engine, str]:
    """A manager's engine and its pool. Raises NoPoolError or EngineUnreachableError that says who was asked."""
    engine = fleet.manager(pool)
    if engine is not None:
        owner = engine.managed_cluster()
        if owner is not None:
            return engine, owner
    if fleet.alone:
        raise NoPoolError(
            "this machine is not a manager of a pool's Swarm", hint="run it there; or make a pool: swarmhpc up"
        )
    asked = ", ".join(m.name for m in fleet.machines if m.role == "manager")
    raise EngineUnreachableError(
        f"no manager of pool {pool or '?'} answers; asked: {asked}", hint="swarmhpc doctor; swarmhpc up goes on"
    )


def failures(results: Mapping[str, object]) -> dict[str, SwarmHpcError]:
    """The answers that are errors."""
    return {name: e for name, e in results.items() if isinstance(e, SwarmHpcError)}
