"""What every machine of the file needs to become a node: tables over what was seen of machines and Swarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from swarmhpc import state
from swarmhpc.adapters.docker import EngineFacts, Node
from swarmhpc.adapters.remote import MachineFacts
from swarmhpc.cluster import members, plan
from swarmhpc.cluster.members import Decision, Seen
from swarmhpc.config import Cluster, Image, Machine, Queue
from swarmhpc.errors import EngineError, EngineUnreachableError, MachineError, UsageError
from tests.unit.samples import ENGINE

IMAGE = "swarmhpc/pool:abc"
N1 = Machine("n1", "10.0.0.1", "manager")
N2 = Machine("n2", "10.0.0.2")
N3 = Machine("n3", "10.0.0.3")
LAB = Cluster(name="lab", machines=(N1, N2, N3))
DOWN = MachineError("machine n1 (10.0.0.1) can't be reached over ssh: timed out", hint="ssh root@10.0.0.1")

FACTS = MachineFacts(
    hostname="host",
    os="Debian",
    kernel="6.12",
    ipvs=True,
    engine_installed=True,
    engine_version="26.1.5",
    prepared='{"version": "r1"}',
    addresses={"127.0.0.1": "lo"},
    routes={"eth0 10.0.0.0": "10.0.0.0/24"},
    listens=frozenset({22}),
    cgroup_version="2",
    cpus=4,
    memory_mib=8192,
    clock_skew_s=0.0,
)


def ready(machine: Machine, **changes: Any) -> Seen:
    """A prepared machine that has the image and is in no Swarm."""
    return replace(Seen(machine, machine.address, FACTS, ENGINE, has_image=True), **changes)


def bare(machine: Machine, **facts: Any) -> Seen:
    """A machine without an engine."""
    nothing = {"engine_installed": False, "engine_version": "", "prepared": ""}
    return Seen(machine, machine.address, replace(FACTS, **{**nothing, **facts}), is_prepared=False)


def member(machine: Machine, **changes: Any) -> Seen:
    """A machine that is a node already (its id: `id-` and its name)."""
    manages = machine.role == "manager"
    engine = replace(ENGINE, swarm_state="active", node_id=f"id-{machine.name}", is_manager=manages)
    return ready(machine, **{"engine": engine, "swarm_pool": "lab" if manages else None, **changes})


def node(
    name: str, role: str = "worker", *, queue: bool = False, node_id: str = "", labels: Mapping[str, str] | None = None
) -> Node:
    """A node as `up` leaves it. `name` empty: swarmhpc has not labelled it."""
    own = {state.LABEL_MACHINE: name} if name else {}
    home = {state.LABEL_QUEUE_NODE: "lab"} if queue else {}
    return Node(
        node_id or f"id-{name}", "host", role, "ready", "active", "", 4, 8192, {**own, **home, **(labels or {})}
    )


# A pool as the file says: nothing is to be done.
SEEN = {m.name: member(m) for m in LAB.machines}
NODES = (node("n1", "manager", queue=True), node("n2"), node("n3"))


def judge(
    seen: dict[str, Seen] | None = None, nodes: Sequence[Node] = NODES, cluster: Cluster = LAB, **more: Any
) -> Decision:
    return members.judge(cluster, {**SEEN, **(seen or {})}, nodes, image=IMAGE, **more)


def words(d: Decision) -> list[str]:
    return [s.what for s in d.steps]


# -- from nothing ----------------------------------------------------------------------------------------------------


def test_bare_machines_are_prepared_get_the_image_and_join_in_this_order() -> None:
    d = judge({"n1": bare(N1), "n2": bare(N2), "n3": ready(N3)}, nodes=())
    assert [(s.phase, s.what) for s in d.steps] == [
        ("machines", "prepare machine n1: it has no Docker engine"),
        ("machines", "prepare machine n2: it has no Docker engine"),
        ("image", f"bring image {IMAGE} for machine n1"),
        ("image", f"bring image {IMAGE} for machine n2"),
        ("swarm", "make a Swarm of n1, advertised at 10.0.0.1"),
        ("swarm", "join n2 (10.0.0.2) as worker"),
        ("swarm", "join n3 (10.0.0.3) as worker"),
    ]
    phases = [s.phase for s in d.steps]
    assert phases == sorted(phases, key=plan.PHASES.index)
    assert (d.prepare, d.images, d.first, d.join) == (("n1", "n2"), ("n1", "n2"), "n1", ("n2", "n3"))
    assert (d.troubled, d.unlisted) == ({}, ())


def test_a_pool_as_the_file_says_needs_nothing() -> None:
    d = judge()
    assert d == Decision(())


def test_the_first_manager_of_the_file_makes_the_swarm_and_the_other_managers_join_as_such() -> None:
    machines = (N2, N1, replace(N3, role="manager"), Machine("n4", "10.0.0.4", "manager"))
    seen = {m.name: ready(m) for m in machines}
    d = members.judge(Cluster(name="lab", machines=machines), seen, (), image=IMAGE)
    assert d.first == "n1"
    assert words(d)[1:] == [
        "join n2 (10.0.0.2) as worker",
        "join n3 (10.0.0.3) as manager",
        "join n4 (10.0.0.4) as manager",
    ]


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (bare(N2), "it has no Docker engine"),
        (bare(N2, engine_installed=True), "its engine gives no answer"),
        (ready(N2, facts=replace(FACTS, prepared=""), is_prepared=False), "swarmhpc has not prepared it yet"),
        (ready(N2, facts=replace(FACTS, prepared='{"version": "r0"}'), is_prepared=False), "its preparation is old"),
        (member(N2, engine=None), "its engine gives no answer"),
    ],
)
def test_a_machine_is_prepared_for_a_reason(seen: Seen, why: str) -> None:
    d = judge({"n2": seen})
    assert d.prepare == ("n2",)
    assert words(d)[0] == f"prepare machine n2: {why}"


def test_a_node_whose_engine_is_down_is_prepared_and_does_not_join_again() -> None:
    d = judge({"n2": member(N2, engine=None)})
    assert (d.prepare, d.join) == (("n2",), ())


def test_with_prepare_false_a_machine_with_an_engine_joins_as_it_is() -> None:
    cluster = replace(LAB, prepare=False)
    d = judge({"n3": ready(N3, facts=replace(FACTS, prepared=""))}, nodes=NODES[:2], cluster=cluster)
    assert (d.prepare, d.join, d.troubled) == ((), ("n3",), {})


def test_a_named_image_is_got_by_each_machine() -> None:
    d = judge({"n2": member(N2, has_image=False)}, cluster=replace(LAB, image=Image(name="r.example/pool:1")))
    [step] = d.steps
    assert (step.phase, d.images) == ("image", ("n2",))
    assert step.what.startswith(f"get image {IMAGE} ")
    assert step.what.endswith(" machine n2")


# -- machines that can't become nodes ------------------------------------------------------------------------------


def _engine(**changes: Any) -> EngineFacts:
    return replace(ENGINE, **changes)


@pytest.mark.parametrize(
    ("seen", "error", "says", "hint"),
    [
        (
            ready(N3, engine=_engine(swarm_state="active", node_id="x", is_manager=True), swarm_pool="other"),
            EngineError,
            "machine n3 is in another Swarm, of pool 'other'",
            "docker swarm leave --force",
        ),
        (
            ready(N3, engine=_engine(swarm_state="active", node_id="x")),
            EngineError,
            "machine n3 is in another Swarm, that this pool does not know",
            "docker swarm leave --force",
        ),
        (ready(N3, engine=_engine(swarm_state="locked")), EngineError, "state 'locked'; wanted: none", "docker info"),
        (ready(N3, engine=_engine(swarm_state="pending")), EngineError, "machine n3: its Swarm", "docker info"),
        *(
            (
                ready(N3, facts=replace(FACTS, listens=frozenset({22, port}))),
                MachineError,
                f"machine n3: port {port} is taken",
                f"sport = :{port}",
            )
            for port in (2377, 7946, 9618, 9619)
        ),
        (
            ready(N3, facts=replace(FACTS, routes={"eth0 10.73.4.0": "10.73.4.0/24"})),
            MachineError,
            "the pool's subnet 10.73.0.0/16 overlaps its own network 10.73.4.0/24 (eth0 10.73.4.0)",
            "choose another subnet",
        ),
        (
            ready(N3, facts=replace(FACTS, routes={"vpn 10.0.0.0": "10.0.0.0/8"})),
            MachineError,
            "overlaps its own network 10.0.0.0/8",
            "choose another subnet",
        ),
        (ready(N3, facts=replace(FACTS, ipvs=False)), MachineError, "its kernel has no IPVS", "modprobe ip_vs"),
        (Seen(N3, error=DOWN), MachineError, DOWN.message, DOWN.hint),
    ],
)
def test_a_machine_that_can_not_become_a_node_is_left_out_and_the_others_go_on(
    seen: Seen, error: type[Exception], says: str, hint: str
) -> None:
    d = judge({"n2": ready(N2), "n3": seen}, nodes=NODES[:1], networking="vip")
    assert list(d.troubled) == ["n3"]
    assert type(d.troubled["n3"]) is error
    assert says in d.troubled["n3"].message
    assert hint in d.troubled["n3"].hint
    assert words(d) == ["join n2 (10.0.0.2) as worker"]
    assert "n3" not in (*d.prepare, *d.images, *d.join, d.first)


@pytest.mark.parametrize(
    ("shared", "says"),
    [("", "queue.path: there is no directory /shared/queue"), ("ext2/ext3", "is on its own disk (ext2/ext3)")],
)
def test_a_machine_that_does_not_have_the_queues_directory_is_left_out_also_when_it_is_a_node(
    shared: str, says: str
) -> None:
    cluster = replace(LAB, queue=Queue(path="/shared/queue"))
    seen = {name: replace(s, facts=replace(FACTS, shared="nfs")) for name, s in SEEN.items()}
    assert judge(seen, cluster=cluster).troubled == {}
    for s in (member(N3), ready(N3)):
        seen["n3"] = replace(s, facts=replace(FACTS, shared=shared))
        error = judge(seen, cluster=cluster).troubled["n3"]
        assert says in error.message
        assert "mount the shared filesystem on n3" in error.hint


def test_the_only_machine_may_have_its_queue_on_a_disk_of_its_own() -> None:
    cluster = replace(LAB, machines=(N1,), queue=Queue(path="/srv/queue"))
    seen = {"n1": ready(N1, facts=replace(FACTS, shared="ext2/ext3"))}
    assert members.judge(cluster, seen, (), image=IMAGE).troubled == {}


def test_a_bare_machine_is_refused_where_the_file_says_prepare_false() -> None:
    d = judge({"n3": bare(N3)}, nodes=NODES[:2], cluster=replace(LAB, prepare=False))
    assert isinstance(d.troubled["n3"], EngineUnreachableError)
    assert "prepare: false" in d.troubled["n3"].message
    assert d.steps == ()


@pytest.mark.parametrize(
    "seen",
    [
        # What a node of the running pool has: its own daemons' ports, the Swarm's, networks made since.
        member(N3, facts=replace(FACTS, listens=frozenset({2377, 7946, 9618, 9619}))),
        member(N3, facts=replace(FACTS, routes={"br 10.73.0.0": "10.73.0.0/16"})),
        member(N3, facts=replace(FACTS, ipvs=False)),
    ],
)
def test_a_node_of_the_pool_is_not_refused_for_what_the_pool_made(seen: Seen) -> None:
    assert judge({"n3": seen}, networking="vip") == Decision(())


@pytest.mark.parametrize("networking", ["dnsrr", None])
def test_a_kernel_without_ipvs_is_fine_where_no_vip_is_used_yet(networking: str | None) -> None:
    d = judge({"n3": ready(N3, facts=replace(FACTS, ipvs=False))}, nodes=NODES[:2], networking=networking)
    assert (d.troubled, d.join) == ({}, ("n3",))


def test_without_a_swarm_the_first_manager_must_answer_or_a_second_swarm_could_grow() -> None:
    with pytest.raises(MachineError) as caught:
        judge({"n1": Seen(N1, error=DOWN), "n2": ready(N2), "n3": ready(N3)}, nodes=())
    assert caught.value.message.startswith(DOWN.message)
    assert "first manager" in caught.value.message
    assert caught.value.hint == DOWN.hint


def test_with_a_swarm_the_others_go_on_without_the_first_manager() -> None:
    managers = replace(LAB, machines=(N1, replace(N2, role="manager"), replace(N3, role="manager")))
    nodes = (NODES[0], node("n2", "manager"), node("n3", "manager"))
    seen = {"n1": Seen(N1, error=DOWN), "n3": member(replace(N3, role="manager"), has_image=False)}
    d = judge(seen, nodes=nodes, cluster=managers)
    assert (list(d.troubled), d.first, d.join) == (["n1"], "", ())
    assert words(d) == [f"bring image {IMAGE} for machine n3"]


# -- roles, labels, strangers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "is_now", "step"),
    [
        ("manager", "worker", "promote n2 to manager"),
        ("worker", "manager", "demote n2 to worker"),
    ],
)
def test_a_role_that_the_file_changes_is_changed(role: Any, is_now: str, step: str) -> None:
    machine = replace(N2, role=role)
    nodes = (NODES[0], node("n2", is_now), NODES[2])
    for seen in (member(machine), Seen(machine, error=DOWN)):  # the Swarm does it, the machine need not answer
        d = judge({"n2": seen}, nodes=nodes, cluster=replace(LAB, machines=(N1, machine, N3)))
        assert d.roles == {"id-n2": role}
        assert words(d) == [step]


@pytest.mark.parametrize(
    ("now", "old", "wanted", "labels"),
    [
        ({}, (), (("disk", "ssd"),), {"disk": "ssd"}),  # added
        ({"disk": "hdd"}, (("disk", "hdd"),), (("disk", "ssd"),), {"disk": "ssd"}),  # changed
        ({"disk": "ssd"}, (("disk", "ssd"),), (), {}),  # dropped: the old file gave it
        ({"rack": "7"}, (("disk", "ssd"),), (), {"rack": "7"}),  # somebody else's stays
        ({"disk": "hdd"}, (), (("disk", "ssd"),), {"disk": "ssd"}),  # the file's word against somebody else's
        ({"swarmhpc.old": "x"}, (), (), {}),
    ],
)
def test_a_node_has_the_files_labels_and_keeps_other_peoples(
    now: dict[str, str],
    old: tuple[tuple[str, str], ...],
    wanted: tuple[tuple[str, str], ...],
    labels: dict[str, str],
) -> None:
    before = replace(LAB, machines=(N1, replace(N2, labels=old), replace(N3, labels=(("not", "n2's"),))))
    after = replace(LAB, machines=(N1, replace(N2, labels=wanted), N3))
    full = {state.LABEL_MACHINE: "n2", **labels}
    assert members.wanted_labels(after, before, "n2", now, queue="n1") == full
    assert members.wanted_labels(after, before, "n2", full, queue="n1") == full, "once more changes nothing"
    d = judge(nodes=(NODES[0], node("n2", labels=now), NODES[2]), cluster=after, old=before)
    assert d.labels == ({} if {state.LABEL_MACHINE: "n2", **now} == full else {"id-n2": full})
    assert words(d) == ([] if not d.labels else ["label node n2"])


def test_without_an_old_file_no_label_is_taken_away() -> None:
    assert members.wanted_labels(LAB, None, "n2", {"rack": "7"}, queue="n1") == {"rack": "7", state.LABEL_MACHINE: "n2"}


def test_a_node_that_has_just_joined_gets_its_labels_by_the_machines_own_word() -> None:
    """An `up` that was interrupted between joining and labelling goes on."""
    d = judge(nodes=(node("", "manager", node_id="id-n1"), NODES[1], NODES[2]))
    assert d.labels == {"id-n1": {state.LABEL_MACHINE: "n1", state.LABEL_QUEUE_NODE: "lab"}}
    assert words(d) == ["mark n1 as the home of the queue"]
    assert (d.join, d.unlisted) == ((), ())


@pytest.mark.parametrize(
    ("queue", "nodes", "home"),
    [
        (Queue(), (), "n1"),  # the first manager
        (Queue(machine="n3"), (), "n3"),
        (Queue(machine="n3"), (node("n1", "manager"), node("n2"), node("n3", queue=True)), "n3"),
        (Queue(), (node("n1", "manager"), node("n2", queue=True), node("n3")), "n2"),  # where it is
    ],
)
def test_the_queue_is_where_the_file_says_else_where_it_is_else_on_the_first_manager(
    queue: Queue, nodes: tuple[Node, ...], home: str
) -> None:
    assert members.queue_machine(replace(LAB, queue=queue), {}, nodes) == home


def test_a_queue_of_another_pool_on_a_node_does_not_count() -> None:
    foreign = replace(NODES[1], labels={state.LABEL_MACHINE: "n2", state.LABEL_QUEUE_NODE: "other"})
    assert members.queue_machine(LAB, {}, (foreign,)) == "n1"


def test_a_queue_that_the_file_moves_is_refused_with_the_line_that_keeps_it() -> None:
    with pytest.raises(UsageError, match="the queue is on n1, the file says n2") as caught:
        judge(cluster=replace(LAB, queue=Queue(machine="n2")))
    assert "{machine: n1}" in caught.value.hint


def test_nodes_that_the_file_does_not_name_are_told_of_and_left_alone() -> None:
    stranger, removed = node("", node_id="id-x"), node("n9", "manager", labels={"disk": "ssd"})
    d = judge(nodes=(*NODES, stranger, removed))
    assert d.unlisted == ("host", "n9")
    assert d.steps == ()


def test_two_nodes_with_the_same_host_name_are_told_apart() -> None:
    assert {n.name for n in NODES} == {"host"}
    assert judge(nodes=NODES[:2], seen={"n3": ready(N3)}).join == ("n3",)


# -- this machine alone ----------------------------------------------------------------------------------------------

ALONE = Cluster(name="lab")
HERE = Machine("host", "127.0.0.1", "manager")


def alone(nodes: Sequence[Node] = (), cluster: Cluster = ALONE, **changes: Any) -> Decision:
    seen = Seen(HERE, "192.0.2.1", engine=ENGINE, has_image=True)
    return members.judge(cluster, {"host": replace(seen, **changes)}, nodes, image=IMAGE)


ACTIVE = replace(ENGINE, swarm_state="active", node_id="id-1", is_manager=True)


def test_alone_a_fresh_machine_gets_an_image_and_a_swarm() -> None:
    d = alone(has_image=False)
    assert [(s.phase, s.what) for s in d.steps] == [
        ("image", f"build image {IMAGE}"),
        ("swarm", "make a Swarm of this machine, advertised at 192.0.2.1"),
    ]
    assert (d.prepare, d.first, d.join, d.unlisted) == ((), "host", (), ())


def test_alone_a_named_image_is_got_not_built() -> None:
    d = alone(has_image=False, cluster=replace(ALONE, image=Image(name="r.example/pool:1")))
    assert words(d)[0] == f"get image {IMAGE}"


def test_alone_the_node_is_the_home_of_the_queue_and_has_no_machines_name() -> None:
    d = alone((node("", "manager", node_id="id-1", labels={"rack": "7"}),), engine=ACTIVE, swarm_pool="lab")
    assert d.labels == {"id-1": {state.LABEL_QUEUE_NODE: "lab", "rack": "7"}}
    assert words(d) == ["mark host as the home of the queue"]


def test_alone_a_pool_of_the_first_release_needs_nothing() -> None:
    d = alone((node("", "manager", node_id="id-1", queue=True),), engine=ACTIVE, swarm_pool="lab")
    assert d == Decision(())


def test_alone_nodes_that_people_joined_by_hand_are_left_alone() -> None:
    nodes = (node("", "manager", node_id="id-1", queue=True), node("", node_id="id-2"))
    assert alone(nodes, engine=ACTIVE, swarm_pool="lab") == Decision(())


# -- bugs reported to the lead; each mark goes with its mend -----------------------------------------------------------


def test_a_machine_that_was_installed_anew_joins_beside_its_dead_node() -> None:
    nodes = (NODES[0], NODES[1], replace(NODES[2], state="down"))
    d = judge({"n3": ready(N3)}, nodes=nodes)
    assert d.join == ("n3",)


@pytest.mark.parametrize("queue", [Queue(), Queue(machine="new")])
def test_a_machine_that_the_file_calls_otherwise_keeps_the_queue(queue: Queue) -> None:
    new = replace(N1, name="new")
    cluster = replace(LAB, machines=(new, N2, N3), queue=queue)
    seen = {"new": replace(SEEN["n1"], machine=new), "n2": SEEN["n2"], "n3": SEEN["n3"]}
    d = members.judge(cluster, seen, NODES, image=IMAGE)
    assert d.labels == {"id-n1": {state.LABEL_MACHINE: "new", state.LABEL_QUEUE_NODE: "lab"}}


def test_a_pool_of_one_machine_that_gets_machines_keeps_its_queue() -> None:
    nodes = (node("", "manager", node_id="id-n1", queue=True),)
    d = judge({"n2": ready(N2), "n3": ready(N3)}, nodes=nodes)
    assert d.labels == {"id-n1": {state.LABEL_MACHINE: "n1", state.LABEL_QUEUE_NODE: "lab"}}


def test_alone_a_queue_that_is_on_another_node_stays_there() -> None:
    nodes = (node("n1", "manager", node_id="id-1"), node("n2", node_id="id-2", queue=True))
    d = alone(nodes, engine=ACTIVE, swarm_pool="lab")
    assert all(state.LABEL_QUEUE_NODE not in labels for labels in d.labels.values())


def test_a_machine_that_already_manages_the_pools_swarm_forbids_a_second_one() -> None:
    """The file makes n4 the manager; n1, now a worker in the file, still manages the pool."""
    n4 = Machine("n4", "10.0.0.4", "manager")
    worker = replace(N1, role="worker")
    seen = {"n1": replace(SEEN["n1"], machine=worker), "n2": SEEN["n2"], "n3": SEEN["n3"], "n4": ready(n4)}
    with pytest.raises((MachineError, EngineError, UsageError)):
        members.judge(replace(LAB, machines=(worker, N2, N3, n4)), seen, (), image=IMAGE)


def test_a_queue_whose_machine_can_not_join_is_refused_at_once() -> None:
    with pytest.raises((MachineError, UsageError)):
        judge(
            {"n1": ready(N1), "n2": ready(N2), "n3": Seen(N3, error=DOWN)}, (), replace(LAB, queue=Queue(machine="n3"))
        )


def test_a_machine_that_the_file_names_twice_is_left_out_once() -> None:
    seen = {"n1": ready(N1), "n2": ready(N2), "n3": ready(N3, address="10.0.0.2")}
    assert list(judge(seen, nodes=()).troubled) == ["n3"]
