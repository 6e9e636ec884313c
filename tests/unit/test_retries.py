"""Retries and limits of time: options in, lines of a description out, and what HTCondor makes of their expressions."""

from __future__ import annotations

from typing import Any

import pytest

from swarmhpc.adapters.condor import classad
from swarmhpc.errors import UsageError
from swarmhpc.jobs.retries import lines
from tests.unit.test_translate import docker, only, run

MIB = {"RequestMemory": 100, "NumJobStarts": 1, "NumJobCompletions": 0}


def values(**options: Any) -> dict[str, str]:
    """The lines as commands, as the translator passes them on to HTCondor."""
    return dict(only(run(docker("executable = /bin/true", *lines(**options)))).common)


def evaluated(expression: str, **attributes: object) -> Any:
    ad = classad({k: v for k, v in attributes.items() if v is not None})
    ad["Result"] = classad(f"[Result = {expression}]").lookup("Result")
    return ad.eval("Result")


def test_without_options_there_are_no_lines() -> None:
    assert lines() == ()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"retries": 2}, ("max_retries = 2",)),
        ({"timeout": "2h"}, ("allowed_execute_duration = 7200",)),
        ({"lease": "10m"}, ("job_lease_duration = 600",)),
        # 2400 is what HTCondor writes where nobody said anything, and the access point replaces it.
        ({"lease": "40m"}, ("job_lease_duration = 2401",)),
        (
            {"retries": 1, "retry_on": ["75"]},
            ("max_retries = 1", "retry_until = ExitBySignal =!= false || !(ExitCode =?= 75)"),
        ),
        ({"retry_on": ["signal"]}, ("max_retries = 3", "retry_until = ExitBySignal =?= false && true")),
    ],
)
def test_an_option_becomes_the_command_that_htcondor_has_for_it(
    options: dict[str, Any], wanted: tuple[str, ...]
) -> None:
    assert lines(**options) == wanted


@pytest.mark.parametrize(
    ("retry_on", "code", "ends"),
    [
        (["75"], 75, False),
        (["75"], 1, True),
        (["75"], None, True),  # a signal
        (["3-5,75"], 4, False),
        (["3-5", "75"], 6, True),
        (["75", "signal"], None, False),
        (["75,signal"], 75, False),
        (["75,signal"], 1, True),
        (["signal"], 1, True),
        (["signal"], None, False),
    ],
)
def test_only_the_named_ends_are_tried_again(retry_on: list[str], code: int | None, ends: bool) -> None:
    until = values(retries=1, retry_on=retry_on)["retry_until"]
    seen = {"ExitBySignal": True} if code is None else {"ExitBySignal": False, "ExitCode": code}
    assert evaluated(until, **seen) is ends


@pytest.mark.parametrize(
    ("options", "attributes", "memory"),
    [
        ({"retry_memory": "2x"}, MIB, 200),
        ({"retry_memory": "1.5x"}, {**MIB, "RequestMemory": 101}, 152),  # rounded up
        ({"retry_memory": "+1GiB"}, MIB, 1124),
        ({"retry_on": ["memory"]}, MIB, 200),
        ({"retry_memory": "2x"}, {**MIB, "NumJobStarts": 3}, 200),
        ({"retry_memory": "2x"}, {**MIB, "NumJobStarts": 4}, 100),  # three times is enough where nobody says how often
        ({"retry_memory": "2x"}, {**MIB, "NumJobStarts": 4, "NumJobCompletions": 1}, 200),  # an exit is no such loss
        ({"retry_memory": "2x", "retries": 1}, {**MIB, "NumJobStarts": 2}, 100),
        ({"retry_memory": "2x", "retry_memory_max": "150MiB"}, MIB, 150),
        ({"retry_memory": "2x", "retry_memory_max": "1GiB", "largest_memory_mib": 120}, MIB, 120),
        ({"retry_memory": "2x", "largest_memory_mib": 80}, MIB, 100),  # never less than before
    ],
)
def test_memory_grows_by_what_was_said_as_far_and_as_often_as_was_said(
    options: dict[str, Any], attributes: dict[str, int], memory: int
) -> None:
    # HTCondor holds a job whose request stays as it was (25.14, schedd.cpp, TransformOnEvict).
    assert evaluated(values(**options)["retry_request_memory"], **attributes) == memory


@pytest.mark.parametrize(
    ("lost", "status", "held"), [(1, 1, False), (2, 1, False), (3, 1, True), (3, 2, False), (4, 2, True), (4, 5, False)]
)
def test_a_job_that_is_evicted_more_often_than_allowed_is_held(lost: int, status: int, held: bool) -> None:
    hold = values(retries=2, retry_on=["evicted"])
    assert "max_retries" not in hold
    counts = {"NumJobStarts": lost + 4, "NumJobCompletions": 4}
    assert evaluated(hold["periodic_hold"], JobStatus=status, **counts) is held


@pytest.mark.parametrize(("code", "starts", "again"), [(47, 1, True), (47, 2, False), (46, 1, False), (None, 1, False)])
def test_a_job_that_ran_too_long_goes_again_as_often_as_asked(code: int | None, starts: int, again: bool) -> None:
    release = values(timeout="1h", retries=1, retry_on=["timeout"])["periodic_release"]
    assert evaluated(release, HoldReasonCode=code, NumJobStarts=starts, NumJobCompletions=0) is again


def test_what_the_description_says_of_holding_and_releasing_counts_too() -> None:
    appended = lines(retries=1, retry_on=["evicted", "timeout"], timeout="1h")
    mine = ["periodic_hold = Size > 5", "periodic_release = Wish"]
    common = only(run(docker("executable = /bin/true", *mine, *appended))).common
    assert evaluated(common["periodic_hold"], Size=6, JobStatus=2, NumJobStarts=1) is True
    assert evaluated(common["periodic_release"], Wish=True, NumJobStarts=9) is True


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": -1}, "retries -1: wanted a number from 0 to 1000"),
        ({"retries": 1001}, "from 0 to 1000"),
        ({"retry_on": ["0"]}, "retry-on '0': wanted exit codes from 1 to 255, or evicted, memory"),
        ({"retry_on": ["256"]}, "from 1 to 255"),
        ({"retry_on": ["5-3"]}, "from 1 to 255"),
        ({"retry_on": ["oom"]}, "retry-on 'oom'"),
        ({"retry_on": ["3,"]}, "retry-on ''"),
        ({"retry_on": ["1\nqueue 5"]}, "retry-on"),
        ({"retry_on": ["timeout"]}, "there is no timeout"),
        ({"retry_memory": "2"}, "wanted a factor above 1 or a size more"),
        ({"retry_memory": "1x"}, "wanted a factor above 1"),
        ({"retry_memory": "+0"}, "wanted a factor above 1"),
        ({"retry_memory": "+lots"}, "retry-memory '+lots'"[:12]),
        ({"retry_memory_max": "1GiB"}, "nothing says how memory grows"),
        ({"retry_memory": "2x", "retry_memory_max": "much"}, "retry-memory-max 'much'"),
        ({"timeout": "soon"}, "timeout 'soon'"),
        ({"timeout": "0"}, "wanted 1 s or more"),
        ({"lease": "19"}, "lease '19': wanted 20 s or more"),
    ],
)
def test_nonsense_is_refused_with_the_option_and_what_was_wanted(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        lines(**options)
    assert words in caught.value.message and caught.value.hint
