"""The published layouts of well-known click logs, so that their files can be read as they were downloaded.

A layout is one format, or several between which the file's first lines decide: the one whose number of cells (and
header, where it has one) they have. None of these files is in the order of time, so whoever reads one sorts it.

| layout | files |
| --- | --- |
| `lastfm-1k` | `userid-timestamp-artid-artname-traid-traname.tsv` |
| `mind` | `behaviors.tsv` (that of the test set has no clicks) |
| `movielens` | `u.data`, `ratings.dat`, `ratings.csv` |
| `retailrocket` | `events.csv` |
| `taobao` | `UserBehavior.csv` |
| `yoochoose` | `yoochoose-clicks.dat`, `yoochoose-test.dat`, `yoochoose-buys.dat` |
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from eddyline.replay.rows import Columns, Instant, Row, open_bytes, places
from eddyline.state.errors import BadRecord, ConfigurationError

__all__ = ["LAYOUTS", "Format", "Layout", "layout_named", "layout_rows"]

_PEEK_LINES = 100


@dataclass(frozen=True)
class Format:
    """Lines of cells, without quotes.

    Attributes:
        separator: what stands between two cells.
        names: what the cells are called, in the order of the file.
        columns: which of them holds what.
        header: whether the file begins with the names.
        unfold: gives the rows that the cells of one line stand for, or raises BadRecord.
    """

    separator: str
    names: tuple[str, ...]
    columns: Columns
    header: bool = False
    unfold: Callable[[list[str]], Iterable[list[Any]]] | None = None

    def fits(self, line: str) -> bool:
        """Whether a file that has this line among its first ones may be of this format."""
        cells = line.rstrip("\r\n").split(self.separator)
        return tuple(cells) == self.names if self.header else len(cells) == len(self.names)


@dataclass(frozen=True)
class Layout:
    """The formats of one name. `newest_first`: of two clicks at the same time, the file has the later one first."""

    formats: tuple[Format, ...]
    newest_first: bool = False


def layout_named(name: str) -> Layout:
    """The layout of this name.

    Raises:
        ConfigurationError: there is none; the message suggests the nearest.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    near = difflib.get_close_matches(name.lower(), LAYOUTS, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`? " if near else ""
    raise ConfigurationError(f"--layout {name}: there is no such layout; {hint}There are {', '.join(LAYOUTS)}")


def layout_rows(path: Path, columns: Columns) -> tuple[Iterator[Row], Columns]:
    """The rows of a file of the layout `columns.layout`, in the order of the file, and what their columns are.

    Columns that `columns` names (those that are not the default) stand before those of the layout.

    Raises:
        ConfigurationError: there is no such layout or column, or the file is of another one.
        OSError: the file cannot be read.
    """
    name = columns.layout or ""
    form = _format_of(path, name, layout_named(name))
    given = {field: value for field, value in columns if value != Columns.model_fields[field].default}
    columns = form.columns.model_copy(update=given)
    return _rows(path, form, places(path, list(form.names), columns)), columns


def _format_of(path: Path, name: str, layout: Layout) -> Format:
    with _open_text(path) as file:
        for line in islice(file, _PEEK_LINES):
            for form in layout.formats:
                if form.fits(line):
                    return form
    wanted = " or ".join(repr(form.separator.join(form.names)) for form in layout.formats)
    raise ConfigurationError(f"{path} is not of the layout `{name}`, whose lines are {wanted}")


def _rows(path: Path, form: Format, at: list[int | None]) -> Iterator[Row]:
    width, names = len(form.names), list(form.names)
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            cells = line.rstrip("\r\n").split(form.separator)
            if len(cells) != width:
                if cells != [""]:
                    yield Row(number, BadRecord(f"{len(cells)} cells where the layout has {width}"))
                continue
            if form.header and cells == names:
                continue
            try:
                for row in form.unfold(cells) if form.unfold else (cells,):
                    yield Row(number, tuple([None if place is None else row[place] for place in at]))
            except BadRecord as error:
                yield Row(number, error)


def _open_text(path: Path) -> io.TextIOWrapper:
    """The lines of the file; only a line feed ends one. What is not UTF-8 is told when it is used."""
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", errors="surrogateescape", newline="\n")


def _name_tracks(cells: list[str]) -> Iterator[list[str]]:
    """Last.fm: a track without an id goes by its artist and its name."""
    user, time, artist_id, artist, track_id, track = cells
    yield [user, time, artist_id, artist, track_id or (track and f"{artist} - {track}"), track]


def _clicked(cells: list[str]) -> Iterator[list[Any]]:
    """MIND: a line is an impression; each item that was clicked on it (`N123-1`, not `N123-0`) is a click."""
    impression, user, time, history, impressions = cells
    try:
        at = datetime.strptime(time, "%m/%d/%Y %I:%M:%S %p").replace(tzinfo=UTC)
    except ValueError:
        raise BadRecord(f"`time` is {time!r}: want month/day/year hour:minute:second AM or PM", "time") from None
    ms = Instant(round(at.timestamp() * 1000))
    shown = [one.rpartition("-") for one in impressions.split()]
    for item, _, clicked in shown:
        if not item or clicked not in ("0", "1"):
            raise BadRecord(
                f"`impressions` has {item or clicked!r} without -1 (clicked) or -0 (not): the test set tells no clicks",
                "impressions",
            )
    for item, _, clicked in shown:
        if clicked == "1":
            yield [impression, user, ms, history, item]


_RATINGS = Columns(
    user="userId", item="movieId", time="timestamp", value="rating", default_kind="rating", time_unit="s"
)
_RATING = ("userId", "movieId", "rating", "timestamp")
_SHOP = Columns(user="session_id", item="item_id", time="timestamp", session="session_id", time_unit="iso")

LAYOUTS: dict[str, Layout] = {
    "lastfm-1k": Layout(
        (
            Format(
                "\t",
                ("userid", "timestamp", "artid", "artname", "traid", "traname"),
                Columns(user="userid", item="traid", time="timestamp", default_kind="listen", time_unit="iso"),
                unfold=_name_tracks,
            ),
        ),
        newest_first=True,
    ),
    "mind": Layout(
        (
            Format(
                "\t",
                ("impression_id", "user_id", "time", "history", "impressions"),
                Columns(user="user_id", item="impressions", time="time", time_unit="iso"),
                unfold=_clicked,
            ),
        )
    ),
    "movielens": Layout(
        (
            Format("\t", _RATING, _RATINGS),
            Format("::", _RATING, _RATINGS),
            Format(",", _RATING, _RATINGS, header=True),
        )
    ),
    "retailrocket": Layout(
        (
            Format(
                ",",
                ("timestamp", "visitorid", "event", "itemid", "transactionid"),
                Columns(user="visitorid", item="itemid", time="timestamp", kind="event", time_unit="ms"),
                header=True,
            ),
        )
    ),
    "taobao": Layout(
        (
            Format(
                ",",
                ("user_id", "item_id", "category_id", "behavior_type", "timestamp"),
                Columns(user="user_id", item="item_id", time="timestamp", kind="behavior_type", time_unit="s"),
            ),
        )
    ),
    "yoochoose": Layout(
        (
            Format(",", ("session_id", "timestamp", "item_id", "category"), _SHOP),
            Format(
                ",",
                ("session_id", "timestamp", "item_id", "price", "quantity"),
                _SHOP.model_copy(update={"value": "price", "default_kind": "purchase"}),
            ),
        )
    ),
}
