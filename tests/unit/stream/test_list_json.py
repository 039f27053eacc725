"""The kernel that writes lists, beside msgspec."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from eddyline.model.ranking import PARTS, Lists
from eddyline.state.records import Parts, RankedItem, Why
from eddyline.stream.list_json import ItemNames, items_json

IDS = ["plain", 'say "hi"\\', "naïve ☕", "tab\tand\nline", "x" * 300]
NUMBERS = [0.0, -0.0, 1.0, -1.5, 12.3456, -0.0004, 0.00004, 99_999.5, -1e9, 1e-30, 7.0001]


def some_lists(reasons: int = 2) -> Lists:
    random = np.random.default_rng(0)
    U, K = 40, 7
    item = random.integers(0, len(IDS), (U, K)).astype(np.int32)
    for u in range(U):
        item[u, random.integers(0, K + 1) :] = -1
    because = random.integers(-1, len(IDS), (U, K, reasons)).astype(np.int32)
    score = random.choice(NUMBERS, (U, K)).astype(np.float32)
    parts = random.choice(NUMBERS, (U, K, len(PARTS))).astype(np.float32)
    return Lists(item, score, parts, because)


def names() -> ItemNames:
    names = ItemNames()
    names.grow(IDS[:2])
    names.grow(IDS)
    return names


def as_objects(lists: Lists, explained: bool) -> list[list[RankedItem]]:
    return [
        [
            RankedItem(
                IDS[row],
                pytest.approx(float(lists.score[u, k]), abs=6e-5, rel=1e-7),
                Why(
                    Parts(*(pytest.approx(float(part), abs=6e-4, rel=1e-7) for part in lists.parts[u, k])),
                    [IDS[x] for x in lists.because[u, k] if x >= 0],
                )
                if explained
                else None,
            )
            for k, row in enumerate(lists.item[u].tolist())
            if row >= 0
        ]
        for u in range(len(lists.item))
    ]


@pytest.mark.parametrize("reasons", [0, 1, 3])
def test_what_is_read_back_is_what_was_ranked(reasons: int) -> None:
    lists = some_lists(reasons)
    read = [msgspec.json.decode(raw, type=list[RankedItem]) for raw in items_json(lists, names())]
    assert read == as_objects(lists, explained=True)


def test_without_reasons_there_is_no_why() -> None:
    some = some_lists()
    lists = Lists(some.item, some.score, np.zeros((len(some.item), 0, 0), np.float32), some.because[:, :0, :0])
    raw = items_json(lists, names())
    assert [msgspec.json.decode(one, type=list[RankedItem]) for one in raw] == as_objects(lists, explained=False)
    assert not any(b"why" in one for one in raw)


def test_it_writes_what_msgspec_writes() -> None:
    lists = Lists(
        np.array([[0, 1]], np.int32),
        np.array([[2.5, -1.0]], np.float32),
        np.array([[[2.5, 0, 0, 0, 0], [0, 0, 0, 0.25, -1.25]]], np.float32),
        np.array([[[2, -1], [-1, -1]]], np.int32),
    )
    same = [
        RankedItem(IDS[0], 2.5, Why(Parts(neural=2.5), [IDS[2]])),
        RankedItem(IDS[1], -1.0, Why(Parts(history=0.25, pattern=-1.25))),
    ]
    assert items_json(lists, names()) == [msgspec.json.encode(same)]


def test_a_number_that_is_none_reads_as_null() -> None:
    lists = Lists(
        np.zeros((1, 1), np.int32),
        np.full((1, 1), np.nan, np.float32),
        np.zeros((1, 0, 0), np.float32),
        np.zeros((1, 0, 0), np.int32),
    )
    assert items_json(lists, names()) == [b'[{"item_id":"plain","score":null}]']


def test_no_users_and_no_items() -> None:
    nothing = Lists(
        np.full((2, 3), -1, np.int32),
        np.full((2, 3), -np.inf, np.float32),
        np.zeros((2, 0, 0), np.float32),
        np.zeros((2, 0, 0), np.int32),
    )
    assert items_json(nothing, ItemNames()) == [b"[]", b"[]"]
    assert items_json(Lists(*(array[:0] for array in nothing)), names()) == []
