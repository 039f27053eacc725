"""Following a topic: every process reads all of it for itself, from an offset on, outside any group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from eddyline.state.errors import EddylineError
from eddyline.stream.async_clients import async_errors, patiently, stop_consumer
from eddyline.stream.kafka import KafkaSettings, async_options

__all__ = ["Follower", "Record"]

_POLL_MS = 200


class Record(NamedTuple):
    """One record of the topic."""

    offset: int
    key: bytes | None
    value: bytes | None


class Follower:
    """Reads a one-partition topic from an offset on.

    Args:
        kafka: how to reach Kafka.
        topic: the topic.
        start: the first offset wanted; None begins at the oldest record.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, start: int | None = None) -> None:
        self._topic = topic
        self._partition = TopicPartition(topic, 0)
        self._kafka = kafka
        self._consumer: Any = None
        self.next = start
        self.end = 0

    async def start(self, *, patient: bool = False, skip_deleted: bool = False) -> None:
        """Connect and find the place.

        Args:
            patient: for as long as Kafka is away, try again.
            skip_deleted: where the wanted offset is deleted already, begin at the oldest record there is.

        Raises:
            BrokerUnreachable: Kafka does not answer, or refuses.
            EddylineError: the wanted offset is not in the topic any more, or not yet.
        """
        with async_errors(self._kafka, self._topic):
            oldest = await (patiently(self._kafka, self._connect) if patient else self._connect())
        if self.next is None or (skip_deleted and self.next < oldest):
            self.next = oldest
        if not oldest <= self.next <= self.end:
            raise EddylineError(
                f"topic {self._topic} holds offsets {oldest} to {self.end}, wanted {self.next}: the topic was made "
                "anew or its retention is too short for the model version in use; promote a newer version, or use "
                "a new model store with a new topic"
            )
        self._consumer.seek(self._partition, self.next)

    async def _connect(self) -> int:
        """Connect and look where the topic ends; returns where it begins."""
        self._consumer = AIOKafkaConsumer(
            **async_options(self._kafka),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        try:
            await self._consumer.start()
            self._consumer.assign([self._partition])
            oldest = await self._consumer.beginning_offsets([self._partition])
            ends = await self._consumer.end_offsets([self._partition])
        except BaseException:
            await self.stop()
            raise
        self.end = ends[self._partition]
        begin: int = oldest[self._partition]
        return begin

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await stop_consumer(self._consumer)

    async def poll(self, timeout_ms: int = _POLL_MS) -> list[Record]:
        """What has come since, waiting a moment for it; `next` moves on, also over gaps.

        Raises:
            BrokerUnreachable: Kafka refuses.
        """
        with async_errors(self._kafka, self._topic):
            polled = await self._consumer.getmany(self._partition, timeout_ms=timeout_ms)
            records = [Record(r.offset, r.key, r.value) for r in polled.get(self._partition, [])]
            self.next = await self._consumer.position(self._partition)
        self.end = max(self._consumer.highwater(self._partition) or 0, self.end)
        return records

    async def look(self) -> None:
        """Ask Kafka where the topic ends now, again and again for as long as it is away.

        Raises:
            BrokerUnreachable: Kafka refuses.
        """
        with async_errors(self._kafka, self._topic):
            ends = await patiently(self._kafka, lambda: self._consumer.end_offsets([self._partition]))
        self.end = max(ends[self._partition], self.end)

    async def to_end(self) -> AsyncIterator[list[Record]]:
        """Everything up to where the topic ended at the start."""
        end = self.end
        while self.next is not None and self.next < end:
            yield await self.poll()

    @property
    def lag(self) -> int:
        """Records in the topic that were not read yet."""
        return max(0, self.end - (self.next or 0))
