"""What every model in a backtest is: it answers clicks, then learns from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from eddyline.model.scores import exclude, ranks, top
from eddyline.replay.ticks import Block, Stream, Tick

__all__ = [
    "Answers",
    "BlockContender",
    "Contender",
    "Question",
    "TickContender",
    "WarmUp",
    "answers_of",
    "joined",
]

Progress = Callable[[float, str], None]


class Question(NamedTuple):
    """How lists are asked for.

    Attributes:
        length: K, items on a list.
        exclude_seen: items of the user's history are no candidates.
    """

    length: int
    exclude_seen: bool


class Answers(NamedTuple):
    """The answers to some clicks, each given before the click.

    Attributes:
        rank: place of the clicked item among the whole catalogue, ties counted against the model; 0 where the item
            was not in the catalogue, (B,).
        top: rows of the K best items, -1 beyond the catalogue, (B, K).
        loss: −log of the probability given to the clicked item, NaN where the model gives none, (B,).
        published: rank of the clicked item on the list that the topic held, 0 where it was not on it, (B,); None
            for a model that publishes nothing.
        held: those lists, as `top`; or None.
        sources: share of each source in the scores of the K best items, see `PARTS`, (len(PARTS),); or None.
    """

    rank: npt.NDArray[np.int32]
    top: npt.NDArray[np.int32]
    loss: npt.NDArray[np.float32]
    published: npt.NDArray[np.int32] | None = None
    held: npt.NDArray[np.int32] | None = None
    sources: npt.NDArray[np.float64] | None = None

    def as_published(self) -> Answers:
        """The answers that the lists on the topic gave; those of a model that publishes nothing are as they are.

        Lists have no probability, and nobody says what they were made of.
        """
        if self.published is None or self.held is None:
            return self
        return Answers(self.published, self.held, np.full_like(self.loss, np.nan))


def joined(answers: Sequence[Answers]) -> Answers:
    """The answers of one model to clicks that came one after the other."""
    if len(answers) == 1:
        return answers[0]
    published = [one.published for one in answers if one.published is not None]
    held = [one.held for one in answers if one.held is not None]
    sources = [one.sources for one in answers if one.sources is not None]
    return Answers(
        np.concatenate([one.rank for one in answers]),
        np.concatenate([one.top for one in answers]),
        np.concatenate([one.loss for one in answers]),
        np.concatenate(published) if published else None,
        np.concatenate(held) if held else None,
        np.sum(sources, 0) if sources else None,
    )


@dataclass(frozen=True)
class WarmUp:
    """The past that a model is trained on before it is asked anything.

    Attributes:
        stream: histories and counts as they stand.
        user, item: hashes of the clicks so far, in order, (n,).
    """

    stream: Stream
    user: npt.NDArray[np.uint64]
    item: npt.NDArray[np.uint64]


class Contender(Protocol):
    """A model in a backtest: what any of them is asked beside the clicks.

    The harness takes it through the first part of the warm-up, `train` once, then clicks: for the rest of the warm-up,
    whose answers do not count; `settle` once; then the clicks that count.
    """

    name: str

    @property
    def chosen(self) -> Mapping[str, object]:
        """Parameters that were chosen on the warm-up, for the report."""

    def train(self, past: WarmUp, on_progress: Progress) -> None:
        """Learn from the past all at once, where the model does such a thing."""

    def settle(self, past: WarmUp, on_progress: Progress) -> None:
        """The warm-up is over: choose among variants, train a last time."""

    def retention(self) -> float | None:
        """Recall@20 on the sample of old clicks, asked now; None for a model that cannot be asked."""


@runtime_checkable
class TickContender(Contender, Protocol):
    """A model that goes from tick to tick, with the counts of the stream: `answer`, then `learn`.

    `learn` is also told the clicks of the first part of the warm-up, which it is not asked about.
    """

    def answer(self, tick: Tick) -> Answers:
        """The answers to the clicks of a tick, before they are counted. The tick's clicks may change states."""

    def learn(self, tick: Tick) -> None:
        """Learn from the clicks of a tick, which are counted by now."""


@runtime_checkable
class BlockContender(Contender, Protocol):
    """A model that takes many ticks at once, and sees to it itself that none knows what comes later."""

    def play(self, block: Block) -> Answers:
        """The answers to the clicks of a block, each before it is counted; afterwards it may learn from them."""


def answers_of(scores: npt.NDArray[np.float32], tick: Tick, question: Question) -> Answers:
    """Ranks and lists from the scores of every item, (B, I); the scores are changed where items are excluded."""
    if question.exclude_seen:
        exclude(scores, tick.history(tick.before["item"].shape[1]))
    rank = np.zeros(len(tick), np.int32)
    ranks(scores, np.full(len(tick), scores.shape[1]), tick.target, rank)
    row = np.full((len(tick), question.length), -1, np.int32)
    top(scores, row, np.full(row.shape, -np.inf, np.float32))
    return Answers(rank, row, np.full(len(tick), np.nan, np.float32))
