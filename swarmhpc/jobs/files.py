"""Rules about files: the initial directory, what travels to the job, and where its results go. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Final

from swarmhpc.jobs.findings import Place, Severity
from swarmhpc.jobs.rule import Job, Rule, absolute, is_open, shown
from swarmhpc.units import BYTES_PER_MIB, format_mib

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# Names under which people keep passwords, keys and tokens.
_SECRET: Final = re.compile(
    r"\.env(\..+)?|.*\.env|.*\.(pem|key|p12|pfx|jks|kdbx|ppk|keytab)|id_(rsa|dsa|ecdsa|ed25519)|\.netrc|_netrc"
    r"|\.pgpass|\.git-credentials|\.htpasswd|(.*[._-])?(credentials?|secrets?|passwords?|passwd)([._-].*)?"
    r"|(.*[._-])?(api_?)?tokens?(\.(txt|json|ya?ml|jwt))?|\.(npmrc|pypirc|dockercfg)|service[-_]account.*\.json"
    r"|x509up_u\d+|\.(ssh|aws|gnupg|kube)",
    re.IGNORECASE,
)
_REMEMBERED: Final = 1_000  # inputs that many jobs may share
_YES: Final = ("YES", "TRUE", "ALWAYS")
_NO: Final = ("NO", "FALSE", "NEVER")
_HARMLESS: Final = re.compile(r".*\.pub", re.IGNORECASE)  # the public half of a key
_REMAP: Final = re.compile(r"((?:[^\\=;]++|\\.)*+)=((?:[^\\;]++|\\.)*+)(?:;|$)", re.DOTALL)


def initial_directory(job: Job) -> None:
    """The directory that relative paths start from."""
    folder = job.folder()
    if job.get("initialdir") and job.is_missing(folder):
        message = f"initialdir {shown(folder)} does not exist here"
        job.say("initialdir", "error", "no-such-directory", message, f"mkdir -p {shown(folder)[1:-1]}")
    job.set("initialdir", folder, "" if folder == job.get("initialdir") else "relative paths start from here")


def standard_file(name: str) -> Callable[[Job], None]:
    """The rule for output, error or log."""

    def apply(job: Job) -> None:
        text = job.get(name)
        if name != "log" and f"stream_{name}" in job.texts and job.boolean(f"stream_{name}"):
            message = f"stream_{name}: results come back when the job has ended, so nothing streams"
            job.say(f"stream_{name}", "warning", "no-streaming", message, "remove the line")
        if not text:
            return
        job.set(name, text)
        if text == "/dev/null":
            return
        if "$$" in text:
            message = f"{name} depends on the executor ($$): its place here is unknown"
            job.say(name, "error", "match-time-path", message)
        if text[0] == "/":
            job.path = text
            message = f"{name} will be written to {shown(text)} on this machine when the results are fetched"
            job.say(name, "note", "absolute-output", message)
        else:
            job.path = absolute(text, job.folder())
        _check_folder(job, name, job.path, "error")

    return apply


def _check_folder(job: Job, name: str, path: str, severity: Severity) -> None:
    folder = path.rpartition("/")[0] or "/"
    if job.lacks_folder(folder):
        message = f"the directory of {name}, {shown(folder)}, does not exist here"
        job.say(name, severity, "no-such-directory", message, f"mkdir -p {shown(folder)[1:-1]}")


def standard_input(job: Job) -> None:
    """The file that the job reads as its standard input."""
    text = job.get("input")
    if job.boolean("stream_input"):
        message = "stream_input: inputs are sent before the job starts, so nothing streams"
        job.say("stream_input", "warning", "no-streaming", message, "remove the line")
    sends = (job.get("transfer_input") or "true").lower() not in ("false", "0")
    if text and text != "/dev/null":
        job.set("input", text)
    if text and text != "/dev/null" and sends:
        job.inputs = (_sent(job, text, job.folder(), job.place("input")),)


def input_files(job: Job) -> None:
    """The files that travel to the job."""
    text = job.get("transfer_input_files")
    if not text:
        return
    folder, value = job.folder(), job.world.values["transfer_input_files"]
    raw, offset = value.text.split(","), 0
    whole = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    files = whole.split(",")
    sent = []
    for number, file in enumerate(files):
        one, place = file.strip(), value.place
        if len(raw) == len(files):  # a macro may stand for several files; all are then reported where the value begins
            place = value.at(offset + len(raw[number]) - len(raw[number].lstrip()))
            offset += len(raw[number]) + 1
        if one and not _URL.match(one):
            sent += [_sent(job, name, folder, place) for name in _names(job, one, folder, place)]
    job.inputs = tuple(sent)
    job.set("transfer_input_files", ", ".join([f.strip() for f in files if f.strip()]))


def _names(job: Job, one: str, folder: str, place: Place) -> list[str]:
    """The names in what stands between two commas: HTCondor splits at blanks, too, when the files travel (25.14,
    file_transfer.cpp, ExpandInputFileList)."""
    names = one.split()
    if len(names) < 2:
        return [one]
    if job.is_missing(absolute(one, folder)) or not any(job.is_missing(absolute(n, folder)) for n in names):
        message = f"{shown(one)}: HTCondor reads {len(names)} names here"
        job.say(place, "warning", "blank-in-name", message, "write a comma between names")
        return names
    message = f"{shown(one)} holds a blank, where HTCondor begins another name when the files travel"
    job.say(place, "error", "blank-in-name", message, "rename the file, or send its directory whole")
    return [one]


def _sent(job: Job, path: str, folder: str, place: Place) -> str:
    """Checks one file that travels; its absolute path."""
    whole = absolute(path, folder)
    fine = job.world.fine
    if whole in fine:
        return whole
    if job.is_missing(whole):
        seen = "its name needs the job's cluster" if is_open(path) else "it does not exist here"
        job.say(place, "error", "no-such-file", f"input file {shown(whole)}: {seen}", "check the path")
        return whole
    name = whole.rstrip("/").rpartition("/")[2]
    if _SECRET.fullmatch(name) and not _HARMLESS.fullmatch(name):
        message = f"{shown(path)[1:-1]} looks like a secret: it would lie on the access point and the executor"
        job.say(place, "warning", "secret-input", message, "give the job a token of its own that can do little")
    elif len(fine) < _REMEMBERED:
        fine.add(whole)
    size = job.world.side.size(PurePosixPath(whole)) if "$$" not in whole else None
    if size is not None:
        fine.discard(whole)
        _directory(job, path, place, size)
    return whole


def _directory(job: Job, path: str, place: Place, size: tuple[int, int]) -> None:
    files, size_bytes = size
    amount = f"{files} {'file' if files == 1 else 'files'}, {format_mib(-(-size_bytes // BYTES_PER_MIB))}"
    if path.rstrip("/") in (".", "..", "$PWD") or path in ("./", "../"):
        message = f"{shown(path)} sends the whole directory with all that is in it, hidden files too: {amount}"
        job.say(place, "warning", "input-directory", message, "name the files that the job needs")
    else:
        what = "the contents of a whole directory" if path.endswith("/") else "a whole directory"
        job.say(place, "note", "input-directory", f"{shown(path)} sends {what}: {amount}")


def output_files(job: Job) -> None:
    """The files that come back."""
    text = job.get("transfer_output_files")
    if text is None:
        return
    job.set("transfer_output_files", text)
    for file in text.strip().strip('"').split(","):
        one = file.strip()
        if one.startswith("/") and one != "/dev/null":
            message = f"{shown(one)} is looked for on the executor, outside of the job's scratch directory"
            hint = "write results into the current directory of the job and name them without a path"
            job.say("transfer_output_files", "warning", "absolute-output", message, hint)


def remaps(job: Job) -> None:
    """Where files that come back are put on this machine."""
    name, text = "transfer_output_remaps", job.get("transfer_output_remaps")
    if text is None:
        return
    job.set(name, text)
    inside = text.strip()
    if inside[:1] == '"' or inside[-1:] == '"':
        if len(inside) < 2 or inside[0] != '"' or inside[-1] != '"':
            at = text.find('"')
            job.say(job.place(name, at), "error", "unbalanced", 'a " that is never closed', 'write "a=b;c=d"')
            return
        inside = inside[1:-1]
    position = 0
    while position < len(inside):
        match = _REMAP.match(inside, position)
        if match is None or not match[1].strip():
            seen = inside[position:].partition(";")[0]
            if seen.strip():
                message = f"{shown(seen.strip())} in {name} is no NAME=PATH"
                job.say(name, "error", "bad-remap", message, 'write "result.txt=results/result.txt;b=c"')
                return
            position += len(seen) + 1
            continue
        position = match.end()
        _remapped(job, name, match[2].strip())


def _remapped(job: Job, name: str, target: str) -> None:
    if not target or _URL.match(target) or "$$" in target:
        return
    if target[0] == "/":
        message = f"{shown(target)} will be written on this machine when the results are fetched"
        job.say(name, "note", "absolute-output", message)
    _check_folder(job, name, absolute(target, job.folder()), "warning")


def fixed(job: Job) -> None:
    """Executors share no files with the submitting machine: all travels, and when is the job's to say."""
    given = job.get("should_transfer_files")
    why = ""
    if given and given.upper() not in (*_YES, *_NO, "IF_NEEDED", "AUTOMATIC"):
        message = f"should_transfer_files is {shown(given)}; wanted YES, NO or IF_NEEDED"
        job.say("should_transfer_files", "error", "bad-value", message, "write should_transfer_files = YES")
    elif given and given.upper() not in _YES:
        why = f"should_transfer_files is {shown(given)[1:-1]}, but executors share no files with this machine: YES"
        job.say("should_transfer_files", "note", "files-are-sent", why)
    job.set("should_transfer_files", "YES", why or ("" if given else "executors share no files with this machine"))
    when = job.get("when_to_transfer_output")
    chosen = (when or "ON_EXIT").upper()
    never = chosen == "NEVER" and (given or "").upper() in _NO
    if never:
        chosen = "ON_EXIT"
        message = "when_to_transfer_output is NEVER, but nothing else brings results back: ON_EXIT"
        job.say("when_to_transfer_output", "note", "files-are-sent", message)
    if chosen not in ("ON_EXIT", "ON_EXIT_OR_EVICT", "ON_SUCCESS"):
        message = f"when_to_transfer_output is {shown(chosen)}; wanted ON_EXIT, ON_EXIT_OR_EVICT or ON_SUCCESS"
        job.say("when_to_transfer_output", "error", "bad-value", message)
    job.set("when_to_transfer_output", chosen, "" if when and not never else "HTCondor's default")


FIRST: Final = (Rule(("initialdir",), initial_directory),)
RULES: Final = (
    Rule(("initialdir", "input", "transfer_input", "stream_input"), standard_input),
    Rule(("initialdir", "transfer_input_files"), input_files),
    Rule(("initialdir", "output", "stream_output"), standard_file("output")),
    Rule(("initialdir", "error", "stream_error"), standard_file("error")),
    Rule(("initialdir", "log"), standard_file("log")),
    Rule(("transfer_output_files",), output_files),
    Rule(("initialdir", "transfer_output_remaps"), remaps),
    Rule(("should_transfer_files", "when_to_transfer_output"), fixed),
)
