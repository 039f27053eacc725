"""What eddyline is compared with in a backtest: honest, well tuned models behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from eddyline.replay.baselines import counting
from eddyline.replay.baselines.factorisation import BprMf
from eddyline.replay.baselines.sessions import SessionKnn
from eddyline.replay.contender import Contender, Question

__all__ = ["BASELINES", "NEEDS_SEEN", "makers"]


def _gru4rec(question: Question, seed: int) -> Contender:
    from eddyline.replay.baselines.sequence import Gru4Rec  # noqa: PLC0415 - compiles and loads much

    return Gru4Rec("gru4rec", question, seed)


def _gru4rec_retrained(question: Question, seed: int) -> Contender:
    from eddyline.replay.baselines.sequence import Gru4Rec  # noqa: PLC0415

    return Gru4Rec("gru4rec-retrained", question, seed, retrained=10)


BASELINES: Mapping[str, Callable[[Question, int], Contender]] = MappingProxyType(
    {
        "popularity": lambda question, seed: counting.popularity(question),
        "decayed-popularity": lambda question, seed: counting.decayed_popularity(question),
        "last-item": lambda question, seed: counting.last_item(question),
        "co-visitation": lambda question, seed: counting.co_visitation(question),
        "own-history": lambda question, seed: counting.own_history(question),
        "blend": counting.blend,
        "session-knn": SessionKnn,
        "bpr-mf": BprMf,
        "gru4rec": _gru4rec,
        "gru4rec-retrained": _gru4rec_retrained,
    }
)
"""What makes each baseline from a question and a seed, by its name, in the order of a report."""

NEEDS_SEEN = frozenset({"own-history"})
"""Baselines that have nothing to say where the user's own items are no candidates."""


def makers(question: Question) -> dict[str, Callable[[Question, int], Contender]]:
    """What makes each baseline that makes sense for a question, by its name, in the order of a report."""
    left_out = NEEDS_SEEN if question.exclude_seen else frozenset()
    return {name: make for name, make in BASELINES.items() if name not in left_out}
