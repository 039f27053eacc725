"""Kernels over scores, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from eddyline.model.dense import SCORED
from eddyline.model.scores import add_dense, log_sums, ranks, top

RANDOM = np.random.default_rng(0)


def scores(users: int, items: int) -> np.ndarray:
    return (5 * RANDOM.standard_normal((users, items))).astype(np.float32)


@pytest.mark.parametrize("items", [1, 2, 7, 1_000, 10_007])
def test_log_sums(items: int) -> None:
    z = scores(4, items)
    z[1, items // 2 + 1 :] = -np.inf
    found = np.zeros(4, np.float32)
    log_sums(z, z.max(1), found)
    assert found == pytest.approx(np.log(np.exp(z.astype(np.float64)).sum(1)), rel=1e-6, abs=1e-6)


def test_the_top_is_in_order_and_of_equal_ones_the_lower_row_comes_first() -> None:
    z = np.round(scores(5, 50))
    z[2, 3:] = -np.inf
    row, score = np.full((5, 8), -1, np.int32), np.full((5, 8), -np.inf, np.float32)
    top(z, row, score)
    for listed, best, of in zip(row, score, z, strict=True):
        want = np.argsort(-of, kind="stable")[:8]
        want = want[np.isfinite(of[want])]
        assert listed.tolist() == [*want, *[-1] * (8 - len(want))]
        assert best[: len(want)].tolist() == of[want].tolist()


def test_ranks_count_ties_against_the_target_among_the_items_there_were() -> None:
    z = np.array([[1.0, 3.0, 3.0, 0.0, 9.0], [1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)
    rank = np.zeros(2, np.int32)
    ranks(z, np.array([4, 5]), np.array([1, -1], np.int32), rank)
    assert rank.tolist() == [2, 0]


def test_dense_evidence_is_that_of_each_users_moment() -> None:
    E = len(SCORED)
    z, dense, weight = scores(3, 20), RANDOM.random((2, E, 20), np.float32), RANDOM.random((3, E), np.float32)
    moment, known = np.array([0, 1, 1]), np.array([12, 20])
    want = z + np.einsum("uk,uki->ui", weight, dense[moment])
    add_dense(z, moment, known, dense, weight)
    assert z[0, :12] == pytest.approx(want[0, :12], rel=1e-5)
    assert (z[0, 12:] == -np.inf).all()
    assert z[1:] == pytest.approx(want[1:], rel=1e-5)
