"""A user's state at rest: what its bytes keep, and what happens when sizes or formats change."""

from __future__ import annotations

import numpy as np
import pytest

from eddyline.state.errors import UnknownFormat
from eddyline.state.user_state import NO_ENCODER, StateShape, UserStates, decode_states, encode_state, new_states


@pytest.fixture
def used(shape: StateShape) -> UserStates:
    """One state with everything in it, full to the brim."""
    random = np.random.default_rng(0)
    states = new_states(shape, 1)
    for name in ("h", "c", "ring"):
        states[name] = random.normal(size=states[name].shape)
    states["item"] = random.integers(1, 2**63, states["item"].shape)
    states["ts_ms"] = 1_000 + np.arange(shape.history)
    states["encoder"], states["session"] = 2**64 - 1, 2**64 - 2
    states["partition"], states["offset"], states["clicks"] = 3, 2**40, 70
    states["session_length"], states["ring_length"], states["history_length"] = 20, shape.ring, shape.history
    return states


def test_a_new_user_has_no_click_and_no_encoder(shape: StateShape) -> None:
    state = new_states(shape, 1)[0]
    assert (state["partition"], state["offset"], state["clicks"]) == (-1, -1, 0)
    assert state["encoder"] == NO_ENCODER
    assert decode_states(shape, [None]).tobytes() == new_states(shape, 1).tobytes()


def test_a_state_is_read_back_bit_for_bit_among_others(shape: StateShape, used: UserStates) -> None:
    raw = encode_state(used[0])
    states = decode_states(shape, [None, raw, None])
    assert states[1].tobytes() == used[0].tobytes()
    assert states[0].tobytes() == states[2].tobytes() == new_states(shape, 1).tobytes()


def test_only_what_is_in_use_takes_room(shape: StateShape, used: UserStates) -> None:
    full = len(encode_state(used[0]))
    used["ring_length"], used["history_length"] = 1, 2
    assert len(encode_state(used[0])) == full - 2 * shape.dimension * (shape.ring - 1) - 16 * (shape.history - 2)
    used["encoder"] = NO_ENCODER
    assert len(encode_state(used[0])) < 16 * 2 + 60


@pytest.mark.parametrize("change", [{"dimension": 16}, {"ring": 5}])
def test_another_d_or_n_keeps_the_clicks_and_drops_the_hidden_states(
    shape: StateShape, used: UserStates, change: dict[str, int]
) -> None:
    state = decode_states(shape.model_copy(update=change), [encode_state(used[0])])[0]
    assert state["encoder"] == NO_ENCODER
    assert state["ring_length"] == 0
    assert not state["h"].any()
    assert not state["ring"].any()
    for name in ("item", "ts_ms", "offset", "clicks", "session", "session_length", "history_length"):
        assert np.array_equal(state[name], used[name][0])


def test_a_shorter_history_keeps_the_newest_clicks_and_the_hidden_states(shape: StateShape, used: UserStates) -> None:
    state = decode_states(shape.model_copy(update={"history": 10}), [encode_state(used[0])])[0]
    assert state["history_length"] == 10
    assert np.array_equal(state["item"], used["item"][0, 2:])
    assert np.array_equal(state["ts_ms"], used["ts_ms"][0, 2:])
    assert np.array_equal(state["h"], used["h"][0])


def test_a_longer_history_has_room_left(shape: StateShape, used: UserStates) -> None:
    state = decode_states(shape.model_copy(update={"history": 20}), [encode_state(used[0])])[0]
    assert state["history_length"] == 12
    assert np.array_equal(state["item"][:12], used["item"][0])
    assert not state["item"][12:].any()


def test_another_format_is_refused_and_the_remedy_named(shape: StateShape, used: UserStates) -> None:
    raw = encode_state(used[0])
    for other in (b"", b"US", b"XX" + raw[2:], raw[:2] + b"\x02" + raw[3:]):
        with pytest.raises(UnknownFormat, match="run the version that wrote it, or start with a new topic prefix"):
            decode_states(shape, [other])


def test_damage_is_refused_and_the_remedy_named(shape: StateShape, used: UserStates) -> None:
    raw = encode_state(used[0])
    more_than_n = bytearray(raw + bytes(2 * shape.dimension))
    more_than_n[raw.index(bytes([shape.ring, 0, shape.history, 0]))] += 1
    for damaged in (raw[:-1], raw + b"\0", raw[:60], bytes(more_than_n)):
        with pytest.raises(UnknownFormat, match="delete the worker's state folder to restore it"):
            decode_states(shape, [damaged])
