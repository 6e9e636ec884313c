"""Why a job waits for an executor: its requirements and requests beside every executor, limits and shares. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from swarmhpc.jobs.findings import short
from swarmhpc.jobs.reasons import Facts, Person, Reason, Room, Subject
from swarmhpc.jobs.requirements import Judgement, Verdict, judge, terms
from swarmhpc.jobs.resources import too_large
from swarmhpc.units import format_duration_s, format_mib

_FRESH_S: Final = 30  # a rejection older than that, and than some negotiations, says nothing of now
_SETTLED_S: Final = 15  # executors tell the collector what they have left every 5 s (common.conf, UPDATE_INTERVAL)
_HEARD_S: Final = 5  # while other jobs wait, the negotiator hears of a new person's with the access point's next update
_MOST_NAMED: Final = 4
_LIMIT: Final = re.compile(r"concurrency limit (.+?) reached")
_CLASS: Final = re.compile(r'(?:TARGET\s*\.\s*)?SwarmHpcClass\s*(?:==|=\?=)\s*"([^"]*)"', re.IGNORECASE)
_OF_PERSON: Final = re.compile(r"swarmhpc_(jobs|cpus)_", re.IGNORECASE)  # _config_fairness.py, Person
_MORE: Final = "more executors: swarmhpc scale {}=N   (on the pool's manager)"


def reasons(s: Subject, facts: Facts | None) -> list[Reason]:
    """The answer first. `facts` None: the central manager does not answer."""
    if s.is_dag:
        return [s.because("next-negotiation", "the access point starts it in a moment", "swarmhpc q {id}")]
    if facts is None:
        words = "the central manager does not answer, so nothing is matched; what runs goes on"
        return [s.because("central-manager-down", words, "swarmhpc status")]
    if s.cool_until > s.now:
        words = f"its last start failed ({s.vacate_reason or 'HTCondor does not say why'}); it waits before the next"
        left = format_duration_s(s.cool_until - s.now)
        return [s.because("cooling-down", f"{words}, {left} from now", "", again_in_s=s.cool_until - s.now)]
    found = _impossible(s, facts)
    if found:
        return found
    limits = _limits(s, facts)
    room = _capacity(s, facts)
    return [*limits, *(r for r in room if r.code not in ("no-match", "next-negotiation"))] if limits else room


# -- never -------------------------------------------------------------------------------------------------------------


def _impossible(s: Subject, facts: Facts) -> list[Reason]:
    """What would have to change before any executor of the pool, also a future one, can take it."""
    found = _too_large(s, facts)
    limits = facts.limits
    requirements = s.attributes.get("Requirements", "")
    if limits.classads is None or not limits.slots or not requirements:
        return found
    judged = judge(requirements, job=s.attributes, slots=limits.slots, classads=limits.classads)
    never = [v for v in judged.verdicts if v.judged and not v.classes]
    own = [v for v in never if not (found and _is_size(v))]
    evidence: dict[str, Any] = {"terms": _terms(s, facts, judged), "executors": len(facts.rooms)}
    for v in own:
        named = _CLASS.search(v.term.text)
        names = [c.name for c in limits.classes]
        if named and named[1] not in names:
            message = f"it wants class {named[1]}, and the pool has {', '.join(names) or 'no class'} only"
            hint = f"swarmhpc edit {{id}} --class {names[0]}" if names else "swarmhpc status"
            found.append(s.because("no-such-class", message, hint, term=v.term.text, classes=names, **evidence))
        else:
            seen = f" ({v.seen})" if v.seen else ""
            message = f"no executor meets {short(v.term.text)[1:-1]}: {v.why}{seen}"
            hint = "change that term: swarmhpc edit {id} --requirements EXPRESSION"
            found.append(s.because("requirements", message, hint, term=v.term.text, **evidence))
    if judged.conflict and not found:
        names = [t.text for t in judged.conflict]
        message = f"no executor class meets all of these together: {', '.join(short(n)[1:-1] for n in names)}"
        hint = "give one of them up: swarmhpc edit {id} --requirements EXPRESSION"
        found.append(s.because("conflict", message, hint, conflict=names, **evidence))
    if not found and facts.rooms:
        found += _not_now(s, judged, evidence)
    if judged.problem:
        found.append(s.because("requirements", f"its requirements are no expression: {judged.problem}"))
    return found


def _not_now(s: Subject, judged: Judgement, evidence: Mapping[str, Any]) -> list[Reason]:
    """Terms about what changes, such as the node of an executor, that none meets at the moment."""
    met = {row["term"]: row["met_by"] for row in evidence["terms"]}
    found = []
    for v in judged.verdicts:
        if not v.judged and not met[v.term.text] and not _is_size(v):
            message = f"no executor meets {short(v.term.text)[1:-1]} now" + (f" ({v.seen})" if v.seen else "")
            hint = "wait, or change that term: swarmhpc edit {id} --requirements EXPRESSION"
            found.append(s.because("requirements", message, hint, term=v.term.text, may_change=v.why, **evidence))
    return found


_SIZE: Final = re.compile(r"Request(Cpus|Memory|Disk|GPUs)\b", re.IGNORECASE)


def _is_size(v: Verdict) -> bool:
    return _SIZE.search(v.term.text) is not None


def _terms(s: Subject, facts: Facts, judged: Judgement) -> list[dict[str, Any]]:
    """Each term of the requirements with the number of executors that meet it, the hardest one first."""
    limits = facts.limits
    assert limits.classads is not None
    texts = [v.term.text for v in judged.verdicts]
    rows = limits.classads.evaluate(texts, s.attributes, [a.text for a in limits.slots])
    met = [{"term": t, "met_by": sum(o == "true" for o in r.outcomes)} for t, r in zip(texts, rows, strict=True)]
    return sorted(met, key=lambda row: int(str(row["met_by"])))


def _too_large(s: Subject, facts: Facts) -> list[Reason]:
    classes = facts.limits.classes
    if not classes:
        return []
    found = []
    most = max(c.gpus for c in classes)
    if s.gpus > most:
        has = f"the largest executor has {most}" if most else "no executor has any"
        gpus = "GPU" if s.gpus == 1 else "GPUs"
        found.append(
            s.because("too-large", f"it asks for {s.gpus} {gpus}; {has}", f"swarmhpc edit {{id}} --gpus {most}",
                      asked={"gpus": s.gpus}, largest={"gpus": most})
        )  # fmt: skip
    able = tuple(c for c in classes if c.gpus >= s.gpus) or classes
    asked = {"request_cpus": max(1, s.cpus), "request_memory": s.memory_mib}
    options = {"request_cpus": "--cpus", "request_memory": "--memory"}
    for name, message, hint in too_large(asked, able):
        best = max(able, key=lambda c: c.cpus if name == "request_cpus" else c.memory_mib)
        value = str(best.cpus) if name == "request_cpus" else format_mib(best.memory_mib).replace(" ", "")
        edit = f"swarmhpc edit {{id}} {options[name]} {value}; or {hint.partition(', or ')[2] or hint}"
        found.append(
            s.because("too-large", message.replace("the job asks", "it asks", 1), edit,
                      asked={"cpus": s.cpus, "memory_mib": s.memory_mib},
                      largest={"class": best.name, "cpus": best.cpus, "memory_mib": best.memory_mib})
        )  # fmt: skip
    return found + _too_much_disk(s, facts)


def _too_much_disk(s: Subject, facts: Facts) -> list[Reason]:
    limits = facts.limits
    if limits.classads is None or not facts.rooms:
        return []
    said = limits.classads.values("Disk", [a.text for a in limits.slots])
    sizes = [int(float(v)) for v in said if v is not None and re.fullmatch(r"[\d.]+(?:[eE][+-]?\d+)?", v)]
    if not sizes or s.disk_kib <= max(sizes):
        return []
    has = format_mib(max(sizes) // 1024)
    message = f"it asks for {format_mib(-(-s.disk_kib // 1024))} of disk; the executor with most has {has}"
    return [
        s.because("too-large", message, f"swarmhpc edit {{id}} --disk {has.replace(' ', '')}",
                  asked={"disk_kib": s.disk_kib}, largest={"disk_kib": max(sizes)})
    ]  # fmt: skip


# -- not now: limits and shares ----------------------------------------------------------------------------------------


def _limits(s: Subject, facts: Facts) -> list[Reason]:
    found = []
    fresh = s.rejected_at and s.now - s.rejected_at <= max(_FRESH_S, 5 * facts.interval_s)
    if fresh and (limit := _LIMIT.search(s.rejection)):
        users = dict(facts.limit_users)
        names = [n.strip() for n in limit[1].split(",")]
        shown = f": {_people(users)}" if users else ""
        if own := [n for n in names if _OF_PERSON.match(n)]:
            what = "jobs" if own[0].lower().startswith("swarmhpc_jobs") else "CPUs"
            most = f", {facts.limit_most}," if facts.limit_most else ""
            message = f"{s.owner} has as many {what}{most} as the pool allows at a time"
            evidence = {"limit": own[0], "most": facts.limit_most, "rejected_at": s.rejected_at}
            found.append(s.because("person-limit", message, "swarmhpc quota", **evidence))
        else:
            most = f", {facts.limit_most}," if facts.limit_most else ""
            message = f"the limit {', '.join(names)}{most} is reached{shown}"
            evidence = {"limits": names, "most": facts.limit_most, "in_use_by": users}
            found.append(s.because("concurrency-limit", message, "swarmhpc quota", **evidence))
    group = next((p for p in facts.people if p.name == s.account.rpartition(".")[0]), None)
    quota = group.quota_cpus if group is not None and not group.surplus else None
    if group is not None and quota is not None and group.cpus_in_use + s.cpus > quota:
        message = f"group {group.name} has {group.cpus_in_use:g} CPUs of its {quota:g}"
        evidence = {"group": group.name, "cpus_in_use": group.cpus_in_use, "quota_cpus": quota}
        found.append(s.because("group-quota", message, "swarmhpc quota", **evidence))
    if fresh and "submitter limit" in s.rejection:
        message = f"{s.owner} has their share of the pool while others wait"
        found.append(s.because("fair-share", message, "swarmhpc quota", **_order(s, facts)))
    return found


def _people(counts: Mapping[str, int]) -> str:
    """`carol 3 jobs, why 1 job and 2 more people`."""
    most = sorted(counts.items(), key=lambda c: (-c[1], c[0]))
    shown = [f"{name} {n} job{'' if n == 1 else 's'}" for name, n in most[:_MOST_NAMED]]
    more = len(most) - _MOST_NAMED
    return ", ".join(shown) + (f" and {more} more people" if more > 0 else "")


def _order(s: Subject, facts: Facts) -> dict[str, Any]:
    mine = _person(s, facts)
    ahead = [p for p in facts.people if mine and p.waiting and p.name != mine.name and p.priority < mine.priority]
    return {
        "own_jobs_ahead": facts.ahead,
        "priority": mine.priority if mine else None,
        "people_ahead": [{"name": p.name, "priority": p.priority, "idle_jobs": p.waiting} for p in ahead],
    }


def _person(s: Subject, facts: Facts) -> Person | None:
    return next((p for p in facts.people if p.name in (s.account, s.owner)), None)


# -- not now: room -----------------------------------------------------------------------------------------------------


def _capacity(s: Subject, facts: Facts) -> list[Reason]:
    hosts, classes = _fitting(s, facts)
    rooms = [r for r in facts.rooms if r.executor in hosts]
    staying = [r for r in rooms if not r.leaving]
    free = [r for r in staying if _holds(r, s)]
    if free:
        return [_soon(s, facts, free)]
    counts = Counter(r.class_name for r in staying)
    grows = _growing(s, facts, classes, counts)
    if not rooms:
        return grows or [_none(s, classes, facts)]
    if not staying:
        words = f"{_all(len(rooms), 'executor that fits', 'executors that fit')} leaving: no new jobs there"
        return [*grows, s.because("draining", words, "swarmhpc status", executors=[r.executor for r in rooms])]
    return [*grows, _busy(s, facts, rooms, classes)]


def _all(count: int, one: str, many: str) -> str:
    return f"the only {one} is" if count == 1 else f"all {count} {many} are"


def _fitting(s: Subject, facts: Facts) -> tuple[set[str], tuple[str, ...]]:
    """Hosts of executors that meet the requirements when nothing runs on them, and classes that have or may have
    such ones."""
    limits = facts.limits
    texts = [a.text for a in limits.slots]
    if limits.classads is None or not texts:
        return {r.executor for r in facts.rooms}, tuple(c.name for c in limits.classes)
    # Term by term: the language's limit for records (adapters/expressions.py) is met by what HTCondor itself adds.
    split = [t.text for t in terms(s.attributes.get("Requirements", "true"))]
    rows = [r.outcomes for r in limits.classads.evaluate(split, s.attributes, texts) if r.parses]
    machines = limits.classads.values("Machine", texts)
    fits = [all(row[i] == "true" for row in rows) for i in range(len(texts))]
    if not any(fits):  # what changes with time is false just now
        fits = [True] * len(texts)
    hosts = {(m or "").strip('"').partition(".")[0] for m, ok in zip(machines, fits, strict=True) if ok}
    return hosts, tuple(dict.fromkeys(a.class_name for a, ok in zip(limits.slots, fits, strict=True) if ok))


def _holds(r: Room, s: Subject) -> bool:
    return r.cpus >= s.cpus and r.memory_mib >= s.memory_mib and r.gpus >= s.gpus


def _soon(s: Subject, facts: Facts, free: Sequence[Room]) -> Reason:
    evidence: dict[str, Any] = {
        "executor": free[0].executor, "waiting_s": s.now - s.since, "negotiation_interval_s": facts.interval_s,
        "last_negotiation_at": facts.negotiated_at,
    }  # fmt: skip
    settled = s.now - s.since > max(_SETTLED_S, 5 * facts.interval_s)
    if settled and s.rejected_at and s.now - s.rejected_at <= max(_SETTLED_S, 5 * facts.interval_s):
        message = f"{free[0].executor} has room for it, but HTCondor does not match them ({s.rejection})"
        return s.because("no-match", message, "swarmhpc status; it may look different in some seconds", **evidence)
    new = "it is new" if not s.rejected_at else f"there is room on {free[0].executor}"
    ago = max(0, s.now - facts.negotiated_at) if facts.negotiated_at else 0
    if settled and facts.negotiated_at and ago > 5 * max(facts.interval_s, 5):
        message = f"{new}, but nothing has been matched for {format_duration_s(ago)}"
        return s.because("next-negotiation", message, "swarmhpc status", **evidence)
    message = f"{new}: the next negotiation decides, within {facts.interval_s + _HEARD_S} s"
    return s.because("next-negotiation", message, "swarmhpc q {id}", **evidence)


def _growing(s: Subject, facts: Facts, classes: Sequence[str], counts: Mapping[str, int]) -> list[Reason]:
    """What the autoscaler and Swarm say of the classes that fit."""
    scaling, found = facts.scaling, []
    sizes = {c: scaling.sizes[c] for c in classes if c in scaling.sizes}
    evidence: dict[str, Any] = {
        "autoscaler": {c: {"wanted": n, "reason": why, "registered": counts.get(c, 0)} for c, (n, why) in sizes.items()}
    }
    kinds = {"class at its maximum": "class-at-max", "no node has room": "no-node-has-room"}
    if code := kinds.get(scaling.kind):
        hint = {"class-at-max": "wait, or a higher max in swarmhpc.yaml and swarmhpc up   (on the pool's manager)",
                "no-node-has-room": "another machine, or wait until something else leaves"}[code]  # fmt: skip
        found.append(s.because(code, f"{scaling.kind}: {scaling.reason}", hint, **evidence))
    for name, (wanted, why) in sizes.items():
        if wanted > counts.get(name, 0) and not found:
            message = f"executors of class {name} are starting: {counts.get(name, 0)} of {wanted} are there ({why})"
            found.append(s.because("scaling-up", message, "swarmhpc status --watch", **evidence))
    for name in classes:
        if troubles := facts.classes_in_trouble.get(name):
            message = f"Swarm can't start executors of class {name}: {'; '.join(troubles)}"
            found.append(s.because("executors-not-starting", message, "swarmhpc status", swarm=list(troubles)))
    return found


def _none(s: Subject, classes: Sequence[str], facts: Facts) -> Reason:
    names = ", ".join(classes) or "any class"
    message = f"no executor of class {names} is in the pool just now"
    at_all = "" if facts.rooms else "; there is none at all"
    hint = _MORE.format(classes[0] if classes else "CLASS")
    return s.because("no-executors", message + at_all, hint, classes=list(classes), executors=len(facts.rooms))


def _busy(s: Subject, facts: Facts, rooms: Sequence[Room], classes: Sequence[str]) -> Reason:
    hosts = {r.executor for r in rooms if not r.leaving}
    claims = [c for c in facts.claims if c.executor in hosts]
    by = Counter(c.person for c in claims if c.job)
    between = Counter(c.person for c in claims if not c.job)  # claimed, and nothing runs there
    order = _order(s, facts)
    parts = [f"{_all(len(hosts), 'executor that fits', 'executors that fit')} busy"]
    parts[0] += f": {_people(by)}" if by else ""
    if between:
        parts.append(f"{', '.join(sorted(between))}: a job has just ended or is about to begin there")
    if facts.ahead:
        parts.append(f"{facts.ahead} of {s.owner}'s own waiting jobs come{'s' if facts.ahead == 1 else ''} first")
    if order["people_ahead"]:
        waiting = {p["name"]: p["idle_jobs"] for p in order["people_ahead"]}
        parts.append(f"people with a better priority wait too ({_people(waiting)})")
    best = max(rooms, key=lambda r: (min(r.cpus, s.cpus), min(r.memory_mib, s.memory_mib)))
    hint = _MORE.format(classes[0] if classes else "CLASS")
    if best.cpus and best.memory_mib:
        room = f"{best.cpus} CPU{'' if best.cpus == 1 else 's'} and {format_mib(best.memory_mib)}"
        parts.append(f"what is left of the freest one is {room}")
        hint = f"a smaller request would start now, or {hint}"
    return s.because(
        "slots-busy", "; ".join(parts), hint, executors=sorted(hosts), busy_with=dict(by),
        claimed_without_job=dict(between),
        left={"executor": best.executor, "cpus": best.cpus, "memory_mib": best.memory_mib, "gpus": best.gpus},
        asked={"cpus": s.cpus, "memory_mib": s.memory_mib, "gpus": s.gpus}, **order,
    )  # fmt: skip
