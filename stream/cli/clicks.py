"""`eddyline publish`: send a log, or a made-up stream, to the clicks topic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli.logs import DEFAULT_COLUMNS, LogColumns, Skipped, logged_clicks, made_up_clicks
from eddyline.stream.cli.options import DEFAULTS, Options
from eddyline.stream.cli.output import talk

__all__ = ["register"]

_INTERRUPTED = 130


def register(app: App) -> None:
    """Add `eddyline publish`."""
    app.command(publish)


def publish(
    log: Annotated[Path | None, Parameter(help="Log to send: .csv, .jsonl (each also with .gz) or .parquet.")] = None,
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

    from eddyline.stream.cli.progress import progress  # noqa: PLC0415
    from eddyline.stream.publish import publish as send  # noqa: PLC0415
    from eddyline.stream.topics import Topics  # noqa: PLC0415

    names = Topics.of(settings.topics)
    skipped = Skipped(log) if log is not None and skip_bad else None
    source, total = (
        logged_clicks(log, columns, limit, skipped) if log is not None else made_up_clicks(clicks, seed, limit)
    )
    with progress("clicks", total) as advance:
        sent = send(source, settings.kafka, names, rate=rate, speed=factor, on_progress=advance)
    if skipped is not None:
        skipped.tell()
    talk(f"published {sent.clicks:,} clicks to {names.clicks} ({sent.clicks_per_s:,.0f}/s)")
    return _INTERRUPTED if sent.interrupted else 0


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
