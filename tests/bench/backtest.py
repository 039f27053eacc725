"""How many clicks a second a backtest takes, beside what the scores alone would take.

10,000 items, one click in each tick, so nothing can be answered together unless the engine sees to it. The yardstick
is the matrix product that scores every item for a click, and a top-20 of it, 256 clicks at once, in the same run.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

import msgspec
import torch

from eddyline.model.clicks import ClickSettings
from eddyline.model.counts import CountsSettings
from eddyline.model.engine import EngineSettings
from eddyline.replay.backtest import BacktestSettings, backtest
from eddyline.replay.baselines import BASELINES
from eddyline.replay.contender import Contender, Question
from eddyline.replay.pipeline import Eddyline
from eddyline.replay.pretrain import PretrainSettings
from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks
from eddyline.state.records import Click
from eddyline.stream.cli.backtests import pipeline_settings
from eddyline.stream.config import Settings

ITEMS = 10_000
QUESTION = Question(20, exclude_seen=False)


def measure_backtest(clicks: int = 40_000) -> None:
    """Print the rates."""
    torch.set_num_threads(1)
    log = _one_per_tick(clicks)
    pretrain = PretrainSettings(epochs=1, least_steps=20)
    pipeline = replace(pipeline_settings(Settings()), pretrain=pretrain)
    product = _matrix_product()
    rate, busy = _rate(log, Eddyline(pipeline, QUESTION))
    popular, _ = _rate(log[: clicks // 4], BASELINES["decayed-popularity"](QUESTION, 0))
    print(f"matrix product      {product:10,.0f} clicks/s, one core, {ITEMS:,} items")
    print(f"eddyline            {rate:10,.0f} clicks/s in a backtest, one in a tick ({product / rate:.1f} times fewer)")
    print(f"  on the processor  {busy:10,.0f} clicks/s of processor time")
    print(f"decayed popularity  {popular:10,.0f} clicks/s in a backtest, tick by tick")
    print(f"load average        {os.getloadavg()[0]:10.1f} on {os.cpu_count()} processors")


def _one_per_tick(clicks: int) -> list[Click]:
    made, now_s = [], 0
    for click in synthetic_clicks(SyntheticSettings(clicks=clicks, users=clicks // 3, items=ITEMS, topics=100)):
        now_s = max(click.ts_ms // 1000, now_s + 1)
        made.append(msgspec.structs.replace(click, ts_ms=1000 * now_s))
    return made


def _rate(log: list[Click], contender: Contender) -> tuple[float, float]:
    """Clicks per second and per second of processor time, of those that count."""
    begun: list[tuple[float, float, int]] = []

    def note(text: str, done: int, total: int, recall: float | None) -> None:
        if text == "asking":
            begun.append((time.perf_counter(), time.process_time(), done))

    settings = BacktestSettings()
    backtest(lambda: log, [contender], settings, EngineSettings(), ClickSettings(), CountsSettings(), note)
    (wall, busy, first), (wall_end, busy_end, last) = begun[0], begun[-1]
    return (last - first) / (wall_end - wall), (last - first) / (busy_end - busy)


def _matrix_product() -> float:
    users, items = torch.randn(256, 65), torch.randn(ITEMS, 65)
    start, times = time.perf_counter(), 0
    while time.perf_counter() - start < 2:
        torch.topk(users @ items.T, 20)
        times += 1
    return 256 * times / (time.perf_counter() - start)
