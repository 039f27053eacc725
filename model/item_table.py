"""Item hash → row, for kernels: an open-addressing hash table in two arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled

__all__ = ["ItemTable", "find_row", "find_rows", "insert_row", "new_table"]

ABSENT = -1


class ItemTable(NamedTuple):
    """Hash table of a power-of-two size S, at most half full.

    Attributes:
        key: item hashes, 0 = free slot, (S,).
        row: their rows, (S,).
    """

    key: npt.NDArray[np.uint64]
    row: npt.NDArray[np.int32]


@compiled
def find_row(key: npt.NDArray[np.uint64], row: npt.NDArray[np.int32], item: np.uint64) -> int:
    """The item's row, or -1."""
    mask = np.uint64(len(key) - 1)
    slot = item & mask
    while key[slot] != 0:
        if key[slot] == item:
            return row[slot]  # type: ignore[no-any-return]
        slot = (slot + np.uint64(1)) & mask
    return -1


@compiled
def insert_row(key: npt.NDArray[np.uint64], row: npt.NDArray[np.int32], item: np.uint64, value: int) -> None:
    """Add an item that is not in the table."""
    mask = np.uint64(len(key) - 1)
    slot = item & mask
    while key[slot] != 0:
        slot = (slot + np.uint64(1)) & mask
    key[slot] = item
    row[slot] = value


@compiled
def _find_all(
    key: npt.NDArray[np.uint64],
    row: npt.NDArray[np.int32],
    items: npt.NDArray[np.uint64],
    out: npt.NDArray[np.int32],
) -> None:
    for i in range(len(items)):
        out[i] = find_row(key, row, items[i])


@compiled
def _insert_all(key: npt.NDArray[np.uint64], row: npt.NDArray[np.int32], items: npt.NDArray[np.uint64]) -> None:
    for i in range(len(items)):
        insert_row(key, row, items[i], i)


def new_table(items: npt.NDArray[np.uint64], capacity: int) -> ItemTable:
    """A table of the items, row i for the i-th, with room for `capacity` of them."""
    size = 1 << max(4, (2 * capacity - 1).bit_length())
    table = ItemTable(np.zeros(size, np.uint64), np.zeros(size, np.int32))
    _insert_all(table.key, table.row, items)
    return table


def find_rows(table: ItemTable, items: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    """The rows of the items, -1 where unknown; same shape."""
    flat = np.ascontiguousarray(items).reshape(-1)
    rows = np.empty(len(flat), np.int32)
    _find_all(table.key, table.row, flat, rows)
    return rows.reshape(items.shape)
