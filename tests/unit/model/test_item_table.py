"""Item hash → row."""

from __future__ import annotations

import numpy as np

from eddyline.model.item_table import find_row, find_rows, insert_row, new_table


def test_items_are_found_by_their_rows_and_others_are_absent() -> None:
    random = np.random.default_rng(0)
    items = np.unique(random.integers(1, 2**63, 500).astype(np.uint64))
    table = new_table(items, len(items))
    assert np.array_equal(find_rows(table, items), np.arange(len(items)))
    assert (find_rows(table, items + np.uint64(1)) == -1).all()
    assert find_rows(table, items[:6].reshape(2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_items_of_one_slot_do_not_hide_each_other() -> None:
    size = np.uint64(len(new_table(np.zeros(0, np.uint64), 4).key))
    same_slot = np.arange(1, 5, dtype=np.uint64) * size + (size - np.uint64(1))  # the last one: probing wraps around
    assert find_rows(new_table(same_slot, 4), same_slot).tolist() == [0, 1, 2, 3]


def test_an_inserted_item_is_found() -> None:
    table = new_table(np.array([5], np.uint64), 4)
    insert_row(table.key, table.row, np.uint64(9), 1)
    assert find_row(table.key, table.row, np.uint64(9)) == 1
    assert find_row(table.key, table.row, np.uint64(5)) == 0


def test_a_table_is_at_most_half_full() -> None:
    for capacity in (1, 8, 9, 1000, 1024):
        assert len(new_table(np.zeros(0, np.uint64), capacity).key) >= 2 * capacity
