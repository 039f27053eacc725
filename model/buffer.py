"""The replay buffer: a uniform sample of all examples seen, so that learning the new does not erase the old."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from eddyline.model.dense import DENSE
from eddyline.model.evidence import CONTEXT, SPARSE
from eddyline.state.user_state import StateShape

__all__ = ["BufferSettings", "ReplayBuffer"]

_CANDIDATES = 48
"""Candidates kept of an example: enough to tell a list of 20 from what comes next."""


class BufferSettings(BaseModel):
    """How much is remembered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capacity: int = Field(20_000, ge=1, description="Examples kept for replay (about 4 kB each)")


class ReplayBuffer:
    """A reservoir (Vitter 1985, Algorithm R): after n examples, each is in it with probability capacity / n.

    It keeps what examples were served with: state, history, and evidence of the best candidates. Evidence belongs to
    its moment; that of today for a click of the past would leak that click.

    Args:
        settings: its capacity.
        shape: sizes of the states.
        history: L, items of history per example.
        seed: of the sampling.
    """

    def __init__(self, settings: BufferSettings, shape: StateShape, history: int, seed: int = 0) -> None:
        D, N = shape.dimension, shape.ring
        self._dtype = np.dtype(
            [
                ("user", "<u8"),
                ("target", "<i4"),
                ("h", "<f2", (D,)),
                ("ring", "<f2", (N, D)),
                ("ring_length", "u1"),
                ("history", "<i4", (history,)),
                ("candidate", "<i4", (_CANDIDATES,)),
                ("neural", "<f2", (_CANDIDATES,)),
                ("evidence", "<f2", (_CANDIDATES, len(SPARSE))),
                ("dense", "<f2", (_CANDIDATES, len(DENSE))),
                ("context", "<f4", (len(CONTEXT),)),
                ("rank", "<i4"),
            ]
        )
        self.capacity = settings.capacity
        self.offered = 0
        self._room = np.zeros(0, self._dtype)
        self._count = 0
        self._random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> npt.NDArray[np.void]:
        """All examples in it, in no order."""
        return self._room[: self._count]

    def new_rows(self, count: int) -> npt.NDArray[np.void]:
        """Empty rows to fill and `add`."""
        return np.zeros(count, self._dtype)

    def add(self, rows: npt.NDArray[np.void]) -> None:
        """Offer examples, in order."""
        room = max(0, self.capacity - self._count)
        if room and len(rows):
            end = min(self._count + len(rows), self.capacity)
            if end > len(self._room):
                more = np.zeros(min(max(end, 2 * len(self._room)), self.capacity), self._dtype)
                more[: self._count] = self._room[: self._count]
                self._room = more
            self._room[self._count : end] = rows[:room]
            self._count = end
        late = rows[room:]
        self.offered += len(rows) - len(late)
        place = self._random.integers(0, self.offered + 1 + np.arange(len(late)))
        self.offered += len(late)
        taken = np.flatnonzero(place < self.capacity)
        self._room[place[taken]] = late[taken]  # of several for one place the last stays

    def sample(self, count: int) -> npt.NDArray[np.void]:
        """`count` examples drawn with replacement; none while the buffer is empty."""
        if not self._count:
            return self.rows
        return self._room.take(self._random.integers(0, self._count, count))

    def forget(self, users: npt.NDArray[np.uint64]) -> int:
        """Erase the examples of the users (hashes); returns how many there were."""
        gone = np.isin(self.rows["user"], users)
        self._room = self.rows[~gone]
        self._count = len(self._room)
        return int(gone.sum())

    def clear(self) -> None:
        """Forget everything: a new encoder makes old hidden states meaningless."""
        self._count = 0
        self.offered = 0

    def to_arrays(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The content, and what else is needed to go on exactly where it stood."""
        arrays = {name: np.ascontiguousarray(self.rows[name]) for name in self._dtype.names or ()}
        return arrays, {"offered": self.offered, "random": self._random.bit_generator.state}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]], rest: Mapping[str, Any]) -> None:
        """Take back what `to_arrays` gave."""
        self._room = self.new_rows(len(arrays["user"]))
        self._count = len(self._room)
        for name in self._dtype.names or ():
            self._room[name] = arrays[name]
        self.offered = rest["offered"]
        self._random.bit_generator.state = rest["random"]
