"""A log as columns of numbers, small enough to be looked at as a whole."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from eddyline.replay.layouts import layout_named
from eddyline.replay.logs import read_numbered
from eddyline.replay.rows import Columns
from eddyline.state.records import hash_id

__all__ = ["ClickTable", "Ints", "read_table"]

Ints = npt.NDArray[np.int64]
_KEPT_BAD_ROWS = 5


@dataclass(frozen=True)
class ClickTable:
    """The clicks of a log, R rows in the order of the file (48 bytes each), and what could not be read.

    Attributes:
        line: where each stands (in Parquet the row), (R,).
        ts_ms: when each happened, (R,).
        user, item, kind: places in `users`, `items` and `kinds`, (R,).
        event: hash of each event's id, (R,).
        users, items, kinds: the distinct ids, in the order in which they first came.
        sorted_on_reading: whether whoever reads the log gets it in the order of time, whatever the file's order.
        newest_first: whether of two clicks at the same time the file has the later one first.
        bad_rows: how many rows could not be read.
        bad: line and reason of the first of them.
    """

    line: Ints
    ts_ms: Ints
    user: Ints
    item: Ints
    kind: Ints
    event: npt.NDArray[np.uint64]
    users: list[str]
    items: list[str]
    kinds: list[str]
    sorted_on_reading: bool
    newest_first: bool
    bad_rows: int
    bad: list[tuple[int, str]]

    def __len__(self) -> int:
        return len(self.line)

    @cached_property
    def by_time(self) -> Ints:
        """The rows in the order of time; those of the same time in the order in which they happened, (R,)."""
        if self.newest_first:
            return len(self) - 1 - np.argsort(self.ts_ms[::-1], kind="stable")
        return np.argsort(self.ts_ms, kind="stable")

    @cached_property
    def by_user(self) -> Ints:
        """The rows user by user, each user's in the order of time, (R,)."""
        return self.by_time[np.argsort(self.user[self.by_time], kind="stable")]

    @cached_property
    def clicks_of_users(self) -> Ints:
        """How many clicks each user has, (U,)."""
        return np.bincount(self.user, minlength=len(self.users))

    @cached_property
    def clicks_on_items(self) -> Ints:
        """How many clicks each item has, (I,)."""
        return np.bincount(self.item, minlength=len(self.items))

    @cached_property
    def late(self) -> npt.NDArray[np.bool_]:
        """Which clicks come after a later one in the file, (R,)."""
        return self.ts_ms < np.maximum.accumulate(self.ts_ms)


def read_table(path: Path, columns: Columns, on_progress: Callable[[int], None] | None = None) -> ClickTable:
    """Read a whole log; bad rows are counted and left out.

    Args:
        path: the file.
        columns: which column holds what.
        on_progress: takes how many clicks are read so far.

    Raises:
        ConfigurationError: there is no such file, its format or layout is unknown, or a column is missing.
        LogError: the file is damaged.
    """
    bad_rows = 0
    bad: list[tuple[int, str]] = []

    def take_bad(line: int, reason: str) -> None:
        nonlocal bad_rows
        bad_rows += 1
        if len(bad) < _KEPT_BAD_ROWS:
            bad.append((line, reason))

    lines, times, events = array("q"), array("q"), array("Q")
    codes = array("q"), array("q"), array("q")
    names: tuple[dict[str, int], dict[str, int], dict[str, int]] = {}, {}, {}
    for line, click in read_numbered(path, columns, on_bad=take_bad):
        lines.append(line)
        times.append(click.ts_ms)
        events.append(hash_id(click.event_id))
        for code, known, name in zip(codes, names, (click.user_id, click.item_id, click.kind), strict=True):
            code.append(known.setdefault(name, len(known)))
        if on_progress is not None and len(lines) % 10_000 == 0:
            on_progress(len(lines))
    if on_progress is not None:
        on_progress(len(lines))
    layout = None if columns.layout is None else layout_named(columns.layout)
    return ClickTable(
        line=np.array(lines, np.int64),
        ts_ms=np.array(times, np.int64),
        user=np.array(codes[0], np.int64),
        item=np.array(codes[1], np.int64),
        kind=np.array(codes[2], np.int64),
        event=np.array(events, np.uint64),
        users=list(names[0]),
        items=list(names[1]),
        kinds=list(names[2]),
        sorted_on_reading=layout is not None,
        newest_first=layout is not None and layout.newest_first,
        bad_rows=bad_rows,
        bad=bad,
    )
