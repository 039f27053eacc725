"""A family of models: it tries its variants on the last part of the warm-up and goes on with the best one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from eddyline.replay.contender import Answers, Progress, Question, WarmUp, answers_of
from eddyline.replay.ticks import Tick

__all__ = ["FIRST_ROUND", "Family", "drawn"]

V = TypeVar("V")

FIRST_ROUND = 1000
"""Clicks that every variant answers before the worse half of them is dropped."""


class Family(ABC, Generic[V]):
    """A contender that chooses among variants of itself by NDCG@K, with successive halving.

    All variants answer the first `FIRST_ROUND` clicks they are asked; the better half goes on for twice as many, and
    so on (Jamieson and Talwalkar, AISTATS 2016), so tuning costs about the same whatever the length of the log. The
    answers given meanwhile are those of the variant that was best on the clicks before. `settle` keeps the best.

    Args:
        name: of the contender.
        question: how lists are asked for.
        variants: what to choose from; the first is the default.
    """

    def __init__(self, name: str, question: Question, variants: Sequence[V]) -> None:
        self.name = name
        self.question = question
        self.variants = list(variants)
        self._described = [self.describe(variant) for variant in variants]
        self._gain = np.zeros(len(variants))
        self._asked = 0
        self._round = FIRST_ROUND
        self.settled = False

    @abstractmethod
    def scores(self, variant: V, tick: Tick) -> npt.NDArray[np.float32]:
        """What a variant gives to every item of the catalogue before each click, (B, I)."""

    @abstractmethod
    def describe(self, variant: V) -> dict[str, Any]:
        """The parameters of a variant."""

    @abstractmethod
    def learn(self, tick: Tick) -> None:
        """Learn from the clicks of a tick, which are counted by now."""

    def train(self, past: WarmUp, on_progress: Progress) -> None:
        """Nothing: what there is to learn is learned click by click."""

    def answer(self, tick: Tick) -> Answers:
        """The answers of the variant that was best so far."""
        best = self._best
        if len(self.variants) == 1:
            return answers_of(self.scores(self.variants[0], tick), tick, self.question)
        answers = [answers_of(self.scores(variant, tick), tick, self.question) for variant in self.variants]
        rank = np.stack([one.rank for one in answers])  # (variants, B)
        hit = (rank > 0) & (rank <= self.question.length)
        self._gain += np.where(hit, 1 / np.log2(1.0 + np.maximum(rank, 1)), 0.0).sum(1)
        self._asked += len(tick)
        if self._asked >= self._round:
            self._keep((len(self.variants) + 1) // 2)
            self._round += 2 * self._round
        return answers[best]

    def settle(self, past: WarmUp, on_progress: Progress) -> None:
        """Go on with the best variant alone."""
        self.settled = True
        self._keep(1)

    def retention(self) -> float | None:
        """None: a baseline is not asked about old clicks."""
        return None

    @property
    def chosen(self) -> dict[str, Any]:
        """The parameters of the best variant so far, of those that differ among the variants."""
        best = self.describe(self.variants[self._best])
        return {name: value for name, value in best.items() if any(one[name] != value for one in self._described)}

    @property
    def _best(self) -> int:
        return int(np.argmax(self._gain))

    def _keep(self, count: int) -> None:
        kept = np.sort(np.argsort(-self._gain, kind="stable")[:count])
        self.variants = [self.variants[n] for n in kept]
        self._gain = self._gain[kept]


def drawn(grid: Mapping[str, Sequence[Any]], most: int, seed: int) -> list[dict[str, Any]]:
    """At most `most` distinct points of a grid (random search: Bergstra and Bengio, JMLR 2012)."""
    random = np.random.default_rng(seed)
    sizes = [len(values) for values in grid.values()]
    places = random.choice(math.prod(sizes), min(most, math.prod(sizes)), replace=False)
    return [
        {name: values[int(at)] for (name, values), at in zip(grid.items(), point, strict=True)}
        for point in zip(*np.unravel_index(places, sizes), strict=True)
    ]
