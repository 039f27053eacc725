"""Counts: what a click adds, and that every fold of the same evidence comes to the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eddyline.model.counts import BACK, NEAR, SESSION, TRANSITION, Counts, CountsSettings
from eddyline.model.folding import HALF_LIVES
from eddyline.model.links import Links, find_link
from eddyline.state.evidence import Evidence
from eddyline.state.records import hash_id

Make = Callable[..., Counts]


def weights(counts: Counts, links: Links) -> dict[str, list[float]]:
    """Every link by the names of its ends."""
    found = {}
    for source, name in enumerate(counts.ids):
        for target, other in enumerate(counts.ids):
            slot = find_link(links, source, target)
            if slot >= 0:
                found[f"{name}→{other}"] = links.weight[slot].tolist()
    return found


def assert_same(one: Counts, other: Counts) -> None:
    assert one.ids == other.ids
    ours, theirs = one.to_arrays(), other.to_arrays()
    for name, array in ours.items():
        if name == "applied":  # as long as the highest partition asked for
            length = min(len(array), len(theirs[name]))
            assert np.array_equal(array[:length], theirs[name][:length])
        else:
            assert np.array_equal(array, theirs[name]), name


@pytest.fixture
def evidence(make_evidence: Callable[..., Evidence]) -> Evidence:
    """Ann clicks a, b, c, of which c opens a new session; then Bob clicks a, c."""
    return make_evidence([("a", [], 0), ("b", ["a"], 1), ("c", ["b", "a"], 0), ("a", [], 0), ("c", ["a"], 1)])


def test_a_click_counts_towards_the_links_from_and_to_what_came_before(make_counts: Make, evidence: Evidence) -> None:
    counts = make_counts(evidence)
    # near 1 / (1 + k), the same within the session, and what came right after
    assert weights(counts, counts.forward) == {
        "a→b": pytest.approx([1.0, 1.0, 1.0]),
        "b→c": pytest.approx([1.0, 0.0, 1.0]),
        "a→c": pytest.approx([0.5 + 1.0, 1.0, 1.0]),
    }
    assert (NEAR, SESSION, TRANSITION, BACK) == (0, 1, 2, 0)
    assert weights(counts, counts.backward) == {
        "b→a": pytest.approx([1.0]),
        "c→b": pytest.approx([1.0]),
        "c→a": pytest.approx([0.5 + 1.0]),
    }
    assert counts.clicks.tolist() == [2, 1, 2]
    assert counts.followed.tolist() == [2, 1, 0]
    assert counts.seen == 5
    assert counts.clock_ms == evidence.ts_ms[-1]


def test_a_click_weighs_what_its_kind_weighs(make_counts: Make, make_evidence: Callable[..., Evidence]) -> None:
    counts = make_counts(make_evidence([("a", [], 0), ("b", ["a"], 1)], weight=3.0))
    assert weights(counts, counts.forward) == {"a→b": [3.0, 3.0, 3.0]}
    assert counts.clicks.tolist() == [3, 3]


def test_the_window_bounds_what_a_click_counts_after(make_counts: Make, evidence: Evidence) -> None:
    counts = make_counts(evidence, window=1)
    assert weights(counts, counts.forward)["a→c"] == [1.0, 1.0, 1.0]


def test_popularity_halves_with_the_clicks_of_the_whole_stream(
    make_counts: Make, evidence: Evidence, dense_evidence: Callable[[Counts], np.ndarray]
) -> None:
    shares = np.expm1(dense_evidence(make_counts(evidence))[: len(HALF_LIVES)]) / 1e5
    for j, half_life in enumerate(HALF_LIVES):
        decay = 0.5 ** (1 / half_life)
        popular = {"a": decay**4 + decay, "b": decay**3, "c": decay**2 + 1}
        if j == len(HALF_LIVES) - 1:  # arrivals: Ann's and Bob's first clicks
            popular |= {"b": 0, "c": 0}
        assert shares[j] == pytest.approx(np.array(list(popular.values())) / sum(popular.values()), rel=1e-5)


def test_an_item_knows_what_its_first_user_had_before(make_counts: Make, evidence: Evidence) -> None:
    counts = make_counts(evidence)
    assert counts.parents[:, :3].tolist() == [[-1, -1, -1], [0, -1, -1], [1, 0, -1]]


def test_new_items_get_rows_in_the_order_of_the_evidence(
    make_counts: Make, make_evidence: Callable[..., Evidence]
) -> None:
    counts = make_counts(make_evidence([("b", [], 0), ("a", [], 0)]), make_evidence([("a", [], 0), ("z", [], 0)], 2))
    assert counts.ids == ["b", "a", "z"]
    asked = np.array([hash_id(item) for item in ("z", "unheard of", "b")], np.uint64)
    assert counts.rows(asked).tolist() == [2, -1, 0]


def test_a_click_on_an_item_without_a_name_is_left_out_and_counted(
    make_counts: Make, make_evidence: Callable[..., Evidence]
) -> None:
    counts = make_counts(make_evidence([("a", [], 0), ("gone", ["a"], 1), ("b", ["gone", "a"], 2)], named=["a", "b"]))
    assert counts.unnamed == 1
    assert counts.seen == 2
    assert weights(counts, counts.forward) == {"a→b": pytest.approx([0.5, 0.5, 0.0])}


def test_folding_twice_changes_nothing(make_counts: Make, evidence: Evidence) -> None:
    counts, once = make_counts(evidence), make_counts(evidence)
    assert counts.fold(evidence) == 0
    assert_same(counts, once)


def test_only_what_is_new_of_a_message_is_folded(make_counts: Make, make_evidence: Callable[..., Evidence]) -> None:
    clicks = [("a", [], 0), ("b", ["a"], 1), ("a", ["b", "a"], 2)]
    counts = make_counts(make_evidence(clicks[:2]))
    assert counts.fold(make_evidence(clicks)) == 1
    assert_same(counts, make_counts(make_evidence(clicks)))


def test_offsets_are_those_of_their_partition(make_counts: Make, evidence: Evidence) -> None:
    counts = make_counts(evidence)
    assert counts.fold(replace(evidence, partition=evidence.partition + np.int32(40))) == len(evidence)
    assert counts.fold(replace(evidence, partition=evidence.partition + np.int32(40))) == 0


def test_another_stream_begins_anew_with_what_is_counted(make_counts: Make, evidence: Evidence) -> None:
    counts = make_counts(evidence)
    counts.forget_offsets()
    assert counts.fold(evidence) == len(evidence)
    assert counts.seen == 2 * len(evidence)


def test_saved_counts_go_on_as_if_never_stopped(make_counts: Make, make_evidence: Callable[..., Evidence]) -> None:
    random = np.random.default_rng(0)
    # more items and links than there is room for at first, and some items with more links than may be kept
    rare = random.random(3000) < 0.7
    items = [f"i{n}" for n in np.where(rare, random.integers(0, 3000, 3000), random.integers(0, 5, 3000))]
    clicks = [(item, items[max(0, n - 10) : n][::-1], 2) for n, item in enumerate(items)]
    first, second = make_evidence(clicks[:1500]), make_evidence(clicks[1500:], 1500)
    counts = make_counts(first, neighbours=16)
    restored = Counts.from_arrays(counts.settings, counts.ids, counts.to_arrays())
    assert_same(restored, counts)
    for one in (counts, restored):
        one.fold(second)
    assert_same(restored, counts)
    assert len(counts) > 1024
    assert_same(counts, make_counts(make_evidence(clicks), neighbours=16))


def test_counts_stored_with_a_larger_m_still_say_how_many_links_an_item_may_have(
    make_counts: Make, make_evidence: Callable[..., Evidence]
) -> None:
    pairs = [one for n in range(20) for one in (("hub", [], 0), (f"i{n}", ["hub"], 1))]
    counts = make_counts(make_evidence(pairs), neighbours=32)
    restored = Counts.from_arrays(CountsSettings(neighbours=8), counts.ids, counts.to_arrays())
    assert restored.most_links == 32
    assert restored.forward.used[0] == 20
