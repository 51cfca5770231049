"""The GGUF header: what is read, and that no damage goes unnoticed or does harm."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omlx.server.errors import CorruptModel, ModelError, UnsupportedModel
from omlx.server.models.gguf import read_gguf

from .small_gguf import SmallLlama


def header(num_tensors: int = 0, *values: bytes, version: int = 3, num_values: int | None = None) -> bytes:
    count = len(values) if num_values is None else num_values
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, count) + b"".join(values)


def tensors(*entries: bytes) -> bytes:
    """A file with these tensor entries, no metadata, and some bytes of data."""
    return header(len(entries), *entries, num_values=0) + bytes(128)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def read(tmp_path: Path, data: bytes) -> object:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return read_gguf(path)


def test_metadata_and_tensors_are_read(tmp_path: Path) -> None:
    SmallLlama(type=Type.Q4_1).write(tmp_path / "small.gguf")
    file = read_gguf(tmp_path / "small.gguf")
    assert file.metadata["llama.embedding_length"] == 64
    assert file.metadata["tokenizer.ggml.pre"] == "smollm"
    embedding = file.tensors["token_embd.weight"]
    assert embedding.type is Type.Q4_1
    assert embedding.shape == (264, 64)
    assert embedding.nbytes == 264 * 64 // 32 * 20


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", CorruptModel, "empty"),
        (b"GG", CorruptModel, "magic"),
        (b"PK\x03\x04" + b"\0" * 40, CorruptModel, "not a GGUF file"),
        (header(version=1), UnsupportedModel, "version 1"),
        (header(version=3 << 24), UnsupportedModel, "big-endian"),
        (b"GGUF, or so it says" + b"\0" * 40, CorruptModel, "begins like a GGUF, and is none"),
        (header(version=4), UnsupportedModel, "version 4"),
        (header(1 << 60), CorruptModel, "tensor table claims"),
        (header(0, num_values=1 << 60), CorruptModel, "metadata claims"),
        (header(0, struct.pack("<Q", 1 << 62) + b"\0" * 16), CorruptModel, "key 0 claims"),
        (header(0, text("k") + struct.pack("<I", 99)), CorruptModel, "unknown value type 99"),
        (header(0, text("k") + struct.pack("<IQ", 8, 1 << 50)), CorruptModel, "'k' claims"),
        (header(0, text("k") + struct.pack("<IIQ", 9, 4, 1 << 61)), CorruptModel, "'k' claims"),
        (header(0, text("k") + struct.pack("<IIQ", 9, 8, 1 << 61)), CorruptModel, "'k' claims"),
        (header(0, text("k") + struct.pack("<IIQ", 9, 9, 1)), CorruptModel, "unknown type 9"),
        (header(0, text("k") + struct.pack("<IQ", 8, 2) + b"\xff\xfe"), CorruptModel, "UTF-8"),
        (header(0, *[text("k") + struct.pack("<IB", 0, 1)] * 2), CorruptModel, "'k' twice"),
        (tensors(tensor("t", ())), CorruptModel, "0 dimensions"),
        (tensors(tensor("t", (1,) * 5)), CorruptModel, "5 dimensions"),
        (tensors(tensor("t", (0, 4))), CorruptModel, "shape"),
        (tensors(tensor("t", (33,), kind=2)), CorruptModel, "Q4_0 needs"),
        (tensors(tensor("t", (8,), kind=4)), UnsupportedModel, "unknown type number 4"),
        (tensors(tensor("t", (1 << 40, 1 << 40))), CorruptModel, "claims"),
        (tensors(tensor("t", (8,), offset=1 << 40)), CorruptModel, "claims"),
        (tensors(tensor("t", (8,), offset=8)), CorruptModel, "claims"),
        (tensors(tensor("t", (8,)), tensor("t", (8,))), CorruptModel, "twice"),
        (tensors(tensor("a", (8,)), tensor("b", (8,))), CorruptModel, "overlap"),
    ],
)
def test_damage_is_named(tmp_path: Path, data: bytes, error: type[ModelError], words: str) -> None:
    with pytest.raises(error, match=words):
        read(tmp_path, data)


@pytest.mark.parametrize("alignment", [0, 3, 48, 1 << 20])
def test_an_alignment_that_is_no_power_of_two_is_refused(tmp_path: Path, alignment: int) -> None:
    with pytest.raises(CorruptModel, match=r"general\.alignment"):
        read(tmp_path, header(0, text("general.alignment") + struct.pack("<II", 4, alignment)))


def test_a_missing_file_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match="cannot be read"):
        read_gguf(tmp_path / "absent.gguf")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    SmallLlama(layers=1, tokens=["a", "b"], merges=[]).write(tmp_path / "whole.gguf")
    data = (tmp_path / "whole.gguf").read_bytes()
    last = max(t.offset + t.nbytes for t in read_gguf(tmp_path / "whole.gguf").tensors.values())
    for length in [*range(0, 3000, 7), last - 1]:
        with pytest.raises(ModelError):
            read(tmp_path, data[:length])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_are_read_or_refused_and_nothing_else(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    source = tmp_path / "whole.gguf"
    if not source.exists():
        SmallLlama(layers=1, tokens=["a", "b"], merges=[]).write(source)
    data = bytearray(source.read_bytes())
    for position, byte in changes:
        data[position] = byte
    with suppress(ModelError):
        read(tmp_path, bytes(data))
