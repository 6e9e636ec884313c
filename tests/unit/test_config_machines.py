"""Machines in the cluster file: what they give, and what is wrong with them, at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmhpc.config import Cluster, ConfigError, ExecutorClass, Machine, Problem, Queue, Ssh, load, parse

LAB = Path(__file__).parents[2] / "examples" / "lab.yaml"


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, file="c.yaml")
    return caught.value.problems


def machines(text: str) -> tuple[Machine, ...]:
    return parse(text, file="c.yaml").machines


# ---- what a good file gives


def test_the_lab_example_is_what_it_shows() -> None:
    ssh = Ssh(user="admin", key="~/.ssh/id_ed25519")
    assert load(LAB) == Cluster(
        machines=(
            Machine(
                *("node1", "192.168.1.11", "manager"),
                Ssh("root", 2222, "~/.ssh/id_ed25519"),
                (("disk", "ssd"), ("rack", "a")),
            ),
            Machine("node2", "192.168.1.12", "manager", ssh, (("disk", "ssd"), ("rack", "b"))),
            Machine("node3", "node3.lab.example.org", "manager", ssh, (("rack", "a"),)),
            Machine("node4", "192.168.1.14", "worker", ssh, (("rack", "b"),)),
        ),
        queue=Queue(machine="node2"),
        executors=(
            ExecutorClass("executors", replicas=8, spread="rack", max_per_node=4),
            ExecutorClass("executors-ssd", replicas=2, placement=(("disk", "ssd"),), minimum=1, maximum=6),
        ),
    )


def test_a_machine_can_be_an_address_or_nothing_but_a_name() -> None:
    assert machines("machines:\n  b: 10.1.0.2\n  a.lab:\n  c: {}\n  10.1.0.4:\n") == (
        Machine("b", "10.1.0.2", "manager"),  # the order of the file, and its first machine
        Machine("a.lab", "a.lab"),
        Machine("c", "c"),
        Machine("10.1.0.4", "10.1.0.4"),
    )


def test_the_first_machine_manages_only_where_no_machine_has_a_role() -> None:
    assert [m.role for m in machines("machines: {a: , b: {role: manager}, c: }")] == ["worker", "manager", "worker"]
    cluster = parse("machines: {a: , b: , c: }", file="c.yaml")
    assert [m.name for m in cluster.managers] == ["a"]


def test_what_a_machine_says_of_ssh_goes_before_what_holds_for_all() -> None:
    text = "ssh: {user: admin, port: 222, key: /k, known_hosts: ~/h}\nmachines: {a: , b: {ssh: {port: 22, key: null}}}"
    assert [m.ssh for m in machines(text)] == [Ssh("admin", 222, "/k", "~/h"), Ssh("admin", 22, None, "~/h")]


def test_labels_and_placements_are_sorted_text_whatever_their_order() -> None:
    cluster = parse(
        "machines: {a: {labels: {rack: 3, disk: ssd}}}\nexecutors: {x: {placement: {rack: 3, disk: ssd}}}", file="c"
    )
    assert cluster.machines[0].labels == cluster.executors[0].placement == (("disk", "ssd"), ("rack", "3"))


@pytest.mark.parametrize(
    ("text", "cluster"),
    [
        ("queue: {path: /shared/swarmhpc}", Cluster(queue=Queue(path="/shared/swarmhpc"))),
        ("encrypted: yes", Cluster(encrypted=True)),
        ("prepare: false", Cluster(prepare=False)),
        ("machines: {a: 127.0.0.1}", Cluster(machines=(Machine("a", "127.0.0.1", "manager"),))),
        ("machines: {a: localhost}\naddress: null", Cluster(machines=(Machine("a", "localhost", "manager"),))),
        (  # Swarm compares values without regard to case
            "machines: {a: {labels: {disk: SSD}}}\nexecutors: {x: {placement: {disk: ssd}}}",
            Cluster(
                machines=(Machine("a", "a", "manager", labels=(("disk", "SSD"),)),),
                executors=(ExecutorClass("x", placement=(("disk", "ssd"),)),),
            ),
        ),
    ],
)
def test_a_value_is_read_into_its_field(text: str, cluster: Cluster) -> None:
    assert parse(text, file="c.yaml") == cluster


@pytest.mark.parametrize("managers", [1, 3, 5, 7])
def test_an_odd_number_of_managers_up_to_seven_is_accepted(managers: int) -> None:
    text = "machines:\n" + "".join(f"  n{i}: {{role: {'manager' if i < managers else 'worker'}}}\n" for i in range(8))
    assert len(parse(text, file="c.yaml").managers) == managers


def test_a_lab_may_have_hundreds_of_machines() -> None:
    assert len(machines("machines:\n" + "".join(f"  n{i}: 10.1.{i // 200}.{i % 200 + 1}\n" for i in range(300)))) == 300


# ---- one wrong thing: its line, its column, its key, part of its message, part of its hint

M = "machines:\n  "
SSD = "machines: {a: {labels: {disk: ssd}}, b: {labels: {disk: hdd, gpu: '1'}}}\n"
BAD = [
    # shape
    ("machines: [a, b]", 1, 11, "machines", "wanted keys with values, saw a list", "one line for each machine"),
    ("machines: a", 1, 11, "machines", "wanted keys with values, saw a", "as in n1: 192.168.1.11"),
    (M + "a: [10.1.0.1]", 2, 6, "machines.a", "wanted keys with values, saw a list", ""),
    (M + "address: 10.1.0.1", 2, 3, "machines.address", "the machine's name before its keys", "n1: {address: …}"),
    (M + "a: {adress: b}", 2, 7, "machines.a.adress", "unknown key", "did you mean address?"),
    (M + "a: {user: b}", 2, 7, "machines.a.user", "unknown key", "user belongs under ssh"),
    (M + "a: {ssh: {usr: b}}", 2, 13, "machines.a.ssh.usr", "unknown key", "did you mean user?"),
    ("hosts: {a: }", 1, 1, "hosts", "unknown key", "did you mean machines?"),
    ("machine: {a: }", 1, 1, "machine", "unknown key", "did you mean machines?"),
    ("queue: {dir: /x}", 1, 9, "queue.dir", "unknown key", "known keys here: machine, path"),
    ("queue: /x", 1, 8, "queue", "wanted keys with values, saw /x", ""),
    ("encrypted: aes", 1, 12, "encrypted", "wanted true or false, saw aes", ""),
    ("prepare: 0", 1, 10, "prepare", "wanted true or false, saw 0", ""),
    # names
    (M + "a:\n  b:\n  a:", 4, 3, "machines.a", "this key is already on line 2", "keep one"),
    (M + "a:\n  b:\n  A:", 4, 3, "machines.A", "a name of its own, saw A beside a on line 2", "upper and lower case"),
    (M + "n_1:", 2, 3, "machines.n_1", "at most 63 letters, digits", "for instance n-1"),
    (M + "-a: 10.1.0.1", 2, 3, "machines.-a", "inner hyphens", ""),
    (M + f"{'a' * 64}: 10.1.0.1", 2, 3, f"machines.{'a' * 60!a}", "at most 63", ""),
    (M + "7:", 2, 3, "machines.7", "wanted an address, since 7 itself is none", "as in 7: 192.168.1.11"),
    # addresses
    (M + "a: 10.1.0.256", 2, 6, "machines.a", "the IPv4 address of the machine, such as", ""),
    (M + "a: 10.1", 2, 6, "machines.a", "the IPv4 address of the machine, such as", ""),
    (M + "a: 224.0.0.1", 2, 6, "machines.a", "that one machine can have", ""),
    (M + "a: fd00::7", 2, 6, "machines.a", "an IPv4 address or a DNS name, not an IPv6 address", ""),
    (M + "a: {address: '[fe80::1%eth0]'}", 2, 16, "machines.a.address", "not an IPv6 address", "IPv4 address"),
    (M + "a: bob@b.lab", 2, 6, "machines.a", "IPv4 address or DNS name", "write b.lab, and ssh: {user: bob}"),
    (M + "a: b:222", 2, 6, "machines.a", "IPv4 address or DNS name", "write b, and ssh: {port: 222}"),
    (M + "a: b c", 2, 6, "machines.a", "IPv4 address or DNS name", ""),
    (M + 'a: "-oProxyCommand=x"', 2, 6, "machines.a", "IPv4 address or DNS name", ""),
    (M + "a: 3", 2, 6, "machines.a", "IPv4 address or DNS name of the machine, saw 3", ""),
    (M + "a: {address: no}", 2, 16, "machines.a.address", "saw no, which YAML reads as false", ""),
    (M + "a: {address: }", 2, 15, "machines.a.address", "saw nothing", ""),
    (
        M + "a: x\n  b: {address: X}",
        3,
        16,
        "machines.b.address",
        "an address of its own, saw X, that of a on line 2",
        "",
    ),
    (M + "a: b\n  b:", 3, 3, "machines.b", "an address of its own, saw b, that of a on line 2", ""),
    (M + "a: 10.73.9.9", 2, 6, "machines.a", "outside the overlay's subnet 10.73.0.0/16", ""),
    ("subnet: 10.9.0.0/24\n" + M + "a: 10.9.0.9", 3, 6, "machines.a", "outside the overlay's subnet 10.9.0.0/24", ""),
    (M + "a: 127.0.1.1\n  b:", 2, 6, "machines.a", "that the other machines reach too, saw 127.0.1.1", ""),
    (M + "a:\n  localhost:", 3, 3, "machines.localhost", "that the other machines reach too", ""),
    (
        "address: 10.1.0.9\n" + M + "a:",
        1,
        10,
        "address",
        "no address of the cluster's own beside machines",
        "remove it",
    ),
    # managers
    (M + "a: {role: boss}", 2, 13, "machines.a.role", "wanted one of manager, worker, saw boss", ""),
    (M + "a: {role: maneger}", 2, 13, "machines.a.role", "saw maneger", "did you mean manager?"),
    (M + "a: {role: worker}\n  b:", 1, 1, "machines", "wanted one or three managers, saw none", "role: manager"),
    (
        M + "a: {role: manager}\n  b: {role: manager}\n  c:",
        *(3, 13, "machines.b.role", "an odd number of managers, saw 2", "make it 1 or 3"),
    ),
    (
        M + "\n  ".join(f"n{i}: {{role: manager}}" for i in range(9)),
        *(10, 14, "machines.n8.role", "wanted at most 7 managers, saw 9", "three managers survive"),
    ),
    # ssh
    ("ssh: {port: 0}", 1, 13, "ssh.port", "a whole number from 1 to 65535, saw 0", ""),
    ("ssh: {port: 65536}", 1, 13, "ssh.port", "from 1 to 65535", ""),
    (M + "a: {ssh: {port: '22'}}", 2, 19, "machines.a.ssh.port", "saw the text '22'", "write 22, without quotes"),
    ("ssh: {user: a b}", 1, 13, "ssh.user", "the name of an account", ""),
    ("ssh: {user: -oProxyCommand=x}", 1, 13, "ssh.user", "the name of an account", ""),
    ("ssh: {user: }", 1, 12, "ssh.user", "saw nothing", ""),
    ("ssh: {key: id_rsa}", 1, 12, "ssh.key", "a path that begins with / or ~/", "for instance ~/.ssh/id_rsa"),
    ("ssh: {key: ~/.ssh/id_rsa.pub}", 1, 12, "ssh.key", "the path of the private key", "write ~/.ssh/id_rsa"),
    ("ssh: {known_hosts: [a]}", 1, 20, "ssh.known_hosts", "a path that begins with /", ""),
    ("ssh: admin", 1, 6, "ssh", "wanted keys with values, saw admin", ""),
    # labels
    (M + "a: {labels: [ssd]}", 2, 15, "machines.a.labels", "saw a list", "as in disk: ssd"),
    (M + "a: {labels: {a/b: c}}", 2, 16, "machines.a.labels.a/b", "a label's name", ""),
    (M + "a: {labels: {SwarmHPC.x: c}}", 2, 16, "machines.a.labels.SwarmHPC.x", "are swarmhpc's own", ""),
    (M + "a: {labels: {gpu: yes}}", 2, 21, "machines.a.labels.gpu", "a label's value", "write 'true', with the quotes"),
    (M + "a: {labels: {gpu: }}", 2, 20, "machines.a.labels.gpu", "saw nothing", ""),
    (M + "a: {labels: {gpu: ''}}", 2, 21, "machines.a.labels.gpu", "saw the text ''", ""),
    (M + "a: {labels: {gpu: a b}}", 2, 21, "machines.a.labels.gpu", "digits and . _ - /, saw a b", ""),
    (M + f"a: {{labels: {{gpu: {'x' * 65}}}}}", 2, 21, "machines.a.labels.gpu", "at most 64", ""),
    # placement
    (SSD + "executors: {x: {placement: ssd}}", 2, 28, "executors.x.placement", "saw ssd", "as in disk: ssd"),
    (
        SSD + "executors: {x: {placement: {disk: nvme}}}",
        *(2, 35, "executors.x.placement.disk", "a label that a machine has, saw disk: nvme", "disk: hdd, disk: ssd"),
    ),
    (SSD + "executors: {x: {placement: {Disk: ssd}}}", 2, 35, "executors.x.placement.Disk", "", "no machine has Disk"),
    (
        SSD + "executors: {x: {placement: {disk: ssd, gpu: 1}}}",
        *(2, 28, "executors.x.placement", "that one machine has all of", "label a machine so"),
    ),
    ("executors: {x: {placement: {a: b}}}", 1, 28, "executors.x.placement", "saw no machines", "under machines:"),
    # spread
    (
        SSD + "executors: {x: {spread: rack}}",
        *(2, 25, "executors.x.spread", "the name of a label that a machine has, saw rack", "machines have disk, gpu"),
    ),
    ("executors: {x: {spread: rack}}", 1, 25, "executors.x.spread", "saw no machines", "under machines:"),
    ("machines: {a: }\nexecutors: {x: {spread: rack}}", 2, 25, "executors.x.spread", "", "no machine has a label"),
    (SSD + "executors: {x: {spread: a/b}}", 2, 25, "executors.x.spread", "a label's name", ""),
    # queue
    ("machines: {node1: }\nqueue: {machine: Node1}", 2, 18, "queue.machine", "saw Node1", "did you mean node1?"),
    ("machines: {a: }\nqueue: {machine: xyz}", 2, 18, "queue.machine", "the name of one of the machines", "list it"),
    ("queue: {machine: a}", 1, 18, "queue.machine", "the name of one of the machines, saw a", "under machines:"),
    ("machines: {a: }\nqueue: {machine: a, path: /x}", 2, 27, "queue.path", "either machine or path", ""),
    ("queue: {path: shared}", 1, 15, "queue.path", "an absolute path", ""),
    ("queue: {path: /var/lib}", 1, 15, "queue.path", "a directory of its own", ""),
    ("queue: {path: /var/lib/swarmhpc}", 1, 15, "queue.path", "apart from execute_dir /var/lib/swarmhpc/execute", ""),
    (
        "queue: {path: /shared/q}\njobs: {volumes: [{source: /shared, target: /s}]}",
        *(2, 27, "jobs.volumes[0].source", "apart from the queue's, /shared/q, saw /shared", "must not see the queue"),
    ),
]


@pytest.mark.parametrize(("text", "line", "column", "key", "message", "hint"), BAD, ids=[repr(b[0])[:70] for b in BAD])
def test_one_wrong_thing_gives_one_problem_at_its_place(
    text: str, line: int, column: int, key: str, message: str, hint: str
) -> None:
    problems = problems_of(text)
    assert [(p.line, p.column, p.key_path) for p in problems] == [(line, column, key)]
    assert message in problems[0].message
    assert hint in problems[0].hint


def test_everything_that_is_wrong_with_the_machines_is_reported_at_once() -> None:
    text = """\
address: 192.168.1.4
ssh: {port: 0, usr: x}
machines:
  n1: {address: 10.73.0.4, role: manager, labels: {gpu: true}}
  N1: {role: manager}
  n2: 127.0.0.1
  n3: "fe80::1"
  n4: x
  n5: X
queue: {machine: n9, path: /var/lib/swarmhpc}
executors: {a: {placement: [x]}}
"""
    assert [(p.line, p.key_path) for p in problems_of(text)] == [
        (1, "address"),
        (2, "ssh.port"),
        (2, "ssh.usr"),
        (4, "machines.n1.address"),
        (4, "machines.n1.labels.gpu"),
        (5, "machines.N1"),
        (5, "machines.N1.role"),  # the second manager
        (6, "machines.n2"),
        (7, "machines.n3"),
        (9, "machines.n5"),
        (10, "queue.machine"),
        (10, "queue.path"),  # beside machine
        (10, "queue.path"),  # around execute_dir
        (11, "executors.a.placement"),
    ]
