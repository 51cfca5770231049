"""The pages: for a session alone, in nine languages, and whole without any other server."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from omlx.server.api.admin.checks import CheckState
from omlx.server.api.admin.downloads import DownloadState
from omlx.server.api.admin.pages import MENU
from omlx.server.api.admin.rendering import LABELLED, PERCENT, RATE, UNITS, asset, duration, size
from omlx.server.api.admin.translations import LANGUAGES, forms_of, language_for, words_of
from omlx.server.engine.record import ABORT, CLIENT_LEFT, Phase
from omlx.server.events import FinishReason
from omlx.server.settings.keys import keys, model_keys
from omlx.server.settings.layers import Layer

from ..serving import MODEL
from .admin_serving import ADMIN_KEY, admin_serving, log_in
from .raw_text import RawText, written_by

TEMPLATES = Path(str(files("omlx.templates").joinpath("admin")))
PAGES = ["", *(f"/{name}" for name in MENU if name), f"/models/{MODEL}"]
STATES = ("unloaded", "loading", "loaded", "failed")
VERDICTS = ("ok", "wrong", "broken")
_WORDS = re.compile(r"\b(?:_|n)\((['\"])(.*?)\1")


def words_used() -> set[str]:
    """Every text that a template or the code around it asks a translation of."""
    written = {match[2] for path in TEMPLATES.rglob("*.jinja") for match in _WORDS.finditer(path.read_text())}
    families: Iterator[str] = (each for kind in (Phase, CheckState, DownloadState, Layer) for each in kind)
    settings = {key.description for key in (*keys(), *model_keys(MODEL))}
    told = {*FinishReason, ABORT, "error", CLIENT_LEFT, *UNITS, "ms", "s", PERCENT, RATE, LABELLED}
    return (
        written | settings | set(MENU.values()) | {*families} | told | {*STATES, *VERDICTS, "System", "Light", "Dark"}
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_string_is_there_in_every_language_and_no_other(language: str):
    assert set(words_of(language).catalog) == words_used()


@pytest.mark.parametrize("template", sorted(TEMPLATES.rglob("*.jinja")), ids=lambda path: path.name)
def test_a_template_shows_no_words_but_those_of_the_catalogs(template: Path):
    assert RawText(template.read_text()).found == []


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("<p>Hello</p>", ["Hello"]),
        ("<p>{{ _('Memory') }}: {{ size(x) }}</p>", [":"]),
        ("<p>{{ 'all right' if x else _('Memory') }}</p>", ["all right"]),
        ("<p>{{ number(x) + ' %' }}</p>", [" %"]),
        ("<p aria-label=\"Pages\">{{ n('{n} files', 3) }}</p>", ["Pages"]),
        ("<p>{{ one.error }}</p>", [" one.error "]),
        ('<p lang="en"><b>{{ one.error }}</b></p><p>{{ _("Memory") }} · <code>omlx key admin</code></p>', []),
    ],
)
def test_words_outside_the_catalogs_are_seen(template: str, found: list[str]):
    assert RawText(template).found == found


def test_a_script_shows_no_words_of_its_own():
    own = [path for path in (TEMPLATES / "static").glob("*.js") if ".min." not in path.name]
    assert len(own) >= 5
    assert [text for path in own for text in written_by(path.read_text())] == []
    assert written_by('box.textContent = "Hello"; tell(`broken`, true)') == ["Hello", "broken"]


async def test_how_a_request_ended_and_what_was_refused_read_in_ones_language(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        client = await log_in(admin)
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        await client.post("/v1/chat/completions", json=body)
        refused = await client.post(
            "/v1/chat/completions", json={**body, "messages": [{**body["messages"][0], "content": "hi " * 9000}]}
        )
        french = {"accept-language": "fr"}
        status = (await client.get("/admin/parts/status", headers=french)).text
        problem = (await client.get("/admin/models/nothing", headers=french)).text
    assert refused.status_code == 400
    assert '<span class="tag stop">terminée</span>' in status
    assert '<span class="tag error">erreur</span> <code>context_length_exceeded</code>' in status
    assert f'{words_of("fr")("That did not work.")} <span lang="en">model' in problem


def test_units_and_signs_are_the_languages():
    assert size(words_of("fr"), 1.5e9) == "1,5\u00a0Go"
    assert duration(words_of("ru"), 0.003) == "3\u00a0\u043c\u0441"
    assert words_of("zh-Hans").filled(LABELLED, label="今天", value=3) == "今天\uff1a3"
    assert words_of("es").filled(PERCENT, value="12,0") == "12,0\u00a0%"


async def test_every_form_that_a_script_sends_would_put_nothing_into_an_address_without_it(tmp_path: Path):
    forms: list[str] = []
    async with admin_serving(tmp_path) as admin:
        forms += re.findall(r"<form[^>]*>", (await admin.server.client.get("/admin/login")).text)
        client = await log_in(admin)
        for page in PAGES:
            forms += re.findall(r"<form[^>]*>", (await client.get(f"/admin{page}")).text)
    assert len(forms) >= 6
    assert [form for form in forms if 'method="post"' not in form and 'id="filter"' not in form] == []


async def test_agents_wired_for_good_stand_apart(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        page = (await (await log_in(admin)).get("/admin/agents")).text
    launched, wired = page.split('<section id="wired">')
    assert "omlx launch claude" in launched
    assert "omlx wire" not in launched
    assert "omlx wire crush" in wired
    assert "omlx launch" not in wired


async def test_the_models_page_says_which_model_drafts(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        (entry,) = admin.server.pool.entries
        admin.server.pool.replace_entries([entry, replace(entry, id="small")])
        await admin.put(f"models/{MODEL}", {"draft_model": "small"})
        page = (await (await log_in(admin)).get("/admin/models")).text
    assert "Drafted by: small" in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_plurals_have_the_forms_of_their_language_and_keep_the_number(language: str):
    plurals = {text: forms for text, forms in words_of(language).catalog.items() if isinstance(forms, dict)}
    assert {text for text in words_used() if "{n}" in text} == set(plurals)
    assert {tuple(sorted(forms)) for forms in plurals.values()} == {forms_of(language)}
    assert all("{n}" in form for forms in plurals.values() for form in forms.values())


def test_russian_tells_three_forms_apart():
    words = words_of("ru")
    counted = [words.count("{n} files", n) for n in (1, 2, 5, 11, 21, 22, 112, 1000)]
    assert [text.rpartition(" ")[2] for text in counted] == [
        *("файл", "файла", "файлов", "файлов", "файл", "файла", "файлов", "файлов")
    ]
    assert counted[-1] == "1\u202f000 файлов"


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        ("", "de,fr;q=0.8,en;q=0.5", "fr"),
        ("", "pt-PT", "pt-BR"),
        ("", "zh-TW,zh;q=0.9", "zh-Hant"),
        ("", "zh-CN", "zh-Hans"),
        ("", "de", "en"),
        ("ja", "fr", "ja"),
        ("../../x", "", "en"),
    ],
)
def test_the_language_is_the_one_chosen_else_the_browsers(chosen: str, accepted: str, language: str):
    assert language_for(chosen, accepted) == language


async def test_every_kind_of_text_names_its_charset_once(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        client = admin.server.client
        style = f"/admin/static/{asset('admin.css').digest}/admin.css"
        types = [
            (await client.get(path)).headers["content-type"] for path in ("/admin", "/admin/login", style, "/metrics")
        ]
    assert types == [
        "text/html; charset=utf-8",
        "text/html; charset=utf-8",
        "text/css; charset=utf-8",
        "text/plain; version=0.0.4; charset=utf-8",
    ]


async def test_a_stranger_is_sent_to_the_log_in_from_every_page(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        for page in PAGES:
            answer = await admin.server.client.get(f"/admin{page}")
            assert (answer.status_code, answer.headers["location"], answer.content) == (303, "/admin/login", b""), page
        part = await admin.server.client.get("/admin/parts/status")
    assert (part.content, part.headers["hx-redirect"]) == (b"", "/admin/login")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_page_shows_itself_in_every_language(tmp_path: Path, language: str):
    async with admin_serving(tmp_path) as admin:
        client = await log_in(admin)
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        await client.post("/v1/chat/completions", json=body)
        for page in (*PAGES, "/parts/status", "/parts/models", "/parts/checks", "/parts/logs"):
            answer = await client.get(f"/admin{page}", headers={"accept-language": language})
            assert answer.status_code == 200, page
            if "parts" not in page:
                assert f'<html lang="{language}"' in answer.text
                assert words_of(language)("Log out") in answer.text
            assert ADMIN_KEY not in answer.text


@pytest.mark.parametrize("language", LANGUAGES)
async def test_what_a_setting_means_is_told_in_every_language(tmp_path: Path, language: str):
    words = words_of(language)
    async with admin_serving(tmp_path) as admin:
        client = await log_in(admin)
        for page, shown in (("settings", keys()), (f"models/{MODEL}", model_keys(MODEL))):
            answer = await client.get(f"/admin/{page}", headers={"accept-language": language})
            text = html.unescape(answer.text)
            told = text.replace("<code>", "`").replace("</code>", "`")
            assert [key.name for key in shown if words(key.description) not in told] == []


async def test_a_page_asks_nothing_of_another_server_and_runs_no_script_of_its_own_text(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        client = await log_in(admin)
        for page in PAGES:
            text = (await client.get(f"/admin{page}")).text
            for attribute in re.findall(r'\b(?:src|href|action|hx-get)="([^"]*)"', text):
                assert attribute.startswith(("/admin", "#")), (page, attribute)
            assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=", text), page
            for source in set(re.findall(r'"(/admin/static/[^"]*)"', text)):
                found = await client.get(source)
                assert found.status_code == 200
                assert "immutable" in found.headers["cache-control"]


async def test_what_comes_from_outside_is_text_and_no_markup(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        client = await log_in(admin)
        await admin.put(f"models/{MODEL}", {"alias": "<img src=x>"})
        page = (await client.get("/admin/models")).text
    assert "<img src=x>" not in page
    assert "&lt;img src=x&gt;" in page


async def test_an_empty_field_shows_what_holds_without_it(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        (tmp_path / "models" / MODEL / "generation_config.json").write_text('{"temperature": 0.6, "top_k": 20}')
        await admin.put(f"models/{MODEL}", {"top_k": 5})
        page = (await (await log_in(admin)).get(f"/admin/models/{MODEL}")).text
    shown = {
        name: (value, placeholder)
        for name, value, placeholder in re.findall(r'name="(\w+)"[^>]* value="([^"]*)" placeholder="([^"]*)"', page)
    }
    assert shown["temperature"] == ("", "0.6")
    assert shown["top_k"] == ("5", "")
    assert shown["max_context_window"] == ("", "4096")
    assert shown["alias"] == shown["max_tokens"] == ("", "")
    assert " (hermes)</option>" in page


async def test_an_unknown_model_is_told_on_its_page(tmp_path: Path):
    async with admin_serving(tmp_path) as admin:
        client = await log_in(admin)
        assert "Available models: tiny" in (await client.get("/admin/models/nothing")).text


@pytest.mark.parametrize("path", ["/static/0/../../keys.json", "/static/0/admin.css", "/parts/nothing", "/nothing"])
async def test_nothing_else_is_served(tmp_path: Path, path: str):
    async with admin_serving(tmp_path) as admin:
        client = await log_in(admin)
        assert (await client.get(f"/admin{path}")).status_code == 404


def test_the_vendored_files_are_those_that_the_page_of_dependencies_names(checkout: Path):
    import hashlib

    page = (checkout / "docs" / "dependencies.md").read_text()
    vendored = sorted((TEMPLATES / "static").glob("*.min.*"))
    assert len(vendored) == 3
    for path in vendored:
        assert hashlib.sha256(path.read_bytes()).hexdigest() in page, path.name


def test_the_catalogs_are_written_in_order():
    for path in sorted((TEMPLATES / "locales").glob("*.json")):
        keys = list(json.loads(path.read_text()))
        assert keys == sorted(keys), path.name
