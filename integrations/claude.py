"""Claude Code (npm `@anthropic-ai/claude-code`), checked with 2.1.330.

Inline `--settings` rank above the user's `settings.json`, whose `env` in turn ranks above the shell: so everything that
decides where requests go stands there. The key does not, since arguments are public: `apiKeyHelper` prints it from the
environment, and is asked only while both of Claude Code's own key variables are empty. Sub-agents and workflows have
variables of their own, so they get the main model too. A name that begins with `claude-` loses its window.
"""

from __future__ import annotations

import json

from ._claude_layers import above_file, above_inline, user_settings
from ._options import json_object, lenient_object, object_at, taken_option
from .spec import KEY_VARIABLE, NO_KEY, Edit, Integration, RunFile, Surroundings, Target, Wiring

_HELPER = f"printenv {KEY_VARIABLE}"
_CLOUDS = tuple(
    f"CLAUDE_CODE_USE_{cloud}"
    for cloud in ("ANTHROPIC_AWS", "ANTHROPIC_GOOGLE_CLOUD", "BEDROCK", "FOUNDRY", "GATEWAY", "MANTLE", "VERTEX")
)
_CREDENTIALS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS", "CLAUDE_CODE_OAUTH_TOKEN")
_DETOURS = (
    *("ANTHROPIC_PROFILE", "ANTHROPIC_UNIX_SOCKET", "CLAUDE_CODE_AUTO_MODE_MODEL"),
    *("CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST", "CLAUDE_CODE_SUBAGENT_MODEL_FORCE"),
)
_CLEARED = (*_CLOUDS, *_CREDENTIALS, *_DETOURS)


def wire(target: Target, surroundings: Surroundings) -> Wiring:
    environment = _environment(target)
    # Of two --settings only the last counts, so the user's own are taken in.
    given, arguments = taken_option(surroundings.arguments, "--settings")
    own = json_object(given, surroundings)
    settings = {
        **own,
        "apiKeyHelper": _HELPER,
        "env": {**object_at(own, "env"), **environment, **dict.fromkeys(_CLEARED, "")},
    }
    inline = json.dumps(settings, separators=(",", ":"))
    warnings = above_inline(target, surroundings, (*environment, *_CLEARED))
    if not own:
        return Wiring(("--settings", inline, *arguments), environment, warnings=warnings)
    # What the user keeps in a file of theirs must not become an argument, which everybody can read.
    file = RunFile.of(surroundings.run_directory, "settings.json", inline)
    return Wiring(("--settings", str(file.path), *arguments), environment, files=(file,), warnings=warnings)


def edits(target: Target, surroundings: Surroundings) -> tuple[Edit, ...]:
    path = user_settings(surroundings)
    # What leads elsewhere, there already or in the shell, is emptied; undoing brings it back.
    own = object_at(lenient_object(surroundings.read(path)), "env")
    emptied = {name: "" for name in _CLEARED if name in own or surroundings.environ.get(name)}
    environment = {**_environment(target), **emptied}
    if surroundings.environ.get(KEY_VARIABLE):
        return (Edit.of(path, "json", {"apiKeyHelper": _HELPER, "env": environment}),)
    return (Edit.of(path, "json", {"env": {**environment, "ANTHROPIC_AUTH_TOKEN": NO_KEY}}),)


def overrides(target: Target, surroundings: Surroundings) -> tuple[str, ...]:
    return above_file(target, surroundings, (*_environment(target), *_CLEARED))


def _environment(target: Target) -> dict[str, str]:
    window = {} if target.context_window is None else {"CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(target.context_window)}
    return {
        "ANTHROPIC_BASE_URL": target.url,
        "ANTHROPIC_MODEL": target.model.name,
        "ANTHROPIC_DEFAULT_MODEL": target.model.name,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": target.opus.name,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": target.sonnet.name,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": target.haiku.name,
        "ANTHROPIC_DEFAULT_FABLE_MODEL": target.opus.name,
        "ANTHROPIC_SMALL_FAST_MODEL": target.haiku.name,
        "CLAUDE_CODE_SUBAGENT_MODEL": target.model.name,
        "CLAUDE_CODE_WORKFLOW_SUBAGENT_MODEL": target.model.name,
        **window,
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(target.max_output_tokens),
        "API_TIMEOUT_MS": "3600000",
        "CLAUDE_STREAM_IDLE_TIMEOUT_MS": "1800000",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


INTEGRATION = Integration(
    name="claude",
    title="Claude Code",
    executable="claude",
    install="npm install -g @anthropic-ai/claude-code",
    minimum_node=(22, 0),
    minimum_context=49152,
    summary="environment and inline `--settings`, which rank above the user's own settings.json",
    wire=wire,
    edits=edits,
    overrides=overrides,
    unset=_CLEARED,
    other_places=(".claude/local/claude",),
    user_agents=("claude-cli", "claude-code"),
)
