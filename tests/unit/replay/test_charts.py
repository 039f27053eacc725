"""Where things lie in a chart."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eddyline.replay.charts import Interval, Scale, Tick, line_chart, minute, shortened
from eddyline.replay.results import Ratio


def at(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[arg-type]


def test_a_scale_is_in_percent() -> None:
    scale = Scale(10, 20)
    assert [scale(10), scale(12.5), scale(20)] == [0, 25, 100]
    assert Scale(3, 3)(3) == 0


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 0.5, ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]),
        (10_500, 20_000, ["12k", "14k", "16k", "18k", "20k"]),
        (-0.23, 0.02, ["-0.2", "-0.15", "-0.1", "-0.05", "0"]),
        (7, 7, ["7"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, labels: list[str]) -> None:
    assert [tick.label for tick in Scale(low, high).ticks(lambda x: shortened(round(x, 9)))] == labels


@pytest.mark.parametrize(
    ("begin", "end", "labels"),
    [
        (at(2024, 1, 6, 3), at(2024, 1, 10, 22), ["7 Jan", "8 Jan", "9 Jan", "10 Jan"]),
        (at(2024, 1, 6, 22), at(2024, 1, 7, 3), ["22:00", "23:00", "7 Jan", "01:00", "02:00", "03:00"]),
        (at(2000, 1, 1), at(2024, 1, 1), ["Dec 2004", "Dec 2009", "Dec 2014", "Dec 2019"]),
        (at(2024, 1, 6, 3), at(2024, 1, 6, 3), ["03:00"]),
    ],
)
def test_times_are_round_too(begin: float, end: float, labels: list[str]) -> None:
    assert [tick.label for tick in Scale(begin, end).times()] == labels


def test_a_line_breaks_where_a_value_is_unknown() -> None:
    chart = line_chart("recall", [(4, [0, 1, 2, 3], [0.1, None, 0.2, 0.4])], ["a", "b", "c", "d"], [], times=False)
    assert chart is not None
    (line,) = chart.lines
    assert line.path == "M0 750M667 500L1000 0"
    assert line.values == ["0.1000", "–", "0.2000", "0.4000"]
    assert line.model == 4
    assert chart.places == [0, 33.333, 66.667, 100]
    assert chart.y[0] == Tick(100, "0.0")
    assert chart.y[-1] == Tick(0, "0.4")


def test_drift_outside_of_the_chart_is_left_out() -> None:
    chart = line_chart("recall", [(0, [10, 20], [0.0, 0.0])], ["", ""], [(5, "early"), (15, "here")], times=False)
    assert chart is not None
    assert chart.drifts == [Tick(50, "here")]


def test_nothing_known_is_no_chart() -> None:
    assert line_chart("recall", [], [], [], times=True) is None
    assert line_chart("recall", [(0, [1], [None])], [""], [], times=True) is None


def test_an_interval_is_clear_where_it_leaves_one_out() -> None:
    scale = Scale(0, 2)
    assert Interval.of(Ratio(ratio=0.5, low=0.4, high=0.6), scale) == Interval(20, 25, 30, clear=True)
    assert Interval.of(Ratio(ratio=1.1, low=0.9, high=1.2), scale) == Interval(45, 55, 60, clear=False)
    assert Interval.of(Ratio(ratio=1.5), scale) == Interval(75, 75, 75, clear=False)
    assert Interval.of(Ratio(), scale) is None


def test_times_read_well() -> None:
    assert minute(datetime(2024, 1, 5, 13, 5, tzinfo=UTC)) == "5 Jan 2024 13:05"
