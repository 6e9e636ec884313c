"""Runs the administrator's hook (`on_event`), as an account that may do nothing, or sends it an HTTP request."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from swarmhpc.errors import SwarmHpcError

ACCOUNT: Final = 6100
"""The uid and gid of commands: nobody's in the image; people's begin with 6101 (images/pool/add-user)."""
# util-linux; no account can win back what is dropped here.
_AS_NOBODY: Final = (
    *("setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups", "--no-new-privs"),
    *("--bounding-set=-all", "--inh-caps=-all"),
)


def run_command(text: str, body: bytes, *, timeout_s: float, prefix: Sequence[str] = _AS_NOBODY) -> None:
    """Runs `text` in /bin/sh with `body` on its standard input. Raises SwarmHpcError unless it ends with 0 in time.

    What it starts in the background ends with it.
    """
    import subprocess

    # Not `-c text`: arguments are there for all to see, and the text may hold a secret.
    script = os.memfd_create("on_event")
    try:
        os.write(script, text.encode())
        process = subprocess.Popen(
            [*prefix, "/bin/sh", f"/dev/fd/{script}"],
            pass_fds=(script,),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"},
            start_new_session=True,
        )
    except OSError as e:
        raise SwarmHpcError(f"the command can't be started: {e.strerror or e}") from e
    finally:
        os.close(script)
    said = bytearray()

    def listen() -> None:
        assert process.stderr is not None
        while part := os.read(process.stderr.fileno(), 4096):
            said.extend(part)
            del said[:-400]

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert process.stdin is not None
    # An event is smaller than a pipe's buffer: this never waits.
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(body)
    late = False
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        late, code = True, -1
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        listener.join(5)
    if late:
        raise SwarmHpcError(f"the command was still running after {timeout_s:g} s and was ended")
    if code != 0:
        words = " ".join(said.decode(errors="replace").split())
        raise SwarmHpcError(f"the command ended with code {code}" + (f": {words}" if words else ""))


def post(url: str, body: bytes, *, timeout_s: float) -> None:
    """Sends `body` as JSON. Raises SwarmHpcError unless it is answered with 2xx; no redirection is followed.

    The error never holds more of the address than `place` tells.
    """
    import urllib.error
    import urllib.request

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    request = urllib.request.Request(
        url, body, {"Content-Type": "application/json", "User-Agent": "swarmhpc"}, method="POST"
    )
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=timeout_s):
            pass
    except urllib.error.HTTPError as e:
        e.close()
        raise SwarmHpcError(f"{place(url)} answered {e.code}") from None
    except (OSError, ValueError) as e:  # URLError and time-outs are OSErrors; http.client's are ValueErrors or OSErrors
        reason = getattr(e, "reason", e)
        raise SwarmHpcError(f"{place(url)} can't be reached: {type(reason).__name__}") from None


def place(url: str) -> str:
    """An address without what may be secret in it: user, path and query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"
