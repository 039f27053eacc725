"""Who is idle."""

from __future__ import annotations

import pytest

from eddyline.state.memory_store import MemoryStateStore
from eddyline.state.retention import IdleUsers, idle_users
from eddyline.state.user_state import StateShape, encode_state, new_states

DAY_MS = 86_400_000
NOW_MS = 1_000 * DAY_MS


def test_a_user_is_idle_when_the_last_click_is_too_old(shape: StateShape) -> None:
    last_click = {
        b"fresh": NOW_MS,
        b"just in time": NOW_MS - 30 * DAY_MS,
        b"idle": NOW_MS - 30 * DAY_MS - 1,
        b"of the future": NOW_MS + DAY_MS,
    }
    states = new_states(shape, len(last_click))
    states["history_length"] = 2
    states["ts_ms"][:, 0] = 1  # an old click before it does not matter
    states["ts_ms"][:, 1] = list(last_click.values())
    states["offset"] = range(4)
    rows = [(user, encode_state(state)) for user, state in zip(last_click, states, strict=True)]
    assert idle_users(rows, shape, NOW_MS, 30) == {b"idle": 2}
    assert idle_users(rows, shape, NOW_MS, 30.5) == {}


def test_a_user_without_a_click_is_kept(shape: StateShape) -> None:
    assert idle_users([(b"new", encode_state(new_states(shape, 1)[0]))], shape, NOW_MS, 1) == {}
    assert idle_users([], shape, NOW_MS, 1) == {}


def test_all_users_are_looked_at_slice_by_slice_and_then_again(
    shape: StateShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eddyline.state.retention._ROWS", 2)
    states = new_states(shape, 5)
    states["history_length"], states["ts_ms"][:, 0], states["offset"] = 1, NOW_MS - 2 * DAY_MS, range(5)
    with MemoryStateStore() as stores:
        store = stores.open(0)
        store.write({b"u%d" % n: encode_state(state) for n, state in enumerate(states)}, 4)
        idle = IdleUsers(shape, 1)
        looks = [idle.look(store, NOW_MS) for _ in range(4)]
    assert looks == [{b"u0": 0, b"u1": 1}, {b"u2": 2, b"u3": 3}, {b"u4": 4}, {b"u0": 0, b"u1": 1}]
