"""The pure parts of benchmarks/: a wrong statistic would be quoted in the README."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import common, latency, memory, throughput
from swarmhpc import state
from swarmhpc.jobs.submit import NO_POOL, prepare
from swarmhpc.jobs.translate import flat_text


@pytest.mark.parametrize(
    ("values", "percent", "wanted"),
    [
        ([3.0, 1.0, 2.0], 99, 3.0),
        ([float(i) for i in range(1, 101)], 99, 99.0),
        ([float(i) for i in range(1, 201)], 99, 198.0),
        ([5.0, 1.0], 50, 1.0),
        ([7.0], 1, 7.0),
    ],
)
def test_a_percentile_is_a_measured_value_by_nearest_rank(values: list[float], percent: float, wanted: float) -> None:
    assert common.percentile(values, percent) == wanted


def test_a_table_lines_up_text_to_the_left_and_numbers_to_the_right() -> None:
    rows: list[dict[str, common.Cell]] = [{"what": "a", "median_s": 12.345}, {"what": "longer", "median_s": None}]
    assert common.table(rows).splitlines() == [
        "what    median s",
        "a          12.35",
        "longer         -",
    ]


def test_json_has_the_same_columns_as_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    report = common.Report("x", [{"what": "a", "median_s": 1.5}], {"seed": 7})
    common.show(report, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "benchmark": "x",
        "seed": 7,
        "rows": [{"what": "a", "median_s": 1.5}],
    }


def test_knobs_are_read_from_lines_that_set_one_and_not_from_comments_or_transforms() -> None:
    text = "# OLD_KNOB = 1\nuse role:Submit\nSCHEDD_INTERVAL    = {{ x }}\nA_1=2\nJOB_T @=end\n  SET Lease 3\n@end\n"
    assert latency.set_in(text) == {"SCHEDD_INTERVAL", "A_1"}


def test_every_timing_knob_of_the_templates_is_set_back_for_the_comparison() -> None:
    templates = "\n".join(p.read_text() for p in (state.assets("stacks") / "condor").glob("*.j2"))
    timing = {n for n in latency.set_in(templates) if re.search(r"_(INTERVAL|DELAY)$|^GUIDANCE_", n)}
    # Signs of life find dead peers, and the collector's own ad names the classes; they delay no job.
    others = {"TCP_KEEPALIVE_INTERVAL", "STARTER_UPDATE_INTERVAL", "COLLECTOR_UPDATE_INTERVAL"}
    # Nor do these: how soon events, limits of time and the negotiator's own ad are known; and DAGMan's pace.
    others |= {"SCHEDD_JOB_QUEUE_LOG_FLUSH_DELAY", "PERIODIC_EXPR_INTERVAL", "NEGOTIATOR_UPDATE_INTERVAL"}
    others |= {"DAGMAN_QUEUE_UPDATE_INTERVAL", "DAGMAN_USER_LOG_SCAN_INTERVAL"}
    assert timing - others <= set(latency.TIMING_KNOBS)
    assert latency.tuned() == list(latency.TIMING_KNOBS)


@pytest.mark.parametrize(
    ("stats", "wanted"),
    [
        ({"usage": 100, "stats": {"total_inactive_file": 30, "inactive_file": 1}}, 70),
        ({"usage": 100, "stats": {"inactive_file": 40}}, 60),
        ({"usage": 100, "stats": {"inactive_file": 200}}, 100),
    ],
    ids=["cgroup v1", "cgroup v2", "cache counted elsewhere"],
)
def test_memory_in_use_leaves_out_cache_that_the_kernel_can_drop(stats: dict[str, object], wanted: int) -> None:
    assert memory.used(stats) == wanted


@pytest.mark.parametrize("descriptions", [latency.JOBS, throughput.DESCRIPTIONS], ids=["latency", "throughput"])
def test_only_the_rows_without_output_files_declare_that_there_are_none(
    descriptions: dict[str, str], tmp_path: Path
) -> None:
    for what, text in descriptions.items():
        (tmp_path / "job.sub").write_text(text)
        flat = flat_text(prepare(tmp_path / "job.sub", cwd=tmp_path, limits=NO_POOL).clusters[0])
        assert ('transfer_output_files = ""\n' in flat) == ("no output files" in what)
