"""Weighted links from item to item, at most M per item, in one growing pool of slots.

An item's links lie side by side in the pool; a full block moves to one of double size, up to M. At M the
lightest link gives way to a new one, so memory is bounded by the catalogue, whatever the length of the stream.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled

__all__ = ["FIRST_ROOM", "Links", "find_link", "grow_items", "grow_pool", "new_links", "touch_link"]

FIRST_ROOM = 8


class Links(NamedTuple):
    """Links of I items in a pool of P slots, W weights each.

    Attributes:
        start, used, room: an item's block in the pool: where, how many links, how many slots, (I,).
        target: item row a link leads to, (P,).
        weight: its weights, (P, W); the first decides which link gives way.
        end: the first free slot of the pool, (1,).
    """

    start: npt.NDArray[np.int64]
    used: npt.NDArray[np.int32]
    room: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]
    end: npt.NDArray[np.int64]


def new_links(items: int, weights: int, pool: int = 1024) -> Links:
    """No links yet, with room for `items` items."""
    return Links(
        np.zeros(items, np.int64),
        np.zeros(items, np.int32),
        np.zeros(items, np.int32),
        np.zeros(pool, np.int32),
        np.zeros((pool, weights), np.float32),
        np.zeros(1, np.int64),
    )


def grow_items(links: Links, items: int) -> Links:
    """The same links with room for `items` items."""
    extra = items - len(links.start)
    return links._replace(
        start=np.append(links.start, np.zeros(extra, np.int64)),
        used=np.append(links.used, np.zeros(extra, np.int32)),
        room=np.append(links.room, np.zeros(extra, np.int32)),
    )


def grow_pool(links: Links, pool: int) -> Links:
    """The same links in a pool of `pool` slots."""
    target = np.zeros(pool, np.int32)
    weight = np.zeros((pool, links.weight.shape[1]), np.float32)
    target[: len(links.target)] = links.target
    weight[: len(links.weight)] = links.weight
    return links._replace(target=target, weight=weight)


@compiled
def find_link(links: Links, source: int, target: int) -> int:
    """The pool slot of the link, or -1."""
    start = links.start[source]
    for slot in range(start, start + links.used[source]):
        if links.target[slot] == target:
            return slot
    return -1


@compiled
def touch_link(links: Links, source: int, target: int, most: int) -> int:
    """The pool slot of the link from source to target, made with zero weights where there was none.

    The caller has seen to it that the pool has `most` free slots.
    """
    slot = find_link(links, source, target)
    if slot >= 0:
        return slot
    start, used, room = links.start[source], links.used[source], links.room[source]
    if used == room and room < most:
        bigger = FIRST_ROOM if room == 0 else min(2 * room, most)
        moved = links.end[0]
        links.end[0] += bigger
        for i in range(used):
            links.target[moved + i] = links.target[start + i]
            links.weight[moved + i] = links.weight[start + i]
        links.start[source] = start = moved
        links.room[source] = room = bigger
    if used < room:
        slot = start + used
        links.used[source] += 1
    else:
        slot = start
        for other in range(start + 1, start + used):
            if links.weight[other, 0] < links.weight[slot, 0]:
                slot = other
    links.target[slot] = target
    links.weight[slot] = 0.0
    return slot
