"""What several unit tests begin from; each changes what it is about."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmhpc.adapters.docker import EngineFacts
from swarmhpc.cluster.progress import Progress

ENGINE = EngineFacts(
    name="host",
    version="26.1.5",
    cgroup_version="2",
    cgroup_driver="systemd",
    kernel="6.12",
    cpus=4,
    memory_mib=8192,
    root_dir="/var/lib/docker",
    swarm_state="inactive",
    node_id="",
    node_address="",
    is_manager=False,
    warnings=(),
)


@dataclass
class Said(Progress):
    """Progress that keeps how phases ended and what the person was told."""

    ends: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def start(self, phase: str) -> None:
        pass

    def detail(self, text: str) -> None:
        pass

    def done(self, text: str) -> None:
        self.ends.append(text)

    def notice(self, text: str) -> None:
        self.notices.append(text)
