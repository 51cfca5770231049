"""Seven questions to an endpoint: does it answer, how fast, and is the answer right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..integrations.spec import Model
from .completion import Completion, complete
from .errors import ANSWERS_WRONG, ENDPOINT_BROKEN, BadAnswer, ServerDown

if TYPE_CHECKING:
    import httpx

_LONG_PROMPT_ITEMS = 236
_LONG_PROMPT_WINDOW = 6500
_SPEED_UP = 1.5


@dataclass(frozen=True, slots=True)
class Verdict:
    is_right: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Probe:
    """A question and the judge of its answer, who also sees the answer to the question before."""

    name: str
    messages: tuple[Mapping[str, object], ...]
    judge: Callable[[Completion, Completion | None], Verdict]
    uses_tool: bool = False
    is_long: bool = False


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`completion` is None where the endpoint broke; the verdict's reason then says how."""

    name: str
    verdict: Verdict
    completion: Completion | None = None
    is_broken: bool = False


def make_probes(nonce: str) -> tuple[Probe, ...]:
    """The seven probes; `nonce` is random, so that the long prompt is in no cache."""
    long_prompt = (_said("user", _long_text(nonce)),)
    return (
        Probe("cold first call", (_said("user", "Say hello."),), _judge_any),
        Probe("warm haiku", (_said("user", "Write a haiku about the sea."),), _judge_haiku),
        Probe("17 * 23", (_said("user", "What is 17 * 23? Answer with the number only."),), _judge_holds("391")),
        Probe("tool call", _WEATHER[:1], _judge_call("Paris"), uses_tool=True),
        Probe("multi-turn follow-up", _WEATHER, _judge_call("London"), uses_tool=True),
        Probe("5K prompt, cold", long_prompt, _judge_holds(str(_price(3))), is_long=True),
        Probe("5K prompt, again", long_prompt, _judge_reuse, is_long=True),
    )


def run_probes(
    http: httpx.Client,
    model: Model,
    probes: Sequence[Probe],
    report: Callable[[str], None],
    tell: Callable[[ProbeResult], None] = lambda _: None,
) -> tuple[ProbeResult, ...]:
    """Ask them in order; `report` gets a line before each, `tell` each result at once. When nothing answers at all, the
    rest is not asked."""
    results: list[ProbeResult] = []
    before: Completion | None = None
    for number, probe in enumerate(probes, 1):
        report(f"probe {number} of {len(probes)}: {probe.name}…")
        try:
            result = _run(http, model, probe, before)
        except ServerDown as error:
            results.append(ProbeResult(probe.name, Verdict(False, str(error)), is_broken=True))
            tell(results[-1])
            break
        before = result.completion
        results.append(result)
        tell(result)
    return tuple(results)


def exit_code(results: Sequence[ProbeResult]) -> int:
    """0 all right, 3 an answer was wrong, 4 the endpoint is broken."""
    if any(result.is_broken for result in results):
        return ENDPOINT_BROKEN
    return 0 if all(result.verdict.is_right for result in results) else ANSWERS_WRONG


def _run(http: httpx.Client, model: Model, probe: Probe, before: Completion | None) -> ProbeResult:
    if probe.is_long and (model.context_window or _LONG_PROMPT_WINDOW) < _LONG_PROMPT_WINDOW:
        return ProbeResult(probe.name, Verdict(False, f"not asked: the window holds {model.context_window} tokens"))
    body: dict[str, object] = {
        "model": model.name,
        "messages": list(probe.messages),
        "temperature": 0,
        "max_tokens": 2048 if model.reasoning else 256,
    }
    if probe.uses_tool:
        body["tools"] = [_WEATHER_TOOL]
    try:
        completion = complete(http, body)
    except BadAnswer as error:
        return ProbeResult(probe.name, Verdict(False, str(error)), is_broken=True)
    return ProbeResult(probe.name, probe.judge(completion, before), completion)


def _said(role: str, content: str) -> dict[str, object]:
    return {"role": role, "content": content}


_WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
        },
    },
}
_PARIS_CALL = {
    "id": "call_paris",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris", "unit": "celsius"}'},
}
_WEATHER = (
    _said("user", "What is the weather in Paris, in celsius? Use the tool."),
    {"role": "assistant", "content": None, "tool_calls": [_PARIS_CALL]},
    {"role": "tool", "tool_call_id": "call_paris", "content": '{"temperature": 18, "sky": "clear"}'},
    _said("assistant", "It is 18 °C and clear in Paris."),
    _said("user", "And in London?"),
)


def _price(item: int) -> int:
    return 100 + item * 37 % 900


def _long_text(nonce: str) -> str:
    """About 5,000 tokens; what is asked for stands near the start, where a server that truncates would lose it."""
    lines = (
        f"Item {item}: the lantern on shelf {item} costs {_price(item)} coins." for item in range(1, _LONG_PROMPT_ITEMS)
    )
    return (
        f"Price list {nonce}.\n" + "\n".join(lines) + "\nHow many coins does item 3 cost? Answer with the number only."
    )


def _judge_any(completion: Completion, _before: Completion | None) -> Verdict:
    if completion.text.strip():
        return Verdict(True, _shown(completion.text))
    return Verdict(False, "no text" + _cut_off(completion))


def _judge_haiku(completion: Completion, _before: Completion | None) -> Verdict:
    lines = [line for line in completion.text.splitlines() if line.strip()]
    if len(lines) >= 3:
        return Verdict(True, _shown(completion.text))
    return Verdict(False, f"not three lines but {len(lines)}{_cut_off(completion)}: {_shown(completion.text)}")


def _judge_holds(number: str) -> Callable[[Completion, Completion | None], Verdict]:
    def judge(completion: Completion, _before: Completion | None) -> Verdict:
        size = "" if completion.prompt_tokens is None else f" ({completion.prompt_tokens:,} prompt tokens)"
        if re.search(rf"(?<!\d){number}(?!\d)", completion.text):
            return Verdict(True, f"{number}{size}")
        return Verdict(False, f"not {number}{_cut_off(completion)}: {_shown(completion.text)}{size}")

    return judge


def _judge_call(city: str) -> Callable[[Completion, Completion | None], Verdict]:
    def judge(completion: Completion, _before: Completion | None) -> Verdict:
        if not completion.tool_calls:
            return Verdict(False, f"no tool call{_cut_off(completion)}: {_shown(completion.text)}")
        call = completion.tool_calls[0]
        shown = f"{call.name}({_shown(call.arguments)})"
        try:
            arguments = json.loads(call.arguments)
        except ValueError:
            return Verdict(False, f"its arguments are not JSON: {shown}")
        is_right = (
            call.name == "get_weather"
            and isinstance(arguments, dict)
            and (city.lower() in str(arguments.get("city")).lower() and arguments.get("unit") == "celsius")
        )
        return Verdict(is_right, shown if is_right else f"not {city} in celsius: {shown}")

    return judge


def _judge_reuse(completion: Completion, before: Completion | None) -> Verdict:
    if before is None or before.first_token_seconds is None or completion.first_token_seconds is None:
        return Verdict(False, "nothing to compare with")
    speed_up = before.first_token_seconds / max(completion.first_token_seconds, 1e-6)
    cached = "" if completion.cached_tokens is None else f", {completion.cached_tokens:,} tokens from the cache"
    fact = f"first token {speed_up:.1f}x as fast{cached}"
    return Verdict(speed_up >= _SPEED_UP, fact if speed_up >= _SPEED_UP else f"no speed-up: {fact}")


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "…"


def _cut_off(completion: Completion) -> str:
    if completion.finish_reason != "length":
        return ""
    return " (cut off while it reasoned)" if completion.reasoning and not completion.text else " (cut off at its cap)"
