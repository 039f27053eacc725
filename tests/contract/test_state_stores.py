"""What every state store promises, whatever it keeps its rows in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eddyline.state.errors import EddylineError
from eddyline.state.memory_store import MemoryStateStore
from eddyline.state.rocks_store import RocksStateStore
from eddyline.state.store import Erasure, PartitionStore, StateSettings, StateStore, now_ms

STORES: dict[str, Callable[[Path], StateStore]] = {
    "memory": lambda _folder: MemoryStateStore(),
    "rocks": lambda folder: RocksStateStore(StateSettings(folder=folder, block_cache_mib=8, write_buffer_mib=4)),
}

# Any bytes may be a user id or a state, also those that look like a store's own bookkeeping.
ROWS = {
    b"ann": b"1",
    b"bob": bytes(3000),
    b"head": b"h",
    b"u": b"",
    "zoë".encode(): b"\x00\xff",
    b"\x00": b"z",
    b"\xff\xff": b"f",
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    with STORES[request.param](tmp_path) as made:
        yield made


@pytest.fixture
def part(store: StateStore) -> PartitionStore:
    return store.open(3)


def test_a_new_store_is_empty_and_stands_nowhere_in_the_changelog(part: PartitionStore) -> None:
    assert part.partition == 3
    assert part.changelog_offset is None
    assert abs(part.caught_up_ms - now_ms()) < 60_000
    assert len(part) == 0
    assert list(part.items()) == []
    assert part.scan(None, 10) == []
    assert part.get([b"ann"]) == [None]
    assert part.get([]) == []


def test_what_is_written_is_read_back_in_the_order_asked(part: PartitionStore) -> None:
    part.write(ROWS, 6)
    assert part.get([b"bob", b"nobody", b"u", b"ann", b"bob"]) == [
        ROWS[b"bob"],
        None,
        b"",
        b"1",
        ROWS[b"bob"],
    ]
    assert part.changelog_offset == 6
    assert len(part) == len(ROWS)
    assert list(part.items()) == sorted(ROWS.items())


def test_the_newest_write_wins_and_none_deletes(part: PartitionStore) -> None:
    part.write(ROWS, 6)
    part.write({b"ann": b"2", b"bob": Erasure(8), b"nobody": Erasure(3)}, 9)
    assert part.get([b"ann", b"bob", b"nobody"]) == [b"2", None, None]
    assert len(part) == len(ROWS) - 1
    part.write({b"bob": b"back"}, 10)
    assert len(part) == len(ROWS) == len(list(part.items()))


def test_erasures_are_remembered_until_the_user_is_back_or_they_are_dropped(
    store: StateStore, part: PartitionStore
) -> None:
    users = [b"ann", b"bob", b"head", b"nobody"]
    part.write(dict.fromkeys(users[:3], b"1"), 3)
    assert part.erased(users) == [None] * 4
    part.write({b"ann": Erasure(4), b"head": Erasure(5), b"nobody": Erasure(-1)}, 6)
    assert part.erased(users) == [4, None, 5, -1]
    assert part.erased([]) == []
    part.write({b"ann": b"2", b"head": Erasure(8)}, 9)
    assert part.erased(users) == [None, None, 8, -1]
    assert part.scan(None, 9) == [(b"ann", b"2"), (b"bob", b"1")]
    store.close(3)
    again = store.open(3)
    again.drop_erasures(now_ms() - 60_000)
    assert again.erased(users) == [None, None, 8, -1]
    again.drop_erasures(now_ms() + 60_000)
    assert again.erased(users) == [None] * 4
    assert len(list(again.items())) == len(again) == 2
    again.write({b"bob": Erasure(3)}, 10)
    again.clear(0)
    assert again.erased(users) == [None] * 4


def test_an_empty_write_moves_the_offset_alone(part: PartitionStore) -> None:
    part.write({b"ann": b"1"}, 0)
    part.write({}, 41)
    part.write({}, 41)
    assert part.changelog_offset == 41
    assert part.get([b"ann"]) == [b"1"]


@pytest.mark.parametrize("offset", [-1, 4])
def test_an_offset_that_goes_backwards_is_refused_and_nothing_is_written(part: PartitionStore, offset: int) -> None:
    part.write({b"ann": b"1"}, 5)
    with pytest.raises(ValueError, match=f"changelog offset {offset} after 5"):
        part.write({b"ann": b"2"}, offset)
    assert part.get([b"ann"]) == [b"1"]
    assert part.changelog_offset == 5


def test_the_caught_up_time_is_now_unless_given(part: PartitionStore) -> None:
    part.write({}, 1, caught_up_ms=1234)
    assert part.caught_up_ms == 1234
    part.write({}, 2)
    assert abs(part.caught_up_ms - now_ms()) < 60_000


def test_clear_starts_the_changelog_anew(part: PartitionStore) -> None:
    part.write(ROWS, 6)
    part.clear(99)
    assert part.changelog_offset is None
    assert part.caught_up_ms == 99
    assert len(part) == 0
    assert list(part.items()) == []
    assert part.get(list(ROWS)) == [None] * len(ROWS)
    part.write({b"ann": b"1"}, 0)
    assert list(part.items()) == [(b"ann", b"1")]


def test_rows_outlive_closing_and_partitions_are_apart(store: StateStore) -> None:
    store.open(0).write({b"ann": b"0"}, 10, caught_up_ms=77)
    store.open(1).write({b"ann": b"1", b"bob": b"1"}, 20)
    assert store.partitions == [0, 1]
    store.close(0)
    assert store.partitions == [1]
    again = store.open(0)
    assert (again.get([b"ann"]), again.changelog_offset, again.caught_up_ms, len(again)) == (
        [b"0"],
        10,
        77,
        1,
    )
    assert store.open(1).get([b"ann"]) == [b"1"]


def test_opening_twice_gives_the_same_store_and_closing_what_is_closed_is_fine(store: StateStore) -> None:
    assert store.open(0) is store.open(0)
    store.close(0)
    store.close(0)
    store.close(7)
    assert store.partitions == []


def test_items_are_a_snapshot(part: PartitionStore) -> None:
    part.write({b"ann": b"1", b"bob": b"1"}, 1)
    rows = part.items()
    assert next(rows) == (b"ann", b"1")
    part.write({b"bob": b"2", b"cid": b"2"}, 2)
    assert list(rows) == [(b"bob", b"1")]


def test_scan_walks_in_slices_from_any_key(part: PartitionStore) -> None:
    rows = {b"user-%03d" % n: b"%d" % n for n in range(25)}
    part.write(rows, 0)
    found: list[tuple[bytes, bytes]] = []
    start = None
    while slice_ := part.scan(start, 10):
        assert len(slice_) <= 10
        found += slice_
        start = slice_[-1][0] + b"\0"
    assert found == sorted(rows.items())
    assert part.scan(b"user-0205", 2) == [(b"user-021", b"21"), (b"user-022", b"22")]
    assert part.scan(b"v", 2) == []


def test_a_closed_partition_says_so(store: StateStore) -> None:
    part = store.open(2)
    part.write({b"ann": b"1", b"bob": b"1"}, 0)
    rows = part.items()
    next(rows)
    store.close(2)
    for use in (
        lambda: part.get([b"ann"]),
        lambda: part.write({}, 1),
        lambda: part.clear(0),
        lambda: part.scan(None, 1),
        part.items,
        lambda: len(part),
        lambda: next(rows),
    ):
        with pytest.raises(EddylineError, match=r"partition 2 .*closed"):
            use()
    assert store.open(2).get([b"ann"]) == [b"1"]


def test_a_closed_state_store_opens_nothing(store: StateStore) -> None:
    part = store.open(0)
    store.close_all()
    store.close_all()
    assert store.partitions == []
    with pytest.raises(EddylineError, match="closed"):
        store.open(0)
    with pytest.raises(EddylineError, match="closed"):
        part.get([b"ann"])
