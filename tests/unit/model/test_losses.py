"""The losses, against what the serving side computed and against plain formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from eddyline.model.buffer import BufferSettings, ReplayBuffer
from eddyline.model.clicks import Clicks
from eddyline.model.counts import Counts
from eddyline.model.engine import Engine, EngineSettings
from eddyline.model.fusion import SHARPNESS
from eddyline.model.losses import (
    Own,
    Pool,
    asked,
    joined,
    make_pool,
    mean_loss,
    neural_loss,
    own_scores,
    score_loss,
    side_by_side,
)
from eddyline.model.model import Model
from eddyline.model.remembered import listed_loss, remember, replayed_rows
from eddyline.replay.runner import Runner
from eddyline.state.examples import Examples
from eddyline.state.records import Click
from eddyline.state.user_state import StateShape, new_states

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
    assert np.array_equal(served.seen.target, runner.counts.rows(np.concatenate([one.item for one in batch])))
    assert [message.examples for message in served.messages] == [slice(0, 15), slice(15, 40)]
    logged = [one.candidate[one.start[b] : one.start[b + 1]].tolist() for one in batch for b in range(len(one))]
    assert served.candidate.shape == (40, max(map(len, logged)))
    assert [[row for row in rows if row >= 0] for rows in served.candidate.tolist()] == logged
    assert np.array_equal(served.evidence[20, 0], batch[1].evidence[batch[1].start[5]].astype(np.float32))
    assert np.array_equal(served.dense[20, 0], batch[1].dense[batch[1].start[5]].astype(np.float32))


def test_only_what_can_be_learned_from_is_taken(runner: Runner, model: Model, batch: list[Examples]) -> None:
    first, second = batch
    assert side_by_side([Examples.of_forgotten(1, 0)], runner.counts, model.encoder_id) is None
    assert side_by_side(batch, runner.counts, 12345) is None
    stale = replace(first, encoder=np.array([12345], np.uint64))
    unknown = second.item.copy()
    unknown[::2] = 1  # an item that the counts do not know
    rank = second.rank.copy()
    rank[1] = 0  # it was not to be had as the click was served
    served = side_by_side([stale, replace(second, item=unknown, rank=rank)], runner.counts, model.encoder_id)
    assert served is not None
    assert np.array_equal(served.seen.target, runner.counts.rows(second.item[3::2]))
    assert (served.candidate >= 0).sum(1).tolist() == np.diff(second.start)[3::2].tolist()


def test_the_pool_is_what_was_clicked_and_drawn(
    runner: Runner, model: Model, batch: list[Examples], shape: StateShape
) -> None:
    served = side_by_side(batch, runner.counts, model.encoder_id)
    assert served is not None
    old = ReplayBuffer(BufferSettings(), shape, 6).new_rows(2)
    old["target"], old["history"] = [500, 700], -1
    old["history"][0, 0] = 600
    seen = joined(served.seen, replayed_rows(old))
    pool = make_pool(served, seen, 1000, 50, RANDOM)
    odds = dict(zip(pool.items.tolist(), pool.odds.tolist(), strict=True))
    clicked = {500, 700, *served.seen.target.tolist()}
    assert [odds[row] for row in clicked] == [0.0] * len(clicked)
    drawn = set(odds) - clicked
    assert 30 < len(drawn) <= 50
    chance = 1 - (1 - 1 / 1000) ** 50
    assert [odds[row] for row in drawn] == pytest.approx([-np.log(chance)] * len(drawn), rel=1e-4)
    # histories, and what the examples were served with, are involved as well
    logged = {row for one in batch for row in [*one.pool.tolist(), *one.candidate.tolist()]}
    assert set(pool.rows.tolist()) == {600, *odds, *logged, *served.seen.history[served.seen.history >= 0].tolist()}
    assert pool.rows[pool.place[pool.rows]].tolist() == pool.rows.tolist()


def loss_of(model: Model, runner: Runner, messages: list[Examples]) -> float:
    served = side_by_side(messages, runner.counts, model.encoder_id)
    assert served is not None
    pool = make_pool(served, served.seen, len(runner.counts), 0, RANDOM)
    table = pool.table(model.items)
    users = asked(model.network, served.seen, pool, table)
    own = own_scores(model.network, served, pool, users, table)
    return float(score_loss(model.network, served, own, pool, users, table).mean())


def by_hand(model: Model, examples: Examples, target: np.ndarray) -> float:
    """Example by example, on what was logged."""
    h = torch.from_numpy(examples.h.astype(np.float32))
    ring = torch.from_numpy(examples.ring.astype(np.float32))
    length = torch.from_numpy(examples.ring_length.astype(np.int64))
    gate = model.network.gate(torch.from_numpy(np.array(examples.context)))
    losses = []
    for b in range(len(examples)):
        one, m = slice(b, b + 1), int(examples.moment[b])
        own = slice(examples.start[b], examples.start[b + 1])
        there = (examples.pool < examples.known[m]) & ~np.isin(examples.pool, examples.candidate[own])
        mean, last = model.items.history_mean(torch.from_numpy(examples.history[one]).long())
        F = model.network.interest(h[one], ring[one], length[one], mean, last)
        rows = np.concatenate([examples.candidate[own], examples.pool[there]])
        dense = np.concatenate([examples.dense[own], examples.pool_dense[m].T[there]]).astype(np.float32)
        n = SHARPNESS * (model.items.vector[rows] @ F[0]) + model.items.bias[rows]
        mixture = model.network.mixture
        mixed = mixture.mixed(torch.from_numpy(dense))
        z = gate.neural[b] * n + torch.from_numpy(dense) @ gate.dense[b, :-1] + gate.mixture[b] * mixed
        evidence = torch.from_numpy(examples.evidence[own].astype(np.float32))
        z[: len(evidence)] += evidence @ gate.sparse[b] + model.network.residual(
            evidence, torch.cat([torch.from_numpy(dense), mixed[:, None]], 1)[: len(evidence)]
        )
        z[: len(evidence)] += gate.mixture[b] * mixture.lift(evidence, gate.log_ratios[b], mixed[: len(evidence)])
        z[len(evidence) :] += torch.from_numpy(examples.pool_log_odds[there])
        entropy = -float(torch.log_softmax(z, 0)[rows.tolist().index(target[b])])
        losses.append(20 / (20 + examples.rank[b]) * entropy)
    return float(np.mean(losses))


@torch.no_grad()
def test_the_loss_is_over_the_scores_that_were_served(runner: Runner, model: Model, batch: list[Examples]) -> None:
    (examples, _) = batch
    assert loss_of(model, runner, [examples]) == pytest.approx(
        by_hand(model, examples, runner.counts.rows(examples.item)), rel=1e-3
    )


@torch.no_grad()
def test_each_example_is_told_apart_from_what_was_there_at_its_moment(
    model: Model,
    engine_settings: EngineSettings,
    toy_clicks: Callable[..., list[Click]],
    as_batch: Callable[..., Clicks],
) -> None:
    engine, counts = Engine(engine_settings, model), Counts()
    states = new_states(engine_settings.shape, 5)
    step = engine.step(as_batch(toy_clicks(60, items=30)), states, counts, np.arange(1, 61))
    counts.fold(step.evidence)
    examples = step.examples[-1]
    assert examples.known[0] < examples.known[-1]
    served = side_by_side([examples], counts, model.encoder_id)
    assert served is not None
    pool = make_pool(served, served.seen, len(counts), 0, RANDOM)
    table = pool.table(model.items)
    users = asked(model.network, served.seen, pool, table)
    own = own_scores(model.network, served, pool, users, table)
    each = score_loss(model.network, served, own, pool, users, table)
    learned = np.flatnonzero(examples.rank > 0)
    assert len(each) == len(learned)
    for loss, b in zip(each.tolist(), learned.tolist(), strict=True):
        names = ("user", "item", "h", "ring", "ring_length", "history", "context", "moment", "weight", "rank")
        own = slice(examples.start[b], examples.start[b + 1])
        one = replace(
            examples,
            start=np.array([0, own.stop - own.start]),
            **{name: getattr(examples, name)[own] for name in ("candidate", "evidence", "dense")},
            **{name: getattr(examples, name)[b : b + 1] for name in names},
        )
        assert loss == pytest.approx(by_hand(model, one, counts.rows(one.item)), rel=1e-3)


@torch.no_grad()
def test_each_message_is_told_apart_from_its_own_pool(runner: Runner, model: Model, batch: list[Examples]) -> None:
    first, second = (loss_of(model, runner, [one]) for one in batch)
    assert loss_of(model, runner, batch) == pytest.approx((15 * first + 25 * second) / 40, rel=1e-4)


@torch.no_grad()
def test_a_click_counts_less_the_further_down_it_stood(runner: Runner, model: Model, batch: list[Examples]) -> None:
    ranks = (1, 20, 2_000)
    first, middle, last = (
        loss_of(model, runner, [replace(batch[0], rank=np.full(15, rank, np.int32))]) for rank in ranks
    )
    assert middle == pytest.approx(first * 21 / 40, rel=1e-5)
    assert last == pytest.approx(first * 21 / 2_020, rel=1e-5)


@torch.no_grad()
def test_examples_of_newcomers_have_no_candidates(runner: Runner, model: Model, batch: list[Examples]) -> None:
    (examples, _) = batch
    none = {name: getattr(examples, name)[:0] for name in ("candidate", "evidence", "dense")}
    bare = replace(examples, start=np.zeros_like(examples.start), **none)
    assert loss_of(model, runner, [bare]) == pytest.approx(
        by_hand(model, bare, runner.counts.rows(bare.item)), rel=1e-3
    )


def test_the_mean_loss_weighs_the_examples() -> None:
    assert float(mean_loss(torch.tensor([4.0, 8.0]), torch.tensor([3.0, 1.0]))) == 5.0


@torch.no_grad()
def test_replayed_rows_score_like_the_examples_they_came_from(
    runner: Runner, model: Model, batch: list[Examples], shape: StateShape
) -> None:
    served = side_by_side(batch, runner.counts, model.encoder_id)
    assert served is not None
    buffer = ReplayBuffer(BufferSettings(), shape, 6)
    remember(buffer, served)
    pool = make_pool(served, served.seen, len(runner.counts), 0, RANDOM)
    table = pool.table(model.items)
    losses = [
        neural_loss(asked(model.network, seen, pool, table), seen, pool, table)
        for seen in (served.seen, replayed_rows(buffer.rows))
    ]
    torch.testing.assert_close(losses[0], losses[1])
    assert listed_loss(model.network, buffer.rows) is None  # without their candidates there is nothing to tell apart


@torch.no_grad()
def test_the_head_learns_again_from_scores_as_they_were(
    runner: Runner, model: Model, batch: list[Examples], shape: StateShape
) -> None:
    served = side_by_side(batch, runner.counts, model.encoder_id)
    assert served is not None
    pool = make_pool(served, served.seen, len(runner.counts), 0, RANDOM)
    table = pool.table(model.items)
    own = own_scores(model.network, served, pool, asked(model.network, served.seen, pool, table), table)
    buffer = ReplayBuffer(BufferSettings(), shape, 6)
    remember(buffer, served, own)
    clicked = torch.from_numpy(served.candidate == served.seen.target[:, None])
    assert clicked.any(1).sum() > 10
    entropy = -torch.log_softmax(own.score, 1).masked_fill(~clicked, 0.0).sum(1)
    model.items.vector.zero_()  # what the neural score has become since does not matter
    found = listed_loss(model.network, buffer.rows)
    assert found is not None
    assert float(found) == pytest.approx(float((20 / (20 + served.rank) * entropy).mean()), rel=1e-2)  # half precision


@torch.no_grad()
def test_the_best_candidates_and_the_clicked_one_are_kept(
    runner: Runner, model: Model, batch: list[Examples], shape: StateShape
) -> None:
    served = side_by_side(batch, runner.counts, model.encoder_id)
    assert served is not None
    buffer = ReplayBuffer(BufferSettings(), shape, 6)
    places = buffer.new_rows(0)["candidate"].shape[1]
    wide = served._replace(  # more candidates than there are places
        candidate=np.arange(100, 100 + 2 * places, dtype=np.int32)[None].repeat(40, 0),
        evidence=torch.rand(40, 2 * places, served.evidence.shape[2]),
        dense=torch.rand(40, 2 * places, served.dense.shape[2]),
    )
    wide.candidate[:, 3] = served.seen.target
    score = torch.arange(2.0 * places).expand(40, -1)
    own = Own(model.network.gate(served.context), score / 10, score)
    remember(buffer, wide, own)
    want = [served.seen.target[7], *range(100 + 2 * places - 1, 100 + places, -1)]
    assert buffer.rows["candidate"][7].tolist() == want
    assert buffer.rows["neural"][7, :2].tolist() == pytest.approx([0.3, (2 * places - 1) / 10], rel=1e-2)
    assert np.array_equal(buffer.rows["evidence"][7, 0], wide.evidence[7, 3].half().numpy())
    assert np.array_equal(buffer.rows["dense"][7, 1], wide.dense[7, -1].half().numpy())


def test_the_neural_loss_is_a_cross_entropy_over_the_pool(runner: Runner, model: Model, batch: list[Examples]) -> None:
    served = side_by_side(batch, runner.counts, model.encoder_id)
    assert served is not None
    rows = np.arange(len(runner.counts))
    pool = Pool(rows, rows, rows, torch.zeros(len(rows)))
    table = pool.table(model.items)
    users = asked(model.network, served.seen, pool, table)
    n = users[:, :-1] @ model.items.vector.T + model.items.bias
    want = -torch.log_softmax(n, 1)[torch.arange(len(n)), torch.from_numpy(served.seen.target).long()]
    found = neural_loss(users, served.seen, pool, table)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


def test_counts_that_know_nothing_leave_nothing_to_learn_from(model: Model, batch: list[Examples]) -> None:
    assert side_by_side(batch, Counts(), model.encoder_id) is None
