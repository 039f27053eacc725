"""Eddyline itself in a backtest: the engine, the learner and the refreshes that run in the stream, in event time.

The warm-up makes the first model as `pretrain` does: its first part trains encoder, long-term and fusion; the rest is
served with them, and the learner fits the gate on it. From then on the learner learns as the trainer does, and its
weights are served from the next refresh on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from eddyline.model.buffer import BufferSettings, ReplayBuffer
from eddyline.model.counts import Counts
from eddyline.model.engine import Engine, EngineSettings, last_ms
from eddyline.model.learner import Learner, LearnerSettings
from eddyline.model.losses import side_by_side
from eddyline.model.model import Model, untrained_model
from eddyline.model.parts import Ablation, Part
from eddyline.model.remembered import remember
from eddyline.replay.contender import Answers, Progress, Question, WarmUp
from eddyline.replay.pretrain import ClickLog, PretrainSettings, pretrain
from eddyline.replay.published import Published, RefreshPolicy
from eddyline.replay.tensorboard import OnStep
from eddyline.replay.ticks import Block, UserTable
from eddyline.state.evidence import Evidence
from eddyline.state.examples import Examples
from eddyline.state.user_state import new_states

__all__ = ["Eddyline", "PipelineSettings"]


@dataclass(frozen=True)
class PipelineSettings:
    """What the stream's services would be run with.

    Attributes:
        engine, learner, pretrain: of the model.
        weights_every_ms: event time between two refreshes of the served weights.
        publish_examples: examples learned at least between two of them.
        refresh: when published lists are made anew.
    """

    engine: EngineSettings
    learner: LearnerSettings
    pretrain: PretrainSettings
    weights_every_ms: int
    publish_examples: int
    refresh: RefreshPolicy


_ASKED_AGAIN = 2_000
"""Old clicks asked again for the retention."""

_SOURCES_EVERY = 32
"""Of so many clicks of a block one tells what its list is made of."""


def _served(learner: Learner) -> Model:
    """The weights of now, served as a trained version; examples name it, and no one reads the number."""
    return replace(learner.snapshot(0, 0), version=1)


class Eddyline:
    """The product as a contender, whole or without a part.

    Args:
        settings: what the services would be run with.
        question: how lists are asked for.
        published: whether the lists on the topic are followed too; it takes twice the time.
        without: what is left out.
        seed: of everything drawn.

    Attributes:
        on_step: told after each step of the learner.
    """

    def __init__(
        self,
        settings: PipelineSettings,
        question: Question,
        *,
        published: bool = False,
        without: Ablation | None = None,
        seed: int = 0,
    ) -> None:
        self.name = f"eddyline-without-{without}" if without else "eddyline"
        self._settings = settings
        self._parts = tuple(part for part in get_args(Part) if part == without)
        self._online = without != "online"
        self._learning = settings.learner
        if without == "replay":
            self._learning = self._learning.model_copy(update={"replayed": 0})
        self._seed = seed
        self.on_step: OnStep | None = None
        ranking = settings.engine.ranking.model_copy(
            update={"length": question.length, "exclude_seen": question.exclude_seen, "reasons": 0}
        )
        self._engine = Engine(
            settings.engine.model_copy(update={"ranking": ranking}),
            untrained_model(settings.engine.shape.dimension, self._parts),
            seed,
        )
        self._users = UserTable(settings.engine.shape)
        self._published = Published(question.length, settings.refresh) if published else None
        self._learner: Learner | None = None
        self._waiting: list[Examples] = []
        self._since_refresh = 0
        self._refreshed_ms = 0
        self._settled = False
        shape, history = settings.engine.shape, settings.engine.ranking.long_term_items
        self._old = ReplayBuffer(BufferSettings(capacity=_ASKED_AGAIN), shape, history, seed)
        self._counts = Counts()
        self._uncounted: list[Evidence] = []  # of a tick that is not over yet

    @property
    def chosen(self) -> Mapping[str, object]:
        """Nothing: one setting for every log."""
        return {}

    def train(self, past: WarmUp, on_progress: Progress) -> None:
        """Train encoder, long-term and fusion; then every user's state is made anew with that encoder."""
        engine = self._settings.engine
        model = untrained_model(engine.shape.dimension, self._parts)
        if "neural" not in self._parts:
            trained = pretrain(
                ClickLog(past.user, past.item),
                past.stream.counts,
                engine.shape,
                self._settings.pretrain,
                window=engine.ranking.long_term_items,
                seed=self._seed,
                without=self._parts,
                on_progress=on_progress,
            )
            model = trained.model
        counts = past.stream.counts
        self._counts = Counts.from_arrays(counts.settings, counts.ids, counts.to_arrays())
        known = past.stream.users.rows
        states = self._users.at(np.arange(len(known)))
        for name in ("partition", "offset", "clicks", "session", "session_length", "history_length", "item", "ts_ms"):
            states[name] = known[name]
        self._users.put(np.arange(len(known)), states)
        if self._published is not None:
            by_time = np.argsort(last_ms(states), kind="stable")
            self._published.active.note(by_time[states["history_length"][by_time] > 0].tolist())
        self._learner = Learner(self._learning, engine.shape, engine.ranking.long_term_items, model, self._seed)
        self._engine.swap(_served(self._learner))

    def play(self, block: Block) -> Answers:
        """One step of the engine through all ticks of the block; then the learner's turn, as in the stream."""
        topic = self._published
        again = topic.again(block) if topic is not None else None
        step = self._engine.step(
            block.clicks,
            self._users.at(block.users),
            self._counts,
            block.ends,
            lists=topic is not None,
            answers=True,
            again=again,
        )
        self._users.put(block.users, step.states)
        self._waiting += step.examples
        asked = np.arange(0, len(block), _SOURCES_EVERY)
        sources = self._engine.ranking.sources(step.view, asked, step.judged.top[asked])
        published, held = topic.follow(block, step, again) if topic is not None and again is not None else (None, None)
        self._uncounted.append(step.evidence)
        if block.closed:
            for evidence in self._uncounted:
                self._counts.fold(evidence)
            self._uncounted = []
        self._learn(len(block))
        if block.closed:
            self._refresh(int(block.clicks.ts_ms[-1]))
        return Answers(step.judged.rank, step.judged.top, step.judged.loss, published, held, sources)

    def _learn(self, block: int) -> None:
        """Learn as the trainer does, from the examples that wait: of so many blocks as are nearest to a step's.

        A block is often a click or two short of a whole number of steps. Waiting for the next one would make steps,
        and the refreshes that wait for them, twice as rare as in the stream.
        """
        learner = self._learner
        if learner is None or sum(len(one) for one in self._waiting) + block / 2 < learner.settings.batch:
            return
        if not self._settled and (old := side_by_side(self._waiting, self._counts, learner.encoder_id)):
            remember(self._old, old)
        if self._online or not self._settled:
            losses = learner.learn(self._waiting, self._counts)
            if losses is not None and self.on_step is not None:
                self.on_step(learner, self._waiting, losses)
            self._since_refresh += learner.settings.batch
        self._waiting = []

    def _refresh(self, now_ms: int) -> None:
        """Serve what was learned, and make the lists on the topic anew, when it is time to."""
        learner = self._learner
        if learner is None:
            return
        enough = self._settings.publish_examples if self._settled else learner.settings.batch
        if self._since_refresh < enough or now_ms - self._refreshed_ms < self._settings.weights_every_ms:
            return
        self._engine.swap(_served(learner))
        self._since_refresh = 0
        self._refreshed_ms = now_ms
        if self._published is not None:
            nobody = new_states(self._settings.engine.shape, 1)
            self._published.newcomers = self._engine.recommend(nobody, self._counts.clock_ms, self._counts).item[0]
            rows = np.array(list(self._published.active), np.int64)
            for part in np.array_split(rows, max(1, len(rows) // 256)):
                lists = self._engine.recommend(self._users.at(part), self._counts.clock_ms, self._counts)
                self._published.put(part, lists.item)

    def settle(self, past: WarmUp, on_progress: Progress) -> None:
        """The gate is fitted: from now on weights are published at the stream's pace."""
        self._settled = True

    def retention(self) -> float | None:
        """Of the neural part, on a sample of the warm-up's last part; None if that is too short for any."""
        if self._learner is None or "neural" in self._parts or not len(self._old):
            return None
        return self._learner.recall(self._old, self._counts, 20)
