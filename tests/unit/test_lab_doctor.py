"""Doctor over several machines: what the facts mean by tables, the probes for real against this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from swarmhpc import state
from swarmhpc.adapters.command import Completed
from swarmhpc.adapters.docker import Node
from swarmhpc.adapters.remote import MachineFacts, Remote
from swarmhpc.cli.app import run
from swarmhpc.cluster import lab_doctor, lab_probes, lab_ways, members
from swarmhpc.cluster.doctor import Access
from swarmhpc.cluster.findings import Check
from swarmhpc.cluster.fleet import Fleet
from swarmhpc.cluster.lab_facts import HERE, LabFacts, there
from swarmhpc.cluster.lab_findings import judge
from swarmhpc.cluster.lab_probes import Answers, Crossing, Own
from swarmhpc.cluster.members import Seen
from swarmhpc.config import Cluster, Machine, Queue, Ssh
from swarmhpc.errors import EngineError, MachineError
from tests.unit import samples

NAMES = ("n1", "n2", "n3")
PORTS = (2377, 7946, 9618, 9619)
CLUSTER = Cluster(machines=tuple(Machine(n, f"192.0.2.1{n[1]}", "manager" if n == "n1" else "worker") for n in NAMES))
ENGINE = replace(samples.ENGINE, name="n", version="26.1.5+dfsg1", swarm_state="active")
NO_SWARM = replace(ENGINE, swarm_state="inactive")


def facts_of(name: str) -> MachineFacts:
    return MachineFacts(
        hostname=name,
        os="Debian GNU/Linux 13 (trixie)",
        kernel="6.12",
        ipvs=True,
        engine_installed=True,
        engine_version="26.1.5+dfsg1",
        prepared="{}",
        addresses={f"192.0.2.1{name[1]}": "eth0", "172.17.0.1": "docker0"},
        routes={"eth0 192.0.2.0": "192.0.2.0/24", "docker0 172.17.0.0": "172.17.0.0/16"},
        listens=frozenset({22, 7946, 9618, 9619} | ({2377} if name == "n1" else set())),
        cgroup_version="2",
        cpus=4,
        memory_mib=8192,
        clock_skew_s=0.0,
    )


def seen_of(machine: Machine) -> Seen:
    manages = machine.role == "manager"
    engine = replace(ENGINE, node_id=f"id-{machine.name}", is_manager=manages)
    pool = "swarmhpc" if manages else None
    return Seen(machine, machine.address, facts_of(machine.name), engine, pool, has_image=True)


def own_of(name: str) -> Own:
    return Own(
        engine_disk_mib=50_000,
        job_disk_mib=40_000,
        mtu=1500,
        networks={"ingress": ("10.0.0.0/24",), "swarmhpc_pool": ("10.73.0.0/16",)},
        janitor=f"c-{name}",
        overlay_address=f"10.73.0.{name[1]}",
    )


def answers_of(name: str) -> Answers:
    others = [n for n in NAMES if n != name]
    tcp = {(f"192.0.2.1{n[1]}", port): "open" for n in others for port in PORTS if port != 2377 or n == "n1"}
    return Answers(tcp, {f"10.73.0.{n[1]}": Crossing(1450, "crossed", "crossed") for n in others})


def node_of(name: str, **changes: Any) -> Node:
    labels = {state.LABEL_MACHINE: name} | ({state.LABEL_QUEUE_NODE: "swarmhpc"} if name == "n1" else {})
    role = "manager" if name == "n1" else "worker"
    node = Node(f"id-{name}", name, role, "ready", "active", f"192.0.2.1{name[1]}", 4, 8192, labels)
    return replace(node, **changes)


RUNNING = LabFacts(
    now_s=1_800_000_000,
    docker_command=True,
    image="swarmhpc/pool:abc",
    seen={m.name: seen_of(m) for m in CLUSTER.machines},
    access=Access(exists=True, person="alice", issued_at=1_799_999_000),
    own={n: own_of(n) for n in NAMES},
    answers={n: answers_of(n) for n in NAMES},
    from_here={(f"192.0.2.1{n[1]}", port): True for n in NAMES for port in (9618, 9619)},
    has_swarm=True,
    nodes=tuple(node_of(n) for n in NAMES),
    pool_runs=True,
    networking="vip",
)
ABSENT: Mapping[str, Any] = {"swarm_pool": None, "has_image": False, "is_prepared": False}
BARE = replace(
    RUNNING,
    seen={
        n: replace(
            s,
            engine=None,
            facts=replace(facts_of(n), engine_installed=False, engine_version="", prepared="", listens=frozenset({22})),
            **ABSENT,
        )
        for n, s in RUNNING.seen.items()
    },
    access=Access(exists=False, error="pool 'swarmhpc' is not known on this machine"),
    own={n: replace(own_of(n), networks={}, janitor="", overlay_address="") for n in NAMES},
    answers={n: Answers({k: "ECONNREFUSED" for k in answers_of(n).tcp if k[1] < 9000}) for n in NAMES},
    from_here={},
    has_swarm=False,
    nodes=(),
    pool_runs=False,
    networking=None,
)


def machine(f: LabFacts, name: str, **changes: Any) -> LabFacts:
    return replace(f, seen={**f.seen, name: replace(f.seen[name], **changes)})


def facts(f: LabFacts, name: str, **changes: Any) -> LabFacts:
    old = f.seen[name].facts
    assert old is not None
    return machine(f, name, facts=replace(old, **changes))


def engine(f: LabFacts, name: str, **changes: Any) -> LabFacts:
    old = f.seen[name].engine
    assert old is not None
    return machine(f, name, engine=replace(old, **changes))


def own(f: LabFacts, name: str, **changes: Any) -> LabFacts:
    return replace(f, own={**f.own, name: replace(f.own[name], **changes)})


def tcp(f: LabFacts, source: str, target: str, *ports: int, answer: str = "timeout") -> LabFacts:
    a = f.answers[source]
    found = {**a.tcp, **{(f"192.0.2.1{target[1]}", p): answer for p in ports}}
    return replace(f, answers={**f.answers, source: replace(a, tcp=found)})


def crosses(f: LabFacts, source: str, target: str, small: str, full: str) -> LabFacts:
    a = f.answers[source]
    found = {**a.overlay, f"10.73.0.{target[1]}": Crossing(1450, small, full)}
    return replace(f, answers={**f.answers, source: replace(a, overlay=found)})


def gone(f: LabFacts, name: str) -> LabFacts:
    """The machine gives no answer at all."""
    error = MachineError(f"machine {name} can't be reached over ssh: timed out", hint=f"try it by hand: ssh {name}")
    f = replace(f, own={n: o for n, o in f.own.items() if n != name})
    f = replace(f, answers={n: a for n, a in f.answers.items() if n != name})
    return machine(f, name, address="", facts=None, engine=None, swarm_pool=None, has_image=False, error=error)


def found(name: str, f: LabFacts, cluster: Cluster = CLUSTER) -> list[Check]:
    return [c for c in judge(f, cluster) if c.name == name]


def bad(f: LabFacts, cluster: Cluster = CLUSTER) -> list[Check]:
    return [c for c in judge(f, cluster) if c.status != "ok"]


# -- judging ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [RUNNING, BARE], ids=["running pool", "bare machines"])
def test_where_all_is_well_each_check_is_one_ok_line_for_all_machines(f: LabFacts) -> None:
    checks = judge(f, CLUSTER)
    assert [c for c in checks if c.status != "ok" or c.mend or c.machine] == []
    assert len({c.name for c in checks}) == len(checks)


def test_ok_lines_say_how_far_they_looked() -> None:
    seen = {c.name: c.seen for c in judge(RUNNING, CLUSTER)}
    assert seen["overlay"] == "packets up to 1450 bytes cross between every two of n1, n2, n3"
    assert seen["connections"] == "each of n1, n2, n3 reaches every other one: TCP 2377, 7946, 9618, 9619"
    assert seen["clock"] == "4 clocks agree to 0.0 s", "three machines and this one"
    assert {c.name: c.seen for c in judge(BARE, CLUSTER)}["overlay"].startswith("not checked: it exists with the pool")


VMWARE = {"eth0 10.73.5.0": "10.73.5.0/24"}


@pytest.mark.parametrize(
    ("name", "f", "status", "where", "seen", "mend"),
    [
        ("docker command", replace(RUNNING, docker_command=False), "problem", "", "missing", "apt-get install docker"),
        ("machines", gone(RUNNING, "n3"), "problem", "n3", "can't be reached over ssh", "by hand: ssh n3"),
        ("preparation", machine(RUNNING, "n2", is_prepared=False), "warning", "n2", "another version", "swarmhpc up"),
        ("engine", engine(RUNNING, "n2", version="19.03.8"), "problem", "n2", "20.10 or later", "on n2: apt-get"),
        ("engine", engine(RUNNING, "n2", version="20.10.24"), "warning", "n2", "2 of 3 have 26.x", "192.0.2.12 apt"),
        ("engine", machine(RUNNING, "n2", engine=None), "problem", "n2", "none answers", "systemctl start docker"),
        (
            "engine",
            machine(RUNNING, "n2", engine=None, error=EngineError("no answer")),
            "problem",
            "n2",
            "no answer",
            "ssh root@192.0.2.12 systemctl status docker",
        ),
        ("cgroups", engine(RUNNING, "n3", cgroup_driver="none"), "problem", "n3", "limits nothing", "on n3: "),
        ("ipvs", facts(RUNNING, "n3", ipvs=False), "problem", "n3", "this pool uses them", "192.0.2.13 modprobe ip_vs"),
        (
            "ipvs",
            facts(replace(RUNNING, networking="dnsrr"), "n3", ipvs=False),
            "warning",
            "n3",
            "only on the node that runs its daemons",
            "then networking: vip in swarmhpc.yaml",
        ),
        ("ipvs", facts(BARE, "n3", ipvs=False), "warning", "n3", "whole pool", "then swarmhpc up"),
        (
            "swarm",
            machine(RUNNING, "n3", engine=replace(NO_SWARM)),
            "warning",
            "n3",
            "not a node of the pool's Swarm yet",
            "swarmhpc up",
        ),
        ("swarm", engine(RUNNING, "n3", node_id="x"), "problem", "n3", "does not know", "docker swarm leave --force"),
        ("swarm", engine(RUNNING, "n3", swarm_state="locked"), "problem", "n3", "locked", "docker swarm unlock"),
        ("swarm", engine(RUNNING, "n3", swarm_state="error"), "problem", "n3", "'error'", "systemctl restart docker"),
        ("swarm", replace(RUNNING, swarm_error=("broken", "")), "problem", "", "broken", "docker node ls"),
        (
            "swarm",
            machine(BARE, "n1", error=EngineError("The swarm does not have a leader")),
            "problem",
            "n1",
            "does not have a leader",
            "more than half",
        ),
        (
            "nodes",
            replace(RUNNING, nodes=(node_of("n1"), node_of("n2", state="down"), node_of("n3"))),
            "warning",
            "n2",
            "down, active",
            "start machine n2 (192.0.2.12)",
        ),
        (
            "nodes",
            replace(RUNNING, nodes=(node_of("n1", availability="drain"), node_of("n2"), node_of("n3"))),
            "problem",
            "n1",
            "drain, home of the queue",
            "swarmhpc node activate n1",
        ),
        (
            "nodes",
            replace(RUNNING, nodes=(*RUNNING.nodes, node_of("n4"))),
            "warning",
            "n4",
            "does not name it",
            "swarmhpc node remove n4",
        ),
        ("nodes", replace(RUNNING, nodes=(node_of("n2"), node_of("n3"))), "problem", "", "home of the", "swarmhpc up"),
        (
            "ports",
            facts(BARE, "n2", listens=frozenset({9618, 2377})),
            "problem",
            "n2",
            "port 9618 (wanted for ports.central_manager) is taken",
            "ssh root@192.0.2.12 'ss -ltnp",
        ),
        (
            "subnet",
            facts(BARE, "n3", routes=VMWARE),
            "problem",
            "n3",
            "10.73.0.0/16, the pool's network, overlaps 10.73.5.0/24 of eth0",
            "subnet: 10.74.0.0/16 into swarmhpc.yaml",
        ),
        ("subnet", facts(RUNNING, "n3", routes=VMWARE), "warning", "n3", "overlaps", "swarmhpc down; swarmhpc up"),
        (
            "subnet",
            facts(RUNNING, "n3", routes={"eth0 10.0.0.0": "10.0.0.0/16"}),
            "warning",
            "n3",
            "10.0.0.0/24, the Swarm's network ingress, overlaps 10.0.0.0/16 of eth0",
            "makes the Swarm anew",
        ),
        ("disk", own(RUNNING, "n3", engine_disk_mib=800), "problem", "n3", "/var/lib/docker", "docker system df"),
        ("disk", own(RUNNING, "n3", job_disk_mib=2000), "warning", "n3", "/var/lib/swarmhpc/execute", "du -xsh"),
        ("time sync", own(RUNNING, "n3", keeps_time=False), "warning", "n3", "no time service", "install chrony"),
        ("time sync", own(RUNNING, "n3", is_synchronised=False), "warning", "n3", "not synchronised", "timesync"),
        ("clock", own(RUNNING, "n3", clock_skew_s=3.0), "warning", "n3", "3.0 s ahead", "192.0.2.13 timedatectl"),
        ("clock", own(RUNNING, "n3", clock_skew_s=-61.0), "problem", "n3", "61.0 s behind", "timedatectl set-ntp true"),
        ("image", machine(RUNNING, "n3", has_image=False), "problem", "n3", "no task can start there", "swarmhpc up"),
        (
            "services",
            replace(RUNNING, task_errors=("swarmhpc_janitor: no space",)),
            "problem",
            "",
            "no space",
            "docker service ps --no-trunc swarmhpc_janitor",
        ),
        ("context", replace(RUNNING, access=Access(exists=False, error="gone")), "problem", "", "gone", "swarmhpc up"),
        # -- between machines
        ("connections", tcp(RUNNING, "n1", "n2", 7946), "problem", "n1 → n2", "TCP 7946 of n2 from n1: no", "nft list"),
        (
            "connections",
            tcp(RUNNING, "n1", "n2", 7946, answer="ECONNREFUSED"),
            "problem",
            "n1 → n2",
            "from n1: refused",
            "let 7946/tcp pass to n2",
        ),
        (
            "connections",
            tcp(RUNNING, "n1", "n2", 7946, 9618, answer="EHOSTUNREACH"),
            "problem",
            "n1 → n2",
            "TCP 7946, 9618 of n2 from n1: no route",
            "ssh root@192.0.2.11 ip route get 192.0.2.12",
        ),
        (
            "connections",
            tcp(own(RUNNING, "n2", firewall="ufw"), "n1", "n2", 7946),
            "problem",
            "n1 → n2",
            "7946",
            "ssh root@192.0.2.12 ufw allow 7946/tcp",
        ),
        (
            "connections",
            tcp(own(RUNNING, "n2", firewall="firewalld"), "n1", "n2", 7946),
            "problem",
            "n1 → n2",
            "7946",
            "firewall-cmd --permanent --add-port=7946/tcp",
        ),
        ("connections", tcp(BARE, "n1", "n2", 7946), "warning", "n1 → n2", "no answer", "swarmhpc up"),
        ("connections", own(BARE, "n2", has_python=False), "warning", "", "not checked from n2: no python3", "up"),
        (
            "connections",
            replace(RUNNING, from_here={**RUNNING.from_here, ("192.0.2.12", 9619): False}),
            "warning",
            f"{HERE} → n2",
            "TCP 9619 of n2",
            "let 9619/tcp pass to n2",
        ),
        (
            "overlay",
            crosses(RUNNING, "n2", "n1", "lost", "lost"),
            "problem",
            "n1 ↔ n2",
            "no overlay packet",
            "4789/udp",
        ),
        (
            "overlay",
            crosses(RUNNING, "n2", "n3", "crossed", "lost"),
            "problem",
            "n2 ↔ n3",
            "full ones (1450 bytes, 1500 with VXLAN) get lost",
            "ssh root@192.0.2.12 ping -c 3 -M do -s 1472 192.0.2.13",
        ),
        (
            "overlay",
            own(crosses(RUNNING, "n2", "n3", "crossed", "mtu=1400"), "n3", mtu=1450),
            "warning",
            "n2 ↔ n3",
            "the kernel knows of 1400",
            "ssh root@192.0.2.13 ip link set dev eth0 mtu 1500",
        ),
        ("overlay", own(RUNNING, "n3", overlay_address=""), "warning", "n3", "no janitor", "swarmhpc_janitor"),
        (
            "overlay",
            replace(RUNNING, answers={**RUNNING.answers, "n2": replace(Answers(), overlay_said="perl: not found")}),
            "warning",
            "n2",
            "perl: not found",
            "swarmhpc up",
        ),
    ],
)
def test_a_finding_names_its_machine_what_was_seen_and_how_to_mend_it(
    name: str, f: LabFacts, status: str, where: str, seen: str, mend: str
) -> None:
    checks = found(name, f)
    assert [(c.status, c.machine) for c in checks] == [(status, where)], checks
    assert seen in checks[0].seen
    assert mend in checks[0].mend


def test_every_finding_of_a_machine_that_is_gone_is_about_that_machine_only() -> None:
    assert [(c.name, c.machine) for c in bad(gone(RUNNING, "n3"))] == [("machines", "n3")]


def test_nobody_answering_is_judged_too() -> None:
    f = RUNNING
    for n in NAMES:
        f = gone(f, n)
    f = replace(f, has_swarm=False, nodes=(), pool_runs=False, networking=None, from_here={})
    assert [c.machine for c in found("machines", f)] == list(NAMES)
    assert [c.name for c in judge(f, CLUSTER) if c.status == "ok"] == ["docker command", "context"]


@pytest.mark.parametrize("f", [gone(BARE, "n1"), replace(RUNNING, swarm_error=("no leader", ""), pool_runs=False)])
def test_nothing_is_called_well_that_only_a_silent_manager_could_tell(f: LabFacts) -> None:
    checks = {c.name: c for c in judge(f, CLUSTER)}
    assert {checks[n].status for n in ("swarm", "nodes", "overlay", "services")} <= {"warning", "problem"}
    assert {n for n, c in checks.items() if c.seen.startswith("not checked")} >= {"nodes", "overlay", "services"}


def test_a_port_that_answers_nobody_is_one_finding_not_one_for_each_of_the_others() -> None:
    [check] = found("connections", tcp(tcp(RUNNING, "n1", "n2", 7946), "n3", "n2", 7946))
    assert (check.machine, check.seen) == ("n2", "TCP 7946 of n2 from any other machine: no answer")


def test_a_machine_that_no_overlay_packet_reaches_is_one_finding() -> None:
    f = RUNNING
    for a, b in (("n1", "n2"), ("n2", "n1"), ("n3", "n2"), ("n2", "n3")):
        f = crosses(f, a, b, "lost", "lost")
    [check] = found("overlay", f)
    assert (check.machine, check.status) == ("n2", "problem")
    assert "ESP" not in check.mend
    assert "ESP" in found("overlay", f, replace(CLUSTER, encrypted=True))[0].mend


def test_where_nothing_crosses_anywhere_no_pair_is_forgotten() -> None:
    f = RUNNING
    for a in NAMES:
        for b in NAMES:
            f = crosses(f, a, b, "lost", "lost") if a != b else f
    named = " ".join(c.machine for c in found("overlay", f))
    assert all(n in named for n in NAMES)


def test_the_pool_s_ports_are_asked_of_every_node_with_the_mesh_and_else_only_where_somebody_listens() -> None:
    quiet = facts(RUNNING, "n3", listens=frozenset({7946}))
    assert ("192.0.2.13", 9618) in lab_ways.targets(quiet, CLUSTER, "n1")
    dnsrr = replace(quiet, networking="dnsrr")
    assert lab_ways.targets(dnsrr, CLUSTER, "n1") == [
        *(("192.0.2.12", 7946), ("192.0.2.12", 9618), ("192.0.2.12", 9619)),
        ("192.0.2.13", 7946),
    ]
    assert lab_ways.targets(BARE, CLUSTER, "n2") == [
        *(("192.0.2.11", 2377), ("192.0.2.11", 7946)),
        ("192.0.2.13", 7946),
    ]


def test_with_the_mesh_a_node_that_refuses_the_pool_s_port_is_a_problem_although_nobody_listens() -> None:
    f = tcp(facts(RUNNING, "n3", listens=frozenset({7946})), "n1", "n3", 9618, answer="ECONNREFUSED")
    assert [(c.status, c.machine) for c in found("connections", f)] == [("problem", "n1 → n3")]


def test_ipvs_matters_as_the_cluster_file_says() -> None:
    f = facts(BARE, "n2", ipvs=False)
    status = {m: found("ipvs", f, replace(CLUSTER, networking=m))[0].status for m in ("auto", "vip", "dnsrr")}
    assert status == {"auto": "warning", "vip": "problem", "dnsrr": "ok"}


def test_docker_s_own_bridges_clash_with_the_pool_s_network_but_not_with_the_swarm_s() -> None:
    f = facts(RUNNING, "n2", routes={"docker0 10.0.0.0": "10.0.0.0/16", "br-0123456789ab 10.73.9.0": "10.73.9.0/24"})
    assert [c.seen for c in found("subnet", f)] == [
        "10.73.0.0/16, the pool's network, overlaps 10.73.9.0/24 of br-0123456789ab"
    ]


def test_a_clock_that_was_read_too_slowly_is_not_blamed() -> None:
    assert found("clock", own(RUNNING, "n3", clock_skew_s=3.0, clock_error_s=1.1))[0].status == "ok"


def test_of_two_machines_the_one_that_disagrees_with_this_one_is_wrong() -> None:
    two = replace(RUNNING, own={"n1": own_of("n1"), "n2": replace(own_of("n2"), clock_skew_s=100.0)})
    assert [c.machine for c in found("clock", two)] == ["n2"]
    here = replace(RUNNING, own={n: replace(own_of(n), clock_skew_s=100.0) for n in NAMES})
    assert [(c.machine, c.mend) for c in found("clock", here)] == [(HERE, "timedatectl set-ntp true")]


def test_without_a_manager_s_answer_a_worker_s_swarm_is_not_called_foreign() -> None:
    f = replace(gone(RUNNING, "n1"), has_swarm=False, nodes=(), pool_runs=False)
    assert [(c.status, c.machine) for c in found("swarm", f)] == [("warning", "n2"), ("warning", "n3")]
    assert "n1 can't be asked" in found("swarm", f)[0].seen


def test_one_kernel_with_another_cgroup_version_is_only_told() -> None:
    [check] = found("cgroups", engine(RUNNING, "n2", cgroup_version="1"))
    assert (check.status, check.seen) == ("ok", "cgroup v2 on n1, n3; cgroup v1 on n2 (both work)")


@pytest.mark.parametrize(
    ("ssh", "command", "typed"),
    [
        (Ssh(), "modprobe ip_vs", "ssh root@10.0.0.1 modprobe ip_vs"),
        (
            Ssh("admin", 2222, "~/.ssh/k"),
            "ss -ltnp 'sport = :1'",
            "ssh -p 2222 -i ~/.ssh/k admin@10.0.0.1 'sudo ss -ltnp '\"'\"'sport = :1'\"'\"''",
        ),
    ],
)
def test_a_mend_can_be_typed_as_it_stands(ssh: Ssh, command: str, typed: str) -> None:
    machine = Machine("n1", "10.0.0.1", ssh=ssh)
    assert there(machine, command) == typed
    assert there(machine, command, local=True) == command


# -- probes, for real ---------------------------------------------------------------------------------------------


def lines(argv: list[str]) -> tuple[Answers, float]:
    began = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return lab_probes.parse_answers(done.stdout), time.monotonic() - began


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address where a new connection gets no answer: the queue of those that wait to be accepted is full."""
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = []
        for _ in range(4):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", port))
            waiting.append(s)
        yield "127.0.0.1", port
        for s in waiting:
            s.close()


def test_tcp_open_closed_and_silent_ports_are_told_apart_in_time(silent: tuple[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        opened, closed = server.getsockname()[1], other.getsockname()[1]
        other.close()
        wanted = [("127.0.0.1", opened), ("127.0.0.1", closed), silent]
        answers, took_s = lines(lab_probes.tcp_command(wanted, timeout_s=0.7))
    assert [answers.tcp[t] for t in wanted] == ["open", "ECONNREFUSED", "timeout"]
    assert 0.7 <= took_s < 5


def test_a_closed_udp_port_answers_for_small_and_full_packets_and_a_silent_one_is_given_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.2", 0))  # takes what comes and says nothing, like a network that drops it
        port = mute.getsockname()[1]
        answers, took_s = lines(lab_probes.overlay_command(["127.0.0.1", "127.0.0.2"], port=port, tries_s=0.2))
    assert {a: (c.small, c.full) for a, c in answers.overlay.items()} == {
        "127.0.0.1": ("crossed", "crossed"),
        "127.0.0.2": ("lost", "lost"),
    }
    assert 0.6 <= took_s < 5, "three tries"
    assert all(576 <= c.mtu <= 9000 for c in answers.overlay.values())


class HereRemote:
    """Runs scripts on this machine as Remote does on another, without root."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.scripts: list[str] = []

    def run(self, script: str, *, timeout_s: float, check: bool = True) -> Completed:
        self.scripts.append(script)
        done = subprocess.run(
            ["sh", "-s"], input=script, capture_output=True, text=True, timeout=timeout_s, check=check
        )
        return Completed(("sh",), done.returncode, done.stdout, done.stderr)


def test_a_queue_in_a_shared_directory_is_looked_for_on_every_machine() -> None:
    cluster = replace(CLUSTER, queue=Queue(path="/shared/queue"))
    f = RUNNING
    for n in NAMES:
        f = facts(f, n, shared="nfs")
    (check,) = [c for c in judge(f, cluster) if c.name == "queue"]
    assert (check.status, check.seen) == ("ok", "/shared/queue is there (nfs) on n1, n2, n3")
    f = facts(facts(f, "n1", shared=""), "n3", shared="ext2/ext3")
    found = [c for c in judge(f, cluster) if c.name == "queue"]
    assert [(c.status, c.machine) for c in found] == [("problem", "n1"), ("problem", "n3")]
    assert "there is no directory /shared/queue" in found[0].seen
    assert "is on its own disk (ext2/ext3)" in found[1].seen
    assert not [c for c in judge(f, CLUSTER) if c.name == "queue"]


def test_a_machine_tells_its_clock_disks_and_python(tmp_path: Path) -> None:
    seen = lab_probes.look(
        cast(Remote, HereRemote()),
        pool="swarmhpc",
        device="lo",
        engine_folder=str(tmp_path / "not" / "there yet"),
        jobs_folder="/",
        swarm=False,
    )
    assert abs(seen.clock_skew_s) <= seen.clock_error_s + 0.01
    assert seen.has_python
    assert seen.mtu == int(Path("/sys/class/net/lo/mtu").read_text())
    assert seen.engine_disk_mib is not None
    assert seen.job_disk_mib is not None
    assert (seen.janitor, seen.networks) == ("", {})


def test_one_script_tries_tcp_and_the_overlay_at_once_and_keeps_what_an_engine_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$2" = broken ] && { echo "OCI: no perl" >&2; exit 127; }\nshift 2; exec "$@"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    remote = cast(Remote, HereRemote())
    with socket.create_server(("127.0.0.1", 0)) as server:
        at = ("127.0.0.1", server.getsockname()[1])
        answers = lab_probes.probe(remote, Own(janitor="c1"), [at], ["127.0.0.1"])
        broken = lab_probes.probe(remote, Own(janitor="broken"), [at], ["127.0.0.1"])
    assert (answers.tcp, answers.overlay["127.0.0.1"].small, answers.overlay_said) == ({at: "open"}, "crossed", "")
    assert (broken.tcp, broken.overlay, broken.overlay_said) == ({at: "open"}, {}, "OCI: no perl")
    assert lab_probes.probe(remote, Own(has_python=False), [at], ["127.0.0.1"]) == Answers(), "nothing to ask with"


def test_what_a_node_says_of_networks_and_janitor_is_read() -> None:
    text = (
        "python=yes\nkeeps_time=yes\nsynchronised=no\nengine_kib=2048\njobs_kib=x\nmtu=1500\nfirewall=ufw\n"
        "network=ingress 10.0.0.0/24\nnetwork=swarmhpc_pool 10.73.0.0/16\njanitor=abc 10.73.0.5\n"
    )
    assert lab_probes.parse_own(text, skew_s=1.5, error_s=0.1) == Own(
        clock_skew_s=1.5,
        clock_error_s=0.1,
        is_synchronised=False,
        engine_disk_mib=2,
        mtu=1500,
        firewall="ufw",
        networks={"ingress": ("10.0.0.0/24",), "swarmhpc_pool": ("10.73.0.0/16",)},
        janitor="abc",
        overlay_address="10.73.0.5",
    )


# -- observing and the command line ---------------------------------------------------------------------------------


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], LabFacts]:
    """Observes three bare machines, of which the named one stops answering after its facts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(members, "look", lambda *_, **__: dict(BARE.seen))

    def observe(silent: str) -> LabFacts:
        def look(remote: Remote, **asked: Any) -> Own:
            assert (asked["device"], asked["swarm"], asked["jobs_folder"]) == ("eth0", False, CLUSTER.execute_dir)
            if remote.machine.name == silent:
                raise MachineError("no answer any more")
            return BARE.own[remote.machine.name]

        def probe(remote: Remote, own: Own, tcp: list[tuple[str, int]], overlay: list[str]) -> Answers:
            assert overlay == []
            return Answers(dict.fromkeys(tcp, "ECONNREFUSED"))

        monkeypatch.setattr(lab_probes, "look", look)
        monkeypatch.setattr(lab_probes, "probe", probe)
        with closing(Fleet(CLUSTER.machines)) as fleet:
            return lab_doctor.observe(fleet, CLUSTER, samples.Said())

    return observe


def test_all_machines_are_asked_and_each_tries_all_others(lab: Callable[[str], LabFacts]) -> None:
    f = lab("")
    assert set(f.own) == set(f.answers) == set(NAMES)
    assert set(f.answers["n1"].tcp) == {("192.0.2.12", 7946), ("192.0.2.13", 7946)}
    assert (f.pool_runs, f.has_swarm, f.from_here, f.access.exists) == (False, False, {}, False)


def test_a_machine_that_stops_answering_half_way_does_not_stop_the_others(lab: Callable[[str], LabFacts]) -> None:
    f = lab("n2")
    assert set(f.own) == set(f.answers) == {"n1", "n3"}
    assert judge(f, CLUSTER)


LAB_FILE = "machines:\n  n1: {address: 192.0.2.11, role: manager}\n  n2: 192.0.2.12\n"


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    def refuse(self: Remote, _shared: str) -> MachineFacts:
        raise MachineError(f"machine {self.machine.name} can't be reached over ssh: no route", hint="ssh by hand")

    monkeypatch.setattr(Remote, "facts", refuse)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "swarmhpc.yaml").write_text(LAB_FILE)
    return tmp_path


def test_doctor_prints_a_table_with_machines_and_a_mend_for_each(
    unreachable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert err == "", "progress is for terminals"
    assert out.splitlines()[0].split() == ["CHECK", "STATUS", "MACHINE", "SEEN"]
    assert "problem: machines: n1: ssh by hand" in out.splitlines()
    assert "problem: machines: n2: ssh by hand" in out.splitlines()


def test_doctor_s_json_carries_the_machine(unreachable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 1
    checks = json.loads(capsys.readouterr().out)
    assert [c["machine"] for c in checks if c["name"] == "machines"] == ["n1", "n2"]
    assert set(checks[0]) == {"name", "status", "seen", "mend", "machine"}
