"""The learner: fine-tunes all but the LSTM online: item embeddings, interest, gate, mixture and residual.

One step for every `batch` new examples:

    loss = 20 / (20 + rank) · CE(z | newest, evidence as served) + CE(n | newest) + 2 · CE(n | replayed)

over pools of items instead of the catalogue, so that the cost of a step does not grow with it: z over what each
example was told apart from as it was served, n over the clicked items of the step and uniform ones. Logits of items
that only a draw brought in carry the log odds of being drawn.

Then two steps of the head alone, which joins the sources, each on old examples with the evidence as served:

    loss = 20 / (20 + rank) · CE(z | replayed, its best candidates)

The gate, the mixture and the residual learn from few examples in large steps; what is published of them is the
running average of their weights over about ten steps (Polyak and Juditsky, "Acceleration of Stochastic Approximation by
Averaging", 1992).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from eddyline.model.buffer import BufferSettings, ReplayBuffer
from eddyline.model.counts import Counts
from eddyline.model.fusion import Network
from eddyline.model.long_term import ItemEmbeddings
from eddyline.model.losses import (
    Pool,
    asked,
    joined,
    make_pool,
    mean_loss,
    neural_loss,
    own_scores,
    score_loss,
    side_by_side,
)
from eddyline.model.model import Model
from eddyline.model.remembered import listed_loss, remember, replayed_rows
from eddyline.model.scores import ranks
from eddyline.state.examples import Examples
from eddyline.state.user_state import StateShape

__all__ = ["Learner", "LearnerSettings", "Losses"]


_REPLAYED = 2.0
"""How much more old examples count than new ones: more is remembered, at no loss on the newest."""

_HEAD_STEPS = 2
"""Steps of the head alone after each step: what a click says of the sources is not used up by one step."""

_AVERAGING = 0.1
"""Share of the newest weights in the running average."""

_RANKED_AT_ONCE = 64
"""Old examples whose scores are made at once: few enough to stay in the cache."""


class LearnerSettings(BaseModel):
    """How the model is fine-tuned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int = Field(256, ge=1, description="New examples per training step")
    replayed: int = Field(512, ge=0, description="Examples from the replay buffer in each step; 0: no replay")
    uniform: int = Field(1024, ge=1, description="Uniformly drawn items in the pool of the neural loss")
    item_rate: float = Field(0.05, gt=0, description="Row-wise Adagrad rate of item embeddings and biases")
    network_rate: float = Field(1e-3, gt=0, description="Adam rate of long-term, attention and fusion")
    gate_rate: float = Field(2e-2, gt=0, description="Adam rate of the gate, the mixture and the residual")
    buffer: BufferSettings = Field(default_factory=BufferSettings, description="The replay buffer")


class Losses(NamedTuple):
    """Mean losses of one step, before it learned: of z, and the cross-entropies of the neural score alone."""

    score: float
    neural: float
    replayed: float


class Learner:
    """Learns from examples, in order.

    Args:
        settings: rates and sizes.
        shape: sizes of the states.
        history: L, items of history per example.
        model: where to start from; it is copied, not changed.
        seed: of the replay buffer and the drawn items.
    """

    def __init__(self, settings: LearnerSettings, shape: StateShape, history: int, model: Model, seed: int = 0) -> None:
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
        head = self.network.head
        self._averaged = [parameter.detach().clone() for parameter in head]
        self._steps = 0
        self._replayed_weight = _REPLAYED
        chosen = {id(parameter) for parameter in head}
        body = [p for p in self.network.parameters() if id(p) not in chosen]
        self.optimiser = torch.optim.Adam(
            [
                {"params": body, "lr": self.settings.network_rate},
                {"params": head, "lr": self.settings.gate_rate},
            ],
            fused=True,
        )

    @property
    def encoder_id(self) -> int:
        """The encoder whose hidden states it learns from."""
        return self._model.encoder_id

    def snapshot(self, version: int, trained_until_ms: int) -> Model:
        """The weights as they are now, averaged where they are noisy, as a model to publish."""
        items = ItemEmbeddings(self.items.vector.clone(), self.items.bias.clone())
        return Model(version, trained_until_ms, self._model.encoder, self._published(), items)

    def _published(self) -> Network:
        """The network as it would be published, with averaged weights in its head."""
        network = copy.deepcopy(self.network).requires_grad_(False)
        for parameter, averaged in zip(network.head, self._averaged, strict=True):
            parameter.copy_(averaged)
        return network

    def losses(self, batch: Sequence[Examples], counts: Counts, model: Model | None = None) -> float:
        """Mean loss of z on the examples, with the weights as they would be published or another model's."""
        items = self.items if model is None else model.items
        items.grow(counts)
        network = self._published() if model is None else model.network
        with torch.no_grad():
            prepared = side_by_side(batch, counts, self.encoder_id)
            if prepared is None:
                return float("nan")
            pool = make_pool(prepared, prepared.seen, len(counts), 0, self._random)
            table = pool.table(items)
            users = asked(network, prepared.seen, pool, table)
            own = own_scores(network, prepared, pool, users, table)
            return mean_loss(score_loss(network, prepared, own, pool, users, table), prepared.seen.weight).item()

    def recall(self, sample: ReplayBuffer, counts: Counts, k: int) -> float:
        """Recall@k over the whole catalogue of the neural score alone on old examples: what the weights remember.

        The evidence is left out: it never forgets, and evidence of today contains the very clicks asked about.
        """
        self.items.grow(counts)
        with torch.no_grad():
            rows = np.arange(len(self.items))
            pool = Pool(rows, rows, rows, torch.zeros(len(rows)))
            table = pool.table(self.items)
            seen = replayed_rows(sample.rows)
            users = asked(self.network, seen, pool, table)
            rank = np.zeros(len(sample), np.int32)
            for begin in range(0, len(sample), _RANKED_AT_ONCE):
                part = slice(begin, begin + _RANKED_AT_ONCE)
                scores = (users[part] @ table.T).numpy()
                target = np.ascontiguousarray(seen.target[part])
                ranks(scores, np.full(len(scores), len(rows)), target, rank[part])
        return float((rank <= k).mean()) if len(rank) else 0.0

    def learn(self, batch: Sequence[Examples], counts: Counts) -> Losses | None:
        """One step on the newest examples and on replayed ones; None if none of them can be learned from.

        Examples of another encoder, or of items that the counts do not know yet, are skipped and counted.
        """
        self.items.grow(counts)
        if len(self.items) > len(self._squares):
            self._squares = torch.cat([self._squares, torch.zeros(len(self.items) - len(self._squares), 2)])
        prepared = side_by_side(batch, counts, self.encoder_id)
        offered = sum(len(examples) for examples in batch)
        if prepared is None:
            self.skipped += offered
            return None
        new = prepared.seen
        B = len(new.target)
        self.skipped += offered - B
        old = self.buffer.sample(self.settings.replayed)
        seen = joined(new, replayed_rows(old)) if len(old) else new
        pool = make_pool(prepared, seen, len(counts), self.settings.uniform, self._random)
        table = pool.table(self.items).requires_grad_(True)
        users = asked(self.network, seen, pool, table)
        own = own_scores(self.network, prepared, pool, users[:B], table)
        score = mean_loss(score_loss(self.network, prepared, own, pool, users[:B], table), new.weight)
        each = neural_loss(users, seen, pool, table)
        neural = mean_loss(each[:B], new.weight)
        replayed = self._replayed(each[B:], users[B:], old, pool, table) if len(old) else torch.zeros(())
        self.optimiser.zero_grad()
        (score + neural + self._replayed_weight * replayed).backward()  # type: ignore[no-untyped-call]
        self._update_rows(pool.rows, table)
        self.optimiser.step()
        self._average()
        self._learn_head_again()
        with torch.no_grad():
            remember(self.buffer, prepared, own)
        self.learned += B
        return Losses(score.item(), neural.item(), replayed.item())

    def _learn_head_again(self) -> None:
        """Steps of the head alone on old examples. None is a newcomer's: what weighs theirs stays as it is."""
        newcomer = self.network.gate.newcomer
        for _ in range(_HEAD_STEPS):
            loss = listed_loss(self.network, self.buffer.sample(self.settings.replayed))
            if loss is not None:
                self.optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                newcomer.grad = None  # Adam would go on along its last steps
                self.optimiser.step()
                self._average(but=newcomer)

    def _replayed(self, each: Tensor, users: Tensor, old: npt.NDArray[np.void], pool: Pool, table: Tensor) -> Tensor:
        """What is to be lost on the replayed examples: the mean of each one's cross-entropy."""
        return each.mean()

    def _average(self, but: Tensor | None = None) -> None:
        """Take the head's weights of now, but for one, into the running average; the first share it about evenly."""
        self._steps += 1
        with torch.no_grad():
            for averaged, parameter in zip(self._averaged, self.network.head, strict=True):
                if parameter is not but:
                    averaged.lerp_(parameter, max(_AVERAGING, 1 / self._steps))

    def _update_rows(self, rows: npt.NDArray[np.int64], table: Tensor) -> None:
        """Row-wise Adagrad (one step size per row, another for its bias), then back inside the unit ball."""
        if table.grad is None:
            return
        rate, at = self.settings.item_rate, torch.from_numpy(rows)
        with torch.no_grad():
            slope = table.grad
            squares = self._squares.index_select(0, at)
            squares[:, 0] += slope[:, :-1].square().mean(1)
            squares[:, 1] += slope[:, -1].square()
            self._squares.index_copy_(0, at, squares)
            step = rate / (squares.sqrt() + 1e-8)
            moved = table[:, :-1] - step[:, :1] * slope[:, :-1]
            self.items.vector.index_copy_(0, at, moved / moved.norm(dim=1, keepdim=True).clamp(min=1.0))
            self.items.bias.index_copy_(0, at, table[:, -1] - step[:, 1] * slope[:, -1])

    def to_arrays(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """All that `snapshot` does not have and that is needed to go on exactly where it stood."""
        buffer, rest = self.buffer.to_arrays()
        arrays: dict[str, npt.NDArray[Any]] = {f"buffer.{name}": array for name, array in buffer.items()}
        arrays |= {f"head.{n}": parameter.detach().numpy().copy() for n, parameter in enumerate(self.network.head)}
        arrays["squares"] = self._squares.numpy().copy()
        for place, moments in self.optimiser.state_dict()["state"].items():
            arrays |= {f"adam.{place}.{name}": tensor.numpy().copy() for name, tensor in moments.items()}
        counters = {
            "learned": self.learned,
            "skipped": self.skipped,
            "steps": self._steps,
            "trained_items": self.items.trained,
            "random": self._random.bit_generator.state,
        }
        return arrays, {"buffer": rest, **counters}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]], rest: Mapping[str, Any]) -> None:
        """Take back what `to_arrays` gave; the learner was made with the weights of that moment."""
        head = "buffer."
        buffer = {name.removeprefix(head): a for name, a in arrays.items() if name.startswith(head)}
        self.buffer.restore(buffer, rest["buffer"])
        with torch.no_grad():
            for n, parameter in enumerate(self.network.head):
                parameter.copy_(torch.from_numpy(np.array(arrays[f"head.{n}"])))
        self._squares = torch.from_numpy(np.array(arrays["squares"]))
        state = self.optimiser.state_dict()
        for name, array in arrays.items():
            if name.startswith("adam."):
                _, place, moment = name.split(".")
                state["state"].setdefault(int(place), {})[moment] = torch.from_numpy(np.array(array))
        self.optimiser.load_state_dict(state)
        self.learned, self.skipped, self._steps = rest["learned"], rest["skipped"], rest["steps"]
        self.items.trained = rest["trained_items"]
        self._random.bit_generator.state = rest["random"]
