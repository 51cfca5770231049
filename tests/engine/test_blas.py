"""A fast BLAS for MLX's CPU wheel: found, checked before it is trusted, and said in one line."""

from __future__ import annotations

import ctypes.util
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from omlx.server.engine import blas
from omlx.server.engine.blas import Blas, better_core, engine_environment, find_blas, probe


@pytest.fixture(scope="module")
def openblas() -> Blas:
    found = find_blas(os.environ) if sys.platform == "linux" else None
    if found is None:
        pytest.skip("no OpenBLAS here (Debian: apt install libopenblas0-pthread)")
    return found


@pytest.fixture
def reference_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "bundles_reference_blas", lambda: True)


def say_found(monkeypatch: pytest.MonkeyPatch, found: Blas | None) -> None:
    def find(environ: Mapping[str, str]) -> Blas | None:
        assert environ is not None
        return found

    monkeypatch.setattr(blas, "find_blas", find)


def test_where_mlx_brings_a_good_blas_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(blas, "bundles_reference_blas", lambda: False)
    with caplog.at_level(logging.INFO):
        assert engine_environment({"A": "b"}) == {"A": "b"}
    assert caplog.text == ""


@pytest.mark.usefixtures("reference_blas")
def test_without_an_openblas_the_remedy_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    say_found(monkeypatch, None)
    assert engine_environment({"A": "b"}) == {"A": "b"}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "apt install libopenblas0-pthread" in record.message


@pytest.mark.usefixtures("reference_blas")
def test_the_library_is_preloaded_and_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    say_found(monkeypatch, Blas(Path("/lib/libopenblas.so.0"), "OpenBLAS 0.3.30", "Haswell"))
    with caplog.at_level(logging.INFO):
        environment = engine_environment({"A": "b"})
    assert environment == {"A": "b", "LD_PRELOAD": "/lib/libopenblas.so.0", "OPENBLAS_NUM_THREADS": "1"}
    (record,) = caplog.records
    assert "OpenBLAS 0.3.30 (Haswell, threads: 1), /lib/libopenblas.so.0" in record.message


@pytest.mark.usefixtures("reference_blas")
def test_the_users_own_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    say_found(monkeypatch, Blas(Path("/lib/libopenblas.so.0"), "OpenBLAS 0.3.21", "Prescott"))
    own = {"LD_PRELOAD": "/lib/mine.so", "OPENBLAS_NUM_THREADS": "8", "OPENBLAS_CORETYPE": "Zen"}
    assert engine_environment(own) == own | {"LD_PRELOAD": "/lib/libopenblas.so.0 /lib/mine.so"}


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is Linux's")
def test_what_is_no_openblas_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "libopenblas.so.0").write_text("not a library")
    with caplog.at_level(logging.INFO):
        assert probe(tmp_path / "libopenblas.so.0") is None
        assert probe(tmp_path / "absent.so") is None
        libm = ctypes.util.find_library("m")
        assert libm is None or probe(Path(libm)) is None
    assert "Passed over" in caplog.text


def test_an_openblas_says_its_version_and_kernels(openblas: Blas) -> None:
    assert openblas.version.startswith("OpenBLAS")
    assert openblas.core


def test_a_library_that_knows_the_processor_chooses_by_itself(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags\t: avx2 fma\n")
    assert better_core(Blas(Path("/absent"), "OpenBLAS", "Zen"), tmp_path / "cpuinfo") is None


def test_a_library_older_than_the_processor_is_told_its_kernels(tmp_path: Path, openblas: Blas) -> None:
    old = Blas(openblas.path, openblas.version, "Prescott")
    real = Path("/proc/cpuinfo").read_text()
    if "avx2" not in real:
        pytest.skip("this processor has no AVX2, so the oldest kernels may be the right ones")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: sse2 avx2 fma\n")
    assert better_core(old, tmp_path / "cpuinfo") == "Haswell"
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: sse2\n")
    assert better_core(old, tmp_path / "cpuinfo") is None
    assert better_core(old, tmp_path / "absent") is None


@pytest.mark.usefixtures("reference_blas")
def test_mlx_in_a_child_process_multiplies_with_it(openblas: Blas) -> None:
    code = (
        "import mlx.core as mx; a = mx.arange(4096.0).reshape(64, 64) / 4096; mx.eval(a @ a);"
        "print(open('/proc/self/maps').read())"
    )
    environment = engine_environment(os.environ)
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert str(openblas.path.resolve()) in result.stdout
    assert "cannot be preloaded" not in result.stderr
