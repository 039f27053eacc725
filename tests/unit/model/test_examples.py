"""What is logged with each click to learn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from eddyline.model.clicks import Clicks
from eddyline.model.counts import Counts
from eddyline.model.dense import DENSE
from eddyline.model.engine import Engine, EngineSettings
from eddyline.model.examples import ExampleSettings
from eddyline.model.model import Model, untrained_model
from eddyline.model.ranking import Ranking
from eddyline.state.examples import Examples
from eddyline.state.packed import LARGEST
from eddyline.state.records import Click, hash_id
from eddyline.state.user_state import StateShape, UserStates, new_states

AsBatch = Callable[..., Clicks]


@pytest.fixture
def served(
    engine_settings: EngineSettings,
    make_model: Callable[..., Model],
    toy_clicks: Callable[..., list[Click]],
    click: Callable[..., Click],
    as_batch: AsBatch,
    after: Callable[..., tuple[UserStates, Counts]],
) -> tuple[list[Examples], np.ndarray, Counts, Ranking, UserStates]:
    """Examples of one click each of five users, the last on an item unheard of; and the scores they were served."""
    model = make_model()
    states, counts = after(toy_clicks(120, items=30, noise=0.5), model)
    batch = as_batch([click(f"u{n}", item, 500) for n, item in enumerate(("i3", "i4", "i5", "i6", "new"))], 1000)
    examples = list(Engine(engine_settings, model).step(batch, states, counts).examples)
    ranking = Ranking(engine_settings.ranking, model)
    view = ranking.view(states, batch.ts_ms, counts)
    return examples, ranking.scores(view, 0, 5).copy(), counts, ranking, states


def test_a_rank_is_the_place_in_the_whole_catalogue(
    served: tuple, dense_evidence: Callable[[Counts], np.ndarray]
) -> None:
    (examples,), scores, counts, _, _ = served
    rows = counts.rows(examples.item)
    assert rows[4] == -1
    for z, row, rank in zip(scores[:4], rows, examples.rank, strict=False):
        assert rank == 1 + np.count_nonzero(z > z[row])
    assert examples.rank[4] == examples.popular_rank[4] == 0
    popular = dense_evidence(counts)[DENSE.index("popular_3000")]
    for row, rank in zip(rows[:4], examples.popular_rank, strict=False):
        assert rank == np.count_nonzero(popular >= popular[row])


def test_ties_count_against_the_model(
    engine_settings: EngineSettings,
    click: Callable[..., Click],
    as_batch: AsBatch,
    make_counts: Callable[..., Counts],
    make_evidence: Callable[..., object],
    make_model: Callable[..., Model],
) -> None:
    # nobody clicked these items yet, so nothing tells them apart
    counts = make_counts(make_evidence([], named=["a", "b", "c"]))
    model = make_model(items=0)
    step = Engine(engine_settings, model).step(
        as_batch([click("u", "b")]), new_states(engine_settings.shape, 1), counts
    )
    assert step.examples[0].rank.tolist() == [3]
    assert step.examples[0].popular_rank.tolist() == [3]


def test_what_was_known_before_the_click_is_logged(served: tuple) -> None:
    (examples,), _, counts, _, states = served
    assert np.array_equal(examples.h, states["h"].astype(np.float16))
    assert np.array_equal(examples.ring, states["ring"])
    newest = [state["item"][state["history_length"] - 1] for state in states]
    assert np.array_equal(examples.history[:, 0], counts.rows(np.array(newest)))
    assert examples.history.shape == (5, 6)


def test_the_strongest_candidates_and_the_target_are_logged(served: tuple) -> None:
    (examples,), scores, counts, ranking, states = served
    view = ranking.view(states, examples.ts_ms, counts)
    for u, row in enumerate(counts.rows(examples.item)):
        named = view.candidates.item[view.candidates.start[u] : view.candidates.start[u + 1]]
        logged = examples.candidate[examples.start[u] : examples.start[u + 1]]
        best = named[np.argsort(-scores[u, named], kind="stable")][:8]
        assert set(best.tolist()) <= set(logged.tolist())
        assert set(logged.tolist()) - set(best.tolist()) <= {int(row)}
        assert (row in logged) == (row in named)


def test_the_pool_holds_everything_to_be_told_apart(served: tuple, dense_evidence: Callable[..., np.ndarray]) -> None:
    (examples,), _, counts, _, _ = served
    rows = counts.rows(examples.item)
    sure = set(rows[rows >= 0].tolist())
    sure |= set(np.argsort(-dense_evidence(counts)[DENSE.index("popular_3000")], kind="stable")[:4].tolist())
    pool = dict(zip(examples.pool.tolist(), examples.pool_log_odds.tolist(), strict=True))
    assert len(pool) == len(examples.pool)
    for row, odds in pool.items():
        # one that only a draw of 8 of the items brought in carries the odds of being drawn
        chance = 1 - (1 - 1 / len(counts)) ** 8
        assert odds == pytest.approx(0.0 if row in sure else -np.log(chance), rel=1e-5)
    assert sure < set(pool)
    dense = dense_evidence(counts)[: len(DENSE)]
    np.testing.assert_array_equal(examples.pool_dense, dense[None, :, examples.pool].astype(np.float16))
    np.testing.assert_array_equal(examples.dense, dense.T[examples.candidate].astype(np.float16))


def test_messages_are_of_bounded_size(
    engine_settings: EngineSettings,
    make_model: Callable[..., Model],
    toy_clicks: Callable[..., list[Click]],
    as_batch: AsBatch,
) -> None:
    step = Engine(engine_settings, make_model()).step(
        as_batch(toy_clicks(70)), new_states(engine_settings.shape, 5), Counts()
    )
    assert [len(one) for one in step.examples] == [32, 32, 6]
    assert np.concatenate([one.offset for one in step.examples]).tolist() == list(range(70))
    assert np.concatenate([one.user for one in step.examples])[0] in {hash_id(f"u{n}") for n in range(5)}
    assert all(Examples.decode(one.encode()).item.tolist() == one.item.tolist() for one in step.examples)


def test_a_message_fits_in_kafka_whatever_the_sizes(
    make_model: Callable[..., Model],
    toy_clicks: Callable[..., list[Click]],
    click: Callable[..., Click],
    as_batch: AsBatch,
) -> None:
    settings = EngineSettings(shape=StateShape(dimension=256, ring=40), examples=ExampleSettings(candidates=256))
    users = [click(f"u{n}", f"i{n % 7}", 5) for n in range(200)]
    model = untrained_model(256)
    step = Engine(settings, model).step(as_batch(users), new_states(settings.shape, 200), Counts())
    messages = [message for examples in step.examples for message in examples.messages()]
    assert sum(len(Examples.decode(message)) for message in messages) == 200
    assert max(map(len, messages)) <= LARGEST
    assert len(messages) > 2
