"""What a client asked for, in the words every dialect shares.

The dialects decode their bodies into these values, the pipeline reads nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
"""A parsed JSON value: tool schemas and tool arguments are the client's own."""


class Role(StrEnum):
    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The model's own thinking, sent back by the client."""

    text: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model made. `arguments` is the text the client holds, valid JSON or not."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolReference:
    """Names a deferred tool whose definition is rendered where this part stands."""

    name: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    call_id: str
    parts: tuple[Text | Image | ToolReference, ...]
    name: str = ""
    is_error: bool = False


Part: TypeAlias = Text | Image | Reasoning | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text parts joined by newlines, other parts left out."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    name: str
    description: str
    parameters: dict[str, Json]
    deferred: bool = False
    """Deferred tools stay out of the prompt until a `ToolReference` names them."""


class ToolMode(StrEnum):
    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    mode: ToolMode = ToolMode.AUTO
    name: str = ""
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn. `None` means unset: the layer below decides.

    `temperature` 0 is greedy. `top_k` 0 and `top_p` 1 keep every token. `seed` makes the draws of one
    sequence reproducible, alone and inside any batch.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] | None = None

    def over(self, defaults: SamplingParams) -> SamplingParams:
        """These values, with what is unset taken from `defaults`."""
        unset = {f.name: getattr(defaults, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **unset)


@dataclass(frozen=True, slots=True)
class ReasoningOptions:
    """Whether and how much the model may think; `None` leaves it to the model's default."""

    enabled: bool | None = None
    effort: str | None = None
    budget_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class JsonObject:
    """The answer is any JSON object."""

    param: str = field(default="", compare=False)
    """Here and below: the field of the body that asks for this format."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The answer is JSON that `schema` allows."""

    schema: dict[str, Json]
    param: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Regex:
    pattern: str
    param: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer is one of the texts."""

    options: tuple[str, ...]
    param: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Grammar:
    """The answer is a sentence of the grammar, written in Lark or in GBNF."""

    text: str
    param: str = field(default="", compare=False)


OutputFormat: TypeAlias = JsonObject | JsonSchema | Regex | Choice | Grammar


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer asked of one model.

    `max_tokens` is what the client wants, clamped later to what the window leaves. `stop` are text stop
    sequences. `session` groups the turns of one conversation where the client says so.
    """

    request_id: str
    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    sampling: SamplingParams = SamplingParams()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    reasoning: ReasoningOptions = ReasoningOptions()
    session: str = ""
    template_options: dict[str, Json] = field(default_factory=dict)
    """The client's `chat_template_kwargs`."""
    output_format: OutputFormat | None = None
    """What the answer's text must look like; `None` is free text."""
    num_answers: int = 1
    """So many answers to each prompt; each draws its own random numbers."""
    logprobs: int | None = None
    """The log probabilities of the answer's tokens, with so many of the likeliest beside each; `None` for none."""
    prompt_logprobs: bool = False
    """Those of the prompt's tokens too, where there are any."""
    prompt: str | tuple[int, ...] | None = None
    """A text or token ids to continue as they stand, with no template; `messages` is empty then."""
    more_prompts: tuple[str | tuple[int, ...], ...] = ()
    """Others of the kind, continued likewise: the answers to each come after those to the one before."""
    caller: str = ""
    """A digest of the key the request came with; empty where it came with none."""
    cache_salt: str = ""
    """Nothing that is remembered is shared with requests that have another one: the namespace of the key."""
    num_bytes: int = 0
    """Of the body it came in."""


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A vector wanted of each input, a text or token ids; `dimensions` keeps so many of its first numbers."""

    request_id: str
    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """How well each document answers the query."""

    request_id: str
    model: str
    query: str
    documents: tuple[str, ...]
    instruction: str = ""
    """What "answers" means, for models that can be told."""
