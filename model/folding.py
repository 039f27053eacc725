"""Folding: what one click adds to the counts, compiled.

For a click on item i after the items x_0 (newest), x_1, …, of which the first S belong to the same session, and
with w the weight of the click's kind:

    near[x_k → i]       += w / (1 + k)            windowed forward co-visitation
    session[x_k → i]    += w / (1 + k)  if k < S   the same within the session
    transition[x_0 → i] += w                       what comes right after
    back[i → x_k]       += w / (1 + k)            what came before
    clicks[i]           += w                       undecayed
    popular_j[i]         = popular_j[i] · 2^(−age / halflife_j) + w,  age in clicks of the whole stream
    arrivals[i]          = the same of the clicks that were their user's first
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled
from eddyline.model.item_table import ItemTable, find_row, insert_row
from eddyline.model.links import Links, touch_link
from eddyline.state.evidence import Evidence

__all__ = [
    "BACK",
    "CLOCK_MS",
    "HALF_LIVES",
    "NEAR",
    "PARENTS",
    "POPULAR",
    "SEEN",
    "SESSION",
    "TRANSITION",
    "UNNAMED",
    "Items",
    "Tally",
    "Told",
    "decay",
    "fold_clicks",
    "has_room",
    "introduce",
    "new_items",
    "told",
]

POPULAR = {
    "popular_5": 5,
    "popular_50": 50,
    "popular_500": 500,
    "popular_3000": 3_000,
    "popular_20000": 20_000,
    "arrivals": 4_000,
}
"""The decayed popularities and their half-lives, in clicks of the whole stream; arrivals are users' first clicks."""

HALF_LIVES = tuple(POPULAR.values())
_ARRIVALS = tuple(POPULAR).index("arrivals")

_RATES = np.log(0.5) / np.array(HALF_LIVES)
"""What a decayed popularity is multiplied with at each click, as a logarithm."""

PARENTS = 5
"""How many of its first user's recent items a new item remembers, to start its embedding from."""

NEAR, SESSION, TRANSITION = 0, 1, 2
BACK = 0
SEEN, CLOCK_MS, UNNAMED = 0, 1, 2


class Items(NamedTuple):
    """What is known of each item row, (I, …).

    Attributes:
        hash: of the item's id.
        clicks: undecayed weighted clicks.
        followed: weighted transitions that started here.
        popular: decayed clicks for each half-life as of the click `counted_at`,
            (I, len(HALF_LIVES)).
        counted_at: clicks of the whole stream up to the item's last.
        first_click: clicks of the whole stream before the item's first, -1 before it.
        parents: rows of the last items of its first user, -1 where there was none, (I, PARENTS).
    """

    hash: npt.NDArray[np.uint64]
    clicks: npt.NDArray[np.float32]
    followed: npt.NDArray[np.float32]
    popular: npt.NDArray[np.float32]
    counted_at: npt.NDArray[np.int64]
    first_click: npt.NDArray[np.int64]
    parents: npt.NDArray[np.int32]


class Tally(NamedTuple):
    """All that a fold reads and changes, in place.

    Attributes:
        table: item hash → row.
        items: what is known of each item.
        forward: links x → i with weights near, session, transition.
        backward: links i → x with weight back.
        applied: the last offset folded of each partition.
        clock: clicks folded, newest event time, clicks left out.
        total: all decayed clicks for each half-life.
    """

    table: ItemTable
    items: Items
    forward: Links
    backward: Links
    applied: npt.NDArray[np.int64]
    clock: npt.NDArray[np.int64]
    total: npt.NDArray[np.float64]


class Told(NamedTuple):
    """Evidence of B clicks as the kernels read it; `recent_end` says where each click's recent items end, (B,)."""

    item: npt.NDArray[np.uint64]
    weight: npt.NDArray[np.float32]
    ts_ms: npt.NDArray[np.int64]
    partition: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    recent: npt.NDArray[np.uint64]
    recent_end: npt.NDArray[np.int64]
    session_length: npt.NDArray[np.uint8]


def told(evidence: Evidence) -> Told:
    """The evidence as the kernels read it. What came off the wire is copied: a kernel is compiled for one layout."""
    ends = np.cumsum(evidence.recent_count.astype(np.int64))
    columns: tuple[npt.NDArray[Any], ...] = (
        evidence.item, evidence.weight, evidence.ts_ms, evidence.partition, evidence.offset, evidence.recent, ends,
        evidence.session_length,
    )  # fmt: skip
    return Told(*(np.require(column, requirements=("C", "W")) for column in columns))


def new_items(capacity: int) -> Items:
    """Room for items that are not known yet."""
    return Items(
        np.zeros(capacity, np.uint64),
        np.zeros(capacity, np.float32),
        np.zeros(capacity, np.float32),
        np.zeros((capacity, len(HALF_LIVES)), np.float32),
        np.zeros(capacity, np.int64),
        np.full(capacity, -1, np.int64),
        np.full((capacity, PARENTS), -1, np.int32),
    )


@compiled
def decay(j: int, clicks: int) -> float:
    """What is left of popular_j after so many clicks of the whole stream, e^(rate · clicks).

    Nothing is left below e^−60: smaller numbers count for nothing, and those near the smallest there are take ten
    times as long to compute with.
    """
    exponent = _RATES[j] * clicks
    return np.exp(exponent) if exponent > -60.0 else 0.0


@compiled
def introduce(table: ItemTable, items: Items, item: np.uint64, row: int) -> None:
    """Give a row to an item that has none. Links and parents are counted when its clicks are folded."""
    items.hash[row] = item
    insert_row(table.key, table.row, item, row)


@compiled
def has_room(links: Links, slots: int) -> bool:
    """Whether the pool has so many free slots."""
    return len(links.target) - links.end[0] >= slots  # type: ignore[no-any-return]


@compiled
def fold_clicks(at: int, end: int, evidence: Told, tally: Tally, window: int, most: int) -> int:
    """Fold the clicks from `at` up to `end`; returns where it stopped for want of room in a pool of links."""
    table, items, clock = tally.table, tally.items, tally.clock
    need = most * window
    while at < end and has_room(tally.forward, need) and has_room(tally.backward, need):
        b = at
        at += 1
        if evidence.offset[b] <= tally.applied[evidence.partition[b]]:
            continue
        tally.applied[evidence.partition[b]] = evidence.offset[b]
        row = find_row(table.key, table.row, evidence.item[b])
        if row < 0:
            clock[UNNAMED] += 1
            continue
        w = evidence.weight[b]
        begin = evidence.recent_end[b - 1] if b > 0 else 0
        named = evidence.recent_end[b] - begin
        if items.first_click[row] < 0:
            items.first_click[row] = clock[SEEN]
            kept = 0
            for k in range(named):
                x = find_row(table.key, table.row, evidence.recent[begin + k])
                if x >= 0 and x != row and kept < PARENTS:
                    items.parents[row, kept] = x
                    kept += 1
        for k in range(min(window, named)):
            x = find_row(table.key, table.row, evidence.recent[begin + k])
            if x < 0:
                continue
            share = w / np.float32(1 + k)
            slot = touch_link(tally.forward, x, row, most)
            tally.forward.weight[slot, NEAR] += share
            if k < evidence.session_length[b]:
                tally.forward.weight[slot, SESSION] += share
            if k == 0:
                tally.forward.weight[slot, TRANSITION] += w
                items.followed[x] += w
            slot = touch_link(tally.backward, row, x, most)
            tally.backward.weight[slot, BACK] += share
        clock[SEEN] += 1
        clock[CLOCK_MS] = max(clock[CLOCK_MS], evidence.ts_ms[b])
        age = clock[SEEN] - items.counted_at[row]
        for j in range(len(HALF_LIVES)):
            counted = w if j != _ARRIVALS or named == 0 else np.float32(0.0)
            items.popular[row, j] = items.popular[row, j] * decay(j, age) + counted
            tally.total[j] = tally.total[j] * decay(j, 1) + counted
        items.counted_at[row] = clock[SEEN]
        items.clicks[row] += w
    return at
