"""HTCondor as the judge of our translation: `condor_submit -dry-run` from the pool's image, on both sides.

A is the job ads that HTCondor makes of an original file, B those that it makes of our flat translation of the file.
Each attribute in which a job of A differs from the same job of B must be excused by a row of the table
`docs/translations.md`, which also says what the value has to become. Nothing is submitted, and no daemon runs.

Files that an original needs are created in the scratch folder, as HTCondor's own messages ask for them, until it is
content. A file to take rows from gets three rows with a number for each variable of the queue statement.
"""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final, Literal

from swarmhpc.adapters.expressions import ClassAds
from swarmhpc.jobs.description import Description, parse
from swarmhpc.jobs.findings import Finding
from swarmhpc.jobs.machine import sources
from swarmhpc.jobs.sources import SourceError, Sources
from swarmhpc.jobs.translate import ClassSize, Limits, SubmitSide, Translation, flat_text, translate, variable
from tests.translations import Row, excuse

Ad = Mapping[str, str]
"""One job: attribute -> expression as HTCondor writes it. Names in HTCondor's spelling."""

ENVIRONMENT: Final = {"HOME": "/root", "USER": "root", "ORACLE_ONE": "1", "ORACLE_TWO": "2 words"}
# Large enough for whatever a real file asks for, so that the size of a pool is no reason here.
LIMITS: Final = Limits(classes=(ClassSize("executors", 1024, 16 * 2**20, None, 64),), allow_host_network=True)
_CLOCKS: Final = frozenset({"QDate", "EnteredCurrentStatus"})  # of the moment at which each side was asked
_FACTORY: Final = re.compile(r"^(?=[ \t]*(?:max_materialize|max_idle|materialize_max_idle)\b)", re.I | re.M)
_COMMAND: Final = re.compile(
    r"^[ \t]*@?include[ \t]+command|^[ \t]*@?include\b.*\|[ \t]*$|^[ \t]*queue\b.*\|[ \t]*$", re.I | re.M
)
_FROM: Final = re.compile(r"^[ \t]*queue\b(.*)\bfrom\b", re.I | re.M)
_MATCHING: Final = re.compile(r"^\s*queue\b.*\bmatching\s+(?:(files|dirs|any)\s+)?(.+)$", re.I | re.M)
_QUEUE_MACROS: Final = re.compile(r"^queue\s+(?:\$\((\w+)\).*)?\bfrom\s+\$\((\w+)\)", re.I | re.M)
_ARGUMENTS: Final = re.compile(r"^# condor_submit: (.+)$", re.M)

Good = Literal["equal", "refused", "refused by both", "would run a command", "accepted here"]
Outcome = Good | Literal["different", "wrongly refused", "lenient"]
GOOD: Final[Mapping[Good, str]] = {
    "equal": "translated, and every job ad equal to HTCondor's but for the table's translations",
    "refused": "refused, for a reason that is this pool's",
    "refused by both": "refused, by HTCondor too",
    "would run a command": "refused: reading it would run a command, so HTCondor was not asked either",
    "accepted here": "accepted, though HTCondor refuses it, for a reason of the table",
}

# Runs inside the container, for each line of $1/$2: `condor_submit` until no file that it wants is missing.
_RUNNER: Final = r"""
export CONDOR_CONFIG=ONLY_ENV _CONDOR_SUBMIT_PREVENT_MULTI_QUEUE=false
top=$1 tab=$(printf '\t')
while read -r name; do
    cd "$top/$name" || exit 2
    eval "set -- $(cat "../$name.arguments")"
    tries=0
    while :; do
        timeout 10 condor_submit -disable -dry-run - "$@" "../$name.sub" \
            >"../$name.ads" 2>"../$name.said" </dev/null
        echo $? >"../$name.code"
        wanted=$(sed -n -e "s/^ERROR: Can't access executable file \(.*\): No such file.*/file$tab\1/p" \
            -e "s/^ERROR:.*can't open file \(.*\): No such file.*/rows$tab\1/p" \
            -e "s/^ERROR: No such directory: \(.*\)/directory$tab\1/p" "../$name.said" | head -n 1)
        path=${wanted#*"$tab"}
        tries=$((tries + 1))
        if [ -z "$wanted" ] || [ "$tries" -gt 20 ]; then break; fi
        case $wanted in
            directory*) mkdir -p "$path" ;;
            rows*) mkdir -p "$(dirname "$path")"; cp "$top/$name.rows" "$path" ;;
            *) mkdir -p "$(dirname "$path")"; echo "#!/bin/sh" >"$path"; chmod +x "$path" ;;
        esac
    done
done <"$top/$2"
"""


@dataclass(frozen=True)
class Case:
    """One description to judge. `beside`: a folder whose files the description may read, copied next to it."""

    name: str
    text: str
    beside: Path | None = None

    @property
    def arguments(self) -> list[str]:
        """Words for condor_submit's command line: what a line `# condor_submit: …` of our own files says, and a value
        for each macro that a queue statement uses and nobody defines (such files are used with a command line).
        """
        words = shlex.split(" ".join(_ARGUMENTS.findall(self.text)))
        for count, rows in _QUEUE_MACROS.findall(self.text):
            for name, value in ((count, "2"), (rows, "rows.txt")):
                if name and not re.search(rf"^\s*{name}\s*=", self.text, re.I | re.M):
                    words.append(f"{name}={value}")
        return words

    @property
    def rows(self) -> str:
        """What a file of rows that is missing gets: three rows of as many numbers as there are variables."""
        variables = max((len(re.findall(r"[A-Za-z]\w*", words)) for words in _FROM.findall(self.text)), default=1)
        columns = variables - sum("$(" in words for words in _FROM.findall(self.text))  # a macro there is the count
        return "".join(", ".join(str(row + c) for c in range(max(columns, 1))) + "\n" for row in (1, 2, 3))


@dataclass(frozen=True)
class Answer:
    """What HTCondor made of a file: its jobs, or why there are none."""

    jobs: tuple[Ad, ...]
    said: str

    @property
    def accepted(self) -> bool:
        return bool(self.jobs)


@dataclass(frozen=True)
class Difference:
    """One attribute of one job, where no row of the table excuses it. None: the attribute is not there."""

    job: int
    attribute: str
    ours: str | None
    theirs: str | None


@dataclass(frozen=True)
class Verdict:
    """What became of one file."""

    name: str
    outcome: Outcome
    jobs: int = 0
    codes: tuple[str, ...] = ()
    excused: frozenset[Row] = frozenset()
    differences: tuple[Difference, ...] = ()
    said: str = ""
    description: Description | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.outcome} {' '.join(self.codes)}".rstrip()]
        lines += [f"    job {d.job} {d.attribute}: ours {d.ours}; HTCondor {d.theirs}" for d in self.differences[:12]]
        return "\n".join([*lines, *(f"    {line}" for line in self.said.splitlines()[:6])])


class Oracle:
    """`condor_submit` in a container of the pool's image, which sees `folder` under the same path."""

    def __init__(self, image: str, folder: Path) -> None:
        self.folder = folder
        (folder / "runner").write_text(_RUNNER)
        variables = [word for name, value in ENVIRONMENT.items() for word in ("-e", f"{name}={value}")]
        self.container = _docker(
            "run", "--rm", "-d", "-v", f"{folder}:{folder}", *variables,
            "--entrypoint", "sleep", image, "3600",
        )  # fmt: skip

    def stop(self) -> None:
        _docker("rm", "-f", self.container)

    @functools.cached_property
    def facts(self) -> Mapping[str, str]:
        """The macros that HTCondor defines from the machine, in lower case; not the clock's."""
        names = ("ARCH", "OPSYS", "OPSYSVER", "OPSYSMAJORVER", "OPSYSANDVER", "SPOOL")
        script = 'for n; do echo "$n=$(CONDOR_CONFIG=ONLY_ENV condor_config_val $n 2>/dev/null)"; done'
        lines = _docker("exec", self.container, "sh", "-c", script, "sh", *names).splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return {name.lower(): value for name, value in found.items() if value}

    def ask(self, names: Sequence[str]) -> dict[str, Answer]:
        """Answers for NAME.sub with the words of NAME.arguments, each read in the folder NAME. Two at a time."""
        halves = [names[0::2], names[1::2]]
        running = []
        for number, half in enumerate(halves):
            (self.folder / f"list{number}").write_text("".join(f"{name}\n" for name in half))
            command = [
                "docker",
                "exec",
                self.container,
                "sh",
                f"{self.folder}/runner",
                str(self.folder),
                f"list{number}",
            ]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        for process in running:
            said, _ = process.communicate(timeout=300)
            assert process.returncode == 0, said
        return {name: self._answer(name) for name in names}

    def _answer(self, name: str) -> Answer:
        said, code, ads = (self.beside(name, what).read_text(errors="replace") for what in ("said", "code", "ads"))
        assert code.strip() != "124", f"condor_submit did not end in 10 s: {name}"
        return Answer(tuple(read_ads(ads)) if code.strip() == "0" else (), said.strip())

    def beside(self, name: str, what: str) -> Path:
        """What belongs to a case lies beside its folder, so that a job may send `.` and both sides see the same."""
        return self.folder / f"{name}.{what}"


def read_ads(text: str) -> Iterator[Ad]:
    """The jobs of what `condor_submit -dry-run -` printed (25.14).

    The first ad holds what all jobs share, then `ProcId` and what is the first job's own; the others hold only what
    differs from the shared part, as in the queue.
    """
    shared: dict[str, str] = {}
    for number, block in enumerate(re.split(r"^\.$", text, flags=re.M)[:-1]):
        own: dict[str, str] = {}
        for line in block.splitlines():
            name, equals, value = line.partition("=")
            if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
                continue  # "Dry-Run job(s)" and warnings
            (own if number or name == "ProcId" or "ProcId" in own else shared)[name] = value
        assert "ClusterId" not in own, "two clusters"
        yield MappingProxyType(shared | own)


def judge(
    oracle: Oracle,
    cases: Sequence[Case],
    table: Sequence[Row],
    reasons: Collection[str],
    accepted_here: Collection[str],
) -> list[Verdict]:
    """A verdict for each case. `reasons`: codes of findings for which a file that HTCondor accepts may be refused.
    `accepted_here`: parts of what HTCondor says when it refuses what we may accept.
    """
    asked = [case for case in cases if not _COMMAND.search(case.text)]
    for case in cases:
        _stage(oracle, case)
    originals = oracle.ask([case.name for case in asked])
    translations = {case.name: _ours(oracle, case, originals.get(case.name)) for case in cases}
    submitted = []
    for case in asked:
        translation = translations[case.name][1]
        if not _is_refused(translation.findings):
            oracle.beside(case.name, "sub").write_text(flat(translation))
            oracle.beside(case.name, "arguments").write_text("")
            submitted.append(case.name)
    answers = oracle.ask(submitted)
    return [
        _verdict(
            case.name,
            *translations[case.name],
            originals.get(case.name),
            answers.get(case.name),
            table,
            reasons,
            accepted_here,
        )
        for case in cases
    ]


def flat(translation: Translation) -> str:
    """The translation as one file: its rows are a table whose fields are split at the unit separator.

    As in submit.py, a first and a last column guard the others from what a row may not begin or end with.
    """
    (cluster,) = translation.clusters
    names = ["swarmhpc_first", *(variable(name) for name in cluster.varying), "swarmhpc_last"]
    rows = "".join("\x1f".join(["x", *row, "x"]) + "\n" for row, _ in cluster.rows())
    return f"{flat_text(cluster)}queue {','.join(names)} from (\n{rows})\n"


def _verdict(
    name: str, description: Description, translation: Translation, theirs: Answer | None, ours: Answer | None,
    table: Sequence[Row], reasons: Collection[str], accepted_here: Collection[str],
) -> Verdict:  # fmt: skip
    codes = tuple(sorted({f.code for f in translation.findings if f.severity == "error"}))
    verdict = Verdict(name, "different", description.jobs, codes, description=description)
    if theirs is None:
        return replace(verdict, outcome="would run a command" if "would-run-command" in codes else "different")
    if _is_refused(translation.findings):
        if not theirs.accepted:
            return replace(verdict, outcome="refused by both", said=theirs.said)
        said = "\n".join(
            f"{f.place.line}: {f.message} [{f.code}]" for f in translation.findings if f.severity == "error"
        )
        return replace(verdict, outcome="refused" if set(codes) <= set(reasons) else "wrongly refused", said=said)
    if not theirs.accepted:
        known = any(part in theirs.said for part in accepted_here)
        return replace(verdict, outcome="accepted here" if known else "lenient", said=theirs.said)
    if ours is None or len(ours.jobs) != len(theirs.jobs):
        count = f"{len(ours.jobs) if ours else 0} jobs here, {len(theirs.jobs)} in HTCondor"
        return replace(verdict, said=f"{count}\n{ours.said if ours else ''}")
    excused, differences = compare(theirs.jobs, ours.jobs, table)
    outcome: Outcome = "different" if differences else "equal"
    return replace(verdict, outcome=outcome, excused=frozenset(excused), differences=tuple(differences))


def compare(theirs: Sequence[Ad], ours: Sequence[Ad], table: Sequence[Row]) -> tuple[set[Row], list[Difference]]:
    """The rows of the table that excuse something, and what none excuses."""
    excused: set[Row] = set()
    differences = []
    for number, (a, b) in enumerate(zip(theirs, ours, strict=True)):
        a_by_name, b_by_name = ({name.lower(): value for name, value in ad.items()} for ad in (a, b))
        for name in {**a, **b}:
            was, became = a_by_name.get(name.lower()), b_by_name.get(name.lower())
            if was == became or name in _CLOCKS:
                continue
            row = excuse(table, name, was, became, a, b)
            if row is None:
                differences.append(Difference(number, name, became, was))
            else:
                excused.add(row)
    return excused, differences


def _is_refused(findings: Sequence[Finding]) -> bool:
    return any(f.severity == "error" for f in findings)


def _stage(oracle: Oracle, case: Case) -> None:
    folder = oracle.folder / case.name
    folder.mkdir()
    if case.beside is not None:
        shutil.copytree(case.beside, folder / case.beside.name)
        (folder / "job.sh").write_text("#!/bin/sh\n")  # what most of our own files run: saves a round
    # A dry run prints no jobs of a late materialization, so HTCondor is asked about the description without it.
    oracle.beside(case.name, "sub").write_bytes(_FACTORY.sub("# ", case.text).encode("utf-8", "surrogateescape"))
    oracle.beside(case.name, "arguments").write_text(shlex.join(case.arguments))
    oracle.beside(case.name, "rows").write_text(case.rows)
    for kind, patterns in _MATCHING.findall(case.text) if case.beside is None else ():
        for pattern in re.split(r"[,\s]+", patterns.strip()):
            for stem in ("a1", "b2", "c3"):
                path = folder / pattern.replace("*", stem)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.mkdir() if kind.lower() == "dirs" else path.touch()


def _ours(oracle: Oracle, case: Case, theirs: Answer | None) -> tuple[Description, Translation]:
    folder = oracle.folder / case.name
    at = int(theirs.jobs[0]["QDate"]) if theirs and theirs.jobs else 0
    day = time.gmtime(at)  # the container's clock is UTC
    facts = {
        **oracle.facts,
        "submit_file": f"../{case.name}.sub",
        "submit_time": str(at),
        "year": f"{day.tm_year}",
        "month": f"{day.tm_mon:02}",
        "day": f"{day.tm_mday:02}",
    }
    words = case.arguments
    appended = [words[i + 1] for i, word in enumerate(words) if word == "-append"]
    overrides = [w for i, w in enumerate(words) if w != "-append" and (i == 0 or words[i - 1] != "-append")]
    description = parse(
        case.text,
        file="job.sub",
        sources=_sources(folder, facts, case.rows),
        overrides=overrides,
        append=appended,
    )
    side = SubmitSide(
        cwd=PurePosixPath(folder), home=PurePosixPath("/root"), exists=lambda _: True, parses=ClassAds().parses
    )
    return description, translate(description, limits=LIMITS, side=side)


def _sources(folder: Path, facts: Mapping[str, str], rows: str) -> Sources:
    """This machine as HTCondor finds it in the container: what is not in the folder was made of `rows` there."""
    here = sources(folder / "job.sub", folder, run=False)

    def read(path: str) -> str:
        try:
            return here.read(path)
        except SourceError:
            return rows

    return replace(here, read=read, environment={**ENVIRONMENT, "PWD": str(folder)}, facts={**here.facts, **facts})


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def own_cases() -> list[Case]:
    """Our own descriptions. Those of `refused` only we refuse, those of `invalid` HTCondor refuses, too."""
    folder = Path(__file__).parent / "descriptions"
    found = [("own", p) for p in sorted(folder.glob("*.sub"))]
    found += [(kind, p) for kind in ("refused", "invalid") for p in sorted((folder / kind).glob("*.sub"))]
    return [Case(f"{kind}-{p.stem}", p.read_bytes().decode(), folder / "data") for kind, p in found]


def corpus_cases(folder: Path) -> list[Case]:
    """The real files of `folder`, which stay where they are."""
    return [Case(p.stem, p.read_bytes().decode("utf-8", "surrogateescape")) for p in sorted(folder.glob("*.sub"))]
