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
