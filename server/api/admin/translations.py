"""The pages' words in nine languages: one JSON catalog each, keyed by the English words.

A value is a text, or the forms of a plural by CLDR's names. English is the keys themselves, with its plurals in its own
catalog.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import msgspec

LANGUAGES = {
    "en": "English",
    "es": "Español",
    "fr": "Français",
    "ja": "日本語",
    "ko": "한국어",
    "pt-BR": "Português (Brasil)",
    "ru": "Русский",
    "zh-Hans": "简体中文",
    "zh-Hant": "繁體中文",
}
_SEPARATORS = {"es": ".,", "fr": "\u202f,", "pt-BR": ".,", "ru": "\u202f,"}
"""Of thousands and of decimals; those of the others are English's."""
_TRADITIONAL = ("zh-tw", "zh-hk", "zh-mo", "zh-hant")
_PLURALS: Mapping[str, Callable[[int], str]] = {
    "en": lambda n: "one" if n == 1 else "other",
    "es": lambda n: "one" if n == 1 else "other",
    "fr": lambda n: "one" if n in (0, 1) else "other",
    "pt-BR": lambda n: "one" if n in (0, 1) else "other",
    "ru": lambda n: (
        "one"
        if n % 10 == 1 and n % 100 != 11
        else "few"
        if n % 10 in (2, 3, 4) and n % 100 not in (12, 13, 14)
        else "many"
    ),
}
"""Of whole numbers, from CLDR; the languages not named have one form."""


@dataclass(frozen=True, slots=True)
class Words:
    """One language's. `__call__` gives a text, `count` one that depends on a number, `number` the number itself."""

    language: str
    catalog: Mapping[str, str | dict[str, str]]

    def __call__(self, text: str) -> str:
        found = self.catalog.get(text, text)
        return found if isinstance(found, str) else found["other"]

    def count(self, text: str, number: int) -> str:
        forms = self.catalog.get(text, text)
        form = forms if isinstance(forms, str) else forms[_PLURALS.get(self.language, lambda _: "other")(number)]
        return form.replace("{n}", self.number(number))

    def filled(self, text: str, **values: object) -> str:
        """A text with its places filled."""
        return self(text).format(**values)

    def number(self, value: float, digits: int = 0) -> str:
        thousands, point = _SEPARATORS.get(self.language, ",.")
        text = f"{value:,.{digits}f}"
        return text.translate({ord(","): thousands, ord("."): point})


@lru_cache(maxsize=len(LANGUAGES))
def words_of(language: str) -> Words:
    """`language` is one of LANGUAGES."""
    text = files("omlx.templates").joinpath("admin", "locales", f"{language}.json").read_bytes()
    return Words(language, msgspec.json.decode(text, type=dict[str, str | dict[str, str]]))


def forms_of(language: str) -> tuple[str, ...]:
    """The names of the plural forms that this language tells apart."""
    rule = _PLURALS.get(language)
    return tuple(sorted({rule(n) for n in range(200)})) if rule else ("other",)


def language_for(chosen: str, accepted: str) -> str:
    """The language chosen before, else the first of an Accept-Language header that there is, else English."""
    if chosen in LANGUAGES:
        return chosen
    for part in accepted.split(","):
        tag = part.partition(";")[0].strip().lower()
        if tag.startswith("zh"):
            return "zh-Hant" if tag.startswith(_TRADITIONAL) else "zh-Hans"
        found = next((name for name in LANGUAGES if name.lower().partition("-")[0] == tag.partition("-")[0]), None)
        if found:
            return found
    return "en"
