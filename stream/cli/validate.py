"""`eddyline validate`: is a log fit to be learned from, and a clean copy of it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from eddyline.state.errors import ConfigurationError
from eddyline.state.times import to_iso
from eddyline.stream.cli.logs import DEFAULT_COLUMNS, LogColumns
from eddyline.stream.cli.options import DEFAULTS, AsJson, Options
from eddyline.stream.cli.output import print_json, print_table, talk

if TYPE_CHECKING:
    from eddyline.replay.click_table import ClickTable
    from eddyline.replay.findings import Example, Finding

__all__ = ["register"]

_CHECK_FAILED = 3


def register(app: App) -> None:
    """Add `eddyline validate`."""
    app.command(validate)


def validate(
    log: Annotated[Path, Parameter(help="Log to look at: .csv, .jsonl (each also with .gz), .parquet or a --layout.")],
    /,
    *,
    write: Annotated[
        Path | None,
        Parameter(help="Write a clean log: sorted by time, without bad rows, repeated clicks and future ones."),
    ] = None,
    force: Annotated[bool, Parameter(help="Let --write overwrite an existing file.")] = False,
    drop_bots: Annotated[bool, Parameter(help="Leave out users who click like machines, too.")] = False,
    drop_unknown: Annotated[bool, Parameter(help="Leave out ids such as null, -1 or unknown, too.")] = False,
    bot_rate: Annotated[float, Parameter(help="Clicks a minute, over ten minutes, that no person makes.")] = 30.0,
    warmup: Annotated[float, Parameter(help="Share of the log that a backtest would train on.")] = 0.5,
    columns: LogColumns = DEFAULT_COLUMNS,
    as_json: AsJson = False,
    options: Options = DEFAULTS,
) -> int:
    """Check a log before it is used; exit code 3 if a check fails.

    Takes memory: about 0.3 kB a click, 0.6 kB with --write.
    """
    if not 0 < warmup < 1:
        raise ConfigurationError(f"validate: --warmup {warmup:g}: want a share between 0 and 1")
    if bot_rate <= 0:
        raise ConfigurationError(f"validate: --bot-rate {bot_rate:g}: want more than 0")
    if write is None and (drop_bots or drop_unknown or force):
        raise ConfigurationError("validate: --drop-bots, --drop-unknown and --force belong to --write CLEAN")
    options.settings()

    from eddyline.replay.clean import check_target, write_clean  # noqa: PLC0415
    from eddyline.replay.click_table import read_table  # noqa: PLC0415
    from eddyline.replay.findings import counted  # noqa: PLC0415
    from eddyline.replay.flaws import flawed  # noqa: PLC0415
    from eddyline.replay.logs import Columns, estimate_rows  # noqa: PLC0415
    from eddyline.replay.validate import ValidateSettings  # noqa: PLC0415
    from eddyline.replay.validate import validate as look_at  # noqa: PLC0415
    from eddyline.stream.cli.progress import progress  # noqa: PLC0415

    if write is not None:
        check_target(log, write, force=force)
    named = Columns(**asdict(columns))
    settings = ValidateSettings(now_ms=time.time_ns() // 1_000_000, warm_up=warmup, bot_rate=bot_rate)
    with progress("reading", estimate_rows(log)) as advance:
        table = read_table(log, named, advance)
    findings = list(look_at(table, settings))
    cleaned = None
    if write is not None:
        drop = flawed(table, settings.now_ms, bot_rate if drop_bots else None, nobody=drop_unknown)
        with progress("writing", len(table)) as advance:
            cleaned = write_clean(log, named, table, drop, write, advance)
    if as_json:
        written = None if cleaned is None else {"log": str(write), **asdict(cleaned)}
        print_json({**_outline(log, table), "findings": [asdict(one) for one in findings], "written": written})
    else:
        _show(findings)
    _tell(log, table, findings)
    if cleaned is not None:
        parts = ", ".join(f"{count:,} {reason}" for reason, count in cleaned.dropped.items())
        wrote = f"wrote {counted(cleaned.clicks, 'click')} to {write}"
        talk(f"{wrote}; dropped: {parts}; {cleaned.moved:,} moved to their time")
    return _CHECK_FAILED if any(one.verdict == "FAIL" for one in findings) else 0


def _show(findings: list[Finding]) -> None:
    print_table(
        ("", "check", "count", "found"), [(one.verdict, one.check, f"{one.count:,}", one.found) for one in findings]
    )
    for one in findings:
        if one.verdict != "PASS":
            print(f"\n{one.verdict} {one.check}")
            for example in one.examples:
                print(f"  {_words(example)}")
            print(f"  → {one.remedy}")


def _words(example: Example) -> str:
    parts = [f"line {example.line}"]
    if example.ts_ms is not None:
        parts.append(f"user {example.user_id}, item {example.item_id}, {_iso(example.ts_ms)}")
    return ": ".join([*parts, example.note] if example.note else parts)


def _tell(log: Path, table: ClickTable, findings: list[Finding]) -> None:
    from eddyline.replay.findings import counted  # noqa: PLC0415

    failed, warned = (sum(one.verdict == verdict for one in findings) for verdict in ("FAIL", "WARN"))
    said = f"{log}: {counted(len(table), 'click')} of {counted(len(table.users), 'user')}"
    said += f" on {counted(len(table.items), 'item')}"
    if len(table):
        said += f", {_iso(int(table.ts_ms.min()))} to {_iso(int(table.ts_ms.max()))}"
    talk(f"{said}; {counted(failed, 'check')} failed, {counted(warned, 'warns', 'warn')}")


def _outline(log: Path, table: ClickTable) -> dict[str, Any]:
    return {
        "log": str(log),
        "clicks": len(table),
        "users": len(table.users),
        "items": len(table.items),
        "first_ms": int(table.ts_ms.min()) if len(table) else None,
        "last_ms": int(table.ts_ms.max()) if len(table) else None,
    }


def _iso(ms: int) -> str:
    return to_iso(ms, "milliseconds")
