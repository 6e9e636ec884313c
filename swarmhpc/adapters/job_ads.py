"""A job's ClassAd, as far as we read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swarmhpc.states import SPOOLING, state_of

STATUS = {1: "idle", 2: "running", 3: "removed", 4: "completed", 5: "held", 6: "transferring", 7: "suspended"}
"""JobStatus (HTCondor 25 manual, Job ClassAd Attributes) in our words."""

JOB_ATTRIBUTES = [
    "ClusterId", "ProcId", "Owner", "JobStatus", "NumJobStarts", "QDate", "JobStartDate", "JobCurrentStartDate",
    "ExitCode", "ExitBySignal", "ExitSignal", "HoldReason", "HoldReasonCode", "RemoteHost", "LastRemoteHost", "Cmd",
    "MachineAttrSwarmHpcClass0", "SwarmHpcOutput", "SwarmHpcError", "DockerImage", "TotalSubmitProcs",
    "JobUniverse", "CompletionDate", "EnteredCurrentStatus", "RemoteWallClockTime", "ShadowBday", "ServerTime",
    "RequestCpus", "RequestMemory", "RequestDisk", "RequestGPUs", "MemoryUsage", "ResidentSetSize", "RemoteUserCpu",
    "RemoteSysCpu", "JobPrio", "JobBatchName", "DAGManJobId", "DAGNodeName", "RemoveReason", "AcctGroup",
    "JobCurrentStartExecutingDate", "TransferringInput", "SwarmHpcDagFailed",
    _NEXT := "JobMaterializeNextProcId",  # only where jobs are made late
]  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A job in the queue. Times are seconds since the epoch, 0 where it has not come to that."""

    cluster: int
    process: int
    owner: str
    status: str
    attempts: int
    submitted_at: int
    started_at: int
    exit_code: int | None
    exit_signal: int | None
    hold_reason: str
    hold_code: int
    class_name: str
    host: str
    output: str
    error: str
    command: str
    image: str
    unmade: int = 0  # jobs of its cluster that are not in the queue yet (late materialisation)
    state: str = ""  # one of jobs/states.py: SUBMITTED, PENDING, RUNNABLE, STARTING, RUNNING, SUCCEEDED, FAILED
    universe: int = 5  # JobUniverse: 5 vanilla and docker, 7 a DAG
    finished_at: int = 0
    status_since: int = 0  # EnteredCurrentStatus
    run_time_s: int = 0  # wall clock of all attempts, the running one's too
    cpus: int = 0  # requested, as evaluated; 0 where it is no number yet
    memory_mib: int = 0
    disk_kib: int = 0
    gpus: int = 0
    memory_used_mib: int = 0  # most, of the running or last attempt
    cpu_time_s: int = 0  # user and system, of all attempts
    priority: int = 0
    name: str = ""  # JobBatchName
    dag: int = 0  # cluster of the DAG that this job is a node of
    node_name: str = ""  # its node there
    remove_reason: str = ""
    group: str = ""  # accounting group
    dag_failed: str = ""  # of a DAG: which nodes failed, and why

    @property
    def id(self) -> str:
        """`cluster.proc`, HTCondor's own way to write it."""
        return f"{self.cluster}.{self.process}"


def host_of(a: Mapping[str, Any]) -> str:
    """The executor's host name out of `slot1_1@HOST.DOMAIN`."""
    return str(a.get("RemoteHost") or a.get("LastRemoteHost") or "").rpartition("@")[2].partition(".")[0]


def is_executing(a: Mapping[str, Any]) -> bool:
    """Its program has begun in this attempt; until then image and files are made ready."""
    # Scheduler and local universe (DAGMan) have no starter that tells when the program begins.
    return int(a.get("JobUniverse", 5)) in (7, 12) or (
        int(a.get("JobCurrentStartExecutingDate", 0)) >= int(a.get("JobCurrentStartDate", 1))
    )


def job_of(a: Mapping[str, Any]) -> Job:
    """The job of an ad that was asked for with JOB_ATTRIBUTES, from the queue or the history."""
    status = STATUS.get(int(a.get("JobStatus", 0)), "unknown")
    code = int(a.get("HoldReasonCode", 0)) if status == "held" else 0
    signalled = bool(a.get("ExitBySignal", False))
    done = status == "completed"
    exit_code = int(a["ExitCode"]) if done and not signalled and "ExitCode" in a else None
    began, running = int(a.get("ShadowBday", 0)), status in ("running", "transferring", "suspended")
    now = int(a.get("ServerTime", 0))
    return Job(
        cluster=int(a["ClusterId"]),
        process=int(a["ProcId"]),
        owner=str(a.get("Owner", "")),
        status="transferring" if code == SPOOLING else status,
        attempts=int(a.get("NumJobStarts", 0)),
        submitted_at=int(a.get("QDate", 0)),
        started_at=int(a.get("JobCurrentStartDate") or a.get("JobStartDate") or 0),
        exit_code=exit_code,
        exit_signal=int(a["ExitSignal"]) if done and signalled and "ExitSignal" in a else None,
        hold_reason=str(a.get("HoldReason", "")) if status == "held" and code != SPOOLING else "",
        hold_code=code,
        class_name=str(a.get("MachineAttrSwarmHpcClass0", "")),
        host=host_of(a),
        output=str(a.get("SwarmHpcOutput", "")),
        error=str(a.get("SwarmHpcError", "")),
        command=str(a.get("Cmd", "")),
        image=str(a.get("DockerImage", "")),
        unmade=int(a["TotalSubmitProcs"]) - int(a[_NEXT]) if _NEXT in a else 0,
        state=state_of(status, hold_code=code, executing=is_executing(a), exit_code=exit_code),
        universe=int(a.get("JobUniverse", 5)),
        finished_at=int(a.get("CompletionDate", 0)),
        status_since=int(a.get("EnteredCurrentStatus", 0)),
        run_time_s=int(a.get("RemoteWallClockTime", 0)) + (max(0, now - began) if running and began else 0),
        cpus=_number(a, "RequestCpus"),
        memory_mib=_number(a, "RequestMemory"),
        disk_kib=_number(a, "RequestDisk"),
        gpus=_number(a, "RequestGPUs"),
        memory_used_mib=_number(a, "MemoryUsage"),
        cpu_time_s=int(a.get("RemoteUserCpu", 0) + a.get("RemoteSysCpu", 0)),
        priority=int(a.get("JobPrio", 0)),
        name=str(a.get("JobBatchName", "")),
        dag=int(a.get("DAGManJobId", 0)),
        node_name=str(a.get("DAGNodeName", "")),
        remove_reason=str(a.get("RemoveReason", "")),
        group=str(a.get("AcctGroup", "")),
        dag_failed=str(a.get("SwarmHpcDagFailed", "")),
    )


def _number(a: Mapping[str, Any], name: str) -> int:
    """A number that may be written as an expression; 0 where it is none yet."""
    value = a.get(name, 0)
    if not isinstance(value, int | float):
        value = a.eval(name) if hasattr(a, "eval") else 0
    # Not isinstance: what can't be evaluated comes as classad2.Value.Undefined, which is an int, too.
    return int(value) if type(value) in (int, float) else 0
