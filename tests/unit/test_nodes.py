"""What draining, activating, adding and removing nodes would do, as tables; and moving the queue, with strict fakes."""

# ruff: noqa: ARG002 - the fakes have the engine's signatures

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from swarmhpc import config, state
from swarmhpc.adapters.docker import Engine, Node, Service, Task
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cluster import file_edits, leaving, nodes
from swarmhpc.cluster.fleet import Fleet
from swarmhpc.cluster.init_file import read_hosts
from swarmhpc.cluster.nodes import Answer, Row, Situation
from swarmhpc.config import Cluster, ConfigError, ExecutorClass, Machine, Queue, Ssh
from swarmhpc.errors import EngineError, UsageError, WaitTimeoutError
from tests.unit.samples import Said

ADMIN = Ssh(user="admin", key="~/.ssh/lab")


def lab(managers: str = "n1", workers: str = "n2 n3", **fields: Any) -> Cluster:
    names = [(n, "manager") for n in managers.split()] + [(n, "worker") for n in workers.split()]
    machines = tuple(Machine(n, f"10.0.1.{n[1:]}", cast("Any", role), ADMIN) for n, role in names)
    return Cluster(machines=machines, **fields)


def row(name: str, **fields: Any) -> Row:
    usual: dict[str, Any] = {
        "id": f"id-{name}",
        "hostname": f"host-{name}",
        "address": f"10.0.1.{name[1:]}",
        "role": "worker",
        "state": "ready",
        "availability": "active",
        "executors": 2,
        "draining": 0,
        "jobs": 0,
    }
    return Row(name, **{**usual, **fields})


N1 = row("n1", role="manager", holds_queue=True)
N2, N3 = row("n2"), row("n3")
THREE = Situation("swarmhpc", lab(), (N1, N2, N3))


def with_rows(*changed: Row, base: Situation = THREE) -> Situation:
    of_name = {r.name: r for r in (*base.rows, *changed)}
    return replace(base, rows=tuple(of_name.values()))


# ---- names


@pytest.mark.parametrize("name", ["n2", "host-n2", "id-n2"])
def test_a_node_goes_by_its_machine_its_host_name_or_its_id(name: str) -> None:
    assert nodes.find(THREE.rows, [name, name]) == (N2,)


def test_every_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        nodes.find(THREE.rows, ["x", "n1", "y"])
    assert "no node is called x; there are n1, n2, n3" in caught.value.message
    assert "no node is called y" in caught.value.message


def test_a_host_name_of_two_nodes_is_refused_with_their_ids() -> None:
    twins = with_rows(row("n2", hostname="lab"), row("n3", hostname="lab"))
    with pytest.raises(UsageError, match="2 nodes are called lab: id-n2, id-n3"):
        nodes.find(twins.rows, ["lab"])


# ---- the table


def node(name: str, **fields: Any) -> Node:
    usual: dict[str, Any] = {
        "id": f"id-{name}",
        "name": f"host-{name}",
        "role": "worker",
        "state": "ready",
        "availability": "active",
        "address": "10.0.1.9",
        "cpus": 4,
        "memory_mib": 2048,
        "labels": {state.LABEL_MACHINE: name},
    }
    return Node(**{**usual, **fields})


def task(task_id: str, service: str, at: str, desired: str = "running", **fields: Any) -> Task:
    usual: dict[str, Any] = {"slot": 1, "state": "running", "error": "", "container_id": "c", "container_spec": ""}
    return Task(id=task_id, service_id=service, node_id=f"id-{at}", desired=desired, **{**usual, **fields})


def slot(at_task: str, job: str = "", *, whole: bool = False) -> Slot:
    numbers = {"cpus": 1, "memory_mib": 128, "total_cpus": 1, "total_memory_mib": 128, "activity_age_s": 0}
    words = {"name": "slot1", "executor": "e", "class_name": "executors", "node": "", "state": "", "activity": ""}
    return Slot(**words, **numbers, task=at_task, job_id=job, partitionable=whole)  # type: ignore[arg-type]


def service(name: str, role: str, replicas: int | None = 1) -> Service:
    labels = {state.LABEL_ROLE: role} | ({state.LABEL_CLASS: name} if role == state.EXECUTOR else {})
    return Service(name, f"swarmhpc_{name}", labels, replicas, "image", "")


SERVICES = [service("executors", state.EXECUTOR), service("ap", state.ACCESS_POINT), service("j", state.JANITOR, None)]


def table(
    stored: Cluster, file: Cluster, seen: list[Node], tasks: list[Task], slots: list[Slot] | None
) -> dict[str, Row]:
    told = [replace(n, engine_version="26.1.5", manager_status="leader") if n.id == "id-n1" else n for n in seen]
    rows = nodes.table(stored, file, told, services=SERVICES, tasks=tasks, slots=slots)
    return {r.name: r for r in rows}


def test_executors_and_jobs_are_counted_where_they_are() -> None:
    tasks = [
        task("t1", "executors", "n1"),
        task("t2", "executors", "n1", "shutdown"),
        task("t3", "class-taken-out", "n1", "remove"),
        task("t4", "ap", "n1"),
        task("t5", "j", "n1", "shutdown"),
        task("t6", "executors", "n2"),
        task("t7", "executors", "n2", "shutdown", state="complete"),
    ]
    slots = [
        slot("t1", whole=True),
        slot("t1", "1.0"),
        slot("t1"),
        slot("t2", "1.1"),
        slot("t6", "2.0"),
        slot("x", "9.0"),
    ]
    rows = table(lab(), lab(), [node("n1"), node("n2")], tasks, slots)
    assert (rows["n1"].executors, rows["n1"].draining, rows["n1"].jobs) == (1, 2, 2)
    assert (rows["n2"].executors, rows["n2"].draining, rows["n2"].jobs) == (1, 0, 1)


def test_jobs_are_unknown_where_the_collector_does_not_answer() -> None:
    assert table(lab(), lab(), [node("n1")], [], None)["n1"].jobs is None


def test_the_table_has_machines_that_are_no_nodes_and_nodes_that_are_in_no_file() -> None:
    rows = table(lab(), lab(workers="n2 n4"), [node("n1"), node("n2"), node("n3"), node("n9", labels={})], [], [])
    assert {n: (bool(r.id), r.in_file) for n, r in rows.items()} == {
        "n1": (True, True),
        "n2": (True, True),
        "n3": (True, False),
        "n4": (False, True),
        "host-n9": (True, False),
    }
    assert (rows["n4"].state, rows["n4"].address) == ("no node", "10.0.1.4")


def test_only_the_users_labels_are_shown_and_the_leader_and_the_queue_are_marked() -> None:
    labels = {state.LABEL_MACHINE: "n1", state.LABEL_QUEUE_NODE: "swarmhpc", "disk": "ssd"}
    r = table(lab(), lab(), [node("n1", labels=labels)], [], [])["n1"]
    assert (r.labels, r.is_leader, r.holds_queue, r.engine_version) == ((("disk", "ssd"),), True, True, "26.1.5")


def test_no_node_is_strange_to_a_file_without_machines() -> None:
    assert table(Cluster(), Cluster(), [node("n1", labels={})], [], [])["host-n1"].in_file


# ---- drain


def test_a_drain_names_the_executors_that_leave() -> None:
    plan = nodes.decide_drain(THREE, ["n2"])
    assert plan.steps == ("drain n2: 2 executors there take no new jobs, and leave when those they have are finished",)
    empty = with_rows(row("n2", executors=0))
    assert nodes.decide_drain(empty, ["n2"]).steps == ("drain n2: no executor runs there",)


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        ({"executors": 0}, 0),
        ({"executors": 0, "draining": 1}, 1),  # still finishing: the wait goes on
    ],
)
def test_draining_a_drained_node_only_waits_for_what_is_left(changed: dict[str, Any], steps: int) -> None:
    s = with_rows(row("n2", availability="drain", **changed))
    assert len(nodes.decide_drain(s, ["n2"]).steps) == steps


ALL_BUT_N2_DRAINED = with_rows(replace(N1, availability="drain"), row("n3", state="down"))


@pytest.mark.parametrize(
    ("s", "names", "message"),
    [
        (THREE, ["n1"], "n1 holds the queue"),
        (THREE, ["n2", "n1"], "n1 holds the queue"),
        (ALL_BUT_N2_DRAINED, ["n2"], "no active node would be left"),
        (with_rows(Row("n4")), ["n4"], "n4 is no node yet"),
        (with_rows(Row("n4")), ["n4", "n1"], "n1 holds the queue"),
    ],
)
def test_a_drain_that_would_stop_the_pool_is_refused(s: Situation, names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        nodes.decide_drain(s, names)


@pytest.mark.parametrize(("s", "names"), [(THREE, ["n1"]), (ALL_BUT_N2_DRAINED, ["n2"]), (THREE, ["n1", "n2", "n3"])])
def test_stop_pool_drains_it_all_the_same(s: Situation, names: list[str]) -> None:
    assert len(nodes.decide_drain(s, names, stop_pool=True).steps) == len(names)


def test_with_the_queue_on_a_shared_filesystem_its_node_drains_like_any_other() -> None:
    s = replace(THREE, queue_is_pinned=False, queue_is_volume=False)
    assert len(nodes.decide_drain(s, ["n1"]).steps) == 1


def test_the_queue_moves_before_its_node_is_drained() -> None:
    plan = nodes.decide_drain(THREE, ["n1"], queue_to="host-n3")
    assert plan.move == (N1, N3)
    assert [s.split(":")[0] for s in plan.steps] == ["move the queue from n1 to n3", "drain n1"]


@pytest.mark.parametrize(
    ("s", "names", "to", "message"),
    [
        (THREE, ["n2"], "n3", "the queue is on n1, not on n2"),
        (THREE, ["n1", "n2"], "n2", "n2 is to leave itself"),
        (with_rows(row("n2", availability="drain")), ["n1"], "n2", "n2 is drain and ready"),
        (with_rows(row("n2", state="down")), ["n1"], "n2", "n2 is active and down"),
        (with_rows(Row("n4")), ["n1"], "n4", "n4 is no node"),
        (THREE, ["n1"], "n7", "no node is called n7"),
    ],
)
def test_the_queue_moves_only_from_a_leaving_node_to_one_that_stays(
    s: Situation, names: list[str], to: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        nodes.decide_drain(s, names, queue_to=to)


def test_a_queue_that_has_moved_already_is_not_moved_again() -> None:
    s = with_rows(replace(N1, holds_queue=False), replace(N2, holds_queue=True))
    assert nodes.decide_drain(s, ["n1"], queue_to="n2").move is None


def test_a_move_that_was_interrupted_between_the_labels_goes_on() -> None:
    s = with_rows(replace(N2, holds_queue=True))
    plan = nodes.decide_drain(s, ["n1"], queue_to="n2")
    assert plan.move == (s.rows[0], s.rows[1])


# ---- activate


def test_only_nodes_that_are_not_active_are_activated() -> None:
    s = with_rows(row("n2", availability="drain"), row("n3", availability="pause"))
    assert [r.name for r in nodes.decide_activate(s, ["n1", "n2", "n3"])] == ["n2", "n3"]


# ---- remove

FIVE = Situation(
    "swarmhpc",
    lab("n1 n2 n3", "n4 n5"),
    (N1, row("n2", role="manager"), row("n3", role="manager"), row("n4"), row("n5")),
)


def removal(
    s: Situation, names: str, *, silent: str = "", left: str = "", queue_to: str | None = None, force: bool = False
) -> nodes.LeavePlan:
    answering: dict[str, Answer] = {r.name: "node" for r in s.rows if r.id}
    answering |= dict.fromkeys(left.split(), "left") | dict.fromkeys(silent.split(), "silent")  # type: ignore[arg-type]
    return nodes.decide_remove(s, names.split(), answering, queue_to=queue_to, force=force)


def heads(plan: nodes.LeavePlan) -> list[str]:
    return [" ".join(step.split()[:3]) for step in plan.steps]


def test_a_worker_is_drained_leaves_and_goes_from_the_file() -> None:
    plan = removal(FIVE, "n4")
    assert heads(plan) == ["drain n4: 2", "make n4 leave", "take n4 out"]
    assert plan.remaining is not None
    assert [m.name for m in plan.remaining.machines] == ["n1", "n2", "n3", "n5"]
    assert plan.notices == ()


def test_one_manager_of_three_leaves_one_manager_and_says_what_that_means() -> None:
    plan = removal(FIVE, "n2")
    assert heads(plan) == ["drain n2: 2", "demote manager n2", "make n2 leave", "take n2 out", "demote manager n3"]
    assert plan.remaining is not None
    assert [m.name for m in plan.remaining.managers] == ["n1"]
    assert config.parse(config.dump(plan.remaining), file="stored") == plan.remaining
    assert "2 managers survive no more losses than 1" in plan.notices[0]
    assert "losing n1 now stops the Swarm" in plan.notices[0]


def test_the_manager_with_the_queue_is_not_the_one_that_becomes_a_worker() -> None:
    smaller, demoted = file_edits.without(lab("n1 n2 n3", queue=Queue(machine="n3")), ["n1"])
    assert (demoted, smaller.queue.machine) == ("n2", "n3")


def test_the_file_names_the_queues_new_machine() -> None:
    s = replace(FIVE, cluster=replace(FIVE.cluster, queue=Queue(machine="n1")))
    plan = removal(s, "n1", queue_to="n4")
    assert plan.remaining is not None
    assert plan.remaining.queue.machine == "n4"
    assert heads(plan)[:2] == ["move the queue", "drain n1: 2"]
    assert not plan.lost


@pytest.mark.parametrize(
    ("s", "names", "options", "message"),
    [
        (THREE, "n1", {"queue_to": "n2"}, "n1: the last manager of the Swarm"),
        (FIVE, "n1 n2 n3", {"queue_to": "n4"}, "n1, n2, n3: all managers of the Swarm"),
        (FIVE, "n1", {}, "n1 holds the queue .*removing it would end the queue"),
        (FIVE, "n1", {"silent": "n1"}, "n1 holds the queue"),
        (FIVE, "n4", {"force": True}, "--force is for a machine that is gone for good, and its engine answers"),
        (FIVE, "n4", {"force": True, "silent": "n4"}, "the Swarm says it is ready"),
        (FIVE, "n4", {"silent": "n4"}, "is ready, but its engine can't be reached"),
        (with_rows(row("n4", state="down"), base=FIVE), "n4", {"silent": "n4"}, "gives no answer .the Swarm says down"),
        (with_rows(N2, replace(N3, availability="drain"), base=THREE), "n2 n1", {}, "n1: the last manager"),
    ],
)
def test_a_removal_that_would_do_harm_is_refused(
    s: Situation, names: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        removal(s, names, **options)


def test_all_reasons_against_a_removal_come_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        removal(FIVE, "n1 n4", silent="n4")
    assert "n1 holds the queue" in caught.value.message
    assert "node n4" in caught.value.message


def test_a_node_that_is_gone_for_good_is_neither_drained_nor_asked_to_leave() -> None:
    s = with_rows(row("n2", role="manager", state="down"), base=FIVE)
    plan = removal(s, "n2", silent="n2", force=True)
    assert heads(plan) == ["demote manager n2", "take n2, which", "take n2 out", "demote manager n3"]


def test_a_removal_that_was_interrupted_after_the_node_left_goes_on_without_force() -> None:
    s = with_rows(row("n4", state="down", availability="drain"), base=FIVE)
    assert heads(removal(s, "n4", left="n4")) == ["take n4, which", "take n4 out"]


def test_a_machine_that_is_no_node_is_only_taken_out_of_the_stored_file() -> None:
    s = with_rows(Row("n4", address="10.0.1.4"), base=FIVE)
    assert heads(removal(s, "n4", silent="n4")) == ["take n4 out"]
    forgotten = replace(s, cluster=lab("n1 n2 n3", "n5"))
    assert removal(forgotten, "n4", silent="n4").steps == ()


def test_the_queue_of_a_node_that_is_gone_for_good_is_said_to_be_lost() -> None:
    s = with_rows(replace(N1, state="down"), base=FIVE)
    with pytest.raises(UsageError, match="n1 holds the queue") as caught:
        removal(s, "n1", silent="n1", force=True)
    assert (
        "remove --force n1 --queue-to NAME lets it begin anew on another node: the jobs in it are lost"
        in caught.value.hint
    )
    plan = removal(s, "n1", silent="n1", force=True, queue_to="n4")
    assert plan.lost
    assert plan.steps[0] == "let the queue begin anew on n4, with what volume swarmhpc_queue holds there: n1's is lost"


def test_a_node_that_the_file_does_not_name_leaves_the_file_as_it_is() -> None:
    plan = removal(with_rows(row("n9", in_file=False), base=FIVE), "n9")
    assert (heads(plan), plan.remaining) == (["drain n9: 2", "make n9 leave"], None)


def test_the_dead_node_of_a_machine_that_was_installed_anew_goes_and_its_name_stays() -> None:
    dead = row("n3", id="old", state="down")
    s = replace(THREE, rows=(*THREE.rows, dead))
    plan = nodes.decide_remove(s, ["old"], {"n3": "left"}, force=True)
    assert plan.targets == (dead,)
    assert plan.remaining is None
    assert not [x for x in plan.steps if "cluster file" in x]


def test_the_only_machine_with_a_label_that_a_class_wants_does_not_go() -> None:
    cluster = lab("n1", "n2 n3")
    labelled = tuple(replace(m, labels=(("gpu", "1"),)) if m.name == "n3" else m for m in cluster.machines)
    wants = (ExecutorClass("executors"), ExecutorClass("executors-gpu", placement=(("gpu", "1"),)))
    s = replace(THREE, cluster=replace(cluster, machines=labelled, executors=wants))
    with pytest.raises(ConfigError, match="wanted a label that a machine has, saw gpu: 1"):
        removal(s, "n3")


# ---- add


def machines_of(cluster: Cluster, *hosts: str, **options: Any) -> tuple[Machine, ...]:
    empty: dict[str, Any] = dict.fromkeys(("name", "address", "role", "user", "port", "key"))
    return file_edits.new_machines(cluster, read_hosts(hosts), **{**empty, "labels": {}, **options})


def test_a_new_machine_is_reached_like_most_others() -> None:
    odd = Machine("n4", "10.0.1.4", ssh=Ssh(port=2222))
    cluster = replace(lab(), machines=(odd, *lab().machines))
    assert machines_of(cluster, "n7", "root@n8", port=23) == (
        Machine("n7", "n7", "worker", replace(ADMIN, port=23)),
        Machine("n8", "n8", "worker", replace(ADMIN, user="root", port=23)),
    )


def test_a_name_or_an_address_is_for_one_host() -> None:
    with pytest.raises(UsageError, match="about one HOST"):
        machines_of(lab(), "n7", "n8", name="x")


def test_a_machine_that_is_in_the_file_is_no_error() -> None:
    cluster = lab()
    again = machines_of(cluster, "n3", address="10.0.1.3")
    assert file_edits.with_machines(cluster, again) == (cluster, ())


@pytest.mark.parametrize(
    ("host", "options", "message"),
    [
        (
            "n3",
            {"address": "10.0.1.3", "user": "root"},
            "n3 is in the cluster file already, and not with these options",
        ),
        ("n3", {"address": "10.0.1.33"}, r"the cluster file has n3 \(10.0.1.3\) already"),
        ("10.0.1.3", {"name": "x"}, r"the cluster file has n3 \(10.0.1.3\) already"),
        ("n7", {"role": "manager"}, "wanted an odd number of managers, saw 2"),
        ("n7", {"labels": {"a/b": "c"}}, "a label's name"),
    ],
)
def test_a_machine_that_does_not_fit_the_file_is_refused(host: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        file_edits.with_machines(lab(), machines_of(lab(), host, **options))


def test_a_pool_on_one_machine_alone_has_to_be_listed_first() -> None:
    with pytest.raises(UsageError, match="lists no machines"):
        file_edits.with_machines(Cluster(), (Machine("n2", "n2"),))


@pytest.mark.parametrize(
    "machine",
    [
        Machine("n7", "n7", "worker", ADMIN),
        Machine("n7", "10.0.1.7", "worker", ADMIN),
        Machine("n7", "n7", "manager", ADMIN),
        Machine("n7", "10.0.1.7", "worker", Ssh("root", 2222), (("disk", "ssd"), ("on", "1"))),
        Machine("n7", "n7", "worker", replace(ADMIN, known_hosts="/k")),
    ],
)
def test_the_line_to_write_gives_the_machine_back(machine: Machine) -> None:
    managers = "" if machine.role == "manager" else "  n1: {role: manager}\n"
    text = "ssh: {user: admin, key: ~/.ssh/lab}\nmachines:\n" + managers + file_edits.file_line(machine, ADMIN)
    if machine.ssh.key is None:
        text = text.replace("key: None", "key: null")
    assert config.parse(text, file="c").machines[-1] == machine


# ---- what is still there


def test_what_is_waited_for_is_said_for_each_node() -> None:
    tasks = [task("a", "executors", "n2", "shutdown"), task("b", "gone", "n2", "remove"), task("c", "j", "n3")]
    names = {"id-n1": "n1", "id-n2": "n2", "id-n3": "n3"}
    said = leaving.still_there(tasks, names, SERVICES, {"id-n2": 1})
    assert said == "n2: 2 executors to finish 1 job; n3: 1 other task to stop"
    assert "finish their jobs" in leaving.still_there(tasks, names, SERVICES, None)


def test_the_jobs_of_a_node_are_found_by_its_executors_host_names() -> None:
    tasks = [task("abcdefghij", "executors", "n2", slot=7), task("c", "j", "n2")]
    assert leaving.executor_hosts(tasks, SERVICES) == ["executors-7-abcdef"]


# ---- strict fakes: what is not defined here must not be called


@dataclass
class World:
    """One pool: its nodes' labels, the access point, and every engine's queue volume."""

    volumes: dict[str, dict[str, str]] = field(default_factory=lambda: {"n1": {"job_queue.log": "jobs"}})
    labels: dict[str, dict[str, str]] = field(
        default_factory=lambda: {"n1": {"swarmhpc.queue": "swarmhpc", "x": "y"}, "n2": {}}
    )
    replicas: int = 1
    lose: bool = False
    """Whether a copy loses a file."""
    fail_at: str = ""
    log: list[str] = field(default_factory=list)

    def say(self, what: str) -> None:
        self.log.append(what)
        if what == self.fail_at:
            raise KeyboardInterrupt


class FakeEngine:
    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name

    def volumes(self, pool: str) -> list[str]:
        return ["swarmhpc_queue"] if self.name in self.world.volumes else []

    def volume_create(self, name: str, labels: Mapping[str, str]) -> None:
        assert (name, labels) == ("swarmhpc_queue", {"swarmhpc.cluster": "swarmhpc"})
        self.world.volumes.setdefault(self.name, {})

    def volume_remove(self, name: str) -> None:
        self.world.say(f"remove volume on {self.name}")
        del self.world.volumes[self.name]

    @contextlib.contextmanager
    def volume_reader(self, name: str, image: str, *, cluster: str) -> Iterator[Iterator[bytes]]:
        assert self.world.replicas == 0, "a queue must not be read while its access point writes it"
        yield (f"{k}={v}".encode() for k, v in self.world.volumes[self.name].items())

    def volume_fill(self, name: str, image: str, chunks: Iterator[bytes], *, cluster: str) -> None:
        for chunk in chunks:
            if not self.world.lose:
                key, _, value = chunk.decode().partition("=")
                self.world.volumes[self.name][key] = value
        self.world.say(f"fill volume on {self.name}")

    def run_once(self, image: str, argv: list[str], *, cluster: str, binds: Mapping[str, str]) -> str:
        assert binds == {"swarmhpc_queue": "/volume"}
        files = self.world.volumes[self.name]
        return f"{len(files)} {sum(map(len, files.values()))} {sorted(files.items())!r}".replace(", ", ",") + "\n"


class FakeManager:
    def __init__(self, world: World) -> None:
        self.world = world

    def services(self, pool: str) -> list[Service]:
        return [service("ap", state.ACCESS_POINT, self.world.replicas)]

    def scale(self, service_id: str, replicas: int) -> None:
        self.world.say(f"scale {replicas}")
        self.world.replicas = replicas

    def tasks(self, service_id: str | None = None) -> list[Task]:
        at = [n for n, labels in self.world.labels.items() if state.LABEL_QUEUE_NODE in labels]
        return [task("t", "ap", at[0])] if self.world.replicas else []

    def nodes(self) -> list[Node]:
        return [node(n, labels=labels) for n, labels in self.world.labels.items()]

    def node_update(self, node_id: str, *, labels: Mapping[str, str]) -> None:
        self.world.labels[node_id.removeprefix("id-")] = dict(labels)
        self.world.say(f"label {node_id} {'queue' if state.LABEL_QUEUE_NODE in labels else 'no queue'}")


class FakeFleet:
    def __init__(self, world: World) -> None:
        self.world = world

    def engine(self, name: str) -> FakeEngine:
        return FakeEngine(self.world, name)


def move(world: World, *, lost: bool = False) -> None:
    plan = nodes.LeavePlan((), (N1,), (N1, N2), lost)
    leaving.move_queue(cast("Fleet", FakeFleet(world)), cast("Engine", FakeManager(world)), THREE, plan, Said())


def test_the_old_queue_is_deleted_only_when_the_access_point_runs_on_the_copy() -> None:
    world = World()
    move(world)
    assert world.log == [
        "scale 0",
        "fill volume on n2",
        "label id-n2 queue",
        "label id-n1 no queue",
        "scale 1",
        "remove volume on n1",
    ]
    assert world.volumes == {"n2": {"job_queue.log": "jobs"}}
    assert world.labels == {"n1": {"x": "y"}, "n2": {"swarmhpc.queue": "swarmhpc"}}


def unchanged(world: World) -> bool:
    fresh = World()
    return (world.volumes, world.labels, world.replicas) == (fresh.volumes, fresh.labels, 1)


def test_after_a_copy_that_is_not_equal_everything_is_as_before() -> None:
    world = World(lose=True)
    with pytest.raises(
        EngineError, match="is not equal to what was copied: 0 files and folders, 0 bytes; wanted 1 and 4"
    ):
        move(world)
    assert unchanged(world)


def test_after_an_interrupted_copy_everything_is_as_before() -> None:
    world = World(fail_at="fill volume on n2")
    with pytest.raises(KeyboardInterrupt):
        move(world)
    assert unchanged(world)


def test_an_older_queue_at_the_new_place_is_not_overwritten_and_the_access_point_goes_on() -> None:
    world = World()
    world.volumes["n2"] = {"job_queue.log": "older"}
    with pytest.raises(EngineError, match="not empty: an older queue"):
        move(world)
    assert world.volumes["n2"] == {"job_queue.log": "older"}
    assert world.log == []  # the access point was not even stopped


def test_interrupted_between_the_labels_the_access_point_stays_stopped_and_a_second_run_goes_on() -> None:
    world = World(fail_at="label id-n2 queue")
    with pytest.raises(KeyboardInterrupt):
        move(world)
    assert world.replicas == 0
    world.fail_at = ""
    move(world)
    assert world.volumes == {"n2": {"job_queue.log": "jobs"}}
    assert (world.replicas, world.labels["n1"]) == (1, {"x": "y"})


def test_the_queue_of_a_lost_node_is_not_looked_for() -> None:
    world = World(volumes={})
    move(world, lost=True)
    assert world.labels["n2"] == {"swarmhpc.queue": "swarmhpc"}
    assert world.volumes == {}


class DrainingManager:
    """A Swarm whose executor on n2 leaves at the third look."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.updates: list[tuple[str, str]] = []

    def node_update(self, node_id: str, *, availability: str) -> None:
        self.updates.append((node_id, availability))

    def tasks(self) -> list[Task]:
        self.looks -= 1
        ended = task("old", "executors", "n2", "shutdown", state="complete")
        elsewhere = task("new", "executors", "n3")
        return [ended, elsewhere, *([task("t", "executors", "n2", "shutdown")] if self.looks > 0 else [])]

    def services(self, pool: str) -> list[Service]:
        return SERVICES


def drain(manager: DrainingManager, *targets: Row, timeout_s: float | None = None) -> None:
    fleet, engine = cast("Fleet", object()), cast("Engine", manager)
    failed = leaving.drain(fleet, engine, THREE, targets, Said(), now=False, timeout_s=timeout_s)
    assert failed == {}


@pytest.fixture
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(pool: str) -> None: ...

    monkeypatch.setattr(nodes, "slots", nobody)


@pytest.mark.usefixtures("no_collector")
def test_a_drain_waits_until_the_last_executor_has_left() -> None:
    manager = DrainingManager(looks=3)
    drain(manager, N2)
    assert (manager.updates, manager.looks) == ([("id-n2", "drain")], 0)


@pytest.mark.usefixtures("no_collector")
def test_a_drain_that_takes_too_long_says_that_it_stays_on() -> None:
    with pytest.raises(WaitTimeoutError, match="n2: 1 executor to finish their jobs; the drain stays on"):
        drain(DrainingManager(looks=1000), N2, timeout_s=0)


@pytest.mark.usefixtures("no_collector")
def test_nobody_waits_for_a_node_that_is_down() -> None:
    manager = DrainingManager(looks=1000)
    drain(manager, replace(N2, state="down"))
    assert manager.updates == [("id-n2", "drain")]
