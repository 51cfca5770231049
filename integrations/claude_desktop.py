"""Claude Desktop, wired after others' notes on its files: it runs on macOS and Windows, and here the paths are macOS's.

Its mode for other providers takes a gateway that speaks Messages, from a library of configurations of which one is
applied. It has no layer for one run. Without a list of models it would look for names of Anthropic's; for the window
no setting is known. A key cannot be named in it, only written: where the server wants one, enter it in the app under
Developer, Configure Third-Party Inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ._options import lenient_object
from .spec import KEY_VARIABLE, NO_KEY, PROVIDER, Edit, Integration, Model, Surroundings, Target

_ID = "6f6d6c78-0000-4000-8000-000000000001"
_SUPPORT = "Library/Application Support"


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    support = surroundings.home / _SUPPORT
    library = support / "Claude-3p" / "configLibrary"
    mode = {"deploymentMode": "3p"}
    return (
        Edit.of(support / "Claude" / "claude_desktop_config.json", "json", mode),
        Edit.of(support / "Claude-3p" / "claude_desktop_config.json", "json", mode),
        Edit.of(library / f"{_ID}.json", "json", _gateway(target, surroundings)),
        Edit.of(library / "_meta.json", "json", _applied(library / "_meta.json", surroundings)),
    )


def _gateway(target: Target, surroundings: Surroundings) -> dict[str, object]:
    key = {} if surroundings.environ.get(KEY_VARIABLE) else {"inferenceGatewayApiKey": NO_KEY}
    return {
        "inferenceProvider": "gateway",
        "inferenceGatewayBaseUrl": target.url,
        "inferenceGatewayAuthScheme": "bearer",
        **key,
        "modelDiscoveryEnabled": False,
        "inferenceModels": _models(target),
        "chatTabEnabled": True,
    }


def _models(target: Target) -> list[Mapping[str, object]]:
    """Every served model, and which one stands for each of its tiers."""
    tiers = {"opus": target.opus, "sonnet": target.sonnet, "haiku": target.haiku}
    defaults = [_entry(model, tier) | {"isFamilyDefault": True} for tier, model in tiers.items()]
    others = [_entry(model, "sonnet") for model in target.models if model not in tiers.values()]
    return [*defaults, *others]


def _entry(model: Model, tier: str) -> dict[str, object]:
    return {"name": model.name, "labelOverride": model.name, "anthropicFamilyTier": tier}


def _applied(path: Path, surroundings: Surroundings) -> dict[str, object]:
    """The library's own list with our entry, which becomes the applied one."""
    listed = lenient_object(surroundings.read(path)).get("entries")
    others = [entry for entry in listed if entry.get("id") != _ID] if isinstance(listed, list) else []
    return {"appliedId": _ID, "entries": [*others, {"id": _ID, "name": PROVIDER}]}


INTEGRATION = Integration(
    name="claude_desktop",
    title="Claude Desktop",
    executable="/Applications/Claude.app/Contents/MacOS/Claude",
    install="brew install --cask claude",
    linux_install=None,
    minimum_context=49_152,
    summary="for good only: its mode for other providers, as one more entry of its library of configurations",
    edits=edits,
)
