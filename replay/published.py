"""The lists on the topic in a backtest: made at each click of their user, and anew when a refresh comes by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eddyline.model.engine import Again, Step
from eddyline.replay.ticks import Block, RowTable
from eddyline.state.recent import Recent

__all__ = ["Published", "RefreshPolicy"]


@dataclass(frozen=True)
class RefreshPolicy:
    """When lists on the topic are made anew, apart from their users' own clicks.

    Attributes:
        users: recently active users whose lists are.
        clicks: after so many clicks of anyone; None: only with new weights.
        every_s: event time between two of these at least.
        per_s: lists made in a second of event time at most.
    """

    users: int
    clicks: int | None
    every_s: float
    per_s: float


class Published(RowTable):
    """The list of each user on the topic, by rows of users; -1 where there is none.

    A list that nobody clicks at before the next refresh is never read. So of a refresh only the lists are made of users
    who click in what is left of the block before the next one; the others are as good as made, as the next block begins
    with a refresh if it is time for one. Refreshes stand at the beginning of each block and after so many clicks in it.

    Args:
        length: K.
        policy: when lists are made anew.

    Attributes:
        active: rows of the users whose lists a refresh makes anew.
        newcomers: the list for all who never clicked, (K,).
    """

    def __init__(self, length: int, policy: RefreshPolicy) -> None:
        super().__init__(lambda users: np.full((users, length), -1, np.int32))
        self._policy = policy
        self.active: Recent[int] = Recent(policy.users)
        self.newcomers = np.full(length, -1, np.int32)
        self._refreshed_ms = 0

    def again(self, block: Block) -> Again:
        """The lists that refreshes in the block make anew and that are read: of which click's user, at which moment.

        The list for newcomers is made at each of them.
        """
        points, users = self._points(block), block.users[block.clicks.user].tolist()
        moment = block.moment
        last = np.searchsorted(points, moment, side="right") - 1
        made: dict[int, int] = {}  # the moment at which the newest list of each user so far was made
        clicks, at = [-1] * len(points), list(points)
        for n, (user, place, m) in enumerate(zip(users, last.tolist(), moment.tolist(), strict=True)):
            known = user in made or user in self.active
            if place >= 0 and known and made.get(user, -1) < points[place]:
                clicks.append(n)
                at.append(points[place])
            made[user] = m
        order = np.argsort(at, kind="stable")
        return Again(np.array(clicks, np.int64)[order], np.array(at, np.int64)[order])

    def _points(self, block: Block) -> list[int]:
        """The moments before whose clicks a refresh is over."""
        policy, points, last = self._policy, list[int](), None
        if policy.clicks is None:
            return points
        pause_s = max(policy.every_s, len(self.active) / policy.per_s)
        for m, start in enumerate([0, *block.ends[:-1].tolist()]):
            now_ms = int(block.clicks.ts_ms[start])
            if (last is None or start - last >= policy.clicks) and now_ms - self._refreshed_ms >= 1000 * pause_s:
                points.append(m)
                last, self._refreshed_ms = start, now_ms
        return points

    def follow(self, block: Block, step: Step, again: Again) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Put the new lists on the topic.

        Returns:
            The places of the clicked items on the lists that it held as they were clicked, (B,); those lists, (B, K).
        """
        M, user, moment = len(block.ends), block.clicks.user, block.moment
        held = self.at(block.users[user])
        # Of each moment first the lists made anew, then the clicks, then the lists they bring.
        theirs = np.flatnonzero(again.click >= 0)
        of = np.concatenate([user[step.listed], user[again.click[theirs]]])
        made = 3 * (of * M + np.concatenate([moment[step.listed], again.moment[theirs]]))
        made[: len(step.listed)] += 2
        order = np.argsort(made)
        before = np.searchsorted(made[order], 3 * (user * M + moment) + 1) - 1
        newest = order[np.maximum(before, 0)]
        here = (before >= 0) & (of[newest] == user)
        lists = np.concatenate([step.lists.item[: len(step.listed)], step.lists.item[len(step.listed) + theirs]])
        held[here] = lists[newest[here]]
        new = np.flatnonzero(block.before["history_length"] == 0)
        held[new] = self._for_newcomers(step, again, moment[new])
        active = block.users[user[step.listed]]
        self.put(active, step.lists.item[: len(active)])
        self.active.note(active.tolist())
        return _place(held, step.target), held

    def _for_newcomers(self, step: Step, again: Again, moment: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The list for newcomers at each of the moments; the newest one is kept."""
        theirs = np.flatnonzero(again.click < 0)
        lists = np.concatenate([self.newcomers[None], step.lists.item[len(step.listed) + theirs]])
        self.newcomers = lists[-1]
        at: npt.NDArray[np.int32] = lists[np.searchsorted(again.moment[theirs], moment, side="right")]
        return at


def _place(lists: npt.NDArray[np.int32], target: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Place of each target on its list, from 1; 0 where it is not on it."""
    found = (lists == target[:, None]) & (target[:, None] >= 0)
    return np.where(found.any(1), 1 + found.argmax(1), 0).astype(np.int32)
