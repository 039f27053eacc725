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
from eddyline.model.counts import BACK, NEAR, SESSION, TRANSITION, Counts
from eddyline.model.item_table import ItemTable, find_row
from eddyline.model.links import Links, find_link
from eddyline.state.user_state import UserStates

__all__ = [
    "CONTEXT",
    "DENSE",
    "OWN",
    "SPARSE",
    "Candidates",
    "because",
    "candidates",
    "dense_evidence",
]

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
DENSE = (
    "popular_500",  # log(1 + 1e5 · share of the decayed clicks)
    "popular_3000",
    "popular_20000",
    "clicks",  # log(1 + undecayed clicks)
    "age",  # log(1 + age in clicks of the stream) / 2
)
CONTEXT = (
    "activity",  # log(1 + the user's clicks) / 5
    "gap",  # log(1 + minutes since the last click) / 10
    "last_clicks",  # log(1 + clicks of the last item) / 5
    "mass",  # log(1 + Σ near) / 3
    "repeats",  # share of the history that repeats an earlier item of it
    "ring",  # how full the ring of hidden states is
    "new_session",  # 1 if the gap ends the session
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


def candidates(
    counts: Counts, states: UserStates, now_ms: npt.NDArray[np.int64], most: int, history: int
) -> Candidates:
    """The candidates of B users at their `now_ms` (B,), at most `most` each.

    Where the links name more, the ones with the most votes by weight stay. `history` is L, how many of the last
    items are returned as rows.
    """
    B, H = len(states), states["item"].shape[1]
    window, neighbours = counts.settings.window, counts.most_links
    start = np.zeros(B + 1, np.int64)
    item = np.empty(B * most, np.int32)
    evidence = np.empty((B * most, len(SPARSE)), np.float32)
    context = np.empty((B, len(CONTEXT)), np.float32)
    rows = np.full((B, max(H, history)), -1, np.int32)
    room = 2 * window * neighbours + H
    _candidates(
        states["item"], states["ts_ms"], states["history_length"], states["clicks"], states["ring_length"],
        states["session_length"], now_ms, states["ring"].shape[1], counts.table, counts.clicks, counts.followed,
        counts.forward, counts.backward, window, most, np.full(len(counts), -1, np.int32),
        np.empty(room, np.int32), np.empty((room, 12), np.float32), start, item, evidence, context, rows,
    )  # fmt: skip
    n = int(start[B])
    return Candidates(start, item[:n], evidence[:n], context, rows[:, :history], rows[:, :H])


def dense_evidence(counts: Counts) -> npt.NDArray[np.float32]:
    """Evidence for every item, (I, len(DENSE))."""
    dense = np.empty((len(counts), len(DENSE)), np.float32)
    dense[:, :3] = counts.popular_shares()
    dense[:, :3] *= 1e5
    dense[:, 3] = counts.clicks
    dense[:, 4] = counts.age_clicks()
    # log(1 + x) rather than log1p: numpy has a vectorised log, and no x here is tiny
    dense += 1.0
    np.log(dense, out=dense)
    dense[:, 4] *= 0.5
    return dense


def because(
    counts: Counts, history: npt.NDArray[np.int32], items: npt.NDArray[np.int32], most: int
) -> npt.NDArray[np.int32]:
    """The recent items that voted most for each listed one.

    Args:
        counts: the counts the list was made with.
        history: rows of the users' last items, newest first, (B, L).
        items: rows of the listed items, (B, K).
        most: how many reasons per item.

    Returns:
        Rows of the reasons, most weight first, -1 beyond, (B, K, most).
    """
    reasons = np.full((*items.shape, most), -1, np.int32)
    _because(history, items, counts.clicks, counts.forward, counts.settings.window, reasons)
    return reasons


NEAR_SUM, SESSION_SUM, BACK_SUM, T1, T2, VOTES, AGE, DECAYED, MINUTES, LAST, FOLLOWS, SUM = range(12)


@compiled
def _candidates(
    items: npt.NDArray[np.uint64],
    times: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.uint16],
    activity: npt.NDArray[np.uint32],
    ring_length: npt.NDArray[np.uint16],
    session_length: npt.NDArray[np.uint16],
    now_ms: npt.NDArray[np.int64],
    ring: int,
    table: ItemTable,
    clicks: npt.NDArray[np.float32],
    followed: npt.NDArray[np.float32],
    forward: Links,
    backward: Links,
    window: int,
    most: int,
    place: npt.NDArray[np.int32],
    named: npt.NDArray[np.int32],
    sums: npt.NDArray[np.float32],
    start: npt.NDArray[np.int64],
    out_item: npt.NDArray[np.int32],
    out: npt.NDArray[np.float32],
    context: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int32],
) -> None:
    """Gather, then normalise and write. `place` is -1 everywhere between users."""
    n_out = 0
    for b in range(len(items)):
        length = lengths[b]
        last_ms = times[b, length - 1] if length > 0 else np.int64(0)
        gap_ms = max(np.int64(0), now_ms[b] - last_ms) if length > 0 else np.int64(0)
        for a in range(length):
            rows[b, a] = find_row(table.key, table.row, items[b, length - 1 - a])
        in_session = session_length[b] if gap_ms < SESSION_GAP_MS else 0
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
        for p in range(n):
            s = sums[p]
            s[SUM] = s[NEAR_SUM] / near_total + 0.3 * s[BACK_SUM] / back_total + s[T1] + s[DECAYED]
        least = np.float32(-1.0)
        if n > most:
            least = np.partition(sums[:n, SUM].copy(), n - most)[n - most]
        first = n_out
        for p in range(n):
            s = sums[p]
            place[named[p]] = -1
            if s[SUM] < least or n_out - first == most:
                continue
            f = out[n_out]
            share = s[NEAR_SUM] / near_total
            f[0] = np.log1p(share * np.float32(1e4)) * np.float32(0.5)
            f[1] = np.log1p(share * np.float32(1e2))
            f[2] = np.log1p(s[SESSION_SUM] / session_total * np.float32(1e4)) * np.float32(0.5)
            f[3] = np.log1p(s[BACK_SUM] / back_total * np.float32(1e4)) * np.float32(0.5)
            f[4] = s[T1]
            f[5] = np.log1p(s[T1] * np.float32(1e3)) * np.float32(0.5)
            f[6] = np.log1p(s[T2] * np.float32(1e3)) * np.float32(0.5)
            f[7] = s[VOTES] / window
            f[8:] = 0.0
            if s[DECAYED] > 0.0:
                f[8] = 1.0
                f[9] = np.log1p(s[AGE]) * np.float32(0.5)
                f[10] = (np.log(s[DECAYED]) + np.float32(3.0)) * np.float32(0.5)
                f[11] = np.log1p(s[MINUTES]) * np.float32(0.2)
                f[12] = s[LAST]
                f[13] = np.log1p(s[FOLLOWS])
            out_item[n_out] = named[p]
            n_out += 1
        start[b + 1] = n_out
        c = context[b]
        last = rows[b, 0] if length > 0 else -1
        c[0] = np.log1p(np.float32(activity[b])) * np.float32(0.2)
        c[1] = np.log1p(gap_ms / np.float32(60_000.0)) * np.float32(0.1)
        c[2] = np.log1p(clicks[last]) * np.float32(0.2) if last >= 0 else 0.0
        c[3] = np.log1p(near_total) / np.float32(3.0)
        c[4] = repeats / max(length, 1)
        c[5] = ring_length[b] / ring
        c[6] = 1.0 if gap_ms >= SESSION_GAP_MS or length == 0 else 0.0


@compiled
def _because(
    history: npt.NDArray[np.int32],
    items: npt.NDArray[np.int32],
    clicks: npt.NDArray[np.float32],
    forward: Links,
    window: int,
    out: npt.NDArray[np.int32],
) -> None:
    best = np.zeros(out.shape[2], np.float32)
    for b in range(len(items)):
        for k in range(items.shape[1]):
            if items[b, k] < 0:
                continue
            best[:] = 0.0
            for a in range(min(window, history.shape[1])):
                x = history[b, a]
                if x < 0:
                    continue
                slot = find_link(forward, x, items[b, k])
                if slot < 0:
                    continue
                vote = forward.weight[slot, NEAR] / ((1.0 + a) * np.sqrt(max(clicks[x], np.float32(1.0))))
                again = False
                for j in range(len(best)):
                    again = again or out[b, k, j] == x
                for j in range(len(best)):
                    if not again and vote > best[j]:
                        for later in range(len(best) - 1, j, -1):
                            best[later] = best[later - 1]
                            out[b, k, later] = out[b, k, later - 1]
                        best[j] = vote
                        out[b, k, j] = x
                        break
