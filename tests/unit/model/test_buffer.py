"""The replay buffer: a uniform sample of everything offered."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from eddyline.model.buffer import BufferSettings, ReplayBuffer
from eddyline.state.user_state import StateShape


@pytest.fixture
def make(shape: StateShape) -> Callable[..., ReplayBuffer]:
    def make(capacity: int, seed: int = 0) -> ReplayBuffer:
        return ReplayBuffer(BufferSettings(capacity=capacity), shape, 6, seed)

    return make


def offer(buffer: ReplayBuffer, targets: range, users: int = 7) -> None:
    """Rows that can be told by their target."""
    rows = buffer.new_rows(len(targets))
    rows["target"] = targets
    rows["user"] = rows["target"] % users
    rows["h"] = rows["target"][:, None]
    rows["ring"], rows["ring_length"], rows["history"] = 1, 2, rows["target"][:, None]
    buffer.add(rows)


def content(buffer: ReplayBuffer) -> list[int]:
    targets: list[int] = buffer.to_arrays()[0]["target"].tolist()
    return targets


def test_everything_is_kept_until_it_is_full_and_never_more(make: Callable[..., ReplayBuffer]) -> None:
    buffer = make(10)
    offer(buffer, range(6))
    assert content(buffer) == list(range(6))
    offer(buffer, range(6, 40))
    assert len(buffer) == 10
    assert buffer.offered == 40
    assert len(set(content(buffer))) == 10


def test_each_example_is_in_it_with_the_same_probability(make: Callable[..., ReplayBuffer]) -> None:
    trials, offered, capacity = 2000, 50, 10
    kept = np.zeros(offered)
    for seed in range(trials):
        buffer = make(capacity, seed)
        offer(buffer, range(20))  # in two parts: the second begins when it is full
        offer(buffer, range(20, offered))
        kept[content(buffer)] += 1
    p = capacity / offered
    # 49 degrees of freedom (the sum is fixed): chi-square is below 85 in 99.9 % of all cases
    assert ((kept - trials * p) ** 2 / (trials * p * (1 - p))).sum() * (1 - p) / (1 - 1 / offered) < 85


def test_samples_come_from_the_whole_content(make: Callable[..., ReplayBuffer]) -> None:
    buffer = make(10)
    assert len(buffer.sample(5)) == 0
    offer(buffer, range(10))
    sample = buffer.sample(200)
    assert set(sample["target"].tolist()) == set(range(10))
    assert np.array_equal(sample["h"][:, 0], sample["target"])
    assert np.array_equal(sample["history"][:, 5], sample["target"])


def test_forgetting_removes_exactly_the_users_examples(make: Callable[..., ReplayBuffer]) -> None:
    buffer = make(20)
    offer(buffer, range(20))
    assert buffer.forget(np.array([3, 5, 99], np.uint64)) == 6
    assert content(buffer) == [n for n in range(20) if n % 7 not in (3, 5)]
    assert buffer.forget(np.array([3], np.uint64)) == 0
    offer(buffer, range(20, 40))
    assert len(buffer) == 20


def test_a_restored_buffer_goes_on_as_if_never_stopped(make: Callable[..., ReplayBuffer]) -> None:
    buffer, other = make(10), make(10, seed=99)
    offer(buffer, range(25))
    arrays, rest = buffer.to_arrays()
    other.restore(arrays, json.loads(json.dumps(rest)))  # the rest travels as JSON
    for one in (buffer, other):
        offer(one, range(25, 60))
    assert content(other) == content(buffer)
    assert np.array_equal(other.sample(50), buffer.sample(50))
    assert other.offered == buffer.offered == 60


def test_an_empty_buffer_is_restored_too(make: Callable[..., ReplayBuffer]) -> None:
    buffer = make(10)
    buffer.restore(*make(10).to_arrays())
    assert len(buffer) == buffer.offered == 0


def test_a_cleared_buffer_begins_anew(make: Callable[..., ReplayBuffer]) -> None:
    buffer = make(10)
    offer(buffer, range(30))
    buffer.clear()
    assert len(buffer) == 0
    offer(buffer, range(5))
    assert content(buffer) == list(range(5))
