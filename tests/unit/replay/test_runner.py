from __future__ import annotations

import numpy as np

from eddyline.model.clicks import Clicks, ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.engine import Engine, EngineSettings
from eddyline.model.model import untrained_model
from eddyline.replay.runner import Runner
from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.state.records import Click, hash_id
from eddyline.state.user_state import StateShape, encode_state, new_states

SETTINGS = EngineSettings(shape=StateShape(dimension=8, ring=3, history=10))
WEIGHTS = ClickSettings(weights={"purchase": 2.0})


def runner(weights: ClickSettings = WEIGHTS) -> Runner:
    return Runner(SETTINGS, weights, untrained_model(8), Counts())


def made_up(count: int) -> list[Click]:
    return list(synthetic_clicks(SyntheticSettings(clicks=count, users=60, items=50, topics=4)))


def fed(clicks: list[Click], batch: int) -> Runner:
    made = runner()
    for begin in range(0, len(clicks), batch):
        made.feed(clicks[begin : begin + batch])
    return made


def encoded(made: Runner) -> dict[str, bytes]:
    return {user: encode_state(state) for user, state in made.states.items()}


def test_states_and_counts_do_not_depend_on_how_clicks_are_batched() -> None:
    clicks = made_up(300)
    one, many = fed(clicks, 1), fed(clicks, 64)
    assert encoded(one) == encoded(many)
    theirs = many.counts.to_arrays()
    for name, array in one.counts.to_arrays().items():
        np.testing.assert_array_equal(array, theirs[name])
    assert one.counts.ids == many.counts.ids
    assert many.counts.seen == 300


def test_a_state_is_what_the_engine_makes_of_its_users_clicks_alone() -> None:
    clicks = made_up(200)
    made = fed(clicks, 16)
    user = clicks[0].user_id
    own = [(click, offset) for offset, click in enumerate(clicks) if click.user_id == user]
    assert len(own) > 1
    batch = Clicks.of([click for click, _ in own], [0] * len(own), [(0, offset) for _, offset in own], WEIGHTS)
    alone = Engine(SETTINGS, untrained_model(8)).step(batch, new_states(SETTINGS.shape, 1), Counts())
    assert encoded(made)[user] == encode_state(alone.states[0])


def test_evidence_is_folded_after_the_step() -> None:
    made = runner()
    click = Click(event_id="e", user_id="u", item_id="i", ts_ms=1_000, kind="click")
    first = made.feed([click])
    assert first.examples[0].rank.tolist() == [0]  # the item was not in the catalogue yet
    assert made.counts.ids == ["i"]
    assert made.feed([click]).examples[0].rank.tolist() == [1]


def test_a_kind_of_weight_zero_takes_an_offset_and_no_more() -> None:
    made = runner(ClickSettings(weights={"impression": 0.0}))
    kinds = ["click", "impression", "click", "impression"]
    clicks = [
        Click(event_id=str(n), user_id=f"u{n // 2}", item_id=f"i{n}", ts_ms=1_000 + n, kind=kind)
        for n, kind in enumerate(kinds)
    ]
    step = made.feed(clicks)
    assert len(step.evidence) == 2
    assert made.counts.ids == ["i0", "i2"]
    assert {user: int(state["offset"]) for user, state in made.states.items()} == {"u0": 0, "u1": 2}
    assert int(made.states["u0"]["item"][0]) == hash_id("i0")
    assert len(made.feed(clicks[1:2]).states) == 0


def test_states_handed_out_stay_as_they_are() -> None:
    made = runner()
    click = Click(event_id="e", user_id="u", item_id="i", ts_ms=1_000, kind="click")
    made.feed([click])
    before = made.states["u"]
    made.feed([click])
    assert int(before["clicks"]) == 1
    assert int(made.states["u"]["clicks"]) == 2
