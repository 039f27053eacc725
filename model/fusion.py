"""Fusion: from the two interests to F(u), from F(u) and the evidence to one score.

α = softmax(H q(p + h) / √D),  context = Σ_t α_t H_t         attention over the N recent hidden states
s = out([h, context, e_last])                                short-term interest
F(u) = p + σ(g([p, h, context])) ⊙ s                         long- and short-term, fused
A(F(u), I(i)) = 16 · Σ_d (F(u)/|F(u)| ⊙ E_i)_d + b_i         the neural score n_i

a = a_0 + MLP(context features), or a_new of a newcomer       the gate: how far to trust each source, here
z_i = a_n n_i + a_m log P_i + Σ_k a_k dense_ik + Σ_k a_k sparse_ik + e(sparse_i, dense_i)

P_i is the mixture (`model.mixture`): what everything else corrects. e is there for candidates only.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from eddyline.model.dense import DENSE, SCORED
from eddyline.model.evidence import CONTEXT, OWN, SPARSE
from eddyline.model.long_term import LongTerm
from eddyline.model.mixture import SHARES, Mixture, kept_sources
from eddyline.model.parts import Part

__all__ = ["SHARPNESS", "Attention", "Fusion", "Gate", "GateWeights", "Network", "Residual"]

SHARPNESS = 16.0
"""What a cosine is multiplied with to become a logit."""


class Attention(nn.Module):
    """Attention weights over a user's recent hidden states, asked by the long-term interest and h."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.query = nn.Linear(dimension, dimension, bias=False)

    def forward(self, p: Tensor, h: Tensor, ring: Tensor, length: Tensor) -> Tensor:
        """The context.

        Args:
            p, h: long-term interest and hidden state, (B, D).
            ring: recent hidden states, (B, N, D).
            length: how many of them count, (B,).

        Returns:
            Σ_t α_t H_t, (B, D); zero where none counts.
        """
        query = self.query(p + h).unsqueeze(-1)  # (B, D, 1)
        logits = torch.matmul(ring, query).squeeze(-1) / ring.shape[-1] ** 0.5  # (B, N)
        counts = torch.arange(ring.shape[1]) < length.unsqueeze(-1)  # (B, N)
        logits = logits.masked_fill(~counts, -1e4)
        alpha = torch.softmax(logits, -1) * counts  # (B, N)
        context: Tensor = torch.matmul(alpha.unsqueeze(1), ring).squeeze(1)  # (B, D)
        return context


class Fusion(nn.Module):
    """F(u) = p + σ(g([p, h, context])) ⊙ out([h, context, e_last]), scaled to unit length."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.gate = nn.Linear(3 * dimension, dimension)
        self.out = nn.Linear(3 * dimension, dimension, bias=False)

    def forward(self, p: Tensor, h: Tensor, context: Tensor, last: Tensor) -> Tensor:
        """All (B, D) → F (B, D)."""
        s = self.out(torch.cat([h, context, last], -1))
        share = torch.sigmoid(self.gate(torch.cat([p, h, context], -1)))
        return nn.functional.normalize(p + share * s, dim=-1)


class GateWeights(NamedTuple):
    """How much each source counts, per user.

    Attributes:
        neural: (B,).
        dense: of the dense evidence and, last, of the mixture, (B, len(SCORED)).
        sparse: (B, len(SPARSE)).
        log_ratios: log ρ of the mixture's sources, (B, len(SHARES)).
    """

    neural: Tensor
    dense: Tensor
    sparse: Tensor
    log_ratios: Tensor

    @property
    def mixture(self) -> Tensor:
        """The weight of the mixture, (B,)."""
        return self.dense[:, -1]


# What the gate starts from, so that lists are good before anything was trained: the mixture, with sources that count
# for more than popularity, as they do on logs of clicks, purchases and ratings. The learner moves it.
PRIOR_NEURAL = 0.1
PRIOR_MIXTURE = 1.0
PRIOR_ARRIVALS = 0.25  # for newcomers
PRIOR_RATIO = {
    "near": 1.2,
    "session": 0.4,
    "back": 0.8,
    "transition": 0.4,
    "transition_before": -0.7,
    "own": -0.8,
    "own_fresh": -1.0,
    "own_harmonic": -1.0,
    "own_transition": -2.0,
}

_NEURAL, _DENSE, _MIXTURE, _SPARSE, _RATIOS = np.cumsum([0, 1, len(DENSE), 1, len(SPARSE)]).tolist()
"""Where the weights of each kind begin."""

_SOURCES = {
    "neural": range(_NEURAL, _DENSE),
    "popularity": range(_DENSE, _MIXTURE),
    "counts": range(_SPARSE, _SPARSE + OWN),
    "history": range(_SPARSE + OWN, _RATIOS),
}
"""Which of the gate's weights belong to which part; the mixture leaves out parts by itself."""

_SEEN_OF = {
    "counts": ("last_clicks", "mass", "most_transition", "most_near"),
    "history": ("repeats", "again"),
}
"""What the gate looks at that comes from a part."""

_NEWCOMER = CONTEXT.index("newcomer")

_LARGEST_LOG_RATIO = 20.0
"""Beyond it one source drowns all others anyway, and its exponential must stay finite."""


class Gate(nn.Module):
    """a = a_0 + MLP(context features): 32 tanh units, the last layer starting at zero; newcomers have their own a.

    Without the gate, a = a_0; without a source, its weights are zero, and the gate does not see it either.
    """

    def __init__(self, without: Collection[Part] = ()) -> None:
        super().__init__()
        self.fixed = "gate" in without
        prior = torch.zeros(_RATIOS + len(SHARES))
        prior[_NEURAL], prior[_MIXTURE] = PRIOR_NEURAL, PRIOR_MIXTURE
        prior[_RATIOS:] = torch.tensor([PRIOR_RATIO[name] for name in SHARES])
        left_out = [place for part in without for place in _SOURCES.get(part, ())]
        self.kept: Tensor | None = None
        if left_out:
            self.kept = torch.ones(len(prior))
            self.kept[left_out] = 0.0
        hidden = [CONTEXT.index(name) for part in without for name in _SEEN_OF.get(part, ())]
        self.seen: Tensor | None = None
        if hidden:
            self.seen = torch.ones(len(CONTEXT))
            self.seen[hidden] = 0.0
        self.hidden = nn.Linear(len(CONTEXT), 32)
        self.change = nn.Linear(32, len(prior), bias=False)
        self.prior = nn.Parameter(prior)
        newcomer = torch.zeros(len(prior))
        newcomer[_DENSE + DENSE.index("arrivals")], newcomer[_MIXTURE] = PRIOR_ARRIVALS, PRIOR_MIXTURE
        self.newcomer = nn.Parameter(newcomer)
        nn.init.zeros_(self.change.weight)

    def forward(self, features: Tensor) -> GateWeights:
        """`features` (B, len(CONTEXT)) → weights of the sources."""
        a = self.prior.expand(len(features), -1)
        if self.seen is not None:
            features = features * self.seen
        if not self.fixed:
            known = a + self.change(torch.tanh(self.hidden(features)))
            a = torch.where(features[:, _NEWCOMER, None] > 0, self.newcomer, known)
        if self.kept is not None:
            a = a * self.kept
        log_ratios = a[:, _RATIOS:].clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
        return GateWeights(a[:, _NEURAL], a[:, _DENSE:_SPARSE], a[:, _SPARSE:_RATIOS], log_ratios)


class Residual(nn.Module):
    """e(sparse, dense): what all evidence of a candidate says together, beyond a weighted sum; starts at zero."""

    def __init__(self, without: Collection[Part] = ()) -> None:
        super().__init__()
        self.kept = kept_sources(without, OWN, len(SPARSE))
        self.popular = float("popularity" not in without)
        self.hidden = nn.Linear(len(SPARSE) + len(SCORED), 32)
        self.out = nn.Linear(32, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, sparse: Tensor, dense: Tensor) -> Tensor:
        """(…, len(SPARSE)), (…, len(SCORED)) → (…)."""
        if self.kept is not None:
            sparse = sparse * self.kept
        dense = self.popular * (0.5 * dense - 2.5)  # on the scale of the sparse evidence, and about zero
        score: Tensor = self.out(torch.relu(self.hidden(torch.cat([sparse, dense], -1)))).squeeze(-1)
        return score


class Network(nn.Module):
    """Everything trained but the item embeddings and the encoder.

    Args:
        dimension: D.
        without: parts left out; their contribution is zero, in training and serving alike.
    """

    def __init__(self, dimension: int, without: Collection[Part] = ()) -> None:
        super().__init__()
        self.without = frozenset(without)
        self.long_term = LongTerm(dimension)
        self.attention = Attention(dimension)
        self.fusion = Fusion(dimension)
        self.gate = Gate(without)
        self.mixture = Mixture(without)
        self.residual = Residual(without)

    @property
    def head(self) -> list[nn.Parameter]:
        """The weights that join the sources: gate, mixture, residual."""
        return [*self.gate.parameters(), *self.mixture.parameters(), *self.residual.parameters()]

    def interest(self, h: Tensor, ring: Tensor, ring_length: Tensor, mean: Tensor, last: Tensor) -> Tensor:
        """F(u) at unit length.

        Args:
            h: hidden state, (B, D).
            ring: recent hidden states, (B, N, D), of which `ring_length` (B,) count.
            mean: mean unit embedding of the history, (B, D).
            last: unit embedding of the newest item, (B, D).
        """
        p = self.long_term(mean)
        if "long-term" in self.without:
            p = torch.zeros_like(p)
        if "lstm" in self.without:
            h, ring = torch.zeros_like(h), torch.zeros_like(ring)
        context = torch.zeros_like(p) if "attention" in self.without else self.attention(p, h, ring, ring_length)
        F: Tensor = self.fusion(p, h, context, last)
        return F
