"""The report: everything is on the page, nothing of the data becomes markup, the same result gives the same bytes."""

from __future__ import annotations

import copy
import io
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from eddyline.replay.report import report_html, result_table

Make = Callable[..., dict[str, Any]]

HOSTILE = '<script>alert("1")</script>&\'"[red]{{ 7*7 }}|</style>'
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements in order, text by element, and a complaint about everything unbalanced."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", " ".join(data.split())))

    def of(self, tag: str) -> list[str]:
        return [text for within, text in self.texts if within == tag]

    @property
    def text(self) -> str:
        return " ".join(text for within, text in self.texts if within not in {"script", "style"})


def test_every_model_is_on_the_page(make_result: Make) -> None:
    result = make_result()
    page = Page(report_html(result))
    assert page.of("th").count("eddyline") >= 3
    for name in result["models"]:
        assert name in page.of("th")
        assert name in page.of("button")
        assert sum(attrs.get("data-name") == name for tag, attrs in page.elements if tag == "path") >= 3


def test_the_page_has_all_its_parts(make_result: Make) -> None:
    page = Page(report_html(make_result()))
    assert page.of("h2") == [
        "All models",
        "Published lists",
        "Over time",
        "For whom, and for what",
        "What each part contributes",
        "What the lists are made of",
        "Breadth and popularity",
        "What is remembered",
        "To repeat it",
    ]
    for text in (
        "eddyline replay clicks.csv.gz --ablations all --seed 0 --html report.html",
        "9f86d081884c7d659a2feaa0c55ad015",
        "engine.ranking.length",
        "half_life=20000",
        "eddyline 0.1.0, torch 2.8.0, numpy 2.3.0",
        "tastes and popularity change abruptly",
        "−5.1 %",
    ):
        assert text in page.text


def test_it_needs_nothing_else(make_result: Make) -> None:
    html = report_html(make_result())
    assert "http:" not in html
    assert "https:" not in html
    assert not re.search(r"@import|url\(|\bsrc=|\bhref=", html)


def test_the_same_result_gives_the_same_bytes(make_result: Make) -> None:
    result = make_result()
    before = copy.deepcopy(result)
    assert report_html(result) == report_html(make_result())
    assert result == before


def hostile(value: Any) -> Any:
    """Every text that no format is set for is hostile, keys included."""
    if isinstance(value, dict):
        return {key + HOSTILE: hostile(part) for key, part in value.items()}
    return HOSTILE if isinstance(value, str) else value


def test_nothing_of_the_data_becomes_markup(make_result: Make) -> None:
    names = {"eddyline": 0.4, "eddyline-without-" + HOSTILE: 0.3, HOSTILE: 0.2}
    result = make_result(names)
    result["data"] |= {"name": HOSTILE, "fingerprint": HOSTILE, "kinds": {HOSTILE: 3}}
    result["data"]["drift"][0]["what"] = HOSTILE
    for part in ("settings", "versions"):
        result[part] = hostile(result[part])
    result["command"] = HOSTILE
    for figures in result["models"].values():
        figures["chosen"] = {HOSTILE: HOSTILE}
        figures["sources"] = {HOSTILE: 1.0}
        figures["by"] = {name + HOSTILE: hostile_groups for name, hostile_groups in figures["by"].items()}
        figures["by"]["activity"] = {HOSTILE: {"clicks": 3, "ndcg@20": 0.1, "recall@20": 0.1}}
    page = Page(report_html(result))
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert [tag for tag, _ in page.elements].count("style") == 1
    assert {name for _, attrs in page.elements for name in attrs if name.startswith("on")} == set()
    assert "alert" not in "".join(page.of("script") + page.of("style"))
    assert HOSTILE in page.of("th")
    assert HOSTILE in page.of("button")
    assert "49" not in page.of("pre")


@pytest.mark.parametrize(
    ("low", "ratio", "high", "headline"),
    [
        (1.2, 1.234, 1.3, "eddyline ranks 23 % better than gru4rec, the best baseline"),
        (1.02, 1.034, 1.05, "eddyline ranks 3.4 % better than gru4rec, the best baseline"),
        (2.2, 2.4, 2.6, "eddyline ranks 2.4 times as well as gru4rec, the best baseline"),
        (0.7, 0.8, 0.9, "eddyline ranks 20 % worse than gru4rec, the best baseline"),
        (0.9, 1.05, 1.2, "eddyline and gru4rec, the best baseline, are level"),
    ],
)
def test_the_headline_says_what_the_interval_allows(
    make_result: Make, low: float, ratio: float, high: float, headline: str
) -> None:
    result = make_result({"eddyline": 0.4, "gru4rec": 0.3, "popularity": 0.1, "eddyline-without-lstm": 0.39})
    result["models"]["eddyline"]["against"]["gru4rec"]["ndcg@20"] = {"low": low, "ratio": ratio, "high": high}
    page = Page(report_html(result))
    assert page.of("h1") == [headline]
    assert f"{ratio:.3f} times ({low:.3f} to {high:.3f})" in page.text


def test_lengths_of_list_come_from_the_figures(make_result: Make) -> None:
    page = Page(report_html(make_result(ks=(5, 50))))
    assert "NDCG@50" in page.of("th")
    assert "MRR@5" in page.of("th")
    assert "@20" not in page.text


def bare(result: dict[str, Any]) -> None:
    result["models"] = {name: {"ndcg@20": figures["ndcg@20"]} for name, figures in result["models"].items()}


def empty(result: dict[str, Any]) -> None:
    for figures in result["models"].values():
        for name, value in figures.items():
            figures[name] = math.nan if isinstance(value, float) and name != "ndcg@20" else None
    result["models"]["eddyline"]["ndcg@20"] = 0.5


def alone(result: dict[str, Any]) -> None:
    result["models"] = {"eddyline": result["models"]["eddyline"]}


def absent(result: dict[str, Any]) -> None:
    del result["models"]["eddyline"]


def nothing_found(result: dict[str, Any]) -> None:
    for window in result["models"]["eddyline"]["windows"]:
        window |= {"ndcg@20": 0.0, "recall@20": math.inf, "mrr@20": None}


@pytest.mark.parametrize("take_away", [bare, empty, alone, absent, nothing_found])
def test_what_is_missing_shows_as_a_dash(make_result: Make, take_away: Callable[[dict[str, Any]], None]) -> None:
    result = make_result()
    take_away(result)
    page = Page(report_html(result))
    assert page.of("h1")
    assert "–" in page.of("td")
    assert not re.search(r"\b(None|nan|inf|Undefined)\b", page.text)


def shown(result: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=300).print(result_table(result))
    return out.getvalue()


def test_the_table_has_every_model_the_best_first(make_result: Make) -> None:
    result = make_result({"popularity": 0.1, "eddyline": 0.4, "[red]gru4rec": 0.3})
    lines = shown(result).splitlines()
    assert [line.split()[0] for line in lines] == ["model", "eddyline", "[red]gru4rec", "popularity"]
    assert "NDCG@20" in lines[0]
    assert "published NDCG@20" in lines[0]
    assert "0.750" in lines[2]


def test_the_table_leaves_out_what_no_model_has(make_result: Make) -> None:
    result = make_result()
    bare(result)
    assert "published" not in shown(result)
    assert "–" in shown(result)
