"""Serving: the model's side of a worker. All of it runs in one thread, so nothing here needs a lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eddyline.model.clicks import Clicks, ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.engine import Engine, EngineSettings
from eddyline.model.model import Model
from eddyline.state.evidence import Evidence
from eddyline.state.user_state import decode_states, encode_state
from eddyline.stream.lists import encode_lists
from eddyline.stream.microbatch import MicroBatch, User

__all__ = ["Served", "Serving"]


class Served(NamedTuple):
    """What a micro-batch became, ready to send.

    Attributes:
        states: the new state of each user.
        lists: the newest list of each user.
        evidence: the applied clicks; empty if all had been applied before.
        examples: what was known before each of them.
        applied: how many clicks changed a state.
    """

    states: list[bytes]
    lists: list[bytes]
    evidence: bytes
    examples: list[bytes]
    applied: int


class Serving:
    """Engine and counts, and the clicks they are applied to.

    Args:
        settings: of the engine.
        clicks: weights of the kinds.
        model: the version to begin with.
        counts: the counts it stands beside.
    """

    def __init__(self, settings: EngineSettings, clicks: ClickSettings, model: Model, counts: Counts) -> None:
        self._settings = settings
        self._clicks = clicks
        self.counts = counts
        self.engine = Engine(settings, model)

    def fold(self, values: Sequence[bytes]) -> None:
        """Count what any worker saw."""
        for value in values:
            self.counts.fold(Evidence.decode(value))

    def swap(self, model: Model) -> None:
        """Serve another version from the next micro-batch on."""
        self.engine.swap(model)

    def apply(self, batch: MicroBatch, states: Sequence[bytes | None]) -> Served:
        """Apply a micro-batch to the states of its users, in their order."""
        before = decode_states(self._settings.shape, states)
        clicks = Clicks.of(batch.clicks, batch.rows, batch.positions, self._clicks)
        step = self.engine.step(clicks, before, self.counts)
        lists = encode_lists(
            step.lists,
            step.states,
            [click.user_id for click in batch.newest],
            [click.event_id for click in batch.newest],
            "click",
            self.engine.model,
            self.counts,
        )
        return Served(
            states=[encode_state(state) for state in step.states],
            lists=lists,
            evidence=step.evidence.encode() if len(step.evidence) else b"",
            examples=[examples.encode() for examples in step.examples],
            applied=len(step.evidence),
        )

    def recommend(self, users: Sequence[User], states: Sequence[bytes]) -> list[bytes]:
        """New lists for users who did not click, with the time of the stream as now."""
        decoded = decode_states(self._settings.shape, states)
        lists = self.engine.recommend(decoded, self.counts.clock_ms, self.counts)
        ids = [user.key.decode() for user in users]
        return encode_lists(lists, decoded, ids, [""] * len(ids), "refresh", self.engine.model, self.counts)
