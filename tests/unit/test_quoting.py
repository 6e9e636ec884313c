"""Quotes and brackets: what HTCondor 25.14 refuses, found with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmhpc.jobs.quoting import arguments_fault, environment_fault, expression_fault
from tests.unit.test_translate import docker, errors, run


@pytest.mark.parametrize(
    "text", ["", "a b", "it's", r"say \"x\"", '"a \'b c\' ""d"""', '  "a"  ', "\"'it''s'\"", "\"it''s\""]
)
def test_arguments_that_htcondor_takes(text: str) -> None:
    assert arguments_fault(text) is None


@pytest.mark.parametrize(
    ("text", "offset", "word"),
    [
        ('a "b"', 2, "old syntax"),
        ('"a b', 0, "never closed"),
        ('"a" b', 2, "follows"),
        ('"it\'s"', 3, "never closed"),
    ],
)
def test_arguments_that_htcondor_refuses(text: str, offset: int, word: str) -> None:
    fault = arguments_fault(text)
    assert fault is not None
    assert (fault.offset, fault.serious) == (offset, True)
    assert word in fault.message


@pytest.mark.parametrize("text", ["A=1;B=2", "A=1", "", "\"A=1 B='2 3'\"", "|A=1|B=2", "$$(X)", '"A=""q"""', "A=it's"])
def test_environments_that_htcondor_takes(text: str) -> None:
    assert environment_fault(text) is None


@pytest.mark.parametrize(
    ("text", "serious"),
    [("A", True), ("A=1;B", True), ('"A=1 B"', True), ('"A=1', True), ('"A=\'1"', True), ("A=1 B=2", False)],
)
def test_environments_that_are_refused_or_mean_something_else(text: str, serious: bool) -> None:
    fault = environment_fault(text)
    assert fault is not None
    assert fault.serious is serious


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ('a == "b"', None), ("(a && b)", None), ('")"', None), ("{1, [a = 2]}", None), (r'"a \" b"', None), ("", None),
        ("(a", 0), ("a)", 1), ('a == "b', 5), ("(a]", 2), ("f({1)", 4), ("((a)", 0),
    ],
)  # fmt: skip
def test_the_first_bracket_or_quote_without_a_partner_is_found(text: str, offset: int | None) -> None:
    fault = expression_fault(text)
    assert (fault and fault.offset) == offset


@pytest.mark.parametrize(
    "line", ["rank = (Memory", 'requirements = OpSys == "LINUX', "periodic_remove = )", '+Foo = "x', 'arguments = a "b']
)
def test_an_unbalanced_value_is_an_error_at_its_place(line: str) -> None:
    (finding,) = errors(run(docker(line)))
    assert (finding.code, finding.place.line) == ("unbalanced", 3)
    assert finding.place.column > line.index("=") + 1


@given(st.text(alphabet="\"'\\ab= ;()[]{}|", max_size=40))
def test_any_text_has_a_fault_inside_of_it_or_none(text: str) -> None:
    for fault in (arguments_fault(text), environment_fault(text), expression_fault(text)):
        assert fault is None or 0 <= fault.offset <= len(text)
