"""`swarmhpc init`: a commented cluster file from names alone."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from swarmhpc.cli.app import run
from swarmhpc.cluster.init_file import file_text, read_hosts
from swarmhpc.config import Cluster, ExecutorClass, Machine, Ssh, load, parse, to_mapping


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def written(*arguments: str) -> Cluster:
    assert run(["init", *arguments]) == 0
    return load(Path("swarmhpc.yaml"))


# ---- what the file says


def test_names_alone_give_three_managers_and_workers() -> None:
    assert written("n1", "n2.lab", "N3", "n4", "n5") == Cluster(
        machines=(
            Machine("n1", "n1", "manager"),
            Machine("n2.lab", "n2.lab", "manager"),
            Machine("N3", "N3", "manager"),
            Machine("n4", "n4"),
            Machine("n5", "n5"),
        ),
        executors=(ExecutorClass("executors", replicas=5),),
    )


@pytest.mark.parametrize(("hosts", "managers"), [(1, 1), (2, 1), (3, 3), (4, 3), (100, 3)])
def test_fewer_than_three_hosts_have_one_manager_and_the_file_says_why(hosts: int, managers: int) -> None:
    assert len(written(f"n[1-{hosts}]").managers) == managers
    comment = re.search(r"# (One manager|Three managers): .*\n(# .*\n)?machines:", Path("swarmhpc.yaml").read_text())
    assert comment
    assert comment[1] == {1: "One manager", 3: "Three managers"}[managers]


def test_an_address_gets_a_name_and_a_user_of_its_own_stays_with_its_machine() -> None:
    assert written("192.168.1.11", "no@192.168.1.12", "--user", "admin").machines == (
        Machine("node-192-168-1-11", "192.168.1.11", "manager", Ssh("admin")),
        Machine("node-192-168-1-12", "192.168.1.12", "worker", Ssh("no")),
    )


def test_the_options_of_ssh_hold_for_all_machines() -> None:
    cluster = written("a", "b", "--user", "null", "--port", "2222", "--key", "~/.ssh/lab")
    assert {m.ssh for m in cluster.machines} == {Ssh("null", 2222, "~/.ssh/lab")}


@pytest.mark.parametrize(
    ("key", "stands_for"),
    [("id", "{here}/id"), ("home/.ssh/id", "~/.ssh/id"), ("/etc/keys/id", "/etc/keys/id"), ("~/id", "~/id")],
)
def test_the_key_is_the_same_one_in_every_directory(folder: Path, key: str, stands_for: str) -> None:
    assert written("a", "--key", key).machines[0].ssh.key == stands_for.format(here=folder)


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("node[08-11].lab", ["node08.lab", "node09.lab", "node10.lab", "node11.lab"]),
        ("n[007-7]", ["n007"]),
        ("n[8-10]", ["n8", "n9", "n10"]),
        ("192.168.1.[9-10]", ["node-192-168-1-9", "node-192-168-1-10"]),
    ],
)
def test_a_range_stands_for_its_machines(word: str, names: list[str]) -> None:
    assert [host.name for host in read_hosts([word])] == names


def test_a_range_may_have_a_user() -> None:
    assert {host.user for host in read_hosts(["bob@n[1-2]"])} == {"bob"}


def test_without_hosts_the_file_is_that_of_one_machine() -> None:
    assert written() == Cluster()


@pytest.mark.parametrize(
    "text", [file_text(()), file_text(read_hosts(["n[1-4]"])), file_text(read_hosts(["a"]), user="x", port=2, key="/k")]
)
def test_each_key_is_there_and_what_is_commented_out_shows_its_default(text: str) -> None:
    opened = re.sub(r"^( *)#(?! )", r"\1", text, flags=re.MULTILINE)
    assert parse(opened, file="opened") == parse(text, file="as written")
    plain = yaml.safe_load(opened)
    full = to_mapping(Cluster())
    assert set(plain) == {*full, "ssh"}
    for section in ("ports", "jobs", "image", "queue"):
        assert set(plain[section]) == set(full[section]), section
    assert set(plain["executors"]["executors"]) == set(full["executors"]["executors"])
    assert set(plain["ssh"]) == {field.name for field in dataclasses.fields(Ssh)}


def test_comments_stand_apart_from_values_however_long_those_are() -> None:
    text = file_text(read_hosts(["a"]), key="/" + "k" * 60)
    assert f"  key: /{'k' * 60} # a private key" in text


# ---- the command


def test_the_path_is_data_and_the_next_command_is_for_the_person(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "a", "-f", "lab.yaml"]) == 0
    seen = capsys.readouterr()
    assert seen.out == "lab.yaml\n"
    assert "swarmhpc up -f lab.yaml" in seen.err


def test_dry_run_prints_the_file_and_writes_nothing(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert run(["init", "a", "b", "--dry-run"]) == 0
    seen = capsys.readouterr()
    assert [m.name for m in parse(seen.out, file="-").machines] == ["a", "b"]
    assert (seen.err, list(folder.iterdir())) == ("", [])


def test_a_file_that_is_there_stays_unless_forced(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("swarmhpc.yaml")
    file.write_text("name: mine\n")
    assert run(["init", "a"]) == 1
    assert file.read_text() == "name: mine\n"
    seen = capsys.readouterr()
    assert "swarmhpc.yaml is there already" in seen.err
    assert "--force" in seen.err
    assert seen.out == ""
    assert written("a", "--force").machines[0].name == "a"


def test_a_folder_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "-f", "gone/c.yaml"]) == 1
    assert "cannot write gone/c.yaml: No such file or directory" in capsys.readouterr().err


def test_all_hosts_that_are_wrong_are_named_at_once(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    wrong = ["n_1", "a b", "fe80::1", "n:22", "-x@n2", "10.0.0.300", "n[1-", "n[5-2]", "n[1-5000]", "a", "A", "a[1-2]"]
    assert run(["init", "good", "--", *wrong, "a2", "10.1.0.1", "node-10-1-0-1"]) == 2
    lines = capsys.readouterr().err.removeprefix("error: ").splitlines()
    assert [line.partition(": ")[0] for line in lines[:-1]] == [
        *("n_1", "a b", "fe80::1", "n:22", "-x@n2", "10.0.0.300", "n[1-", "n[5-2]", "n[1-5000]", "A", "a2"),
        "node-10-1-0-1",
    ]
    assert "A: named twice, first as a" in lines
    assert "a2: named twice, first as a2 (of a[1-2])" in lines
    assert "node-10-1-0-1: named twice, first as 10.1.0.1" in lines
    assert "node[01-16]" in lines[-1]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "a"], "a: named twice"),
        (["a", "127.0.0.1"], "an address that the other machines reach too"),
        (["10.73.0.9"], "outside the overlay's subnet"),
        (["a", "--user", "a b"], "--user a b: wanted the name of an account"),
        (["a", "--key", "k.pub"], "wanted the path of the private key"),
        (["a", "--port", "0"], "--port"),
        (["--user", "bob"], "none is named"),
    ],
)
def test_wrong_usage_is_said_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[str], message: str
) -> None:
    assert run(["init", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(folder.iterdir()) == []
