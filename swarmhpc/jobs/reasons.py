"""Reasons why a job stands where it stands, their codes, and the facts they follow from. Pure data.

docs/why.md explains every code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from swarmhpc.jobs.resources import Limits
from swarmhpc.units import format_duration_s

CODES: Final[Mapping[str, str]] = {
    # It waits.
    "spooling": "its input files are on their way into the pool",
    "next-negotiation": "it has not been looked at yet, or a place is free: the next negotiation decides",
    "too-large": "no executor is large enough",
    "requirements": "one term of its requirements fits no executor",
    "conflict": "each term of its requirements fits an executor, but none fits all",
    "no-such-class": "it wants a class that the pool does not have",
    "no-executors": "its classes have no executor just now",
    "executors-not-starting": "its classes have no executor because Swarm can't start one",
    "scaling-up": "executors for it are starting",
    "class-at-max": "its class has as many executors as it may",
    "no-node-has-room": "Swarm finds no node for another executor",
    "draining": "all executors that fit are leaving",
    "slots-busy": "all executors that fit are busy",
    "concurrency-limit": "a limit on jobs of its kind is reached",
    "person-limit": "its person has as many jobs or CPUs as the pool allows",
    "group-quota": "its group has its quota",
    "fair-share": "its person has their share while others wait",
    "cooling-down": "its last start failed; it waits a little",
    "waits-for-jobs": "it waits for other jobs",
    "no-match": "an executor seems to fit, but HTCondor does not match them",
    # It goes on.
    "starting": "it has a slot; image and files are made ready",
    "running": "it runs",
    "sending-output": "it has ended; its results are on their way to the access point",
    "suspended": "it is suspended",
    "executor-lost": "its executor has left the pool while it ran there",
    "dag-running": "a DAG whose nodes run or wait",
    # It is held.
    "held-by-person": "somebody held it",
    "held-by-rule": "its own rules hold it",
    "held-by-pool": "a rule of the pool holds it",
    "out-of-memory": "it needed more memory than it asked for",
    "out-of-disk": "it needed more disk than it asked for",
    "time-limit": "it ran longer than allowed",
    "command-not-started": "its command can't be started",
    "input-file": "an input file is missing or can't be sent",
    "output-file": "an output file is missing or can't be written",
    "image-not-found": "its image does not exist, or is not public",
    "registry-unreachable": "the executor can't reach the image's registry",
    "registry-limit": "the registry gives no more images for a while",
    "node-disk-full": "the node has no room for its image",
    "image-wrong": "its image is for another processor, or its name is none",
    "image": "its image can't be used for another reason",
    "held": "held for a reason that is rare here",
    # It has ended.
    "succeeded": "it ended with code 0",
    "command-not-found": "code 127: its command is not in the image or on the executor",
    "not-executable": "code 126: its command is there but can't be run",
    "killed": "code 137 or signal 9: it was killed, mostly for memory",
    "signal": "it ended by another signal",
    "exit-code": "its command ended with a code of its own",
    "dag-failed": "nodes of a DAG failed",
    "removed": "it was removed",
    "fetched": "it ended, and its results were fetched",
    # Nobody can tell.
    "token-refused": "the token has expired or is not accepted",
    "access-point-down": "the access point does not answer",
    "central-manager-down": "the central manager does not answer, so nothing new is matched",
}
"""Every code and what it means in a few words (docs/why.md)."""


@dataclass(frozen=True)
class Reason:
    """One reason. `id`: a job, the first of `count` alike. `evidence`: what it follows from, as JSON values, units in
    the names. `main`: it is the answer for these jobs; others add to it."""

    id: str
    code: str
    message: str
    hint: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    count: int = 1
    main: bool = True

    def __post_init__(self) -> None:
        """Raises KeyError for a code that docs/why.md does not have."""
        CODES[self.code]


@dataclass(frozen=True)
class Claim:
    """A slot that is somebody's. `job`: what runs there; "" between two jobs, and until the first one begins."""

    executor: str
    person: str
    job: str
    cpus: int
    memory_mib: int


@dataclass(frozen=True)
class Room:
    """What an executor has left. `leaving`: it takes no more jobs."""

    executor: str
    class_name: str
    cpus: int
    memory_mib: int
    gpus: int = 0
    leaving: bool = False


@dataclass(frozen=True)
class Person:
    """A person, or a group of people, as the negotiator counts. `priority`: effective; a smaller one comes first.
    `quota_cpus` None: none. `waiting`: idle jobs."""

    name: str
    priority: float
    cpus_in_use: float
    waiting: int = 0
    quota_cpus: float | None = None
    surplus: bool = True


@dataclass(frozen=True)
class Scaling:
    """What the autoscaler says. `sizes`: executors wanted and why, by class. `unserved`: kind and reason for the job's
    cluster; "" when it says nothing of it."""

    sizes: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    kind: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Facts:
    """The pool at one moment, as far as a waiting job is concerned."""

    limits: Limits
    rooms: tuple[Room, ...] = ()
    claims: tuple[Claim, ...] = ()
    scaling: Scaling = Scaling()
    people: tuple[Person, ...] = ()
    ahead: int = 0  # the person's own idle jobs that come first
    interval_s: int = 0  # of negotiation
    negotiated_at: int = 0  # when the last one ended
    limit_most: int = 0  # of the limit that stopped it, as the cluster file has it; 0: not known
    limit_users: Mapping[str, int] = field(default_factory=dict)  # running jobs with the limit that stopped it
    classes_in_trouble: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # Swarm's words; managers know


@dataclass(frozen=True)
class Subject:
    """Jobs that stand alike, as one of them says it. `attributes`: its ad as expressions in the syntax of submit
    descriptions. Times are seconds since the epoch, of the access point's clock."""

    id: str
    count: int
    owner: str
    status: str  # adapters/job_ads.py, STATUS, or "gone"
    state: str
    now: int
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False)
    since: int = 0
    cpus: int = 1
    memory_mib: int = 0
    disk_kib: int = 0
    gpus: int = 0
    memory_used_mib: int = 0
    image: str = ""
    command: str = ""
    host: str = ""
    starts: int = 0
    exit_code: int | None = None
    exit_signal: int | None = None
    finished_at: int = 0
    run_time_s: int = 0
    hold_code: int = 0
    hold_subcode: int = 0
    hold_reason: str = ""
    remove_reason: str = ""
    vacate_code: int = 0
    vacate_reason: str = ""
    rejected_at: int = 0
    rejection: str = ""
    account: str = ""  # the negotiator's name for its person: NAME or GROUP.NAME
    cool_until: int = 0
    time_limit_s: int = 0
    is_lost: bool = False  # the pool does not know its executor any more
    lease_left_s: int = 0  # so long a lost executor may come back with it
    dag_nodes: tuple[int, int, int] = (0, 0, 0)  # done, failed, all; of a DAG
    dag_failed: str = ""
    dag_waits: str = ""

    @property
    def is_dag(self) -> bool:
        """Its nodes are jobs of their own."""
        return self.dag_nodes[2] > 0

    def for_s(self) -> str:
        """How long it stands like this."""
        return format_duration_s(max(0, self.now - self.since)) if self.since else "some time"

    def because(self, code: str, message: str, hint: str = "", **evidence: Any) -> Reason:
        """A reason for it. `{id}` in the hint: the job, or the cluster where several stand alike."""
        named = self.id if self.count == 1 else self.id.partition(".")[0]
        return Reason(self.id, code, message, hint.replace("{id}", named), evidence, self.count)
