"""The pool's events on a person's side: one after another, none lost and none twice, also when the gateway restarts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from swarmhpc import wire
from swarmhpc.errors import PoolError, PoolUnreachableError, UsageError
from swarmhpc.units import parse_duration_s

if TYPE_CHECKING:
    from swarmhpc.adapters.gateway import Gateway

PATIENCE_S: Final = 120.0
"""How long a follower waits for an access point that has gone."""
WORDS_PATIENCE_S: Final = 15.0
"""The same where something answers, but refuses."""
_ID: Final = re.compile(r"[1-9][0-9]*(\.[0-9]+)?")


@dataclass(frozen=True)
class Event:
    """A job or an executor is in another state than before. docs/jobs.md lists kinds, states and fields.

    `seq`: its number; those of a pool only grow. `time`: ISO 8601, UTC. `kind`: "job" or "executor"; `id`: the job's,
    or the executor's host name. `previous`: the state before; None: there was none. `json`: all of it.
    """

    seq: int
    time: str
    kind: str
    id: str
    state: str
    previous: str | None
    owner: str | None
    status: str | None
    host: str | None
    class_name: str | None
    exit_code: int | None
    exit_signal: int | None
    hold_code: int | None
    reason: str | None
    json: Mapping[str, Any] = field(repr=False, compare=False)


def event_of(fields: Mapping[str, Any]) -> Event:
    """The event of a line of the gateway."""
    return Event(
        seq=int(fields["seq"]),
        time=str(fields["time"]),
        kind=str(fields["kind"]),
        id=str(fields["id"]),
        state=str(fields["state"]),
        previous=fields.get("previous"),
        owner=fields.get("owner"),
        status=fields.get("status"),
        host=fields.get("host") if fields["kind"] == "job" else str(fields["id"]),
        class_name=fields.get("class"),
        exit_code=fields.get("exit_code"),
        exit_signal=fields.get("exit_signal"),
        hold_code=fields.get("hold_code"),
        reason=fields.get("reason"),
        json=fields,
    )


def events(
    gateway: Gateway,
    *,
    follow: bool = False,
    since: str = "",
    ids: Sequence[str] = (),
    everyone: bool = False,
    patience_s: float = PATIENCE_S,
) -> Iterator[Event]:
    """The events of own jobs, with `everyone` of all jobs, and of executors; with `ids` of these jobs and clusters.

    With `follow` from now on, for ever; without it those that are kept. `since`: from this time on, as far as they are
    kept; "10m" or "2026-01-31 12:00". An access point that restarts is waited for. Raises UsageError, PoolError,
    PoolUnreachableError, AuthenticationError.
    """
    if bad := [i for i in ids if not _ID.fullmatch(i)]:
        raise UsageError(f"{bad[0]!r} is no job: wanted a cluster like 12 or a job like 12.0", hint="swarmhpc q")
    asked: dict[str, Any] = {"ids": list(ids), "everyone": everyone, "follow": follow}
    if since:
        asked["since"] = since_s(since, time.time())
    return _events(gateway, asked, patience_s)


def _events(gateway: Gateway, asked: dict[str, Any], patience_s: float) -> Iterator[Event]:
    lost_at: float | None = None
    while True:
        try:
            with gateway.request("events", **asked) as connection:
                half = b""
                for kind, payload in connection.frames():
                    if kind != wire.DATA:
                        continue
                    lost_at = None
                    *lines, half = (half + payload).split(b"\n")
                    for fields in map(json.loads, lines):
                        # After a break: on from here. A line with a number alone tells just this.
                        asked["after"] = int(fields["seq"])
                        if "kind" in fields:
                            yield event_of(fields)
                return
        except PoolError as e:
            # An access point that comes back refuses, for a moment, what it accepts later.
            gone = isinstance(e, PoolUnreachableError)
            if not (asked["follow"] and "after" in asked and (gone or lost_at)):
                raise
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > (patience_s if gone else min(patience_s, WORDS_PATIENCE_S)):
                raise
            time.sleep(0.3)


def since_s(text: str, now: float) -> float:
    """Seconds since the epoch of "10m" (ago), "2026-01-31", "2026-01-31 12:00" or with seconds and zone; without a
    zone: this machine's. Raises UsageError."""
    try:
        return now - parse_duration_s(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        hint = "for instance --since 2h or --since '2026-01-31 12:00'"
        raise UsageError(f"{text!r} is no time: wanted one such as 10m, or a date", hint=hint) from None
