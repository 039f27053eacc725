"""Dense evidence: what the counts say of every item, whoever asks.

    popular_j = log(1 + 1e5 · popular_j[i] / Σ popular_j)   for each half-life, arrivals among them
    clicks    = log(1 + clicks[i])
    age       = log(1 + clicks of the stream since the item's first) / 2
    mixed     = log(1 + 1e5 · Σ_j v_j · popular_j[i] / Σ popular_j)   with weights of the model (`model.mixture`)

Between two moments of a walk through the stream only the clicked items change by more than a common factor. So decayed
clicks are kept as of the walk's beginning, and a moment costs one vectorised pass over the catalogue.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from eddyline.model.compiled import compiled
from eddyline.model.elementary import log_1p
from eddyline.model.folding import HALF_LIVES, POPULAR, SEEN, Tally, decay

__all__ = ["DENSE", "SCORED", "SHARE_SCALE", "Pace", "note_click", "set_pace", "write_dense"]

DENSE = (
    *POPULAR,  # log(1 + 1e5 · share of the decayed clicks)
    "clicks",  # log(1 + undecayed clicks)
    "age",  # log(1 + age in clicks of the stream) / 2
)
"""What is logged of each item."""

SCORED = (*DENSE, "mixed")
"""What an item is scored by: `mixed` follows from the others."""

_CLICKS, _AGE = DENSE.index("clicks"), DENSE.index("age")
SHARE_SCALE = 1e5
"""What a share of the clicks is multiplied with before its logarithm is taken."""


class Pace(NamedTuple):
    """Where each of I items stands, in terms of the moment at which a walk began.

    Attributes:
        seen: clicks folded when it began, (1,).
        popular: decayed clicks as of then; later ones count for more than one, (len(HALF_LIVES), I).
        clicks: log(1 + undecayed clicks), (I,).
        age: clicks of the stream since the item's first, as of then; negative for one that came later, (I,).
    """

    seen: npt.NDArray[np.int64]
    popular: npt.NDArray[np.float32]
    clicks: npt.NDArray[np.float32]
    age: npt.NDArray[np.float32]


def set_pace(tally: Tally, known: int, room: int) -> Pace:
    """The pace of the `known` items, with room for more that come on the way."""
    popular, clicks, age = (np.zeros(shape, np.float32) for shape in ((len(HALF_LIVES), room), room, room))
    pace = Pace(tally.clock[SEEN : SEEN + 1].copy(), popular, clicks, age)
    _set_pace(tally, known, pace)
    return pace


@compiled
def _set_pace(tally: Tally, known: int, pace: Pace) -> None:
    for row in range(known):
        note_click(tally, row, pace)


@compiled
def note_click(tally: Tally, row: int, pace: Pace) -> None:
    """Take over where the item stands now."""
    items, seen = tally.items, pace.seen[0]
    for j in range(len(HALF_LIVES)):
        pace.popular[j, row] = items.popular[row, j] * decay(j, seen - items.counted_at[row])
    pace.clicks[row] = log_1p(items.clicks[row])
    pace.age[row] = seen - items.first_click[row]


@compiled
def write_dense(
    tally: Tally, known: int, pace: Pace, lives: npt.NDArray[np.float32], out: npt.NDArray[np.float32]
) -> None:
    """The dense evidence of the `known` items as it stands now, (len(SCORED), I); zeros beyond them.

    The last is `mixed`, with the weights `lives` of the half-lives, (len(HALF_LIVES),).
    """
    passed = tally.clock[SEEN] - pace.seen[0]
    mixed = out[-1]
    out[:, known:] = 0.0
    mixed[:] = 0.0
    for j in range(len(HALF_LIVES)):
        scale = np.float32(SHARE_SCALE * decay(j, passed) / max(tally.total[j], 1.0))
        popular, to, weight = pace.popular[j], out[j], lives[j]
        for i in range(known):
            share = popular[i] * scale
            to[i] = log_1p(share)
            mixed[i] += weight * share
    for i in range(known):
        mixed[i] = log_1p(mixed[i])
    out[_CLICKS, :known] = pace.clicks[:known]
    later, age, to = np.float32(passed), pace.age, out[_AGE]
    for i in range(known):
        to[i] = log_1p(age[i] + later) * np.float32(0.5)
