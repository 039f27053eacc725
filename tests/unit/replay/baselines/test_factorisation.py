"""Matrix factorisation: one step by hand."""

from __future__ import annotations

import numpy as np
import pytest

from eddyline.replay.baselines.factorisation import Bpr, Factors


def factors(**settings: float) -> Factors:
    made = Factors(Bpr(dimension=2, **settings), seed=0)  # type: ignore[arg-type]
    made.user = np.array([[1.0, 2.0]], np.float32)
    made.item = np.array([[0.5, 0.0], [0.0, 1.0]], np.float32)
    made.bias = np.array([0.1, 0.2], np.float32)
    return made


def test_one_step() -> None:
    made = factors(rate=0.1, regularisation=0.5)
    made.step(np.array([0]), np.array([0], np.int32), np.array([1], np.int32), 1)
    pull = 1 / (1 + np.exp((0.1 - 0.2) + 1 * 0.5 - 2 * 1))
    assert made.user[0] == pytest.approx([1 + 0.1 * (pull * 0.5 - 0.5), 2 + 0.1 * (pull * -1 - 0.5 * 2)])
    assert made.item[0] == pytest.approx([0.5 + 0.1 * (pull - 0.25), 0.1 * pull * 2])
    assert made.item[1] == pytest.approx([-0.1 * pull, 1 - 0.1 * (pull * 2 + 0.5)])
    assert made.bias[:2] == pytest.approx([0.1 + 0.1 * (pull - 0.05), 0.2 - 0.1 * (pull + 0.1)])


def test_nothing_is_learned_where_the_other_item_is_the_same() -> None:
    made = factors()
    made.step(np.array([0]), np.array([1], np.int32), np.array([1], np.int32), 4)
    assert made.user.tolist() == [[1.0, 2.0]]


def test_scores() -> None:
    made = factors()
    assert made.scores(np.array([0, 7]), 3) == pytest.approx(np.array([[0.6, 2.2, 0.0], [0.1, 0.2, 0.0]]))


def test_new_users_and_items_get_rows() -> None:
    made = factors()
    made.step(np.array([5]), np.array([9], np.int32), np.array([0], np.int32), 1)
    assert made.scores(np.array([5]), 10)[0, 9] != 0
    assert made.user[0].tolist() == [1.0, 2.0]
