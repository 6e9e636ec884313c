"""What the gateway and its clients say to each other, inside TLS.

One request a connection. The client sends one line of JSON (`version`, `verb`, `token`, and what the verb needs); the
answer is one line, `{"ok": true}` or `{"error": message, "hint": …, "code": …}`, and then frames: a byte that tells the
kind, four bytes of length (big-endian), the payload. The last frame is an END: a connection that ends without one has
broken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

VERSION: Final = 1
LONGEST_LINE: Final = 65_536
"""Bytes of a request or an answer."""
LONGEST_FRAME: Final = 65_536
"""Bytes of a frame's payload."""
HEADER: Final = 5

DATA: Final = b"D"  # standard output, or what else a verb is about
ERRORS: Final = b"S"  # a shell's standard error, where it has no terminal
INPUT: Final = b"I"  # a shell's standard input
INPUT_ENDS: Final = b"C"
SIZE: Final = b"W"  # of a shell's terminal: {"rows": …, "columns": …}
ATTEMPT: Final = b"A"  # what follows is output of this attempt of the job: {"attempt": …, "from": byte}
ALIVE: Final = b"P"  # nothing new
END: Final = b"E"  # {…} or {"error": …, "hint": …, "code": …}
KINDS: Final = frozenset((DATA, ERRORS, INPUT, INPUT_ENDS, SIZE, ATTEMPT, ALIVE, END))


def line(values: dict[str, Any]) -> bytes:
    """A request or an answer. Raises ValueError where it is longer than LONGEST_LINE."""
    text = json.dumps(values, separators=(",", ":")).encode() + b"\n"
    if len(text) > LONGEST_LINE:
        raise ValueError(f"a request of {len(text)} bytes; the most is {LONGEST_LINE}")
    return text


def values(text: bytes) -> dict[str, Any]:
    """What a line or the payload of a frame says. Raises ValueError where it is no JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ValueError("wanted JSON") from e
    if isinstance(found, dict):
        return found
    raise ValueError(f"wanted a JSON object, saw {type(found).__name__}")


def frame(kind: bytes, payload: bytes | dict[str, Any] = b"") -> bytes:
    """One frame. `payload`: at most LONGEST_FRAME bytes, or what becomes JSON."""
    if isinstance(payload, dict):
        payload = json.dumps(payload, separators=(",", ":")).encode()
    if len(payload) > LONGEST_FRAME:
        raise ValueError(f"a frame of {len(payload)} bytes; the most is {LONGEST_FRAME}")
    return kind + len(payload).to_bytes(4, "big") + payload


def frames(kind: bytes, data: bytes) -> Iterator[bytes]:
    """Data of any length as frames."""
    for start in range(0, len(data), LONGEST_FRAME):
        yield frame(kind, data[start : start + LONGEST_FRAME])


def header(data: bytes) -> tuple[bytes, int]:
    """Kind and payload length of the frame that begins with these five bytes. Raises ValueError."""
    kind, length = data[:1], int.from_bytes(data[1:HEADER], "big")
    if kind not in KINDS or length > LONGEST_FRAME:
        raise ValueError(f"no frame of this protocol begins with {data[:HEADER]!r}")
    return kind, length


class Decoder:
    """Frames out of bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every frame that is now whole. Raises ValueError for what is no frame."""
        self._rest += data
        start = 0
        while len(self._rest) - start >= HEADER:
            kind, length = header(self._rest[start : start + HEADER])
            end = start + HEADER + length
            if len(self._rest) < end:
                break
            payload = self._rest[start + HEADER : end]
            start = end
            yield kind, payload
        self._rest = self._rest[start:]
