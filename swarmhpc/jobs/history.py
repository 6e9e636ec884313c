"""Jobs that have left the queue: fetched, removed, or finished where nothing was to be fetched."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.job_ads import JOB_ATTRIBUTES, Job, job_of
from swarmhpc.errors import UsageError
from swarmhpc.jobs.select import Selection, expression
from swarmhpc.units import parse_duration_s

ATTRIBUTES: Final = [*JOB_ATTRIBUTES, "LastJobStatus"]


def history(
    pool: Pool,
    ids: Sequence[str] = (),
    *,
    everyone: bool = False,
    since: str = "",
    limit: int = 100,
    states: Sequence[str] = (),
    name: str = "",
    constraint: str = "",
) -> list[Job]:
    """Jobs that have left the queue, the last first. `since`: "7d", "2h" or an ISO time. Raises UsageError."""
    if limit < 1:
        raise UsageError(f"limit: saw {limit}, wanted 1 or more", hint="swarmhpc q --history --limit 20")
    chosen = Selection(tuple(ids), name=name, constraint=constraint, everyone=everyone)
    text = expression(chosen, pool.person)
    until = f"(EnteredCurrentStatus ?: 0) < {moment(since)}" if since else None
    wanted = {s.upper() for s in states}
    # A state is told by several attributes that change their meaning on the way out: looked at here, not there.
    ads = pool.history_ads(text, ATTRIBUTES, most=-1 if wanted else limit, until=until)
    found = [ended(a) for a in ads]
    return [j for j in found if not wanted or j.state in wanted or j.status.upper() in wanted][:limit]


def ended(ad: Any) -> Job:
    """The job of an ad from the history. One that had finished stays finished: fetching its results removes it from
    the queue, and HTCondor then calls it removed."""
    if int(ad.get("JobStatus", 0)) == 3 and int(ad.get("LastJobStatus", 0)) == 4:
        ad["JobStatus"] = 4
    return job_of(ad)


def moment(text: str, *, now: float | None = None) -> int:
    """Seconds since the epoch of "2h" (ago) or "2026-11-22T03:00". Raises UsageError."""
    try:
        return int((time.time() if now is None else now) - parse_duration_s(text))
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError as e:
        raise UsageError(
            f"since {text!r}: wanted a time ago such as 2h or 7d, or a time such as 2026-11-22T03:00",
            hint="swarmhpc q --history --since 2h",
        ) from e
