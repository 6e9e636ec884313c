"""The digest of a tag, asked from a registry that is a real HTTP server here; and one image for all jobs."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from swarmhpc.adapters import registry
from swarmhpc.adapters.registry import RegistryError, digest, reference, resolver
from swarmhpc.jobs.images import MAX_NAMES, pinned
from swarmhpc.jobs.translate import Cluster, Translation, flat_text
from tests.unit.test_translate import docker, run

DIGEST = "sha256:" + "ab" * 32
MANIFEST = "HEAD /v2/me/tool/manifests/1.0"
TOKEN = "GET /token?scope=repository%3Ame%2Ftool%3Apull&service=here"


@dataclass(frozen=True)
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


FOUND = Answer(headers={"Docker-Content-Digest": DIGEST})


@dataclass
class Registry:
    """Answers what it was told to, in that order; `wrong` has every other request."""

    port: int
    script: list[tuple[str, Answer | Callable[[], Answer]]] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @property
    def image(self) -> str:
        return f"{self.host}/me/tool:1.0"

    def challenge(self, realm: str = "", **more: str) -> Answer:
        given = {"realm": realm or f"http://{self.host}/token", "service": "here", **more}
        words = ",".join(f'{key}="{value}"' for key, value in given.items())
        return Answer(401, {"WWW-Authenticate": f"Bearer {words}"})


@pytest.fixture
def here() -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked = f"{self.command} {self.path}"
            if not model.script or model.script[0][0] != asked:
                model.wrong.append(asked)
                self.send_error(500)
                return
            model.headers.append(self.headers)
            answer = model.script.pop(0)[1]
            answer = answer if isinstance(answer, Answer) else answer()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_HEAD  # noqa: N815 (http.server's name); any other verb is answered with 501

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    model = Registry(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield model
    server.shutdown()
    thread.join()
    server.server_close()
    assert (model.wrong, model.script) == ([], [])


def refused(image: str, **more: float) -> str:
    with pytest.raises(RegistryError) as caught:
        digest(image, **more)
    assert caught.value.message.startswith(f"{image}: registry ")
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("debian", "https://registry-1.docker.io/v2/library/debian/manifests/latest"),
        ("debian:12", "https://registry-1.docker.io/v2/library/debian/manifests/12"),
        ("me/tool", "https://registry-1.docker.io/v2/me/tool/manifests/latest"),
        ("docker.io/debian", "https://registry-1.docker.io/v2/library/debian/manifests/latest"),
        ("index.docker.io/me/tool:a", "https://registry-1.docker.io/v2/me/tool/manifests/a"),
        ("ghcr.io/a/b/c:v1", "https://ghcr.io/v2/a/b/c/manifests/v1"),
        ("lab:5000/tool", "https://lab:5000/v2/tool/manifests/latest"),
        ("localhost/tool", "http://localhost/v2/tool/manifests/latest"),
        ("127.0.0.5:5000/tool:x", "http://127.0.0.5:5000/v2/tool/manifests/x"),
        ("127.0.0.1.evil.org/tool", "https://127.0.0.1.evil.org/v2/tool/manifests/latest"),
        ("localhost.evil.org/tool", "https://localhost.evil.org/v2/tool/manifests/latest"),
    ],
)
def test_a_name_leads_where_docker_would_look(name: str, url: str) -> None:
    assert reference(name).url == url


def test_the_registry_is_asked_for_the_index_or_manifest_of_the_tag(here: Registry) -> None:
    here.script = [(MANIFEST, FOUND)]
    assert digest(here.image) == DIGEST
    accepted = set(here.headers[0]["Accept"].split(", "))
    assert "application/vnd.oci.image.index.v1+json" in accepted
    assert "application/vnd.docker.distribution.manifest.list.v2+json" in accepted
    assert here.headers[0]["Authorization"] is None


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_the_token_that_everybody_may_have_is_fetched_where_the_registry_says(here: Registry, key: str) -> None:
    token = Answer(body=json.dumps({key: "t0ken"}).encode())
    here.script = [(MANIFEST, here.challenge(error="x")), (TOKEN, token), (MANIFEST, FOUND)]
    assert digest(here.image) == DIGEST
    assert [h["Authorization"] for h in here.headers] == [None, None, "Bearer t0ken"]


def test_credentials_that_lie_about_are_not_used(
    here: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / ".netrc").write_text("machine localhost login me password secret\n")
    (home / ".netrc").chmod(0o600)
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {here.host: {"auth": "bWU6c2VjcmV0"}}}))
    monkeypatch.setenv("HOME", str(home))
    here.script = [(MANIFEST, Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}))]
    assert refused(here.image).endswith("wants a login")
    assert here.headers[0]["Authorization"] is None


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "has no me/tool:1.0"),
        (403, "has no me/tool, or wants a login for it"),
        (429, "answered with status 429; too many were asked for from here"),
        (500, "answered with status 500; wanted 200"),
    ],
)
def test_a_refusal_is_told_with_what_was_seen(here: Registry, status: int, said: str) -> None:
    here.script = [(MANIFEST, Answer(status))]
    assert refused(here.image).endswith(said)


def test_an_image_that_stays_shut_with_a_token_may_not_exist(here: Registry) -> None:
    here.script = [(MANIFEST, here.challenge()), (TOKEN, Answer(body=b'{"token": "a"}')), (MANIFEST, here.challenge())]
    assert "has no me/tool, or wants a login" in refused(here.image)


@pytest.mark.parametrize("headers", [{}, {"Docker-Content-Digest": "sha256:12"}, {"Docker-Content-Digest": "x" * 999}])
def test_an_answer_without_a_digest_is_an_error(here: Registry, headers: dict[str, str]) -> None:
    here.script = [(MANIFEST, Answer(headers=headers))]
    message = refused(here.image)
    assert "digest" in message
    assert len(message) < 300


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 99_999,
        b'{"token": 7}',
        b'{"token": "a\\r\\nX: y"}',
        b'{"token": "' + b"a" * 2**18 + b'"}',
    ],
)
def test_a_token_service_that_answers_nonsense_is_an_error(here: Registry, body: bytes) -> None:
    here.script = [(MANIFEST, here.challenge()), (TOKEN, Answer(body=body))]
    assert refused(here.image).endswith("answers without a token")


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_for_everybody_means_a_login(here: Registry, status: int) -> None:
    here.script = [(MANIFEST, here.challenge()), (TOKEN, Answer(status))]
    assert refused(here.image).endswith("wants a login")


@pytest.mark.parametrize("realm", ["http://169.254.169.254/x", "file:///etc/passwd", "https://me:secret@a/x", "token"])
def test_a_token_is_fetched_over_https_only(here: Registry, realm: str) -> None:
    here.script = [(MANIFEST, here.challenge(realm))]
    assert refused(here.image).endswith("wanted https")


def test_a_redirect_is_followed_and_stays_the_same_request(here: Registry) -> None:
    here.script = [
        (MANIFEST, here.challenge()),
        (TOKEN, Answer(body=b'{"token": "a"}')),
        (MANIFEST, Answer(307, {"Location": f"http://{here.host}/elsewhere"})),
        ("HEAD /elsewhere", FOUND),
    ]
    assert digest(here.image) == DIGEST
    assert here.headers[-1]["Accept"] == here.headers[0]["Accept"]
    assert here.headers[-1]["Authorization"] == "Bearer a"


def test_a_token_does_not_follow_to_another_host(here: Registry) -> None:
    here.script = [
        (MANIFEST, here.challenge()),
        (TOKEN, Answer(body=b'{"token": "a"}')),
        (MANIFEST, Answer(302, {"Location": f"http://127.0.0.1:{here.port}/elsewhere"})),
        ("HEAD /elsewhere", FOUND),
    ]
    assert digest(here.image) == DIGEST
    assert here.headers[-1]["Authorization"] is None


@pytest.mark.parametrize("target", ["http://example.org/x", "ftp://localhost/x", "file:///etc/passwd"])
def test_a_redirect_away_from_https_is_not_followed(here: Registry, target: str) -> None:
    here.script = [(MANIFEST, Answer(302, {"Location": target}))]
    refused(here.image)


def test_a_chain_of_redirects_ends(here: Registry) -> None:
    paths = [MANIFEST, *(f"HEAD /{n}" for n in range(3))]
    here.script = [(path, Answer(302, {"Location": f"http://{here.host}/{n}"})) for n, path in enumerate(paths)]
    assert "status 302" in refused(here.image)


def test_a_registry_that_is_not_there_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        image = f"localhost:{taken.getsockname()[1]}/tool"
        assert "can't be asked (Connection refused)" in refused(image)


def test_a_slow_answer_ends_in_time(here: Registry) -> None:
    goes_on = threading.Event()

    def late() -> Answer:
        goes_on.wait(30)
        return FOUND

    here.script = [(MANIFEST, late)]
    began = time.monotonic()
    try:
        assert "does not answer" in refused(here.image, timeout_s=0.3)
    finally:
        goes_on.set()
    assert time.monotonic() - began < 5


def test_an_answer_that_trickles_ends_in_time() -> None:
    """Each byte comes in time, so that no single wait is long."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            with server.accept()[0] as client:
                client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not stop.wait(0.05):
                    client.sendall(b"a")

        thread = threading.Thread(target=trickle)
        thread.start()
        began = time.monotonic()
        try:
            assert "does not answer" in refused(f"localhost:{server.getsockname()[1]}/tool", timeout_s=0.3)
        finally:
            stop.set()
            thread.join()
        assert time.monotonic() - began < 5


def test_a_name_server_that_is_silent_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    asked: list[tuple[object, ...]] = []

    def silent(*question: object, **_: object) -> list[object]:
        asked.append(question[:2])
        answers.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", silent)
    began = time.monotonic()
    try:
        assert "registry registry-1.docker.io does not answer within 0.3 s" in refused("debian", timeout_s=0.3)
    finally:
        answers.set()
    assert time.monotonic() - began < 5
    assert asked == [("registry-1.docker.io", 443)]


def test_a_silent_registry_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fake(name: str, *, timeout_s: float) -> str:
        asked.append(name)
        if name.startswith("lab/") or timeout_s > 5:
            return DIGEST
        raise RegistryError(f"{name}: no", silent=name.startswith("a.b/"))

    monkeypatch.setattr(registry, "digest", fake)
    resolve = resolver()
    for name in ("a.b/x", "a.b/y", "c.d/x", "c.d/y"):
        with pytest.raises(RegistryError):
            resolve(name)
    assert resolve("lab/x") == DIGEST
    assert asked == ["a.b/x", "c.d/x", "c.d/y", "lab/x"]


def test_all_images_together_have_an_end() -> None:
    with pytest.raises(RegistryError, match="is not asked any more"):
        resolver(total_s=0)("a.b/x")


# -- one image for all jobs -------------------------------------------------------------------------------------------


class Tags:
    """A registry that knows some tags, and who asked for which."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.asked: list[str] = []

    def __call__(self, name: str) -> str:
        self.asked.append(name)
        if name not in self.known:
            raise RegistryError(f"{name}: registry x has no {name}")
        return DIGEST


def images(cluster: Cluster) -> list[str]:
    if "docker_image" in cluster.common:
        return [cluster.common["docker_image"]] * cluster.count
    at = cluster.varying.index("docker_image")
    return [cells[at] for cells, _ in cluster.rows()]


def pin(text: str, tags: Tags, *, asked: bool = True) -> tuple[Translation, list[tuple[str, str]]]:
    translation, findings = pinned(run(text), tags, asked=asked)
    assert {f.severity for f in findings} <= {"note"}
    return translation, [(f.code, f.message) for f in findings]


def jobs_of(*lines: str) -> str:
    return "\n".join(["universe = docker", "executable = /bin/true", *lines]) + "\n"


def test_a_name_that_moves_is_resolved_once_for_all_jobs() -> None:
    tags = Tags("debian")
    translation, said = pin(jobs_of("docker_image = debian", "arguments = $(Process)", "queue 5"), tags)
    assert [images(c) for c in translation.clusters] == [[f"debian:latest@{DIGEST}"] * 5]
    assert tags.asked == ["debian"]
    assert said == [("image-pinned", f"debian is debian:latest@{DIGEST} for all jobs")]
    assert f"docker_image = debian:latest@{DIGEST}\n" in flat_text(translation.clusters[0])


def test_the_note_stands_where_the_image_is_named_and_the_line_says_why() -> None:
    translation, findings = pinned(run(docker("executable = /bin/true")), Tags("debian"))
    assert (findings[0].place.line, findings[0].place.column) == (2, 16)
    line = next(line for line in translation.lines if line.name == "docker_image")
    assert (line.value, line.why) == (f"debian:latest@{DIGEST}", "what the name stands for at this moment")


def test_a_tag_stays_in_the_name() -> None:
    translation, _ = pin(jobs_of("docker_image = docker://lab:5000/a/b:1", "queue"), Tags("lab:5000/a/b:1"))
    assert images(translation.clusters[0]) == [f"lab:5000/a/b:1@{DIGEST}"]


def test_a_digest_is_left_alone() -> None:
    tags = Tags()
    translation, said = pin(jobs_of(f"docker_image = debian@{DIGEST}", "queue"), tags)
    assert (images(translation.clusters[0]), said, tags.asked) == ([f"debian@{DIGEST}"], [], [])


def test_jobs_with_different_images_get_one_each() -> None:
    tags = Tags("debian", "me/tool:2")
    text = jobs_of("docker_image = $(i)", "queue i in (debian, me/tool:2, debian, mine, a@" + DIGEST + ")")
    translation, said = pin(text, tags)
    expected = [f"debian:latest@{DIGEST}", f"me/tool:2@{DIGEST}", f"debian:latest@{DIGEST}", "mine", f"a@{DIGEST}"]
    assert images(translation.clusters[0]) == expected
    assert images(translation.clusters[0]) == expected  # rows can be asked for again
    assert sorted(tags.asked) == ["debian", "me/tool:2", "mine"]
    assert [code for code, _ in said] == ["image-pinned", "image-pinned", "image-not-pinned"]


def test_a_name_that_cannot_be_resolved_stays_and_it_is_said_why() -> None:
    translation, said = pin(jobs_of("docker_image = mine:1", "queue"), Tags())
    assert images(translation.clusters[0]) == ["mine:1"]
    message = "mine:1: registry x has no mine:1; mine:1 stays, and each executor runs the one it has, or finds"
    assert said == [("image-not-pinned", message)]


def test_jobs_without_an_image_ask_nobody() -> None:
    tags = Tags()
    text = "universe = vanilla\nexecutable = /bin/true\nqueue\n"
    before = run(text)
    assert pinned(before, tags) == (before, ())
    assert tags.asked == []


def test_unasked_an_image_is_resolved_only_where_every_job_pulls_anyway() -> None:
    tags = Tags("debian")
    plain, said = pin(jobs_of("docker_image = debian", "queue"), tags, asked=False)
    assert (images(plain.clusters[0]), said, tags.asked) == (["debian"], [], [])
    pulling, _ = pin(jobs_of("docker_image = debian", "docker_pull_policy = Always", "queue"), tags, asked=False)
    assert images(pulling.clusters[0]) == [f"debian:latest@{DIGEST}"]


def test_a_crowd_of_images_is_not_looked_up() -> None:
    tags = Tags()
    text = jobs_of("docker_image = tool:$(Process)", f"queue {MAX_NAMES + 1}")
    translation, said = pin(text, tags)
    assert images(translation.clusters[0])[-1] == f"tool:{MAX_NAMES}"
    assert tags.asked == []
    assert said == [
        ("image-not-pinned", f"none of {MAX_NAMES + 1} different images is pinned; up to {MAX_NAMES} are looked up")
    ]
