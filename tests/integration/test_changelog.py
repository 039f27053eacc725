"""Recovery from a real changelog: newest states, erasures, compaction gaps, and copies that are too old."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaProducer, TopicPartition

from eddyline.state.errors import ConfigurationError, EddylineError
from eddyline.state.memory_store import MemoryStateStore
from eddyline.state.rocks_store import RocksStateStore
from eddyline.state.store import PartitionStore, StateSettings, now_ms
from eddyline.stream.changelog import TOMBSTONE_RETENTION_S, Restored, read_changelog, restore
from eddyline.stream.kafka import KafkaSettings, admin_client, client_options
from eddyline.stream.topics import Topics, TopicSettings, specs

pytestmark = pytest.mark.integration

Record = tuple[bytes | None, bytes | None]
Send = Callable[..., None]

PARTITION = 2
AGO_MS = int(TOMBSTONE_RETENTION_S * 1000) + 60_000


@pytest.fixture
def topic(topic_settings: TopicSettings) -> str:
    return Topics.of(topic_settings).states


@pytest.fixture
def send(kafka: KafkaSettings, topic: str) -> Iterator[Send]:
    with closing(KafkaProducer(**client_options(kafka), acks="all")) as producer:

        def send(*records: Record, topic: str = topic, partition: int = PARTITION) -> None:
            sent = [producer.send(topic, key=key, value=value, partition=partition) for key, value in records]
            producer.flush()
            for one in sent:
                one.get(timeout=20)

        yield send


@pytest.fixture
def store() -> Iterator[PartitionStore]:
    with MemoryStateStore() as stores:
        yield stores.open(PARTITION)


def quietly(_done: int, _total: int) -> None:
    pass


def make_topic(kafka: KafkaSettings, name: str, **config: str) -> None:
    with admin_client(kafka) as admin:
        configs = {key.replace("_", "."): value for key, value in config.items()}
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1, "configs": configs}})
        admin.wait_for_topics([name])


def test_an_empty_changelog_leaves_the_store_as_it_is(kafka: KafkaSettings, topic: str, store: PartitionStore) -> None:
    restored = restore(store, kafka, topic, quietly)
    assert restored[:6] == (0, 0, 0, 0, 0, False)
    assert store.changelog_offset is None
    assert list(read_changelog(kafka, topic)) == []


def test_the_newest_state_of_each_user_is_restored_and_the_erased_stay_erased(
    kafka: KafkaSettings, topic: str, send: Send, tmp_path: Path
) -> None:
    big = bytes(5000)
    send((b"ann", b"1"), (b"bob", b"1"), (b"ann", big), (b"bob", None), (b"cid", b""))
    send((b"elsewhere", b"1"), partition=0)
    progress: list[tuple[int, int]] = []
    before = now_ms()
    with RocksStateStore(StateSettings(folder=tmp_path, block_cache_mib=8, write_buffer_mib=4)) as stores:
        store = stores.open(PARTITION)
        restored = restore(store, kafka, topic, lambda done, total: progress.append((done, total)))
        assert restored[:6] == (4, 1, 0, 0, 5, False)
        assert restored.seconds > 0
        assert dict(store.items()) == {b"ann": big, b"cid": b""}
        assert store.changelog_offset == 4
        assert before <= store.caught_up_ms <= now_ms()
    assert progress[-1] == (5, 5)
    assert sorted(read_changelog(kafka, topic), key=lambda row: row[0]) == [
        (0, b"elsewhere", b"1"),
        (PARTITION, b"ann", b"1"),
        (PARTITION, b"bob", b"1"),
        (PARTITION, b"ann", big),
        (PARTITION, b"bob", None),
        (PARTITION, b"cid", b""),
    ]


def test_recovery_goes_on_from_the_stored_offset(
    kafka: KafkaSettings, topic: str, send: Send, store: PartitionStore
) -> None:
    send((b"ann", b"1"), (b"bob", b"1"))
    restore(store, kafka, topic, quietly)
    assert restore(store, kafka, topic, quietly)[:6] == (0, 0, 0, 2, 2, False)
    send((b"ann", None), (b"cid", b"1"))
    assert restore(store, kafka, topic, quietly)[:6] == (1, 1, 0, 2, 4, False)
    assert dict(store.items()) == {b"bob": b"1", b"cid": b"1"}


def test_an_interrupted_recovery_still_owes_its_tombstones_from_before(
    kafka: KafkaSettings, topic: str, send: Send, store: PartitionStore
) -> None:
    send((b"first", b"1"))
    restore(store, kafka, topic, quietly)
    complete_ms = now_ms() - 5000
    store.write({}, 0, caught_up_ms=complete_ms)
    send(*[(b"user-%d" % n, b"1") for n in range(2500)])

    class Stopped(Exception):
        pass

    def stop(_done: int, _total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        restore(store, kafka, topic, stop)
    assert store.changelog_offset is not None
    assert 0 < store.changelog_offset < 2500
    assert len(store) == store.changelog_offset + 1
    assert store.caught_up_ms == complete_ms
    restore(store, kafka, topic, quietly)
    assert len(store) == 2501
    assert store.caught_up_ms > complete_ms


def test_a_copy_older_than_the_tombstones_is_rebuilt(
    kafka: KafkaSettings, topic: str, send: Send, store: PartitionStore
) -> None:
    send((b"ann", b"1"), (b"bob", b"1"), (b"bob", b"2"))
    store.write({b"erased": b"tombstone compacted away", b"ann": b"0"}, 0, caught_up_ms=now_ms() - AGO_MS)
    restored = restore(store, kafka, topic, quietly)
    assert restored[:6] == (3, 0, 0, 0, 3, True)
    assert dict(store.items()) == {b"ann": b"1", b"bob": b"2"}
    assert now_ms() - store.caught_up_ms < 60_000


def test_a_copy_that_has_everything_is_never_too_old(
    kafka: KafkaSettings, topic: str, send: Send, store: PartitionStore
) -> None:
    send((b"ann", b"1"))
    store.write({b"ann": b"1"}, 0, caught_up_ms=now_ms() - AGO_MS)
    assert restore(store, kafka, topic, quietly)[:6] == (0, 0, 0, 1, 1, False)
    assert now_ms() - store.caught_up_ms < 60_000


def test_a_copy_whose_continuation_is_gone_is_rebuilt(
    kafka: KafkaSettings, topic: str, send: Send, store: PartitionStore
) -> None:
    # Kafka deletes by hand only where the policy deletes.
    name = f"{topic}-{uuid.uuid4().hex}"
    make_topic(kafka, name, cleanup_policy="compact,delete")
    with MemoryStateStore() as stores:
        store = stores.open(0)
        send(*[(b"user-%d" % n, b"1") for n in range(10)], topic=name, partition=0)
        store.write({b"old": b"1"}, 3)
        with admin_client(kafka) as admin:
            admin.delete_records({TopicPartition(name, 0): 6})
        assert restore(store, kafka, name, quietly)[:6] == (4, 0, 0, 6, 10, True)
        assert [key for key, _ in store.items()] == [b"user-%d" % n for n in range(6, 10)]


def test_a_store_beyond_the_end_is_refused_and_kept(
    kafka: KafkaSettings, topic: str, send: Send, store: PartitionStore
) -> None:
    send((b"ann", b"1"))
    store.write({b"ann": b"9", b"bob": b"9"}, 41)
    with pytest.raises(EddylineError, match=r"stands at offset 41, but that changelog ends at 1: .*delete"):
        restore(store, kafka, topic, quietly)
    assert len(store) == 2


def test_recovery_ends_where_compaction_emptied_segments(kafka: KafkaSettings, topic: str, send: Send) -> None:
    name = f"{topic}-{uuid.uuid4().hex}"
    make_topic(
        kafka,
        name,
        cleanup_policy="compact",
        segment_ms="100",
        min_cleanable_dirty_ratio="0.001",
        delete_retention_ms="0",
    )
    for round_ in range(4):  # each round in a segment of its own
        send(*[(b"user-%d" % n, b"%d" % round_) for n in range(20)], topic=name, partition=0)
        time.sleep(0.15)
    send(*[(b"user-%d" % n, None) for n in range(20)], topic=name, partition=0)
    end = 100
    deadline = time.monotonic() + 120
    while sum(1 for row in read_changelog(kafka, name) if row[1] != b"last"):
        assert time.monotonic() < deadline, "Kafka did not compact in time"
        time.sleep(0.5)
        send((b"last", b"%d" % end), topic=name, partition=0)  # a new record closes the segment before it
        end += 1
    with MemoryStateStore() as stores:
        store = stores.open(0)
        restored = restore(store, kafka, name, quietly)
        assert restored.to_offset == end
        assert restored.applied + restored.deleted < end - 60
        assert dict(store.items()) == {b"last": b"%d" % (end - 1)}
        assert store.changelog_offset == end - 1
        # From inside the emptied range it ends too.
        store.clear(now_ms())
        store.write({}, 5)
        assert restore(store, kafka, name, quietly).to_offset == end


def test_a_record_without_a_key_is_skipped(kafka: KafkaSettings, topic: str, send: Send) -> None:
    name = f"{topic}-{uuid.uuid4().hex}"
    make_topic(kafka, name, cleanup_policy="delete")
    send((b"ann", b"1"), (None, b"?"), (b"bob", None), topic=name, partition=0)
    with MemoryStateStore() as stores:
        store = stores.open(0)
        restored: Restored = restore(store, kafka, name, quietly)
        assert (restored.applied, restored.deleted, restored.skipped) == (1, 1, 1)
        assert dict(store.items()) == {b"ann": b"1"}
    assert list(read_changelog(kafka, name)) == [(0, b"ann", b"1"), (0, b"bob", None)]


def test_a_missing_topic_or_partition_is_named_and_not_made(
    kafka: KafkaSettings, topic: str, store: PartitionStore
) -> None:
    with pytest.raises(ConfigurationError, match=f"no topic `{topic}-typo`"):
        restore(store, kafka, f"{topic}-typo", quietly)
    with pytest.raises(ConfigurationError, match=f"no topic `{topic}-typo`"):
        next(read_changelog(kafka, f"{topic}-typo"))
    with (
        MemoryStateStore() as stores,
        pytest.raises(ConfigurationError, match=f"no partition 17 of topic `{topic}`"),
    ):
        restore(stores.open(17), kafka, topic, quietly)


def test_the_topic_keeps_tombstones_for_as_long_as_recovery_counts_on(topic_settings: TopicSettings) -> None:
    states = Topics.of(topic_settings).states
    (spec,) = [spec for spec in specs(topic_settings) if spec.name == states]
    assert float(spec.config["delete.retention.ms"]) == TOMBSTONE_RETENTION_S * 1000
