"""Recognises files that are no submit descriptions, so that they get one clear error instead of hundreds. Pure."""

from __future__ import annotations

import re
from typing import Final

from swarmhpc.jobs.findings import Finding, Place

_SUBMIT_HINT: Final = "hand over the submit description itself: lines like executable = job.sh, and queue at the end"
# (pattern, code, what it is, hint). Each pattern looks at single lines, so the time grows with the text only.
_SIGNS: Final = (
    (re.compile(r"\x00"), "binary-file", "it holds NUL bytes: a binary file", _SUBMIT_HINT),
    (
        re.compile(r"^[ \t]*#(SBATCH|PBS)[ \t]", re.MULTILINE),
        "slurm-script",
        "it holds #SBATCH or #PBS lines: a script for another batch system",
        "write request_cpus, request_memory, output and queue in a file that names the script as its executable",
    ),
    (
        re.compile(r"\A#![^\n]*\b(sh|bash|dash|zsh|ksh|csh|tcsh|python[0-9.]*|perl|Rscript)\b"),
        "script",
        "its first line starts a script",
        "write a submit description that names this script as its executable; one inside it must be saved by itself",
    ),
    (
        re.compile(r"\{%-?[ \t]*\w|\{\{-?[ \t]*[A-Za-z_][\w.]*[ \t]*(?:\||-?\}\})"),
        "template",
        "it holds {{ … }} or {% … %}: a template that is not filled in yet",
        "fill the template in first, then submit the result",
    ),
    (
        re.compile(r"^(apiVersion|kind):[ \t]", re.MULTILINE),
        "yaml",
        "it looks like a Kubernetes file",
        _SUBMIT_HINT,
    ),
    (re.compile(r"\A\s*+[{\[]"), "json", "it begins like JSON or an old ClassAd", _SUBMIT_HINT),
    (
        re.compile(r"^[ \t]*(JOB|PARENT)[ \t]+\w+[ \t]+[\w./]+", re.MULTILINE),
        "dag",
        "it looks like a DAGMan file",
        "submit the files its JOB lines name; swarmhpc does not run DAGs yet",
    ),
)


def wrong_file(text: str, file: str) -> Finding | None:
    """The one error for a file that is something else, or None."""
    for pattern, code, what, hint in _SIGNS:
        match = pattern.search(text)
        if match is not None:
            start = match.start()
            line = text.count("\n", 0, start) + 1
            place = Place(file, line, start - (text.rfind("\n", 0, start) + 1) + 1)
            return Finding(place, "error", code, f"{file} is no submit description: {what}", hint)
    return None
