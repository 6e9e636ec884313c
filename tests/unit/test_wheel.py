"""The wheel, built from a copy of this checkout as pip builds it: what a person installs is all there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
ASSETS = ("stacks", "images", "ansible", "examples")
NOISE = {"__pycache__", ".mypy_cache", ".ruff_cache"}


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and NOISE.isdisjoint(p.parts))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked. hatchling builds here and now, with what is installed: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    checkout = folder / "checkout"
    ignore = shutil.ignore_patterns(*NOISE)
    for name in ("swarmhpc", *ASSETS):
        shutil.copytree(TOP / name, checkout / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):  # hatchling leaves out what git ignores
        shutil.copy(TOP / name, checkout / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = (folder / "dist").iterdir()
    assert built.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_module_is_in_the_wheel_as_it_is_here(wheel: Path) -> None:
    modules = [p for p in _files(TOP / "swarmhpc") if p.suffix == ".py"]
    assert TOP / "swarmhpc" / "cli" / "app.py" in modules
    differs = [p.name for p in modules if not _same(p, wheel / p.relative_to(TOP))]
    assert differs == []


def test_the_wheel_says_that_it_is_typed(wheel: Path) -> None:
    assert (wheel / "swarmhpc" / "py.typed").is_file()


@pytest.mark.parametrize(
    "name",
    [
        "stacks/pool.yml.j2",
        "images/pool/Dockerfile",
        "images/pool/entrypoint",
        "images/pool/docker",
        "images/pool/janitor",
        "images/pool/add-user",
        "examples/hosts.sub",
    ],
)
def test_what_up_needs_is_in_the_wheel(wheel: Path, name: str) -> None:
    assert _same(TOP / name, wheel / "swarmhpc" / "_assets" / name)


@pytest.mark.parametrize("folder", ASSETS)
def test_every_file_of_an_asset_folder_is_in_the_wheel(wheel: Path, folder: str) -> None:
    here = _files(TOP / folder)
    assert here, f"{folder}/ holds nothing"
    assert [p for p in here if not _same(p, wheel / "swarmhpc" / "_assets" / p.relative_to(TOP))] == []


def test_an_installed_package_finds_its_assets_beside_its_modules(wheel: Path) -> None:
    """Not those of a checkout: `state.assets`, run from the unpacked wheel."""
    code = f"from swarmhpc import state; print(*(state.assets(name) for name in {ASSETS}))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(wheel)!r}); {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = [str(wheel / "swarmhpc" / "_assets" / name) for name in ASSETS]
    assert (done.stdout.split(), done.stderr) == (wanted, "")


def test_the_wheel_has_no_tests_and_nothing_else_at_its_top(wheel: Path) -> None:
    tops = {p.name for p in wheel.iterdir()}
    assert {t.split("-")[0] for t in tops} == {"swarmhpc"}, tops


def test_the_wheel_gives_the_command(wheel: Path) -> None:
    [text] = [p.read_text() for p in wheel.glob("*.dist-info/entry_points.txt")]
    assert text.split("\n")[:2] == ["[console_scripts]", "swarmhpc = swarmhpc.cli.main:main"]


def _same(here: Path, there: Path) -> bool:
    """The same bytes (zipfile sets no modes)."""
    return there.is_file() and there.read_bytes() == here.read_bytes()
