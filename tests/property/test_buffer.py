"""The replay buffer under any sequence of examples, erasures and stops."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eddyline.model.buffer import BufferSettings, ReplayBuffer
from eddyline.state.user_state import StateShape

USERS = 4

actions = st.lists(
    st.tuples(st.just("add"), st.integers(0, 15))
    | st.tuples(st.just("forget"), st.integers(0, USERS))
    | st.tuples(st.just("stop"), st.just(0)),
    max_size=12,
)


def content(buffer: ReplayBuffer) -> list[tuple[int, int]]:
    arrays, _ = buffer.to_arrays()
    return list(zip(arrays["user"].tolist(), arrays["target"].tolist(), strict=True))


@given(capacity=st.integers(1, 20), seed=st.integers(0, 100), steps=actions)
def test_it_stays_a_sample_of_what_was_offered(
    shape: StateShape, capacity: int, seed: int, steps: list[tuple[str, int]]
) -> None:
    def make(seed: int) -> ReplayBuffer:
        return ReplayBuffer(BufferSettings(capacity=capacity), shape, 3, seed)

    # a twin that is stopped now and then has the same content all along
    buffer, twin, allowed, offered = make(seed), make(seed), set(), 0
    for action, number in steps:
        before = content(buffer)
        if action == "add":
            rows = buffer.new_rows(number)
            rows["target"] = np.arange(offered, offered + number)
            rows["user"] = rows["target"] % USERS
            offered += number
            allowed |= set(zip(rows["user"].tolist(), rows["target"].tolist(), strict=True))
            buffer.add(rows)
            twin.add(rows)
            assert len(buffer) == min(capacity, len(before) + number)
        elif action == "forget":
            gone = buffer.forget(np.array([number], np.uint64))
            assert content(buffer) == [one for one in before if one[0] != number]
            assert gone == len(before) - len(buffer)
            assert twin.forget(np.array([number], np.uint64)) == gone
            allowed = {one for one in allowed if one[0] != number}
        else:
            arrays, rest = twin.to_arrays()
            twin = make(seed + 1)
            twin.restore(arrays, json.loads(json.dumps(rest)))
        assert len(set(content(buffer))) == len(buffer) <= capacity
        assert set(content(buffer)) <= allowed
        assert content(twin) == content(buffer)
    assert buffer.offered == offered
