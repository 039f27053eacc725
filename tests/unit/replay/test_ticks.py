"""A log in ticks of event time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.replay.ticks import Stream, UserTable, blocks, ticks
from eddyline.state.records import Click
from eddyline.state.user_state import StateShape


def at(*ms: int) -> list[Click]:
    return [
        Click(event_id=f"e{n}", user_id=f"u{n % 2}", item_id=f"i{n}", ts_ms=one, kind="click")
        for n, one in enumerate(ms)
    ]


def test_clicks_of_one_second_are_one_tick() -> None:
    cut = [([c.ts_ms for c in step], ends) for step, ends in ticks(at(1_000, 1_500, 1_999, 2_000, 5_000), 1_000)]
    assert cut == [([1_000, 1_500, 1_999], True), ([2_000], True), ([5_000], True)]


def test_a_long_tick_takes_several_steps_with_the_same_counts() -> None:
    cut = [(len(step), ends) for step, ends in ticks(at(1_000, 1_001, 1_002, 1_003, 1_004, 3_000), 1_000, most=2)]
    assert cut == [(2, False), (2, False), (1, True), (1, True)]


def test_without_lag_every_click_is_a_tick() -> None:
    assert [(len(step), ends) for step, ends in ticks(at(7, 7, 7), 0)] == [(1, True)] * 3


def test_no_clicks_no_ticks() -> None:
    assert list(ticks([], 1_000)) == []


def cut(clicks: list[Click], most: int = 256, most_ticks: int = 256) -> list[tuple[list[str], list[int], bool]]:
    return [
        ([one.item_id for one in block], list(ends), closed)
        for block, ends, closed in blocks(clicks, 1_000, most, most_ticks)
    ]


def test_a_block_has_as_many_whole_ticks_as_fit() -> None:
    clicks = at(1_000, 1_500, 2_000, 3_000, 3_500, 3_700, 5_000)
    assert cut(clicks) == [(["i0", "i1", "i2", "i3", "i4", "i5", "i6"], [2, 3, 6, 7], True)]
    assert cut(clicks, most=4) == [(["i0", "i1", "i2"], [2, 3], True), (["i3", "i4", "i5", "i6"], [3, 4], True)]
    assert [len(ends) for _, ends, _ in cut(clicks, most_ticks=3)] == [3, 1]
    assert cut([]) == []


def test_a_tick_that_is_too_long_has_blocks_of_its_own() -> None:
    clicks = at(1_000, 2_000, 2_001, 2_002, 2_003, 2_004, 3_000, 4_000)
    assert cut(clicks, most=2) == [
        (["i0"], [1], True),
        (["i1", "i2"], [2], False),
        (["i3", "i4"], [2], False),
        (["i5"], [1], True),
        (["i6", "i7"], [1, 2], True),
    ]


def stream(engine_settings: EngineSettings) -> Stream:
    return Stream(engine_settings, ClickSettings(), CountsSettings())


def test_clicks_are_in_histories_at_once_and_in_counts_when_counted(
    engine_settings: EngineSettings, click: Callable[..., Click]
) -> None:
    one = stream(engine_settings)
    first = one.take([click("ann", "a", 1), click("ann", "b", 2)])
    assert first.target.tolist() == [-1, -1]
    assert first.before["history_length"].tolist() == [0, 1]
    assert len(one.counts) == 0
    one.count([first])
    assert one.counts.ids == ["a", "b"]
    second = one.take([click("ann", "a", 3), click("bob", "b", 3)])
    assert second.target.tolist() == [0, 1]
    assert second.history(3).tolist() == [[1, 0, -1], [-1, -1, -1]]
    assert second.first_ms.tolist() == first.clicks.ts_ms.tolist()


def test_the_ticks_of_a_block_are_those_that_come_one_by_one(
    engine_settings: EngineSettings, toy_clicks: Callable[..., list[Click]]
) -> None:
    clicks = toy_clicks(40, items=30)
    whole, single = stream(engine_settings), stream(engine_settings)
    ends = [3, 4, 9, 20, 40]
    block = whole.read(clicks, ends)
    for tick, begin, end in zip(whole.ticks(block), [0, *ends], ends, strict=False):
        one = single.take(clicks[begin:end])
        assert len(tick.counts) == len(one.counts)
        for name in ("kinds", "users", "before", "target", "first_ms"):
            assert np.array_equal(getattr(tick, name), getattr(one, name)), name
        for name in ("user", "item", "ts_ms", "offset"):
            assert np.array_equal(getattr(tick.clicks, name), getattr(one.clicks, name)), name
        assert tick.evidence.encode() == one.evidence.encode()
        assert np.array_equal(block.target[begin:end], one.target)
        whole.count([tick])
        single.count([one])
    at_once = stream(engine_settings)
    at_once.count([at_once.read(clicks, ends)])
    assert at_once.counts.ids == single.counts.ids
    assert np.array_equal(at_once.first_ms, single.first_ms)


def test_users_have_rows_in_order_of_appearance(engine_settings: EngineSettings, click: Callable[..., Click]) -> None:
    one = stream(engine_settings)
    assert one.take([click("bob", "a", 1), click("ann", "a", 1)]).users.tolist() == [0, 1]
    assert one.take([click("ann", "a", 1)]).users.tolist() == [1]


def test_the_table_grows_and_keeps_what_it_has() -> None:
    table = UserTable(StateShape(dimension=4, ring=1, history=10))
    some = table.at(np.array([3]))
    some["clicks"] = 7
    table.put(np.array([3]), some)
    table.at(np.array([100_000]))
    assert table.at(np.array([3]))["clicks"].tolist() == [7]
    assert table.at(np.array([100_000]))["offset"].tolist() == [-1]
