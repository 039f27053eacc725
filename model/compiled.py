"""The one place where kernels meet numba."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from numba import config, njit
from xxhash import xxh64_hexdigest

__all__ = ["compiled"]

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def _cache() -> Path:
    """Where machine code is kept: a folder for each state of this package's kernels together.

    numba compares only a kernel's own file with what it kept, not those of the kernels it calls; these are all here.
    """
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    kernels = b"".join(source for source in sources if b"\n@compiled\n" in source)
    base = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent / "__pycache__")
    return base / f"kernels-{xxh64_hexdigest(kernels)}"


config.CACHE_DIR = str(_cache())


def compiled(kernel: Kernel) -> Kernel:
    """Compile a kernel over numpy arrays to machine code; kept on disk, so only a first run compiles.

    Floating-point operations keep their written order (no fast math): the same row gives the same bits in a
    batch of any size. The kernel runs without the interpreter lock, so the event loop stays responsive.
    """
    return cast(Kernel, njit(cache=True, nogil=True, error_model="numpy")(kernel))
