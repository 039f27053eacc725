"""The states of the partitions this worker owns: opened and restored on assignment, closed on revocation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from eddyline.state.errors import BrokerUnreachable
from eddyline.state.store import Erasure, PartitionStore, StateStore
from eddyline.stream.changelog import changelog_ends, restore
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.microbatch import User
from eddyline.stream.newest import changelog_message
from eddyline.stream.outbox import Message, Outbox
from eddyline.stream.topics import Topics

__all__ = ["Partitions"]

_log = structlog.get_logger()
_PAUSE_S = 5.0


class Partitions:
    """One store per owned click partition; its changelog is the partition of the same number.

    Args:
        store: the worker's folder.
        kafka: how to reach Kafka.
        topics: of the states and of the lists.
        outbox: delivers the changelog.
        on_progress: told the partition now and then while its states are restored, in another thread; what it raises
            ends that.
    """

    def __init__(
        self,
        store: StateStore,
        kafka: KafkaSettings,
        topics: Topics,
        outbox: Outbox,
        on_progress: Callable[[int], None],
    ) -> None:
        self._store = store
        self._kafka = kafka
        self._topics = topics
        self._outbox = outbox
        self._on_progress = on_progress
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
        try:
            await self._restore(store)
        except BaseException:
            self._store.close(partition)
            raise
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

    async def write(self, changes: Mapping[User, bytes | Erasure]) -> None:
        """Write states and erasures: to the changelog first, and once that is acknowledged, to the stores."""
        users = list(changes)
        offsets = await self._outbox.deliver(
            [changelog_message(self._topics.states, user.partition, user.key, changes[user]) for user in users]
        )
        for partition, places in _by_partition(users).items():
            store = self._open[partition]
            begin = 0 if store.changelog_offset is None else store.changelog_offset + 1
            if [offsets[place] for place in places] == list(range(begin, begin + len(places))):
                store.write({users[place].key: changes[users[place]] for place in places}, begin + len(places) - 1)
            else:  # something else came in between: sent twice, or by a worker that does not know yet that it lost us
                await self._restore(store)

    async def ends(self) -> Mapping[int, int]:
        """Where the changelogs of the open partitions end; none while Kafka is away."""
        try:
            return await asyncio.to_thread(changelog_ends, self._kafka, self._topics.states, list(self._open))
        except BrokerUnreachable:
            return {}

    async def catch_up(self, ends: Mapping[int, int]) -> None:
        """Take in what others wrote after us up to these ends: compaction keeps the last record, not what stands."""
        for partition, end in ends.items():
            store = self._open.get(partition)
            if store is not None and end > (0 if store.changelog_offset is None else store.changelog_offset + 1):
                await self._restore(store)

    async def _restore(self, store: PartitionStore) -> None:
        """Read what the changelog has beyond the store, once Kafka answers, and put right what does not stand there."""
        partition = store.partition
        log = _log.bind(partition=partition)

        def tell(done: int, total: int) -> None:
            log.debug("restoring", done=done, of=total)
            self._on_progress(partition)

        while True:
            self._on_progress(partition)
            try:
                restored = await asyncio.to_thread(restore, store, self._kafka, self._topics.states, tell)
            except BrokerUnreachable as error:
                log.warning("cannot restore states, trying again", pause_s=_PAUSE_S, reason=str(error))
                await asyncio.sleep(_PAUSE_S)
            else:
                break
        if restored.applied or restored.deleted:
            log.info("restored states", applied=restored.applied, deleted=restored.deleted, users=len(store))
        if restored.outdated:
            log.warning("another worker wrote older states after newer ones", users=len(restored.outdated))
            right = [
                changelog_message(self._topics.states, partition, key, change)
                for key, change in restored.outdated.items()
            ]
            right += [  # their lists may have come back with them
                Message(self._topics.recommendations, None, key, partition)
                for key, change in restored.outdated.items()
                if isinstance(change, Erasure)
            ]
            await self._outbox.deliver(right)


def _by_partition(users: Sequence[User]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for place, user in enumerate(users):
        places.setdefault(user.partition, []).append(place)
    return places
