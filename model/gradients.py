"""Operations whose gradients are written out: autograd would keep and fill several times the memory for them.

Each goes back once, and has no second derivative: what it keeps is used up on the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from eddyline.model.compiled import compiled
from eddyline.model.elementary import halved_sum

__all__ = ["pool_cross_entropy", "row_products"]


def pool_cross_entropy(users: Tensor, rows: Tensor, odds: Tensor, target: Tensor) -> Tensor:
    """−log softmax(users · rows + odds) of the targets.

    Args:
        users: (B, D).
        rows: of the pool, (P, D).
        odds: added to every user's logits; no gradient, (P,).
        target: place of each user's target in the pool, (B,).

    Returns:
        (B,).
    """
    loss: Tensor = _PoolCrossEntropy.apply(users, rows, odds, target)
    return loss


class _PoolCrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, rows: Tensor, odds: Tensor, target: Tensor) -> Tensor:
        logits = torch.addmm(odds, users, rows.T)  # (B, P), the only tensor of this size, there and back
        own = logits.gather(1, target.unsqueeze(1)).squeeze(1)
        most = logits.amax(1)
        ctx.share = logits.sub_(most.unsqueeze(1)).exp_()
        total = ctx.share.sum(1)
        ctx.save_for_backward(users, rows, target, total)
        loss: Tensor = (most - own) + total.log()
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        users, rows, target, total = ctx.saved_tensors
        share, ctx.share = ctx.share, None
        slope = share.mul_((grads[0] / total).unsqueeze(1))
        slope[torch.arange(len(slope)), target] -= grads[0]
        return slope @ rows, slope.T @ users, None, None


def row_products(users: Tensor, table: Tensor, at: Tensor) -> Tensor:
    """The product of each user with rows of a table.

    Args:
        users: (B, D).
        table: (R, D).
        at: which rows, (B, C).

    Returns:
        (B, C).
    """
    product: Tensor = _RowProducts.apply(users, table, at)
    return product


class _RowProducts(Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, table: Tensor, at: Tensor) -> Tensor:
        ctx.save_for_backward(users, table, at)
        products = torch.empty(at.shape)
        _multiply(users.detach().numpy(), table.detach().numpy(), at.numpy(), products.numpy())
        return products

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        users, table, at = ctx.saved_tensors
        slope, to_users, to_table = grads[0].contiguous(), torch.zeros_like(users), torch.zeros_like(table)
        _add_slopes(
            users.detach().numpy(), table.detach().numpy(), at.numpy(), slope.numpy(), to_users.numpy(),
            to_table.numpy(),
        )  # fmt: skip
        return to_users, to_table, None


@compiled
def _multiply(
    users: npt.NDArray[np.float32],
    table: npt.NDArray[np.float32],
    at: npt.NDArray[np.int64],
    out: npt.NDArray[np.float32],
) -> None:
    each = np.empty(users.shape[1], np.float32)
    for b in range(len(at)):
        user = users[b]
        for c in range(at.shape[1]):
            row = table[at[b, c]]
            for d in range(len(each)):
                each[d] = user[d] * row[d]
            out[b, c] = halved_sum(each)


@compiled
def _add_slopes(
    users: npt.NDArray[np.float32],
    table: npt.NDArray[np.float32],
    at: npt.NDArray[np.int64],
    slope: npt.NDArray[np.float32],
    to_users: npt.NDArray[np.float32],
    to_table: npt.NDArray[np.float32],
) -> None:
    for b in range(len(at)):
        user, to_user = users[b], to_users[b]
        for c in range(at.shape[1]):
            s, row, to_row = slope[b, c], table[at[b, c]], to_table[at[b, c]]
            for d in range(len(user)):
                to_user[d] += s * row[d]
                to_row[d] += s * user[d]
