"""The administrator's hands on executors: a manager's engine, this machine's token, tools in the central manager."""

from __future__ import annotations

from collections.abc import Sequence

from swarmhpc import state
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.docker import Engine
from swarmhpc.cluster.fleet import Fleet
from swarmhpc.context import Context
from swarmhpc.scaling.scale import Hands


def administrator(fleet: Fleet, manager: Engine, ctx: Context) -> Hands:
    """For a pool whose daemons may be asked through `ctx`."""

    def retire(hosts: Sequence[str]) -> bool:
        # Executors answer on the overlay network only, and listen to nobody without the pool's signing key.
        at, container = fleet.daemon(manager, ctx.pool, state.CENTRAL_MANAGER)
        code, _, _ = at.execute(container, ["/usr/local/lib/swarmhpc/retire", *hosts])
        return code == 0

    pool = Pool(ctx)
    return Hands(manager, ctx.pool, pool.slots, pool.running, retire)
