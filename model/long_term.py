"""Long-term interest: collaborative filtering over item embeddings that is fine-tuned while the stream runs.

No parameter belongs to a user: the long-term vector comes from the user's own history and the shared item
embeddings, so whoever arrived a second ago has one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eddyline.model.counts import Counts

__all__ = ["ItemEmbeddings", "LongTerm"]

NEW_ITEM_NORM = 0.6
"""Norm scale of a new item's row. A mean of unit rows is close to many users: unshrunk, new items become hubs."""


class ItemEmbeddings:
    """One vector E_i (norm at most 1) and one bias b_i per item, by the rows of the counts.

    An item that is newer than the weights starts from the items that its first user had clicked before:

        E_i = 0.6 · mean of those unit rows,   b_i = mean bias − 1,   E_i = 0 without any

    which depends on the evidence and the version alone, so every process gives it the same vector.

    Attributes:
        vector: (I, D).
        bias: (I,).
        trained: how many rows, from the first, come from training.
    """

    def __init__(self, vector: Tensor, bias: Tensor) -> None:
        self.vector = vector
        self.bias = bias
        self.trained = len(vector)
        self._unit = torch.zeros(1, vector.shape[1])
        self._unit_of = vector
        self._filled = 0

    def __len__(self) -> int:
        return len(self.vector)

    def grow(self, counts: Counts) -> None:
        """Give a row to every item that the counts know and this does not."""
        old, new = len(self.vector), len(counts)
        if new <= old:
            return
        mean = float(self.bias[: self.trained].mean()) if self.trained else 0.0
        grown = torch.cat([self.vector, torch.zeros(new - old, self.vector.shape[1])])
        if self._unit_of is self.vector:
            self._unit_of = grown
        self.vector = grown
        self.bias = torch.cat([self.bias, torch.zeros(new - old)])
        self.imprint(np.arange(old, new), counts, mean)

    def imprint(self, rows: npt.NDArray[np.int64], counts: Counts, mean_bias: float) -> None:
        """Give these rows what a new item starts from, in ascending order."""
        vector, new = self.vector.numpy(), set(rows.tolist())
        for row in rows.tolist():
            parents = [p for p in counts.parents[row].tolist() if p >= 0 and (p < row or p not in new)]
            lengths = np.maximum(np.linalg.norm(vector[parents], axis=1, keepdims=True), 1e-6)
            vector[row] = (vector[parents] / lengths).sum(0) * (NEW_ITEM_NORM / max(1, len(parents)))
        self.bias[torch.from_numpy(rows)] = mean_bias - 1.0

    def history_mean(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """What the history says, as unit rows: the mean over it, and the newest item.

        Args:
            history: item rows, newest first, -1 beyond, (B, L).

        Returns:
            mean (B, D), newest (B, D); zero where the history is empty.
        """
        unit, rows = self._unit_rows(), history + 1  # (B, L)
        total = nn.functional.embedding_bag(rows, unit, mode="sum", padding_idx=0)
        return total / (rows > 0).sum(1, keepdim=True).clamp(min=1), unit[rows[:, 0]]

    def _unit_rows(self) -> Tensor:
        """Zeros, then the rows at unit length, (I + 1, D); only new ones are made, until `vector` is replaced."""
        count = len(self.vector)
        if self._unit_of is not self.vector:
            self._unit, self._unit_of, self._filled = self._unit[:1], self.vector, 0
        if count >= len(self._unit):
            unit = torch.zeros(1 + count + count // 8, self.vector.shape[1])
            unit[: 1 + self._filled] = self._unit[: 1 + self._filled]
            self._unit = unit
        if count > self._filled:
            self._unit[1 + self._filled : 1 + count] = nn.functional.normalize(self.vector[self._filled :], dim=-1)
            self._filled = count
        return self._unit[: 1 + count]


def history_mean(vector: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
    """`ItemEmbeddings.history_mean` over any table of vectors (I, D) that is being trained."""
    if len(vector) == 0:
        empty = vector.new_zeros(len(history), vector.shape[1])
        return empty, empty
    unit, known = nn.functional.normalize(vector, dim=-1), history >= 0
    length = known.sum(1)
    total = nn.functional.embedding_bag(history[known], unit, length.cumsum(0) - length, mode="sum")
    last = nn.functional.embedding(history[:, 0].clamp(min=0), unit) * known[:, :1]
    return total / length.clamp(min=1).unsqueeze(1), last


class LongTerm(nn.Module):
    """p = P · mean of the unit embeddings of the user's last items."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.project = nn.Linear(dimension, dimension, bias=False)
        nn.init.eye_(self.project.weight)

    def forward(self, mean: Tensor) -> Tensor:
        """`mean` (B, D) → p (B, D)."""
        p: Tensor = self.project(mean)
        return p
