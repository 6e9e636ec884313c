"""Real submit descriptions, read in place: verdicts, job counts, and HTCondor's own parser as the judge of values."""

import csv
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from swarmhpc.jobs.description import Description, expand, parse
from swarmhpc.jobs.translate import ClassSize, Limits, SubmitSide, flat_text, translate, variable

FOLDER = Path(os.environ.get("SWARMHPC_CORPUS", "/work/shared/corpus"))
LIMITS = Limits(classes=(ClassSize("executors", 64, 1024 * 1024, None),))
INDEX_STOPS_AT = 500  # jobs; the index says 500 for files with queue 1000 and queue 10000
SIDE = SubmitSide(PurePosixPath("/w"), PurePosixPath("/home/me"), lambda _: True)
# Commands whose value the translation must hand over exactly as HTCondor expands it.
COMPARED = [
    "executable",
    "arguments",
    "output",
    "error",
    "log",
    "docker_image",
    "container_image",
    "universe",
    "request_cpus",
    "request_memory",
    "request_disk",
    "requirements",
    "environment",
    "transfer_input_files",
    "transfer_output_files",
    "transfer_output_remaps",
    "initialdir",
]
PASSED_ON = ("arguments", "environment", "requirements", "output", "error", "log", "transfer_output_remaps")
WOULD_RUN = re.compile(r"include|\||`|\$ENV|\$EVAL", re.IGNORECASE)

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the corpus of real submit descriptions is not here: {FOLDER} (set SWARMHPC_CORPUS)"
)


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.sub"))


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def accepted() -> Iterator[tuple[Path, str, Description]]:
    """The files that this parser understands completely."""
    for path in files():
        text = text_of(path)
        description = parse(text, file=path.name)
        if not description.has_errors:
            yield path, text, description


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
        assert translation.jobs or any(f.severity == "error" for f in translation.findings), path
    assert time.process_time() - start < 5  # seconds for some 140 files


def test_the_number_of_jobs_agrees_with_the_index() -> None:
    """Files with an error are left out: there `jobs` counts rows and queue statements that are not read yet."""
    with (FOLDER / "INDEX.tsv").open(encoding="utf-8", newline="") as stream:
        jobs = {row["file"]: row["jobs"] for row in csv.DictReader(stream, delimiter="\t")}
    counted = {path.name: description.count for path, _, description in accepted() if jobs.get(path.name)}
    assert len(counted) > 50
    assert {name: count for name, count in counted.items() if min(count, INDEX_STOPS_AT) != int(jobs[name])} == {}


def test_values_of_accepted_files_are_what_htcondor_expands() -> None:
    os.environ["CONDOR_CONFIG"] = "ONLY_ENV"
    htcondor2 = pytest.importorskip("htcondor2", reason="the HTCondor bindings are not installed")
    compared, different = 0, {}
    for path, text, description in accepted():
        if WOULD_RUN.search(text):
            continue  # HTCondor's parser would run what such a file names
        submit = htcondor2.Submit(text)
        keys = {key.lower() for key in submit}
        for name in (n for n in COMPARED if n in description.commands):
            assert name in keys
            try:
                theirs = submit.expand(name).strip()
            except KeyError:
                theirs = ""  # the bindings' word for an empty value
            ours = expand(description, name, process=0, cluster="1")
            compared += 1
            if ours != theirs:
                different[path.name, name] = (ours, theirs)
    assert compared > 300
    assert different == {}


def test_what_is_submitted_for_a_file_reads_back_as_what_it_says() -> None:
    os.environ["CONDOR_CONFIG"] = "ONLY_ENV"
    htcondor2 = pytest.importorskip("htcondor2", reason="the HTCondor bindings are not installed")
    compared = 0
    for path, _, description in accepted():
        translation = translate(description, limits=LIMITS, side=SIDE)
        if not translation.jobs:
            continue
        submit = htcondor2.Submit(flat_text(translation))
        last = len(translation.rows) - 1
        for column, name in enumerate(translation.varying):
            submit[variable(name)] = translation.rows[last][column]
        for name in PASSED_ON:
            meant = expand(description, name, process=last, cluster="1")
            if meant:
                compared += 1
                assert submit.expand(name) == meant, (path.name, name)
    assert compared > 50
