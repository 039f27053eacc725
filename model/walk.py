"""The walk: what the counts say of some users, moment after moment, each before the clicks between it and the next.

A moment is the counts as they stand when a tick of event time begins. A worker knows one moment at a time and leaves
the counting to the evidence topic; a backtest walks through many, and folds the clicks of each before the next. Both
are this one loop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled
from eddyline.model.counts import Counts
from eddyline.model.dense import SCORED, Pace, note_click, set_pace, write_dense
from eddyline.model.evidence import Asking, Candidates, Finding, asking, find
from eddyline.model.folding import Tally, Told, fold_clicks, has_room, introduce, told
from eddyline.model.item_table import find_row
from eddyline.state.evidence import Evidence
from eddyline.state.records import hash_id
from eddyline.state.user_state import UserStates

__all__ = ["Asked", "Moments", "one_moment", "walk"]


class Moments(NamedTuple):
    """M moments, and what comes between them.

    Attributes:
        known: items in the catalogue at each, (M,).
        end: where the clicks of each end in the evidence, (M,).
        evidence: the clicks, and the new items in the order in which they get their rows.
    """

    known: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    evidence: Evidence


class Asked(NamedTuple):
    """V users, ordered by the moments at which they are asked about.

    Attributes:
        states: theirs, (V,).
        now_ms: the time at which each is asked about, (V,).
        end: where the users of each moment end, (M,).
    """

    states: UserStates
    now_ms: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]

    @property
    def moment(self) -> npt.NDArray[np.int64]:
        """Of each user, (V,)."""
        return np.searchsorted(self.end, np.arange(len(self.states)), side="right")


def walk(
    counts: Counts,
    moments: Moments,
    before: Asked,
    after: Asked,
    most: int,
    history: int,
    lives: npt.NDArray[np.float32],
) -> tuple[Candidates, Candidates, npt.NDArray[np.float32]]:
    """Look at users and catalogue at every moment, and fold the clicks of all moments but the last.

    Args:
        counts: as they stand at the first moment; as they stand at the last one afterwards.
        moments: the moments.
        before, after: two sets of users to look at.
        most: candidates of each user. Where the links name more, the ones with the most votes by weight stay.
        history: L, how many of a user's last items are returned as rows.
        lives: weights of the half-lives in the mixture, (len(HALF_LIVES),).

    Returns:
        The candidates of both sets, and the dense evidence of every moment, (M, len(SCORED), I) for the I items of
        the last one, zeros where an item was not known yet.
    """
    M, items = len(moments.known), int(moments.known[-1])
    named = moments.evidence.new_ids[: items - int(moments.known[0])]
    new = np.array([hash_id(item_id) for item_id in named], np.uint64)
    clicks = told(moments.evidence)
    asks = [asking(*asked) for asked in (before, after)]
    finds = [Finding.of(ask, counts, items, most, history) for ask in asks]
    counts.prepare(moments.evidence)
    pace = set_pace(counts.tally, int(moments.known[0]), items)
    dense = np.empty((M, len(SCORED), items), np.float32)
    window, links, ring = counts.settings.window, counts.settings.neighbours, before.states["ring"].shape[1]
    at = 0
    while at < M:
        at = _walk(
            at, moments.known, moments.end, clicks, new, asks[0], finds[0], asks[1], finds[1], ring, counts.tally,
            window, most, links, pace, lives, dense,
        )  # fmt: skip
        if at < M:
            counts.make_room(int(moments.end[at] - (moments.end[at - 1] if at else 0)))
    counts.ids.extend(named)
    one, other = (found.found(before.states["item"].shape[1], history) for found in finds)
    return one, other, dense


@compiled
def _walk(
    at: int,
    known: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    clicks: Told,
    new: npt.NDArray[np.uint64],
    before: Asking,
    found_before: Finding,
    after: Asking,
    found_after: Finding,
    ring: int,
    tally: Tally,
    window: int,
    most: int,
    links: int,
    pace: Pace,
    lives: npt.NDArray[np.float32],
    dense: npt.NDArray[np.float32],
) -> int:
    """Walk from the moment `at` on; returns the one before which there must be more room for links."""
    M = len(known)
    while at < M:
        first = end[at - 1] if at > 0 else 0
        need = (end[at] - first) * window * links
        if at < M - 1 and not (has_room(tally.forward, need) and has_room(tally.backward, need)):
            return at
        find(before.end[at - 1] if at > 0 else 0, before.end[at], before, ring, tally, window, most, found_before)
        find(after.end[at - 1] if at > 0 else 0, after.end[at], after, ring, tally, window, most, found_after)
        write_dense(tally, known[at], pace, lives, dense[at])
        if at < M - 1:
            for row in range(known[at], known[at + 1]):
                introduce(tally.table, tally.items, new[row - known[0]], row)
            fold_clicks(first, end[at], clicks, tally, window, links)
            for row in range(known[at], known[at + 1]):
                note_click(tally, row, pace)
            for b in range(first, end[at]):
                row = find_row(tally.table.key, tally.table.row, clicks.item[b])
                if row >= 0:
                    note_click(tally, row, pace)
        at += 1
    return at


def one_moment(counts: Counts) -> Moments:
    """The moment of these counts, with nothing after it."""
    return Moments(np.array([len(counts)]), np.zeros(1, np.int64), Evidence.of_none())
