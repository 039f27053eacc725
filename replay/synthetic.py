"""Click streams made up by a known model, to try everything without a log of one's own.

The model, for click number n (0, 1, …) of N:

    world      λ(n) ∈ [0, 1] is how far the stream has drifted from world A to world B; a session at n lives
               in B with probability λ(n). `drift` decides: `none` is 0; `abrupt` is 1 from `drift_at`·N on;
               `gradual` is n / N; `returning` is 0 and 1 in turn, `regime_clicks` each (weekday and weekend,
               seasons).
    tastes     user u has `tastes` topics of its own with weights θ_u ~ Dirichlet(1) in A; in B a share
               `drift_share` of the users has another draw. Users act at log-normal rates, σ =
               `activity_spread`.
    items      item i belongs to one topic and arrives at a_i: 0 for most, uniform in (0, N) for a share
               `new_items`. Its popularity within its topic, at rank r_i (in B a share `drift_share` of the
               ranks is dealt anew), is
                   w_i(n) = r_i^-`zipf` · [n ≥ a_i], and for one that arrived on the way
                            times 1 + `novelty` · exp(−(n − a_i) / `novelty_clicks`).
    session    u ~ activity, topic z ~ θ_u (the session's intent), length ~ Geometric with mean
               `session_clicks`, at most 20.
    clicks     the first is i ~ w(n) within z; each further one, after item j, is
                   with `p_next`    one of j's two successors in its topic (the first with probability 0.75),
                   with `p_repeat`  one of the last 8 items the user clicked,
                   else             i ~ w(n) within z;
               what cannot be had (no history yet, a successor that has not arrived) falls to the last.
    time       sessions start by a Poisson process with a daily rhythm (quiet at midnight), so that a user
               comes back after `return_hours` on average; gaps within a session are log-normal, median 40 s,
               and a user's sessions never overlap.
    kind       `purchase` with probability `purchases`, else `click`.

A click's successors make sequences predictable, tastes make users differ, and the drift punishes whatever
cannot forget. The same settings give the same stream, click for click.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from eddyline.state.records import Click

__all__ = ["Change", "SyntheticSettings", "changes", "synthetic_clicks"]

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]

_BLOCK = 128  # sessions drawn at once
_LONGEST = 20  # clicks of a session
_HISTORY = 8  # items of a user that a repeat is drawn from
_FIRST_SUCCESSOR = 0.75
_RHYTHM = 0.6
_GAP_MEDIAN_MS, _GAP_SPREAD, _GAP_MAX_MS = 40_000, 0.8, 900_000
_PAUSE_MS = 2_100_000  # at least so long between two sessions of a user
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000


class SyntheticSettings(BaseModel):
    """What the made-up stream is like; the module's docstring has the equations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clicks: int = Field(20_000, ge=1, description="clicks in the stream")
    users: int = Field(1_800, ge=1, description="users; not all of them come")
    items: int = Field(1_200, ge=1, description="items, those that arrive on the way included")
    topics: int = Field(20, ge=1, description="topics; every item belongs to one")
    tastes: int = Field(3, ge=1, description="topics a user is interested in")
    seed: int = Field(0, ge=0, description="the same seed and settings give the same stream")
    zipf: float = Field(0.9, ge=0, description="exponent of popularity over rank within a topic")
    new_items: float = Field(0.4, ge=0, lt=1, description="share of the items that arrive during the stream")
    novelty: float = Field(3.0, ge=0, description="how many times over its rank a just arrived item is popular")
    novelty_clicks: int = Field(1_000, ge=1, description="clicks in which novelty falls to 1/e")
    session_clicks: float = Field(4.5, ge=1, description="mean clicks of a session")
    p_next: float = Field(0.5, ge=0, le=1, description="probability that a click follows a successor")
    p_repeat: float = Field(0.1, ge=0, le=1, description="probability that a click repeats one of the user's items")
    purchases: float = Field(0.04, ge=0, le=1, description="share of clicks that are purchases")
    activity_spread: float = Field(0.8, ge=0, description="spread (σ of the logarithm) of the users' activity")
    return_hours: float = Field(48.0, gt=0, description="mean hours between two sessions of a user")
    drift: Literal["none", "abrupt", "gradual", "returning"] = Field(
        "abrupt", description="how tastes and popularity change during the stream"
    )
    drift_at: float = Field(0.5, ge=0, le=1, description="where in the stream the abrupt drift is")
    drift_share: float = Field(0.7, ge=0, le=1, description="share of users and of ranks that drift")
    regime_clicks: int = Field(4_000, ge=1, description="clicks of one regime, where regimes return")
    start_ms: int = Field(1_704_067_200_000, gt=0, description="time of the start, milliseconds since 1970, UTC")


class Change(NamedTuple):
    """A moment at which a made-up stream changes.

    Attributes:
        click: number of the first click after it, from 0.
        at_ms: time of that click.
        what: the change, in words.
    """

    click: int
    at_ms: int
    what: str


class _World(NamedTuple):
    """What does not change while the stream runs; items are numbered topic by topic."""

    first: _Ints  # (topics + 1,) first item of each topic
    arrival: _Ints  # (items,) click number at which the item arrives
    successors: _Ints  # (items, 2)
    ranks: _Floats  # (2, items) r_i in world A and B
    tastes: _Ints  # (2, users, tastes) topics
    weights: _Floats  # (2, users, tastes) cumulated θ
    activity: _Floats  # (users,) cumulated


def synthetic_clicks(settings: SyntheticSettings | None = None) -> Iterator[Click]:
    """The clicks of a made-up stream, in the order of their times.

    Memory is bounded by users and items, not by clicks.
    """
    settings = settings or SyntheticSettings()
    return islice(_ordered(settings), settings.clicks)


def changes(settings: SyntheticSettings) -> list[Change]:
    """When a made-up stream changes, in order; nothing for one that never does, or changes all the time.

    Sessions overlap, so a few clicks near a change are still, or already, of the other side.
    """
    if settings.drift == "abrupt":
        found = {round(settings.drift_at * settings.clicks): "tastes and popularity change for good"}
    elif settings.drift == "returning":
        numbers = range(settings.regime_clicks, settings.clicks, settings.regime_clicks)
        found = {number: _regime(turn) for turn, number in enumerate(numbers, 1)}
    else:
        return []
    return [
        Change(number, click.ts_ms, found[number])
        for number, click in enumerate(synthetic_clicks(settings))
        if number in found
    ]


def _regime(turn: int) -> str:
    return "a second regime begins" if turn == 1 else f"the {'second' if turn % 2 else 'first'} regime returns"


def _ordered(settings: SyntheticSettings) -> Iterator[Click]:
    """Sessions overlap, so clicks wait until no later block of sessions can start before them."""
    rng = np.random.default_rng(settings.seed)
    world = _world(settings, rng)
    sessions = _Sessions(settings, world, rng)
    users = [f"user-{n:04d}" for n in range(settings.users)]
    items = [""] * settings.items
    for name, item in enumerate(rng.permutation(settings.items).tolist()):
        items[item] = f"item-{name:04d}"
    waiting = np.empty((0, 5), np.int64)  # time, session, user, item, purchase
    number = 0
    while True:
        drawn = sessions.block()
        waiting = np.concatenate([waiting, drawn])
        waiting = waiting[np.lexsort((waiting[:, 1], waiting[:, 0]))]
        ready = int(np.searchsorted(waiting[:, 0], sessions.clock_ms))
        for ts_ms, session, user, item, purchase in waiting[:ready].tolist():
            yield Click(
                event_id=f"click-{number:07d}",
                user_id=users[user],
                item_id=items[item],
                ts_ms=ts_ms,
                kind="purchase" if purchase else "click",
                session_id=f"session-{session:06d}",
            )
            number += 1
        waiting = waiting[ready:]


def _world(settings: SyntheticSettings, rng: np.random.Generator) -> _World:
    topics = min(settings.topics, settings.items)
    bounds = np.arange(topics + 1, dtype=np.int64) * settings.items // topics
    arrival = np.zeros(settings.items, np.int64)
    ranks = np.empty((2, settings.items))
    successors = np.empty((settings.items, 2), np.int64)
    for first, end in pairwise(bounds.tolist()):
        size = end - first
        # A random ring gives each item one predecessor of either sort: all successors are equally well known.
        for column in range(2):
            ring = first + rng.permutation(size)
            successors[ring, column] = np.roll(ring, -1)
        ranks[:, first:end] = 1 + rng.permutation(size)
        dealt = first + rng.permutation(size)[: round(settings.drift_share * size)]
        ranks[1, dealt] = rng.permutation(ranks[1, dealt])
        late = first + rng.permutation(size)[: min(round(settings.new_items * size), size - 1)]
        arrival[late] = rng.integers(1, settings.clicks + 1, len(late))
    tastes = rng.integers(0, topics, (2, settings.users, settings.tastes))
    weights = rng.dirichlet(np.ones(settings.tastes), (2, settings.users))
    faithful = rng.random(settings.users) >= settings.drift_share
    tastes[1, faithful], weights[1, faithful] = tastes[0, faithful], weights[0, faithful]
    activity = np.cumsum(rng.lognormal(0.0, settings.activity_spread, settings.users))
    return _World(bounds, arrival, successors, ranks, tastes, np.cumsum(weights, axis=2), activity / activity[-1])


class _Sessions:
    """Draws sessions, block by block; holds what a stream remembers: the clock and the users' last items."""

    def __init__(self, settings: SyntheticSettings, world: _World, rng: np.random.Generator) -> None:
        self.settings = settings
        self.world = world
        self.rng = rng
        self.clock_ms = settings.start_ms  # no session drawn from now on starts earlier
        self._elapsed_ms = 0.0  # the same on the clock without a daily rhythm
        self._drawn_clicks = 0
        self._drawn_sessions = 0
        self._free_ms = np.zeros(settings.users, np.int64)
        self._history = np.full((settings.users, _HISTORY), -1, np.int64)
        self._seen = np.zeros(settings.users, np.int64)

    def block(self) -> _Ints:
        """The clicks of the next block of sessions: (clicks, 5) time, session, user, item, purchase."""
        settings, world, rng = self.settings, self.world, self.rng
        B = _BLOCK
        lengths = np.minimum(rng.geometric(1 / settings.session_clicks, B), _LONGEST)
        number = self._drawn_clicks + np.cumsum(lengths) - lengths  # (B,) n at the start of each session
        user = np.searchsorted(world.activity, rng.random(B))
        side = (rng.random(B) < self._drift(number)).astype(np.int64)  # (B,) 0 in world A, 1 in world B
        taste = (rng.random((B, 1)) > world.weights[side, user, :-1]).sum(axis=1)
        topic = world.tastes[side, user, taste]
        items = self._items(number, lengths, user, side, topic)  # (B, T)
        times = self._times(user, lengths)  # (B, T)
        kept = np.arange(items.shape[1]) < lengths[:, None]
        rows = np.nonzero(kept)[0]
        self._remember(user[rows], items[kept])
        drawn = np.stack(
            [
                times[kept],
                self._drawn_sessions + rows,
                user[rows],
                items[kept],
                rng.random(len(rows)) < settings.purchases,
            ],
            axis=1,
        ).astype(np.int64)
        self._drawn_clicks += len(rows)
        self._drawn_sessions += B
        return drawn

    def _drift(self, number: _Ints) -> _Floats:
        """λ(n), the probability that a session is in world B."""
        settings = self.settings
        if settings.drift == "abrupt":
            return (number >= settings.drift_at * settings.clicks).astype(np.float64)
        if settings.drift == "gradual":
            return number / settings.clicks
        if settings.drift == "returning":
            return (number // settings.regime_clicks % 2).astype(np.float64)
        return np.zeros(len(number))

    def _items(self, number: _Ints, lengths: _Ints, user: _Ints, side: _Ints, topic: _Ints) -> _Ints:
        """The items of each session, column by column: (B, T)."""
        settings, world, rng = self.settings, self.world, self.rng
        B, T = len(user), int(lengths.max())
        n = int(number[0])
        age = np.maximum(n - world.arrival, 0)
        present = world.arrival <= n
        fresh = np.where(world.arrival > 0, settings.novelty * np.exp(-age / settings.novelty_clicks), 0.0)
        popularity = np.cumsum(world.ranks**-settings.zipf * (1 + fresh) * present, axis=1)  # (2, I)
        mass = np.concatenate([np.zeros((2, 1)), popularity], axis=1)
        low, high = mass[side, world.first[topic]], mass[side, world.first[topic + 1]]
        in_b = side == 1
        items = np.empty((B, T), np.int64)
        way, pick = rng.random((2, T, B))
        for t in range(T):
            at = np.minimum(low + (high - low) * pick[t], np.nextafter(high, 0))  # rounding stays in the topic
            column = np.where(
                in_b,
                np.searchsorted(popularity[1], at, side="right"),
                np.searchsorted(popularity[0], at, side="right"),
            )
            if t:
                follows = way[t] < settings.p_next
                second = (pick[t] >= _FIRST_SUCCESSOR).astype(np.int64)
                successor = world.successors[items[:, t - 1], second]
                column = np.where(follows & present[successor], successor, column)
                past = self._history[user, (pick[t] * _HISTORY).astype(np.int64)]
                repeats = ~follows & (way[t] < settings.p_next + settings.p_repeat) & (past >= 0)
                column = np.where(repeats, past, column)
            items[:, t] = column
        return items

    def _times(self, user: _Ints, lengths: _Ints) -> _Ints:
        """The times of each session's clicks, (B, T), and the clock moved on."""
        settings, rng = self.settings, self.rng
        B, T = len(user), int(lengths.max())
        mean_ms = settings.return_hours * _HOUR_MS / settings.users
        steady = self._elapsed_ms + np.cumsum(rng.exponential(mean_ms, B))
        self._elapsed_ms = float(steady[-1])
        wave = 2 * np.pi / _DAY_MS
        # A steady clock made to run by the rhythm: monotone, since the rhythm's amplitude is below 1.
        start = settings.start_ms + (steady + _RHYTHM / wave * np.sin(wave * steady)).astype(np.int64)
        self.clock_ms = int(start[-1])
        gaps = rng.lognormal(np.log(_GAP_MEDIAN_MS), _GAP_SPREAD, (B, T)).clip(1_000, _GAP_MAX_MS).astype(np.int64)
        gaps[:, 0] = 0
        after = np.cumsum(gaps, axis=1)
        for row, (who, length) in enumerate(zip(user.tolist(), lengths.tolist(), strict=True)):
            start[row] = max(start[row], self._free_ms[who])
            self._free_ms[who] = start[row] + after[row, length - 1] + _PAUSE_MS
        return start[:, None] + after

    def _remember(self, user: _Ints, item: _Ints) -> None:
        for who, what in zip(user.tolist(), item.tolist(), strict=True):
            self._history[who, self._seen[who] % _HISTORY] = what
            self._seen[who] += 1
