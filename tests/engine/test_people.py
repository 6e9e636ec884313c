"""Tokens on the real pool: who gets in, who does not, and what two people can see of each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swarmhpc import tokens
from tests.command_line import Cli, until
from tests.engine.conftest import POOL, as_person, containers_of, docker

JOB = "universe = docker\ndocker_image = debian\nexecutable = /bin/echo\narguments = mine\noutput = out\nqueue\n"


def test_a_new_person_submits_at_once_and_nothing_restarts(pool: Cli, tmp_path: Path) -> None:
    before = containers_of("access-point") + containers_of("central-manager")
    alice = as_person(pool, "alice", tmp_path)
    assert alice.results(JOB)[0]["exit_code"] == 0
    assert (alice.cwd / "out").read_text() == "mine\n"
    assert containers_of("access-point") + containers_of("central-manager") == before
    assert (alice.config_home / "swarmhpc" / POOL / "tokens.d" / "token").stat().st_mode & 0o777 == 0o600


def test_people_cannot_fetch_remove_or_read_each_others_jobs(pool: Cli, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    carol = as_person(pool, "carol", tmp_path / "a")
    dave = as_person(pool, "dave", tmp_path / "b")
    (carol.cwd / "secret.txt").write_text("carol's\n")
    cluster = str(
        carol.submit(
            "executable = /bin/cat\narguments = secret.txt\ntransfer_input_files = secret.txt\noutput = out\nqueue\n",
            "--json",
        ).json["clusters"][0]["cluster"]
    )
    carol.ok("wait", cluster)
    for verb in ("fetch", "rm", "wait"):
        refused = dave.run(verb, cluster)
        assert refused.code == 2 and "belongs to carol" in refused.err
    queue = containers_of("access-point")[0]
    spooled = docker("exec", queue, "find", "/var/spool/condor", "-name", "secret.txt")
    assert spooled
    owner = docker("exec", queue, "stat", "-c", "%U", spooled)
    assert owner == "carol"
    uid = docker("exec", queue, "id", "-u", "dave")
    assert docker("exec", "-u", uid, queue, "cat", spooled, check=False) == ""
    # The schedd itself refuses, not only our command.
    context = json.loads((dave.config_home / "swarmhpc" / POOL / "context.json").read_text())
    from swarmhpc.adapters.condor import Pool
    from swarmhpc.context import Context

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(dave.config_home))
        raw = Pool(Context(**context))
        assert raw.remove(f"ClusterId == {cluster}", "not mine") == 0
    assert carol.ok("q", "--json").json[0]["status"] == "completed"
    carol.ok("fetch", cluster)
    assert (carol.cwd / "out").read_text() == "carol's\n"


def test_an_expired_token_is_named_before_anybody_is_asked(pool: Cli, tmp_path: Path) -> None:
    erin = as_person(pool, "erin", tmp_path, lifetime="5s")
    refused = until(lambda: (r := erin.run("q")).code and r, timeout_s=15, what="token expired")
    assert refused.code == 1
    assert "expired" in refused.err and "swarmhpc token create erin" in refused.err


def test_a_token_of_another_pool_is_refused_by_name(pool: Cli, tmp_path: Path) -> None:
    frank = as_person(pool, "frank", tmp_path)
    forged = tokens.mint(
        tokens.new_signing_key(), pool=POOL, identity=f"frank@{POOL}", scopes=tokens.PERSON_SCOPES, now=1_700_000_000
    )
    (frank.config_home / "swarmhpc" / POOL / "tokens.d" / "token").write_text(forged.text)
    refused = frank.submit(JOB)
    assert refused.code == 1
    assert "does not accept the token of frank" in refused.err and "swarmhpc token create frank" in refused.err


def test_login_needs_a_token_the_pool_accepts_and_keeps_nothing_else(pool: Cli, tmp_path: Path) -> None:
    judy = Cli(tmp_path, tmp_path / "config")
    assert judy.run("login", "127.0.0.1", "--token-file", "none").code == 2
    (tmp_path / "junk").write_text("a.b")
    junk = judy.run("login", "127.0.0.1", "--token-file", "junk")
    assert junk.code == 2 and "is not a token" in junk.err
    forged = tokens.mint(
        tokens.new_signing_key(), pool=POOL, identity=f"judy@{POOL}", scopes=tokens.PERSON_SCOPES, now=1_700_000_000
    )
    (tmp_path / "forged").write_text(forged.text)
    address = json.loads((pool.config_home / "swarmhpc" / POOL / "context.json").read_text())["address"]
    refused = judy.run("login", address, "--token-file", "forged")
    assert refused.code == 1 and "does not accept the token of judy" in refused.err
    nobody = judy.run("login", "127.0.0.1", "--token-file", "forged", "--access-point-port", "1")
    assert nobody.code == 1 and "does not answer at 127.0.0.1:1" in nobody.err
    assert not (tmp_path / "config" / "swarmhpc" / POOL).exists()
    assert "no pool is known" in judy.run("q").err
    assert pool.run("login", address, "--token-file", tmp_path / "forged").code == 1
    pool.ok("q")  # who was logged in still is


def test_a_revoked_person_is_out_and_a_new_token_lets_them_in_again(pool: Cli, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    grace = as_person(pool, "grace", tmp_path / "1")
    grace.ok("q")
    pool.ok("token", "revoke", "grace")
    assert grace.run("q").code == 1
    listed = [r for r in pool.ok("token", "list", "--json").json if r["person"] == "grace"]
    assert [bool(r["revoked_at"]) for r in listed] == [True]
    assert pool.ok("up", "--dry-run").out == ""
    as_person(pool, "grace", tmp_path / "2").ok("q")


def test_no_secret_is_in_labels_environment_arguments_or_logs(pool: Cli) -> None:
    token = (pool.config_home / "swarmhpc" / POOL / "tokens.d" / "token").read_text().strip()
    signature = token.rpartition(".")[2]
    everything = docker("ps", "-q").split()
    seen = docker("inspect", *everything)
    for service in docker("service", "ls", "-q").split():
        seen += docker("service", "inspect", service) + docker("service", "logs", service, check=False)
    for config in docker("config", "ls", "-q").split():
        seen += docker("config", "inspect", config)
    assert signature not in seen
    key = docker("exec", containers_of("central-manager")[0], "base64", "-w0", "/etc/condor/passwords.d/POOL")
    assert key and key[:40] not in seen
    executors = docker("exec", containers_of("executors")[0], "ls", "/etc/condor/passwords.d", check=False)
    assert "POOL" not in executors
