"""The seven probes against scripted endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest

from omlx.integrations.spec import Model
from omlx.launcher.completion import Completion
from omlx.launcher.errors import ServerDown
from omlx.launcher.machine import Machine
from omlx.launcher.probe import Probe, ProbeResult, exit_code, make_probes, run_probes
from omlx.launcher.probing import probe_server

from .fake_server import FakeServer, Reply, Request, chunk, text_reply, tool_reply

CHAT = "/v1/chat/completions"
PROBES = make_probes("nonce")
PARIS = '{"city": "Paris", "unit": "celsius"}'
LONDON = '{"city": "London", "unit": "celsius"}'


def answer_well(request: Request) -> Reply:
    """A model that knows everything it is asked here."""
    messages = request.body["messages"]
    assert isinstance(messages, list)
    if "tools" in request.body:
        return tool_reply("get_weather", LONDON if len(messages) > 1 else PARIS)
    question = messages[-1]["content"]
    if "haiku" in question:
        return text_reply("Waves\nroll\nhome", completion_tokens=6, prompt_tokens=9)
    if "17" in question[:12]:
        return text_reply("391.")
    return text_reply("211", prompt_tokens=5012) if "item 3" in question else text_reply("Hello!")


@pytest.fixture
def http(server: FakeServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        yield client


@pytest.fixture
def ask(server: FakeServer, http: httpx.Client, model: Model) -> Callable[[Probe, Reply], ProbeResult]:
    """Puts one probe to an endpoint that answers with the given reply."""

    def asked(probe: Probe, reply: Reply) -> ProbeResult:
        server.answers[CHAT] = lambda _: reply
        return run_probes(http, model, [probe], lambda _: None)[0]

    return asked


def test_a_good_model_passes_the_questions(server: FakeServer, http: httpx.Client, model: Model):
    server.answers[CHAT] = answer_well
    lines: list[str] = []
    told: list[ProbeResult] = []
    results = run_probes(http, model, PROBES[:6], lines.append, told.append)
    assert tuple(told) == results
    assert [result.verdict.is_right for result in results] == [True] * 6
    assert [result.verdict.reason for result in results[2:5]] == [
        "391",
        f"get_weather({PARIS})",
        f"get_weather({LONDON})",
    ]
    assert results[5].verdict.reason == "211 (5,012 prompt tokens)"
    assert lines[0] == "probe 1 of 6: cold first call…"
    assert exit_code(results) == 0


def test_the_requests_stream_and_ask_for_usage(server: FakeServer, http: httpx.Client, model: Model):
    server.answers[CHAT] = answer_well
    run_probes(http, model, PROBES[:1], lambda _: None)
    body = server.requests[0].body
    assert (body["model"], body["stream"], body["stream_options"]) == ("qwen", True, {"include_usage": True})


def test_the_long_prompt_is_new_each_time():
    first, second = make_probes("a")[5], make_probes("b")[5]
    assert first.messages != second.messages
    assert PROBES[5].messages == PROBES[6].messages
    assert 12_000 < len(str(PROBES[5].messages[0]["content"])) < 20_000


@pytest.mark.parametrize(
    ("number", "reply", "reason"),
    [
        (0, text_reply("  "), "no text"),
        (
            0,
            Reply(events=[chunk({"reasoning_content": "hm"}), chunk({}, "length"), "[DONE]"]),
            "cut off while it reasoned",
        ),
        (1, text_reply("one line"), "not three lines but 1: one line"),
        (2, text_reply("1391", "length"), "not 391 (cut off at its cap): 1391"),
        (3, text_reply("It is sunny."), "no tool call: It is sunny."),
        (3, tool_reply("get_weather", '{"city": "Rome", "unit": "celsius"}'), "not Paris in celsius"),
        (3, tool_reply("get_weather", '{"city": "Paris"}'), "not Paris in celsius"),
        (3, tool_reply("get_weather", "{"), "its arguments are not JSON"),
        (4, tool_reply("get_weather", PARIS), "not London in celsius"),
        (6, text_reply("211"), "nothing to compare with"),
    ],
)
def test_a_wrong_answer_is_told_from_a_broken_endpoint(
    ask: Callable[[Probe, Reply], ProbeResult], number: int, reply: Reply, reason: str
):
    result = ask(PROBES[number], reply)
    assert (result.verdict.is_right, result.is_broken) == (False, False)
    assert reason in result.verdict.reason
    assert exit_code([result]) == 3


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply({"error": {"message": "out of memory"}}, 500), "HTTP 500: out of memory"),
        (Reply(["?"], 502), 'HTTP 502: ["?"]'),
        (Reply(events=[chunk({"content": "Hi"})]), "ended without `data: [DONE]`"),
        (Reply(events=[chunk({"content": "Hi"}), "[DONE]"]), "without a finish_reason"),
        (Reply(events=["{", "[DONE]"]), "a chunk does not parse"),
        (Reply(events=[{"error": {"message": "engine died"}}, "[DONE]"]), "error in the stream: engine died"),
    ],
)
def test_a_broken_endpoint_says_how(ask: Callable[[Probe, Reply], ProbeResult], reply: Reply, reason: str):
    result = ask(PROBES[0], reply)
    assert result.is_broken
    assert reason in result.verdict.reason
    assert exit_code([result]) == 4


def test_when_nobody_answers_the_rest_is_not_asked(model: Model):
    with httpx.Client(base_url="http://127.0.0.1:9", trust_env=False) as http:
        results = run_probes(http, model, PROBES, lambda _: None)
    assert [result.is_broken for result in results] == [True]


def test_a_window_too_small_for_the_long_prompt_is_told(http: httpx.Client, model: Model):
    results = run_probes(http, replace(model, context_window=4096), PROBES[5:6], lambda _: None)
    assert results[0].verdict.reason == "not asked: the window holds 4096 tokens"


def completion(first_token_seconds: float, cached_tokens: int | None = None) -> Completion:
    return Completion("211", "", (), "stop", 5000, cached_tokens, 11, 9.0, first_token_seconds, first_token_seconds + 2)


def test_the_second_long_prompt_is_judged_by_its_speed_up():
    judge = PROBES[6].judge
    fast = judge(completion(0.5, 4992), completion(4.0))
    assert (fast.is_right, fast.reason) == (True, "first token 8.0x as fast, 4,992 tokens from the cache")
    slow = judge(completion(4.0), completion(4.0))
    assert (slow.is_right, slow.reason) == (False, "no speed-up: first token 1.0x as fast")


def test_the_decode_rate_counts_the_tokens_after_the_first():
    assert completion(0.5).decode_rate == 5.0
    assert replace(completion(0.5), completion_tokens=1).decode_rate is None
    assert replace(completion(0.5), first_token_seconds=None).decode_rate is None


def test_the_server_is_found_and_its_only_model_probed(server: FakeServer, machine: Machine):
    server.serve_models({"id": "m", "max_model_len": 4096})
    server.answers[CHAT] = answer_well
    probed = probe_server(machine, server.url, None, lambda _: None)
    assert (probed.url, probed.model, len(probed.results)) == (server.url, "m", 7)
    with pytest.raises(ServerDown):
        probe_server(machine, "http://127.0.0.1:9", None, lambda _: None)
