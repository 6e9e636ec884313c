"""The key `on_event` of the cluster file."""

from __future__ import annotations

import json

import pytest

from swarmhpc.config import Cluster, ConfigError, OnEvent, dump, parse
from tests.unit.test_render import rendered


@pytest.mark.parametrize(
    ("text", "hook"),
    [
        ("on_event: logger -t pool", OnEvent(command="logger -t pool")),
        ("on_event: https://example.org/hook?a=b", OnEvent(url="https://example.org/hook?a=b")),
        ("on_event: http://[::1]:8080", OnEvent(url="http://[::1]:8080")),
        ("on_event: {command: cat > /dev/null}", OnEvent(command="cat > /dev/null")),
        (
            "on_event: {url: 'http://h/x', states: [left, FAILED, FAILED]}",
            OnEvent(url="http://h/x", states=("FAILED", "left")),
        ),
        ("on_event: {url: 'http://h/x', states: []}", OnEvent(url="http://h/x")),
        ("on_event:", None),
        ("on_event: null", None),
    ],
)
def test_a_hook_is_a_command_or_a_url_and_may_name_states(text: str, hook: OnEvent | None) -> None:
    cluster = parse(text, file="x")
    assert cluster == Cluster(on_event=hook)
    assert parse(dump(cluster), file="x") == cluster


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("on_event: {}", "one of the keys command and url"),
        ("on_event: {command: a, url: 'http://h'}", "one of the keys command and url"),
        ("on_event: {command: ''}", "a command for /bin/sh"),
        ("on_event: {command: 5}", "a command for /bin/sh"),
        ("on_event: 5", "a command, a URL"),
        ("on_event: [a]", "a command, a URL"),
        ("on_event: {url: ftp://h/x}", "an address such as"),
        ("on_event: 'http://'", "an address such as"),
        ("on_event: 'http://a b/'", "an address such as"),
        ("on_event: 'http://h:99999/'", "an address such as"),
        ("on_event: 'http://h:0/'", "an address such as"),
        ("on_event: 'http://h/ä'", "an address such as"),
        ("on_event: 'http://me:pw@h/x'", "without user and password"),
        ("on_event: {command: a, states: [failed]}", "did you mean FAILED"),
        ("on_event: {command: a, states: [Appeared]}", "did you mean appeared"),
        ("on_event: {command: a, states: FAILED}", "a list of"),
        ("on_event: {command: a, state: [FAILED]}", "did you mean states"),
    ],
)
def test_a_wrong_hook_is_told_with_its_line_and_what_was_wanted(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, file="x.yaml")
    assert len(caught.value.problems) == 1
    assert str(caught.value.problems[0]).startswith("x.yaml:1:")
    assert words in caught.value.message


def test_a_hook_goes_to_the_access_point_alone_in_a_config_that_only_root_reads() -> None:
    secret = "https://example.org/s3cret"
    with_hook = rendered(Cluster(on_event=OnEvent(url=secret, states=("FAILED",))))
    assert json.loads(with_hook.configs["on-event.json"]) == {"url": secret, "states": ["FAILED"]}
    mounts = {
        name: [c for c in service.get("configs", ()) if c["source"] == "on-event"]
        for name, service in with_hook.services.items()
    }
    target = {"source": "on-event", "target": "/etc/swarmhpc/on-event.json", "mode": 0o400}
    assert mounts.pop("access-point") == [target]
    assert not any(mounts.values())
    assert "s3cret" not in with_hook.stack


def test_a_changed_hook_restarts_the_access_point_and_nothing_else() -> None:
    def labels(cluster: Cluster) -> dict[str, str]:
        return {n: s["deploy"]["labels"]["swarmhpc.spec"] for n, s in rendered(cluster).services.items()}

    without, one = labels(Cluster()), labels(Cluster(on_event=OnEvent(command="a")))
    other = labels(Cluster(on_event=OnEvent(command="b")))
    assert {n for n in one if one[n] != other[n]} == {"access-point"} == {n for n in one if one[n] != without[n]}
