"""The scripts that a new user and CI touch first, run without installing or starting anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SCRIPTS = ["quickstart", "test", ".ci/run", "scripts/common.sh"]


def run(
    command: Sequence[str], cwd: Path = TOP, path_first: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it without a terminal; `path_first` is a folder of stand-in programs."""
    path = os.environ["PATH"]
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": f"{path_first}:{path}" if path_first else path, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def in_common(code: str, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run shell code after common.sh, with `arguments` as $1…"""
    script = f"set -euo pipefail; ME=./x; . scripts/common.sh; {code}"
    return run(["bash", "-c", script, "bash", *arguments], env=env)


def stand_in(folder: Path, name: str, body: str) -> None:
    """A program of that name, for `path_first`."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


@dataclass(frozen=True)
class Checkout:
    """A copy of the scripts, with stand-ins for everything that would change this machine."""

    folder: Path
    programs: Path

    def quickstart(self) -> subprocess.CompletedProcess[str]:
        return run(["./quickstart"], cwd=self.folder, path_first=self.programs)

    def was_changed_by(self) -> list[str]:
        """Names of the stand-ins that were called."""
        return sorted(path.name for path in self.folder.glob("called/*"))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "checkout", tmp_path / "programs")
    (made.folder / "called").mkdir(parents=True)
    shutil.copytree(TOP / "scripts", made.folder / "scripts")
    shutil.copy(TOP / "quickstart", made.folder)
    for name in ("apt-get", "dockerd", "systemctl", "setsid"):
        stand_in(made.programs, name, f"touch {made.folder}/called/{name}; exit 1")
    stand_in(made.programs, "docker", "exit 1")
    return made


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_can_parse(script: str) -> None:
    done = run(["bash", "-n", script])
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_finds_nothing() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = run([str(shellcheck), "-x", *SCRIPTS])
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", ["quickstart", "test"])
def test_help_goes_to_stdout_with_exit_code_0(script: str) -> None:
    done = run([f"./{script}", "--help"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: ./{script} ")


@pytest.mark.parametrize("script", ["quickstart", "test"])
def test_an_unknown_argument_is_named_with_exit_code_2(script: str) -> None:
    done = run([f"./{script}", "--frobnicate"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "'--frobnicate'" in done.stderr
    assert f"usage: ./{script} " in done.stderr


def test_the_scripts_can_be_called_from_another_folder(tmp_path: Path) -> None:
    done = run([str(TOP / "quickstart"), "--dry-run"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_names_every_step_and_its_undoing() -> None:
    done = run(["./quickstart", "--dry-run"])
    assert done.returncode == 0, done.stderr
    for step in ("engine:", "./.venv", "swarmhpc up", "examples/hosts.sub", "swarmhpc down --purge"):
        assert step in done.stdout


def test_a_client_without_an_engine_is_no_engine(tmp_path: Path) -> None:
    """`docker --version` answers on such a machine; the engine's package is still missing."""
    stand_in(tmp_path / "bin", "docker", 'case "$1" in --version) echo 28.2.2 ;; *) exit 1 ;; esac')
    done = run(["./quickstart", "--dry-run"], path_first=tmp_path / "bin")
    assert done.returncode == 0, done.stderr
    assert "docker.io" in done.stdout or "dockerd, started here" in done.stdout or "enable --now docker" in done.stdout


def test_without_root_it_says_so_and_does_nothing(checkout: Checkout) -> None:
    stand_in(checkout.programs, "id", 'case "$1" in -u) echo 1000 ;; *) echo alice ;; esac')
    done = checkout.quickstart()
    assert done.returncode == 1
    assert "this user is alice" in done.stderr
    assert "next: sudo ./quickstart" in done.stderr
    assert checkout.was_changed_by() == []


def test_a_full_disk_is_seen_beforehand(checkout: Checkout) -> None:
    stand_in(checkout.programs, "df", "echo head; echo '/dev/x 9 9 2048 99% /'")
    done = checkout.quickstart()
    assert done.returncode == 1
    assert "/var/lib/docker has 2 MiB free, and 5120 MiB are wanted" in done.stderr
    assert checkout.was_changed_by() == []


def test_an_old_python_is_refused_with_its_version(checkout: Checkout) -> None:
    for name in ["python3", *(f"python3.{minor}" for minor in range(11, 15))]:
        stand_in(checkout.programs, name, 'case "$1" in -V) echo Python 3.9.2 ;; *) exit 1 ;; esac')
    done = checkout.quickstart()
    assert done.returncode == 1
    assert "Python 3.11 or newer is wanted, and python3 is Python 3.9.2" in done.stderr
    assert checkout.was_changed_by() == []


@pytest.mark.parametrize(
    ("os_release", "family"),
    [
        ('ID=debian\nVERSION_ID="12"\n', True),
        ("ID=ubuntu\nID_LIKE=debian\n", True),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', True),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', False),
        ('ID=alpine\nHOME_URL="https://debian.example/"\n', False),
    ],
)
def test_debian_and_what_is_made_from_it_are_told_from_others(os_release: str, family: bool, tmp_path: Path) -> None:
    file = tmp_path / "os-release"
    file.write_text(os_release)
    assert (in_common('is_debian_family "$1"', str(file)).returncode == 0) is family


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (
            "E: Release file for http://mirror/debian/dists/bookworm-updates/InRelease is expired (invalid since 5d).",
            "stale",
        ),
        ("E: Release file for http://mirror/dists/x/InRelease is not valid yet (invalid for another 2h).", "clock"),
        ("+ apt-get update\nE: Could not get lock /var/lib/apt/lists/lock. It is held by process 9", "lock"),
        (
            "+ apt-get update\nE: Could not get lock /var/lib/apt/lists/lock\n"
            "+ apt-get update\nGet:1\n+ apt-get install\nE: Unable to locate package docker.io",
            "unknown-package",
        ),
        (
            "+ apt-get update\nW: Failed to fetch http://m/InRelease  Temporary failure resolving 'm'\n"
            "+ apt-get install\nE: Unable to locate package docker.io",
            "network",
        ),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "disk"),
        ("dpkg: error processing package x (--configure):", "other"),
    ],
)
def test_the_cause_of_an_apt_failure_is_told(output: str, why: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(output + "\n")
    assert in_common('why_apt_failed "$1"', str(log)).stdout.strip() == why


def test_a_stale_mirror_is_explained_with_the_command_to_go_on(tmp_path: Path) -> None:
    expired = "E: Release file for http://m/dists/x/InRelease is expired (invalid since 5d 3h)."
    stand_in(tmp_path / "bin", "apt-get", f"echo '{expired}'; exit 100")
    code = "PATH=$1:$PATH; LOG=$2; MISSING=(mmdebstrap); install_missing"
    done = in_common(code, str(tmp_path / "bin"), str(tmp_path / "log"))
    assert done.returncode == 1
    assert expired in done.stderr
    assert "SWARMHPC_APT_OPTIONS='Acquire::Check-Valid-Until=false' ./x" in done.stderr
    assert str(tmp_path / "log") in done.stderr


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ("", []),
        (
            "Acquire::Check-Valid-Until=false Acquire::Retries=3",
            ["Acquire::Check-Valid-Until=false", "Acquire::Retries=3"],
        ),
    ],
)
def test_apt_gets_the_options_of_the_environment_and_no_others(options: str, given: list[str], tmp_path: Path) -> None:
    stand_in(tmp_path / "bin", "apt-get", 'printf "%s\\n" "$@"')
    code = 'PATH=$1:$PATH; LOG=$2; apt_get update; cat "$LOG"'
    done = in_common(code, str(tmp_path / "bin"), str(tmp_path / "log"), env={"SWARMHPC_APT_OPTIONS": options})
    assert [line for line in done.stdout.splitlines() if line.startswith("Acquire::")] == given


def test_apt_is_asked_again_while_another_one_holds_the_lists(tmp_path: Path) -> None:
    first = tmp_path / "asked-before"
    busy = "echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 9'; exit 100"
    stand_in(tmp_path / "bin", "apt-get", f"[ -e {first} ] && exit 0; touch {first}; {busy}")
    stand_in(tmp_path / "bin", "sleep", "exit 0")
    code = "PATH=$1:$PATH; LOG=$2; apt_update"
    done = in_common(code, str(tmp_path / "bin"), str(tmp_path / "log"))
    assert done.returncode == 0, done.stderr
    assert "another apt is at work" in done.stdout


def test_an_environment_is_up_to_date_only_for_the_lock_it_was_made_from(tmp_path: Path) -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        shutil.copy(TOP / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    code = 'cd "$1"; find_python; venv_stamp requirements.lock >.venv/.swarmhpc-stamp; eval "$2"; venv_is_ready "$3"'

    def ready(change: str, lock: str) -> bool:
        return in_common(code, str(tmp_path), change, lock).returncode == 0

    assert ready(":", "requirements.lock")
    assert not ready(":", "requirements-dev.lock")
    assert not ready("echo '# newer' >>requirements.lock", "requirements.lock")
    assert not ready("rm .venv/.swarmhpc-stamp", "requirements.lock")


def test_only_a_living_dockerd_is_ended() -> None:
    """After a crash a process id may have gone to somebody else: here, to the shell itself."""
    code = "ENGINE_PID_FILE=/nonexistent/pid; stop_started_engine; ENGINE_PID=$$; stop_started_engine; echo alive"
    done = in_common(code)
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_the_locks_name_no_registry_and_agree_with_each_other() -> None:
    run_lock, dev_lock = ((TOP / name).read_text() for name in ("requirements.lock", "requirements-dev.lock"))
    assert "://" not in run_lock + dev_lock
    pinned = [{line for line in lock.splitlines() if "==" in line} for lock in (run_lock, dev_lock)]
    assert pinned[0] < pinned[1]


def prepared(checkout: Checkout, submit: str) -> Checkout:
    """Nothing is left to install or start; `swarmhpc submit` runs that shell code."""
    stand_in(checkout.programs, "docker", "echo 26.1.5")
    stand_in(checkout.programs, "mmdebstrap", "exit 1")
    stand_in(checkout.programs, "id", "echo 0")
    stand_in(checkout.programs, "df", "echo head; echo '/dev/x 9 9 99999999 1% /'")
    for name in ("requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        shutil.copy(TOP / name, checkout.folder)
    # Files that this machine may lack (Ubuntu has no Debian keyring): let one that is always there stand in.
    common = checkout.folder / "scripts/common.sh"
    seen = common.read_text()
    for path in ("/usr/share/keyrings/debian-archive-keyring.gpg", "/etc/ssl/certs/ca-certificates.crt"):
        assert path in seen
        seen = seen.replace(path, str(Path(__file__)))
    common.write_text(seen)
    programs = checkout.folder / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    stand_in(programs, "swarmhpc", f'case "$1" in submit) {submit} ;; *) echo "$@" >>{checkout.folder}/asked ;; esac')
    code = 'cd "$1"; find_python; venv_stamp requirements.lock >.venv/.swarmhpc-stamp'
    assert in_common(code, str(checkout.folder)).returncode == 0
    return checkout


def test_a_second_run_only_runs_the_example_again_and_shows_its_outputs(checkout: Checkout) -> None:
    submit = "for i in 0 1 2 3 4 5 6 7 8 9; do echo 172.17.0.$i job-$i >out.$i; done"
    made = prepared(checkout, submit)
    for _ in range(2):
        done = made.quickstart()
        assert done.returncode == 0, done.stderr
        shown = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("  172.17.0.")]
        assert shown == [f"job-{i}" for i in range(10)]
    assert made.was_changed_by() == []
    assert (made.folder / "asked").read_text() == "up\nup\n"


def test_outputs_of_an_earlier_run_do_not_pass_for_those_of_this_one(checkout: Checkout) -> None:
    made = prepared(checkout, "exit 0")
    (made.folder / "quickstart-results").mkdir()
    for i in range(10):
        (made.folder / f"quickstart-results/out.{i}").write_text("old\n")
    done = made.quickstart()
    assert done.returncode == 1
    assert "quickstart-results/out.0 is missing or empty" in done.stderr


def test_an_example_that_fails_ends_the_quickstart_with_what_to_type(checkout: Checkout) -> None:
    done = prepared(checkout, "exit 1").quickstart()
    assert done.returncode == 1
    assert "swarmhpc submit ended with exit code 1" in done.stderr
    assert "next: .venv/bin/swarmhpc q" in done.stderr


def pytest_in(folder: Path, source: str, no_skips: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(TOP / "tests/conftest.py", folder)
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=."]
    return run(command, cwd=folder, env={"SWARMHPC_NO_SKIPS": no_skips, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})


@pytest.mark.parametrize(
    ("body", "no_skips", "outcome"),
    [
        ("pytest.skip('no engine')", "1", "failed"),
        ("pytest.skip('no engine')", "0", "skipped"),
        ("pytest.skip('allowed: no corpus beside this checkout')", "1", "skipped"),
        ("pytest.xfail('known')", "1", "xfailed"),
    ],
)
def test_a_skip_is_a_failure_unless_it_is_allowed(body: str, no_skips: str, outcome: str, tmp_path: Path) -> None:
    done = pytest_in(tmp_path, f"import pytest\ndef test_it():\n    {body}\n", no_skips)
    assert f"1 {outcome} in" in done.stdout
    assert (done.returncode == 0) is (outcome != "failed")


def test_a_module_skipped_as_a_whole_is_a_failure(tmp_path: Path) -> None:
    done = pytest_in(tmp_path, "import pytest\npytest.importorskip('no_such_module')\n", "1")
    assert done.returncode != 0
    assert "no_such_module" in done.stdout
