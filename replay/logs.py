"""Click logs as files: CSV, JSON lines and Parquet, read row by row in bounded memory, and published layouts."""

from __future__ import annotations

import io
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from eddyline.replay.layouts import layout_named, layout_rows
from eddyline.replay.rows import Columns, Instant, Row, is_parquet, open_bytes, reader_of, row_id, stem_of
from eddyline.state.errors import BadRecord, ConfigurationError, EddylineError
from eddyline.state.records import Click
from eddyline.state.times import from_iso

__all__ = ["Columns", "LogError", "TimeUnit", "estimate_rows", "read_log", "read_numbered"]

TimeUnit = Literal["s", "ms", "iso"]

# Numbers below are seconds (up to the year 5138), numbers from there on are milliseconds (from 1973 on), and
# what is larger still (the year 9999) can only be micro- or nanoseconds.
_FIRST_MS = 100_000_000_000
_LAST_MS = 253_402_300_799_999
_UNITS = {"s": "seconds since 1970", "ms": "milliseconds since 1970", "iso": "ISO-8601"}
_PEEK_ROWS = 100


class LogError(EddylineError):
    """A log cannot be read; the message names the file and, for a bad row, its line and field."""


def read_log(
    path: Path,
    columns: Columns | None = None,
    *,
    limit: int | None = None,
    on_bad: Callable[[int, str], None] | None = None,
) -> Iterator[Click]:
    """Read the clicks of a log: in the order of the file, or, of a published layout, in the order of time.

    The name decides the format: `.csv`, `.jsonl` (or `.ndjson`), each also with `.gz`, and `.parquet`. CSV
    has a header line. Ids stay exactly as they are written; a number in JSON or Parquet becomes its digits.
    With `columns.layout` the file is of that layout, whatever its name (also with `.gz`), and is read as a whole
    before the first click comes, which takes about half a kilobyte of memory per click.

    Args:
        path: the file.
        columns: which column holds what.
        limit: stop after so many clicks.
        on_bad: called with the line (in Parquet the row) and the reason of each bad row, which is then
            skipped; without it the first bad row is an error.

    Raises:
        ConfigurationError: there is no such file, its format or layout is unknown, or a column is missing.
        LogError: a row is bad, or the file is damaged.
    """
    columns = columns or Columns()
    clicks = (click for _, click in read_numbered(path, columns, on_bad=on_bad))
    if columns.layout is not None:
        held = list(clicks)
        if layout_named(columns.layout).newest_first:
            held.reverse()
        held.sort(key=lambda click: click.ts_ms)
        clicks = (click for click in held)
    yield from islice(clicks, limit)


def read_numbered(
    path: Path, columns: Columns, *, on_bad: Callable[[int, str], None] | None = None
) -> Iterator[tuple[int, Click]]:
    """Read the clicks of a log, each with its line (in Parquet its row), always in the order of the file.

    Raises:
        ConfigurationError: there is no such file, its format or layout is unknown, or a column is missing.
        LogError: a row is bad, or the file is damaged.
    """
    try:
        _check_first_bytes(path)
        if columns.layout is None:
            rows = reader_of(path)(path, columns)
        else:
            rows, columns = layout_rows(path, columns)
        yield from _clicks(path, rows, columns, on_bad)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: there is no such file; check the path of the log") from error
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise LogError(f"{path}: the file cannot be read: {error}; check that it is complete") from error


def _check_first_bytes(path: Path) -> None:
    """Two mistakes whose consequences would say little about them."""
    if not path.is_file():  # what is no file may be read only once, or is not there
        return
    with path.open("rb") as file:
        first = file.read(2)
    if not first:
        raise ConfigurationError(f"{path} is empty: check that it is the right file, and complete")
    packed = first == b"\x1f\x8b"
    if packed and path.suffix != ".gz":
        raise ConfigurationError(f"{path} is compressed with gzip: its name must end in .gz")
    if path.suffix == ".gz":
        if not packed:
            raise ConfigurationError(f"{path} is not compressed with gzip: its name must not end in .gz")
        with open_bytes(path) as file:
            if not file.read(1):
                raise ConfigurationError(f"{path} is empty once unpacked: check that it is the right file")


def estimate_rows(path: Path) -> int | None:
    """About how many rows a log has, for a progress bar, at the price of reading its first 256 KiB.

    Exact for Parquet. None where nothing sensible can be said (no such file, an empty one).
    """
    try:
        if is_parquet(path):
            return int(pq.read_metadata(path).num_rows)
        total = path.stat().st_size
        if path.suffix == ".gz":
            with path.open("rb") as packed:  # gzip ends with its unpacked size (modulo 4 GiB)
                packed.seek(-4, io.SEEK_END)
                total = max(int.from_bytes(packed.read(4), "little"), total)
        with open_bytes(path) as file:
            sample = file.read(262_144)
    except (OSError, EOFError, zlib.error, pa.ArrowException):
        return None
    lines = sample.count(b"\n")
    header = 0 if ".csv" not in path.suffixes else 1
    return max(round(total * lines / len(sample)) - header, 0) if lines else None


def _clicks(
    path: Path, rows: Iterator[Row], columns: Columns, on_bad: Callable[[int, str], None] | None
) -> Iterator[tuple[int, Click]]:
    """Turn rows into clicks; the rows that decide the time unit are read ahead."""
    stem = stem_of(path)
    first = list(islice(rows, _PEEK_ROWS))
    unit = _unit_of(first) if columns.time_unit == "auto" else columns.time_unit
    for number, row in enumerate(chain(first, rows), start=1):
        try:
            yield row.line, _click(row, row_id(stem, number), unit, columns)
        except BadRecord as error:
            if on_bad is None:
                where = "row" if is_parquet(path) else "line"
                raise LogError(
                    f"{path}, {where} {row.line}: {error.reason}; correct the row, or skip bad rows"
                ) from error
            on_bad(row.line, error.reason)


def _click(row: Row, name: str, unit: TimeUnit, columns: Columns) -> Click:
    if isinstance(row.cells, BadRecord):
        raise row.cells
    user, item, time, kind, value, session, event_id = row.cells
    click = Click(
        event_id=_text(event_id, columns.event_id) or name,
        user_id=_text(user, columns.user),
        item_id=_text(item, columns.item),
        ts_ms=_milliseconds(time, unit, columns),
        kind=_text(kind, columns.kind) or columns.default_kind,
        value=None if value is None or value == "" else _number(value, columns.value),
        session_id=_text(session, columns.session) or None,
    )
    if not click.user_id or not click.item_id:
        empty = columns.item if click.user_id else columns.user
        raise BadRecord(f"`{empty}` is empty", empty)
    return click


def _text(cell: Any, column: str) -> str:
    if type(cell) is str:
        if cell.isascii() or not any("\ud800" <= char <= "\udfff" for char in cell):
            return cell
        raise BadRecord(f"`{column}` is not UTF-8: {cell!r}", column)
    if cell is None:
        return ""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(int(cell))
    raise BadRecord(
        f"`{column}` is {cell!r}, neither text nor an integer: write ids as text, exactly as they are", column
    )


def _number(cell: Any, column: str) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        raise BadRecord(f"`{column}` is {cell!r}, not a number", column) from None
    if math.isinf(number):
        raise BadRecord(f"`{column}` is infinite", column)
    return None if math.isnan(number) else number


def _milliseconds(cell: Any, unit: TimeUnit, columns: Columns) -> int:
    column = columns.time
    if cell is None or cell == "":
        raise BadRecord(f"`{column}` is empty", column)
    try:
        if type(cell) is Instant:
            ms = int(cell)
        elif unit == "iso":
            ms = from_iso(cell)
        else:
            number = _exact(cell)
            if columns.time_unit == "auto" and (number < _FIRST_MS) != (unit == "s"):
                raise BadRecord(  # a log that changes its unit would send users decades back or ahead
                    f"`{column}` is {cell!r}, but the first rows are in {_UNITS[unit]}; give --time-unit",
                    column,
                )
            ms = round(number * 1000) if unit == "s" else round(number)
    except (TypeError, ValueError, OverflowError):
        raise BadRecord(f"`{column}` is {cell!r}: want {_UNITS[unit]}", column) from None
    if not 0 < ms <= _LAST_MS:
        raise BadRecord(
            f"`{column}` is {cell!r}, which is not after 1970 and before 10000 in {_UNITS[unit]}; "
            "convert micro- and nanoseconds first",
            column,
        )
    return ms


def _exact(cell: Any) -> float:
    """The number in a cell, without a float in between where it is an integer."""
    try:
        return int(cell) if isinstance(cell, str) else cell + 0
    except ValueError:
        return float(cell)


def _unit_of(rows: Iterable[Row]) -> TimeUnit:
    """The unit that most of these rows' times are in; `iso` also stands for times that carry their type."""
    votes: Counter[TimeUnit] = Counter()
    for row in rows:
        if isinstance(row.cells, BadRecord) or row.cells[2] is None:
            continue
        time = row.cells[2]
        try:
            votes["iso" if isinstance(time, Instant) else "s" if float(time) < _FIRST_MS else "ms"] += 1
        except (TypeError, ValueError):
            votes["iso"] += 1
    return votes.most_common(1)[0][0] if votes else "s"
