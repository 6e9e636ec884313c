"""Jobs that wait for jobs, on the real pool: --after, --each, --sequential, --on."""

from __future__ import annotations

import pytest

from tests.command_line import Cli, until
from tests.engine.test_dag import JOB, ad, clusters, job, write


def test_jobs_wait_for_all_jobs_of_a_cluster_and_say_so_meanwhile(person: Cli) -> None:
    # Held until everything about the waiting has been seen, however slow the machine.
    write(person, a_sub=job("echo a", "output = a.out", "hold = true"), b_sub=job("date +%s", "output = b.out"))
    first = clusters(person.run("submit", "a.sub", "--json"))[0]
    second = clusters(person.run("submit", "b.sub", "--after", first, "--json"))[0]
    until(
        lambda: ad(second, "SwarmHpcDagWaits")[0] == f"{first} (1 of 1 not finished)",
        timeout_s=60, what="the DAG's job says what it waits for",
    )  # fmt: skip
    assert person.ok("why", second, "--json").json[0]["code"] == "waits-for-jobs"
    person.ok("release", first)
    assert person.run("wait", first, second).code == 0
    person.ok("fetch", first, second)
    assert (person.cwd / "b.out").exists()


def test_each_job_waits_for_its_own_one_and_one_whose_parent_failed_does_not_run(person: Cli) -> None:
    three = JOB + "arguments = \"-c 'sleep 2; echo $(Process); exit $(code)'\"\noutput = a.$(Process)\n"
    three += "queue code in (0 4 0)\n"
    write(person, a_sub=three, b_sub=job("echo b", "output = b.$(Process)").replace("queue\n", "queue 3\n"))
    first = clusters(person.run("submit", "a.sub", "--json"))[0]
    second = clusters(person.run("submit", "b.sub", "--after", first, "--each", "--json"))[0]
    assert person.run("wait", second).code == 1
    why = ad(second, "SwarmHpcDagFailed")[0]
    assert why == f"job1: did not run: job {first}.1 ended with code 4"
    person.ok("fetch", second)
    assert [(person.cwd / f"b.{n}").exists() for n in range(3)] == [True, False, True]


def test_one_after_the_other_stops_at_a_failure_unless_told_otherwise(person: Cli) -> None:
    text = JOB + "arguments = \"-c 'echo $(Process); exit $(code)'\"\noutput = $(tag).$(Process)\n"
    write(person, a_sub=text + "queue code in (0 4 0)\n")
    stops = clusters(person.run("submit", "a.sub", "tag=stops", "--sequential", "--json"))[0]
    goes_on = clusters(person.run("submit", "a.sub", "tag=any", "--sequential", "--on", "any", "--json"))[0]
    assert person.run("wait", "--keep-going", stops, goes_on).code == 1
    person.ok("fetch", stops, goes_on)
    assert [(person.cwd / f"stops.{n}").exists() for n in range(3)] == [True, True, False]
    assert [(person.cwd / f"any.{n}").exists() for n in range(3)] == [True, True, True]


def test_what_has_ended_already_is_known_also_when_it_has_left_the_queue(person: Cli) -> None:
    write(person, good_sub=job("true"), bad_sub=job("exit 5"), b_sub=job("echo b", "output = b.out"))
    good = clusters(person.run("submit", "good.sub", "--wait", "--json"))[0]  # fetched
    bad = clusters(person.run("submit", "bad.sub", "--json"))[0]
    person.run("wait", bad)
    gone = clusters(person.run("submit", "good.sub", "--json"))[0]
    person.ok("rm", gone)

    done = person.run("submit", "b.sub", "--after", good, "--wait")
    assert done.code == 0, done.err
    refused = person.run("submit", "b.sub", "--after", bad)
    assert refused.code == 2 and f"job {bad}.0 ended with code 5" in refused.err
    refused = person.run("submit", "b.sub", "--after", gone)
    assert refused.code == 2 and f"job {gone}.0 was removed" in refused.err
    done = person.run("submit", "b.sub", "--after", bad, "--on", "failure", "--wait")
    assert done.code == 0, done.err
    refused = person.run("submit", "b.sub", "--after", good, "--on", "failure")
    assert refused.code == 2 and "nothing to do" in refused.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--after", "99999999"], "neither in the queue nor in its history"),
        (["--after", "soon"], "wanted a cluster like 12"),
        (["--each"], "nothing says for which jobs"),
        (["--sequential", "--on", "failure"], "--on any"),
        (["--on", "sometimes", "--sequential"], "success, failure, any"),
    ],
)
def test_a_dependency_on_nothing_is_refused_with_words(person: Cli, options: list[str], words: str) -> None:
    write(person, b_sub=job("true"))
    refused = person.run("submit", "b.sub", *options)
    assert refused.code in (1, 2) and words in refused.err
