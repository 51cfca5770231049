"""OpenClaw (npm `openclaw`, Node 24.16 or newer), checked with 2026.9.6.

It takes its configuration from one file, which may include others: a file of this run includes the user's own and
overrides the models of every role, so that sessions, channels and approvals stay where and as they are. Includes
outside the file's folder must be allowed by a variable. `${…}` is expanded from the environment. Without
`timeoutSeconds` it gives up on a slow prefill. Started without arguments it opens the terminal chat on the local
runtime, which needs no daemon. Where the user's file names a model of Anthropic's it would ask `claude` whether that is
logged in, and a first start of that one writes into the home: so for this run it does not look for that login.
"""

from __future__ import annotations

import json
import posixpath
from types import MappingProxyType

from ._openclaw_layers import defaults_of_the_run, own_file, sent_elsewhere
from ._pi_model import model_entry
from .spec import KEY_VARIABLE, PROVIDER, Edit, Integration, RunFile, Surroundings, Target, Wiring

_CONFIG, _ROOTS = "OPENCLAW_CONFIG_PATH", "OPENCLAW_INCLUDE_ROOTS"
_KEY = f"${{{KEY_VARIABLE}}}"
_TIMEOUT_SECONDS = 3600
_UNASKED = MappingProxyType({"claude-cli": {"auth": "oauth"}})
"""A login is found as an API key, so that one kept to OAuth is not looked for."""


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    environ = surroundings.environ
    own = own_file(surroundings)
    include = {} if surroundings.read(own) is None else {"$include": [str(own)]}
    defaults = defaults_of_the_run(target, surroundings)
    config = {**include, "agents": {"defaults": defaults}, "models": _models(target, _KEY, **_UNASKED)}
    file = RunFile.of(surroundings.run_directory, "openclaw.json", json.dumps(config, indent=2) + "\n")
    roots = ":".join(filter(None, (environ.get(_ROOTS), posixpath.dirname(str(own)))))
    return Wiring(
        surroundings.arguments,
        {_CONFIG: str(file.path), _ROOTS: roots},
        files=(file,),
        warnings=sent_elsewhere(surroundings, defaults),
    )


def overrides(target: Target, surroundings: Surroundings) -> tuple[str, ...]:
    return sent_elsewhere(surroundings, _lasting_defaults(target))


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    config = {
        "agents": {"defaults": _lasting_defaults(target)},
        "models": _models(target, surroundings.key(_KEY)),
    }
    return (Edit.of(own_file(surroundings), "json5", config, whole=("models", "providers", PROVIDER)),)


def _lasting_defaults(target: Target) -> dict[str, object]:
    return {
        "model": {"primary": f"{PROVIDER}/{target.model.name}", "fallbacks": []},
        "utilityModel": f"{PROVIDER}/{target.haiku.name}",
    }


def _models(target: Target, key: str, **others: object) -> dict[str, object]:
    provider = {
        "baseUrl": target.openai_url,
        "apiKey": key,
        "api": "openai-completions",
        "timeoutSeconds": _TIMEOUT_SECONDS,
        "models": [model_entry(model) for model in target.models],
    }
    return {"mode": "merge", "providers": {PROVIDER: provider, **others}}


INTEGRATION = Integration(
    name="openclaw",
    title="OpenClaw",
    executable="openclaw",
    install="npm install -g openclaw",
    minimum_node=(24, 16),
    minimum_context=32_768,
    summary="a configuration file of this run that includes the user's own; every served model is listed",
    wire=wire,
    edits=edits,
    overrides=overrides,
    default_arguments=("tui", "--local"),
)
