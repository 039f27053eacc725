"""The encoder: an LSTM that advances states one click at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from eddyline.model.short_term import Encoder
from eddyline.state.records import hash_id
from eddyline.state.user_state import NO_ENCODER, StateShape, UserStates, new_states


def items(*ids: str) -> np.ndarray:
    return np.array([hash_id(one) for one in ids], np.uint64)


def walk(encoder: Encoder, states: UserStates, clicked: np.ndarray) -> UserStates:
    """The states after clicks (B, T), with the clicks in their histories."""
    states = states.copy()
    for t in range(clicked.shape[1]):
        encoder.advance(states, clicked[:, t])
        states["item"][:, t] = clicked[:, t]
        states["history_length"] += 1
    return states


def test_it_is_the_lstm_of_torch(shape: StateShape, make_encoder: Callable[..., Encoder]) -> None:
    encoder, D = make_encoder(), shape.dimension
    lstm = torch.nn.LSTM(D, D, batch_first=True)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torch.from_numpy(encoder.w_x))
        lstm.weight_hh_l0.copy_(torch.from_numpy(encoder.w_h))
        lstm.bias_ih_l0.copy_(torch.from_numpy(encoder.bias))
        lstm.bias_hh_l0.zero_()
        clicked = np.array([items("i0", "i1", "i2", "i3", "i4", "i9"), items("i5", "i5", "i5", "new", "i6", "i7")])
        x = torch.from_numpy(encoder.inputs[encoder.rows(clicked)])
        want, (h, c) = lstm(x)
    states = walk(encoder, new_states(shape, 2), clicked)
    np.testing.assert_allclose(states["h"], h[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(states["c"], c[0].numpy(), atol=1e-5)
    # the ring holds the last N, oldest first, in half precision
    assert (states["ring_length"] == shape.ring).all()
    np.testing.assert_allclose(states["ring"], want[:, -shape.ring :].numpy(), atol=1e-3)


def test_bits_do_not_depend_on_the_batch(shape: StateShape, make_encoder: Callable[..., Encoder]) -> None:
    encoder, random = make_encoder(), np.random.default_rng(0)
    clicked = np.array([items(*(f"i{n}" for n in random.integers(0, 15, 7))) for _ in range(33)])
    together = walk(encoder, new_states(shape, 33), clicked)
    for u in range(33):
        alone = walk(encoder, new_states(shape, 1), clicked[u : u + 1])
        assert alone[0].tobytes() == together[u].tobytes()


def test_an_unknown_item_enters_through_the_bucket_of_its_hash(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder()
    rows = encoder.rows(items("i3", "new", "newer"))
    assert rows[0] == 3
    assert rows[1] == 10 + hash_id("new") % 3
    assert rows[2] == 10 + hash_id("newer") % 3


def test_a_state_of_another_encoder_is_encoded_anew_from_its_clicks(
    shape: StateShape, make_encoder: Callable[..., Encoder]
) -> None:
    old, new = make_encoder(1), make_encoder(2)
    clicked = np.array([items("i0", "i1", "i2", "i3", "i4", "i5", "i6")])
    states = walk(old, new_states(shape, 1), clicked)
    new.refresh(states)
    # as many of the last clicks as the ring holds
    want = walk(new, new_states(shape, 1), clicked[:, -shape.ring :])
    for name in ("encoder", "h", "c", "ring", "ring_length"):
        assert np.array_equal(states[name], want[name])
    before = states.tobytes()
    new.refresh(states)
    assert states.tobytes() == before


def test_only_stale_states_are_encoded_anew(shape: StateShape, make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder()
    clicked = np.array([items(*(f"i{n}" for n in range(7)))] * 2)
    states = walk(encoder, new_states(shape, 2), clicked)
    states["encoder"][1] = NO_ENCODER
    kept = states[0].tobytes()
    encoder.refresh(states)
    assert states[0].tobytes() == kept
    assert not np.array_equal(states["h"][1], states["h"][0])
    assert (states["encoder"] == encoder.id).all()


def test_the_id_tells_weights_apart(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder()
    assert encoder.id == make_encoder().id != NO_ENCODER
    for name in ("items", "inputs", "w_x", "w_h", "bias"):
        changed = getattr(encoder, name).copy()
        changed.flat[0] += 1
        assert replace(encoder, **{name: changed}).id != encoder.id
