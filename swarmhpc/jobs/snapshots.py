"""Remembers what was set when: thousands of queue statements see the names of their moment, without copies. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Final

from swarmhpc.jobs.findings import Value

ATTRIBUTE: Final = "my."  # how the names of job attributes begin


class History:
    """All values that names ever had, by lower-case name; those of job attributes begin with ``my.``."""

    def __init__(self) -> None:
        self.version = 0
        self._values: dict[str, tuple[list[int], list[Value]]] = {}
        self._keys: tuple[list[str], list[str]] = ([], [])  # of commands, of attributes: in the order of the file
        self._since: tuple[list[int], list[int]] = ([], [])  # the version with which each of these was new
        self._spelling: dict[str, str] = {}

    def set(self, key: str, spelling: str, value: Value) -> None:
        """Give `key` a value from now on. `spelling` is how the file writes it, without any prefix."""
        self.version += 1
        if key not in self._values:
            kind = key.startswith(ATTRIBUTE)
            self._values[key] = ([], [])
            self._keys[kind].append(key)
            self._since[kind].append(self.version)
            self._spelling[key] = spelling
        versions, values = self._values[key]
        versions.append(self.version)
        values.append(value)

    def get(self, key: str, version: int | None = None) -> Value | None:
        """The value of `key`, now or when `version` was the newest."""
        entry = self._values.get(key)
        if entry is None:
            return None
        versions, values = entry
        if version is None or versions[-1] <= version:
            return values[-1]
        before = bisect_right(versions, version)
        return values[before - 1] if before else None

    def spelling(self, key: str) -> str:
        """`key` as the file wrote it first, without any prefix."""
        return self._spelling[key]

    def keys(self, version: int, *, attributes: bool) -> list[str]:
        """The names that had a value at `version`."""
        return self._keys[attributes][: bisect_right(self._since[attributes], version)]

    def count(self, version: int, *, attributes: bool) -> int:
        """How many these are."""
        return bisect_right(self._since[attributes], version)


class Commands(Mapping[str, Value]):
    """The commands and macros of one moment, by lower-case name."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._version = history.version

    def __getitem__(self, key: str) -> Value:
        value = None if key.startswith(ATTRIBUTE) else self._history.get(key, self._version)
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._history.keys(self._version, attributes=False))

    def __len__(self) -> int:
        return self._history.count(self._version, attributes=False)


class Attributes(Mapping[str, Value]):
    """The job attributes of one moment, by name as the file spells it, in any case."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._version = history.version

    def __getitem__(self, name: str) -> Value:
        value = self._history.get(ATTRIBUTE + name.lower(), self._version)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return map(self._history.spelling, self._history.keys(self._version, attributes=True))

    def __len__(self) -> int:
        return self._history.count(self._version, attributes=True)


class Definitions(Mapping[str, str]):
    """The texts of one moment, of commands and of attributes (``my.name``), by lower-case name: for macros."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._version = history.version

    def __getitem__(self, key: str) -> str:
        value = self._history.get(key, self._version)
        if value is None:
            raise KeyError(key)
        return value.text

    def __iter__(self) -> Iterator[str]:
        for attributes in (False, True):
            yield from self._history.keys(self._version, attributes=attributes)

    def __len__(self) -> int:
        return sum(self._history.count(self._version, attributes=a) for a in (False, True))
