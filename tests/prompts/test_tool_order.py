from __future__ import annotations

from omlx.server.prompts.tool_order import ToolOrder
from omlx.server.requests import Json, ToolDefinition


def tool(name: str, *properties: str) -> ToolDefinition:
    schema: dict[str, Json] = {name: {"type": "string"} for name in properties}
    return ToolDefinition(name, "", {"type": "object", "properties": schema})


def keys(tools: tuple[ToolDefinition, ...]) -> list[tuple[str, list[str]]]:
    found = []
    for each in tools:
        properties = each.parameters["properties"]
        assert isinstance(properties, dict)
        found.append((each.name, list(properties)))
    return found


def test_the_same_tools_come_as_they_came_first() -> None:
    order = ToolOrder()
    first = order.steady([tool("write", "path", "content"), tool("bash", "command")], "")
    again = order.steady([tool("bash", "command"), tool("write", "content", "path")], "")

    assert keys(first) == keys(again) == [("write", ["path", "content"]), ("bash", ["command"])]


def test_other_tools_and_those_of_other_keys_come_as_they_are() -> None:
    order = ToolOrder()
    order.steady([tool("a"), tool("b")], "key")

    assert keys(order.steady([tool("b"), tool("a")], "another key")) == [("b", []), ("a", [])]
    assert keys(order.steady([tool("b"), tool("a", "x")], "key")) == [("b", []), ("a", ["x"])]
    assert keys(order.steady([tool("b"), tool("a"), tool("c")], "key")) == [("b", []), ("a", []), ("c", [])]


def test_what_came_longest_ago_is_forgotten() -> None:
    order = ToolOrder(max_bytes=400)
    order.steady([tool("a"), tool("b")], "")
    for number in range(20):
        order.steady([tool(f"tool_{number}")], "")

    assert keys(order.steady([tool("b"), tool("a")], "")) == [("b", []), ("a", [])]
    assert order.steady([tool("large", *(f"property_{number}" for number in range(50)))], "")[0].name == "large"
