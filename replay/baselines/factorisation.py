"""Incremental matrix factorisation with Bayesian personalised ranking.

Each click of user u on item i, with an item j drawn at random, is one step of gradient descent on

    −log σ(x_ui − x_uj) + λ/2 · (|p_u|² + |q_i|² + |q_j|²),    x_ui = p_u · q_i + b_i

(Rendle et al., "BPR", UAI 2009), many times over the warm-up and then click by click as in ISGD (Vinagre et al.,
UMAP 2014). Users and items get their rows when they first click and are first clicked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled
from eddyline.replay.baselines.family import Family, drawn
from eddyline.replay.contender import Progress, Question, WarmUp
from eddyline.replay.ticks import Tick

__all__ = ["Bpr", "BprMf", "Factors"]

NEWEST = 10_000
"""Newest clicks, to draw from."""

GRID: dict[str, tuple[Any, ...]] = {
    "dimension": (32, 64),
    "rate": (0.05, 0.1, 0.2, 0.4),
    "regularisation": (0.01, 0.03, 0.06),
    "popular": (False, True),
    "steps": (1, 4, 16, 48),
    "epochs": (20, 5),
}


class Bpr(NamedTuple):
    """Parameters.

    Attributes:
        dimension: D.
        rate: learning rate.
        regularisation: λ.
        popular: the other item is drawn from the newest clicks, else from the catalogue.
        steps: steps per click while the stream runs, each with another item drawn.
        epochs: passes over the warm-up.
    """

    dimension: int = 32
    rate: float = 0.2
    regularisation: float = 0.03
    popular: bool = True
    steps: int = 16
    epochs: int = 5


class Factors:
    """One factorisation.

    Args:
        settings: parameters.
        seed: of first factors and draws.
    """

    def __init__(self, settings: Bpr, seed: int) -> None:
        self.settings = settings
        self._random = np.random.default_rng(seed)
        self.user = np.zeros((0, settings.dimension), np.float32)
        self.item = np.zeros((0, settings.dimension), np.float32)
        self.bias = np.zeros(0, np.float32)

    def step(
        self, users: npt.NDArray[np.int64], items: npt.NDArray[np.int32], pool: npt.NDArray[np.int32], steps: int
    ) -> None:
        """Learn clicks of users on items, (B,); other items are drawn from the pool."""
        self.user = self._reach(self.user, int(users.max(initial=-1)))
        self.item = self._reach(self.item, max(int(items.max(initial=-1)), int(pool.max(initial=-1))))
        self.bias = np.append(self.bias, np.zeros(len(self.item) - len(self.bias), np.float32))
        other = pool[self._random.integers(0, len(pool), len(users) * steps)].reshape(-1, steps)
        rate, regularisation = np.float32(self.settings.rate), np.float32(self.settings.regularisation)
        _step(users, items, other, rate, regularisation, self.user, self.item, self.bias)

    def scores(self, users: npt.NDArray[np.int64], items: int) -> npt.NDArray[np.float32]:
        """Scores x of the first `items` items, (B, I); a user without a row has only the biases."""
        known = users < len(self.user)
        scores = np.zeros((len(users), items), np.float32)
        rows = min(items, len(self.item))
        vectors = np.zeros((len(users), self.settings.dimension), np.float32)
        vectors[known] = self.user[users[known]]
        np.matmul(vectors, self.item[:rows].T, out=scores[:, :rows])
        scores[:, :rows] += self.bias[:rows]
        return scores

    def _reach(self, table: npt.NDArray[np.float32], row: int) -> npt.NDArray[np.float32]:
        """The table with this row in it."""
        if row < len(table):
            return table
        more = max(len(table), row + 1 - len(table), 64)
        fresh = self._random.normal(0.0, 0.1, (more, table.shape[1])) / self.settings.dimension**0.5
        return np.concatenate([table, fresh.astype(np.float32)])


class BprMf(Family[Factors]):
    """The contender.

    Args:
        question: how lists are asked for.
        seed: of variants, first factors and draws.
        most: variants.
    """

    def __init__(self, question: Question, seed: int, most: int = 24) -> None:
        variants = [Bpr(), *(Bpr(**one) for one in drawn(GRID, most, seed))]
        super().__init__("bpr-mf", question, [Factors(one, seed) for one in variants])
        self._random = np.random.default_rng(seed)
        self._users: list[npt.NDArray[np.int64]] = []
        self._items: list[npt.NDArray[np.int32]] = []
        self._trained = False
        self._clicked = np.zeros(NEWEST, np.int32)
        self._seen = 0

    def describe(self, variant: Factors) -> dict[str, Any]:
        """The parameters."""
        return variant.settings._asdict()

    def train(self, past: WarmUp, on_progress: Progress) -> None:
        """Pass over the clicks so far, in random order."""
        self._trained = True
        if not self._users:
            return
        users, items = np.concatenate(self._users), np.concatenate(self._items)
        self._users, self._items = [], []
        catalogue = np.arange(len(past.stream.counts), dtype=np.int32)
        for n, variant in enumerate(self.variants):
            on_progress(n / len(self.variants), f"bpr-mf: variant {n + 1} of {len(self.variants)}")
            for _ in range(variant.settings.epochs):
                order = self._random.permutation(len(users))
                variant.step(users[order], items[order], items if variant.settings.popular else catalogue, 1)

    def learn(self, tick: Tick) -> None:
        """A few steps per click; before training the clicks are only gathered."""
        users, items = tick.users[tick.clicks.user], tick.counts.rows(tick.clicks.item)
        self._remember(items)
        if not self._trained:
            self._users.append(users)
            self._items.append(items)
            return
        catalogue = np.arange(len(tick.counts), dtype=np.int32)
        for variant in self.variants:
            pool = self._clicked[: self._seen] if variant.settings.popular else catalogue
            variant.step(users, items, pool, variant.settings.steps)

    def scores(self, variant: Factors, tick: Tick) -> npt.NDArray[np.float32]:
        """Scores x of every item, (B, I)."""
        return variant.scores(tick.users[tick.clicks.user], len(tick.counts))

    def _remember(self, items: npt.NDArray[np.int32]) -> None:
        """Keep the newest clicks, to draw from."""
        places = np.arange(self._seen, self._seen + len(items)) % NEWEST
        self._clicked[places] = items
        self._seen += len(items)


@compiled
def _step(
    users: npt.NDArray[np.int64],
    items: npt.NDArray[np.int32],
    other: npt.NDArray[np.int32],
    rate: np.float32,
    regularisation: np.float32,
    user: npt.NDArray[np.float32],
    item: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
) -> None:
    one = np.float32(1.0)
    for b in range(len(users)):
        p, q = user[users[b]], item[items[b]]
        for n in range(other.shape[1]):
            j = other[b, n]
            if j == items[b]:
                continue
            r = item[j]
            x = bias[items[b]] - bias[j]
            for d in range(len(p)):
                x += p[d] * (q[d] - r[d])
            pull = one / (one + np.exp(x))
            bias[items[b]] += rate * (pull - regularisation * bias[items[b]])
            bias[j] -= rate * (pull + regularisation * bias[j])
            for d in range(len(p)):
                p_d, q_d, r_d = p[d], q[d], r[d]
                p[d] += rate * (pull * (q_d - r_d) - regularisation * p_d)
                q[d] += rate * (pull * p_d - regularisation * q_d)
                r[d] -= rate * (pull * p_d + regularisation * r_d)
