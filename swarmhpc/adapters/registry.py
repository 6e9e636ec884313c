"""What a tag of a docker image names now: the digest that its registry gives for it.

Two requests of the OCI distribution specification 1.1 ("Checking if content exists in the registry") and the token
flow that registries share (distribution, docs/spec/auth/token.md), with nothing but the standard library. Libraries
that do this were looked at: `oras` 0.2.43 has no timeout, sleeps between attempts and reads the person's docker
credentials; `python-dxf` 12.1.1 fetches whole manifests and has no deadline for all of it; the engine's own
``/distribution/NAME/json`` needs an engine, and a person who submits has none.

No credentials are read or sent: an image that wants a login stays unresolved. Certificates are checked against this
machine's own (SSL_CERT_FILE counts, docker's certs.d does not). HTTPS_PROXY and NO_PROXY are honoured.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from typing import IO, Final

from swarmhpc.errors import SwarmHpcError

_ACCEPT: Final = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)
_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")
_LOOPBACK: Final = re.compile(r"(?:localhost|127\.[0-9]+\.[0-9]+\.[0-9]+)(?::[0-9]+)?")  # docker's insecure ones
_TOKEN: Final = re.compile("[!-~]+")
_PARAMETER: Final = re.compile(r'([A-Za-z_]+)="([^"]*)"')
_MAX_TOKEN_BYTES: Final = 256 * 1024  # Docker Hub's answer has 5 kB
_MAX_REDIRECTS: Final = 3


class RegistryError(SwarmHpcError):
    """The digest of an image can't be had. `silent`: its registry did not answer, so asking again is no use."""

    def __init__(self, message: str, *, hint: str = "", silent: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.silent = silent


@dataclass(frozen=True)
class Reference:
    """An image name taken apart as docker does it: `registry` is HOST[:PORT] to ask, `tag` is never empty."""

    registry: str
    repository: str
    tag: str

    @property
    def is_loopback(self) -> bool:
        """True for a registry that docker speaks plain http with."""
        return _LOOPBACK.fullmatch(self.registry) is not None

    @property
    def url(self) -> str:
        """Where its manifest is."""
        scheme = "http" if self.is_loopback else "https"
        return f"{scheme}://{self.registry}/v2/{self.repository}/manifests/{self.tag}"


def reference(name: str) -> Reference:
    """`name` (HOST[:PORT]/PATH:TAG, as docker_image has it, without a digest) taken apart.

    The first part is a host when it has a dot or a colon or is ``localhost``; else the image is Docker Hub's
    (github.com/distribution/reference, normalize.go).
    """
    path, _, tag = name.partition("@")[0], "", ""
    slash, colon = path.rfind("/"), path.rfind(":")
    if colon > slash:
        path, tag = path[:colon], path[colon + 1 :]
    first, _, rest = path.partition("/")
    if not rest or not (first == "localhost" or "." in first or ":" in first):
        first, rest = "docker.io", path
    if first in ("docker.io", "index.docker.io"):
        first, rest = "registry-1.docker.io", rest if "/" in rest else f"library/{rest}"
    return Reference(first, rest, tag or "latest")


def digest(name: str, *, timeout_s: float = 5) -> str:
    """``sha256:…`` of the manifest, or the index of manifests, that the tag of image `name` stands for now.

    Ends after `timeout_s`, whatever hangs. Raises RegistryError.
    """
    asked = reference(name)
    outcome: list[str | BaseException] = []

    def ask() -> None:
        try:
            outcome.append(_asked(name, asked, time.monotonic() + timeout_s))
        except BaseException as e:  # noqa: BLE001 (raised again in the thread that waits)
            outcome.append(e)

    # A name server that is silent cannot be given up from inside: the thread that waits for it is left behind.
    worker = threading.Thread(target=ask, name="registry", daemon=True)
    worker.start()
    worker.join(timeout_s)
    if not outcome:
        raise _silent(name, asked, f"does not answer within {timeout_s:g} s")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def resolver(*, timeout_s: float = 5, total_s: float = 10) -> Callable[[str], str]:
    """`digest` for several images: all together take at most `total_s`, and a registry that was silent once is not
    asked again."""
    ends = time.monotonic() + total_s
    silent: set[str] = set()

    def resolve(name: str) -> str:
        asked, left_s = reference(name), ends - time.monotonic()
        if asked.registry in silent or left_s <= 0:
            raise _silent(name, asked, "is not asked any more")
        try:
            return digest(name, timeout_s=min(timeout_s, left_s))
        except RegistryError as e:
            if e.silent:
                silent.add(asked.registry)
            raise

    return resolve


def _asked(name: str, asked: Reference, ends: float) -> str:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({} if asked.is_loopback else None), _Redirects(loopback=asked.is_loopback)
    )
    try:
        status, headers = _head(opener, asked, ends, None)
        if status == 401:
            token = _token(opener, name, asked, headers, ends)
            status, headers = _head(opener, asked, ends, token)
    except TimeoutError as e:
        raise _silent(name, asked, "does not answer in time") from e
    except (OSError, http.client.HTTPException, ValueError) as e:
        reason = getattr(e, "reason", None) or e
        if isinstance(reason, TimeoutError):
            raise _silent(name, asked, "does not answer in time") from e
        raise _silent(name, asked, f"can't be asked ({_words(reason)})") from e
    if status == 404:
        raise RegistryError(f"{name}: registry {asked.registry} has no {asked.repository}:{asked.tag}")
    if status in (401, 403):
        raise RegistryError(
            f"{name}: registry {asked.registry} has no {asked.repository}, or wants a login for it",
            hint="check the name, or write the digest yourself: NAME@sha256:…",
        )
    if status != 200:
        why = "too many were asked for from here" if status == 429 else "wanted 200"
        raise RegistryError(f"{name}: registry {asked.registry} answered with status {status}; {why}")
    found = headers.get("Docker-Content-Digest", "")
    if not _DIGEST.fullmatch(found):
        seen = f"the digest {_words(found)}" if found else "no digest (header Docker-Content-Digest)"
        raise RegistryError(f"{name}: registry {asked.registry} gives {seen}; wanted sha256: and 64 hex digits")
    return found


def _head(
    opener: urllib.request.OpenerDirector, asked: Reference, ends: float, token: str | None
) -> tuple[int, Message]:
    request = urllib.request.Request(asked.url, method="HEAD", headers={"Accept": _ACCEPT, "User-Agent": "swarmhpc"})
    if token is not None:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with opener.open(request, timeout=_left(ends)) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as e:
        e.close()
        return e.code, e.headers


def _token(opener: urllib.request.OpenerDirector, name: str, asked: Reference, headers: Message, ends: float) -> str:
    """The token that everybody may have, from where the registry says."""
    challenge = next((c for c in headers.get_all("WWW-Authenticate", []) if c.lower().startswith("bearer ")), "")
    given = {key.lower(): value for key, value in _PARAMETER.findall(challenge)}
    realm = given.get("realm", "")
    if not realm:
        raise RegistryError(f"{name}: registry {asked.registry} wants a login")
    if not _is_allowed(realm, loopback=asked.is_loopback):
        raise RegistryError(f"{name}: registry {asked.registry} sends for a token to {_words(realm)}; wanted https")
    wanted = {"scope": f"repository:{asked.repository}:pull"}
    if "service" in given:
        wanted["service"] = given["service"]
    url = f"{realm}{'&' if '?' in realm else '?'}{urllib.parse.urlencode(wanted)}"
    request = urllib.request.Request(url, headers={"User-Agent": "swarmhpc"})
    try:
        with opener.open(request, timeout=_left(ends)) as answer:
            data = answer.read(_MAX_TOKEN_BYTES + 1)
    except urllib.error.HTTPError as e:
        e.close()
        what = "wants a login" if e.code in (400, 401, 403) else f"gives no token (status {e.code})"
        raise RegistryError(f"{name}: registry {asked.registry} {what}") from e
    try:
        answered = json.loads(data) if len(data) <= _MAX_TOKEN_BYTES else None
    except (ValueError, RecursionError):
        answered = None
    token = (answered.get("token") or answered.get("access_token")) if isinstance(answered, dict) else None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise RegistryError(f"{name}: registry {asked.registry} has a token service that answers without a token")
    return token


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to https only, and stays with HEAD (urllib does so since Python 3.13)."""

    max_redirections = _MAX_REDIRECTS
    max_repeats = 2

    def __init__(self, *, loopback: bool) -> None:
        self.loopback = loopback

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The request that follows. The token goes along to the same host only."""
        fp.close()  # urllib would read all of its body
        if not _is_allowed(newurl, loopback=self.loopback):
            raise urllib.error.URLError(f"it leads to {_words(newurl)}; wanted https")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is None:
            return None
        following.method = req.get_method()
        token = req.unredirected_hdrs.get("Authorization")
        if token and (following.type, following.host) == (req.type, req.host):
            following.add_unredirected_header("Authorization", token)
        return following


def _is_allowed(url: str, *, loopback: bool) -> bool:
    """https; plain http from a registry on this machine to this machine."""
    parts = urllib.parse.urlsplit(url)
    if "@" in parts.netloc or not parts.netloc:
        return False
    return parts.scheme == "https" or (
        loopback and parts.scheme == "http" and _LOOPBACK.fullmatch(parts.netloc) is not None
    )


def _left(ends: float) -> float:
    left_s = ends - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _silent(name: str, asked: Reference, what: str) -> RegistryError:
    return RegistryError(f"{name}: registry {asked.registry} {what}", silent=True)


def _words(said: object) -> str:
    """What others said, on one short line."""
    text = getattr(said, "strerror", None) or str(said) or type(said).__name__
    return "".join(c if c.isprintable() else "?" for c in str(text))[:120]
