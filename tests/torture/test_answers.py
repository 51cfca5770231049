"""What judges the answers of the abuse runs finds what is wrong with one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

import httpx
import pytest

from .answers import DIALECTS, error_of, fault_of, has_end, outcome_of
from .load import Load, Outcome, last_words

BEGUN = {
    "/v1/chat/completions": b'data: {"choices":[{"index":0,"delta":{"content":"one two"}}]}\n\n',
    "/v1/completions": b'data: {"choices":[{"index":0,"text":"one two"}]}\n\n',
    "/v1/messages": b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"one two"}}\n\n',
    "/v1/responses": b'event: response.created\ndata: {"type":"response.created","response":{"error":null}}\n\n'
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"one two"}\n\n',
}
FAILED = {
    "/v1/chat/completions": b'data: {"error":{"message":"it died"}}\n\ndata: [DONE]\n\n',
    "/v1/completions": b'data: {"error":{"message":"it died"}}\n\ndata: [DONE]\n\n',
    "/v1/messages": b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"it died"}}\n\n',
    "/v1/responses": b'event: response.failed\ndata: {"type":"response.failed",'
    b'"response":{"status":"failed","error":{"code":"server_error","message":"it died"}}}\n\n',
}
ENDED = {
    "/v1/chat/completions": b"data: [DONE]\n\n",
    "/v1/completions": b"data: [DONE]\n\n",
    "/v1/messages": b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    "/v1/responses": b'event: response.completed\ndata: {"type":"response.completed","response":{"error":null}}\n\n',
}
HEAD = b"HTTP/1.1 200 OK\r\n"


def streamed(*parts: bytes, is_whole: bool = True) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n" * is_whole


def whole(body: bytes, status: bytes = HEAD) -> bytes:
    return status + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("path", DIALECTS)
def test_a_stream_has_its_error_only_where_its_protocol_says_so(path: str):
    assert error_of(path, BEGUN[path] + FAILED[path]) == "it died"
    assert error_of(path, BEGUN[path]) == ""
    assert error_of(path, BEGUN[path] + FAILED[path][:-20]) == ""
    assert error_of(path, BEGUN[path] + ENDED[path]) == ""
    others = [FAILED[other] for other in DIALECTS if FAILED[other] != FAILED[path]]
    assert [error_of(path, BEGUN[path] + other) for other in others] == [""] * len(others)


@pytest.mark.parametrize("path", DIALECTS)
def test_a_stream_is_complete_only_with_its_protocols_end(path: str):
    assert has_end(path, BEGUN[path] + ENDED[path])
    assert not has_end(path, BEGUN[path])
    assert has_end(path, BEGUN[path] + ENDED[path].replace(b"response.completed", b"response.incomplete"))
    assert not has_end(path, BEGUN[path] + FAILED[path])


@pytest.mark.parametrize("path", DIALECTS)
def test_what_came_of_a_stream_is_judged(path: str):
    def fault(*parts: bytes, is_whole: bool = True, answer: str = "one two") -> str:
        return fault_of(path, True, streamed(*parts, is_whole=is_whole), answer)

    assert fault(BEGUN[path], ENDED[path]) == ""
    assert fault(BEGUN[path], ENDED[path], answer="one two three") == "wrong"
    assert fault(BEGUN[path], BEGUN[path], ENDED[path]) == "wrong"
    assert fault(BEGUN[path]) == "errors"
    assert fault(BEGUN[path], FAILED[path]) == "errors"
    assert fault(BEGUN[path], is_whole=False, answer="one two three") == ""
    assert fault(BEGUN[path], FAILED[path], is_whole=False) == "errors"
    assert fault(BEGUN[path], is_whole=False, answer="one other") == "wrong before the cut"
    assert fault(is_whole=False) == ""


def test_what_came_of_an_answer_is_judged():
    path, body, unavailable = "/v1/completions", b'{"choices":[{"text":"one"}]}', b"HTTP/1.1 503 Unavailable\r\n"
    assert fault_of(path, False, whole(body), "one") == ""
    assert fault_of(path, False, whole(body), "two") == "wrong"
    assert fault_of(path, False, whole(b"{}", unavailable), "one") == "errors"
    assert fault_of(path, False, whole(b"{}", unavailable)[:-1], "one") == "errors"
    assert fault_of(path, False, whole(body)[:-1], "one") == ""
    assert fault_of(path, False, HEAD, "one") == ""


@pytest.mark.parametrize("path", DIALECTS)
def test_an_answer_counts_only_with_its_text_and_its_protocols_end(path: str):
    def outcome(*parts: bytes, text: str = "one two") -> str:
        return outcome_of(path, True, httpx.Response(200, content=b"".join(parts)), text)

    assert outcome(BEGUN[path], ENDED[path]) == "answered"
    assert outcome(BEGUN[path], ENDED[path], text="one") == "wrong: one two"
    assert outcome(BEGUN[path]) == "a stream without its end"
    assert outcome() == "a stream without its end"
    assert outcome(FAILED[path]) == "failed: it died"
    for message, kind in (
        (b"prompt is too long: 9 tokens > 8 maximum", "too long"),
        (b"the requests that run have filled the memory; try again", "busy"),
    ):
        assert outcome(BEGUN[path], FAILED[path].replace(b"it died", message)) == kind


@pytest.mark.parametrize(
    ("status", "body", "headers", "expected"),
    [
        (200, b'{"choices":[{"text":"one","finish_reason":"length"}]}', {}, "answered"),
        (200, b'{"choices":[{"text":"","finish_reason":"length"}]}', {}, "empty"),
        (200, b'{"choices":[{"text":"one","finish_reason":null}]}', {}, "empty"),
        (400, b"prompt is too long: 9 tokens > 8 maximum", {}, "too long"),
        (400, b"no", {}, "400: no"),
        (413, b"", {}, "too large"),
        (503, b"", {"retry-after": "5"}, "busy"),
        (503, b"", {}, "503: "),
    ],
)
def test_what_came_of_a_request_is_told_in_a_word(status: int, body: bytes, headers: dict[str, str], expected: str):
    answer = httpx.Response(status, content=body, headers=headers)
    assert outcome_of("/v1/completions", False, answer) == expected


def test_a_server_that_says_nothing_at_its_end_or_fails_has_a_bad_end():
    books = b'{"streams": 0, "leases": 2}\n'
    assert last_words(books, 0) == {"streams": 0, "leases": 2, "bad ends": 0}
    assert last_words(books, -9)["bad ends"] == last_words(b"", 0)["bad ends"] == last_words(b"{}", 0)["bad ends"] == 1


class Steady(random.Random):
    """Gives the mean where it is a matter of time."""

    def expovariate(self, lambd: float = 1.0) -> float:
        return 1 / lambd


async def counted(answer: bytes, cut_share: float, closes: bool) -> Counter[str]:
    """Of ten requests, each of which gets this answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.rpartition(b":")[2]))
            writer.write(answer)
            if not closes:
                await reader.read()  # until the client has gone
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        outcome = Outcome()
        load = Load(server.sockets[0].getsockname()[1], Steady(1), cut_share, outcome, patience=0.5)
        await asyncio.gather(*(load.one(number) for number in range(10)))
    return +outcome.counts


@pytest.mark.parametrize(
    ("answer", "cut_share", "closes", "expected"),
    [
        (whole(b"{}", b"HTTP/1.1 500 Internal Server Error\r\n"), 1.0, False, {"answered": 10, "errors": 10}),
        (whole(b"{}", b"HTTP/1.1 500 Internal Server Error\r\n")[:-1], 1.0, False, {"cut": 10, "errors": 10}),
        (whole(b"{}")[:-1], 0.0, True, {"answered": 10, "errors": 10}),
        (b"", 0.0, True, {"answered": 10, "errors": 10}),
        (b"", 1.0, False, {"cut": 10}),
        (streamed(b": ping\n\n", is_whole=False), 1.0, False, {"cut": 10}),
    ],
)
async def test_only_a_client_that_leaves_before_the_end_has_cut_its_request(
    answer: bytes, cut_share: float, closes: bool, expected: dict[str, int]
):
    assert await counted(answer, cut_share, closes) == expected
