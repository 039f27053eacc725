"""Session kNN, by hand: items a, b, c, d are rows 0 to 3 in order of their first click."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from eddyline.replay.baselines.sessions import Knn, SessionIndex, SessionKnn
from eddyline.replay.contender import Contender, Question
from eddyline.replay.ticks import Tick
from eddyline.state.records import Click

Told = Callable[[Contender, Sequence[Click], Click], Tick]
Make = Callable[..., Click]

PLAIN = Knn(rare=False, popular=0.0)


def add(index: SessionIndex, *sessions: tuple[int, Sequence[int]]) -> None:
    for user, items in sessions:
        goes_on = np.arange(len(items)) > 0
        index.add(np.array(items, np.int32), np.full(len(items), user), goes_on)


def votes(index: SessionIndex, recent: Sequence[int], knn: Knn = PLAIN, user: int = 99, items: int = 4) -> list[float]:
    scores = np.zeros((1, items), np.float32)
    index.votes(np.array([recent], np.int32), np.array([user]), np.array([len(recent)]), knn, scores)
    again = np.zeros((1, items), np.float32)
    index.votes(np.array([recent], np.int32), np.array([user]), np.array([len(recent)]), knn, again)
    assert np.array_equal(scores, again)
    [found] = scores.tolist()
    return found


@pytest.fixture
def index() -> SessionIndex:
    """Sessions a b c, a d, and b a (of user 2)."""
    index = SessionIndex()
    add(index, (0, [0, 1, 2]), (1, [0, 3]), (2, [1, 0]))
    return index


def test_similar_sessions_vote(index: SessionIndex) -> None:
    # asked with b, then a: b weighs 1, a weighs 1/2; r is 3/2, 1/2, 3/2; the last shared b at k = 0, a at k = 1
    raw = np.array([1.5 + 0.45 + 1.5, 1.5 + 1.5, 1.5, 0.45])
    assert votes(index, [1, 0]) == pytest.approx(raw / raw.sum())


def test_rare_items_weigh_more(index: SessionIndex) -> None:
    raw = np.array([0, 2, 1, 0]) * np.log([1, 3 / 2, 3, 3])
    assert votes(index, [1], PLAIN._replace(rare=True)) == pytest.approx(raw / raw.sum())


def test_only_the_most_similar_vote_and_of_equal_ones_the_newest(index: SessionIndex) -> None:
    assert votes(index, [1, 0], PLAIN._replace(neighbours=1)) == pytest.approx([1 / 2, 1 / 2, 0, 0])
    assert votes(index, [0], PLAIN._replace(newest=2)) == pytest.approx([1 / 2, 1 / 4, 0, 1 / 4])


def test_own_sessions_vote_if_they_may(index: SessionIndex) -> None:
    assert votes(index, [1], user=2) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert votes(index, [1], PLAIN._replace(own=True), user=2) == pytest.approx([2 / 5, 2 / 5, 1 / 5, 0])


def test_harmonic_weights(index: SessionIndex) -> None:
    # b 1, b again, a 1/3: r is 4/3, 1/3, 4/3
    raw = np.array([8 / 3 + 0.8 / 3, 8 / 3, 4 / 3, 0.8 / 3])
    assert votes(index, [1, 1, 0], PLAIN._replace(harmonic=True)) == pytest.approx(raw / raw.sum())


def test_nothing_known_nothing_said(index: SessionIndex) -> None:
    assert votes(index, []) == [0, 0, 0, 0]
    assert votes(index, [-1]) == [0, 0, 0, 0]
    assert votes(index, [5], items=6) == [0] * 6


def test_old_sessions_are_forgotten() -> None:
    index = SessionIndex(sessions=2)
    add(index, (0, [0, 1]), (1, [2, 3]), (2, [0, 3]))
    assert votes(index, [0]) == pytest.approx([1 / 2, 0, 0, 1 / 2])
    index.add(np.array([2], np.int32), np.array([0]), np.array([True]))  # goes on with a session that is gone
    assert votes(index, [2]) == pytest.approx([0, 0, 1, 0])


def test_a_long_session_goes_on_as_a_new_one() -> None:
    index = SessionIndex(length=2)
    add(index, (0, [0, 1, 1, 0, 2, 3]))
    assert votes(index, [0]) == pytest.approx([1 / 2, 1 / 2, 0, 0])
    assert votes(index, [3]) == pytest.approx([0, 0, 1 / 2, 1 / 2])


def test_sessions_or_histories(told: Told, click: Make) -> None:
    family = SessionKnn(Question(2, exclude_seen=False), 0)
    log = [click("ann", "a", 0), click("ann", "b", 1), click("ann", "c", 90), click("bob", "b", 91)]
    tick = told(family, log, click("bob", "c", 92))
    assert family.scores(PLAIN, tick).tolist() == [[1 / 2, 1 / 2, 0]]
    assert family.scores(PLAIN._replace(in_session=False), tick)[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    late = told(family, log, click("bob", "c", 200))
    assert family.scores(PLAIN, late).tolist() == [[0, 0, 0]]
