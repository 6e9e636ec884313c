"""How clusters of jobs stand, from counts that the schedd makes: ten thousand jobs are as cheap as one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from swarmhpc import states
from swarmhpc.adapters.condor import Pool

if TYPE_CHECKING:
    from swarmhpc.jobs.dag_nodes import DagNode

ATTRIBUTES: Final = (
    *("Owner", "ClusterId", "JobStatus", "HoldReasonCode", "ExitCode", "ExitBySignal", "JobBatchName", "Cmd"),
    *("JobUniverse", "DAGManJobId", "TotalSubmitProcs", "JobMaterializeNextProcId", "QDate"),
    *("DAG_NodesTotal", "DAG_NodesDone", "DAG_NodesFailed"),
)
WINDOW_S: Final = 600
"""How far back the rate looks."""

DAG: Final = 7  # JobUniverse


@dataclass(frozen=True)
class Overview:
    """A cluster, or a DAG with the jobs of its nodes.

    `done`: ended with code 0, or left the queue (fetched or removed). `failed`: ended otherwise. `held` counts also
    those that their person holds. `uploading`: input files are on their way. `total`: all jobs ever submitted; of a
    DAG `done`, `failed` and `total` are nodes. `rate_per_s`: jobs that ended, lately; None: none did. `left`: jobs of
    it that have left the queue.
    """

    cluster: int
    owner: str
    name: str
    submitted_at: int
    idle: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    held: int = 0
    uploading: int = 0
    unmade: int = 0  # made late, by the access point
    total: int = 0
    rate_per_s: float | None = None
    here: int = 0  # in the queue
    left: int = 0
    is_dag: bool = False
    is_over: bool = False  # nothing of it will change by itself
    dag: int = 0  # cluster of the DAG that it is a node of

    @property
    def waiting(self) -> int:
        """Jobs that have not ended and may end by themselves; of a DAG, nodes."""
        if self.is_dag:
            return max(0, self.total - self.done - self.failed)
        return self.idle + self.running + self.uploading + self.unmade

    @property
    def left_s(self) -> int | None:
        """How long it still takes at the present rate."""
        if not self.rate_per_s or not self.waiting:
            return None
        return round(self.waiting / self.rate_per_s)


def quoted(text: str) -> str:
    """A string of a ClassAd expression. Only a quote can end one (src/classad/lexer.cpp, tokenizeString)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def look(pool: Pool, constraint: str, *, rates: bool = True) -> list[Overview]:
    """The clusters of jobs that satisfy an expression of ours, by number. `rates` costs a second question."""
    found = [_with_nodes(pool, c) for c in clusters(pool.counted(constraint, ATTRIBUTES))]
    if rates and any(c.waiting and (c.done or c.failed) for c in found):
        now = int(time.time())
        recent = pool.counted(
            f"({constraint}) && JobStatus == 4 && CompletionDate > {now - WINDOW_S}", ("ClusterId", "CompletionDate")
        )
        found = rated(found, recent, now=now)
    return found


def _with_nodes(pool: Pool, c: Overview) -> Overview:
    """DAGMan tells how many nodes there are only after a while; the list of nodes is there from the beginning."""
    if not c.is_dag or c.total:
        return c
    from swarmhpc.jobs import dag_nodes

    ads = pool.job_ads(f"ClusterId == {c.cluster}", ["SwarmHpcDagNodes", "DAG_NodesTotal"])
    return replace(c, total=dag_nodes.progress(ads[0])[2]) if ads else c


def graph(pool: Pool, cluster: int) -> list[tuple[DagNode, str]]:
    """The nodes of a DAG in the queue, each with the id of its job ("" where it has none there)."""
    from swarmhpc.jobs import dag_nodes

    ads = pool.job_ads(f"ClusterId == {cluster}", dag_nodes.DAG_ATTRIBUTES)
    jobs = {j.node_name: j for j in pool.jobs(f"DAGManJobId == {cluster}")}
    found = dag_nodes.nodes(ads[0], {name: j.state for name, j in jobs.items()}) if ads else ()
    return [(n, jobs[n.name].id if n.name in jobs else "") for n in found]


def clusters(counted: Iterable[tuple[Mapping[str, Any], int]]) -> list[Overview]:
    """Clusters of groups of jobs (ATTRIBUTES, how many)."""
    found: dict[int, Overview] = {}
    for ad, count in counted:
        cluster = int(ad["ClusterId"])
        made = int(ad.get("JobMaterializeNextProcId", -1))
        total = int(ad.get("TotalSubmitProcs", 0))
        is_dag = int(ad.get("JobUniverse", 5)) == DAG
        c = found.get(cluster) or Overview(
            cluster,
            str(ad.get("Owner", "")),
            # DAGMan calls a DAG and its nodes diamond.dag+12.
            re.sub(r"\+[0-9]+$", "", str(ad.get("JobBatchName") or ad.get("Cmd", "")).rpartition("/")[2]),
            int(ad.get("QDate", 0)),
            unmade=max(0, total - made) if made >= 0 else 0,
            is_dag=is_dag,
            dag=int(ad.get("DAGManJobId", 0)),
            is_over=True,
        )
        c = replace(c, here=c.here + count)
        kind = kind_of(ad)
        over = c.is_over and kind not in ("idle", "running", "uploading")
        if is_dag:
            # DAGMan itself is no work of the person's, but where it is held or has failed all of it has.
            nodes = {n: int(ad.get(f"DAG_Nodes{n}", 0)) for n in ("Total", "Done", "Failed")}
            failed = max(nodes["Failed"], int(kind == "failed"))
            held = int(kind == "held")
            c = replace(c, total=nodes["Total"], done=nodes["Done"], failed=failed, held=held, is_over=over)
        else:
            c = replace(c, **{kind: getattr(c, kind) + count}, total=max(c.total, total), is_over=over)
        found[cluster] = c
    return [counted_of(found[c], max(found[c].total, found[c].here)) for c in sorted(found)]


def counted_of(c: Overview, total: int) -> Overview:
    """With `total` jobs in all, of which those that are neither here nor still to be made have left the queue."""
    if c.is_dag:
        return c
    left = max(0, total - c.unmade - c.here)
    # Held ones may be what the access point waits for before it makes more.
    over = c.is_over and (not c.unmade or bool(c.held))
    return replace(c, total=total, left=left, done=c.done - c.left + left, is_over=over)


def kind_of(ad: Mapping[str, Any]) -> str:
    """Which field of Overview counts a job: idle, running, done, failed, held or uploading."""
    status = int(ad.get("JobStatus", 0))
    if status == 5:
        return "uploading" if int(ad.get("HoldReasonCode", 0)) == states.SPOOLING else "held"
    if status == 4:
        return "done" if not ad.get("ExitBySignal", False) and int(ad.get("ExitCode", -1)) == 0 else "failed"
    return {1: "idle", 3: "failed"}.get(status, "running")


def rated(found: Iterable[Overview], recent: Iterable[tuple[Mapping[str, Any], int]], *, now: int) -> list[Overview]:
    """With the rate at which jobs ended: `recent` has (ClusterId, CompletionDate) and how many."""
    ended: dict[int, int] = {}
    for ad, count in recent:
        cluster = int(ad["ClusterId"])
        ended[cluster] = ended.get(cluster, 0) + count
    result = []
    for c in found:
        span_s = min(WINDOW_S, max(1, now - c.submitted_at))
        rate = ended.get(c.cluster, 0) / span_s
        result.append(replace(c, rate_per_s=rate) if rate and c.waiting and not c.is_dag else c)
    return result


def folded(found: Iterable[Overview]) -> list[Overview]:
    """A DAG and the jobs of its nodes as one; nodes of a DAG that is not among them stay as they are."""
    rows = {c.cluster: c for c in found}
    for c in list(rows.values()):
        if c.dag in rows and rows[c.dag].is_dag:
            top = rows[c.dag]
            del rows[c.cluster]
            rows[c.dag] = replace(
                top,
                idle=top.idle + c.idle,
                held=top.held + c.held,
                running=top.running + c.running,
                uploading=top.uploading + c.uploading,
            )
    return list(rows.values())
