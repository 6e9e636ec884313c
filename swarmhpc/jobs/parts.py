"""The jobs of one queue statement, worked out rule by rule. Pure.

A rule is called once where the commands that it reads are the same for all jobs, else once for each different
combination of texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from swarmhpc.jobs import files, matching, needs, rest, rules, running
from swarmhpc.jobs.description import Statement
from swarmhpc.jobs.findings import Findings
from swarmhpc.jobs.macros import ExpansionError, Template, is_unsayable, submit_language
from swarmhpc.jobs.rule import IMAGE, Entry, Job, Rule, World, shown, visible

_BLANK: Final = " \t\r\v\f"
_RULES: Final = (*running.FIRST, *files.FIRST, *running.RULES, *files.RULES, *needs.RULES, *rest.RULES)
_READ: Final = frozenset(name for rule in _RULES for name in rule.reads) - rules.PASSED
_REMEMBERED: Final = 1_000  # outcomes of a rule that are kept
_KEPT: Final = 100_000  # jobs of a queue statement whose outcomes are kept; of more they are worked out again
_COMPARED: Final = 200_000  # output paths that are kept to find two jobs that write one file
_REMAP_SIGN: Final = re.compile(r"[;=\\\n]")
_SPECIAL: Final = re.compile(r"[$\n\x01-\x08]|\\\Z")  # what submit language needs another spelling for

_RULE_OF: Final = {
    name: next(i for i, rule in enumerate(_RULES) if name in rule.reads and name not in IMAGE)
    for name in ("output", "error", "log", "executable", "input", "transfer_input_files")
}


class JobFiles(NamedTuple):
    """Absolute paths here for one job; ``$(Cluster)`` may stand in them. `inputs`: all that is sent, URLs left out."""

    output: str | None
    error: str | None
    log: str | None
    inputs: tuple[str, ...]


_Paths = tuple[str | None, str | None, str | None, tuple[str, ...]]  # a JobFiles


class _Outcome(NamedTuple):
    entries: tuple[Entry, ...]
    inputs: tuple[str, ...]
    path: str | None
    sent: bool  # jobs with this cannot go straight into the queue (see `submit`)


class _Live:
    """A rule some of whose commands differ between the jobs."""

    __slots__ = ("first", "fixed", "known", "names", "rule", "settled", "varied")

    def __init__(self, rule: Rule, fixed: dict[str, str], names: tuple[str, ...]) -> None:
        self.rule = rule
        self.fixed = fixed  # the texts that are the same for all
        self.names = names  # the commands that differ
        self.known: dict[str | tuple[str, ...], _Outcome] = {}
        self.first: _Outcome | None = None
        self.varied: set[str] = set()
        self.settled = False  # all that it submits differs


class Part:
    """The jobs of one queue statement."""

    def __init__(self, statement: Statement, first: int, world: World, findings: Findings) -> None:
        self.queue = statement.queue
        self.first = first
        self.world = world
        self.texts: dict[str, str] = {}
        self.templates: dict[str, Template] = {}
        all_rules = [*_RULES]
        for name, value in world.values.items():
            if name not in _READ:
                all_rules.append(_rule_for(name, value.text, world))
            try:
                template = statement.macros.compile(value.text)
            except ExpansionError as error:
                findings.add(value.place, "error", error.code, f"{name} cannot be expanded: {error.message}")
                continue
            if template.constant is None:
                self.templates[name] = template
            else:
                self.texts[name] = template.constant.strip(_BLANK)
        self.rules: list[_Outcome | _Live] = []
        for rule in all_rules:
            fixed = {n: self.texts[n] for n in rule.reads if n in self.texts}
            names = tuple(n for n in rule.reads if n in self.templates)
            self.rules.append(_Live(rule, fixed, names) if names else self._apply(rule, fixed, findings))
        live = [r for r in self.rules if isinstance(r, _Live)]
        self.standard = [self.rules[_RULE_OF[name]] for name in ("output", "error", "log")]
        senders = [self.rules[_RULE_OF[name]] for name in ("executable", "input", "transfer_input_files")]
        # An outcome that is the same for all, or where the outcomes of a job have it.
        self.sources = [(None, live.index(r)) if isinstance(r, _Live) else (r, 0) for r in (*self.standard, *senders)]
        self.live = live
        self.columns: dict[str, int] = {}  # what the rules in `live` submit
        self.blank: list[str] = []
        # Plain tuples of texts: the garbage collector does not look at these again and again.
        self.kept: list[tuple[str, ...]] = []
        self.kept_files: list[_Paths] = []
        self.travels = False

    def _apply(self, rule: Rule, texts: Mapping[str, str], findings: Findings) -> _Outcome:
        job = Job(texts, self.world, findings)
        rule.apply(job)
        for index, entry in enumerate(job.entries):
            text = entry.text
            if _SPECIAL.search(text):
                job.entries[index] = entry._replace(text=_sayable(entry, job))
        inputs = tuple(map(visible, job.inputs)) if job.inputs else ()
        path = visible(job.path) if job.path else None
        sent = bool(inputs) or (path is not None and _REMAP_SIGN.search(path) is not None)
        if "transfer_output_remaps" in texts:
            sent = sent or bool(texts["transfer_output_remaps"])
        return _Outcome(tuple(job.entries), inputs, path, sent)

    def _jobs(self, findings: Findings) -> Iterator[list[_Outcome]]:
        """For each job the outcomes of the rules in `self.live`."""
        live = self.live
        templates = list(self.templates.items())
        texts: dict[str, str] = {}
        for values in self.queue.lives(self.first):
            for name, template in templates:
                try:
                    texts[name] = template.render(values).strip(_BLANK)
                except ExpansionError as error:
                    message = f"{name} cannot be expanded for job {values.get('process')}: {error.message}"
                    findings.add(self.world.values[name].place, "error", error.code, message)
                    texts[name] = ""
            outcomes = []
            for one in live:
                names = one.names
                key: str | tuple[str, ...] = texts[names[0]] if len(names) == 1 else tuple([texts[n] for n in names])
                outcome = one.known.get(key)
                if outcome is None:
                    mine = one.fixed.copy()
                    for name in names:
                        mine[name] = texts[name]
                    outcome = self._apply(one.rule, mine, findings)
                    if len(one.known) >= _REMEMBERED:
                        one.known.clear()
                    one.known[key] = outcome
                outcomes.append(outcome)
            yield outcomes

    def survey(self, findings: Findings, written: set[int]) -> None:
        """Looks at every job once: what differs, what travels, and which jobs write one file."""
        live = self.live
        self._fixed_outputs(findings, written)
        paths = [(live.index(r), n) for r, n in zip(self.standard, ("output", "error"), strict=False)
                 if isinstance(r, _Live)]  # fmt: skip
        self.travels = any(isinstance(r, _Outcome) and r.sent for r in self.rules)
        if not live:
            return
        # What is drawn at random has to stay what it was.
        keep = self.queue.jobs <= _KEPT or any(getattr(t, "is_random", False) for t in self.templates.values())
        for outcomes in self._jobs(findings):
            if keep:
                self.kept.append(self._cells(outcomes))
                self.kept_files.append(self._files(outcomes))
            for one, outcome in zip(live, outcomes, strict=True):
                if one.first is None:
                    one.first = outcome
                elif not one.settled and outcome is not one.first:
                    _compare(one, outcome)
                if outcome.sent:
                    self.travels = True
            mine: set[int] = set()
            for index, name in paths:
                path = outcomes[index].path
                if path is not None:
                    key = hash(path)
                    if key in written and key not in mine:
                        self._same_file(name, path, findings)
                    mine.add(key)
            if len(written) < _COMPARED:
                written |= mine
        for one in live:  # also where no row was kept
            assert one.first is not None
            for name in (*(e.name for e in one.first.entries), *sorted(one.varied)):
                self._column(name)

    def _fixed_outputs(self, findings: Findings, written: set[int]) -> None:
        mine: set[int] = set()
        for rule, name in zip(self.standard, ("output", "error"), strict=False):
            if isinstance(rule, _Outcome) and rule.path is not None:
                if self.queue.jobs > 1 or hash(rule.path) in written:
                    self._same_file(name, rule.path, findings)
                mine.add(hash(rule.path))
        written |= mine

    def _same_file(self, name: str, path: str, findings: Findings) -> None:
        value = self.world.values[name]
        many = f"all {self.queue.jobs} jobs write" if "$" not in value.text else "several jobs write"
        message = f"{many} their {name} to {shown(path)}: the last one wins"
        findings.add(value.place, "warning", "same-file", message,
                     f"put $(Process) into it: {name} = {name}.$(Process)")  # fmt: skip

    def entries(self) -> Iterator[tuple[Entry, bool]]:
        """What the first job has, and whether it differs between the jobs."""
        for rule in self.rules:
            if isinstance(rule, _Outcome):
                yield from ((entry, False) for entry in rule.entries)
            elif rule.first is not None:
                seen = {e.name for e in rule.first.entries}
                yield from ((entry, entry.name in rule.varied) for entry in rule.first.entries)
                yield from ((Entry(n, "", n, ""), True) for n in rule.varied if n not in seen)

    def _cells(self, outcomes: list[_Outcome]) -> tuple[str, ...]:
        """What one job submits, by `columns`; later columns may lack."""
        columns = self.columns
        cells = self.blank.copy()
        for outcome in outcomes:
            for entry in outcome.entries:
                index = columns.get(entry.name)
                if index is None:
                    index = self._column(entry.name)
                    cells.append("")
                cells[index] = entry.text
        return tuple(cells)

    def _column(self, name: str) -> int:
        index = self.columns.setdefault(name, len(self.columns))
        if index == len(self.blank):
            self.blank.append(nothing(name))
        return index

    def _files(self, outcomes: list[_Outcome]) -> _Paths:
        output, error, log, *senders = [outcomes[i] if f is None else f for f, i in self.sources]
        sent = senders[0].inputs + senders[1].inputs + senders[2].inputs
        return output.path, error.path, log.path, sent

    def rows(self, varying: Sequence[str]) -> Iterator[tuple[tuple[str, ...], JobFiles]]:
        """The values of the commands in `varying`, and the files, of each job."""
        fixed = {e.name: e.text for r in self.rules if isinstance(r, _Outcome) for e in r.entries}
        if not self.live:
            row, files_of_all = tuple(fixed.get(n, nothing(n)) for n in varying), JobFiles._make(self._files([]))
            for _ in range(self.queue.jobs):
                yield row, files_of_all
            return
        # From a cell, or the same for all jobs.
        plan = [(self.columns.get(n), fixed.get(n, nothing(n))) for n in varying]
        is_direct = [column for column, _ in plan] == list(range(len(self.columns)))
        for cells, paths in self._known() if self.kept else self._again():
            row = cells
            if not is_direct or len(cells) != len(varying):
                row = tuple([t if c is None or c >= len(cells) else cells[c] for c, t in plan])
            yield row, JobFiles._make(paths)

    def _known(self) -> Iterator[tuple[tuple[str, ...], _Paths]]:
        return zip(self.kept, self.kept_files, strict=True)

    def _again(self) -> Iterator[tuple[tuple[str, ...], _Paths]]:
        return ((self._cells(o), self._files(o)) for o in self._jobs(Findings()))


def _rule_for(name: str, raw: str, world: World) -> Rule:
    if name == matching.NAME:
        return matching.rule(raw, [n for n in world.values if n[0] == "+"])
    if name[0] == "+":
        return rest.attribute(name[1:])
    if name.startswith("request_"):
        return needs.custom(name)
    return rest.other(name)


def nothing(name: str) -> str:
    """What a job has that lacks a command which others have. HTCondor takes an empty value for none."""
    return "undefined" if name[0] == "+" else ""


def _compare(one: _Live, outcome: _Outcome) -> None:
    assert one.first is not None
    before, now = one.first.entries, outcome.entries
    if len(before) == len(now) == 1 and before[0].name == now[0].name:
        if before[0].text != now[0].text:
            one.varied.add(now[0].name)
            one.settled = True
        return
    then = {e.name: e.text for e in before}
    after = {e.name: e.text for e in now}
    one.varied.update(n for n in {**then, **after} if then.get(n) != after.get(n))


def _sayable(entry: Entry, job: Job) -> str:
    """The text of an entry in submit language, on one line."""
    text, name, source = entry.text, entry.name.removeprefix("+"), entry.source
    if "\n" in text:
        if entry.name == "shell":
            message = "a shell command of several lines cannot be handed over"
            job.say(source, "error", "several-lines", message, "put the lines into a script: executable = job.sh")
        old_environment = entry.name == "environment" and not text.lstrip().startswith('"')
        text = text.replace("\n", ";" if old_environment else " ")
    if is_unsayable(text):
        message = f"{name} combines $ and parentheses in a way that HTCondor would read differently"
        job.say(source, "error", "many-dollars", message, "put it into a script and run that")
    if text.endswith("\\"):
        message = f"{name} ends with a backslash, which would join lines"
        job.say(source, "error", "trailing-backslash", message)
    return submit_language(text)
