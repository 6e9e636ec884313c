"""Real submit descriptions, read in place: verdicts, job counts, time. HTCondor judges them in tests/engine."""

import csv
import os
import time
from pathlib import Path, PurePosixPath

import pytest

from swarmhpc.jobs.description import parse
from swarmhpc.jobs.translate import ClassSize, Limits, SubmitSide, translate

FOLDER = Path(os.environ.get("SWARMHPC_CORPUS", "/work/shared/corpus"))
LIMITS = Limits(classes=(ClassSize("executors", 64, 1024 * 1024, None),))
INDEX_STOPS_AT = 500  # jobs; the index says 500 for files with queue 1000 and queue 10000
SIDE = SubmitSide(PurePosixPath("/w"), PurePosixPath("/home/me"), lambda _: True)

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the corpus of real submit descriptions is not here: {FOLDER} (set SWARMHPC_CORPUS)"
)


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.sub"))


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def test_the_corpus_is_not_empty() -> None:
    assert len(files()) > 100


def test_every_file_gets_findings_inside_of_it_and_all_together_soon() -> None:
    start = time.process_time()
    for path in files():
        text = text_of(path)
        translation = translate(parse(text, file=path.name), limits=LIMITS, side=SIDE)
        lines = text.removeprefix("\ufeff").split("\n")
        for finding in translation.findings:
            assert finding.place.file == path.name
            assert 1 <= finding.place.line <= len(lines), finding
            assert 1 <= finding.place.column <= len(lines[finding.place.line - 1]) + 1, finding
            assert finding.message
        assert translation.clusters or any(f.severity == "error" for f in translation.findings), path
        rows = sum(1 for cluster in translation.clusters for _ in cluster.rows())
        assert rows == translation.jobs
    assert time.process_time() - start < 8  # seconds for some 140 files


def test_the_number_of_jobs_agrees_with_the_index() -> None:
    """Left out: files with an error (a list of rows that is missing, a command), and those with several queue
    statements, of which the index counts the first."""
    with (FOLDER / "INDEX.tsv").open(encoding="utf-8", newline="") as stream:
        jobs = {row["file"]: row["jobs"] for row in csv.DictReader(stream, delimiter="\t")}
    read = {path.name: parse(text_of(path), file=path.name) for path in files() if jobs.get(path.name)}
    counted = {name: d.jobs for name, d in read.items() if not d.has_errors and len(d.statements) == 1}
    assert len(counted) > 80
    assert {name: count for name, count in counted.items() if min(count, INDEX_STOPS_AT) != int(jobs[name])} == {}
