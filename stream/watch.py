"""Watching a running pipeline from outside, through its topics: what the demo shows and sums up."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from eddyline.model.checkpoint import Manifest
from eddyline.state.examples import Examples
from eddyline.state.records import Click, Recommendation, decode_recommendation
from eddyline.stream.clients import kafka_errors, open_consumer
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.topics import Topics

__all__ = ["Watch"]

_POLL_MS = 100
_RECENT = 2_000
_SHOWN_CLICKS = 6


class Watch:
    """Reads recommendations, examples and models in a thread of its own, from when it is entered.

    Attributes:
        published: clicks handed to Kafka.
        applied: clicks that came back as examples, each counted once.
        causes: lists by cause.
        versions: manifests announced, in order.
        user: a user who clicks often; `clicks` are their last ones and `list` is their newest list.
    """

    def __init__(self, kafka: KafkaSettings, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics
        self._sent: dict[str, float] = {}
        self._latency_s: list[float] = []
        self._ranks: list[np.ndarray[Any, Any]] = []
        self._popular_ranks: list[np.ndarray[Any, Any]] = []
        self._seen: dict[int, int] = {}
        self._applied_at: deque[tuple[float, int]] = deque()
        self._activity: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._failure: Exception | None = None
        self.published = 0
        self.applied = 0
        self.repeated = 0
        self.causes: Counter[str] = Counter()
        self.versions: list[Manifest] = []
        self.user = ""
        self.clicks: deque[Click] = deque(maxlen=_SHOWN_CLICKS)
        self.list: Recommendation | None = None

    def __enter__(self) -> Watch:
        self._consumer, sources = open_consumer(self._kafka, self._topics.recommendations)
        for topic in (self._topics.examples, self._topics.models):
            other, more = open_consumer(self._kafka, topic)
            other.close()
            sources = sources + more
        self._consumer.assign(sources)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def passing(self, clicks: Iterable[Click]) -> Iterator[Click]:
        """The clicks, taking note of each as it is sent."""
        for click in clicks:
            yield click
            # The publisher asks for the next click right after it sent this one.
            self._sent[click.event_id] = time.time()
            self.published += 1
            self._activity[click.user_id] += 1
            if self.published % 500 == 1:
                self._choose_user()
            if click.user_id == self.user:
                self.clicks.append(click)

    def _choose_user(self) -> None:
        user, _ = self._activity.most_common(1)[0]
        if user != self.user:
            self.user, self.list = user, None
            self.clicks.clear()

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        if self._failure is not None:
            raise self._failure

    def clicks_per_s(self) -> float:
        """Clicks applied per second over the last seconds."""
        now = time.monotonic()
        recent = [(at, n) for at, n in list(self._applied_at) if now - at < 5.0]
        return sum(n for _, n in recent) / 5.0

    def latency_ms(self, share: float) -> float:
        """The time from a click to its list in a subscriber's hands that this share of the lists kept."""
        values = self._latency_s
        return float(1000 * np.quantile(values, share)) if values else 0.0

    def recall(self, newest: int | None = None) -> tuple[float, float]:
        """Prequential recall@20 of the lists as served, and of decayed popularity, on the newest clicks or all."""
        if not self._ranks:
            return 0.0, 0.0
        ours, popular = np.concatenate(list(self._ranks)), np.concatenate(list(self._popular_ranks))
        if newest is not None:
            ours, popular = ours[-newest:], popular[-newest:]
        hits = [float(((ranks > 0) & (ranks <= 20)).mean()) for ranks in (ours, popular)]
        return hits[0], hits[1]

    def recent_recall(self) -> tuple[float, float]:
        """The same on the newest 2,000 clicks."""
        return self.recall(_RECENT)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                with kafka_errors(self._kafka):
                    polled = self._consumer.poll(timeout_ms=_POLL_MS)
                now = time.time()
                for source, records in polled.items():
                    for record in records:
                        self._take(source.topic, record.value, now)
        except Exception as error:
            self._failure = error

    def _take(self, topic: str, value: bytes | None, now: float) -> None:
        if value is None:
            return
        if topic == self._topics.models:
            self.versions.append(Manifest.decode(value))
        elif topic == self._topics.examples:
            self._take_examples(Examples.decode(value))
        else:
            recommendation = decode_recommendation(value)
            self.causes[recommendation.cause] += 1
            sent = self._sent.pop(recommendation.cause_event_id, None)
            if sent is not None:
                self._latency_s.append(now - sent)
            if self.user and recommendation.user_id == self.user:
                self.list = recommendation

    def _take_examples(self, examples: Examples) -> None:
        fresh = np.ones(len(examples), np.bool_)
        for n, (partition, offset) in enumerate(
            zip(examples.partition.tolist(), examples.offset.tolist(), strict=True)
        ):
            fresh[n] = offset > self._seen.get(partition, -1)
            self._seen[partition] = max(offset, self._seen.get(partition, -1))
        self._ranks.append(examples.rank[fresh])
        self._popular_ranks.append(examples.popular_rank[fresh])
        count = int(fresh.sum())
        self.applied += count
        self.repeated += len(examples) - count
        self._applied_at.append((time.monotonic(), count))
        while len(self._applied_at) > 1_000:
            self._applied_at.popleft()
