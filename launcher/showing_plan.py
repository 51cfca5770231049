"""A launch's plan as text, as JSON and as shell lines, with every secret masked: our key, and the user's own.

The user typed the path of a settings file, or has a variable with one in it: what stands in there comes into the plan,
and is theirs to see and nobody else's, and a plan is what people paste when they ask for help.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..integrations.spec import KEY_VARIABLE, NO_KEY
from .plan import LaunchPlan
from .review import MASK, Change, diff, mask
from .sensitive import may_be_shown, secret_values
from .showing import as_json_text

_HOLDS_A_SECRET = "# holds a secret of yours: "
_SHORTEST_MASKED_KEY = 8  # A key like `omlx` is no secret, and would blot out words.


def plan_text(plan: LaunchPlan) -> str:
    """What `--dry-run` prints."""
    masked = _Masker.of(plan)
    window = "unknown" if plan.context_window is None else f"{plan.context_window:,} tokens"
    sections = [
        f"model    {plan.model} (window {window})",
        f"run      {shlex.join((plan.executable, *masked.arguments()))}",
        *(f"set      {name}={value}" for name, value in sorted(masked.environment().items())),
        *(f"unset    {name}" for name in plan.unset),
        *(f"write    {file.path}\n{_indented(masked(file.text).rstrip())}" for file in plan.files),
        *(f"warning  {masked(warning)}" for warning in plan.warnings),
    ]
    return "\n".join(sections)


def plan_json(plan: LaunchPlan, changes: Sequence[Change] = ()) -> str:
    """What `--dry-run --json` prints; `changes` are what `--persist` would make, secrets masked."""
    masked = _Masker.of(plan)
    return as_json_text(
        {
            "agent": plan.agent,
            "model": plan.model,
            "context_window": plan.context_window,
            "command": [plan.executable, *masked.arguments()],
            "environment": masked.environment(),
            "unset": plan.unset,
            "files": [{"path": str(file.path), "text": masked(file.text)} for file in plan.files],
            "warnings": [masked(warning) for warning in plan.warnings],
            "changes": _shown(changes),
        }
    )


def changes_json(agent: str, changes: Sequence[Change], *, made: bool, **lines: Sequence[str]) -> str:
    """What `omlx wire --json` and `omlx restore --json` print; the diffs as they are shown, secrets masked."""
    return as_json_text({"agent": agent, "changes": _shown(changes), "made": made, **lines})


def _shown(changes: Sequence[Change]) -> list[dict[str, str]]:
    return [{"path": str(change.path), "diff": diff((change,))} for change in changes]


def plan_shell(plan: LaunchPlan, has_key: bool, is_key_in_shell: bool) -> str:
    """Lines for a POSIX shell that wire it as the launch would, and the whole command as a comment.

    What an agent is wired by arguments with is a function of its name. The key isn't printed: it is in the user's
    environment already, or the lines fetch the agent's own, or the server asks for none. What holds another secret of
    the user's is a comment: masked it would be wrong, and in clear it would be out.
    """
    masked = _Masker.of(plan)
    key = plan.environment[KEY_VARIABLE]
    lines = [f"unset {name}" for name in plan.unset]
    for name, value in sorted(masked.environment().items()):
        if plan.environment[name] != key:
            line = f"export {name}={shlex.quote(value)}"
            lines.append(line if value == plan.environment[name] else f"{_HOLDS_A_SECRET}{line}")
    if not has_key:
        lines.append(f"export {KEY_VARIABLE}={NO_KEY}")
    elif not is_key_in_shell:
        lines.append(f'export {KEY_VARIABLE}="$(omlx key show {plan.agent})"')
    lines += [
        f'export {name}="${KEY_VARIABLE}"'
        for name, value in plan.environment.items()
        if value == key and name != KEY_VARIABLE
    ]
    if plan.wiring_arguments:
        shown = masked.arguments()[: len(plan.wiring_arguments)]
        line = f'{plan.executable}() {{ command {shlex.join((plan.executable, *shown))} "$@"; }}'
        lines.append(line if shown == plan.wiring_arguments else f"{_HOLDS_A_SECRET}{line}")
    return "\n".join([*lines, f"# {shlex.join((plan.executable, *masked.arguments()))}"])


@dataclass(frozen=True, slots=True)
class _Masker:
    """Knows every secret of one plan."""

    plan: LaunchPlan
    secrets: tuple[str, ...]

    @classmethod
    def of(cls, plan: LaunchPlan) -> _Masker:
        key = plan.environment[KEY_VARIABLE]
        texts = (*plan.arguments, *plan.environment.values(), *(file.text for file in plan.files))
        found = {secret for text in texts for secret in _secrets_in(text)}
        return cls(plan, (*found, *((key,) if len(key) >= _SHORTEST_MASKED_KEY else ())))

    def __call__(self, text: str) -> str:
        return mask(text, self.secrets)

    def environment(self) -> dict[str, str]:
        return {name: self._named(name, value) for name, value in self.plan.environment.items()}

    def arguments(self) -> tuple[str, ...]:
        """Each by itself, and the one after an option such as `--api-key` too."""
        before = ("", *self.plan.arguments)
        return tuple(
            self(argument) if may_be_shown((name,), argument, is_ours=True) or not name.startswith("-") else MASK
            for name, argument in zip(before, self.plan.arguments, strict=False)
        )

    def _named(self, name: str, value: str) -> str:
        is_secret = value == self.plan.environment[KEY_VARIABLE] or any(secret_values({name: value}, is_ours=True))
        return MASK if is_secret else self(value)


def _secrets_in(text: str) -> Iterator[str]:
    """What stands under a name such as `apiKey` in a text that is JSON."""
    if not text.lstrip().startswith("{"):
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    yield from secret_values(value, is_ours=True)


def _indented(text: str) -> str:
    return "\n".join(f"         {line}" for line in text.splitlines())
