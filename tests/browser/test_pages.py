"""The admin pages in a real Chromium: they work, and everybody can use them."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from omlx.server.api.admin.pages import MENU
from omlx.server.api.admin.translations import words_of
from omlx.server.state_file import published

from ..api.admin.admin_serving import ADMIN_KEY, Admin, admin_serving, state_of
from ..api.serving import MODEL
from ..e2e.install_agents import find_node
from .install import CACHE, browser, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
PAGES = ["/admin", *(f"/admin/{name}" for name in MENU if name), f"/admin/models/{MODEL}"]
LONGEST_WORDS = ["fr", "ru"]
_SECONDS = 240


async def drive(admin: Admin, scenario: str) -> dict[str, Any]:
    """Run the scenario of driving.mjs on this server; what it saw, which is nothing to complain of."""
    given = {
        "url": str(admin.http.base_url).rstrip("/"),
        "key": ADMIN_KEY,
        "chromium": browser(),
        "modules": str(CACHE),
        "pages": PAGES,
        "languages": LONGEST_WORDS,
    }
    node = await asyncio.create_subprocess_exec(
        *(str(find_node().program), str(Path(__file__).parent / "driving.mjs"), scenario, json.dumps(given)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_SECONDS):
        output, errors = await node.communicate()
    assert node.returncode == 0, errors.decode()
    seen = json.loads(output)
    assert seen["complaints"] == []
    assert seen["foreign"] == [], "the pages ask no other server for anything"
    return seen


async def test_axe_finds_no_violation_on_any_page_in_either_theme(tmp_path: Path):
    async with admin_serving(tmp_path, "Hello there.") as admin:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        await admin.http.post("/v1/chat/completions", json=body)
        seen = await drive(admin, "accessible")
    assert seen["looked"] == 2 * (len(PAGES) + 1)
    assert seen["violations"] == []


async def test_the_policy_of_every_page_lets_in_nothing_from_elsewhere_and_nothing_written_into_it(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        seen = await drive(admin, "policy")
    blocked = ["connect-src", "frame-src", "img-src", "script-src-elem", "style-src-elem"]
    assert seen["blocked"] == dict.fromkeys(["/admin/login", *PAGES], blocked)


async def test_no_page_is_wider_than_a_small_screen_in_the_languages_of_the_longest_words(tmp_path: Path):
    async with admin_serving(tmp_path, "Hello there.") as admin:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        await admin.http.post("/v1/chat/completions", json=body)
        seen = await drive(admin, "narrow")
    assert seen["looked"] == len(PAGES) * len(LONGEST_WORDS)
    assert seen["overflows"] == []


async def test_somebody_logs_in_changes_a_models_settings_and_logs_out(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        seen = await drive(admin, "settings")
        settings = (await admin.get(f"models/{MODEL}"))["settings"]
    assert seen["sentTo"].endswith("/admin/login")
    assert "that is not the admin key" in seen["refusal"]
    assert "top_p is 7" in seen["wrong"]
    assert (settings["max_context_window"], settings["alias"], settings["pin"]) == (2048, "coder", True)
    assert settings["top_p"] is None
    assert "coder" in seen["listed"]
    assert "2,048" in seen["listed"]
    assert seen["afterwards"].endswith("/admin/login")


async def test_the_probes_and_the_ramp_run_from_the_page_as_table_and_plot(tmp_path: Path):
    async with admin_serving(tmp_path, "391", context_window=65536) as admin:
        with published(tmp_path / "run" / "server.json", state_of(admin)):
            seen = await drive(admin, "checks")
    assert (seen["probes"], seen["rows"]) == (7, 8)
    assert seen["violations"] == []


async def test_the_log_is_followed_and_filtered(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="omlx.test")
    async with admin_serving(tmp_path) as admin:
        await admin.get("logs")  # it is kept from the first answer on
        for number in range(60):
            logging.getLogger("omlx.test").info("line %d", number)
        logging.getLogger("omlx.test").error("something broke")
        seen = await drive(admin, "logs")
    assert seen["followed"] <= 1
    assert seen["stayed"] == 0
    assert "something broke" in seen["errors"]


async def test_somebody_talks_to_a_model_and_sees_it_on_the_status_page(tmp_path: Path):
    async with admin_serving(tmp_path, "Good day to you.", "Once more.") as admin:
        seen = await drive(admin, "chat")
    assert seen["talk"] == ["Hello?", "Good day to you.", "And again?", "Once more."]
    assert "chat" in seen["status"]
    assert seen["charts"] == 3
    assert [len(set(times)) for times in seen["times"]] == [len(times) for times in seen["times"]]


async def test_a_refused_question_is_given_back_and_what_a_model_thinks_is_folded(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        seen = await drive(admin, "troubles")
    assert seen["notice"].endswith('<span lang="en">no room now</span>')
    assert seen["notice"].startswith(words_of("fr")("That did not work."))
    assert seen["left"] == [0, "Hi"]
    assert seen["thought"] == [0, "They greet me."]
    question = {"role": "user", "content": "Hi"}
    answered = [question, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "And?"}]
    assert seen["asked"] == [[question], [question], answered]


async def test_a_line_is_copied_with_a_clipboard_and_without_one(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        seen = await drive(admin, "copying")
    assert seen["copied"] == ["omlx launch aider"] * 2


async def test_the_tab_key_reaches_everything_in_the_order_of_the_page(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        seen = await drive(admin, "keyboard")
    assert seen["looked"] > 100
    assert seen["missed"] == {}
    assert seen["skippedTo"] == "main"


async def test_the_choices_of_language_and_colours_are_whole_in_the_languages_of_the_longest_words(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        seen = await drive(admin, "selects")
    assert seen["looked"] == 3 * len(LONGEST_WORDS)
    assert seen["clipped"] == []
