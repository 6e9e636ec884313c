"""A person's side of the gateway: output of jobs while they run, shells, events.

The gateway's address and its certificate's fingerprint come from the schedd over HTCondor's own authentication; the
token is sent only when the certificate that is shown is that one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import ssl
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from swarmhpc import wire
from swarmhpc.errors import AuthenticationError, PoolError, PoolUnreachableError

if TYPE_CHECKING:
    from swarmhpc.adapters.condor import Pool

PATIENCE_S: Final = 120.0
"""How long an access point that has gone is waited for, where something was under way."""
CONNECT_S: Final = 10.0
SILENT_S: Final = 45.0
"""The gateway says at least every 15 s that it is there."""
_MOST_UNSENT: Final = 256 * 1024


class Connection:
    """One request that the gateway has accepted. Close it, or use it in `with`."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the request; may be called from another thread."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        """Kind and payload of each frame (wire.py), without those that only say that the gateway is alive, until the
        last, which is left out too. Raises PoolError with the gateway's words, and PoolUnreachableError where the
        connection breaks before the last."""
        decoder = wire.Decoder()
        while True:
            try:
                data = self.sock.recv(wire.LONGEST_FRAME)
                if not data:
                    raise _lost("it closed the connection")
                for kind, payload in decoder.feed(data):
                    if kind == wire.END:
                        raised(wire.values(payload))
                        return
                    if kind != wire.ALIVE:
                        yield kind, payload
            except (OSError, ValueError) as e:
                raise _lost(str(e)) from e


class Gateway:
    """The gateway of a pool, as the person of its context. Methods raise PoolError (with the gateway's own words),
    PoolUnreachableError, AuthenticationError."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._where = ""

    def logs(
        self,
        job: str,
        *,
        stream: Literal["output", "error"] = "output",
        follow: bool = False,
        on_again: Callable[[], None] | None = None,
    ) -> Iterator[bytes]:
        """What job `12.0` has written so far to a standard stream; with `follow` until it has ended.

        A job that has not started is waited for with `follow`. When the access point restarts, `follow` goes on where
        it was, with 120 s of patience. A job that begins again (its node died, a retry) begins its output again, and
        `on_again` is called before. Raises PoolError where the job is not there, not this person's, held, removed, or
        keeps no such stream.
        """
        attempt = offset = 0
        lost_at: float | None = None
        while True:
            try:
                asked = {"job": job, "stream": stream, "follow": follow, "attempt": attempt, "from": offset}
                with self.request("logs", **asked) as connection:
                    for kind, payload in connection.frames():
                        lost_at = None
                        if kind == wire.ATTEMPT:
                            begins = wire.values(payload)
                            if on_again is not None and attempt not in (0, int(begins["attempt"])):
                                on_again()
                            attempt, offset = int(begins["attempt"]), int(begins["from"])
                        elif kind == wire.DATA:
                            offset += len(payload)
                            yield payload
                    return
            except PoolUnreachableError:
                lost_at = lost_at or time.monotonic()
                if not follow or time.monotonic() - lost_at > PATIENCE_S:
                    raise
                time.sleep(0.5)

    def shell(self, job: str, command: Sequence[str] = (), *, stdin: int = 0, stdout: int = 1, stderr: int = 2) -> int:
        """Runs `command` (none: a shell) in the container of running job `12.0`, a plain job's in its scratch directory
        as its account; gives its exit code.

        `stdin` … are file descriptors. Where the first two are a terminal, the command gets one too, of the same size;
        this one passes every key on meanwhile. Raises PoolError where the job is not running.
        """
        has_terminal = os.isatty(stdin) and os.isatty(stdout)
        size = os.get_terminal_size(stdout) if has_terminal else os.terminal_size((80, 24))
        asked = {
            "job": job, "command": list(command), "tty": has_terminal, "rows": size.lines, "columns": size.columns,
            "term": os.environ.get("TERM", "dumb"),
        }  # fmt: skip
        with self.request("shell", **asked) as connection, _raw(stdin if has_terminal else None):
            return _Shell(connection.sock, stdin, stdout, stderr, has_terminal=has_terminal, size=size).run()

    def request(self, verb: str, **values: Any) -> Connection:
        """Connects and asks. Raises PoolError with the gateway's words where it refuses."""
        for attempt in (1, 2):
            asked_before = bool(self._where)
            self._where = self._where or self._ask_where()
            try:
                return self._request(verb, values)
            except PoolUnreachableError:
                self._where = ""  # another container has another certificate
                if not asked_before or attempt == 2:
                    raise
        raise AssertionError

    def _ask_where(self) -> str:
        where = self._pool.gateway()
        if not where:
            raise PoolError(f"pool {self._pool.pool} has no gateway", hint="swarmhpc up   (on the pool's manager)")
        return where

    def _request(self, verb: str, values: dict[str, Any]) -> Connection:
        port, _, fingerprint = self._where.partition(" sha256:")
        address = self._pool.address
        try:
            line = wire.line({"version": wire.VERSION, "verb": verb, "token": self._pool.token(), **values})
        except ValueError as e:
            raise PoolError(str(e)) from e
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # the fingerprint says more
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            plain = socket.create_connection((address, int(port)), timeout=CONNECT_S)
            sock = tls.wrap_socket(plain)
        except (OSError, ValueError) as e:
            raise PoolUnreachableError(
                f"the gateway of pool {self._pool.pool} does not answer at {address}:{port} ({e})",
                hint="swarmhpc status; swarmhpc doctor   (on the pool's manager; swarmhpc up mends what is missing)",
            ) from e
        connection = Connection(sock)
        try:
            _check(sock, fingerprint, f"{address}:{port}")
            sock.settimeout(SILENT_S)
            sock.sendall(line)
            raised(wire.values(_line(sock)))
        except (OSError, ValueError) as e:
            connection.close()
            raise _lost(str(e)) from e
        except BaseException:
            connection.close()
            raise
        return connection


def raised(answer: dict[str, Any]) -> None:
    """Raises what an answer or a last frame says went wrong, if anything."""
    if "error" not in answer:
        return
    kinds: dict[str, type[PoolError]] = {"authentication": AuthenticationError, "unreachable": PoolUnreachableError}
    kind = kinds.get(str(answer.get("code")), PoolError)
    raise kind(str(answer["error"]), hint=str(answer.get("hint") or ""))


def _check(sock: ssl.SSLSocket, fingerprint: str, where: str) -> None:
    shown = hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()
    if shown != fingerprint:
        raise PoolUnreachableError(
            f"{where} is not the pool's gateway: it shows another certificate than the queue vouches for; the token was"
            " not sent",
            hint="try again (the access point may be starting); swarmhpc doctor   (on the pool's manager)",
        )


def _lost(why: str) -> PoolUnreachableError:
    return PoolUnreachableError(f"the connection to the gateway broke ({why})", hint="try again; swarmhpc status")


def _line(sock: ssl.SSLSocket) -> bytes:
    """The answer, byte by byte: what follows it is frames."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte or len(line) >= wire.LONGEST_LINE:
            raise _lost("it closed the connection")
        line += byte
    return bytes(line)


@contextlib.contextmanager
def _raw(terminal: int | None) -> Iterator[None]:
    """Lets a terminal pass every key on, until the end."""
    if terminal is None:
        yield
        return
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


class _Shell:
    """Both directions of a shell, in one thread: an SSL connection must not be read and written by two."""

    def __init__(
        self,
        sock: ssl.SSLSocket,
        stdin: int,
        stdout: int,
        stderr: int,
        *,
        has_terminal: bool,
        size: os.terminal_size,
    ) -> None:
        sock.setblocking(False)
        self._sock, self._stdin, self._outputs = sock, stdin, {wire.DATA: stdout, wire.ERRORS: stderr}
        self._has_terminal, self._size = has_terminal, size
        self._decoder = wire.Decoder()
        self._unsent = bytearray()
        self._stdin_open = True
        self._heard_at = time.monotonic()

    def run(self) -> int:
        """The command's exit code."""
        while True:
            sock = self._sock.fileno()
            reads = [self._stdin] if self._stdin_open and len(self._unsent) < _MOST_UNSENT else []
            ready, _, _ = select.select([sock, *reads], [sock] if self._unsent else [], [], 0.5)
            if self._stdin in ready:
                self._read_input()
            if self._has_terminal:
                self._tell_size()
            self._send()
            code = self._receive()
            if code is not None:
                return code
            if time.monotonic() - self._heard_at > SILENT_S:
                raise _lost(f"silent for {SILENT_S:.0f} s")

    def _read_input(self) -> None:
        data = os.read(self._stdin, wire.LONGEST_FRAME)
        self._stdin_open = bool(data)
        self._unsent += wire.frame(wire.INPUT, data) if data else wire.frame(wire.INPUT_ENDS)

    def _tell_size(self) -> None:
        size = os.get_terminal_size(self._outputs[wire.DATA])
        if size != self._size:
            self._size = size
            self._unsent += wire.frame(wire.SIZE, {"rows": size.lines, "columns": size.columns})

    def _send(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as e:
            raise _lost(str(e)) from e

    def _receive(self) -> int | None:
        try:
            while data := self._sock.recv(wire.LONGEST_FRAME):
                self._heard_at = time.monotonic()
                for kind, payload in self._decoder.feed(data):
                    if kind == wire.END:
                        last = wire.values(payload)
                        raised(last)
                        return int(last.get("exit_code", 1))
                    if kind in self._outputs:
                        _write(self._outputs[kind], payload)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except (OSError, ValueError) as e:
            raise _lost(str(e)) from e
        raise _lost("it closed the connection")


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
