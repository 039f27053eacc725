"""A model and its counts as named arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.model import Model, untrained_model
from eddyline.model.versions import counts_from_arrays, counts_to_arrays, model_from_arrays, model_to_arrays
from eddyline.state.errors import CorruptModel
from eddyline.state.records import Click
from eddyline.state.user_state import UserStates


@pytest.fixture
def model(make_model: Callable[..., Model]) -> Model:
    return make_model()


@pytest.fixture
def counts(toy_clicks: Callable[..., list[Click]], after: Callable[..., tuple[UserStates, Counts]]) -> Counts:
    return after(toy_clicks(60))[1]


def test_a_model_is_read_back(model: Model, counts: Counts) -> None:
    arrays = model_to_arrays(model, counts)
    found = model_from_arrays(arrays, 5, 6)
    assert (found.version, found.trained_until_ms) == (5, 6)
    assert found.encoder_id == model.encoder_id
    assert torch.equal(found.items.vector, model.items.vector)
    assert torch.equal(found.items.bias, model.items.bias)
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], tensor)
    assert not any(parameter.requires_grad for parameter in found.network.parameters())
    assert arrays["items.hash"].tolist() == counts.hashes[:8].tolist()


def test_a_model_without_an_encoder_is_read_back(counts: Counts) -> None:
    found = model_from_arrays(model_to_arrays(untrained_model(8), counts), 0, 0)
    assert found.encoder is None
    assert len(found.items) == 0


def test_rows_that_grew_while_serving_grow_the_same_once_read_back(model: Model, counts: Counts) -> None:
    model.items.grow(counts)
    found = model_from_arrays(model_to_arrays(model, counts), 0, 0)
    assert len(found.items) == model.items.trained == 8
    found.items.grow(counts)
    assert torch.equal(found.items.vector, model.items.vector)
    assert torch.equal(found.items.bias, model.items.bias)


def test_what_is_read_back_shares_no_memory(model: Model, counts: Counts) -> None:
    arrays = model_to_arrays(model, counts)
    found = model_from_arrays(arrays, 0, 0)
    for array in arrays.values():
        array.fill(0)
    assert found.items.vector.any()
    assert found.network.long_term.project.weight.any()
    assert found.encoder is not None
    assert found.encoder.w_x.any()


@pytest.mark.parametrize("name", ["items.vector", "items.bias", "network.gate.prior", "encoder.w_x"])
def test_a_missing_array_is_named(model: Model, counts: Counts, name: str) -> None:
    arrays = model_to_arrays(model, counts)
    del arrays[name]
    with pytest.raises(CorruptModel, match=name.removeprefix("network.")):
        model_from_arrays(arrays, 5, 0)


@pytest.mark.parametrize("name", ["items.vector", "network.gate.prior"])
def test_an_array_of_another_shape_is_refused(model: Model, counts: Counts, name: str) -> None:
    arrays = model_to_arrays(model, counts)
    arrays[name] = np.zeros(3, np.float32)
    with pytest.raises(CorruptModel, match=r"version 5 .*promote a version that this program wrote"):
        model_from_arrays(arrays, 5, 0)


def test_counts_are_read_back_with_their_ids(counts: Counts) -> None:
    counts.ids[0] = "zoë — ü"
    arrays = counts_to_arrays(counts)
    found = counts_from_arrays(arrays, CountsSettings())
    assert found.ids == counts.ids
    for name, array in counts.to_arrays().items():
        assert np.array_equal(found.to_arrays()[name], array)
    assert np.array_equal(found.rows(counts.hashes), np.arange(len(counts)))


def test_empty_counts_are_read_back() -> None:
    found = counts_from_arrays(counts_to_arrays(Counts()), CountsSettings())
    assert len(found) == found.seen == 0


def test_a_missing_array_of_the_counts_is_named(counts: Counts) -> None:
    arrays = counts_to_arrays(counts)
    del arrays["forward.weight"]
    with pytest.raises(CorruptModel, match=r"forward\.weight"):
        counts_from_arrays(arrays, CountsSettings())
