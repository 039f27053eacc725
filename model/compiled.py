"""The one place where kernels meet numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

__all__ = ["compiled"]

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(kernel: Kernel) -> Kernel:
    """Compile a kernel over numpy arrays to machine code; kept on disk, so only a first run compiles.

    Floating-point operations keep their written order (no fast math): the same row gives the same bits in a
    batch of any size. The kernel runs without the interpreter lock, so the event loop stays responsive.
    """
    return cast(Kernel, njit(cache=True, nogil=True, error_model="numpy")(kernel))
