"""`make quality`: what it plans, what it keeps, and what it reads from results."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import quality
import runs
from goals import Log, goals
from sheets import Sheet
from studies import Curve, Daily, Refresh, Returning

Made = Callable[..., dict[str, Any]]
RUN = runs.Run("one", None, ("--clicks", "300"), 1)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """2,000 clicks of twelve days."""
    path = tmp_path / "online-retail.csv.gz"
    clicks = synthetic_clicks(SyntheticSettings(clicks=2_000, users=60))
    lines = [f"{click.ts_ms // 1000},{click.user_id},{click.item_id}" for click in clicks]
    path.write_bytes(gzip.compress("\n".join(["timestamp,user_id,item_id", *lines]).encode()))
    return path


class Replays:
    """Stands in for `eddyline replay`; `fails` names the run that fails."""

    def __init__(self, result: dict[str, Any], fails: str = "") -> None:
        self.result = result
        self.fails = fails
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], *, stdout: Any, env: dict[str, str], **_: Any) -> None:
        self.commands.append(command)
        assert "EDDYLINE_LOGS" not in env  # it is no setting
        if self.fails and f"{self.fails}.html" in command[-1]:
            raise subprocess.CalledProcessError(1, command)
        stdout.write(json.dumps(self.result).encode())


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Replays:
    made = Replays({"models": {}})
    monkeypatch.setattr(runs.Children, "run", made)
    return made


def test_a_result_that_is_there_is_not_made_again(replays: Replays, tmp_path: Path) -> None:
    assert runs.make([RUN], tmp_path, 2) == ({"one": replays.result}, [])
    assert runs.make([RUN], tmp_path, 2) == ({"one": replays.result}, [])
    assert len(replays.commands) == 1
    runs.make([RUN], tmp_path, 2, again=True)
    runs.make([runs.Run("one", None, ("--clicks", "400"), 1)], tmp_path, 2)
    assert len(replays.commands) == 3


def test_a_result_is_made_again_for_another_log(replays: Replays, log: Path, tmp_path: Path) -> None:
    run = runs.Run("one", log, (), 1)
    runs.make([run], tmp_path, 1)
    log.write_bytes(log.read_bytes() + b"\n")
    runs._hash.cache_clear()
    runs.make([run], tmp_path, 1)
    assert len(replays.commands) == 2


def test_a_run_that_fails_leaves_the_others_and_is_made_again(
    replays: Replays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [RUN, runs.Run("other", None, (), 2)]
    replays.fails = "one"
    results, failed = runs.make(both, tmp_path, 1)
    assert (list(results), failed) == (["other"], ["one"])
    assert "one FAILED" in capsys.readouterr().err
    replays.fails = ""
    results, failed = runs.make(both, tmp_path, 1)
    assert (sorted(results), failed) == (["one", "other"], [])
    assert [command[-1].rpartition("/")[2] for command in replays.commands] == ["other.html", "one.html", "one.html"]


def test_the_exit_code_tells_of_runs_not_of_goals(
    replays: Replays, make_result: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replays.result = make_result()
    monkeypatch.setattr(quality, "OUT", tmp_path)
    monkeypatch.setenv("EDDYLINE_LOGS", str(tmp_path / "nowhere"))
    assert quality.main(["--only", "made-up"]) == 0
    written = (tmp_path / "quality.md").read_text()
    assert "| eddyline | 0.4120 |" in written
    assert "| fails |" in written
    replays.fails = "returning"
    assert quality.main(["--only", "returning"]) == 1
    assert "| eddyline | 0.4120 |" in (tmp_path / "quality.md").read_text()  # what is there is told again
    replays.fails = "made-up"
    assert quality.main(["--only", "made-up", "--again"]) == 1


def test_ctrl_c_says_one_line_and_ends_what_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun, replay = tmp_path / "begun", tmp_path / "replay"
    replay.write_text(f"#!/bin/sh\necho $$ >> {begun}\nexec sleep 100\n")
    replay.chmod(0o755)
    monkeypatch.setattr(runs.sys, "executable", str(replay))
    monkeypatch.setattr(quality, "OUT", tmp_path)
    monkeypatch.setenv("EDDYLINE_LOGS", str(tmp_path / "nowhere"))

    def press_ctrl_c() -> None:
        while not begun.exists() or not begun.read_text():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    person = threading.Thread(target=press_ctrl_c, daemon=True)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, Ctrl-C may be ignored
    try:
        person.start()
        assert quality.main(["--jobs", "1"]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert capsys.readouterr().err.endswith("\nstopped; the same command goes on with the runs that are not done\n")
    (process,) = begun.read_text().split()  # the other runs were never begun
    with pytest.raises(ProcessLookupError):
        os.kill(int(process), 0)


def test_the_plan_is_of_the_logs_that_are_there(log: Path) -> None:
    plan = quality.Plan(log.parent, None)
    assert [one.name for one in plan.logs] == ["online-retail", "online-retail-100k"]
    whole, first, *others = plan.runs()
    assert "--limit" not in whole.flags
    assert first.flags[-2:] == ("--limit", "100000")
    assert first.flags.count("--without") > whole.flags.count("--without") == 1
    assert {run.name.partition("-")[0] for run in others} == {"curve", "returning"}
    limited = quality.Plan(log.parent, 500)
    assert all("500" in run.flags for run in limited.runs())
    assert [one.name for one in quality.Plan(log.parent / "nowhere", None).logs] == ["made-up"]


def test_days_score_the_clicks_of_the_whole_run(log: Path, make_result: Made) -> None:
    study = Daily(log, "whole", 1)
    days = study.runs()
    edges = [(run.flags[run.flags.index("--warmup") + 1], run.flags[run.flags.index("--until") + 1]) for run in days]
    assert len(days) > 1
    assert [until for _, until in edges[:-1]] == [warm_up for warm_up, _ in edges[1:]]
    assert all(until.endswith("T00:00:00Z") for _, until in edges[:-1])
    results = {"whole": make_result()} | {run.name: make_result() for run in days}
    results[days[0].name]["data"]["scored_clicks"] = 0
    (goal,) = study.goals(results)
    assert goal.got == f"{0.412 / 0.372:.4f} ×"
    assert [row[2] for row in study.sheet(results).rows] == ["0.4120", "0.3720", "0.3720", "0.4120"]
    del results[days[-1].name]
    assert list(study.goals(results)) == study.sheet(results).rows == []


def test_the_curve_scores_the_same_clicks_after_more_and_more(log: Path, make_result: Made) -> None:
    study = Curve(log)
    made_up, *points = study.runs()
    assert made_up.flags[:4] == ("--clicks", "3000000", "--warmup", "0.9")
    begins = [run.flags[run.flags.index("--from") + 1] for run in points]
    assert begins == sorted(begins, reverse=True)
    assert len({run.flags[run.flags.index("--warmup") + 1] for run in points}) == 1
    result = make_result({"eddyline": 0.3, "eddyline-without-neural": 0.25})
    (row,) = study.sheet({points[0].name: result}).rows
    assert row[3:5] == ("0.2500", "0.3000")


def test_what_replay_is_worth_when_a_regime_returns() -> None:
    def model(first: float) -> dict[str, Any]:
        groups = {"first 500 clicks": {"clicks": 500, "recall@20": first}, "later": {"clicks": 90, "recall@20": 0.5}}
        return {"by": {"drift": groups}, "retention": 0.25}

    models = {"eddyline": model(0.45), "eddyline-without-replay": model(0.4)}
    study = Returning()
    (goal,) = study.goals({"returning": {"models": models}})
    assert (goal.got, goal.holds) == ("1.125 × (0.4500 / 0.4000)", True)
    first, _ = study.sheet({"returning": {"models": models}}).rows
    assert first == ("eddyline", "0.4500 (500)", "0.5000 (90)", "0.2500")
    assert list(study.goals({})) == study.sheet({}).rows == []


def test_the_best_policy_of_refreshing_counts(log: Path) -> None:
    def result(published: float) -> dict[str, Any]:
        return {"models": {"eddyline": {"ndcg@20": 0.5, "published": {"ndcg@20": published}}}}

    study = Refresh([(Log("shop", "shop", "all", (), 1), log)])
    assert [run.name for run in study.runs()] == ["shop-refresh-1", "shop-refresh-2", "shop-refresh-3"]
    others = {f"shop-refresh-{n}": result(published) for n, published in ((1, 0.2), (2, 0.46), (3, 0.45))}
    results = {"shop": result(0.4), **others}
    (goal,) = study.goals(results)
    assert (goal.got, goal.holds) == ("0.920 × (a new version)", True)
    assert [row[-1] for row in study.sheet(results).rows] == ["0.800", "0.400", "0.920", "0.900"]


def test_goals_of_a_log(make_result: Made) -> None:
    log = Log("shop", "shop", "all", (), 1, lead=1.2, neural=0.998)
    found = {goal.what: goal for goal in goals(log, make_result()["models"])}
    assert found["NDCG@20 against blend"].got == f"{0.412 / 0.374:.3f} ×"
    assert not found["NDCG@20 against blend"].holds
    assert found["learning online against frozen"].holds
    assert "the neural part earns its place" not in found  # it was not left out
    assert {"users who never clicked", "items less than a day old"} <= found.keys()


def test_a_sheet_as_markdown() -> None:
    sheet = Sheet("Title", ("a", "b"), [("1", "2")], "Note.")
    assert sheet.markdown() == "**Title**\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nNote."
