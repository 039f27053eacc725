"""`eddyline tune`: settings for a log, found by backtests on its first part."""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tomli_w
from cyclopts import App, Parameter

from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli.backtests import OF_THE_MODEL, on_one_core, run_backtest, weighed
from eddyline.stream.cli.logs import DEFAULT_COLUMNS, LogColumns, logged_clicks
from eddyline.stream.cli.options import DEFAULTS, AsJson, Options
from eddyline.stream.cli.output import print_json, talk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eddyline.replay.tune import Value
    from eddyline.state.records import Click
    from eddyline.stream.config import Settings

__all__ = ["register"]

_FOUND = "# Found by `eddyline tune`"
_NOT_OVERWRITTEN = "choose another --output, or overwrite it with --force"
_OF_A_BACKTEST = (*(f"{part}." for part in OF_THE_MODEL), "trainer.publish_examples", "worker.refresh_")
"""How the settings begin that a backtest of eddyline goes by."""


def register(app: App) -> None:
    """Add `eddyline tune`."""
    app.command(tune)


def tune(
    log: Annotated[Path, Parameter(help="Log to tune on: .csv, .jsonl (each also with .gz) or .parquet.")],
    /,
    *,
    trials: Annotated[int, Parameter(help="Backtests in all, those in the journal included.")] = 30,
    share: Annotated[float, Parameter(help="First share of the log that is looked at; the rest stays unseen.")] = 0.5,
    metric: Annotated[str, Parameter(help="What is maximised: recall@K, ndcg@K or mrr@K.")] = "ndcg@20",
    output: Annotated[Path, Parameter(help="Settings file to write.")] = Path("eddyline.toml"),
    journal: Annotated[
        Path | None, Parameter(help="File that keeps the trials; the same one goes on. Default: OUTPUT with .journal.")
    ] = None,
    tensorboard: Annotated[
        Path | None, Parameter(help="Log the training steps of each trial to this folder, for TensorBoard.")
    ] = None,
    seed: Annotated[int, Parameter(help="Of the search and of the models.")] = 0,
    force: Annotated[bool, Parameter(help="Overwrite an existing settings file.")] = False,
    columns: LogColumns = DEFAULT_COLUMNS,
    as_json: AsJson = False,
    options: Options = DEFAULTS,
) -> None:
    """Search the settings of model and learner with which eddyline does best on a log, and write them down."""
    where = journal or output.with_suffix(".journal")
    begun = where.exists() and output.is_file() and output.read_bytes().startswith(_FOUND.encode())
    if output.exists() and not (force or begun):
        raise ConfigurationError(f"{output} exists: {_NOT_OVERWRITTEN}")
    if not 0 < share <= 1:
        raise ConfigurationError(f"--share {share}: want more than 0 and at most 1")
    if trials < 1:
        raise ConfigurationError(f"--trials {trials}: want at least 1")
    piece, _, length = metric.partition("@")
    if piece not in ("recall", "ndcg", "mrr") or not length.isdecimal() or not 1 <= int(length) <= 1000:
        raise ConfigurationError(f"--metric {metric}: want recall@K, ndcg@K or mrr@K, such as ndcg@20")
    on_one_core()
    from eddyline.replay.backtest import BacktestSettings, outline  # noqa: PLC0415
    from eddyline.replay.tune import SPACE  # noqa: PLC0415
    from eddyline.replay.tune import tune as search  # noqa: PLC0415
    from eddyline.stream.cli.progress import replaying  # noqa: PLC0415
    from eddyline.stream.setting import leaves  # noqa: PLC0415

    settings = options.all_settings()
    asked = BacktestSettings(k=(int(length),), seed=seed)
    whole = outline(lambda: _clicks(log, columns, settings, None), asked)
    clicks = round(whole.clicks * share)
    in_force = {leaf.key: leaf.value(settings) for leaf in leaves(type(settings)) if leaf.key in SPACE}
    identity = {
        "log": whole.fingerprint,
        "clicks": str(clicks),
        "metric": metric,
        "seed": str(seed),
        **{
            leaf.key: str(leaf.value(settings))
            for leaf in leaves(type(settings))
            if leaf.key.startswith(_OF_A_BACKTEST) and leaf.key not in SPACE
        },
    }

    def check_output() -> None:
        if output.exists() and not (force or _written_by(output, identity)):
            raise ConfigurationError(f"{output} was changed or is of another search: {_NOT_OVERWRITTEN}")

    with replaying() as advance:

        def evaluate(number: int, chosen: Mapping[str, Value]) -> float:
            def told(text: str, done: int, total: int, recall: float | None) -> None:
                advance(f"trial {number} of {trials}, {text}", done, total, recall)

            tried = _with(options, chosen)
            steps = tensorboard / f"trial-{number}" if tensorboard is not None else None
            result = run_backtest(lambda: _clicks(log, columns, tried, clicks), tried, asked, told, tensorboard=steps)
            return float(result["models"]["eddyline"][metric])

        def finished(number: int, score: float, best: float) -> None:
            talk(f"trial {number}: {metric} {score:.4f}, best so far {best:.4f}")

        try:
            found = search(
                evaluate, in_force, trials, where, identity, seed=seed, on_begun=check_output, on_trial=finished
            )
        except KeyboardInterrupt:
            talk(f"stopped; {where} has the trials so far, run the same command to go on")
            raise
    _write(output, found.best, identity)
    if as_json:
        print_json({**found._asdict(), "best": dict(found.best), "metric": metric, "clicks": clicks})
    talk(
        f"{metric} {found.score:.4f} on the second half of the first {clicks:,} clicks, {found.default:.4f} with the "
        f"settings it began with; {output} has the best of {found.trials} trials. `eddyline replay` says what they are "
        "worth on the clicks that were not looked at"
    )


def _clicks(log: Path, columns: LogColumns, settings: Settings, limit: int | None) -> Iterator[Click]:
    clicks, _ = logged_clicks(log, columns, None, None)
    return islice(weighed(clicks, settings), limit)


def _with(options: Options, chosen: Mapping[str, Value]) -> Settings:
    more = tuple(f"{name}={value}" for name, value in chosen.items())
    return Options(
        config=options.config, assignments=(*options.assignments, *more), broker=options.broker
    ).all_settings()


def _write(output: Path, best: Mapping[str, Value], identity: Mapping[str, str]) -> None:
    document: dict[str, object] = {}
    for name, value in sorted(best.items()):
        *path, key = name.split(".")
        section = document
        for part in path:
            section = section.setdefault(part, {})  # type: ignore[assignment]
        section[key] = value
    body = tomli_w.dumps(document)
    output.write_text(f"{_header(body, identity)}\n{body}", encoding="utf-8")


def _written_by(output: Path, identity: Mapping[str, str]) -> bool:
    """Whether this search wrote the file, and nobody has changed it since."""
    header, _, body = output.read_bytes().decode(errors="replace").partition("\n")
    return header == _header(body, identity)


def _header(body: str, identity: Mapping[str, str]) -> str:
    """The file's first line, by which the same search knows that it may overwrite the file."""
    mark = hashlib.sha256(json.dumps([body, dict(identity)]).encode()).hexdigest()[:16]
    return f"{_FOUND}, which overwrites this file when it goes on, unless it was changed ({mark})."
