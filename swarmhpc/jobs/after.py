"""Jobs that wait for other jobs: `submit --after 12 --each --sequential --on success|failure|any`.

Made of DAGMan: each node waits in a PRE script that says "not yet" (DEFER) until the answer is there. The answers come
from one look at the queue a second for all nodes of a DAG (images/pool/dagman).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

from swarmhpc.adapters.condor import Pool
from swarmhpc.errors import PoolError, UsageError
from swarmhpc.jobs import dag, dag_box, dag_nodes
from swarmhpc.jobs import submit as wing
from swarmhpc.jobs.findings import Place
from swarmhpc.jobs.translate import Translation

On = Literal["success", "failure", "any"]
ON: Final = ("success", "failure", "any")
_NOT_YET: Final = 75  # exit codes of the gate: EX_TEMPFAIL of sysexits.h, and one more
_SKIP: Final = 76
_SCRIPTS_A_SECOND: Final = 20
_ATTRIBUTES: Final = (
    "ClusterId", "ProcId", "JobStatus", "LastJobStatus", "CompletionDate", "ExitCode", "ExitBySignal", "ExitSignal",
    "TotalSubmitProcs",
)  # fmt: skip
_GATE: Final = f"""#!/bin/sh
# PRE script of a node that waits for jobs of other clusters; $1: the node.
f=${{0%/*}}/after.d/$1
[ -f "$f" ] || exit {_NOT_YET}
read -r word < "$f"
case $word in go) exit 0 ;; skip) exit {_SKIP} ;; *) exit 1 ;; esac
"""
_ENDED: Final = """#!/bin/sh
# POST script of a job after which the next one comes in any case; $1: the node, $2: how its job ended.
[ "$2" = 0 ] || { mkdir -p "${0%/*}/failed.d" && : > "${0%/*}/failed.d/$1"; }
"""


@dataclass(frozen=True)
class Parent:
    """A job that is waited for. `failed`: words, where it has ended badly or was removed; None where it succeeded."""

    id: str
    ended: bool
    failed: str | None = None


def submit(
    pool: Pool,
    translation: Translation,
    *,
    after: Sequence[str] = (),
    each: bool = False,
    sequential: bool = False,
    on: str = "success",
) -> tuple[wing.Submitted, ...]:
    """Puts jobs into the queue that wait for those of `after` (ids like 12 or 12.3), or each for the one before.

    `each`: the first for the first job of `after`, the second for the second. `on`: whether it is their success that is
    waited for. What comes back is the cluster of the DAG that does it; where nothing is to be waited for any more, the
    jobs' own. Raises UsageError and PoolError.
    """
    check(after=after, each=each, sequential=sequential, on=on)
    found = parents(pool, after)
    ids = [p.id for p in found]
    if each and len(ids) != translation.jobs:
        raise UsageError(
            f"--each: {translation.jobs} jobs are to wait for {len(ids)} jobs of {', '.join(after)}; wanted the same"
            " number",
            hint="leave --each out: then all of them wait for all",
        )
    if found and not each:
        bad = [p.failed for p in found if p.failed]
        if on == "success" and bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            raise UsageError(f"{bad[0]}{more}, so jobs that wait for success never begin",
                             hint="--on any or --on failure; or mend and submit that one again")  # fmt: skip
        if all(p.ended for p in found):
            if on == "failure" and not bad:
                raise UsageError(f"all {len(found)} jobs of {', '.join(after)} succeeded: with --on failure there is"
                                 " nothing to do", hint="--on any")  # fmt: skip
            found = []
    if not found and not sequential:
        return wing.submit(pool, translation)
    waits = {"on": on, "after": list(after) if not each else ids, "each": each, "is_open": bool(found)}
    return _submit(pool, translation, waits, sequential=sequential, on=on)


def check(*, after: Sequence[str], each: bool, sequential: bool, on: str) -> None:
    """Raises UsageError for options that do not go together."""
    if on not in ON:
        raise UsageError(f"--on {on}: wanted one of {', '.join(ON)}", hint="--on any")
    if each and not after:
        raise UsageError("--each: nothing says for which jobs", hint="--after 12 --each")
    if each and sequential:
        raise UsageError("--each and --sequential don't go together: a job waits for one other", hint="leave one out")
    if on != "success" and not after and not sequential:
        raise UsageError(f"--on {on}: nothing says for which jobs", hint=f"--after 12 --on {on}")
    if sequential and on == "failure":
        raise UsageError("--sequential --on failure: each job would wait for the failure of the one before",
                         hint="--sequential, or --sequential --on any; for a second try: --retries 1")  # fmt: skip


def parents(pool: Pool, after: Sequence[str]) -> list[Parent]:
    """The jobs of clusters and jobs that are waited for, in their order. Raises UsageError and PoolError."""
    found: list[Parent] = []
    for text in after:
        cluster, dot, process = text.partition(".")
        if not cluster.isdigit() or (dot and not process.isdigit()):
            raise UsageError(f"--after {text}: wanted a cluster like 12 or a job like 12.0", hint="swarmhpc q")
        constraint = f"ClusterId == {int(cluster)}" + (f" && ProcId == {int(process)}" if dot else "")
        ads = {int(a["ProcId"]): a for a in pool.job_ads(constraint, _ATTRIBUTES)}
        total = 1 if dot else max((int(a.get("TotalSubmitProcs", 1)) for a in ads.values()), default=0)
        if len(ads) < total or not ads:  # some have left the queue
            for a in pool.history_ads(constraint, _ATTRIBUTES):
                ads.setdefault(int(a["ProcId"]), a)
                total = max(total, 1 if dot else int(a.get("TotalSubmitProcs", 1)))
        if not ads:
            raise PoolError(f"job {text} is neither in the queue nor in its history", hint="swarmhpc q")
        numbers = sorted(ads) if dot else sorted({*ads, *range(total)})
        found += [_parent(f"{int(cluster)}.{n}", ads.get(n)) for n in numbers]
    return found


def _parent(job: str, ad: Mapping[str, Any] | None) -> Parent:
    if ad is None:  # not made yet (late materialisation)
        return Parent(job, False)
    status = int(ad["JobStatus"])
    if status == 4 or (status == 3 and (ad.get("LastJobStatus") == 4 or int(ad.get("CompletionDate", 0)) > 0)):
        if ad.get("ExitBySignal"):
            return Parent(job, True, f"job {job} ended by signal {ad.get('ExitSignal')}")
        code = int(ad.get("ExitCode", 0))
        return Parent(job, True, f"job {job} ended with code {code}" if code else None)
    return Parent(job, True, f"job {job} was removed") if status == 3 else Parent(job, False)


def _submit(
    pool: Pool, translation: Translation, waits: Mapping[str, Any], *, sequential: bool, on: str
) -> tuple[wing.Submitted, ...]:
    cwd = str(translation.clusters[0].common.get("initialdir", "/"))
    box = dag_box.Box(cwd)
    box.dag, box.status = dag_box.generated("after.dag", cwd), dag_box.generated("status", cwd)
    single = bool(waits["each"]) or sequential
    nodes = list(_nodes(translation, cwd, single=single))
    for cluster in translation.clusters:
        box.take(cluster)
    gate, ended = dag_box.generated("gate", cwd), dag_box.generated("ended", cwd)
    lines: list[str] = []
    gates: dict[str, list[str]] = {}
    pause_s = max(1, min(60, len(nodes) // _SCRIPTS_A_SECOND))
    for number, (name, text) in enumerate(nodes):
        lines.append(dag_box.node("JOB", name, text))
        if waits["is_open"] and (number == 0 or not sequential):
            gates[name] = [waits["after"][number]] if waits["each"] else waits["after"]
            lines.append(f"SCRIPT DEFER {_NOT_YET} {pause_s} PRE {name} {gate} {name}\nPRE_SKIP {name} {_SKIP}\n")
        if sequential and on == "any":
            lines.append(f"SCRIPT POST {name} {ended} {name} $RETURN\n")
        if sequential and number:
            lines.append(f"PARENT {nodes[number - 1][0]} CHILD {name}\n")
    lines.append(f"NODE_STATUS_FILE {box.status} 1\n")
    box.texts = {"dag/after.dag": "".join(lines), "dag/gate": _GATE, "dag/ended": _ENDED}
    box.plan["after"] = {"on": waits["on"], "gates": gates}
    names = tuple(name for name, _ in nodes)
    nowhere = Place("after.dag", 1, 1)
    chain = pairwise(names) if sequential else ()
    graph = dag_nodes.Graph(names, tuple(((a,), (b,), nowhere) for a, b in chain))
    batch_name = translation.clusters[0].common.get("batch_name", "") or "after-$(Cluster)"
    cluster_number = dag.send(pool, box, graph, log="", batch_name=batch_name)
    return (wing.Submitted(cluster_number, translation.jobs),)


def _nodes(translation: Translation, cwd: str, *, single: bool) -> Iterator[tuple[str, str]]:
    """Name and description of each node: a job, or a whole cluster."""
    job = 0
    for number, cluster in enumerate(translation.clusters):
        head, items = dag_box.parts(cluster, cwd)
        if not single:
            yield f"jobs{number}" if number else "jobs", dag_box.described(head, items)
            continue
        for item in items:
            yield f"job{job}", dag_box.described(head, [item])
            job += 1
