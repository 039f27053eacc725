"""Send clicks to the clicks topic, as fast as Kafka takes them or at a given pace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.producer.future import FutureRecordMetadata

from eddyline.state.errors import ConfigurationError, EddylineError
from eddyline.state.records import Click, encode
from eddyline.stream.clients import open_producer, patience_s
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.topics import Topics

__all__ = ["PublishError", "Published", "publish"]

# Unacknowledged clicks held at most: the producer itself would take any number.
_UNACKNOWLEDGED = 20_000
_PROGRESS_S = 0.1
# Shorter waits are made up by the next ones; longer ones are cut, so that errors surface in between.
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.002, 0.5
_DRAIN_S = 0.005


class PublishError(EddylineError):
    """Kafka did not take a click."""


@dataclass(frozen=True)
class Published:
    """What a call of `publish` did.

    Args:
        clicks: how many clicks Kafka has acknowledged.
        seconds: how long it took.
        interrupted: whether Ctrl-C ended it early.
    """

    clicks: int
    seconds: float
    interrupted: bool = False

    @property
    def clicks_per_s(self) -> float:
        """Throughput over the whole call."""
        return self.clicks / self.seconds if self.seconds else 0.0


def publish(
    clicks: Iterable[Click],
    kafka: KafkaSettings,
    topics: Topics,
    *,
    rate: float | None = None,
    speed: float | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Published:
    """Send clicks in their order, each keyed by its user, and wait until Kafka has acknowledged them.

    A record's Kafka timestamp is the time of sending; the event's own time is in the click.

    Args:
        clicks: what to send; may be endless.
        kafka: how to reach Kafka.
        topics: where to send.
        rate: at most so many clicks per second, evenly spaced.
        speed: follow the clicks' own times, so many times faster (1 is real time). A click whose time lies
            behind the one before goes out at once.
        on_progress: called about ten times a second with the number acknowledged so far, and at the end.

    Returns:
        How many were acknowledged. After Ctrl-C too: what was sent by then is flushed first.

    Raises:
        BrokerUnreachable: Kafka does not answer.
        ConfigurationError: the topic does not exist, or the pace is not positive.
        PublishError: Kafka did not take a click. What it took before stays.
    """
    for name, given in (("rate", rate), ("speed", speed)):
        if given is not None and not given > 0:
            raise ConfigurationError(f"the {name} is {given}; it must be above 0")
    started = time.monotonic()
    interrupted = False
    # 64 KiB are enough for throughput, 5 ms soon enough for a live stream.
    with open_producer(kafka, topics.clicks, linger_ms=5, batch_size=65_536) as producer:
        sender = _Sender(producer, topics.clicks, patience_s(kafka), on_progress)
        pace = _Pace(rate, speed)
        try:
            for click in clicks:
                while (wait := pace.wait_s(click.ts_ms)) >= _SHORTEST_WAIT_S:
                    sender.settle_now_and_then()
                    time.sleep(min(wait, _LONGEST_WAIT_S))
                sender.send(click)
        except KeyboardInterrupt:
            interrupted = True
        sender.drain(0)
        sender.report()
    return Published(sender.acknowledged, time.monotonic() - started, interrupted)


class _Pace:
    """When the next click is due: a token bucket of a tenth of a second, and the clicks' own clock."""

    def __init__(self, rate: float | None, speed: float | None) -> None:
        self._interval_s = 1 / rate if rate else 0.0
        self._speed = speed
        self._due = time.monotonic()
        self._first: tuple[float, int] | None = None

    def wait_s(self, ts_ms: int) -> float:
        """Seconds until the click of this time may go; once it may, it counts as sent."""
        if not self._interval_s and self._speed is None:
            return 0.0
        now = time.monotonic()
        due = self._due
        if self._speed is not None:
            if self._first is None:
                self._first = (now, ts_ms)
            due = max(due, self._first[0] + (ts_ms - self._first[1]) / 1000 / self._speed)
        if due - now < _SHORTEST_WAIT_S:
            self._due = max(due, now - 0.1) + self._interval_s if self._interval_s else 0.0
        return due - now


class _Sender:
    """Keeps count of what is acknowledged and lets no failure pass."""

    def __init__(
        self,
        producer: KafkaProducer,
        topic: str,
        patience_s: float,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self.acknowledged = 0
        self._producer = producer
        self._topic = topic
        self._patience_s = patience_s
        self._on_progress = on_progress
        self._next_progress = 0.0
        self._waiting: deque[FutureRecordMetadata] = deque()
        self._moved = 0.0  # when an acknowledgement came last, while some are waited for

    def send(self, click: Click) -> None:
        try:
            sent = self._producer.send(self._topic, value=encode(click), key=click.user_id.encode())
        except KafkaError as error:
            raise self._failed(str(error)) from error
        if not self._waiting:
            self._moved = time.monotonic()
        self._waiting.append(sent)
        if len(self._waiting) >= _UNACKNOWLEDGED:
            self.drain(_UNACKNOWLEDGED // 2)
        self.settle_now_and_then()

    def drain(self, left: int) -> None:
        """Wait until at most so many clicks are unacknowledged."""
        self.settle()
        while len(self._waiting) > left:
            time.sleep(_DRAIN_S)
            self.settle()

    def settle_now_and_then(self) -> None:
        if time.monotonic() >= self._next_progress:
            self.settle()

    def settle(self) -> None:
        """Count what has been acknowledged, report it, and raise if a click was refused or waits too long."""
        waiting, now = self._waiting, time.monotonic()
        while waiting and waiting[0].is_done:
            done = waiting.popleft()
            if done.failed():
                raise self._failed(str(done.exception)) from done.exception
            self.acknowledged += 1
            self._moved = now
        if waiting and now - self._moved > self._patience_s:
            raise self._failed(f"no acknowledgement for {self._patience_s:g} s")
        if now >= self._next_progress:
            self._next_progress = now + _PROGRESS_S
            self.report()

    def report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.acknowledged)

    def _failed(self, reason: str) -> PublishError:
        return PublishError(
            f"Kafka did not take a click for `{self._topic}`: {reason}; "
            f"{self.acknowledged:,} clicks were acknowledged before"
        )
