"""Many different descriptions on one real pool: all are submitted, then waited for together, then looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Cli, Ran
from tests.engine.conftest import docker, empty_queue
from tests.engine.descriptions.case import CLUSTER, COMMAND, ENTRY, ENV, HERE, SHOW, TOOL, USER, Case
from tests.engine.descriptions.cases import ALL

_CHANGES = {
    ENTRY: ['ENTRYPOINT ["/opt/tool/bin/show", "entry"]', "CMD []"],
    COMMAND: ['CMD ["/opt/tool/bin/show", "command"]'],
    ENV: ["ENV COLOUR=blue", "ENV PATH=/usr/bin:/bin:/opt/tool/bin", "WORKDIR /srv"],
    TOOL: [],
    USER: ["USER nobody"],
}


@dataclass(frozen=True)
class Run:
    """What became of one case."""

    folder: Path
    submitted: Ran
    clusters: list[int]
    jobs: list[dict[str, Any]]  # as `swarmhpc wait --json` has them
    fetched: Ran


@pytest.fixture(scope="module")
def images() -> Iterator[None]:
    """The images of the cases: a program on top of debian, and how the image says to use it."""
    write = 'mkdir -p /opt/tool/bin && printf %s "$1" > /opt/tool/bin/show && chmod 755 /opt/tool/bin/show'
    made = docker("create", "--network", "none", "debian", "sh", "-c", write, "sh", SHOW)
    try:
        docker("start", "-a", made)
        for name, changes in _CHANGES.items():
            docker("commit", *(word for c in changes for word in ("--change", c)), made, name)
    finally:
        docker("rm", "-f", made)
    yield
    docker("rmi", "-f", *_CHANGES, check=False)


@pytest.fixture(scope="module")
def runs(pool: Cli, images: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folders = {case.name: tmp_path_factory.mktemp("case") for case in ALL}

    def submit(case: Case) -> Ran:
        folder = folders[case.name]
        _lay_out(case, folder)
        person = Cli(folder, pool.config_home, dict(case.variables))
        return person.submit(case.text.replace(HERE, str(folder)), *case.words, "--json")

    with ThreadPoolExecutor(3) as some:  # most of a submission is a second that the access point sleeps
        submitted = dict(zip((c.name for c in ALL), some.map(submit, ALL), strict=True))
    clusters = {n: [c["cluster"] for c in r.json["clusters"]] if r.code == 0 else [] for n, r in submitted.items()}
    ids = [str(c) for several in clusters.values() for c in several]
    ended = pool.run("wait", *ids, "--keep-going", "--json", timeout_s=240)
    jobs = {c["cluster"]: c["jobs"] for c in ended.json["clusters"]}
    fetched = pool.run("fetch", *ids)
    empty_queue(pool)  # what is held, and what was fetched and is on its way out of the queue
    return {
        name: Run(folders[name], submitted[name], mine, [j for c in mine for j in jobs[c]], fetched)
        for name, mine in clusters.items()
    }


@pytest.mark.parametrize("case", ALL, ids=str)
def test_what_a_description_says_is_what_comes_back(case: Case, runs: dict[str, Run]) -> None:
    run = runs[case.name]
    assert run.submitted.code == 0, run.submitted.err
    ends = [-j["exit_signal"] if j["exit_signal"] else j["exit_code"] for j in run.jobs]
    assert ends == list(case.ends), [j["hold_reason"] for j in run.jobs]
    wanted = {**case.given, **case.wanted}
    wanted = {n.replace(CLUSTER, str(run.clusters[0])): text for n, text in wanted.items() if not n.endswith("/")}
    found = _contents(run.folder)
    assert sorted(found) == sorted(wanted), run.fetched.err
    for name, text in wanted.items():
        if isinstance(text, re.Pattern):
            assert text.fullmatch(found[name]), (name, found[name])
        else:
            assert found[name] == text, name


def _lay_out(case: Case, folder: Path) -> None:
    for name, text in case.given.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.write_text(text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)


def _contents(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file() and p != folder / "job.sub")
    return {str(p.relative_to(folder)): p.read_text() for p in files}
