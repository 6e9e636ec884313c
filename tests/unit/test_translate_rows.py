"""The translation of many jobs: rows, several queue statements, and what is worked out once only."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmhpc.jobs import parts
from swarmhpc.jobs.description import parse
from swarmhpc.jobs.rule import SubmitSide
from swarmhpc.jobs.translate import Limits, translate
from tests.unit.test_translate import docker, errors, found, jobs, only, run, values


def queued(statement: str, *lines: str) -> str:
    return docker(*lines).replace("queue", statement)


def test_each_row_has_its_own_values() -> None:
    translation = run(queued("queue a, b from (\n1 x\n2 y\n)", "arguments = $(a) $(b)", "output = o.$(a)"))
    assert only(translation).varying == ("arguments", "output")
    assert values(translation) == [("1 x", "o.1"), ("2 y", "o.2")]
    assert [f.output for f in jobs(translation)] == ["/w/o.1", "/w/o.2"]


def test_a_command_whose_variable_is_the_same_in_every_row_does_not_vary() -> None:
    translation = run(queued("queue m, n from (\n1G a\n1024M b\n)", "request_memory = $(m)", "arguments = $(n)"))
    assert only(translation).varying == ("arguments",)
    assert only(translation).common["request_memory"] == "1024"


def test_rows_can_be_asked_for_again_also_where_they_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    text = queued("queue x in (a, b)", "arguments = $(x)", "output = $(x).$(Process)", "+N = $(Process)")
    kept = list(only(run(text)).rows())
    monkeypatch.setattr(parts, "_KEPT", 0)
    cluster = only(run(text))
    assert list(cluster.rows()) == kept
    assert list(cluster.rows()) == kept


def test_several_queue_statements_are_one_cluster_and_the_process_goes_on() -> None:
    text = docker("arguments = $(Process)", "output = o.$(Process)") + "request_gpus = 1\n+A = 1\nqueue 2\n"
    cluster = only(run(text, limits=None))
    assert cluster.count == 3
    assert cluster.varying == ("arguments", "output", "request_gpus", "+A")
    assert [row for row, _ in cluster.rows()] == [
        ("0", "o.0", "", "undefined"), ("1", "o.1", "1", "1"), ("2", "o.2", "1", "1")
    ]  # fmt: skip


def test_statements_with_and_without_an_image_become_two_clusters() -> None:
    text = "executable = job.sh\nqueue\ndocker_image = debian:12\nqueue 2\n"
    translation = run(text)
    assert errors(translation) == []
    assert [(c.common["universe"], c.count) for c in translation.clusters] == [("vanilla", 1), ("docker", 2)]
    assert found(translation, "several-clusters").place.line == 4


def test_a_loop_variable_that_is_a_command_gives_it_its_value() -> None:
    translation = run(queued("queue arguments, output from (\na, x\nc, y\n)", "output = hidden"))
    assert only(translation).varying == ("arguments", "output")
    assert values(translation) == [("a", "x"), ("c", "y")]


def test_an_image_that_only_some_rows_have_is_refused() -> None:
    rows = "executable = job.sh\ndocker_image = $(i)\nqueue n, i from (\n1, debian:12\n2,\n)\n"
    assert [f.code for f in errors(run(rows))] == ["universe"]


def test_every_row_is_checked_and_told_once() -> None:
    text = queued("queue m in (1G, lots, more)", "request_memory = $(m)")
    assert [f.code for f in errors(run(text))] == ["no-quantity"]


def test_a_file_is_looked_for_once_for_each_different_name() -> None:
    asked: list[str] = []

    def exists(path: PurePosixPath) -> bool:
        asked.append(str(path))
        return True

    side = SubmitSide(PurePosixPath("/w"), PurePosixPath("/home/me"), exists)
    text = queued("queue 200", "arguments = $(Process)", "transfer_input_files = data.txt", "output = logs/$(Process)")
    assert errors(translate(parse(text, file="x"), limits=Limits(classes=()), side=side)) == []
    assert sorted(asked) == ["/w/data.txt", "/w/logs"]


def test_late_materialisation_is_honoured_where_nothing_travels() -> None:
    lines = ["executable = /bin/true", "max_materialize = 5", "max_idle = 2"]
    cluster = only(run(queued("queue 100", *lines)))
    assert (cluster.travels, cluster.max_materialize, cluster.max_idle) == (False, 5, 2)
    travelling = run(queued("queue 100", *lines, "transfer_input_files = data.txt"))
    assert (only(travelling).travels, only(travelling).max_materialize) == (True, None)
    assert [f.place.line for f in travelling.findings if f.code == "left-out"] == [4, 5]


def test_lines_say_where_each_comes_from_and_why() -> None:
    translation = run(docker("container_image = docker://debian:12").replace("docker_image = debian\n", ""))
    lines = {line.name: line for line in translation.lines}
    assert lines["docker_image"].value == "debian:12"
    assert lines["docker_image"].place is not None
    assert lines["docker_image"].place.line == 2
    assert "docker knows" in lines["docker_image"].why
    assert lines["notification"].place is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12), min_size=1, max_size=5))
def test_rows_of_any_text_never_raise_and_agree_with_what_is_common(rows: list[str]) -> None:
    text = queued("queue x, y from (\n" + "\n".join(f"r,{r}" for r in rows) + "\n)",
                  "arguments = $(x) $(y)", "output = logs/$(y)", "request_memory = $(y)", "+A = $(y)")  # fmt: skip
    translation = run(text)
    for cluster in translation.clusters:
        assert len(list(cluster.rows())) == cluster.count
        assert all(len(row) == len(cluster.varying) for row, _ in cluster.rows())
