"""The outbox on real Kafka: order, offsets, and what is larger than a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from eddyline.state.errors import EddylineError
from eddyline.stream.clients import open_consumer
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.membership import Expelled
from eddyline.stream.outbox import Message, Outbox
from eddyline.stream.topics import Topics, TopicSettings


async def yes() -> None:
    """Anything may be sent."""


def deliver(
    kafka: KafkaSettings, *rounds: Sequence[Message], confirm: Callable[[], Awaitable[None]] = yes
) -> list[list[int]]:
    async def work() -> list[list[int]]:
        outbox = Outbox(kafka, confirm)
        await outbox.start()
        try:
            return [await outbox.deliver(messages) for messages in rounds]
        finally:
            await outbox.stop()

    return asyncio.run(work())


def test_every_message_arrives_in_order_at_the_offset_it_was_told(
    kafka: KafkaSettings, topic_settings: TopicSettings
) -> None:
    topic = Topics.of(topic_settings).states
    sizes = [10, 100_000, 200_000, 100, 400_000, 50] * 5  # batches fill, and some messages exceed one
    first = [Message(topic, bytes([n]) * size, f"key-{n}".encode(), n % 3) for n, size in enumerate(sizes)]
    second = [Message(topic, None, b"gone", 1), Message(topic, b"x", b"k", 1, [("header", b"h")])]
    offsets = deliver(kafka, first, second)

    consumer, sources = open_consumer(kafka, topic)
    consumer.assign(sources)
    consumer.seek_to_beginning(*sources)
    ends = consumer.end_offsets(sources)
    found = {}
    while any(consumer.position(source) < ends[source] for source in sources):
        for source, records in consumer.poll(timeout_ms=200).items():
            found |= {(source.partition, record.offset): record for record in records}
    consumer.close()
    for message, offset in zip([*first, *second], offsets[0] + offsets[1], strict=True):
        record = found.pop((message.partition, offset))
        assert (record.key, record.value) == (message.key, message.value)
        assert [(name, value) for name, value in record.headers] == list(message.headers)
    assert not found
    for partition in range(3):
        placed = [offset for message, offset in zip(first, offsets[0], strict=True) if message.partition == partition]
        assert placed == sorted(placed)


def test_a_message_that_kafka_will_never_take_is_an_error(kafka: KafkaSettings, topic_settings: TopicSettings) -> None:
    topic = Topics.of(topic_settings).states
    with pytest.raises(EddylineError, match="refuses a record"):
        deliver(kafka, [Message(topic, b"x" * 2_000_000, b"key", 0)])


def test_nothing_is_sent_that_must_not_be_sent_any_more(kafka: KafkaSettings, topic_settings: TopicSettings) -> None:
    topic = Topics.of(topic_settings).states

    async def no() -> None:
        raise Expelled

    with pytest.raises(Expelled):
        deliver(kafka, [Message(topic, b"x", b"key", 0)], confirm=no)
    assert deliver(kafka, [Message(topic, b"x", b"key", 0)]) == [[0]]
