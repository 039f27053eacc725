"""Counts: the fast half of the model, a deterministic fold of the evidence topic.

Whoever folds the same evidence in the same order holds the same counts, bit for bit: every worker, the trainer,
a backtest. That is how a click counts everywhere within a second with no one in the middle.

For a click on item i after the items x_0 (newest), x_1, …, of which the first S belong to the same session, and
with w the weight of the click's kind:

    near[x_k → i]       += w / (1 + k)            windowed forward co-visitation
    session[x_k → i]    += w / (1 + k)  if k < S   the same within the session
    transition[x_0 → i] += w                       what comes right after
    back[i → x_k]       += w / (1 + k)            what came before
    clicks[i]           += w                       undecayed
    popular_j[i]         = popular_j[i] · 2^(−age / halflife_j) + w,  age in clicks of the whole stream
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from eddyline.model.compiled import compiled
from eddyline.model.item_table import ItemTable, find_row, find_rows, insert_row, new_table
from eddyline.model.links import Links, grow_items, grow_pool, new_links, touch_link
from eddyline.state.evidence import Evidence
from eddyline.state.records import hash_id

__all__ = ["BACK", "HALF_LIVES", "NEAR", "PARENTS", "SESSION", "TRANSITION", "Counts", "CountsSettings"]

HALF_LIVES = (500.0, 3_000.0, 20_000.0)
"""Half-lives of the decayed popularities, in clicks of the whole stream."""

PARENTS = 5
"""How many of its first user's recent items a new item remembers, to start its embedding from."""

NEAR, SESSION, TRANSITION = 0, 1, 2
BACK = 0
SEEN, CLOCK_MS, UNNAMED = 0, 1, 2


class CountsSettings(BaseModel):
    """How much is counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbours: int = Field(128, ge=8, le=1024, description="M: links kept per item, the lightest gives way")
    window: int = Field(10, ge=1, le=50, description="Recent clicks of a user that a click is counted after")


class _Items(NamedTuple):
    """What is known of each item row, (I, …)."""

    hash: npt.NDArray[np.uint64]
    clicks: npt.NDArray[np.float32]
    followed: npt.NDArray[np.float32]  # transitions that started here
    popular: npt.NDArray[np.float32]  # (I, 3), as of the click `counted_at`
    counted_at: npt.NDArray[np.int64]
    first_click: npt.NDArray[np.int64]  # clicks of the whole stream before the item's first
    parents: npt.NDArray[np.int32]  # (I, PARENTS), -1 where there was none


class Counts:
    """Item-item links, popularity and the catalogue, as folded so far.

    Attributes:
        ids: item ids, by row; rows are given in the order of the evidence.
        seen: clicks folded so far.
        clock_ms: the newest event time folded.
        forward: links x → i with weights near, session, transition.
        backward: links i → x with weight back.
        most_links: no item has more links than this: M, or a larger M that stored counts were made with.
    """

    def __init__(self, settings: CountsSettings | None = None) -> None:
        self.settings = settings or CountsSettings()
        self.ids: list[str] = []
        self.most_links = self.settings.neighbours
        capacity = 1024
        self._table = new_table(np.zeros(0, np.uint64), capacity)
        self._items = _new_items(capacity)
        self.forward = new_links(capacity, 3)
        self.backward = new_links(capacity, 1)
        self._applied = np.full(16, -1, np.int64)
        self._clock = np.zeros(3, np.int64)
        self._total = np.zeros(len(HALF_LIVES), np.float64)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seen(self) -> int:
        """Clicks folded so far."""
        return int(self._clock[SEEN])

    @property
    def clock_ms(self) -> int:
        """The newest event time folded, 0 before the first."""
        return int(self._clock[CLOCK_MS])

    @property
    def unnamed(self) -> int:
        """Clicks left out because the evidence that named their item was already gone from the topic."""
        return int(self._clock[UNNAMED])

    @property
    def table(self) -> ItemTable:
        """Item hash → row."""
        return self._table

    @property
    def clicks(self) -> npt.NDArray[np.float32]:
        """Undecayed weighted clicks per item, (I,)."""
        return self._items.clicks[: len(self)]

    @property
    def followed(self) -> npt.NDArray[np.float32]:
        """Weighted transitions that started at each item, (I,)."""
        return self._items.followed[: len(self)]

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """Hash of each item's id, (I,)."""
        return self._items.hash[: len(self)]

    @property
    def parents(self) -> npt.NDArray[np.int32]:
        """Rows of the last items of each item's first user, -1 where there was none, (I, PARENTS)."""
        return self._items.parents[: len(self)]

    def rows(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """Rows of the items, -1 where they are not in the evidence yet; same shape."""
        return find_rows(self._table, hashes)

    def age_clicks(self) -> npt.NDArray[np.int64]:
        """Clicks of the whole stream since each item's first, (I,)."""
        age: npt.NDArray[np.int64] = self._clock[SEEN] - self._items.first_click[: len(self)]
        return age

    def popular_shares(self) -> npt.NDArray[np.float32]:
        """Each item's share of the decayed clicks, for each half-life, (I, 3)."""
        items, count = self._items, len(self)
        age = (self.seen - items.counted_at[:count]).astype(np.float32)
        decay = np.exp(age[:, None] * _RATES.astype(np.float32))
        shares: npt.NDArray[np.float32] = items.popular[:count] * decay
        shares /= np.maximum(self._total, 1.0).astype(np.float32)
        return shares

    def fold(self, evidence: Evidence) -> int:
        """Count the clicks that were not counted before, in order; returns how many they were."""
        self._introduce(evidence.new_ids)
        top = int(evidence.partition.max(initial=0))
        if top >= len(self._applied):
            self._applied = np.append(self._applied, np.full(top + 16, -1, np.int64))
        before = self.seen
        ends = np.cumsum(evidence.recent_count.astype(np.int64))
        at, most = 0, self.settings.neighbours
        need = most * self.settings.window
        while at < len(evidence):
            for name in ("forward", "backward"):
                links: Links = getattr(self, name)
                if len(links.target) - links.end[0] < need:
                    setattr(self, name, grow_pool(links, 2 * len(links.target) + need))
            at = _fold(
                at, evidence.item, evidence.weight, evidence.ts_ms, evidence.partition, evidence.offset,
                evidence.recent, ends, evidence.session_length, self._table, self._items, self.forward,
                self.backward, self._applied, self._clock, self._total, _RATES, self.settings.window, most,
            )  # fmt: skip
        return self.seen - before

    def _introduce(self, ids: Any) -> None:
        """Give rows to new items. Links and parents are counted when their clicks are folded."""
        for item_id in ids:
            item = np.uint64(hash_id(item_id))
            if find_row(self._table.key, self._table.row, item) >= 0:
                continue
            row = len(self.ids)
            if row == len(self._items.hash):
                self._grow(2 * row)
            self.ids.append(item_id)
            self._items.hash[row] = item
            insert_row(self._table.key, self._table.row, item, row)

    def _grow(self, capacity: int) -> None:
        old = self._items
        self._items = _new_items(capacity)
        for name in _Items._fields:
            getattr(self._items, name)[: len(old.hash)] = getattr(old, name)
        self._table = new_table(old.hash, capacity)
        self.forward = grow_items(self.forward, capacity)
        self.backward = grow_items(self.backward, capacity)

    def forget_offsets(self) -> None:
        """Go on with another stream, whose offsets begin anew: what is counted stays."""
        self._applied.fill(-1)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything but the ids, as named arrays; `from_arrays` gives the same counts back."""
        count = len(self)
        arrays: dict[str, npt.NDArray[Any]] = {
            f"item.{name}": getattr(self._items, name)[:count] for name in _Items._fields
        }
        for side, links in (("forward", self.forward), ("backward", self.backward)):
            end = int(links.end[0])
            arrays |= {
                f"{side}.start": links.start[:count],
                f"{side}.used": links.used[:count],
                f"{side}.room": links.room[:count],
                f"{side}.target": links.target[:end],
                f"{side}.weight": links.weight[:end],
            }
        arrays |= {"applied": self._applied, "clock": self._clock, "total": self._total}
        return {name: array.copy() for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, settings: CountsSettings, ids: list[str], arrays: Mapping[str, npt.NDArray[Any]]) -> Counts:
        """The counts that `to_arrays` wrote."""
        counts = cls(settings)
        count = len(ids)
        counts._grow(max(1024, 2 * count))
        counts.ids = list(ids)
        for name in _Items._fields:
            getattr(counts._items, name)[:count] = arrays[f"item.{name}"]
        counts._table = new_table(counts.hashes, len(counts._items.hash))
        for side in ("forward", "backward"):
            empty: Links = getattr(counts, side)
            end = len(arrays[f"{side}.target"])
            links = grow_pool(empty, max(1024, end + end // 2))
            for name in ("start", "used", "room"):
                getattr(links, name)[:count] = arrays[f"{side}.{name}"]
            links.target[:end] = arrays[f"{side}.target"]
            links.weight[:end] = arrays[f"{side}.weight"]
            links.end[0] = end
            setattr(counts, side, links)
            counts.most_links = max(counts.most_links, int(links.room.max(initial=0)))
        counts._applied = arrays["applied"].copy()
        counts._clock = arrays["clock"].copy()
        counts._total = arrays["total"].copy()
        return counts


_RATES = np.log(0.5) / np.array(HALF_LIVES)


def _new_items(capacity: int) -> _Items:
    return _Items(
        np.zeros(capacity, np.uint64),
        np.zeros(capacity, np.float32),
        np.zeros(capacity, np.float32),
        np.zeros((capacity, len(HALF_LIVES)), np.float32),
        np.zeros(capacity, np.int64),
        np.full(capacity, -1, np.int64),
        np.full((capacity, PARENTS), -1, np.int32),
    )


@compiled
def _fold(
    at: int,
    item: npt.NDArray[np.uint64],
    weight: npt.NDArray[np.float32],
    ts_ms: npt.NDArray[np.int64],
    partition: npt.NDArray[np.int32],
    offset: npt.NDArray[np.int64],
    recent: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.int64],
    session_length: npt.NDArray[np.uint8],
    table: ItemTable,
    items: _Items,
    forward: Links,
    backward: Links,
    applied: npt.NDArray[np.int64],
    clock: npt.NDArray[np.int64],
    total: npt.NDArray[np.float64],
    rates: npt.NDArray[np.float64],
    window: int,
    most: int,
) -> int:
    """Fold clicks from `at` on; returns where it stopped for want of room in a pool of links."""
    while at < len(item):
        if len(forward.target) - forward.end[0] < most * window:
            return at
        if len(backward.target) - backward.end[0] < most * window:
            return at
        b = at
        at += 1
        if offset[b] <= applied[partition[b]]:
            continue
        applied[partition[b]] = offset[b]
        row = find_row(table.key, table.row, item[b])
        if row < 0:
            clock[UNNAMED] += 1
            continue
        w = weight[b]
        begin = ends[b - 1] if b > 0 else 0
        if items.first_click[row] < 0:
            items.first_click[row] = clock[SEEN]
            kept = 0
            for k in range(begin, ends[b]):
                x = find_row(table.key, table.row, recent[k])
                if x >= 0 and x != row and kept < PARENTS:
                    items.parents[row, kept] = x
                    kept += 1
        for k in range(min(window, ends[b] - begin)):
            x = find_row(table.key, table.row, recent[begin + k])
            if x < 0:
                continue
            share = w / np.float32(1 + k)
            slot = touch_link(forward, x, row, most)
            forward.weight[slot, NEAR] += share
            if k < session_length[b]:
                forward.weight[slot, SESSION] += share
            if k == 0:
                forward.weight[slot, TRANSITION] += w
                items.followed[x] += w
            slot = touch_link(backward, row, x, most)
            backward.weight[slot, BACK] += share
        clock[SEEN] += 1
        clock[CLOCK_MS] = max(clock[CLOCK_MS], ts_ms[b])
        age = clock[SEEN] - items.counted_at[row]
        for j in range(len(rates)):
            items.popular[row, j] = items.popular[row, j] * np.exp(rates[j] * age) + w
            total[j] = total[j] * np.exp(rates[j]) + w
        items.counted_at[row] = clock[SEEN]
        items.clicks[row] += w
    return at
