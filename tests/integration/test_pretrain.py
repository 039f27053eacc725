"""A first version from a log: the stream begins with it, and goes on learning from it."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.state.records import Click
from eddyline.stream.cli import main
from eddyline.stream.config import load_settings
from eddyline.stream.kafka import KafkaSettings
from eddyline.stream.models import evidence_span
from eddyline.stream.processes import Child
from eddyline.stream.publish import publish
from eddyline.stream.subscribe import Subscription
from eddyline.stream.topics import Topics, TopicSettings


def write_log(path: Path, clicks: Sequence[Click]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", "user_id", "item_id", "event_type"])
        writer.writerows((click.ts_ms, click.user_id, click.item_id, click.kind) for click in clicks)


def test_workers_waiting_and_started_later_begin_with_the_pretrained_version(
    kafka: KafkaSettings, topic_settings: TopicSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "topics.prefix": topic_settings.prefix,
        "model_store.url": str(tmp_path / "models"),
        "state.folder": str(tmp_path / "state"),
        "telemetry.log_format": "json",
        "trainer.publish_every_s": "1",
        "trainer.publish_examples": "256",
        "acceptance.tolerance": "1",  # of a model so young and so few clicks nothing can be said
        "pretrain.least_steps": "40",
        "pretrain.epochs": "2",
    }
    settings, topics = load_settings(None, overrides, {}), Topics.of(topic_settings)
    flags = [word for key, value in overrides.items() for word in ("--set", f"{key}={value}")]
    clicks = list(synthetic_clicks(SyntheticSettings(clicks=2_000, users=200, items=150, topics=6)))
    write_log(tmp_path / "log.csv", clicks[:1_200])
    logs = [tmp_path / f"{name}.log" for name in ("worker", "trainer")]
    with ExitStack() as stack:
        stack.enter_context(Child(["worker"], settings, logs[0]))
        wait_until_said(logs[0], "ready")  # it waits for clicks, with no model at all
        assert main(["pretrain", str(tmp_path / "log.csv"), *flags]) == 0
        wait_until_said(logs[0], "took a model into use")
        stack.enter_context(Child(["trainer"], settings, logs[1]))
        wait_until_said(logs[1], "ready")
        publish(clicks[1_200:], kafka, topics)
        wait_until_said(logs[1], "published a version")
        wait_until_said(logs[0], '"version": 2')
        with Subscription(kafka, topics, offset="earliest", exit_at_end=True) as subscription:
            lists = list(subscription)
    assert not any("refused" in log.read_text() for log in logs)
    assert {one.model_version for one in lists} >= {1}
    assert "fallback" not in {one.cause for one in lists}
    oldest, end = evidence_span(kafka, topics)
    assert oldest == 0 < end
    assert main(["pretrain", str(tmp_path / "log.csv"), *flags, "--set", "model_store.name=other"]) == 1
    assert "is not empty: the stream has begun" in capsys.readouterr().err


def wait_until_said(log: Path, words: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while words not in log.read_text():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {words!r}:\n{log.read_text()}"
        time.sleep(0.2)
