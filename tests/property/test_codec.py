"""The codec of user states, for any state and any damage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eddyline.state.errors import UnknownFormat
from eddyline.state.user_state import NO_ENCODER, StateShape, UserStates, decode_states, encode_state, new_states

REMEDY = "run the version that wrote it|delete the worker's state folder"

shapes = st.builds(StateShape, dimension=st.integers(4, 12), ring=st.integers(1, 5), history=st.integers(10, 14))


@st.composite
def states(draw: st.DrawFn) -> UserStates:
    """One user's row of any shape, in any state of use; every number may be any number, NaN included."""
    shape = draw(shapes)
    state = new_states(shape, 1)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    for name, bits in (("partition", 32), ("offset", 64)):
        state[name] = draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    for name, bits in (("encoder", 64), ("clicks", 32), ("session", 64), ("session_length", 16)):
        state[name] = draw(st.integers(0, 2**bits - 1))
    length = draw(st.integers(0, shape.history))
    state["history_length"] = length
    state["item"][:, :length] = random.integers(0, 2**64, length, np.uint64)
    state["ts_ms"][:, :length] = random.integers(-(2**63), 2**63, length, np.int64)
    if state["encoder"][0] != NO_ENCODER:
        ring = draw(st.integers(0, shape.ring))
        state["ring_length"] = ring
        state["h"] = np.frombuffer(random.bytes(4 * shape.dimension), np.float32)
        state["c"] = np.frombuffer(random.bytes(4 * shape.dimension), np.float32)
        bits = np.frombuffer(random.bytes(2 * ring * shape.dimension), np.float16)
        state["ring"][:, :ring] = bits.reshape(ring, shape.dimension)
    return state


def shape_of(state: UserStates) -> StateShape:
    N, D = state["ring"].shape[1:]
    return StateShape(dimension=D, ring=N, history=state["item"].shape[1])


@given(states())
def test_any_state_is_read_back_bit_for_bit(state: UserStates) -> None:
    assert decode_states(shape_of(state), [encode_state(state[0])]).tobytes() == state.tobytes()


@given(states(), shapes)
def test_another_shape_keeps_the_newest_clicks_that_fit(state: UserStates, shape: StateShape) -> None:
    found = decode_states(shape, [encode_state(state[0])])[0]
    length = min(int(state["history_length"][0]), shape.history)
    assert found["history_length"] == length
    newest = slice(int(state["history_length"][0]) - length, int(state["history_length"][0]))
    for name in ("item", "ts_ms"):
        assert np.array_equal(found[name][:length], state[name][0, newest])
    for name in ("partition", "offset", "clicks", "session", "session_length"):
        assert found[name] == state[name][0]
    same = (shape.dimension, shape.ring) == (shape_of(state).dimension, shape_of(state).ring)
    assert found["encoder"] == (state["encoder"][0] if same else NO_ENCODER)
    assert same or (found["ring_length"] == 0 and not found["ring"].any() and not found["h"].any())


@given(states(), st.data())
def test_truncated_or_longer_bytes_are_refused_with_the_remedy(state: UserStates, data: st.DataObject) -> None:
    raw = encode_state(state[0])
    wrong = data.draw(st.integers(0, len(raw) - 1).map(lambda n: raw[:n]) | st.binary(min_size=1).map(raw.__add__))
    with pytest.raises(UnknownFormat, match=REMEDY):
        decode_states(shape_of(state), [wrong])


@given(shapes, st.binary() | st.binary(min_size=60).map(lambda body: b"US\x01" + body))
def test_random_bytes_are_refused_with_the_remedy(shape: StateShape, raw: bytes) -> None:
    try:
        decode_states(shape, [raw])
    except UnknownFormat as error:
        assert any(remedy in str(error) for remedy in REMEDY.split("|"))
    else:
        assert raw[:3] == b"US\x01"


@given(states(), st.data())
def test_a_damaged_byte_is_refused_or_changes_a_number(state: UserStates, data: st.DataObject) -> None:
    raw = bytearray(encode_state(state[0]))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_states(shape_of(state), [bytes(raw)])[0]
    except UnknownFormat as error:
        assert any(remedy in str(error) for remedy in REMEDY.split("|"))
        return
    assert at > 2
    assert found["history_length"] <= len(found["item"])
    assert found["ring_length"] <= len(found["ring"])
