"""A template that would take the server with it is refused, by a process that may be lost."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from omlx.server.engine.model_text import ModelText
from omlx.server.errors import InvalidRequest, UnsupportedModel
from omlx.server.models.catalog import discover
from omlx.server.prompts.template_lint import lint

from ..text_model import build_text_model

GOOD = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
LOOP = (
    "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}"
)
DOUBLING = "{% set n = namespace(x='aaaaaaaaaaaaaaaa') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
DEEP = "{% macro again(x) %}{{ again(x) }}{% endmacro %}{{ again(1) }}"


SHIPPED = [path.read_text("utf-8") for path in files("omlx.templates").joinpath("chat").iterdir()]


@pytest.mark.parametrize("source", [GOOD, *SHIPPED])
def test_a_sound_template_passes(source: str) -> None:
    lint(source, {"bos_token": "<s>"})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (GOOD + LOOP, "computes for more than 2 s"),
        (LOOP + GOOD, "computes for more than 2 s"),
        (GOOD + DOUBLING, "more memory than"),
        (GOOD + "{{ ''.__class__.__mro__[1].__subclasses__() }}", "may not do"),
        (GOOD + "{{ 'a' * 1000000000 }}", "may not do"),
        (GOOD + DEEP, "single user message"),
        ("{% for %}", "does not compile"),
        ("", "single user message"),
    ],
)
def test_what_does_not_end_or_takes_everything_is_refused(source: str, words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        lint(source, {})


@pytest.mark.parametrize("source", [GOOD + LOOP, GOOD + DOUBLING])
def test_a_model_with_such_a_template_is_refused_by_name_of_the_fault(tmp_path: Path, source: str) -> None:
    build_text_model(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(source)
    (entry,) = discover([tmp_path])
    text = ModelText.read(entry)
    with pytest.raises(InvalidRequest, match=r"the chat template (computes|takes more memory)"):
        _ = text.renderer


def test_the_child_finds_what_its_parent_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages of a user's own folder, or of PYTHONPATH, are the parent's too."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os; os.environ.get('OMLX_SEEN') and open(os.environ['OMLX_SEEN'], 'w')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OMLX_SEEN", str(tmp_path / "seen"))
    lint("{{ messages[0].content }} of its own", {})
    assert (tmp_path / "seen").exists()


def test_what_the_childs_start_takes_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\nwhile time.process_time() < 2.5: pass")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lint("{{ messages[0].content }} after a slow start", {})
