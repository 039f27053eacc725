from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from eddyline.model.checkpoint import Manifest, ModelStore, ModelStoreSettings
from eddyline.model.counts import CountsSettings
from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.state.errors import BrokerUnreachable
from eddyline.stream.cli import main
from eddyline.stream.models import starting_point

pytestmark = pytest.mark.usefixtures("elsewhere", "broker_answers")

QUICK = ["--set", "pretrain.least_steps=20", "--set", "pretrain.epochs=2", "--set", "engine.shape.dimension=8"]


@pytest.fixture
def log(elsewhere: Path) -> str:
    """A log of 400 clicks, some of a kind that counts for nothing."""
    path = elsewhere / "log.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", "user_id", "item_id", "event_type"])
        for click in synthetic_clicks(SyntheticSettings(clicks=400, users=40, items=40, topics=4)):
            writer.writerow([click.ts_ms, click.user_id, click.item_id, click.kind])
    return str(path)


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[Manifest]:
    """Stands in for the models topic, beside an empty evidence topic."""
    topic: list[Manifest] = []
    monkeypatch.setattr("eddyline.stream.models.evidence_span", lambda kafka, topics: (0, 0))
    monkeypatch.setattr("eddyline.stream.models.announce", lambda kafka, topics, manifest: topic.append(manifest))
    return topic


def test_a_version_is_stored_announced_and_fit_to_begin_with(
    log: str, announced: list[Manifest], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", log, "--json", *QUICK]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    store = ModelStore(ModelStoreSettings())
    assert [manifest.version for manifest in announced] == [1] == store.versions()
    assert (told["cause"], told["evidence_offset"], told["parent"]) == ("pretrain", 0, 0)
    assert set(told["metrics"]) == {"held_out_loss", "recall@20", "recall@20 decayed-popularity"}
    model, counts, offset = starting_point(store, announced[0], CountsSettings(), 8)
    assert (model.version, offset, counts.seen) == (1, 0, 400)
    assert model.encoder is not None
    assert told["items"] == len(counts)
    assert "decayed popularity" in captured.err


def test_kinds_of_weight_zero_and_clicks_beyond_the_limit_are_left_out(log: str, announced: list[Manifest]) -> None:
    assert main(["pretrain", log, "--limit", "300", "--set", "clicks.weights={ purchase = 0.0 }", *QUICK]) == 0
    _, counts, _ = starting_point(ModelStore(ModelStoreSettings()), announced[0], CountsSettings(), 8)
    assert 270 < counts.seen < 300


def test_offline_only_stores(log: str, announced: list[Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise BrokerUnreachable("nobody there")

    monkeypatch.setattr("eddyline.stream.kafka.wait_for_broker", unreachable)
    assert main(["pretrain", log, "--offline", *QUICK]) == 0
    assert ModelStore(ModelStoreSettings()).versions() == [1]
    assert announced == []


def test_without_kafka_the_way_out_is_named(
    log: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object) -> None:
        raise BrokerUnreachable("nobody there")

    monkeypatch.setattr("eddyline.stream.kafka.wait_for_broker", unreachable)
    assert main(["pretrain", log, *QUICK]) == 1
    assert "nobody there; --offline stores the version without Kafka" in capsys.readouterr().err


def test_a_stream_that_has_begun_is_refused_before_training(
    log: str, announced: list[Manifest], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("eddyline.stream.models.evidence_span", lambda kafka, topics: (0, 9))
    assert main(["pretrain", log, *QUICK]) == 1
    assert "eddyline.evidence.v1 is not empty" in capsys.readouterr().err
    assert ModelStore(ModelStoreSettings()).versions() == []


def test_a_stream_that_begins_while_training_keeps_its_own_model(
    log: str, announced: list[Manifest], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([(0, 0), (0, 9)])
    monkeypatch.setattr("eddyline.stream.models.evidence_span", lambda kafka, topics: next(answers))
    assert main(["pretrain", log, *QUICK]) == 1
    assert "version 1 is stored but not in use" in capsys.readouterr().err
    assert announced == []


def test_a_trainers_checkpoint_is_not_passed_over(
    log: str, announced: list[Manifest], capsys: pytest.CaptureFixture[str]
) -> None:
    ModelStore(ModelStoreSettings()).save_checkpoint("trainer", {"n": np.arange(3)}, {})
    assert main(["pretrain", log, "--offline", *QUICK]) == 1
    assert "choose another model_store.name" in capsys.readouterr().err


def test_wrong_words_are_told(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", log, "--limit", "0"]) == 2
    assert main(["pretrain", "absent.csv", "--offline"]) == 2
    assert main(["pretrain", log, "--offline", "--item-column", "sku"]) == 2
    assert "sku" in capsys.readouterr().err
