from __future__ import annotations

from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from eddyline.state.errors import BrokerUnreachable, ConfigurationError
from eddyline.stream import clients
from eddyline.stream.kafka import KafkaSettings


class FakeProducer:
    """Has the topic `there`; its first close fails where `stuck`, as kafka-python's does without a broker."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.stuck = False
        self.calls: list[str] = []
        self._sender = self

    def partitions_for(self, topic: str) -> set[int]:
        if topic != "there":
            raise KafkaTimeoutError("no metadata")
        return {0}

    def force_close(self) -> None:
        self.calls.append("force")

    def close(self, timeout: float) -> None:
        self.calls.append("close")
        if self.stuck and "force" not in self.calls:
            raise KafkaTimeoutError("still sending")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeProducer]:
    made: list[FakeProducer] = []

    def make(**options: Any) -> FakeProducer:
        made.append(FakeProducer(**options))
        return made[-1]

    monkeypatch.setattr(clients, "KafkaProducer", make)
    monkeypatch.setattr(clients, "wait_for_broker", lambda *_: None)
    return made


def test_a_producer_waits_for_all_replicas_and_creates_no_topic(made: list[FakeProducer]) -> None:
    with clients.open_producer(KafkaSettings(request_timeout_s=25), "there", linger_ms=7):
        assert made[0].options["acks"] == "all"
        assert made[0].options["allow_auto_create_topics"] is False
        assert made[0].options["linger_ms"] == 7
        assert made[0].options["delivery_timeout_ms"] == 35_000
    assert made[0].calls == ["close"]


def test_a_missing_topic_closes_the_producer(made: list[FakeProducer]) -> None:
    with pytest.raises(ConfigurationError, match="no topic `nowhere`"):
        clients.open_producer(KafkaSettings(), "nowhere").__enter__()
    assert made[0].calls == ["close"]


def test_a_producer_that_cannot_send_the_rest_is_made_to_drop_it(made: list[FakeProducer]) -> None:
    with pytest.raises(LookupError), clients.open_producer(KafkaSettings(), "there") as producer:
        producer.stuck = True
        raise LookupError
    assert made[0].calls == ["close", "force", "close"]


def test_what_the_client_raises_becomes_one_sentence_with_the_address() -> None:
    with (
        pytest.raises(BrokerUnreachable, match=r"Kafka at 127\.0\.0\.1:9092.*took too long.*doctor"),
        clients.kafka_errors(KafkaSettings()),
    ):
        raise KafkaTimeoutError("took too long")
