"""DAG files: what is read, what is found wrong and where, the graph, and how it is told."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from swarmhpc.jobs import dag, dag_box, dag_file, dag_nodes
from swarmhpc.jobs.dag_model import Dag, Other, Script
from swarmhpc.jobs.findings import Finding, Findings
from tests.command_line import TOP

DIAMOND = (TOP / "examples" / "diamond.dag").read_text()


def read(text: str, **others: str) -> tuple[Dag, tuple[Finding, ...]]:
    def reading(path: str) -> str:
        name = path.removeprefix("/home/a/")
        if name not in others:
            raise FileNotFoundError(2, "No such file or directory")
        return others[name]

    findings = Findings()
    made = dag_file.read(text, file="x.dag", folder="/home/a", findings=findings, reading=reading)
    dag_nodes.graph(made, findings)
    return made, findings.sorted("x.dag")


def errors(text: str, **others: str) -> list[tuple[int, int, str, str]]:
    return [(f.place.line, f.place.column, f.code, f.message) for f in read(text, **others)[1]]


def test_the_example_has_four_nodes_one_of_them_described_in_place() -> None:
    made, found = read(DIAMOND)
    assert not found
    assert [(n.name, n.file) for n in made.nodes.values()] == [
        ("split", "split.sub"), ("left", "half.sub"), ("right", "half.sub"), ("join", None),
    ]  # fmt: skip
    inline = made.nodes["join"].inline
    line = next(i for i, text in enumerate(DIAMOND.split("\n")) if "executable" in text)
    assert inline.split("\n")[line].strip() == "executable = /bin/sh"  # the line it has in the file
    assert [(v.node, v.name, v.value) for v in made.variables] == [("left", "part", "one"), ("right", "part", "two")]
    assert dag_nodes.graph(made).parents() == {
        "split": set(), "left": {"split"}, "right": {"split"}, "join": {"left", "right"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "column", "code", "word"),
    [
        ("JOB A a.sub\nJBO B b.sub\n", 2, 1, "dag-command", "JBO"),
        ("JOB A\n", 1, 5, "dag-syntax", "a submit description"),
        ("JOB A a.sub DIRR x\n", 1, 13, "dag-syntax", "DIRR"),
        ("JOB A a.sub\nJOB A b.sub\n", 2, 5, "twice", "line 1"),
        ("JOB parent a.sub\n", 1, 5, "dag-syntax", "parent"),
        ("JOB A+B a.sub\n", 1, 5, "dag-syntax", "+"),
        ("JOB A a.sub\nPARENT A CHILD B\n", 2, 16, "unknown-node", "'B'"),
        ("JOB A a.sub\nPARENT A B\n", 2, 1, "dag-syntax", "CHILD"),
        ("JOB A a.sub\nRETRY A many\n", 2, 9, "dag-syntax", "'many'"),
        ("JOB A a.sub\nRETRY A 3 UNLESS 4\n", 2, 11, "dag-syntax", "UNLESS-EXIT"),
        ("JOB A a.sub\nRETRY B 3\n", 2, 7, "unknown-node", "'B'"),
        ('JOB A a.sub\nVARS A x="1\n', 2, 10, "dag-syntax", "never closed"),
        ("JOB A a.sub\nVARS A x\n", 2, 8, "dag-syntax", "NAME=VALUE"),
        ('JOB A a.sub\nVARS A queue="1"\n', 2, 8, "dag-syntax", "queue"),
        ("JOB A a.sub\nSCRIPT A do.sh\n", 2, 8, "dag-syntax", "PRE, POST or HOLD"),
        ("JOB A a.sub\nSCRIPT PRE A\n", 2, 12, "dag-syntax", "a program"),
        ("JOB A {\n executable = x\n", 1, 7, "unclosed-block", "}"),
        ("JOB A a.sub\nABORT-DAG-ON A 3 RETURN 300\n", 2, 25, "dag-syntax", "0 to 255"),
        ("JOB A a.sub\nPROVISIONER P p.sub\n", 2, 1, "dag-unsupported", "executors itself"),
        ("JOB A a.sub\nREJECT\n", 2, 1, "dag-rejected", "REJECT"),
        ("JOB A a.sub\nFINAL F f.sub\nPARENT A CHILD F\n", 3, 16, "dag-syntax", "FINAL"),
        ("JOB A a.sub\nFINAL F f.sub\nFINAL G f.sub\n", 3, 1, "dag-syntax", "second FINAL"),
        ("JOB A a.sub\nSPLICE S gone.dag\n", 2, 10, "no-such-file", "gone.dag"),
        ("JOB A a.sub\nSUBDAG A x.dag\n", 2, 8, "dag-syntax", "EXTERNAL"),
        ("JOB A a.sub\nMAXJOBS heavy -1\n", 2, 15, "dag-syntax", "at least 0"),
        ("JOB A a.sub\nENV PUT A\n", 2, 5, "dag-syntax", "SET or GET"),
        ("# nothing\n", 1, 1, "no-nodes", "has no nodes"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(text: str, line: int, column: int, code: str, word: str) -> None:
    found = errors(text)
    assert len(found) == 1, found
    assert found[0][:3] == (line, column, code)
    assert word in found[0][3] + str(read(text)[1][0].hint)


def test_all_mistakes_are_told_at_once_and_a_word_that_is_nearly_right_is_named() -> None:
    _, found = read("JOBS A a.sub\nJOB Bee b.sub\nPARENT Bee CHILD Be\nRETRY Bee -1\n")
    assert [(f.code, f.hint) for f in found] == [
        ("dag-command", "did you mean JOB?"), ("unknown-node", "did you mean Bee?"), ("dag-syntax", ""),
    ]  # fmt: skip


def test_a_circle_is_named_at_one_of_its_lines() -> None:
    text = "JOB A a\nJOB B a\nJOB C a\nJOB D a\nPARENT A CHILD B\nPARENT B CHILD C D\nPARENT C CHILD A\n"
    (found,) = read(text)[1]
    assert found.code == "dag-cycle"
    circle = found.message.rpartition(": ")[2].split(" → ")
    assert circle[0] == circle[-1] and set(circle) == {"A", "B", "C"}
    pairs = set(pairwise(circle))
    assert pairs == {("A", "B"), ("B", "C"), ("C", "A")}
    assert found.place.line in (5, 6, 7)


def test_a_circle_through_a_splice_is_found() -> None:
    text = "SPLICE S s.dag\nJOB A a\nPARENT A CHILD S\nPARENT S CHILD A\n"
    (found,) = read(text, **{"s.dag": "JOB X x\nJOB Y x\nPARENT X CHILD Y\n"})[1]
    assert found.code == "dag-cycle" and "S+X" in found.message


def test_files_that_splice_each_other_in_a_circle_are_told_so() -> None:
    (found,) = errors("SPLICE S s.dag\n", **{"s.dag": "SPLICE T s.dag\n"})
    assert found[2] == "dag-circle" and "s.dag → s.dag" in found[3]


def test_lines_are_continued_and_comments_skipped_as_dagman_does() -> None:
    made, found = read(
        "// a comment\nJOB A \\\n# in between\n  a.sub \\\n  DIR sub\nvars A x = '1 2' +Y=\"3\"\npre-skip A 4\n"
    )
    assert not found
    assert (made.nodes["A"].file, made.nodes["A"].folder) == ("a.sub", "/home/a/sub")
    assert [(v.name, v.value) for v in made.variables] == [("x", "1 2"), ("+Y", "3")]
    assert [c.text for c in made.commands if isinstance(c, Other)] == ["pre-skip A 4"]


def test_a_place_behind_a_continued_line_is_the_one_in_the_file() -> None:
    assert errors("JOB A a.sub\nRETRY A \\\n\n   none\n")[0][:2] == (4, 4)


def test_a_description_may_stand_below_the_nodes_that_use_it() -> None:
    made, found = read("JOB A common\nJOB B common DONE\nSUBMIT-DESCRIPTION common @=end\nexecutable = x\n@end\n")
    assert not found
    assert [n.file for n in made.nodes.values()] == [None, None]
    assert "executable = x" in made.nodes["B"].inline and made.nodes["B"].is_done
    assert made.commands[0] is made.nodes["A"]


def test_an_include_is_read_in_place() -> None:
    made, found = read("INCLUDE more.dag\nPARENT A CHILD B\n", **{"more.dag": "JOB A a.sub\nJOB B b.sub\n"})
    assert not found and list(made.nodes) == ["A", "B"]


def test_a_script_keeps_its_options_and_arguments() -> None:
    made, found = read("JOB A a\nSCRIPT DEFER 3 60 DEBUG out.txt ALL PRE A do.sh 'x y' $JOB\n")
    assert not found
    (script,) = made.scripts("A")
    assert isinstance(script, Script)
    assert (script.options, script.when) == ("DEFER 3 60 DEBUG out.txt ALL", "PRE")
    assert script.command.text == "do.sh 'x y' $JOB"


def test_splices_are_joined_by_their_ends_and_by_pins() -> None:
    inner = "JOB X x\nJOB Y x\nPARENT X CHILD Y\nPIN_OUT Y 1\nPIN_IN X 1\n"
    made, found = read("SPLICE S s.dag\nSPLICE T s.dag\nJOB A a\nPARENT A CHILD S\nCONNECT S T\n", **{"s.dag": inner})
    assert not found
    assert dag_nodes.graph(made).parents() == {
        "A": set(), "S+X": {"A"}, "S+Y": {"S+X"}, "T+X": {"S+Y"}, "T+Y": {"T+X"},
    }  # fmt: skip


# -- what the ad tells -----------------------------------------------------------------------------------------------


def test_what_the_ad_tells_is_the_graph_again() -> None:
    nodes = [f"n{i}" for i in range(1000)]
    text = "".join(f"JOB {n} a\n" for n in nodes)
    text += f"PARENT {' '.join(nodes[:500])} CHILD {' '.join(nodes[500:])}\nPARENT n500 n501 n503 CHILD n600\n"
    graph = dag_nodes.graph(read(text)[0])
    told = graph.attributes()
    assert len(told["SwarmHpcDagEdges"]) < 100
    back = {n.name: set(n.parents) for n in dag_nodes.nodes(told)}
    assert back == graph.parents()


def test_a_node_is_as_its_job_while_that_is_in_the_queue() -> None:
    ad = {"SwarmHpcDagNodes": "a b c d e", "SwarmHpcDagEdges": "0>1-4", "SwarmHpcDagStates": "53367"}
    nodes = dag_nodes.nodes(ad, {"a": "RUNNING", "b": "STARTING"})
    assert [n.state for n in nodes] == ["SUCCEEDED", "STARTING", "RUNNABLE", "FAILED", "FAILED"]
    assert nodes[4].parents == ("a",)


def test_a_dag_that_has_not_begun_has_only_waiting_nodes() -> None:
    ad = {"SwarmHpcDagNodes": "a b", "SwarmHpcDagEdges": "0>1"}
    assert [n.state for n in dag_nodes.nodes(ad)] == ["PENDING", "PENDING"]
    assert dag_nodes.progress(ad) == (0, 0, 2)
    assert dag_nodes.nodes({}) == ()


# -- what is sent ----------------------------------------------------------------------------------------------------

SUB = "universe = docker\ndocker_image = debian:12\nexecutable = /bin/sh\nrequest_memory = 64M\n"


def flow(folder: Path, dag_text: str, **files: str) -> dag.Workflow:
    (folder / "x.dag").write_text(dag_text)
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return dag.read(folder / "x.dag", cwd=folder, limits=None)


def lines_of(workflow: dag.Workflow, file: str) -> list[str]:
    return workflow.box.texts[file].split("\n")


def test_paths_mean_the_same_in_the_sandbox(tmp_path: Path) -> None:
    """Relative ones stay; absolute ones begin at the sandbox's tree, from wherever the node runs."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "sub").mkdir()
    (tmp_path / "data.txt").write_text("1")
    made = flow(
        work,
        "JOB A a.sub DIR sub\n",
        sub__a_sub=SUB + f"transfer_input_files = ../x.dag, {tmp_path}/data.txt\noutput = {work}/out\ninput = in\n"
        f'transfer_output_remaps = "m={tmp_path}/m;k=k2"\nqueue\n',
        sub__in="x",
    )
    assert not made.has_errors, made.findings
    lines = lines_of(made, f"tree{work}/x.dag")
    up = "../" * len((work / "sub").parts[1:])
    assert f"transfer_input_files = ../x.dag, {up}{str(tmp_path)[1:]}/data.txt" in lines
    assert f"output = {up}{str(work)[1:]}/out" in lines
    assert f'transfer_output_remaps = "m={up}{str(tmp_path)[1:]}/m;k=k2"' in lines
    assert "input = in" in lines
    assert not any(line.startswith("initialdir") for line in lines)  # where DAGMan stands when it submits it
    assert "@SWARMHPC DIR sub" in lines
    assert made.box.sends == {str(work / "x.dag"), str(tmp_path / "data.txt"), str(work / "sub" / "in")}


def test_what_is_sent_is_links_to_the_files_and_the_generated_dag(tmp_path: Path) -> None:
    work, box = tmp_path / "work", tmp_path / "box"
    work.mkdir()
    (work / "data").mkdir()
    (work / "data" / "1").write_text("one")
    (work / "out").mkdir()
    made = flow(work, "JOB A a.sub\n", a_sub=SUB + "transfer_input_files = data\noutput = out/o\nqueue\n")
    made.box.write(box)
    tree = box / f"tree{work}"
    assert (tree / "data" / "1").is_symlink() and (tree / "data" / "1").read_text() == "one"
    assert (tree / "out").is_dir()
    assert (tree / "x.dag").read_text().startswith("JOB A @=SWARMHPC\n")
    assert not (tree / "a.sub").exists()
    assert (work / "x.dag").read_text() == "JOB A a.sub\n"


def test_macros_that_only_dagman_knows_stay_and_the_others_are_filled_in(tmp_path: Path) -> None:
    made = flow(
        tmp_path,
        'JOB A a.sub\nVARS A who="$(JOB).$(RETRY)" +Mine="7"\nVARS A APPEND request_cpus="2"\n',
        a_sub=SUB + "request_cpus = 1\narguments = $(who) $(DAG_STATUS)\noutput = o.$(RETRY)\nqueue\n",
    )
    assert not made.has_errors, made.findings
    lines = lines_of(made, f"tree{tmp_path}/x.dag")
    assert "arguments = A.$(RETRY) $(DAG_STATUS)" in lines
    assert "output = o.$(RETRY)" in lines
    assert "request_cpus = 2" in lines
    assert "MY.Mine = 7" in lines or "+Mine = 7" in lines
    assert not any(line.startswith("VARS") for line in lines)


def test_a_mistake_in_a_nodes_description_is_told_where_it_is(tmp_path: Path) -> None:
    made = flow(
        tmp_path, "JOB A a.sub\nJOB B {\nrequest_cpus = many\n" + SUB + "queue\n}\nJOB C none.sub\n",
        a_sub=SUB + "transfer_input_files = nothing.txt\nqueue\n",
    )  # fmt: skip
    found = {(Path(f.place.file).name, f.place.line, f.code) for f in made.findings if f.severity == "error"}
    assert ("a.sub", 5, "no-such-file") in found
    assert ("x.dag", 3) in {(name, line) for name, line, _ in found}
    assert ("x.dag", 10, "no-such-file") in found


def test_what_an_earlier_node_or_a_script_makes_need_not_be_here(tmp_path: Path) -> None:
    made = flow(
        tmp_path,
        "JOB A a.sub\nJOB B b.sub\nPARENT A CHILD B\nJOB C later.sub\nSCRIPT PRE C /bin/true\n",
        a_sub=SUB + "queue\n",
        b_sub=SUB + "transfer_input_files = made.txt\nqueue\n",
    )
    assert not made.has_errors, made.findings
    assert "JOB C later.sub" in lines_of(made, f"tree{tmp_path}/x.dag")
    assert [f.code for f in made.findings if f.severity == "warning"] == ["made-later"]


def test_a_script_has_to_be_here_and_executable(tmp_path: Path) -> None:
    made = flow(
        tmp_path, "JOB A a.sub\nSCRIPT PRE A do.sh\nSCRIPT POST A gone.sh\n", a_sub=SUB + "queue\n", do_sh="#!/bin/sh\n"
    )
    assert [(f.code, f.place.line) for f in made.findings if f.severity == "error"] == [
        ("script", 2), ("no-such-file", 3),
    ]  # fmt: skip


def test_a_name_with_a_blank_is_one_word_again() -> None:
    assert dag_box.inside("/home/a b/c", "/home") == "a b/c"
    assert dag._word("a b") == '"a b"'


def test_a_thousand_nodes_are_read_in_seconds(tmp_path: Path) -> None:
    text = "".join(f'JOB n{i} a.sub\nVARS n{i} i="{i}"\n' for i in range(1000))
    made = flow(tmp_path, text, a_sub=SUB + "arguments = $(i)\noutput = o.$(i)\nqueue\n")
    assert not made.has_errors
    lines = lines_of(made, f"tree{tmp_path}/x.dag")
    assert sum(line.startswith("arguments = ") for line in lines) == 1000
    assert "arguments = 999" in lines
