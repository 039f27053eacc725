from __future__ import annotations

import pytest

from eddyline.state.errors import ConfigurationError
from eddyline.stream.subscribe import parse_offset


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("ts=1700000000000", 1_700_000_000_000),
        ("ts=0", 0),
        ("ts=2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("ts=2023-11-14T22:13:20", 1_700_000_000_000),
        ("ts=2023-11-15T00:13:20.5+02:00", 1_700_000_000_500),
    ],
)
def test_offsets_are_words_or_times(text: str, start: str | int) -> None:
    assert parse_offset(text) == start


@pytest.mark.parametrize("text", ["", "first", "17", "ts=", "ts=yesterday", "ts=-5", "ts=1969-12-31"])
def test_anything_else_says_what_may_be_given(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"want earliest, latest, or ts="):
        parse_offset(text)
