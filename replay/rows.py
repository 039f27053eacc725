"""The rows of a log file, format by format, with the place where each stands."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from eddyline.state.errors import BadRecord, ConfigurationError

__all__ = ["Columns", "Instant", "Row", "is_parquet", "open_bytes", "places", "reader_of", "row_id", "stem_of"]

_BATCH_ROWS = 16_384


class Columns(BaseModel):
    """Which column of a log holds what. User, item and time must be there; the others are read if present."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str = Field("user_id", description="column of the user's id")
    item: str = Field("item_id", description="column of the item's id")
    time: str = Field("timestamp", description="column of the event's time")
    kind: str = Field("event_type", description="column of what happened (click, view, purchase, …)")
    value: str = Field("value", description="column of the event's value (rating, price, …); may be empty")
    session: str = Field("session_id", description="column of the session's id")
    event_id: str = Field("event_id", description="column of the event's id; else `<file>-<row>` stands for it")
    default_kind: str = Field("click", min_length=1, description="what happened, where no column says so")
    time_unit: Literal["auto", "s", "ms", "iso"] = Field(
        "auto",
        description="unit of the time column: seconds or milliseconds since 1970, ISO-8601 (UTC where no "
        "zone is given), or whichever of them the first rows hold",
    )
    layout: str | None = Field(
        None, description="a published layout (`replay/layouts.py`), whose columns stand for those not named here"
    )

    def names(self) -> tuple[str, ...]:
        """The column names, in the order user, item, time, kind, value, session, event id."""
        return (self.user, self.item, self.time, self.kind, self.value, self.session, self.event_id)


_FIELDS = ("user", "item", "time", "kind", "value", "session", "event_id")
_REQUIRED = 3  # the first three of `_FIELDS`


class Row(NamedTuple):
    """One row as its file holds it: where it stands, and its cells in the order of `_FIELDS`."""

    line: int
    cells: tuple[Any, ...] | BadRecord


def row_id(stem: str, number: int) -> str:
    """What stands for the event id where a log has none: of the file with this stem, and of its row, from 1."""
    return f"{stem}-{number}"


def stem_of(path: Path) -> str:
    """The file's name without its endings."""
    return Path(path.name.removesuffix(".gz")).stem


def reader_of(path: Path) -> Callable[[Path, Columns], Iterator[Row]]:
    """The function that reads this format."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix == ".csv":
        return _csv_rows
    if suffix in (".jsonl", ".ndjson"):
        return _json_rows
    if is_parquet(path):
        return _parquet_rows
    raise ConfigurationError(
        f"{path}: unknown kind of log; its name must end in .csv, .jsonl or .ndjson (each also with .gz) or in "
        ".parquet, or --layout must say how it was published"
    )


def _csv_rows(path: Path, columns: Columns) -> Iterator[Row]:
    # Bytes that are not UTF-8 become surrogates here, so that `_text` can name the row instead of the decoder
    # failing somewhere in the middle of a buffer.
    with (
        open_bytes(path) as file,
        io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        reader = csv.reader(text)
        header = next(reader, [])
        found = places(path, header, columns)
        width = len(header)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(reader.line_num, BadRecord(f"not a CSV row: {error}"))
                continue
            if len(row) == width:
                yield Row(reader.line_num, tuple([None if at is None else row[at] for at in found]))
            elif row:
                reason = f"{len(row)} cells where the header has {width}"
                yield Row(reader.line_num, BadRecord(reason))


def _json_rows(path: Path, columns: Columns) -> Iterator[Row]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    names = columns.names()
    checked = False
    with open_bytes(path) as file:
        for line, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            try:
                found = decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                yield Row(line, BadRecord(f"not a JSON object: {error}"))
                continue
            if not checked:
                places(path, list(found), columns)
                checked = True
            yield Row(line, tuple([found.get(name) for name in names]))


def _parquet_rows(path: Path, columns: Columns) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        found = places(path, schema.names, columns)
        wanted = [schema.names[at] for at in found if at is not None]
        line = 1
        for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
            cells = [[None] * len(batch) if at is None else _cells(batch.column(schema.names[at])) for at in found]
            for row in zip(*cells, strict=True):
                yield Row(line, row)
                line += 1


def _cells(column: pa.Array) -> list[Any]:
    """A column of Parquet as Python values; times become milliseconds, as ISO text where the unit is ISO."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        at = column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_pylist()
        return [None if ms is None else Instant(ms) for ms in at]
    return list(column.to_pylist())


class Instant(int):
    """Milliseconds whose unit is certain, because the file's own type says so."""


def is_parquet(path: Path) -> bool:
    """Whether the file's name says Parquet."""
    return path.suffix.lower() in (".parquet", ".pq")


def open_bytes(path: Path) -> IO[bytes]:
    """The file, unpacked on the way where its name ends in `.gz`."""
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def places(path: Path, present: list[str], columns: Columns) -> list[int | None]:
    """Where each of our columns stands among those present; None for an optional one that is not there.

    Raises:
        ConfigurationError: one is missing that is needed or was asked for.
    """
    found: list[int | None] = []
    for at, (field, name) in enumerate(zip(_FIELDS, columns.names(), strict=True)):
        asked_for = at < _REQUIRED or name != Columns.model_fields[field].default
        if asked_for and name not in present:
            flag = field.replace("_", "-").removesuffix("-id")
            raise ConfigurationError(
                f"{path}: there is no column `{name}`, the columns are {', '.join(present) or '(none)'}; "
                f"name the right one with --{flag}-column"
            )
        found.append(present.index(name) if name in present else None)
    return found
