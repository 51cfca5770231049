"""DeepSeek V4's MTP layer in numpy and float64, step by step as its published model code has it: one sequence from its
beginning, every query against every key, nothing kept.

Weights go by the names that `random_deepseek_v4` gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray
Config = Mapping[str, Any]
Weights = Mapping[str, np.ndarray]


def draft_logits(config: Config, weights: Weights, token_ids: Array, streams: Array) -> Array:
    """Logits [L, vocabulary] of the tokens after `token_ids` [L], each of which follows a position that the model left
    with `streams` [L, N, D]."""
    own = {name.removeprefix("mtp.0."): array.astype(np.float64) for name, array in weights.items() if "mtp.0." in name}
    embedded = weights["model.embed_tokens.weight"].astype(np.float64)[token_ids]
    epsilon = config["rms_norm_eps"]
    from_token = _norm(embedded, epsilon, own["enorm.weight"]) @ own["e_proj.weight"].T
    from_streams = _norm(streams.astype(np.float64), epsilon, own["hnorm.weight"]) @ own["h_proj.weight"].T
    streams = from_token[:, None] + from_streams

    read, write, mix = _hyper_connection(config, own, "attn_hc", streams)
    x = _norm(np.einsum("ln,lnd->ld", read, streams), epsilon, own["input_layernorm.weight"])
    streams = write[..., None] * _attention(config, own, x)[:, None] + np.einsum("ljk,ljd->lkd", mix, streams)

    read, write, mix = _hyper_connection(config, own, "ffn_hc", streams)
    x = _norm(np.einsum("ln,lnd->ld", read, streams), epsilon, own["post_attention_layernorm.weight"])
    streams = write[..., None] * _experts(config, own, x)[:, None] + np.einsum("ljk,ljd->lkd", mix, streams)

    head = [own[f"hc_head_{kind}"] for kind in ("fn", "base", "scale")]
    return logits_of(config, weights, streams, head, own["norm.weight"])


def logits_of(config: Config, weights: Weights, streams: Array, head: list[Array], norm: Array) -> Array:
    """What the streams [L, N, D] of a last layer say: mixed by `head`'s fn, base and scale, normed, projected."""
    fn, base, scale = (array.astype(np.float64) for array in head)
    read = _sigmoid(_mixes(config, streams.astype(np.float64), fn) * scale + base) + config["hc_eps"]
    mixed = np.einsum("ln,lnd->ld", read, streams)
    return _norm(mixed, config["rms_norm_eps"], norm) @ weights["lm_head.weight"].astype(np.float64).T


def _hyper_connection(config: Config, own: Weights, name: str, streams: Array) -> tuple[Array, Array, Array]:
    """How a block reads the streams [L, N], is written to them [L, N], and how they are mixed: [L, from, to]."""
    n, epsilon = config["hc_mult"], config["hc_eps"]
    fn, base, scale = (own[f"{name}.{kind}"] for kind in ("fn", "base", "scale"))
    mixes = _mixes(config, streams, fn)
    read = _sigmoid(mixes[:, :n] * scale[0] + base[:n]) + epsilon
    write = 2 * _sigmoid(mixes[:, n : 2 * n] * scale[1] + base[n : 2 * n])
    mix = (mixes[:, 2 * n :] * scale[2] + base[2 * n :]).reshape(-1, n, n)
    mix = np.exp(mix - mix.max(axis=2, keepdims=True))
    mix = mix / mix.sum(axis=2, keepdims=True) + epsilon
    for turn in range(2 * config["hc_sinkhorn_iters"] - 1):  # columns, then rows and columns in turn
        mix = mix / (mix.sum(axis=1 if turn % 2 == 0 else 2, keepdims=True) + epsilon)
    return read, write, mix


def _mixes(config: Config, streams: Array, fn: Array) -> Array:
    return _norm(streams.reshape(len(streams), -1), config["rms_norm_eps"]) @ fn.T


def _attention(config: Config, own: Weights, x: Array) -> Array:
    """Over the last `sliding_window` tokens, one key that is the value too for all heads, and a sink for each."""
    heads, dim, groups = config["num_attention_heads"], config["head_dim"], config["o_groups"]
    length, epsilon = len(x), config["rms_norm_eps"]
    weight = {name.removeprefix("self_attn."): array for name, array in own.items()}
    low = _norm(x @ weight["q_a_proj.weight"].T, epsilon, weight["q_a_norm.weight"])
    queries = _norm((low @ weight["q_b_proj.weight"].T).reshape(length, heads, dim), epsilon)
    keys = _norm(x @ weight["kv_proj.weight"].T, epsilon, weight["kv_norm.weight"])
    queries, keys = _turned(config, queries), _turned(config, keys[:, None])[:, 0]
    scores = np.einsum("qhd,kd->hqk", queries, keys) * dim**-0.5
    back = np.arange(length)[:, None] - np.arange(length)
    scores = np.where((back >= 0) & (back < config["sliding_window"]), scores, -np.inf)
    sinks = np.broadcast_to(weight["sinks"][:, None, None], (heads, length, 1))
    scores = np.concatenate([scores, sinks], axis=2)
    shares = np.exp(scores - scores.max(axis=2, keepdims=True))
    shares = (shares / shares.sum(axis=2, keepdims=True))[..., :-1]
    seen = _turned(config, np.einsum("hqk,kd->qhd", shares, keys), back=True)
    grouped = np.einsum(
        "lgi,gri->lgr",
        seen.reshape(length, groups, -1),
        weight["o_a_proj.weight"].reshape(groups, -1, heads * dim // groups),
    )
    return grouped.reshape(length, -1) @ weight["o_b_proj.weight"].T


def _turned(config: Config, x: Array, back: bool = False) -> Array:
    """RoPE by `rope_theta` alone on the last channels of x [L, H, D], neighbours as real and imaginary part."""
    channels = round(config["head_dim"] * config["partial_rotary_factor"])
    still, turning = x[..., :-channels], x[..., -channels:]
    angles = np.arange(len(x))[:, None] * config["rope_theta"] ** (-np.arange(0, channels, 2) / channels)
    numbers = (turning[..., ::2] + 1j * turning[..., 1::2]) * np.exp((-1j if back else 1j) * angles)[:, None]
    return np.concatenate([still, np.stack([numbers.real, numbers.imag], axis=-1).reshape(turning.shape)], axis=-1)


def _experts(config: Config, own: Weights, x: Array) -> Array:
    """The experts that score best with their bias, weighed without it, and the shared one."""
    scores = np.sqrt(np.log1p(np.exp(x @ own["mlp.gate.weight"].T)))
    chosen = np.argsort(-(scores + own["mlp.gate.e_score_correction_bias"]), axis=1)[:, : config["num_experts_per_tok"]]
    output = _expert(config, x, *(own[f"mlp.shared_experts.{part}_proj.weight"] for part in ("gate", "up", "down")))
    for at, experts in enumerate(chosen):
        for expert in experts:
            gate, up = np.split(own["mlp.experts.gate_up_proj"][expert], 2)
            share = scores[at, expert] / scores[at, experts].sum() * config["routed_scaling_factor"]
            output[at] += share * _expert(config, x[at], gate, up, own["mlp.experts.down_proj"][expert])
    return output


def _expert(config: Config, x: Array, gate: Array, up: Array, down: Array) -> Array:
    limit = config["swiglu_limit"]
    gated = np.minimum(x @ gate.T, limit)
    return (gated * _sigmoid(gated) * np.clip(x @ up.T, -limit, limit)) @ down.T


def _norm(x: Array, epsilon: float, weight: Array | None = None) -> Array:
    normed = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon)
    return normed if weight is None else normed * weight


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))
