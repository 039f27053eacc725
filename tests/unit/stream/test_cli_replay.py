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
    return json.loads(captured.out, parse_constant=pytest.fail), captured.err  # NaN and Infinity are no JSON


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
    said = capsys.readouterr().err
    assert "popularty: there is no such baseline; there are all, peers, popularity," in said
    assert "did you mean popularity?" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("log.csv", "--clicks", "100"), "--clicks and --stream are of a made-up stream"),
        (("log.csv", "--stream", "drift=none"), "--clicks and --stream are of a made-up stream"),
        (("log.csv", "--compare", "a.json", "b.json"), "nothing is replayed; leave out LOG"),
        (("--compare", "a.json", "b.json", "--html", "c.html"), "nothing is replayed; leave out LOG"),
        (("--synthetic", "--html", "nowhere/report.html"), "want a file in a folder that is there"),
        (("--synthetic", "--from", "2026-02-01", "--until", "2026-01-01"), "the first must be before the second"),
        (("--synthetic", "--warmup", "80%"), "--warmup 80%: want a share between 0 and 1, such as 0.8, or a date"),
        (("--synthetic", "--warmup", "1.5"), "--warmup 1.5: want a share"),
        (("--synthetic", "--seed", "-1"), "--seed"),
        (("--synthetic", "--limit", "0"), "--limit"),
    ],
)
def test_flags_that_do_not_fit_are_refused_before_anything_is_replayed(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert main(["replay", *words]) == 2
    assert said in capsys.readouterr().err


def test_kinds_that_the_log_does_not_have_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", *SMALL, "--baselines", "none", "--kinds", "click,buy"]) == 2
    assert (
        "--kinds buy: there are no such clicks of a weight above 0; there are click, purchase"
        in capsys.readouterr().err
    )


def test_a_log_without_clicks_in_the_window_says_which_flags_to_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", *SMALL, "--baselines", "none", "--from", "2090-01-01"]) == 1
    assert "0 clicks of warm-up" in (said := capsys.readouterr().err)
    assert "--from, --until, --limit" in said


def test_published_lists_count_where_they_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    both, published = (
        replayed(capsys, "--baselines", "popularity", "--without", "gate", "--serve", serve)[0]["models"]
        for serve in ("both", "published")
    )
    part = "eddyline-without-gate"
    assert published[part]["ndcg@20"] < both[part]["ndcg@20"]  # its lists are from the topic too
    assert published["eddyline"]["ndcg@20"] == both["eddyline"]["published"]["ndcg@20"]
    assert published["eddyline"]["ndcg@20"] != both["eddyline"]["ndcg@20"]
    assert published["eddyline"]["published"] is None
    assert published["popularity"]["ndcg@20"] == both["popularity"]["ndcg@20"]  # it publishes nothing


def test_retention_is_unknown_where_no_old_click_was_kept(capsys: pytest.CaptureFixture[str]) -> None:
    short, longer = (
        replayed(capsys, "--baselines", "none", "--set", f"learner.batch={batch}")[0]["models"]["eddyline"]
        for batch in (256, 32)
    )
    assert short["retention"] is None
    assert short["retention_windows"] == []
    assert 0 < longer["retention"] <= 1


def _hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    for package in packages:
        for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
            monkeypatch.setitem(sys.modules, name, None)
