"""Results at rest: what is one, and what is wrong with what is none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eddyline.replay.results import Result, flat, read_result
from eddyline.state.errors import ConfigurationError

Make = Callable[..., dict[str, Any]]


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "result.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_result_is_read_as_it_was_written(tmp_path: Path, make_result: Make) -> None:
    result = make_result()
    assert read_result(written(tmp_path, json.dumps(result))) == result


def test_a_minimal_result_is_enough(tmp_path: Path, make_result: Make) -> None:
    result = make_result()
    for part in ("kinds", "drift", "name"):
        del result["data"][part]
    minimal = {**result, "models": {"popularity": {"ndcg@5": 0.1}}}
    del minimal["command"]
    assert Result.model_validate(read_result(written(tmp_path, json.dumps(minimal)))).ks == [5]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"\xff", "byte 0 is not UTF-8"),
        ('{"data": ', "line 1, column 10"),
        ("[1]", "a JSON list, not an object"),
        ("[" * 100_000, "nested too deep"),
        ("{}", "data: Field required (and 3 more)"),
    ],
)
def test_what_is_no_result_is_told_with_the_reason(tmp_path: Path, content: str | bytes, wanted: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ConfigurationError) as raised:
        read_result(path)
    assert str(raised.value).startswith(f"{path}: not the result of a backtest: ")
    assert wanted in str(raised.value)
    assert "eddyline replay LOG --json" in str(raised.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_result(tmp_path / "none.json")


def spoil_window(result: dict[str, Any]) -> None:
    result["models"]["eddyline"]["windows"][3]["from"] = "yesterday"


def spoil_figure(result: dict[str, Any]) -> None:
    result["models"]["eddyline"]["recall@20"] = "high"


def spoil_all(result: dict[str, Any]) -> None:
    result["models"] = {"popularity": {}}


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (spoil_window, "models.eddyline.windows.3.from: "),
        (spoil_figure, 'models.eddyline: recall@20 is "high": want a number or null'),
        (spoil_all, "models have no figure such as ndcg@20"),
    ],
)
def test_a_wrong_part_is_named(
    tmp_path: Path, make_result: Make, spoil: Callable[[dict[str, Any]], None], wanted: str
) -> None:
    result = make_result()
    spoil(result)
    with pytest.raises(ConfigurationError) as raised:
        read_result(written(tmp_path, json.dumps(result)))
    assert wanted in str(raised.value)


def test_the_longest_list_is_the_main_one(make_result: Make) -> None:
    result = Result.model_validate(make_result(ks=(5, 50, 10)))
    assert result.ks == [50, 10, 5]
    assert result.ndcg == "ndcg@50"


def test_models_are_ranked_and_the_unknown_are_last(make_result: Make) -> None:
    made = make_result({"b": 0.2, "eddyline": 0.3, "a": 0.2, "eddyline-without-lstm": 0.25, "c": 0.9})
    made["models"]["c"]["ndcg@20"] = math.nan
    result = Result.model_validate(made)
    assert result.ranked == ["eddyline", "eddyline-without-lstm", "a", "b", "c"]
    assert result.rivals == ["a", "b", "c"]
    assert [result.sort(name) for name in result.ranked[:3]] == ["product", "ablation", "baseline"]


def test_nested_settings_get_dotted_names() -> None:
    assert dict(flat({"a": {"b": {"c": 1}, "d": [2]}, "e": {}})) == {"a.b.c": 1, "a.d": [2], "e": {}}
