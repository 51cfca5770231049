"""What the sources import is what pyproject.toml asks for, and docs/dependencies.md says why."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from .locked import pins

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOADED_BY_UVICORN = {"httptools", "uvloop"}
ROOMS = ("launcher", "integrations", "server")


def distribution_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;~ ]", requirement)[0] for requirement in requirements}


def imported_modules(path: Path) -> set[str]:
    """The top-level names of the absolute imports of one file."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_ = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module}
    return {name.partition(".")[0] for name in plain | from_}


def providers_of_imports(rooms: tuple[str, ...]) -> dict[str, set[str]]:
    """Each module from outside that the rooms import, with the distributions that bring it."""
    modules = {module for room in rooms for path in (ROOT / room).rglob("*.py") for module in imported_modules(path)}
    providers = packages_distributions()
    outside = modules - sys.stdlib_module_names - {"omlx"}
    return {module: {normal(name) for name in providers.get(module, [])} for module in outside}


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def test_the_sources_import_what_is_asked_for_and_nothing_else() -> None:
    declared = distribution_names(PROJECT["dependencies"])
    found = providers_of_imports(ROOMS)

    assert [module for module, providers in found.items() if not providers & declared] == []
    assert declared - LOADED_BY_UVICORN - set[str]().union(*found.values()) == set()


@pytest.mark.parametrize("group", ["dependencies", "dev"])
def test_every_dependency_has_its_reason(group: str) -> None:
    requirements = PROJECT["dependencies"] if group == "dependencies" else PROJECT["optional-dependencies"]["dev"]
    page = (ROOT / "docs" / "dependencies.md").read_text()

    assert [name for name in sorted(distribution_names(requirements)) if f"`{name}`" not in page] == []


@pytest.mark.parametrize(("lock", "groups"), [("runtime", ["cpu"]), ("dev", ["cpu", "dev"])])
def test_every_dependency_is_in_the_lock(lock: str, groups: list[str]) -> None:
    asked = [*PROJECT["dependencies"], *(each for group in groups for each in PROJECT["optional-dependencies"][group])]
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    locked = {line.partition("==")[0].replace("-", ".") for line in text.splitlines() if "==" in line}

    assert [name for name in distribution_names(asked) if name.lower().replace("-", ".") not in locked] == []


@pytest.mark.parametrize(("extra", "back_end"), [("cuda12", "mlx-cuda-12"), ("cuda13", "mlx-cuda-13")])
def test_the_lock_of_a_cuda_extra_differs_from_the_runtime_lock_in_the_back_end_alone(
    extra: str, back_end: str
) -> None:
    runtime, locked = set(pins("runtime")), set(pins(extra))
    brought = {name for name, _ in locked - runtime}

    assert {name for name, _ in runtime - locked} == {"mlx-cpu"}
    assert {name for name in brought if not name.startswith("nvidia-")} == {back_end}
    assert len(brought) > 1


def test_every_extra_is_in_a_lock() -> None:
    assert set(PROJECT["optional-dependencies"]) == {"cpu", "cuda12", "cuda13", "dev"}
