"""Following a topic while Kafka comes and goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, TopicAuthorizationFailedError

from eddyline.state.errors import BrokerUnreachable, EddylineError
from eddyline.stream import follow
from eddyline.stream.follow import Follower
from eddyline.stream.kafka import KafkaSettings


class Consumer:
    """A consumer of a topic of three records, on a Kafka that fails as often as it is told to."""

    failures: list[Exception]
    stopped: int

    def __init__(self, **_: Any) -> None:
        self.at = 0

    async def start(self) -> None:
        if self.failures:
            raise self.failures.pop()

    async def stop(self) -> None:
        type(self).stopped += 1

    def assign(self, _: Any) -> None:
        pass

    def seek(self, _: TopicPartition, offset: int) -> None:
        self.at = offset

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 1)

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 4)

    async def getmany(self, *_: Any, **__: Any) -> dict[TopicPartition, list[Any]]:
        if self.failures:
            raise self.failures.pop()
        self.at += 1
        return {}

    async def position(self, _: TopicPartition) -> int:
        return self.at

    def highwater(self, _: TopicPartition) -> int:
        return 4


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> Follower:
    monkeypatch.setattr(follow, "AIOKafkaConsumer", Consumer)
    monkeypatch.setattr("eddyline.stream.async_clients.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(Consumer, "failures", [], raising=False)
    monkeypatch.setattr(Consumer, "stopped", 0, raising=False)
    return Follower(KafkaSettings(), "evidence")


def test_a_patient_one_waits_until_kafka_answers(follower: Follower) -> None:
    Consumer.failures = [KafkaConnectionError("gone")] * 3
    asyncio.run(follower.start(patient=True))
    assert (follower.next, follower.end, Consumer.stopped) == (1, 4, 3)


def test_another_says_so_at_once(follower: Follower) -> None:
    Consumer.failures = [KafkaConnectionError("gone")] * 3
    with pytest.raises(BrokerUnreachable, match=r"127.0.0.1:9092 does not answer.*evidence.*gone"):
        asyncio.run(follower.start())


def test_what_no_waiting_mends_is_an_error(follower: Follower) -> None:
    Consumer.failures = [TopicAuthorizationFailedError("evidence")]
    with pytest.raises(BrokerUnreachable, match="refuses to show evidence"):
        asyncio.run(follower.start(patient=True))
    assert Consumer.stopped == 1


def test_it_follows_up_to_where_the_topic_ended(follower: Follower) -> None:
    async def work() -> int:
        await follower.start()
        return sum([1 async for _ in follower.to_end()])

    assert asyncio.run(work()) == 3
    assert follower.lag == 0
    Consumer.failures = [TopicAuthorizationFailedError("evidence")]
    with pytest.raises(BrokerUnreachable):
        asyncio.run(follower.poll())


def test_what_is_deleted_already_is_skipped_where_that_is_wanted(follower: Follower) -> None:
    follower.next = 0
    with pytest.raises(EddylineError, match="holds offsets 1 to 4, wanted 0"):
        asyncio.run(follower.start())
    asyncio.run(follower.start(skip_deleted=True))
    assert follower.next == 1


def test_where_the_topic_ends_is_asked_until_kafka_answers(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(follower.start())
    failures = [KafkaTimeoutError("gone"), KafkaConnectionError("gone")]

    async def end_offsets(_: Consumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        if failures:
            raise failures.pop()
        return dict.fromkeys(partitions, 9)

    monkeypatch.setattr(Consumer, "end_offsets", end_offsets)
    asyncio.run(follower.look())
    assert (follower.end, follower.lag) == (9, 8)
