"""The gateway on the real pool, spoken to as a client would that is not ours: TLS, a line of JSON, frames."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmhpc import tokens, wire
from tests.command_line import Cli, until
from tests.engine.conftest import POOL, as_person, containers_of, docker

DOCKER = "universe = docker\ndocker_image = debian\ntransfer_executable = false\nrequest_memory = 64M\n"
PLAIN = "transfer_executable = false\nrequest_memory = 64M\n"


def token_of(person: Cli) -> str:
    return (person.config_home / "swarmhpc" / POOL / "tokens.d" / "token").read_text().strip()


class Talk:
    """One request to the gateway: its answer, then its frames."""

    def __init__(self, person: Cli, token: str, **values: Any) -> None:
        context = json.loads((person.config_home / "swarmhpc" / POOL / "context.json").read_text())
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        self.sock = tls.wrap_socket(socket.create_connection((context["address"], 9620), timeout=60))
        self.file = self.sock.makefile("rb")
        self.sock.sendall(wire.line({"version": 1, "token": token, **values}))
        self.answer = json.loads(self.file.readline())

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        while head := self.file.read(wire.HEADER):
            kind, length = wire.header(head)
            yield kind, self.file.read(length)
            if kind == wire.END:
                return

    def all(self) -> tuple[bytes, dict[str, Any]]:
        """Every byte of data, and the last frame."""
        data = b""
        last: dict[str, Any] = {}
        for kind, payload in self.frames():
            data += payload if kind == wire.DATA else b""
            last = json.loads(payload) if kind == wire.END else last
        return data, last

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        self.sock.sendall(wire.frame(kind, payload))

    def close(self) -> None:
        self.sock.close()
        self.file.close()


def ask(person: Cli, verb: str, **values: Any) -> Talk:
    return Talk(person, token_of(person), verb=verb, **values)


def submitted(person: Cli, text: str) -> str:
    done = person.submit(text + "\nqueue\n", "--json")
    assert done.code == 0, done.err
    return f"{done.json['clusters'][0]['cluster']}.0"


def script(kind: str, command: str) -> str:
    return f"""{kind}executable = /bin/sh\narguments = "-c '{command}'"\noutput = out\nerror = err\n"""


def running(person: Cli, job: str) -> None:
    def there() -> bool:
        return [j["state"] for j in person.ok("q", "--jobs", "--json").json if j["id"] == job] == ["RUNNING"]

    until(there, timeout_s=60, what=f"job {job} runs")


@pytest.mark.parametrize("kind", [DOCKER, PLAIN], ids=["docker", "plain"])
def test_output_comes_while_a_job_runs_from_any_byte_and_when_it_has_ended(person: Cli, kind: str) -> None:
    job = submitted(person, script(kind, "echo begun; echo wrong >&2; sleep 4; echo ended"))
    follow = ask(person, "logs", job=job, follow=True)
    assert follow.answer == {"ok": True}
    frames = (f for f in follow.frames() if f[0] != wire.ALIVE)
    assert next(frames)[0] == wire.ATTEMPT
    assert next(frames) == (wire.DATA, b"begun\n")
    so_far = time.monotonic()
    assert ask(person, "logs", job=job).all()[0] == b"begun\n"
    assert ask(person, "logs", job=job, stream="error").all()[0] == b"wrong\n"
    assert next(frames) == (wire.DATA, b"ended\n")
    assert time.monotonic() - so_far > 1
    kind_of_last, last = next(frames)
    assert (kind_of_last, json.loads(last)["exit_code"]) == (wire.END, 0)
    data, last_words = ask(person, "logs", job=job).all()
    assert (data, last_words["exit_code"]) == (b"begun\nended\n", 0)
    person.ok("fetch", job.partition(".")[0])
    assert (person.cwd / "out").read_text() == "begun\nended\n"
    assert "is not in the queue" in ask(person, "logs", job=job).all()[1]["error"]


def test_a_follow_goes_on_byte_for_byte_when_the_access_point_was_killed(person: Cli) -> None:
    count = "i=0; while [ $i -lt 240 ]; do i=$((i+1)); echo $i; sleep 0.05; done"
    job = submitted(person, script(DOCKER, count))
    process = person.start("logs", job, "--follow")
    assert process.stdout is not None
    first = process.stdout.readline()
    docker("kill", containers_of("access-point")[0])
    rest = process.stdout.read()  # not `communicate`: it leaves out what `readline` has buffered
    assert process.wait(60) == 0
    assert first + rest == "".join(f"{i}\n" for i in range(1, 241))
    until(lambda: person.run("q").code == 0, timeout_s=60, what="the access point is back")


def test_many_follow_at_a_time_and_one_who_does_not_read_harms_nobody(person: Cli) -> None:
    job = submitted(person, script(DOCKER, "head -c 3000000 /dev/zero; sleep 5; echo end"))
    running(person, job)
    stuck = ask(person, "logs", job=job, follow=True)
    lengths: list[int] = []

    def follow() -> None:
        lengths.append(len(ask(person, "logs", job=job, follow=True).all()[0]))

    threads = [threading.Thread(target=follow) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert lengths == [3_000_004] * 20
    assert len(stuck.all()[0]) == 3_000_004


def test_only_the_owner_with_a_token_that_htcondor_accepts_is_answered(pool: Cli, person: Cli, tmp_path: Path) -> None:
    job = submitted(person, script(PLAIN, "echo secret; sleep 30"))
    running(person, job)
    (tmp_path / "other").mkdir()
    stranger = as_person(pool, "gateway-stranger", tmp_path / "other")
    for verb in ("logs", "shell"):
        data, last = ask(stranger, verb, job=job).all()
        assert data == b"" and "not to gateway-stranger" in last["error"]
    forged = tokens.mint(
        tokens.new_signing_key(), pool=POOL, identity=f"condor@{POOL}", scopes=tokens.PERSON_SCOPES, now=1_700_000_000
    )
    reading = token_of(person).split(".")
    for bad in ("", "x", "a.b.c", forged.text, f"{reading[0]}.{reading[1]}.AAAA"):
        refused = Talk(person, bad, verb="logs", job=job).answer
        assert refused["code"] == "authentication", refused
    assert ask(person, "node", node="me").answer["code"] == "authentication"
    assert "nobody waits" in Talk(person, "", verb="answer", id="0" * 64).all()[1]["error"]
    key = base64.b64decode(docker("exec", containers_of("access-point")[0], "base64", "/etc/condor/passwords.d/POOL"))
    ours = token_of(person)
    identity = tokens.read_claims(ours).identity

    def minted(now: int) -> str:
        scopes = tokens.PERSON_SCOPES
        return tokens.mint(key, pool=POOL, identity=identity, scopes=scopes, now=now, lifetime_s=600).text

    assert Talk(person, minted(int(time.time())), verb="logs", job=job).answer == {"ok": True}
    assert Talk(person, minted(int(time.time()) - 601), verb="logs", job=job).answer["code"] == "authentication"
    reader = tokens.mint(key, pool=POOL, identity=identity, scopes=("READ",), now=int(time.time())).text
    assert Talk(person, reader, verb="logs", job=job).answer["code"] == "authentication"


def test_a_job_can_not_make_the_agent_read_what_its_account_may_not(person: Cli) -> None:
    # In the agent's container both exist, for root alone.
    trick = "ln -sf /etc/condor/tokens.d/pool _condor_stdout; ln -sf /etc/shadow _condor_stderr; sleep 30"
    job = submitted(person, script(PLAIN, trick))
    running(person, job)
    for stream in ("output", "error"):
        assert ask(person, "logs", job=job, stream=stream).all()[0] == b""


@pytest.mark.parametrize("kind", [DOCKER, PLAIN], ids=["docker", "plain"])
def test_a_shell_is_the_jobs_account_in_the_jobs_place_and_ends_with_its_person(person: Cli, kind: str) -> None:
    job = submitted(person, script(kind, "sleep 60"))
    running(person, job)

    def run(*command: str, typed: bytes = b"") -> tuple[bytes, dict[str, Any]]:
        talk = ask(person, "shell", job=job, command=list(command))
        assert talk.answer == {"ok": True}
        for frame in wire.frames(wire.INPUT, typed):
            talk.sock.sendall(frame)
        talk.send(wire.INPUT_ENDS)
        return talk.all()

    identity = (
        "id -u; id -g; pwd; test -r /var/run/docker.sock && echo engine; test -r /run/secrets && echo secrets; true"
    )
    said, last = run("sh", "-c", identity)
    uid, gid, place = said.decode().split()
    assert int(uid) >= 20_000 and uid == gid and place.endswith("/scratch")
    assert last == {"exit_code": 0}
    assert run("sh", "-c", "exit 7")[1] == {"exit_code": 7}
    assert run("wc", "-c", typed=os.urandom(200_000))[0].split()[0] == b"200000"
    talk = ask(person, "shell", job=job, tty=True, rows=33, columns=111, term="xterm")
    talk.send(wire.INPUT, b"stty size; sleep 4321 & sleep 4321\n")
    seen = b""
    for kind_of_frame, payload in talk.frames():
        seen += payload if kind_of_frame == wire.DATA else b""
        if b"33 111" in seen:
            break
    assert b"33 111" in seen, seen
    until(lambda: _left(), timeout_s=20, what="the shell's processes run")
    talk.close()
    until(lambda: not _left(), timeout_s=20, what="the shell's processes have ended")


def _left() -> bool:
    """Whether a process of the test's shell runs, in any container of this machine."""
    containers = docker("ps", "-q").split()
    return any("sleep 4321" in docker("top", container, "-eo", "pid,args", check=False) for container in containers)


def test_a_shell_ends_with_its_job(person: Cli) -> None:
    job = submitted(person, script(PLAIN, "sleep 6"))
    running(person, job)
    talk = ask(person, "shell", job=job, command=["sh", "-c", "setsid sleep 4321 & sleep 4321"])
    until(lambda: _left(), timeout_s=20, what="the shell's process runs")
    assert talk.all()[1] == {"exit_code": 137}
    until(lambda: not _left(), timeout_s=20, what="the shell's process has ended")


def test_jobs_that_have_no_output_or_shell_to_give_say_why(person: Cli) -> None:
    silent = submitted(person, f"{PLAIN}executable = /bin/sleep\narguments = 30\n")
    held = submitted(person, script(PLAIN, "true") + "hold = true\n")
    for job, stream, words in (
        (silent, "output", "keeps no standard output"),
        (held, "output", "is held"),
        (silent, "log", "no stream 'log'"),
    ):
        assert words in ask(person, "logs", job=job, stream=stream).all()[1]["error"]
    assert "is not running" in ask(person, "shell", job=held).all()[1]["error"]
    for nonsense in ("999999.0", "1", "x", "1.0; true", None, ["1.0"]):
        assert ask(person, "logs", job=nonsense).all()[1]["error"]


def test_a_revoked_token_is_refused(pool: Cli, tmp_path: Path) -> None:
    heidi = as_person(pool, "gateway-revoked", tmp_path)
    assert ask(heidi, "logs", job="999999.0").answer == {"ok": True}
    pool.ok("token", "revoke", "gateway-revoked")

    def answer() -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = ask(heidi, "logs", job="999999.0").answer
        except (OSError, ValueError):
            return None  # the access point is being started
        return found if found.get("code") != "unreachable" else None

    assert until(answer, timeout_s=60, what="an answer")["code"] == "authentication"
