"""What a person's machine keeps of a pool: readable by its owner only, and never half written."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from swarmhpc import context
from swarmhpc.config import Machine, Ssh
from swarmhpc.context import Context
from swarmhpc.errors import NoPoolError, SwarmHpcError

LAB = Context("lab", "192.0.2.1", 9618, 9619, "alice")
HOME = Context("home", "192.0.2.2", 9618, 9619, "bob")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SWARMHPC_POOL", raising=False)
    return tmp_path / "swarmhpc"


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_saved_context_is_loaded_again() -> None:
    context.save(LAB, "secret")
    assert context.load("lab") == LAB
    assert LAB.token_file.read_text() == "secret\n"


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_folders_are_0700_and_files_0600_whatever_the_umask(folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        context.save(LAB, "secret")
    finally:
        os.umask(before)
    modes = {str(p.relative_to(folder)): _mode(p) for p in folder.rglob("*")}
    assert modes == {"lab": 0o700, "lab/context.json": 0o600, "lab/tokens.d": 0o700, "lab/tokens.d/token": 0o600}


def test_the_token_has_its_folder_to_itself_and_is_not_in_the_context(folder: Path) -> None:
    context.save(LAB, "secret")
    context.save(LAB, "second")
    assert [p.name for p in LAB.token_folder.iterdir()] == ["token"]
    assert "secon" not in (folder / "lab" / "context.json").read_text()


def test_a_file_that_was_open_to_others_is_private_once_written_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    path.chmod(0o644)
    context.write_private(path, "new")
    assert (path.read_text(), _mode(path)) == ("new", 0o600)


def test_a_write_that_was_cut_short_before_does_not_stop_the_next(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.with_name("token.part").write_text("half")
    context.write_private(path, "whole")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("token", "whole")]


def test_a_link_left_at_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "token.part").symlink_to(victim)
    context.write_private(tmp_path / "token", "secret")
    assert victim.read_text() == "mine"


def test_without_any_context_the_error_says_how_to_get_one() -> None:
    with pytest.raises(NoPoolError, match="no pool is known") as caught:
        context.load()
    assert "swarmhpc up" in caught.value.hint


def test_the_only_context_needs_no_name() -> None:
    context.save(HOME, "t")
    assert context.load() == HOME


def test_of_several_contexts_one_must_be_named() -> None:
    context.save(LAB, "t")
    context.save(HOME, "t")
    with pytest.raises(NoPoolError, match="home, lab") as caught:
        context.load()
    assert "--pool" in caught.value.hint
    assert context.load("lab") == LAB


def test_the_environment_names_a_pool_and_the_argument_is_stronger(monkeypatch: pytest.MonkeyPatch) -> None:
    context.save(LAB, "t")
    context.save(HOME, "t")
    monkeypatch.setenv("SWARMHPC_POOL", "home")
    assert context.load() == HOME
    assert context.load("lab") == LAB


def test_an_unknown_pool_is_an_error_that_lists_the_known_ones() -> None:
    context.save(LAB, "t")
    with pytest.raises(NoPoolError, match=r"'nowhere' is not known on this machine; known: lab"):
        context.load("nowhere")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '"lab"', '{"pool": "lab"}', json.dumps({"pool": "lab", "surprise": 1})],
    ids=["empty", "cut", "list", "null", "number", "text", "keys missing", "unknown key"],
)
def test_a_corrupt_context_is_an_error_that_says_how_to_make_it_again(folder: Path, text: str) -> None:
    context.save(LAB, "t")
    (folder / "lab" / "context.json").write_text(text)
    with pytest.raises(NoPoolError, match="can't be read as a context") as caught:
        context.load("lab")
    assert caught.value.hint == f"rm -r {folder / 'lab'} && swarmhpc up"


def test_a_context_in_bytes_that_are_no_text_is_corrupt_too(folder: Path) -> None:
    context.save(LAB, "t")
    (folder / "lab" / "context.json").write_bytes(b"\xff\xfe")
    with pytest.raises(NoPoolError):
        context.load("lab")


def test_a_folder_that_can_not_be_made_is_an_error_that_names_it(folder: Path) -> None:
    folder.write_text("a file in the way")
    with pytest.raises(SwarmHpcError, match=f"{folder / 'lab'}: the context can't be written"):
        context.save(LAB, "t")


def test_a_forgotten_pool_is_gone_and_the_others_stay() -> None:
    context.save(LAB, "t")
    context.save(HOME, "t")
    context.forget("lab")
    context.forget("lab")
    assert context.load() == HOME


# -- several machines ------------------------------------------------------------------------------------------------

MANAGERS = (
    Machine("n1", "10.0.0.1", "manager", Ssh("admin", 2222, "~/.ssh/id", "/etc/lab_hosts"), (("disk", "ssd"),)),
    Machine("n2", "n2.lab", "manager"),
)


def test_further_addresses_and_managers_are_loaded_as_they_were_saved() -> None:
    saved = replace(LAB, others=("192.0.2.8", "192.0.2.9"), managers=MANAGERS)
    context.save(saved, "secret")
    assert context.load("lab") == saved  # `up` compares them: a list for a tuple would write it again and again


def test_a_context_of_the_first_release_has_neither_and_is_read(folder: Path) -> None:
    context.save(LAB, "secret")
    path = folder / "lab" / "context.json"
    data = json.loads(path.read_text())
    del data["others"], data["managers"]
    path.write_text(json.dumps(data))
    assert context.load("lab") == LAB


@pytest.mark.parametrize(
    "managers",
    [
        None,
        3,
        [1],
        [{"name": "n1"}],
        [{"name": "n1", "address": "a", "role": "manager", "ssh": {"x": 1}, "labels": []}],
    ],
)
def test_a_context_with_broken_managers_is_corrupt(folder: Path, managers: object) -> None:
    context.save(LAB, "t")
    path = folder / "lab" / "context.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "managers": managers}))
    with pytest.raises(NoPoolError, match="can't be read as a context"):
        context.load("lab")
