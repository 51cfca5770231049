"""Every error the server raises on purpose.

    OmlxError
    ├── RequestError            the client can mend it
    │   ├── InvalidRequest      400  a field is wrong; `param` names it
    │   │   └── InputTooLong    400  a text to encode is longer than the model reads
    │   ├── ContextOverflow     400  the prompt is longer than the window
    │   ├── InsufficientMemory  400  it will never fit this machine; waiting does not help
    │   ├── Unauthorized        401
    │   ├── Forbidden           403  (host or origin, or a key without the scope)
    │   ├── NotFound            404
    │   │   └── ModelNotFound   404  names the models there are
    │   ├── RequestTimeout      408  it came too slowly
    │   ├── Conflict            409  it is in use, or there already
    │   ├── BodyTooLarge        413
    │   ├── UnsupportedMedia    415
    │   ├── TooManyAttempts     429  with `retry_after` seconds
    │   └── HeadTooLarge        431
    ├── ServiceError            the client did nothing wrong
    │   ├── Overloaded          503  with `retry_after` seconds
    │   ├── ShuttingDown        503
    │   ├── EngineUnavailable   503  the model's process is down
    │   └── EngineFailure       500  it failed while it answered
    │       └── RequestFailed   500  at what belongs to this request alone; the same again would most likely fail too
    ├── ModelError              a model folder or file cannot be used
    │   ├── UnsupportedModel    names what is not supported
    │   ├── CorruptModel        names the file and what is wrong in it
    │   ├── DownloadFailed      the model hub does not give it, or cannot be reached
    │   └── DownloadCancelled   somebody asked for that; what is there stays
    └── SettingsError           a setting is wrong; names it and its source

A message says the fact and the remedy. Only messages of these classes reach a client; any other
exception is a bug, is logged with its request id, and reaches the client as a plain 500.
"""

from __future__ import annotations

from collections.abc import Sequence

from .printable import printable

_MAX_CHARACTERS = 4000
_MAX_NAME = 100


class OmlxError(Exception):
    """Base of all errors raised on purpose; `str(error)` is fit for a user's eyes."""

    retry_after: int | None = None


class RequestError(OmlxError):
    """Its message is cut where it is long: it may repeat whatever the client sent."""

    status = 400
    code = "invalid_request"
    param: str | None = None

    def __str__(self) -> str:
        message = super().__str__()
        return message if len(message) <= _MAX_CHARACTERS else f"{message[:_MAX_CHARACTERS]}…"


class InvalidRequest(RequestError):
    """`param` is the path of the field in the body, such as `messages.2.content`."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InputTooLong(InvalidRequest):
    """One of the texts to encode has `num_tokens`, more than `max_tokens`."""

    def __init__(self, num_tokens: int, max_tokens: int, param: str) -> None:
        super().__init__(f"input is too long: {num_tokens} tokens > {max_tokens} maximum", param)
        self.num_tokens = num_tokens


class ContextOverflow(RequestError):
    """The prompt has `num_tokens`; with one token of an answer it does not fit `context_window`.

    The wording is Anthropic's: Claude Code, opencode and Pi compact the conversation when they read it.
    """

    code = "context_length_exceeded"
    param = "messages"

    def __init__(self, num_tokens: int, context_window: int) -> None:
        maximum = max(0, context_window - 1)
        super().__init__(f"prompt is too long: {num_tokens} tokens > {maximum} maximum")
        self.num_tokens = num_tokens
        self.context_window = context_window

    @classmethod
    def from_words(cls, message: str) -> ContextOverflow:
        """The error that has this message: from an engine process only that arrives."""
        num_tokens, maximum = (int(word) for word in message.split() if word.isdigit())
        return cls(num_tokens, maximum + 1)


class InsufficientMemory(RequestError):
    """The model, or what the request asks of it, is larger than this machine's memory allows."""

    code = "insufficient_memory"
    param = "model"


class Unauthorized(RequestError):
    status = 401
    code = "invalid_api_key"


class Forbidden(RequestError):
    status = 403
    code = "forbidden"


class NotFound(RequestError):
    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"
    param = "model"

    def __init__(self, model: str, available: Sequence[str]) -> None:
        listed = (
            ", ".join(available)
            if available
            else "none; `omlx pull REPO` downloads one, `omlx import FILE.gguf` takes one over"
        )
        name = repr(model if len(model) <= _MAX_NAME else f"{model[:_MAX_NAME]}…")
        super().__init__(f"model {name} not found. Available models: {listed}")


class RequestTimeout(RequestError):
    status = 408
    code = "request_timeout"


class BodyTooLarge(RequestError):
    status = 413
    code = "request_too_large"


class UnsupportedMedia(RequestError):
    status = 415
    code = "unsupported_media_type"


class Conflict(RequestError):
    status = 409
    code = "conflict"


class TooManyAttempts(RequestError):
    status = 429
    code = "too_many_attempts"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HeadTooLarge(RequestError):
    status = 431
    code = "request_head_too_large"


class ServiceError(OmlxError):
    status = 500
    code = "server_error"


class Overloaded(ServiceError):
    status = 503
    code = "overloaded"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ShuttingDown(ServiceError):
    status = 503
    code = "shutting_down"

    def __init__(self, message: str = "the server is shutting down; try again when it is back") -> None:
        super().__init__(message)


class EngineUnavailable(ServiceError):
    status = 503
    code = "engine_unavailable"


class EngineFailure(ServiceError):
    code = "engine_failure"


class RequestFailed(EngineFailure):
    code = "request_failed"


class ModelError(OmlxError):
    """Its message is one line that steers no terminal: it may repeat whatever the model's files say."""

    def __str__(self) -> str:
        return printable(super().__str__())


class UnsupportedModel(ModelError):
    pass


class CorruptModel(ModelError):
    pass


class DownloadFailed(ModelError):
    pass


class DownloadCancelled(ModelError):
    pass


class SettingsError(OmlxError):
    pass


def from_words(words: str) -> OmlxError:
    """The error that an engine process tells as `CODE: MESSAGE`, with the code of its class."""
    code, _, message = words.partition(": ")
    if code == ContextOverflow.code:
        return ContextOverflow.from_words(message)
    kinds = {kind.code: kind for kind in (InvalidRequest, Overloaded, RequestFailed)}
    return kinds.get(code, EngineFailure)(message)
