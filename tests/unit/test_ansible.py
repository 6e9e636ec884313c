"""The Ansible adapter without other machines, and what the playbooks decide (ansible/module_utils)."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarmhpc import state
from swarmhpc.adapters import ansible
from swarmhpc.adapters.ansible import Events, HostResult, Target
from swarmhpc.errors import SwarmHpcError

TOP = state.assets("ansible")


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _quiet(host: str, text: str) -> None:
    """Nobody looks."""


decide = _load(TOP / "module_utils" / "swarmhpc_decide.py")

# ------------------------------------------------------------------------------------------------ the adapter's input


class _Tagged(yaml.SafeLoader):
    """Reads `!unsafe` texts as the pair ("unsafe", text)."""


def _unsafe(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> tuple[str, object]:
    return "unsafe", loader.construct_scalar(node)


_Tagged.add_constructor("!unsafe", _unsafe)


def _inventory(*targets: Target, known_hosts: str | None = None, **variables: object) -> Any:
    return yaml.load(ansible.inventory(targets, variables, known_hosts=known_hosts), Loader=_Tagged)["all"]


def test_a_machine_is_reached_as_its_target_says() -> None:
    target = Target("n2", "10.0.0.12", user="lab", port=2222, key="/k/id", manager=False)
    assert _inventory(target)["hosts"]["n2"] == {
        "ansible_host": ("unsafe", "10.0.0.12"),
        "ansible_port": 2222,
        "ansible_user": ("unsafe", "lab"),
        "ansible_ssh_private_key_file": ("unsafe", "/k/id"),
        "ansible_python_interpreter": ("unsafe", "/usr/bin/python3"),
        "ansible_become": True,
        "swarmhpc_manager": False,
        "swarmhpc_version": ("unsafe", ansible.version({}, manager=False)),
    }


def test_root_needs_no_sudo_and_ssh_s_own_user_and_keys_are_left_to_ssh() -> None:
    hosts = _inventory(Target("a", "a"), Target("b", "b", user=""))["hosts"]
    assert hosts["a"]["ansible_become"] is False
    assert "ansible_ssh_private_key_file" not in hosts["a"]
    assert "ansible_user" not in hosts["b"]


def test_this_machine_is_prepared_without_ssh() -> None:
    host = _inventory(Target("here", "127.0.0.1", local=True))["hosts"]["here"]
    assert host["ansible_connection"] == ("unsafe", "local")
    assert host["ansible_python_interpreter"] == ("unsafe", sys.executable)
    assert host["ansible_become"] is (os.geteuid() != 0)
    assert "ansible_host" not in host


def test_what_people_typed_is_never_a_template() -> None:
    shared = _inventory(Target("a", "a"), execute_dir="{{ 7 * 6 }}", swarm_peers=["{{ x }}"], pool_ports=(9618,))[
        "vars"
    ]
    assert shared["swarmhpc_execute_dir"] == ("unsafe", "{{ 7 * 6 }}")
    assert shared["swarmhpc_swarm_peers"] == [("unsafe", "{{ x }}")]
    assert shared["swarmhpc_pool_ports"] == [9618]


def test_host_keys_are_kept_where_the_caller_says() -> None:
    shared = _inventory(Target("a", "a"), known_hosts="/with space/known_hosts")["vars"]
    assert shared["ansible_ssh_common_args"] == ("unsafe", "-o UserKnownHostsFile='/with space/known_hosts'")
    assert "ansible_ssh_common_args" not in _inventory(Target("a", "a"))["vars"]


def test_nobody_s_ansible_settings_count(tmp_path: Path) -> None:
    mine = {"ANSIBLE_CONFIG": "/home/me/.ansible.cfg", "ANSIBLE_HOST_KEY_CHECKING": "False", "SSH_AUTH_SOCK": "/agent"}
    given = ansible.environment(mine, tmp_path, TOP)
    assert given["ANSIBLE_CONFIG"] == str(TOP / "ansible.cfg")
    assert "ANSIBLE_HOST_KEY_CHECKING" not in given
    assert given["SSH_AUTH_SOCK"] == "/agent"


def test_a_mistyped_variable_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="exectue_dir"):
        ansible.run("prepare", [Target("a", "a")], variables={"exectue_dir": "/x"}, on_host=print)


def test_the_version_changes_with_the_playbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "ansible"
    shutil.copytree(TOP, copy)
    before = ansible.version({}, manager=True)
    monkeypatch.setattr(state, "assets", lambda _: copy)
    assert ansible.version({}, manager=True) == before
    (copy / "README.md").write_text("other words")
    assert ansible.version({}, manager=True) == before
    with (copy / "roles/machine/tasks/prepare.yml").open("a") as file:
        file.write("# more\n")
    assert ansible.version({}, manager=True) != before


def test_the_version_changes_with_what_a_machine_becomes_and_not_with_how_it_gets_there() -> None:
    before = ansible.version({"pool_ports": [9618]}, manager=True)
    assert ansible.version({"pool_ports": [9700]}, manager=True) != before
    assert ansible.version({"pool_ports": [9618]}, manager=False) != before
    assert ansible.version({"pool_ports": [9618], "apt_options": "A=b", "purge": True}, manager=True) == before


# ------------------------------------------------------------------------------------------------ the adapter's output


def _event(event: str, host: str, task: str = "t", **more: object) -> str:
    return json.dumps(
        {"event": event, "host": host, "task": task, "changed": False, "result": {}, "report": {}, **more}
    )


def _results(*lines: str, targets: tuple[str, ...] = ("n1", "n2")) -> dict[str, HostResult]:
    events = Events([Target(name, f"10.0.0.{name[1:]}") for name in targets], _quiet)
    for line in lines:
        events.take(line)
    return events.results()


def test_changes_are_counted_for_each_machine() -> None:
    found = _results(
        _event("ok", "n1", changed=True),
        _event("ok", "n2"),
        _event("ok", "n1", changed=True),
    )
    assert (found["n1"].changed, found["n2"].changed) == (2, 0)
    assert found["n1"].ok and found["n2"].ok


def test_one_machine_s_failure_leaves_the_others_alone() -> None:
    said = {"msg": "Job for docker.service failed."}
    found = _results(_event("failed", "n1", "start docker.service", result=said), _event("ok", "n2", changed=True))
    assert found["n1"].kind == "failed" and not found["n1"].ok
    assert found["n1"].message == "n1 (10.0.0.1): start docker.service: Job for docker.service failed"
    assert found["n2"] == HostResult("n2", ok=True, changed=1)


def test_findings_are_those_of_the_last_look_and_the_plan_that_of_the_first() -> None:
    found = _results(
        _event("ok", "n1", report={"plan": ["install docker.io"], "findings": ["no IPVS", "the clock may drift"]}),
        _event("ok", "n1", report={"plan": [], "findings": ["the clock may drift"]}),
        _event("ok", "n1", report={"findings": ["docker.io stays"]}),
    )
    assert found["n1"].plan == ("install docker.io",)
    assert found["n1"].findings == ("the clock may drift", "docker.io stays")


def test_the_task_that_begins_is_the_live_line() -> None:
    live: list[tuple[str, str]] = []
    events = Events([Target("n1", "a")], lambda host, text: live.append((host, text)))
    events.take(_event("start", "n1", "install docker.io"))
    assert live == [("n1", "install docker.io")]
    assert events.results() == {}, "a machine that only began has no result"


def test_what_is_no_event_is_kept_for_the_error() -> None:
    events = Events([Target("n1", "a")], _quiet)
    events.take("[WARNING]: something\n")
    events.take("42\n")
    assert events.noise == ["[WARNING]: something", "42"]


# What ansible-core 2.19.14 hands over, recorded on lab machines (OpenSSH 9.2, sudo 1.9).
_SSH = 'Task failed: Data could not be sent to remote host "10.0.0.12". Make sure this host can be reached over ssh: '
_CHANGED_KEY = """@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Offending ED25519 key in /k/known_hosts:1
  remove with:
  ssh-keygen -f "/k/known_hosts" -R "10.0.0.12"
Host key for 10.0.0.12 has changed and you have requested strict checking.
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("user", "result", "expected"),
    [
        (
            "root",
            {"msg": _SSH + "root@10.0.0.12: Permission denied (publickey,password).\r\n"},
            "n2 (10.0.0.12): ssh as root: root@10.0.0.12: Permission denied (publickey,password); "
            "hint: give root a key that this machine accepts: ssh-copy-id root@10.0.0.12",
        ),
        (
            "",
            {"msg": _SSH + "ssh: connect to host 10.0.0.12 port 22: No route to host"},
            "n2 (10.0.0.12): ssh: ssh: connect to host 10.0.0.12 port 22: No route to host; "
            "hint: see that it is on and that its address is right: ping 10.0.0.12",
        ),
        (
            "root",
            {"msg": _SSH + _CHANGED_KEY},
            "n2 (10.0.0.12): ssh as root: Offending ED25519 key in /k/known_hosts:1 Host key for 10.0.0.12 has changed "
            "and you have requested strict checking. Host key verification failed; hint: its host key is not the known "
            'one. If it was installed anew: ssh-keygen -f "/k/known_hosts" -R "10.0.0.12"',
        ),
        (
            "ada",
            {"msg": "Task failed: Missing sudo password"},
            "n2 (10.0.0.12): look at the machine: sudo wants a password, or does not know this user; "
            "hint: let ada use sudo without a password (in /etc/sudoers.d/swarmhpc: ada ALL=(ALL) NOPASSWD: ALL), "
            "or name root as the user",
        ),
        (
            "root",
            {"msg": "non-zero return code", "rc": "100", "stderr": "E: Unable to locate package docker.io"},
            "n2 (10.0.0.12): look at the machine: E: Unable to locate package docker.io; "
            "hint: see that its apt sources name main (Ubuntu: universe), and that apt-get update works there",
        ),
        ("root", {"msg": "non-zero return code"}, "n2 (10.0.0.12): look at the machine: non-zero return code"),
    ],
)
def test_a_failure_is_told_in_the_machine_s_own_words_with_a_hint(
    user: str, result: dict[str, str], expected: str
) -> None:
    assert ansible.explain(Target("n2", "10.0.0.12", user=user), "look at the machine", result) == expected


def test_a_long_output_keeps_its_end() -> None:
    message = ansible.explain(Target("n2", "a"), "t", {"msg": "x" * 5000 + " the end"})
    assert message.endswith("the end")
    assert len(message) < 700


# ------------------------------------------------------------------------------------------------ Ansible itself


@pytest.mark.parametrize("playbook", ["prepare", "undo"])
def test_a_playbook_has_no_syntax_error(playbook: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "--syntax-check", f"{playbook}.yml"]
    env = ansible.environment(os.environ, tmp_path, TOP)
    done = subprocess.run(argv, cwd=TOP, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_check_mode_on_this_machine_ends_with_one_result_and_says_what_it_did() -> None:
    live: list[tuple[str, str]] = []
    found = ansible.run(
        "prepare",
        [Target("here", "127.0.0.1", local=True)],
        variables={},
        check=True,
        on_host=lambda host, text: live.append((host, text)),
    )
    assert live[0] == ("here", "look at the machine")
    # What is lacking here differs from machine to machine; that it was looked at and told does not.
    assert found["here"].ok or found["here"].message.startswith("here (this machine): look at the machine: ")
    assert list(found) == ["here"]


def test_ansible_that_can_t_run_is_an_error_that_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(TOP, tmp_path / "ansible")
    (tmp_path / "ansible" / "prepare.yml").write_text("- hosts: all\n  nonsense: true\n")
    monkeypatch.setattr(state, "assets", lambda _: tmp_path / "ansible")
    with pytest.raises(SwarmHpcError, match=r"says nothing of here.*nonsense"):
        ansible.run("prepare", [Target("here", "", local=True)], variables={}, on_host=_quiet)


# ------------------------------------------------------------------------------------------------ what is decided

DEBIAN = {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux 13 (trixie)"}
ROCKY = {"ID": "rocky", "ID_LIKE": "rhel centos fedora", "PRETTY_NAME": "Rocky Linux 9.5"}
FEDORA = {"ID": "fedora", "PRETTY_NAME": "Fedora Linux 42"}
EXECUTE = "/var/lib/swarmhpc/execute"
PREPARED = "write /etc/swarmhpc/prepared.json"


def _seen(**more: Any) -> dict[str, Any]:
    """A bare Debian; `more` is what is different."""
    return {
        "os": DEBIAN,
        "systemd": True,
        "root": True,
        "commands": ["apt-get", "iptables"],
        "engine": "",
        "swarm": "inactive",
        "containers": 0,
        "units": {"chrony": ["active", "enabled"]},
        "modules": dict.fromkeys(decide.MODULES, "loadable"),
        "modules_file": "",
        "firewall": "",
        "openings": [],
        "folders": {EXECUTE: None, "/var/lib/swarmhpc": None, "/var/lib": "0755", "/var": "0755"},
        "mounts": {},
        "synchronised": True,
        "ip_forward": "1",
        "apparmor": False,
        "selinux": False,
        "certificates": True,
        "has_docker_group": False,
        "record": {},
        **more,
    }


def _want(**more: Any) -> dict[str, Any]:
    return {
        "execute_dir": EXECUTE,
        "pool_ports": [9618],
        "swarm_peers": [],
        "manager": True,
        "encrypted": False,
        "time_service": False,
        "purge": False,
        "version": "v1",
        **more,
    }


def _ready(**more: Any) -> dict[str, Any]:
    """A Debian that lacks nothing, prepared by us."""
    bare = _seen()
    loaded = dict.fromkeys(decide.MODULES, "loaded")
    record = {**decide.lacks(bare, _want())["record"], "packages": ["docker.io", "runc"], "version": "v1"}
    ready = {
        "engine": "26.1.5",
        "commands": ["apt-get", "iptables", "dockerd", "docker"],
        "units": {"docker": ["active", "enabled"], "chrony": ["active", "enabled"]},
        "modules": loaded,
        "modules_file": decide.modules_file({"modules": loaded}),
        "folders": {EXECUTE: "0755", "/var/lib/swarmhpc": "0755", "/var/lib": "0755"},
        "has_docker_group": True,
        "record": record,
    }
    return _seen(**{**ready, **more})


def test_a_bare_debian_gets_engine_modules_directory_and_record() -> None:
    todo = decide.lacks(_seen(), _want())
    assert todo["refuse"] == ""
    assert todo["packages"] == ["docker.io"]
    assert todo["folders"] == ["/var/lib/swarmhpc", EXECUTE]
    assert todo["load"] == list(decide.MODULES)
    assert todo["firewall_commands"] == []
    assert todo["plan"][-1] == PREPARED
    assert todo["record"]["made_docker_group"] is True


def test_a_prepared_machine_lacks_nothing() -> None:
    todo = decide.lacks(_ready(), _want())
    assert (todo["any"], todo["plan"], todo["findings"]) == (False, [], [])


def test_other_playbooks_only_renew_the_record() -> None:
    todo = decide.lacks(_ready(), _want(version="v2"))
    assert todo["plan"] == [PREPARED]


@pytest.mark.parametrize(
    ("seen", "packages"),
    [
        ({"os": {"ID": "ubuntu", "ID_LIKE": "debian"}, "apparmor": True}, ["docker.io", "apparmor"]),
        ({"commands": ["apt-get"], "certificates": False}, ["docker.io", "ca-certificates", "iptables"]),
        ({"commands": ["apt-get", "iptables", "dockerd"]}, ["docker-cli"]),
        ({"engine": "28.0", "commands": ["apt-get", "iptables", "dockerd", "docker"]}, []),
        ({"os": FEDORA, "commands": ["dnf"]}, ["moby-engine", "iptables-nft"]),
        ({"os": ROCKY, "engine": "28.0", "commands": ["dnf", "iptables", "dockerd", "docker"]}, []),
    ],
)
def test_only_what_is_missing_is_installed(seen: dict[str, Any], packages: list[str]) -> None:
    todo = decide.lacks(_seen(**seen), _want())
    assert (todo["refuse"], todo["packages"]) == ("", packages)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (
            {"os": {"ID": "alpine", "PRETTY_NAME": "Alpine Linux v3.21"}},
            "this is Alpine Linux v3.21; supported are Debian",
        ),
        ({"os": {}}, "a system without /etc/os-release"),
        ({"systemd": False}, "this is Debian GNU/Linux 13 (trixie) without systemd"),
        ({"os": ROCKY, "commands": ["dnf"]}, "Rocky Linux 9.5 has no Docker engine among its packages"),
        ({"folders": {EXECUTE: "not a directory"}}, f"{EXECUTE} is wanted as a directory"),
    ],
)
def test_a_machine_that_can_t_be_prepared_is_refused_by_name(seen: dict[str, Any], said: str) -> None:
    todo = decide.lacks(_seen(**seen), _want())
    assert said in todo["refuse"]
    assert (todo["any"], todo["plan"]) == (False, [])


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"modules": {**dict.fromkeys(decide.MODULES, "loaded"), "ip_vs": "missing"}}, "no IPVS in this kernel"),
        ({"units": {}}, "no time service is active"),
        ({"synchronised": False}, "clock is not synchronised, although chrony is active"),
        (
            {"engine": "26.1.5", "units": {"docker": ["active", "enabled"]}, "ip_forward": "0"},
            "net.ipv4.ip_forward is 0",
        ),
    ],
)
def test_what_stops_nothing_is_a_finding(seen: dict[str, Any], said: str) -> None:
    todo = decide.lacks(_seen(**seen), _want())
    assert todo["refuse"] == ""
    assert any(said in finding for finding in todo["findings"])


def test_a_module_that_the_kernel_lacks_is_not_listed_for_the_next_start() -> None:
    modules = {**dict.fromkeys(decide.MODULES, "loaded"), "ip_vs": "missing", "ip_vs_rr": "missing"}
    text = decide.lacks(_seen(modules=modules), _want())["modules_file"]
    assert text.splitlines()[1:] == ["overlay", "br_netfilter", "vxlan", "nf_conntrack"]


def test_chrony_comes_only_when_asked_for_and_nothing_keeps_the_time() -> None:
    assert decide.lacks(_ready(units={}), _want(time_service=True))["packages"] == ["chrony"]
    assert decide.lacks(_ready(units={}), _want())["packages"] == []
    assert decide.lacks(_ready(), _want(time_service=True))["packages"] == []


def test_an_engine_that_was_there_is_not_ours_and_its_switch_is_remembered() -> None:
    commands = ["apt-get", "iptables", "dockerd", "docker"]
    todo = decide.lacks(_seen(commands=commands, units={"docker": ["inactive", "disabled"]}), _want())
    assert todo["start"] is True
    assert todo["record"]["engine_unit_was"] == ["inactive", "disabled"]
    undo = decide.leftovers(_ready(record=todo["record"]), _want())
    assert (undo["engine_is_ours"], undo["stop"], undo["disable"]) == (False, True, True)
    assert undo["packages"] == []


def test_an_interrupted_run_s_record_is_continued() -> None:
    begun = {**decide.lacks(_seen(), _want())["record"], "packages": ["docker.io", "runc"], "version": None}
    # The engine came before the interruption, the rest did not.
    seen = _ready(record=begun, modules_file="", folders={EXECUTE: None, "/var/lib/swarmhpc": "0755"})
    todo = decide.lacks(seen, _want())
    assert todo["packages"] == []
    assert todo["record"]["packages"] == ["docker.io", "runc"]
    assert todo["record"]["made_docker_group"] is True
    assert todo["record"]["folders"] == ["/var/lib/swarmhpc", EXECUTE]
    assert todo["plan"][-1] == PREPARED


# ------------------------------------------------------------------------------------------------ firewalls

# As the firewalls print them: ufw 0.36.2 (`ufw show added`), firewalld 2.3 (`--list-rich-rules`), on Debian 13.
UFW = {
    (2377, "tcp", "any"): "ufw allow 2377/tcp",
    (7946, "udp", "10.0.0.1"): "ufw allow from 10.0.0.1 to any port 7946 proto udp",
    (None, "esp", "10.0.0.1"): "ufw allow from 10.0.0.1 proto esp",
    (None, "esp", "any"): "ufw allow to any proto esp",
}
FIREWALLD = {
    (2377, "tcp", "any"): 'rule port port="2377" protocol="tcp" accept',
    (7946, "udp", "10.0.0.1"): 'rule family="ipv4" source address="10.0.0.1" port port="7946" protocol="udp" accept',
    (None, "esp", "fd00::1"): 'rule family="ipv6" source address="fd00::1" protocol value="esp" accept',
    (None, "esp", "any"): 'rule protocol value="esp" accept',
}


@pytest.mark.parametrize(("firewall", "rules"), [("ufw", UFW), ("firewalld", FIREWALLD)])
def test_a_rule_is_spelled_as_its_firewall_prints_it(firewall: str, rules: dict[tuple[Any, str, str], str]) -> None:
    assert {opening: decide.opening_rule(firewall, opening) for opening in rules} == rules


@pytest.mark.parametrize("opening", [(2377, "tcp", "any"), (7946, "udp", "fd00::1"), (None, "esp", "10.0.0.0/24")])
def test_a_recorded_opening_reads_back(opening: tuple[Any, str, str]) -> None:
    assert decide.parse_opening(decide.opening_text(opening)) == opening


def test_swarm_s_ports_open_to_its_nodes_only_and_the_pool_s_to_everybody() -> None:
    want = _want(manager=False, encrypted=True, swarm_peers=["10.0.0.1"])
    assert [decide.opening_text(o) for o in decide.openings(want)] == [
        *("7946/tcp from 10.0.0.1", "7946/udp from 10.0.0.1", "4789/udp from 10.0.0.1", "esp from 10.0.0.1"),
        "9618/tcp from any",
    ]


def test_an_opening_that_was_there_is_neither_made_nor_recorded() -> None:
    todo = decide.lacks(_ready(firewall="ufw", openings=["ufw allow 9618/tcp"]), _want())
    assert "9618/tcp from any" not in [o["opening"] for o in todo["record"]["openings"]]
    assert {"firewall": "ufw", "opening": "7946/tcp from any"} in todo["record"]["openings"]
    assert ["ufw", "allow", "2377/tcp", "comment", "swarmhpc"] in todo["firewall_commands"]


def test_our_opening_for_a_node_that_left_is_closed() -> None:
    two = _want(swarm_peers=["10.0.0.1", "10.0.0.2"])
    first = decide.lacks(_ready(firewall="firewalld"), two)
    rules = [decide.opening_rule("firewalld", o) for o in decide.openings(two)]
    seen = _ready(firewall="firewalld", openings=rules, record={**first["record"], "version": "v1"})
    assert decide.lacks(seen, two)["any"] is False
    todo = decide.lacks(seen, _want(swarm_peers=["10.0.0.1"]))
    assert [line for line in todo["plan"] if "10.0.0.2" in line] == [
        f"close {what} from 10.0.0.2 in firewalld" for what in ("2377/tcp", "7946/tcp", "7946/udp", "4789/udp")
    ]
    assert not [o for o in todo["record"]["openings"] if "10.0.0.2" in o["opening"]]
    now, later = todo["firewall_commands"]
    assert (now[0], later[:2]) == ("firewall-cmd", ["firewall-cmd", "--permanent"])


# ------------------------------------------------------------------------------------------------ undo


def test_undo_takes_away_what_the_record_says() -> None:
    todo = decide.leftovers(_ready(), _want())
    assert todo["packages"] == ["docker.io", "runc"]
    assert todo["remove_docker_group"] is True
    # What jobs left goes with its directory; the one above it only when nobody else put anything there.
    assert (todo["trees"], todo["empty_folders"]) == ([EXECUTE], ["/var/lib/swarmhpc"])
    assert any("/var/lib/docker" in finding for finding in todo["findings"])


def test_undo_of_a_machine_that_we_never_prepared_does_nothing() -> None:
    todo = decide.leftovers(_ready(record={}), _want())
    assert todo["any"] is False
    assert todo["findings"] == ["nothing to undo: there is no /etc/swarmhpc/prepared.json"]


@pytest.mark.parametrize(
    ("seen", "said"),
    [({"swarm": "active"}, "still in a Swarm"), ({"containers": 3}, "3 containers run on the engine")],
)
def test_undo_refuses_to_end_what_still_runs(seen: dict[str, Any], said: str) -> None:
    todo = decide.leftovers(_ready(**seen), _want())
    assert said in todo["refuse"]
    assert todo["any"] is False


def test_undo_never_empties_a_disk_that_is_mounted_on_our_directory() -> None:
    todo = decide.leftovers(_ready(mounts={EXECUTE: True}), _want())
    assert EXECUTE not in todo["trees"]
    assert f"{EXECUTE} stays: something is mounted there" in todo["findings"]
