"""Popularity of every item at several half-lives, in clicks of the whole stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled

__all__ = ["Popularity"]

_LARGEST = 200.0
"""Half-lives since a click that was worth 1, beyond which all worths are scaled down: 2^200 is far from overflow."""


class Popularity:
    """Clicks per item, each worth half as much `half_life` clicks later.

    An item's share at click t is Σ w · 2^(−(t − t_click) / h) over its clicks, divided by the same sum over all
    clicks. Clicks are kept in units that grow with time, so that a click changes one number and not all of them.

    Args:
        half_lives: h, in clicks of the whole stream; infinity counts every click alike.
    """

    def __init__(self, half_lives: Sequence[float]) -> None:
        self.half_lives = tuple(half_lives)
        self._worth = np.zeros((len(self.half_lives), 1024))
        self._total = np.zeros(len(self.half_lives))
        self._age = np.zeros(len(self.half_lives))
        self._rates = 1.0 / np.array(self.half_lives)

    def add(self, rows: npt.NDArray[np.int32], weights: npt.NDArray[np.float32]) -> None:
        """Count clicks on items, (B,), in their order."""
        top = int(rows.max(initial=-1))
        if top >= self._worth.shape[1]:
            grown = np.zeros((len(self.half_lives), max(2 * self._worth.shape[1], top + 1)))
            grown[:, : self._worth.shape[1]] = self._worth
            self._worth = grown
        _add(rows, weights, self._rates, self._worth, self._total, self._age)

    def shares(self, half_life: float, items: int) -> npt.NDArray[np.float32]:
        """Share of each of the first `items` items in the decayed clicks, (I,)."""
        if items > self._worth.shape[1]:
            self.add(np.array([items - 1], np.int32), np.zeros(1, np.float32))
        h = self.half_lives.index(half_life)
        shares = self._worth[h, :items] / max(float(self._total[h]), 1e-30)
        return shares.astype(np.float32)


@compiled
def _add(
    rows: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float32],
    rates: npt.NDArray[np.float64],
    worth: npt.NDArray[np.float64],
    total: npt.NDArray[np.float64],
    age: npt.NDArray[np.float64],
) -> None:
    for b in range(len(rows)):
        for h in range(len(rates)):
            age[h] += rates[h]
            if age[h] > _LARGEST:
                worth[h] *= 2.0 ** -age[h]
                total[h] *= 2.0 ** -age[h]
                age[h] = 0.0
            if rows[b] >= 0:
                click = weights[b] * 2.0 ** age[h]
                worth[h, rows[b]] += click
                total[h] += click
