"""Producers and consumers of one existing topic, with Kafka's failures told as our errors."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from eddyline.state.errors import BrokerUnreachable, ConfigurationError
from eddyline.stream.kafka import KafkaSettings, client_options, wait_for_broker

__all__ = ["kafka_errors", "open_consumer", "open_producer", "patience_s"]

# How long a topic may be unknown before it counts as missing.
_NO_TOPIC_MS = 10_000
_CLOSE_S = 5.0


@contextmanager
def kafka_errors(kafka: KafkaSettings) -> Iterator[None]:
    """Raise `BrokerUnreachable` for whatever Kafka's client raises inside."""
    try:
        yield
    except KafkaError as error:
        raise BrokerUnreachable(
            f"Kafka at {kafka.bootstrap_servers} does not answer, or refuses ({error}); `eddyline doctor` tells more"
        ) from error


@contextmanager
def open_producer(kafka: KafkaSettings, topic: str, **options: Any) -> Iterator[KafkaProducer]:
    """A producer whose records count once all replicas have them, and never twice; closed at the end.

    Raises:
        BrokerUnreachable: Kafka does not answer.
        ConfigurationError: there is no such topic.
    """
    _wait(kafka)
    with kafka_errors(kafka):
        producer = KafkaProducer(
            **client_options(kafka),
            acks="all",
            max_block_ms=_NO_TOPIC_MS,
            delivery_timeout_ms=int(patience_s(kafka) * 1000),
            allow_auto_create_topics=False,
            **options,
        )
    try:
        try:
            producer.partitions_for(topic)
        except KafkaError as error:
            raise _no_topic(topic) from error
        yield producer
    finally:
        try:
            producer.close(timeout=_CLOSE_S)
        except KafkaError:
            # Its close gives up half-way when something cannot be sent, and its thread would send that whenever
            # Kafka returns, long after we said it failed.
            producer._sender.force_close()
            producer.close(timeout=_CLOSE_S)


def patience_s(kafka: KafkaSettings) -> float:
    """How long a record may wait for its acknowledgement: one request, and some time to find another broker.

    To be enforced by whoever sends: kafka-python's own delivery timeout does not end anything while its
    idempotent producer waits for a broker that is gone.
    """
    return kafka.request_timeout_s + 10.0


def open_consumer(kafka: KafkaSettings, topic: str, **options: Any) -> tuple[KafkaConsumer, list[TopicPartition]]:
    """A consumer, nothing assigned to it yet, and the topic's partitions.

    Raises:
        BrokerUnreachable: Kafka does not answer.
        ConfigurationError: there is no such topic.
    """
    _wait(kafka)
    with kafka_errors(kafka):
        consumer = KafkaConsumer(
            **client_options(kafka),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            **options,
        )
        try:
            numbers = consumer.partitions_for_topic(topic)
        except KafkaError:
            consumer.close()
            raise
    if not numbers:
        consumer.close()
        raise _no_topic(topic)
    return consumer, [TopicPartition(topic, number) for number in sorted(numbers)]


def _wait(kafka: KafkaSettings) -> None:
    """Ask for an answer first: kafka-python leaks its sockets when it finds no broker, and says little.

    In a thread, because notebooks and asynchronous services call us from a running event loop.
    """
    with ThreadPoolExecutor(1) as pool:
        pool.submit(wait_for_broker, kafka, kafka.request_timeout_s, lambda _: None).result()


def _no_topic(topic: str) -> ConfigurationError:
    return ConfigurationError(f"there is no topic `{topic}`: run `eddyline topics create`, or correct the prefix")
