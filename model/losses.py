"""The losses of the learner: examples put side by side, the pools they are told apart from, and cross-entropies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eddyline.model.counts import Counts
from eddyline.model.fusion import SHARPNESS, GateWeights, Network
from eddyline.model.gradients import pool_cross_entropy, row_products
from eddyline.model.long_term import ItemEmbeddings, history_mean
from eddyline.state.examples import Examples

__all__ = [
    "Own",
    "Pool",
    "Seen",
    "Served",
    "asked",
    "candidate_scores",
    "drawn_odds",
    "joined",
    "make_pool",
    "mean_loss",
    "neural_loss",
    "own_scores",
    "rank_weight",
    "score_loss",
    "side_by_side",
    "to_tensor",
]


_HALF_RANK = 20.0
"""The rank at which a click counts half as much as one at the top."""


class Seen(NamedTuple):
    """What the neural part saw before B clicks, and the clicks."""

    user: npt.NDArray[np.uint64]
    target: npt.NDArray[np.int32]
    weight: Tensor
    h: Tensor
    ring: Tensor
    ring_length: Tensor
    history: npt.NDArray[np.int32]


class Message(NamedTuple):
    """What B of the examples, which travelled together, were told apart from beside their own candidates.

    Attributes:
        examples: which of the examples.
        rows: the rows, (P,).
        dense: their dense evidence at each moment, (M, E, P).
        odds: their log odds, (P,).
        moment: of each example, (B,).
        known: items in the catalogue at each moment, (M,).
    """

    examples: slice
    rows: npt.NDArray[np.int32]
    dense: Tensor
    odds: Tensor
    moment: Tensor
    known: Tensor


class Served(NamedTuple):
    """Examples that can be learned from, put side by side, each with at most C candidates.

    Attributes:
        seen: what the neural part saw, and the clicks, (B,).
        context: what the gate looked at, (B, len(CONTEXT)).
        rank: of the clicked item among the whole catalogue, as served, (B,).
        candidate: rows of the candidates, -1 beyond, (B, C).
        evidence: their sparse evidence, (B, C, S).
        dense: their dense evidence, (B, C, E).
        messages: what the examples of each message were told apart from as well, in order.
    """

    seen: Seen
    context: Tensor
    rank: Tensor
    candidate: npt.NDArray[np.int32]
    evidence: Tensor
    dense: Tensor
    messages: Sequence[Message]


class Own(NamedTuple):
    """What the candidates of B examples score.

    Attributes:
        gate: weights of the sources.
        neural: n, (B, C).
        score: z, −∞ beyond the candidates, (B, C).
    """

    gate: GateWeights
    neural: Tensor
    score: Tensor


class Pool(NamedTuple):
    """The items of a step.

    Attributes:
        rows: every row involved: told apart from anything, or in a history, (R,).
        place: where each row of the catalogue is among them; a wrong one where it is not, (I,).
        items: the rows that neural scores are told apart from, (P,).
        odds: log odds of the drawn ones, (P,).
    """

    rows: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    odds: Tensor

    def table(self, items: ItemEmbeddings) -> Tensor:
        """[E | b] of every row involved, (R, D + 1)."""
        at = torch.from_numpy(self.rows)
        return torch.cat([items.vector.index_select(0, at), items.bias.index_select(0, at).unsqueeze(1)], 1)

    def at(self, rows: npt.NDArray[Any]) -> Tensor:
        """Where the rows are among those involved; same shape."""
        return torch.from_numpy(self.place[rows])


def side_by_side(batch: Sequence[Examples], counts: Counts, encoder: int) -> Served | None:
    """The examples that can be learned from: of this encoder, on items that the counts know; None if none can."""
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    messages: list[Message] = []
    begin = 0
    fitting = [examples for examples in batch if len(examples) and examples.encoder[0] == encoder]
    most = max([1, *(int(np.diff(examples.start).max()) for examples in fitting)])
    for examples in fitting:
        target = counts.rows(examples.item)
        kept = np.flatnonzero((target >= 0) & (examples.rank > 0))
        if not len(kept):
            continue
        slot = np.arange(most)
        place = examples.start[kept, None] + slot  # (B, C) of the logged candidates
        there = place < examples.start[kept + 1, None]
        place = np.where(there, place, 0)
        columns.append(
            (
                examples.user[kept], target[kept], examples.weight[kept], examples.h[kept], examples.ring[kept],
                examples.ring_length[kept], examples.history[kept], examples.context[kept], examples.rank[kept],
                np.where(there, _taken(examples.candidate, place), -1), _taken(examples.evidence, place),
                _taken(examples.dense, place),
            )
        )  # fmt: skip
        of = slice(begin, begin + len(kept))
        messages.append(
            Message(
                of, examples.pool, to_tensor(examples.pool_dense), to_tensor(examples.pool_log_odds),
                torch.from_numpy(examples.moment[kept].astype(np.int64)),
                torch.from_numpy(examples.known.astype(np.int64)),
            )
        )  # fmt: skip
        begin = of.stop
    if not columns:
        return None
    user, target, weight, h, ring, length, history, context, rank, candidate, evidence, dense = (
        np.concatenate(column) for column in zip(*columns, strict=True)
    )
    seen = Seen(user, target, to_tensor(weight), to_tensor(h), to_tensor(ring), to_tensor(length).long(), history)
    return Served(seen, to_tensor(context), to_tensor(rank), candidate, to_tensor(evidence), to_tensor(dense), messages)


def _taken(logged: npt.NDArray[Any], place: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """What is logged at these places; whatever fits where nothing is logged at all."""
    return logged[place] if len(logged) else np.zeros((*place.shape, *logged.shape[1:]), logged.dtype)


def to_tensor(array: npt.NDArray[Any]) -> Tensor:
    """In single precision."""
    # what came off the wire is read-only, which torch warns of and would not honour
    return torch.from_numpy(np.require(array, requirements=("C", "W"))).float()


def joined(one: Seen, other: Seen) -> Seen:
    """Both, one after the other."""
    return Seen(
        np.concatenate([one.user, other.user]),
        np.concatenate([one.target, other.target]),
        torch.cat([one.weight, other.weight]),
        torch.cat([one.h, other.h]),
        torch.cat([one.ring, other.ring]),
        torch.cat([one.ring_length, other.ring_length]),
        np.concatenate([one.history, other.history]),
    )


def drawn_odds(draws: int, items: int) -> float:
    """log(1 / probability) that an item is among `draws` uniform ones, with replacement, of `items`."""
    return float(-np.log(-np.expm1(draws * np.log1p(-1.0 / items)))) if items > 1 else 0.0


def make_pool(new: Served, seen: Seen, items: int, uniform: int, random: np.random.Generator) -> Pool:
    """The items of a step.

    Args:
        new: the newest examples, each told apart from what it was served with.
        seen: all examples of the step, whose neural scores are told apart from their clicked items and drawn ones.
        items: size of the catalogue.
        uniform: how many are drawn.
        random: draws them.
    """
    odds = np.full(items, np.inf, np.float32)
    if uniform:
        drawn = random.integers(0, items, min(uniform, items))
        odds[drawn] = drawn_odds(len(drawn), items)
    odds[seen.target] = 0.0
    chosen = np.flatnonzero(np.isfinite(odds))
    involved = np.zeros(items, np.bool_)
    involved[chosen] = True
    involved[new.candidate[new.candidate >= 0]] = True
    for message in new.messages:
        involved[message.rows] = True
    involved[seen.history[seen.history >= 0]] = True
    rows = np.flatnonzero(involved)
    return Pool(rows, np.cumsum(involved) - 1, chosen, torch.from_numpy(odds[chosen]))


def asked(network: Network, seen: Seen, pool: Pool, table: Tensor) -> Tensor:
    """[16 F(u) | 1] of the users, whose product with a row [E | b] of the table is n, (B, D + 1)."""
    history = np.where(seen.history >= 0, pool.place[seen.history], -1)
    mean, last = history_mean(table[:, :-1], torch.from_numpy(history))
    F = network.interest(seen.h, seen.ring, seen.ring_length, mean, last)
    return nn.functional.pad(SHARPNESS * F, (0, 1), value=1.0)


def neural_loss(users: Tensor, seen: Seen, pool: Pool, table: Tensor) -> Tensor:
    """Cross-entropy of n over the pool of each of the examples, (B,)."""
    rows = nn.functional.embedding(pool.at(pool.items), table)
    return pool_cross_entropy(users, rows, pool.odds, torch.from_numpy(np.searchsorted(pool.items, seen.target)))


def own_scores(network: Network, new: Served, pool: Pool, users: Tensor, table: Tensor) -> Own:
    """What the examples' own candidates score."""
    gate = network.gate(new.context)
    at = pool.at(np.maximum(new.candidate, 0)).clamp(min=0)  # (B, C)
    neural = row_products(users, table, at)
    return Own(gate, neural, candidate_scores(network, gate, neural, new.evidence, new.dense, new.candidate))


def candidate_scores(
    network: Network,
    gate: GateWeights,
    neural: Tensor,
    evidence: Tensor,
    dense: Tensor,
    candidate: npt.NDArray[np.int32],
) -> Tensor:
    """Z of candidates (B, C), −∞ where there is none, from n (B, C), sparse and dense evidence (B, C, …)."""
    mixed = network.mixture.mixed(dense)
    lift = network.mixture.lift(evidence, gate.log_ratios.unsqueeze(1), mixed)
    z: Tensor = gate.neural.unsqueeze(1) * neural + gate.mixture.unsqueeze(1) * (mixed + lift)
    z = z + torch.bmm(dense, gate.dense[:, :-1].unsqueeze(2)).squeeze(2)
    z = z + torch.bmm(evidence, gate.sparse.unsqueeze(2)).squeeze(2)
    z = z + network.residual(evidence, torch.cat([dense, mixed.unsqueeze(2)], 2))
    return z.masked_fill(torch.from_numpy(candidate < 0), -torch.inf)


def rank_weight(rank: Tensor) -> Tensor:
    """How much a click counts whose item had this rank in the whole catalogue as it was served, 20 / (20 + rank).

    Cross-entropy alone asks most for clicks that no list of 20 could foresee; this asks for those on the list, or near
    it. Weighing a loss by what a rank is worth on a list is the idea of LambdaRank (Burges, "From RankNet to LambdaRank
    to LambdaMART", 2010). Where people suddenly do what nobody did, all ranks are bad, and all weights alike.
    """
    return _HALF_RANK / (_HALF_RANK + rank)


def score_loss(network: Network, new: Served, own: Own, pool: Pool, users: Tensor, table: Tensor) -> Tensor:
    """Cross-entropy of z of each example over its own candidates and its message's pool, weighed by its rank, (B,)."""
    gate = own.gate
    each = []
    sizes = [len(message.rows) for message in new.messages]
    rows = pool.at(np.concatenate([message.rows for message in new.messages]))
    tables = torch.split(nn.functional.embedding(rows, table), sizes)
    where = np.full(len(pool.place), -1, np.int64)
    for message, some in zip(new.messages, tables, strict=True):
        of = message.examples
        z = gate.neural[of].unsqueeze(1) * (users[of] @ some.T) + message.odds  # (B, P)
        z = z + _dense_part(network, gate.dense[of], message)
        where[message.rows] = np.arange(len(message.rows))
        again = np.where(new.candidate[of] >= 0, where[new.candidate[of]], -1)  # what is among the candidates already
        twice = np.zeros((len(z), len(some) + 1), np.bool_)
        twice[np.arange(len(z))[:, None], again] = True
        z = z.masked_fill(torch.from_numpy(twice[:, :-1]), -torch.inf)
        target = new.seen.target[of]
        mine = new.candidate[of] == target[:, None]
        place = np.where(mine.any(1), mine.argmax(1), own.score.shape[1] + where[target])
        where[message.rows] = -1
        logits = torch.cat([own.score[of], z], 1)
        each.append(nn.functional.cross_entropy(logits, torch.from_numpy(place), reduction="none"))
    return rank_weight(new.rank) * torch.cat(each)


def _dense_part(network: Network, weight: Tensor, message: Message) -> Tensor:
    """What the dense evidence adds to each score, −∞ where an item was not there yet, (B, P)."""
    mixed = network.mixture.mixed(message.dense.transpose(1, 2))  # (M, P)
    if len(message.known) == 1:
        return weight @ torch.cat([message.dense[0], mixed])
    # apart: what nothing is learned of needs no gradient, which would be filled and gathered for all of it
    part = torch.bmm(weight[:, None, :-1], message.dense.index_select(0, message.moment)).squeeze(1)
    part = part + weight[:, -1:] * mixed.index_select(0, message.moment)
    later = torch.from_numpy(message.rows) >= message.known[message.moment].unsqueeze(1)
    return part.masked_fill(later, -torch.inf)


def mean_loss(each: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of losses."""
    return (weight * each).sum() / weight.sum().clamp(min=1e-9)
