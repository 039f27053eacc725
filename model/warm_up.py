"""Compile or load every kernel before the first click, by a few clicks that go nowhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eddyline.model.clicks import Clicks, ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.engine import Engine, EngineSettings
from eddyline.model.model import untrained_model
from eddyline.model.short_term import Encoder
from eddyline.state.records import Click
from eddyline.state.user_state import new_states

__all__ = ["warm_up"]


def warm_up(settings: EngineSettings) -> None:
    """Run the engine on made-up clicks. Takes some ten seconds where nothing was compiled yet, else well under one."""
    D = settings.shape.dimension
    nothing = np.zeros((4 * D, D), np.float32)
    encoder = Encoder(np.zeros(0, np.uint64), np.zeros((1, D), np.float32), nothing, nothing, nothing[:, 0].copy())
    engine = Engine(settings, replace(untrained_model(D), encoder=encoder))
    counts = Counts()
    states = new_states(settings.shape, 1)
    for offset, item in enumerate("abcab"):
        click = Click(event_id=str(offset), user_id="u", item_id=item, ts_ms=1 + offset, kind="click")
        step = engine.step(Clicks.of([click], [0], [(0, offset)], ClickSettings()), states, counts)
        counts.fold(step.evidence)
        states = step.states
    engine.recommend(states, 10, counts)


if __name__ == "__main__":
    warm_up(EngineSettings())
