"""Running backtests from commands: what `replay` asks of all models, `tune` asks of eddyline alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli.output import talk
from eddyline.stream.config_layers import nearest

if TYPE_CHECKING:
    from pathlib import Path

    from eddyline.model.parts import Ablation
    from eddyline.replay.backtest import BacktestSettings, Progress
    from eddyline.replay.contender import Contender, Question
    from eddyline.replay.pipeline import PipelineSettings
    from eddyline.state.records import Click
    from eddyline.stream.config import Settings

__all__ = ["OF_THE_MODEL", "WEIGHTS_EVERY_MS", "on_one_core", "pipeline_settings", "run_backtest", "weighed"]

WEIGHTS_EVERY_MS = 30_000
"""Event time between two refreshes of the served weights, unless a flag says otherwise."""

OF_THE_MODEL = ("clicks", "counts", "engine", "learner", "pretrain")
"""The sections of the settings that every backtest goes by."""


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def on_one_core() -> None:
    """Let NumPy, PyTorch and numba use one thread; to be called before any of them is loaded.

    Sums are then always taken in the same order, so that the same log gives the same bits however many cores there are.
    """
    os.environ.update(dict.fromkeys(_THREADS, "1"))


def weighed(clicks: Iterable[Click], settings: Settings) -> Iterator[Click]:
    """The clicks of a weight above 0: others are nothing to any model."""
    return (click for click in clicks if settings.clicks.weight(click.kind))


def pipeline_settings(settings: Settings, weights_every_ms: int = WEIGHTS_EVERY_MS) -> PipelineSettings:
    """What of the services' settings a backtest of eddyline goes by."""
    from eddyline.replay.pipeline import PipelineSettings  # noqa: PLC0415
    from eddyline.replay.published import RefreshPolicy  # noqa: PLC0415

    worker = settings.worker
    return PipelineSettings(
        settings.engine,
        settings.learner,
        settings.pretrain,
        weights_every_ms,
        settings.trainer.publish_examples,
        RefreshPolicy(worker.refresh_users, worker.refresh_clicks, worker.refresh_every_s, worker.refresh_per_s),
    )


def run_backtest(
    source: Callable[[], Iterable[Click]],
    settings: Settings,
    asked: BacktestSettings,
    on_progress: Progress = lambda text, done, total, recall: None,
    *,
    weights_every_ms: int = WEIGHTS_EVERY_MS,
    without: Sequence[Ablation] = (),
    baselines: str = "none",
    drifts_ms: Sequence[int] = (),
    tensorboard: Path | None = None,
) -> dict[str, Any]:
    """Backtest eddyline, and beside it what is asked for.

    Args:
        source: opens the log anew, in the order of time, clicks of weight 0 left out.
        settings: what the services would be run with.
        asked: what is asked of the models.
        on_progress: told how far it is.
        weights_every_ms: event time between two refreshes of the served weights.
        without: parts of eddyline to leave out, each in a model of its own.
        baselines: `all` that are installed, `none`, `peers`, or names by commas.
        drifts_ms: event times at which the stream is known to change, ascending.
        tensorboard: folder that the training steps of each eddyline are logged to.

    Raises:
        ConfigurationError: there is no such baseline, or it is not installed.
        EddylineError: the log cannot be used.
    """
    from eddyline.replay.backtest import backtest  # noqa: PLC0415
    from eddyline.replay.contender import Question  # noqa: PLC0415
    from eddyline.replay.pipeline import Eddyline  # noqa: PLC0415
    from eddyline.replay.tensorboard import board  # noqa: PLC0415

    question = Question(asked.k[-1], asked.new_only)
    services = pipeline_settings(settings, weights_every_ms)
    eddylines = [Eddyline(services, question, published=asked.serve != "request", seed=asked.seed)]
    compared = asked.serve == "published"  # beside it only `published` needs those of the others
    eddylines += [
        Eddyline(services, question, published=compared, without=part, seed=asked.seed)
        for part in dict.fromkeys(without)
    ]
    if tensorboard is not None:
        for one in eddylines:
            one.on_step = board(tensorboard / one.name)
    contenders: list[Contender] = [*eddylines]
    contenders += _rivals(baselines, question, asked.seed)
    return backtest(
        source, contenders, asked, settings.engine, settings.clicks, settings.counts, on_progress, drifts_ms
    )


def _rivals(chosen: str, question: Question, seed: int) -> list[Contender]:
    if chosen == "none":
        return []
    from eddyline.replay.baselines import makers  # noqa: PLC0415
    from eddyline.replay.baselines.peers import PEERS  # noqa: PLC0415

    known = {**makers(question), **PEERS}
    groups = {"all": list(known), "peers": list(PEERS)}
    rivals: dict[str, Contender] = {}
    for name in [part.strip() for part in chosen.split(",") if part.strip()]:
        for one in groups.get(name, [name]):
            if one not in known:
                there = ", ".join([*groups, *known])
                near = nearest(one, [*groups, *known])
                hint = f"; did you mean {near}?" if near else ""
                raise ConfigurationError(f"--baselines {one}: there is no such baseline; there are {there}{hint}")
            if one in rivals:
                continue
            try:
                rivals[one] = known[one](question, seed)
            except ConfigurationError as error:  # its package is not installed
                if name != "all":
                    raise
                talk(f"left out: {error}")
    return list(rivals.values())
