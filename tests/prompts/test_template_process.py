"""A template that would take the server with it is refused, or given up, by a process that may be lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from omlx.server.engine.model_text import ModelText
from omlx.server.errors import InvalidRequest, Overloaded, UnsupportedModel
from omlx.server.models.catalog import discover
from omlx.server.prompts import template_process
from omlx.server.prompts.chat_template import ChatTemplate, Conversation, Rendered, Wanted
from omlx.server.prompts.template_process import RenderingGivenUp, TemplateProcess
from omlx.server.prompts.template_traits import probe

from ..text_model import build_text_model
from ..waiting import wait_until

GOOD = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
LOOP = (
    "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}"
)
DOUBLING = "{% set n = namespace(x='aaaaaaaaaaaaaaaa') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
DEEP = "{% macro again(x) %}{{ again(x) }}{% endmacro %}{{ again(1) }}"


SHIPPED = [path.read_text("utf-8") for path in files("omlx.templates").joinpath("chat").iterdir()]


@pytest.mark.parametrize("source", [GOOD, *SHIPPED])
def test_a_sound_template_passes(source: str) -> None:
    template = TemplateProcess(source, {"bos_token": "<s>"})
    assert template.traits == probe(ChatTemplate(source, {"bos_token": "<s>"}))


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
        TemplateProcess(source, {})


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
    TemplateProcess("{{ messages[0].content }} of its own", {})
    assert (tmp_path / "seen").exists()


def test_what_the_childs_start_takes_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\nwhile time.process_time() < 2.5: pass")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    TemplateProcess("{{ messages[0].content }} after a slow start", {})


def where_asked(fault: str) -> str:
    """A template whose fault trying it out does not meet."""
    return "{% if messages|length > 1 and 'ZZ' in messages[0].content %}" + fault + "{% endif %}" + GOOD


def conversation(words: str) -> Conversation:
    return Conversation([user(words), user("again")], [], {}, user("."))


def user(words: str) -> dict[str, str]:
    return {"role": "user", "content": words}


def rendered(
    template: TemplateProcess, words: str, *wanted: Wanted, go_on: Callable[[], bool] = lambda: True
) -> list[Rendered]:
    return list(template.renderings(conversation(words), wanted or [WHOLE], go_on))


WHOLE = Wanted(2, asks=False, opens_answer=True)
ASKED = Wanted(1, asks=True, opens_answer=False)
COMPARED = Wanted(1, asks=True, opens_answer=False, compared=True)


def run_instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """What each process of a template runs."""
    monkeypatch.setattr(template_process, "_COMMAND", (sys.executable, "-P", "-c", code))


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversations have one second of computing instead of thirty."""
    code = "from omlx.server.prompts import template_child as child; child.RENDERING_SECONDS = 1; child.main()"
    run_instead(monkeypatch, code)


def test_all_texts_of_a_conversation_come_in_their_order() -> None:
    template = TemplateProcess(GOOD + "{{ raise_exception('No!') if messages[0].content == 'é\n\ud800' }}", {})
    texts = ["user: q\nuser: again\n", "user: q\nuser: .\n", len("user: q\nuser: ")]
    assert rendered(template, "q", WHOLE, ASKED, COMPARED) == texts
    refused, other = rendered(template, "é\n\ud800", WHOLE, Wanted(0, asks=True, opens_answer=False))
    assert isinstance(refused, InvalidRequest)
    assert "refuses this conversation: No!" in str(refused)
    assert other == "user: .\n"


@pytest.mark.usefixtures("briefly")
def test_a_loop_that_only_some_content_starts_is_ended_and_the_next_text_is_rendered() -> None:
    template = TemplateProcess(where_asked(LOOP), {})
    (error,) = rendered(template, "ZZ")
    assert isinstance(error, InvalidRequest)
    assert "for these 2 messages; compact the conversation or start a new one, or use a model with" in str(error)
    assert rendered(template, "q") == ["user: q\nuser: again\n"]


@pytest.mark.usefixtures("briefly")
def test_all_texts_of_a_conversation_have_one_allowance_of_time_and_what_came_in_it_counts() -> None:
    template = TemplateProcess(where_asked(LOOP), {})
    texts = rendered(template, "ZZ", Wanted(1, asks=False, opens_answer=False), WHOLE, WHOLE)
    assert texts[0] == "user: ZZ\n"
    assert [type(text) for text in texts[1:]] == [InvalidRequest, InvalidRequest]


FILTERS = "{{ ([range(99999)] * 99999) | map('sum') | sum }}"
HUGE = "{{ ('x' * 100000) | replace('x', 'x' * 100000) | length }}"
LONG = "{% for a in range(60) %}{{ 'x' * 99999 }}{% endfor %}"


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize("fault", [FILTERS, HUGE, DOUBLING, LONG, DEEP])
def test_what_only_some_content_starts_takes_neither_time_nor_memory_for_good(fault: str) -> None:
    template = TemplateProcess(where_asked(fault), {})
    (error,) = rendered(template, "ZZ")
    assert isinstance(error, InvalidRequest | UnsupportedModel)
    assert rendered(template, "q") == ["user: q\nuser: again\n"]


def test_where_the_system_knows_no_limit_of_memory_the_process_looks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from omlx.server.prompts import template_child as child\n"
        "child.resource.setrlimit = lambda *_: None\n"
        "child.MEMORY_BYTES, child.COPIES = 64 << 20, 1\n"
        "child.main()"
    )
    run_instead(monkeypatch, code)
    growing = (
        "{% set n = namespace(x=[]) %}{% for a in range(99999) %}{% set _ = n.x.append('x' * 99990 ~ a) %}{% endfor %}"
    )
    template = TemplateProcess(where_asked(growing), {})
    (error,) = rendered(template, "ZZ")
    assert "takes more memory than there is" in str(error)


def test_where_the_process_cannot_look_its_parent_does(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from omlx.server.prompts import template_child as child\n"
        "child.resource.setrlimit = lambda *_: None\n"
        "child._Bounds._look = lambda _: None\n"
        "child.main()"
    )
    run_instead(monkeypatch, code)
    monkeypatch.setattr(template_process, "_WATCHES_MEMORY", True)
    monkeypatch.setattr(template_process, "MEMORY_BYTES", 128 << 20)
    growing = (
        "{% set n = namespace(x=[]) %}{% for a in range(3000) %}{% set _ = n.x.append('x' * 99990 ~ a) %}{% endfor %}"
    )
    template = TemplateProcess(where_asked(growing + LOOP), {})
    (error,) = rendered(template, "ZZ")
    assert "takes more memory than there is" in str(error)
    assert rendered(template, "q") == ["user: q\nuser: again\n"]


def test_a_long_conversation_has_memory_besides() -> None:
    template = TemplateProcess(GOOD, {})
    words = "é" * 30_000_000
    assert rendered(template, words) == [f"user: {words}\nuser: again\n"]


def test_whoever_leaves_is_not_rendered_for() -> None:
    template = TemplateProcess(where_asked(LOOP), {})
    with pytest.raises(RenderingGivenUp):
        rendered(template, "ZZ", go_on=lambda: False)
    assert rendered(template, "q") == ["user: q\nuser: again\n"]


def test_whoever_leaves_is_not_waited_for_while_the_process_takes_nothing_either() -> None:
    template = TemplateProcess(GOOD, {})
    os.kill(template._idle[0]._process.pid, signal.SIGSTOP)
    with pytest.raises(RenderingGivenUp):
        rendered(template, "longer than what a pipe holds " * 100_000, go_on=lambda: False)
    assert rendered(template, "q") == ["user: q\nuser: again\n"]


def test_a_signal_to_all_that_belongs_to_a_server_ends_no_process_that_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, signal\n"
        "for number in (signal.SIGINT, signal.SIGTERM): os.kill(os.getpid(), number)\n"
        "from omlx.server.prompts import template_child as child; child.main()"
    )
    run_instead(monkeypatch, code)
    assert rendered(TemplateProcess(GOOD, {}), "q") == ["user: q\nuser: again\n"]


def test_a_rendering_that_takes_long_holds_up_no_other() -> None:
    template = TemplateProcess(where_asked(LOOP), {})
    stays = threading.Event()
    stays.set()
    given_up: list[type[BaseException]] = []

    def stuck() -> None:
        try:
            rendered(template, "ZZ", go_on=stays.is_set)
        except RenderingGivenUp as error:
            given_up.append(type(error))

    threads = [threading.Thread(target=stuck) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert rendered(template, "q") == ["user: q\nuser: again\n"]
    stays.clear()
    for thread in threads:
        thread.join(60)
    assert len(given_up) == 3


def test_a_process_that_was_killed_is_not_the_templates_fault_and_another_takes_its_place() -> None:
    template = TemplateProcess(GOOD, {})
    child = template._idle[0]
    os.kill(child._process.pid, signal.SIGKILL)
    wait_until(lambda: not child.is_alive)
    assert rendered(template, "q") == ["user: q\nuser: again\n"]
    assert template._idle[0] is not child


def test_nor_is_one_that_was_killed_while_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not remembered as one that no chat can use."""
    build_text_model(tmp_path / "model")
    (entry,) = discover([tmp_path])
    with monkeypatch.context() as patch:
        patch.setattr(template_process, "_COMMAND", (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"))
        with pytest.raises(Overloaded, match="was killed"):
            ModelText.read(entry)
    assert ModelText.read(entry).renderer.traits.system


def test_no_process_outlives_its_template() -> None:
    template = TemplateProcess(GOOD, {})
    process = template._idle[0]._process
    del template
    assert process.poll() is not None
