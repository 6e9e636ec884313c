"""Rules about every other command, which stand in the tables of `rules`, and about attributes. Pure."""

from __future__ import annotations

import re
import signal
from typing import Final

from swarmhpc.jobs import rules
from swarmhpc.jobs.commands import canonical
from swarmhpc.jobs.rule import IMAGE, Job, Rule, shown

_WORD: Final = re.compile(r"[A-Za-z_]\w*+|\"[^\"]*+\"|'[^']*+'")
_NUMBER: Final = re.compile(r"[0-9]{1,3}")
_LITERALS: Final = ("true", "false")
_SIGNAL_NAMES: Final = frozenset(signal.Signals.__members__)


def other(name: str) -> Rule:
    """The rule for a command that no other rule handles: passed on, left out with a finding, or refused."""

    def apply(job: Job) -> None:
        text = job.get(name) or ""
        if name in rules.PASSED or name.startswith("require_"):
            if name.startswith("docker_") and not job.is_docker:
                return
            job.set(name, text)
            if text:
                _check(job, name, text)
        elif not text:
            return  # an empty command has no effect
        elif name in rules.DROPPED:
            if name == "notification" and text.lower() not in ("never", "always", "complete", "error"):
                job.say(name, "error", "bad-value", f"notification is {shown(text)}", "remove the line")
            elif name != "notification" or text.lower() != "never":
                job.say(name, "note", "left-out", f"{name} is left out: {rules.DROPPED[name]}")
        elif name in rules.MISSING:
            job.say(name, "warning", "left-out", f"{name} is left out: {rules.MISSING[name]}")
        elif text.lower() in ("false", "no") or (name in ("machine_count", "node_count") and text == "1"):
            return  # switched off, or the only value there is here
        else:
            prefix = next((p for p in rules.REFUSED_PREFIXES if name.startswith(p)), "")
            why = rules.REFUSED.get(name) or rules.REFUSED_PREFIXES.get(prefix, "it has no meaning in this pool")
            job.say(name, "error", "refused", f"{name} cannot be used here: {why}", f"remove the line with {name}")

    return Rule((name, *IMAGE) if name.startswith("docker_") else (name,), apply)


def attribute(name: str) -> Rule:
    """The rule for ``+Name``; `name` in the file's spelling."""
    key, lower = "+" + name, name.lower()

    def apply(job: Job) -> None:
        text = job.get(key) or ""
        if is_trusted(lower):
            command = canonical(lower)
            hint = f"use the command {command}" if command else "remove the line"
            message = f"{key} is an attribute that the pool relies on; a description may not set it"
            job.say(key, "error", "trusted-attribute", message, hint)
        elif text == "":
            why = f"{key} has no value: HTCondor makes it undefined"
            if "$" not in job.world.values[key].text:  # a row may leave it empty
                job.say(key, "note", "empty-attribute", why)
            job.set(key, "undefined", why)
        else:
            job.set(key, text)
            job.expression(key, text)

    return Rule((key,), apply)


def is_trusted(lower: str) -> bool:
    """True for an attribute (lower case) that swarmhpc, HTCondor's security or the docker shim rely on."""
    if lower in rules.HARMLESS_ATTRIBUTES:
        return False
    is_ours = lower in rules.TRUSTED_ATTRIBUTES or lower.startswith(rules.TRUSTED_PREFIXES)
    return is_ours or canonical(lower) is not None


def _check(job: Job, name: str, text: str) -> None:
    """What HTCondor refuses too: it would be told only when the jobs are submitted."""
    if name in rules.EXPRESSIONS or name.startswith("require_"):
        job.expression(name, text)
    elif name in rules.BOOLEANS and text.lower() not in _LITERALS and _WORD.fullmatch(text):
        message = f"{name} is {shown(text)}; wanted true or false"
        job.say(name, "error", "no-boolean", message, f"write {name} = true")
    elif name in rules.INTEGERS and (_WORD.fullmatch(text) or (name == "image_size" and text.startswith("-"))):
        job.say(name, "error", "no-quantity", f"{name} is {shown(text)}; wanted a whole number", f"write {name} = 1")
    elif name in rules.SIGNALS and not _NUMBER.fullmatch(text) and text.strip('"').upper() not in _SIGNAL_NAMES:
        message = f"{name} is {shown(text)}; wanted a signal"
        job.say(name, "error", "bad-value", message, f"write {name} = SIGTERM")


def _quiet(job: Job) -> None:
    job.set("notification", "never", "the pool sends no mail")


def _limits(job: Job) -> None:
    if job.get("concurrency_limits") and job.get("concurrency_limits_expr"):
        message = "concurrency_limits and concurrency_limits_expr are both given; HTCondor refuses the file"
        job.say("concurrency_limits_expr", "error", "two-limits", message, "keep one")


def _materialize(job: Job) -> None:
    for name in ("max_materialize", "max_idle"):
        text = job.get(name)
        if text and not text.isdecimal():
            message = f"{name} is {shown(text)}; wanted a whole number"
            job.say(name, "error", "no-quantity", message, f"write {name} = 100")


RULES: Final = (
    Rule((), _quiet),
    Rule(("concurrency_limits", "concurrency_limits_expr"), _limits),
    Rule(("max_materialize", "max_idle"), _materialize),
)
