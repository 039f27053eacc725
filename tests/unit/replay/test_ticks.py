"""A log in ticks of event time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.replay.ticks import Stream, UserTable, ticks
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
