"""The reader of submit descriptions: values, places, findings, and that no input makes it fail or slow."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmhpc.adapters.classads import evaluate
from swarmhpc.jobs.description import Description, parse
from swarmhpc.jobs.findings import MAX_FINDINGS, Place
from swarmhpc.jobs.macros import CLUSTER_MARK
from swarmhpc.jobs.sources import NOTHING, SourceError, Sources


def read(text: str) -> Description:
    return parse(text, file="job.sub")


def codes(text: str, severity: str = "error") -> list[str]:
    return [f.code for f in read(text).findings if f.severity == severity]


def files(**texts: str) -> Sources:
    def read_file(path: str) -> str:
        if path not in texts:
            raise SourceError(f"{path} is missing")
        return texts[path]

    return replace(NOTHING, read=read_file)


def value(source: str | Description, name: str, process: int = 0, statement: int = 0) -> str:
    """What `name` is for one job of one queue statement."""
    description = read(source) if isinstance(source, str) else source
    reached = description.statements[statement]
    raw = reached.attributes[name[1:]] if name[0] == "+" else reached.commands[name]
    template = reached.macros.compile(raw.text)
    lives = list(reached.queue.lives(0))
    text = template.render(lives[min(process, len(lives) - 1)]) if template.constant is None else template.constant
    return text.replace(CLUSTER_MARK, "$(Cluster)")


@pytest.mark.parametrize(
    ("text", "name", "wanted"),
    [
        ("Executable = /bin/cat\nqueue", "executable", "/bin/cat"),
        ("executable=/bin/cat\r\nqueue\r\n", "executable", "/bin/cat"),
        ("\ufeffexecutable\t = \t/bin/cat \nqueue", "executable", "/bin/cat"),
        ("# c\n\n  # d\narguments = a # b\nqueue", "arguments", "a # b"),
        ("arguments = a \\\n   b \\\n   c\nqueue", "arguments", "a b c"),
        ("arguments = a \\\n # no \\\n b\nqueue", "arguments", "a b"),
        ("# not continued \\\narguments = a\nqueue", "arguments", "a"),
        ("arguments =\nqueue", "arguments", ""),
        ("arguments = 1\nARGUMENTS = 2\nqueue", "arguments", "2"),
        ("arguments = $(x) $(X)\nx = late\nqueue", "arguments", "late late"),
        ("x = a\narguments = $(x:b) $(y:c) $(y:$(x)) $(y:$(z:d))\nqueue", "arguments", "a c a d"),
        ("x =\narguments = $(x:empty)\nqueue", "arguments", "empty"),
        ("arguments = $(y:)|\nqueue", "arguments", "|"),
        ("x = a\nx = $(x) b\narguments = $(x)\nqueue", "arguments", "a b"),
        ("arguments = $(DOLLAR)(x) $(dollar) 5$ $HOME $$x\nqueue", "arguments", "$(x) $ 5$ $HOME $$x"),
        ("x = 1\narguments = $$(Arch) $$([ $(x) + 1 ]) $$(a$(x))\nqueue", "arguments", "$$(Arch) $$([ 1 + 1 ]) $$(a1)"),
        ("x = 1\narguments = $$$(x)\nqueue", "arguments", "$$1"),
        ("arguments = $(Process).$(ProcId).$(Step).$(Row).$(ItemIndex).$(Item)\nqueue 9", "arguments", "3.3.3.0.0."),
        ("log = $(ClusterId)/$(cluster)\nqueue", "log", "$(Cluster)/$(Cluster)"),
        ("+Foo = $(Process)\nqueue 9", "+Foo", "3"),
        ("my.Foo = 1\n+foo = 2\nqueue", "+foo", "2"),
        ("a.b = 1\narguments = $(a.b)\nqueue", "arguments", "1"),
        ("x = late\narguments @=end\n  $(x)\n# gone\n\n two \\\n  three\n@end\nqueue", "arguments", "late\ntwo three"),
        ("x @=\none\n@\narguments = $(x)\nqueue", "arguments", "one"),
        ("a = 1\na += 2\na +,= 3\na +&&= 4\narguments = $(a)\nqueue", "arguments", "1 2,3 && 4"),
        ("a += 1\narguments = $(a)\nqueue", "arguments", "1"),
        ("n = x\n$(n)_y = 1\narguments = $(x_y)\nqueue", "arguments", "1"),
        ("n = +Foo\n$(n) = 7\nqueue", "+foo", "7"),
        ("+Foo = 1\n-Foo = 1\nqueue", "+Foo", ""),
        ("a = /x/y.z\na = $Fn(a)\narguments = $(a)\nqueue", "arguments", "y"),
        ("a = $(a:7) x\narguments = $(a)\nqueue", "arguments", "7 x"),
        (
            "arguments = 1\nif false\narguments = 2\nelif defined arguments\n:arguments = 3\nelse\n"
            "arguments = 4\nendif\nqueue",
            "arguments",
            "3",
        ),
        ("if true\nif false\narguments = 1\nelse\narguments = 2\nendif\nendif\nqueue", "arguments", "2"),
        (
            "if false\nif 1\narguments = 1\nelse\narguments = 2\nendif\nelse\narguments = 3\nendif\nqueue",
            "arguments",
            "3",
        ),
        ("use STRICT : true\narguments = $(SubmitFailEmptyMatches)\nqueue", "arguments", "true"),
    ],
)
def test_a_value_is_what_htcondor_would_read(text: str, name: str, wanted: str) -> None:
    assert value(text, name, process=3) == wanted


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        ("queue", 1),
        ("Queue 10", 10),
        ("n = 4\nqueue $(n)", 4),
        ("  queue\t3", 3),
        ("queue $(n:2)", 2),
        ("queue 1000000", 1000000),
        ("iterate 3", 3),
        ("ITER 2", 2),
        ("queue x in (a b c)", 3),
        ("queue x from (\n a\n b\n)\narguments = 1\nqueue 2", 4),
        ("queue 2 x in [0:2] (a b c)", 4),
        ("arguments = 1", 1),
    ],
)
def test_the_queue_statements_give_the_number_of_jobs(text: str, jobs: int) -> None:
    description = read(f"executable = a\n{text}\n")
    assert description.jobs == jobs
    assert not description.has_errors


@pytest.mark.parametrize("number", ["-1", "1000001", "many", "9" * 40, "٣"])
def test_a_queue_count_that_makes_no_jobs_is_an_error_at_its_place(number: str) -> None:
    description = read(f"executable = a\nqueue {number}\n")
    error = next(f for f in description.findings if f.severity == "error")
    assert error.place == Place("job.sub", 2, 7)
    assert description.jobs == 0


def test_all_queue_statements_together_make_at_most_a_million_jobs() -> None:
    assert "queue-count" in codes("executable = a\nqueue 600000\nqueue 600000\n")


def test_each_queue_statement_sees_what_was_set_before_it() -> None:
    description = read("x = 1\narguments = $(x)\nqueue\nx = 2\n+A = 1\nqueue\nqueue\narguments = $(x)3\nqueue")
    assert [value(description, "arguments", statement=i) for i in range(4)] == ["1", "2", "2", "23"]
    assert [dict(s.attributes).keys() for s in description.statements] == [set(), {"A"}, {"A"}, {"A"}]
    assert len(description.statements[0].commands) == 2
    assert [s.place.line for s in description.statements] == [3, 6, 7, 9]
    assert [f.code for f in description.findings] == ["several-queues"]


def test_a_loop_variable_is_stale_after_its_queue_statement_as_in_condor_submit() -> None:
    description = read("x = 9\narguments = $(x)\nqueue x in (1 2)\nqueue\nx = 8\nqueue")
    assert [value(description, "arguments", 1, i) for i in range(3)] == ["2", "<Queue_item>", "8"]
    stale = [f for f in description.findings if f.code == "stale-variable"]
    assert [(f.severity, f.place.line, f.place.column) for f in stale] == [("warning", 2, 13)]


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "word"),
    [
        ("", "no-queue", 1, 1, "queue"),
        ("howmany = 3\n", "no-queue", 1, 1, "queue"),
        ("queue x in ()", "no-jobs", 1, 1, "empty"),
        ("queue\nthe end\n", "not-understood", 2, 1, "the end"),
        ("if false\nqueue\n", "unclosed-if", 1, 1, "never closed"),
        ("if true\n if false\nendif\nqueue 2 of\n", "queue-in-if", 4, 1, "endif"),
        (" endif\nqueue", "else-without-if", 1, 2, "endif"),
        ("else\nqueue", "else-without-if", 1, 1, "outside"),
        ("elif 1\nqueue", "else-without-if", 1, 1, "outside"),
        ("if 1\nelse\nelse\nendif\nqueue", "else-without-if", 3, 1, "follows"),
        ("if 1\nelse\n  elif 1\nendif\nqueue", "else-without-if", 3, 3, "follows"),
        ("if $(x) > 2\nendif\nqueue", "bad-condition", 1, 4, "compares"),
        ("if 0\n elif  foo\nendif\nqueue", "bad-condition", 2, 8, "neither"),
        ("if(true)\nqueue", "not-understood", 1, 1, "if(true)"),
        ("if 1\n" * 64 + "queue", "if-too-deep", 64, 1, "63"),
        ("  include : other.sub\nqueue", "include-missing", 1, 13, "other.sub"),
        ("include more : other.sub\nqueue", "not-understood", 1, 1, "more"),
        ("include :\nqueue", "not-understood", 1, 1, "no file"),
        ("include command : rm -rf /\nqueue", "would-run-command", 1, 1, "rm -rf /"),
        ("include ifexist output into a : rm -rf /\nqueue", "would-run-command", 1, 1, "rm -rf /"),
        ("include : rm -rf / |\nqueue", "would-run-command", 1, 1, "rm -rf /"),
        ("use TEMPLATE : x\nqueue", "unknown-template", 1, 1, "TEMPLATE"),
        ("error : not $(x) this\nqueue", "error-statement", 1, 1, "not  this"),
        ("x @=end\nqueue", "unclosed-block", 1, 1, "@end"),
        ("arguments+=a\nqueue", "bad-name", 1, 1, "arguments+"),
        ("+A += 1\nqueue", "bad-name", 1, 1, "+A"),
        ("-A\nqueue", "not-understood", 1, 1, "-A"),
        ("a = b\nx$(a)- = 1\nqueue", "bad-name", 2, 1, "xb-"),
        ("arguments = $(a\nqueue", "unclosed-macro", 1, 13, "$("),
        ("arguements = a\nqueue", "unknown-command", 1, 1, "arguements"),
        ("queue\n \\\n reqest_memory = 1G\nqueue", "unknown-command", 3, 2, "reqest_memory"),
        ("some words\nqueue", "not-understood", 1, 1, "some words"),
        ("some words = a\nqueue", "not-understood", 1, 1, "some words"),
        ("+F-o = 1\nqueue", "bad-name", 1, 1, "job attribute"),
        ("executable: a\nqueue", "not-understood", 1, 1, "executable"),
        ("a-b = c\nqueue", "bad-name", 1, 1, "a-b"),
        ("+ Foo = 1\nqueue", "not-understood", 1, 1, "+ Foo"),
        ("arguments = a\x07b\nqueue", "control-character", 1, 14, "U+0007"),
        ("a = $(b)\nb = $(a)\narguments = $(a)\nqueue", "macro-cycle", 3, 13, "a"),
        ("if $(b)\nendif\nb = 1\nqueue=5", "not-understood", 4, 1, "queue=5"),
    ],
)
def test_what_is_not_understood_is_a_finding_that_names_it_and_its_place(
    text: str, code: str, line: int, column: int, word: str
) -> None:
    found = [f for f in read(text).findings if f.code == code]
    assert found, read(text).findings
    assert (found[0].place.line, found[0].place.column) == (line, column)
    assert word in found[0].message


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        ("#!/bin/bash\n#SBATCH --mem=4G\nsrun x\n", "slurm-script", "another batch system"),
        ("#!/bin/sh\n#PBS -l mem=4G\nx\n", "slurm-script", "another batch system"),
        ("#!/bin/bash\necho\ncat > a.sub <<'EOF'\nexecutable = x\nqueue\nEOF\n", "heredoc", "line 4"),
        ("condor_submit - <<-END\n\texecutable = x\n\toutput = y\n\tEND\n", "heredoc", "line 2"),
        ("#!/usr/bin/env python3\nprint(1)\n", "script", "starts a script"),
        ('import os\ndef f():\n  x = """\nexecutable = a\noutput = b\nqueue\n"""\n', "script", "line 4"),
        ("executable = {{ name }}\nqueue\n", "template", "template"),
        ("{% for x in y %}\nqueue\n{% endfor %}\n", "template", "template"),
        ("executable = {{#list}}x{{/list}}\nqueue\n", "template", "template"),
        ("request_cpus = ${Cores}\nrequest_memory=@MEM@\nqueue\n", "template", "2 of its commands"),
        ('{"jobDefinition": 1}', "json", "JSON"),
        ("apiVersion: batch/v1\nkind: Job\n", "yaml", "Kubernetes"),
        ("services:\n  a:\n    image: b\nversion: 3\n", "yaml", "YAML"),
        ("JOB a a.sub\nPARENT a CHILD b\n", "dag", "DAG"),
        ("subdag external a b.dag\n", "dag", "DAG"),
        ("<!DOCTYPE html>\n<html>\nqueue\n", "html", "HTML"),
        ("# Jobs\n\nWrite this in a file:\n\n```\nexecutable = a\nqueue\n```\n", "page", "line 6"),
        ("Jobs\n====\n\nWrite this in a file:\n\n::\n\n  executable = a\n  queue\n", "page", "line 8"),
        ("\x7fELF\x00\x00\nfoo\n", "binary-file", "binary"),
        ("\ufffd\ufffdabc\ufffd", "binary-file", "no text"),
    ],
)
def test_another_kind_of_file_gets_one_clear_error(text: str, code: str, word: str) -> None:
    findings = read(text).findings
    assert [f.code for f in findings] == [code]
    assert word in findings[0].message
    assert findings[0].hint


@pytest.mark.parametrize(
    "text",
    [
        "#!/usr/bin/env condor_submit\nexecutable = a\nqueue",
        "#!/bin/bash\nexecutable = a\noutput = b\nqueue",
        "# SBATCH lines\n#SBATCH --mem=1G\nexecutable = a\noutput = b\nqueue",
        "executable = a\narguments = --format '{{.Names}}' {x} ${HOME} << EOF\nqueue",
        "executable = a\narguments = $(x)\nqueue x from (\nJOB a b.sub\n{% x\n)",
        "# ```\n# Write this in a file\nexecutable = a\nqueue",
    ],
)
def test_what_only_looks_a_little_like_another_kind_of_file_is_read(text: str) -> None:
    assert not {f.code for f in read(text).findings} & {"script", "heredoc", "slurm-script", "page", "dag", "yaml"}


def test_a_typo_is_answered_with_the_likeliest_command() -> None:
    hints = {f.message.split(" ")[0]: f.hint for f in read("arguements = a\nreqest_cpus = 1\nqueue").findings}
    assert "arguments" in hints["arguements"]
    assert "request_cpus" in hints["reqest_cpus"]


@pytest.mark.parametrize(
    "text",
    [
        "arguements = a\narguments = $(arguements)\nqueue",
        "howmany = 3\nqueue $(howmany)",
        "big = 1\nif defined big\nendif\nqueue",
        "path = /a/b\narguments = $Fn(path)\nqueue",
        "x = 5\narguments = $(x)\nqueue x in (1 2)",
        "n = foo\n$(n) = 1\narguments = $(foo)\nqueue",
    ],
)
def test_a_macro_of_the_users_own_is_no_typo(text: str) -> None:
    assert codes(text) == []


def test_a_comparison_that_was_named_is_a_condition() -> None:
    text = "n = 3\nbig = $(n) > 2\nif $EVAL(big)\narguments = 1\nendif\nqueue"
    description = parse(text, file="job.sub", sources=replace(NOTHING, evaluate=evaluate))
    assert description.findings == ()
    assert value(description, "arguments") == "1"


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "word"),
    [
        ("request_memory = $(Mem)GB\nqueue", "undefined-macro", 1, 18, "'GB'"),
        ("x = $(y)\narguments = -n $(x)\nqueue", "undefined-macro", 1, 5, "'-n '"),
        ("arguments = a \\\n  b \\\n  $(y)\nqueue", "undefined-macro", 3, 3, "'a b '"),
        ("arguments @=e\n a\n  b $(y)\n@e\nqueue", "undefined-macro", 3, 5, "y"),
        ("arguments = a\narguments += $(y)\nqueue", "undefined-macro", 2, 14, "'a '"),
        ("x = $(y)\nx = $(x) b\narguments = $(x)\nqueue", "undefined-macro", 1, 5, "' b'"),
        ("output = a\nOutput = b\nqueue", "set-twice", 2, 1, "line 1"),
        ("+A = 1\nMY.a = 2\nqueue", "set-twice", 2, 1, "line 1"),
        ("if true\noutput = a\nendif\noutput = b\nqueue", "set-twice", 4, 1, "line 2"),
        ("arguments = a # b\nqueue", "trailing-comment", 1, 15, "# b"),
        ('arguments = "a # b" # c\nqueue', "trailing-comment", 1, 21, "# c"),
        ("Process = 4\narguments = $(Process)\nqueue", "set-by-htcondor", 1, 1, "Process"),
        ("arguments = $( date )\nqueue", "no-macro", 1, 13, "$( date )"),
        ("arguments = a \\\n# b\nexecutable = c\nqueue", "comment-in-continuation", 2, 1, "last character"),
        ("queue\n  executable = a\noutput = b\n", "after-last-queue", 2, 3, "no job"),
        ("executable = a\n", "no-queue", 1, 1, "one job"),
        ("if true\nelse if false\nendif\nqueue", "else-if", 2, 1, "else"),
        ("warning : $(x) beware\nqueue", "warning-statement", 1, 1, "beware"),
    ],
)
def test_what_surprises_is_a_warning_with_its_place(text: str, code: str, line: int, column: int, word: str) -> None:
    description = read(text)
    warnings = [f for f in description.findings if f.severity == "warning"]
    assert [(w.code, w.place.line, w.place.column) for w in warnings] == [(code, line, column)]
    assert word in warnings[0].message
    assert not description.has_errors


@pytest.mark.parametrize(
    "text",
    [
        'arguments = "a # b"\nqueue',
        "output = a\nqueue\noutput = b\nqueue",
        "if true\noutput = a\nelse\noutput = b\nendif\nqueue",
        "output = a\nif true\noutput = b\nendif\nqueue",
        "if true\noutput = a\nendif\nif true\noutput = b\nendif\nqueue",
        "output = a\noutput += b\nqueue",
        "output = a\noutput = $(output) b\nqueue",
        "include ifexist : nothing\nqueue",
    ],
)
def test_what_is_meant_is_no_warning(text: str) -> None:
    assert codes(text, "warning") == []


def test_an_ordinary_description_has_no_findings() -> None:
    text = (
        "universe = docker\ndocker_image = debian\nexecutable = /bin/cat\noutput = o.$(Process)\n+Foo = 1\nqueue 10\n"
    )
    description = read(text)
    assert description.findings == ()
    statement = description.statements[0]
    assert statement.place == Place("job.sub", 6, 1)
    assert statement.commands["executable"].place == Place("job.sub", 3, 14)
    assert dict(statement.attributes).keys() == {"Foo"}
    assert statement.attributes["FOO"].text == "1"


def test_values_of_an_included_file_are_placed_in_it() -> None:
    sources = files(**{"more.sub": "x = 1\nif true\n  arguments = $(y)\nendif\n"})
    description = parse("name = more\ninclude : $(name).sub\nqueue", file="job.sub", sources=sources)
    assert description.statements[0].commands["arguments"].place == Place("more.sub", 3, 15)
    assert [(f.code, f.place.file, f.place.line) for f in description.findings] == [
        ("unknown-command", "more.sub", 1),
        ("undefined-macro", "more.sub", 3),
    ]


def test_a_value_of_an_included_file_may_be_replaced_without_a_warning() -> None:
    sources = files(a="output = a\n")
    assert parse("include : a\noutput = b\nqueue", file="job.sub", sources=sources).findings == ()


@pytest.mark.parametrize(
    ("texts", "code", "place"),
    [
        ({"a": "include : job.sub\n"}, "include-cycle", ("a", 1)),
        ({"a": "include : b\n", "b": "\ninclude : a\n"}, "include-cycle", ("b", 2)),
        ({"a": "queue 3\n"}, "queue-in-include", ("a", 1)),
        ({"a": "endif\n"}, "else-without-if", ("a", 1)),
        ({"a": "if true\n"}, "unclosed-if", ("a", 1)),
        ({"a": "x @=e\n"}, "unclosed-block", ("a", 1)),
    ],
)
def test_an_included_file_that_does_not_fit_is_an_error_in_it(
    texts: dict[str, str], code: str, place: tuple[str, int]
) -> None:
    description = parse("if true\ninclude : a\nendif\nqueue", file="job.sub", sources=files(**texts))
    errors = [(f.code, (f.place.file, f.place.line)) for f in description.findings if f.severity == "error"]
    assert errors == [(code, place)]


def test_includes_end_at_htcondors_depth_and_never_grow_exponentially() -> None:
    chain = files(**{f"f{i}": f"include : f{i + 1}\n" for i in range(30)}, f30="output = a")
    found = parse("include : f0\nqueue", file="job.sub", sources=chain).findings
    assert [(f.code, f.place.file) for f in found if f.severity == "error"] == [("include-too-deep", "f18")]
    double = files(**{f"f{i}": f"include : f{i + 1}\n" * 2 for i in range(18)}, f18="output = a")
    found = parse("include : f0\nqueue", file="job.sub", sources=double).findings
    assert "include-too-deep" in [f.code for f in found]


def test_a_command_runs_only_when_that_is_allowed_and_is_told() -> None:
    ran: list[str] = []

    def run(command: str) -> str:
        ran.append(command)
        return "output = made\n"

    text = "n = 1\ninclude command : make $(n)\nqueue"
    assert [f.code for f in read(text).findings] == ["would-run-command"]
    description = parse(text, file="job.sub", sources=replace(NOTHING, run=run))
    assert ran == ["make 1"]
    assert [(f.severity, f.code) for f in description.findings] == [("note", "command-run")]
    assert description.statements[0].commands["output"].place == Place("<output of make 1>", 1, 10)


def test_include_into_reads_the_file_that_an_earlier_run_has_made() -> None:
    text = "include command into made : make\nqueue"
    assert parse(text, file="job.sub", sources=files(made="output = a\n")).findings == ()
    assert codes(text) == ["would-run-command"]


def command_line(text: str, overrides: Sequence[str] = (), append: Sequence[str] = ()) -> Description:
    return parse(text, file="job.sub", overrides=overrides, append=append)


def test_the_file_wins_over_the_command_line_as_in_condor_submit_and_says_so() -> None:
    text = "x = $(x:file)\narguments = $(x)\ny = 2\noutput = $(y)\nqueue"
    description = command_line(text, ["x=cmd", "y=3", "+Foo = 1"])
    assert value(description, "arguments") == "cmd"
    assert value(description, "output") == "2"
    assert value(description, "+Foo") == "1"
    assert [(f.code, f.place.line) for f in description.findings] == [("override-replaced", 3)]


def test_appended_lines_win_over_the_file_at_each_queue_statement() -> None:
    description = command_line("x = 1\narguments = $(x)\nqueue\nx = 2\nqueue", append=["x = 7", "output = $(x)"])
    assert [value(description, "arguments", statement=i) for i in (0, 1)] == ["7", "7"]
    assert description.statements[0].commands["output"].place == Place("<append>", 2, 10)
    assert [f.code for f in description.findings] == ["several-queues"]


def test_an_appended_queue_statement_serves_a_file_that_has_none() -> None:
    assert command_line("executable = a\n", append=["queue 3", "output = b"]).jobs == 3
    conflict = command_line("executable = a\nqueue\n", append=["queue 3"])
    assert [(f.code, f.place) for f in conflict.findings] == [("queue-conflict", Place("<append>", 1, 1))]


@pytest.mark.parametrize(
    ("overrides", "append", "code", "file"),
    [
        (["x"], [], "bad-name", "<command line>"),
        (["a-b=1"], [], "bad-name", "<command line>"),
        (["outptu=1"], [], "unknown-command", "<command line>"),
        ([], ["some words"], "not-understood", "<append>"),
        ([], ["if true"], "unclosed-if", "<append>"),
    ],
)
def test_mistakes_on_the_command_line_are_placed_there(
    overrides: list[str], append: list[str], code: str, file: str
) -> None:
    found = command_line("executable = a\nqueue", overrides, append).findings
    assert [(f.code, f.place.file) for f in found] == [(code, file)]


# Statements before a queue; HTCondor's parser must set the same names to the same raw values, or refuse them too.
_ORACLE = [
    "a += b", "a = 1\na += b", "a = 1\na +,= b", "a = 1\na +&&= b", "a = 1\na +& = b", "a+=b", "a = 1\na + = b",
    "MY.a = 1\nMY.a += b", "+a = 1\n+a += 2", "+a=1\n-a=", "-a", "a @=e\n  x\n # c\n\n y \\\n z\n@e", 
    "a @= e f\nx\n@e f",
    "a @=\nx\n@", "a=1\na @=e\n$(a) b\n@e", "n=q\n$(n)_x = 1", "n=+q\n$(n) = 1", "a : b", "a=1\na=$(a:7)$(A)",
    "a=$(a:7) x", "a=/x/y.z\na=$Fn(a)", "use foo : bar", "use TEMPLATE : x", "use STRICT : true", "use STRICT : harsh",
    "a = 1 \\\nb=2", "a=x\n  a=y", "x queue", "a b = c", "a@b = c", ":a = 1", "if true\n:a=1\nendif",
    ":if true\na=1\n:endif", "a=b:c", "a = 1:2", "a\t=\t1", "-a = 3", "a\x0b=\x0c1", "include : /nope",
    "include ifexist : /nope", "include ifexists foo : /nope", "a @=e\nif false\n@e", 
    "if false\na @=e\nendif\n@e\nendif",
    "else", "if true\nelse\nelse\nendif", "if true\nelse\nelif 1\nendif", "endif", "a=1\\\n\\\n2", "a=1\\\n  \\\n2",
    "a=1 \\\n# c \\\n2", "a=1 \\\n\n2=4", "MY.a-b = 1", "=1", "a==1", "a = =1", "use", "use :", "include :", "include",
    "a+ = b", "a @ = b", "if(true)\nb=1\nendif", "if\ttrue\nb=1\nendif", "IF true\nb=1\nEndIf", "elif",
    "if true\nelse if false\nb=1\nendif", "if true\nendif # c", "b=1\na$(b)=2", "$(nope)=3", "a.b = 1\n.a=2\n/a=1",
    "é=1", "a=é", "error : x", "warning : x\na=1", "if false\nerror : x\nendif", "if false\nsome words\nendif",
]  # fmt: skip


@pytest.mark.parametrize("text", _ORACLE)
def test_htcondors_own_parser_reads_the_same_statements(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "CONDOR_CONFIG", "ONLY_ENV")
    htcondor2 = pytest.importorskip("htcondor2")
    try:
        theirs = {k.lower(): v for k, v in dict(htcondor2.Submit(text + "\nqueue\n")).items()}
    except ValueError:
        theirs = None
    description = read(text + "\nqueue\n")
    if theirs is None:
        assert description.has_errors
        return
    assert {f.code for f in description.findings if f.severity == "error"} <= {"unknown-command"}
    statement = description.statements[0]
    ours = {k: v.text for k, v in statement.commands.items()}
    ours |= {f"my.{k.lower()}": v.text for k, v in statement.attributes.items()}
    assert {k: v.rstrip() for k, v in ours.items()} == {k: v.rstrip() for k, v in theirs.items()}


_LAUGHS = "m0 = ha\n" + "".join(f"m{i} = {f'$(m{i - 1})' * 10}\n" for i in range(1, 30)) + "arguments = $(m29)\nqueue\n"
_LONG_CHAIN = "".join(f"c{i} = $(c{i + 1})\n" for i in range(100_000)) + "arguments = $(c0)\nqueue\n"
_MANY_CHAINS = "".join(f"c{i} = $(c{i + 1})\n+a{i} = $(c{i})\n" for i in range(4_000)) + "queue\n"
_SELF = "a = x\n" + "a = $(a)$(a)\n" * 60 + "arguments = $(a)\nqueue\n"


@pytest.mark.parametrize(
    "text",
    [
        "arguments = " + "a" * 10_000_000 + "\nqueue\n",
        "arguments = " + "$(x)" * 48_000 + "\nqueue\n",
        "arguments = " + "$(x:" * 48_000 + "\nqueue\n",
        "arguments = " + "$(x:" * 40_000 + ")" * 40_000 + "\nqueue\n",
        "arguments = " + "$" * 180_000 + "\nqueue\n",
        "a" * 2_000_000,
        "if " + " " * 1_000_000 + "x\n",
        "include" + " " * 1_000_000,
        "{%" * 100_000,
        "{{a" * 100_000,
        "# x\n" * 60_000,
        "a = \\\n" * 30_000,
        "x = \\\n # \\\n" * 40_000,
        "if x\n" * 20_000,
        "".join(f"key{i} = {i}\n" for i in range(10_000)) + "queue\n",
        "arguments = a #" + " #" * 80_000 + "\nqueue\n",
        'arguments = "' + " #" * 20_000 + "\nqueue\n",
        "if true\n" * 10_000 + "a = 1\n" + "endif\n" * 10_000 + "queue\n",
        "if false\n" * 50 + "".join(f"key{i} = {i}\n" for i in range(20_000)),
        "".join(f"x{i} = {i}\n" for i in range(4_000)) + "".join(f"arguments = {i}\nqueue\n" for i in range(1_800)),
        "executable = a\n" + "queue\n" * 2_200,
        "".join(f"arguments = $(x{i})\nx{i} = {i}\nqueue\n" for i in range(5_000)),
        "arguments = a\n" + "arguments += $(x)\n" * 20_000 + "queue\n",
        "arguments = a \\\n" + " $(x) \\\n" * 20_000 + "b\nqueue\n",
        "x @=e\n" + " $(y)\n" * 20_000 + "@e\narguments = $(x)\nqueue\n",
        "if $(m29)\nendif\n" * 3_000 + "queue\n",
        "cat <<A\n" * 20_000 + "executable = a\n",
        "queue x from (\n" + "a b c\n" * 60_000,
        "if defined " + "a" * 1_000_000 + "!\n",
        "include" + " \t" * 100_000 + ": x",
        "a" * 100_000 + " " * 100_000 + "@",
        _LAUGHS,
        _LAUGHS.replace("arguments", "if $(m29)\nendif\n" * 50 + "arguments"),
        _LONG_CHAIN,
        _MANY_CHAINS,
        _SELF,
    ],
    ids=lambda text: f"{text[:16]!r}-{len(text)}",
)
def test_hostile_text_gives_findings_soon(text: str) -> None:
    start = time.process_time()
    description = read(text)
    assert time.process_time() - start < 60  # seconds; quadratic work on these sizes would take hours
    assert len(description.findings) <= MAX_FINDINGS + 1


_WORDS = st.sampled_from(
    [
        *"$()=:\\#\n+-@ |\"'[]{}%,.",
        "$(",
        "$$(",
        "$(a:",
        "queue",
        "queue ",
        "if ",
        "endif",
        "if true\n",
        "else\n",
        "elif defined a\n",
        "\nendif\n",
        " @=x\n",
        "\n@x\n",
        " +,= ",
        "-A =",
        "matching ",
        "[1:2]",
        "use STRICT : true",
        "error : ",
        "iterate ",
        "include :",
        "from ",
        "in (",
        "a",
        "b = ",
        "arguments = ",
        "+A = ",
        "MY.B = ",
        "Process",
        "$(Process)",
        "$(DOLLAR)",
        "$F(",
        "\\\n",
        "# c",
        "\r\n",
        "\t",
        "\x00",
        "é",
    ]
)


def test_an_exponential_description_is_refused_before_it_grows() -> None:
    assert "too-large" in codes(_LAUGHS)
    assert not {"too-large", "macro-cycle"}.isdisjoint(codes(_SELF))


def test_thousands_of_queue_statements_share_what_was_set() -> None:
    text = "".join(f"x{i} = {i}\n" for i in range(5000)) + "".join(f"arguments = {i}\nqueue\n" for i in range(5000))
    description = read(text)
    assert len(description.statements) == 5000
    assert [description.statements[i].commands["arguments"].text for i in (0, 2500, 4999)] == ["0", "2500", "4999"]


def test_more_findings_than_are_shown_are_never_submitted() -> None:
    assert read("arguments = a # b\n" * 5000 + "queue\n").has_errors


def _check_places(description: Description, text: str) -> None:
    lines = text.removeprefix("\ufeff").split("\n")
    for finding in description.findings:
        assert 1 <= finding.place.line <= len(lines)
        assert 1 <= finding.place.column <= len(lines[finding.place.line - 1]) + 1


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(_WORDS, max_size=60).map("".join)))
def test_any_text_gives_findings_and_never_an_exception(text: str) -> None:
    description = read(text)
    _check_places(description, text)
    assert description.jobs > 0 or description.has_errors
    for statement in description.statements:
        for raw in [*statement.commands.values(), *statement.attributes.values()]:
            assert raw.at(len(raw.text)).line >= 1


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_that_are_text_give_findings_and_never_an_exception(data: bytes) -> None:
    assert read(data.decode("utf-8", errors="replace")).findings
