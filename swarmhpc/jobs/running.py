"""Rules about what a job runs: universe and image, executable, arguments, environment, network. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from swarmhpc.jobs import rules
from swarmhpc.jobs.quoting import Fault, arguments_fault, environment_fault
from swarmhpc.jobs.resources import image_problem
from swarmhpc.jobs.rule import IMAGE, Job, Rule, absolute, shown, visible

_IMAGE_DIRS: Final = ("/bin", "/sbin", "/usr", "/lib", "/lib64", "/opt", "/etc")  # of an image: never sent from here
_EXECUTOR_DIRS: Final = ("/bin", "/sbin", "/usr/bin", "/usr/sbin")
_SEPARATORS: Final = re.compile(r"[,;\s]+")  # of getenv: WhiteBlackEnvFilter, src/condor_utils/env.cpp
_SECRET_NAME: Final = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE", re.IGNORECASE)


def image(job: Job) -> None:
    """Universe and image. Without an image a job is a plain one, whatever is said; with one it runs in it."""
    command = "docker_image" if job.get("docker_image") else "container_image"
    written, given = job.get(command), (job.get("universe") or "").lower()
    universe = rules.UNIVERSE_NUMBERS.get(given, given)
    if universe in rules.UNIVERSES:
        job.say("universe", "error", "universe", f"universe {given} is not in this pool: {rules.UNIVERSES[universe]}",
                "universe = docker or universe = vanilla")  # fmt: skip
    elif universe not in ("", "vanilla", "docker", "container"):
        message = f"universe is {shown(given)}; wanted docker, container or vanilla"
        job.say("universe", "error", "universe", message)
    elif universe in ("docker", "container") and not written:
        name = "docker_image" if universe == "docker" else "container_image"
        job.say("universe", "error", "no-image", f"universe = {universe} needs an image", f"add: {name} = debian")
    why = ""
    if written and universe in ("", "vanilla"):
        why = f"{command} makes it universe = docker"
        job.say(command, "note", "implied-universe", why)
    elif universe == "container":
        why = "executors run every container with docker"
    job.set("universe", "docker" if job.is_docker else "vanilla", why)
    if written:
        _docker_name(job, command, written)
    both = job.get("docker_image"), job.get("container_image")
    if all(both) and len({_bare(b or "") for b in both}) > 1:
        job.say("container_image", "error", "two-images", "docker_image and container_image differ", "keep one")


def _bare(written: str) -> str:
    if len(written) > 2 and written[0] == written[-1] == '"':
        written = written[1:-1]
    return written.removeprefix("docker://")


def _docker_name(job: Job, command: str, written: str) -> None:
    name = _bare(written)
    job.set("docker_image", name, "" if name == written else "a name as docker knows it", command)
    problem = image_problem(visible(name) if job.world.understood or "$(" not in name else "debian")
    if problem is not None:
        job.say(command, "error", *problem)
        return
    tag = name.rpartition("/")[2].partition(":")[2]
    if "@" not in name and tag in ("", "latest"):
        seen = "has no tag, which means :latest" if not tag else "is a tag that moves"
        message = f"{shown(name)[1:-1]} {seen}; another day it may be another image"
        hint = "name a version, such as debian:12, or submit with --pin"
        job.say(command, "note", "floating-image", message, hint)


def executable(job: Job) -> None:
    """The executable: sent from here, or a file of the image's or the executor's own."""
    path, docker = job.get("executable"), job.is_docker
    if job.get("shell"):
        job.set("shell", job.get("shell") or "")
        if path:
            message = "shell is given, so HTCondor runs that and ignores executable"
            job.say("executable", "warning", "executable-ignored", message, "remove one of the two")
        return
    asked = job.boolean("transfer_executable")
    if not path:
        if not docker:
            job.say("executable", "error", "no-executable", "the job has no executable", "add: executable = job.sh")
        elif job.world.values.get("docker_override_entrypoint") is None:
            job.say(job.world.queue, "note", "entrypoint", "there is no executable: the image's entrypoint runs")
        return
    send, why = _sends(job, path, docker) if asked is None else (asked, "")
    if send:
        # HTCondor looks for it in the current directory, not in initialdir: SetExecutable, full_path(ename, false).
        path = absolute(path, str(job.world.side.cwd))
        if job.is_missing(path):
            hint = "check the path"
            if docker:
                hint = "an absolute path such as /usr/bin/python3 means the image's own file"
            job.say("executable", "error", "no-such-file", f"executable {shown(path)} does not exist here", hint)
        job.inputs = (path,)
        why = why or ("found in the current directory" if path != job.get("executable") else "")
    job.set("executable", path, why)
    job.set("transfer_executable", "true" if send else "false", why, "transfer_executable" if asked else "executable")


def _sends(job: Job, path: str, docker: bool) -> tuple[bool, str]:
    """Whether the executable travels when the file does not say, and why."""
    if path[0] != "/":
        return True, ""
    name = shown(path)[1:-1]
    if path.startswith(tuple(d + "/" for d in (_IMAGE_DIRS if docker else _EXECUTOR_DIRS))) and ".." not in path:
        why = f"{name} is the {'image' if docker else 'executor'}'s own file, not this machine's"
        hint = "write transfer_executable = true to send the one here"
        job.say("executable", "note", "executable-there", why, hint)
        return False, why
    if not job.is_missing(path):
        why = f"{name} is sent from this machine"
        job.say("executable", "note", "executable-sent", why, "write transfer_executable = false for the image's own")
        return True, why
    if not docker:
        return True, ""  # and reported as missing
    side = job.world.side
    mine = path.startswith(tuple(f"{d}/" for d in (side.cwd, side.home) if str(d) != "/"))
    why = f"{name} does not exist here; it is taken as the image's own file"
    job.say("executable", "warning" if mine else "note", "executable-there", why)
    return False, why


def _both(job: Job, name: str) -> None:
    if job.get(name) and job.get(name + "2") and (job.get(f"allow_{name}_v1") or "").lower() not in ("true", "1"):
        message = f"{name} and {name}2 are both given; HTCondor refuses the file"
        job.say(name + "2", "error", "given-twice", message, f"keep one, or add: allow_{name}_v1 = true")


def _quoted(job: Job, name: str, fault_in: Callable[[str], Fault | None], code: Callable[[Fault], str]) -> None:
    """`name` in the old syntax, and in the new one of `name`2."""
    _both(job, name)
    for spelling in (name, name + "2"):
        text = job.get(spelling)
        if text is None:
            continue
        job.set(spelling, text)
        if fault := fault_in(text):
            _report(job, spelling, code(fault), fault)


def arguments(job: Job) -> None:
    """The arguments, in either syntax."""
    _quoted(job, "arguments", arguments_fault, lambda _: "unbalanced")
    if job.get("shell") and (job.get("arguments") or job.get("arguments2")):
        job.say("arguments", "warning", "arguments-ignored", "shell is given, so HTCondor ignores arguments",
                "put them into the shell command")  # fmt: skip


def environment(job: Job) -> None:
    """The environment, in either syntax."""
    _quoted(
        job,
        "environment",
        environment_fault,
        lambda fault: "unbalanced" if "closed" in fault.message else "bad-environment",
    )


def _report(job: Job, name: str, code: str, fault: Fault) -> None:
    place = job.place(name, fault.offset)
    job.say(place, "error" if fault.serious else "warning", code, fault.message, fault.hint)


def getenv(job: Job) -> None:
    """The variables that go along from here: those that are named, never all."""
    text = job.get("getenv")
    if not text or text.lower() in ("false", "no", "f", "n", "0"):
        return
    names = [n for n in _SEPARATORS.split(text) if n]
    wanted = [n for n in names if not n.startswith("!")]
    everything = any(n.strip("*") == "" for n in wanted) or not wanted  # only `!NAME`: all the others
    if text.lower() in ("true", "yes", "t", "y", "1") or everything:
        message = "getenv would send your whole environment, passwords and tokens in it too"
        hint = "list the variables the job needs: getenv = LANG, OMP_NUM_THREADS"
        job.say("getenv", "error", "whole-environment", message, hint)
    elif secret := next((n for n in wanted if _SECRET_NAME.search(n)), None):
        message = f"{shown(secret)[1:-1]} looks like a secret, and everybody who may read the queue can read it"
        job.say("getenv", "warning", "secret-environment", message, "hand the job a token of its own, as a file")
    job.set("getenv", text)


def network(job: Job) -> None:
    """The container's network."""
    text = job.get("docker_network_type")
    if not text or not job.is_docker:
        return
    if text.lower() == "host" and not job.world.limits.allow_host_network:
        message = (
            "docker_network_type = host opens the executor's whole network to the job; this pool does not allow it"
        )
        hint = "set jobs.allow_host_network: true in swarmhpc.yaml and run swarmhpc up, or remove the line"
        job.say("docker_network_type", "error", "host-network", message, hint)
    elif text.lower() not in ("host", "none", "bridge", "nat"):
        message = f"docker_network_type is {shown(text)}; wanted none, bridge or host"
        job.say("docker_network_type", "error", "bad-value", message)
    job.set("docker_network_type", text.lower())


FIRST: Final = (Rule(IMAGE, image),)
RULES: Final = (
    Rule((*IMAGE, "executable", "transfer_executable", "shell"), executable),
    Rule(("arguments", "arguments2", "allow_arguments_v1", "shell"), arguments),
    Rule(("environment", "environment2", "allow_environment_v1"), environment),
    Rule(("getenv",), getenv),
    Rule((*IMAGE, "docker_network_type"), network),
)
