"""What all clients of aiokafka need: waiting while Kafka is away, its errors told as ours, and stopping for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from eddyline.state.errors import BrokerUnreachable
from eddyline.stream.kafka import FIRST_PAUSE_S, LONGEST_PAUSE_S, KafkaSettings

__all__ = ["async_errors", "patiently", "stop_consumer"]

T = TypeVar("T")

_log = structlog.get_logger()


async def patiently(settings: KafkaSettings, attempt: Callable[[], Awaitable[T]]) -> T:
    """Attempt something with a client of aiokafka, again and again for as long as Kafka is away.

    The pauses grow, and each is told in one line.

    Raises:
        KafkaError: trying again cannot help.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await attempt()
        except KafkaError as error:
            # A timeout of the producer means that the batch before could not leave: Kafka is away, no more.
            if not (error.retriable or isinstance(error, KafkaTimeoutError)):
                raise
            _log.warning(
                "Kafka does not answer, trying again",
                address=settings.bootstrap_servers,
                pause_s=pause_s,
                reason=type(error).__name__,
            )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


@contextmanager
def async_errors(settings: KafkaSettings, topic: str) -> Iterator[None]:
    """Raise `BrokerUnreachable` for whatever a client of aiokafka raises inside."""
    try:
        yield
    except KafkaError as error:
        raise BrokerUnreachable(
            f"Kafka at {settings.bootstrap_servers} does not answer, or refuses to show {topic} ({error}); "
            "`eddyline doctor` tells more"
        ) from error


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, started or not."""
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        # aiokafka cancels a fetch that waits to be tried again and lets that cancellation escape, before it closes
        # its sockets: it would hide why we stop.
        await consumer._client.close()
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # it was us who were cancelled
            raise
