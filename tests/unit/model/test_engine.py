"""The engine: one step over a batch is one step after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
import pytest

from eddyline.model.clicks import Clicks
from eddyline.model.counts import Counts
from eddyline.model.engine import Engine, EngineSettings, Step
from eddyline.model.model import Model, untrained_model
from eddyline.model.short_term import Encoder
from eddyline.state.evidence import Evidence
from eddyline.state.records import Click, hash_id
from eddyline.state.user_state import NO_ENCODER, StateShape, UserStates, new_states

AsBatch = Callable[..., Clicks]


@pytest.fixture(params=["with an encoder", "without an encoder"])
def model(request: pytest.FixtureRequest, make_model: Callable[..., Model], shape: StateShape) -> Model:
    return make_model() if request.param == "with an encoder" else untrained_model(shape.dimension)


@pytest.fixture
def counts(toy_clicks: Callable[..., list[Click]], after: Callable[..., tuple[UserStates, Counts]]) -> Counts:
    """Of other users' clicks, from before the stream of the tests."""
    counts: Counts = after(toy_clicks(100))[1]
    counts.forget_offsets()
    return counts


def one_by_one(engine: Engine, clicks: Clicks, states: UserStates, counts: Counts) -> tuple[list[Step], UserStates]:
    """A step for each click alone."""
    states, steps = states.copy(), []
    for b in range(len(clicks)):
        user = clicks.user[b : b + 1]
        columns = {field.name: getattr(clicks, field.name)[b : b + 1] for field in fields(Clicks)}
        steps.append(engine.step(Clicks(**columns | {"user": np.zeros(1, np.int64)}), states[user], counts))
        states[user] = steps[-1].states
    return steps, states


def assert_same_evidence(whole: Evidence, parts: Sequence[Evidence]) -> None:
    for field in fields(Evidence):
        if field.name != "new_ids":
            assert np.array_equal(getattr(whole, field.name), np.concatenate([getattr(p, field.name) for p in parts]))
    assert whole.new_ids == list(dict.fromkeys(one for part in parts for one in part.new_ids))


def test_a_batch_is_one_click_after_the_other(
    model: Model,
    engine_settings: EngineSettings,
    toy_clicks: Callable[..., list[Click]],
    as_batch: AsBatch,
    counts: Counts,
) -> None:
    engine = Engine(engine_settings, model)
    batch = as_batch(toy_clicks(60, users=9, items=20, seed=1))  # users click up to a dozen times, also on new items
    states = new_states(engine_settings.shape, batch.user.max() + 1)
    whole = engine.step(batch, states, counts)
    steps, after = one_by_one(engine, batch, states, counts)
    assert whole.states.tobytes() == after.tobytes()
    assert whole.applied.all()
    assert_same_evidence(whole.evidence, [step.evidence for step in steps])
    last = [steps[np.flatnonzero(batch.user == u)[-1]].lists for u in range(len(states))]
    np.testing.assert_allclose(whole.lists.score, np.concatenate([one.score for one in last]), rtol=1e-4, atol=1e-4)
    for name in ("h", "ring", "ring_length", "history", "context", "user", "item", "offset"):
        seen = [getattr(one, name) for one in whole.examples]
        alone = [getattr(one, name) for step in steps for one in step.examples]
        np.testing.assert_allclose(np.concatenate(seen), np.concatenate(alone), rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("clicked", [["a", "b"], ["a", "b", "a"], ["a", "a", "a"]])
def test_two_and_three_clicks_of_one_user(
    model: Model, engine_settings: EngineSettings, click: Callable[..., Click], as_batch: AsBatch, clicked: list[str]
) -> None:
    made = [click("ann", item, n) for n, item in enumerate(clicked)]
    step = Engine(engine_settings, model).step(as_batch(made, 7), new_states(engine_settings.shape, 1), Counts())
    state = step.states[0]
    hashes = [hash_id(item) for item in clicked]
    assert state["item"][: len(clicked)].tolist() == hashes
    assert state["ts_ms"][: len(clicked)].tolist() == [one.ts_ms for one in made]
    assert (state["clicks"], state["history_length"]) == (len(clicked), len(clicked))
    assert (state["partition"], state["offset"]) == (0, 7 + len(clicked) - 1)
    # each click comes after the ones before it, newest first
    recent = np.split(step.evidence.recent, np.cumsum(step.evidence.recent_count)[:-1])
    assert [one.tolist() for one in recent] == [hashes[:n][::-1] for n in range(len(clicked))]
    assert step.evidence.new_ids == list(dict.fromkeys(clicked))


def test_a_step_changes_neither_states_nor_counts(
    model: Model,
    engine_settings: EngineSettings,
    toy_clicks: Callable[..., list[Click]],
    as_batch: AsBatch,
    counts: Counts,
) -> None:
    states = new_states(engine_settings.shape, 5)
    before, counted = states.tobytes(), counts.to_arrays()
    Engine(engine_settings, model).step(as_batch(toy_clicks(20)), states, counts)
    assert states.tobytes() == before
    assert all(np.array_equal(array, counts.to_arrays()[name]) for name, array in counted.items())


def test_a_redelivered_click_changes_nothing_and_its_user_gets_a_list(
    model: Model,
    engine_settings: EngineSettings,
    toy_clicks: Callable[..., list[Click]],
    as_batch: AsBatch,
    counts: Counts,
) -> None:
    engine, batch = Engine(engine_settings, model), as_batch(toy_clicks(30))
    first = engine.step(batch, new_states(engine_settings.shape, 5), counts)
    again = engine.step(batch, first.states, counts)
    assert again.states.tobytes() == first.states.tobytes()
    assert not again.applied.any()
    assert len(again.evidence) == 0
    assert list(again.examples) == []
    np.testing.assert_allclose(again.lists.score, first.lists.score, rtol=1e-4, atol=1e-4)


def test_only_the_clicks_that_are_new_are_applied(
    model: Model, engine_settings: EngineSettings, toy_clicks: Callable[..., list[Click]], as_batch: AsBatch
) -> None:
    engine, made = Engine(engine_settings, model), toy_clicks(30, users=3)
    states = new_states(engine_settings.shape, 3)
    whole = engine.step(as_batch(made), states, Counts())
    step = engine.step(as_batch(made), engine.step(as_batch(made[:20]), states, Counts()).states, Counts())
    assert step.states.tobytes() == whole.states.tobytes()
    assert np.flatnonzero(step.applied).tolist() == list(range(20, 30))
    assert step.evidence.offset.tolist() == list(range(20, 30))


def test_a_user_who_moved_to_another_partition_goes_on(
    model: Model, engine_settings: EngineSettings, click: Callable[..., Click], as_batch: AsBatch
) -> None:
    engine = Engine(engine_settings, model)
    states = engine.step(as_batch([click("u", "a")], 50), new_states(engine_settings.shape, 1), Counts()).states
    step = engine.step(as_batch([click("u", "b", 1)], 3, partition=1), states, Counts())
    assert step.applied.tolist() == [True]
    assert (step.states["partition"][0], step.states["offset"][0]) == (1, 3)


def test_a_full_history_drops_its_oldest_clicks(
    model: Model, engine_settings: EngineSettings, click: Callable[..., Click], as_batch: AsBatch
) -> None:
    made = [click("u", f"i{n}", n) for n in range(20)]
    state = Engine(engine_settings, model).step(as_batch(made), new_states(engine_settings.shape, 1), Counts()).states
    assert state["item"][0].tolist() == [hash_id(f"i{n}") for n in range(8, 20)]
    assert (state["clicks"][0], state["history_length"][0]) == (20, 12)


@pytest.mark.parametrize(
    ("clicks", "before"),
    [
        ([(0, None), (29.9, None), (50, None)], [0, 1, 2]),  # less than 30 minutes apart
        ([(0, None), (30, None), (31, None)], [0, 0, 1]),  # 30 minutes open a new session
        ([(0, "s"), (600, "s"), (601, "t")], [0, 1, 0]),  # two ids decide, whatever the gap
        ([(0, "s"), (1, None), (2, "s"), (3, None)], [0, 1, 2, 3]),  # an id alone does not
        ([(5, None), (3, None)], [0, 1]),  # a late click belongs to the session
    ],
)
def test_sessions_end_by_id_or_by_the_gap(
    model: Model,
    engine_settings: EngineSettings,
    click: Callable[..., Click],
    as_batch: AsBatch,
    clicks: list[tuple[float, str | None]],
    before: list[int],
) -> None:
    made = [click("u", f"i{n}", minute, session) for n, (minute, session) in enumerate(clicks)]
    step = Engine(engine_settings, model).step(as_batch(made), new_states(engine_settings.shape, 1), Counts())
    assert step.evidence.session_length.tolist() == before
    assert step.states["session_length"][0] == before[-1] + 1


def test_a_stale_state_is_encoded_anew_from_its_history(
    engine_settings: EngineSettings,
    make_model: Callable[..., Model],
    make_encoder: Callable[..., Encoder],
    click: Callable[..., Click],
    as_batch: AsBatch,
    counts: Counts,
) -> None:
    made = [click("u", f"i{n}", n) for n in range(7)]
    old = Engine(engine_settings, make_model(1)).step(as_batch(made), new_states(engine_settings.shape, 1), counts)
    encoder = make_encoder(2)
    engine = Engine(engine_settings, make_model(1, encoder))
    want = old.states.copy()
    encoder.refresh(want)
    step = engine.step(as_batch([click("u", "i9", 9)], 7), old.states, counts)
    # the example shows what the new encoder makes of the clicks before
    np.testing.assert_array_equal(step.examples[0].h, want["h"].astype(np.float16))
    encoder.advance(want, np.array([hash_id("i9")], np.uint64))
    assert np.array_equal(step.states["h"], want["h"])
    assert step.states["encoder"][0] == encoder.id


def test_lists_never_come_from_another_encoders_states(
    engine_settings: EngineSettings, make_model: Callable[..., Model], click: Callable[..., Click], as_batch: AsBatch,
    make_encoder: Callable[..., Encoder], counts: Counts,
) -> None:  # fmt: skip
    batch = as_batch([click("u", f"i{n}", n) for n in range(7)])
    old = Engine(engine_settings, make_model(1)).step(batch, new_states(engine_settings.shape, 1), counts)
    encoder = make_encoder(2)
    engine = Engine(engine_settings, make_model(1, encoder))
    fresh = old.states.copy()
    encoder.refresh(fresh)
    now_ms = int(fresh["ts_ms"].max())
    want = engine.recommend(fresh, now_ms, counts)
    for found in (engine.recommend(old.states, now_ms, counts), engine.step(batch, old.states, counts).lists):
        assert np.array_equal(found.item, want.item)
        assert np.array_equal(found.score, want.score)
    assert old.states["encoder"][0] != encoder.id  # the caller's states are left alone


def test_without_an_encoder_states_keep_their_clicks_alone(
    engine_settings: EngineSettings, click: Callable[..., Click], as_batch: AsBatch
) -> None:
    engine = Engine(engine_settings, untrained_model(8))
    state = engine.step(as_batch([click("u", "a")]), new_states(engine_settings.shape, 1), Counts()).states[0]
    assert state["encoder"] == NO_ENCODER
    assert not state["h"].any()
    assert state["ring_length"] == 0


def test_a_step_without_clicks_is_a_step(engine_settings: EngineSettings, model: Model, as_batch: AsBatch) -> None:
    step = Engine(engine_settings, model).step(as_batch([]), new_states(engine_settings.shape, 0), Counts())
    assert len(step.states) == len(step.evidence) == len(step.lists.item) == 0


def test_excluded_items_are_never_listed(
    model: Model,
    engine_settings: EngineSettings,
    toy_clicks: Callable[..., list[Click]],
    as_batch: AsBatch,
    counts: Counts,
) -> None:
    ranking = engine_settings.ranking.model_copy(update={"exclude_seen": True})
    engine = Engine(engine_settings.model_copy(update={"ranking": ranking}), model)
    step = engine.step(as_batch(toy_clicks(40, seed=2)), new_states(engine_settings.shape, 5), counts)
    for lists in (step.lists, engine.recommend(step.states, int(step.states["ts_ms"].max()), counts)):
        for state, listed in zip(step.states, lists.item, strict=True):
            seen = counts.rows(state["item"][: state["history_length"]])
            assert not set(listed.tolist()) & set(seen[seen >= 0].tolist())
    assert (step.lists.item >= 0).any()


def test_another_model_serves_from_the_next_step_on(
    engine_settings: EngineSettings, make_model: Callable[..., Model], click: Callable[..., Click], as_batch: AsBatch
) -> None:
    engine, states = Engine(engine_settings, untrained_model(8)), new_states(engine_settings.shape, 1)
    engine.swap(make_model())
    step = engine.step(as_batch([click("u", "i1")]), states, Counts())
    assert engine.model.version == 3
    assert step.examples[0].model_version.tolist() == [3]
    assert step.states["encoder"][0] == engine.model.encoder_id
