"""Two results beside each other."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from eddyline.replay.compare import compare_json, compare_table

Make = Callable[..., dict[str, Any]]


def shown(a: dict[str, Any], b: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(compare_table(a, b))
    return out.getvalue()


def test_equal_results_differ_in_nothing(make_result: Make) -> None:
    found = compare_json(make_result(), make_result())
    assert found["comparable"]
    assert not any(found[part] for part in ("warnings", "data", "settings", "versions", "only_in_a", "only_in_b"))
    assert {row["difference"] for row in found["models"]["eddyline"].values()} <= {0.0, None}
    assert "data, settings and versions are equal" in shown(make_result(), make_result())


def test_figures_of_both_are_subtracted_and_divided(make_result: Make) -> None:
    found = compare_json(make_result({"eddyline": 0.4, "x": 0.1}), make_result({"eddyline": 0.5, "y": 0.1}))
    assert found["models"].keys() == {"eddyline"}
    assert found["models"]["eddyline"]["ndcg@20"] == {
        "a": 0.4,
        "b": 0.5,
        "difference": pytest.approx(0.1),
        "ratio": pytest.approx(1.25),
    }
    assert found["models"]["eddyline"]["published ndcg@20"]["ratio"] == pytest.approx(1.25)
    assert (found["only_in_a"], found["only_in_b"]) == (["x"], ["y"])
    json.dumps(found, allow_nan=False)


def test_an_unknown_figure_has_no_difference(make_result: Make) -> None:
    a, b = make_result(), make_result()
    a["models"]["eddyline"]["recall@20"] = None
    a["models"]["eddyline"]["mrr@20"] = 0.0
    rows = compare_json(a, b)["models"]["eddyline"]
    assert rows["recall@20"]["difference"] is rows["recall@20"]["ratio"] is rows["mrr@20"]["ratio"] is None
    assert "–" in shown(a, b)


def test_other_clicks_are_warned_of(make_result: Make) -> None:
    a, b = make_result(), make_result()
    b["data"]["fingerprint"] = "0123456789abcdef"
    found = compare_json(a, b)
    assert not found["comparable"]
    assert "9f86d081884c and 0123456789ab" in found["warnings"][0]
    assert found["data"] == {"fingerprint": {"a": a["data"]["fingerprint"], "b": "0123456789abcdef"}}
    assert shown(a, b).startswith("warning: A and B replay different clicks")


def test_other_scored_clicks_are_warned_of(make_result: Make) -> None:
    a, b = make_result(), make_result()
    b["data"] |= {"scored_clicks": 4_000, "warm_up_clicks": 16_000}
    (warning,) = compare_json(a, b)["warnings"]
    assert "A 10,000 after 10,000, B 4,000 after 16,000 of warm-up" in warning


def test_no_common_length_of_list_is_warned_of(make_result: Make) -> None:
    a, b = make_result(ks=(10, 20)), make_result(ks=(5,))
    (warning,) = compare_json(a, b)["warnings"]
    assert "k = [20, 10]" in warning
    assert "B ÷ A" not in shown(a, b)


def test_settings_that_differ_are_told_by_name(make_result: Make) -> None:
    a, b = make_result(), make_result()
    b["settings"]["engine"]["gap_minutes"] = 30
    del b["settings"]["backtest"]["seed"]
    b["versions"]["torch"] = "2.9.0"
    found = compare_json(a, b)
    assert found["comparable"]
    assert found["settings"] == {"backtest.seed": {"a": 0}, "engine.gap_minutes": {"a": None, "b": 30}}
    assert found["versions"] == {"torch": {"a": "2.8.0", "b": "2.9.0"}}
    lines = [line.split() for line in shown(a, b).splitlines()]
    assert ["settings.backtest.seed", "0", "–"] in lines
    assert ["settings.engine.gap_minutes", "null", "30"] in lines


def test_hostile_names_are_shown_as_they_are(make_result: Make) -> None:
    name = "[link=x]gru[/]"
    assert name in shown(make_result({name: 0.2}), make_result({name: 0.3}))
