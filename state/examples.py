"""Examples: what the model saw before each click, and the click. The trainer learns from these alone.

They are logged by the worker as served and never recomputed, so training and serving cannot disagree, and a
click cannot leak into the evidence it is to be predicted from.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from eddyline.state.errors import UnknownFormat
from eddyline.state.packed import LARGEST, messages, pack, unpack

__all__ = ["Examples"]

_KIND, _VERSION = b"x", 5


@dataclass(frozen=True)
class Examples:
    """B clicks at M moments with what was known before them. All item rows are rows of the counts.

    A moment is the counts as they stood: a worker's message has one, that of its micro-batch.

    Attributes:
        encoder: the encoder of the hidden states, (1,).
        model_version: the version that served, (1,).
        user: hash of the user, (B,).
        item: hash of the clicked item, (B,).
        ts_ms: event time, (B,).
        partition, offset: where the click stands in the clicks topic, (B,).
        weight: weight of the click's kind, (B,).
        rank: place of the clicked item among the whole catalogue as the serving model scored it, ties counted
            against the model; 0 where the item was not in the catalogue yet, (B,).
        popular_rank: the same by decayed popularity alone, the baseline, (B,).
        h: hidden state, (B, D).
        ring: recent hidden states, (B, N, D), of which `ring_length` (B,) count.
        history: rows of the user's last items, newest first, -1 beyond, (B, L).
        context: what the gate looked at, (B, C).
        start: where each click's candidates begin; the last entry is n, (B + 1,).
        candidate: rows of the strongest candidates, and of the clicked item if it was one, (n,).
        evidence: their sparse evidence, (n, S).
        dense: their dense evidence, (n, E).
        moment: at which moment each click was, (B,).
        known: items in the catalogue at each moment, (M,); the pool's rows from there on were not yet to be had.
        pool: rows that each click is told apart from beside its own candidates: the clicked items, popular ones, and
            some drawn uniformly, (P,).
        pool_dense: their dense evidence at each moment, (M, E, P).
        pool_log_odds: log(1 / probability of being in the pool), 0 for the ones not drawn, (P,).
        forget: hash of a user to be erased, alone in its message; `partition` is then where the request stood, (F,).
    """

    encoder: npt.NDArray[np.uint64]
    model_version: npt.NDArray[np.int64]
    user: npt.NDArray[np.uint64]
    item: npt.NDArray[np.uint64]
    ts_ms: npt.NDArray[np.int64]
    partition: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]
    rank: npt.NDArray[np.int32]
    popular_rank: npt.NDArray[np.int32]
    h: npt.NDArray[np.float16]
    ring: npt.NDArray[np.float16]
    ring_length: npt.NDArray[np.uint8]
    history: npt.NDArray[np.int32]
    context: npt.NDArray[np.float32]
    start: npt.NDArray[np.int32]
    candidate: npt.NDArray[np.int32]
    evidence: npt.NDArray[np.float16]
    dense: npt.NDArray[np.float16]
    moment: npt.NDArray[np.uint8]
    known: npt.NDArray[np.int32]
    pool: npt.NDArray[np.int32]
    pool_dense: npt.NDArray[np.float16]
    pool_log_odds: npt.NDArray[np.float32]
    forget: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.item)

    def only(self, kept: npt.NDArray[np.bool_]) -> Examples:
        """Those of the B examples that are kept, (B,), told apart from the same pool at the same moments as before."""
        sizes = np.diff(self.start)
        logged = np.repeat(kept, sizes)  # (n,)
        columns = {name: getattr(self, name)[kept] for name in _OF_EACH}
        columns |= {name: getattr(self, name)[logged] for name in _OF_CANDIDATES}
        start = np.concatenate([[0], np.cumsum(sizes[kept])]).astype(self.start.dtype)
        return replace(self, **columns, start=start)

    def messages(self, largest: int = LARGEST) -> list[bytes]:
        """Messages for the examples topic, in order, each of at most so many bytes."""
        return messages(self, largest)

    def halves(self) -> tuple[Examples, Examples]:
        """The first examples and the others."""
        first = np.arange(len(self)) < len(self) // 2
        return self.only(first), self.only(~first)

    def encode(self) -> bytes:
        """One message for the examples topic."""
        return pack(_KIND, _VERSION, {f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def decode(cls, raw: bytes) -> Examples:
        """Read one message of the examples topic.

        Raises:
            UnknownFormat: it is not examples, of a format this version does not know, or damaged.
        """
        columns = unpack(raw, _KIND, _VERSION)
        if columns.keys() != set(_NAMES):
            odd = sorted(columns.keys() ^ set(_NAMES))
            raise UnknownFormat(f"a message of examples is damaged: missing or unknown columns {odd}")
        return cls(**columns)

    @classmethod
    def of_forgotten(cls, user: int, partition: int) -> Examples:
        """No clicks: only the hash of a user to be erased, whose clicks up to now in this partition came before."""
        columns: dict[str, npt.NDArray[Any]] = {name: np.zeros(0, np.uint8) for name in _NAMES}
        return cls(**{**columns, "forget": np.array([user], np.uint64), "partition": np.array([partition], np.int32)})


_NAMES = tuple(f.name for f in fields(Examples))
_OF_CANDIDATES = "candidate", "evidence", "dense"
_OF_EACH = (
    "user", "item", "ts_ms", "partition", "offset", "weight", "rank", "popular_rank", "h", "ring", "ring_length",
    "history", "context", "moment",
)  # fmt: skip
