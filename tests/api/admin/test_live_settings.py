"""Each of a model's settings, changed by one PUT on a server that runs: it holds from the next request on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from omlx.server.engine.engine_stream import EngineStream
from omlx.server.engine.messages import Encode, Submit, ThinkingBudget
from omlx.server.engine.process import EngineProcess

from ..serving import MODEL
from .admin_serving import Admin, admin_serving

CHAT = "/v1/chat/completions"
ANSWER = "Hi."
TEMPLATE = """\
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Submit]:
    """What the engines are told, in order."""
    seen: list[Submit] = []
    submit = EngineProcess.submit

    def listening(engine: EngineProcess, command: Submit | Encode) -> EngineStream:
        if isinstance(command, Submit):
            seen.append(command)
        return submit(engine, command)

    monkeypatch.setattr(EngineProcess, "submit", listening)
    return seen


async def ask(admin: Admin, **fields: Any) -> dict[str, Any]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **fields}
    return (await admin.http.post(CHAT, json=body)).raise_for_status().json()["choices"][0]


async def put(admin: Admin, **changes: Any) -> None:
    (await admin.put(f"models/{MODEL}", changes)).raise_for_status()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.25),
        ("top_p", 0.5),
        ("top_k", 7),
        ("min_p", 0.125),
        ("repetition_penalty", 1.5),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -0.5),
    ],
)
async def test_a_sampling_default_reaches_the_engine_and_a_request_goes_before_it(
    told: list[Submit], tmp_path: Path, name: str, value: float
):
    async with admin_serving(tmp_path, ANSWER) as admin:
        await ask(admin)
        await put(admin, **{name: value})
        await ask(admin)
        await ask(admin, **{name: 1})
        await put(admin, **{name: None})
        await ask(admin)
    by_default, set_, asked, unset = (getattr(each.sampling, name) for each in told)
    assert (set_, asked) == (value, 1)
    assert by_default == unset != value


async def test_the_models_own_sampling_counts_where_nothing_is_set(told: list[Submit], tmp_path: Path):
    async with admin_serving(tmp_path, ANSWER) as admin:
        own = '{"temperature": 0.6, "top_k": 20}'
        (tmp_path / "models" / MODEL / "generation_config.json").write_text(own)
        await ask(admin)
        await put(admin, top_k=5)
        await ask(admin)
    assert [(each.sampling.temperature, each.sampling.top_k) for each in told] == [(0.6, 20), (0.6, 5)]


async def test_the_length_of_an_answer_is_cut(tmp_path: Path):
    async with admin_serving(tmp_path, "x" * 50) as admin:
        whole = await ask(admin)
        await put(admin, max_tokens=7)
        cut = await ask(admin)
    assert (len(whole["message"]["content"]), len(cut["message"]["content"])) == (50, 7)
    assert cut["finish_reason"] == "length"


async def test_a_tool_parser_of_the_users_choice_is_used(tmp_path: Path):
    async with admin_serving(tmp_path, '[TOOL_CALLS]look[ARGS]{"at": "it"}') as admin:
        plain = await ask(admin, tools=TOOLS)
        await put(admin, tool_parser="mistral")
        parsed = await ask(admin, tools=TOOLS)
    assert not plain["message"].get("tool_calls")
    assert parsed["message"]["tool_calls"][0]["function"]["name"] == "look"
    assert parsed["finish_reason"] == "tool_calls"


async def test_thinking_is_turned_off_and_a_request_goes_before_it(told: list[Submit], tmp_path: Path):
    async with admin_serving(tmp_path, ANSWER) as admin:
        (tmp_path / "models" / MODEL / "chat_template.jinja").write_text(TEMPLATE)
        await ask(admin)
        await put(admin, thinking=False)
        await ask(admin)
        await ask(admin, chat_template_kwargs={"enable_thinking": True})
        prompts = [admin.server.tokenizer.decode(each.token_ids, skip_special_tokens=False) for each in told]
    assert ["</think>" in prompt for prompt in prompts] == [False, True, False]


async def test_a_budget_of_thinking_reaches_the_engine(told: list[Submit], tmp_path: Path):
    async with admin_serving(tmp_path, ANSWER) as admin:
        (tmp_path / "models" / MODEL / "chat_template.jinja").write_text(TEMPLATE)
        await ask(admin)
        await put(admin, thinking_budget=300)
        await ask(admin)
        start, end = (admin.server.tokenizer.encode(mark).ids for mark in ("<think>", "</think>"))
    assert [each.thinking for each in told] == [None, ThinkingBudget(300, start, end)]


async def test_the_mtp_layer_is_not_asked_any_more(told: list[Submit], tmp_path: Path):
    async with admin_serving(tmp_path, ANSWER) as admin:
        await ask(admin)
        await put(admin, mtp=False)
        await ask(admin)
        await put(admin, mtp=True)
        await ask(admin)
    assert [each.without_drafters for each in told] == [[], ["mtp"], []]


async def test_an_idle_model_leaves_once_that_is_set_and_stays_once_it_is_pinned(tmp_path: Path):
    async with admin_serving(tmp_path, ANSWER) as admin:
        await ask(admin)
        pool = admin.server.pool
        await pool.unload_idle()
        kept = list(pool.engines)
        await put(admin, ttl_seconds=1e-9, pin=True)
        await pool.unload_idle()
        pinned = list(pool.engines)
        await put(admin, pin=False)
        await pool.unload_idle()
        assert (kept, pinned, list(pool.engines)) == ([MODEL], [MODEL], [])


async def test_an_alias_answers_and_one_that_was_taken_back_does_not(tmp_path: Path):
    async with admin_serving(tmp_path, ANSWER) as admin:
        await put(admin, alias="coder")
        assert (await ask(admin, model="coder"))["message"]["content"] == ANSWER
        await put(admin, alias=None)
        body = {"model": "coder", "messages": [{"role": "user", "content": "hello"}]}
        assert (await admin.http.post(CHAT, json=body)).status_code == 404


async def test_a_parser_of_thinking_is_used(tmp_path: Path):
    async with admin_serving(tmp_path, "[THINK]hm[/THINK]Hi.") as admin:
        await put(admin, reasoning_parser="magistral")
        parsed = await ask(admin)
        await put(admin, reasoning_parser="none")
        plain = await ask(admin)
    assert (parsed["message"]["content"], plain["message"]["content"]) == ("Hi.", "[THINK]hm[/THINK]Hi.")
