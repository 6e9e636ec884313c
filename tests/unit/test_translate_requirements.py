"""Requirements against the pool's slots, as the translation reports and adapts them."""

import pytest

from swarmhpc.adapters import expressions
from swarmhpc.jobs.description import parse
from swarmhpc.jobs.requirements import SlotAd
from swarmhpc.jobs.translate import ClassSize, Limits, Translation, translate
from tests.unit.test_translate import SIDE, docker, errors, found, only

pytest.importorskip("htcondor2", reason="the HTCondor bindings are not installed")


def judged(line: str, *more: str, adapt: bool = False) -> Translation:
    text, unknown = expressions.model_slot(
        None, pool="lab", class_name="executors", cpus=2, memory_mib=2048, counted={}
    )  # fmt: skip
    limits = Limits(
        classes=(ClassSize("executors", 2, 2048),),
        slots=(SlotAd("executors", text, unknown),),
        classads=expressions.ClassAds(),
    )
    return translate(parse(docker(line, *more), file="job.sub"), limits=limits, side=SIDE, adapt=adapt)


def test_a_term_that_never_matches_is_an_error_at_its_place() -> None:
    finding = found(judged('requirements = OpSys == "LINUX" && OpSys == "WINDOWS"'), "never-matches")
    assert (finding.severity, finding.place.line, finding.place.column) == ("error", 3, 36)
    assert 'OpSys == "WINDOWS"' in finding.message


def test_adapt_drops_exactly_that_term_and_says_so() -> None:
    translation = judged('requirements = OpSys == "LINUX" && OpSys == "WINDOWS"', adapt=True)
    assert only(translation).common["requirements"] == 'OpSys == "LINUX"'
    assert found(translation, "adapted").severity == "note"


def test_requirements_that_nothing_is_left_of_are_left_out() -> None:
    translation = judged('requirements = OpSys == "WINDOWS"', adapt=True)
    assert errors(translation) == []
    assert only(translation).common.get("requirements", "") == ""


def test_what_is_no_expression_is_told_with_its_place() -> None:
    assert found(judged('requirements = OpSys = "LINUX"'), "bad-expression").place.column == 22


def test_an_attribute_of_the_job_counts() -> None:
    assert errors(judged("requirements = MY.Wanted == 3", "+Wanted = 3")) == []
    assert found(judged("requirements = MY.Wanted == 3", "+Wanted = 4"), "never-matches")
