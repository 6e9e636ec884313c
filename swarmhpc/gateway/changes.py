"""What happens to jobs and executors, out of the queue's own log and the collector. Pure: no clock, no file.

The source of job events is `job_queue.log`, the schedd's transaction log (HTCondor's JobRouter follows it too): every
change of a job is in it, in the order it happened, so an event says exactly what `q` says. HTCondor's EVENT_LOG knows
nothing of a job whose files have arrived, or that has a slot but has not begun (25.14, seen by running). The schedd
hands lines on at once only with SCHEDD_JOB_QUEUE_LOG_FLUSH_DELAY = 0 (stacks/condor/access-point.conf.j2): at the
package's 5 s the end of a job came up to 5 s late.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from swarmhpc.adapters.job_ads import Job, job_of
from swarmhpc.adapters.slot_ads import Slot

Fields = dict[str, Any]
"""An event as JSON has it, without `seq`; docs/jobs.md lists the fields."""
Mark = tuple[str, str]
"""A job's state and HTCondor's status."""

# What `job_of` needs for state, status and the fields of an event.
_WANTED: Final = frozenset(
    {
        *("ClusterId", "ProcId", "Owner", "JobStatus", "JobUniverse", "JobBatchName", "QDate", "CompletionDate"),
        *("EnteredCurrentStatus", "JobStartDate", "JobCurrentStartDate", "JobCurrentStartExecutingDate", "ShadowBday"),
        *("ExitCode", "ExitBySignal", "ExitSignal", "HoldReason", "HoldReasonCode", "ReleaseReason", "RemoveReason"),
        *("VacateReason", "RemoteHost", "LastRemoteHost", "MachineAttrSwarmHpcClass0", "NumShadowStarts"),
        *("DAGManJobId", "DAGNodeName"),
    }
)
# Operations of the log (HTCondor 25.14, src/condor_utils/ClassAdLogEntry.h).
_NEW, _DESTROY, _SET, _DELETE, _BEGIN, _END = "101", "102", "103", "104", "105", "106"
_JOB: Final = re.compile(r"([1-9][0-9]*)\.([0-9]+)")  # a cluster's own ad is "012.-1"
_LIVE_S: Final = 3.0
_MAX_REASON: Final = 2000


class QueueLog:
    """The jobs, as far as the log was read. Feed it whole lines in their order.

    `quiet`: lines change what is known and give no events; for a log's beginning, which holds whole ads line by line.
    """

    def __init__(self) -> None:
        self.quiet = True
        self.marks: dict[str, Mark] = {}
        self._ads: dict[str, dict[str, Any]] = {}
        self._touched: dict[str, None] | None = None  # within a transaction: in the order they were changed

    def feed(self, line: str, now: float) -> list[Fields]:
        """The events of one line: none within a transaction, all of it at its end."""
        operation, _, rest = line.partition(" ")
        key, _, rest = rest.partition(" ")
        if operation == _BEGIN:
            self._touched = {}
            return []
        if operation.startswith(_END):
            touched, self._touched = self._touched or {}, None
            return self._events(touched, now)
        found: list[Fields] = []
        if operation == _SET:
            name, _, value = rest.partition(" ")
            if name not in _WANTED:
                return []
            self._ads.setdefault(key, {})[name] = _value(value)
        elif operation == _DELETE:
            if self._ads.get(key, {}).pop(rest, None) is None:
                return []
        elif operation == _NEW:
            self._ads[key] = {}
        elif operation == _DESTROY:
            found = self._events([key], now)
            self._ads.pop(key, None)
            self.marks.pop(key, None)
            return found
        else:
            return []
        if self._touched is not None:
            self._touched[key] = None
        else:
            found = self._events([key], now)
        return found

    def caught_up(self, known: Mapping[str, Mark], since: float, now: float) -> list[Fields]:
        """Ends `quiet`; what has changed against `known` (marks by job id), which was complete at `since`.

        A job that is not known is new only where its last change is younger: of older ones the memory has faded.
        """
        self.quiet = False
        self.marks.update({i: known[i] for i in self._ads if i in known})
        for key in self._ads:
            if key not in known and (job := self._job(key)) and _changed_at(job, self._ad(key)) <= since:
                self.marks[key] = (job.state, job.status)
        return self._events(list(self._ads), now)

    def be_live(self) -> None:
        """Ends `quiet`: all that was fed is known, and from now on changes are told."""
        for key in self._ads:
            if job := self._job(key):
                self.marks[key] = (job.state, job.status)
        self.quiet = False

    def restart(self) -> None:
        """The log begins anew, with whole ads."""
        self._ads, self._touched, self.quiet = {}, None, True

    def _events(self, keys: Iterable[str], now: float) -> list[Fields]:
        if self.quiet:
            return []
        return [event for key in keys if (event := self._event(key, now)) is not None]

    def _ad(self, key: str) -> dict[str, Any]:
        cluster = self._ads.get(f"0{key.partition('.')[0]}.-1", {})
        return {**cluster, **self._ads.get(key, {})}

    def _job(self, key: str) -> Job | None:
        if not _JOB.fullmatch(key):
            return None
        ad = self._ad(key)
        if not {"ClusterId", "ProcId", "JobStatus"} <= ad.keys():
            return None
        # The slot, the host and the start's time come one transaction after the status "running".
        if ad["JobStatus"] == 2 and "ShadowBday" not in ad:
            return None
        return job_of(ad)

    def _event(self, key: str, now: float) -> Fields | None:
        job = self._job(key)
        if job is None:
            return None
        before, mark = self.marks.get(key), (job.state, job.status)
        # Fetching results removes a job that has completed: nothing happened to it.
        if mark == before or (before and before[1] == "completed" and job.status == "removed"):
            return None
        self.marks[key] = mark
        ad = self._ad(key)
        runs = job.status not in ("idle", "transferring", "held")
        return {
            "time": moment(_changed_at(job, ad), now),
            "kind": "job",
            "id": job.id,
            "owner": job.owner,
            "state": job.state,
            "previous": before[0] if before else None,
            "status": job.status,
            "name": job.name or None,
            "dag_node": job.node_name or None,
            "host": (job.host or None) if runs or job.status == "held" else None,
            "class": (job.class_name or None) if runs or job.status == "held" else None,
            "attempt": int(ad.get("NumShadowStarts", 0)),
            "exit_code": job.exit_code,
            "exit_signal": job.exit_signal,
            "hold_code": job.hold_code if job.hold_reason else None,
            "reason": _reason(job, ad, before)[:_MAX_REASON] or None,
        }


def _reason(job: Job, ad: Mapping[str, Any], before: Mark | None) -> str:
    if job.status == "held":
        return job.hold_reason
    if job.status == "removed":
        return job.remove_reason
    if job.status == "idle" and before:
        return str(ad.get("ReleaseReason" if before[1] in ("held", "transferring") else "VacateReason", ""))
    return ""


def _changed_at(job: Job, ad: Mapping[str, Any]) -> float:
    """When the job came to be what it is, by HTCondor's clock of whole seconds."""
    began = int(ad.get("JobCurrentStartExecutingDate", 0)) if job.state == "RUNNING" else 0
    return max(job.status_since, began)


def moment(at: float, now: float) -> str:
    """ISO 8601, UTC. HTCondor keeps whole seconds: what changed just now is given the milliseconds of the clock."""
    when = now if 0 <= now - at < _LIVE_S else at
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _value(text: str) -> Any:
    """A ClassAd literal; None for expressions, which none of the wanted attributes has."""
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class Seen:
    """An executor as the collector knew it. `state`: appeared, draining."""

    state: str
    class_name: str
    node: str


class Executors:
    """The executors, look by look."""

    def __init__(self) -> None:
        self._known: dict[str, Seen] | None = None  # None: before the first look
        self._absent: dict[str, int] = {}

    def look(self, slots: Sequence[Slot], now: float, *, trust_absence: bool = True) -> Iterator[Fields]:
        """The events since the last look. `slots`: all that the collector has.

        An executor that takes no more jobs but goes on with those it has is draining: its slots are Retiring (25.14;
        `Draining` in the ad is for condor_drain). One has left when two looks miss it; never while `trust_absence` is
        false, as after the collector was away: it has to hear of them again.
        """
        seen: dict[str, Seen] = {}
        for slot in slots:
            draining = slot.activity == "Retiring" or getattr(seen.get(slot.executor), "state", "") == "draining"
            seen[slot.executor] = Seen("draining" if draining else "appeared", slot.class_name, slot.node)
        if self._known is None:
            self._known = seen
            return
        for name, new in seen.items():
            self._absent.pop(name, None)
            old = self._known.get(name)
            # The slots of a leaving executor go one by one: the last one says nothing of leaving.
            if old is None or new.state != old.state == "appeared":
                self._known[name] = new
                yield _executor_event(name, new, old.state if old else None, new.state, now)
        for name in [n for n in self._known if n not in seen]:
            self._absent[name] = self._absent.get(name, 0) + 1 if trust_absence else 0
            if self._absent[name] >= 2:
                old = self._known.pop(name)
                del self._absent[name]
                yield _executor_event(name, old, old.state, "left", now)


def _executor_event(name: str, seen: Seen, previous: str | None, state: str, now: float) -> Fields:
    return {
        "time": moment(now, now),
        "kind": "executor",
        "id": name,
        "state": state,
        "previous": previous,
        "class": seen.class_name or None,
        "node": seen.node or None,
    }


BEGINNING: Final = "beginning"


def beginning(now: float) -> Fields:
    """The journal's first entry, which nobody is told: from where on in the log it is complete."""
    return {"time": moment(now, now), "kind": BEGINNING, "id": "", "state": ""}


def wanted(event: Mapping[str, Any], *, person: str, ids: Sequence[str], everyone: bool) -> bool:
    """Whether a follower asked for this event: of own jobs, with `everyone` all; executors' unless ids are named."""
    if event["kind"] == BEGINNING:
        return False
    if event["kind"] != "job":
        return not ids
    if ids and not ({event["id"], event["id"].partition(".")[0]} & set(ids)):
        return False
    return everyone or event["owner"] == person
