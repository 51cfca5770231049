"""The safetensors header: what the format allows is read, everything else is refused before MLX sees it."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from omlx.server.errors import CorruptModel, ModelError, UnsupportedModel
from omlx.server.models.safetensors_file import SafetensorsWriter, TensorSpec, read_header


def entry(shape: object = (2, 2), offsets: object = (0, 16), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def write(path: Path, header: object, data: bytes = bytes(16)) -> Path:
    raw = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def test_a_file_of_the_reference_writer_is_read(tmp_path: Path) -> None:
    arrays = {"a": np.ones((3, 5), np.float32), "b": np.zeros(7, np.uint8), "empty": np.zeros((0, 4), np.float16)}
    save_file(arrays, tmp_path / "model.safetensors", {"format": "mlx"})
    header = read_header(tmp_path / "model.safetensors")
    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in header.tensors} == {
        "a": ("F32", (3, 5)),
        "b": ("U8", (7,)),
        "empty": ("F16", (0, 4)),
    }
    assert header.size_bytes == 67
    assert header.metadata == {"format": "mlx"}


def test_what_is_written_in_pieces_is_read_by_the_reference_reader_and_by_mlx(tmp_path: Path) -> None:
    first, second = np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(5, dtype=np.uint32)
    path = tmp_path / "model.safetensors"
    writer = SafetensorsWriter(path, [TensorSpec("first", "F32", (4, 3)), TensorSpec("second", "U32", (5,))], {})
    writer.append("first", first[:1].tobytes())
    writer.append("second", second.tobytes())
    writer.append("first", first[1:].tobytes())
    writer.close()
    read = load_file(path)
    assert np.array_equal(read["first"], first)
    assert np.array_equal(read["second"], second)
    by_mlx = mx.load(str(path))
    assert isinstance(by_mlx, dict)
    assert np.array_equal(np.array(by_mlx["first"]), first)


@pytest.mark.parametrize(
    ("header", "error", "words"),
    [
        (b"{", CorruptModel, "not the JSON"),
        (b"[]", CorruptModel, "not the JSON"),
        (b"\xff\xfe", CorruptModel, "not the JSON"),
        (b"[" * 50_000, CorruptModel, "not the JSON"),
        ({"a": 1}, CorruptModel, "not the JSON"),
        ({"a": {"dtype": "F32"}}, CorruptModel, "not the JSON"),
        ({"a": entry(shape=[-2, -2])}, CorruptModel, "not the JSON"),
        ({"a": entry(shape=[2.0, 2])}, CorruptModel, "not the JSON"),
        ({"a": entry(shape=[None, 2])}, CorruptModel, "not the JSON"),
        ({"a": entry(shape=[1] * 9)}, CorruptModel, "not the JSON"),
        ({"a": entry(shape=[0, 1 << 31], offsets=[0, 0])}, CorruptModel, "not the JSON"),
        ({"a": entry(offsets=[-16, 0])}, CorruptModel, "not the JSON"),
        ({"a": entry(offsets=[0])}, CorruptModel, "not the JSON"),
        ({"a": entry(shape=[1 << 30, 1 << 30], offsets=[0, 16])}, CorruptModel, "tensor 'a'"),
        ({"a": entry(offsets=[0, 1 << 40])}, CorruptModel, "tensor 'a'"),
        ({"a": entry(offsets=[16, 0])}, CorruptModel, "tensor 'a'"),
        ({"a": entry(shape=[1], offsets=[8, 12])}, CorruptModel, "tensor 'a'"),
        ({"a": entry(), "b": entry()}, CorruptModel, "tensor 'b'"),
        ({"a": entry(shape=[1], offsets=[0, 4])}, CorruptModel, "take 4 bytes, the file holds 16"),
        ({"a": entry(shape=[8], offsets=[0, 32])}, CorruptModel, "take 32 bytes, the file holds 16"),
        ({"a": entry(dtype="Q9")}, UnsupportedModel, "unknown type 'Q9'"),
    ],
)
def test_damage_is_named(tmp_path: Path, header: object, error: type[ModelError], words: str) -> None:
    with pytest.raises(error, match=words):
        read_header(write(tmp_path / "model.safetensors", header))


@pytest.mark.parametrize("data", [b"", b"\0" * 7, struct.pack("<Q", 1 << 60), struct.pack("<Q", 9) + b"{}"])
def test_a_header_longer_than_the_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(CorruptModel, match="bytes"):
        read_header(tmp_path / "model.safetensors")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_are_read_or_refused_and_nothing_else(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    path = write(tmp_path / "model.safetensors", {"a": entry(), "b": entry([2], [16, 24])}, bytes(24))
    data = bytearray(path.read_bytes())
    for position, byte in changes:
        data[position % len(data)] = byte
    path.write_bytes(data)
    with suppress(ModelError):
        read_header(path)
