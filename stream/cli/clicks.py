"""`eddyline publish`: send a log, or a made-up stream, to the clicks topic."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli.logs import DEFAULT_COLUMNS, LogColumns, Skipped, clicks_of
from eddyline.stream.cli.options import DEFAULTS, Options
from eddyline.stream.cli.output import progress, talk

if TYPE_CHECKING:
    from eddyline.state.records import Click

__all__ = ["register"]

_INTERRUPTED = 130


def register(app: App) -> None:
    """Add `eddyline publish`."""
    app.command(publish)


def publish(
    log: Annotated[
        Path | None, Parameter(help="Log to send: .csv, .jsonl (each also with .gz) or .parquet.")
    ] = None,
    /,
    *,
    synthetic: Annotated[bool, Parameter(help="Send a made-up click stream instead.")] = False,
    clicks: Annotated[int | None, Parameter(help="Clicks of the made-up stream (20,000).")] = None,
    seed: Annotated[int | None, Parameter(help="Seed of the made-up stream (0).")] = None,
    rate: Annotated[float | None, Parameter(help="At most so many clicks a second.")] = None,
    speed: Annotated[
        str | None, Parameter(help="Pace of the log's own times: 1x as they were, 10x ten times faster.")
    ] = None,
    limit: Annotated[int | None, Parameter(help="Stop after so many clicks.")] = None,
    skip_bad: Annotated[
        bool, Parameter(help="Skip rows that cannot be read instead of stopping at the first.")
    ] = False,
    columns: LogColumns = DEFAULT_COLUMNS,
    options: Options = DEFAULTS,
) -> int:
    """Send the clicks of a log to the clicks topic, in order."""
    if (log is None) != synthetic:
        raise ConfigurationError("publish: give either a LOG or --synthetic")
    if not synthetic and not (clicks is None and seed is None):
        raise ConfigurationError("publish: --clicks and --seed belong to --synthetic; --limit cuts a LOG")
    for flag, value in (("--rate", rate), ("--limit", limit), ("--clicks", clicks)):
        if value is not None and value <= 0:
            raise ConfigurationError(f"publish: {flag} {value:g}: want more than 0")
    factor = _factor(speed)
    settings = options.connected()

    from eddyline.stream.publish import publish as send  # noqa: PLC0415
    from eddyline.stream.topics import Topics  # noqa: PLC0415

    names = Topics.of(settings.topics)
    skipped = Skipped(log) if log is not None and skip_bad else None
    source, total = _log(log, columns, limit, skipped) if log is not None else _made_up(clicks, seed, limit)
    with progress("clicks", total) as advance:
        sent = send(source, settings.kafka, names, rate=rate, speed=factor, on_progress=advance)
    if skipped is not None:
        skipped.tell()
    talk(f"published {sent.clicks:,} clicks to {names.clicks} ({sent.clicks_per_s:,.0f}/s)")
    return _INTERRUPTED if sent.interrupted else 0


def _log(
    log: Path, columns: LogColumns, limit: int | None, skipped: Skipped | None
) -> tuple[Iterable[Click], int | None]:
    from eddyline.replay.logs import estimate_rows  # noqa: PLC0415

    rows = estimate_rows(log)
    total = min(rows, limit) if rows is not None and limit is not None else rows or limit
    return clicks_of(log, columns, limit=limit, skipped=skipped), total


def _made_up(clicks: int | None, seed: int | None, limit: int | None) -> tuple[Iterable[Click], int]:
    from itertools import islice  # noqa: PLC0415

    from pydantic import ValidationError  # noqa: PLC0415

    from eddyline.replay.synthetic import SyntheticSettings, synthetic_clicks  # noqa: PLC0415

    given = {"clicks": clicks, "seed": seed}
    try:
        made_up = SyntheticSettings.model_validate(
            {key: one for key, one in given.items() if one is not None}
        )
    except ValidationError as error:
        detail = error.errors()[0]
        raise ConfigurationError(f"publish: --{detail['loc'][0]}: {detail['msg']}") from error
    total = made_up.clicks if limit is None else min(made_up.clicks, limit)
    return islice(synthetic_clicks(made_up), total), total


def _factor(speed: str | None) -> float | None:
    """`10x` → 10.0."""
    if speed is None:
        return None
    try:
        factor = float(speed.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise ConfigurationError(f"publish: --speed {speed}: want a factor such as 10x or 0.5x")
    return factor
