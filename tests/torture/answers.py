"""What has come of an answer in one of the four dialects, as its client judges it."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx

DIALECTS = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions")
_ENDS = {"message_stop", "response.completed", "response.incomplete"}
"""The last is that of an answer that had no more tokens."""
_TOO_LONG = re.compile(r"prompt is too long: \d+ tokens > \d+ maximum")
_TOO_MANY = re.compile(r"more than \d+ (?:objects|values)")
_BUSY = re.compile(r"(wait already|are under way|filled the memory|no memory for this request now); try again")
_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


def text_of(path: str, stream: bool, body: bytes) -> str:
    """The text of an answer, or of what came of a stream."""
    if stream:
        return "".join(map(_piece, events_of(body)))
    answer = json.loads(body)
    match path:
        case "/v1/messages":
            return answer["content"][0]["text"]
        case "/v1/responses":
            return answer["output"][0]["content"][0]["text"]
        case "/v1/completions":
            return answer["choices"][0]["text"]
        case _:
            return answer["choices"][0]["message"]["content"]


def events_of(body: bytes) -> list[dict[str, Any]]:
    """What came of a stream; a line that was cut is no event."""
    lines = body.decode(errors="ignore").split("\n")[:-1]
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def error_of(path: str, body: bytes) -> str:
    """What the error of its protocol says that a stream has ended with; "" where it ended, or was cut, without one."""
    match path, events_of(body)[-1:]:
        case "/v1/messages", [{"type": "error", "error": {"message": str(message)}}]:
            return message
        case "/v1/responses", [{"type": "response.failed", "response": {"error": {"message": str(message)}}}]:
            return message
        case "/v1/chat/completions" | "/v1/completions", [{"error": {"message": str(message)}, **more}] if not more:
            return message
    return ""


def has_end(path: str, body: bytes) -> bool:
    """Whether a stream ended as its protocol wants it of one that is complete."""
    if path in ("/v1/messages", "/v1/responses"):
        return not _ENDS.isdisjoint(event["type"] for event in events_of(body)[-1:])
    return body.endswith(b"data: [DONE]\n\n") and not error_of(path, body)


def is_whole(raw: bytes) -> bool:
    """Whether an HTTP answer has come to its end, by its own account."""
    head, _, body = raw.partition(b"\r\n\r\n")
    if b"chunked" in head:
        return raw.endswith(b"\r\n0\r\n\r\n")
    length = _LENGTH.search(head)
    return length is not None and len(body) >= int(length[1])


def fault_of(path: str, stream: bool, raw: bytes, answer: str) -> str:
    """What is wrong with an HTTP answer, or with what came of it before its client left, which should be `answer`:
    "" for nothing, else "errors", "wrong" or "wrong before the cut"."""
    head, has_head, rest = raw.partition(b"\r\n\r\n")
    if not has_head:
        return ""
    if int(head.split()[1]) != 200:
        return "errors"
    body = _body(rest, b"chunked" in head)
    if not is_whole(raw):
        if not stream:
            return ""
        if error_of(path, body):
            return "errors"
        return "" if answer.startswith(text_of(path, True, body)) else "wrong before the cut"
    if stream and not has_end(path, body):
        return "errors"
    return "" if text_of(path, stream, body) == answer else "wrong"


def outcome_of(path: str, stream: bool, answer: httpx.Response, text: str = "") -> str:
    """What came of a request, in a word where it is what should come of one: "answered", "too long", "too many",
    "too large" or "busy". An answer must have its protocol's end and be `text`, or some text where "" is given."""
    match answer.status_code:
        case 200:
            return _outcome_of_body(path, stream, answer.content, text)
        case 400 if _TOO_LONG.search(answer.text):
            return "too long"
        case 400 if _TOO_MANY.search(answer.text):
            return "too many"
        case 413:
            return "too large"
        case 503 if "retry-after" in answer.headers:
            return "busy"
        case status:
            return f"{status}: {answer.text[:120]}"


def _outcome_of_body(path: str, stream: bool, body: bytes, text: str) -> str:
    if stream and (error := error_of(path, body)):
        return "too long" if _TOO_LONG.search(error) else "busy" if _BUSY.search(error) else f"failed: {error[:120]}"
    if stream and not has_end(path, body):
        return "a stream without its end"
    found = text_of(path, stream, body)
    if text:
        return "answered" if found == text else f"wrong: {found[:120]}"
    return "answered" if found and _has_reason(stream, body) else "empty"


def _has_reason(stream: bool, body: bytes) -> bool:
    """Whether an answer of a route with choices says why it ended."""
    events = events_of(body) if stream else [json.loads(body)]
    return any(choice.get("finish_reason") for event in events for choice in event.get("choices", []))


def _piece(event: dict[str, Any]) -> str:
    if choices := event.get("choices"):
        return choices[0].get("text") or choices[0].get("delta", {}).get("content") or ""
    if event.get("type") == "content_block_delta":
        return event["delta"].get("text", "")
    return event["delta"] if event.get("type") == "response.output_text.delta" else ""


def _body(raw: bytes, chunked: bool) -> bytes:
    if not chunked:
        return raw
    found = b""
    while (at := raw.find(b"\r\n")) >= 0:
        size = int(raw[:at] or b"0", 16)
        found += raw[at + 2 : at + 2 + size]
        raw = raw[at + 4 + size :]
    return found
