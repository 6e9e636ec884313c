"""Who a token belongs to: HTCondor says, as it does for every other command."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Final

from swarmhpc import tokens
from swarmhpc.adapters import processes
from swarmhpc.errors import AuthenticationError, PoolUnreachableError

MEMORY: Final = Path("/dev/shm/swarmhpc")
"""A folder in memory, of root's alone: certificate, key, tokens while they are looked at."""
_SAID = re.compile(r"^Remote Mapping: +(\S+)\nAuthorized: +TRUE$", re.MULTILINE)
_AWAY = re.compile(r"CEDAR:6001|SECMAN:2011|failed to make connection|locate")
_ALIEN = re.compile(r"[^\x21-\x7e]")


async def who_is(token: str, pool: str, *, may: str, memory: Path = MEMORY) -> str:
    """The name (without `@POOL`) whose token this is, if the queue's daemon grants it `may`, such as WRITE.

    Asked with condor_ping (25.14), as the token's bearer, of the schedd of this container: signature, expiry,
    revocation and authorisation are HTCondor's to judge. Raises AuthenticationError, PoolUnreachableError.

    With no token that fits, condor_ping would go on and prove itself with the signing key of this container, as
    `condor@password`: it is told of no such key, and the identity must be the one that the token claims.
    """
    try:
        claimed = tokens.read_claims(token).identity
    except ValueError as e:
        raise AuthenticationError(f"that is no token: {e}") from e
    if _ALIEN.search(token):
        raise AuthenticationError("that is no token")
    with tempfile.TemporaryDirectory(dir=memory) as folder:  # 0700
        file = Path(folder) / "token"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(token + "\n")
        settings = {
            "CONDOR_CONFIG": "/etc/condor/condor_config",
            "_CONDOR_SEC_TOKEN_DIRECTORY": folder,
            "_CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY": folder,
            "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
            "_CONDOR_SEC_PASSWORD_DIRECTORY": f"{folder}/none",
            "_CONDOR_SEC_TOKEN_POOL_SIGNING_KEY_FILE": f"{folder}/none",
        }
        try:
            code, said = await processes.output(
                ["condor_ping", "-type", "schedd", "-verbose", may], timeout_s=20, env=settings
            )
        except TimeoutError as e:
            raise PoolUnreachableError("the queue does not answer within 20 s", hint="try again") from e
    found = _SAID.search(said)
    if code == 0 and found and found[1] == claimed:
        name, _, domain = claimed.partition("@")
        if domain == pool:
            return name
    if "AUTHENTICATE" not in said and _AWAY.search(said):
        raise PoolUnreachableError("the queue does not answer (it may be starting)", hint="try again")
    raise AuthenticationError("the queue does not accept this token, or does not let it submit")
