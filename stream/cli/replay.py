"""`eddyline replay`: what eddyline and its rivals would have done on a log."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from eddyline.model.parts import Ablation
from eddyline.state.errors import ConfigurationError, EddylineError
from eddyline.state.times import from_iso, to_iso
from eddyline.stream.cli.backtests import OF_THE_MODEL, WEIGHTS_EVERY_MS, on_one_core, run_backtest, weighed
from eddyline.stream.cli.logs import DEFAULT_COLUMNS, LogColumns, Skipped, logged_clicks, made_up
from eddyline.stream.cli.options import DEFAULTS, AsJson, Options
from eddyline.stream.cli.output import Stdout, print_json, talk

if TYPE_CHECKING:
    from eddyline.state.records import Click

__all__ = ["register"]

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def register(app: App) -> None:
    """Add `eddyline replay`."""
    app.command(replay)


def replay(
    log: Annotated[
        Path | None, Parameter(help="Log to replay: .csv, .jsonl (each also with .gz) or .parquet, in order of time.")
    ] = None,
    /,
    *,
    synthetic: Annotated[bool, Parameter(help="A made-up stream instead of a log.")] = False,
    clicks: Annotated[int | None, Parameter(help="Clicks of the made-up stream.")] = None,
    stream: Annotated[
        tuple[str, ...],
        Parameter(help="Of the made-up stream, as NAME=VALUE, such as drift=returning; may be repeated."),
    ] = (),
    warmup: Annotated[str, Parameter(help="Share of the log, or the date, up to which nothing counts.")] = "0.5",
    rank: Annotated[
        Literal["all", "new"], Parameter(help="`new`: known items are no candidates, and clicks on them don't count.")
    ] = "all",
    kinds: Annotated[str, Parameter(help="Kinds of click that count, by commas; all are learned from.")] = "",
    from_: Annotated[str | None, Parameter(name="--from", help="Leave out what was before this date.")] = None,
    until: Annotated[str | None, Parameter(help="Leave out what was from this date on.")] = None,
    refresh: Annotated[
        str, Parameter(help="Event time between two updates of the counts and of the served weights.")
    ] = "counts=1s,weights=30s",
    serve: Annotated[
        Literal["request", "published", "both"],
        Parameter(
            help="Lists that count: made when the next click comes, or those the topic holds by then (of eddyline; "
            "baselines publish nothing). `both`: the former, with the latter beside them."
        ),
    ] = "request",
    k: Annotated[str, Parameter(help="List lengths, by commas; the longest is the main one.")] = "10,20",
    without: Annotated[
        tuple[Ablation, ...], Parameter(help="Also run eddyline without this part; may be repeated.")
    ] = (),
    baselines: Annotated[
        str, Parameter(help="`all` that are installed, `none`, `peers` (other projects), or names by commas.")
    ] = "all",
    seed: Annotated[int, Parameter(validator=Number(gte=0, lt=2**32), help="Of everything drawn.")] = 0,
    limit: Annotated[int | None, Parameter(validator=Number(gte=1), help="Stop after so many clicks.")] = None,
    skip_bad: Annotated[
        bool, Parameter(help="Skip rows that cannot be read instead of stopping at the first.")
    ] = False,
    tensorboard: Annotated[
        Path | None, Parameter(help="Log eddyline's training steps to this folder, for TensorBoard.")
    ] = None,
    html: Annotated[Path | None, Parameter(help="Write the report to this file.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, Parameter(help="Two results written with --json, side by side; nothing is replayed.")
    ] = None,
    columns: LogColumns = DEFAULT_COLUMNS,
    as_json: AsJson = False,
    options: Options = DEFAULTS,
) -> None:
    """Backtest: every click of a log is asked about, by eddyline and by other models, before it is learned from."""
    if compare is not None:
        if log is not None or synthetic or html is not None:
            raise ConfigurationError("replay --compare: nothing is replayed; leave out LOG, --synthetic and --html")
        _compare(*compare, as_json=as_json)
        return
    if (log is None) == (not synthetic):
        raise ConfigurationError("replay: give either a LOG or --synthetic")
    if log is not None and (clicks is not None or stream):
        raise ConfigurationError("replay: --clicks and --stream are of a made-up stream; use --limit, or --synthetic")
    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise ConfigurationError(f"--html {html}: want a file in a folder that is there")
    every_ms = _refresh(refresh)
    warm_up, warm_up_until_ms = _warm_up(warmup)
    lengths = tuple(sorted({_whole(part, "--k") for part in k.split(",")}))
    begin_ms, end_ms = _date(from_, "--from"), _date(until, "--until")
    if begin_ms is not None and end_ms is not None and begin_ms >= end_ms:
        raise ConfigurationError(f"--from {from_} --until {until}: the first must be before the second")
    on_one_core()
    from eddyline.replay.backtest import BacktestSettings  # noqa: PLC0415
    from eddyline.replay.synthetic import changes, synthetic_clicks  # noqa: PLC0415
    from eddyline.stream.cli.progress import replaying  # noqa: PLC0415

    settings = options.all_settings()
    asked = BacktestSettings(
        k=lengths,
        warm_up=warm_up,
        warm_up_until_ms=warm_up_until_ms,
        new_only=rank == "new",
        serve=serve,
        kinds=tuple(kind.strip() for kind in kinds.split(",") if kind.strip()),
        counts_every_ms=every_ms["counts"],
        seed=seed,
    )
    skipped = Skipped(log) if skip_bad and log is not None else None
    world = made_up(clicks, seed, stream) if log is None else None

    def source() -> Iterator[Click]:
        again = skipped if skipped is not None and not skipped.rows else (_ignore if skip_bad else None)
        made: Iterable[Click]
        if log is not None:
            made, _ = logged_clicks(log, columns, limit, again)
        else:
            made = islice(synthetic_clicks(world), limit)
        return weighed(_between(made, begin_ms, end_ms), settings)

    drift = changes(world) if world is not None else []
    drift = [one for one in drift if limit is None or one.click < limit]

    with replaying() as on_progress:
        result = run_backtest(
            source,
            settings,
            asked,
            on_progress,
            weights_every_ms=every_ms["weights"],
            without=without,
            baselines=baselines,
            tensorboard=tensorboard,
            drifts_ms=[change.at_ms for change in drift],
        )
    if skipped is not None:
        skipped.tell()
    name = "made-up stream" if log is None else log.name
    result = {
        "data": {
            "name": name,
            **result["data"],
            "drift": [{"at": to_iso(one.at_ms), "click": one.click, "what": one.what} for one in drift],
        },
        "settings": {
            "backtest": {
                **asked.model_dump(mode="json"),
                "weights_every_ms": every_ms["weights"],
                "rank": rank,
            },
            "k": list(asked.k),
            **{part: getattr(settings, part).model_dump(mode="json") for part in OF_THE_MODEL},
        },
        "versions": {name: version(name) for name in ("eddyline", "torch", "numpy", "numba")},
        "command": shlex.join(["eddyline", *sys.argv[1:]]),
        "models": result["models"],
    }
    _write(result, html, as_json=as_json)


def _write(result: dict[str, Any], html: Path | None, *, as_json: bool) -> None:
    from eddyline.replay.report import report_html, result_table  # noqa: PLC0415

    try:
        if as_json:
            print_json(result)
        else:
            Stdout().print(result_table(result))
    finally:  # the reader may have gone
        if html is not None:
            _write_report(html, report_html(result))


def _write_report(html: Path, page: str) -> None:
    try:
        html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise EddylineError(f"{html}: the report could not be written: {error.strerror or error}") from error
    talk(f"the report is in {html}")


def _compare(one: Path, other: Path, *, as_json: bool) -> None:
    from eddyline.replay.compare import compare_json, compare_table, read_result  # noqa: PLC0415

    a, b = read_result(one), read_result(other)
    if as_json:
        print_json(compare_json(a, b))
    else:
        Stdout().print(compare_table(a, b))


def _between(clicks: Iterable[Click], begin_ms: int | None, end_ms: int | None) -> Iterator[Click]:
    for click in clicks:
        if (begin_ms is None or click.ts_ms >= begin_ms) and (end_ms is None or click.ts_ms < end_ms):
            yield click


def _ignore(line: int, reason: str) -> None:
    """Bad rows are told when the log is read for the first time."""


def _refresh(text: str) -> dict[str, int]:
    every_ms = {"counts": 1_000, "weights": WEIGHTS_EVERY_MS}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in every_ms:
            raise ConfigurationError(f"--refresh {part}: want counts=TIME and weights=TIME, such as counts=1s")
        every_ms[name] = _duration_ms(value, part)
    return every_ms


def _duration_ms(text: str, where: str) -> int:
    number = text.rstrip("msdh")
    unit = text[len(number) :]
    try:
        ms = float(number) * _UNITS_MS[unit]
    except (KeyError, ValueError):
        raise ConfigurationError(f"--refresh {where}: want a time such as 500ms, 1s, 5m, 1h or 1d") from None
    if not 0 <= ms < float("inf"):
        raise ConfigurationError(f"--refresh {where}: want a time of 0 or more")
    return round(ms)


def _warm_up(text: str) -> tuple[float, int | None]:
    with suppress(ValueError):
        if 0 < (share := float(text)) < 1:
            return share, None
    with suppress(ValueError, OverflowError):
        return 0.5, from_iso(text)
    raise ConfigurationError(f"--warmup {text}: want a share between 0 and 1, such as 0.8, or a date")


def _date(text: str | None, flag: str) -> int | None:
    if text is None:
        return None
    try:
        return from_iso(text)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{flag} {text}: want a date such as 2026-03-01 or 2026-03-01T12:00:00") from None


def _whole(text: str, flag: str) -> int:
    if not text.strip().isdecimal() or not 1 <= int(text) <= 1000:
        raise ConfigurationError(f"{flag} {text}: want whole numbers between 1 and 1000, by commas")
    return int(text)
