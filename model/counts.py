"""Counts: the fast half of the model, a deterministic fold of the evidence topic.

Whoever folds the same evidence in the same order holds the same counts, bit for bit: every worker, the trainer,
a backtest. That is how a click counts everywhere within a second with no one in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from eddyline.model.folding import (
    BACK,
    CLOCK_MS,
    HALF_LIVES,
    NEAR,
    SEEN,
    SESSION,
    TRANSITION,
    UNNAMED,
    Items,
    Tally,
    fold_clicks,
    has_room,
    introduce,
    new_items,
    told,
)
from eddyline.model.item_table import ItemTable, find_row, find_rows, new_table
from eddyline.model.links import Links, grow_items, grow_pool, new_links
from eddyline.state.evidence import Evidence
from eddyline.state.records import hash_id

__all__ = ["BACK", "NEAR", "SESSION", "TRANSITION", "Counts", "CountsSettings"]


class CountsSettings(BaseModel):
    """How much is counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    neighbours: int = Field(128, ge=8, le=1024, description="M: links kept per item, the lightest gives way")
    window: int = Field(10, ge=1, le=50, description="Recent clicks of a user that a click is counted after")


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
        self._items = new_items(capacity)
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

    @property
    def tally(self) -> Tally:
        """All that a fold changes, for the kernels; good until there is more room for something."""
        return Tally(self._table, self._items, self.forward, self.backward, self._applied, self._clock, self._total)

    def fold(self, evidence: Evidence) -> int:
        """Count the clicks that were not counted before, in order; returns how many they were."""
        self.prepare(evidence)
        for item_id in evidence.new_ids:
            item = np.uint64(hash_id(item_id))
            if find_row(self._table.key, self._table.row, item) < 0:
                introduce(self._table, self._items, item, len(self.ids))
                self.ids.append(item_id)
        before, clicks = self.seen, told(evidence)
        at, most, window = 0, self.settings.neighbours, self.settings.window
        while at < len(evidence):
            self.make_room(1)
            at = fold_clicks(at, len(evidence), clicks, self.tally, window, most)
        return self.seen - before

    def prepare(self, evidence: Evidence) -> None:
        """Make room for the evidence's new items and its partitions."""
        items = len(self.ids) + len(evidence.new_ids)
        if items > len(self._items.hash):
            self._grow(max(items, 2 * len(self._items.hash)))
        top = int(evidence.partition.max(initial=0))
        if top >= len(self._applied):
            self._applied = np.append(self._applied, np.full(top + 16, -1, np.int64))

    def make_room(self, clicks: int) -> None:
        """Make room for the links that so many clicks can add at most."""
        need = clicks * self.settings.neighbours * self.settings.window
        for name in ("forward", "backward"):
            links: Links = getattr(self, name)
            if not has_room(links, need):
                setattr(self, name, grow_pool(links, 2 * len(links.target) + need))

    def _grow(self, capacity: int) -> None:
        old = self._items
        self._items = new_items(capacity)
        for name in Items._fields:
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
            f"item.{name}": getattr(self._items, name)[:count] for name in Items._fields
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
        for name in Items._fields:
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
