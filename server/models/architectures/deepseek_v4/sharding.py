"""A rank's slice of every layer: some heads with their output groups, and a slice of every expert.

The one row that is key and value for all heads, the compressors and the indexer stay whole: every rank computes
them, since each needs all of what they give.
"""

from __future__ import annotations

import mlx.core as mx
from mlx.nn.layers.distributed import shard_inplace, shard_linear

from .attention import Attention
from .experts import Experts


def shard_attention(attention: Attention, group: mx.distributed.Group) -> None:
    attention.wq_b = shard_linear(attention.wq_b, "all-to-sharded", group=group)
    shard_inplace(attention.wo_a, lambda path, weight: 0, group=group)  # noqa: ARG005
    attention.wo_b = shard_linear(attention.wo_b, "sharded-to-all", group=group)
    attention.keep_share(group.rank(), group.size())


def shard_experts(experts: Experts, group: mx.distributed.Group) -> None:
    for module in (experts.switch_mlp, experts.shared_experts):
        shard_inplace(module.gate_proj, "all-to-sharded", group=group)
        shard_inplace(module.up_proj, "all-to-sharded", group=group)
        shard_inplace(module.down_proj, "sharded-to-all", group=group)
    experts.group = group
