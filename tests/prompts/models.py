"""Chat templates of each kind, written for these tests, and small tokenizers for them."""

from __future__ import annotations

from functools import cache

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from omlx.server.prompts.chat_template import ChatTemplate
from omlx.server.prompts.render import Renderer
from omlx.server.prompts.template_traits import probe
from omlx.server.prompts.tokenizer import Tokenizer
from omlx.server.requests import GenerationRequest, Message, Part, Role, Text, ToolDefinition

CONTROL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]

ROLES = """\
{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""Writes any role, knows nothing of tools."""

AGENT = """\
{%- if messages[0].role == 'system' %}{% set head = messages[0].content %}{% set rest = messages[1:] %}
{%- else %}{% set head = '' %}{% set rest = messages %}{% endif %}
{%- if head or tools %}<|im_start|>system
{{ head }}{% for tool in tools or [] %}
{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}
{%- for m in rest %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content }}
{%- for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""
"""Renders tools, calls, results and reasoning, and takes a system message anywhere."""

OPENS_THINKING = AGENT.replace("{% if enable_thinking", "<think>\n{% if enable_thinking")

FORGETS_THINKING = AGENT.replace(
    "{%- for m in rest %}",
    "{% set ns = namespace(last=-1) %}{% for m in rest %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{%- for m in rest %}",
).replace("{% if m.reasoning_content %}", "{% if m.reasoning_content and loop.index0 > ns.last %}")
"""A user message takes the reasoning out of the turns before it."""

STRICT = """\
{%- set ns = namespace(turn=0) %}{%- for m in messages %}
{%- if m.role == 'system' %}{{ raise_exception('No system message, please') }}{% endif %}
{%- if m.role != 'tool' and not m.tool_calls %}
{%- if (m.role == 'user') != (ns.turn % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
{%- set ns.turn = ns.turn + 1 %}{% endif %}
{%- if m.tool_calls and m.tool_calls | length > 1 %}{{ raise_exception('One call at a time') }}{% endif %}
{%- if m.role == 'user' %}[{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}{{ m.content }}]
{%- elif m.role == 'tool' %}({{ m.tool_call_id }} {{ m.content }}){% else %} {{ m.content }}
{%- for call in m.tool_calls or [] %}{{ call.function.name }}{{ call.function.arguments }}{% endfor %}</s>
{%- endif %}{% endfor %}"""
"""No system role, turns that alternate, one call a message, its arguments as text."""

PARTS = """\
{% for m in messages %}<|im_start|>{{ m.role }}
{% for part in m.content %}{{ part.text }}{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""Takes content as a list of parts only."""

NUMBERED = AGENT.replace('{"name": "{{ call.function.name }}"', "{{ call.id }}<|tool_call_argument_begin|>")


def byte_backend(*control: str) -> tokenizers.Tokenizer:
    """A token a byte, but one for two line breaks and one for a space and an `a`."""
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {"ĊĊ": len(vocabulary), "Ġa": len(vocabulary) + 1}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, [("Ċ", "Ċ"), ("Ġ", "a")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(control or CONTROL))
    backend.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return backend


def sentencepiece_backend() -> tokenizers.Tokenizer:
    """A token a character, with the mark for spaces put before every text."""
    symbols = [chr(code) for code in range(33, 127)] + ["▁", "\n"]
    vocabulary = {symbol: index for index, symbol in enumerate(["<unk>", *symbols])}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["<s>", "</s>"])
    return backend


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer(byte_backend())


@cache
def renderer(source: str) -> Renderer:
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    return Renderer(template, tokenizer(), probe(template))


def message(role: Role, *parts: Part | str) -> Message:
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))


def request(*messages: Message, tools: tuple[ToolDefinition, ...] = (), **fields: object) -> GenerationRequest:
    return GenerationRequest("request-1", "model", messages, tools, **fields)  # type: ignore[arg-type]


def shown(source: str, *messages: Message, tools: tuple[ToolDefinition, ...] = (), **fields: object) -> str:
    """The prompt's text."""
    prompt = renderer(source).render(request(*messages, tools=tools, **fields))
    return tokenizer().decode(prompt.token_ids, skip_control=False)
