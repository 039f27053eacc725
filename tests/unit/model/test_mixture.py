"""The mixture: shares from the evidence, the logarithm of their sum, and the kernel that says the same."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch

from eddyline.model.dense import DENSE, SCORED
from eddyline.model.evidence import SPARSE
from eddyline.model.folding import HALF_LIVES
from eddyline.model.mixture import COUNTED, SHARES, Mixture, add_lift
from eddyline.model.parts import Part

RANDOM = np.random.default_rng(0)


def evidence_of(**values: float) -> torch.Tensor:
    return torch.tensor([values.get(name, 0.0) for name in SPARSE])


def random_evidence(count: int) -> np.ndarray:
    """Of the kind that is found: a share or nothing, and own history for some."""
    f = (RANDOM.random((count, len(SPARSE))) * 3 * (RANDOM.random((count, len(SPARSE))) < 0.6)).astype(np.float32)
    own = RANDOM.random(count) < 0.4
    f[:, SPARSE.index("own") :] *= own[:, None]
    f[:, SPARSE.index("own")] = own
    return f


@torch.no_grad()
def test_the_shares_are_what_the_logarithms_were_taken_of() -> None:
    evidence = evidence_of(
        near_fine=log(1 + 0.2 / 1e-4) / 2,
        session=log(1 + 0.3 / 1e-4) / 2,
        back=log(1 + 0.4 / 1e-4) / 2,
        transition=0.25,
        transition_before_log=log(1 + 0.15 / 1e-3) / 2,
        own=1.0,
        own_age=log(1 + 3) / 2,
        own_count=(log(0.97**3 + 0.97**5) + 3) / 2,
        own_transition=log(1 + 2),
    )
    shares = dict(zip(SHARES, Mixture().shares(evidence).tolist(), strict=True))
    assert shares == {
        "near": pytest.approx(0.2, rel=1e-4),
        "session": pytest.approx(0.3, rel=1e-4),
        "back": pytest.approx(0.4, rel=1e-4),
        "transition": 0.25,
        "transition_before": pytest.approx(0.15, rel=1e-4),
        "own": pytest.approx(0.1 * (0.97**3 + 0.97**5), rel=1e-4),
        "own_fresh": pytest.approx(0.4 * 0.6**3, rel=1e-4),
        "own_harmonic": pytest.approx(0.2 / 4, rel=1e-4),
        "own_transition": pytest.approx(2.0, rel=1e-4),
    }


@torch.no_grad()
def test_what_nothing_names_has_no_share_and_no_lift() -> None:
    mixture = Mixture()
    assert mixture.shares(evidence_of()).tolist() == [0.0] * len(SHARES)
    assert mixture.lift(evidence_of(), torch.zeros(len(SHARES)), torch.tensor(3.0)) == 0.0


@torch.no_grad()
def test_mixed_and_lift_make_the_logarithm_of_the_sum() -> None:
    mixture = Mixture()
    popular = RANDOM.random(len(HALF_LIVES)) * 1e-3
    dense = torch.zeros(len(DENSE))
    dense[: len(HALF_LIVES)] = torch.from_numpy(np.log1p(1e5 * popular))
    evidence, log_ratios = torch.from_numpy(random_evidence(20)), torch.from_numpy(RANDOM.normal(size=len(SHARES)))
    mixed = mixture.mixed(dense)
    weights = torch.softmax(mixture.lives, 0).double().numpy()
    named = mixture.shares(evidence).double() @ log_ratios.exp()
    want = torch.log(1e5 * (1e-5 + float(weights @ popular) + named))
    found = mixed + mixture.lift(evidence, log_ratios, mixed)
    np.testing.assert_allclose(found, want, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("without", [(), ("counts",), ("history",), ("counts", "history")])
def test_the_kernel_says_the_same(without: tuple[Part, ...]) -> None:
    mixture = Mixture(without)
    evidence, log_ratios = random_evidence(30), torch.from_numpy(RANDOM.normal(size=(3, len(SHARES)))).float()
    start, item = np.array([0, 11, 11, 30]), RANDOM.integers(0, 9, 30).astype(np.int32)
    dense = (RANDOM.random((2, len(SCORED), 9)) * 8).astype(np.float32)
    moment, weight = np.array([0, 1, 1]), np.array([1.0, 2.0, 0.7], np.float32)
    out = RANDOM.random(30).astype(np.float32)
    user = np.repeat(np.arange(3), np.diff(start))
    mixed = torch.from_numpy(dense[moment[user], -1, item])
    lift = mixture.lift(torch.from_numpy(evidence), log_ratios[user], mixed).numpy()
    assert lift.any() == (set(without) != {"counts", "history"})
    want = out + weight[user] * lift
    add_lift(start, item, evidence, moment, dense, weight, mixture.ratios(log_ratios), out)
    np.testing.assert_allclose(out, want, rtol=2e-5)


@torch.no_grad()
def test_a_part_that_is_left_out_has_no_share() -> None:
    evidence = torch.from_numpy(random_evidence(50))
    assert not Mixture(["counts"]).shares(evidence)[:, :COUNTED].any()
    assert not Mixture(["history"]).shares(evidence)[:, COUNTED:].any()
    assert not Mixture(["popularity"]).mixed(torch.ones(4, len(DENSE))).any()
