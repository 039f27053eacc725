"""Kernels over scores: what is added to them, and what is read off them while they stay in the cache."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled
from eddyline.model.dense import SCORED
from eddyline.model.elementary import exp, halved_sum

__all__ = [
    "add_dense",
    "add_sparse",
    "exclude",
    "find_places",
    "log_sums",
    "ranks",
    "strongest",
    "take_each",
    "top",
    "weigh",
]

_SCORED = len(SCORED)


@compiled
def add_dense(
    scores: npt.NDArray[np.float32],
    moment: npt.NDArray[np.int64],
    known: npt.NDArray[np.int64],
    dense: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
) -> None:
    """Add the dense evidence of each user's moment, weighed; −∞ for what was not known then.

    Args:
        scores: (B, I), changed.
        moment: of each user, (B,).
        known: items known at each moment, (M,).
        dense: (M, len(SCORED), I).
        weight: (B, len(SCORED)).
    """
    for b in range(len(scores)):
        items, of, w, to = known[moment[b]], dense[moment[b]], weight[b], scores[b]
        for i in range(items):
            total = np.float32(0.0)
            for k in range(_SCORED):  # a constant: this is unrolled, and the outer loop becomes vector instructions
                total += w[k] * of[k, i]
            to[i] += total
        to[items:] = -np.inf


@compiled
def weigh(
    start: npt.NDArray[np.int64],
    evidence: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Add the sparse evidence of each user's candidates, from `start` (B + 1,) on, weighed by the user's gate."""
    for b in range(len(weight)):
        w = weight[b]
        for n in range(start[b], start[b + 1]):
            of, total = evidence[n], np.float32(0.0)
            for k in range(len(w)):
                total += w[k] * of[k]
            out[n] += total


@compiled
def log_sums(scores: npt.NDArray[np.float32], most: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
    """The logarithm of each user's Σ exp(score); `most` is the highest score of each, (B,)."""
    each = np.empty(scores.shape[1], np.float32)
    for b in range(len(scores)):
        of, highest = scores[b], most[b]
        for i in range(len(of)):
            each[i] = exp(of[i] - highest)
        out[b] = highest + np.log(halved_sum(each))


@compiled
def add_sparse(
    scores: npt.NDArray[np.float32],
    start: npt.NDArray[np.int64],
    item: npt.NDArray[np.int32],
    sparse: npt.NDArray[np.float32],
) -> None:
    """Add what each user's candidates, from `start` (B + 1,) on, have beyond the others."""
    for b in range(len(scores)):
        for n in range(start[b], start[b + 1]):
            scores[b, item[n]] += sparse[n]


@compiled
def exclude(scores: npt.NDArray[np.float32], seen: npt.NDArray[np.int32]) -> None:
    """−∞ for the rows that each user has seen, (B, H), -1 for none."""
    for b in range(len(seen)):
        for h in range(seen.shape[1]):
            if seen[b, h] >= 0:
                scores[b, seen[b, h]] = -np.inf


@compiled
def top(scores: npt.NDArray[np.float32], row: npt.NDArray[np.int32], score: npt.NDArray[np.float32]) -> None:
    """The K highest scores of each user and their rows, best first; of equal ones the lower row first.

    One pass with a short sorted list is several times faster than a general top-k: almost every score ends at
    its first comparison. -1 and −∞ stay where there are no more.
    """
    K = row.shape[1]
    for b in range(len(scores)):
        least = np.float32(-np.inf)
        for i in range(scores.shape[1]):
            if scores[b, i] > least:
                k = K - 1
                while k > 0 and score[b, k - 1] < scores[b, i]:
                    score[b, k] = score[b, k - 1]
                    row[b, k] = row[b, k - 1]
                    k -= 1
                score[b, k] = scores[b, i]
                row[b, k] = i
                least = score[b, K - 1]


@compiled
def ranks(
    scores: npt.NDArray[np.float32],
    items: npt.NDArray[np.int64],
    target: npt.NDArray[np.int32],
    out: npt.NDArray[np.int32],
) -> None:
    """How many of the first `items` (B,) score as high as the target, itself included; 0 where it is unknown."""
    for b in range(len(target)):
        if target[b] >= 0:
            of = scores[b]
            own = of[target[b]]
            above = np.int32(0)
            for i in range(items[b]):
                above += np.int32(of[i] >= own)
            out[b] = above


@compiled
def strongest(
    scores: npt.NDArray[np.float32],
    start: npt.NDArray[np.int64],
    item: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    most: int,
    out: npt.NDArray[np.bool_],
) -> None:
    """Mark each user's `most` candidates of the highest score, and the target if it is a candidate."""
    for b in range(len(target)):
        begin, end = start[b], start[b + 1]
        least = np.float32(-np.inf)
        if end - begin > most:
            z = np.empty(end - begin, np.float32)
            for n in range(begin, end):
                z[n - begin] = scores[b, item[n]]
            least = np.partition(z, len(z) - most)[len(z) - most]
        kept = 0
        for n in range(begin, end):
            if scores[b, item[n]] >= least and kept < most:
                out[n] = True
                kept += 1
            elif item[n] == target[b]:
                out[n] = True


@compiled
def find_places(
    user: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    item: npt.NDArray[np.int32],
    row: npt.NDArray[np.int32],
    out: npt.NDArray[np.int64],
) -> None:
    """Where each listed item stands among its user's candidates, -1 where it is none."""
    for b in range(len(row)):
        for n in range(start[user[b]], start[user[b] + 1]):
            for k in range(row.shape[1]):
                if row[b, k] == item[n]:
                    out[b, k] = n
                    break


@compiled
def take_each(
    dense: npt.NDArray[np.float32],
    moment: npt.NDArray[np.int64],
    row: npt.NDArray[np.int32],
    out: npt.NDArray[np.float32],
) -> None:
    """The dense evidence (M, E, I) of each of the rows (n,) at its own moment (n,), (n, E)."""
    for n in range(len(row)):
        for k in range(out.shape[1]):
            out[n, k] = dense[moment[n], k, row[n]]
