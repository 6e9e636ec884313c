"""`why` in situations made for real: the right code each time, with a token and nothing else.

Most jobs here could not be submitted with `swarmhpc submit`, which refuses what can never run: they go to the access
point as flat descriptions, as `condor_submit` would send them.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import TOP, Cli, until
from tests.engine.conftest import POOL, as_person, containers_of, docker, name_of

BASE = """\
should_transfer_files = YES
transfer_executable = false
request_cpus = 1
request_memory = 64
request_disk = 1024
MY.Iwd = "/tmp"
MY.StageInStart = 2
MY.StageInFinish = 1
leave_in_queue = JobStatus == 4
"""
PLAIN = "universe = vanilla\n" + BASE
DOCKER = "universe = docker\ndocker_image = debian\n" + BASE
EAT = "head -c 300000000 /dev/zero | tail"  # keeps it all: there is no end of a line

SUBMIT = """
import json, sys
from swarmhpc.pool import Pool
condor = Pool().connection
found = {}
for name, (text, count, of, spool) in json.load(sys.stdin).items():
    if spool:  # and then nothing is sent
        made = condor._schedd.submit(condor._htcondor.Submit(text + f"queue {count}\\n"), spool=True)
        found[name] = made.cluster()
    else:
        found[name] = condor.submit(text, names=["x"], rows=[[str(i % of)] for i in range(count)], spool=False)
print(json.dumps(found))
"""
ASK = """
import json, sys, time
from dataclasses import asdict
from swarmhpc.pool import Pool
pool = Pool()
wanted, patience_s = json.load(sys.stdin)
found = {}
ends_at = time.monotonic() + patience_s
while wanted and time.monotonic() < ends_at:
    for name, (job, codes) in list(wanted.items()):
        reasons = pool.why(job)
        found[name] = [asdict(r) for r in reasons]
        if reasons[0].code in codes:
            del wanted[name]
    time.sleep(0.2)
print(json.dumps(found))
"""


def python(person: Cli, program: str, given: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(given),
        cwd=person.cwd,
        env={**person.env(), "PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def submitted(person: Cli, jobs: dict[str, str], *, count: int = 1, of: int = 1, spool: bool = False) -> dict[str, str]:
    """Clusters by name, of `count` jobs; $(x) is 0 to `of` - 1."""
    made = python(person, SUBMIT, {name: (text, count, of, spool) for name, text in jobs.items()})
    return {name: str(cluster) for name, cluster in made.items()}


def answers(
    person: Cli, jobs: dict[str, str], codes: dict[str, Collection[str]], patience_s: float = 60
) -> dict[str, Any]:
    """Each job's first reason, once it is one of these codes; else the last one."""
    found = python(person, ASK, ({n: (job, list(codes[n])) for n, job in jobs.items()}, patience_s))
    return {name: reasons[0] for name, reasons in found.items()}


def shell(text: str) -> str:
    return f"executable = /bin/sh\narguments = \"-c '{text.replace(chr(39), chr(39) * 2)}'\"\n"


ENDS: dict[str, tuple[str, str]] = {
    "succeeded": (DOCKER + shell("true"), "it ended well"),
    "exit-code": (DOCKER + shell("exit 3"), "code 3"),
    "command-not-found": (DOCKER + "executable = /bin/nonesuch\n", "not found in image debian (/bin/nonesuch)"),
    "not-executable": (DOCKER + "executable = /etc/passwd\n", "/etc/passwd can't be run in image debian"),
    "killed": (PLAIN + shell("kill -9 $$"), "killed"),
    "signal": (DOCKER + shell("exit 139"), "signal 11"),
    "out-of-memory": (DOCKER + "request_memory = 32\n" + shell(EAT), "than it asked for, 32 MiB"),
    "input-file": (
        PLAIN + "executable = /bin/true\ntransfer_input_files = /nonesuch/a.dat\n",
        "/nonesuch/a.dat: no such",
    ),
    "output-file": (PLAIN + "executable = /bin/true\ntransfer_output_files = never.dat\n", "never.dat: no such file"),
    "command-not-started": (PLAIN + "executable = /bin/nonesuch\n", "/bin/nonesuch is not on the executor"),
    "held-by-rule": (PLAIN + "executable = /bin/true\non_exit_hold = true\n", "a rule of the job itself"),
    "held-by-person": (PLAIN + "executable = /bin/true\nhold = true\n", "submitted on hold"),
    "time-limit": (
        PLAIN + "executable = /bin/sleep\narguments = 300\nallowed_execute_duration = 2\n",
        "than allowed: 2s",
    ),
    "image-wrong": (DOCKER.replace("debian", "No/Such_Name") + shell("true"), "the name of its image is none"),
    "image": (DOCKER.replace("debian", "no-such-image-anywhere:9") + shell("true"), "no-such-image-anywhere:9"),
}
WAITS: dict[str, tuple[str, str]] = {
    "too-large": (PLAIN + "request_memory = 65536\n", "asks for 64 GiB; no executor has that"),
    "requirements": (PLAIN + 'requirements = HasDocker && Arch == "ARM"\n', 'Arch == "ARM": it is false'),
    "no-such-class": (PLAIN + 'requirements = SwarmHpcClass == "gpu"\n', "wants class gpu, and the pool has executors"),
}


def test_what_has_ended_or_is_held_is_told_apart(person: Cli) -> None:
    jobs = submitted(person, {code: text for code, (text, _) in ENDS.items()})
    image = {"image", "registry-unreachable", "registry-limit", "image-not-found"}  # as the machine's network is
    found = answers(person, jobs, {code: image if code == "image" else {code} for code in jobs}, patience_s=80)
    seen = {code: reason["code"] for code, reason in found.items()}
    assert seen.pop("image") in image
    assert seen == {code: code for code in ENDS if code != "image"}
    assert {c: words in found[c]["message"] for c, (_, words) in ENDS.items()} == dict.fromkeys(ENDS, True), found


def test_what_can_never_run_is_told_with_what_is_missing(person: Cli) -> None:
    idle = "executable = /bin/sleep\narguments = 60\n"
    jobs = submitted(person, {code: text + idle for code, (text, _) in WAITS.items()})
    jobs |= submitted(person, {"spooling": PLAIN.replace("MY.", "#") + idle}, spool=True)
    found = answers(person, jobs, {code: {code} for code in jobs}, patience_s=20)
    assert {name: reason["code"] for name, reason in found.items()} == {name: name for name in jobs}
    assert {c: words in found[c]["message"] for c, (_, words) in WAITS.items()} == dict.fromkeys(WAITS, True), found
    assert found["requirements"]["evidence"]["terms"][0] == {"term": 'Arch == "ARM"', "met_by": 0}
    assert found["too-large"]["evidence"]["asked"] == {"cpus": 1, "memory_mib": 65536}


def test_a_full_executor_a_limit_a_conflict_and_what_runs(person: Cli) -> None:
    """Around one job that runs, so that it does not matter what else runs in the pool."""
    sleep = "executable = /bin/sleep\narguments = 120\n"
    jobs = submitted(person, {"running": PLAIN + sleep})
    running = answers(person, jobs, {"running": {"running"}})["running"]
    assert running["code"] == "running"
    here = running["evidence"]["host"]
    slots = person.ok("status", "--json").json["slots"]
    there = next(s["executor"] for s in slots if s["partitionable"] and s["executor"] != here)
    whole = sleep + f'request_cpus = 2\nrequirements = UtsnameNodename == "{here}"\n'
    both = sleep + f'requirements = UtsnameNodename == "{here}" && regexp("^{there}[.]", Machine)\n'
    jobs |= submitted(
        person,
        {
            "slots-busy": PLAIN + whole,
            "concurrency-limit": PLAIN + sleep + "concurrency_limits = licence:100000000\n",
            "conflict": PLAIN + both,
        },
    )
    found = answers(person, jobs, {name: {name} for name in jobs}, patience_s=40)
    assert {name: reason["code"] for name, reason in found.items()} == {name: name for name in jobs}, found
    me = name_of(person)
    assert found["slots-busy"]["message"].startswith("the only executor that fits is busy: ")
    # A job before this one may have ended badly: its slot stays claimed for half a minute (25.14), with no job.
    assert found["slots-busy"]["evidence"]["busy_with"][me] == 1
    assert "the limit licence is reached" in found["concurrency-limit"]["message"]
    assert len(found["conflict"]["evidence"]["conflict"]) == 2

    (access_point,) = containers_of("access-point")
    docker("exec", access_point, "condor_suspend", jobs["running"])
    suspended = answers(person, {"a": jobs["running"]}, {"a": {"suspended"}}, patience_s=20)["a"]
    assert suspended["code"] == "suspended"

    person.ok("rm", jobs["running"])
    gone = answers(person, {"a": jobs["running"]}, {"a": {"removed"}}, patience_s=10)
    removed = gone["a"]
    assert removed["code"] == "removed" and me in removed["message"]


SAYS: dict[str, tuple[int, str, str]] = {
    "class-at-max": (1, "class at its maximum", "executors has 1 executors at most"),
    "no-node-has-room": (9, "no node has room", "executors: no suitable node"),
    "scaling-up": (9, "", ""),
}


def test_what_the_autoscaler_says_of_a_class_is_told(person: Cli) -> None:
    """What the autoscaler would say is said by this test in its place, through the real collector."""
    host = person.ok("status", "--json").json["slots"][0]["name"].partition("@")[2]
    sleep = f'{PLAIN}executable = /bin/sleep\narguments = 60\nrequest_cpus = 2\nrequirements = Machine == "{host}"\n'
    (cluster,) = submitted(person, {"a": sleep}, count=2).values()
    answers(person, {"a": f"{cluster}.0"}, {"a": {"running", "slots-busy"}}, patience_s=40)
    (central_manager,) = containers_of("central-manager")

    def advertise(how: str, *lines: str) -> None:
        text = "\n".join(lines)
        docker("exec", central_manager, "sh", "-c", f"cat <<'END' | condor_advertise {how} -\n{text}\nEND")

    def say(ad: dict[str, object]) -> None:
        advertise("UPDATE_AD_GENERIC", *(f"{name} = {json.dumps(value)}" for name, value in ad.items()))

    decision = {"MyType": "SwarmHpcDecision", "Name": f"executors@{POOL}", "SwarmHpcClass": "executors"}
    unserved = {"MyType": "SwarmHpcUnserved", "Name": f"{cluster}.1@{POOL}", "Job": f"{cluster}.1", "Count": 1}
    try:
        for code, (wanted, kind, reason) in SAYS.items():
            say({**decision, "Wanted": wanted, "Reason": "more jobs"})
            say({**unserved, "Kind": kind, "Reason": reason})
            found = answers(person, {"a": f"{cluster}.1"}, {"a": {code}}, patience_s=8)["a"]
            assert (found["code"], reason in found["message"]) == (code, True), found
    finally:
        for ad in (decision, unserved):
            advertise(
                "INVALIDATE_ADS_GENERIC", 'MyType = "Query"', f'TargetType = "{ad["MyType"]}"', "Requirements = true"
            )
    said = f'MyType == "{decision["MyType"]}" || MyType == "{unserved["MyType"]}"'
    until(
        lambda: docker("exec", central_manager, "condor_status", "-any", "-constraint", said, "-af", "Name") == "",
        timeout_s=10, what="nothing of what this test said is left",
    )  # fmt: skip


def test_a_new_job_waits_for_the_next_negotiation(person: Cli) -> None:
    (central_manager,) = containers_of("central-manager")
    docker("exec", central_manager, "sh", "-c", "kill -STOP $(pidof condor_negotiator)")
    try:
        jobs = submitted(person, {"a": PLAIN + "executable = /bin/true\n"})
        found = answers(person, jobs, {"a": {"next-negotiation"}}, patience_s=10)["a"]
        assert found["code"] == "next-negotiation" and found["message"].startswith("it is new: "), found
    finally:
        docker("exec", central_manager, "sh", "-c", "kill -CONT $(pidof condor_negotiator)")
    assert answers(person, jobs, {"a": {"succeeded"}})["a"]["code"] == "succeeded"


def test_a_cluster_is_one_answer_for_jobs_that_stand_alike(person: Cli) -> None:
    mixed = "executable = /bin/sh\narguments = \"-c 'exit $$(( $(ProcId) % 2 ))'\"\n".replace("$$((", "$((")
    (cluster,) = submitted(person, {"a": DOCKER + mixed}, count=4, of=2).values()
    until(
        lambda: {j["status"] for j in person.ok("q", cluster, "--json").json} == {"completed"}, timeout_s=60, what="all"
    )
    answer = person.ok("why", cluster, "--json").json
    assert [(r["code"], r["count"], r["id"], r["main"]) for r in answer] == [
        ("exit-code", 2, f"{cluster}.1", True),
        ("succeeded", 2, f"{cluster}.0", True),
    ]
    said = person.ok("why", cluster, "--verbose").out
    assert f"2 jobs such as {cluster}.1: its command ended with code 1" in said
    assert f"  next: swarmhpc logs {cluster} --error" in said and "  exit_code: 1" in said


def test_a_thousand_jobs_cost_less_than_a_second(person: Cli) -> None:
    (cluster,) = submitted(person, {"a": WAITS["too-large"][0] + "executable = /bin/true\n"}, count=1000).values()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    (answer,) = [r for r in person.ok("why", cluster, "--json").json if r["main"]]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    person.ok("rm", cluster, "--yes")
    assert (answer["code"], answer["count"]) == ("too-large", 1000)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_a_job_whose_results_were_fetched_is_told_from_the_history(person: Cli) -> None:
    (person.cwd / "a.sub").write_text("docker_image = debian\nexecutable = /bin/true\nrequest_memory = 64M\nqueue\n")
    cluster = str(person.ok("submit", "a.sub", "--wait", "--json").json["clusters"][0]["cluster"])
    (answer,) = person.ok("why", cluster, "--json").json
    assert answer["code"] == "fetched" and "it ended well" in answer["message"]


def test_ids_that_are_none_were_never_or_belong_to_others(pool: Cli, person: Cli, tmp_path: Path) -> None:
    for job, code, words in [
        ("x", 2, "'x' is no job"),
        ("1.y", 2, "'1.y' is no job"),
        ("999999", 1, "there is no job 999999"),
    ]:
        ran = person.run("why", job)
        assert (ran.code, words in ran.err) == (code, True), ran
    (cluster,) = submitted(person, {"a": PLAIN + "executable = /bin/true\nhold = true\n"}).values()
    (tmp_path / "other").mkdir()
    other = as_person(pool, "whynot", tmp_path / "other")
    ran = other.run("why", cluster)
    assert ran.code == 2 and f"job {cluster} belongs to" in ran.err


@pytest.mark.parametrize(
    ("change", "code"),
    [({"access_point_port": 1}, "access-point-down"), ({"central_manager_port": 1}, "central-manager-down")],
)
def test_a_daemon_that_does_not_answer_is_the_answer(
    person: Cli, tmp_path: Path, change: dict[str, int], code: str
) -> None:
    (cluster,) = submitted(person, {"a": WAITS["too-large"][0] + "executable = /bin/true\n"}).values()
    shutil.copytree(person.config_home, tmp_path / "elsewhere")
    path = tmp_path / "elsewhere" / "swarmhpc" / POOL / "context.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    ran = Cli(tmp_path, tmp_path / "elsewhere").run("why", cluster, "--json")
    assert (ran.json[0]["code"], ran.code) == (code, int(code == "access-point-down"))


def test_an_expired_token_is_the_answer(pool: Cli, tmp_path: Path) -> None:
    brief = as_person(pool, "brief", tmp_path, lifetime="5s")
    refused = until(
        lambda: (r := brief.run("why", "1", "--json")).out and "token" in r.out and r,
        timeout_s=30,
        what="token expired",
    )
    assert (refused.code, refused.json[0]["code"]) == (1, "token-refused")
    assert "expired" in refused.json[0]["message"] and "token create brief" in refused.json[0]["hint"]
