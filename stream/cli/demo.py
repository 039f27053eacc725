"""`eddyline demo`: everything on this machine, with one command."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

from cyclopts import App, Parameter

from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli.logs import DEFAULT_COLUMNS, LogColumns, Skipped, logged_clicks, made_up_clicks
from eddyline.stream.cli.options import DEFAULTS, Options
from eddyline.stream.cli.output import print_table

__all__ = ["register"]


def register(app: App) -> None:
    """Add `eddyline demo`."""
    app.command(demo)


def demo(
    *,
    data: Annotated[Path | None, Parameter(help="Your own log instead of a made-up click stream.")] = None,
    clicks: Annotated[int | None, Parameter(help="So many clicks; else 20,000 made-up ones, or the whole log.")] = None,
    seed: Annotated[int | None, Parameter(help="Seed of the made-up stream (0).")] = None,
    rate: Annotated[float, Parameter(help="Clicks published per second.")] = 250.0,
    summary_file: Annotated[
        Path | None, Parameter(name="--json", help="Also write the summary as JSON to this file.")
    ] = None,
    keep: Annotated[bool, Parameter(help="Leave everything running at the end.")] = False,
    skip_bad: Annotated[
        bool, Parameter(help="Skip rows that cannot be read instead of stopping at the first.")
    ] = False,
    columns: LogColumns = DEFAULT_COLUMNS,
    options: Options = DEFAULTS,
) -> None:
    """Start Kafka, a worker and a trainer, publish clicks, and watch recommendations come out."""
    if data is not None and seed is not None:
        raise ConfigurationError("demo: --seed belongs to the made-up stream, not to --data")
    for flag, value in (("--rate", rate), ("--clicks", clicks)):
        if value is not None and value <= 0:
            raise ConfigurationError(f"demo: {flag} {value:g}: want more than 0")
    settings = options.all_settings()

    from eddyline.stream.demo import run  # noqa: PLC0415

    skipped = Skipped(data) if data is not None and skip_bad else None
    if data is None:
        source, total = made_up_clicks(clicks, seed, None)
    else:
        source, rows = logged_clicks(data, columns, clicks, skipped)
        total = rows or 0
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        summary = run(settings, source, total, rate=rate, keep=keep)
    finally:
        signal.signal(signal.SIGTERM, before)
    if skipped is not None:
        skipped.tell()
    print_table(("summary", ""), [(name.replace("_", " "), _words(value)) for name, value in summary.items()])
    if summary_file is not None:
        try:
            summary_file.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"cannot write {summary_file}: {error.strerror}") from error


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the demo like Ctrl-C does: what it started is stopped."""
    raise KeyboardInterrupt


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_words(part)}" for name, part in value.items())
    return f"{value:,}" if isinstance(value, int | float) else str(value)
