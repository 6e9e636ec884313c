"""What a submit description may ask of the machine it is read on.

Reading a description asks for files, directory listings, the environment, commands and chance. All of it comes in
through `Sources`, so that the reader itself does no I/O, and a test says what the machine looks like.
`machine.sources` makes the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

# What $ENV may show when nobody said otherwise: names that hold no secrets.
ALLOWED_ENV: Final = frozenset({"HOME", "USER", "LOGNAME", "PWD", "SHELL", "LANG", "TZ", "HOSTNAME", "TMPDIR"})


Evaluated = tuple[int | float | bool | str | None, str]
"""A value (None: undefined, error, list or record), and how HTCondor writes it."""


class SourceError(Exception):
    """The machine could not give what was asked for; `message` is words for a finding."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def _no_value(_expression: str) -> Evaluated | None:
    return None


@dataclass(frozen=True)
class Sources:
    """What a description may ask of the machine it is read on.

    `read` gives the text of a file, by its path as written (relative: to the current directory).
    `match` takes a glob pattern and whether files and whether directories are wanted, and gives sorted paths as
    HTCondor would. `run` runs a shell command and gives its standard output; None: commands are not allowed, the
    default. These three raise SourceError.
    `facts` holds macros that HTCondor itself defines, lower-case name -> value (submit_file, submit_time, arch, …).
    `evaluate` gives the value of a ClassAd expression without attributes (adapters.classads); None: no expression.
    `random(n)` gives a number from 0 to n-1, for $RANDOM_CHOICE and $RANDOM_INTEGER.
    """

    read: Callable[[str], str]
    match: Callable[[str, bool, bool], Sequence[str]]
    environment: Mapping[str, str]
    allowed_env: frozenset[str]
    run: Callable[[str], str] | None
    facts: Mapping[str, str]
    random: Callable[[int], int]
    evaluate: Callable[[str], Evaluated | None] = _no_value


def _read_nothing(path: str) -> str:
    raise SourceError(f"{path} can't be read here")


def _match_nothing(_pattern: str, _files: bool, _directories: bool) -> Sequence[str]:
    return ()


def _first(_choices: int) -> int:
    return 0


# Reads nothing, finds nothing, knows nothing.
NOTHING: Final = Sources(
    read=_read_nothing,
    match=_match_nothing,
    environment=MappingProxyType({}),
    allowed_env=frozenset(),
    run=None,
    facts=MappingProxyType({}),
    random=_first,
)
