"""The independent implementation: transformers' DeepSeek V4 in torch, on the CPU, in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from transformers.models.deepseek_v4 import DeepseekV4Config, DeepseekV4ForCausalLM

from .random_deepseek_v4 import random_weights


class TorchModel:
    """The model of a configuration with its random weights."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._model = DeepseekV4ForCausalLM(DeepseekV4Config(**config)).eval().float()
        weights = random_weights(config)
        wanted = {name: tuple(tensor.shape) for name, tensor in self._model.state_dict().items()}
        assert wanted == {name: array.shape for name, array in weights.items()}, "transformers' names have changed"
        self._model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Of token ids [L] in one piece: [L, vocabulary]."""
        with torch.no_grad():
            return self._model(torch.from_numpy(tokens)[None].long(), use_cache=True).logits[0].numpy()

    def greedy(self, tokens: np.ndarray, count: int) -> list[int]:
        """The `count` tokens that follow, one at a time through transformers' own cache."""
        inputs, cache, found = torch.from_numpy(tokens)[None].long(), None, []
        with torch.no_grad():
            for _ in range(count):
                step = self._model(inputs, past_key_values=cache, use_cache=True)
                cache, inputs = step.past_key_values, step.logits[:, -1].argmax(-1, keepdim=True)
                found.append(int(inputs.item()))
        return found
