"""Reasons of a list."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eddyline.model.counts import Counts
from eddyline.model.reasons import because
from eddyline.state.evidence import Evidence


def test_reasons_are_the_recent_items_that_voted_most(
    make_counts: Callable[..., Counts], make_evidence: Callable[..., Evidence]
) -> None:
    clicks = [("a", [], 0), ("b", [], 0), ("t", ["a"], 1), ("t", ["b"], 1), ("t", ["b"], 1), ("o", [], 0)]
    counts = make_counts(make_evidence(clicks))
    row = {item: counts.ids.index(item) for item in counts.ids}
    history = np.array([[row["o"], row["a"], row["a"], row["b"], -1]], np.int32)
    items = np.array([[row["t"], row["o"], -1]], np.int32)
    reasons = because(counts, history, items, 3)
    # b voted 2 / 4 from place 3, a 1 / 2 from place 1 and again from place 2, which is no second reason
    assert reasons[0, 0].tolist() in ([row["a"], row["b"], -1], [row["b"], row["a"], -1])
    assert (reasons[0, 1:] == -1).all()
    assert because(counts, history[:, 3:], items, 1)[0, 0].tolist() == [row["b"]]
