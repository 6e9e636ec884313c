"""DAGs on the real pool: sent from outside with a token only, run by DAGMan there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import TOP, Cli, until
from tests.engine.conftest import containers_of, docker

DIAMOND = ("diamond.dag", "split.sub", "half.sub")
JOB = "universe = docker\ndocker_image = debian\nexecutable = /bin/sh\nrequest_memory = 64M\n"


def job(script: str, *more: str) -> str:
    return JOB + f"arguments = \"-c '{script}'\"\n" + "".join(f"{line}\n" for line in more) + "queue\n"


def write(person: Cli, **files: str) -> None:
    for name, text in files.items():
        path = person.cwd / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if text.startswith("#!"):
            path.chmod(0o755)


def clusters(ran: Any) -> list[str]:
    return [str(c["cluster"]) for c in json.loads(ran.out)["clusters"]]


def ad(cluster: str, *attributes: str) -> list[str]:
    """Attributes of a DAG's job, as HTCondor's own client in the access point shows them."""
    container = containers_of("access-point")[0]
    return docker("exec", container, "condor_q", "-all", cluster, "-af:,", *attributes, check=False).split(", ")


def test_the_example_runs_as_a_diamond_and_its_results_come_back_to_where_its_files_are(person: Cli) -> None:
    for name in DIAMOND:
        shutil.copy(TOP / "examples" / name, person.cwd)
    done = person.run("submit", "diamond.dag", "--wait", "--json")
    assert done.code == 0, done.err
    assert (person.cwd / "joined.txt").read_text().split() == ["3", "2", "1", "6", "5", "4"]
    assert (person.cwd / "left.txt").read_text().split() == ["3", "2", "1"]
    # What was sent is as it was: DAGMan read another text of the same name.
    assert (person.cwd / "diamond.dag").read_text() == (TOP / "examples" / "diamond.dag").read_text()
    assert not list(person.cwd.glob("*.rescue*")) and not list(person.cwd.glob("*.lock"))


def test_every_part_of_a_dag_works_as_with_condor_submit_dag(person: Cli) -> None:
    """VARS, SCRIPT, RETRY, SPLICE with DIR, SUBDAG, FINAL, PRE_SKIP, an inline description, files in other folders."""
    outside = person.cwd.parent / f"{person.cwd.name}-outside"
    outside.mkdir()
    (outside / "data.txt").write_text("from outside\n")
    write(
        person,
        main_dag=(
            'SPLICE inner part.dag DIR sub\nJOB first first.sub\nVARS first +Mine="7" word="hello" APPEND_ME="x"\n'
            "SCRIPT PRE first pre.sh $NODE\nRETRY first 2\n"
            "SUBDAG EXTERNAL below below.dag\nJOB skipped first.sub\nSCRIPT PRE skipped /bin/false\n"
            "PRE_SKIP skipped 1\nFINAL last {\n" + job("echo status $(DAG_STATUS)", "output = final.txt") + "}\n"
            "PARENT first CHILD inner\nPARENT inner CHILD below\n"
        ),
        first_sub=job(
            "cat from-pre data.txt; echo $(word) $(JOB); [ $(RETRY) = 1 ]",
            f"transfer_input_files = from-pre, {outside}/data.txt",
            "output = results/first.out",
        ),
        pre_sh="#!/bin/sh\necho made before $1 > from-pre\n",
        sub__part_dag='JOB a a.sub\nJOB b a.sub\nPARENT a CHILD b\nVARS ALL_NODES n="$(JOB)"\n',
        sub__a_sub=job("echo $(n)", "output = $(n).out"),
        below_dag="JOB deep deep.sub\n",
        deep_sub=job("echo deep", f"output = {outside}/deep.out"),
    )
    (person.cwd / "results").mkdir()
    done = person.run("submit", "main.dag", "--wait", "--json")
    assert done.code == 0, done.err
    assert (person.cwd / "results/first.out").read_text() == "made before first\nfrom outside\nhello first\n"
    assert [(person.cwd / "sub" / f"inner+{n}.out").read_text() for n in "ab"] == ["inner+a\n", "inner+b\n"]
    assert (outside / "deep.out").read_text() == "deep\n"
    assert (person.cwd / "final.txt").read_text() == "status 0\n"


def test_a_dag_that_failed_says_which_node_and_goes_on_from_there_when_submitted_again(person: Cli) -> None:
    write(
        person,
        chain_dag="JOB one one.sub\nJOB two two.sub\nJOB three one.sub\nPARENT one CHILD two\nPARENT two CHILD three\n",
        one_sub=job("echo $(JOB)", "output = $(JOB).$(Cluster)"),
        two_sub=job("exit 3"),
    )
    cluster = clusters(person.run("submit", "chain.dag", "--json"))[0]
    failed = person.run("wait", cluster)
    assert failed.code == 1
    names, states, why = ad(cluster, "SwarmHpcDagNodes", "SwarmHpcDagStates", "SwarmHpcDagFailed")
    assert (names, states) == ("one two three", "567")
    assert why.startswith("two: ") and "3" in why
    assert "two" in failed.err
    assert person.ok("why", cluster, "--json").json[0]["code"] == "dag-failed"
    person.ok("fetch", cluster)
    assert (person.cwd / "chain.dag.rescue001").exists()
    assert len(list(person.cwd.glob("one.*"))) == 2  # its description and one output

    write(person, two_sub=job("echo mended"))
    again = person.run("submit", "chain.dag", "--wait")
    assert again.code == 0, again.err
    assert "goes on from chain.dag.rescue001: 1 of 3 nodes are done" in again.err
    assert len(list(person.cwd.glob("one.*"))) == 2  # it did not run again
    assert len(list(person.cwd.glob("three.*"))) == 1

    anew = person.run("submit", "chain.dag", "--wait", "--no-rescue")
    assert anew.code == 0, anew.err
    assert len(list(person.cwd.glob("one.*"))) == 3
    assert (person.cwd / "chain.dag.rescue001.old").exists()


def test_removing_a_dag_removes_its_nodes(person: Cli) -> None:
    write(person, long_dag="JOB a long.sub\nJOB b long.sub\nPARENT a CHILD b\n", long_sub=job("sleep 600"))
    cluster = clusters(person.run("submit", "long.dag", "--json"))[0]

    def node_jobs() -> list[Any]:
        return [j for j in person.run("q", "--json").json if j["id"].partition(".")[0] != cluster]

    until(node_jobs, timeout_s=20, what="the first node's job is in the queue")
    person.ok("rm", cluster)
    until(lambda: not node_jobs(), timeout_s=20, what="the node's job is gone")


def test_a_dag_that_is_held_begins_no_node_and_goes_on_when_it_is_released(person: Cli) -> None:
    write(
        person,
        two_dag="JOB a a.sub\nJOB b a.sub\nPARENT a CHILD b\n",
        a_sub=job("until [ -e go ]; do sleep 0.2; done; echo $(JOB)", "output = $(JOB).out"),
    )
    cluster = clusters(person.run("submit", "two.dag", "--json"))[0]

    def nodes() -> dict[str, str]:
        """State of each node's job that is in the queue, by its id."""
        found = person.run("q", "--jobs", "--json").json
        return {j["id"]: j["state"] for j in found if j["id"].partition(".")[0] != cluster}

    first = until(lambda: [i for i, state in nodes().items() if state == "RUNNING"], timeout_s=60, what="node a runs")
    assert person.ok("why", cluster, "--json").json[0]["code"] == "dag-running"
    person.ok("hold", cluster)
    (held,) = [j for j in person.run("q", "--jobs", "--json").json if j["id"] == f"{cluster}.0"]
    assert held["state"] == "PENDING"
    assert person.ok("why", cluster, "--json").json[0]["code"] == "held-by-person"
    until(lambda: person.run("ssh", first[0], "--", "touch", "go").code == 0, timeout_s=20, what="node a may end")
    # HTCondor itself takes a node's job off the queue when it has ended: it is the DAG's.
    until(lambda: not nodes(), timeout_s=60, what="node a has ended")
    assert ad(cluster, "JobStatus", "DAG_NodesDone") == ["5", "0"]

    person.ok("release", cluster)
    second = until(lambda: [i for i, state in nodes().items() if state == "RUNNING"], timeout_s=60, what="node b runs")
    assert second != first
    until(lambda: person.run("ssh", second[0], "--", "touch", "go").code == 0, timeout_s=20, what="node b may end")
    assert person.run("wait", cluster, "--timeout", "60").code == 0
    person.ok("fetch", cluster)
    assert [(person.cwd / f"{n}.out").read_text() for n in "ab"] == ["a\n", "b\n"]


def test_a_dag_outlives_the_access_point(person: Cli) -> None:
    write(
        person,
        two_dag="JOB a a.sub\nJOB b a.sub\nPARENT a CHILD b\n",
        a_sub=job("sleep 5; echo $(JOB)", "output = $(JOB).out"),
    )
    cluster = clusters(person.run("submit", "two.dag", "--json"))[0]
    until(lambda: ad(cluster, "DAG_NodesQueued")[0] == "1", timeout_s=20, what="the first node is submitted")
    before = containers_of("access-point")
    docker("kill", *before)
    until(lambda: containers_of("access-point") not in ([], before), timeout_s=60, what="a new access point")
    assert person.run("wait", cluster, "--timeout", "150").code == 0
    person.ok("fetch", cluster)
    assert [(person.cwd / f"{n}.out").read_text() for n in "ab"] == ["a\n", "b\n"]


# -- what runs in the access point -----------------------------------------------------------------------------------

RAW = """
import htcondor2, sys
from swarmhpc import Pool
pool = Pool().connection
text, spool = sys.stdin.read(), sys.argv[1] == "spool"
try:
    print(pool.submit(text, names=["x"], rows=[["1"]], spool=spool))
except Exception as e:
    print("refused:", e)
"""


@pytest.mark.parametrize("universe", ["scheduler", "local"])
@pytest.mark.parametrize("executable", ["/bin/sh", "/usr/bin/condor_dagman", "sh"])
def test_nobody_runs_another_program_than_dagman_in_the_access_point(
    person: Cli, universe: str, executable: str, tmp_path: Path
) -> None:
    import subprocess
    import sys

    (person.cwd / "sh").write_text("#!/bin/sh\nid > /tmp/there\n")
    text = f"universe = {universe}\nexecutable = {executable}\ntransfer_executable = {executable == 'sh'}\nlog = l\n"
    done = subprocess.run(
        [sys.executable, "-c", RAW, "spool"], input=text, cwd=person.cwd, env=person.env() | {"PYTHONPATH": str(TOP)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("refused:") and "only DAGs do" in done.stdout, done.stdout + done.stderr


def test_scripts_of_a_dag_run_as_their_person_and_see_no_key_and_no_engine(person: Cli) -> None:
    write(
        person,
        look_dag="JOB a {\n" + job("true") + "}\nSCRIPT POST a look.sh\n",
        look_sh="#!/bin/sh\n{ id -u; head -c1 /etc/condor/passwords.d/POOL /var/spool/condor/job_queue.log "
        "/etc/swarmhpc/on-event.json /dev/shm/swarmhpc/*; ls /etc/condor/tokens.d /var/run/docker.sock "
        "/var/spool/condor/*/*/cluster*; } > seen.txt 2>&1\nexit 0\n",
    )
    done = person.run("submit", "look.dag", "--wait")
    assert done.code == 0, done.err
    uid, *rest = (person.cwd / "seen.txt").read_text().splitlines()
    assert 6100 < int(uid) < 10000
    assert not any("==>" in line for line in rest), rest  # what `head` writes above a file that it can read
    assert sum("ermission denied" in line for line in rest) >= 3, rest
    assert "docker.sock" not in [line.rpartition("/")[2] for line in rest]
