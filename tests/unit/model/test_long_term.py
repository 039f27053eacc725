"""Long-term interest and item embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from eddyline.model.counts import Counts
from eddyline.model.long_term import NEW_ITEM_NORM, ItemEmbeddings, LongTerm
from eddyline.state.evidence import Evidence


@pytest.fixture
def items() -> ItemEmbeddings:
    """Rows a = (1, 0) and b = (0, 0.5), biases 1 and 3."""
    return ItemEmbeddings(torch.tensor([[1.0, 0.0], [0.0, 0.5]]), torch.tensor([1.0, 3.0]))


def test_the_mean_is_of_unit_rows_over_the_items_there_are(items: ItemEmbeddings) -> None:
    history = torch.tensor([[1, 0, 0, -1], [-1, 1, -1, -1], [-1, -1, -1, -1]])
    mean, newest = items.history_mean(history)
    torch.testing.assert_close(mean, torch.tensor([[2 / 3, 1 / 3], [0.0, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(newest, torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))


def test_without_a_catalogue_the_history_says_nothing() -> None:
    mean, newest = ItemEmbeddings(torch.zeros(0, 2), torch.zeros(0)).history_mean(torch.full((3, 4), -1))
    assert mean.shape == newest.shape == (3, 2)
    assert not mean.any()


def test_a_new_item_starts_from_what_its_first_user_had_before(
    items: ItemEmbeddings, make_counts: Callable[..., Counts], make_evidence: Callable[..., Evidence]
) -> None:
    clicks = [("a", [], 0), ("b", [], 0), ("c", ["b", "a"], 2), ("alone", [], 0), ("d", ["c"], 1)]
    items.grow(make_counts(make_evidence(clicks)))
    c = NEW_ITEM_NORM * np.array([0.5, 0.5])
    torch.testing.assert_close(items.vector[2], torch.tensor(c, dtype=torch.float32))
    assert not items.vector[3].any()
    torch.testing.assert_close(items.vector[4], torch.tensor(NEW_ITEM_NORM * c / np.linalg.norm(c)).float())
    assert items.bias.tolist() == [1.0, 3.0, 1.0, 1.0, 1.0]
    assert items.trained == 2


def test_growing_at_once_or_bit_by_bit_is_the_same(
    make_counts: Callable[..., Counts], make_evidence: Callable[..., Evidence], items: ItemEmbeddings
) -> None:
    clicks = [("a", [], 0), ("b", ["a"], 1), ("c", ["b", "a"], 2), ("d", ["c", "b", "a"], 3)]
    at_once = ItemEmbeddings(items.vector.clone(), items.bias.clone())
    at_once.grow(make_counts(make_evidence(clicks)))
    counts = make_counts()
    for n, one in enumerate(clicks):
        counts.fold(make_evidence([one], n))
        items.grow(counts)
        items.history_mean(torch.tensor([[n, -1]]))
    history = torch.tensor([[3, 2, 1, 0], [0, -1, -1, -1]])
    for mean, other in zip(items.history_mean(history), at_once.history_mean(history), strict=True):
        assert torch.equal(mean, other)
    assert torch.equal(items.vector, at_once.vector)
    assert torch.equal(items.bias, at_once.bias)


def test_the_projection_starts_as_the_identity() -> None:
    mean = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(LongTerm(8)(mean), mean)
