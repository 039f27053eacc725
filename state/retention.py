"""Retention: whose state is old enough to be forgotten."""

from __future__ import annotations

from collections.abc import Sequence

from eddyline.state.store import PartitionStore
from eddyline.state.user_state import StateShape, decode_states

__all__ = ["IdleUsers", "idle_users"]

_DAY_MS = 86_400_000
_ROWS = 1_000


def idle_users(
    rows: Sequence[tuple[bytes, bytes]], shape: StateShape, now_ms: int, idle_days: float
) -> dict[bytes, int]:
    """The users among the (user id, state) rows whose last click is older than `idle_days` at `now_ms`.

    `now_ms` is event time: a log of the past that is played back must not make everybody old.

    Returns:
        the offset of each one's last click in the clicks topic, by user id.
    """
    states = decode_states(shape, [raw for _, raw in rows])
    oldest = now_ms - idle_days * _DAY_MS
    idle = {}
    for (user, _), state in zip(rows, states, strict=True):
        length = int(state["history_length"])
        if length and state["ts_ms"][length - 1] < oldest:
            idle[user] = int(state["offset"])
    return idle


class IdleUsers:
    """Looks through the states of partitions for idle users, again and again, a slice at a time.

    Args:
        shape: of the states.
        idle_days: days after the last click from which a user is idle.
    """

    def __init__(self, shape: StateShape, idle_days: float) -> None:
        self._shape = shape
        self._idle_days = idle_days
        self._next: dict[int, bytes | None] = {}  # of each partition, the user id to go on from

    def look(self, store: PartitionStore, now_ms: int) -> dict[bytes, int]:
        """The idle users of a partition's next slice, as `idle_users` gives them."""
        rows = store.scan(self._next.get(store.partition), _ROWS)
        self._next[store.partition] = rows[-1][0] + b"\0" if len(rows) == _ROWS else None
        return idle_users(rows, self._shape, now_ms, self._idle_days)
