"""Two owners of one partition: what a worker writes that does not know yet that it lost it must not stand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from eddyline.state.memory_store import MemoryStateStore
from eddyline.state.user_state import StateShape, encode_state, last_offset, new_states
from eddyline.stream.changelog import Erasure, read_changelog, restore
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.microbatch import User
from eddyline.stream.outbox import Outbox
from eddyline.stream.partitions import Partitions
from eddyline.stream.topics import Topics, TopicSettings

ANN, BOB, CID = (User(1, name) for name in (b"ann", b"bob", b"cid"))


def state(offset: int) -> bytes:
    """A state as of the click at this offset."""
    states = new_states(StateShape(dimension=8), 1)
    states["partition"], states["offset"], states["clicks"] = 1, offset, offset + 1
    return encode_state(states[0])


class Worker:
    """The partitions of one worker."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self.outbox = Outbox(kafka, self.confirm)
        self.partitions = Partitions(MemoryStateStore(), kafka, topic, self.outbox, lambda: None)

    async def confirm(self) -> None:
        """It believes that everything is still its own."""

    async def start(self) -> None:
        await self.outbox.start()
        await self.partitions.open(1)

    def offsets(self) -> dict[bytes, int | None]:
        return {key: last_offset(value) for key, value in self.partitions.owned[1].items()}


def play(
    kafka: KafkaSettings, topic: str, game: Callable[[Worker, Worker], Awaitable[None]]
) -> dict[bytes, int | None]:
    """Let the first worker be taken over by the second; returns the offsets of the states of whoever comes after."""

    async def work() -> None:
        first, second = Worker(kafka, topic), Worker(kafka, topic)
        try:
            await first.start()
            await first.partitions.write({ANN: state(1), BOB: state(2)})
            await second.start()
            await game(first, second)
        finally:
            for one in (first, second):
                await one.outbox.stop()

    asyncio.run(work())
    with MemoryStateStore() as stores:
        store = stores.open(1)
        restore(store, kafka, topic, lambda *_: None)
        return {key: last_offset(value) for key, value in store.items()}


@pytest.fixture
def topic(topic_settings: TopicSettings) -> str:
    return Topics.of(topic_settings).states


def test_older_states_do_not_stand(kafka: KafkaSettings, topic: str) -> None:
    async def game(first: Worker, second: Worker) -> None:
        await second.partitions.write({ANN: state(7)})
        await first.partitions.write({ANN: state(5), BOB: state(6)})
        assert first.offsets() == {b"ann": 7, b"bob": 6}  # it notices that others wrote
        await second.partitions.write({CID: state(8)})
        assert second.offsets() == {b"ann": 7, b"bob": 6, b"cid": 8}

    assert play(kafka, topic, game) == {b"ann": 7, b"bob": 6, b"cid": 8}
    newest = {key: last_offset(value or b"") for _, key, value in read_changelog(kafka, topic)}
    assert newest == {b"ann": 7, b"bob": 6, b"cid": 8}  # whoever compacts the topic finds what stands at its end


def test_whoever_is_erased_stays_erased(kafka: KafkaSettings, topic: str) -> None:
    async def game(first: Worker, second: Worker) -> None:
        await second.partitions.write({ANN: Erasure(7)})
        await first.partitions.write({ANN: state(5)})
        await second.partitions.write({BOB: state(8)})
        assert second.offsets() == {b"bob": 8}

    assert play(kafka, topic, game) == {b"bob": 8}
    newest = {key: value is None for _, key, value in read_changelog(kafka, topic)}
    assert newest == {b"ann": True, b"bob": False}


def test_whoever_is_erased_stays_erased_when_the_partition_went_and_came_back(kafka: KafkaSettings, topic: str) -> None:
    async def game(first: Worker, second: Worker) -> None:
        await second.partitions.write({ANN: Erasure(7)})
        await first.partitions.write({ANN: state(5)})
        second.partitions.close(1)
        await second.partitions.open(1)
        assert second.offsets() == {b"bob": 2}

    assert play(kafka, topic, game) == {b"bob": 2}
    newest = {key: value is None for _, key, value in read_changelog(kafka, topic)}
    assert newest == {b"ann": True, b"bob": False}


def test_an_older_erasure_does_not_stand_either(kafka: KafkaSettings, topic: str) -> None:
    async def game(first: Worker, second: Worker) -> None:
        await second.partitions.write({ANN: Erasure(4)})
        await second.partitions.write({ANN: state(6)})
        await first.partitions.write({ANN: Erasure(4), BOB: Erasure(2)})
        await second.partitions.write({CID: state(8)})
        assert second.offsets() == {b"ann": 6, b"cid": 8}

    assert play(kafka, topic, game) == {b"ann": 6, b"cid": 8}


def test_only_the_newest_erasures_are_remembered(
    kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eddyline.stream.partitions._ERASED", 2)

    async def game(_: Worker, second: Worker) -> None:
        await second.partitions.write({User(1, b"u%d" % n): Erasure(n) for n in range(5)})
        assert second.partitions._erased == {1: {b"u3": 3, b"u4": 4}}

    play(kafka, topic, game)
