"""Pre-training: what a stream repeats is found again by the neural score alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.engine import EngineSettings
from eddyline.model.fusion import SHARPNESS
from eddyline.model.model import Model, untrained_model
from eddyline.model.ranking import Ranking
from eddyline.replay.pretrain import ClickLog, Pretrained, PretrainSettings, _batches, _stretches, pretrain
from eddyline.replay.runner import Runner
from eddyline.state.records import Click, hash_id
from eddyline.state.user_state import StateShape

SETTINGS = PretrainSettings(
    epochs=1, least_steps=120, batch=64, rate=2e-2, dropout=0.1, negatives=16, buckets=3, held_out=0.1
)

Train = Callable[..., Pretrained]


def log_of(clicks: list[Click]) -> ClickLog:
    return ClickLog(
        np.array([hash_id(one.user_id) for one in clicks], np.uint64),
        np.array([hash_id(one.item_id) for one in clicks], np.uint64),
    )


@pytest.fixture(scope="module")
def counted(engine_settings: EngineSettings) -> Callable[[list[Click]], Runner]:
    """A runner that has counted the clicks."""

    def count(clicks: list[Click]) -> Runner:
        runner = Runner(engine_settings, ClickSettings(), untrained_model(8), Counts())
        runner.feed(clicks)
        return runner

    return count


@pytest.fixture(scope="module")
def circle(toy_clicks: Callable[..., list[Click]]) -> list[Click]:
    """Every user goes round the same circle of 15 items."""
    return toy_clicks(600, users=12, items=15, noise=0.0)


@pytest.fixture(scope="module")
def train(shape: StateShape, counted: Callable[[list[Click]], Runner]) -> Train:
    def train(clicks: list[Click], settings: PretrainSettings = SETTINGS, **options: object) -> Pretrained:
        return pretrain(log_of(clicks), counted(clicks).counts, shape, settings, window=6, **options)

    return train


@pytest.fixture(scope="module")
def trained(train: Train, circle: list[Click]) -> Pretrained:
    return train(circle)


def test_the_next_item_of_a_circle_is_among_the_first(
    trained: Pretrained, circle: list[Click], engine_settings: EngineSettings
) -> None:
    runner = Runner(engine_settings, ClickSettings(), trained.model, Counts())
    runner.feed(circle)
    states = np.array(list(runner.states.values()))
    ranking = Ranking(engine_settings.ranking, trained.model)
    now_ms = np.full(len(states), circle[-1].ts_ms)
    interest = ranking.view(states, now_ms, runner.counts).interest
    items = trained.model.items
    neural = (SHARPNESS * interest @ items.vector.T + items.bias).numpy()
    last = runner.counts.rows(states["item"][np.arange(len(states)), states["history_length"] - 1])
    for z, row in zip(neural, last, strict=True):
        following = f"i{(int(runner.counts.ids[row][1:]) + 1) % 15}"
        rank = 1 + np.count_nonzero(z > z[runner.counts.ids.index(following)])
        assert rank <= 3
    assert trained.loss < 0.6 * np.log(15)
    assert trained.clicks == 540
    assert trained.epochs >= 1


def test_the_same_seed_gives_the_same_model(train: Train, circle: list[Click]) -> None:
    quick = SETTINGS.model_copy(update={"least_steps": 5})

    def weights(seed: int) -> list[torch.Tensor]:
        model = train(circle, quick, seed=seed).model
        return [model.items.vector, model.items.bias, *model.network.state_dict().values()]

    global_state = torch.random.get_rng_state()
    one, same, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0], other[0])
    assert torch.equal(torch.random.get_rng_state(), global_state)


def test_the_model_is_ready_to_serve(trained: Pretrained, circle: list[Click], shape: StateShape) -> None:
    model = trained.model
    assert model.encoder is not None
    assert set(model.encoder.items.tolist()) == {hash_id(one.item_id) for one in circle}
    assert model.encoder.inputs.shape == (15 + SETTINGS.buckets, shape.dimension)
    torch.testing.assert_close(model.items.vector.norm(dim=1), torch.ones(15))
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_the_gate_is_not_touched(trained: Pretrained) -> None:
    untouched = untrained_model(8).network
    for name, tensor in trained.model.network.gate.state_dict().items():
        assert torch.equal(tensor, untouched.gate.state_dict()[name])
    found = trained.model.network.long_term.project.weight
    assert not torch.equal(found, untouched.long_term.project.weight)


def test_an_item_without_a_training_click_starts_like_a_new_one(
    train: Train, circle: list[Click], click: Callable[..., Click]
) -> None:
    # the last item appears in the held-out clicks alone, after i1 and i0
    late = [click("late", item, 1000 + n) for n, item in enumerate(("i0", "i1", "rare"))]
    model: Model = train(circle + late, SETTINGS.model_copy(update={"least_steps": 5})).model
    assert model.encoder is not None
    assert hash_id("rare") not in model.encoder.items.tolist()
    assert 0 < float(model.items.vector[15].norm()) <= 0.6 + 1e-6
    assert float(model.items.bias[15]) == pytest.approx(float(model.items.bias[:15].mean()) - 1)


def test_clicks_on_unknown_items_are_left_out(
    shape: StateShape, circle: list[Click], counted: Callable[[list[Click]], Runner]
) -> None:
    known = [one for one in circle if one.item_id != "i7"]
    quick = SETTINGS.model_copy(update={"least_steps": 5})
    trained = pretrain(log_of(circle), counted(known).counts, shape, quick, window=6)
    assert len(trained.model.items) == 14


def test_progress_is_told_up_to_the_end(train: Train, circle: list[Click]) -> None:
    told: list[tuple[float, str]] = []
    train(circle, SETTINGS.model_copy(update={"least_steps": 40}), on_progress=lambda *one: told.append(one))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] <= 1
    assert "held-out loss" in told[-1][1]


def test_a_log_whose_newest_users_are_all_held_out_is_trained_on(train: Train, toy_clicks: Callable[..., list[Click]]):
    # batches without a single training click come up, in any order
    clicks = toy_clicks(180, users=3, noise=0.0)
    newcomers = [one for one in toy_clicks(20, users=2) if one]
    renamed = [
        Click(**{f: getattr(c, f) for f in c.__struct_fields__} | {"user_id": "n" + c.user_id}) for c in newcomers
    ]
    for seed in range(4):
        settings = SETTINGS.model_copy(update={"least_steps": 5, "batch": 16, "held_out": 0.15})
        assert np.isfinite(train(clicks + renamed, settings, seed=seed).loss)


def test_a_users_clicks_are_cut_into_stretches_that_share_a_click() -> None:
    user = np.array([1, 2, 1, 1, 2, 1, 1, 3, 1], np.uint64)
    rows = np.array([0, 1, 2, -1, 3, 4, 5, 6, 7], np.int32)
    # user 1 without the unknown item: 0, 2, 5, 6, 8; user 3 clicked once, which predicts nothing
    assert [one.tolist() for one in _stretches(user, rows, 2)] == [[0, 2, 5], [5, 6, 8], [1, 4]]


def test_batches_hold_every_stretch_once_and_about_as_many_clicks() -> None:
    random = np.random.default_rng(0)
    stretches = [np.arange(n) for n in random.integers(2, 12, 100)]
    batches = _batches(stretches, 30)
    assert sorted(len(one) for batch in batches for one in batch) == sorted(len(one) for one in stretches)
    assert all(sum(len(one) - 1 for one in batch) <= 30 for batch in batches)
