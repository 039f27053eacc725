"""Which versions may be published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eddyline.model.acceptance import Acceptance, AcceptanceSettings
from eddyline.model.model import Model, untrained_model


@pytest.fixture
def acceptance() -> Acceptance:
    return Acceptance(AcceptanceSettings(window=256, tolerance=0.01))


@pytest.fixture
def model(make_model: Callable[..., Model]) -> Model:
    return make_model()


def test_before_anything_is_scored_a_finite_version_passes(acceptance: Acceptance, model: Model) -> None:
    assert acceptance.decide(model).accepted
    assert acceptance.decide(untrained_model(8)).accepted


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["vector", "bias", "network", "inputs", "w_x", "w_h", "encoder's bias"])
def test_a_weight_that_is_not_finite_is_refused(acceptance: Acceptance, model: Model, place: str, value: float) -> None:
    acceptance.score(1.0, 2.0, 100)
    assert acceptance.decide(model).accepted
    if place in ("vector", "bias"):
        getattr(model.items, place)[0] = value
    elif place == "network":
        model.network.residual.hidden.bias[3] = value
    else:
        name = place.removeprefix("encoder's ")
        array = getattr(model.encoder, name).copy()
        array.flat[-1] = value
        assert model.encoder is not None
        model = replace(model, encoder=replace(model.encoder, **{name: array}))
    verdict = acceptance.decide(model)
    assert not verdict.accepted
    assert verdict.reason == "a weight is not finite"


@pytest.mark.parametrize(
    ("loss", "accepted"), [(1.9, True), (2.0, True), (2.019, True), (2.03, False), (np.nan, False), (np.inf, False)]
)
def test_a_version_passes_if_its_loss_is_not_worse(
    acceptance: Acceptance, model: Model, loss: float, accepted: bool
) -> None:
    acceptance.score(loss, 2.0, 100)
    verdict = acceptance.decide(model)
    assert verdict.accepted is accepted
    assert (verdict.loss, verdict.current_loss) == pytest.approx((loss, 2.0), nan_ok=True)
    assert f"its loss is {loss:.4f}, the current version's 2.0000" == verdict.reason


def test_batches_weigh_by_their_examples(acceptance: Acceptance, model: Model) -> None:
    acceptance.score(1.0, 2.0, 30)
    acceptance.score(5.0, 2.0, 10)
    assert acceptance.decide(model).loss == pytest.approx(2.0)


def test_only_the_newest_window_decides(acceptance: Acceptance, model: Model) -> None:
    acceptance.score(9.0, 2.0, 200)
    acceptance.score(2.0, 2.0, 200)
    assert not acceptance.decide(model).accepted  # 200 are fewer than the window: the older ones still count
    acceptance.score(2.0, 2.0, 56)
    assert acceptance.decide(model).loss == 2.0


def test_a_new_current_version_starts_a_new_window(acceptance: Acceptance, model: Model) -> None:
    acceptance.score(9.0, 2.0, 200)
    acceptance.clear()
    assert acceptance.decide(model).accepted
