"""HTCondor IDTOKENS, minted in memory. The signing key lives in a Swarm secret and in the containers that mount it;
here it exists only while a pool is being made."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

EXECUTOR_SCOPES = ("ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ", "DAEMON")
"""What an executor's token allows: advertise itself and talk to the pool's daemons. Not submit, not administer."""
PERSON_SCOPES = ("READ", "WRITE")
"""What a person's token allows: look at the pool, and act on their own jobs."""


@dataclass(frozen=True)
class Token:
    """A minted token. `text` is the secret; the rest may be shown."""

    text: str
    identity: str
    token_id: str
    issued_at: int
    expires_at: int | None


def new_signing_key() -> bytes:
    """A fresh POOL signing key as HTCondor stores it on disk (64 random bytes, no zero byte after unscrambling)."""
    return _scramble(bytes(secrets.choice(range(1, 256)) for _ in range(64)))


def mint(
    key_file: bytes,
    *,
    pool: str,
    identity: str,
    scopes: Sequence[str],
    now: int,
    lifetime_s: int | None = None,
) -> Token:
    """Signs a token as `condor_token_create` does.

    Format: HTCondor 25.14, src/condor_io/condor_auth_passwd.cpp (Condor_Auth_Passwd::generate_token): an HS256 JWT
    whose key is HKDF-SHA256(salt "htcondor", info "master jwt") of the unscrambled key file; the key POOL is used
    twice over. `identity` is `name@pool`.
    """
    raw = _scramble(key_file)
    key = _hkdf(raw + raw, salt=b"htcondor", info=b"master jwt")
    token_id = secrets.token_hex(16)
    claims: dict[str, object] = {"iat": now, "iss": pool, "jti": token_id, "sub": identity}
    if scopes:
        claims["scope"] = " ".join(f"condor:/{s}" for s in scopes)
    expires_at = None if lifetime_s is None else now + lifetime_s
    if expires_at is not None:
        claims["exp"] = expires_at
    body = _b64(_json({"alg": "HS256", "kid": "POOL"})) + b"." + _b64(_json(claims))
    text = body + b"." + _b64(hmac.new(key, body, hashlib.sha256).digest())
    return Token(text.decode(), identity, token_id, now, expires_at)


def read_claims(text: str) -> Token:
    """What a token says of itself, unverified. Raises ValueError where it is no token."""
    parts = text.strip().split(".")
    if len(parts) != 3:
        raise ValueError("a token has three parts with dots between them")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires_at = claims.get("exp")
        return Token(
            text.strip(),
            str(claims["sub"]),
            str(claims["jti"]),
            int(claims["iat"]),
            None if expires_at is None else int(expires_at),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as e:
        raise ValueError("its middle part is not the claims of an HTCondor token") from e


def _scramble(data: bytes) -> bytes:
    """HTCondor's simple_scramble (src/condor_utils/secure_file.cpp): XOR, its own inverse."""
    mask = b"\xde\xad\xbe\xef"
    return bytes(b ^ mask[i % 4] for i, b in enumerate(data))


def _hkdf(secret: bytes, *, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256 and one block of output (32 bytes)."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
