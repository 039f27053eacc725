"""Decayed popularity."""

from __future__ import annotations

import numpy as np
import pytest

from eddyline.replay.baselines.popularity import Popularity


def clicks(*rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array(rows, np.int32), np.ones(len(rows), np.float32)


def test_a_click_is_worth_half_a_half_life_later() -> None:
    popularity = Popularity([2.0, np.inf])
    popularity.add(*clicks(0, 1, 1))
    worth = np.array([2.0**-1, 2.0**-0.5 + 1])
    assert popularity.shares(2.0, 2) == pytest.approx(worth / worth.sum())
    assert popularity.shares(np.inf, 3) == pytest.approx([1 / 3, 2 / 3, 0])


def test_weights_count() -> None:
    popularity = Popularity([np.inf])
    popularity.add(np.array([0, 1], np.int32), np.array([3.0, 1.0], np.float32))
    assert popularity.shares(np.inf, 2) == pytest.approx([0.75, 0.25])


def test_long_streams_do_not_overflow() -> None:
    popularity = Popularity([1.0])
    for _ in range(50):
        popularity.add(*clicks(*[0, 1] * 50))
    assert popularity.shares(1.0, 2) == pytest.approx([1 / 3, 2 / 3])


def test_the_catalogue_may_be_larger_than_what_was_clicked() -> None:
    assert Popularity([1.0]).shares(1.0, 5000).tolist() == [0.0] * 5000
