"""The counting baselines, by hand: items a, b, c, d are rows 0 to 3 in order of their first click."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from eddyline.replay.baselines.counting import Counting, Mixture, blend
from eddyline.replay.contender import Contender, Question
from eddyline.replay.ticks import Tick
from eddyline.state.records import Click

Told = Callable[[Contender, Sequence[Click], Click], Tick]
Make = Callable[..., Click]

QUESTION = Question(2, exclude_seen=False)
NOTHING = Mixture(popular=0.0, half_life=np.inf)


@pytest.fixture
def scores(told: Told, click: Make) -> Callable[[Mixture], list[float]]:
    """What a mixture gives to a … d for Cid, who clicked a, then b after an hour.

    Ann clicked a, b, c within three minutes; Bob a, then d.
    """
    log = [
        click("ann", "a", 0),
        click("ann", "b", 1),
        click("ann", "c", 2),
        click("bob", "a", 3),
        click("bob", "d", 4),
        click("cid", "a", 5),
        click("cid", "b", 65),
    ]

    def ask(mixture: Mixture) -> list[float]:
        family = Counting("counting", QUESTION, [mixture])
        tick = told(family, log, click("cid", "c", 66))
        [found] = family.scores(mixture, tick).tolist()
        return found

    return ask


# near: a→b 2 (Ann, Cid), a→c 1/2, b→c 1, a→d 1; clicks: a 3, b 2, c 1, d 1


def test_popularity(scores: Callable[[Mixture], list[float]]) -> None:
    assert scores(NOTHING._replace(popular=1.0)) == pytest.approx([3 / 7, 2 / 7, 1 / 7, 1 / 7])


def test_what_followed_the_last_item(scores: Callable[[Mixture], list[float]]) -> None:
    assert scores(NOTHING._replace(following=1.0)) == pytest.approx([0, 0, 1, 0])


def test_co_visitation(scores: Callable[[Mixture], list[float]]) -> None:
    votes = np.array([0, 2 / 2, 1 + 0.5 / 2, 1 / 2])  # b counts 1, a counts 1 / 2
    assert scores(NOTHING._replace(co=1.0, rooted=False)) == pytest.approx(votes / votes.sum())
    votes = np.array([0, 2 / 2 / 3**0.5, 1 / 2**0.5 + 0.5 / 2 / 3**0.5, 1 / 2 / 3**0.5])
    assert scores(NOTHING._replace(co=2.0)) == pytest.approx(2 * votes / votes.sum())


def test_co_visitation_fades(scores: Callable[[Mixture], list[float]]) -> None:
    votes = np.array([0, 0.1 * 2, 1 + 0.1 * 0.5, 0.1 * 1])
    assert scores(NOTHING._replace(co=1.0, rooted=False, fading=0.1)) == pytest.approx(votes / votes.sum())


def test_co_visitation_of_the_last_item_alone(scores: Callable[[Mixture], list[float]]) -> None:
    assert scores(NOTHING._replace(co=1.0, window=1)) == pytest.approx([0, 0, 1, 0])


def test_co_visitation_both_ways(scores: Callable[[Mixture], list[float]]) -> None:
    votes = np.array([0.5 * 2, 0, 1, 0])  # b after a, twice
    assert scores(NOTHING._replace(co=1.0, window=1, rooted=False, back=0.5)) == pytest.approx(votes / votes.sum())


def test_co_visitation_within_the_session(scores: Callable[[Mixture], list[float]]) -> None:
    # the session holds b alone, and Ann's b → c was within hers
    assert scores(NOTHING._replace(co=1.0, in_session=True)) == pytest.approx([0, 0, 1, 0])


def test_own_history(scores: Callable[[Mixture], list[float]]) -> None:
    assert scores(NOTHING._replace(own=1.0, own_fading=0.5)) == pytest.approx([1 / 3, 2 / 3, 0, 0])
    assert scores(NOTHING._replace(own=1.0, own_fading=0.5, again=False)) == pytest.approx([1, 0, 0, 0])


def test_terms_add_up_in_logarithms(scores: Callable[[Mixture], list[float]]) -> None:
    mixture = NOTHING._replace(popular=0.5, following=2.0, sharpness=10.0)
    popular = 0.5 * np.log(1 + 10 * np.array([3, 2, 1, 1]) / 7)
    assert scores(mixture) == pytest.approx(popular + np.array([0, 0, 2 * np.log(11), 0]))


def test_the_better_variants_go_on(told: Told, click: Make) -> None:
    bad, good = NOTHING._replace(own=1.0), NOTHING._replace(following=1.0)
    family = Counting("counting", QUESTION, [bad, good])
    log = [click(user, item, n) for n, (user, item) in enumerate(zip("uuuuvv", "abacab", strict=True))]
    tick = told(family, log, click("v", "a", 10))
    assert family.chosen["own"] == 1.0
    family.answer(tick)
    assert family.chosen == {"own": 0.0, "following": 1.0}
    family.settle(None, lambda share, text: None)  # type: ignore[arg-type]
    assert family.variants == [good]
    assert family.chosen == {"own": 0.0, "following": 1.0}


def test_a_blend_leaves_out_own_items_where_they_are_no_candidates() -> None:
    assert all(variant.own == 0 for variant in blend(Question(2, exclude_seen=True), 0).variants)
