"""What a backtest measures. Every figure is a mean over clicks, each answered before it was learned from.

With r the rank of the clicked item (∞ if it was not in the catalogue):

    recall@k = [r ≤ k],   NDCG@k = [r ≤ k] / log2(1 + r),   MRR@k = [r ≤ k] / r

as one item is relevant. Sums are kept by windows, groups and buckets of users, never click by click, so memory does
not grow with the log. Intervals are paired bootstrap percentiles over the buckets of users (a user is always in one
bucket, so clicks of the same user stay together).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from eddyline.model.counts import Counts
from eddyline.model.ranking import PARTS
from eddyline.replay.contender import Answers
from eddyline.replay.ticks import Block

__all__ = ["ACTIVITY", "ITEM_AGE", "SINCE_DRIFT", "Groups", "Scores", "SinceDrift", "compare", "gains"]

BUCKETS = 1000
DRAWS = 2000
LEAST_BUCKETS = 10
"""Samples of fewer are too much alike for an interval."""
_DAY_MS = 86_400_000
ACTIVITY = ("0", "1-4", "5-19", "20+")
ITEM_AGE = ("unseen", "< 1 day", "1-7 days", "> 7 days")
AFTER_DRIFT = 500
SINCE_DRIFT = (f"first {AFTER_DRIFT} clicks", "later")
_PIECES = ("recall", "ndcg", "mrr")


def gains(rank: npt.NDArray[np.int32], k: int) -> npt.NDArray[np.float64]:
    """recall@k, NDCG@k and MRR@k of each rank; a rank of 0 is a miss, (B, 3)."""
    hit = (rank > 0) & (rank <= k)
    at = np.maximum(rank, 1).astype(np.float64)
    return np.stack([hit.astype(np.float64), hit / np.log2(1 + at), hit / at], axis=1)


class SinceDrift:
    """Counts the clicks since the stream last changed.

    Args:
        drifts_ms: event times of the changes, ascending.
    """

    def __init__(self, drifts_ms: Sequence[int]) -> None:
        self._drifts_ms = np.array(drifts_ms, np.int64)
        self._passed = 0
        self._since = -1

    def __call__(self, ts_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many clicks came between the newest change and each of these ones, −1 before any, (B,).

        Args:
            ts_ms: times of the clicks that come next, ascending, (B,).
        """
        passed = np.append(self._passed, np.searchsorted(self._drifts_ms, ts_ms, side="right"))
        place = np.arange(len(ts_ms))
        begun = np.maximum.accumulate(np.where(np.diff(passed) > 0, place, -1))  # place of the first click after it
        going = self._since + 1 + place if self._passed else np.full(len(ts_ms), -1)
        since: npt.NDArray[np.int64] = np.where(begun >= 0, place - begun, going)
        if len(since):
            self._passed, self._since = int(passed[-1]), int(since[-1])
        return since


class Groups:
    """In which groups the clicks of a block are; the same for every model.

    Args:
        block: the clicks.
        first_ms: time of the first click on each item of the catalogue, (I,).
        window: which window of the counted clicks, (B,).
        head: which items are the most clicked ones; others may be newer, (I,).
        since_drift: clicks since the stream last changed, −1 where it did not yet, (B,).

    Attributes:
        window: which window of the counted clicks, (B,).
        bucket: which bucket of users, (B,).
        by: name of a division to each click's group in it, −1 for none, (B,).
    """

    def __init__(
        self,
        block: Block,
        first_ms: npt.NDArray[np.int64],
        window: npt.NDArray[np.int64],
        head: npt.NDArray[np.bool_],
        since_drift: npt.NDArray[np.int64],
    ) -> None:
        row, known = np.maximum(block.target, 0), block.target >= 0
        age_ms = block.clicks.ts_ms - np.append(first_ms, 0)[row]
        self.window = window
        self.bucket = (block.clicks.user_hash % np.uint64(BUCKETS)).astype(np.int64)
        self.by = {
            "activity": np.searchsorted([1, 5, 20], block.before["clicks"], side="right"),
            "item age": np.where(known, 1 + np.searchsorted([_DAY_MS, 7 * _DAY_MS], age_ms, side="right"), 0),
            "popularity": np.where(
                known & (row < len(head)) & np.append(head, False)[np.minimum(row, len(head))], 0, 1
            ),
            "drift": np.where(since_drift < 0, -1, since_drift >= AFTER_DRIFT),
        }


DIVISIONS: Mapping[str, Sequence[str]] = {
    "activity": ACTIVITY,
    "item age": ITEM_AGE,
    "popularity": ("head", "tail"),
    "drift": SINCE_DRIFT,
}


class Scores:
    """The figures of one model.

    Args:
        ks: list lengths, ascending; the last is the main one.
        windows: how many windows the counted clicks are cut in.
    """

    def __init__(self, ks: Sequence[int], windows: int) -> None:
        self.ks = tuple(ks)
        width = len(_PIECES) * len(ks)
        self._by_window = _Sums(windows, width)
        self._by_bucket = _Sums(BUCKETS, width)
        self._by = {name: _Sums(BUCKETS * len(groups), width) for name, groups in DIVISIONS.items()}
        self._published = _Sums(1, width)
        self._loss = np.zeros(2)
        self._sources = np.zeros(len(PARTS))
        self._listed = np.zeros(0, np.bool_)
        self._popularity = np.zeros(3)  # sum of percentiles, sum of -log2 share, items listed

    def add(self, answers: Answers, groups: Groups, scored: npt.NDArray[np.bool_], counts: Counts) -> None:
        """Take in the answers to the clicks of a block that are `scored`, (B,); `counts` know all its items."""
        rank = answers.rank[scored]
        values = np.concatenate([gains(rank, k) for k in self.ks], axis=1)
        self._by_window.add(groups.window[scored], values)
        self._by_bucket.add(groups.bucket[scored], values)
        for name, sums in self._by.items():
            group = groups.by[name][scored]
            sums.add(np.where(group >= 0, group * BUCKETS + groups.bucket[scored], -1), values)
        if answers.published is not None:
            published = np.concatenate([gains(answers.published[scored], k) for k in self.ks], axis=1)
            self._published.add(np.zeros(len(published), np.int64), published)
        loss = answers.loss[scored]
        self._loss += np.nansum(loss), np.isfinite(loss).sum()
        if answers.sources is not None:
            self._sources += answers.sources
        self._add_lists(answers.top[scored], counts)

    def _add_lists(self, top: npt.NDArray[np.int32], counts: Counts) -> None:
        listed = top[top >= 0]
        if not len(listed):
            return
        if len(counts) > len(self._listed):
            self._listed = np.append(self._listed, np.zeros(len(counts) - len(self._listed), np.bool_))
        self._listed[listed] = True
        share = counts.clicks / max(1.0, float(counts.clicks.sum()))
        below = np.searchsorted(np.sort(share), share[listed], side="left") / len(share)
        bits = -np.log2(np.maximum(share[listed], 1e-12))
        self._popularity += below.sum(), bits.sum(), len(listed)

    @property
    def clicks(self) -> int:
        """How many clicks count so far."""
        return int(self._by_window.clicks.sum())

    def recall(self) -> float:
        """Recall at the longest list so far."""
        return float(self._by_window.total()[-len(_PIECES)])

    def figures(self, items: int) -> dict[str, Any]:
        """All figures as a plain dictionary; `items` is the size of the catalogue at the end."""
        k = self.ks[-1]
        listed = max(1.0, self._popularity[2])
        size = np.abs(self._sources).sum()
        return {
            **self._named(self._by_window.total()),
            f"coverage@{k}": float(self._listed.sum() / max(1, items)),
            f"popularity@{k}": float(self._popularity[0] / listed),
            f"novelty@{k}": float(self._popularity[1] / listed),
            "log_loss": float(self._loss[0] / self._loss[1]) if self._loss[1] else None,
            "published": self._named(self._published.total()) if self._published.clicks.sum() else None,
            "sources": dict(zip(PARTS, (self._sources / size).tolist(), strict=True)) if size else None,
            "windows": self._rows(self._by_window),
            "by": {
                name: dict(zip(groups, self._rows(self._by[name].joined(BUCKETS)), strict=True))
                for name, groups in self.divisions.items()
            },
        }

    @property
    def divisions(self) -> Mapping[str, Sequence[str]]:
        """The groups of each division that any click is in."""
        return {name: groups for name, groups in DIVISIONS.items() if self._by[name].clicks.any()}

    def _rows(self, sums: _Sums) -> list[dict[str, Any]]:
        return [
            {"clicks": int(clicks), **self._named(values / max(1.0, clicks))}
            for clicks, values in zip(sums.clicks, sums.values, strict=True)
        ]

    def _named(self, values: npt.NDArray[np.float64]) -> dict[str, float]:
        names = [f"{piece}@{k}" for k in self.ks for piece in _PIECES]
        return dict(zip(names, values.tolist(), strict=True))

    def buckets(
        self, metric: str, division: str | None = None, group: str = ""
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Sums of a metric and clicks, by bucket of users; of all clicks, or of a division's group."""
        names = [f"{piece}@{k}" for k in self.ks for piece in _PIECES]
        sums, begin = self._by_bucket, 0
        if division is not None:
            sums, begin = self._by[division], BUCKETS * DIVISIONS[division].index(group)
        part = slice(begin, begin + BUCKETS)
        return sums.values[part, names.index(metric)], sums.clicks[part]


class _Sums:
    """Sums of values in groups."""

    def __init__(self, groups: int, width: int) -> None:
        self.values = np.zeros((groups, width))
        self.clicks = np.zeros(groups)

    def add(self, group: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        """Add values, (B, …), to their groups, (B,); a group of −1 is none."""
        some = group >= 0
        np.add.at(self.values, group[some], values[some])
        np.add.at(self.clicks, group[some], 1.0)

    def total(self) -> npt.NDArray[np.float64]:
        """Means over everything."""
        mean: npt.NDArray[np.float64] = self.values.sum(0) / max(1.0, float(self.clicks.sum()))
        return mean

    def joined(self, groups: int) -> _Sums:
        """Each `groups` of them that are side by side, as one."""
        joined = _Sums(len(self.clicks) // groups, self.values.shape[1])
        joined.values = self.values.reshape(-1, groups, self.values.shape[1]).sum(1)
        joined.clicks = self.clicks.reshape(-1, groups).sum(1)
        return joined


@lru_cache(4)
def _draws(buckets: int, seed: int) -> npt.NDArray[np.float64]:
    """How often each bucket is drawn in each sample of the bootstrap, (DRAWS, buckets)."""
    random = np.random.default_rng(seed)
    return random.multinomial(buckets, np.full(buckets, 1 / buckets), DRAWS).astype(np.float64)


def compare(
    one: Scores, other: Scores, metric: str, seed: int = 0, division: str | None = None, group: str = ""
) -> dict[str, float | None]:
    """Ratio of a metric, one ÷ other, with the 95 % interval of the paired bootstrap over buckets of users.

    None is what cannot be told: the ratio to nothing, an interval of few buckets, or its end where there is none as the
    other model had nothing in some samples.

    Args:
        one, other: the figures of two models on the same clicks.
        metric: such as `ndcg@20`.
        seed: of the bootstrap.
        division, group: of which clicks, such as `activity` and `0`; None: all.
    """
    a, clicks = one.buckets(metric, division, group)
    b, _ = other.buckets(metric, division, group)
    used = np.flatnonzero(clicks)
    if b.sum() <= 0:
        return {"ratio": None, "low": None, "high": None}
    ratio = float(a.sum() / b.sum())
    if len(used) < LEAST_BUCKETS:
        return {"ratio": ratio, "low": None, "high": None}
    times = _draws(len(used), seed)
    ours, theirs = times @ a[used], times @ b[used]
    some = theirs > 0
    low, high = np.percentile(ours[some] / theirs[some], [2.5, 97.5]).tolist()
    return {"ratio": ratio, "low": low, "high": high if some.all() else None}
