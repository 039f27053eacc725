"""What the demo shows while it runs, and its summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from eddyline.stream.watch import Watch

__all__ = ["DemoView"]

_SHOWN_ITEMS = 8
_LINE_EVERY_S = 10.0


class DemoView:
    """A live view on a terminal, a line now and then elsewhere; on stderr.

    Args:
        total: clicks that will be published.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._next_line = 0.0

    def say(self, text: str) -> None:
        """A line of talk."""
        self._console.print(text, markup=False)

    @contextmanager
    def showing(self) -> Iterator[None]:
        """While inside, `show` draws."""
        if not sys.stderr.isatty():
            yield
            return
        with Live(console=self._console, refresh_per_second=4, transient=False) as self._live:
            yield
        self._live = None

    def show(self, watch: Watch) -> None:
        """Draw the present state."""
        if self._live is not None:
            self._live.update(self._panel(watch))
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_EVERY_S
            ours, popular = watch.recent_recall()
            version = watch.versions[-1].version if watch.versions else 0
            self.say(
                f"{watch.applied:,}/{self._total:,} clicks applied, {watch.clicks_per_s():,.0f}/s, "
                f"click to list p50 {watch.latency_ms(0.5):.0f} ms p99 {watch.latency_ms(0.99):.0f} ms, "
                f"model v{version}, recall@20 {ours:.3f} (decayed popularity {popular:.3f})"
            )

    def _panel(self, watch: Watch) -> Panel:
        figures = Table.grid(padding=(0, 3))
        newest, all_clicks = watch.recent_recall(), watch.recall()
        figures.add_row("clicks", f"{watch.applied:,} of {self._total:,} applied", f"{watch.clicks_per_s():,.0f}/s")
        figures.add_row("lag", f"{max(0, watch.published - watch.applied):,} clicks", "")
        figures.add_row("click to list", f"p50 {watch.latency_ms(0.5):.0f} ms", f"p99 {watch.latency_ms(0.99):.0f} ms")
        if watch.versions:
            model = watch.versions[-1]
            age = time.time() - model.trained_until_ms / 1000
            figures.add_row("model", f"version {model.version} ({model.cause})", f"{age:.0f} s old")
        else:
            figures.add_row("model", "none yet: popularity and item counts", "")
        figures.add_row("recall@20, newest", f"{newest[0]:.3f} eddyline", f"{newest[1]:.3f} decayed popularity")
        figures.add_row("recall@20, all", f"{all_clicks[0]:.3f} eddyline", f"{all_clicks[1]:.3f} decayed popularity")
        return Panel(Group(figures, "", self._user(watch)), title="eddyline demo", title_align="left")

    def _user(self, watch: Watch) -> Table:
        table = Table(box=None, header_style="bold", title=f"user {watch.user}", title_justify="left")
        for column in ("last clicks", "list now", "score", "because of", "parts"):
            table.add_column(column)
        clicks = [click.item_id for click in reversed(watch.clicks)]
        ranked = watch.list.items[:_SHOWN_ITEMS] if watch.list else []
        for place in range(max(len(clicks), len(ranked))):
            click = clicks[place] if place < len(clicks) else ""
            if place >= len(ranked):
                table.add_row(click)
                continue
            item = ranked[place]
            parts = (
                sorted(msgspec.structs.asdict(item.why.parts).items(), key=lambda part: -part[1])[:2]
                if item.why
                else []
            )
            because = ", ".join(item.why.because_of) if item.why else ""
            table.add_row(
                click,
                item.item_id,
                f"{item.score:.2f}",
                because,
                ", ".join(f"{name} {part:.2f}" for name, part in parts),
            )
        return table
