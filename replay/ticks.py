"""A log in ticks of event time: what happens between two updates of the counts, one click after the other.

The live system counts a click everywhere within a second. A backtest does the same in the log's own time: the
clicks of one tick are all answered with the counts as they stood when it began, then all are counted. A user's own
state is never late, neither here nor there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from eddyline.model.clicks import Clicks, ClickSettings
from eddyline.model.counts import Counts, CountsSettings
from eddyline.model.engine import Engine, EngineSettings
from eddyline.model.model import untrained_model
from eddyline.state.evidence import Evidence
from eddyline.state.records import Click
from eddyline.state.user_state import StateShape, UserStates, new_states

__all__ = ["Block", "RowTable", "Stream", "Tick", "UserTable", "blocks", "ticks"]

MOST = 256
"""Clicks in one step; a longer tick takes several steps with the same counts."""


@dataclass(frozen=True)
class Block:
    """B clicks of M ticks, and what was known before each.

    Attributes:
        clicks: the clicks; `clicks.user` is the place in `users`.
        kinds: what happened, (B,).
        users: rows of the distinct users in the stream's table, (U,).
        before: each click's user before it, without hidden states, (B,).
        target: row of the clicked item, -1 where it was not in the catalogue yet, (B,).
        ends: where the clicks of each tick end, (M,).
        known: items in the catalogue when each tick begins, (M,).
        evidence: what the clicks will add to the counts.
        closed: whether its last tick ends with it; where it goes on, the block has no other tick.
    """

    clicks: Clicks
    kinds: Sequence[str]
    users: npt.NDArray[np.int64]
    before: UserStates
    target: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    evidence: Evidence
    closed: bool

    def __len__(self) -> int:
        return len(self.clicks)

    @property
    def moment(self) -> npt.NDArray[np.int64]:
        """Of each click the number of its tick, (B,)."""
        return np.searchsorted(self.ends, np.arange(len(self)), side="right")


@dataclass(frozen=True)
class Tick:
    """B clicks of one tick, and what was known before them.

    Attributes:
        clicks: the clicks; `clicks.user` is the place in `users`.
        kinds: what happened, (B,).
        users: rows of the distinct users in the stream's table, (U,).
        before: each click's user before it, without hidden states, (B,).
        target: row of the clicked item, -1 where it was not in the catalogue yet, (B,).
        counts: everything counted before the tick.
        first_ms: time of the first click on each item of the catalogue, (I,).
        evidence: what the clicks will add to it.
    """

    clicks: Clicks
    kinds: Sequence[str]
    users: npt.NDArray[np.int64]
    before: UserStates
    target: npt.NDArray[np.int32]
    counts: Counts
    first_ms: npt.NDArray[np.int64]
    evidence: Evidence

    def __len__(self) -> int:
        return len(self.clicks)

    def history(self, length: int) -> npt.NDArray[np.int32]:
        """Rows of the user's last items before each click, newest first, -1 beyond or unknown, (B, length)."""
        H = self.before["item"].shape[1]
        place = self.before["history_length"].astype(np.int64)[:, None] - 1 - np.arange(min(length, H))
        items = np.take_along_axis(self.before["item"], np.maximum(place, 0), 1)
        return np.where(place >= 0, self.counts.rows(items), -1).astype(np.int32)


class RowTable:
    """Something of all users, in memory, by rows in order of appearance.

    Args:
        new: makes so many rows of users of whom nothing is known.
    """

    def __init__(self, new: Callable[[int], npt.NDArray[Any]]) -> None:
        self._new = new
        self.rows = new(1024)

    def at(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """These rows, which exist from then on."""
        self._reach(rows)
        return self.rows.take(rows, 0)

    def put(self, rows: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
        """Write these rows."""
        self._reach(rows)
        self.rows[rows] = values

    def _reach(self, rows: npt.NDArray[np.int64]) -> None:
        top = int(rows.max(initial=-1))
        if top >= len(self.rows):
            self.rows = np.concatenate([self.rows, self._new(max(len(self.rows), top + 1 - len(self.rows)))])


class UserTable(RowTable):
    """The states of all users.

    Args:
        shape: sizes of the states.
    """

    def __init__(self, shape: StateShape) -> None:
        super().__init__(partial(new_states, shape))


class Stream:
    """What the workers of a stream know together, apart from the model: histories and counts.

    Args:
        settings: of the engine; sizes of the histories.
        weights: of the kinds.
        counts: how much is counted.

    Attributes:
        counts: everything counted so far.
        users: states without hidden states.
    """

    def __init__(self, settings: EngineSettings, weights: ClickSettings, counts: CountsSettings) -> None:
        bare = StateShape(dimension=4, ring=1, history=settings.shape.history)
        self._engine = Engine(settings.model_copy(update={"shape": bare}), untrained_model(bare.dimension))
        self._weights = weights
        self.counts = Counts(counts)
        self.users = UserTable(bare)
        self._rows: dict[str, int] = {}
        self._offset = 0
        self._first_ms = np.zeros(1024, np.int64)

    @property
    def first_ms(self) -> npt.NDArray[np.int64]:
        """Time of the first click on each item of the catalogue, (I,)."""
        return self._first_ms[: len(self.counts)]

    def read(self, clicks: Sequence[Click], ends: Sequence[int], *, closed: bool = True) -> Block:
        """Put clicks of ticks that end at `ends` in the users' histories. They are not counted before `count`."""
        rows = [self._rows.setdefault(click.user_id, len(self._rows)) for click in clicks]
        users, place = np.unique(np.array(rows, np.int64), return_inverse=True)
        batch = Clicks.of(clicks, place, [(0, self._offset + n) for n in range(len(clicks))], self._weights)
        self._offset += len(clicks)
        advance = self._engine.advance(batch, self.users.at(users), self.counts, np.array(ends, np.int64))
        self.users.put(users, advance.states)
        kinds = [click.kind for click in clicks]
        known, _, evidence = advance.moments
        return Block(batch, kinds, users, advance.before, advance.target, advance.moments.end, known, evidence, closed)

    def ticks(self, block: Block) -> Iterator[Tick]:
        """The ticks of a block; each is to be counted before the next one is asked for."""
        begin = 0
        for m, end in enumerate(block.ends.tolist()):
            known, last = block.known - block.known[0], m == len(block.ends) - 1
            new_ids = block.evidence.new_ids[known[m] : None if last else known[m + 1]]
            clicks = block.clicks.part(begin, end)
            users, place = np.unique(block.users[clicks.user], return_inverse=True)
            yield Tick(
                replace(clicks, user=place),
                block.kinds[begin:end],
                users,
                block.before[begin:end],
                block.target[begin:end],
                self.counts,
                self.first_ms,
                block.evidence.part(begin, end, new_ids),
            )
            begin = end

    def take(self, clicks: Sequence[Click]) -> Tick:
        """Put clicks of one tick in the users' histories. They are not counted before `count`."""
        return next(self.ticks(self.read(clicks, [len(clicks)])))

    def count(self, clicks: Iterable[Tick | Block]) -> None:
        """Count these clicks."""
        for some in clicks:
            known = len(self.counts)
            self.counts.fold(some.evidence)
            if len(self.counts) > known:
                if len(self.counts) > len(self._first_ms):
                    self._first_ms = np.append(self._first_ms, np.zeros(len(self.counts), np.int64))
                rows = self.counts.rows(some.evidence.item)
                new = np.flatnonzero(rows >= known)[::-1]  # the first click on an item is written last
                self._first_ms[rows[new]] = some.evidence.ts_ms[new]


def blocks(
    clicks: Iterable[Click], every_ms: int, most: int, most_ticks: int
) -> Iterator[tuple[Sequence[Click], Sequence[int], bool]]:
    """Cut clicks in blocks of whole ticks; a tick that is too long for one takes several of its own.

    Args:
        clicks: in the order of time.
        every_ms: length of a tick in event time, aligned with full multiples; 0: every click is one.
        most: clicks in a block.
        most_ticks: ticks in a block.

    Yields:
        The clicks of a block, where its ticks end, and whether the last one ends with it.
    """
    block: list[Click] = []
    ends: list[int] = []
    goes_on = False
    for step, closed in ticks(clicks, every_ms, most):
        alone, goes_on = goes_on or not closed, not closed
        if block and (alone or len(block) + len(step) > most or len(ends) == most_ticks):
            yield block, ends, True
            block, ends = [], []
        if alone:
            yield step, [len(step)], closed
        else:
            block += step
            ends.append(len(block))
    if block:
        yield block, ends, True


def ticks(clicks: Iterable[Click], every_ms: int, most: int = MOST) -> Iterator[tuple[Sequence[Click], bool]]:
    """Cut clicks in ticks of `every_ms`, and these in steps of at most `most` clicks.

    Args:
        clicks: in the order of time.
        every_ms: length of a tick in event time, aligned with full multiples; 0: every click is one.
        most: clicks in a step.

    Yields:
        The clicks of a step, and whether the tick ends with it.
    """
    step: list[Click] = []
    now = -1
    for n, click in enumerate(clicks):
        tick = click.ts_ms // every_ms if every_ms else n
        if step and (tick != now or len(step) == most):
            yield step, tick != now
            step = []
        now = tick
        step.append(click)
    if step:
        yield step, True
