"""Where the clicks of a command come from: a log, with the flags that say how to read it, or made up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from eddyline.replay.findings import counted
from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli.output import talk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from eddyline.replay.synthetic import SyntheticSettings
    from eddyline.state.records import Click

__all__ = ["DEFAULT_COLUMNS", "LogColumns", "Skipped", "logged_clicks", "made_up", "made_up_clicks"]

_GROUP = Group("Columns of the log", sort_key=5)
_SHOWN_BAD_ROWS = 5


def _column(field: str, of_what: str) -> Parameter:
    return Parameter(name=f"--{field}-column", help=f"Column of {of_what}.")


@Parameter(name="*", group=_GROUP)
@dataclass(frozen=True, kw_only=True)
class LogColumns:
    """Which column of the log holds what; the fields and defaults of `replay.rows.Columns`."""

    layout: Annotated[
        str | None,
        Parameter(
            name="--layout",
            help="The log is a published file as it was downloaded: lastfm-1k, mind, movielens, retailrocket, "
            "taobao or yoochoose. It is sorted by time, in memory; column flags choose other columns of it.",
        ),
    ] = None
    user: Annotated[str, _column("user", "the user's id")] = "user_id"
    item: Annotated[str, _column("item", "the item's id")] = "item_id"
    time: Annotated[str, _column("time", "the event's time")] = "timestamp"
    kind: Annotated[str, _column("kind", "what happened (click, view, …); may be absent")] = "event_type"
    value: Annotated[str, _column("value", "the event's value; may be absent")] = "value"
    session: Annotated[str, _column("session", "the session's id; may be absent")] = "session_id"
    event_id: Annotated[str, _column("event", "the event's id; may be absent")] = "event_id"
    default_kind: Annotated[str, Parameter(name="--default-kind", help="What happened, where no column says so.")] = (
        "click"
    )
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
            talk(f"skipped {counted(self.rows, 'bad row')} of {self.log}")


def logged_clicks(
    log: Path, columns: LogColumns, limit: int | None, skipped: Callable[[int, str], None] | None
) -> tuple[Iterable[Click], int | None]:
    """The clicks of a log file, and about how many they are, None where nobody can say.

    The first click is read at once, so that a wrong path or column is told before anything is started.

    Args:
        log: the file.
        columns: which column holds what.
        limit: stop after so many clicks.
        skipped: takes the bad rows; without it the first one is an error.

    Raises:
        ConfigurationError: there is no such file or layout, or it is not a log.
        LogError: a row is bad.
    """
    from eddyline.replay.layouts import layout_named  # noqa: PLC0415
    from eddyline.replay.logs import Columns, estimate_rows, read_log  # noqa: PLC0415

    if columns.layout is not None:
        layout_named(columns.layout)
        _say_sorted(log, columns.layout)
    rows = estimate_rows(log)
    total = min(rows, limit) if rows is not None and limit is not None else rows or limit
    clicks = read_log(log, Columns(**asdict(columns)), limit=limit, on_bad=skipped)
    return chain(list(islice(clicks, 1)), clicks), total


@cache
def _say_sorted(log: Path, layout: str) -> None:
    """Once, however often the log is read."""
    talk(f"{log}: files of the layout {layout} are not in the order of time; reading all of it to sort it")


def made_up_clicks(clicks: int | None, seed: int | None, limit: int | None) -> tuple[Iterable[Click], int]:
    """The clicks of a made-up stream, and how many they are; None takes the stream's own default.

    Raises:
        ConfigurationError: there is no such stream.
    """
    from eddyline.replay.synthetic import synthetic_clicks  # noqa: PLC0415

    stream = made_up(clicks, seed)
    total = stream.clicks if limit is None else min(stream.clicks, limit)
    return islice(synthetic_clicks(stream), total), total


def made_up(clicks: int | None, seed: int | None, assignments: Iterable[str] = ()) -> SyntheticSettings:
    """What a made-up stream is like.

    Args:
        clicks, seed: of the stream; None takes its own default.
        assignments: more of its settings, as NAME=VALUE.

    Raises:
        ConfigurationError: there is no such stream.
    """
    from pydantic import ValidationError  # noqa: PLC0415

    from eddyline.replay.synthetic import SyntheticSettings  # noqa: PLC0415

    given: dict[str, object] = {"clicks": clicks, "seed": seed}
    for assignment in assignments:
        key, _, value = assignment.partition("=")
        given[key.strip()] = value.strip()
    try:
        return SyntheticSettings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        detail = error.errors()[0]
        name = detail["loc"][0]
        flag = f"--{name} " if name in ("clicks", "seed") else f"--stream {name}="
        there = ", ".join(SyntheticSettings.model_fields)
        what = "there is no such setting" if detail["type"] == "extra_forbidden" else detail["msg"]
        raise ConfigurationError(f"{flag}{detail['input']}: {what}; a stream has {there}") from error
