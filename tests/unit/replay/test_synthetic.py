from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from eddyline.replay.synthetic import SyntheticSettings, changes, synthetic_clicks
from eddyline.state.records import Click, decode_click, encode


@pytest.fixture(scope="module")
def clicks() -> list[Click]:
    return list(synthetic_clicks())


def recall_at_20(clicks: list[Click]) -> tuple[float, float]:
    """Decayed popularity and the last item's counted successors, each asked before it sees the click."""
    popularity: dict[str, float] = {}
    successors: defaultdict[str, Counter[str]] = defaultdict(Counter)
    last: dict[str, str] = {}
    hits, scored = [0, 0], 0
    for number, click in enumerate(clicks):
        before = last.get(click.user_id)
        if number >= len(clicks) // 10:
            scored += 1
            hits[0] += click.item_id in heapq.nlargest(20, popularity, key=popularity.__getitem__)
            hits[1] += before is not None and click.item_id in dict(successors[before].most_common(20))
        popularity[click.item_id] = popularity.get(click.item_id, 0.0) + 2 ** (number / 1000)
        if before is not None:
            successors[before][click.item_id] += 1
        last[click.user_id] = click.item_id
    return hits[0] / scored, hits[1] / scored


def test_the_default_stream_is_as_large_as_it_says(clicks: list[Click]) -> None:
    assert len(clicks) == 20_000
    assert 1_300 < len({click.user_id for click in clicks}) < 1_700
    assert 1_100 < len({click.item_id for click in clicks}) <= 1_200
    assert len({click.event_id for click in clicks}) == 20_000
    kinds = Counter(click.kind for click in clicks)
    assert set(kinds) == {"click", "purchase"}
    assert 0.02 < kinds["purchase"] / 20_000 < 0.06


def test_clicks_are_fit_for_the_topic(clicks: list[Click]) -> None:
    assert all(decode_click(encode(click)) == click for click in clicks[:200])


def test_the_same_settings_give_the_same_stream(clicks: list[Click]) -> None:
    assert list(synthetic_clicks(SyntheticSettings())) == clicks
    assert next(synthetic_clicks(SyntheticSettings(seed=1))) != clicks[0]


def test_times_never_go_back_and_sessions_of_a_user_never_overlap(clicks: list[Click]) -> None:
    assert all(a.ts_ms <= b.ts_ms for a, b in pairwise(clicks))
    open_session: dict[str, Click] = {}
    for click in clicks:
        before = open_session.get(click.user_id)
        gap_ms = click.ts_ms - before.ts_ms if before else None
        if before and before.session_id == click.session_id:
            assert 0 < gap_ms <= 900_000
        elif before:
            assert gap_ms > 1_800_000
        open_session[click.user_id] = click
    sessions = Counter(click.session_id for click in clicks)
    assert max(sessions.values()) <= 20
    assert 4 < len(clicks) / len(sessions) < 5


def test_items_arrive_on_the_way(clicks: list[Click]) -> None:
    first_half = {click.item_id for click in clicks[:10_000]}
    new = {click.item_id for click in clicks} - first_half
    assert 0.1 < len(new) / 1_200 < 0.4


def test_sequences_are_worth_more_than_popularity(clicks: list[Click]) -> None:
    popularity, last_item = recall_at_20(clicks)
    assert 0.05 < popularity < 0.3
    assert 2 * popularity < last_item < 0.6


def overlap_of_popular(a: list[Click], b: list[Click]) -> int:
    tops = [{item for item, _ in Counter(c.item_id for c in part).most_common(50)} for part in (a, b)]
    return len(tops[0] & tops[1])


def test_the_abrupt_drift_is_half_way(clicks: list[Click]) -> None:
    steady = overlap_of_popular(clicks[6_000:8_000], clicks[8_000:10_000])
    across = overlap_of_popular(clicks[8_000:10_000], clicks[10_000:12_000])
    assert across < 0.6 * steady
    calm = list(synthetic_clicks(SyntheticSettings(drift="none")))
    assert overlap_of_popular(calm[8_000:10_000], calm[10_000:12_000]) > 0.7 * steady


def test_gradual_drift_moves_as_far_without_a_jump() -> None:
    clicks = list(synthetic_clicks(SyntheticSettings(drift="gradual", new_items=0.0)))
    near = overlap_of_popular(clicks[8_000:10_000], clicks[10_000:12_000])
    far = overlap_of_popular(clicks[:2_000], clicks[18_000:])
    assert far < 0.75 * near


def test_regimes_return() -> None:
    settings = SyntheticSettings(drift="returning", regime_clicks=4_000, new_items=0.0)
    clicks = list(synthetic_clicks(settings))
    first, second, third = clicks[500:3_500], clicks[4_500:7_500], clicks[8_500:11_500]
    assert overlap_of_popular(first, second) < 0.6 * overlap_of_popular(first, third)


@pytest.mark.parametrize(
    "odd",
    [
        {"users": 1, "items": 1, "clicks": 50},
        {"topics": 50, "items": 10, "clicks": 300},
        {"tastes": 1, "session_clicks": 1, "clicks": 300},
        {"new_items": 0.99, "p_next": 1.0, "clicks": 300},
        {"zipf": 0, "activity_spread": 0, "p_repeat": 1.0, "p_next": 0, "clicks": 300},
    ],
)
def test_odd_settings_still_give_a_stream(odd: dict[str, float]) -> None:
    clicks = list(synthetic_clicks(SyntheticSettings.model_validate(odd)))
    assert len(clicks) == odd["clicks"]
    assert len({click.item_id for click in clicks}) <= odd.get("items", 1_200)


def test_changes_are_told_with_the_time_of_their_first_click() -> None:
    returning = SyntheticSettings(clicks=1_000, drift="returning", regime_clicks=300)
    clicks = list(synthetic_clicks(returning))
    found = changes(returning)
    assert [one.click for one in found] == [300, 600, 900]
    assert [one.at_ms for one in found] == [clicks[one.click].ts_ms for one in found]
    assert [one.what for one in found] == [
        "a second regime begins",
        "the first regime returns",
        "the second regime returns",
    ]
    assert [one.click for one in changes(SyntheticSettings(clicks=1_000, drift="abrupt", drift_at=0.25))] == [250]
    assert changes(SyntheticSettings(drift="none")) == changes(SyntheticSettings(drift="gradual")) == []
