"""Another machine over ssh: what it answers, how its refusals read, and the engine through the relay.

`ssh` is a strict stand-in first in the PATH: it knows the options that it may get and refuses all others.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmhpc.adapters import remote as module
from swarmhpc.adapters.command import Completed
from swarmhpc.adapters.remote import MachineFacts, Remote, is_here, parse_facts
from swarmhpc.config import Machine, Ssh
from swarmhpc.errors import MachineError, SwarmHpcError

AWAY = Machine("n1", "192.0.2.7", "manager")

# Logs its arguments and its input; `sh -s` runs here; an engine answers every line in capitals.
FAKE = """#!{python}
import json, os, subprocess, sys
TAKES = set("plio")
argv, seen, rest = sys.argv[1:], [], []
while argv:
    word = argv.pop(0)
    if word == "-T":
        continue
    if len(word) == 2 and word[0] == "-" and word[1] in TAKES:
        seen.append([word[1], argv.pop(0)])
    elif word == "-O":
        seen.append(["O", argv.pop(0)])
    elif word.startswith("-"):
        sys.exit("fake ssh: unknown option " + word)
    else:
        rest = [word, *argv]
        break
with open({log!r}, "a") as log:
    log.write(json.dumps([sys.argv[1:], seen, rest]) + "\\n")
if os.environ.get("FAKE_SSH_SAYS"):
    sys.stderr.write(os.environ["FAKE_SSH_SAYS"])
    sys.exit(int(os.environ["FAKE_SSH_CODE"]))
command = rest[1:]
if os.environ.get("FAKE_SSH_PRINTS"):
    print(os.environ["FAKE_SSH_PRINTS"], flush=True)
if command == ["sh -s"]:
    sys.exit(subprocess.call(["sh", "-s"]))
if command == ["docker system dial-stdio"]:
    while line := sys.stdin.buffer.readline():
        sys.stdout.buffer.write(line.upper())
        sys.stdout.buffer.flush()
    sys.exit(0)
sys.exit("fake ssh: unknown command " + repr(rest))
"""


@pytest.fixture
def ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[Any]]:
    """The stand-in; the calls it got so far: [argv, options, [address, command]]."""
    log = tmp_path / "ssh.log"
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(FAKE.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("FAKE_SSH_SAYS", raising=False)
    return lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def away(ssh: object) -> Iterator[Remote]:
    remote = Remote(AWAY, local=False)
    yield remote
    remote.close()


def until(condition: Callable[[], bool], what: str, *, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


# -- facts -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def facts() -> MachineFacts:
    """This machine's, by the script that every machine is asked."""
    done = subprocess.run(["sh", "-s"], input=module._FACTS, capture_output=True, text=True, timeout=60, check=True)
    return parse_facts(done.stdout.partition(module._MARK)[2], ours_s=time.time())


def test_the_facts_of_this_machine_are_what_the_kernel_says(facts: MachineFacts) -> None:
    memory_kib = int(re.findall(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())[0])
    assert facts.memory_mib == memory_kib // 1024
    assert facts.cpus == len(os.sched_getaffinity(0))
    assert facts.kernel == os.uname().release
    assert facts.hostname == socket.gethostname()
    assert facts.ipvs == Path("/proc/net/ip_vs").exists()
    assert facts.cgroup_version == ("2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1")
    assert abs(facts.clock_skew_s) < 30


def test_the_facts_name_addresses_networks_and_listening_ports_of_this_machine() -> None:
    from swarmhpc.adapters.machine import routes

    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, but nobody listens
        done = subprocess.run(["sh", "-s"], input=module._FACTS, capture_output=True, text=True, check=True)
        facts = parse_facts(done.stdout.partition(module._MARK)[2], ours_s=time.time())
        assert server.getsockname()[1] in facts.listens
        assert bound.getsockname()[1] not in facts.listens
    assert facts.addresses["127.0.0.1"] == "lo"
    assert facts.routes == routes()


def test_a_directory_is_told_by_its_filesystem_and_a_missing_one_by_nothing(away: Remote, tmp_path: Path) -> None:
    there = tmp_path / "a directory; with 'quotes'"
    there.mkdir()
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(there)], capture_output=True, text=True, check=True).stdout
    assert away.facts(str(there)).shared == kind.strip() != ""
    assert away.facts(str(tmp_path / "none")).shared == ""
    assert away.facts().shared == ""


TEXT = """
hostname=n1
os=Debian GNU/Linux 13 (trixie)
kernel=6.12.1
ipvs=yes
installed=yes
engine=26.1.5
prepared={"version": "abc", "a": "b=c"}
address=127.0.0.1/8 lo
address=10.0.0.1/24 eth0
route=eth0 0000000A 00FFFFFF
route=eth0 00000000 00000000
route=wg0 0000A8C0 0000FFFF
listens=0016
listens=0016
listens=2592
cgroup=2
disk=Available
disk=20971520
cpus=4
memory=8388608
clock=1000.500000000
"""


def test_the_lines_of_a_machine_become_its_facts() -> None:
    assert parse_facts(TEXT, ours_s=1000.0) == MachineFacts(
        hostname="n1",
        os="Debian GNU/Linux 13 (trixie)",
        kernel="6.12.1",
        ipvs=True,
        engine_installed=True,
        engine_version="26.1.5",
        prepared='{"version": "abc", "a": "b=c"}',
        addresses={"127.0.0.1": "lo", "10.0.0.1": "eth0"},
        routes={"eth0 10.0.0.0": "10.0.0.0/24", "wg0 192.168.0.0": "192.168.0.0/16"},  # no default route
        listens=frozenset({22, 0x2592}),
        cgroup_version="2",
        cpus=4,
        memory_mib=8192,
        clock_skew_s=0.5,
    )


def test_a_machine_that_can_say_little_has_no_engine_and_is_not_prepared() -> None:
    """busybox: no nanoseconds, no `ip`."""
    facts = parse_facts("hostname=n1\nclock=1000.%N\ncpus=\n", ours_s=5.0)
    assert (facts.engine_installed, facts.engine_version, facts.prepared, facts.ipvs) == (False, "", "", False)
    assert (facts.addresses, facts.routes, facts.cpus, facts.memory_mib, facts.clock_skew_s) == ({}, {}, 1, 0, 0.0)


def test_facts_come_through_ssh_behind_whatever_a_login_prints(
    away: Remote, facts: MachineFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SSH_PRINTS", "Welcome!\nhostname=liar")
    seen = away.facts()
    assert (seen.hostname, seen.cpus, seen.memory_mib, seen.addresses) == (
        facts.hostname,
        facts.cpus,
        facts.memory_mib,
        facts.addresses,
    )


def test_a_machine_that_answers_with_something_else_is_told_of_with_its_words(
    away: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FACTS", "echo 'Your password has expired'")
    with pytest.raises(MachineError, match=r"n1 .*Your password has expired") as caught:
        away.facts()
    assert "login shell" in caught.value.hint


# -- where -------------------------------------------------------------------------------------------------------------


def _addresses_here() -> list[str]:
    return [ip for ip in ("127.0.0.1", socket.gethostname(), "localhost") if _resolves(ip)]


def _resolves(name: str) -> bool:
    try:
        socket.gethostbyname(name)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("address", _addresses_here())
def test_an_own_address_or_name_is_here(address: str) -> None:
    assert is_here(address)
    assert Remote(Machine("n", address)).local


# TEST-NET-1 (RFC 5737) and a name that can't exist (RFC 6761).
@pytest.mark.parametrize("address", ["192.0.2.7", "nowhere.invalid"])
def test_another_address_or_an_unknown_name_is_not_here(address: str) -> None:
    assert not is_here(address)


@pytest.mark.parametrize("user", ["root", "admin"])
def test_this_machine_is_asked_without_ssh(user: str) -> None:
    remote = Remote(Machine("n", "127.0.0.1", ssh=Ssh(user=user)))
    assert remote._as_root(["sh", "-s"])[-2:] == ["sh", "-s"]
    assert "ssh" not in remote._as_root(["sh", "-s"])
    assert remote.docker_host() is None


# -- the ssh command ---------------------------------------------------------------------------------------------------


def options_of(argv: list[str]) -> dict[str, str]:
    pairs = [b for a, b in itertools.pairwise(argv) if a == "-o"]
    return dict(p.split("=", 1) for p in pairs)


def test_ssh_gets_user_port_key_and_known_hosts_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    own = Ssh("admin", 2222, "~/.ssh/lab", "~/lab_hosts")
    remote = Remote(Machine("n1", "n1.lab", ssh=own), local=False)
    try:
        argv = remote._as_root(["sh", "-s"])
    finally:
        remote.close()
    assert argv[0] == "ssh"
    assert argv[argv.index("-p") + 1] == "2222"
    assert argv[argv.index("-l") + 1] == "admin"
    assert argv[argv.index("-i") + 1] == "/home/me/.ssh/lab"
    assert argv[-2:] == ["n1.lab", "sudo -n sh -s"]
    options = options_of(argv)
    assert (options["UserKnownHostsFile"], options["IdentitiesOnly"]) == ("/home/me/lab_hosts", "yes")


def test_ssh_never_asks_and_refuses_a_changed_host_key_and_leaves_the_rest_to_the_person(away: Remote) -> None:
    argv = away._as_root(["sh", "-s"])
    options = options_of(argv)
    assert (options["BatchMode"], options["StrictHostKeyChecking"]) == ("yes", "accept-new")
    assert "ConnectTimeout" in options
    assert {"UserKnownHostsFile", "IdentitiesOnly"}.isdisjoint(options)
    assert "-i" not in argv
    assert argv[-2:] == ["192.0.2.7", "sh -s"], "root needs no sudo"


def test_words_with_blanks_and_quotes_arrive_as_they_are(away: Remote) -> None:
    argv = ["echo", "a b", "it's; $HOME"]
    assert shlex.split(away._as_root(argv)[-1]) == argv


def test_a_script_and_what_is_secret_in_it_travel_as_input_only(
    away: Remote, ssh: Callable[[], list[Any]], tmp_path: Path
) -> None:
    secret = "SWMTKN-1-very-secret"
    assert away.run(f"echo {secret} | tr a-z A-Z", timeout_s=20).stdout == f"{secret.upper()}\n"
    assert len(ssh()) == 1
    assert secret not in str(ssh())


def test_the_control_socket_fits_into_a_sockets_name_and_only_its_owner_may_use_it(away: Remote) -> None:
    path = options_of(away._ssh())["ControlPath"]
    # ssh binds a temporary name first: 17 bytes more (mux.c, OpenSSH 9.2); 108 with the 0 at the end (unix(7)).
    assert len(path) + 17 < 108
    assert Path(path).parent.stat().st_mode & 0o777 == 0o700


def test_a_script_may_fail_where_it_is_told_so_but_an_ssh_that_fails_is_always_an_error(
    away: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert away.run("exit 3", timeout_s=20, check=False).returncode == 3
    with pytest.raises(MachineError, match=r"machine n1 \(192\.0\.2\.7\): a command ended with code 3"):
        away.run("exit 3", timeout_s=20)
    monkeypatch.setenv("FAKE_SSH_SAYS", "ssh: connect to host 192.0.2.7 port 22: Connection refused\n")
    monkeypatch.setenv("FAKE_SSH_CODE", "255")
    with pytest.raises(MachineError, match="can't be reached over ssh"):
        away.run("exit 3", timeout_s=20, check=False)


CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Host key for 192.0.2.7 has changed and you have requested strict checking.
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("code", "stderr", "says", "hint"),
    [
        (
            255,
            "admin@192.0.2.7: Permission denied (publickey,password).",
            "ssh refuses user admin with /k: admin@192.0.2.7: Permission denied (publickey,password).",
            "ssh-copy-id",
        ),
        (255, CHANGED, "its host key is not the one that was seen before", "ssh-keygen -R"),
        (255, "Host key verification failed.", "its host key is not the one that was seen before", "ssh-keygen -R"),
        (
            255,
            "ssh: connect to host 192.0.2.7 port 2222: Connection refused",
            "can't be reached over ssh: ssh: connect to host 192.0.2.7 port 2222: Connection refused",
            "try it by hand: ssh -p 2222 admin@192.0.2.7",
        ),
        (
            255,
            "ssh: connect to host 192.0.2.7 port 2222: Connection timed out",
            "can't be reached over ssh: ssh: connect to host 192.0.2.7 port 2222: Connection timed out",
            "ssh -p 2222 admin@192.0.2.7",
        ),
        (
            255,
            "ssh: connect to host 192.0.2.7 port 22: No route to host",
            "can't be reached over ssh: ssh: connect to host 192.0.2.7 port 22: No route to host",
            "by hand",
        ),
        (
            255,
            "ssh: Could not resolve hostname n1: Name or service not known",
            "can't be reached over ssh: ssh: Could not resolve hostname n1: Name or service not known",
            "by hand",
        ),
        (255, "", "can't be reached over ssh: it said nothing", "by hand"),
        (
            1,
            "sudo: a password is required",
            "user admin may not become root without a password: sudo: a password is required",
            "passwordless sudo",
        ),
        (127, "sh: 1: docker: not found", "a command ended with code 127: sh: 1: docker: not found", "and look"),
        (1, "first\nlast line", "a command ended with code 1: last line", "and look"),
    ],
)
def test_what_ssh_says_becomes_what_is_wrong_with_this_machine_and_the_next_command(
    ssh: object, monkeypatch: pytest.MonkeyPatch, code: int, stderr: str, says: str, hint: str
) -> None:
    remote = Remote(Machine("n1", "192.0.2.7", ssh=Ssh("admin", 2222, "/k")), local=False)
    error = remote._explained(Completed(("ssh",), code, "", stderr))
    assert error.message.startswith("machine n1 (192.0.2.7)")
    assert says in error.message
    assert hint in error.hint


def test_without_a_key_in_the_file_a_refusal_names_the_agent(ssh: object) -> None:
    error = Remote(AWAY, local=False)._explained(
        Completed((), 255, "", "root@192.0.2.7: Permission denied (publickey).")
    )
    assert "user root with the agent's keys" in error.message


# -- the engine through the relay --------------------------------------------------------------------------------------


def dial(host: str | None) -> socket.socket:
    assert host is not None
    assert host.startswith("unix:///")
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(10)
    s.connect(host.removeprefix("unix://"))
    return s


def ask(s: socket.socket, line: bytes) -> bytes:
    s.sendall(line + b"\n")
    said = b""
    while not said.endswith(b"\n"):
        part = s.recv(100)
        assert part, "the relay hung up"
        said += part
    return said.rstrip(b"\n")


def test_every_connection_to_the_docker_host_is_one_to_the_engine_there(
    away: Remote, ssh: Callable[[], list[Any]]
) -> None:
    host = away.docker_host()
    assert away.docker_host() == host
    with dial(host) as a, dial(host) as b:
        assert (ask(a, b"ping a"), ask(b, b"ping b"), ask(a, b"again")) == (b"PING A", b"PING B", b"AGAIN")
    assert [rest for _, _, rest in ssh()] == [["192.0.2.7", "docker system dial-stdio"]] * 2


def test_as_another_user_the_engine_is_reached_with_sudo() -> None:
    remote = Remote(Machine("n1", "192.0.2.7", ssh=Ssh("admin")), local=False)
    try:
        assert remote._as_root(["docker", "system", "dial-stdio"])[-1] == "sudo -n docker system dial-stdio"
    finally:
        remote.close()


def test_a_client_that_hangs_up_ends_its_ssh(away: Remote) -> None:
    with dial(away.docker_host()) as s:
        assert ask(s, b"x") == b"X"
        [child] = away._children
        assert child.poll() is None
    until(lambda: child.poll() is not None, "the ssh of a closed connection still runs")


def test_an_engine_that_does_not_answer_hangs_up_at_once(away: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SSH_SAYS", "refused")
    monkeypatch.setenv("FAKE_SSH_CODE", "255")
    with dial(away.docker_host()) as s:
        assert s.recv(1) == b""


def test_only_this_user_can_reach_the_docker_host(away: Remote) -> None:
    path = Path(str(away.docker_host()).removeprefix("unix://"))
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_close_ends_connections_and_leaves_no_file(away: Remote) -> None:
    host = away.docker_host()
    s = dial(host)
    assert ask(s, b"x") == b"X"
    [child] = away._children
    away.close()
    assert child.poll() is not None
    assert s.recv(1) == b""
    s.close()
    assert not Path(str(host).removeprefix("unix://")).parent.exists()
    away.close()  # twice is fine
    with dial(away.docker_host()) as again:  # and so is coming back
        assert ask(again, b"y") == b"Y"


def test_close_ends_the_shared_connection_of_ssh(away: Remote, ssh: Callable[[], list[Any]]) -> None:
    (away._scratch() / "master").touch()
    away.close()
    [(_, options, rest)] = ssh()
    assert ["O", "exit"] in options
    assert rest == ["192.0.2.7"]


def _waits_in(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return frame.f_code.co_name if frame is not None else ""


def test_close_ends_the_relays_thread(away: Remote) -> None:
    before = set(threading.enumerate())
    with dial(away.docker_host()) as s:
        assert ask(s, b"x") == b"X"
    [relay] = set(threading.enumerate()) - before
    # In accept again, not on its way there.
    until(lambda: len(away._children) == 1 and "accept" in _waits_in(relay), "the relay does not wait")
    away.close()
    until(lambda: not relay.is_alive(), "the thread still waits", timeout_s=2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_without_ssh_every_connection_is_hung_up(away: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for _ in range(2):
        with dial(away.docker_host()) as s:
            s.settimeout(2)
            assert s.recv(1) == b""


def test_a_machine_that_falls_silent_is_named(away: Remote) -> None:
    with pytest.raises(SwarmHpcError) as caught:
        away.run("sleep 5", timeout_s=1)
    assert "n1" in caught.value.message


def test_the_mend_for_a_changed_host_key_takes_the_right_line_off_the_right_file(ssh: object) -> None:
    own = Ssh("admin", 2222, known_hosts="/lab_hosts")
    hint = Remote(Machine("n1", "192.0.2.7", ssh=own), local=False)._explained(Completed((), 255, "", CHANGED)).hint
    assert "[192.0.2.7]:2222" in hint
    assert "-f /lab_hosts" in hint
