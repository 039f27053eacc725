"""Elementary functions of single numbers that loops of kernels can be made vector instructions of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled

__all__ = ["exp", "log_1p"]


@compiled
def exp(x: np.float32) -> np.float32:
    """e^x for x below 88, to 5e-6 of its value; next to nothing below −86.

    e^x = 2^n · 2^r with |r| ≤ ½, and the series of 2^r. Nothing in it branches, so loops over it become vector
    instructions.
    """
    magic = np.float32(12582912.0)  # 1.5 · 2^23: what is added to it is rounded to a whole number
    y = max(x * np.float32(1.44269504), np.float32(-125.0))
    rounded = np.float32(y + magic)
    r = y - (rounded - magic)
    p = np.float32(1.5403530e-4)
    p = p * r + np.float32(1.3333558e-3)
    p = p * r + np.float32(9.6181291e-3)
    p = p * r + np.float32(5.5504109e-2)
    p = p * r + np.float32(2.4022651e-1)
    p = p * r + np.float32(6.9314718e-1)
    bits = np.float32(p * r + np.float32(1.0)).view(np.int32) + (np.float32(rounded).view(np.int32) << np.int32(23))
    return np.int32(bits).view(np.float32)


@compiled
def halved_sum(each: npt.NDArray[np.float32]) -> np.float32:
    """The sum, by halves: unlike one number after the other, these become vector instructions. `each` is used up."""
    count = len(each)
    while count > 1:
        half = count // 2
        first, second = each[:half], each[count - half : count]
        for i in range(half):
            first[i] += second[i]
        count -= half
    return each[0]  # type: ignore[no-any-return]


@compiled
def log_1p(x: np.float32) -> np.float32:
    """log(1 + x) for x ≥ 0, to 1e-6 of its value or 1.5e-7, whichever is more.

    1 + x = 2^e · (1 + f) with √½ ≤ 1 + f < √2, and log(1 + f) = 2 artanh(s) with s = f / (2 + f), whose series is
    short as |s| < .172. Nothing in it branches, so loops over it become vector instructions, which the system's
    logarithm prevents.
    """
    one, two = np.float32(1.0), np.float32(2.0)
    bits = np.float32(one + x).view(np.int32)
    exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    f = np.int32(bits - (exponent << np.int32(23))).view(np.float32) - one
    s = f / (two + f)
    square, e = s * s, np.float32(exponent)
    series = np.float32(1 / 3) + square * (np.float32(1 / 5) + square * np.float32(1 / 7))
    return two * s * (one + square * series) + e * np.float32(0.69314718)
