"""What several unit tests begin from; each changes what it is about."""

from __future__ import annotations

from swarmhpc.adapters.docker import EngineFacts

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
