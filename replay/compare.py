"""Two results of backtests beside each other: what came out differently, and what was different to begin with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from eddyline.replay.results import UNKNOWN, Figures, Result, flat, number, read_result

__all__ = ["compare_json", "compare_table", "read_result"]

_SHOWN = ("ndcg", "recall", "mrr")


def compare_json(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """What differs between two results, as a JSON-able dictionary.

    Returns:
        `comparable`: whether both answered the same questions about the same clicks; `warnings`: what keeps them from
        it; `data`, `settings`, `versions`: what differs, by dotted name, on each side that has it; `models`: of each
        model in both, each figure in `a` and `b`, the `difference` b − a and the `ratio` b ÷ a, null where a figure is
        unknown; `only_in_a`, `only_in_b`: models of one side.
    """
    one, other = Result.model_validate(a), Result.model_validate(b)
    warnings = list(_warnings(one, other))
    return {
        "comparable": not warnings,
        "warnings": warnings,
        **{part: _differences(a[part], b[part]) for part in ("data", "settings", "versions")},
        "models": {
            name: _beside(_figures(one.models[name]), _figures(other.models[name]))
            for name in one.ranked
            if name in other.models
        },
        "only_in_a": [name for name in one.ranked if name not in other.models],
        "only_in_b": [name for name in other.ranked if name not in one.models],
    }


def compare_table(a: Mapping[str, Any], b: Mapping[str, Any]) -> Group:
    """The same for the terminal: warnings, the main figures of each model, and what else differs."""
    found = compare_json(a, b)
    common = [k for k in Result.model_validate(a).ks if k in Result.model_validate(b).ks]
    parts: list[Text | Table] = [Text(f"warning: {text}", style="bold yellow") for text in found["warnings"]]
    if common:
        shown = [f"{prefix}{piece}@{common[0]}" for prefix in ("", "published ") for piece in _SHOWN]
        parts.append(_table(("model", "figure", "A", "B", "B − A", "B ÷ A"), _rows(found["models"], shown), left=2))
    parts += [
        Text(f"only in {side}: {', '.join(names)}")
        for side, names in (("A", found["only_in_a"]), ("B", found["only_in_b"]))
        if names
    ]
    differing = [
        (f"{part}.{name}", _text(sides, "a"), _text(sides, "b"))
        for part in ("data", "settings", "versions")
        for name, sides in found[part].items()
    ]
    equal = Text("data, settings and versions are equal")
    return Group(*parts, _table(("differs", "A", "B"), differing, left=3) if differing else equal)


def _warnings(a: Result, b: Result) -> Iterator[str]:
    if a.data.fingerprint != b.data.fingerprint:
        yield (
            f"A and B replay different clicks (fingerprints {a.data.fingerprint[:12]} and {b.data.fingerprint[:12]}): "
            "their figures cannot be compared"
        )
    scored = [(one.data.scored_clicks, one.data.warm_up_clicks) for one in (a, b)]
    if scored[0] != scored[1]:
        sides = (f"{name} {count:,} after {warm_up:,}" for name, (count, warm_up) in zip("AB", scored, strict=True))
        yield f"A and B score different clicks ({', '.join(sides)} of warm-up): their figures cannot be compared"
    if not set(a.ks) & set(b.ks):
        yield f"A and B have no length of list in common: A has k = {a.ks}, B has k = {b.ks}"


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    sides = {"a": dict(flat(a)), "b": dict(flat(b))}
    names = sorted({*sides["a"], *sides["b"]})
    held = {name: {side: values[name] for side, values in sides.items() if name in values} for name in names}
    return {name: by for name, by in held.items() if len(by) < 2 or by["a"] != by["b"]}


def _figures(figures: Figures) -> dict[str, float | None]:
    named = {name: figures[name] for name in figures.model_extra or {} if "@" in name}
    named |= {name: getattr(figures, name) for name in ("log_loss", "retention", "events_per_s", "warm_up_s")}
    held = figures.published
    return named | {f"published {name}": held[name] for name in (held.model_extra or {} if held else {}) if held}


def _beside(a: Mapping[str, float | None], b: Mapping[str, float | None]) -> dict[str, dict[str, float | None]]:
    found = dict[str, dict[str, float | None]]()
    for name in dict.fromkeys((*a, *b)):
        one, other = a.get(name), b.get(name)
        found[name] = {"a": one, "b": other, "difference": None, "ratio": None}
        if one is not None and other is not None:
            found[name] |= {"difference": other - one, "ratio": other / one if one else None}
    return found


def _rows(models: Mapping[str, Any], shown: list[str]) -> Iterator[tuple[str, ...]]:
    for model, figures in models.items():
        name = model
        for figure in shown:
            sides = figures.get(figure, {})
            if sides.get("a") is None and sides.get("b") is None:
                continue
            difference = UNKNOWN if sides["difference"] is None else f"{sides['difference']:+.4f}"
            yield name, figure, number(sides["a"]), number(sides["b"]), difference, number(sides["ratio"], 3)
            name = ""


def _table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, str, str]], left: int) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _text(sides: Mapping[str, Any], side: str) -> str:
    return json.dumps(sides[side], ensure_ascii=False) if side in sides else UNKNOWN
