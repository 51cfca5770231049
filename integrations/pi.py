"""Pi (npm `@earendil-works/pi-coding-agent`), checked with 0.87.1.

Pi has no variable for a custom provider, but takes an extension file with `-e`; ours registers every served model.
The key is named, not written: Pi expands `$OMLX_API_KEY`. A model that reasons gets role `developer` and an effort.
It compacts when less than 16,384 tokens of the window are left, and keeps the newest 20,000 beside its prompt and a
summary: in a window smaller than 40,960 it would compact on and on, or have nothing that it may give up.
Pi gives up on an answer that is silent for `httpIdleTimeoutMs`, 5 minutes, a setting that an extension may only change
where Pi reads it. Offline it asks for no new versions and lists of models, and fetches no tools and packages by itself.
After an update it would show what is new and note that in settings.json, which it lays out anew: it does so when you
start it yourself.
"""

from __future__ import annotations

import json
from types import MappingProxyType

from ._pi_layers import other_timeouts, overrides, own_folder
from ._pi_model import model_entry
from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, RunFile, Surroundings, Target, Wiring

_KEY = f"${KEY_VARIABLE}"
_IDLE_MILLISECONDS = 3_600_000
_QUIET = MappingProxyType({"PI_OFFLINE": "1", "PI_SKIP_VERSION_CHECK": "1", "PI_TELEMETRY": "0"})
_EXTENSION = """\
import * as host from "@earendil-works/pi-coding-agent";

export default (pi) => {{
  if (host.SettingsManager) {{
    host.SettingsManager.prototype.getHttpIdleTimeoutMs = () => {milliseconds};
    host.SettingsManager.prototype.getLastChangelogVersion = () => host.VERSION;
  }}
  pi.registerProvider({name}, {provider});
}};
"""


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    provider = json.dumps(_provider(target, _KEY), indent=2)
    text = _EXTENSION.format(milliseconds=_IDLE_MILLISECONDS, name=json.dumps(PROVIDER), provider=provider)
    extension = RunFile.of(surroundings.run_directory, "omlx.ts", text)
    return Wiring(
        arguments=("-e", str(extension.path), "--model", f"{PROVIDER}/{target.model.name}", *surroundings.arguments),
        environment=_QUIET,
        files=(extension,),
        warnings=other_timeouts(surroundings),
    )


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    folder = own_folder(surroundings)
    provider = {"providers": {PROVIDER: _provider(target, surroundings.key(_KEY))}}
    chosen = {
        "defaultProvider": PROVIDER,
        "defaultModel": target.model.name,
        "httpIdleTimeoutMs": _IDLE_MILLISECONDS,
        "enableInstallTelemetry": False,
    }
    return (
        Edit.of(folder / "models.json", "jsonc", provider, whole=("providers", PROVIDER)),
        Edit.of(folder / "settings.json", "json", chosen),
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
    minimum_node=(22, 19),
    minimum_context=40_960,
    summary="an extension file in the omlx home, loaded with `-e`; every served model is listed",
    wire=wire,
    edits=edits,
    overrides=overrides,
)
