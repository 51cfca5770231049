"""DeepSeek V4's MTP layer out of a checkpoint, and drafting in the engine."""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from omlx.server.engine.loaded_batch import load_batch
from omlx.server.engine.messages import Submit
from omlx.server.engine.mlx_batch import MlxBatch
from omlx.server.engine.mtp_drafter import MtpDrafter
from omlx.server.engine.recorder import Recorder
from omlx.server.engine.rewinding_layout import RewindingLayout
from omlx.server.engine.scheduler import SchedulerLimits
from omlx.server.models.architectures.deepseek_v4 import Model
from omlx.server.models.loading import load_model
from omlx.server.models.mtp import mtp_report
from omlx.server.requests import SamplingParams

from ...engine.driving import Answer, drain, make_engine, step
from ...engine.tiny_model import VOCABULARY, greedy_solo, make_batch, prompt_of, submit
from .deepseek_v4_model import TOLERANCE, build, distance
from .published_deepseek_v4 import CONFIG, published, published_config, write_checkpoint
from .random_deepseek_v4 import CONFIGS, foretelling_weights, mtp_weights, random_tokens, random_weights

TINY = CONFIGS["full"] | {"vocab_size": VOCABULARY, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def model() -> Model:
    """Random weights: what its MTP layer guesses is hardly ever right."""
    return build(TINY, random_weights(TINY) | mtp_weights(TINY))


@pytest.fixture(scope="module")
def foreteller() -> Model:
    return build(TINY, foretelling_weights(TINY))


def _batch(model: Model, disk: Path | None = None) -> MlxBatch:
    run = Recorder(model)
    return make_batch(model, RewindingLayout(run), disk=disk, drafters=[MtpDrafter(model)], run=run)


def _drafts(model: Model, tokens: np.ndarray) -> mx.array:
    """The draft logits after each of the tokens but the first."""
    _, hidden = model.forward(mx.array(tokens[None]), model.make_cache())
    return model.draft(mx.array(tokens[None, 1:]), hidden[:, :-1], model.make_draft_cache())[0]


def test_the_published_checkpoint_s_layer_is_loaded_with_its_numbers(tmp_path: Path) -> None:
    tensors, numbers = published(random_weights(CONFIG) | mtp_weights(CONFIG))
    write_checkpoint(tmp_path, published_config(CONFIG), tensors)
    loaded = load_model(tmp_path)
    tokens = random_tokens(CONFIG, 140)
    assert loaded.mtp is loaded.model
    found: Any = _drafts(loaded.model, tokens)  # pyright: ignore[reportArgumentType]
    assert distance(np.array(found), np.array(_drafts(build(CONFIG, numbers), tokens))) < TOLERANCE


@pytest.mark.parametrize("nested", [False, True])
def test_a_conversion_s_packed_layer_is_loaded_also_from_within_a_block(tmp_path: Path, nested: bool) -> None:
    """As the public oMLX keeps it: https://github.com/jundot/omlx"""
    model = build(TINY, random_weights(TINY) | mtp_weights(TINY))
    packed = {"group_size": 32, "bits": 8, "mode": "affine"}
    nn.quantize(model, **packed)
    arrays: dict[str, Any] = dict(tree_flatten(model.parameters()))
    if nested:
        of_a_layer = re.compile(r"mtp\.0\.(attn|ffn|attn_hc|ffn_hc|attn_norm|ffn_norm)\.")
        arrays = {of_a_layer.sub(r"mtp.0.block.\1.", name): array for name, array in arrays.items()}
    mx.save_safetensors(str(tmp_path / "model.safetensors"), arrays, {"format": "mlx"})
    (tmp_path / "config.json").write_text(json.dumps(TINY | {"quantization": packed}))
    loaded: Any = load_model(tmp_path)
    assert loaded.mtp is not None
    assert mtp_report(tmp_path).mtp_compatible
    tokens = random_tokens(TINY, 40)
    assert distance(np.array(_drafts(loaded.model, tokens)), np.array(_drafts(model, tokens))) < TOLERANCE


def test_sequences_get_what_the_weights_leave_as_they_are_held(tmp_path: Path) -> None:
    tensors, _ = published(random_weights(CONFIG) | mtp_weights(CONFIG))
    write_checkpoint(tmp_path, published_config(CONFIG), tensors)
    batch = load_batch(tmp_path)
    assert batch.info.footprint is not None
    assert batch.info.footprint.weight_bytes == batch.info.weight_bytes
    assert [stats.drafter for stats in batch.drafts] == ["ngram", "mtp"]
    batch.close()


def test_a_drafter_that_lies_under_mtp_s_names_is_left_out(tmp_path: Path) -> None:
    tensors, _ = published(random_weights(CONFIG) | mtp_weights(CONFIG))
    tensors["mtp.0.main_proj.weight"] = ("F32", np.zeros((4, 4), np.float32))
    tensors["mtp.2.markov_head.markov_w1.weight"] = ("F32", np.zeros((4, 4), np.float32))
    write_checkpoint(tmp_path, published_config(CONFIG), tensors)
    assert load_model(tmp_path).mtp is None


@pytest.mark.parametrize("kind", ["model", "foreteller"])
def test_answers_are_those_of_plain_decoding_token_for_token(kind: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(kind)
    wanted = {f"r{n}": (prompt_of(length, n), 20 + 4 * n) for n, length in enumerate((3, 130, 40, 66))}
    engine, answers = make_engine(_batch(model), SchedulerLimits(max_num_seqs=3, max_chunk=64)), {}
    for name, (prompt, count) in wanted.items():
        engine.submit(submit(name, prompt, count))
        step(engine, answers)
    drain(engine, answers)
    for name, (prompt, count) in wanted.items():
        assert answers[name].token_ids == greedy_solo(model, prompt, count), name


@pytest.mark.parametrize("kind", ["model", "foreteller"])
def test_a_conversation_goes_on_from_what_drafted_answers_left(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """What a row leaves has had tokens taken back from it; in memory, and after a restart."""
    model: Model = request.getfixturevalue(kind)
    chance, batch = random.Random(5), _batch(model, tmp_path)
    text = [chance.randrange(VOCABULARY) for _ in range(113)]
    for turn in range(8):
        count = chance.randrange(1, 30)
        engine = make_engine(batch, SchedulerLimits(max_chunk=100))
        engine.submit(submit(f"turn {turn}", text, count))
        answer = drain(engine)[f"turn {turn}"]
        assert answer.token_ids == greedy_solo(model, text, count), f"turn {turn}, {len(text)} tokens"
        assert (answer.last.num_cached_tokens > 0) is (turn > 0)
        text = [*text, *answer.token_ids, *(chance.randrange(VOCABULARY) for _ in range(chance.randrange(1, 30)))]
        if turn in (2, 5):
            batch.close()
            batch = _batch(model, tmp_path)
    batch.close()


def test_right_guesses_halve_the_steps_and_are_counted(foreteller: Model) -> None:
    batch = _batch(foreteller)
    engine, answers, steps = make_engine(batch), dict[str, Answer](), 0
    engine.submit(submit("a", prompt_of(30), 60))
    while engine.has_work:
        step(engine, answers)
        steps += 1
    (count,) = batch.drafts
    assert len(answers["a"].token_ids) == 60
    assert steps < 36
    assert count.num_accepted == count.num_tokens > 25


def test_guesses_that_do_not_pay_are_made_ever_more_rarely(model: Model) -> None:
    batch = _batch(model)
    engine = make_engine(batch)
    engine.submit(submit("a", prompt_of(30), 90))
    drain(engine)
    (count,) = batch.drafts
    assert 0 < count.num_drafts < 12


def test_a_request_can_do_without_it(foreteller: Model) -> None:
    batch = _batch(foreteller)
    engine = make_engine(batch)
    greedy = SamplingParams(temperature=0)
    engine.submit(Submit("a", prompt_of(9), 9, sampling=greedy, without_drafters=["mtp"]))
    drain(engine)
    assert batch.drafts[0].num_drafts == 0


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_a_seed_draws_the_same_answer_with_the_layer_and_without(foreteller: Model, temperature: float) -> None:
    sampling, found = SamplingParams(temperature=temperature, top_p=0.95, seed=3), []
    for without in ([], ["mtp"]):
        engine = make_engine(_batch(foreteller))
        engine.submit(Submit("a", prompt_of(50), 40, sampling=sampling, without_drafters=without))
        found.append(drain(engine)["a"].token_ids)
    assert found[0] == found[1]


def test_a_row_that_waited_long_for_a_draft_begins_anew(foreteller: Model) -> None:
    drafter, tokens = MtpDrafter(foreteller), random_tokens(TINY, 400)
    drafter.join("a", tokens.tolist())
    _, hidden = foreteller.forward(mx.array(tokens[None]), foreteller.make_cache())
    drafter.observe("a", hidden[:, :100])
    first = drafter.draft({"a": 1})
    for start in range(100, 399, 50):
        drafter.observe("a", hidden[:, start : start + 50])
    fresh = MtpDrafter(foreteller)
    fresh.join("a", tokens.tolist())
    fresh.observe("a", hidden[:, 271:399])
    assert drafter.draft({"a": 1}) == fresh.draft({"a": 1})
    assert set(first) == {"a"}
    drafter.leave("a")


def test_a_row_that_never_drafts_holds_no_more_than_a_draft_would_need(foreteller: Model) -> None:
    """As one with penalties, which may not: what it is told must not pile up, computed or to be computed."""
    drafter, tokens = MtpDrafter(foreteller), random_tokens(TINY, 900)
    drafter.join("a", tokens.tolist())
    _, hidden = foreteller.forward(mx.array(tokens[None]), foreteller.make_cache())
    mx.eval(hidden)
    drafter.observe("a", hidden[:, :300])
    sizes: list[int] = []
    for place in range(300, 899):
        drafter.observe("a", mx.array(np.array(hidden[:, place : place + 1])))
        graph = io.StringIO()
        mx.export_to_dot(graph, *drafter._rows["a"].pending)  # pyright: ignore[reportPrivateUsage]
        sizes.append(graph.getvalue().count("\n"))
    assert max(sizes[256:]) <= max(sizes[:256])
    fresh = MtpDrafter(foreteller)
    fresh.join("a", tokens.tolist())
    fresh.observe("a", hidden[:, 771:899])
    assert drafter.draft({"a": 1}) == fresh.draft({"a": 1})
