"""`from swarmhpc import Pool`: everything that the command does about jobs, as functions. The command stands on it.

    from swarmhpc import Pool

    pool = Pool()                               # the pool this machine knows; or Pool("name")
    jobs = pool.submit("sweep.sub")             # or the text of a description
    jobs.wait()
    for job in jobs.fetch():
        print(job.id, job.exit_code, job.output)

Each method raises a `swarmhpc.errors.SwarmHpcError`: UsageError (asked for nonsense), PoolError (HTCondor refused, no
such job), PoolUnreachableError, AuthenticationError (token expired or not accepted), JobFailedError, WaitTimeoutError.
`error.message` says what was seen and wanted, `error.hint` what to do next. Nothing here prints.

A job is named by its id ("12.3", or "12" or 12 for all jobs of a cluster). docs/api.md has an example of each method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from swarmhpc import context as contexts
from swarmhpc.errors import UsageError

if TYPE_CHECKING:
    from swarmhpc.adapters import condor
    from swarmhpc.adapters.gateway import Gateway
    from swarmhpc.adapters.job_ads import Job
    from swarmhpc.adapters.slot_ads import Slot
    from swarmhpc.context import Context
    from swarmhpc.jobs.dag import Workflow
    from swarmhpc.jobs.events import Event
    from swarmhpc.jobs.explain import Reason
    from swarmhpc.jobs.findings import Finding
    from swarmhpc.jobs.overview import Overview
    from swarmhpc.jobs.quota import Quota
    from swarmhpc.jobs.resources import Limits
    from swarmhpc.jobs.run import Result
    from swarmhpc.jobs.select import Selection
    from swarmhpc.jobs.translate import Translation
    from swarmhpc.jobs.usage import Usage
    from swarmhpc.jobs.watch import Outcome

Id = str | int
"""A job ("12.3") or all jobs of a cluster ("12", 12)."""

_connected: Context | None = None  # configuration of HTCondor's bindings is process-wide


@dataclass(frozen=True)
class Submission:
    """What `submit` put into the queue. `jobs`: how many. `findings`: what is worth knowing about the description."""

    pool: Pool = field(repr=False, compare=False)
    clusters: tuple[int, ...]
    jobs: int
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """The clusters, as the other methods take them."""
        return tuple(map(str, self.clusters))

    def wait(
        self,
        *,
        timeout_s: float | None = None,
        keep_going: bool = False,
        on_change: Callable[[Outcome], None] | None = None,
    ) -> Outcome:
        """As `Pool.wait`."""
        return self.pool.wait(*self.ids, timeout_s=timeout_s, keep_going=keep_going, on_change=on_change)

    def fetch(self) -> list[Job]:
        """As `Pool.fetch`."""
        return self.pool.fetch(*self.ids)

    def cancel(self) -> int:
        """As `Pool.remove`."""
        return self.pool.remove(*self.ids, reason="cancelled")


class Pool:
    """One pool as one person: whoever the token belongs to that `swarmhpc login` (or `up`) left on this machine.

    Making one contacts nobody. A process can talk to one pool as one person only.
    """

    def __init__(self, name: str | None = None) -> None:
        """`name`: which pool, where this machine knows several. Raises NoPoolError."""
        self.context = contexts.load(name)

    @property
    def name(self) -> str:
        """The pool's name."""
        return self.context.pool

    @property
    def person(self) -> str:
        """Who I am in it."""
        return self.context.person

    @cached_property
    def connection(self) -> condor.Pool:
        """The pool's daemons, one call each (adapters/condor.py). What this class has, take from this class."""
        global _connected
        from swarmhpc.adapters import condor

        if _connected is not None and _connected != self.context:
            raise UsageError(
                f"this process talks to pool {_connected.pool} as {_connected.person} already, and can't also talk to "
                f"{self.name} as {self.person}",
                hint="HTCondor's bindings are configured once a process: use another one, such as subprocess",
            )
        made = condor.Pool(self.context)
        _connected = self.context
        return made

    @cached_property
    def gateway(self) -> Gateway:
        """The small server in the access point: outputs and shells of running jobs, events."""
        from swarmhpc.adapters.gateway import Gateway

        return Gateway(self.connection)

    # -- from a description to jobs ---------------------------------------------------------------------------------

    def limits(self) -> Limits:
        """What the pool's executors can take, for judging a description."""
        from swarmhpc.jobs import submit as wing

        return wing.limits_of(self.connection)

    def translate(
        self,
        description: str | Path,
        *,
        overrides: Sequence[str] = (),
        append: Sequence[str] = (),
        adapt: bool = False,
        allow_commands: bool = False,
    ) -> Translation | Workflow:
        """What `submit` would submit. Raises DescriptionError (its `findings` are all the mistakes, with places)."""
        from swarmhpc.jobs import given

        return given.read(
            description,
            limits=self.limits(),
            overrides=overrides,
            append=append,
            adapt=adapt,
            allow_commands=allow_commands,
        )[0]

    def submit(
        self,
        description: str | Path | Translation | Workflow,
        *,
        overrides: Sequence[str] = (),
        append: Sequence[str] = (),
        adapt: bool = False,
        pin: bool = False,
        allow_commands: bool = False,
        after: Sequence[Id] = (),
        each: bool = False,
        sequential: bool = False,
        on: Literal["success", "failure", "any"] = "success",
        rescue: bool = True,
        retries: int = 0,
        retry_on: Sequence[str | int] = (),
        retry_memory: str = "",
        retry_memory_max: str = "",
        timeout: str = "",
        lease: str = "",
    ) -> Submission:
        """Puts the jobs of a submit description, or a DAG, into the queue: all of them or none.

        `description`: a file (`*.dag`: a DAG), or the text of a description (a string with a line break), or what
        `translate` gave (of the options only `after` … `rescue` matter then). Files that it names are relative to the
        current directory, also for text. `overrides`: "NAME=VALUE" set before it is read; `append`: lines before its
        queue statement; `adapt`: drop requirements that nothing here can meet; `pin`: one image for all jobs. `after`
        … `rescue`: docs/dags.md. `retries` … `lease`: docs/jobs.md, "Retries and limits".
        """
        from swarmhpc.jobs import given
        from swarmhpc.jobs import retries as again

        findings: Sequence[Finding] = ()
        if isinstance(description, str | Path):
            limits = self.limits()
            lines = again.lines(
                retries=retries, retry_on=list(map(str, retry_on)), retry_memory=retry_memory,
                retry_memory_max=retry_memory_max, timeout=timeout, lease=lease,
                largest_memory_mib=limits.largest_memory_mib,
            )  # fmt: skip
            description, findings = given.read(
                description, limits=limits, overrides=overrides, append=[*append, *lines], adapt=adapt, pin=pin,
                allow_commands=allow_commands, rescue=rescue,
            )  # fmt: skip
        done = given.put(
            self.connection, description, after=_texts(after), each=each, sequential=sequential, on=on, rescue=rescue
        )
        return Submission(self, tuple(c.cluster for c in done), sum(c.jobs for c in done), tuple(findings))

    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        cpus: int | None = None,
        memory_mib: int | None = None,
        gpus: int | None = None,
        class_name: str = "",
        environment: Mapping[str, str] | None = None,
        name: str = "",
        retries: int = 0,
        retry_on: Sequence[str | int] = (),
        retry_memory: str = "",
        retry_memory_max: str = "",
        timeout: str = "",
        lease: str = "",
        stdout: Callable[[bytes], object] | None = None,
        stderr: Callable[[bytes], object] | None = None,
    ) -> Result:
        """Runs one command in an image and waits for its end. Its output goes to `stdout` and `stderr` as it comes;
        without them it is in the result. Inputs and outputs are paths, relative to the current directory. `retries` …
        `lease`: docs/jobs.md, "Retries and limits"; what each attempt prints comes, one after the other."""
        from swarmhpc.jobs import retries as again
        from swarmhpc.jobs import run

        limits = self.limits()
        request = run.Request(
            image, tuple(command), tuple(map(str, inputs)), tuple(map(str, outputs)), cpus, memory_mib, gpus,
            class_name, environment or {}, name,
            again.lines(
                retries=retries, retry_on=run.retried(list(map(str, retry_on))), retry_memory=retry_memory,
                retry_memory_max=retry_memory_max, timeout=timeout, lease=lease,
                largest_memory_mib=limits.largest_memory_mib,
            ),
        )  # fmt: skip
        return run.run(self.connection, request, limits=limits, stdout=stdout, stderr=stderr)

    # -- jobs in the queue, and gone ones ---------------------------------------------------------------------------

    def jobs(
        self, *ids: Id, everyone: bool = False, states: Sequence[str] = (), name: str = "", constraint: str = ""
    ) -> list[Job]:
        """My jobs in the queue (`everyone`: other people's too), by id. Without ids, all. `states`: of swarmhpc.states.
        `constraint`: a ClassAd expression. An id that is not in the queue is a PoolError."""
        from swarmhpc.jobs import select

        return select.jobs(self.connection, _selection(ids, states, name, constraint, everyone=everyone))

    def clusters(self, *ids: Id, everyone: bool = False) -> list[Overview]:
        """My clusters and DAGs in the queue: how many jobs wait, run, are done, failed, held; rate, time left.
        Costs the same for one job and for ten thousand."""
        from swarmhpc.jobs import overview, select

        return overview.look(self.connection, select.constraint_of(self.connection, _selection(ids, everyone=everyone)))

    def history(self, *ids: Id, everyone: bool = False, since: str = "", limit: int = 100) -> list[Job]:
        """Jobs that have left the queue, the last first. `since`: "7d", "2h" or an ISO time."""
        from swarmhpc.jobs import history

        return history.history(self.connection, _texts(ids), everyone=everyone, since=since, limit=limit)

    def wait(
        self,
        *ids: Id,
        timeout_s: float | None = None,
        keep_going: bool = False,
        on_change: Callable[[Outcome], None] | None = None,
    ) -> Outcome:
        """Waits until the jobs (without ids, all of mine) have ended. Returns early where one failed or is held, unless
        `keep_going`: look at `outcome.failed` and `outcome.gone`. Raises WaitTimeoutError; the jobs go on."""
        from swarmhpc.jobs import select, watch

        constraint = select.constraint_of(self.connection, _selection(ids), gone_too=True)
        return watch.until_done(
            self.connection,
            constraint,
            on_change=on_change or _ignore,
            timeout_s=timeout_s,
            keep_going=keep_going,
            past=bool(ids),
        )

    def fetch(self, *ids: Id) -> list[Job]:
        """Brings outputs of finished jobs to where their description names them, and takes these jobs off the queue.
        Returns them. Nothing is lost where it fails (a full disk): fetch again."""
        from swarmhpc.jobs import watch

        return watch.fetch(self.connection, self.jobs(*_some(ids)))

    def hold(self, *ids: Id, states: Sequence[str] = (), constraint: str = "", reason: str = "held") -> int:
        """Stops jobs and keeps them in the queue until `release`. How many."""
        return self.connection.hold(self._meant(ids, states, constraint), reason)

    def release(self, *ids: Id, states: Sequence[str] = (), constraint: str = "", reason: str = "released") -> int:
        """Lets held jobs go on. How many."""
        return self.connection.release(self._meant(ids, states, constraint), reason)

    def remove(self, *ids: Id, states: Sequence[str] = (), constraint: str = "", reason: str = "removed") -> int:
        """Takes jobs off the queue; running ones are stopped. How many."""
        return self.connection.remove(self._meant(ids, states, constraint), reason)

    def edit(self, *ids: Id, **changes: str | int) -> int:
        """Changes what waiting or held jobs ask for: `cpus`, `memory` ("2GiB"), `disk`, `gpus`, `priority`,
        `requirements`, `class_name`. How many."""
        from swarmhpc.jobs import edit

        return edit.edit(self.connection, self._meant(_some(ids)), {k: str(v) for k, v in changes.items()})

    # -- looking closer ---------------------------------------------------------------------------------------------

    def logs(self, id: Id, *, stream: Literal["output", "error"] = "output", follow: bool = False) -> Iterator[bytes]:
        """What a job has printed, also while it runs. `follow`: until it ends."""
        from swarmhpc.jobs import logs

        return logs.chunks(self.gateway, logs.find(self.connection, str(id)), stream=stream, follow=follow)

    def shell(self, id: Id, command: Sequence[str] = (), *, stdin: int = 0, stdout: int = 1, stderr: int = 2) -> int:
        """A shell, or a command, where a job runs (in its container); `stdin` … are file descriptors. Returns the exit
        code."""
        from swarmhpc.jobs import logs

        return self.gateway.shell(
            logs.find(self.connection, str(id)).id, command, stdin=stdin, stdout=stdout, stderr=stderr
        )

    def why(self, id: Id) -> list[Reason]:
        """Why a job, or the jobs of a cluster, stand where they stand: the most decisive reason first (docs/why.md)."""
        from swarmhpc.jobs import why

        return why.why(self.connection, str(id))

    def events(
        self, *, follow: bool = False, since: str = "", ids: Sequence[Id] = (), everyone: bool = False
    ) -> Iterator[Event]:
        """Changes of state of my jobs and of executors. `since`: also those since then, as far as they are kept."""
        from swarmhpc.jobs import events

        return events.events(self.gateway, follow=follow, since=since, ids=_texts(ids), everyone=everyone)

    # -- the pool as a whole ----------------------------------------------------------------------------------------

    def slots(self) -> list[Slot]:
        """The executors' slots."""
        return self.connection.slots()

    def quota(self) -> Quota:
        """People, groups and limits: in use and allowed."""
        from swarmhpc.jobs import quota

        return quota.quota(self.connection)

    def usage(self, since: str = "7d", by: Literal["person", "group", "class", "day"] = "person") -> list[Usage]:
        """Core-hours, memory-hours, jobs and efficiency since then."""
        from swarmhpc.jobs import usage

        return usage.usage(self.connection, since=since, by=by)

    # -- helpers ----------------------------------------------------------------------------------------------------

    def _meant(self, ids: Sequence[Id], states: Sequence[str] = (), constraint: str = "") -> str:
        """The jobs of mine that are meant, as a ClassAd expression. Raises UsageError where nothing says which."""
        from swarmhpc.jobs import select

        if not ids and not states and not constraint:
            raise UsageError("no job is named", hint='name some: pool.hold(12), pool.hold(states=["RUNNABLE"])')
        return select.constraint_of(self.connection, _selection(ids, states, "", constraint))


def _selection(
    ids: Sequence[Id], states: Sequence[str] = (), name: str = "", constraint: str = "", *, everyone: bool = False
) -> Selection:
    from swarmhpc.jobs.select import Selection

    return Selection(_texts(ids), states=tuple(states), name=name, constraint=constraint, everyone=everyone)


def _texts(ids: Sequence[Id]) -> tuple[str, ...]:
    return tuple(map(str, ids))


def _some(ids: Sequence[Id]) -> Sequence[Id]:
    if not ids:
        raise UsageError("no job is named", hint="pool.jobs() lists what is in the queue")
    return ids


def _ignore(_outcome: Outcome) -> None:
    """For who waits without looking."""
