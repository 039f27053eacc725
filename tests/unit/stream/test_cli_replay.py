"""`eddyline replay`: what its flags lead to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eddyline.replay.baselines import BASELINES
from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli import main
from eddyline.stream.cli.logs import made_up

SMALL = ("--synthetic", "--clicks", "600", "--set", "pretrain.epochs=1", "--set", "pretrain.least_steps=1")


def replayed(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[dict[str, Any], str]:
    assert main(["replay", *SMALL, "--json", *more]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_a_backtest_runs_on_one_core() -> None:
    code = f"""
import os
from eddyline.stream.cli import main
assert main(["replay", *{SMALL}, "--baselines", "none"]) == 0
import numba, numpy, torch
numpy.ones((600, 600)) @ numpy.ones((600, 600))
assert len(os.listdir("/proc/self/task")) == torch.get_num_threads() == numba.config.NUMBA_NUM_THREADS == 1
"""
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    subprocess.run([sys.executable, "-c", code], check=True, env=free)


def test_a_made_up_stream_is_told_with_its_changes(capsys: pytest.CaptureFixture[str]) -> None:
    stream = ("--stream", "drift=returning", "--stream", "regime_clicks=100", "--baselines", "none")
    result, _ = replayed(capsys, *stream)
    drift = result["data"]["drift"]
    assert [one["click"] for one in drift] == [100, 200, 300, 400, 500]
    assert [one["what"] for one in drift[:3]] == [
        "a second regime begins",
        "the first regime returns",
        "the second regime returns",
    ]
    groups = result["models"]["eddyline"]["by"]["drift"]
    assert groups["first 500 clicks"]["clicks"] == result["data"]["scored_clicks"]
    assert groups["later"]["clicks"] == 0


def test_changes_after_the_end_are_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    result, _ = replayed(capsys, "--limit", "250", "--baselines", "none")
    assert result["data"]["drift"] == []


@pytest.mark.parametrize("wrong", ["drift=sideways", "regimes=3", "users"])
def test_a_wrong_setting_of_the_made_up_stream(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"--stream {wrong.partition('=')[0]}=.*; a stream has clicks, users"):
        made_up(None, None, [wrong])


def test_each_eddyline_logs_its_steps_to_a_folder_of_its_own(
    capsys: pytest.CaptureFixture[str], scalars: Callable[[Path], dict[str, list[tuple[int, float]]]], tmp_path: Path
) -> None:
    steps = ("--set", "learner.batch=64", "--tensorboard", str(tmp_path))
    replayed(capsys, "--baselines", "none", "--without", "replay", *steps)
    whole, without = (scalars(tmp_path / name) for name in ("eddyline", "eddyline-without-replay"))
    assert len(whole["loss/score"]) == len(without["loss/score"]) > 0
    assert whole["loss/replayed"][-1][1] > 0
    assert {value for _, value in without["loss/replayed"]} == {0}


def test_all_baselines_are_those_that_are_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _hide(monkeypatch, "implicit", "rtrec")
    cheap = {name: BASELINES[name] for name in ("popularity", "own-history")}
    monkeypatch.setattr("eddyline.replay.baselines.BASELINES", cheap)
    result, said = replayed(capsys, "--rank", "new")
    assert list(result["models"]) == ["eddyline", "popularity"]
    assert said.count("pip install 'eddyline[peers]'") == 2
    assert "left out: the peer rtrec-slim" in said


def test_a_peer_that_was_asked_for_is_an_error_where_it_is_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _hide(monkeypatch, "implicit", "rtrec")
    for asked in ("peers", "popularity,implicit-als"):
        assert main(["replay", *SMALL, "--baselines", asked]) == 2
        assert "the peer implicit-als needs implicit" in capsys.readouterr().err


def test_an_unknown_baseline_is_an_error_that_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", *SMALL, "--baselines", "popularty"]) == 2
    assert "popularty: there is no such baseline; there are all, peers, popularity," in capsys.readouterr().err


def _hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    for package in packages:
        for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
            monkeypatch.setitem(sys.modules, name, None)
