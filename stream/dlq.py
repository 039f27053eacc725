"""The dead letters: clicks that could not be read, kept as they came, with the reason beside them.

A dead letter has the key and the value of the record that failed, byte for byte. Everything else is in its
headers, as UTF-8 text:

    eddyline.topic, eddyline.partition, eddyline.offset   where the record stood
    eddyline.stage, eddyline.reason, eddyline.field       what was being done, what was wrong, in which field
    eddyline.failed-at-ms                                 when, milliseconds since 1970
    eddyline.whole-bytes                                  of key and value, where they are too long and were cut

A cut letter cannot be sent again; the whole record stands where it was for as long as its topic keeps it.
A record that is sent again carries `eddyline.replayed-from`: `topic/partition/offset` of its dead letter. A
receipt in the partition of the dead letter remembers it: a record with the header `eddyline.replayed`, whose
value is the JSON list of the offsets sent. (A consumer group's committed offsets would not do: Kafka forgets
those of an idle group after 7 days, and dead letters are kept longer.)
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from kafka import KafkaConsumer, KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from kafka.producer.future import FutureRecordMetadata

from eddyline.state.errors import EddylineError
from eddyline.stream.clients import kafka_errors, open_consumer, open_producer, patience_s
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.topics import Topics

__all__ = [
    "REPLAYED_FROM",
    "DeadLetter",
    "dead_letter_headers",
    "fitting",
    "parse_dead_letter",
    "read_dead_letters",
    "replay_dead_letters",
]

REPLAYED_FROM = "eddyline.replayed-from"

_RECEIPT = "eddyline.replayed"
_WHOLE = "eddyline.whole-bytes"
_LARGEST_KEY = 10_000
_LARGEST_VALUE = 900_000  # with key and headers that is less than any topic takes by default
_LONGEST_REASON = 1_000
_Otherwise = TypeVar("_Otherwise", int, None)
_POLL_MS = 500
_AT_ONCE = 500  # records sent between two receipts


@dataclass(frozen=True)
class DeadLetter:
    """One record of the dead-letter topic; `dlq_partition` and `dlq_offset` are where it stands there.

    `topic` (empty), `partition` and `offset` (-1), and `failed_at_ms` (0) have the values in brackets where
    the headers do not say. `field` is empty where the reason is about the whole record. `whole_bytes` is how
    long key and value were where they were cut, else None. `replayed` tells whether it was sent again.
    """

    key: bytes | None
    value: bytes | None
    topic: str
    partition: int
    offset: int
    stage: str
    reason: str
    field: str
    failed_at_ms: int
    whole_bytes: int | None = None
    dlq_partition: int = -1
    dlq_offset: int = -1
    replayed: bool = False


def dead_letter_headers(
    topic: str, partition: int, offset: int, stage: str, reason: str, *, field: str = ""
) -> list[tuple[str, bytes]]:
    """The headers that make a record a dead letter, as of now.

    Args:
        topic: where the record stood.
        partition: its partition there.
        offset: its offset there.
        stage: what was being done, for example `decode`.
        reason: what is wrong with it.
        field: the field it is about; empty where it is the whole record.
    """
    said = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "stage": stage,
        "reason": reason[:_LONGEST_REASON],
        "field": field,
        "failed-at-ms": time.time_ns() // 1_000_000,
    }
    return [(f"eddyline.{name}", str(value).encode("utf-8", "replace")) for name, value in said.items()]


def fitting(key: bytes | None, value: bytes | None) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """A record's key and value, cut where they are too long for the dead-letter topic, and the header that says so."""
    kept_key = None if key is None else key[:_LARGEST_KEY]
    kept_value = None if value is None else value[:_LARGEST_VALUE]
    if (kept_key, kept_value) == (key, value):
        return key, value, []
    whole = len(key or b"") + len(value or b"")
    return kept_key, kept_value, [(_WHOLE, str(whole).encode())]


def parse_dead_letter(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    *,
    dlq_partition: int = -1,
    dlq_offset: int = -1,
    replayed: bool = False,
) -> DeadLetter:
    """Read a record of the dead-letter topic. What its headers do not say is left empty, never an error."""
    said = {name.removeprefix("eddyline."): (text or b"").decode("utf-8", "replace") for name, text in headers}
    return DeadLetter(
        key=key,
        value=value,
        topic=said.get("topic", ""),
        partition=_integer(said, "partition", -1),
        offset=_integer(said, "offset", -1),
        stage=said.get("stage", ""),
        reason=said.get("reason", ""),
        field=said.get("field", ""),
        failed_at_ms=_integer(said, "failed-at-ms", 0),
        whole_bytes=_integer(said, "whole-bytes", None),
        dlq_partition=dlq_partition,
        dlq_offset=dlq_offset,
        replayed=replayed,
    )


def read_dead_letters(kafka: KafkaSettings, topics: Topics, *, limit: int | None = None) -> Iterator[DeadLetter]:
    """The dead letters there are now, oldest first within a partition.

    Args:
        kafka: how to reach Kafka.
        topics: where they are.
        limit: stop after so many.

    Raises:
        BrokerUnreachable: Kafka does not answer.
        ConfigurationError: there is no such topic.
    """
    consumer, partitions = open_consumer(kafka, topics.dlq)
    with closing(consumer), kafka_errors(kafka):
        consumer.assign(partitions)
        replayed = _receipts(consumer)
        left = limit
        for record in _records(consumer):
            if left == 0:
                return
            if not _is_receipt(record):
                yield parse_dead_letter(
                    record.key,
                    record.value,
                    record.headers,
                    dlq_partition=record.partition,
                    dlq_offset=record.offset,
                    replayed=(record.partition, record.offset) in replayed,
                )
                left = None if left is None else left - 1


def replay_dead_letters(
    kafka: KafkaSettings,
    topics: Topics,
    *,
    only: Callable[[DeadLetter], bool] | None = None,
    again: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Send dead letters to the clicks topic again: same key, same bytes, same partition.

    Each is sent once over all calls, as long as it is kept; a crash repeats at most 500. What was never a
    record of the clicks topic, has neither key nor value, or was cut, cannot be sent and is passed over.

    Args:
        kafka: how to reach Kafka.
        topics: where the dead letters are, and where they go.
        only: sends those it says yes to; the others wait for another call.
        again: sends those that were sent before as well.
        on_progress: called with the number sent so far.

    Returns:
        How many were sent.

    Raises:
        BrokerUnreachable: Kafka does not answer.
        ConfigurationError: there is no such topic.
        EddylineError: Kafka did not take a record.
    """
    count = 0
    with open_producer(kafka, topics.clicks) as producer:
        partitions = len(producer.partitions_for(topics.clicks))
        batch: list[DeadLetter] = []

        def flush() -> None:
            nonlocal count
            _send(producer, topics, batch, partitions, patience_s(kafka))
            count += len(batch)
            batch.clear()
            if on_progress is not None:
                on_progress(count)

        for letter in read_dead_letters(kafka, topics):
            record = letter.topic == topics.clicks and not (letter.key is None and letter.value is None)
            sendable = record and letter.whole_bytes is None
            if sendable and (again or not letter.replayed) and (only is None or only(letter)):
                batch.append(letter)
                if len(batch) == _AT_ONCE:
                    flush()
        flush()
    return count


def _send(
    producer: KafkaProducer,
    topics: Topics,
    letters: Sequence[DeadLetter],
    partitions: int,
    patience: float,
) -> None:
    """Send letters again, and their receipts once Kafka has all of them."""
    sent: list[FutureRecordMetadata] = []
    receipts: dict[int, list[int]] = defaultdict(list)
    try:
        for letter in letters:
            origin = f"{topics.dlq}/{letter.dlq_partition}/{letter.dlq_offset}"
            sent.append(
                producer.send(
                    topics.clicks,
                    key=letter.key,
                    value=letter.value,
                    headers=[(REPLAYED_FROM, origin.encode())],
                    # The partition it was in, not the one its key hashes to: its user's state is there.
                    partition=letter.partition if 0 <= letter.partition < partitions else None,
                )
            )
            receipts[letter.dlq_partition].append(letter.dlq_offset)
        _await(producer, sent, patience)
        _await(
            producer,
            [
                producer.send(topics.dlq, partition=at, value=msgspec.json.encode(offsets), headers=[(_RECEIPT, b"1")])
                for at, offsets in receipts.items()
            ],
            patience,
        )
    except KafkaError as error:
        raise EddylineError(f"Kafka did not take a dead letter for `{topics.clicks}`: {error}") from error


def _await(producer: KafkaProducer, sent: Sequence[FutureRecordMetadata], patience: float) -> None:
    producer.flush(timeout=patience)
    for future in sent:
        future.get()


def _records(consumer: KafkaConsumer) -> Iterator[ConsumerRecord]:
    """Every record from the beginning up to the end of now."""
    partitions = list(consumer.assignment())
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning()
    # Positions decide, not records: offsets may have gaps.
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for partition, records in consumer.poll(timeout_ms=_POLL_MS).items():
            yield from (record for record in records if record.offset < ends[partition])


def _receipts(consumer: KafkaConsumer) -> set[tuple[int, int]]:
    """Partition and offset of every dead letter that was sent again."""
    return {
        (record.partition, offset)
        for record in _records(consumer)
        if _is_receipt(record)
        for offset in msgspec.json.decode(record.value, type=list[int])
    }


def _is_receipt(record: ConsumerRecord) -> bool:
    return any(name == _RECEIPT for name, _ in record.headers)


def _integer(said: Mapping[str, str], name: str, otherwise: _Otherwise) -> int | _Otherwise:
    try:
        return int(said[name])
    except (KeyError, ValueError):
        return otherwise
