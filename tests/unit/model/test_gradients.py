"""Written-out gradients, against what autograd makes of the plain formulas."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from eddyline.model.gradients import pool_cross_entropy, row_products

RANDOM = torch.Generator().manual_seed(0)
USERS, ROWS = torch.randn(7, 9, generator=RANDOM), torch.randn(5, 9, generator=RANDOM)
ODDS, TARGET = torch.rand(5, generator=RANDOM), torch.tensor([0, 4, 2, 2, 1, 0, 3])
AT = torch.tensor([[0, 0, 3], [4, 1, 2], [2, 2, 2], [1, 0, 4], [3, 3, 0], [0, 1, 2], [4, 4, 4]])  # rows come again


def plain_cross_entropy(users: Tensor, rows: Tensor) -> Tensor:
    return nn.functional.cross_entropy(users @ rows.T + ODDS, TARGET, reduction="none")


def plain_products(users: Tensor, rows: Tensor) -> Tensor:
    return (rows[AT] * users.unsqueeze(1)).sum(2)


@pytest.mark.parametrize(
    ("written_out", "plain"),
    [
        (lambda users, rows: pool_cross_entropy(users, rows, ODDS, TARGET), plain_cross_entropy),
        (lambda users, rows: row_products(users, rows, AT), plain_products),
    ],
    ids=["pool_cross_entropy", "row_products"],
)
def test_value_and_gradients_are_those_of_the_plain_formula(
    written_out: Callable[[Tensor, Tensor], Tensor], plain: Callable[[Tensor, Tensor], Tensor]
) -> None:
    found: list[list[Tensor]] = []
    for operation in (written_out, plain):
        users, rows = USERS.clone().requires_grad_(True), ROWS.clone().requires_grad_(True)
        value = operation(users, rows)
        weighed = value * torch.linspace(0.5, 2.0, value.numel()).view(value.shape)
        found.append([value.detach(), *torch.autograd.grad(weighed.sum(), [users, rows])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_logits_may_be_large() -> None:
    loss = pool_cross_entropy(1000 * USERS, ROWS, ODDS, TARGET)
    torch.testing.assert_close(loss, plain_cross_entropy(1000 * USERS, ROWS))
