"""The engine: one step from clicks to new states, ranked lists, evidence and examples.

Workers and backtests run this and nothing else, so what a backtest says holds for the live system. A worker's step is
one moment of the stream and changes neither model nor counts: clicks reach the counts through the evidence, for
everybody alike. A backtest steps through many moments at once, and the counts go along from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from eddyline.model.clicks import Clicks
from eddyline.model.counts import Counts
from eddyline.model.evidence import SESSION_GAP_MS
from eddyline.model.examples import ExampleSettings, make_examples
from eddyline.model.model import Model
from eddyline.model.ranking import Judged, Lists, Ranking, RankingSettings, View
from eddyline.model.walk import Asked, Moments
from eddyline.state.evidence import Evidence
from eddyline.state.examples import Examples
from eddyline.state.user_state import StateShape, UserStates, new_states

__all__ = ["Advance", "Again", "Engine", "EngineSettings", "Step", "last_ms"]


class EngineSettings(BaseModel):
    """What the engine makes of a click."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: StateShape = Field(default_factory=StateShape, description="How much of a user is kept")
    ranking: RankingSettings = Field(default_factory=RankingSettings, description="How lists are made")
    examples: ExampleSettings = Field(default_factory=ExampleSettings, description="What is logged to learn from")


@dataclass(frozen=True)
class Step:
    """What one step made.

    Attributes:
        states: the states after it, (U,).
        applied: which clicks changed a state; the others had been applied before, (B,).
        lists: after each moment, the newest list of each user who clicked at it, none if none were asked for; then the
            ones made anew.
        listed: where each list's last click is among the clicks, ascending by moment, then by user.
        target: row of each applied click's item, -1 where the evidence did not have it yet, (A,).
        evidence: the applied clicks, for everybody's counts, (A,).
        examples: what was known before each applied click, in messages of bounded size.
        judged: what the model said before each applied click, (A,).
        view: what the model saw before each applied click, (A,).
    """

    states: UserStates
    applied: npt.NDArray[np.bool_]
    lists: Lists
    listed: npt.NDArray[np.int64]
    target: npt.NDArray[np.int32]
    evidence: Evidence
    examples: Sequence[Examples]
    judged: Judged
    view: View


class Advance(NamedTuple):
    """What clicks made of states, before anything is ranked.

    Attributes:
        states: the states after them, (U,).
        before: the state before each applied click, (A,).
        after: the state after each click, (B,); none if none were asked for.
        fresh: which clicks were applied, ascending, (A,).
        target: row of each applied click's item, -1 where the evidence does not have it at the click's moment, (A,).
        moments: the moments, and the applied clicks between them.
    """

    states: UserStates
    before: UserStates
    after: UserStates
    fresh: npt.NDArray[np.int64]
    target: npt.NDArray[np.int32]
    moments: Moments


class Again(NamedTuple):
    """Lists that are made anew for users without a click of theirs.

    Attributes:
        click: whose user's list it is, in the state before this click; -1: of somebody who never clicked, (R,).
        moment: when it is made, ascending, (R,).
    """

    click: npt.NDArray[np.int64]
    moment: npt.NDArray[np.int64]


class Engine:
    """Applies clicks to states with one model and one set of counts.

    Args:
        settings: sizes of states, lists, examples.
        model: the version to serve; `swap` brings another.
        seed: of the uniform part of the examples' pools.
    """

    def __init__(self, settings: EngineSettings, model: Model, seed: int = 0) -> None:
        self.settings = settings
        self._random = np.random.default_rng(seed)
        self.swap(model)

    @property
    def model(self) -> Model:
        """The version that is served."""
        return self._model

    def swap(self, model: Model) -> None:
        """Serve another version from the next step on."""
        self._model = model
        self._ranking = Ranking(self.settings.ranking, model)

    @property
    def ranking(self) -> Ranking:
        """What ranks with the version that is served."""
        return self._ranking

    def step(
        self,
        clicks: Clicks,
        states: UserStates,
        counts: Counts,
        ends: npt.NDArray[np.int64] | None = None,
        *,
        lists: bool = True,
        answers: bool = False,
        again: Again | None = None,
    ) -> Step:
        """Apply clicks to the states of their users, and rank for each user.

        A user may click several times in one batch: the result is that of one click after the other. A click
        whose offset a state has passed already changes nothing; its user still gets a list. States that another
        encoder made are encoded anew.

        Clicks of one moment all find the same counts, which a step of one moment only reads. Of several moments, the
        clicks of each are folded before the next, as if each were a step; those of the last are left to the caller.

        Args:
            clicks: B clicks.
            states: the states of the U users, one row each; not changed.
            counts: the evidence folded so far.
            ends: where the clicks of each moment end, the last one with the last click, (M,); None: one moment.
            lists: False where nobody reads the new lists: none are made.
            answers: whether the lists as of before each click, and the loss of each, are wanted.
            again: lists to make anew for users who click later, of clicks that no state has passed.
        """
        ends = np.array([len(clicks)]) if ends is None else ends
        states, before, after, fresh, target, moments = self.advance(clicks, states, counts, ends, after=lists)
        applied = np.zeros(len(clicks), np.bool_)
        applied[fresh] = True
        listed = _last_of_each(clicks.user, ends) if lists else np.zeros(0, np.int64)
        after = after[listed]
        asked = Asked(after, last_ms(after), np.searchsorted(listed, ends))
        if again is not None:
            everybody = np.concatenate([before, new_states(self.settings.shape, 1)])  # the last one never clicked
            asked, place = _also(asked, again, everybody, clicks, ends)
        one, other = self._ranking.views(
            counts,
            moments,
            Asked(before, clicks.ts_ms[fresh], moments.end),
            asked,
        )
        judged = self._ranking.judge(one, target, self.settings.examples.candidates, answers=answers)
        evidence = moments.evidence
        examples = make_examples(
            self.settings.examples, self._model, one, judged, before, clicks.user_hash[fresh], target, evidence,
            self._random,
        )  # fmt: skip
        made = self._ranking.lists(other)
        if again is not None:
            made = Lists(made.item[place], made.score[place], made.parts[place], made.because[place])
        return Step(states, applied, made, listed, target, evidence, examples, judged, one)

    def advance(
        self,
        clicks: Clicks,
        states: UserStates,
        counts: Counts,
        ends: npt.NDArray[np.int64],
        *,
        after: bool = False,
    ) -> Advance:
        """The half of a step that every click needs: new states and evidence; nothing is ranked, nothing folded."""
        states = states.copy()
        if self._model.encoder:
            self._model.encoder.refresh(states)
        before = np.empty(len(clicks), states.dtype)
        then = np.empty(len(clicks) if after else 0, states.dtype)
        applied = np.zeros(len(clicks), np.bool_)
        for chosen in _waves(clicks.user):
            users = clicks.user[chosen]
            partition, offset = states["partition"][users], states["offset"][users]
            new = (partition != clicks.partition[chosen]) | (offset < clicks.offset[chosen])
            fresh, advancing = chosen[new], states.take(users[new])
            before[fresh] = advancing
            applied[fresh] = True
            self._advance(advancing, clicks, fresh)
            states[users[new]] = advancing
            if after:
                then[chosen] = states.take(users)
        fresh = np.flatnonzero(applied)
        end = np.searchsorted(fresh, ends)
        target, known, first = _targets(clicks.item[fresh], counts, end)
        new_ids = [clicks.item_ids[b] for b in fresh[first].tolist()]
        before = before.take(fresh)
        evidence = self._evidence(clicks, fresh, before, new_ids)
        return Advance(states, before, then, fresh, target, Moments(known, end, evidence))

    def recommend(self, states: UserStates, now_ms: int, counts: Counts) -> Lists:
        """The lists of users at `now_ms` without a click, for a refresh or an answer on demand."""
        if self._model.encoder:
            states = states.copy()
            self._model.encoder.refresh(states)
        view = self._ranking.view(states, np.full(len(states), now_ms, np.int64), counts)
        return self._ranking.lists(view)

    def _advance(self, states: UserStates, clicks: Clicks, chosen: npt.NDArray[np.int64]) -> None:
        """Advance the states, in place, by one click each."""
        states["session_length"] = 1 + _in_session(states, clicks, chosen)
        states["session"] = clicks.session[chosen]
        if self._model.encoder:
            self._model.encoder.advance(states, clicks.item[chosen])
        H = states["item"].shape[1]
        length = states["history_length"]
        full, at = np.flatnonzero(length == H), np.minimum(length, H - 1)
        for name, value in (("item", clicks.item), ("ts_ms", clicks.ts_ms)):
            column = states[name]
            if len(full):
                column[full, :-1] = column[full, 1:]
            column[np.arange(len(states)), at] = value[chosen]
        states["history_length"] = at + 1
        states["clicks"] += 1
        states["partition"] = clicks.partition[chosen]
        states["offset"] = clicks.offset[chosen]

    def _evidence(
        self, clicks: Clicks, fresh: npt.NDArray[np.int64], before: UserStates, new_ids: Sequence[str]
    ) -> Evidence:
        length = before["history_length"].astype(np.int64)
        count = np.minimum(length, _EVIDENCE_RECENT)
        age = np.arange(_EVIDENCE_RECENT)
        place = length[:, None] - 1 - age  # newest first
        valid = age < count[:, None]
        recent = np.take_along_axis(before["item"], np.maximum(place, 0), 1)[valid]
        in_session = np.minimum(_in_session(before, clicks, fresh), count)
        return Evidence(
            item=clicks.item[fresh],
            weight=clicks.weight[fresh],
            ts_ms=clicks.ts_ms[fresh],
            partition=clicks.partition[fresh],
            offset=clicks.offset[fresh],
            recent=recent,
            recent_count=count.astype(np.uint8),
            session_length=in_session.astype(np.uint8),
            new_ids=new_ids,
        )


_EVIDENCE_RECENT = 10
"""How many items before a click its evidence names."""


def _targets(
    item: npt.NDArray[np.uint64], counts: Counts, end: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows of items clicked at moments that end at `end` (M,), if those of each are folded before the next.

    Returns:
        Rows, -1 where an item has none at its moment, (A,); how many items are known at each moment, (M,); and the
        first click on each new item, ascending.
    """
    row = counts.rows(item)
    unknown = np.flatnonzero(row < 0)
    _, first, which = np.unique(item[unknown], return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)  # of each distinct new item among the new rows
    place[order] = np.arange(len(order))
    arrival = np.searchsorted(end, unknown[first[order]], side="right")  # at which moment each is clicked first
    known = len(counts) + np.searchsorted(arrival, np.arange(len(end)))
    there = arrival[place[which]] < np.searchsorted(end, unknown, side="right")
    row[unknown] = np.where(there, len(counts) + place[which], -1)
    return row, known, unknown[first[order]]


def _also(
    asked: Asked, again: Again, before: UserStates, clicks: Clicks, ends: npt.NDArray[np.int64]
) -> tuple[Asked, npt.NDArray[np.int64]]:
    """Those who are asked about, and those whose lists are made anew, by moment; and the place of each there."""
    moment = np.concatenate([asked.moment, again.moment])
    begin = np.append(0, ends[:-1])[again.moment]
    order = np.argsort(moment, kind="stable")
    states = np.concatenate([asked.states, before[again.click]])[order]
    now_ms = np.concatenate([asked.now_ms, clicks.ts_ms[begin]])[order]
    end = np.searchsorted(moment[order], np.arange(len(ends)), side="right")
    return Asked(states, now_ms, end), np.argsort(order)


def _last_of_each(user: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The last click of each user at each moment, by moment, then by user."""
    moment = np.searchsorted(ends, np.arange(len(user)), side="right")
    order = np.lexsort((user, moment))
    of_each = np.stack([moment, user])[:, order]
    last = np.append((of_each[:, 1:] != of_each[:, :-1]).any(0), np.ones(min(1, len(user)), np.bool_))
    found: npt.NDArray[np.int64] = order[last]
    return found


def _waves(user: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Clicks in order, cut so that each wave has at most one click of a user: first clicks, then second ones."""
    order = np.argsort(user, kind="stable")
    ordered = user[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(user) else order
    turn = np.arange(len(user)) - np.repeat(starts, np.diff(np.append(starts, len(user))))
    for n in range(int(turn.max(initial=-1)) + 1):
        yield np.sort(order[turn == n])


def last_ms(states: UserStates) -> npt.NDArray[np.int64]:
    """Time of each user's last click, 0 without any, (U,)."""
    last = np.maximum(states["history_length"].astype(np.int64) - 1, 0)
    ms: npt.NDArray[np.int64] = states["ts_ms"][np.arange(len(states)), last]
    return ms


def _in_session(states: UserStates, clicks: Clicks, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many clicks of the running session come before each click: 0 where it opens a new one.

    Two session ids decide where both are given, a gap of 30 minutes of event time otherwise.
    """
    session = clicks.session[chosen]
    near = clicks.ts_ms[chosen] - last_ms(states) < SESSION_GAP_MS
    both = (session != 0) & (states["session"] != 0)
    same = np.where(both, session == states["session"], near) & (states["history_length"] > 0)
    return np.where(same, np.minimum(states["session_length"], 60_000), 0).astype(np.int64)
