"""The gateway's server and client on real sockets, with a certificate of their own and a stand-in for HTCondor."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from swarmhpc import wire
from swarmhpc.adapters import command
from swarmhpc.adapters.gateway import Gateway, raised
from swarmhpc.cluster import render
from swarmhpc.errors import AuthenticationError, PoolError, PoolUnreachableError
from swarmhpc.gateway import agent, logs, server
from swarmhpc.gateway.board import Board
from swarmhpc.gateway.caller import Caller

PEOPLE = {"alice-token": "alice", "bob-token": "bob", "node-token": "condor"}


SEEN: list[str] = []


async def who_is(token: str, pool: str, *, may: str) -> str:
    SEEN.append(token)
    assert pool == "lab"
    assert may == ("DAEMON" if token == "node-token" else "WRITE")
    if token not in PEOPLE:
        raise AuthenticationError("the queue does not accept this token")
    return PEOPLE[token]


@dataclass
class Serving:
    """A server in a thread of its own."""

    port: int
    fingerprint: str
    loop: asyncio.AbstractEventLoop
    listener: asyncio.Server
    seen: list[object] = field(default_factory=list)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "crt", folder / "key"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=lab"]
    command.run(["openssl", "req", "-x509", *curve, "-keyout", str(key), "-out", str(certificate)], timeout_s=30)
    return certificate, key


@pytest.fixture
def serving(certificates: tuple[Path, Path]) -> Iterator[Serving]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    gateway = server.Server("lab", who_is)
    listener = asyncio.run_coroutine_threadsafe(gateway.serve("127.0.0.1", 0, *certificates), loop).result(10)
    der = ssl.PEM_cert_to_DER_cert(certificates[0].read_text())
    port = listener.sockets[0].getsockname()[1]
    yield Serving(port, hashlib.sha256(der).hexdigest(), loop, listener)

    async def stop() -> None:
        listener.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives the server a verb for one test."""

    def add(name: str, function: Callable[[Caller], Awaitable[None]], *, duplex: bool = False) -> None:
        monkeypatch.setitem(server.VERBS, name, function)
        if duplex:
            monkeypatch.setattr(server, "_DUPLEX", {*server._DUPLEX, name})

    return add


@dataclass
class FakePool:
    """What the client needs of adapters.condor.Pool."""

    serving: Serving
    own_token: str = "alice-token"
    fingerprints: list[str] = field(default_factory=list)
    asked: int = 0
    pool: str = "lab"
    address: str = "127.0.0.1"

    def gateway(self) -> str:
        self.asked += 1
        fingerprint = self.fingerprints.pop(0) if self.fingerprints else self.serving.fingerprint
        return f"{self.serving.port} sha256:{fingerprint}"

    def token(self) -> str:
        return self.own_token


def client(serving: Serving, token: str = "alice-token", fingerprints: list[str] | None = None) -> Gateway:
    return Gateway(FakePool(serving, token, fingerprints or []))  # type: ignore[arg-type]


def connected(serving: Serving) -> ssl.SSLSocket:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls.wrap_socket(socket.create_connection(("127.0.0.1", serving.port), timeout=10))


def asked(serving: Serving, text: bytes) -> dict[str, object]:
    """The answer to a raw first line."""
    with connected(serving) as sock:
        sock.sendall(text)
        return dict(json.loads(sock.makefile("rb").readline()))


# -- who, and what ------------------------------------------------------------------------------------------------


def test_a_verb_is_done_as_the_person_that_the_token_belongs_to(serving: Serving, verbs: Callable[..., None]) -> None:
    async def greet(caller: Caller) -> None:
        await caller.send(f"{caller.person} {caller.values['word']}".encode())
        await caller.end(done=True)

    verbs("greet", greet)
    for token, name in (("alice-token", "alice"), ("bob-token", "bob")):
        with client(serving, token).request("greet", word="hello") as connection:
            assert list(connection.frames()) == [(wire.DATA, f"{name} hello".encode())]


def test_a_token_that_htcondor_refuses_is_refused(serving: Serving, verbs: Callable[..., None]) -> None:
    async def never(caller: Caller) -> None:
        raise AssertionError

    verbs("greet", never)
    with pytest.raises(AuthenticationError, match="does not accept this token"):
        client(serving, "forged").request("greet")


def test_the_token_is_not_given_to_a_verb(serving: Serving, verbs: Callable[..., None]) -> None:
    async def tell(caller: Caller) -> None:
        await caller.end(keys=sorted(caller.values))

    verbs("tell", tell)
    with client(serving).request("tell", a=1) as connection:
        assert wire.frame(wire.END, {"keys": ["a", "verb", "version"]}) in connection.sock.recv(1000)


def test_a_person_may_not_be_a_node_and_a_node_no_person(serving: Serving, verbs: Callable[..., None]) -> None:
    async def nothing(caller: Caller) -> None:
        await caller.end()

    verbs("node", nothing)
    verbs("greet", nothing)
    monkey = {"version": 1, "verb": "node", "token": "node-token"}
    assert asked(serving, wire.line(monkey)) == {"ok": True}
    PEOPLE["node-like"] = "condor"
    try:
        refusal = asked(serving, wire.line({**monkey, "verb": "greet", "token": "node-like"}))
    finally:
        del PEOPLE["node-like"]
    assert refusal["code"] == "authentication"
    assert "condor may not ask for greet" in str(refusal["error"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"GET / HTTP/1.1\r\n", "wanted a line of JSON"),
        (b"[1, 2]\n", "wanted a line of JSON"),
        (b'{"version": 7, "verb": "greet"}\n', "version 1 of its protocol, not 7"),
        (b'{"version": 1}\n', "knows no verb 'None'"),
        (b'{"version": 1, "verb": "format"}\n', "knows no verb 'format'"),
        (b'{"version": 1, "verb": ["logs"], "token": "alice-token"}\n', "knows no verb"),
        (b'{"version": 1, "verb": "node"}\n', "no token came"),
        (b'{"version": 1, "verb": "node", "token": 5}\n', "no token came"),
        (b'{"version": 1, "a": "' + b"x" * wire.LONGEST_LINE + b'"}\n', "at most 65536 bytes"),
        (b"[" * 60_000 + b"\n", "wanted a line of JSON"),
    ],
)
def test_what_is_no_request_is_refused_in_words(
    serving: Serving, verbs: Callable[..., None], line: bytes, words: str
) -> None:
    async def nothing(caller: Caller) -> None:
        await caller.end()

    verbs("node", nothing)
    assert words in str(asked(serving, line)["error"])


def test_who_says_nothing_is_sent_away(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ASK_WITHIN_S", 0.3)
    with connected(serving) as sock:
        assert b"no request came within" in sock.makefile("rb").readline()


def test_strangers_beyond_the_limit_are_told_to_try_again(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STRANGERS", 0)
    with pytest.raises(PoolUnreachableError, match="busy"):
        client(serving).request("logs")


def test_one_person_can_not_take_every_connection(
    serving: Serving, verbs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stay(caller: Caller) -> None:
        await asyncio.sleep(60)

    async def greet(caller: Caller) -> None:
        await caller.end()

    verbs("stay", stay)
    verbs("greet", greet)
    monkeypatch.setattr(server, "OF_ONE_PERSON", 1)
    with client(serving).request("stay"):
        with pytest.raises(PoolError, match="alice has 1 connections"):
            client(serving).request("greet")
        with client(serving, "bob-token").request("greet") as other:
            assert list(other.frames()) == []


# -- the certificate ----------------------------------------------------------------------------------------------


def test_another_certificate_gets_no_token(serving: Serving) -> None:
    SEEN.clear()
    pool = FakePool(serving, fingerprints=["0" * 64, "1" * 64])
    with pytest.raises(PoolUnreachableError, match=r"is not the pool's gateway.*token was not sent"):
        Gateway(pool).request("logs")  # type: ignore[arg-type]
    assert (pool.asked, SEEN) == (1, [])


def test_after_a_restart_the_new_certificate_is_asked_for(serving: Serving, verbs: Callable[..., None]) -> None:
    async def greet(caller: Caller) -> None:
        await caller.end()

    verbs("greet", greet)
    gateway = client(serving)
    gateway._where = f"{serving.port} sha256:{'0' * 64}"  # what it learned of the container before
    with gateway.request("greet") as connection:
        assert list(connection.frames()) == []


def test_a_pool_without_a_gateway_says_so(serving: Serving) -> None:
    class Old(FakePool):
        def gateway(self) -> str:
            return ""

    with pytest.raises(PoolError, match="pool lab has no gateway"):
        Gateway(Old(serving)).request("logs")  # type: ignore[arg-type]


def test_a_gateway_that_does_not_listen_is_unreachable(serving: Serving) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    gateway = client(serving)
    gateway._where = f"{port} sha256:{serving.fingerprint}"
    gateway._pool.gateway = lambda: f"{port} sha256:{serving.fingerprint}"  # type: ignore[method-assign]
    with pytest.raises(PoolUnreachableError, match=f"does not answer at 127.0.0.1:{port}"):
        gateway.request("logs")


# -- frames, and ends ---------------------------------------------------------------------------------------------


def test_a_verb_that_fails_says_so_in_its_last_frame(serving: Serving, verbs: Callable[..., None]) -> None:
    async def fail(caller: Caller) -> None:
        await caller.send(b"some")
        raise PoolError("job 1.0 is held: no disk", hint="swarmhpc why 1.0")

    verbs("fail", fail)
    with client(serving).request("fail") as connection:
        frames = connection.frames()
        assert next(frames) == (wire.DATA, b"some")
        with pytest.raises(PoolError, match=r"job 1.0 is held: no disk") as e:
            next(frames)
    assert e.value.hint == "swarmhpc why 1.0"


def test_a_mistake_of_ours_ends_one_connection_in_words(serving: Serving, verbs: Callable[..., None]) -> None:
    async def fail(caller: Caller) -> None:
        raise KeyError("x")

    verbs("fail", fail)
    for _ in range(2):
        with client(serving).request("fail") as connection, pytest.raises(PoolError, match="failed at fail: KeyError"):
            list(connection.frames())


def test_a_broken_connection_is_no_end(serving: Serving, verbs: Callable[..., None]) -> None:
    async def vanish(caller: Caller) -> None:
        await caller.send(b"some")
        caller.ended = True  # as if the process had been killed: no last frame

    verbs("vanish", vanish)
    with client(serving).request("vanish") as connection:
        frames = connection.frames()
        assert next(frames) == (wire.DATA, b"some")
        with pytest.raises(PoolUnreachableError, match="broke"):
            next(frames)


def test_a_verb_ends_when_its_caller_goes(serving: Serving, verbs: Callable[..., None]) -> None:
    ended = threading.Event()

    async def stay(caller: Caller) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    verbs("stay", stay)
    client(serving).request("stay").close()
    assert ended.wait(10)


def test_a_caller_who_does_not_read_is_waited_for_and_harms_nobody(
    serving: Serving, verbs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gave_up = threading.Event()

    async def flood(caller: Caller) -> None:
        try:
            while True:
                await caller.send(b"x" * 1_000_000)
        except TimeoutError:
            gave_up.set()
            raise

    async def greet(caller: Caller) -> None:
        await caller.end()

    verbs("flood", flood)
    verbs("greet", greet)
    monkeypatch.setattr("swarmhpc.gateway.caller.PATIENCE_S", 0.5)
    with client(serving).request("flood"):
        with client(serving, "bob-token").request("greet") as other:
            assert list(other.frames()) == []
        assert gave_up.wait(20)


def test_silence_is_filled_so_that_it_is_not_taken_for_a_break(
    serving: Serving, verbs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def quiet(caller: Caller) -> None:
        await asyncio.sleep(0.5)
        await caller.end()

    verbs("quiet", quiet)
    monkeypatch.setattr("swarmhpc.gateway.caller.ALIVE_EVERY_S", 0.1)
    with client(serving).request("quiet") as connection:
        connection.sock.settimeout(0.4)  # less than the verb is quiet for
        assert list(connection.frames()) == []


# -- logs of the client -------------------------------------------------------------------------------------------


def test_a_follow_goes_on_where_it_was_when_the_connection_breaks(serving: Serving, verbs: Callable[..., None]) -> None:
    text = b"0123456789"

    async def logs(caller: Caller) -> None:
        serving.seen.append((caller.values["attempt"], caller.values["from"]))
        start = int(caller.values["from"]) if caller.values["attempt"] == 7 else 0
        await caller.frame(wire.ATTEMPT, {"attempt": 7, "from": start})
        await caller.send(text[start : start + 4])
        if start + 4 < len(text):
            caller.ended = True  # breaks
            return
        await caller.end()

    verbs("logs", logs)
    assert b"".join(client(serving).logs("1.0", follow=True)) == text
    assert serving.seen == [(0, 0), (7, 4), (7, 8)]


def test_an_attempt_that_begins_again_begins_its_output_again(serving: Serving, verbs: Callable[..., None]) -> None:
    async def logs(caller: Caller) -> None:
        await caller.frame(wire.ATTEMPT, {"attempt": 1, "from": 0})
        await caller.send(b"one")
        await caller.frame(wire.ATTEMPT, {"attempt": 2, "from": 0})
        await caller.send(b"two")
        await caller.end()

    verbs("logs", logs)
    assert list(client(serving).logs("1.0")) == [b"one", b"two"]


def test_without_follow_a_break_is_an_error(serving: Serving, verbs: Callable[..., None]) -> None:
    async def logs(caller: Caller) -> None:
        caller.ended = True

    verbs("logs", logs)
    with pytest.raises(PoolUnreachableError):
        list(client(serving).logs("1.0"))


def test_patience_ends(serving: Serving, verbs: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def logs(caller: Caller) -> None:
        caller.ended = True

    verbs("logs", logs)
    monkeypatch.setattr("swarmhpc.adapters.gateway.PATIENCE_S", 0.2)
    with pytest.raises(PoolUnreachableError):
        list(client(serving).logs("1.0", follow=True))


# -- shells -------------------------------------------------------------------------------------------------------


def test_a_shell_carries_input_both_outputs_and_the_exit_code(
    serving: Serving, verbs: Callable[..., None], tmp_path: Path
) -> None:
    async def shell(caller: Caller) -> None:
        assert caller.values["command"] == ["cat"]
        assert caller.values["tty"] is False
        total = b""
        while True:
            kind, length = wire.header(await caller.reader.readexactly(wire.HEADER))
            payload = await caller.reader.readexactly(length)
            if kind == wire.INPUT_ENDS:
                break
            total += payload
        await caller.send(total)
        await caller.send(b"oops", wire.ERRORS)
        await caller.end(exit_code=7)

    verbs("shell", shell, duplex=True)
    data = os.urandom(700_000)
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as i, (tmp_path / "out").open("wb") as o, (tmp_path / "err").open("wb") as e:
        code = client(serving).shell("1.0", ["cat"], stdin=i.fileno(), stdout=o.fileno(), stderr=e.fileno())
    assert code == 7
    assert (tmp_path / "out").read_bytes() == data
    assert (tmp_path / "err").read_bytes() == b"oops"


def test_a_shell_whose_connection_breaks_is_an_error(serving: Serving, verbs: Callable[..., None]) -> None:
    async def shell(caller: Caller) -> None:
        caller.ended = True

    verbs("shell", shell, duplex=True)
    reading, writing = os.pipe()
    try:
        with pytest.raises(PoolUnreachableError, match="broke"):
            client(serving).shell("1.0", stdin=reading)
    finally:
        os.close(reading)
        os.close(writing)


# -- the wire -----------------------------------------------------------------------------------------------------


def test_frames_come_out_whole_however_they_arrive() -> None:
    sent = [(wire.DATA, b"a" * 70), (wire.ALIVE, b""), (wire.END, b"{}")]
    stream = b"".join(wire.frame(kind, payload) for kind, payload in sent)
    for size in (1, 3, 7, len(stream)):
        decoder = wire.Decoder()
        pieces = (stream[i : i + size] for i in range(0, len(stream), size))
        assert [frame for piece in pieces for frame in decoder.feed(piece)] == sent


def test_data_longer_than_a_frame_becomes_several() -> None:
    data = os.urandom(wire.LONGEST_FRAME * 2 + 5)
    found = list(wire.Decoder().feed(b"".join(wire.frames(wire.DATA, data))))
    assert [len(payload) for _, payload in found] == [wire.LONGEST_FRAME, wire.LONGEST_FRAME, 5]
    assert b"".join(payload for _, payload in found) == data


@pytest.mark.parametrize("stream", [b"HTTP/1.1 200 OK\r\n", b"D\x00\x01\x00\x01", b"D\xff\xff\xff\xff"])
def test_what_is_no_frame_is_refused(stream: bytes) -> None:
    with pytest.raises(ValueError, match="no frame"):
        list(wire.Decoder().feed(stream))


def test_a_request_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ValueError, match="65536"):
        wire.line({"command": ["x" * wire.LONGEST_LINE]})


def test_an_answer_without_error_raises_nothing_and_codes_choose_the_error() -> None:
    raised({"ok": True})
    with pytest.raises(AuthenticationError):
        raised({"error": "no", "code": "authentication"})
    with pytest.raises(PoolError) as e:
        raised({"error": "no", "hint": "do", "code": "whatever"})
    assert (e.value.message, e.value.hint) == ("no", "do")


def test_a_command_that_is_too_long_is_told_as_such(serving: Serving) -> None:
    started = time.monotonic()
    with pytest.raises(PoolError, match="65536"):
        client(serving).shell("1.0", ["x" * wire.LONGEST_LINE])
    assert time.monotonic() - started < 5


# -- the verb `logs` ----------------------------------------------------------------------------------------------


def ad(status: int, **more: Any) -> dict[str, Any]:
    """A job's; it has begun to run as soon as it was given its slot, unless `more` says otherwise."""
    more = {"JobCurrentStartExecutingDate": more.get("JobCurrentStartDate", 5), **more}
    return {
        "ClusterId": 1, "ProcId": 0, "Owner": "alice", "JobStatus": status, "Out": "_condor_stdout", "Err": "/dev/null",
        "Iwd": "/var/spool/condor/1/0/cluster1.proc0.subproc0", "JobCurrentStartDate": 5, **more,
    }  # fmt: skip


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the queue has of job 1.0, look by look; the last stays."""
    looks: list[dict[str, Any]] = []

    def ask(constraint: str) -> list[dict[str, Any]]:
        assert constraint == "(ClusterId == 1 && ProcId == 0)"
        return [looks.pop(0) if len(looks) > 1 else looks[0]] if looks else []

    monkeypatch.setattr(logs, "_board", Board(ask))
    return looks


@pytest.mark.parametrize(
    ("seen", "asked_for", "words"),
    [
        (None, {}, r"job 1\.0 is not in the queue"),
        (ad(2, Owner="bob"), {}, r"belongs to bob, not to alice"),
        (ad(1), {}, r"job 1\.0 has not started"),
        (ad(5, HoldReason="no disk", HoldReasonCode=12), {"follow": True}, r"job 1\.0 is held: no disk"),
        (ad(3, RemoveReason="by alice"), {"follow": True}, r"job 1\.0 was removed: by alice"),
        (ad(2), {"stream": "error"}, "keeps no standard error"),
        (ad(2), {"stream": "log"}, "no stream 'log'"),
        (ad(4, Iwd="/etc", Out="passwd"), {}, "outside of the queue's spool"),
        (ad(4, Out="/etc/passwd"), {}, "outside of the queue's spool"),
        (ad(4, Out="../../../job_queue.log"), {}, "outside of the queue's spool"),
        (ad(2), {"stream": ["output"]}, "no stream"),
        (ad(2), {"from": "5"}, "whole number for from"),
        (ad(2), {"from": -1}, "whole number for from"),
        (ad(2), {"attempt": 1e400}, "whole number for attempt"),
        (ad(2), {"job": "1.0; true"}, "is no job"),
        (ad(2), {"job": "²"}, "is no job"),
    ],
)
def test_logs_says_why_there_is_nothing_to_show(
    serving: Serving, queue: list[dict[str, Any]], seen: dict[str, Any] | None, asked_for: dict[str, Any], words: str
) -> None:
    if seen is not None:
        queue.append(seen)
    asked = {"job": "1.0", **asked_for}
    with client(serving).request("logs", **asked) as connection, pytest.raises(PoolError, match=words):
        list(connection.frames())


def test_a_follow_waits_for_the_start_and_takes_the_rest_from_the_spool_directory(
    serving: Serving, queue: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    starting = ad(2, JobCurrentStartExecutingDate=4)  # of the attempt before
    queue += [ad(5, HoldReasonCode=16), ad(1), starting, ad(2), ad(4, ExitCode=3)]
    monkeypatch.setattr(logs, "LOOK_AGAIN_S", 0.01)
    calls: list[tuple[str, int]] = []

    async def from_node(caller: Caller, _ad: object, _stream: str, offset: int, *_: object, **__: object) -> Any:
        calls.append(("node", offset))
        await caller.send(b"first ")
        return 6, True

    async def from_spool(caller: Caller, _ad: object, _stream: str, offset: int) -> int:
        calls.append(("spool", offset))
        await caller.send(b"rest")
        return 4

    monkeypatch.setattr(logs, "_from_node", from_node)
    monkeypatch.setattr(logs, "_from_spool", from_spool)
    with client(serving).request("logs", job="1.0", follow=True) as connection:
        frames = list(connection.frames())
    begins = b'{"attempt":5,"from":0}'
    assert frames == [(wire.ATTEMPT, begins), (wire.DATA, b"first "), (wire.DATA, b"rest")]
    assert calls == [("node", 0), ("spool", 6)]


def test_a_second_attempt_is_told_and_read_from_its_beginning(
    serving: Serving, queue: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue += [ad(2), ad(2, JobCurrentStartDate=9), ad(4, JobCurrentStartDate=9)]
    offsets: list[int] = []

    async def some(caller: Caller, _ad: object, _stream: str, offset: int, *_: object, **__: object) -> Any:
        offsets.append(offset)
        return (3, True) if len(offsets) < 3 else 0

    monkeypatch.setattr(logs, "_from_node", some)
    monkeypatch.setattr(logs, "_from_spool", some)
    with client(serving).request("logs", job="1.0", follow=True, attempt=5, **{"from": 100}) as connection:
        told = [wire.values(payload) for kind, payload in connection.frames() if kind == wire.ATTEMPT]
    assert told == [{"attempt": 5, "from": 100}, {"attempt": 9, "from": 0}]
    assert offsets == [100, 0, 3]


def test_the_last_words_of_an_attempt_that_failed_come_before_the_next_one_begins(
    serving: Serving, queue: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LOOK_AGAIN_S", 0.01)
    lost = ad(1, NumJobCompletions=1)  # the second one's node died: nothing of it has come to the spool directory
    second = {"JobCurrentStartDate": 9, "NumJobCompletions": 1}
    queue += [ad(2), ad(1, NumJobCompletions=1), ad(2, **second), lost]
    queue += [ad(2, **{**second, "JobCurrentStartDate": 12}), ad(4, JobCurrentStartDate=12, NumJobCompletions=2)]
    calls: list[tuple[str, int, int]] = []

    def reads(where: str, *lengths: int) -> Callable[..., Any]:
        left = list(lengths)

        async def read(
            _caller: Caller, seen: dict[str, Any], _stream: str, offset: int, *_: object, **__: object
        ) -> Any:
            calls.append((where, seen["JobCurrentStartDate"], offset))
            return (left.pop(0), True) if where == "node" else left.pop(0)

        return read

    monkeypatch.setattr(logs, "_from_node", reads("node", 3, 4, 5))
    monkeypatch.setattr(logs, "_from_spool", reads("spool", 6, 7))
    with client(serving).request("logs", job="1.0", follow=True) as connection:
        list(connection.frames())
    assert calls == [("node", 5, 0), ("spool", 5, 3), ("node", 9, 0), ("node", 12, 0), ("spool", 12, 5)]


def test_one_question_to_the_queue_serves_all_who_ask_meanwhile() -> None:
    constraints: list[str] = []

    def ask(constraint: str) -> list[dict[str, Any]]:
        constraints.append(constraint)
        return [{"ClusterId": 1, "ProcId": n} for n in range(3)]

    async def many() -> list[object]:
        board = Board(ask)
        return list(await asyncio.gather(*(board.look(1, n) for n in (0, 1, 1, 7))))

    assert asyncio.run(many()) == [*({"ClusterId": 1, "ProcId": n} for n in (0, 1, 1)), None]
    assert len(constraints) == 1 and constraints[0].count("ProcId") == 3


# -- the agent ----------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> agent.Place:
    """A job's scratch directory, laid out as HTCondor 25.14 does; it belongs to this test's account."""
    monkeypatch.setattr(agent, "FIRST_UID", os.getuid() - 2)  # this account is slot 2's
    scratch = tmp_path / "dir_77" / "scratch"
    scratch.mkdir(parents=True)
    (scratch / ".job.ad").write_text('ProcId = 4\nCmd = "x"\nClusterId = 12\nJobCurrentStartDate = 500\n')
    (scratch / "_condor_stdout").write_text("said")
    return agent.Place(tmp_path.name, "12.4", scratch, os.getuid(), os.getgid())


def test_a_job_is_found_by_the_account_of_its_slot_and_its_ad(place: agent.Place) -> None:
    folder = place.scratch.parents[1]
    assert agent.find(folder, "12.4", 2, 500) == agent.find(folder, "12.4", 2, 0) == place
    assert agent.find(folder, "12.4", 1, 500) is None
    assert agent.find(folder, "12.5", 2, 500) is None
    assert agent.find(folder, "12.4", 2, 502) is None  # the next attempt: its own directory is not there yet


@pytest.mark.parametrize("trick", ["link", "hard link", "pipe", "folder", "gone", "another's"])
def test_only_a_plain_file_of_the_jobs_account_is_opened(place: agent.Place, trick: str, tmp_path: Path) -> None:
    file, secret = place.scratch / "_condor_stdout", tmp_path / "secret"
    secret.write_text("secret")
    descriptor = agent.opened(place, file.name)
    assert descriptor is not None and os.read(descriptor, 9) == b"said"
    os.close(descriptor)
    file.unlink()
    if trick == "link":
        file.symlink_to(secret)
    elif trick == "hard link":
        file.hardlink_to(secret)
    elif trick == "pipe":
        os.mkfifo(file)
    elif trick == "folder":
        file.mkdir()
    elif trick == "another's":
        file.write_text("x")
        place = agent.Place(place.task, place.job, place.scratch, place.uid + 1, place.gid)
    assert agent.opened(place, file.name) is None


def test_a_file_is_followed_to_its_last_byte_after_htcondor_removed_it(
    place: agent.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = place.scratch / "_condor_stdout"

    class Writer:
        def __init__(self) -> None:
            self.sent = b""

        def write(self, data: bytes) -> None:
            self.sent += data

        async def drain(self) -> None:
            if self.sent.endswith(b"aid"):
                with file.open("ab") as f:
                    f.write(b" more")
                file.unlink()

    writer = Writer()
    monkeypatch.setattr(agent, "POLL_S", 0.01)
    question = {"file": "_condor_stdout", "from": 1, "follow": True}
    asyncio.run(agent.follow(place, question, writer))  # type: ignore[arg-type]
    frames = list(wire.Decoder().feed(writer.sent))
    assert frames[-1][0] == wire.END and b"".join(p for k, p in frames if k == wire.DATA) == b"aid more"


def test_what_runs_in_the_containers_needs_nothing_that_its_program_has_not(tmp_path: Path) -> None:
    for what, module in (("gateway", "events, logs, nodes, server, shell, agent, rooms"), ("autoscaler", "autoscale")):
        program = tmp_path / f"{what}.pyz"
        program.write_bytes(base64.b64decode(render._program(what)))
        wing = "gateway" if what == "gateway" else "scaling"
        lines = (
            f"import swarmhpc.config\nassert '.pyz' in swarmhpc.config.__file__\nfrom swarmhpc.{wing} import {module}"
        )
        command.run([sys.executable, "-c", lines], timeout_s=60, env={"PYTHONPATH": str(program)}, cwd=tmp_path)
