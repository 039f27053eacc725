"""Ranking: from users' states to scores over the whole catalogue, exact ranks, and lists with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from eddyline.model.counts import Counts
from eddyline.model.dense import SCORED
from eddyline.model.evidence import OWN, Candidates
from eddyline.model.fusion import SHARPNESS, GateWeights
from eddyline.model.mixture import COUNTED, add_lift
from eddyline.model.model import Model
from eddyline.model.reasons import because
from eddyline.model.scores import (
    add_dense,
    add_sparse,
    exclude,
    find_places,
    log_sums,
    ranks,
    strongest,
    take_each,
    top,
    weigh,
)
from eddyline.model.walk import Asked, Moments, one_moment, walk
from eddyline.state.records import Parts
from eddyline.state.user_state import UserStates

__all__ = ["PARTS", "Judged", "Lists", "Ranking", "RankingSettings", "View"]

PARTS = Parts.__struct_fields__
"""What a score is the sum of; `pattern` is the residual e(sparse, dense)."""


class RankingSettings(BaseModel):
    """How lists are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    length: int = Field(20, ge=1, le=1000, description="K: items on a list")
    exclude_seen: bool = Field(False, description="Leave out the items in the user's history")
    candidates: int = Field(256, ge=16, le=10_000, description="Items with sparse evidence considered per user")
    long_term_items: int = Field(50, ge=1, description="L: last items that make the long-term interest")
    reasons: int = Field(2, ge=0, le=10, description="Recent items named per listed item as its reasons; 0: no `why`")


class Lists(NamedTuple):
    """Ranked lists of U users, best first.

    Attributes:
        item: item rows, -1 beyond the catalogue, (U, K).
        score: (U, K).
        parts: the part each of PARTS has in the score, (U, K, len(PARTS)); empty if no reasons are asked for.
        because: rows of the recent items that voted most, -1 beyond, (U, K, reasons).
    """

    item: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]
    parts: npt.NDArray[np.float32]
    because: npt.NDArray[np.int32]


class Judged(NamedTuple):
    """What was read off the scores of V users who are about to click.

    Attributes:
        rank: place of what each clicks among the whole catalogue, ties counted against the model; 0 where it is
            unknown, (V,).
        chosen: which candidates are the strongest, or what is clicked, (n,).
        top: rows of the K best items, -1 beyond the catalogue, (V, K); none if no answers are asked for.
        loss: −log softmax(z) of what is clicked, NaN where it is unknown or excluded, (V,); none as before.
    """

    rank: npt.NDArray[np.int32]
    chosen: npt.NDArray[np.bool_]
    top: npt.NDArray[np.int32]
    loss: npt.NDArray[np.float32]


class View(NamedTuple):
    """What the model sees of V users, each at its moment.

    Attributes:
        counts: the counts it was made from, as they stand at the last moment.
        candidates: sparse evidence.
        interest: F(u), (V, D).
        gate: weights of the sources.
        candidate_dense: dense evidence of each candidate at its user's moment, (n, len(SCORED)).
        sparse: what each candidate has in its score beyond other items, (n,).
        pattern: the part of it that is the residual, (n,).
        moment: of each user, (V,).
        known: items in the catalogue at each moment, (M,).
        dense: dense evidence at each moment, and the mixture of popularities, (M, len(SCORED), I).
        table: [16 E | b] of every item, (I, D + 1).
        asked: [a_n F | a_n] of every user, (V, D + 1).
    """

    counts: Counts
    candidates: Candidates
    interest: Tensor
    gate: GateWeights
    candidate_dense: npt.NDArray[np.float32]
    sparse: Tensor
    pattern: Tensor
    moment: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    dense: npt.NDArray[np.float32]
    table: Tensor
    asked: Tensor


class Ranking:
    """Scores users against the whole catalogue with one model."""

    def __init__(self, settings: RankingSettings, model: Model) -> None:
        self.settings = settings
        self.model = model
        self._table = torch.zeros(0, model.items.vector.shape[1] + 1)
        self._filled = 0
        self._scores = torch.zeros(0)

    def view(self, states: UserStates, now_ms: npt.NDArray[np.int64], counts: Counts) -> View:
        """What the model sees of the users at `now_ms` (V,). Their states must be of the model's encoder."""
        nobody = Asked(states[:0], now_ms[:0], np.zeros(1, np.int64))
        return self.views(counts, one_moment(counts), Asked(states, now_ms, np.array([len(states)])), nobody)[0]

    @torch.no_grad()
    def views(self, counts: Counts, moments: Moments, before: Asked, after: Asked) -> tuple[View, View]:
        """What the model sees of two sets of users, moment after moment; folds what comes between the moments."""
        settings, items = self.settings, self.model.items
        lives = self.model.network.mixture.weights.numpy()
        *found, dense = walk(counts, moments, before, after, settings.candidates, settings.long_term_items, lives)
        items.grow(counts)
        table = self._fill(dense.shape[2])
        one, other = (
            self._view(counts, moments, asked, seen, dense, table)
            for asked, seen in zip((before, after), found, strict=True)
        )
        return one, other

    def _view(
        self,
        counts: Counts,
        moments: Moments,
        asked: Asked,
        found: Candidates,
        dense: npt.NDArray[np.float32],
        table: Tensor,
    ) -> View:
        network, states = self.model.network, asked.states
        h = torch.from_numpy(np.array(states["h"], order="C"))
        ring = torch.from_numpy(np.ascontiguousarray(states["ring"])).float()
        length = torch.from_numpy(states["ring_length"].astype(np.int64))
        mean, last = self.model.items.history_mean(torch.from_numpy(found.history).long())
        interest = network.interest(h, ring, length, mean, last)
        gate = network.gate(torch.from_numpy(found.context))
        evidence = torch.from_numpy(found.evidence)
        candidate_dense = np.empty((len(found.item), len(SCORED)), np.float32)
        take_each(dense, np.repeat(asked.moment, np.diff(found.start)), found.item, candidate_dense)
        pattern = network.residual(evidence, torch.from_numpy(candidate_dense))
        sparse = pattern.clone()
        weigh(found.start, found.evidence, np.ascontiguousarray(gate.sparse.numpy()), sparse.numpy())
        mixture, ratios = np.ascontiguousarray(gate.mixture.numpy()), network.mixture.ratios(gate.log_ratios)
        add_lift(found.start, found.item, found.evidence, asked.moment, dense, mixture, ratios, sparse.numpy())
        neural = gate.neural.unsqueeze(1)
        rows = torch.cat([neural * interest, neural], 1)
        known = moments.known
        return View(
            counts, found, interest, gate, candidate_dense, sparse, pattern, asked.moment, known, dense, table, rows
        )

    def _fill(self, count: int) -> Tensor:
        """The table of the first `count` items; a row is written once, when the catalogue first has its item."""
        items = self.model.items  # of a newer version, it may know items that the counts do not know yet
        D = items.vector.shape[1]
        if count > len(self._table):
            table = torch.empty(count + count // 8, D + 1)
            table[: self._filled] = self._table[: self._filled]
            self._table = table
        new = slice(self._filled, count)
        if count > self._filled:
            self._table[new, :D] = SHARPNESS * items.vector[new]
            self._table[new, D] = items.bias[new]
            self._filled = count
        return self._table[:count]

    def scores(self, view: View, begin: int, end: int) -> npt.NDArray[np.float32]:
        """Z of every item for the users `begin` to `end` of the view, (end − begin, I); good until the next call."""
        B, items = end - begin, len(view.table)
        if B * items > len(self._scores):
            self._scores = torch.empty(B * items)
        scores = self._scores[: B * items].view(B, items)
        torch.mm(view.asked[begin:end], view.table.T, out=scores)
        z, start = scores.numpy(), view.candidates.start[begin : end + 1]
        weights = np.ascontiguousarray(view.gate.dense[begin:end].numpy())
        add_dense(z, view.moment[begin:end], view.known, view.dense, weights)
        add_sparse(z, start, view.candidates.item, view.sparse.numpy())
        if self.settings.exclude_seen:
            exclude(z, np.ascontiguousarray(view.candidates.seen[begin:end]))
        return z

    def _scored(self, view: View) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """The scores of a few users at a time, which stay in the cache while they are looked through."""
        at_once = max(1, _SCORES_AT_ONCE // max(1, len(view.table)))
        for begin in range(0, len(view.asked), at_once):
            end = min(len(view.asked), begin + at_once)
            yield slice(begin, end), self.scores(view, begin, end)

    def lists(self, view: View) -> Lists:
        """The lists of the users of the view. Reasons are given where all are asked about at one moment."""
        U, items = len(view.asked), len(view.table)
        row = np.full((U, self.settings.length), -1, np.int32)
        score = np.full(row.shape, -np.inf, np.float32)
        for part, z in self._scored(view):
            top(z, row[part], score[part])
        reasons = self.settings.reasons if len(view.known) == 1 else 0
        if not reasons or not U or not items:
            return Lists(row, score, np.zeros((U, 0, 0), np.float32), np.zeros((U, 0, 0), np.int32))
        parts = self._parts(view, np.arange(U), row)
        return Lists(row, score, parts, because(view.counts, view.candidates.history, row, reasons))

    def judge(self, view: View, target: npt.NDArray[np.int32], most: int, *, answers: bool) -> Judged:
        """Judge the scores by what the users of the view click.

        Args:
            view: what the model sees before the clicks.
            target: row of the item that each clicks, -1 where it is unknown, (V,).
            most: how many of the strongest candidates are chosen.
            answers: whether the lists and the losses are wanted.
        """
        V, start, items = len(target), view.candidates.start, view.known[view.moment]
        rank, chosen = np.zeros(V, np.int32), np.zeros(len(view.candidates.item), np.bool_)
        row = np.full((V if answers else 0, self.settings.length), -1, np.int32)
        best = np.full(row.shape, -np.inf, np.float32)
        loss = np.full(len(row), np.nan, np.float32)
        for part, z in self._scored(view):
            ranks(z, items[part], target[part], rank[part])
            strongest(z, start[part.start : part.stop + 1], view.candidates.item, target[part], most, chosen)
            if answers and z.size:
                top(z, row[part], best[part])
                own = z[np.arange(len(z)), target[part]]
                fit = np.flatnonzero((target[part] >= 0) & np.isfinite(own))
                whole = np.empty(len(z), np.float32)
                log_sums(z, best[part, 0].copy(), whole)
                loss[part][fit] = whole[fit] - own[fit]
        return Judged(rank, chosen, row, loss)

    def sources(self, view: View, users: npt.NDArray[np.int64], row: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """How much each of PARTS gave to the scores of what B users were listed, (B, K), in absolute terms, summed."""
        parts = np.abs(self._parts(view, users, row)).astype(np.float64)
        total: npt.NDArray[np.float64] = parts[row >= 0].sum(0)
        return total

    def _parts(self, view: View, users: npt.NDArray[np.int64], row: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        place = np.full(row.shape, -1, np.int64)
        find_places(users, view.candidates.start, view.candidates.item, row, place)
        at, user, rows = torch.from_numpy(place), torch.from_numpy(users), np.maximum(row, 0)
        found = (at >= 0).float().unsqueeze(-1)
        n = len(view.sparse)
        dense = view.dense[view.moment[users][:, None, None], np.arange(view.dense.shape[1]), rows[..., None]]
        parts = torch.zeros(*row.shape, len(PARTS))
        parts[..., 0] = (view.asked[user].unsqueeze(1) * view.table[torch.from_numpy(rows).long()]).sum(-1)
        parts[..., 1] = (view.gate.dense[user].unsqueeze(1) * torch.from_numpy(dense)).sum(-1)
        if n:
            evidence = torch.from_numpy(view.candidates.evidence)[at.clamp(0, n - 1)]
            weighed = view.gate.sparse[user].unsqueeze(1) * evidence * found
            parts[..., 2] = weighed[..., :OWN].sum(-1)
            parts[..., 3] = weighed[..., OWN:].sum(-1)
            parts[..., 4] = view.pattern[at.clamp(0, n - 1)] * found.squeeze(-1)
            self._add_lift(view, user, evidence * found, torch.from_numpy(dense[..., -1]), parts)
        return parts.numpy()

    def _add_lift(self, view: View, user: Tensor, evidence: Tensor, mixed: Tensor, parts: Tensor) -> None:
        """Share out what the mixture adds for candidates among the sources that name them, as they name them."""
        mixture, log_ratios = self.model.network.mixture, view.gate.log_ratios[user].unsqueeze(1)
        named = mixture.named(evidence, log_ratios)
        lift = view.gate.mixture[user].unsqueeze(1) * mixture.lifted(named, mixed)
        each = lift / named.sum(-1).clamp(min=1e-12)
        parts[..., 2] += each * named[..., :COUNTED].sum(-1)
        parts[..., 3] += each * named[..., COUNTED:].sum(-1)


_SCORES_AT_ONCE = 320_000
"""Scores made at once: 1.3 MB, which stay in the cache while they are looked through."""
