"""A pool over several machines with real IPVS, real ssh, real Ansible; driven through the command as a person would.

The tests tell one story and are in its order: bare machines, `up`, work, accidents, changes, `down`. Each prints the
figures it measured.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from swarmhpc import config, context
from swarmhpc.adapters import ansible
from swarmhpc.adapters.condor import Pool
from swarmhpc.adapters.docker import Engine, Node
from swarmhpc.adapters.slot_ads import Slot
from swarmhpc.cluster import bring
from swarmhpc.cluster import fleet as fleets
from swarmhpc.errors import SwarmHpcError
from swarmhpc.scaling import victims
from tests.command_line import TOP, Cli, until
from tests.lab.conftest import FIGURES
from tests.lab.machines import Lab

POOL = "labpool"
NAMES = ("n1", "n2", "n3")  # three managers; n1 holds the queue
FOURTH = "n4"
Inspect = Callable[[str], Host]
PLAIN = "executable = /bin/sh\ntransfer_executable = false\noutput = out.$(Process)\n"
IMAGE = "universe = docker\ndocker_image = debian\n" + PLAIN


def cluster_file(lab: Lab, *, managers: tuple[str, ...] = NAMES, workers: tuple[str, ...] = (), more: str = "") -> str:
    disk = {"n3": ", labels: {disk: hdd}"}
    machines = [f"  {n}: {{address: {lab.machine(n).address}, role: manager{disk.get(n, '')}}}" for n in managers]
    machines += [f"  {n}: {{address: {lab.machine(n).address}, labels: {{disk: ssd}}}}" for n in workers]
    return (
        f"name: {POOL}\nssh: {{key: {lab.key}, known_hosts: {lab.known_hosts}}}\nmachines:\n"
        + "\n".join(machines)
        + "\nexecutors:\n  executors: {replicas: 3, cpus: 1, memory: 384MiB, reserve: false}\n"
        + more
        + "drain_timeout: 15m\n"
    )


@pytest.fixture(scope="session")
def admin(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The administrator's own machine: this one, which is no node."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "swarmhpc.yaml").write_text(cluster_file(lab))
    return Cli(folder, tmp_path_factory.mktemp("home") / "config")


@pytest.fixture(scope="session")
def pool(admin: Cli) -> Iterator[Cli]:
    """The usable pool. Its image comes from this machine's engine, which has it or builds it first."""
    admin.ok("images", "build", timeout_s=1500)
    started = time.monotonic()
    done = admin.ok("up", timeout_s=1800)
    figure("up, from three bare machines to a usable pool", time.monotonic() - started)
    FIGURES.extend(f"           {line}" for line in done.err.splitlines() if line.startswith("["))
    yield admin


@pytest.fixture
def person(pool: Cli, tmp_path: Path) -> Iterator[Cli]:
    somebody = Cli(tmp_path, pool.config_home)
    yield somebody
    for job in json.loads(somebody.run("q", "--json").out or "[]"):
        somebody.run("rm", job["id"])


def figure(what: str, seconds: float) -> None:
    FIGURES.append(f"{seconds:7.1f} s  {what}")


class Watch:
    """The pool as the collector and the Swarm have it, asked through nodes that live."""

    def __init__(self, pool: Cli, lab: Lab, through: str) -> None:
        known = context._read(json.loads((pool.config_home / "swarmhpc" / POOL / "context.json").read_text()))
        token = (pool.config_home / "swarmhpc" / POOL / "tokens.d" / "token").read_text().strip()
        self._home = pool.config_home / f"through-{through}"
        self._known, self._token = replace(known, address=lab.machine(through).address, others=()), token
        cluster = config.load(pool.cwd / "swarmhpc.yaml")
        self._fleet = fleets.Fleet([m for m in cluster.machines if m.name == through])
        self._through = through

    def slots(self) -> list[Slot]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CONFIG_HOME", str(self._home))
            context.save(self._known, self._token)
            return Pool(self._known).slots()

    def executors(self) -> list[str]:
        """Nodes with a registered executor, one entry an executor; nothing while the collector is silent."""
        try:
            return sorted(s.node for s in self.slots() if s.partitionable)
        except SwarmHpcError:
            return []

    @property
    def engine(self) -> Engine:
        return self._fleet.engine(self._through)

    def nodes(self) -> dict[str, Node]:
        """By name; none while the managers choose a new leader."""
        try:
            return {n.name: n for n in self.engine.nodes()}
        except SwarmHpcError:
            return {}

    def state_of(self, name: str) -> str:
        """`ready`, `down`, `unknown`; empty where nobody can say."""
        return next((n.state for n in self.nodes().values() if n.name == name), "")

    def home_of(self, role: str) -> str:
        """The machine that runs the central manager or the access point; empty while nobody does."""
        with contextlib.suppress(SwarmHpcError):
            names = {n.id: n.name for n in self.engine.nodes()}
            for service in self.engine.services(POOL):
                if service.labels.get("swarmhpc.role") == role:
                    return next((names[t.node_id] for t in self.engine.tasks(service.id) if t.is_up), "")
        return ""

    def close(self) -> None:
        self._fleet.close()


@pytest.fixture
def watch(pool: Cli, lab: Lab) -> Iterator[Callable[[str], Watch]]:
    made: list[Watch] = []

    def through(name: str) -> Watch:
        made.append(Watch(pool, lab, name))
        return made[-1]

    yield through
    for w in made:
        w.close()


def start_jobs(person: Cli, count: int, seconds: int, *, more: str = "") -> str:
    """Plain jobs, one for each executor; returns their cluster once all run."""
    text = PLAIN + more + f"arguments = \"-c 'sleep {seconds}; echo done'\"\nrequest_memory = 64M\nqueue {count}\n"
    cluster = str(person.submit(text, "--json").json["clusters"][0]["cluster"])
    until(
        lambda: [j["status"] for j in jobs(person, cluster)].count("running") == count,
        timeout_s=180,
        what=f"{count} jobs running",
    )
    return cluster


def jobs(person: Cli, cluster: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(person.run("q", "--json").out or "[]")
    return [j for j in found if j["id"].startswith(f"{cluster}.")]


def all_managers_agree(watch: Callable[[str], Watch]) -> None:
    """Waits until each of the three knows the leader: one that comes back makes them elect anew, up to a minute."""
    watches = [watch(name) for name in NAMES]

    def leaders() -> list[str]:
        return [n.name for w in watches for n in w.nodes().values() if n.manager_status == "leader"]

    until(
        lambda: (found := leaders()) and found == [found[0]] * len(NAMES),
        timeout_s=240,
        what="all managers know the same leader",
    )


def process_runs(lab: Lab, name: str, words: str) -> None:
    """Waits until a job's own process runs there: the queue says so as soon as the executor has been asked."""
    until(
        lambda: lab.ssh(name, ["pgrep", "-xf", words], check=False).returncode == 0,
        timeout_s=120,
        what=f"{words} runs on {name}",
    )


def finished(person: Cli, cluster: str, count: int, *, timeout_s: float) -> list[int]:
    """Waits until all jobs are completed with exit code 0; how often each was begun."""
    until(
        lambda: [j["status"] for j in jobs(person, cluster)] == ["completed"] * count,
        timeout_s=timeout_s,
        what=f"all {count} jobs completed",
    )
    found = jobs(person, cluster)
    assert [j["exit_code"] for j in found] == [0] * count
    person.ok("fetch", cluster)
    assert [(person.cwd / f"out.{i}").read_text() for i in range(count)] == ["done\n"] * count
    return [j["attempts"] for j in found]


# -- bare machines to a pool ----------------------------------------------------------------------------------------


def test_three_bare_machines_become_a_pool_with_one_up(pool: Cli, inspect: Inspect) -> None:
    for name in NAMES:
        host = inspect(name)
        assert host.package("docker.io").is_installed
        assert host.service("docker").is_running
        assert host.service("docker").is_enabled
        modules = host.check_output("cat /proc/modules")
        assert {"ip_vs", "vxlan", "overlay"} <= {line.split()[0] for line in modules.splitlines()}
        assert "ip_vs" in host.file("/etc/modules-load.d/swarmhpc.conf").content_string
        for port in (2377, 7946, 9618, 9619):
            assert host.socket(f"tcp://{port}").is_listening, f"{name}: {port}"
        execute = host.file("/var/lib/swarmhpc/execute")
        assert execute.is_directory
        assert (execute.user, execute.mode) == ("root", 0o755)
        assert host.file("/etc/swarmhpc/prepared.json").is_file
        assert "swarmhpc/pool" in host.check_output("docker images --format '{{.Repository}}'")


def test_a_second_up_changes_nothing(pool: Cli) -> None:
    started = time.monotonic()
    again = pool.ok("up")
    assert "nothing to do" in again.err
    figure("up again, nothing to do", time.monotonic() - started)


def test_preparing_a_prepared_machine_changes_nothing(pool: Cli) -> None:
    """`up` asks only machines that need it; here Ansible is made to look."""
    cluster = config.load(pool.cwd / "swarmhpc.yaml")
    with fleets.opened(cluster.machines) as fleet:
        started = time.monotonic()
        results = ansible.run(
            "prepare",
            [bring.target(fleet, name) for name in NAMES],
            variables=bring.variables(cluster),
            known_hosts=bring.known_hosts(cluster),
            on_host=lambda *_: None,
        )
    figure("Ansible over three prepared machines", time.monotonic() - started)
    assert [(r.name, r.ok, r.changed) for r in results.values()] == [(n, True, 0) for n in NAMES]


def test_the_node_list_names_all_managers_and_one_leader(pool: Cli) -> None:
    rows = pool.ok("node", "list", "--json").json
    assert [(r["name"], r["role"], r["state"]) for r in rows] == [(n, "manager", "ready") for n in NAMES]
    assert sum(r["is_leader"] for r in rows) == 1
    assert [r["name"] for r in rows if r["holds_queue"]] == ["n1"]


def test_the_canonical_job_runs_through_every_nodes_address(pool: Cli, lab: Lab, tmp_path: Path) -> None:
    """As somebody on a machine of their own, who knows one address and has a token."""
    pool.ok("token", "create", "alice", "-o", tmp_path / "alice.token")
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        alice = Cli(folder, folder / "config")
        alice.ok("login", lab.machine(name).address, "--token-file", tmp_path / "alice.token")
        text = (TOP / "examples" / "hosts.sub").read_text().replace("queue 10", "queue 2")
        found = alice.results(text)
        assert [j["exit_code"] for j in found] == [0, 0]


def test_output_shells_and_events_come_from_every_node_through_any_nodes_address(
    pool: Cli, lab: Lab, tmp_path: Path
) -> None:
    """Through the mesh at a node's address to the gateway beside the queue, and from there to the job's own node."""
    pool.ok("token", "create", "alice", "-o", tmp_path / "alice.token")
    alice = Cli(tmp_path, tmp_path / "config")
    alice.ok("login", lab.machine("n3").address, "--token-file", tmp_path / "alice.token")
    script = "echo begun; until [ -e go ]; do sleep 0.2; done; echo on $HOSTNAME; exit 3"
    text = f"docker_image = debian\nexecutable = /bin/bash\narguments = \"-c '{script}'\"\noutput = $(Process).out\n"
    queued = alice.submit(text + "request_memory = 64M\nqueue 3\n", "--json")  # one for each executor
    cluster = str(queued.json["clusters"][0]["cluster"])
    ids = [f"{cluster}.{n}" for n in range(3)]
    followers = [alice.start("logs", i, "--follow") for i in ids]
    for job in ids:
        until(lambda: alice.run("logs", job).out == "begun\n", timeout_s=120, what=f"{job} has begun")  # noqa: B023
        alice.ok("ssh", job, "--", "touch", "go")
    said = [f.communicate(timeout=120)[0] for f in followers]
    assert all(re.fullmatch(r"begun\non \S+\n", s) for s in said), said
    hosts = {j["host"].partition(".")[0] for j in alice.ok("q", cluster, "--jobs", "--json").json}
    assert len(hosts) == 3, "no job ran on another node than the others"
    events = [json.loads(line) for line in alice.ok("events", "--since", "10m", "--job", cluster).out.splitlines()]
    assert {(e["id"], e["exit_code"]) for e in events if e["state"] == "FAILED"} == {(i, 3) for i in ids}
    alice.ok("rm", cluster)
    ran = alice.run("run", "--memory", "64M", "debian", "--", "sh", "-c", "echo out; exit 4")
    assert (ran.code, ran.out) == (4, "out\n")


def test_htcondors_own_tools_find_the_queue_through_the_collector_of_any_node(
    pool: Cli, lab: Lab, tmp_path: Path
) -> None:
    """From outside, with nothing but a token and one address (any node's)."""
    image = next(i["tags"][0] for i in pool.ok("images", "list", "--json").json if i["tags"])
    token = pool.config_home / "swarmhpc" / POOL / "tokens.d" / "token"

    def tool(*argv: str) -> str:
        settings = {"COLLECTOR_HOST": f"{lab.machine('n3').address}:9618", "TRUST_DOMAIN": POOL, "UID_DOMAIN": POOL}
        settings |= {"SEC_DEFAULT_AUTHENTICATION_METHODS": "IDTOKENS", "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS"}
        environment = [word for key, value in settings.items() for word in ("-e", f"_CONDOR_{key}={value}")]
        mounts = ["-v", f"{token}:/etc/condor/tokens.d/token:ro", "-v", f"{tmp_path}:/work", "-w", "/work"]
        command = ["docker", "run", "--rm", "--network", "host", *environment, *mounts, "--entrypoint", argv[0], image]
        done = subprocess.run([*command, *argv[1:]], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert len(tool("condor_status", "-af", "Machine").split()) == 3
    (tmp_path / "job.sub").write_text("executable = /bin/true\ntransfer_executable = false\nqueue\n")
    said = tool("condor_submit", "-terse", "-remote", f"access-point@{POOL}", "job.sub")
    number = said.split(".")[0]
    until(
        lambda: tool("condor_q", "-name", f"access-point@{POOL}", number, "-af", "JobStatus").strip() == "4",
        timeout_s=120,
        what="the job of condor_submit is completed",
    )
    tool("condor_rm", "-name", f"access-point@{POOL}", number)


def test_doctor_finds_nothing_wrong_and_packets_of_full_size_cross(pool: Cli) -> None:
    done = pool.ok("doctor", "--json")
    checks = done.json
    assert [c for c in checks if c["status"] == "problem"] == []
    assert any("1450" in c["seen"] or "cross" in c["seen"] for c in checks if c["status"] == "ok")


# -- VIP and mesh on real IPVS --------------------------------------------------------------------------------------

_SERVER = (
    "use IO::Socket::INET; my $s=IO::Socket::INET->new(LocalPort=>8080,Listen=>9,ReuseAddr=>1) or die;"
    "while(my $c=$s->accept){print $c $ENV{HOSTNAME}.qq(\\n); close $c}"
)


def test_doctor_names_the_two_nodes_between_which_packets_are_lost(pool: Cli, lab: Lab) -> None:
    rules = [
        f"INPUT -s {lab.machine('n3').address} -p {way} -j DROP" for way in ("udp --dport 4789", "tcp --dport 7946")
    ]
    lab.ssh("n2", "\n".join(f"iptables -I {rule}" for rule in rules))
    try:
        seen = pool.run("doctor", "--json")
    finally:
        lab.ssh("n2", "\n".join(f"iptables -D {rule}" for rule in rules))
    assert seen.code == 1
    found = [(c["name"], c["machine"]) for c in json.loads(seen.out) if c["status"] == "problem"]
    assert {("connections", "n3 → n2"), ("overlay", "n2 ↔ n3")} <= set(found)
    # Where the central manager is behind that way, the mesh of the other end of it doesn't answer either.
    assert {name for name, _ in found} == {"connections", "overlay"}, found


def test_both_replicas_answer_through_the_vip_and_the_mesh_on_a_node_without_one(
    pool: Cli, lab: Lab, inspect: Inspect
) -> None:
    n1 = inspect("n1")
    image = n1.check_output("docker images swarmhpc/pool --format '{{.Repository}}:{{.Tag}}'").splitlines()[0]
    create = (
        "docker network create -d overlay --attachable --subnet 10.99.0.0/24 proof && "
        "docker service create -q --detach --no-resolve-image --name web --replicas 2 --network proof "
        "--publish 8080:8080 --constraint node.hostname!=n3 --hostname 'web-{{.Task.Slot}}' "
        f"--entrypoint perl {image} -e '{_SERVER}'"
    )
    loop = "for i in 1 2 3 4 5 6; do cat </dev/tcp/{}/8080; done"
    inside = f"docker run --rm --network proof --entrypoint bash {image} -c '{loop.format('web')}'"
    outside = ["bash", "-c", loop.format(lab.machine("n3").address)]

    def through_the_mesh() -> set[str]:
        done = subprocess.run(outside, capture_output=True, text=True, timeout=60, check=False)
        return set(done.stdout.split())

    both = {"web-1", "web-2"}
    try:
        lab.ssh("n1", create)
        until(
            lambda: set(lab.ssh("n2", inside, check=False).stdout.split()) == both,
            timeout_s=120,
            what="both replicas answer through the VIP",
        )
        assert lab.ssh("n3", "docker ps -q --filter name=web").stdout == ""
        until(
            lambda: through_the_mesh() == both, timeout_s=120, what="both answer at the address of a node without one"
        )
    finally:
        lab.ssh("n1", "docker service rm web", check=False)
        until(
            lambda: lab.ssh("n1", "docker network rm proof", check=False).returncode == 0,
            timeout_s=120,
            what="the network of the proof is gone",
        )


def test_services_of_the_pool_are_found_by_virtual_ips(pool: Cli, watch: Callable[[str], Watch]) -> None:
    engine = watch("n1").engine
    assert {engine.endpoint_mode(s.id) for s in engine.services(POOL)} == {"vip"}


# -- accidents ------------------------------------------------------------------------------------------------------


def test_over_three_nodes_the_idle_ones_go_first_and_swarm_removes_what_was_foretold(
    pool: Cli, person: Cli, watch: Callable[[str], Watch]
) -> None:
    w = watch("n1")
    started = time.monotonic()
    pool.ok("scale", "executors=7")
    figure("scale 3 to 7 over three nodes, until registered", time.monotonic() - started)
    on_node = {n: w.executors().count(n) for n in NAMES}
    full = max(on_node, key=lambda n: on_node[n])
    assert on_node[full] == 3
    # Swarm alone would take one of the fullest node's first. All of them are busy, and nobody else is.
    at = f'requirements = SwarmHpcNode == "{full}"\narguments = "-c \'sleep 40\'"\nqueue 3\n'
    assert person.submit(PLAIN + at).code == 0
    busy = until(
        lambda: h if len(h := {s.executor for s in w.slots() if s.is_claimed}) == 3 else None,
        timeout_s=60,
        what=f"three jobs run on {full}",
    )
    started = time.monotonic()
    done = pool.ok("scale", "executors=4")
    figure("scale 7 to 4 over three nodes, idle ones while the fullest node is busy", time.monotonic() - started)
    assert "3 have left" in done.err and "draining" not in done.err
    assert busy <= {s.executor for s in w.slots()} and len(w.executors()) == 4
    # Plain `docker service scale`: what it takes is what `victims` says.
    (service,) = (s for s in w.engine.services(POOL) if s.name == f"{POOL}_executors")
    before = rows(w.engine, service.id)
    w.engine.scale(service.id, 2)
    foretold = victims.removal(before, 2)
    taken = until(
        lambda: t if len(t := victims.surplus(before, rows(w.engine, service.id))) == 2 else None,
        timeout_s=30,
        what="Swarm has chosen two",
    )
    assert foretold.certain <= taken <= foretold.certain | foretold.tied
    FIGURES.append("           " + json.dumps({"before": [asdict(r) for r in before], "taken": sorted(taken)}))
    pool.ok("scale", "executors=3")
    jobs = ended(person, 3)
    assert {(j["attempts"], j["exit_code"]) for j in jobs} == {(1, 0)}


def rows(engine: Engine, service: str) -> list[victims.TaskRow]:
    return [victims.TaskRow(t.id, t.slot, t.node_id, t.state, t.desired, t.changed_at) for t in engine.tasks(service)]


def ended(person: Cli, count: int) -> list[dict[str, Any]]:
    def look() -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = person.ok("q", "--json").json
        return jobs if len(jobs) == count and all(j["status"] == "completed" for j in jobs) else []

    jobs: list[dict[str, Any]] = until(look, timeout_s=180, what=f"{count} jobs completed")
    return jobs


def test_the_central_managers_machine_dies_a_manager_of_three_and_the_pool_heals(
    pool: Cli, person: Cli, lab: Lab, watch: Callable[[str], Watch]
) -> None:
    """Its machine also is a manager of three and runs an executor: two accidents in one."""
    n1 = watch("n1")
    if n1.home_of("central-manager") == "n1":  # with the queue: that machine's death is another story
        lab.ssh("n1", f"docker service update -q --detach --constraint-add node.hostname!=n1 {POOL}_central-manager")
        until(lambda: n1.home_of("central-manager") not in ("", "n1"), timeout_s=120, what="central manager elsewhere")
    until(lambda: n1.executors() == sorted(NAMES), timeout_s=120, what="an executor on each machine")
    dies = n1.home_of("central-manager")
    cluster = start_jobs(person, 3, 40, more="job_lease_duration = 60\n")  # the pool's own is two minutes
    process_runs(lab, dies, "sleep 40")
    lab.power_off(dies)
    died = time.monotonic()
    until(lambda: n1.state_of(dies) == "down", timeout_s=120, what="Swarm notices")
    figure("central manager's machine off: Swarm notices", time.monotonic() - died)
    until(lambda: n1.executors(), timeout_s=120, what="the collector answers")
    figure("central manager's machine off: the collector answers again", time.monotonic() - died)
    until(lambda: len(n1.executors()) == 3 and dies not in n1.executors(), timeout_s=120, what="all slots are back")
    figure("central manager's machine off: all slots are back (by hand 83 s, wanted 45 s)", time.monotonic() - died)
    attempts = finished(person, cluster, 3, timeout_s=400)
    figure("central manager's machine off: its job (40 s, lease 60 s) has run again elsewhere", time.monotonic() - died)
    assert sorted(attempts)[:2] == [1, 1], attempts  # only the job whose machine died was begun again
    lab.boot([dies])
    until(lambda: n1.state_of(dies) == "ready", timeout_s=240, what="the machine is a node again")
    all_managers_agree(watch)
    assert "nothing to do" in pool.ok("up").err
    assert len(n1.executors()) == 3


def test_a_node_cut_off_for_a_minute_comes_back_and_no_job_is_begun_again(
    pool: Cli, person: Cli, lab: Lab, watch: Callable[[str], Watch]
) -> None:
    n1 = watch("n1")
    until(lambda: len(n1.executors()) == 3, timeout_s=120, what="three executors")
    cut = next(n for n in n1.executors() if n != "n1")
    cluster = start_jobs(person, 3, 100)
    process_runs(lab, cut, "sleep 100")
    lab.cut(cut)
    began = time.monotonic()
    try:
        until(lambda: n1.state_of(cut) == "down", timeout_s=120, what="Swarm notices")
        until(lambda: time.monotonic() - began >= 60, timeout_s=90, what="a minute")
    finally:
        lab.heal(cut)
    healed = time.monotonic()
    until(lambda: n1.state_of(cut) == "ready", timeout_s=240, what="the node is back")
    figure("cut off for a minute: the node is back", time.monotonic() - healed)
    all_managers_agree(watch)
    assert finished(person, cluster, 3, timeout_s=400) == [1, 1, 1]
    until(lambda: len(n1.executors()) == 3, timeout_s=120, what="no executor twice")
    figure("cut off for a minute: three executors and no more are registered", time.monotonic() - healed)


# -- changes --------------------------------------------------------------------------------------------------------


def test_a_fourth_machine_joins_a_running_pool_and_takes_a_class_of_its_own(
    pool: Cli, person: Cli, lab: Lab, watch: Callable[[str], Watch]
) -> None:
    lab.boot([FOURTH])
    cluster = start_jobs(person, 2, 20)
    started = time.monotonic()
    added = pool.ok(
        "node", "add", FOURTH, "--address", lab.machine(FOURTH).address, "--label", "disk=ssd", timeout_s=1200
    )
    figure("node add of a bare machine", time.monotonic() - started)
    assert f"{FOURTH}:" in added.err  # the line for the file
    assert finished(person, cluster, 2, timeout_s=200) == [1, 1]
    n1 = watch("n1")
    for disk, node in (("hdd", "n3"), ("ssd", FOURTH)):  # a new class, then another placement for it
        more = f"  big: {{replicas: 1, cpus: 1, memory: 384MiB, reserve: false, placement: {{disk: {disk}}}}}\n"
        (pool.cwd / "swarmhpc.yaml").write_text(cluster_file(lab, workers=(FOURTH,), more=more))
        pool.ok("up")
        until(
            lambda where=node: [s.node for s in n1.slots() if s.class_name == "big"] == [where],  # type: ignore[misc]
            timeout_s=120,
            what=f"the class big on {node}",
        )


def test_draining_waits_for_the_jobs_of_the_node(pool: Cli, person: Cli, watch: Callable[[str], Watch]) -> None:
    """Longer than Swarm's own patience of a minute."""
    text = (
        PLAIN + "arguments = \"-c 'sleep 75; echo done'\"\nrequest_memory = 64M\n"
        'requirements = SwarmHpcClass == "big"\nqueue\n'
    )
    cluster = str(person.submit(text, "--json").json["clusters"][0]["cluster"])
    until(lambda: [j["status"] for j in jobs(person, cluster)] == ["running"], timeout_s=120, what="the job runs")
    pool.ok("node", "drain", FOURTH, timeout_s=400)
    assert finished(person, cluster, 1, timeout_s=120) == [1]
    assert FOURTH not in watch("n1").executors()
    again = pool.ok("node", "drain", FOURTH)
    assert "nothing to do" in again.err
    pool.ok("node", "activate", FOURTH)


def test_a_worker_is_killed_and_removed_by_force(pool: Cli, lab: Lab, watch: Callable[[str], Watch]) -> None:
    n1 = watch("n1")
    until(lambda: FOURTH in n1.executors(), timeout_s=180, what="the class big is back")
    lab.power_off(FOURTH)
    until(lambda: n1.state_of(FOURTH) == "down", timeout_s=120, what="Swarm notices")
    until(lambda: FOURTH not in n1.executors(), timeout_s=120, what="the collector forgets it")
    refused = pool.run("node", "remove", FOURTH)
    assert refused.code != 0
    assert "--force" in refused.err
    (pool.cwd / "swarmhpc.yaml").write_text(cluster_file(lab))
    pool.ok("up")
    pool.ok("node", "remove", FOURTH, "--force")
    assert sorted(n1.nodes()) == sorted(NAMES)
    assert "nothing to do" in pool.ok("up").err


def test_the_node_with_the_queue_is_not_removed_without_a_word_where_the_queue_goes(pool: Cli) -> None:
    refused = pool.run("node", "remove", "n1")
    assert refused.code == 2
    assert "--queue-to" in refused.err


def test_the_node_with_the_queue_leaves_the_queue_goes_elsewhere_and_the_node_comes_back(
    pool: Cli, person: Cli, watch: Callable[[str], Watch], inspect: Inspect
) -> None:
    """A living machine, first of three managers, with jobs in its queue and perhaps one on itself."""
    held = str(
        person.submit(PLAIN + "arguments = \"-c 'true'\"\nhold = true\nqueue\n", "--json").json["clusters"][0][
            "cluster"
        ]
    )
    cluster = start_jobs(person, 3, 30)
    started = time.monotonic()
    pool.ok("node", "remove", "n1", "--queue-to", "n2", timeout_s=600)
    figure("node remove of a living manager, with its jobs (30 s) and the queue moved", time.monotonic() - started)
    n2 = watch("n2")
    assert n2.home_of("access-point") == "n2"
    assert sorted(n2.nodes()) == ["n2", "n3"]
    host = inspect("n1")
    assert host.check_output("docker info --format '{{.Swarm.LocalNodeState}}'") == "inactive"
    assert host.check_output("docker volume ls -q") == ""
    assert finished(person, cluster, 3, timeout_s=200) == [1, 1, 1]
    assert [j["status"] for j in jobs(person, held)] == ["held"]
    pool.ok("up")  # the file still names it
    assert sorted(n2.nodes()) == sorted(NAMES)
    assert n2.home_of("access-point") == "n2"
    assert "nothing to do" in pool.ok("up").err


# -- bad input ------------------------------------------------------------------------------------------------------


def test_machines_that_can_not_be_used_are_named_one_by_one_and_the_others_go_on(pool: Cli, lab: Lab) -> None:
    good = (pool.cwd / "swarmhpc.yaml").read_text()
    lab.boot([FOURTH])
    address = lab.machine(FOURTH).address
    wrong_key = pool.cwd / "wrong_key"
    if not wrong_key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(wrong_key)], check=True)
    bad = f"  gone: {{address: 10.77.0.99}}\n  locked: {{address: {address}, ssh: {{key: {wrong_key}}}}}\n"
    (pool.cwd / "swarmhpc.yaml").write_text(good.replace("\nexecutors:", "\n" + bad + "executors:", 1))
    try:
        seen = pool.run("up")
        assert seen.code == 1
        assert "machine gone (10.77.0.99) can't be reached over ssh" in seen.err
        assert f"machine locked ({address}): ssh refuses user root with {wrong_key}" in seen.err
        assert pool.run("status").code == 0
        (pool.cwd / "swarmhpc.yaml").write_text(
            good.replace("\nexecutors:", f"\n  n4: {{address: {address}}}\nexecutors:", 1)
        )
        seen = pool.run("up")
        assert seen.code == 1
        assert re.search(r"machine n4.* Swarm", seen.err)  # it was removed by force and does not know
        (pool.cwd / "swarmhpc.yaml").write_text(
            good.replace("\nexecutors:", f"\n  poor: {{address: {address}, ssh: {{user: nosudo}}}}\nexecutors:", 1)
        )
        seen = pool.run("up")
        assert seen.code == 1
        assert f"machine poor ({address}): user nosudo may not become root without a password" in seen.err
    finally:
        (pool.cwd / "swarmhpc.yaml").write_text(good)
    pool.ok("up")  # the firewalls of the others had let them in
    assert "nothing to do" in pool.ok("up").err


# -- the end --------------------------------------------------------------------------------------------------------


def test_down_keeps_queue_images_and_preparation_and_up_brings_the_pool_back(
    pool: Cli, person: Cli, inspect: Inspect
) -> None:
    held = PLAIN + "arguments = \"-c 'echo kept'\"\nhold = true\nqueue\n"
    cluster = person.submit(held, "--json").json["clusters"][0]["cluster"]
    started = time.monotonic()
    pool.ok("down", "--now", timeout_s=600)
    figure("down of three machines", time.monotonic() - started)
    for name in NAMES:
        host = inspect(name)
        assert host.check_output("docker info --format '{{.Swarm.LocalNodeState}}'") == "inactive"
        assert not host.file("/var/lib/swarmhpc/execute").exists
        assert not host.interface("docker_gwbridge").exists
        assert host.check_output("docker ps -aq") == ""
    file = pool.cwd / "swarmhpc.yaml"
    file.write_text(file.read_text() + "encrypted: true\n")
    started = time.monotonic()
    pool.ok("up", timeout_s=600)
    figure("up, from three prepared machines to a usable pool (with an encrypted overlay)", time.monotonic() - started)
    assert "proto esp" in inspect("n1").check_output("ip xfrm state")
    assert [(j["id"], j["status"]) for j in jobs(person, cluster)] == [(f"{cluster}.0", "held")]


def test_without_virtual_ips_the_pool_answers_where_its_queue_is(pool: Cli, person: Cli, tmp_path: Path) -> None:
    """The same machines, as if their kernels had no IPVS; a running pool changes over."""
    file = pool.cwd / "swarmhpc.yaml"
    file.write_text(file.read_text() + "networking: dnsrr\n")
    pool.ok("up", timeout_s=600)
    shown = pool.ok("status", "--json").json
    assert shown["networking"] == "dnsrr"
    assert {n["name"] for n in shown["nodes"]} == set(NAMES)
    cluster = start_jobs(person, 3, 20)
    assert finished(person, cluster, 3, timeout_s=120) == [1, 1, 1]
    assert len({s["node"] for s in shown["slots"]}) > 1
    pool.ok("token", "create", "bob", "-o", tmp_path / "bob.token")
    bob = Cli(tmp_path, tmp_path / "config")
    for machine in config.load(file).machines:
        answers = machine.address == shown["address"]
        assert (bob.run("login", machine.address, "--token-file", tmp_path / "bob.token").code == 0) is answers
    pool.ok("doctor")


def test_a_queue_on_a_shared_filesystem_moves_by_itself_when_its_node_dies(
    pool: Cli, person: Cli, lab: Lab, watch: Callable[[str], Watch]
) -> None:
    """NFS from a fourth machine. The dead node's lock on the queue holds for the server's lease, here 15 s."""
    lab.boot([FOURTH])
    lab.ssh(
        FOURTH,
        """
        apt-get -qq update && apt-get -qqy install --no-install-recommends nfs-kernel-server >/dev/null
        mkdir -p /srv/shared && echo '/srv/shared *(rw,sync,no_root_squash,no_subtree_check)' >/etc/exports
        printf '[nfsd]\\nlease-time=15\\ngrace-time=15\\n' >/etc/nfs.conf.d/lab.conf
        systemctl restart nfs-server""",
    )
    mount = f"mkdir -p /shared && mount -t nfs4 {lab.machine(FOURTH).address}:/srv/shared /shared"
    for name in NAMES:
        lab.ssh(name, "apt-get -qq update && apt-get -qqy install --no-install-recommends nfs-common >/dev/null")
        lab.ssh(name, mount)
    pool.ok("down", "--now", timeout_s=600)
    file = pool.cwd / "swarmhpc.yaml"
    file.write_text(file.read_text().replace("networking: dnsrr\n", "") + "queue: {path: /shared/queue}\n")
    missing = pool.run("up")
    assert missing.code == 1
    assert "n1: queue.path: there is no directory /shared/queue" in missing.err
    lab.ssh(FOURTH, "mkdir /srv/shared/queue")
    pool.ok("up", timeout_s=600)

    cluster = start_jobs(person, 3, 75)
    dies = watch("n1").home_of("access-point")
    survivor = watch(next(n for n in NAMES if n != dies))
    elsewhere = sum(n != dies for n in survivor.executors())
    assert elsewhere, "all executors are on the access point's node"
    lab.power_off(dies)
    died = time.monotonic()
    until(lambda: survivor.home_of("access-point") not in ("", dies), timeout_s=120, what="another access point")
    until(lambda: person.run("q").code == 0, timeout_s=240, what="the queue answers")
    figure("queue on NFS (server's lease 15 s), its machine off: the queue answers again", time.monotonic() - died)
    until(
        lambda: [(j["status"], j["attempts"]) for j in jobs(person, cluster)].count(("completed", 1)) >= elsewhere,
        timeout_s=400,
        what="the jobs of the machines that live have ended, begun once",
    )
    figure("queue on NFS, its machine off: jobs (75 s) elsewhere have ended, begun once", time.monotonic() - died)
    person.ok("rm", cluster)
    lab.boot([dies])
    lab.ssh(dies, mount)
    all_managers_agree(watch)
    pool.ok("up", timeout_s=600)


def test_down_takes_all_machines_apart_and_purge_leaves_them_as_they_were(pool: Cli, inspect: Inspect) -> None:
    started = time.monotonic()
    pool.ok("down", "--purge", timeout_s=900)
    figure("down --purge of three machines", time.monotonic() - started)
    for name in NAMES:
        host = inspect(name)
        assert not host.package("docker.io").is_installed
        assert not host.file("/etc/swarmhpc").exists
        assert not host.file("/etc/modules-load.d/swarmhpc.conf").exists
        assert not host.file("/var/lib/swarmhpc").exists
        assert not host.file("/var/lib/docker").exists
        for port in (2377, 7946, 9618, 9619):
            assert not host.socket(f"tcp://{port}").is_listening
    assert "nothing to do" in pool.ok("down").err
