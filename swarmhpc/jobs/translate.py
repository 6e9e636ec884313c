"""From a submit description to what this pool is given: flat commands, item data, files and findings.

Pure: facts about the pool and the submitting machine come in as arguments. Each value is worked out once as a text
with marks (see `macros`) and filled in per job only where it differs. Nothing is dropped without a finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from swarmhpc.jobs import rules
from swarmhpc.jobs.commands import canonical
from swarmhpc.jobs.description import Description, Value, expanded
from swarmhpc.jobs.findings import Finding, Findings, Place, Severity, short
from swarmhpc.jobs.macros import CLUSTER_MARK, PROCESS_MARK, for_job, is_unsayable, submit_language
from swarmhpc.jobs.resources import REQUESTS, ClassSize, Limits, image_problem, is_expression, too_large

__all__ = [
    "ClassSize",
    "JobFiles",
    "Limits",
    "SubmitSide",
    "Translation",
    "flat_text",
    "translate",
    "variable",
]

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BOOLEANS: Final = {"true": True, "yes": True, "t": True, "y": True, "1": True}
_BOOLEANS.update({"false": False, "no": False, "f": False, "n": False, "0": False})
_IMAGE_DIRS: Final = ("/bin", "/sbin", "/usr", "/lib", "/lib64", "/opt", "/etc")  # of an image: never sent from here
_EXECUTOR_DIRS: Final = ("/bin", "/sbin", "/usr/bin", "/usr/sbin")


@dataclass(frozen=True)
class SubmitSide:
    """The submitting machine. `exists` is a look-up, so that this module does no I/O."""

    cwd: PurePosixPath
    home: PurePosixPath
    exists: Callable[[PurePosixPath], bool]


@dataclass(frozen=True)
class JobFiles:
    """Absolute paths here for one job; ``$(Cluster)`` may stand in them. `inputs`: all that is sent, URLs left out."""

    output: str | None
    error: str | None
    log: str | None
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Translation:
    """What to submit. With any error among `findings` everything else is empty.

    Values are submit language: a literal ``$`` that would begin a macro is ``$(DOLLAR)``, ``$(Cluster)`` is HTCondor's
    to fill in. `rows[i]` holds job i's values of the commands named in `varying`; `common` is the same for all jobs.
    """

    common: Mapping[str, str]
    varying: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    jobs: tuple[JobFiles, ...]
    findings: tuple[Finding, ...]


def variable(name: str) -> str:
    """The item variable that carries the value of the varying command `name`."""
    return "swarmhpc_" + name.removeprefix("+")


def flat_text(translation: Translation) -> str:
    """The text for ``htcondor2.Submit``, without a queue line. A varying command refers to its `variable`."""
    lines = [f"{name} = {value}" for name, value in translation.common.items()]
    lines += [f"{name} = $({variable(name)})" for name in translation.varying]
    return "".join(line + "\n" for line in lines)


def translate(description: Description, *, limits: Limits | None, side: SubmitSide) -> Translation:
    """Adapt a description to this pool. Never raises; `limits` None leaves out what needs a pool."""
    work = _Work(description, limits, side)
    work.run()
    findings = work.findings.sorted()
    if work.findings.errors or not description.count:
        return Translation({}, (), (), (), findings)
    flat = {name: submit_language(text) for name, text in work.flat.items()}
    if description.count == 1:
        flat = {name: text.replace(PROCESS_MARK, "0") for name, text in flat.items()}
    varying = tuple(name for name, text in flat.items() if PROCESS_MARK in text)
    common = {name: text for name, text in flat.items() if name not in varying}
    count = range(description.count)
    rows = tuple(tuple(flat[name].replace(PROCESS_MARK, str(i)) for name in varying) for i in count)
    return Translation(common, varying, rows, tuple(work.job_files(i) for i in count), findings)


class _Work:
    """One translation. `flat` collects commands with marked values in the order they are submitted."""

    def __init__(self, description: Description, limits: Limits | None, side: SubmitSide) -> None:
        self.description = description
        self.limits = limits if limits is not None else Limits(classes=())
        self.side = side
        self.findings = Findings(description.findings)
        self.partial = any(f.code in ("not-yet", "would-run-command") for f in description.findings)
        self.flat: dict[str, str] = {}
        self.inputs: list[str] = []  # marked absolute paths of all that is sent
        self.standard: dict[str, str | None] = {"output": None, "error": None, "log": None}
        self.initialdir = str(side.cwd)
        self.values: dict[str, tuple[Value, str]] = {}
        for key, value in description.commands.items():
            name = canonical(key)
            text = None if name is None else expanded(description, value)
            # HTCondor prefers a command over its other spellings.
            if name is not None and text is not None and (name == key or name not in self.values):
                self.values[name] = (value, text)

    def run(self) -> None:
        """All steps, in the order in which the flat text is written."""
        docker = self._universe_and_image()
        self._initialdir()
        self._executable(docker)
        for name in ("arguments", "environment"):
            self._pass(name)
        self._getenv()
        self._input()
        self._transfer_input_files()
        for name in self.standard:
            self._standard_file(name)
        self._resources()
        self._fixed()
        self._network(docker)
        for name in self.values:
            self._other(name, docker)
        self._attributes()
        for name, text in self.flat.items():
            if is_unsayable(text):
                message = f"{name} combines $ and parentheses in a way that HTCondor would read differently"
                self._say(
                    self._place(name.removeprefix("+")),
                    "error",
                    "many-dollars",
                    message,
                    "put it into a script and run that",
                )
            if text.endswith("\\"):
                place = self._place(name.removeprefix("+"))
                self._say(place, "error", "trailing-backslash", f"{name} ends with a backslash, which would join lines")

    # -- small helpers

    def _say(self, place: Place, severity: Severity, code: str, message: str, hint: str = "") -> None:
        self.findings.add(place, severity, code, message, hint)

    def _get(self, name: str) -> str | None:
        return self.values[name][1] if name in self.values else None

    def _place(self, name: str) -> Place:
        return self.values[name][0].place if name in self.values else self.description.queue

    def _each(self, text: str) -> Iterator[str]:
        """`text` as each job has it, each different text once. Nothing where the file is only half understood."""
        if self.partial:
            return
        if PROCESS_MARK not in text:
            yield for_job(text, process=0)
            return
        for process in range(self.description.count):
            yield for_job(text, process=process)

    def _pass(self, name: str) -> None:
        text = self._get(name)
        if text is not None:
            self.flat[name] = text

    def _boolean(self, name: str) -> bool | None:
        text = self._get(name)
        if not text:
            return None
        if text.lower() not in _BOOLEANS:
            self._say(self._place(name), "error", "no-boolean", f"{name} is {short(text)}; wanted true or false")
            return None
        return _BOOLEANS[text.lower()]

    def _absolute(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.initialdir.rstrip('/')}/{path.removeprefix('./')}"

    def _missing(self, path: str) -> str | None:
        """The first of the paths that `path` stands for which does not exist here, or None. Match time is not known."""
        for one in self._each(path):
            if "$$" not in one and (CLUSTER_MARK in path or not self.side.exists(PurePosixPath(one))):
                return one
        return None

    # -- what to run

    def _universe_and_image(self) -> bool:
        """Writes universe and image. True for docker."""
        image_command = "docker_image" if self._get("docker_image") else "container_image"
        image = self._get(image_command)
        place = self._place("universe")
        given = (self._get("universe") or "").lower()
        universe = rules.UNIVERSE_NUMBERS.get(given, given)
        if universe in rules.UNIVERSES:
            self._say(place, "error", "universe", f"universe {given} is not in this pool: {rules.UNIVERSES[universe]}",
                      "universe = docker or universe = vanilla")  # fmt: skip
        elif universe not in ("", "vanilla", "docker", "container"):
            seen = "differs between jobs" if PROCESS_MARK in universe else f"is {short(given)}"
            self._say(place, "error", "universe", f"universe {seen}; wanted docker, container or vanilla")
        elif universe == "vanilla" and image:
            message = f"universe = vanilla ignores {image_command} = {short(image)[1:-1]}"
            self._say(self._place(image_command), "error", "universe-image", message, "write universe = docker")
        elif universe in ("docker", "container") and not image:
            name = "docker_image" if universe == "docker" else "container_image"
            self._say(place, "error", "no-image", f"universe = {universe} needs an image", f"add: {name} = debian")
        if image and universe == "":
            self._say(
                self._place(image_command), "note", "implied-universe", f"{image_command} makes it universe = docker"
            )
        docker = bool(image) or universe in ("docker", "container")
        self.flat["universe"] = "docker" if docker else "vanilla"
        if image:
            self._image(image_command, image)
        both = self._get("docker_image"), self._get("container_image")
        if all(both) and len({(b or "").removeprefix("docker://") for b in both}) > 1:
            self._say(self._place("container_image"), "error", "two-images", "docker_image and container_image differ")
        return docker

    def _image(self, command: str, image: str) -> None:
        place = self._place(command)
        if len(image) > 2 and image[0] == image[-1] == '"':
            image = image[1:-1]
        name = image.removeprefix("docker://")
        self.flat["docker_image"] = name
        for one in self._each(name):
            problem = image_problem(one if CLUSTER_MARK not in name else name)
            if problem is not None:
                self._say(place, "error", *problem)
                break

    def _executable(self, docker: bool) -> None:
        path, place = self._get("executable"), self._place("executable")
        asked = self._boolean("transfer_executable")
        if not path:
            if not docker:
                self._say(place, "error", "no-executable", "the job has no executable", "add: executable = job.sh")
            return
        send = self._sends(path, place, docker) if asked is None else asked
        if send:
            path = self._absolute(path)
            missing = self._missing(path)
            if missing is not None:
                hint = (
                    "an absolute path such as /usr/bin/python3 means the image's own file"
                    if docker
                    else "check the path"
                )
                self._say(place, "error", "no-such-file", f"executable {short(missing)} does not exist here", hint)
            self.inputs.append(path)
        self.flat["executable"] = path
        self.flat["transfer_executable"] = "true" if send else "false"

    def _sends(self, path: str, place: Place, docker: bool) -> bool:
        """Whether the executable travels when the file does not say."""
        if not path.startswith("/"):
            return True
        inside = [d for d in (_IMAGE_DIRS if docker else _EXECUTOR_DIRS) if path.startswith(d + "/")]
        if inside and ".." not in path:
            owner = "image" if docker else "executor"
            message = f"{short(path)[1:-1]} is the {owner}'s own file, not this machine's"
            self._say(
                place, "note", "executable-there", message, "write transfer_executable = true to send the one here"
            )
            return False
        missing = self._missing(path)
        if missing is None:
            self._say(place, "note", "executable-sent", f"{short(path)[1:-1]} is sent from this machine")
            return True
        if not docker:
            return True  # and reported as missing
        mine = any(path.startswith(f"{d}/") for d in (self.side.cwd, self.side.home) if str(d) != "/")
        message = f"{short(missing)[1:-1]} does not exist here; it is taken as the image's own file"
        self._say(place, "warning" if mine else "note", "executable-there", message)
        return False

    # -- files

    def _initialdir(self) -> None:
        text = self._get("initialdir")
        if text:
            self.initialdir = self._absolute(text).rstrip("/") or "/"
            missing = self._missing(self.initialdir)
            if missing is not None:
                message = f"initialdir {short(missing)} does not exist here"
                self._say(self._place("initialdir"), "error", "no-such-directory", message, f"mkdir -p {missing}")
        self.flat["initialdir"] = self.initialdir

    def _standard_file(self, name: str) -> None:
        text, place = self._get(name), self._place(name)
        if name != "log" and self._boolean(f"stream_{name}"):
            message = f"stream_{name}: results come back when the job has ended, so nothing streams"
            self._say(self._place(f"stream_{name}"), "warning", "no-streaming", message, "remove the line")
        if not text:
            return
        if "$$" in text:
            self._say(
                place, "error", "match-time-path", f"{name} depends on the executor ($$): its place here is unknown"
            )
        self.flat[name] = text
        if text == "/dev/null":
            return
        path = self._absolute(text)
        self.standard[name] = path
        for one in self._each(path.rpartition("/")[0] or "/"):
            if "$(" not in one and not self.side.exists(PurePosixPath(one)):
                message = f"the directory of {name}, {short(one)}, does not exist here"
                self._say(place, "error", "no-such-directory", message, f"mkdir -p {one}")
                break
        if name != "log" and self.description.count > 1 and PROCESS_MARK not in path:
            message = f"all {self.description.count} jobs write their {name} to {short(text)}: the last one wins"
            self._say(place, "warning", "same-file", message, f"put $(Process) into it: {name} = {name}.$(Process)")

    def _input(self) -> None:
        text = self._get("input")
        if self._boolean("stream_input"):
            message = "stream_input: inputs are sent before the job starts, so nothing streams"
            self._say(self._place("stream_input"), "warning", "no-streaming", message, "remove the line")
        if text and text != "/dev/null":
            self.flat["input"] = text
            self._sent(text, self._place("input"))

    def _transfer_input_files(self) -> None:
        text = self._get("transfer_input_files")
        if not text:
            return
        value = self.values["transfer_input_files"][0]
        raw, offset = value.text.split(","), 0
        files = text.strip('"').split(",")
        for number, file in enumerate(files):
            one = file.strip()
            # A macro may stand for several files; then all are reported where the value begins.
            place = (
                value.at(offset + len(raw[number]) - len(raw[number].lstrip()))
                if len(raw) == len(files)
                else value.place
            )
            offset += len(raw[number]) + 1 if len(raw) == len(files) else 0
            if not one or _URL.match(one):
                continue
            self._sent(one, place)
            if one.endswith("/") or one in (".", ".."):
                self._say(place, "note", "input-directory", f"{short(one)} sends a whole directory")
        self.flat["transfer_input_files"] = ", ".join(f.strip() for f in files if f.strip())

    def _sent(self, path: str, place: Place) -> None:
        absolute = self._absolute(path)
        missing = self._missing(absolute)
        if missing is not None:
            seen = "its name needs the job's cluster" if CLUSTER_MARK in path else "it does not exist here"
            self._say(place, "error", "no-such-file", f"input file {short(missing)}: {seen}", "check the path")
        self.inputs.append(absolute)

    def job_files(self, process: int) -> JobFiles:
        """The files of one job."""
        paths = {n: None if p is None else for_job(p, process=process) for n, p in self.standard.items()}
        inputs = tuple(for_job(p, process=process) for p in self.inputs)
        return JobFiles(paths["output"], paths["error"], paths["log"], inputs)

    # -- what it needs

    def _resources(self) -> None:
        limits, asked = self.limits, {"request_cpus": 1}
        defaults = (limits.default_cpus, limits.default_memory_mib, limits.default_disk_kib)
        for (name, request), default in zip(REQUESTS.items(), defaults, strict=True):
            if self._get(name):
                largest = self._quantity(name)
                if largest is not None:
                    asked[name] = largest
            elif default is not None:
                self.flat[name] = str(default)
                message = f"{name} is not given: {default}{request.unit}"
                self._say(self.description.queue, "note", "default-" + name, message)
        self._gpus()
        for name, message, hint in too_large(asked, limits.classes):
            self._say(self._place(name), "error", "request-too-large", message, hint)

    def _gpus(self) -> None:
        gpus = self._get("request_gpus")
        if not gpus or gpus == "0":
            return
        most = max((c.gpus for c in self.limits.classes), default=0)
        if most and not (gpus.isdecimal() and int(gpus) > most):
            self.flat["request_gpus"] = gpus
            return
        has = f"the executors of this pool have at most {most}" if most else "no executor class of this pool has any"
        message = f"the job asks for {short(gpus)[1:-1]} GPUs, and {has}"
        hint = "ask for less" if most else "remove request_gpus"
        self._say(self._place("request_gpus"), "error", "no-gpus", message, hint)

    def _quantity(self, name: str) -> int | None:
        """The largest value among the jobs, in CPUs, MiB or KiB. None when it is none, which is reported."""
        text, place, request = self._get(name) or "", self._place(name), REQUESTS[name]
        numbers: list[int] = []
        for one in self._each(text):
            try:
                number = request.read(one)
            except ValueError:
                number = 0
            if number < 1 and is_expression(one):
                self.flat[name] = text
                message = f"{name} is the expression {short(one)}: whether an executor can meet it is not checked"
                self._say(place, "warning", "unchecked-expression", message)
                return None
            if number < 1:
                hint = "move the comment to a line of its own" if "#" in one else f"write {name} = {request.example}"
                message = f"{name} is {short(one)}; wanted {request.wanted}"
                self._say(place, "error", "no-quantity", message, hint)
                return None
            numbers.append(number)
        # Written in HTCondor's own unit, so that 1.5 G means the same everywhere; texts that differ stay as they are.
        self.flat[name] = text if PROCESS_MARK in text or not numbers else str(numbers[0])
        return max(numbers, default=None)

    # -- the rest

    def _fixed(self) -> None:
        self.flat["should_transfer_files"] = "YES"
        given = self._get("should_transfer_files")
        if given and given.upper() not in ("YES", "TRUE"):
            message = (
                f"should_transfer_files is {short(given)[1:-1]}, but executors share no files with this machine: YES"
            )
            self._say(self._place("should_transfer_files"), "note", "files-are-sent", message)
        when = self._get("when_to_transfer_output") or "ON_EXIT"
        if when.upper() not in ("ON_EXIT", "ON_EXIT_OR_EVICT", "ON_SUCCESS"):
            message = f"when_to_transfer_output is {short(when)}; wanted ON_EXIT, ON_EXIT_OR_EVICT or ON_SUCCESS"
            self._say(self._place("when_to_transfer_output"), "error", "bad-value", message)
        self.flat["when_to_transfer_output"] = when.upper()
        self.flat["notification"] = "never"
        if lease := self._get("job_lease_duration"):
            self.flat["job_lease_duration"] = lease

    def _getenv(self) -> None:
        text = self._get("getenv")
        if not text or text.lower() in ("false", "no", "f", "n", "0"):
            return
        names = [n.strip() for n in text.split(",")]
        if text.lower() in _BOOLEANS or any(n.strip("*") == "" for n in names):
            message = "getenv would send your whole environment, passwords and tokens in it too"
            hint = "list the variables the job needs: getenv = LANG, OMP_NUM_THREADS"
            self._say(self._place("getenv"), "error", "whole-environment", message, hint)
        self.flat["getenv"] = text

    def _network(self, docker: bool) -> None:
        text, place = self._get("docker_network_type"), self._place("docker_network_type")
        if not text or not docker:
            return
        if text.lower() == "host" and not self.limits.allow_host_network:
            message = (
                "docker_network_type = host opens the executor's whole network to the job; this pool does not allow it"
            )
            hint = "set jobs.allow_host_network: true in swarmhpc.yaml and run swarmhpc up, or remove the line"
            self._say(place, "error", "host-network", message, hint)
        elif text.lower() not in ("host", "none", "bridge", "nat"):
            message = f"docker_network_type is {short(text)}; wanted none, bridge or host"
            self._say(place, "error", "bad-value", message)
        self.flat["docker_network_type"] = text.lower()

    def _other(self, name: str, docker: bool) -> None:
        if name in rules.HANDLED or (name in self.flat and name != "notification"):
            return
        place, text = self._place(name), self._get(name) or ""
        prefix = next((p for p in rules.REFUSED_PREFIXES if name.startswith(p)), None)
        if name in rules.PASSED:
            if not name.startswith("docker_") or docker:
                self.flat[name] = text
        elif not text:
            return  # an empty command has no effect
        elif name in rules.DROPPED:
            if name != "notification" or text.lower() != "never":
                self._say(place, "note", "left-out", f"{name} is left out: {rules.DROPPED[name]}")
        elif name in rules.MISSING:
            self._say(place, "warning", "left-out", f"{name} is left out: {rules.MISSING[name]}")
        elif text.lower() in ("false", "no") or (name in ("machine_count", "node_count") and text == "1"):
            return  # switched off, or the only value there is here
        else:
            why = rules.REFUSED.get(name) or (
                rules.REFUSED_PREFIXES[prefix] if prefix else "it has no meaning in this pool"
            )
            self._say(place, "error", "refused", f"{name} cannot be used here: {why}", f"remove the line with {name}")

    def _attributes(self) -> None:
        for name, value in self.description.attributes.items():
            lower = name.lower()
            text = expanded(self.description, value)
            if lower in rules.TRUSTED_ATTRIBUTES or lower.startswith(rules.TRUSTED_PREFIXES) or canonical(lower):
                command = canonical(lower)
                hint = f"use the command {command}" if command else "remove the line"
                message = f"+{name} is an attribute that the pool relies on; a description may not set it"
                self._say(value.place, "error", "trusted-attribute", message, hint)
            elif text == "":
                self._say(
                    value.place, "error", "empty-attribute", f"+{name} has no value", f"write +{name} = undefined"
                )
            elif text is not None:
                self.flat["+" + name] = text
