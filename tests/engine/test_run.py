"""`swarmhpc run`, `logs` and `ssh` on the real pool, as somebody at a terminal meets them."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from swarmhpc import Pool
from tests.command_line import Cli, Ran, until
from tests.engine.conftest import as_person, containers_of, docker

SMALL = ("--memory", "64M")


def run(person: Cli, *words: str, options: tuple[str, ...] = ()) -> Ran:
    done = person.run("run", *SMALL, *options, "debian", "--", *words, timeout_s=120)
    # In a busy pool a job may wait so long that the reason is told.
    return replace(done, err=without_waiting(done.err))


def without_waiting(err: str) -> str:
    return re.sub(r"(?m)^job \d+\.0: .*\n", "", err)


def shell(person: Cli, script: str, *options: str) -> Ran:
    return run(person, "sh", "-c", script, options=options)


def mine(person: Cli) -> list[str]:
    return [j["id"] for j in person.ok("q", "--jobs", "--json").json]


def detached(person: Cli, script: str, *options: str) -> str:
    return person.ok("run", *SMALL, "--detach", *options, "debian", "--", "sh", "-c", script).out.strip()


def line_of(process: subprocess.Popen[str], stream: str = "stdout") -> str:
    """Its next line, within a minute. Takes no byte more, so that communicate() gives the rest."""
    pipe, line = getattr(process, stream), b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], 60)
        assert ready, f"no line on {stream} within 60 s: {line!r}"
        byte = os.read(pipe.fileno(), 1)
        assert byte, f"the end of {stream} after {line!r}"
        line += byte
    return line.decode()


def status_is(person: Cli, job: str, status: str) -> None:
    def there() -> bool:
        return [j["status"] for j in person.ok("q", "--jobs", "--json").json if j["id"] == job] == [status]

    until(there, timeout_s=60, what=f"job {job} is {status}")


def test_both_streams_and_the_exit_code_are_the_commands_and_nothing_is_left(person: Cli) -> None:
    done = shell(person, "echo out; echo err >&2; exit 3")
    assert (done.code, done.out, done.err) == (3, "out\n", "err\n")
    assert mine(person) == [] and list(person.cwd.iterdir()) == []


@pytest.mark.parametrize(("script", "code"), [("exit 130", 130), ("kill -9 $$", 137)])
def test_codes_that_mean_a_signal_are_passed_on(person: Cli, script: str, code: int) -> None:
    assert shell(person, script).code == code


def test_every_word_and_variable_arrives_as_it_is(person: Cli) -> None:
    words = [
        *("two words", "", "$(x) $$(y) $$([z]) $ENV(HOME) $$$(DOLLAR)", '\'q\' "dq" \\ \\" \t # é 日'),
        *("line\nline\\\n\\\\\n", "$HOME `id` ; | &"),
    ]
    value = "a\n'b' \"c\" $(d);|=\\"
    script = 'for word; do printf "<%s>" "$word"; done; printf "%s" "$VALUE"'
    done = run(person, "sh", "-c", script, "sh", *words, options=("--env", f"VALUE={value}"))
    assert done.out == "".join(f"<{w}>" for w in words) + value


def test_output_comes_while_the_job_runs(person: Cli) -> None:
    process = person.start("run", *SMALL, "debian", "--", "sh", "-c", "echo first; sleep 4; echo last")
    assert line_of(process) == "first\n"
    (job,) = mine(person)
    status_is(person, job, "running")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, without_waiting(err)) == (0, "last\n", "")


def test_inputs_travel_and_outputs_come_back_where_they_were_asked_for_and_nothing_else(person: Cli) -> None:
    (person.cwd / "data").mkdir()
    (person.cwd / "data" / "in.txt").write_text("seven\n")
    (person.cwd / "work.sh").write_text(
        "#!/bin/sh\ncat data/in.txt > made\nmkdir -p d/e; echo 8 > d/e/f; touch other\n"
    )
    (person.cwd / "work.sh").chmod(0o755)
    (person.cwd / "results").mkdir()
    options = ("--input", "data/", "--input", "work.sh", "--output", "made", "--output", "d=results/tree")
    done = run(person, "./work.sh", options=options)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (person.cwd / "made").read_text() == "seven\n"
    assert (person.cwd / "results" / "tree" / "e" / "f").read_text() == "8\n"
    assert {p.name for p in person.cwd.iterdir()} == {"data", "work.sh", "results", "made"}
    assert mine(person) == []


def test_an_output_that_was_not_made_is_named_and_the_others_still_come(person: Cli) -> None:
    done = shell(person, "echo 1 > made; echo why >&2; exit 4", "--output", "made", "--output", "missing")
    assert done.code == 4
    assert "why\n" in done.err and "left no missing behind" in done.err
    assert (person.cwd / "made").read_text() == "1\n"
    assert mine(person) == []


def test_a_job_that_outgrows_its_memory_says_so_and_is_gone(person: Cli) -> None:
    done = shell(person, "echo begun; x=$(head -c 400m /dev/zero | tr '\\0' 1 | base64); echo ${#x}")
    assert (done.code, done.out) == (1, "begun\n")
    assert "memory" in done.err and "--memory" in done.err
    assert mine(person) == []


def test_an_image_that_cannot_be_had_is_named(person: Cli) -> None:
    done = person.run("run", *SMALL, "no-such-image-anywhere:9", "true")
    assert done.code == 1 and "no-such-image-anywhere:9" in done.err and "next:" in done.err
    assert mine(person) == []
    # Its slot is free again: HTCondor's own way leaves it to a starter that hangs for 30 s (images/pool/docker, pull).
    until(
        lambda: all(s["partitionable"] for s in person.ok("status", "--json").json["slots"]),
        timeout_s=25, what="no slot is claimed",
    )  # fmt: skip


def test_what_no_executor_has_is_refused_before_anything_is_submitted(person: Cli) -> None:
    done = person.run("run", "--memory", "900G", "debian", "true")
    assert done.code == 2 and "900" in done.err and "no executor" in done.err
    assert mine(person) == []


def test_a_command_that_the_image_does_not_have_ends_with_127(person: Cli) -> None:
    done = run(person, "no-such-program")
    assert done.code == 127 and "no-such-program" in done.err


def test_ctrl_c_removes_the_job(person: Cli) -> None:
    process = person.start("run", *SMALL, "debian", "--", "sh", "-c", "echo begun; sleep 600")
    assert line_of(process) == "begun\n"
    (job,) = mine(person)
    said = person.interrupt(process)
    assert said.code == 130
    assert f"job {job} was removed" in said.err
    assert mine(person) == []


def test_ctrl_c_twice_leaves_the_removal_to_itself(person: Cli) -> None:
    process = person.start("run", *SMALL, "debian", "--", "sh", "-c", "echo begun; sleep 600")
    assert line_of(process) == "begun\n"
    (job,) = mine(person)
    process.send_signal(signal.SIGINT)
    while "removing" not in line_of(process, "stderr"):
        pass
    said = person.interrupt(process)
    assert said.code == 130
    assert f"swarmhpc logs {job} --follow" in said.err and "no longer waiting" in said.err
    until(lambda: mine(person) == [], timeout_s=60, what="the removal comes to its end")


def test_a_polite_kill_removes_the_job_too(person: Cli) -> None:
    process = person.start("run", *SMALL, "debian", "--", "sh", "-c", "echo begun; sleep 600")
    assert line_of(process) == "begun\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert mine(person) == []


def test_a_job_whose_output_nobody_reads_any_more_is_removed(person: Cli) -> None:
    process = person.start("run", *SMALL, "debian", "--", "sh", "-c", "while echo y; do sleep 0.2; done")
    assert process.stdout is not None
    assert line_of(process) == "y\n"
    process.stdout.close()
    process.stdout = None
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert mine(person) == []


def test_what_is_piped_in_is_told_to_be_ignored(person: Cli) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "swarmhpc", "run", *SMALL, "debian", "--", "cat"],
        cwd=person.cwd, env=person.env(), input="ignored", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (process.returncode, process.stdout) == (0, "")
    assert "no standard input" in process.stderr


def test_a_detached_job_is_fetched_later(person: Cli) -> None:
    job = detached(person, "echo out; echo made > made", "--output", "made", "--name", "later")
    cluster = job.partition(".")[0]
    person.ok("wait", cluster)
    assert person.ok("logs", job).out == "out\n"
    person.ok("fetch", cluster)
    assert (person.cwd / "made").read_text() == "made\n"
    gone = person.run("logs", cluster)
    assert gone.code == 1 and str(person.cwd / f"run.{cluster}.out") in gone.err and "fetched" in gone.err
    assert (person.cwd / f"run.{cluster}.out").read_text() == "out\n"


def test_a_job_outlives_its_access_point_and_so_does_its_output(person: Cli) -> None:
    script = "for i in $(seq 12); do echo $i; sleep 1; done; exit 5"
    process = person.start("run", *SMALL, "debian", "--", "sh", "-c", script)
    assert line_of(process) == "1\n"
    (container,) = containers_of("access-point")
    docker("kill", container)
    out, err = process.communicate(timeout=180)
    assert out.split() == [str(i) for i in range(2, 13)], err
    assert process.returncode == 5, err


def test_what_each_attempt_prints_is_here_and_the_code_is_the_last_ones(person: Cli) -> None:
    # Short attempts, one right after the other: JobRunCount is the number of this one.
    script = "n=$(sed -n 's/^JobRunCount = //p' .job.ad); echo attempt $n; exit $((6 - n))"
    done = shell(person, script, "--retries", "4", "--retry-on", "4-5")
    assert (done.code, done.out) == (3, "attempt 1\nattempt 2\nattempt 3\n")
    assert mine(person) == []


def test_python_has_the_same_run(person: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(person.config_home))
    monkeypatch.chdir(person.cwd)
    result = Pool().run("debian", ["sh", "-c", "echo $A; echo err >&2; exit 2"], memory_mib=64, environment={"A": "b"})
    assert (result.code, result.output, result.error) == (2, b"b\n", b"err\n")


# -- logs -----------------------------------------------------------------------------------------------------------


def test_logs_of_a_running_job_and_its_last_lines_and_the_rest(person: Cli) -> None:
    script = "echo one; echo two; echo bad >&2; until [ -e go ]; do sleep 0.2; done; echo three"
    job = detached(person, script)
    follower = person.start("logs", job, "--follow")  # begins while the job waits
    assert line_of(follower) == "one\n"
    until(lambda: person.run("logs", job).out == "one\ntwo\n", timeout_s=20, what="both lines")
    assert person.ok("logs", job, "--tail", "1").out == "two\n"
    assert person.ok("logs", job, "--error").out == "bad\n"
    person.ok("ssh", job, "--", "touch", "go")
    assert follower.communicate(timeout=60)[0] == "two\nthree\n"
    assert person.ok("logs", job, "--tail", "1", "--follow").out == "three\n"
    assert person.ok("logs", job.partition(".")[0]).out == "one\ntwo\nthree\n"


def test_logs_of_jobs_that_have_nothing_to_show_say_why(pool: Cli, person: Cli, tmp_path: Path) -> None:
    job = detached(person, "echo begun; sleep 600")
    status_is(person, job, "running")
    follower = person.start("logs", job, "--follow")
    assert line_of(follower) == "begun\n"
    person.ok("hold", job)
    _, err = follower.communicate(timeout=60)
    assert follower.returncode == 1 and "held" in err
    again = person.run("logs", job, "--follow")
    assert again.code == 1 and "held" in again.err and "next:" in again.err
    (tmp_path / "stranger").mkdir()
    stranger = as_person(pool, "loglooker", tmp_path / "stranger")
    other = stranger.run("logs", job)
    assert other.code == 2 and "belongs to" in other.err
    person.ok("rm", job)
    until(lambda: mine(person) == [], timeout_s=30, what="the job has gone")
    gone = person.run("logs", job)
    assert gone.code == 1 and "has left the queue" in gone.err
    never = person.run("logs", "999999.0")
    assert never.code == 1 and "999999.0 is not in the queue" in never.err


# -- ssh ------------------------------------------------------------------------------------------------------------


def test_ssh_runs_a_command_in_the_jobs_container_and_passes_its_code_on(person: Cli) -> None:
    job = detached(person, "echo there > file; sleep 600")
    status_is(person, job, "running")
    seen = until(lambda: person.run("ssh", job, "--", "cat", "file").out, timeout_s=20, what="the job's file")
    assert seen == "there\n"
    assert int(person.ok("ssh", job, "--", "id", "-u").out) >= 20000  # the job's own account, not root
    assert person.run("ssh", job, "--", "sh", "-c", "exit 7").code == 7
    bare = person.run("ssh", job)
    assert bare.code == 2 and "terminal" in bare.err
    person.ok("rm", job)
    until(lambda: mine(person) == [], timeout_s=30, what="the job has gone")
    gone = person.run("ssh", job, "--", "true")
    assert gone.code == 1 and "next:" in gone.err


def at_a_terminal(person: Cli, *words: str, typed: bytes = b"", when: bytes = b"", timeout_s: float = 60) -> bytes:
    """What a terminal of 33 x 99 shows until the command ends; `typed` when it has shown `when`."""
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "rows", "33", "cols", "99"], stdin=theirs, check=True)
    argv = ["env", "TERM=xterm", sys.executable, "-m", "swarmhpc", *words]
    process = subprocess.Popen(argv, cwd=person.cwd, env=person.env(), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown, end = b"", time.monotonic() + timeout_s
    while time.monotonic() < end:
        if not select.select([ours], [], [], 0.5)[0]:
            continue
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the other side has closed it
            break
        if typed and when in shown:
            os.write(ours, typed)
            typed = b""
    code = process.wait(timeout=10)
    os.close(ours)
    return shown + f"|{code}".encode()


def test_ssh_gives_a_shell_of_the_terminals_size(person: Cli) -> None:
    job = detached(person, "sleep 600")
    status_is(person, job, "running")
    shown = at_a_terminal(person, "ssh", job, typed=b"stty size; exit 9\n", when=b"$")
    assert b"33 99" in shown and shown.endswith(b"|9")


def test_a_terminal_sees_what_the_job_waits_for_and_then_only_the_output(person: Cli) -> None:
    shown = at_a_terminal(person, "run", *SMALL, "debian", "--", "echo", "done")
    assert b"waiting for a slot, 0 s" in shown
    after = shown.rpartition(b"\x1b[K")[2]
    assert after == b"done\r\n|0"
