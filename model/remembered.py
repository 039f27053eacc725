"""Remembered examples: what of an example goes into the replay buffer, and how it is learned from again.

The neural score is learned again from the user's state as served. The head, which joins the sources, is learned again
from the evidence as served, and from the neural score before it had learned from the example: today's evidence has
counted the click, and today's neural score has learned it, so both would look surer of old clicks than of new ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from eddyline.model.buffer import ReplayBuffer
from eddyline.model.fusion import Network
from eddyline.model.losses import Own, Seen, Served, candidate_scores, rank_weight, to_tensor

__all__ = ["listed_loss", "remember", "replayed_rows"]


def remember(buffer: ReplayBuffer, served: Served, own: Own | None = None) -> None:
    """Offer the examples to a buffer.

    Args:
        buffer: where to.
        served: the examples.
        own: what their candidates score, of which the best and the clicked one are kept; None: none are.
    """
    seen = served.seen
    rows = buffer.new_rows(len(seen.target))
    rows["user"] = seen.user
    rows["target"] = seen.target
    rows["h"] = seen.h.half().numpy()
    rows["ring"] = seen.ring.half().numpy()
    rows["ring_length"] = seen.ring_length.numpy()
    rows["history"] = seen.history
    rows["candidate"] = -1
    if own is not None:
        kept = min(rows["candidate"].shape[1], served.candidate.shape[1])
        clicked = torch.from_numpy(served.candidate == seen.target[:, None])
        best = own.score.masked_fill(clicked, torch.inf).topk(kept, 1).indices  # (B, kept)
        rows["candidate"][:, :kept] = np.take_along_axis(served.candidate, best.numpy(), 1)
        rows["neural"][:, :kept] = own.neural.gather(1, best).half().numpy()
        for name, evidence in (("evidence", served.evidence), ("dense", served.dense)):
            chosen = evidence.gather(1, best.unsqueeze(2).expand(-1, -1, evidence.shape[2]))
            rows[name][:, :kept] = chosen.half().numpy()
        rows["context"] = served.context.numpy()
        rows["rank"] = served.rank.numpy()
    buffer.add(rows)


def replayed_rows(old: npt.NDArray[np.void]) -> Seen:
    """What the neural part saw before old clicks."""
    return Seen(
        old["user"], old["target"], torch.ones(len(old)), to_tensor(old["h"]),
        to_tensor(old["ring"]), to_tensor(old["ring_length"]).long(), old["history"],
    )  # fmt: skip


def listed_loss(network: Network, old: npt.NDArray[np.void]) -> Tensor | None:
    """Mean cross-entropy of z of old examples over the candidates kept of each, weighed by rank.

    None where no clicked item was among the candidates: there is nothing to tell apart.
    """
    clicked = old["candidate"] == old["target"][:, None]
    kept = np.flatnonzero(clicked.any(1))
    if not len(kept):
        return None
    rows = old.take(kept)
    neural, evidence, dense = (to_tensor(rows[name]) for name in ("neural", "evidence", "dense"))
    gate = network.gate(to_tensor(rows["context"]))
    z = candidate_scores(network, gate, neural, evidence, dense, rows["candidate"])
    each = nn.functional.cross_entropy(z, torch.from_numpy(clicked[kept].argmax(1)), reduction="none")
    return (rank_weight(to_tensor(rows["rank"])) * each).sum() / len(old)
