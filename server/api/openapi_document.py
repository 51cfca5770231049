"""The OpenAPI document of the public routes. Bodies are described by the structs that read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ..dialects import (
    anthropic_messages,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
    rerank,
)
from . import launches

Node = dict[str, Any]

_BODIES = {
    "/v1/chat/completions": (openai_chat.Body, "OpenAI Chat Completions", "chat.completion"),
    "/v1/completions": (openai_completions.Body, "OpenAI Completions", "text_completion"),
    "/v1/responses": (openai_responses.Body, "OpenAI Responses", "response"),
    "/v1/embeddings": (openai_embeddings.Body, "OpenAI Embeddings", "list"),
    "/v1/rerank": (rerank.Body, "Documents by how well they answer a query", "ranking"),
    "/v1/messages": (anthropic_messages.Body, "Anthropic Messages", "message"),
    "/v1/messages/count_tokens": (anthropic_messages.CountBody, "The length of a prompt", ""),
}
_REFUSALS = {
    400: "A field is wrong, or the prompt is longer than the window",
    401: "No key, or a wrong one",
    403: "A foreign Host or Origin",
    404: "No such model or object",
    413: "The body is too large",
    415: "The body is not application/json",
    500: "The server or its engine failed",
    503: "No room or no engine now; Retry-After says when to come back",
}
_ERRORS: Node = {
    "OpenAIError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                },
            }
        },
    },
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error", "request_id"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            },
            "request_id": {"type": "string"},
        },
    },
}
_ANSWERS: Node = {
    "chat.completion": {"object": {"const": "chat.completion"}, "choices": {"type": "array", "minItems": 1}},
    "text_completion": {"object": {"const": "text_completion"}, "choices": {"type": "array", "minItems": 1}},
    "response": {"object": {"const": "response"}, "output": {"type": "array"}},
    "list": {"object": {"const": "list"}, "data": {"type": "array", "minItems": 1}},
    "ranking": {"results": {"type": "array"}},
    "message": {"type": {"const": "message"}, "content": {"type": "array"}, "stop_reason": {"type": "string"}},
}
_STREAMED = frozenset({"chat.completion", "text_completion", "response", "message"})
_OBJECT: Node = {"type": "object"}
_RECORD: Node = {
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
"""A record of a stream, as OpenAPI's own sense of `text/event-stream` has it."""
_ROLES = {
    "openai_chat.MessageItem": ["system", "developer", "user", "assistant", "tool", "function"],
    "anthropic_messages.MessageItem": ["user", "assistant", "system"],
}
_TOOL: Node = {"name": "look", "description": "Looks at a file.", "parameters": {"type": "object", "properties": {}}}
_USER: Node = {"role": "user", "content": "Hello"}
_EXAMPLES: Node = {
    "/v1/chat/completions": {"messages": [_USER], "tools": [{"type": "function", "function": _TOOL}]},
    "/v1/completions": {"prompt": "Once upon", "stream": True},
    "/v1/responses": {"input": [_USER], "tools": [{"type": "function", **_TOOL}]},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/rerank": {"query": "Hello", "documents": ["Hello"]},
    "/v1/messages": {"messages": [_USER], "max_tokens": 100, "stream": True},
    "/v1/messages/count_tokens": {"messages": [_USER]},
}


def document(model_ids: Sequence[str], version: str, asks_for_key: bool) -> Node:
    """The document of a server that serves these models."""
    _, schemas = msgspec.json.schema_components(
        [body for body, _, _ in _BODIES.values()], ref_template="#/components/schemas/{name}"
    )
    components: Node = {"schemas": _short_names(schemas) | _ERRORS}
    for schema in components["schemas"].values():
        if "model" in schema.get("properties", {}) and model_ids:
            schema["properties"]["model"] = {"type": "string", "enum": list(model_ids)}
    for name, roles in _ROLES.items():
        components["schemas"][name]["properties"]["role"] = {"type": "string", "enum": roles}
    made: Node = {
        "openapi": "3.1.0",
        "info": {"title": "omlx", "version": version},
        "paths": {path: {"post": _post(path, model_ids)} for path in _BODIES},
        "components": components,
    }
    _add_gets(made["paths"], model_ids)
    _add_launches(made, model_ids)
    if asks_for_key:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
        made["security"] = [{"bearer": []}, {"key": []}]
    return made


def _short_names(schemas: Node) -> Node:
    """Where two structs share a name msgspec gives both their whole path."""
    text = msgspec.json.encode(schemas).decode()
    return msgspec.json.decode(re.sub(r"(?<=[/\"])omlx\.server\.dialects\.", "", text))


def _post(path: str, model_ids: Sequence[str]) -> Node:
    body, summary, kind = _BODIES[path]
    content = {"application/json": {"schema": _answer(kind)}}
    if kind in _STREAMED:
        content["text/event-stream"] = {"schema": _RECORD}
    name = body.__name__ if kind == "" else f"{body.__module__.rpartition('.')[2]}.{body.__name__}"
    media: Node = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    if model_ids:
        media["example"] = {"model": model_ids[0], **_EXAMPLES[path]}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": media}},
        "responses": {"200": {"description": "The answer", "content": content}, **_refusals(path)},
    }


def _answer(kind: str) -> Node:
    fields: Node = {"input_tokens": {"type": "integer", "minimum": 1}}
    if kind:
        fields = {"model": {"type": "string"}, "usage": _OBJECT, **_ANSWERS[kind]}
    if kind in _STREAMED:
        fields["id"] = {"type": "string"}
    return {"type": "object", "required": list(fields), "properties": fields}


def _refusals(path: str) -> Node:
    shape = "AnthropicError" if path.startswith("/v1/messages") else "OpenAIError"
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
    return {str(status): {"description": words, "content": content} for status, words in _REFUSALS.items()}


def _add_gets(paths: Node, model_ids: Sequence[str]) -> None:
    paths["/v1/models"] = {"get": _get("/v1/models", "The models", [_query("limit", {"type": "integer"})])}
    model = _in_path("model_id", {"type": "string", "enum": list(model_ids)} if model_ids else {"type": "string"})
    paths["/v1/models/{model_id}"] = {"get": _get("/v1/models/", "One model", [model])}
    response = _in_path("response_id", {"type": "string", "pattern": "^resp_[0-9a-f]+$"})
    paths["/v1/responses/{response_id}"] = {
        "get": _get("/v1/responses/", "A stored response", [response]),
        "delete": _get("/v1/responses/", "Forget a stored response", [response]),
    }
    paths["/health"] = {"get": _get("/health", "The process answers") | {"security": []}}
    ready: Node = _get("/ready", "The models asked for at start are loaded") | {"security": []}
    ready["responses"] = ready["responses"] | {"503": ready["responses"]["200"]}
    paths["/ready"] = {"get": ready}
    paths["/metrics"] = {"get": _get("/metrics", "Prometheus", media_type="text/plain")}
    paths["/openapi.json"] = {"get": _get("/openapi.json", "This document")}


def _add_launches(made: Node, model_ids: Sequence[str]) -> None:
    _, schemas = msgspec.json.schema_components(
        [launches.Body, launches.LaunchObject], ref_template="#/components/schemas/Launch.{name}"
    )
    if model_ids:
        schemas["Body"]["properties"]["model"] = {"type": "string", "enum": list(model_ids)}
    made["components"]["schemas"] |= {f"Launch.{name}": schema for name, schema in schemas.items()}
    told: Node = {"$ref": "#/components/schemas/Launch.LaunchObject"}
    announce = _get("/v1/launches", "An agent is about to come, with the key of this request", answer=told)
    body: Node = {"schema": {"$ref": "#/components/schemas/Launch.Body"}}
    announce["requestBody"] = {"required": True, "content": {"application/json": body}}
    made["paths"]["/v1/launches"] = {"post": announce}
    launch = _in_path("launch_id", {"type": "string", "pattern": "^[0-9a-f]{32}$"})
    found = _get("/v1/launches/", "Whether it has come, and what was kept for it", [launch], answer=told)
    made["paths"]["/v1/launches/{launch_id}"] = {"get": found}


def _get(
    path: str,
    summary: str,
    parameters: Sequence[Node] = (),
    media_type: str = "application/json",
    answer: Node = _OBJECT,
) -> Node:
    schema = answer if media_type == "application/json" else {"type": "string"}
    content = {media_type: {"schema": schema}}
    responses = {"200": {"description": summary, "content": content}, **_refusals(path)}
    return {"summary": summary, "parameters": list(parameters), "responses": responses}


def _query(name: str, schema: Node) -> Node:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _in_path(name: str, schema: Node) -> Node:
    return {"name": name, "in": "path", "required": True, "schema": schema}
