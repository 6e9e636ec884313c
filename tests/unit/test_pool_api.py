"""The facade without a pool: it is documented whole, has what the command has, and loads nothing that it need not."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from swarmhpc import context, pool
from swarmhpc.cli.app import app
from swarmhpc.errors import NoPoolError, UsageError
from swarmhpc.pool import Pool, Submission
from tests.command_line import TOP

PAGE = (TOP / "docs" / "api.md").read_text()
PUBLIC = [name for name, _ in inspect.getmembers(Pool, callable) if not name.startswith("_")]
# What the command calls otherwise, and what is about the pool's machines or about this machine.
CALLED = {"q": "jobs", "rm": "remove", "ssh": "shell"}
NOT_ABOUT_JOBS = {
    *("init", "up", "down", "doctor", "render", "status", "scale", "autoscale", "login", "node", "token", "images"),
    "check",  # translate has its findings
}


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> context.Context:
    """A pool that this machine knows and that does not answer."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SWARMHPC_POOL", raising=False)
    monkeypatch.setattr(pool, "_connected", None)
    made = context.Context("quiet", "127.0.0.1", 1, 1, "alice")
    context.save(made, "not.a.token")
    return made


def test_each_verb_about_jobs_has_a_method_of_its_name() -> None:
    commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    commands |= {str(g.name) for g in app.registered_groups}
    verbs = {CALLED.get(verb, verb) for verb in commands - NOT_ABOUT_JOBS}
    assert verbs <= set(PUBLIC), verbs - set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_method_is_documented_typed_and_on_the_page(name: str) -> None:
    method = inspect.unwrap(getattr(Pool, name))
    assert method.__doc__
    assert all(p.annotation is not p.empty for p in list(inspect.signature(method).parameters.values())[1:])
    assert re.search(rf"\bpool\.{name}\b|`{name}`", PAGE), f"docs/api.md says nothing of {name}"


def test_making_a_pool_reads_the_context_and_contacts_nobody(known: context.Context) -> None:
    made = Pool()
    assert (made.name, made.person) == ("quiet", "alice")
    assert Pool("quiet").context == known
    with pytest.raises(NoPoolError, match="'loud' is not known"):
        Pool("loud")


def test_the_bindings_are_loaded_when_the_first_question_is_asked(known: context.Context, tmp_path: Path) -> None:
    heavy = {"htcondor2", "docker", "ssl"}
    code = f"import sys; from swarmhpc import Pool; Pool(); print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
        env={"XDG_CONFIG_HOME": str(tmp_path)},
    )
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize("verb", ["hold", "release", "remove", "fetch", "edit"])
def test_what_changes_jobs_wants_to_be_told_which(known: context.Context, verb: str) -> None:
    with pytest.raises(UsageError, match="no job is named") as told:
        getattr(Pool(), verb)()
    assert told.value.hint.startswith(("name some", "pool."))


def test_one_process_one_person(known: context.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_connected", context.Context("quiet", "127.0.0.1", 1, 1, "bob"))
    with pytest.raises(UsageError, match="as bob already, and can't also talk to quiet as alice"):
        Pool().jobs()


def test_a_submission_names_its_clusters_as_the_methods_take_them(known: context.Context) -> None:
    made = Submission(Pool(), (12, 13), 5)
    assert made.ids == ("12", "13")
    assert repr(made) == "Submission(clusters=(12, 13), jobs=5)"


def test_the_package_has_no_other_names() -> None:
    import swarmhpc

    with pytest.raises(AttributeError, match="no attribute 'Pond'"):
        _ = swarmhpc.Pond
    assert swarmhpc.Submission is Submission
