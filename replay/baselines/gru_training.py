"""Training of GRU4Rec: the next item of each user from the items before it.

GRU4Rec (Hidasi et al., ICLR 2016) with tied embeddings and, in place of its ranking losses, the cross-entropy over
sampled items with its log-odds correction, which makes it several times better (Klenitskiy and Vasilev, RecSys 2023):

    logits_i = s · cos(W h, e_i) + b_i − log(expected count of i in the pool)

The pool holds the targets of the batch and S items drawn with q ∝ clicks^0.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eddyline.replay.contender import Progress
from eddyline.replay.sequences import Padded, padded, stretches

__all__ = ["SHARPNESS", "GruSettings", "Network", "Trainer"]

SHARPNESS = 16.0
WINDOW = 50
"""Clicks of a user that are trained on at once."""


class GruSettings(NamedTuple):
    """Parameters.

    Attributes:
        dimension: D, of embeddings and hidden state.
        dropout: of inputs and hidden states.
        rate: of Adam, after 50 steps of warm-up, falling linearly.
        epochs: most passes; early stopping may end sooner.
        most: most clicks of all passes together, which bounds the cost of training on many; a sixth of it when
            training goes on with weights that are there.
        batch: clicks per step.
        negatives: S.
        held_out: the newest share of the clicks, which decides when to stop.
    """

    dimension: int = 128
    dropout: float = 0.3
    rate: float = 2e-3
    epochs: int = 16
    most: int = 1_200_000
    batch: int = 512
    negatives: int = 1024
    held_out: float = 0.1


class Network(nn.Module):
    """The network; `vector` is (I, D), `bias` (I,)."""

    def __init__(self, items: int, settings: GruSettings) -> None:
        super().__init__()
        D = settings.dimension
        self.vector = nn.Parameter(torch.randn(items, D) / D**0.5)
        self.bias = nn.Parameter(torch.zeros(items))
        self.gru = nn.GRU(D, D, batch_first=True)
        self.out = nn.Linear(D, D)
        self.dropout = nn.Dropout(settings.dropout)

    def embed(self, rows: Tensor) -> Tensor:
        """Unit vectors of items, (…, D)."""
        return nn.functional.normalize(self.vector[rows], dim=-1)

    def forward(self, items: Tensor) -> Tensor:
        """Unit vectors of what comes next, (B, T, D), after items (B, T)."""
        h, _ = self.gru(self.dropout(self.embed(items)))
        return nn.functional.normalize(self.out(self.dropout(h)), dim=-1)


class Trainer:
    """Trains a network, and trains it again when more clicks have come.

    Args:
        settings: parameters.
        seed: of first weights, order and negatives.
    """

    def __init__(self, settings: GruSettings, seed: int) -> None:
        self.settings = settings
        self._random = np.random.default_rng(seed)
        self._seed = seed
        self._network: Network | None = None

    def train(
        self,
        users: npt.NDArray[np.int64],
        items: npt.NDArray[np.int32],
        catalogue: int,
        on_progress: Progress,
    ) -> Network:
        """The network after training on clicks of users on item rows, oldest first, (n,).

        It begins with the weights it has; items that are new begin at random. The newest clicks decide when to stop,
        and are learned in one pass over everything at the end, with a smaller rate.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            return self._train(users, items, catalogue, on_progress)

    def _train(
        self, users: npt.NDArray[np.int64], items: npt.NDArray[np.int32], catalogue: int, on_progress: Progress
    ) -> Network:
        settings, end = self.settings, len(items)
        most = settings.most if self._network is None else settings.most // 6
        network = self._grown(catalogue)
        boundary = int(end * (1 - settings.held_out))
        batches = list(_batches(users, items, settings.batch))
        epochs = max(1, min(settings.epochs, most // max(1, end)))
        optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate, betas=(0.9, 0.98))
        steps = epochs * len(batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min((step + 1) / 50, max(0.1, 1 - step / max(1, steps)))
        )
        clicks = np.bincount(items[:boundary], minlength=catalogue)
        known = torch.from_numpy(clicks > 0)
        sampler = _Sampler(clicks, settings.negatives, self._random)
        best, best_state = np.inf, network.state_dict()
        for epoch in range(1, epochs + 1):
            self._pass(network, batches, boundary, sampler, optimiser, schedule)
            held = _held_out_loss(network, batches, boundary, known)
            on_progress(epoch / epochs, f"gru4rec: epoch {epoch}, held-out loss {held:.3f}")
            if held >= best:
                break
            best = held
            best_state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(best_state)
        sampler = _Sampler(np.bincount(items, minlength=catalogue), settings.negatives, self._random)
        optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate / 4, betas=(0.9, 0.98))
        self._pass(network, batches, end, sampler, optimiser)
        network.eval()
        self._network = network
        return network

    def _pass(
        self,
        network: Network,
        batches: list[Padded],
        end: int,
        sampler: _Sampler,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    ) -> None:
        """One pass over the clicks before `end`."""
        network.train()
        for b in self._random.permutation(len(batches)):
            wanted = (batches[b].when >= 0) & (batches[b].when < end)
            if wanted.any():
                optimiser.zero_grad()
                sampler.loss(network, batches[b], wanted).backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                if schedule:
                    schedule.step()

    def _grown(self, items: int) -> Network:
        network = Network(items, self.settings)
        if self._network is not None:
            before = self._network.state_dict()
            with torch.no_grad():
                for name, tensor in network.state_dict().items():
                    tensor[tuple(slice(0, size) for size in before[name].shape)] = before[name]
        return network


def _batches(users: npt.NDArray[np.int64], rows: npt.NDArray[np.int32], clicks: int) -> Iterator[Padded]:
    """Users' clicks in stretches of at most `WINDOW` targets, those of like length together."""
    together: list[npt.NDArray[np.int64]] = []
    for stretch in sorted(stretches(users, WINDOW), key=len):
        if together and (len(together) + 1) * (len(stretch) - 1) > clicks:
            yield padded(together, rows)
            together = []
        together.append(stretch)
    if together:
        yield padded(together, rows)


class _Sampler:
    """Draws pools of items that the targets are told apart from."""

    def __init__(self, clicks: npt.NDArray[np.int64], negatives: int, random: np.random.Generator) -> None:
        self._share = clicks / max(1.0, clicks.sum())
        draw = clicks**0.6
        self._draw = draw / max(1.0, draw.sum())
        self._ends = np.cumsum(self._draw)
        self._negatives = negatives
        self._random = random

    def loss(self, network: Network, batch: Padded, wanted: npt.NDArray[np.bool_]) -> Tensor:
        """Mean cross-entropy of the wanted targets among a pool."""
        targets = batch.targets[wanted]
        drawn = np.searchsorted(self._ends, self._random.random(self._negatives) * self._ends[-1], side="right")
        pool = np.union1d(targets, np.minimum(drawn, len(self._ends) - 1))
        expected = self._negatives * self._draw[pool] + len(targets) * self._share[pool]
        at = torch.from_numpy(pool)
        ahead = network(torch.from_numpy(batch.items))[torch.from_numpy(wanted)]
        logits = SHARPNESS * (ahead @ network.embed(at).T) + network.bias[at]
        logits = logits - torch.from_numpy(np.log(np.maximum(expected, 1e-9)).astype(np.float32))
        return nn.functional.cross_entropy(logits, torch.from_numpy(np.searchsorted(pool, targets)))


@torch.no_grad()
def _held_out_loss(network: Network, batches: list[Padded], boundary: int, known: Tensor) -> float:
    """Mean cross-entropy of the targets from `boundary` on, among the known items."""
    network.eval()
    total, count = 0.0, 0
    vectors = nn.functional.normalize(network.vector, dim=-1)
    for batch in batches:
        wanted = torch.from_numpy(batch.when >= boundary) & known[torch.from_numpy(batch.targets)]
        if wanted.any():
            ahead = network(torch.from_numpy(batch.items))[wanted]
            logits = (SHARPNESS * (ahead @ vectors.T) + network.bias).masked_fill(~known, -torch.inf)
            targets = torch.from_numpy(batch.targets)[wanted]
            total += float(nn.functional.cross_entropy(logits, targets, reduction="sum"))
            count += len(targets)
    return total / max(1, count)
