"""`eddyline subscribe`: watch the recommendations as they are published."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Column, Table

from eddyline.state.errors import ConfigurationError
from eddyline.stream.cli.options import DEFAULTS, AsJson, Options
from eddyline.stream.cli.output import Stdout, talk

if TYPE_CHECKING:
    from eddyline.state.records import Recommendation

__all__ = ["register"]

_SHOWN_ITEMS = 5


def register(app: App) -> None:
    """Add `eddyline subscribe`."""
    app.command(subscribe)


def subscribe(
    *,
    user: Annotated[str | None, Parameter(help="Only the lists of this user.")] = None,
    offset: Annotated[
        str, Parameter(help="Where to begin: earliest, latest, or ts= with milliseconds or ISO-8601.")
    ] = "latest",
    count: Annotated[int | None, Parameter(help="End after so many lists.")] = None,
    exit_at_end: Annotated[bool, Parameter(help="End where the topic ends now, instead of waiting for more.")] = False,
    group: Annotated[
        str | None, Parameter(help="Consumer group: members share the lists, and go on where they stopped.")
    ] = None,
    as_json: AsJson = False,
    options: Options = DEFAULTS,
) -> None:
    """Show recommendations as they are published; with --json one Recommendation a line."""
    if count is not None and count <= 0:
        raise ConfigurationError(f"subscribe: --count {count}: want more than 0")

    from eddyline.stream.subscribe import Subscription, parse_offset  # noqa: PLC0415

    parse_offset(offset)
    settings = options.connected()

    from eddyline.state.records import encode  # noqa: PLC0415
    from eddyline.stream.topics import Topics  # noqa: PLC0415

    subscription = Subscription(
        settings.kafka,
        Topics.of(settings.topics),
        user=user,
        offset=offset,
        group=group,
        exit_at_end=exit_at_end,
        count=count,
        on_erased=lambda who: talk(f"user {who} was erased"),
    )
    table = _Rows()
    with subscription:
        for recommendation in subscription:
            if as_json:
                sys.stdout.write(encode(recommendation).decode() + "\n")
            else:
                table.show(recommendation)
            sys.stdout.flush()
    if subscription.skipped:
        talk(f"skipped {subscription.skipped} records that are not recommendations")


class _Rows:
    """A table that grows by a line for each list."""

    def __init__(self) -> None:
        self._console = Stdout()
        self._header = True

    def show(self, recommendation: Recommendation) -> None:
        table = Table(
            Column("time", width=8),
            Column("user", width=20, no_wrap=True),
            Column("after", width=8, justify="right"),
            Column("model", width=6, justify="right"),
            Column("cause", width=8),
            Column("items", no_wrap=True, overflow="ellipsis"),
            box=None,
            show_header=self._header,
            header_style="bold",
            pad_edge=False,
        )
        self._header = False
        event_ms, produced_ms = recommendation.event_ts_ms, recommendation.produced_ts_ms
        items = [item.item_id for item in recommendation.items[:_SHOWN_ITEMS]]
        more = len(recommendation.items) - len(items)
        table.add_row(
            datetime.fromtimestamp(produced_ms / 1000, UTC).strftime("%H:%M:%S"),
            escape(recommendation.user_id) or "[i]newcomers[/i]",
            _duration(produced_ms - event_ms) if event_ms else "",
            str(recommendation.model_version),
            recommendation.cause,
            escape(", ".join(items) + (f", and {more} more" if more else "")),
        )
        self._console.print(table)


def _duration(ms: int) -> str:
    """Milliseconds as people read them: a replayed log's clicks are years older than their lists."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if abs(ms) >= 10 * size:
            return f"{ms // size} {unit}"
    return f"{ms} ms"
