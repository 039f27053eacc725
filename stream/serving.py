"""Serving: the model's side of a worker. All of it runs in one thread, so nothing here needs a lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eddyline.model.clicks import Clicks, ClickSettings
from eddyline.model.counts import Counts
from eddyline.model.engine import Engine, EngineSettings
from eddyline.model.model import Model
from eddyline.model.warm_up import warm_up
from eddyline.state.evidence import Evidence
from eddyline.state.user_state import decode_states, encode_state, new_states
from eddyline.stream.list_json import ItemNames
from eddyline.stream.lists import encode_lists
from eddyline.stream.microbatch import MicroBatch, User
from eddyline.stream.models import Rows

__all__ = ["Served", "Serving"]


class Served(NamedTuple):
    """What a micro-batch became, ready to send.

    Attributes:
        states: the new state of each user.
        lists: the newest list of each user.
        evidence: the applied clicks; none if all had been applied before.
        examples: what was known before each of them.
        applied: how many clicks changed a state.
    """

    states: list[bytes]
    lists: list[bytes]
    evidence: list[bytes]
    examples: list[bytes]
    applied: int


class Serving:
    """Engine and counts, and the clicks they are applied to.

    Args:
        settings: of the engine.
        clicks: weights of the kinds.
        model: the version to begin with.
        counts: the counts it stands beside.
        evidence_offset: the first offset of the evidence that they do not contain.
    """

    def __init__(
        self, settings: EngineSettings, clicks: ClickSettings, model: Model, counts: Counts, evidence_offset: int
    ) -> None:
        self._settings = settings
        self._clicks = clicks
        self.counts = counts
        self.evidence_offset = evidence_offset
        self.engine = Engine(settings, model)
        self._names = ItemNames()

    def warm_up(self) -> None:
        """Compile or load every kernel, so that the first click does not wait for it."""
        warm_up(self._settings)
        self.recommend([User(0, b"nobody")], [encode_state(new_states(self._settings.shape, 1)[0])])

    def fold(self, values: Sequence[bytes], next_offset: int) -> int:
        """Count what any worker saw; returns how many clicks that is."""
        evidence = [Evidence.decode(value) for value in values]
        for one in evidence:
            self.counts.fold(one)
        self.evidence_offset = next_offset
        return sum(map(len, evidence))

    def begin_with(self, model: Model, counts: Counts) -> bool:
        """Begin anew with a version made before the stream, as long as no evidence was folded; False afterwards."""
        if self.evidence_offset:
            return False
        self.counts = counts
        self._names = ItemNames()
        self.engine.swap(model)
        return True

    def rows(self) -> Rows:
        """The items' rows as they are now."""
        return Rows(self.counts.hashes, len(self.counts), self.evidence_offset)

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
            self._names,
        )
        return Served(
            states=[encode_state(state) for state in step.states],
            lists=lists,
            evidence=step.evidence.messages(),
            examples=[message for examples in step.examples for message in examples.messages()],
            applied=len(step.evidence),
        )

    def recommend(self, users: Sequence[User], states: Sequence[bytes | None]) -> list[bytes]:
        """New lists for users who did not click, with the time of the stream as now; without a state for newcomers."""
        decoded = decode_states(self._settings.shape, states)
        lists = self.engine.recommend(decoded, self.counts.clock_ms, self.counts)
        ids = [user.key.decode() for user in users]
        model, counts = self.engine.model, self.counts
        return encode_lists(lists, decoded, ids, [""] * len(ids), "refresh", model, counts, self._names)
