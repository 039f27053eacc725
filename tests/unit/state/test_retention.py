"""Who is idle."""

from __future__ import annotations

from eddyline.state.retention import idle_users
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
    rows = [(user, encode_state(state)) for user, state in zip(last_click, states, strict=True)]
    assert idle_users(rows, shape, NOW_MS, 30) == [b"idle"]
    assert idle_users(rows, shape, NOW_MS, 30.5) == []


def test_a_user_without_a_click_is_kept(shape: StateShape) -> None:
    assert idle_users([(b"new", encode_state(new_states(shape, 1)[0]))], shape, NOW_MS, 1) == []
    assert idle_users([], shape, NOW_MS, 1) == []
