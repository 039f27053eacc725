"""Delivery: everything a worker sends, in the order that lets nothing be lost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from eddyline.state.examples import Examples
from eddyline.state.records import Cause, hash_id
from eddyline.state.store import Erasure
from eddyline.stream.dlq import dead_letter_headers, fitting
from eddyline.stream.erasure import Receipt
from eddyline.stream.microbatch import DeadClick, Forget, MicroBatch, User
from eddyline.stream.outbox import Message, Outbox
from eddyline.stream.partitions import Partitions
from eddyline.stream.serving import Served
from eddyline.stream.telemetry import Metrics
from eddyline.stream.topics import Topics

__all__ = ["Delivery"]


class Delivery:
    """Sends what micro-batches became.

    Args:
        topics: where to.
        outbox: sends and waits for acknowledgement.
        partitions: writes states with their changelog.
        metrics: counts it.
    """

    def __init__(self, topics: Topics, outbox: Outbox, partitions: Partitions, metrics: Metrics) -> None:
        self._topics = topics
        self._outbox = outbox
        self._partitions = partitions
        self._metrics = metrics

    async def deliver(self, batch: MicroBatch, users: Sequence[User], served: Served, cause: Cause) -> None:
        """Evidence and examples, then states, then lists; each acknowledged before the next."""
        first = [Message(self._topics.evidence, evidence) for evidence in served.evidence]
        first += [Message(self._topics.examples, examples) for examples in served.examples]
        await self._outbox.deliver(first)
        if served.applied:
            await self._partitions.write(dict(zip(users, served.states, strict=True)))
        await self.publish(users, served.lists, cause)
        now_ms = time.time() * 1000
        for arrived_ms in batch.arrived_ms:
            self._metrics.click_to_list_seconds.observe(max(0.0, now_ms - arrived_ms) / 1000)
        self._metrics.clicks.inc(served.applied)
        self._metrics.redelivered.inc(len(batch.clicks) - served.applied)

    async def publish(self, users: Sequence[User], lists: Sequence[bytes], cause: Cause) -> None:
        """The users' newest lists, each in the partition of its user's clicks."""
        topic = self._topics.recommendations
        await self._outbox.deliver(
            [Message(topic, record, user.key, user.partition) for user, record in zip(users, lists, strict=True)]
        )
        self._metrics.lists.labels(cause).inc(len(lists))

    async def bury(self, dead: Sequence[DeadClick]) -> None:
        """Records that could not be read, as they came, with the reason."""
        topic = self._topics.clicks
        letters = []
        for click in dead:
            error = click.error
            headers = dead_letter_headers(
                topic, click.partition, click.offset, "decode", error.reason, field=error.field
            )
            key, value, cut = fitting(click.key, click.value)
            letters.append(Message(self._topics.dlq, value, key, 0, headers + cut))
        await self._outbox.deliver(letters)
        self._metrics.dead_letters.inc(len(dead))

    async def forget(self, asked: Forget) -> None:
        """Erase a user on request, whether anything is known of them or not, and say so in a receipt."""
        user = asked.user
        known = self._partitions.read([user])[0] is not None
        user_hash = hash_id(user.key.decode(errors="replace"))
        request = Examples.of_forgotten(user_hash, user.partition)
        await self._outbox.deliver([Message(self._topics.examples, request.encode())])
        await self.erase({user: Erasure(asked.offset)})
        receipt = Receipt(
            user_hash=f"{user_hash:016x}",
            by="worker",
            at_ms=time.time_ns() // 1_000_000,
            partition=user.partition,
            states=int(known),
        )
        await self._outbox.deliver([Message(self._topics.erasures, receipt.encode())])

    async def erase(self, users: Mapping[User, Erasure]) -> None:
        """Delete states and lists, with a tombstone on the topic of each."""
        await self._partitions.write(users)
        await self._outbox.deliver(
            [Message(self._topics.recommendations, None, user.key, user.partition) for user in users]
        )
