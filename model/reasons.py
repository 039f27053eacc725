"""Reasons: which recent items of a user voted for what is listed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled
from eddyline.model.counts import Counts
from eddyline.model.folding import NEAR
from eddyline.model.links import Links, find_link

__all__ = ["because"]


def because(
    counts: Counts, history: npt.NDArray[np.int32], items: npt.NDArray[np.int32], most: int
) -> npt.NDArray[np.int32]:
    """The recent items that voted most for each listed one.

    Args:
        counts: the counts the list was made with.
        history: rows of the users' last items, newest first, (B, L).
        items: rows of the listed items, (B, K).
        most: how many reasons per item.

    Returns:
        Rows of the reasons, most weight first, -1 beyond, (B, K, most).
    """
    reasons = np.full((*items.shape, most), -1, np.int32)
    _because(history, items, counts.clicks, counts.forward, counts.settings.window, reasons)
    return reasons


@compiled
def _because(
    history: npt.NDArray[np.int32],
    items: npt.NDArray[np.int32],
    clicks: npt.NDArray[np.float32],
    forward: Links,
    window: int,
    out: npt.NDArray[np.int32],
) -> None:
    best = np.zeros(out.shape[2], np.float32)
    for b in range(len(items)):
        for k in range(items.shape[1]):
            if items[b, k] < 0:
                continue
            best[:] = 0.0
            for a in range(min(window, history.shape[1])):
                x = history[b, a]
                if x < 0:
                    continue
                slot = find_link(forward, x, items[b, k])
                if slot < 0:
                    continue
                vote = forward.weight[slot, NEAR] / ((1.0 + a) * np.sqrt(max(clicks[x], np.float32(1.0))))
                again = False
                for j in range(len(best)):
                    again = again or out[b, k, j] == x
                for j in range(len(best)):
                    if not again and vote > best[j]:
                        for later in range(len(best) - 1, j, -1):
                            best[later] = best[later - 1]
                            out[b, k, later] = out[b, k, later - 1]
                        best[j] = vote
                        out[b, k, j] = x
                        break
