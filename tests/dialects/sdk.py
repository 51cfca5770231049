"""The official SDKs over a transport that plays given bytes: what they parse is what clients see."""

import anthropic
import httpx2
import openai


def _transport(body: bytes, status: int, is_stream: bool) -> httpx2.MockTransport:
    headers = {"content-type": "text/event-stream" if is_stream else "application/json", "request-id": "req_1"}
    return httpx2.MockTransport(lambda _: httpx2.Response(status, headers=headers, content=body))


def openai_client(body: bytes, *, status: int = 200, is_stream: bool = False) -> openai.OpenAI:
    client = httpx2.Client(transport=_transport(body, status, is_stream))
    return openai.OpenAI(api_key="x", base_url="http://server/v1", http_client=client, max_retries=0)


def anthropic_client(body: bytes, *, status: int = 200, is_stream: bool = False) -> anthropic.Anthropic:
    client = httpx2.Client(transport=_transport(body, status, is_stream))
    return anthropic.Anthropic(api_key="x", base_url="http://server", http_client=client, max_retries=0)
