"""Which parts of a job's requirements no slot of this pool satisfies, term by term. Pure.

The ClassAd language itself is handed in (`swarmhpc.adapters.expressions.ClassAds`): parsing and evaluating are
HTCondor's own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from swarmhpc.jobs.findings import short
from swarmhpc.jobs.requirement_terms import LONGEST, Term, UnbalancedError, adapted, pieces, structure, terms

__all__ = ["ClassAds", "Evaluated", "Judgement", "SlotAd", "Term", "Verdict", "adapted", "judge", "terms"]

Outcome = Literal["true", "false", "undefined", "error"]


class Evaluated(Protocol):
    """adapters.expressions.Evaluated."""

    @property
    def parses(self) -> bool:
        """False: nothing else is known."""

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """One a slot."""

    @property
    def references(self) -> Sequence[str]:
        """Attributes it names, with their scope `TARGET.`."""

    @property
    def reached(self) -> Sequence[str]:
        """Attributes that its value depends on."""

    @property
    def unfit(self) -> Sequence[str]:
        """Those of them that were left out because they are too large."""


class ClassAds(Protocol):
    """adapters.expressions.ClassAds."""

    def parses(self, text: str) -> bool:
        """Whether it is one expression."""

    def evaluate(self, texts: Sequence[str], job: Mapping[str, str], slots: Sequence[str]) -> Sequence[Evaluated]:
        """Each text for a job with these attributes."""

    def values(self, name: str, slots: Sequence[str]) -> Sequence[str | None]:
        """An attribute of each slot."""


@dataclass(frozen=True)
class SlotAd:
    """A partitionable slot. `text`: the whole ad as the bindings print it. `unknown`: attributes that the text does not
    have because it is a model of a class without executors; lower case, `*` at the end stands for any rest."""

    class_name: str
    text: str = field(repr=False)
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """`classes`: those with a slot that satisfies the term, or may (`judged` is false then: nothing is known for sure).
    Empty: never. `seen`: what the term was compared with; `why`: what came out. Both are words for a message."""

    term: Term
    classes: tuple[str, ...]
    seen: str
    why: str
    judged: bool = True


@dataclass(frozen=True)
class Judgement:
    """What is known of an expression. `classes`: those that satisfy it whole; `remaining`: those that do without the
    terms in `never`; `conflict`: terms that a slot can satisfy each, but none all of them (as few as say it)."""

    verdicts: tuple[Verdict, ...] = ()
    classes: tuple[str, ...] = ()
    remaining: tuple[str, ...] = ()
    conflict: tuple[Term, ...] = ()
    problem: str = ""  # why it is no expression; nothing else is known then
    problem_offset: int = 0

    @property
    def never(self) -> tuple[Term, ...]:
        """Terms that no slot satisfies: what `--adapt` leaves out."""
        return tuple(v.term for v in self.verdicts if v.judged and not v.classes)


CHANGING: Final = re.compile(
    r"activity|state|entered\w*|current(rank|time)|my(currenttime|address)|last(heardfrom|benchmark|drain\w*)|"
    r"\w*loadavg|keyboardidle|consoleidle|clock(day|min)|\w*disk|\w*virtualmemory|lvmnoncondor\w*|"
    r"\w*draining\w*|claimendtime|cleanup\w*|retirementtimeremaining|offline|unhibernate|\w*broken\w*|"
    r"(recent)?job(starts|preemptions|rankpreemptions|userpriopreemptions)|(recent)?job(busytime|duration)\w+|"
    r"avgtransfer\w+|totaltransfer\w+|totaltime\w+|total(claim|job)(run|suspend)time|monitorself\w+|daemon\w+time|"
    r"updates\w*|updatesequencenumber|statslifetime\w*|child\w+|pslotrollup\w*|numdynamicslots\w*|totalslots|"
    r"client\w+|remote\w+|preempting\w+|job(id|start)|machinelastmatchtime|lastperiodiccheckpoint|"
    r"available\w+|dockercachedimagesizemb|device\w+usage|\w+(boardtempc|dietempc|fanspeedpct|eccerrors\w+bit)|"
    r"swarmhpc(node|task)"
)
"""Attributes of slots whose values change with time or load, or when executors come and go, so that what is false now
may be true later (HTCondor 25 manual, Machine ClassAd Attributes). Memory, Cpus and GPUs are not among them: they are
taken as an executor has them on which nothing runs."""

_OF_JOB: Final = re.compile(
    r"absent|acctgroup(user)?|activation\w+|all(owed(execute|job)duration|remotehosts)|args|arguments|authtoken\w+|"
    r"batch\w+|(recent)?block(read|write)\w+|clusterid|procid|cmd|committed\w+|completiondate|cumulative\w+|"
    r"currenthosts|dag\w+|deferral\w+|diskusage|dockerimage|containerimage|emailattributes|env|environment|"
    r"executablesize|exit\w+|iwd|globaljobid|grid\w+|hold\w+|imagesize|iowait|firstjobmatchdate|"
    r"job(batchname|current\w+|leaseduration|materialize\w+|prio|runcount|startdate|status|submit\w+|universe)|"
    r"killsig\w*|last(match|rejmatch|remote|shadow|suspension|vacate)\w+|machineattr\w+|m(ax|in)hosts|"
    r"memoryusage|nextjobstartdelay|niceuser|num(holds|job|input|output|pids|restarts|shadow|system|vacates)\w*|"
    r"osuser|owner|user|proportionalsetsizekb|qdate|releasereason|removereason|request(cpus|disk|memory|gpus)|"
    r"residentsetsize\w*|servertime|stdoutmtime|stderrmtime|submitter\w+|total(suspensions|jobreconnectattempts)|"
    r"transfer\w+|userlog|vacatereason\w*|x509\w+|cpususage|\w+provisioned"
)
"""Attributes that HTCondor gives to a job by itself (25 manual, Job ClassAd Attributes); they differ from job to job
and from day to day."""

_FUNCTIONS: Final = re.compile(
    r"\b(currenttime\b|(?:time|currenttime|daytime|formattime|abstime|timezoneoffset|random|userhome|usermap)\s*\()",
    re.IGNORECASE,
)
"""Functions (25.14, src/classad/fnCall.cpp) that tell the time, chance or the machine they are evaluated on; and the
attribute CurrentTime, which is HTCondor's own and in no ad."""


def judge(expression: str, *, job: Mapping[str, str], slots: Sequence[SlotAd], classads: ClassAds) -> Judgement:
    """What slots make of a job's requirements. `job`: its attributes (RequestCpus, +Attr) as expressions, as in the
    submit description; what HTCondor itself adds to a job need not be there. Without slots nothing is judged."""
    if not expression.strip():
        names = _classes(slots, range(len(slots)))
        return Judgement(classes=names, remaining=names)
    if (problem := _problem(expression, classads)) is not None:
        return Judgement(problem=problem[0], problem_offset=problem[1])
    parts = terms(expression)
    results = classads.evaluate([t.text for t in parts], job, [s.text for s in slots])
    given = {name.lower() for name in job}
    verdicts, fitting = [], []
    for term, result in zip(parts, results, strict=True):
        open_reason = "there is no slot to compare with" if not slots else _changing(term, result, given)
        sure = {i for i, o in enumerate(result.outcomes) if o == "true"}
        unknown = {i for i, s in enumerate(slots) if _is_unknown(s, result)}
        fits = set(range(len(slots))) if open_reason else sure | unknown
        fitting.append(fits)
        judged = bool(sure) or (bool(slots) and not fits)
        reason = (
            open_reason
            or f"class {', '.join(_classes(slots, unknown))} has no executor: what it would say is not known"
        )
        verdicts.append(
            Verdict(
                term,
                _classes(slots, fits),
                _seen(term, result, given, job, slots, classads) if not sure else "",
                "" if sure else _why(result) if judged else reason,
                judged,
            )
        )
    possible = [f for f in fitting if f]
    remaining = set(range(len(slots))).intersection(*possible)
    classes = remaining if len(possible) == len(fitting) else set()
    conflict = () if remaining or not possible else _conflict(parts, fitting)
    return Judgement(tuple(verdicts), _classes(slots, classes), _classes(slots, remaining), conflict)


def _classes(slots: Sequence[SlotAd], which: Collection[int]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s.class_name for i, s in enumerate(slots) if i in which))


def _conflict(parts: Sequence[Term], fitting: Sequence[set[int]]) -> tuple[Term, ...]:
    """Few terms whose slots have none in common: each one is needed for that."""
    alike = {frozenset(f): term for term, f in reversed(list(zip(parts, fitting, strict=True))) if f}
    for one in list(alike):
        rest = [f for f in alike if f != one]
        if rest and not frozenset.intersection(*rest):
            del alike[one]
    return tuple(sorted(alike.values(), key=lambda t: t.offset))


_SINGLE_EQUALS: Final = re.compile(r"(?<![=!<>?])=(?![=?!])")
_WORDS: Final = re.compile(r"\b(and|or|not)\b", re.IGNORECASE)


def _problem(expression: str, classads: ClassAds) -> tuple[str, int] | None:
    """Why this is no expression, and where."""
    if len(expression) > LONGEST:
        return f"it has {len(expression)} characters; no more than {LONGEST} are looked at", 0
    try:
        clean, top = structure(expression)
    except UnbalancedError as e:
        return e.problem, e.offset
    if classads.parses(clean):
        return None
    parts = pieces(clean, top)
    if (empty := next((t for t in parts if not t.text), None)) is not None:
        return "one side of && is missing", empty.offset
    term = next((t for t in parts if not classads.parses(t.text)), None)
    if term is None:
        return "its parentheses are nested deeper than HTCondor reads them", 0
    plain = re.sub(r'"[^"]*"', lambda m: '"' + " " * (len(m[0]) - 2) + '"', term.text)
    if "$$" in plain:
        return f"{short(term.text)}: $$() is replaced after a match only, requirements can't use it", term.offset
    if found := _SINGLE_EQUALS.search(plain):
        return "= compares nothing; equal is ==", term.offset + found.start()
    if found := _WORDS.search(plain):
        operator = {"and": "&&", "or": "||", "not": "!"}[found[1].lower()]
        return f"{found[1]} is no operator here; write {operator}", term.offset + found.start()
    return f"{short(term.text)} is no ClassAd expression", term.offset


def _plain(reference: str) -> str:
    head, dot, rest = reference.partition(".")
    return (rest if dot and head.lower() in ("target", "other", "my") else reference).partition(".")[0]


def _changing(term: Term, result: Evaluated, given: Collection[str]) -> str:
    """Why a term that is not satisfied now may be later; "": it can't."""
    if not result.parses:
        return "it is too large to evaluate"
    if found := _FUNCTIONS.search(re.sub(r'"[^"]*"', '""', term.text)):
        return f"{found[1].rstrip('( ')} changes with time or place"
    if result.unfit:
        return f"{min(result.unfit)} of the job is too large to evaluate"
    for name in result.reached:
        if CHANGING.fullmatch(name.lower()):
            return f"{name} changes with time"
        if name.lower() not in given and _OF_JOB.fullmatch(name.lower()):
            return f"{name} is known of a submitted job only"
    return ""


def _is_unknown(slot: SlotAd, result: Evaluated) -> bool:
    exact = {u for u in slot.unknown if not u.endswith("*")}
    starts = tuple(u[:-1] for u in slot.unknown if u.endswith("*"))
    return any(n in exact or n.startswith(starts) for n in map(str.lower, result.reached))


_MOST_SHOWN: Final = 3
_LONGEST_SHOWN: Final = 60


def _seen(
    term: Term,
    result: Evaluated,
    given: Collection[str],
    job: Mapping[str, str],
    slots: Sequence[SlotAd],
    classads: ClassAds,
) -> str:
    """What a term was compared with, for each of the first attributes it names."""
    texts = [s.text for s in slots]
    said: dict[str, str] = {}
    for reference in result.references:
        name = _plain(reference)
        if name.lower() in said or len(said) == _MOST_SHOWN:
            continue
        of_job = re.search(rf"(?i)(?<![\w.])my\s*\.\s*{re.escape(name)}\b", term.text) is not None
        is_target = reference.lower().startswith(("target.", "other."))
        if name.lower() in given and not is_target:
            value = next(v for k, v in job.items() if k.lower() == name.lower())
            said[name.lower()] = f"{name} of the job is {_cut(value)}"
            continue
        values = [] if of_job else [v for v in dict.fromkeys(classads.values(name, texts)) if v is not None]
        if of_job:
            said[name.lower()] = f"the job has no attribute {name}"
        elif not values:
            said[name.lower()] = f"the slots have no attribute {name}"
        else:
            more = [f"{len(values) - _MOST_SHOWN} others"] if len(values) > _MOST_SHOWN else []
            said[name.lower()] = f"{name} is {' or '.join([_cut(v) for v in values[:_MOST_SHOWN]] + more)} here"
    return "; ".join(said.values())


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def _why(result: Evaluated) -> str:
    kinds = set(result.outcomes)
    if kinds == {"error"}:
        return (
            "it is an error for every slot (a comparison of different kinds, or a function that can't use its values)"
        )
    if kinds == {"undefined"}:
        return "it is undefined for every slot, which does not match"
    return " or ".join(["it is false", *sorted(kinds - {"false"})]) + " for every slot"
