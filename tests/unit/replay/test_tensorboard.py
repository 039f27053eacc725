"""What is logged of each training step, and what is said where TensorBoard is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.engine import EngineSettings
from eddyline.model.fusion import PRIOR_NEURAL, PRIOR_RATIO
from eddyline.model.learner import Learner, LearnerSettings, Losses
from eddyline.model.mixture import SHARES
from eddyline.model.model import untrained_model
from eddyline.replay.runner import Runner
from eddyline.replay.tensorboard import board, need_tensorboard
from eddyline.state.errors import ConfigurationError
from eddyline.state.records import Click

Scalars = Callable[[Path], dict[str, list[tuple[int, float]]]]


def test_a_step_is_logged_over_the_examples_learned(
    engine_settings: EngineSettings, toy_clicks: Callable[..., list[Click]], scalars: Scalars, tmp_path: Path
) -> None:
    model = untrained_model(engine_settings.shape.dimension)
    runner = Runner(engine_settings, ClickSettings(), model, Counts())
    clicks = toy_clicks(60)
    runner.feed(clicks[:40])
    examples = runner.feed(clicks[40:]).examples
    learner = Learner(LearnerSettings(batch=20), engine_settings.shape, 6, model)
    learner.learned = 100
    board(tmp_path)(learner, examples, Losses(3.0, 4.0, 5.0))
    rank = np.concatenate([one.rank for one in examples])
    logged = scalars(tmp_path)
    assert logged.pop("recall@20") == [(100, pytest.approx(((rank > 0) & (rank <= 20)).mean()))]
    assert {name: values for name, values in logged.items() if name.startswith("loss/")} == {
        "loss/score": [(100, 3.0)],
        "loss/neural": [(100, 4.0)],
        "loss/replayed": [(100, 5.0)],
    }
    assert logged["buffer/examples"] == [(100, 0.0)]
    assert logged["gate/neural"] == [(100, pytest.approx(PRIOR_NEURAL))]  # what it starts from
    assert set(logged) == {"loss/score", "loss/neural", "loss/replayed", "buffer/examples"} | {
        f"gate/{source}" for source in ("neural", "mixture", "dense", "sparse", *(f"ratio/{name}" for name in SHARES))
    }
    assert logged["gate/ratio/near"] == [(100, pytest.approx(np.exp(PRIOR_RATIO["near"])))]


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eddyline.replay.tensorboard.find_spec", lambda name: None)
    for call in (need_tensorboard, lambda: board(tmp_path)):
        with pytest.raises(ConfigurationError, match=r"pip install 'eddyline\[tensorboard\]'"):
            call()
