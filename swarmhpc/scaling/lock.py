"""One hand at a time on the number of executors: a Swarm config, whose name only one can make."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator

from swarmhpc import state
from swarmhpc.adapters import machine
from swarmhpc.adapters.docker import Engine, Stored
from swarmhpc.errors import EngineError, WaitTimeoutError

_KIND = "scale-lock"
_watched: dict[str, tuple[str, float]] = {}
"""By name: the lock of somebody else that was seen last, and since when. One that is still there was never let go, so
who asks often but never waits long sees a dead holder's time pass too."""


@contextlib.contextmanager
def held(
    engine: Engine, pool: str, what: str, *, for_s: float, wait_s: float, say: Callable[[str], None]
) -> Iterator[None]:
    """Holds the pool's lock inside the block, which must end within `for_s` seconds.

    Waits up to `wait_s` for somebody else's. That of a process of this machine that has died is taken away; of another
    machine's when somebody has watched it for its `for_s`: no clocks are compared. Raises WaitTimeoutError.
    """
    name = f"{pool}_{_KIND}"
    who = f"{os.environ.get('SUDO_USER') or os.environ.get('USER') or 'somebody'} on {socket.gethostname()}"
    mine = {"who": who, "what": what, "for_s": for_s, "host": socket.gethostname(), "pid": os.getpid()}
    data = json.dumps(mine).encode()
    labels = {state.LABEL_CLUSTER: pool, state.LABEL_KIND: _KIND}
    start = time.monotonic()
    while True:
        try:
            engine.config_create(name, data, labels)
            break
        except EngineError:
            other = _held_by(engine, pool)
            if other is None:
                if time.monotonic() - start > 5:  # not a matter of the lock
                    raise
                time.sleep(0.1)
                continue
        if _watched.get(name, ("", 0.0))[0] != other.id:
            _watched[name] = (other.id, time.monotonic())
        theirs = json.loads(other.data)
        say(f"waiting: {theirs['who']} is at it ({theirs['what']})")
        dead = theirs["host"] == socket.gethostname() and not machine.process_lives(theirs["pid"])
        if dead or time.monotonic() - _watched[name][1] > theirs["for_s"]:
            with contextlib.suppress(EngineError):
                engine.config_remove(other.id)
        elif time.monotonic() - start > wait_s:
            raise WaitTimeoutError(
                f"{theirs['who']} changes the number of executors ({theirs['what']}), for {wait_s:.0f} s and more now",
                hint=f"try again later; if that command has died: docker config rm {name}",
            )
        time.sleep(0.3)
    try:
        yield
    finally:
        held_now = _held_by(engine, pool)
        if held_now is not None and held_now.data == data:
            with contextlib.suppress(EngineError):
                engine.config_remove(held_now.id)


def _held_by(engine: Engine, pool: str) -> Stored | None:
    return next((c for c in engine.configs(pool) if c.labels.get(state.LABEL_KIND) == _KIND), None)
