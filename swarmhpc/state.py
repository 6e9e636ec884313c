"""Names and labels by which swarmhpc finds its own things. The Swarm is the only database: there is no state file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

LABEL_CLUSTER: Final = "swarmhpc.cluster"
"""On everything that swarmhpc made: the Swarm itself, services, configs, secrets, volumes, containers. Value: pool."""
LABEL_ROLE: Final = "swarmhpc.role"
LABEL_CLASS: Final = "swarmhpc.class"
LABEL_SPEC: Final = "swarmhpc.spec"
"""On a service: hash of the stack section it was deployed from."""
LABEL_PLAN: Final = "swarmhpc.plan"
"""On the service of a class: its `ClassPlan` as JSON (cluster/render.py, `read_plan`)."""
LABEL_KIND: Final = "swarmhpc.kind"
"""On a Swarm config or secret: `cluster-file`, `signing-key`, `executor-token`, `token-record`."""
LABEL_TASK: Final = "swarmhpc.task"
"""On a job container: the Swarm task of the executor that started it."""
LABEL_QUEUE_NODE: Final = "swarmhpc.queue"
"""On a node: the pool whose queue volume it holds."""
LABEL_MACHINE: Final = "swarmhpc.machine"
"""On a node: what the cluster file calls its machine."""

CENTRAL_MANAGER: Final = "central-manager"
ACCESS_POINT: Final = "access-point"
JANITOR: Final = "janitor"
AUTOSCALER: Final = "autoscaler"
EXECUTOR: Final = "executor"

JOB_LEASE_S: Final = 120
"""How long an executor and its job may be out of reach before the job is taken to be lost (docs/decisions/0012)."""
SHARED_QUEUE_LEASE_S: Final = 300
"""The same where the access point moves between nodes: it waits for the dead node's lock on the queue first, then for
starters that wait for the dead one's reply."""
IMAGE_REPOSITORY: Final = "swarmhpc/pool"
BASE_IMAGE: Final = "debian:forky-slim"


def queue_volume(pool: str) -> str:
    """The volume with the pool's queue (stacks/pool.yml.j2)."""
    return f"{pool}_queue"


def accounting_volume(pool: str) -> str:
    """The volume with what the negotiator remembers; every node that has had the central manager has one."""
    return f"{pool}_accounting"


def short_hash(*parts: str) -> str:
    """Twelve hex digits that change when any part does."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def assets(kind: str) -> Path:
    """Folder of shipped files: `stacks`, `images`, `ansible` or `examples`.

    In a wheel they lie in `swarmhpc/_assets`, in a checkout at its top.
    """
    package = Path(__file__).parent
    shipped = package / "_assets" / kind
    return shipped if shipped.is_dir() else package.parent / kind
