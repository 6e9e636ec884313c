"""The rule about requirements: terms that no executor can ever meet are found, and dropped when asked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarmhpc.jobs.findings import short
from swarmhpc.jobs.requirements import adapted, judge
from swarmhpc.jobs.resources import REQUESTS, is_expression
from swarmhpc.jobs.rule import Job, Rule

NAME: Final = "requirements"
# What a job's own attributes are made of, as far as they can matter for a match.
_ATTRIBUTES: Final = {
    "request_cpus": "RequestCpus",
    "request_memory": "RequestMemory",
    "request_disk": "RequestDisk",
    "request_gpus": "RequestGPUs",
}


def rule(raw: str, attributes: Sequence[str]) -> Rule:
    """The rule for this raw value; it reads those of `attributes` (+Name) that the value may mention."""
    named = tuple(a for a in attributes if "$" in raw or a[1:].lower() in raw.lower())
    return Rule((NAME, *_ATTRIBUTES, *named), lambda job: _requirements(job, named))


def _requirements(job: Job, named: Sequence[str]) -> None:
    text = job.get(NAME) or ""
    limits = job.world.limits
    if limits.classads is None or not limits.slots or not text or not job.world.understood:
        job.set(NAME, text)
        job.expression(NAME, text)
        return
    known = {attribute: _number(name, job.get(name) or "") for name, attribute in _ATTRIBUTES.items()}
    known.update({a[1:]: job.get(a) or "" for a in named})
    found = judge(text, job={k: v for k, v in known.items() if v}, slots=limits.slots, classads=limits.classads)
    if found.problem:
        job.set(NAME, text)
        place = job.place(NAME, found.problem_offset)
        job.say(place, "error", "bad-expression", f"requirements: {found.problem}", "it has to be a ClassAd expression")
        return
    why = ""
    for verdict in found.verdicts:
        if verdict.classes:
            continue
        place = job.place(NAME, verdict.term.offset)
        seen = f" ({verdict.seen})" if verdict.seen else ""
        if limits.adapt:
            why = "terms that can never match here are dropped"
            message = f"dropped from requirements: {short(verdict.term.text)[1:-1]}, which can never match here{seen}"
            job.say(place, "note", "adapted", message)
        else:
            message = f"{short(verdict.term.text)[1:-1]} can never match in this pool: {verdict.why}{seen}"
            job.say(place, "error", "never-matches", message, "remove it, or use --adapt, which drops exactly this")
    if found.conflict:
        names = ", ".join(short(t.text)[1:-1] for t in found.conflict)
        message = f"no executor class meets all of these together: {names}"
        job.say(NAME, "error", "never-matches", message, "remove one of them")
    job.set(NAME, adapted(text, found.never) if limits.adapt else text, why)


def _number(name: str, text: str) -> str:
    """A quantity as the job's attribute has it; an expression as it is."""
    if name not in REQUESTS:
        return text
    try:
        return str(REQUESTS[name].read(text))
    except ValueError:
        return text if is_expression(text) else ""
