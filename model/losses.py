"""The losses of the learner: examples put side by side, the pool they are told apart from, and cross-entropies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eddyline.model.buffer import ReplayBuffer
from eddyline.model.counts import Counts
from eddyline.model.fusion import SHARPNESS, Network
from eddyline.model.long_term import history_mean
from eddyline.state.examples import Examples

__all__ = [
    "Pool",
    "Served",
    "cross_entropy",
    "make_pool",
    "neural_scores",
    "remember",
    "replayed_rows",
    "score_loss",
    "side_by_side",
]


class Pool(NamedTuple):
    """Items that a batch of examples is told apart from.

    Attributes:
        rows: every row involved, pool and history, (R,).
        items: places in `rows` that make the pool, (P,).
        odds: log odds of the drawn ones, (P,).
    """

    rows: npt.NDArray[np.int64]
    items: Tensor
    odds: Tensor


class Served(NamedTuple):
    """Examples that can be learned from, put side by side; B of them from G messages."""

    user: npt.NDArray[np.uint64]
    target: npt.NDArray[np.int32]
    weight: Tensor
    h: Tensor
    ring: Tensor
    ring_length: Tensor
    history: npt.NDArray[np.int32]
    context: Tensor
    group: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]  # each candidate's example, (n,)
    candidate: npt.NDArray[np.int32]
    evidence: Tensor
    pools: Sequence[tuple[npt.NDArray[np.int32], npt.NDArray[np.float16], npt.NDArray[np.float32]]]


def side_by_side(batch: Sequence[Examples], counts: Counts, encoder: int) -> Served | None:
    """The examples that can be learned from: of this encoder, on items that the counts know; None if none can."""
    fitting = [examples for examples in batch if len(examples) and examples.encoder[0] == encoder]
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    pools: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float16], npt.NDArray[np.float32]]] = []
    begin = 0
    for examples in fitting:
        target = counts.rows(examples.item)
        kept = np.flatnonzero(np.isin(target, examples.pool) & (target >= 0))
        if not len(kept):
            continue
        length = np.diff(examples.start)
        owner = np.repeat(np.arange(len(examples)), length)
        chosen = np.isin(owner, kept)
        place = np.searchsorted(kept, owner[chosen])
        columns.append(
            (
                examples.user[kept], target[kept], examples.weight[kept], examples.h[kept], examples.ring[kept],
                examples.ring_length[kept], examples.history[kept], examples.context[kept],
                np.full(len(kept), len(pools)), begin + place, examples.candidate[chosen], examples.evidence[chosen],
            )
        )  # fmt: skip
        pools.append((examples.pool, examples.pool_dense, examples.pool_log_odds))
        begin += len(kept)
    if not columns:
        return None
    user, target, weight, h, ring, length, history, context, group, owner, candidate, evidence = (
        np.concatenate(column) for column in zip(*columns, strict=True)
    )
    return Served(
        user, target, _tensor(weight), _tensor(h), _tensor(ring), _tensor(length).long(), history,
        _tensor(context), group, owner, candidate, _tensor(evidence), pools,
    )  # fmt: skip


def remember(buffer: ReplayBuffer, examples: Served) -> None:
    """Offer the examples to a buffer."""
    rows = buffer.new_rows(len(examples.target))
    rows["user"] = examples.user
    rows["target"] = examples.target
    rows["h"] = examples.h.numpy()
    rows["ring"] = examples.ring.numpy()
    rows["ring_length"] = examples.ring_length.numpy()
    rows["history"] = examples.history
    buffer.add(rows)


def replayed_rows(old: npt.NDArray[np.void]) -> Served:
    """Rows of the replay buffer, which come without evidence."""
    none = np.zeros(0, np.int64)
    return Served(
        old["user"], old["target"], torch.ones(len(old)), _tensor(old["h"]), _tensor(old["ring"]),
        _tensor(old["ring_length"]).long(), old["history"], torch.zeros(len(old), 0), none, none,
        none.astype(np.int32), torch.zeros(0), [],
    )  # fmt: skip


def _tensor(array: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))  # a copy: what came off the wire is read-only


def make_pool(
    new: Served, old: npt.NDArray[np.void] | None, items: int, uniform: int, random: np.random.Generator
) -> Pool:
    """The pool of a step: what the examples were served with, the replayed items, and `uniform` drawn ones."""
    odds = np.full(items, np.inf, np.float32)
    for rows, _, log_odds in new.pools:
        np.minimum.at(odds, rows, log_odds)
    if old is not None:
        odds[old["target"]] = 0.0
    if uniform:
        drawn = random.integers(0, items, min(uniform, items))
        chance = -np.log(-np.expm1(len(drawn) * np.log1p(-1.0 / items))) if items > 1 else 0.0
        odds[drawn] = np.minimum(odds[drawn], chance)
    pool = np.flatnonzero(np.isfinite(odds))
    history = [new.history.ravel()] + ([] if old is None else [old["history"].ravel()])
    seen = np.concatenate(history)
    involved: npt.NDArray[np.int64] = np.union1d(pool, seen[seen >= 0]).astype(np.int64)
    return Pool(involved, torch.from_numpy(np.searchsorted(involved, pool)), torch.from_numpy(odds[pool]))


def neural_scores(network: Network, seen: Served, pool: Pool, vector: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """F(u), and n of every item of the pool, (B, P)."""
    history = np.where(seen.history >= 0, np.searchsorted(pool.rows, seen.history), -1)
    mean, last = history_mean(vector, torch.from_numpy(history))
    F = network.interest(seen.h, seen.ring, seen.ring_length, mean, last)
    return F, SHARPNESS * (F @ vector[pool.items].T) + bias[pool.items]


def score_loss(network: Network, new: Served, pool: Pool, neural: Tensor) -> Tensor:
    """Cross-entropy of z, each example against the pool it was served with."""
    gate = network.gate(new.context, new.h)
    pool_rows = pool.rows[pool.items.numpy()]
    size = [len(rows) for rows, _, _ in new.pools]
    of = torch.from_numpy(np.repeat(np.arange(len(size)), size))
    rows, evidence, log_odds = (np.concatenate(column) for column in zip(*new.pools, strict=True))
    at = torch.from_numpy(np.searchsorted(pool_rows, rows))
    dense = torch.zeros(len(size), len(pool_rows), gate.dense.shape[1])  # (G, P, dense)
    dense[of, at] = _tensor(evidence)
    odds = torch.full((len(size), len(pool_rows)), -torch.inf)  # (G, P)
    odds[of, at] = _tensor(log_odds)
    group = torch.from_numpy(new.group)
    z = gate.neural.unsqueeze(1) * neural + odds[group]  # (B, P)
    z = z + torch.bmm(dense[group], gate.dense.unsqueeze(-1)).squeeze(-1)
    owner = torch.from_numpy(new.owner)
    sparse = (gate.sparse[owner] * new.evidence).sum(1) + network.residual(new.evidence)
    place = torch.from_numpy(np.searchsorted(pool_rows, new.candidate))
    z = z.index_put((owner, place), sparse, accumulate=True)
    return cross_entropy(z, pool, new.target, new.weight)


def cross_entropy(logits: Tensor, pool: Pool, target: npt.NDArray[np.int32], weight: Tensor) -> Tensor:
    """Weighted mean cross-entropy of the targets (rows of the counts) over the pool."""
    place = torch.from_numpy(np.searchsorted(pool.rows[pool.items.numpy()], target))
    each = nn.functional.cross_entropy(logits, place, reduction="none")
    return (weight * each).sum() / weight.sum().clamp(min=1e-9)
