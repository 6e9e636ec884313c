"""The translation of files: what travels, what looks wrong about it, and where results go."""

import pytest

from tests.unit.test_translate import docker, errors, found, jobs, only, run


def codes(*lines: str, **more: object) -> list[tuple[str, str]]:
    """Severity and code of what is said about the lines of a docker job, the usual notes left out."""
    findings = run(docker(*lines), **more).findings  # type: ignore[arg-type]
    usual = ("floating-image", "implied-universe", "entrypoint")
    return [(f.severity, f.code) for f in findings if f.code not in usual and not f.code.startswith("default-")]


@pytest.mark.parametrize(
    "name",
    [
        ".env", "prod.env", "server.pem", "id_rsa", "id_ed25519", "ssl.key", ".netrc", "credentials",
        "credentials.json", "aws_credentials", "token", "hf_token.txt", "token.json", "api_token", ".git-credentials",
        "secrets.yaml", "service-account.json", ".ssh",
    ],
)  # fmt: skip
def test_an_input_that_looks_like_a_secret_is_warned_about(name: str) -> None:
    assert codes(f"transfer_input_files = {name}", exists=["/w", f"/w/{name}"]) == [("warning", "secret-input")]


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "token_counts.csv", "keys.txt", "environment.yml", "id_rsa.pub", "keyboard", "monkey"]
)
def test_an_ordinary_input_is_none(name: str) -> None:
    assert codes(f"transfer_input_files = {name}", exists=["/w", f"/w/{name}"]) == []


def test_a_directory_among_the_inputs_is_counted() -> None:
    translation = run(docker("transfer_input_files = sub"), folders={"/w/sub": (3, 5 * 2**20)})
    finding = found(translation, "input-directory")
    assert (finding.severity, finding.place.column) == ("note", 24)
    assert "3 files, 5 MiB" in finding.message


def test_the_current_directory_as_input_is_a_warning() -> None:
    finding = found(run(docker("transfer_input_files = ."), folders={"/w": (9, 1)}),
                    "input-directory")  # fmt: skip
    assert finding.severity == "warning"
    assert "hidden files" in finding.message


def test_a_blank_begins_another_input_as_it_does_in_htcondor() -> None:
    translation = run(docker("transfer_input_files = a b, c"), exists=["/w", "/w/a", "/w/b", "/w/c"])
    finding = found(translation, "blank-in-name")
    assert (finding.severity, finding.place.column) == ("warning", 24)
    assert jobs(translation)[0].inputs == ("/w/a", "/w/b", "/w/c")


def test_an_input_with_a_blank_in_its_name_is_an_error_since_htcondor_would_look_for_two() -> None:
    assert codes("transfer_input_files = a b", exists=["/w", "/w/a b"]) == [("error", "blank-in-name")]


def test_urls_are_not_looked_for_here() -> None:
    translation = run(docker("transfer_input_files = https://a/b.tar, osdf:///c, data.txt"))
    assert jobs(translation)[0].inputs == ("/w/data.txt",)
    assert only(translation).common["transfer_input_files"] == "https://a/b.tar, osdf:///c, data.txt"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("output = /w/logs/out", [("note", "absolute-output")]),
        ("output = logs/out", []),
        ("error = /dev/null", []),
        ("transfer_output_files = result.txt, /data/x", [("warning", "absolute-output")]),
        ('transfer_output_remaps = "a=/w/sub/a"', [("note", "absolute-output")]),
        ('transfer_output_remaps = "a=none/a"', [("warning", "no-such-directory")]),
        ('transfer_output_remaps = "a=b;c=sub/d;"', []),
        ("transfer_output_remaps = a=b", []),
        ('transfer_output_remaps = "a=https://x/y"', []),
        ('transfer_output_remaps = "a=b', [("error", "unbalanced")]),
        ('transfer_output_remaps = "a b"', [("error", "bad-remap")]),
        (r'transfer_output_remaps = "a\;b=c"', []),
    ],
)
def test_where_results_go_is_said(line: str, said: list[tuple[str, str]]) -> None:
    assert codes(line) == said


def test_a_relative_executable_is_looked_for_in_the_current_directory_as_htcondor_does() -> None:
    translation = run(docker("initialdir = sub", "executable = job.sh"))
    assert only(translation).common["executable"] == "/w/job.sh"
    assert jobs(translation)[0].inputs == ("/w/job.sh",)


def test_two_rows_that_write_one_file_are_found() -> None:
    text = docker("output = out.$(x)").replace("queue", "queue x in (a, b, a)")
    finding = found(run(text), "same-file")
    assert (finding.severity, finding.place.line) == ("warning", 3)
    assert "out.a" in finding.message


def test_two_queue_statements_that_write_one_file_are_found() -> None:
    text = docker("output = out") + "queue\n"
    assert found(run(text), "same-file")


def test_one_job_may_write_output_and_error_into_one_file() -> None:
    text = docker("output = o.$(Process)", "error = o.$(Process)").replace("queue", "queue 2")
    assert "same-file" not in [f.code for f in run(text).findings]
    assert errors(run(text)) == []


def test_standard_input_that_is_not_transferred_does_not_travel() -> None:
    translation = run(docker("input = no.txt", "transfer_input = false"))
    assert only(translation).common["transfer_input"] == "false"
    assert jobs(translation)[0].inputs == ()
