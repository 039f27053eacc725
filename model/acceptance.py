"""Acceptance: whether a version is fit to be published.

Each batch is scored by the weights that would be published and by the version that is, before either learns from
it. A version passes if it is finite and its loss on the newest window is not worse than the current one's.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from eddyline.model.model import Model

__all__ = ["Acceptance", "AcceptanceSettings", "Verdict"]


class AcceptanceSettings(BaseModel):
    """When a version is fit to be published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: int = Field(4096, ge=256, description="Newest scored examples that decide")
    tolerance: float = Field(
        0.005,
        ge=0,
        description="How much worse the loss may be, as a share of it, and still count as not worse",
    )


class Verdict(NamedTuple):
    """The decision on a version.

    Attributes:
        accepted: whether it may be published.
        reason: in words.
        loss: mean loss of the version on the window, scored before learning.
        current_loss: the same of the version being served.
    """

    accepted: bool
    reason: str
    loss: float
    current_loss: float


class Acceptance:
    """Keeps the newest window of paired losses and decides."""

    def __init__(self, settings: AcceptanceSettings) -> None:
        self._settings = settings
        self._pairs: deque[tuple[float, float, int]] = deque()

    def score(self, loss: float, current_loss: float, examples: int) -> None:
        """Note the mean losses of one batch, scored before learning from it."""
        self._pairs.append((loss, current_loss, examples))
        while sum(count for *_, count in self._pairs) - self._pairs[0][2] >= self._settings.window:
            self._pairs.popleft()

    def decide(self, model: Model) -> Verdict:
        """Whether the model may replace the current version."""
        if not _finite(model):
            return Verdict(False, "a weight is not finite", np.nan, np.nan)
        if not self._pairs:
            return Verdict(True, "nothing was scored yet", np.nan, np.nan)
        losses = np.array(self._pairs)
        loss, current = np.average(losses[:, :2], axis=0, weights=losses[:, 2]).tolist()
        if not loss <= current * (1 + self._settings.tolerance):
            return Verdict(False, f"its loss is {loss:.4f}, the current version's {current:.4f}", loss, current)
        return Verdict(True, f"its loss is {loss:.4f}, the current version's {current:.4f}", loss, current)

    def clear(self) -> None:
        """Start a new window: another version is now the current one."""
        self._pairs.clear()


def _finite(model: Model) -> bool:
    tensors = [model.items.vector, model.items.bias, *model.network.parameters()]
    encoder = model.encoder
    arrays = [] if encoder is None else [encoder.inputs, encoder.w_x, encoder.w_h, encoder.bias]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors) and all(
        bool(np.isfinite(array).all()) for array in arrays
    )
