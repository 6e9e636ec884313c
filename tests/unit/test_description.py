"""The parser of submit descriptions: values, places, findings, and that no input makes it fail or slow."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmhpc.jobs.description import Description, expand, parse
from swarmhpc.jobs.findings import MAX_FINDINGS, Place


def read(text: str) -> Description:
    return parse(text, file="job.sub")


def codes(text: str, severity: str = "error") -> list[str]:
    return [f.code for f in read(text).findings if f.severity == severity]


def value(text: str, name: str, process: int = 0) -> str | None:
    return expand(read(text), name, process=process)


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
        ("+Foo = $(Process)\nqueue", "+Foo", "3"),
        ("my.Foo = 1\n+foo = 2\nqueue", "+foo", "2"),
        ("a.b = 1\narguments = $(a.b)\nqueue", "arguments", "1"),
    ],
)
def test_a_value_is_what_htcondor_would_read(text: str, name: str, wanted: str) -> None:
    assert value(text, name, process=3) == wanted


def test_the_cluster_is_filled_in_when_it_is_known() -> None:
    description = read("log = $(Cluster).log\nqueue")
    assert expand(description, "log", process=0, cluster="17") == "17.log"
    assert expand(description, "output", process=0) is None


@pytest.mark.parametrize(
    ("queue", "count"),
    [
        ("queue", 1),
        ("Queue 10", 10),
        ("n = 4\nqueue $(n)", 4),
        ("  queue\t3", 3),
        ("queue $(n:2)", 2),
        ("queue 1000000", 1000000),
    ],
)
def test_the_queue_statement_gives_the_number_of_jobs(queue: str, count: int) -> None:
    description = read(f"executable = a\n{queue}\n")
    assert description.count == count
    assert not description.has_errors


@pytest.mark.parametrize(
    "number", ["0", "-1", "1000001", "many", "2*3", "3 # three", "1.5", "9" * 40, "٣", "$(nothing)"]
)
def test_a_queue_count_that_makes_no_jobs_is_an_error_at_its_place(number: str) -> None:
    description = read(f"executable = a\nqueue {number}\n")
    error = next(f for f in description.findings if f.severity == "error")
    assert (error.code, error.place) == ("queue-count", Place("job.sub", 2, 7))
    assert description.count == 0


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "word"),
    [
        ("executable = a\n", "no-queue", 1, 1, "queue"),
        ("", "no-queue", 1, 1, "queue"),
        ("queue\nexecutable = a\n", "not-yet", 2, 1, "queue"),
        ("queue 1\nqueue 2\n", "not-yet", 2, 1, "queue"),
        ("queue\nthe end\n", "after-queue", 2, 1, "the end"),
        ("if true\nqueue", "not-yet", 1, 1, "if"),
        ("endif\nqueue", "not-yet", 1, 1, "endif"),
        ("  include : other.sub\nqueue", "not-yet", 1, 3, "include"),
        ("include command : rm -rf /\nqueue", "would-run-command", 1, 1, "rm -rf /"),
        ("include : rm -rf / |\nqueue", "would-run-command", 1, 1, "rm -rf /"),
        ("queue x from rm -rf / |", "would-run-command", 1, 9, "rm -rf /"),
        ("queue from list.txt", "not-yet", 1, 7, "from"),
        ("queue x in (a b)", "not-yet", 1, 9, "in"),
        ("queue 2 f matching files *.dat", "not-yet", 1, 11, "matching"),
        ("x @=end\n a = b\n@end\nqueue", "not-yet", 1, 1, "x @=end"),
        ("x @=end\nqueue", "unclosed-block", 1, 1, "@end"),
        ("arguments += a\nqueue", "not-yet", 1, 1, "+="),
        ("arguments = $F(a)\nqueue", "not-yet", 1, 13, "$F"),
        ("arguments = a \\\n  $ENV(HOME)\nqueue", "not-yet", 2, 3, "$ENV"),
        ("x = $INT(y)\narguments = $(x)\nqueue", "not-yet", 1, 5, "$INT"),
        ("arguments = $(Year)\nqueue", "not-yet", 1, 13, "$(Year)"),
        ("arguments = $(a$(Process))\nqueue", "not-yet", 1, 13, "$(a$"),
        ("arguments = $(a\nqueue", "unclosed-macro", 1, 13, "$("),
        ('arguments = $(a:"b")\nqueue', "odd-default", 1, 13, '"b"'),
        ("arguements = a\nqueue", "unknown-command", 1, 1, "arguements"),
        ("request_memmory = 1G\nqueue", "unknown-command", 1, 1, "request_memmory"),
        ("some words\nqueue", "not-understood", 1, 1, "some words"),
        ("+F-o = 1\nqueue", "bad-name", 1, 1, "job attribute"),
        ("executable: a\nqueue", "not-understood", 1, 1, "executable"),
        ("a-b = c\nqueue", "bad-name", 1, 1, "a-b"),
        ("+ Foo = 1\nqueue", "not-understood", 1, 1, "+ Foo"),
        ("$(x) = 1\nqueue", "not-yet", 1, 1, "$(x)"),
        ("arguments = a\x07b\nqueue", "control-character", 1, 14, "U+0007"),
        ("a = $(b)\nb = $(a)\narguments = $(a)\nqueue", "macro-cycle", 3, 13, "a → b → a"),
        ("iterate 3", "not-yet", 1, 1, "iterate"),
    ],
)
def test_what_is_not_understood_is_an_error_that_names_it_and_its_place(
    text: str, code: str, line: int, column: int, word: str
) -> None:
    errors = [f for f in read(text).findings if f.severity == "error" and f.code == code]
    assert errors, read(text).findings
    assert (errors[0].place.line, errors[0].place.column) == (line, column)
    assert word in errors[0].message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("#!/bin/bash\n#SBATCH --mem=4G\nsrun x\n", "slurm-script"),
        ("#!/bin/bash\ncat > a.sub <<EOF\nqueue\nEOF\n", "script"),
        ("#!/usr/bin/env python3\nprint(1)\n", "script"),
        ("executable = {{ name }}\nqueue\n", "template"),
        ("{% for x in y %}\nqueue\n{% endfor %}\n", "template"),
        ('{"jobDefinition": 1}', "json"),
        ("apiVersion: batch/v1\nkind: Job\n", "yaml"),
        ("JOB a a.sub\nPARENT a CHILD b\n", "dag"),
        ("\x7fELF\x00\x00\nfoo\n", "binary-file"),
    ],
)
def test_another_kind_of_file_gets_one_clear_error(text: str, code: str) -> None:
    findings = read(text).findings
    assert [f.code for f in findings] == [code]
    assert findings[0].hint


def test_a_typo_is_answered_with_the_likeliest_command() -> None:
    hints = {f.message.split(" ")[0]: f.hint for f in read("arguements = a\nreqest_cpus = 1\nqueue").findings}
    assert "arguments" in hints["arguements"]
    assert "request_cpus" in hints["reqest_cpus"]


def test_a_macro_of_the_users_own_is_no_typo() -> None:
    assert codes("arguements = a\narguments = $(arguements)\nqueue") == []
    assert codes("howmany = 3\nqueue $(howmany)") == []


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "word"),
    [
        ("request_memory = $(Mem)GB\nqueue", "undefined-macro", 1, 18, "'GB'"),
        ("x = $(y)\narguments = -n $(x)\nqueue", "undefined-macro", 1, 5, "'-n '"),
        ("output = a\nOutput = b\nqueue", "set-twice", 2, 1, "line 1"),
        ("+A = 1\nMY.a = 2\nqueue", "set-twice", 2, 1, "line 1"),
        ("arguments = a # b\nqueue", "trailing-comment", 1, 15, "# b"),
        ('arguments = "a # b" # c\nqueue', "trailing-comment", 1, 21, "# c"),
        ("Process = 4\narguments = $(Process)\nqueue", "set-by-htcondor", 1, 1, "Process"),
        ("arguments = $( date )\nqueue", "no-macro", 1, 13, "$( date )"),
        ("arguments = a \\\n# b\nexecutable = c\nqueue", "comment-in-continuation", 2, 1, "last character"),
    ],
)
def test_what_surprises_is_a_warning_with_its_place(text: str, code: str, line: int, column: int, word: str) -> None:
    description = read(text)
    warnings = [f for f in description.findings if f.severity == "warning"]
    assert [(w.code, w.place.line, w.place.column) for w in warnings] == [(code, line, column)]
    assert word in warnings[0].message
    assert not description.has_errors


def test_a_number_sign_inside_of_quotes_is_no_comment() -> None:
    assert codes('arguments = "a # b"\nqueue', "warning") == []


def test_an_ordinary_description_has_no_findings() -> None:
    text = (
        "universe = docker\ndocker_image = debian\nexecutable = /bin/cat\noutput = o.$(Process)\n+Foo = 1\nqueue 10\n"
    )
    description = read(text)
    assert description.findings == ()
    assert description.queue == Place("job.sub", 6, 1)
    assert description.commands["executable"].place == Place("job.sub", 3, 14)
    assert dict(description.attributes).keys() == {"Foo"}


_LAUGHS = "m0 = ha\n" + "".join(f"m{i} = {f'$(m{i - 1})' * 10}\n" for i in range(1, 30)) + "arguments = $(m29)\nqueue\n"
_LONG_CHAIN = "".join(f"c{i} = $(c{i + 1})\n" for i in range(100_000)) + "arguments = $(c0)\nqueue\n"
_MANY_CHAINS = "".join(f"c{i} = $(c{i + 1})\n+a{i} = $(c{i})\n" for i in range(20_000)) + "queue\n"
_SELF = "a = x\n" + "a = $(a)$(a)\n" * 60 + "arguments = $(a)\nqueue\n"


@pytest.mark.parametrize(
    "text",
    [
        "arguments = " + "a" * 10_000_000 + "\nqueue\n",
        "arguments = " + "$(x)" * 240_000 + "\nqueue\n",
        "arguments = " + "$(x:" * 240_000 + "\nqueue\n",
        "arguments = " + "$(x:" * 200_000 + ")" * 200_000 + "\nqueue\n",
        "arguments = " + "$" * 900_000 + "\nqueue\n",
        "a" * 10_000_000,
        "if " + " " * 5_000_000 + "x\n",
        "include" + " " * 5_000_000,
        "{%" * 500_000,
        "{{a" * 500_000,
        "# x\n" * 300_000,
        "a = \\\n" * 150_000,
        "x = \\\n # \\\n" * 200_000,
        "if x\n" * 100_000,
        "".join(f"key{i} = {i}\n" for i in range(50_000)) + "queue\n",
        "arguments = a #" + " #" * 400_000 + "\nqueue\n",
        'arguments = "' + " #" * 100_000 + "\nqueue\n",
        _LAUGHS,
        _LONG_CHAIN,
        _MANY_CHAINS,
        _SELF,
    ],
    ids=lambda text: f"{text[:16]!r}-{len(text)}",
)
def test_hostile_text_gives_findings_soon(text: str) -> None:
    start = time.process_time()
    description = read(text)
    assert time.process_time() - start < 8  # seconds; quadratic work on these sizes would take hours
    assert len(description.findings) <= MAX_FINDINGS + 1


def test_an_exponential_description_is_refused_before_it_grows() -> None:
    assert "too-large" in codes(_LAUGHS)
    assert "macro-cycle" in codes(_SELF) or "too-large" in codes(_SELF)
    assert "too-deep" in codes(_LONG_CHAIN)


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


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(_WORDS, max_size=60).map("".join)))
def test_any_text_gives_findings_and_never_an_exception(text: str) -> None:
    description = read(text)
    lines = text.removeprefix("\ufeff").split("\n")
    for finding in description.findings:
        assert 1 <= finding.place.line <= len(lines)
        assert 1 <= finding.place.column <= len(lines[finding.place.line - 1]) + 1
    assert description.count > 0 or description.has_errors
    for name in description.commands:
        expand(description, name, process=0)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_that_are_text_give_findings_and_never_an_exception(data: bytes) -> None:
    assert read(data.decode("utf-8", errors="replace")).findings
