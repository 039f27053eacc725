"""The states of the partitions this worker owns: opened and restored on assignment, closed on revocation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from eddyline.state.store import PartitionStore, StateStore
from eddyline.stream.changelog import restore
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.microbatch import User
from eddyline.stream.outbox import Message, Outbox

__all__ = ["Partitions"]

_log = structlog.get_logger()


class Partitions:
    """One store per owned click partition; its changelog is the partition of the same number.

    Args:
        store: the worker's folder.
        kafka: how to reach Kafka.
        changelog: the topic of states.
        outbox: delivers the changelog.
    """

    def __init__(self, store: StateStore, kafka: KafkaSettings, changelog: str, outbox: Outbox) -> None:
        self._store = store
        self._kafka = kafka
        self._changelog = changelog
        self._outbox = outbox
        self._open: dict[int, PartitionStore] = {}

    @property
    def owned(self) -> Mapping[int, PartitionStore]:
        """The partitions that are open."""
        return self._open

    @property
    def users(self) -> int:
        """How many users have a state here."""
        return sum(len(store) for store in self._open.values())

    async def open(self, partition: int) -> None:
        """Open a partition and read what its changelog has beyond it, unless it is open."""
        if partition in self._open:
            return
        store = await asyncio.to_thread(self._store.open, partition)
        log = _log.bind(partition=partition)
        restored = await asyncio.to_thread(
            restore,
            store,
            self._kafka,
            self._changelog,
            lambda done, total: log.debug("restoring", done=done, of=total),
        )
        if restored.applied or restored.deleted:
            log.info("restored states", applied=restored.applied, deleted=restored.deleted, users=len(store))
        self._open[partition] = store

    def close(self, partition: int) -> None:
        """Give a partition up."""
        if self._open.pop(partition, None) is not None:
            self._store.close(partition)

    def close_all(self) -> None:
        """Give everything up."""
        self._open.clear()
        self._store.close_all()

    def read(self, users: Sequence[User]) -> list[bytes | None]:
        """The states of users of owned partitions, in their order."""
        rows: list[bytes | None] = [None] * len(users)
        for partition, places in _by_partition(users).items():
            found = self._open[partition].get([users[place].key for place in places])
            for place, state in zip(places, found, strict=True):
                rows[place] = state
        return rows

    async def write(self, changes: Mapping[User, bytes | None]) -> None:
        """Write states: to the changelog first, and once that is acknowledged, to the stores."""
        users = list(changes)
        offsets = await self._outbox.deliver(
            [Message(self._changelog, changes[user], user.key, user.partition) for user in users]
        )
        for partition, places in _by_partition(users).items():
            rows = {users[place].key: changes[users[place]] for place in places}
            self._open[partition].write(rows, max(offsets[place] for place in places))


def _by_partition(users: Sequence[User]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for place, user in enumerate(users):
        places.setdefault(user.partition, []).append(place)
    return places
