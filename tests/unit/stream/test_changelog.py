"""Recovery when Kafka fails half-way; the rest is tested with a real broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from eddyline.state.errors import BrokerUnreachable
from eddyline.state.memory_store import MemoryStateStore
from eddyline.stream import changelog
from eddyline.stream.kafka import KafkaSettings

# Below the shortest time the settings allow, to keep the test short.
KAFKA = KafkaSettings().model_copy(update={"request_timeout_s": 0.2})


class Silent:
    """A consumer whose broker never sends a record of its ten."""

    stopped = 0

    def __init__(self, **options: Any) -> None:
        assert options["enable_auto_commit"] is False

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        type(self).stopped += 1

    async def topics(self) -> set[str]:
        return {"states"}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    async def beginning_offsets(self, wanted: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(wanted, 0)

    async def end_offsets(self, wanted: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(wanted, 10)

    def assign(self, partitions: list[TopicPartition]) -> None:
        pass

    def seek(self, partition: TopicPartition, offset: int) -> None:
        pass

    async def getmany(self, *_: TopicPartition, **__: int) -> dict[TopicPartition, list[Any]]:
        return {}

    async def position(self, partition: TopicPartition) -> int:
        return 0


class Escaping(Silent):
    """Stops as aiokafka does while a fetch waits to be tried again."""

    class Client:
        async def close(self) -> None:
            Escaping.stopped += 1

    _client = Client()

    async def stop(self) -> None:
        raise asyncio.CancelledError


class Broken(Silent):
    async def getmany(self, *_: TopicPartition, **__: int) -> dict[TopicPartition, list[Any]]:
        raise KafkaConnectionError("gone")


class Refusing(Silent):
    async def start(self) -> None:
        raise KafkaConnectionError("no")


@pytest.mark.parametrize(
    ("consumer", "says"),
    [
        (Silent, r"sent nothing of states\[0\] from offset 0 on for 0.2 s.*goes on where it stopped"),
        (Escaping, r"sent nothing of states"),
        (Broken, r"127.0.0.1:9092 does not answer.*states.*gone.*doctor"),
        (Refusing, r"127.0.0.1:9092 does not answer"),
    ],
)
def test_a_broker_lost_meanwhile_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, consumer: type[Silent], says: str
) -> None:
    monkeypatch.setattr(changelog, "AIOKafkaConsumer", consumer)
    monkeypatch.setattr(changelog, "wait_for_broker", lambda *_: None)
    monkeypatch.setattr(consumer, "stopped", 0)
    with MemoryStateStore() as stores:
        store = stores.open(0)
        with pytest.raises(BrokerUnreachable, match=says):
            changelog.restore(store, KAFKA, "states", lambda *_: None)
        assert store.changelog_offset is None
    assert consumer.stopped == 1
