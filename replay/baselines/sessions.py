"""Session kNN: what is in the sessions that are most like the running one.

VMIS-kNN (Kersbergen, Sprangers, Schelter, "Serenade", SIGMOD 2022), a variant of VS-kNN (Ludewig and Jannach, UMUAI
2018), kept up to date click by click. An index leads from an item to the m newest sessions with it. With the recent
items x_0, x_1, … of a user, newest first, R of them,

    r_n = Σ_{k: x_k ∈ n} π_k,    π_k = 1 − k/R or 1/(1+k)
    z_i = Σ_{n among the k best by r} [i ∈ n] · λ(first shared k) · r_n · log(sessions / sessions with i),
    λ(k) = 1 − k/10

as shares of their sum, backed by decayed popularity. A session may also be a stretch of a user's whole history.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled
from eddyline.replay.baselines.family import Family, drawn
from eddyline.replay.baselines.popularity import Popularity
from eddyline.replay.contender import Progress, Question, WarmUp
from eddyline.replay.ticks import Tick

__all__ = ["Knn", "SessionIndex", "SessionKnn"]

WINDOW = 10
"""Recent items asked with; λ of an older one is 0."""

GRID: dict[str, tuple[Any, ...]] = {
    "newest": (500, 100, 50),
    "neighbours": (100, 10, 30, 300),
    "harmonic": (False, True),
    "in_session": (True, False),
    "own": (False, True),
    "rare": (True, False),
    "popular": (1e-4, 0.1, 0.5),
    "half_life": (2_000.0, 500.0, 100.0, 25.0),
}


class Knn(NamedTuple):
    """Parameters.

    Attributes:
        newest: m, sessions looked at per recent item.
        neighbours: k, sessions that vote.
        harmonic: π_k = 1 / (1 + k), else linear.
        in_session: sessions are sessions, else stretches of the whole history.
        own: the user's own sessions may vote.
        rare: votes for rare items weigh more: the logarithm above, else 1.
        popular, half_life: weight and half-life of the decayed popularity behind it.
    """

    newest: int = 500
    neighbours: int = 100
    harmonic: bool = False
    in_session: bool = True
    own: bool = False
    rare: bool = True
    popular: float = 1e-4
    half_life: float = 2_000.0


class _Sessions(NamedTuple):
    """The S newest sessions and the index; a session's number, modulo S, is its slot.

    Attributes:
        item, length, user: distinct items of each slot's session, how many, and whose it is, (S, L), (S,), (S,).
        having: numbers of the sessions with each item, a ring of the newest m, (I, m).
        times: how many sessions had it, (I,).
        running: number of each user's newest session, (U,).
        next: the number of the next session, (1,).
    """

    item: npt.NDArray[np.int32]
    length: npt.NDArray[np.int32]
    user: npt.NDArray[np.int64]
    having: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    running: npt.NDArray[np.int64]
    next: npt.NDArray[np.int64]


class SessionIndex:
    """Sessions as they come, in bounded memory.

    Args:
        newest: m, sessions kept per item.
        sessions: S, sessions kept.
        length: L, distinct items of a session; a longer one goes on as a new session.
    """

    def __init__(self, newest: int = 500, sessions: int = 1 << 16, length: int = 20) -> None:
        self.kept = _Sessions(
            item=np.zeros((sessions, length), np.int32),
            length=np.zeros(sessions, np.int32),
            user=np.zeros(sessions, np.int64),
            having=np.zeros((64, newest), np.int64),
            times=np.zeros(64, np.int64),
            running=np.full(64, -1, np.int64),
            next=np.zeros(1, np.int64),
        )
        self._similar = np.zeros(sessions, np.float32)
        self._shared = np.zeros(sessions, np.int32)

    def add(self, items: npt.NDArray[np.int32], users: npt.NDArray[np.int64], goes_on: npt.NDArray[np.bool_]) -> None:
        """Take in clicks on item rows by users, (B,); `goes_on` where a click belongs to the user's newest session."""
        self._reach(int(items.max(initial=-1)), int(users.max(initial=-1)))
        _add(items, users, goes_on, self.kept)

    def votes(
        self,
        recent: npt.NDArray[np.int32],
        users: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
        knn: Knn,
        scores: npt.NDArray[np.float32],
    ) -> None:
        """Add the votes of each user's neighbours to the scores, (B, I).

        Args:
            recent: rows of recent items, newest first, -1 where unknown, (B, WINDOW).
            users: (B,).
            counts: how many recent items to ask with, (B,).
            knn: parameters; `newest` is at most that of the index.
            scores: added to.
        """
        self._reach(scores.shape[1] - 1, -1)
        votes = np.zeros(scores.shape[1], np.float32)
        named = np.empty(WINDOW * knn.newest, np.int64)
        _votes(
            recent, users, counts, knn.newest, knn.neighbours, knn.harmonic, knn.own, knn.rare, self.kept,
            self._similar, self._shared, named, votes, scores,
        )  # fmt: skip

    def _reach(self, item: int, user: int) -> None:
        """Make room for rows up to these."""
        kept = self.kept
        if item >= len(kept.times):
            more = max(len(kept.times), item + 1 - len(kept.times))
            self.kept = kept = kept._replace(
                having=np.concatenate([kept.having, np.zeros((more, kept.having.shape[1]), np.int64)]),
                times=np.append(kept.times, np.zeros(more, np.int64)),
            )
        if user >= len(kept.running):
            more = max(len(kept.running), user + 1 - len(kept.running))
            self.kept = kept._replace(running=np.append(kept.running, np.full(more, -1, np.int64)))


class SessionKnn(Family[Knn]):
    """The contender: VMIS-kNN over sessions, or over histories.

    Args:
        question: how lists are asked for.
        seed: of the choice of variants.
        most: variants.
    """

    def __init__(self, question: Question, seed: int, most: int = 64) -> None:
        variants = [Knn(), *(Knn(**one) for one in drawn(GRID, most, seed))]
        super().__init__("session-knn", question, variants)
        self._popularity = Popularity(GRID["half_life"])
        self._indexes = {inside: SessionIndex(max(GRID["newest"])) for inside in GRID["in_session"]}

    def describe(self, variant: Knn) -> dict[str, Any]:
        """The parameters."""
        return variant._asdict()

    def learn(self, tick: Tick) -> None:
        """Take the clicks into the running sessions."""
        items, users = tick.counts.rows(tick.clicks.item), tick.users[tick.clicks.user]
        self._popularity.add(items, tick.clicks.weight)
        for in_session, index in self._indexes.items():
            index.add(items, users, (tick.evidence.session_length > 0) | (not in_session))

    def settle(self, past: WarmUp, on_progress: Progress) -> None:
        """Go on with the best variant alone, and the index that it needs."""
        super().settle(past, on_progress)
        [variant] = self.variants
        self._indexes = {variant.in_session: self._indexes[variant.in_session]}

    def scores(self, variant: Knn, tick: Tick) -> npt.NDArray[np.float32]:
        """The formula's z of every item, (B, I)."""
        scores = np.empty((len(tick), len(tick.counts)), np.float32)
        scores[:] = np.float32(variant.popular) * self._popularity.shares(variant.half_life, len(tick.counts))
        recent = tick.history(WINDOW)
        counts = tick.evidence.session_length.astype(np.int64)
        if not variant.in_session:
            counts = (recent >= 0).sum(1)
        users = tick.users[tick.clicks.user]
        self._indexes[variant.in_session].votes(recent, users, counts, variant, scores)
        return scores


@compiled
def _add(
    items: npt.NDArray[np.int32],
    users: npt.NDArray[np.int64],
    goes_on: npt.NDArray[np.bool_],
    kept: _Sessions,
) -> None:
    S, L = kept.item.shape
    newest = kept.having.shape[1]
    for b in range(len(items)):
        number = kept.running[users[b]]
        slot = number % S
        if number < 0 or number + S < kept.next[0] or not goes_on[b] or kept.length[slot] == L:
            number = kept.next[0]
            kept.next[0] += 1
            kept.running[users[b]] = number
            slot = number % S
            kept.length[slot] = 0
            kept.user[slot] = users[b]
        known = False
        for at in range(kept.length[slot]):
            known = known or kept.item[slot, at] == items[b]
        if not known:
            kept.item[slot, kept.length[slot]] = items[b]
            kept.length[slot] += 1
            kept.having[items[b], kept.times[items[b]] % newest] = number
            kept.times[items[b]] += 1


@compiled
def _votes(
    recent: npt.NDArray[np.int32],
    users: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    newest: int,
    neighbours: int,
    harmonic: bool,
    own: bool,
    rare: bool,
    kept: _Sessions,
    similar: npt.NDArray[np.float32],
    shared: npt.NDArray[np.int32],
    named: npt.NDArray[np.int64],
    votes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
) -> None:
    """`similar` and `votes` are 0 everywhere between users."""
    for b in range(len(recent)):
        R = min(counts[b], recent.shape[1])
        n = 0
        for k in range(R):
            x = recent[b, k]
            repeated = x < 0
            for earlier in range(k):
                repeated = repeated or recent[b, earlier] == x
            if not repeated:
                weight = np.float32(1.0 / (1 + k) if harmonic else 1.0 - k / R)
                n = _meet(x, k, weight, newest, -1 if own else int(users[b]), kept, similar, shared, named, n)
        least = np.float32(0.0)
        if n > neighbours:
            least = np.partition(similar[named[:n]], n - neighbours)[n - neighbours]
        total = np.float32(0.0)
        voting = 0
        for p in range(n):  # sessions of the newest items come first, and the newest of these
            slot = named[p]
            r = similar[slot]
            similar[slot] = 0.0
            if r < least or voting == neighbours:
                continue
            named[voting] = slot
            voting += 1
            vote = r * np.float32(1.0 - shared[slot] / 10.0)
            for at in range(kept.length[slot]):
                i = kept.item[slot, at]
                value = vote * np.float32(np.log(kept.next[0] / kept.times[i])) if rare else vote
                votes[i] += value
                total += value
        for p in range(voting):
            for at in range(kept.length[named[p]]):
                i = kept.item[named[p], at]
                if votes[i] != 0:
                    scores[b, i] += votes[i] / total
                    votes[i] = 0.0


@compiled
def _meet(
    x: int,
    k: int,
    weight: np.float32,
    newest: int,
    user: int,
    kept: _Sessions,
    similar: npt.NDArray[np.float32],
    shared: npt.NDArray[np.int32],
    named: npt.NDArray[np.int64],
    n: int,
) -> int:
    """Meet the newest sessions with an item but those of `user`; returns how many are named by now."""
    S, room = len(kept.length), kept.having.shape[1]
    for back in range(1, min(newest, room, kept.times[x]) + 1):
        number = kept.having[x, (kept.times[x] - back) % room]
        if number + S < kept.next[0]:
            break
        slot = number % S
        if kept.user[slot] == user:
            continue
        if similar[slot] == 0:
            named[n] = slot
            shared[slot] = k
            n += 1
        similar[slot] += weight
    return n
