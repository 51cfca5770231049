"""The kernels of hyper-connections: their source, compiled for this processor, says what MLX's operations say."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from omlx.server.models.architectures.deepseek_v4 import mixing
from omlx.server.models.architectures.deepseek_v4.mixing import MixingWeights, PlainMixer

N, D, ITERATIONS = 4, 40, 20
_COMPILER = shutil.which("c++") or shutil.which("clang++") or shutil.which("g++")
_PARAMETERS = {
    "weights": ("mixes", "scale", "base", "constants", "reading", "writing", "mixing"),
    "collapse": ("streams", "reading", "collapsed"),
    "rejoin": ("block", "streams", "writing", "mixing", "joined"),
}
_SOURCES = {
    "weights": mixing.WEIGHTS_SOURCE,
    "collapse": mixing.COLLAPSE_SOURCE,
    "rejoin": mixing.REJOIN_SOURCE,
}


class HostMixer:
    """A `Mixer` of the kernels' source: a loop over the elements takes the place of the device's threads."""

    def __init__(self, folder: Path) -> None:
        library = folder / "mixing.so"
        source = folder / "mixing.cpp"
        source.write_text(self._program())
        assert _COMPILER is not None
        subprocess.run([_COMPILER, "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
        self._library = ctypes.CDLL(str(library))

    def weights(self, mixes: mx.array, scale: mx.array, base: mx.array, epsilon: float, iterations: int) -> Any:
        assert iterations == ITERATIONS
        assert mixing.num_streams(mixes) == N
        lead = mixes.shape[:2]
        results = [np.zeros((*lead, *rest), np.float32) for rest in ((N,), (N,), (N, N))]
        self._run("weights", mixes, mixes, scale, base, mx.array([epsilon]), *results)
        return MixingWeights(*(mx.array(result) for result in results))

    def collapse(self, streams: mx.array, read: mx.array) -> mx.array:
        result = np.zeros((*streams.shape[:2], D), np.float32)
        self._run("collapse", streams, streams, read, result)
        return mx.array(result)

    def rejoin(self, block: mx.array, streams: mx.array, weights: MixingWeights) -> mx.array:
        result = np.zeros(streams.shape, np.float32)
        self._run("rejoin", streams, block, streams, weights.write, weights.mix, result)
        return mx.array(result)

    def _run(self, name: str, counted: mx.array, *arrays: mx.array | np.ndarray) -> None:
        """With one element more than there are, which the source has to leave alone."""
        tokens = counted.shape[0] * counted.shape[1]
        held = [np.ascontiguousarray(np.array(array)) if isinstance(array, mx.array) else array for array in arrays]
        pointers = [array.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for array in held]
        elements = tokens if name == "weights" else tokens * D
        getattr(self._library, name)(*pointers, tokens, elements + 1)

    @staticmethod
    def _program() -> str:
        text = f"#include <cmath>\nusing std::exp;\nusing T = float;\nconstexpr int N = {N}, D = {D};\n"
        text += f"constexpr int ITERATIONS = {ITERATIONS};\n"
        for name, parameters in _PARAMETERS.items():
            pointers = ", ".join(f"float* {parameter}" for parameter in parameters)
            text += f'extern "C" void {name}({pointers}, int tokens, int elements) {{\n'
            text += "int mixes_shape[] = {tokens}, streams_shape[] = {tokens};\n"
            text += f"for (int element = 0; element < elements; element++) [&] {{ {_SOURCES[name]} }}();\n}}\n"
        return text


@pytest.mark.skipif(_COMPILER is None, reason="no C++ compiler here: apt install g++, or xcode-select --install")
def test_the_kernels_source_computes_what_the_operations_compute(tmp_path: Path) -> None:
    assert mixing.difference(HostMixer(tmp_path), PlainMixer()) < 1e-5


def test_kernels_that_are_off_are_seen() -> None:
    class Off(PlainMixer):
        def collapse(self, streams: mx.array, read: mx.array) -> mx.array:
            return super().collapse(streams, read) + 0.01

    assert mixing.difference(Off(), PlainMixer()) == pytest.approx(0.01, rel=1e-3)
    assert mixing.difference(PlainMixer(), PlainMixer()) == 0


def test_a_device_that_is_no_gpu_computes_with_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu, 0))
    assert isinstance(mixing.mixer(), PlainMixer)
