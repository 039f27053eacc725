"""Times as people write them."""

from __future__ import annotations

import pytest

from eddyline.state.times import from_iso, to_iso


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:01.5", 1_500),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_a_time_without_an_offset_is_utc(text: str, ms: int) -> None:
    assert from_iso(text) == ms


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid isoformat"):
        from_iso("yesterday")


def test_a_time_is_written_and_read_back() -> None:
    assert to_iso(1_772_366_400_000) == "2026-03-01T12:00:00Z"
    assert from_iso(to_iso(1_772_366_400_123, "milliseconds")) == 1_772_366_400_123
