"""The translation to this pool: what is submitted, what is refused, and that HTCondor reads back what we meant."""

import os
from collections.abc import Iterable
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmhpc.jobs.description import parse
from swarmhpc.jobs.findings import Finding, Place
from swarmhpc.jobs.macros import CLUSTER_MARK
from swarmhpc.jobs.translate import (
    ClassSize,
    Cluster,
    JobFiles,
    Limits,
    SubmitSide,
    Translation,
    flat_text,
    translate,
    variable,
)

LIMITS = Limits(classes=(ClassSize("executors", 2, 2048, 10 * 1024 * 1024), ClassSize("big", 8, 16384, None)))
HERE = ("/w", "/w/job.sh", "/w/data.txt", "/w/sub", "/w/sub/data.txt", "/w/logs", "/home/me/tool", "/data/tool")


SIDE = SubmitSide(PurePosixPath("/w"), PurePosixPath("/home/me"), lambda p: str(p) in HERE)


def run(
    text: str,
    *,
    exists: Iterable[str] = HERE,
    limits: Limits | None = LIMITS,
    folders: dict[str, tuple[int, int]] | None = None,
) -> Translation:
    there = {PurePosixPath(p) for p in (*exists, *(folders or {}))}
    side = SubmitSide(
        PurePosixPath("/w"), PurePosixPath("/home/me"), lambda p: p in there, lambda p: (folders or {}).get(str(p))
    )
    return translate(parse(text, file="job.sub"), limits=limits, side=side)


def docker(*lines: str) -> str:
    return "\n".join(["universe = docker", "docker_image = debian", *lines, "queue"]) + "\n"


def only(translation: Translation) -> Cluster:
    """The one cluster of a description without errors."""
    assert errors(translation) == []
    (cluster,) = translation.clusters
    return cluster


def values(translation: Translation) -> list[tuple[str, ...]]:
    return [row for row, _ in only(translation).rows()]


def jobs(translation: Translation) -> list[JobFiles]:
    return [files for _, files in only(translation).rows()]


def errors(translation: Translation) -> list[Finding]:
    return [f for f in translation.findings if f.severity == "error"]


def found(translation: Translation, code: str) -> Finding:
    matching = [f for f in translation.findings if f.code == code]
    assert matching, translation.findings
    return matching[0]


def test_the_example_becomes_one_flat_description_and_ten_rows() -> None:
    translation = run(
        "universe = docker\ndocker_image = debian\nexecutable = /bin/cat\narguments = /etc/hosts\n"
        "output = out.$(Process)\nerror = err.$(Process)\nrequest_memory = 100M\nqueue 10\n"
    )
    assert errors(translation) == []
    assert dict(only(translation).common) == {
        "universe": "docker",
        "docker_image": "debian",
        "initialdir": "/w",
        "executable": "/bin/cat",
        "transfer_executable": "false",
        "arguments": "/etc/hosts",
        "request_cpus": "1",
        "request_memory": "100",
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "notification": "never",
    }
    assert only(translation).varying == ("output", "error")
    assert values(translation)[9] == ("out.9", "err.9")
    assert jobs(translation)[9] == JobFiles("/w/out.9", "/w/err.9", None, ())
    assert "output = $(swarmhpc_output)\n" in flat_text(only(translation))


def test_one_job_has_nothing_that_varies() -> None:
    translation = run(docker("arguments = $(Process)"))
    assert only(translation).varying == ()
    assert values(translation) == [()]
    assert only(translation).common["arguments"] == "0"


def test_with_an_error_nothing_is_left_to_submit() -> None:
    translation = run(docker("request_cpus = lots"))
    assert errors(translation)
    assert (translation.clusters, translation.lines) == ((), ())


@pytest.mark.parametrize(
    ("lines", "universe", "image"),
    [
        ("universe = docker\ndocker_image = debian", "docker", "debian"),
        ("universe = 5", "vanilla", None),
        ("", "vanilla", None),
        ("docker_image = debian:12", "docker", "debian:12"),
        ("universe = vanilla\ndocker_image = debian:12", "docker", "debian:12"),  # as HTCondor 25.14 has it
        ("container_image = debian:12", "docker", "debian:12"),
        ("container_image = docker://a.b:5000/c/d:e", "docker", "a.b:5000/c/d:e"),
        ("universe = container\ncontainer_image = debian", "docker", "debian"),
        ('universe = Container\ndocker_image = "docker://debian"', "docker", "debian"),
        ("universe = docker\ndocker_image = d@sha256:" + "a" * 64, "docker", "d@sha256:" + "a" * 64),
    ],
)
def test_every_form_of_a_docker_image_becomes_the_docker_universe(lines: str, universe: str, image: str | None) -> None:
    translation = run(f"{lines}\nexecutable = job.sh\nqueue\n")
    assert errors(translation) == []
    assert only(translation).common["universe"] == universe
    assert only(translation).common.get("docker_image") == image


@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        ("universe = docker", "no-image", 1),
        ("universe = container", "no-image", 1),
        ("universe = local", "universe", 1),
        ("universe = 9", "universe", 1),
        ("universe = dokcer", "universe", 1),
        ("container_image = a.sif", "image-form", 1),
        ("container_image = ./sandbox", "image-form", 1),
        ("container_image = osdf:///a/b", "image-form", 1),
        ("container_image = oras://a/b", "image-form", 1),
        ("docker_image = -v/:/host", "image-name", 1),
        ("docker_image = a b", "image-name", 1),
        ("docker_image = a;rm", "image-name", 1),
        ("docker_image = Debian", "image-name", 1),
        ("docker_image = debian:$(Cluster)", "image-name", 1),
        ("docker_image = debian$$(Arch)", "image-name", 1),
        ("docker_image = a\ncontainer_image = b", "two-images", 2),
    ],
)
def test_what_this_pool_cannot_run_is_refused_at_its_line(lines: str, code: str, line: int) -> None:
    translation = run(f"{lines}\nexecutable = job.sh\nqueue\n")
    assert code in [f.code for f in errors(translation)]
    assert found(translation, code).place.line == line


@pytest.mark.parametrize(
    ("universe", "lines", "executable", "sent", "code"),
    [
        ("docker", "executable = job.sh", "/w/job.sh", "true", None),
        ("docker", "executable = ./job.sh", "/w/job.sh", "true", None),
        ("docker", "executable = /opt/conda/bin/python", "/opt/conda/bin/python", "false", "executable-there"),
        ("docker", "executable = /home/me/tool", "/home/me/tool", "true", "executable-sent"),
        ("docker", "executable = /data/tool", "/data/tool", "true", "executable-sent"),
        ("docker", "executable = /app/run", "/app/run", "false", "executable-there"),
        ("docker", "executable = /data/tool\ntransfer_executable = false", "/data/tool", "false", None),
        ("docker", "executable = job.sh\ntransfer_executable = no", "job.sh", "false", None),
        ("docker", "", None, None, None),
        ("vanilla", "executable = /usr/bin/env", "/usr/bin/env", "false", "executable-there"),
        ("vanilla", "executable = /data/tool", "/data/tool", "true", "executable-sent"),
        ("vanilla", "executable = job.sh", "/w/job.sh", "true", None),
    ],
)
def test_the_executable_is_sent_or_taken_from_where_it_runs(
    universe: str, lines: str, executable: str | None, sent: str | None, code: str | None
) -> None:
    image = "docker_image = debian\n" if universe == "docker" else ""
    translation = run(f"universe = {universe}\n{image}{lines}\nqueue\n")
    assert errors(translation) == []
    assert only(translation).common.get("executable") == executable
    assert only(translation).common.get("transfer_executable") == sent
    assert [f.code for f in translation.findings if f.code.startswith("executable")] == ([code] if code else [])
    assert jobs(translation)[0].inputs == ((executable,) if sent == "true" else ())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (docker("executable = no.sh"), "no-such-file"),
        (docker("executable = /bin/cat", "transfer_executable = true"), "no-such-file"),
        (docker("executable = job.sh", "transfer_executable = maybe"), "no-boolean"),
        ("executable = /data/none\nqueue", "no-such-file"),
        ("universe = vanilla\nqueue", "no-executable"),
        (docker("transfer_input_files = data.txt, no.txt"), "no-such-file"),
        (docker("input = no.txt"), "no-such-file"),
        (docker("output = none/out"), "no-such-directory"),
        (docker("log = none/log"), "no-such-directory"),
        (docker("initialdir = none"), "no-such-directory"),
        (docker("output = $$(Machine)"), "match-time-path"),
        (docker("getenv = true"), "whole-environment"),
        (docker("getenv = HOME, *"), "whole-environment"),
        (docker("docker_network_type = host"), "host-network"),
        (docker("docker_network_type = other"), "bad-value"),
        (docker("request_gpus = 1"), "no-gpus"),
        (docker("when_to_transfer_output = LATER"), "bad-value"),
        (docker("container_service_names = web"), "refused"),
        (docker("transfer_plugins = x=./mine"), "refused"),
        (docker("vm_type = kvm"), "refused"),
        (docker("tool_daemon_cmd = gdb"), "refused"),
        (docker("arguments = $(x:\\)$(y)"), "trailing-backslash"),
        (docker("arguments = $$$(DOLLAR)(x)"), "many-dollars"),
        (docker("arguments = $(DOLLAR)F($(DOLLAR)(x))"), "many-dollars"),
    ],
)
def test_what_cannot_work_is_refused_before_submission(text: str, code: str) -> None:
    assert code in [f.code for f in errors(run(text))]


@pytest.mark.parametrize(
    "name",
    [
        "DockerImage",
        "dockernetworktype",
        "WantDocker",
        "WantContainer",
        "ContainerServiceNames",
        "Owner",
        "User",
        "Cmd",
        "Iwd",
        "JobUniverse",
        "RequestMemory",
        "SubMIT_Iwd",
        "StageInStart",
        "LeaveJobInQueue",
        "SwarmHpcClass",
        "docker_image",
        "arguments",
    ],
)
def test_an_attribute_that_the_pool_relies_on_cannot_be_set(name: str) -> None:
    assert [f.code for f in errors(run(docker(f"+{name} = 1")))] == ["trusted-attribute"]
    assert [f.code for f in errors(run(docker(f"MY.{name} = 1")))] == ["trusted-attribute"]


def test_other_attributes_pass() -> None:
    translation = run(
        docker('+ProjectName = "x"', "MY.WantGlidein = true").replace("queue", "+N = $(Process)\nqueue 2")
    )
    assert only(translation).common["+ProjectName"] == '"x"'
    assert only(translation).varying == ("+N",)
    assert "+N = $(swarmhpc_my_N)" in flat_text(only(translation))


def test_host_networking_names_the_setting_that_allows_it() -> None:
    text = docker("docker_network_type = host")
    assert "jobs.allow_host_network: true" in found(run(text), "host-network").hint
    allowed = run(text, limits=Limits(classes=(), allow_host_network=True))
    assert only(allowed).common["docker_network_type"] == "host"


def test_the_initial_directory_moves_every_relative_path() -> None:
    translation = run(
        docker("initialdir = sub", "transfer_input_files = data.txt, http://x/y", "output = o", "error = /w/e")
    )
    assert errors(translation) == []
    assert only(translation).common["initialdir"] == "/w/sub"
    assert jobs(translation)[0] == JobFiles("/w/sub/o", "/w/e", None, ("/w/sub/data.txt",))


def test_the_cluster_stays_open_in_paths() -> None:
    translation = run(docker("output = logs/$(Cluster).$(Process)", "log = $(ClusterId).log"))
    assert jobs(translation)[0].output == "/w/logs/$(Cluster).0"
    assert only(translation).common["output"] == "logs/$(Cluster).0"
    assert only(translation).common["log"] == "$(Cluster).log"


def test_jobs_that_write_one_file_are_warned_about() -> None:
    text = docker("output = out").replace("queue", "queue 2")
    assert found(run(text), "same-file").severity == "warning"
    assert "same-file" not in [f.code for f in run(text.replace("= out", "= out.$(Process)")).findings]


def test_inputs_of_each_job_are_checked() -> None:
    text = docker("transfer_input_files = sub/data.txt, in.$(Process)").replace("queue", "queue 3")
    missing = found(run(text, exists=[*HERE, "/w/in.0", "/w/in.1"]), "no-such-file")
    assert "/w/in.2" in missing.message
    assert missing.place == Place("job.sub", 3, 38)
    there = run(text, exists=[*HERE, "/w/in.0", "/w/in.1", "/w/in.2"])
    assert [job.inputs[1] for job in jobs(there)] == ["/w/in.0", "/w/in.1", "/w/in.2"]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("request_memory = 100M", "100"),
        ("request_memory = 1GB", "1024"),
        ("request_memory = 1.5 G", "1536"),
        ("request_memory = 512", "512"),
        ("request_memory = 1k", "1"),
        ("RequestMemory = 64MB", "64"),
        ("request_disk = 1024", "1024"),
        ("request_disk = 1M", "1024"),
        ("request_cpus = 2", "2"),
        ("request_memory = MY.Size * 2", "MY.Size * 2"),
    ],
)
def test_a_quantity_is_passed_in_htcondors_own_unit(line: str, wanted: str) -> None:
    translation = run(docker(line))
    name = "request_memory" if "emory" in line else line.split(" ")[0]
    assert errors(translation) == []
    assert only(translation).common[name] == wanted


@pytest.mark.parametrize(
    "line",
    [
        "request_memory = GB",
        "request_memory = $(x)GB",
        "request_memory = a lot",
        "request_memory = 1G # one",
        "request_memory = -1",
        "request_memory = 0",
        "request_cpus = 0",
        "request_cpus = 1.5",
        "request_disk = 1 X",
    ],
)
def test_what_is_no_quantity_is_an_error(line: str) -> None:
    assert [f.code for f in errors(run(docker(line)))] == ["no-quantity"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["request_memory = 64G"], ["64 GiB", "big", "16 GiB"]),
        (["request_cpus = 9"], ["9 CPUs", "big", "8 CPUs"]),
        (["request_cpus = 6", "request_memory = 17000"], ["17000 MiB", "big"]),
    ],
)
def test_a_request_larger_than_every_class_names_the_largest(lines: list[str], words: list[str]) -> None:
    finding = found(run(docker(*lines)), "request-too-large")
    assert finding.severity == "error"
    assert [w for w in words if w not in finding.message] == []
    assert "swarmhpc.yaml" in finding.hint


@pytest.mark.parametrize(("asked", "code"), [("1", ""), ("2", ""), ("3", "no-gpus"), ("$(N)", "")])
def test_gpus_are_asked_of_a_pool_that_has_them(asked: str, code: str) -> None:
    limits = Limits(classes=(ClassSize("executors", 2, 2048), ClassSize("gpu", 2, 2048, gpus=2)))
    done = run(("N = 1\n" if "N" in asked else "") + docker(f"request_gpus = {asked}"), limits=limits)
    errors = [f.code for f in done.findings if f.severity == "error"]
    assert errors == ([code] if code else [])
    if not code:
        assert only(done).common["request_gpus"] == asked.replace("$(N)", "1")


def test_parts_that_fit_only_in_different_classes_are_refused_together() -> None:
    limits = Limits(classes=(ClassSize("wide", 8, 1024), ClassSize("deep", 1, 8192)))
    assert found(run(docker("request_cpus = 4", "request_memory = 4G"), limits=limits), "request-too-large")


def test_a_request_is_not_compared_without_a_pool() -> None:
    assert errors(run(docker("request_memory = 900G"), limits=None)) == []


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        ("notification = always", "note"),
        ("leave_in_queue = true", "note"),
        ("should_transfer_files = NO", "note"),
        ("accounting_group = a.b", "note"),
        ("require_gpus = Capability > 7", "note"),
        ("stream_output = true", "warning"),
        ("use_x509userproxy = true", "warning"),
    ],
)
def test_nothing_is_left_out_silently(line: str, severity: str) -> None:
    translation = run(docker(line))
    assert errors(translation) == []
    assert [(f.place.line, f.severity) for f in translation.findings if f.place.line == 3] == [(3, severity)]
    name = line.split(" ")[0]
    assert only(translation).common.get(name) in (None, "YES", "never")


@pytest.mark.parametrize(
    "line", ["notification = never", "stream_output = false", "getenv = false", "request_gpus = 0"]
)
def test_what_changes_nothing_is_not_worth_a_finding(line: str) -> None:
    assert [f for f in run(docker(line)).findings if f.place.line == 3] == []


@pytest.mark.parametrize(
    "line",
    [
        'requirements = (OpSys == "LINUX")',
        "rank = Memory",
        "priority = 3",
        "environment = \"A=1 B='2 3'\"",
        "getenv = LANG, OMP_*",
        "periodic_remove = JobStatus == 5",
        "max_retries = 3",
        "on_exit_hold = ExitCode != 0",
        "transfer_output_files = a, b",
        'transfer_output_remaps = "a=b;c=d"',
        "job_max_vacate_time = 60",
        "hold = true",
        "concurrency_limits = db:2",
        "job_lease_duration = 300",
        "batch_name = x",
        "docker_pull_policy = always",
        "transfer_output_files =",
    ],
)
def test_what_means_the_same_here_passes_unchanged(line: str) -> None:
    name, _, value = (part.strip() for part in line.partition("="))
    translation = run(docker(line))
    assert errors(translation) == []
    assert only(translation).common[name] == value


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("hold = no", "no-boolean"),
        ("priority = high", "no-quantity"),
        ("image_size = -1", "no-quantity"),
        ("kill_sig = SIGNONE", "bad-value"),
        ("notification = sometimes", "bad-value"),
        ("should_transfer_files = PERHAPS", "bad-value"),
        ('arguments = a\narguments2 = "b"', "given-twice"),
        ('concurrency_limits = a\nconcurrency_limits_expr = "b"', "two-limits"),
        ('transfer_input_files = "data.txt', "no-such-file"),
        ("getenv = !HOME", "whole-environment"),
        ("max_idle = few", "no-quantity"),
    ],
)
def test_what_htcondor_refuses_is_refused_here_first(lines: str, code: str) -> None:
    assert [f.code for f in errors(run(docker(*lines.split("\n"))))] == [code]


@pytest.mark.parametrize(
    "line", ["kill_sig = sigusr1", "kill_sig = 15", "hold = 1", "priority = 2 * 3", "hold = 1 > 0"]
)
def test_what_htcondor_takes_is_taken(line: str) -> None:
    assert errors(run(docker(line))) == []


def test_an_expression_that_does_not_parse_is_refused_where_that_is_known() -> None:
    side = SubmitSide(
        PurePosixPath("/w"), PurePosixPath("/home/me"), lambda _: True, parses=lambda text: "= =" not in text
    )
    translation = translate(parse(docker("rank = a = = b"), file="job.sub"), limits=None, side=side)
    assert [f.code for f in errors(translation)] == ["bad-expression"]


def test_a_secret_among_the_variables_of_getenv_is_a_warning() -> None:
    assert found(run(docker("getenv = LANG, HF_TOKEN")), "secret-environment").severity == "warning"


@pytest.mark.parametrize(
    ("line", "code"), [("request_tapes = 1", "no-resource"), ("request_memroy = 2", "own-resource")]
)
def test_a_resource_that_no_class_has_is_named(line: str, code: str) -> None:
    assert found(run(docker(line)), code).place.line == 3


def test_a_resource_of_a_class_can_be_asked_for() -> None:
    limits = Limits(classes=(ClassSize("executors", 2, 2048, others={"tapes": 2}),))
    assert only(run(docker("request_tapes = 2"), limits=limits)).common["request_tapes"] == "2"
    assert errors(run(docker("request_tapes = 3"), limits=limits))


# HTCondor's own parser as the judge of the flat text.


def ask_htcondor(text: str, variables: dict[str, str], name: str) -> str:
    """What HTCondor's own parser makes of command `name`; it knows no empty values."""
    os.environ["CONDOR_CONFIG"] = "ONLY_ENV"
    htcondor2 = pytest.importorskip("htcondor2", reason="the HTCondor bindings are not installed")
    submit = htcondor2.Submit(text)
    for variable_name, value in variables.items():
        submit[variable_name] = value
    try:
        return str(submit.expand("MY." + name[1:] if name[0] == "+" else name))
    except KeyError:
        return ""


def read_back(translation: Translation, name: str, job: int = 0) -> str:
    names = (variable(v) for v in only(translation).varying)
    return ask_htcondor(flat_text(only(translation)), dict(zip(names, values(translation)[job], strict=True)), name)


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        ("$(DOLLAR)(Process)", "$(Process)"),
        ("$(DOLLAR)(Cluster) $(Cluster)", "$(Cluster) 1"),
        ("$(DOLLAR)$(Cluster)", "$1"),
        ("a$(DOLLAR)F(x) $(DOLLAR)ENV(HOME)", "a$F(x) $ENV(HOME)"),
        ("$$(Arch) $$([ $(Process) + 1 ])", "$$(Arch) $$([ 0 + 1 ])"),
        ("$_CONDOR_SCRATCH_DIR/$x $5 $", "$_CONDOR_SCRATCH_DIR/$x $5 $"),
        ("$( date )", "$( date )"),
        ("a,b;c # d 'e' \"f\" | g", "a,b;c # d 'e' \"f\" | g"),
        (") ( \\ é", ") ( \\ é"),
    ],
)
def test_htcondor_ends_with_the_value_that_was_meant(raw: str, meant: str) -> None:
    translation = run(docker(f"description = {raw}", f"batch_name = {raw}"))
    assert errors(translation) == []
    assert read_back(translation, "description") == meant
    assert read_back(translation, "batch_name") == meant


_PIECES = st.sampled_from(
    [
        "$",
        "$$",
        "$(DOLLAR)",
        "(",
        ")",
        "(x)",
        "$(",
        "$$(",
        "F(",
        "ENV(",
        "x",
        "Cluster",
        "$(Cluster)",
        "$(Process)",
        " ",
        "[",
        "])",
        ":",
        "#",
        '"',
        ",",
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.lists(_PIECES, min_size=1, max_size=12).map("".join))
@example("$(DOLLAR)F($(Cluster)$(DOLLAR)$(Cluster)")  # the number is there before $F( is looked at
def test_any_dollars_survive_htcondors_own_expansion(raw: str) -> None:
    text = docker(f"description = {raw}").replace("queue", "queue 2")
    translation = run(text)
    if errors(translation):
        return
    (statement,) = parse(text, file="job.sub").statements
    template = statement.macros.compile(statement.commands["description"].text)
    wanted = template.render({"process": "1"}).strip().replace(CLUSTER_MARK, "1")
    assert read_back(translation, "description", job=1) == wanted


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "universe",
                    "docker_image",
                    "executable",
                    "output",
                    "request_memory",
                    "request_cpus",
                    "getenv",
                    "transfer_input_files",
                    "initialdir",
                    "arguments",
                    "+Foo",
                    "input",
                    "transfer_executable",
                ]
            ),
            st.one_of(
                st.sampled_from(
                    ["docker", "debian", "job.sh", "1", "2G", "$(Process)", "$(Cluster)", "$$(x)", "", "true", ","]
                ),
                st.text(max_size=20),
            ),
        ),
        max_size=8,
    )
)
def test_any_description_is_translated_or_refused_without_an_exception(lines: list[tuple[str, str]]) -> None:
    text = "".join(f"{name} = {value}\n" for name, value in lines) + "queue 2\n"
    translation = run(text)
    if not errors(translation):
        assert len(values(translation)) == len(jobs(translation)) == 2
        assert not any(c in value for value in only(translation).common.values() for c in "\n\r\0\x01\x02")
