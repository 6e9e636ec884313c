"""What macros become: compared with HTCondor's own parser (the bindings), which is fed with text of ours only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmhpc.adapters.classads import evaluate
from swarmhpc.jobs.macros import (
    CLUSTER_MARK,
    DEFERRED_MARK,
    FIXED_LIVE,
    MAX_EXPANDED,
    ExpansionError,
    Macros,
    references,
    replace_self,
    split,
    submit_language,
)
from swarmhpc.jobs.sources import NOTHING

SOURCES = replace(NOTHING, evaluate=evaluate)
FIRST_JOB = dict.fromkeys(FIXED_LIVE, "0") | {"item": ""}


def rendered(text: str, definitions: Mapping[str, str], live: Mapping[str, str] = FIRST_JOB) -> str:
    return Macros(definitions, live=tuple(live), sources=SOURCES).compile(text).render(live)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(ExpansionError) as caught:
        call()
    return caught.value.code


@pytest.fixture(name="htcondor", scope="module")
def bindings() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDOR_CONFIG", "ONLY_ENV")
        return pytest.importorskip("htcondor2")


def theirs(htcondor: Any, text: str, definitions: Mapping[str, str]) -> str:
    submit = htcondor.Submit({**definitions, "zz": text})
    try:
        return str(submit.expand("zz"))
    except KeyError:  # what the bindings say of an empty value
        return ""


CASES: list[tuple[str, dict[str, str], str]] = [
    ("$(x) $(X) $( x ) $(y)|", {"x": "1"}, "1 1 $( x ) |"),
    ("$(x:b) $(y:c) $(y:$(x)) $(y:$(z:d)) $(e:f)", {"x": "a", "e": ""}, "a c a d f"),
    ("$(a$(b)) $(a$(b):no) $(c$(b):no)", {"b": "1", "a1": "X"}, "X X no"),
    ("$(y:$(z:$(w:deep)))", {}, "deep"),
    ("$(o)c) $(d)(c)", {"o": "$(", "d": "$", "c": "5"}, "5 5"),
    ("$F$(p)(x)", {"p": "n", "x": "/a/b.c"}, "b"),
    ("$$(Arch) $$([ $(x) + 1 ]) $$(a$(x)) $$$(x)", {"x": "1"}, "$$(Arch) $$([ 1 + 1 ]) $$(a1) $$1"),
    ("5$ $HOME $$x $foo(x) $(", {"x": "1"}, "5$ $HOME $$x $foo(x) $("),
    ("$(DOLLAR)(x) $(dollar) $(x) $F(x)", {"x": "$(DOLLAR)(y)", "y": "5"}, "$(x) $ $(y) 5"),
    ("$(DOLLAR)$(DOLLAR) $(DOLLAR)F($(DOLLAR))", {}, "$$(DOLLAR) $F($(DOLLAR))"),
    ("$(DOLLAR:x) $(:e) $()|", {}, "x e |"),
    ('$(y:"q") $(y:a-b) $(y:a\\b,c.d:e)', {}, '$(y:"q") $(y:a-b) a\\b,c.d:e'),
    ("$(y:(a)b) $(y:(a)) $(y:(a", {}, "(a)b (a) $(y:(a"),
    ("$F(a$(b))", {"b": "1", "a1": "X"}, "a1"),
    ("$(JobId) $(IsMine:no) $(TaskId)", {}, "1.0 no 0"),
    ("$(Process) $(PROCID) $(Step) $(Row) $(ItemIndex) $(Item)|", {}, "0 0 0 0 0 |"),
    ("$(Process) $(Row)", {"process": "7"}, "7 0"),
]


@pytest.mark.parametrize(("text", "definitions", "wanted"), CASES)
def test_macros_become_what_htcondor_makes_of_them(
    htcondor: Any, text: str, definitions: dict[str, str], wanted: str
) -> None:
    ours = rendered(text, definitions).replace(CLUSTER_MARK, "1")
    assert (ours, theirs(htcondor, text, definitions)) == (wanted, wanted)


_PIECES = st.sampled_from(
    [*'$(): "x1', "$(", "$$(", "$(b)", "$(c)", "$(d:", "$(c:$(d))", "$Fn(", "$F", "$(DOLLAR)", "$F(c)", "$STRING(d)"]
)


def _value(names: str) -> st.SearchStrategy[str]:
    pieces = _PIECES.filter(lambda piece: all(letter in names for letter in piece if letter in "abcd"))
    return st.lists(st.one_of(pieces, st.sampled_from([*names, "x"])), max_size=5).map("".join)


# A value holds only names that come after its own: HTCondor never returns from a circle.
_DEFINITIONS = st.fixed_dictionaries(
    {"a": _value("bcd"), "b": _value("cd"), "c": _value("d"), "d": _value(""), "x": st.sampled_from(["", "1", "(d)"])}
)
_TEXT = st.lists(st.one_of(_PIECES, st.sampled_from(["$(a)", "$(a", "$Fx(a)", *"abcd"])), max_size=7).map("".join)


@settings(max_examples=120, deadline=None)
@given(text=_TEXT, definitions=_DEFINITIONS)
@example(text="$$$(d:$(DOLLAR)(", definitions=dict.fromkeys("abcdx", ""))
@example(text="$(a)(d)", definitions={"a": "$", "b": "", "c": "", "d": "q", "x": ""})
def test_any_text_becomes_what_htcondor_makes_of_it(htcondor: Any, text: str, definitions: dict[str, str]) -> None:
    text = text.strip()
    definitions = {name: value.strip() for name, value in definitions.items()}
    assert rendered(text, definitions) == theirs(htcondor, text, definitions)


@settings(max_examples=60, deadline=None)
@given(text=_TEXT, definitions=_DEFINITIONS)
def test_a_live_variable_is_the_same_as_a_definition_with_its_value(text: str, definitions: dict[str, str]) -> None:
    live = {name: definitions[name] for name in ("c", "x")}
    rest = {name: value for name, value in definitions.items() if name not in live}
    assert rendered(text, rest, FIRST_JOB | live) == rendered(text, definitions)


def test_a_template_says_what_it_needs() -> None:
    macros = Macros({"n": "$(Process)", "k": "v"}, sources=SOURCES)
    assert macros.compile("a $(k)").constant == "a v"
    template = macros.compile("o.$(n).$(k).$INT(Step,%02d)")
    assert template.constant is None
    assert template.uses == {"process", "step"}
    assert [template.render({"process": n, "step": n}) for n in "12"] == ["o.1.v.01", "o.2.v.02"]


def test_loop_variables_win_over_definitions_and_numbers_lose() -> None:
    macros = Macros({"file": "own", "item": "mine", "process": "9"})
    assert macros.compile("$(file) $(item) $(Process)").render({"item": ""}) == "own  9"
    looping = macros.with_live([*FIXED_LIVE, "file"])
    assert looping.compile("$(file) $(item) $(Process)").render({"file": "row", "item": ""}) == "row mine 9"


def test_macros_in_the_value_of_a_loop_variable_are_replaced() -> None:
    template = Macros({"y": "Y"}, live=[*FIXED_LIVE, "x"]).compile("<$(x)>")
    assert [template.render({"x": row, "row": "3"}) for row in ("1", "$(y)$(Row)", "$(")] == ["<1>", "<Y3>", "<$(>"]


def test_while_the_file_is_read_numbers_are_those_of_the_job_before() -> None:
    text = "$(Process) $(Row) $(Cluster) $(Item)|"
    assert Macros({}).expand(text) == "0 0 1 |"
    assert Macros({}, now={"process": "4"}).expand(text) == "4 0 1 |"
    assert Macros({}).with_live([*FIXED_LIVE, "x"]).expand("$(x)|") == "|"


def test_defined_and_empty() -> None:
    macros = Macros({"a": "1", "e": ""}, sources=replace(SOURCES, facts={"arch": "X86_64"}))
    defined = [
        name for name in ("A", "e", "nix", "Process", "Cluster", "DOLLAR", "Arch", "JobId") if macros.is_defined(name)
    ]
    assert defined == ["A", "e", "Process", "Cluster", "DOLLAR", "Arch", "JobId"]
    assert [name for name in ("A", "e", "nix", "Process", "Arch") if macros.is_empty(name)] == ["e", "nix"]
    assert macros.compile("$(ARCH)").constant == "X86_64"


def test_the_clusters_number_stays_for_htcondor() -> None:
    macros = Macros({"c": "$(ClusterId)", "f": "a.$(Cluster).log"}, sources=SOURCES)
    text = macros.compile("$(Cluster) $(c) $Fn(f) $INT(Cluster,%05d) $INT(c)").constant
    mark, deferred = CLUSTER_MARK, DEFERRED_MARK
    assert text == f"{mark} {mark} a.{mark} {deferred}INT(Cluster,%05d) {deferred}INT(Cluster)"
    assert submit_language(text) == "$(Cluster) $(Cluster) a.$(Cluster) $INT(Cluster,%05d) $INT(Cluster)"
    assert submit_language(f"${DEFERRED_MARK}INT(Cluster)") == "$(DOLLAR)$INT(Cluster)"
    for beyond_us in ("$SUBSTR(f,1)", "$EVAL(f)", "$(x$(Cluster))", "$CHOICE(Cluster,c)"):
        assert code_of(lambda text=beyond_us: macros.compile(text)) == "needs-cluster"  # type: ignore[misc]


def test_a_functions_result_is_asked_anew_for_each_job() -> None:
    rolled = iter([2, 0, 1, 1])
    macros = Macros({"r": "$RANDOM_INTEGER(10,30,10)"}, sources=replace(NOTHING, random=lambda n: next(rolled) % n))
    template = macros.compile("$(r) $(r)")
    assert template.constant is None
    assert not template.uses
    assert [template.render({}), template.render({})] == ["30 10", "20 20"]


def test_a_new_value_may_hold_the_old_one() -> None:
    assert replace_self("$(a) more $(A:x) $(b)", "a", "$(old)") == "$(old) more $(old) $(b)"
    assert replace_self("$(a:x)$(b:$(a))", "A", "") == "x$(b:$(a))"


def test_every_reference_is_found_with_its_place() -> None:
    parts = split('$(a) $(b:$(c)) $INT(n,%d) $$(d) $(e$(f)) $( g) $(h:"i") $(j')
    found = [(r.kind, r.name, r.body) for r in references(parts)]
    assert found == [
        ("macro", "a", "a"),
        ("macro", "b", "b:$(c)"),
        ("macro", "c", "c"),
        ("function", "INT", "n,%d"),
        ("nested-name", "e", ""),
        ("macro", "f", "f"),
        ("odd-name", "", ""),
        ("odd-default", "h", ""),
        ("unclosed", "", ""),
    ]
    assert [r.start for r in parts if not isinstance(r, str)] == [0, 5, 15, 32, 35, 41, 47, 56]


_N = 20_000
_CHAIN = {f"c{i}": f"$(c{i + 1})" for i in range(_N)}
_HOSTILE: list[tuple[str, dict[str, str], str]] = [
    ("$(a)", {"a": "$(b)", "b": "$(a)"}, "macro-cycle"),
    ("$(a))", {"a": "$(b$(Process))", "b0": "$(a)"}, "macro-cycle"),
    ("$F(a)", {"a": "$F(b)", "b": "$F(a)"}, "macro-cycle"),
    ("$(a))", {"a": "x$(z$(b))", "zq": "$(a)", "b": "q"}, "too-deep"),
    ("$(m99)", {f"m{i}": f"$(m{i - 1})$(m{i - 1})" for i in range(1, 100)}, "too-large"),
    ("$(m99)", {f"m{i}": f"$(m{i - 1})$(m{i - 1})" for i in range(1, 100)} | {"m0": "$(Item)"}, "too-large"),
    ("$(c0)", {f"c{i}": f"$Fn(c{i + 1})" for i in range(_N)} | {f"c{_N}": "$(Item)"}, "too-deep"),
    ("$(" * 5_000_000, {}, "too-large"),
    ("(" * 10_000_000 + "$(x)", {}, "too-large"),
    ("$(x:" * 200_000 + ")" * 200_000, {}, "too-large"),
    ("$(x" * 100_000 + ")" * 100_000, {"x": "y"}, "too-large"),
    ("$" * 200_000 + "$(x)" * 20_000, {"x": "y"}, "too-large"),
    ("$(x)" * 60_000 + "$(", {}, "too-large"),
    ("$INT(" + "(" * 900_000 + ")", {}, "bad-function"),
    ("$ENV(AWS_SECRET_KEY:none)", {}, "env-not-allowed"),
]


@pytest.mark.parametrize(("text", "definitions", "code"), _HOSTILE, ids=[text[:12] for text, _, _ in _HOSTILE])
def test_hostile_macros_end_soon_and_say_why(text: str, definitions: dict[str, str], code: str) -> None:
    started = time.process_time()
    try:
        seen = "" if rendered(text, definitions) is not None else "?"
    except ExpansionError as error:
        seen = error.code
    split(text)
    assert (seen, time.process_time() - started < 20) == (code, True)


@pytest.mark.parametrize(("end", "wanted"), [("end", "a end b"), ("$(Process)", "a 0 b"), ("", "a  b")])
def test_long_chains_of_macros_are_followed_to_their_end(end: str, wanted: str) -> None:
    assert rendered("a $(c0) b", _CHAIN | {f"c{_N}": end}) == wanted


def test_no_value_is_longer_than_the_limit() -> None:
    grown = rendered("$(a)", {"a": "x" * MAX_EXPANDED})
    assert len(grown) == MAX_EXPANDED
    assert code_of(lambda: rendered("$(a)x", {"a": "x" * MAX_EXPANDED})) == "too-large"
