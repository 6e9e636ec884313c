"""The functions of the submit language, compared with HTCondor's own parser (the bindings)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from swarmhpc.jobs.functions import DIRECTORY
from swarmhpc.jobs.macros import ExpansionError, Macros
from tests.unit.test_macros import SOURCES, bindings, code_of, rendered, theirs

__all__ = ["bindings"]

_FILE = "'/a b/c.d.e'"
_LETTERS = ["", *"q qa n x bx p bp d bd dn px dx qn qd".split()]  # noqa: SIM905
_WHOLE = "|".join(f"$F{letters}(f)" for letters in _LETTERS)
CASES: list[tuple[str, dict[str, str], str]] = [
    ("$INT(n) $INT(3*4) $INT(n,%03d) $INT( 3 ) $INT(3.7) $INT(true)", {"n": "1+1"}, "2 12 002 3 3 1"),
    ("$INT(3,%d%%)|$INT(3,x%+5dy)|$INT(3, %d)|$INT(3,%-5d)|", {}, "3%|x   +3y| 3|3    |"),
    ("$INT(255,%x) $INT(255,%#X) $INT(8,%#o) $INT(65,%c) $INT(3,%.3d)", {}, "ff 0XFF 010 A 003"),
    ("$INT(5000000000,%d) $INT(5000000000,%lld) $INT(-1,%u)", {}, "705032704 5000000000 4294967295"),
    ("$INT(m,%d)", {"m": "$(n)+1", "n": "$(k)0", "k": "4"}, "41"),
    ("$REAL(3) $REAL(3,%.2f) $REAL(3,%.0f) $REAL(0.1+0.2) $REAL(1e30) $REAL(0x10)", {}, "3 3.00 3.0 0.3 1E+30 16"),
    ("$REAL(3,%e) $REAL(1234567,%G) $REAL(inf)", {}, "3.000000e+00 1.23457E+06 INF"),
    (
        "$STRING(x) $STRING(y) $STRING(z) $STRING(w)",
        {"x": '"abc"', "y": '"a" + 1', "z": 'strcat("a","b")'},
        'abc "a" + 1 ab w',
    ),
    ("$STRING(x,%5s)|$STRING(x,%-8.2s)|$STRING(x, [%s])", {"x": '"abc"'}, "  abc|ab      | [abc]"),
    (
        "$EVAL(1+2) $EVAL(1/2.0) $EVAL(foo) $EVAL(n) $EVAL(1 > 0)",
        {"n": 'size("abc")'},
        "3 5.000000000000000E-01 undefined 3 true",
    ),
    ("$STRING(x)|$EVAL(x)", {"x": r'strcat("a\n","\"b")'}, r'a\n"b|a\n"b'),
    ("$EVAL({1,2}) $EVAL(l)", {"l": 'split("a b")'}, '{ 1,2 } { "a","b" }'),
    (
        "$SUBSTR(x,2) $SUBSTR(x,-2) $SUBSTR(x,1,2) $SUBSTR(x,1,-1) $SUBSTR(x,-9,2) $SUBSTR(x,9)|",
        {"x": "abcdef"},
        "cdef ef bc bcde ab |",
    ),
    ("$SUBSTR(x,s) $SUBSTR(x, 1) $SUBSTR(q,1)|$SUBSTR(x,1+1)", {"x": "abc", "s": "1"}, "bc bc |c"),
    ("$CHOICE(0,l)|$CHOICE(1,l)|$CHOICE(i,l)|$CHOICE(3,l)|$CHOICE(1,a, b )", {"l": "a, b ,,c", "i": "2"}, "a|b||c|b"),
    ("$CHOICE( 1 , l )|$CHOICE(j,x,y)", {"l": "$(k)", "k": "a,b", "j": "$(l2)", "l2": "0"}, "b|x"),
    (
        "$RANDOM_INTEGER(1, 1)|$RANDOM_INTEGER(5,6,9)|$RANDOM_CHOICE(x y,x y)|$RANDOM_CHOICE(l)",
        {"l": "q q"},
        "1|5|x y|q",
    ),
    (
        _WHOLE,
        {"f": _FILE},
        '/a b/c.d.e|"/a b/c.d.e"|\'/a b/c.d.e\'|c.d|.e|e|/a b/|/a b|a b/|a b|a b/c.d|/a b/c.d.e|a b/c.d.e|"c.d"|"a b/"',
    ),
    ("$Fq(f)|$Fp(f)|$Fx(f)|$Fd(f)|$Fnx(f)|$Fpn(f)|$Fqx(f)|$Fqp(f)|$Fddn(f)", {"f": "c"}, '"c"||||c|c|"|"|c'),
    (
        "$Fw(f)|$Fu(f)|$Fwn(f)|$Fun(f)|$Fud(f)|$Fd(f)|$Fbdd(f)",
        {"f": "a/b\\c/d.e"},
        "a\\b\\c\\d.e|a/b/c/d.e|a\\b\\c\\d|d|c/|c/|b\\c",
    ),
    ("$Fn(f)|$Fp(f)|$Fd(f)|$Fbd(f)|$BASENAME(f)|$DIRNAME(f)", {"f": "a/b/"}, "|a/b/|b/|b||a/b/"),
    (
        "$BASENAME(f,.txt)|$BASENAME(g,.tar.gz)|$BASENAME(f)|$DIRNAME(f)",
        {"f": '"a/b.txt"', "g": "a/B.TAR.GZ"},
        "b|B|b.txt|a/",
    ),
    (
        "$Fn(h)|$Fx(h)|$Fnx(/x/y.z)|$F(e)|$Fq(e)|$FN(a.b)|$Fz(h)|$fn(h)",
        {"h": ".hid", "e": ""},
        '.hid||y.z||""|a|$Fz(h)|$fn(h)',
    ),
    ("$Ff(f)|$Ff(g)", {"f": "c.txt", "g": "/abs"}, "c.txt|/abs"),
]


@pytest.mark.parametrize(("text", "definitions", "wanted"), CASES)
def test_functions_give_what_htcondor_gives(htcondor: Any, text: str, definitions: dict[str, str], wanted: str) -> None:
    assert (rendered(text, definitions), theirs(htcondor, text, definitions)) == (wanted, wanted)


@pytest.mark.parametrize(
    "text",
    [
        *("$INT(zork)", "$INT()", "$INT( n)", "$INT(1/0)", "$INT(3,%s)", "$INT(3,%n)", "$INT(3,%*d)", "$INT(3,%d %d)"),
        *("$INT(3,)", "$INT(3,%99999999d)", "$REAL(x)", "$REAL(3,%d)", "$REAL(3,%a)", "$STRING(n,%d)", "$EVAL(1+)"),
        *("$SUBSTR(n)", "$SUBSTR(n,x)", "$SUBSTR(n,,1)", "$CHOICE(1)", "$CHOICE(x,a,b)", "$CHOICE(2,a,b)"),
        *("$CHOICE(-1,a,b)", "$CHOICE(0,nolist)", "$RANDOM_CHOICE()", "$RANDOM_INTEGER(2,1)", "$RANDOM_INTEGER(n,n)"),
    ],
)
def test_what_makes_condor_submit_stop_is_an_error_that_names_the_function(text: str) -> None:
    with pytest.raises(ExpansionError, match=r"\$[A-Z_]+\(") as caught:
        rendered(text, {"n": "1"})
    assert caught.value.code == "bad-function"


def test_a_function_of_a_live_variable_fails_for_the_job_that_it_fails_for() -> None:
    template = Macros({}, live=["n"], sources=SOURCES).compile("$INT(n,%02d)")
    assert template.render({"n": "7"}) == "07"
    assert code_of(lambda: template.render({"n": "seven"})) == "bad-function"


def test_only_allowed_names_of_the_environment_are_shown() -> None:
    sources = replace(
        SOURCES, environment={"HOME": "/h", "TOKEN": "s3cret", "E": ""}, allowed_env=frozenset({"HOME", "LANG", "E"})
    )
    macros = Macros({}, sources=sources)
    text = macros.compile("$ENV(HOME) $ENV(LANG) $ENV(LANG:C) $ENV(E:x)|").constant
    assert text == "/h UNDEFINED C |"
    with pytest.raises(ExpansionError, match="TOKEN") as caught:
        macros.compile("$ENV(TOKEN:none)")
    assert caught.value.code == "env-not-allowed"
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    ("definitions", "wanted"),
    [
        ({}, "/w/c.txt"),
        ({"initialdir": "/tmp"}, "/tmp/c.txt"),
        ({"initialdir": "sub/"}, "/w/sub/c.txt"),
        ({"iwd": "$(d)", "d": "e"}, "/w/e/c.txt"),
    ],
)
def test_full_paths_begin_at_the_jobs_initial_directory(definitions: dict[str, str], wanted: str) -> None:
    macros = Macros({"f": "./c.txt", **definitions}, sources=replace(SOURCES, facts={DIRECTORY: "/w"}))
    assert macros.compile("$Ff(f)").constant == wanted
    assert macros.compile("$Ffq(f)").constant == f'"{wanted}"'


def test_chance_is_the_sources() -> None:
    sources = replace(SOURCES, random=lambda choices: choices - 1)
    template = Macros({"l": "a, b c"}, sources=sources).compile(
        "$RANDOM_CHOICE(x, y ,z) $RANDOM_CHOICE(l) $RANDOM_INTEGER(1,10,4)"
    )
    assert template.render({}) == "z c 9"
