"""Writes a log again without its flaws, in the order of time."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eddyline.replay.click_table import ClickTable
from eddyline.replay.flaws import Mask
from eddyline.replay.logs import LogError, read_numbered
from eddyline.replay.rows import Columns, row_id, stem_of
from eddyline.state.errors import ConfigurationError, EddylineError
from eddyline.state.records import Click

__all__ = ["Cleaned", "check_target", "write_clean"]

_FORMATS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
_NAMES = ("timestamp", "user_id", "item_id", "event_type", "value", "session_id", "event_id")


@dataclass(frozen=True)
class Cleaned:
    """What was written, and what was not.

    Attributes:
        clicks: how many were written.
        dropped: how many were not, by reason; a click with several counts for the first.
        moved: how many of the log's clicks came after a later one, and were moved to their time.
    """

    clicks: int
    dropped: dict[str, int]
    moved: int


def check_target(log: Path, target: Path, *, force: bool = False) -> None:
    """Make sure that a clean log can be written there, before any work is done.

    Raises:
        ConfigurationError: its name says no known format, its folder is not there, it is the log itself, or it is
            there already and `force` is not given.
    """
    if not target.name.endswith(_FORMATS):
        raise ConfigurationError(f"--write {target}: its name says the format and must end in {', '.join(_FORMATS)}")
    if not target.parent.is_dir():
        raise ConfigurationError(f"--write {target}: there is no folder {target.parent}; create it first")
    if target.resolve() == log.resolve():
        raise ConfigurationError(f"--write {target}: that is the log itself; write the clean one beside it")
    if target.exists() and not force:
        raise ConfigurationError(f"--write {target}: it exists; choose another name, or overwrite it with --force")


def write_clean(
    log: Path,
    columns: Columns,
    table: ClickTable,
    drop: Mapping[str, Mask],
    target: Path,
    on_progress: Callable[[int], None] | None = None,
) -> Cleaned:
    """Read the log a second time and write what is left of it, in the order of time.

    Columns are named as `Columns` expects by default, times are seconds since 1970 (in Parquet typed). Value, session
    and event id are left out where the log has none. The clicks are held in memory, about half a kilobyte each. The
    file appears under its name once it is complete.

    Args:
        log: the log.
        columns: which column of it holds what.
        table: what was read of it before.
        drop: which rows of the table to leave out, by reason.
        target: the file to write, see `check_target`.
        on_progress: takes how many clicks are read so far.

    Raises:
        LogError: the log has changed in the meantime.
        EddylineError: the file cannot be written.
    """
    dropped = {"bad rows": table.bad_rows}
    keep = np.ones(len(table), np.bool_)
    for reason, mask in drop.items():
        dropped[reason] = int(np.count_nonzero(keep & mask))
        keep &= ~mask
    held: list[Click | None] = []
    stem, has_ids = stem_of(log), False
    bad: list[int] = []
    for row, (_, click) in enumerate(read_numbered(log, columns, on_bad=lambda line, _: bad.append(line))):
        has_ids |= click.event_id != row_id(stem, row + len(bad) + 1)
        held.append(click if row < len(table) and keep[row] else None)
        if on_progress is not None and row % 10_000 == 0:
            on_progress(row)
    if on_progress is not None:
        on_progress(len(held))
    if len(held) != len(table):
        raise LogError(f"{log} has changed while it was read: validate it again once nobody writes to it")
    clicks = [click for row in table.by_time if (click := held[row]) is not None]
    part = target.with_name(f".{target.name}.part")
    try:
        _write(part, target, clicks, has_ids=has_ids)
        part.replace(target)
    except OSError as error:
        raise EddylineError(f"--write {target}: cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return Cleaned(len(clicks), dropped, int(np.count_nonzero(table.late)))


def _write(part: Path, target: Path, clicks: Sequence[Click], *, has_ids: bool) -> None:
    there = {name: any(_cell(click, name) is not None for click in clicks) for name in ("value", "session_id")}
    there["event_id"] = has_ids
    names = [name for name in _NAMES if there.get(name, True)]
    if target.suffix == ".parquet":
        pq.write_table(_arrow(clicks, names), part)
        return
    with part.open("wb") as file:
        # No name and no time inside, so that the same clicks give the same bytes.
        packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) if target.suffix == ".gz" else file
        with cast("IO[bytes]", packed), io.TextIOWrapper(cast("IO[bytes]", packed), "utf-8", newline="") as text:
            if ".csv" in target.suffixes[-2:]:
                writer = csv.writer(text, lineterminator="\n")
                writer.writerow(names)
                writer.writerows([_cell(click, name) for name in names] for click in clicks)
            else:
                encode = msgspec.json.Encoder().encode
                for click in clicks:
                    row = {name: cell for name in names if (cell := _cell(click, name)) is not None}
                    text.write(encode(row).decode() + "\n")


def _arrow(clicks: Sequence[Click], names: Sequence[str]) -> pa.Table:
    types = {"timestamp": pa.timestamp("ms", "UTC"), "value": pa.float64()}
    cells = {
        name: pa.array(
            [click.ts_ms if name == "timestamp" else _cell(click, name) for click in clicks],
            types.get(name, pa.string()),
        )
        for name in names
    }
    return pa.table(cells)


def _cell(click: Click, name: str) -> str | int | float | None:
    if name == "timestamp":
        seconds, ms = divmod(click.ts_ms, 1000)
        return seconds if ms == 0 else click.ts_ms / 1000
    if name == "event_type":
        return click.kind
    return cast("str | float | None", getattr(click, name))
