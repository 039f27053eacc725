"""Users' clicks as sequences: stretches to train on, side by side in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Padded", "padded", "stretches"]


class Padded(NamedTuple):
    """Stretches side by side.

    Attributes:
        items: inputs, item rows, 0 where padded, (B, T).
        targets: what came next, as before, (B, T).
        when: each target's place in the log, -1 where padded, (B, T).
    """

    items: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    when: npt.NDArray[np.int64]


def stretches(users: npt.NDArray[np.int64] | npt.NDArray[np.uint64], window: int) -> list[npt.NDArray[np.int64]]:
    """Places in the log of each user's clicks, in order, in stretches of at most `window` targets.

    The last item of a stretch is the first of the next one, as input alone.
    """
    order = np.argsort(users, kind="stable")
    cuts = np.flatnonzero(users[order][1:] != users[order][:-1]) + 1
    return [
        one[begin : begin + window + 1] for one in np.split(order, cuts) for begin in range(0, len(one) - 1, window)
    ]


def padded(together: Sequence[npt.NDArray[np.int64]], rows: npt.NDArray[np.int32]) -> Padded:
    """Stretches of a log whose clicks are on these item rows, side by side."""
    shape = (len(together), max(len(one) for one in together) - 1)
    made = Padded(np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, -1, np.int64))
    for b, one in enumerate(together):
        n = len(one) - 1
        made.items[b, :n], made.targets[b, :n], made.when[b, :n] = rows[one[:-1]], rows[one[1:]], one[1:]
    return made
