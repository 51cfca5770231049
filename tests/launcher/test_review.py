from __future__ import annotations

from pathlib import Path

import pytest

from omlx.launcher.journal import FileChange
from omlx.launcher.review import confirm, diff, mask
from omlx.launcher.sensitive import secret_values


def change(before: str | None, after: str | None, secrets: tuple[str, ...] = ()) -> FileChange:
    old, new = (None if text is None else text.encode() for text in (before, after))
    return FileChange(Path("/home/u/x.json"), old, new, secrets)


def test_a_diff_names_the_file_and_shows_the_lines():
    assert diff([change("a: 1\nb: 2\n", "a: 1\nb: 3\n")]) == (
        "--- /home/u/x.json\n+++ /home/u/x.json\n@@ -1,2 +1,2 @@\n a: 1\n-b: 2\n+b: 3\n"
    )


def test_files_that_come_and_go_stand_against_nothing():
    assert diff([change(None, "a\n")]).startswith("--- /dev/null\n+++ /home/u/x.json\n")
    assert diff([change("a\n", None)]).startswith("--- /home/u/x.json\n+++ /dev/null\n")
    assert diff([change("a", "a")]) == ""


def test_colours_are_only_there_when_asked_for():
    assert "\x1b" not in diff([change("a\n", "b\n")])
    assert "\x1b[31m-a\x1b[0m\n\x1b[32m+b\x1b[0m\n" in diff([change("a\n", "b\n")], color=True)


@pytest.mark.parametrize(
    "line",
    [
        '"apiKey": "hunter2hunter2",',
        "api_key: hunter2hunter2",
        "  api-key: 'hunter2hunter2' # c",
        'ANTHROPIC_AUTH_TOKEN = "hunter2hunter2"',
        "password: hunter2hunter2",
        '{"clientSecret":"hunter2hunter2","x":1}',
        "x = sk-hunter2hunter2",
        '"Authorization": "Bearer hunter2hunter2"',
    ],
)
def test_what_looks_like_a_secret_is_masked(line):
    assert "hunter2" not in mask(line)
    assert "••••" in mask(line)


@pytest.mark.parametrize(
    "line",
    [
        '"apiKey": "{env:OMLX_API_KEY}"',
        "api_key: ${OMLX_API_KEY}",
        '"apiKey": "$OMLX_API_KEY"',
        "max_token: 4096",
        "max_tokens: 4096",
        '"token": true',
        "env_key = OMLX_API_KEY_NAME",
        '"monkey": "banana"',
    ],
)
def test_references_and_numbers_stay(line):
    assert mask(line) == line or "env_key" in line


def test_only_the_line_of_the_secret_is_masked():
    assert mask("api_key: hunter2hunter2\nmodel: x\n") == "api_key: ••••\nmodel: x\n"
    assert mask("credentials:\n  model: x\n") == "credentials:\n  model: x\n"


def test_known_secrets_are_masked_wherever_they_stand():
    assert mask("http://u:pass-word@x/pass-word?q", ["pass-word"]) == "http://u:••••@x/••••?q"


def test_secrets_are_found_in_values_that_no_line_shows_as_one():
    model = {"api_key": "two\nlines of it", "list": [{"tokens": ["not one"], "token": ["abcdefgh"]}], "key": "x"}
    assert set(secret_values(model)) >= {"lines of it", "abcdefgh"}
    yaml = "api_key: |\n  first line\n  second line\n"
    shown = diff([change(yaml, yaml + "b: 1\n", tuple(secret_values({"api_key": "first line\nsecond line\n"})))])
    assert "line" not in shown.split("@@")[-1]


def test_a_change_of_a_masked_value_only_is_still_told():
    assert "a masked value" in diff([change("token: abcdefgh\n", "token: ijklmnop\n")])


def test_only_yes_is_yes():
    asked = []

    def answers(*lines: str):
        remaining = iter(lines)
        return lambda question: (asked.append(question), next(remaining))[1]

    assert confirm("Write?", answers("maybe", "YES"))
    assert not confirm("Write?", answers(""))
    assert not confirm("Write?", answers("n"))
    assert asked[0] == "Write? [y/N] "

    def no_terminal(_: str) -> str:
        raise EOFError

    assert not confirm("Write?", no_terminal)
