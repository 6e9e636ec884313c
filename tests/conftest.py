"""Nothing is skipped silently: with SWARMHPC_NO_SKIPS=1 (./test sets it) a skip is a failure.

A skip whose reason begins with "allowed:" stays one: it names something that is outside this repository.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

ALLOWED = "allowed:"


def _refused_skip(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """The reason of a skip that must not be one, else None. An expected failure (xfail) is no skip."""
    if os.environ.get("SWARMHPC_NO_SKIPS") != "1" or not report.skipped or hasattr(report, "wasxfail"):
        return None
    # pytest gives a skip as (file, line, "Skipped: <reason>").
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    return None if reason.startswith(ALLOWED) else reason


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = _refused_skip(report)
    if reason is not None:
        report.outcome = "failed"
        report.longrepr = f"skipped, and ./test allows only reasons that begin with {ALLOWED!r}: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test skipped in its marks, its fixtures or its body."""
    report = yield
    _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module skipped as a whole, by importorskip for instance."""
    report = yield
    _fail(report)
    return report
