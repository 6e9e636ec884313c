"""What `up` refuses and what it would do, as tables over facts."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from swarmhpc.cluster import plan
from swarmhpc.cluster.plan import Observed, RunningService, Step, WantedService
from swarmhpc.config import Cluster, ExecutorClass, Image, Ports
from swarmhpc.errors import CommandError, EngineError, SwarmHpcError, SwarmOwnershipError, UsageError

CLUSTER = Cluster()
IMAGE = "swarmhpc/pool:abc"
WANTED = {
    "central-manager": WantedService("cm1", 1),
    "access-point": WantedService("ap1", 1),
    "janitor": WantedService("ja1", None),
    "executors": WantedService("ex1", 2),
}


def observed(**facts: Any) -> Observed:
    """A fresh machine, but for `facts`."""
    fresh: dict[str, Any] = {
        "swarm_state": "inactive",
        "is_manager": False,
        "swarm_cluster": None,
        "queue_node_labelled": False,
        "ipvs": True,
        "address": "192.0.2.1",
        "image_present": False,
        "stored": None,
        "has_signing_key": False,
        "has_executor_token": False,
        "services": {},
        "context_ready": False,
        "ports_taken": (),
        "subnets": {"bridge": ("172.17.0.0/16",), "ingress": ("10.0.0.0/24",), "host": ()},
    }
    return Observed(**{**fresh, **facts})


FRESH = observed()
RUNNING = observed(
    swarm_state="active",
    is_manager=True,
    swarm_cluster="swarmhpc",
    queue_node_labelled=True,
    image_present=True,
    stored=CLUSTER,
    has_signing_key=True,
    has_executor_token=True,
    services={name: RunningService(w.spec, w.replicas) for name, w in WANTED.items()},
    context_ready=True,
)


def steps(seen: Observed, wanted: dict[str, WantedService] | None = None, cluster: Cluster = CLUSTER) -> list[Step]:
    return list(plan.decide(cluster, seen, wanted or WANTED, image=IMAGE))


# -- decide -------------------------------------------------------------------------------------------------------


def test_a_fresh_machine_gets_everything_in_the_order_of_the_phases() -> None:
    made = steps(FRESH)
    assert [(s.phase, s.what.split(":")[0]) for s in made] == [
        ("swarm", "make a Swarm of this machine, advertised at 192.0.2.1"),
        ("swarm", "mark this node as the home of the queue (label swarmhpc.queue)"),
        ("image", "build image swarmhpc/pool"),
        ("secrets", "make the pool's signing key and the executors' token (Swarm secrets)"),
        ("stack", "create service central-manager with 1 replicas"),
        ("stack", "create service access-point with 1 replicas"),
        ("stack", "create service janitor on every node"),
        ("stack", "create service executors with 2 replicas"),
        ("stack", "store the cluster file in the Swarm"),
        ("access", "give you a token and write this machine's context"),
    ]
    assert {s.phase for s in made} <= set(plan.PHASES)


def test_a_pool_as_the_file_says_needs_nothing() -> None:
    assert steps(RUNNING) == []


def test_a_named_image_is_got_not_built() -> None:
    cluster = Cluster(image=Image(name="r.example/pool:1"))
    made = plan.decide(cluster, replace(RUNNING, image_present=False, stored=cluster), WANTED, image="r.example/pool:1")
    assert made == (Step("image", "get image r.example/pool:1"),)


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
        ({"queue_node_labelled": False}, {}, ["mark this node as the home of the queue (label swarmhpc.queue)"]),
        ({"image_present": False}, {}, [f"build image {IMAGE}"]),
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


# -- check --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [FRESH, RUNNING])
def test_preflight_passes_a_fresh_machine_and_a_running_pool(seen: Observed) -> None:
    plan.check(CLUSTER, seen)


@pytest.mark.parametrize(
    ("changes", "error", "says", "hint"),
    [
        ({"swarm_cluster": None}, SwarmOwnershipError, "that swarmhpc did not make", "docker swarm leave --force"),
        ({"swarm_cluster": None, "is_manager": False}, SwarmOwnershipError, "a worker of a Swarm", "manager node"),
        ({"swarm_cluster": "lab"}, SwarmOwnershipError, "pool 'lab', not 'swarmhpc'", "swarmhpc down --pool lab"),
        ({"swarm_state": "locked"}, EngineError, "state 'locked'", "docker swarm unlock"),
        ({"swarm_state": "pending"}, EngineError, "state 'pending'", "docker info"),
        ({"services": {}, "ports_taken": (9619,)}, EngineError, "port 9619", "swarmhpc.yaml"),
        (
            {"services": {}, "subnets": {"lab": ("10.73.8.0/24",)}},
            EngineError,
            "overlaps 10.73.8.0/24 of network lab",
            "swarmhpc.yaml",
        ),
        # An overlap is seen from either side.
        ({"services": {}, "subnets": {"lab": ("10.0.0.0/8",)}}, EngineError, "overlaps 10.0.0.0/8", "swarmhpc.yaml"),
        ({"stored": replace(CLUSTER, subnet="10.99.0.0/16")}, UsageError, "10.99.0.0/16", "swarmhpc down"),
        ({"stored": replace(CLUSTER, execute_dir="/x")}, UsageError, "execute_dir: the running pool has /x", "down"),
    ],
)
def test_preflight_refuses_with_what_was_seen_and_what_to_do(
    changes: dict[str, Any], error: type[SwarmHpcError], says: str, hint: str
) -> None:
    with pytest.raises(error) as caught:
        plan.check(CLUSTER, replace(RUNNING, **changes))
    assert type(caught.value) is error
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_preflight_names_all_conflicts_at_once_with_the_key_that_chooses_the_port() -> None:
    cluster = Cluster(ports=Ports(central_manager=20001, access_point=20002))
    seen = observed(ports_taken=(20001, 20002), subnets={"lab": ("10.73.0.0/24",)})
    with pytest.raises(EngineError) as caught:
        plan.check(cluster, seen)
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
        {"services": {}, "stored": replace(CLUSTER, subnet="10.99.0.0/16")},  # nothing runs yet
        {"subnets": {"six": ("fd00::/8",)}, "services": {}},
        {"subnets": {"near": ("10.72.0.0/16", "10.74.0.0/16")}, "services": {}},
    ],
)
def test_preflight_lets_pass_what_is_no_conflict(changes: dict[str, Any]) -> None:
    plan.check(CLUSTER, replace(RUNNING, **changes))


def test_a_foreign_swarm_is_refused_before_its_ports_are_complained_about() -> None:
    with pytest.raises(SwarmOwnershipError):
        plan.check(CLUSTER, replace(RUNNING, swarm_cluster=None, services={}, ports_taken=(9618,)))


# -- networking, failed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "ipvs", "mode"),
    [("auto", True, "vip"), ("auto", False, "dnsrr"), ("vip", True, "vip"), ("dnsrr", True, "dnsrr")],
)
def test_networking_follows_the_file_and_then_the_kernel(wanted: Any, ipvs: bool, mode: str) -> None:
    assert plan.networking(Cluster(networking=wanted), ipvs=ipvs) == mode


def test_vip_without_ipvs_is_a_usage_error_with_the_command_that_loads_it() -> None:
    with pytest.raises(UsageError, match="no IPVS") as caught:
        plan.networking(Cluster(networking="vip"), ipvs=False)
    assert "modprobe ip_vs" in caught.value.hint


def test_a_failed_phase_keeps_the_kind_of_error_and_its_own_hint() -> None:
    error = plan.failed("image", CommandError("mmdebstrap ended with code 25", hint="free some disk", returncode=25))
    assert isinstance(error, CommandError)
    assert str(error) == error.message == "up failed in phase image: mmdebstrap ended with code 25"
    assert (error.hint, error.returncode) == ("free some disk", 25)


def test_a_failed_phase_without_a_hint_says_that_up_goes_on_from_there() -> None:
    assert "swarmhpc up again" in plan.failed("stack", EngineError("no")).hint


def test_facts_and_steps_can_not_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FRESH.ipvs = False  # type: ignore[misc]
