"""Training without Kafka: gather, pre-train, learn, publish, forget, and go on after a stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from eddyline.model.acceptance import AcceptanceSettings
from eddyline.model.buffer import BufferSettings
from eddyline.model.checkpoint import Manifest, ModelStore, ModelStoreSettings
from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.engine import EngineSettings
from eddyline.model.learner import LearnerSettings
from eddyline.model.model import untrained_model
from eddyline.replay.pretrain import PretrainSettings
from eddyline.replay.runner import Runner
from eddyline.state.errors import CorruptModel
from eddyline.state.examples import Examples
from eddyline.state.records import Click, hash_id
from eddyline.stream.config import Settings
from eddyline.stream.settings import TrainerSettings
from eddyline.stream.training import Erased, Training


@pytest.fixture
def settings(engine_settings: EngineSettings, tmp_path: Path) -> Settings:
    return Settings(
        engine=engine_settings,
        learner=LearnerSettings(batch=20, replayed=16, uniform=8, buffer=BufferSettings(capacity=60)),
        acceptance=AcceptanceSettings(tolerance=1.0),
        pretrain=PretrainSettings(epochs=1, least_steps=20, batch=64, negatives=8, buckets=3),
        trainer=TrainerSettings(pretrain_clicks=120, publish_examples=40, window=100),
        model_store=ModelStoreSettings(url=str(tmp_path / "models"), keep=3, keep_hourly=0, keep_daily=0),
    )


class Stream:
    """A worker's side: clicks through the engine; their evidence and examples to any number of trainers."""

    def __init__(self, settings: Settings, clicks: list[Click]) -> None:
        self.runner = Runner(settings.engine, ClickSettings(), untrained_model(8), Counts())
        self.clicks = clicks
        self.messages = 0

    def feed(self, count: int, *trainings: Training) -> None:
        for _ in range(count // 10):
            batch, self.clicks = self.clicks[:10], self.clicks[10:]
            step = self.runner.feed(batch)
            for training in trainings:
                training.fold([step.evidence.encode()], self.messages + 1)
                for examples in step.examples:
                    assert training.covers(examples)
                    training.observe(Examples.decode(examples.encode()), self.messages)
            self.messages += 1

    def take(self, messages: int, *trainings: Training) -> list[Examples]:
        """The examples of so many batches, of which the trainings get the evidence alone."""
        taken = []
        for _ in range(messages):
            batch, self.clicks = self.clicks[:10], self.clicks[10:]
            step = self.runner.feed(batch)
            for training in trainings:
                training.fold([step.evidence.encode()], self.messages + 1)
            taken += [Examples.decode(examples.encode()) for examples in step.examples]
            self.messages += 1
        return taken

    def serve(self, training: Training) -> None:
        assert training.current is not None
        self.runner.engine.swap(training.current)


@pytest.fixture
def store(settings: Settings) -> ModelStore:
    return ModelStore(settings.model_store)


@pytest.fixture
def make(settings: Settings, store: ModelStore) -> Callable[..., Training]:
    def make(announced: Manifest | None = None) -> Training:
        training = Training(settings, store)
        training.resume(announced)
        return training

    return make


@pytest.fixture
def stream(settings: Settings, toy_clicks: Callable[..., list[Click]]) -> Stream:
    """From click 200 on there are more items."""
    return Stream(settings, toy_clicks(200) + toy_clicks(600, items=18)[200:])


@pytest.fixture
def pretrained(make: Callable[..., Training], stream: Stream) -> Training:
    """A trainer that has published its first version, which the stream serves."""
    training = make()
    stream.feed(120, training)
    training.begin_with(training.pretrain(lambda share, text: None))
    stream.serve(training)
    return training


def weights(training: Training) -> list[torch.Tensor]:
    assert training.learner is not None
    return [
        training.learner.items.vector.clone(),
        training.learner.items.bias.clone(),
        *(tensor.detach().clone() for tensor in training.learner.network.state_dict().values()),
    ]


def assert_same(one: Training, other: Training) -> None:
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))
    assert one.examples_offset == other.examples_offset
    assert one.evidence_offset == other.evidence_offset
    assert one.counts.ids == other.counts.ids
    assert one.learner is not None
    assert other.learner is not None
    assert one.learner.learned == other.learner.learned


def test_clicks_are_gathered_until_there_are_enough(make: Callable[..., Training], stream: Stream) -> None:
    training = make()
    stream.feed(110, training)
    assert (training.gathered, training.may_pretrain, training.learner) == (110, False, None)
    assert training.publish() == (None, "")
    stream.feed(10, training)
    assert training.may_pretrain
    assert training.examples_offset == 11


def test_the_first_version_is_pretrained_and_stored(
    pretrained: Training, store: ModelStore, make: Callable[..., Training]
) -> None:
    manifest = store.manifest(1)
    assert (manifest.cause, manifest.parent, manifest.items) == ("pretrain", 0, len(pretrained.counts))
    assert manifest.evidence_offset == 12
    assert {"held_out_loss", "recall@20", "recall@20 decayed-popularity"} <= manifest.metrics.keys()
    assert pretrained.current is not None
    assert manifest.encoder == f"{pretrained.current.encoder_id:016x}"
    assert pretrained.current.version == 1
    assert (pretrained.gathered, pretrained.may_pretrain) == (0, False)


def test_it_learns_in_batches_and_publishes_when_there_is_enough(
    pretrained: Training, stream: Stream, store: ModelStore
) -> None:
    before = weights(pretrained)
    stream.feed(30, pretrained)
    assert pretrained.learner is not None
    assert pretrained.learner.learned == 20
    assert pretrained.examples_offset == 13  # of the last message learned from: the third one waits
    assert pretrained.publish() == (None, "")
    stream.feed(10, pretrained)
    assert pretrained.examples_offset == 15
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(pretrained), strict=True))
    manifest, reason = pretrained.publish()
    assert manifest is not None
    assert (manifest.version, manifest.parent, manifest.cause, manifest.examples) == (2, 1, "online", 40)
    assert "loss" in reason
    assert pretrained.current is not None
    assert pretrained.current.version == 2
    assert store.versions() == [1, 2]
    assert pretrained.publish() == (None, "")


def test_old_versions_are_pruned(pretrained: Training, stream: Stream, store: ModelStore) -> None:
    for _ in range(4):
        stream.feed(40, pretrained)
        assert pretrained.publish()[0] is not None
    assert store.versions() == [3, 4, 5]


def test_a_version_whose_loss_is_worse_is_refused(pretrained: Training, stream: Stream) -> None:
    assert pretrained.learner is not None
    pretrained.learner.items.bias.normal_(0, 100)
    stream.feed(40, pretrained)
    manifest, reason = pretrained.publish()
    assert manifest is None
    assert reason.startswith("its loss is")


def test_a_version_that_fails_is_dropped_for_the_current_one(
    pretrained: Training, stream: Stream, store: ModelStore
) -> None:
    current = weights(pretrained)
    stream.feed(40, pretrained)
    assert pretrained.learner is not None
    pretrained.learner.items.vector[0, 0] = np.nan
    assert pretrained.publish() == (None, "a weight is not finite")
    assert store.versions() == [1]
    assert pretrained.current is not None
    assert pretrained.current.version == 1
    back = weights(pretrained)
    assert torch.equal(back[0][: len(current[0])], current[0])
    assert all(torch.equal(a, b) for a, b in zip(back[2:], current[2:], strict=True))
    stream.feed(40, pretrained)
    assert pretrained.publish()[0] is not None


def test_gathering_goes_on_after_a_stop(make: Callable[..., Training], stream: Stream) -> None:
    training = make()
    stream.feed(60, training)
    assert training.checkpoint() == 5
    resumed = make()
    assert (resumed.gathered, resumed.examples_offset, resumed.evidence_offset) == (60, 5, 6)
    stream.feed(60, training, resumed)
    for one in (training, resumed):
        one.begin_with(one.pretrain(lambda share, text: None))
    assert_same(resumed, training)


def test_learning_goes_on_after_a_stop_as_if_there_had_been_none(
    pretrained: Training, stream: Stream, make: Callable[..., Training]
) -> None:
    stream.feed(80, pretrained)  # up to where new items begin
    assert pretrained.checkpoint() == 19
    resumed = make()
    assert_same(resumed, pretrained)
    assert resumed.current is not None
    assert resumed.current.version == 1
    stream.feed(100, pretrained, resumed)
    assert_same(resumed, pretrained)
    ours, theirs = pretrained.publish()[0], resumed.publish()[0]
    assert ours is not None
    assert theirs is not None
    assert (ours.version, theirs.version) == (2, 3)
    assert ours.files["weights"].sha256 == theirs.files["weights"].sha256
    assert ours.files["counts"].sha256 == theirs.files["counts"].sha256


def test_what_waited_at_a_stop_is_delivered_again(
    pretrained: Training, stream: Stream, make: Callable[..., Training]
) -> None:
    stream.feed(30, pretrained)
    assert pretrained.checkpoint() == 13  # message 14 waits for a batch: it is not in the checkpoint
    assert make().examples_offset == 13


def test_a_damaged_checkpoint_is_refused(make: Callable[..., Training], stream: Stream, tmp_path: Path) -> None:
    training = make()
    stream.feed(20, training)
    training.checkpoint()
    (path,) = (tmp_path / "models").rglob("*.checkpoint")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptModel, match="delete it to go on from the newest version"):
        make()


def test_without_a_checkpoint_it_goes_on_from_the_announced_version(
    pretrained: Training, make: Callable[..., Training], store: ModelStore
) -> None:
    resumed = make(store.manifest(1))
    assert resumed.current is not None
    assert resumed.current.version == 1
    assert resumed.learner is not None
    assert resumed.evidence_offset == 12
    assert resumed.counts.ids == pretrained.counts.ids
    assert resumed.examples_offset == -1


def test_what_an_operator_promoted_while_none_was_running_is_followed(
    pretrained: Training, stream: Stream, store: ModelStore, make: Callable[..., Training]
) -> None:
    stream.feed(40, pretrained)
    assert pretrained.publish()[0] is not None
    pretrained.checkpoint()
    first = store.manifest(1)
    for change, version in (
        ({"cause": "online"}, 2),
        ({"cause": "rollback"}, 1),
        ({"cause": "promote", "items": 10_000, "evidence_offset": 0}, 2),  # of other evidence
    ):
        resumed = make(msgspec.structs.replace(first, **change))
        assert resumed.current is not None
        assert resumed.current.version == version


def test_a_promoted_version_is_followed(pretrained: Training, stream: Stream, store: ModelStore) -> None:
    first = weights(pretrained)
    stream.feed(40, pretrained)
    assert pretrained.publish()[0] is not None
    assert not pretrained.follow(store.manifest(2))
    assert pretrained.follow(store.manifest(1))
    assert pretrained.current is not None
    assert pretrained.current.version == 1
    assert all(torch.equal(a, b) for a, b in zip(weights(pretrained)[2:], first[2:], strict=True))


def test_forgetting_erases_gathered_clicks_and_reports_them(make: Callable[..., Training], stream: Stream) -> None:
    training = make()
    clicks = sum(one.user_id == "u1" for one in stream.clicks[:60])
    stream.feed(60, training)
    user = hash_id("u1")
    assert training.observe(Examples.of_forgotten(user, 2), 6) == [Erased(user, 2, examples=0, clicks=clicks)]
    assert training.gathered == 60 - clicks
    assert training.examples_offset == 6
    assert training.observe(Examples.of_forgotten(user, 0), 7) == [Erased(user, 0, examples=0, clicks=0)]
    training.checkpoint()
    resumed = make()
    assert resumed.gathered == 60 - clicks
    assert resumed.observe(Examples.of_forgotten(user, 0), 8) == [Erased(user, 0, examples=0, clicks=0)]


def test_forgetting_erases_from_the_replay_buffer_and_what_waits_for_it(pretrained: Training, stream: Stream) -> None:
    learner = pretrained.learner
    assert learner is not None
    fed = stream.clicks[:50]
    stream.feed(50, pretrained)
    assert len(learner.buffer) == 40  # ten examples wait
    user = hash_id("u1")
    clicks = sum(one.user_id == "u1" for one in fed)
    request = Examples.decode(Examples.of_forgotten(user, 1).encode())
    assert pretrained.observe(request, 17) == [Erased(user, 1, examples=clicks, clicks=0)]
    assert len(learner.buffer) == 50 - clicks
    assert user not in learner.buffer.to_arrays()[0]["user"].tolist()
    assert pretrained.examples_offset == 17


def test_clicks_that_come_again_are_neither_gathered_nor_scored(make: Callable[..., Training], stream: Stream) -> None:
    training = make()
    first, second, third = stream.take(3)
    for offset, examples in enumerate((first, second, second, first)):
        assert training.observe(examples, offset) == []
    assert (training.gathered, training.examples_offset) == (20, 3)
    assert sum(len(rank) for rank, _ in training._ranks) == 20
    training.checkpoint()
    resumed = make()
    resumed.observe(second, 4)
    assert resumed.gathered == 20
    resumed.observe(third, 5)
    assert resumed.gathered == 30


def test_of_a_message_seen_in_part_the_rest_is_learned_from(pretrained: Training, stream: Stream) -> None:
    learner = pretrained.learner
    assert learner is not None
    first, second = stream.take(2, pretrained)
    half = np.arange(10) < 5
    for offset, examples in enumerate((first, second.only(half), second), 12):
        pretrained.observe(examples, offset)
    assert learner.learned == 20
    assert len(learner.buffer) == 20
    assert pretrained.examples_offset == 14


def test_each_partition_has_offsets_of_its_own(make: Callable[..., Training], stream: Stream) -> None:
    training = make()
    (examples,) = stream.take(1)
    both = replace(examples, partition=(np.arange(10) % 2).astype(np.int32))
    training.observe(both.only(both.partition == 1), 0)
    training.observe(both, 1)
    assert training.gathered == 10
    assert sorted(np.concatenate(training._users)) == sorted(both.user)


def test_what_waited_at_a_stop_is_not_taken_for_seen(
    pretrained: Training, stream: Stream, make: Callable[..., Training]
) -> None:
    first, second, third, fourth = stream.take(4, pretrained)
    for offset, examples in enumerate((first, second, third), 12):
        pretrained.observe(examples, offset)
    assert pretrained.checkpoint() == 13  # the third waits
    resumed = make()
    for training, messages in ((pretrained, (fourth,)), (resumed, (third, fourth))):
        for examples in messages:
            training.observe(examples, 15)
    assert_same(resumed, pretrained)


def test_users_are_erased_however_often_they_ask(make: Callable[..., Training], stream: Stream) -> None:
    training = make()
    (examples,) = stream.take(1)
    training.observe(examples, 0)
    for offset in (1, 2):
        assert len(training.observe(Examples.of_forgotten(1, 0), offset)) == 1


def test_a_checkpoint_that_knows_no_offsets_of_clicks_is_read(
    make: Callable[..., Training], stream: Stream, store: ModelStore
) -> None:
    training = make()
    stream.feed(20, training)
    training.checkpoint()
    saved = store.load_checkpoint("trainer")
    assert saved is not None
    arrays, metadata = saved
    assert metadata.pop("clicks_offsets") == {"0": 19}
    store.save_checkpoint("trainer", arrays, metadata)
    assert make().gathered == 20


def test_recall_is_of_the_newest_window(pretrained: Training, stream: Stream) -> None:
    stream.feed(300, pretrained)
    recall = pretrained.recall()
    assert set(recall) == {"recall@20", "recall@20 decayed-popularity"}
    assert recall["recall@20"] == 1.0  # there are 18 items, and none is new any more


def test_examples_on_items_not_yet_counted_are_not_covered(
    make: Callable[..., Training], stream: Stream, toy_clicks: Callable[..., list[Click]]
) -> None:
    training = make()
    stream.feed(50)
    examples = stream.runner.feed(toy_clicks(10)).examples[0]
    assert not training.covers(examples)
    assert training.covers(Examples.of_forgotten(1, 0))


def test_steps_are_logged_for_tensorboard_where_a_folder_is_set(
    settings: Settings,
    store: ModelStore,
    stream: Stream,
    scalars: Callable[[Path], dict[str, list[tuple[int, float]]]],
    tmp_path: Path,
) -> None:
    trainer = settings.trainer.model_copy(update={"tensorboard": tmp_path / "board"})
    training = Training(settings.model_copy(update={"trainer": trainer}), store)
    training.resume(None)
    stream.feed(120, training)
    training.begin_with(training.pretrain(lambda share, text: None))
    stream.serve(training)
    assert not any((tmp_path / "board").glob("*/*"))
    stream.feed(40, training)
    assert training.learner is not None
    logged = scalars(tmp_path / "board")
    assert [step for step, _ in logged["loss/score"]] == [20, 40]
    assert logged["buffer/examples"][-1] == (40, len(training.learner.buffer))
