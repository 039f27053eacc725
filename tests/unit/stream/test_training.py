from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from eddyline.model.checkpoint import ModelStore
from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.model import untrained_model
from eddyline.replay.runner import Runner
from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.state.examples import Examples
from eddyline.state.records import hash_id
from eddyline.stream.config import Settings, load_settings
from eddyline.stream.training import Training

CLICKS = list(synthetic_clicks(SyntheticSettings(clicks=500, users=50, items=60, topics=4)))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    quick = {
        "model_store.url": str(tmp_path),
        "engine.shape.dimension": "8",
        "trainer.pretrain_clicks": "200",
        "pretrain.least_steps": "20",
        "pretrain.epochs": "2",
        "trainer.publish_examples": "1",
        "learner.batch": "32",
    }
    return load_settings(None, quick, {})


class Stream:
    """A runner in place of the workers; what it makes goes to a trainer, message by message."""

    def __init__(self, settings: Settings) -> None:
        self.runner = Runner(settings.engine, ClickSettings(), untrained_model(8), Counts())
        self.offset = 0

    def feed(self, training: Training, begin: int, end: int) -> None:
        for at in range(begin, end, 50):
            step = self.runner.feed(CLICKS[at : at + 50])
            training.fold([step.evidence.encode()], at // 50 + 1)
            for examples in step.examples:
                training.observe(Examples.decode(examples.encode()), self.offset)
                self.offset += 1


@pytest.fixture
def stream(settings: Settings) -> Stream:
    return Stream(settings)


@pytest.fixture
def training(settings: Settings, stream: Stream) -> Training:
    """A trainer that has published version 1, pre-trained, and version 2, learned online."""
    training = Training(settings, ModelStore(settings.model_store))
    stream.feed(training, 0, 250)
    assert training.may_pretrain
    training.pretrain(lambda share, text: None)
    assert training.current is not None
    stream.runner.engine.swap(training.current)
    stream.feed(training, 250, 500)
    manifest, _ = training.publish()
    assert manifest is not None
    assert manifest.version == 2
    return training


def test_a_request_to_forget_needs_no_counts_and_erases_the_users_examples(training: Training) -> None:
    user = CLICKS[-1].user_id
    request = Examples.decode(Examples.of_forgotten([hash_id(user)]).encode())
    assert training.covers(request)
    (erased,) = training.observe(request, 100)
    assert erased.examples > 0
    (again,) = training.observe(request, 101)
    assert again.examples == 0


def test_a_checkpoint_goes_on_where_it_was(training: Training, settings: Settings) -> None:
    assert training.checkpoint() == training.examples_offset
    resumed = Training(settings, ModelStore(settings.model_store))
    resumed.resume(None)
    assert resumed.examples_offset == training.examples_offset
    assert resumed.evidence_offset == training.evidence_offset == 10
    assert resumed.current is not None
    assert resumed.current.version == 2


def test_what_an_operator_promoted_meanwhile_is_followed(training: Training, settings: Settings) -> None:
    training.checkpoint()
    store = ModelStore(settings.model_store)
    for cause, version in (("online", 2), ("rollback", 1)):
        resumed = Training(settings, store)
        resumed.resume(msgspec.structs.replace(store.manifest(1), cause=cause))
        assert resumed.current is not None
        assert resumed.current.version == version


def test_a_promoted_version_of_other_evidence_is_refused_at_the_start_too(
    training: Training, settings: Settings
) -> None:
    training.checkpoint()
    store = ModelStore(settings.model_store)
    resumed = Training(settings, store)
    resumed.resume(msgspec.structs.replace(store.manifest(1), cause="promote", items=10_000, evidence_offset=0))
    assert resumed.current is not None
    assert resumed.current.version == 2
