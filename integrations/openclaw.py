"""OpenClaw (npm `openclaw`, Node 24.16 or newer), checked with 2026.9.6.

It takes its configuration from one file, which may include others: a file of this run includes the user's own and
overrides the model, so that sessions, channels and approvals stay where and as they are. Includes outside the file's
folder must be allowed by a variable. `${…}` is expanded from the environment. Without `timeoutSeconds` it gives up on a
slow prefill. Started without arguments it opens the terminal chat on the local runtime, which needs no daemon.
"""

from __future__ import annotations

import json
import posixpath
from pathlib import Path

from ._options import lenient_object, object_at
from ._pi_model import model_entry
from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, RunFile, Surroundings, Target, Wiring

_CONFIG, _ROOTS = "OPENCLAW_CONFIG_PATH", "OPENCLAW_INCLUDE_ROOTS"
_KEY = f"${{{KEY_VARIABLE}}}"
_TIMEOUT_SECONDS = 3600


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    environ = surroundings.environ
    own = _own_file(surroundings)
    include = {} if surroundings.read(own) is None else {"$include": [str(own)]}
    text = json.dumps({**include, **_config(target, _KEY)}, indent=2) + "\n"
    file = RunFile.of(surroundings.run_directory, "openclaw.json", text)
    roots = ":".join(filter(None, (environ.get(_ROOTS), posixpath.dirname(str(own)))))
    return Wiring(
        surroundings.arguments,
        {_CONFIG: str(file.path), _ROOTS: roots},
        files=(file,),
        warnings=_elsewhere(surroundings, own),
    )


def overrides(_: Target, surroundings: Surroundings) -> tuple[str, ...]:
    return _elsewhere(surroundings, _own_file(surroundings))


def _elsewhere(surroundings: Surroundings, own: Path) -> tuple[str, ...]:
    """The user's agents with a model of their own, which ranks above the default model."""
    agents = object_at(lenient_object(surroundings.read(own)), "agents")
    listed = agents.get("list")
    named = {f"entries.{name}": object_at(object_at(agents, "entries"), name) for name in object_at(agents, "entries")}
    named |= {f"list[{index}]": agent for index, agent in enumerate(listed if isinstance(listed, list) else ())}
    named["defaults"] = {"utilityModel": object_at(agents, "defaults").get("utilityModel")}
    found: list[str] = []
    for place, agent in named.items():
        for key in ("model", "utilityModel"):
            chosen = agent.get(key) if isinstance(agent, dict) else None
            model = chosen.get("primary") if isinstance(chosen, dict) else chosen
            if isinstance(model, str) and model and not model.startswith(f"{PROVIDER}/"):
                found.append(f"{own} sets agents.{place}.{key} to {model}, so that goes there and not to omlx")
    return tuple(found)


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    config = _config(target, surroundings.key(_KEY))
    return (Edit.of(_own_file(surroundings), "json5", config, whole=("models", "providers", PROVIDER)),)


def _own_file(surroundings: Surroundings) -> Path:
    return surroundings.folder(_CONFIG, str(surroundings.folder("OPENCLAW_STATE_DIR", ".openclaw") / "openclaw.json"))


def _config(target: Target, key: str) -> dict[str, object]:
    provider = {
        "baseUrl": target.openai_url,
        "apiKey": key,
        "api": "openai-completions",
        "timeoutSeconds": _TIMEOUT_SECONDS,
        "models": [model_entry(model) for model in target.models],
    }
    defaults = {"model": {"primary": f"{PROVIDER}/{target.model.name}", "fallbacks": []}}
    return {"agents": {"defaults": defaults}, "models": {"mode": "merge", "providers": {PROVIDER: provider}}}


INTEGRATION = Integration(
    name="openclaw",
    title="OpenClaw",
    executable="openclaw",
    install="npm install -g openclaw",
    minimum_context=32_768,
    summary="a configuration file of this run that includes the user's own; every served model is listed",
    wire=wire,
    edits=edits,
    overrides=overrides,
    default_arguments=("tui", "--local"),
)
