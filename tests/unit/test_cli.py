"""The command line as people meet it: help, version, and how every kind of error ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from swarmhpc import __version__
from swarmhpc.adapters import docker
from swarmhpc.cli.app import run
from swarmhpc.errors import SwarmHpcError, UsageError

TOP = Path(__file__).resolve().parents[2]
COMMANDS = {
    *("up", "down", "status", "scale", "autoscale", "doctor", "render"),
    *("check", "translate", "submit", "q", "wait", "fetch", "rm", "hold", "release", "edit"),
    *("run", "logs", "ssh", "why", "events", "quota", "usage"),
    *("init", "node", "login", "token", "images"),
}


def listed(help_text: str) -> set[str]:
    """The commands under `Commands:`: the first word of each line that is indented by two."""
    lines = help_text.partition("\nCommands:\n")[2].splitlines()
    return {line.split()[0] for line in lines if line.startswith("  ") and line[2:3].strip()}


def engine_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """`swarmhpc images list` begins with an Engine, and that fails."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(docker, "Engine", fail)


# -- help ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command_on_stdout(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert run([flag]) == 0
    seen = capsys.readouterr()
    assert (listed(seen.out), seen.err) == (COMMANDS, "")


@pytest.mark.parametrize(("group", "commands"), [("token", {"create", "list", "revoke"}), ("images", None)])
def test_help_of_a_group_lists_its_commands(
    capsys: pytest.CaptureFixture[str], group: str, commands: set[str] | None
) -> None:
    assert run([group, "--help"]) == 0
    assert listed(capsys.readouterr().out) == (commands or {"build", "list", "save", "load"})


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_a_help_that_shows_how_to_call_it(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: swarmhpc {command} ")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_help_and_version_import_no_heavy_library(arguments: list[str]) -> None:
    """What makes the command slow to start. A process of its own: here other tests have imported them."""
    heavy = ("docker", "htcondor2", "classad2", "jinja2", "pydantic", "yaml", "ansible")
    code = (
        "import json, sys\nfrom swarmhpc.cli.app import run\n"
        f"run({arguments})\nprint('\\n' + json.dumps([name for name in {heavy} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_python_dash_m_is_the_same_command() -> None:
    command = [sys.executable, "-m", "swarmhpc", "--version"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"swarmhpc {__version__}\n", "")


def test_version_is_one_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr() == (f"swarmhpc {__version__}\n", "")


# -- wrong usage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "nonsense"),
        (["token", "nonsense"], "nonsense"),
        (["--nonsense", "status"], "--nonsense"),
        (["status", "--nonsense"], "--nonsense"),
        (["submit"], "FILE"),
        (["token", "create"], "name"),
        (["status", "surplus"], "surplus"),
        (["up", "--timeout", "soon"], "--timeout"),
    ],
)
def test_wrong_usage_names_the_word_on_stderr_and_ends_with_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(arguments) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert words in seen.err.lower() or words in seen.err
    assert "Traceback" not in seen.err


# -- how a command fails -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "code"), [(SwarmHpcError, 1), (UsageError, 2)])
def test_an_error_is_its_message_and_the_next_command_on_stderr_and_its_own_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: type[SwarmHpcError], code: int
) -> None:
    engine_raises(monkeypatch, kind("the [engine] is 3; wanted 4", hint="swarmhpc doctor [x]"))
    assert run(["images", "list"]) == code
    assert capsys.readouterr() == ("", "error: the [engine] is 3; wanted 4\n  next: swarmhpc doctor [x]\n")


def test_an_error_without_a_hint_is_its_message_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_raises(monkeypatch, SwarmHpcError("no"))
    assert run(["images", "list"]) == 1
    assert capsys.readouterr() == ("", "error: no\n")


def test_an_unexpected_exception_is_called_our_mistake_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_raises(monkeypatch, RuntimeError("seven"))
    assert run(["images", "list"]) == 1
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("error: this is a mistake in swarmhpc: RuntimeError: seven\n  next: ")
    assert "--debug" in seen.err
    assert "Traceback" not in seen.err


@pytest.mark.parametrize("error", [RuntimeError("seven"), SwarmHpcError("seven")], ids=["unexpected", "explained"])
def test_with_debug_the_traceback_comes_before_the_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    engine_raises(monkeypatch, error)
    assert run(["--debug", "images", "list"]) == 1
    traceback, _, message = capsys.readouterr().err.partition("\nerror: ")
    assert "Traceback" in traceback
    assert "test_cli.py" in traceback, "where it was raised"
    assert "seven" in message


def test_debug_is_for_one_call_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    engine_raises(monkeypatch, RuntimeError("seven"))
    assert run(["--debug", "images", "list"]) == run(["images", "list"]) == 1
    assert capsys.readouterr().err.count("Traceback") == 1


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_ctrl_c_ends_with_1_and_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, debug: list[str]
) -> None:
    engine_raises(monkeypatch, KeyboardInterrupt())
    assert run([*debug, "images", "list"]) == 1
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", "interrupted\n")
