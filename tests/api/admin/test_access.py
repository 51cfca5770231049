"""Who gets into the admin API, and who does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from litestar import Litestar

from omlx.server.api.admin.sessions import FailureLimit, Sessions
from omlx.server.errors import TooManyAttempts

from ..serving import serving
from .admin_serving import ADMIN_KEY, INFERENCE_KEY, admin_serving, write_keys

SESSION = "/admin/api/session"
LOGIN = "/admin/api/login"


async def test_every_admin_route_but_the_log_in_asks_for_the_admin_key(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        write_keys(tmp_path, ("admin", "admin", ADMIN_KEY), ("claude", "", INFERENCE_KEY))
        app = admin.server.app
        assert isinstance(app, Litestar)
        routes = [(method, route.path) for route in app.routes for method in getattr(route, "methods", ())]
        asked = [(m, p) for m, p in routes if p.startswith("/admin/api/") and m not in ("OPTIONS", "HEAD")]
        assert len(asked) > 20
        for method, path in asked:
            plain = path.replace("{model_id:path}", "tiny").replace("{name:str}", "claude")
            for headers in ({}, {"authorization": f"Bearer {INFERENCE_KEY}"}, {"x-api-key": ADMIN_KEY}):
                if (method, path) == ("POST", LOGIN):
                    continue
                admin.server.client.cookies.clear()
                answer = await admin.server.client.request(
                    method, plain, headers={**headers, "content-type": "application/json"}
                )
                assert answer.status_code in (401, 429), (method, path, headers, answer.text)


async def test_the_admin_key_opens_nothing_else(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        write_keys(tmp_path, ("admin", "admin", ADMIN_KEY), ("claude", "", INFERENCE_KEY))
        assert (await admin.http.get("/v1/models")).status_code == 401
        assert (await admin.http.get("/admin/api/models")).status_code == 200


async def test_an_admin_key_alone_leaves_the_other_routes_open(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        assert (await admin.server.client.get("/v1/models")).status_code == 200


@pytest.mark.parametrize(
    "path", ["//admin/api/models", "/admin//api/models", "/ADMIN/api/models", "/admin/api/models/"]
)
async def test_no_spelling_of_a_path_passes_the_guard(tmp_path: Path, path: str):
    async with admin_serving(tmp_path) as admin:
        assert (await admin.server.client.get(path)).status_code in (401, 404)


async def test_without_an_admin_key_the_answer_says_how_to_make_one(tmp_path: Path):
    async with serving(tmp_path, "Hi.") as server:
        answer = await server.client.post(LOGIN, json={"key": ""})
    assert answer.status_code == 401
    assert "omlx key admin" in answer.json()["error"]["message"]


async def test_a_session_opens_the_routes_and_its_cookie_is_out_of_a_scripts_reach(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        client = admin.server.client
        logged_in = await client.post(LOGIN, json={"key": ADMIN_KEY})
        flags = logged_in.headers["set-cookie"].lower()
        assert all(flag in flags for flag in ("httponly", "samesite=strict", "path=/admin"))
        assert ADMIN_KEY not in logged_in.text + flags
        assert (await client.get("/admin/api/models")).status_code == 200
        await client.request("DELETE", SESSION, headers={"x-csrf-token": logged_in.json()["csrf"]})
        assert (await client.get("/admin/api/models")).status_code == 401


@pytest.mark.parametrize("token", [None, "", "wrong"])
async def test_a_change_by_cookie_needs_the_sessions_own_token(tmp_path: Path, token: str | None):
    async with admin_serving(tmp_path) as admin:
        client = admin.server.client
        await client.post(LOGIN, json={"key": ADMIN_KEY})
        headers = {} if token is None else {"x-csrf-token": token}
        refused = await client.put("/admin/api/models/tiny", json={"pin": True}, headers=headers)
        assert refused.status_code == 403
        csrf = (await client.get(SESSION)).json()["csrf"]
        done = await client.put("/admin/api/models/tiny", json={"pin": True}, headers={"x-csrf-token": csrf})
        assert done.status_code == 200, done.text


async def test_a_foreign_page_changes_nothing(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        headers = {"origin": "https://evil.example"}
        assert (await admin.http.put("/admin/api/models/tiny", json={}, headers=headers)).status_code == 403


async def test_a_new_admin_key_ends_the_sessions_of_the_old_one(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        client = admin.server.client
        await client.post(LOGIN, json={"key": ADMIN_KEY})
        write_keys(tmp_path, ("admin", "admin", "another-key"))
        assert (await client.get("/admin/api/models")).status_code == 401


async def test_all_sessions_end_at_once(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        client = admin.server.client
        await client.post(LOGIN, json={"key": ADMIN_KEY})
        assert len(await admin.get("sessions")) == 1
        assert (await admin.delete("sessions")).json() == {"num_ended": 1}
        assert (await client.get("/admin/api/models")).status_code == 401


async def test_the_sixth_wrong_key_within_a_minute_has_to_wait_and_the_right_one_has_not(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        client = admin.server.client
        for _ in range(5):
            assert (await client.post(LOGIN, json={"key": "guess"})).status_code == 401
        assert (await client.post(LOGIN, json={"key": ADMIN_KEY})).status_code == 200
        assert (await client.get("/admin/api/models")).status_code == 200
        assert (await admin.http.get("/admin/api/models")).status_code == 200
        by_login = await client.post(LOGIN, json={"key": "guess"})
        by_header = await client.get("/admin/api/models", headers={"authorization": "Bearer guess"})
    for refused in (by_login, by_header):
        assert refused.status_code == 429, "the right key frees nobody else"
        assert 0 < int(refused.headers["retry-after"]) <= 61


async def test_the_right_key_ends_no_other_ones_wait(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        client = admin.server.client
        for _ in range(4):
            assert (await client.post(LOGIN, json={"key": "guess"})).status_code == 401
        assert (await client.post(LOGIN, json={"key": ADMIN_KEY})).status_code == 200
        tried = [(await client.post(LOGIN, json={"key": "guess"})).status_code for _ in range(2)]
    assert tried == [401, 429]


def test_the_limit_lifts_when_the_minute_is_over():
    now = [0.0]
    limit = FailureLimit(lambda: now[0])
    assert [limit.failed() for _ in range(5)] == [False] * 4 + [True]
    with pytest.raises(TooManyAttempts):
        limit.check()
    now[0] = 60.0
    limit.check()


@pytest.mark.parametrize(("step", "count"), [(13 * 3600.0, 1), (11 * 3600.0, 16)])
def test_a_session_ends_when_it_was_idle_or_is_a_week_old(step: float, count: int):
    now = [0.0]
    sessions = Sessions(lambda: now[0], lambda _: True)
    token, _ = sessions.open(b"key", "firefox")
    for _ in range(count - 1):
        now[0] += step
        assert sessions.find(token)
    now[0] += step
    assert sessions.find(token) is None


POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


async def test_every_answer_under_admin_carries_the_strict_policy(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        app = admin.server.app
        assert isinstance(app, Litestar)
        paths = [route.path for route in app.routes if "GET" in getattr(route, "methods", ())]
        paths = [path for path in paths if path.startswith("/admin")]
        pages = [path for path in paths if not path.startswith(("/admin/api/", "/admin/static/", "/admin/parts/"))]
        assert len(pages) > 3
        for path in [*paths, "/admin/models/none-of-this-name", "/admin/api/models/none-of-this-name"]:
            plain = path.replace("{model_id:path}", "tiny").replace("{name:str}", "models").replace("{file:path}", "x")
            answer = await admin.http.get(plain)
            assert answer.headers.get("content-security-policy") == POLICY, (plain, answer.status_code)
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["x-content-type-options"] == "nosniff"
