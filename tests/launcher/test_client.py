"""The server as the launcher sees it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from omlx.integrations.spec import Model
from omlx.launcher.client import Health, ServerClient
from omlx.launcher.errors import BadAnswer, ServerDown

from .fake_server import FakeServer, Reply


@pytest.fixture
def client(server: FakeServer) -> Iterator[ServerClient]:
    made = ServerClient(server.url, "the-key")
    yield made
    made.close()


def test_models_are_read_with_what_omlx_says_about_them(server: FakeServer, client: ServerClient):
    details = {
        "size_bytes": 9,
        "is_loaded": True,
        "reasoning": True,
        "vision": True,
        "max_output_tokens": 1000,
        "alias": "a",
    }
    server.serve_models({"id": "m", "max_model_len": 8192, "omlx": details})
    assert client.models() == (
        Model("m", 8192, 1000, reasoning=True, vision=True, size_bytes=9, loaded=True, alias="a"),
    )
    assert server.requests[-1].headers["authorization"] == "Bearer the-key"


@pytest.mark.parametrize(
    "entry",
    [{"context_length": 4096}, {"context_window": 4096}, {"meta": {"n_ctx_train": 4096}}, {"max_model_len": 4096}],
)
def test_the_window_is_found_under_every_servers_name(
    server: FakeServer, client: ServerClient, entry: dict[str, object]
):
    server.serve_models({"id": "m", **entry})
    assert client.models()[0].context_window == 4096


def test_an_answer_gets_a_quarter_of_the_window_at_most(server: FakeServer, client: ServerClient):
    server.serve_models(
        {"id": "small", "max_model_len": 8192}, {"id": "large", "max_model_len": 1_000_000}, {"id": "x"}
    )
    assert [model.max_output_tokens for model in client.models()] == [2048, 32_000, 32_000]


def test_models_that_write_no_text_are_left_out(server: FakeServer, client: ServerClient):
    server.serve_models({"id": "e", "omlx": {"kind": "embedding"}}, {"id": "m", "omlx": {"kind": "vlm"}})
    assert [model.name for model in client.models()] == ["m"]


def test_health_names_what_loads_and_what_failed(server: FakeServer, client: ServerClient):
    server.answers["/health"] = lambda _: Reply({"status": "loading", "loading": ["m"], "failed": ["n"], "other": 1})
    assert client.health() == Health("loading", loading=("m",), failed=("n",))


def test_a_server_without_health_that_answers_is_up(client: ServerClient):
    assert client.health().status == "ok"


def test_nobody_there_is_told_with_the_address():
    client = ServerClient("http://127.0.0.1:9")
    with pytest.raises(ServerDown, match=r"127\.0\.0\.1:9"):
        client.health()
    client.close()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply({"error": "no"}, 401), "OMLX_API_KEY"),
        (Reply({"error": "no"}, 500), "HTTP 500"),
        (Reply("<html>\n<h1>Not Found</h1></html>", 404), "HTTP 404: a page for a browser.*check the address$"),
        (Reply({"models": []}), "not what an OpenAI-compatible server answers"),
        (Reply({"data": [{"id": 5}]}), "not what an OpenAI-compatible server answers"),
    ],
)
def test_a_wrong_answer_is_told_with_its_place(server: FakeServer, client: ServerClient, reply: Reply, words: str):
    server.answers["/v1/models"] = lambda _: reply
    with pytest.raises(BadAnswer, match=words) as error:
        client.models()
    assert "/v1/models" in str(error.value)


def test_an_address_with_a_path_is_told_as_it_is(server: FakeServer):
    server.answers["/proxy/v1/models"] = lambda _: Reply({"error": "no"}, 500)
    client = ServerClient(f"{server.url}/proxy")
    with pytest.raises(BadAnswer, match=rf"^{server.url}/proxy/v1/models answered HTTP 500"):
        client.models()
    client.close()


def test_a_proxy_is_not_asked_about_this_machine(server: FakeServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    client = ServerClient(server.url)
    assert client.health().status == "ok"
    client.close()
