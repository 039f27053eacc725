"""Evidence about candidates: the formulas, on examples small enough to follow by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np
import pytest

from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.evidence import CONTEXT, OWN, SPARSE, Candidates
from eddyline.state.evidence import Evidence
from eddyline.state.records import hash_id
from eddyline.state.user_state import StateShape, UserStates, new_states

Find = Callable[..., Candidates]
MINUTE_MS = 60_000
NOW_MS = 1_000 * MINUTE_MS


@pytest.fixture
def user_with(shape: StateShape) -> Callable[..., UserStates]:
    """The state of a user who clicked the items, oldest first, a minute apart, the last one at `NOW_MS`."""

    def make(*items: str, session: int = 0) -> UserStates:
        states = new_states(shape, 1)
        states["item"][0, : len(items)] = [hash_id(item) for item in items]
        states["ts_ms"][0, : len(items)] = NOW_MS - MINUTE_MS * np.arange(len(items))[::-1]
        states["history_length"] = states["clicks"] = len(items)
        states["session_length"] = session
        return states

    return make


@pytest.fixture
def counts(make_counts: Callable[..., Counts], make_evidence: Callable[..., Evidence]) -> Counts:
    """Of what came after a, three quarters were b and one was c."""
    clicks = [("a", [], 0), ("b", ["a"], 1)] * 3 + [("a", [], 0), ("c", ["a"], 0)]
    return make_counts(make_evidence(clicks))


def sparse_of(found: Candidates, counts: Counts, item: str) -> dict[str, float]:
    place = found.item.tolist().index(counts.ids.index(item))
    return dict(zip(SPARSE, found.evidence[place].tolist(), strict=True))


def test_links_from_the_last_item_name_candidates(
    counts: Counts, user_with: Callable[..., UserStates], candidates: Find
) -> None:
    found = candidates(counts, user_with("a", session=1), np.array([NOW_MS]), 16, 6)
    assert sorted(counts.ids[row] for row in found.item) == ["a", "b", "c"]
    b, c = sparse_of(found, counts, "b"), sparse_of(found, counts, "c")
    assert b["near_fine"] == pytest.approx(log(1 + 0.75e4) / 2, rel=1e-5)
    assert b["near_coarse"] == pytest.approx(log(1 + 0.75e2), rel=1e-5)
    assert c["near_coarse"] == pytest.approx(log(1 + 0.25e2), rel=1e-5)
    assert b["session"] == pytest.approx(log(1 + 1e4) / 2, rel=1e-5)  # c never followed within a session
    assert c["session"] == 0
    assert b["transition"] == 0.75
    assert b["transition_log"] == pytest.approx(log(1 + 750) / 2, rel=1e-5)
    assert b["transition_before_log"] == 0
    assert b["votes"] == pytest.approx(0.1)
    assert b["back"] == 0
    assert not any(value for name, value in b.items() if name.startswith("own"))


def test_the_item_before_the_last_counts_half(
    counts: Counts, user_with: Callable[..., UserStates], candidates: Find
) -> None:
    # d is in nobody's evidence: it takes its place in the history and names nothing
    found = candidates(counts, user_with("a", "d"), np.array([NOW_MS]), 16, 6)
    b = sparse_of(found, counts, "b")
    assert b["near_coarse"] == pytest.approx(log(1 + 0.75e2), rel=1e-5)  # a share: scaling all alike is no change
    assert b["transition"] == 0
    assert b["transition_before_log"] == pytest.approx(log(1 + 750) / 2, rel=1e-5)
    assert found.history[0, :3].tolist() == [-1, counts.ids.index("a"), -1]


def test_backward_links_name_what_came_before(
    counts: Counts, user_with: Callable[..., UserStates], candidates: Find
) -> None:
    found = candidates(counts, user_with("b"), np.array([NOW_MS]), 16, 6)
    assert sparse_of(found, counts, "a")["back"] == pytest.approx(log(1 + 1e4) / 2, rel=1e-5)


def test_own_history_is_evidence(counts: Counts, user_with: Callable[..., UserStates], candidates: Find) -> None:
    found = candidates(counts, user_with("b", "a", "c", "b", "a"), np.array([NOW_MS + MINUTE_MS]), 16, 6)
    b = sparse_of(found, counts, "b")
    assert SPARSE[OWN] == "own"
    assert b["own"] == 1
    assert b["own_age"] == pytest.approx(log(2) / 2, rel=1e-5)
    assert b["own_count"] == pytest.approx((log(0.97 + 0.97**4) + 3) / 2, rel=1e-5)
    assert b["own_minutes"] == pytest.approx(log(3) / 5, rel=1e-5)
    assert b["own_last"] == 0
    assert sparse_of(found, counts, "a")["own_last"] == 1
    # the last item is a; in the user's own history c came after it
    assert sparse_of(found, counts, "c")["own_transition"] == pytest.approx(log(2), rel=1e-5)
    assert b["own_transition"] == 0


def test_context_says_where_the_user_stands(
    counts: Counts, user_with: Callable[..., UserStates], candidates: Find
) -> None:
    states = user_with("a", "b", "a", session=3)
    states["ring_length"] = 2
    found = candidates(counts, states, np.array([NOW_MS + 10 * MINUTE_MS]), 16, 6)
    context = dict(zip(CONTEXT, found.context[0].tolist(), strict=True))
    assert context["activity"] == pytest.approx(log(4) / 5, rel=1e-5)
    assert context["gap"] == pytest.approx(log(11) / 10, rel=1e-5)
    assert context["last_clicks"] == pytest.approx(log(5) / 5, rel=1e-5)
    assert context["repeats"] == pytest.approx(1 / 3)
    assert context["ring"] == 0.5
    assert context["new_session"] == 0
    assert context["in_session"] == pytest.approx(log(4) / 2.5, rel=1e-5)
    assert context["most_transition"] == max(found.evidence[:, SPARSE.index("transition")])
    nearest = max(found.evidence[:, SPARSE.index("near_coarse")])
    assert log(1 + 100 * context["most_near"]) == pytest.approx(nearest, rel=1e-5)
    assert context["again"] == 0
    later = candidates(counts, states, np.array([NOW_MS + 30 * MINUTE_MS]), 16, 6)
    assert later.context[0, CONTEXT.index("new_session")] == 1
    assert later.context[0, CONTEXT.index("in_session")] == 0
    assert sparse_of(later, counts, "b")["session"] == 0
    twice = candidates(counts, user_with("b", "a", "a"), np.array([NOW_MS]), 16, 6)
    assert twice.context[0, CONTEXT.index("again")] == 1


def test_a_user_without_clicks_has_no_candidates(counts: Counts, shape: StateShape, candidates: Find) -> None:
    found = candidates(counts, new_states(shape, 2), np.array([NOW_MS, NOW_MS]), 16, 6)
    assert found.start.tolist() == [0, 0, 0]
    assert np.isfinite(found.context).all()
    assert (found.history == -1).all()


def test_users_do_not_see_each_other(counts: Counts, user_with: Callable[..., UserStates], candidates: Find) -> None:
    users = [user_with("a", session=1), user_with(), user_with("b", "a", "b"), user_with("c")]
    now_ms = np.full(4, NOW_MS)
    together = candidates(counts, np.concatenate(users), now_ms, 16, 6)
    for u, user in enumerate(users):
        alone = candidates(counts, user, now_ms[:1], 16, 6)
        part = slice(together.start[u], together.start[u + 1])
        assert np.array_equal(together.item[part], alone.item)
        assert np.array_equal(together.evidence[part], alone.evidence)
        assert np.array_equal(together.context[u], alone.context[0])
        assert len(set(alone.item.tolist())) == len(alone.item)


def test_of_too_many_candidates_the_strongest_stay(
    make_counts: Callable[..., Counts],
    make_evidence: Callable[..., Evidence],
    user_with: Callable[..., UserStates],
    candidates: Find,
) -> None:
    clicks = [("hub", [], 0)]
    for n in range(12):
        clicks += [(f"i{n}", ["hub"], 1)] * (n + 1)
    counts = make_counts(make_evidence(clicks))
    found = candidates(counts, user_with("hub"), np.array([NOW_MS]), 4, 6)
    assert {counts.ids[row] for row in found.item} == {"hub", "i11", "i10", "i9"}


def test_counts_stored_with_a_larger_m_name_all_their_links(
    make_counts: Callable[..., Counts],
    make_evidence: Callable[..., Evidence],
    user_with: Callable[..., UserStates],
    candidates: Find,
) -> None:
    pairs = [one for n in range(100) for one in (("hub", [], 0), (f"i{n}", ["hub"], 1))]
    stored = make_counts(make_evidence(pairs), window=1, neighbours=128)
    counts = Counts.from_arrays(CountsSettings(window=1, neighbours=8), stored.ids, stored.to_arrays())
    found = candidates(counts, user_with("hub"), np.array([NOW_MS]), 200, 6)
    assert len(found.item) == 101
