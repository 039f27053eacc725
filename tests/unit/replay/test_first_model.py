from __future__ import annotations

import numpy as np
import pytest

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.model.learner import LearnerSettings
from eddyline.model.model import untrained_model
from eddyline.model.versions import counts_to_arrays, model_to_arrays
from eddyline.replay.first_model import FirstModel, first_model
from eddyline.replay.pretrain import PretrainSettings
from eddyline.replay.runner import Runner
from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.state.errors import EddylineError
from eddyline.state.records import Click
from eddyline.state.user_state import StateShape

ENGINE = EngineSettings(shape=StateShape(dimension=16, ring=4, history=20))
QUICK = PretrainSettings(epochs=3, least_steps=60, batch=128, negatives=64)


def made_up(count: int) -> list[Click]:
    return list(synthetic_clicks(SyntheticSettings(clicks=count, users=120, items=100, topics=5)))


def make(clicks: list[Click], **replaced: ClickSettings) -> FirstModel:
    weights = replaced.get("weights", ClickSettings())
    return first_model(clicks, weights, CountsSettings(), ENGINE, QUICK, LearnerSettings(batch=64))


@pytest.fixture(scope="module")
def clicks() -> list[Click]:
    return made_up(2_000)


@pytest.fixture(scope="module")
def made(clicks: list[Click]) -> FirstModel:
    return make(clicks)


def test_the_neural_part_is_trained_on_the_first_part_and_the_gate_on_the_last(made: FirstModel) -> None:
    assert made.pretrained.clicks == 1_440  # of 1,600, the last tenth decides when to stop
    assert made.scored == 400
    assert 300 < made.learned <= 400  # clicks on new items cannot be learned from
    before, after = made.pretrained.model.network, made.model.network
    assert made.model.encoder is made.pretrained.model.encoder
    untouched = untrained_model(16).network.gate.prior
    assert np.array_equal(before.gate.prior, untouched)
    assert not np.array_equal(after.gate.prior, untouched)


def test_it_beats_decayed_popularity_on_clicks_it_had_not_seen(made: FirstModel) -> None:
    assert made.metrics["recall@20"] > made.metrics["recall@20 decayed-popularity"] > 0
    assert made.metrics["held_out_loss"] == made.pretrained.loss


def test_the_counts_are_the_logs_and_ready_for_a_stream_that_begins_at_offset_0(
    made: FirstModel, clicks: list[Click]
) -> None:
    folded = Runner(ENGINE, ClickSettings(), untrained_model(16), Counts())
    folded.feed(clicks)
    expected = folded.counts.to_arrays()
    found = made.counts.to_arrays()
    assert found.pop("applied").max() == -1
    assert expected.pop("applied").max() == 1_999
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name])
    stream = Runner(ENGINE, ClickSettings(), made.model, made.counts)
    stream.feed(made_up(10))
    assert stream.counts.seen == 2_010


def test_the_same_log_gives_the_same_model() -> None:
    log = made_up(400)
    one, other = make(log), make(log)
    assert one.metrics == other.metrics
    for written in (lambda made: model_to_arrays(made.model, made.counts), lambda made: counts_to_arrays(made.counts)):
        theirs = written(other)
        for name, array in written(one).items():
            np.testing.assert_array_equal(array, theirs[name])


def test_progress_is_told_by_stage() -> None:
    told: list[tuple[str, float]] = []
    first_model(
        made_up(300), ClickSettings(), CountsSettings(), ENGINE, QUICK, LearnerSettings(),
        lambda text, share: told.append((text, share)),
    )  # fmt: skip
    assert all(0 < share <= 1 for _, share in told)
    stages = list(dict.fromkeys(text.split(",")[0] for text, _ in told))
    assert stages == ["counting clicks", "pre-training", "fitting the gate"]
    assert told[-1] == ("fitting the gate", 1.0)


def test_too_little_to_learn_from_is_an_error() -> None:
    with pytest.raises(EddylineError, match="the log has 99 clicks"):
        make(made_up(99))
    strangers = [Click(event_id=str(n), user_id=str(n), item_id="i", ts_ms=1_000 + n, kind="click") for n in range(200)]
    with pytest.raises(EddylineError, match="clicked more than once"):
        make(strangers)
    with pytest.raises(EddylineError, match="the log has 0 clicks of a weight above 0"):
        make(made_up(200), weights=ClickSettings(default_weight=0.0))
