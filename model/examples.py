"""Making examples: what the learner needs of each click, small enough to travel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from eddyline.model.compiled import compiled
from eddyline.model.dense import DENSE
from eddyline.model.losses import drawn_odds
from eddyline.model.model import Model
from eddyline.model.ranking import Judged, View
from eddyline.model.scores import top
from eddyline.state.evidence import Evidence
from eddyline.state.examples import Examples
from eddyline.state.user_state import UserStates

__all__ = ["ExampleSettings", "make_examples"]


class ExampleSettings(BaseModel):
    """What is logged to learn from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(64, ge=4, le=256, description="Strongest candidates logged with each example")
    popular: int = Field(64, ge=0, description="Popular items in the pool of each message")
    uniform: int = Field(256, ge=1, description="Uniformly drawn items in the pool of each message")
    batch: int = Field(128, ge=1, le=128, description="Most examples in one message (each about 4 kB)")


def make_examples(
    settings: ExampleSettings,
    model: Model,
    view: View,
    judged: Judged,
    before: UserStates,
    user: npt.NDArray[np.uint64],
    target: npt.NDArray[np.int32],
    evidence: Evidence,
    random: np.random.Generator,
) -> list[Examples]:
    """Examples of the B clicks of the users of a view, in messages of bounded size.

    Args:
        settings: sizes.
        model: what made the view.
        view: what the model saw before the clicks.
        judged: what was read off its scores.
        before: the users' states before the clicks, (B,).
        user: hashes of the users, (B,).
        target: row of the clicked item, -1 where it was not in the evidence yet, (B,).
        evidence: the clicks.
        random: draws the uniform part of the pools.
    """
    popular_rank = np.zeros(len(before), np.int32)
    _popular_ranks(view.dense, view.moment, view.known, target, popular_rank)
    found = view.candidates
    chosen = np.concatenate([[0], np.cumsum(judged.chosen)])[found.start]  # where each user's chosen candidates begin
    candidate, sparse = found.item[judged.chosen], _half(found.evidence[judged.chosen])
    dense = _half(view.candidate_dense[judged.chosen, : len(DENSE)])
    messages = []
    for begin in range(0, len(before), settings.batch):
        end = min(len(before), begin + settings.batch)
        part, logged = slice(begin, end), slice(int(chosen[begin]), int(chosen[end]))
        first, last = int(view.moment[begin]), int(view.moment[end - 1])
        popular = _most_popular(settings.popular, view.dense[last, _POPULAR, : view.known[last]])
        sure = np.concatenate([target[part][target[part] >= 0], popular])
        pool, log_odds = _pool(settings, int(view.known[last]), sure, random)
        pool_dense = np.empty((1 + last - first, len(DENSE), len(pool)), np.float32)
        _take(view.dense, first, pool, pool_dense)
        states = before[part]
        messages.append(
            Examples(
                encoder=np.array([model.encoder_id], np.uint64),
                model_version=np.array([model.version], np.int64),
                user=user[part],
                item=evidence.item[part],
                ts_ms=evidence.ts_ms[part],
                partition=evidence.partition[part],
                offset=evidence.offset[part],
                weight=evidence.weight[part],
                rank=judged.rank[part],
                popular_rank=popular_rank[part],
                h=states["h"].astype(np.float16),
                ring=np.ascontiguousarray(states["ring"]),
                ring_length=states["ring_length"].astype(np.uint8),
                history=np.ascontiguousarray(found.history[part]),
                context=found.context[part],
                start=(chosen[begin : end + 1] - chosen[begin]).astype(np.int32),
                candidate=candidate[logged],
                evidence=sparse[logged],
                dense=dense[logged],
                moment=(view.moment[part] - first).astype(np.uint8),
                known=view.known[first : last + 1].astype(np.int32),
                pool=pool,
                pool_dense=_half(pool_dense),
                pool_log_odds=log_odds,
                forget=np.zeros(0, np.uint64),
            )
        )
    return messages


_POPULAR = DENSE.index("popular_3000")


def _most_popular(most: int, popular: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    row = np.full(min(most, len(popular)), -1, np.int32)
    if len(row):
        top(popular[None], row[None], np.full((1, len(row)), -np.inf, np.float32))
    return row


def _half(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """In half precision; numpy converts one number at a time."""
    half: npt.NDArray[np.float16] = torch.from_numpy(array).half().numpy()
    return half


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
        odds[len(pool) :] = drawn_odds(len(drawn), items)
    return np.concatenate([pool, extra]).astype(np.int32), odds


@compiled
def _popular_ranks(
    dense: npt.NDArray[np.float32],
    moment: npt.NDArray[np.int64],
    known: npt.NDArray[np.int64],
    target: npt.NDArray[np.int32],
    out: npt.NDArray[np.int32],
) -> None:
    """Place of each target by decayed popularity at its moment, ties counted against it; 0 where it is unknown."""
    for b in range(len(target)):
        if target[b] >= 0:
            popular = dense[moment[b], _POPULAR]
            own = popular[target[b]]
            above = np.int32(0)
            for i in range(known[moment[b]]):
                above += np.int32(popular[i] >= own)
            out[b] = above


@compiled
def _take(dense: npt.NDArray[np.float32], first: int, row: npt.NDArray[np.int32], out: npt.NDArray[np.float32]) -> None:
    """The dense evidence of the rows at the moments from `first` on."""
    for m in range(out.shape[0]):
        for k in range(out.shape[1]):
            of, to = dense[first + m, k], out[m, k]
            for p in range(len(row)):
                to[p] = of[row[p]]
