"""People and their tokens: create, list, revoke. What is known of a token is kept in the Swarm, never the token."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass

from swarmhpc import state, tokens
from swarmhpc.adapters.docker import Engine
from swarmhpc.cluster.fleet import Fleet
from swarmhpc.errors import PoolError, UsageError

_RECORD = "token-record"
_REVOKED = "token-revoked"
NAME = re.compile(r"[a-z][a-z0-9._-]{0,30}")


@dataclass(frozen=True)
class Record:
    """What the Swarm remembers of a token. Times are seconds since the epoch; `expires_at` None: never."""

    person: str
    token_id: str
    issued_at: int
    expires_at: int | None
    revoked_at: int | None


def check_name(person: str) -> None:
    """Raises UsageError unless `person` can be an account."""
    if not NAME.fullmatch(person):
        raise UsageError(
            f"name {person!r}: wanted a lower-case letter, then at most 30 letters, digits, dots, - or _",
            hint="swarmhpc token create alice",
        )


def create(fleet: Fleet, manager: Engine, pool: str, person: str, *, lifetime_s: int | None) -> tokens.Token:
    """A token for `person`, who may use it at once: nothing is restarted.

    The account is made on the access point first (its uid stays the same for ever, so spooled files of two people
    never mix), then the token is signed inside the central manager, which mounts the key; only its record, without
    the token, is kept in the Swarm.
    """
    check_name(person)
    at, container = fleet.daemon(manager, pool, state.ACCESS_POINT)
    code, _, err = at.execute(container, ["/usr/local/lib/swarmhpc/add-user", person])
    if code != 0:
        raise UsageError(f"no account for {person!r}: {err.strip()}", hint="choose another name")
    argv = ["condor_token_create", "-identity", f"{person}@{pool}"]
    for scope in tokens.PERSON_SCOPES:
        argv += ["-authz", scope]
    if lifetime_s is not None:
        argv += ["-lifetime", str(lifetime_s)]
    at, container = fleet.daemon(manager, pool, state.CENTRAL_MANAGER)
    code, out, err = at.execute(container, argv)
    if code != 0:
        raise PoolError(f"the central manager could not sign a token for {person}: {(err or out).strip()}")
    token = tokens.read_claims(out.strip())
    record = {"person": person, "issued_at": token.issued_at, "expires_at": token.expires_at}
    manager.config_create(
        f"{pool}_token-{token.token_id}",
        json.dumps(record).encode(),
        {state.LABEL_CLUSTER: pool, state.LABEL_KIND: _RECORD},
    )
    return token


def listing(engine: Engine, pool: str) -> list[Record]:
    """Every token given out, newest last."""
    stored = engine.configs(pool)
    cut = _revocations(engine, pool)
    records = []
    for s in stored:
        if s.labels.get(state.LABEL_KIND) == _RECORD:
            data = json.loads(s.data)
            at = cut.get(data["person"], 0)
            revoked = at if data["issued_at"] <= at else None
            token_id = s.name.rpartition("token-")[2]
            records.append(Record(data["person"], token_id, data["issued_at"], data["expires_at"], revoked))
    return sorted(records, key=lambda r: (r.issued_at, r.person))


def revoke(engine: Engine, pool: str, person: str) -> int:
    """Marks every token of `person` issued until now as revoked; how many were known. The daemons learn it from
    their configuration: run `up.refresh` afterwards.

    By person and time, not by token: with a token one can have HTCondor sign further ones that nobody has a record of.
    """
    known = [r for r in listing(engine, pool) if r.person == person and r.revoked_at is None]
    if not known:
        raise UsageError(f"{person} has no valid token in pool {pool}", hint="swarmhpc token list")
    now = max([int(time.time()), *(r.issued_at for r in known)])
    engine.config_create(
        f"{pool}_revoked-{state.short_hash(person, str(now))}",
        json.dumps({"person": person, "until": now}).encode(),
        {state.LABEL_CLUSTER: pool, state.LABEL_KIND: _REVOKED},
    )
    return len(known)


def revocation_expression(engine: Engine, pool: str) -> str:
    """SEC_TOKEN_REVOCATION_EXPR (HTCondor 25 manual): true for a token that is no longer good. Empty: none revoked."""
    terms = [f'(sub =?= "{p}@{pool}" && iat <= {at})' for p, at in sorted(_revocations(engine, pool).items())]
    return " || ".join(terms)


def _revocations(engine: Engine, pool: str) -> dict[str, int]:
    latest: dict[str, int] = {}
    for s in engine.configs(pool):
        if s.labels.get(state.LABEL_KIND) == _REVOKED:
            data = json.loads(s.data)
            latest[data["person"]] = max(latest.get(data["person"], 0), int(data["until"]))
    return latest
