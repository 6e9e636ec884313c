"""`swarmhpc check`, `translate` and what `submit` shares with them: how findings are shown, what is printed where, and
how each call ends."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from swarmhpc import context as contexts
from swarmhpc.adapters import condor, registry
from swarmhpc.cli import findings as cli
from swarmhpc.cli.app import run
from swarmhpc.errors import PoolUnreachableError
from swarmhpc.jobs.description import parse
from swarmhpc.jobs.findings import Finding, Place, Severity

TOP = Path(__file__).resolve().parents[2]
GOOD = "executable = /bin/sleep\nuniverse = docker\ndocker_image = alpine:3\narguments = $(Process)\nqueue 3\n"


def finding(
    line: int, column: int, severity: Severity = "error", *, file: str = "job.sub", message: str = "m", hint: str = ""
) -> Finding:
    return Finding(Place(file, line, column), severity, "some-code", message, hint)


def shown(what: Finding, text: str, *, terminal: bool = False, width: int = 80) -> list[str]:
    """The lines that one finding about a file with this text becomes."""
    texts = cli.Texts()
    texts.remember(what.place.file, text)
    screen = Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system="auto")
    cli.show([what], texts, screen)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().split("\n")[:-1]


def cells_before_caret(lines: list[str]) -> int:
    return cell_len(lines[2].partition("^")[0])


# -- one finding -----------------------------------------------------------------------------------------------------


def test_a_finding_is_its_sentence_the_line_a_caret_and_the_hint() -> None:
    what = finding(2, 5, "warning", message="b is [odd]", hint="write c\nor d")
    assert shown(what, "x = 1\na = b\n") == [
        "job.sub:2:5: warning: b is [odd] [some-code]",
        "    a = b",
        "        ^",
        "    write c",
        "    or d",
    ]


@pytest.mark.parametrize(
    ("line", "column", "pointed"),
    [
        ("\ta = b", 6, "b"),
        ("a\t=\tb", 5, "b"),
        ("名前 = b", 6, "b"),
        ("e\u0301 = b", 6, "b"),
        ("a = 名", 5, "名"),
        ("a = \x1b[2Jb", 9, "b"),
    ],
    ids=["tab", "tabs", "wide", "combining", "on a wide one", "escape"],
)
def test_the_caret_stands_under_its_character(line: str, column: int, pointed: str) -> None:
    lines = shown(finding(1, column), line)
    before = cells_before_caret(lines)
    upto = lines[1].rindex(pointed)
    assert cell_len(lines[1][:upto]) == before


@pytest.mark.parametrize("column", [4, 999])
def test_a_caret_behind_the_end_stands_right_after_the_line(column: int) -> None:
    assert shown(finding(1, column), "a =")[1:] == ["    a =", "       ^"]


@pytest.mark.parametrize(("line", "text"), [(3, "a\nb"), (1, ""), (2, "a\n   \nb"), (0, "a")])
def test_where_there_is_no_line_only_the_sentence_is_shown(line: int, text: str) -> None:
    assert shown(finding(line, 1), text) == [f"job.sub:{line}:1: error: m [some-code]"]


def test_only_a_line_feed_ends_a_line() -> None:
    assert shown(finding(2, 1), "a\x0bb\u2028c\r\nthis\r\n")[1] == "    this"


def test_the_line_is_that_of_the_file_which_the_place_names() -> None:
    texts = cli.Texts()
    texts.remember("job.sub", "main\n")
    assert texts.recording(lambda path: f"text of {path}\n")("common.sub") == "text of common.sub\n"
    assert texts.line(Place("common.sub", 1, 1)) == "text of common.sub"
    assert texts.line(Place("job.sub", 1, 1)) == "main"
    assert texts.line(Place("other.sub", 1, 1)) is None


def test_a_line_is_shown_as_it_was_when_it_was_read() -> None:
    answers = iter(["first", "second"])
    texts = cli.Texts()
    read = texts.recording(lambda _path: next(answers))
    assert [read("a"), read("a")] == ["first", "second"]
    assert texts.line(Place("a", 1, 1)) == "first"


@pytest.mark.parametrize("colour", ["31", "33", "36"])
def test_there_is_colour_on_a_terminal_only(colour: str) -> None:
    severity: Severity = {"31": "error", "33": "warning", "36": "note"}[colour]  # type: ignore[assignment]
    what = finding(1, 1, severity)
    on, off = shown(what, "a", terminal=True), shown(what, "a")
    assert f"{colour}m{severity}:" in on[0]
    assert f"{colour}m^" in on[2]
    assert not any("\x1b" in line for line in off)


@pytest.mark.parametrize("bad", ["\x1b[2J", "\x07", "\x9b31m", "\u202e", "\r", "\ud800"])
def test_nothing_in_a_file_or_its_name_steers_the_terminal(bad: str) -> None:
    what = finding(1, 1, file=f"{bad}.sub", message=f"saw {bad}", hint=f"not {bad}")
    text = "".join(shown(what, f"a = {bad}x"))
    assert bad not in text
    assert text.count("�") == 4


# -- long lines ------------------------------------------------------------------------------------------------------


def test_a_long_line_is_cut_around_the_caret() -> None:
    line = "a" * 500 + "X" + "b" * 500
    lines = shown(finding(1, 501), line)
    assert lines[1].strip().startswith("…a")
    assert lines[1].endswith("b…")
    assert cell_len(lines[1]) == 120
    assert lines[1][lines[2].index("^")] == "X"


def test_the_beginning_and_the_end_of_a_long_line_are_shown_where_the_caret_is_near() -> None:
    line = "".join(chr(ord("a") + i % 26) for i in range(400))
    start, end = shown(finding(1, 3), line), shown(finding(1, 399), line)
    assert (start[1][:7], start[1][-1], start[2].index("^")) == ("    abc", "…", 6)
    assert (end[1][:5], end[1][-3:], cell_len(end[1])) == ("    …", line[-3:], 119)
    assert end[1][end[2].index("^")] == line[398]


def test_a_narrow_terminal_gets_a_narrow_line() -> None:
    lines = shown(finding(1, 501), "a" * 1000, terminal=True, width=50)
    assert cell_len(lines[1]) <= 50


@given(
    st.text(alphabet=st.sampled_from("ab \t名é\u0301\x00🎉"), max_size=300),
    st.integers(min_value=-1, max_value=320),
    st.integers(min_value=20, max_value=200),
)
def test_a_cut_fits_and_its_caret_points_at_the_same_character(line: str, column: int, width: int) -> None:
    text, before = cli.cut(line, column, width)
    assert cell_len(text) <= width
    caret = min(max(column - 1, 0), len(line))
    if caret < len(line) and (wanted := line[caret]) in "ab名🎉":
        reached, cells = 0, 0
        while cells < before:
            cells += cell_len(text[reached])
            reached += 1
        assert cells == before
        # A mark that combines with the character before takes no cell.
        assert wanted in text[reached : reached + 1 + len(line)].lstrip("\u0301")[:1]


def test_a_line_of_ten_megabytes_is_cut_without_looking_at_all_of_it() -> None:
    line = "\t名" * 5_000_000
    text, before = cli.cut(line, 5_000_001, 100)
    assert cell_len(text) <= 100
    assert 0 < before < 100


# -- order, counts, JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jobs", "severities", "words"),
    [
        (3, ["error", "warning", "warning"], "job.sub: 3 jobs, 1 error, 2 warnings"),
        (1, ["note"], "job.sub: 1 job, 1 note"),
        (0, ["error", "error"], "job.sub: 0 jobs, 2 errors"),
        (2, [], "job.sub: 2 jobs, no findings"),
    ],
)
def test_the_summary_counts_jobs_and_findings(jobs: int, severities: list[Severity], words: str) -> None:
    assert cli.summary("job.sub", jobs, [finding(1, 1, s) for s in severities]) == words


def test_a_finding_in_json_names_its_file_only_when_that_is_an_included_one() -> None:
    own = cli.as_data(finding(2, 3, hint="h"), "job.sub")
    assert own == {
        "line": 2, "column": 3, "severity": "error", "code": "some-code", "message": "m", "hint": "h",
    }  # fmt: skip
    assert cli.as_data(finding(2, 3, hint="h", file="x.inc"), "job.sub") == {"file": "x.inc", **own}


# -- check -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, on a machine that knows no pool."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SWARMHPC_POOL", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("swarmhpc.pool._connected", None)  # a process talks to one pool as one person
    return tmp_path / "here"


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `swarmhpc`; its exit code, stdout and stderr."""

    def called(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return called


def write(folder: Path, text: str, name: str = "job.sub") -> Path:
    (folder / name).write_text(text)
    return folder / name


def codes(document: Any) -> list[tuple[int, int, str, str]]:
    return [(f["line"], f["column"], f["severity"], f["code"]) for f in document["findings"]]


def test_check_of_a_good_file_ends_with_0_and_one_line_on_stderr(folder: Path, call: Call) -> None:
    write(folder, GOOD)
    code, out, err = call("check", "job.sub")
    assert code == 0
    assert "error:" not in out
    assert err.startswith("job.sub: 3 jobs, ")
    assert err.count("\n") == 1


def test_check_of_a_file_with_an_error_ends_with_1_and_points_at_it(folder: Path, call: Call) -> None:
    write(folder, GOOD.replace("arguments =", "arguments"))
    code, out, err = call("check", "job.sub")
    assert code == 1
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("job.sub:4:1: error: "))
    assert lines[at].endswith(" [not-understood]")
    assert lines[at + 1 : at + 3] == ["    arguments $(Process)", "    ^"]
    assert "arguments" in lines[at] + lines[at + 3]
    assert err.startswith("job.sub: 3 jobs, 1 error")


def test_check_in_a_continued_line_points_into_the_physical_line(folder: Path, call: Call) -> None:
    write(folder, GOOD.replace("$(Process)", "a \\\n\t\tb $(nobody)"))
    out = call("check", "job.sub")[1].splitlines()
    at = next(i for i, line in enumerate(out) if "undefined-macro" in line)
    assert out[at].startswith("job.sub:5:5: ")
    assert out[at + 1 : at + 3] == [f"{' ' * 12}b $(nobody)", f"{' ' * 14}^"]


def test_check_shows_the_line_of_an_included_file_and_names_it(folder: Path, call: Call) -> None:
    write(folder, "arguments 1\n", "common.inc")
    write(folder, "include : common.inc\n" + GOOD)
    code, out, _err = call("check", "job.sub")
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if "[not-understood]" in line)
    assert code == 1
    assert lines[at].partition(":")[0].endswith("common.inc")
    assert lines[at + 1 : at + 3] == ["    arguments 1", "    ^"]
    document = json.loads(call("check", "job.sub", "--json")[1])[0]
    assert [f["file"] for f in document["findings"] if "file" in f] == [lines[at].partition(":")[0]]


def test_findings_come_by_place_and_those_of_included_files_after_those_of_the_file_itself(
    folder: Path, call: Call
) -> None:
    write(folder, "univrese = docker\n", "common.inc")
    write(folder, "include : common.inc\n" + GOOD.replace("arguments", "argumnets").replace("docker_i", "dokcer_i"))
    document = json.loads(call("check", "job.sub", "--json")[1])[0]
    errors = [(f.get("file"), f["line"]) for f in document["findings"] if f["code"] == "unknown-command"]
    assert errors == [(None, 4), (None, 5), ("common.inc", 1)]


def test_a_word_of_the_command_line_and_an_appended_line_are_shown_with_their_carets(folder: Path, call: Call) -> None:
    write(folder, GOOD)
    out = call("check", "job.sub", "a=1", "argumnets=1", "-a", "b = 1", "-a", "  dokcer_image = x")[1].splitlines()
    at = next(i for i, line in enumerate(out) if "argumnets is no" in line)
    assert out[at + 1 : at + 3] == ["    argumnets=1", "    ^"]
    at = next(i for i, line in enumerate(out) if "dokcer_image is no" in line)
    assert out[at + 1 : at + 3] == ["      dokcer_image = x", "      ^"]


def test_check_in_json_is_a_list_of_files(folder: Path, call: Call) -> None:
    write(folder, GOOD)
    write(folder, GOOD.replace("arguments =", "arguments"), "bad.sub")
    code, out, err = call("check", "job.sub", "bad.sub", "--json")
    good, bad = json.loads(out)
    assert (code, err) == (1, "")
    assert (good["file"], good["jobs"], bad["file"], bad["jobs"]) == ("job.sub", 3, "bad.sub", 3)
    assert (4, 1, "error", "not-understood") in codes(bad)
    assert not [c for c in codes(good) if c[2] == "error"]
    assert {*bad["findings"][0]} == {"line", "column", "severity", "code", "message", "hint"}


def test_check_tells_each_file_and_then_one_line_a_file(folder: Path, call: Call) -> None:
    for name in ("a.sub", "b.sub"):
        write(folder, GOOD.replace("arguments =", "arguments"), name)
    code, out, err = call("check", "b.sub", "a.sub", "b.sub")
    assert code == 1
    assert out.index("b.sub:4:1") < out.index("a.sub:4:1")
    assert [line.partition(":")[0] for line in err.splitlines()] == ["b.sub", "a.sub"]


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_file_that_does_not_exist_is_wrong_usage_whatever_the_others_have(
    folder: Path, call: Call, arguments: list[str]
) -> None:
    write(folder, GOOD)
    code, out, err = call("check", "job.sub", "nowhere.sub", *arguments)
    assert (code, out) == (2, "")
    assert "nowhere.sub: there is no such file" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check"], "FILE"),
        (["check", "a=1"], "no submit description"),
        (["translate", "job.sub", "other.sub"], "job.sub, other.sub"),
        (["translate", "job.sub", "--job", "3"], "has 3 jobs"),
        (["translate", "job.sub", "--job", "-1"], "--job"),
        (["check", "job.sub", "-append", "queue 5"], "--append"),
        (["check", "."], "is a folder"),
    ],
)
def test_wrong_usage_ends_with_2_and_prints_no_data(folder: Path, call: Call, arguments: list[str], words: str) -> None:
    write(folder, GOOD)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_a_dash_is_standard_input(folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GOOD.replace("arguments =", "arguments").encode())))
    code, out, err = call("check", "-")
    assert code == 1
    assert "\n-:4:1: error: " in "\n" + out
    assert "    arguments $(Process)\n    ^\n" in out
    assert err.startswith("-: 3 jobs, 1 error")


def test_words_of_the_command_line_and_appended_lines_are_read(folder: Path, call: Call) -> None:
    write(folder, GOOD.replace("queue 3", "queue $(many)"))
    document = json.loads(call("check", "job.sub", "many=7", "-a", "argumnets = 1", "--json")[1])[0]
    assert document["jobs"] == 7
    assert "unknown-command" in [f["code"] for f in document["findings"]]


def test_no_command_runs_unless_it_is_allowed_and_then_it_is_shown_first_and_runs_once(
    folder: Path, call: Call
) -> None:
    write(folder, "#!/bin/sh\necho ran >> ran.txt; echo $1; echo b\n", "rows.sh").chmod(0o755)
    write(folder, GOOD.replace("queue 3", "queue x from ./rows.sh a |").replace("$(Process)", "$(x)"))
    code, out, _err = call("check", "job.sub")
    assert (code, (folder / "ran.txt").exists()) == (1, False)
    assert "[would-run-command]" in out
    assert "./rows.sh a" in out
    code, out, err = call("check", "job.sub", "--allow-commands")
    assert (code, (folder / "ran.txt").read_text()) == (0, "ran\n")
    assert err.startswith("runs: ./rows.sh a\n")
    assert "job.sub: 2 jobs" in err


def test_submit_runs_an_allowed_command_once(
    folder: Path, lab: socket.socket, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condor, "Pool", OneClass)
    write(folder, "#!/bin/sh\necho ran >> ran.txt; echo a; echo b\n", "rows.sh").chmod(0o755)
    write(folder, GOOD.replace("queue 3", "queue x from ./rows.sh |").replace("$(Process)", "$(x)"))
    code, out, err = call("submit", "job.sub", "--dry-run", "--allow-commands")
    assert (code, (folder / "ran.txt").read_text()) == (0, "ran\n")
    assert err.startswith("runs: ./rows.sh\n")
    assert out.splitlines()[-3:] == ["x\x1fa\x1fx", "x\x1fb\x1fx", ")"]


def test_a_line_that_the_output_cannot_encode_is_shown_all_the_same(folder: Path) -> None:
    write(folder, GOOD.replace("arguments = ", "arguments 名 "))
    done = subprocess.run(
        [sys.executable, "-m", "swarmhpc", "check", "job.sub"],
        env={**os.environ, "PYTHONPATH": str(TOP), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "mistake in swarmhpc" in done.stderr) == (1, False)
    assert "[not-understood]" in done.stdout


def test_a_small_file_is_checked_without_a_heavy_library(folder: Path) -> None:
    """What makes the command slow to start. A process of its own: here other tests have imported them."""
    write(folder, GOOD)
    heavy = ("docker", "htcondor2", "classad2", "jinja2", "yaml", "ansible")
    code = (
        "import json, sys\nfrom swarmhpc.cli.app import run\n"
        "code = run(['check', 'job.sub'])\n"
        f"print('\\n' + json.dumps([code, *(name for name in {heavy} if name in sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(TOP)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == [0]


# -- check with a pool -----------------------------------------------------------------------------------------------


@pytest.fixture
def lab(folder: Path) -> Iterator[socket.socket]:
    """A pool that is known here, and the socket at which its collector would listen."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = int(listening.getsockname()[1])
        contexts.save(contexts.Context("lab", "127.0.0.1", port, port, "ada"), "token")
        yield listening


class OneClass:
    """A pool with one class of executors, of which none runs just now."""

    pool = "lab"

    def __init__(self, context: contexts.Context, *, patience_s: int = 10) -> None:
        assert context.pool == self.pool and patience_s <= 10

    def slot_texts(self) -> list[tuple[str, str]]:
        return []

    def classes(self) -> list[tuple[str, int, int, int]]:
        return [("executors", 2, 2048, 0)]


WINDOWS = GOOD.replace("queue", 'requirements = OpSys == "WINDOWS" && Memory > 10\nqueue')
TOO_LARGE = GOOD.replace("queue", "request_cpus = 64\nqueue")


def test_with_a_pool_a_request_that_no_class_can_meet_is_an_error(
    folder: Path, lab: socket.socket, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condor, "Pool", OneClass)
    write(folder, TOO_LARGE)
    code, out, _err = call("check", "job.sub")
    assert code == 1
    assert "\njob.sub:5:" in "\n" + out
    assert call("check", "job.sub", "--no-pool")[0] == 0


def test_with_a_pool_a_requirement_that_can_never_match_is_an_error_and_adapt_drops_exactly_that_term(
    folder: Path, lab: socket.socket, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condor, "Pool", OneClass)
    write(folder, WINDOWS)
    code, out, _err = call("check", "job.sub")
    assert code == 1
    assert "job.sub:5:16: error: " in out
    assert 'requirements = OpSys == "WINDOWS" && Memory > 10' in out
    code, out, err = call("translate", "job.sub", "--adapt")
    assert code == 0
    assert "Memory > 10" in flat(out)["requirements"][0]
    assert "WINDOWS" not in flat(out)["requirements"][0]
    assert flat(out)["requirements"][1].startswith("job.sub:5")
    assert "[adapted]" in err, "nothing is dropped without being told"
    code, dry, err = call("submit", "job.sub", "--adapt", "--dry-run")
    assert (code, dry, "[adapted]" in err) == (0, out, True)
    assert call("submit", "job.sub", "--dry-run")[0] == 2


def test_a_pool_that_does_not_answer_is_a_warning_on_stderr_and_the_file_is_checked(
    folder: Path, lab: socket.socket, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.close()
    write(folder, TOO_LARGE)
    code, _out, err = call("check", "job.sub")
    assert code == 0
    warning, summary = err.splitlines()
    assert warning.startswith("warning: pool lab does not answer at 127.0.0.1")
    assert summary.startswith("job.sub: 3 jobs")


def test_a_pool_that_fails_is_a_warning_too(
    folder: Path, lab: socket.socket, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_context: object, *, patience_s: int) -> None:
        raise PoolUnreachableError("the central manager sleeps")

    monkeypatch.setattr(condor, "Pool", fail)
    write(folder, TOO_LARGE)
    code, _out, err = call("check", "job.sub")
    assert code == 0
    assert err.startswith("warning: the central manager sleeps; checked without the pool\n")


def test_no_pool_asks_nobody(folder: Path, lab: socket.socket, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condor, "Pool", None)
    write(folder, GOOD)
    code, _out, err = call("check", "job.sub", "--no-pool")
    assert (code, err.count("\n")) == (0, 1)
    lab.setblocking(False)
    with pytest.raises(BlockingIOError):
        lab.accept()


def test_a_pool_that_was_named_and_is_not_known_is_told(folder: Path, call: Call) -> None:
    write(folder, GOOD)
    code, _out, err = call("--pool", "other", "check", "job.sub")
    assert code == 0
    assert err.startswith("warning: pool 'other' is not known on this machine")


# -- translate -------------------------------------------------------------------------------------------------------


def flat(out: str) -> dict[str, tuple[str, str]]:
    """Name -> (value, where it comes from) of what `translate` prints."""
    lines = out.splitlines()
    pairs = [(text.partition(" = "), why) for why, text in pairwise(lines) if " = " in text and text[0] != "#"]
    return {name: (value, why.removeprefix("# ")) for (name, _, value), why in pairs}


def test_translate_shows_each_line_with_where_it_comes_from(folder: Path, call: Call) -> None:
    write(folder, GOOD)
    code, out, _err = call("translate", "job.sub")
    lines = flat(out)
    assert code == 0
    assert lines["docker_image"][0] == "alpine:3"
    assert lines["docker_image"][1].startswith("job.sub:3")
    assert lines["arguments"] == ("$(swarmhpc_arguments)", "job.sub:4: differs between the jobs")
    assert lines["request_cpus"][1].startswith("default")


def test_what_translate_prints_is_a_description_of_the_same_jobs(folder: Path, call: Call) -> None:
    write(folder, GOOD)
    again = parse(call("translate", "job.sub")[1], file="flat.sub")
    assert not again.has_errors
    (statement,) = again.statements
    template = statement.macros.compile(statement.commands["arguments"].text)
    assert [template.render(live) for live in statement.queue.lives(0)] == ["0", "1", "2"]


def test_translate_shows_the_values_of_one_job(folder: Path, call: Call) -> None:
    write(folder, GOOD)
    code, out, _err = call("translate", "job.sub", "--job", "2")
    assert code == 0
    assert flat(out)["arguments"][0] == "2"
    assert out.splitlines()[-1] == "queue 1"


def test_translate_in_json_has_clusters_commands_and_findings(folder: Path, call: Call) -> None:
    write(folder, GOOD)
    code, out, err = call("translate", "job.sub", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert (document["file"], document["jobs"]) == ("job.sub", 3)
    [cluster] = document["clusters"]
    commands = {c["name"]: c for c in cluster["commands"]}
    assert cluster["jobs"] == 3
    arguments = commands["arguments"]
    assert (arguments["value"], arguments["varies"], arguments["file"], arguments["line"]) == ("0", True, "job.sub", 4)
    assert (commands["docker_image"]["varies"], commands["request_cpus"]["line"]) == (False, None)
    assert isinstance(document["findings"], list)
    [cluster] = json.loads(call("translate", "job.sub", "--json", "--job", "1")[1])["clusters"]
    assert {c["name"]: c["value"] for c in cluster["commands"]}["arguments"] == "1"


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_translate_of_a_file_with_an_error_ends_with_2_and_shows_it(
    folder: Path, call: Call, arguments: list[str]
) -> None:
    write(folder, GOOD.replace("arguments =", "arguments"))
    code, out, err = call("translate", "job.sub", *arguments)
    assert code == 2
    assert "error: job.sub: 1 mistake; nothing is submitted\n" in err
    if arguments:
        document = json.loads(out)
        assert document["clusters"] == []
        assert "not-understood" in [f["code"] for f in document["findings"]]
    else:
        assert out == ""
        assert "job.sub:4:1: error: " in err
        assert "    arguments $(Process)\n    ^\n" in err


# -- submit ----------------------------------------------------------------------------------------------------------


def test_submit_tells_every_mistake_with_its_line_on_stderr_also_where_there_is_no_pool(
    folder: Path, call: Call
) -> None:
    write(folder, GOOD.replace("arguments =", "arguments").replace("queue", "request_cpus = some\nqueue"))
    code, out, err = call("submit", "job.sub")
    assert (code, out) == (2, "")
    assert "job.sub:4:1: error: " in err
    assert "    arguments $(Process)\n    ^\n" in err
    assert "job.sub:5:16: error: " in err
    assert "error: job.sub: 2 mistakes; nothing is submitted\n" in err


def test_submit_of_a_good_file_without_a_pool_says_how_to_get_one(folder: Path, call: Call) -> None:
    write(folder, GOOD)
    code, out, err = call("submit", "job.sub")
    assert (code, out) == (1, "")
    assert "no pool is known" in err


def test_submit_shows_warnings_and_notes_but_no_defaults(
    folder: Path, lab: socket.socket, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condor, "Pool", OneClass)
    write(folder, GOOD.replace("queue", "notify_user = ada\narguments = 1\nqueue"))
    code, out, err = call("submit", "job.sub", "--dry-run")
    assert code == 0
    assert "note: notify_user is left out" in err
    assert "[set-twice]" in err
    assert "[default-" not in err
    assert out.splitlines()[-1] == "queue 3"
    err = call("submit", "job.sub", "--dry-run", "--json")[2]
    assert "[set-twice]" in err
    assert "note:" not in err


def test_submit_pins_images_where_it_is_asked_to_and_says_so(
    folder: Path, lab: socket.socket, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def digest(name: str) -> str:
        asked.append(name)
        return "sha256:" + "a" * 64

    monkeypatch.setattr(condor, "Pool", OneClass)
    monkeypatch.setattr(registry, "resolver", lambda: digest)
    write(folder, GOOD)
    code, out, _err = call("submit", "job.sub", "--dry-run")
    assert (code, asked, flat(out)["docker_image"][0]) == (0, [], "alpine:3")
    code, out, err = call("submit", "job.sub", "--dry-run", "--pin")
    assert (code, asked, flat(out)["docker_image"][0]) == (0, ["alpine:3"], f"alpine:3@sha256:{'a' * 64}")
    assert "[image-pinned]" in err
