"""The queue statement beside what `condor_submit -dry-run` of 25.14.1 made of the same text (queue_statements.json)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from swarmhpc.jobs.description import Description, parse
from swarmhpc.jobs.findings import Findings, Place, Value
from swarmhpc.jobs.machine import sources
from swarmhpc.jobs.macros import Macros
from swarmhpc.jobs.queue import MAX_JOBS, Queue, read_queue
from swarmhpc.jobs.sources import NOTHING, SourceError, Sources

RECORDED = json.loads((Path(__file__).parent / "queue_statements.json").read_text(encoding="utf-8"))
# Where we differ on purpose, each with its reason.
DIFFERENT = {
    "queue a from [-20:3] ten.txt": "an error: HTCondor makes one job of no row, with $(Row) = -10",
    "queue a from sub": "an error: HTCondor reads a directory as a file without rows",
    "queue a from .": "an error: HTCondor reads a directory as a file without rows",
    "queue a,b from -": "pytest has no standard input; test_machine.py has it",
    "queue a from (\nx\\\n# c\ny\n)": "HTCondor keeps the last character of a comment in a continued line",
}
PLACE = Place("job.sub", 1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("rows")
    for name, text in RECORDED["files"].items():
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_text(text, encoding="utf-8", newline="")
    for name, target in RECORDED["links"].items():
        (top / name).symlink_to(target)
    return top


def read(text: str, asks: Sources) -> Description:
    return parse("\n".join([*RECORDED["head"], text, ""]), file="job.sub", sources=asks)


def described(description: Description) -> list[str]:
    """What the command `description` of the file becomes for each job."""
    jobs: list[str] = []
    for statement in description.statements:
        template = statement.macros.compile(statement.commands["description"].text)
        jobs.extend(template.render(live) for live in statement.queue.lives(len(jobs)))
    return jobs


@pytest.mark.parametrize(
    ("text", "jobs"),
    [pytest.param(*case, id=case[0][:60]) for case in RECORDED["statements"] if case[0] not in DIFFERENT],
)
def test_the_jobs_are_those_of_condor_submit(folder: Path, text: str, jobs: list[str] | None) -> None:
    seen = read(text, sources(Path("job.sub"), folder, run="echo" in text))
    errors = {f.code for f in seen.findings if f.severity == "error"} - {"unknown-command"}
    if jobs is None:
        assert errors
    else:
        assert described(seen) == jobs
        assert errors <= ({"no-jobs"} if not jobs else set())


def test_a_statement_that_differs_from_condor_submit_is_recorded() -> None:
    assert set(DIFFERENT) <= {text for text, _ in RECORDED["statements"]}


def alone(
    text: str, *following: str, files: dict[str, str] | None = None, **asks: object
) -> tuple[Queue | None, list[tuple[str, str, int, int]]]:
    """One statement, the lines after it, and the findings as (severity, code, line, column)."""

    def file(path: str) -> str:
        if path not in (files or {}):
            raise SourceError(f"there is no file {path}")
        return (files or {})[path]

    findings = Findings()
    lines = ((line, Place("job.sub", number, 3)) for number, line in enumerate(following, 2))
    value = Value(text, Place("job.sub", 1, 7))
    found = read_queue(value, Macros({}), replace(NOTHING, read=file, **asks), findings, lines, PLACE)  # type: ignore[arg-type]
    return found, [(f.severity, f.code, f.place.line, f.place.column) for f in findings.sorted()]


@pytest.mark.parametrize(
    ("text", "following", "found"),
    [
        ("ten", [], ("error", "queue-count", 1, 7)),
        ("10 # jobs", [], ("error", "queue-count", 1, 7)),
        ("-1", [], ("error", "queue-count", 1, 7)),
        (str(MAX_JOBS + 1), [], ("error", "queue-count", 1, 7)),
        ("2000000 x in (a b)", [], ("error", "queue-count", 1, 7)),
        ("9" * 5000, [], ("error", "queue-count", 1, 7)),
        ("0", [], ("warning", "queue-count", 1, 7)),
        ("x in", [], ("error", "queue-syntax", 1, 7)),
        ("x in files *", [], ("error", "queue-syntax", 1, 12)),
        ("x matching dirs files *", [], ("error", "queue-syntax", 1, 23)),
        ("x from [a:b] f", [], ("error", "queue-syntax", 1, 14)),
        ("x in (", ["a"], ("error", "unclosed-table", 1, 12)),
        ("x in (a) b", [], ("error", "unclosed-table", 1, 12)),
        ("x in (", ["a", ") b"], ("warning", "queue-syntax", 3, 3)),
        ("x in ()", [], ("warning", "empty-queue", 1, 7)),
        ("x from nowhere.txt", [], ("error", "queue-file-missing", 1, 14)),
        ("x in [3:] (a b)", [], ("warning", "slice-out-of-range", 1, 7)),
        ("x in [-3:] (a b)", [], ("error", "slice-out-of-range", 1, 7)),
        ("x in [::0] (a b)", [], ("error", "slice-out-of-range", 1, 12)),
        ("x in [1] (a b)", [], ("note", "slice-to-the-end", 1, 12)),
        ("x,y from (", ["a, b", "c", ")"], ("warning", "row-fields", 3, 3)),
        ("x,y from (", ["a, b", "", ")"], ("warning", "row-empty", 3, 3)),
        ("x,y from (", ["a, b", "c , d", ")"], ("warning", "blank-before-comma", 3, 3)),
        ("x,y from (", ["a, b", "c, d, e", ")"], ("note", "row-surplus", 3, 3)),
        ("x,y from [1:] (", ["a", "c, d", "e", ")"], ("warning", "row-fields", 4, 3)),
        ("x from table(tabs=1) (", ["x", "1", ")"], ("warning", "table-option", 1, 20)),
        ("x,y from table (", ["a, b", "1, 2", ")"], ("warning", "table-header", 1, 7)),
        ("x from table (", ["1 2", "3", ")"], ("warning", "table-header", 1, 7)),
        ("x from ls |", [], ("error", "would-run-command", 1, 14)),
        ("x from ls | head", [], ("error", "queue-syntax", 1, 14)),
        ("x matching *.csv", [], ("warning", "no-match", 1, 18)),
    ],
)
def test_what_is_odd_is_said_at_its_place(text: str, following: list[str], found: tuple[str, str, int, int]) -> None:
    queue, findings = alone(text, *following)
    assert found in findings
    assert (queue is None) == any(severity == "error" for severity, *_ in findings)


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("3", []),
        ("x in (a b)", []),
        ("name, args from (", ["one --a --b", "two --c", ")"]),
        ("name, args from (", ["one, --a b", "two, --c", ")"]),
        ("name, args from (", ["one --list=1,2", ")"]),
        ("x from [:1] (", ["a", "b", ")"]),
    ],
)
def test_what_is_usual_has_no_findings(text: str, following: list[str]) -> None:
    assert alone(text, *following)[1] == []


def test_a_comment_in_a_row_file_is_a_row_and_said() -> None:
    queue, findings = alone("x from f", files={"f": "a\n# b\n"})
    assert queue is not None and list(queue.rows) == ["a", "# b"]
    assert findings == [("warning", "row-comment", 1, 14)]


def test_the_lines_after_a_table_stay_for_the_reader_also_after_an_error() -> None:
    following: Iterator[tuple[str, Place]] = iter([(line, PLACE) for line in ("a 1", ")", "queue")])
    findings = Findings()
    assert read_queue(Value("x-y from (", PLACE), Macros({}), NOTHING, findings, following, PLACE) is None
    assert [f.code for f in findings.sorted()] == ["queue-count"]
    assert [line for line, _ in following] == ["queue"]


def test_a_command_runs_only_when_it_may_and_is_told() -> None:
    ran: list[str] = []

    def run(command: str) -> str:
        ran.append(command)
        return "a\nb\n"

    assert alone("x from list it |")[0] is None
    queue, findings = alone("x from list it |", run=run)
    assert queue is not None and list(queue.rows) == ["a", "b"]
    assert ran == ["list it"]
    assert findings == [("note", "command-run", 1, 14)]


def test_a_command_that_fails_is_an_error() -> None:
    def run(_command: str) -> str:
        raise SourceError("list ended with code 1")

    assert alone("x from list |", run=run) == (None, [("error", "queue-command-failed", 1, 14)])


def test_rows_are_counted_before_the_slice_and_processes_go_on() -> None:
    queue, _ = alone("2 X, y from [1::2] (", "a 1", "b 2", "c 3", "d 4", ")")
    assert queue is not None
    assert (queue.variables, queue.jobs) == (("X", "y"), 4)
    keys = ("process", "procid", "step", "row", "itemindex", "item", "x", "y")
    assert [tuple(live[key] for key in keys) for live in queue.lives(10)] == [
        ("10", "10", "0", "1", "1", "", "b", "2"),
        ("11", "11", "1", "1", "1", "", "b", "2"),
        ("12", "12", "0", "3", "3", "", "d", "4"),
        ("13", "13", "1", "3", "3", "", "d", "4"),
    ]


def test_a_million_rows_are_kept_as_they_are() -> None:
    text = "x, 1\n" * MAX_JOBS
    queue, findings = alone("a,b from f", files={"f": text})
    assert queue is not None and findings == []
    assert (queue.jobs, len(queue.rows), queue.rows[-1]) == (MAX_JOBS, MAX_JOBS, "x, 1")
    assert alone("a,b from f", files={"f": text + "y, 2\n"})[0] is None


@pytest.mark.parametrize(
    "text",
    [
        "(" * 1_000_000,
        "a " * 1_000_000 + "in (x)",
        "a in [" + "1" * 1_000_000 + "] x",
        "from table(" + "(" * 1_000_000,
        "from table(" + "'" * 1_000_001 + " f",
        "1" * 1_000_000,
        "a1" * 500_000 + " in x",
        "a,b from (x" + " " * 1_000_000 + "y , z)",
        "in " * 300_000,
        "[ " * 500_000,
        "a in " + "[1:2] " * 200_000,
        "a,b from (" + "x ," * 300_000 + ")",
    ],
    ids=lambda text: text[:12],
)
def test_long_statements_take_no_long_time(text: str) -> None:
    """Quadratic time would take minutes; the test session has a limit for each test."""
    queue, findings = alone(text)
    assert queue is not None or findings
