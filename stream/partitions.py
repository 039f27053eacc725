"""The states of the partitions this worker owns: opened and restored on assignment, closed on revocation."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import structlog

from eddyline.state.store import PartitionStore, StateStore
from eddyline.stream.changelog import Erasure, changelog_message, restore
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.microbatch import User
from eddyline.stream.outbox import Outbox

__all__ = ["Partitions"]

_log = structlog.get_logger()
_ERASED = 100_000


class Partitions:
    """One store per owned click partition; its changelog is the partition of the same number.

    Args:
        store: the worker's folder.
        kafka: how to reach Kafka.
        changelog: the topic of states.
        outbox: delivers the changelog.
        on_progress: called now and then while states are restored, in another thread.
    """

    def __init__(
        self, store: StateStore, kafka: KafkaSettings, changelog: str, outbox: Outbox, on_progress: Callable[[], None]
    ) -> None:
        self._store = store
        self._kafka = kafka
        self._changelog = changelog
        self._outbox = outbox
        self._on_progress = on_progress
        self._open: dict[int, PartitionStore] = {}
        # Who was erased last, up to which click, by partition; also of one that is given up, for when it comes back.
        self._erased: defaultdict[int, dict[bytes, int]] = defaultdict(dict)

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
        await self._restore(store)
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
            [changelog_message(self._changelog, user.partition, user.key, changes[user]) for user in users]
        )
        for partition, places in _by_partition(users).items():
            store = self._open[partition]
            rows = {users[place].key: changes[users[place]] for place in places}
            self._remember_erased(partition, rows)
            begin = 0 if store.changelog_offset is None else store.changelog_offset + 1
            if [offsets[place] for place in places] == list(range(begin, begin + len(places))):
                states = {key: None if isinstance(change, Erasure) else change for key, change in rows.items()}
                store.write(states, begin + len(places) - 1)
            else:  # something else came in between: sent twice, or by a worker that does not know yet that it lost us
                await self._restore(store)

    async def _restore(self, store: PartitionStore) -> None:
        """Read what the changelog has beyond the store, and put right what does not stand there."""
        log = _log.bind(partition=store.partition)

        def tell(done: int, total: int) -> None:
            log.debug("restoring", done=done, of=total)
            self._on_progress()

        restored = await asyncio.to_thread(
            restore,
            store,
            self._kafka,
            self._changelog,
            tell,
            erased=self._erased[store.partition],
        )
        if restored.applied or restored.deleted:
            log.info("restored states", applied=restored.applied, deleted=restored.deleted, users=len(store))
        if restored.outdated:
            log.warning("another worker wrote older states after newer ones", users=len(restored.outdated))
            await self._outbox.deliver(
                [
                    changelog_message(self._changelog, store.partition, key, change)
                    for key, change in restored.outdated.items()
                ]
            )

    def _remember_erased(self, partition: int, rows: Mapping[bytes, bytes | Erasure]) -> None:
        erased = self._erased[partition]
        erased.update((key, change.up_to) for key, change in rows.items() if isinstance(change, Erasure))
        while len(erased) > _ERASED:
            del erased[next(iter(erased))]


def _by_partition(users: Sequence[User]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for place, user in enumerate(users):
        places.setdefault(user.partition, []).append(place)
    return places
