"""Packed arrays: any columns travel; anything else is refused."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eddyline.state.errors import UnknownFormat
from eddyline.state.packed import pack, unpack

COLUMNS = {
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "hash": np.array([2**64 - 1, 0], np.uint64),
    "none": np.zeros((0, 4), np.int32),
    "one": np.array(7, np.uint8),
    "turned": np.arange(6, dtype=np.int64).reshape(2, 3).T,
}


def test_columns_are_read_back_with_dtype_and_shape() -> None:
    found = unpack(pack(b"t", 1, COLUMNS), b"t", 1)
    assert list(found) == list(COLUMNS)
    for name, column in COLUMNS.items():
        assert found[name].dtype == column.dtype
        assert found[name].shape == column.shape
        assert np.array_equal(found[name], column)


def test_what_is_read_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        unpack(pack(b"t", 1, COLUMNS), b"t", 1)["hash"][0] = 1


def test_another_kind_is_refused() -> None:
    with pytest.raises(UnknownFormat, match="not a packed 't' message"):
        unpack(pack(b"e", 1, COLUMNS), b"t", 1)


def test_another_version_is_refused_and_the_remedy_named() -> None:
    with pytest.raises(UnknownFormat, match="has format 2, this version reads format 1: upgrade every worker"):
        unpack(pack(b"t", 2, COLUMNS), b"t", 1)


@pytest.mark.parametrize("dtype", ["|O", "|V8", ">u8", "<U3", "nonsense"])
def test_a_column_of_anything_but_numbers_is_refused(dtype: str) -> None:
    body = msgspec.msgpack.encode([["a", dtype, [1], bytes(8)]])
    with pytest.raises(UnknownFormat, match="dtype"):
        unpack(b"EDLt\x01" + body, b"t", 1)


@pytest.mark.parametrize("shape", [[2], [-1, -1], [2**63], [2**64 - 1], [2**40, 2**40]])
def test_a_shape_that_does_not_fit_the_data_is_refused(shape: list[int]) -> None:
    body = msgspec.msgpack.encode([["a", "<u8", shape, bytes(8)]])
    with pytest.raises(UnknownFormat, match="damaged"):
        unpack(b"EDLt\x01" + body, b"t", 1)


@given(st.binary() | st.binary().map(lambda body: b"EDLt\x01" + body))
def test_random_bytes_are_refused(raw: bytes) -> None:
    try:
        columns = unpack(raw, b"t", 1)
    except UnknownFormat:
        return
    assert columns == {}  # an empty list is a message


@given(st.integers(0, len(pack(b"t", 1, COLUMNS)) - 1))
def test_a_truncated_message_is_refused(length: int) -> None:
    with pytest.raises(UnknownFormat):
        unpack(pack(b"t", 1, COLUMNS)[:length], b"t", 1)
