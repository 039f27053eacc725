"""What each training step came to, for TensorBoard: `pip install 'eddyline[tensorboard]'`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from eddyline.model.learner import Learner, Losses
from eddyline.model.mixture import SHARES
from eddyline.state.errors import ConfigurationError
from eddyline.state.examples import Examples

__all__ = ["OnStep", "board", "need_tensorboard"]

OnStep = Callable[[Learner, Sequence[Examples], Losses], None]
"""Told after a step: the learner, what it learned from, and the losses before it did."""


def need_tensorboard() -> None:
    """Make sure that it is there.

    Raises:
        ConfigurationError: it is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ConfigurationError("TensorBoard is not installed: pip install 'eddyline[tensorboard]'")


def board(folder: Path) -> OnStep:
    """What writes each step to a folder as scalars over the examples learned.

    `loss/…` are the terms of the learner's loss, `recall@20` is that of the step's lists as served, `gate/…` the mean
    weights that the gate, after the step, gives to the neural score, the mixture, dense and sparse evidence, and, on
    the logarithm's mean, the ratio of each of the mixture's sources to popularity, `buffer/examples` the size of the
    replay buffer.

    Raises:
        ConfigurationError: TensorBoard is not installed.
    """
    need_tensorboard()
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

    writer = SummaryWriter(str(folder))

    def on_step(learner: Learner, examples: Sequence[Examples], losses: Losses) -> None:
        rank, context = (np.concatenate([getattr(one, name) for one in examples]) for name in ("rank", "context"))
        with torch.no_grad():
            gate = learner.network.gate(torch.from_numpy(context))
        scalars = {
            **{f"loss/{name}": value for name, value in losses._asdict().items()},
            "gate/neural": gate.neural.mean().item(),
            "gate/mixture": gate.mixture.mean().item(),
            "gate/dense": gate.dense[:, :-1].mean().item(),
            "gate/sparse": gate.sparse.mean().item(),
            **dict(zip((f"gate/ratio/{name}" for name in SHARES), gate.log_ratios.mean(0).exp().tolist(), strict=True)),
            "recall@20": float(((rank > 0) & (rank <= 20)).mean()),
            "buffer/examples": len(learner.buffer),
        }
        for name, value in scalars.items():
            writer.add_scalar(name, value, learner.learned)
        writer.flush()

    return on_step
