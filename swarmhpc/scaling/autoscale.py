"""The autoscaler: a service of the pool's stack that gives every class the executors that its waiting jobs need.

It keeps nothing: each round looks at the Swarm, the collector and the queue, decides (`policy`), changes replicas with
the same hands as `swarmhpc scale`, and shows its decisions in the collector, where they expire when it dies.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from swarmhpc import context, state, tokens
from swarmhpc.adapters import command
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.docker import Engine, Service
from swarmhpc.cluster.render import read_plan
from swarmhpc.errors import CommandError, EngineError, SwarmHpcError, WaitTimeoutError
from swarmhpc.scaling import demand, lock, policy
from swarmhpc.scaling.scale import Hands, heal, is_closed, lower
from swarmhpc.scaling.view import ClassView, join

ROUND_S: Final = 2.0
DECISION: Final = "SwarmHpcDecision"
"""MyType of the ads that hold a class's wanted size and the reason."""
UNSERVED: Final = "SwarmHpcUnserved"
"""MyType of the ads that hold why jobs get no executor."""
SIGNING_KEY: Final = Path("/etc/condor/passwords.d/POOL")
_log = logging.getLogger("swarmhpc.autoscaler")


def run() -> None:
    """Rounds until the process ends. What fails is logged and tried again: the pool stays as it is meanwhile."""
    pool = os.environ["SWARMHPC_CLUSTER"]
    matcher = demand.Matcher()
    said: dict[str, str] = {}
    while True:
        began = time.monotonic()
        try:
            hands, condor = _hands(pool)
            for name, words in one_round(hands, condor, matcher).items():
                if said.get(name) != words:
                    said[name] = words
                    _log.info("%s: %s", name, words)
        except SwarmHpcError as e:
            _log.warning("%s", e.message)
        time.sleep(max(0.0, ROUND_S - (time.monotonic() - began)))


def one_round(hands: Hands, pool: Pool, matcher: demand.Matcher) -> dict[str, str]:
    """Looks, decides, acts; the reason of each class's size."""
    services = hands.engine.services(hands.pool)
    plans = [read_plan(s.labels[state.LABEL_PLAN]) for s in services if state.LABEL_PLAN in s.labels]
    slots = pool.slots(sorted({name for p in plans for name, _ in p.counted}))
    views = join(services, hands.engine.tasks(), slots, hands.engine.nodes())
    classes = [demand.class_state(v, v.plan, slots) for v in views.values() if v.plan is not None]
    groups = matcher.groups(pool, views)
    decisions, unserved = policy.decide(classes, groups)
    pool.advertise(
        [
            {"MyType": DECISION, "Name": f"{d.class_name}@{hands.pool}", "SwarmHpcClass": d.class_name,
             "Wanted": d.replicas, "Reason": d.reason}
            for d in decisions
        ]
        + [
            {"MyType": UNSERVED, "Name": f"{u.example}@{hands.pool}", "Job": u.example, "Count": u.count,
             "Kind": u.kind, "Reason": u.reason}
            for u in unserved
        ]
    )  # fmt: skip
    changed = [d for d in decisions if d.replicas != views[d.class_name].replicas]
    closed = [v for v in views.values() if v.unplaceable and is_closed(hands.engine, v)]
    if changed or closed:
        try:
            with lock.held(hands.engine, hands.pool, "autoscaler", for_s=90, wait_s=1, say=lambda _: None):
                for v in closed:
                    heal(hands.engine, v)
                for d in changed:
                    change(hands, views[d.class_name], d.replicas)
        except WaitTimeoutError as e:
            _log.info("%s", e.message)
    return {d.class_name: f"{d.replicas} wanted: {d.reason}" for d in decisions}


def change(hands: Hands, view: ClassView, wanted: int) -> None:
    """Gives a class its size; gets smaller only by executors without jobs."""
    heal(hands.engine, view)
    fresh = hands.look()[view.name]
    if fresh.replicas != view.replicas:
        return  # somebody else was quicker: look again
    if wanted >= fresh.replicas:
        hands.engine.scale(fresh.service.id, wanted)
        return
    free = sum(not e.jobs for e in fresh.executors)
    lower(hands, fresh, max(wanted, fresh.replicas - free), lambda words: _log.info("%s: %s", view.name, words))


def shown(pool: Pool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the autoscaler says of itself: decisions, and jobs that get no executor. Empty when none is at work."""
    return pool.generic_ads(DECISION), pool.generic_ads(UNSERVED)


def service(engine: Engine, pool: str) -> Service:
    """The autoscaler's service. Raises EngineError where the pool has none."""
    for s in engine.services(pool):
        if s.labels.get(state.LABEL_ROLE) == state.AUTOSCALER:
            return s
    raise EngineError(f"pool {pool} has no autoscaler service", hint="swarmhpc up")


def set_on(engine: Engine, pool: str, *, on: bool) -> bool:
    """Starts or stops the autoscaler; whether that changed anything. Raises EngineError where there is none."""
    it = service(engine, pool)
    if bool(it.replicas) == on:
        return False
    engine.scale(it.id, int(on))
    return True


def _hands(pool: str) -> tuple[Hands, Pool]:
    """Inside the autoscaler's own container: the node's engine, the overlay's names, a token of its own."""
    ports = {r: int(os.environ[f"SWARMHPC_{r}_PORT"]) for r in ("CENTRAL_MANAGER", "ACCESS_POINT")}
    try:
        central_manager, access_point = (socket.gethostbyname(n) for n in (state.CENTRAL_MANAGER, state.ACCESS_POINT))
    except OSError as e:
        raise EngineError("central manager or access point has no address: it does not run") from e
    ctx = context.Context(pool, central_manager, ports["CENTRAL_MANAGER"], ports["ACCESS_POINT"], "autoscaler")
    if not ctx.token_file.exists():
        identity = f"condor@{pool}"
        token = tokens.mint(
            SIGNING_KEY.read_bytes(), pool=pool, identity=identity, scopes=("READ", "DAEMON"), now=int(time.time())
        )
        context.save(ctx, token.text)
    condor = Pool(ctx, access_point=access_point)
    return Hands(Engine(), pool, condor.slots, condor.running, _retire), condor


def _retire(hosts: Sequence[str]) -> bool:
    # The tools read the container's own configuration, not the bindings' settings.
    env = {"CONDOR_CONFIG": "/etc/condor/condor_config"}
    try:
        command.run(["/usr/local/lib/swarmhpc/retire", *hosts], timeout_s=60, env=env)
    except CommandError:
        return False
    return True
