"""A model as it is served: one version of everything that is learned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from eddyline.model.fusion import Network
from eddyline.model.long_term import ItemEmbeddings
from eddyline.model.parts import Part
from eddyline.model.short_term import Encoder
from eddyline.state.user_state import NO_ENCODER

__all__ = ["Model", "untrained_model"]


@dataclass(frozen=True)
class Model:
    """One version: the frozen encoder, the network, and the item embeddings.

    Attributes:
        version: 0 before anything was trained.
        trained_until_ms: wall time of the newest click it learned from; 0 before anything was trained.
        encoder: None before anything was trained.
        network: long-term, attention, fusion, gate, mixture, residual.
        items: item embeddings by the rows of the counts; grows with them.
    """

    version: int
    trained_until_ms: int
    encoder: Encoder | None
    network: Network
    items: ItemEmbeddings

    @property
    def encoder_id(self) -> int:
        """The id of the encoder, `NO_ENCODER` without one."""
        return self.encoder.id if self.encoder else NO_ENCODER


def untrained_model(dimension: int, without: Collection[Part] = ()) -> Model:
    """Version 0: no encoder, no embeddings; the gate's prior over the counts makes the lists.

    Args:
        dimension: D.
        without: parts of the model to leave out.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(dimension, without)
    network.requires_grad_(False)
    return Model(0, 0, None, network, ItemEmbeddings(torch.zeros(0, dimension), torch.zeros(0)))
