"""A micro-batch of clicks as arrays, ready for the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from eddyline.state.records import Click, hash_id

__all__ = ["ClickSettings", "Clicks"]


class ClickSettings(BaseModel):
    """What a click is worth."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: Mapping[str, float] = Field(
        default_factory=dict,
        description="Weight per kind of click, e.g. { purchase = 3.0, impression = 0.0 }; 0 ignores the kind",
    )
    default_weight: float = Field(1.0, ge=0, description="Weight of a kind that `weights` does not name")

    def weight(self, kind: str) -> float:
        """The weight of a kind."""
        return self.weights.get(kind, self.default_weight)


@dataclass(frozen=True)
class Clicks:
    """B clicks in the order of their topic.

    Attributes:
        user: each click's row in the states of the step, (B,).
        user_hash: hash of the user id, (B,).
        item: hash of the item id, (B,).
        item_ids: the ids themselves.
        ts_ms: event time, (B,).
        weight: weight of the click's kind, (B,).
        session: hash of the session id, 0 where none is given, (B,).
        partition, offset: where the click stands, (B,).
    """

    user: npt.NDArray[np.int64]
    user_hash: npt.NDArray[np.uint64]
    item: npt.NDArray[np.uint64]
    item_ids: Sequence[str]
    ts_ms: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]
    session: npt.NDArray[np.uint64]
    partition: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)

    def part(self, begin: int, end: int) -> Clicks:
        """The clicks from `begin` up to `end`, of the same users."""
        return Clicks(**{field.name: getattr(self, field.name)[begin:end] for field in fields(self)})

    @classmethod
    def of(
        cls,
        clicks: Sequence[Click],
        rows: Sequence[int] | npt.NDArray[np.int64],
        positions: Sequence[tuple[int, int]],
        settings: ClickSettings,
    ) -> Clicks:
        """Arrays of the clicks.

        Args:
            clicks: the clicks, in order.
            rows: each click's row in the states of the step.
            positions: each click's (partition, offset).
            settings: weights of the kinds.
        """
        where = np.array(positions, np.int64).reshape(-1, 2)
        return cls(
            user=np.array(rows, np.int64),
            user_hash=np.array([hash_id(click.user_id) for click in clicks], np.uint64),
            item=np.array([hash_id(click.item_id) for click in clicks], np.uint64),
            item_ids=[click.item_id for click in clicks],
            ts_ms=np.array([click.ts_ms for click in clicks], np.int64),
            weight=np.array([settings.weight(click.kind) for click in clicks], np.float32),
            session=np.array([hash_id(c.session_id) if c.session_id else 0 for c in clicks], np.uint64),
            partition=where[:, 0].astype(np.int32),
            offset=where[:, 1],
        )
