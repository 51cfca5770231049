"""Pi's own terms."""

from __future__ import annotations

import json

from omlx.integrations.pi import wire
from omlx.integrations.spec import Surroundings, Target


def test_an_extension_registers_every_model(target: Target, surroundings: Surroundings):
    wiring = wire(target, surroundings)
    extension = wiring.files[0]
    assert wiring.arguments[:4] == ("-e", str(extension.path), "--model", "omlx/qwen3-coder:30b")
    head, _, rest = extension.text.partition('registerProvider("omlx", ')
    assert head == "export default (pi) => pi."
    provider = json.loads(rest.removesuffix(");\n"))
    assert (provider["baseUrl"], provider["apiKey"]) == ("http://127.0.0.1:8123/v1", "$OMLX_API_KEY")
    assert [
        (model["id"], model["contextWindow"], model["maxTokens"], model["reasoning"], model["input"])
        for model in provider["models"]
    ] == [("qwen3-coder:30b", 131_072, 32_000, True, ["text", "image"]), ("small", 65_536, 16_384, False, ["text"])]
