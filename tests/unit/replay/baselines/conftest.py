"""Ticks from clicks on named items."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.replay.contender import Contender
from eddyline.replay.ticks import Stream, Tick
from eddyline.state.records import Click

Told = Callable[[Contender, Sequence[Click], Click], Tick]


@pytest.fixture
def told() -> Told:
    """Lets a contender learn clicks one by one, and gives the tick of one more, which nobody has counted."""

    def tell(contender: Contender, clicks: Sequence[Click], asked: Click) -> Tick:
        stream = Stream(EngineSettings(), ClickSettings(), CountsSettings())
        for one in clicks:
            tick = stream.take([one])
            stream.count([tick])
            contender.learn(tick)
        return stream.take([asked])

    return tell
