from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from eddyline.state.errors import ConfigurationError
from eddyline.stream.dlq import REPLAYED_FROM, dead_letter_headers, read_dead_letters, replay_dead_letters
from eddyline.stream.kafka import KafkaSettings, client_options
from eddyline.stream.topics import Topics, TopicSettings

# kafka-python drops the socket of a connection that is just being made when its client is closed.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def topics(topic_settings: TopicSettings) -> Topics:
    return Topics.of(topic_settings)


@pytest.fixture
def producer(kafka: KafkaSettings) -> Iterator[KafkaProducer]:
    with closing(KafkaProducer(**client_options(kafka))) as one:
        yield one


def bury(producer: KafkaProducer, topics: Topics, number: int, field: str = "ts_ms") -> None:
    headers = dead_letter_headers(topics.clicks, number % 4, number, "decode", f"`{field}` is bad", field=field)
    producer.send(topics.dlq, key=b"k%d" % number, value=b"\xff%d" % number, headers=headers).get(timeout=10)


def clicks(kafka: KafkaSettings, topics: Topics) -> list[tuple[int, bytes, bytes, str]]:
    """Partition, key, value and origin of every record on the clicks topic, in the order of their keys."""
    with closing(KafkaConsumer(**client_options(kafka))) as consumer:
        partitions = [TopicPartition(topics.clicks, n) for n in range(4)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends, found = consumer.end_offsets(partitions), []
        while any(consumer.position(one) < end for one, end in ends.items()):
            for records in consumer.poll(timeout_ms=500).values():
                found += [(r.partition, r.key, r.value, dict(r.headers)[REPLAYED_FROM].decode()) for r in records]
    return sorted(found, key=lambda record: record[1])


def test_letters_are_read_up_to_the_end(kafka: KafkaSettings, topics: Topics, producer: KafkaProducer) -> None:
    assert list(read_dead_letters(kafka, topics)) == []
    for number in range(5):
        bury(producer, topics, number)
    letters = list(read_dead_letters(kafka, topics))
    assert [(one.key, one.value, one.partition, one.offset) for one in letters] == [
        (b"k%d" % n, b"\xff%d" % n, n % 4, n) for n in range(5)
    ]
    assert {(one.stage, one.field, one.replayed) for one in letters} == {("decode", "ts_ms", False)}
    assert list(read_dead_letters(kafka, topics, limit=2)) == letters[:2]
    assert list(read_dead_letters(kafka, topics, limit=0)) == []


def test_each_letter_is_sent_again_once_to_its_own_partition(
    kafka: KafkaSettings, topics: Topics, producer: KafkaProducer
) -> None:
    for number in range(6):
        bury(producer, topics, number)
    progress: list[int] = []
    assert replay_dead_letters(kafka, topics, on_progress=progress.append) == 6
    assert progress[-1] == 6
    expected = [(n % 4, b"k%d" % n, b"\xff%d" % n, f"{topics.dlq}/0/{n}") for n in range(6)]
    assert clicks(kafka, topics) == expected
    assert [one.replayed for one in read_dead_letters(kafka, topics)] == [True] * 6

    assert replay_dead_letters(kafka, topics) == 0
    bury(producer, topics, 6)
    assert replay_dead_letters(kafka, topics) == 1
    assert [record[1] for record in clicks(kafka, topics)] == [b"k%d" % n for n in range(7)]

    assert replay_dead_letters(kafka, topics, again=True) == 7
    assert len(clicks(kafka, topics)) == 14


def test_what_a_filter_leaves_out_waits_for_a_later_call(
    kafka: KafkaSettings, topics: Topics, producer: KafkaProducer
) -> None:
    for number in range(6):
        bury(producer, topics, number, "ts_ms" if number % 2 else "kind")
    assert replay_dead_letters(kafka, topics, only=lambda one: one.field == "ts_ms") == 3
    assert [record[1] for record in clicks(kafka, topics)] == [b"k1", b"k3", b"k5"]
    assert replay_dead_letters(kafka, topics) == 3
    assert [record[1] for record in clicks(kafka, topics)] == [b"k%d" % n for n in range(6)]


def test_many_letters_go_in_batches_and_each_batch_is_remembered(
    kafka: KafkaSettings, topics: Topics, producer: KafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eddyline.stream.dlq._AT_ONCE", 3)
    for number in range(8):
        bury(producer, topics, number)

    def stop(count: int) -> None:
        if count == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay_dead_letters(kafka, topics, on_progress=stop)
    assert replay_dead_letters(kafka, topics) == 2
    assert len(clicks(kafka, topics)) == 8


def test_what_cannot_be_sent_is_passed_over(kafka: KafkaSettings, topics: Topics, producer: KafkaProducer) -> None:
    producer.send(topics.dlq, value=b"no headers").get(timeout=10)
    elsewhere = dead_letter_headers("another.topic", 0, 0, "decode", "bad")
    producer.send(topics.dlq, value=b"x", headers=elsewhere).get(timeout=10)
    no_such_partition = dead_letter_headers(topics.clicks, 99, 0, "decode", "bad")
    producer.send(topics.dlq, key=b"k", value=None, headers=no_such_partition).get(timeout=10)
    assert len(list(read_dead_letters(kafka, topics))) == 3
    assert replay_dead_letters(kafka, topics) == 1
    assert [(record[1], record[2]) for record in clicks(kafka, topics)] == [(b"k", None)]


def test_a_missing_topic_says_what_to_run(kafka: KafkaSettings) -> None:
    with pytest.raises(ConfigurationError, match=r"no topic `nowhere\.clicks\.v1\.dlq`.*topics create"):
        list(read_dead_letters(kafka, Topics.of(TopicSettings(prefix="nowhere"))))
