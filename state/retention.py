"""Retention: whose state is old enough to be forgotten."""

from __future__ import annotations

from collections.abc import Iterable

from eddyline.state.user_state import StateShape, decode_states

__all__ = ["idle_users"]

_DAY_MS = 86_400_000


def idle_users(rows: Iterable[tuple[bytes, bytes]], shape: StateShape, now_ms: int, idle_days: float) -> list[bytes]:
    """The users among the (user id, state) rows whose last click is older than `idle_days` at `now_ms`.

    `now_ms` is event time: a log of the past that is played back must not make everybody old.
    """
    pairs = list(rows)
    states = decode_states(shape, [raw for _, raw in pairs])
    oldest = now_ms - idle_days * _DAY_MS
    idle = []
    for (user, _), state in zip(pairs, states, strict=True):
        length = int(state["history_length"])
        if length and state["ts_ms"][length - 1] < oldest:
            idle.append(user)
    return idle
