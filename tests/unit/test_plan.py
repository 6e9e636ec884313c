"""What `up` refuses and what it would do, as tables over facts."""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmhpc.cluster import plan
from swarmhpc.cluster.plan import Observed, RunningService, Step, WantedService
from swarmhpc.config import Cluster, ExecutorClass, Machine, Ports, Queue
from swarmhpc.errors import CommandError, EngineError, SwarmHpcError, SwarmOwnershipError, UsageError

CLUSTER = Cluster()
WANTED = {
    "central-manager": WantedService("cm1", 1),
    "access-point": WantedService("ap1", 1),
    "janitor": WantedService("ja1", None),
    "autoscaler": WantedService("as1", 0),
    "executors": WantedService("ex1", 2),
}
FRESH = Observed(stored=None, has_signing_key=False, has_executor_token=False, services={}, context_ready=False)
RUNNING = Observed(
    stored=CLUSTER,
    has_signing_key=True,
    has_executor_token=True,
    services={name: RunningService(w.spec, w.replicas) for name, w in WANTED.items()},
    context_ready=True,
)
# What `check_machine` is told of a machine without a Swarm, and of one that runs the pool.
BARE: dict[str, Any] = {
    "swarm_state": "inactive",
    "is_manager": False,
    "swarm_cluster": None,
    "has_services": False,
    "ports_taken": (),
    "subnets": {"bridge": ("172.17.0.0/16",), "ingress": ("10.0.0.0/24",), "host": ()},
}
OURS = {**BARE, "swarm_state": "active", "is_manager": True, "swarm_cluster": "swarmhpc", "has_services": True}


def steps(seen: Observed, wanted: dict[str, WantedService] | None = None, cluster: Cluster = CLUSTER) -> list[Step]:
    return list(plan.decide(cluster, seen, wanted or WANTED))


# -- decide -------------------------------------------------------------------------------------------------------


def test_a_new_pool_gets_everything_in_the_order_of_the_phases() -> None:
    made = steps(FRESH)
    assert [(s.phase, s.what.split(":")[0]) for s in made] == [
        ("secrets", "make the pool's signing key and the executors' token (Swarm secrets)"),
        ("stack", "create service central-manager with 1 replicas"),
        ("stack", "create service access-point with 1 replicas"),
        ("stack", "create service janitor on every node"),
        ("stack", "create service autoscaler with 0 replicas"),
        ("stack", "create service executors with 2 replicas"),
        ("stack", "store the cluster file in the Swarm"),
        ("access", "give you a token and write this machine's context"),
    ]
    phases = [s.phase for s in made]
    assert phases == sorted(phases, key=plan.PHASES.index)


def test_a_pool_as_the_file_says_needs_nothing() -> None:
    assert steps(RUNNING) == []


@pytest.mark.parametrize(
    ("changes", "wanted", "made"),
    [
        ({}, {"executors": WantedService("ex2", 2)}, ["update service executors: its section of the stack changed"]),
        ({}, {"executors": WantedService("ex1", 5)}, ["scale service executors from 2 to 5 replicas"]),
        ({}, {"executors": WantedService("ex1", 0)}, ["scale service executors from 2 to 0 replicas"]),
        (
            {},
            {"executors": WantedService("ex2", 5)},
            [
                "update service executors: its section of the stack changed",
                "scale service executors from 2 to 5 replicas",
            ],
        ),
        ({}, {"big": WantedService("b1", 3)}, ["create service big with 3 replicas"]),
        (
            {"services": {**RUNNING.services, "old": RunningService("o1", 1)}},
            {},
            ["remove service old: running jobs finish first"],
        ),
        ({"stored": None}, {}, ["store the cluster file in the Swarm"]),
        ({"stored": replace(CLUSTER, drain_timeout_s=60)}, {}, ["store the cluster file in the Swarm"]),
        ({"context_ready": False}, {}, ["give you a token and write this machine's context"]),
        (
            {"has_executor_token": False},
            {},
            ["make the pool's signing key and the executors' token (Swarm secrets)"],
        ),
        ({"has_signing_key": False}, {}, ["make the pool's signing key and the executors' token (Swarm secrets)"]),
    ],
)
def test_one_change_makes_only_its_own_steps(
    changes: dict[str, Any], wanted: dict[str, WantedService], made: list[str]
) -> None:
    assert [s.what for s in steps(replace(RUNNING, **changes), {**WANTED, **wanted})] == made


def test_a_class_that_the_file_no_longer_has_is_removed_and_the_file_is_stored() -> None:
    cluster = replace(CLUSTER, executors=(ExecutorClass("big"),))
    wanted = {**{n: w for n, w in WANTED.items() if n != "executors"}, "big": WantedService("b1", 2)}
    assert [s.what for s in steps(RUNNING, wanted, cluster)] == [
        "create service big with 2 replicas",
        "remove service executors: running jobs finish first",
        "store the cluster file in the Swarm",
    ]


# -- replicas -----------------------------------------------------------------------------------------------------

C = ExecutorClass("c", 4)


def of(*classes: ExecutorClass, autoscale: bool = False) -> Cluster:
    return Cluster(executors=classes, autoscale=autoscale)


def asked(cluster: Cluster, stored: Cluster | None, **running: int) -> tuple[int, int]:
    """Executors of class c, and autoscalers."""
    services = {name: RunningService("", replicas) for name, replicas in running.items()}
    found = plan.effective_replicas(cluster, stored, services)
    return found["c"], found["autoscaler"]


@pytest.mark.parametrize(
    ("now", "stored", "running", "wanted"),
    [
        (C, None, None, 4),  # a new pool
        (C, C, 7, 7),  # scaled: an unchanged file changes nothing
        (C, C, 0, 0),
        (replace(C, replicas=5), C, 7, 5),  # the file's number was changed, so it counts
        (replace(C, cpus=2), C, 7, 7),  # another key was
        (C, ExecutorClass("other"), None, 4),  # a new class
        (C, ExecutorClass("other"), 7, 4),  # stored never: an `up` that was interrupted
        (C, None, 7, 4),
        # Always within the file's bounds.
        (replace(C, maximum=6), C, 7, 6),
        (replace(C, minimum=3), C, 1, 3),
        (replace(C, minimum=3, maximum=6), C, 5, 5),
    ],
)
def test_a_class_that_was_scaled_stays_so_unless_the_file_says_another_number(
    now: ExecutorClass, stored: ExecutorClass | None, running: int | None, wanted: int
) -> None:
    before = None if stored is None else of(stored)
    assert asked(of(now), before, **({} if running is None else {"c": running})) == (wanted, 0)


@pytest.mark.parametrize(
    ("file", "stored", "running", "wanted"),
    [
        (False, False, 1, 1),  # `swarmhpc autoscale on`
        (True, True, 0, 0),  # and off
        (True, False, 0, 1),  # the file was changed
        (False, True, 1, 0),
        (True, False, None, 1),  # a pool from before there was an autoscaler
        (True, None, 0, 1),
    ],
)
def test_the_autoscaler_stays_as_it_was_switched_unless_the_file_says_something_else(
    file: bool, stored: bool | None, running: int | None, wanted: int
) -> None:
    before = None if stored is None else of(C, autoscale=stored)
    assert asked(of(C, autoscale=file), before, **({} if running is None else {"autoscaler": running}))[1] == wanted


@pytest.mark.parametrize(
    ("now", "autoscaler", "wanted"),
    [
        (ExecutorClass("c", 5, maximum=9), 1, 7),  # although the file's number was changed
        (ExecutorClass("c", 5, maximum=6), 1, 6),
        (ExecutorClass("c", 8, minimum=8, maximum=9), 1, 8),
        (ExecutorClass("c", 5), 1, 5),  # not its class
        (ExecutorClass("c", 5, maximum=9), 0, 5),  # it is off
    ],
)
def test_while_the_autoscaler_is_on_the_number_of_its_classes_is_its_affair(
    now: ExecutorClass, autoscaler: int, wanted: int
) -> None:
    assert asked(of(now), of(C), c=7, autoscaler=autoscaler) == (wanted, autoscaler)


# -- check --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("facts", [BARE, OURS, {**OURS, "has_services": False}])
def test_preflight_passes_a_fresh_machine_and_a_running_pool(facts: dict[str, Any]) -> None:
    plan.check_machine(CLUSTER, **facts)


@pytest.mark.parametrize(
    ("changes", "error", "says", "hint"),
    [
        ({"swarm_cluster": None}, SwarmOwnershipError, "that swarmhpc did not make", "docker swarm leave --force"),
        ({"swarm_cluster": None, "is_manager": False}, SwarmOwnershipError, "a worker of a Swarm", "manager node"),
        ({"swarm_cluster": "lab"}, SwarmOwnershipError, "pool 'lab', not 'swarmhpc'", "swarmhpc down --pool lab"),
        ({"swarm_state": "locked"}, EngineError, "state 'locked'", "docker swarm unlock"),
        ({"swarm_state": "pending"}, EngineError, "state 'pending'", "docker info"),
        ({"has_services": False, "ports_taken": (9619,)}, EngineError, "port 9619", "swarmhpc.yaml"),
        (
            {"has_services": False, "subnets": {"lab": ("10.73.8.0/24",)}},
            EngineError,
            "overlaps 10.73.8.0/24 of network lab",
            "swarmhpc.yaml",
        ),
        ({"has_services": False, "has_queue_path": False}, EngineError, "no directory None", "swarmhpc.yaml"),
        # An overlap is seen from either side.
        (
            {"has_services": False, "subnets": {"lab": ("10.0.0.0/8",)}},
            EngineError,
            "overlaps 10.0.0.0/8",
            "swarmhpc.yaml",
        ),
    ],
)
def test_preflight_refuses_with_what_was_seen_and_what_to_do(
    changes: dict[str, Any], error: type[SwarmHpcError], says: str, hint: str
) -> None:
    with pytest.raises(error) as caught:
        plan.check_machine(CLUSTER, **{**OURS, **changes})
    assert type(caught.value) is error
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_preflight_names_all_conflicts_at_once_with_the_key_that_chooses_the_port() -> None:
    cluster = Cluster(ports=Ports(central_manager=20001, access_point=20002))
    facts = {**BARE, "ports_taken": (20001, 20002), "subnets": {"lab": ("10.73.0.0/24",)}}
    with pytest.raises(EngineError) as caught:
        plan.check_machine(cluster, **facts)
    for words in (
        "port 20001 of this machine is taken by another program (wanted for ports.central_manager)",
        "ss -ltnp 'sport = :20001'",
        "(wanted for ports.access_point)",
        "network lab",
    ):
        assert words in caught.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"ports_taken": (9618, 9619)},  # taken by the pool itself
        {"subnets": {"lab": ("10.73.8.0/24",)}},  # too late to refuse: the pool runs with it
        {"subnets": {"six": ("fd00::/8",)}, "has_services": False},
        {"subnets": {"near": ("10.72.0.0/16", "10.74.0.0/16")}, "has_services": False},
    ],
)
def test_preflight_lets_pass_what_is_no_conflict(changes: dict[str, Any]) -> None:
    plan.check_machine(CLUSTER, **{**OURS, **changes})


def test_a_foreign_swarm_is_refused_before_its_ports_are_complained_about() -> None:
    with pytest.raises(SwarmOwnershipError):
        plan.check_machine(CLUSTER, **{**OURS, "swarm_cluster": None, "has_services": False, "ports_taken": (9618,)})


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        ({"subnet": "10.99.0.0/16"}, "subnet: the running pool has 10.99.0.0/16, the file says 10.73.0.0/16"),
        ({"execute_dir": "/x"}, "execute_dir: the running pool has /x"),
        ({"encrypted": True}, "encrypted: the running pool has True, the file says False"),
        ({"queue": Queue(path="/srv/q")}, "queue.path: the running pool has /srv/q"),
        (
            {"executors": (ExecutorClass("executors", scratch="/fast"),)},
            "executors.executors.scratch: the running pool has /fast, the file says /var/lib/swarmhpc/execute",
        ),
    ],
)
def test_what_can_not_change_while_the_pool_is_up_is_refused_and_only_then(stored: dict[str, Any], says: str) -> None:
    seen = replace(RUNNING, stored=replace(CLUSTER, **stored))
    with pytest.raises(UsageError) as caught:
        plan.check_change(CLUSTER, seen)
    assert says in caught.value.message
    assert "swarmhpc down" in caught.value.hint
    plan.check_change(CLUSTER, replace(seen, services={}))  # nothing runs yet


@pytest.mark.parametrize(
    "seen",
    [
        FRESH,
        RUNNING,
        replace(RUNNING, stored=None),
        # What may change in a running pool.
        replace(RUNNING, stored=replace(CLUSTER, queue=Queue(machine="n2"), drain_timeout_s=5, networking="vip")),
        replace(RUNNING, stored=replace(CLUSTER, executors=(ExecutorClass("gone", scratch="/fast"),))),
        replace(RUNNING, stored=replace(CLUSTER, executors=(ExecutorClass("executors", scratch=CLUSTER.execute_dir),))),
    ],
)
def test_a_file_that_changes_nothing_fixed_passes(seen: Observed) -> None:
    plan.check_change(CLUSTER, seen)


# -- networking, address pool, failed -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "without_ipvs", "running", "mode"),
    [
        ("auto", (), None, "vip"),
        ("auto", ("n1",), None, "dnsrr"),
        ("vip", (), None, "vip"),
        ("dnsrr", (), None, "dnsrr"),
        # A running pool stays as it is: a machine more or less does not restart everything.
        ("auto", ("n4",), "vip", "vip"),
        ("auto", (), "dnsrr", "dnsrr"),
        ("auto", ("n4",), "dnsrr", "dnsrr"),
        ("auto", (), "vip", "vip"),
        # Unless the file asks for it.
        ("vip", (), "dnsrr", "vip"),
        ("dnsrr", (), "vip", "dnsrr"),
    ],
)
def test_networking_follows_the_file_then_the_running_pool_then_the_kernels(
    wanted: Any, without_ipvs: tuple[str, ...], running: str | None, mode: str
) -> None:
    assert plan.networking(Cluster(networking=wanted), without_ipvs=without_ipvs, running=running) == mode


@pytest.mark.parametrize(
    ("machines", "says"),
    [
        ((), "networking: vip, but this kernel has no IPVS"),
        ((Machine("n1", "10.0.0.1"),), "but the kernel of n1, n2 has no IPVS"),
    ],
)
def test_vip_without_ipvs_is_a_usage_error_with_the_command_that_loads_it(
    machines: tuple[Machine, ...], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        plan.networking(Cluster(networking="vip", machines=machines), without_ipvs=("n1", "n2"))
    assert says in caught.value.message
    assert "modprobe ip_vs" in caught.value.hint


@pytest.mark.parametrize(
    ("subnet", "taken", "pool"),
    [
        ("10.73.0.0/16", (), "10.0.0.0/16"),
        ("10.73.0.0/16", ("10.0.2.0/24",), "10.201.0.0/16"),
        ("10.73.0.0/16", ("10.0.0.0/8",), "172.29.0.0/16"),
        ("10.0.0.0/16", (), "10.201.0.0/16"),  # the pool's own network counts, too
        ("10.73.0.0/16", ("10.0.0.0/8", "172.16.0.0/12"), "192.168.224.0/20"),
        ("10.73.0.0/16", ("fd00::/8",), "10.0.0.0/16"),
    ],
)
def test_the_swarms_address_pool_avoids_what_the_machines_use(subnet: str, taken: tuple[str, ...], pool: str) -> None:
    assert plan.address_pool(subnet, taken) == pool


def test_where_every_address_pool_clashes_that_is_said_with_what_was_tried() -> None:
    with pytest.raises(UsageError, match=r"10\.0\.0\.0/16, .*192\.168\.224\.0/20") as caught:
        plan.address_pool("10.73.0.0/16", ("0.0.0.0/1", "128.0.0.0/1"))
    assert "--default-addr-pool" in caught.value.hint


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 30)), max_size=6))
def test_an_address_pool_never_overlaps_a_network_that_is_there(networks: list[tuple[int, int]]) -> None:
    taken = [str(ipaddress.IPv4Network(n, strict=False)) for n in networks]
    try:
        pool = plan.address_pool("10.73.0.0/16", taken)
    except UsageError:
        return
    chosen = ipaddress.IPv4Network(pool)
    assert not any(chosen.overlaps(ipaddress.IPv4Network(t)) for t in ("10.73.0.0/16", *taken))


def test_a_failed_phase_keeps_the_kind_of_error_and_its_own_hint() -> None:
    error = plan.failed("image", CommandError("mmdebstrap ended with code 25", hint="free some disk", returncode=25))
    assert isinstance(error, CommandError)
    assert str(error) == error.message == "up failed in phase image: mmdebstrap ended with code 25"
    assert (error.hint, error.returncode) == ("free some disk", 25)


def test_a_failed_phase_without_a_hint_says_that_up_goes_on_from_there() -> None:
    assert "swarmhpc up again" in plan.failed("stack", EngineError("no")).hint


def test_facts_and_steps_can_not_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FRESH.context_ready = True  # type: ignore[misc]
