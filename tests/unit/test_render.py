"""The stack and the HTCondor configuration, rendered from the shipped templates."""

from __future__ import annotations

import fnmatch
import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

import hypothesis
import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from swarmhpc import _config_fairness as fair
from swarmhpc import state
from swarmhpc._config_fairness import Fairness, Group, Person
from swarmhpc.cluster import render as module
from swarmhpc.cluster.render import (
    ClassPlan,
    NodeSize,
    Rendered,
    RenderFacts,
    interface_pattern,
    plan_label,
    read_plan,
    render,
    size_classes,
)
from swarmhpc.config import Cluster, ExecutorClass, JobPolicy, Ports, Queue, Volume
from swarmhpc.errors import EngineError

CLASSES = (
    ClassPlan("executors", 2, 2, 1024, reserved_cpus=2.0),
    ClassPlan("big", 1, 4, 4096, reserved_cpus=4.0),
)
FACTS = RenderFacts(
    networking="vip",
    address="192.0.2.1",
    image="swarmhpc/pool:abc",
    classes=CLASSES,
    signing_key="swarmhpc_signing-key",
    executor_token="swarmhpc_executor-token",
)
DAEMONS = ("central-manager", "access-point", "janitor", "autoscaler")
EXECUTORS = ("executors", "big")


def rendered(cluster: Cluster | None = None, **facts: Any) -> Rendered:
    return render(cluster or Cluster(), replace(FACTS, **facts))


def stack(cluster: Cluster | None = None, **facts: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(rendered(cluster, **facts).stack)
    return loaded


def services(cluster: Cluster | None = None, **facts: Any) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = stack(cluster, **facts)["services"]
    return found


def labels(result: Rendered) -> dict[str, str]:
    return {name: s["deploy"]["labels"][state.LABEL_SPEC] for name, s in result.services.items()}


def settings(text: str) -> dict[str, str]:
    """`NAME = value` lines of an HTCondor configuration."""
    pairs = (line.partition("=") for line in text.splitlines() if re.match(r"\w+\s*=", line))
    return {key.strip(): value.strip() for key, _, value in pairs}


# -- size and place ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "cpus", "memory_mib", "sizes"),
    [
        ((ExecutorClass("a", 2),), 4, 8192, [(2, 3072)]),
        ((ExecutorClass("a", 2),), 2, 4096, [(1, 1536)]),
        ((ExecutorClass("a", 3),), 2, 4096, [(1, 1024)]),  # never less than one CPU
        ((ExecutorClass("a", 1),), 1, 1024, [(1, 512)]),  # 512 MiB stay with the machine
        ((ExecutorClass("a", 2, cpus=8, memory_mib=100),), 4, 8192, [(8, 100)]),  # the file's word
        ((ExecutorClass("a", 1, cpus=3), ExecutorClass("b", 1, memory_mib=64)), 4, 8192, [(3, 6016), (1, 64)]),
        ((ExecutorClass("a", 0),), 4, 8192, [(4, 6144)]),  # nobody to share with
        ((ExecutorClass("a", 8),), 1, 512, [(1, 128)]),  # the least, where the machine has less
        # What fits nowhere takes nothing from the others; oversold, it takes all.
        ((ExecutorClass("a", 1, 1, 9000), ExecutorClass("b", 1)), 2, 8192, [(1, 9000), (2, 6144)]),
        ((ExecutorClass("a", 1, 1, 9000, reserve=False), ExecutorClass("b", 1)), 2, 8192, [(1, 9000), (1, 128)]),
        # A class that may grow gets the size with which all of it fits.
        ((ExecutorClass("a", 1, maximum=4),), 4, 8192, [(1, 1536)]),
        ((ExecutorClass("a", 0, maximum=2), ExecutorClass("b", 2)), 4, 8192, [(1, 1536), (1, 1536)]),
    ],
)
def test_auto_is_an_equal_share_of_what_the_machine_can_spare(
    classes: tuple[ExecutorClass, ...], cpus: int, memory_mib: int, sizes: list[tuple[int, int]]
) -> None:
    planned = size_classes(Cluster(executors=classes), [NodeSize(cpus, memory_mib)])
    assert [(c.cpus, c.memory_mib) for c in planned] == sizes
    assert [(c.name, c.replicas) for c in planned] == [(c.name, c.replicas) for c in classes]


@pytest.mark.parametrize(
    ("classes", "cpus", "reserved"),
    [
        ((ExecutorClass("a", 2),), 4, [2.0]),
        ((ExecutorClass("a", 3),), 4, [1.0]),  # the rest of the share is nobody's
        # Each advertises one CPU; the machine has room for all of them by their shares, rounded down.
        ((ExecutorClass("a", 2),), 1, [0.5]),
        ((ExecutorClass("a", 3),), 2, [0.66]),
        ((ExecutorClass("a", 1, maximum=8),), 2, [0.25]),
        ((ExecutorClass("a", 1, cpus=2), ExecutorClass("b", 3)), 4, [2.0, 0.66]),
        # Nothing is left to share.
        ((ExecutorClass("a", 2, cpus=2), ExecutorClass("b", 1)), 4, [2.0, 0.0]),
        # The file's word, also where it can't be kept: then Swarm says so.
        ((ExecutorClass("a", 9, cpus=3),), 4, [3.0]),
        ((ExecutorClass("a", 9, cpus=3, reserve=False), ExecutorClass("b", 2, reserve=False)), 4, [0.0, 0.0]),
    ],
)
def test_what_an_executor_advertises_is_reserved_but_of_an_auto_class_never_more_cpu_than_its_share(
    classes: tuple[ExecutorClass, ...], cpus: int, reserved: list[float]
) -> None:
    planned = size_classes(Cluster(executors=classes), [NodeSize(cpus, 8192)])
    assert [c.reserved_cpus for c in planned] == reserved
    assert min(c.cpus for c in planned) >= 1


def test_a_plan_has_all_that_the_file_says_of_its_class() -> None:
    full = ExecutorClass(
        *("a", 2, 1, 512, (("disk", "ssd"),), 1, (("licence", 2),), "rack", 3, 1, 4, 2, 60, 5, "/fast"), reserve=False
    )
    [planned] = size_classes(Cluster(executors=(full,)), [NodeSize(4, 8192)])
    assert planned == ClassPlan(
        *("a", 2, 1, 512, (("disk", "ssd"),), 1, (("licence", 2),), "rack", 3, 1, 4, 2, 60, 5, "/fast"),
        reserve=False,
        reserved_cpus=0.0,
    )


@given(
    replicas=st.lists(st.integers(0, 8), min_size=1, max_size=4),
    memory_mib=st.integers(128 * 32 * 4 // 3 + 1, 4 * 1024 * 1024),
    cpus=st.integers(1, 512),
)
def test_classes_of_auto_size_never_get_more_memory_than_the_machine_has(
    replicas: list[int], memory_mib: int, cpus: int
) -> None:
    """Over machines that have the least share (128 MiB) for each of 32 replicas."""
    classes = tuple(ExecutorClass(f"c{i}", n) for i, n in enumerate(replicas))
    planned = size_classes(Cluster(executors=classes), [NodeSize(cpus, memory_mib)])
    assert sum(c.replicas * c.memory_mib for c in planned) <= memory_mib - max(512, memory_mib // 4)
    assert min(c.memory_mib for c in planned) >= (256 if memory_mib >= 256 * 32 + 4096 else 128)
    assert min(c.cpus for c in planned) >= 1


def test_many_replicas_on_a_small_machine_stay_within_its_memory() -> None:
    [planned] = size_classes(Cluster(executors=(ExecutorClass("a", 8),)), [NodeSize(2, 1024)])
    assert planned.replicas * planned.memory_mib <= 1024


def test_an_auto_class_shares_only_what_the_fixed_classes_leave() -> None:
    classes = (ExecutorClass("big", 1, memory_mib=7168), ExecutorClass("a", 1))
    planned = size_classes(Cluster(executors=classes), [NodeSize(4, 8192)])
    assert sum(c.replicas * c.memory_mib for c in planned) <= 8192


SSD = {"disk": "ssd"}
BIG, SMALL = NodeSize(8, 16384), NodeSize(2, 4096)
A, B = NodeSize(8, 16384, {"rack": "a"}), NodeSize(8, 16384, {"rack": "b"})


@pytest.mark.parametrize(
    ("classes", "nodes", "sizes"),
    [
        # Each node gets its share of the replicas, rounded up; the smallest node decides.
        ((ExecutorClass("a", 3),), (BIG, BIG, BIG), [(8, 12288)]),
        ((ExecutorClass("a", 4),), (BIG, BIG, BIG), [(4, 6144)]),
        ((ExecutorClass("a", 2),), (BIG, SMALL), [(2, 3072)]),
        ((ExecutorClass("a", 6),), (BIG, SMALL, BIG), [(1, 1536)]),
        # Only the nodes that a class may run on count for it, and only there it takes something.
        ((ExecutorClass("a", 1, placement=(("disk", "ssd"),)),), (SMALL, NodeSize(8, 16384, SSD)), [(8, 12288)]),
        (
            (ExecutorClass("a", 2), ExecutorClass("b", 1, placement=(("disk", "ssd"),))),
            (BIG, NodeSize(8, 16384, SSD)),
            [(4, 6144), (4, 6144)],
        ),
        (
            (ExecutorClass("a", 2), ExecutorClass("b", 1, 6, 8192, (("disk", "ssd"),))),
            (BIG, NodeSize(8, 16384, SSD)),
            [(2, 4096), (6, 8192)],
        ),
        # A node has more labels than were asked for; all that were asked for must be there.
        (
            (ExecutorClass("a", 1, placement=(("disk", "ssd"), ("room", "1"))),),
            (NodeSize(1, 2048, SSD), NodeSize(4, 8192, {**SSD, "room": "1", "x": "y"})),
            [(4, 6144)],
        ),
        # A class of fixed size takes something only where it fits, and no more than fits.
        ((ExecutorClass("a", 2, 6, 8192), ExecutorClass("b", 2)), (BIG, SMALL), [(6, 8192), (2, 3072)]),
        ((ExecutorClass("a", 1, 6, 8192), ExecutorClass("b", 1, maximum=2)), (BIG, BIG), [(6, 8192), (2, 4096)]),
        # What is spread over a label fills the nodes that are alone with their value; a bound a node keeps it down.
        ((ExecutorClass("a", 4, spread="rack"),), (A, A, B), [(4, 6144)]),
        ((ExecutorClass("a", 4, spread="rack", max_per_node=1),), (A, A, B), [(8, 12288)]),
        ((ExecutorClass("a", 3, max_per_node=1),), (BIG,), [(8, 12288)]),
        # No node yet that it could run on: a size that every node has.
        ((ExecutorClass("a", 1, placement=(("disk", "ssd"),)),), (BIG, SMALL), [(2, 3072)]),
    ],
)
def test_over_several_nodes_auto_is_the_least_share_of_the_nodes_that_a_class_may_run_on(
    classes: tuple[ExecutorClass, ...], nodes: tuple[NodeSize, ...], sizes: list[tuple[int, int]]
) -> None:
    planned = size_classes(Cluster(executors=classes), nodes)
    assert [(c.cpus, c.memory_mib) for c in planned] == sizes
    assert [c.placement for c in planned] == [c.placement for c in classes]


_PLACEMENTS = st.sampled_from([(), (("disk", "ssd"),), (("room", "1"),), (("disk", "ssd"), ("room", "1"))])
_NODES = st.builds(
    NodeSize,
    st.sampled_from([64, 65, 100, 512]),
    st.integers(16384, 2**20),
    st.sampled_from([{}, SSD, {"room": "1"}, {**SSD, "room": "1"}]),
)


_CLASSES = st.builds(
    ExecutorClass,
    name=st.just(""),
    replicas=st.integers(0, 12),
    cpus=st.sampled_from([None, None, 1]),
    memory_mib=st.sampled_from([None, None, 128]),
    placement=_PLACEMENTS,
    spread=st.sampled_from([None, "disk", "room"]),
    max_per_node=st.none() | st.integers(1, 12),
    maximum=st.none() | st.integers(12, 16),
)


def swarm_places(plans: Sequence[ClassPlan], nodes: Sequence[NodeSize]) -> list[list[int]]:
    """Executors of each class on each node as Swarm's scheduler places them, one after another: to the label's value,
    then to the node, with the fewest of the class, of those with room for what is reserved."""
    free_cpus, free_mib = [Fraction(n.cpus) for n in nodes], [n.memory_mib for n in nodes]
    placed = []
    for c in plans:
        mine = [0] * len(nodes)
        bound, cpus = c.max_per_node or c.replicas, Fraction(str(c.reserved_cpus))
        for _ in range(c.replicas):
            fits = [
                i
                for i, n in enumerate(nodes)
                if all(n.labels.get(k) == v for k, v in c.placement)
                and mine[i] < bound
                and free_cpus[i] >= cpus
                and free_mib[i] >= c.memory_mib
            ]
            if not fits:
                break

            def crowd(i: int, c: ClassPlan = c, mine: list[int] = mine) -> tuple[int, int]:
                value = nodes[i].labels.get(c.spread) if c.spread else None
                same = [m for m, n in zip(mine, nodes, strict=True) if c.spread and n.labels.get(c.spread) == value]
                return sum(same), mine[i]

            best = min(fits, key=crowd)
            mine[best] += 1
            free_cpus[best] -= cpus
            free_mib[best] -= c.memory_mib
        placed.append(mine)
    return placed


@given(
    classes=st.lists(_CLASSES, min_size=1, max_size=4),
    nodes=st.lists(_NODES, min_size=1, max_size=5),
    grown=st.booleans(),
    data=st.data(),
)
def test_swarm_finds_room_for_every_executor_that_auto_sizes_promise_in_whatever_order_it_looks(
    classes: list[ExecutorClass], nodes: list[NodeSize], grown: bool, data: st.DataObject
) -> None:
    """Over nodes that have the least share of memory for every one, and the CPUs of the classes of fixed size; as many
    as the file begins with, or as many as it allows."""
    executors = tuple(replace(c, name=f"c{i}") for i, c in enumerate(classes))
    planned = size_classes(Cluster(executors=executors), nodes)
    plans = [replace(c, replicas=max(c.replicas, c.maximum or 0)) if grown else c for c in planned]
    plans = data.draw(st.permutations(plans))
    for c, mine in zip(plans, swarm_places(plans, nodes), strict=True):
        assert c.cpus >= 1
        assert c.memory_mib >= 128
        homes = sum(all(n.labels.get(k) == v for k, v in c.placement) for n in nodes)
        assert sum(mine) == min(c.replicas, homes * (c.max_per_node or c.replicas)), c
    for i, node in enumerate(nodes):
        used = sum(mine[i] * c.memory_mib for c, mine in zip(plans, swarm_places(plans, nodes), strict=True))
        assert used <= node.memory_mib - node.memory_mib // 4


def test_a_label_counts_in_upper_and_lower_case_as_it_does_for_swarm() -> None:
    classes = (ExecutorClass("a", 2, placement=(("disk", "SSD"),)), ExecutorClass("b", 2))
    planned = size_classes(Cluster(executors=classes), [NodeSize(8, 16384, SSD)])
    assert [c.memory_mib for c in planned] == [3072, 3072]


@pytest.mark.parametrize(
    ("subnet", "pattern"),
    [("10.73.0.0/16", "10.73.*"), ("10.73.5.0/24", "10.73.5.*"), ("172.20.16.0/20", "172.20.*")],
)
def test_the_interface_pattern_is_the_whole_octets_of_the_subnet(subnet: str, pattern: str) -> None:
    assert interface_pattern(subnet) == pattern


@given(st.integers(16, 24), st.integers(0, 2**32 - 1), st.data())
def test_every_address_of_the_subnet_fits_the_interface_pattern(prefix: int, number: int, data: st.DataObject) -> None:
    network = ipaddress.IPv4Network((number, prefix), strict=False)
    address = network[data.draw(st.integers(0, network.num_addresses - 1))]
    assert fnmatch.fnmatch(str(address), interface_pattern(str(network)))


# -- templates -----------------------------------------------------------------------------------------------


def test_an_undefined_variable_is_an_error_and_never_an_empty_string() -> None:
    environment = module._environment()
    with pytest.raises(jinja2.UndefinedError, match="nowhere"):
        environment.from_string("a = {{ nowhere }}").render({})


@pytest.mark.parametrize("name", [*(f"condor/{n}.conf.j2" for n in module._CONFIGS), "pool.yml.j2"])
def test_every_template_needs_its_values(name: str) -> None:
    with pytest.raises(jinja2.UndefinedError):
        module._environment().get_template(name).render({})


@pytest.mark.parametrize("networking", ["vip", "dnsrr"])
def test_the_stack_is_yaml_with_the_services_of_the_pool_and_every_config_it_names(networking: Any) -> None:
    result = rendered(networking=networking)
    loaded = yaml.safe_load(result.stack)
    assert tuple(loaded["services"]) == (*DAEMONS, *EXECUTORS)
    assert loaded["services"] == result.services
    assert {c["file"].removeprefix("./") for c in loaded["configs"].values()} == set(result.configs)
    used = {c["source"] for s in loaded["services"].values() for c in s.get("configs", ())}
    assert used == set(loaded["configs"]), "no config is made for nobody"
    assert not [key for key in loaded if key.startswith("x-")]


@pytest.mark.parametrize("revoked", ["", '(sub =?= "bob@swarmhpc" && iat <= 5)'])
def test_no_template_mark_is_left_in_an_htcondor_configuration(revoked: str) -> None:
    cluster = Cluster(jobs=JobPolicy(allow_host_network=True, volumes=(Volume("/data", "/data"),)))
    for name, text in rendered(cluster, revoked=revoked).configs.items():
        assert not re.search(r"\{\{|\{%|\}\}", text), name


UNFAIR = Fairness(
    (Person("al-x", 500, "phys", max_jobs=3), Person("bob", max_cpus=8), Person("cy", group="phys")),
    (Group("bio", cpus=4, surplus=False), Group("phys", share_percent=7)),
    (("matlab", 5),),
)


def test_who_may_have_how_much_reaches_htcondor() -> None:
    configs = rendered(Cluster(fairness=UNFAIR)).configs
    manager, access_point = (configs[f"{name}.conf"].splitlines() for name in ("central-manager", "access-point"))
    assert {
        "GROUP_NAMES = bio, phys",
        "GROUP_QUOTA_bio = 4",
        "GROUP_ACCEPT_SURPLUS_bio = false",
        "GROUP_AUTOREGROUP = true",
        "GROUP_AUTOREGROUP_bio = false",
        "GROUP_QUOTA_DYNAMIC_phys = 0.07",
        "GROUP_ACCEPT_SURPLUS_phys = true",
        "GROUP_AUTOREGROUP_phys = true",
        "MATLAB_LIMIT = 5",
        "SWARMHPC_JOBS_AL_2D_X_LIMIT = 3",
        "SWARMHPC_CPUS_BOB_LIMIT = 8",
        "NEGOTIATOR_CYCLE_DELAY  = 3",
    } <= set(manager)
    assert {
        '  REQUIREMENTS member(Owner, { "al-x", "cy" })',
        '  REQUIREMENTS Owner =?= "al-x"',
        '  SET ConcurrencyLimits strcat("$(MY.SwarmHpcAskedLimits)", ",swarmhpc_jobs_al_2d_x")',
        '  SET ConcurrencyLimits strcat("$(MY.SwarmHpcAskedLimits)", ",swarmhpc_cpus_bob:", RequestCpus)',
    } <= set(access_point)


def test_the_pool_tells_its_rules_as_they_are_in_the_file() -> None:
    text = rendered(Cluster(fairness=UNFAIR)).configs["central-manager.conf"]
    (told,) = re.findall('^SwarmHpcFairness = "(.*)"$', text, re.MULTILINE)
    assert fair.from_mapping(json.loads(told.replace('\\"', '"'))) == UNFAIR


def test_people_whose_names_differ_have_limits_that_differ() -> None:
    names = ["a.b", "a-b", "a_b", "ab", "a_2e_b", "a_5f_b"]
    assert len({Person(n).jobs_limit for n in names}) == len(names)


@pytest.mark.parametrize(
    ("fairness", "delay"),
    [
        (Fairness(), 0),
        (Fairness((Person("a", 9),)), 0),
        (Fairness(groups=(Group("g", 5),)), 0),
        (Fairness(groups=(Group("g", 5, surplus=False),)), 3),
        (Fairness((Person("a", max_cpus=1),)), 3),
        (Fairness(limits=(("x", 1),)), 3),
    ],
)
def test_negotiations_wait_for_what_executors_tell_only_where_something_is_counted(
    fairness: Fairness, delay: int
) -> None:
    lines = rendered(Cluster(fairness=fairness)).configs["central-manager.conf"].splitlines()
    assert f"NEGOTIATOR_CYCLE_DELAY  = {delay}" in lines


@pytest.mark.parametrize("surplus", [True, False])
def test_what_a_group_may_not_exceed_is_given_out_by_the_negotiator_alone(*, surplus: bool) -> None:
    text = rendered(Cluster(fairness=Fairness(groups=(Group("g", 5, surplus=surplus),)))).configs["access-point.conf"]
    assert ("CLAIM_PARTITIONABLE_LEFTOVERS = false" in text.splitlines()) is not surplus


def test_the_history_has_the_size_of_the_file_in_five_parts() -> None:
    text = rendered(Cluster(queue=Queue(history_mib=100))).configs["access-point.conf"]
    assert f"MAX_HISTORY_LOG       = {100 * 2**20 // 5}" in text.splitlines()
    assert "MAX_HISTORY_ROTATIONS = 4" in text.splitlines()


def test_swarms_own_templates_reach_the_stack() -> None:
    for name, service in services().items():
        assert "{{.Task.ID}}" in service["hostname"] or '{{printf "%.6s" .Task.ID}}' in service["hostname"], name
    assert services()["executors"]["environment"]["SWARMHPC_TASK"] == "{{.Task.ID}}"


def test_no_option_is_used_that_docker_stack_deploy_ignores() -> None:
    """Silently, with a warning only (facts)."""
    ignored = {"privileged", "devices", "security_opt", "cgroup_parent", "shm_size", "userns_mode", "restart"}
    ignored |= {"network_mode", "pid", "ipc"}
    for name, service in services().items():
        assert ignored.isdisjoint(service), name


# -- networking ----------------------------------------------------------------------------------------------


def test_with_vips_ports_go_through_the_mesh_and_the_central_manager_is_free_to_move() -> None:
    found = services()
    assert {s["deploy"]["endpoint_mode"] for s in found.values()} == {"vip"}
    assert [p["mode"] for s in found.values() for p in s.get("ports", ())] == ["ingress"] * 3
    assert "placement" not in found["central-manager"]["deploy"]


def test_without_vips_ports_are_the_nodes_own_and_the_central_manager_stays_where_clients_look() -> None:
    found = services(networking="dnsrr")
    assert {s["deploy"]["endpoint_mode"] for s in found.values()} == {"dnsrr"}
    assert [p["mode"] for s in found.values() for p in s.get("ports", ())] == ["host"] * 3
    at_queue = {"constraints": ["node.labels.swarmhpc.queue == swarmhpc"]}
    assert found["central-manager"]["deploy"]["placement"] == at_queue


@pytest.mark.parametrize("networking", ["vip", "dnsrr"])
def test_the_access_point_stays_with_its_queue(networking: Any) -> None:
    found = services(networking=networking)["access-point"]
    assert found["deploy"]["placement"] == {"constraints": ["node.labels.swarmhpc.queue == swarmhpc"]}
    assert found["volumes"] == ["queue:/var/spool/condor"]
    assert stack()["volumes"]["queue"]["name"] == "swarmhpc_queue"


@pytest.mark.parametrize(("networking", "central_manager_stays"), [("vip", False), ("dnsrr", True)])
def test_a_queue_on_a_shared_filesystem_lets_the_access_point_move_where_the_mesh_finds_it(
    networking: Any, central_manager_stays: bool
) -> None:
    loaded = stack(Cluster(queue=Queue(path="/nfs/queue")), networking=networking)
    daemons = {n: loaded["services"][n] for n in ("central-manager", "access-point")}
    assert daemons["access-point"]["volumes"] == ["/nfs/queue:/var/spool/condor"]
    assert list(loaded["volumes"]) == ["accounting"]
    # Without the mesh, clients look at one node only: whatever holds the queue, both stay there.
    assert {"placement" in d["deploy"] for d in daemons.values()} == {central_manager_stays}


@pytest.mark.parametrize("networking", ["vip", "dnsrr"])
def test_only_classes_with_a_placement_are_constrained_and_to_all_of_its_labels(networking: Any) -> None:
    classes = (CLASSES[0], replace(CLASSES[1], placement=(("disk", "ssd"), ("room", "a/1"))))
    found = services(classes=classes, networking=networking)
    assert "placement" not in found["executors"]["deploy"]
    wanted = ["node.labels.disk == ssd", "node.labels.room == a/1"]
    assert found["big"]["deploy"]["placement"] == {"constraints": wanted}
    assert "placement" not in found["janitor"]["deploy"], "every node is cleaned up"


@pytest.mark.parametrize("networking", ["vip", "dnsrr"])
@pytest.mark.parametrize(("encrypted", "options"), [(True, {"encrypted": "true"}), (False, None)])
def test_the_overlay_is_encrypted_when_the_file_says_so(
    networking: Any, encrypted: bool, options: dict[str, str] | None
) -> None:
    assert stack(Cluster(encrypted=encrypted), networking=networking)["networks"]["pool"].get("driver_opts") == options


def test_only_the_daemons_publish_ports_and_they_are_the_same_inside_and_outside() -> None:
    cluster = Cluster(ports=Ports(20001, 20002, 20003))
    found = services(cluster)
    published = {name: s["ports"] for name, s in found.items() if "ports" in s}
    ports = {name: [(p["target"], p["published"], p["protocol"]) for p in ps] for name, ps in published.items()}
    assert ports == {
        "central-manager": [(20001, 20001, "tcp")],
        "access-point": [(20002, 20002, "tcp"), (20003, 20003, "tcp")],
    }
    configs = rendered(cluster).configs
    assert settings(configs["common.conf"])["COLLECTOR_HOST"] == "$(CONDOR_HOST):20001"
    assert settings(configs["access-point.conf"])["SHARED_PORT_PORT"] == "20002"
    assert found["executors"]["environment"]["SWARMHPC_COLLECTOR"] == "central-manager:20001"


def test_daemons_are_pinned_to_the_overlays_subnet() -> None:
    cluster = Cluster(subnet="10.99.0.0/16")
    assert stack(cluster)["networks"]["pool"]["ipam"]["config"] == [{"subnet": "10.99.0.0/16"}]
    common = settings(rendered(cluster).configs["common.conf"])
    assert (common["NETWORK_INTERFACE"], common["PRIVATE_NETWORK_INTERFACE"]) == ("10.99.*", "10.99.*")


@hypothesis.settings(deadline=None)  # the first rendering loads jinja2 and yaml
@given(st.sampled_from(["cm", "ap", "janitor", "executors", "a", "central-manager-1"]))
def test_a_host_name_is_unique_per_task_and_never_a_service_name(name: str) -> None:
    found = services(classes=(ClassPlan(name, 1, 1, 512), ClassPlan("other", 1, 1, 512)))
    for service in found.values():
        for slot, task in (("1", "abcdefghijkl"), ("2", "zyxwvutsrqpo")):
            host = service["hostname"].replace("{{.Task.Slot}}", slot).replace("{{.Task.ID}}", task)
            host = host.replace('{{printf "%.6s" .Task.ID}}', task[:6])
            assert host not in found
            assert re.fullmatch(r"[a-z0-9-]{1,63}", host)


# -- executors and jobs --------------------------------------------------------------------------------------


def test_executors_may_finish_their_jobs_as_long_as_the_file_says() -> None:
    found = services(Cluster(drain_timeout_s=5400))
    assert {found[name]["stop_grace_period"] for name in EXECUTORS} == {"5400s"}
    assert found["access-point"]["stop_grace_period"] == "30s"


def test_each_class_gets_its_own_size() -> None:
    found = services()
    sizes = {
        n: (found[n]["environment"]["SWARMHPC_CPUS"], found[n]["environment"]["SWARMHPC_MEMORY_MIB"]) for n in EXECUTORS
    }
    assert sizes == {"executors": ("2", "1024"), "big": ("4", "4096")}
    assert {n: found[n]["deploy"]["replicas"] for n in EXECUTORS} == {"executors": 2, "big": 1}
    for c in CLASSES:
        limit = found[c.name]["deploy"]["resources"]["limits"]["memory"]
        assert int(limit.removesuffix("M")) > c.memory_mib, "room for HTCondor's daemons beside the jobs"


def test_a_scratch_directory_has_the_same_path_in_the_executor_and_on_the_machine() -> None:
    cluster = Cluster(execute_dir="/scratch/condor", executors=(ExecutorClass("big", scratch="/fast"),))
    found = services(cluster, classes=(CLASSES[0], replace(CLASSES[1], scratch="/fast")))
    roots = {name: found[name]["environment"]["SWARMHPC_EXECUTE_ROOT"] for name in EXECUTORS}
    assert roots == {"executors": "/scratch/condor", "big": "/fast"}
    for name, root in roots.items():
        assert f"{root}:{root}" in found[name]["volumes"]
    assert "/fast:/fast" not in found["executors"]["volumes"]
    janitor = found["janitor"]
    assert janitor["environment"]["SWARMHPC_EXECUTE_ROOTS"] == "/scratch/condor /fast"
    assert {"/scratch/condor:/scratch/condor", "/fast:/fast"} < set(janitor["volumes"])


def test_executors_of_one_machine_draw_their_job_accounts_from_one_place_wherever_their_scratch_is() -> None:
    """Or two of them could take the same accounts, whose jobs could read each other's files."""
    found = services(classes=(CLASSES[0], replace(CLASSES[1], scratch="/fast")))
    assert {found[n]["environment"]["SWARMHPC_UIDS"] for n in EXECUTORS} == {f"{Cluster().execute_dir}/.uids"}
    for name in EXECUTORS:
        assert f"{Cluster().execute_dir}:{Cluster().execute_dir}" in found[name]["volumes"]


@pytest.mark.parametrize(
    ("changes", "text", "generic"),
    [
        ({}, "", None),
        ({"gpus": 2}, "gpus=2", [("gpu", 2)]),
        ({"gpus": 1, "resources": (("fpga", 1), ("licence", 3))}, "gpus=1 fpga=1 licence=3", None),
    ],
)
def test_counted_resources_reach_the_executor_by_htcondors_names_and_swarm_by_the_engines(
    changes: dict[str, Any], text: str, generic: list[tuple[str, int]] | None
) -> None:
    big = services(classes=(CLASSES[0], replace(CLASSES[1], **changes)))["big"]
    assert big["environment"]["SWARMHPC_RESOURCES"] == text
    specs = big["deploy"]["resources"]["reservations"].get("generic_resources", [])
    found = [(s["discrete_resource_spec"]["kind"], s["discrete_resource_spec"]["value"]) for s in specs]
    assert found == (
        generic or [("gpu" if n == "gpus" else n, int(c)) for n, c in (w.split("=") for w in text.split())]
    )


@pytest.mark.parametrize(
    ("changes", "reservations"),
    [
        ({}, {"memory": "4096M", "cpus": "4.0"}),
        ({"cpus": 1, "reserved_cpus": 0.33}, {"memory": "4096M", "cpus": "0.33"}),
        ({"cpus": 1, "reserved_cpus": 0.0}, {"memory": "4096M"}),
        ({"reserve": False, "gpus": 1, "reserved_cpus": 0.0}, None),
    ],
)
def test_swarm_sets_aside_what_the_plan_reserves(changes: dict[str, Any], reservations: dict[str, str] | None) -> None:
    deploy = services(classes=(CLASSES[0], replace(CLASSES[1], **changes)))["big"]["deploy"]
    assert deploy["resources"].get("reservations") == reservations
    assert deploy["resources"]["limits"] == {"memory": "4608M"}


def test_a_class_may_be_spread_and_bounded_on_each_node() -> None:
    changed = replace(CLASSES[1], placement=(("disk", "ssd"),), spread="rack", max_per_node=3)
    assert services(classes=(CLASSES[0], changed))["big"]["deploy"]["placement"] == {
        "constraints": ["node.labels.disk == ssd"],
        "preferences": [{"spread": "node.labels.rack"}],
        "max_replicas_per_node": 3,
    }


# -- the plan of a class on its service ------------------------------------------------------------------------


def test_the_service_of_a_class_carries_its_plan() -> None:
    full = ClassPlan(
        *("big", 1, 4, 4096, (("disk", "ssd"),), 1, (("licence", 2),), "rack", 3, 1, 4, 2, 60, 5, "/fast", True, 3.5)
    )
    found = services(classes=(CLASSES[0], full))
    label = found["big"]["deploy"]["labels"][state.LABEL_PLAN]
    assert read_plan(label) == full
    assert label == json.dumps(asdict(full), sort_keys=True, separators=(",", ":"))
    assert "$" not in label, "docker stack deploy would put a variable in"
    assert read_plan(found["executors"]["deploy"]["labels"][state.LABEL_PLAN]) == CLASSES[0]
    assert state.LABEL_PLAN not in found["autoscaler"]["deploy"]["labels"]


def test_a_plan_of_another_version_is_read_as_far_as_it_is_known() -> None:
    known = json.loads(plan_label(CLASSES[0]))
    del known["starting_max"]
    assert read_plan(json.dumps({**known, "later": 1})) == CLASSES[0]


@pytest.mark.parametrize("label", ["", "[]", "3", "{}", '{"name": "a"}', '{"placement": 1}', '{"resources": [["a"]]}'])
def test_a_label_that_is_no_plan_says_so_with_the_command_that_writes_it(label: str) -> None:
    with pytest.raises(EngineError, match=r"swarmhpc\.plan") as caught:
        read_plan(label)
    assert caught.value.hint == "swarmhpc up"


# -- the autoscaler ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [0, 1])
def test_the_autoscaler_runs_on_a_manager_when_it_is_on(replicas: int) -> None:
    found = services(Cluster(ports=Ports(20001, 20002)), autoscalers=replicas)["autoscaler"]
    assert found["deploy"]["replicas"] == replicas
    assert found["deploy"]["placement"] == {"constraints": ["node.role == manager"]}
    assert found["deploy"]["labels"][state.LABEL_ROLE] == state.AUTOSCALER
    ports = [found["environment"][f"SWARMHPC_{n}_PORT"] for n in ("CENTRAL_MANAGER", "ACCESS_POINT")]
    assert ports == ["20001", "20002"]


def test_only_executors_the_janitor_and_the_autoscaler_see_the_engines_socket() -> None:
    socket = "/var/run/docker.sock:/var/run/docker.sock"
    with_socket = {n for n, s in services().items() if socket in s.get("volumes", ())}
    assert with_socket == {"janitor", "autoscaler", *EXECUTORS}


def test_volumes_of_the_file_reach_htcondor_and_the_shim_in_the_same_words() -> None:
    jobs = JobPolicy(volumes=(Volume("/data", "/data"), Volume("/srv/in", "/in", read_only=False)))
    result = rendered(Cluster(jobs=jobs))
    executor = settings(result.configs["executor.conf"])
    assert (executor["DOCKER_VOLUMES"], executor["DOCKER_MOUNT_VOLUMES"]) == ("VOLUME0, VOLUME1", "$(DOCKER_VOLUMES)")
    specs = [executor["DOCKER_VOLUME_DIR_VOLUME0"], executor["DOCKER_VOLUME_DIR_VOLUME1"]]
    assert specs == ["/data:/data:ro", "/srv/in:/in"]
    for name in EXECUTORS:
        assert result.services[name]["environment"]["SWARMHPC_VOLUMES"].split("|") == specs


def test_without_volumes_none_are_configured() -> None:
    result = rendered()
    assert "DOCKER_VOLUMES" not in result.configs["executor.conf"]
    assert result.services["executors"]["environment"]["SWARMHPC_VOLUMES"] == ""


@pytest.mark.parametrize("allowed", [True, False])
def test_host_networking_is_refused_at_submission_and_on_the_executor_unless_the_file_allows_it(allowed: bool) -> None:
    result = rendered(Cluster(jobs=JobPolicy(allow_host_network=allowed)))
    assert ("SUBMIT_REQUIREMENT_NoHostNetwork" in settings(result.configs["access-point.conf"])) == (not allowed)
    said = {result.services[n]["environment"]["SWARMHPC_ALLOW_HOST_NETWORK"] for n in EXECUTORS}
    assert said == {"true" if allowed else "false"}


# -- secrets -------------------------------------------------------------------------------------------------


def test_secrets_are_the_swarms_and_go_only_where_they_are_needed() -> None:
    loaded = stack()
    assert loaded["secrets"] == {
        "signing-key": {"external": True, "name": "swarmhpc_signing-key"},
        "executor-token": {"external": True, "name": "swarmhpc_executor-token"},
    }
    mounted = {n: [x["source"] for x in s.get("secrets", ())] for n, s in loaded["services"].items()}
    assert mounted == {
        "central-manager": ["signing-key"],
        "access-point": ["signing-key"],
        "janitor": ["executor-token"],  # its agent's way to the gateway
        "autoscaler": ["signing-key"],
        "executors": ["executor-token"],
        "big": ["executor-token"],
    }
    modes = {x["mode"] for s in loaded["services"].values() for x in s.get("secrets", ())}
    assert modes == {0o400}


def test_no_secret_is_written_out_in_the_stack_or_in_a_configuration() -> None:
    result = rendered()
    everything = "\n".join([result.stack, *result.configs.values()])
    assert not re.search(r"eyJ[\w-]{10,}\.", everything), "a token"
    assert not re.search(r"(?i)(password|secret|token)\w*\s*[:=]\s*['\"]?[A-Za-z0-9+/_-]{32,}", everything)
    for service in result.services.values():
        assert not [k for k in service["environment"] if re.search("TOKEN|KEY|PASSWORD|SECRET", k)]


def test_tokens_are_the_only_way_in_over_the_network_and_everything_is_encrypted() -> None:
    common = settings(rendered().configs["common.conf"])
    assert common["SEC_DEFAULT_AUTHENTICATION_METHODS"] == "FS, IDTOKENS"
    required = {k for k, v in common.items() if v == "REQUIRED"}
    assert required >= {"SEC_DEFAULT_ENCRYPTION", "SEC_DEFAULT_INTEGRITY", "SEC_READ_AUTHENTICATION"}
    for text in rendered().configs.values():
        assert not re.search(r"(?m)^\s*(ALLOW_|HOSTALLOW|SEC_\w+ *= *(OPTIONAL|NEVER))", text)


def test_a_revocation_reaches_the_two_daemons_that_check_tokens_and_nobody_else() -> None:
    expression = '(sub =?= "bob@swarmhpc" && iat <= 5)'
    before, after = rendered(), rendered(revoked=expression)
    told = {n for n, t in after.configs.items() if settings(t).get("SEC_TOKEN_REVOCATION_EXPR") == expression}
    assert told == {"central-manager.conf", "access-point.conf"}
    changed = {n for n in before.services if labels(before)[n] != labels(after)[n]}
    assert changed == {"central-manager", "access-point"}


# -- what counts as a change ---------------------------------------------------------------------------------


def test_the_central_manager_tells_the_classes_also_those_without_an_executor() -> None:
    classes = (replace(CLASSES[0], replicas=0), replace(CLASSES[1], gpus=2))
    told = settings(rendered(classes=classes).configs["central-manager.conf"])["SwarmHpcClasses"].strip('"')
    assert [c.split() for c in told.split(";")] == [
        [c.name, str(c.cpus), str(c.memory_mib), str(c.gpus)] for c in classes
    ]


def test_rendering_twice_gives_the_same_text() -> None:
    assert rendered() == rendered()


def test_replicas_are_no_change_of_a_section() -> None:
    more = tuple(replace(c, replicas=c.replicas + 3) for c in CLASSES)
    assert labels(rendered(classes=more)) == labels(rendered())


@pytest.mark.parametrize(
    ("cluster", "facts", "changed"),
    [
        (Cluster(drain_timeout_s=60), {}, set(EXECUTORS)),
        (Cluster(jobs=JobPolicy(pids_limit=99)), {}, set(EXECUTORS)),
        # Only the text of the executors' HTCondor configuration and what the shim allows.
        (Cluster(jobs=JobPolicy(volumes=(Volume("/d", "/d"),))), {}, set(EXECUTORS)),
        (Cluster(ports=Ports(9618, 9700)), {}, {"access-point", "autoscaler", "janitor"}),
        (Cluster(ports=Ports(gateway=9700)), {}, {"access-point"}),
        (Cluster(), {"address": "192.0.2.9"}, {"central-manager", "access-point"}),
        (Cluster(), {"image": "swarmhpc/pool:new"}, {*DAEMONS, *EXECUTORS}),
        (Cluster(), {"classes": (CLASSES[0], replace(CLASSES[1], memory_mib=8192))}, {"big", "central-manager"}),
        (Cluster(subnet="10.99.0.0/16"), {}, {*DAEMONS, *EXECUTORS}),
        (Cluster(encrypted=True), {}, {*DAEMONS, *EXECUTORS}),
        (Cluster(queue=Queue(path="/nfs/q")), {}, {"access-point"}),
        (Cluster(queue=Queue(history_mib=9)), {}, {"access-point"}),
        (Cluster(fairness=UNFAIR), {}, {"central-manager", "access-point"}),
        (Cluster(fairness=Fairness(limits=(("x", 1),))), {}, {"central-manager"}),
        (Cluster(queue=Queue(machine="n2")), {}, set()),  # a label of the node
        (Cluster(), {"autoscalers": 1}, set()),  # a number of replicas
        (Cluster(), {"classes": (CLASSES[0], replace(CLASSES[1], idle_s=9))}, {"big"}),  # only its label
        (Cluster(), {"classes": (CLASSES[0], replace(CLASSES[1], gpus=1))}, {"big", "central-manager"}),
        (Cluster(executors=(ExecutorClass("big", scratch="/fast"),)), {}, {"janitor"}),
        (Cluster(), {"classes": (CLASSES[0], replace(CLASSES[1], placement=(("disk", "ssd"),)))}, {"big"}),
    ],
)
def test_a_change_marks_the_services_it_touches_and_no_other(
    cluster: Cluster, facts: dict[str, Any], changed: set[str]
) -> None:
    before, after = labels(rendered()), labels(rendered(cluster, **facts))
    assert {name for name in before if before[name] != after[name]} == changed


@pytest.mark.parametrize("name", ["on", "no", "yes", "true", "null"])
def test_a_name_that_yaml_takes_for_something_else_stays_a_name(name: str) -> None:
    """The cluster file accepts them in quotes."""
    loaded = stack(Cluster(name=name), classes=(ClassPlan(name, 1, 1, 512),))
    assert loaded["networks"]["pool"]["labels"][state.LABEL_CLUSTER] == name
    assert name in loaded["services"]


def test_a_config_has_the_hash_of_its_content_in_its_name() -> None:
    """Swarm configs can't be changed, only replaced."""
    before, after = stack()["configs"], stack(address="192.0.2.9")["configs"]
    changed = {key for key in before if before[key]["name"] != after[key]["name"]}
    assert changed == {"central-manager", "access-point"}


def test_everything_the_stack_makes_carries_the_pools_label() -> None:
    loaded = stack(Cluster(name="lab"))
    made = [loaded["networks"]["pool"], loaded["volumes"]["queue"], *loaded["configs"].values()]
    made += [s["deploy"] for s in loaded["services"].values()]
    assert {thing["labels"][state.LABEL_CLUSTER] for thing in made} == {"lab"}


def test_a_large_pool_negotiates_less_often() -> None:
    def interval_s(*classes: ExecutorClass, scaled_to: int = 1) -> str:
        configs = rendered(Cluster(executors=classes), classes=(ClassPlan("a", scaled_to, 1, 512),)).configs
        return settings(configs["central-manager.conf"])["NEGOTIATOR_INTERVAL"]

    assert (interval_s(ExecutorClass("a", 20)), interval_s(ExecutorClass("a", 21))) == ("1", "5")
    assert interval_s(ExecutorClass("a", 2), ExecutorClass("b", 2, maximum=19)) == "5"
    # Scaling must not change the central manager's settings, or the next `up` would restart it.
    assert interval_s(ExecutorClass("a", 2), scaled_to=100) == "1"


@pytest.mark.parametrize(("queue", "lease_s"), [(Queue(), 120), (Queue(path="/shared/queue"), 300)])
def test_jobs_outlive_the_time_an_access_point_takes_to_move_and_connections_a_cut(queue: Queue, lease_s: int) -> None:
    configs = rendered(Cluster(queue=queue)).configs
    (access_point,) = (text for name, text in configs.items() if "access-point" in name)
    (executor,) = (text for name, text in configs.items() if "executor" in name)
    assert f"SET JobLeaseDuration {lease_s}\n" in access_point
    assert "SHADOW.TCP_KEEPALIVE_INTERVAL = 95\n" in access_point
    assert "SHARED_PORT.TCP_KEEPALIVE_INTERVAL = 95\n" in executor
