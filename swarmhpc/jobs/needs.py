"""Rules about what a job needs: CPUs, memory, disk, GPUs and other resources. Pure."""

from __future__ import annotations

from typing import Final

from swarmhpc.jobs.commands import likeliest
from swarmhpc.jobs.findings import short
from swarmhpc.jobs.resources import REQUESTS, is_expression, too_large
from swarmhpc.jobs.rule import Job, Rule, shown

GPU_COMMANDS: Final = (
    "require_gpus", "cuda_version", "gpus_minimum_memory", "gpus_minimum_capability", "gpus_maximum_capability",
    "gpus_minimum_runtime",
)  # fmt: skip


def sizes(job: Job) -> None:
    """CPUs, memory and disk, with the pool's defaults, and whether any class has that much."""
    limits, asked = job.world.limits, {"request_cpus": 1}
    defaults = (limits.default_cpus, limits.default_memory_mib, limits.default_disk_kib)
    for (name, request), default in zip(REQUESTS.items(), defaults, strict=True):
        text = job.get(name)
        if text and text.lower() != "undefined":
            number = _quantity(job, name, text)
            if number is not None:
                asked[name] = number
        elif default is not None:
            message = f"{name} is not given: {default}{request.unit}"
            job.set(name, str(default), message)
            job.say(job.world.queue, "note", "default-" + name, message)
    gpus = job.get("request_gpus") or "0"
    classes = limits.classes
    if gpus.isdecimal() and int(gpus) > 0 and any(c.gpus >= int(gpus) for c in classes):
        classes = tuple(c for c in classes if c.gpus >= int(gpus))
    for name, message, hint in too_large(asked, classes):
        job.say(name, "error", "request-too-large", message, hint)


def _quantity(job: Job, name: str, text: str) -> int | None:
    """CPUs, MiB or KiB. None for an expression, and for what is no quantity, which is reported."""
    request = REQUESTS[name]
    try:
        number = request.read(text)
    except ValueError:
        number = 0
    if number >= 1:
        # Written in HTCondor's own unit, so that 1.5 G means the same everywhere.
        plain = str(number)
        job.set(name, plain, "" if plain == text else f"{text} in HTCondor's own unit")
        return number
    if not job.world.understood:
        return None
    if is_expression(text):
        job.set(name, text)
        job.expression(name, text)
        message = f"{name} is the expression {short(text)}: whether an executor can meet it is not checked"
        job.say(name, "warning", "unchecked-expression", message)
        return None
    hint = "move the comment to a line of its own" if "#" in text else f"write {name} = {request.example}"
    job.say(name, "error", "no-quantity", f"{name} is {shown(text)}; wanted {request.wanted}", hint)
    return None


def gpus(job: Job) -> None:
    """GPUs, and what they have to be like."""
    text = job.get("request_gpus")
    if not text or text == "0" or text.lower() == "undefined":
        for name in GPU_COMMANDS:
            if job.get(name):
                message = f"{name} is left out: the job asks for no GPU"
                job.say(name, "note", "left-out", message, "add: request_gpus = 1")
        return
    classes = job.world.limits.classes
    most = max((c.gpus for c in classes), default=0)
    if classes and (not most or (text.isdecimal() and int(text) > most)):
        has = f"the executors of this pool have at most {most}" if most else "no executor class of this pool has any"
        message = f"the job asks for {shown(text)[1:-1]} GPUs, and {has}"
        job.say("request_gpus", "error", "no-gpus", message, "ask for less" if most else "remove request_gpus")
    if not text.isdecimal() and not is_expression(text) and job.world.understood:
        message = f"request_gpus is {shown(text)}; wanted a number of GPUs"
        job.say("request_gpus", "error", "no-quantity", message, "write request_gpus = 1")
    job.set("request_gpus", text)
    for name in GPU_COMMANDS:
        given = job.get(name)
        if given:
            job.set(name, given)
            if name == "require_gpus":
                job.expression(name, given)


def custom(name: str) -> Rule:
    """The rule for ``request_<name>`` of a resource that HTCondor has no command of its own for."""

    def apply(job: Job) -> None:
        text = job.get(name)
        if not text or text == "0" or text.lower() == "undefined":
            return
        job.set(name, text)
        if close := likeliest(name):
            message = f"HTCondor reads {name} as a request for a resource of that name"
            job.say(name, "warning", "own-resource", message, f"did you mean {close}?")
        resource, classes = name.removeprefix("request_").lower(), job.world.limits.classes
        most = max((c.others.get(resource, 0) for c in classes), default=0)
        if classes and (not most or (text.isdecimal() and int(text) > most)):
            has = f"at most {most}" if most else "none"
            message = f"the job asks for {shown(text)[1:-1]} of {resource}, and the executors of this pool have {has}"
            job.say(name, "error", "no-resource", message, "ask for less" if most else f"remove {name}")

    return Rule((name,), apply)


RULES: Final = (
    Rule((*REQUESTS, "request_gpus"), sizes),
    Rule(("request_gpus", *GPU_COMMANDS), gpus),
)
