"""Tools of the Responses API as plain functions for the model, and back.

A model sees functions with one name each. Here a `namespace`'s tools get their namespace's name in front,
and a `custom` (freeform) tool becomes a function with one text, `input`; calls of the model are told to the
client under the names and in the form it knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ..errors import InvalidRequest
from ..requests import ToolChoice, ToolDefinition
from . import openai_options, wire
from .wire import Ignored, Object


@dataclass(frozen=True, slots=True)
class ToolAddress:
    """A tool as the client knows it."""

    name: str
    namespace: str = ""
    is_custom: bool = False


@dataclass(slots=True)
class Toolbox:
    """The tools of one request: `definitions` for the model, under names that `addresses` leads back from."""

    definitions: dict[str, ToolDefinition] = field(default_factory=dict)
    addresses: dict[str, ToolAddress] = field(default_factory=dict)
    _names: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, definition: ToolDefinition, address: ToolAddress, path: str) -> None:
        """Put a tool in, under a name that no other tool has."""
        key = (address.namespace, address.name)
        if key in self._names:
            raise InvalidRequest(f"two tools are named {address.name!r}; names must be unique", path)
        if len(self.definitions) >= wire.MAX_TOOLS:
            raise InvalidRequest(f"at most {wire.MAX_TOOLS} tools are allowed", path)
        name = flat_name(*key)
        while name in self.definitions:
            name += "_"
        self._names[key] = name
        self.addresses[name] = address
        self.definitions[name] = replace(definition, name=name)

    def name_of(self, namespace: str, name: str) -> str:
        """The model's name of a tool, also of one that is no longer offered."""
        return self._names.get((namespace, name)) or flat_name(namespace, name)

    def address_of(self, name: str) -> ToolAddress:
        """The client's name of what the model called, known or not."""
        return self.addresses.get(name) or ToolAddress(name)


def flat_name(namespace: str, name: str) -> str:
    if not namespace:
        return name
    return f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"


class Format(msgspec.Struct):
    """The shape of a custom tool's input."""

    type: str = "text"
    syntax: str = ""
    definition: str = ""


class CustomTool(msgspec.Struct):
    name: wire.Name
    description: str | None = None
    format: Format | None = None


class Namespace(msgspec.Struct):
    """Tools under one name. Its description is not shown: what a tool does stands with the tool."""

    name: wire.Name
    tools: list[Object]


def read_tools(
    toolbox: Toolbox, items: list[Object], path: str, ignored: Ignored, namespace: Namespace | None = None
) -> None:
    """Put the tools of a list in. Kinds that this server cannot serve are ignored.

    `defer_loading` is not obeyed: nothing here could load a deferred tool later.
    """
    space = namespace.name if namespace else ""
    for index, item in enumerate(items):
        place = f"{path}.{index}"
        match item.get("type"):
            case "function":
                definition = openai_options.read_function(item, place)
                toolbox.add(definition, ToolAddress(definition.name, space), place)
            case "custom":
                definition = _custom(wire.convert(item, CustomTool, place))
                toolbox.add(definition, ToolAddress(definition.name, space, is_custom=True), place)
            case "namespace" if namespace is None:
                inner = wire.convert(item, Namespace, place)
                read_tools(toolbox, inner.tools, f"{place}.tools", ignored, inner)
            case str() as kind:
                ignored.add(place, kind)
            case _:
                raise InvalidRequest("Field required, a string", f"{place}.type")


def _custom(tool: CustomTool) -> ToolDefinition:
    """The function a freeform tool is to the model.

    Its grammar is told in words, and where the text goes, for descriptions say "do not wrap it in JSON".
    """
    description = f"{tool.description or ''}\n\nThe text itself is the argument `input`."
    if tool.format is not None and tool.format.definition:
        description += f" It must match this {tool.format.syntax} grammar:\n{tool.format.definition}"
    parameters: dict[str, Any] = {
        "type": "object",
        "properties": {"input": {"type": "string", "description": "The whole input, as plain text."}},
        "required": ["input"],
        "additionalProperties": False,
    }
    return ToolDefinition(tool.name, description.strip(), parameters)


def read_tool_choice(
    choice: str | Object | None, parallel: bool | None, toolbox: Toolbox, ignored: Ignored
) -> tuple[ToolChoice, tuple[ToolDefinition, ...]]:
    """As in chat, with the client's names made the model's."""
    if isinstance(choice, dict):
        choice = {**choice, **_renamed(choice, toolbox)}
        if isinstance(choice.get("tools"), list):
            tools = [{**item, **_renamed(item, toolbox)} for item in choice["tools"] if isinstance(item, dict)]
            choice["tools"] = tools
    return openai_options.read_tool_choice(choice, parallel, tuple(toolbox.definitions.values()), ignored)


def _renamed(item: Object, toolbox: Toolbox) -> Object:
    name, namespace = item.get("name"), item.get("namespace") or ""
    if not isinstance(name, str) or not isinstance(namespace, str):
        return {}
    return {"name": toolbox.name_of(namespace, name)}
