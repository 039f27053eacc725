"""Running backtests from commands: what `replay` asks of all models, `tune` asks of eddyline alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from eddyline.state.errors import ConfigurationError

if TYPE_CHECKING:
    from eddyline.model.parts import Ablation
    from eddyline.replay.backtest import BacktestSettings, Progress
    from eddyline.replay.contender import Contender, Question
    from eddyline.state.records import Click
    from eddyline.stream.config import Settings

__all__ = ["WEIGHTS_EVERY_MS", "run_backtest", "weighed"]

WEIGHTS_EVERY_MS = 30_000
"""Event time between two refreshes of the served weights, unless a flag says otherwise."""


def weighed(clicks: Iterable[Click], settings: Settings) -> Iterator[Click]:
    """The clicks of a weight above 0: others are nothing to any model."""
    return (click for click in clicks if settings.clicks.weight(click.kind))


def run_backtest(
    source: Callable[[], Iterable[Click]],
    settings: Settings,
    asked: BacktestSettings,
    on_progress: Progress = lambda text, done, total, recall: None,
    *,
    weights_every_ms: int = WEIGHTS_EVERY_MS,
    published: bool = False,
    without: Sequence[Ablation] = (),
    baselines: str = "none",
) -> dict[str, Any]:
    """Backtest eddyline, and beside it what is asked for.

    Args:
        source: opens the log anew, in the order of time, clicks of weight 0 left out.
        settings: what the services would be run with.
        asked: what is asked of the models.
        on_progress: told how far it is.
        weights_every_ms: event time between two refreshes of the served weights.
        published: whether the lists on the topic are followed too.
        without: parts of eddyline to leave out, each in a model of its own.
        baselines: `all`, `none`, or names by commas.

    Raises:
        ConfigurationError: there is no such baseline.
        EddylineError: the log cannot be used.
    """
    import torch  # noqa: PLC0415

    from eddyline.replay.backtest import backtest  # noqa: PLC0415
    from eddyline.replay.contender import Question  # noqa: PLC0415
    from eddyline.replay.pipeline import Eddyline, PipelineSettings  # noqa: PLC0415

    torch.set_num_threads(1)  # at these sizes more threads are slower, and one makes the same bits every time
    question = Question(asked.k[-1], asked.new_only)
    services = PipelineSettings(
        settings.engine,
        settings.learner,
        settings.pretrain,
        weights_every_ms,
        settings.trainer.publish_examples,
        settings.worker.refresh_users,
    )
    contenders: list[Contender] = [Eddyline(services, question, published=published, seed=asked.seed)]
    contenders += [Eddyline(services, question, without=part, seed=asked.seed) for part in dict.fromkeys(without)]
    contenders += _rivals(baselines, question, asked.seed)
    return backtest(source, contenders, asked, settings.engine, settings.clicks, settings.counts, on_progress)


def _rivals(chosen: str, question: Question, seed: int) -> list[Contender]:
    if chosen == "none":
        return []
    from eddyline.replay.baselines import baselines  # noqa: PLC0415

    known = {one.name: one for one in baselines(question, seed)}
    if chosen == "all":
        return list(known.values())
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ConfigurationError(f"--baselines {name}: there is no such baseline; there are {', '.join(known)}")
    return [known[name] for name in names]
