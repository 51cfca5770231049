from __future__ import annotations

import pytest

from omlx.server.errors import InvalidRequest, UnsupportedModel
from omlx.server.prompts.chat_template import ChatTemplate

USER = [{"role": "user", "content": "<b>"}]


def render(source: str, **options: object) -> str:
    return ChatTemplate(source, {"bos_token": "<s>"}).render(USER, options=options)


def test_json_is_written_without_html_escapes_and_with_spaces() -> None:
    assert render("{{ messages[0] | tojson }}") == '{"role": "user", "content": "<b>"}'
    assert render("{{ 'é' | tojson(ensure_ascii=True) }}{{ {'b': 1} | tojson(indent=1) }}") == '"\\u00e9"{\n "b": 1\n}'


def test_tokens_options_and_the_clock_reach_the_template() -> None:
    assert render("{{ bos_token }}{{ mood }}", mood="calm") == "<s>calm"
    assert len(render("{{ strftime_now('%Y') }}")) == 4


def test_loop_controls_and_the_training_tag_are_understood() -> None:
    source = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}"
    assert render(source) == "<b>"


def test_lines_of_blocks_leave_no_line_breaks() -> None:
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc") == "a\nb\nc"


def test_a_refusal_comes_back_in_the_templates_words() -> None:
    with pytest.raises(InvalidRequest, match="refuses this conversation: Only cats"):
        render("{{ raise_exception('Only cats') }}")


def test_a_template_that_fails_says_how() -> None:
    with pytest.raises(InvalidRequest, match=r"fails on this conversation: (TypeError|UndefinedError)"):
        render("{{ messages[0].missing.more }}")


def test_a_template_that_does_not_compile_names_its_line() -> None:
    with pytest.raises(UnsupportedModel, match="line 2"):
        ChatTemplate("a\n{% if %}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ messages.clear() }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 1000000000 * [1] }}",
        "{{ 10 ** 10 ** 7 }}",
        "{{ 'a'.center(1000000000) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a\nb' | indent(1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{% for i in range(10000000) %}{% endfor %}",
    ],
)
def test_a_template_cannot_reach_or_exhaust_its_host(source: str) -> None:
    try:
        text = render(source)
    except (UnsupportedModel, InvalidRequest):
        text = ""
    assert text == ""  # some escapes give Jinja's undefined value, which is nothing


def test_small_sums_and_lists_of_its_own_are_the_templates() -> None:
    assert (
        render("{{ '-' * 3 }}{{ 2 ** 3 }}{{ '%d' % 3 }}{% set l = [] %}{% set _ = l.append(1) %}{{ l }}") == "---83[1]"
    )


def test_templates_that_loop_over_no_tools_get_an_empty_list() -> None:
    template = ChatTemplate("{% for tool in tools %}{{ tool }}{% endfor %}{{ messages[0].content }}")
    assert template.render(USER) == "<b>"
    assert render("{{ tools is none }}") == "True"
