"""The pages' templates, and how sizes, times and settings read in them."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import jinja2
import msgspec
from litestar import Request
from markupsafe import Markup, escape

from .translations import LANGUAGES, Words, language_for, words_of

THEMES = ("auto", "light", "dark")
_ADMIN = files("omlx.templates").joinpath("admin")
_CODE = re.compile(r"`([^`]+)`")
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
PERCENT, RATE, LABELLED = "{value}%", "{size}/s", "{label}: {value}"
"""Not every language puts these together as English does."""
ASSETS = {
    "admin.css": "text/css",
    "admin.js": "text/javascript",
    "charts.js": "text/javascript",
    "chat.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "ramp.js": "text/javascript",
    "status.js": "text/javascript",
    "uPlot.iife.min.js": "text/javascript",
    "uPlot.min.css": "text/css",
}


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    media_type: str
    digest: str


@lru_cache(maxsize=len(ASSETS))
def asset(name: str) -> Asset:
    """One of ASSETS."""
    body = _ADMIN.joinpath("static", name).read_bytes()
    return Asset(body, ASSETS[name], hashlib.sha256(body).hexdigest()[:12])


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _ADMIN.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        languages=LANGUAGES, themes=THEMES, asset=lambda name: f"/admin/static/{asset(name).digest}/{name}"
    )
    made.filters["code"] = marked
    made.filters["as_json"] = lambda value: msgspec.json.encode(value).decode()
    return made


def render(request: Request, template: str, **values: object) -> bytes:
    """The template in the language and colours of whoever asks."""
    words = words_for(request)
    theme = request.cookies.get("omlx_theme", "auto")
    text = (
        environment()
        .get_template(template)
        .render(
            _=words,
            n=words.count,
            number=words.number,
            size=lambda value: size(words, value),
            duration=lambda value: duration(words, value),
            percent=lambda share: words.filled(PERCENT, value=words.number(100 * share, 1)),
            rate=lambda value: words.filled(RATE, size=size(words, value)),
            labelled=lambda label, value: words.filled(LABELLED, label=label, value=value),
            clock=lambda value: time.strftime("%H:%M:%S", time.localtime(value)),
            date=lambda value: time.strftime("%Y-%m-%d %H:%M", time.localtime(value)),
            lang=words.language,
            theme=theme if theme in THEMES else "auto",
            **values,
        )
    )
    return text.encode()


def marked(text: str) -> Markup:
    """Words of ours, with what stands in backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def words_for(request: Request) -> Words:
    header = request.headers.get("accept-language", "")
    return words_of(language_for(request.cookies.get("omlx_lang", ""), header))


def size(words: Words, value: float) -> str:
    """Bytes, with a unit of thousands."""
    unit = 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{words.number(value, 1 if unit > 1 and value < 100 else 0)}\u00a0{words(UNITS[unit])}"


def duration(words: Words, seconds: float | None) -> str:
    if seconds is None:
        return "\u2013"
    if seconds < 1:
        return f"{words.number(1000 * seconds)}\u00a0{words('ms')}"
    if seconds < 120:
        return f"{words.number(seconds, 1)}\u00a0{words('s')}"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
