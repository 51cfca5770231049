"""Gives the engine process a fast BLAS where MLX comes with a slow one.

The `mlx-cpu` wheel for Linux bundles the reference BLAS, some thirty times slower at float32 products than
OpenBLAS. The wheel imports plain `cblas_*` and LAPACK names, so an OpenBLAS preloaded into the process
takes their place. Metal, CUDA and an MLX built against the system's own BLAS need nothing.
"""

from __future__ import annotations

import ctypes.util
import json
import logging
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

logger = logging.getLogger(__name__)

SYMBOLS = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm", "sgetrf_", "sgesdd_", "ssyevd_", "sgeqrf_", "spotrf_", "sgeev_")
"""What a library must have to stand in for the bundled one: the products, and a share of the LAPACK MLX uses."""

_NAMES = ("libopenblas.so.0", "libopenblasp.so.0", "libopenblas.so")
_FOLDERS = ("/usr/lib64", "/usr/lib", "/usr/local/lib", "/opt/OpenBLAS/lib")
_DEBIAN_VARIANTS = ("openblas-pthread", "openblas-openmp", "openblas-serial")
_CUDA_PACKAGES = ("mlx-cuda", "mlx-cuda-12", "mlx-cuda-13")
_PROBE_SECONDS = 20
_OLDEST_CORE = "Prescott"
_CORES = {
    "SkylakeX": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "Haswell": {"avx2", "fma"},
}
"""OpenBLAS's names for kernels, best first, and the processor flags they need."""
_REMEDY = (
    "MLX's bundled BLAS is about 30 times slower than OpenBLAS, and none was found. Install one and start again: "
    "`sudo apt install libopenblas0-pthread` (Debian, Ubuntu), `sudo dnf install openblas` (Fedora)"
)

_PROBE = """
import ctypes, json, sys
process = ctypes.CDLL(None)
missing = [name for name in sys.argv[1:] if not hasattr(process, name)]
def text(name):
    function = getattr(process, name, None)
    if function is None:
        return ""
    function.restype = ctypes.c_char_p
    return (function() or b"").decode("ascii", "replace")
print(json.dumps({"missing": missing, "config": text("openblas_get_config"), "core": text("openblas_get_corename")}))
"""
"""Run in a process of its own with the library preloaded: loading OpenBLAS here would start its threads."""


@dataclass(frozen=True, slots=True)
class Blas:
    """A library that does. `core` is the processor family whose kernels it takes by itself."""

    path: Path
    version: str
    core: str


def engine_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for an engine process, from our own `environ`; logs in one line what it computes with.

    The user's own LD_PRELOAD stays, behind ours, and OpenBLAS settings of the user's stay too. One thread:
    a second one makes the products of decoding slower whenever the machine does anything else.
    """
    environment = dict(environ)
    if not bundles_reference_blas():
        return environment
    blas = find_blas(environ)
    if blas is None:
        logger.warning(_REMEDY)
        return environment
    environment["LD_PRELOAD"] = " ".join(filter(None, (str(blas.path), environ.get("LD_PRELOAD", ""))))
    threads = environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    core = environ.get("OPENBLAS_CORETYPE") or better_core(blas, Path("/proc/cpuinfo"))
    if core is not None:
        environment["OPENBLAS_CORETYPE"] = core
    kernels = core or blas.core
    logger.info("MLX computes on the CPU with %s (%s, threads: %s), %s", blas.version, kernels, threads, blas.path)
    return environment


def better_core(blas: Blas, cpuinfo: Path) -> str | None:
    """The kernels to name for a processor newer than the library, None where its own choice does.

    An OpenBLAS that does not know the processor takes its oldest kernels, which are three to five times
    slower than the ones for the instructions the processor has.
    """
    if blas.core != _OLDEST_CORE:
        return None
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set[str]())
    for core, needed in _CORES.items():
        if needed <= flags:
            upgraded = probe(blas.path, core)
            if upgraded is not None and upgraded.core == core:
                return core
    return None


def bundles_reference_blas() -> bool:
    """Whether the installed MLX is the CPU wheel for Linux."""
    return sys.platform == "linux" and _is_installed("mlx-cpu") and not has_own_gpu()


def has_own_gpu() -> bool:
    """Whether the installed MLX computes on a CUDA GPU, whose memory is not the machine's."""
    return any(map(_is_installed, _CUDA_PACKAGES))


def find_blas(environ: Mapping[str, str]) -> Blas | None:
    """The first OpenBLAS on this machine that loads and has every one of `SYMBOLS`."""
    seen: set[Path] = set()
    for candidate in _candidates(environ):
        resolved = candidate.resolve()
        if resolved in seen or not candidate.is_file():
            continue
        seen.add(resolved)
        blas = probe(candidate)
        if blas is not None:
            return blas
    return None


def probe(path: Path, core: str | None = None) -> Blas | None:
    """`path` preloaded into a small process and asked for its symbols; None, logged, when it does not do."""
    command = [sys.executable, "-I", "-S", "-c", _PROBE, *SYMBOLS]
    environment = {"LD_PRELOAD": str(path), "OPENBLAS_NUM_THREADS": "1"}
    if core is not None:
        environment["OPENBLAS_CORETYPE"] = core
    try:
        result = subprocess.run(command, env=environment, capture_output=True, timeout=_PROBE_SECONDS, check=True)
        answer = json.loads(result.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        logger.info("Passed over %s: it does not load (%s)", path, error)
        return None
    if answer["missing"] or not answer["config"]:
        logger.info("Passed over %s: no OpenBLAS, or one without %s", path, ", ".join(answer["missing"]) or "a name")
        return None
    return Blas(path, " ".join(answer["config"].split()[:2]), answer["core"])


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where an OpenBLAS may lie: this environment's own (conda), the distributions' folders, the linker's cache."""
    triplet = sysconfig.get_config_var("MULTIARCH") or ""
    debian = [f"/usr/lib/{triplet}", *(f"/usr/lib/{triplet}/{variant}" for variant in _DEBIAN_VARIANTS)]
    conda = os.path.join(environ["CONDA_PREFIX"], "lib") if environ.get("CONDA_PREFIX") else ""
    for folder in (conda, os.path.join(sys.prefix, "lib"), *debian, *_FOLDERS):
        for name in _NAMES:
            if folder:
                yield Path(folder, name)
    found = ctypes.util.find_library("openblas")
    if found is not None and os.path.isabs(found):
        yield Path(found)


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
