"""`from swarmhpc import Pool`, as a person's program has it: the page docs/api.md and the example run as they stand,
and what they do not show."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.command_line import TOP, Cli

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def program(person: Cli, text: str, *arguments: str, timeout_s: float = 120) -> str:
    """Runs a program as a person in their folder; what it printed."""
    ran = subprocess.run(
        [sys.executable, "-c", text, *arguments],
        cwd=person.cwd,
        # A machine without Docker and without a display.
        env={**person.env(), "PYTHONPATH": str(TOP), "MPLBACKEND": "Agg", "DOCKER_HOST": "unix:///no/docker/here"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def test_the_page_about_the_api_runs_as_it_stands(person: Cli) -> None:
    blocks = BLOCK.findall((TOP / "docs" / "api.md").read_text())
    assert len(blocks) > 5
    said = program(person, "\n".join(blocks))
    assert "request_memory" in said and "99999999" in said
    assert sorted(p.name for p in person.cwd.glob("*.txt")) == ["one.txt", "three.txt", "two.txt"]
    assert person.ok("q", "--json").json == []


def test_the_example_submits_an_array_and_draws_it(person: Cli) -> None:
    person.environment["JOBS"] = "5"
    said = program(person, (TOP / "examples" / "logistic_map.py").read_text())
    assert "fetched 5 results" in said
    folder = person.cwd / "logistic"
    values = {p.stem: p.read_text().split() for p in folder.glob("*.txt")}
    assert len(values) == 5 and {len(v) for v in values.values()} == {100}
    assert set(values["2.8"]) == {"0.642857"}  # 1 - 1/r: where the map ends up below r = 3
    assert (folder / "logistic.png").read_bytes().startswith(b"\x89PNG")
    assert person.ok("q", "--json").json == []


def test_the_command_and_the_api_see_the_same_jobs(person: Cli) -> None:
    said = program(
        person,
        """
from swarmhpc import Pool
import json
pool = Pool()
made = pool.submit("executable = /bin/sleep\\narguments = 600\\nrequest_memory = 32MB\\nhold = true\\nqueue 2\\n")
jobs = pool.jobs(*made.ids)
print(json.dumps([[j.id, j.owner, j.state] for j in jobs]))
""",
    )
    seen = json.loads(said)
    assert [j["id"] for j in person.ok("q", "--json").json] == [i for i, _, _ in seen]
    assert {state for _, _, state in seen} == {"PENDING"}
    cluster = seen[0][0].partition(".")[0]
    program(person, f"from swarmhpc import Pool\nassert Pool().remove({cluster}) == 2")
    assert person.ok("q", "--json").json == []


def test_a_failed_job_ends_the_wait_and_is_in_the_outcome(person: Cli) -> None:
    said = program(
        person,
        r"""
from swarmhpc import Pool
pool = Pool()
made = pool.submit("executable = /bin/sh\narguments = \"-c 'exit $(code)'\"\nrequest_memory = 32MB\n"
                   "queue code in (0, 7)\n")
seen = []
outcome = made.wait(keep_going=True, timeout_s=90, on_change=seen.append)
print([j.exit_code for j in outcome.jobs], [j.exit_code for j in outcome.failed], outcome.gone, len(seen) > 0)
print(made.cancel())
outcome = made.wait()
print([j.exit_code for j in outcome.jobs])
""",
    )
    assert said.splitlines() == ["[0, 7] [7] () True", "2", "[0, 7]"]


def test_dags_and_dependent_jobs_are_submitted_as_descriptions_are(person: Cli) -> None:
    (person.cwd / "step.sub").write_text(
        "executable = /bin/sh\narguments = \"-c 'echo $(name)'\"\noutput = $(name).txt\nrequest_memory = 32MB\nqueue\n"
    )
    (person.cwd / "two.dag").write_text(
        'JOB A step.sub\nVARS A name="first"\nJOB B step.sub\nVARS B name="second"\nPARENT A CHILD B\n'
    )
    said = program(
        person,
        """
from swarmhpc import Pool
pool = Pool()
flow = pool.submit("two.dag")
print(flow.jobs, [c.is_dag for c in pool.clusters(*flow.ids)])
print(flow.wait(timeout_s=120).failed)
later = pool.submit("step.sub", overrides=["name=third"], after=flow.ids, retries=1, timeout="5m")
outcome = later.wait(timeout_s=60)
print(outcome.failed, outcome.gone)
print(len(flow.fetch()), len(later.fetch()))
""",
        timeout_s=200,
    )
    assert said.splitlines() == ["2 [True]", "[]", "[] ()", "1 1"]
    assert [(person.cwd / f"{n}.txt").read_text() for n in ("first", "second", "third")] == [
        "first\n",
        "second\n",
        "third\n",
    ]


WRONG_CALLS = [
    # the call, the error, words of its message
    ("pool.hold()", "UsageError", "no job is named"),
    ("pool.remove()", "UsageError", "no job is named"),
    ("pool.fetch()", "UsageError", "no job is named"),
    ("pool.jobs('x')", "UsageError", "'x' is no job"),
    ("pool.jobs(99999999)", "PoolError", "99999999"),
    ("pool.jobs(states=['ASLEEP'])", "UsageError", "ASLEEP"),
    ("pool.jobs(constraint='(((')", "UsageError", "((("),
    ("pool.submit('no-such-file.sub')", "UsageError", "there is no such file"),
    ("pool.submit('executable = /bin/true\\nqueue x\\n')", "DescriptionError", "description: 1 mistake"),
    ("pool.wait(99999999)", "PoolError", "99999999"),
    ("list(pool.logs('99999999.0'))", "PoolError", "99999999"),
    ("pool.why(99999999)", "PoolError", "99999999"),
    ("pool.edit(99999999, cpus=2)", "PoolError", "99999999"),
    ("pool.submit('none.dag')", "UsageError", "none.dag"),
    ("pool.submit('executable = /bin/true\\nqueue\\n', each=True)", "UsageError", "--each"),
    ("pool.submit('executable = /bin/true\\nqueue\\n', retries=-1)", "UsageError", "retries -1"),
    ("pool.events(ids=['x'])", "UsageError", "'x' is no job"),
    ("pool.shell(99999999)", "PoolError", "99999999"),
    ("pool.history(since='yesterday')", "UsageError", "yesterday"),
    ("pool.usage(by='shoe size')", "UsageError", "shoe size"),
    ("Pool('elsewhere')", "NoPoolError", "elsewhere"),
]


def test_a_wrong_call_raises_an_error_of_its_kind_with_words(person: Cli) -> None:
    # All in one process: an error leaves the pool as usable as it was.
    text = """
        import json, sys
        from swarmhpc import Pool
        from swarmhpc.errors import SwarmHpcError
        pool = Pool()
        found = []
        for call in json.loads(sys.argv[1]):
            try:
                exec(call)
                found.append(["", "it worked", ""])
            except SwarmHpcError as e:
                found.append([type(e).__name__, e.message, e.hint])
        print(json.dumps(found))
        """
    said = json.loads(program(person, textwrap.dedent(text), json.dumps([call for call, _, _ in WRONG_CALLS])))
    for (call, error, words), (kind, message, hint) in zip(WRONG_CALLS, said, strict=True):
        assert kind == error and words in message, f"{call}: {kind}: {message}"
        assert hint, f"{call}: {message}"


def test_a_process_talks_to_one_pool_as_one_person(person: Cli, tmp_path: Path) -> None:
    text = """
        import os, json, pathlib
        from swarmhpc import Pool
        from swarmhpc.errors import UsageError
        first = Pool()
        first.jobs()
        Pool().jobs()  # the same again
        folder = pathlib.Path(os.environ["XDG_CONFIG_HOME"]) / "swarmhpc" / first.name
        other = pathlib.Path("elsewhere/swarmhpc/other")
        (other / "tokens.d").mkdir(parents=True)
        other.joinpath("context.json").write_text(
            json.dumps({**json.loads((folder / "context.json").read_text()), "pool": "other", "person": "somebody"})
        )
        os.environ["XDG_CONFIG_HOME"] = "elsewhere"
        try:
            Pool("other").jobs()
        except UsageError as e:
            print(e.message)
        """
    said = program(person, textwrap.dedent(text))
    assert "can't also talk to other as somebody" in said
