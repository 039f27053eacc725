from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.state.errors import BrokerUnreachable, ConfigurationError
from eddyline.state.records import Click, RankedItem, Recommendation, decode_click, encode
from eddyline.stream.kafka import KafkaSettings, client_options
from eddyline.stream.publish import publish
from eddyline.stream.subscribe import Subscription
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


def listing(number: int, user: str = "u") -> Recommendation:
    return Recommendation(
        recommendation_id=f"r{number}",
        user_id=user,
        items=[RankedItem(item_id="i", score=1.0)],
        model_version=1,
        model_age_ms=0,
        cause="click",
        cause_event_id=f"e{number}",
        event_ts_ms=1,
        produced_ts_ms=2,
    )


def send(producer: KafkaProducer, topics: Topics, *lists: Recommendation, partition: int | None = None) -> None:
    for one in lists:
        producer.send(topics.recommendations, key=one.user_id.encode(), value=encode(one), partition=partition).get(
            timeout=10
        )


def numbers(lists: Subscription, count: int | None = None) -> list[str]:
    return [one.recommendation_id for one in islice(lists, count)]


def read_everything(kafka: KafkaSettings, topic: str) -> list[object]:
    with closing(KafkaConsumer(**client_options(kafka))) as consumer:
        partitions = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends, found = consumer.end_offsets(partitions), []
        while any(consumer.position(one) < end for one, end in ends.items()):
            for records in consumer.poll(timeout_ms=500).values():
                found.extend(records)
    return found


class TestPublish:
    def test_everything_arrives_once_in_each_users_order(self, kafka: KafkaSettings, topics: Topics) -> None:
        clicks = list(synthetic_clicks(SyntheticSettings(clicks=3_000)))
        before_ms = time.time() * 1000 - 1000
        done = publish(clicks, kafka, topics)
        assert (done.clicks, done.interrupted) == (3_000, False)
        records = read_everything(kafka, topics.clicks)
        by_user: dict[str, list[Click]] = {}
        for record in records:
            click = decode_click(record.value)
            assert record.key == click.user_id.encode()
            assert record.timestamp >= before_ms
            by_user.setdefault(click.user_id, []).append(click)
        sent: dict[str, list[Click]] = {}
        for click in clicks:
            sent.setdefault(click.user_id, []).append(click)
        assert by_user == sent
        assert len({record.partition for record in records}) > 1

    def test_a_missing_topic_says_what_to_run(self, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("eddyline.stream.clients._NO_TOPIC_MS", 1_000)
        nowhere = Topics.of(TopicSettings(prefix="nowhere"))
        with pytest.raises(ConfigurationError, match=r"no topic `nowhere\.clicks\.v1`.*topics create"):
            publish([], kafka, nowhere)

    def test_an_unreachable_broker(self, topics: Topics) -> None:
        kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1", request_timeout_s=6, session_timeout_s=6)
        with pytest.raises(BrokerUnreachable, match=r"Kafka at 127\.0\.0\.1:1"):
            publish([], kafka, topics)


class TestSubscription:
    def test_earliest_ends_at_the_end(self, kafka: KafkaSettings, topics: Topics, producer: KafkaProducer) -> None:
        send(producer, topics, *[listing(n, f"u{n % 7}") for n in range(50)])
        with Subscription(kafka, topics, offset="earliest", exit_at_end=True) as lists:
            found = list(lists)
        assert sorted(found, key=lambda one: int(one.recommendation_id[1:])) == [
            listing(n, f"u{n % 7}") for n in range(50)
        ]
        assert next(lists, None) is None

    def test_an_empty_topic_ends_at_once(self, kafka: KafkaSettings, topic_settings: TopicSettings) -> None:
        for offset in ("earliest", "latest", "ts=5"):
            with Subscription(kafka, topic_settings.prefix, offset=offset, exit_at_end=True) as lists:
                assert list(lists) == []

    def test_latest_has_what_comes_after_it_began(
        self, kafka: KafkaSettings, topics: Topics, producer: KafkaProducer
    ) -> None:
        send(producer, topics, listing(1))
        with Subscription(kafka, topics, count=2) as lists:
            send(producer, topics, listing(2), listing(3), listing(4))
            assert numbers(lists) == ["r2", "r3"]

    def test_a_time_begins_at_the_first_list_published_then(
        self, kafka: KafkaSettings, topics: Topics, producer: KafkaProducer
    ) -> None:
        send(producer, topics, listing(1))
        time.sleep(0.05)
        now_ms = round(time.time() * 1000)
        time.sleep(0.05)
        send(producer, topics, listing(2))
        with Subscription(kafka, topics, offset=f"ts={now_ms}", exit_at_end=True) as lists:
            assert numbers(lists) == ["r2"]
        with Subscription(kafka, topics, offset=f"ts={now_ms + 3_600_000}", exit_at_end=True) as lists:
            assert numbers(lists) == []

    def test_one_user_is_found_in_whatever_partition(
        self, kafka: KafkaSettings, topics: Topics, producer: KafkaProducer
    ) -> None:
        for partition in range(4):
            send(producer, topics, listing(partition, "me"), listing(9, "other"), partition=partition)
        with Subscription(kafka, topics, user="me", offset="earliest", exit_at_end=True) as lists:
            assert sorted(numbers(lists)) == ["r0", "r1", "r2", "r3"]

    def test_erased_users_are_told_and_bad_records_skipped(
        self, kafka: KafkaSettings, topics: Topics, producer: KafkaProducer
    ) -> None:
        send(producer, topics, listing(1, "a"), partition=0)
        for key, value in ((b"a", None), (b"b", None), (b"a", b"{}"), (b"x", b"\xff"), (b"\xff", None)):
            producer.send(topics.recommendations, key=key, value=value, partition=0).get(timeout=10)
        send(producer, topics, listing(2, "b"), partition=0)
        erased: list[str] = []
        with Subscription(kafka, topics, offset="earliest", exit_at_end=True, on_erased=erased.append) as lists:
            assert numbers(lists) == ["r1", "r2"]
        assert erased == ["a", "b"]
        assert lists.skipped == 3
        erased.clear()
        with Subscription(
            kafka, topics, user="b", offset="earliest", exit_at_end=True, on_erased=erased.append
        ) as lists:
            assert numbers(lists) == ["r2"]
        assert erased == ["b"]

    def test_gaps_in_the_offsets_do_not_hide_the_end(self, kafka: KafkaSettings, topics: Topics) -> None:
        """A transaction's marker takes an offset that no reader sees, as a compacted record does."""
        with closing(KafkaProducer(**client_options(kafka), transactional_id=topics.clicks)) as producer:
            producer.init_transactions()
            for number in range(3):
                producer.begin_transaction()
                send(producer, topics, listing(number), partition=0)
                producer.commit_transaction()
        started = time.monotonic()
        with Subscription(kafka, topics, offset="earliest", exit_at_end=True) as lists:
            assert numbers(lists) == ["r0", "r1", "r2"]
        assert time.monotonic() - started < 10

    def test_a_missing_topic_says_what_to_run(self, kafka: KafkaSettings) -> None:
        with pytest.raises(ConfigurationError, match=r"no topic `nowhere\.rec.*topics create"):
            Subscription(kafka, "nowhere")

    def test_closing_twice_is_fine(self, kafka: KafkaSettings, topics: Topics) -> None:
        lists = Subscription(kafka, topics)
        lists.close()
        lists.close()
        assert next(lists, None) is None


class TestGroup:
    @staticmethod
    @contextmanager
    def joined(kafka: KafkaSettings, topics: Topics, offset: str = "earliest") -> Iterator[Subscription]:
        with Subscription(kafka, topics, offset=offset, group=f"{topics.clicks}-g", exit_at_end=True) as lists:
            yield lists

    def test_goes_on_where_it_stopped(self, kafka: KafkaSettings, topics: Topics, producer: KafkaProducer) -> None:
        send(producer, topics, *[listing(n) for n in range(5)], partition=1)
        with self.joined(kafka, topics) as lists:
            assert numbers(lists, 2) == ["r0", "r1"]
        with self.joined(kafka, topics) as lists:
            assert numbers(lists) == ["r2", "r3", "r4"]
        send(producer, topics, listing(5), partition=1)
        with self.joined(kafka, topics) as lists:
            assert numbers(lists) == ["r5"]

    def test_a_list_that_failed_comes_again(
        self, kafka: KafkaSettings, topics: Topics, producer: KafkaProducer
    ) -> None:
        send(producer, topics, *[listing(n) for n in range(3)], partition=1)
        with pytest.raises(ZeroDivisionError), self.joined(kafka, topics) as lists:
            assert numbers(lists, 2) == ["r0", "r1"]
            raise ZeroDivisionError
        with self.joined(kafka, topics) as lists:
            assert numbers(lists) == ["r1", "r2"]

    @pytest.mark.parametrize("by_time", [False, True])
    def test_the_offset_holds_for_a_new_group_only(
        self, kafka: KafkaSettings, topics: Topics, producer: KafkaProducer, by_time: bool
    ) -> None:
        send(producer, topics, listing(0), partition=2)
        time.sleep(0.05)
        offset = f"ts={round(time.time() * 1000)}" if by_time else "latest"
        with self.joined(kafka, topics, offset) as lists:
            assert numbers(lists) == []
        send(producer, topics, listing(1), partition=2)
        with self.joined(kafka, topics, "earliest") as lists:
            assert numbers(lists) == ["r1"]

    def test_two_members_share_the_lists(self, kafka: KafkaSettings, topics: Topics, producer: KafkaProducer) -> None:
        for partition in range(4):
            send(producer, topics, *[listing(3 * partition + n) for n in range(3)], partition=partition)

        def member() -> list[str]:
            with self.joined(kafka, topics) as lists:
                return numbers(lists)

        with ThreadPoolExecutor(2) as pool:
            found = [pool.submit(member) for _ in range(2)]
        assert {name for one in found for name in one.result()} == {f"r{n}" for n in range(12)}
        assert member() == []
