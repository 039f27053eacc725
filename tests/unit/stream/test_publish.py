from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from kafka.future import Future

from eddyline.state.errors import ConfigurationError
from eddyline.state.records import Click, decode_click
from eddyline.stream import publish as module
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.publish import PublishError, publish
from eddyline.stream.topics import Topics, TopicSettings

KAFKA, TOPICS = KafkaSettings(), Topics.of(TopicSettings())


def click(number: int, ts_ms: int = 1_700_000_000_000) -> Click:
    return Click(event_id=f"e{number}", user_id=f"u{number}", item_id="i", ts_ms=ts_ms, kind="click")


class FakeKafka:
    """A producer and a clock: what is sent is acknowledged whenever somebody sleeps.

    From record `refuse_at` on Kafka refuses, from record `silent_at` on it says nothing.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.sent: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.futures: list[Future] = []
        self.refuse_at = self.silent_at = 1 << 60
        self.closed = False

    def send(self, topic: str, **record: Any) -> Future:
        if b"huge" in record["value"]:
            raise MessageSizeTooLargeError("2 MB")
        self.sent.append({"topic": topic, **record})
        self.times.append(self.now)
        self.futures.append(Future())
        return self.futures[-1]

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for number, future in enumerate(self.futures[: self.silent_at]):
            if future.is_done:
                continue
            if number >= self.refuse_at:
                future.failure(KafkaTimeoutError("no leader"))
            else:
                future.success(None)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    fake = FakeKafka()

    @contextmanager
    def opened(*_: object, **__: object) -> Iterator[FakeKafka]:
        yield fake
        fake.closed = True

    monkeypatch.setattr(module, "open_producer", opened)
    monkeypatch.setattr(module.time, "monotonic", fake.monotonic)
    monkeypatch.setattr(module.time, "sleep", fake.sleep)
    return fake


def test_sends_in_order_keyed_by_user_and_counts_what_is_acknowledged(fake: FakeKafka) -> None:
    progress: list[int] = []
    done = publish([click(n) for n in range(50)], KAFKA, TOPICS, on_progress=progress.append)
    assert (done.clicks, done.interrupted) == (50, False)
    assert [decode_click(record["value"]) for record in fake.sent] == [click(n) for n in range(50)]
    assert [record["key"] for record in fake.sent] == [f"u{n}".encode() for n in range(50)]
    assert {record["topic"] for record in fake.sent} == {"eddyline.clicks.v1"}
    assert progress[-1] == 50
    assert fake.closed


def test_a_refused_click_is_an_error_that_says_how_many_were_taken(fake: FakeKafka) -> None:
    fake.refuse_at = 3
    with pytest.raises(PublishError, match=r"eddyline\.clicks\.v1.*no leader.*; 3 clicks were acknowledged"):
        publish([click(n) for n in range(10)], KAFKA, TOPICS)


def test_a_silent_broker_is_an_error_after_a_while(fake: FakeKafka) -> None:
    fake.silent_at = 2
    with pytest.raises(PublishError, match=r"no acknowledgement for 40 s; 2 clicks were acknowledged"):
        publish([click(n) for n in range(10)], KAFKA, TOPICS)


def test_a_slow_source_is_no_silent_broker(fake: FakeKafka) -> None:
    def slow() -> Iterator[Click]:
        for n in range(3):
            fake.sleep(3600)
            yield click(n)

    assert publish(slow(), KAFKA, TOPICS).clicks == 3


def test_a_click_too_large_for_kafka_is_an_error(fake: FakeKafka) -> None:
    huge = Click(event_id="e", user_id="u", item_id="huge", ts_ms=1, kind="click")
    with pytest.raises(PublishError, match="2 MB"):
        publish([huge], KAFKA, TOPICS)


def test_unacknowledged_clicks_are_bounded(fake: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_UNACKNOWLEDGED", 10)
    most = 0

    def watched() -> Iterator[Click]:
        nonlocal most
        for n in range(100):
            most = max(most, sum(not future.is_done for future in fake.futures))
            yield click(n)

    assert publish(watched(), KAFKA, TOPICS).clicks == 100
    assert most <= 10


def test_ctrl_c_flushes_what_was_sent_and_reports_it(fake: FakeKafka) -> None:
    def interrupted() -> Iterator[Click]:
        yield click(0)
        yield click(1)
        raise KeyboardInterrupt

    done = publish(interrupted(), KAFKA, TOPICS)
    assert (done.clicks, done.interrupted) == (2, True)
    assert fake.closed


def test_an_error_of_the_source_passes_through(fake: FakeKafka) -> None:
    def broken() -> Iterator[Click]:
        yield click(0)
        raise LookupError("row 2")

    with pytest.raises(LookupError, match="row 2"):
        publish(broken(), KAFKA, TOPICS)


def test_rate_spaces_the_clicks_evenly(fake: FakeKafka) -> None:
    publish([click(n) for n in range(101)], KAFKA, TOPICS, rate=50)
    gaps = [b - a for a, b in zip(fake.times, fake.times[1:], strict=False)]
    assert fake.times[-1] - fake.times[0] == pytest.approx(2.0, rel=0.01)
    assert max(gaps) < 0.025


def test_rate_does_not_catch_up_a_long_stall_in_a_burst(fake: FakeKafka) -> None:
    def stalling() -> Iterator[Click]:
        for n in range(40):
            fake.now += 10.0 if n == 20 else 0.0
            yield click(n)

    publish(stalling(), KAFKA, TOPICS, rate=50)
    resumed = fake.times[20]
    assert sum(time == resumed for time in fake.times) <= 7  # a tenth of a second's worth, and the one due


def test_speed_follows_the_clicks_own_times_and_lets_late_ones_go_at_once(fake: FakeKafka) -> None:
    offsets_s = [0, 10, 5, 60]
    clicks = [click(n, 1_700_000_000_000 + s * 1000) for n, s in enumerate(offsets_s)]
    publish(clicks, KAFKA, TOPICS, speed=10)
    assert [round(time - 1000, 2) for time in fake.times] == pytest.approx([0, 1, 1, 6], abs=0.01)


@pytest.mark.parametrize("pace", [{"rate": 0}, {"rate": -1}, {"speed": 0}, {"speed": float("nan")}])
def test_a_pace_must_be_positive(pace: dict[str, float], fake: FakeKafka) -> None:
    with pytest.raises(ConfigurationError, match="must be above 0"):
        publish([click(0)], KAFKA, TOPICS, **pace)
    assert fake.sent == []
