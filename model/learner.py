"""The learner: fine-tunes long-term, attention, fusion, gate and item embeddings online; the LSTM stays frozen.

One step for every `batch` new examples:

    loss = CE(z | newest, evidence as served) + CE(n | newest) + CE(n | replayed)

over a pool of items instead of the catalogue: what the examples were told apart from as they were served, the
replayed clicks' items, and uniform ones whose logits carry the log odds of being drawn, so that the cost of a
step does not grow with the catalogue.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from eddyline.model.buffer import BufferSettings, ReplayBuffer
from eddyline.model.counts import Counts
from eddyline.model.fusion import SHARPNESS, Network
from eddyline.model.long_term import ItemEmbeddings, history_mean
from eddyline.model.model import Model
from eddyline.state.examples import Examples
from eddyline.state.user_state import StateShape

__all__ = ["Learner", "LearnerSettings", "Losses"]


class LearnerSettings(BaseModel):
    """How the model is fine-tuned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int = Field(256, ge=1, description="New examples per training step")
    replayed: int = Field(256, ge=0, description="Examples from the replay buffer in each step; 0: no replay")
    uniform: int = Field(1024, ge=1, description="Uniformly drawn items in the pool of the neural loss")
    item_rate: float = Field(0.01, gt=0, description="Row-wise Adagrad rate of item embeddings and biases")
    network_rate: float = Field(1e-3, gt=0, description="Adam rate of long-term, attention and fusion")
    gate_rate: float = Field(1e-2, gt=0, description="Adam rate of the gate and the residual")
    buffer: BufferSettings = Field(default_factory=BufferSettings, description="The replay buffer")


class Losses(NamedTuple):
    """Mean cross-entropies of one step, before it learned: all of z, and of the neural score alone."""

    score: float
    neural: float
    replayed: float


class _Pool(NamedTuple):
    """Items that a batch of examples is told apart from.

    Attributes:
        rows: every row involved, pool and history, (R,).
        items: places in `rows` that make the pool, (P,).
        odds: log odds of the drawn ones, (P,).
    """

    rows: npt.NDArray[np.int64]
    items: Tensor
    odds: Tensor


class Learner:
    """Learns from examples, in order.

    Args:
        settings: rates and sizes.
        shape: sizes of the states.
        history: L, items of history per example.
        model: where to start from; it is copied, not changed.
        seed: of the replay buffer and the drawn items.
    """

    def __init__(
        self, settings: LearnerSettings, shape: StateShape, history: int, model: Model, seed: int = 0
    ) -> None:
        self.settings = settings
        self.buffer = ReplayBuffer(settings.buffer, shape, history, seed)
        self.learned = 0
        self.skipped = 0
        self._random = np.random.default_rng(seed)
        self.start_from(model)

    def start_from(self, model: Model) -> None:
        """Go on from this model's weights; another encoder also empties the replay buffer."""
        if self.learned and model.encoder_id != self.encoder_id:
            self.buffer.clear()
        self._model = model
        self.network = copy.deepcopy(model.network).requires_grad_(True)
        self.items = copy.copy(model.items)
        self.items.vector = model.items.vector.clone()
        self.items.bias = model.items.bias.clone()
        self._squares = torch.zeros(len(self.items), 2)  # row-wise Adagrad: of the vector, of the bias
        head = [*self.network.gate.parameters(), *self.network.residual.parameters()]
        chosen = {id(parameter) for parameter in head}
        body = [p for p in self.network.parameters() if id(p) not in chosen]
        self.optimiser = torch.optim.Adam(
            [{"params": body, "lr": self.settings.network_rate}, {"params": head, "lr": self.settings.gate_rate}]
        )

    @property
    def encoder_id(self) -> int:
        """The encoder whose hidden states it learns from."""
        return self._model.encoder_id

    def snapshot(self, version: int, trained_until_ms: int) -> Model:
        """The weights as they are now, as a model to publish."""
        network = copy.deepcopy(self.network).requires_grad_(False)
        items = ItemEmbeddings(self.items.vector.clone(), self.items.bias.clone())
        return Model(version, trained_until_ms, self._model.encoder, network, items)

    def losses(self, batch: Sequence[Examples], counts: Counts, model: Model | None = None) -> float:
        """Mean cross-entropy of z on the examples, with the learner's weights or another model's."""
        items = self.items if model is None else model.items
        items.grow(counts)
        network = self.network if model is None else model.network
        with torch.no_grad():
            prepared = _prepare(batch, counts, self.encoder_id)
            if prepared is None:
                return float("nan")
            pool = _pool(prepared, None, len(counts), 0, self._random)
            vector, bias = items.vector[pool.rows], items.bias[pool.rows]
            F, neural = _neural(network, prepared, pool, vector, bias)
            return _score_loss(network, prepared, pool, neural).item()

    def learn(self, batch: Sequence[Examples], counts: Counts) -> Losses | None:
        """One step on the newest examples and as many replayed ones; None if none of them can be learned from.

        Examples of another encoder, or of items that the counts do not know yet, are skipped and counted.
        """
        self.items.grow(counts)
        self._squares = torch.cat([self._squares, torch.zeros(len(self.items) - len(self._squares), 2)])
        prepared = _prepare(batch, counts, self.encoder_id)
        offered = sum(len(examples) for examples in batch)
        if prepared is None:
            self.skipped += offered
            return None
        self.skipped += offered - len(prepared.target)
        old = self.buffer.sample(self.settings.replayed)
        pool = _pool(prepared, old, len(counts), self.settings.uniform, self._random)
        vector = self.items.vector[pool.rows].requires_grad_(True)
        bias = self.items.bias[pool.rows].requires_grad_(True)
        _, neural = _neural(self.network, prepared, pool, vector, bias)
        score = _score_loss(self.network, prepared, pool, neural)
        new = _cross_entropy(neural + pool.odds, pool, prepared.target, prepared.weight)
        loss = score + new
        replayed = torch.zeros(())
        if len(old):
            seen = _replayed(old)
            _, again = _neural(self.network, seen, pool, vector, bias)
            replayed = _cross_entropy(again + pool.odds, pool, seen.target, seen.weight)
            loss = loss + replayed
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._update_rows(pool.rows, vector, bias)
        self.optimiser.step()
        self._remember(prepared)
        self.learned += len(prepared.target)
        return Losses(score.item(), new.item(), replayed.item())

    def _update_rows(self, rows: npt.NDArray[np.int64], vector: Tensor, bias: Tensor) -> None:
        """Row-wise Adagrad (one step size per row), then back inside the unit ball."""
        rate, at = self.settings.item_rate, torch.from_numpy(rows)
        assert vector.grad is not None and bias.grad is not None
        with torch.no_grad():
            self._squares[at, 0] += vector.grad.square().mean(1)
            self._squares[at, 1] += bias.grad.square()
            step = self._squares[at].sqrt() + 1e-8
            moved = vector - rate * vector.grad / step[:, :1]
            self.items.vector[at] = moved / moved.norm(dim=1, keepdim=True).clamp(min=1.0)
            self.items.bias[at] = bias - rate * bias.grad / step[:, 1]

    def _remember(self, prepared: _Prepared) -> None:
        rows = self.buffer.new_rows(len(prepared.target))
        rows["user"] = prepared.user
        rows["target"] = prepared.target
        rows["h"] = prepared.h.numpy()
        rows["ring"] = prepared.ring.numpy()
        rows["ring_length"] = prepared.ring_length.numpy()
        rows["history"] = prepared.history
        self.buffer.add(rows)


class _Prepared(NamedTuple):
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


def _prepare(batch: Sequence[Examples], counts: Counts, encoder: int) -> _Prepared | None:
    fitting = [examples for examples in batch if len(examples) and examples.encoder[0] == encoder]
    columns: list[tuple[npt.NDArray[np.void], ...]] = []
    pools, begin = [], 0
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
    return _Prepared(
        user, target, _tensor(weight), _tensor(h), _tensor(ring), _tensor(length).long(), history,
        _tensor(context), group, owner, candidate, _tensor(evidence), pools,
    )  # fmt: skip


def _replayed(old: npt.NDArray[np.void]) -> _Prepared:
    none = np.zeros(0, np.int64)
    return _Prepared(
        old["user"], old["target"], torch.ones(len(old)), _tensor(old["h"]), _tensor(old["ring"]),
        _tensor(old["ring_length"]).long(), old["history"], torch.zeros(len(old), 0), none, none,
        none.astype(np.int32), torch.zeros(0), [],
    )  # fmt: skip


def _tensor(array: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _pool(
    new: _Prepared, old: npt.NDArray[np.void] | None, items: int, uniform: int, random: np.random.Generator
) -> _Pool:
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
    rows = np.union1d(pool, seen[seen >= 0]).astype(np.int64)
    return _Pool(rows, torch.from_numpy(np.searchsorted(rows, pool)), torch.from_numpy(odds[pool]))


def _neural(
    network: Network, seen: _Prepared, pool: _Pool, vector: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """F(u), and n of every item of the pool, (B, P)."""
    history = np.where(seen.history >= 0, np.searchsorted(pool.rows, seen.history), -1)
    mean, last = history_mean(vector, torch.from_numpy(history))
    F = network.interest(seen.h, seen.ring, seen.ring_length, mean, last)
    return F, SHARPNESS * (F @ vector[pool.items].T) + bias[pool.items]


def _score_loss(network: Network, new: _Prepared, pool: _Pool, neural: Tensor) -> Tensor:
    """Cross-entropy of z, each example against the pool it was served with."""
    gate = network.gate(new.context, new.h)
    pool_rows = pool.rows[pool.items.numpy()]
    dense = torch.zeros(len(new.pools), len(pool_rows), gate.dense.shape[1])  # (G, P, dense)
    odds = torch.full((len(new.pools), len(pool_rows)), -torch.inf)  # (G, P)
    for g, (rows, evidence, log_odds) in enumerate(new.pools):
        at = torch.from_numpy(np.searchsorted(pool_rows, rows))
        dense[g, at] = _tensor(evidence)
        odds[g, at] = _tensor(log_odds)
    group = torch.from_numpy(new.group)
    z = gate.neural.unsqueeze(1) * neural + odds[group]  # (B, P)
    popularity = []
    for g in range(len(new.pools)):
        popularity.append(gate.dense[group == g] @ dense[g].T)
    z = z + torch.cat(popularity)
    owner = torch.from_numpy(new.owner)
    sparse = (gate.sparse[owner] * new.evidence).sum(1) + network.residual(new.evidence)
    place = torch.from_numpy(np.searchsorted(pool_rows, new.candidate))
    z = z.index_put((owner, place), sparse, accumulate=True)
    return _cross_entropy(z, pool, new.target, new.weight)


def _cross_entropy(logits: Tensor, pool: _Pool, target: npt.NDArray[np.int32], weight: Tensor) -> Tensor:
    place = torch.from_numpy(np.searchsorted(pool.rows[pool.items.numpy()], target))
    each = nn.functional.cross_entropy(logits, place, reduction="none")
    return (weight * each).sum() / weight.sum().clamp(min=1e-9)
