"""Recognises files that are no submit descriptions, so that they get one clear error instead of hundreds. Pure.

Every pattern looks at single lines, so that the time grows with the text only.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from swarmhpc.jobs.commands import canonical
from swarmhpc.jobs.findings import Finding, Place

_SUBMIT_HINT: Final = "hand over the submit description itself: lines like executable = job.sh, and queue at the end"
_CUT_OUT: Final = "save that part in a file of its own and submit that"
_BINARY: Final = re.compile(r"\x00|\A(?:\x7fELF|PK\x03|\ufffdPNG|%PDF-|\x1f\ufffd)")
_STRANGE: Final = re.compile("[\ufffd\x01-\x08\x0e-\x1f]")
_COMMAND: Final = re.compile(r"^[ \t]*+([A-Za-z_]\w*+)[ \t]*+=(?!=)", re.MULTILINE)
_QUEUE: Final = re.compile(r"^[ \t]*+queue(?:[ \t]++[^=\n]*+)?[ \t\r]*+$", re.MULTILINE | re.IGNORECASE)
_HEREDOC: Final = re.compile(r"^[^#\n<]*+<<-?[ \t]*+\\?['\"]?([A-Za-z_]\w*+)['\"]?", re.MULTILINE)
_BATCH: Final = re.compile(r"^[ \t]*+#(?:(?:SBATCH|PBS|BSUB|COBALT|FLUX:)[ \t]|\$[ \t]+-[a-z])", re.MULTILINE)
_SHEBANG: Final = re.compile(
    r"\A#![^\n]*?\b(?:sh|bash|dash|zsh|ksh|csh|tcsh|python[0-9.]*|perl|ruby|node|julia|Rscript)\b"
)
_CODE: Final = re.compile(
    r"^(?:import[ \t]+[\w.]+[ \t]*$|from[ \t]+[\w.]+[ \t]+import\b|def[ \t]+\w+\(|class[ \t]+\w+[(:]|set[ \t]+-[a-z]"
    r"|(?:export|module|source|echo|cd|condor_submit|srun|mpirun)[ \t]+[^=:\s]|fi$|done$|#include[ \t]*[<\"])",
    re.MULTILINE,
)
_TEMPLATE: Final = re.compile(
    r"\{%-?[ \t]*+[A-Za-z]|\{\{[{#/^&-]?[ \t]*+[A-Za-z_][\w.\[\]'\"]*+[ \t]*+(?:\||[-}]?\}\})|<%[=-]?[ \t]"
)
_PLACEHOLDER: Final = re.compile(
    r"^[ \t]*+([A-Za-z_]\w*+)[ \t]*+=[ \t]*+(?:\$\{\w++\}|@\w++@|\{\w++\}|__\w++__)[ \t\r]*+$", re.MULTILINE
)
_JSON: Final = re.compile(r"\A\s*+[{\[]")
_MEMBER: Final = re.compile(r"^[ \t]*+\"[^\"\n]++\"[ \t]*+:", re.MULTILINE)
_HTML: Final = re.compile(r"\A\s*+<(?:!doctype|!--|\?xml|html|head|body|div|p|table|svg)\b", re.IGNORECASE)
_KUBERNETES: Final = re.compile(r"^(?:apiVersion|kind):[ \t]", re.MULTILINE)
_YAML: Final = re.compile(r"^[A-Za-z_][\w-]*+:(?:[ \t]++[^=\n]*+)?$", re.MULTILINE)
_DAG: Final = re.compile(
    r"^[ \t]*+(?:(?:JOB|FINAL|SERVICE|PROVISIONER)[ \t]++[\w.+-]++[ \t]++[^\s=]|PARENT[ \t][^=\n]*?\bCHILD[ \t]"
    r"|SUBDAG[ \t]++EXTERNAL[ \t]|SPLICE[ \t]++\w++[ \t]++[^\s=]|SUBMIT-DESCRIPTION[ \t])",
    re.MULTILINE | re.IGNORECASE,
)
_GLUED: Final = re.compile(r"queue(?=[0-9])|(?:queue|if|elif)(?=[^\w\s])", re.IGNORECASE)
_PAGE: Final = re.compile(r"^[ \t]*+(?:```|~~~|\.\.[ \t]++[\w-]++::|::[ \t\r]*+$)", re.MULTILINE)
_PROSE: Final = re.compile(r"^(?!(?i:if|elif|queue|include|use) )[A-Za-z*_`>(-][^=\n]{0,400}$", re.MULTILINE)


@dataclass(frozen=True)
class _Text:
    """A text with what in it looks like a submit description: offsets of the first command and of the first queue."""

    text: str
    first_command: int | None
    first_queue: int | None
    known: int

    @property
    def is_description(self) -> bool:
        return self.first_queue is not None and self.known > 1

    def before_queue(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return pattern.search(self.text, 0, len(self.text) if self.first_queue is None else self.first_queue)

    def line(self, offset: int) -> int:
        return self.text.count("\n", 0, offset) + 1


def _look(text: str) -> _Text:
    known: set[str] = set()
    first = None
    for match in _COMMAND.finditer(text):
        name = canonical(match[1].lower())
        if name is not None:
            known.add(name)
            first = match.start() if first is None else first
    queue = _QUEUE.search(text)
    return _Text(text, first, queue.start() if queue else None, len(known))


def wrong_file(text: str, file: str) -> Finding | None:
    """The one error for a file that is something else, or None."""
    seen = _recognised(_look(text))
    if seen is None:
        return None
    start, code, what, hint = seen
    line = text.count("\n", 0, start) + 1
    place = Place(file, line, start - (text.rfind("\n", 0, start) + 1) + 1)
    return Finding(place, "error", code, f"{file} is no submit description: {what}", hint)


_Seen = tuple[int, str, str, str]


def _recognised(text: _Text) -> _Seen | None:
    if (match := _BINARY.search(text.text)) is not None:
        return match.start(), "binary-file", "it holds NUL bytes or begins like a binary file", _SUBMIT_HINT
    head = text.text[:4096]
    if len(_STRANGE.findall(head)) > len(head) / 10:
        return 0, "binary-file", "it is no text, or not in UTF-8", _SUBMIT_HINT
    if (match := _HTML.search(text.text)) is not None:
        return match.end() - 1, "html", "it begins like HTML or XML", "download the file itself, not the page about it"
    return _script(text) or _data(text) or _page(text)


def _inside(text: _Text) -> str:
    if not text.is_description or text.first_command is None:
        return ""
    return f" (a submit description inside seems to begin on line {text.line(text.first_command)})"


def _script(text: _Text) -> _Seen | None:
    heredoc = _heredoc(text)
    if heredoc is not None:
        return heredoc
    if (match := _BATCH.search(text.text)) is not None and not text.is_description:
        what = "it holds #SBATCH, #PBS or #BSUB lines: a script for another batch system"
        hint = "write request_cpus, request_memory, output and queue in a file that names the script as its executable"
        return match.start(), "slurm-script", what, hint
    code = text.before_queue(_CODE)
    if _SHEBANG.search(text.text) is not None and (code is not None or not text.is_description):
        hint = "write a submit description that names this script as its executable"
        return 0, "script", f"its first line starts a script{_inside(text)}", _CUT_OUT if _inside(text) else hint
    if code is not None and len(_CODE.findall(text.text)) > 1:
        return code.start(), "script", f"it holds lines of a program{_inside(text)}", _CUT_OUT
    return None


def _heredoc(text: _Text) -> _Seen | None:
    """A shell script that holds a submit description between ``<<TAG`` and ``TAG``."""
    starts = list(_HEREDOC.finditer(text.text)) if text.first_command is not None else []
    if not starts:
        return None
    ends: dict[str, list[int]] = defaultdict(list)
    wanted = {match[1] for match in starts}
    offset = 0
    for line in text.text.split("\n"):
        tag = line.strip(" \t\r")
        if tag in wanted:
            ends[tag].append(offset)
        offset += len(line) + 1
    after = 0
    for match in starts:
        begin = text.text.find("\n", match.end()) + 1
        later = bisect_right(ends[match[1]], match.end())
        if not begin or match.start() < after or later == len(ends[match[1]]):
            continue
        after = ends[match[1]][later]
        body = _look(text.text[begin:after])
        if body.known and (body.first_queue is not None or body.known > 1):
            what = f"a shell script whose heredoc holds one, which begins on line {text.line(begin)}"
            return begin, "heredoc", what, f"{_CUT_OUT}; fill in what the shell would ($NAME)"
    return None


def _data(text: _Text) -> _Seen | None:
    if (match := _TEMPLATE.search(text.text)) is not None:
        what = "it holds {{ … }} or {% … %}: a template that is not filled in yet"
        return match.start(), "template", what, "fill the template in first, then submit the result"
    holes = [m for m in _PLACEHOLDER.finditer(text.text) if canonical(m[1].lower()) is not None]
    if len(holes) > 1:
        what = f"{len(holes)} of its commands are placeholders: a template that is not filled in yet"
        return holes[0].start(1), "template", what, "fill the template in first; a macro is written $(name)"
    if (match := _JSON.search(text.text)) is not None:
        return match.end() - 1, "json", "it begins like JSON or an old ClassAd", _SUBMIT_HINT
    if (match := _MEMBER.search(text.text)) is not None and not text.known:
        return match.start(), "json", "it holds JSON", _SUBMIT_HINT
    if (match := _KUBERNETES.search(text.text)) is not None:
        hint = "write executable, docker_image, request_cpus, request_memory and queue instead"
        return match.start(), "yaml", f"it looks like a Kubernetes file{_inside(text)}", hint
    lines = 0 if text.known or text.first_queue is not None else len(_YAML.findall(text.text))
    if lines > 1 and (match := _YAML.search(text.text)) is not None:
        return match.start(), "yaml", "it looks like YAML", _SUBMIT_HINT
    if (match := text.before_queue(_DAG)) is not None:
        hint = "submit the files its JOB lines name; swarmhpc does not run DAGs yet"
        return match.start(), "dag", "it looks like a DAGMan file", hint
    return None


def _page(text: _Text) -> _Seen | None:
    if text.first_command is None:
        match = text.before_queue(_PAGE)
        return match and (match.start(), "page", "it looks like a page of documentation", _SUBMIT_HINT)
    fence = text.before_queue(_PAGE)
    prose = [m for m in _PROSE.finditer(text.text, 0, text.first_command) if m[0].count(" ") > 3]
    if fence is None or (not prose and fence.start() > text.first_command):
        return None
    line = text.line(text.first_command)
    what = f"a page of documentation that holds one, which begins on line {line}"
    return text.first_command, "page", what, _CUT_OUT


def line_hint(text: str) -> str:
    """What a line that is no statement was probably meant to be."""
    words = text.split(None, 1)
    word = words[0] if words else ""
    if word == "+":
        return "write +Name = value, without a blank after +"
    if canonical(word.lower().rstrip(":")) is not None:
        return f"write {word.rstrip(':')} = value"
    if (match := _GLUED.match(text)) is not None:
        return f"write {match[0].lower()} and a blank before what follows"
    if re.fullmatch(r"-\w+", word):
        return f"to remove an attribute write {word[:40]} ="
    return "a comment begins with #, a command is written name = value"
