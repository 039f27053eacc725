"""Two owners of one partition: what a worker writes that does not know yet that it lost it must not stand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from eddyline.state.memory_store import MemoryStateStore
from eddyline.state.store import Erasure, StateStore
from eddyline.state.user_state import StateShape, encode_state, last_offset, new_states
from eddyline.stream.changelog import read_changelog, restore
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.membership import Expelled
from eddyline.stream.microbatch import User
from eddyline.stream.newest import changelog_message
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

    def __init__(self, kafka: KafkaSettings, topics: Topics, store: StateStore) -> None:
        self.store = store
        self.outbox = Outbox(kafka, self.confirm)
        self.partitions = Partitions(store, kafka, topics, self.outbox, lambda _: None)

    async def confirm(self) -> None:
        """It believes that everything is still its own."""

    async def start(self) -> None:
        await self.outbox.start()
        await self.partitions.open(1)

    def offsets(self) -> dict[bytes, int | None]:
        return {key: last_offset(value) for key, value in self.partitions.owned[1].items()}


def play(
    kafka: KafkaSettings, topics: Topics, game: Callable[[Worker, Worker], Awaitable[None]]
) -> dict[bytes, int | None]:
    """Let the first worker be taken over by the second; returns the offsets of the states of whoever comes after."""

    async def work() -> None:
        first, second = (Worker(kafka, topics, MemoryStateStore()) for _ in range(2))
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
        restore(store, kafka, topics.states, lambda *_: None)
        return {key: last_offset(value) for key, value in store.items()}


@pytest.fixture
def topics(topic_settings: TopicSettings) -> Topics:
    return Topics.of(topic_settings)


def test_older_states_do_not_stand(kafka: KafkaSettings, topics: Topics) -> None:
    async def game(first: Worker, second: Worker) -> None:
        await second.partitions.write({ANN: state(7)})
        await first.partitions.write({ANN: state(5), BOB: state(6)})
        assert first.offsets() == {b"ann": 7, b"bob": 6}  # it notices that others wrote
        await second.partitions.write({CID: state(8)})
        assert second.offsets() == {b"ann": 7, b"bob": 6, b"cid": 8}

    assert play(kafka, topics, game) == {b"ann": 7, b"bob": 6, b"cid": 8}
    newest = {key: last_offset(value or b"") for _, key, value in read_changelog(kafka, topics.states)}
    assert newest == {b"ann": 7, b"bob": 6, b"cid": 8}  # whoever compacts the topic finds what stands at its end


def test_whoever_is_erased_stays_erased(kafka: KafkaSettings, topics: Topics) -> None:
    async def game(first: Worker, second: Worker) -> None:
        await second.partitions.write({ANN: Erasure(7)})
        await first.partitions.write({ANN: state(5)})
        await second.partitions.write({BOB: state(8)})
        assert second.offsets() == {b"bob": 8}

    assert play(kafka, topics, game) == {b"bob": 8}
    newest = {key: value is None for _, key, value in read_changelog(kafka, topics.states)}
    assert newest == {b"ann": True, b"bob": False}


def test_whoever_is_erased_stays_erased_when_the_partition_went_and_came_back(
    kafka: KafkaSettings, topics: Topics
) -> None:
    async def game(first: Worker, second: Worker) -> None:
        await second.partitions.write({ANN: Erasure(7)})
        await first.partitions.write({ANN: state(5)})
        second.partitions.close(1)
        await second.partitions.open(1)
        assert second.offsets() == {b"bob": 2}

    assert play(kafka, topics, game) == {b"bob": 2}
    newest = {key: value is None for _, key, value in read_changelog(kafka, topics.states)}
    assert newest == {b"ann": True, b"bob": False}


def test_an_older_erasure_does_not_stand_either(kafka: KafkaSettings, topics: Topics) -> None:
    async def game(first: Worker, second: Worker) -> None:
        await second.partitions.write({ANN: Erasure(4)})
        await second.partitions.write({ANN: state(6)})
        await first.partitions.write({ANN: Erasure(4), BOB: Erasure(2)})
        await second.partitions.write({CID: state(8)})
        assert second.offsets() == {b"ann": 6, b"cid": 8}

    assert play(kafka, topics, game) == {b"ann": 6, b"cid": 8}


def test_whoever_is_erased_stays_erased_when_the_owner_starts_again(kafka: KafkaSettings, topics: Topics) -> None:
    async def game(first: Worker, second: Worker) -> None:
        await second.partitions.write({ANN: Erasure(7)})
        second.partitions.close(1)
        await first.partitions.write({ANN: state(5)})
        again = Worker(kafka, topics, second.store)
        await again.start()
        assert again.offsets() == {b"bob": 2}
        await again.outbox.stop()

    assert play(kafka, topics, game) == {b"bob": 2}


def test_what_others_write_is_put_right_though_the_owner_writes_nothing(kafka: KafkaSettings, topics: Topics) -> None:
    async def game(first: Worker, second: Worker) -> None:
        await second.partitions.write({ANN: state(7)})
        await second.partitions.catch_up(await second.partitions.ends())
        before = second.partitions.owned[1].changelog_offset
        await first.outbox.deliver([changelog_message(topics.states, 1, b"ann", state(5))])
        await second.partitions.catch_up(await second.partitions.ends())
        assert second.partitions.owned[1].changelog_offset != before
        assert second.offsets() == {b"ann": 7, b"bob": 2}

    play(kafka, topics, game)
    newest = {key: last_offset(value or b"") for _, key, value in read_changelog(kafka, topics.states)}
    assert newest == {b"ann": 7, b"bob": 2}


def test_a_late_tombstone_takes_no_erasure_back(kafka: KafkaSettings, topics: Topics) -> None:
    async def game(first: Worker, second: Worker) -> None:
        await second.partitions.write({CID: state(90)})
        await second.partitions.write({CID: Erasure(100)})
        await first.outbox.deliver([changelog_message(topics.states, 1, b"cid", Erasure(60))])
        await first.outbox.deliver([changelog_message(topics.states, 1, b"cid", state(80))])
        await second.partitions.write({BOB: state(101)})
        assert second.offsets() == {b"ann": 1, b"bob": 101}

    assert play(kafka, topics, game) == {b"ann": 1, b"bob": 101}


def test_a_partition_that_is_given_up_meanwhile_is_not_restored(kafka: KafkaSettings, topics: Topics) -> None:
    async def work() -> None:
        worker = Worker(kafka, topics, MemoryStateStore())
        await worker.outbox.start()

        def lost(_: int) -> None:
            raise Expelled

        worker.partitions = Partitions(worker.store, kafka, topics, worker.outbox, lost)
        with pytest.raises(Expelled):
            await worker.partitions.open(1)
        assert worker.store.partitions == []
        await worker.outbox.stop()

    asyncio.run(work())
