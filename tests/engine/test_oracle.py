"""Our translation beside HTCondor's own reading, job by job and attribute by attribute: see tests/oracle.py."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import pytest

from swarmhpc.jobs.commands import KNOWN, canonical
from swarmhpc.jobs.description import parse
from swarmhpc.jobs.translate import SubmitSide, translate
from tests import oracle, translations
from tests.command_line import Cli
from tests.engine.conftest import containers_of, docker
from tests.oracle import GOOD, Case, Oracle, Verdict

CORPUS = Path(os.environ.get("SWARMHPC_CORPUS", "/work/shared/corpus"))
# Commands of which HTCondor's dry run shows nothing, or that need what no test has.
NOT_SHOWN: Mapping[str, str] = {
    "x509userproxy": "HTCondor wants a proxy that is valid now",
    "use_x509userproxy": "HTCondor wants a proxy that is valid now",
    "scitokens_file": "HTCondor wants a token file",
    "use_scitokens": "HTCondor wants a token file",
    "use_oauth_services": "HTCondor asks a credential daemon",
    "send_credential": "HTCondor asks a credential daemon",
    "docker_send_credentials": "HTCondor wants a docker login",
}


@pytest.fixture(scope="module")
def judge(pool: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    """HTCondor of the pool's image, in a container of its own."""
    image = docker("inspect", "-f", "{{.Config.Image}}", *containers_of("access-point"))
    asked = Oracle(image, tmp_path_factory.mktemp("oracle"))
    yield asked
    asked.stop()


def verdicts_of(judge: Oracle, cases: list[Case]) -> list[Verdict]:
    table, reasons, leniences = translations.translations(), translations.reasons(), translations.leniences()
    return oracle.judge(judge, cases, table, reasons, leniences)


@pytest.fixture(scope="module")
def own(judge: Oracle) -> list[Verdict]:
    """Verdicts on the descriptions of tests/descriptions."""
    return verdicts_of(judge, oracle.own_cases())


@pytest.fixture(scope="module")
def corpus(judge: Oracle) -> list[Verdict]:
    """Verdicts on the real files."""
    if not CORPUS.is_dir():
        pytest.skip(f"allowed: the corpus of real submit descriptions is not here: {CORPUS} (set SWARMHPC_CORPUS)")
    return verdicts_of(judge, oracle.corpus_cases(CORPUS))


def said(verdicts: list[Verdict]) -> str:
    return "\n".join(str(v) for v in verdicts)


def test_our_own_descriptions_become_what_htcondor_makes_of_them(own: list[Verdict]) -> None:
    assert len(own) > 80
    wanted = {"own": "equal", "refused": "refused", "invalid": "refused by both"}
    wrong = [v for v in own if v.outcome != wanted[v.name.partition("-")[0]]]
    assert said(wrong) == ""


def test_every_corpus_file_is_equal_or_refused_for_a_right_reason(corpus: list[Verdict]) -> None:
    assert len(corpus) > 100
    wrong = [v for v in corpus if v.outcome not in GOOD]
    assert said(wrong) == ""


def test_most_corpus_files_are_translated(corpus: list[Verdict]) -> None:
    equal = [v for v in corpus if v.outcome == "equal"]
    assert len(equal) > 0.7 * len(corpus), said(corpus)


def test_our_own_descriptions_use_every_command_that_this_pool_accepts(own: list[Verdict]) -> None:
    used = {
        canonical(command)
        for verdict in own
        if verdict.outcome == "equal" and verdict.description
        for statement in verdict.description.statements
        for command in statement.commands
    }
    side = SubmitSide(cwd=PurePosixPath("/w"), home=PurePosixPath("/home/me"), exists=lambda _: True)
    accepted = set()
    for command in KNOWN:
        description = parse(f"executable = job.sh\n{command} = x\nqueue\n", file="job.sub")
        codes = {f.code for f in translate(description, limits=None, side=side).findings}
        if "refused" not in codes:
            accepted.add(command)
    assert len(accepted) > 100
    assert sorted(accepted - used - NOT_SHOWN.keys()) == []


def test_every_row_of_the_table_of_translations_excuses_something(own: list[Verdict], corpus: list[Verdict]) -> None:
    used = {row for verdict in [*own, *corpus] for row in verdict.excused}
    assert [str(row) for row in translations.translations() if row not in used] == []


def test_every_reason_to_refuse_is_met_in_the_corpus(own: list[Verdict], corpus: list[Verdict]) -> None:
    met = {code for verdict in [*own, *corpus] if verdict.outcome == "refused" for code in verdict.codes}
    assert sorted(translations.reasons().keys() - met) == []


def test_a_difference_that_the_table_does_not_excuse_is_found(judge: Oracle) -> None:
    (judge.folder / "told").mkdir()
    judge.beside("told", "arguments").write_text("")
    answers = []
    for memory_mib in (64, 65):
        judge.beside("told", "sub").write_text(f"executable = /bin/true\nrequest_memory = {memory_mib}\nqueue 2\n")
        answers.append(judge.ask(["told"])["told"].jobs)
    _, differences = oracle.compare(answers[0], answers[1], translations.translations())
    assert [(d.job, d.attribute, d.theirs, d.ours) for d in differences] == [
        (0, "RequestMemory", "64", "65"),
        (1, "RequestMemory", "64", "65"),
    ]
