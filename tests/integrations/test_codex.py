"""What is Codex's alone."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from itertools import pairwise

import pytest

from omlx.integrations.codex import wire
from omlx.integrations.spec import Model, Surroundings, Target


@pytest.mark.parametrize("name", ["qwen", "qwen-\U0001f999", 'a "b" \\c', "tab\tdel\x7fnull\x00", "é\u2028\ufeff"])
def test_every_override_is_toml_and_means_what_it_should(name: str, target: Target, surroundings: Surroundings):
    model = Model(name, 65_536, 16_384)
    arguments = wire(replace(target, model=model, models=(model,)), surroundings).arguments
    overrides = [value for flag, value in pairwise(arguments) if flag == "-c"]
    read = [tomllib.loads(override) for override in overrides]
    assert {"model": name} in read
    assert {"review_model": name} in read
