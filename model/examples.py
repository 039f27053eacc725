"""Making examples: what the learner needs of each click, small enough to travel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from eddyline.model.compiled import compiled
from eddyline.model.ranking import Ranking, View
from eddyline.state.examples import Examples
from eddyline.state.user_state import UserStates

__all__ = ["ExampleSettings", "make_examples"]


class ExampleSettings(BaseModel):
    """What is logged to learn from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(64, ge=4, le=256, description="Strongest candidates logged with each example")
    popular: int = Field(64, ge=0, description="Popular items in the pool of each message")
    uniform: int = Field(256, ge=1, description="Uniformly drawn items in the pool of each message")
    batch: int = Field(128, ge=1, le=128, description="Most examples in one message (about 4 kB each)")


def make_examples(
    settings: ExampleSettings,
    ranking: Ranking,
    view: View,
    before: UserStates,
    target: npt.NDArray[np.int32],
    user: npt.NDArray[np.uint64],
    item: npt.NDArray[np.uint64],
    ts_ms: npt.NDArray[np.int64],
    partition: npt.NDArray[np.int32],
    offset: npt.NDArray[np.int64],
    weight: npt.NDArray[np.float32],
    random: np.random.Generator,
) -> list[Examples]:
    """Examples of B clicks, which are the first B users of the view, in messages of at most `batch`.

    Args:
        settings: sizes.
        ranking: what made the view.
        view: what the model saw before the clicks.
        before: the users' states before the clicks, (B,).
        target: row of the clicked item, -1 where it was not in the evidence yet, (B,).
        user, item, ts_ms, partition, offset, weight: the clicks, (B,).
        random: draws the uniform part of the pools.
    """
    popular = view.dense[:, 1]
    by_popularity = np.sort(popular)
    head = np.argsort(-popular, kind="stable")[: settings.popular].astype(np.int32)
    messages = []
    for begin in range(0, len(before), settings.batch):
        end = min(len(before), begin + settings.batch)
        part = slice(begin, end)
        start, candidate, evidence, rank = _score(settings, ranking, view, begin, end, target[part])
        known = target[part][target[part] >= 0]
        pool, log_odds = _pool(settings, len(popular), np.concatenate([candidate, known, head]), random)
        popular_rank = np.zeros(end - begin, np.int32)
        above = len(popular) - np.searchsorted(by_popularity, popular[known], side="left")
        popular_rank[target[part] >= 0] = above
        states = before[part]
        messages.append(
            Examples(
                encoder=np.array([ranking.model.encoder_id], np.uint64),
                model_version=np.array([ranking.model.version], np.int64),
                user=user[part],
                item=item[part],
                ts_ms=ts_ms[part],
                partition=partition[part],
                offset=offset[part],
                weight=weight[part],
                rank=rank,
                popular_rank=popular_rank,
                h=states["h"].astype(np.float16),
                ring=np.ascontiguousarray(states["ring"]),
                ring_length=states["ring_length"].astype(np.uint8),
                history=np.ascontiguousarray(view.candidates.history[part]),
                context=view.candidates.context[part],
                start=start,
                candidate=candidate,
                evidence=evidence,
                pool=pool,
                pool_dense=view.dense[pool].astype(np.float16),
                pool_log_odds=log_odds,
                forget=np.zeros(0, np.uint64),
            )
        )
    return messages


def _score(
    settings: ExampleSettings,
    ranking: Ranking,
    view: View,
    begin: int,
    end: int,
    target: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float16], npt.NDArray[np.int32]]:
    """Ranks of the targets, and the candidates worth logging: (start, candidate, evidence, rank)."""
    scores = ranking.scores(view, begin, end).numpy()
    rank = np.zeros(len(target), np.int32)
    _rank(scores, target, rank)
    origin = view.candidates.start[begin : end + 1]
    chosen = np.zeros(origin[-1] - origin[0], np.bool_)
    found = view.candidates.item[origin[0] : origin[-1]]
    _choose(scores, origin - origin[0], found, target, settings.candidates, chosen)
    start = np.concatenate([[0], np.cumsum(chosen)])[origin - origin[0]].astype(np.int32)
    evidence = view.candidates.evidence[origin[0] : origin[-1]][chosen].astype(np.float16)
    return start, found[chosen], evidence, rank


def _pool(
    settings: ExampleSettings, items: int, sure: npt.NDArray[np.int32], random: np.random.Generator
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The rows of the pool, and the log odds of the ones that only a draw brought in."""
    surely = np.zeros(items, np.bool_)
    surely[sure] = True
    drawn = random.integers(0, max(1, items), min(settings.uniform, items))
    pool = np.flatnonzero(surely)
    extra = np.unique(drawn[~surely[drawn]])
    odds = np.zeros(len(pool) + len(extra), np.float32)
    if len(extra):
        odds[len(pool) :] = -np.log(-np.expm1(len(drawn) * np.log1p(-1.0 / items))) if items > 1 else 0.0
    return np.concatenate([pool, extra]).astype(np.int32), odds


@compiled
def _rank(scores: npt.NDArray[np.float32], target: npt.NDArray[np.int32], out: npt.NDArray[np.int32]) -> None:
    """How many items score at least as high as the target, itself included; 0 where it is unknown."""
    for b in range(len(target)):
        if target[b] >= 0:
            own = scores[b, target[b]]
            above = 0
            for i in range(scores.shape[1]):
                above += scores[b, i] >= own
            out[b] = above


@compiled
def _choose(
    scores: npt.NDArray[np.float32],
    start: npt.NDArray[np.int64],
    item: npt.NDArray[np.int32],
    target: npt.NDArray[np.int32],
    most: int,
    out: npt.NDArray[np.bool_],
) -> None:
    """Mark each user's `most` candidates of the highest score, and the target if it is a candidate."""
    for b in range(len(target)):
        begin, end = start[b], start[b + 1]
        least = np.float32(-np.inf)
        if end - begin > most:
            z = np.empty(end - begin, np.float32)
            for n in range(begin, end):
                z[n - begin] = scores[b, item[n]]
            least = np.partition(z, len(z) - most)[len(z) - most]
        kept = 0
        for n in range(begin, end):
            if scores[b, item[n]] >= least and kept < most:
                out[n] = True
                kept += 1
            elif item[n] == target[b]:
                out[n] = True
