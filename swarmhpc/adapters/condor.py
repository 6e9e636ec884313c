"""The pool's daemons, through the htcondor2 bindings: collector, schedd. No HTCondor is installed on this side.

Traps of the bindings (htcondor 25.14.1) that shape this file: `Submit(text)` executes `include command` lines and
`itemdata()` executes `queue … from cmd |`, so only text that `jobs.translate` has made comes here; configuration is
process-wide, so a process talks to one pool as one person.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from swarmhpc.adapters.job_ads import JOB_ATTRIBUTES, Job, host_of, job_of
from swarmhpc.adapters.slot_ads import SLOT_ATTRIBUTES, Slot, slot_of
from swarmhpc.context import Context
from swarmhpc.errors import AuthenticationError, PoolError, PoolUnreachableError


class Pool:
    """One pool as one person. Methods raise PoolUnreachableError, AuthenticationError or PoolError."""

    def __init__(self, context: Context, *, access_point: str = "", patience_s: int = 10) -> None:
        """Configures the bindings for this pool. Where the pool has several nodes, takes the first that answers.

        `access_point`: its address where it is another than the central manager's, as inside the overlay network.
        `patience_s`: how long the collector may take to answer.
        """
        os.environ["CONDOR_CONFIG"] = "ONLY_ENV"  # a condor_config on this machine speaks of another pool
        import classad2
        import htcondor2

        if context.others:
            from swarmhpc.adapters import machine

            # A node that is off would cost each call its whole time-out.
            port = context.access_point_port
            alive = (a for a in (context.address, *context.others) if machine.port_answers(a, port))
            context = replace(context, address=next(alive, context.address))
        self._context, self._patience_s = context, patience_s
        self.pool = context.pool
        self.person = context.person
        self._htcondor: Any = htcondor2
        self._classad: Any = classad2
        folder = str(context.token_folder)
        settings = {
            "SEC_TOKEN_DIRECTORY": folder,
            "SEC_TOKEN_SYSTEM_DIRECTORY": folder,
            "TRUST_DOMAIN": context.pool,
            "UID_DOMAIN": context.pool,
            "SEC_DEFAULT_AUTHENTICATION_METHODS": "IDTOKENS",
            "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
            "SEC_CLIENT_AUTHENTICATION": "REQUIRED",
            "SEC_CLIENT_ENCRYPTION": "REQUIRED",
            "SEC_CLIENT_INTEGRITY": "REQUIRED",
            # Fail in seconds, not minutes, when a node is gone.
            "QUERY_TIMEOUT": str(patience_s),
            "Q_QUERY_TIMEOUT": "20",
        }
        for key, value in settings.items():
            htcondor2.param[key] = value
        # The handmade address needs no collector and works through any node (facts: VIPs and clients outside).
        self._schedd: Any = htcondor2.Schedd(
            classad2.ClassAd(
                {
                    "MyType": "Scheduler",
                    "Name": f"access-point@{context.pool}",
                    "MyAddress": f"<{access_point or context.address}:{context.access_point_port}?sock=schedd>",
                    "CondorVersion": htcondor2.version(),
                }
            )
        )

    @property
    def address(self) -> str:
        """The node that answers for this pool."""
        return self._context.address

    def token(self) -> str:
        """This person's token. Raises AuthenticationError where there is none or it has expired."""
        self._check_token()
        return self._context.token_file.read_text().strip()

    # -- collector --------------------------------------------------------------------------------------------------

    def slots(self, resources: Sequence[str] = ()) -> list[Slot]:
        """Every slot the collector knows. `resources`: names of GPUs and others to be told, such as `gpus`."""
        with self._collector() as collector:
            ads = collector.query(self._htcondor.AdType.Slot, projection=[*SLOT_ATTRIBUTES, *resources])
        return [slot_of(a, resources) for a in ads]

    def classes(self) -> list[tuple[str, int, int, int]]:
        """Name, CPUs, MiB and GPUs of an executor of each class, as the cluster file has them
        (stacks/condor/central-manager.conf.j2)."""
        with self._collector() as collector:
            ads = collector.query(self._htcondor.AdType.Collector, projection=["SwarmHpcClasses"])
        words = [c.split() for a in ads for c in str(a.get("SwarmHpcClasses", "")).split(";") if c.strip()]
        return [(name, int(cpus), int(memory_mib), int(gpus)) for name, cpus, memory_mib, gpus in words]

    def slot_ad(self, constraint: str) -> Any | None:
        """The whole ClassAd of one slot that satisfies an expression (ours, never a person's text)."""
        with self._collector() as collector:
            ads = collector.query(self._htcondor.AdType.Slot, constraint)
        return ads[0] if ads else None

    def slot_texts(self) -> list[tuple[str, str]]:
        """Class and whole ad, as the bindings print it, of every executor's partitionable slot."""
        with self._collector() as collector:
            ads = collector.query(self._htcondor.AdType.Slot, "PartitionableSlot =?= true")
        return [(str(a.get("SwarmHpcClass", "")), str(a)) for a in ads]

    def advertise(self, ads: Sequence[Mapping[str, Any]]) -> None:
        """Shows generic ads (each with MyType and Name) to everybody who asks the collector; they soon expire."""
        with self._collector() as collector:
            collector.advertise([self._classad.ClassAd(dict(a)) for a in ads], "UPDATE_AD_GENERIC")

    def generic_ads(self, my_type: str) -> list[dict[str, Any]]:
        """Generic ads of one type."""
        with self._collector() as collector:
            ads = collector.query(self._htcondor.AdType.Any, f'MyType == "{my_type}"')
        return [dict(a) for a in ads]

    def daemon_ads(self, kind: str, constraint: str = "true", attributes: Sequence[str] = ()) -> list[Any]:
        """ClassAds in the collector; whole ones without `attributes`. `kind`: of htcondor2.AdType, such as Slot."""
        with self._collector() as collector:
            return list(collector.query(getattr(self._htcondor.AdType, kind), constraint, list(attributes)))

    # -- queue ------------------------------------------------------------------------------------------------------

    def jobs(self, constraint: str = "true") -> list[Job]:
        """Jobs in the queue that satisfy a ClassAd expression (ours, never a person's text)."""
        with self._asked("reading the queue"):
            ads = self._schedd.query(constraint, JOB_ATTRIBUTES)
        return [job_of(a) for a in ads]

    def job_ads(self, constraint: str, attributes: Sequence[str] = (), *, most: int = -1) -> list[Any]:
        """ClassAds of jobs that satisfy an expression of ours; whole ones without `attributes`."""
        with self._asked("reading the queue"):
            return list(self._schedd.query(constraint, list(attributes), limit=most))

    def count(self, constraint: str) -> int:
        """How many jobs satisfy an expression of ours; their ads stay where they are."""
        with self._asked("counting jobs"):
            ads = self._schedd.query(constraint, opts=self._htcondor.QueryOpt.SummaryOnly)
        return int(ads[0].get("Jobs", 0)) if ads else 0

    def running(self) -> dict[str, str]:
        """A job by the host name of the executor that runs it."""
        with self._asked("reading the queue"):
            ads = self._schedd.query("JobStatus == 2", ["ClusterId", "ProcId", "RemoteHost"])
        return {host_of(a): f"{a['ClusterId']}.{a['ProcId']}" for a in ads}

    def submit(self, flat: str, *, names: Sequence[str], rows: Iterable[Sequence[str]], spool: bool) -> int:
        """Puts a cluster of jobs, one a row of `names`, into the queue and, with `spool`, sends its input files.

        `flat` is text that `jobs` made, never a person's file. All or nothing. Gives the cluster's number.
        """
        # As a file: the bindings (25.14.1) take quadratic time for `itemdata`.
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="swarmhpc-") as items:
            items.writelines("\x1f".join(row) + "\n" for row in rows)
            items.flush()
            with self._asked("submitting"):
                text = f"{flat}queue {','.join(names)} from {items.name}\n"
                result = self._schedd.submit(self._htcondor.Submit(text), spool=spool)
        cluster = int(result.cluster())
        if not spool:
            return cluster
        try:
            with self._asked(f"sending the input files of cluster {cluster}"):
                self._schedd.spool(result)
        except BaseException:
            with contextlib.suppress(PoolError):
                self.remove(f"ClusterId == {cluster}", "its input files could not be sent")
            raise
        return cluster

    def retrieve(self, ids: Sequence[str]) -> None:
        """Fetches outputs and logs of finished jobs to where their submit description names them.

        Raises PoolError when anything could not be written: the jobs are still in the queue, fetch again.
        """
        with self._asked("fetching outputs"):
            self._schedd.retrieve(list(ids))

    def remove(self, jobs: str | Sequence[str], reason: str) -> int:
        """Removes jobs that satisfy an expression of ours, or ids `cluster.proc`; how many it touched."""
        return self._act("Remove", "removing jobs", jobs, reason)

    def hold(self, jobs: str | Sequence[str], reason: str) -> int:
        """Holds jobs; how many it touched: not those that are held or have finished already."""
        return self._act("Hold", "holding jobs", jobs, reason)

    def release(self, jobs: str | Sequence[str], reason: str) -> int:
        """Releases held jobs; how many it touched."""
        return self._act("Release", "releasing jobs", jobs, reason)

    def _act(self, action: str, doing: str, jobs: str | Sequence[str], reason: str) -> int:
        which = jobs if isinstance(jobs, str) else list(jobs)
        if not which:
            return 0
        with self._asked(doing):
            # The bindings (25.14.1, _schedd.py, act) forget a reason that comes without a subcode.
            ad = self._schedd.act(getattr(self._htcondor.JobAction, action), which, (reason, 0))
        return int(ad["TotalSuccess"]) if ad is not None else 0

    def counted(self, constraint: str, attributes: Sequence[str]) -> list[tuple[Any, int]]:
        """One ClassAd for each different combination of the attributes, and how many jobs in the queue have it.

        The schedd counts (25.14, autocluster.cpp, JobAggregationResults): ten thousand jobs cost us no more than one.
        ProcId can't be among the attributes. The bindings hold the expression over what comes back once more, where it
        would be false for want of other attributes.
        """
        once = f"ProcId =?= undefined || ({constraint})"
        with self._asked("counting jobs"):
            ads = self._schedd.query(once, list(attributes), opts=self._htcondor.QueryOpt.GroupBy)
        return [(a, int(a["JobCount"])) for a in ads]

    def history_ads(
        self, constraint: str, attributes: Sequence[str] = (), *, most: int = -1, until: str | None = None
    ) -> list[Any]:
        """ClassAds of jobs that have left the queue, the last first, that satisfy an expression of ours. Looks no
        further back than the first one for which the expression `until` is true."""
        with self._asked("reading the history"):
            return list(self._schedd.history(constraint, list(attributes), match=most, since=until))

    def set_attribute(self, jobs: str | Sequence[str], name: str, expression: str) -> int:
        """Changes one attribute of jobs: of those that satisfy an expression of ours, or of ids `cluster.proc`. How
        many. The schedd (25.14) also takes what is no expression: look at it before."""
        with self._asked(f"changing {name}"):
            return int(self._schedd.edit(jobs if isinstance(jobs, str) else list(jobs), name, expression))

    def gateway(self) -> str:
        """`PORT sha256:FINGERPRINT` of the gateway, from the schedd itself: only the signing key's holder can answer
        for it, while others may put an ad into the collector. Empty where the pool has no gateway."""
        ad = self._classad.ClassAd(
            {"MyType": "Scheduler", "MyAddress": self._schedd._addr, "Name": f"access-point@{self._context.pool}"}
        )
        try:
            with self._asked("asking where the gateway is"):
                return str(self._htcondor.RemoteParam(ad).get("SWARMHPC_GATEWAY", ""))
        except (AuthenticationError, PoolUnreachableError):
            raise
        except PoolError as e:  # "Failed to start command": a schedd that is being started
            raise PoolUnreachableError(e.message, hint=e.hint) from e

    def can_write(self) -> None:
        """Raises AuthenticationError unless this person may submit."""
        with self._asked("asking whether this token may submit"):
            ad = self._classad.ClassAd(
                {"MyType": "Scheduler", "MyAddress": self._schedd._addr, "Name": f"access-point@{self._context.pool}"}
            )
            self._htcondor.ping(ad, "WRITE")

    # -- errors -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _collector(self) -> Iterator[Any]:
        context = self._context
        with self._translated("central manager", context.central_manager_port):
            yield self._htcondor.Collector(f"{context.address}:{context.central_manager_port}")

    @contextlib.contextmanager
    def _translated(self, daemon: str, port: int) -> Iterator[None]:
        """The bindings raise HTCondorException with prose for everything. What is wrong is found out by looking."""
        self._check_token()
        started = time.monotonic()
        try:
            yield
        except (self._htcondor.HTCondorException, OSError, ValueError, RuntimeError) as e:
            raise self._explained(e, daemon, port, time.monotonic() - started) from e

    def _asked(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return self._translated(f"access point ({doing})", self._context.access_point_port)

    def _check_token(self) -> None:
        from swarmhpc.tokens import read_claims

        path = self._context.token_file
        mend = f"ask for a new one: swarmhpc token create {self._context.person}   (on the pool's manager)"
        try:
            claims = read_claims(path.read_text())
        except OSError as e:
            raise AuthenticationError(f"the token {path} can't be read: {e.strerror}", hint=mend) from e
        except ValueError as e:
            raise AuthenticationError(f"{path} is not a token: {e}", hint=mend) from e
        if claims.expires_at is not None and claims.expires_at <= time.time():
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(claims.expires_at))
            raise AuthenticationError(f"the token {path} of {claims.identity} expired at {when}", hint=mend)

    def _explained(self, e: Exception, daemon: str, port: int, took_s: float) -> PoolError:
        host = self._context.address
        words = " ".join(str(e).split()) or type(e).__name__
        mend = "swarmhpc status; swarmhpc doctor   (on the pool's manager; swarmhpc up mends what is missing)"
        silent = f"the {daemon} of pool {self._context.pool} does not answer at {host}:{port}"
        try:
            with socket.create_connection((host, port), timeout=5):
                pass
        except OSError as unreachable:
            return PoolUnreachableError(f"{silent} ({unreachable.strerror or unreachable})", hint=mend)
        if daemon == "central manager" and took_s >= self._patience_s:
            return PoolUnreachableError(f"{silent} within {self._patience_s} s", hint=mend)
        codes = set(_CODE.findall(words)) or self._codes(central=daemon.startswith("central manager"))
        if any(c.startswith("AUTHENTICATE:") or c == "SECMAN:2010" for c in codes):
            return AuthenticationError(
                f"the {daemon} of pool {self._context.pool} does not accept the token of {self._context.person}"
                f" ({self._context.token_file}): {words}",
                hint=f"ask for a new one: swarmhpc token create {self._context.person}   (on the pool's manager)",
            )
        if codes & {"CEDAR:6001", "SECMAN:2004", "SECMAN:2007", "SECMAN:2011"}:
            # The port is open (HTCondor's shared port) but the daemon behind it is not there, or not yet; or it has
            # begun anew and knows our session no longer: the next call makes one.
            return PoolUnreachableError(f"{silent} ({words})", hint=mend)
        return PoolError(f"the {daemon} of pool {self._context.pool} failed: {words}", hint="swarmhpc status")

    def _codes(self, *, central: bool) -> set[str]:
        """HTCondor's error codes, for a failed call that did not tell them: asks the same daemon something simple."""
        if central:
            return set() if self._collector_accepts() else {"AUTHENTICATE:0"}
        try:
            self._schedd.query("false", ["ProcId"])
        except (self._htcondor.HTCondorException, OSError, ValueError, RuntimeError) as e:
            return set(_CODE.findall(str(e)))
        return set()

    def _collector_accepts(self) -> bool:
        """Whether the collector takes this token (asked as condor_ping does; the bindings tell no code here)."""
        address = f"<{self._context.address}:{self._context.central_manager_port}>"
        ad = self._classad.ClassAd({"MyType": "Collector", "Name": self._context.pool, "MyAddress": address})
        try:
            self._htcondor.ping(ad, "READ")
        except (self._htcondor.HTCondorException, OSError, ValueError, RuntimeError):
            return False
        return True


def classad(source: str | Mapping[str, Any]) -> Any:
    """A ClassAd of its own, from the text of one or from plain values."""
    import classad2

    return classad2.ClassAd(source if isinstance(source, str) else dict(source))


_CODE = re.compile(r"\b[A-Z]+:\d+")
