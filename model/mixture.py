"""The mixture: where an item's next click may come from, as one probability.

A user's next click is on something popular, or on something that one of the sources names; each source spreads its
share over the items it names. The mixture of all is, up to a factor,

    P_i = 1e-5 + Σ_j v_j · popular_j[i] / Σ popular_j + Σ_k ρ_k · share_ik

with v_j the weights of the half-lives (they sum to 1), the same for everybody, and ρ_k how much more than popularity
the source k counts for this user, which the gate says. Its logarithm is one term of the score. Mixing what counts say
is how language models have long joined sparse counts of long contexts with dense ones of short ones (Jelinek and
Mercer, "Interpolated estimation of Markov source parameters from sparse data", 1980): a weighted sum of logarithms
lets one source that has never seen an item veto all others, a sum of shares does not.

Only items that a source names differ from popularity. So it is computed as

    log(1e5 · P_i) = mixed_i + lift_i
    mixed_i = log(1 + 1e5 · Σ_j v_j · popular_j[i] / Σ popular_j)
    lift_i  = log(1 + 1e5 · Σ_k ρ_k · share_ik / e^mixed_i)

where mixed is dense evidence, the same for all users of a moment, and lift is there for candidates only.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eddyline.model.compiled import compiled
from eddyline.model.dense import SHARE_SCALE
from eddyline.model.elementary import exp, log_1p
from eddyline.model.evidence import SPARSE
from eddyline.model.folding import HALF_LIVES
from eddyline.model.parts import Part

__all__ = ["COUNTED", "SHARES", "Mixture", "add_lift", "kept_sources"]

SHARES = (
    "near",  # p of the recent items' links
    "session",  # the same within the session
    "back",  # the same backwards
    "transition",  # t of the last item
    "transition_before",  # t of the one before
    "own",  # 0.1 · Σ .97^age over the user's clicks on it
    "own_fresh",  # 0.4 · .6^age of the last of them
    "own_harmonic",  # 0.2 / (1 + age) of the last of them
    "own_transition",  # how often it followed the last item in the user's own history
)
"""The sources, and what each gives to an item."""

COUNTED = 5
"""How many of them are counts of everybody; the others are the user's own history."""

_NEAR, _SESSION, _BACK, _T1, _T2 = (
    SPARSE.index(name) for name in ("near_fine", "session", "back", "transition", "transition_before_log")
)
_OWN, _AGE, _COUNT, _FOLLOWS = (SPARSE.index(name) for name in ("own", "own_age", "own_count", "own_transition"))
_FADING = float(np.log(0.6))


def kept_sources(without: Collection[Part], counted: int, count: int) -> Tensor | None:
    """1 for each source that is kept, the first `counted` being counts and the others history; None: all are."""
    if "counts" not in without and "history" not in without:
        return None
    kept = torch.ones(count)
    kept[:counted] = float("counts" not in without)
    kept[counted:] = float("history" not in without)
    return kept


class Mixture(nn.Module):
    """The weights of the half-lives, and the mixture from evidence as it was logged.

    Args:
        without: parts left out: their shares are zero.
    """

    def __init__(self, without: Collection[Part] = ()) -> None:
        super().__init__()
        self.lives = nn.Parameter(torch.tensor([0.05, 0.12, 0.28, 0.34, 0.2, 0.01]).log())
        self._popular = float("popularity" not in without)
        self._kept = kept_sources(without, COUNTED, len(SHARES))

    @property
    def weights(self) -> Tensor:
        """The v_j, (len(HALF_LIVES),)."""
        return self._popular * torch.softmax(self.lives, 0)

    def mixed(self, dense: Tensor) -> Tensor:
        """Dense evidence (…, E) → mixed (…)."""
        return torch.log1p(torch.expm1(dense[..., : len(HALF_LIVES)]) @ self.weights)

    def shares(self, evidence: Tensor) -> Tensor:
        """Sparse evidence (…, S) → shares (…, len(SHARES)): what the logarithms were taken of."""
        f, own = evidence, evidence[..., _OWN]
        age = torch.expm1(2 * f[..., _AGE])
        shares = [
            1e-4 * torch.expm1(2 * f[..., _NEAR]),
            1e-4 * torch.expm1(2 * f[..., _SESSION]),
            1e-4 * torch.expm1(2 * f[..., _BACK]),
            f[..., _T1],
            1e-3 * torch.expm1(2 * f[..., _T2]),
            0.1 * own * torch.exp(2 * f[..., _COUNT] - 3),
            0.4 * own * torch.exp(_FADING * age),
            0.2 * own / (1 + age),
            torch.expm1(f[..., _FOLLOWS]),
        ]
        return torch.stack(shares, -1) if self._kept is None else torch.stack(shares, -1) * self._kept

    def lift(self, evidence: Tensor, log_ratios: Tensor, mixed: Tensor) -> Tensor:
        """What the sources add for items that they name.

        Args:
            evidence: sparse evidence, (…, S).
            log_ratios: log ρ, (…, len(SHARES)).
            mixed: of the items, (…).
        """
        return self.lifted(self.named(evidence, log_ratios), mixed)

    def named(self, evidence: Tensor, log_ratios: Tensor) -> Tensor:
        """How much each source names an item, ρ · share, (…, len(SHARES))."""
        return self.shares(evidence) * log_ratios.exp()

    @staticmethod
    def lifted(named: Tensor, mixed: Tensor) -> Tensor:
        """The lift of items that the sources name so much, (…, len(SHARES)) → (…)."""
        return torch.log1p(SHARE_SCALE * named.sum(-1) * torch.exp(-mixed))

    def ratios(self, log_ratios: Tensor) -> npt.NDArray[np.float32]:
        """The ρ of each user, zero for parts left out; `add_lift` reads them, (B, len(SHARES))."""
        ratios = log_ratios.exp() if self._kept is None else log_ratios.exp() * self._kept
        return np.ascontiguousarray(ratios.numpy())


@compiled
def add_lift(
    start: npt.NDArray[np.int64],
    item: npt.NDArray[np.int32],
    evidence: npt.NDArray[np.float32],
    moment: npt.NDArray[np.int64],
    dense: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
    ratio: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Add the lift of each user's candidates, from `start` (B + 1,) on, weighed; the same as `Mixture.lift`.

    Args:
        start, item, evidence: the candidates, (B + 1,), (n,), (n, S).
        moment: of each user, (B,).
        dense: dense evidence at each moment, of which the last is mixed, (M, len(SCORED), I).
        weight: of the mixture for each user, (B,).
        ratio: ρ, (B, len(SHARES)).
        out: added to, (n,).
    """
    one, two, scale = np.float32(1.0), np.float32(2.0), np.float32(SHARE_SCALE)
    for b in range(len(weight)):
        r, w, mixed = ratio[b], weight[b], dense[moment[b], -1]
        for n in range(start[b], start[b + 1]):
            f = evidence[n]
            named = np.float32(1e-4) * (
                r[0] * (exp(two * f[_NEAR]) - one)
                + r[1] * (exp(two * f[_SESSION]) - one)
                + r[2] * (exp(two * f[_BACK]) - one)
            )
            named += r[3] * f[_T1] + r[4] * np.float32(1e-3) * (exp(two * f[_T2]) - one)
            if f[_OWN] > 0:
                age = exp(two * f[_AGE]) - one
                named += r[5] * np.float32(0.1) * exp(two * f[_COUNT] - np.float32(3.0))
                named += r[6] * np.float32(0.4) * exp(np.float32(_FADING) * age)
                named += r[7] * np.float32(0.2) / (one + age)
                named += r[8] * (exp(f[_FOLLOWS]) - one)
            out[n] += w * log_1p(scale * named * exp(-mixed[item[n]]))
