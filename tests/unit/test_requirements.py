"""Requirements against slots, with HTCondor's own evaluation."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmhpc.adapters import expressions
from swarmhpc.adapters.expressions import ClassAds, ad_text, model_slot
from swarmhpc.jobs import requirement_terms
from swarmhpc.jobs.requirements import Judgement, SlotAd, Term, adapted, terms
from swarmhpc.jobs.requirements import judge as judge_with

CORPUS = Path("/work/shared/corpus")
EXECUTOR = {
    **expressions.OF_IMAGE, "UidDomain": "lab", "OpSysAndVer": "Debian14", "OpSysMajorVer": 14, "has_avx2": True,
    "Disk": 1000, "LoadAvg": 1.0, "GPUMade": "by hand",
}  # fmt: skip
judge = functools.partial(judge_with, classads=ClassAds())


def executor(name: str, machine: str, **more: Any) -> SlotAd:
    own = {"SwarmHpcClass": name, "Machine": f"{machine}.lab", "FileSystemDomain": f"{machine}.lab"}
    return SlotAd(name, ad_text({**EXECUTOR, **own, **more}))


# Both are busy: what is left of them now is not what they have.
SMALL = executor("small", "small-1-aaaaaa", Cpus=0, Memory=64, TotalSlotCpus=2, TotalSlotMemory=1024)
BIG = executor("big", "big-1-bbbbbb", Cpus=1, Memory=0, TotalSlotCpus=8, TotalSlotMemory=16384)
SLOTS = (SMALL, BIG)


def seen_and_why(expression: str, job: Mapping[str, str] | None = None) -> tuple[str, str]:
    (verdict,) = judge(expression, job=job or {}, slots=SLOTS).verdicts
    return verdict.seen, verdict.why


def texts(found: tuple[Term, ...]) -> list[str]:
    return [t.text for t in found]


# -- terms -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("a", ["a"]),
        ("a && b&&c", ["a", "b", "c"]),
        ("(a && b) && c", ["a", "b", "c"]),
        ("((a) && ((b && c)))", ["a", "b", "c"]),
        ("a && (b || c)", ["a", "(b || c)"]),
        ("a && b || c", ["a && b || c"]),
        ("(a && b || c) && d", ["(a && b || c)", "d"]),
        ("(a && b ? c : d) && e", ["(a && b ? c : d)", "e"]),
        ("a ?: b && c", ["a ?: b", "c"]),
        ("a ? : b && c", ["a ? : b", "c"]),
        ("a =?= b && c =!= d", ["a =?= b", "c =!= d"]),
        ("!(a && b) && c", ["!(a && b)", "c"]),
        ("f(a && b) && c", ["f(a && b)", "c"]),
        ("member(a, {b && c, d}) && [x = 1; y = a && b].y", ["member(a, {b && c, d})", "[x = 1; y = a && b].y"]),
        ('a == "x && y" && b', ['a == "x && y"', "b"]),
        (r'a == "x\" && y" && b', [r'a == "x\" && y"', "b"]),
        (r"'odd && name' == 1 && b", ["'odd && name' == 1", "b"]),
        ("a /* && x */ && b", ["a", "b"]),
        ("a // && x\n && b", ["a", "b"]),
        ("(a && b", ["(a && b"]),
        ("a && ", ["a &&"]),
        ("  ", []),
    ],
)
def test_terms_are_the_operands_of_the_outermost_and(expression: str, wanted: list[str]) -> None:
    assert texts(terms(expression)) == wanted


@given(st.text(alphabet="ab&|()?:\"'\\ /*{}[]=!,\n1", max_size=60))
def test_a_term_stands_where_it_says_in_any_text(expression: str) -> None:
    for t in terms(expression):
        if not re.search(r"/[/*]", expression):  # comments become blanks
            assert expression[t.offset : t.offset + len(t.text)].replace("\n", " ") == t.text.replace("\n", " ")


@given(st.text(alphabet="ab&|()?:\"'\\ /*{}[]=!,\n1$;", max_size=60))
def test_any_text_gets_a_judgement_and_problems_are_those_of_the_parser(expression: str) -> None:
    j = judge(expression, job={}, slots=SLOTS)
    assert 0 <= j.problem_offset <= len(expression)
    assert bool(j.problem) or bool(j.verdicts) or not expression.strip()
    if j.verdicts:
        assert ClassAds().parses(" && ".join(v.term.text for v in j.verdicts))


# Names that job and slots may have or lack, so that every outcome comes up.
LEAVES = st.sampled_from(
    ["A", "B", "TARGET.A", "MY.B", "Nothing", "true", "false", "undefined", "error", "3", '"x && y"', "A == 1", "B > 2",
     'S == "x"', r'S == "\"(" ', "A =?= undefined", "f(A)", "{1, 2}", "-1", 'regexp("x|y", S)', "1.5"]
)  # fmt: skip
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "&&", "&&", "||", "==", "=?=", "?:", "?  :", "+"]), inner).map(
            " ".join
        ),
        inner.map("({})".format),
        inner.map("!({})".format),
        inner.map("/* && */ {}".format),
        st.tuples(inner, inner, inner).map(lambda t: f"{t[0]} ? {t[1]} : {t[2]}"),
        inner.map("isUndefined({})".format),
    ),
    max_leaves=12,
)
ADS = st.dictionaries(st.sampled_from("ABS"), st.sampled_from([0, 1, 5, True, False, "x", "y", 2.5]), max_size=3)


@settings(max_examples=300, deadline=None)
@given(expression=EXPRESSIONS, job=ADS, slot=ADS)
def test_the_terms_joined_mean_what_the_whole_means(
    expression: str, job: dict[str, object], slot: dict[str, object]
) -> None:
    mine = {
        k: str(v).lower() if isinstance(v, bool) else f'"{v}"' if isinstance(v, str) else str(v) for k, v in job.items()
    }
    joined = " && ".join(texts(terms(expression)))
    whole, again = ClassAds().evaluate([expression, joined], mine, [ad_text(slot)])
    assert whole.parses == again.parses
    assert whole.outcomes == again.outcomes


@settings(max_examples=200, deadline=None)
@given(expression=EXPRESSIONS, number=st.integers(0, 3), slot=ADS)
def test_a_term_is_true_exactly_where_htcondors_own_match_says_so(
    expression: str, number: int, slot: dict[str, object]
) -> None:
    import classad2

    job = classad2.parseOne(f"A = {number}\nRequirements = ({expression})\n", classad2.ParserType.Old)
    machine = classad2.ClassAd({**slot, "Requirements": True})
    (found,) = ClassAds().evaluate([expression], {"A": str(number)}, [ad_text(slot)])
    assert (found.outcomes == ("true",)) == job.symmetricMatch(machine)


def corpus_requirements() -> list[str]:
    """Each value of `requirements` in the corpus that has no macros, once."""
    found: dict[str, None] = {}
    for file in sorted(CORPUS.glob("*.sub")):
        text = re.sub(r"\\[ \t]*\r?\n", " ", file.read_text(encoding="utf-8", errors="replace"))
        for m in re.finditer(r"(?im)^[ \t]*\+?requirements[ \t]*=[ \t]*(\S.*?)[ \t\r]*$", text):
            if "$(" not in m[1]:
                found[m[1]] = None
    return list(found)


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not on this machine")
def test_terms_of_real_requirements_mean_what_the_whole_means() -> None:
    found = corpus_requirements()
    assert len(found) > 30
    names = {n for e in found for n in re.findall(r"\b[A-Za-z_]\w*\b", re.sub(r'"[^"]*"', "", e))}
    values = {v.strip('"') for e in found for v in re.findall(r'"[^"]*"', e)}
    plain: list[Any] = [True, False, 7, 8.0, 50000, *sorted(values)]
    unreadable = [e for e in found if not ClassAds().parses(e)]
    assert [e for e in unreadable if not judge(e, job={}, slots=SLOTS).problem] == []
    for round_ in range(40):
        slot = {n: plain[(round_ * 7 + i * 13) % len(plain)] for i, n in enumerate(sorted(names)) if (i + round_) % 3}
        slots = [ad_text({k: v for k, v in slot.items() if k.lower() not in ("my", "target", "true", "false")})]
        for e in found:
            joined = " && ".join(texts(terms(e)))
            whole, again = ClassAds().evaluate([e, joined], {}, slots)
            assert whole.outcomes == again.outcomes, e


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "seen"),
    [
        ('UidDomain == "cs.uni-saarland.de"', 'UidDomain is "lab" here'),
        ('TARGET.UidDomain == "cs.uni-saarland.de"', 'UidDomain is "lab" here'),
        ("Target.HasCHTCStaging == true", "the slots have no attribute HasCHTCStaging"),
        ('GLIDEIN_Site == "SU-ITS"', "the slots have no attribute GLIDEIN_Site"),
        ("GPUs_GlobalMemoryMb >= 48000", "the slots have no attribute GPUs_GlobalMemoryMb"),
        ('OpSys == "WINDOWS"', 'OpSys is "LINUX" here'),
        ('OpSysAndVer =?= "SL6"', 'OpSysAndVer is "Debian14" here'),
        ('Machine == "hd60.dice.priv"', 'Machine is "small-1-aaaaaa.lab" or "big-1-bbbbbb.lab" here'),
        ('regexp("wisc\\.edu$", Machine)', 'Machine is "small-1-aaaaaa.lab" or "big-1-bbbbbb.lab" here'),
        ('stringListMember(OpSysAndVer, "SL6,SL7")', 'OpSysAndVer is "Debian14" here'),
        ("TotalSlotCpus > 8", "TotalSlotCpus is 2 or 8 here"),
        ("Memory > 20000", "Memory is 1024 or 16384 here"),
        ("MY.Campus == 1", "the job has no attribute Campus"),
        ("HasDocker =?= undefined", "HasDocker is true here"),
        ('TARGET.CondorVersion is "8"', 'CondorVersion is "$CondorVersion: 25.14.1 $" here'),
        ("false", ""),
    ],
)
def test_a_term_that_no_slot_satisfies_is_never(term: str, seen: str) -> None:
    j = judge(f'Arch == "X86_64" && {term}', job={}, slots=SLOTS)
    assert texts(j.never) == [term]
    assert j.verdicts[1].seen == seen
    assert (j.classes, j.remaining) == ((), ("small", "big"))


@pytest.mark.parametrize(
    ("term", "classes"),
    [
        ('OpSys == "LINUX"', ("small", "big")),
        ('opsys == "linux"', ("small", "big")),
        ("Memory >= 2048", ("big",)),
        ("Cpus >= RequestCpus * 2", ("big",)),
        ("TARGET.Cpus >= MY.RequestCpus", ("small", "big")),
        ('SwarmHpcClass == Wanted', ("small",)),
        ("Machine =!= LastRemoteHost", ("small", "big")),
        ("HasCHTCStaging =!= true", ("small", "big")),
        ("HasCHTCStaging =?= undefined", ("small", "big")),
        ('regexp("^small-\\d+-[a-f]*\\.lab$", Machine)', ("small",)),
        ('versionGE(split(TARGET.CondorVersion)[1], "25.12.0")', ("small", "big")),
        ('stringListIMember("HTTPS", HasFileTransferPluginMethods)', ("small", "big")),
        ("Missing || Memory > 2000", ("big",)),
        ("Memory", ("small", "big")),
    ],
)  # fmt: skip
def test_a_term_is_satisfied_as_the_negotiator_sees_it(term: str, classes: tuple[str, ...]) -> None:
    j = judge(term, job={"RequestCpus": "2", "Wanted": '"small"'}, slots=SLOTS)
    assert (j.classes, j.never) == (classes, ())
    assert all(v.judged for v in j.verdicts)


@pytest.mark.parametrize(
    ("term", "why"),
    [
        ("LoadAvg < 0.3", "LoadAvg changes with time"),
        ("Disk > 99999999", "Disk changes with time"),
        ('State == "Owner"', "State changes with time"),
        ("KeyboardIdle > 900", "KeyboardIdle changes with time"),
        ("CurrentTime < 5", "CurrentTime changes with time or place"),
        ("CurrentTime - EnteredCurrentState > 600", "CurrentTime changes with time or place"),
        ("time() > 99999999999", "time changes with time or place"),
        ("random(10) > 20", "random changes with time or place"),
        ("NumJobStarts < 3", "NumJobStarts is known of a submitted job only"),
        ("Heavy > 1", "LoadAvg changes with time"),
    ],
)
def test_what_changes_with_time_is_no_never(term: str, why: str) -> None:
    j = judge(term, job={"Heavy": "TARGET.LoadAvg * 0"}, slots=SLOTS)
    (verdict,) = j.verdicts
    assert (verdict.classes, verdict.judged) == (("small", "big"), False)
    assert verdict.why == why


def test_an_error_and_an_undefined_value_are_said_as_such() -> None:
    assert "error" in seen_and_why('OpSysMajorVer == "14"')[1]
    assert "undefined" in seen_and_why("GPUMEM > 30000")[1]
    assert seen_and_why('Arch == "aarch64"')[1] == "it is false for every slot"


def test_a_word_without_quotes_is_seen_as_an_attribute_that_nobody_has() -> None:
    assert "the slots have no attribute LINUX" in seen_and_why("OpSys == LINUX")[0]


def test_terms_that_match_one_by_one_but_not_together_are_named() -> None:
    j = judge('Arch == "X86_64" && SwarmHpcClass == "small" && Memory > 2000 && Cpus > 0', job={}, slots=SLOTS)
    assert (j.classes, j.remaining, j.never) == ((), (), ())
    assert texts(j.conflict) == ['SwarmHpcClass == "small"', "Memory > 2000"]


def test_two_executors_of_a_class_are_not_one_slot() -> None:
    two = (executor("c", "c-1-a", TotalSlotCpus=2, TotalSlotMemory=8), executor("c", "c-2-b", TotalSlotCpus=8))
    j = judge('Machine == "c-1-a.lab" && TotalSlotCpus == 8', job={}, slots=two)
    assert (j.classes, len(j.conflict)) == ((), 2)


def test_dropping_what_never_matches_leaves_the_rest_in_the_persons_words() -> None:
    expression = '(OpSys == "LINUX" && Arch == "X86_64" && GPUMEM > 30000) && (Memory > 500 || HasDocker)'
    j = judge(expression, job={}, slots=SLOTS)
    left = adapted(expression, j.never)
    assert left == 'OpSys == "LINUX" && Arch == "X86_64" && (Memory > 500 || HasDocker)'
    assert judge(left, job={}, slots=SLOTS).classes == j.remaining == ("small", "big")
    assert adapted("UidDomain == 1", terms("UidDomain == 1")) == ""
    assert adapted(" a  && b", ()) == " a  && b"


def test_of_equal_terms_only_the_named_one_is_dropped() -> None:
    assert adapted("a && b && a", [Term("a", 0)]) == "b && a"


def test_a_class_without_executors_is_judged_by_what_is_known_of_it() -> None:
    text, unknown = model_slot(SMALL.text, pool="lab", class_name="gpu", cpus=4, memory_mib=2048, counted={"gpus": 1})
    slots = (SMALL, SlotAd("gpu", text, unknown))

    def of(expression: str) -> Judgement:
        return judge(expression, job={}, slots=slots)

    assert of("GPUs >= 1 && TotalSlotMemory == 2048").classes == ("gpu",)
    assert of('Microarch == "x86_64-v4"').classes == ("gpu",)
    assert of('Microarch == "x86_64-v4"').verdicts[0].judged is False
    for never in ('Machine == "vision-01"', 'OpSysAndVer == "SL6"', "GPUs_Capability > 7", 'OpSys == "OSX"'):
        assert texts(of(never).never) == [never]


def test_a_model_takes_no_gpus_from_the_class_it_is_like() -> None:
    like = executor("gpu", "gpu-1-a", GPUs=2, TotalSlotGPUs=2, TotalSlotCpus=2).text
    text, _ = model_slot(like, pool="lab", class_name="cpu", cpus=1, memory_mib=64, counted={})
    assert judge("GPUs > 0", job={}, slots=[SlotAd("cpu", text)]).never == (Term("GPUs > 0", 0),)
    assert judge('UidDomain == "lab"', job={}, slots=[SlotAd("cpu", model_slot(
        None, pool="lab", class_name="cpu", cpus=1, memory_mib=64, counted={})[0])]).classes == ("cpu",)  # fmt: skip


def test_without_slots_nothing_is_judged() -> None:
    j = judge('UidDomain == "x"', job={}, slots=())
    assert j.never == ()
    assert [(v.judged, v.why) for v in j.verdicts] == [(False, "there is no slot to compare with")]


def test_no_requirements_suit_every_class() -> None:
    assert judge(" ", job={}, slots=SLOTS) == Judgement(classes=("small", "big"), remaining=("small", "big"))


# -- what is no expression ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "problem", "offset"),
    [
        ("(a && b", "this ( is not closed", 0),
        ("a && b)", "nothing that is open ends with this )", 6),
        ('a && b == "x', "a text in quotes begins here and does not end", 10),
        ("a && /* b", "a comment begins here and does not end", 5),
        ("a && b // why", "// makes a comment of the rest, and of what HTCondor adds to requirements", 7),
        ("a && && b", "one side of && is missing", 5),
        ("a &&", "one side of && is missing", 4),
        ('a && Arch = "X"', "= compares nothing; equal is ==", 10),
        ("a and b", "and is no operator here; write &&", 2),
        ("a && b c", "'b c' is no ClassAd expression", 5),
        ("true; b", "'true; b' is no ClassAd expression", 0),
        ("a && $$(b) == 1", "'$$(b) == 1': $$() is replaced after a match only, requirements can't use it", 5),
        ("(" * 600 + "a" + ")" * 600, "its parentheses are nested deeper than HTCondor reads them", 0),
    ],
)
def test_what_is_no_expression_is_said_with_its_place(expression: str, problem: str, offset: int) -> None:
    j = judge(expression, job={}, slots=SLOTS)
    assert (j.problem, j.problem_offset, j.verdicts) == (problem, offset, ())


@pytest.mark.parametrize(
    "expression",
    ["1" + "+1" * 16000, "a" + ".b" * 16000, "a" + "||a" * 8000, "!" * 30000 + "a", "((a)&&" * 4000 + "b" + ")" * 4000,
     "(" * 30000, '"' * 30001, '"' + '\\"' * 15000, "/*" * 15000, "?" * 30000, " " * 32000 + "a", "a" * 10**7],
    ids=lambda e: e[:12],
)  # fmt: skip
def test_monstrous_text_takes_no_time_and_ends_no_process(expression: str) -> None:
    before = time.process_time()
    judge(expression, job={}, slots=SLOTS)
    assert time.process_time() - before < 2


def test_attributes_of_the_job_that_would_take_for_ever_are_not_evaluated() -> None:
    doubling = {f"A{i}": f"A{i - 1} + A{i - 1}" for i in range(1, 60)} | {"A0": "1", "Plain": "1 + 1"}
    j = judge("A59 > 1 && A0 == 1 && Plain == 2", job=doubling, slots=SLOTS)
    assert [v.judged for v in j.verdicts] == [False, True, True]
    circle = {f"C{i}": " + ".join(f"C{k}" for k in range(14)) for i in range(14)}
    assert judge("C3 == 1", job=circle, slots=SLOTS).verdicts[0].why == "C3 of the job is too large to evaluate"


def test_a_record_that_doubles_itself_is_not_evaluated() -> None:
    record = '[a0 = "x"; ' + "; ".join(f"a{i} = strcat(a{i - 1}, a{i - 1})" for i in range(1, 60)) + "].a59"
    j = judge(f'{record} == "x" && Mine == "x"', job={"Mine": record}, slots=SLOTS)
    assert [(v.judged, v.why) for v in j.verdicts] == [
        (False, "it is too large to evaluate"),
        (False, "Mine of the job is too large to evaluate"),
    ]


def test_both_sides_look_at_equally_long_texts() -> None:
    assert requirement_terms.LONGEST == expressions.LONGEST
