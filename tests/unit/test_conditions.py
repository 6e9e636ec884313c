"""Conditions of `if`, compared with HTCondor's own, and which lines are read."""

import itertools
import os

import pytest

from swarmhpc.jobs.conditions import MAX_DEPTH, ConditionError, IfStack, evaluate
from swarmhpc.jobs.description import parse
from swarmhpc.jobs.findings import Place

PLACE = Place("job.sub", 1, 1)
# What HTCondor 25.14.1 makes of each; None: it refuses the file.
_CONDITIONS: dict[str, bool | None] = {
    "true": True, "FALSE": False, "T": True, "f": False, "yes": True, "No": False, "truely": None, "": None,
    "1": True, "0": False, "-1": True, "0.0": False, ".5": True, "1.": True, "1e5": True, "0e5": False, "+1": None,
    "! true": False, "!0": True, "!! true": None, "$(nope)": False, "! $(nope)": True, "!$(one)": False, "$(one)": True,
    "$(empty:0)": False, "1 > 2": None, "$(one) == 1": None, "(true)": None, "true # c": None,
    "version >= 25.14": True, "version == 25.14": True, "version = 25.14.1": True, "version > 25.14.0": True,
    "version > 25.14.1": False, "version < 8.9": False, "version <= 25.14.1": True, "version != 8.0.0": True,
    "version >= v8.0.0": True, "version >=8.0.0": True, "VERSION >= 8.0.0": True, "version => 8.0": None,
    "version": None, "version >= 8": None, "version >= 5.0.0": None, "version>=8.0.0": None, "! version < 99.1": False,
    "defined": False, "defined one": True, "DEFINED one": True, "defined empty": False, "defined nope": False,
    "!defined nope": True, "defined $(one)": True, "defined 1": True, "defined true": True, "defined yes": True,
    "defined no": True, "defined a:b": None, "defined one two": None, "defined MY.Att": True, "defined MY.Nope": False,
    "defined Process": True, "defined Item": False, "definedone": None, "foo": None,
}  # fmt: skip


@pytest.mark.parametrize(("condition", "wanted"), _CONDITIONS.items())
def test_a_condition_is_as_true_as_in_htcondor(
    condition: str, wanted: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"one = 1\nempty =\n+Att = 1\nif {condition}\nr = 1\nelse\nr = 0\nendif\narguments = $(r)\nqueue\n"
    description = parse(text, file="job.sub")
    errors = [f for f in description.findings if f.severity == "error" and f.code != "unknown-command"]
    if wanted is None:
        assert [(f.code, f.place.line) for f in errors] == [("bad-condition", 4)]
        assert errors[0].hint
    else:
        assert errors == []
        assert description.statements[0].commands["r"].text == str(int(wanted))
    monkeypatch.setitem(os.environ, "CONDOR_CONFIG", "ONLY_ENV")
    htcondor2 = pytest.importorskip("htcondor2")
    if wanted is None:
        with pytest.raises(ValueError, match="parse"):
            htcondor2.Submit(text)
    else:
        assert htcondor2.Submit(text)["r"] == str(int(wanted))


def test_a_long_condition_is_refused_at_once() -> None:
    with pytest.raises(ConditionError):
        evaluate("a" * 1_000_000 + "!", expand=str, is_set=bool)


def stack() -> IfStack:
    return IfStack(itertools.count(1))


def test_the_first_true_branch_is_read_and_no_other() -> None:
    ifs = stack()
    read = []
    assert ifs.begin(PLACE, value=False)
    read.append(ifs.enabled)
    for value in (True, True):
        assert ifs.turn(value, last=False) == ""
        read.append(ifs.enabled)
    assert ifs.turn(value=False, last=True) == ""
    read.append(ifs.enabled)
    assert ifs.end() == ""
    assert read == [False, True, False, False]
    assert ifs.enabled


def test_nothing_is_read_inside_of_a_branch_that_is_not() -> None:
    ifs = stack()
    ifs.begin(PLACE, value=False)
    ifs.begin(PLACE, value=False)
    ifs.turn(value=False, last=True)
    assert not ifs.enabled
    assert not ifs.wants_condition


def test_branches_of_one_if_have_paths_of_their_own() -> None:
    ifs = stack()
    ifs.begin(PLACE, value=True)
    first = ifs.path
    ifs.begin(PLACE, value=True)
    inner = ifs.path
    ifs.end()
    ifs.turn(value=False, last=True)
    assert inner[: len(first)] == first
    assert ifs.path != first
    assert len(ifs.path) == len(first)


def test_an_if_too_deep_is_refused_and_its_endif_still_counted() -> None:
    ifs = stack()
    assert all(ifs.begin(PLACE, value=True) for _ in range(MAX_DEPTH))
    assert not ifs.begin(PLACE, value=True)
    assert not ifs.enabled
    assert [ifs.end() for _ in range(MAX_DEPTH + 1)] == [""] * (MAX_DEPTH + 1)
    assert ifs.end() != ""


def test_an_if_around_a_queue_statement_need_not_be_closed() -> None:
    ifs = stack()
    ifs.begin(PLACE, value=True)
    assert ifs.unclosed() == [PLACE]
    assert ifs.cross()
    assert ifs.unclosed() == []
