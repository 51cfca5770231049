from __future__ import annotations

from dataclasses import replace

import pytest

from omlx.server.errors import UnsupportedModel
from omlx.server.prompts.chat_template import ChatTemplate
from omlx.server.prompts.template_traits import TemplateTraits, probe

from . import models

ABLE = TemplateTraits(
    system=True,
    system_anywhere=True,
    consecutive_users=True,
    renders_tools=True,
    renders_calls=True,
    parallel_calls=True,
    user_after_result=True,
    arguments_as_text=False,
    content_as_parts=False,
    reasoning_field="reasoning_content",
    user_drops_reasoning=False,
    text_beside_reasoned_call=True,
    numbers_calls=False,
)
NO_TOOLS = replace(
    ABLE, renders_tools=False, renders_calls=False, parallel_calls=False, user_after_result=False, reasoning_field=""
)


@pytest.mark.parametrize(
    ("source", "traits"),
    [
        pytest.param(models.AGENT, ABLE, id="agent"),
        pytest.param(models.OPENS_THINKING, ABLE, id="opens-thinking"),
        pytest.param(models.FORGETS_THINKING, replace(ABLE, user_drops_reasoning=True), id="forgets-thinking"),
        pytest.param(models.AGENT.replace("reasoning_content", "thinking"), replace(ABLE, reasoning_field="thinking")),
        pytest.param(models.NUMBERED, replace(ABLE, numbers_calls=True), id="numbered"),
        pytest.param(models.ROLES, NO_TOOLS, id="roles"),
        pytest.param(models.PARTS, replace(NO_TOOLS, content_as_parts=True), id="parts"),
        pytest.param(
            models.STRICT,
            replace(
                ABLE,
                system=False,
                system_anywhere=False,
                consecutive_users=False,
                parallel_calls=False,
                user_after_result=False,
                arguments_as_text=True,
                reasoning_field="",
            ),
            id="strict",
        ),
    ],
)
def test_a_template_is_known_by_what_it_does(source: str, traits: TemplateTraits) -> None:
    assert probe(ChatTemplate(source)) == traits


def test_a_template_that_renders_no_user_message_is_not_supported() -> None:
    with pytest.raises(UnsupportedModel, match="single user message"):
        probe(ChatTemplate("nothing"))
