"""No process of omlx takes code from the folder that it is started in: agents are launched in other people's."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from omlx.server.api.admin.command_line import run_omlx
from omlx.server.models.catalog import ModelEntry, read_entry
from omlx.server.serving import mlx_engine_command
from omlx.server.settings import ServeSettings

from ..text_model import build_text_model


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: whoever imports from it leaves a mark there."""
    for name in ("json", "mlx", "msgspec", "numpy", "click", "omlx"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'mark')!r}, 'w').write(__name__)\nraise SystemExit(9)"
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def entry(tmp_path: Path) -> ModelEntry:
    build_text_model(tmp_path / "model")
    return read_entry(tmp_path / "model", "model")


def test_an_engine_takes_no_code_from_the_current_folder(trap: Path, entry: ModelEntry) -> None:
    command = mlx_engine_command(ServeSettings(home=trap / "home", model_dirs=()))(entry)
    done = subprocess.run(
        [*command.argv, "--help"], env=dict(command.environment), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, (trap / "mark").exists()) == (0, False), done.stderr


async def test_a_check_of_the_pages_takes_no_code_from_the_current_folder(trap: Path) -> None:
    ran = await run_omlx(trap / "home", "--version")
    assert (ran.status, (trap / "mark").exists()) == (0, False), ran.errors


def _interpreter_options(tree: ast.AST) -> Iterator[str]:
    """What follows `sys.executable` in each command line."""
    for node in ast.walk(tree):
        words = node.elts if isinstance(node, ast.List | ast.Tuple) else node.args if isinstance(node, ast.Call) else []
        for word, following in pairwise(words):
            if ast.unparse(word) == "sys.executable" and isinstance(following, ast.Constant):
                yield str(following.value)


def test_every_python_that_is_started_leaves_the_current_folder_out() -> None:
    found = {
        (path.name, option)
        for room in ("omlx.server", "omlx.launcher")
        for path in Path(str(files(room))).rglob("*.py")
        for option in _interpreter_options(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert ("serving.py", "-P") in found
    assert {option for _, option in found} <= {"-P", "-I"}, found
