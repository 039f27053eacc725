"""Tuning: settings chosen by backtests on the first part of a log; what comes after stays unseen.

The search space is declared here, once. Each trial is a backtest of eddyline alone whose second half is the validation
part, so nothing is judged by clicks that it learned from. Trials are kept in a journal, so a search can be stopped and
gone on with (TPE: Bergstra et al., NeurIPS 2011).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eddyline.state.errors import ConfigurationError

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

__all__ = ["SPACE", "Among", "Between", "Tuned", "tune"]

Value = float | int
Evaluate = Callable[[int, Mapping[str, Value]], float]
"""A score for the trial of this number, from 1, with settings by `section.key`; higher is better."""


class Between(NamedTuple):
    """Any value from `low` to `high`, on a logarithmic scale."""

    low: float
    high: float


class Among(NamedTuple):
    """One of these values."""

    values: tuple[Value, ...]


SPACE: Mapping[str, Between | Among] = {
    "learner.item_rate": Between(1e-3, 1e-1),
    "learner.network_rate": Between(1e-4, 1e-2),
    "learner.gate_rate": Between(2e-3, 4e-2),
    "learner.replayed": Among((64, 128, 256, 512)),
    "pretrain.rate": Between(5e-4, 5e-3),
    "pretrain.dropout": Between(0.1, 0.5),
    "counts.window": Among((5, 10, 20)),
    "counts.neighbours": Among((64, 128, 256)),
    "engine.ranking.candidates": Among((128, 256, 512)),
    "engine.ranking.long_term_items": Among((20, 50, 100)),
}
"""What is searched, by setting."""


class Tuned(NamedTuple):
    """The outcome of a search.

    Attributes:
        best: settings of the best trial, by `section.key`.
        score: its score.
        default: the score of the settings it began with.
        trials: finished ones, those of earlier runs included.
    """

    best: Mapping[str, Value]
    score: float
    default: float
    trials: int


def tune(
    evaluate: Evaluate,
    defaults: Mapping[str, Value],
    trials: int,
    journal: Path,
    identity: Mapping[str, str],
    *,
    seed: int = 0,
    on_begun: Callable[[], None] = lambda: None,
    on_trial: Callable[[int, float, float], None] = lambda number, score, best: None,
) -> Tuned:
    """Search until the journal holds `trials` finished trials.

    Args:
        evaluate: scores trials.
        defaults: the settings in force, tried first.
        trials: how many in all, those in the journal included.
        journal: file that keeps them.
        identity: of the log and of everything that is not searched, by name; a journal of another one is refused.
        seed: of the search.
        on_begun: called before the first trial, once the journal is known to be of this search.
        on_trial: told the number of a finished trial, its score, and the best so far.

    Raises:
        ConfigurationError: Optuna is not installed, or the journal cannot be opened, is none, or is of another search.
    """
    try:
        import optuna  # noqa: PLC0415
        from optuna.storages import JournalStorage  # noqa: PLC0415
        from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError('tuning needs Optuna: install it with `pip install "eddyline[tune]"`') from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a trial that fails or is stopped is raised, not told
    try:
        study = optuna.create_study(
            study_name="eddyline",
            storage=JournalStorage(JournalFileBackend(str(journal))),
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed + _finished_number(journal)),
            load_if_exists=True,
        )
    except OSError as error:
        raise ConfigurationError(f"--journal {journal}: cannot be opened: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"--journal {journal}: that is no journal of `eddyline tune`: give another") from error
    asked = {**identity, "space": repr(SPACE)}
    _same_search(study.user_attrs.get("search", {} if study.trials else asked), asked, journal)
    on_begun()
    study.set_user_attr("search", asked)
    if not _trials(study, "COMPLETE", "WAITING"):  # one that was stopped has to be tried again
        study.enqueue_trial(dict(defaults))
    while (finished := len(_trials(study, "COMPLETE"))) < trials:
        study.optimize(lambda trial: _try(trial, partial(evaluate, finished + 1)), n_trials=1)
        on_trial(finished + 1, study.trials[-1].value or 0.0, study.best_value)
    first = min(_trials(study, "COMPLETE"), key=lambda trial: trial.number)
    return Tuned(study.best_params, study.best_value, first.value or 0.0, finished)


def _try(trial: Trial, evaluate: Callable[[Mapping[str, Value]], float]) -> float:
    chosen: dict[str, Value] = {}
    for name, space in SPACE.items():
        if isinstance(space, Between):
            chosen[name] = trial.suggest_float(name, space.low, space.high, log=True)
        else:
            chosen[name] = trial.suggest_categorical(name, space.values)
    return evaluate(chosen)


def _same_search(begun: Mapping[str, str], asked: Mapping[str, str], journal: Path) -> None:
    differ = [
        "the searched settings" if name == "space" else f"{name} {begun.get(name, 'unknown')}, now {value}"
        for name, value in asked.items()
        if begun.get(name) != value
    ]
    if differ:
        raise ConfigurationError(
            f"{journal} was begun with other values: {'; '.join(differ)}. Give the same ones, or another --journal"
        )


def _trials(study: Study, *states: str) -> list[FrozenTrial]:
    from optuna.trial import TrialState  # noqa: PLC0415

    return study.get_trials(states=[TrialState[state] for state in states])


def _finished_number(journal: Path) -> int:
    """Another seed for each run, or a resumed search would try the same settings again."""
    return journal.read_bytes().count(b"\n") if journal.exists() else 0
