"""Whose list is made anew, and when."""

from __future__ import annotations

import pytest

from eddyline.stream.microbatch import User
from eddyline.stream.refresh import NEWCOMERS, Refresh

ANN, BOB, CID = (User(0, name) for name in (b"ann", b"bob", b"cid"))


@pytest.fixture
def refresh() -> Refresh:
    made = Refresh(2, 10, 0.0)
    made.clicked([ANN, BOB, CID, BOB])
    return made


def test_nobody_waits_until_a_model_comes_then_the_newest_first(refresh: Refresh) -> None:
    assert not refresh
    refresh.begin()
    assert refresh
    assert refresh.take(2) == [NEWCOMERS, BOB]
    assert refresh.take(5) == [CID]  # ann is beyond the two that are remembered
    assert not refresh
    assert refresh.take(5) == []


def test_everyone_waits_after_so_many_clicks_but_no_round_begins_before_the_last_is_over(refresh: Refresh) -> None:
    refresh.counted(9)
    assert not refresh
    refresh.counted(1)
    assert refresh.take(2) == [NEWCOMERS, BOB]
    refresh.counted(25)
    assert refresh.take(2) == [CID]
    refresh.counted(1)
    assert refresh.take(3) == [NEWCOMERS, BOB, CID]
    refresh.counted(9)
    assert not refresh


def test_who_clicks_has_a_new_list_and_who_is_erased_needs_none(refresh: Refresh) -> None:
    refresh.begin()
    refresh.clicked([BOB])
    refresh.forget([CID])
    assert refresh.take(5) == [NEWCOMERS]
    refresh.begin()
    assert refresh.take(5) == [NEWCOMERS, BOB]


def test_one_may_wait_out_of_turn(refresh: Refresh) -> None:
    refresh.wait(NEWCOMERS)
    assert refresh.take(5) == [NEWCOMERS]


def test_newcomers_have_a_list_before_anyone_is_active() -> None:
    refresh = Refresh(2, None, 0.0)
    refresh.begin()
    assert refresh.take(5) == [NEWCOMERS]


def test_without_a_number_of_clicks_only_models_count() -> None:
    refresh = Refresh(2, None, 0.0)
    refresh.clicked([ANN])
    refresh.counted(10**9)
    assert not refresh


def test_rounds_because_of_clicks_are_a_while_apart_those_of_models_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    refresh = Refresh(2, 10, 30.0)
    refresh.clicked([ANN])
    refresh.counted(10)
    assert refresh.take(2) == [NEWCOMERS, ANN]
    now += 29
    refresh.counted(50)
    assert not refresh
    refresh.begin()
    assert refresh.take(2) == [NEWCOMERS, ANN]
    now += 29
    refresh.counted(50)
    assert not refresh
    now += 1
    refresh.counted(0)
    assert refresh
