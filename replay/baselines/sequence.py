"""GRU4Rec: a recurrent network over each user's last items, trained on the warm-up, frozen or trained again at times.

The state of a user is a function of the last `STEPS` items that the network knows, so that nothing of a user is kept,
and new weights can be used at once. With z, r, n the gates of a GRU (Cho et al., EMNLP 2014),

    h ← (1 − z) ⊙ n + z ⊙ h,    score_i = 16 · cos(W h, e_i) + b_i

An item that it was not trained on scores −∞: it ranks last. See `gru_training` for how it learns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from eddyline.model.compiled import compiled
from eddyline.replay.baselines.family import Family
from eddyline.replay.baselines.gru_training import SHARPNESS, GruSettings, Network, Trainer
from eddyline.replay.contender import Progress, Question, WarmUp
from eddyline.replay.ticks import Tick

__all__ = ["Gru4Rec", "Gru4RecVariant"]

STEPS = 20
NEWEST, NEWEST_AGAIN = 200_000, 100_000
"""Newest clicks trained on, at first and again."""

LEAST = 500
"""Fewest clicks from one training to the next."""

VARIANTS = (GruSettings(dropout=0.3), GruSettings(dropout=0.5))


class _Frozen(NamedTuple):
    """Trained weights, ready for steps of the kernel.

    Attributes:
        known: which items were trained on, (I,).
        inputs: each item's part in the gates z, r, n, (I, 3, D).
        hidden: transposed weights of the hidden state in the gates, (3, D, D).
        hidden_bias: its bias, (3, D).
        out, out_bias: W, transposed, and its bias, (D, D), (D,).
        vectors, bias: 16 · e and b, (I, D), (I,).
    """

    known: npt.NDArray[np.bool_]
    inputs: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.float32]
    hidden_bias: npt.NDArray[np.float32]
    out: npt.NDArray[np.float32]
    out_bias: npt.NDArray[np.float32]
    vectors: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


class Gru4RecVariant:
    """One network.

    Args:
        settings: parameters.
        seed: of training.
    """

    def __init__(self, settings: GruSettings, seed: int) -> None:
        self.settings = settings
        self._trainer = Trainer(settings, seed)
        self._frozen: _Frozen | None = None

    def train(
        self, users: npt.NDArray[np.int64], items: npt.NDArray[np.int32], catalogue: int, on_progress: Progress
    ) -> None:
        """Train on clicks of users on item rows, oldest first, (n,)."""
        network = self._trainer.train(users, items, catalogue, on_progress)
        known = np.bincount(items, minlength=catalogue) > 0
        if self._frozen is not None:
            known[: len(self._frozen.known)] |= self._frozen.known
        self._frozen = _freeze(network, known)

    def scores(self, recent: npt.NDArray[np.int32], items: int) -> npt.NDArray[np.float32]:
        """Scores of the first `items` items after the last items of users, newest first, −1 where unknown, (B, I)."""
        scores = np.full((len(recent), items), -np.inf, np.float32)
        frozen = self._frozen
        if frozen is not None:
            ahead = np.zeros((len(recent), len(frozen.out)), np.float32)
            _run(recent, frozen, ahead)
            rows = len(frozen.known)
            scores[:, :rows] = ahead @ frozen.vectors.T
            scores[:, :rows] += frozen.bias
        return scores


class Gru4Rec(Family[Gru4RecVariant]):
    """The contender.

    Args:
        name: of the contender.
        question: how lists are asked for.
        seed: of training.
        retrained: how often it is trained again while as many clicks come as in the warm-up; 0: never.
        variants: what to choose from.
    """

    def __init__(
        self,
        name: str,
        question: Question,
        seed: int,
        retrained: int = 0,
        variants: tuple[GruSettings, ...] = VARIANTS,
    ) -> None:
        super().__init__(name, question, [Gru4RecVariant(one, seed) for one in variants])
        self._retrained = retrained
        self._users: list[npt.NDArray[np.int64]] = []
        self._items: list[npt.NDArray[np.int32]] = []
        self._every = 0
        self._since = 0

    def describe(self, variant: Gru4RecVariant) -> dict[str, Any]:
        """The parameters."""
        return variant.settings._asdict()

    def train(self, past: WarmUp, on_progress: Progress) -> None:
        """Train every variant."""
        for n, variant in enumerate(self.variants):
            self._fit(variant, len(past.stream.counts), _part(on_progress, n, len(self.variants)))

    def settle(self, past: WarmUp, on_progress: Progress) -> None:
        """Go on with the best variant alone, trained on with the clicks that have come since."""
        super().settle(past, on_progress)
        self._fit(self.variants[0], len(past.stream.counts), on_progress)
        if self._retrained:
            self._every = max(LEAST, len(past.item) // self._retrained)
        else:
            self._users, self._items = [], []

    def learn(self, tick: Tick) -> None:
        """Gather the clicks; train again when it is time."""
        if self._every or not self.settled:
            self._users.append(tick.users[tick.clicks.user])
            self._items.append(tick.counts.rows(tick.clicks.item))
        self._since += len(tick)
        if self._every and self._since >= self._every:
            self._fit(self.variants[0], len(tick.counts), lambda share, text: None)

    def scores(self, variant: Gru4RecVariant, tick: Tick) -> npt.NDArray[np.float32]:
        """Scores of every item, (B, I)."""
        return variant.scores(tick.history(STEPS), len(tick.counts))

    def _fit(self, variant: Gru4RecVariant, catalogue: int, on_progress: Progress) -> None:
        """Train on the newest clicks."""
        newest = NEWEST_AGAIN if self.settled else NEWEST
        self._since = 0
        if not self._users:
            return
        users, items = np.concatenate(self._users)[-newest:], np.concatenate(self._items)[-newest:]
        self._users, self._items = [users], [items]
        variant.train(users, items, catalogue, on_progress)


def _part(on_progress: Progress, n: int, of: int) -> Progress:
    return lambda share, text: on_progress((n + share) / of, text)


@torch.no_grad()
def _freeze(network: Network, known: npt.NDArray[np.bool_]) -> _Frozen:
    """Weights as arrays. PyTorch orders the gates r, z, n."""
    vectors = torch.nn.functional.normalize(network.vector, dim=-1)
    items, D = vectors.shape
    gru = dict(network.gru.named_parameters())
    inputs = vectors @ gru["weight_ih_l0"].T + gru["bias_ih_l0"]
    return _Frozen(
        known=known,
        inputs=inputs.numpy().reshape(items, 3, D).copy(),
        hidden=gru["weight_hh_l0"].numpy().reshape(3, D, D).transpose(0, 2, 1).copy(),
        hidden_bias=gru["bias_hh_l0"].numpy().reshape(3, D).copy(),
        out=network.out.weight.numpy().T.copy(),
        out_bias=network.out.bias.numpy().copy(),
        vectors=(SHARPNESS * vectors).numpy().copy(),
        bias=np.where(known, network.bias.numpy(), np.float32(-np.inf)),
    )


@compiled
def _run(recent: npt.NDArray[np.int32], frozen: _Frozen, ahead: npt.NDArray[np.float32]) -> None:
    """Unit vectors of what comes next, (B, D), from the oldest of the recent items to the newest."""
    D = ahead.shape[1]
    one = np.float32(1.0)
    gates = np.empty((3, D), np.float32)
    h = np.empty(D, np.float32)
    for b in range(len(recent)):
        h[:] = 0.0
        for k in range(recent.shape[1] - 1, -1, -1):
            x = recent[b, k]
            if x < 0 or x >= len(frozen.known) or not frozen.known[x]:
                continue
            gates[:] = frozen.hidden_bias
            for g in range(3):
                for e in range(D):
                    for d in range(D):
                        gates[g, d] += h[e] * frozen.hidden[g, e, d]
            for d in range(D):
                r = one / (one + np.exp(-gates[0, d] - frozen.inputs[x, 0, d]))
                z = one / (one + np.exp(-gates[1, d] - frozen.inputs[x, 1, d]))
                n = np.tanh(frozen.inputs[x, 2, d] + r * gates[2, d])
                h[d] = (one - z) * n + z * h[d]
        u = ahead[b]
        u[:] = frozen.out_bias
        for e in range(D):
            for d in range(D):
                u[d] += h[e] * frozen.out[e, d]
        size = np.float32(0.0)
        for d in range(D):
            size += u[d] * u[d]
        u /= max(np.sqrt(size), np.float32(1e-12))
