"""The losses, against what the serving side computed and against plain formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from eddyline.model.buffer import BufferSettings, ReplayBuffer
from eddyline.model.counts import Counts
from eddyline.model.fusion import SHARPNESS
from eddyline.model.losses import (
    Pool,
    cross_entropy,
    make_pool,
    neural_scores,
    replayed_rows,
    score_loss,
    side_by_side,
)
from eddyline.model.model import Model
from eddyline.replay.runner import Runner
from eddyline.state.examples import Examples
from eddyline.state.records import Click
from eddyline.state.user_state import StateShape

RANDOM = np.random.default_rng(0)


@pytest.fixture
def model(make_model: Callable[..., Model]) -> Model:
    return make_model()


@pytest.fixture
def runner(make_runner: Callable[..., Runner], model: Model) -> Runner:
    return make_runner(model)


@pytest.fixture
def batch(runner: Runner, toy_clicks: Callable[..., list[Click]]) -> list[Examples]:
    """Two messages, after enough clicks that every item of the circle is known."""
    made = toy_clicks(150)
    for begin in range(0, 110, 10):
        runner.feed(made[begin : begin + 10])
    return [*runner.feed(made[110:125]).examples, *runner.feed(made[125:150]).examples]


def test_examples_are_put_side_by_side_with_their_candidates(runner: Runner, model: Model, batch: list[Examples]):
    served = side_by_side(batch, runner.counts, model.encoder_id)
    assert served is not None
    assert np.array_equal(served.target, runner.counts.rows(np.concatenate([one.item for one in batch])))
    assert served.group.tolist() == [0] * 15 + [1] * 25
    assert np.array_equal(served.owner, np.repeat(np.arange(40), np.concatenate([np.diff(one.start) for one in batch])))
    assert np.array_equal(served.candidate, np.concatenate([one.candidate for one in batch]))
    assert len(served.pools) == 2


def test_only_what_can_be_learned_from_is_taken(runner: Runner, model: Model, batch: list[Examples]) -> None:
    first, second = batch
    assert side_by_side([Examples.of_forgotten(1, 0)], runner.counts, model.encoder_id) is None
    assert side_by_side(batch, runner.counts, 12345) is None
    stale = replace(first, encoder=np.array([12345], np.uint64))
    unknown = second.item.copy()
    unknown[::2] = 1  # an item that the counts do not know
    served = side_by_side([stale, replace(second, item=unknown)], runner.counts, model.encoder_id)
    assert served is not None
    assert np.array_equal(served.target, runner.counts.rows(second.item[1::2]))
    lengths = np.diff(second.start)[1::2]
    assert np.array_equal(served.owner, np.repeat(np.arange(12), lengths))


def test_the_pool_is_what_was_served_and_replayed_and_drawn(
    runner: Runner, model: Model, batch: list[Examples], shape: StateShape
) -> None:
    served = side_by_side(batch, runner.counts, model.encoder_id)
    assert served is not None
    old = ReplayBuffer(BufferSettings(), shape, 6).new_rows(2)
    old["target"], old["history"] = [500, 700], -1
    old["history"][0, 0] = 600
    pool = make_pool(served, old, 1000, 50, RANDOM)
    items = pool.rows[pool.items.numpy()]
    odds = dict(zip(items.tolist(), pool.odds.tolist(), strict=True))
    logged = {row for one in batch for row in one.pool.tolist()}
    assert logged | {500, 700} <= set(odds)
    assert odds[500] == odds[700] == 0
    drawn = [row for row in odds if row not in logged | {500, 700}]
    assert 30 < len(drawn) <= 50
    chance = 1 - (1 - 1 / 1000) ** 50
    assert [odds[row] for row in drawn] == pytest.approx([-np.log(chance)] * len(drawn), rel=1e-4)
    # histories are involved, but not told apart from
    assert 600 in pool.rows
    assert 600 not in odds or 600 in drawn
    assert set(np.unique(served.history[served.history >= 0]).tolist()) <= set(pool.rows.tolist())


@torch.no_grad()
def test_the_loss_is_over_the_scores_that_were_served(
    runner: Runner, model: Model, toy_clicks: Callable[..., list[Click]]
) -> None:
    for begin in range(0, 100, 10):
        runner.feed(toy_clicks(100)[begin : begin + 10])
    (examples,) = runner.feed(toy_clicks(110)[100:]).examples
    examples = replace(examples, pool_log_odds=np.zeros_like(examples.pool_log_odds))
    served = side_by_side([examples], runner.counts, model.encoder_id)
    assert served is not None
    pool = make_pool(served, None, len(runner.counts), 0, RANDOM)
    _, neural = neural_scores(model.network, served, pool, model.items.vector[pool.rows], model.items.bias[pool.rows])
    loss = float(score_loss(model.network, served, pool, neural))
    # once more by hand, example by example, on what was logged
    gate = model.network.gate(served.context, served.h)
    dense, losses = torch.from_numpy(examples.pool_dense.astype(np.float32)), []
    for b in range(len(examples)):
        mean, last = model.items.history_mean(torch.from_numpy(examples.history[b : b + 1]).long())
        F = model.network.interest(
            served.h[b : b + 1], served.ring[b : b + 1], served.ring_length[b : b + 1], mean, last
        )
        n = SHARPNESS * (model.items.vector[examples.pool] @ F[0]) + model.items.bias[examples.pool]
        z = gate.neural[b] * n + dense @ gate.dense[b]
        for k in range(examples.start[b], examples.start[b + 1]):
            evidence = torch.from_numpy(examples.evidence[k].astype(np.float32))
            place = examples.pool.tolist().index(examples.candidate[k])
            z[place] += gate.sparse[b] @ evidence + model.network.residual(evidence)
        losses.append(float(-torch.log_softmax(z, 0)[examples.pool.tolist().index(served.target[b])]))
    assert loss == pytest.approx(np.mean(losses), rel=1e-3)


def test_each_message_is_told_apart_from_its_own_pool(runner: Runner, model: Model, batch: list[Examples]) -> None:
    def loss(messages: list[Examples]) -> float:
        served = side_by_side(messages, runner.counts, model.encoder_id)
        assert served is not None
        pool = make_pool(served, None, len(runner.counts), 0, RANDOM)
        vector, bias = model.items.vector[pool.rows], model.items.bias[pool.rows]
        _, neural = neural_scores(model.network, served, pool, vector, bias)
        return float(score_loss(model.network, served, pool, neural))

    first, second = batch
    assert loss(batch) == pytest.approx((15 * loss([first]) + 25 * loss([second])) / 40, rel=1e-4)


def test_cross_entropy_weighs_the_examples() -> None:
    pool = Pool(np.array([3, 5, 9]), torch.tensor([0, 2]), torch.zeros(2))
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    each = -torch.log_softmax(logits, 1)
    weighted = cross_entropy(logits, pool, np.array([9, 9], np.int32), torch.tensor([3.0, 1.0]))
    assert float(weighted) == pytest.approx(float((3 * each[0, 1] + each[1, 1]) / 4))


@torch.no_grad()
def test_replayed_rows_score_like_the_examples_they_came_from(
    runner: Runner, model: Model, batch: list[Examples], shape: StateShape
) -> None:
    served = side_by_side(batch, runner.counts, model.encoder_id)
    assert served is not None
    rows = ReplayBuffer(BufferSettings(), shape, 6).new_rows(len(served.target))
    for name in ("user", "target", "history"):
        rows[name] = getattr(served, name)
    for name in ("h", "ring", "ring_length"):
        rows[name] = getattr(served, name).numpy()
    pool = make_pool(served, rows, len(runner.counts), 0, RANDOM)
    vector, bias = model.items.vector[pool.rows], model.items.bias[pool.rows]
    _, new = neural_scores(model.network, served, pool, vector, bias)
    _, old = neural_scores(model.network, replayed_rows(rows), pool, vector, bias)
    torch.testing.assert_close(old, new)


def test_counts_that_know_nothing_leave_nothing_to_learn_from(model: Model, batch: list[Examples]) -> None:
    assert side_by_side(batch, Counts(), model.encoder_id) is None
