"""What somebody tries with HTCondor's bindings and their own good token on jobs that are not theirs.

Run as `python -m tests.engine.stranger DONE RUNNING HELD FILE` in an empty folder, with the stranger's configuration:
three jobs of another person and a file in the queue's volume that belongs to them. Prints JSON: what was tried, and
what came of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import htcondor2

from swarmhpc import context
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.gateway import Gateway
from swarmhpc.errors import SwarmHpcError

SIGNING_KEY = "/etc/condor/passwords.d/POOL"
QUEUE_LOG = "/var/spool/condor/job_queue.log"
SMALL = "universe = vanilla\nrequest_cpus = 1\nrequest_memory = 32\nrequest_disk = 1MB\n"
NO_JOB = SMALL + "executable = /bin/true\ntransfer_executable = false\nhold = true\n"
ACTIONS = ("Hold", "Release", "Remove", "RemoveX", "Suspend", "Continue", "Vacate", "VacateFast")


def tried(what: Callable[[], Any]) -> str:
    try:
        return f"did: {what()}"
    except (SwarmHpcError, htcondor2.HTCondorException, OSError, ValueError, TypeError) as e:
        return f"refused: {' '.join(str(e).split())}"


class Stranger:
    def __init__(self) -> None:
        self.pool = Pool(context.load())
        self.schedd = self.pool._schedd
        self.found: dict[str, str] = {}

    def submit(self, text: str, *, spool: bool = False) -> Any:
        return self.schedd.submit(htcondor2.Submit(text + "queue\n"), spool=spool)

    def on_their_jobs(self, ids: list[str], held: str) -> None:
        cluster = f"ClusterId == {held.partition('.')[0]}"
        for action in ACTIONS:
            for which in (ids, cluster):
                ad = self.schedd.act(getattr(htcondor2.JobAction, action), which, "not mine")
                self.found[f"{action} {which}"] = f"did: {ad['TotalSuccess']}"
        for name, value in (("JobPrio", "20"), ("RequestMemory", "1"), ("Owner", '"me"'), ("Arguments", '"x"')):
            self.found[f"edit {name}"] = tried(partial(self.schedd.edit, [held], name, value))
        self.found["export"] = tried(lambda: self.schedd.export_jobs([held], "/tmp", "/tmp"))
        self.found["unexport"] = tried(lambda: self.schedd.unexport_jobs([held]))

    def on_their_results(self, done: str, held: str) -> None:
        self.schedd.retrieve([done])
        self.found["retrieve"] = f"did: {[p.name for p in Path().iterdir()]}"
        mine = self.submit(SMALL + "executable = /bin/true\n", spool=True)
        mine._clusterad["ClusterId"] = int(held.partition(".")[0])
        self.found["spool into"] = tried(lambda: self.schedd.spool(mine))
        self.forget(mine.cluster())

    def at_the_gateway(self, running: str) -> None:
        """Past our own command, which asks the queue whose job it is."""
        gateway = Gateway(self.pool)
        self.found["logs output"] = tried(lambda: b"".join(gateway.logs(running)))
        self.found["logs error"] = tried(lambda: b"".join(gateway.logs(running, stream="error")))
        with tempfile.TemporaryFile() as nothing:
            self.found["shell"] = tried(lambda: gateway.shell(running, ["id"], stdin=nothing.fileno(), stdout=2))

    def as_them(self, owner: str, name: str) -> None:
        self.found["submit as them"] = tried(lambda: self.submit(NO_JOB + f'MY.Owner = "{owner}"\n'))
        for line in (f'MY.User = "{name}"', f'MY.OsUser = "{owner}"', f'MY.AuthTokenSubject = "{name}"'):
            made = self.submit(f"{NO_JOB}{line}\n").cluster()
            ads = self.schedd.query(f"ClusterId == {made}", ["Owner", "User"])
            self.found[f"submit {line.split()[0]}"] = f"did: {ads[0]['Owner']} {ads[0]['User']}"
            self.forget(made)
        made = self.submit(f"{NO_JOB}accounting_group_user = {owner}\n").cluster()
        self.found["charge them"] = repr(
            self.schedd.query(f"ClusterId == {made}", ["AccountingGroup", "AcctGroupUser"])
        )
        self.forget(made)
        mine = self.submit(NO_JOB).cluster()
        for attribute, value in (
            ("Owner", owner),
            ("User", name),
            ("AccountingGroup", owner),
            ("AcctGroupUser", owner),
        ):
            edited = tried(partial(self.schedd.edit, [f"{mine}.0"], attribute, f'"{value}"'))
            self.found[f"give away {attribute}"] = edited
        self.forget(mine)
        for verb in ("addUserRec", "disableUserRec", "removeUserRec"):
            self.found[verb] = tried(partial(getattr(self.schedd, verb), name))

    def with_own_jobs(self, theirs: str) -> None:
        """Their file, the pool's key and the queue's log, through a job's input and a job's output."""
        reads = SMALL + 'executable = /bin/cat\ntransfer_executable = false\noutput = out\nMY.Iwd = "/tmp"\n'
        paths = (theirs, SIGNING_KEY, QUEUE_LOG)
        jobs = {
            path: self.submit(f"{reads}arguments = {Path(path).name}\ntransfer_input_files = {path}\n").cluster()
            for path in paths
        }
        for path, cluster in jobs.items():
            self.found[f"input {path}"] = self.end_of(cluster)
            self.forget(cluster)
        Path("mine.txt").write_text("mine\n")
        made = self.submit(
            SMALL + "executable = /bin/cat\ntransfer_executable = false\narguments = mine.txt\n"
            "transfer_input_files = mine.txt\noutput = out\n",
            spool=True,
        )
        self.schedd.spool(made)
        cluster = made.cluster()
        self.end_of(cluster)
        for path in paths:
            self.schedd.edit([f"{cluster}.0"], "Out", f'"{path}"')
            self.found[f"output {path}"] = tried(lambda: self.schedd.retrieve([f"{cluster}.0"]))
        self.found["brought"] = repr({p.name: p.read_text() for p in Path().iterdir()})
        self.forget(cluster)

    def end_of(self, cluster: int) -> str:
        """How a job ended, or why it is held."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ads = self.schedd.query(
                f"ClusterId == {cluster} && (JobStatus == 4 || HoldReasonCode =!= 16 && JobStatus == 5)"
            )
            if ads:
                return f"{ads[0]['JobStatus']}: {ads[0].get('HoldReason', '')}"
            time.sleep(0.1)
        return "neither ended nor held"

    def forget(self, cluster: int) -> None:
        self.pool.remove(f"ClusterId == {cluster}", "a test of strangers")


def main() -> None:
    done, running, held, theirs = sys.argv[1:]
    stranger = Stranger()
    (owner,) = {str(a["Owner"]) for a in stranger.schedd.query(f"ClusterId == {held.partition('.')[0]}", ["Owner"])}
    stranger.on_their_jobs([done, running, held], held)
    stranger.on_their_results(done, held)
    stranger.at_the_gateway(running)
    stranger.as_them(owner, f"{owner}@{stranger.pool.pool}")
    stranger.with_own_jobs(theirs)
    sys.stdout.write(json.dumps(stranger.found))


if __name__ == "__main__":
    main()
