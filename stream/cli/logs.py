"""The flags that say how a log file is to be read; shared by the commands that take one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from eddyline.stream.cli.output import talk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eddyline.state.records import Click

__all__ = ["DEFAULT_COLUMNS", "LogColumns", "Skipped", "clicks_of"]

_GROUP = Group("Columns of the log", sort_key=5)
_SHOWN_BAD_ROWS = 5


def _column(field: str, of_what: str) -> Parameter:
    return Parameter(name=f"--{field}-column", help=f"Column of {of_what}.")


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True, kw_only=True)
class LogColumns:
    """Which column of the log holds what; the fields and defaults of `replay.rows.Columns`."""

    user: Annotated[str, _column("user", "the user's id")] = "user_id"
    item: Annotated[str, _column("item", "the item's id")] = "item_id"
    time: Annotated[str, _column("time", "the event's time")] = "timestamp"
    kind: Annotated[str, _column("kind", "what happened (click, view, …); may be absent")] = "event_type"
    value: Annotated[str, _column("value", "the event's value; may be absent")] = "value"
    session: Annotated[str, _column("session", "the session's id; may be absent")] = "session_id"
    event_id: Annotated[str, _column("event", "the event's id; may be absent")] = "event_id"
    default_kind: Annotated[
        str, Parameter(name="--default-kind", help="What happened, where no column says so.")
    ] = "click"
    time_unit: Annotated[
        Literal["auto", "s", "ms", "iso"], Parameter(name="--time-unit", help="Unit of the time column.")
    ] = "auto"


DEFAULT_COLUMNS = LogColumns()


class Skipped:
    """Counts the bad rows of a log; tells the first few at once and the number at the end."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.rows = 0

    def __call__(self, line: int, reason: str) -> None:
        """Take note of one bad row."""
        self.rows += 1
        if self.rows <= _SHOWN_BAD_ROWS:
            talk(f"skipped {self.log}:{line}: {reason}")

    def tell(self) -> None:
        """Say how many rows were skipped, if any."""
        if self.rows:
            talk(f"skipped {self.rows} bad rows of {self.log}")


def clicks_of(
    log: Path, columns: LogColumns, *, limit: int | None = None, skipped: Skipped | None = None
) -> Iterator[Click]:
    """The clicks of a log file.

    Args:
        log: the file.
        columns: which column holds what.
        limit: stop after so many clicks.
        skipped: takes the bad rows; without it the first one is an error.

    Raises:
        ConfigurationError: there is no such file, or it is not a log.
        LogError: a row is bad.
    """
    from eddyline.replay.logs import Columns, read_log  # noqa: PLC0415

    return read_log(log, Columns(**asdict(columns)), limit=limit, on_bad=skipped)
