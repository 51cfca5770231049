"""Finds the words of a template that no catalog of translations knows."""

from __future__ import annotations

import re
from html.parser import HTMLParser

NAMES = {
    *("omlx", "MTP", "SHA-256", "omlx key new NAME", "omlx key admin"),
    *("mlx-community/SmolLM2-135M-Instruct", "main"),
}
"""Names and commands, which are the same in every language."""
ENGLISH = ("error", "failure", "problem", "reason", "miss", "message", "summary")
"""Values, by the end of their names, that are written in English by whoever refused or found something."""
_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_STATEMENT = re.compile(r"\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_LITERAL = re.compile(r"(['\"])(.*?)\1")
_COMPARED = re.compile(r"[!=]= *(['\"]).*?\1|\bif\b.*?(?=\belse\b|$)")
"""What an expression asks, and does not show."""
_SHOWN_ATTRIBUTES = (
    *("aria-label", "placeholder", "title", "alt"),
    *("data-label", "data-labels", "data-saved", "data-confirm", "data-copied"),
    *("data-you", "data-thought", "data-stop", "data-send", "data-failed", "data-unreachable", "data-unit"),
)


_SCRIPTED = re.compile(r"(?:textContent =|tell\(|new Error\(|replaceChildren\() *([\"'`])(.*?)\1")


def written_by(script: str) -> list[str]:
    """The words of its own that a script puts into the page; those of a template come from its data attributes."""
    return [text for _, text in _SCRIPTED.findall(script) if re.search(r"[^\W\d_]", text)]


class RawText(HTMLParser):
    """What a template shows that no catalog knows: words of its own, and English without its mark.

    `{{ … }}` becomes ⟦its number⟧, so that the quotes in it end no attribute.
    """

    def __init__(self, template: str) -> None:
        super().__init__()
        self.places: list[str] = []
        self.found: list[str] = []
        self._languages: list[tuple[str, bool]] = []
        self.feed(_PLACE.sub(self._numbered, _STATEMENT.sub("", template)))

    def _numbered(self, match: re.Match[str]) -> str:
        self.places.append(match[1])
        return f"⟦{len(self.places) - 1}⟧"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in ("input", "meta", "link", "img", "br"):
            self._languages.append((tag, given.get("lang") == "en" or any(is_en for _, is_en in self._languages)))
        for name in _SHOWN_ATTRIBUTES:
            self._look(given.get(name) or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._languages.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if not self._languages or self._languages[-1][0] not in ("script", "style"):
            self._look(data)

    def _look(self, text: str) -> None:
        for number in re.findall(r"⟦(\d+)⟧", text):
            place = _COMPARED.sub("", self.places[int(number)])
            is_english = bool(self._languages and self._languages[-1][1])
            if re.search(rf"\.(?:{'|'.join(ENGLISH)})\b|^ problem\b", place) and not is_english:
                self.found.append(place)
            of_its_own = _LITERAL.findall(re.sub(r"\b(?:_|n)\((['\"]).*?\1", "", place))
            self.found += [literal for _, literal in of_its_own if re.search(r"[^\W\d_]{2}|:|%", literal)]
        own = re.sub(r"⟦\d+⟧", "", text).strip(" ·…\n")
        if own not in NAMES and re.search(r"[^\W\d_]|:|%", own):
            self.found.append(own)
