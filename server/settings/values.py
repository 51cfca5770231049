"""What can be set, and what each setting may hold. The comments of the schema and of the docs are written here."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct, field

from ..parsers import reasoning
from ..parsers.selection import TOOL_FORMATS
from ..requests import SamplingParams

FILE_VERSION = 1

_GIB = 1 << 30
_END = r"(?!\n)$"
"""Of a text: in Python `$` alone stands before a last newline, too, and the schema's readers know no `\\Z`."""
_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{unit}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for unit, base in (("B", 1000), ("iB", 1024))
}


def _one_of(names: list[str]) -> str:
    return f"^({'|'.join(sorted(names))}){_END}"


Size: TypeAlias = (
    Annotated[int, Meta(ge=0, le=1 << 62)]
    | Annotated[str, Meta(pattern=rf"^[0-9]{{1,12}}(\.[0-9]+)? ?([KMGT]i?)?B{_END}", examples=["50GB"])]
)
"""Bytes: a number, or a text such as "50GB" or "1.5 GiB"."""

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200, pattern=rf"^[^\s\x00-\x1f](.*[^\s])?{_END}")]
Text: TypeAlias = Annotated[str, Meta(min_length=1)]
Tokens: TypeAlias = Annotated[int, Meta(ge=1, le=1 << 30)]
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=10**9)]
ToolParser: TypeAlias = Annotated[str, Meta(pattern=_one_of([each.name for each in TOOL_FORMATS]))]
ReasoningParser: TypeAlias = Annotated[
    str, Meta(pattern=_one_of([each.name for each in (*reasoning.ANNOUNCED, reasoning.NONE)]))
]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


def size_in_bytes(size: int | str) -> int:
    """The bytes of a valid `Size`."""
    if isinstance(size, int):
        return size
    number = size.rstrip("BiKMGT ")
    return int(float(number) * _UNITS[size[len(number) :].strip()])


class ServerSettings(Struct, frozen=True, kw_only=True):
    host: Annotated[Text, Meta(description="Address to listen on; others than loopback need a key")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port; 0 picks a free one")] = 8000
    model_dirs: Annotated[tuple[Text, ...], Meta(description="Folders with models; none means `~/.omlx/models`")] = ()
    max_body_bytes: Annotated[Size, Meta(description="The largest request body")] = 64 << 20
    heartbeat_seconds: Annotated[Seconds, Meta(description="Seconds for which a stream may be silent")] = 9.0
    shutdown_grace_seconds: Annotated[
        float,
        Meta(ge=0, le=10**9, description="Seconds for which open requests may go on after the server was told to stop"),
    ] = 25.0


class CacheSettings(Struct, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="Whether prompt prefixes are kept between requests")] = True
    folder: Annotated[
        Text | None,
        Meta(description="Folder where prompt prefixes outlive the server; none means `~/.omlx/cache`"),
    ] = None
    ram_bytes: Annotated[
        Size | None,
        Meta(description="Memory for prompt prefixes, each model; none means a quarter of what the weights leave"),
    ] = None
    ssd_bytes: Annotated[
        Size,
        Meta(
            description="Disk for prompt prefixes, all models together, and never more than a tenth of what would be "
            "free without them; 0 keeps them off the disk"
        ),
    ] = 50 * _GIB
    ssd_bytes_per_day: Annotated[
        Size,
        Meta(description="Prompt prefixes written to the disk in a day, all models together, since disks wear out"),
    ] = 100 * _GIB


class EngineSettings(Struct, frozen=True, kw_only=True):
    max_num_seqs: Annotated[int, Meta(ge=1, le=4096, description="Requests a model answers at once")] = 16
    max_num_waiting: Annotated[
        int, Meta(ge=0, le=1 << 20, description="Requests that may wait; more are refused with 503")
    ] = 256
    stall_seconds: Annotated[
        Seconds, Meta(description="Seconds of silence after which an engine is killed and started again")
    ] = 300.0


class ModelSettings(Struct, frozen=True, kw_only=True):
    """One model's settings; `None` leaves the matter to the model."""

    alias: Annotated[Name | None, Meta(description="Another name that requests may use")] = None
    max_context_window: Annotated[
        Tokens | None,
        Meta(description="Tokens of prompt and answer together; none means what the model declares and memory holds"),
    ] = None
    max_tokens: Annotated[
        Tokens | None, Meta(description="Length of an answer where the request names none; none means what fits")
    ] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=100)] | None,
        Meta(description="For requests that name none, as the six below; none means what the model's maker says"),
    ] = None
    top_p: Annotated[Share | None, Meta(description="Likeliest tokens kept, by their sum")] = None
    top_k: Annotated[
        Annotated[int, Meta(ge=0, le=1 << 30)] | None, Meta(description="Likeliest tokens kept; 0 keeps all")
    ] = None
    min_p: Annotated[Share | None, Meta(description="Tokens kept, against the likeliest")] = None
    repetition_penalty: Annotated[
        Annotated[float, Meta(gt=0, le=100)] | None, Meta(description="Above 1 discourages what was written before")
    ] = None
    presence_penalty: Annotated[Penalty | None, Meta(description="Against tokens that were used")] = None
    frequency_penalty: Annotated[Penalty | None, Meta(description="Against tokens, the more they were used")] = None
    reasoning_parser: Annotated[
        ReasoningParser | None, Meta(description="How the model marks its thinking; none means as its template shows")
    ] = None
    tool_parser: Annotated[
        ToolParser | None, Meta(description="How the model writes tool calls; none means as its template shows")
    ] = None
    thinking: Annotated[bool | None, Meta(description="Whether the model thinks where the request does not say")] = None
    thinking_budget: Annotated[
        Tokens | None, Meta(description="Tokens of thinking where the request does not say; then it is closed")
    ] = None
    mtp: Annotated[
        bool, Meta(description="Whether its MTP layer drafts, where it has one; answers are the same either way")
    ] = True
    draft_model: Annotated[
        Name | None,
        Meta(description="Smaller model with the same tokens that drafts, from the next time this one is loaded"),
    ] = None
    pin: Annotated[bool, Meta(description="Never unloaded to make room, nor for being idle")] = False
    ttl_seconds: Annotated[
        Seconds | None, Meta(description="Seconds without a request after which it is unloaded; none means never")
    ] = None
    preload: Annotated[bool, Meta(description="Loaded when the server starts")] = False

    def window(self, declared: int) -> int:
        """The window in force. One above the `declared` is followed: rope scaling may allow it."""
        return self.max_context_window or declared

    @property
    def sampling(self) -> SamplingParams:
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
        )


class Settings(Struct, frozen=True, kw_only=True):
    """The file settings.json."""

    version: Annotated[int, Meta(ge=1, description="Of the file's format")] = FILE_VERSION
    server: ServerSettings = ServerSettings()
    cache: CacheSettings = CacheSettings()
    engine: EngineSettings = EngineSettings()
    models: dict[str, ModelSettings] = field(default_factory=dict)
