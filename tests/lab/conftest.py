"""Machines for the tests of a session: fresh ones at its start, none left at its end.

SWARMHPC_LAB_KEEP=1 takes what runs and leaves it running, for a person who tries one test again and again;
SWARMHPC_LAB_MACHINES="n6 n7 n8" takes other machines than the first three.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Generator, Iterator

import pytest
import testinfra
from testinfra.host import Host

from tests.lab.machines import Lab
from tests.lab.network import LabError

FIGURES: list[str] = []
"""What tests measured, one line each; printed at the end."""
_lab: Lab | None = None  # for the report of a failure


@contextlib.contextmanager
def _only_session(lab: Lab) -> Iterator[None]:
    """Raises LabError when another test run has this lab: it would lose its machines."""
    lab.folder.mkdir(parents=True, exist_ok=True)
    with (lab.folder / "session.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"another test run uses the lab in {lab.folder}: wait for its end") from None
        yield


@pytest.fixture(scope="session")
def names() -> list[str]:
    """The machines of this session, booted by `lab`."""
    return (os.environ.get("SWARMHPC_LAB_MACHINES") or "n1 n2 n3").split()


@pytest.fixture(scope="session")
def lab(names: list[str]) -> Iterator[Lab]:
    """Three machines that answer. What cannot run here is an error with its reason, never a skip."""
    global _lab
    keep = bool(os.environ.get("SWARMHPC_LAB_KEEP"))
    made = _lab = Lab()
    with _only_session(made):
        try:
            if not keep:
                made.destroy(names)  # an earlier run that was killed
            made.boot(names)
            yield made
        finally:
            if not keep:
                made.destroy([m.name for m in made.known() if m.name in names or m.name in made.booted])


@pytest.fixture(scope="session")
def inspect(lab: Lab) -> Callable[[str], Host]:
    """pytest-testinfra's view of a machine by its name."""

    def host(name: str) -> Host:
        options = " ".join(lab.ssh_options())
        return testinfra.get_host(
            f"ssh://root@{lab.machine(name).address}", ssh_identity_file=str(lab.key), ssh_extra_args=options
        )

    return host


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test says where the machines' logs are, and the journals are fetched while they answer."""
    report = yield
    if report.failed and _lab is not None:
        report.sections.append(("the machines' consoles and journals", str(_lab.collect_logs(item.name))))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures, also when everything passed."""
    if FIGURES:
        terminalreporter.write_sep("-", "measured in the virtual lab")
        for line in FIGURES:
            terminalreporter.write_line(line)
