"""The cluster file: defaults, strictness, places of problems, round trip."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmhpc._config_fairness import Group, Person
from swarmhpc.config import (
    MAX_FILE_BYTES,
    Cluster,
    ConfigError,
    ExecutorClass,
    Fairness,
    Image,
    JobPolicy,
    Machine,
    Ports,
    Problem,
    Queue,
    Ssh,
    Volume,
    dump,
    find_file,
    load,
    parse,
    to_mapping,
)
from swarmhpc.errors import UsageError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "swarmhpc.yaml"
LAB = ROOT / "examples" / "lab.yaml"


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, file="c.yaml")
    return caught.value.problems


# ---- what a good file gives


def test_no_file_gives_the_documented_defaults() -> None:
    assert load(None) == Cluster(
        name="swarmhpc",
        networking="auto",
        subnet="10.73.0.0/16",
        address=None,
        ports=Ports(9618, 9619),
        executors=(ExecutorClass("executors", 2, None, None),),
        autoscale=False,
        jobs=JobPolicy(False, (), 4096, 128),
        image=Image(None, None),
        drain_timeout_s=86400,
        execute_dir="/var/lib/swarmhpc/execute",
        machines=(),
        queue=Queue(None, None, 512),
        fairness=Fairness((), (), ()),
        encrypted=False,
        prepare=True,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "# a comment\n",
        "---\n",
        "null\n",
        "{}",
        "version: 1\n",
        "ports:\njobs:\nfairness:\nimage:\nexecutors:\nssh:\nmachines:\nqueue:\n",
        "machines: {}\nqueue: {machine: null, path: null}\n",
        "fairness:\n",
        "fairness: {people: , groups: , limits: }\n",
        "executors: {executors: {placement: }}\n",
        "executors:\n  executors:\n",
        "jobs: {volumes: }\n",
        "address: null\n",
    ],
)
def test_what_a_file_leaves_out_has_its_default(text: str) -> None:
    assert parse(text, file="c.yaml") == Cluster()


def test_the_example_is_the_defaults_plus_what_it_shows() -> None:
    assert load(EXAMPLE) == dataclasses.replace(
        Cluster(),
        address="192.168.1.10",
        executors=(
            ExecutorClass("executors"),
            ExecutorClass("executors-big", replicas=1, cpus=2, memory_mib=4096, scratch="/scratch/swarmhpc", maximum=2),
        ),
        jobs=JobPolicy(volumes=(Volume("/data", "/data"),)),
        fairness=Fairness(
            (Person("alice", group="physics", max_jobs=100, max_cpus=64),),
            (Group("biology", cpus=16, surplus=False), Group("physics", 50)),
            (("matlab", 5),),
        ),
    )


def test_the_examples_show_every_key_and_the_reference_names_it() -> None:
    def key_paths(value: object, path: str = "") -> set[str]:
        if isinstance(value, dict) and not path.endswith((".labels", ".placement", ".resources", ".limits")):
            named = path in (".executors", ".machines", ".fairness.people", ".fairness.groups")
            return {p for key, inner in value.items() for p in key_paths(inner, f"{path}.{'NAME' if named else key}")}
        if isinstance(value, list) and value:
            return {p for inner in value for p in key_paths(inner, f"{path}[]")}
        return {path.removeprefix(".")}

    full = dataclasses.replace(
        Cluster(),
        jobs=JobPolicy(volumes=(Volume("/a", "/a"),)),
        machines=(Machine("n1", "n1", "manager"),),
        fairness=Fairness((Person("a"),), (Group("g", 50), Group("h", cpus=4))),
    )
    common_ssh = {f"ssh.{field.name}" for field in dataclasses.fields(Ssh)}
    every_key = key_paths(to_mapping(full)) | common_ssh
    shown = {k for path in (EXAMPLE, LAB) for k in key_paths(yaml.safe_load(path.read_text()))}
    of_a_machine = {f"machines.NAME.{key}" for key in common_ssh}  # the same keys again: one of them is enough
    assert every_key - of_a_machine <= shown
    assert shown & of_a_machine
    reference = (ROOT / "docs" / "configuration.md").read_text()
    assert {k for k in every_key if f"| `{k}` |" not in reference} == set()


@pytest.mark.parametrize(
    ("text", "cluster"),
    [
        ("name: on-call", Cluster(name="on-call")),
        ('name: "on"', Cluster(name="on")),
        ("networking: dnsrr", Cluster(networking="dnsrr")),
        ("subnet: 192.168.7.0/255.255.255.0", Cluster(subnet="192.168.7.0/24")),
        ("address: 127.0.0.1", Cluster(address="127.0.0.1")),
        ("ports: {central_manager: 1, access_point: 65535}", Cluster(ports=Ports(1, 65535))),
        ("ports: {central_manager: 9619, access_point: 9618}", Cluster(ports=Ports(9619, 9618))),
        ("ports: {gateway: 443}", Cluster(ports=Ports(gateway=443))),
        ("executors: {a: {replicas: 0}}", Cluster(executors=(ExecutorClass("a", 0),))),
        ("executors: {on: {cpus: 3}}", Cluster(executors=(ExecutorClass("on", cpus=3),))),
        (
            "executors: {b: {memory: 1.5 g}, a: }",
            Cluster(executors=(ExecutorClass("a"), ExecutorClass("b", memory_mib=1536))),
        ),
        (
            "executors: {a: {gpus: 1, resources: {licence: 2, Fpga_x: 1}, max_per_node: 3, scratch: /fast/jobs}}",
            Cluster(
                executors=(
                    ExecutorClass(
                        *("a", 2, None, None, (), 1, (("Fpga_x", 1), ("licence", 2))),
                        max_per_node=3,
                        scratch="/fast/jobs",
                    ),
                )
            ),
        ),
        (
            "executors: {a: {min: 1, max: 9, step: 2, idle: 1m, starting: 3, reserve: no}}\nautoscale: true",
            Cluster(
                executors=(ExecutorClass("a", minimum=1, maximum=9, step=2, idle_s=60, starting_max=3, reserve=False),),
                autoscale=True,
            ),
        ),
        (
            "executors: {a: {spread: null, max_per_node: null, max: null, scratch: null, resources: null}}",
            Cluster(executors=(ExecutorClass("a"),)),
        ),
        # The default number of executors gives way to the bounds; one that is written must be within them (below).
        ("executors: {a: {max: 1}}", Cluster(executors=(ExecutorClass("a", 1, maximum=1),))),
        ("executors: {a: {min: 4}}", Cluster(executors=(ExecutorClass("a", 4, minimum=4),))),
        (
            "executors: {a: {min: 1, max: 3, replicas: 3}}",
            Cluster(executors=(ExecutorClass("a", 3, minimum=1, maximum=3),)),
        ),
        (
            "execute_dir: /s\nexecutors: {a: {scratch: /s}, b: {scratch: /f}, c: {scratch: /f}}",
            Cluster(
                execute_dir="/s",
                executors=tuple(ExecutorClass(n, scratch=s) for n, s in (("a", "/s"), ("b", "/f"), ("c", "/f"))),
            ),
        ),
        ("jobs: {default_memory: 200000K}", Cluster(jobs=JobPolicy(default_memory_mib=196))),
        ("jobs: {allow_host_network: yes}", Cluster(jobs=JobPolicy(allow_host_network=True))),
        (
            "jobs: {volumes: [{source: /home, target: /home, read_only: false}]}",
            Cluster(jobs=JobPolicy(volumes=(Volume("/home", "/home", read_only=False),))),
        ),
        (
            "image: {name: 'r.example.org:5000/pool/x:1', base: debian}",
            Cluster(image=Image("r.example.org:5000/pool/x:1", "debian")),
        ),
        ("queue: {history: 2GiB}", Cluster(queue=Queue(history_mib=2048))),
        (
            "fairness: {people: {b.o-b: {max_jobs: 3, max_cpus: 4}, al: {group: g, priority_factor: 500}},"
            " groups: {h: {cpus: 8, surplus: no}, g: {share: 30 %}}, limits: {matlab: 5, ansys_x: 1}}",
            Cluster(
                fairness=Fairness(
                    (Person("al", 500, "g"), Person("b.o-b", max_jobs=3, max_cpus=4)),
                    (Group("g", 30), Group("h", cpus=8, surplus=False)),
                    (("ansys_x", 1), ("matlab", 5)),
                )
            ),
        ),
        (
            "fairness: {people: {a: {group: null, max_jobs: null, max_cpus: null}, b: }}",
            Cluster(fairness=Fairness((Person("a"), Person("b")))),
        ),
        ("drain_timeout: 1h30m", Cluster(drain_timeout_s=5400)),
        ("drain_timeout: 90", Cluster(drain_timeout_s=90)),
        ("execute_dir: /scratch", Cluster(execute_dir="/scratch")),
    ],
)
def test_a_value_is_read_into_its_field(text: str, cluster: Cluster) -> None:
    assert parse(text, file="c.yaml") == cluster


def test_the_order_of_the_classes_makes_no_difference() -> None:
    one = parse("executors: {small: {cpus: 1}, big: {cpus: 8}}", file="one.yaml")
    other = parse("executors: {big: {cpus: 8}, small: {cpus: 1}}", file="other.yaml")
    assert one == other
    turned = dataclasses.replace(one, executors=one.executors[::-1])  # made by hand, not by parse
    assert dump(turned) == dump(one)


@pytest.mark.parametrize(
    ("scratches", "roots"),
    [
        ((None,), ("/x",)),
        (("/x", None), ("/x",)),
        (("/fast", None, "/fast", "/a"), ("/x", "/a", "/fast")),
    ],
)
def test_the_directories_of_a_node_are_named_once_each(
    scratches: tuple[str | None, ...], roots: tuple[str, ...]
) -> None:
    classes = tuple(ExecutorClass(f"c{i}", scratch=s) for i, s in enumerate(scratches))
    assert Cluster(execute_dir="/x", executors=classes).execute_roots == roots


def test_a_class_is_found_by_name_and_an_unknown_one_names_those_there_are() -> None:
    cluster = Cluster(executors=(ExecutorClass("executors"), ExecutorClass("big", cpus=8)))
    assert cluster.class_named("big").cpus == 8
    with pytest.raises(UsageError, match="cluster swarmhpc has no executor class 'gpu'; it has executors, big"):
        cluster.class_named("gpu")


# ---- one wrong thing: its line, its column, its key, part of its message

BAD = [
    # unknown keys
    ("name: a\nnmae: b", 2, 1, "nmae", "unknown key", "did you mean name?"),
    ("jobs:\n  default-memory: 1GiB", 2, 3, "jobs.default-memory", "unknown key", "did you mean default_memory?"),
    ("executors:\n  a: {memory_mib: 5}", 2, 7, "executors.a.memory_mib", "unknown key", "did you mean memory?"),
    ("replicas: 3", 1, 1, "replicas", "unknown key", "replicas belongs under executors: NAME"),
    ("ports: {subnet: 10.1.0.0/16}", 1, 9, "ports.subnet", "unknown key", "subnet belongs under the top level"),
    ("zzz: 1", 1, 1, "zzz", "unknown key", "known keys here: version, name,"),
    ("<<: {name: a}", 1, 1, "<<", "unknown key", ""),
    ('"a\\e[31m\\nb": 1', 1, 1, "'a\\x1b[31m\\nb'", "unknown key", ""),
    # repeated keys
    ("name: a\nsubnet: 10.1.0.0/16\nname: b", 3, 1, "name", "already on line 1", "keep one"),
    ("executors:\n  a:\n  b:\n  a: {replicas: 1}", 4, 3, "executors.a", "already on line 2", ""),
    # wrong types and the traps of YAML
    ("version: 2", 1, 10, "version", "wanted 1, the only version of this file so far, saw 2", ""),
    ("version: '1'", 1, 10, "version", "saw the text '1'", ""),
    ("name: no", 1, 7, "name", "saw no, which YAML reads as false", "in quotes"),
    ("name: 7", 1, 7, "name", "wanted a name", ""),
    ("name:", 1, 6, "name", "saw nothing", ""),
    ("name: [a]", 1, 7, "name", "saw a list", ""),
    ("networking: off", 1, 13, "networking", "wanted one of auto, vip, dnsrr, saw off, which YAML reads as false", ""),
    ("networking: dnssr", 1, 13, "networking", "saw dnssr", "did you mean dnsrr?"),
    ("ports: 9618", 1, 8, "ports", "wanted keys with values, saw 9618", ""),
    ("executors: [a]", 1, 12, "executors", "wanted keys with values, saw a list", ""),
    ("executors:\n  replicas: 4", 2, 13, "executors.replicas", "wanted keys", "as in executors: {replicas: 4}"),
    ("executors:\n  a: {replicas: 010}", 2, 17, "executors.a.replicas", "from 0 to 200, saw 010", ""),
    ("executors:\n  a: {replicas: '4'}", 2, 17, "executors.a.replicas", "saw the text '4'", "write 4, without quotes"),
    ("executors:\n  a: {replicas: 1.5}", 2, 17, "executors.a.replicas", "wanted a whole number", ""),
    ("executors:\n  a: {replicas: true}", 2, 17, "executors.a.replicas", "saw true", ""),
    ("executors:\n  a: {replicas: auto}", 2, 17, "executors.a.replicas", "saw auto", ""),
    ("jobs: {allow_host_network: 'yes'}", 1, 28, "jobs.allow_host_network", "wanted true or false", ""),
    ("jobs: {allow_host_network: 1}", 1, 28, "jobs.allow_host_network", "wanted true or false, saw 1", ""),
    ("jobs: {volumes: /data}", 1, 17, "jobs.volumes", "wanted a list, saw /data", "- "),
    ("jobs: {volumes: {source: /a}}", 1, 17, "jobs.volumes", "wanted a list, saw keys with values", ""),
    ("jobs:\n  volumes:\n  - /data", 3, 5, "jobs.volumes[0]", "wanted keys with values, saw /data", ""),
    ("jobs:\n  volumes:\n  - source: /data", 3, 5, "jobs.volumes[0].target", "this key is missing", ""),
    ("? [a]\n: 1", 1, 3, "", "wanted a plain word as key", ""),
    # wrong units
    ("executors:\n  a:\n    memory: 4 gigs", 3, 13, "executors.a.memory", "saw 4 gigs", "write 4GiB"),
    ("executors:\n  a:\n    memory: 4096", 3, 13, "executors.a.memory", "with its unit", "write 4096MiB or 4096GiB"),
    ("jobs: {default_memory: '128'}", 1, 24, "jobs.default_memory", "with its unit", "128MiB"),
    ("jobs: {default_memory: auto}", 1, 24, "jobs.default_memory", "wanted a size", ""),
    ("jobs: {default_memory: 1M}", 1, 24, "jobs.default_memory", "from 6MiB to", ""),
    ("jobs: {default_memory: 65T}", 1, 24, "jobs.default_memory", "to 65536GiB, saw 65T", ""),
    ("jobs: {default_memory: }", 1, 23, "jobs.default_memory", "saw nothing", ""),
    ("drain_timeout: 1 week", 1, 16, "drain_timeout", "such as 90s, 10m, 2h or 1d, saw 1 week", ""),
    ("drain_timeout: 0", 1, 16, "drain_timeout", "from 1s to 365d", ""),
    ("drain_timeout: 366d", 1, 16, "drain_timeout", "from 1s to 365d", ""),
    # out of range, reserved
    ("executors: {}", 1, 12, "executors", "at least one class", ""),
    ("executors:\n  janitor: ", 2, 3, "executors.janitor", "wanted another class name", "janitor-jobs"),
    ("executors:\n  access-point: ", 2, 3, "executors.access-point", "wanted another class name", ""),
    ("executors:\n  central-manager: ", 2, 3, "executors.central-manager", "wanted another class name", ""),
    ("executors:\n  autoscaler: ", 2, 3, "executors.autoscaler", "wanted another class name", ""),
    ("executors:\n  Big: ", 2, 3, "executors.Big", "wanted a name of at most 31", ""),
    ("name: a-", 1, 7, "name", "wanted a name", ""),
    (f"name: {'a' * 32}", 1, 7, "name", "at most 31", ""),
    ("executors: {a: {replicas: 201}}", 1, 27, "executors.a.replicas", "from 0 to 200, saw 201", ""),
    ("executors: {a: {replicas: -1}}", 1, 27, "executors.a.replicas", "saw -1", ""),
    ("executors: {a: {cpus: 0}}", 1, 23, "executors.a.cpus", "auto or a whole number from 1 to 1024", ""),
    ("jobs: {pids_limit: 0}", 1, 20, "jobs.pids_limit", "from 1 to 4194304", ""),
    ("executors: {a: {gpus: -1}}", 1, 23, "executors.a.gpus", "from 0 to 1024", ""),
    ("executors: {a: {max_per_node: 0}}", 1, 31, "executors.a.max_per_node", "from 1 to 200", ""),
    ("executors: {a: {max: 0}}", 1, 22, "executors.a.max", "from 1 to 200", ""),
    ("executors: {a: {min: }}", 1, 21, "executors.a.min", "from 0 to 200", ""),
    ("executors: {a: {step: 0}}", 1, 23, "executors.a.step", "from 1 to 200", ""),
    ("executors: {a: {starting: 201}}", 1, 27, "executors.a.starting", "from 1 to 200", ""),
    ("executors: {a: {idle: 0}}", 1, 23, "executors.a.idle", "from 1s to 365d", ""),
    ("executors: {a: {reserve: 1}}", 1, 26, "executors.a.reserve", "true or false", ""),
    ("autoscale: 1", 1, 12, "autoscale", "true or false", ""),
    ("executors: {a: {maximum: 5}}", 1, 17, "executors.a.maximum", "unknown key", "did you mean max"),
    # resources
    ("executors: {a: {resources: [x]}}", 1, 28, "executors.a.resources", "wanted keys", "as in licence: 2"),
    ("executors: {a: {resources: {x-y: 1}}}", 1, 29, "executors.a.resources.x-y", "begin with a letter", ""),
    ("executors: {a: {resources: {2x: 1}}}", 1, 29, "executors.a.resources.2x", "begin with a letter", ""),
    ("executors: {a: {resources: {Memory: 1}}}", 1, 29, "executors.a.resources.Memory", "wanted another name", ""),
    ("executors: {a: {resources: {GPUs: 1}}}", 1, 29, "executors.a.resources.GPUs", "", "write gpus: 1 beside"),
    ("executors: {a: {resources: {x: 0}}}", 1, 32, "executors.a.resources.x", "from 1 to 1000000", ""),
    ("executors: {a: {resources: {x: 1, X: 2}}}", 1, 35, "executors.a.resources.X", "saw X beside x", "lower case"),
    # fairness
    ("fairness: {people: [a]}", 1, 20, "fairness.people", "wanted keys with values, saw a list", ""),
    ("fairness: {people: {Al: }}", 1, 21, "fairness.people.Al", "wanted a person's name", ""),
    ("fairness: {people: {a: {group: g}}}", 1, 32, "fairness.people.a.group", "saw g", "there are no groups"),
    ("fairness: {people: {a: {max_jobs: 0}}}", 1, 35, "fairness.people.a.max_jobs", "from 1 to 1000000", ""),
    ("fairness: {people: {a: {max_cpu: 1}}}", 1, 25, "fairness.people.a.max_cpu", "unknown key", "max_cpus"),
    ("fairness: {people: {a: {priority_factor: 0}}}", 1, 42, "fairness.people.a.priority_factor", "from 1 to", ""),
    ("fairness: {groups: {a.b: {cpus: 1}}}", 1, 21, "fairness.groups.a.b", "wanted a group's name", ""),
    ("fairness: {groups: {g: }}", 1, 21, "fairness.groups.g", "either share or cpus, saw neither", "share: 50%"),
    ("fairness: {groups: {g: {share: 5%, cpus: 1}}}", 1, 21, "fairness.groups.g", "saw both", ""),
    ("fairness: {groups: {g: {share: 50}}}", 1, 32, "fairness.groups.g.share", "a share from 1% to 100%", "write 50%"),
    ("fairness: {groups: {g: {share: 0%}}}", 1, 32, "fairness.groups.g.share", "from 1% to 100%, saw 0%", ""),
    ("fairness: {groups: {g: {share: 60%}, h: {share: 41%}}}", 1, 49, "fairness.groups.h.share", "saw 101%", ""),
    ("fairness: {limits: 5}", 1, 20, "fairness.limits", "wanted keys with values", "as in matlab: 5"),
    ("fairness: {limits: {mat-lab: 5}}", 1, 21, "fairness.limits.mat-lab", "wanted a limit's name", ""),
    ("fairness: {limits: {swarmhpc_x: 5}}", 1, 21, "fairness.limits.swarmhpc_x", "another name", ""),
    ("fairness: {limits: {x: 0}}", 1, 24, "fairness.limits.x", "from 1 to 1000000", ""),
    ("queue: {history: 5}", 1, 18, "queue.history", "with its unit", ""),
    ("ports: {access_point: 9620}", 1, 23, "ports.access_point", "saw 9620 for gateway too", ""),
    ("ports: {gateway: 9618}", 1, 18, "ports.gateway", "saw 9618 for central_manager too", ""),
    ("ports: {access_point: 0}", 1, 23, "ports.access_point", "from 1 to 65535", ""),
    ("ports: {access_point: 65536}", 1, 23, "ports.access_point", "from 1 to 65535, saw 65536", ""),
    ("ports: {access_point: 2377}", 1, 23, "ports.access_point", "Swarm's management", ""),
    # addresses
    ("subnet: 8.8.0.0/16", 1, 9, "subnet", "wanted a subnet inside 10.0.0.0/8", ""),
    ("subnet: 10.0.0.0/8", 1, 9, "subnet", "from /16", ""),
    ("subnet: 10.1.1.0/25", 1, 9, "subnet", "to /24", ""),
    ("subnet: 10.73.4.0/16", 1, 9, "subnet", "first address", "write 10.73.0.0/16"),
    ("subnet: 172.17.8.0/24", 1, 9, "subnet", "172.17.0.0/16 (Docker's default bridge), saw 172.17.8.0/24", ""),
    ("subnet: 10.0.0.0/16", 1, 9, "subnet", "the Swarm's ingress", "for instance 10.73.0.0/16"),
    ("subnet: fd00::/64", 1, 9, "subnet", "IPv4 subnet", ""),
    ("subnet: 10", 1, 9, "subnet", "IPv4 subnet", ""),
    ("address: head.example.org", 1, 10, "address", "wanted the IPv4 address", ""),
    ("address: 192.168.1.300", 1, 10, "address", "saw 192.168.1.300", ""),
    ("address: 3232235777", 1, 10, "address", "wanted the IPv4 address", ""),
    ("address: 0.0.0.0", 1, 10, "address", "that one machine can have", ""),
    # paths and images
    ("execute_dir: /", 1, 14, "execute_dir", "an absolute path", ""),
    ("execute_dir: scratch", 1, 14, "execute_dir", "an absolute path", ""),
    ("execute_dir: /usr/lib", 1, 14, "execute_dir", "outside the system's", ""),
    ("execute_dir: /var/lib", 1, 14, "execute_dir", "outside the system's", ""),
    ("execute_dir: /var/lib/docker/x", 1, 14, "execute_dir", "outside the system's", ""),
    ("execute_dir: /scratch/../etc", 1, 14, "execute_dir", "without '..'", ""),
    ('execute_dir: "/x\\nSTARTD_DEBUG = D_ALL"', 1, 14, "execute_dir", r"saw the text '/x\nSTARTD", ""),
    (f"execute_dir: /{'a' * 255}", 1, 14, "execute_dir", "at most 255", ""),
    ("execute_dir: /$(HOME)", 1, 14, "execute_dir", "an absolute path", ""),
    (
        "jobs: {volumes: [{source: /var, target: /v}]}",
        1,
        27,
        "jobs.volumes[0].source",
        "rule the machine, saw /var",
        "",
    ),
    (
        "jobs: {volumes: [{source: /run/docker.sock, target: /s}]}",
        1,
        27,
        "jobs.volumes[0].source",
        "apart from /run",
        "",
    ),
    ("jobs: {volumes: [{source: /d, target: /etc/x}]}", 1, 39, "jobs.volumes[0].target", "outside the system's", ""),
    ("jobs: {volumes: [{source: '/a:b', target: /v}]}", 1, 27, "jobs.volumes[0].source", "an absolute path", ""),
    ("image: {name: 'a b'}", 1, 15, "image.name", "wanted an image such as", ""),
    ("image: {base: yes}", 1, 15, "image.base", "which YAML reads as true", ""),
    # conflicts
    (
        "ports: {central_manager: 7000, access_point: 7000}",
        1,
        46,
        "ports.access_point",
        "two different ports, saw 7000",
        "",
    ),
    ("ports: {central_manager: 9619}", 1, 26, "ports.central_manager", "saw 9619 for access_point too", ""),
    ("address: 10.73.1.1", 1, 10, "address", "outside the overlay's subnet 10.73.0.0/16", ""),
    (
        "jobs:\n  volumes:\n  - {source: /a, target: /x}\n  - {source: /b, target: /x}",
        *(4, 26, "jobs.volumes[1].target", "a target of its own, saw /x, as on line 3", ""),
    ),
    (
        "jobs: {volumes: [{source: /a, target: /x}, {source: /b, target: /x}]}",
        1,
        65,
        "jobs.volumes[1].target",
        "of its own",
        "",
    ),
    (
        "execute_dir: /pool/scratch\njobs: {volumes: [{source: /pool, target: /p}]}",
        *(2, 27, "jobs.volumes[0].source", "apart from execute_dir /pool/scratch, saw /pool", ""),
    ),
    ("executors: {a: {scratch: /usr/x}}", 1, 26, "executors.a.scratch", "outside the system's", ""),
    ("executors: {a: {min: 3, max: 2}}", 1, 22, "executors.a.min", "at most max, 2, saw 3", ""),
    ("executors: {a: {max: 1, replicas: 2}}", 1, 35, "executors.a.replicas", "from min, 0, to max, 1, saw 2", ""),
    ("executors: {a: {min: 2, max: 4, replicas: 1}}", 1, 43, "executors.a.replicas", "from min, 2, to max, 4", ""),
    ("executors: {a: {min: 3, replicas: 2}}", 1, 35, "executors.a.replicas", "at least min, 3, saw 2", ""),
    ("executors: {a: {max: 200, cpus: 100}}", 1, 33, "executors.a.cpus", "saw 200 replicas of 100", ""),
    ("autoscale: true", 1, 12, "autoscale", "a class with a max", "executors: {executors: {max: 10}}"),
    ("executors: {b: {min: 1}}\nautoscale: true", 2, 12, "autoscale", "saw none", "executors: {b: {max: 10}}"),
    # The janitor removes from such a directory what belongs to no executor: also another directory of executors.
    ("executors: {a: {scratch: /var/lib/swarmhpc}}", 1, 26, "executors.a.scratch", "apart from execute_dir, /var/", ""),
    ("execute_dir: /s\nexecutors: {a: {scratch: /s/a}}", 2, 26, "executors.a.scratch", "execute_dir, /s, saw /s/a", ""),
    (
        "executors: {a: {scratch: /f}, b: {scratch: /f/b}}",
        *(1, 44, "executors.b.scratch", "apart from the scratch of a, /f, saw /f/b", ""),
    ),
    ("queue: {path: /q}\nexecutors: {a: {scratch: /q/s}}", 2, 26, "executors.a.scratch", "from queue.path, /q", ""),
    (
        "jobs: {volumes: [{source: /d, target: /t}]}\nexecutors: {a: {scratch: /d}, b: {scratch: /f}}",
        *(2, 26, "executors.a.scratch", "apart from a volume's source, /d, saw /d", ""),
    ),
    ("executors: {a: {replicas: 200, cpus: 1024}}", 1, 38, "executors.a.cpus", "saw 200 replicas of 1024", ""),
    (
        "executors: {a: {memory: 100M}}",
        1,
        25,
        "executors.a.memory",
        "jobs.default_memory (128MiB), saw 100M",
        "never start",
    ),
    # YAML that is broken or does more than hold data
    ("- a\n- b", 1, 1, "", "wanted keys with values, saw a list", "begin with a key"),
    ("swarmhpc", 1, 1, "", "wanted keys with values, saw swarmhpc", ""),
    ("jobs:\n\tpids_limit: 1", 2, 1, "", "not YAML", "spaces, not with tabs"),
    ("name: a\nports: {", 2, 9, "", "not YAML", ""),
    ("name: 'a\nb: c", 2, 5, "", "not YAML", ""),
    ("name: a\n---\nname: b", 2, 1, "", "not YAML", ""),
    ("name: a\nsubnet: \x07", 2, 9, "", "wanted printable text, saw the character U+0007", ""),
    ("name: &a b", 1, 7, "name", "anchor", "remove the anchor"),
    ("&k jobs: {}", 1, 1, "", "anchor", ""),
    ("*k : {}", 1, 1, "", "alias", ""),
    ("name: !!str b", 1, 7, "name", "tag", "remove the tag"),
    ("image: !!python/object/apply:os.system [ls]", 1, 8, "image", "tag", ""),
    ("jobs: {volumes: [*a]}", 1, 18, "jobs.volumes[0]", "alias", "write the value out"),
    ("jobs:\n  volumes: " + "[" * 5000, 2, 26, "", "nested more than 16 levels deep", ""),
]


@pytest.mark.parametrize(("text", "line", "column", "key", "message", "hint"), BAD, ids=[repr(b[0])[:60] for b in BAD])
def test_one_wrong_thing_gives_one_problem_at_its_place(
    text: str, line: int, column: int, key: str, message: str, hint: str
) -> None:
    problems = problems_of(text)
    assert [(p.line, p.column, p.key_path) for p in problems] == [(line, column, key)]
    assert message in problems[0].message
    assert hint in problems[0].hint


def test_everything_that_is_wrong_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = """\
name: no
nmae: x
networking: off
ports: {central_manager: 9619, acess_point: 1}
executors:
  Big: {replicas: 300, memory: 4 gigs}
  small: {memory: 64MiB}
  small: {}
jobs:
  volumes:
    - {source: /a, target: /x}
    - {source: /etc/../b, target: /x}
  pids_limit: &n 0
drain_timeout: *n
image: &i {nmae: a}
"""
    assert [(p.line, p.key_path) for p in problems_of(text)] == [
        (1, "name"),
        (2, "nmae"),
        (3, "networking"),
        (4, "ports.central_manager"),  # equal to the other port's default
        (4, "ports.acess_point"),
        (6, "executors.Big"),
        (6, "executors.Big.replicas"),
        (6, "executors.Big.memory"),
        (7, "executors.small.memory"),  # less than the default of a job
        (8, "executors.small"),
        (12, "jobs.volumes[1].source"),
        (12, "jobs.volumes[1].target"),
        (13, "jobs.pids_limit"),  # the anchor
        (13, "jobs.pids_limit"),  # the 0
        (14, "drain_timeout"),
        (15, "image"),
        (15, "image.nmae"),
    ]


def test_the_message_lists_each_problem_with_file_line_column_and_key() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("nmae: a\nports: {access_point: 0}", file="my/c.yaml")
    assert caught.value.message.splitlines() == [
        "my/c.yaml:1:1 nmae: unknown key",
        "    did you mean name?",
        "my/c.yaml:2:23 ports.access_point: wanted a whole number from 1 to 65535, saw 0",
    ]
    assert caught.value.exit_code == 2
    assert "docs/configuration.md" in caught.value.hint


@pytest.mark.timeout(20)
def test_nested_aliases_are_refused_before_they_multiply() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert any("alias" in p.message for p in problems_of("\n".join(lines)))


# ---- files


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    cases = {"missing.yaml": "No such file", ".": "Is a directory"}
    for name, reason in cases.items():
        with pytest.raises(ConfigError, match=reason) as caught:
            load(tmp_path / name)
        assert caught.value.message.startswith(f"{tmp_path / name}: wanted a readable cluster file")


def test_a_file_that_is_not_utf_8_names_the_byte_and_its_place(tmp_path: Path) -> None:
    path = tmp_path / "swarmhpc.yaml"
    path.write_bytes("name: a\n# Zürich\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="wanted UTF-8 text, saw the byte 0xfc") as caught:
        load(path)
    assert [(p.line, p.column) for p in caught.value.problems] == [(2, 4)]


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "swarmhpc.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\n")
    assert load(path).name == "a"


def test_a_file_larger_than_one_mib_is_refused_and_one_of_one_mib_is_not(tmp_path: Path) -> None:
    path = tmp_path / "swarmhpc.yaml"
    path.write_text("#" * MAX_FILE_BYTES)
    assert load(path) == Cluster()
    path.write_text("#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match="at most 1048576 bytes"):
        load(path)


def test_the_file_is_found_in_the_folder_only_under_its_name(tmp_path: Path) -> None:
    assert find_file(tmp_path) is None
    link = tmp_path / "swarmhpc.yaml"
    link.symlink_to(tmp_path / "gone")
    assert find_file(tmp_path) == link  # so that load() complains; silently using the defaults would be worse
    link.unlink()
    link.write_text("")
    assert find_file(tmp_path) == link


def test_a_file_with_the_other_ending_is_an_error_and_not_ignored(tmp_path: Path) -> None:
    other = tmp_path / "swarmhpc.yml"
    other.write_text("name: lab\n")
    with pytest.raises(UsageError, match=r"swarmhpc\.yml: the cluster file must be called swarmhpc\.yaml") as caught:
        find_file(tmp_path)
    assert caught.value.hint == "mv swarmhpc.yml swarmhpc.yaml"
    right = tmp_path / "swarmhpc.yaml"
    right.write_text("")
    assert find_file(tmp_path) == right


def test_importing_the_module_loads_neither_pydantic_nor_yaml() -> None:
    code = "import sys, swarmhpc.config; print([m for m in ('pydantic', 'yaml') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ---- round trip

NAMES = st.one_of(
    st.sampled_from(["on", "no", "y", "null", "true", "e1", "executors-big"]),
    st.from_regex(r"[a-z]([a-z0-9-]{0,29}[a-z0-9])?", fullmatch=True),
)
CLASSES = st.builds(
    ExecutorClass,
    name=NAMES.filter(lambda name: name not in ("central-manager", "access-point", "janitor", "autoscaler")),
    replicas=st.integers(0, 200),
    cpus=st.none() | st.integers(1, 80),
    memory_mib=st.none() | st.integers(4096, 2**26),
    gpus=st.integers(0, 8),
    resources=st.dictionaries(st.sampled_from(["licence", "on", "e1", "null"]), st.integers(1, 9), max_size=2).map(
        lambda found: tuple(sorted(found.items()))
    ),
    max_per_node=st.none() | st.integers(1, 200),
    minimum=st.integers(0, 2),
    maximum=st.none() | st.integers(2, 200),
    step=st.integers(1, 200),
    idle_s=st.integers(1, 365 * 86400),
    starting_max=st.integers(1, 200),
    scratch=st.none() | st.sampled_from(["/fast/a", "/fast/b"]),
    reserve=st.booleans(),
).map(lambda c: dataclasses.replace(c, replicas=c.bounded(c.replicas)))
VOLUMES = st.builds(
    Volume,
    source=st.from_regex(r"/data(/[A-Za-z0-9_+@-]{1,9}){0,2}", fullmatch=True),
    target=st.from_regex(r"/mnt/[A-Za-z0-9_+@-]{1,9}", fullmatch=True),
    read_only=st.booleans(),
)
IMAGES = st.none() | st.sampled_from(
    ["debian", "debian:forky-slim", "1:30", "12", "r.example.org:5000/a/b:1", f"a@sha256:{'0' * 64}"]
)
CLUSTERS = st.builds(
    Cluster,
    name=NAMES,
    networking=st.sampled_from(["auto", "vip", "dnsrr"]),
    subnet=st.builds("10.{}.{}.0/24".format, st.integers(1, 255), st.integers(0, 255)),
    address=st.none() | st.builds("192.168.{}.{}".format, st.integers(0, 255), st.integers(0, 255)),
    ports=st.lists(st.integers(8000, 65535), min_size=3, max_size=3, unique=True).map(lambda p: Ports(*p)),
    executors=st.lists(CLASSES, min_size=1, max_size=4, unique_by=lambda c: c.name).map(
        lambda classes: tuple(sorted(classes, key=lambda c: c.name))  # as parse gives them
    ),
    jobs=st.builds(
        JobPolicy,
        allow_host_network=st.booleans(),
        volumes=st.lists(VOLUMES, max_size=3, unique_by=lambda v: v.target).map(tuple),
        pids_limit=st.integers(1, 4194304),
        default_memory_mib=st.integers(6, 4096),
    ),
    image=st.builds(Image, name=IMAGES, base=IMAGES),
    drain_timeout_s=st.integers(1, 365 * 86400),
    execute_dir=st.from_regex(r"/scratch(/[A-Za-z0-9_+@-]{1,9}){0,2}", fullmatch=True),
    encrypted=st.booleans(),
    autoscale=st.booleans(),
    prepare=st.booleans(),
    queue=st.builds(Queue, path=st.none() | st.just("/shared/queue"), history_mib=st.integers(6, 4096)),
    fairness=st.builds(
        Fairness,
        people=st.lists(
            st.builds(
                Person,
                name=st.from_regex(r"[a-z][a-z0-9._-]{0,30}", fullmatch=True),
                priority_factor=st.integers(1, 1000000),
                group=st.none() | st.just("on"),
                max_jobs=st.none() | st.integers(1, 9),
                max_cpus=st.none() | st.integers(1, 9),
            ),
            max_size=3,
            unique_by=lambda p: p.name,
        ).map(lambda people: tuple(sorted(people, key=lambda p: p.name))),
        groups=st.builds(Group, name=st.just("on"), share_percent=st.integers(1, 100), surplus=st.booleans()).map(
            lambda group: (Group("n", cpus=3), group)
        ),
        limits=st.dictionaries(st.sampled_from(["a", "no", "e1"]), st.integers(1, 9)).map(
            lambda found: tuple(sorted(found.items()))
        ),
    ),
).map(lambda c: dataclasses.replace(c, autoscale=c.autoscale and any(e.maximum for e in c.executors)))
LABELS = st.dictionaries(
    st.from_regex(r"[a-z][A-Za-z0-9._-]{0,6}", fullmatch=True),
    st.sampled_from(["on", "no", "1", "010", "null", "ssd", "a/b", "1e3", "."]),
    max_size=3,
).map(lambda labels: tuple(sorted(labels.items())))
MACHINES = st.builds(
    lambda number, label, role, ssh, labels: Machine(f"{label}{number}", f"192.168.1.{number}", role, ssh, labels),
    number=st.integers(1, 254),
    label=st.sampled_from(["n", "Node.lab-", "0x", "1", "no.on-"]),
    role=st.sampled_from(["manager", "worker"]),
    ssh=st.builds(
        Ssh,
        user=st.sampled_from(["root", "no", "null", "y", "_x"]),
        port=st.integers(1, 65535),
        key=st.none() | st.sampled_from(["~/.ssh/id_ed25519", "/k"]),
        known_hosts=st.none() | st.just("~me/known"),
    ),
    labels=LABELS,
)


def joined(cluster: Cluster, machines: list[Machine], of_queue: int, of_class: int) -> Cluster:
    """The cluster over `machines`, of which the first is the one manager; queue and classes refer to two of them."""
    roles = [dataclasses.replace(m, role="worker" if index else "manager") for index, m in enumerate(machines)]
    placement = roles[of_class % len(roles)].labels
    spread = placement[0][0] if placement else None
    return dataclasses.replace(
        cluster,
        address=None,
        machines=tuple(roles),
        queue=cluster.queue if cluster.queue.path else Queue(machine=roles[of_queue % len(roles)].name),
        executors=tuple(dataclasses.replace(c, placement=placement, spread=spread) for c in cluster.executors),
    )


LABS = st.builds(
    joined,
    CLUSTERS,
    st.lists(MACHINES, min_size=1, max_size=5, unique_by=(lambda m: m.name.lower(), lambda m: m.address)),
    st.integers(0, 4),
    st.integers(0, 4),
)


@settings(max_examples=60, deadline=None)
@given(CLUSTERS | LABS)
def test_a_cluster_that_was_dumped_reads_back_the_same(cluster: Cluster) -> None:
    text = dump(cluster)
    assert parse(text, file="stored") == cluster
    assert dump(parse(text, file="stored")) == text


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        *("name", "ports", "executors", "jobs", "volumes", "target", "memory", "cpus", "a"),
                        *("resources", "spread", "min", "max", "scratch", "autoscale", "idle", "reserve"),
                        *("machines", "address", "role", "ssh", "labels", "queue", "path", "placement"),
                        *("fairness", "people", "groups", "limits", "group", "share", "surplus", "max_jobs"),
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_data_is_a_cluster_or_a_config_error(data: object) -> None:
    try:
        cluster = parse(yaml.safe_dump(data), file="c.yaml")
    except ConfigError as error:
        assert error.problems
    else:
        assert parse(dump(cluster), file="c.yaml") == cluster
