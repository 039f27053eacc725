"""Evidence on its topic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eddyline.state.errors import UnknownFormat
from eddyline.state.evidence import Evidence
from eddyline.state.records import hash_id


@pytest.fixture(scope="module")
def evidence(make_evidence: Callable[..., Evidence]) -> Evidence:
    return make_evidence([("a", [], 0), ("zoë", ["a"], 1), ("", ["zoë", "a"], 1)], first=5, partition=2)


def test_evidence_is_read_back(evidence: Evidence) -> None:
    found = Evidence.decode(evidence.encode())
    assert len(found) == 3
    assert found.new_ids == ["a", "zoë", ""]
    for field in fields(Evidence):
        assert np.array_equal(getattr(found, field.name), getattr(evidence, field.name))


def test_no_clicks_are_evidence_too(make_evidence: Callable[..., Evidence]) -> None:
    found = Evidence.decode(make_evidence([]).encode())
    assert len(found) == 0
    assert found.new_ids == []


def test_columns_that_do_not_belong_together_are_refused(evidence: Evidence) -> None:
    wrong = [
        replace(evidence, recent=evidence.recent[:-1]),
        replace(evidence, recent_count=evidence.recent_count + np.uint8(1)),
        replace(evidence, weight=evidence.weight[:-1]),
        replace(evidence, ts_ms=evidence.ts_ms.astype(np.int32)),
        replace(evidence, item=evidence.item[:, None]),
        replace(evidence, partition=evidence.partition - np.int32(3)),
    ]
    for one in wrong:
        with pytest.raises(UnknownFormat, match="do not belong together"):
            Evidence.decode(one.encode())


@given(st.data())
def test_a_damaged_byte_is_refused_or_changes_a_number(evidence: Evidence, data: st.DataObject) -> None:
    raw = bytearray(evidence.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    if at < 5 and bytes(raw) != evidence.encode():
        with pytest.raises(UnknownFormat):
            Evidence.decode(bytes(raw))
        return
    try:
        found = Evidence.decode(bytes(raw))
    except UnknownFormat:
        return
    assert len(found) == 3
    assert int(found.recent_count.sum()) == len(found.recent)


@given(st.lists(st.text(max_size=4), max_size=30), st.integers(200, 2000))
def test_evidence_is_cut_into_messages_that_fit(
    make_evidence: Callable[..., Evidence], items: list[str], largest: int
) -> None:
    clicks = [(item, items[max(0, n - 3) : n][::-1], n % 2) for n, item in enumerate(items)]
    evidence = make_evidence(clicks)
    messages = evidence.messages(largest)
    found = [Evidence.decode(message) for message in messages]
    assert all(len(message) <= largest or len(one) == 1 for message, one in zip(messages, found, strict=True))
    assert [one_id for one in found for one_id in one.new_ids] == list(evidence.new_ids)
    for name in ("item", "offset", "recent", "recent_count", "session_length"):
        parts = [getattr(one, name) for one in found] or [np.zeros(0)]
        assert np.array_equal(np.concatenate(parts), getattr(evidence, name))
    known: set[int] = set()
    for one in found:  # each id comes with the first click on its item, not later
        known |= {hash_id(item_id) for item_id in one.new_ids}
        assert set(one.item.tolist()) <= known
