"""`eddyline tune`: what it overwrites, what it goes on with, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eddyline.stream.cli import main

pytestmark = pytest.mark.usefixtures("elsewhere")

Backtest = Callable[..., dict[str, Any]]


@pytest.fixture
def log(tmp_path: Path) -> str:
    lines = [f"{1_700_000_000 + n},u{n % 7},i{n % 11}" for n in range(400)]
    (tmp_path / "log.csv").write_text("\n".join(["timestamp,user_id,item_id", *lines, ""]))
    return "log.csv"


@pytest.fixture
def backtest(monkeypatch: pytest.MonkeyPatch) -> Callable[[Backtest], None]:
    """Replaces the backtest of a trial."""

    def replace(made: Backtest) -> None:
        monkeypatch.setattr("eddyline.stream.cli.tune.run_backtest", made)

    replace(lambda source, settings, *_, **__: {"models": {"eddyline": {"ndcg@20": settings.learner.item_rate}}})
    return replace


@pytest.mark.usefixtures("backtest")
class TestGoingOn:
    def test_what_the_search_wrote_is_overwritten(self, log: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["tune", log, "--trials", "2"]) == 0
        assert main(["tune", log, "--trials", "4"]) == 0
        said = capsys.readouterr().err
        assert [said.count(f"trial {number}: ") for number in range(1, 5)] == [1, 1, 1, 1]
        assert "best of 4 trials" in said

    def test_what_somebody_changed_is_not(self, log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["tune", log, "--trials", "1"]) == 0
        found = tmp_path / "eddyline.toml"
        found.write_text(found.read_text() + "\n[telemetry]\n")
        changed = found.read_text()
        assert main(["tune", log, "--trials", "2"]) == 2
        assert "eddyline.toml was changed or is of another search" in capsys.readouterr().err
        assert found.read_text() == changed
        assert main(["tune", log, "--trials", "2", "--force"]) == 0

    def test_what_another_search_wrote_is_not(self, log: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["tune", log, "--trials", "1"]) == 0
        assert main(["tune", log, "--trials", "1", "--seed", "1", "--output", "other.toml"]) == 0
        assert main(["tune", log, "--trials", "2", "--seed", "1", "--journal", "other.journal"]) == 2
        assert "eddyline.toml was changed or is of another search" in capsys.readouterr().err

    def test_any_other_file_is_not(self, log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "eddyline.toml").write_text("[learner]\n")
        assert main(["tune", log, "--trials", "1"]) == 2
        assert "eddyline.toml exists: choose another --output, or overwrite it" in capsys.readouterr().err

    def test_another_search_is_refused(self, log: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["tune", log, "--trials", "1", "--output", "a.toml"]) == 0
        again = ["tune", log, "--trials", "2", "--output", "b.toml", "--journal", "a.journal"]
        for flags, said in (
            (["--set", "pretrain.epochs=7"], "a.journal was begun with other values: pretrain.epochs "),
            (["--set", "worker.refresh_users=7"], "values: worker.refresh_users "),
            (["--seed", "1"], "values: seed 0, now 1"),
            (["--share", "0.8"], "values: clicks 200, now 320"),
            (["--metric", "mrr@10"], "values: metric ndcg@20, now mrr@10"),
        ):
            assert main([*again, *flags]) == 2
            assert said in " ".join(capsys.readouterr().err.split())
        assert main(["tune", log, "--trials", "2", "--output", "a.toml", "--seed", "1"]) == 2
        assert "a.journal was begun with other values: seed 0, now 1" in capsys.readouterr().err
        assert main([*again, "--broker", "elsewhere:9092"]) == 0  # nothing to a backtest


def test_ctrl_c_says_one_line(
    log: str, backtest: Callable[[Backtest], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    backtest(stopped)
    assert main(["tune", log]) == 130
    assert capsys.readouterr().err == "stopped; eddyline.journal has the trials so far, run the same command to go on\n"
