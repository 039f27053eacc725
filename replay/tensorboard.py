"""What each training step came to, for TensorBoard: `pip install 'eddyline[tensorboard]'`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from eddyline.model.learner import Learner, Losses
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
    weight that the gate, after the step, gives to each sort of source, `buffer/examples` the size of the replay buffer.

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
            **{f"gate/{name}": weights.mean().item() for name, weights in gate._asdict().items()},
            "recall@20": float(((rank > 0) & (rank <= 20)).mean()),
            "buffer/examples": len(learner.buffer),
        }
        for name, value in scalars.items():
            writer.add_scalar(name, value, learner.learned)
        writer.flush()

    return on_step
