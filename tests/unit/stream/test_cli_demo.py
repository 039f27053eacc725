from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.state.records import Click
from eddyline.stream.cli import main
from eddyline.stream.config import Settings

pytestmark = pytest.mark.usefixtures("elsewhere")


class Demo:
    """Stands in for the demo: keeps what it was asked to show."""

    def __init__(self) -> None:
        self.clicks: list[Click] = []
        self.asked: tuple[int, float, bool] | None = None
        self.terminated = False

    def __call__(
        self, settings: Settings, clicks: Iterable[Click], total: int, *, rate: float, keep: bool
    ) -> dict[str, Any]:
        self.clicks = list(clicks)
        self.asked = (total, rate, keep)
        if self.terminated:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"clicks_applied": 20_000, "recall@20": {"eddyline": 0.25}}


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Demo:
    demo = Demo()
    monkeypatch.setattr("eddyline.stream.demo.run", demo)
    return demo


def test_a_made_up_stream_is_shown_and_summed_up(
    demo: Demo, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--clicks", "30", "--seed", "4", "--rate", "99", "--json", "summary.json"]) == 0
    assert demo.clicks == list(synthetic_clicks(SyntheticSettings(clicks=30, seed=4)))
    assert demo.asked == (30, 99, False)
    output = capsys.readouterr().out
    assert "clicks applied" in output
    assert "20,000" in output
    assert "eddyline 0.25" in output
    assert json.loads((elsewhere / "summary.json").read_text())["recall@20"] == {"eddyline": 0.25}


def test_a_log_is_shown_whole_or_as_far_as_told(demo: Demo, elsewhere: Path) -> None:
    log = elsewhere / "log.csv"
    log.write_text("who,item_id,timestamp\n" + "u,i,1700000000\n" * 5)
    flags = ["demo", "--data", str(log), "--user-column", "who", "--keep"]
    assert main(flags) == 0
    assert len(demo.clicks) == 5
    assert demo.asked == (5, 250, True)
    assert main([*flags, "--clicks", "2"]) == 0
    assert len(demo.clicks) == 2


def test_sigterm_ends_it_like_ctrl_c(demo: Demo) -> None:
    demo.terminated = True
    handler = signal.getsignal(signal.SIGTERM)
    assert main(["demo", "--clicks", "1"]) == 130
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "log.csv", "--seed", "1"], "--seed belongs to the made-up stream"),
        (["--rate", "0"], "--rate 0: want more than 0"),
        (["--clicks", "0"], "--clicks 0: want more than 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--data", "absent.csv"], "absent.csv: there is no such file"),
    ],
)
def test_wrong_arguments_are_usage_errors(
    demo: Demo, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *arguments]) == 2
    assert said in capsys.readouterr().err
