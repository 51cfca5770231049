"""What a user with a commented home has of each agent: settings that lead elsewhere, and a numbered note in every place
where the format takes one."""

from __future__ import annotations

import re

NOTE = re.compile(r"note \d+")

OPENCODE = """\
// note 1: before everything
{
  // note 2: above a key
  "$schema": "https://opencode.ai/config.json", // note 3: behind it
  /* note 4: before the key */ "model": /* note 5: before the value */ "foreign/x" /* note 6 */, // note 7
  "small_model": "foreign/y", /* note 8,
     over two lines */
  "provider": { // note 9: behind a brace
    // note 10: above an entry
    "foreign": {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": "http://127.0.0.1:9/v1"},
      "models": {"x": {}, /* note 11 */ "y": {}}}, // note 12: behind the last entry
    // note 13: at the end of a mapping
  },
  // note 14: at the end of the document
}
// note 15: after everything
"""
CODEX = """\
# note 1: before everything

# note 2: above a key
model = "gpt-5.5"   # note 3: not this one
  # note 4: indented
model_provider = "foreign" # note 5

# note 6: above a table
[model_providers.foreign] # note 7: a far one
# note 8: the first line of it
name = "far" # note 9
base_url = "http://127.0.0.1:9/v1"
# note 10: the last line of it

# note 11: above the last table
[tui] # note 12
theme = "dark" # note 13
# note 14: after everything
"""
QWEN = """\
// note 1: before everything
{
  // note 2: above a key
  "security": {"auth": /* note 3 */ {"selectedType": "qwen-oauth"}}, // note 4
  "model": { // note 5
    "name": "foreign" // note 6
    // note 7: at the end of a mapping
  }, /* note 8 */ "fastModel": "other",
  "env": {"OPENAI_BASE_URL": "http://127.0.0.1:9"}, // note 9
  /* note 10 */
  "$version": 4 // note 11
  // note 12: at the end of the document
}
// note 13: after everything
"""
OPENCLAW = """\
// note 1: before everything
{ // note 2
  // note 3: above a key
  agents: { defaults: { /* note 4 */ model: {
    primary: "foreign/x", /* note 5 */ fallbacks: ["foreign/y"] },
    subagents: { model: "foreign/x" }, compaction: { model: "foreign/y" } } }, // note 6
  models: { // note 7
    providers: { // note 8
      // note 9: above an entry
      foreign: { baseUrl: "http://127.0.0.1:9/v1", apiKey: "k", api: "openai-completions",
        models: [{id: "x", name: "x"}, /* note 10 */ {id: "y", name: "y"}] }, // note 11
      // note 12: at the end of a mapping
    } },
  // note 13: at the end of the document
}
// note 14: after everything
"""
HERMES = """\
# note 1: before everything

# note 2: above a key
model: # note 3: behind a mapping
  # note 4: the first line of it
  provider: openrouter # note 5
  default: foreign/model   # note 6: not this one
  base_url: http://127.0.0.1:9/v1
  # note 7: the last line of it
# note 8: above the next key
auxiliary: # note 9
  compression: {provider: openrouter, model: x} # note 10

    # note 11: indented otherwise
fallback_model: {provider: openrouter, model: z} # note 12
agent:
  # note 13
  max_turns: 90 # note 14
# note 15: after everything
"""
CLAUDE = """\
{
  "cleanupPeriodDays": 20,   "env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_API_KEY": "a-foreign-key",
    "CLAUDE_CODE_USE_BEDROCK": "1", "CLAUDE_CODE_SUBAGENT_MODEL": "claude-foreign"}
}
"""
"""Its JSON takes no comments."""
PI = """\
// note 1: before everything
{
  // note 2: above a key
  "providers": { // note 3
    // note 4: above an entry
    "foreign": {"baseUrl": "http://127.0.0.1:9/v1", "api": "openai-completions", "apiKey": "k", // note 5
      "models": [{"id": "x"}]}, // note 6
    // note 7: at the end of a mapping
  }, // note 8
}
// note 9: after everything
"""
COPILOT = """\
{
  // note 1: not this one
  "model": "gpt-5.5", // note 2
  "banner": "never" // note 3
  // note 4
}
"""
AIDER = """\
# note 1: before everything

# note 2: above a key
model: gpt-5.5 # note 3: not this one
read: # note 4
  # note 5: above an item
  - CONVENTIONS.md # note 6
  - README.md
# note 7: above the next key
weak-model: other   # note 8

openai-api-base: http://127.0.0.1:9/v1 # note 9
  # note 10: indented, at the end
"""
GOOSE = """\
# note 1: before everything
GOOSE_PROVIDER: openai # note 2: not this one
  # note 3: indented
GOOSE_MODEL: gpt-5.5
extensions: # note 4
  # note 5: the first line of it
  developer: # note 6
    enabled: true # note 7
  # note 8: the last line of it

providers: # note 9
  openai: {enabled: true, model: gpt-5.5, configured: true} # note 10
# note 11: after everything
"""
VIBE = """\
# note 1: before everything

# note 2: above a key
active_model = "devstral" # note 3: not this one
  # note 4: indented
api_timeout = 5.0 # note 5

# note 6: above a table
[[providers]] # note 7: a far one
# note 8: the first line of it
name = "far" # note 9
api_base = "http://127.0.0.1:9/v1"
# note 10: the last line of it

# note 11: above the models
[[models]] # note 12
name = "devstral" # note 13
provider = "far"
alias = "devstral"
# note 14: after everything
"""
CLINE = """\
{
  "version": 1,   "lastUsedProvider": "openai-compatible",
  "providers": {"openai-compatible": {"settings": {"provider": "openai-compatible", "model": "foreign",
    "baseUrl": "http://127.0.0.1:9/v1", "apiKey": "a-foreign-key"}, "updatedAt": "2026-01-01T00:00:00.000Z",
    "tokenSource": "manual"}}
}
"""
"""Its JSON takes no comments."""
COPILOT_PROVIDERS = """\
{
  "providers": [{"name": "foreign",   "type": "openai", "baseUrl": "http://127.0.0.1:9/v1", "apiKey": "k"}],
  "models": [{"id": "x", "provider": "foreign"}]
}
"""
"""Its JSON takes no comments."""
