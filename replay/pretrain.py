"""Pre-training: the encoder, the long-term and the fusion layers from clicks gathered so far.

Next-item prediction with the neural score alone: input and output embeddings are one table of unit rows,

    logits_i = 16 · F(u)·E_i + b_i − log(S · q_i + B · p_i)

over the clicked items of the batch and S negatives drawn with q ∝ clicks^0.6 (p: share of the clicks), so that the
sampled softmax is unbiased. The gate is not touched: it learns from later clicks, which these weights never saw.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from eddyline.model.counts import Counts
from eddyline.model.fusion import SHARPNESS, Network
from eddyline.model.long_term import ItemEmbeddings
from eddyline.model.model import Model, untrained_model
from eddyline.model.parts import Part
from eddyline.model.short_term import Encoder
from eddyline.replay.sequences import Padded, padded, stretches
from eddyline.state.user_state import StateShape

__all__ = ["ClickLog", "PretrainSettings", "Pretrained", "pretrain"]


class PretrainSettings(BaseModel):
    """How the first model, or a new encoder, is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(8, ge=1, description="Most passes over the clicks; early stopping may end sooner")
    least_steps: int = Field(
        400, ge=1, description="Training steps allowed for at least: more passes where clicks are few"
    )
    batch: int = Field(640, ge=16, description="Clicks per training step")
    rate: float = Field(2e-3, gt=0, description="Adam rate, after 100 steps of warm-up, falling linearly")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout of the input embeddings and hidden states")
    negatives: int = Field(1024, ge=1, description="S: items drawn per step")
    held_out: float = Field(0.1, gt=0, lt=0.9, description="Last share of the clicks, which decides when to stop")
    buckets: int = Field(64, ge=1, description="Embeddings through which items unknown to the encoder enter")


@dataclass(frozen=True)
class ClickLog:
    """Clicks in the order of time, as hashes.

    Attributes:
        user, item: (B,).
    """

    user: npt.NDArray[np.uint64]
    item: npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Pretrained:
    """The outcome of pre-training.

    Attributes:
        model: the model, of version 0 until it is stored.
        epochs: passes over the clicks until the best.
        loss: mean cross-entropy on the held-out clicks, among the items trained on.
        clicks: clicks that were trained on.
    """

    model: Model
    epochs: int
    loss: float
    clicks: int


LONG_TERM_ALONE = 0.5
"""How often a stretch is learned without its hidden states, so that the long-term interest learns to do without."""

BUCKET_SHARE = 0.1
"""How often an input item enters through its bucket, so that buckets learn to stand for the unknown."""


class _Sequences(nn.Module):
    """The network with its LSTM, over whole sequences."""

    def __init__(self, items: int, buckets: int, shape: StateShape, dropout: float, without: Collection[Part]) -> None:
        super().__init__()
        D = shape.dimension
        self.shape = shape
        self.vector = nn.Parameter(torch.randn(items, D) / D**0.5)
        self.bucket = nn.Parameter(0.1 * torch.randn(buckets, D))
        self.bias = nn.Parameter(torch.zeros(items))
        self.lstm = nn.LSTM(D, D, batch_first=True)
        self.network = Network(D, without)
        self.dropout = nn.Dropout(dropout)

    def forward(self, items: Tensor, bucketed: Tensor) -> Tensor:
        """F(u) after every position.

        Args:
            items: item rows, padded at the end with any row, (B, T).
            bucketed: where an item enters through a bucket, and which, −1 elsewhere, (B, T).
        """
        B, T = items.shape
        N, D = self.shape.ring, self.shape.dimension
        e = nn.functional.normalize(self.vector[items], dim=-1)  # (B, T, D)
        x = torch.where((bucketed >= 0).unsqueeze(-1), self.bucket[bucketed.clamp(min=0)], e)
        h, _ = self.lstm(self.dropout(x))
        h = self.dropout(h)
        if self.training:
            h = h * (torch.rand(B, 1, 1) >= LONG_TERM_ALONE)
        past = nn.functional.pad(h, (0, 0, N - 1, 0))  # (B, T + N − 1, D)
        ring = past.unfold(1, N, 1).transpose(2, 3).reshape(B * T, N, D).flip(1)  # newest first
        length = torch.arange(1, T + 1).clamp(max=N).repeat(B)  # (B · T,)
        mean = self.dropout(e).cumsum(1) / torch.arange(1, T + 1).view(1, T, 1)
        flat = (tensor.reshape(B * T, D) for tensor in (h, mean, self.dropout(e)))
        h, mean, last = flat
        return self.network.interest(h, ring, length, mean, last).view(B, T, D)


def pretrain(
    log: ClickLog,
    counts: Counts,
    shape: StateShape,
    settings: PretrainSettings,
    *,
    window: int = 50,
    seed: int = 0,
    without: Collection[Part] = (),
    on_progress: Callable[[float, str], None] = lambda share, text: None,
) -> Pretrained:
    """Train a new encoder with its long-term and fusion layers.

    Args:
        log: the clicks; items that the counts do not know are left out.
        counts: give the items their rows.
        shape: sizes.
        settings: how to train.
        window: L, longest stretch of a user's clicks trained on at once.
        seed: of initial weights, order and negatives.
        without: parts of the model to leave out.
        on_progress: told the share done and a line about it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _pretrain(log, counts, shape, settings, window, np.random.default_rng(seed), without, on_progress)


def _pretrain(
    log: ClickLog,
    counts: Counts,
    shape: StateShape,
    settings: PretrainSettings,
    window: int,
    random: np.random.Generator,
    without: Collection[Part],
    on_progress: Callable[[float, str], None],
) -> Pretrained:
    rows = counts.rows(log.item)
    stretches = _stretches(log.user, rows, window)
    boundary = int(len(rows) * (1 - settings.held_out))
    trained = rows[:boundary]
    clicks = np.bincount(trained[trained >= 0], minlength=len(counts)).astype(np.float64)
    model = _Sequences(len(counts), settings.buckets, shape, settings.dropout, without)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.rate, betas=(0.9, 0.98))
    batches = _batches(stretches, settings.batch)
    epochs = max(settings.epochs, -(-settings.least_steps // max(1, len(batches))))
    steps = epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / 100, max(0.0, 1 - step / max(1, steps)))
    )
    draw = clicks**0.6
    sampler = _Sampler(draw / draw.sum(), clicks / max(1.0, clicks.sum()), settings.negatives, random)
    best, best_epoch, best_state = np.inf, 0, model.state_dict()
    done = 0
    for epoch in range(1, epochs + 1):
        model.train()
        for b in random.permutation(len(batches)):
            loss, count = _loss(model, batches[b], rows, 0, boundary, sampler, settings.buckets, random)
            done += 1
            if count:
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
            schedule.step()
            if done % 20 == 0:
                on_progress(done / steps, f"epoch {epoch}/{epochs}, loss {loss.item():.3f}")
        held = _evaluate(model, batches, rows, boundary, torch.from_numpy(clicks > 0))
        on_progress(done / steps, f"epoch {epoch}/{epochs}, held-out loss {held:.3f}")
        if held >= best:
            break
        best, best_epoch = held, epoch
        best_state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(best_state)
    return Pretrained(_model(model, counts, clicks > 0), best_epoch, float(best), boundary)


def _model(trained: _Sequences, counts: Counts, known: npt.NDArray[np.bool_]) -> Model:
    """The trained layers as a model. Items without a training click start like any new item."""
    with torch.no_grad():
        vector = nn.functional.normalize(trained.vector, dim=-1)
        items = ItemEmbeddings(vector.clone(), trained.bias.detach().clone())
        items.imprint(np.flatnonzero(~known), counts, mean_bias=float(items.bias[known].mean()))
        lstm = dict(trained.lstm.named_parameters())
        encoder = Encoder(
            items=counts.hashes[known],
            inputs=torch.cat([vector[known], trained.bucket]).numpy().copy(),
            w_x=lstm["weight_ih_l0"].detach().numpy().copy(),
            w_h=lstm["weight_hh_l0"].detach().numpy().copy(),
            bias=(lstm["bias_ih_l0"] + lstm["bias_hh_l0"]).numpy().copy(),
        )
        network = untrained_model(trained.shape.dimension, trained.network.without).network
        head = [parameter.clone() for parameter in network.head]
        network.load_state_dict(trained.network.state_dict())
        for parameter, untouched in zip(network.head, head, strict=True):
            parameter.copy_(untouched)
        return Model(0, 0, encoder, network, items)


def _stretches(user: npt.NDArray[np.uint64], rows: npt.NDArray[np.int32], window: int) -> list[npt.NDArray[np.int64]]:
    """Stretches of each user's clicks on known items, as places in the log."""
    known = np.flatnonzero(rows >= 0)
    return [known[stretch] for stretch in stretches(user[known], window)]


def _batches(stretches: list[npt.NDArray[np.int64]], clicks: int) -> list[list[npt.NDArray[np.int64]]]:
    """Stretches of like length together, about `clicks` clicks a batch."""
    batches: list[list[npt.NDArray[np.int64]]] = []
    size = 0
    for stretch in sorted(stretches, key=len):
        if not batches or size + len(stretch) - 1 > clicks:
            batches.append([])
            size = 0
        batches[-1].append(stretch)
        size += len(stretch) - 1
    return batches


@dataclass(frozen=True)
class _Sampler:
    draw: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]
    negatives: int
    random: np.random.Generator

    def pool(self, targets: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Rows to tell the targets apart from, and the log of how often each is expected among them."""
        negatives = self.random.choice(len(self.draw), self.negatives, p=self.draw)
        pool = np.union1d(targets, negatives)
        expected = self.negatives * self.draw[pool] + len(targets) * self.share[pool]
        return pool, np.log(expected).astype(np.float32)


def _loss(
    model: _Sequences,
    batch: list[npt.NDArray[np.int64]],
    rows: npt.NDArray[np.int32],
    begin: int,
    end: int,
    sampler: _Sampler,
    buckets: int,
    random: np.random.Generator,
) -> tuple[Tensor, int]:
    """Mean sampled cross-entropy of the targets whose place in the log is in [begin, end), and their number."""
    items, targets, when = padded(batch, rows)
    wanted = (when >= begin) & (when < end)
    if not wanted.any():
        return torch.zeros(()), 0
    bucketed = np.where(random.random(items.shape) < BUCKET_SHARE, random.integers(0, buckets, items.shape), -1)
    F = model(torch.from_numpy(items), torch.from_numpy(bucketed))[torch.from_numpy(wanted)]
    target = targets[wanted]
    pool, expected = sampler.pool(target)
    at = torch.from_numpy(pool)
    vector = nn.functional.normalize(model.vector[at], dim=-1)
    logits = SHARPNESS * (F @ vector.T) + model.bias[at] - torch.from_numpy(expected)
    place = torch.from_numpy(np.searchsorted(pool, target))
    return nn.functional.cross_entropy(logits, place), len(target)


@torch.no_grad()
def _evaluate(
    model: _Sequences,
    batches: list[list[npt.NDArray[np.int64]]],
    rows: npt.NDArray[np.int32],
    boundary: int,
    known: Tensor,
) -> float:
    """Mean cross-entropy over the known items on the held-out clicks on them."""
    model.eval()
    vector = nn.functional.normalize(model.vector, dim=-1)
    total, count = 0.0, 0
    for items, targets, when in _held_out(batches, rows, boundary):
        wanted = torch.from_numpy(when >= boundary) & known[torch.from_numpy(targets)]
        none = torch.full(items.shape, -1)
        F = model(torch.from_numpy(items), none)[wanted]
        target = torch.from_numpy(targets)[wanted]
        logits = (SHARPNESS * (F @ vector.T) + model.bias).masked_fill(~known, -torch.inf)
        total += float(nn.functional.cross_entropy(logits, target, reduction="sum"))
        count += len(target)
    return total / max(1, count)


def _held_out(
    batches: list[list[npt.NDArray[np.int64]]], rows: npt.NDArray[np.int32], boundary: int
) -> Iterator[Padded]:
    for batch in batches:
        made = padded(batch, rows)
        if (made.when >= boundary).any():
            yield made
