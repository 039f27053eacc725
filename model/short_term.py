"""Short-term interest: an LSTM whose state each click advances.

Its weights are frozen while the stream runs, so states at rest stay valid; a newly pre-trained LSTM is a new
encoder, and a state made by another one is encoded anew from its recent clicks before it advances.

An item the encoder was not trained on enters through one of its bucket embeddings, chosen by the item's hash
alone: what a state becomes never depends on when an item was first seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import xxhash

from eddyline.model.compiled import compiled
from eddyline.model.item_table import ItemTable, find_rows, new_table
from eddyline.state.user_state import UserStates

__all__ = ["Encoder"]


@dataclass(frozen=True)
class Encoder:
    """A frozen one-layer LSTM (Hochreiter & Schmidhuber 1997, with forget gates), D → D.

        i, f, g, o = W_x x + W_h h + bias;   c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g);   h' = σ(o) ⊙ tanh(c')

    Attributes:
        items: hashes of the V items it was trained on, (V,).
        inputs: their embeddings, then those of the buckets, (V + buckets, D).
        w_x, w_h: weights, gates in the order i, f, g, o, (4 D, D).
        bias: (4 D,).
    """

    items: npt.NDArray[np.uint64]
    inputs: npt.NDArray[np.float32]
    w_x: npt.NDArray[np.float32]
    w_h: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    @cached_property
    def id(self) -> int:
        """The hash of everything that decides what a state becomes; never 0."""
        digest = xxhash.xxh3_64()
        for array in (self.items, self.inputs, self.w_x, self.w_h, self.bias):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.intdigest() or 1

    @cached_property
    def _table(self) -> ItemTable:
        return new_table(self.items, max(1, len(self.items)))

    @cached_property
    def _gates(self) -> npt.NDArray[np.float32]:
        """W_x x + bias for every input, (V + buckets, 4 D): an item's half of a step, computed once."""
        return np.ascontiguousarray(self.inputs @ self.w_x.T + self.bias, dtype=np.float32)

    @cached_property
    def _w_h(self) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(self.w_h.T, dtype=np.float32)  # (D, 4 D)

    def rows(self, items: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
        """The row of `inputs` through which each item enters; same shape."""
        rows = find_rows(self._table, items)
        buckets = len(self.inputs) - len(self.items)
        hashed = len(self.items) + (items % np.uint64(buckets)).astype(np.int32)
        return np.where(rows >= 0, rows, hashed).astype(np.int32)

    def advance(self, states: UserStates, items: npt.NDArray[np.uint64]) -> None:
        """Advance B states, in place, each by its item: h, c, and the ring of recent hidden states.

        A state of another encoder is first encoded anew from the clicks in its history, as many as the ring
        holds. The new item must not be in the history yet.
        """
        self.refresh(states)
        self._step(states, items)

    def refresh(self, states: UserStates) -> None:
        """Encode anew, in place, the states that another encoder made."""
        stale = states["encoder"] != self.id
        if stale.any():
            old = states[stale]
            self._encode_anew(old)
            states[stale] = old

    def _encode_anew(self, states: UserStates) -> None:
        states["h"] = 0.0
        states["c"] = 0.0
        states["ring"] = 0.0
        states["ring_length"] = 0
        states["encoder"] = self.id
        N = states["ring"].shape[1]
        length = states["history_length"].astype(np.int64)
        for age in range(N, 0, -1):
            chosen = np.flatnonzero(length >= age)
            if len(chosen):
                part = states[chosen]
                self._step(part, part["item"][np.arange(len(chosen)), length[chosen] - age])
                states[chosen] = part

    def _step(self, states: UserStates, items: npt.NDArray[np.uint64]) -> None:
        # copies: one compiled kernel for rows of plain arrays, whatever the batch
        h, c = np.array(states["h"], order="C"), np.array(states["c"], order="C")
        _lstm(self._gates, self.rows(items), self._w_h, h, c)
        states["h"], states["c"] = h, c
        N = states["ring"].shape[1]
        full = states["ring_length"] == N
        if full.any():
            ring = states["ring"][full]
            ring[:, :-1] = ring[:, 1:]
            states["ring"][full] = ring
        at = np.minimum(states["ring_length"], N - 1)
        states["ring"][np.arange(len(states)), at] = h
        states["ring_length"] = at + 1


@compiled
def _lstm(
    gates: npt.NDArray[np.float32],
    row: npt.NDArray[np.int32],
    w_h: npt.NDArray[np.float32],
    h: npt.NDArray[np.float32],
    c: npt.NDArray[np.float32],
) -> None:
    """One step for B states, in place.

    Written as a sum of scaled rows in a fixed order, so that the compiler vectorises along the outputs and a
    state's bits do not depend on the batch it is in (a matrix product's would).
    """
    D = h.shape[1]
    z = np.empty(4 * D, np.float32)
    one = np.float32(1.0)
    for b in range(len(h)):
        z[:] = gates[row[b]]
        for j in range(D):
            s = h[b, j]
            for k in range(4 * D):
                z[k] += s * w_h[j, k]
        for d in range(D):
            i = one / (one + np.exp(-z[d]))
            f = one / (one + np.exp(-z[D + d]))
            o = one / (one + np.exp(-z[3 * D + d]))
            c[b, d] = f * c[b, d] + i * np.tanh(z[2 * D + d])
            h[b, d] = o * np.tanh(c[b, d])
