"""IDTOKENS: what is minted is a JWT that HTCondor's own derivation verifies, computed here in another way."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmhpc import tokens

KEY_FILE = bytes(range(1, 65))
NOW_S = 1_800_000_000


def _derived_key(key_file: bytes) -> bytes:
    """RFC 5869 with SHA-256, HMAC written out after RFC 2104 (no use of Python's hmac): as HTCondor derives it."""

    def hmac_sha256(key: bytes, message: bytes) -> bytes:
        block = key.ljust(64, b"\0") if len(key) <= 64 else hashlib.sha256(key).digest().ljust(64, b"\0")
        inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
        return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()

    words = struct.unpack(f">{len(key_file) // 4}I", key_file)
    password = struct.pack(f">{len(words)}I", *(w ^ 0xDEADBEEF for w in words))
    return hmac_sha256(hmac_sha256(b"htcondor", password * 2), b"master jwt\x01")


def _decode(part: str) -> bytes:
    assert "=" not in part, "JWT parts carry no padding (RFC 7515)"
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def mint(**changes: Any) -> tokens.Token:
    arguments: dict[str, Any] = {
        "pool": "lab",
        "identity": "alice@lab",
        "scopes": tokens.PERSON_SCOPES,
        "now": NOW_S,
        **changes,
    }
    return tokens.mint(KEY_FILE, **arguments)


def test_a_token_is_an_hs256_jwt_signed_with_the_key_that_htcondor_derives() -> None:
    head, claims, signature = mint().text.split(".")
    assert json.loads(_decode(head)) == {"alg": "HS256", "kid": "POOL"}
    wanted = hmac.digest(_derived_key(KEY_FILE), f"{head}.{claims}".encode(), "sha256")
    assert _decode(signature) == wanted


@given(st.binary(min_size=64, max_size=64))
def test_every_key_file_derives_the_same_key_in_both_implementations(key_file: bytes) -> None:
    text = tokens.mint(key_file, pool="p", identity="a@p", scopes=(), now=1).text
    body, _, signature = text.rpartition(".")
    assert _decode(signature) == hmac.digest(_derived_key(key_file), body.encode(), "sha256")


def test_another_key_gives_another_signature() -> None:
    text = tokens.mint(KEY_FILE[::-1], pool="lab", identity="alice@lab", scopes=(), now=NOW_S).text
    body, _, signature = text.rpartition(".")
    assert _decode(signature) != hmac.digest(_derived_key(KEY_FILE), body.encode(), "sha256")


@pytest.mark.parametrize(
    ("changes", "claims"),
    [
        ({}, {"iat": NOW_S, "iss": "lab", "sub": "alice@lab", "scope": "condor:/READ condor:/WRITE"}),
        ({"scopes": ()}, {"iat": NOW_S, "iss": "lab", "sub": "alice@lab"}),
        (
            {"scopes": ("READ",), "lifetime_s": 60},
            {"iat": NOW_S, "iss": "lab", "sub": "alice@lab", "scope": "condor:/READ", "exp": NOW_S + 60},
        ),
    ],
)
def test_the_claims_are_what_was_asked_for_and_nothing_else(changes: dict[str, Any], claims: dict[str, Any]) -> None:
    token = mint(**changes)
    said = json.loads(_decode(token.text.split(".")[1]))
    assert said.pop("jti") == token.token_id
    assert said == claims


def test_an_executor_may_neither_submit_nor_administer() -> None:
    assert set(tokens.EXECUTOR_SCOPES).isdisjoint({"WRITE", "ADMINISTRATOR", "ADVERTISE_SCHEDD", "CONFIG"})
    assert set(tokens.PERSON_SCOPES) == {"READ", "WRITE"}


def test_two_tokens_of_one_person_have_ids_of_their_own() -> None:
    assert mint().token_id != mint().token_id


@pytest.mark.parametrize(("lifetime_s", "expires_at"), [(None, None), (0, NOW_S), (3600, NOW_S + 3600)])
def test_what_was_minted_is_read_back_with_its_expiry(lifetime_s: int | None, expires_at: int | None) -> None:
    token = mint(lifetime_s=lifetime_s)
    assert token.expires_at == expires_at
    assert tokens.read_claims(f" {token.text}\n") == token


def test_a_signing_key_is_64_bytes_without_a_zero_byte_after_unscrambling() -> None:
    keys = [tokens.new_signing_key() for _ in range(50)]
    for key in keys:
        plain = bytes(b ^ m for b, m in zip(key, b"\xde\xad\xbe\xef" * 16, strict=True))
        assert len(key) == 64
        assert 0 not in plain, "HTCondor reads the key as a C string"
    assert len(set(keys)) == len(keys)


def _token_with(claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.c2ln"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "junk",
        "a.b",
        "a.b.c.d",
        "..",
        "e30.!!!!.x",
        "e30.é.x",
        "e30.AAAA.x",
        _token_with([]),
        _token_with("words"),
        _token_with({}),
        _token_with({"sub": "a@b", "jti": "1"}),
        _token_with({"sub": "a@b", "jti": "1", "iat": "soon"}),
        _token_with({"sub": "a@b", "jti": "1", "iat": None}),
    ],
)
def test_what_is_no_token_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="token"):
        tokens.read_claims(text)


@given(st.text() | st.tuples(st.text(), st.text(), st.text()).map(".".join))
def test_any_text_is_a_token_or_a_value_error(text: str) -> None:
    try:
        token = tokens.read_claims(text)
    except ValueError:
        return
    assert token.text == text.strip()


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "a@b", "jti": "1", "iat": float("inf")},
        {"sub": "a@b", "jti": "1", "iat": 1, "exp": "tomorrow"},
    ],
    ids=["endless iat", "exp is a word"],
)
def test_times_that_are_no_numbers_are_a_value_error(claims: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="token"):
        tokens.read_claims(_token_with(claims))
