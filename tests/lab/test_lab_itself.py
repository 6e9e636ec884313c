"""The lab is what the other tests take it for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.lab.machines import Lab
from tests.lab.network import HOST_ADDRESS, LabError

Inspect = Callable[[str], Host]


def _ssh_answers(address: str, timeout_s: float = 2) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=timeout_s) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _wait_for_ssh(address: str, answers: bool) -> None:
    deadline = time.monotonic() + 30
    while _ssh_answers(address) is not answers:
        assert time.monotonic() < deadline, f"{address}: ssh answers: {not answers}, for 30 s"


def test_each_machine_is_a_debian_with_systemd_and_a_name_of_its_own(
    lab: Lab, names: list[str], inspect: Inspect
) -> None:
    for name in names:
        host = inspect(name)
        assert (host.system_info.distribution, host.system_info.codename) == ("debian", "trixie")
        assert host.check_output("cat /proc/1/comm") == "systemd"
        assert host.check_output("systemctl is-system-running") == "running"
        assert host.check_output("hostname") == name
        assert host.interface("vec0").addresses == [lab.machine(name).address]
    assert len({inspect(name).file("/etc/machine-id").content_string for name in names}) == len(names)


def test_a_machine_is_bare(names: list[str], inspect: Inspect) -> None:
    host = inspect(names[0])
    assert not host.exists("docker")
    assert not host.exists("containerd")
    assert host.package("openssh-server").is_installed
    assert not host.package("user-mode-linux").is_installed


def test_the_kernel_has_what_a_swarm_needs(names: list[str], inspect: Inspect) -> None:
    for name in names:
        host = inspect(name)
        assert host.run("modprobe -a ip_vs ip_vs_rr vxlan overlay br_netfilter").rc == 0
        assert host.file("/proc/net/ip_vs").exists
        assert {"cpu", "memory", "pids"} <= set(host.check_output("cat /sys/fs/cgroup/cgroup.controllers").split())
        assert "legacy" in host.check_output("iptables --version")
        assert host.run("iptables -t nat -L").rc == 0


def test_machines_reach_each_other_by_name_and_the_host_by_address(names: list[str], inspect: Inspect) -> None:
    python = "import socket, sys; print(socket.create_connection((sys.argv[1], 22), timeout=10).recv(4).decode())"
    for name in names[1:]:
        assert inspect(names[0]).check_output(f'python3 -c "{python}" {name}') == "SSH-"
    assert f"via {HOST_ADDRESS}" in inspect(names[0]).check_output("ip route get 192.0.2.1")


def test_an_administrator_has_sudo_and_another_person_has_not(lab: Lab, names: list[str]) -> None:
    assert lab.ssh(names[0], ["sudo", "-n", "id", "-u"], user="lab").stdout.strip() == "0"
    assert lab.ssh(names[0], ["id", "-un"], user="nosudo").stdout.strip() == "nosudo"
    with pytest.raises(LabError, match="exit code 1"):
        lab.ssh(names[0], ["sudo", "-n", "id", "-u"], user="nosudo")


def test_apt_reaches_the_mirror(names: list[str], inspect: Inspect) -> None:
    host = inspect(names[0])
    assert host.run("apt-get -q update").rc == 0
    assert "docker.io" in host.check_output("apt-cache policy docker.io")


def test_the_registry_is_refused_at_once(names: list[str], inspect: Inspect) -> None:
    python = "import socket; socket.create_connection(('registry-1.docker.io', 443), timeout=60)"
    started = time.monotonic()
    refused = inspect(names[0]).run(f'python3 -c "{python}"')
    assert "ConnectionRefusedError" in refused.stderr
    assert time.monotonic() - started < 10


@pytest.fixture
def healed(lab: Lab, names: list[str]) -> Iterator[str]:
    """The last machine; on the network again afterwards, also when the test fails."""
    yield names[-1]
    lab.heal(names[-1])


def test_a_cut_machine_is_unreachable_while_it_runs_and_returns(lab: Lab, names: list[str], healed: str) -> None:
    address = lab.machine(healed).address
    boot = lab.ssh(healed, "cat /proc/sys/kernel/random/boot_id").stdout
    lab.cut(healed)
    _wait_for_ssh(address, answers=False)
    assert lab.is_running(healed)
    assert _ssh_answers(lab.machine(names[0]).address)
    lab.heal(healed)
    _wait_for_ssh(address, answers=True)
    assert lab.ssh(healed, "cat /proc/sys/kernel/random/boot_id").stdout == boot


def test_a_machine_has_its_disk_after_a_power_cut_and_a_bare_one_after_a_reset(lab: Lab, names: list[str]) -> None:
    name = names[-1]
    key = lab.ssh(name, "cat /etc/ssh/ssh_host_ed25519_key.pub").stdout
    lab.ssh(name, "echo written >/root/mark && sync")
    lab.power_off(name)
    assert not lab.is_running(name)
    assert not _ssh_answers(lab.machine(name).address)
    lab.boot([name])
    assert lab.ssh(name, "cat /root/mark").stdout == "written\n"
    lab.reset(name)
    lab.boot([name])
    assert lab.ssh(name, "ls /root").stdout == ""
    # Else everybody's known_hosts would have to follow.
    assert lab.ssh(name, "cat /etc/ssh/ssh_host_ed25519_key.pub").stdout == key


def test_a_snapshot_brings_a_prepared_disk_back(lab: Lab, names: list[str]) -> None:
    name = names[-1]
    lab.ssh(name, "echo prepared >/root/mark")
    lab.snapshot("lab-itself", [name])
    try:
        assert not lab.is_running(name)
        lab.boot([name])
        lab.ssh(name, "echo changed >/root/mark")
        lab.power_off(name)
        lab.boot([name], snapshot="lab-itself")
        assert lab.ssh(name, "cat /root/mark").stdout == "prepared\n"
    finally:
        lab.drop_snapshot("lab-itself")
    assert not lab.has_snapshot("lab-itself", [name])


def test_a_process_that_took_a_dead_machines_number_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    other = Lab(tmp_path)
    home = tmp_path / "machines" / "n9"
    home.mkdir(parents=True)
    (home / "pid").write_text("1")
    assert not other.is_running("n9")
    other.power_off("n9")
    assert not (home / "pid").exists()


def test_what_is_no_machine_is_refused_with_what_is_wanted(lab: Lab) -> None:
    for wrong in ("n0", "n41", "node1", "10.77.0.11", ""):
        with pytest.raises(LabError, match="wanted n1 to n40"):
            lab.is_running(wrong)
    with pytest.raises(LabError, match="snapshot 'nothing-like-it' has no disk of n9"):
        lab.boot(["n9"], snapshot="nothing-like-it")


def test_the_network_goes_as_it_came(tmp_path: Path) -> None:
    # In namespaces of its own, where forwarding is off and no other lab is.
    script = """
mount -t tmpfs tmpfs /run
echo 0 >/proc/sys/net/ipv4/ip_forward
# Of iptables the rules only: a table, once looked at, stays.
see() { { ip -br link && ip netns && iptables-save && cat /proc/sys/net/ipv4/ip_forward; } | sed '/^[#:*C]/d' >$1; }
lab() { PYTHONPATH=$TOP $PYTHON -c "from pathlib import Path; from tests.lab.network import *; $1"; }
see before
lab 'raise_network(Path.cwd()); plug("tap1")'
see up
lab 'remove_network(Path.cwd())'
see after
"""
    paths = {"TOP": str(Path(__file__).resolve().parents[2]), "PYTHON": sys.executable}
    command = ["unshare", "--net", "--mount", "sh", "-ec", script]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **paths}, check=True)
    before, up, after = ((tmp_path / name).read_text() for name in ("before", "up", "after"))
    assert "MASQUERADE" in up
    assert "swarmhpc-lab0@" in up
    assert up.endswith("1\n")
    assert after == before


def test_a_second_lab_on_the_same_host_is_refused(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"a host can have one only.*SWARMHPC_LAB_DIR="):
        Lab(tmp_path).destroy()
