"""Erasing a user: a tombstone through the clicks topic, and the receipts of everyone who holds something.

The tombstone (key = user id, no value) goes to every partition of the clicks topic, since only the producers know
which one the user's clicks are in, and takes its place in the order of the clicks. A worker deletes the state and
writes tombstones to the changelog and the recommendations; the trainer deletes the user's examples from the
replay buffer and from the clicks kept for pre-training. Each writes a receipt, which names the user by hash.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

import msgspec

from eddyline.state.records import hash_id
from eddyline.stream.clients import kafka_errors, open_consumer, open_producer, patience_s
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.topics import Topics

__all__ = ["Receipt", "decode_receipt", "forget_user"]

_POLL_MS = 200


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker or the trainer erased.

    `partition` is where the request stood in the clicks topic. `examples` are those in the trainer's replay
    buffer, `clicks` those it kept for pre-training.
    """

    user_hash: str
    by: Literal["worker", "trainer"]
    at_ms: int
    partition: int
    states: int = 0
    examples: int = 0
    clicks: int = 0

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)


def decode_receipt(raw: bytes) -> Receipt:
    """Read a receipt."""
    return msgspec.json.decode(raw, type=Receipt)


def forget_user(kafka: KafkaSettings, topics: Topics, user_id: str, *, timeout_s: float = 30.0) -> Iterator[Receipt]:
    """Ask for a user to be erased and yield the receipts as they come in.

    Ends once every partition's worker and the trainer have answered, or after `timeout_s`. What does not run
    now erases the user when it next runs: the request stays in its place in the topic.
    """
    wanted = f"{hash_id(user_id):016x}"
    consumer, sources = open_consumer(kafka, topics.erasures)
    try:
        with kafka_errors(kafka):
            consumer.assign(sources)
            consumer.seek_to_end(*sources)
            for source in sources:
                consumer.position(source)
        partitions = _send_tombstones(kafka, topics, user_id)
        deadline = time.monotonic() + timeout_s
        waiting = {(by, partition) for by in ("worker", "trainer") for partition in range(partitions)}
        while waiting and time.monotonic() < deadline:
            with kafka_errors(kafka):
                polled = consumer.poll(timeout_ms=_POLL_MS)
            for record in (record for records in polled.values() for record in records):
                receipt = decode_receipt(record.value)
                if receipt.user_hash == wanted:
                    waiting.discard((receipt.by, receipt.partition))
                    yield receipt
    finally:
        consumer.close()


def _send_tombstones(kafka: KafkaSettings, topics: Topics, user_id: str) -> int:
    with open_producer(kafka, topics.clicks) as producer, kafka_errors(kafka):
        partitions = sorted(producer.partitions_for(topics.clicks))
        sent = [
            producer.send(topics.clicks, key=user_id.encode(), value=None, partition=partition)
            for partition in partitions
        ]
        for future in sent:
            future.get(timeout=patience_s(kafka))
    return len(partitions)
