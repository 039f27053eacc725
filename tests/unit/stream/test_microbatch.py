"""Records of the clicks topic as micro-batches."""

from __future__ import annotations

import json
from typing import NamedTuple

from eddyline.model.clicks import ClickSettings
from eddyline.stream.microbatch import Forget, MicroBatch, User, micro_batches


class Record(NamedTuple):
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: float = 1.5


def click(user: str, item: str, partition: int, offset: int, **fields: object) -> Record:
    value = {"event_id": f"e{offset}", "user_id": user, "item_id": item, "ts_ms": 1000 + offset, "kind": "click"}
    return Record(partition, offset, user.encode(), json.dumps(value | fields).encode())


def test_clicks_are_grouped_by_user_in_their_order() -> None:
    records = [click("ann", "a", 0, 5), click("bob", "b", 1, 2), click("ann", "c", 0, 6), click("zoë", "a", 1, 3)]
    (batch,), dead = micro_batches(records, ClickSettings())
    assert dead == []
    assert isinstance(batch, MicroBatch)
    assert [one.item_id for one in batch.clicks] == ["a", "b", "c", "a"]
    assert batch.rows == [0, 1, 0, 2]
    assert batch.positions == [(0, 5), (1, 2), (0, 6), (1, 3)]
    assert batch.users == {User(0, b"ann"): 0, User(1, b"bob"): 1, User(1, "zoë".encode()): 2}
    assert [one.item_id for one in batch.newest] == ["c", "b", "a"]
    assert batch.arrived_ms == [1500.0] * 4


def test_a_user_of_two_partitions_has_two_states() -> None:
    (batch,), _ = micro_batches([click("ann", "a", 0, 5), click("ann", "b", 1, 2)], ClickSettings())
    assert isinstance(batch, MicroBatch)
    assert batch.users == {User(0, b"ann"): 0, User(1, b"ann"): 1}


def test_an_erasure_stands_exactly_where_it_stood() -> None:
    records = [
        click("ann", "a", 0, 1),
        Record(0, 2, b"ann", None),
        Record(0, 3, b"bob", None),
        click("ann", "b", 0, 4),
        click("bob", "b", 0, 5),
    ]
    parts, dead = micro_batches(records, ClickSettings())
    assert dead == []
    first, ann, bob, second = parts
    assert isinstance(first, MicroBatch)
    assert [one.event_id for one in first.clicks] == ["e1"]
    assert (ann, bob) == (Forget(User(0, b"ann"), 2), Forget(User(0, b"bob"), 3))
    assert isinstance(second, MicroBatch)
    assert [one.event_id for one in second.clicks] == ["e4", "e5"]


def test_a_bad_record_is_set_apart_with_its_bytes_and_the_others_go_on() -> None:
    records = [
        click("ann", "a", 0, 1),
        Record(0, 2, b"k", b"not JSON"),
        click("ann", "", 0, 3),
        Record(0, 4, None, None),  # a tombstone of nobody
        click("ann", "b", 0, 5),
    ]
    (batch,), dead = micro_batches(records, ClickSettings())
    assert isinstance(batch, MicroBatch)
    assert [one.event_id for one in batch.clicks] == ["e1", "e5"]
    assert [(one.partition, one.offset, one.key) for one in dead] == [(0, 2, b"k"), (0, 3, b"ann"), (0, 4, None)]
    assert dead[0].value == b"not JSON"
    assert dead[1].error.field == "item_id"


def test_kinds_of_weight_0_are_left_out() -> None:
    records = [click("ann", "a", 0, 1, kind="impression"), click("bob", "b", 0, 2)]
    settings = ClickSettings(weights={"impression": 0.0})
    (batch,), dead = micro_batches(records, settings)
    assert isinstance(batch, MicroBatch)
    assert list(batch.users) == [User(0, b"bob")]
    assert dead == []
    assert micro_batches(records[:1], settings) == ([], [])
