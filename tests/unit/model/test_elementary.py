"""Elementary functions, against those of the system."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eddyline.model.elementary import exp, log_1p


def test_the_exponential_is_that_of_the_system() -> None:
    x = np.linspace(-86, 87, 50_001).astype(np.float32)
    np.testing.assert_allclose([exp(one) for one in x], np.exp(x.astype(np.float64)), rtol=5e-6)
    assert exp(np.float32(-200.0)) == pytest.approx(math.exp(-86), abs=1e-36)


def test_the_logarithm_is_that_of_the_system() -> None:
    tiny, wide = np.linspace(0, 3, 100_000), 10 ** np.random.default_rng(0).uniform(-7, 30, 100_000)
    for x in (tiny.astype(np.float32), wide.astype(np.float32)):
        found = np.array([log_1p(one) for one in x])
        np.testing.assert_allclose(found, np.log1p(x.astype(np.float64)), rtol=1e-6, atol=1.5e-7)
