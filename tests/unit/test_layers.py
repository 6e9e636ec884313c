"""The layer rules of the design, held over all of swarmhpc/ by reading its syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
MODULES = sorted(path.relative_to(TOP).as_posix() for path in (TOP / "swarmhpc").rglob("*.py"))

OUTSIDE = {"docker", "htcondor2", "classad2", "htcondor", "subprocess", "ansible", "ansible_runner"}
TERMINAL = {"typer", "rich", "click"}
GROUND_FLOOR = {
    *("swarmhpc", "swarmhpc.errors", "swarmhpc.units", "swarmhpc.state", "swarmhpc.states"),
    *("swarmhpc.config", "swarmhpc._config_yaml", "swarmhpc._config_rules"),
    *("swarmhpc._config_checks", "swarmhpc._config_machines", "swarmhpc._config_fairness"),
    "swarmhpc._config_events",
}
FACADE = "swarmhpc/pool.py"  # above the wings, below cli
SHOWS_THE_FACADE = {"swarmhpc/__init__.py", FACADE}
WINGS = ("swarmhpc.cluster", "swarmhpc.gateway", "swarmhpc.jobs", "swarmhpc.scaling")
PURE_NAMES = {
    *("description.py", "translate.py", "plan.py", "policy.py", "victims.py", "units.py", "errors.py"),
    *(
        "config.py",
        "_config_yaml.py",
        "_config_rules.py",
        "_config_checks.py",
        "_config_machines.py",
        "_config_fairness.py",
    ),
    *("_config_events.py", "states.py"),
}
# What the parser and the translator are made of.
_PARTS = (
    *(
        "assignments",
        "commands",
        "conditions",
        "files",
        "findings",
        "functions",
        "images",
        "lines",
        "macro_findings",
        "macro_nodes",
    ),
    *(
        "macro_nodes",
        "macro_text",
        "macros",
        "matching",
        "needs",
        "parts",
        "printf",
        "queue",
        "queue_words",
        "quoting",
        "reader",
    ),
    *("requirement_terms", "requirements", "resources", "rest", "rows", "rule", "rules", "running", "snapshots"),
    *("sources", "wrong_files"),
)
PURE_PARTS = {f"swarmhpc/jobs/{part}.py" for part in _PARTS}
CLOCK_AND_WORLD = {"asyncio", "http", "random", "shutil", "socket", "tempfile", "threading", "time", "urllib"}
STARTS_A_PROCESS = {"system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp"}
ENDS_THE_PROCESS = {"sys.exit", "os._exit", "os.abort", "exit", "quit", "SystemExit"}
WRITES_TO_THE_TERMINAL = {"print", "input", "sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__"}

MAX_LINES = 400
# Modules that may be longer, each with its reason.
LONG_MODULES: dict[str, str] = {
    "swarmhpc/adapters/docker.py": "the whole of the Docker SDK that we use: thin methods, one call each",
}


def _dotted(node: ast.expr) -> str:
    """`sys.stdout` for that attribute, `print` for that name, else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def _imported(node: ast.AST, path: str) -> Iterator[str]:
    """Absolute names of the modules that one statement or call imports (for `from a import b`: a and a.b)."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = path.removesuffix(".py").split("/")[: -node.level] if node.level else []
        base = ".".join([*package, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif (
        isinstance(node, ast.Call)
        and _dotted(node.func) in {"__import__", "import_module", "importlib.import_module"}
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ):
        yield str(node.args[0].value)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and _dotted(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _nodes(node: ast.AST, *, eager: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, with whether it runs (or may run) when the module is imported."""
    for child in ast.iter_child_nodes(node):
        in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        runs = eager and not in_function
        if _is_type_checking(node) and isinstance(node, ast.If) and child in node.body:
            runs = False
        yield child, runs
        yield from _nodes(child, eager=runs)


def _top_name(module: str) -> str:
    return module.split(".")[0]


def _is_pure(path: str) -> bool:
    return path.split("/")[-1] in PURE_NAMES or path in PURE_PARTS


def _swarmhpc_modules(names: set[str]) -> set[str]:
    """The names among `names` that are modules of this package, as they are on disk."""
    known = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in MODULES}
    return names & known


def broken_rules(path: str, source: str) -> list[str]:
    """Every rule that the module `path` (as `swarmhpc/…/x.py`) breaks, as `line: what`."""
    found = []
    folder, name = path.split("/")[1], path.split("/")[-1]
    is_entry_point = path == "swarmhpc/__main__.py"  # `python -m swarmhpc` is the command line
    on_ground_floor = folder == name and path != FACADE
    in_adapters, in_cli = folder == "adapters", folder == "cli"
    for node, eager in _nodes(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        modules = set(_imported(node, path))
        tops = {_top_name(module) for module in modules}
        ours = _swarmhpc_modules(modules)
        for module in sorted(tops & OUTSIDE):
            if not in_adapters:
                found.append(f"{line}: {module} is imported outside adapters/")
            elif eager:
                found.append(f"{line}: {module} is imported when the module is, not inside a function")
        if not in_cli:
            found.extend(f"{line}: {module} is imported outside cli/" for module in sorted(tops & TERMINAL))
        if not in_cli and not is_entry_point and any(module.startswith("swarmhpc.cli") for module in ours):
            found.append(f"{line}: cli is imported from below")
        if not in_cli and path not in SHOWS_THE_FACADE and modules & {"swarmhpc.pool", "swarmhpc.Pool"}:
            found.append(f"{line}: the facade is imported from below")
        if in_adapters:
            above = {m for m in ours if m.startswith(WINGS)}
            found.extend(f"{line}: an adapter imports {module}" for module in sorted(above))
        if on_ground_floor:
            above = {m for m in ours if m.startswith((*WINGS, "swarmhpc.adapters"))}
            found.extend(f"{line}: the ground floor imports {module}" for module in sorted(above))
        if _is_pure(path) and not in_cli and not in_adapters:
            # A pure module stays pure when it uses the types of another one.
            impure = {m for m in ours - GROUND_FLOOR - set(WINGS) if not _is_pure(f"{m.replace('.', '/')}.py")}
            found.extend(f"{line}: a pure module imports {m}" for m in sorted(impure | tops & CLOCK_AND_WORLD))
        called = _dotted(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        if not in_cli and called in ENDS_THE_PROCESS | WRITES_TO_THE_TERMINAL:
            found.append(f"{line}: {called} outside cli/")
        if not in_adapters and called.startswith("os."):
            function = called.removeprefix("os.")
            if function in STARTS_A_PROCESS or function.startswith(("exec", "spawn")):
                found.append(f"{line}: {called} outside adapters/")
    return found


@pytest.mark.parametrize("path", MODULES)
def test_a_module_keeps_to_its_layer(path: str) -> None:
    assert broken_rules(path, (TOP / path).read_text(encoding="utf-8")) == []


def test_no_module_is_long_without_a_reason() -> None:
    lengths = {path: len((TOP / path).read_text(encoding="utf-8").splitlines()) for path in MODULES}
    long = {path for path, length in lengths.items() if length > MAX_LINES}
    assert long == set(LONG_MODULES), f"over {MAX_LINES} lines, or listed and no longer so"


def test_importing_the_command_line_loads_no_engine_and_no_pool_library() -> None:
    heavy = sorted({"docker", "htcondor2", "classad2", "jinja2", "ansible"})
    code = f"import sys, swarmhpc.cli.app; print([name for name in {heavy} if name in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=False)
    assert (seen.stdout.strip(), seen.stderr) == ("[]", "")


def test_importing_the_package_is_instant_and_its_facade_comes_when_asked_for() -> None:
    code = (
        "import sys, swarmhpc; print([m for m in sys.modules if m.startswith('swarmhpc.')]);"
        "from swarmhpc import Pool; print(Pool.__module__, 'htcondor2' in sys.modules)"
    )
    seen = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=False)
    assert (seen.stdout, seen.stderr) == ("[]\nswarmhpc.pool False\n", "")


@pytest.mark.parametrize(
    ("path", "source", "broken"),
    [
        ("swarmhpc/cluster/up.py", "import docker", "docker is imported outside adapters/"),
        ("swarmhpc/cluster/up.py", "from docker.errors import APIError", "docker is imported outside adapters/"),
        ("swarmhpc/cluster/up.py", "def f():\n    import subprocess", "subprocess is imported outside adapters/"),
        (
            "swarmhpc/jobs/submit.py",
            "import importlib\nimportlib.import_module('htcondor2')",
            "htcondor2 is imported outside",
        ),
        ("swarmhpc/adapters/docker.py", "import docker", "not inside a function"),
        ("swarmhpc/adapters/docker.py", "class C:\n    import docker", "not inside a function"),
        ("swarmhpc/adapters/docker.py", "try:\n    import docker\nexcept ImportError: pass", "not inside a function"),
        ("swarmhpc/adapters/docker.py", "from swarmhpc.cli import x", "cli is imported from below"),
        ("swarmhpc/adapters/docker.py", "from swarmhpc import jobs", "an adapter imports swarmhpc.jobs"),
        ("swarmhpc/adapters/docker.py", "from .. import jobs", "an adapter imports swarmhpc.jobs"),
        ("swarmhpc/units.py", "from swarmhpc.adapters import x", "the ground floor imports swarmhpc.adapters"),
        ("swarmhpc/state.py", "from swarmhpc.cli import app", "cli is imported from below"),
        ("swarmhpc/cluster/__main__.py", "from swarmhpc.cli import app", "cli is imported from below"),
        ("swarmhpc/jobs/watch.py", "from swarmhpc.pool import Pool", "the facade is imported from below"),
        ("swarmhpc/cluster/up.py", "def f():\n    from swarmhpc import Pool", "the facade is imported from below"),
        ("swarmhpc/pool.py", "from swarmhpc.cli import output", "cli is imported from below"),
        ("swarmhpc/pool.py", "import htcondor2", "htcondor2 is imported outside adapters/"),
        ("swarmhpc/__main__.py", "import typer", "typer is imported outside cli/"),
        ("swarmhpc/cluster/up.py", "from rich.table import Table", "rich is imported outside cli/"),
        ("swarmhpc/cluster/up.py", "print('x')", "print outside cli/"),
        ("swarmhpc/cluster/up.py", "import sys\nsys.stderr.write('x')", "sys.stderr outside cli/"),
        ("swarmhpc/cluster/up.py", "raise SystemExit(1)", "SystemExit outside cli/"),
        ("swarmhpc/cluster/up.py", "import os\nos.execvp('a', [])", "os.execvp outside adapters/"),
        ("swarmhpc/jobs/translate.py", "import time", "a pure module imports time"),
        ("swarmhpc/jobs/translate.py", "from swarmhpc.adapters import x", "a pure module imports swarmhpc.adapters"),
        ("swarmhpc/jobs/translate.py", "from swarmhpc.jobs import watch", "a pure module imports swarmhpc.jobs.watch"),
        ("swarmhpc/jobs/macros.py", "import socket", "a pure module imports socket"),
    ],
)
def test_a_broken_rule_is_found(path: str, source: str, broken: str) -> None:
    assert any(broken in line for line in broken_rules(path, source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("swarmhpc/adapters/docker.py", "def connect():\n    import docker"),
        ("swarmhpc/adapters/docker.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import docker"),
        ("swarmhpc/adapters/docker.py", "from swarmhpc.errors import EngineError"),
        ("swarmhpc/cli/app.py", "import sys, typer\nprint('x', file=sys.stderr)\nsys.exit(2)"),
        ("swarmhpc/jobs/translate.py", "from swarmhpc import errors, units"),
        ("swarmhpc/jobs/translate.py", "from swarmhpc.jobs import rules"),
        ("swarmhpc/__main__.py", "from swarmhpc.cli.app import main"),
        ("swarmhpc/pool.py", "def f():\n    from swarmhpc.jobs import watch"),
        ("swarmhpc/cli/jobs.py", "def f():\n    from swarmhpc.pool import Pool"),
    ],
)
def test_what_the_rules_allow_is_not_reported(path: str, source: str) -> None:
    assert broken_rules(path, source) == []
