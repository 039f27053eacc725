"""Tuning: a declared space, the defaults first, a journal to go on from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from eddyline.replay.tune import SPACE, Among, Between, Value, tune
from eddyline.state.errors import ConfigurationError
from eddyline.stream.config import Settings
from eddyline.stream.setting import leaves

DEFAULTS: dict[str, Value] = {leaf.key: leaf.value(Settings()) for leaf in leaves(Settings) if leaf.key in SPACE}
LOG = {"log": "a", "seed": "0"}


def test_every_searched_name_is_a_setting_whose_default_can_be_drawn() -> None:
    assert DEFAULTS.keys() == SPACE.keys()
    for name, space in SPACE.items():
        if isinstance(space, Between):
            assert space.low <= DEFAULTS[name] <= space.high
        else:
            assert DEFAULTS[name] in space.values


def evaluate(number: int, chosen: Mapping[str, Value]) -> float:
    return -abs(chosen["learner.item_rate"] - 0.05) - 0.001 * chosen["learner.replayed"]


def test_the_defaults_are_tried_first_and_something_better_is_found(tmp_path: Path) -> None:
    tried: list[Mapping[str, Value]] = []

    def spy(number: int, chosen: Mapping[str, Value]) -> float:
        tried.append(chosen)
        assert number == len(tried)
        return evaluate(number, chosen)

    found = tune(spy, DEFAULTS, 15, tmp_path / "journal", LOG)
    assert tried[0] == DEFAULTS
    assert found.default == evaluate(1, DEFAULTS)
    assert found.score > found.default
    assert evaluate(1, found.best) == found.score
    assert found.trials == len(tried) == 15
    for chosen in tried:
        for name, space in SPACE.items():
            inside = (
                chosen[name] in space.values if isinstance(space, Among) else space.low <= chosen[name] <= space.high
            )
            assert inside


def test_a_stopped_search_goes_on(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    tune(evaluate, DEFAULTS, 4, journal, LOG)
    tried: list[Mapping[str, Value]] = []

    def spy(number: int, chosen: Mapping[str, Value]) -> float:
        tried.append(chosen)
        assert number == 4 + len(tried)
        return evaluate(number, chosen)

    found = tune(spy, DEFAULTS, 6, journal, LOG)
    assert (len(tried), found.trials) == (2, 6)
    assert DEFAULTS not in tried


def test_the_journal_of_another_search_is_refused_and_what_differs_is_told(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    tune(evaluate, DEFAULTS, 1, journal, LOG)
    with pytest.raises(ConfigurationError, match=r"values: log a, now b\. Give the same ones, or another --journal"):
        tune(evaluate, DEFAULTS, 2, journal, {**LOG, "log": "b"})
    with pytest.raises(ConfigurationError, match="clicks unknown, now 5"):
        tune(evaluate, DEFAULTS, 2, journal, {**LOG, "clicks": "5"})


@pytest.mark.parametrize("text", ["user_id,item_id\nu,i\n", '{"user_id": "u"}\n', "5\n"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ConfigurationError, match=r"log\.csv: that is no journal of `eddyline tune`"):
        tune(evaluate, DEFAULTS, 1, tmp_path / "log.csv", LOG)
    assert (tmp_path / "log.csv").read_text() == text


def test_a_journal_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--journal .*journal: cannot be opened: No such file"):
        tune(evaluate, DEFAULTS, 1, tmp_path / "none" / "journal", LOG)


def test_another_space_is_another_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(evaluate, DEFAULTS, 1, tmp_path / "journal", LOG)
    monkeypatch.setattr("eddyline.replay.tune.SPACE", {**SPACE, "counts.window": Among((5,))})
    with pytest.raises(ConfigurationError, match="other values: the searched settings"):
        tune(evaluate, DEFAULTS, 2, tmp_path / "journal", LOG)


def test_a_trial_that_is_stopped_says_nothing_and_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(number: int, chosen: Mapping[str, Value]) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(stopped, DEFAULTS, 2, tmp_path / "journal", LOG)
    assert capsys.readouterr().err == ""
    found = tune(evaluate, DEFAULTS, 2, tmp_path / "journal", LOG)
    assert (found.trials, found.default) == (2, evaluate(1, DEFAULTS))


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigurationError, match=r"eddyline\[tune\]"):
        tune(evaluate, DEFAULTS, 1, tmp_path / "journal", LOG)
