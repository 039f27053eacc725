"""A backtest's result for people: one HTML page that needs nothing else, and a table for the terminal.

The page is made from the files in templates/. The same result gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.table import Table
from rich.text import Text

from eddyline.replay.charts import Chart, Interval, Scale, Tick, day, line_chart, minute
from eddyline.replay.results import PRODUCT, UNKNOWN, Ratio, Result, Sort, flat, number

__all__ = ["report_html", "result_table"]

PIECES = {"ndcg": "NDCG", "recall": "recall", "mrr": "MRR"}
DIVISIONS = {
    "activity": "Clicks that the user had made before",
    "item age": "Age of the clicked item",
    "popularity": "Popularity of the clicked item: head is the most clicked tenth of the catalogue",
    "drift": "Clicks since the stream last changed",
}


def report_html(result: Mapping[str, Any]) -> str:
    """The whole page."""
    page = _Page(Result.model_validate(result))
    environment = Environment(
        loader=PackageLoader("eddyline.replay", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=number, share=_share, times=_times, change=_change, day=day, minute=minute, title=_title, value=_value
    )
    return environment.get_template("report.html").render(page=page, result=page.result, UNKNOWN=UNKNOWN)


def result_table(result: Mapping[str, Any]) -> Table:
    """The main figures of every model, the best first, for the terminal."""
    found = Result.model_validate(result)
    k = found.ks[0]
    published = any(figures.published for figures in found.models.values())
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", overflow="fold")
    for column in (
        *(f"{title}@{k}" for title in PIECES.values()),
        f"ratio to {PRODUCT}",
        "95 %",
        *([f"published {PIECES['ndcg']}@{k}"] if published else []),
        f"coverage@{k}",
        "clicks/s",
    ):
        table.add_column(column, justify="right")
    for name in found.ranked:
        figures = found.models[name]
        ratio = figures.beside(PRODUCT, found.ndcg)
        cells = (
            name,
            *(number(figures[f"{piece}@{k}"]) for piece in PIECES),
            "1" if name == PRODUCT else number(ratio.ratio, 3),
            "" if name == PRODUCT else _ends(ratio),
            *([number(figures.published[found.ndcg] if figures.published else None)] if published else []),
            number(figures[f"coverage@{k}"], 3),
            number(figures.events_per_s, 0),
        )
        table.add_row(*map(Text, cells), style="bold" if name == PRODUCT else None)
    return table


@dataclass(frozen=True)
class _Model:
    """What the page says of one model in several places.

    Attributes:
        name: as in the result.
        place: among all models, the best first; names its line.
        sort: what it is.
        hue: names its colour: eddyline and the best baseline have the first two.
        lit: whether its lines are coloured from the start.
    """

    name: str
    place: int
    sort: Sort
    hue: int
    lit: bool


@dataclass(frozen=True)
class _Groups:
    """One figure of several models in the groups of one division; rows are groups."""

    title: str
    rows: list[tuple[str, int, list[float | None], float | None]]  # group, clicks, figures, the best of them


class _Page:
    """A result, laid out: what the template shows is decided here, how is decided there."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.k = result.ks[0]
        self.pieces = PIECES
        self.rival = next(iter(result.rivals), None)
        order: Sequence[Sort] = ("product", "baseline", "ablation")
        coloured = sorted(result.ranked, key=lambda name: order.index(result.sort(name)))
        self.models = [
            _Model(name, place, result.sort(name), coloured.index(name), name in coloured[:2])
            for place, name in enumerate(result.ranked)
        ]
        self.product = result.models.get(PRODUCT)
        self.published = [model.name for model in self.models if result.models[model.name].published]
        self.settings = sorted(flat(result.settings))

    def beside(self, other: str | None, piece: str) -> Ratio:
        """Eddyline's figure by another model's."""
        return self.product.beside(other, f"{piece}@{self.k}") if self.product and other else Ratio()

    @staticmethod
    def change(one: float | None, other: float | None) -> str:
        """From the other to the one, in percent."""
        return UNKNOWN if one is None or not other else _percent(one / other - 1)

    @property
    def scale(self) -> Scale:
        """Of the ratios to eddyline in the main table."""
        return _scale([figures.beside(PRODUCT, self.result.ndcg) for figures in self.result.models.values()], 0.0)

    def interval(self, name: str, scale: Scale) -> Interval | None:
        """A model's ratio to eddyline on a scale."""
        return Interval.of(self.result.models[name].beside(PRODUCT, self.result.ndcg), scale)

    @property
    def ablations(self) -> list[str]:
        """The parts of eddyline left out, the most missed first."""
        return [model.name for model in reversed(self.models) if model.sort == "ablation"]

    @property
    def ablation_scale(self) -> Scale:
        """Of the ratios of the ablations."""
        ratios = [self.result.models[name].beside(PRODUCT, self.result.ndcg) for name in self.ablations]
        return _scale(ratios, None)

    def ratio_ticks(self, scale: Scale) -> list[Tick]:
        """Changes in percent along a scale of ratios."""
        around = Scale(scale.low - 1, scale.high - 1)
        return around.ticks(lambda change: _percent(change, 1 if around.high - around.low < 0.05 else 0))

    @property
    def over_time(self) -> list[Chart]:
        """Each kind of figure window by window."""
        charts = [self._windows(piece) for piece in PIECES]
        return [chart for chart in charts if chart]

    def _windows(self, piece: str) -> Chart | None:
        series, labels = [], list[str]()
        for model in self.models:
            windows = self.result.models[model.name].windows or []
            middles = [(window.begin.timestamp() + window.until.timestamp()) / 2 for window in windows]
            values = [window[f"{piece}@{self.k}"] if window.clicks else None for window in windows]
            labels = labels or [f"{minute(window.begin)} – {minute(window.until)}" for window in windows]
            series.append((model.place, middles, values))
        drifts = [(drift.at.timestamp(), drift.what) for drift in self.result.data.drift if drift.at]
        return line_chart(f"{PIECES[piece]}@{self.k}", _filled(series), labels, drifts, times=True)

    @property
    def retention(self) -> Chart | None:
        """Recall of old clicks as the stream goes on."""
        series, labels = [], list[str]()
        for model in self.models:
            asked = self.result.models[model.name].retention_windows or []
            names = [next((name for name in one.model_extra or {} if name.startswith("recall@")), "") for one in asked]
            labels = labels or [f"after {one.click:,} clicks" for one in asked]
            clicks = [float(one.click) for one in asked]
            series.append((model.place, clicks, [one[name] for one, name in zip(asked, names, strict=True)]))
        drifts = [(drift.click, drift.what) for drift in self.result.data.drift if drift.click is not None]
        return line_chart("Recall of old clicks", _filled(series), labels, drifts, times=False)

    @property
    def grouped(self) -> list[_Model]:
        """Models in the tables of groups: eddyline and the baselines."""
        return sorted((model for model in self.models if model.sort != "ablation"), key=lambda m: m.name != PRODUCT)

    def groups(self, piece: str) -> list[_Groups]:
        """A table for each division of the clicks."""
        divided = [self.result.models[model.name].by or {} for model in self.grouped]
        names = dict.fromkeys(name for by in divided for name in by)
        return [self._division(name, [by.get(name, {}) for by in divided], f"{piece}@{self.k}") for name in names]

    def _division(self, name: str, by: Sequence[Mapping[str, Any]], metric: str) -> _Groups:
        rows = []
        for group in dict.fromkeys(group for groups in by for group in groups):
            found = [groups.get(group) for groups in by]
            values = [one[metric] if one and one.clicks else None for one in found]
            known = [value for value in values if value is not None]
            rows.append((group, max(one.clicks for one in found if one), values, max(known) if known else None))
        return _Groups(DIVISIONS.get(name, name), rows)

    @property
    def sources(self) -> tuple[list[str], list[tuple[str, dict[str, float | None]]]]:
        """Names of the sources, and of each model that tells the share of each."""
        rows = [(m.name, sources) for m in self.models if (sources := self.result.models[m.name].sources)]
        return list(dict.fromkeys(name for _, shares in rows for name in shares)), rows

    @property
    def chosen(self) -> list[tuple[str, dict[str, Any]]]:
        """Tuned parameters of the models that have any."""
        return [(m.name, chosen) for m in self.models if (chosen := self.result.models[m.name].chosen)]


def _filled(series: Sequence[tuple[int, list[float], list[float | None]]]) -> list[Any]:
    return [one for one in series if any(value is not None for value in one[2])]


def _scale(ratios: Sequence[Ratio], low: float | None) -> Scale:
    ends = [end for ratio in ratios for end in (ratio.ratio, ratio.low, ratio.high) if end is not None] + [1.0]
    margin = 0.04 * ((max(ends) - (min(ends) if low is None else low)) or 1.0)
    return Scale(min(ends) - margin if low is None else low, max(ends) + margin)


def _ends(ratio: Ratio, digits: int = 3) -> str:
    return f"{number(ratio.low, digits)} to {number(ratio.high, digits)}" if ratio.ratio is not None else UNKNOWN


def _share(value: float | None, digits: int = 1) -> str:
    return UNKNOWN if value is None else f"{100 * value:.{digits}f}\u00a0%"


def _times(ratio: Ratio, digits: int = 2) -> str:
    """Such as 1.31 (1.28 to 1.34)."""
    return f"{number(ratio.ratio, digits)} ({_ends(ratio, digits)})" if ratio.ratio is not None else UNKNOWN


def _percent(change: float, digits: int = 1) -> str:
    """Such as −4.1 %."""
    return f"{_signed(change, digits)}\u00a0%"


def _signed(change: float, digits: int = 1) -> str:
    text = f"{100 * change:+.{digits}f}".replace("-", "−")
    return text.lstrip("+−") if not text.strip("+−0.") else text


def _change(ratio: Ratio) -> str:
    """Such as −4.1 % (−4.6 to −3.5)."""
    if ratio.ratio is None:
        return UNKNOWN
    low, high = (UNKNOWN if end is None else _signed(end - 1) for end in (ratio.low, ratio.high))
    return f"{_percent(ratio.ratio - 1)} ({low} to {high})"


def _title(metric: str) -> str:
    piece, _, k = metric.partition("@")
    return f"{PIECES.get(piece, piece)}@{k}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
