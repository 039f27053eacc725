"""Recommenders of other projects behind the same interface: `pip install 'eddyline[peers]'`.

`implicit-als`: weighted matrix factorisation (Hu, Koren and Volinsky, ICDM 2008) of the package `implicit`. The item
factors Y are trained on the warm-up and never again; a user's factors are solved for from the history at each click,
with c_n = α · clicks on item n and its confidence,

    p = (YᵀY + λI + Σ_n (c_n − 1) y_n y_nᵀ)⁻¹ Σ_n c_n y_n,    z_i = p · y_i

`rtrec-slim`: streaming SLIM (Ning and Karypis, ICDM 2011) of the package `rtrec`. A click is in the user's history at
once; the weights of the items clicked since are fitted again every `REFIT` clicks, which takes milliseconds per item.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eddyline.replay.baselines.family import Family
from eddyline.replay.contender import Contender, Progress, Question, WarmUp
from eddyline.replay.ticks import Tick
from eddyline.state.errors import ConfigurationError

__all__ = ["PEERS", "ImplicitAls", "RtrecSlim"]

REFIT = 100


class Als(NamedTuple):
    """Parameters of `implicit`: D, λ, α and passes."""

    factors: int = 64
    regularization: float = 0.05
    alpha: float = 10.0
    iterations: int = 15


class Slim(NamedTuple):
    """Parameters of `rtrec`: weight of the penalty, and days in which a click loses half its value (none: never)."""

    alpha: float = 0.1
    decay_in_days: int | None = None


class AlsModel:
    """Item factors, none before training."""

    def __init__(self, settings: Als) -> None:
        self.settings = settings
        self.item = np.zeros((0, settings.factors), np.float32)
        self.square = np.zeros((settings.factors, settings.factors), np.float32)

    def user(self, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Factors of a user from the rows of the history, (D,)."""
        items, times = np.unique(rows[(rows >= 0) & (rows < len(self.item))], return_counts=True)
        confidence = (self.settings.alpha * times).astype(np.float32)
        known = self.item[items]
        square = self.square + (known * (confidence - 1)[:, None]).T @ known
        found: npt.NDArray[np.float32] = np.linalg.solve(square, confidence @ known)
        return found


class ImplicitAls(Family[AlsModel]):
    """The contender `implicit-als`.

    Args:
        question: how lists are asked for.
        seed: of first factors.

    Raises:
        ConfigurationError: `implicit` is not installed.
    """

    def __init__(self, question: Question, seed: int) -> None:
        self._als = _package("implicit-als", "implicit.als").AlternatingLeastSquares
        self._sparse = _package("implicit-als", "scipy.sparse")
        variants = [Als(), Als(alpha=1.5), Als(alpha=40.0), Als(factors=32), Als(regularization=1.0)]
        super().__init__("implicit-als", question, [AlsModel(one) for one in variants])
        self._seed = seed
        self._users: list[npt.NDArray[np.int64]] = []
        self._items: list[npt.NDArray[np.int32]] = []

    def describe(self, variant: AlsModel) -> dict[str, Any]:
        """The parameters."""
        return variant.settings._asdict()

    def train(self, past: WarmUp, on_progress: Progress) -> None:
        """Train every variant on the clicks so far."""
        if not self._users:
            return
        users, items = np.concatenate(self._users), np.concatenate(self._items)
        clicks = self._sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)))  # duplicates add up
        for n, variant in enumerate(self.variants):
            on_progress(n / len(self.variants), f"implicit-als: variant {n + 1} of {len(self.variants)}")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "OpenBLAS is configured", RuntimeWarning)
                model = self._als(**variant.settings._asdict(), num_threads=1, random_state=self._seed)
                model.fit(clicks, show_progress=False)
            ridge = variant.settings.regularization * np.eye(variant.settings.factors, dtype=np.float32)
            variant.item = np.asarray(model.item_factors, np.float32)
            variant.square = variant.item.T @ variant.item + ridge

    def settle(self, past: WarmUp, on_progress: Progress) -> None:
        """Train the best variant on the whole warm-up."""
        super().settle(past, on_progress)
        self.train(past, on_progress)
        self._users, self._items = [], []

    def learn(self, tick: Tick) -> None:
        """Gather clicks until the warm-up is over."""
        if not self.settled:
            self._users.append(tick.users[tick.clicks.user])
            self._items.append(tick.counts.rows(tick.clicks.item))

    def scores(self, variant: AlsModel, tick: Tick) -> npt.NDArray[np.float32]:
        """The formula's z, −∞ for items that came after the training, (B, I)."""
        scores = np.full((len(tick), len(tick.counts)), -np.inf, np.float32)
        if len(variant.item):
            history = tick.history(tick.before["item"].shape[1])
            for b in range(len(tick)):
                scores[b, : len(variant.item)] = variant.item @ variant.user(history[b])
        return scores


class SlimModel:
    """A model of `rtrec`, and its weights by rows."""

    def __init__(self, settings: Slim, model: Any) -> None:
        self.settings = settings
        self.model = model
        self.weights: Any = None

    def scores(self, user: int, items: int) -> npt.NDArray[np.float32]:
        """What the user's items give to each of `items` items, (I,); the items in vogue for a user without any."""
        scores = np.zeros(items, np.float32)
        clicked = self.model.interactions
        mine = clicked.get_user_items(user)
        if self.weights is not None and mine:
            fitted = [item for item in mine if item < self.weights.shape[0]]
            worth = np.array([clicked.get_user_item_rating(user, item) for item in fitted], np.float32)
            scores[: self.weights.shape[1]] = self.weights[fitted].T @ worth
        elif items:
            hot = clicked.get_hot_items(min(items, 100), filter_interacted=False)
            scores[hot] = np.arange(len(hot), 0, -1)
        return scores


class RtrecSlim(Family[SlimModel]):
    """The contender `rtrec-slim`.

    Args:
        question: how lists are asked for.
        seed: of the solver.

    Raises:
        ConfigurationError: `rtrec` is not installed.
    """

    def __init__(self, question: Question, seed: int) -> None:
        slim = _package("rtrec-slim", "rtrec.models.slim").SLIM
        variants = [Slim(), *(Slim(alpha, days) for alpha in (0.01, 1e-3, 1e-4) for days in (None, 7))]
        models = [SlimModel(one, slim(min_value=0, random_state=seed, **one._asdict())) for one in variants]
        super().__init__("rtrec-slim", question, models)
        self._fresh: list[tuple[int, int, float, float]] = []
        self._trained = False

    def describe(self, variant: SlimModel) -> dict[str, Any]:
        """The parameters."""
        return variant.settings._asdict()

    def train(self, past: WarmUp, on_progress: Progress) -> None:
        """Fit the weights of all items."""
        self._trained = True
        for n, variant in enumerate(self.variants):
            on_progress(n / len(self.variants), f"rtrec-slim: variant {n + 1} of {len(self.variants)}")
            if self._fresh:
                variant.model.bulk_fit(parallel=False, progress_bar=False)
                variant.weights = variant.model.model.item_similarity.tocsr()
        self._fresh = []

    def learn(self, tick: Tick) -> None:
        """Take the clicks into the histories, and now and then into the weights."""
        users, items = tick.users[tick.clicks.user], tick.counts.rows(tick.clicks.item)
        seconds = (tick.clicks.ts_ms / 1000).tolist()
        clicks = [(u, i, s, 1.0) for u, i, s in zip(users.tolist(), items.tolist(), seconds, strict=True)]
        self._fresh += clicks
        fit = self._trained and len(self._fresh) >= REFIT
        for variant in self.variants:
            variant.model.add_interactions(clicks, update_interaction=True)
            if fit:
                variant.model.fit(self._fresh, update_interaction=True, progress_bar=False)
                variant.weights = variant.model.model.item_similarity.tocsr()
        if fit:
            self._fresh = []

    def scores(self, variant: SlimModel, tick: Tick) -> npt.NDArray[np.float32]:
        """What the user's items give to each item, (B, I)."""
        users = tick.users[tick.clicks.user].tolist()
        scores = [variant.scores(user, len(tick.counts)) for user in users]
        return np.stack(scores)


PEERS: Mapping[str, Callable[[Question, int], Contender]] = MappingProxyType(
    {"implicit-als": ImplicitAls, "rtrec-slim": RtrecSlim}
)
"""What makes each peer from a question and a seed, by its name."""


def _package(peer: str, module: str) -> Any:
    """A module of another project."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"the peer {peer} needs {error.name or module}, which is not installed: pip install 'eddyline[peers]'"
        ) from error
