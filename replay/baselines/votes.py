"""Kernels of the counting baselines: votes of items for the items linked to them, as shares of their sum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled
from eddyline.model.counts import BACK, NEAR, SESSION, TRANSITION
from eddyline.model.links import Links

__all__ = ["HARMONIC", "add_co", "add_following", "add_own"]

HARMONIC = 0.0
"""As `fading`: w_k = 1 / (1 + k)."""


@compiled
def add_co(
    rows: npt.NDArray[np.int32],
    session_length: npt.NDArray[np.uint8],
    clicks: npt.NDArray[np.float32],
    forward: Links,
    backward: Links,
    co: np.float32,
    window: int,
    fading: float,
    rooted: bool,
    in_session: bool,
    back: np.float32,
    sharpness: np.float32,
    votes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
) -> None:
    """Add co · f(C). `votes` is 0 everywhere between users."""
    column = SESSION if in_session else NEAR
    for b in range(len(rows)):
        recent = min(window, rows.shape[1])
        if in_session:
            recent = min(recent, np.int64(session_length[b]))
        total = np.float32(0.0)
        for k in range(recent):
            x = rows[b, k]
            w = np.float32(fading**k if fading > 0 else 1.0 / (1 + k))
            if x >= 0 and rooted:
                w /= np.sqrt(max(clicks[x], np.float32(1.0)))
            total += _vote(forward, x, w, column, votes)
            if back > 0:
                total += _vote(backward, x, w * back, BACK, votes)
        for k in range(recent if total > 0 else 0):
            _collect(forward, rows[b, k], co, total, sharpness, votes, scores[b])
            if back > 0:
                _collect(backward, rows[b, k], co, total, sharpness, votes, scores[b])


@compiled
def add_following(
    rows: npt.NDArray[np.int32],
    forward: Links,
    following: np.float32,
    sharpness: np.float32,
    votes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
) -> None:
    """Add next · f(T)."""
    for b in range(len(rows)):
        total = _vote(forward, rows[b, 0], np.float32(1.0), TRANSITION, votes)
        _collect(forward, rows[b, 0], following, total, sharpness, votes, scores[b])


@compiled
def add_own(
    rows: npt.NDArray[np.int32],
    own: np.float32,
    fading: float,
    again: bool,
    sharpness: np.float32,
    votes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
) -> None:
    """Add own · f(H)."""
    for b in range(len(rows)):
        total = np.float32(0.0)
        w = np.float32(1.0)
        for a in range(rows.shape[1]):
            i = rows[b, a]
            if i >= 0 and (again or i != rows[b, 0]):
                votes[i] += w
                total += w
            w *= np.float32(fading)
        for a in range(rows.shape[1]):
            if rows[b, a] >= 0:
                _give(rows[b, a], own, total, sharpness, votes, scores[b])


@compiled
def _vote(links: Links, x: int, w: np.float32, column: int, votes: npt.NDArray[np.float32]) -> np.float32:
    """Add the links of an item (-1: none) to the votes, w times their weight; returns what was added."""
    total = np.float32(0.0)
    if x >= 0:
        for slot in range(links.start[x], links.start[x] + links.used[x]):
            vote = w * links.weight[slot, column]
            votes[links.target[slot]] += vote
            total += vote
    return total


@compiled
def _collect(
    links: Links,
    x: int,
    weight: np.float32,
    total: np.float32,
    sharpness: np.float32,
    votes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
) -> None:
    """Turn the votes at the ends of an item's links into scores."""
    if x >= 0:
        for slot in range(links.start[x], links.start[x] + links.used[x]):
            _give(links.target[slot], weight, total, sharpness, votes, scores)


@compiled
def _give(
    item: int,
    weight: np.float32,
    total: np.float32,
    sharpness: np.float32,
    votes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
) -> None:
    """Add weight · f(votes / total) to an item's score, once: its votes are gone then."""
    if votes[item] > 0:
        share = votes[item] / total
        if sharpness > 0:
            share = np.log(np.float32(1.0) + sharpness * share)
        scores[item] += weight * share
        votes[item] = 0.0
