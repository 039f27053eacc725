"""Baselines that count: popularity, what follows the last item, co-visitation, own history, and a blend of them.

All of them are one formula with some of its weights at zero. With x_0 … the user's recent items, newest first, and
the links of the shared counts (`eddyline.model.counts`),

    z_i = co · f(C_i) + next · f(T_i) + own · f(H_i) + popular · f(P_i),    f(p) = p or log(1 + s·p)

    C_i ∝ Σ_{k < window} w_k · (links[x_k → i] + back · back[x_k → i]) / √clicks[x_k],    w_k = 1/(1+k) or fading^k
    T_i ∝ transition[x_0 → i]
    H_i ∝ Σ over the user's clicks on i of own_fading^age,  age in the user's clicks
    P_i: decayed popularity

each of C, T, H, P with sum 1. Counters of this kind are hard to beat: see Ludewig and Jannach, "Evaluation of
session-based recommendation algorithms" (UMUAI 2018), whose "association rules" and "sequential rules" are the
middle terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eddyline.replay.baselines.family import Family, drawn
from eddyline.replay.baselines.popularity import Popularity
from eddyline.replay.baselines.votes import HARMONIC, add_co, add_following, add_own
from eddyline.replay.contender import Question
from eddyline.replay.ticks import Tick

__all__ = [
    "TIES",
    "Counting",
    "Mixture",
    "blend",
    "co_visitation",
    "decayed_popularity",
    "last_item",
    "own_history",
    "popularity",
]

TIES = 1e-4
"""Weight of popularity where it only orders what the counts do not tell apart."""


class Mixture(NamedTuple):
    """The weights of the formula.

    Attributes:
        popular, half_life: weight of the decayed popularity, and its half-life in clicks of the stream.
        co, window, fading, rooted, in_session, back: weight of co-visitation; recent items looked at; w_k; whether
            to divide by √clicks; whether only within the running session; weight of the links back.
        following: weight of what came right after the last item (`next` in the formula).
        own, own_fading, again: weight of the own history, its decay per click, and whether the last item counts.
        sharpness: s of f, 0 for f(p) = p.
    """

    popular: float = TIES
    half_life: float = 2_000.0
    co: float = 0.0
    window: int = 10
    fading: float = HARMONIC
    rooted: bool = True
    in_session: bool = False
    back: float = 0.0
    following: float = 0.0
    own: float = 0.0
    own_fading: float = 0.9
    again: bool = True
    sharpness: float = 0.0


class Counting(Family[Mixture]):
    """A family of mixtures.

    Args:
        name: of the contender.
        question: how lists are asked for.
        variants: what to choose from; the first is the default.
    """

    def __init__(self, name: str, question: Question, variants: Sequence[Mixture]) -> None:
        super().__init__(name, question, variants)
        self._popularity = Popularity(sorted({mixture.half_life for mixture in variants}))
        self._votes = np.zeros(0, np.float32)
        self._tick: Tick | None = None
        self._rows = np.zeros((0, 0), np.int32)
        self._shares: dict[tuple[float, float], npt.NDArray[np.float32]] = {}

    def describe(self, variant: Mixture) -> dict[str, Any]:
        """The weights of the formula."""
        return variant._asdict()

    def learn(self, tick: Tick) -> None:
        """Count towards popularity; the links are the shared counts'."""
        self._tick = None
        self._popularity.add(tick.counts.rows(tick.clicks.item), tick.clicks.weight)

    def scores(self, variant: Mixture, tick: Tick) -> npt.NDArray[np.float32]:
        """The formula's z of every item, (B, I)."""
        if tick is not self._tick:
            self._look(tick)
        counts = tick.counts
        scores = np.empty((len(tick), len(counts)), np.float32)
        scores[:] = self._dense(variant, len(counts))
        rows, votes, sharpness = self._rows, self._votes, np.float32(variant.sharpness)
        if variant.co:
            add_co(
                rows, tick.evidence.session_length, counts.clicks, counts.forward, counts.backward,
                np.float32(variant.co), variant.window, variant.fading, variant.rooted, variant.in_session,
                np.float32(variant.back), sharpness, votes, scores,
            )  # fmt: skip
        if variant.following:
            add_following(rows, counts.forward, np.float32(variant.following), sharpness, votes, scores)
        if variant.own:
            own = np.float32(variant.own)
            add_own(rows, own, variant.own_fading, variant.again, sharpness, votes, scores)
        return scores

    def _look(self, tick: Tick) -> None:
        """Gather what all variants need of a tick."""
        self._tick = tick
        self._shares.clear()
        most = max(variant.window if variant.co else 1 for variant in self.variants)
        if any(variant.own for variant in self.variants):
            most = tick.before["item"].shape[1]
        self._rows = tick.history(most)
        if len(self._votes) < len(tick.counts):
            self._votes = np.zeros(2 * len(tick.counts), np.float32)

    def _dense(self, variant: Mixture, items: int) -> npt.NDArray[np.float32]:
        key = (variant.half_life, variant.sharpness)
        shares = self._shares.get(key)
        if shares is None:
            shares = self._popularity.shares(variant.half_life, items)
            if variant.sharpness:
                shares = np.log(np.float32(1.0) + np.float32(variant.sharpness) * shares)
            self._shares[key] = shares
        return np.float32(variant.popular) * shares


def popularity(question: Question) -> Counting:
    """All clicks since the beginning."""
    return Counting("popularity", question, [Mixture(popular=1.0, half_life=np.inf)])


def decayed_popularity(question: Question) -> Counting:
    """Clicks, the newest most."""
    lives = (2_000.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0, 10_000.0, 50_000.0)
    return Counting("decayed-popularity", question, [Mixture(popular=1.0, half_life=life) for life in lives])


def last_item(question: Question) -> Counting:
    """A first-order Markov chain; popularity decides ties, and where the last item says nothing."""
    lives = (2_000.0, 25.0, 50.0, 100.0, 200.0, 500.0, 10_000.0)
    weights = (TIES, 0.03, 0.3, 1.0)
    variants = [Mixture(w, life, following=1.0) for w, life in product(weights, lives)]
    return Counting("last-item", question, variants)


def co_visitation(question: Question) -> Counting:
    """What others clicked after the user's recent items."""
    variants = [
        Mixture(half_life=life, co=1.0, window=window, fading=fading, rooted=rooted, in_session=inside, back=back)
        for life, window, fading, rooted, inside, back in product(
            (2_000.0, 50.0), (10, 5, 3, 2, 1), (HARMONIC, 0.6), (True, False), (False, True), (0.0, 0.3)
        )
        if window > 1 or fading == HARMONIC
    ]
    return Counting("co-visitation", question, variants)


def own_history(question: Question) -> Counting:
    """What the user clicked before, often and lately."""
    variants = [
        Mixture(half_life=life, own=1.0, own_fading=fading, again=again)
        for life, fading, again in product(
            (500.0, 25.0, 50.0, 100.0, 200.0, 2_000.0, 10_000.0), (0.9, 0.3, 0.5, 0.7, 0.97, 1.0), (True, False)
        )
    ]
    return Counting("own-history", question, variants)


BLENDED: dict[str, Sequence[Any]] = {
    "popular": (0.03, 0.1, 0.3, 1.0),
    "half_life": (10.0, 25.0, 50.0, 100.0, 200.0, 500.0, 2_000.0, 10_000.0),
    "co": (1.0,),
    "window": (2, 3, 5, 10),
    "fading": (HARMONIC, 0.7),
    "in_session": (False, True),
    "back": (0.0, 0.3),
    "following": (0.0, 0.3, 1.0),
    "own": (0.03, 0.1, 0.3, 1.0),
    "own_fading": (0.5, 0.7, 0.9, 0.97),
    "again": (True, False),
    "sharpness": (0.0, 100.0, 1_000.0),
}


def blend(question: Question, seed: int, most: int = 256) -> Counting:
    """All of it together."""
    own = ("own", "own_fading", "again")
    grid = {name: values for name, values in BLENDED.items() if not (question.exclude_seen and name in own)}
    own_weight = 0.0 if question.exclude_seen else 0.3
    picked = [
        Mixture(0.3, 500.0, co=1.0, following=0.3, own=own_weight, sharpness=1_000.0),
        Mixture(0.03, 2_000.0, co=1.0, window=2, back=0.3, own=own_weight / 10),
        Mixture(0.03, 2_000.0, co=1.0, window=5, back=0.3),
    ]
    return Counting("blend", question, [*picked, *(Mixture(**one) for one in drawn(grid, most, seed))])
