"""Examples on their topic."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eddyline.state.errors import UnknownFormat
from eddyline.state.evidence import Evidence
from eddyline.state.examples import Examples
from eddyline.state.packed import pack, unpack

EXAMPLES = Examples(
    encoder=np.array([2**64 - 1], np.uint64),
    model_version=np.array([4], np.int64),
    user=np.array([1, 2], np.uint64),
    item=np.array([3, 4], np.uint64),
    ts_ms=np.array([5, 6], np.int64),
    partition=np.array([0, 1], np.int32),
    offset=np.array([7, 8], np.int64),
    weight=np.array([1.0, 0.5], np.float32),
    rank=np.array([1, 0], np.int32),
    popular_rank=np.array([2, 0], np.int32),
    h=np.ones((2, 8), np.float16),
    ring=np.ones((2, 4, 8), np.float16),
    ring_length=np.array([1, 4], np.uint8),
    history=np.array([[0, -1], [1, 0]], np.int32),
    context=np.zeros((2, 7), np.float32),
    start=np.array([0, 1, 1], np.int32),
    candidate=np.array([1], np.int32),
    evidence=np.zeros((1, 14), np.float16),
    dense=np.zeros((1, 5), np.float16),
    moment=np.array([0, 1], np.uint8),
    known=np.array([2, 2], np.int32),
    pool=np.array([0, 1], np.int32),
    pool_dense=np.zeros((2, 5, 2), np.float16),
    pool_log_odds=np.zeros(2, np.float32),
    forget=np.zeros(0, np.uint64),
)


def test_examples_are_read_back() -> None:
    found = Examples.decode(EXAMPLES.encode())
    assert len(found) == 2
    for field in fields(Examples):
        before, after = getattr(EXAMPLES, field.name), getattr(found, field.name)
        assert (after.dtype, after.shape) == (before.dtype, before.shape)
        assert np.array_equal(after, before)


def test_a_user_to_forget_travels_without_examples() -> None:
    found = Examples.decode(Examples.of_forgotten(2**64 - 1, 3).encode())
    assert len(found) == 0
    assert found.forget.tolist() == [2**64 - 1]
    assert found.partition.tolist() == [3]


def test_some_of_them_keep_what_is_theirs() -> None:
    two = replace(
        EXAMPLES,
        start=np.array([0, 1, 3], np.int32),
        candidate=np.array([1, 0, 1], np.int32),
        evidence=np.arange(3 * 14).reshape(3, 14).astype(np.float16),
        dense=np.arange(3 * 5).reshape(3, 5).astype(np.float16),
    )
    last = two.only(np.array([False, True]))
    assert len(last) == 1
    assert last.start.tolist() == [0, 2]
    assert last.candidate.tolist() == [0, 1]
    assert np.array_equal(last.evidence, two.evidence[1:])
    assert np.array_equal(last.dense, two.dense[1:])
    for name in ("user", "item", "offset", "weight", "h", "ring", "history", "context", "moment"):
        assert np.array_equal(getattr(last, name), getattr(two, name)[1:]), name
    for name in ("encoder", "known", "pool", "pool_dense", "pool_log_odds", "forget"):
        assert np.array_equal(getattr(last, name), getattr(two, name)), name
    none = two.only(np.zeros(2, np.bool_))
    assert (len(none), none.start.tolist(), len(none.candidate)) == (0, [0], 0)


def test_all_of_them_are_the_same_again() -> None:
    again = EXAMPLES.only(np.ones(2, np.bool_))
    for field in fields(Examples):
        assert np.array_equal(getattr(again, field.name), getattr(EXAMPLES, field.name)), field.name
        assert getattr(again, field.name).dtype == getattr(EXAMPLES, field.name).dtype


def test_evidence_is_not_examples() -> None:
    with pytest.raises(UnknownFormat, match="not a packed 'e' message"):
        Evidence.decode(EXAMPLES.encode())


@pytest.mark.parametrize("change", ["missing", "added"])
def test_missing_or_unknown_columns_are_refused_and_named(change: str) -> None:
    columns = unpack(EXAMPLES.encode(), b"x", 5)
    if change == "missing":
        del columns["ring"]
    else:
        columns["rung"] = columns["ring"]
    with pytest.raises(UnknownFormat, match=r"r[iu]ng"):
        Examples.decode(pack(b"x", 5, columns))


@given(st.data())
def test_a_damaged_byte_is_refused_or_changes_a_number(data: st.DataObject) -> None:
    raw = bytearray(EXAMPLES.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    if at < 5:
        with pytest.raises(UnknownFormat):
            Examples.decode(bytes(raw))
        return
    try:
        found = Examples.decode(bytes(raw))
    except UnknownFormat:
        return
    assert len(found) == 2
