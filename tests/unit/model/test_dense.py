"""Dense evidence: the formulas, and the logarithm they are computed with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from eddyline.model.counts import Counts
from eddyline.model.dense import DENSE, SCORED
from eddyline.model.folding import HALF_LIVES
from eddyline.state.evidence import Evidence

Dense = Callable[[Counts], np.ndarray]


def test_it_is_there_for_every_item(
    make_counts: Callable[..., Counts], make_evidence: Callable[..., Evidence], dense_evidence: Dense
) -> None:
    clicks = [("a", [], 0), ("b", ["a"], 1)] * 3 + [("a", [], 0), ("c", ["a"], 0)]
    dense = dense_evidence(make_counts(make_evidence(clicks)))
    assert dense.shape == (len(SCORED), 3)
    assert dense[DENSE.index("clicks")] == pytest.approx(np.log([5, 4, 2]), rel=1e-5)
    assert dense[DENSE.index("age")] == pytest.approx(np.log([9, 8, 2]) / 2, rel=1e-5)
    mixed = np.zeros(3)
    for j, half_life in enumerate(HALF_LIVES):
        at = {"a": [7, 5, 3, 1], "b": [6, 4, 2], "c": [0]}
        if DENSE[j] == "arrivals":
            at = {"a": [7, 5, 3, 1], "b": [], "c": []}
        decayed = np.array([sum(0.5 ** (age / half_life) for age in ages) for ages in at.values()])
        mixed += decayed / decayed.sum() / len(HALF_LIVES)
        assert dense[j] == pytest.approx(np.log(1 + 1e5 * decayed / decayed.sum()), rel=1e-5)
    assert dense[-1] == pytest.approx(np.log(1 + 1e5 * mixed), rel=1e-5)


def test_items_that_nobody_clicked_have_an_age_alone(
    make_counts: Callable[..., Counts], make_evidence: Callable[..., Evidence], dense_evidence: Dense
) -> None:
    counts = make_counts(make_evidence([], named=["a"]), make_evidence([("b", [], 0)]))
    assert dense_evidence(counts)[:, 0].tolist() == [
        *[0] * (len(DENSE) - 1),
        pytest.approx(np.log(3) / 2, rel=1e-5),
        0,
    ]


def test_without_a_catalogue_there_is_none(dense_evidence: Dense) -> None:
    assert dense_evidence(Counts()).shape == (len(SCORED), 0)
