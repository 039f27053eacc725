"""The first model from a historical log, made the way the stream would have made it.

    the first 80 % of the clicks   counted by the engine; then encoder, long-term and fusion are trained on them
    the last 20 %                  served with that model, click by click; each is scored before it is learned from

The learner fits the gate on the last part only: the trained layers never saw it, so the gate learns how far they
can be trusted on clicks to come. The scores of that part are what the model would have been worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.model.learner import Learner, LearnerSettings
from eddyline.model.model import Model, untrained_model
from eddyline.replay.pretrain import ClickLog, Pretrained, PretrainSettings, pretrain
from eddyline.replay.runner import Runner
from eddyline.state.errors import EddylineError
from eddyline.state.examples import Examples
from eddyline.state.records import Click, hash_id

__all__ = ["LEAST_CLICKS", "FirstModel", "first_model"]

LEAST_CLICKS = 100
"""Fewer clicks make no model; the trainer asks for as many."""

# The gate has under 2,000 weights and needs little; everything else gains from more clicks to train on.
_FITTED_SHARE = 0.2
# Small, as in a stream that is not behind: most clicks find the counts of the click before them.
_SERVED_BATCH = 64
# Nothing is served while counting, and the counts do not depend on how clicks are cut into batches.
_COUNTED_BATCH = 256


@dataclass(frozen=True)
class FirstModel:
    """The outcome.

    Attributes:
        model: the model, of version 0 until it is stored.
        counts: the whole log's, ready for a stream whose evidence begins at offset 0.
        pretrained: what the training of encoder, long-term and fusion came to.
        scored: clicks of the last part.
        learned: those of them that the gate was fitted on: whose items were known before.
        metrics: recall@20 on the last part of the lists as served, and of decayed popularity on the same clicks;
            the held-out loss of the training.
    """

    model: Model
    counts: Counts
    pretrained: Pretrained
    scored: int
    learned: int
    metrics: dict[str, float]


def first_model(
    clicks: Sequence[Click],
    weights: ClickSettings,
    counts: CountsSettings,
    engine: EngineSettings,
    pretraining: PretrainSettings,
    learning: LearnerSettings,
    on_progress: Callable[[str, float], None] = lambda text, share: None,
) -> FirstModel:
    """Make the first model from a log.

    Args:
        clicks: the log, in the order of time. Kinds of weight 0 are left out.
        weights: of the kinds.
        counts: how much is counted.
        engine: sizes of states, lists, examples.
        pretraining: how encoder, long-term and fusion are trained.
        learning: how the gate is fitted.
        on_progress: told what is being done, and the share of it that is done.

    Raises:
        EddylineError: there is too little to learn from.
    """
    clicks = [click for click in clicks if weights.weight(click.kind)]
    earlier = clicks[: round(len(clicks) * (1 - _FITTED_SHARE))]
    if len(clicks) < LEAST_CLICKS or len({click.user_id for click in earlier}) == len(earlier):
        raise EddylineError(
            f"the log has {len(clicks)} clicks of a weight above 0: want at least {LEAST_CLICKS}, and users who "
            "clicked more than once; check the columns and clicks.weights, or let the trainer learn from the stream"
        )
    # Reasons are for readers of lists, and nobody reads these.
    unread = engine.model_copy(update={"ranking": engine.ranking.model_copy(update={"reasons": 0})})
    runner = Runner(unread, weights, untrained_model(engine.shape.dimension), Counts(counts))
    for begin in range(0, len(earlier), _COUNTED_BATCH):
        runner.feed(earlier[begin : begin + _COUNTED_BATCH])
        on_progress("counting clicks", min(1.0, (begin + _COUNTED_BATCH) / len(earlier)))
    log = ClickLog(
        user=np.array([hash_id(click.user_id) for click in earlier], np.uint64),
        item=np.array([hash_id(click.item_id) for click in earlier], np.uint64),
    )
    trained = pretrain(
        log,
        runner.counts,
        engine.shape,
        pretraining,
        window=engine.ranking.long_term_items,
        on_progress=lambda share, text: on_progress(f"pre-training, {text}", share),
    )
    learner = Learner(learning, engine.shape, engine.ranking.long_term_items, trained.model)
    later = clicks[len(earlier) :]
    metrics = _fit_gate(runner, learner, later, on_progress)
    runner.counts.forget_offsets()
    return FirstModel(
        model=learner.snapshot(0, 0),
        counts=runner.counts,
        pretrained=trained,
        scored=len(later),
        learned=learner.learned,
        metrics={"held_out_loss": trained.loss, **metrics},
    )


def _fit_gate(
    runner: Runner, learner: Learner, clicks: Sequence[Click], on_progress: Callable[[str, float], None]
) -> dict[str, float]:
    """Serve the clicks, score, then learn from them; the scores."""
    ranks, popular_ranks = [], []
    waiting: list[Examples] = []
    runner.engine.swap(_served(learner))
    for begin in range(0, len(clicks), _SERVED_BATCH):
        examples = runner.feed(clicks[begin : begin + _SERVED_BATCH]).examples
        ranks += [one.rank for one in examples]
        popular_ranks += [one.popular_rank for one in examples]
        waiting += examples
        done = begin + _SERVED_BATCH >= len(clicks)
        if done or sum(len(one) for one in waiting) >= learner.settings.batch:
            learner.learn(waiting, runner.counts)
            waiting = []
            runner.engine.swap(_served(learner))
        on_progress("fitting the gate", min(1.0, (begin + _SERVED_BATCH) / len(clicks)))
    ours, popular = (np.concatenate(one) for one in (ranks, popular_ranks))
    return {
        "recall@20": float(((ours > 0) & (ours <= 20)).mean()),
        "recall@20 decayed-popularity": float(((popular > 0) & (popular <= 20)).mean()),
    }


def _served(learner: Learner) -> Model:
    """The weights of now, served as a trained version; examples name it, and no one reads the number."""
    return replace(learner.snapshot(0, 0), version=1)
