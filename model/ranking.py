"""Ranking: from users' states to scores over the whole catalogue, exact ranks, and lists with reasons."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from eddyline.model.compiled import compiled
from eddyline.model.counts import Counts
from eddyline.model.evidence import OWN, Candidates, because, candidates, dense_evidence
from eddyline.model.fusion import SHARPNESS, GateWeights
from eddyline.model.model import Model
from eddyline.state.records import Parts
from eddyline.state.user_state import UserStates

__all__ = ["PARTS", "Lists", "Ranking", "RankingSettings", "View"]

PARTS = Parts.__struct_fields__
"""What a score is the sum of; `pattern` is the residual e(sparse)."""


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


class View(NamedTuple):
    """What the model sees of V users at one moment.

    Attributes:
        counts: the counts it was made from.
        candidates: sparse evidence.
        interest: F(u), (V, D).
        gate: weights of the sources.
        sparse: what each candidate's sparse evidence adds to its score, (n,).
        pattern: the part of it that is the residual, (n,).
        dense: dense evidence, (I, len(DENSE)).
        table: [16 E | b | dense] of every item, (I, D + 1 + len(DENSE)).
        asked: [a_n F | a_n | a_dense] of every user, (V, D + 1 + len(DENSE)).
    """

    counts: Counts
    candidates: Candidates
    interest: Tensor
    gate: GateWeights
    sparse: Tensor
    pattern: Tensor
    dense: npt.NDArray[np.float32]
    table: Tensor
    asked: Tensor


class Ranking:
    """Scores users against the whole catalogue with one model."""

    def __init__(self, settings: RankingSettings, model: Model) -> None:
        self.settings = settings
        self.model = model
        self._table = torch.zeros(0, 0)

    @torch.no_grad()
    def view(self, states: UserStates, now_ms: npt.NDArray[np.int64], counts: Counts) -> View:
        """What the model sees of the users at `now_ms` (V,). Their states must be of the model's encoder."""
        network, items = self.model.network, self.model.items
        items.grow(counts)
        found = candidates(counts, states, now_ms, self.settings.candidates, self.settings.long_term_items)
        h = torch.from_numpy(np.array(states["h"], order="C"))
        ring = torch.from_numpy(states["ring"].astype(np.float32))
        length = torch.from_numpy(states["ring_length"].astype(np.int64))
        mean, last = items.history_mean(torch.from_numpy(found.history).long())
        interest = network.interest(h, ring, length, mean, last)
        gate = network.gate(torch.from_numpy(found.context), h)
        evidence = torch.from_numpy(found.evidence)
        owner = torch.from_numpy(np.repeat(np.arange(len(states)), np.diff(found.start)))
        pattern = network.residual(evidence)
        sparse = (gate.sparse[owner] * evidence).sum(1) + pattern
        dense = dense_evidence(counts)
        neural = gate.neural.unsqueeze(1)
        asked = torch.cat([neural * interest, neural, gate.dense], 1)
        table = self._fill(dense)
        return View(counts, found, interest, gate, sparse, pattern, dense, table, asked)

    def _fill(self, dense: npt.NDArray[np.float32]) -> Tensor:
        """The table with this moment's dense evidence; the rest changes only with the catalogue."""
        items = self.model.items  # of a newer version, it may know items that the counts do not know yet
        D = items.vector.shape[1]
        shape = (len(dense), D + 1 + dense.shape[1])
        if self._table.shape != shape:
            self._table = torch.empty(shape)
            self._table[:, :D] = SHARPNESS * items.vector[: len(dense)]
            self._table[:, D] = items.bias[: len(dense)]
        self._table[:, D + 1 :] = torch.from_numpy(dense)
        return self._table

    def scores(self, view: View, begin: int, end: int) -> Tensor:
        """Z of every item for the users `begin` to `end` of the view, (end − begin, I)."""
        scores = view.asked[begin:end] @ view.table.T
        start = view.candidates.start
        n = slice(int(start[begin]), int(start[end]))
        _add_sparse(
            scores.numpy(),
            start[begin : end + 1] - start[begin],
            view.candidates.item[n],
            view.sparse[n].numpy(),
        )
        if self.settings.exclude_seen:
            rows = torch.from_numpy(view.candidates.seen[begin:end].astype(np.int64))
            seen = torch.zeros(len(scores), scores.shape[1] + 1, dtype=torch.bool)
            seen.scatter_(1, torch.where(rows >= 0, rows, scores.shape[1]), True)
            scores.masked_fill_(seen[:, :-1], -torch.inf)
        return scores

    def lists(self, view: View, begin: int, end: int | None = None) -> Lists:
        """The lists of the users `begin` to `end` (default: the last) of the view."""
        end, items = len(view.asked) if end is None else end, len(view.table)
        U = end - begin
        row = np.full((U, self.settings.length), -1, np.int32)
        score = np.full(row.shape, -np.inf, np.float32)
        rows_at_once = max(1, _SCORES_AT_ONCE // max(1, items))
        for at in range(begin, end, rows_at_once):
            to = min(end, at + rows_at_once)
            part = slice(at - begin, to - begin)
            _best(self.scores(view, at, to).numpy(), row[part], score[part])
        reasons = self.settings.reasons
        if not reasons or not U or not items:
            return Lists(row, score, np.zeros((U, 0, 0), np.float32), np.zeros((U, 0, 0), np.int32))
        history = view.candidates.history[begin:end]
        return Lists(row, score, self._parts(view, begin, end, row), because(view.counts, history, row, reasons))

    def answers(
        self, view: View, begin: int, end: int, target: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """The lists of the users `begin` to `end`, and what they would have clicked.

        Args:
            view: what the model sees.
            begin, end: which users, B of them.
            target: row of the item that each clicks next, -1 where it is unknown, (B,).

        Returns:
            Listed rows (B, K), and −log softmax(z) of the target, NaN where it is unknown, (B,).
        """
        row = np.full((end - begin, self.settings.length), -1, np.int32)
        best = np.full(row.shape, -np.inf, np.float32)
        loss = np.full(len(row), np.nan, np.float32)
        rows_at_once = max(1, _SCORES_AT_ONCE // max(1, len(view.table)))
        for at in range(begin, end, rows_at_once):
            part = slice(at - begin, min(end, at + rows_at_once) - begin)
            scores = self.scores(view, at, min(end, at + rows_at_once))
            _best(scores.numpy(), row[part], best[part])
            known = np.flatnonzero(target[part] >= 0)
            own = scores[torch.from_numpy(known), torch.from_numpy(target[part][known]).long()]
            if len(known):
                loss[part][known] = (torch.logsumexp(scores[torch.from_numpy(known)], 1) - own).numpy()
        return row, loss

    def sources(self, view: View, begin: int, end: int, row: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """How much each of PARTS gave to the scores of the listed rows (B, K), in absolute terms, summed."""
        parts = np.abs(self._parts(view, begin, end, row)).astype(np.float64)
        total: npt.NDArray[np.float64] = parts[row >= 0].sum(0)
        return total

    def _parts(self, view: View, begin: int, end: int, row: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        place = np.full(row.shape, -1, np.int64)
        _find_places(view.candidates.start[begin : end + 1], view.candidates.item, row, place)
        at = torch.from_numpy(place)
        found = (at >= 0).float().unsqueeze(-1)
        n = len(view.sparse)
        evidence = torch.from_numpy(view.candidates.evidence)[at.clamp(0, max(0, n - 1))] if n else None
        items = view.table[torch.from_numpy(row).long().clamp(min=0)]  # (U, K, D + 1 + dense)
        D = view.interest.shape[1]
        asked = view.asked[begin:end].unsqueeze(1)
        parts = torch.zeros(*row.shape, len(PARTS))
        parts[..., 0] = (asked[..., : D + 1] * items[..., : D + 1]).sum(-1)
        parts[..., 1] = (asked[..., D + 1 :] * items[..., D + 1 :]).sum(-1)
        if evidence is not None:
            weighed = view.gate.sparse[begin:end].unsqueeze(1) * evidence * found
            parts[..., 2] = weighed[..., :OWN].sum(-1)
            parts[..., 3] = weighed[..., OWN:].sum(-1)
            parts[..., 4] = view.pattern[at.clamp(0, n - 1)] * found.squeeze(-1)
        return parts.numpy()


_SCORES_AT_ONCE = 640_000
"""Scores made at once: 2.5 MB, which stay in the cache while they are looked through."""


@compiled
def _best(scores: npt.NDArray[np.float32], row: npt.NDArray[np.int32], score: npt.NDArray[np.float32]) -> None:
    """The K highest scores of each user and their rows, best first; of equal ones the lower row first.

    One pass with a short sorted list is several times faster than a general top-k: almost every score ends at
    its first comparison. -1 and −∞ stay where there are no more.
    """
    K = row.shape[1]
    for b in range(len(scores)):
        least = np.float32(-np.inf)
        for i in range(scores.shape[1]):
            if scores[b, i] > least:
                k = K - 1
                while k > 0 and score[b, k - 1] < scores[b, i]:
                    score[b, k] = score[b, k - 1]
                    row[b, k] = row[b, k - 1]
                    k -= 1
                score[b, k] = scores[b, i]
                row[b, k] = i
                least = score[b, K - 1]


@compiled
def _add_sparse(
    scores: npt.NDArray[np.float32],
    start: npt.NDArray[np.int64],
    item: npt.NDArray[np.int32],
    sparse: npt.NDArray[np.float32],
) -> None:
    for b in range(len(scores)):
        for n in range(start[b], start[b + 1]):
            scores[b, item[n]] += sparse[n]


@compiled
def _find_places(
    start: npt.NDArray[np.int64],
    item: npt.NDArray[np.int32],
    row: npt.NDArray[np.int32],
    out: npt.NDArray[np.int64],
) -> None:
    """Where each listed item stands among its user's candidates, -1 where it is none."""
    for b in range(len(row)):
        for n in range(start[b], start[b + 1]):
            for k in range(row.shape[1]):
                if row[b, k] == item[n]:
                    out[b, k] = n
                    break
