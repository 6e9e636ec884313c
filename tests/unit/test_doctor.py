"""What doctor says: the pure part by tables, the asking part with a strict fake engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from swarmhpc import state, tokens
from swarmhpc.adapters import machine
from swarmhpc.adapters.docker import Container, Engine, EngineFacts, Image, Node, Service, Task
from swarmhpc.cluster import doctor, images
from swarmhpc.cluster.doctor import Access, Check, Facts, judge
from swarmhpc.config import Cluster, Ports
from swarmhpc.config import Image as ImageKeys
from swarmhpc.errors import EngineError, EngineUnreachableError, SwarmHpcError
from tests.unit import samples

NOW_S = 1_800_000_000
ENGINE = replace(
    samples.ENGINE,
    name="m1",
    version="26.1.5+dfsg1",
    swarm_state="active",
    node_id="n1",
    node_address="192.0.2.1",
    is_manager=True,
)
NODE = Node("n1", "m1", "manager", "ready", "active", "192.0.2.1", 4, 8192, {state.LABEL_QUEUE_NODE: "swarmhpc"})
RUNNING = Facts(
    now_s=NOW_S,
    engine=ENGINE,
    swarm_cluster="swarmhpc",
    nodes=(NODE,),
    pool_runs=True,
    subnets={"network bridge": ("172.17.0.0/16",), "route eth0 192.0.2.0": ("192.0.2.0/24",)},
    engine_disk_mib=50_000,
    job_disk_mib=50_000,
    image="swarmhpc/pool:abc",
    image_is_here=True,
    base_is_here=True,
    image_made_s=NOW_S - 1000,
    jobs=(),
    live_tasks=frozenset({"alive"}),
    volumes=("swarmhpc_queue",),
    access=Access(exists=True, person="alice", issued_at=NOW_S - 900),
)
FRESH = Facts(
    now_s=NOW_S,
    engine=replace(ENGINE, swarm_state="inactive", is_manager=False, node_id="", node_address=""),
    pool_runs=False,
    subnets={"network bridge": ("172.17.0.0/16",)},
    engine_disk_mib=50_000,
    job_disk_mib=50_000,
    image="swarmhpc/pool:abc",
    access=Access(exists=False, error="pool 'swarmhpc' is not known on this machine"),
)
DEAD = replace(
    RUNNING,
    engine=None,
    engine_error=("no Docker engine answers", "systemctl start docker"),
    swarm_cluster=None,
    nodes=(),
    pool_runs=None,
    subnets=None,
    engine_disk_mib=None,
)
CLUSTER = Cluster()
NAMES = [c.name for c in judge(RUNNING, CLUSTER)]


def job(task: str, number: int = 1) -> Container:
    return Container(f"{number:064d}", f"HTCJob{number}_0_slot1_1_PID7", "running", {state.LABEL_TASK: task})


def check(name: str, facts: Facts, cluster: Cluster = CLUSTER) -> Check:
    [found] = [c for c in judge(facts, cluster) if c.name == name]
    return found


@pytest.mark.parametrize("facts", [RUNNING, FRESH], ids=["running pool", "fresh machine"])
def test_where_nothing_is_wrong_every_check_is_ok_and_there_is_nothing_to_mend(facts: Facts) -> None:
    assert [(c.name, c.seen) for c in judge(facts, CLUSTER) if c.status != "ok" or c.mend] == []


@pytest.mark.parametrize("facts", [RUNNING, FRESH, DEAD])
def test_the_same_checks_come_in_the_same_order_whatever_was_found(facts: Facts) -> None:
    assert [c.name for c in judge(facts, CLUSTER)] == NAMES


def test_a_dead_engine_is_one_problem_and_what_needs_it_says_not_checked() -> None:
    checks = judge(DEAD, CLUSTER)
    assert [c for c in checks if c.status == "problem"] == [
        Check("engine", "problem", "no Docker engine answers", "systemctl start docker")
    ]
    unchecked = [c.name for c in checks if c.seen.startswith("not checked: the Docker engine gives no answer")]
    assert unchecked == [
        *("cgroups", "swarm", "nodes", "ports", "subnet", "engine disk", "image", "services"),
        *("job containers", "leftovers"),
    ]
    assert [c.name for c in checks if c.status == "ok"] == ["docker command", "ipvs", "job disk", "context", "clock"]


def engine(**changes: Any) -> EngineFacts:
    return replace(ENGINE, **changes)


MEMORY_WARNING = "WARNING: No memory limit support"
SWAP_WARNING = "WARNING: No swap limit support"
CFS_WARNING = "WARNING: No cpu cfs quota support"
OTHER_WARNING = "WARNING: bridge-nf-call-iptables is disabled"
OPEN_WARNING = "WARNING: API is accessible on http://0.0.0.0:2375 without encryption."
CLASH = {"network lab": ("10.73.4.0/24",), "route tun0 10.74.0.0": ("10.74.0.0/15",)}
DRAINED, DOWN = replace(NODE, availability="drain"), replace(NODE, state="down")
SECOND = replace(NODE, id="n2", name="m2", labels={})


@pytest.mark.parametrize(
    ("name", "changes", "status", "seen", "mend"),
    [
        ("docker command", {"docker_command": False}, "problem", "missing", "apt-get install docker-cli"),
        ("engine", {"engine": engine(version="19.03.8")}, "problem", "wanted 20.10 or later", "apt-get install"),
        ("engine", {"engine": engine(version="20.9.1")}, "problem", "wanted 20.10 or later", "apt-get install"),
        ("engine", {"engine": engine(version="20.10.24+dfsg1")}, "ok", "20.10.24", ""),
        ("engine", {"engine": engine(version="dev")}, "warning", "'dev' is no number", "swarmhpc doctor"),
        ("engine", {"engine": engine(warnings=(OPEN_WARNING,))}, "warning", "without encryption", "daemon.json"),
        ("engine", {"engine": engine(warnings=(OTHER_WARNING,))}, "ok", "26.1.5", ""),
        ("cgroups", {}, "ok", "cgroup v2, driver systemd", ""),
        ("cgroups", {"engine": engine(cgroup_version="1", cgroup_driver="cgroupfs")}, "ok", "cgroup v1", ""),
        ("cgroups", {"engine": engine(cgroup_driver="none")}, "problem", "limits nothing", "as root"),
        ("cgroups", {"engine": engine(warnings=(SWAP_WARNING,))}, "warning", "swap beyond", "swapaccount=1"),
        (
            "cgroups",
            {"engine": engine(warnings=(SWAP_WARNING, MEMORY_WARNING))},
            "problem",
            "no memory limit",
            "cgroup_enable=memory",
        ),
        ("cgroups", {"engine": engine(warnings=(CFS_WARNING,))}, "problem", "CPU limit", "boot a kernel"),
        ("cgroups", {"engine": engine(warnings=(OTHER_WARNING,))}, "ok", "cgroup v2", ""),
        ("ipvs", {"ipvs": False}, "warning", "no virtual IPs and no routing mesh", "modprobe ip_vs"),
        ("ipvs", {"engine_is_local": False}, "warning", "not checked", "swarmhpc doctor"),
        ("swarm", {"swarm_cluster": None}, "problem", "that swarmhpc did not make", "docker swarm leave --force"),
        ("swarm", {"swarm_cluster": "lab"}, "problem", "carries pool 'lab'", "swarmhpc down --pool lab"),
        (
            "swarm",
            {"engine": engine(is_manager=False), "swarm_cluster": None, "pool_runs": None},
            "problem",
            "a worker of a Swarm",
            "on a manager node",
        ),
        ("swarm", {"engine": engine(swarm_state="locked")}, "problem", "locked", "docker swarm unlock"),
        ("swarm", {"engine": engine(swarm_state="error")}, "problem", "'error'", "systemctl restart docker"),
        ("swarm", {"swarm_error": ("the swarm has no leader", "")}, "problem", "has no leader", "docker node ls"),
        ("nodes", {"swarm_error": ("the swarm has no leader", "")}, "warning", "not checked", "swarmhpc doctor"),
        ("nodes", {"nodes": (NODE, SECOND)}, "ok", "2 ready: m1, m2", ""),
        ("nodes", {"nodes": (SECOND,)}, "problem", "no node is marked", "swarmhpc up"),
        (
            "nodes",
            {"nodes": (DRAINED, SECOND)},
            "problem",
            "m1 (home of the queue) is ready, drain",
            "docker node update --availability active m1",
        ),
        ("nodes", {"nodes": (DOWN,)}, "problem", "is down, active", "start machine m1 (192.0.2.1)"),
        (
            "nodes",
            {"nodes": (NODE, replace(SECOND, state="down"))},
            "warning",
            "m2 is down, active",
            "start machine m2",
        ),
        ("ports", {"ports_taken": (9618, 2377)}, "ok", "held by the running pool", ""),
        ("ports", {"pool_runs": False, "ports_taken": (9618,)}, "problem", "port 9618", "ss -ltnp 'sport = :9618'"),
        (
            "ports",
            {"pool_runs": False, "ports_taken": (9618, 9619)},
            "problem",
            "port 9619 (wanted for access_point)",
            "ss -ltnp 'sport = :9618 or sport = :9619'",
        ),
        # The Swarm that is there already holds its own ports.
        ("ports", {"pool_runs": False, "ports_taken": (2377, 7946)}, "ok", "free", ""),
        ("ports", {"pool_runs": None}, "warning", "not checked", "swarmhpc doctor"),
        ("subnet", {"subnets": CLASH}, "warning", "10.73.4.0/24 of network lab", "10.76.0.0/16 into swarmhpc.yaml"),
        ("subnet", {"subnets": CLASH, "pool_runs": False}, "problem", "overlaps", "subnet: 10.76.0.0/16"),
        ("subnet", {"subnets": {"network six": ("fd00::/8",), "network host": ()}}, "ok", "overlaps nothing", ""),
        ("engine disk", {"engine_disk_mib": 5120}, "ok", "5 GiB free", ""),
        ("engine disk", {"engine_disk_mib": 5119}, "warning", "/var/lib/docker", "docker system df"),
        ("engine disk", {"engine_disk_mib": 1024}, "warning", "1 GiB free", "docker system df"),
        ("engine disk", {"engine_disk_mib": 1023}, "problem", "wanted at least 5 GiB", "docker system df"),
        ("engine disk", {"engine_disk_mib": None}, "warning", "not checked: this user may not", "swarmhpc doctor"),
        ("job disk", {"job_disk_mib": 0}, "problem", "/var/lib/swarmhpc/execute", "du -xsh"),
        ("image", {"image_is_here": False}, "problem", "no image swarmhpc/pool:abc", "swarmhpc images build"),
        ("image", {"image_is_here": False, "pool_runs": False}, "ok", "swarmhpc up will build it", ""),
        ("image", {"base_is_here": False}, "ok", "its base debian:forky-slim is not", ""),
        (
            "services",
            {"task_errors": ("swarmhpc_janitor: no space left on device",)},
            "problem",
            "swarmhpc_janitor: no space left on device",
            "docker service ps --no-trunc swarmhpc_janitor",
        ),
        ("job containers", {"jobs": (job("alive"),)}, "ok", "1 on this machine", ""),
        (
            "job containers",
            {"jobs": (job("alive", 1), job("dead", 2), job("dead", 3))},
            "warning",
            "2 of an executor that is gone: HTCJob2_0_slot1_1_PID7, HTCJob3",
            "docker rm -f -v 000000000000 000000000000",
        ),
        ("leftovers", {"pool_runs": False}, "ok", "only volume swarmhpc_queue: the queue, kept on purpose", ""),
        (
            "leftovers",
            {"pool_runs": False, "volumes": ("swarmhpc_accounting", "swarmhpc_queue", "odd")},
            "warning",
            "volumes odd",
            "docker volume rm odd",
        ),
        (
            "leftovers",
            {"pool_runs": False, "containers": (Container("c" * 64, "swarmhpc_x.1", "exited", {}),)},
            "warning",
            "1 containers, such as swarmhpc_x.1",
            "docker rm -f -v cccccccccccc",
        ),
        (
            "leftovers",
            {"pool_runs": False, "network_is_left": True},
            "warning",
            "network swarmhpc_pool",
            "docker network rm swarmhpc_pool",
        ),
        ("context", {"access": Access(exists=False, error="not known")}, "problem", "not known", "swarmhpc up"),
        (
            "context",
            {"access": Access(exists=True, error="can't be read"), "pool_runs": False},
            "problem",
            "can't be read",
            "swarmhpc up",
        ),
        (
            "context",
            {"access": replace(RUNNING.access, expires_at=NOW_S)},
            "problem",
            "the token of alice expired at 2027-01-15 08:00:00 UTC",
            "swarmhpc token create alice",
        ),
        ("context", {"access": replace(RUNNING.access, expires_at=NOW_S + 1)}, "ok", "token good", ""),
        (
            "context",
            {"access": replace(RUNNING.access, token_mode=0o640, token_file="/h/token")},
            "problem",
            "mode 0640",
            "chmod 600 /h/token",
        ),
        ("clock", {"now_s": 0.0}, "problem", "1970-01-01", "timedatectl set-ntp true"),
        ("clock", {"now_s": NOW_S - 5000.0}, "problem", "your token is younger", "timedatectl"),
        ("clock", {"image_made_s": NOW_S + 301.0}, "problem", "the pool's image is younger", "timedatectl"),
        ("clock", {"image_made_s": NOW_S + 299.0}, "ok", "2027-01-15", ""),
    ],
)
def test_a_finding_says_what_was_seen_and_how_to_mend_it(
    name: str, changes: dict[str, Any], status: str, seen: str, mend: str
) -> None:
    found = check(name, replace(RUNNING, **changes))
    assert found.status == status, found
    assert seen in found.seen
    assert mend in found.mend
    assert bool(found.mend) == (status != "ok")


def test_ports_of_the_swarm_matter_before_there_is_one() -> None:
    found = check("ports", replace(FRESH, ports_taken=(7946,)))
    assert (found.status, "Swarm's node discovery" in found.seen) == ("problem", True)


def test_ports_are_those_of_the_cluster_file() -> None:
    cluster = Cluster(ports=Ports(20001, 20002))
    assert check("ports", replace(FRESH, ports_taken=(20002,)), cluster).status == "problem"
    assert check("ports", replace(FRESH, ports_taken=(9618,)), cluster).status == "ok"


def test_without_ipvs_the_cluster_file_decides_how_bad_it_is() -> None:
    seen = replace(RUNNING, ipvs=False)
    by_mode = {mode: check("ipvs", seen, Cluster(networking=mode)).status for mode in ("auto", "vip", "dnsrr")}
    assert by_mode == {"auto": "warning", "vip": "problem", "dnsrr": "ok"}


def test_a_named_image_that_is_missing_is_pulled_not_built() -> None:
    cluster = Cluster(image=ImageKeys(name="r.example/pool:1"))
    found = check("image", replace(RUNNING, image="r.example/pool:1", image_is_here=False), cluster)
    assert found.mend == "docker pull r.example/pool:1"


# -- observing ----------------------------------------------------------------------------------------------------


class FakeEngine:
    """Answers like Engine; anything that doctor should not call is an AttributeError."""

    def __init__(self, info: EngineFacts, *, owner: str | None = "swarmhpc", swarm_fails: bool = False) -> None:
        self.info, self.owner, self.swarm_fails = info, owner, swarm_fails
        self.asked_swarm = False

    def facts(self) -> EngineFacts:
        return self.info

    def image(self, reference: str) -> Image | None:
        here = reference == images.reference(CLUSTER)
        return Image("sha256:1", (reference,), 1, "2026-11-21T09:50:00.123456789Z", {}) if here else None

    def network_subnets(self) -> dict[str, list[str]]:
        return {"bridge": ["172.17.0.0/16"], "swarmhpc_pool": ["10.73.0.0/16"]}

    def containers(self, *labels: str, everything: bool = True) -> list[Container]:
        task = Container("t1", "swarmhpc_executors.1", "running", {"com.docker.swarm.task.id": "alive"})
        answers: dict[tuple[Sequence[str], bool], list[Container]] = {
            ((state.LABEL_TASK,), True): [job("alive", 1), job("dead", 2)],
            (("com.docker.swarm.task.id",), False): [task],
            (("com.docker.stack.namespace=swarmhpc",), True): [task],
            ((f"{state.LABEL_CLUSTER}=swarmhpc",), True): [job("alive", 1), job("dead", 2)],
        }
        return answers[labels, everything]

    def volumes(self, cluster: str) -> list[str]:
        return [f"{cluster}_queue"]

    def swarm_cluster(self) -> str | None:
        self.asked_swarm = True
        return self.owner

    def nodes(self) -> list[Node]:
        if self.swarm_fails:
            raise EngineError("the swarm does not have a leader")
        return [NODE]

    def services(self, cluster: str) -> list[Service]:
        names = {"s1": "janitor", "s2": "executors"}
        return [
            Service(id=i, name=f"{cluster}_{n}", labels={}, replicas=1, image="i", container_spec="{}")
            for i, n in names.items()
        ]

    def tasks(self, service_id: str | None = None) -> list[Task]:
        refused = service_id == "s1"
        return [
            Task(
                id="t1",
                service_id=str(service_id),
                node_id="n1",
                slot=1,
                state="rejected" if refused else "running",
                desired="shutdown" if refused else "running",
                error="invalid mount config" if refused else "",
                container_id="c1",
                container_spec="{}",
            )
        ]


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "engine_is_local", lambda: True)
    monkeypatch.setattr(machine, "has_ipvs", lambda: True)
    monkeypatch.setattr(machine, "port_taken", lambda port: port == 9618)
    monkeypatch.setattr(machine, "free_disk_mib", lambda path: {"/var/lib/docker": 700}.get(path, 9000))
    monkeypatch.setattr(machine, "routes", lambda: {"eth0 192.0.2.0": "192.0.2.0/24"})


def observe(fake: FakeEngine) -> Facts:
    return doctor.observe(cast(Engine, fake), CLUSTER)


def test_the_engine_and_its_swarm_are_asked_for_everything(quiet_machine: None) -> None:
    seen = observe(FakeEngine(ENGINE))
    assert (seen.pool_runs, seen.swarm_cluster, seen.nodes) == (True, "swarmhpc", (NODE,))
    assert seen.task_errors == ("swarmhpc_janitor: invalid mount config",)
    assert seen.subnets == {"network bridge": ("172.17.0.0/16",), "route eth0 192.0.2.0": ("192.0.2.0/24",)}
    assert (seen.image_is_here, seen.base_is_here, seen.network_is_left) == (True, False, True)
    assert seen.image_made_s == pytest.approx(1795254600.123, abs=0.01)
    assert (seen.engine_disk_mib, seen.job_disk_mib, seen.ports_taken) == (700, 9000, (9618,))
    assert [c.name for c in seen.containers] == ["swarmhpc_executors.1"], "job containers are counted apart"
    orphans = [c for c in judge(seen, CLUSTER) if c.name == "job containers"]
    assert orphans[0].seen.startswith("1 of an executor that is gone: HTCJob2_0")


@pytest.mark.parametrize(
    ("info", "owner", "runs"),
    [
        (engine(swarm_state="inactive", is_manager=False), None, False),
        (engine(is_manager=False), None, None),
        (engine(swarm_state="locked", is_manager=False), None, None),
        (ENGINE, None, False),
        (ENGINE, "lab", False),
    ],
    ids=["no swarm", "worker", "locked", "foreign", "another pool's"],
)
def test_a_swarm_that_is_not_ours_is_not_asked_for_services(
    quiet_machine: None, info: EngineFacts, owner: str | None, runs: bool | None
) -> None:
    fake = FakeEngine(info, owner=owner, swarm_fails=True)
    seen = observe(fake)
    assert (seen.pool_runs, seen.swarm_error, seen.swarm_cluster) == (runs, ("", ""), owner)
    assert fake.asked_swarm == (info.is_manager and info.swarm_state == "active")


def test_a_swarm_without_a_leader_is_reported_and_the_engine_is_still_examined(quiet_machine: None) -> None:
    checks = {c.name: c for c in doctor.examine(cast(Engine, FakeEngine(ENGINE, swarm_fails=True)), CLUSTER)}
    assert (checks["swarm"].status, checks["swarm"].seen) == ("problem", "the swarm does not have a leader")
    assert checks["services"].seen.startswith("not checked")
    assert checks["engine disk"].status == "problem"


def test_an_engine_that_dies_while_it_is_asked_is_a_dead_engine(quiet_machine: None) -> None:
    class Dying(FakeEngine):
        def volumes(self, cluster: str) -> list[str]:  # noqa: ARG002
            raise EngineUnreachableError("no Docker engine answers at unix:///x", hint="systemctl start docker")

    checks = {c.name: c for c in doctor.examine(cast(Engine, Dying(ENGINE)), CLUSTER)}
    assert checks["engine"] == Check(
        "engine", "problem", "no Docker engine answers at unix:///x", "systemctl start docker"
    )
    assert checks["image"].seen == "not checked: the Docker engine gives no answer"


def test_without_a_connection_the_error_that_prevented_it_is_shown(quiet_machine: None) -> None:
    error = SwarmHpcError("permission denied", hint="sudo swarmhpc doctor")
    checks = {c.name: c for c in doctor.examine(None, CLUSTER, error=error)}
    assert (checks["engine"].seen, checks["engine"].mend) == ("permission denied", "sudo swarmhpc doctor")


def test_the_token_on_disk_is_read_with_its_mode(quiet_machine: None, tmp_path: Path) -> None:
    from swarmhpc import context

    ctx = context.Context("swarmhpc", "192.0.2.1", 9618, 9619, "alice")
    token = tokens.mint(
        tokens.new_signing_key(), pool="swarmhpc", identity="alice@swarmhpc", scopes=["READ"], now=5, lifetime_s=60
    )
    context.save(ctx, token.text)
    ctx.token_file.chmod(0o644)
    seen = observe(FakeEngine(ENGINE)).access
    assert seen == Access(True, "", "alice", 5, 65, 0o644, str(ctx.token_file))
    ctx.token_file.write_text("junk")
    assert "can't be read" in observe(FakeEngine(ENGINE)).access.error
