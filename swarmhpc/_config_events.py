"""The key `on_event` of the cluster file: whom the pool tells of its events, and the checks of what is there."""

import difflib
import re
from dataclasses import dataclass
from typing import Any, Final

from swarmhpc._config_checks import WantedError
from swarmhpc.states import STATES

EXECUTOR_STATES: Final = ("appeared", "draining", "left")
"""What an event says of an executor (gateway/changes.py)."""
_ALL: Final = (*STATES, *EXECUTOR_STATES)
_LONGEST: Final = 4096
_URL: Final = re.compile(
    r"(?i:https?)://(?P<user>[^/?#\s]*@)?([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:(?P<port>[0-9]{1,5}))?([/?#][!-~]*)?"
)


@dataclass(frozen=True)
class OnEvent:
    """The hook: exactly one of `command` (for /bin/sh) and `url` is set. `states`: of which events; none: of all."""

    command: str | None = None
    url: str | None = None
    states: tuple[str, ...] = ()


def keys_of_hook(value: object) -> object:
    """The hook in its long form; a text is a URL where it begins like one, else a command."""
    if isinstance(value, str):
        return {"url": url(value)} if _like_url(value) else {"command": command(value)}
    if isinstance(value, dict) and ("command" in value) == ("url" in value):
        raise WantedError("one of the keys command and url", "for instance on_event: {command: logger -t pool}")
    if value is None or isinstance(value, dict):
        return value
    raise WantedError("a command, a URL or one of the keys command and url")


def command(value: object) -> str:
    """A text for /bin/sh."""
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST or "\0" in value:
        raise WantedError(f"a command for /bin/sh, of at most {_LONGEST} characters")
    return value


def url(value: object) -> str:
    """An address that takes HTTP requests."""
    text = value if isinstance(value, str) else ""
    found = _URL.fullmatch(text)
    if not found or len(text) > _LONGEST or not 1 <= int(found["port"] or 1) <= 65535:
        raise WantedError("an address such as https://example.org/hook")
    if found["user"]:
        raise WantedError("an address without user and password", "put what is secret into its path or query")
    return text


def states(value: object) -> tuple[str, ...]:
    """States of jobs and executors, in the order they have everywhere; none said: all."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise WantedError(f"a list of {', '.join(_ALL)}", "for instance states: [FAILED]")
    for state in value:
        if state not in _ALL:
            close = difflib.get_close_matches(str(state).lower(), [s.lower() for s in _ALL], n=1)
            meant = next((s for s in _ALL if close and s.lower() == close[0]), "")
            hint = f"did you mean {meant}?" if meant else ""
            raise WantedError(f"states out of {', '.join(_ALL)}", hint)
    return tuple(s for s in _ALL if s in value)


def to_mapping(hook: OnEvent | None) -> dict[str, Any] | None:
    """The hook as plain data, as in the file."""
    if hook is None:
        return None
    told = {"command": hook.command} if hook.url is None else {"url": hook.url}
    return {**told, "states": list(hook.states)}


def _like_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))
