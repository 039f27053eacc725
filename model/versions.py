"""A model and the counts it stands beside, as named arrays: what a version in the model store consists of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from eddyline.model.checkpoint import pack_strings, unpack_strings
from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.fusion import Network
from eddyline.model.long_term import ItemEmbeddings
from eddyline.model.model import Model
from eddyline.model.short_term import Encoder
from eddyline.state.errors import CorruptModel

__all__ = ["Arrays", "counts_from_arrays", "counts_to_arrays", "model_from_arrays", "model_to_arrays"]

Arrays = Mapping[str, npt.NDArray[Any]]

_ENCODER = ("items", "inputs", "w_x", "w_h", "bias")


def model_to_arrays(model: Model, counts: Counts) -> dict[str, npt.NDArray[Any]]:
    """The weights of a model, with the hashes of the items that its rows stand for.

    Rows that grew with the counts since are left out: whoever loads the model grows the same ones.
    """
    trained = model.items.trained
    arrays: dict[str, npt.NDArray[Any]] = {
        f"network.{name}": tensor.detach().numpy() for name, tensor in model.network.state_dict().items()
    }
    arrays["items.hash"] = counts.hashes[:trained].copy()
    arrays["items.vector"] = model.items.vector[:trained].numpy()
    arrays["items.bias"] = model.items.bias[:trained].numpy()
    if model.encoder is not None:
        arrays |= {f"encoder.{name}": getattr(model.encoder, name) for name in _ENCODER}
    return arrays


def model_from_arrays(arrays: Arrays, version: int, trained_until_ms: int) -> Model:
    """The model that `model_to_arrays` wrote.

    Raises:
        CorruptModel: an array is missing or of another shape.
    """
    try:
        vector = torch.from_numpy(np.array(arrays["items.vector"], np.float32))
        items = ItemEmbeddings(vector, torch.from_numpy(np.array(arrays["items.bias"], np.float32)))
        network = Network(vector.shape[1])
        head = "network."
        network.load_state_dict(
            {
                name.removeprefix(head): torch.from_numpy(np.array(array))
                for name, array in arrays.items()
                if name.startswith(head)
            }
        )
        encoder = None
        if "encoder.items" in arrays:
            encoder = Encoder(**{name: np.array(arrays[f"encoder.{name}"]) for name in _ENCODER})
    except (KeyError, RuntimeError, IndexError) as error:
        raise CorruptModel(
            f"the weights of version {version} do not fit this program's model: {' '.join(str(error).split())}; "
            "promote a version that this program wrote"
        ) from error
    network.requires_grad_(False)
    return Model(version, trained_until_ms, encoder, network, items)


def counts_to_arrays(counts: Counts) -> dict[str, npt.NDArray[Any]]:
    """The counts with the item ids."""
    text, offsets = pack_strings(counts.ids)
    return {**counts.to_arrays(), "ids.text": text, "ids.offsets": offsets}


def counts_from_arrays(arrays: Arrays, settings: CountsSettings) -> Counts:
    """The counts that `counts_to_arrays` wrote.

    Raises:
        CorruptModel: an array is missing.
    """
    try:
        ids = unpack_strings(arrays["ids.text"], arrays["ids.offsets"])
        return Counts.from_arrays(settings, ids, arrays)
    except KeyError as error:
        raise CorruptModel(f"the stored counts lack the array {error}; promote another version") from error
