"""What doctor knows of several machines, and how it speaks of them. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from swarmhpc.config import Machine

if TYPE_CHECKING:
    from swarmhpc.adapters.docker import Node
    from swarmhpc.cluster.doctor import Access
    from swarmhpc.cluster.lab_probes import Answers, Own
    from swarmhpc.cluster.members import Seen

HERE = "this machine"


@dataclass(frozen=True)
class LabFacts:
    """What `lab_doctor.observe` found, by machines' names. `own` and `answers` lack machines that gave none.

    `local`: the machine of the lab that doctor itself runs on, if one. `networking`: the running pool's, else None.
    `has_swarm`: a manager of this pool's Swarm answers; `swarm_error` (message, hint): why its nodes are unknown.
    `from_here`: how (address, port) of the pool answer to this machine.
    """

    now_s: float
    docker_command: bool
    image: str
    seen: Mapping[str, Seen]
    access: Access
    local: str = ""
    own: Mapping[str, Own] = field(default_factory=dict)
    answers: Mapping[str, Answers] = field(default_factory=dict)
    from_here: Mapping[tuple[str, int], bool] = field(default_factory=dict)
    has_swarm: bool = False
    swarm_error: tuple[str, str] = ("", "")
    nodes: tuple[Node, ...] = ()
    pool_runs: bool = False
    networking: Literal["vip", "dnsrr"] | None = None
    task_errors: tuple[str, ...] = ()

    @property
    def answering(self) -> dict[str, Seen]:
        """The machines that told their facts."""
        return {n: s for n, s in self.seen.items() if s.facts is not None}

    @property
    def node_ids(self) -> frozenset[str]:
        """The nodes of the pool's Swarm."""
        return frozenset(n.id for n in self.nodes)

    @property
    def swarm_unknown(self) -> str:
        """Why nobody can say whether there is a pool; empty where it is known."""
        if self.swarm_error[0]:
            return "see the check swarm"
        silent = [n for n, s in self.seen.items() if s.machine.role == "manager" and (s.facts is None or s.error)]
        return "" if self.has_swarm or not silent else f"no answer from manager {called(silent)}"

    def on(self, name: str, command: str) -> str:
        """`command` as a person types it here to run it as root on the machine."""
        return there(self.seen[name].machine, command, local=name == self.local)

    def is_node(self, name: str) -> bool:
        """Whether the machine is a node of the pool's Swarm."""
        engine = self.seen[name].engine
        return engine is not None and engine.node_id in self.node_ids


def there(machine: Machine, command: str, *, local: bool = False) -> str:
    """`command` as a person types it here to run it as root on `machine`."""
    if local:
        return command
    ssh = machine.ssh
    port = "" if ssh.port == 22 else f"-p {ssh.port} "
    key = "" if ssh.key is None else f"-i {ssh.key} "
    words = command if ssh.user == "root" else f"sudo {command}"
    quoted = shlex.quote(words) if re.search(r"[^\w\s./:=@,+-]", words) else words
    return f"ssh {port}{key}{ssh.user}@{machine.address} {quoted}"


def called(names: Iterable[str]) -> str:
    """The names, or how many where they are too many to read."""
    names = list(names)
    return ", ".join(names) if len(names) <= 6 else f"{len(names)} machines"
