"""A micro-batch: records of the clicks topic, decoded and grouped by user, bad ones set apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from eddyline.model.clicks import ClickSettings
from eddyline.state.errors import BadRecord
from eddyline.state.records import Click, decode_click

__all__ = ["DeadClick", "Forget", "MicroBatch", "User", "micro_batches"]


class User(NamedTuple):
    """A user where their clicks come from. The partition is the record's own: producers hash keys differently."""

    partition: int
    key: bytes  # the user id, UTF-8


@dataclass
class MicroBatch:
    """Clicks to apply in one step.

    Attributes:
        clicks: in order of their partitions' offsets.
        rows: each click's row among the users.
        positions: each click's (partition, offset).
        users: distinct users, in order of appearance.
        newest: each user's newest click.
        arrived_ms: when each click's record was written to Kafka.
    """

    clicks: list[Click] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    positions: list[tuple[int, int]] = field(default_factory=list)
    users: dict[User, int] = field(default_factory=dict)
    newest: list[Click] = field(default_factory=list)
    arrived_ms: list[float] = field(default_factory=list)

    def add(self, click: Click, partition: int, offset: int, arrived_ms: float) -> None:
        """Append a click."""
        user = User(partition, click.user_id.encode())
        row = self.users.setdefault(user, len(self.users))
        if row == len(self.newest):
            self.newest.append(click)
        self.newest[row] = click
        self.clicks.append(click)
        self.rows.append(row)
        self.positions.append((partition, offset))
        self.arrived_ms.append(arrived_ms)


class Forget(NamedTuple):
    """A tombstone on the clicks topic, at this offset: erase the user."""

    user: User
    offset: int


class DeadClick(NamedTuple):
    """A record that could not be read."""

    key: bytes | None
    value: bytes | None
    partition: int
    offset: int
    error: BadRecord


def micro_batches(
    messages: Iterable[Any], settings: ClickSettings
) -> tuple[list[MicroBatch | Forget], list[DeadClick]]:
    """Decode records in order.

    Clicks between two erasures make one batch, so an erasure takes effect exactly where it stands. Kinds of
    weight 0 are left out.
    """
    parts: list[MicroBatch | Forget] = []
    dead = []
    for message in messages:
        if message.value is None and message.key:
            parts.append(Forget(User(message.partition, message.key), message.offset))
            continue
        try:
            click = decode_click(message.value or b"")
        except BadRecord as error:
            dead.append(DeadClick(message.key, message.value, message.partition, message.offset, error))
            continue
        if settings.weight(click.kind) == 0:
            continue
        if not parts or isinstance(parts[-1], Forget):
            parts.append(MicroBatch())
        batch = parts[-1]
        if isinstance(batch, MicroBatch):
            batch.add(click, message.partition, message.offset, 1000 * message.timestamp)
    return parts, dead
