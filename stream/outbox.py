"""The outbox: what a worker or trainer sends, delivered for certain before the next thing happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from eddyline.state.errors import EddylineError
from eddyline.stream.async_clients import patiently
from eddyline.stream.kafka import KafkaSettings, async_options
from eddyline.stream.membership import LEASE

__all__ = ["Message", "Outbox"]


class Message(NamedTuple):
    """A record to send. `value` None is a tombstone; `partition` None leaves the choice to the key."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class Outbox:
    """Sends messages and returns once all replicas have them.

    While Kafka does not answer it tries again, for ever and with growing pauses, saying so in one line. What it
    sends may therefore arrive twice: readers recognise what they have seen by its offset in the clicks topic.

    Args:
        kafka: how to reach Kafka.
        confirm: waited for before each attempt; raises if nothing may be sent any more.
    """

    def __init__(self, kafka: KafkaSettings, confirm: Callable[[], Awaitable[None]]) -> None:
        self._kafka = kafka
        self._confirm = confirm
        self._producer: Any = None

    async def start(self) -> None:
        """Connect, once Kafka answers."""
        await patiently(self._kafka, self._connect)

    async def _connect(self) -> None:
        # It repeats by itself for so long; after that it takes a new `confirm`.
        timeout_ms = int((1 - LEASE) * 1000 * self._kafka.session_timeout_s)
        producer = AIOKafkaProducer(
            **{**async_options(self._kafka), "request_timeout_ms": timeout_ms},
            acks="all",
            linger_ms=2,
            max_batch_size=262_144,
            max_request_size=1_048_576,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer

    async def stop(self) -> None:
        """Disconnect, after what is under way."""
        if self._producer is not None:
            await self._producer.stop()

    async def deliver(self, messages: Sequence[Message]) -> list[int]:
        """Send the messages in order; returns the offset of each, once all are acknowledged.

        Raises:
            EddylineError: Kafka refuses one for good (too large, not allowed).
            Exception: what `confirm` raises.
        """

        async def attempt() -> list[int]:
            await self._confirm()
            return await self._send(messages)

        try:
            return await patiently(self._kafka, attempt)
        except KafkaError as error:
            topics = ", ".join(sorted({message.topic for message in messages}))
            raise EddylineError(
                f"Kafka at {self._kafka.bootstrap_servers} refuses a record for {topics}: {error}; "
                "`eddyline doctor` checks the topics"
            ) from error

    async def _send(self, messages: Sequence[Message]) -> list[int]:
        """Pack the messages of each partition into batches: a call per message would cost ten times as much."""
        sent: list[tuple[Any, list[int]]] = []  # a future, and the places of its messages
        filling: dict[tuple[str, int], tuple[Any, list[int]]] = {}
        try:
            for place, message in enumerate(messages):
                if message.partition is None:
                    sent.append((await self._send_alone(message), [place]))
                    continue
                target = (message.topic, message.partition)
                batch, places = filling.get(target) or (self._producer.create_batch(), [])
                if not _append(batch, message):
                    sent.append((await self._send_batch(target, batch), places))
                    batch, places = self._producer.create_batch(), []
                    _append(batch, message)  # the first one always finds room; Kafka says whether it is too large
                places.append(place)
                filling[target] = (batch, places)
            for target, (batch, places) in filling.items():
                sent.append((await self._send_batch(target, batch), places))
        finally:
            done = await asyncio.gather(*(future for future, _ in sent), return_exceptions=True)
        offsets = [0] * len(messages)
        for outcome, (_, places) in zip(done, sent, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            for n, place in enumerate(places):
                offsets[place] = outcome.offset + n
        return offsets

    async def _send_alone(self, message: Message) -> Any:
        topic, value, key, partition, headers = message
        return await self._producer.send(topic, value, key=key, partition=partition, headers=headers)

    async def _send_batch(self, target: tuple[str, int], batch: Any) -> Any:
        topic, partition = target
        batch.close()
        return await self._producer.send_batch(batch, topic, partition=partition)


def _append(batch: Any, message: Message) -> bool:
    """Whether the message found room in the batch."""
    appended = batch.append(timestamp=None, key=message.key, value=message.value, headers=list(message.headers))
    return appended is not None
