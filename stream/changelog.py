"""Recovery of states from the changelog topic: compacted, key = user id, value = state, no value = erased.

Not Faust's tables: a plain consumer that compares its *position* with the end. The position moves past the
gaps compaction leaves, also past segments emptied altogether, so recovery always ends. Records are read with
aiokafka because it checks and unpacks them in C; kafka-python computes checksums in Python and is fifty times
slower on states of 3 kB.

Of two records of a user not the last one stands but that of the later click (`stream.newest`). What stands but is
not the last record is reported, and the partition's owner writes it anew, before compaction drops it.

A tombstone stays in the topic for its `delete.retention.ms` only. A local copy that was away for longer may
have missed one and would keep a user who was erased, so it is rebuilt from the beginning, not continued.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from eddyline.state.errors import BrokerUnreachable, ConfigurationError, EddylineError
from eddyline.state.store import Erasure, PartitionStore, now_ms
from eddyline.stream.async_clients import async_errors, stop_consumer
from eddyline.stream.kafka import KafkaSettings, async_options, wait_for_broker
from eddyline.stream.newest import Newest

__all__ = ["TOMBSTONE_RETENTION_S", "Restored", "changelog_ends", "read_changelog", "restore"]

TOMBSTONE_RETENTION_S = 24 * 60 * 60.0
"""`delete.retention.ms` of the states topic, in seconds (Kafka's default too)."""

_log = structlog.get_logger()

_POLL_MS = 200
_RECORDS = 1000  # of about 3 kB each: one atomic write of a few MB
_FETCH_BYTES = 8 * 1024 * 1024


class Restored(NamedTuple):
    """What a recovery did.

    Attributes:
        applied: records whose state was written.
        deleted: tombstones applied.
        skipped: records without a key; such a record cannot belong to a user.
        from_offset: the first offset asked for.
        to_offset: the offset after the last one read.
        rebuilt: whether the local copy was discarded first.
        seconds: how long it took.
        outdated: users whose last record in the changelog is older than what stands, and what stands.
    """

    applied: int
    deleted: int
    skipped: int
    from_offset: int
    to_offset: int
    rebuilt: bool
    seconds: float
    outdated: Mapping[bytes, bytes | Erasure]


def restore(
    store: PartitionStore,
    kafka: KafkaSettings,
    topic: str,
    on_progress: Callable[[int, int], None],
    *,
    tombstone_retention_s: float = TOMBSTONE_RETENTION_S,
) -> Restored:
    """Bring a partition's store up to where the changelog's partition of the same number ends at the call.

    Each write keeps rows and offset together, so an interrupted recovery goes on where it stopped. Blocks;
    must be called from a thread without a running event loop. An exception of `on_progress` ends it early.

    Args:
        store: the open store; it must not be written by anyone else meanwhile.
        kafka: how to reach Kafka.
        topic: the changelog.
        on_progress: called after each write with the offsets passed so far and the offsets to pass in all.
        tombstone_retention_s: the topic's `delete.retention.ms`, in seconds.

    Raises:
        BrokerUnreachable: Kafka does not answer, or stops answering for `request_timeout_s`.
        ConfigurationError: there is no such topic or partition.
        EddylineError: the store is further than the changelog.
    """
    begun = time.monotonic()
    started_ms = now_ms()  # before the end is asked for: what is written later may be missing from the rows
    where = f"{topic}[{store.partition}]"
    with _open(kafka, topic, [store.partition]) as reader:
        (oldest,), (end,) = reader.bounds()
        stored = store.changelog_offset
        if stored is not None and stored >= end:
            raise EddylineError(
                f"the state store of {where} stands at offset {stored}, but that changelog ends at {end}: "
                "the topic was made anew, or the store comes from another Kafka. Set the right Kafka, or "
                f"stop the worker and delete the folder of {store.name} to start from the changelog as it is"
            )
        rebuilt = _missed_tombstones(store, where, oldest, end, started_ms - tombstone_retention_s * 1000)
        if rebuilt:
            store.clear(started_ms)
            stored = None
        # Until the end is reached, tombstones are owed from the time the copy was last complete.
        caught_up_ms = started_ms if stored is None else store.caught_up_ms
        start = oldest if stored is None else stored + 1
        applied = deleted = skipped = 0
        newest = Newest(store)
        to_offset = start
        for records, to_offset in reader.read(store.partition, start, end):
            keyed = [record for record in records if record.key is not None]
            gone = sum(record.value is None for record in keyed)
            applied += len(keyed) - gone
            deleted += gone
            skipped += len(records) - len(keyed)
            store.write(newest.changes(keyed), to_offset - 1, caught_up_ms=caught_up_ms)
            on_progress(to_offset - start, max(end, to_offset) - start)
        if to_offset > 0:
            store.write({}, to_offset - 1, caught_up_ms=started_ms)
        store.drop_erasures(started_ms - int(tombstone_retention_s * 1000))
    if skipped:
        _log.warning("changelog records without a key were skipped", changelog=where, records=skipped)
    return Restored(applied, deleted, skipped, start, to_offset, rebuilt, time.monotonic() - begun, newest.outdated())


def changelog_ends(kafka: KafkaSettings, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """Where the changelog of each partition ends. Blocks, as `restore` does.

    Raises:
        BrokerUnreachable: Kafka does not answer.
        ConfigurationError: there is no such topic or partition.
    """
    with _open(kafka, topic, partitions) as reader:
        _, ends = reader.bounds()
        return dict(zip(reader.partitions, ends, strict=True))


def read_changelog(kafka: KafkaSettings, topic: str) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Every record there is now as (partition, user id, state or None where erased), oldest first.

    Of several records of a user, which all stand in one partition, the last one counts. Blocks; must be
    iterated in a thread without a running event loop, to its end or until closed.

    Raises:
        BrokerUnreachable: Kafka does not answer.
        ConfigurationError: there is no such topic.
    """
    with _open(kafka, topic, None) as reader:
        oldest, ends = reader.bounds()
        for partition, start, end in zip(reader.partitions, oldest, ends, strict=True):
            for records, _ in reader.read(partition, start, end):
                for record in records:
                    if record.key is not None and record.offset < end:
                        yield partition, record.key, record.value


def _missed_tombstones(store: PartitionStore, where: str, oldest: int, end: int, kept_since_ms: float) -> bool:
    """Whether tombstones after the store's offset may be gone from the changelog already."""
    stored = store.changelog_offset
    if stored is None or stored + 1 == end:  # nothing to miss: compaction never moves the end
        return False
    if stored + 1 < oldest:
        reason = f"the changelog begins at offset {oldest} now, the store stands at {stored}"
    elif store.caught_up_ms < kept_since_ms:
        reason = "the store was away for longer than erasures stay in the changelog"
    else:
        return False
    _log.warning("rebuilding the state of a partition", changelog=where, reason=reason)
    return True


class _Reader:
    """An aiokafka consumer driven step by step from ordinary code."""

    def __init__(
        self,
        runner: asyncio.Runner,
        consumer: AIOKafkaConsumer,
        kafka: KafkaSettings,
        topic: str,
        partitions: list[int],
    ) -> None:
        self.partitions = partitions
        self._runner = runner
        self._consumer = consumer
        self._kafka = kafka
        self._topic = topic

    def bounds(self) -> tuple[list[int], list[int]]:
        """The oldest offset and the end of each partition."""
        wanted = [TopicPartition(self._topic, partition) for partition in self.partitions]
        oldest = self._runner.run(self._consumer.beginning_offsets(wanted))
        ends = self._runner.run(self._consumer.end_offsets(wanted))
        return [oldest[one] for one in wanted], [ends[one] for one in wanted]

    def read(self, partition: int, start: int, end: int) -> Iterator[tuple[list[ConsumerRecord], int]]:
        """Batches of records and the position after each, until the position is at the end or beyond."""
        source = TopicPartition(self._topic, partition)
        self._runner.run(self._seek(source, start))
        position = start
        patience_s = self._kafka.request_timeout_s
        deadline = time.monotonic() + patience_s
        while position < end:
            records, reached = self._runner.run(self._poll(source))
            if reached != position:
                yield records, reached
                position = reached
                deadline = time.monotonic() + patience_s
            elif time.monotonic() > deadline:
                raise BrokerUnreachable(
                    f"Kafka at {self._kafka.bootstrap_servers} sent nothing of {self._topic}[{partition}] "
                    f"from offset {position} on for {patience_s:g} s: check that the broker is up and start "
                    "again; a recovery goes on where it stopped"
                )

    async def _seek(self, source: TopicPartition, start: int) -> None:
        self._consumer.assign([source])
        self._consumer.seek(source, start)

    async def _poll(self, source: TopicPartition) -> tuple[list[ConsumerRecord], int]:
        polled = await self._consumer.getmany(source, timeout_ms=_POLL_MS, max_records=_RECORDS)
        return polled.get(source, []), await self._consumer.position(source)


@contextmanager
def _open(kafka: KafkaSettings, topic: str, partitions: Sequence[int] | None) -> Iterator[_Reader]:
    """A reader of these partitions, or of all; errors of Kafka become ours."""
    wait_for_broker(kafka, kafka.request_timeout_s, _log.warning)
    with async_errors(kafka, topic), asyncio.Runner() as runner:
        consumer = runner.run(_start(kafka))
        try:
            existing = runner.run(_partitions(consumer, topic))
            missing = sorted(set(partitions or ()) - set(existing))
            if missing or not existing:
                what = f"partition {missing[0]} of topic `{topic}`" if existing else f"topic `{topic}`"
                raise ConfigurationError(f"there is no {what}: run `eddyline topics check`")
            yield _Reader(runner, consumer, kafka, topic, list(partitions or existing))
        finally:
            runner.run(stop_consumer(consumer))


async def _start(kafka: KafkaSettings) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        **async_options(kafka),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        await consumer.start()
    except BaseException:
        await stop_consumer(consumer)
        raise
    return consumer


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[int]:
    """The topic's partitions; asking for all topics' names first keeps a broker from making a missing one."""
    if topic not in await consumer.topics():
        return []
    first = TopicPartition(topic, 0)
    consumer.assign([first])
    await consumer.beginning_offsets([first])  # returns once the client knows the topic
    return sorted(consumer.partitions_for_topic(topic) or ())
