"""The records of the topics: what is read, what is refused, and why."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eddyline.state.errors import BadRecord
from eddyline.state.records import (
    Click,
    Parts,
    RankedItem,
    Recommendation,
    Why,
    decode_click,
    decode_recommendation,
    encode,
    hash_id,
)

CLICK = {"event_id": "e", "user_id": "u", "item_id": "i", "ts_ms": 1_700_000_000_000, "kind": "click"}


def test_a_click_is_read_and_unknown_fields_are_ignored() -> None:
    click = decode_click(json.dumps(CLICK | {"value": 4, "shop": "x"}).encode())
    assert click == Click(**CLICK, value=4.0)
    assert decode_click(encode(click)) == click


@pytest.mark.parametrize("field", CLICK)
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(BadRecord, match=field) as caught:
        decode_click(json.dumps({name: value for name, value in CLICK.items() if name != field}).encode())
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", ""),
        ("user_id", ""),
        ("item_id", ""),
        ("kind", ""),
        ("user_id", 7),
        ("ts_ms", "now"),
        ("ts_ms", 1.5),
        ("ts_ms", True),
        ("ts_ms", 0),
        ("ts_ms", -1),
        ("ts_ms", 1_700_000_000_000_000),
        ("value", "many"),
    ],
)
def test_a_wrong_value_is_refused_and_its_field_named(field: str, value: object) -> None:
    with pytest.raises(BadRecord, match=field) as caught:
        decode_click(json.dumps(CLICK | {field: value}).encode())
    assert caught.value.field == field


@given(st.binary())
def test_bytes_that_are_no_click_are_a_bad_record(raw: bytes) -> None:
    with pytest.raises(BadRecord):
        decode_click(raw)
    with pytest.raises(BadRecord):
        decode_recommendation(raw)


@pytest.mark.parametrize("field", ["event_id", "user_id", "item_id", "kind", "session_id"])
def test_a_long_id_is_a_bad_record(field: str) -> None:
    assert decode_click(json.dumps({**CLICK, field: "x" * 512}).encode())
    with pytest.raises(BadRecord, match="at most 512") as caught:
        decode_click(json.dumps({**CLICK, field: "x" * 513}).encode())
    assert caught.value.field == field


def test_a_click_nested_too_deep_is_a_bad_record() -> None:
    raw = json.dumps(CLICK)[:-1] + ', "extra": ' + "[" * 100_000 + "]" * 100_000 + "}"
    with pytest.raises(BadRecord):
        decode_click(raw.encode())


def test_an_id_with_half_a_character_is_a_bad_record() -> None:
    raw = json.dumps(CLICK).replace('"u"', '"\\ud800"').encode()
    with pytest.raises(BadRecord):
        decode_click(raw)


def test_a_recommendation_is_read_back() -> None:
    why = Why(Parts(neural=0.5, history=-1.0), ["b"])
    recommendation = Recommendation(
        recommendation_id="0-1-2",
        user_id="u",
        items=[RankedItem("a", 2.5, why), RankedItem("b", 1.0)],
        model_version=2,
        model_age_ms=3,
        cause="click",
        cause_event_id="e",
        event_ts_ms=4,
        produced_ts_ms=5,
    )
    raw = encode(recommendation)
    assert decode_recommendation(raw) == recommendation
    assert json.loads(raw)["items"][0]["why"] == {"parts": {"neural": 0.5, "history": -1.0}, "because_of": ["b"]}


def test_the_hash_of_an_id_never_changes_and_is_never_0() -> None:
    # These are on disk and in topics: another value would forget every user.
    assert hash_id("") == 3244421341483603138
    assert hash_id("a") == 16629034431890738719
    assert len({hash_id(str(n)) for n in range(1000)} - {0}) == 1000
