"""What eddyline knows of a user between two clicks, and its form at rest.

States are rows of one numpy structured array, so that a micro-batch is a slice and no Python object stands
between RocksDB and the kernels. A state is a pure function of the encoder and the user's clicks.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from eddyline.state.errors import UnknownFormat

__all__ = ["NO_ENCODER", "StateShape", "UserStates", "decode_states", "encode_state", "last_offset", "new_states"]

UserStates: TypeAlias = npt.NDArray[np.void]
"""One row per user; the fields are those of `StateShape.dtype`."""

NO_ENCODER = 0
"""The `encoder` of a state that no LSTM has seen yet: its hidden states are zero and count for nothing."""

FORMAT = 1
# magic, format, D, N, encoder, partition, offset, clicks, session, session_length, ring_length, history_length
_HEAD = struct.Struct("<2sBHHQiqIQHHH")
_MAGIC = b"US"


class StateShape(BaseModel):
    """How much of a user is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimension: int = Field(64, ge=4, le=1024, description="D: size of hidden states and item embeddings")
    ring: int = Field(10, ge=1, le=100, description="N: recent hidden states that attention looks at")
    history: int = Field(100, ge=10, le=1000, description="Recent clicks of a user that are kept")

    @property
    def dtype(self) -> np.dtype[np.void]:
        """One user's row.

        `encoder`: id of the weights that made `h`, `c` and `ring`. `partition`, `offset`: the last click
        applied (-1: none). `clicks`: clicks applied so far. `session`: hash of the running session's id (0:
        none given); `session_length`: clicks in it. `ring`: the last hidden states, oldest first, of which
        `ring_length` count; half precision, also while served. `item`, `ts_ms`: the last clicks, oldest
        first, of which `history_length` count.
        """
        D, N, H = self.dimension, self.ring, self.history
        fields: list[Any] = [
            ("encoder", "<u8"),
            ("partition", "<i4"),
            ("offset", "<i8"),
            ("clicks", "<u4"),
            ("session", "<u8"),
            ("session_length", "<u2"),
            ("ring_length", "<u2"),
            ("history_length", "<u2"),
            ("h", "<f4", (D,)),
            ("c", "<f4", (D,)),
            ("ring", "<f2", (N, D)),
            ("item", "<u8", (H,)),
            ("ts_ms", "<i8", (H,)),
        ]
        return np.dtype(fields)


def new_states(shape: StateShape, count: int) -> UserStates:
    """States of `count` users who have not clicked yet."""
    states = np.zeros(count, shape.dtype)
    states["partition"] = -1
    states["offset"] = -1
    return states


def encode_state(state: np.void) -> bytes:
    """One row as bytes: a fixed head, then only the parts in use.

    The first bytes are the magic `US` and the format's number. All numbers are little-endian. Hidden states
    are left out where no encoder has made any.
    """
    ring_length, history_length = int(state["ring_length"]), int(state["history_length"])
    N, D = state["ring"].shape
    head = _HEAD.pack(
        _MAGIC,
        FORMAT,
        D,
        N,
        int(state["encoder"]),
        int(state["partition"]),
        int(state["offset"]),
        int(state["clicks"]),
        int(state["session"]),
        int(state["session_length"]),
        ring_length,
        history_length,
    )
    parts = [head, state["item"][:history_length].tobytes(), state["ts_ms"][:history_length].tobytes()]
    if state["encoder"] != NO_ENCODER:
        parts += [state["h"].tobytes(), state["c"].tobytes(), state["ring"][:ring_length].tobytes()]
    return b"".join(parts)


def last_offset(raw: bytes) -> int | None:
    """The offset of the last click in an encoded state; None where the bytes are of a format not known here.

    Of two states of a user, the one with the later click knows all that the other does.
    """
    if len(raw) < _HEAD.size or raw[:2] != _MAGIC or raw[2] != FORMAT:
        return None
    offset: int = _HEAD.unpack_from(raw)[6]
    return offset


def _decode_state(raw: bytes, into: UserStates, row: int) -> None:
    """Read one encoded state into `into[row]`, which must be new.

    A state of another size (the settings were changed) keeps its clicks, the newest that fit. Of another D or N
    its hidden states are dropped, and the engine makes them anew from those clicks.

    Raises:
        UnknownFormat: the bytes are not a state, or one of a format this version does not know.
    """
    if len(raw) < _HEAD.size or raw[:2] != _MAGIC or raw[2] != FORMAT:
        found = raw[2] if raw[:2] == _MAGIC and len(raw) > 2 else "none"
        raise UnknownFormat(
            f"a user's state has format {found}, this version reads format {FORMAT}: run the version that wrote "
            "it, or start with a new topic prefix and state folder to build the states anew from the clicks"
        )
    (_, _, D, N, encoder, partition, offset, clicks, session, session_length, ring_length, history_length) = (
        _HEAD.unpack_from(raw)
    )
    hidden = 0 if encoder == NO_ENCODER else 4 * D * 2 + 2 * D * ring_length
    if len(raw) != _HEAD.size + 16 * history_length + hidden or ring_length > N:
        raise UnknownFormat(
            f"a user's state is {len(raw)} bytes long, its head says "
            f"{_HEAD.size + 16 * history_length + hidden} with {ring_length} of {N} recent hidden states: the record "
            "is damaged; delete the worker's state folder to restore it from the changelog topic"
        )
    state = into[row]
    state["partition"], state["offset"], state["clicks"] = partition, offset, clicks
    state["session"], state["session_length"] = session, session_length
    kept = min(history_length, len(state["item"]))
    state["history_length"] = kept
    at = _HEAD.size
    items = np.frombuffer(raw, "<u8", history_length, at)
    times = np.frombuffer(raw, "<i8", history_length, at + 8 * history_length)
    state["item"][:kept] = items[history_length - kept :]
    state["ts_ms"][:kept] = times[history_length - kept :]
    if encoder == NO_ENCODER or state["ring"].shape != (N, D):
        return
    at += 16 * history_length
    state["encoder"], state["ring_length"] = encoder, ring_length
    state["h"] = np.frombuffer(raw, "<f4", D, at)
    state["c"] = np.frombuffer(raw, "<f4", D, at + 4 * D)
    state["ring"][:ring_length] = np.frombuffer(raw, "<f2", ring_length * D, at + 8 * D).reshape(ring_length, D)


def decode_states(shape: StateShape, raws: Sequence[bytes | None]) -> UserStates:
    """One row per encoded state; None gives a new one."""
    states = new_states(shape, len(raws))
    for row, raw in enumerate(raws):
        if raw is not None:
            _decode_state(raw, states, row)
    return states
