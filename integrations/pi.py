"""Pi (npm `@earendil-works/pi-coding-agent`), checked with 0.87.1.

Pi has no variable for a custom provider, but takes an extension file with `-e`; ours registers every served model.
The key is named, not written: Pi expands `$OMLX_API_KEY`. A model that reasons gets role `developer` and an effort.
"""

from __future__ import annotations

import json

from ._pi_model import model_entry
from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, RunFile, Surroundings, Target, Wiring

_KEY = f"${KEY_VARIABLE}"


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    provider = json.dumps(_provider(target, _KEY), indent=2)
    text = f"export default (pi) => pi.registerProvider({json.dumps(PROVIDER)}, {provider});\n"
    extension = RunFile.of(surroundings.run_directory, "omlx.ts", text)
    return Wiring(
        arguments=("-e", str(extension.path), "--model", f"{PROVIDER}/{target.model.name}", *surroundings.arguments),
        files=(extension,),
    )


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    folder = surroundings.folder("PI_CODING_AGENT_DIR", ".pi/agent")
    provider = {"providers": {PROVIDER: _provider(target, surroundings.key(_KEY))}}
    return (
        Edit.of(folder / "models.json", "jsonc", provider, whole=("providers", PROVIDER)),
        Edit.of(folder / "settings.json", "json", {"defaultProvider": PROVIDER, "defaultModel": target.model.name}),
    )


def _provider(target: Target, key: str) -> dict[str, object]:
    return {
        "baseUrl": target.openai_url,
        "apiKey": key,
        "api": "openai-completions",
        "models": [model_entry(model) for model in target.models],
    }


INTEGRATION = Integration(
    name="pi",
    title="Pi",
    executable="pi",
    install="npm install -g @earendil-works/pi-coding-agent",
    minimum_context=4096,
    summary="an extension file in the omlx home, loaded with `-e`; every served model is listed",
    wire=wire,
    edits=edits,
)
