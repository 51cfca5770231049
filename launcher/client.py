"""The launcher's view of a server: health and models, over HTTP and nothing else.

Any OpenAI-compatible server will do. Of omlx's own the launcher reads, in each entry of `GET /v1/models`, the object
`omlx` with `kind`, `size_bytes`, `is_loaded`, `reasoning`, `vision` and `max_output_tokens`; each may be missing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ..integrations.spec import Model
from .address import is_loopback
from .errors import BadAnswer, ServerDown, ServerError

if TYPE_CHECKING:
    import httpx

LARGEST_OUTPUT_CAP = 32_000
_ERRNO = re.compile(r"^\[Errno \d+\] ")
_KINDS_THAT_WRITE = ("llm", "vlm")

T = TypeVar("T")


class Pulse(msgspec.Struct, frozen=True):
    """How long ago, in seconds, a loaded model's engine last said something, and last brought a token."""

    seconds_since_step: float | None = None
    seconds_since_decode: float | None = None
    waiting_seconds: float = 0.0


class Health(msgspec.Struct, frozen=True):
    """`GET /health`. `loading`, `failed` and `stalled` name models, `reasons` says why those failed, `cache_trouble`
    why a model's prefixes are not kept on disk."""

    status: str
    version: str = ""
    instance_id: str = ""
    loading: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    stalled: tuple[str, ...] = ()
    reasons: dict[str, str] = {}
    cache_trouble: dict[str, str] = {}
    num_running: int = 0
    num_waiting: int = 0
    engines: dict[str, Pulse] = {}

    @property
    def troubles(self) -> tuple[str, ...]:
        """What makes the server "degraded", a sentence each, which begins with the model's name."""
        return (
            *(self._of(name, "failed", "the log says why") for name in self.failed),
            *(self._of(name, "is stuck", "its engine has been silent for a minute") for name in self.stalled),
            *(f"{name} keeps no prefixes on disk: {trouble}" for name, trouble in self.cache_trouble.items()),
        )

    def _of(self, name: str, state: str, otherwise: str) -> str:
        """The server's reason, which may be a sentence about the model, or why it is in that state."""
        reason = self.reasons.get(name) or otherwise
        return reason if reason.startswith(f"{name} ") else f"{name} {state}: {reason}"


class Launch(msgspec.Struct, frozen=True):
    """`/v1/launches` of an omlx server; `state` is loading, ready or failed."""

    id: str
    state: str
    error: str = ""


class _Details(msgspec.Struct, frozen=True):
    kind: str = "llm"
    size_bytes: int | None = None
    is_loaded: bool = False
    reasoning: bool = False
    vision: bool = False
    max_output_tokens: int | None = None
    alias: str | None = None


class _Meta(msgspec.Struct, frozen=True):
    n_ctx: int | None = None
    n_ctx_train: int | None = None


class _ModelObject(msgspec.Struct, frozen=True):
    """One entry of the list; the window under the names that omlx and vLLM, OpenRouter, others and llama.cpp use."""

    id: str
    max_model_len: int | None = None
    context_length: int | None = None
    context_window: int | None = None
    meta: _Meta | None = None
    omlx: _Details = _Details()


class _ModelList(msgspec.Struct, frozen=True):
    data: tuple[_ModelObject, ...]


class ServerClient:
    """Talks to the server at `url`, which has no `/v1`. Closing it is the caller's."""

    def __init__(self, url: str, api_key: str | None = None, timeout: float = 5.0) -> None:
        import httpx

        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        # A proxy from the environment must not stand between this machine and itself.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=not is_loopback(url))
        self.url = url
        self.api_key = api_key

    def use_key(self, api_key: str | None) -> None:
        """Speak with this key from now on; None leaves the one there is."""
        if api_key:
            self._http.headers["authorization"] = f"Bearer {api_key}"
            self.api_key = api_key

    def close(self) -> None:
        self._http.close()

    def health(self) -> Health:
        """Raises ServerDown where nothing answers. A server without `/health` that answers at all counts as up."""
        response = self._get("/health")
        if response.status_code == 404:
            return Health("ok")
        return self._decoded(response, Health)

    def models(self) -> tuple[Model, ...]:
        """The served models, in the server's order. Raises ServerDown, BadAnswer."""
        listed = self._decoded(self._get("/v1/models"), _ModelList).data
        return tuple(_model(entry) for entry in listed if entry.omlx.kind in _KINDS_THAT_WRITE)

    def announce(self, agent: str, model: str, api_key: str) -> Launch | None:
        """Say that `agent` comes with `api_key`; None where the server takes no such word. Raises ServerDown."""
        response = self._request(
            "POST", "/v1/launches", api_key=api_key, body=msgspec.json.encode({"agent": agent, "model": model})
        )
        return self._decoded(response, Launch) if response.status_code == 200 else None

    def launch(self, launch_id: str, api_key: str) -> Launch:
        return self._decoded(self._request("GET", f"/v1/launches/{launch_id}", api_key=api_key), Launch)

    def _get(self, path: str) -> httpx.Response:
        return self._request("GET", path)

    def _request(self, method: str, path: str, *, api_key: str = "", body: bytes | None = None) -> httpx.Response:
        import httpx

        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            return self._http.request(method, path, content=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            reason = _ERRNO.sub("", str(error))
            raise ServerDown(f"nothing answers at {self.url} ({reason})") from error
        except httpx.HTTPError as error:
            raise BadAnswer(f"{self.url}{path} failed: {error or type(error).__name__}") from error

    def _decoded(self, response: httpx.Response, shape: type[T]) -> T:
        if response.status_code != 200:
            raise _refusal(response, str(response.request.url))
        try:
            return msgspec.json.decode(response.content, type=shape)
        except msgspec.DecodeError as error:
            raise BadAnswer(
                f"{response.request.url} is not what an OpenAI-compatible server answers: {error}"
            ) from error


def _refusal(response: httpx.Response, where: str) -> ServerError:
    if response.status_code in (401, 403):
        return BadAnswer(
            f"{where} wants a key (HTTP {response.status_code}); set OMLX_API_KEY to the server's key; "
            "`omlx key new NAME` makes one, on the server's machine"
        )
    said = " ".join(response.text[:200].split())
    if said.startswith("<"):
        said = "a page for a browser, so no OpenAI-compatible server stands there; check the address"
    return BadAnswer(f"{where} answered HTTP {response.status_code}: {said}")


def _model(entry: _ModelObject) -> Model:
    meta = entry.meta or _Meta()
    windows = (entry.max_model_len, entry.context_length, entry.context_window, meta.n_ctx, meta.n_ctx_train)
    window = next((value for value in windows if value), None)
    cap = min(entry.omlx.max_output_tokens or LARGEST_OUTPUT_CAP, LARGEST_OUTPUT_CAP)
    return Model(
        name=entry.id,
        context_window=window,
        # An answer may take a quarter of the window: agents reserve their cap, and compact when the rest is full.
        max_output_tokens=cap if window is None else max(1, min(cap, window // 4)),
        reasoning=entry.omlx.reasoning,
        vision=entry.omlx.vision,
        size_bytes=entry.omlx.size_bytes,
        loaded=entry.omlx.is_loaded,
        alias=entry.omlx.alias,
    )
