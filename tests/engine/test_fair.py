"""Retries, limits of time, and who may have how much: on a real pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmhpc.config import load
from tests.command_line import Cli, until
from tests.engine.conftest import as_person, containers_of, docker, empty_queue, name_of

FLAKY = """\
#!/bin/sh
# Fails on its first two attempts.
attempt=$(sed -n 's/^NumJobStarts = //p' .job.ad)
echo "attempt $attempt"
[ "$attempt" -ge 2 ] || exit 75
"""
SLEEP = "executable = /bin/sleep\narguments = {seconds}\nrequest_memory = 32MiB\nqueue {count}\n"
HOG = """\
docker_image = debian
executable = /bin/sh
arguments = "-c 'head -c 150m /dev/zero | tail | wc -c'"
output = hog.out
request_memory = 20MiB
queue
"""
RULES = """\
fairness:
  people:
    capped: {max_jobs: 1}
    grouped: {group: testers}
    wide: {max_cpus: 2}
  groups:
    testers: {cpus: 1, surplus: false}
  limits: {testlicence: 1}
"""


def submitted(person: Cli, text: str, *options: str) -> str:
    (person.cwd / "a.sub").write_text(text)
    (cluster,) = person.ok("submit", "a.sub", "--json", *options).json["clusters"]
    return str(cluster["cluster"])


def jobs_of(person: Cli, cluster: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = person.ok("q", cluster, "--json").json
    return found


def when(person: Cli, cluster: str, ready: Callable[[list[dict[str, Any]]], bool], *, timeout_s: float = 60) -> Any:
    deadline = time.monotonic() + timeout_s
    while not ready(found := jobs_of(person, cluster)):
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


def ended(jobs: list[dict[str, Any]]) -> bool:
    return all(j["status"] in ("completed", "held") and j["hold_reason"] != "spooling" for j in jobs)


def test_jobs_are_tried_again_as_often_as_asked_with_more_memory_and_for_no_longer(person: Cli) -> None:
    (person.cwd / "flaky.sh").write_text(FLAKY)
    (person.cwd / "flaky.sh").chmod(0o755)
    flaky = "executable = flaky.sh\noutput = $(Cluster).out\nrequest_memory = 32MiB\nqueue\n"
    long = submitted(person, SLEEP.format(seconds=600, count=1), "--timeout", "2s")
    grows = submitted(person, HOG, "--retry-memory", "3x")
    stays = submitted(person, HOG, "--retry-memory", "+5MiB", "--retries", "1")
    enough = submitted(person, flaky, "--retries", "2")
    few = submitted(person, flaky, "--retries", "1")
    other = submitted(person, flaky, "--retries", "2", "--retry-on", "3-5")
    this = submitted(person, flaky, "--retry-on", "70-80")

    found = {c: when(person, c, ended)[0] for c in (enough, few, other, this)}
    seen = {c: (j["attempts"], j["exit_code"]) for c, j in found.items()}
    assert seen == {enough: (3, 0), few: (2, 75), other: (1, 75), this: (3, 0)}
    person.ok("fetch", enough)
    assert (person.cwd / f"{enough}.out").read_text() == "attempt 2\n"  # HTCondor counts the starts before this one

    (done,) = when(person, grows, ended)
    assert (done["exit_code"], done["memory_mib"], done["attempts"]) == (0, 180, 3)
    (held,) = when(person, stays, ended)
    assert (held["status"], held["memory_mib"], held["attempts"]) == ("held", 25, 2)
    assert "memory limit" in held["hold_reason"]

    (held,) = when(person, long, ended)
    assert "exceeded allowed execute duration of 00:02" in held["hold_reason"]


def test_attempts_that_were_lost_are_repeated_as_often_as_asked_and_then_the_job_is_held(person: Cli) -> None:
    """It is sent away from its executor twice: it begins again once, and then it is held. (Where it has found another
    slot at once, a few seconds into a third attempt.)"""
    forever = f"docker_image = debian\n{SLEEP.format(seconds=3600, count=1)}"
    job = submitted(person, forever, "--retry-on", "evicted", "--retries", "1")

    def runs(attempts: int) -> Callable[[list[dict[str, Any]]], bool]:
        return lambda jobs: [(j["state"], j["attempts"]) for j in jobs] == [("RUNNING", attempts)]

    for attempts in (1, 2):
        when(person, job, runs(attempts))
        docker("exec", containers_of("access-point")[0], "condor_vacate_job", "-fast", f"{job}.0")
    (held,) = when(person, job, ended)
    assert held["status"] == "held" and held["attempts"] in (2, 3)
    assert codes(person, job) == {"held-by-rule"}


def codes(person: Cli, cluster: str) -> set[str]:
    """What `why` answers of the jobs of a cluster."""
    return {r["code"] for r in person.ok("why", cluster, "--json").json if r["main"]}


def test_quota_shows_the_rules_of_the_file_and_who_has_what(pool: Cli, person: Cli, tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    grouped = as_person(pool, "grouped", tmp_path / "g")
    cluster = submitted(grouped, SLEEP.format(seconds=30, count=1))
    try:
        when(grouped, cluster, lambda jobs: jobs[0]["status"] == "running")
        seen = person.ok("quota", "--json").json
    finally:
        empty_queue(grouped)
    people = {p["name"]: p for p in seen["people"]}
    assert people["favoured"]["priority_factor"] == 500
    assert (people["grouped"]["group"], people["grouped"]["jobs_running"]) == ("testers", 1)
    (group,) = seen["groups"]
    assert (group["name"], group["share_percent"], group["cpus_in_use"]) == ("testers", 25, 1)
    assert "testers" in person.ok("quota").out


def test_usage_adds_up_what_was_used(person: Cli) -> None:
    me = name_of(person)

    def mine() -> dict[str, Any]:
        rows = person.ok("usage", "--since", "1h", "--json").json
        return next((r for r in rows if r["person"] == me), {"jobs": 0, "failed": 0, "core_hours": 0.0})

    before = mine()
    good = submitted(person, SLEEP.format(seconds=3, count=2))
    bad = submitted(person, "executable = /bin/false\nrequest_memory = 32MiB\nqueue\n")
    when(person, bad, ended)
    when(person, good, ended)
    there = mine()
    person.ok("fetch", good, bad)
    after = mine()
    # The same before and after fetching: each job is counted once, wherever it is.
    assert [(u["jobs"] - before["jobs"], u["failed"] - before["failed"]) for u in (there, after)] == [(3, 1), (3, 1)]
    assert 2 * 3 / 3600 <= after["core_hours"] - before["core_hours"] < 1 / 60
    header, *rows = person.ok("usage", "--since", "1h", "--by", "day", "--csv").out.splitlines()
    assert header.startswith("day,jobs,failed,") and rows
    assert person.run("usage", "--csv", "--json").code == 2


def test_with_groups_the_next_job_of_somebody_who_has_one_running_is_given_a_slot_at_once(person: Cli) -> None:
    """What the negotiator knows of them is seconds old then: 25.14 divided by zero (central-manager.conf.j2)."""
    me = name_of(person)
    (central_manager,) = containers_of("central-manager")
    first = submitted(person, SLEEP.format(seconds=600, count=1))

    def told() -> list[str]:
        columns = ("Name", "RunningJobs", "IdleJobs")
        rows = docker("exec", central_manager, "condor_status", "-submitters", "-af", *columns).splitlines()
        return next((r.split()[1:] for r in rows if r.startswith(f"{me}@")), [])

    until(lambda: told() == ["1", "0"], timeout_s=60, what="the negotiator knows of one running job")
    when(person, submitted(person, SLEEP.format(seconds=0, count=1)), ended)
    person.ok("rm", first)
    log = docker("exec", central_manager, "cat", "/var/log/condor/NegotiatorLog")
    assert "BEGIN NEGOTIATION with a quota limit of " in log and "-nan" not in log


@pytest.fixture
def ruled(pool: Cli, tmp_path: Path) -> Iterator[Cli]:
    """The pool with rules of its own, then as it was."""
    own = load(pool.cwd / "swarmhpc.yaml")
    text, _, rest = (pool.cwd / "swarmhpc.yaml").read_text().partition("fairness:\n")
    after = rest.splitlines(keepends=True)
    while after and after[0].startswith(" "):
        after.pop(0)
    folder = tmp_path / "ruled"
    folder.mkdir()
    (folder / "swarmhpc.yaml").write_text(text + RULES + "".join(after))
    assert load(folder / "swarmhpc.yaml") != own
    try:
        Cli(folder, pool.config_home, pool.environment).ok("up")
        yield pool
    finally:
        pool.ok("up")


def test_no_more_runs_at_a_time_than_the_rules_allow(ruled: Cli, person: Cli, tmp_path: Path) -> None:
    people = {}
    for name in ("capped", "grouped", "wide"):
        (tmp_path / name).mkdir()
        people[name] = as_person(ruled, name, tmp_path / name)
    sleep = SLEEP.format(seconds=6, count=2)
    try:
        clusters = {name: submitted(p, sleep) for name, p in people.items() if name != "wide"}
        clusters["wide"] = submitted(people["wide"], sleep.replace("queue", "request_cpus = 2\nqueue"))
        licence = submitted(person, "concurrency_limits = testlicence\n" + sleep)
        ours = {*clusters.values(), licence}
        told: dict[str, set[str]] = {"capped": set(), "grouped": set()}
        most = dict.fromkeys([*clusters, "testlicence"], 0)
        deadline = time.monotonic() + 90
        while True:
            seen = person.ok("quota", "--json").json
            running = {p["name"]: p["jobs_running"] for p in seen["people"]}
            running |= {limit["name"]: limit["in_use"] for limit in seen["limits"]}
            most = {name: max(count, running.get(name, 0)) for name, count in most.items()}
            for name in told:
                told[name] |= codes(people[name], clusters[name])
            jobs = person.ok("q", "--all", "--jobs", "--json").json
            if all(j["status"] == "completed" for j in jobs if j["id"].partition(".")[0] in ours):
                break
            assert time.monotonic() < deadline, most
        assert most == {"capped": 1, "grouped": 1, "wide": 1, "testlicence": 1}
        assert "person-limit" in told["capped"] and "group-quota" in told["grouped"], told
        refused = people["capped"].run("submit", "a.sub", "--append", "concurrency_limits = swarmhpc_jobs_wide")
        assert refused.code == 1 and "none that begins with swarmhpc_" in refused.err
    finally:
        for p in people.values():
            empty_queue(p)
