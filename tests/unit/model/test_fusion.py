"""Attention, fusion, gate and residual."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eddyline.model.dense import DENSE, SCORED
from eddyline.model.evidence import CONTEXT, SPARSE
from eddyline.model.fusion import (
    PRIOR_ARRIVALS,
    PRIOR_MIXTURE,
    PRIOR_NEURAL,
    PRIOR_RATIO,
    Attention,
    Fusion,
    Gate,
    Network,
    Residual,
)
from eddyline.model.mixture import SHARES
from eddyline.model.parts import Part

B, N, D = 3, 4, 8


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def ring() -> Tensor:
    return torch.randn(B, N, D)


@torch.no_grad()
def test_attention_is_a_weighted_mean_of_the_states_that_count(ring: Tensor) -> None:
    attention, p, h = Attention(D), torch.randn(B, D), torch.randn(B, D)
    context = attention(p, h, ring, torch.tensor([0, 1, 3]))
    assert not context[0].any()
    torch.testing.assert_close(context[1], ring[1, 0])
    logits = ring[2, :3] @ attention.query(p[2] + h[2]) / D**0.5
    torch.testing.assert_close(context[2], torch.softmax(logits, 0) @ ring[2, :3])


@torch.no_grad()
def test_attention_does_not_look_beyond_the_length(ring: Tensor) -> None:
    attention, p, h, length = Attention(D), torch.randn(B, D), torch.randn(B, D), torch.tensor([1, 2, 3])
    before = attention(p, h, ring, length)
    ring[:, 3] = 1e3
    assert torch.equal(attention(p, h, ring, length), before)


@torch.no_grad()
def test_interest_is_of_unit_length_and_adds_the_gated_short_term_to_the_long_term() -> None:
    fusion = Fusion(D)
    p, h, context, last = torch.randn(4, B, D)
    F = fusion(p, h, context, last)
    torch.testing.assert_close(F.norm(dim=1), torch.ones(B))
    share = torch.sigmoid(fusion.gate(torch.cat([p, h, context], 1)))
    want = p + share * fusion.out(torch.cat([h, context, last], 1))
    torch.testing.assert_close(F, want / want.norm(dim=1, keepdim=True))


@torch.no_grad()
def test_without_any_history_there_is_no_interest() -> None:
    none = torch.zeros(B, D)
    F = Network(D).interest(none, torch.zeros(B, N, D), torch.zeros(B, dtype=torch.long), none, none)
    assert not F.any()


@torch.no_grad()
def test_the_gate_starts_from_its_prior_whoever_has_clicked() -> None:
    features = torch.randn(B, len(CONTEXT))
    features[:, CONTEXT.index("newcomer")] = 0
    weights = Gate()(features)
    assert weights.neural.tolist() == pytest.approx([PRIOR_NEURAL] * B)
    assert weights.dense.tolist() == [[0.0] * len(DENSE) + [PRIOR_MIXTURE]] * B
    assert weights.sparse.tolist() == [[0.0] * len(SPARSE)] * B
    assert PRIOR_RATIO.keys() == set(SHARES)
    assert weights.log_ratios[1].tolist() == pytest.approx([PRIOR_RATIO[name] for name in SHARES])


@torch.no_grad()
def test_a_newcomer_has_weights_of_their_own() -> None:
    gate, features = Gate(), torch.randn(2, len(CONTEXT))
    features[:, CONTEXT.index("newcomer")] = torch.tensor([0.0, 1.0])
    torch.nn.init.normal_(gate.change.weight)
    gate.prior += 1.0
    dense = gate(features).dense
    assert dense[1].tolist() == [
        *[PRIOR_ARRIVALS if name == "arrivals" else 0.0 for name in DENSE],
        PRIOR_MIXTURE,
    ]
    assert not torch.isclose(dense[0], dense[1]).any()


@torch.no_grad()
@pytest.mark.parametrize(
    ("without", "names"),
    [("counts", {"last_clicks", "mass", "most_transition", "most_near"}), ("history", {"repeats", "again"})],
)
def test_the_gate_does_not_see_a_part_that_is_left_out(without: Part, names: set[str]) -> None:
    gate = Gate([without])
    torch.nn.init.normal_(gate.change.weight)
    base = torch.randn(1, len(CONTEXT))
    base[0, CONTEXT.index("newcomer")] = 0
    for n, name in enumerate(CONTEXT):
        other = base.clone()
        other[0, n] += 1
        assert torch.equal(gate(base).mixture, gate(other).mixture) == (name in names), name


@torch.no_grad()
def test_ratios_stay_finite() -> None:
    gate = Gate()
    gate.prior += 1e6
    ratios = gate(torch.randn(B, len(CONTEXT))).log_ratios.exp()
    assert torch.isfinite(ratios).all()


@torch.no_grad()
def test_the_residual_starts_at_nothing() -> None:
    assert Residual()(torch.randn(5, len(SPARSE)), torch.randn(5, len(SCORED))).tolist() == [0.0] * 5


def test_every_weight_of_the_interest_can_learn(ring: Tensor) -> None:
    network = Network(D)
    h, mean, last = torch.randn(3, B, D)
    network.interest(h, ring, torch.tensor([1, 2, 4]), mean, last)[:, 0].sum().backward()
    for part in (network.long_term, network.attention, network.fusion):
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())
