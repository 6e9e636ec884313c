"""What a person's machine keeps of a pool: addresses, pool name, token. Nothing else is stored anywhere on it.

Layout: `$XDG_CONFIG_HOME/swarmhpc/<pool>/` (0700) with `context.json` and `tokens.d/token` (0600). HTCondor reads every
file of a token directory, so the token has one to itself.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarmhpc.errors import NoPoolError, SwarmHpcError

if TYPE_CHECKING:
    from swarmhpc.config import Machine


@dataclass(frozen=True)
class Context:
    """How to reach one pool as one person.

    `others`: further nodes where the pool answers, asked when `address` does not. `managers`: how an administrator's
    machine reaches the Swarm; nothing on a person's.
    """

    pool: str
    address: str
    central_manager_port: int
    access_point_port: int
    person: str
    others: tuple[str, ...] = ()
    managers: tuple[Machine, ...] = ()

    @property
    def token_folder(self) -> Path:
        """The folder with the one token file."""
        return home() / self.pool / "tokens.d"

    @property
    def token_file(self) -> Path:
        """The token (0600)."""
        return self.token_folder / "token"


def home() -> Path:
    """The folder of all contexts."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "swarmhpc"


def save(context: Context, token: str) -> None:
    """Writes context and token, readable by their owner only."""
    folder = home() / context.pool
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        context.token_folder.mkdir(exist_ok=True, mode=0o700)
        write_private(context.token_file, token + "\n")
        write_private(folder / "context.json", json.dumps(asdict(context), indent=2) + "\n")
    except OSError as e:
        raise SwarmHpcError(f"{folder}: the context can't be written: {e.strerror}") from e


def write_private(path: Path, text: str) -> None:
    """Writes a file that was never, not for a moment, readable by others; whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def load(pool: str | None = None) -> Context:
    """The context of `pool`, or of $SWARMHPC_POOL, or the only one there is.

    Raises NoPoolError where there is none, or several and none was named.
    """
    wanted = pool or os.environ.get("SWARMHPC_POOL")
    known = sorted(p.parent.name for p in home().glob("*/context.json")) if home().is_dir() else []
    if wanted is None:
        if not known:
            raise NoPoolError(
                f"no pool is known on this machine (no context under {home()})",
                hint="make one here: swarmhpc up; or ask your pool's administrator for a token",
            )
        if len(known) > 1:
            raise NoPoolError(
                f"several pools are known here: {', '.join(known)}", hint=f"choose one: swarmhpc --pool {known[0]} …"
            )
        wanted = known[0]
    path = home() / wanted / "context.json"
    if not path.is_file():
        raise NoPoolError(
            f"pool {wanted!r} is not known on this machine; known: {', '.join(known) or 'none'}",
            hint="swarmhpc up   (on the pool's manager writes the context again)",
        )
    try:
        return _read(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        raise NoPoolError(f"{path} can't be read as a context: {e}", hint=f"rm -r {path.parent} && swarmhpc up") from e


def _read(data: dict[str, Any]) -> Context:
    managers = tuple(map(_machine, data.pop("managers", ())))
    return Context(**{**data, "others": tuple(data.get("others", ()))}, managers=managers)


def _machine(m: Mapping[str, Any]) -> Machine:
    from swarmhpc.config import Machine, Ssh  # a person's own context has none, and need not load it

    return Machine(m["name"], m["address"], m["role"], Ssh(**m["ssh"]), tuple((k, v) for k, v in m["labels"]))


def forget(pool: str) -> None:
    """Removes the context of `pool`, if there is one."""
    shutil.rmtree(home() / pool, ignore_errors=True)


def snapshot(pool: str) -> tuple[Context, str] | None:
    """The context of `pool` and its token, to be restored when a new one turns out wrong; None where there is none."""
    try:
        known = load(pool)
        return known, known.token_file.read_text().strip()
    except (NoPoolError, OSError):
        return None


def restore(pool: str, before: tuple[Context, str] | None) -> None:
    """Puts back what `snapshot` saw."""
    forget(pool)
    if before is not None:
        save(*before)
