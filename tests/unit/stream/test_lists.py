"""Ranked rows as the records that subscribers read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.engine import EngineSettings, Step
from eddyline.model.model import Model, untrained_model
from eddyline.replay.runner import Runner
from eddyline.state.records import Click, Parts, Recommendation, decode_recommendation
from eddyline.stream.list_json import ItemNames
from eddyline.stream.lists import encode_lists
from eddyline.stream.refresh import NEWCOMERS
from eddyline.stream.serving import Serving

UNTRAINED = untrained_model(8)


@pytest.fixture
def runner(engine_settings: EngineSettings, toy_clicks: Callable[..., list[Click]]) -> Runner:
    runner = Runner(engine_settings, ClickSettings(), UNTRAINED, Counts())
    runner.feed(toy_clicks(100))
    return runner


@pytest.fixture
def step(runner: Runner, click: Callable[..., Click]) -> Step:
    return runner.feed([click("ann", "i1", 200), click("bob", "i2", 201), click("ann", "i3", 202)])


def read(runner: Runner, step: Step, model: Model = UNTRAINED, cause: str = "click") -> list[Recommendation]:
    raw = encode_lists(step.lists, step.states, ["ann", "bob"], ["e3", "e2"], cause, model, runner.counts, ItemNames())
    return [decode_recommendation(one) for one in raw]


def test_a_list_names_its_user_its_cause_and_when(runner: Runner, step: Step, click: Callable[..., Click]) -> None:
    model = replace(UNTRAINED, version=7, trained_until_ms=time.time_ns() // 1_000_000 - 5_000)
    ann, bob = read(runner, step, model)
    assert (ann.user_id, bob.user_id) == ("ann", "bob")
    assert (ann.cause, ann.cause_event_id, ann.model_version) == ("click", "e3", 7)
    assert ann.event_ts_ms == click("ann", "i3", 202).ts_ms
    assert ann.recommendation_id == "0-102-7"  # of the last click applied: made again, it is the same
    assert bob.recommendation_id == "0-101-7"
    assert 5_000 <= ann.model_age_ms < 60_000
    assert abs(ann.produced_ts_ms - time.time_ns() // 1_000_000) < 60_000


def test_items_are_in_order_with_scores_that_the_parts_add_up_to(runner: Runner, step: Step) -> None:
    for u, recommendation in enumerate(read(runner, step)):
        assert [one.item_id for one in recommendation.items] == [runner.counts.ids[row] for row in step.lists.item[u]]
        scores = [one.score for one in recommendation.items]
        assert scores == sorted(scores, reverse=True)
        for one in recommendation.items:
            assert one.why is not None
            parts = sum(getattr(one.why.parts, name) for name in Parts.__struct_fields__)
            assert parts == pytest.approx(one.score, abs=5e-3)


def test_reasons_are_named(runner: Runner, step: Step) -> None:
    items = read(runner, step)[0].items
    reasons = [reason for one in items if one.why for reason in one.why.because_of]
    assert "i3" in reasons
    assert set(reasons) <= {"i1", "i3"}


def test_a_refresh_has_an_id_of_its_own(runner: Runner, step: Step) -> None:
    (ann, _) = read(runner, step, replace(UNTRAINED, version=7), "refresh")
    assert ann.recommendation_id == f"0-102-7-{ann.produced_ts_ms}"


def test_newcomers_have_one_list(runner: Runner, engine_settings: EngineSettings) -> None:
    serving = Serving(engine_settings, ClickSettings(), replace(UNTRAINED, version=7), runner.counts, 1)
    (raw,) = serving.recommend([NEWCOMERS], [None])
    newcomers = decode_recommendation(raw)
    assert (newcomers.user_id, newcomers.event_ts_ms, newcomers.cause) == ("", 0, "refresh")
    assert newcomers.recommendation_id == f"new-7-{newcomers.produced_ts_ms}"
    assert len(newcomers.items) == engine_settings.ranking.length


def test_without_a_trained_model_it_is_a_fallback(runner: Runner, step: Step) -> None:
    for cause in ("click", "refresh"):
        (ann, _) = read(runner, step, cause=cause)
        assert (ann.cause, ann.model_version, ann.model_age_ms) == ("fallback", 0, 0)
    assert read(runner, step, replace(UNTRAINED, version=1), "refresh")[0].cause == "refresh"


def test_places_beyond_the_catalogue_are_left_out(runner: Runner, step: Step) -> None:
    item = step.lists.item.copy()
    item[0, 2:] = -1
    score = step.lists.score.copy()
    score[0, 2:] = -np.inf
    short = replace(step, lists=step.lists._replace(item=item, score=score))
    ann, bob = read(runner, short)
    assert (len(ann.items), len(bob.items)) == (2, 5)


def test_without_reasons_there_is_no_why(runner: Runner, step: Step) -> None:
    none = np.zeros((2, 0, 0))
    plain = replace(step, lists=step.lists._replace(parts=none, because=none.astype(np.int32)))
    assert all(one.why is None for recommendation in read(runner, plain) for one in recommendation.items)
