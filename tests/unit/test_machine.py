"""What the real `Sources` give: files, paths as HTCondor's glob orders them, commands, facts."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path

import pytest

from swarmhpc.jobs import machine
from swarmhpc.jobs.machine import sources
from swarmhpc.jobs.sources import SourceError, Sources


@pytest.fixture
def asks(tmp_path: Path) -> Sources:
    """The sources of a folder, with commands allowed."""
    return sources(tmp_path / "job.sub", tmp_path, run=True)


def test_a_file_is_read_relative_to_the_directory_and_with_its_line_ends(tmp_path: Path, asks: Sources) -> None:
    (tmp_path / "rows").write_bytes(b"\xef\xbb\xbfa\r\nb\xc3\xa9")
    assert asks.read("rows") == asks.read(str(tmp_path / "rows")) == "\ufeffa\r\nb\u00e9"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing", "no file missing"),
        (".", "a directory"),
        ("pipe", "no regular file"),
        ("latin", "byte 1 is 0xe9"),
        ("a\0b", "is no path"),
        ("x" * 5000, "can't be read"),
        ("large", "more than 64 MiB"),
    ],
)
def test_what_can_not_be_read_is_said(tmp_path: Path, asks: Sources, path: str, words: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"b\xe9")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(SourceError, match=words):
        asks.read(path)


def test_standard_input_gives_rows_unless_it_is_the_description(
    tmp_path: Path, asks: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    assert asks.read("-") == "a\nb\n"
    with pytest.raises(SourceError, match="is the submit description itself"):
        sources(Path("-"), tmp_path, run=False).read("-")


# Recorded: queue x matching … with condor_submit -dry-run of HTCondor 25.14.1, in a folder with these entries.
FOLDER = ("A.x", "B", "a-b", "a.txt", "a/", "aa", "b/", "z", "\u00e9", ".hidden", "b/x.dat", "a/.y", "star*")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["A.x", "B", "a-b", "a.txt", "a/", "aa", "b/", "link/", "star*", "z", "\u00e9"]),
        ("a*", ["a-b", "a.txt", "a/", "aa"]),
        ("[!a]*", ["A.x", "B", "b/", "link/", "star*", "z", "\u00e9"]),
        ("[^a-z]", ["B"]),
        ("[[:upper:]]*", ["A.x", "B"]),
        ("?", ["B", "a/", "b/", "z"]),
        (".*", ["../", "./", ".hidden"]),
        ("*/.*", ["a/../", "a/./", "a/.y", "b/../", "b/./", "link/../", "link/./"]),
        ("*/*", ["b/x.dat", "link/x.dat"]),
        ("**/*.dat", ["b/x.dat", "link/x.dat"]),
        ("*/", ["a//", "b//", "link//"]),
        ("b//*", ["b//x.dat"]),
        ("./a-*", ["./a-b"]),
        ("a/../B", ["a/../B"]),
        ("a", ["a/"]),
        ("aa", ["aa"]),
        ("star\\*", ["star*"]),
        ("\\a\\a", ["aa"]),
        ("{aa,B}", []),
        ("[z-a]*", []),
        ("[a", []),
        ("missing/*", []),
        ("aa/*", []),
        ("", []),
    ],
)
def test_paths_match_as_with_condor_submit(tmp_path: Path, asks: Sources, pattern: str, found: list[str]) -> None:
    make(tmp_path)
    assert asks.match(pattern, True, True) == found


def make(top: Path) -> None:
    for name in FOLDER:
        if name.endswith("/"):
            (top / name).mkdir()
        else:
            (top / name).touch()
    (top / "link").symlink_to("b")


@pytest.mark.parametrize("pattern", ["a\0b", "a\ud800*"])
def test_what_is_no_pattern_is_said(asks: Sources, pattern: str) -> None:
    with pytest.raises(SourceError, match="is no pattern"):
        asks.match(pattern, True, True)


def test_files_alone_and_directories_alone(tmp_path: Path, asks: Sources) -> None:
    make(tmp_path)
    assert asks.match("[ab]*", True, False) == ["a-b", "a.txt", "aa"]
    assert asks.match("[ab]*", False, True) == ["a/", "b/"]
    assert asks.match("aa", False, True) == ["aa"]  # a name written out is taken, as HTCondor does
    assert asks.match("a", True, False) == []


def test_an_absolute_pattern_gives_absolute_paths(tmp_path: Path, asks: Sources) -> None:
    make(tmp_path)
    assert asks.match(f"{tmp_path}/a?", True, True) == [f"{tmp_path}/aa"]


def test_commands_run_in_the_directory_without_a_shell_and_only_when_allowed(tmp_path: Path, asks: Sources) -> None:
    (tmp_path / "x.dat").touch()
    assert asks.run is not None
    assert asks.run("echo *.dat 'a  b'") == "*.dat 'a b'\n"
    assert asks.run("\"printf %s|%s 'a  ''b' \"\"c\"") == "a  'b|\"c"
    assert asks.run("ls") == "x.dat\n"
    assert sources(tmp_path / "job.sub", tmp_path, run=False).run is None


@pytest.mark.parametrize(
    ("line", "words"),
    [("false", "code 1"), ("no-such-program x", "no such program"), (" ", "no command"), ("a\0b", "can't be run")],
)
def test_a_command_that_fails_is_said(asks: Sources, line: str, words: str) -> None:
    assert asks.run is not None
    with pytest.raises(SourceError, match=words):
        asks.run(line)


def test_a_command_is_not_waited_for_without_end(asks: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_COMMAND_TIMEOUT_S", 0.05)
    assert asks.run is not None
    with pytest.raises(SourceError, match="did not end"):
        asks.run("sleep 10")


def test_facts_are_what_condor_submit_defines(asks: Sources, tmp_path: Path) -> None:
    facts = asks.facts
    now = time.localtime(int(facts["submit_time"]))
    assert abs(time.time() - int(facts["submit_time"])) < 60
    assert (facts["year"], facts["month"], facts["day"]) == tuple(time.strftime("%Y %m %d", now).split())
    assert facts["submit_file"] == str(tmp_path / "job.sub")
    assert (facts["opsys"], facts["islinux"], facts["iswindows"]) == ("LINUX", "1", "0")
    assert all(0 <= asks.random(3) < 3 for _ in range(20))
    assert asks.evaluate("2*3") == (6, "6")
