"""What the engine's adapter makes of answers that a test can't have from a real engine at will."""

from __future__ import annotations

from typing import Any

import docker.errors
import pytest

from swarmhpc.adapters import docker as adapter
from swarmhpc.errors import EngineError


class Node:
    """A node whose record somebody else changes `conflicts` times just before our change arrives."""

    def __init__(self, conflicts: int, words: str = "rpc error: code = Unknown desc = update out of sequence") -> None:
        self.conflicts, self.words, self.asked = conflicts, words, 0
        self.attrs: dict[str, Any] = {"Spec": {"Role": "manager", "Labels": {"a": "1"}}}

    def get(self, node_id: str) -> Node:
        assert node_id == "n"
        self.asked += 1
        return self

    def update(self, spec: dict[str, Any]) -> None:
        if self.asked <= self.conflicts:
            self.attrs["Spec"] = {**self.attrs["Spec"], "Labels": {"a": str(self.asked + 1)}}
            raise docker.errors.APIError("500", explanation=self.words)
        self.attrs["Spec"] = spec


def engine(node: Node) -> adapter.Engine:
    made = object.__new__(adapter.Engine)
    made.machine = ""
    made._client = type("Client", (), {"nodes": node})()
    return made


def test_a_node_that_changes_at_the_same_moment_is_changed_as_it_is_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_NODE_UPDATE_PAUSE_S", 0)
    node = Node(conflicts=2)
    engine(node).node_update("n", role="worker")
    assert node.attrs["Spec"] == {"Role": "worker", "Labels": {"a": "3"}} and node.asked == 3


@pytest.mark.parametrize(("conflicts", "words", "asked"), [(99, "update out of sequence", 20), (99, "no quorum", 1)])
def test_a_node_that_can_not_be_changed_is_told_in_the_engines_words(
    monkeypatch: pytest.MonkeyPatch, conflicts: int, words: str, asked: int
) -> None:
    monkeypatch.setattr(adapter, "_NODE_UPDATE_PAUSE_S", 0)
    node = Node(conflicts, words)
    with pytest.raises(EngineError, match=words):
        engine(node).node_update("n", role="worker")
    assert node.asked == asked
