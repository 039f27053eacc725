"""The parts of the model that can be left out, to see what each is worth."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["ABLATIONS", "Ablation", "Part"]

Part = Literal["lstm", "attention", "long-term", "counts", "history", "popularity", "gate", "neural"]
"""What the network can be made without."""

Ablation = Literal[Part, "replay", "online"]
"""And how it learns. `replay`: no old examples in a step. `online`: the weights stay as the warm-up left them."""

ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)
