"""What the admin pages tell of the agents is what the integrations do."""

from __future__ import annotations

import json

from .agents_data import FILE, agents_json


def test_the_agents_of_the_pages_are_those_of_the_folder():
    assert FILE.read_text() == agents_json(), "`make agent-pages` writes it anew"


def test_a_file_of_a_run_is_named_once_and_without_a_run_of_ours():
    (aider,) = (agent for agent in json.loads(agents_json()) if agent["name"] == "aider")
    assert " ".join(aider["sets"]).count("models.json") == 1
    assert "~/.omlx/launches/RUN/models.json" in aider["sets"][0]
