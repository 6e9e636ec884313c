"""`swarmhpc run` without a pool: what is submitted, and what becomes of the job, on a queue that plays a recording."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.job_ads import Job
from swarmhpc.cli import app
from swarmhpc.cli import run as command
from swarmhpc.errors import AuthenticationError, PoolError, PoolUnreachableError, SwarmHpcError, UsageError
from swarmhpc.jobs import attached, logs, run
from swarmhpc.jobs.resources import ClassSize, Limits
from swarmhpc.jobs.submit import DescriptionError
from swarmhpc.jobs.translate import Translation

LIMITS = Limits((ClassSize("small", 2, 1024), ClassSize("big", 8, 8192)), allow_host_network=False)


def translated(cwd: Path, image: str = "debian:12", *command: str, **more: Any) -> Translation:
    return run.translation(run.Request(image, command, **more), cwd=cwd, limits=LIMITS)


def submitted(cwd: Path, *command: str, **more: Any) -> dict[str, str]:
    (cluster,) = translated(cwd, "debian:12", *command, **more).clusters
    assert not cluster.varying
    return dict(cluster.common)


# -- what is submitted ----------------------------------------------------------------------------------------------


def test_a_command_goes_straight_into_the_queue_and_nothing_that_it_leaves_behind_comes_back(tmp_path: Path) -> None:
    (cluster,) = translated(tmp_path, "debian:12", "true").clusters
    assert not cluster.travels
    assert cluster.common["transfer_output_files"] == '""'
    assert (cluster.common["docker_image"], cluster.common["MY.Cmd"]) == ("debian:12", '"true"')


def test_without_a_command_the_image_has_the_word(tmp_path: Path) -> None:
    assert not {"MY.Cmd", "executable", "MY.Arguments"} & submitted(tmp_path).keys()


def test_what_is_asked_for_is_in_the_job(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "results").mkdir()
    job = submitted(
        tmp_path, "sh", cpus=2, memory_mib=512, class_name="small", name="my job", inputs=("data/",),
        outputs=("a/made", "b=results", "c=d"),
    )  # fmt: skip
    assert (job["request_cpus"], job["request_memory"], job["batch_name"]) == ("2", "512", "my job")
    assert 'SwarmHpcClass == "small"' in job["requirements"]
    assert (job["transfer_input_files"], job["transfer_output_files"]) == ("data", "a/made, b, c")
    assert job["transfer_output_remaps"] == f'"b={tmp_path}/results/b;c={tmp_path}/d"'


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"class_name": "huge"}, "this pool has big, small"),
        ({"outputs": ("/etc/passwd",)}, "below the job's working directory"),
        ({"outputs": ("../x",)}, "below the job's working directory"),
        ({"outputs": (".",)}, "below the job's working directory"),
        ({"outputs": ("x=nowhere/y",)}, "there is no directory"),
        ({"outputs": ("a b",)}, "blanks"),
        ({"outputs": ("a/x", "b/x=y")}, "last part of two paths: x"),
        ({"outputs": ("x=z", "y=z")}, "z, twice"),
        ({"inputs": ("here/", "there/here")}, "two inputs"),
        ({"inputs": ("a,b",)}, "blanks or any of"),
        ({"inputs": ("",)}, "wanted a file"),
        ({"environment": {"A-B": "1"}}, "no name of a variable"),
        ({"environment": {"A": "1\r\n"}}, "carriage return"),
        ({"name": "two\nlines"}, "wanted a name"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as seen:
        translated(tmp_path, "debian:12", "true", **more)
    assert seen.value.hint


@pytest.mark.parametrize("words", [("\udcff",), ("a\rb",), ("",)])
def test_a_command_that_the_queue_cannot_hold_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        translated(tmp_path, "debian:12", *words)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"inputs": ("missing.csv",)}, "no-such-file"),
        ({"memory_mib": 2**20}, "request-too-large"),
        ({"gpus": 1}, "no-gpus"),
    ],
)
def test_mistakes_that_the_translator_knows_are_found_by_it(tmp_path: Path, more: dict[str, Any], code: str) -> None:
    with pytest.raises(DescriptionError) as seen:
        translated(tmp_path, "debian:12", "true", **more)
    assert code in [f.code for f in seen.value.findings if f.severity == "error"]


def test_a_bad_image_is_refused(tmp_path: Path) -> None:
    for image in ("Debian", "x.sif", "two words", "a\nqueue 100"):
        with pytest.raises(UsageError):
            translated(tmp_path, image, "true")


def read_back(expression: str) -> str:
    """The text of a string literal, or of a strcat of them, by the rules of the old ClassAd syntax (25.14,
    src/classad/lexer.cpp, tokenizeStringOld)."""
    assert "\n" not in expression and "\r" not in expression
    assert not re.search(r"\$\w*[(\[]", expression), "a macro"
    text, position = "", 0
    strings: list[tuple[int, str]] = []
    while (start := expression.find('"', position)) >= 0:
        value, position = "", start + 1
        while expression[position] != '"' or (
            expression[position - 1] == "\\" and position > start + 1 and position + 1 < len(expression)
        ):
            value = value[:-1] + '"' if expression[position] == '"' else value + expression[position]
            position += 1
        position += 1
        strings.append((start, value))
    for start, value in strings:
        is_time = expression[:start].endswith("formatTime(0, ")
        assert not is_time or value.endswith("%n")
        text += value[:-2] + "\n" if is_time else value
    return text


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))))
def test_any_words_arrive_as_they_are(words: list[str]) -> None:
    raw = read_back(run._expression("the command", run._words(words)))
    # HTCondor's new syntax: words in single quotes, a quote doubled.
    back = [w[1:-1].replace("''", "'") for w in re.findall(r"'(?:[^']|'')*'", raw)]
    assert back == words


@given(st.text(alphabet="ab$([\\\"'\n %"))
def test_no_text_makes_a_macro_or_a_second_line(text: str) -> None:
    assert read_back(run._expression("x", run._words([text]))) == run._words([text])


def test_variables_are_taken_from_here_where_they_have_no_value() -> None:
    assert run.environment_of(["A=1=2", "B", "C="], {"B": "b"}) == {"A": "1=2", "B": "b", "C": ""}
    with pytest.raises(UsageError, match="not set here"):
        run.environment_of(["NOPE"], {})


def test_a_directory_as_the_place_of_an_output_keeps_the_name(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    places = [run.output_of(f"a/b={local}", tmp_path).local for local in ("there", "there/", "there/c", "")]
    assert places == [f"{tmp_path}/there/b", f"{tmp_path}/there/b", f"{tmp_path}/there/c", f"{tmp_path}/b"]


# -- what becomes of it ---------------------------------------------------------------------------------------------

JOB = Job(7, 0, "me", "running", 1, 1, 1, None, None, "", 0, "small", "host", "", "", "/bin/true", "")
DONE = replace(JOB, status="completed", exit_code=0)
HELD = replace(JOB, status="held", hold_reason="too much memory", hold_code=34)


class Queue:
    """Answers with one job after the other (None: gone), the last one for ever; notes what is done to it."""

    person = "me"

    def __init__(self, *answers: Job | Exception | None, ad: dict[str, Any] | None = None) -> None:
        self.answers, self.ad = list(answers), {"Out": "_condor_stdout", "Err": "_condor_stderr", **(ad or {})}
        self.done: list[str] = []
        self.attributes: dict[str, str] = {}
        self.spool: dict[str, bytes] = {}
        self.refuses: Exception | None = None
        self.when_removed: Job | None = None

    def jobs(self, _constraint: str) -> list[Job]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [answer] if answer else []

    def job_ads(self, _constraint: str, _attributes: Sequence[str]) -> list[dict[str, Any]]:
        return [self.ad]

    def history_ads(self, _constraint: str, _attributes: Sequence[str], *, most: int) -> list[dict[str, Any]]:
        return [self.ad][:most]

    def set_attribute(self, _jobs: Sequence[str], name: str, expression: str) -> None:
        self.attributes[name] = expression

    def retrieve(self, _ids: Sequence[str]) -> None:
        self.done.append("retrieve")
        remaps = dict(r.split("=") for r in self.attributes["SUBMIT_TransferOutputRemaps"].strip('"').split(";"))
        for name, data in self.spool.items():
            Path(remaps[name]).write_bytes(data)
        if self.refuses:
            raise self.refuses

    def remove(self, _constraint: str, reason: str) -> int:
        self.done.append(f"remove: {reason}")
        if self.when_removed is None and not any("showed" in d or "ended" in d for d in self.done):
            self.answers = [None]
        return 1


Printed = Callable[[str], Iterator[bytes]]


def nothing(_stream: str) -> Iterator[bytes]:
    return iter(())


def attach(
    monkeypatch: pytest.MonkeyPatch, queue: Queue, printed: Printed = nothing, **more: Any
) -> tuple[attached.Attached, bytearray]:
    monkeypatch.setattr(attached, "_printed", lambda _pool, _job, stream, **_: printed(stream))
    out = bytearray()
    more = {"stdout": out.extend, "stderr": out.extend, **more}
    return attached.Attached(cast(Pool, queue), "7.0", **more), out


def test_all_that_was_printed_is_here_before_the_job_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(JOB, DONE)
    late = threading.Event()

    def printed(stream: str) -> Iterator[bytes]:
        yield stream.encode()
        late.wait(0.3)
        assert not queue.done
        yield b"!"

    one, out = attach(monkeypatch, queue, printed)
    result = one.follow()
    assert sorted(out.decode()) == sorted("output!error!")
    assert (result.status, result.code, result.host, result.silent) == ("completed", 0, "host", False)
    assert queue.done == ["remove: swarmhpc run showed its output"]


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (DONE, 0),
        (replace(DONE, exit_code=3), 3),
        (replace(DONE, exit_code=None, exit_signal=9), 137),
        (HELD, 1),
        (None, 1),
    ],
)
def test_the_exit_code_is_the_commands_own_as_a_shell_has_it(
    monkeypatch: pytest.MonkeyPatch, job: Job | None, code: int
) -> None:
    one, _ = attach(monkeypatch, Queue(JOB, job))
    assert one.follow().code == code


def test_outputs_come_to_their_places_and_what_was_printed_does_not_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(DONE, ad={"Out": "run.7.out", "Err": "run.7.err"})
    one, _ = attach(monkeypatch, queue, outputs=(("made", "/here/made"),))
    one.follow()
    remaps = queue.attributes["SUBMIT_TransferOutputRemaps"]
    assert remaps == '"run.7.out=/dev/null;run.7.err=/dev/null;made=/here/made"'
    assert queue.done == ["retrieve", "remove: swarmhpc run showed its output"]


def test_outputs_that_cannot_be_written_stay_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(DONE)
    queue.refuses = PoolError("no space left")
    one, _ = attach(monkeypatch, queue, outputs=(("made", "/here/made"),))
    with pytest.raises(PoolError) as seen:
        one.follow()
    assert "swarmhpc fetch 7.0" in seen.value.hint
    assert queue.done == ["retrieve"]


def first(stream: str) -> Iterator[bytes]:
    if stream == "output":
        yield b"first "
    raise PoolError("held")


def test_an_output_that_was_not_made_is_named_and_the_commands_code_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "Details: 1 total failures: reading from file /x/dir_2/scratch/made: (errno 2) No such file or directory"
    queue = Queue(replace(HELD, hold_code=12, hold_reason=reason), ad={"ExitCode": 4})
    queue.refuses = PoolError("made is missing")
    queue.spool = {"_condor_stdout": b"first last"}
    one, out = attach(monkeypatch, queue, first, outputs=(("made", "/here/made"), ("other", "/here/other")))
    result = one.follow()
    assert (result.status, result.code, result.missing) == ("held", 4, ("made",))
    assert out == b"first last"
    assert queue.done == ["retrieve", "remove: its swarmhpc run has ended"]


def test_a_held_job_ends_the_run_with_its_reason_and_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(JOB, HELD)
    one, _ = attach(monkeypatch, queue)
    result = one.follow()
    assert (result.status, result.code, result.reason, result.hold_code) == ("held", 1, "too much memory", 34)
    assert queue.done == ["remove: its swarmhpc run has ended"]


def test_a_job_that_its_own_person_holds_stays_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(JOB, replace(HELD, hold_code=1))
    one, _ = attach(monkeypatch, queue)
    assert one.follow().status == "held"
    assert queue.done == []


def test_a_job_that_somebody_removed_tells_why(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = attach(monkeypatch, Queue(JOB, None, ad={"RemoveReason": "by hand"}))
    assert one.follow().reason == "by hand"


def test_the_first_stop_removes_the_job_and_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(JOB)
    one, _ = attach(monkeypatch, queue)
    result = one.follow(lambda _: one.stop() if not one.stop.count else None)
    assert (result.status, result.reason) == ("removed", "interrupted")
    assert len(queue.done) == 1


def test_the_second_stop_leaves_the_job_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(JOB)
    queue.when_removed = JOB  # its removal takes its time
    one, _ = attach(monkeypatch, queue)
    assert one.follow(lambda _: one.stop()).status == "detached"
    assert len(queue.done) == 1


def test_a_job_that_ended_before_its_removal_arrived_has_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(JOB, replace(DONE, exit_code=5))
    queue.when_removed = DONE
    one, _ = attach(monkeypatch, queue)
    assert one.follow(lambda _: one.stop()).code == 5


def test_a_job_whose_output_nobody_reads_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue(JOB)

    def broken(_data: bytes) -> None:
        raise BrokenPipeError

    one, _ = attach(monkeypatch, queue, lambda _: iter([b"x"]), stdout=broken, stderr=broken)
    assert one.follow().status == "removed"
    assert queue.done == ["remove: nobody read its output any more"]


def test_output_that_could_not_be_read_keeps_a_finished_job_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_stream: str) -> Iterator[bytes]:
        yield b"x"
        raise PoolError("the gateway has gone")

    queue = Queue(JOB, replace(DONE, exit_code=3))
    one, _ = attach(monkeypatch, queue, lost)
    with pytest.raises(SwarmHpcError, match="ended with code 3, but not all") as seen:
        one.follow()
    assert "swarmhpc logs 7.0" in seen.value.hint and queue.done == []


def test_what_following_lost_is_read_again_when_the_job_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    def printed(stream: str) -> Iterator[bytes]:
        reads.append(stream)
        yield b"on"
        if reads.count(stream) == 1:
            raise PoolError("the gateway has gone")
        yield b"e\n"

    err = bytearray()
    one, out = attach(monkeypatch, Queue(JOB, DONE), printed, stderr=err.extend)
    assert one.follow().code == 0
    assert (bytes(out), bytes(err)) == (b"one\n", b"one\n")


def test_of_an_attempt_that_was_held_what_is_missing_comes_also_after_another_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second attempt's output begins anew: what the first one printed does not count as seen of it."""

    def printed(
        _pool: object, _job: str, stream: str, *, follow: bool, on_again: Callable[[], None]
    ) -> Iterator[bytes]:
        if stream == "output" and follow:
            yield b"a long first attempt\n"
            on_again()
            yield b"sec"
        raise PoolError("held")

    queue = Queue(JOB, replace(HELD, hold_code=12, hold_reason="reading from file /x/scratch/made: (errno 2)"))
    queue.refuses = PoolError("made is missing")
    queue.spool = {"_condor_stdout": b"second\n"}
    one, out = attach(monkeypatch, queue, outputs=(("made", "/here/made"),))
    monkeypatch.setattr(attached, "_printed", printed)
    one.follow()
    assert out == b"a long first attempt\nsecond\n"


def test_a_full_disk_here_does_not_end_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_data: bytes) -> None:
        raise OSError(28, "No space left on device")

    queue = Queue(JOB)
    one, _ = attach(monkeypatch, queue, lambda _: iter([b"x"]), stdout=full, stderr=full)
    with pytest.raises(SwarmHpcError, match="No space left") as seen:
        one.follow()
    assert "swarmhpc logs 7.0 --follow" in seen.value.hint and queue.done == []


def test_an_access_point_that_restarts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = attach(monkeypatch, Queue(JOB, PoolUnreachableError("silent"), DONE))
    assert one.follow().code == 0


@pytest.mark.parametrize("error", [PoolUnreachableError("silent", hint="wait"), AuthenticationError("no", hint="ask")])
def test_an_access_point_that_stays_away_is_given_up_with_words(
    monkeypatch: pytest.MonkeyPatch, error: PoolError
) -> None:
    monkeypatch.setattr(attached, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(attached, "_UNKNOWN_S", 0.0)
    one, _ = attach(monkeypatch, Queue(JOB, error))
    with pytest.raises(type(error)) as seen:
        one.follow()
    assert "swarmhpc logs 7.0 --follow" in seen.value.hint


# -- logs -----------------------------------------------------------------------------------------------------------


class Printer:
    """A gateway with one job's output, of which more comes while it is followed."""

    def __init__(self, first: bytes, later: bytes = b"") -> None:
        self.first, self.later = first, later

    def logs(self, _job: str, *, stream: str, follow: bool = False) -> Iterator[bytes]:
        assert stream == "output"
        data = self.first + (self.later if follow else b"")
        return (data[i : i + 3] for i in range(0, len(data), 3))


@pytest.mark.parametrize(
    ("tail", "follow", "seen"),
    [
        (None, False, b"one\ntwo\nthree\nfo"),
        (2, False, b"three\nfo"),
        (0, False, b""),
        (9, False, b"one\ntwo\nthree\nfo"),
        (1, True, b"fo|ur\n"),
        (0, True, b"|ur\n"),
    ],
)
def test_tail_shows_the_last_lines_and_then_follows(tail: int | None, follow: bool, seen: bytes) -> None:
    gateway = cast(Any, Printer(b"one\ntwo\nthree\nfo", b"|ur\n"))
    assert b"".join(logs.chunks(gateway, JOB, stream="output", follow=follow, tail=tail)) == seen


@pytest.mark.parametrize("text", ["x", "1.", "1.x", "-1", "", "١"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no job"):
        logs.find(cast(Pool, Queue(None)), text)


def test_another_persons_job_is_named_as_theirs() -> None:
    with pytest.raises(UsageError, match="belongs to you, not to me"):
        logs.find(cast(Pool, Queue(replace(JOB, owner="you"))), "7.0")


def test_a_job_that_was_fetched_tells_where_its_output_is() -> None:
    reason = f"{logs.FETCHED} (by user me)"
    ad = {"Owner": "me", "CompletionDate": 5, "RemoveReason": reason, "SwarmHpcOutput": "/there/out"}
    with pytest.raises(PoolError, match="was written to /there/out") as seen:
        logs.find(cast(Pool, Queue(None, ad=ad)), "7.0")
    assert seen.value.hint == "cat /there/out"


def test_the_output_of_a_run_that_went_to_a_terminal_is_not_said_to_be_in_a_file() -> None:
    reason = "swarmhpc run showed its output (by user me)"
    ad = {"Owner": "me", "CompletionDate": 5, "SwarmHpcOutput": "/there/out", "RemoveReason": reason}
    with pytest.raises(PoolError, match="showed its output") as seen:
        logs.find(cast(Pool, Queue(None, ad=ad)), "7.0")
    assert "/there/out" not in seen.value.message + seen.value.hint


def test_the_job_of_somebody_else_that_has_gone_is_no_job_of_ours() -> None:
    with pytest.raises(PoolError, match="no job of yours"):
        logs.find(cast(Pool, Queue(None, ad={"Owner": "you", "RemoveReason": "secret"})), "7.0")


# -- what is told ---------------------------------------------------------------------------------------------------


class Explained:
    """A pool that knows one reason after the other."""

    def __init__(self, *messages: str) -> None:
        self.messages = list(messages)

    def why(self, _job: str) -> list[Any]:
        if not self.messages:
            raise PoolError("nobody knows")
        return [SimpleNamespace(message=self.messages.pop(0))]


def test_a_long_wait_is_explained_once_for_each_reason(capsys: pytest.CaptureFixture[str]) -> None:
    stop = run.Stop()
    told = command._Told(cast(Any, Explained("all busy", "all busy", "draining")), "7.0", stop, command._StatusLine())
    for waited_s in (0, 9.9, 10.1, 10.2, 20.1, 40.1, 80.1):
        told(run.Progress("RUNNABLE", waited_s, has_spoken=False, attempt=0))
    assert capsys.readouterr().err.splitlines() == ["job 7.0: all busy", "job 7.0: draining"]


def test_a_job_that_has_begun_is_not_explained(capsys: pytest.CaptureFixture[str]) -> None:
    told = command._Told(cast(Any, Explained("all busy")), "7.0", run.Stop(), command._StatusLine())
    told(run.Progress("RUNNING", 100, has_spoken=False, attempt=1))
    assert capsys.readouterr().err == ""


def test_each_further_attempt_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    told = command._Told(cast(Any, Explained()), "7.0", run.Stop(), command._StatusLine())
    for attempt in (0, 1, 1, 2, 2, 3):
        told(run.Progress("RUNNING", 1, has_spoken=True, attempt=attempt))
    assert capsys.readouterr().err.splitlines() == ["job 7.0: attempt 2", "job 7.0: attempt 3"]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (run.Result("7.0", "completed", 0), ""),
        (run.Result("7.0", "completed", 9, silent=True), ""),
        (run.Result("7.0", "completed", 127, silent=True), "'nope' was not found in image debian"),
        (run.Result("7.0", "completed", 126, silent=True), "'nope' can't be run in image debian"),
        (run.Result("7.0", "completed", 127, silent=False), ""),  # its shell has said it
        (run.Result("7.0", "held", 3, missing=("a",)), "ended with code 3 and left no a behind"),
        (run.Result("7.0", "held", 0, missing=("a", "b")), "the command left no a, b behind"),
        (run.Result("7.0", "held", reason="by hand", hold_code=1), "swarmhpc release 7.0"),
        (run.Result("7.0", "held", reason="gone over memory", hold_code=34), "--memory"),
        (run.Result("7.0", "removed", reason="by hand"), "has left the queue: by hand"),
    ],
)
def test_what_an_exit_code_does_not_tell_is_told(
    capsys: pytest.CaptureFixture[str], result: run.Result, words: str
) -> None:
    command._say_how(result, run.Request("debian", ("nope",)))
    said = capsys.readouterr().err
    assert words in said and bool(said) == bool(words)


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["--cpus", "0", "debian"], "--cpus"),
        (["--memory", "lots", "debian"], "wanted a size"),
        (["--memory", "0", "debian"], "more than nothing"),
        (["--env", "SWARMHPC_NOT_SET", "debian"], "not set here"),
        (["--timeout", "soon", "debian"], "soon"),
        (["--retries", "-1", "debian"], "retries -1"),
        (["--retry-on", "3,timeout", "--timeout", "2h", "debian"], "a run ends at its timeout"),
        ([], "IMAGE"),
    ],
)
def test_wrong_usage_of_run_ends_with_2_and_words(
    capsys: pytest.CaptureFixture[str], words: list[str], seen: str
) -> None:
    assert app.run(["run", *words]) == 2
    assert seen in capsys.readouterr().err
