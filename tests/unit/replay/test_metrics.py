"""Metrics against cases computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eddyline.model.counts import Counts
from eddyline.replay.contender import Answers
from eddyline.replay.metrics import AFTER_DRIFT, DIVISIONS, Groups, Scores, SinceDrift, compare, gains
from eddyline.state.evidence import Evidence


def groups(count: int, bucket: list[int] | None = None, activity: int = 0) -> Groups:
    made = object.__new__(Groups)
    made.window = np.arange(count) % 2
    made.bucket = np.array(bucket if bucket is not None else range(count), np.int64)
    made.by = {name: np.full(count, activity if name == "activity" else 0) for name in DIVISIONS}
    return made


def answers(ranks: list[int], top: list[list[int]] | None = None, loss: list[float] | None = None) -> Answers:
    lists = top if top is not None else [[-1] * 3 for _ in ranks]
    return Answers(
        np.array(ranks, np.int32),
        np.array(lists, np.int32),
        np.array(loss if loss is not None else [math.nan] * len(ranks), np.float32),
    )


def test_gains_of_each_rank() -> None:
    ranks = np.array([1, 2, 3, 4, 0], np.int32)
    expected = [
        [1, 1, 1],
        [1, 1 / math.log2(3), 1 / 2],
        [1, 1 / math.log2(4), 1 / 3],
        [0, 0, 0],  # beyond the list
        [0, 0, 0],  # never seen before
    ]
    assert gains(ranks, 3) == pytest.approx(np.array(expected))


def test_figures_are_means_over_the_clicks_that_count() -> None:
    scores = Scores((1, 3), windows=2)
    counted = np.array([True, True, False, True])
    scores.add(answers([1, 3, 1, 0]), groups(4), counted, Counts())
    figures = scores.figures(items=10)
    assert scores.clicks == 3
    assert figures["recall@1"] == pytest.approx(1 / 3)
    assert figures["recall@3"] == pytest.approx(2 / 3)
    assert figures["ndcg@3"] == pytest.approx((1 + 1 / 2) / 3)
    assert figures["mrr@3"] == pytest.approx((1 + 1 / 3) / 3)
    assert [window["clicks"] for window in figures["windows"]] == [1, 2]
    assert [window["recall@3"] for window in figures["windows"]] == pytest.approx([1.0, 0.5])


def test_clicks_since_the_stream_last_changed() -> None:
    since = SinceDrift([10, 20])
    assert since(np.array([7, 9])).tolist() == [-1, -1]
    assert since(np.array([9, 10, 10, 11])).tolist() == [-1, 0, 1, 2]
    assert since(np.array([], np.int64)).tolist() == []
    assert since(np.array([15, 19])).tolist() == [3, 4]
    assert since(np.array([25, 26])).tolist() == [0, 1]
    assert since(np.array([27])).tolist() == [2]
    assert SinceDrift([])(np.array([1, 2])).tolist() == [-1, -1]
    assert SinceDrift([1, 2])(np.array([5, 6])).tolist() == [0, 1]  # two at once


def test_clicks_after_a_drift_are_a_group_of_their_own_where_there_was_one() -> None:
    def figures(since_drift: list[int]) -> dict[str, Any]:
        made = groups(3)
        made.by["drift"] = np.where(np.array(since_drift) < 0, -1, np.array(since_drift) >= AFTER_DRIFT)
        scores = Scores((3,), windows=2)
        scores.add(answers([1, 0, 2]), made, np.ones(3, np.bool_), Counts())
        return scores.figures(items=10)["by"]

    assert "drift" not in figures([-1, -1, -1])
    drift = figures([-1, AFTER_DRIFT - 1, AFTER_DRIFT])["drift"]
    assert [group["clicks"] for group in drift.values()] == [1, 1]
    assert [group["recall@3"] for group in drift.values()] == [0, 1]


def test_groups_are_kept_apart() -> None:
    scores = Scores((3,), windows=2)
    every = np.ones(2, np.bool_)
    scores.add(answers([1, 1]), groups(2, activity=0), every, Counts())
    scores.add(answers([0, 1]), groups(2, activity=3), every, Counts())
    by = scores.figures(items=1)["by"]["activity"]
    assert (by["0"]["clicks"], by["0"]["recall@3"]) == (2, 1.0)
    assert (by["20+"]["clicks"], by["20+"]["recall@3"]) == (2, 0.5)
    assert by["1-4"]["clicks"] == 0


def test_log_loss_leaves_out_what_has_no_probability() -> None:
    scores = Scores((3,), windows=2)
    every = np.ones(3, np.bool_)
    scores.add(answers([1, 1, 0], loss=[0.5, 1.5, math.nan]), groups(3), every, Counts())
    assert scores.figures(items=1)["log_loss"] == pytest.approx(1.0)
    nothing = Scores((3,), windows=2)
    nothing.add(answers([1]), groups(1), every[:1], Counts())
    assert nothing.figures(items=1)["log_loss"] is None


def test_the_ratio_lies_in_its_interval_and_equal_models_have_ratio_one() -> None:
    random = np.random.default_rng(0)
    better, worse = Scores((3,), windows=2), Scores((3,), windows=2)
    for _ in range(50):
        ranks = random.integers(0, 6, 40)
        bucket = random.integers(0, 1000, 40).tolist()
        every = np.ones(40, np.bool_)
        better.add(answers(np.where(random.random(40) < 0.3, 1, ranks).tolist()), groups(40, bucket), every, Counts())
        worse.add(answers(ranks.tolist()), groups(40, bucket), every, Counts())
    found = compare(better, worse, "recall@3")
    assert 1 < found["low"] < found["ratio"] < found["high"]
    assert compare(worse, worse, "recall@3") == {"ratio": 1.0, "low": 1.0, "high": 1.0}
    assert compare(better, worse, "recall@3") == found  # the same draws every time


def test_a_group_is_compared_on_its_own_clicks() -> None:
    one, other = Scores((3,), windows=2), Scores((3,), windows=2)
    every = np.ones(200, np.bool_)
    for activity, ours, theirs in ((0, [1, 1], [1, 0]), (1, [0, 1], [1, 1])):
        of = groups(200, list(range(200)), activity)
        one.add(answers(ours * 100), of, every, Counts())
        other.add(answers(theirs * 100), of, every, Counts())
    found = compare(one, other, "recall@3", division="activity", group="0")
    assert found["ratio"] == 2.0
    assert 1.5 < found["low"] < 2.0 < found["high"] < 2.7
    assert compare(one, other, "recall@3", division="activity", group="1-4")["ratio"] == 0.5
    assert compare(one, other, "recall@3")["ratio"] == 1.0
    nothing = {"ratio": None, "low": None, "high": None}
    assert compare(one, other, "recall@3", division="activity", group="20+") == nothing


def test_nothing_to_compare_is_no_number() -> None:
    nothing = Scores((3,), windows=2)
    assert set(compare(nothing, nothing, "recall@3").values()) == {None}


def test_what_few_users_cannot_tell_is_not_told() -> None:
    every = np.ones(40, np.bool_)
    found = []
    for buckets in (9, 40):
        one, other = Scores((3,), windows=2), Scores((3,), windows=2)
        bucket = [n % buckets for n in range(40)]
        one.add(answers([1] * 40), groups(40, bucket), every, Counts())
        other.add(answers([1] + [0] * 39), groups(40, bucket), every, Counts())
        found.append(compare(one, other, "recall@3"))
    few, sparse = found
    assert few == {"ratio": 40.0, "low": None, "high": None}
    assert sparse["ratio"] == 40.0
    assert sparse["low"] is not None
    assert sparse["high"] is None  # in some samples the other model has nothing


def test_published_lists_are_what_counts_where_they_are_served() -> None:
    lists = np.array([[0, 1, 2], [0, 1, 2]], np.int32)
    given = answers([1, 1], loss=[0.5, 0.5])._replace(published=np.array([2, 0], np.int32), held=lists)
    served = Scores((3,), windows=2)
    counts = Counts()
    counts.fold(replace(Evidence.of_none(), new_ids=["a", "b", "c"]))
    served.add(given.as_published(), groups(2), np.ones(2, np.bool_), counts)
    figures = served.figures(items=3)
    assert figures["mrr@3"] == pytest.approx(0.25)
    assert figures["coverage@3"] == 1.0
    assert (figures["published"], figures["log_loss"], figures["sources"]) == (None, None, None)
