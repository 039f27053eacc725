"""Subscribe to recommendations: the Python API for services that serve or cache the lists.

    with Subscription(KafkaSettings(bootstrap_servers="kafka:9092"), group="homepage") as lists:
        for recommendation in lists:
            cache[recommendation.user_id] = recommendation

The topic keeps the newest list of every user, so `offset="earliest"` first delivers what there is and then
whatever comes; with `exit_at_end=True` it ends where the topic ended when the subscription began.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

import structlog
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import CommitFailedError, KafkaError
from kafka.structs import OffsetAndMetadata

from eddyline.state.errors import BadRecord, ConfigurationError
from eddyline.state.records import Recommendation, decode_recommendation
from eddyline.state.times import from_iso
from eddyline.stream.clients import kafka_errors, open_consumer
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.topics import Topics, TopicSettings

__all__ = ["Start", "Subscription", "parse_offset"]

Start = Literal["earliest", "latest"] | int

_POLL_MS = 500
_POLL_RECORDS = 200  # with a group, all of them must be handled within Kafka's `max.poll.interval.ms`, 5 minutes
_COMMIT_S = 5.0

_log = structlog.get_logger()


def parse_offset(text: str) -> Start:
    """Where to begin: `earliest`, `latest`, or `ts=` with milliseconds since 1970 or ISO-8601 (else UTC).

    Returns:
        The word, or the time in milliseconds.

    Raises:
        ConfigurationError: it is none of these.
    """
    if text in ("earliest", "latest"):
        return "earliest" if text == "earliest" else "latest"
    at = text.removeprefix("ts=") if text.startswith("ts=") else ""
    if at.isdecimal():
        return int(at)
    try:
        ms = from_iso(at)
    except (ValueError, OverflowError):
        ms = -1
    if ms < 0:
        raise ConfigurationError(
            f"the offset is {text!r}; want earliest, latest, or ts= with milliseconds since 1970 or ISO-8601"
        )
    return ms


class Subscription:
    """The recommendations as an iterator, in the order each user's lists were produced.

    It has no thread of its own: it talks to Kafka while it is asked for the next list. Bad records are
    skipped, counted in `skipped`, and logged.

    Args:
        kafka: how to reach Kafka.
        topics: the topics, or their prefix.
        user: only this user's lists. Every partition is read all the same: whoever produces the clicks
            decides which one a user's lists are in.
        offset: where to begin: `earliest`, `latest`, or `ts=` with milliseconds or an ISO-8601 time (the
            first list published at or after it). With a group it holds only where the group has no position.
        group: the consumer group. Members share the partitions, and a later subscription goes on where the
            group stopped: a list counts as handled when the next one is asked for, or when the `with` block
            is left without an exception, so after a crash some lists come again and none is lost.
        exit_at_end: end where the topic ended at the start, instead of waiting for more.
        count: end after so many lists.
        on_erased: called with the id of a user who was erased; a cache deletes their list then.

    Raises:
        BrokerUnreachable: Kafka does not answer.
        ConfigurationError: there is no such topic, or the offset is not understood.
    """

    def __init__(
        self,
        kafka: KafkaSettings | None = None,
        topics: Topics | str = "eddyline",
        *,
        user: str | None = None,
        offset: str = "latest",
        group: str | None = None,
        exit_at_end: bool = False,
        count: int | None = None,
        on_erased: Callable[[str], None] | None = None,
    ) -> None:
        kafka = kafka or KafkaSettings()
        if isinstance(topics, str):
            topics = Topics.of(TopicSettings(prefix=topics))
        self.skipped = 0
        self._kafka = kafka
        self._topic = topics.recommendations
        self._user = None if user is None else user.encode()
        self._start = parse_offset(offset)
        self._group = group
        self._exit_at_end = exit_at_end
        self._left = count
        self._on_erased = on_erased
        self._buffer: deque[ConsumerRecord] = deque()
        self._ends: dict[TopicPartition, int] = {}
        self._given: ConsumerRecord | None = None  # handed out, perhaps not handled yet
        self._handled: dict[TopicPartition, int] = {}  # the next offset to read, not committed yet
        self._next_commit = 0.0
        self._closed = False
        self._consumer, self._partitions = open_consumer(
            kafka, self._topic, group_id=group, max_poll_records=_POLL_RECORDS
        )
        try:
            with kafka_errors(kafka):
                self._begin()
        except BaseException:
            self._consumer.close()
            raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Recommendation:
        self._settle()
        while not self._closed and self._left != 0:
            if not self._buffer and not self._fill():
                break
            record = self._buffer.popleft()
            recommendation = self._read(record)
            self._given = record
            if recommendation is None:
                self._settle()
            else:
                if self._left is not None:
                    self._left -= 1
                return recommendation
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._settle()
        self.close()

    def close(self) -> None:
        """Commit what has been handled (with a group) and leave. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._buffer.clear()
        try:
            self._commit()
        finally:
            self._consumer.close(autocommit=False)

    def _begin(self) -> None:
        consumer = self._consumer
        partitions = self._partitions
        self._ends = consumer.end_offsets(partitions)
        if self._group is None:
            consumer.assign(partitions)
            for partition, start in self._starts(partitions).items():
                consumer.seek(partition, start)
            return
        # Positions the group lacks are written down before joining, so that all members begin alike.
        new = [partition for partition in partitions if consumer.committed(partition) is None]
        try:
            self._commit_offsets(self._starts(new))
        except CommitFailedError:
            _log.debug("the group is at work and has its positions", group=self._group)
        consumer.subscribe([self._topic])

    def _starts(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset at which each partition begins, by what was asked for."""
        if self._start == "earliest":
            return dict(self._consumer.beginning_offsets(partitions))
        starts = {partition: self._ends[partition] for partition in partitions}
        if isinstance(self._start, int):
            found = self._consumer.offsets_for_times(dict.fromkeys(partitions, self._start))
            starts |= {partition: at.offset for partition, at in found.items() if at is not None}
        return starts

    def _fill(self) -> bool:
        """Wait for records; False at the end."""
        while True:
            with kafka_errors(self._kafka):
                polled = self._consumer.poll(timeout_ms=_POLL_MS)
            for records in polled.values():
                self._buffer.extend(records)
            if self._buffer:
                return True
            if self._exit_at_end and self._at_end():
                return False

    def _at_end(self) -> bool:
        """Positions decide, not records: what compaction removed is passed without being seen."""
        consumer = self._consumer
        mine = consumer.assignment()
        return bool(mine) and all((consumer.position(one) or 0) >= self._ends.get(one, 0) for one in mine)

    def _read(self, record: ConsumerRecord) -> Recommendation | None:
        if self._user is not None and record.key != self._user:
            return None
        try:
            if record.value is None:
                if self._on_erased is not None and record.key is not None:
                    self._on_erased(record.key.decode())
                return None
            return decode_recommendation(record.value)
        except (BadRecord, UnicodeDecodeError) as error:
            self.skipped += 1
            _log.warning(
                "skipped a record that is not a recommendation",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                reason=str(error),
            )
            return None

    def _settle(self) -> None:
        """The record handed out last is handled; commit now and then."""
        if self._given is None or self._group is None:
            return
        record, self._given = self._given, None
        self._handled[TopicPartition(record.topic, record.partition)] = record.offset + 1
        if time.monotonic() >= self._next_commit:
            self._commit()

    def _commit(self) -> None:
        self._next_commit = time.monotonic() + _COMMIT_S
        mine = self._consumer.assignment()
        handled = {partition: offset for partition, offset in self._handled.items() if partition in mine}
        self._handled.clear()
        try:
            self._commit_offsets(handled)
        except KafkaError as error:  # these lists come again, to whichever member has the partition next
            _log.warning("could not commit the position of the group", group=self._group, reason=str(error))

    def _commit_offsets(self, offsets: dict[TopicPartition, int]) -> None:
        if offsets:
            self._consumer.commit({at: OffsetAndMetadata(offset, "", -1) for at, offset in offsets.items()})
