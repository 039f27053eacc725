"""A micro-batch of clicks as arrays."""

from __future__ import annotations

from collections.abc import Callable

import pydantic
import pytest

from eddyline.model.clicks import Clicks, ClickSettings
from eddyline.state.records import Click, hash_id


def test_clicks_become_arrays_in_their_order(click: Callable[..., Click]) -> None:
    made = [click("ann", "a", 1, session="s"), click("bob", "b", 2, kind="purchase"), click("ann", "a", 3)]
    clicks = Clicks.of(made, [0, 1, 0], [(2, 10), (0, 7), (2, 11)], ClickSettings(weights={"purchase": 3.0}))
    assert len(clicks) == 3
    assert clicks.user.tolist() == [0, 1, 0]
    assert clicks.user_hash.tolist() == [hash_id("ann"), hash_id("bob"), hash_id("ann")]
    assert clicks.item.tolist() == [hash_id("a"), hash_id("b"), hash_id("a")]
    assert clicks.item_ids == ["a", "b", "a"]
    assert clicks.ts_ms.tolist() == [one.ts_ms for one in made]
    assert clicks.weight.tolist() == [1.0, 3.0, 1.0]
    assert clicks.session.tolist() == [hash_id("s"), 0, 0]
    assert list(zip(clicks.partition.tolist(), clicks.offset.tolist(), strict=True)) == [(2, 10), (0, 7), (2, 11)]


def test_no_clicks_are_arrays_too() -> None:
    clicks = Clicks.of([], [], [], ClickSettings())
    assert len(clicks) == len(clicks.offset) == 0


def test_a_kind_that_is_not_named_has_the_default_weight() -> None:
    settings = ClickSettings(weights={"impression": 0.0}, default_weight=2.0)
    assert settings.weight("impression") == 0.0
    assert settings.weight("click") == 2.0
    with pytest.raises(pydantic.ValidationError, match="default_weight"):
        ClickSettings(default_weight=-1.0)
