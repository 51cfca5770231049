"""What the admin pages tell of the agents is what the integrations do."""

from __future__ import annotations

from .agents_data import FILE, agents_json


def test_the_agents_of_the_pages_are_those_of_the_folder():
    assert FILE.read_text() == agents_json(), "`make agent-pages` writes it anew"
