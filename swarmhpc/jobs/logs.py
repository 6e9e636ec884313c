"""Which job is meant by `logs` and `ssh`, and what it printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal

from swarmhpc.errors import PoolError, UsageError
from swarmhpc.jobs import select

if TYPE_CHECKING:
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.adapters.gateway import Gateway
    from swarmhpc.adapters.job_ads import Job

_ENDED: Final = ("completed", "removed")


FETCHED: Final = "its results were fetched"
"""Why finished jobs are removed from the queue (jobs/watch.py)."""


def find(pool: Pool, text: str) -> Job:
    """The one job of ours that `12.0`, or `12` for a cluster of one job, names.

    Raises UsageError for what is no id, names several jobs or somebody else's, PoolError, with what became of it, for
    one that is not in the queue.
    """
    constraint = select.of_id(text)
    found = pool.jobs(constraint)
    if not found:
        raise _gone(pool, text, constraint)
    if found[0].owner != pool.person:
        raise UsageError(f"job {text} belongs to {found[0].owner}, not to {pool.person}", hint="swarmhpc q")
    if len(found) > 1:
        raise UsageError(
            f"cluster {found[0].cluster} has {len(found)} jobs; wanted one of them", hint=f"swarmhpc logs {found[0].id}"
        )
    return found[0]


def _gone(pool: Pool, text: str, constraint: str) -> PoolError:
    wanted = ["ProcId", "Owner", "SwarmHpcOutput", "SwarmHpcError", "CompletionDate", "StageOutFinish", "RemoveReason"]
    ads = pool.history_ads(constraint, wanted, most=2)
    if not ads or ads[0].get("Owner") != pool.person:
        return PoolError(f"job {text} is not in the queue, and no job of yours was ever called so", hint="swarmhpc q")
    if len(ads) > 1:
        return PoolError(f"the jobs of cluster {text} have left the queue", hint=f"swarmhpc q --history {text}")
    ad = ads[0]
    written = [str(ad[n]) for n in ("SwarmHpcOutput", "SwarmHpcError") if ad.get(n)]
    why = str(ad.get("RemoveReason", ""))
    # StageOutFinish is missing where the job was removed right after.
    if ad.get("CompletionDate") and (ad.get("StageOutFinish") or why.startswith(FETCHED)):
        where = f"; it was written to {' and '.join(written)} there" if written else ""
        return PoolError(
            f"job {text} has ended, and what it printed was fetched{where}",
            hint=f"cat {written[0]}" if written else "its description names no output file",
        )
    words = f": {why}" if why else ""
    return PoolError(f"job {text} has left the queue, with what it printed{words}", hint=f"swarmhpc q --history {text}")


def chunks(
    gateway: Gateway, job: Job, *, stream: Literal["output", "error"], follow: bool, tail: int | None = None
) -> Iterator[bytes]:
    """What the job printed; with `follow`, until it has ended. `tail`: not more than the last so many lines that were
    there at first. Raises PoolError where it has not started (but `follow` waits), or is held or removed while it is
    followed."""
    shown = 0
    waits = follow and job.attempts == 0
    if tail is not None and not waits:
        last = b""
        for chunk in gateway.logs(job.id, stream=stream):
            shown += len(chunk)
            last = b"".join(_lines(last + chunk)[-tail:]) if tail else b""
        if last:
            yield last
        if not follow:
            return
    for chunk in gateway.logs(job.id, stream=stream, follow=follow):
        if rest := chunk[shown:]:
            yield rest
        shown = max(0, shown - len(chunk))


def _lines(data: bytes) -> list[bytes]:
    """With their ends. Only "\\n" ends a line."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]] + [last for last in [data.rpartition(b"\n")[2]] if last]
