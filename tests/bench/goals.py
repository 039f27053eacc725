"""What eddyline is to reach on each log, and whether it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["METRIC", "Cold", "Goal", "Log", "best_rival", "cold_start", "goals", "ratio_text"]

METRIC = "ndcg@20"
COLD = (("activity", "0", "users who never clicked"), ("item age", "< 1 day", "items less than a day old"))


@dataclass(frozen=True)
class Log:
    """A backtest with a column of its own, and what eddyline is to reach there.

    Attributes:
        name: of the column.
        file: of the log, without `.csv.gz`; empty: a made-up stream.
        rank: `all`, or `new` where known items are no candidates.
        without: parts to leave out, each in a model of its own.
        minutes: about how long it takes.
        lead: least ratio of NDCG@20 to the best baseline; None: no goal.
        neural: least ratio to eddyline without its neural part; None: no goal.
        significant: whether the interval of that ratio must exclude 1.
        rows: the log ends after so many; None: the whole log.
        baselines: whether they are run too.
    """

    name: str
    file: str
    rank: str
    without: tuple[str, ...]
    minutes: float
    lead: float | None = None
    neural: float | None = None
    significant: bool = False
    rows: int | None = None
    baselines: bool = True


@dataclass(frozen=True)
class Goal:
    """A goal on a log, and whether it holds."""

    log: str
    what: str
    want: str
    got: str
    holds: bool


def best_rival(models: Mapping[str, Any]) -> str | None:
    """The baseline of the highest NDCG@20."""
    rivals = _rivals(models)
    return max(rivals, key=lambda name: float(rivals[name][METRIC]), default=None)


def _rivals(models: Mapping[str, Any]) -> dict[str, Any]:
    return {name: figures for name, figures in models.items() if not name.startswith("eddyline")}


def goals(log: Log, models: Mapping[str, Any]) -> Iterator[Goal]:
    """Which goals hold, from the `models` of a result."""
    ours = models["eddyline"]
    rival = best_rival(models)
    if rival is not None and log.lead is not None:
        ratio = ours[METRIC] / models[rival][METRIC]
        yield Goal(log.name, f"NDCG@20 against {rival}", f"≥ {log.lead:.2f} ×", f"{ratio:.3f} ×", ratio >= log.lead)
    if "eddyline-without-neural" in models and log.neural is not None:
        against = ours["against"]["eddyline-without-neural"][METRIC]
        holds = (against["ratio"] or 0) >= log.neural and (not log.significant or (against["low"] or 0) > 1)
        want = f"≥ {log.neural} ×" + (", interval above 1" if log.significant else "")
        got = ratio_text(against, 4, " ×")
        yield Goal(log.name, "the neural part earns its place", want, got, holds)
    if (without := models.get("eddyline-without-replay")) and without["retention"]:
        ratio = ours["retention"] / without["retention"]
        newest = ours[METRIC] / without[METRIC]
        got = f"{ratio:.2f} × ({ours['retention']:.3f} / {without['retention']:.3f}), newest {newest:.4f} ×"
        want = "≥ 1.5 ×, newest ≥ 0.998 ×"
        yield Goal(log.name, "retention with replay", want, got, ratio >= 1.5 and newest >= 0.998)
    if without := models.get("eddyline-without-online"):
        ratio = ours[METRIC] / without[METRIC]
        yield Goal(log.name, "learning online against frozen", "> 1 ×", f"{ratio:.4f} ×", ratio > 1)
    for one in cold_start(models):
        got = f"{one.ours:.4f} / {one.theirs:.4f} ({one.best}), {one.interval}"
        yield Goal(log.name, one.what, "as good as the best baseline", got, one.ours >= one.theirs)


def ratio_text(ratio: Mapping[str, float | None], digits: int, unit: str = "") -> str:
    """A ratio with its interval; – is what is not known."""
    middle, low, high = (
        "–" if (value := ratio[name]) is None else f"{value:.{digits}f}" for name in ("ratio", "low", "high")
    )
    return f"{middle}{unit} ({low}–{high})"


class Cold(NamedTuple):
    """Eddyline beside the best baseline where little is known.

    Attributes:
        what: of which users, or on which items.
        clicks: how many.
        ours, theirs: NDCG@20.
        best: the baseline.
        interval: the ratio of the two, with its 95 % interval.
    """

    what: str
    clicks: int
    ours: float
    theirs: float
    best: str
    interval: str


def cold_start(models: Mapping[str, Any]) -> Iterator[Cold]:
    """Each group that little is known about."""
    rivals = _rivals(models)
    for division, group, what in COLD:
        mine = models["eddyline"]["by"][division][group]
        if rivals and mine["clicks"]:
            theirs = {name: float(figures["by"][division][group][METRIC]) for name, figures in rivals.items()}
            best = max(theirs, key=theirs.__getitem__)
            interval = ratio_text(models["eddyline"]["against_by"][division][group][best], 3, " ×")
            yield Cold(what, mine["clicks"], mine[METRIC], theirs[best], best, interval)
