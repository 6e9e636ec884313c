"""What submit descriptions ask of this machine: files, paths, commands, time and chance. The real `Sources`."""

from __future__ import annotations

import os
import platform
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from swarmhpc.adapters import classads, command
from swarmhpc.errors import CommandError, WaitTimeoutError
from swarmhpc.jobs.macros import DIRECTORY
from swarmhpc.jobs.sources import ALLOWED_ENV, SourceError, Sources

_MAX_BYTES: Final = 64 * 2**20
_COMMAND_TIMEOUT_S: Final = 600.0
_STANDARD_INPUT: Final = "-"
_SEPARATORS: Final = re.compile(r"(/+)")
_MAGIC: Final = re.compile(r"[*?\[]")
_BYTES_OR_TEXT: Final = re.compile("[^\ud800-\udc7f\udd00-\udfff]*+")  # what os.fsencode takes
_PIECE: Final = re.compile(r"\\(.)|(\*+)|(\?)|\[([!^]?)(\]?(?:\[:[a-z]+:\]|\\.|[^\]\\])*+)\]|(.)", re.DOTALL)
_IN_BRACKETS: Final = re.compile(r"\[:([a-z]+):\]|\\(.)|(.)", re.DOTALL)
_CLASSES: Final = {
    "alnum": r"A-Za-z0-9",
    "alpha": r"A-Za-z",
    "blank": r" \t",
    "digit": r"0-9",
    "lower": r"a-z",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": r"A-Z",
    "xdigit": r"0-9A-Fa-f",
}


def sources(file: Path, cwd: Path, *, run: bool) -> Sources:
    """What the description `file` (``-``: standard input) may ask of this machine, when read in the directory `cwd`.

    Commands are run only with `run`: without a shell, as HTCondor does, and for at most 600 s.
    """
    return Sources(
        read=partial(_read, cwd, file == Path(_STANDARD_INPUT)),
        match=partial(_match, cwd),
        environment=os.environ,
        allowed_env=ALLOWED_ENV,
        run=partial(_run, cwd) if run else None,
        facts=_facts(file) | {DIRECTORY: str(cwd)},
        random=secrets.randbelow,
        evaluate=classads.evaluate,
    )


def _facts(file: Path) -> dict[str, str]:
    """Macros that condor_submit defines by itself (``setup_macro_defaults`` in ``submit_utils.cpp``, 25.14).

    Those of the operating system are what the pool's access point has (seen with ``condor_submit -dry-run`` there); the
    machine that swarmhpc runs on is no part of the pool.
    """
    now = int(time.time())
    year, month, day = time.strftime("%Y %m %d", time.localtime(now)).split()
    arch = {"x86_64": "X86_64", "amd64": "X86_64", "arm64": "AARCH64"}.get(platform.machine().lower())
    return {
        "submit_file": str(file),
        "submit_time": str(now),
        "year": year,
        "month": month,
        "day": day,
        "arch": arch or platform.machine().upper() or "X86_64",
        "opsys": "LINUX",
        "opsysver": "",
        "opsysmajorver": "",
        "opsysandver": "Debian0",
        "islinux": "1",
        "iswindows": "0",
        "spool": "/var/lib/condor/spool",
    }


def _read(cwd: Path, is_standard_input_taken: bool, path: str) -> str:
    """The text of a file; ``-`` is standard input. Raises SourceError."""
    try:
        if path == _STANDARD_INPUT:
            if is_standard_input_taken:
                raise SourceError("standard input is the submit description itself; it holds no rows")
            data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            mode = (cwd / path).stat().st_mode
            if not stat.S_ISREG(mode):  # reading a pipe may never end
                raise SourceError(f"{path} is {'a directory' if stat.S_ISDIR(mode) else 'no regular file'}")
            with (cwd / path).open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as e:
        raise SourceError(f"there is no file {path}") from e
    except OSError as e:
        raise SourceError(f"{path} can't be read: {e.strerror}") from e
    except ValueError as e:  # a NUL character
        raise SourceError(f"{path!r} is no path") from e
    return _text(data, path)


def _text(data: bytes, name: str) -> str:
    if len(data) > _MAX_BYTES:
        raise SourceError(f"{name} gives more than {_MAX_BYTES // 2**20} MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        raise SourceError(f"{name} is no text in UTF-8: byte {e.start} is {data[e.start]:#04x}") from e


def _run(cwd: Path, line: str) -> str:
    """What a command prints. Raises SourceError."""
    words = _arguments(line)
    if not words:
        raise SourceError("there is no command before |")
    try:
        done = command.run(words, timeout_s=_COMMAND_TIMEOUT_S, cwd=cwd)
    except (CommandError, WaitTimeoutError) as e:
        raise SourceError(e.message) from e
    except (OSError, ValueError) as e:
        raise SourceError(f"{words[0]} can't be run: {e}") from e
    return _text(done.stdout.encode(), line)


def _arguments(line: str) -> list[str]:
    """The words of a command, as ``AppendArgsV1RawOrV2Quoted`` has them: single quotes count only inside " … "."""
    line = line.strip()
    if len(line) < 2 or line[0] + line[-1] != '""':
        return line.split()
    inner = line[1:-1].replace('""', '"')
    words = re.findall(r"(?:[^'\s]++|'(?:[^']++|'')*+')++", inner)
    return [re.sub(r"'((?:[^']++|'')*+)'", lambda quoted: quoted[1].replace("''", "'"), word) for word in words]


def _match(cwd: Path, pattern: str, files: bool, directories: bool) -> Sequence[str]:
    """The paths that match, as ``glob(3)`` with GLOB_MARK gives them to HTCondor: directories end in ``/``, in the
    order of their bytes, hidden ones only for a pattern with a dot. Raises SourceError."""
    if not pattern:
        return []
    if "\0" in pattern or not _BYTES_OR_TEXT.fullmatch(pattern):
        raise SourceError(f"{pattern!r} is no pattern")
    pieces = _SEPARATORS.split(pattern)
    paths = [""]
    for index in range(0, len(pieces), 2):
        separator = pieces[index + 1] if index + 1 < len(pieces) else ""
        paths = [f"{path}{separator}" for path in _one_step(cwd, paths, pieces[index], goes_on=bool(separator))]
    has_magic = bool(_MAGIC.search(pieces[-1]))
    found = []
    for path in paths:
        is_directory = _is_directory(cwd / path)
        # A path that is written out matches whatever it is, unless only files are wanted.
        if files if not is_directory else directories:
            found.append(f"{path}/" if is_directory else path)
        elif directories and not has_magic:
            found.append(path)
    return sorted(filter(None, found), key=os.fsencode)


def _one_step(cwd: Path, paths: list[str], piece: str, *, goes_on: bool) -> Iterator[str]:
    """Each of `paths` with one more name that matches `piece` and exists."""
    if not _MAGIC.search(piece):
        name = re.sub(r"\\(.)", r"\1", piece)
        for path in paths:
            longer = f"{path}{name}"
            if not longer or (os.path.lexists(cwd / longer) and (not goes_on or _is_directory(cwd / longer))):
                yield longer
        return
    try:
        wanted = re.compile(_expression(_bytewise(piece)), re.DOTALL | re.ASCII)
    except re.error:
        return  # [z-a] or an unknown class: no name matches
    for path in paths:
        try:
            names = [entry.name for entry in (cwd / path).iterdir()]
        except OSError:
            continue  # as glob(3) does
        if piece.startswith("."):
            names += [".", ".."]
        for name in names:
            if name.startswith(".") and not piece.startswith("."):
                continue
            if wanted.fullmatch(_bytewise(name)) and (not goes_on or _is_directory(cwd / f"{path}{name}")):
                yield f"{path}{name}"


def _bytewise(name: str) -> str:
    """One character for each byte: condor_submit matches in the C locale, where ``?`` is one byte."""
    return os.fsencode(name).decode("latin-1")


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the name is too long
        return False


def _expression(piece: str) -> str:
    """The regular expression for a name, from ``fnmatch(3)``'s pattern."""
    said = []
    for escaped, stars, one, negation, inside, other in _PIECE.findall(piece):
        if stars:
            said.append(".*")
        elif one:
            said.append(".")
        elif escaped or other:
            said.append(re.escape(escaped or other))
        else:
            said.append(f"[{'^' if negation else ''}{_brackets(inside)}]")
    return "".join(said)


def _brackets(inside: str) -> str:
    said = []
    for named, escaped, other in _IN_BRACKETS.findall(inside):
        if named:
            said.append(_CLASSES.get(named, ""))
        else:
            said.append("-" if other == "-" else re.escape(escaped or other))
    return "".join(said)
