"""The real agents, each with its own words for the same session: two commands run, then an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from . import own_files
from .harness import Bench
from .talking_server import MODEL

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
PROMPT, PROMPT_AGAIN = "Which word is it?", "And which one now?"
WORDS = ("word-42", "word-43", "word-44", "word-45")
"""What the commands print: none of these stands in a command."""
ANSWERS = ("They are word-42 and word-43.", "Now word-44 and word-45.")


@dataclass(frozen=True, slots=True)
class AgentCase:
    """How one agent is run.

    `tool` is what it calls its shell, `command` the argument that holds the command, alone or in a list where the tool
    `takes_many`, `more` the arguments it also needs, `lingering` what its commands end with. `first` and `again` are
    its command lines; `{prompt}` stands in them. `own_files` are the user's before the run; a key of `environment` is
    set for the launch.
    """

    name: str
    tool: str
    first: tuple[str, ...]
    again: tuple[str, ...]
    path: str = CHAT
    command: str = "command"
    takes_many: bool = False
    more: Mapping[str, object] = field(default_factory=dict)
    lingering: str = ""
    output_cap: str | None = "max_tokens"
    own_files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 240

    def answers(self) -> list[str]:
        """What the model says in the whole session, in order."""
        first, second, third, fourth = (self._call(number) for number in range(40, 44))
        return [
            f"<think>\nA command will tell.\n</think>\n\nI will look.\n{first}",
            second,
            ANSWERS[0],
            f"<think>\nOnce more.\n</think>\n\n{third}",
            fourth,
            ANSWERS[1],
        ]

    def _call(self, number: int) -> str:
        line = f"echo word-$(({number} + 2)){self.lingering}"
        arguments = {self.command: [line] if self.takes_many else line, **self.more}
        return f"<tool_call>\n{json.dumps({'name': self.tool, 'arguments': arguments})}\n</tool_call>"

    def launch(self, arguments: tuple[str, ...], prompt: str) -> list[str]:
        given = [part.replace("{prompt}", prompt) for part in arguments]
        return ["launch", self.name, "--model", MODEL, "--", *given]

    def lay_out(self, bench: Bench) -> None:
        """Write the user's own files into the home."""
        for name, text in self.own_files.items():
            path = bench.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


_DESCRIBED = MappingProxyType({"description": "Print a word"})

CASES = (
    AgentCase(
        name="claude",
        tool="Bash",
        more=_DESCRIBED,
        path=MESSAGES,
        first=("-p", "{prompt}", "--allowedTools", "Bash"),
        again=("-c", "-p", "{prompt}", "--allowedTools", "Bash"),
        own_files={".claude/settings.json": own_files.CLAUDE},
        environment={"CLAUDE_CODE_USE_BEDROCK": "1", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"},
    ),
    AgentCase(
        name="codex",
        tool="exec_command",
        command="cmd",
        path=RESPONSES,
        output_cap=None,
        first=("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "{prompt}"),
        again=(
            "exec",
            "--skip-git-repo-check",
            "--dangerously-bypass-approvals-and-sandbox",
            "resume",
            "--last",
            "{prompt}",
        ),
        own_files={".codex/config.toml": own_files.CODEX},
    ),
    AgentCase(
        name="opencode",
        tool="bash",
        more=_DESCRIBED,
        first=("run", "{prompt}"),
        again=("run", "-c", "{prompt}"),
        own_files={".config/opencode/opencode.jsonc": own_files.OPENCODE},
    ),
    AgentCase(
        name="copilot",
        tool="bash",
        more=_DESCRIBED,
        first=("-p", "{prompt}", "--allow-all-tools"),
        again=("--continue", "-p", "{prompt}", "--allow-all-tools"),
        own_files={".copilot/settings.json": own_files.COPILOT, ".copilot/providers.json": own_files.COPILOT_PROVIDERS},
    ),
    AgentCase(
        name="qwen",
        tool="run_shell_command",
        more={"description": "Print a word", "is_background": False},
        lingering="; sleep 0.3",  # of a command that ends at once Qwen Code 0.24.4 may read nothing: it stops at `exit`
        first=("-p", "{prompt}", "--yolo"),
        again=("-c", "-p", "{prompt}", "--yolo"),
        own_files={".qwen/settings.json": own_files.QWEN},
    ),
    AgentCase(
        name="kilo",
        tool="bash",
        more=_DESCRIBED,
        first=("run", "--auto", "{prompt}"),
        again=("run", "--auto", "-c", "{prompt}"),
        own_files={
            ".config/kilo/kilo.jsonc": own_files.OPENCODE.replace("opencode.ai", "kilo.ai"),
            ".config/kilo/.bash-permission-migrated": "",  # else Kilo itself adds a permission to the file above
        },
    ),
    AgentCase(
        name="pi",
        tool="bash",
        output_cap="max_completion_tokens",
        first=("-p", "{prompt}"),
        again=("-c", "-p", "{prompt}"),
        own_files={".pi/agent/models.json": own_files.PI},
    ),
    AgentCase(
        name="openclaw",
        tool="exec",
        output_cap="max_completion_tokens",
        first=("agent", "--local", "--session-id", "words", "-m", "{prompt}"),
        again=("agent", "--local", "--session-id", "words", "-m", "{prompt}"),
        own_files={".openclaw/openclaw.json": own_files.OPENCLAW},
    ),
    AgentCase(
        name="vibe",
        tool="bash",
        first=("-p", "{prompt}", "--auto-approve"),
        again=("-c", "-p", "{prompt}", "--auto-approve"),
        own_files={".vibe/config.toml": own_files.VIBE},
    ),
    AgentCase(
        name="cline",
        tool="run_commands",
        command="commands",
        takes_many=True,
        first=("{prompt}",),
        again=("{prompt}",),
        own_files={".cline/data/settings/providers.json": own_files.CLINE},
    ),
    AgentCase(
        name="hermes",
        tool="terminal",
        first=("chat", "-Q", "-q", "{prompt}"),
        again=("chat", "-Q", "--continue", "-q", "{prompt}"),
        own_files={".hermes/config.yaml": own_files.HERMES},
    ),
)
