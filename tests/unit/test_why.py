"""`why`: from facts to the one answer, its code, and the words around it; the words against docs/why.md."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swarmhpc.adapters import expressions
from swarmhpc.adapters.expressions import ClassAds, ad_text, model_slot
from swarmhpc.cli import why as shown
from swarmhpc.jobs import holds
from swarmhpc.jobs.explain import CODES, explain, ordered
from swarmhpc.jobs.reasons import Claim, Facts, Person, Reason, Room, Scaling, Subject
from swarmhpc.jobs.requirements import SlotAd
from swarmhpc.jobs.resources import ClassSize, Limits

TOP = Path(__file__).resolve().parents[2]
NOW = 1_000_000
# What HTCondor adds to every job's requirements (25.14).
SIZES = (
    '(TARGET.Arch == "X86_64") && (TARGET.OpSys == "LINUX") && (versionGE(split(TARGET.CondorVersion)[1],"25.12.0") || '
    "(TARGET.Disk >= RequestDisk)) && (TARGET.Memory >= RequestMemory) && (TARGET.Cpus >= RequestCpus) && "
    "(TARGET.HasFileTransfer)"
)


def slot(class_name: str, host: str, cpus: int, memory_mib: int, node: str = "n1") -> SlotAd:
    own = {"SwarmHpcClass": class_name, "Machine": f"{host}.lab", "SwarmHpcNode": node, "Disk": 1000,
           "TotalSlotCpus": cpus, "TotalSlotMemory": memory_mib, "TotalSlotDisk": 2_000_000}  # fmt: skip
    return SlotAd(class_name, ad_text({**expressions.OF_IMAGE, **own}))


def pool(**changes: Any) -> Facts:
    """Two small executors and a big one, all of them full."""
    limits = Limits(
        (ClassSize("small", 2, 1024), ClassSize("big", 8, 16384)),
        slots=(slot("small", "small-1", 2, 1024), slot("small", "small-2", 2, 1024), slot("big", "big-1", 8, 16384)),
        classads=ClassAds(),
    )
    rooms = (Room("small-1", "small", 0, 100), Room("small-2", "small", 0, 900), Room("big-1", "big", 0, 8000))
    claims = (
        Claim("small-1", "carol", "7.0", 2, 512), Claim("small-2", "carol", "7.1", 2, 124),
        Claim("big-1", "dan", "8.0", 8, 1),
    )  # fmt: skip
    return replace(Facts(limits, rooms, claims, interval_s=1, negotiated_at=NOW - 1), **changes)


def idle(requirements: str = SIZES, **changes: Any) -> Subject:
    s = Subject("12.0", 1, "alice", "idle", "RUNNABLE", NOW, since=NOW - 60, cpus=1, memory_mib=128, account="alice")
    s = replace(s, **changes)
    attributes = {
        "RequestCpus": str(s.cpus), "RequestMemory": str(s.memory_mib), "RequestDisk": str(s.disk_kib),
        "Requirements": requirements, "Owner": '"alice"',
    }  # fmt: skip
    return replace(s, attributes=attributes)


def held(code: int, subcode: int = 0, reason: str = "", **changes: Any) -> Subject:
    s = Subject(
        "12.0", 1, "alice", "held", "FAILED", NOW, since=NOW - 60, memory_mib=128, image="debian", command="/bin/a"
    )
    return replace(s, hold_code=code, hold_subcode=subcode, hold_reason=reason, **changes)


def ended(**changes: Any) -> Subject:
    s = Subject("12.0", 1, "alice", "completed", "FAILED", NOW, run_time_s=3, command="/bin/a", memory_mib=128)
    return replace(s, **changes)


def running(**changes: Any) -> Subject:
    return replace(Subject("12.0", 1, "alice", "running", "RUNNING", NOW, since=NOW - 60, host="small-1"), **changes)


ROOM = (Room("small-1", "small", 2, 900),)
PULL = "Error from slot1_1@small-1.lab: Cannot pull image debian Error response from daemon: "
AT_MAX = Scaling(
    {"small": (2, "2 at most"), "big": (1, "1 at most")}, "class at its maximum", "small has 2 executors at most"
)
NO_NODE = Scaling({"small": (3, "1 idle job")}, "no node has room", "small: no suitable node")
STARTING = Scaling({"small": (4, "2 idle jobs")})
GROUP = (Person("physics", 500, 4, quota_cpus=4, surplus=False), Person("physics.alice", 500, 4))

# What each code needs; words that its message has.
SITUATIONS: list[tuple[str, Subject, Facts | None, str]] = [
    ("too-large", idle(memory_mib=65536), pool(), "64 GiB; no executor has that, the largest class big has 16 GiB"),
    ("too-large", idle(cpus=4, memory_mib=32768), pool(), "asks for 32 GiB"),
    ("too-large", idle(gpus=1), pool(), "asks for 1 GPU; no executor has any"),
    ("too-large", idle(disk_kib=10**9), pool(), "of disk; the executor with most has 1953 MiB"),
    ("requirements", idle('HasDocker && Arch == "ARM" && ' + SIZES), pool(), 'meets Arch == "ARM": it is false'),
    ("requirements", idle('SwarmHpcNode == "n9" && ' + SIZES), pool(), 'now (SwarmHpcNode is "n1" here)'),
    ("conflict", idle('SwarmHpcClass == "small" && ' + SIZES, cpus=4), pool(), '"small", TARGET.Cpus >='),
    ("no-such-class", idle('SwarmHpcClass == "gpu" && ' + SIZES), pool(), "gpu, and the pool has small, big only"),
    ("slots-busy", idle(), pool(), "all 3 executors that fit are busy: carol 2 jobs, dan 1 job"),
    ("slots-busy", idle('SwarmHpcClass == "big" && ' + SIZES), pool(), "only executor that fits is busy: dan 1 job"),
    ("next-negotiation", idle(since=NOW), pool(rooms=ROOM), "it is new: the next negotiation decides, within 6 s"),
    ("next-negotiation", idle(), pool(rooms=ROOM, negotiated_at=NOW - 300), "nothing has been matched for 5m"),
    ("no-match", idle(rejected_at=NOW - 1, rejection="no match found"), pool(rooms=ROOM), "not match them (no match"),
    ("no-executors", idle(), pool(rooms=()), "no executor of class small, big is in the pool just now; there is none"),
    ("no-executors", idle('SwarmHpcClass == "big" && ' + SIZES), pool(rooms=ROOM), "no executor of class big is"),
    ("executors-not-starting", idle(), pool(rooms=(), classes_in_trouble={"big": ("no such image",)}), "big: no such"),
    ("scaling-up", idle(), pool(scaling=STARTING), "class small are starting: 2 of 4 are there (2 idle jobs)"),
    ("class-at-max", idle(), pool(scaling=AT_MAX), "small has 2 executors at most"),
    ("no-node-has-room", idle(), pool(scaling=NO_NODE), "small: no suitable node"),
    ("draining", idle(), pool(rooms=(Room("small-1", "small", 2, 900, leaving=True),)), "that fits is leaving"),
    ("concurrency-limit", idle(rejected_at=NOW - 1, rejection="concurrency limit matlab reached"),
     pool(rooms=ROOM, limit_users={"carol": 5}, limit_most=5), "the limit matlab, 5, is reached: carol 5 jobs"),
    ("person-limit", idle(rejected_at=NOW - 1, rejection="concurrency limit swarmhpc_jobs_alice reached"), pool(),
     "alice has as many jobs as"),
    ("group-quota", idle(account="physics.alice"), pool(people=GROUP), "group physics has 4 CPUs of its 4"),
    ("fair-share", idle(rejected_at=NOW - 1, rejection="submitter limit exceeded"), pool(), "their share"),
    ("cooling-down", idle(cool_until=NOW + 40), pool(), "40s from now"),
    ("central-manager-down", idle(), None, "nothing is matched"),
    ("waits-for-jobs", running(dag_nodes=(0, 0, 2), dag_waits="9 (3 of 10 jobs)"), None, "waits for 9 (3 of 10 jobs)"),
    ("dag-running", running(dag_nodes=(3, 1, 10)), None, "3 of 10 done, 1 failed"),
    ("starting", running(state="STARTING", image="debian"), None, "slot on small-1 since 1m; image debian"),
    ("running", running(memory_used_mib=300, memory_mib=512), None, "since 1m; uses 300 MiB of 512 MiB"),
    ("executor-lost", running(is_lost=True, lease_left_s=87), None, "the job starts again elsewhere within 1m27s"),
    ("sending-output", running(status="transferring"), None, "its results are sent"),
    ("suspended", running(status="suspended"), None, "suspended on small-1"),
    ("spooling", held(16, status="transferring"), None, "its input files are on their way into the pool since 1m"),
    ("held-by-person", held(1, reason="via condor_hold (by user alice)"), None, "(by user alice)"),
    ("held-by-person", held(15), None, "submitted on hold"),
    ("held-by-rule", held(3, reason="I said so"), None, "periodic_hold, on_exit_hold): I said so"),
    ("held-by-pool", held(26, reason="no"), None, "a rule of the pool holds it: no"),
    ("out-of-memory", held(34, 102, memory_used_mib=318), None, "than it asked for, 128 MiB; it used 318 MiB"),
    ("out-of-memory", held(21, 102, "memory usage exceeded request_memory"), None, "than it asked for, 128 MiB"),
    ("out-of-disk", held(34, 104, disk_kib=10240), None, "more disk"),
    ("time-limit", held(47, time_limit_s=7200), None, "ran longer than allowed: 2h"),
    ("time-limit", held(46), None, "took longer than allowed"),
    ("command-not-started", held(6, 2, "Failed to execute '/bin/a': (errno=2: 'No such file or directory')"), None,
     "could not be started: /bin/a is not in image debian"),
    ("input-file", held(13, 2, "Transfer input files failure at access point a while sending. "
                        "Details: 1 total failures: first failure: reading from file /x/a.dat: (errno 2) No such file"),
     None, "its input file /x/a.dat: no such file"),
    ("output-file", held(12, 2, "Details: 1 total failures: first failure: reading from file "
                         "/var/lib/swarmhpc/execute/rgw/dir_1043/scratch/never.dat: (errno 2) No such file",
                         exit_code=0), None, "its output file never.dat: no such file; its command has not"),
    ("image-not-found", held(35, 0, PULL + "manifest unknown"), None, "no such image, or it is not public: debian"),
    ("registry-unreachable", held(35, 0, PULL + "dial tcp: lookup r.io: no such host"), None, "reach"),
    ("registry-limit", held(35, 0, PULL + "toomanyrequests: pull rate limit"), None, "for a while"),
    ("node-disk-full", held(35, 0, PULL + "no space left on device"), None, "no room"),
    ("image-wrong", held(35, 0, "Image Architecture arm64 not compatible with this machine."), None, "another kind"),
    ("image", held(35, 0, "Unable to Launch Container"), None, "could not be used: debian"),
    ("held", held(4, reason="Job credentials are not available"), None, "not valid: Job credentials are not available"),
    ("held", held(777, reason="new in 26"), None, "for a reason that we don't know: new in 26"),
    ("succeeded", ended(exit_code=0), None, "it ended well, after 3s"),
    ("command-not-found", ended(exit_code=127, image="debian"), None, "not found in image debian (/bin/a)"),
    ("not-executable", ended(exit_code=126), None, "/bin/a can't be run on the executor"),
    ("killed", ended(exit_code=137, memory_used_mib=127), None, "3s: it used 127 MiB of 128 MiB"),
    ("killed", ended(exit_signal=9), None, "(by signal 9), after 3s, mostly for memory"),
    ("signal", ended(exit_code=139), None, "code 139, which means signal 11"),
    ("signal", ended(exit_signal=6), None, "by signal 6"),
    ("exit-code", ended(exit_code=3), None, "with code 3"),
    ("dag-failed", ended(exit_code=1, dag_nodes=(4, 1, 10), dag_failed="B: ended with code 3; C: x"), None,
     "1 of its 10 nodes failed, 4 are done: B: ended with code 3"),
    ("removed", ended(status="removed", remove_reason="via condor_rm (by user alice)"), None, "(by user alice)"),
    ("removed", ended(status="gone", remove_reason="python"), None, "it was removed: python"),
    ("fetched", ended(status="gone", exit_code=0, finished_at=9, remove_reason="its results were fetched"), None,
     "it ended well, after 3s; it has left the queue: its results were fetched"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "subject", "facts", "words"), SITUATIONS)
def test_a_situation_has_its_code_and_words(code: str, subject: Subject, facts: Facts | None, words: str) -> None:
    first, *others = explain(subject, facts)
    assert (first.code, first.main) == (code, True), first
    assert words in first.message
    assert not any(r.main for r in others)
    assert json.loads(json.dumps(dict(first.evidence))) == dict(first.evidence)
    assert "{" not in first.hint


FROM_THE_POOL = {"token-refused", "access-point-down"}  # tests/engine/test_why.py


def test_every_code_is_made_by_some_situation() -> None:
    assert {code for code, *_ in SITUATIONS} | FROM_THE_POOL == set(CODES)


def test_the_documentation_has_every_code_with_an_example_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \| (.+) \|$", (TOP / "docs/why.md").read_text(), re.MULTILINE)
    keys = {"code", "count", "evidence", "id", "main"}
    assert [code for code, *_ in rows if code not in keys] == list(CODES_IN_DOCS)
    assert all(example.strip() for _, _, example in rows)


CODES_IN_DOCS = dict.fromkeys(
    [c for c in CODES if c not in FROM_THE_POOL | {"central-manager-down"}]
    + ["token-refused", "access-point-down", "central-manager-down"]
)


def test_the_documentation_names_the_hold_codes_of_each_code() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| [^|]+ \| ([\d, ]+)(?: and .*)? \| ", (TOP / "docs/why.md").read_text(), re.MULTILINE
    )
    documented = {
        int(n): code for code, numbers in rows for n in numbers.split(",") if code.endswith(("rule", "pool", "file"))
    }
    ours = {n: h.code for n, h in holds.CODES.items() if h.code.endswith(("rule", "pool", "file"))}
    assert documented == ours


def test_every_hold_code_of_htcondor_has_words_and_a_code_of_ours() -> None:
    assert sorted(holds.CODES) == list(range(50))  # 25.14, condor_holdcodes.h: 0 to 49, then 1000 and more
    assert all(h.code in CODES and h.words for h in holds.CODES.values())
    assert sorted(holds.VACATED) == list(range(1000, 1038))


def test_a_claim_without_a_job_is_told_as_that_and_not_as_a_job() -> None:
    claims = (Claim("small-1", "carol", "", 2, 512), Claim("small-2", "carol", "7.1", 2, 124),
              Claim("big-1", "dan", "", 8, 1))  # fmt: skip
    (reason,) = explain(idle(), pool(claims=claims))
    assert reason.evidence["busy_with"] == {"carol": 1}
    assert reason.evidence["claimed_without_job"] == {"carol": 1, "dan": 1}
    assert reason.message.startswith(
        "all 3 executors that fit are busy: carol 1 job; carol, dan: a job has just ended or is about to begin there"
    )


def test_what_can_never_be_hides_what_is_only_busy() -> None:
    assert {r.code for r in explain(idle('SwarmHpcClass == "gpu" && ' + SIZES, memory_mib=65536), pool())} == {
        "too-large",
        "no-such-class",
    }


def test_a_large_request_is_not_said_again_as_a_term() -> None:
    assert [r.code for r in explain(idle(memory_mib=65536), pool())] == ["too-large"]


def test_evidence_has_the_terms_with_the_hardest_first() -> None:
    (reason,) = explain(idle('Arch == "ARM" && SwarmHpcClass == "small"', memory_mib=128), pool())
    assert [(t["term"], t["met_by"]) for t in reason.evidence["terms"]] == [
        ('Arch == "ARM"', 0),
        ('SwarmHpcClass == "small"', 2),
    ]


def test_a_class_without_executors_is_no_reason_to_call_requirements_impossible() -> None:
    text, unknown = model_slot(None, pool="lab", class_name="big", cpus=8, memory_mib=16384, counted={})
    limits = Limits((ClassSize("big", 8, 16384),), slots=(SlotAd("big", text, unknown),), classads=ClassAds())
    assert [r.code for r in explain(idle(memory_mib=2048), Facts(limits))] == ["no-executors"]


def test_the_answer_of_a_class_at_its_maximum_comes_before_who_is_on_it() -> None:
    assert [r.code for r in explain(idle(), pool(scaling=AT_MAX))] == ["class-at-max", "slots-busy"]


def test_a_limit_comes_before_the_room_that_it_keeps_empty() -> None:
    s = idle(rejected_at=NOW - 1, rejection="concurrency limit matlab reached")
    assert [r.code for r in explain(s, pool(rooms=ROOM))] == ["concurrency-limit"]
    assert [r.code for r in explain(s, pool())] == ["concurrency-limit", "slots-busy"]


def test_an_old_rejection_says_nothing_of_now() -> None:
    s = idle(rejected_at=NOW - 3600, rejection="concurrency limit matlab reached")
    assert [r.code for r in explain(s, pool())] == ["slots-busy"]


def test_the_order_among_people_and_own_jobs_is_told() -> None:
    people = (Person("alice", 600, 0, 3), Person("carol", 500, 4, 7), Person("dan", 900, 1, 9), Person("eve", 1, 0, 0))
    (reason,) = explain(idle(), pool(people=people, ahead=2))
    assert "2 of alice's own waiting jobs come first" in reason.message
    assert reason.evidence["people_ahead"] == [{"name": "carol", "priority": 500, "idle_jobs": 7}]


def test_what_is_left_of_the_freest_executor_is_told() -> None:
    rooms = (Room("small-1", "small", 1, 700), Room("big-1", "big", 0, 4096))
    (reason,) = explain(idle(cpus=2), pool(rooms=rooms))
    assert "what is left of the freest one is 1 CPU and 700 MiB" in reason.message
    assert "a smaller request would start now" in reason.hint


def test_a_job_that_came_back_says_so_as_well() -> None:
    codes = [(r.code, r.main) for r in explain(idle(starts=2, vacate_code=1008), pool())]
    assert codes == [("slots-busy", True), ("next-negotiation", False)]


def test_memory_that_helps_is_more_than_was_used() -> None:
    (reason,) = explain(held(34, 102, memory_used_mib=318))
    assert reason.hint == "swarmhpc edit 12.0 --memory 448MiB && swarmhpc release 12.0"


def test_hints_for_several_jobs_name_the_cluster() -> None:
    (reason,) = explain(replace(ended(exit_code=0), count=5))
    assert reason.hint == "swarmhpc fetch 12"


def test_trouble_comes_before_what_goes_on_and_what_has_ended() -> None:
    def one(code: str, count: int) -> list[Reason]:
        return [Reason("1.0", code, "", count=count), Reason("1.0", "slots-busy", "", count=count, main=False)]

    found = ordered([one("succeeded", 900), one("running", 90), one("too-large", 2), one("out-of-memory", 9)])
    assert [r.code for r in found[:4]] == ["out-of-memory", "too-large", "running", "succeeded"]
    assert [r.main for r in found] == [True] * 4 + [False] * 4


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(KeyError):
        Reason("1.0", "no-such-code", "")


def test_lines_for_people_show_evidence_only_when_asked() -> None:
    reason = Reason(
        "12.0", "too-large", "it asks for much", "ask for less", {"asked": {"gpus": 1}, "empty": []}, count=3
    )
    assert shown.lines(reason, verbose=False) == [
        "3 jobs such as 12.0: it asks for much   (too-large)",
        "  next: ask for less",
    ]
    assert shown.lines(reason, verbose=True)[2:] == ['  asked: {"gpus": 1}']
    assert set(shown.as_data(reason)) == {"id", "code", "message", "hint", "evidence", "count", "main"}


def test_no_control_character_of_a_hold_reason_reaches_the_terminal() -> None:
    (reason,) = explain(held(3, reason="\x1b[2Jgone"))
    assert not re.search(r"[\x00-\x1f]", "".join(shown.lines(reason, verbose=True)))
