"""The runner: a log through the pipeline's own engine, without Kafka.

It does what the workers do together: it keeps every user's state, gives each click its place, and folds the
evidence of each batch after the step. What it says of a log therefore holds for the stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eddyline.model.clicks import Clicks, ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.engine import Engine, EngineSettings, Step
from eddyline.model.model import Model
from eddyline.replay.ticks import UserTable
from eddyline.state.records import Click

__all__ = ["Runner"]


class Runner:
    """Feeds clicks to an engine, in order, with the states of all users in memory.

    Args:
        settings: of the engine.
        clicks: weights of the kinds; a kind of weight 0 takes an offset, as it does in a topic, and no more.
        model: the version to begin with; `engine.swap` brings another.
        counts: the counts to begin with; they are folded on.
        seed: of the engine.

    Attributes:
        engine: what makes the steps.
        counts: the evidence folded so far.
    """

    def __init__(
        self, settings: EngineSettings, clicks: ClickSettings, model: Model, counts: Counts, seed: int = 0
    ) -> None:
        self.engine = Engine(settings, model, seed)
        self.counts = counts
        self._clicks = clicks
        self._rows: dict[str, int] = {}
        self._users = UserTable(settings.shape)
        self._next_offset = 0

    @property
    def states(self) -> Mapping[str, np.void]:
        """The state of each user who has clicked, by user id."""
        return {user: self._users.rows[row].copy() for user, row in self._rows.items()}

    def feed(self, clicks: Sequence[Click]) -> Step:
        """Apply one batch: partition 0, offsets going on from the batch before.

        The rows of the step's states and lists are the batch's users, in order of appearance.
        """
        begin = self._next_offset
        self._next_offset += len(clicks)
        placed = [(click, begin + k) for k, click in enumerate(clicks) if self._clicks.weight(click.kind)]
        users: dict[str, int] = {}
        rows = [users.setdefault(click.user_id, len(users)) for click, _ in placed]
        batch = Clicks.of([click for click, _ in placed], rows, [(0, offset) for _, offset in placed], self._clicks)
        at = np.array([self._rows.setdefault(user, len(self._rows)) for user in users], np.int64)
        step = self.engine.step(batch, self._users.at(at), self.counts)
        self._users.put(at, step.states)
        self.counts.fold(step.evidence)
        return step
