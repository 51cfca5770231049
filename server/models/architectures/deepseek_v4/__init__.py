"""DeepSeek V4: hyper-connections, compressed sparse attention, hash-routed and scored experts.

config            what config.json says, checked
model             Model → Trunk → DecoderLayer
hyper_connections the residual streams                 mixing      their arithmetic, and its kernels
attention         window + compressed rows, one softmax        attending   the softmax itself
compressor        tokens → compressed rows                     indexer     which rows a query reads
rotary            the two RoPE regimes                         experts     routing and experts
cache             LayerCache: window + pools                   pool        one compressor's state
weights           any checkpoint layout → ours                 names, block_formats
sharding          one rank's slice of every layer
"""

from __future__ import annotations

from .config import ModelArgs
from .model import Model

__all__ = ["Model", "ModelArgs"]
