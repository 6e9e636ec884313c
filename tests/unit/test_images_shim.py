"""The docker command that HTCondor sees on an executor: run for real, in front of a strict recording fake."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from swarmhpc import state

SHIM = state.assets("images") / "pool" / "docker"
NAME = "HTCJob12_3_slot1_1_PID77"
TASK = "taskofmine"
SCRATCH = f"/var/lib/swarmhpc/execute/{TASK}"

# What HTCondor 25.14 asks for (src/condor_utils/docker-api.cpp): options before the image, the job's words after it.
OPTIONS = [
    "--cpu-shares=200",
    "--memory=100m",
    "--cap-drop=all",
    "--security-opt",
    "no-new-privileges",
    "--label=org.htcondorproject=True",
    "--hostname",
    "alice-12.3",
    "--name",
    NAME,
    "-e",
    "HOME=/root --privileged",
    "--volume",
    f"{SCRATCH}/dir_5:{SCRATCH}/dir_5",
    "--workdir",
    f"{SCRATCH}/dir_5",
    "--user",
    "20001:20001",
    "--group-add",
    "20001",
]
JOB = ["debian", "/bin/cat", "/etc/hosts"]

# Strict: a verb it was not told about ends with 64. `owner`: the task whose container has the wanted name already.
FAKE = r"""#!/bin/sh
{ printf '%s\037' "$@"; printf '\036'; } >> "$FAKE_DIR/log"
case "$1" in
create)
  if [ -e "$FAKE_DIR/no-image" ]; then echo "Unable to find image" >&2; exit 125; fi
  if [ -e "$FAKE_DIR/owner" ]; then
    echo 'Error response from daemon: Conflict. The container name "/x" is already in use by container "abc".' >&2
    exit 1
  fi
  echo c0ffee ;;
inspect)
  if [ "$3" = image ] && [ ! -e "$FAKE_DIR/here" ]; then echo "Error: No such image" >&2; exit 1; fi
  cat "$FAKE_DIR/owner" 2>/dev/null || echo '[{}]' ;;
rm) rm -f "$FAKE_DIR/owner"; echo "$3" ;;
pull) if [ -e "$FAKE_DIR/no-pull" ]; then echo "pull access denied for $2" >&2; exit 1; fi; echo "fake $1" ;;
container|start|kill|pause|unpause|exec|info|images|tag|version|-v|rmi) echo "fake $1" ;;
*) echo "fake docker: unexpected: $*" >&2; exit 64 ;;
esac
"""


@dataclass(frozen=True)
class Ran:
    """How one call of the shim ended, and the calls that the real docker got for it."""

    code: int
    out: str
    err: str
    calls: list[list[str]]


@dataclass
class Executor:
    """A shim in front of a fake docker, with the environment of an executor."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def docker(self, *argv: str) -> Ran:
        log = self.folder / "log"
        log.unlink(missing_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "FAKE_DIR": str(self.folder),
            "SWARMHPC_EXECUTE": SCRATCH,
            "SWARMHPC_CLUSTER": "lab",
            "SWARMHPC_TASK": TASK,
            "SWARMHPC_VOLUMES": "/data:/data:ro|/srv/in:/in",
            "SWARMHPC_PIDS_LIMIT": "500",
            "SWARMHPC_ALLOW_HOST_NETWORK": "false",
            **self.env,
        }
        done = subprocess.run(
            [str(self.folder / "shim"), *argv], env=environment, capture_output=True, text=True, check=False
        )
        calls = log.read_text().split("\036")[:-1] if log.exists() else []
        return Ran(done.returncode, done.stdout, done.stderr, [c.split("\037")[:-1] for c in calls])

    def create(self, *extra: str, without: tuple[str, ...] = (), job: list[str] = JOB) -> Ran:
        options = [o for o in OPTIONS if o not in without]
        return self.docker("create", *options, *extra, *job)


@pytest.fixture
def executor(tmp_path: Path) -> Executor:
    text = SHIM.read_text()
    line = "real=/usr/bin/docker\n"
    assert text.count(line) == 1, "the one line that says where the real docker is"
    folder = "jobs=/run/swarmhpc "
    assert text.count(folder) == 1, "the one line that says where what the shim remembers is"
    shim, fake, jobs = tmp_path / "shim", tmp_path / "fake", tmp_path / "jobs"
    jobs.mkdir()
    shim.write_text(text.replace(line, f"real={fake}\n").replace(folder, f"jobs={jobs} "))
    fake.write_text(FAKE)
    shim.chmod(0o755)
    fake.chmod(0o755)
    return Executor(tmp_path)


def option(argv: list[str], name: str) -> list[str]:
    """Every value of an option, as `--a=b` or `--a b`, before the image."""
    head = argv[: argv.index("debian")]
    joined = [a.partition("=")[2] for a in head if a.startswith(f"{name}=")]
    return joined + [b for a, b in itertools.pairwise(head) if a == name]


def refused(ran: Ran, words: str) -> None:
    assert (ran.code, ran.calls) == (125, []), ran
    assert ran.err.startswith("swarmhpc: refused on this executor: ")
    assert words in ran.err


# -- create --------------------------------------------------------------------------------------------------


def test_create_adds_hard_limits_and_labels_and_keeps_every_word_of_htcondors(executor: Executor) -> None:
    ran = executor.create()
    assert ran.code == 0, ran.err
    [argv] = ran.calls
    assert argv[0] == "create"
    assert argv[-len(OPTIONS) - len(JOB) :] == [*OPTIONS, *JOB]
    assert (option(argv, "--memory"), option(argv, "--memory-swap")) == (["100m"], ["100m"])
    assert option(argv, "--cpus") == ["2"]
    assert option(argv, "--pids-limit") == ["500"]
    assert set(option(argv, "--label")) == {
        "swarmhpc.cluster=lab",
        f"swarmhpc.task={TASK}",
        "swarmhpc.job=12.3",
        "org.htcondorproject=True",
    }


@pytest.mark.parametrize(("shares", "cpus"), [("100", "1"), ("101", "2"), ("150", "2"), ("1600", "16")])
def test_the_cpu_limit_is_the_whole_cpus_that_the_shares_stand_for(executor: Executor, shares: str, cpus: str) -> None:
    [argv] = executor.create(f"--cpu-shares={shares}", without=("--cpu-shares=200",)).calls
    assert option(argv, "--cpus") == [cpus]


def test_the_pid_limit_has_a_default(executor: Executor) -> None:
    executor.env["SWARMHPC_PIDS_LIMIT"] = ""
    [argv] = executor.create().calls
    assert option(argv, "--pids-limit") == ["4096"]


def test_words_after_the_image_are_the_jobs_own(executor: Executor) -> None:
    job = ["debian", "--privileged", "", "a b", "$(id)", "--memory=9g", "*"]
    ran = executor.create(job=job)
    assert ran.code == 0
    assert ran.calls[0][-len(job) :] == job
    assert option(ran.calls[0], "--memory-swap") == ["100m"]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--privileged"], "option '--privileged'"),
        (["--pid=host"], "option '--pid=host'"),
        (["--mount", "type=bind,src=/,dst=/host"], "mount 'type=bind"),
        (["-v", "/:/host"], "option '-v'"),
        (["--volume=/:/host"], "option '--volume=/:/host'"),
        (["--cap-add=SYS_ADMIN"], "option '--cap-add=SYS_ADMIN'"),
        (["--label=swarmhpc.task=other"], "option '--label=swarmhpc.task=other'"),
        (["--network=host"], "jobs.allow_host_network"),
        (["--network=swarmhpc_pool"], "network 'swarmhpc_pool'"),
        (["--network=container:abc"], "network 'container:abc'"),
        (["--volume", "/etc:/etc"], "volume '/etc:/etc'"),
        (["--volume", "/data:/data"], "volume '/data:/data'"),  # allowed read-only, in these very words
        (["--volume", f"{SCRATCH}/../other:/x"], "volume"),
        (["--volume", f"{SCRATCH}-not/x:/x"], "volume"),
        (["--volume", "/var/run/docker.sock:/var/run/docker.sock"], "jobs.volumes"),
        (["--security-opt", "seccomp=unconfined"], "--security-opt seccomp=unconfined"),
        (["--user", "0:0"], "as user '0:0', which is no job account"),
        (["--user", "20001:0"], "as user '20001:0', which is no job account"),
        (["--user", "19999:19999"], "as user '19999:19999', which is no job account"),
        (["--user", "root"], "as user 'root'"),
        (["--user", "20001:20001:0"], "as user '20001:20001:0'"),
        (["--user", "20001"], "without the group of a job account"),
        (["--user", "20001:999"], "as user '20001:999', which is no job account"),
        (["--group-add", "0"], "--group-add 0, which is no job account's"),
        (["--group-add", "docker"], "--group-add docker"),
        (["--mount", "type=bind,source=/etc,target=/e,readonly"], "mount 'type=bind,source=/etc"),
        (["--device", "/dev/sda"], "device '/dev/sda'"),
        (["--pull", "never"], "--pull never"),
    ],
)
def test_what_a_job_must_not_have_is_refused_and_docker_is_not_called(
    executor: Executor, extra: list[str], words: str
) -> None:
    refused(executor.create(*extra), words)


@pytest.mark.parametrize(
    "extra",
    [
        ["--volume", "/data:/data:ro"],
        ["--volume", "/srv/in:/in"],
        ["--network=none"],
        ["--device", "/dev/nvidia0"],
        ["--pull", "always"],
        ["--init"],
        ["--cpuset-cpus=0-1"],
        ["--shm-size", "64m"],
        ["--entrypoint", "/bin/sh"],
    ],
)
def test_what_htcondor_may_ask_for_passes_unchanged(executor: Executor, extra: list[str]) -> None:
    ran = executor.create(*extra)
    assert ran.code == 0, ran.err
    assert ran.calls[0][-len(extra) - len(JOB) : -len(JOB)] == extra


@pytest.mark.parametrize("image", ["--privileged", "-v/:/host", "--volume=/:/host"])
def test_an_image_called_like_an_option_is_refused(executor: Executor, image: str) -> None:
    refused(executor.create(job=[image, "/bin/sh"]), f"option '{image}'")


def test_host_networking_passes_where_the_cluster_file_allows_it(executor: Executor) -> None:
    executor.env["SWARMHPC_ALLOW_HOST_NETWORK"] = "true"
    assert executor.create("--network=host").code == 0
    refused(executor.create("--network=pool"), "network 'pool'")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["create", *OPTIONS], "without an image"),
        (["create", "--name", NAME, "debian"], "without a memory limit"),
        (["create", "--name", NAME, "--memory=", "debian"], "without a memory limit"),
        (["create", "--memory=1m", "--name", "swarmhpc_janitor", "debian"], "a container called 'swarmhpc_janitor'"),
        (["create", "--memory=1m", "debian"], "a container called ''"),
        (["create", "--memory=1m", "--name", NAME], "without an image"),
    ],
)
def test_a_create_that_lacks_something_is_refused(executor: Executor, argv: list[str], words: str) -> None:
    refused(executor.docker(*argv), words)


@pytest.mark.parametrize(
    "user", [["--user", "0"], ["--user", "00:5"], ["--user", ""], []], ids=["0", "00:5", "empty", "none"]
)
def test_a_job_never_runs_as_root_however_it_is_spelt(executor: Executor, user: list[str]) -> None:
    ran = executor.create(*user, without=("--user", "20001:20001", "--group-add", "20001"))
    assert (ran.code, ran.calls, "job account" in ran.err) == (125, [], True), ran


# The shell itself ends the shim on an empty ${NAME:?}, with a code of its own choice: 2 for dash, 1 or 127 for others.
@pytest.mark.parametrize("name", ["SWARMHPC_EXECUTE", "SWARMHPC_TASK", "SWARMHPC_CLUSTER"])
@pytest.mark.parametrize(
    "argv", [["create", *OPTIONS, "--volume", "/etc:/etc", *JOB], ["container", "prune"], ["info"]], ids=lambda a: a[0]
)
def test_without_what_tells_its_own_from_others_docker_is_never_called(
    executor: Executor, name: str, argv: list[str]
) -> None:
    executor.env[name] = ""
    ran = executor.docker(*argv)
    assert (ran.code != 0, ran.calls, name in ran.err) == (True, [], True), ran


@pytest.mark.parametrize(
    ("limit", "instead_of"),
    [("--memory=0m", "--memory=100m"), ("--memory=0", "--memory=100m"), ("--cpu-shares=0", "--cpu-shares=200")],
)
def test_a_limit_of_zero_is_no_way_to_have_none(executor: Executor, limit: str, instead_of: str) -> None:
    refused(executor.create(limit, without=(instead_of,)), "limit")


def test_a_failing_create_hands_on_dockers_own_words(executor: Executor) -> None:
    (executor.folder / "no-image").touch()
    ran = executor.create()
    assert (ran.code, ran.err) == (125, "Unable to find image\n")
    assert [c[0] for c in ran.calls] == ["create"]


def test_a_name_that_a_dead_executor_left_behind_is_freed_and_the_container_made(executor: Executor) -> None:
    (executor.folder / "owner").write_text("anothertask\n")
    ran = executor.create()
    assert ran.code == 0, ran.err
    assert [c[0] for c in ran.calls] == ["create", "inspect", "rm", "create"]
    assert ran.calls[2] == ["rm", "-f", NAME]
    assert ran.calls[3] == ran.calls[0]


def test_a_name_that_this_executor_has_itself_is_never_removed(executor: Executor) -> None:
    (executor.folder / "owner").write_text(f"{TASK}\n")
    ran = executor.create()
    assert (ran.code, "already in use" in ran.err) == (125, True)
    assert [c[0] for c in ran.calls] == ["create", "inspect"]


# -- other verbs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ["container", "prune", "-f", "--filter=label=org.htcondorproject=True"],
        ["container", "prune", "-f"],
        ["container", "prune", "--filter", "label=swarmhpc.task=other"],
    ],
)
def test_prune_is_narrowed_to_this_executor(executor: Executor, argv: list[str]) -> None:
    ran = executor.docker(*argv)
    assert ran.calls == [["container", "prune", "-f", "--filter", f"label=swarmhpc.task={TASK}"]]
    assert (ran.code, ran.out) == (0, "fake container\n")


@pytest.mark.parametrize(
    "argv",
    [
        ["rm", "-f", "-v", NAME],
        ["kill", "--signal=9", NAME],
        ["pause", NAME],
        ["unpause", NAME],
        ["inspect", "--format", "{{.State.Pid}}", NAME],
        ["exec", "-ti", NAME, "/bin/bash"],
        ["pull", "debian"],
        ["tag", "debian", "htcondor.org/debian"],
        ["rmi", "debian"],
        ["images", "-q", "debian"],
        ["info"],
        ["version"],
        ["-v"],
    ],
)
def test_what_htcondor_does_with_its_jobs_reaches_docker_unchanged(executor: Executor, argv: list[str]) -> None:
    ran = executor.docker(*argv)
    assert (ran.code, ran.calls) == (0, [argv])


def test_a_job_reads_its_standard_input(executor: Executor) -> None:
    assert "--interactive" in executor.create().calls[0]
    ran = executor.docker("start", "-a", NAME)
    assert (ran.code, ran.calls) == (0, [["start", "-i", "-a", NAME]])


def test_an_image_with_a_digest_is_pulled_only_where_it_is_not_here(executor: Executor) -> None:
    image = f"debian:13@sha256:{'a' * 64}"
    look = ["inspect", "--type", "image", "--format", ".", image]
    assert executor.docker("pull", image).calls == [look, ["pull", image]]
    (executor.folder / "here").touch()
    ran = executor.docker("pull", image)
    assert (ran.code, ran.calls) == (0, [look])
    assert executor.docker("pull", "debian:13").calls == [["pull", "debian:13"]]


def test_an_image_that_can_not_be_pulled_fails_the_create_that_comes_next(executor: Executor) -> None:
    (executor.folder / "no-pull").touch()
    pulled = executor.docker("pull", "debian")
    assert (pulled.code, pulled.err) == (0, "")
    ran = executor.create()
    assert (ran.code, ran.out) == (125, "")
    assert ran.err == "Cannot pull image debian pull access denied for debian\n"
    assert [call[0] for call in ran.calls] == ["inspect"]
    assert executor.create().code == 0  # it is told once


def test_a_failed_pull_is_forgotten_when_the_image_is_here(executor: Executor) -> None:
    (executor.folder / "no-pull").touch()
    executor.docker("pull", "debian")
    (executor.folder / "no-pull").unlink()
    assert executor.docker("pull", "debian").code == 0
    assert [call[0] for call in executor.create().calls] == ["create"]
    (executor.folder / "no-pull").touch()
    executor.docker("pull", "debian")  # and its starter was killed
    (executor.folder / "here").touch()
    assert [call[0] for call in executor.create().calls] == ["inspect", "create"]


@pytest.mark.parametrize("verb", ["start", "rm", "kill", "pause", "unpause"])
@pytest.mark.parametrize("target", ["swarmhpc_central-manager.1.abc", "c0ffee", "", "xHTCJob1"])
def test_a_container_that_is_no_jobs_is_left_alone(executor: Executor, verb: str, target: str) -> None:
    refused(executor.docker(verb, target), "not a job's container")


def test_exec_reaches_only_job_containers(executor: Executor) -> None:
    refused(executor.docker("exec", "-ti", "swarmhpc_janitor.abc", "/bin/bash"), "not a job's container")
    refused(executor.docker("exec", "-ti", "swarmhpc_janitor.abc", NAME), "not a job's container")


def test_every_container_that_rm_names_must_be_a_jobs(executor: Executor) -> None:
    refused(executor.docker("rm", "-f", "swarmhpc_janitor.abc", NAME), "not a job's container")
    refused(executor.docker("rm", "-f", NAME, "swarmhpc_janitor.abc"), "not a job's container")


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "debian"],
        ["volume", "rm", "swarmhpc_queue"],
        ["system", "prune", "-af"],
        ["service", "ls"],
        ["swarm", "leave", "--force"],
        ["container", "rm", "-f", NAME],
        ["container"],
        ["cp", f"{NAME}:/etc/shadow", "/tmp"],
        ["--host=tcp://192.0.2.1", "info"],
        ["-H", "tcp://192.0.2.1", "info"],
        [],
    ],
)
def test_any_other_verb_is_refused(executor: Executor, argv: list[str]) -> None:
    refused(executor.docker(*argv), "docker")


# -- add-user ------------------------------------------------------------------------------------------------

ADD_USER = state.assets("images") / "pool" / "add-user"


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    """add-user on files of its own: passwd, group and the list; `getent` reads that passwd."""
    text = ADD_USER.read_text()
    for real, name in {
        "/var/spool/condor/.swarmhpc-users": "list",
        "/etc/passwd": "passwd",
        "/etc/group": "group",
    }.items():
        assert real in text
        text = text.replace(real, str(tmp_path / name))
    (tmp_path / "add-user").write_text(text)
    (tmp_path / "add-user").chmod(0o755)
    (tmp_path / "bin").mkdir()
    getent = tmp_path / "bin" / "getent"
    find = "awk -F: -v n=\"$2\" '$1 == n { print; f = 1 } END { exit !f }'"
    getent.write_text(f'#!/bin/sh\n[ "$1" = passwd ] || exit 64\nexec {find} {tmp_path}/passwd\n')
    getent.chmod(0o755)
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\ncondor:x:64:64::/:/bin/false\n")
    (tmp_path / "group").write_text("root:x:0:\n")
    return tmp_path


def add_user(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        [str(folder / "add-user"), *argv], env={"PATH": path}, capture_output=True, text=True, check=False
    )


def uids(folder: Path) -> dict[str, int]:
    rows = [line.split(":") for line in (folder / "passwd").read_text().splitlines()]
    return {row[0]: int(row[2]) for row in rows if int(row[2]) > 6000}


def test_people_get_accounts_with_uids_of_their_own_that_can_not_log_in(accounts: Path) -> None:
    assert [add_user(accounts, name).returncode for name in ("alice", "bob", "alice")] == [0, 0, 0]
    assert uids(accounts) == {"alice": 6101, "bob": 6102}
    assert (accounts / "passwd").read_text().count("/usr/sbin/nologin") == 2
    assert (accounts / "list").stat().st_mode & 0o777 == 0o600


def test_a_new_container_gets_the_same_accounts_from_the_list(accounts: Path) -> None:
    for name in ("alice", "bob"):
        add_user(accounts, name)
    (accounts / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    assert add_user(accounts, "--restore").returncode == 0
    assert uids(accounts) == {"alice": 6101, "bob": 6102}
    assert add_user(accounts, "carol").returncode == 0
    assert uids(accounts)["carol"] == 6103


@pytest.mark.parametrize(("name", "code"), [("condor", 3), ("root", 3), ("Alice", 2), ("a b", 2), ("../x", 2), ("", 2)])
def test_names_of_the_systems_and_no_names_at_all_get_no_account(accounts: Path, name: str, code: int) -> None:
    ran = add_user(accounts, name)
    assert (ran.returncode, uids(accounts)) == (code, {})
    assert f"name '{name}'" in ran.stderr


def test_two_people_at_the_same_moment_get_two_uids(accounts: Path) -> None:
    assert shutil.which("flock")
    path = f"{accounts / 'bin'}:{os.environ['PATH']}"
    names = [f"p{i}" for i in range(8)]
    started = [subprocess.Popen([str(accounts / "add-user"), n], env={"PATH": path}) for n in names]
    assert [p.wait(30) for p in started] == [0] * len(names)
    assert sorted(uids(accounts).values()) == list(range(6101, 6101 + len(names)))
