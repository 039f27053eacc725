"""Where things lie in a chart: lines, ticks, intervals. Drawing them is the page's business.

Everything is in percent of the plot, so a chart takes the width it is given and its text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from eddyline.replay.results import UNKNOWN, Ratio

__all__ = ["Chart", "Interval", "Line", "Scale", "Tick", "day", "line_chart", "minute", "shortened"]

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_HOUR, _DAY = 3_600, 86_400
_MOST_TICKS = 5
_TIME_STEPS_S = (
    60, 300, 900, 1_800, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR,
    _DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 28 * _DAY, 91 * _DAY, 182 * _DAY, 365 * _DAY,
)  # fmt: skip


@dataclass(frozen=True)
class Tick:
    """A marked place of an axis, and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Scale:
    """From values to percent of the plot's width or height."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        return round(100 * (value - self.low) / ((self.high - self.low) or 1.0), 3)

    def ticks(self, label: Callable[[float], str]) -> list[Tick]:
        """Round numbers between the ends."""
        step = _round_step((self.high - self.low) / _MOST_TICKS)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [Tick(self(n * step), label(n * step)) for n in range(first, last + 1)]

    def times(self) -> list[Tick]:
        """Round times between the ends, which are seconds since 1970, UTC."""
        span = self.high - self.low
        step = next((s for s in _TIME_STEPS_S if span / s <= _MOST_TICKS), 365 * _DAY * math.ceil(span / _DAY / 1825))
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [Tick(self(n * step), _time_label(n * step, step)) for n in range(first, last + 1)]


@dataclass(frozen=True)
class Line:
    """One model's line.

    Attributes:
        model: its place in the list of models.
        path: of an SVG path in a box of 1000 by 1000; it breaks where a value is unknown.
        values: as text, for whoever points at it.
    """

    model: int
    path: str
    values: list[str]


@dataclass(frozen=True)
class Chart:
    """Lines over a common axis.

    Attributes:
        title: what is measured.
        lines: of the models, the worst first, so that better ones lie on top.
        places, labels: where along the axis values are, and what the axis says there.
        x, y: the marks of the axes; percent from the left and from the top.
        drifts: where the stream changes, percent from the left.
    """

    title: str
    lines: list[Line]
    places: list[float]
    labels: list[str]
    x: list[Tick]
    y: list[Tick]
    drifts: list[Tick]


def line_chart(
    title: str,
    series: Sequence[tuple[int, Sequence[float], Sequence[float | None]]],
    labels: Sequence[str],
    drifts: Sequence[tuple[float, str]],
    *,
    times: bool,
) -> Chart | None:
    """Lay out lines; None where there is nothing to draw.

    Args:
        title: what is measured.
        series: of each model its place in the list of models, positions and values.
        labels: what the axis says at the positions of the first model.
        drifts: positions at which the stream changes, and how.
        times: positions are seconds since 1970; otherwise clicks.
    """
    known = [value for _, _, values in series for value in values if value is not None]
    positions = [x for _, xs, _ in series for x in xs]
    if not known:
        return None
    across = Scale(min(positions), max(positions))
    step = _round_step(max(known) / _MOST_TICKS)
    up = Scale(0.0, step * max(1, math.ceil(max(known) / step)))
    digits = len(f"{step:.10f}".rstrip("0").partition(".")[2])
    return Chart(
        title,
        [_line(model, [across(x) for x in xs], [None if y is None else 100 - up(y) for y in ys], ys)
         for model, xs, ys in reversed(series)],
        [across(x) for x in series[0][1]],
        list(labels),
        across.times() if times else across.ticks(shortened),
        [Tick(round(100 - tick.at, 3), tick.label) for tick in up.ticks(lambda value: f"{value:.{digits}f}")],
        [Tick(across(x), what) for x, what in drifts if across.low <= x <= across.high],
    )  # fmt: skip


def _line(model: int, xs: Sequence[float], ys: Sequence[float | None], values: Sequence[float | None]) -> Line:
    path, down = [], False
    for x, y in zip(xs, ys, strict=True):
        if y is not None:
            path.append(f"{'L' if down else 'M'}{10 * x:.0f} {10 * y:.0f}")
        down = y is not None
    return Line(model, "".join(path), [UNKNOWN if value is None else f"{value:.4f}" for value in values])


@dataclass(frozen=True)
class Interval:
    """A ratio with its interval on an axis that has 1 on it, percent from the left."""

    low: float
    at: float
    high: float
    clear: bool

    @staticmethod
    def of(ratio: Ratio, scale: Scale) -> Interval | None:
        """Where a ratio lies; None where it is unknown."""
        if ratio.ratio is None:
            return None
        low, high = (ratio.ratio if end is None else end for end in (ratio.low, ratio.high))
        return Interval(scale(low), scale(ratio.ratio), scale(high), ratio.clear)


def day(at: datetime) -> str:
    """Such as 5 Jan 2024."""
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}"


def minute(at: datetime) -> str:
    """Such as 5 Jan 2024 13:05."""
    return f"{day(at)} {at:%H:%M}"


def shortened(count: float) -> str:
    """Such as 12k."""
    if count >= 1e6:
        return f"{count / 1e6:g}M"
    return f"{count / 1e3:g}k" if count >= 1e3 else f"{count:g}"


def _round_step(least: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= least * (1 - 1e-9))


def _time_label(at_s: float, step_s: float) -> str:
    at = datetime.fromtimestamp(at_s, UTC)
    if step_s >= 182 * _DAY:
        return f"{_MONTHS[at.month - 1]} {at.year}"
    of_day = f"{at.day} {_MONTHS[at.month - 1]}"
    return of_day if step_s >= _DAY or (at.hour, at.minute) == (0, 0) else f"{at:%H:%M}"
