"""What is installed is what lies in the folders: the package list, the wheel, and what starting costs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("launcher", "integrations", "server", "templates")
MAX_LINES = 400


def source_files() -> list[Path]:
    return [path for room in (*ROOMS, "tests") for path in sorted((ROOT / room).rglob("*.py"))]


def installed_files() -> set[str]:
    """Every file of the rooms under the name it must have in the wheel."""
    files = (path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file())
    return {f"omlx/{path.relative_to(ROOT)}" for path in files if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: what an earlier build left in this folder cannot end up in it."""
    folder = tmp_path_factory.mktemp("wheel")
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / "source" / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), "source"]
    built = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the wheel and this environment's dependencies, but not this checkout."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (packages,) = (folder / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # A folder named in a .pth lends its packages; its own .pth files, the editable install's among them, are not read.
    (packages / "dependencies.pth").write_text(
        "\n".join(entry for entry in sys.path if entry.endswith("site-packages"))
    )
    return python


def run(python: Path, code: str, cwd: Path) -> str:
    done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_list_names_every_folder_with_sources() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {path.parent.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("__init__.py")}

    assert listed == {"omlx." + ".".join(folder.parts) for folder in folders}


def test_every_folder_with_sources_is_a_package() -> None:
    bare = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}

    assert [str(folder) for folder in bare if not (folder / "__init__.py").is_file()] == []


def test_the_wheel_holds_every_file_of_the_rooms_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert packed == installed_files()


def test_every_module_of_the_wheel_imports_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = """
import importlib, pathlib, pkgutil
import omlx
failed = []
for module in pkgutil.walk_packages(omlx.__path__, "omlx."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*omlx.__path__)
"""
    where = run(installed, code, tmp_path).split()

    assert all(str(ROOT) not in folder for folder in where)


def test_the_wheel_brings_the_omlx_command(installed: Path, tmp_path: Path) -> None:
    code = """
import sys
from importlib.metadata import entry_points
(command,) = entry_points(group="console_scripts", name="omlx")
sys.argv = ["omlx", "--help"]
command.load()()
"""
    assert "launch" in run(installed, code, tmp_path)


def test_asking_for_help_loads_neither_the_server_nor_its_libraries() -> None:
    code = """
import sys
from omlx.launcher.cli import main
sys.argv = ["omlx", "--help"]
try:
    main()
finally:
    heavy = {"mlx", "mlx_lm", "litestar", "httpx", "uvicorn", "tokenizers", "jinja2", "omlx.server"}
    print(sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_file_is_longer_than_a_reader_can_hold(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_a_lock_pins_every_package_by_hash_and_names_no_registry(path: Path) -> None:
    text = path.read_text()
    entries = [entry for entry in text.replace("\\\n", " ").splitlines() if entry and not entry.startswith("#")]

    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "--index-url" not in text
