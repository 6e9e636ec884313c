"""Why a job stands where it stands: one answer in plain words, and what else is known. Pure.

`explain` gets one group of jobs that stand alike (jobs/why.py finds them) and gives the most decisive reason first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from swarmhpc.jobs import holds, waiting
from swarmhpc.jobs.reasons import CODES, Facts, Reason, Subject
from swarmhpc.states import STARTING
from swarmhpc.units import format_duration_s, format_mib

__all__ = ["CODES", "Facts", "Reason", "Subject", "explain", "ordered"]


def explain(subject: Subject, facts: Facts | None = None) -> tuple[Reason, ...]:
    """The answer first, then what else is known. `facts`: for a job that waits; None: the central manager is silent."""
    s = subject
    match s.status:
        case "held" | "transferring" if s.hold_code:
            found = [_held(s)]
        case "idle":
            found = waiting.reasons(s, facts)
        case "completed":
            found = [_ended(s)]
        case "removed":
            found = [s.because("removed", f"it is being removed: {_removal(s)}", "", reason=s.remove_reason)]
        case "gone":
            found = [_gone(s)]
        case _:
            found = [_going_on(s)]
    if s.status in ("idle", "running", "held") and s.starts > (s.status != "idle") and s.vacate_code >= 1000:
        found.append(_came_back(s))
    return tuple(replace(r, main=i == 0) for i, r in enumerate(found))


def _came_back(s: Subject) -> Reason:
    words = holds.VACATED.get(s.vacate_code, "HTCondor sent it back")
    code = "starting" if s.status == "running" else "next-negotiation"
    times = "once" if s.starts == 1 else f"{s.starts} times"
    return s.because(
        code, f"it has started {times} before and came back: {words}", "", starts=s.starts,
        vacate_code=s.vacate_code, vacate_reason=s.vacate_reason,
    )  # fmt: skip


def _going_on(s: Subject) -> Reason:
    where = f" on {s.host}" if s.host else ""
    hint = "swarmhpc logs {id} --follow"
    at: dict[str, Any] = {"host": s.host, "since": s.since}
    if s.is_dag:
        done, failed, total = s.dag_nodes
        if s.dag_waits:
            return s.because("waits-for-jobs", f"it waits for {s.dag_waits}", "", waits_for=s.dag_waits)
        words = f"its nodes run or wait: {done} of {total} done" + (f", {failed} failed" if failed else "")
        return s.because(
            "dag-running", words, "swarmhpc q {id}", nodes_done=done, nodes_failed=failed, nodes=total,
            failures=s.dag_failed,
        )  # fmt: skip
    if s.is_lost:
        words = f"its executor {s.host} has left the pool: its node is off or cut off"
        then = f"within {format_duration_s(s.lease_left_s)}" if s.lease_left_s > 0 else "in a moment"
        message = f"{words}; unless it comes back, the job starts again elsewhere {then}"
        return s.because("executor-lost", message, "swarmhpc status", **at, lease_left_s=s.lease_left_s)
    if s.status == "transferring":
        return s.because("sending-output", f"its command has ended; its results are sent to the access point{where}")
    if s.status == "suspended":
        return s.because("suspended", f"it is suspended{where}, since {s.for_s()}", "", **at)
    if s.state == STARTING:
        what = f"image {s.image}, input files and container" if s.image else "input files"
        return s.because("starting", f"it has a slot{where} since {s.for_s()}; {what} are made ready", hint, **at)
    used = f"; uses {format_mib(s.memory_used_mib)} of {format_mib(s.memory_mib)}" if s.memory_used_mib else ""
    return s.because(
        "running", f"it runs{where}, since {s.for_s()}{used}", hint, **at, memory_used_mib=s.memory_used_mib,
        memory_asked_mib=s.memory_mib,
    )  # fmt: skip


# -- held -------------------------------------------------------------------------------------------------------------


def _held(s: Subject) -> Reason:
    kind = holds.hold(s.hold_code, s.hold_subcode, s.hold_reason)
    said = holds.plain(s.hold_reason)
    words, hint = kind.words, kind.hint
    match kind.code:
        case "spooling":
            words = f"{kind.words} since {s.for_s()}"
            if s.now - s.since > _LONG_UPLOAD_S:
                hint = "if whoever submits it has gone: swarmhpc rm {id}, and submit it again"
        case "out-of-memory":
            words += f", {format_mib(s.memory_mib)}" + _used(s)
            enough = max(2 * s.memory_mib, -(-5 * s.memory_used_mib // 256) * 64)  # a quarter more than it used
            hint = f"swarmhpc edit {{id}} --memory {format_mib(enough).replace(' ', '')} && swarmhpc release {{id}}"
        case "out-of-disk":
            hint = f"swarmhpc edit {{id}} --disk {_double_disk(s)} && swarmhpc release {{id}}"
        case "time-limit":
            words += f": {format_duration_s(s.time_limit_s)}" if s.time_limit_s else ""
            hint = "submit it with a longer time: swarmhpc submit FILE --timeout 2h; or let it try again: " + _RELEASE
        case "input-file" | "output-file" if found := holds.file_in(s.hold_reason):
            name, problem = found
            words = f"{'its input' if kind.code == 'input-file' else 'its output'} file {name}: {problem}"
            if kind.code == "output-file" and s.hold_code == 12 and "no such file" in problem:
                words += f"; its command has not made it (it ended with code {s.exit_code})"
                hint = "swarmhpc logs {id} --error"
        case "command-not-started":
            words += f": {s.command}"
            if "no such file" in said.lower():
                words += (
                    f" is not in image {s.image}" if s.image else " is not on the executor; send it, or use an image"
                )
        case "held-by-person" if s.hold_code == 1:
            words += f": {said}" if said else ""
        case "held-by-rule" | "held-by-pool" | "held":
            words += f": {said}" if said else ""
        case _ if s.image and s.hold_code == 35:
            words += f": {s.image}"
            hint = hint.replace("IMAGE", s.image)
    before = "" if kind.code == "spooling" else "held: "
    return s.because(
        kind.code, before + words, hint, hold_code=s.hold_code, hold_subcode=s.hold_subcode, hold_name=kind.name,
        hold_reason=s.hold_reason,
    )  # fmt: skip


_LONG_UPLOAD_S: Final = 300
_RELEASE: Final = "swarmhpc release {id}"


def _used(s: Subject) -> str:
    return f"; it used {format_mib(s.memory_used_mib)}" if s.memory_used_mib > s.memory_mib else ""


def _double_disk(s: Subject) -> str:
    return format_mib(max(1, -(-2 * s.disk_kib // 1024))).replace(" ", "")


# -- ended ------------------------------------------------------------------------------------------------------------


def _ended(s: Subject) -> Reason:
    code, message, hint = _end(s)
    evidence: dict[str, Any] = {
        "exit_code": s.exit_code, "exit_signal": s.exit_signal, "finished_at": s.finished_at,
        "run_time_s": s.run_time_s, "host": s.host,
    }  # fmt: skip
    if code == "killed":
        evidence |= {"memory_used_mib": s.memory_used_mib, "memory_asked_mib": s.memory_mib}
    if code == "dag-failed":
        evidence |= {"failures": s.dag_failed}
    return s.because(code, message, hint, **evidence)


def _end(s: Subject) -> tuple[str, str, str]:
    logs = "swarmhpc logs {id} --error"
    took = f", after {format_duration_s(s.run_time_s)}" if s.run_time_s else ""
    if s.is_dag and s.exit_code != 0:
        done, failed, total = s.dag_nodes
        first = s.dag_failed.strip().split("; ")[0]
        words = f"{failed} of its {total} nodes failed, {done} are done" + (f": {first}" if first else "")
        return "dag-failed", words, "swarmhpc fetch {id}, mend it, and submit the same file again: done nodes are kept"
    if s.exit_signal is not None and s.exit_signal != 9:
        return "signal", f"its command ended by signal {s.exit_signal}{took}", logs
    if s.exit_signal == 9 or s.exit_code == 137:
        how = "by signal 9" if s.exit_signal == 9 else "with code 137"
        used = f"it used {format_mib(s.memory_used_mib)} of {format_mib(s.memory_mib)} of memory"
        if s.memory_mib and s.memory_used_mib >= 0.9 * s.memory_mib:
            return "killed", f"its command was killed ({how}){took}: {used}", "ask for more memory; or " + logs
        if s.memory_used_mib:
            words = f"its command was killed ({how}){took}, but {used}: by itself, or by memory it took in an instant"
        else:
            words = f"its command was killed ({how}){took}, mostly for memory"
        return "killed", words, logs
    where = f"in image {s.image}" if s.image else "on the executor"
    match s.exit_code:
        case 0:
            return "succeeded", f"it ended well{took}", "swarmhpc fetch {id}"
        case 127:
            return "command-not-found", f"it ended with code 127: a command was not found {where} ({s.command})", logs
        case 126:
            return "not-executable", f"it ended with code 126: {s.command} can't be run {where}", "chmod +x; or " + logs
        case code if code is not None and 128 < code < 128 + 65:
            return "signal", f"its command ended with code {code}, which means signal {code - 128}{took}", logs
    return "exit-code", f"its command ended with code {s.exit_code}{took}", logs


def _removal(s: Subject) -> str:
    return s.remove_reason or "nobody said why"


def _gone(s: Subject) -> Reason:
    """Out of the history."""
    if s.finished_at and (s.exit_code is not None or s.exit_signal is not None):
        ended = _end(s)[1].replace("its command ", "it ", 1)
        return s.because(
            "fetched", f"{ended}; it has left the queue: {s.remove_reason or 'it was not to stay'}", "",
            exit_code=s.exit_code, exit_signal=s.exit_signal, finished_at=s.finished_at,
        )  # fmt: skip
    return s.because("removed", f"it was removed: {_removal(s)}", "", reason=s.remove_reason)


def ordered(found: Sequence[Sequence[Reason]]) -> list[Reason]:
    """Reasons of several groups: what stands in the way first, and each group's answer before what adds to it."""
    groups = sorted((g for g in found if g), key=lambda g: (_order(g[0].code), -g[0].count))
    return [g[0] for g in groups] + [r for g in groups for r in g[1:]]


_ENDS: Final = ("starting", "running", "sending-output", "suspended", "dag-running", "spooling", "succeeded", "fetched")


def _order(code: str) -> int:
    if code in _ENDS:
        return 1 + _ENDS.index(code)
    return 0
