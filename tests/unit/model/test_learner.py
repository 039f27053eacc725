"""The learner: it learns, changes nothing that is served, and goes on after a stop as if there had been none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from eddyline.model.buffer import BufferSettings
from eddyline.model.counts import Counts
from eddyline.model.evidence import CONTEXT
from eddyline.model.learner import Learner, LearnerSettings
from eddyline.model.model import Model
from eddyline.model.short_term import Encoder
from eddyline.replay.runner import Runner
from eddyline.state.examples import Examples
from eddyline.state.records import Click
from eddyline.state.user_state import StateShape

SETTINGS = LearnerSettings(
    replayed=16, uniform=8, item_rate=0.05, network_rate=5e-3, buffer=BufferSettings(capacity=50)
)

Batch = Sequence[Examples]


@pytest.fixture
def model(make_model: Callable[..., Model]) -> Model:
    return make_model()


@pytest.fixture
def learner(shape: StateShape, model: Model) -> Learner:
    return Learner(SETTINGS, shape, 6, model)


@pytest.fixture
def stream(
    make_runner: Callable[..., Runner], model: Model, toy_clicks: Callable[..., list[Click]]
) -> tuple[Counts, list[Batch]]:
    """What a worker serving the model logs of 480 clicks, 32 at a time; from the middle on with more items."""
    runner = make_runner(model)
    made = toy_clicks(240) + toy_clicks(480, items=20)[240:]
    batches = [runner.feed(made[begin : begin + 32]).examples for begin in range(0, len(made), 32)]
    return runner.counts, batches


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    state = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    return state | {"vector": learner.items.vector.clone(), "bias": learner.items.bias.clone()}


def assert_same_weights(one: Learner, other: Learner) -> None:
    ours, theirs = weights(one), weights(other)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_the_loss_falls(learner: Learner, model: Model, stream: tuple[Counts, list[Batch]]) -> None:
    counts, batches = stream
    steps = [losses for batch in batches[1:-2] if (losses := learner.learn(batch, counts)) is not None]
    # scored before it is learned from: better than chance at last, and than where it started from
    assert np.mean([one.neural for one in steps[-3:]]) < np.mean([one.neural for one in steps[:3]])
    unseen = [*batches[-2], *batches[-1]]
    assert learner.losses(unseen, counts) < 0.8 * learner.losses(unseen, counts, model)
    assert learner.learned == sum(len(one) for batch in batches[1:-2] for one in batch) - learner.skipped
    assert all(np.isfinite(one).all() for one in steps)


def test_rows_stay_inside_the_unit_ball(learner: Learner, stream: tuple[Counts, list[Batch]]) -> None:
    counts, batches = stream
    for batch in batches:
        learner.learn(batch, counts)
    assert float(learner.items.vector.norm(dim=1).max()) <= 1 + 1e-6


def test_scoring_learns_nothing(learner: Learner, stream: tuple[Counts, list[Batch]]) -> None:
    counts, batches = stream
    learner.learn(batches[3], counts)
    before = weights(learner)
    first = learner.losses(batches[4], counts)
    assert learner.losses(batches[4], counts) == first
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(learner).items())
    assert learner.learned == 32


def test_the_model_it_started_from_is_not_changed(
    learner: Learner, model: Model, stream: tuple[Counts, list[Batch]]
) -> None:
    counts, batches = stream
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    vector, bias = model.items.vector.clone(), model.items.bias.clone()
    for batch in batches:
        learner.learn(batch, counts)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())
    assert torch.equal(model.items.vector[: len(vector)], vector)
    assert torch.equal(model.items.bias[: len(bias)], bias)
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_a_snapshot_does_not_learn_on(learner: Learner, model: Model, stream: tuple[Counts, list[Batch]]) -> None:
    counts, batches = stream
    learner.learn(batches[1], counts)
    snapshot = learner.snapshot(7, 9)
    assert (snapshot.version, snapshot.trained_until_ms, snapshot.encoder_id) == (7, 9, model.encoder_id)
    loss = learner.losses(batches[2], counts, snapshot)
    assert loss == learner.losses(batches[2], counts)
    learner.learn(batches[2], counts)
    assert learner.losses(batches[2], counts, snapshot) == loss != learner.losses(batches[2], counts)


def test_the_head_alone_learns_again_from_old_examples(
    shape: StateShape, model: Model, stream: tuple[Counts, list[Batch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, batches = stream
    once, again = (Learner(SETTINGS, shape, 6, model) for _ in range(2))
    for batch in batches[1:5]:
        again.learn(batch, counts)
    monkeypatch.setattr("eddyline.model.learner._HEAD_STEPS", 0)
    for batch in batches[1:5]:
        once.learn(batch, counts)
    assert not torch.equal(once.network.gate.prior, again.network.gate.prior)
    assert not torch.equal(once.network.residual.out.weight, again.network.residual.out.weight)
    # of the rest only the first step is the same: from then on the gate weighs the neural score differently
    once, again = (Learner(SETTINGS, shape, 6, model) for _ in range(2))
    once.learn(batches[1], counts)
    monkeypatch.undo()
    again.learn(batches[1], counts)
    assert torch.equal(once.items.vector, again.items.vector)
    assert torch.equal(once.network.fusion.out.weight, again.network.fusion.out.weight)


def test_old_examples_leave_the_weights_of_newcomers_alone(
    shape: StateShape, model: Model, stream: tuple[Counts, list[Batch]], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, batches = stream
    once, again = (Learner(SETTINGS, shape, 6, model) for _ in range(2))
    newcomer = np.eye(len(CONTEXT), dtype=np.float32)[[CONTEXT.index("newcomer")]]
    first = [replace(one, context=np.repeat(newcomer, len(one), 0)) for one in batches[1]] + [*batches[2]]
    for batch in (first, batches[3], batches[4]):
        again.learn(batch, counts)
    monkeypatch.setattr("eddyline.model.learner._HEAD_STEPS", 0)
    for batch in (first, batches[3], batches[4]):
        once.learn(batch, counts)
    assert not torch.equal(again.network.gate.prior, once.network.gate.prior)
    assert not torch.equal(again.network.gate.newcomer, model.network.gate.newcomer)
    assert torch.equal(again.network.gate.newcomer, once.network.gate.newcomer)


def test_what_would_be_published_of_the_head_is_its_running_average(
    shape: StateShape, model: Model, stream: tuple[Counts, list[Batch]]
) -> None:
    counts, batches = stream
    learner = Learner(SETTINGS.model_copy(update={"replayed": 0}), shape, 6, model)  # one step of the head at a time
    average = [parameter.clone() for parameter in model.network.head]
    for step, batch in enumerate(batches[1:13], 1):
        learner.learn(batch, counts)
        share, head = max(0.1, 1 / step), learner.network.head
        average = [torch.lerp(mean, one.detach(), share) for mean, one in zip(average, head, strict=True)]
    published = learner.snapshot(1, 1)
    for mean, parameter in zip(average, published.network.head, strict=True):
        torch.testing.assert_close(parameter, mean)
    raw = replace(published, network=learner.network)
    loss = learner.losses(batches[13], counts)
    assert loss == learner.losses(batches[13], counts, published) != learner.losses(batches[13], counts, raw)


def test_examples_of_another_encoder_are_skipped_and_counted(
    learner: Learner, stream: tuple[Counts, list[Batch]]
) -> None:
    counts, batches = stream
    stale = [replace(one, encoder=np.array([1], np.uint64)) for one in batches[3]]
    before = weights(learner)
    assert learner.learn(stale, counts) is None
    assert (learner.learned, learner.skipped, len(learner.buffer)) == (0, 32, 0)
    assert np.isnan(learner.losses(stale, counts))
    assert all(torch.equal(before[name], tensor[: len(before[name])]) for name, tensor in weights(learner).items())
    assert learner.learn([*stale, *batches[4]], counts) is not None
    assert (learner.learned, learner.skipped) == (32, 64)


def test_restored_it_goes_on_as_if_never_stopped(
    learner: Learner,
    shape: StateShape,
    model: Model,
    make_runner: Callable[..., Runner],
    toy_clicks: Callable[..., list[Click]],
) -> None:
    runner, made = make_runner(model), toy_clicks(240) + toy_clicks(480, items=20)[240:]
    twin = None
    for n, begin in enumerate(range(0, len(made), 32)):
        batch = runner.feed(made[begin : begin + 32]).examples
        if n == 7:  # new items come after this
            arrays, rest = learner.to_arrays()
            twin = Learner(SETTINGS, shape, 6, learner.snapshot(0, 0), seed=99)
            twin.restore({name: array.copy() for name, array in arrays.items()}, json.loads(json.dumps(rest)))
        losses = learner.learn(batch, runner.counts)
        if twin is not None:
            assert twin.learn(batch, runner.counts) == losses
    assert twin is not None
    assert_same_weights(twin, learner)
    assert (twin.learned, twin.skipped) == (learner.learned, learner.skipped)
    assert np.array_equal(twin.buffer.sample(20), learner.buffer.sample(20))


def test_the_same_seed_learns_the_same(
    learner: Learner, shape: StateShape, model: Model, stream: tuple[Counts, list[Batch]]
) -> None:
    counts, batches = stream
    twin, other = Learner(SETTINGS, shape, 6, model), Learner(SETTINGS, shape, 6, model, seed=1)
    for batch in batches[:6]:
        for one in (learner, twin, other):
            one.learn(batch, counts)
    assert_same_weights(twin, learner)
    assert not torch.equal(other.items.vector, learner.items.vector)


def test_another_encoder_empties_the_replay_buffer(
    learner: Learner,
    model: Model,
    make_model: Callable[..., Model],
    make_encoder: Callable[..., Encoder],
    stream: tuple[Counts, list[Batch]],
) -> None:
    counts, batches = stream
    learner.learn(batches[1], counts)
    learner.start_from(model)
    assert len(learner.buffer) == 32
    learner.start_from(make_model(1, make_encoder(1)))
    assert len(learner.buffer) == 0
    assert learner.learn(batches[2], counts) is None


def test_without_replay_nothing_is_replayed(
    shape: StateShape, model: Model, stream: tuple[Counts, list[Batch]]
) -> None:
    counts, batches = stream
    learner = Learner(SETTINGS.model_copy(update={"replayed": 0}), shape, 6, model)
    losses = [learner.learn(batch, counts) for batch in batches[1:4]]
    assert [one.replayed for one in losses if one is not None] == [0.0] * 3
