"""Evidence about candidates: what the counts say of an item for this user, now.

Sparse evidence exists only for items that the user's recent items or own history name (the candidates); dense
evidence exists for every item. All of it is on a scale of about 0 to 5, so that one gate can weigh it.

With x_0 … x_{R−1} the user's recent items, newest first, and w_k = 1 / (1 + k):

    near_i    = Σ_k w_k · near[x_k → i] / √clicks[x_k],   normalised to p = near / Σ near
    session_i, back_i: the same over the session's and the backward links
    t_i       = transition[x_0 → i] / followed[x_0],      t2_i the same from x_1
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled
from eddyline.model.counts import Counts
from eddyline.model.elementary import log_1p
from eddyline.model.folding import BACK, NEAR, SESSION, TRANSITION, Tally
from eddyline.model.item_table import find_row
from eddyline.state.user_state import UserStates

__all__ = ["CONTEXT", "OWN", "SESSION_GAP_MS", "SPARSE", "Asking", "Candidates", "Finding", "asking", "find"]

SPARSE = (
    "near_fine",  # log(1 + p / 1e-4) / 2
    "near_coarse",  # log(1 + p / 1e-2)
    "session",  # log(1 + p / 1e-4) / 2 over the session's links
    "back",  # log(1 + p / 1e-4) / 2 over the backward links
    "transition",  # t
    "transition_log",  # log(1 + t / 1e-3) / 2
    "transition_before_log",  # log(1 + t2 / 1e-3) / 2
    "votes",  # share of the recent items that have a link to it
    "own",  # 1 if the user had it
    "own_age",  # log(1 + age in the user's clicks) / 2
    "own_count",  # (log Σ .97^age + 3) / 2
    "own_minutes",  # log(1 + minutes since) / 5
    "own_last",  # 1 if it is the last item
    "own_transition",  # log(1 + how often it followed the last item in the user's own history)
)
CONTEXT = (
    "activity",  # log(1 + the user's clicks) / 5
    "gap",  # log(1 + minutes since the last click) / 10
    "last_clicks",  # log(1 + clicks of the last item) / 5
    "mass",  # log(1 + Σ near) / 3
    "repeats",  # share of the history that repeats an earlier item of it
    "ring",  # how full the ring of hidden states is
    "new_session",  # 1 if the gap ends the session
    "in_session",  # log(1 + clicks in the running session) / 2.5
    "most_transition",  # the largest t
    "most_near",  # the largest p
    "again",  # 1 if the last two clicks were on the same item
    "newcomer",  # 1 if the user never clicked
)
OWN = 8
"""Where the sparse evidence from the user's own history begins."""

SESSION_GAP_MS = 30 * 60_000


class Candidates(NamedTuple):
    """Sparse evidence for B users, n candidates in all, one user after the other.

    Attributes:
        start: where each user's candidates begin; the last entry is n, (B + 1,).
        item: item rows, each once per user, (n,).
        evidence: their sparse evidence, (n, len(SPARSE)).
        context: what the gate looks at, (B, len(CONTEXT)).
        history: rows of each user's last items, newest first, -1 beyond, (B, L).
        seen: the same of all the items in each user's history, (B, H).
    """

    start: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    evidence: npt.NDArray[np.float32]
    context: npt.NDArray[np.float32]
    history: npt.NDArray[np.int32]
    seen: npt.NDArray[np.int32]


class Asking(NamedTuple):
    """B users about whom evidence is wanted, as the kernels read them.

    Attributes:
        item, ts_ms: their last clicks, oldest first, (B, H).
        history_length, clicks, ring_length, session_length: as in their states, (B,).
        now_ms: when each is asked about, (B,).
        end: where the users of each moment end, (M,).
    """

    item: npt.NDArray[np.uint64]
    ts_ms: npt.NDArray[np.int64]
    history_length: npt.NDArray[np.uint16]
    clicks: npt.NDArray[np.uint32]
    ring_length: npt.NDArray[np.uint16]
    session_length: npt.NDArray[np.uint16]
    now_ms: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


def asking(states: UserStates, now_ms: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> Asking:
    """The users with these states, at `now_ms` (B,), of moments that end at `end` (M,)."""
    named = ("item", "ts_ms", "history_length", "clicks", "ring_length", "session_length")
    columns = (states[name] for name in named)
    return Asking(*(np.ascontiguousarray(column) for column in (*columns, now_ms, end)))


class Finding(NamedTuple):
    """Room for the candidates of B users, at most `most` each, and for finding them.

    Attributes:
        start, item, evidence, context, rows: as in `Candidates`; `rows` of the last max(H, L) items.
        place: each item's place in `named` while a user is looked at, -1 otherwise, (I,).
        named: items named so far, (n,).
        sums: what was gathered about each, (n, SUMS).
    """

    start: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    evidence: npt.NDArray[np.float32]
    context: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int32]
    place: npt.NDArray[np.int32]
    named: npt.NDArray[np.int32]
    sums: npt.NDArray[np.float32]

    @classmethod
    def of(cls, asking: Asking, counts: Counts, items: int, most: int, history: int) -> Finding:
        """Room to find at most `most` candidates for each user among `items` items."""
        B, H = asking.item.shape
        room = 2 * counts.settings.window * counts.most_links + H
        return cls(
            np.zeros(B + 1, np.int64),
            np.empty(B * most, np.int32),
            np.empty((B * most, len(SPARSE)), np.float32),
            np.empty((B, len(CONTEXT)), np.float32),
            np.full((B, max(H, history)), -1, np.int32),
            np.full(items, -1, np.int32),
            np.empty(room, np.int32),
            np.empty((room, SUMS), np.float32),
        )

    def found(self, histories: int, history: int) -> Candidates:
        """What was found; H items of each user were looked at, L of them are the long-term interest."""
        n = int(self.start[-1])
        return Candidates(
            self.start, self.item[:n], self.evidence[:n], self.context, self.rows[:, :history], self.rows[:, :histories]
        )


NEAR_SUM, SESSION_SUM, BACK_SUM, T1, T2, VOTES, AGE, DECAYED, MINUTES, LAST, FOLLOWS, SUM = range(12)
SUMS = 12


@compiled
def find(begin: int, end: int, asking: Asking, ring: int, tally: Tally, window: int, most: int, to: Finding) -> None:
    """Find the candidates of the users `begin` to `end` with the counts as they stand: gather, normalise, write."""
    items, times, now_ms = asking.item, asking.ts_ms, asking.now_ms
    table, clicks, followed = tally.table, tally.items.clicks, tally.items.followed
    forward, backward = tally.forward, tally.backward
    place, named, sums, rows = to.place, to.named, to.sums, to.rows
    n_out = to.start[begin]
    for b in range(begin, end):
        length = asking.history_length[b]
        last_ms = times[b, length - 1] if length > 0 else np.int64(0)
        gap_ms = max(np.int64(0), now_ms[b] - last_ms) if length > 0 else np.int64(0)
        for a in range(length):
            rows[b, a] = find_row(table.key, table.row, items[b, length - 1 - a])
        in_session = asking.session_length[b] if gap_ms < SESSION_GAP_MS else 0
        n = 0
        near_total = session_total = back_total = np.float32(0.0)
        for k in range(min(window, length)):
            x = rows[b, k]
            if x < 0:
                continue
            scale = np.float32(1.0 / ((1.0 + k) * np.sqrt(max(clicks[x], np.float32(1.0)))))
            for slot in range(forward.start[x], forward.start[x] + forward.used[x]):
                i = forward.target[slot]
                if place[i] < 0:
                    place[i] = n
                    named[n] = i
                    sums[n] = 0.0
                    n += 1
                p = place[i]
                near = scale * forward.weight[slot, NEAR]
                sums[p, NEAR_SUM] += near
                near_total += near
                if k < in_session:
                    session = scale * forward.weight[slot, SESSION]
                    sums[p, SESSION_SUM] += session
                    session_total += session
                if k == 0:
                    sums[p, T1] = forward.weight[slot, TRANSITION] / max(followed[x], np.float32(1.0))
                elif k == 1:
                    sums[p, T2] = forward.weight[slot, TRANSITION] / max(followed[x], np.float32(1.0))
                sums[p, VOTES] += 1.0
            for slot in range(backward.start[x], backward.start[x] + backward.used[x]):
                i = backward.target[slot]
                if place[i] < 0:
                    place[i] = n
                    named[n] = i
                    sums[n] = 0.0
                    n += 1
                back = scale * backward.weight[slot, BACK]
                sums[place[i], BACK_SUM] += back
                back_total += back
        repeats = 0
        decay = np.float32(1.0)
        for a in range(length):
            i = rows[b, a]
            if i < 0:
                continue
            if place[i] < 0:
                place[i] = n
                named[n] = i
                sums[n] = 0.0
                n += 1
            p = place[i]
            if sums[p, DECAYED] == 0.0:
                sums[p, AGE] = a
                minutes = max(np.int64(0), now_ms[b] - times[b, length - 1 - a]) / 60_000.0
                sums[p, MINUTES] = minutes
                sums[p, LAST] = 1.0 if a == 0 else 0.0
            else:
                repeats += 1
            sums[p, DECAYED] += decay
            decay *= np.float32(0.97)
            if a > 0 and rows[b, a] == rows[b, 0] and rows[b, a - 1] >= 0:
                sums[place[rows[b, a - 1]], FOLLOWS] += 1.0
        near_total = max(near_total, np.float32(1e-9))
        session_total = max(session_total, np.float32(1e-9))
        back_total = max(back_total, np.float32(1e-9))
        most_near = most_transition = np.float32(0.0)
        for p in range(n):
            s = sums[p]
            s[SUM] = s[NEAR_SUM] / near_total + 0.3 * s[BACK_SUM] / back_total + s[T1] + s[DECAYED]
            most_near, most_transition = max(most_near, s[NEAR_SUM]), max(most_transition, s[T1])
        least = np.float32(-1.0)
        if n > most:
            least = np.partition(sums[:n, SUM].copy(), n - most)[n - most]
        first = n_out
        for p in range(n):
            s = sums[p]
            place[named[p]] = -1
            if s[SUM] < least or n_out - first == most:
                continue
            f = to.evidence[n_out]
            share = s[NEAR_SUM] / near_total
            f[0] = log_1p(share * np.float32(1e4)) * np.float32(0.5)
            f[1] = log_1p(share * np.float32(1e2))
            f[2] = log_1p(s[SESSION_SUM] / session_total * np.float32(1e4)) * np.float32(0.5)
            f[3] = log_1p(s[BACK_SUM] / back_total * np.float32(1e4)) * np.float32(0.5)
            f[4] = s[T1]
            f[5] = log_1p(s[T1] * np.float32(1e3)) * np.float32(0.5)
            f[6] = log_1p(s[T2] * np.float32(1e3)) * np.float32(0.5)
            f[7] = s[VOTES] / window
            f[8:] = 0.0
            if s[DECAYED] > 0.0:
                f[8] = 1.0
                f[9] = log_1p(s[AGE]) * np.float32(0.5)
                f[10] = (np.log(s[DECAYED]) + np.float32(3.0)) * np.float32(0.5)
                f[11] = log_1p(s[MINUTES]) * np.float32(0.2)
                f[12] = s[LAST]
                f[13] = log_1p(s[FOLLOWS])
            to.item[n_out] = named[p]
            n_out += 1
        to.start[b + 1] = n_out
        c = to.context[b]
        last = rows[b, 0] if length > 0 else -1
        c[0] = log_1p(np.float32(asking.clicks[b])) * np.float32(0.2)
        c[1] = log_1p(gap_ms / np.float32(60_000.0)) * np.float32(0.1)
        c[2] = log_1p(clicks[last]) * np.float32(0.2) if last >= 0 else 0.0
        c[3] = log_1p(near_total) / np.float32(3.0)
        c[4] = repeats / max(length, 1)
        c[5] = asking.ring_length[b] / ring
        c[6] = 1.0 if gap_ms >= SESSION_GAP_MS or length == 0 else 0.0
        c[7] = log_1p(np.float32(in_session)) * np.float32(0.4)
        c[8] = most_transition
        c[9] = most_near / near_total
        c[10] = 1.0 if length > 1 and last >= 0 and last == rows[b, 1] else 0.0
        c[11] = 1.0 if length == 0 else 0.0
